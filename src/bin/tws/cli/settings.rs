//! The settings: the flags of all layers, checked against each other, as the types that the library and
//! the commands use. Nothing is opened.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use log::LevelFilter;
use tws::access_log::{Format, LogDestination};
use tws::site::{Listing, Origin, SITE_FILE, Site, Store};
use tws::{Config, Endpoint, ProxyProtocol, Rate};

use super::exit::{Mistake, Stop};
use super::exposure::{Authentication, check_admin, check_uploads, most_exposed};
use super::flags::{Flags, RequestWords, usage};
use super::layers::{Layers, Listening, SiteFile, Words, either};

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
mod tests;
