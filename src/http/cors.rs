//! What pages of other origins may do, as browsers ask for it (Fetch §3.2). For files and for
//! handlers alike.
//!
//! Cookies and the like are never let through: `Access-Control-Allow-Credentials` is not sent.

use ::http::header::Entry;
use ::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_MAX_AGE, VARY,
};
use ::http::{HeaderMap, HeaderValue, Method};

use super::{Request, Response};

/// Adds that pages of `origin`, an origin or `*`, may read the answer. What has a word of its own
/// about that keeps it.
pub(crate) fn add_origin(origin: &HeaderValue, fields: &mut HeaderMap) {
    if let Entry::Vacant(vacant) = fields.entry(ACCESS_CONTROL_ALLOW_ORIGIN) {
        vacant.insert(origin.clone());
        if origin != "*" {
            fields.append(VARY, HeaderValue::from_static("Origin"));
        }
    }
}

/// True if a browser asks what a page may ask (Fetch §3.2.2).
pub(crate) fn is_preflight(request: &Request<'_>) -> bool {
    *request.method() == Method::OPTIONS
        && request.header("access-control-request-method").is_some()
}

/// Adds to the answer of a preflight what a page may ask. A star does not stand for
/// Authorization (Fetch §3.2.3).
pub(crate) fn permit(response: Response, methods: &'static str) -> Response {
    response
        .with_header(ACCESS_CONTROL_ALLOW_METHODS, methods)
        .with_header(ACCESS_CONTROL_ALLOW_HEADERS, "*, Authorization")
        .with_header(ACCESS_CONTROL_MAX_AGE, "86400")
}
