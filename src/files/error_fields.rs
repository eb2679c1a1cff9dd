//! Fields of responses that depend on the request, or that only errors get: the origin that CORS permits,
//! and the header rules for errors.

use std::sync::Arc;

use ::http::HeaderValue;
use ::http::header::ACCESS_CONTROL_ALLOW_ORIGIN;

use super::serve::SiteFiles;
use super::virtual_hosts::VirtualHosts;
use crate::handler::{BodyPolicy, BoxHandler, Handler, Outcome};
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

/// Adds the fields of the header rules for errors to all error responses of a handler.
pub(super) struct ErrorFields {
    inner: BoxHandler,
    hosts: Arc<VirtualHosts>,
}

impl ErrorFields {
    pub(super) fn new(inner: impl Handler + 'static, hosts: Arc<VirtualHosts>) -> Self {
        Self {
            inner: BoxHandler::new(inner),
            hosts,
        }
    }

    fn add(&self, request: &Request<'_>, response: Response) -> Response {
        let site = self.hosts.quietly_site_of(request);
        site.tree
            .rules
            .add_error_fields(request.path_bytes(), response)
    }
}

impl Handler for ErrorFields {
    fn handle(&self, request: &Request<'_>) -> Outcome {
        match self.inner.handle(request) {
            Outcome::Ready(response) => self.add(request, response).into(),
            outcome => {
                let site = Arc::clone(self.hosts.quietly_site_of(request));
                let path = request.path_bytes().to_vec();
                outcome.map(move |response| site.tree.rules.add_error_fields(&path, response))
            }
        }
    }

    fn admit(&self, request: &Request<'_>) -> BodyPolicy {
        match self.inner.admit(request) {
            BodyPolicy::Reject(response) => BodyPolicy::Reject(self.add(request, response)),
            policy => policy,
        }
    }

    fn reject(&self, request: &Request<'_>, rejection: Rejection) -> Response {
        self.add(request, self.inner.reject(request, rejection))
    }
}
