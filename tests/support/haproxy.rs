//! Starts haproxy.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;

use super::external_server::ExternalServer;

/// Starts haproxy with these lines for its only backend.
pub(crate) fn before(backend: &str) -> ExternalServer {
    let configure = |address: SocketAddr, folder: &Path| {
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
        let file = folder.join("haproxy.cfg");
        fs::write(&file, configuration).expect("write file");
        let mut command = Command::new("haproxy");
        command.args(["-db", "-q", "-f"]).arg(&file);
        command
    };
    ExternalServer::start(configure, |address, _| TcpStream::connect(address).is_ok())
}
