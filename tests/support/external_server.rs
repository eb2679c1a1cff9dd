//! Another server or proxy from this machine's programs, on a free port; it ends when it is dropped.

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
    /// One by the command that `configure` makes for an address and a folder of its own. It is
    /// there as soon as `is_ready` says so.
    pub(super) fn start(
        configure: impl Fn(SocketAddr, &Path) -> Command,
        is_ready: impl Fn(SocketAddr, &Path) -> bool,
    ) -> Self {
        /// Somebody may take the port between our look and the program's.
        const ATTEMPTS: usize = 5;
        let started = (0..ATTEMPTS).find_map(|_| Self::try_start(&configure, &is_ready));
        started.expect("the program starts")
    }

    fn try_start(
        configure: impl Fn(SocketAddr, &Path) -> Command,
        is_ready: impl Fn(SocketAddr, &Path) -> bool,
    ) -> Option<Self> {
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let folder = tempfile::tempdir().expect("a folder");
        let mut command = configure(address, folder.path());
        // Where only root's PATH leads, but everybody may run it.
        let path = format!("{}:/usr/sbin", std::env::var("PATH").unwrap_or_default());
        command
            .env("PATH", path)
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let mut program = ChildProcess::start(&mut command);
        let mut has_exited = false;
        eventually!(|| {
            has_exited = program.try_wait().expect("a child").is_some();
            has_exited || is_ready(address, folder.path())
        });
        (!has_exited).then(|| Self {
            address,
            _program: program,
            _folder: folder,
        })
    }
}
