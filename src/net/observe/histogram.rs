//! What an event loop measures, for other threads to read while it goes on.
//!
//! Only the loop itself writes: a load and a store, and no other core has to let go of anything. A
//! reader sees each number by itself, and never one that goes back.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ::http::StatusCode;

use crate::proto::record::Record;

/// Where the buckets of all histograms end, in microseconds; one more has no end. Small files come
/// in tens of microseconds, large ones in minutes.
const BOUNDS: [u64; 15] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 1_000_000,
    2_500_000, 10_000_000, 60_000_000,
];

/// The statuses that `StatusCode` can have.
const FIRST_STATUS: u16 = 100;
const STATUSES: usize = 900;

/// How often something took how long.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Histogram {
    /// The buckets, shortest first: up to which time, and how often it took so long, but longer
    /// than the bucket before. The last has no end.
    pub buckets: Vec<(Option<Duration>, u64)>,
    /// All times together.
    pub sum: Duration,
}

impl Histogram {
    /// One in which nothing has been counted.
    pub(crate) fn new() -> Self {
        Durations::default().read()
    }

    /// How often in all.
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|(_, count)| count).sum()
    }

    /// Adds what another has counted.
    pub(crate) fn add(&mut self, other: &Self) {
        for ((_, count), (_, more)) in self.buckets.iter_mut().zip(&other.buckets) {
            *count += more;
        }
        self.sum += other.sum;
    }

    /// What was counted since `earlier`.
    pub fn since(&self, earlier: &Self) -> Self {
        let both = self.buckets.iter().zip(&earlier.buckets);
        let buckets = both.map(|((end, now), (_, then))| (*end, now.saturating_sub(*then)));
        Self {
            buckets: buckets.collect(),
            sum: self.sum.saturating_sub(earlier.sum),
        }
    }

    /// The time within which a share of all came, from 0 to 1: as near as the buckets tell, evenly
    /// spread within one. `None` if nothing was counted.
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        let wanted = share.clamp(0.0, 1.0) * self.count() as f64;
        let mut below = 0;
        let mut begin = Duration::ZERO;
        for (end, count) in &self.buckets {
            let with = below + count;
            if *count > 0 && with as f64 >= wanted {
                let part = (wanted - below as f64) / *count as f64;
                // Of what has no end only the beginning is known.
                let width = end.map_or(Duration::ZERO, |end| end.saturating_sub(begin));
                return Some(begin + width.mul_f64(part.clamp(0.0, 1.0)));
            }
            below = with;
            begin = end.unwrap_or(begin);
        }
        None
    }
}

/// A histogram that is being written.
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

/// What one event loop measures.
#[derive(Debug)]
pub(crate) struct LoopMetrics {
    statuses: [AtomicU64; STATUSES],
    content_bytes: AtomicU64,
    durations: Durations,
    turns: Durations,
    /// In microseconds, since somebody looked.
    longest_turn: AtomicU64,
}

impl Default for LoopMetrics {
    fn default() -> Self {
        Self {
            statuses: std::array::from_fn(|_| AtomicU64::new(0)),
            content_bytes: AtomicU64::new(0),
            durations: Durations::default(),
            turns: Durations::default(),
            longest_turn: AtomicU64::new(0),
        }
    }
}

impl LoopMetrics {
    pub(crate) fn count(&self, record: &Record) {
        let status = record.status.as_u16().saturating_sub(FIRST_STATUS);
        if let Some(count) = self.statuses.get(usize::from(status)) {
            add(count, 1);
        }
        add(&self.content_bytes, record.content_bytes);
        self.durations.add(record.duration);
    }

    /// A turn of the loop: so long the last of its events may have waited.
    pub(crate) fn count_turn(&self, duration: Duration) {
        self.turns.add(duration);
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        if micros > self.longest_turn.load(Ordering::Relaxed) {
            self.longest_turn.store(micros, Ordering::Relaxed);
        }
    }

    /// Those that were counted at all.
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

    pub(crate) fn turns(&self) -> Histogram {
        self.turns.read()
    }

    /// The longest turn since this was called last.
    pub(crate) fn take_longest_turn(&self) -> Duration {
        Duration::from_micros(self.longest_turn.swap(0, Ordering::Relaxed))
    }
}

/// Nobody else writes, so nothing comes between reading and writing.
fn add(counter: &AtomicU64, more: u64) {
    let sum = counter.load(Ordering::Relaxed).wrapping_add(more);
    counter.store(sum, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_duration_is_in_the_bucket_that_ends_with_it() {
        let meter = LoopMetrics::default();
        for duration in [
            Duration::ZERO,
            MS,
            MS + Duration::from_micros(1),
            61_000 * MS,
        ] {
            meter.count_turn(duration);
        }
        let turns = meter.turns();
        let filled: Vec<_> = turns
            .buckets
            .iter()
            .filter(|(_, count)| *count > 0)
            .collect();
        let of = |micros| Some(Duration::from_micros(micros));
        assert_eq!(
            filled,
            [&(of(100), 1), &(of(1_000), 1), &(of(2_500), 1), &(None, 1)]
        );
        assert_eq!(turns.count(), 4);
        assert_eq!(turns.sum, 61_002 * MS + Duration::from_micros(1));
        assert_eq!(meter.take_longest_turn(), 61_000 * MS);
        assert_eq!(meter.take_longest_turn(), Duration::ZERO);
    }

    #[test]
    fn quantiles_lie_within_their_bucket() {
        let meter = LoopMetrics::default();
        assert_eq!(meter.turns().quantile(0.5), None);
        (0..98).for_each(|_| meter.count_turn(MS / 20));
        let before = meter.turns();
        meter.count_turn(40 * MS);
        meter.count_turn(100_000 * MS);
        let turns = meter.turns();
        assert!(turns.quantile(0.5) <= Some(MS / 10));
        let p99 = turns.quantile(0.99).expect("a time");
        assert!((25 * MS..=50 * MS).contains(&p99), "{p99:?}");
        assert_eq!(turns.quantile(1.0), Some(60_000 * MS));
        let new = turns.since(&before);
        assert_eq!((new.count(), new.sum), (2, 100_040 * MS));
    }
}
