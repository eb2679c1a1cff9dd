//! `tws check`: checks everything that serving needs, without serving: no port is bound, no file is
//! created, no database is opened. Reports all errors, not only the first.

use std::ffi::OsString;
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
use tws::{Endpoint, Error, Http2, Server};

use crate::cli::{Encryption, Exit, HostCheck, RawArgs, Settings, SiteFileSource};
#[cfg(feature = "acme")]
use crate::cli::{HttpRedirect, is_exposed};
use crate::confinement::privileges::{self, RunAs};
#[cfg(feature = "acme")]
use crate::services::acme;
use crate::services::app::ServerFiles;
use crate::services::tls::Tls;
use crate::services::{app, https_redirect, tls};
use crate::terminal::stdio::{self, one_line};
use crate::users;

/// The results of the checks, one line each.
#[derive(Default)]
struct CheckReport {
    text: String,
    errors: usize,
}

impl CheckReport {
    fn ok(&mut self, text: impl fmt::Display) {
        self.line("ok", text);
    }

    /// Adds what is allowed, but probably not intended.
    fn warn(&mut self, text: impl fmt::Display) {
        self.line("warning", text);
    }

    fn error(&mut self, text: impl fmt::Display) {
        self.errors += 1;
        self.line("error", text);
    }

    fn result<T>(&mut self, text: impl fmt::Display, result: Result<T, impl fmt::Display>) {
        match result {
            Ok(_) => self.ok(text),
            Err(error) => self.error(error),
        }
    }

    fn line(&mut self, kind: &str, text: impl fmt::Display) {
        let line = one_line(&text.to_string());
        self.text += &format!("{kind}: {line}\n");
    }
}

/// Checks the settings and what they need. Prints the report and returns the exit code.
///
/// # Errors
///
/// [`Exit::Print`] for `--help`.
pub(crate) fn run(args: &RawArgs) -> Result<ExitCode, Exit> {
    let mut report = CheckReport::default();
    let (settings, errors) = match Settings::read_lenient(args) {
        Ok((settings, errors)) => (Some(settings), errors),
        Err(Exit::Errors(errors)) => (None, errors),
        Err(help @ Exit::Print(_)) => return Err(help),
    };
    for error in &errors {
        report.error(error.text());
    }
    if let Some(settings) = &settings {
        if errors.is_empty() {
            report.ok(settings_source(settings));
        }
        for warning in &settings.warnings {
            report.warn(warning);
        }
        // In the order in which serving needs them.
        check_process(settings, &mut report);
        check_files(settings, &args.args, &mut report);
        for check in [
            check_passwords,
            check_certificates,
            check_acme,
            check_users,
            check_limits,
            check_endpoints,
            check_protocols,
            check_logs,
        ] {
            check(settings, &mut report);
        }
    }
    stdio::print_lossy(&report.text);
    match report.errors {
        0 => Ok(ExitCode::SUCCESS),
        _ => Ok(ExitCode::FAILURE),
    }
}

fn settings_source(settings: &Settings) -> String {
    let path = match &settings.site_file {
        SiteFileSource::Path(path) => path.clone(),
        SiteFileSource::InRoot => settings.root.join(SITE_FILE),
        SiteFileSource::None => return "settings: no file is read".to_owned(),
    };
    if path.exists() {
        format!("settings: read from {}", path.display())
    } else {
        format!("settings: {} does not exist", path.display())
    }
}

fn check_process(settings: &Settings, report: &mut CheckReport) {
    let (user, group) = (settings.user.as_deref(), settings.group.as_deref());
    if user.is_none() && group.is_none() {
        return;
    }
    match RunAs::find(user, group) {
        Ok(_) => {
            report.ok("--user and --group exist");
            if privileges::is_root() {
                report.warn("file permissions below are checked as root, not as --user");
            }
        }
        Err(error) => report.error(error),
    }
}

/// Checks that each root can be read, and that the files which the rules name exist.
fn check_files(settings: &Settings, typed: &[OsString], report: &mut CheckReport) {
    let mut all_readable = true;
    for (root, site) in settings.sites() {
        let read = match fs::metadata(&root) {
            Ok(metadata) if metadata.is_dir() => fs::read_dir(&root).map(drop),
            Ok(_) => fs::File::open(&root).map(drop),
            Err(error) => Err(error),
        };
        all_readable &= read.is_ok();
        let read = read.map_err(|source| {
            let location = match &site.root {
                Some(_) => site.location_of("root").prefix(),
                None => settings.key_locations.prefix("directory"),
            };
            let error = Error::path("serve", &root, source).at(location);
            Exit::with_advice(&error, &root, typed)
        });
        report.result(format_args!("{} can be served", root.display()), read);
    }
    if !all_readable {
        return;
    }
    if let Err(error) = app::check_upload_roots(settings) {
        report.error(error);
    }
    match app::files(settings, &ServerFiles::of(settings), None) {
        Ok(files) => {
            for missing in files.missing_files() {
                report.warn(format_args!("{missing} is not in the root or not readable"));
            }
            for sidecar in files.invalid_sidecars() {
                report.warn(sidecar);
            }
            for warning in app::server_files_in_roots(settings) {
                report.warn(warning);
            }
        }
        Err(error) => report.error(error),
    }
}

fn check_passwords(settings: &Settings, report: &mut CheckReport) {
    for path in settings.password_files() {
        let text = format!("passwords are read from {}", path.display());
        report.result(text, app::check_passwords(settings, &path));
    }
}

fn check_certificates(settings: &Settings, report: &mut CheckReport) {
    // Each pair by itself, so that an error in one does not hide those of others.
    let each = match &settings.encryption {
        Encryption::Off | Encryption::Acme(_) => return,
        Encryption::SelfSigned => vec![Encryption::SelfSigned],
        Encryption::Certificates(pairs) => pairs
            .iter()
            .map(|pair| Encryption::Certificates(vec![pair.clone()]))
            .collect(),
    };
    for encryption in &each {
        match tls::open(encryption, &[]) {
            Ok(tls) => {
                for line in tls.as_ref().map(Tls::describe).unwrap_or_default() {
                    report.ok(format_args!("certificate: {line}"));
                }
                for warning in tls.as_ref().map(Tls::warnings).unwrap_or_default() {
                    report.warn(&warning);
                }
            }
            Err(error) => report.error(error.at(settings.key_locations.prefix("tls-cert"))),
        }
    }
}

/// Checks what automatic certificates need. The certificate authority is not contacted.
#[cfg(feature = "acme")]
fn check_acme(settings: &Settings, report: &mut CheckReport) {
    let Some(acme) = settings.encryption.acme() else {
        return;
    };
    report.ok(format_args!(
        "--acme: certificates for {} are obtained from {}",
        acme.names.join(", "),
        acme.directory.url()
    ));
    match acme::store(settings, acme) {
        Ok((_, ca)) => {
            let file = ca.folder().join("account.key");
            let text = format!(
                "keys and certificates are stored in {}",
                ca.folder().display()
            );
            let writable = writable(&file, ParentFolders::Created, "store certificates in");
            let names: &[String] = if writable.is_ok() { &acme.names } else { &[] };
            report.result(text, writable);
            for status in names.iter().map(|name| acme::status(&ca.identity(name))) {
                if let Some(error) = status.last_error {
                    report.warn(format_args!(
                        "--acme {}: the last attempt has failed: {}",
                        status.name, error.message
                    ));
                }
            }
        }
        Err(error) => report.error(error),
    }
    if let Some(path) = &acme.ca {
        let text = format!("the root certificate is read from {}", path.display());
        report.result(text, acme::read_roots(acme));
    }
    if let Some(path) = &acme.external_account {
        let text = format!("the external account is read from {}", path.display());
        report.result(text, acme::read_external_account(acme));
    }
    if acme.directory.is_public() {
        check_reachability(settings, report);
    }
}

/// Warns if a certificate authority on the internet cannot connect, as far as the settings tell. Another
/// machine may forward the connections.
#[cfg(feature = "acme")]
fn check_reachability(settings: &Settings, report: &mut CheckReport) {
    let config = &settings.config;
    let is_at = |endpoint: &Endpoint, port: u16| match endpoint {
        Endpoint::Socket(address) => address.port() == port,
        Endpoint::Address(_) => config.port == port,
        Endpoint::Unix(_) => false,
    };
    let is_https = config.addresses.iter().any(|endpoint| is_at(endpoint, 443));
    let redirect = settings.redirect_http.map(HttpRedirect::port);
    if !is_https && redirect != Some(80) {
        report.warn(
            "--acme: the certificate authority connects to port 443 or 80, and tws listens on neither; \
             omit --port, add --redirect-http, or have one of these ports forwarded here",
        );
    }
    let mut addresses = config.addresses.iter().filter_map(Endpoint::ip);
    if !addresses.any(is_exposed) {
        report.warn(
            "--acme: the certificate authority connects from the internet, and tws listens on loopback \
             addresses only; omit --bind, or have connections forwarded here",
        );
    }
}

#[cfg(not(feature = "acme"))]
fn check_acme(settings: &Settings, report: &mut CheckReport) {
    if let Err(error) = crate::services::acme::open(settings, None) {
        report.error(error);
    }
}

fn check_users(settings: &Settings, report: &mut CheckReport) {
    match users::locate(settings) {
        Ok(None) => {}
        Ok(Some(Store::Sqlite(path))) => {
            let text = format!("users are stored in {}", path.display());
            report.result(
                text,
                writable(&path, ParentFolders::Created, "store users in"),
            );
        }
        Ok(Some(store)) => report.ok(format_args!(
            "users are stored in {store}; the database was not contacted"
        )),
        Err(error) => report.error(error),
    }
}

fn check_limits(settings: &Settings, report: &mut CheckReport) {
    let agree = Server::check(&settings.config);
    report.result("the limits are consistent", agree);
}

/// Checks that the servers can listen on their endpoints, and that no endpoint is used twice.
fn check_endpoints(settings: &Settings, report: &mut CheckReport) {
    let config = &settings.config;
    let mut checked = Vec::new();
    for endpoint in config.addresses.iter().chain(&settings.admin) {
        match (endpoint, endpoint.ip()) {
            (Endpoint::Unix(path), _) => check_unix(path, report),
            (_, Some(ip)) if !checked.contains(&ip) => {
                checked.push(ip);
                check_address(ip, report);
            }
            _ => {}
        }
    }
    let names = settings.host_names();
    let names: String = names
        .iter()
        .map(|name| format!("{}, ", name.as_str()))
        .collect();
    match settings.host_check() {
        HostCheck::Off => {}
        HostCheck::Named | HostCheck::LocalOnly => report.ok(format_args!(
            "--host-name: other names than {names}localhost and this machine's get 421"
        )),
    }
    let mut servers = vec![
        ("--bind", bound_endpoints(&config.addresses, config.port)),
        (
            "--admin",
            bound_endpoints(settings.admin.as_slice(), config.port),
        ),
    ];
    if let Some(redirect) = settings.redirect_http {
        let port = redirect.port();
        let endpoints = https_redirect::endpoints(settings);
        if endpoints.is_empty() {
            report.error(https_redirect::no_tcp_addresses());
        }
        servers.push(("--redirect-http", bound_endpoints(&endpoints, port)));
    }
    let mut taken: Vec<(&str, Endpoint)> = Vec::new();
    for (flag, endpoints) in servers {
        for endpoint in endpoints {
            let user = taken.iter().find(|(_, other)| conflict(other, &endpoint));
            if let Some((other, _)) = user {
                report.error(format_args!(
                    "{flag}: {endpoint} is already used by {other}; choose another port or path"
                ));
            }
            taken.push((flag, endpoint));
        }
    }
}

/// Reports which protocols clients of `--bind` can use.
fn check_protocols(settings: &Settings, report: &mut CheckReport) {
    let is_encrypted = settings.encryption != Encryption::Off;
    report.ok(match (settings.config.http2, is_encrypted) {
        (Http2::Off, _) => "protocols: HTTP/1.1",
        (Http2::Tls, false) => "protocols: HTTP/1.1 (HTTP/2 with TLS, or with --http2=all)",
        (Http2::Tls | Http2::All, true) => "protocols: HTTP/1.1, and HTTP/2 if the client selects it",
        (Http2::All, false) => {
            "protocols: HTTP/1.1, and HTTP/2 if the client begins with it (browsers do only with TLS)"
        }
    });
}

fn check_address(ip: IpAddr, report: &mut CheckReport) {
    // A UDP port, which takes no TCP port from the running server.
    let bound = UdpSocket::bind((ip, 0));
    let bound = bound.map_err(|source| Error::Bind {
        address: (ip, 0).into(),
        source,
    });
    report.result(format_args!("{ip} is an address of this machine"), bound);
}

/// Returns the endpoints that one server binds, with their ports. `::` includes `0.0.0.0`, unless the
/// server has an IPv4 address with the same port.
fn bound_endpoints(endpoints: &[Endpoint], port: u16) -> Vec<Endpoint> {
    let with_port = |endpoint: &Endpoint| match endpoint {
        Endpoint::Address(ip) => Endpoint::Socket((*ip, port).into()),
        other => other.clone(),
    };
    let mut all: Vec<_> = endpoints.iter().map(with_port).collect();
    for at in 0..all.len() {
        let Endpoint::Socket(SocketAddr::V6(v6)) = all[at] else {
            continue;
        };
        let is_v4 = |other: &Endpoint| matches!(other, Endpoint::Socket(v4) if v4.is_ipv4() && v4.port() == v6.port());
        if v6.ip().is_unspecified() && !all.iter().any(is_v4) {
            let v4 = SocketAddr::from((Ipv4Addr::UNSPECIFIED, v6.port()));
            all.push(Endpoint::Socket(v4));
        }
    }
    all
}

/// Returns true if two sockets cannot listen on these endpoints at the same time.
fn conflict(one: &Endpoint, other: &Endpoint) -> bool {
    match (one, other) {
        (Endpoint::Socket(one), Endpoint::Socket(other)) => {
            let is_unspecified = one.ip().is_unspecified() || other.ip().is_unspecified();
            let same_port = one.port() == other.port() && one.port() != 0;
            same_port
                && (one.ip() == other.ip() || is_unspecified && one.is_ipv4() == other.is_ipv4())
        }
        (one, other) => one == other,
    }
}

/// Checks the path of a Unix socket: an existing file must be a socket, which would be replaced. The
/// length of the path is limited (unix(7)).
fn check_unix(path: &Path, report: &mut CheckReport) {
    let failed = |source| Error::Path {
        purpose: "listen on",
        path: path.to_owned(),
        source,
    };
    let bindable = match (
        unix::net::SocketAddr::from_pathname(path),
        fs::symlink_metadata(path),
    ) {
        (Err(_), _) => Err(failed(io::Error::other(
            "the socket path is too long (limit 107 bytes)",
        ))),
        (_, Ok(metadata)) if !metadata.file_type().is_socket() => Err(failed(io::Error::other(
            "the file exists and is not a socket; remove it or choose another path",
        ))),
        _ => writable(path, ParentFolders::Required, "listen on"),
    };
    report.result(
        format_args!("{} can be listened on", path.display()),
        bindable,
    );
}

fn check_logs(settings: &Settings, report: &mut CheckReport) {
    for destination in &settings.access_log {
        let LogDestination::File(path) = destination else {
            continue;
        };
        let text = format!("the access log goes to {}", path.display());
        let writable = writable(path, ParentFolders::Required, "write the access log to");
        let location = settings.key_locations.prefix("access-log");
        report.result(text, writable.map_err(|error| error.at(location)));
    }
}

/// Whether the folders above a file are created with it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ParentFolders {
    /// They are created if they do not exist.
    Created,
    /// The folder of the file must exist.
    Required,
}

/// Checks that a file can be written to, or created.
fn writable(path: &Path, parents: ParentFolders, purpose: &'static str) -> Result<(), Error> {
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
    let folder = existing_folder(path, parents).map_err(|source| failed(purpose, source))?;
    access(&folder, Access::WRITE_OK | Access::EXEC_OK).map_err(|_| {
        let text = format!("no write permission in {}", folder.display());
        failed("create", io::Error::other(text))
    })
}

fn existing_folder(path: &Path, parents: ParentFolders) -> io::Result<PathBuf> {
    let parents_of_path = path.ancestors().skip(1).map(|path| {
        if path.as_os_str().is_empty() {
            Path::new(".")
        } else {
            path
        }
    });
    let count = match parents {
        ParentFolders::Created => usize::MAX,
        ParentFolders::Required => 1,
    };
    let existing = parents_of_path.take(count).find(|folder| folder.exists());
    existing
        .map(Path::to_owned)
        .ok_or_else(|| io::ErrorKind::NotFound.into())
}
