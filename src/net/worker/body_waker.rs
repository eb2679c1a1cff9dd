//! The waker of a response body that is polled: it has the worker poll the body again.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Wake;

use super::message::ReplyTo;

/// Wakes the worker of one exchange. However often it is called between two polls, it sends one message,
/// so that its callers cannot fill the mailbox.
pub(crate) struct BodyWaker {
    reply_to: ReplyTo,
    is_woken: AtomicBool,
}

impl BodyWaker {
    pub(crate) fn new(reply_to: ReplyTo) -> Self {
        Self {
            reply_to,
            is_woken: AtomicBool::new(false),
        }
    }

    /// The body is about to be polled: a call from now on may be about what the poll has not found.
    pub(crate) fn begin_poll(&self) {
        self.is_woken.store(false, Ordering::SeqCst);
    }
}

impl Wake for BodyWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.is_woken.swap(true, Ordering::SeqCst) {
            self.reply_to.send_body_ready();
        }
    }
}

impl fmt::Debug for BodyWaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BodyWaker")
    }
}
