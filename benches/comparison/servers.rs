//! The servers that are compared, each in the strongest configuration known for the workload. The
//! templates of the configuration files are in `server_configs/`; what differs between workloads
//! is here.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::ClientConfig;

use crate::Result;
use crate::certificate::Certificate;
use crate::client::{Client, ResponseHead};
use crate::process::{CoreAssignment, CoreRole, Process};
use crate::programs::{first_line, program};
use crate::subprocess::Subprocess;
use crate::tls_client::{self, Sessions};

/// The file in the scratch directory with the response of tws, which the bare loop sends.
pub(crate) const RESPONSE_FILE: &str = "response";

/// The longest time from the start of a server to its first response.
const START_TIMEOUT: Duration = Duration::from_secs(10);

/// A server program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ServerKind {
    Tws,
    /// A second tws, measured like any other server: the distance of its ratios from 1.00 is the
    /// noise.
    TwsAgain,
    Nginx,
    Lighttpd,
    H2o,
    Caddy,
    /// A bare event loop that sends a fixed response: the cost of the kernel alone.
    BareLoop,
}

/// What a server is configured for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Profile {
    SmallFiles,
    LargeFiles,
    /// Small files and an access log in the combined format.
    AccessLog,
    /// Text that is compressed with gzip while it is served.
    Compression,
    /// This many rules of a site, for tws alone.
    Rules(usize),
    /// Large files without TLS, as a reference for those with it.
    WithoutTls,
    ColdDisk,
    /// The configuration that Linux distributions install.
    DistributionDefault,
}

/// How clients speak to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    Http1,
    Http1Tls,
    /// HTTP/2 without TLS, with prior knowledge.
    Http2Cleartext,
    Http2Tls,
}

impl Transport {
    pub(crate) fn uses_tls(self) -> bool {
        matches!(self, Self::Http1Tls | Self::Http2Tls)
    }
}

/// A server with its configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ServerSetup {
    pub(crate) server: ServerKind,
    pub(crate) profile: Profile,
    pub(crate) transport: Transport,
}

impl ServerSetup {
    pub(crate) fn label(self) -> String {
        match (self.server, self.profile) {
            (ServerKind::Nginx, Profile::DistributionDefault) => "nginx as installed".to_owned(),
            (server, Profile::WithoutTls) => format!("{} without TLS", server.name()),
            (ServerKind::Tws, Profile::Rules(count)) => format!("tws, {count} rules"),
            (server, _) => server.name().to_owned(),
        }
    }

    /// Returns whether it appears only in targets, beside the same server in its strongest
    /// configuration.
    pub(crate) fn is_reference(self) -> bool {
        matches!(
            self.profile,
            Profile::DistributionDefault | Profile::WithoutTls
        )
    }
}

impl ServerKind {
    /// The servers of other projects, in the order of the report's columns.
    pub(crate) const OTHERS: [Self; 4] = [Self::Nginx, Self::Lighttpd, Self::H2o, Self::Caddy];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Tws => "tws",
            Self::TwsAgain => "tws again (A/A)",
            Self::Nginx => "nginx",
            Self::Lighttpd => "lighttpd",
            Self::H2o => "h2o",
            Self::Caddy => "Caddy",
            Self::BareLoop => "bare loop",
        }
    }

    /// Returns the path of the program; `None` if it is not installed.
    pub(crate) fn program(self) -> Option<PathBuf> {
        match self {
            Self::Tws | Self::TwsAgain => Some(PathBuf::from(env!("CARGO_BIN_EXE_tws"))),
            Self::BareLoop => std::env::current_exe().ok(),
            Self::Nginx | Self::Lighttpd | Self::H2o => program(self.name()),
            Self::Caddy => program("caddy"),
        }
    }

    /// Returns how many connections it can hold with a limit of 20,000 open files. lighttpd allows
    /// half as many connections as open files.
    pub(crate) fn max_connections(self) -> usize {
        match self {
            Self::Lighttpd => 9_500,
            _ => 17_500,
        }
    }

    /// Returns name and version as the installed program prints them.
    pub(crate) fn version(self) -> Option<String> {
        let flag = match self {
            Self::Tws | Self::TwsAgain | Self::BareLoop | Self::H2o => "--version",
            Self::Nginx | Self::Lighttpd => "-v",
            Self::Caddy => "version",
        };
        let line = first_line(&self.program()?, &[flag])?;
        let number = line
            .split(|letter: char| letter.is_whitespace() || letter == '/')
            .map(|word| word.trim_start_matches('v'))
            .find(|word| word.starts_with(|first: char| first.is_ascii_digit()));
        Some(format!(
            "{} {}",
            self.name(),
            number.unwrap_or("of unknown version")
        ))
    }
}

/// A running server that has responded once.
#[derive(Debug)]
pub(crate) struct RunningServer {
    pub(crate) setup: ServerSetup,
    pub(crate) address: SocketAddr,
    pub(crate) process: Process,
    /// The time from before its process was created to the first byte of its first response.
    pub(crate) start_time: Duration,
}

impl RunningServer {
    /// Returns the scheme and the authority of its URLs.
    pub(crate) fn origin(&self) -> String {
        let scheme = match self.setup.transport.uses_tls() {
            false => "http",
            true => "https",
        };
        format!("{scheme}://{}", self.address)
    }

    /// Connects to it, with TLS if it expects that.
    pub(crate) fn connect(&self) -> Result<Client> {
        match self.setup.transport.uses_tls() {
            true => self.connect_with(&tls_client::config(Sessions::New)?),
            false => Client::connect(self.address).map_err(|error| error.to_string()),
        }
    }

    /// Connects to it with TLS.
    pub(crate) fn connect_with(&self, tls: &Arc<ClientConfig>) -> Result<Client> {
        let client = Client::connect_over(self.address, Some(tls), Client::TIMEOUT);
        client.map_err(|error| error.to_string())
    }

    /// Sends one request on a new connection and reads the response.
    pub(crate) fn fetch(&self, path: &str, fields: &[String]) -> Result<(ResponseHead, Vec<u8>)> {
        let fetched = self.connect()?.fetch(path, fields);
        fetched.map_err(|error| format!("{path}: {error}"))
    }

    /// Returns whether it responds; over TLS and HTTP/2, whether it accepts connections.
    fn is_ready(setup: ServerSetup, address: SocketAddr, path: &str) -> bool {
        match setup.transport {
            Transport::Http1 => Client::gets_response(address, path),
            Transport::Http1Tls | Transport::Http2Cleartext | Transport::Http2Tls => {
                Client::connect(address).is_ok()
            }
        }
    }
}

/// Starts a server for the files beneath `root` and waits until it has responded to a request for
/// `path`. Its configuration and its logs are written to `scratch`.
pub(crate) fn start(
    setup: ServerSetup,
    root: &Path,
    scratch: &Path,
    path: &str,
    cores: CoreAssignment,
) -> Result<RunningServer> {
    let mut error = String::new();
    // Another process may take the port between the search for a free one and the server's bind.
    for _ in 0..3 {
        match try_start(setup, root, scratch, path, cores) {
            Ok(running) => return Ok(running),
            Err(reason) => error = reason,
        }
    }
    Err(error)
}

fn try_start(
    setup: ServerSetup,
    root: &Path,
    scratch: &Path,
    path: &str,
    cores: CoreAssignment,
) -> Result<RunningServer> {
    let address = free_address()?;
    let scratch = scratch.join(address.port().to_string());
    fs::create_dir_all(&scratch).map_err(|error| format!("log directory: {error}"))?;
    let mut command = command(setup, root, &scratch, address.port())?;
    let output = scratch.join("output");
    let stdout = fs::File::create(&output).map_err(|error| format!("output file: {error}"))?;
    let stderr = stdout.try_clone().map_err(|error| error.to_string())?;
    command.stdout(stdout).stderr(stderr);
    let started = Instant::now();
    let process = Process::start(&mut command, cores, CoreRole::Server)?;
    while !RunningServer::is_ready(setup, address, path) {
        if process.has_exited() {
            let text = fs::read_to_string(&output).unwrap_or_default();
            return Err(format!(
                "exited during startup: {}",
                last_line(&text, &scratch)
            ));
        }
        if started.elapsed() > START_TIMEOUT {
            return Err(format!(
                "no response within {} s of its start",
                START_TIMEOUT.as_secs()
            ));
        }
        std::thread::sleep(Duration::from_micros(50));
    }
    Ok(RunningServer {
        setup,
        address,
        process,
        start_time: started.elapsed(),
    })
}

/// Returns the last line that a server printed, shortened and without the name of the scratch
/// directory.
fn last_line(text: &str, scratch: &Path) -> String {
    let line = text.lines().rfind(|line| !line.trim().is_empty());
    let line = line.unwrap_or("no output");
    let line = line.replace(&format!("{}/", scratch.display()), "");
    line.chars().take(160).collect()
}

fn free_address() -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
    let address = listener.and_then(|listener| listener.local_addr());
    address.map_err(|error| format!("no free port: {error}"))
}

fn command(setup: ServerSetup, root: &Path, scratch: &Path, port: u16) -> Result<Command> {
    let ServerSetup {
        server,
        profile,
        transport,
    } = setup;
    let program = server.program().ok_or("not installed")?;
    let logged = profile == Profile::AccessLog;
    let log = scratch.join("access.log");
    let log = log.display();
    let certificate = match transport.uses_tls() {
        false => None,
        true => Some(Certificate::create(scratch)?),
    };
    let compresses = profile == Profile::Compression;
    let tls = |directives: fn(&str, &str) -> String| {
        let certificate = certificate.as_ref();
        let directives = certificate.map(|files| {
            let [certificate, key] = [&files.certificate, &files.key].map(|file| file.display());
            directives(&certificate.to_string(), &key.to_string())
        });
        directives.unwrap_or_default()
    };
    let write_config = |name: &str, template: &str, values: &[(&str, &str)]| {
        let path = scratch.join(name);
        let port = port.to_string();
        let [root, scratch] = [root, scratch].map(|path| path.display().to_string());
        let common = [("root", &*root), ("scratch", &scratch), ("port", &port)];
        let all = values.iter().chain(&common);
        let text = all.fold(template.to_owned(), |text, (name, value)| {
            text.replace(&format!("{{{{{name}}}}}"), value)
        });
        fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok::<PathBuf, String>(path)
    };
    // Servers started by root switch to a user that cannot read the files, unless configured
    // otherwise.
    let as_root = rustix::process::geteuid().is_root();
    let mut command = Command::new(program);
    match server {
        ServerKind::Tws | ServerKind::TwsAgain => {
            command.arg(root).arg(port.to_string());
            command.args(["--workers", "1", "--quiet"]);
            command.args(["--keep-alive-timeout", "3600"]);
            if transport == Transport::Http2Cleartext {
                command.args(["--http2", "all"]);
            }
            if let Some(files) = &certificate {
                command.arg("--tls-cert").arg(&files.certificate);
                command.arg("--tls-key").arg(&files.key);
            }
            if let Profile::Rules(count) = profile {
                let path = scratch.join("rules.toml");
                fs::write(&path, rules(count))
                    .map_err(|error| format!("{}: {error}", path.display()))?;
                command.arg("--config").arg(path);
            } else {
                command.arg("--no-site-file");
            }
            if logged {
                command.args(["--log-format", "combined"]);
                command.arg("--access-log").arg(log.to_string());
            }
        }
        ServerKind::BareLoop => {
            let response = scratch.with_file_name(RESPONSE_FILE);
            command.args(Subprocess::BareLoop { port, response }.arguments());
        }
        ServerKind::Nginx => {
            let user = if as_root { "user root;" } else { "" };
            let log = if logged {
                format!("access_log {log} combined buffer=64k;")
            } else {
                "access_log off;".to_owned()
            };
            let template = include_str!("server_configs/nginx.conf");
            let protocol = match transport {
                Transport::Http1 => "",
                Transport::Http2Cleartext => "http2",
                Transport::Http1Tls => "ssl",
                Transport::Http2Tls => "ssl http2",
            };
            let tls = tls(|certificate, key| {
                format!("ssl_certificate {certificate}; ssl_certificate_key {key};")
            });
            let values = [
                ("files", nginx_files(profile)),
                ("user", user),
                ("log", &log),
                ("protocol", protocol),
                ("tls", &tls),
            ];
            let path = write_config("nginx.conf", template, &values)?;
            command.arg("-p").arg(scratch);
            command.arg("-e").arg(scratch.join("nginx-error.log"));
            command.arg("-c").arg(path);
        }
        ServerKind::Lighttpd => {
            let log = if logged {
                format!("server.modules += ( \"mod_accesslog\" )\naccesslog.filename = \"{log}\"")
            } else {
                String::new()
            };
            let compression = if compresses {
                let cache = scratch.join("deflate");
                fs::create_dir_all(&cache).map_err(|error| error.to_string())?;
                format!(
                    "server.modules += ( \"mod_deflate\" )\n\
                     deflate.mimetypes = ( \"text/html\" )\n\
                     deflate.allowed-encodings = ( \"gzip\" )\n\
                     deflate.cache-dir = \"{}\"",
                    cache.display()
                )
            } else {
                String::new()
            };
            let tls = tls(|certificate, key| {
                format!(
                    "server.modules += ( \"mod_openssl\" )\nssl.engine = \"enable\"\n\
                     ssl.pemfile = \"{certificate}\"\nssl.privkey = \"{key}\""
                )
            });
            let template = include_str!("server_configs/lighttpd.conf");
            let values = [("log", &*log), ("tls", &tls), ("compression", &compression)];
            let path = write_config("lighttpd.conf", template, &values)?;
            command.arg("-D").arg("-f").arg(path);
        }
        ServerKind::H2o => {
            let user = if as_root { "user: root" } else { "" };
            let log = if logged {
                format!(
                    "access-log:\n  path: {log}\n  \
                     format: '%h %l %u %t \"%r\" %s %b \"%{{Referer}}i\" \"%{{User-agent}}i\"'"
                )
            } else {
                String::new()
            };
            let template = include_str!("server_configs/h2o.yaml");
            let tls = tls(|certificate, key| {
                format!(
                    "      ssl:\n        certificate-file: {certificate}\n        \
                     key-file: {key}"
                )
            });
            let compression = if compresses { "compress: [ gzip ]" } else { "" };
            let values = [
                ("user", user),
                ("log", &log),
                ("tls", &tls),
                ("compression", compression),
            ];
            let path = write_config("h2o.yaml", template, &values)?;
            command.arg("-m").arg("worker").arg("-c").arg(path);
        }
        ServerKind::Caddy => {
            if logged {
                return Err("its access log is JSON, not the combined format".to_owned());
            }
            let template = include_str!("server_configs/Caddyfile");
            let (scheme, protocols) = match transport {
                Transport::Http1 => ("http", "h1"),
                Transport::Http1Tls => ("https", "h1"),
                Transport::Http2Cleartext => ("http", "h1 h2c"),
                Transport::Http2Tls => ("https", "h1 h2"),
            };
            let tls = tls(|certificate, key| format!("tls {certificate} {key}"));
            let compression = if compresses { "encode gzip" } else { "" };
            let values = [
                ("scheme", scheme),
                ("protocols", protocols),
                ("tls", &tls),
                ("compression", compression),
            ];
            let path = write_config("Caddyfile", template, &values)?;
            command
                .args(["run", "--adapter", "caddyfile", "--config"])
                .arg(path);
            command.env("HOME", scratch).env("GOMAXPROCS", "1");
        }
    }
    command.stdin(Stdio::null());
    Ok(command)
}

fn nginx_files(profile: Profile) -> &'static str {
    match profile {
        Profile::SmallFiles | Profile::AccessLog | Profile::Rules(_) => {
            "sendfile off; output_buffers 1 128k; open_file_cache max=10000 inactive=60s;"
        }
        Profile::Compression => {
            "sendfile off; output_buffers 1 128k; open_file_cache max=10000 inactive=60s; gzip on;"
        }
        Profile::LargeFiles | Profile::WithoutTls => {
            "sendfile on; sendfile_max_chunk 512k; tcp_nopush on; \
             open_file_cache max=10000 inactive=60s;"
        }
        Profile::ColdDisk => "sendfile on; aio threads; tcp_nopush on;",
        Profile::DistributionDefault => "sendfile on; tcp_nopush on;",
    }
}

/// Returns a settings file with rules that no request of the bench matches: a half are redirects of
/// single paths, a quarter redirects of patterns, a quarter header fields for patterns.
fn rules(count: usize) -> String {
    let rule = |index: usize| match index % 4 {
        0 | 1 => format!("[[redirect]]\nfrom = \"/moved/{index}\"\nto = \"/to/{index}\"\n"),
        2 => format!("[[redirect]]\nfrom = \"/section-{index}/*\"\nto = \"/to/{index}/$1\"\n"),
        _ => format!("[[header]]\npath = \"/assets-{index}/*\"\nX-Rule = \"{index}\"\n"),
    };
    (0..count).map(rule).collect()
}
