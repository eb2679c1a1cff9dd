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
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{
    Arg, ArgAction, ArgMatches, Command, CommandFactory, FromArgMatches, Parser, ValueHint,
};
use tws::access_log::{Format, LogDestination};
use tws::site::{
    Compress, EtagSource, FileName, HeaderRule, IndexName, Listing, Origin, Site, Size, Store,
    Symlinks,
};
use tws::{Endpoint, ForwardedField, Limits, Networks, Rate};

use super::subcommand;

const SERVING: &str = "Serving";
const LISTENING: &str = "Listening";
const TLS: &str = "TLS";
const ACCESS: &str = "Access";
const LIMITS: &str = "Limits";
const LOGS: &str = "Logs";
const PROCESS: &str = "Process";

/// The number of columns that help takes at most.
const HELP_WIDTH: usize = 80;

/// What the help says behind the flags; `-h` only says what subcommands there are.
pub(super) const MORE_HELP: &str = "\
A number is the port: `tws 80`. Without PATH, ./www is served if it exists, else the current \
directory. A folder with the name of a subcommand is given as ./check.

Flags take precedence over environment variables, and those over the settings file (--config, else \
PATH/.tws.toml). The keys of the file have the names of the flags: `port = 80`.";

const EXPLAIN_HELP: &str = "\
METHOD and TARGET are those of the request: `tws explain www GET /a.js -H 'Host: a.test'`. All \
other flags are those that tws would serve with.";

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
    override_usage = "tws [OPTIONS] [PATH] [PORT]\n       tws SUBCOMMAND ...",
    max_term_width = HELP_WIDTH
)]
pub(super) struct Flags {
    /// Folder or file to serve; port to listen on
    #[arg(value_name = "PATH] [PORT", num_args = 0.., value_hint = ValueHint::AnyPath)]
    pub(super) path_and_port: Vec<OsString>,

    /// Folder to serve, same as PATH
    #[arg(short, long, value_name = "PATH", value_hint = ValueHint::AnyPath, help_heading = SERVING)]
    pub(super) directory: Option<PathBuf>,

    /// Index file of a folder [default: index.html]
    ///
    /// The file that is served for a folder. May be repeated: the first that exists is served.
    #[arg(long, value_name = "NAME", value_delimiter = ',', help_heading = SERVING)]
    pub(super) index: Vec<IndexName>,

    /// List folders: auto, on, off [default: auto]
    ///
    /// Whether a folder without an index file is listed. auto: only if PATH is given and has no
    /// index file itself.
    #[arg(long, value_name = "WHEN", value_parser = words::<Listing>(Listing::VALUES), help_heading = SERVING)]
    pub(super) listing: Option<Listing>,

    /// Compress: auto, sidecar, off [default: auto]
    ///
    /// Content codings to offer. auto compresses text on the fly, besides serving the .br, .zst and
    /// .gz files that lie beside a file; sidecar serves only those.
    #[arg(long, value_name = "HOW", value_parser = words::<Compress>(Compress::VALUES), help_heading = SERVING)]
    pub(super) compress: Option<Compress>,

    /// ETag source: mtime, content [default: mtime]
    ///
    /// What entity tags are made of. mtime: modification time and size. content: a hash of the
    /// file, for trees whose modification times mean nothing.
    #[arg(long, value_name = "OF", value_parser = words::<EtagSource>(EtagSource::VALUES), help_heading = SERVING)]
    pub(super) etag: Option<EtagSource>,

    /// Symlinks to follow: never, inside, follow
    ///
    /// Which symbolic links are followed. inside: those that stay below the root; follow: all of
    /// them. [default: inside]
    #[arg(long, value_name = "WHICH", value_parser = words::<Symlinks>(Symlinks::VALUES), help_heading = SERVING)]
    pub(super) symlinks: Option<Symlinks>,

    /// Serve names that begin with a dot
    #[arg(long, help_heading = SERVING)]
    pub(super) hidden: Option<bool>,

    /// Serve FILE for navigations that match no file
    ///
    /// For single-page applications. Requests for scripts, images and the like still get 404.
    /// Without FILE: index.html.
    #[arg(
        long,
        value_name = "FILE",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "index.html",
        help_heading = SERVING
    )]
    pub(super) spa: Option<FileName>,

    /// Header field for every file; may be repeated
    ///
    /// Example: -H 'Cache-Control: no-cache'.
    #[arg(short = 'H', long = "header", value_name = "K: V", value_parser = HeaderRule::for_all, help_heading = SERVING)]
    pub(super) headers: Vec<HeaderRule>,

    /// Settings file to read instead of PATH/.tws.toml
    ///
    /// Only this file may also set what belongs to the server rather than to the site: addresses,
    /// logs, certificates, user and group. Paths in it are relative to the file.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, help_heading = SERVING)]
    pub(super) config: Option<PathBuf>,

    /// Do not read PATH/.tws.toml
    #[arg(long, help_heading = SERVING)]
    pub(super) no_site_file: Option<bool>,

    /// User store: sqlite:FILE or a postgres:// URL
    ///
    /// Keep the users of POST /createUser in this store: sqlite:FILE or, shared by many machines,
    /// postgres://USER:PASSWORD@HOST/DATABASE ($PGPASSWORD applies if the URL has no password).
    #[arg(long, value_name = "STORE", help_heading = SERVING)]
    pub(super) users: Option<String>,

    /// Folder for data that must survive a restart
    ///
    /// [default: $STATE_DIRECTORY, else $XDG_STATE_HOME/tws, else ~/.local/state/tws]
    #[arg(long, value_name = "FOLDER", value_hint = ValueHint::DirPath, help_heading = SERVING)]
    pub(super) state_dir: Option<PathBuf>,

    /// Port to listen on; 0 for any [default: 8000]
    #[arg(short, long, value_name = "PORT", value_parser = whole::<u16>(PORTS), help_heading = LISTENING)]
    pub(super) port: Option<u16>,

    /// Address to listen on [default: 127.0.0.1]
    ///
    /// An address with or without a port (127.0.0.1, [::1]:80), a host name, or unix:PATH for a
    /// Unix socket. May be repeated.
    #[arg(
        short,
        long,
        value_name = "ADDRESS",
        value_delimiter = ',',
        value_parser = parse_addresses,
        help_heading = LISTENING
    )]
    pub(super) bind: Vec<Addresses>,

    /// Mode of Unix sockets [default: 660]
    ///
    /// The file mode, in octal, decides which processes may connect. The sockets belong to --user
    /// and --group.
    #[arg(long, value_name = "MODE", value_parser = mode, help_heading = LISTENING)]
    pub(super) unix_mode: Option<u32>,

    /// Require a PROXY protocol header
    ///
    /// Accept only connections that begin with a PROXY protocol header (version 1 or 2) from the
    /// proxies in --trusted-proxy or, without that, from this machine.
    #[arg(long, help_heading = LISTENING)]
    pub(super) proxy_protocol: bool,

    /// Proxy that may name the client of a request
    ///
    /// A network (10.0.0.0/8), an address (192.0.2.7, ::1), or unix for peers on Unix sockets. May
    /// be repeated. [default: none]
    #[arg(long, value_name = "NETWORK", value_delimiter = ',', help_heading = LISTENING)]
    pub(super) trusted_proxy: Vec<Networks>,

    /// Header field that trusted proxies write
    ///
    /// x-forwarded-for (together with x-forwarded-proto) or forwarded. The other one is ignored,
    /// since it comes from the client. [default: x-forwarded-for]
    #[arg(long, value_name = "FIELD", help_heading = LISTENING)]
    pub(super) forwarded_field: Option<ForwardedField>,

    /// Also listen here for status and metrics
    ///
    /// Listen on ADDRESS:PORT or unix:PATH for operators: a page of running transfers, /metrics for
    /// Prometheus, /healthz and /readyz. Only reachable from this machine, unless --auth-file
    /// requires a password.
    #[arg(long, value_name = "ADDRESS", value_parser = parse_admin, help_heading = LISTENING)]
    pub(super) admin: Option<Endpoint>,

    /// Serve HTTPS with this certificate (PEM)
    ///
    /// The file holds the certificate, followed by its intermediates. May be repeated: a client
    /// gets the first certificate that matches the requested name, else the first of all. The file
    /// is read again when it changes.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, help_heading = TLS)]
    pub(super) tls_cert: Vec<PathBuf>,

    /// Private key (PEM) of the certificate
    ///
    /// The order of the keys is that of the certificates. [default: in the certificate's file]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, help_heading = TLS)]
    pub(super) tls_key: Vec<PathBuf>,

    /// Serve HTTPS with a temporary certificate
    ///
    /// The certificate is generated at the start and no client trusts it; for testing.
    #[arg(long, help_heading = TLS)]
    pub(super) tls_self_signed: bool,

    /// Redirect plain HTTP on PORT to HTTPS
    ///
    /// Without PORT: 80.
    #[arg(
        long,
        value_name = "PORT",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "80",
        value_parser = whole::<u16>(PORTS),
        help_heading = TLS
    )]
    pub(super) redirect_http: Option<u16>,

    /// Let pages of ORIGIN read all responses
    ///
    /// This replaces what the site file says. Without ORIGIN: every origin.
    #[arg(
        long,
        value_name = "ORIGIN",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "*",
        help_heading = ACCESS
    )]
    pub(super) cors: Option<Origin>,

    /// Require a user name and password from FILE
    ///
    /// Create the file with `htpasswd -cB FILE USER`.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, help_heading = ACCESS)]
    pub(super) auth_file: Option<PathBuf>,

    /// Accept uploads (PUT, and POST to folders)
    ///
    /// Only from this machine, unless --auth-file requires a password.
    #[arg(long, help_heading = ACCESS)]
    pub(super) upload: Option<bool>,

    /// Size limit of an upload [default: 1 GiB]
    ///
    /// Examples: 512 KiB, 100 MiB.
    #[arg(long, value_name = "SIZE", help_heading = ACCESS)]
    pub(super) upload_max: Option<Size>,

    /// Let uploads replace existing files
    #[arg(long, help_heading = ACCESS)]
    pub(super) upload_overwrite: Option<bool>,

    /// Idle connection timeout [default: 10]
    ///
    /// How long an idle connection stays open for another request.
    #[arg(
        long,
        value_name = "SECONDS",
        value_parser = whole::<u32>(1..=86_400),
        help_heading = LIMITS
    )]
    pub(super) keep_alive_timeout: Option<u32>,

    /// Requests per connection after the first
    ///
    /// [default: no limit]
    #[arg(long, value_name = "N", value_parser = whole::<u32>(0..=MOST), help_heading = LIMITS)]
    pub(super) keep_alive_max: Option<u32>,

    /// Maximum number of connections
    ///
    /// At the limit the connection that is idle for the longest is closed; if none is idle, a new
    /// connection gets 503. [default: what file descriptors allow]
    #[arg(long, value_name = "N", value_parser = whole::<NonZeroUsize>(1..=MOST), help_heading = LIMITS)]
    pub(super) max_connections: Option<NonZeroUsize>,

    /// Maximum connections per client
    ///
    /// A client is an IPv4 address or an IPv6 /64; a further connection gets 503. All clients
    /// behind a proxy are one, unless --proxy-protocol tells them apart. [default: no limit]
    #[arg(long, value_name = "N", value_parser = whole::<NonZeroUsize>(1..=MOST), help_heading = LIMITS)]
    pub(super) max_connections_per_client: Option<NonZeroUsize>,

    /// Requests per second and client
    ///
    /// A client is an IPv4 address or an IPv6 /64. N:BURST sets how many requests may come at once;
    /// further ones get 429. Examples: 10, 0.5, 10:50. [default: no limit]
    #[arg(long, value_name = "N", help_heading = LIMITS)]
    pub(super) rate_limit: Option<Rate>,

    /// Requests per second and connection
    ///
    /// Values as with --rate-limit. [default: no limit]
    #[arg(long, value_name = "N", help_heading = LIMITS)]
    pub(super) rate_limit_connection: Option<Rate>,

    /// Bandwidth limit per client
    ///
    /// Bytes per second over all connections of a client, both directions combined. Examples: 512
    /// KiB, 10 MiB. All clients behind a proxy are one, unless --proxy-protocol tells them apart.
    /// [default: no limit]
    #[arg(long, value_name = "SIZE", value_parser = parse_bandwidth, help_heading = LIMITS)]
    pub(super) bandwidth: Option<NonZeroU64>,

    /// Bandwidth limit per connection
    ///
    /// Values as with --bandwidth. [default: no limit]
    #[arg(long, value_name = "SIZE", value_parser = parse_bandwidth, help_heading = LIMITS)]
    pub(super) bandwidth_connection: Option<NonZeroU64>,

    /// Minimum transfer rate [default: 240]
    ///
    /// Bytes per second that a client must send of a request body and receive of a response, after
    /// 5 seconds; slower clients are disconnected. 0 for no minimum.
    #[arg(long, value_name = "BYTES", value_parser = whole::<u32>(0..=MOST), help_heading = LIMITS)]
    pub(super) min_rate: Option<u32>,

    /// Shutdown timeout [default: 10]
    ///
    /// How long to wait for running requests on shutdown.
    #[arg(
        long,
        value_name = "SECONDS",
        value_parser = whole::<u32>(0..=86_400),
        help_heading = LIMITS
    )]
    pub(super) drain_timeout: Option<u32>,

    /// Delay before shutdown [default: 0]
    ///
    /// How long requests are still served after SIGTERM while /readyz of --admin already fails:
    /// time for a load balancer to notice.
    #[arg(
        long,
        value_name = "SECONDS",
        value_parser = whole::<u32>(0..=86_400),
        help_heading = LIMITS
    )]
    pub(super) drain_delay: Option<u32>,

    /// Access log: file, - or off [default: -]
    ///
    /// The file to write the access log to, - for standard output, or off. May be repeated.
    #[arg(long, value_name = "PATH|-|off", value_hint = ValueHint::AnyPath, help_heading = LOGS)]
    pub(super) access_log: Vec<OsString>,

    /// Access log format [default: common]
    ///
    /// access-count, common, combined or json.
    #[arg(
        long,
        value_name = "FORMAT",
        default_value = "common",
        hide_default_value = true,
        value_parser = words::<Format>(&["access-count", "common", "combined", "json"]),
        help_heading = LOGS
    )]
    pub(super) log_format: Format,

    /// Warn of responses that take at least this long
    ///
    /// The time to produce a response, not the time to send it.
    #[arg(long, value_name = "MILLISECONDS", value_parser = whole::<u32>(0..=MOST), help_heading = LOGS)]
    pub(super) slow_log: Option<u32>,

    /// Print errors only
    ///
    /// This also turns the access log off, unless --access-log is given.
    #[arg(short, long, help_heading = LOGS)]
    pub(super) quiet: bool,

    /// Log more; may be repeated
    ///
    /// RUST_LOG sets the level of each module.
    #[arg(short, long, action = ArgAction::Count, help_heading = LOGS)]
    pub(super) verbose: u8,

    /// Open the site in a browser once listening
    #[arg(short, long, help_heading = PROCESS)]
    pub(super) open: bool,

    /// Show a QR code for phones on your network
    #[arg(long, help_heading = PROCESS)]
    pub(super) qr: bool,

    /// Show running transfers in the terminal
    ///
    /// q quits tws. The access log is not written to the terminal then.
    #[arg(long, help_heading = PROCESS)]
    pub(super) tui: bool,

    /// Number of event loops [default: one per core]
    #[arg(long, value_name = "N", value_parser = whole::<NonZeroUsize>(1..=MOST), help_heading = PROCESS)]
    pub(super) workers: Option<NonZeroUsize>,

    /// Do not restrict access to the file system
    ///
    /// Without this flag, and if the kernel has Landlock, the process may reach only its root, its
    /// logs and its state after binding.
    #[arg(long, help_heading = PROCESS)]
    pub(super) no_sandbox: bool,

    /// Run as USER after binding (requires root)
    ///
    /// A name or a number.
    #[arg(long, value_name = "USER", value_hint = ValueHint::Username, help_heading = PROCESS)]
    pub(super) user: Option<String>,

    /// Run as GROUP after binding [default: the user's]
    ///
    /// A name or a number.
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
            let text = "METHOD and TARGET are missing; give both, as in `tws explain GET /`";
            return Err(usage(text.to_owned()));
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
        store.map_err(|reason: String| usage_of("--users", reason))
    }

    /// Where the access log goes.
    pub(super) fn destinations(&self) -> Result<Vec<LogDestination>, clap::Error> {
        let words = &self.access_log;
        if self.tui && words.iter().any(|word| word == "-") {
            let text = "--access-log - and --tui both need the terminal; write the log to a file";
            return Err(usage(text.to_owned()));
        }
        if words.is_empty() && !self.quiet && !self.tui {
            return Ok(vec![LogDestination::Stdout]);
        }
        if words.iter().any(|word| word == "off") {
            return match words.len() {
                1 => Ok(Vec::new()),
                _ => {
                    let reason = "off excludes other destinations; give only one of them";
                    Err(usage_of("--access-log", reason.to_owned()))
                }
            };
        }
        let destination = |word: &OsString| match word.to_str() {
            Some("-") => LogDestination::Stdout,
            _ => LogDestination::File(PathBuf::from(word)),
        };
        Ok(words.iter().map(destination).collect())
    }

    /// The two words without a flag.
    pub(super) fn path_and_port(&self) -> Result<(Option<PathBuf>, Option<u16>), clap::Error> {
        let folders = self
            .path_and_port
            .iter()
            .map(|word| ("PATH", word.as_os_str()));
        let directory = self.directory.iter();
        let directory = directory.map(|path| ("--directory", path.as_os_str()));
        if let Some((subject, _)) = folders.chain(directory).find(|(_, word)| word.is_empty()) {
            let reason = "the folder name is empty; give a folder, or . for this one";
            return Err(usage_of(subject, reason.to_owned()));
        }
        let (mut path, mut port) = (None, None);
        for word in &self.path_and_port {
            let number = word.to_str().filter(|text| is_number(text));
            match (number, port, &path) {
                (Some(text), None, _) => {
                    let number = whole_number(text, PORTS);
                    port = Some(number.map_err(|reason| usage_of("PORT", reason))?);
                }
                (_, _, None) => path = Some(PathBuf::from(word)),
                (Some(text), Some(port), Some(_)) => {
                    return Err(usage(format!(
                        "two ports given ({port} and {text}); give one"
                    )));
                }
                (None, _, Some(path)) => {
                    return Err(usage(format!(
                        "give only one folder (got {} and {})",
                        path.display(),
                        word.display()
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
    let subcommands = subcommands();
    Flags::command()
        .after_long_help(format!("{subcommands}\n\n{MORE_HELP}"))
        .after_help(format!(
            "{subcommands}\n\n`tws --help` and `tws man` describe each option in detail."
        ))
        .mut_args(|arg| {
            let arg = match switches(&arg) {
                true => switch(arg),
                false => arg,
            };
            match (variable(&arg), Details::of(&arg)) {
                (Some(name), Some(details)) => {
                    let long = details.long_help(&name);
                    let takes_values = arg.get_action().takes_values();
                    arg.hide_possible_values(takes_values).long_help(long)
                }
                _ => arg,
            }
        })
}

fn subcommands() -> String {
    let line = |(word, _, about): &(&str, _, &str)| format!("\n  {word:<12} {about}");
    let lines: String = subcommand::WORDS.iter().map(line).collect();
    format!("Subcommands:{lines}")
}

/// The parts of a flag's help.
pub(super) struct Details {
    /// The line that `-h` shows, without the default.
    pub(super) summary: String,
    pub(super) rest: String,
    pub(super) default: Option<String>,
}

impl Details {
    /// Reads the doc comment of a flag, in which `[default: ...]` stands behind a paragraph.
    pub(super) fn of(arg: &Arg) -> Option<Self> {
        let summary = arg.get_help()?.to_string();
        let long = arg.get_long_help().map(ToString::to_string);
        // Where `command` has been here before, the variable comes last.
        let long = long.as_deref().and_then(|long| long.strip_prefix(&summary));
        let rest = long.unwrap_or_default().trim();
        let (summary, first) = without_default(&summary);
        let (rest, second) = without_default(rest);
        Some(Self {
            summary: summary.to_owned(),
            rest: rest.to_owned(),
            default: first.or(second).map(str::to_owned),
        })
    }

    fn long_help(&self, variable: &str) -> String {
        let default = self.default.iter();
        let default = default.map(|default| format!("[default: {default}] "));
        let last = default.collect::<String>() + &format!("[env: {variable}]");
        let paragraphs = [&self.summary, &self.rest, &last];
        let paragraphs = paragraphs.into_iter().filter(|text| !text.is_empty());
        paragraphs
            .map(String::as_str)
            .collect::<Vec<_>>()
            .join("\n\n")
    }
}

/// A paragraph, and the default that stands behind it.
fn without_default(text: &str) -> (&str, Option<&str>) {
    let parts = text
        .strip_suffix(']')
        .and_then(|text| text.rsplit_once("[default: "));
    match parts {
        Some((before, default)) => (before.trim_end(), Some(default)),
        None => (text, None),
    }
}

/// What clap knows the fields of the request by that is explained.
const REQUEST_FIELD: &str = "field";

pub(super) fn explain_command() -> Command {
    let field = Arg::new(REQUEST_FIELD)
        .short('H')
        .value_name("K: V")
        .action(ArgAction::Append)
        .help("Header field of the request; may be repeated");
    command()
        .name("tws explain")
        .bin_name("tws explain")
        .about("Explain how a request would be answered, without serving or changing anything")
        .override_usage("tws explain [OPTIONS] [PATH] METHOD TARGET [-H 'K: V']...")
        .after_help(EXPLAIN_HELP)
        .after_long_help(EXPLAIN_HELP)
        .mut_arg("path_and_port", |arg| {
            arg.value_name("PATH] [METHOD] [TARGET")
                .help("Folder or file that would be served; the request")
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

/// The value that turns a setting off.
pub(super) fn negation(arg: &Arg) -> Option<&'static str> {
    let words = arg.get_possible_values();
    let has_off = words.iter().any(|word| word.get_name() == "off");
    match arg.get_long()? {
        _ if switches(arg) => Some("no"),
        _ if has_off => Some("off"),
        "access-log" => Some("off"),
        _ => None,
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

/// All types of numbers here have room for it.
const MOST: u64 = u32::MAX as u64;

const PORTS: RangeInclusive<u64> = 0..=65_535;

/// A parser for whole numbers of a range that `T` has room for.
fn whole<T>(range: RangeInclusive<u64>) -> impl TypedValueParser<Value = T>
where
    T: FromStr + Clone + Send + Sync + 'static,
{
    move |text: &str| whole_number(text, range.clone())
}

fn whole_number<T: FromStr>(text: &str, range: RangeInclusive<u64>) -> Result<T, String> {
    let fits = text
        .parse()
        .is_ok_and(|number: u64| range.contains(&number));
    let number = text.parse().ok().filter(|_| fits);
    number.ok_or_else(|| {
        let (least, most) = range.into_inner();
        format!("must be an integer between {least} and {most} (got {text:?})")
    })
}

/// As chmod(1) has it.
fn mode(text: &str) -> Result<u32, String> {
    match u32::from_str_radix(text, 8) {
        Ok(mode) if mode <= 0o777 => Ok(mode),
        _ => Err(format!(
            "must be an octal file mode, such as 660 or 600 (got {text:?})"
        )),
    }
}

fn yes_or_no(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "yes" | "true" | "on" | "1" => Ok(true),
        "no" | "false" | "off" | "0" => Ok(false),
        _ => Err(format!("must be yes or no (got {text:?})")),
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
        _ => Err(format!(
            "must be an address with a port or a Unix socket, such as 127.0.0.1:9090, [::1]:9090 or \
             unix:/run/tws-admin.sock (got {text:?})"
        )),
    }
}

fn parse_bandwidth(text: &str) -> Result<NonZeroU64, String> {
    let size: Size = text.parse()?;
    let enough = NonZeroU64::new(size.bytes()).filter(|rate| rate.get() >= Limits::MIN_BANDWIDTH);
    enough.ok_or_else(|| format!("must be at least 1 KiB per second (got {text:?})"))
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
        format!(
            "{text:?} is neither an address nor a name that this machine can resolve; give an \
             address such as 127.0.0.1, 0.0.0.0, ::1, [::]:80 or unix:/run/tws.sock"
        )
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

/// An error in what was said as a whole.
pub(super) fn usage(message: String) -> clap::Error {
    let mut error = clap::Error::new(ErrorKind::ValueValidation);
    error.insert(ContextKind::Custom, ContextValue::String(message));
    error
}

/// An error in what was said of one setting.
pub(super) fn usage_of(subject: &str, reason: String) -> clap::Error {
    let mut error = usage(reason);
    let subject = ContextValue::String(subject.to_owned());
    error.insert(ContextKind::InvalidArg, subject);
    error
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
