//! A counting semaphore that never waits: it bounds how much of something is in use at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Hands out up to `max` units.
#[derive(Debug)]
pub(crate) struct Semaphore {
    in_use: Arc<AtomicUsize>,
    max: usize,
}

/// Units of a [`Semaphore`], returned to it when this is dropped.
#[derive(Debug)]
pub(crate) struct SemaphorePermit {
    in_use: Arc<AtomicUsize>,
    count: usize,
}

impl Semaphore {
    pub(crate) fn new(max: usize) -> Self {
        Self {
            in_use: Arc::default(),
            max,
        }
    }

    /// Takes `count` units, or returns `None` if fewer are free.
    pub(crate) fn try_acquire(&self, count: usize) -> Option<SemaphorePermit> {
        let before = self.in_use.fetch_add(count, Ordering::Relaxed);
        // If it is dropped here, it returns what was just added.
        let permit = SemaphorePermit {
            in_use: Arc::clone(&self.in_use),
            count,
        };
        (before + count <= self.max).then_some(permit)
    }
}

impl Drop for SemaphorePermit {
    fn drop(&mut self) {
        self.in_use.fetch_sub(self.count, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permits_beyond_the_maximum_are_refused_until_one_is_dropped() {
        let semaphore = Semaphore::new(3);
        let two = semaphore.try_acquire(2).expect("2 of 3");
        assert!(semaphore.try_acquire(2).is_none());
        let one = semaphore.try_acquire(1).expect("the last one");
        assert!(semaphore.try_acquire(1).is_none());
        drop(two);
        assert!(semaphore.try_acquire(2).is_some());
        drop(one);
        assert!(semaphore.try_acquire(3).is_some());
    }
}
