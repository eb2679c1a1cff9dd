//! Panics of code that is not this crate's: of handlers, jobs, producers, writers, and of the
//! destructors of what they own.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// The code that was called has panicked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Panicked;

/// Calls `call` and catches its panic. The value that a panic carries is dropped here, and may panic
/// as well.
pub(crate) fn catch<T>(call: impl FnOnce() -> T) -> Result<T, Panicked> {
    catch_unwind(AssertUnwindSafe(call)).map_err(|payload| {
        let dropped = catch_unwind(AssertUnwindSafe(|| drop(payload)));
        // The payload of this panic could panic again when dropped, so it leaks.
        dropped.unwrap_or_else(std::mem::forget);
        Panicked
    })
}

/// Drops a value whose destructor may be foreign, and logs its panic. `name` says what it is.
pub(crate) fn drop_caught<T>(value: T, name: &str) {
    if catch(|| drop(value)).is_err() {
        log::error!("{name}: panicked when it was dropped");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct PanicsWhenDropped;

    impl Drop for PanicsWhenDropped {
        fn drop(&mut self) {
            std::panic::panic_any(Self);
        }
    }

    #[test]
    fn panic_whose_value_panics_when_dropped_is_caught() {
        assert_eq!(catch(|| 1), Ok(1));
        assert_eq!(catch(|| drop(PanicsWhenDropped)), Err(Panicked));
        drop_caught(PanicsWhenDropped, "a test");
    }
}
