//! Flow-control windows (RFC 9113 §5.2 and §6.9), of a stream or of the connection.
//!
//! The receive windows grow with the pace of the reader, because a window limits an upload to one
//! window per round trip: 64 KiB at 50 ms are 1.3 MB/s.

use std::time::{Duration, Instant};

/// The window of the connection, and of each stream unless settings say otherwise (§6.9.2).
pub(crate) const DEFAULT_WINDOW_BYTES: u32 = 65_535;

/// The largest window (§6.9.1).
pub(crate) const MAX_WINDOW_BYTES: u32 = (1 << 31) - 1;

/// The receive window of the connection from its beginning on: 16 uploads with their first windows.
pub(crate) const CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;

/// What the receive window of the connection grows to, and those of its streams together, which bounds
/// the memory of its uploads.
pub(crate) const MAX_CONNECTION_WINDOW_BYTES: u32 = 4 * 1024 * 1024;

/// What the receive window of a stream grows to.
pub(crate) const MAX_STREAM_WINDOW_BYTES: u32 = 1024 * 1024;

/// A receive window grows if the reader takes as many bytes as it has within this time: then the
/// window is what limits the rate, if the round-trip time is that long.
const GROWTH_TIME: Duration = Duration::from_millis(250);

/// A window would exceed [`MAX_WINDOW_BYTES`]: FLOW_CONTROL_ERROR of its stream or connection (§6.9.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WindowOverflow;

/// The client has sent more than its window permits: FLOW_CONTROL_ERROR (§6.9).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WindowExceeded;

/// How many bytes may be sent. It is negative when the client has reduced SETTINGS_INITIAL_WINDOW_SIZE
/// below what was already sent (§6.9.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SendWindow(i32);

impl SendWindow {
    /// A window of at most [`MAX_WINDOW_BYTES`].
    pub(crate) fn new(bytes: u32) -> Self {
        Self(i32::try_from(bytes).unwrap_or(i32::MAX))
    }

    /// How many bytes may be sent now.
    pub(crate) fn available(self) -> usize {
        usize::try_from(self.0).unwrap_or(0)
    }

    /// Uses the window for bytes that are sent: at most those that are available.
    pub(crate) fn consume(&mut self, bytes: usize) {
        debug_assert!(bytes <= self.available(), "{bytes} of {}", self.0);
        let bytes = i32::try_from(bytes).unwrap_or(i32::MAX);
        self.0 = self.0.saturating_sub(bytes);
    }

    /// Adds the increment of a WINDOW_UPDATE frame.
    pub(crate) fn increase(&mut self, increment: u32) -> Result<(), WindowOverflow> {
        let increment = i32::try_from(increment).map_err(|_| WindowOverflow)?;
        self.adjust(increment)
    }

    /// Adds the change of SETTINGS_INITIAL_WINDOW_SIZE.
    pub(crate) fn adjust(&mut self, change: i32) -> Result<(), WindowOverflow> {
        // The largest window is `i32::MAX`. The smallest is its negative: bytes are sent only while
        // the window is positive, and the initial window, which is part of it, is never negative.
        self.0 = self.0.checked_add(change).ok_or(WindowOverflow)?;
        Ok(())
    }
}

/// What the client may send, and what it is to be granted again.
///
/// Of the window's size, a part is granted, a part is received and unread, and the rest is owed: read
/// and not yet granted again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ReceiveWindow {
    size: u32,
    granted: u32,
    owed: u32,
    /// How many bytes the reader has taken since `epoch`, the time of a grant. They decide whether the
    /// window grows.
    taken: u32,
    epoch: Instant,
}

impl ReceiveWindow {
    /// A window of at most [`MAX_WINDOW_BYTES`] that the client knows of.
    pub(crate) fn new(size: u32, now: Instant) -> Self {
        Self {
            size,
            granted: size,
            owed: 0,
            taken: 0,
            epoch: now,
        }
    }

    /// The size, which is the number of bytes that there must be room for.
    pub(crate) fn size(&self) -> u32 {
        self.size
    }

    /// How many bytes the client may send.
    pub(crate) fn granted(&self) -> u32 {
        self.granted
    }

    /// How many bytes have been received and not yet taken.
    pub(crate) fn unread(&self) -> u32 {
        self.size - self.granted - self.owed
    }

    /// Uses the window for a DATA frame, padding included.
    pub(crate) fn receive(&mut self, bytes: u32) -> Result<(), WindowExceeded> {
        self.granted = self.granted.checked_sub(bytes).ok_or(WindowExceeded)?;
        Ok(())
    }

    /// Takes note that received bytes have been read or thrown away.
    pub(crate) fn release(&mut self, bytes: u32) {
        debug_assert!(bytes <= self.unread(), "{bytes} of {}", self.unread());
        let bytes = bytes.min(self.unread());
        self.owed += bytes;
        self.taken = self.taken.saturating_add(bytes);
    }

    /// Grants what is owed if that is half of the window or more, and returns the increment for a
    /// WINDOW_UPDATE frame.
    ///
    /// The window is doubled, up to `max` bytes, if the reader has taken as many bytes as it has within
    /// [`GROWTH_TIME`], and has almost nothing left to read. The caller provides the room.
    pub(crate) fn grant(&mut self, max: u32, now: Instant) -> Option<u32> {
        if self.owed == 0 || self.owed < self.size / 2 {
            return None;
        }
        let growth = self.growth(max, now);
        self.restart_epoch(now);
        Some(self.grant_with(growth))
    }

    /// Enlarges the window to `size` at once, and returns the increment for a WINDOW_UPDATE frame, if
    /// there is one.
    pub(crate) fn enlarge(&mut self, size: u32) -> Option<u32> {
        let growth = size.min(MAX_WINDOW_BYTES).checked_sub(self.size)?;
        let increment = self.grant_with(growth);
        (increment > 0).then_some(increment)
    }

    fn growth(&self, max: u32, now: Instant) -> u32 {
        let is_fast = self.taken >= self.size && !self.is_epoch_over(now);
        if is_fast && self.unread() <= self.size / 4 {
            let doubled = self.size.saturating_mul(2);
            doubled
                .min(max)
                .min(MAX_WINDOW_BYTES)
                .saturating_sub(self.size)
        } else {
            0
        }
    }

    /// Begins to count again when a whole window has been taken, or none in time.
    fn restart_epoch(&mut self, now: Instant) {
        if self.taken >= self.size || self.is_epoch_over(now) {
            self.taken = 0;
            self.epoch = now;
        }
    }

    fn is_epoch_over(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.epoch) > GROWTH_TIME
    }

    fn grant_with(&mut self, growth: u32) -> u32 {
        let increment = self.owed + growth;
        self.size += growth;
        self.granted += increment;
        self.owed = 0;
        increment
    }
}

#[cfg(test)]
mod tests;
