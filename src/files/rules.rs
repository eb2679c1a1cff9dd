//! A site's settings in the form that requests need: routes by path, parsed fields, open generated
//! files.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::OnceLock;

use ::http::header::{CACHE_CONTROL, HeaderValue, VARY, X_CONTENT_TYPE_OPTIONS};
use ::http::{HeaderMap, StatusCode};
use rustix::fs::{MemfdFlags, Timespec, Timestamps, ftruncate, futimens, memfd_create};

use super::media_type::MediaTypes;
use super::root::{OpenedFile, OpenedPath, opened};
use crate::error::Error;
use crate::explain_log::{Escaped, explain};
use crate::http::negotiation::ResponseFormat;
use crate::http::response::{FieldLine, PreparedResponse};
use crate::http::{Request, Response, cors, error_page, target};
use crate::site::{
    self, Compress, ErrorStatus, EtagSource, FileName, HeaderRule, Listing, PatternIndex,
    RedirectRule, Site,
};

/// The rules of one site: redirects, routes, fields, and what is served at all.
#[derive(Debug)]
pub(super) struct Rules {
    pub(super) index: Vec<String>,
    pub(super) clean_urls: CleanUrls,
    pub(super) routes: HashMap<Vec<u8>, RouteTarget>,
    pub(super) scope: ServeScope,
    pub(super) dot_files: DotFiles,
    /// Names beneath the root that are never served, such as the password file.
    pub(super) hidden_names: Vec<Vec<u8>>,
    pub(super) listing: Listing,
    pub(super) compress: Compress,
    pub(super) etag: EtagSource,
    pub(super) spa: Option<Vec<u8>>,
    pub(super) cors: Option<HeaderValue>,
    pub(super) media_types: MediaTypes,
    pub(super) error_pages: BTreeMap<ErrorStatus, FileName>,
    built_in_pages: BuiltInPages,
    redirects: Vec<RedirectRule>,
    redirect_index: PatternIndex,
    headers: Vec<HeaderRule>,
    header_index: PatternIndex,
}

/// Whether `/about` is answered with `about.html`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CleanUrls {
    On,
    Off,
}

/// Whether names that begin with a dot are served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DotFiles {
    Served,
    Hidden,
}

/// The built-in pages of the errors that files have, each rendered when it is first sent.
#[derive(Debug, Default)]
struct BuiltInPages([[OnceLock<PreparedResponse>; 3]; FILE_ERRORS.len()]);

const FILE_ERRORS: [StatusCode; 5] = [
    StatusCode::NOT_FOUND,
    StatusCode::FORBIDDEN,
    StatusCode::PRECONDITION_FAILED,
    StatusCode::RANGE_NOT_SATISFIABLE,
    StatusCode::INTERNAL_SERVER_ERROR,
];

impl BuiltInPages {
    fn response(
        &self,
        status: StatusCode,
        format: ResponseFormat,
        render: impl FnOnce() -> Response,
    ) -> Response {
        match FILE_ERRORS.iter().position(|error| *error == status) {
            Some(at) => self.0[at][format as usize]
                .get_or_init(|| PreparedResponse::new(render()))
                .response(),
            None => render(),
        }
    }
}

/// What a route serves.
#[derive(Debug)]
pub(super) enum RouteTarget {
    /// The file of this name beneath the root.
    File(Vec<u8>),
    /// A file that exists only in memory.
    Generated(OpenedFile),
}

/// What is served besides the routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ServeScope {
    Tree,
    RoutesOnly,
}

impl Rules {
    pub(super) fn new(site: &Site) -> Result<Self, Error> {
        let mut routes = HashMap::new();
        for route in &site.routes {
            let target = match &route.source {
                site::RouteSource::File(name) => RouteTarget::File(name.as_str().into()),
                site::RouteSource::Zeros(len) => zeros(*len)
                    .map(RouteTarget::Generated)
                    .map_err(Error::system("create the generated file of a route"))?,
            };
            routes.insert(route.path.clone().into_bytes(), target);
        }
        let mut index: Vec<String> = site.index.iter().map(|name| name.as_str().into()).collect();
        if index.is_empty() {
            index.push("index.html".to_owned());
        }
        let origin = |origin: &site::Origin| HeaderValue::from_str(origin.as_str()).ok();
        Ok(Self {
            index,
            clean_urls: if site.clean_urls {
                CleanUrls::On
            } else {
                CleanUrls::Off
            },
            routes,
            scope: ServeScope::Tree,
            dot_files: if site.hidden {
                DotFiles::Served
            } else {
                DotFiles::Hidden
            },
            hidden_names: Vec::new(),
            listing: site.listing,
            compress: site.compress,
            etag: site.etag,
            spa: site.spa.as_ref().map(|name| name.as_str().into()),
            cors: site.cors.as_ref().and_then(origin),
            media_types: MediaTypes::new(site),
            error_pages: site.error_pages.clone(),
            built_in_pages: BuiltInPages::default(),
            redirects: site.redirects.clone(),
            redirect_index: PatternIndex::new(site.redirects.iter().map(|rule| &rule.from)),
            headers: site.headers.clone(),
            header_index: PatternIndex::new(site.headers.iter().map(|rule| &rule.path)),
        })
    }

    /// Returns the redirect of the first rule that matches the path. The query is kept, unless the
    /// rule's target has one.
    pub(super) fn redirect(&self, request: &Request<'_>) -> Option<Response> {
        let path = request.path_bytes();
        let found = self.redirect_index.first(path).and_then(|position| {
            let rule = &self.redirects[position];
            let captures = rule.from.matches(path)?;
            explain!("rule", "{rule} matches {}", Escaped(path));
            let mut location = rule.to.expand(&captures);
            // Paths in the rules of a nested site are relative to its prefix.
            if location.starts_with('/') && !location.starts_with("//") {
                location.insert_str(0, &target::encode_path(request.prefix_bytes()));
            }
            // Before a fragment, which may contain a question mark too (RFC 3986 §3).
            let end = location.find('#').unwrap_or(location.len());
            if let (Some(query), false) = (request.query_str(), location[..end].contains('?')) {
                location.insert_str(end, &format!("?{query}"));
            }
            Some(self.add_headers(Response::redirect(rule.status, &location), path))
        });
        if found.is_none() && !self.redirects.is_empty() {
            explain!("redirect", "no redirect for {}", Escaped(path));
        }
        found
    }

    /// True if a rule answers at this path, so that a file of its name would not be served.
    pub(super) fn shadows(&self, path: &[u8]) -> bool {
        self.routes.contains_key(path) || self.redirect_index.first(path).is_some()
    }

    /// Adds the site's fields for a path to those of a successful response.
    pub(super) fn add_fields(&self, path: &[u8], fields: &mut HeaderMap) {
        self.add_security_headers(fields);
        for position in self.header_index.all(path) {
            let rule = &self.headers[position as usize];
            for (name, value) in &rule.fields {
                explain!("rule", "{rule} sets {}", FieldLine(name, value));
                if *name == VARY {
                    fields.append(VARY, value.clone());
                } else {
                    fields.insert(name.clone(), value.clone());
                }
            }
        }
    }

    /// Returns the positions of the header rules that apply to a path.
    pub(super) fn header_rules(&self, path: &[u8]) -> Vec<u32> {
        self.header_index.all(path)
    }

    /// Adds the fields of every response, errors included.
    pub(super) fn add_security_headers(&self, fields: &mut HeaderMap) {
        fields.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        if let Some(origin) = &self.cors {
            cors::add_origin(origin, fields);
        }
    }

    /// As [`add_headers`](Self::add_headers), for a response that is not a file: Cache-Control
    /// rules are meant for files.
    pub(super) fn add_headers_without_caching(&self, response: Response, path: &[u8]) -> Response {
        let mut response = self.add_headers(response, path);
        response.headers_mut().remove(CACHE_CONTROL);
        response
    }

    fn add_headers(&self, mut response: Response, path: &[u8]) -> Response {
        self.add_fields(path, response.headers_mut());
        response
    }

    /// Sets the caching of a single-page application's page: it may change with every deploy, so a
    /// rule for the request's path must not apply.
    pub(super) fn set_no_cache(fields: &mut HeaderMap) {
        explain!(
            "rule",
            "spa sets Cache-Control: no-cache and overrides other rules"
        );
        fields.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        // Only requests that accept HTML get this page.
        fields.append(VARY, HeaderValue::from_static("Accept"));
    }

    /// Returns the names of the files that the rules mention.
    pub(super) fn mentioned_files(&self) -> impl Iterator<Item = (String, &[u8])> {
        let routes = self.routes.iter().filter_map(|(path, to)| match to {
            RouteTarget::File(name) => {
                let rule = format!("route {}", String::from_utf8_lossy(path));
                Some((rule, &name[..]))
            }
            RouteTarget::Generated(_) => None,
        });
        let page = |(status, name): (&ErrorStatus, _)| {
            let name: &FileName = name;
            (format!("error page {status}"), name.as_str().as_bytes())
        };
        let pages = self.error_pages.iter().map(page);
        let spa = self.spa.iter().map(|name| ("spa".to_owned(), &name[..]));
        routes.chain(pages).chain(spa)
    }

    /// Returns the response with the built-in page of an error.
    pub(super) fn built_in_page(&self, status: StatusCode, format: ResponseFormat) -> Response {
        let render = || {
            let mut response = error_page::page(status, format);
            self.add_security_headers(response.headers_mut());
            response
        };
        self.built_in_pages.response(status, format, render)
    }

    pub(super) fn error_page(&self, status: StatusCode) -> Option<&[u8]> {
        let page = self.error_pages.get(&status.into())?;
        Some(page.as_str().as_bytes())
    }
}

/// Returns a file of zeros in memory that is one hole, so it occupies no pages. It is sent like any
/// other file.
fn zeros(len: u64) -> io::Result<OpenedFile> {
    // Constant, so that the validators are the same after a restart and on every machine, and a
    // download can be resumed.
    const MODIFIED_SECONDS: i64 = 1_767_225_600;
    let descriptor = memfd_create("tws-zeros", MemfdFlags::CLOEXEC)?;
    ftruncate(&descriptor, len)?;
    let time = Timespec {
        tv_sec: MODIFIED_SECONDS,
        tv_nsec: 0,
    };
    let times = Timestamps {
        last_access: time,
        last_modification: time,
    };
    futimens(&descriptor, &times)?;
    match opened(descriptor) {
        Ok(OpenedPath::File(file)) => Ok(file),
        _ => Err(io::ErrorKind::Unsupported.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    #[test]
    fn generated_zeros_have_constant_metadata() -> io::Result<()> {
        let file = zeros(1 << 40)?;
        assert_eq!(file.metadata.len, 1 << 40);
        assert_eq!(
            file.metadata.modified,
            UNIX_EPOCH + Duration::from_secs(1_767_225_600)
        );
        Ok(())
    }
}
