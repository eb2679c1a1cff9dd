//! The program as a child process.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{ChildStdout, Command, Stdio};

use tempfile::TempDir;

use super::{ChildProcess, Client};

/// The binary with its own state directory; it is killed when this is dropped.
pub(crate) struct TwsProcess {
    pub(crate) address: SocketAddr,
    /// The address of the admin interface, if it is enabled.
    pub(crate) admin: Option<SocketAddr>,
    pub(crate) announcement: String,
    pub(crate) child: ChildProcess,
    pub(crate) stdout: BufReader<ChildStdout>,
    pub(crate) state: TempDir,
}

impl TwsProcess {
    /// Starts `tws` with these arguments, in `folder`, on a free port.
    pub(crate) fn start(folder: &Path, args: &[&str]) -> Self {
        let state = tempfile::tempdir().expect("create temporary directory");
        Self::start_with_state(folder, args, state)
    }

    pub(crate) fn start_with_state(folder: &Path, args: &[&str], state: TempDir) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tws"));
        command
            .current_dir(folder)
            .arg("--port=0")
            .arg("--state-dir")
            .arg(state.path())
            .args(args);
        let mut process = Self::run(&mut command);
        process.state = state;
        process
    }

    /// Starts a command that runs `tws`.
    pub(crate) fn run(command: &mut Command) -> Self {
        let mut child = ChildProcess::start(command.env_remove("RUST_LOG").stdout(Stdio::piped()));
        let mut stdout = BufReader::new(child.stdout.take().expect("stdio pipe"));
        let announced = Announcement::read(&mut stdout);
        Self {
            address: announced.address,
            admin: announced.admin,
            announcement: announced.text,
            child,
            stdout,
            state: tempfile::tempdir().expect("create temporary directory"),
        }
    }

    pub(crate) fn client(&self) -> Client {
        Client::connect(self.address)
    }

    /// Returns the process's anonymous memory in bytes, which excludes mapped files.
    pub(crate) fn private_memory(&self) -> u64 {
        self.memory("RssAnon:")
    }

    /// Returns the most memory that the process has had, in bytes, mapped files included.
    pub(crate) fn peak_memory(&self) -> u64 {
        self.memory("VmHWM:")
    }

    fn memory(&self, name: &str) -> u64 {
        let path = format!("/proc/{}/status", self.child.id());
        let status = fs::read_to_string(path).expect("read process status");
        let memory = status.lines().find_map(|line| line.strip_prefix(name));
        let kibibytes = memory.and_then(|line| line.trim().strip_suffix(" kB"));
        let kibibytes: u64 = kibibytes.and_then(|n| n.parse().ok()).expect("kB");
        kibibytes * 1024
    }

    /// Returns the next line on standard output.
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).expect("read line");
        line.trim_end().to_owned()
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        self.child.signal(signal);
    }

    /// Kills the process immediately, as a power failure would, and returns its state directory.
    #[cfg(feature = "sqlite")]
    pub(crate) fn kill(mut self) -> TempDir {
        self.child.kill().expect("kill process");
        self.child.wait_for_exit();
        let empty = tempfile::tempdir().expect("create temporary directory");
        std::mem::replace(&mut self.state, empty)
    }
}

/// What a process prints when it has started.
pub(crate) struct Announcement {
    pub(crate) text: String,
    pub(crate) address: SocketAddr,
    /// The address of the admin interface.
    pub(crate) admin: Option<SocketAddr>,
}

impl Announcement {
    /// Reads the announcement to its last line.
    pub(crate) fn read(stdout: &mut impl BufRead) -> Self {
        let mut text = String::new();
        while !text.contains("Ctrl-C") {
            let count = stdout.read_line(&mut text).expect("read line");
            assert!(count > 0, "tws ended: {text:?}");
        }
        let address = |text: &str| {
            let (_, after) = text.split_once("://").expect("URL in the announcement");
            let (address, _) = after.split_once('/').expect("path of the URL");
            address.parse().expect("valid address")
        };
        let admin = text.split_once("admin: ");
        Self {
            address: address(&text),
            admin: admin.map(|(_, text)| address(text)),
            text,
        }
    }
}

/// Reads an announcement and returns its first address.
pub(crate) fn announced_address(stdout: &mut impl BufRead) -> SocketAddr {
    Announcement::read(stdout).address
}
