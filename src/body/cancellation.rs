//! Tells code that makes a response that the response is not needed any more.

use crate::panics::{catch, drop_caught};
use crate::sync::CancelFlag;

/// Tells the code that makes a response whether its exchange has been cancelled: the client has
/// disconnected, or the server has closed the connection. Nothing that is sent afterwards reaches the
/// client.
///
/// A disconnect is a reset, or the end of the connection in both directions. The end of the client's
/// input alone is a half-close: the client may still read the response, so it is a disconnect only after
/// [`Timeouts::half_closed`](crate::Timeouts::half_closed).
#[derive(Clone, Debug, Default)]
pub struct Cancellation {
    flag: CancelFlag,
}

impl Cancellation {
    pub(crate) fn new(flag: CancelFlag) -> Self {
        Self { flag }
    }

    /// Returns true if the exchange has been cancelled.
    pub fn is_cancelled(&self) -> bool {
        self.flag.is_cancelled()
    }

    /// Calls `callback` when the exchange is cancelled, or now if it has been. It is called on an event
    /// loop and must not block. If the response is completed before, it is dropped.
    pub fn on_cancel(&self, callback: impl FnOnce() + Send + 'static) {
        self.flag.on_cancel(Box::new(|| {
            if catch(callback).is_err() {
                log::error!("handler: a callback for a cancelled exchange panicked");
            }
        }));
    }

    /// Drops the callbacks: the response is completed.
    pub(crate) fn complete(&self) {
        let callbacks = self.flag.take_callbacks();
        drop_caught(callbacks, "handler: a callback for a cancelled exchange");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// Returns a cancellation with its flag and a count of calls of a registered callback.
    fn counted() -> (Cancellation, CancelFlag, Arc<AtomicUsize>) {
        let flag = CancelFlag::default();
        let cancellation = Cancellation::new(flag.clone());
        let calls = Arc::new(AtomicUsize::new(0));
        let called = Arc::clone(&calls);
        cancellation.on_cancel(move || {
            called.fetch_add(1, Ordering::Relaxed);
        });
        (cancellation, flag, calls)
    }

    #[test]
    fn callback_is_called_once_even_if_another_panics() {
        let (cancellation, flag, calls) = counted();
        cancellation.on_cancel(|| panic!("on purpose"));
        let last = Arc::clone(&calls);
        cancellation.on_cancel(move || {
            last.fetch_add(1, Ordering::Relaxed);
        });
        assert!(!cancellation.is_cancelled());
        flag.cancel();
        flag.cancel();
        assert!(cancellation.is_cancelled());
        assert_eq!(calls.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn callback_after_the_cancellation_is_called_at_once() {
        let (cancellation, flag, calls) = counted();
        flag.cancel();
        let late = Arc::clone(&calls);
        cancellation.on_cancel(move || {
            late.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(calls.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn callback_of_a_completed_response_is_dropped() {
        let (cancellation, flag, calls) = counted();
        cancellation.complete();
        assert_eq!(Arc::strong_count(&calls), 1);
        flag.cancel();
        assert_eq!(calls.load(Ordering::Relaxed), 0);
    }
}
