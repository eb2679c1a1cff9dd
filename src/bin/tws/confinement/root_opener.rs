//! The root opener: a process beside the server that opens roots which were replaced.
//!
//! The sandbox allows to read beneath the folders that were the roots at the start. Where the folder above
//! a root belongs to one project, the sandbox allows that folder, too, so that a build may remove the root
//! and create it again. It does not where the folder above is a home folder, or one that programs share:
//! there, this process opens the new root and the files beneath it, and passes the descriptors to the server.
//!
//! The process is this program with a hidden argument, started before the server enters its sandbox and
//! only if there is such a root. It has the user and the group of the server, and a sandbox of its own, in
//! which it can read beneath the folders above those roots, and nothing else: it cannot write, connect or
//! execute. It opens what [`ReplaceableRoot`](tws::ReplaceableRoot) opens: files beneath the roots, each
//! root by its name, and no root that is a symbolic link. So the server can read through it what it could
//! read if the root had not been replaced, and no other file of the home folder.
//!
//! A request is one packet on a socket, with a socket for its reply, so requests do not wait for each
//! other, and an upgrade passes the first socket on like a listener: the old and the new process ask the same
//! opener. It ends when no process has that socket any more, however the server ends. Signals that end the
//! server do not end it, as responses are still being sent then.

mod client;
mod message;
mod process;

use std::fs;
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rustix::io::retry_on_intr;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, recv, socketpair};
use tws::Error;

use crate::cli::ROOT_OPENER_ARGUMENT;
pub(crate) use client::RootOpenerClient;
pub(crate) use process::run;

/// The time in which the process must be ready. It reads a few files.
const START_TIMEOUT: Duration = Duration::from_secs(10);

/// The process, which this one has started.
pub(crate) struct RootOpenerProcess {
    pub(crate) client: Arc<RootOpenerClient>,
    child: Child,
}

/// How the process is started.
pub(crate) struct RootOpenerSettings<'a> {
    /// Roots that are folders.
    pub(crate) roots: Vec<PathBuf>,
    pub(crate) user: Option<&'a str>,
    pub(crate) group: Option<&'a str>,
}

impl RootOpenerProcess {
    /// Starts the process, unless there are no roots. Without it, roots that are replaced need a restart,
    /// so errors are logged and the server starts.
    pub(crate) fn start(settings: &RootOpenerSettings<'_>) -> Option<Self> {
        let roots = settings.roots.iter().map(fs::canonicalize);
        let roots: Vec<_> = roots.filter_map(Result::ok).collect();
        if roots.is_empty() {
            return None;
        }
        match Self::spawn(&roots, settings) {
            Ok(process) => Some(process),
            // The server will not be in a sandbox either, and open the roots itself.
            Err(error) if error.kind() == ErrorKind::Unsupported => None,
            Err(error) => {
                log::warn!(
                    "sandbox: cannot start the root opener: {error}; restart the \
                     server when a root was replaced"
                );
                None
            }
        }
    }

    fn spawn(roots: &[PathBuf], settings: &RootOpenerSettings<'_>) -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC;
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        // The same program even if its file was replaced meanwhile.
        let mut command = Command::new("/proc/self/exe");
        command
            .arg0("tws")
            .arg(ROOT_OPENER_ARGUMENT)
            .arg(settings.user.unwrap_or_default())
            .arg(settings.group.unwrap_or_default())
            .args(roots)
            // It may contain passwords.
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Not in the process group of the terminal: Ctrl-C must only reach the server.
            .process_group(0);
        let mut child = command.spawn()?;
        // It holds a duplicate of the other end, whose close is the end of the process.
        drop(command);
        match await_ready(&ours) {
            Ok(()) => Ok(Self {
                client: Arc::new(RootOpenerClient::new(ours)),
                child,
            }),
            Err(error) => {
                // The process may have exited by itself.
                let _ = child.kill();
                let _ = child.wait();
                Err(error)
            }
        }
    }

    /// Starts a thread that waits for the process, so that no zombie remains, and warns if it ends before
    /// the server.
    pub(crate) fn watch(mut self) -> Result<(), Error> {
        let wait = move || {
            if let Ok(status) = self.child.wait() {
                log::warn!(
                    "sandbox: the root opener has ended ({status}); restart the \
                     server when a root was replaced"
                );
            }
        };
        let thread = thread::Builder::new().name("root-opener".to_owned());
        let waiting = thread.spawn(wait).map(|_| ());
        waiting.map_err(Error::system("wait for the root opener"))
    }
}

/// Waits until the process is ready. Its error is of the kind [`ErrorKind::Unsupported`] if the kernel has
/// no sandbox.
fn await_ready(socket: &OwnedFd) -> io::Result<()> {
    set_socket_timeout(socket, Timeout::Recv, Some(START_TIMEOUT))?;
    let mut buffer = [0; message::MAX_ERROR_LEN];
    let (received, _) = retry_on_intr(|| recv(socket, &mut buffer[..], RecvFlags::empty()))?;
    set_socket_timeout(socket, Timeout::Recv, None)?;
    match &buffer[..received] {
        [message::READY] => Ok(()),
        [] => Err(io::Error::other("it ended")),
        [message::UNSUPPORTED] => Err(ErrorKind::Unsupported.into()),
        error => Err(io::Error::other(String::from_utf8_lossy(error))),
    }
}
