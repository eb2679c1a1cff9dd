//! One deadline per connection, in constant time.
//!
//! A wheel of coarse ticks. An entry is a promise to look at a connection at that tick, not its
//! deadline: whoever is looked at and has time left is filed again. So a deadline that moves away,
//! as it does with every request, costs nothing; only one that comes nearer is filed anew.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use mio::Token;

const TICK: Duration = Duration::from_millis(100);
/// The wheel turns once in about 100 s; what is due later is looked at once a turn.
const SLOTS: usize = 1024;

/// A point in time, in ticks since the wheel was made; the first is 1, so that a connection that
/// may have one spends no more memory on it than on one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Tick(NonZeroU32);

impl Tick {
    fn plus(self, ticks: u32) -> Self {
        Self(self.0.saturating_add(ticks))
    }

    fn slot(self) -> usize {
        self.0.get() as usize % SLOTS
    }
}

#[derive(Debug)]
pub(crate) struct Deadlines {
    start: Instant,
    /// The first tick that is not dealt with.
    next: Tick,
    /// What is filed for a tick; which one, its place says.
    slots: Vec<Vec<Token>>,
    filed: usize,
}

impl Deadlines {
    pub(crate) fn new(start: Instant) -> Self {
        Self {
            start,
            next: Tick(NonZeroU32::MIN),
            slots: vec![Vec::new(); SLOTS],
            filed: 0,
        }
    }

    /// The tick at which `deadline` is over for certain.
    pub(crate) fn tick_of(&self, deadline: Instant) -> Tick {
        let ticks = deadline.saturating_duration_since(self.start).as_millis() / TICK.as_millis();
        let latest = self.next.plus(SLOTS as u32 - 1);
        let ticks = u32::try_from(ticks).unwrap_or(u32::MAX);
        Tick(NonZeroU32::MIN).plus(ticks).clamp(self.next, latest)
    }

    /// Promises to report `token` at `tick`, which comes from [`tick_of`](Self::tick_of).
    pub(crate) fn file(&mut self, tick: Tick, token: Token) {
        self.slots[tick.slot()].push(token);
        self.filed += 1;
    }

    /// Moves to `due` what was filed for ticks that are over.
    pub(crate) fn take_due(&mut self, now: Instant, due: &mut Vec<(Tick, Token)>) {
        let over = now.saturating_duration_since(self.start).as_millis() / TICK.as_millis();
        let over = u32::try_from(over).unwrap_or(u32::MAX);
        while self.next.0.get() <= over {
            if self.filed == 0 {
                self.next = Tick(NonZeroU32::MIN).plus(over);
                return;
            }
            let tick = self.next;
            // With its memory: a burst must not be remembered for ever.
            let tokens = std::mem::take(&mut self.slots[tick.slot()]);
            self.filed -= tokens.len();
            due.extend(tokens.into_iter().map(|token| (tick, token)));
            self.next = tick.plus(1);
        }
    }

    /// How long until something is due; `None` if nothing is filed.
    pub(crate) fn until_next(&self, now: Instant) -> Option<Duration> {
        if self.filed == 0 {
            return None;
        }
        let mut turn = (0..SLOTS as u32).map(|ahead| self.next.plus(ahead));
        let first = turn.find(|tick| !self.slots[tick.slot()].is_empty())?;
        let at = self.start + TICK * first.0.get();
        Some(at.saturating_duration_since(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn after(deadlines: &Deadlines, millis: u64) -> Instant {
        deadlines.start + Duration::from_millis(millis)
    }

    #[test]
    fn what_is_due_is_reported_once_and_not_early() {
        let mut deadlines = Deadlines::new(Instant::now());
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
        let mut deadlines = Deadlines::new(Instant::now());
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
            let mut deadlines = Deadlines::new(Instant::now());
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
