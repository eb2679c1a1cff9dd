//! The part of a worker's configuration that can be replaced while the server runs.

use std::fmt;
use std::sync::Arc;
use std::sync::mpsc::{self, SendError, Sender};
use std::thread;

use crate::config::{Config, Limits, Networks, Timeouts};
use crate::handler::Handler;
use crate::panics::drop_caught;
use crate::proto::context::TrustedProxies;

/// The handler and the settings of a server that a reload replaces.
#[derive(Clone)]
pub(crate) struct RuntimeConfig {
    pub(crate) handler: Arc<dyn Handler>,
    pub(crate) limits: Limits,
    pub(crate) timeouts: Timeouts,
    /// The peers whose PROXY header is accepted.
    pub(crate) trusted_proxies: Networks,
    /// The proxies whose forwarding fields are believed.
    pub(crate) proxies: TrustedProxies,
    /// Drops the previous handler.
    pub(crate) reaper: HandlerReaper,
}

/// Drops replaced handlers on a background thread, because closing their cached files can block.
#[derive(Clone)]
pub(crate) struct HandlerReaper(Sender<Arc<dyn Handler>>);

/// A replaced handler that still has to answer requests whose body it has admitted. It is dropped by
/// the reaper.
pub(crate) struct PreviousHandler {
    pub(crate) handler: Arc<dyn Handler>,
    reaper: HandlerReaper,
}

impl RuntimeConfig {
    pub(crate) fn new(handler: Arc<dyn Handler>, config: &Config) -> Self {
        Self {
            handler,
            limits: config.limits.clone(),
            timeouts: config.timeouts.clone(),
            trusted_proxies: config.trusted_proxies.clone(),
            proxies: TrustedProxies::of(config),
            reaper: HandlerReaper::spawn(),
        }
    }
}

impl HandlerReaper {
    /// Starts the thread. It ends when the last reaper is dropped.
    fn spawn() -> Self {
        let (sender, receiver) = mpsc::channel();
        let thread = thread::Builder::new().name("handler-reaper".to_owned());
        if let Err(error) = thread.spawn(move || receiver.iter().for_each(drop_handler)) {
            log::debug!("reload: cannot start the thread that drops old handlers: {error}");
        }
        Self(sender)
    }

    /// Drops a handler on the thread, or here if it was not started.
    pub(crate) fn reap(&self, handler: Arc<dyn Handler>) {
        if let Err(SendError(handler)) = self.0.send(handler) {
            drop_handler(handler);
        }
    }

    /// Returns a handle that keeps the handler until its requests are answered.
    pub(crate) fn keep(&self, handler: &Arc<dyn Handler>) -> PreviousHandler {
        PreviousHandler {
            handler: Arc::clone(handler),
            reaper: self.clone(),
        }
    }
}

fn drop_handler(handler: Arc<dyn Handler>) {
    drop_caught(handler, "reload: the previous handler");
}

impl Drop for PreviousHandler {
    fn drop(&mut self) {
        self.reaper.reap(Arc::clone(&self.handler));
    }
}

impl fmt::Debug for RuntimeConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RuntimeConfig")
            .field("limits", &self.limits)
            .field("timeouts", &self.timeouts)
            .finish_non_exhaustive()
    }
}
