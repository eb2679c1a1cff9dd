//! Counters of HTTP/2 connections, for observers of the server.

use std::sync::atomic::{AtomicU64, Ordering};

/// Error codes that are counted one by one; those beyond are counted together (RFC 9113 §7).
const CODES: usize = 14;

/// Limits that a client may exceed, at most.
const MAX_LIMITS: usize = 16;

/// The counters of one event loop, which alone writes them.
#[derive(Debug, Default)]
pub(crate) struct Http2Stats {
    /// Streams that clients have reset, by error code.
    pub(crate) resets_received: Counters<{ CODES + 1 }>,
    /// Streams that the server has reset, by error code.
    pub(crate) resets_sent: Counters<{ CODES + 1 }>,
    /// Connections closed because of a limit, by its number.
    pub(crate) floods: Counters<MAX_LIMITS>,
}

/// Counters with the numbers from 0 on. What is beyond the last is counted as the last.
#[derive(Debug)]
pub(crate) struct Counters<const N: usize>([AtomicU64; N]);

impl<const N: usize> Default for Counters<N> {
    fn default() -> Self {
        Self([const { AtomicU64::new(0) }; N])
    }
}

impl<const N: usize> Counters<N> {
    pub(crate) fn count(&self, number: usize) {
        let counter = &self.0[number.min(N - 1)];
        counter.store(counter.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    pub(crate) fn get(&self, number: usize) -> u64 {
        self.0
            .get(number)
            .map_or(0, |counter| counter.load(Ordering::Relaxed))
    }
}
