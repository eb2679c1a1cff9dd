//! What an event loop lends to the machine of whichever connection it is serving: the time, the
//! limits, and memory that is used again and again.

use std::time::{Duration, Instant, SystemTime};

use super::request_head::RequestHead;
use crate::config::{Config, ForwardedField, Limits, Networks, Timeouts};
use crate::http::Fields;
use crate::http::date::DateField;
use crate::http::forwarded::ClientInfo;

/// Shared by all machines of one event loop, one at a time.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) limits: Limits,
    pub(crate) proxies: TrustedProxies,
    /// How long a slow client is borne with at first.
    pub(crate) min_rate_grace: Duration,
    /// Now, as of this turn of the loop.
    pub(crate) now: Instant,
    clock: fn() -> Instant,
    pub(crate) date: DateField,
    pub(crate) recording: RecordMode,
    pub(crate) service: DrainState,
    pub(crate) buffers: Buffers,
    /// What Keep-Alive fields announce.
    pub(crate) keep_alive_seconds: u64,
    /// The head that was parsed last, for the machine that parsed it and until it returns its next
    /// action: a request without a body is dispatched from here and owns no memory.
    pub(crate) head: RequestHead,
}

/// Who is believed when it tells of another client, and where it does.
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

    /// Whose request this is, on a connection of `peer`.
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

/// Whether requests are recorded, for an access log or for who observes the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RecordMode {
    On,
    Off,
}

/// Whether connections are kept for further requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DrainState {
    Running,
    /// The server shuts down: every reply is its connection's last.
    Draining,
}

impl Context {
    pub(crate) fn new(
        config: &Config,
        recording: RecordMode,
        clock: fn() -> Instant,
        wall: SystemTime,
    ) -> Self {
        Self {
            limits: config.limits.clone(),
            proxies: TrustedProxies::of(config),
            min_rate_grace: config.timeouts.min_rate_grace,
            now: clock(),
            clock,
            date: DateField::new(wall),
            recording,
            service: DrainState::Running,
            buffers: Buffers::new(config.limits.max_head_bytes),
            keep_alive_seconds: config.timeouts.keep_alive.as_secs(),
            head: RequestHead::default(),
        }
    }

    /// What holds from now on. A content that is coming in keeps the size it was promised.
    pub(crate) fn change(&mut self, limits: &Limits, timeouts: &Timeouts, proxies: TrustedProxies) {
        self.limits = limits.clone();
        self.proxies = proxies;
        self.min_rate_grace = timeouts.min_rate_grace;
        self.keep_alive_seconds = timeouts.keep_alive.as_secs();
        self.buffers.capacity = limits.max_head_bytes;
    }

    /// Durations that are recorded are finer than a turn of the loop.
    pub(crate) fn look_at_clock(&mut self) {
        if self.recording == RecordMode::On {
            self.now = (self.clock)();
        }
    }

    pub(crate) fn tick(&mut self, now: Instant, wall: SystemTime) {
        self.now = now;
        self.date.update(wall);
    }
}

/// Byte buffers for connections that have bytes.
#[derive(Debug)]
pub(crate) struct Buffers {
    free: Vec<Vec<u8>>,
    capacity: usize,
}

/// A burst larger than this allocates; what is over afterwards goes back to the system.
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

    /// Takes a buffer back. One that had to grow is not kept: it would grow the pool for good.
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
