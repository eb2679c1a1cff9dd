//! The minimum rate at which a peer has to send a request body or to take a response.

use std::time::{Duration, Instant};

use crate::proto::Timer;

/// What waits depend on beside their peer. The context of an event loop implements it, which itself has
/// memory for streams with waits.
pub(crate) trait WaitContext {
    /// The time, as of this iteration of the event loop.
    fn now(&self) -> Instant;

    /// How long a connection without a request is neither evicted nor closed for shutdown.
    fn idle_grace(&self) -> Duration;

    /// How long a slow client may be below the minimum rate at first.
    fn min_rate_grace(&self) -> Duration;

    /// The minimum rate; 0 for none.
    fn min_rate_bytes_per_second(&self) -> u64;
}

/// The remaining time budget of a slow peer: the grace period, plus the bytes transferred divided by
/// the minimum rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct MinRateBudget {
    /// In 32 bits, which are enough for an hour, because every connection has one. `u32::MAX` is no
    /// limit.
    micros: u32,
}

impl MinRateBudget {
    pub(crate) const UNLIMITED: Self = Self { micros: u32::MAX };

    /// The most that accumulates, in microseconds: a peer that was fast for a long time must not be
    /// slow for as long.
    const MAX_MICROS: u32 = 30_000_000;

    /// The budget at the beginning of a wait.
    pub(crate) fn of(timer: Timer, cx: &impl WaitContext) -> Self {
        match timer {
            Timer::Body | Timer::Send if cx.min_rate_bytes_per_second() > 0 => {
                Self::from_micros(cx.min_rate_grace().as_micros())
            }
            _ => Self::UNLIMITED,
        }
    }

    /// The budget after `time` in which `bytes` were transferred.
    pub(crate) fn after(self, time: Duration, bytes: usize, cx: &impl WaitContext) -> Self {
        if self == Self::UNLIMITED {
            return self;
        }
        let max = Self::of(Timer::Send, cx).micros.max(Self::MAX_MICROS);
        let rate = u128::from(cx.min_rate_bytes_per_second().max(1));
        let left = u128::from(self.micros).saturating_sub(time.as_micros());
        let earned = bytes as u128 * 1_000_000 / rate;
        let micros = Self::from_micros(left + earned).micros.min(max);
        Self { micros }
    }

    pub(crate) fn time(self) -> Duration {
        if self == Self::UNLIMITED {
            return Duration::MAX;
        }
        Duration::from_micros(self.micros.into())
    }

    fn from_micros(micros: u128) -> Self {
        Self {
            micros: u32::try_from(micros).unwrap_or(u32::MAX),
        }
    }
}
