//! How fast bytes may move: the pace of a connection, and that which all of a client's share.
//!
//! A pace is a point in time: the one by which all that was reserved will have moved, at its rate.
//! Who wants to move something reserves a chunk and is told when its turn is, which is when all that
//! was reserved before has moved. So those who share a pace take turns, a chunk each; what one has
//! reserved and cannot use it gives back. What cannot be cut, a small answer or a read, is moved
//! whole and reserved afterwards: whoever did waits the longer for its next turn.
//!
//! Nobody is woken at the very moment of its turn. So time that nobody has used counts for a while,
//! and who is late, or comes after a rest, is behind by so much and may catch up.
//!
//! Nothing here waits or knows a clock, and both directions are one.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A chunk is what moves in an eighth of a second, a little more than a tick of the wheel that wakes
/// those who wait: were it less, whoever is woken first would take what is left of each tick. It may
/// be more than what a connection moves in one turn of its loop, and then takes several.
const CHUNKS_PER_SECOND: u64 = 8;
const MIN_CHUNK_BYTES: usize = 4 * 1024;

/// How long time counts that nobody has used. Twice what the wheel may be late, and some more.
const MAX_BURST_TIME: Duration = Duration::from_millis(250);

/// A rate, and how far ahead it is spoken for. Many connections, on many threads, may share it.
#[derive(Debug)]
pub(crate) struct RateLimiter {
    bytes_per_second: NonZeroU64,
    start: Instant,
    /// When all that is reserved will have moved, in nanoseconds since the start.
    free_at: AtomicU64,
}

impl RateLimiter {
    /// One that nobody has used before `now`.
    pub(crate) fn new(bytes_per_second: NonZeroU64, now: Instant) -> Self {
        Self {
            bytes_per_second,
            start: now.checked_sub(MAX_BURST_TIME).unwrap_or(now),
            free_at: AtomicU64::new(0),
        }
    }

    /// True if it is like one that is new: it can be forgotten.
    pub(crate) fn is_rested(&self, now: Instant) -> bool {
        self.free_at.load(Ordering::Relaxed) <= self.earliest(now)
    }

    fn chunk(&self) -> usize {
        let chunk = self.bytes_per_second.get() / CHUNKS_PER_SECOND;
        usize::try_from(chunk)
            .unwrap_or(usize::MAX)
            .max(MIN_CHUNK_BYTES)
    }

    /// When the turn of so many bytes is.
    fn reserve(&self, bytes: usize, now: Instant) -> Instant {
        let earliest = self.earliest(now);
        // Rounded up, so that it is never more than the rate.
        let time = self.nanos_of(bytes) + 1;
        let update = |free: u64| Some(free.max(earliest).saturating_add(time));
        let free = &self.free_at;
        // It always succeeds.
        let (Ok(before) | Err(before)) =
            free.fetch_update(Ordering::Relaxed, Ordering::Relaxed, update);
        self.start + Duration::from_nanos(before.max(earliest))
    }

    fn give_back(&self, bytes: usize) {
        let time = self.nanos_of(bytes);
        let update = |free: u64| Some(free.saturating_sub(time));
        let _ = self
            .free_at
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, update);
    }

    /// The earliest turn that may be had: one that is past, by the time that still counts.
    fn earliest(&self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.start);
        let counts = since.saturating_sub(MAX_BURST_TIME);
        u64::try_from(counts.as_nanos()).unwrap_or(u64::MAX)
    }

    fn nanos_of(&self, bytes: usize) -> u64 {
        let nanos = bytes as u128 * 1_000_000_000 / u128::from(self.bytes_per_second.get());
        u64::try_from(nanos).unwrap_or(u64::MAX - 1)
    }
}

/// What one connection may move.
#[derive(Debug)]
pub(crate) struct BandwidthLimiter {
    own: Option<RateLimiter>,
    client: Option<Arc<RateLimiter>>,
    /// What it has reserved and not moved.
    reserved: usize,
    /// From when on it may.
    turn: Instant,
    /// Since when the connection does nothing but wait for its turn.
    waits_since: Option<Instant>,
}

/// An answer to who wants to move something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Permit {
    /// So many bytes, at least one.
    Ready(usize),
    RetryAt(Instant),
}

impl BandwidthLimiter {
    /// `None` if there is no pace to keep.
    pub(crate) fn new(
        own: Option<RateLimiter>,
        client: Option<Arc<RateLimiter>>,
        now: Instant,
    ) -> Option<Self> {
        let allowance = Self {
            own,
            client,
            reserved: 0,
            turn: now,
            waits_since: None,
        };
        let is_limited = allowance.paces().next().is_some();
        is_limited.then_some(allowance)
    }

    /// Whether something may be moved now.
    pub(crate) fn ask(&mut self, now: Instant) -> Permit {
        if self.reserved == 0 {
            self.reserved = self
                .paces()
                .map(RateLimiter::chunk)
                .min()
                .unwrap_or(usize::MAX);
            self.turn = self.reserve(self.reserved, now);
        }
        match self.turn <= now {
            true => Permit::Ready(self.reserved),
            false => Permit::RetryAt(self.turn),
        }
    }

    /// So many bytes have moved, perhaps more than there should have.
    pub(crate) fn on_moved(&mut self, bytes: usize, now: Instant) {
        let beyond = bytes.saturating_sub(self.reserved);
        self.reserved = self.reserved.saturating_sub(bytes);
        if beyond > 0 {
            self.reserve(beyond, now);
        }
    }

    /// The connection waits for its turn from now on, and for nothing else.
    pub(crate) fn begin_wait(&mut self, now: Instant) {
        self.waits_since = Some(now);
    }

    /// The connection looks about. How long it has waited for its turn, if it has.
    pub(crate) fn end_wait(&mut self, now: Instant) -> Option<Duration> {
        let since = self.waits_since.take()?;
        Some(now.saturating_duration_since(since))
    }

    /// For which turn the connection waits.
    pub(crate) fn waits_until(&self) -> Option<Instant> {
        self.waits_since.map(|_| self.turn)
    }

    /// The connection has no use for what it has reserved.
    pub(crate) fn give_back(&mut self) {
        let unused = std::mem::take(&mut self.reserved);
        if unused > 0 {
            self.paces().for_each(|pace| pace.give_back(unused));
        }
    }

    /// The peer is gone: nothing will move any more, and that shall be seen at once.
    pub(crate) fn lift(&mut self) {
        self.give_back();
        (self.own, self.client) = (None, None);
        self.turn = self.waits_since.unwrap_or(self.turn);
    }

    fn reserve(&self, bytes: usize, now: Instant) -> Instant {
        let turns = self.paces().map(|pace| pace.reserve(bytes, now));
        turns.max().unwrap_or(now)
    }

    fn paces(&self) -> impl Iterator<Item = &RateLimiter> {
        self.own.iter().chain(self.client.as_deref())
    }
}

impl Drop for BandwidthLimiter {
    fn drop(&mut self) {
        self.give_back();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;
    use crate::config::Limits;

    const SECOND: Duration = Duration::from_secs(1);

    fn rate(bytes: u64) -> NonZeroU64 {
        NonZeroU64::new(bytes).expect("a rate")
    }

    fn of_client(pace: &Arc<RateLimiter>, now: Instant) -> BandwidthLimiter {
        BandwidthLimiter::new(None, Some(Arc::clone(pace)), now).expect("a pace")
    }

    /// Moves all that may move now; when it may go on.
    fn move_all(allowance: &mut BandwidthLimiter, now: Instant) -> (usize, Instant) {
        let mut moved = 0;
        loop {
            match allowance.ask(now) {
                Permit::Ready(bytes) => {
                    allowance.on_moved(bytes, now);
                    moved += bytes;
                }
                Permit::RetryAt(turn) => return (moved, turn),
            }
        }
    }

    #[test]
    fn who_comes_after_a_rest_gets_a_quarter_of_a_second_at_once_and_a_chunk() {
        const RATE: usize = 800_000;
        const CHUNK: usize = RATE / 8;
        let start = Instant::now();
        let pace = RateLimiter::new(rate(RATE as u64), start);
        let mut allowance = BandwidthLimiter::new(Some(pace), None, start).expect("a pace");
        let (moved, turn) = move_all(&mut allowance, start);
        assert!((RATE / 4..=RATE / 4 + CHUNK).contains(&moved), "{moved}");
        assert!(turn > start && turn <= start + SECOND / 8);
        // However long the rest was.
        let later = turn + 1000 * SECOND;
        let (moved, _) = move_all(&mut allowance, later);
        assert!(
            (RATE / 4..=RATE / 4 + 2 * CHUNK).contains(&moved),
            "{moved}"
        );
    }

    /// A small answer goes whole, and its connection waits afterwards; so does its client.
    #[test]
    fn what_moves_beyond_a_reservation_is_paid_for() {
        let start = Instant::now();
        let pace = Arc::new(RateLimiter::new(rate(10_000), start));
        let mut first = of_client(&pace, start);
        let mut second = of_client(&pace, start);
        assert_eq!(first.ask(start), Permit::Ready(4096));
        first.on_moved(24_096, start);
        for allowance in [&mut first, &mut second] {
            match allowance.ask(start) {
                Permit::RetryAt(turn) => assert!(turn > start + SECOND, "{:?}", turn - start),
                go => panic!("{go:?}"),
            }
        }
    }

    #[test]
    fn what_is_given_back_is_there_for_others() {
        let start = Instant::now();
        let pace = Arc::new(RateLimiter::new(rate(16_384), start));
        let mut idle: Vec<_> = (0..100).map(|_| of_client(&pace, start)).collect();
        for allowance in &mut idle {
            allowance.ask(start);
        }
        let mut late = of_client(&pace, start);
        assert!(matches!(late.ask(start), Permit::RetryAt(turn) if turn > start + 20 * SECOND));
        late.give_back();
        let dropped = idle.split_off(50);
        drop(dropped);
        idle.iter_mut().for_each(BandwidthLimiter::give_back);
        assert_eq!(late.ask(start), Permit::Ready(4096));
        late.give_back();
        assert!(pace.is_rested(start + Duration::from_micros(1)));
    }

    /// A peer that is gone does not wait, and keeps nothing from others.
    #[test]
    fn who_is_gone_waits_for_nothing() {
        let start = Instant::now();
        let pace = Arc::new(RateLimiter::new(rate(16_384), start));
        let mut allowance = of_client(&pace, start);
        allowance.on_moved(1_000_000, start);
        assert!(matches!(allowance.ask(start), Permit::RetryAt(_)));
        allowance.begin_wait(start);
        assert!(allowance.waits_until() > Some(start + SECOND));
        allowance.lift();
        assert_eq!(allowance.end_wait(start + SECOND), Some(SECOND));
        assert!(matches!(allowance.ask(start + SECOND), Permit::Ready(_)));
        assert!(!pace.is_rested(start + SECOND), "what was moved stays paid");
    }

    /// Connections that share a pace and have no end of things to send, as two event loops serve
    /// them: a portion each in turn, and who must wait is looked at when a tick is over. One loop
    /// comes always first, and has one connection.
    struct Loops {
        start: Instant,
        now: Duration,
        connections: Vec<(BandwidthLimiter, usize)>,
        run_queues: [VecDeque<usize>; 2],
        /// Until which time each waits.
        waiting: Vec<(Instant, usize)>,
        /// What was moved, and when.
        moved: Vec<(Duration, usize)>,
    }

    const TICK: Duration = Duration::from_millis(100);

    impl Loops {
        fn new(start: Instant, allowances: Vec<BandwidthLimiter>) -> Self {
            Self {
                start,
                now: Duration::ZERO,
                run_queues: [(0..1).collect(), (1..allowances.len()).collect()],
                connections: allowances.into_iter().map(|one| (one, 0)).collect(),
                waiting: Vec::new(),
                moved: Vec::new(),
            }
        }

        /// One turn of everybody's, each of whom uses the part of its chunk that `uses` says, in
        /// percent.
        fn run_until(&mut self, end: Duration, mut uses: impl FnMut(usize) -> usize) {
            while self.now < end {
                let now = self.start + self.now;
                let next = |queues: &mut [VecDeque<usize>; 2]| {
                    queues.iter_mut().find_map(VecDeque::pop_front)
                };
                while let Some(at) = next(&mut self.run_queues) {
                    let (allowance, total) = &mut self.connections[at];
                    match allowance.ask(now) {
                        Permit::RetryAt(turn) => self.waiting.push((turn, at)),
                        Permit::Ready(bytes) => {
                            let bytes = (bytes * uses(at) / 100).max(1);
                            allowance.on_moved(bytes, now);
                            *total += bytes;
                            self.moved.push((self.now, bytes));
                            self.run_queues[at.min(1)].push_back(at);
                        }
                    }
                }
                self.now += TICK;
                let over = self.start + self.now;
                let due = self.waiting.extract_if(.., |(turn, _)| *turn < over);
                for (_, at) in due {
                    self.run_queues[at.min(1)].push_back(at);
                }
            }
        }

        /// The most bytes that moved within a time beyond what the rate has for that time.
        fn most_beyond(&self, rate: u64) -> f64 {
            let mut most = 0.0_f64;
            let mut credit = 0.0_f64;
            let mut before = Duration::ZERO;
            for (at, bytes) in &self.moved {
                let time = (*at - before).as_secs_f64();
                credit = (credit - time * rate as f64).max(0.0) + *bytes as f64;
                before = *at;
                most = most.max(credit);
            }
            most
        }
    }

    fn any_rate() -> impl Strategy<Value = u64> {
        (Limits::MIN_BANDWIDTH..1 << 14).prop_union(1 << 14..1 << 28)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]

        /// In spite of the coarse ticks the rate is kept on average, there is no time in which more
        /// moves than what counts as unused and a chunk, and all who share it get the same.
        #[test]
        fn the_rate_is_kept_and_shared_equally(
            bytes_per_second in any_rate(),
            count in 1..40usize,
            seconds in 5..60u64,
        ) {
            let start = Instant::now();
            let pace = Arc::new(RateLimiter::new(rate(bytes_per_second), start));
            let allowances = (0..count).map(|_| of_client(&pace, start)).collect();
            let chunk = pace.chunk();
            let mut turns = Loops::new(start, allowances);
            turns.run_until(Duration::from_secs(seconds), |_| 100);
            let total: usize = turns.connections.iter().map(|(_, total)| total).sum();
            let due = bytes_per_second * seconds;
            // What is not moved yet is at most what moves during a tick, and a chunk.
            let least = due.saturating_sub(bytes_per_second / 10 + chunk as u64);
            prop_assert!(total as u64 >= least, "{total} of {due}");
            let counts = (MAX_BURST_TIME + TICK).as_secs_f64() * bytes_per_second as f64;
            let beyond = turns.most_beyond(bytes_per_second);
            prop_assert!(beyond <= counts + chunk as f64 + 1.0, "{beyond}");
            let parts = turns.connections.iter().map(|(_, total)| *total);
            let (least, most) = (parts.clone().min(), parts.max());
            // Whoever is first has what counts at the beginning; from then on they take turns.
            let head_start = counts as usize + 2 * chunk;
            prop_assert!(most.zip(least).is_some_and(|(most, least)| most - least <= head_start));
        }

        /// Whoever uses how much of what it reserves, and gives back the rest or drops it, the pace
        /// is kept, and is all there for who wants it.
        #[test]
        fn those_who_use_little_leave_the_rest_to_others(
            bytes_per_second in 20_000..10_000_000u64,
            parts in proptest::collection::vec(1..=100usize, 1..20),
        ) {
            let start = Instant::now();
            let pace = Arc::new(RateLimiter::new(rate(bytes_per_second), start));
            let mut total = 0;
            let mut at = start;
            let end = start + 20 * SECOND;
            'all: loop {
                for part in &parts {
                    // One that comes, moves a little and is gone.
                    let mut allowance = of_client(&pace, at);
                    at = match allowance.ask(at) {
                        Permit::Ready(_) => at,
                        Permit::RetryAt(turn) => turn,
                    };
                    if at >= end {
                        break 'all;
                    }
                    let Permit::Ready(bytes) = allowance.ask(at) else {
                        panic!("its turn has come");
                    };
                    let bytes = (bytes * part / 100).max(1);
                    allowance.on_moved(bytes, at);
                    total += bytes as u64;
                }
            }
            let due = bytes_per_second * 20;
            let most = due + bytes_per_second / 4 + pace.chunk() as u64;
            prop_assert!(total <= most, "{total} of {due}");
            prop_assert!(total + pace.chunk() as u64 >= due, "{total} of {due}");
        }

        /// The slower of two paces decides, and what it keeps is not lost to the other.
        #[test]
        fn a_connection_keeps_its_own_pace_and_its_clients(
            own in 20_000..1_000_000u64,
            of_all in 20_000..1_000_000u64,
        ) {
            let start = Instant::now();
            let client = Arc::new(RateLimiter::new(rate(of_all), start));
            let new = || {
                let own = RateLimiter::new(rate(own), start);
                BandwidthLimiter::new(Some(own), Some(Arc::clone(&client)), start).expect("a pace")
            };
            let mut turns = Loops::new(start, vec![new(), new(), new()]);
            turns.run_until(30 * SECOND, |_| 100);
            let total: usize = turns.connections.iter().map(|(_, total)| total).sum();
            let due = (own * 3).min(of_all) * 30;
            let least = due - due / 30;
            let most = due + due / 30;
            prop_assert!((least..=most).contains(&(total as u64)), "{total} of {due}");
        }
    }
}
