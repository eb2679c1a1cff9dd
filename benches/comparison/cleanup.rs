//! Cleanup actions that run when their guard is dropped, or, all of them, when a signal ends the
//! bench: processes are killed, file systems unmounted, directories removed.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::Result;

type Action = Box<dyn FnOnce() + Send>;

/// The pending actions in the order of their registration; they run in reverse order.
static PENDING: Mutex<BTreeMap<u64, Action>> = Mutex::new(BTreeMap::new());

/// Runs its cleanup action when it is dropped.
#[derive(Debug)]
pub(crate) struct CleanupGuard(u64);

/// Acquires a resource and registers the action that releases it, atomically with respect to
/// signals. After a signal, no further resource is acquired.
pub(crate) fn acquire<T, A>(acquire: impl FnOnce() -> Result<(T, A)>) -> Result<(T, CleanupGuard)>
where
    A: FnOnce() + Send + 'static,
{
    let mut pending = pending();
    let (resource, action) = acquire()?;
    let key = pending.last_key_value().map_or(0, |(last, _)| last + 1);
    pending.insert(key, Box::new(action));
    Ok((resource, CleanupGuard(key)))
}

impl Drop for CleanupGuard {
    fn drop(&mut self) {
        // The lock is held until the action has run, so that the signal thread cannot exit the
        // process in the middle of it.
        let mut pending = pending();
        if let Some(action) = pending.remove(&self.0) {
            action();
        }
    }
}

/// Installs handlers for SIGHUP, SIGINT and SIGTERM that run all pending actions and exit.
pub(crate) fn on_signals() -> Result<()> {
    let mut signals = Signals::new([SIGHUP, SIGINT, SIGTERM])
        .map_err(|error| format!("cannot install signal handlers: {error}"))?;
    std::thread::spawn(move || {
        let signal = signals.forever().next();
        let mut pending = pending();
        while let Some((_, action)) = pending.pop_last() {
            action();
        }
        // The exit code that a shell reports for a process killed by this signal.
        std::process::exit(128 + signal.unwrap_or(SIGINT));
    });
    Ok(())
}

fn pending() -> MutexGuard<'static, BTreeMap<u64, Action>> {
    PENDING.lock().unwrap_or_else(PoisonError::into_inner)
}
