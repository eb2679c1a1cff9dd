//! Starts nginx.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use super::external_server::ExternalServer;
use super::recipes;

/// Starts nginx for a folder.
pub(crate) fn serving(site: &Path) -> ExternalServer {
    let site = site.display();
    start(|address| format!("server {{ listen {address}; root {site}; index index.html; }}"))
}

/// Starts nginx with the recipe of `.readme/operating.md`, for servers of the names that `adapt` puts into it.
pub(crate) fn before(adapt: impl Fn(&str) -> String) -> ExternalServer {
    let recipe = adapt(recipes::code_block("nginx"));
    start(|address| recipes::with(&recipe, "listen 8080;", &format!("listen {address};")))
}

/// Starts nginx with these lines for its `http` block, which listen at an address.
fn start(http: impl Fn(SocketAddr) -> String) -> ExternalServer {
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|what| format!("{what}_temp_path {what};\n"))
        .concat();
    let configure = |address: SocketAddr, folder: &Path| {
        let http = http(address);
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
