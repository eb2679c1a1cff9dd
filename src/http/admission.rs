//! What handlers have decided about the content of a request, between the question about it
//! ([`Handler::admit`](crate::Handler::admit)) and the call with it.

use std::any::Any;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::panics::drop_caught;
use crate::sync::Mutex;

/// The record of a request with content.
#[derive(Default)]
pub(crate) struct Admission {
    /// Whether the question was asked.
    pub(super) is_decided: AtomicBool,
    decisions: Mutex<Vec<Decision>>,
}

type Decision = Box<dyn Any + Send>;

impl Admission {
    /// Notes that the question was asked.
    pub(crate) fn mark_decided(&self) -> &Self {
        self.is_decided.store(true, Ordering::Relaxed);
        self
    }

    /// Keeps the decision of a middleware until the request is handled or rejected.
    pub(crate) fn keep(&self, decision: impl Any + Send) {
        self.decisions.lock().push(Box::new(decision));
    }

    /// Takes a decision that was kept.
    pub(crate) fn take<T: Any>(&self, is_wanted: impl Fn(&T) -> bool) -> Option<T> {
        let mut decisions = self.decisions.lock();
        let is_wanted = |decision: &Decision| decision.downcast_ref().is_some_and(&is_wanted);
        let at = decisions.iter().position(is_wanted)?;
        let decision = decisions.swap_remove(at).downcast();
        decision.ok().map(|decision| *decision)
    }
}

impl fmt::Debug for Admission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admission")
            .field("is_decided", &self.is_decided)
            .finish_non_exhaustive()
    }
}

/// Decisions own values of the program.
impl Drop for Admission {
    fn drop(&mut self) {
        let decisions = std::mem::take(&mut *self.decisions.lock());
        for decision in decisions {
            drop_caught(decision, "the decision of a middleware");
        }
    }
}
