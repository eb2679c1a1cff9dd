//! Cross-origin resource sharing (Fetch §3.2), for files and for handlers.
//!
//! Credentialed requests are never permitted: `Access-Control-Allow-Credentials` is not sent.

use ::http::header::Entry;
use ::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, VARY,
};
use ::http::{HeaderMap, HeaderValue, Method};

use super::{Request, Response};

/// The origins whose pages may read responses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum AllowedOrigins {
    /// One origin, or `*`: the fields are the same for all requests.
    One(HeaderValue),
    /// The one of these that a request is from is named in its response.
    Several(Vec<HeaderValue>),
}

/// The fields, besides the safelisted ones (Fetch §2.2.6), that pages may read: those that they need
/// for ranges, caching and created resources.
const EXPOSED: HeaderValue =
    HeaderValue::from_static("Accept-Ranges, Content-Length, Content-Range, ETag, Location");

impl AllowedOrigins {
    /// Returns `None` without an origin. `*` includes all others.
    pub(crate) fn new(origins: impl IntoIterator<Item = HeaderValue>) -> Option<Self> {
        let mut origins: Vec<_> = origins.into_iter().collect();
        if let Some(any) = origins.iter().position(|origin| origin == "*") {
            return Some(Self::One(origins.swap_remove(any)));
        }
        match origins.len() {
            0 => None,
            1 => origins.pop().map(Self::One),
            _ => Some(Self::Several(origins)),
        }
    }

    /// Returns the fields of the response to a request.
    pub(crate) fn fields_for(&self, request: &Request<'_>) -> CorsFields {
        let shared = self.shared_fields();
        CorsFields {
            origin: shared.origin.or_else(|| self.matching(request).cloned()),
            ..shared
        }
    }

    /// Returns the fields that are the same in the responses to all requests.
    pub(crate) fn shared_fields(&self) -> CorsFields {
        match self {
            Self::One(origin) => CorsFields {
                varies: origin != "*",
                origin: Some(origin.clone()),
            },
            Self::Several(_) => CorsFields {
                varies: true,
                origin: None,
            },
        }
    }

    /// Returns the origin that the response to a request names in addition to the shared fields.
    pub(crate) fn matching(&self, request: &Request<'_>) -> Option<&HeaderValue> {
        let Self::Several(origins) = self else {
            return None;
        };
        let origin = request.fields().first("origin")?;
        origins.iter().find(|allowed| allowed.as_bytes() == origin)
    }
}

/// The fields with which one response permits pages of an origin to read it.
#[derive(Clone, Debug)]
pub(crate) struct CorsFields {
    /// `None` if the response must not be read.
    origin: Option<HeaderValue>,
    /// Whether the response depends on the Origin field of the request.
    varies: bool,
}

impl CorsFields {
    /// Adds the fields to those of a response. A response that has an Access-Control-Allow-Origin
    /// field already is left unchanged.
    pub(crate) fn add(&self, fields: &mut HeaderMap) {
        if fields.contains_key(ACCESS_CONTROL_ALLOW_ORIGIN) {
            return;
        }
        if let Some(origin) = &self.origin {
            fields.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        }
        if let Entry::Vacant(vacant) = fields.entry(ACCESS_CONTROL_EXPOSE_HEADERS) {
            vacant.insert(EXPOSED);
        }
        let names_origin = |value: &HeaderValue| value == "Origin";
        if self.varies && !fields.get_all(VARY).iter().any(names_origin) {
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
