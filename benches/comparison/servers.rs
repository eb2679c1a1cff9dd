//! The servers, each in the strongest configuration known for the work at hand. The templates are
//! in `peers/`; what differs from work to work is here.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::Result;
use crate::client::Client;
use crate::environment::{first_line, program};
use crate::process::{Core, Cores, Process};
use crate::subprocess::Child;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Server {
    Tws,
    /// A second tws, measured like a peer: its distance from 1.00 is the noise.
    TwsAgain,
    Nginx,
    Lighttpd,
    H2o,
    Caddy,
    /// A bare event loop that sends a fixed answer: what the kernel takes.
    Floor,
}

/// What a server is set up for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Setting {
    SmallFiles,
    LargeFiles,
    /// Small files, and an access log in the combined format.
    Logged,
    ColdDisk,
    /// As distributions configure it.
    AsInstalled,
}

/// A server to measure, set up for a work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Contestant {
    pub(crate) server: Server,
    pub(crate) setting: Setting,
}

impl Contestant {
    pub(crate) fn label(self) -> String {
        match (self.server, self.setting) {
            (Server::Nginx, Setting::AsInstalled) => "nginx as installed".to_owned(),
            (server, _) => server.name().to_owned(),
        }
    }
}

impl Server {
    pub(crate) const PEERS: [Self; 4] = [Self::Nginx, Self::Lighttpd, Self::H2o, Self::Caddy];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Tws => "tws",
            Self::TwsAgain => "tws again (A/A)",
            Self::Nginx => "nginx",
            Self::Lighttpd => "lighttpd",
            Self::H2o => "h2o",
            Self::Caddy => "Caddy",
            Self::Floor => "bare loop",
        }
    }

    pub(crate) fn program(self) -> Option<PathBuf> {
        match self {
            Self::Tws | Self::TwsAgain => Some(PathBuf::from(env!("CARGO_BIN_EXE_tws"))),
            Self::Floor => std::env::current_exe().ok(),
            Self::Nginx | Self::Lighttpd | Self::H2o => program(self.name()),
            Self::Caddy => program("caddy"),
        }
    }

    /// How many connections it can hold under the limit of 20,000 open files: lighttpd takes half
    /// as many connections as files.
    pub(crate) fn most_connections(self) -> usize {
        match self {
            Self::Lighttpd => 9_500,
            _ => 17_500,
        }
    }

    /// Name and number, as the installed program says it.
    pub(crate) fn version(self) -> Option<String> {
        let flag = match self {
            Self::Tws | Self::TwsAgain | Self::Floor | Self::H2o => "--version",
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

/// A server that answers.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) contestant: Contestant,
    pub(crate) address: SocketAddr,
    pub(crate) process: Process,
    /// From before its process was made until the first byte of its first answer.
    pub(crate) start: Duration,
}

/// Starts a server for the files beneath `root` and waits until it has answered for `path`.
/// `scratch` is for its configuration and its logs.
pub(crate) fn start(
    contestant: Contestant,
    root: &Path,
    scratch: &Path,
    path: &str,
    cores: Cores,
) -> Result<Running> {
    let mut error = String::new();
    // Between being found free and being taken, a port may go to somebody else.
    for _ in 0..3 {
        match try_start(contestant, root, scratch, path, cores) {
            Ok(running) => return Ok(running),
            Err(reason) => error = reason,
        }
    }
    Err(error)
}

fn try_start(
    contestant: Contestant,
    root: &Path,
    scratch: &Path,
    path: &str,
    cores: Cores,
) -> Result<Running> {
    let address = free_address()?;
    let scratch = scratch.join(address.port().to_string());
    fs::create_dir_all(&scratch).map_err(|error| format!("no folder for logs: {error}"))?;
    let mut command = command(contestant, root, &scratch, address.port())?;
    let output = scratch.join("output");
    let file = fs::File::create(&output).map_err(|error| format!("no file for output: {error}"))?;
    let same = file.try_clone().map_err(|error| error.to_string())?;
    command.stdout(file).stderr(same);
    let begun = Instant::now();
    let process = Process::start(&mut command, cores, Core::Server)?;
    while !Client::hears_from(address, path) {
        if process.has_ended() {
            let text = fs::read_to_string(&output).unwrap_or_default();
            return Err(format!(
                "it ended at its start: {}",
                last_words(&text, &scratch)
            ));
        }
        if begun.elapsed() > Duration::from_secs(10) {
            return Err("it did not answer within 10 s of its start".to_owned());
        }
        std::thread::sleep(Duration::from_micros(50));
    }
    Ok(Running {
        contestant,
        address,
        process,
        start: begun.elapsed(),
    })
}

/// The last line of what a server said, short and without our folder.
fn last_words(text: &str, scratch: &Path) -> String {
    let line = text.lines().rfind(|line| !line.trim().is_empty());
    let line = line.unwrap_or("it said nothing");
    let line = line.replace(&format!("{}/", scratch.display()), "");
    line.chars().take(160).collect()
}

fn free_address() -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
    let address = listener.and_then(|listener| listener.local_addr());
    address.map_err(|error| format!("no free port: {error}"))
}

fn command(contestant: Contestant, root: &Path, scratch: &Path, port: u16) -> Result<Command> {
    let Contestant { server, setting } = contestant;
    let program = server.program().ok_or("it is not installed")?;
    let logged = setting == Setting::Logged;
    let log = scratch.join("access.log");
    let log = log.display();
    let configuration = |name: &str, template: &str, files: &str, user: &str, log: &str| {
        let path = scratch.join(name);
        let text = template
            .replace("{{files}}", files)
            .replace("{{user}}", user)
            .replace("{{log}}", log)
            .replace("{{root}}", &root.display().to_string())
            .replace("{{scratch}}", &scratch.display().to_string())
            .replace("{{port}}", &port.to_string());
        fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok::<PathBuf, String>(path)
    };
    // Started by root, servers become somebody who may not see the files.
    let as_root = rustix::process::geteuid().is_root();
    let mut command = Command::new(program);
    match server {
        Server::Tws | Server::TwsAgain => {
            command.arg(root).arg(port.to_string());
            command.args(["--workers", "1", "--quiet", "--no-site-file"]);
            command.args(["--keep-alive-timeout", "3600"]);
            if logged {
                command.args(["--log-format", "combined"]);
                command.arg("--access-log").arg(log.to_string());
            }
        }
        Server::Floor => {
            let file = root.join("1K.png");
            command.args(Child::Floor { port, file }.arguments());
        }
        Server::Nginx => {
            let user = if as_root { "user root;" } else { "" };
            let log = match logged {
                true => format!("access_log {log} combined buffer=64k;"),
                false => "access_log off;".to_owned(),
            };
            let template = include_str!("peers/nginx.conf");
            let path = configuration("nginx.conf", template, nginx_files(setting), user, &log)?;
            command.arg("-p").arg(scratch);
            command.arg("-e").arg(scratch.join("nginx-error.log"));
            command.arg("-c").arg(path);
        }
        Server::Lighttpd => {
            let log = match logged {
                true => format!(
                    "server.modules = ( \"mod_accesslog\" )\naccesslog.filename = \"{log}\""
                ),
                false => String::new(),
            };
            let template = include_str!("peers/lighttpd.conf");
            let path = configuration("lighttpd.conf", template, "", "", &log)?;
            command.arg("-D").arg("-f").arg(path);
        }
        Server::H2o => {
            let user = if as_root { "user: root" } else { "" };
            let log = match logged {
                true => format!(
                    "access-log:\n  path: {log}\n  \
                     format: '%h %l %u %t \"%r\" %s %b \"%{{Referer}}i\" \"%{{User-agent}}i\"'"
                ),
                false => String::new(),
            };
            let template = include_str!("peers/h2o.yaml");
            let path = configuration("h2o.yaml", template, "", user, &log)?;
            command.arg("-m").arg("worker").arg("-c").arg(path);
        }
        Server::Caddy => {
            if logged {
                return Err("its log is JSON, another work".to_owned());
            }
            let template = include_str!("peers/Caddyfile");
            let path = configuration("Caddyfile", template, "", "", "")?;
            command
                .args(["run", "--adapter", "caddyfile", "--config"])
                .arg(path);
            command.env("HOME", scratch).env("GOMAXPROCS", "1");
        }
    }
    command.stdin(Stdio::null());
    Ok(command)
}

fn nginx_files(setting: Setting) -> &'static str {
    match setting {
        Setting::SmallFiles | Setting::Logged => {
            "sendfile off; output_buffers 1 128k; open_file_cache max=10000 inactive=60s;"
        }
        Setting::LargeFiles => {
            "sendfile on; sendfile_max_chunk 512k; tcp_nopush on; \
             open_file_cache max=10000 inactive=60s;"
        }
        Setting::ColdDisk => "sendfile on; aio threads; tcp_nopush on;",
        Setting::AsInstalled => "sendfile on; tcp_nopush on;",
    }
}
