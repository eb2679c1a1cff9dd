//! From a request to a response, for one site: method, redirects, lookup, content coding,
//! preconditions, ranges; listings, error pages, and the page of a single-page application.

use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use ::http::header::{CONTENT_RANGE, CONTENT_TYPE, LOCATION, VARY};
use ::http::{Method, StatusCode};

use super::archive::policy::ArchivePolicy;
use super::archive_format::ArchiveFormat;
use super::cache::CacheKey;
use super::content_tag;
use super::listing::PageFeatures;
use super::lookup::{Lookup, LookupResult, Postponed, ServeError};
use super::media_type;
use super::representation::{PageUse, Representation};
use super::response_body;
use super::root::{Blocking, OpenError};
use super::rules::{Rules, ServeScope};
use super::tree::{ListingTicket, RootSnapshot, Tree};
use super::upload::policy::UploadPolicy;
use crate::error::Error;
use crate::explain_log::{self, Escaped, explain};
use crate::http::conditional::{self, Precondition};
use crate::http::negotiation::{self, ResponseFormat};
use crate::http::range::RangeRequest;
use crate::http::response::{Dependency, allowing, method_not_allowed};
use crate::http::{Body, Fields, Request, Response, cors, error_page, target};
use crate::site::{Deletion, Listing, RootOpener, Site};

/// Content in a GET or an OPTIONS request has no meaning (RFC 9110 §9.3); up to this much is read and
/// ignored, so that the connection can be kept.
pub(super) const MAX_IGNORED_BYTES: usize = 64 * 1024;

/// One site: the files that are served, and the limits of what is uploaded or sent as an archive, if
/// anything may be.
#[derive(Debug)]
pub(super) struct SiteFiles {
    pub(super) tree: Tree,
    pub(super) uploads: Option<UploadPolicy>,
    pub(super) archives: Option<ArchivePolicy>,
    /// How files are deleted, if the tree may be changed.
    pub(super) management: Option<Deletion>,
}

impl SiteFiles {
    /// Opens the folder, or the folder of the single file, that `path` names.
    pub(super) fn open(
        path: &Path,
        site: &Site,
        opener: Option<&Arc<dyn RootOpener>>,
    ) -> Result<Self, Error> {
        content_tag::check(site)?;
        Ok(Self {
            tree: Tree::open(path, site, opener)?,
            uploads: site.upload.as_ref().map(UploadPolicy::new),
            archives: ArchivePolicy::of(site)?,
            management: site.manage.as_ref().map(|manage| manage.delete),
        })
    }

    /// Returns the response to a request that is no upload. If the process is out of file
    /// descriptors, `free_descriptors` is called and the lookup is repeated once.
    pub(super) fn respond(
        &self,
        request: &Request<'_>,
        blocking: Blocking,
        free_descriptors: impl FnOnce(),
    ) -> Result<Response, Postponed> {
        match *request.method() {
            Method::GET | Method::HEAD => {}
            Method::OPTIONS => return Ok(self.options(request)),
            _ => return Ok(self.reject_method(request)),
        }
        let rules = &self.tree.rules;
        if let Some(redirect) = rules.redirect(request) {
            return Ok(redirect);
        }
        if is_prefix_without_slash(rules, request) {
            return Ok(add_slash(rules, request));
        }
        if let Some(response) = self.check_archive(request) {
            return response;
        }
        let now = Instant::now();
        let Some(snapshot) = self.tree.snapshot(blocking, now) else {
            return Err(Postponed::Lookup);
        };
        let lookup = self.lookup(&snapshot, request, blocking, now);
        let mut served = lookup.serve(self.page_features());
        if let Err(ServeError::Open(OpenError::OutOfDescriptors)) = served {
            free_descriptors();
            served = lookup.serve(self.page_features());
        }
        match served {
            Ok(response) => Ok(response),
            Err(ServeError::Postponed(postponed)) => Err(postponed),
            // Which error it is may depend on what is at the slash variant, and on the target of a rewrite
            // of missing paths.
            Err(ServeError::Open(error)) => Ok(of_fallback(lookup.open_error(&error)?)),
        }
    }

    /// Returns the listing of a folder. Reads its entries unless that is done for another request.
    pub(super) fn list(
        &self,
        request: &Request<'_>,
        ticket: ListingTicket,
        free_descriptors: impl FnOnce(),
    ) -> Result<Response, Postponed> {
        let snapshot = Arc::clone(&ticket.snapshot);
        let lookup = self.lookup(&snapshot, request, Blocking::Allowed, Instant::now());
        lookup.list_entries(ticket, self.page_features(), free_descriptors)
    }

    /// Returns the site's own page for an error, if it has one and the client accepts a page.
    pub(super) fn page_of_error(
        &self,
        status: StatusCode,
        request: &Request<'_>,
        blocking: Blocking,
    ) -> Result<Option<Arc<Representation>>, Postponed> {
        if self.tree.rules.error_page(status).is_none() {
            return Ok(None);
        }
        let now = Instant::now();
        let snapshot = self.tree.snapshot(blocking, now);
        let snapshot = snapshot.ok_or(Postponed::Lookup)?;
        let lookup = self.lookup(&snapshot, request, blocking, now);
        lookup.error_page(status)
    }

    pub(super) fn lookup<'a>(
        &'a self,
        snapshot: &'a Arc<RootSnapshot>,
        request: &'a Request<'a>,
        blocking: Blocking,
        now: Instant,
    ) -> Lookup<'a> {
        Lookup {
            tree: &self.tree,
            snapshot,
            request,
            blocking,
            now,
        }
    }

    /// Returns what the pages of folders offer.
    fn page_features(&self) -> PageFeatures {
        PageFeatures {
            uploads: self.uploads.as_ref().map(UploadPolicy::features),
            management: self.management,
            archives: match self.archives {
                Some(_) => ArchiveFormat::ALL,
                None => &[],
            },
        }
    }

    /// The methods for Allow (RFC 9110 §10.2.1).
    pub(super) fn allowed_methods(&self) -> &'static [Method] {
        const READING: &[&str] = &["GET", "HEAD", "OPTIONS"];
        const UPLOADING: &[&str] = &["POST", "PUT"];
        const CHANGING: &[&str] = &["DELETE", "MKCOL", "MOVE"];
        let methods = |sets: &[&[&str]]| {
            let names = sets.iter().copied().flatten();
            names.filter_map(|name| name.parse().ok()).collect()
        };
        /// By whether uploads and changes are allowed.
        static METHODS: OnceLock<[[Vec<Method>; 2]; 2]> = OnceLock::new();
        let sets = METHODS.get_or_init(|| {
            [
                [methods(&[READING]), methods(&[READING, CHANGING])],
                [
                    methods(&[READING, UPLOADING]),
                    methods(&[READING, UPLOADING, CHANGING]),
                ],
            ]
        });
        let (uploads, changes) = (self.uploads.is_some(), self.management.is_some());
        &sets[usize::from(uploads)][usize::from(changes)]
    }

    /// Returns the response to OPTIONS: the allowed methods and, for a CORS preflight, the
    /// permission to read (Fetch §4.8).
    pub(super) fn options(&self, request: &Request<'_>) -> Response {
        let rules = &self.tree.rules;
        let response = allowing(
            Response::new(StatusCode::NO_CONTENT),
            self.allowed_methods(),
        );
        let response = rules.add_headers_without_caching(response, request.path_bytes());
        if cors::is_preflight(request) && rules.cors.is_some() {
            cors::permit(response, "GET, HEAD")
        } else {
            response
        }
    }

    /// Returns 405 or 501, in the format that Accept prefers.
    pub(super) fn reject_method(&self, request: &Request<'_>) -> Response {
        let method = request.method();
        if matches!(*method, Method::PUT | Method::POST) {
            explain!(
                "method",
                "{method} needs uploads, which are off (--upload turns them on)"
            );
        } else if matches!(method.as_str(), "DELETE" | "MKCOL" | "MOVE") {
            explain!(
                "method",
                "{method} needs changes of files, which are off (--manage turns them on)"
            );
        } else {
            explain!("method", "{method} is not supported for files");
        }
        let plain = method_not_allowed(method, self.allowed_methods());
        let mut response = error_page::with_index(plain, request);
        let rules = &self.tree.rules;
        rules.add_security_headers(response.headers_mut());
        response
    }
}

impl Lookup<'_> {
    fn serve(&self, features: PageFeatures) -> Result<Response, ServeError> {
        match self.find() {
            Ok(LookupResult::Representation(plain)) => {
                let representation = self.encoded(&CacheKey::of_path(self.path()), plain)?;
                let response = self.represent(&representation)?;
                Ok(match representation.page_use {
                    PageUse::Fallback => of_fallback(response),
                    _ => response,
                })
            }
            Ok(LookupResult::MissingSlash) => Ok(add_slash(&self.tree.rules, self.request)),
            Ok(LookupResult::ExtraSlash) => Ok(remove_slash(&self.tree.rules, self.request)),
            Ok(LookupResult::NoIndex) if self.tree.rules.listing == Listing::On => {
                explain!("listing", "on, so the entries of the folder are listed");
                self.list(features)
            }
            Ok(LookupResult::NoIndex) => {
                explain!(
                    "listing",
                    "off, so the folder is not listed (--listing on lists it)"
                );
                self.serve_missing()
            }
            Err(ServeError::Open(OpenError::NotFound)) => {
                let response = self.serve_missing()?;
                Ok(response.depending_on(Dependency::Fallback))
            }
            Err(error) => Err(error),
        }
    }

    /// Returns what is served where the path leads to nothing: a file of a former root, the page of an
    /// application, or 404.
    fn serve_missing(&self) -> Result<Response, ServeError> {
        if let Some(response) = self.previous_asset()? {
            return Ok(response);
        }
        let response = match self.application_page() {
            Ok((key, page)) => {
                let page = self.encoded(&key, page)?;
                let response = self.represent(&page)?;
                response.depending_on(Dependency::Application)
            }
            Err(ServeError::Open(OpenError::NotFound)) => {
                let response = self.open_error(&OpenError::NotFound)?;
                match self.tree.rules.application(self.path()) {
                    Some(_) => response.append_header(VARY, "Sec-Fetch-Mode"),
                    None => response,
                }
            }
            Err(error) => return Err(error),
        };
        Ok(response.depending_on(Dependency::SlashVariant))
    }

    /// Returns the response with a file of a former root that the current one lacks, for clients whose
    /// page is of the former one. Pages themselves are those of the current root alone.
    fn previous_asset(&self) -> Result<Option<Response>, ServeError> {
        for snapshot in self.tree.previous() {
            let former = Lookup {
                snapshot: &snapshot,
                ..*self
            };
            match former.find() {
                Ok(LookupResult::Representation(plain))
                    if !media_type::is_page(&plain.media_type) =>
                {
                    explain!(
                        "previous",
                        "{} is that of a former root (--keep-previous)",
                        Escaped(&plain.name)
                    );
                    let key = CacheKey::of_path(self.path());
                    let representation = former.encoded(&key, plain)?;
                    let response = former.represent(&representation)?;
                    return Ok(Some(match representation.page_use {
                        PageUse::Fallback => of_fallback(response),
                        _ => response.depending_on(Dependency::SlashVariant),
                    }));
                }
                Err(ServeError::Postponed(postponed)) => return Err(postponed.into()),
                _ => {}
            }
        }
        Ok(None)
    }

    /// Returns 304, 412, 416, 206 or 200 (RFC 9110 §13.2.2, §14.2).
    fn represent(&self, representation: &Representation) -> Result<Response, ServeError> {
        let (method, fields) = (self.request.method(), self.request.fields());
        let precondition = conditional::evaluate(method, fields, &representation.validators);
        if explain_log::is_explained() {
            explain_validators(fields, representation, precondition);
        }
        match precondition {
            Precondition::NotModified => {
                let fields = &representation.not_modified_fields;
                return Ok(Response::prepared(
                    StatusCode::NOT_MODIFIED,
                    fields,
                    Body::Empty,
                ));
            }
            Precondition::Failed => return Ok(self.error(StatusCode::PRECONDITION_FAILED)?),
            Precondition::Proceed => {}
        }
        let len = representation.len;
        let range = match *method {
            Method::GET => conditional::range_of(fields, &representation.validators, len),
            // Range is defined for GET only (RFC 9110 §14.2).
            _ => RangeRequest::Full,
        };
        if explain_log::is_explained() {
            explain_range(self.request, &range, len);
        }
        Ok(match range {
            RangeRequest::Full => response_body::whole(representation),
            RangeRequest::Part(range) => response_body::part(representation, range),
            RangeRequest::Parts(ranges) => response_body::parts(representation, &ranges),
            RangeRequest::Unsatisfiable => self
                .error(StatusCode::RANGE_NOT_SATISFIABLE)?
                .with_header(CONTENT_RANGE, format!("bytes */{len}")),
        })
    }

    /// Returns the page of a single-page application and its cache key. It is for navigations only:
    /// a request for a missing image or script gets its 404.
    fn application_page(&self) -> Result<(CacheKey<'static>, Arc<Representation>), ServeError> {
        let Some(application) = self.tree.rules.application(self.path()) else {
            return Err(OpenError::NotFound.into());
        };
        let name = application.page.as_str().as_bytes();
        let page = Escaped(name);
        if let Err(reason) = negotiation::check_navigation(self.request.fields()) {
            explain!(
                "spa",
                "{page} is not used because {reason}, so this is no navigation"
            );
            return Err(OpenError::NotFound.into());
        }
        explain!(
            "spa",
            "{page} answers the navigation because there is no such file"
        );
        self.page(name, PageUse::Application)
    }

    /// Returns the response to a request whose file or folder cannot be opened.
    pub(super) fn open_error(&self, error: &OpenError) -> Result<Response, Postponed> {
        let status = match error {
            OpenError::NotFound if self.tree.is_lost() => {
                explain!(
                    "file",
                    "the folder was replaced by one that cannot be opened: 503"
                );
                return Ok(Response::unavailable("the folder cannot be opened"));
            }
            OpenError::NotFound => StatusCode::NOT_FOUND,
            OpenError::Forbidden => StatusCode::FORBIDDEN,
            OpenError::OutOfDescriptors => {
                return Ok(Response::unavailable("out of file descriptors or memory"));
            }
            OpenError::Modified | OpenError::WouldBlock => {
                return Ok(Response::unavailable(
                    "the file is being modified; try again",
                ));
            }
            OpenError::Failed(error) => {
                log::error!("files: cannot serve {:?}: {error}", self.request.target());
                StatusCode::INTERNAL_SERVER_ERROR
            }
        };
        self.error(status)
    }

    /// Returns the site's page for a status, or the built-in one.
    fn error(&self, status: StatusCode) -> Result<Response, Postponed> {
        let rules = &self.tree.rules;
        match self.error_page(status)? {
            Some(page) => {
                let mut response = Response::new(status)
                    .with_header(CONTENT_TYPE, page.media_type.clone())
                    .with_header(VARY, "Accept")
                    .with_body(page.body(page.full_range()));
                rules.add_security_headers(response.headers_mut());
                Ok(response)
            }
            None => {
                let format = negotiation::response_format(self.request.fields());
                Ok(rules.built_in_page(status, format, self.request))
            }
        }
    }

    /// Returns the site's page for a status, if it has one, unless the client prefers JSON.
    fn error_page(&self, status: StatusCode) -> Result<Option<Arc<Representation>>, Postponed> {
        let Some(name) = self.tree.rules.error_page(status) else {
            return Ok(None);
        };
        if negotiation::response_format(self.request.fields()) == ResponseFormat::Json {
            return Ok(None);
        }
        explain!(
            "error",
            "the page for status {} is {}",
            status.as_u16(),
            Escaped(name)
        );
        match self.page(name, PageUse::Error) {
            Ok((_, page)) => Ok(Some(page)),
            Err(ServeError::Postponed(postponed)) => Err(postponed),
            Err(ServeError::Open(_)) => Ok(None),
        }
    }
}

/// Marks a response that is made after the path itself and its slash variant were found missing, and the
/// target of a rewrite of missing paths was looked up, if there is one.
fn of_fallback(response: Response) -> Response {
    response
        .depending_on(Dependency::SlashVariant)
        .depending_on(Dependency::Fallback)
}

/// True if the root is a folder mounted at a path prefix, and the request names the prefix without
/// a trailing slash: relative links in the index would resolve against the prefix's parent.
fn is_prefix_without_slash(rules: &Rules, request: &Request<'_>) -> bool {
    rules.scope == ServeScope::Tree
        && request.path_bytes() == b"/"
        && !request.full_path_bytes().ends_with(b"/")
}

/// Returns a 301 to the same path with a slash.
fn add_slash(rules: &Rules, request: &Request<'_>) -> Response {
    explain!(
        "path",
        "a folder's path ends with a slash, so the client is redirected there"
    );
    let path = [request.full_path_bytes(), b"/"].concat();
    redirect_to(&path, rules, request).depending_on(Dependency::SlashVariant)
}

/// Returns a 301 to the same path without its slash.
fn remove_slash(rules: &Rules, request: &Request<'_>) -> Response {
    explain!(
        "clean",
        "the page's path has no slash at its end, so the client is redirected there"
    );
    let path = request.full_path_bytes();
    let path = path.strip_suffix(b"/").unwrap_or(path);
    redirect_to(path, rules, request).depending_on(Dependency::SlashVariant)
}

/// Returns a 301 to a decoded path, with the request's query. The path is encoded and begins with
/// exactly one slash, so it cannot name another server.
fn redirect_to(path: &[u8], rules: &Rules, request: &Request<'_>) -> Response {
    let mut location = target::encode_path(path);
    if let Some(query) = request.query_str() {
        location.push('?');
        location.push_str(query);
    }
    let status = StatusCode::MOVED_PERMANENTLY;
    let response = Response::text(format!("{status}\n"))
        .with_status(status)
        .with_header(LOCATION, location);
    rules.add_headers_without_caching(response, request.path_bytes())
}

fn explain_validators(
    fields: &Fields<'_>,
    representation: &Representation,
    precondition: Precondition,
) {
    let name = Escaped(&representation.name);
    if let Some(tag) = &representation.validators.etag {
        let why = if representation.is_mtime_stable() {
            ""
        } else {
            ", weak because the file is less than two seconds old"
        };
        explain!("etag", "{} for {name}{why}", tag.to_field());
    }
    let outcome = match precondition {
        Precondition::Proceed => "the request proceeds",
        Precondition::NotModified => "the client has the current version: 304",
        Precondition::Failed => "the file is not in the required version: 412",
    };
    for name in conditional::PRECONDITIONS {
        for value in fields.all(name) {
            explain!("condition", "{name}: {}: {outcome}", Escaped(value));
        }
    }
}

fn explain_range(request: &Request<'_>, range: &RangeRequest, len: u64) {
    let Some(asked) = request.fields().first("range").map(Escaped) else {
        return;
    };
    match range {
        RangeRequest::Full => {
            let why = match (request.method(), request.header("if-range")) {
                (&Method::GET, None) => "its form is unknown, or the file is empty",
                (&Method::GET, Some(_)) => "If-Range names another version",
                _ => "ranges apply to GET only",
            };
            explain!(
                "range",
                "{asked} is ignored and the whole file is sent: {why}"
            );
        }
        RangeRequest::Part(part) => {
            explain!("range", "{asked} selects {} of {len} bytes", part.len());
        }
        RangeRequest::Parts(parts) => {
            explain!(
                "range",
                "{asked} selects {} parts of {len} bytes",
                parts.len()
            );
        }
        RangeRequest::Unsatisfiable => {
            explain!("range", "{asked} is beyond the end of {len} bytes: 416");
        }
    }
}
