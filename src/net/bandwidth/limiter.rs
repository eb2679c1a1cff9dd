//! Rate limits for bytes: of a connection, and of all connections of a client together.
//!
//! A [`RateLimiter`] is a token bucket in the form of a point in time (GCRA): the time at which all
//! bytes reserved so far will have moved at the rate. A connection that wants to move bytes reserves
//! a chunk, and may move it when everything that was reserved before has moved. So connections that
//! share a rate alternate, one chunk each. What a connection has reserved and cannot use is given
//! back. What cannot be split, a small response or a read, is moved whole and reserved afterwards,
//! which delays the connection's next chunk.
//!
//! The timer wheel is coarse, so a connection resumes later than it could. Therefore unused time
//! accumulates for up to [`MAX_BURST_TIME`], and a connection that is late, or was idle, catches up.
//!
//! Nothing here waits or reads a clock. Both directions count together.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A chunk is what moves in an eighth of a second, a little more than a tick of the timer wheel that
/// resumes waiting connections: with less, the connection that is resumed first would take what is
/// left of each tick. A chunk may be larger than what a connection moves in one iteration of its
/// event loop; then it takes several.
const CHUNKS_PER_SECOND: u64 = 8;
const MIN_CHUNK_BYTES: usize = 4 * 1024;

/// The time for which unused bandwidth accumulates. Twice what the timer wheel may be late, and some
/// more.
const MAX_BURST_TIME: Duration = Duration::from_millis(250);

/// A rate, and how far ahead it is reserved. Connections on several threads may share it.
#[derive(Debug)]
pub(crate) struct RateLimiter {
    bytes_per_second: NonZeroU64,
    start: Instant,
    /// When everything reserved will have moved, in nanoseconds since `start`.
    free_at: AtomicU64,
}

impl RateLimiter {
    /// A limiter that has not been used before `now`.
    pub(crate) fn new(bytes_per_second: NonZeroU64, now: Instant) -> Self {
        Self {
            bytes_per_second,
            start: now.checked_sub(MAX_BURST_TIME).unwrap_or(now),
            free_at: AtomicU64::new(0),
        }
    }

    /// Returns true if the limiter behaves like a new one, so that it need not be kept.
    pub(crate) fn is_unused(&self, now: Instant) -> bool {
        self.free_at.load(Ordering::Relaxed) <= self.earliest(now)
    }

    fn chunk(&self) -> usize {
        let chunk = self.bytes_per_second.get() / CHUNKS_PER_SECOND;
        usize::try_from(chunk)
            .unwrap_or(usize::MAX)
            .max(MIN_CHUNK_BYTES)
    }

    /// Reserves `bytes` and returns when they may move.
    fn reserve(&self, bytes: usize, now: Instant) -> Instant {
        let earliest = self.earliest(now);
        // Rounded up, so that the rate is never exceeded.
        let time = self.nanos_of(bytes) + 1;
        let update = |free: u64| Some(free.max(earliest).saturating_add(time));
        let free = &self.free_at;
        // `update` never returns `None`, so there is no error.
        let (Ok(before) | Err(before)) =
            free.fetch_update(Ordering::Relaxed, Ordering::Relaxed, update);
        self.start + Duration::from_nanos(before.max(earliest))
    }

    fn release(&self, bytes: usize) {
        let time = self.nanos_of(bytes);
        let update = |free: u64| Some(free.saturating_sub(time));
        let _ = self
            .free_at
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, update);
    }

    /// The earliest time for a reservation: in the past, by the time that accumulates.
    fn earliest(&self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.start);
        let expired = since.saturating_sub(MAX_BURST_TIME);
        u64::try_from(expired.as_nanos()).unwrap_or(u64::MAX)
    }

    fn nanos_of(&self, bytes: usize) -> u64 {
        let nanos = bytes as u128 * 1_000_000_000 / u128::from(self.bytes_per_second.get());
        u64::try_from(nanos).unwrap_or(u64::MAX - 1)
    }
}

/// The bandwidth limit of one connection: its own rate, its client's, both, or neither, which is no
/// limit.
#[derive(Debug)]
pub(crate) struct BandwidthLimiter {
    own: Option<RateLimiter>,
    client: Option<Arc<RateLimiter>>,
    /// Bytes reserved and not moved.
    reserved: usize,
    /// When the reserved bytes may move.
    ready_at: Instant,
    /// Since when the connection waits for bandwidth and nothing else.
    throttled_since: Option<Instant>,
}

/// Whether bytes may be moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Permit {
    /// This many bytes, at least one.
    Ready(usize),
    RetryAt(Instant),
}

impl BandwidthLimiter {
    pub(crate) fn new(
        own: Option<RateLimiter>,
        client: Option<Arc<RateLimiter>>,
        now: Instant,
    ) -> Self {
        Self {
            own,
            client,
            reserved: 0,
            ready_at: now,
            throttled_since: None,
        }
    }

    /// Returns whether bytes may be moved now, and reserves a chunk if none is reserved.
    pub(crate) fn request(&mut self, now: Instant) -> Permit {
        if self.reserved == 0 {
            self.reserved = self.chunk();
            self.ready_at = self.reserve(self.reserved, now);
        }
        if self.ready_at <= now {
            Permit::Ready(self.reserved)
        } else {
            Permit::RetryAt(self.ready_at)
        }
    }

    /// Returns how many bytes may move at once at most.
    pub(crate) fn chunk(&self) -> usize {
        let chunks = self.limiters().map(RateLimiter::chunk);
        chunks.min().unwrap_or(usize::MAX)
    }

    /// Counts bytes that have moved, which may be more than were reserved.
    pub(crate) fn on_moved(&mut self, bytes: usize, now: Instant) {
        let excess = bytes.saturating_sub(self.reserved);
        self.reserved = self.reserved.saturating_sub(bytes);
        if excess > 0 {
            self.reserve(excess, now);
        }
    }

    /// From now on the connection waits for bandwidth and nothing else.
    pub(crate) fn begin_wait(&mut self, now: Instant) {
        self.throttled_since = Some(now);
    }

    /// The connection runs again. Returns how long it has waited for bandwidth, if it has.
    pub(crate) fn end_wait(&mut self, now: Instant) -> Option<Duration> {
        let since = self.throttled_since.take()?;
        Some(now.saturating_duration_since(since))
    }

    /// Returns when the reserved bytes may move, if the connection waits for that.
    pub(crate) fn throttled_until(&self) -> Option<Instant> {
        self.throttled_since.map(|_| self.ready_at)
    }

    /// Gives back what is reserved and not moved.
    pub(crate) fn release(&mut self) {
        let unused = std::mem::take(&mut self.reserved);
        if unused > 0 {
            self.limiters().for_each(|limiter| limiter.release(unused));
        }
    }

    /// Removes the limits, because the peer has disconnected: nothing will move any more, and the
    /// connection must detect that without waiting.
    pub(crate) fn unlimit(&mut self) {
        self.release();
        (self.own, self.client) = (None, None);
        self.ready_at = self.throttled_since.unwrap_or(self.ready_at);
    }

    fn reserve(&self, bytes: usize, now: Instant) -> Instant {
        let times = self.limiters().map(|limiter| limiter.reserve(bytes, now));
        times.max().unwrap_or(now)
    }

    fn limiters(&self) -> impl Iterator<Item = &RateLimiter> {
        self.own.iter().chain(self.client.as_deref())
    }
}

impl Drop for BandwidthLimiter {
    fn drop(&mut self) {
        self.release();
    }
}

#[cfg(test)]
mod tests;
