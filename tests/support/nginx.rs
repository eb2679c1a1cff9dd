//! Starts nginx.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use super::external_server::ExternalServer;

/// Starts nginx for a folder.
pub(crate) fn serving(site: &Path) -> ExternalServer {
    let site = site.display();
    start("", &format!("root {site}; index index.html;"))
}

/// Starts nginx with further lines for its `http` block, and these for its only `server` block.
pub(crate) fn start(http: &str, server: &str) -> ExternalServer {
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|what| format!("{what}_temp_path {what};\n"))
        .concat();
    let configure = |address: SocketAddr, folder: &Path| {
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
        fs::write(folder.join("nginx.conf"), configuration).expect("write file");
        let mut command = Command::new("nginx");
        command
            .args(["-c", "nginx.conf", "-e", "error.log", "-p"])
            .arg(folder);
        command
    };
    // nginx writes the file once the socket listens.
    let has_pid = |folder: &Path| !fs::read(folder.join("pid")).unwrap_or_default().is_empty();
    ExternalServer::start(configure, |_, folder| has_pid(folder))
}
