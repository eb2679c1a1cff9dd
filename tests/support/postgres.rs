//! An installed PostgreSQL with its own data folder, on a free port. It ends with its test, however
//! that ends.

use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::ports::free_port;

/// The password must be percent-encoded in a URL.
const PASSWORD: &str = "s3cret@/?";
const PASSWORD_IN_URL: &str = "s3cret%40%2F%3F";

const TIMEOUT: Duration = Duration::from_secs(300);

static NEXT: AtomicU16 = AtomicU16::new(0);

pub(crate) struct Postgres {
    folder: TempDir,
    port: u16,
    running: Option<PostgresProcess>,
}

/// The server process. Its thread lives as long as the process: the parent-death signal is that of
/// the thread.
struct PostgresProcess {
    pid: Pid,
    thread: JoinHandle<()>,
}

impl Postgres {
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().expect("create temporary directory");
        if let Some((user, group)) = owner() {
            std::os::unix::fs::chown(folder.path(), Some(user), Some(group)).expect("change owner");
        }
        let mut password = tempfile::NamedTempFile::new().expect("create temporary file");
        password.write_all(PASSWORD.as_bytes()).expect("write file");
        if let Some((user, group)) = owner() {
            std::os::unix::fs::chown(password.path(), Some(user), Some(group))
                .expect("change owner");
        }
        let output = command_as_owner(&bin().join("initdb"))
            .arg("--pgdata")
            .arg(folder.path().join("data"))
            .arg("--pwfile")
            .arg(password.path())
            .args(["--username=tws", "--auth=scram-sha-256", "--encoding=UTF8"])
            .args(["--locale=C", "--no-sync"])
            .current_dir(folder.path())
            .output()
            .expect("run initdb");
        assert!(output.status.success(), "{output:?}");
        let mut started = Self {
            folder,
            port: free_port(),
            running: None,
        };
        started.run();
        started
    }

    /// Starts the server again after [`stop`](Self::stop).
    pub(crate) fn run(&mut self) {
        let (sender, receiver) = mpsc::channel();
        let mut command = command_as_owner(&bin().join("postgres"));
        command
            .arg("-D")
            .arg(self.folder.path().join("data"))
            .args(["-h", "127.0.0.1", "-p", &self.port.to_string()])
            .arg("-k")
            .arg(self.folder.path())
            .current_dir(self.folder.path())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let thread = thread::spawn(move || {
            let mut child = command.spawn().expect("start postgres");
            let mut stderr = BufReader::new(child.stderr.take().expect("stdio pipe"));
            let log = read_until(&mut stderr, "ready to accept connections");
            let pid = i32::try_from(child.id()).expect("pid fits in i32");
            sender
                .send(log.map(|()| Pid::from_raw(pid).expect("nonzero pid")))
                .expect("test receives");
            // Drain the pipe, so that the server never blocks on it.
            io::copy(&mut stderr, &mut io::sink()).expect("drain pipe");
            child.wait().expect("wait for exit");
        });
        let started = receiver
            .recv_timeout(TIMEOUT)
            .expect("postgres starts in time");
        let pid = started.unwrap_or_else(|log| panic!("postgres: {log}"));
        self.running = Some(PostgresProcess { pid, thread });
    }

    /// Stops the server immediately, as a power failure would: what it has not yet flushed is lost.
    pub(crate) fn stop(&mut self) {
        if let Some(running) = self.running.take() {
            // The immediate shutdown of `pg_ctl stop -m immediate`.
            let _ = kill_process(running.pid, Signal::QUIT);
            running.thread.join().expect("thread does not panic");
        }
    }

    /// Stops all its processes: connections are accepted and never answered.
    pub(crate) fn freeze(&self) {
        self.signal_all(Signal::STOP);
    }

    pub(crate) fn thaw(&self) {
        self.signal_all(Signal::CONT);
    }

    fn signal_all(&self, signal: Signal) {
        let Some(running) = &self.running else {
            return;
        };
        kill_process(running.pid, signal).expect("signal process");
        let pid = running.pid.as_raw_nonzero();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
        for child in children.expect("read children").split_whitespace() {
            let child = child.parse().ok().and_then(Pid::from_raw);
            // A child that has exited meanwhile is ignored.
            let _ = kill_process(child.expect("child process id"), signal);
        }
    }

    /// Creates an empty database and returns its name.
    pub(crate) fn new_database(&self) -> String {
        let name = format!("test_{}", NEXT.fetch_add(1, Ordering::Relaxed));
        self.query("postgres", &format!("CREATE DATABASE {name}"));
        name
    }

    pub(crate) fn url(&self, database: &str) -> String {
        let port = self.port;
        format!("postgres://tws:{PASSWORD_IN_URL}@127.0.0.1:{port}/{database}")
    }

    /// Runs a statement with psql and returns its output: one line per row, with columns separated
    /// by bars.
    pub(crate) fn query(&self, database: &str, statement: &str) -> String {
        let output = Command::new(bin().join("psql"))
            .args(["-h", "127.0.0.1", "-p", &self.port.to_string(), "-U", "tws"])
            .args([
                "-qAtX",
                "-v",
                "ON_ERROR_STOP=1",
                "-d",
                database,
                "-c",
                statement,
            ])
            .env("PGPASSWORD", PASSWORD)
            .output()
            .expect("run psql");
        assert!(output.status.success(), "{statement}: {output:?}");
        String::from_utf8(output.stdout).expect("decode UTF-8")
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.thaw();
        self.stop();
    }
}

/// Reads until a line with `words`; if the output ends before, all of it is the error.
fn read_until(output: &mut impl BufRead, words: &str) -> Result<(), String> {
    let mut log = String::new();
    while !log.contains(words) {
        if output.read_line(&mut log).expect("read line") == 0 {
            return Err(log);
        }
    }
    Ok(())
}

/// Returns the folder of the newest installed version.
fn bin() -> PathBuf {
    let versions =
        fs::read_dir("/usr/lib/postgresql").expect("read /usr/lib/postgresql (needs PostgreSQL)");
    let versions = versions.filter_map(|version| version.ok()?.file_name().into_string().ok());
    let newest = versions
        .filter_map(|version| version.parse::<u32>().ok())
        .max();
    let newest = newest.expect("an installed PostgreSQL version");
    Path::new("/usr/lib/postgresql").join(format!("{newest}/bin"))
}

/// Returns the user and group of PostgreSQL's package if this process is root, because PostgreSQL
/// does not run as root.
fn owner() -> Option<(u32, u32)> {
    let id = |flag| {
        let output = Command::new("id").args([flag, "postgres"]).output();
        let text = String::from_utf8(output.expect("run id").stdout).expect("decode UTF-8");
        text.trim().parse().expect("a user named postgres")
    };
    rustix::process::geteuid()
        .is_root()
        .then(|| (id("-u"), id("-g")))
}

fn command_as_owner(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]);
    if let Some((user, group)) = owner() {
        command.args([format!("--reuid={user}"), format!("--regid={group}")]);
        command.arg("--clear-groups");
    }
    command.arg("--").arg(program);
    command
}
