//! A limit on the request rate of each client or connection.
//!
//! The algorithm is GCRA, the generic cell rate algorithm: for each client only its theoretical
//! arrival time (TAT) is stored, the time at which its whole burst is available again. A request that
//! is served advances the TAT by the interval of the rate; a request that is denied changes nothing,
//! so a client that keeps sending still gets its rate.
//!
//! The number of clients in the table is bounded. When a bucket is full, the entry with the earliest
//! TAT is evicted: it is the client that gains min by being forgotten.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use std::time::{Duration, Instant};

use ::http::StatusCode;
use ::http::header::RETRY_AFTER;

use crate::client_key::ClientKey;
use crate::error::SettingError;
use crate::handler::{BodyPolicy, Handler, Outcome};
use crate::http::cors::AllowedOrigins;
use crate::http::{Rejection, Request, Response, error_page};
use crate::site::Origin;
use crate::sync::Mutex;

/// A request rate with a burst: `10` (10 per second), `0.5` (one in two seconds), `10:50` (10 per
/// second, up to 50 at once after a pause). Without the second number the burst is the rate, rounded
/// up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// The time between two requests at this rate, in nanoseconds.
    interval: u64,
    burst: u32,
}

impl Rate {
    /// The lowest rate: about one request in three hours.
    const MIN_PER_SECOND: f64 = 0.0001;
    /// The highest rate, above what one event loop can serve.
    const MAX_PER_SECOND: f64 = 1_000_000.0;
    const MAX_BURST: u32 = 1_000_000;

    /// Creates a rate of `per_second` requests per second with bursts of `burst` requests.
    ///
    /// # Errors
    ///
    /// If `per_second` is not between 0.0001 and a million or `burst` is not
    /// between 1 and a million.
    pub fn new(per_second: f64, burst: u32) -> Result<Self, SettingError> {
        if !(Self::MIN_PER_SECOND..=Self::MAX_PER_SECOND).contains(&per_second) {
            let (min, max) = (Self::MIN_PER_SECOND, Self::MAX_PER_SECOND);
            return Err(
                format!("the rate must be between {min} and {max} requests per second").into(),
            );
        }
        if !(1..=Self::MAX_BURST).contains(&burst) {
            let max = Self::MAX_BURST;
            return Err(format!("the burst must be between 1 and {max} requests").into());
        }
        // Rounded up, so that the rate is never exceeded.
        let interval = (1e9 / per_second).ceil() as u64;
        Ok(Self { interval, burst })
    }

    /// One event per interval, which must be shorter than 584 years, with bursts of at least one.
    #[cfg(feature = "auth")]
    pub(super) const fn every(interval: Duration, burst: u32) -> Self {
        Self {
            interval: interval.as_nanos() as u64,
            burst,
        }
    }

    #[cfg(all(test, feature = "auth"))]
    pub(super) fn burst(self) -> u32 {
        self.burst
    }

    /// How far a client's TAT may be ahead of now for another request, in nanoseconds.
    fn tolerance(self) -> u64 {
        self.interval * u64::from(self.burst - 1)
    }
}

impl FromStr for Rate {
    type Err = SettingError;

    fn from_str(text: &str) -> Result<Self, SettingError> {
        let wrong = || {
            SettingError::from(format!(
                "must be a rate such as 10, 0.5 or 10:50 (50 at once) (got {text:?})"
            ))
        };
        let (rate, burst) = match text.split_once(':') {
            Some((rate, burst)) => (rate, Some(burst)),
            None => (text, None),
        };
        let number = |byte: u8| byte.is_ascii_digit() || byte == b'.';
        if !rate.bytes().all(number) {
            return Err(wrong());
        }
        let rate: f64 = rate.parse().map_err(|_| wrong())?;
        let burst = match burst {
            Some(burst) => burst.parse().map_err(|_| wrong())?,
            None => rate.ceil().max(1.0) as u32,
        };
        Self::new(rate, burst)
    }
}

/// Limits the request rate of each client, of each connection, or of both. A request above the rate
/// gets a 429 (RFC 6585 §4) with `Retry-After` in seconds. The connection stays open, unless the
/// request has a body, which is not read.
///
/// A client is an IPv4 address or an IPv6 network of 64 bits, as [`Request::client_addr`] returns it. A
/// connection is identified by the client's address and port. If the port is 0, because a proxy did
/// not report it, all requests from that address count as one connection. Peers on Unix sockets have
/// no address and are not limited.
///
/// A request counts once, when its head is received, whatever its framing: with a body that is read,
/// streamed or rejected, with an empty body, or without one. A denied request does not count. A
/// malformed request does not reach this handler; its connection is closed.
///
/// Each of the two limits uses about 2 MiB of memory for 65,536 clients. If more clients exceed their
/// rate at the same time, those that exceed it least are forgotten.
///
/// ```
/// use tws::{Handler, RateLimit, Request, Response, StatusCode};
///
/// # fn main() -> Result<(), tws::Error> {
/// let hello = |_: &Request<'_>| Response::text("hello");
/// let handler = RateLimit::new(hello).per_client("0.1:2".parse()?);
/// let client = ([192, 0, 2, 1], 50_000).into();
/// let status = || {
///     let request = Request::get("/").with_client_addr(client);
///     handler.handle(&request).wait().status()
/// };
/// assert_eq!(status(), StatusCode::OK);
/// assert_eq!(status(), StatusCode::OK);
/// assert_eq!(status(), StatusCode::TOO_MANY_REQUESTS);
/// # Ok(())
/// # }
/// ```
pub struct RateLimit {
    inner: Box<dyn Handler>,
    start: Instant,
    clock: fn() -> Instant,
    clients: Option<RateTable>,
    connections: Option<RateTable>,
    /// The origins whose pages may read the 429 responses.
    origins: Option<AllowedOrigins>,
}

impl fmt::Debug for RateLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RateLimit")
            .field("limits_clients", &self.clients.is_some())
            .field("limits_connections", &self.connections.is_some())
            .finish_non_exhaustive()
    }
}

impl RateLimit {
    /// Wraps `inner`, without a limit so far.
    pub fn new(inner: impl Handler + 'static) -> Self {
        Self::with_clock(inner, Instant::now)
    }

    fn with_clock(inner: impl Handler + 'static, clock: fn() -> Instant) -> Self {
        Self {
            inner: Box::new(inner),
            start: clock(),
            clock,
            clients: None,
            connections: None,
            origins: None,
        }
    }

    /// Limits the requests of each client, on all its connections together.
    pub fn per_client(mut self, rate: Rate) -> Self {
        self.clients = Some(RateTable::new(rate, BUCKETS));
        self
    }

    /// Limits the requests on each connection.
    pub fn per_connection(mut self, rate: Rate) -> Self {
        self.connections = Some(RateTable::new(rate, BUCKETS));
        self
    }

    /// Permits pages of these origins to read the 429 responses. [`Cors`](crate::Cors) belongs inside
    /// this limit, so that preflight requests count, and cannot add the field to them.
    pub fn readable_by<'o>(mut self, origins: impl IntoIterator<Item = &'o Origin>) -> Self {
        self.origins = super::cors::allowed(origins);
        self
    }

    /// Counts a request, unless it was counted when the handler was asked about its body. Returns the
    /// 429 response if it exceeds a limit.
    fn deny(&self, request: &Request<'_>) -> Option<Response> {
        if request.was_admitted() {
            return None;
        }
        let client = ClientKey::of(request.client_addr().ip())?;
        let now = (self.clock)().saturating_duration_since(self.start);
        let exceeded = self.take(client, request.client_addr(), now).err()?;
        let mut page = exceeded.response(request);
        if let Some(origins) = &self.origins {
            origins.fields_for(request).add(page.headers_mut());
        }
        Some(page)
    }

    fn take(&self, client: ClientKey, peer: SocketAddr, now: Duration) -> Result<(), RateExceeded> {
        let connection = RateKey::for_connection(peer);
        if let Some(connections) = &self.connections {
            connections.take(connection, now)?;
        }
        let Some(clients) = &self.clients else {
            return Ok(());
        };
        let taken = clients.take(RateKey::for_client(client), now);
        if let (Err(_), Some(connections)) = (&taken, &self.connections) {
            connections.refund(connection);
        }
        taken
    }
}

impl Handler for RateLimit {
    fn handle(&self, request: &Request<'_>) -> Outcome {
        if let Some(response) = self.deny(request) {
            return response.into();
        }
        let outcome = self.inner.handle(request);
        // Programs and tests may call a handler with the same request again.
        request.forget_admission();
        outcome
    }

    fn admit(&self, request: &Request<'_>) -> BodyPolicy {
        let policy = match self.deny(request) {
            Some(response) => BodyPolicy::Reject(response),
            None => self.inner.admit(request),
        };
        // Last, because a limit inside this one counts the request too.
        request.mark_admitted();
        policy
    }

    fn reject(&self, request: &Request<'_>, rejection: Rejection) -> Response {
        // A request with an unknown expectation is rejected without a question about its body.
        if let Some(response) = self.deny(request) {
            return response.closing();
        }
        let response = self.inner.reject(request, rejection);
        request.forget_admission();
        response
    }
}

/// Identifies the requests that are counted together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct RateKey {
    address: [u8; 16],
    port: u16,
}

impl RateKey {
    pub(super) fn for_client(client: ClientKey) -> Self {
        Self {
            address: client.octets(),
            port: 0,
        }
    }

    fn for_connection(peer: SocketAddr) -> Self {
        Self {
            address: match peer.ip().to_canonical() {
                IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
                IpAddr::V6(v6) => v6.octets(),
            },
            port: peer.port(),
        }
    }
}

/// A key and its theoretical arrival time in nanoseconds. A TAT in the past, such as that of an unused
/// entry, is equivalent to no entry.
#[derive(Clone, Copy, Debug, Default)]
struct RateEntry {
    key: RateKey,
    tat: u64,
}

/// Entries per bucket; a lookup compares all of them.
const BUCKET_ENTRIES: usize = 16;

/// Buckets per table.
const BUCKETS: usize = 4096;

type Bucket = [RateEntry; BUCKET_ENTRIES];

/// A table of theoretical arrival times, set-associative like a CPU cache: a hash with a random key
/// assigns each rate key to one bucket, so that a client cannot choose to collide with another. Each
/// bucket has its own lock.
#[derive(Debug)]
pub(super) struct RateTable {
    rate: Rate,
    hash_key: RandomState,
    buckets: Box<[Mutex<Bucket>]>,
}

/// The request exceeds the rate; another one is accepted after this time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RateExceeded {
    retry_after: Duration,
}

impl RateExceeded {
    /// Makes the 429 response, with Retry-After in seconds.
    pub(super) fn response(self, request: &Request<'_>) -> Response {
        let RateExceeded { retry_after } = self;
        let seconds = retry_after.as_secs() + u64::from(retry_after.subsec_nanos() > 0);
        let reason = format!("try again in {seconds} s");
        let plain = Response::error_line(StatusCode::TOO_MANY_REQUESTS, &reason);
        let page = error_page::instead_of(plain, request.fields());
        page.with_header(RETRY_AFTER, seconds)
    }
}

impl RateTable {
    pub(super) fn new(rate: Rate, buckets: usize) -> Self {
        Self {
            rate,
            hash_key: RandomState::new(),
            buckets: (0..buckets).map(|_| Mutex::default()).collect(),
        }
    }

    /// Counts one request at `now`, a time since any fixed point.
    pub(super) fn take(&self, key: RateKey, now: Duration) -> Result<(), RateExceeded> {
        self.with_bucket(key, |bucket| {
            let entry = entry_for(key, bucket);
            let tat = self.conforming_tat(key, entry, now)?;
            *entry = RateEntry {
                key,
                tat: tat.saturating_add(self.rate.interval),
            };
            Ok(())
        })
    }

    /// Returns what [`take`](Self::take) would, without counting.
    #[cfg(feature = "auth")]
    pub(super) fn check(&self, key: RateKey, now: Duration) -> Result<(), RateExceeded> {
        self.with_bucket(key, |bucket| {
            self.conforming_tat(key, entry_for(key, bucket), now)
                .map(drop)
        })
    }

    /// Returns the theoretical arrival time, not before now.
    fn conforming_tat(
        &self,
        key: RateKey,
        entry: &RateEntry,
        now: Duration,
    ) -> Result<u64, RateExceeded> {
        // 64 bits of nanoseconds are 584 years.
        let now = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        let tat = if entry.key == key {
            entry.tat.max(now)
        } else {
            now
        };
        match (tat - now).saturating_sub(self.rate.tolerance()) {
            0 => Ok(tat),
            early => Err(RateExceeded {
                retry_after: Duration::from_nanos(early),
            }),
        }
    }

    /// Takes back one request that was not served.
    fn refund(&self, key: RateKey) {
        self.with_bucket(key, |bucket| {
            let entry = entry_for(key, bucket);
            if entry.key == key {
                entry.tat = entry.tat.saturating_sub(self.rate.interval);
            }
        });
    }

    fn with_bucket<T>(&self, key: RateKey, act: impl FnOnce(&mut Bucket) -> T) -> T {
        let at = self.hash_key.hash_one(key) as usize % self.buckets.len();
        act(&mut self.buckets[at].lock())
    }
}

/// Returns the entry of a key, or the one to evict for it: that with the earliest TAT.
fn entry_for(key: RateKey, bucket: &mut Bucket) -> &mut RateEntry {
    let existing = bucket.iter().position(|entry| entry.key == key);
    let earliest = || (0..BUCKET_ENTRIES).min_by_key(|at| bucket[*at].tat);
    let at = existing.or_else(earliest).unwrap_or(0);
    &mut bucket[at]
}

#[cfg(test)]
mod tests;
