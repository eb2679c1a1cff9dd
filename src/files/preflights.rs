//! Preflight requests (Fetch §4.8) of pages of other origins. Browsers send them without a password, so they
//! are answered before the rules about access.

use std::sync::Arc;

use super::error_fields::RequestFields;
use super::serve::{MAX_IGNORED_BYTES, SiteFiles};
use super::virtual_hosts::VirtualHosts;
use crate::explain_log::explain;
use crate::handler::{BodyPolicy, BoxHandler, Handler, Outcome};
use crate::http::{Rejection, Request, Response, cors};

/// Answers preflight requests if the site permits pages of other origins, and passes on all others.
pub(super) struct Preflights {
    inner: BoxHandler,
    hosts: Arc<VirtualHosts>,
}

impl Preflights {
    pub(super) fn new(inner: impl Handler + 'static, hosts: Arc<VirtualHosts>) -> Self {
        Self {
            inner: BoxHandler::new(inner),
            hosts,
        }
    }

    /// Returns the site that answers the request.
    fn site_of(&self, request: &Request<'_>) -> Option<&Arc<SiteFiles>> {
        let site = cors::is_preflight(request).then(|| self.hosts.quietly_site_of(request));
        site.filter(|site| site.tree.rules.cors.is_some())
    }
}

impl Handler for Preflights {
    fn handle(&self, request: &Request<'_>) -> Outcome {
        let Some(site) = self.site_of(request) else {
            return self.inner.handle(request);
        };
        explain!("cors", "a preflight request is answered on every path");
        let response = site.options(request);
        let fields = RequestFields::of(site, request);
        match fields {
            Some(fields) => fields.add(response).into(),
            None => response.into(),
        }
    }

    fn admit(&self, request: &Request<'_>) -> BodyPolicy {
        match self.site_of(request) {
            Some(_) => BodyPolicy::Buffer {
                max: MAX_IGNORED_BYTES,
            },
            None => self.inner.admit(request),
        }
    }

    fn reject(&self, request: &Request<'_>, rejection: Rejection) -> Response {
        self.inner.reject(request, rejection)
    }
}
