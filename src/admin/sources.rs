//! Where metrics and health checks get their values from.

use std::time::Duration;

use super::proc_self::ProcSelf;
use crate::files::CacheStats;
use crate::net::observe::observer::Observer;
use crate::server::ServerHandle;

/// The time within which an event loop must respond.
pub(super) const RESPONSE_TIMEOUT: Duration = Duration::from_secs(1);

/// The sources of metrics.
pub(super) struct Sources {
    pub(super) handle: ServerHandle,
    pub(super) observer: Observer,
    pub(super) process: ProcSelf,
    pub(super) cache: Option<CacheSource>,
}

/// Returns the counters of the file caches.
pub(super) type CacheSource = Box<dyn Fn() -> CacheStats + Send + Sync>;
