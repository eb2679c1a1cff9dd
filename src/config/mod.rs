//! The configuration of a server: addresses, limits, timeouts and trusted proxies. Plain values with
//! defaults that are safe on the public internet; this module knows nothing of flags or files.

use std::net::{IpAddr, Ipv4Addr};
use std::num::{NonZeroU64, NonZeroUsize};
use std::str::FromStr;
use std::time::Duration;

use crate::error::SettingError;

mod endpoint;
mod networks;

pub use endpoint::Endpoint;
pub use networks::Networks;
pub(crate) use networks::UNIX_PEER;

/// The configuration of a [`Server`](crate::Server).
///
/// Each field can be set, and the common ones have methods for it:
///
/// ```
/// use std::net::Ipv4Addr;
/// use std::time::Duration;
/// use tws::Config;
///
/// let config = Config::default()
///     .with_address(Ipv4Addr::UNSPECIFIED)
///     .with_port(8080)
///     .with_limits(|limits| limits.max_content_bytes = 64 * 1024)
///     .with_timeouts(|timeouts| timeouts.drain = Duration::from_secs(5));
/// assert_eq!(config.limits.max_content_bytes, 65_536);
/// ```
#[derive(Clone, Debug)]
#[must_use = "methods such as `with_port` return the changed configuration"]
#[non_exhaustive]
pub struct Config {
    /// The addresses and Unix sockets to listen on. The default is 127.0.0.1, so that a server is not
    /// reachable from other machines by accident.
    pub addresses: Vec<Endpoint>,
    /// The port of each address without a port of its own; 0 lets the system choose one.
    pub port: u16,
    /// The mode of Unix sockets. Processes that may write to a socket may connect to it (unix(7)).
    pub unix_mode: u32,
    /// Whether each connection begins with a PROXY protocol header.
    pub proxy_protocol: ProxyProtocol,
    /// The number of event loops; `None` means the number of available cores.
    pub workers: Option<NonZeroUsize>,
    /// The number of threads that run blocking jobs. They are started with the first job. Half of them
    /// run jobs of one client at most; behind a proxy that is not one of
    /// [`trusted_proxies`](Self::trusted_proxies), all clients are one. Each disk has as many threads
    /// for short jobs and half as many for long ones ([`DiskJob`](crate::DiskJob)).
    pub helpers: NonZeroUsize,
    /// The proxies whose [`forwarded_field`](Self::forwarded_field) is trusted. The client that it
    /// names is then the client for handlers, limits and the access log. By default no proxy is
    /// trusted, because any client can send such a field.
    pub trusted_proxies: Networks,
    /// The field in which trusted proxies name the client.
    pub forwarded_field: ForwardedField,
    /// The connections on which HTTP/2 is spoken.
    pub http2: Http2,
    /// Limits of memory and counts.
    pub limits: Limits,
    /// Limits of waiting times.
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
            http2: Http2::default(),
            limits: Limits::default(),
            timeouts: Timeouts::default(),
        }
    }
}

impl Config {
    /// Listens on this address, or Unix socket, alone.
    pub fn with_address(self, address: impl Into<Endpoint>) -> Self {
        self.with_addresses([address.into()])
    }

    /// Listens on these addresses and Unix sockets.
    pub fn with_addresses(mut self, addresses: impl IntoIterator<Item = Endpoint>) -> Self {
        self.addresses = addresses.into_iter().collect();
        self
    }

    /// Sets the port of each address without a port of its own; 0 lets the system choose one.
    pub fn with_port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// Sets the number of event loops.
    pub fn with_workers(mut self, workers: NonZeroUsize) -> Self {
        self.workers = Some(workers);
        self
    }

    /// Sets the number of threads that run blocking jobs: [`helpers`](Self::helpers).
    pub fn with_helpers(mut self, helpers: NonZeroUsize) -> Self {
        self.helpers = helpers;
        self
    }

    /// Trusts the forwarded field of these proxies: [`trusted_proxies`](Self::trusted_proxies).
    pub fn with_trusted_proxies(mut self, proxies: Networks) -> Self {
        self.trusted_proxies = proxies;
        self
    }

    /// Sets the connections on which HTTP/2 is spoken.
    pub fn with_http2(mut self, http2: Http2) -> Self {
        self.http2 = http2;
        self
    }

    /// Changes limits.
    pub fn with_limits(mut self, change: impl FnOnce(&mut Limits)) -> Self {
        change(&mut self.limits);
        self
    }

    /// Changes timeouts.
    pub fn with_timeouts(mut self, change: impl FnOnce(&mut Timeouts)) -> Self {
        change(&mut self.timeouts);
        self
    }
}

/// The field in which proxies name the client of a request.
///
/// Only one field is read: a proxy that writes one of them passes on the other as its client wrote it,
/// so a client could forge it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ForwardedField {
    /// `X-Forwarded-For` with `X-Forwarded-Proto`, which most proxies write. They must append to the
    /// former (or replace it) and replace the latter (or append to it).
    #[default]
    XForwardedFor,
    /// `Forwarded` (RFC 7239), to which proxies must append.
    Forwarded,
}

impl FromStr for ForwardedField {
    type Err = SettingError;

    fn from_str(text: &str) -> Result<Self, SettingError> {
        match text {
            _ if text.eq_ignore_ascii_case("x-forwarded-for") => Ok(Self::XForwardedFor),
            _ if text.eq_ignore_ascii_case("forwarded") => Ok(Self::Forwarded),
            _ => Err(format!("must be x-forwarded-for or forwarded (got {text:?})").into()),
        }
    }
}

/// The connections on which HTTP/2 (RFC 9113) is spoken, beside HTTP/1.1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Http2 {
    /// None. A client that begins HTTP/2 gets a 505.
    Off,
    /// TLS connections whose client selects it (ALPN, RFC 7301). Browsers speak HTTP/2 over TLS only.
    #[default]
    Tls,
    /// Those, and connections without TLS whose client begins with HTTP/2 (RFC 9113 §3.3): proxies and
    /// load balancers that know that the server speaks it.
    All,
}

impl Http2 {
    /// The keywords.
    pub const VALUES: &[&str] = &["off", "tls", "all"];
}

impl FromStr for Http2 {
    type Err = SettingError;

    fn from_str(text: &str) -> Result<Self, SettingError> {
        match text {
            "off" => Ok(Self::Off),
            "tls" => Ok(Self::Tls),
            "all" => Ok(Self::All),
            _ => Err(format!("must be off, tls or all (got {text:?})").into()),
        }
    }
}

/// Whether each connection begins with a
/// [PROXY protocol](https://www.haproxy.org/download/2.9/doc/proxy-protocol.txt) header (versions 1 and
/// 2) that names the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProxyProtocol {
    /// Not expected; such a header is a bad request.
    Off,
    /// Required. A connection without a valid header, or from a peer that is not a trusted proxy, is
    /// closed without a response.
    Required,
}

/// Limits of memory and counts. Each has its unit in its name or is a count.
///
/// All HTTP/1.1 connections together use at most `max_connections` times
/// [`max_memory_per_connection`](Self::max_memory_per_connection), which is, including the spare
/// capacity of growing buffers:
///
/// ```text
///   2 × max_head_bytes + 8 KiB                        received bytes that are not parsed yet
/// + the larger of 2 × max_content_bytes and 1 MiB     request content, buffered or streamed
/// + 2 × (max_outbox_bytes + max_head_bytes + 64 KiB)  responses that are being sent
/// + 2 × (max_outbox_bytes + max_head_bytes)           access log records of these responses
/// + 16 KiB                                            small state
/// ```
///
/// A connection of HTTP/2 has many requests and responses at once, and uses at most
/// [`max_memory_per_http2_connection`](Self::max_memory_per_http2_connection), which is:
///
/// ```text
///   2 × 4 MiB                                         request content that is complete or nearly so
/// + 2 × the larger of 4 MiB and
///       h2_max_streams × 64 KiB                       request content that flow control permits
/// + 2 × max_content_bytes                             the oldest request content beyond that
/// + 1 MiB + 8 × max_head_bytes                        request heads, received bytes
/// + 256 KiB                                           frames that are being sent
/// + h2_max_streams × 2 KiB + 64 KiB                   small state
/// ```
///
/// The windows of all requests that one worker receives grow to 64 MiB together, so that many connections
/// with fast uploads use less.
///
/// Files, bodies and streams that a handler's responses own are not included, nor are the socket buffers
/// of the kernel. Of such bodies, a connection of HTTP/2 holds those of at most 20 responses beyond 1 MiB:
/// the next request waits until it has sent some. An idle connection has no buffers. With TLS a connection
/// has a session of about 4 KiB, up to 40 KiB of received data, and up to 128 KiB of encrypted data while
/// it sends.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Limits {
    /// Request line and header fields together; a larger head gets a 431. The default of 16 KiB is
    /// Node's limit; nginx and Tomcat have 8 KiB.
    pub max_head_bytes: usize,
    /// Request-target; a longer one gets a 414. RFC 9110 §4.1 recommends at least 8,000.
    pub max_target_bytes: usize,
    /// Header field lines; more of them get a 431. Apache and hyper have 100.
    pub max_fields: usize,
    /// Content of a request; a larger one gets a 413. The default of 1 MiB is nginx's
    /// `client_max_body_size`.
    pub max_content_bytes: usize,
    /// Bytes of responses to pipelined requests that wait to be sent. Above this limit no further request
    /// is read, which bounds the memory of a client that does not read.
    pub max_outbox_bytes: usize,
    /// Further requests on a connection after its first. The number is announced in responses and
    /// counted down, as with Apache's `MaxKeepAliveRequests`. `None` means no limit.
    pub keep_alive_max: Option<u32>,
    /// Concurrent connections. To accept another one, the connection that has been idle longest is
    /// closed. If none is idle, it waits until those without a complete request head have made no
    /// progress for [`Timeouts::idle_grace`], the oldest of which are closed then; if all are busy, the
    /// new connection gets a 503 and is closed. `None` reserves a quarter of
    /// the process's file descriptors, at least 32, for other uses; when the rest is in use, new
    /// connections wait in the kernel's backlog.
    pub max_connections: Option<usize>,
    /// Concurrent connections of one client: an IPv4 address or an IPv6 network of 64 bits, loopback
    /// addresses included. Another one gets a 503 and is closed. `None` means no limit: many clients may
    /// share an address behind a proxy or a carrier's NAT. The client is the peer of the connection,
    /// also if that is a trusted proxy, unless a PROXY protocol header names another.
    pub max_connections_per_client: Option<usize>,
    /// Bandwidth of one client in bytes per second, on all its connections together and in both
    /// directions, heads included; at least [`MIN_BANDWIDTH`](Self::MIN_BANDWIDTH). Connections of a
    /// client take turns, a chunk each. After a pause a client may send a burst worth a quarter of a
    /// second, and a response of about 32 KiB is sent as a whole and delays the next one. Time spent
    /// waiting for bandwidth does not count for timeouts. Clients are those of
    /// [`max_connections_per_client`](Self::max_connections_per_client): behind a proxy without PROXY
    /// headers all are one. `None` means no limit.
    pub bandwidth_per_client: Option<NonZeroU64>,
    /// As [`bandwidth_per_client`](Self::bandwidth_per_client), for each connection. Both may be set.
    pub bandwidth_per_connection: Option<NonZeroU64>,
    /// The minimum rate at which a client sends request content and receives a response. A slower
    /// client gets a 408 or its connection is closed, after [`Timeouts::min_rate_grace`]. For responses,
    /// bytes that the client's system has acknowledged count. 0 means no minimum. The default of 240 is
    /// Kestrel's.
    pub min_rate_bytes_per_second: u32,
    /// Blocking jobs that wait for a helper thread. If there are more, the newest of the client with the
    /// most of them gets a 503.
    pub max_waiting_jobs: usize,
    /// Concurrent jobs that read streamed request content
    /// ([`BodyPolicy::Stream`](crate::BodyPolicy::Stream)) and concurrent bodies that are written while
    /// they are sent ([`BodyStream::written`](crate::BodyStream::written)), together. Each occupies a
    /// thread until its client has sent or received all of it. The request of another one gets a 503 with
    /// Retry-After.
    pub max_streams: usize,
    /// Concurrent response bodies for which no thread waits: server-sent events
    /// ([`Response::sse`](crate::Response::sse)), [channels](crate::BodyStream::channel) and other bodies
    /// that are [polled](crate::BodyStream::polled). Each takes about 1 KiB and its unsent data. The
    /// request of another one gets a 503 with Retry-After.
    pub max_parked_streams: usize,
    /// Bytes that are read and discarded after the last response of a connection, so that the client
    /// receives the response and not a reset (RFC 9112 §9.6).
    pub max_linger_bytes: u64,
    /// Concurrent requests on one HTTP/2 connection; a further one is refused, and its client sends it
    /// again later. RFC 9113 §6.5.2 recommends at least 100, which h2o and HAProxy have, too.
    pub h2_max_streams: u32,
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
            max_parked_streams: 64 * 1024,
            max_linger_bytes: 64 * 1024 * 1024,
            h2_max_streams: 100,
        }
    }
}

impl Limits {
    /// The lowest bandwidth limit, in bytes per second.
    pub const MIN_BANDWIDTH: u64 = 1024;

    /// Returns the memory that one connection uses at most, in bytes, whatever its peer sends. A test
    /// floods a server with the largest possible requests and checks that it stays below. A WebSocket connection
    /// has beside that the messages within its own limits.
    pub fn max_memory_per_connection(&self) -> usize {
        const KIB: usize = 1024;
        let twice = |bytes: usize| bytes.saturating_mul(2);
        let responses = self
            .max_outbox_bytes
            .saturating_add(self.max_head_bytes)
            .saturating_add(64 * KIB);
        twice(self.max_head_bytes)
            .saturating_add(8 * KIB)
            .saturating_add(twice(self.max_content_bytes).max(1024 * KIB))
            .saturating_add(twice(responses))
            .saturating_add(twice(self.max_outbox_bytes))
            .saturating_add(twice(self.max_head_bytes))
            .saturating_add(16 * KIB)
    }

    /// As [`max_memory_per_connection`](Self::max_memory_per_connection), for a connection of HTTP/2.
    pub fn max_memory_per_http2_connection(&self) -> usize {
        const KIB: usize = 1024;
        const MIB: usize = 1024 * KIB;
        let streams = usize::try_from(self.h2_max_streams).unwrap_or(usize::MAX);
        let windows = streams.saturating_mul(64 * KIB).max(4 * MIB);
        let contents = windows
            .saturating_add(4 * MIB)
            .saturating_add(self.max_content_bytes);
        contents
            .saturating_mul(2)
            .saturating_add(MIB)
            .saturating_add(self.max_head_bytes.saturating_mul(8))
            .saturating_add(256 * KIB)
            .saturating_add(streams.saturating_mul(2 * KIB))
            .saturating_add(64 * KIB)
    }
}

/// Timeouts, with the meanings that they have in nginx. Each applies to one connection.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Timeouts {
    /// The time from the first byte of a request to the end of its head. After it the client gets a 408.
    pub header: Duration,
    /// The time between two reads of request content. After it the client gets a 408.
    pub body: Duration,
    /// The time in which the client receives no byte of the response. After it the connection is closed.
    pub send: Duration,
    /// The time for which a client may be slower than
    /// [`min_rate_bytes_per_second`](Limits::min_rate_bytes_per_second) when it starts to send content
    /// or to receive a response. The default of 5 s is Kestrel's.
    pub min_rate_grace: Duration,
    /// The time that a connection may be idle, before its first request or between two. After it the
    /// connection is closed without a response. Announced to clients as `Keep-Alive: timeout=`.
    pub keep_alive: Duration,
    /// As [`keep_alive`](Self::keep_alive), for HTTP/2 connections. A browser has only one of them for
    /// all its requests, and a new one costs a TLS handshake. nginx has 60 s, h2o 10 s.
    pub keep_alive_h2: Duration,
    /// How long a connection without a request is not closed to make room for others or because the
    /// server shuts down: since it was accepted, or since its last response. Its next request may
    /// already be in transit, and closing would lose it. To make room, connections with a part of a
    /// request head, of a PROXY header or of a TLS handshake, those that wait for the client to close
    /// and those of [half-closed](Self::half_closed) clients are closed after this time as well.
    pub idle_grace: Duration,
    /// How long the response of a handler, or the next part of a body that is produced, is waited for
    /// after the client has closed its sending side. Such a client has either disconnected or still
    /// reads, as `nc -N` does, and only a write shows which. After this time without a byte in either
    /// direction it counts as disconnected: the exchange is cancelled and recorded with the status 499. A
    /// reset, and the end of a Unix socket's connection, are a disconnect at once.
    pub half_closed: Duration,
    /// The time to wait for the client to close after the last response of a connection, in total.
    pub linger: Duration,
    /// The time that running requests may take at shutdown before their connections are closed.
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
            keep_alive_h2: Duration::from_secs(60),
            idle_grace: Duration::from_millis(500),
            half_closed: Duration::from_secs(10),
            linger: Duration::from_secs(5),
            drain: Duration::from_secs(10),
        }
    }
}
