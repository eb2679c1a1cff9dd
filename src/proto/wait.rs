//! What a connection waits for, since when, and until when it may.

use std::time::{Duration, Instant};

use super::min_rate::MinRateBudget;
use crate::config::Timeouts;
use crate::proto::Timer;
use crate::proto::context::Context;
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
    /// Response bytes that the transport has taken since the wait began, less those that the peer is
    /// known to have acknowledged.
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
    pub(crate) fn new(timer: Timer, exchange: ExchangeId, cx: &Context) -> Self {
        Self {
            timer,
            exchange,
            since: cx.now,
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
    pub(crate) fn is_idle_beyond_grace(&self, cx: &Context) -> bool {
        self.timer == Timer::KeepAlive && self.is_beyond_grace(cx)
    }

    /// Returns true if the wait has lasted for longer than the grace period.
    pub(crate) fn is_beyond_grace(&self, cx: &Context) -> bool {
        cx.now.saturating_duration_since(self.since) >= cx.idle_grace
    }

    /// Returns when the wait ends; `None` if it may last.
    pub(crate) fn deadline(&self, timeouts: &Timeouts) -> Option<Instant> {
        let timeout = match self.timer {
            Timer::KeepAlive => timeouts.keep_alive,
            Timer::Header => timeouts.header,
            Timer::Body => timeouts.body,
            Timer::Send => timeouts.send,
            Timer::Linger => timeouts.linger,
            Timer::HalfClosed => timeouts.half_closed,
            Timer::Handler => return None,
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
    /// A wait begins when it is for something else, or for another exchange. A wait for a request
    /// body makes progress when some has been received, and a wait for the handler of a half-closed
    /// connection when any byte has moved. A wait for the peer to take a response makes
    /// progress when the peer has acknowledged some; see [`on_acked`](Self::on_acked).
    pub(crate) fn update(
        &mut self,
        timer: Timer,
        exchange: ExchangeId,
        received: usize,
        sent: usize,
        cx: &Context,
    ) {
        if timer != self.timer || exchange != { self.exchange } {
            *self = Self::new(timer, exchange, cx);
        }
        match timer {
            Timer::Send => {
                let sent = u32::try_from(sent).unwrap_or(u32::MAX);
                self.in_flight = { self.in_flight }.saturating_add(sent);
            }
            Timer::Body if received > 0 => self.on_progress(received, cx),
            Timer::HalfClosed if sent > 0 || received > 0 => self.since = cx.now,
            _ => {}
        }
    }

    /// Returns true if it matters how many bytes the peer has acknowledged.
    pub(crate) fn has_in_flight(&self) -> bool {
        self.timer == Timer::Send && self.in_flight > 0
    }

    /// Counts the bytes that the peer has acknowledged as progress. The kernel takes more at once
    /// than a slow peer does in a minute, so what it has taken says nothing.
    pub(crate) fn on_acked(&mut self, unacknowledged: u32, cx: &Context) {
        let acked = { self.in_flight }.saturating_sub(unacknowledged);
        if acked > 0 {
            self.in_flight -= acked;
            self.on_progress(acked as usize, cx);
        }
    }

    /// The peer has sent or acknowledged bytes.
    pub(crate) fn on_progress(&mut self, bytes: usize, cx: &Context) {
        let time = cx.now.saturating_duration_since(self.since);
        self.budget = { self.budget }.after(time, bytes, cx);
        self.since = cx.now;
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::config::Config;
    use crate::proto::context::RecordMode;

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
