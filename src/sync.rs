//! Locks and a condition variable without poisoning, and a flag that cancels work.
//!
//! The critical sections of this crate are short and leave their data consistent even if they panic,
//! and panics of handlers are caught outside of them. A poisoned lock would only turn one panic into
//! many, so these types ignore poisoning, as those of `parking_lot` do.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{
    self, Arc, MutexGuard, PoisonError, RwLockReadGuard, RwLockWriteGuard, TryLockError,
};
use std::time::Duration;

/// A [`std::sync::Mutex`] that ignores poisoning.
#[derive(Debug, Default)]
pub(crate) struct Mutex<T>(sync::Mutex<T>);

impl<T> Mutex<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(sync::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns `None` if the mutex is locked.
    pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        match self.0.try_lock() {
            Ok(guard) => Some(guard),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }
}

/// A [`std::sync::RwLock`] that ignores poisoning.
#[derive(Debug, Default)]
pub(crate) struct RwLock<T>(sync::RwLock<T>);

impl<T> RwLock<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(sync::RwLock::new(value))
    }

    pub(crate) fn read(&self) -> RwLockReadGuard<'_, T> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn write(&self) -> RwLockWriteGuard<'_, T> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A [`std::sync::Condvar`] that ignores poisoning.
#[derive(Debug, Default)]
pub(crate) struct Condvar(sync::Condvar);

impl Condvar {
    pub(crate) fn wait<'a, T>(&self, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
        self.0.wait(guard).unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a notification, at most for `timeout`.
    pub(crate) fn wait_timeout<'a, T>(
        &self,
        guard: MutexGuard<'a, T>,
        timeout: Duration,
    ) -> MutexGuard<'a, T> {
        let waited = self.0.wait_timeout(guard, timeout);
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    /// Waits while `condition` holds, at most for `timeout`.
    pub(crate) fn wait_timeout_while<'a, T>(
        &self,
        guard: MutexGuard<'a, T>,
        timeout: Duration,
        condition: impl FnMut(&mut T) -> bool,
    ) -> MutexGuard<'a, T> {
        let waited = self.0.wait_timeout_while(guard, timeout, condition);
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    pub(crate) fn notify_one(&self) {
        self.0.notify_one();
    }

    pub(crate) fn notify_all(&self) {
        self.0.notify_all();
    }
}

/// Says that the result of some work is not needed any more. The clones share one flag: the exchange
/// keeps one and its job another. One exchange has one flag, so that HTTP/2 can cancel a single stream.
#[derive(Clone, Default)]
pub(crate) struct CancelFlag(Arc<CancelState>);

#[derive(Default)]
struct CancelState {
    is_cancelled: AtomicBool,
    /// Called when the flag is set.
    callbacks: Mutex<Vec<CancelCallback>>,
}

/// Must not panic.
type CancelCallback = Box<dyn FnOnce() + Send>;

impl CancelFlag {
    /// Sets the flag for good. Work that has begun may check it, or is told through its callbacks; work
    /// that waits is not begun.
    pub(crate) fn cancel(&self) {
        self.0.is_cancelled.store(true, Ordering::Release);
        for callback in self.take_callbacks() {
            callback();
        }
    }

    /// Returns whether [`cancel`](Self::cancel) was called.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.0.is_cancelled.load(Ordering::Acquire)
    }

    /// Calls `callback` when the flag is set, or now if it is.
    pub(crate) fn on_cancel(&self, callback: CancelCallback) {
        let mut callbacks = self.0.callbacks.lock();
        // Under the lock: a flag that is set later finds the callback.
        if !self.is_cancelled() {
            callbacks.push(callback);
            return;
        }
        drop(callbacks);
        callback();
    }

    /// Takes the callbacks, which are not called then.
    pub(crate) fn take_callbacks(&self) -> Vec<CancelCallback> {
        std::mem::take(&mut *self.0.callbacks.lock())
    }
}

impl fmt::Debug for CancelFlag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CancelFlag")
            .field(&self.is_cancelled())
            .finish()
    }
}
