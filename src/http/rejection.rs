//! The reason why a request is rejected: a client error with its status.

use ::http::StatusCode;

/// A request that is rejected before a handler decides about it.
///
/// The connection is closed after the response, because the start of the next request is unknown or
/// would cost too much to find (RFC 9112 §9.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rejection {
    status: StatusCode,
    reason: &'static str,
}

impl Rejection {
    /// Creates a rejection. `reason` is a short phrase for the client's user; it must not quote the
    /// request.
    pub const fn new(status: StatusCode, reason: &'static str) -> Self {
        Self { status, reason }
    }

    pub(crate) const fn bad_request(reason: &'static str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, reason)
    }

    /// Returns the status of the response.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// Returns what was wrong with the request, as a short phrase.
    pub fn reason(&self) -> &'static str {
        self.reason
    }
}
