//! How long a slow peer is borne with. Pure values; who knows what it has sent or taken is
//! [`connection`](super).

use std::time::Duration;

use crate::proto::Timer;
use crate::proto::context::Context;

/// Time that a peer has bought: its grace, and with each byte what that may take at the minimum
/// rate. In microseconds, which reach for an hour; all of them are for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MinRateBudget(u32);

impl MinRateBudget {
    pub(crate) const FOR_EVER: Self = Self(u32::MAX);
    /// Nobody saves up more: who was fast for a long time cannot dribble for another.
    const MAX: u32 = 30_000_000;

    /// At the beginning of a wait.
    pub(crate) fn of(timer: Timer, cx: &Context) -> Self {
        match timer {
            Timer::Body | Timer::Send if cx.limits.min_rate_bytes_per_second > 0 => {
                let grace = cx.min_rate_grace.as_micros();
                Self(u32::try_from(grace).unwrap_or(u32::MAX))
            }
            _ => Self::FOR_EVER,
        }
    }

    /// After a time in which so many bytes have moved.
    pub(crate) fn after(self, time: Duration, bytes: usize, cx: &Context) -> Self {
        if self == Self::FOR_EVER {
            return self;
        }
        let most = Self::of(Timer::Send, cx).0.max(Self::MAX);
        let rate = u128::from(cx.limits.min_rate_bytes_per_second.max(1));
        let left = u128::from(self.0).saturating_sub(time.as_micros());
        let bought = bytes as u128 * 1_000_000 / rate;
        Self(u32::try_from(left + bought).unwrap_or(most).min(most))
    }

    pub(crate) fn time(self) -> Duration {
        match self {
            Self::FOR_EVER => Duration::MAX,
            Self(micros) => Duration::from_micros(micros.into()),
        }
    }
}
