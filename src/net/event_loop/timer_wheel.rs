//! One deadline per connection, in constant time; and its turn, if its bandwidth has a limit.
//!
//! A wheel of coarse ticks. An entry is a promise to look at a connection at that tick, not its
//! deadline: whoever is looked at and has time left is filed again. So a deadline that moves away,
//! as it does with every request, costs nothing; only one that comes nearer is filed anew.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use mio::Token;

const TICK_MS: u64 = 100;
const TICK: Duration = Duration::from_millis(TICK_MS);
const TICKS_PER_SECOND: u64 = 1000 / TICK_MS;
/// The wheel turns once in about 100 s; what is due later is looked at once a turn.
const SLOTS: usize = 1024;

/// A point in time, in ticks since the wheel was made; the first is 1, so that a connection that
/// may have one spends no more memory on it than on one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Tick(NonZeroU32);

impl Tick {
    const FIRST: Self = Self(NonZeroU32::MIN);

    fn plus(self, ticks: u32) -> Self {
        Self(self.0.saturating_add(ticks))
    }

    fn slot(self) -> usize {
        self.0.get() as usize % SLOTS
    }
}

#[derive(Debug)]
pub(crate) struct TimerWheel {
    start: Instant,
    /// The first tick that is not dealt with.
    next: Tick,
    /// The first tick that something is filed for.
    first: Option<Tick>,
    /// What is filed for a tick; which one, its place says.
    slots: Vec<Vec<Token>>,
}

impl TimerWheel {
    pub(crate) fn new(start: Instant) -> Self {
        Self {
            start,
            next: Tick::FIRST,
            first: None,
            slots: vec![Vec::new(); SLOTS],
        }
    }

    /// The tick at which `deadline` is over for certain.
    pub(crate) fn tick_of(&self, deadline: Instant) -> Tick {
        let latest = self.next.plus(SLOTS as u32 - 1);
        let tick = Tick::FIRST.plus(self.whole_ticks(deadline));
        tick.clamp(self.next, latest)
    }

    /// Promises to report `token` at `tick`, which comes from [`tick_of`](Self::tick_of).
    pub(crate) fn file(&mut self, tick: Tick, token: Token) {
        self.slots[tick.slot()].push(token);
        self.first = self.first.into_iter().chain([tick]).min();
    }

    /// Moves to `due` what was filed for ticks that are over.
    pub(crate) fn take_due(&mut self, now: Instant, due: &mut Vec<(Tick, Token)>) {
        let coming = Tick::FIRST.plus(self.whole_ticks(now));
        while let Some(tick) = self.first.filter(|first| *first < coming) {
            // With its memory: a burst must not be remembered for ever.
            let tokens = std::mem::take(&mut self.slots[tick.slot()]);
            due.extend(tokens.into_iter().map(|token| (tick, token)));
            let mut behind = (1..SLOTS as u32).map(|ahead| tick.plus(ahead));
            self.first = behind.find(|tick| !self.slots[tick.slot()].is_empty());
        }
        self.next = self.next.max(coming);
    }

    /// How long until something is due; `None` if nothing is filed.
    pub(crate) fn until_next(&self, now: Instant) -> Option<Duration> {
        let at = self.start + TICK * self.first?.0.get();
        Some(at.saturating_duration_since(now))
    }

    fn whole_ticks(&self, at: Instant) -> u32 {
        let since = at.saturating_duration_since(self.start);
        // In 64 bits: it is asked with every request.
        let of_seconds = since.as_secs().saturating_mul(TICKS_PER_SECOND);
        let ticks = of_seconds.saturating_add(u64::from(since.subsec_millis()) / TICK_MS);
        u32::try_from(ticks).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn after(deadlines: &TimerWheel, millis: u64) -> Instant {
        deadlines.start + Duration::from_millis(millis)
    }

    #[test]
    fn what_is_due_is_reported_once_and_not_early() {
        let mut deadlines = TimerWheel::new(Instant::now());
        let tick = deadlines.tick_of(after(&deadlines, 250));
        deadlines.file(tick, Token(1));
        let mut due = Vec::new();
        deadlines.take_due(after(&deadlines, 249), &mut due);
        assert_eq!(due, []);
        assert_eq!(
            deadlines.until_next(after(&deadlines, 249)),
            Some(Duration::from_millis(51))
        );
        deadlines.take_due(after(&deadlines, 300), &mut due);
        assert_eq!(due, [(tick, Token(1))]);
        due.clear();
        deadlines.take_due(after(&deadlines, 10_000_000), &mut due);
        assert_eq!(due, []);
        assert_eq!(deadlines.until_next(after(&deadlines, 10_000_000)), None);
    }

    #[test]
    fn what_is_due_later_than_a_turn_is_looked_at_once_a_turn() {
        let mut deadlines = TimerWheel::new(Instant::now());
        let tick = deadlines.tick_of(after(&deadlines, 1_000_000));
        deadlines.file(tick, Token(1));
        let mut due = Vec::new();
        deadlines.take_due(after(&deadlines, 100_000), &mut due);
        assert_eq!(due, []);
        deadlines.take_due(after(&deadlines, 105_000), &mut due);
        assert_eq!(due, [(tick, Token(1))]);
    }

    proptest! {
        #[test]
        fn nothing_is_reported_before_its_deadline_or_after_its_tick(
            steps in proptest::collection::vec((0..100_000u64, 0..3_000u64), 1..60),
        ) {
            let mut deadlines = TimerWheel::new(Instant::now());
            let mut now = 0;
            let mut waiting = Vec::new();
            for (at, (ahead, step)) in steps.into_iter().enumerate() {
                let tick = deadlines.tick_of(after(&deadlines, now + ahead));
                deadlines.file(tick, Token(at));
                waiting.push((Token(at), now + ahead));
                now += step;
                let mut due = Vec::new();
                deadlines.take_due(after(&deadlines, now), &mut due);
                for (_, token) in &due {
                    let index = waiting.iter().position(|(other, _)| other == token);
                    let (_, deadline) = waiting.remove(index.expect("reported once"));
                    prop_assert!(deadline <= now);
                }
                for (_, deadline) in &waiting {
                    prop_assert!(deadline + 2 * TICK.as_millis() as u64 > now);
                }
            }
        }
    }
}
