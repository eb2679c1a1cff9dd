//! `tws check`: everything that serving would need is looked at, and nothing is served: no port is
//! bound, no file made, no database opened. All that is wrong is said, not only the first of it.

use std::fmt;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::os::unix::{self, fs::FileTypeExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use rustix::fs::{Access, access};
use tws::access_log::LogDestination;
use tws::site::{SITE_FILE, Store};
use tws::{Endpoint, Error, Server};

use crate::cli::{Encryption, Exit, RawArgs, Settings, SiteFileSource};
use crate::confinement::privileges::{self, Identity};
use crate::say;
use crate::services::tls::Tls;
use crate::services::{app, https_redirect};

/// What was found, a line each.
#[derive(Default)]
struct Report {
    text: String,
    wrong: usize,
}

impl Report {
    fn fine(&mut self, text: impl fmt::Display) {
        self.line("ok", text);
    }

    /// What is allowed, and yet not meant, perhaps.
    fn warn(&mut self, text: impl fmt::Display) {
        self.line("warning", text);
    }

    fn wrong(&mut self, text: impl fmt::Display) {
        self.wrong += 1;
        self.line("error", text);
    }

    fn result<T>(&mut self, text: impl fmt::Display, result: Result<T, impl fmt::Display>) {
        match result {
            Ok(_) => self.fine(text),
            Err(error) => self.wrong(error),
        }
    }

    fn line(&mut self, kind: &str, text: impl fmt::Display) {
        let text = text.to_string();
        let line: String = text.split(char::is_control).collect::<Vec<_>>().join(" ");
        self.text += &format!("{kind}: {line}\n");
    }
}

/// Looks at what these words, and the file, ask for.
pub(crate) fn run(words: &RawArgs) -> ExitCode {
    let mut report = Report::default();
    let (settings, mistakes) = match Settings::read_lenient(words) {
        Ok((settings, mistakes)) => (Some(settings), mistakes),
        Err(Exit::Errors(mistakes)) => (None, mistakes),
        Err(Exit::Print(text)) => {
            say(&text);
            return ExitCode::SUCCESS;
        }
    };
    for mistake in &mistakes {
        report.wrong(mistake.text());
    }
    if let Some(settings) = &settings {
        if mistakes.is_empty() {
            report.fine(file(settings));
        }
        for warning in &settings.warnings {
            report.warn(warning);
        }
        // In the order in which serving needs it.
        for check in [
            check_process,
            check_files,
            check_passwords,
            check_certificates,
            check_users,
            check_limits,
            check_endpoints,
            check_logs,
        ] {
            check(settings, &mut report);
        }
    }
    say(&report.text);
    match report.wrong {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

fn file(settings: &Settings) -> String {
    let path = match &settings.site_file {
        SiteFileSource::Path(path) => path.clone(),
        SiteFileSource::InRoot => settings.root.join(SITE_FILE),
        SiteFileSource::None => return "settings: no file is read".to_owned(),
    };
    match path.exists() {
        true => format!("settings: read from {}", path.display()),
        false => format!("settings: {} does not exist", path.display()),
    }
}

fn check_process(settings: &Settings, report: &mut Report) {
    let (user, group) = (settings.user.as_deref(), settings.group.as_deref());
    if user.is_none() && group.is_none() {
        return;
    }
    match Identity::find(user, group) {
        Ok(_) => {
            report.fine("--user and --group exist");
            if privileges::is_root() {
                report.warn("file permissions below are checked as root, not as --user");
            }
        }
        Err(error) => report.wrong(error),
    }
}

/// The roots, each by itself, and what the rules say of what is in them.
fn check_files(settings: &Settings, report: &mut Report) {
    let mut all_there = true;
    for root in settings.roots() {
        let found = match fs::metadata(&root) {
            Ok(metadata) if metadata.is_dir() => fs::read_dir(&root).map(drop),
            Ok(_) => fs::File::open(&root).map(drop),
            Err(error) => Err(error),
        };
        all_there &= found.is_ok();
        let found = found.map_err(|source| Error::Path {
            purpose: "serve",
            path: root.clone(),
            source,
        });
        report.result(format_args!("{} can be served", root.display()), found);
    }
    if !all_there {
        return;
    }
    match app::files(settings) {
        Ok(files) => {
            for missing in files.missing_files() {
                report.warn(format_args!("{missing} is not in the root or not readable"));
            }
        }
        Err(error) => report.wrong(error),
    }
}

fn check_passwords(settings: &Settings, report: &mut Report) {
    if let Some(path) = &settings.auth_file {
        let text = format!("passwords are read from {}", path.display());
        report.result(text, app::guard(path));
    }
}

fn check_certificates(settings: &Settings, report: &mut Report) {
    // Each by itself, so that one that is wrong hides no other.
    let each = match &settings.encryption {
        Encryption::Off => return,
        Encryption::SelfSigned => vec![Encryption::SelfSigned],
        Encryption::Certificates(pairs) => pairs
            .iter()
            .map(|pair| Encryption::Certificates(vec![pair.clone()]))
            .collect(),
    };
    for encryption in &each {
        match https_redirect::open(encryption, &[]) {
            Ok(tls) => {
                for line in tls.as_ref().map(Tls::describe).unwrap_or_default() {
                    report.fine(format_args!("certificate: {line}"));
                }
                for warning in tls.as_ref().map(Tls::warnings).unwrap_or_default() {
                    report.warn(&warning);
                }
            }
            Err(error) => report.wrong(error),
        }
    }
}

fn check_users(settings: &Settings, report: &mut Report) {
    let Some(store) = &settings.users else {
        return;
    };
    let placed = app::check_store(store).and_then(|()| app::place(store, settings));
    match placed {
        Ok(Store::Sqlite(path)) => {
            let text = format!("users are stored in {}", path.display());
            report.result(text, writable(&path, Folders::Made, "store users in"));
        }
        Ok(store) => report.fine(format_args!(
            "users are stored in {store}; the database was not contacted"
        )),
        Err(error) => report.wrong(error),
    }
}

fn check_limits(settings: &Settings, report: &mut Report) {
    let agree = Server::check(&settings.config);
    report.result("the limits are consistent", agree);
}

/// All that is listened on: each place can be, and none twice.
fn check_endpoints(settings: &Settings, report: &mut Report) {
    let config = &settings.config;
    let mut known = Vec::new();
    for endpoint in config.addresses.iter().chain(&settings.admin) {
        match (endpoint, endpoint.ip()) {
            (Endpoint::Unix(path), _) => check_unix(path, report),
            (_, Some(ip)) if !known.contains(&ip) => {
                known.push(ip);
                check_address(ip, report);
            }
            _ => {}
        }
    }
    let mut servers = vec![
        ("--bind", listened_on(&config.addresses, config.port)),
        (
            "--admin",
            listened_on(settings.admin.as_slice(), config.port),
        ),
    ];
    if let Some(port) = settings.redirect_http {
        let endpoints = https_redirect::redirect_endpoints(settings);
        if endpoints.is_empty() {
            report.wrong(https_redirect::nowhere());
        }
        servers.push(("--redirect-http", listened_on(&endpoints, port)));
    }
    let mut taken: Vec<(&str, Endpoint)> = Vec::new();
    for (flag, endpoints) in servers {
        for endpoint in endpoints {
            let rival = taken.iter().find(|(_, other)| are_rivals(other, &endpoint));
            if let Some((other, _)) = rival {
                report.wrong(format_args!(
                    "{flag}: {endpoint} is already used by {other}; choose another port or path"
                ));
            }
            taken.push((flag, endpoint));
        }
    }
}

fn check_address(ip: IpAddr, report: &mut Report) {
    // A port of UDP's, for a moment: those of TCP are not to be disturbed.
    let here = UdpSocket::bind((ip, 0));
    let here = here.map_err(|source| Error::Bind {
        address: (ip, 0).into(),
        source,
    });
    report.result(format_args!("{ip} is an address of this machine"), here);
}

/// What one server takes, with the port of each. `::` takes IPv4, too, unless that has an address of
/// its own.
fn listened_on(endpoints: &[Endpoint], port: u16) -> Vec<Endpoint> {
    let with_port = |endpoint: &Endpoint| match endpoint {
        Endpoint::Address(ip) => Endpoint::Socket((*ip, port).into()),
        other => other.clone(),
    };
    let mut all: Vec<_> = endpoints.iter().map(with_port).collect();
    for at in 0..all.len() {
        let Endpoint::Socket(SocketAddr::V6(wide)) = all[at] else {
            continue;
        };
        let is_v4 = |other: &Endpoint| matches!(other, Endpoint::Socket(v4) if v4.is_ipv4() && v4.port() == wide.port());
        if wide.ip().is_unspecified() && !all.iter().any(is_v4) {
            let v4 = SocketAddr::from((Ipv4Addr::UNSPECIFIED, wide.port()));
            all.push(Endpoint::Socket(v4));
        }
    }
    all
}

/// Whether no two sockets can listen there.
fn are_rivals(one: &Endpoint, other: &Endpoint) -> bool {
    match (one, other) {
        (Endpoint::Socket(one), Endpoint::Socket(other)) => {
            let is_wide = one.ip().is_unspecified() || other.ip().is_unspecified();
            let same_port = one.port() == other.port() && one.port() != 0;
            same_port && (one.ip() == other.ip() || is_wide && one.is_ipv4() == other.is_ipv4())
        }
        (one, other) => one == other,
    }
}

/// What is there must be a socket, which is replaced. Names of sockets are short (unix(7)).
fn check_unix(path: &Path, report: &mut Report) {
    let failed = |source| Error::Path {
        purpose: "listen on",
        path: path.to_owned(),
        source,
    };
    let can = match (
        unix::net::SocketAddr::from_pathname(path),
        fs::symlink_metadata(path),
    ) {
        (Err(_), _) => Err(failed(io::Error::other(
            "the socket path is too long (limit 107 bytes)",
        ))),
        (_, Ok(metadata)) if !metadata.file_type().is_socket() => Err(failed(io::Error::other(
            "the file exists and is not a socket; remove it or choose another path",
        ))),
        _ => writable(path, Folders::Needed, "listen on"),
    };
    report.result(format_args!("{} can be listened on", path.display()), can);
}

fn check_logs(settings: &Settings, report: &mut Report) {
    for destination in &settings.access_log {
        let LogDestination::File(path) = destination else {
            continue;
        };
        let text = format!("the access log goes to {}", path.display());
        report.result(
            text,
            writable(path, Folders::Needed, "write the access log to"),
        );
    }
}

/// Whether the folder of a file, and those above it, are made for it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Folders {
    Made,
    Needed,
}

/// Whether a file can be written to, or made.
fn writable(path: &Path, folders: Folders, purpose: &'static str) -> Result<(), Error> {
    let failed = |purpose, source| Error::Path {
        purpose,
        path: path.to_owned(),
        source,
    };
    if path.is_dir() {
        return Err(failed(purpose, io::ErrorKind::IsADirectory.into()));
    }
    if path.exists() {
        return access(path, Access::WRITE_OK).map_err(|errno| failed(purpose, errno.into()));
    }
    let folder = existing_folder(path, folders).map_err(|source| failed(purpose, source))?;
    access(&folder, Access::WRITE_OK | Access::EXEC_OK).map_err(|_| {
        let text = format!("no write permission in {}", folder.display());
        failed("create", io::Error::other(text))
    })
}

fn existing_folder(path: &Path, folders: Folders) -> io::Result<PathBuf> {
    let above = path
        .ancestors()
        .skip(1)
        .map(|path| match path.as_os_str().is_empty() {
            true => Path::new("."),
            false => path,
        });
    let considered = match folders {
        Folders::Made => usize::MAX,
        Folders::Needed => 1,
    };
    let existing = above.take(considered).find(|folder| folder.exists());
    existing
        .map(Path::to_owned)
        .ok_or_else(|| io::ErrorKind::NotFound.into())
}
