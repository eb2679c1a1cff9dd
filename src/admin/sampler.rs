//! Samples of a server's activity: at most one per second, shared by all readers, and none without
//! readers.
//!
//! No thread is dedicated to sampling: of the threads that wait for the next sample, the first takes it
//! for all.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use serde::{Serialize, Serializer};

use crate::net::observe::observer::Observer;
use crate::net::observe::report::{
    Activities, BlockedOn, Direction, QueueStats, ServerTotals, Transfer, TransferId,
};
use crate::server::{ServerHandle, ServerState};
use crate::sync::{Condvar, Mutex};

/// The time between two samples.
const PERIOD: Duration = Duration::from_secs(1);

/// The time that a sample waits for an event loop.
const LOOP_TIMEOUT: Duration = Duration::from_millis(500);

/// Rates are computed from samples at most this far apart.
const MAX_SPAN: Duration = Duration::from_secs(5);

/// The number of samples that decide what limits a transfer.
const LIMIT_WINDOW: usize = 5;

/// The weight of a new sample in the exponentially weighted moving average of a transfer's rate.
const EWMA_WEIGHT: f64 = 0.4;

/// Takes samples of one server. Readers share one `Sampler`, so that each sample is taken once.
pub struct Sampler {
    handle: ServerHandle,
    observer: Observer,
    latest: Mutex<Option<(Arc<Sample>, Instant)>>,
    /// Notified when a sample is taken.
    sample_taken: Condvar,
    /// Locked by the thread that takes a sample.
    previous: Mutex<PreviousSample>,
}

impl fmt::Debug for Sampler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sampler")
    }
}

/// The data of the previous sample that the next one is compared with.
#[derive(Default)]
struct PreviousSample {
    number: u64,
    totals: Option<(ServerTotals, Instant)>,
    transfers: HashMap<TransferId, TransferHistory>,
}

/// The recent history of a transfer.
struct TransferHistory {
    moved: u64,
    rate: f64,
    waits: VecDeque<BlockedOn>,
}

/// The state of a server, and its activity since the previous sample. As JSON, times are in seconds and
/// rates per second.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Sample {
    /// The number of the sample, one more than that of the previous one.
    pub number: u64,
    /// The time at which it was taken, in seconds since 1970.
    pub time: f64,
    /// The state of the server.
    #[serde(serialize_with = "serialize_state")]
    pub phase: ServerState,
    /// `None` if the previous sample is too old.
    pub rates: Option<Rates>,
    /// The event loops.
    pub workers: Vec<WorkerSample>,
    /// The number of connections by activity.
    #[serde(serialize_with = "activities")]
    pub connections: Activities,
    /// Jobs, waiting for a thread or running.
    #[serde(serialize_with = "queue")]
    pub jobs: QueueStats,
    /// Disk reads, waiting for a thread or running.
    #[serde(serialize_with = "queue")]
    pub disks: QueueStats,
    /// Running transfers, oldest first.
    pub transfers: Vec<TransferSample>,
    /// The number of running transfers that are not listed.
    pub transfers_left_out: usize,
}

/// Rates per second and latencies since the previous sample.
#[derive(Clone, Copy, Debug, Serialize)]
#[non_exhaustive]
pub struct Rates {
    /// Completed responses per second.
    pub requests: f64,
    /// Responses with a status of 500 or above per second.
    pub errors: f64,
    /// The median duration in seconds; `None` without responses.
    pub median: Option<f64>,
    /// The 99th percentile of the duration in seconds; `None` without responses.
    pub p99: Option<f64>,
}

/// The state of one event loop.
#[derive(Clone, Copy, Debug, Serialize)]
#[non_exhaustive]
pub struct WorkerSample {
    /// The longest time that an event may have waited, in seconds.
    pub lag: f64,
    /// Whether it responded in time.
    pub answers: bool,
}

/// The state of one transfer.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct TransferSample {
    /// A unique identifier.
    pub id: String,
    /// Whether it is an upload, from the client to the server.
    pub upload: bool,
    /// The client's address and port.
    pub client: String,
    /// The method of the request.
    pub method: String,
    /// The request-target as the client sent it.
    pub target: String,
    /// Transferred bytes.
    pub moved: u64,
    /// Total bytes, if known.
    pub total: Option<u64>,
    /// Seconds since the start of its request.
    pub age: f64,
    /// Bytes per second: a moving average, or the average so far if the transfer is new.
    pub rate: f64,
    /// Estimated seconds until it is complete at this rate; `None` if unknown.
    pub left: Option<f64>,
    /// What limits its rate most of the time.
    pub limit: Limit,
}

/// What limits the rate of a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Limit {
    /// The client or the network.
    Client,
    /// A disk.
    Disk,
    /// The handler.
    Handler,
    /// The server itself, which serves other transfers.
    Server,
    /// The bandwidth limit of its client or connection.
    Bandwidth,
}

impl From<BlockedOn> for Limit {
    fn from(waits: BlockedOn) -> Self {
        match waits {
            BlockedOn::Client => Self::Client,
            BlockedOn::Disk => Self::Disk,
            BlockedOn::Handler => Self::Handler,
            BlockedOn::RunQueue => Self::Server,
            BlockedOn::Bandwidth => Self::Bandwidth,
        }
    }
}

impl Limit {
    /// Returns the name that is used in JSON.
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
    /// Creates a sampler of the server of `handle`.
    pub fn new(handle: &ServerHandle) -> Arc<Self> {
        Arc::new(Self {
            handle: handle.clone(),
            observer: handle.observe(),
            latest: Mutex::default(),
            sample_taken: Condvar::default(),
            previous: Mutex::default(),
        })
    }

    /// Returns the latest sample, or takes a new one if that is older than a second. It may block for
    /// half a second, if event loops do not respond.
    pub fn latest(&self) -> Arc<Sample> {
        self.wait_for_sample(|_| true)
    }

    /// Returns the first sample after the given number. It blocks for about a second.
    pub fn after(&self, number: u64) -> Arc<Sample> {
        self.wait_for_sample(|sample| sample.number > number)
    }

    fn wait_for_sample(&self, is_wanted: impl Fn(&Sample) -> bool) -> Arc<Sample> {
        let mut latest = self.latest.lock();
        loop {
            let wait = match &*latest {
                Some((sample, at)) if at.elapsed() < PERIOD => {
                    if is_wanted(sample) {
                        return Arc::clone(sample);
                    }
                    PERIOD.saturating_sub(at.elapsed())
                }
                _ => {
                    drop(latest);
                    let refreshed = self.refresh();
                    latest = self.latest.lock();
                    if refreshed {
                        continue;
                    }
                    // The thread that takes a sample notifies this one. If it panics, another try
                    // follows soon.
                    LOOP_TIMEOUT / 10
                }
            };
            latest = self.sample_taken.wait_timeout(latest, wait);
        }
    }

    /// Takes a sample if the latest is older than [`PERIOD`]. Returns false if another thread is
    /// taking one.
    fn refresh(&self) -> bool {
        let Some(mut previous) = self.previous.try_lock() else {
            return false;
        };
        let is_fresh = |(_, at): &(_, Instant)| at.elapsed() < PERIOD;
        if !self.latest.lock().as_ref().is_some_and(is_fresh) {
            let sample = Arc::new(self.take(&mut previous));
            *self.latest.lock() = Some((sample, Instant::now()));
            self.sample_taken.notify_all();
        }
        true
    }

    fn take(&self, previous: &mut PreviousSample) -> Sample {
        let phase = self.handle.state();
        let report = self.observer.report(LOOP_TIMEOUT);
        let now = Instant::now();
        let totals = self.observer.totals();
        let span = |(_, then): &(_, Instant)| now.saturating_duration_since(*then);
        let baseline = previous
            .totals
            .take()
            .filter(|baseline| span(baseline) <= MAX_SPAN);
        let span = baseline.as_ref().map(span);
        let lags = self.observer.take_longest_iterations();
        let workers = lags.iter().enumerate().map(|(at, lag)| WorkerSample {
            lag: lag.as_secs_f64(),
            // An event loop that has finished need not respond.
            answers: phase >= ServerState::Draining || !report.silent.contains(&at),
        });
        let mut histories = HashMap::with_capacity(report.transfers.len());
        let mut transfers = Vec::with_capacity(report.transfers.len());
        for transfer in report.transfers {
            let history = previous.transfers.remove(&transfer.id);
            let history = TransferHistory::updated(history, &transfer, span);
            let sample = history.sample(&transfer);
            histories.insert(transfer.id, history);
            transfers.push(sample);
        }
        previous.number += 1;
        previous.transfers = histories;
        let sample = Sample {
            number: previous.number,
            time: SystemTime::now()
                .duration_since(SystemTime::UNIX_EPOCH)
                .map_or(0.0, |time| time.as_secs_f64()),
            phase,
            rates: baseline.map(|(then, at)| rates(&then, &totals, now - at)),
            workers: workers.collect(),
            connections: report.connections,
            jobs: totals.jobs,
            disks: totals.disks,
            transfers,
            transfers_left_out: report.transfers_left_out,
        };
        previous.totals = Some((totals, now));
        sample
    }
}

fn rates(then: &ServerTotals, now: &ServerTotals, span: Duration) -> Rates {
    let sum = |totals: &ServerTotals, min_status: u16| -> u64 {
        let counts = totals.responses.iter();
        let counts = counts.filter(|(status, _)| status.as_u16() >= min_status);
        counts.map(|(_, count)| count).sum()
    };
    let span = span.as_secs_f64().max(1e-3);
    let rate = |min_status| {
        let count = sum(now, min_status).saturating_sub(sum(then, min_status));
        count as f64 / span
    };
    let durations = now.durations.since(&then.durations);
    let quantile = |share| durations.quantile(share).map(|time| time.as_secs_f64());
    Rates {
        requests: rate(0),
        errors: rate(500),
        median: quantile(0.5),
        p99: quantile(0.99),
    }
}

impl TransferHistory {
    /// Adds the state of a transfer to its history, `span` after the previous sample.
    fn updated(previous: Option<Self>, transfer: &Transfer, span: Option<Duration>) -> Self {
        let (rate, mut waits) = match (previous, span) {
            (Some(previous), Some(span)) if !span.is_zero() => {
                let moved = transfer.moved.saturating_sub(previous.moved);
                let rate = moved as f64 / span.as_secs_f64();
                (
                    previous.rate + EWMA_WEIGHT * (rate - previous.rate),
                    previous.waits,
                )
            }
            _ => {
                let age = transfer.age.as_secs_f64().max(1e-3);
                (transfer.moved as f64 / age, VecDeque::new())
            }
        };
        if waits.len() == LIMIT_WINDOW {
            waits.pop_front();
        }
        waits.push_back(transfer.blocked_on);
        Self {
            moved: transfer.moved,
            rate,
            waits,
        }
    }

    /// Returns what the transfer has waited for most often; of equals, the last.
    fn blocked_on(&self) -> BlockedOn {
        let votes = |candidate| self.waits.iter().filter(|wait| **wait == candidate).count();
        let most = self.waits.iter().max_by_key(|candidate| votes(**candidate));
        most.copied().unwrap_or(BlockedOn::RunQueue)
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
            limit: self.blocked_on().into(),
        }
    }
}

fn serialize_state<S: Serializer>(phase: &ServerState, to: S) -> Result<S::Ok, S::Error> {
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

    fn history(waits: &[BlockedOn]) -> TransferHistory {
        TransferHistory {
            moved: 0,
            rate: 0.0,
            waits: waits.iter().copied().collect(),
        }
    }

    #[test]
    fn limit_is_the_most_frequent_wait() {
        use BlockedOn::{Client, Disk, RunQueue};
        let table: [(&[BlockedOn], BlockedOn); 5] = [
            (&[], RunQueue),
            (&[Client], Client),
            (&[Client, RunQueue, Client], Client),
            (&[Client, Disk], Disk),
            (&[Disk, Client, RunQueue, Disk, Client], Client),
        ];
        for (waits, expected) in table {
            assert_eq!(history(waits).blocked_on(), expected, "{waits:?}");
        }
    }
}
