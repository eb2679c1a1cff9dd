//! The parts of an event loop that exist before its thread starts (poll and mailbox), and the shared
//! handle to a running loop.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use mio::Poll;

use super::mailbox::Mailbox;
use super::tokens::WAKER_TOKEN;
use crate::net::observe::histogram::LoopMetrics;
use crate::proto::http2_stats::Http2Stats;

/// The poll and the handle of an event loop whose thread has not started. `M` is the type of its
/// messages.
pub(crate) struct LoopParts<M> {
    pub(crate) poll: Poll,
    pub(crate) handle: LoopHandle<M>,
}

impl<M> LoopParts<M> {
    pub(crate) fn new() -> io::Result<Self> {
        let poll = Poll::new()?;
        let handle = LoopHandle {
            mailbox: Arc::new(Mailbox::new(poll.registry(), WAKER_TOKEN)?),
            stats: Arc::default(),
        };
        Ok(Self { poll, handle })
    }

    pub(crate) fn handle(&self) -> &LoopHandle<M> {
        &self.handle
    }
}

/// A handle to an event loop: its mailbox and its statistics.
#[derive(Debug)]
pub(crate) struct LoopHandle<M> {
    pub(crate) mailbox: Arc<Mailbox<M>>,
    pub(crate) stats: Arc<LoopStats>,
}

/// By hand, because a derived impl would require `M: Clone`.
impl<M> Clone for LoopHandle<M> {
    fn clone(&self) -> Self {
        Self {
            mailbox: Arc::clone(&self.mailbox),
            stats: Arc::clone(&self.stats),
        }
    }
}

impl<M> LoopHandle<M> {
    pub(crate) fn connections(&self) -> usize {
        self.stats.connections.load(Ordering::Relaxed)
    }

    /// Returns the number of connections that are neither idle nor busy, those in the mailbox included.
    pub(crate) fn incomplete(&self) -> usize {
        let of = |counter: &AtomicUsize| counter.load(Ordering::Relaxed);
        let others = of(&self.stats.idle) + of(&self.stats.busy);
        self.connections().saturating_sub(others)
    }

    /// Counts a connection and sends the message that hands it over.
    pub(crate) fn send_connection(&self, message: M) {
        self.stats.count_connection();
        self.mailbox.send(message);
    }
}

/// Returns the event loop with the fewest connections.
pub(crate) fn least_loaded<M>(loops: &[LoopHandle<M>]) -> Option<&LoopHandle<M>> {
    loops.iter().min_by_key(|handle| handle.connections())
}

/// Whether a connection can be closed to make room for others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Occupancy {
    /// A request is being received or answered.
    Busy,
    /// It waits for a further request, and can be closed at once.
    Idle,
    /// Its first request has not begun, a head is incomplete, or the client has to close. It can be
    /// closed after the grace period, in which a client makes progress that means to.
    Incomplete,
}

/// The statistics of an event loop, for other threads to read. Of a handshaker only the connections
/// are counted.
#[derive(Debug, Default)]
pub(crate) struct LoopStats {
    /// Open connections, including those in the mailbox. The thread that sends a connection to the
    /// mailbox counts it.
    pub(crate) connections: AtomicUsize,
    /// Connections waiting for a further request. Only the event loop writes it.
    pub(crate) idle: AtomicUsize,
    /// Connections whose request is being received or answered. Only the event loop writes it. Those
    /// that are neither idle nor busy are [incomplete](Occupancy::Incomplete).
    pub(crate) busy: AtomicUsize,
    /// Idle and incomplete connections closed to make room for others.
    pub(crate) evicted: AtomicU64,
    /// Requests given to a handler.
    pub(crate) requests: AtomicU64,
    pub(crate) metrics: LoopMetrics,
    pub(crate) http2: Arc<Http2Stats>,
    /// Number of observers. The event loop measures while there is one.
    pub(crate) observers: AtomicUsize,
    /// Unanswered requests for a snapshot.
    pub(crate) pending_snapshots: AtomicUsize,
}

impl LoopStats {
    /// Changes the number of connections of one occupancy by `change`. Only the event loop itself
    /// writes it, so a load and a store are enough.
    pub(crate) fn count_occupancy(&self, occupancy: Occupancy, change: isize) {
        let counter = match occupancy {
            Occupancy::Busy => &self.busy,
            Occupancy::Idle => &self.idle,
            Occupancy::Incomplete => return,
        };
        let count = counter.load(Ordering::Relaxed);
        counter.store(count.saturating_add_signed(change), Ordering::Relaxed);
    }

    /// Counts a request given to a handler; see [`count_occupancy`](Self::count_occupancy).
    pub(crate) fn count_request(&self) {
        let requests = self.requests.load(Ordering::Relaxed) + 1;
        self.requests.store(requests, Ordering::Relaxed);
    }

    /// Counts a connection that is handed to the event loop.
    pub(crate) fn count_connection(&self) {
        self.connections.fetch_add(1, Ordering::Relaxed);
    }

    /// Uncounts a connection that was closed or has left.
    pub(crate) fn uncount_connection(&self) {
        self.connections.fetch_sub(1, Ordering::Relaxed);
    }
}
