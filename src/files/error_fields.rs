//! Fields of responses that depend on the request, or that only errors get: the origin that CORS permits,
//! and the header rules for errors. Errors of the layers around the files get them, too.

use std::sync::Arc;

use ::http::header::ACCESS_CONTROL_ALLOW_ORIGIN;
use ::http::{HeaderValue, StatusCode};

use super::serve::SiteFiles;
use super::virtual_hosts::VirtualHosts;
use crate::handler::{BodyPolicy, BoxHandler, Handler, Outcome};
use crate::http::cors::CorsFields;
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

/// Adds the fields of a site for errors to all error responses of a handler.
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
        if !is_error(response.status()) {
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
}

fn is_error(status: StatusCode) -> bool {
    status.is_client_error() || status.is_server_error()
}

impl Handler for ErrorFields {
    fn handle(&self, request: &Request<'_>) -> Outcome {
        match self.inner.handle(request) {
            // Only errors get fields, so other responses need no copy of the path.
            Outcome::Ready(response) if !is_error(response.status()) => response.into(),
            outcome => {
                let fields = self.fields_for(request);
                outcome.map(move |response| fields.add(response))
            }
        }
    }

    fn admit(&self, request: &Request<'_>) -> BodyPolicy {
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
