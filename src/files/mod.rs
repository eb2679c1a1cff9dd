//! Requests for files: a directory tree as a [`Handler`]. It knows no sockets and keeps no state.
//!
//! The pipeline: method → path → [`resolve`] (through [`root`], the only place that opens) →
//! preconditions → range → response.

mod error_page;
mod listing;
mod media_type;
mod resolve;
mod root;

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::Path;

use ::http::header::{
    ACCEPT_RANGES, ALLOW, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderValue, LAST_MODIFIED, LOCATION,
};
use ::http::{Method, StatusCode};
use bytes::Bytes;

use crate::error::Error;
use crate::h1::outbox::SMALL_CONTENT_BYTES;
use crate::handler::{Admission, Handler, Reply};
use crate::http::conditional::{self, Precondition};
use crate::http::range::{ByteRange, RangeRequest};
use crate::http::response::method_not_allowed;
use crate::http::{Body, FileRange, Request, Response, date, target};
use crate::site::{self, ErrorStatus, Site};
use resolve::{CleanUrls, Destination, Representation, Resolved, Rules, Scope};
use root::{Miss, Root};

/// Serves a directory tree, or a single file, for GET and HEAD.
///
/// ```no_run
/// use tws::{Config, Server, StaticFiles};
///
/// # fn main() -> Result<(), tws::Error> {
/// Server::bind(Config::default())?.serve(StaticFiles::new("www")?)
/// # }
/// ```
#[derive(Debug)]
pub struct StaticFiles {
    root: Root,
    rules: Rules,
    error_pages: BTreeMap<ErrorStatus, String>,
}

impl StaticFiles {
    /// Serves what lies beneath `path`; if that is a file, the file, at `/` and at its name.
    ///
    /// # Errors
    ///
    /// [`Error::Path`] if there is no such file or folder, or it may not be read.
    pub fn new(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        let failed = |source| Error::path("serve", path, source);
        let metadata = std::fs::metadata(path).map_err(failed)?;
        let mut rules = Rules {
            index: vec!["index.html".to_owned()],
            clean_urls: CleanUrls::Off,
            routes: HashMap::new(),
            scope: Scope::Tree,
            hidden: Vec::new(),
        };
        let root = if metadata.is_dir() {
            Root::open(path).map_err(failed)?
        } else {
            // Canonical, so that it has a parent and a name, and is no link.
            let file = path.canonicalize().map_err(failed)?;
            let (Some(parent), Some(name)) = (file.parent(), file.file_name()) else {
                return Err(failed(io::ErrorKind::NotFound.into()));
            };
            if !metadata.is_file() {
                return Err(failed(io::Error::other(
                    "it is neither a folder nor a file",
                )));
            }
            std::fs::File::open(&file).map_err(failed)?;
            let name = name.as_bytes().to_vec();
            let address = [b"/", &name[..]].concat();
            rules.scope = Scope::Nothing;
            for path in [b"/".to_vec(), address] {
                rules.routes.insert(path, Destination::File(name.clone()));
            }
            Root::open(parent).map_err(failed)?
        };
        Ok(Self {
            root,
            rules,
            error_pages: BTreeMap::new(),
        })
    }

    /// Follows what a site says about itself.
    ///
    /// # Errors
    ///
    /// [`Error::System`] if the system has no memory for a generated file.
    pub fn with_site(mut self, site: &Site) -> Result<Self, Error> {
        if !site.index.is_empty() {
            self.rules.index.clone_from(&site.index);
        }
        if site.clean_urls {
            self.rules.clean_urls = CleanUrls::On;
        }
        for route in &site.routes {
            let path = route.path.as_bytes();
            let destination = match &route.source {
                site::Source::File(name) => Destination::File(name.clone().into_bytes()),
                site::Source::Zeros(len) => resolve::zeros(path, *len)
                    .map(Destination::Generated)
                    .map_err(Error::system("make the file of a route with a size"))?,
            };
            self.rules.routes.insert(path.to_vec(), destination);
        }
        self.error_pages.clone_from(&site.error_pages);
        self.warn_of_missing_files();
        Ok(self)
    }

    /// Never serves `name`, which is relative to the root.
    pub fn hiding(mut self, name: &Path) -> Self {
        self.rules.hidden.push(name.as_os_str().as_bytes().to_vec());
        self
    }

    fn warn_of_missing_files(&self) {
        let routes = self.rules.routes.values().filter_map(|to| match to {
            Destination::File(name) => Some(&name[..]),
            Destination::Generated(_) => None,
        });
        let pages = self.error_pages.values().map(String::as_bytes);
        for name in routes.chain(pages) {
            if self.rules.file(&self.root, name).is_err() {
                let name = String::from_utf8_lossy(name);
                log::warn!("the site file names {name:?}, which cannot be served now");
            }
        }
    }

    fn respond(&self, request: &Request<'_>) -> Response {
        match *request.method() {
            Method::GET | Method::HEAD => {}
            Method::OPTIONS => {
                return Response::new(StatusCode::NO_CONTENT)
                    .with_header(ALLOW, "GET, HEAD, OPTIONS");
            }
            ref method => return method_not_allowed(method, ALLOWED),
        }
        match self.rules.resolve(&self.root, request.path_bytes()) {
            Ok(Resolved::Representation(found)) => self.represent(request, &found),
            Ok(Resolved::Redirect(path)) => redirect(&path, request.query()),
            Err(miss) => self.miss(request, miss),
        }
    }

    fn represent(&self, request: &Request<'_>, found: &Representation) -> Response {
        let fields = request.fields();
        match conditional::evaluate(request.method(), fields, &found.validators) {
            Precondition::NotModified => {
                return with_validators(Response::new(StatusCode::NOT_MODIFIED), found);
            }
            Precondition::Failed => return self.error(StatusCode::PRECONDITION_FAILED),
            Precondition::Proceed => {}
        }
        let range = match *request.method() {
            // RFC 9110 §14.2: ranges are for GET.
            Method::GET => conditional::range_of(fields, &found.validators, found.len),
            _ => RangeRequest::Whole,
        };
        let whole = ByteRange {
            start: 0,
            end: found.len,
        };
        match range {
            RangeRequest::Unsatisfiable => self
                .error(StatusCode::RANGE_NOT_SATISFIABLE)
                .with_header(CONTENT_RANGE, format!("bytes */{}", found.len)),
            // A body has one part for now; a Range field may always be ignored (RFC 9110 §14.2).
            RangeRequest::Whole | RangeRequest::Parts(_) => {
                content(request, found, whole, StatusCode::OK)
            }
            RangeRequest::Part(part) => content(request, found, part, StatusCode::PARTIAL_CONTENT)
                .with_header(CONTENT_RANGE, part.content_range(found.len)),
        }
    }

    fn miss(&self, request: &Request<'_>, miss: Miss) -> Response {
        match miss {
            Miss::NotFound => self.error(StatusCode::NOT_FOUND),
            Miss::Forbidden => self.error(StatusCode::FORBIDDEN),
            Miss::Overloaded => Response::unavailable("out of file descriptors or memory"),
            Miss::Failed(error) => {
                log::error!("{:?}: {error}", request.target());
                self.error(StatusCode::INTERNAL_SERVER_ERROR)
            }
        }
    }

    /// The site's page for a status, or ours.
    fn error(&self, status: StatusCode) -> Response {
        let page = self.error_pages.get(&status.into());
        let found = page.map(|name| self.rules.file(&self.root, name.as_bytes()));
        match found {
            Some(Ok(Resolved::Representation(page))) => Response::new(status)
                .with_header(CONTENT_TYPE, page.media_type.clone())
                .with_body(body(
                    &page,
                    ByteRange {
                        start: 0,
                        end: page.len,
                    },
                )),
            _ => error_page::page(status),
        }
    }
}

/// What files know.
const ALLOWED: &[Method] = &[Method::GET, Method::HEAD, Method::OPTIONS];

/// Content in a GET means nothing (RFC 9110 §9.3.1); a little is read past, to keep the connection.
const MAX_IGNORED_BYTES: usize = 64 * 1024;

impl Handler for StaticFiles {
    fn admit(&self, request: &Request<'_>) -> Admission {
        match ALLOWED.contains(request.method()) {
            true => Admission::AtMost(MAX_IGNORED_BYTES),
            false => Admission::Refuse(method_not_allowed(request.method(), ALLOWED)),
        }
    }

    fn handle(&self, request: &Request<'_>) -> Reply {
        self.respond(request).into()
    }
}

fn content(
    request: &Request<'_>,
    found: &Representation,
    range: ByteRange,
    status: StatusCode,
) -> Response {
    let body = match *request.method() {
        // Its length is told, its bytes are not: they need not be read.
        Method::HEAD => file_body(found, range),
        _ => body(found, range),
    };
    with_validators(Response::new(status), found)
        .with_header(ACCEPT_RANGES, HeaderValue::from_static("bytes"))
        .with_header(CONTENT_TYPE, found.media_type.clone())
        .with_body(body)
}

/// A small content is read now, to leave in one write with its head; a large one is left to the
/// connection, which sends it as the client takes it.
fn body(found: &Representation, range: ByteRange) -> Body {
    match usize::try_from(range.len()) {
        Ok(0) => Body::Empty,
        Ok(len) if len <= SMALL_CONTENT_BYTES => {
            let mut bytes = vec![0; len];
            match found.file.read_exact_at(&mut bytes, range.start) {
                Ok(()) => Body::Bytes(Bytes::from(bytes)),
                // It has shrunk, or the disk fails: the connection finds out and ends.
                Err(_) => file_body(found, range),
            }
        }
        _ => file_body(found, range),
    }
}

fn file_body(found: &Representation, range: ByteRange) -> Body {
    Body::File(FileRange {
        file: found.file.clone(),
        offset: range.start,
        len: range.len(),
    })
}

fn with_validators(response: Response, found: &Representation) -> Response {
    let validators = &found.validators;
    let tag = validators
        .etag
        .as_ref()
        .map(conditional::EntityTag::to_field);
    let response = match tag {
        Some(tag) => response.with_header(ETAG, tag),
        None => response,
    };
    match validators.last_modified {
        Some(modified) => response.with_header(LAST_MODIFIED, date::format(modified)),
        None => response,
    }
}

/// 301 to a directory's own address. The path is encoded anew and starts with one slash, so that
/// it can lead nowhere else.
fn redirect(path: &[u8], query: Option<&str>) -> Response {
    let mut location = target::encode_path(path);
    if let Some(query) = query {
        location.push('?');
        location.push_str(query);
    }
    let status = StatusCode::MOVED_PERMANENTLY;
    Response::text(format!("{status}\n"))
        .with_status(status)
        .with_header(LOCATION, location)
}
