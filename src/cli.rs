//! The command line: flags become settings in one fallible step. Nothing is opened here.

use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::error::ErrorKind;
use clap::{ArgAction, CommandFactory, Parser};
use log::LevelFilter;
use tws::access_log::{Destination, Format};
use tws::site::{
    Compress, EtagSource, FileName, HeaderRule, IndexName, Listing, Origin, Site, Size, Store,
    Symlinks,
};
use tws::{Config, Endpoint, ForwardedField, Networks};

/// What was typed.
#[derive(Debug, Parser)]
#[command(
    name = "tws",
    version,
    about = "A static-first HTTP server that nothing slow can slow down",
    override_usage = "tws [OPTIONS] [PATH] [PORT]",
    after_help = "Without PATH, ./www is served where there is one, else the current directory. \
                  A bare number is the port: `tws 80`."
)]
struct Flags {
    /// The folder or the single file to serve, and the port
    #[arg(value_name = "PATH] [PORT", num_args = 0..=2)]
    path_and_port: Vec<OsString>,

    /// The port to listen on; 0 takes a free one [default: 8000]
    #[arg(short, long, value_name = "PORT")]
    port: Option<u16>,

    /// An address to listen on, with a port of its own or without, or unix:PATH; may be repeated
    /// [default: 127.0.0.1]
    #[arg(short, long, value_name = "ADDRESS", value_parser = parse_addresses)]
    bind: Vec<Addresses>,

    /// The folder to serve, as PATH
    #[arg(short, long, value_name = "PATH")]
    directory: Option<PathBuf>,

    /// A name that stands for a folder; may be repeated, the first that exists is taken
    /// [default: index.html]
    #[arg(long, value_name = "NAME")]
    index: Vec<String>,

    /// List folders without an index; auto: if PATH is given and has no index
    #[arg(long, value_name = "WHEN", value_parser = words::<Listing>(Listing::WORDS))]
    listing: Option<Listing>,

    /// Content codings: auto compresses text, sidecar only takes .br .zst .gz beside the file
    #[arg(long, value_name = "HOW", value_parser = words::<Compress>(Compress::WORDS))]
    compress: Option<Compress>,

    /// What entity tags are made of; content is for trees whose times mean nothing
    #[arg(long, value_name = "OF", value_parser = words::<EtagSource>(EtagSource::WORDS))]
    etag: Option<EtagSource>,

    /// Symbolic links that are followed; inside: those that stay beneath the root
    #[arg(long, value_name = "WHICH", value_parser = words::<Symlinks>(Symlinks::WORDS))]
    symlinks: Option<Symlinks>,

    /// Serve names that begin with a dot, too
    #[arg(long)]
    hidden: bool,

    /// Answer navigations that find nothing with FILE [default: index.html]
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true, default_missing_value = "index.html")]
    spa: Option<FileName>,

    /// Let pages of ORIGIN read all answers, whatever site files say [default: *]
    #[arg(long, value_name = "ORIGIN", num_args = 0..=1, require_equals = true, default_missing_value = "*")]
    cors: Option<Origin>,

    /// Let in only the users in FILE, made with `htpasswd -cB FILE USER`
    #[arg(long, value_name = "FILE")]
    auth_file: Option<PathBuf>,

    /// A header field for every file; may be repeated
    #[arg(short = 'H', long = "header", value_name = "K: V", value_parser = HeaderRule::for_all)]
    headers: Vec<HeaderRule>,

    /// Take files: PUT, and forms (POST) to folders. From this machine only, unless requests need a
    /// password
    #[arg(long)]
    upload: bool,

    /// How large an upload may be: 512 KiB, 100 MiB [default: 1 GiB]
    #[arg(long, value_name = "SIZE", requires = "upload")]
    upload_max: Option<Size>,

    /// Let uploads replace files that are there
    #[arg(long, requires = "upload")]
    upload_overwrite: bool,

    /// How many event loops [default: one per core]
    #[arg(long, value_name = "N")]
    workers: Option<NonZeroUsize>,

    /// The site file to read instead of PATH/.tws.toml
    #[arg(long, value_name = "FILE", conflicts_with = "no_site_file")]
    config: Option<PathBuf>,

    /// Read no site file
    #[arg(long)]
    no_site_file: bool,

    /// Keep users (POST /createUser) in this store: sqlite:FILE, or, for many machines,
    /// postgres://USER:PASSWORD@HOST/DATABASE (without a password there, $PGPASSWORD's)
    #[arg(long, value_name = "STORE")]
    users: Option<String>,

    /// Where the server keeps what must survive it
    /// [default: $STATE_DIRECTORY, else $XDG_STATE_HOME/tws, else ~/.local/state/tws]
    #[arg(long, value_name = "FOLDER")]
    state_dir: Option<PathBuf>,

    /// Let the process read and write everything that its user may. Without this it is restricted,
    /// once it listens and if the kernel has Landlock, to its root, its logs and its state
    #[arg(long)]
    no_sandbox: bool,

    /// Who to be once it listens, by name or number; only root can
    #[arg(long, value_name = "USER")]
    user: Option<String>,

    /// Which group to be of [default: the user's]
    #[arg(long, value_name = "GROUP")]
    group: Option<String>,

    /// Seconds an idle connection is kept for a further request [default: 10]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..=86_400))]
    keep_alive_timeout: Option<u32>,

    /// Further requests a connection may carry after its first [default: no limit]
    #[arg(long, value_name = "N")]
    keep_alive_max: Option<u32>,

    /// Connections in all; over it idle ones are closed, then new ones told 503
    /// [default: what file descriptors allow]
    #[arg(long, value_name = "N")]
    max_connections: Option<NonZeroUsize>,

    /// Connections of one client, an IPv4 address or an IPv6 /64; one more is told 503
    /// [default: no limit]
    #[arg(long, value_name = "N")]
    max_connections_per_client: Option<NonZeroUsize>,

    /// A proxy that is believed when it tells whose requests it passes on: 10.0.0.0/8, 192.0.2.7,
    /// ::1, or unix for those at unix sockets; may be repeated [default: none]
    #[arg(long, value_name = "NETWORK")]
    trusted_proxy: Vec<Networks>,

    /// The field that trusted proxies write (the other is the client's): x-forwarded-for, with
    /// x-forwarded-proto, or forwarded [default: x-forwarded-for]
    #[arg(long, value_name = "FIELD", requires = "trusted_proxy")]
    forwarded_field: Option<ForwardedField>,

    /// Bytes per second that a client must send of a content and take of a reply, after 5 seconds;
    /// 0 for none [default: 240]
    #[arg(long, value_name = "BYTES")]
    min_rate: Option<u32>,

    /// Seconds that answers in flight may take at the end [default: 10]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(..=86_400))]
    drain_timeout: Option<u32>,

    /// The form of a line in the access log
    #[arg(
        long,
        value_name = "FORMAT",
        default_value = "common",
        value_parser = words::<Format>(&["access-count", "common", "combined", "json"])
    )]
    log_format: Format,

    /// Where the access log goes: a file, - for the terminal, off; may be repeated [default: -]
    #[arg(long, value_name = "PATH|-|off")]
    access_log: Vec<OsString>,

    /// Warn of answers that took so long to make, or longer
    #[arg(long, value_name = "MILLISECONDS")]
    slow_log: Option<u32>,

    /// Print nothing but errors; no access log unless --access-log asks for one
    #[arg(short, long)]
    quiet: bool,

    /// Say more about what goes on; may be repeated. RUST_LOG says it in detail
    #[arg(short, long, action = ArgAction::Count)]
    verbose: u8,
}

/// What is used.
#[derive(Debug)]
pub(crate) struct Settings {
    /// The folder or file to serve.
    pub(crate) root: PathBuf,
    pub(crate) config: Config,
    pub(crate) site_file: SiteFile,
    /// What flags say about the site; they come before the site file.
    pub(crate) overrides: Overrides,
    /// Who may read everything from other origins.
    pub(crate) cors: Option<Origin>,
    pub(crate) auth_file: Option<PathBuf>,
    pub(crate) slow_log: Option<Duration>,
    pub(crate) users: Option<Store>,
    #[cfg_attr(
        not(feature = "sqlite"),
        expect(dead_code, reason = "no store lies in it")
    )]
    pub(crate) state_dir: Option<PathBuf>,
    pub(crate) sandbox: Sandboxing,
    /// A name or a number.
    pub(crate) user: Option<String>,
    pub(crate) group: Option<String>,
    pub(crate) log_format: Format,
    pub(crate) access_log: Vec<Destination>,
    pub(crate) banner: Banner,
    /// How much diagnostics say if `RUST_LOG` does not decide.
    pub(crate) log_level: LevelFilter,
}

/// What flags say about a site.
#[derive(Debug)]
pub(crate) struct Overrides {
    index: Vec<IndexName>,
    listing: Option<Listing>,
    compress: Option<Compress>,
    etag: Option<EtagSource>,
    symlinks: Option<Symlinks>,
    hidden: bool,
    spa: Option<FileName>,
    cors: Cors,
    headers: Vec<HeaderRule>,
    upload: Option<UploadFlags>,
    root_was_named: bool,
}

/// Who says what pages of other origins may do.
#[derive(Debug, PartialEq, Eq)]
enum Cors {
    /// Each site, for its files.
    OfSites,
    /// The flag, for all answers.
    OfFlag,
}

/// What flags say about uploads, if they turn them on.
#[derive(Debug)]
struct UploadFlags {
    max: Option<Size>,
    overwrite: bool,
}

impl Overrides {
    /// Changes the site at `root` as the flags say.
    pub(crate) fn apply(&self, site: &mut Site, root: &Path) {
        self.apply_to_each(site);
        site.hosts
            .iter_mut()
            .for_each(|host| self.apply_to_each(host));
        if !self.index.is_empty() {
            site.index.clone_from(&self.index);
        }
        site.spa = self.spa.clone().or(site.spa.take());
        if let Some(flags) = &self.upload {
            let upload = site.upload.get_or_insert_default();
            upload.max = flags.max.or(upload.max);
            upload.overwrite |= flags.overwrite;
        }
        if site.listing == Listing::Auto {
            site.listing = match self.root_was_named && !has_index(site, root) {
                true => Listing::On,
                false => Listing::Off,
            };
        }
    }
}

impl Overrides {
    /// What holds for every host.
    fn apply_to_each(&self, site: &mut Site) {
        site.listing = self.listing.unwrap_or(site.listing);
        site.compress = self.compress.unwrap_or(site.compress);
        site.etag = self.etag.unwrap_or(site.etag);
        site.symlinks = self.symlinks.unwrap_or(site.symlinks);
        site.hidden |= self.hidden;
        if self.cors == Cors::OfFlag {
            site.cors = None;
        }
        site.headers.extend(self.headers.iter().cloned());
    }
}

fn has_index(site: &Site, root: &Path) -> bool {
    let usual = || site.index.is_empty() && root.join("index.html").is_file();
    usual()
        || site
            .index
            .iter()
            .any(|name| root.join(name.as_str()).is_file())
}

/// Whether every request must say who sends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Authentication {
    Required,
    None,
}

/// Other machines may store files here only if they say who they are.
pub(crate) fn check_uploads(
    addresses: &[Endpoint],
    authentication: Authentication,
) -> Result<(), String> {
    let exposed = |address: &IpAddr| !address.to_canonical().is_loopback();
    let mut addresses = addresses.iter().filter_map(Endpoint::ip);
    match (addresses.find(exposed), authentication) {
        (None, _) | (_, Authentication::Required) => Ok(()),
        (Some(address), Authentication::None) => Err(format!(
            "--upload ([upload] in a site file) with --bind {address} would let everybody store \
             files here: ask for passwords with --auth-file, or bind 127.0.0.1"
        )),
    }
}

fn authentication(auth_file: &Option<PathBuf>) -> Authentication {
    match auth_file {
        Some(_) => Authentication::Required,
        None => Authentication::None,
    }
}

/// Which site file is read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum SiteFile {
    /// The root's own, if it has one.
    OfRoot,
    At(PathBuf),
    None,
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

/// What the process ends with instead of serving: help to print, or a usage error.
#[derive(Debug)]
pub(crate) enum Stop {
    Print(String),
    Usage(String),
}

/// A name may have several addresses: `localhost` has two.
#[derive(Clone, Debug)]
struct Addresses(Vec<Endpoint>);

impl Settings {
    pub(crate) fn authentication(&self) -> Authentication {
        authentication(&self.auth_file)
    }

    pub(crate) fn from_args(args: impl IntoIterator<Item = OsString>) -> Result<Self, Stop> {
        Flags::try_parse_from(args)
            .and_then(Self::from_flags)
            .map_err(|error| match error.kind() {
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
                    Stop::Print(error.render().to_string())
                }
                _ => Stop::Usage(one_line(&error.render().to_string())),
            })
    }

    fn from_flags(flags: Flags) -> Result<Self, clap::Error> {
        let (path, port) = path_and_port(flags.path_and_port)?;
        let named = either("PATH", path, "--directory", flags.directory)?;
        let root_was_named = named.is_some();
        let root = named.unwrap_or_else(default_root);
        let mut config = Config::default();
        if let Some(port) = either("PORT", port, "--port", flags.port)? {
            config.port = port;
        }
        if !flags.bind.is_empty() {
            config.addresses.clear();
            for address in flags.bind.into_iter().flat_map(|addresses| addresses.0) {
                if !config.addresses.contains(&address) {
                    config.addresses.push(address);
                }
            }
        }
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
        config.trusted_proxies = flags.trusted_proxy.into_iter().collect();
        config.forwarded_field = flags.forwarded_field.unwrap_or_default();
        if let Some(bytes) = flags.min_rate {
            config.limits.min_rate_bytes_per_second = bytes;
        }
        if flags.upload {
            check_uploads(&config.addresses, authentication(&flags.auth_file)).map_err(usage)?;
        }
        Ok(Self {
            root,
            config,
            site_file: match (flags.config, flags.no_site_file) {
                (Some(path), _) => SiteFile::At(path),
                (None, true) => SiteFile::None,
                (None, false) => SiteFile::OfRoot,
            },
            overrides: Overrides {
                index: index_names(flags.index)?,
                listing: flags.listing,
                compress: flags.compress,
                etag: flags.etag,
                symlinks: flags.symlinks,
                hidden: flags.hidden,
                spa: flags.spa,
                cors: match flags.cors {
                    Some(_) => Cors::OfFlag,
                    None => Cors::OfSites,
                },
                headers: flags.headers,
                upload: flags.upload.then_some(UploadFlags {
                    max: flags.upload_max,
                    overwrite: flags.upload_overwrite,
                }),
                root_was_named,
            },
            cors: flags.cors,
            auth_file: flags.auth_file,
            slow_log: flags
                .slow_log
                .map(|milliseconds| Duration::from_millis(milliseconds.into())),
            users: store(flags.users)?,
            state_dir: flags.state_dir,
            sandbox: match flags.no_sandbox {
                true => Sandboxing::Off,
                false => Sandboxing::IfPossible,
            },
            user: flags.user,
            group: flags.group,
            log_format: flags.log_format,
            access_log: destinations(flags.access_log, flags.quiet)?,
            banner: if flags.quiet {
                Banner::Silent
            } else {
                Banner::Shown
            },
            log_level: match (flags.quiet, flags.verbose) {
                (true, _) => LevelFilter::Error,
                (false, 0) => LevelFilter::Warn,
                (false, 1) => LevelFilter::Info,
                (false, 2) => LevelFilter::Debug,
                (false, _) => LevelFilter::Trace,
            },
        })
    }
}

/// Read here: clap would repeat in its error what was typed, the password in it too.
fn store(text: Option<String>) -> Result<Option<Store>, clap::Error> {
    let store = text.map(|text| text.parse()).transpose();
    store.map_err(|reason: String| usage(format!("--users: {reason}")))
}

fn path_and_port(words: Vec<OsString>) -> Result<(Option<PathBuf>, Option<u16>), clap::Error> {
    let (mut path, mut port) = (None, None);
    for word in words {
        let number = word.to_str().filter(|text| is_number(text));
        match number {
            Some(text) if port.is_none() => match text.parse() {
                Ok(number) => port = Some(number),
                Err(_) => return Err(usage(format!("{text} is not a port; ports are 0 to 65535"))),
            },
            _ if path.is_none() => path = Some(PathBuf::from(word)),
            _ => {
                let extra = word.to_string_lossy().into_owned();
                return Err(usage(format!(
                    "{extra:?} is one too many; give one PATH and one PORT"
                )));
            }
        }
    }
    Ok((path, port))
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// One setting that can be given in two ways, but not differently.
fn either<T: PartialEq>(
    first_name: &str,
    first: Option<T>,
    second_name: &str,
    second: Option<T>,
) -> Result<Option<T>, clap::Error> {
    match (first, second) {
        (Some(first), Some(second)) if first != second => Err(usage(format!(
            "{first_name} and {second_name} say different things; give one of them"
        ))),
        (first, second) => Ok(first.or(second)),
    }
}

fn default_root() -> PathBuf {
    let www = Path::new("www");
    PathBuf::from(if www.is_dir() { "./www" } else { "." })
}

fn index_names(names: Vec<String>) -> Result<Vec<IndexName>, clap::Error> {
    let name = |name: String| {
        let error = |error| usage(format!("--index: {error}"));
        IndexName::try_from(name).map_err(error)
    };
    names.into_iter().map(name).collect()
}

/// A parser for one of a few words, which the help lists.
fn words<T>(words: &'static [&'static str]) -> impl TypedValueParser<Value = T>
where
    T: FromStr<Err = String> + Clone + Send + Sync + 'static,
{
    PossibleValuesParser::new(words).try_map(|word| word.parse::<T>())
}

fn destinations(words: Vec<OsString>, quiet: bool) -> Result<Vec<Destination>, clap::Error> {
    if words.is_empty() {
        return Ok(if quiet {
            Vec::new()
        } else {
            vec![Destination::Stdout]
        });
    }
    if words.iter().any(|word| word == "off") {
        return match words.len() {
            1 => Ok(Vec::new()),
            _ => Err(usage("--access-log off stands alone".to_owned())),
        };
    }
    let destination = |word: OsString| match word.to_str() {
        Some("-") => Destination::Stdout,
        _ => Destination::File(PathBuf::from(word)),
    };
    Ok(words.into_iter().map(destination).collect())
}

fn parse_addresses(text: &str) -> Result<Addresses, String> {
    match text.parse() {
        Ok(endpoint) => return Ok(Addresses(vec![endpoint])),
        Err(reason) if text.starts_with("unix:") => return Err(reason),
        Err(_) => {}
    }
    let with_port = text
        .rsplit_once(':')
        .and_then(|(name, port)| Some((name, Some(port.parse::<u16>().ok()?))));
    let (name, port) = with_port.unwrap_or((text, None));
    let unknown = |_| {
        "no address and no name this machine knows; 127.0.0.1, 0.0.0.0, :: and ::1 are usual, \
         0.0.0.0:80 has a port of its own, and unix:/run/tws.sock is a socket"
            .to_owned()
    };
    let found = (name, port.unwrap_or(0)).to_socket_addrs();
    let found: Vec<SocketAddr> = found.map_err(unknown)?.collect();
    // Where IPv6 is off, `localhost` is still often listed as `::1` too.
    let is_usable = |address: &&SocketAddr| UdpSocket::bind((address.ip(), 0)).is_ok();
    let usable: Vec<_> = found.iter().filter(is_usable).copied().collect();
    let addresses = match usable.is_empty() {
        true => found,
        false => usable,
    };
    let endpoint = |address: SocketAddr| match port {
        Some(_) => Endpoint::Socket(address),
        None => Endpoint::Address(address.ip()),
    };
    Ok(Addresses(addresses.into_iter().map(endpoint).collect()))
}

fn usage(message: String) -> clap::Error {
    Flags::command().error(ErrorKind::ValueValidation, message)
}

/// clap explains over several lines; one is what logs and scripts want.
fn one_line(text: &str) -> String {
    let lines = text.lines().map(str::trim).filter(|line| {
        !line.is_empty() && !line.starts_with("Usage:") && !line.starts_with("For more information")
    });
    let words = lines.collect::<Vec<_>>().join("; ");
    let message = words.strip_prefix("error: ").unwrap_or(&words);
    format!("{message}; `tws --help` lists all flags")
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    fn settings(args: &[&str]) -> Result<Settings, String> {
        let args = std::iter::once("tws").chain(args.iter().copied());
        Settings::from_args(args.map(OsString::from)).map_err(|stop| match stop {
            Stop::Usage(text) => text,
            Stop::Print(text) => panic!("{text}"),
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
    fn what_makes_no_sense_is_one_line_that_says_so() {
        let table: &[(&[&str], &str)] = &[
            (&["70000"], "70000 is not a port"),
            (&["-p", "70000"], "--port"),
            (&["-p", "x"], "--port"),
            (&["a", "b"], "\"b\" is one too many"),
            (&["80", "81", "a"], "'a'"),
            (&["80", "-p", "81"], "PORT and --port say different things"),
            (
                &["a", "-d", "b"],
                "PATH and --directory say different things",
            ),
            (&["--prot", "80"], "--port"),
            (&["--workers", "0"], "--workers"),
            (&["-b", "300.1.1.1.1"], "--bind"),
            (&["--index", "a/b"], "--index"),
            (&["--log-format", "xml"], "access-count"),
            (
                &["--access-log", "off", "--access-log", "-"],
                "stands alone",
            ),
            (&["--users", "oracle:x"], "sqlite:users.db"),
            (
                &["--users", "postgre://u:p@h/d"],
                "postgres://user:password",
            ),
            (&["--config", "f", "--no-site-file"], "--no-site-file"),
            (&["--keep-alive-timeout", "0"], "--keep-alive-timeout"),
            (&["--slow-log", "1s"], "--slow-log"),
            (
                &["--trusted-proxy", "proxy.example"],
                "'--trusted-proxy <NETWORK>': \"proxy.example\" is no network, as 10.0.0.0/8, \
                 192.0.2.7, ::1 and unix",
            ),
            (
                &["--trusted-proxy=::1", "--forwarded-field=x-real-ip"],
                "none of x-forwarded-for, forwarded",
            ),
            (&["--forwarded-field=forwarded"], "--trusted-proxy"),
            (&["--cors=a.test"], "--cors"),
            (&["--upload-max", "1 GiB"], "--upload"),
            (&["--upload-overwrite"], "--upload"),
            (&["--upload", "--upload-max", "1 GB"], "\"100 MiB\""),
            (&["--upload", "-b", "0.0.0.0"], "--auth-file"),
            (&["--upload", "-b", "::1", "-b", "::"], "--bind ::"),
        ];
        for (args, expected) in table {
            let error = settings(args).expect_err("a usage error");
            assert!(error.contains(expected), "{args:?}: {error}");
            assert!(!error.contains('\n'), "{args:?}: {error}");
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
        let socket = |text: &str| Endpoint::Socket(text.parse().expect("an address"));
        assert_eq!(
            of(&[
                "-b",
                "127.0.0.2:80",
                "-b",
                "[::1]:81",
                "-b",
                "unix:/run/tws.sock"
            ]),
            Ok(vec![
                socket("127.0.0.2:80"),
                socket("[::1]:81"),
                Endpoint::Unix("/run/tws.sock".into())
            ])
        );
        assert!(of(&["-b", "localhost"]).expect("known").contains(&v4));
    }

    #[test]
    fn uploads_are_for_this_machine_or_for_those_who_say_who_they_are() {
        let of = |args: &[&str]| {
            let overrides = settings(args).expect("fine").overrides;
            let mut site = Site::default();
            overrides.apply(&mut site, Path::new("nowhere"));
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
        let addresses = [mapped.into(), Endpoint::Unix("s".into())];
        assert_eq!(check_uploads(&addresses, Authentication::None), Ok(()));
    }

    #[test]
    fn the_access_log_goes_where_it_is_sent() {
        let of = |args: &[&str]| settings(args).map(|settings| settings.access_log.len());
        assert_eq!(of(&[]), Ok(1));
        assert_eq!(of(&["-q"]), Ok(0));
        assert_eq!(of(&["-q", "--access-log", "-"]), Ok(1));
        assert_eq!(of(&["--access-log", "off"]), Ok(0));
        assert_eq!(of(&["--access-log", "-", "--access-log", "a.log"]), Ok(2));
    }

    #[test]
    fn the_flags_are_well_formed() {
        Flags::command().debug_assert();
    }
}
