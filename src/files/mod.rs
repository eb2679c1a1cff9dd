//! Requests for files: folders as a [`Handler`]. It knows no sockets and no connections.
//!
//! The pipeline, as [`answer`](Hosts::answer) has it: host → method → redirect rules → what stands
//! at the path ([`tree`], through [`resolve`] and [`root`], the only place that opens) → content
//! coding → preconditions → ranges → response.
//!
//! What comes the other way, if it may come at all, is [`upload`]'s.
//!
//! All of it runs on the event loop, unless something takes blocking: to open or read what is not in
//! the kernel's memory, to hash or to compress a file, to read a folder. Then the whole pipeline is
//! run again on a helper thread of the disk that is concerned, which has it.

mod cache;
mod compress;
mod inotify;
mod listing;
mod media_type;
mod representation;
mod resolve;
mod response_body;
mod response_file;
mod root;
mod rules;
mod tree;
mod upload;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ::http::header::{CONTENT_RANGE, CONTENT_SECURITY_POLICY, CONTENT_TYPE, LOCATION, VARY};
use ::http::{HeaderMap, Method, StatusCode};

use crate::body::BodyStream;
use crate::error::Error;
use crate::explain_log::{self, Escaped, explain};
use crate::handler::{BodyPolicy, Handler, Outcome};
use crate::http::conditional::{self, Precondition};
use crate::http::negotiation::{self, AcceptEncoding, ResponseFormat};
use crate::http::range::RangeRequest;
use crate::http::response::{allowing, method_not_allowed};
use crate::http::{Body, Fields, Rejection, Request, Response, cors, error_page, target};
use crate::site::{HostName, Listing, Site};
pub use cache::CacheStats;
use listing::{Entries, SortOrder, UploadForm};
use representation::Representation;
use resolve::{Resolved, file_name};
use root::{Blocking, OpenError};
use rules::{DotFiles, Rules, ServeScope};
use tree::{LookupResult, RootSnapshot, ServeError, Tree};

/// Serves a directory tree, or a single file, for GET and HEAD; if its site says so, takes files
/// for the tree, too.
///
/// ```no_run
/// use tws::{Config, Server, StaticFiles};
///
/// # fn main() -> Result<(), tws::Error> {
/// Server::bind(Config::default())?.serve(StaticFiles::new("www")?)
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct StaticFiles {
    inner: Arc<Hosts>,
}

#[derive(Debug)]
struct Hosts {
    default: Tree,
    hosts: Vec<(Vec<HostName>, Tree)>,
}

impl StaticFiles {
    /// Serves what lies beneath `path`; if that is a file, the file, at `/` and at its name.
    ///
    /// # Errors
    ///
    /// [`Error::Path`] if there is no such file or folder, or it may not be read.
    pub fn new(path: impl AsRef<Path>) -> Result<Self, Error> {
        Self::with_site(path, &Site::default())
    }

    /// Serves what lies beneath `path` by the rules of a site, and its other hosts.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new), for the hosts' roots too; [`Error::System`] if the system has no
    /// memory for a generated file.
    pub fn with_site(path: impl AsRef<Path>, site: &Site) -> Result<Self, Error> {
        let path = path.as_ref();
        let default = Tree::open(path, site)?;
        let mut hosts = Vec::new();
        for host in &site.hosts {
            let root = host.root.as_deref().unwrap_or(Path::new("."));
            let tree = Tree::open(&path.join(root), host)?;
            hosts.push((host.names.clone(), tree));
        }
        let inner = Arc::new(Hosts { default, hosts });
        let files = Self { inner };
        for missing in files.missing_files() {
            log::warn!("{missing} is not in the root or not readable");
        }
        Ok(files)
    }

    /// The files that the site's rules name and that cannot be served now, as `spa: index.html`: they
    /// may come later, or be misspelt.
    pub fn missing_files(&self) -> Vec<String> {
        let hosts = self.inner.hosts.iter().map(|(_, tree)| tree);
        let all = std::iter::once(&self.inner.default).chain(hosts);
        all.flat_map(Tree::missing_files).collect()
    }

    /// True if a file stands where a request leads, be it a GET or not. Whether the client would
    /// rather have another form of it, or has it already, is not looked at. It may wait for a disk.
    pub fn finds(&self, request: &Request<'_>) -> bool {
        let tree = self.inner.tree(request);
        let at = tree.snapshot(Blocking::Allowed);
        let path = request.path_bytes();
        let resolved = || resolve::resolve(&tree.rules, &at.root, path, Blocking::Allowed);
        tree.rules.redirect(request).is_none() && matches!(resolved(), Ok(Resolved::File(..)))
    }

    /// How often versions of files were looked for, and what came of it, for all hosts together.
    pub fn cache_counts(&self) -> CacheStats {
        let mut sum = self.inner.default.counts();
        let hosts = self.inner.hosts.iter();
        hosts.for_each(|(_, tree)| sum.add(tree.counts()));
        sum
    }

    /// Never serves the file at `path`, which is relative to the root, on any host whose root it
    /// lies beneath. Call it before the server starts.
    pub fn hiding(mut self, path: &Path) -> Self {
        if let Some(Hosts { default, hosts }) = Arc::get_mut(&mut self.inner) {
            let path = default.path.join(path);
            default.hide(&path);
            hosts.iter_mut().for_each(|(_, tree)| tree.hide(&path));
        }
        self
    }
}

/// Content in a GET means nothing (RFC 9110 §9.3.1); a little is read past, to keep the connection.
const MAX_IGNORED_BYTES: usize = 64 * 1024;

impl Handler for StaticFiles {
    fn handle(&self, request: &Request<'_>) -> Outcome {
        if self.inner.tree(request).takes(request.method()) {
            return self.inner.take(request);
        }
        match self.inner.answer(request, Blocking::Forbidden) {
            Ok(response) => response.into(),
            Err(WouldBlock) => {
                let inner = Arc::clone(&self.inner);
                let device = inner.tree(request).device_of(request.path_bytes());
                let request = request.clone().into_owned();
                let job = move || {
                    let answer = inner.answer(&request, Blocking::Allowed);
                    answer.unwrap_or_else(|WouldBlock| {
                        Response::fault("files: a blocking lookup would block")
                    })
                };
                Outcome::BlockingOnDisk(device, Box::new(job))
            }
        }
    }

    fn admit(&self, request: &Request<'_>) -> BodyPolicy {
        let tree = self.inner.tree(request);
        match request.method() {
            method if tree.takes(method) => tree.admit_upload(request),
            method if tree.allowed().contains(method) => BodyPolicy::Buffer {
                max: MAX_IGNORED_BYTES,
            },
            _ => BodyPolicy::Reject(tree.reject_method(request)),
        }
    }

    fn reject(&self, request: &Request<'_>, refusal: Rejection) -> Response {
        error_page::instead_of(refusal.into(), request.fields())
    }

    fn shed(&self) {
        self.inner.shed();
    }
}

/// Entries that listings on their way out may hold in all: a client that does not read its listing
/// keeps it, at some 50 bytes an entry.
const MAX_LISTED: usize = 2_000_000;

/// A part of something there is only so much of, given back when it is dropped.
struct SemaphorePermit {
    taken: Arc<AtomicUsize>,
    count: usize,
}

impl SemaphorePermit {
    fn take(taken: &Arc<AtomicUsize>, count: usize, max: usize) -> Option<Self> {
        let before = taken.fetch_add(count, Ordering::Relaxed);
        let place = Self {
            taken: Arc::clone(taken),
            count,
        };
        (before + count <= max).then_some(place)
    }
}

impl Drop for SemaphorePermit {
    fn drop(&mut self) {
        self.taken.fetch_sub(self.count, Ordering::Relaxed);
    }
}

/// The answer takes blocking that the thread at hand does not have.
struct WouldBlock;

impl Hosts {
    fn shed(&self) {
        let trees = self.hosts.iter().map(|(_, tree)| tree);
        trees.chain([&self.default]).for_each(Tree::shed);
    }

    fn answer(&self, request: &Request<'_>, blocking: Blocking) -> Result<Response, WouldBlock> {
        let tree = self.tree(request);
        match *request.method() {
            Method::GET | Method::HEAD => {}
            Method::OPTIONS => return Ok(tree.options(request)),
            _ => return Ok(tree.reject_method(request)),
        }
        if let Some(elsewhere) = tree.rules.redirect(request) {
            return Ok(elsewhere);
        }
        if tree.is_named_as_file(request) {
            return Ok(tree.add_slash(request));
        }
        let at = tree.snapshot(blocking);
        let served = match tree.serve(&at, request, blocking) {
            // What is kept open for speed may be in the way.
            Err(ServeError::Open(OpenError::OutOfDescriptors)) => {
                self.shed();
                tree.serve(&at, request, blocking)
            }
            served => served,
        };
        match served {
            Ok(response) => Ok(response),
            Err(ServeError::WouldBlock) => Err(WouldBlock),
            Err(ServeError::Open(miss)) => tree.miss(&at, request, miss, blocking),
        }
    }

    /// The site that the client asks for; a name that no site has means the default one.
    fn tree(&self, request: &Request<'_>) -> &Tree {
        if self.hosts.is_empty() {
            explain!(
                "host",
                "{} is served whatever the Host, because there is no [[host]]",
                self.default.path.display()
            );
            return &self.default;
        }
        let Some(host) = request.host() else {
            explain!(
                "host",
                "the request names no host, so the default site is used"
            );
            return &self.default;
        };
        let host = host.to_ascii_lowercase();
        let exact = |name: &HostName| name.as_str() == host;
        let wildcard = |name: &HostName| {
            let suffix = name.as_str().strip_prefix('*');
            suffix.is_some_and(|suffix| host.len() > suffix.len() && host.ends_with(suffix))
        };
        let named = |matches: &dyn Fn(&HostName) -> bool| {
            self.hosts.iter().find_map(|(names, tree)| {
                let name = names.iter().find(|name| matches(name))?;
                Some((name.as_str(), tree))
            })
        };
        match named(&exact).or_else(|| named(&wildcard)) {
            Some((name, tree)) => {
                let path = tree.path.display();
                explain!(
                    "host",
                    "{} matches [[host]] {name}, served from {path}",
                    Escaped(host.as_bytes())
                );
                tree
            }
            None => {
                let (host, path) = (Escaped(host.as_bytes()), self.default.path.display());
                explain!(
                    "host",
                    "{host} matches no [[host]], so the default site is used: {path}"
                );
                &self.default
            }
        }
    }
}

fn explain_validators(fields: &Fields<'_>, version: &Representation, outcome: Precondition) {
    let name = Escaped(&version.name);
    if let Some(tag) = &version.validators.etag {
        let why = match version.is_mtime_stable() {
            true => "",
            false => ", weak because the file is less than two seconds old",
        };
        explain!("etag", "{} for {name}{why}", tag.to_field());
    }
    let outcome = match outcome {
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

impl Tree {
    fn serve(
        &self,
        at: &RootSnapshot,
        request: &Request<'_>,
        blocking: Blocking,
    ) -> Result<Response, ServeError> {
        let path = request.path_bytes();
        match self.find(at, path, blocking) {
            Ok(LookupResult::Representation(plain)) => {
                let accepted = AcceptEncoding::parse(request.fields());
                let version = self.encoded(at, path, plain, accepted, blocking)?;
                Ok(self.represent(at, request, &version, blocking)?)
            }
            Ok(LookupResult::MissingSlash) => Ok(self.add_slash(request)),
            Ok(LookupResult::NoIndex) if self.rules.listing == Listing::On => {
                explain!("listing", "on, so the entries of the folder are listed");
                self.list(at, request, blocking)
            }
            found @ (Ok(LookupResult::NoIndex) | Err(ServeError::Open(OpenError::NotFound))) => {
                if let Ok(LookupResult::NoIndex) = found {
                    explain!(
                        "listing",
                        "off, so the folder is not listed (--listing on lists it)"
                    );
                }
                let (key, page) = self.application_page(at, request, blocking)?;
                let accepted = AcceptEncoding::parse(request.fields());
                let page = self.encoded(at, &key, page, accepted, blocking)?;
                Ok(self.represent(at, request, &page, blocking)?)
            }
            Err(halt) => Err(halt),
        }
    }

    /// 304, 412, 416, 206 or 200 (RFC 9110 §13.2.2, §14.2).
    fn represent(
        &self,
        at: &RootSnapshot,
        request: &Request<'_>,
        version: &Representation,
        blocking: Blocking,
    ) -> Result<Response, WouldBlock> {
        let fields = request.fields();
        let precondition = conditional::evaluate(request.method(), fields, &version.validators);
        if explain_log::is_explained() {
            explain_validators(fields, version, precondition);
        }
        match precondition {
            Precondition::NotModified => {
                let unchanged = &version.unchanged;
                return Ok(Response::prepared(StatusCode::NOT_MODIFIED, unchanged));
            }
            Precondition::Failed => {
                let status = StatusCode::PRECONDITION_FAILED;
                return self.error(at, request, status, blocking);
            }
            Precondition::Proceed => {}
        }
        let range = match *request.method() {
            Method::GET => conditional::range_of(fields, &version.validators, version.len),
            // Ranges are for GET.
            _ => RangeRequest::Full,
        };
        if explain_log::is_explained() {
            explain_range(request, &range, version.len);
        }
        Ok(match range {
            RangeRequest::Full => response_body::whole(version),
            RangeRequest::Part(part) => response_body::part(version, part),
            RangeRequest::Parts(parts) => response_body::parts(version, &parts),
            RangeRequest::Unsatisfiable => self
                .error(at, request, StatusCode::RANGE_NOT_SATISFIABLE, blocking)?
                .with_header(CONTENT_RANGE, format!("bytes */{}", version.len)),
        })
    }

    /// The page of a single-page application, for navigations only: what asks for an image or a
    /// script that is missing must hear that it is missing.
    fn application_page(
        &self,
        at: &RootSnapshot,
        request: &Request<'_>,
        blocking: Blocking,
    ) -> Result<(Vec<u8>, Arc<Representation>), ServeError> {
        let Some(name) = &self.rules.spa else {
            return Err(OpenError::NotFound.into());
        };
        let page = Escaped(name);
        let path = request.path_bytes();
        let last = file_name(path);
        if last.contains(&b'.') {
            explain!(
                "spa",
                "{page} is not used because {} contains a dot, as file names do",
                Escaped(last)
            );
            return Err(OpenError::NotFound.into());
        }
        if !negotiation::accepts_html_navigation(request.fields()) {
            explain!(
                "spa",
                "{page} is not used because Accept lacks text/html, so this is no navigation"
            );
            return Err(OpenError::NotFound.into());
        }
        explain!(
            "spa",
            "{page} answers the navigation because there is no such file"
        );
        let page = self.file(at, name, Rules::set_no_cache, blocking)?;
        // Kept apart from the same file under its own name.
        Ok(([b"\0", &name[..]].concat(), page))
    }

    /// True if the root is a folder that is nested below a prefix, and the prefix is asked for
    /// without a slash: links in its index would lead elsewhere.
    fn is_named_as_file(&self, request: &Request<'_>) -> bool {
        self.rules.scope == ServeScope::Tree
            && request.path_bytes() == b"/"
            && !request.full_path_bytes().ends_with(b"/")
    }

    /// 301 to a directory's own address. The path is encoded anew and starts with one slash, so
    /// that it can lead nowhere else.
    fn add_slash(&self, request: &Request<'_>) -> Response {
        explain!(
            "path",
            "a folder's path ends with a slash, so the client is redirected there"
        );
        let mut location = target::encode_path(request.full_path_bytes());
        location.push('/');
        if let Some(query) = request.query() {
            location.push('?');
            location.push_str(query);
        }
        let status = StatusCode::MOVED_PERMANENTLY;
        let response = Response::text(format!("{status}\n"))
            .with_status(status)
            .with_header(LOCATION, location);
        self.rules
            .add_headers_without_caching(response, request.path_bytes())
    }

    fn list(
        &self,
        at: &RootSnapshot,
        request: &Request<'_>,
        blocking: Blocking,
    ) -> Result<Response, ServeError> {
        if blocking == Blocking::Forbidden {
            return Err(ServeError::WouldBlock);
        }
        let path = request.path_bytes();
        let name = path.strip_prefix(b"/").unwrap_or(path);
        let directory = at.root.directory(name)?;
        let stat = |entry: &[u8]| at.root.stat(&[name, entry].concat());
        let mut entries =
            Entries::read(&directory, self.rules.dot_files, stat).map_err(OpenError::Failed)?;
        entries.omit(crate::site::SITE_FILE.as_bytes());
        if !name.is_empty() && self.rules.dot_files == DotFiles::Hidden {
            // Public at the top only.
            entries.omit(b".well-known");
        }
        for secret in &self.rules.hidden_names {
            if let Some(entry) = secret
                .strip_prefix(name)
                .filter(|rest| !rest.contains(&b'/'))
            {
                entries.omit(entry);
            }
        }
        let form = match negotiation::response_format(request.fields()) {
            ResponseFormat::Json => listing::ListingFormat::Json,
            ResponseFormat::Html | ResponseFormat::Text => {
                listing::ListingFormat::from_query(request.query())
            }
        };
        let order = SortOrder::from_query(request.query());
        let Some(place) = SemaphorePermit::take(&self.listed, entries.len(), MAX_LISTED) else {
            return Ok(Response::unavailable(
                "too many folder listings in progress; try again",
            ));
        };
        let upload_form = match self.uploads {
            Some(_) => UploadForm::Shown,
            None => UploadForm::Absent,
        };
        let mut listing = listing::ListingRenderer::new(entries, path, order, form, upload_form);
        let produce = move || {
            let _held_until_the_end = &place;
            Ok(listing.next_piece())
        };
        let stream = BodyStream::produced(produce);
        let response = Response::new(StatusCode::OK).with_body(Body::Stream(stream));
        let response = self
            .rules
            .add_headers_without_caching(response, path)
            .with_header(VARY, "Accept");
        Ok(match form {
            listing::ListingFormat::Json => response.with_header(CONTENT_TYPE, "application/json"),
            listing::ListingFormat::Html => response
                .with_header(CONTENT_TYPE, "text/html; charset=utf-8")
                .with_header(CONTENT_SECURITY_POLICY, listing::policy(upload_form)),
        })
    }

    /// What files know.
    fn allowed(&self) -> &'static [Method] {
        const READING: &[Method] = &[Method::GET, Method::HEAD, Method::OPTIONS];
        const BOTH: &[Method] = &[
            Method::GET,
            Method::HEAD,
            Method::OPTIONS,
            Method::POST,
            Method::PUT,
        ];
        match self.uploads {
            Some(_) => BOTH,
            None => READING,
        }
    }

    /// The methods there are; and for a page of another origin, that it may ask (Fetch §4.8).
    fn options(&self, request: &Request<'_>) -> Response {
        let mut response = allowing(Response::new(StatusCode::NO_CONTENT), self.allowed());
        self.rules.add_security_headers(response.headers_mut());
        match cors::is_preflight(request) && self.rules.cors.is_some() {
            true => cors::permit(response, "GET, HEAD"),
            false => response,
        }
    }

    /// 405 or 501, in the form the client prefers.
    fn reject_method(&self, request: &Request<'_>) -> Response {
        let method = request.method();
        if matches!(*method, Method::PUT | Method::POST) {
            explain!(
                "method",
                "{method} needs uploads, which are off (--upload turns them on)"
            );
        } else {
            explain!("method", "{method} is not supported for files");
        }
        let plain = method_not_allowed(method, self.allowed());
        let mut response = error_page::instead_of(plain, request.fields());
        self.rules.add_security_headers(response.headers_mut());
        response
    }

    fn miss(
        &self,
        at: &RootSnapshot,
        request: &Request<'_>,
        miss: OpenError,
        blocking: Blocking,
    ) -> Result<Response, WouldBlock> {
        let status = match miss {
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
                log::error!("files: cannot serve {:?}: {error}", request.target());
                StatusCode::INTERNAL_SERVER_ERROR
            }
        };
        self.error(at, request, status, blocking)
    }

    /// The site's page for a status, or ours.
    fn error(
        &self,
        at: &RootSnapshot,
        request: &Request<'_>,
        status: StatusCode,
        blocking: Blocking,
    ) -> Result<Response, WouldBlock> {
        let form = negotiation::response_format(request.fields());
        let mut response = match self.error_page(at, status, blocking)? {
            Some(page) if form != ResponseFormat::Json => Response::new(status)
                .with_header(CONTENT_TYPE, page.media_type.clone())
                .with_header(VARY, "Accept")
                .with_body(page.body(page.full_range())),
            _ => error_page::page(status, form),
        };
        self.rules.add_security_headers(response.headers_mut());
        Ok(response)
    }

    fn error_page(
        &self,
        at: &RootSnapshot,
        status: StatusCode,
        blocking: Blocking,
    ) -> Result<Option<Arc<Representation>>, WouldBlock> {
        let Some(name) = self.rules.error_page(status) else {
            return Ok(None);
        };
        explain!(
            "error",
            "the page for status {} is {}",
            status.as_u16(),
            Escaped(name)
        );
        match self.file(at, name, |_: &mut HeaderMap| {}, blocking) {
            Ok(page) => Ok(Some(page)),
            Err(ServeError::WouldBlock) => Err(WouldBlock),
            Err(ServeError::Open(_)) => Ok(None),
        }
    }

    /// The files that the rules name and that cannot be served now.
    fn missing_files(&self) -> impl Iterator<Item = String> {
        let at = self.snapshot(Blocking::Allowed);
        let is_missing = move |(_, name): &(String, &[u8])| {
            let opened = at.root.get(name, Blocking::Allowed);
            !matches!(opened, Ok(root::OpenedPath::File(_)))
        };
        let mentioned = self.rules.mentioned().filter(is_missing);
        mentioned.map(|(rule, name)| format!("{rule}: {}", String::from_utf8_lossy(name)))
    }
}
