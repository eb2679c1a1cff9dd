//! Histograms and counters of an event loop, which other threads read while it runs.
//!
//! Only the loop itself writes them, with a load and a store instead of an atomic addition, which
//! would need the cache line exclusively. A reader sees each number by itself, and never one that
//! decreases.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ::http::StatusCode;

use crate::proto::record::Record;

/// Upper bounds of the buckets, in microseconds; one more bucket is unbounded. Small files take tens
/// of microseconds, large ones minutes.
const BOUNDS: [u64; 15] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 1_000_000,
    2_500_000, 10_000_000, 60_000_000,
];

/// The range of statuses that `StatusCode` can represent.
const FIRST_STATUS: u16 = 100;
const STATUSES: usize = 900;

/// A histogram of durations.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Histogram {
    /// The inclusive upper bound of each bucket and its count, shortest first. The last bucket is
    /// unbounded. Counts are not cumulative.
    pub buckets: Vec<(Option<Duration>, u64)>,
    /// Sum of all durations.
    pub sum: Duration,
}

impl Histogram {
    /// An empty histogram.
    pub(crate) fn new() -> Self {
        Durations::default().read()
    }

    /// Returns the number of durations.
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|(_, count)| count).sum()
    }

    /// Adds the counts of another histogram.
    pub(crate) fn add(&mut self, other: &Self) {
        for ((_, count), (_, more)) in self.buckets.iter_mut().zip(&other.buckets) {
            *count += more;
        }
        self.sum += other.sum;
    }

    /// Returns the difference between this histogram and an earlier state of it.
    pub fn since(&self, earlier: &Self) -> Self {
        let both = self.buckets.iter().zip(&earlier.buckets);
        let buckets = both.map(|((end, now), (_, then))| (*end, now.saturating_sub(*then)));
        Self {
            buckets: buckets.collect(),
            sum: self.sum.saturating_sub(earlier.sum),
        }
    }

    /// Returns the quantile of `share` (0 to 1), interpolated linearly within its bucket; `None` if
    /// the histogram is empty.
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        let wanted = share.clamp(0.0, 1.0) * self.count() as f64;
        let mut below = 0;
        let mut begin = Duration::ZERO;
        for (end, count) in &self.buckets {
            let with = below + count;
            if *count > 0 && with as f64 >= wanted {
                let part = (wanted - below as f64) / *count as f64;
                // Of the unbounded bucket only the lower bound is known.
                let width = end.map_or(Duration::ZERO, |end| end.saturating_sub(begin));
                return Some(begin + width.mul_f64(part.clamp(0.0, 1.0)));
            }
            below = with;
            begin = end.unwrap_or(begin);
        }
        None
    }
}

/// A histogram that an event loop writes.
#[derive(Debug, Default)]
struct Durations {
    counts: [AtomicU64; BOUNDS.len() + 1],
    micros: AtomicU64,
}

impl Durations {
    fn add(&self, duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let bucket = BOUNDS.iter().position(|bound| micros <= *bound);
        add(&self.counts[bucket.unwrap_or(BOUNDS.len())], 1);
        add(&self.micros, micros);
    }

    fn read(&self) -> Histogram {
        let ends = BOUNDS.iter().map(|bound| Some(*bound)).chain([None]);
        let buckets = ends.zip(&self.counts).map(|(end, count)| {
            let end = end.map(Duration::from_micros);
            (end, count.load(Ordering::Relaxed))
        });
        Histogram {
            buckets: buckets.collect(),
            sum: Duration::from_micros(self.micros.load(Ordering::Relaxed)),
        }
    }
}

/// The metrics of one event loop.
#[derive(Debug)]
pub(crate) struct LoopMetrics {
    statuses: [AtomicU64; STATUSES],
    content_bytes: AtomicU64,
    durations: Durations,
    iterations: Durations,
    /// In microseconds, since it was last taken.
    longest_iteration: AtomicU64,
}

impl Default for LoopMetrics {
    fn default() -> Self {
        Self {
            statuses: std::array::from_fn(|_| AtomicU64::new(0)),
            content_bytes: AtomicU64::new(0),
            durations: Durations::default(),
            iterations: Durations::default(),
            longest_iteration: AtomicU64::new(0),
        }
    }
}

impl LoopMetrics {
    /// Counts a finished exchange.
    pub(crate) fn count(&self, record: &Record) {
        let status = record.status.as_u16().saturating_sub(FIRST_STATUS);
        if let Some(count) = self.statuses.get(usize::from(status)) {
            add(count, 1);
        }
        add(&self.content_bytes, record.content_bytes);
        // That of an upgraded connection is no time in which a request was answered.
        if record.status != StatusCode::SWITCHING_PROTOCOLS {
            self.durations.add(record.duration);
        }
    }

    /// Counts an iteration of the loop. The last event of the iteration may have waited that long.
    pub(crate) fn count_iteration(&self, duration: Duration) {
        self.iterations.add(duration);
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        if micros > self.longest_iteration.load(Ordering::Relaxed) {
            self.longest_iteration.store(micros, Ordering::Relaxed);
        }
    }

    /// Returns each status that was counted, with its count.
    pub(crate) fn statuses(&self) -> impl Iterator<Item = (StatusCode, u64)> {
        let codes = (FIRST_STATUS..).zip(&self.statuses);
        codes.filter_map(|(code, count)| {
            let count = count.load(Ordering::Relaxed);
            let status = StatusCode::from_u16(code).ok()?;
            (count > 0).then_some((status, count))
        })
    }

    pub(crate) fn content_bytes(&self) -> u64 {
        self.content_bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn durations(&self) -> Histogram {
        self.durations.read()
    }

    pub(crate) fn iterations(&self) -> Histogram {
        self.iterations.read()
    }

    /// Returns the longest iteration since this was last called.
    pub(crate) fn take_longest_iteration(&self) -> Duration {
        Duration::from_micros(self.longest_iteration.swap(0, Ordering::Relaxed))
    }
}

/// Only one thread writes, so a load and a store are enough.
fn add(counter: &AtomicU64, more: u64) {
    let sum = counter.load(Ordering::Relaxed).wrapping_add(more);
    counter.store(sum, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn duration_falls_into_first_bucket_that_includes_it() {
        let metrics = LoopMetrics::default();
        for duration in [
            Duration::ZERO,
            MS,
            MS + Duration::from_micros(1),
            61_000 * MS,
        ] {
            metrics.count_iteration(duration);
        }
        let iterations = metrics.iterations();
        let filled: Vec<_> = iterations
            .buckets
            .iter()
            .filter(|(_, count)| *count > 0)
            .collect();
        let of = |micros| Some(Duration::from_micros(micros));
        assert_eq!(
            filled,
            [&(of(100), 1), &(of(1_000), 1), &(of(2_500), 1), &(None, 1)]
        );
        assert_eq!(iterations.count(), 4);
        assert_eq!(iterations.sum, 61_002 * MS + Duration::from_micros(1));
        assert_eq!(metrics.take_longest_iteration(), 61_000 * MS);
        assert_eq!(metrics.take_longest_iteration(), Duration::ZERO);
    }

    #[test]
    fn quantiles_are_within_their_bucket() {
        let metrics = LoopMetrics::default();
        assert_eq!(metrics.iterations().quantile(0.5), None);
        (0..98).for_each(|_| metrics.count_iteration(MS / 20));
        let before = metrics.iterations();
        metrics.count_iteration(40 * MS);
        metrics.count_iteration(100_000 * MS);
        let iterations = metrics.iterations();
        assert!(iterations.quantile(0.5) <= Some(MS / 10));
        let p99 = iterations.quantile(0.99).expect("a time");
        assert!((25 * MS..=50 * MS).contains(&p99), "{p99:?}");
        assert_eq!(iterations.quantile(1.0), Some(60_000 * MS));
        let new = iterations.since(&before);
        assert_eq!((new.count(), new.sum), (2, 100_040 * MS));
    }
}
