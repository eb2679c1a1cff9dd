//! What a server serves by, which can be exchanged while it serves.

use std::fmt;
use std::sync::Arc;
use std::sync::mpsc::{self, Sender};
use std::thread;

use crate::config::{Config, Limits, Networks, Timeouts};
use crate::handler::Handler;
use crate::proto::context::TrustedProxies;

/// Who answers, and within which bounds.
#[derive(Clone)]
pub(crate) struct RuntimeConfig {
    pub(crate) handler: Arc<dyn Handler>,
    pub(crate) limits: Limits,
    pub(crate) timeouts: Timeouts,
    /// From whom a PROXY header is taken.
    pub(crate) trusted_proxies: Networks,
    /// Who is believed about requests.
    pub(crate) proxies: TrustedProxies,
    /// Takes the handler that was there before.
    pub(crate) grave: HandlerReaper,
}

/// Where a handler goes that answers no more. What it has kept, open files most of all, takes time to
/// let go of, and event loops have none.
#[derive(Clone)]
pub(crate) struct HandlerReaper(Sender<Arc<dyn Handler>>);

/// A handler with requests that it has begun.
pub(crate) struct PreviousHandler {
    pub(crate) handler: Arc<dyn Handler>,
    grave: HandlerReaper,
}

impl RuntimeConfig {
    pub(crate) fn new(handler: Arc<dyn Handler>, config: &Config) -> Self {
        Self {
            handler,
            limits: config.limits.clone(),
            timeouts: config.timeouts.clone(),
            trusted_proxies: config.trusted_proxies.clone(),
            proxies: TrustedProxies::of(config),
            grave: HandlerReaper::dig(),
        }
    }
}

impl HandlerReaper {
    fn dig() -> Self {
        let (sender, receiver) = mpsc::channel();
        let thread = thread::Builder::new().name("former-handler".to_owned());
        // It ends when nobody has the handler any more.
        if let Err(error) = thread.spawn(move || receiver.iter().for_each(drop)) {
            log::debug!("reload: cannot start the thread that drops old handlers: {error}");
        }
        Self(sender)
    }

    pub(crate) fn take(&self, handler: Arc<dyn Handler>) {
        // Without the thread it ends here.
        let _ = self.0.send(handler);
    }

    /// Takes it when its requests are answered.
    pub(crate) fn later(&self, handler: &Arc<dyn Handler>) -> PreviousHandler {
        PreviousHandler {
            handler: Arc::clone(handler),
            grave: self.clone(),
        }
    }
}

impl Drop for PreviousHandler {
    fn drop(&mut self) {
        self.grave.take(Arc::clone(&self.handler));
    }
}

impl fmt::Debug for RuntimeConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Terms")
            .field("limits", &self.limits)
            .field("timeouts", &self.timeouts)
            .finish_non_exhaustive()
    }
}
