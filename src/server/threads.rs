//! The threads of a server.

use std::sync::Arc;
use std::sync::atomic::Ordering;
#[cfg(feature = "tls")]
use std::sync::mpsc::{self, RecvTimeoutError, SyncSender};
use std::thread::{self, JoinHandle};
#[cfg(feature = "tls")]
use std::time::Duration;

use super::handle::{ServerState, Shared};
use crate::error::Error;
use crate::net::accept::directory::HandshakerMessage;
#[cfg(feature = "tls")]
use crate::tls::{Reloaded, Tls};

/// The event-loop threads. When dropped, they finish what they have begun and are joined.
pub(super) struct ThreadGroup {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    handshakers: Vec<JoinHandle<()>>,
}

impl ThreadGroup {
    pub(super) fn new(shared: &Arc<Shared>) -> Self {
        Self {
            shared: Arc::clone(shared),
            workers: Vec::new(),
            handshakers: Vec::new(),
        }
    }

    pub(super) fn start_worker(
        &mut self,
        run: impl FnOnce() -> std::io::Result<()> + Send + 'static,
    ) -> Result<(), Error> {
        let name = format!("worker-{}", self.workers.len());
        let thread = self.start(name, run)?;
        self.workers.push(thread);
        Ok(())
    }

    pub(super) fn start_handshaker(
        &mut self,
        run: impl FnOnce() -> std::io::Result<()> + Send + 'static,
    ) -> Result<(), Error> {
        let name = format!("handshaker-{}", self.handshakers.len());
        let thread = self.start(name, run)?;
        self.handshakers.push(thread);
        Ok(())
    }

    fn start(
        &self,
        name: String,
        run: impl FnOnce() -> std::io::Result<()> + Send + 'static,
    ) -> Result<JoinHandle<()>, Error> {
        let guard = PanicGuard(Arc::clone(&self.shared));
        let thread = thread::Builder::new().name(name);
        let thread = thread.spawn(move || guard.run(run));
        thread.map_err(Error::system("start an event loop"))
    }
}

impl Drop for ThreadGroup {
    fn drop(&mut self) {
        // First the handshakers, which hand what they have begun to the workers.
        for handshaker in self.shared.handshakers.all() {
            handshaker.mailbox.send(HandshakerMessage::Drain);
        }
        join(&mut self.handshakers);
        self.shared.drain();
        join(&mut self.workers);
        self.shared.enter(ServerState::Ended);
    }
}

fn join(threads: &mut Vec<JoinHandle<()>>) {
    for thread in threads.drain(..) {
        // The guard has reported a panic.
        let _ = thread.join();
    }
}

/// Shuts the whole server down if one event loop fails: a process that has ended is restarted by its
/// supervisor, a server with a part of its event loops is not.
struct PanicGuard(Arc<Shared>);

impl PanicGuard {
    fn run(self, run: impl FnOnce() -> std::io::Result<()>) {
        if let Err(error) = run() {
            log::error!("event loop failed: {error}; shutting down");
            self.fail();
        }
    }

    fn fail(&self) {
        self.0.failed.store(true, Ordering::Release);
        self.0.shut_down();
    }
}

impl Drop for PanicGuard {
    fn drop(&mut self) {
        if thread::panicking() {
            self.fail();
        }
    }
}

/// How often the files of certificates are checked for changes.
#[cfg(feature = "tls")]
const CERTIFICATE_CHECK_INTERVAL: Duration = Duration::from_secs(5);

/// Starts a thread that reloads certificates whose files have changed, and replaces the keys of session
/// tickets in time. It ends when the returned
/// sender is dropped.
#[cfg(feature = "tls")]
pub(super) fn watch_certificates(tls: Tls) -> Result<SyncSender<()>, Error> {
    let (stop, stopped) = mpsc::sync_channel::<()>(0);
    let watch = move || {
        let wait = || stopped.recv_timeout(CERTIFICATE_CHECK_INTERVAL);
        while wait() == Err(RecvTimeoutError::Timeout) {
            tls.rotate_ticket_keys();
            match tls.reload_if_changed() {
                Ok(Reloaded::Unchanged) => {}
                Ok(Reloaded::Changed) => {
                    log::warn!("tls: certificates reloaded: {}", tls.describe().join("; "));
                }
                Err(error) => log::error!("tls: {error}; the current certificates stay in use"),
            }
        }
    };
    let thread = thread::Builder::new().name("certificates".to_owned());
    let started = thread.spawn(watch);
    started.map_err(Error::system("watch the certificates"))?;
    Ok(stop)
}
