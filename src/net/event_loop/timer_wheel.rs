//! A timer wheel: one deadline per connection in constant time, and the end of its wait for
//! bandwidth.
//!
//! The wheel has coarse ticks, but fine enough for a connection that waits for bandwidth. An entry says that a connection is to be checked at that tick, not
//! that its deadline is then: a connection that is checked and has time left gets a new entry. So a
//! deadline that moves into the future, as it does with every request, costs nothing; only one that
//! moves closer needs a new entry.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use mio::Token;

const TICK_MS: u64 = 10;
const TICK: Duration = Duration::from_millis(TICK_MS);
const TICKS_PER_SECOND: u64 = 1000 / TICK_MS;
/// One revolution takes about 20 s; an entry due later is checked once per revolution.
const SLOTS: usize = 2048;

/// A point in time, in ticks since the wheel was made. The first is 1, so that `Option<Tick>` is no
/// larger than `Tick`.
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

/// A wheel of [`SLOTS`] lists of tokens.
#[derive(Debug)]
pub(crate) struct TimerWheel {
    start: Instant,
    /// The first tick that has not been processed.
    next: Tick,
    /// When `next` has passed.
    next_passes_at: Instant,
    /// The first tick that has an entry.
    first: Option<Tick>,
    /// The entries of each tick, at its index modulo [`SLOTS`].
    slots: Vec<Vec<Token>>,
}

impl TimerWheel {
    pub(crate) fn new(start: Instant) -> Self {
        Self {
            start,
            next: Tick::FIRST,
            next_passes_at: start + TICK,
            first: None,
            slots: vec![Vec::new(); SLOTS],
        }
    }

    /// Returns the first tick at which `deadline` has certainly passed, or the last tick of the current
    /// revolution if that is earlier.
    pub(crate) fn tick_of(&self, deadline: Instant) -> Tick {
        let latest = self.next.plus(SLOTS as u32 - 1);
        let tick = Tick::FIRST.plus(self.whole_ticks(deadline));
        tick.clamp(self.next, latest)
    }

    /// Returns the tick of an entry for `deadline`; `None` if an entry at `scheduled` is no later.
    ///
    /// A deadline is compared with the beginning of `scheduled` first. Nearly all deadlines are later,
    /// and finding their tick takes more than twice the instructions.
    pub(crate) fn tick_before(&self, scheduled: Option<Tick>, deadline: Instant) -> Option<Tick> {
        if scheduled.is_some_and(|tick| self.beginning_of(tick) <= deadline) {
            return None;
        }
        let tick = self.tick_of(deadline);
        scheduled
            .is_none_or(|scheduled| tick < scheduled)
            .then_some(tick)
    }

    /// Adds an entry for `token` at `tick`, which comes from [`tick_of`](Self::tick_of) or
    /// [`tick_before`](Self::tick_before).
    pub(crate) fn schedule(&mut self, tick: Tick, token: Token) {
        self.slots[tick.slot()].push(token);
        self.first = self.first.into_iter().chain([tick]).min();
    }

    /// Moves the entries of all ticks that have passed to `due`.
    pub(crate) fn take_due(&mut self, now: Instant, due: &mut Vec<(Tick, Token)>) {
        if now < self.next_passes_at {
            return;
        }
        let current = Tick::FIRST.plus(self.whole_ticks(now));
        while let Some(tick) = self.first.filter(|first| *first < current) {
            // The list is replaced, not drained: a burst must not hold memory for good.
            let tokens = std::mem::take(&mut self.slots[tick.slot()]);
            due.extend(tokens.into_iter().map(|token| (tick, token)));
            let mut later = (1..SLOTS as u32).map(|ahead| tick.plus(ahead));
            self.first = later.find(|tick| !self.slots[tick.slot()].is_empty());
        }
        self.next = self.next.max(current);
        self.next_passes_at = self.start + TICK * self.next.0.get();
    }

    /// Returns the time until the first entry is due; `None` if the wheel is empty.
    pub(crate) fn until_next(&self, now: Instant) -> Option<Duration> {
        let at = self.start + TICK * self.first?.0.get();
        Some(at.saturating_duration_since(now))
    }

    fn beginning_of(&self, tick: Tick) -> Instant {
        self.start + TICK * (tick.0.get() - 1)
    }

    fn whole_ticks(&self, at: Instant) -> u32 {
        let since = at.saturating_duration_since(self.start);
        // In 64 bits rather than `as_millis`: this runs with every request.
        let of_seconds = since.as_secs().saturating_mul(TICKS_PER_SECOND);
        let ticks = of_seconds.saturating_add(u64::from(since.subsec_millis()) / TICK_MS);
        u32::try_from(ticks).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn after(wheel: &TimerWheel, millis: u64) -> Instant {
        wheel.start + Duration::from_millis(millis)
    }

    #[test]
    fn entry_is_reported_once_and_not_early() {
        let mut wheel = TimerWheel::new(Instant::now());
        let tick = wheel.tick_of(after(&wheel, 250));
        wheel.schedule(tick, Token(1));
        let mut due = Vec::new();
        wheel.take_due(after(&wheel, 249), &mut due);
        assert_eq!(due, []);
        assert_eq!(
            wheel.until_next(after(&wheel, 249)),
            Some(Duration::from_millis(11))
        );
        wheel.take_due(after(&wheel, 260), &mut due);
        assert_eq!(due, [(tick, Token(1))]);
        due.clear();
        wheel.take_due(after(&wheel, 10_000_000), &mut due);
        assert_eq!(due, []);
        assert_eq!(wheel.until_next(after(&wheel, 10_000_000)), None);
    }

    #[test]
    fn entry_beyond_one_revolution_is_reported_once_per_revolution() {
        let mut wheel = TimerWheel::new(Instant::now());
        let tick = wheel.tick_of(after(&wheel, 1_000_000));
        wheel.schedule(tick, Token(1));
        let mut due = Vec::new();
        wheel.take_due(after(&wheel, 20_000), &mut due);
        assert_eq!(due, []);
        wheel.take_due(after(&wheel, 21_000), &mut due);
        assert_eq!(due, [(tick, Token(1))]);
    }

    proptest! {
        #[test]
        fn entry_is_needed_only_before_the_scheduled_one(
            (now, ahead, apart) in (0..50_000u64, 50..30_000u64, 0..100u64),
        ) {
            let mut wheel = TimerWheel::new(Instant::now());
            wheel.take_due(after(&wheel, now), &mut Vec::new());
            let deadline = after(&wheel, now + ahead);
            let tick = wheel.tick_of(deadline);
            prop_assert_eq!(wheel.tick_before(None, deadline), Some(tick));
            let scheduled = wheel.tick_of(after(&wheel, now + ahead + apart - 50));
            let earlier = (tick < scheduled).then_some(tick);
            prop_assert_eq!(wheel.tick_before(Some(scheduled), deadline), earlier);
        }

        #[test]
        fn entries_are_reported_after_their_deadline_and_within_two_ticks(
            steps in proptest::collection::vec((0..20_000u64, 0..600u64), 1..60),
        ) {
            let mut wheel = TimerWheel::new(Instant::now());
            let mut now = 0;
            let mut waiting = Vec::new();
            for (at, (ahead, step)) in steps.into_iter().enumerate() {
                let tick = wheel.tick_of(after(&wheel, now + ahead));
                wheel.schedule(tick, Token(at));
                waiting.push((Token(at), now + ahead));
                now += step;
                let mut due = Vec::new();
                wheel.take_due(after(&wheel, now), &mut due);
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
