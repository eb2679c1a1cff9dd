//! The certificates of a server, for metrics and the page.

use serde::Serialize;

/// A name with its certificate. Times are in seconds since 1970.
#[derive(Clone, Debug, Serialize, PartialEq, Eq)]
#[non_exhaustive]
pub struct CertificateStatus {
    /// The name, or the names, separated by commas.
    pub name: String,
    /// When the certificate expires. `None` before the first one is issued.
    pub not_after: Option<i64>,
    /// When it is to be renewed, if that happens automatically.
    pub renew_at: Option<i64>,
    /// When the next attempt is made, after one that has failed.
    pub next_attempt: Option<i64>,
    /// The last attempt to obtain or to renew the certificate, if it has failed.
    pub last_error: Option<CertificateError>,
}

/// Why there is no new certificate.
#[derive(Clone, Debug, Serialize, PartialEq, Eq)]
pub struct CertificateError {
    /// When the attempt failed, in seconds since 1970.
    pub at: i64,
    /// A short name for metrics, such as `dns`.
    pub kind: String,
    /// The explanation.
    pub message: String,
}

impl CertificateStatus {
    /// Creates the status of a name without a certificate.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            not_after: None,
            renew_at: None,
            next_attempt: None,
            last_error: None,
        }
    }
}
