//! Observes a running server: its counters, and what each connection is doing.
//!
//! Counters are read from memory. What connections are doing is not recorded while they do it: each
//! event loop is asked, walks over its connections, and answers.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

use super::histogram::Histogram;
use super::question::{SnapshotKind, SnapshotRequest};
use super::report::{Http2Totals, ServerReport, ServerTotals};
use crate::net::blocking::BlockingPoolStats;
use crate::net::worker::message::{WorkerHandle, WorkerMessage};
use crate::proto::h2::error_code::ErrorCode;
use crate::proto::h2::flood::Flood;
use crate::proto::http2_stats::Http2Stats;

/// Observes a server. While an observer exists, the server measures its requests, as it does for
/// an access log; a server with neither measures nothing.
pub struct Observer {
    workers: Vec<WorkerHandle>,
    handshakes: HandshakeCount,
    pools: BlockingPoolStats,
}

/// Returns the number of connections in a handshake.
pub(crate) type HandshakeCount = Box<dyn Fn() -> usize + Send + Sync>;

impl Observer {
    pub(crate) fn new(
        workers: Vec<WorkerHandle>,
        handshakes: HandshakeCount,
        pools: BlockingPoolStats,
    ) -> Self {
        for worker in &workers {
            worker.stats.observers.fetch_add(1, Ordering::Relaxed);
        }
        Self {
            workers,
            handshakes,
            pools,
        }
    }

    /// Returns what has been measured so far. No event loop is asked, and nothing is waited for.
    pub fn totals(&self) -> ServerTotals {
        let mut responses = BTreeMap::new();
        let mut content_bytes = 0;
        let mut durations = Histogram::new();
        for metrics in self.workers.iter().map(|worker| &worker.stats.metrics) {
            for (status, count) in metrics.statuses() {
                *responses.entry(status).or_default() += count;
            }
            content_bytes += metrics.content_bytes();
            durations.add(&metrics.durations());
        }
        let iterations = self.workers.iter();
        let iterations = iterations.map(|worker| worker.stats.metrics.iterations());
        ServerTotals {
            responses: responses.into_iter().collect(),
            content_bytes,
            durations,
            iterations: iterations.collect(),
            jobs: self.pools.jobs.queue(),
            streams: self.pools.streams.queue(),
            disks: self.pools.disks.queue(),
            cold_reads: self.pools.disks.reads(),
            http2: self.http2_totals(),
        }
    }

    fn http2_totals(&self) -> Http2Totals {
        let sum = |number: fn(&Http2Stats, usize) -> u64, at: usize| {
            let workers = self.workers.iter();
            workers.map(|worker| number(&worker.stats.http2, at)).sum()
        };
        let by_code = |number: fn(&Http2Stats, usize) -> u64| -> Vec<(&'static str, u64)> {
            let codes = ErrorCode::ALL.iter().enumerate();
            codes
                .map(|(at, code)| (code.name(), sum(number, at)))
                .chain([("other", sum(number, ErrorCode::ALL.len()))])
                .collect()
        };
        let floods = Flood::ALL.iter().enumerate();
        Http2Totals {
            resets_received: by_code(|stats, at| stats.resets_received.get(at)),
            resets_sent: by_code(|stats, at| stats.resets_sent.get(at)),
            floods: floods
                .map(|(at, flood)| (flood.name(), sum(|stats, at| stats.floods.get(at), at)))
                .collect(),
        }
    }

    /// Returns the longest iteration of each event loop since this was last called on any observer
    /// of the server.
    pub fn take_longest_iterations(&self) -> Vec<Duration> {
        let take = |worker: &WorkerHandle| worker.stats.metrics.take_longest_iteration();
        self.workers.iter().map(take).collect()
    }

    /// Asks all event loops what they are doing, and waits for their answers, at most for `timeout`
    /// in total. It costs each of them a fraction of a microsecond per connection.
    pub fn report(&self, timeout: Duration) -> ServerReport {
        let mut report = ask(&self.workers, SnapshotKind::Connections, timeout);
        report.connections.handshake = (self.handshakes)();
        report
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        for worker in &self.workers {
            worker.stats.observers.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Observer")
            .field("workers", &self.workers.len())
            .field("pools", &self.pools)
            .finish_non_exhaustive()
    }
}

/// Asks all workers for a snapshot, and waits for the answers, at most for `timeout` in total.
pub(crate) fn ask(workers: &[WorkerHandle], kind: SnapshotKind, timeout: Duration) -> ServerReport {
    let (reply_to, snapshots) = sync_channel(workers.len());
    let mut silent: Vec<usize> = (0..workers.len()).collect();
    for (index, worker) in workers.iter().enumerate() {
        if let Some(request) = SnapshotRequest::new(index, &worker.stats, kind, &reply_to) {
            worker.mailbox.send(WorkerMessage::Snapshot(request));
        }
    }
    drop(reply_to);
    let start = Instant::now();
    let mut report = ServerReport::default();
    while !silent.is_empty() {
        let left = timeout.saturating_sub(start.elapsed());
        // An error is a timeout, or no event loop is left that could answer.
        let Ok(snapshot) = snapshots.recv_timeout(left) else {
            break;
        };
        silent.retain(|worker| *worker != snapshot.worker);
        report.connections.add(snapshot.connections);
        report.transfers.extend(snapshot.transfers);
        report.transfers_left_out += snapshot.transfers_left_out;
        report.http2.connections += snapshot.http2.connections;
        report.http2.streams += snapshot.http2.streams;
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
    use crate::config::Config;
    use crate::net::blocking::Pools;
    use crate::net::event_loop::handle::LoopParts;
    use crate::net::observe::question::MAX_PENDING_REQUESTS;

    #[test]
    fn requests_to_an_unresponsive_event_loop_are_bounded() {
        let parts = LoopParts::<WorkerMessage>::new().expect("a poll");
        let pools = Pools::new(&Config::default()).stats();
        let handle = parts.handle();
        let observer = Observer::new(vec![handle.clone()], Box::new(|| 0), pools);
        let ask = || observer.report(Duration::ZERO).silent;
        let received = || {
            let mut messages = Vec::new();
            handle.mailbox.take(&mut messages);
            messages.len()
        };
        (0..100).for_each(|_| assert_eq!(ask(), [0]));
        assert_eq!(received(), MAX_PENDING_REQUESTS);
        // Dropping the requests gives their permits back.
        assert_eq!((ask(), received()), (vec![0], 1));
    }
}
