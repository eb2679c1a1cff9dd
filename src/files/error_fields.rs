//! Fields of responses that depend on the request, or that only errors get: the origin that CORS permits,
//! and the header rules for errors. Errors of the layers around the files get them, too, and preflight
//! requests are answered before those layers, as browsers send them without a password.

use std::sync::Arc;

use ::http::HeaderValue;
use ::http::header::ACCESS_CONTROL_ALLOW_ORIGIN;

use super::serve::{MAX_IGNORED_BYTES, SiteFiles};
use super::virtual_hosts::VirtualHosts;
use crate::explain_log::explain;
use crate::handler::{BodyPolicy, BoxHandler, Handler, Outcome};
use crate::http::cors::{self, CorsFields};
use crate::http::{Rejection, Request, Response};

/// The fields that a response of a site gets when it is made, besides those of its representation.
pub(super) struct RequestFields {
    site: Arc<SiteFiles>,
    /// The origin of the request, if it is one of several that are permitted.
    origin: Option<HeaderValue>,
    path: Vec<u8>,
}

impl RequestFields {
    /// Returns `None` if the site has no such fields for the request.
    pub(super) fn of(site: &Arc<SiteFiles>, request: &Request<'_>) -> Option<Self> {
        let rules = &site.tree.rules;
        let cors = rules.cors.as_ref();
        let origin = cors.and_then(|cors| cors.matching(request)).cloned();
        if origin.is_none() && !rules.has_error_fields {
            return None;
        }
        Some(Self {
            site: Arc::clone(site),
            origin,
            path: request.path_bytes().to_vec(),
        })
    }

    pub(super) fn add(self, response: Response) -> Response {
        let rules = &self.site.tree.rules;
        let response = rules.add_error_fields(&self.path, response);
        match self.origin {
            Some(origin) => response.with_header(ACCESS_CONTROL_ALLOW_ORIGIN, origin),
            None => response,
        }
    }
}

/// Adds the fields of a site for errors to all error responses of a handler, and answers preflight
/// requests, if the site permits pages of other origins.
pub(super) struct ErrorFields {
    inner: BoxHandler,
    hosts: Arc<VirtualHosts>,
}

/// The fields of an error response to one request.
struct FieldsOfError {
    site: Arc<SiteFiles>,
    cors: Option<CorsFields>,
    path: Vec<u8>,
}

impl FieldsOfError {
    fn add(self, mut response: Response) -> Response {
        if !response.status().is_client_error() && !response.status().is_server_error() {
            return response;
        }
        if let Some(cors) = &self.cors {
            cors.add(response.headers_mut());
        }
        self.site.tree.rules.add_error_fields(&self.path, response)
    }
}

impl ErrorFields {
    pub(super) fn new(inner: impl Handler + 'static, hosts: Arc<VirtualHosts>) -> Self {
        Self {
            inner: BoxHandler::new(inner),
            hosts,
        }
    }

    fn fields_for(&self, request: &Request<'_>) -> FieldsOfError {
        let site = self.hosts.quietly_site_of(request);
        let cors = site.tree.rules.cors.as_ref();
        FieldsOfError {
            cors: cors.map(|cors| cors.fields_for(request)),
            site: Arc::clone(site),
            path: request.path_bytes().to_vec(),
        }
    }

    /// Returns the site that answers a preflight request, if the request is one and the site permits
    /// pages of other origins.
    fn preflight(&self, request: &Request<'_>) -> Option<&Arc<SiteFiles>> {
        let site = cors::is_preflight(request).then(|| self.hosts.quietly_site_of(request));
        site.filter(|site| site.tree.rules.cors.is_some())
    }
}

impl Handler for ErrorFields {
    fn handle(&self, request: &Request<'_>) -> Outcome {
        if let Some(site) = self.preflight(request) {
            explain!("cors", "a preflight request is answered on every path");
            let response = site.options(request);
            let fields = RequestFields::of(site, request);
            return match fields {
                Some(fields) => fields.add(response).into(),
                None => response.into(),
            };
        }
        match self.inner.handle(request) {
            // It needs no allocation.
            Outcome::Ready(response) if response.status().is_success() => response.into(),
            outcome => {
                let fields = self.fields_for(request);
                outcome.map(move |response| fields.add(response))
            }
        }
    }

    fn admit(&self, request: &Request<'_>) -> BodyPolicy {
        if self.preflight(request).is_some() {
            return BodyPolicy::Buffer {
                max: MAX_IGNORED_BYTES,
            };
        }
        match self.inner.admit(request) {
            BodyPolicy::Reject(response) => {
                BodyPolicy::Reject(self.fields_for(request).add(response))
            }
            policy => policy,
        }
    }

    fn reject(&self, request: &Request<'_>, rejection: Rejection) -> Response {
        let response = self.inner.reject(request, rejection);
        self.fields_for(request).add(response)
    }
}
