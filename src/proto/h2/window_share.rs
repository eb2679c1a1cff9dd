//! The receive windows of one connection's streams as a part of those of its event loop. What a window
//! permits may have to wait in memory for its reader, so windows do not grow without limit: neither those
//! of one connection, nor those of all.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::flow::MAX_CONNECTION_WINDOW_BYTES;

/// What the windows of the bodies that an event loop receives grow to, together: 16 connections with as
/// many bytes as one may have.
pub(crate) const MAX_LOOP_WINDOW_BYTES: usize = 64 * 1024 * 1024;

/// The windows of the bodies that a connection receives. They are given back when it is closed.
#[derive(Debug)]
pub(crate) struct WindowShare {
    /// The windows of all connections of the event loop, whose thread alone changes it.
    total: Arc<AtomicUsize>,
    own: usize,
}

impl WindowShare {
    pub(crate) fn new(total: &Arc<AtomicUsize>) -> Self {
        Self {
            total: Arc::clone(total),
            own: 0,
        }
    }

    /// True if the connection has any windows.
    pub(crate) fn is_used(&self) -> bool {
        self.own > 0
    }

    /// Replaces the number of bytes that the windows of the connection permit.
    pub(crate) fn set(&mut self, own: usize) {
        self.total.fetch_add(own, Ordering::Relaxed);
        self.total.fetch_sub(self.own, Ordering::Relaxed);
        self.own = own;
    }

    /// By how many bytes the windows of the connection may grow.
    pub(crate) fn room(&self) -> usize {
        let of_connection = (MAX_CONNECTION_WINDOW_BYTES as usize).saturating_sub(self.own);
        let total = self.total.load(Ordering::Relaxed);
        of_connection.min(MAX_LOOP_WINDOW_BYTES.saturating_sub(total))
    }
}

impl Drop for WindowShare {
    fn drop(&mut self) {
        self.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_share_the_windows_of_their_event_loop() {
        const MIB: usize = 1024 * 1024;
        let total = Arc::default();
        let mut first = WindowShare::new(&total);
        assert_eq!(first.room(), 4 * MIB);
        first.set(3 * MIB);
        first.set(MIB);
        assert_eq!((first.room(), first.is_used()), (3 * MIB, true));
        let mut second = WindowShare::new(&total);
        // Initial windows are granted whatever the others have.
        second.set(62 * MIB);
        assert_eq!((first.room(), second.room()), (MIB, 0));
        second.set(70 * MIB);
        assert_eq!(first.room(), 0);
        drop(second);
        assert_eq!(first.room(), 3 * MIB);
        drop(first);
        assert_eq!(total.load(Ordering::Relaxed), 0);
    }
}
