//! How long one stream waits for the peer: for a request body, or for a window to send a response in.
//! The same times and the same minimum rate apply as to HTTP/1.1, in bytes of DATA.

use std::time::{Duration, Instant};

use crate::config::Timeouts;
use crate::proto::Timer;
use crate::proto::exchange::ExchangeId;
use crate::proto::min_rate::WaitContext;
use crate::proto::wait::Wait;

/// A wait for the peer. While it is interrupted, because something else is waited for, no time passes;
/// what the peer has saved or spent of its time stays.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PeerWait {
    wait: Wait,
    is_active: bool,
}

impl PeerWait {
    /// No wait yet.
    pub(crate) fn none(stream: u32, cx: &impl WaitContext) -> Self {
        Self {
            wait: Wait::new(Timer::Handler, ExchangeId(stream), cx),
            is_active: false,
        }
    }

    /// Begins to wait, or goes on with a wait of the same kind.
    pub(crate) fn begin(&mut self, timer: Timer, stream: u32, cx: &impl WaitContext) {
        if self.wait.timer() != timer {
            self.wait = Wait::new(timer, ExchangeId(stream), cx);
        } else if !self.is_active {
            self.wait.resume(cx.now());
        }
        self.is_active = true;
    }

    /// The peer has sent some of the body.
    pub(crate) fn on_received(&mut self, bytes: usize, cx: &impl WaitContext) {
        if self.wait.timer() == Timer::Body {
            self.on_progress(bytes, cx);
        }
    }

    /// The peer has let some of the response be sent. What is sent before the first wait counts, too.
    pub(crate) fn on_sent(&mut self, stream: u32, bytes: usize, cx: &impl WaitContext) {
        if self.wait.timer() != Timer::Send {
            self.wait = Wait::new(Timer::Send, ExchangeId(stream), cx);
            self.is_active = false;
        }
        self.on_progress(bytes, cx);
        self.interrupt(cx);
    }

    fn on_progress(&mut self, bytes: usize, cx: &impl WaitContext) {
        if !self.is_active {
            self.wait.resume(cx.now());
        }
        self.wait.on_progress(bytes, cx);
    }

    /// Stops the wait, until it begins again: the stream waits for something else than its peer. The time
    /// that the peer has used counts.
    pub(crate) fn interrupt(&mut self, cx: &impl WaitContext) {
        if self.is_active {
            self.wait.on_progress(0, cx);
            self.is_active = false;
        }
    }

    /// The peer has ended its request, which may be what was waited for.
    pub(crate) fn on_request_end(&mut self) {
        if self.wait.timer() != Timer::Send {
            self.is_active = false;
        }
    }

    /// What is waited for, if anything.
    pub(crate) fn timer(&self) -> Option<Timer> {
        self.is_active.then_some(self.wait.timer())
    }

    /// When the wait ends, if it is active.
    pub(crate) fn deadline(&self, timeouts: &Timeouts) -> Option<Instant> {
        if self.is_active {
            self.wait.deadline(timeouts)
        } else {
            None
        }
    }

    /// Excludes a time that was spent waiting for bandwidth.
    pub(crate) fn exclude(&mut self, time: Duration) {
        self.wait.exclude(time);
    }
}
