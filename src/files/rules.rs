//! A site's settings in the form that requests need: routes by path, parsed fields, open generated
//! files.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::OnceLock;

use ::http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, VARY, X_CONTENT_TYPE_OPTIONS};
use ::http::{HeaderMap, Method, StatusCode};
use rustix::fs::{MemfdFlags, Timespec, Timestamps, ftruncate, futimens, memfd_create};

use super::access_rules::AccessRules;
use super::media_type::MediaTypes;
use super::root::{OpenedFile, OpenedPath, opened};
use crate::error::Error;
use crate::explain_log::{Escaped, explain};
use crate::http::cors::AllowedOrigins;
use crate::http::negotiation::{Coding, ResponseFormat};
use crate::http::response::{FieldLine, PreparedResponse};
use crate::http::target::Target;
use crate::http::{Request, Response, error_page, target};
use crate::site::{
    self, Compress, ErrorStatus, EtagSource, FileName, HeaderRule, Listing, PatternIndex, Readme,
    RedirectRule, RewriteRule, Site, SourceLocation, SpaRule,
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
    pub(super) mentioned_files: Vec<MentionedFile>,
    pub(super) listing: Listing,
    pub(super) readme: Readme,
    pub(super) compress: Compress,
    pub(super) etag: EtagSource,
    /// The applications, those with longer paths first.
    spa: Vec<SpaRule>,
    pub(super) cors: Option<AllowedOrigins>,
    pub(super) media_types: MediaTypes,
    pub(super) error_pages: BTreeMap<ErrorStatus, FileName>,
    built_in_pages: BuiltInPages,
    redirects: Vec<RedirectRule>,
    redirect_index: PatternIndex,
    pub(super) rewrites: RewriteRules,
    /// The rewrites of paths at which nothing is found.
    pub(super) fallback_rewrites: RewriteRules,
    headers: Vec<HeaderRule>,
    header_index: PatternIndex,
    /// Whether a header rule may apply to errors.
    pub(super) has_error_fields: bool,
    pub(super) access: AccessRules,
}

/// Rewrites, the first of which that matches is used.
#[derive(Debug)]
pub(super) struct RewriteRules {
    rules: Vec<RewriteRule>,
    index: PatternIndex,
}

impl RewriteRules {
    fn new<'r>(rules: impl Iterator<Item = &'r RewriteRule>) -> Self {
        let rules: Vec<RewriteRule> = rules.cloned().collect();
        let index = PatternIndex::new(rules.iter().map(|rule| &rule.from));
        Self { rules, index }
    }

    /// Returns the path that is to be looked up instead of `path`, and explains it.
    pub(super) fn apply(&self, path: &[u8]) -> Option<Vec<u8>> {
        let to = self.target(path)?;
        if let Some(position) = self.index.first(path) {
            let rule = &self.rules[position];
            explain!("rule", "{rule} matches {}: {}", Escaped(path), Escaped(&to));
        }
        Some(to)
    }

    /// Returns the path that is to be looked up instead of `path`, decoded and normal. `None` without a
    /// rule, and if the rule leads to a path that no request may have.
    pub(super) fn target(&self, path: &[u8]) -> Option<Vec<u8>> {
        let rule = &self.rules[self.index.first(path)?];
        let to = rule.to.expand(&rule.from.matches(path)?);
        let target = Target::parse(&Method::GET, &to).ok()?;
        Some(target.path.into_owned())
    }

    fn matches(&self, path: &[u8]) -> bool {
        self.index.first(path).is_some()
    }
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
struct BuiltInPages {
    /// The prefix of the first request that failed, which usually is that of all requests. Pages lead
    /// to the index below it.
    prefix: OnceLock<Vec<u8>>,
    rendered: [[OnceLock<PreparedResponse>; 3]; FILE_ERRORS.len()],
}

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
        prefix: &[u8],
        render: impl FnOnce() -> Response,
    ) -> Response {
        let is_first = || self.prefix.get_or_init(|| prefix.to_vec()) == prefix;
        match FILE_ERRORS.iter().position(|error| *error == status) {
            Some(at) if is_first() => self.rendered[at][format as usize]
                .get_or_init(|| PreparedResponse::new(render()))
                .response(),
            _ => render(),
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

/// A file that a rule mentions.
#[derive(Debug)]
pub(super) struct MentionedFile {
    pub(super) name: Vec<u8>,
    /// The rule and where it is written, for messages.
    pub(super) rule: String,
}

/// Returns the files that the rules of a site mention.
fn mentioned_files(site: &Site) -> Vec<MentionedFile> {
    let mention = |location: SourceLocation, rule: String, name: &FileName| MentionedFile {
        name: name.as_str().into(),
        rule: location.prefix() + &rule,
    };
    let routes = site.routes.iter().filter_map(|route| match &route.source {
        site::RouteSource::File(name) => {
            let rule = format!("route {}", route.path);
            Some(mention(route.location.clone(), rule, name))
        }
        site::RouteSource::Zeros(_) => None,
    });
    let pages = site.error_pages.iter().map(|(status, name)| {
        let location = site.location_of(&format!("error-pages.{status}"));
        mention(location, format!("error page {status}"), name)
    });
    let spa = site.spa.iter().map(|rule| {
        let name = match rule.path.as_str() {
            "/" => "spa".to_owned(),
            path => format!("spa {path}"),
        };
        mention(rule.location.clone(), name, &rule.page)
    });
    routes.chain(pages).chain(spa).collect()
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
        let mut spa = site.spa.clone();
        spa.sort_by_key(|rule| std::cmp::Reverse(rule.path.len()));
        let is_fallback = |rule: &&RewriteRule| rule.missing;
        let rewrites = || site.rewrites.iter();
        Ok(Self {
            mentioned_files: mentioned_files(site),
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
            readme: site.readme,
            compress: site.compress,
            etag: site.etag,
            spa,
            cors: AllowedOrigins::new(site.cors.iter().filter_map(origin)),
            media_types: MediaTypes::new(site),
            error_pages: site.error_pages.clone(),
            built_in_pages: BuiltInPages::default(),
            redirects: site.redirects.clone(),
            redirect_index: PatternIndex::new(site.redirects.iter().map(|rule| &rule.from)),
            rewrites: RewriteRules::new(rewrites().filter(|rule| !is_fallback(rule))),
            fallback_rewrites: RewriteRules::new(rewrites().filter(is_fallback)),
            has_error_fields: site
                .headers
                .iter()
                .any(|rule| rule.condition.may_apply_to_errors()),
            headers: site.headers.clone(),
            header_index: PatternIndex::new(site.headers.iter().map(|rule| &rule.path)),
            access: AccessRules::new(site.access.clone(), site.auth.clone()),
        })
    }

    /// Returns the redirect of the first rule that matches the path. The query is kept, unless the
    /// rule's target has one.
    pub(super) fn redirect(&self, request: &Request<'_>) -> Option<Response> {
        if self.redirects.is_empty() {
            return None;
        }
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
        if found.is_none() {
            explain!("redirect", "no redirect for {}", Escaped(path));
        }
        found
    }

    /// True if a rule answers at this path, so that a file of its name would not be served.
    pub(super) fn shadows(&self, path: &[u8]) -> bool {
        self.routes.contains_key(path)
            || self.redirect_index.first(path).is_some()
            || self.rewrites.matches(path)
    }

    /// True if rules answer at each path of the file `name`, so that it cannot be requested.
    pub(super) fn shadows_file(&self, name: &[u8]) -> bool {
        let has_rules = !(self.routes.is_empty()
            && self.redirects.is_empty()
            && self.rewrites.rules.is_empty());
        let paths = || self.aliases([b"/", name].concat());
        has_rules && paths().iter().all(|path| self.shadows(path))
    }

    /// Adds the site's fields to those of a response to a request for `path`. `name` is the name of
    /// the file that is served there, if one is: rules apply to its path, too.
    pub(super) fn add_fields(
        &self,
        path: &[u8],
        name: Option<&[u8]>,
        status: StatusCode,
        fields: &mut HeaderMap,
    ) {
        self.add_security_headers(fields);
        self.add_rule_fields(path, name, status, fields);
    }

    fn add_rule_fields(
        &self,
        path: &[u8],
        name: Option<&[u8]>,
        status: StatusCode,
        fields: &mut HeaderMap,
    ) {
        let media_type = fields.get(CONTENT_TYPE).cloned();
        for position in self.header_rules(path, name) {
            let rule = &self.headers[position as usize];
            if !rule.condition.applies(status, media_type.as_ref()) {
                continue;
            }
            for (name, value) in &rule.fields {
                let is_set = fields.get_all(name).iter().any(|set| set == value);
                if !is_set {
                    explain!("rule", "{rule} sets {}", FieldLine(name, value));
                }
                match *name {
                    VARY if is_set => {}
                    VARY => drop(fields.append(VARY, value.clone())),
                    _ => drop(fields.insert(name.clone(), value.clone())),
                }
            }
        }
    }

    /// Returns the positions of the header rules for a path, or for the path of the file that is served
    /// there, in ascending order.
    pub(super) fn header_rules(&self, path: &[u8], name: Option<&[u8]>) -> Vec<u32> {
        let mut rules = self.header_index.all(path);
        if let Some(name) = name
            && !self.headers.is_empty()
        {
            rules.extend(self.header_index.all(&[b"/", name].concat()));
            rules.sort_unstable();
            rules.dedup();
        }
        rules
    }

    /// Returns the content coding that a file is in by its name, and the name without the extension of
    /// the coding: a header rule with `encoded` applies, or it is the one kind of file that browsers
    /// display only with Content-Encoding.
    pub(super) fn own_coding<'n>(&self, path: &[u8], name: &'n [u8]) -> Option<(Coding, &'n [u8])> {
        let gzipped_svg = || name.ends_with(b".svgz").then_some((Coding::Gzip, name));
        self.encoded_file(path, name).or_else(gzipped_svg)
    }

    /// Returns the content coding of a file that is to be sent decoded by the client, and its name
    /// without the extension of the coding: a header rule with `encoded` applies.
    fn encoded_file<'n>(&self, path: &[u8], name: &'n [u8]) -> Option<(Coding, &'n [u8])> {
        let (coding, inner) = Coding::of_file_name(name)?;
        let rules = self.header_rules(path, Some(name)).into_iter();
        let rule = rules
            .map(|position| &self.headers[position as usize])
            .find(|rule| rule.encoded)?;
        explain!(
            "rule",
            "{rule} sends {} as {}",
            Escaped(name),
            Escaped(inner)
        );
        Some((coding, inner))
    }

    /// Adds the fields of the rules for errors to an error response, if it is one.
    pub(super) fn add_error_fields(&self, path: &[u8], mut response: Response) -> Response {
        let status = response.status();
        if status.as_u16() >= 400 && self.has_error_fields {
            self.add_rule_fields(path, None, status, response.headers_mut());
        }
        response
    }

    /// Adds the fields of every response, errors included.
    pub(super) fn add_security_headers(&self, fields: &mut HeaderMap) {
        fields.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        if let Some(origins) = &self.cors {
            origins.shared_fields().add(fields);
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
        let status = response.status();
        self.add_fields(path, None, status, response.headers_mut());
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
        // Only navigations get this page.
        fields.append(VARY, HeaderValue::from_static("Accept"));
        fields.append(VARY, HeaderValue::from_static("Sec-Fetch-Mode"));
    }

    /// Returns the application that a path belongs to.
    pub(super) fn application(&self, path: &[u8]) -> Option<&SpaRule> {
        self.spa.iter().find(|rule| rule.contains(path))
    }

    /// Returns the response with the built-in page of an error.
    pub(super) fn built_in_page(
        &self,
        status: StatusCode,
        format: ResponseFormat,
        request: &Request<'_>,
    ) -> Response {
        let render = || {
            let index = error_page::index_of(request);
            let mut response = error_page::page(status, format, Some(&index));
            self.add_security_headers(response.headers_mut());
            response
        };
        let prefix = request.prefix_bytes();
        self.built_in_pages.response(status, format, prefix, render)
    }

    pub(super) fn error_page(&self, status: StatusCode) -> Option<&[u8]> {
        let status = ErrorStatus::from(status);
        let page = self
            .error_pages
            .get(&status)
            .filter(|_| status.has_page())?;
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
