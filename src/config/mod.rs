//! What a server is told before it starts: addresses, limits, timeouts, whom to believe. Plain
//! values with defaults that suit the open internet; nothing here knows of flags or files.

use std::net::{IpAddr, Ipv4Addr};
use std::num::{NonZeroU64, NonZeroUsize};
use std::str::FromStr;
use std::time::Duration;

mod endpoint;
mod networks;

pub use endpoint::Endpoint;
pub use networks::Networks;
pub(crate) use networks::UNIX_PEER;

/// Everything [`Server::bind`](crate::Server::bind) wants to know.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// Where to listen. 127.0.0.1 unless told otherwise, so that nothing is shown to the world by
    /// accident.
    pub addresses: Vec<Endpoint>,
    /// The port on each address that names none; 0 lets the system choose one.
    pub port: u16,
    /// Who may connect to Unix sockets: whom this mode lets write to them (unix(7)).
    pub unix_mode: u32,
    /// Whether connections begin by saying for whom they are.
    pub proxy_protocol: ProxyProtocol,
    /// How many event loops; the number of cores if it is `None`.
    pub workers: Option<NonZeroUsize>,
    /// How many threads run blocking jobs. They start with the first job.
    pub helpers: NonZeroUsize,
    /// The proxies that are believed when they tell, in [`forwarded_field`](Self::forwarded_field),
    /// whose requests they pass on: that is then the client for handlers and the access log. Nobody
    /// unless told otherwise, as everybody can send such a field.
    pub trusted_proxies: Networks,
    /// Where they tell it.
    pub forwarded_field: ForwardedField,
    /// Bounds on memory and counts.
    pub limits: Limits,
    /// Bounds on waiting.
    pub timeouts: Timeouts,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            addresses: vec![IpAddr::V4(Ipv4Addr::LOCALHOST).into()],
            port: 8000,
            unix_mode: 0o660,
            proxy_protocol: ProxyProtocol::Off,
            workers: None,
            helpers: NonZeroUsize::new(8).unwrap_or(NonZeroUsize::MIN),
            trusted_proxies: Networks::default(),
            forwarded_field: ForwardedField::default(),
            limits: Limits::default(),
            timeouts: Timeouts::default(),
        }
    }
}

/// The field in which proxies tell whose requests they pass on.
///
/// It is never both: a proxy that writes one of them passes on the other as its client wrote it,
/// and a client could say in it who it would like to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ForwardedField {
    /// `X-Forwarded-For`, with `X-Forwarded-Proto`: what most proxies write. They must append to
    /// the former (or replace it) and replace the latter, or append to it, too.
    #[default]
    XForwardedFor,
    /// `Forwarded` (RFC 7239), which they must append to.
    Forwarded,
}

impl FromStr for ForwardedField {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            _ if text.eq_ignore_ascii_case("x-forwarded-for") => Ok(Self::XForwardedFor),
            _ if text.eq_ignore_ascii_case("forwarded") => Ok(Self::Forwarded),
            _ => Err(format!(
                "must be x-forwarded-for or forwarded (got {text:?})"
            )),
        }
    }
}

/// Whether each connection begins with a header that says whose it is
/// ([PROXY protocol](https://www.haproxy.org/download/2.9/doc/proxy-protocol.txt), versions 1
/// and 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyProtocol {
    /// Such a header is a bad request like any other.
    Off,
    /// A connection without one, or from a peer that is none of the trusted proxies, is closed
    /// without a word.
    Required,
}

/// Bounds on memory and counts. Each carries its unit in its name or is a count.
///
/// All connections together hold at most `max_connections` times
/// [`max_memory_per_connection`](Self::max_memory_per_connection), which is, with what a growing
/// buffer has to spare:
///
/// ```text
///   2 × max_head_bytes + 8 KiB                        what has come and is not yet read
/// + the larger of 2 × max_content_bytes and 1 MiB     a content, whole or on its way to its reader
/// + 2 × (max_outbox_bytes + max_head_bytes + 64 KiB)  replies on their way
/// + 2 × (max_outbox_bytes + max_head_bytes)           what the access log will say of them
/// + 16 KiB                                            all that is small
/// ```
///
/// What a handler's responses own, files and streams, is theirs; what the kernel's socket buffers
/// hold is the kernel's. An idle connection holds next to nothing. With TLS a connection has its keys
/// and a session, some 8 KiB, and while it sends up to 128 KiB that are encrypted.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Limits {
    /// A request's start line and header fields together; more is 431. 16 KiB is node's limit;
    /// nginx and tomcat have 8.
    pub max_head_bytes: usize,
    /// The request-target; more is 414. RFC 9110 §4.1 recommends to take at least 8,000.
    pub max_target_bytes: usize,
    /// Header field lines; more is 431. Apache and hyper have 100.
    pub max_fields: usize,
    /// A request's content; more is 413. 1 MiB is nginx's `client_max_body_size`.
    pub max_content_bytes: usize,
    /// Replies to pipelined requests that are made before the first is written. Above it nothing
    /// more is read: a client that does not read costs this much and no more.
    pub max_outbox_bytes: usize,
    /// Further requests a connection may carry after its first; announced in the replies and
    /// counted down, as with Apache's `MaxKeepAliveRequests`. `None` is no limit.
    pub keep_alive_max: Option<u32>,
    /// Connections in all. For one more the connection that is idle for the longest is closed;
    /// if none is idle, the new one is told 503 and closed. `None` leaves a quarter of the
    /// process's file descriptors, 32 at least, for everything else, and who comes when they are
    /// used up waits in the kernel's queue.
    pub max_connections: Option<usize>,
    /// Connections of one client: an IPv4 address or an IPv6 network of 64 bits, those of this
    /// machine like any other. One more is told 503 and closed. `None` is no limit: behind a proxy
    /// or a carrier's NAT many are one. It is about who makes the connection, also if that is a
    /// trusted proxy, unless a PROXY header says whose it is.
    pub max_connections_per_client: Option<usize>,
    /// Bytes per second that one client may move on all its connections together, in both
    /// directions, heads too; [`MIN_BANDWIDTH`](Self::MIN_BANDWIDTH) is the least. It gets them in
    /// turns, each a chunk. Who has been quiet may begin with what a quarter of a second is worth,
    /// and an answer of some 32 KiB goes whole and makes the next one wait. Waiting is nobody's
    /// fault: meanwhile no timeout runs. Clients are as with
    /// [`max_connections_per_client`](Self::max_connections_per_client): behind a proxy that sends
    /// no PROXY headers all are one. `None` is no limit.
    pub bandwidth_per_client: Option<NonZeroU64>,
    /// The same for each connection; both may be set.
    pub bandwidth_per_connection: Option<NonZeroU64>,
    /// What a client has to send of a request's content, and to take of a reply, while it is
    /// waited for: less, after [`Timeouts::min_rate_grace`], is 408 or the connection's end. Of a
    /// reply, what the client's system has acknowledged counts. 0 asks for nothing. 240 is Kestrel's.
    pub min_rate_bytes_per_second: u32,
    /// Blocking jobs that wait for a helper thread; one more is told 503.
    pub max_waiting_jobs: usize,
    /// Jobs that read a content while it comes in, and contents that are written while they are
    /// sent: each has a thread for as long as its client takes. One more job is told 503; one more
    /// content, whose head is on its way already, waits.
    pub max_streams: usize,
    /// Bytes read and thrown away behind a connection's last reply, so that the client sees the
    /// reply and not a reset (RFC 9112 §9.6).
    pub max_linger_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_head_bytes: 16 * 1024,
            max_target_bytes: 8 * 1024,
            max_fields: 100,
            max_content_bytes: 1024 * 1024,
            max_outbox_bytes: 64 * 1024,
            keep_alive_max: None,
            max_connections: None,
            max_connections_per_client: None,
            bandwidth_per_client: None,
            bandwidth_per_connection: None,
            min_rate_bytes_per_second: 240,
            max_waiting_jobs: 1024,
            max_streams: 256,
            max_linger_bytes: 64 * 1024 * 1024,
        }
    }
}

impl Limits {
    /// The least that a bandwidth may be limited to, in bytes per second.
    pub const MIN_BANDWIDTH: u64 = 1024;

    /// What one connection makes this server hold at most, in bytes, whatever its peer does. A flood
    /// of the largest possible requests is tested to stay beneath it.
    pub fn max_memory_per_connection(&self) -> usize {
        const KIB: usize = 1024;
        let twice = |bytes: usize| bytes.saturating_mul(2);
        let replies = self
            .max_outbox_bytes
            .saturating_add(self.max_head_bytes)
            .saturating_add(64 * KIB);
        twice(self.max_head_bytes)
            .saturating_add(8 * KIB)
            .saturating_add(twice(self.max_content_bytes).max(1024 * KIB))
            .saturating_add(twice(replies))
            .saturating_add(twice(self.max_outbox_bytes))
            .saturating_add(twice(self.max_head_bytes))
            .saturating_add(16 * KIB)
    }
}

/// Bounds on waiting, in nginx's sense. Each ends one connection's wait, never the server's.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Timeouts {
    /// From a request's first byte to the end of its head, however the bytes dribble in; then 408.
    pub header: Duration,
    /// Between two reads of a request's content; then 408.
    pub body: Duration,
    /// Without the client's taking any of the reply; then the connection ends.
    pub send: Duration,
    /// How long a client may be slower than
    /// [`min_rate_bytes_per_second`](Limits::min_rate_bytes_per_second) when it begins to send a
    /// content or to take a reply. 5 s is Kestrel's.
    pub min_rate_grace: Duration,
    /// A connection without a request, new or kept alive; then it is closed without a word.
    /// Announced to clients as `Keep-Alive: timeout=`.
    pub keep_alive: Duration,
    /// How long to wait for the client to close after a connection's last reply, in all.
    pub linger: Duration,
    /// How long answers in flight may take at shutdown before their connections are cut.
    pub drain: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            header: Duration::from_secs(10),
            body: Duration::from_secs(30),
            send: Duration::from_secs(30),
            min_rate_grace: Duration::from_secs(5),
            keep_alive: Duration::from_secs(10),
            linger: Duration::from_secs(5),
            drain: Duration::from_secs(10),
        }
    }
}
