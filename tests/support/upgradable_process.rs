//! The binary across upgrades: the current process changes, its standard error stays.

use std::io::BufReader;
use std::net::SocketAddr;
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use super::ChildProcess;
use super::line_reader::LineReader;
use super::tws_process::Announcement;

/// The binary with its standard error, which the processes that replace it inherit.
pub(crate) struct UpgradableProcess {
    pub(crate) address: SocketAddr,
    pub(crate) admin: Option<SocketAddr>,
    pub(crate) pid: Pid,
    pub(crate) child: ChildProcess,
    stderr: LineReader,
}

impl UpgradableProcess {
    pub(crate) fn start(mut command: Command) -> Self {
        command
            .env_remove("RUST_LOG")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = ChildProcess::start(&mut command);
        let mut stdout = BufReader::new(child.stdout.take().expect("stdio pipe"));
        let Announcement { address, admin, .. } = Announcement::read(&mut stdout);
        // The processes that replace it announce themselves on the same pipe.
        std::thread::spawn(move || std::io::copy(&mut stdout, &mut std::io::sink()));
        let stderr = LineReader::new(child.stderr.take().expect("stdio pipe"));
        Self {
            address,
            admin,
            pid: child.pid(),
            child,
            stderr,
        }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid, signal).expect("signal process");
    }

    /// Returns the next line on standard error that contains `words`.
    pub(crate) fn line_with(&mut self, words: &str) -> String {
        let mut lines = self.stderr.read_until(words);
        lines.pop().expect("the line with the words")
    }

    /// Replaces the process by a new one, with SIGUSR2.
    pub(crate) fn upgrade(&mut self) {
        self.signal(Signal::USR2);
        self.adopt();
    }

    /// Waits for the new process. Returns the lines on standard error until it serves.
    pub(crate) fn adopt(&mut self) -> Vec<String> {
        let lines = self.stderr.read_until(" serves now; this process");
        let line = lines.last().expect("the line with the words");
        let (_, after) = line.split_once("process ").expect("process id in the line");
        let pid: i32 = after
            .split(' ')
            .next()
            .and_then(|word| word.parse().ok())
            .expect("process id");
        self.pid = Pid::from_raw(pid).expect("nonzero pid");
        lines
    }
}

impl Drop for UpgradableProcess {
    fn drop(&mut self) {
        let _ = kill_process(self.pid, Signal::KILL);
    }
}
