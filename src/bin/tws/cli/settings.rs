//! The settings: the flags of all layers, checked against each other, as the types that the library and
//! the commands use. Nothing is opened.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::num::NonZeroUsize;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use log::LevelFilter;
use tws::access_log::{Format, LogDestination, LogExclusion};
use tws::site::{
    AuthRequirement, AuthRule, HostName, Listing, Origin, Site, SourceLocation, SpaRule, Store,
};
use tws::{Config, Endpoint, ProxyProtocol, Rate};

use super::acme::{AcmeDirectory, AcmeRequest};
use super::acme_settings::AcmeSettings;
use super::exit::{ConfigError, Exit};
use super::exposure::{
    Authentication, HostCheck, admin_endpoint, check_admin, check_changes, host_check,
};
use super::flags::{Flags, RequestArgs, usage, usage_of};
use super::key_locations::KeyLocations;
use super::layers::{ConfigLayers, SiteFileSource, either};
use super::raw_args::{InheritedEndpoints, RawArgs};
use super::values::{BasePath, ExitCondition, HostPattern};

const HTTP_PORT: u16 = 80;
const HTTPS_PORT: u16 = 443;

/// Stands for the users of `--auth` among the files of passwords, if there is no `--auth-file`.
pub(crate) const USERS_OF_FLAG: &str = "--auth";

/// The settings of a process.
#[derive(Debug)]
#[cfg_attr(
    not(feature = "acme"),
    expect(
        dead_code,
        reason = "the action of `tws acme` is read only with the feature acme"
    )
)]
pub(crate) struct Settings {
    /// The folder or file to serve.
    pub(crate) root: PathBuf,
    /// Whether a setting names it; the default depends on the current folder.
    pub(crate) is_root_named: bool,
    pub(crate) config: Config,
    pub(crate) site_file: SiteFileSource,
    /// Whether there is a settings file with settings.
    pub(crate) has_file_settings: bool,
    /// The rules of the settings file, overridden by flags and variables.
    pub(crate) site: Site,
    /// The origins whose pages may read all responses.
    pub(crate) cors: Vec<Origin>,
    /// The file of passwords for all paths of all hosts.
    pub(crate) auth_file: Option<PathBuf>,
    /// How many wrong passwords a client may send.
    #[cfg_attr(not(feature = "auth"), expect(dead_code))]
    pub(crate) auth_failures: Option<Rate>,
    /// The users of `--auth`, as lines of such a file: the passwords are hashed.
    pub(crate) auth_lines: Vec<String>,
    /// The path below which the site is served, without that of `--random-path`.
    pub(crate) base: BasePath,
    pub(crate) random_path: RandomPath,
    pub(crate) port_choice: PortChoice,
    /// Where to listen. The addresses of `config` are those of inherited sockets, if there are any.
    pub(crate) requested_addresses: Vec<Endpoint>,
    /// Whether a setting names these addresses.
    pub(crate) is_bind_named: bool,
    pub(crate) exit_after: Vec<ExitCondition>,
    /// The host names that are served in addition to local ones, as given.
    pub(crate) host_patterns: Vec<HostPattern>,
    pub(crate) rate_limit: Option<Rate>,
    pub(crate) rate_limit_connection: Option<Rate>,
    pub(crate) encryption: Encryption,
    /// The listener whose plain HTTP requests are redirected to HTTPS.
    pub(crate) redirect_http: Option<HttpRedirect>,
    pub(crate) slow_log: Option<Duration>,
    /// The store of the users of the sample application.
    pub(crate) users: Option<Store>,
    pub(crate) state_dir: Option<PathBuf>,
    pub(crate) sandbox: Sandboxing,
    /// A name or a number.
    pub(crate) user: Option<String>,
    /// A name or a number.
    pub(crate) group: Option<String>,
    pub(crate) log_format: Format,
    pub(crate) log_exclusions: Vec<LogExclusion>,
    pub(crate) log_addresses: LogAddresses,
    pub(crate) access_log: Vec<LogDestination>,
    pub(crate) banner: Banner,
    pub(crate) qr: QrOutput,
    pub(crate) browser: BrowserLaunch,
    pub(crate) view: View,
    /// How long requests are still accepted after a shutdown is announced.
    pub(crate) drain_delay: Duration,
    /// The endpoint of the admin listener.
    pub(crate) admin: Option<Endpoint>,
    /// The level of the diagnostics unless `RUST_LOG` sets it.
    pub(crate) log_level: LevelFilter,
    /// Where the settings file sets what flags set.
    pub(crate) key_locations: KeyLocations,
    /// Allowed, but probably not intended; one line each.
    pub(crate) warnings: Vec<String>,
    /// The request of `tws explain`.
    pub(crate) request: Option<RequestArgs>,
    /// The action of `tws acme`.
    pub(crate) acme_request: Option<AcmeRequest>,
    /// That of `--acme-directory`, which `tws acme` takes without `--acme`, too.
    pub(crate) acme_directory: Option<AcmeDirectory>,
}

/// Whether TLS is used, and with which certificates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Encryption {
    Off,
    /// A certificate generated at startup, for the names of this machine.
    SelfSigned,
    /// The files of the certificates and of their keys.
    Certificates(Vec<(PathBuf, PathBuf)>),
    /// Certificates that are obtained automatically.
    Acme(AcmeSettings),
}

impl Encryption {
    pub(crate) fn acme(&self) -> Option<&AcmeSettings> {
        match self {
            Self::Acme(acme) => Some(acme),
            _ => None,
        }
    }
}

/// The listener that redirects to HTTPS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HttpRedirect {
    /// At this port.
    Port(u16),
    /// At port 80 if nothing prevents that: automatic certificates imply it.
    IfPossible,
}

impl HttpRedirect {
    pub(crate) fn port(self) -> u16 {
        match self {
            Self::Port(port) => port,
            Self::IfPossible => HTTP_PORT,
        }
    }
}

/// Whether the site is served below a path that cannot be guessed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RandomPath {
    Off,
    /// Chosen at the start of the process.
    Chosen,
}

/// Whether another port may be used if that of the settings is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PortChoice {
    /// A setting names the port.
    Fixed,
    /// It is the default one.
    NextFree,
}

/// Whether the process restricts its access to the file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sandboxing {
    IfPossible,
    Off,
}

/// How the access log shows the addresses of clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogAddresses {
    Full,
    Anonymized,
}

/// Whether the startup banner is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Banner {
    Shown,
    Silent,
}

/// What the terminal shows while the server runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum View {
    /// The banner, the access log and the diagnostics, line by line.
    Log,
    /// The full-screen view of `--tui`.
    Tui,
}

/// Whether the banner contains a QR code of the URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum QrOutput {
    Shown,
    Hidden,
}

/// Whether a browser is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BrowserLaunch {
    AtStartup,
    Never,
}

impl Settings {
    /// Reads the settings from arguments, variables and the settings file.
    ///
    /// # Errors
    ///
    /// [`Exit::Print`] for `--help` and `--version`, [`Exit::Errors`] for wrong settings.
    pub(crate) fn read(args: &RawArgs) -> Result<Self, Exit> {
        match Self::read_lenient(args)? {
            (settings, errors) if errors.is_empty() => Ok(settings),
            (_, errors) => Err(Exit::Errors(errors)),
        }
    }

    /// Reads the settings, leaving out those that are wrong by themselves. Returns the errors of these.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read), if no settings remain.
    pub(crate) fn read_lenient(args: &RawArgs) -> Result<(Self, Vec<ConfigError>), Exit> {
        let mut layers = ConfigLayers::read(args)?;
        let is_typed =
            |arg: &OsString| arg.as_bytes().starts_with(b"--auth=") || arg.as_bytes() == b"--auth";
        if args.args.iter().any(is_typed) {
            layers.warnings.push(
                "--auth: other users of this machine can read the password in the list of processes \
                 (ps); set TWS_AUTH instead, or use --auth-file"
                    .to_owned(),
            );
        }
        let errors = std::mem::take(&mut layers.errors);
        let key_locations = std::mem::take(&mut layers.key_locations);
        match Self::from_layers(layers, &args.inherited) {
            Ok(settings) => {
                let settings = Self {
                    key_locations,
                    ..settings
                };
                Ok((settings, errors))
            }
            Err(Exit::Errors(more)) => {
                let more = more.into_iter().map(|error| key_locations.locate(error));
                Err(Exit::Errors(errors.into_iter().chain(more).collect()))
            }
            Err(other) => Err(other),
        }
    }

    /// Returns the default site and those of the hosts, each with its root.
    pub(crate) fn sites(&self) -> impl Iterator<Item = (PathBuf, &Site)> {
        let sites = std::iter::once(&self.site).chain(&self.site.hosts);
        sites.map(|site| {
            let root = site.root.as_deref();
            let root = root.map_or(self.root.clone(), |root| self.root.join(root));
            (root, site)
        })
    }

    /// Returns the roots of all sites.
    pub(crate) fn roots(&self) -> impl Iterator<Item = PathBuf> {
        self.sites().map(|(root, _)| root)
    }

    /// Returns the host names that are served in addition to local ones, each once: those given, those of
    /// the site, and those with automatic certificates.
    pub(crate) fn host_names(&self) -> Vec<HostName> {
        let given = self.host_patterns.iter().filter_map(HostPattern::name);
        let of_site = self.site.hosts.iter().flat_map(|host| &host.names);
        let certified = self.encryption.acme().map_or(&[][..], |acme| &acme.names);
        let certified = certified.iter().filter_map(|name| name.parse().ok());
        let mut names: Vec<HostName> = Vec::new();
        for name in given.chain(of_site).cloned().chain(certified) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names
    }

    /// Returns whether the host names in requests are checked.
    pub(crate) fn host_check(&self) -> HostCheck {
        host_check(&self.host_patterns, &self.config)
    }

    /// Returns whether passwords are required for all paths, except for those that rules make public to
    /// read.
    pub(crate) fn authentication(&self) -> Authentication {
        if self.site.auth.iter().any(AuthRule::protects_everything) {
            Authentication::Required
        } else {
            Authentication::None
        }
    }

    /// Returns whether there are users whose passwords open all paths.
    pub(crate) fn has_users_for_all(&self) -> bool {
        self.auth_file.is_some() || !self.auth_lines.is_empty()
    }

    /// Returns the files of passwords that the rules of all hosts name, and [`USERS_OF_FLAG`] if users
    /// are given without a file.
    pub(crate) fn password_files(&self) -> BTreeSet<PathBuf> {
        let hosts = self.site.hosts.iter().flat_map(|host| &host.auth);
        let rules = self.site.auth.iter().chain(hosts);
        rules
            .filter_map(|rule| match &rule.requirement {
                AuthRequirement::Password(file) => Some(file.clone()),
                AuthRequirement::Public => None,
            })
            .collect()
    }

    /// Returns the beginning of messages about a file of passwords: where it is named.
    #[cfg(feature = "auth")]
    pub(crate) fn location_of_passwords(&self, path: &Path) -> String {
        let hosts = self.site.hosts.iter().flat_map(|host| &host.auth);
        let mut rules = self.site.auth.iter().chain(hosts);
        let rule = rules.find(
            |rule| matches!(&rule.requirement, AuthRequirement::Password(file) if file == path),
        );
        match rule.map(AuthRule::location) {
            Some(SourceLocation::Unknown) | None => self.key_locations.prefix("auth-file"),
            Some(location) => location.prefix(),
        }
    }

    fn from_layers(layers: ConfigLayers, inherited: &InheritedEndpoints) -> Result<Self, Exit> {
        let ConfigLayers {
            flags,
            mut site,
            root,
            ..
        } = layers;
        override_site(&mut site, &flags)?;
        if site.listing == Listing::Auto {
            site.listing = if layers.root_is_explicit && !has_index(&site, &root) {
                Listing::On
            } else {
                Listing::Off
            };
        }
        let users = flags
            .store()?
            .or(site.users.as_ref().map(|users| users.store.clone()));
        let mut warnings = layers.warnings;
        let acme = AcmeSettings::of(&flags, &site, &mut warnings)?;
        let auth_lines = auth_lines(&flags)?;
        let is_default_port = flags.port.is_none() && flags.path_and_port()?.1.is_none();
        let has_own_ports = flags.bind.iter().flat_map(|addresses| &addresses.0);
        let has_own_ports = has_own_ports
            .clone()
            .any(|it| matches!(it, Endpoint::Socket(_)));
        let port_choice = if is_default_port && !has_own_ports {
            PortChoice::NextFree
        } else {
            PortChoice::Fixed
        };
        let mut config = config(&flags)?;
        let redirect_http = match &acme {
            Some(_) => imply_public_ports(&mut config, &flags)?,
            None => flags.redirect_http.map(HttpRedirect::Port),
        };
        let encryption = encryption(&flags, acme)?;
        let requested_addresses = config.addresses.clone();
        if let Some(endpoints) = &inherited.server {
            config.addresses.clone_from(endpoints);
        }
        let changing = ChangingFlags {
            upload: flags.upload,
            manage: flags.manage,
        };
        let origins = flags.cors.iter().filter_map(|origin| {
            let reason = origin.reason_against()?;
            Some(format!(
                "--cors {}: matches no origin: {reason}",
                origin.as_str()
            ))
        });
        let site_warnings: Vec<String> = site.warnings().into_iter().chain(origins).collect();
        let settings = Self {
            config,
            site_file: layers.site_file,
            has_file_settings: layers.has_file_settings,
            is_root_named: layers.root_is_explicit,
            root,
            users,
            state_dir: flags.state_dir.clone(),
            sandbox: if flags.no_sandbox {
                Sandboxing::Off
            } else {
                Sandboxing::IfPossible
            },
            access_log: flags.destinations()?,
            log_format: flags.log_format,
            log_exclusions: flags.log_exclude,
            log_addresses: if flags.log_anonymize {
                LogAddresses::Anonymized
            } else {
                LogAddresses::Full
            },
            banner: if flags.quiet || flags.tui {
                Banner::Silent
            } else {
                Banner::Shown
            },
            view: if flags.tui { View::Tui } else { View::Log },
            drain_delay: Duration::from_secs(flags.drain_delay.unwrap_or(0).into()),
            qr: if flags.qr {
                QrOutput::Shown
            } else {
                QrOutput::Hidden
            },
            browser: if flags.open {
                BrowserLaunch::AtStartup
            } else {
                BrowserLaunch::Never
            },
            log_level: match (flags.quiet, flags.verbose) {
                (true, _) => LevelFilter::Error,
                (false, 0) => LevelFilter::Warn,
                (false, 1) => LevelFilter::Info,
                (false, 2) => LevelFilter::Debug,
                (false, _) => LevelFilter::Trace,
            },
            admin: flags.admin.map(|admin| admin_endpoint(inherited, admin)),
            cors: flags.cors,
            auth_file: flags.auth_file,
            auth_failures: flags.auth_failures,
            auth_lines,
            base: flags.base.unwrap_or_default(),
            random_path: if flags.random_path {
                RandomPath::Chosen
            } else {
                RandomPath::Off
            },
            port_choice,
            requested_addresses,
            is_bind_named: !flags.bind.is_empty(),
            exit_after: flags.exit_after,
            host_patterns: flags.host_name,
            encryption,
            redirect_http,
            rate_limit: flags.rate_limit,
            rate_limit_connection: flags.rate_limit_connection,
            slow_log: flags
                .slow_log
                .map(|milliseconds| Duration::from_millis(milliseconds.into())),
            request: flags.request,
            acme_request: flags.acme_request,
            acme_directory: flags.acme_directory,
            key_locations: layers.key_locations,
            user: flags.user,
            group: flags.group,
            warnings: [warnings, site_warnings].concat(),
            site,
        };
        settings.check_exposure(changing)?;
        Ok(settings)
    }

    /// Rejects an exposed admin listener, and exposed uploads and changes of files without
    /// authentication. The flags decide whether the error is one of usage or of the settings file.
    fn check_exposure(&self, flags: ChangingFlags) -> Result<(), Exit> {
        let authentication = self.authentication();
        if let Some(admin) = &self.admin {
            let of_admin = if self.has_users_for_all() {
                Authentication::Required
            } else {
                Authentication::None
            };
            check_admin(admin, of_admin).map_err(usage)?;
        }
        let sites = || std::iter::once(&self.site).chain(&self.site.hosts);
        let features = [
            (
                ["--upload", "[upload]"],
                "upload",
                sites().find(|site| site.upload.is_some()),
                flags.upload,
            ),
            (
                ["--manage", "[manage]"],
                "manage",
                sites().find(|site| site.manage.is_some()),
                flags.manage,
            ),
        ];
        for ([flag, table], key, site, given) in features {
            if let Some(site) = site {
                let check = |feature| check_changes(feature, &self.config, authentication);
                let prefix = || site.location_of(key).prefix();
                match given {
                    Some(_) => check(flag).map_err(usage)?,
                    None => check(table).map_err(|reason| Exit::failure(prefix() + &reason))?,
                }
            }
        }
        Ok(())
    }
}

/// The flags that turn on what changes files.
#[derive(Clone, Copy)]
struct ChangingFlags {
    upload: Option<bool>,
    manage: Option<bool>,
}

/// Overrides the rules of the settings file with the flags.
fn override_site(site: &mut Site, flags: &Flags) -> Result<(), clap::Error> {
    override_host(site, flags);
    for host in &mut site.hosts {
        override_host(host, flags);
    }
    if !flags.index.is_empty() {
        site.index.clone_from(&flags.index);
    }
    if let Some(page) = &flags.spa {
        site.spa = vec![SpaRule::of_site(
            page.clone(),
            SourceLocation::Flag("--spa"),
        )];
    }
    if flags.upload == Some(true) {
        site.upload.get_or_insert_default();
    }
    let users_of_flag = (!flags.users_with_passwords()?.is_empty()).then(|| USERS_OF_FLAG.into());
    if let Some(file) = flags.auth_file.clone().or(users_of_flag) {
        // The rules of the file come after it and decide about their paths.
        site.auth.insert(0, AuthRule::for_all(file));
    }
    let mut sites = std::iter::once(&*site).chain(&site.hosts);
    if flags.auth_failures.is_some() && sites.all(|site| site.auth.is_empty()) {
        let text = "--auth-failures: no password is required; add --auth or --auth-file";
        return Err(usage(text.to_owned()));
    }
    if flags.manage == Some(true) {
        site.manage.get_or_insert_default();
    }
    match &mut site.upload {
        Some(upload) => {
            upload.max = flags.upload_max.or(upload.max);
            upload.overwrite = flags.upload_overwrite.unwrap_or(upload.overwrite);
            upload.parents = flags.upload_parents.unwrap_or(upload.parents);
        }
        None if flags.upload.is_none()
            && (flags.upload_max.is_some()
                || flags.upload_overwrite == Some(true)
                || flags.upload_parents == Some(true)) =>
        {
            return Err(usage(
                "--upload-max, --upload-overwrite and --upload-parents: uploads are off; add --upload"
                    .to_owned(),
            ));
        }
        None => {}
    }
    match (&mut site.manage, flags.manage_delete) {
        (Some(manage), deletion) => manage.delete = deletion.unwrap_or(manage.delete),
        (None, Some(_)) if flags.manage.is_none() => {
            return Err(usage(
                "--manage-delete: changes of files are off; add --manage".to_owned(),
            ));
        }
        (None, _) => {}
    }
    Ok(())
}

/// Overrides the rules that flags set for every host.
fn override_host(site: &mut Site, flags: &Flags) {
    site.listing = flags.listing.unwrap_or(site.listing);
    site.readme = flags.readme.unwrap_or(site.readme);
    site.archive = flags.archive.unwrap_or(site.archive);
    site.archive_max = flags.archive_max.or(site.archive_max);
    site.compress = flags.compress.unwrap_or(site.compress);
    site.etag = flags.etag.unwrap_or(site.etag);
    site.symlinks = flags.symlinks.unwrap_or(site.symlinks);
    site.hidden = flags.hidden.unwrap_or(site.hidden);
    site.keep_previous = flags.keep_previous.or(site.keep_previous);
    if !flags.cors.is_empty() {
        site.cors.clear();
    }
    if flags.upload == Some(false) {
        site.upload = None;
    }
    if flags.manage == Some(false) {
        site.manage = None;
    }
    site.headers.extend(flags.headers.iter().cloned());
}

fn has_index(site: &Site, root: &Path) -> bool {
    if site.index.is_empty() {
        return root.join("index.html").is_file();
    }
    let mut names = site.index.iter();
    names.any(|name| root.join(name.as_str()).is_file())
}

/// Listens on all addresses and on port 443, as the clients of public sites expect, unless the flags say
/// otherwise. Returns the listener of the redirect.
fn imply_public_ports(
    config: &mut Config,
    flags: &Flags,
) -> Result<Option<HttpRedirect>, clap::Error> {
    let (_, port) = flags.path_and_port()?;
    let mut addresses = flags.bind.iter().flat_map(|addresses| &addresses.0);
    let has_port = port.or(flags.port).is_some()
        || addresses.any(|endpoint| matches!(endpoint, Endpoint::Socket(_)));
    if flags.bind.is_empty() {
        config.addresses = unspecified_addresses();
    }
    if !has_port {
        config.port = HTTPS_PORT;
    }
    let given = flags.redirect_http.map(HttpRedirect::Port);
    Ok(given.or((!has_port).then_some(HttpRedirect::IfPossible)))
}

/// Returns the unspecified addresses of the protocols that this machine speaks.
fn unspecified_addresses() -> Vec<Endpoint> {
    let v4 = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    let v6 = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
    let is_usable = |ip: &IpAddr| ip.is_ipv4() || UdpSocket::bind((*ip, 0)).is_ok();
    let usable = [v4, v6].into_iter().filter(is_usable);
    usable.map(Endpoint::Address).collect()
}

fn encryption(flags: &Flags, acme: Option<AcmeSettings>) -> Result<Encryption, clap::Error> {
    if let Some(acme) = acme {
        if flags.tls_self_signed || !flags.tls_cert.is_empty() || !flags.tls_key.is_empty() {
            let text = "--acme excludes --tls-cert, --tls-key and --tls-self-signed; give one or the \
                        other";
            return Err(usage(text.to_owned()));
        }
        let mut given = flags.bind.iter().flat_map(|addresses| &addresses.0);
        if !flags.bind.is_empty() && given.all(|endpoint| endpoint.ip().is_none()) {
            let text = "--acme: --bind names no IP address, and Unix sockets have no TLS; add one, such \
                        as --bind 0.0.0.0";
            return Err(usage(text.to_owned()));
        }
        return Ok(Encryption::Acme(acme));
    }
    let (certificates, keys) = (&flags.tls_cert, &flags.tls_key);
    let encryption = match (certificates.len(), keys.len(), flags.tls_self_signed) {
        (0, 0, true) => Encryption::SelfSigned,
        (0, 0, false) => Encryption::Off,
        (_, _, true) => {
            let text = "--tls-self-signed excludes --tls-cert and --tls-key; give one or the other";
            return Err(usage(text.to_owned()));
        }
        (1.., 0, false) => {
            let pair = |path: &PathBuf| (path.clone(), path.clone());
            Encryption::Certificates(certificates.iter().map(pair).collect())
        }
        (certificate_count, key_count, false) if certificate_count == key_count => {
            let pairs = certificates.iter().cloned().zip(keys.iter().cloned());
            Encryption::Certificates(pairs.collect())
        }
        (certificate_count, key_count, false) => {
            return Err(usage(format!(
                "{certificate_count} --tls-cert and {key_count} --tls-key given; give one key for each \
                 certificate in the same order, or none if each key is in its certificate's file"
            )));
        }
    };
    match (&encryption, flags.redirect_http) {
        (Encryption::Off, Some(_)) => Err(usage(
            "--redirect-http: HTTPS is off; add --acme, --tls-cert or --tls-self-signed".to_owned(),
        )),
        _ => Ok(encryption),
    }
}

/// Hashes the passwords of `--auth`.
#[cfg(feature = "auth")]
fn auth_lines(flags: &Flags) -> Result<Vec<String>, clap::Error> {
    let users = flags.users_with_passwords()?;
    let lines = users.into_iter().map(|(user, password)| {
        let line = tws::Credentials::line(user, password);
        line.map_err(|error| usage_of("--auth", error.to_string()))
    });
    lines.collect()
}

#[cfg(not(feature = "auth"))]
fn auth_lines(flags: &Flags) -> Result<Vec<String>, clap::Error> {
    if flags.auth.is_empty() {
        return Ok(Vec::new());
    }
    let reason = "this tws was built without the feature auth; rebuild it with --features auth";
    Err(usage_of("--auth", reason.to_owned()))
}

/// Returns the configuration of the library.
fn config(flags: &Flags) -> Result<Config, clap::Error> {
    let mut config = Config::default();
    let (_, port) = flags.path_and_port()?;
    if let Some(port) = either("PORT", port, "--port", flags.port)? {
        config.port = port;
    }
    if !flags.bind.is_empty() {
        config.addresses.clear();
        for address in flags.bind.iter().flat_map(|addresses| &addresses.0) {
            if !config.addresses.contains(address) {
                config.addresses.push(address.clone());
            }
        }
    }
    if let Some(mode) = flags.unix_mode {
        config.unix_mode = mode;
    }
    if flags.proxy_protocol {
        config.proxy_protocol = ProxyProtocol::Required;
    }
    config.trusted_proxies = flags.trusted_proxy.iter().cloned().collect();
    if flags.forwarded_field.is_some() && flags.trusted_proxy.is_empty() {
        return Err(usage(
            "--forwarded-field: no proxy is trusted; add --trusted-proxy".to_owned(),
        ));
    }
    config.forwarded_field = flags.forwarded_field.unwrap_or_default();
    config.http2 = flags.http2.unwrap_or_default();
    config.workers = flags.workers;
    if let Some(seconds) = flags.keep_alive_timeout {
        let keep_alive = Duration::from_secs(seconds.into());
        config.timeouts.keep_alive = keep_alive;
        config.timeouts.keep_alive_h2 = keep_alive;
    }
    if let Some(seconds) = flags.h2_keep_alive {
        config.timeouts.keep_alive_h2 = Duration::from_secs(seconds.into());
    }
    if let Some(streams) = flags.h2_streams {
        config.limits.h2_max_streams = streams;
    }
    if let Some(seconds) = flags.drain_timeout {
        config.timeouts.drain = Duration::from_secs(seconds.into());
    }
    config.limits.keep_alive_max = flags.keep_alive_max;
    config.limits.max_connections = flags.max_connections.map(NonZeroUsize::get);
    let per_client = flags.max_connections_per_client;
    config.limits.max_connections_per_client = per_client.map(NonZeroUsize::get);
    config.limits.bandwidth_per_client = flags.bandwidth;
    config.limits.bandwidth_per_connection = flags.bandwidth_connection;
    if let Some(bytes) = flags.min_rate {
        config.limits.min_rate_bytes_per_second = bytes;
    }
    Ok(config)
}

#[cfg(test)]
mod tests;
