//! An installed server or proxy on a free port; it ends when it is dropped.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use super::ports::free_port;
use super::{ChildProcess, eventually};

pub(crate) struct ExternalServer {
    pub(crate) address: SocketAddr,
    _program: ChildProcess,
    _folder: TempDir,
}

impl ExternalServer {
    /// Starts the command that `configure` returns for an address and an empty folder, and waits
    /// until `is_ready`.
    pub(super) fn start(
        configure: impl Fn(SocketAddr, &Path) -> Command,
        is_ready: impl Fn(SocketAddr, &Path) -> bool,
    ) -> Self {
        /// Another process may bind the port between its choice and the program's start.
        const ATTEMPTS: usize = 5;
        let started = (0..ATTEMPTS).find_map(|_| Self::try_start(&configure, &is_ready));
        started.expect("program starts")
    }

    fn try_start(
        configure: impl Fn(SocketAddr, &Path) -> Command,
        is_ready: impl Fn(SocketAddr, &Path) -> bool,
    ) -> Option<Self> {
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let folder = tempfile::tempdir().expect("create temporary directory");
        let mut command = configure(address, folder.path());
        // Programs that are usually only in root's PATH, but that all users may run.
        let path = format!("{}:/usr/sbin", std::env::var("PATH").unwrap_or_default());
        command
            .env("PATH", path)
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let mut program = ChildProcess::start(&mut command);
        let mut has_exited = false;
        eventually!(|| {
            has_exited = program.try_wait().expect("query child process").is_some();
            has_exited || is_ready(address, folder.path())
        });
        (!has_exited).then(|| Self {
            address,
            _program: program,
            _folder: folder,
        })
    }
}
