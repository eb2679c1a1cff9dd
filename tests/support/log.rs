//! The log of this process, to which servers of the library write.

use std::sync::{Mutex, MutexGuard, Once, PoisonError};

use log::{LevelFilter, Log, Metadata, Record};

static ERRORS: Mutex<Vec<String>> = Mutex::new(Vec::new());

struct ErrorCollector;

/// Collects the errors of all tests from now on.
pub(crate) fn keep_errors() {
    static BEGIN: Once = Once::new();
    BEGIN.call_once(|| {
        log::set_logger(&ErrorCollector).expect("set logger once");
        log::set_max_level(LevelFilter::Error);
    });
}

/// Returns the errors that contain `words`.
pub(crate) fn errors_with(words: &str) -> Vec<String> {
    let errors = errors();
    let found = errors.iter().filter(|error| error.contains(words));
    found.cloned().collect()
}

fn errors() -> MutexGuard<'static, Vec<String>> {
    ERRORS.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Log for ErrorCollector {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        errors().push(record.args().to_string());
    }

    fn flush(&self) {}
}
