//! Callbacks that release file descriptors when the process has run out of them.

use std::fmt;

use crate::panics::catch;

/// The callbacks of a server.
#[derive(Default)]
pub(crate) struct FdPressure(Vec<Box<dyn Fn() + Send + Sync>>);

impl FdPressure {
    pub(crate) fn add(&mut self, release: impl Fn() + Send + Sync + 'static) {
        self.0.push(Box::new(release));
    }

    /// Calls all callbacks. A panic of one of them must not end the server.
    pub(crate) fn release(&self) {
        for release in &self.0 {
            if catch(release).is_err() {
                log::error!("accept: a callback for a lack of file descriptors panicked");
            }
        }
    }
}

impl fmt::Debug for FdPressure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("FdPressure").field(&self.0.len()).finish()
    }
}
