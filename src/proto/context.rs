//! What an event loop lends to the machine of the connection that it is driving: the time, the
//! limits, and memory that is reused.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, Instant, SystemTime};

use super::h2::spare_memory::SpareMemory;
use super::http2_stats::Http2Stats;
use super::min_rate::WaitContext;
use super::request_head::RequestHead;
use crate::config::{Config, ForwardedField, Http2, Limits, Networks, Timeouts};
use crate::http::date::{DATE_BYTES, DateField};
use crate::http::forwarded::ClientInfo;
use crate::http::{Fields, Request};

/// The context of all machines of one event loop, lent to one machine at a time.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) limits: Limits,
    pub(crate) proxies: TrustedProxies,
    pub(crate) http2: Http2,
    pub(crate) http2_stats: Arc<Http2Stats>,
    /// How many bytes the receive windows of all HTTP/2 streams permit whose bodies are being received.
    pub(crate) receive_windows: Arc<AtomicUsize>,
    /// How long a slow client may be below the minimum rate at first.
    pub(crate) min_rate_grace: Duration,
    /// How long a connection without a request is neither evicted nor closed for shutdown.
    pub(crate) idle_grace: Duration,
    /// The time, as of this iteration of the loop or the last [`refresh_clock`](Self::refresh_clock).
    pub(crate) now: Instant,
    clock: fn() -> Instant,
    pub(crate) date: DateField,
    /// Until when `date` holds.
    date_until: Instant,
    /// The Date field in the encoding of HTTP/2, of the second that it was encoded in last.
    pub(crate) date_block: DateBlock,
    pub(crate) recording: RecordMode,
    pub(crate) drain_state: DrainState,
    pub(crate) buffers: Buffers,
    pub(crate) http2_memory: SpareMemory,
    /// The seconds of the `timeout` parameter of Keep-Alive fields, in decimal digits.
    pub(crate) keep_alive_seconds: String,
    /// The head that was parsed last, for the machine that parsed it and until it returns its next
    /// action: a request without a body is dispatched from here and owns no memory.
    pub(crate) head: RequestHead,
    /// The bytes that the positions in `head` refer to, if they are in no buffer of the machine: the
    /// decoded fields of an HTTP/2 request.
    pub(crate) head_bytes: Vec<u8>,
}

impl WaitContext for Context {
    fn now(&self) -> Instant {
        self.now
    }

    fn idle_grace(&self) -> Duration {
        self.idle_grace
    }

    fn min_rate_grace(&self) -> Duration {
        self.min_rate_grace
    }

    fn min_rate_bytes_per_second(&self) -> u64 {
        self.limits.min_rate_bytes_per_second.into()
    }
}

/// The proxies whose forwarding fields are trusted, and which field they send.
#[derive(Clone, Debug)]
pub(crate) struct TrustedProxies {
    trusted: Networks,
    field: ForwardedField,
}

impl TrustedProxies {
    pub(crate) fn of(config: &Config) -> Self {
        Self {
            trusted: config.trusted_proxies.clone(),
            field: config.forwarded_field,
        }
    }

    /// The client that sent a request on a connection from `peer`: the one that a trusted proxy
    /// reports, or the peer itself.
    pub(crate) fn client(&self, peer: ClientInfo, fields: &Fields<'_>) -> ClientInfo {
        if self.trusted.is_empty() || !self.trusted.contains(peer.address) {
            return peer;
        }
        let trusts = |address| self.trusted.contains(address);
        match self.field {
            ForwardedField::XForwardedFor => peer.by_x_forwarded(fields, trusts),
            ForwardedField::Forwarded => peer.by_forwarded(fields, trusts),
        }
    }
}

impl Request<'static> {
    /// Sets the client as a server with this configuration does for a connection from `peer`: the client that
    /// a trusted proxy reports in the fields of the request, or the peer itself. For requests that were not
    /// received.
    pub fn with_peer_addr(self, peer: SocketAddr, config: &Config) -> Self {
        let proxies = TrustedProxies::of(config);
        let client = proxies.client(ClientInfo::plain(peer), self.fields());
        self.with_client(client)
    }
}

/// Whether exchanges are recorded, for an access log or for observers of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RecordMode {
    On,
    Off,
}

/// Whether connections are kept open for further requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DrainState {
    Running,
    /// The server shuts down: every response is the last of its connection.
    Draining,
}

impl Context {
    pub(crate) fn new(
        config: &Config,
        recording: RecordMode,
        clock: fn() -> Instant,
        wall: SystemTime,
    ) -> Self {
        let now = clock();
        Self {
            limits: config.limits.clone(),
            proxies: TrustedProxies::of(config),
            http2: config.http2,
            http2_stats: Arc::default(),
            receive_windows: Arc::default(),
            min_rate_grace: config.timeouts.min_rate_grace,
            idle_grace: config.timeouts.idle_grace,
            now,
            clock,
            date: DateField::new(wall),
            date_until: now,
            date_block: DateBlock::default(),
            recording,
            drain_state: DrainState::Running,
            buffers: Buffers::new(config.limits.max_head_bytes),
            http2_memory: SpareMemory::default(),
            keep_alive_seconds: config.timeouts.keep_alive.as_secs().to_string(),
            head: RequestHead::default(),
            head_bytes: Vec::new(),
        }
    }

    /// Applies a new configuration. A body that is being received keeps the limit that it was admitted
    /// with.
    pub(crate) fn reconfigure(
        &mut self,
        limits: &Limits,
        timeouts: &Timeouts,
        proxies: TrustedProxies,
    ) {
        self.limits = limits.clone();
        self.proxies = proxies;
        self.min_rate_grace = timeouts.min_rate_grace;
        self.idle_grace = timeouts.idle_grace;
        self.keep_alive_seconds = timeouts.keep_alive.as_secs().to_string();
        self.buffers.capacity = limits.max_head_bytes;
    }

    /// Reads the clock, if exchanges are recorded: recorded durations are finer than an iteration of
    /// the loop.
    pub(crate) fn refresh_clock(&mut self) {
        if self.recording == RecordMode::On {
            self.now = (self.clock)();
        }
    }

    /// Sets the time, at the beginning of an iteration of the loop. The wall clock is read once a
    /// second, so the Date field follows a change of it after a second at most.
    pub(crate) fn tick(&mut self, now: Instant, wall: fn() -> SystemTime) {
        self.now = now;
        if now >= self.date_until {
            self.date_until = now + self.date.update(wall());
        }
    }
}

/// The Date field, encoded.
#[derive(Debug, Default)]
pub(crate) struct DateBlock {
    date: Option<[u8; DATE_BYTES]>,
    bytes: Vec<u8>,
}

impl DateBlock {
    /// Returns the encoding of `date`, which `encode` appends if it is not the date encoded last.
    pub(crate) fn of(
        &mut self,
        date: &[u8; DATE_BYTES],
        encode: impl FnOnce(&mut Vec<u8>),
    ) -> &[u8] {
        if self.date != Some(*date) {
            self.date = Some(*date);
            self.bytes.clear();
            encode(&mut self.bytes);
        }
        &self.bytes
    }
}

/// A pool of byte buffers for connections that hold bytes.
#[derive(Debug)]
pub(crate) struct Buffers {
    free: Vec<Vec<u8>>,
    capacity: usize,
}

/// Maximum number of free buffers. A larger burst allocates, and its buffers are freed afterwards.
const MAX_FREE: usize = 256;

impl Buffers {
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            free: Vec::new(),
            capacity,
        }
    }

    /// An empty buffer with some capacity.
    pub(crate) fn take(&mut self) -> Vec<u8> {
        self.free
            .pop()
            .unwrap_or_else(|| Vec::with_capacity(self.capacity))
    }

    /// Takes a buffer back. A buffer that had to grow a lot is freed, as the pool would never shrink.
    pub(crate) fn give_back(&mut self, mut buffer: Vec<u8>) {
        if self.free.len() < MAX_FREE && buffer.capacity() <= 4 * self.capacity {
            buffer.clear();
            self.free.push(buffer);
        }
    }

    #[cfg(test)]
    pub(crate) fn free(&self) -> usize {
        self.free.len()
    }
}
