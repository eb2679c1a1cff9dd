//! Tests of the rate limits with a clock of their own.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;
use crate::config::Limits;

const SECOND: Duration = Duration::from_secs(1);

fn rate(bytes: u64) -> NonZeroU64 {
    NonZeroU64::new(bytes).expect("a rate")
}

fn client_limiter(client: &Arc<RateLimiter>, now: Instant) -> BandwidthLimiter {
    BandwidthLimiter::new(None, Some(Arc::clone(client)), now)
}

/// Moves all that may move now; returns how much, and when more may move.
fn move_all(limiter: &mut BandwidthLimiter, now: Instant) -> (usize, Instant) {
    let mut moved = 0;
    loop {
        match limiter.request(now) {
            Permit::Ready(bytes) => {
                limiter.on_moved(bytes, now);
                moved += bytes;
            }
            Permit::RetryAt(ready_at) => return (moved, ready_at),
        }
    }
}

#[test]
fn burst_after_idle_is_250ms_plus_one_chunk() {
    const RATE: usize = 800_000;
    const CHUNK: usize = RATE / 8;
    let start = Instant::now();
    let own = RateLimiter::new(rate(RATE as u64), start);
    let mut limiter = BandwidthLimiter::new(Some(own), None, start);
    let (moved, ready_at) = move_all(&mut limiter, start);
    assert!((RATE / 4..=RATE / 4 + CHUNK).contains(&moved), "{moved}");
    assert!(ready_at > start && ready_at <= start + SECOND / 8);
    // However long it was idle.
    let later = ready_at + 1000 * SECOND;
    let (moved, _) = move_all(&mut limiter, later);
    assert!(
        (RATE / 4..=RATE / 4 + 2 * CHUNK).contains(&moved),
        "{moved}"
    );
}

/// A small response is sent whole; afterwards its connection and its client wait.
#[test]
fn bytes_beyond_the_reservation_delay_the_next_chunk() {
    let start = Instant::now();
    let client = Arc::new(RateLimiter::new(rate(10_000), start));
    let mut first = client_limiter(&client, start);
    let mut second = client_limiter(&client, start);
    assert_eq!(first.request(start), Permit::Ready(4096));
    first.on_moved(24_096, start);
    for limiter in [&mut first, &mut second] {
        match limiter.request(start) {
            Permit::RetryAt(ready_at) => {
                assert!(ready_at > start + SECOND, "{:?}", ready_at - start);
            }
            go => panic!("{go:?}"),
        }
    }
}

#[test]
fn released_bytes_are_available_to_others() {
    let start = Instant::now();
    let client = Arc::new(RateLimiter::new(rate(16_384), start));
    let mut idle: Vec<_> = (0..100).map(|_| client_limiter(&client, start)).collect();
    for limiter in &mut idle {
        limiter.request(start);
    }
    let mut late = client_limiter(&client, start);
    assert!(
        matches!(late.request(start), Permit::RetryAt(ready_at) if ready_at > start + 20 * SECOND)
    );
    late.release();
    let dropped = idle.split_off(50);
    drop(dropped);
    idle.iter_mut().for_each(BandwidthLimiter::release);
    assert_eq!(late.request(start), Permit::Ready(4096));
    late.release();
    assert!(client.is_unused(start + Duration::from_micros(1)));
}

#[test]
fn disconnected_peer_neither_waits_nor_holds_bandwidth() {
    let start = Instant::now();
    let client = Arc::new(RateLimiter::new(rate(16_384), start));
    let mut limiter = client_limiter(&client, start);
    limiter.on_moved(1_000_000, start);
    assert!(matches!(limiter.request(start), Permit::RetryAt(_)));
    limiter.begin_wait(start);
    assert!(limiter.throttled_until() > Some(start + SECOND));
    limiter.unlimit();
    assert_eq!(limiter.end_wait(start + SECOND), Some(SECOND));
    assert!(matches!(limiter.request(start + SECOND), Permit::Ready(_)));
    assert!(
        !client.is_unused(start + SECOND),
        "moved bytes stay reserved"
    );
}

/// Connections that share a rate and always have bytes to send, as two event loops serve them:
/// one quantum each, and throttled connections resume at the end of a tick. The loop that always
/// runs first has one connection.
struct Loops {
    start: Instant,
    now: Duration,
    connections: Vec<(BandwidthLimiter, usize)>,
    run_queues: [VecDeque<usize>; 2],
    /// Until when each waits.
    waiting: Vec<(Instant, usize)>,
    /// When bytes were moved, and how many.
    moved: Vec<(Duration, usize)>,
}

const TICK: Duration = Duration::from_millis(100);

impl Loops {
    fn new(start: Instant, limiters: Vec<BandwidthLimiter>) -> Self {
        Self {
            start,
            now: Duration::ZERO,
            run_queues: [(0..1).collect(), (1..limiters.len()).collect()],
            connections: limiters.into_iter().map(|one| (one, 0)).collect(),
            waiting: Vec::new(),
            moved: Vec::new(),
        }
    }

    /// Runs the connections, each of which uses the percentage of its chunk that `uses` returns.
    fn run_until(&mut self, end: Duration, mut uses: impl FnMut(usize) -> usize) {
        while self.now < end {
            let now = self.start + self.now;
            let next =
                |queues: &mut [VecDeque<usize>; 2]| queues.iter_mut().find_map(VecDeque::pop_front);
            while let Some(at) = next(&mut self.run_queues) {
                let (limiter, total) = &mut self.connections[at];
                match limiter.request(now) {
                    Permit::RetryAt(ready_at) => self.waiting.push((ready_at, at)),
                    Permit::Ready(bytes) => {
                        let bytes = (bytes * uses(at) / 100).max(1);
                        limiter.on_moved(bytes, now);
                        *total += bytes;
                        self.moved.push((self.now, bytes));
                        self.run_queues[at.min(1)].push_back(at);
                    }
                }
            }
            self.now += TICK;
            let over = self.start + self.now;
            let due = self
                .waiting
                .extract_if(.., |(ready_at, _)| *ready_at < over);
            for (_, at) in due {
                self.run_queues[at.min(1)].push_back(at);
            }
        }
    }

    /// The largest number of bytes by which any period exceeded the rate.
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

    /// In spite of the coarse ticks the average rate is right, no period exceeds it by more than
    /// the burst and a chunk, and connections that share it get equal parts.
    #[test]
    fn the_rate_is_kept_and_shared_equally(
        bytes_per_second in any_rate(),
        count in 1..40usize,
        seconds in 5..60u64,
    ) {
        let start = Instant::now();
        let client = Arc::new(RateLimiter::new(rate(bytes_per_second), start));
        let limiters = (0..count).map(|_| client_limiter(&client, start)).collect();
        let chunk = client.chunk();
        let mut loops = Loops::new(start, limiters);
        loops.run_until(Duration::from_secs(seconds), |_| 100);
        let total: usize = loops.connections.iter().map(|(_, total)| total).sum();
        let due = bytes_per_second * seconds;
        // What is not moved yet is at most what moves during a tick, and a chunk.
        let least = due.saturating_sub(bytes_per_second / 10 + chunk as u64);
        prop_assert!(total as u64 >= least, "{total} of {due}");
        let counts = (MAX_BURST_TIME + TICK).as_secs_f64() * bytes_per_second as f64;
        let beyond = loops.most_beyond(bytes_per_second);
        prop_assert!(beyond <= counts + chunk as f64 + 1.0, "{beyond}");
        let parts = loops.connections.iter().map(|(_, total)| *total);
        let (least, most) = (parts.clone().min(), parts.max());
        // The first connection has the burst of the beginning; after it they alternate.
        let head_start = counts as usize + 2 * chunk;
        prop_assert!(most.zip(least).is_some_and(|(most, least)| most - least <= head_start));
    }

    /// However much of their reservations connections use, the rate is kept, and what they
    /// release is available to others.
    #[test]
    fn unused_reservations_are_available_to_others(
        bytes_per_second in 20_000..10_000_000u64,
        parts in proptest::collection::vec(1..=100usize, 1..20),
    ) {
        let start = Instant::now();
        let client = Arc::new(RateLimiter::new(rate(bytes_per_second), start));
        let mut total = 0;
        let mut at = start;
        let end = start + 20 * SECOND;
        'all: loop {
            for part in &parts {
                // A connection that moves a little and closes.
                let mut limiter = client_limiter(&client, at);
                at = match limiter.request(at) {
                    Permit::Ready(_) => at,
                    Permit::RetryAt(ready_at) => ready_at,
                };
                if at >= end {
                    break 'all;
                }
                let Permit::Ready(bytes) = limiter.request(at) else {
                    panic!("the time has passed");
                };
                let bytes = (bytes * part / 100).max(1);
                limiter.on_moved(bytes, at);
                total += bytes as u64;
            }
        }
        let due = bytes_per_second * 20;
        let most = due + bytes_per_second / 4 + client.chunk() as u64;
        prop_assert!(total <= most, "{total} of {due}");
        prop_assert!(total + client.chunk() as u64 >= due, "{total} of {due}");
    }

    /// The slower of two rates applies, and what it holds back is not lost to the other.
    #[test]
    fn connection_keeps_its_own_rate_and_its_clients(
        own in 20_000..1_000_000u64,
        of_all in 20_000..1_000_000u64,
    ) {
        let start = Instant::now();
        let client = Arc::new(RateLimiter::new(rate(of_all), start));
        let new = || {
            let own = RateLimiter::new(rate(own), start);
            BandwidthLimiter::new(Some(own), Some(Arc::clone(&client)), start)
        };
        let mut loops = Loops::new(start, vec![new(), new(), new()]);
        loops.run_until(30 * SECOND, |_| 100);
        let total: usize = loops.connections.iter().map(|(_, total)| total).sum();
        let due = (own * 3).min(of_all) * 30;
        let least = due - due / 30;
        let most = due + due / 30;
        prop_assert!((least..=most).contains(&(total as u64)), "{total} of {due}");
    }
}
