//! A clock for tests that advances only when the test says so. Each thread has its own.

use std::cell::Cell;
use std::time::{Duration, Instant};

thread_local! {
    static NOW: Cell<Option<Instant>> = const { Cell::new(None) };
}

pub(super) fn now() -> Instant {
    NOW.get().unwrap_or_else(|| {
        let start = Instant::now();
        NOW.set(Some(start));
        start
    })
}

pub(super) fn pass(milliseconds: u64) {
    NOW.set(Some(now() + Duration::from_millis(milliseconds)));
}
