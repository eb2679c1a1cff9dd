//! What exists of an event loop before it runs, and what others know of it while it does: where it
//! is reached, and how busy it is.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use mio::Poll;

use super::mailbox::{Mailbox, WorkerMessage};
use super::tokens::WAKER_TOKEN;
use crate::net::observe::histogram::LoopMetrics;

/// The part of an event loop that exists before it is known what it is to do. `M` is what it is
/// told; a worker is told [`WorkerMessage`].
pub(crate) struct LoopParts<M = WorkerMessage> {
    pub(crate) poll: Poll,
    pub(crate) address: LoopHandle<M>,
}

impl<M> LoopParts<M> {
    pub(crate) fn new() -> io::Result<Self> {
        let poll = Poll::new()?;
        let address = LoopHandle {
            mailbox: Arc::new(Mailbox::new(poll.registry(), WAKER_TOKEN)?),
            tally: Arc::default(),
        };
        Ok(Self { poll, address })
    }

    pub(crate) fn address(&self) -> &LoopHandle<M> {
        &self.address
    }
}

/// Where an event loop is reached, and how busy it is.
#[derive(Debug)]
pub(crate) struct LoopHandle<M = WorkerMessage> {
    pub(crate) mailbox: Arc<Mailbox<M>>,
    pub(crate) tally: Arc<LoopStats>,
}

/// Whatever is mailed there.
impl<M> Clone for LoopHandle<M> {
    fn clone(&self) -> Self {
        Self {
            mailbox: Arc::clone(&self.mailbox),
            tally: Arc::clone(&self.tally),
        }
    }
}

impl<M> LoopHandle<M> {
    pub(crate) fn connections(&self) -> usize {
        self.tally.connections.load(Ordering::Relaxed)
    }
}

/// Whoever has the fewest connections.
pub(crate) fn least_loaded<M>(seats: &[LoopHandle<M>]) -> Option<&LoopHandle<M>> {
    seats.iter().min_by_key(|seat| seat.connections())
}

/// What an event loop counts, for others to read. Of a handshaker only the connections are counted.
#[derive(Debug, Default)]
pub(crate) struct LoopStats {
    /// Its connections, those in the mail included. Whoever mails one adds it.
    pub(crate) connections: AtomicUsize,
    /// Those of them that wait for a further request. Nobody else writes it.
    pub(crate) idle: AtomicUsize,
    /// Those that were closed because others needed the room.
    pub(crate) evicted: AtomicU64,
    /// Requests that a handler has seen.
    pub(crate) requests: AtomicU64,
    pub(crate) meter: LoopMetrics,
    /// Those who want it to measure.
    pub(crate) observers: AtomicUsize,
    /// Those who have asked what it is doing and were not answered yet.
    pub(crate) questions: AtomicUsize,
}

impl LoopStats {
    /// Only the event loop itself counts, so nothing comes between reading and writing.
    pub(crate) fn count_idle(&self, change: isize) {
        let idle = self.idle.load(Ordering::Relaxed);
        let idle = idle.saturating_add_signed(change);
        self.idle.store(idle, Ordering::Relaxed);
    }
}
