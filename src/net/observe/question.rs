//! The request for a snapshot that an observer sends to an event loop, and the snapshot.

use std::sync::atomic::Ordering;
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Weak};
use std::time::Instant;

use mio::Token;

use super::report::{Activities, Activity, BlockedOn, Http2Report, Transfer, TransferId};
use crate::net::event_loop::handle::LoopStats;
use crate::proto::exchange::ExchangeId;
use crate::proto::transfer::TransferProgress;

/// Transfers listed in one snapshot.
const MAX_TRANSFERS: usize = 1000;

/// Characters of a request target that are kept.
const MAX_TARGET_CHARS: usize = 512;

/// Unanswered requests that an event loop may have in its mailbox. An event loop that has so many
/// is not asked again before it has answered one.
pub(super) const MAX_PENDING_REQUESTS: usize = 16;

/// A request to an event loop for a snapshot of what it is doing.
#[derive(Debug)]
pub(crate) struct SnapshotRequest {
    worker: usize,
    kind: SnapshotKind,
    reply_to: SyncSender<LoopSnapshot>,
    _permit: QueryPermit,
}

/// What a snapshot contains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SnapshotKind {
    /// What each connection is doing.
    Connections,
    /// Nothing: that there is an answer shows that the event loop is responsive.
    Liveness,
}

/// What an event loop is doing.
#[derive(Debug, Default)]
pub(crate) struct LoopSnapshot {
    pub(super) worker: usize,
    pub(super) connections: Activities,
    pub(super) transfers: Vec<Transfer>,
    pub(super) transfers_left_out: usize,
    pub(super) http2: Http2Report,
}

/// One of the [`MAX_PENDING_REQUESTS`] of an event loop, given back when dropped.
#[derive(Debug)]
struct QueryPermit(Weak<LoopStats>);

impl QueryPermit {
    /// Takes a permit; `None` if the event loop has too many unanswered requests.
    fn take(stats: &Arc<LoopStats>) -> Option<Self> {
        let before = stats.pending_snapshots.fetch_add(1, Ordering::Relaxed);
        let permit = Self(Arc::downgrade(stats));
        (before < MAX_PENDING_REQUESTS).then_some(permit)
    }
}

impl Drop for QueryPermit {
    fn drop(&mut self) {
        if let Some(stats) = self.0.upgrade() {
            stats.pending_snapshots.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl SnapshotRequest {
    /// A request to the worker of that index, to be answered on `reply_to`; `None` if the event
    /// loop has too many unanswered requests.
    pub(super) fn new(
        worker: usize,
        stats: &Arc<LoopStats>,
        kind: SnapshotKind,
        reply_to: &SyncSender<LoopSnapshot>,
    ) -> Option<Self> {
        Some(Self {
            worker,
            kind,
            _permit: QueryPermit::take(stats)?,
            reply_to: reply_to.clone(),
        })
    }

    pub(crate) fn kind(&self) -> SnapshotKind {
        self.kind
    }

    /// An empty snapshot to be filled and sent with [`reply`](Self::reply).
    pub(crate) fn snapshot(&self) -> LoopSnapshot {
        LoopSnapshot {
            worker: self.worker,
            ..LoopSnapshot::default()
        }
    }

    /// Sends the snapshot. The observer may have stopped waiting.
    pub(crate) fn reply(self, snapshot: LoopSnapshot) {
        let _ = self.reply_to.try_send(snapshot);
    }
}

impl LoopSnapshot {
    pub(crate) fn count(&mut self, activity: Activity) {
        self.connections.count(activity);
    }

    /// Counts an HTTP/2 connection with the number of its open streams.
    pub(crate) fn count_http2(&mut self, streams: usize) {
        self.http2.connections += 1;
        self.http2.streams += streams;
    }

    /// Adds a transfer of the connection that has this token.
    pub(crate) fn add_transfer(
        &mut self,
        connection: Token,
        exchange: ExchangeId,
        progress: &TransferProgress<'_>,
        blocked_on: BlockedOn,
        now: Instant,
    ) {
        if self.transfers.len() >= MAX_TRANSFERS {
            self.transfers_left_out += 1;
            return;
        }
        let request = progress.info;
        let line = String::from_utf8_lossy(&request.line);
        let mut words = line.split(' ');
        let mut word = || words.next().unwrap_or_default();
        let (method, target) = (word().to_owned(), word());
        self.transfers.push(Transfer {
            id: TransferId {
                worker: self.worker,
                connection: connection.0,
                exchange: exchange.0,
            },
            direction: progress.direction,
            client: request.peer,
            method,
            target: target.chars().take(MAX_TARGET_CHARS).collect(),
            moved: progress.moved,
            total: progress.total,
            age: now.saturating_duration_since(request.started),
            blocked_on,
        });
    }
}
