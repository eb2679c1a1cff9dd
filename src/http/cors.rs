//! Cross-origin resource sharing (Fetch §3.2), for files and for handlers.
//!
//! Credentialed requests are never permitted: `Access-Control-Allow-Credentials` is not sent.

use ::http::header::Entry;
use ::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_MAX_AGE, VARY,
};
use ::http::{HeaderMap, HeaderValue, Method};

use super::{Request, Response};

/// Permits pages of `origin` (an origin or `*`) to read the response. A response that has an
/// Access-Control-Allow-Origin field already is left unchanged.
pub(crate) fn add_origin(origin: &HeaderValue, fields: &mut HeaderMap) {
    if let Entry::Vacant(vacant) = fields.entry(ACCESS_CONTROL_ALLOW_ORIGIN) {
        vacant.insert(origin.clone());
        if origin != "*" {
            fields.append(VARY, HeaderValue::from_static("Origin"));
        }
    }
}

/// Returns whether the request is a CORS preflight (Fetch §3.2.2).
pub(crate) fn is_preflight(request: &Request<'_>) -> bool {
    *request.method() == Method::OPTIONS
        && request.header("access-control-request-method").is_some()
}

/// Adds the permitted methods and fields to a preflight response. `*` does not include Authorization,
/// which is therefore named (Fetch §3.2.3). Browsers may cache the result for a day.
pub(crate) fn permit(response: Response, methods: &'static str) -> Response {
    response
        .with_header(ACCESS_CONTROL_ALLOW_METHODS, methods)
        .with_header(ACCESS_CONTROL_ALLOW_HEADERS, "*, Authorization")
        .with_header(ACCESS_CONTROL_MAX_AGE, "86400")
}
