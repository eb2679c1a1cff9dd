//! The command line, the environment and the file become settings in one fallible step. Nothing is
//! opened here but the file.
//!
//! `flags` is the one definition of what can be set, `layers` lets the three say it, `reference` shows
//! it to people. `task` knows the few first words that do something else than to serve, `exposure`
//! what may not be open to other machines, and `stop` what is said instead of serving.

mod exit;
mod exposure;
mod flags;
mod layers;
mod messages;
mod reference;
#[cfg(test)]
mod reference_table;
mod subcommand;

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use log::LevelFilter;
use tws::access_log::{Format, LogDestination};
use tws::site::{Listing, Origin, SITE_FILE, Site, Store};
use tws::{Config, Endpoint, ProxyProtocol, Rate};

pub(crate) use exit::{Mistake, Stop};
pub(crate) use exposure::{Authentication, is_exposed};
use exposure::{check_admin, check_uploads, most_exposed};
pub(crate) use flags::RequestWords;
use flags::{Flags, usage};
use layers::{Layers, either};
pub(crate) use layers::{Listening, SiteFile, Words};
pub(crate) use messages::advice_on_root;
pub(crate) use reference::{completions, man};
pub(crate) use subcommand::Task;

/// What is used.
#[derive(Debug)]
pub(crate) struct Settings {
    /// The folder or file to serve.
    pub(crate) root: PathBuf,
    pub(crate) config: Config,
    pub(crate) site_file: SiteFile,
    /// What the file says of the site, changed as flags and the environment say.
    pub(crate) site: Site,
    /// Who may read everything from other origins.
    pub(crate) cors: Option<Origin>,
    pub(crate) auth_file: Option<PathBuf>,
    pub(crate) rate_limit: Option<Rate>,
    pub(crate) rate_limit_connection: Option<Rate>,
    pub(crate) encryption: Encryption,
    /// Where who speaks plain HTTP is sent to HTTPS.
    pub(crate) redirect_http: Option<u16>,
    pub(crate) slow_log: Option<Duration>,
    /// Where users are kept, if anywhere.
    pub(crate) users: Option<Store>,
    pub(crate) state_dir: Option<PathBuf>,
    pub(crate) sandbox: Sandboxing,
    /// A name or a number.
    pub(crate) user: Option<String>,
    pub(crate) group: Option<String>,
    pub(crate) log_format: Format,
    pub(crate) access_log: Vec<LogDestination>,
    pub(crate) banner: Banner,
    pub(crate) qr: QrCode,
    pub(crate) browser: Browsing,
    /// Who has the terminal.
    pub(crate) view: View,
    /// How long everybody is served after the end is announced.
    pub(crate) drain_delay: Duration,
    /// Where operators ask.
    pub(crate) admin: Option<Endpoint>,
    /// How much diagnostics say if `RUST_LOG` does not decide.
    pub(crate) log_level: LevelFilter,
    /// What was no mistake and yet not meant, perhaps; a line each.
    pub(crate) warnings: Vec<String>,
    /// The request that is to be explained, if one is.
    pub(crate) request: Option<RequestWords>,
}

/// Changes the site as flags say, who come before its file.
fn change_site(site: &mut Site, flags: &Flags) -> Result<(), clap::Error> {
    change_each(site, flags);
    site.hosts
        .iter_mut()
        .for_each(|host| change_each(host, flags));
    if !flags.index.is_empty() {
        site.index.clone_from(&flags.index);
    }
    if flags.spa.is_some() {
        site.spa.clone_from(&flags.spa);
    }
    if flags.upload == Some(true) {
        site.upload.get_or_insert_default();
    }
    let Some(upload) = &mut site.upload else {
        let is_pointless = flags.upload_max.is_some() || flags.upload_overwrite == Some(true);
        return match is_pointless && flags.upload.is_none() {
            true => Err(usage(
                "--upload-max and --upload-overwrite: uploads are off; add --upload".to_owned(),
            )),
            false => Ok(()),
        };
    };
    upload.max = flags.upload_max.or(upload.max);
    upload.overwrite = flags.upload_overwrite.unwrap_or(upload.overwrite);
    Ok(())
}

/// Changes what holds for every host.
fn change_each(site: &mut Site, flags: &Flags) {
    site.listing = flags.listing.unwrap_or(site.listing);
    site.compress = flags.compress.unwrap_or(site.compress);
    site.etag = flags.etag.unwrap_or(site.etag);
    site.symlinks = flags.symlinks.unwrap_or(site.symlinks);
    site.hidden = flags.hidden.unwrap_or(site.hidden);
    if flags.cors.is_some() {
        site.cors = None;
    }
    if flags.upload == Some(false) {
        site.upload = None;
    }
    site.headers.extend(flags.headers.iter().cloned());
}

fn has_index(site: &Site, root: &Path) -> bool {
    let usual = || site.index.is_empty() && root.join("index.html").is_file();
    usual()
        || site
            .index
            .iter()
            .any(|name| root.join(name.as_str()).is_file())
}

/// Whether TLS is spoken, and as whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Encryption {
    Off,
    /// As whoever is asked for, with a certificate made on the spot.
    SelfSigned,
    /// Certificates with their keys.
    Certificates(Vec<(PathBuf, PathBuf)>),
}

fn encryption(flags: &Flags) -> Result<Encryption, clap::Error> {
    let (certificates, keys) = (&flags.tls_cert, &flags.tls_key);
    let encryption = match (certificates.len(), keys.len(), flags.tls_self_signed) {
        (0, 0, true) => Encryption::SelfSigned,
        (0, 0, false) => Encryption::Off,
        (_, _, true) => {
            let text = "--tls-self-signed excludes --tls-cert and --tls-key; give one or the other";
            return Err(usage(text.to_owned()));
        }
        (1.., 0, false) => {
            let both = |path: &PathBuf| (path.clone(), path.clone());
            Encryption::Certificates(certificates.iter().map(both).collect())
        }
        (own, others, false) if own == others => {
            let pairs = certificates.iter().cloned().zip(keys.iter().cloned());
            Encryption::Certificates(pairs.collect())
        }
        (own, others, false) => {
            return Err(usage(format!(
                "{own} --tls-cert and {others} --tls-key given; give one key for each certificate in the \
                 same order, or none if each key is in its certificate's file"
            )));
        }
    };
    match (&encryption, flags.redirect_http) {
        (Encryption::Off, Some(_)) => Err(usage(
            "--redirect-http: HTTPS is off; add --tls-cert or --tls-self-signed".to_owned(),
        )),
        _ => Ok(encryption),
    }
}

/// Whether the kernel shall restrict the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sandboxing {
    IfPossible,
    Off,
}

/// Whether the start is announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Banner {
    Shown,
    Silent,
}

/// What is seen in the terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum View {
    /// The announcement, the access log and diagnostics, one after the other.
    Lines,
    /// A picture of what goes on.
    Transfers,
}

/// Whether the announcement has an address for telephones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum QrCode {
    Shown,
    Absent,
}

/// Whether the browser is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Browsing {
    AtStart,
    Never,
}

impl Settings {
    /// From the words of a command line and an environment, and from the file.
    pub(crate) fn read(words: &Words) -> Result<Self, Stop> {
        match Self::examine(words)? {
            (settings, mistakes) if mistakes.is_empty() => Ok(settings),
            (_, mistakes) => Err(Stop::Mistakes(mistakes)),
        }
    }

    /// The same, for who wants to know all that is wrong: what is left when that is left out.
    pub(crate) fn examine(words: &Words) -> Result<(Self, Vec<Mistake>), Stop> {
        let mut layers = Layers::read(words)?;
        let mistakes = std::mem::take(&mut layers.mistakes);
        match Self::from_layers(layers, &words.listening) {
            Ok(settings) => Ok((settings, mistakes)),
            Err(Stop::Mistakes(more)) => {
                Err(Stop::Mistakes(mistakes.into_iter().chain(more).collect()))
            }
            Err(other) => Err(other),
        }
    }

    /// The default site and those of the hosts, each with the folder or file that it serves.
    pub(crate) fn sites(&self) -> impl Iterator<Item = (PathBuf, &Site)> {
        std::iter::once(&self.site)
            .chain(&self.site.hosts)
            .map(|site| {
                let root = site.root.as_deref();
                (
                    root.map_or(self.root.clone(), |root| self.root.join(root)),
                    site,
                )
            })
    }

    /// What they serve.
    pub(crate) fn roots(&self) -> impl Iterator<Item = PathBuf> {
        self.sites().map(|(root, _)| root)
    }

    pub(crate) fn authentication(&self) -> Authentication {
        match self.auth_file {
            Some(_) => Authentication::Required,
            None => Authentication::None,
        }
    }

    fn from_layers(layers: Layers, listening: &Listening) -> Result<Self, Stop> {
        let Layers {
            flags,
            mut site,
            root,
            ..
        } = layers;
        change_site(&mut site, &flags)?;
        if site.listing == Listing::Auto {
            site.listing = match layers.root_was_named && !has_index(&site, &root) {
                true => Listing::On,
                false => Listing::Off,
            };
        }
        let users = flags
            .store()?
            .or(site.users.as_ref().map(|users| users.store.clone()));
        let encryption = encryption(&flags)?;
        let mut config = config(&flags)?;
        if let Some(given) = &listening.server {
            config.addresses.clone_from(given);
        }
        let in_vain = warnings_of(&site, &layers.site_file, &root);
        let settings = Self {
            config,
            site_file: layers.site_file,
            root,
            users,
            state_dir: flags.state_dir.clone(),
            sandbox: match flags.no_sandbox {
                true => Sandboxing::Off,
                false => Sandboxing::IfPossible,
            },
            log_format: flags.log_format,
            access_log: flags.destinations()?,
            banner: match flags.quiet || flags.tui {
                true => Banner::Silent,
                false => Banner::Shown,
            },
            view: match flags.tui {
                true => View::Transfers,
                false => View::Lines,
            },
            drain_delay: Duration::from_secs(flags.drain_delay.unwrap_or(0).into()),
            admin: flags.admin.map(|own| most_exposed(listening, own)),
            qr: match flags.qr {
                true => QrCode::Shown,
                false => QrCode::Absent,
            },
            browser: match flags.open {
                true => Browsing::AtStart,
                false => Browsing::Never,
            },
            log_level: match (flags.quiet, flags.verbose) {
                (true, _) => LevelFilter::Error,
                (false, 0) => LevelFilter::Warn,
                (false, 1) => LevelFilter::Info,
                (false, 2) => LevelFilter::Debug,
                (false, _) => LevelFilter::Trace,
            },
            cors: flags.cors,
            auth_file: flags.auth_file,
            encryption,
            redirect_http: flags.redirect_http,
            rate_limit: flags.rate_limit,
            rate_limit_connection: flags.rate_limit_connection,
            slow_log: flags
                .slow_log
                .map(|milliseconds| Duration::from_millis(milliseconds.into())),
            request: flags.request,
            user: flags.user,
            group: flags.group,
            warnings: [layers.warnings, in_vain].concat(),
            site,
        };
        if let Some(admin) = &settings.admin {
            check_admin(admin, settings.authentication()).map_err(usage)?;
        }
        let takes_uploads = |site: &Site| site.upload.is_some();
        if takes_uploads(&settings.site) || settings.site.hosts.iter().any(takes_uploads) {
            let checked = check_uploads(&settings.config.addresses, settings.authentication());
            checked.map_err(|reason| match flags.upload {
                Some(_) => usage(reason).into(),
                None => Stop::Mistakes(vec![Mistake::Failure(reason)]),
            })?;
        }
        Ok(settings)
    }
}

fn warnings_of(site: &Site, site_file: &SiteFile, root: &Path) -> Vec<String> {
    match site_file {
        SiteFile::At(path) => site.warnings(path),
        SiteFile::OfRoot | SiteFile::None => site.warnings(&root.join(SITE_FILE)),
    }
}

/// What the library wants to know.
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
    config.workers = flags.workers;
    if let Some(seconds) = flags.keep_alive_timeout {
        config.timeouts.keep_alive = Duration::from_secs(seconds.into());
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
mod tests {
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

    use tws::site::Size;

    use super::*;

    fn settings(args: &[&str]) -> Result<Settings, String> {
        let args = std::iter::once("tws").chain(args.iter().copied());
        let words = Words {
            args: args.map(Into::into).collect(),
            ..Words::default()
        };
        Settings::read(&words).map_err(|stop| match stop {
            Stop::Print(text) => panic!("{text}"),
            Stop::Mistakes(mistakes) => match &mistakes[..] {
                [Mistake::Usage(text)] => text.clone(),
                other => panic!("{other:?}"),
            },
        })
    }

    #[test]
    fn a_bare_number_is_the_port() {
        let table: &[(&[&str], &str, u16)] = &[
            (&["80"], "", 80),
            (&["site"], "site", 8000),
            (&["site", "80"], "site", 80),
            (&["80", "site"], "site", 80),
            (&["./80"], "./80", 8000),
            (&["80", "81x"], "81x", 80),
            (&["-d", "site", "80"], "site", 80),
            (&["site", "-p", "0"], "site", 0),
            (&["site", "-p", "80", "80"], "site", 80),
        ];
        for (args, root, port) in table {
            let settings = settings(args).expect("fine");
            assert_eq!(settings.config.port, *port, "{args:?}");
            if !root.is_empty() {
                assert_eq!(settings.root, Path::new(root), "{args:?}");
            }
        }
    }

    #[test]
    fn wrong_flags_are_worded_as_subject_cause_and_remedy() {
        let table: &[(&[&str], &str)] = &[
            (
                &["70000"],
                "PORT: must be an integer between 0 and 65535 (got \"70000\")",
            ),
            (
                &["-p", "70000"],
                "--port: must be an integer between 0 and 65535 (got \"70000\")",
            ),
            (
                &["-p", "x"],
                "--port: must be an integer between 0 and 65535 (got \"x\")",
            ),
            (&["-p"], "--port: the value is missing; give --port <PORT>"),
            (
                &["-p", "1", "-p", "2"],
                "--port: given more than once; give one value",
            ),
            (&["a", "b"], "give only one folder (got a and b)"),
            (&["80", "81", "a"], "give only one folder (got 81 and a)"),
            (&["a", "80", "81"], "two ports given (80 and 81); give one"),
            (
                &["80", "-p", "81"],
                "PORT and --port differ; give only one of them",
            ),
            (
                &["a", "-d", "b"],
                "PATH and --directory differ; give only one of them",
            ),
            (
                &[""],
                "PATH: the folder name is empty; give a folder, or . for this one",
            ),
            (
                &["--prot", "80"],
                "--prot: unknown flag; did you mean --port?",
            ),
            (
                &["--frobnicate"],
                "--frobnicate: unknown flag; `tws --help` lists the flags",
            ),
            (&["-i", "eth0"], "-i: unknown flag; did you mean --bind?"),
            (
                &["--listen", "80"],
                "--listen: unknown flag; did you mean --port?",
            ),
            (
                &["--no-hidden"],
                "--no-hidden: unknown flag; use --hidden=no",
            ),
            (
                &["--no-listing"],
                "--no-listing: unknown flag; use --listing=off",
            ),
            (
                &["--no-port"],
                "--no-port: unknown flag; `tws --help` lists the flags",
            ),
            (&["--verbose=2"], "--verbose: takes no value (got \"2\")"),
            (
                &["--workers", "0"],
                "--workers: must be an integer between 1 and 4294967295 (got \"0\")",
            ),
            (
                &["--hidden=maybe"],
                "--hidden: must be yes or no (got \"maybe\")",
            ),
            (
                &["-b", "300.1.1.1.1"],
                "--bind: \"300.1.1.1.1\" is neither an address nor a name that this machine can resolve; give an address such as 127.0.0.1, 0.0.0.0, ::1, [::]:80 or unix:/run/tws.sock",
            ),
            (
                &["-b", "unix:"],
                "--bind: the path of the Unix socket is missing; give unix:/run/tws.sock",
            ),
            (
                &["--index", "a/b"],
                "--index: must be the name of a file without folders (got \"a/b\")",
            ),
            (
                &["--log-format", "xml"],
                "--log-format: must be one of access-count, common, combined, json (got \"xml\")",
            ),
            (
                &["--access-log", "off", "--access-log", "-"],
                "--access-log: off excludes other destinations; give only one of them",
            ),
            (
                &["--users", "oracle:x"],
                "--users: must be a store such as sqlite:users.db or postgres://user:password@host/database",
            ),
            (
                &["--users", "postgre://u:p@h/d"],
                "--users: must be a store such as sqlite:users.db or postgres://user:password@host/database",
            ),
            (
                &["--config", "f", "--no-site-file"],
                "--config and --no-site-file exclude each other; give only one of them",
            ),
            (
                &["--keep-alive-timeout", "0"],
                "--keep-alive-timeout: must be an integer between 1 and 86400 (got \"0\")",
            ),
            (
                &["--unix-mode", "rw"],
                "--unix-mode: must be an octal file mode, such as 660 or 600 (got \"rw\")",
            ),
            (
                &["--tls-key", "k"],
                "0 --tls-cert and 1 --tls-key given; give one key for each certificate in the same order, or none if each key is in its certificate's file",
            ),
            (
                &["--tls-cert", "a", "--tls-cert", "b", "--tls-key", "k"],
                "2 --tls-cert and 1 --tls-key given; give one key for each certificate in the same order, or none if each key is in its certificate's file",
            ),
            (
                &["--tls-self-signed", "--tls-cert", "a"],
                "--tls-self-signed excludes --tls-cert and --tls-key; give one or the other",
            ),
            (
                &["--redirect-http"],
                "--redirect-http: HTTPS is off; add --tls-cert or --tls-self-signed",
            ),
            (
                &["--redirect-http=x", "--tls-self-signed"],
                "--redirect-http: must be an integer between 0 and 65535 (got \"x\")",
            ),
            (
                &["--rate-limit", "0"],
                "--rate-limit: the rate must be between 0.0001 and 1000000 requests per second",
            ),
            (
                &["--rate-limit-connection", "1/s"],
                "--rate-limit-connection: must be a rate such as 10, 0.5 or 10:50 (50 at once) (got \"1/s\")",
            ),
            (
                &["--tui", "--access-log", "-"],
                "--access-log - and --tui both need the terminal; write the log to a file",
            ),
            (
                &["--admin", "9090"],
                "--admin: must be an address with a port or a Unix socket, such as 127.0.0.1:9090, [::1]:9090 or unix:/run/tws-admin.sock (got \"9090\")",
            ),
            (
                &["--admin", "0.0.0.0:9090"],
                "--admin 0.0.0.0:9090: any machine could see which client downloads what; require passwords with --auth-file, or listen on 127.0.0.1",
            ),
            (
                &["--admin", "[::]:9090"],
                "--admin [::]:9090: any machine could see which client downloads what; require passwords with --auth-file, or listen on 127.0.0.1",
            ),
            (
                &["--drain-delay", "100000"],
                "--drain-delay: must be an integer between 0 and 86400 (got \"100000\")",
            ),
            (
                &["--bandwidth", "1MB"],
                "--bandwidth: must be a size such as 512 KiB, 100 MiB or 1 GiB (got \"1MB\")",
            ),
            (
                &["--bandwidth", "0"],
                "--bandwidth: must be at least 1 KiB per second (got \"0\")",
            ),
            (
                &["--bandwidth-connection", "1023 B"],
                "--bandwidth-connection: must be at least 1 KiB per second (got \"1023 B\")",
            ),
            (
                &["--trusted-proxy", "proxy.example"],
                "--trusted-proxy: must be a network or an address such as 10.0.0.0/8, 192.0.2.7 or ::1, or unix for peers on Unix sockets (got \"proxy.example\")",
            ),
            (
                &["--trusted-proxy=::1", "--forwarded-field=x-real-ip"],
                "--forwarded-field: must be x-forwarded-for or forwarded (got \"x-real-ip\")",
            ),
            (
                &["--forwarded-field=forwarded"],
                "--forwarded-field: no proxy is trusted; add --trusted-proxy",
            ),
            (
                &["--slow-log", "1s"],
                "--slow-log: must be an integer between 0 and 4294967295 (got \"1s\")",
            ),
            (
                &["--cors=a.test"],
                "--cors: must be an origin such as https://example.org, or * (got \"a.test\")",
            ),
            (
                &["-H", "foo"],
                "--header: must be a header field such as \"Cache-Control: no-cache\" (got \"foo\")",
            ),
            (
                &["-H", "etag: \"a\""],
                "--header: etag is set by the server; remove it",
            ),
            (
                &["--spa=../a"],
                "--spa: must be the name of a file below the root (got \"../a\")",
            ),
            (
                &["--upload-max", "1 GiB"],
                "--upload-max and --upload-overwrite: uploads are off; add --upload",
            ),
            (
                &["--upload-overwrite"],
                "--upload-max and --upload-overwrite: uploads are off; add --upload",
            ),
            (
                &["--upload", "--upload-max", "1 GB"],
                "--upload-max: must be a size such as 512 KiB, 100 MiB or 1 GiB (got \"1 GB\")",
            ),
            (
                &["--upload", "-b", "0.0.0.0"],
                "--upload ([upload] in a file) with --bind 0.0.0.0: any machine could store files here; require passwords with --auth-file, or bind 127.0.0.1",
            ),
            (
                &["--upload", "-b", "::1", "-b", "::"],
                "--upload ([upload] in a file) with --bind ::: any machine could store files here; require passwords with --auth-file, or bind 127.0.0.1",
            ),
        ];
        for (args, expected) in table {
            assert_eq!(
                settings(args).expect_err("a usage error"),
                *expected,
                "{args:?}"
            );
        }
    }

    #[test]
    fn passwords_are_not_repeated() {
        for store in [
            "postgre://ana:s3cret@h/d",
            "host=h password=s3cret",
            "sqlite://s3cret@h",
        ] {
            if let Err(error) = settings(&["--users", store]) {
                assert!(!error.contains("s3cret"), "{error}");
            }
        }
        for url in [
            "postgres://ana:s3cret@h:1/d",
            "postgresql://h/d?user=ana&password=s3cret",
            "postgres://ana:s3cret",
        ] {
            let settings = settings(&["--users", url]).expect("a store");
            let store = settings.users.as_ref().expect("a store");
            let shown = format!("{settings:?} {store}");
            assert!(!shown.contains("s3cret"), "{shown}");
        }
    }

    #[test]
    fn addresses() {
        let of = |args: &[&str]| settings(args).map(|settings| settings.config.addresses);
        let v4 = Endpoint::Address(IpAddr::V4(Ipv4Addr::LOCALHOST));
        let v6 = Endpoint::Address(IpAddr::V6(Ipv6Addr::LOCALHOST));
        assert_eq!(of(&[]), Ok(vec![v4.clone()]));
        assert_eq!(of(&["-b", "::1"]), Ok(vec![v6.clone()]));
        assert_eq!(
            of(&["-b", "[::1]", "-b", "127.0.0.1", "-b", "::1"]),
            Ok(vec![v6, v4.clone()])
        );
        assert!(of(&["-b", "localhost"]).expect("known").contains(&v4));
        let socket = |text: &str| Endpoint::Socket(text.parse().expect("an address"));
        assert_eq!(
            of(&["-b", "127.0.0.2:80,[::1]:81", "-b", "unix:/run/tws.sock"]),
            Ok(vec![
                socket("127.0.0.2:80"),
                socket("[::1]:81"),
                Endpoint::Unix("/run/tws.sock".into())
            ])
        );
        let localhost = of(&["-b", "localhost:82"]).expect("known");
        assert!(localhost.contains(&socket("127.0.0.1:82")), "{localhost:?}");
    }

    #[test]
    fn uploads_are_for_this_machine_or_for_those_who_say_who_they_are() {
        let of = |args: &[&str]| {
            let site = settings(args).expect("fine").site;
            site.upload
                .map(|upload| (upload.max.map(Size::bytes), upload.overwrite))
        };
        assert_eq!(of(&[]), None);
        assert_eq!(
            of(&["--upload", "-b", "::1", "-b", "127.0.0.2"]),
            Some((None, false))
        );
        let all = ["--upload", "--upload-max=10MiB", "--upload-overwrite"];
        assert_eq!(of(&all), Some((Some(10 << 20), true)));
        let everywhere = [IpAddr::V4(Ipv4Addr::UNSPECIFIED).into()];
        assert_eq!(check_uploads(&everywhere, Authentication::Required), Ok(()));
        let mapped = IpAddr::V6(Ipv4Addr::LOCALHOST.to_ipv6_mapped());
        assert_eq!(
            check_uploads(
                &[mapped.into(), Endpoint::Unix("s".into())],
                Authentication::None
            ),
            Ok(())
        );
    }

    #[test]
    fn a_certificate_has_a_key_of_its_own_or_in_its_file() {
        let of = |args: &[&str]| settings(args).map(|settings| settings.encryption);
        let pair = |a: &str, b: &str| (PathBuf::from(a), PathBuf::from(b));
        assert_eq!(of(&[]), Ok(Encryption::Off));
        assert_eq!(of(&["--tls-self-signed"]), Ok(Encryption::SelfSigned));
        let both = Encryption::Certificates(vec![pair("a", "a"), pair("b", "b")]);
        assert_eq!(of(&["--tls-cert=a", "--tls-cert=b"]), Ok(both));
        let apart = Encryption::Certificates(vec![pair("a", "k"), pair("b", "l")]);
        let args = ["--tls-cert=a", "--tls-key=k", "--tls-cert=b", "--tls-key=l"];
        assert_eq!(of(&args), Ok(apart));
    }

    #[test]
    fn the_access_log_goes_where_it_is_sent() {
        let of = |args: &[&str]| settings(args).map(|settings| settings.access_log.len());
        assert_eq!(of(&[]), Ok(1));
        assert_eq!(of(&["-q"]), Ok(0));
        assert_eq!(of(&["--tui"]), Ok(0));
        assert_eq!(of(&["--tui", "--access-log", "a.log"]), Ok(1));
        assert_eq!(of(&["-q", "--access-log", "-"]), Ok(1));
        assert_eq!(of(&["--access-log", "off"]), Ok(0));
        assert_eq!(of(&["--access-log", "-", "--access-log", "a.log"]), Ok(2));
    }
}
