//! Fields of responses that depend on the request, or that only errors get: the origin that CORS permits,
//! and the header rules for errors. Errors of the layers around the files get them, too, and the pages that
//! the site has for errors.

use std::sync::Arc;

use ::http::HeaderValue;
use ::http::header::{ACCESS_CONTROL_ALLOW_ORIGIN, CONTENT_SECURITY_POLICY, CONTENT_TYPE};

use super::lookup::Postponed;
use super::representation::Representation;
use super::root::Blocking;
use super::serve::SiteFiles;
use super::virtual_hosts::VirtualHosts;
use crate::handler::{BodyPolicy, BoxHandler, DiskJob, Handler, Outcome};
use crate::http::cors::CorsFields;
use crate::http::response::is_error;
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

/// Adds the fields and the pages of a site for errors to all error responses of a handler.
pub(super) struct ErrorFields {
    inner: BoxHandler,
    hosts: Arc<VirtualHosts>,
}

/// What an error response to one request gets.
struct ErrorContext {
    site: Arc<SiteFiles>,
    cors: Option<CorsFields>,
    /// For the lookup of a page, if the site has any.
    request: Option<Request<'static>>,
    path: Vec<u8>,
}

impl ErrorContext {
    fn add_fields(&self, mut response: Response) -> Response {
        if !is_error(response.status()) {
            return response;
        }
        if let Some(cors) = &self.cors {
            cors.add(response.headers_mut());
        }
        self.site.tree.rules.add_error_fields(&self.path, response)
    }

    /// Adds page and fields. A page that cannot be read without blocking is read in a job.
    fn complete(self, response: Response) -> Outcome {
        match self.page_for(&response, Blocking::Forbidden) {
            Ok(page) => self.with_page(response, page).into(),
            Err(_) => {
                let rules = &self.site.tree.rules;
                let name = rules.error_page(response.status()).unwrap_or_default();
                let device = self.site.tree.device_of(&[b"/", name].concat());
                Outcome::BlockingOnDisk(DiskJob::long(device, move || {
                    let page = self.page_for(&response, Blocking::Allowed);
                    self.with_page(response, page.unwrap_or_default())
                }))
            }
        }
    }

    /// As [`complete`](Self::complete), for a response that is sent before the content of its request was
    /// received. Without the page, if that cannot be read without blocking.
    fn complete_at_once(&self, response: Response) -> Response {
        let page = self.page_for(&response, Blocking::Forbidden);
        self.with_page(response, page.unwrap_or_default())
    }

    fn page_for(
        &self,
        response: &Response,
        blocking: Blocking,
    ) -> Result<Option<Arc<Representation>>, Postponed> {
        match &self.request {
            Some(request) if response.is_built_in_error() => {
                self.site
                    .page_of_error(response.status(), request, blocking)
            }
            _ => Ok(None),
        }
    }

    fn with_page(&self, response: Response, page: Option<Arc<Representation>>) -> Response {
        let Some(page) = page else {
            return self.add_fields(response);
        };
        let mut response = response
            .with_header(CONTENT_TYPE, page.media_type.clone())
            .with_body(page.body(page.full_range()));
        // It is that of the built-in page.
        response.headers_mut().remove(CONTENT_SECURITY_POLICY);
        self.add_fields(response)
    }
}

impl ErrorFields {
    pub(super) fn new(inner: impl Handler + 'static, hosts: Arc<VirtualHosts>) -> Self {
        Self {
            inner: BoxHandler::new(inner),
            hosts,
        }
    }

    fn context(&self, request: &Request<'_>) -> ErrorContext {
        let site = self.hosts.quietly_site_of(request);
        let rules = &site.tree.rules;
        let cors = rules.cors.as_ref();
        let has_pages = !rules.error_pages.is_empty();
        ErrorContext {
            cors: cors.map(|cors| cors.fields_for(request)),
            site: Arc::clone(site),
            // A page does not depend on the content, which may be large.
            request: has_pages.then(|| request.without_content().into_owned()),
            path: request.path_bytes().to_vec(),
        }
    }
}

impl Handler for ErrorFields {
    fn handle(&self, request: &Request<'_>) -> Outcome {
        match self.inner.handle(request) {
            // Other responses need no copy of the request.
            Outcome::Ready(response) if !is_error(response.status()) => response.into(),
            outcome => {
                let context = self.context(request);
                outcome.and_then(move |response| context.complete(response))
            }
        }
    }

    fn admit(&self, request: &Request<'_>) -> BodyPolicy {
        match self.inner.admit(request) {
            BodyPolicy::Reject(response) => {
                BodyPolicy::Reject(self.context(request).complete_at_once(response))
            }
            policy => policy,
        }
    }

    fn reject(&self, request: &Request<'_>, rejection: Rejection) -> Response {
        let response = self.inner.reject(request, rejection);
        self.context(request).complete_at_once(response)
    }
}
