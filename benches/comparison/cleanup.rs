//! What was started or made is ended and taken away again: when its owner goes, and all of it when
//! a signal ends the bench.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::Result;

type Step = Box<dyn FnOnce() + Send>;

/// In the order in which things were made; they are undone in the opposite one.
static STEPS: Mutex<BTreeMap<u64, Step>> = Mutex::new(BTreeMap::new());

/// Undoes something when it is dropped.
#[derive(Debug)]
pub(crate) struct Undo(u64);

/// Makes something together with the step that undoes it. A signal comes before or after that, never
/// between; once one has come, nothing is made any more.
pub(crate) fn make<T, S>(make: impl FnOnce() -> Result<(T, S)>) -> Result<(T, Undo)>
where
    S: FnOnce() + Send + 'static,
{
    let mut steps = steps();
    let (made, step) = make()?;
    let key = steps.last_key_value().map_or(0, |(last, _)| last + 1);
    steps.insert(key, Box::new(step));
    Ok((made, Undo(key)))
}

impl Drop for Undo {
    fn drop(&mut self) {
        // Held until the step is done, so that a signal does not overtake it.
        let mut steps = steps();
        if let Some(step) = steps.remove(&self.0) {
            step();
        }
    }
}

/// From now on Ctrl-C and its kin undo everything before the bench ends.
pub(crate) fn on_signals() -> Result<()> {
    let mut signals = Signals::new([SIGHUP, SIGINT, SIGTERM])
        .map_err(|error| format!("signals cannot be watched: {error}"))?;
    std::thread::spawn(move || {
        let signal = signals.forever().next();
        let mut steps = steps();
        while let Some((_, step)) = steps.pop_last() {
            step();
        }
        // As a shell says it.
        std::process::exit(128 + signal.unwrap_or(SIGINT));
    });
    Ok(())
}

fn steps() -> MutexGuard<'static, BTreeMap<u64, Step>> {
    STEPS.lock().unwrap_or_else(PoisonError::into_inner)
}
