//! An haproxy from this machine's programs, on a free port; it ends when it is dropped.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::ports::free_port;

pub(crate) struct Haproxy {
    pub(crate) address: SocketAddr,
    child: Child,
    _folder: TempDir,
}

impl Haproxy {
    /// One with these lines for its only backend.
    pub(crate) fn before(backend: &str) -> Self {
        /// Somebody may take the port between our look and haproxy's.
        const ATTEMPTS: usize = 5;
        let started = (0..ATTEMPTS).find_map(|_| Self::try_start(backend));
        started.expect("haproxy starts")
    }

    fn try_start(backend: &str) -> Option<Self> {
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let folder = tempfile::tempdir().expect("a folder");
        let configuration = format!(
            "global
    maxconn 500
defaults
    mode http
    timeout connect 10s
    timeout client 60s
    timeout server 60s
frontend web
    bind {address}
    default_backend tws
backend tws
{backend}
"
        );
        let file = folder.path().join("haproxy.cfg");
        fs::write(&file, configuration).expect("a file");
        // Where only root's PATH leads, but everybody may run it.
        let path = format!("{}:/usr/sbin", std::env::var("PATH").unwrap_or_default());
        let mut child = Command::new("haproxy")
            .env("PATH", path)
            .args(["-db", "-q", "-f"])
            .arg(&file)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("haproxy is installed");
        while TcpStream::connect(address).is_err() {
            if child.try_wait().expect("a child").is_some() {
                return None;
            }
            std::thread::yield_now();
        }
        Some(Self {
            address,
            child,
            _folder: folder,
        })
    }
}

impl Drop for Haproxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
