//! What a connection waits for, since when, and until when it may.

use std::time::{Duration, Instant};

use super::min_rate::{MinRateBudget, WaitContext};
use crate::config::Timeouts;
use crate::proto::Timer;
use crate::proto::exchange::ExchangeId;

/// One wait. With HTTP/1.1 a connection has one at a time.
///
/// Packed, because every idle connection has one: its padding would make their slots larger. So
/// fields are copied before they are used by reference.
#[derive(Clone, Copy, Debug)]
#[repr(Rust, packed)]
pub(crate) struct Wait {
    timer: Timer,
    /// The exchange that waits; while waiting for a request, the one before it.
    exchange: ExchangeId,
    since: Instant,
    /// How long after `since` the peer still keeps the minimum rate, whatever it does.
    budget: MinRateBudget,
    /// Bytes that the transport has taken, less those that the peer is known to have acknowledged. They
    /// are those of all waits: the kernel may still hold what it took during an earlier one.
    in_flight: u32,
}

impl Wait {
    /// The wait of a new connection.
    pub(crate) fn for_first_request(now: Instant) -> Self {
        Self {
            timer: Timer::KeepAlive,
            exchange: ExchangeId(0),
            since: now,
            budget: MinRateBudget::UNLIMITED,
            in_flight: 0,
        }
    }

    /// The wait of an exchange that begins now.
    pub(crate) fn new(timer: Timer, exchange: ExchangeId, cx: &impl WaitContext) -> Self {
        Self {
            timer,
            exchange,
            since: cx.now(),
            budget: MinRateBudget::of(timer, cx),
            in_flight: 0,
        }
    }

    pub(crate) fn timer(&self) -> Timer {
        self.timer
    }

    pub(crate) fn since(&self) -> Instant {
        self.since
    }

    /// Returns true if the connection waits for a request that is not its first.
    pub(crate) fn is_for_further_request(&self) -> bool {
        self.timer == Timer::KeepAlive && { self.exchange } != ExchangeId(0)
    }

    /// Returns true if the connection has waited for a request for longer than the grace period.
    pub(crate) fn is_idle_beyond_grace(&self, cx: &impl WaitContext) -> bool {
        self.timer == Timer::KeepAlive && self.is_beyond_grace(cx)
    }

    /// Returns true if the wait has lasted for longer than the grace period.
    pub(crate) fn is_beyond_grace(&self, cx: &impl WaitContext) -> bool {
        cx.now().saturating_duration_since(self.since) >= cx.idle_grace()
    }

    /// Returns when the wait ends; `None` if it may last.
    pub(crate) fn deadline(&self, timeouts: &Timeouts) -> Option<Instant> {
        let timeout = match self.timer {
            Timer::KeepAlive => timeouts.keep_alive,
            Timer::Header => timeouts.header,
            Timer::Body => timeouts.body,
            Timer::Send => timeouts.send,
            Timer::Linger => timeouts.linger,
            Timer::HalfClosed => return { self.since }.checked_add(timeouts.half_closed),
            Timer::Handler | Timer::Upgraded => return None,
        };
        // `None` if the deadline is beyond the range of `Instant`.
        { self.since }.checked_add(timeout.min({ self.budget }.time()))
    }

    /// Excludes a time that was spent waiting for bandwidth, which is not the peer's fault.
    pub(crate) fn exclude(&mut self, time: Duration) {
        let since = self.since;
        self.since = since + time;
    }

    /// Goes on with a wait that was interrupted, which was not the peer's fault.
    pub(crate) fn resume(&mut self, now: Instant) {
        self.since = now;
    }

    /// Updates the wait after the connection has run.
    ///
    /// A wait begins when it is for something else, or for another exchange. One for the peer to take a
    /// response goes on with what is left of its budget after a wait for a handler or a disk, and with
    /// the next exchange.
    ///
    /// A wait for a request body makes progress when some has been received, and a wait for the handler
    /// of a half-closed connection when any byte has moved. A wait for the peer to take a response makes
    /// progress when the peer has acknowledged some; see [`on_acked`](Self::on_acked).
    pub(crate) fn update(
        &mut self,
        timer: Timer,
        exchange: ExchangeId,
        received: usize,
        sent: usize,
        cx: &impl WaitContext,
    ) {
        if timer != self.timer || exchange != { self.exchange } {
            let budget = self.budget_for(timer, cx);
            let in_flight = self.in_flight;
            *self = Self {
                budget,
                in_flight,
                ..Self::new(timer, exchange, cx)
            };
        }
        let sent_bytes = u32::try_from(sent).unwrap_or(u32::MAX);
        self.in_flight = { self.in_flight }.saturating_add(sent_bytes);
        match timer {
            Timer::Body if received > 0 => self.on_progress(received, cx),
            Timer::HalfClosed if sent > 0 || received > 0 => self.since = cx.now(),
            _ => {}
        }
    }

    /// The budget of a wait that follows this one.
    fn budget_for(&self, timer: Timer, cx: &impl WaitContext) -> MinRateBudget {
        let budget = self.budget;
        match (self.timer, timer) {
            (Timer::Send, Timer::Send | Timer::Handler | Timer::HalfClosed) => {
                let time = cx.now().saturating_duration_since(self.since);
                budget.after(time, 0, cx)
            }
            (Timer::Handler | Timer::HalfClosed, Timer::Handler | Timer::HalfClosed) => budget,
            // What is left of the wait that was interrupted, if there was one. The transport has taken
            // everything since.
            (Timer::Handler | Timer::HalfClosed, Timer::Send)
                if budget != MinRateBudget::UNLIMITED =>
            {
                budget.max(MinRateBudget::of(timer, cx))
            }
            _ => MinRateBudget::of(timer, cx),
        }
    }

    /// Returns true if it matters how many bytes the peer has acknowledged.
    pub(crate) fn has_in_flight(&self) -> bool {
        self.timer == Timer::Send && self.in_flight > 0
    }

    /// Counts the bytes that the peer has acknowledged as progress. The kernel takes more at once
    /// than a slow peer does in a minute, so what it has taken says nothing.
    pub(crate) fn on_acked(&mut self, unacknowledged: u32, cx: &impl WaitContext) {
        let acked = { self.in_flight }.saturating_sub(unacknowledged);
        if acked > 0 {
            self.in_flight -= acked;
            self.on_progress(acked as usize, cx);
        }
    }

    /// The peer has sent or acknowledged bytes.
    pub(crate) fn on_progress(&mut self, bytes: usize, cx: &impl WaitContext) {
        let time = cx.now().saturating_duration_since(self.since);
        self.budget = { self.budget }.after(time, bytes, cx);
        self.since = cx.now();
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::config::Config;
    use crate::proto::context::{Context, RecordMode};

    /// The peer has acknowledged what it has room for, and reads the rest slowly. It keeps the minimum
    /// rate, whether the server has waited for a disk in the meantime or has got a further request.
    #[test]
    fn interrupted_wait_for_the_peer_keeps_its_budget_and_its_bytes_in_flight() {
        const SENT: usize = 300_000;
        const UNACKNOWLEDGED: u32 = 200_000;
        let config = Config::default();
        let start = Instant::now();
        let wall = SystemTime::UNIX_EPOCH;
        for interruption in [
            (Timer::Handler, ExchangeId(1)),
            (Timer::HalfClosed, ExchangeId(1)),
            (Timer::Handler, ExchangeId(3)),
            (Timer::Send, ExchangeId(3)),
        ] {
            let (timer, exchange) = interruption;
            let at = |seconds| {
                let mut cx = Context::new(&config, RecordMode::Off, Instant::now, wall);
                cx.now = start + Duration::from_secs(seconds);
                cx
            };
            let mut wait = Wait::for_first_request(start);
            wait.update(Timer::Send, ExchangeId(1), 100, SENT, &at(0));
            wait.on_acked(UNACKNOWLEDGED, &at(1));
            let uninterrupted = wait.deadline(&config.timeouts).expect("a deadline");
            wait.update(timer, exchange, 0, 0, &at(2));
            wait.update(Timer::Send, exchange, 0, 20_000, &at(4));
            let deadline = wait.deadline(&config.timeouts).expect("a deadline");
            let interrupted = if timer == Timer::Send { 0 } else { 2 };
            assert_eq!(deadline, uninterrupted + Duration::from_secs(interrupted));
            // More than was sent since the interruption.
            wait.on_acked(UNACKNOWLEDGED + 10_000, &at(20));
            let extended = wait.deadline(&config.timeouts).expect("a deadline");
            assert!(extended > deadline, "{interruption:?}");
        }
    }

    /// However often it asks for something else in the meantime.
    #[test]
    fn peer_that_acknowledges_nothing_has_the_grace_period() {
        let config = Config::default();
        let start = Instant::now();
        let wall = SystemTime::UNIX_EPOCH;
        let mut cx = Context::new(&config, RecordMode::Off, Instant::now, wall);
        let mut wait = Wait::for_first_request(start);
        let grace = config.timeouts.min_rate_grace;
        for at in 0..4 {
            cx.now = start + grace / 4 * at;
            wait.update(Timer::Send, ExchangeId(2 * at + 1), 100, 1000, &cx);
            wait.on_acked(1000 * (at + 1), &cx);
            assert_eq!(wait.deadline(&config.timeouts), Some(start + grace));
        }
    }

    #[test]
    fn half_closed_wait_ends_unless_bytes_move() {
        let config = Config::default();
        let limit = config.timeouts.half_closed;
        let start = Instant::now();
        let wall = SystemTime::UNIX_EPOCH;
        let mut cx = Context::new(&config, RecordMode::Off, Instant::now, wall);
        cx.now = start;
        let mut wait = Wait::for_first_request(start);
        let exchange = ExchangeId(1);
        wait.update(Timer::Handler, exchange, 100, 0, &cx);
        assert_eq!(wait.deadline(&config.timeouts), None);
        let mut update = |at: u32, received, sent| {
            cx.now = start + limit / 4 * at;
            wait.update(Timer::HalfClosed, exchange, received, sent, &cx);
            wait.deadline(&config.timeouts).expect("a deadline") - start
        };
        assert_eq!(update(1, 0, 0), limit / 4 * 5);
        assert_eq!(update(2, 0, 0), limit / 4 * 5);
        assert_eq!(update(3, 0, 1), limit / 4 * 7);
        assert_eq!(update(4, 1, 0), limit / 4 * 8);
    }
}
