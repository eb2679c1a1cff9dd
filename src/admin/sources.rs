//! Where metrics and health checks get their values from.

use std::sync::OnceLock;
use std::time::Duration;

use super::certificates::CertificateStatus;
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
    pub(super) certificates: OnceLock<CertificateSource>,
}

impl Sources {
    pub(super) fn certificates(&self) -> Vec<CertificateStatus> {
        self.certificates
            .get()
            .map_or_else(Vec::new, |source| source())
    }
}

/// Returns the state of the certificates.
pub(super) type CertificateSource = Box<dyn Fn() -> Vec<CertificateStatus> + Send + Sync>;

/// Returns the counters of the file caches.
pub(super) type CacheSource = Box<dyn Fn() -> CacheStats + Send + Sync>;
