//! Samples of what a server does, one a second for all who watch together, and none when nobody
//! does.
//!
//! There is no thread for it: of those who wait for the next sample, the first takes it for all.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant, SystemTime};

use serde::{Serialize, Serializer};

use crate::net::observe::observer::{
    Activities, BlockedOn, Direction, Observer, QueueStats, ServerTotals, Transfer, TransferId,
};
use crate::server::{ServerHandle, ServerState};

/// From one sample to the next.
const PERIOD: Duration = Duration::from_secs(1);

/// How long a sample waits for an event loop.
const PATIENCE: Duration = Duration::from_millis(500);

/// What is older says nothing about now.
const MAX_SPAN: Duration = Duration::from_secs(5);

/// How many samples decide what limits a transfer.
const VOTES: usize = 5;

/// How much of a transfer's rate is new in each sample.
const NEWS: f64 = 0.4;

/// Takes samples of one server, for whoever asks.
pub struct Sampler {
    handle: ServerHandle,
    observer: Observer,
    latest: Mutex<Option<(Arc<Sample>, Instant)>>,
    taken: Condvar,
    /// Held by who takes a sample.
    before: Mutex<Before>,
}

/// What the sample before leaves to the next.
#[derive(Default)]
struct Before {
    number: u64,
    totals: Option<(ServerTotals, Instant)>,
    transfers: HashMap<TransferId, Course>,
}

/// How a transfer went so far.
struct Course {
    moved: u64,
    rate: f64,
    waits: VecDeque<BlockedOn>,
}

/// What a server did within a second. As JSON, times are in seconds and rates per second.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Sample {
    /// One more than that of the sample before.
    pub number: u64,
    /// When it was taken, in seconds since 1970.
    pub time: f64,
    /// How far the server's life has come.
    #[serde(serialize_with = "phase_word")]
    pub phase: ServerState,
    /// `None` in the first sample after a while.
    pub rates: Option<Rates>,
    /// Each event loop.
    pub workers: Vec<WorkerSample>,
    /// What connections are doing.
    #[serde(serialize_with = "activities")]
    pub connections: Activities,
    /// Jobs that wait for a thread or have one.
    #[serde(serialize_with = "queue")]
    pub jobs: QueueStats,
    /// Parts of files that are read from disks, or are to be.
    #[serde(serialize_with = "queue")]
    pub disks: QueueStats,
    /// Contents on their way, oldest first.
    pub transfers: Vec<TransferSample>,
    /// How many more there are.
    pub transfers_left_out: usize,
}

/// How much there was, per second.
#[derive(Clone, Copy, Debug, Serialize)]
#[non_exhaustive]
pub struct Rates {
    /// Requests that were answered to the end.
    pub requests: f64,
    /// Those of them whose status was 500 or above.
    pub errors: f64,
    /// The time within which half of them were answered, in seconds; `None` if there were none.
    pub median: Option<f64>,
    /// The time within which 99 of 100 were.
    pub p99: Option<f64>,
}

/// One event loop.
#[derive(Clone, Copy, Debug, Serialize)]
#[non_exhaustive]
pub struct WorkerSample {
    /// How long an event may have waited at most, in seconds.
    pub lag: f64,
    /// Whether it has answered in time.
    pub answers: bool,
}

/// One transfer.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct TransferSample {
    /// Tells it from all others.
    pub id: String,
    /// Whether it comes from the client, an upload.
    pub upload: bool,
    /// The client's address and port.
    pub client: String,
    /// The request's method.
    pub method: String,
    /// The request's target, as the client chose to send it.
    pub target: String,
    /// Bytes that have gone.
    pub moved: u64,
    /// Bytes in all, if that is known.
    pub total: Option<u64>,
    /// Seconds since its request began.
    pub age: f64,
    /// Bytes per second: lately, or so far if it is new.
    pub rate: f64,
    /// Seconds until it is done at this rate, if that can be told.
    pub left: Option<f64>,
    /// What it mostly waits for.
    pub limit: Limit,
}

/// What limits a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Limit {
    /// The client, or the way to it.
    Client,
    /// A disk.
    Disk,
    /// The handler.
    Handler,
    /// The server itself: it has others to serve, too.
    Server,
    /// The bandwidth that its client or its connection may have.
    Bandwidth,
}

impl From<BlockedOn> for Limit {
    fn from(waits: BlockedOn) -> Self {
        match waits {
            BlockedOn::Client => Self::Client,
            BlockedOn::Disk => Self::Disk,
            BlockedOn::Handler => Self::Handler,
            BlockedOn::Turn => Self::Server,
            BlockedOn::Bandwidth => Self::Bandwidth,
        }
    }
}

impl Limit {
    /// As it stands in JSON.
    pub fn word(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Disk => "disk",
            Self::Handler => "handler",
            Self::Server => "server",
            Self::Bandwidth => "bandwidth",
        }
    }
}

impl Sampler {
    /// Observes the server of that handle.
    pub fn new(handle: &ServerHandle) -> Arc<Self> {
        Arc::new(Self {
            handle: handle.clone(),
            observer: handle.observe(),
            latest: Mutex::default(),
            taken: Condvar::new(),
            before: Mutex::default(),
        })
    }

    /// The latest sample, or a new one if that is older than a second. It may wait for half a
    /// second, for event loops that do not answer.
    pub fn latest(&self) -> Arc<Sample> {
        self.next(|_| true)
    }

    /// The first sample after that of this number, for which it waits a second or a little more.
    pub fn after(&self, number: u64) -> Arc<Sample> {
        self.next(|sample| sample.number > number)
    }

    fn next(&self, suits: impl Fn(&Sample) -> bool) -> Arc<Sample> {
        let mut latest = self.lock();
        loop {
            let wait = match &*latest {
                Some((sample, at)) if at.elapsed() < PERIOD => {
                    if suits(sample) {
                        return Arc::clone(sample);
                    }
                    PERIOD.saturating_sub(at.elapsed())
                }
                _ => {
                    drop(latest);
                    let taken = self.renew();
                    latest = self.lock();
                    if taken {
                        continue;
                    }
                    // Who takes one tells; if that should fail, somebody else tries soon.
                    PATIENCE / 10
                }
            };
            let waited = self.taken.wait_timeout(latest, wait);
            latest = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Takes a sample, unless somebody else does: then it is false.
    fn renew(&self) -> bool {
        let mut before = match self.before.try_lock() {
            Ok(before) => before,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return false,
        };
        let is_fresh = |(_, at): &(_, Instant)| at.elapsed() < PERIOD;
        if !self.lock().as_ref().is_some_and(is_fresh) {
            let sample = Arc::new(self.take(&mut before));
            *self.lock() = Some((sample, Instant::now()));
            self.taken.notify_all();
        }
        true
    }

    fn lock(&self) -> MutexGuard<'_, Option<(Arc<Sample>, Instant)>> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, before: &mut Before) -> Sample {
        let phase = self.handle.phase();
        let report = self.observer.report(PATIENCE);
        let now = Instant::now();
        let totals = self.observer.totals();
        let span = |(_, then): &(_, Instant)| now.saturating_duration_since(*then);
        let known = before.totals.take().filter(|known| span(known) <= MAX_SPAN);
        let span = known.as_ref().map(span);
        let lags = self.observer.take_longest_turns();
        let workers = lags.iter().enumerate().map(|(at, lag)| WorkerSample {
            lag: lag.as_secs_f64(),
            // One that has finished needs not.
            answers: phase >= ServerState::Draining || !report.silent.contains(&at),
        });
        let mut courses = HashMap::with_capacity(report.transfers.len());
        let mut transfers = Vec::with_capacity(report.transfers.len());
        for transfer in report.transfers {
            let course = before.transfers.remove(&transfer.id);
            let course = Course::go_on(course, &transfer, span);
            let sample = course.sample(&transfer);
            courses.insert(transfer.id, course);
            transfers.push(sample);
        }
        before.number += 1;
        before.transfers = courses;
        let sample = Sample {
            number: before.number,
            time: SystemTime::now()
                .duration_since(SystemTime::UNIX_EPOCH)
                .map_or(0.0, |time| time.as_secs_f64()),
            phase,
            rates: known.map(|(then, at)| rates(&then, &totals, now - at)),
            workers: workers.collect(),
            connections: report.connections,
            jobs: totals.jobs,
            disks: totals.disks,
            transfers,
            transfers_left_out: report.transfers_left_out,
        };
        before.totals = Some((totals, now));
        sample
    }
}

fn rates(then: &ServerTotals, now: &ServerTotals, span: Duration) -> Rates {
    let sum = |totals: &ServerTotals, least: u16| -> u64 {
        let counts = totals.responses.iter();
        let counts = counts.filter(|(status, _)| status.as_u16() >= least);
        counts.map(|(_, count)| count).sum()
    };
    let span = span.as_secs_f64().max(1e-3);
    let rate = |least| sum(now, least).saturating_sub(sum(then, least)) as f64 / span;
    let durations = now.durations.since(&then.durations);
    let quantile = |share| durations.quantile(share).map(|time| time.as_secs_f64());
    Rates {
        requests: rate(0),
        errors: rate(500),
        median: quantile(0.5),
        p99: quantile(0.99),
    }
}

impl Course {
    fn go_on(before: Option<Self>, transfer: &Transfer, span: Option<Duration>) -> Self {
        let (rate, mut waits) = match (before, span) {
            (Some(before), Some(span)) if !span.is_zero() => {
                let moved = transfer.moved.saturating_sub(before.moved);
                let rate = moved as f64 / span.as_secs_f64();
                (before.rate + NEWS * (rate - before.rate), before.waits)
            }
            _ => {
                let age = transfer.age.as_secs_f64().max(1e-3);
                (transfer.moved as f64 / age, VecDeque::new())
            }
        };
        if waits.len() == VOTES {
            waits.pop_front();
        }
        waits.push_back(transfer.waits_for);
        Self {
            moved: transfer.moved,
            rate,
            waits,
        }
    }

    /// What it has waited for most often; of equals, the last.
    fn waits_for(&self) -> BlockedOn {
        let votes = |candidate| self.waits.iter().filter(|wait| **wait == candidate).count();
        let most = self.waits.iter().max_by_key(|candidate| votes(**candidate));
        most.copied().unwrap_or(BlockedOn::Turn)
    }

    fn sample(&self, transfer: &Transfer) -> TransferSample {
        let missing = transfer
            .total
            .map(|total| total.saturating_sub(transfer.moved));
        let left = missing.map(|missing| missing as f64 / self.rate);
        TransferSample {
            id: transfer.id.to_string(),
            upload: transfer.direction == Direction::Up,
            client: transfer.client.to_string(),
            method: transfer.method.clone(),
            target: transfer.target.clone(),
            moved: transfer.moved,
            total: transfer.total,
            age: transfer.age.as_secs_f64(),
            rate: self.rate,
            left: left.filter(|left| left.is_finite()),
            limit: self.waits_for().into(),
        }
    }
}

fn phase_word<S: Serializer>(phase: &ServerState, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(match phase {
        ServerState::Bound => "bound",
        ServerState::Serving => "serving",
        ServerState::ShutdownAnnounced => "leaving",
        ServerState::Draining => "draining",
        ServerState::Ended => "ended",
    })
}

fn activities<S: Serializer>(activities: &Activities, to: S) -> Result<S::Ok, S::Error> {
    to.collect_map(activities.named())
}

fn queue<S: Serializer>(queue: &QueueStats, to: S) -> Result<S::Ok, S::Error> {
    to.collect_map([("waiting", queue.waiting), ("running", queue.running)])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn course(waits: &[BlockedOn]) -> Course {
        Course {
            moved: 0,
            rate: 0.0,
            waits: waits.iter().copied().collect(),
        }
    }

    #[test]
    fn what_limits_is_decided_by_most() {
        use BlockedOn::{Client, Disk, Turn};
        let table: [(&[BlockedOn], BlockedOn); 5] = [
            (&[], Turn),
            (&[Client], Client),
            (&[Client, Turn, Client], Client),
            (&[Client, Disk], Disk),
            (&[Disk, Client, Turn, Disk, Client], Client),
        ];
        for (waits, expected) in table {
            assert_eq!(course(waits).waits_for(), expected, "{waits:?}");
        }
    }
}
