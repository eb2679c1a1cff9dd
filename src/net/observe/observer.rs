//! Looks at a server while it serves: what it has counted, and what each connection is doing.
//!
//! What is counted is read from memory. What goes on is not written down while it does: each event
//! loop is asked, walks over its connections, and answers.

use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use ::http::StatusCode;

use super::histogram::Histogram;
use crate::net::accept::handshaker;
use crate::net::blocking::disk::DiskPoolStats;
use crate::net::blocking::pool::PoolStats;
use crate::net::event_loop::handle::{LoopHandle, LoopStats};
use crate::net::event_loop::mailbox::WorkerMessage;
use crate::proto::transfer::TransferProgress;

/// Transfers that one event loop names in an answer.
const MAX_TRANSFERS: usize = 1000;

/// Letters of a target that are told.
const MAX_TARGET_LETTERS: usize = 512;

/// Questions that an event loop may have before it: one that answers none is asked no more.
const MAX_QUESTIONS: usize = 16;

/// Looks at a server. As long as there is one, the server measures its requests, as it does for an
/// access log; a server without either measures nothing.
#[derive(Debug)]
pub struct Observer {
    workers: Vec<LoopHandle>,
    handshakers: Arc<handshaker::HandshakerHandles>,
    pools: BlockingPoolStats,
}

/// The threads of a server that are no event loops, as they are seen from outside.
#[derive(Clone, Debug)]
pub(crate) struct BlockingPoolStats {
    pub(crate) jobs: PoolStats,
    pub(crate) streams: PoolStats,
    pub(crate) disks: DiskPoolStats,
}

/// What a server has measured while it was observed or wrote an access log, and what its helpers
/// are doing.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ServerTotals {
    /// Responses that are over, by status; 499 for requests whose client was gone before there was
    /// one.
    pub responses: Vec<(StatusCode, u64)>,
    /// Bytes of content that were sent with them.
    pub content_bytes: u64,
    /// From the first byte of a request to the last byte of its response.
    pub durations: Histogram,
    /// How long the turns of each event loop took: an event waits for at most one.
    pub turns: Vec<Histogram>,
    /// Threads for jobs.
    pub jobs: QueueStats,
    /// Threads for contents that are read or written at a client's pace.
    pub streams: QueueStats,
    /// Threads that read from disks.
    pub disks: QueueStats,
    /// How often such a thread read a part of a file: of one that was not in memory now or seconds
    /// before.
    pub cold_reads: u64,
}

/// Work for threads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueueStats {
    /// What no thread has yet.
    pub waiting: usize,
    /// What a thread is at.
    pub running: usize,
}

/// What a server is doing at one moment.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct ServerReport {
    /// What connections are doing.
    pub connections: Activities,
    /// Contents on their way that are too large to go at once, oldest first. Those whose request
    /// came before anybody observed or recorded are not among them.
    pub transfers: Vec<Transfer>,
    /// How many more there are: each event loop names a thousand.
    pub transfers_left_out: usize,
    /// The event loops that have not answered, by number.
    pub silent: Vec<usize>,
}

/// How many connections are doing what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Activities {
    /// They are not ready for a request yet: for a PROXY header, or for a TLS handshake.
    pub handshake: usize,
    /// They wait for a request.
    pub idle: usize,
    /// A part of a request's head has come.
    pub head: usize,
    /// A request's content is coming in.
    pub content: usize,
    /// They wait for a handler.
    pub handler: usize,
    /// A response is on its way.
    pub sending: usize,
    /// All is sent, and the client has not closed yet.
    pub lingering: usize,
}

/// What a connection of an event loop is doing: one of [`Activities`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Activity {
    Idle,
    Head,
    Content,
    Handler,
    Sending,
    Lingering,
}

impl Activities {
    /// Each with its name.
    pub fn named(&self) -> [(&'static str, usize); 7] {
        [
            ("handshake", self.handshake),
            ("idle", self.idle),
            ("head", self.head),
            ("content", self.content),
            ("handler", self.handler),
            ("sending", self.sending),
            ("lingering", self.lingering),
        ]
    }

    pub(crate) fn count(&mut self, activity: Activity) {
        *match activity {
            Activity::Idle => &mut self.idle,
            Activity::Head => &mut self.head,
            Activity::Content => &mut self.content,
            Activity::Handler => &mut self.handler,
            Activity::Sending => &mut self.sending,
            Activity::Lingering => &mut self.lingering,
        } += 1;
    }

    fn add(&mut self, other: Self) {
        self.handshake += other.handshake;
        self.idle += other.idle;
        self.head += other.head;
        self.content += other.content;
        self.handler += other.handler;
        self.sending += other.sending;
        self.lingering += other.lingering;
    }
}

pub use crate::proto::transfer::Direction;

/// What a transfer waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockedOn {
    /// The client, which takes or sends no more at the moment.
    Client,
    /// A disk.
    Disk,
    /// The handler that makes the content, or reads it.
    Handler,
    /// Its turn: nothing but the server itself limits it.
    Turn,
    /// Its bandwidth, which has a limit ([`Limits`](crate::Limits)).
    Bandwidth,
}

/// A content on its way.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Transfer {
    /// Tells it from all others of this server.
    pub id: TransferId,
    /// To the client or from it.
    pub direction: Direction,
    /// The client.
    pub client: SocketAddr,
    /// The request's method.
    pub method: String,
    /// The request's target as it was received, cut short after 512 letters. It is what a client
    /// chose to send.
    pub target: String,
    /// Bytes that have gone: the kernel has taken them, or they have come.
    pub moved: u64,
    /// Bytes in all, if that is known.
    pub total: Option<u64>,
    /// How long ago the request began.
    pub age: Duration,
    /// What it waits for.
    pub waits_for: BlockedOn,
}

/// Tells a transfer from all others of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TransferId {
    worker: usize,
    connection: usize,
    request: u32,
}

impl fmt::Display for TransferId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            worker,
            connection,
            request,
        } = self;
        write!(f, "{worker}-{connection:x}-{request}")
    }
}

/// Who wants to know what an event loop is doing.
#[derive(Debug)]
pub(crate) struct SnapshotRequest {
    worker: usize,
    subject: SnapshotKind,
    asker: SyncSender<LoopSnapshot>,
    _place: QueryPermit,
}

/// What an event loop is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SnapshotKind {
    /// What each connection is doing.
    Connections,
    /// Nothing: that it answers says all.
    Itself,
}

/// What an event loop says.
#[derive(Debug, Default)]
pub(crate) struct LoopSnapshot {
    worker: usize,
    connections: Activities,
    transfers: Vec<Transfer>,
    left_out: usize,
}

/// One of the questions that an event loop may have before it.
#[derive(Debug)]
struct QueryPermit(Weak<LoopStats>);

impl QueryPermit {
    fn take(tally: &Arc<LoopStats>) -> Option<Self> {
        let before = tally.questions.fetch_add(1, Ordering::Relaxed);
        let place = Self(Arc::downgrade(tally));
        (before < MAX_QUESTIONS).then_some(place)
    }
}

impl Drop for QueryPermit {
    fn drop(&mut self) {
        if let Some(tally) = self.0.upgrade() {
            tally.questions.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl SnapshotRequest {
    pub(crate) fn subject(&self) -> SnapshotKind {
        self.subject
    }

    pub(crate) fn answer(&self) -> LoopSnapshot {
        LoopSnapshot {
            worker: self.worker,
            ..LoopSnapshot::default()
        }
    }

    /// Whoever asked may have lost patience.
    pub(crate) fn reply(self, answer: LoopSnapshot) {
        let _ = self.asker.try_send(answer);
    }
}

impl LoopSnapshot {
    pub(crate) fn add(&mut self, activity: Activity) {
        self.connections.count(activity);
    }

    pub(crate) fn add_transfer(
        &mut self,
        passage: &TransferProgress<'_>,
        (connection, request): (usize, u32),
        waits_for: BlockedOn,
        now: Instant,
    ) {
        if self.transfers.len() >= MAX_TRANSFERS {
            self.left_out += 1;
            return;
        }
        let line = String::from_utf8_lossy(&passage.info.line);
        let mut words = line.split(' ');
        let mut word = || words.next().unwrap_or_default();
        let (method, target) = (word().to_owned(), word());
        self.transfers.push(Transfer {
            id: TransferId {
                worker: self.worker,
                connection,
                request,
            },
            direction: passage.direction,
            client: passage.info.peer,
            method,
            target: target.chars().take(MAX_TARGET_LETTERS).collect(),
            moved: passage.moved,
            total: passage.total,
            age: now.saturating_duration_since(passage.info.started),
            waits_for,
        });
    }
}

impl Observer {
    pub(crate) fn new(
        workers: Vec<LoopHandle>,
        handshakers: Arc<handshaker::HandshakerHandles>,
        pools: BlockingPoolStats,
    ) -> Self {
        for worker in &workers {
            worker.tally.observers.fetch_add(1, Ordering::Relaxed);
        }
        Self {
            workers,
            handshakers,
            pools,
        }
    }

    /// What was measured so far. It asks nobody and waits for nobody.
    pub fn totals(&self) -> ServerTotals {
        let mut responses = std::collections::BTreeMap::new();
        let mut content_bytes = 0;
        let mut durations = Histogram::new();
        for meter in self.workers.iter().map(|worker| &worker.tally.meter) {
            for (status, count) in meter.statuses() {
                *responses.entry(status).or_default() += count;
            }
            content_bytes += meter.content_bytes();
            durations.add(&meter.durations());
        }
        let turns = self.workers.iter();
        ServerTotals {
            responses: responses.into_iter().collect(),
            content_bytes,
            durations,
            turns: turns.map(|worker| worker.tally.meter.turns()).collect(),
            jobs: self.pools.jobs.queue(),
            streams: self.pools.streams.queue(),
            disks: self.pools.disks.queue(),
            cold_reads: self.pools.disks.reads(),
        }
    }

    /// The longest turn of each event loop since this was called last, by whatever observer.
    pub fn take_longest_turns(&self) -> Vec<Duration> {
        let take = |worker: &LoopHandle| worker.tally.meter.take_longest_turn();
        self.workers.iter().map(take).collect()
    }

    /// Asks all event loops what they are doing, and waits for their answers, in all at most for
    /// `patience`. It costs each of them a fraction of a microsecond for each connection.
    pub fn report(&self, patience: Duration) -> ServerReport {
        let mut report = ask(&self.workers, SnapshotKind::Connections, patience);
        report.connections.handshake = self.handshakers.connections();
        report
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        for worker in &self.workers {
            worker.tally.observers.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// Asks all, and waits for their answers, in all at most for `patience`.
pub(crate) fn ask(
    workers: &[LoopHandle],
    subject: SnapshotKind,
    patience: Duration,
) -> ServerReport {
    let (asker, answers) = sync_channel(workers.len());
    let mut silent: Vec<usize> = (0..workers.len()).collect();
    for (index, worker) in workers.iter().enumerate() {
        if let Some(place) = QueryPermit::take(&worker.tally) {
            worker.mailbox.send(WorkerMessage::Report(SnapshotRequest {
                worker: index,
                subject,
                asker: asker.clone(),
                _place: place,
            }));
        }
    }
    drop(asker);
    let begun = Instant::now();
    let mut report = ServerReport::default();
    while !silent.is_empty() {
        let left = patience.saturating_sub(begun.elapsed());
        // Late, or there is none left that could answer.
        let Ok(answer) = answers.recv_timeout(left) else {
            break;
        };
        silent.retain(|worker| *worker != answer.worker);
        report.connections.add(answer.connections);
        report.transfers.extend(answer.transfers);
        report.transfers_left_out += answer.left_out;
    }
    report
        .transfers
        .sort_by_key(|transfer| std::cmp::Reverse(transfer.age));
    report.silent = silent;
    report
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::blocking::disk::DiskPools;
    use crate::net::blocking::pool::BlockingPool;
    use crate::net::event_loop::handle::LoopParts;

    #[test]
    fn who_does_not_answer_is_asked_no_more() {
        let seat: LoopParts = LoopParts::new().expect("a poll");
        let pools = BlockingPoolStats {
            jobs: BlockingPool::new(1, 1).view(),
            streams: BlockingPool::new(1, 1).view(),
            disks: DiskPools::new(1, 1).view(),
        };
        let address = seat.address();
        let observer = Observer::new(vec![address.clone()], Arc::default(), pools);
        let ask = || observer.report(Duration::ZERO).silent;
        let asked = || {
            let mut mail = Vec::new();
            address.mailbox.take(&mut mail);
            mail.len()
        };
        (0..100).for_each(|_| assert_eq!(ask(), [0]));
        assert_eq!(asked(), MAX_QUESTIONS);
        // Those are dropped, and there is room for others.
        assert_eq!((ask(), asked()), (vec![0], 1));
    }
}
