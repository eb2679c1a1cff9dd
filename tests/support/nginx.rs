//! An nginx from this machine's programs, on a free port; it ends when it is dropped.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

pub(crate) struct Nginx {
    pub(crate) address: SocketAddr,
    child: Child,
    _prefix: TempDir,
}

impl Nginx {
    /// One that serves a folder.
    pub(crate) fn serving(site: &Path) -> Self {
        let site = site.display();
        Self::start("", &format!("root {site}; index index.html;"))
    }

    /// One with more for its `http`, and this for its only `server`.
    pub(crate) fn start(http: &str, server: &str) -> Self {
        /// Somebody may take the port between our look and nginx's.
        const ATTEMPTS: usize = 5;
        let started = (0..ATTEMPTS).find_map(|_| Self::try_start(http, server));
        started.expect("nginx starts")
    }

    fn try_start(http: &str, server: &str) -> Option<Self> {
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let address = free.local_addr().expect("an address");
        drop(free);
        let prefix = tempfile::tempdir().expect("a folder");
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|what| format!("{what}_temp_path {what};\n"))
            .concat();
        let configuration = format!(
            "daemon off;
            master_process off;
            pid pid;
            error_log error.log;
            events {{ worker_connections 512; }}
            http {{
                {temporary}
                access_log off;
                types {{ text/html html; text/plain txt; text/css css; }}
                default_type application/octet-stream;
                {http}
                server {{
                    listen {address};
                    {server}
                }}
            }}"
        );
        fs::write(prefix.path().join("nginx.conf"), configuration).expect("a file");
        // Where only root's PATH leads, but everybody may run it.
        let path = format!("{}:/usr/sbin", std::env::var("PATH").unwrap_or_default());
        let mut child = Command::new("nginx")
            .env("PATH", path)
            .args(["-c", "nginx.conf", "-e", "error.log", "-p"])
            .arg(prefix.path())
            .stderr(Stdio::null())
            .spawn()
            .expect("nginx is installed");
        // It is written once the socket listens.
        let pid = prefix.path().join("pid");
        while fs::read(&pid).unwrap_or_default().is_empty() {
            if child.try_wait().expect("a child").is_some() {
                return None;
            }
            std::thread::yield_now();
        }
        Some(Self {
            address,
            child,
            _prefix: prefix,
        })
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
