//! The flags, each of which is also a key in the settings file and an environment variable: this is
//! their one definition, so what is written here about a flag holds for all three. `layers` merges
//! them, `command` derives the rest from a definition, `values` parses single values. Most of this file
//! is the definitions with their help, which are not split.
//!
//! - A flag whose type is `bool` is a switch: `--hidden`, `--hidden=no`.
//! - A flag whose value is a path has a `value_hint`: in a file the path is relative to the file.
//! - A flag whose values never contain a comma may have `value_delimiter = ','`.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::num::{NonZeroU64, NonZeroUsize};
use std::path::{Path, PathBuf};

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{ArgAction, Parser, ValueHint};
use tws::access_log::{Format, LogDestination, LogExclusion};
use tws::site::{
    Archive, Compress, Deletion, EtagSource, FileName, HeaderRule, IndexName, Listing, Origin,
    Period, Readme, Site, Size, Store, Symlinks,
};
use tws::{Endpoint, ForwardedField, Http2, Networks, Rate};

use super::acme::{AcmeDirectory, AcmeName, AcmeRequest, parse_acme_directory, parse_email};
use super::values::{
    BasePath, BindAddresses, ExitCondition, HostPattern, MAX_FLAG_NUMBER, PORTS, file_mode,
    integer, integer_in, one_of, parse_addresses, parse_admin, parse_bandwidth,
};

const SERVING: &str = "Serving";
const LISTENING: &str = "Listening";
const TLS: &str = "TLS";
const ACCESS: &str = "Access";
const LIMITS: &str = "Limits";
const LOGS: &str = "Logs";
const PROCESS: &str = "Process";

/// Maximum width of the help in columns.
const HELP_WIDTH: usize = 80;

/// Flags whose setting is a rule of the site with another name, and that name.
const SITE_KEYS: &[(&str, &str)] = &[
    ("header", "[[header]]"),
    ("upload", "[upload]"),
    ("upload-max", "max in [upload]"),
    ("upload-overwrite", "overwrite in [upload]"),
    ("upload-parents", "parents in [upload]"),
    ("manage", "[manage]"),
    ("manage-delete", "delete in [manage]"),
    ("users", "store in [users]"),
];

/// The parsed arguments of all layers.
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
    #[arg(long, value_name = "WHEN", value_parser = one_of::<Listing>(Listing::VALUES), help_heading = SERVING)]
    pub(super) listing: Option<Listing>,

    /// Show the README below a listing: on, off
    ///
    /// README.md, without the HTML in it, or README.txt; of at most 256 KiB. [default: on]
    #[arg(long, value_name = "WHEN", value_parser = one_of::<Readme>(Readme::VALUES), help_heading = SERVING)]
    pub(super) readme: Option<Readme>,

    /// Offer folders as archives: auto, on, off
    ///
    /// /folder/?download=zip (tar, tar.gz, tar.zst) sends a folder with all that is beneath it, as
    /// far as its files are served. auto: if folders are listed. [default: auto]
    #[arg(long, value_name = "WHEN", value_parser = one_of::<Archive>(Archive::VALUES), help_heading = SERVING)]
    pub(super) archive: Option<Archive>,

    /// Size limit of an archive [default: 16 GiB]
    ///
    /// The sum of its files. A folder with more is not sent.
    #[arg(long, value_name = "SIZE", help_heading = SERVING)]
    pub(super) archive_max: Option<Size>,

    /// Compress: auto, sidecar, off [default: auto]
    ///
    /// Content codings to offer. auto serves the .br, .zst and .gz files that lie beside a file, and
    /// compresses listings, text, and binary types that become clearly smaller: of 1 KiB to 1 MiB
    /// before the response, and of up to 16 MiB in the background, for later responses, with at most
    /// half of one processor. sidecar serves only the files beside a file, which `tws compress` makes.
    #[arg(long, value_name = "HOW", value_parser = one_of::<Compress>(Compress::VALUES), help_heading = SERVING)]
    pub(super) compress: Option<Compress>,

    /// ETag source: mtime, content [default: mtime]
    ///
    /// What entity tags are made of. mtime: modification time and size. content: a hash of the
    /// file, for trees whose modification times mean nothing.
    #[arg(long, value_name = "OF", value_parser = one_of::<EtagSource>(EtagSource::VALUES), help_heading = SERVING)]
    pub(super) etag: Option<EtagSource>,

    /// Symlinks to follow: never, inside, follow
    ///
    /// Which symbolic links are followed. inside: those that stay below the root; follow: all of
    /// them. [default: inside]
    #[arg(long, value_name = "WHICH", value_parser = one_of::<Symlinks>(Symlinks::VALUES), help_heading = SERVING)]
    pub(super) symlinks: Option<Symlinks>,

    /// Serve names that begin with a dot
    #[arg(long, help_heading = SERVING)]
    pub(super) hidden: Option<bool>,

    /// Serve assets of a former root after a deploy
    ///
    /// For this time (30s, 10m, 1h, 7d) after the root was replaced by another folder, files that
    /// exist only in the former one are still served, HTML excepted: pages that were loaded before
    /// find their scripts. The former folder must still exist. [default: 0s]
    #[arg(long, value_name = "TIME", help_heading = SERVING)]
    pub(super) keep_previous: Option<Period>,

    /// Serve FILE for navigations that match no file
    ///
    /// For single-page applications. A navigation is a GET with Sec-Fetch-Mode: navigate or, from
    /// clients that do not send that field, one that accepts text/html. Requests for scripts, images
    /// and the like still get 404. Without FILE: index.html.
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
    /// Only this file may also set what belongs to the server rather than to the site (addresses,
    /// limits, logs, certificates, user and group) and what leads out of the root: symlinks =
    /// "follow", hosts in other folders. Paths in it are relative to the file.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, help_heading = SERVING)]
    pub(super) config: Option<PathBuf>,

    /// Do not read PATH/.tws.toml
    #[arg(long, help_heading = SERVING)]
    pub(super) no_site_file: Option<bool>,

    /// Serve below this path [default: /]
    ///
    /// Example: /docs/. Other paths are not found.
    #[arg(long, value_name = "PATH", help_heading = SERVING)]
    pub(super) base: Option<BasePath>,

    /// Serve below a path that cannot be guessed
    ///
    /// The path is chosen at the start and shown with the address. It is no password: a link can be
    /// passed on.
    #[arg(long, help_heading = SERVING)]
    pub(super) random_path: bool,

    /// User store: sqlite:FILE or a postgres:// URL
    ///
    /// Keep the users of POST /createUser in this store: sqlite:FILE or, shared by many machines,
    /// postgres://USER:PASSWORD@HOST/DATABASE ($PGPASSWORD applies if the URL has no password).
    #[arg(long, value_name = "STORE", help_heading = SERVING)]
    pub(super) users: Option<String>,

    /// Folder for data that must survive a restart
    ///
    /// It holds the database of users and the certificates of --acme. [default: $STATE_DIRECTORY,
    /// else $XDG_STATE_HOME/tws, else ~/.local/state/tws, or /var/lib/tws with --user]
    #[arg(long, value_name = "FOLDER", value_hint = ValueHint::DirPath, help_heading = SERVING)]
    pub(super) state_dir: Option<PathBuf>,

    /// Port to listen on; 0 for any [default: 8000]
    #[arg(short, long, value_name = "PORT", value_parser = integer::<u16>(PORTS), help_heading = LISTENING)]
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
    pub(super) bind: Vec<BindAddresses>,

    /// Mode of Unix sockets [default: 660]
    ///
    /// The file mode, in octal, decides which processes may connect. The sockets belong to --user
    /// and --group.
    #[arg(long, value_name = "MODE", value_parser = file_mode, help_heading = LISTENING)]
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

    /// Speak HTTP/2: off, tls, all [default: tls]
    ///
    /// tls: with clients that select it in the TLS handshake. all: also without TLS, with clients
    /// that begin with it (prior knowledge), such as proxies and load balancers.
    #[arg(long, value_name = "WHERE", value_parser = one_of::<Http2>(Http2::VALUES), help_heading = LISTENING)]
    pub(super) http2: Option<Http2>,

    /// Serve requests for this host name
    ///
    /// Requests for other names get 421, except for IP addresses, localhost, the name of this
    /// machine and the names in [[host]]. *.example.org stands for all names below example.org, *
    /// for every name. May be repeated. [default: every name, or none if only this machine can
    /// connect, without --trusted-proxy and --proxy-protocol]
    #[arg(long, value_name = "NAME", value_delimiter = ',', help_heading = LISTENING)]
    pub(super) host_name: Vec<HostPattern>,

    /// Also listen here for status and metrics
    ///
    /// Listen on ADDRESS:PORT or unix:PATH for operators: a page of running transfers, /metrics for
    /// Prometheus, /healthz and /readyz. Only reachable from this machine, unless --auth or
    /// --auth-file requires a password.
    #[arg(long, value_name = "ADDRESS", value_parser = parse_admin, help_heading = LISTENING)]
    pub(super) admin: Option<Endpoint>,

    /// Serve HTTPS with this certificate (PEM)
    ///
    /// The file holds the certificate, followed by its intermediates. May be repeated: a client
    /// gets the first certificate that matches the requested name, else the first of all. The file
    /// is read again when it changes. Clients exchange keys with X25519MLKEM768 (post-quantum),
    /// X25519, P-256 or P-384.
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

    /// Obtain and renew a certificate (ACME)
    ///
    /// For the host NAME. A certificate authority, Let's Encrypt by default, validates that it leads
    /// here: on port 443 (TLS-ALPN-01) or 80 (HTTP-01). Until it has, a self-signed certificate is
    /// served. Without --bind, tws listens on all addresses; without a port, on 443, and it
    /// redirects from 80. Giving this flag accepts the terms of service of the certificate
    /// authority. May be repeated, each name has its own certificate; without NAME, the names of the
    /// [[host]] tables are used. Wildcards need DNS-01, which is not supported.
    #[arg(
        long,
        value_name = "NAME",
        num_args = 0..=1,
        default_missing_value = "hosts",
        value_delimiter = ',',
        help_heading = TLS
    )]
    pub(super) acme: Vec<AcmeName>,

    /// E-mail address of the ACME account
    #[arg(long, value_name = "ADDRESS", value_parser = parse_email, help_heading = TLS)]
    pub(super) acme_email: Option<String>,

    /// ACME directory [default: Let's Encrypt]
    ///
    /// The URL at which a certificate authority lists its services, or staging for the servers of
    /// Let's Encrypt for tests, whose certificates no client trusts.
    #[arg(long, value_name = "URL", value_parser = parse_acme_directory, help_heading = TLS)]
    pub(super) acme_directory: Option<AcmeDirectory>,

    /// Root certificate of a private ACME server
    ///
    /// The file (PEM) with which the server of --acme-directory is verified, instead of the public
    /// root certificates.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, help_heading = TLS)]
    pub(super) acme_ca: Option<PathBuf>,

    /// Profile of the certificates
    ///
    /// One of those that the certificate authority offers, such as shortlived at Let's Encrypt.
    /// [default: that of the certificate authority]
    #[arg(long, value_name = "NAME", help_heading = TLS)]
    pub(super) acme_profile: Option<String>,

    /// External account at the ACME server
    ///
    /// The file has two words: the key identifier and the HMAC key, as the certificate authority
    /// shows them.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, help_heading = TLS)]
    pub(super) acme_eab: Option<PathBuf>,

    /// Redirect plain HTTP on PORT to HTTPS
    ///
    /// Without PORT: 80.
    #[arg(
        long,
        value_name = "PORT",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "80",
        value_parser = integer::<u16>(PORTS),
        help_heading = TLS
    )]
    pub(super) redirect_http: Option<u16>,

    /// Let pages of ORIGIN read all responses
    ///
    /// This replaces what the site file says. They may also read Accept-Ranges, Content-Length,
    /// Content-Range, ETag and Location. May be repeated. Without ORIGIN: every origin.
    #[arg(
        long,
        value_name = "ORIGIN",
        num_args = 0..=1,
        require_equals = true,
        value_delimiter = ',',
        default_missing_value = "*",
        help_heading = ACCESS
    )]
    pub(super) cors: Vec<Origin>,

    /// Require a user name and password from FILE
    ///
    /// Create the file with `htpasswd -cB FILE USER`. [[auth]] in a file that --config names requires
    /// other files for some paths, or none. /.well-known/acme-challenge/ never requires one.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, help_heading = ACCESS)]
    pub(super) auth_file: Option<PathBuf>,

    /// Wrong passwords per second and client
    ///
    /// A client that sends more gets 429 for further logins, except for those that were accepted
    /// lately. Values as with --rate-limit. [default: 0.2:20]
    #[arg(long, value_name = "N", help_heading = ACCESS)]
    pub(super) auth_failures: Option<Rate>,
    /// Require this user name and password
    ///
    /// USER:PASSWORD; may be repeated. Other users of this machine can read it in the list of
    /// processes (ps): the variable TWS_AUTH, with one user on each line, avoids that.
    #[arg(long, value_name = "USER:PW", help_heading = ACCESS)]
    pub(super) auth: Vec<String>,

    /// Accept uploads (PUT, and POST to folders)
    ///
    /// Only from this machine, and neither through a proxy (--proxy-protocol, --trusted-proxy) nor a
    /// Unix socket, unless --auth or --auth-file requires a password.
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

    /// Let uploads create folders
    ///
    /// PUT creates the folders above a file that do not exist.
    #[arg(long, help_heading = ACCESS)]
    pub(super) upload_parents: Option<bool>,

    /// Accept renames, deletions, new folders
    ///
    /// From listings, and with the methods MKCOL, MOVE and DELETE. Only from this machine, unless a
    /// password is required, as with --upload.
    #[arg(long, help_heading = ACCESS)]
    pub(super) manage: Option<bool>,

    /// Deleted files: trash, permanent
    ///
    /// trash: move them to .tws-trash in the root, which is never served. tws does not empty it; `rm -r
    /// ROOT/.tws-trash` does, at any time. [default: trash]
    #[arg(long, value_name = "HOW", value_parser = one_of::<Deletion>(Deletion::VALUES), help_heading = ACCESS)]
    pub(super) manage_delete: Option<Deletion>,

    /// Idle connection timeout [default: 10]
    ///
    /// How long an idle connection stays open for another request. Without this flag and
    /// --h2-keep-alive, one of HTTP/2 stays open for 60 seconds.
    #[arg(
        long,
        value_name = "SECONDS",
        value_parser = integer::<u32>(1..=86_400),
        help_heading = LIMITS
    )]
    pub(super) keep_alive_timeout: Option<u32>,

    /// Requests per connection after the first
    ///
    /// [default: no limit]
    #[arg(long, value_name = "N", value_parser = integer::<u32>(0..=MAX_FLAG_NUMBER), help_heading = LIMITS)]
    pub(super) keep_alive_max: Option<u32>,

    /// HTTP/2 streams at once [default: 100]
    ///
    /// Concurrent requests on one connection. The server announces the number and refuses further
    /// ones, which clients then repeat. A connection keeps the number that it was opened with.
    /// Browsers expect at least 100.
    #[arg(
        long,
        value_name = "N",
        value_parser = integer::<u32>(1..=1000),
        help_heading = LIMITS
    )]
    pub(super) h2_streams: Option<u32>,

    /// HTTP/2 idle timeout [default: 60]
    ///
    /// As --keep-alive-timeout, which is the default if it is given. Browsers use one connection of
    /// HTTP/2 for a whole site, and keep it for further pages.
    #[arg(
        long,
        value_name = "SECONDS",
        value_parser = integer::<u32>(1..=86_400),
        help_heading = LIMITS
    )]
    pub(super) h2_keep_alive: Option<u32>,

    /// Maximum number of connections
    ///
    /// At the limit the connection that is idle for the longest is closed; if none is idle, a new
    /// connection gets 503. [default: what file descriptors allow]
    #[arg(long, value_name = "N", value_parser = integer::<NonZeroUsize>(1..=MAX_FLAG_NUMBER), help_heading = LIMITS)]
    pub(super) max_connections: Option<NonZeroUsize>,

    /// Maximum connections per client
    ///
    /// A client is an IPv4 address or an IPv6 /64; a further connection gets 503. All clients
    /// behind a proxy are one, unless --proxy-protocol tells them apart. [default: no limit]
    #[arg(long, value_name = "N", value_parser = integer::<NonZeroUsize>(1..=MAX_FLAG_NUMBER), help_heading = LIMITS)]
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
    #[arg(long, value_name = "BYTES", value_parser = integer::<u32>(0..=MAX_FLAG_NUMBER), help_heading = LIMITS)]
    pub(super) min_rate: Option<u32>,

    /// Shutdown timeout [default: 10]
    ///
    /// How long to wait for running requests on shutdown.
    #[arg(
        long,
        value_name = "SECONDS",
        value_parser = integer::<u32>(0..=86_400),
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
        value_parser = integer::<u32>(0..=86_400),
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
    /// access-count, common, combined, json, or a text with fields in braces, such as '{client}
    /// {host} "{request}" {status}'. The fields are bytes, client, duration (in seconds), host,
    /// iso-time, method, outcome, path, port, protocol, query, referer, request, scheme, status,
    /// target, time, tls, user and user-agent.
    #[arg(
        long,
        value_name = "FORMAT",
        default_value = "common",
        hide_default_value = true,
        help_heading = LOGS
    )]
    pub(super) log_format: Format,

    /// Leave out a path or a status
    ///
    /// Requests that are not logged: a path, in which a star matches anything (/healthz, /assets/*), or a status (304, 2xx). May be
    /// repeated.
    #[arg(long, value_name = "WHAT", help_heading = LOGS)]
    pub(super) log_exclude: Vec<LogExclusion>,

    /// Log networks instead of client addresses
    ///
    /// The /24 of an IPv4 address and the /48 of an IPv6 address, and 0 as the port.
    #[arg(long, help_heading = LOGS)]
    pub(super) log_anonymize: bool,

    /// Warn of responses that take at least this long
    ///
    /// The time to produce a response, not the time to send it.
    #[arg(long, value_name = "MILLISECONDS", value_parser = integer::<u32>(0..=MAX_FLAG_NUMBER), help_heading = LOGS)]
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

    /// Exit after N downloads or a time
    ///
    /// Examples: 1, 10m, 2h; may be repeated: the first that comes ends the server. A download is a
    /// file, or a folder as an archive, that was sent completely. Resumed ones and images in pages are not
    /// counted.
    #[arg(long, value_name = "N|TIME", value_delimiter = ',', help_heading = PROCESS)]
    pub(super) exit_after: Vec<ExitCondition>,

    /// Show running transfers in the terminal
    ///
    /// q quits tws. The access log is not written to the terminal then.
    #[arg(long, help_heading = PROCESS)]
    pub(super) tui: bool,

    /// Number of event loops [default: one per core]
    #[arg(long, value_name = "N", value_parser = integer::<NonZeroUsize>(1..=MAX_FLAG_NUMBER), help_heading = PROCESS)]
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

    /// The request of `tws explain`; not a setting.
    #[arg(skip)]
    pub(super) request: Option<RequestArgs>,

    /// The action of `tws acme`; not a setting.
    #[arg(skip)]
    pub(super) acme_request: Option<AcmeRequest>,
}

/// A request as it was typed.
#[derive(Clone, Debug)]
pub(crate) struct RequestArgs {
    pub(crate) method: OsString,
    pub(crate) target: OsString,
    /// As `K: V`.
    pub(crate) fields: Vec<String>,
    /// The peer of the connection.
    pub(crate) peer: SocketAddr,
}

impl Flags {
    /// Parses `--users`. Not a value parser: the errors of clap repeat the value, which may contain a
    /// password.
    pub(super) fn store(&self) -> Result<Option<Store>, clap::Error> {
        let store = self.users.as_deref().map(str::parse::<Store>).transpose();
        store.map_err(|error| usage_of("--users", error.to_string()))
    }

    /// Splits the values of `--auth` into user and password, and checks them. Not a value parser, as with
    /// `--users`.
    pub(super) fn users_with_passwords(&self) -> Result<Vec<(&str, &str)>, clap::Error> {
        let split = |value: &str| value.find(':').filter(|at| *at > 0 && at + 1 < value.len());
        let users = self.auth.iter().map(|value| {
            let at = split(value).ok_or_else(|| {
                let reason = "must be a user name and a password with a colon between them";
                usage_of("--auth", reason.to_owned())
            })?;
            let (user, password) = (&value[..at], &value[at + 1..]);
            #[cfg(feature = "auth")]
            tws::Credentials::check(user, password)
                .map_err(|error| usage_of("--auth", error.to_string()))?;
            Ok((user, password))
        });
        users.collect()
    }

    /// Returns the destinations of the access log.
    pub(super) fn destinations(&self) -> Result<Vec<LogDestination>, clap::Error> {
        let given = &self.access_log;
        if self.tui && given.iter().any(|value| value == "-") {
            let text = "--access-log - and --tui both need the terminal; write the log to a file";
            return Err(usage(text.to_owned()));
        }
        if given.is_empty() && !self.quiet && !self.tui {
            return Ok(vec![LogDestination::Stdout]);
        }
        if given.iter().any(|value| value == "off") {
            return match given.len() {
                1 => Ok(Vec::new()),
                _ => {
                    let reason = "off excludes other destinations; give only one of them";
                    Err(usage_of("--access-log", reason.to_owned()))
                }
            };
        }
        let destination = |value: &OsString| match value.to_str() {
            Some("-") => LogDestination::Stdout,
            _ => LogDestination::File(PathBuf::from(value)),
        };
        let mut known = BTreeSet::new();
        for value in given {
            let path = std::path::absolute(value).unwrap_or_else(|_| PathBuf::from(value));
            let path = path.canonicalize().unwrap_or(path);
            let is_new = known.insert(if value == "-" {
                PathBuf::from("-")
            } else {
                path
            });
            if !is_new {
                let reason = format!("{} is given twice; remove one", value.display());
                return Err(usage_of("--access-log", reason));
            }
        }
        Ok(given.iter().map(destination).collect())
    }

    /// Returns the operands: a number is the port, anything else is the path.
    pub(super) fn path_and_port(&self) -> Result<(Option<PathBuf>, Option<u16>), clap::Error> {
        let operands = self.path_and_port.iter();
        let folders = operands.map(|operand| ("PATH", operand.as_os_str()));
        let directory = self.directory.iter();
        let directory = directory.map(|path| ("--directory", path.as_os_str()));
        if let Some((subject, _)) = folders.chain(directory).find(|(_, path)| path.is_empty()) {
            let reason = "the folder name is empty; give a folder, or . for this one";
            return Err(usage_of(subject, reason.to_owned()));
        }
        let (mut path, mut port) = (None, None);
        for operand in &self.path_and_port {
            let number = operand.to_str().filter(|text| is_number(text));
            match (number, port, &path) {
                (Some(text), None, _) => {
                    let number = integer_in(text, PORTS);
                    port = Some(number.map_err(|reason| usage_of("PORT", reason))?);
                }
                (_, _, None) => path = Some(PathBuf::from(operand)),
                (Some(text), Some(port), Some(_)) => return Err(two_ports(port, text)),
                (None, _, Some(path)) => {
                    let operands = [path.as_os_str(), operand.as_os_str()];
                    return Err(excess(operands.map(|it| it.display().to_string())));
                }
            }
        }
        // The second of two numbers is a folder only if there is one.
        let number = path.as_deref().filter(|path| !path.exists());
        let number = number.and_then(Path::to_str).filter(|text| is_number(text));
        match (number, port) {
            (Some(text), Some(port)) => Err(two_ports(port, text)),
            _ => Ok((path, port)),
        }
    }

    /// Returns an error if a port was given, and each address with a port has another one. Only for flags that were
    /// typed together: a variable or a file may name the port for other addresses.
    pub(super) fn check_port_is_used(&self) -> Result<(), clap::Error> {
        let Some(port) = self.path_and_port()?.1.or(self.port) else {
            return Ok(());
        };
        let addresses = self.bind.iter().flat_map(|addresses| &addresses.0);
        let mut used = BTreeSet::new();
        for endpoint in addresses {
            match endpoint {
                Endpoint::Socket(address) => used.insert(Some(address.port())),
                Endpoint::Unix(_) => used.insert(None),
                Endpoint::Address(_) => return Ok(()),
            };
        }
        if used.is_empty() || used.contains(&Some(port)) {
            return Ok(());
        }
        Err(match used.into_iter().flatten().next() {
            Some(other) => two_ports(port, &other.to_string()),
            None => return Ok(()),
        })
    }
}

fn two_ports(one: u16, other: &str) -> clap::Error {
    usage(format!("two ports given ({one} and {other}); give one"))
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// The key of a flag in the settings file, and the files in which it is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FileKey<'a> {
    /// The setting has no key: it decides which file is read, or a rule of the site has the name.
    NotInFile,
    /// A rule of the site, in any file.
    Site(&'a str),
    /// A setting of the server, only in a file that `--config` names.
    ConfigOnly(&'a str),
}

/// Returns the key of the flag with this long name.
pub(super) fn key(long: &str) -> FileKey<'_> {
    let other_name = SITE_KEYS.iter().find(|(flag, _)| *flag == long);
    match other_name {
        _ if matches!(
            long,
            "config" | "no-site-file" | "help" | "version" | "auth"
        ) =>
        {
            FileKey::NotInFile
        }
        Some((_, key)) => FileKey::Site(key),
        None if Site::KEYS.contains(&long) => FileKey::Site(long),
        None => FileKey::ConfigOnly(long),
    }
}

/// Returns an error about two operands of which only one may be given.
fn excess(operands: [String; 2]) -> clap::Error {
    let mut error = clap::Error::new(ErrorKind::WrongNumberOfValues);
    let operands = ContextValue::Strings(operands.into());
    error.insert(ContextKind::InvalidValue, operands);
    error
}

/// Returns an error about several settings together.
pub(super) fn usage(message: String) -> clap::Error {
    let mut error = clap::Error::new(ErrorKind::ValueValidation);
    error.insert(ContextKind::Custom, ContextValue::String(message));
    error
}

/// Returns an error about one setting, which `subject` names.
pub(super) fn usage_of(subject: &str, reason: String) -> clap::Error {
    let mut error = usage(reason);
    let subject = ContextValue::String(subject.to_owned());
    error.insert(ContextKind::InvalidArg, subject);
    error
}

#[cfg(test)]
mod tests {
    use super::super::command;
    use super::*;

    #[test]
    fn special_flags_exist() {
        let command = command::serve();
        let flags: Vec<&str> = command::settings(&command).map(|(_, long)| long).collect();
        let renamed = SITE_KEYS.iter().map(|(flag, _)| flag);
        for name in renamed {
            assert!(flags.contains(name), "{name}");
        }
    }
}
