//! The flags. Each is also a key in the file and a variable in the environment, so what is said
//! here about a flag holds for all three; `layers` puts them together.
//!
//! A flag whose value is a `bool` is a switch: `--hidden`, `--hidden=no`. One whose value is a path
//! says so with a `value_hint`: in a file it is relative to the file. One whose values never hold a
//! comma may say `value_delimiter = ','`.

use std::any::TypeId;
use std::ffi::OsString;
use std::net::{SocketAddr, ToSocketAddrs, UdpSocket};
use std::num::{NonZeroU64, NonZeroUsize};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::error::ErrorKind;
use clap::{
    Arg, ArgAction, ArgMatches, Command, CommandFactory, FromArgMatches, Parser, ValueHint,
};
use tws::access_log::{Destination, Format};
use tws::site::{
    Compress, EtagSource, FileName, HeaderRule, IndexName, Listing, Origin, Site, Size, Store,
    Symlinks,
};
use tws::{Endpoint, ForwardedField, Limits, Networks, Rate};

const SERVING: &str = "Serving";
const LISTENING: &str = "Listening";
const TLS: &str = "TLS";
const ACCESS: &str = "Access";
const LIMITS: &str = "Limits";
const LOGS: &str = "Logs";
const PROCESS: &str = "Process";

/// Flags that a root's own file may set. That file may have come with an archive of a stranger's:
/// what reaches outside of the root, shows the machine to others or hides what goes on is not for
/// it. A flag that is not named here is refused there.
const FOR_ROOTS: &[&str] = &[
    "port",
    "workers",
    "keep-alive-timeout",
    "keep-alive-max",
    "max-connections",
    "max-connections-per-client",
    "rate-limit",
    "rate-limit-connection",
    "bandwidth",
    "bandwidth-connection",
    "min-rate",
    "drain-timeout",
    "drain-delay",
    "log-format",
    "slow-log",
    "verbose",
];

/// Flags whose setting is a site's under another name.
const SITES: &[(&str, &str)] = &[
    ("header", "[[header]]"),
    ("upload", "[upload]"),
    ("upload-max", "max in [upload]"),
    ("upload-overwrite", "overwrite in [upload]"),
    ("users", "store in [users]"),
];

/// What was said, by whoever said it.
#[derive(Debug, Parser)]
#[command(
    name = "tws",
    version,
    about = "A static-first HTTP server that nothing slow can slow down",
    override_usage = "tws [OPTIONS] [PATH] [PORT]",
    after_help = "Without PATH, ./www is served where there is one, else the current directory. \
                  A bare number is the port: `tws 80`. Words that are no PATH come first: \
                  `tws check` says what is wrong with the settings, `tws completions SHELL` and \
                  `tws man` print what a shell and man(1) want. A folder of such a name is \
                  ./check.\n\n\
                  Flags come before the environment, that before the file (--config, else \
                  PATH/.tws.toml), which has keys of the flags' names: `port = 80`."
)]
pub(super) struct Flags {
    /// The folder or the single file to serve, and the port
    #[arg(value_name = "PATH] [PORT", num_args = 0..=2, value_hint = ValueHint::AnyPath)]
    pub(super) path_and_port: Vec<OsString>,

    /// The folder to serve, as PATH
    #[arg(short, long, value_name = "PATH", value_hint = ValueHint::AnyPath, help_heading = SERVING)]
    pub(super) directory: Option<PathBuf>,

    /// A name that stands for a folder; may be repeated, the first that exists is taken
    /// [default: index.html]
    #[arg(long, value_name = "NAME", value_delimiter = ',', help_heading = SERVING)]
    pub(super) index: Vec<IndexName>,

    /// List folders without an index; auto: if PATH is given and has no index
    /// [default: auto]
    #[arg(long, value_name = "WHEN", value_parser = words::<Listing>(Listing::WORDS), help_heading = SERVING)]
    pub(super) listing: Option<Listing>,

    /// Content codings: auto compresses text, sidecar only takes .br .zst .gz beside the file
    /// [default: auto]
    #[arg(long, value_name = "HOW", value_parser = words::<Compress>(Compress::WORDS), help_heading = SERVING)]
    pub(super) compress: Option<Compress>,

    /// What entity tags are made of; content is for trees whose times mean nothing
    /// [default: mtime]
    #[arg(long, value_name = "OF", value_parser = words::<EtagSource>(EtagSource::WORDS), help_heading = SERVING)]
    pub(super) etag: Option<EtagSource>,

    /// Symbolic links that are followed; inside: those that stay beneath the root
    /// [default: inside]
    #[arg(long, value_name = "WHICH", value_parser = words::<Symlinks>(Symlinks::WORDS), help_heading = SERVING)]
    pub(super) symlinks: Option<Symlinks>,

    /// Serve names that begin with a dot, too
    #[arg(long, help_heading = SERVING)]
    pub(super) hidden: Option<bool>,

    /// Answer navigations that find nothing with FILE; index.html if none is named
    #[arg(
        long,
        value_name = "FILE",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "index.html",
        help_heading = SERVING
    )]
    pub(super) spa: Option<FileName>,

    /// A header field for every file; may be repeated
    #[arg(short = 'H', long = "header", value_name = "K: V", value_parser = HeaderRule::for_all, help_heading = SERVING)]
    pub(super) headers: Vec<HeaderRule>,

    /// The file to read instead of PATH/.tws.toml; only this one may set what is the server's and not
    /// the site's: addresses, logs, certificates, who to be. Paths in it are relative to it
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, help_heading = SERVING)]
    pub(super) config: Option<PathBuf>,

    /// Read no such file
    #[arg(long, help_heading = SERVING)]
    pub(super) no_site_file: Option<bool>,

    /// Keep users (POST /createUser) in this store: sqlite:FILE, or, for many machines,
    /// postgres://USER:PASSWORD@HOST/DATABASE (without a password there, $PGPASSWORD's)
    #[arg(long, value_name = "STORE", help_heading = SERVING)]
    pub(super) users: Option<String>,

    /// Where the server keeps what must survive it
    /// [default: $STATE_DIRECTORY, else $XDG_STATE_HOME/tws, else ~/.local/state/tws]
    #[arg(long, value_name = "FOLDER", value_hint = ValueHint::DirPath, help_heading = SERVING)]
    pub(super) state_dir: Option<PathBuf>,

    /// The port to listen on; 0 takes a free one [default: 8000]
    #[arg(short, long, value_name = "PORT", value_parser = whole::<u16>(0..=65_535), help_heading = LISTENING)]
    pub(super) port: Option<u16>,

    /// An address to listen on, with a port of its own or without, or unix:PATH; may be repeated
    /// [default: 127.0.0.1]
    #[arg(
        short,
        long,
        value_name = "ADDRESS",
        value_delimiter = ',',
        value_parser = parse_addresses,
        help_heading = LISTENING
    )]
    pub(super) bind: Vec<Addresses>,

    /// Who may connect to Unix sockets, as a mode of theirs; they are --user's and --group's
    /// [default: 660]
    #[arg(long, value_name = "MODE", value_parser = mode, help_heading = LISTENING)]
    pub(super) unix_mode: Option<u32>,

    /// Take connections only from proxies, which say ahead of each whose it is (PROXY protocol, 1
    /// or 2): those of --trusted-proxy, else those on this machine
    #[arg(long, help_heading = LISTENING)]
    pub(super) proxy_protocol: bool,

    /// A proxy that is believed when it tells whose requests it passes on: 10.0.0.0/8, 192.0.2.7,
    /// ::1, or unix for those at unix sockets; may be repeated [default: none]
    #[arg(long, value_name = "NETWORK", value_delimiter = ',', help_heading = LISTENING)]
    pub(super) trusted_proxy: Vec<Networks>,

    /// The field that trusted proxies write (the other is the client's): x-forwarded-for, with
    /// x-forwarded-proto, or forwarded [default: x-forwarded-for]
    #[arg(long, value_name = "FIELD", help_heading = LISTENING)]
    pub(super) forwarded_field: Option<ForwardedField>,

    /// Listen there, too, for operators, at ADDRESS:PORT or unix:PATH: the transfers that are going on
    /// as a page, /metrics for Prometheus, /healthz and /readyz. From this machine only, unless
    /// --auth-file asks for passwords
    #[arg(long, value_name = "ADDRESS", value_parser = parse_admin, help_heading = LISTENING)]
    pub(super) admin: Option<Endpoint>,

    /// Speak TLS, with this certificate and those that lead to it (PEM); may be repeated: a client
    /// gets the first that has the name it asks for, or the first of all. Read again when it changes
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, help_heading = TLS)]
    pub(super) tls_cert: Vec<PathBuf>,

    /// The key of the certificate at the same place in the row [default: in its file]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, help_heading = TLS)]
    pub(super) tls_key: Vec<PathBuf>,

    /// Speak TLS, with a certificate made on the spot that no client knows; for a try-out
    #[arg(long, help_heading = TLS)]
    pub(super) tls_self_signed: bool,

    /// Send who speaks plain HTTP at PORT to HTTPS; 80 if none is named
    #[arg(
        long,
        value_name = "PORT",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "80",
        value_parser = whole::<u16>(0..=65_535),
        help_heading = TLS
    )]
    pub(super) redirect_http: Option<u16>,

    /// Let pages of ORIGIN read all answers, whatever the file says; of all if none is named
    #[arg(
        long,
        value_name = "ORIGIN",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "*",
        help_heading = ACCESS
    )]
    pub(super) cors: Option<Origin>,

    /// Let in only the users in FILE, made with `htpasswd -cB FILE USER`
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, help_heading = ACCESS)]
    pub(super) auth_file: Option<PathBuf>,

    /// Take files: PUT, and forms (POST) to folders. From this machine only, unless requests need a
    /// password
    #[arg(long, help_heading = ACCESS)]
    pub(super) upload: Option<bool>,

    /// How large an upload may be: 512 KiB, 100 MiB [default: 1 GiB]
    #[arg(long, value_name = "SIZE", help_heading = ACCESS)]
    pub(super) upload_max: Option<Size>,

    /// Let uploads replace files that are there
    #[arg(long, help_heading = ACCESS)]
    pub(super) upload_overwrite: Option<bool>,

    /// Seconds an idle connection is kept for a further request [default: 10]
    #[arg(
        long,
        value_name = "SECONDS",
        value_parser = whole::<u32>(1..=86_400),
        help_heading = LIMITS
    )]
    pub(super) keep_alive_timeout: Option<u32>,

    /// Further requests a connection may carry after its first [default: no limit]
    #[arg(long, value_name = "N", value_parser = whole::<u32>(0..=MOST), help_heading = LIMITS)]
    pub(super) keep_alive_max: Option<u32>,

    /// Connections in all; over it idle ones are closed, then new ones told 503
    /// [default: what file descriptors allow]
    #[arg(long, value_name = "N", value_parser = whole::<NonZeroUsize>(1..=MOST), help_heading = LIMITS)]
    pub(super) max_connections: Option<NonZeroUsize>,

    /// Connections of one client, an IPv4 address or an IPv6 /64; one more is told 503. All that
    /// are behind a proxy are one, unless --proxy-protocol tells them apart [default: no limit]
    #[arg(long, value_name = "N", value_parser = whole::<NonZeroUsize>(1..=MOST), help_heading = LIMITS)]
    pub(super) max_connections_per_client: Option<NonZeroUsize>,

    /// Requests per second of one client, an IPv4 address or an IPv6 /64, and with N:BURST how many
    /// at once; more are told 429: 10, 0.5, 10:50 [default: no limit]
    #[arg(long, value_name = "N", help_heading = LIMITS)]
    pub(super) rate_limit: Option<Rate>,

    /// The same for each connection
    #[arg(long, value_name = "N", help_heading = LIMITS)]
    pub(super) rate_limit_connection: Option<Rate>,

    /// Bytes per second that one client may move on all its connections, there and back: 512 KiB,
    /// 10 MiB. All that are behind a proxy are one, unless --proxy-protocol tells them apart
    /// [default: no limit]
    #[arg(long, value_name = "SIZE", value_parser = parse_bandwidth, help_heading = LIMITS)]
    pub(super) bandwidth: Option<NonZeroU64>,

    /// The same for each connection
    #[arg(long, value_name = "SIZE", value_parser = parse_bandwidth, help_heading = LIMITS)]
    pub(super) bandwidth_connection: Option<NonZeroU64>,

    /// Bytes per second that a client must send of a content and take of a reply, after 5 seconds;
    /// 0 for none [default: 240]
    #[arg(long, value_name = "BYTES", value_parser = whole::<u32>(0..=MOST), help_heading = LIMITS)]
    pub(super) min_rate: Option<u32>,

    /// Seconds that answers in flight may take at the end [default: 10]
    #[arg(
        long,
        value_name = "SECONDS",
        value_parser = whole::<u32>(0..=86_400),
        help_heading = LIMITS
    )]
    pub(super) drain_timeout: Option<u32>,

    /// Seconds in which everybody is still served after SIGTERM, and only /readyz of --admin tells
    /// that the end comes: time for a load balancer to notice [default: 0]
    #[arg(
        long,
        value_name = "SECONDS",
        value_parser = whole::<u32>(0..=86_400),
        help_heading = LIMITS
    )]
    pub(super) drain_delay: Option<u32>,

    /// Where the access log goes: a file, - for the terminal, off; may be repeated [default: -]
    #[arg(long, value_name = "PATH|-|off", value_hint = ValueHint::AnyPath, help_heading = LOGS)]
    pub(super) access_log: Vec<OsString>,

    /// The form of a line in the access log
    #[arg(
        long,
        value_name = "FORMAT",
        default_value = "common",
        value_parser = words::<Format>(&["access-count", "common", "combined", "json"]),
        help_heading = LOGS
    )]
    pub(super) log_format: Format,

    /// Warn of answers that took so long to make, or longer
    #[arg(long, value_name = "MILLISECONDS", value_parser = whole::<u32>(0..=MOST), help_heading = LOGS)]
    pub(super) slow_log: Option<u32>,

    /// Print nothing but errors; no access log unless --access-log asks for one
    #[arg(short, long, help_heading = LOGS)]
    pub(super) quiet: bool,

    /// Say more about what goes on; may be repeated. RUST_LOG says it in detail
    #[arg(short, long, action = ArgAction::Count, help_heading = LOGS)]
    pub(super) verbose: u8,

    /// Open the browser once it listens
    #[arg(short, long, help_heading = PROCESS)]
    pub(super) open: bool,

    /// Show the address for other machines as a QR code
    #[arg(long, help_heading = PROCESS)]
    pub(super) qr: bool,

    /// Show the transfers that are going on in the terminal; q ends. No access log goes there then
    #[arg(long, help_heading = PROCESS)]
    pub(super) tui: bool,

    /// How many event loops [default: one per core]
    #[arg(long, value_name = "N", value_parser = whole::<NonZeroUsize>(1..=MOST), help_heading = PROCESS)]
    pub(super) workers: Option<NonZeroUsize>,

    /// Let the process read and write everything that its user may. Without this it is restricted,
    /// once it listens and if the kernel has Landlock, to its root, its logs and its state
    #[arg(long, help_heading = PROCESS)]
    pub(super) no_sandbox: bool,

    /// Who to be once it listens, by name or number; only root can
    #[arg(long, value_name = "USER", value_hint = ValueHint::Username, help_heading = PROCESS)]
    pub(super) user: Option<String>,

    /// Which group to be of [default: the user's]
    #[arg(long, value_name = "GROUP", help_heading = PROCESS)]
    pub(super) group: Option<String>,

    /// What `tws explain` is asked: no setting.
    #[arg(skip)]
    pub(super) request: Option<RequestWords>,
}

/// A request as it was typed.
#[derive(Clone, Debug)]
pub(crate) struct RequestWords {
    pub(crate) method: OsString,
    pub(crate) target: OsString,
    /// As `K: V`.
    pub(crate) fields: Vec<String>,
}

/// What the flags are read for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Purpose {
    #[default]
    Serving,
    /// A request stands behind them, which has `-H` to itself, as curl has it; `--header` stays the
    /// site's.
    Explaining,
}

impl Flags {
    /// Reads words, the first of which is the program's name.
    pub(super) fn parse(
        words: &[OsString],
        purpose: Purpose,
    ) -> Result<(Self, ArgMatches), clap::Error> {
        let mut matches = match purpose {
            Purpose::Serving => command().try_get_matches_from(words)?,
            Purpose::Explaining => explain_command().try_get_matches_from(words)?,
        };
        let named = matches.clone();
        let mut flags = Self::from_arg_matches_mut(&mut matches)?;
        if purpose == Purpose::Explaining {
            flags.take_request(&named)?;
        }
        // What clap cannot look at, or would repeat when it complains.
        flags.store()?;
        flags.destinations()?;
        flags.path_and_port()?;
        Ok((flags, named))
    }

    /// The path may be left out, the request may not.
    fn take_request(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        let words = self.path_and_port.len().saturating_sub(2);
        let [method, target] = &self.path_and_port.split_off(words)[..] else {
            let text = "a method and a path are wanted, as in `tws explain GET /`".to_owned();
            return Err(usage(text));
        };
        let fields = matches.get_many::<String>(REQUEST_FIELD);
        self.request = Some(RequestWords {
            method: method.clone(),
            target: target.clone(),
            fields: fields.unwrap_or_default().cloned().collect(),
        });
        Ok(())
    }

    /// Read here: clap would repeat in its error what was typed, the password in it too.
    pub(super) fn store(&self) -> Result<Option<Store>, clap::Error> {
        let store = self.users.as_deref().map(str::parse).transpose();
        store.map_err(|reason: String| usage(format!("--users: {reason}")))
    }

    /// Where the access log goes.
    pub(super) fn destinations(&self) -> Result<Vec<Destination>, clap::Error> {
        let words = &self.access_log;
        if self.tui && words.iter().any(|word| word == "-") {
            let text = "--access-log - and --tui both want the terminal; give the log a file";
            return Err(usage(text.to_owned()));
        }
        if words.is_empty() && !self.quiet && !self.tui {
            return Ok(vec![Destination::Stdout]);
        }
        if words.iter().any(|word| word == "off") {
            return match words.len() {
                1 => Ok(Vec::new()),
                _ => Err(usage("--access-log off stands alone".to_owned())),
            };
        }
        let destination = |word: &OsString| match word.to_str() {
            Some("-") => Destination::Stdout,
            _ => Destination::File(PathBuf::from(word)),
        };
        Ok(words.iter().map(destination).collect())
    }

    /// The two words without a flag.
    pub(super) fn path_and_port(&self) -> Result<(Option<PathBuf>, Option<u16>), clap::Error> {
        let (mut path, mut port) = (None, None);
        for word in &self.path_and_port {
            let number = word.to_str().filter(|text| is_number(text));
            match number {
                Some(text) if port.is_none() => match text.parse() {
                    Ok(number) => port = Some(number),
                    Err(_) => {
                        return Err(usage(format!("{text} is not a port; ports are 0 to 65535")));
                    }
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
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// The flags as clap shall know them.
pub(super) fn command() -> Command {
    Flags::command().mut_args(|arg| {
        let arg = match switches(&arg) {
            true => switch(arg),
            false => arg,
        };
        match (variable(&arg), arg.get_help()) {
            (Some(name), Some(help)) => {
                let help = format!("{help} [env: {name}]");
                arg.help(help)
            }
            _ => arg,
        }
    })
}

/// What clap knows the fields of the request by that is explained.
const REQUEST_FIELD: &str = "field";

pub(super) fn explain_command() -> Command {
    let field = Arg::new(REQUEST_FIELD)
        .short('H')
        .value_name("K: V")
        .action(ArgAction::Append)
        .help("A header field of the request; may be repeated");
    command()
        .name("tws explain")
        .bin_name("tws explain")
        .about("Say what a request would be answered, and why. Nothing is served or changed")
        .override_usage("tws explain [OPTIONS] [PATH] METHOD TARGET [-H 'K: V']...")
        .after_help(
            "METHOD and TARGET are the request's: `tws explain www GET /a.js -H 'Host: a.test'`. \
             All other flags are those with which tws would serve.",
        )
        .mut_arg("path_and_port", |arg| {
            arg.value_name("PATH] [METHOD] [TARGET")
                .num_args(0..=3)
                .help("The folder or the single file that would be served; and the request")
        })
        .mut_arg("headers", |arg| arg.short(None))
        .arg(field)
}

/// The flags that are settings, each with its long name; not --help and --version.
pub(super) fn settings(command: &Command) -> impl Iterator<Item = (&Arg, &str)> {
    command
        .get_arguments()
        .filter_map(|arg| Some((arg, arg.get_long()?)))
}

/// Its name in the environment.
pub(super) fn variable(arg: &Arg) -> Option<String> {
    let long = arg.get_long()?;
    Some(format!("TWS_{}", long.replace('-', "_").to_uppercase()))
}

/// Where a setting is in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key<'a> {
    /// It says where the file is, which the file cannot.
    Nowhere,
    /// Among the site's.
    Site(&'a str),
    /// Beside them, in any file.
    Beside(&'a str),
    /// Beside them, in a file that --config names.
    BesideInConfig(&'a str),
}

/// The key of the flag with this long name.
pub(super) fn key(long: &str) -> Key<'_> {
    let other = SITES.iter().find(|(flag, _)| *flag == long);
    match other {
        _ if matches!(long, "config" | "no-site-file" | "help" | "version") => Key::Nowhere,
        Some((_, key)) => Key::Site(key),
        None if Site::KEYS.contains(&long) => Key::Site(long),
        None if FOR_ROOTS.contains(&long) => Key::Beside(long),
        None => Key::BesideInConfig(long),
    }
}

fn switches(arg: &Arg) -> bool {
    arg.get_value_parser().type_id() == TypeId::of::<bool>()
}

/// A flag that can be taken back by who speaks later.
fn switch(arg: Arg) -> Arg {
    let has_default = matches!(arg.get_action(), ArgAction::SetTrue);
    let arg = arg
        .action(ArgAction::Set)
        .num_args(0..=1)
        .require_equals(true)
        .default_missing_value("yes")
        .value_name("yes|no")
        .value_parser(yes_or_no);
    match has_default {
        true => arg.default_value("no").hide_default_value(true),
        false => arg,
    }
}

/// Nobody wants more of anything, and all types of numbers here have room for it.
const MOST: u64 = u32::MAX as u64;

/// A parser for whole numbers of a range that `T` has room for.
fn whole<T>(range: RangeInclusive<u64>) -> impl TypedValueParser<Value = T>
where
    T: FromStr + Clone + Send + Sync + 'static,
{
    move |text: &str| {
        let fits = text
            .parse()
            .is_ok_and(|number: u64| range.contains(&number));
        let number = text.parse().ok().filter(|_| fits);
        number.ok_or_else(|| match *range.end() {
            MOST => format!("it is no whole number from {} on", range.start()),
            end => format!("it is no whole number from {} to {end}", range.start()),
        })
    }
}

/// As chmod(1) has it.
fn mode(text: &str) -> Result<u32, String> {
    match u32::from_str_radix(text, 8) {
        Ok(mode) if mode <= 0o777 => Ok(mode),
        _ => Err("it is no mode, as 660 and 600 are".to_owned()),
    }
}

fn yes_or_no(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "yes" | "true" | "on" | "1" => Ok(true),
        "no" | "false" | "off" | "0" => Ok(false),
        _ => Err("it is neither yes nor no".to_owned()),
    }
}

/// A parser for one of a few words, which the help lists.
fn words<T>(words: &'static [&'static str]) -> impl TypedValueParser<Value = T>
where
    T: FromStr<Err = String> + Clone + Send + Sync + 'static,
{
    PossibleValuesParser::new(words).try_map(|word| word.parse::<T>())
}

/// A name may have several addresses: `localhost` has two.
#[derive(Clone, Debug)]
pub(super) struct Addresses(pub(super) Vec<Endpoint>);

/// An address with a port, or a socket.
fn parse_admin(text: &str) -> Result<Endpoint, String> {
    match text.parse() {
        Ok(endpoint @ (Endpoint::Socket(_) | Endpoint::Unix(_))) => Ok(endpoint),
        _ => Err(
            "an address and a port are wanted, or a socket, as 127.0.0.1:9090, [::1]:9090 and \
             unix:/run/tws-admin.sock are"
                .to_owned(),
        ),
    }
}

fn parse_bandwidth(text: &str) -> Result<NonZeroU64, String> {
    let size: Size = text.parse()?;
    let enough = NonZeroU64::new(size.bytes()).filter(|rate| rate.get() >= Limits::MIN_BANDWIDTH);
    enough.ok_or_else(|| format!("{text:?} is too slow; \"1 KiB\" (per second) is the least"))
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

pub(super) fn usage(message: String) -> clap::Error {
    command().error(ErrorKind::ValueValidation, message)
}

/// clap explains over several lines; one is what logs and scripts want.
pub(super) fn one_line(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let lines = text.lines().map(str::trim).filter(|line| {
        !line.is_empty() && !line.starts_with("Usage:") && !line.starts_with("For more information")
    });
    let words = lines.collect::<Vec<_>>().join("; ").replace(":; ", ": ");
    words.strip_prefix("error: ").unwrap_or(&words).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flags_are_well_formed() {
        command().debug_assert();
    }

    #[test]
    fn what_is_said_about_flags_is_about_flags_that_there_are() {
        let command = command();
        let flags: Vec<&str> = settings(&command).map(|(_, long)| long).collect();
        let special = SITES.iter().map(|(flag, _)| flag);
        for name in FOR_ROOTS.iter().chain(special) {
            assert!(flags.contains(name), "{name}");
        }
    }

    #[test]
    fn each_setting_has_a_heading() {
        let command = command();
        for (arg, long) in settings(&command) {
            assert!(arg.get_help_heading().is_some(), "--{long}");
        }
    }
}
