//! Files for HTTP requests: folders as a [`Handler`]. It has no sockets and no connections.
//!
//! A request passes the choice of the host ([`VirtualHosts`]) and then its site ([`serve`]):
//! method, redirect rules, lookup of the path ([`lookup`], through [`resolve`] and [`root`], the
//! only place that opens files), content coding ([`encodings`]), preconditions, ranges, response.
//! Uploads, if the site accepts them, go to [`upload`], and
//! changes of the tree to [`manage`].
//!
//! All of it runs on the event loop unless it would block. Then the request is processed again from the
//! start on a thread of the disk concerned: for short jobs if it waits for what is not in the page
//! cache, for long ones if a file is to be hashed or compressed, which is done once for all requests
//! that need it ([`single_flight`]). A folder is read on a thread for long jobs as well ([`folder`]), or
//! sent as an archive ([`archive`]).

mod archive;
mod archive_format;
mod cache;
mod client_slots;
mod compress;
mod encodings;
mod explained_error;
mod folder;
mod inotify;
mod listing;
mod lookup;
mod manage;
mod media_type;
mod representation;
mod resolve;
mod response_body;
mod response_file;
mod root;
mod rules;
mod serve;
mod single_flight;
mod tree;
mod upload;

use std::path::Path;
use std::sync::Arc;

use crate::error::Error;
use crate::explain_log::{Escaped, explain};
use crate::handler::{BodyPolicy, DiskJob, Handler, Outcome};
use crate::http::{Rejection, Request, Response, error_page};
use crate::site::{HostName, Site};
use archive_format::ArchiveFormat;
pub use cache::CacheStats;
use lookup::Postponed;
use resolve::{Resolved, Resolver};
use root::Blocking;
use serve::SiteFiles;
use tree::ListingTicket;

/// Serves a directory tree, or a single file, for GET and HEAD; if its site says so, accepts
/// uploads into the tree.
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
    hosts: Arc<VirtualHosts>,
}

/// The default site, and the sites of `[[host]]`s with their names.
#[derive(Debug)]
struct VirtualHosts {
    default: Arc<SiteFiles>,
    named: Vec<(Vec<HostName>, Arc<SiteFiles>)>,
}

impl StaticFiles {
    /// Serves the files beneath `path`; if `path` is a file, only that file, at `/` and at its
    /// name.
    ///
    /// # Errors
    ///
    /// [`Error::Path`] if there is no such file or folder, or it may not be read.
    pub fn new(path: impl AsRef<Path>) -> Result<Self, Error> {
        Self::with_site(path, &Site::default())
    }

    /// Serves the files beneath `path` by the rules of a site, and the site's other hosts.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new), for the hosts' roots too; [`Error::System`] if the system has no
    /// memory for a generated file.
    pub fn with_site(path: impl AsRef<Path>, site: &Site) -> Result<Self, Error> {
        let path = path.as_ref();
        let default = Arc::new(SiteFiles::open(path, site)?);
        let mut named = Vec::new();
        for host in &site.hosts {
            let root = host.root.as_deref().unwrap_or(Path::new("."));
            let files = SiteFiles::open(&path.join(root), host)?;
            named.push((host.names.clone(), Arc::new(files)));
        }
        let hosts = Arc::new(VirtualHosts { default, named });
        let files = Self { hosts };
        for missing in files.missing_files() {
            log::warn!("{missing} is not in the root or not readable");
        }
        Ok(files)
    }

    /// Returns the files that the site's rules mention and that cannot be served now, as
    /// `spa: index.html`: they may be created later, or be misspelt.
    pub fn missing_files(&self) -> Vec<String> {
        let sites = self.hosts.sites();
        sites.flat_map(|site| site.tree.missing_files()).collect()
    }

    /// True if there is a file at a request's path, whatever the method. Preconditions, content
    /// codings and media types are not considered. May block on a disk.
    pub fn finds(&self, request: &Request<'_>) -> bool {
        let tree = &self.hosts.site_of(request).tree;
        let snapshot = tree.snapshot(Blocking::Allowed);
        let resolver = Resolver {
            rules: &tree.rules,
            root: &snapshot.root,
            blocking: Blocking::Allowed,
        };
        let resolve = || resolver.resolve(request.path_bytes());
        tree.rules.redirect(request).is_none() && matches!(resolve(), Ok(Resolved::File(..)))
    }

    /// Returns the statistics of the cache of open files, for all hosts together.
    pub fn cache_stats(&self) -> CacheStats {
        let mut sum = CacheStats::default();
        for site in self.hosts.sites() {
            sum.add(site.tree.cache_stats());
        }
        sum
    }

    /// Closes the files that are kept open for speed. Register it with
    /// [`Server::on_fd_pressure`](crate::Server::on_fd_pressure).
    pub fn release_descriptors(&self) {
        self.hosts.close_cached_files();
    }

    /// Never serves the file at `path`, which is relative to the root, on any host and under any name,
    /// and lets no upload replace or create it. It need not exist, and may be replaced later. To be
    /// called before the server starts.
    pub fn hiding(mut self, path: &Path) -> Self {
        if let Some(hosts) = Arc::get_mut(&mut self.hosts) {
            let path = hosts.default.tree.path.join(path);
            for site in hosts.sites_mut() {
                site.tree.hide(&path);
            }
        }
        self
    }
}

/// Content in a GET request has no meaning (RFC 9110 §9.3.1); up to this much is read and ignored,
/// so that the connection can be kept.
const MAX_IGNORED_BYTES: usize = 64 * 1024;

impl Handler for StaticFiles {
    fn handle(&self, request: &Request<'_>) -> Outcome {
        let site = self.hosts.site_of(request);
        if site.is_upload(request.method()) {
            return SiteFiles::start_upload(site, request);
        }
        if site.is_change(request.method()) {
            return site.start_change(request);
        }
        let close_files = || self.hosts.close_cached_files();
        match site.respond(request, Blocking::Forbidden, close_files) {
            Ok(response) => response.into(),
            Err(postponed) => {
                let request = PostponedRequest {
                    hosts: Arc::clone(&self.hosts),
                    site: Arc::clone(site),
                    device: site.tree.device_of(request.path_bytes()),
                    request: request.clone().into_owned(),
                };
                request.continued(postponed)
            }
        }
    }

    fn admit(&self, request: &Request<'_>) -> BodyPolicy {
        let site = self.hosts.site_of(request);
        let method = request.method();
        if site.is_upload(method) {
            site.admit_upload(request)
        } else if site.is_change(method) {
            site.admit_change(request)
        } else if site.allowed_methods().contains(method) {
            BodyPolicy::Buffer {
                max: MAX_IGNORED_BYTES,
            }
        } else {
            BodyPolicy::Reject(site.reject_method(request))
        }
    }

    fn reject(&self, request: &Request<'_>, rejection: Rejection) -> Response {
        error_page::instead_of(rejection.into(), request.fields())
    }
}

/// A request that is processed on threads that may block.
struct PostponedRequest {
    hosts: Arc<VirtualHosts>,
    site: Arc<SiteFiles>,
    device: u64,
    request: Request<'static>,
}

impl PostponedRequest {
    /// Does what was postponed where it is allowed.
    fn continued(self, postponed: Postponed) -> Outcome {
        let device = self.device;
        let job = match postponed {
            Postponed::Lookup => DiskJob::short(device, move || self.respond(Blocking::Short)),
            Postponed::Work => DiskJob::long(device, move || self.respond(Blocking::Allowed)),
            Postponed::Listing(ticket) => DiskJob::long(device, move || self.list(ticket)),
            Postponed::Archive(format) => DiskJob::long(device, move || self.archive(format)),
            Postponed::WorkInProgress(ticket) => {
                return Outcome::deferred(move |responder| {
                    ticket.park(move |_| responder.send(self.continued(Postponed::Work)));
                });
            }
            Postponed::ListingInProgress(ticket) => {
                return Outcome::deferred(move |responder| {
                    ticket.park(move |ticket| {
                        responder.send(self.continued(Postponed::Listing(ticket)));
                    });
                });
            }
        };
        Outcome::BlockingOnDisk(job)
    }

    fn respond(self, blocking: Blocking) -> Outcome {
        let close_files = || self.hosts.close_cached_files();
        match self.site.respond(&self.request, blocking, close_files) {
            Ok(response) => response.into(),
            Err(Postponed::Lookup) => {
                Response::fault("files: a blocking lookup would block").into()
            }
            Err(postponed) => self.continued(postponed),
        }
    }

    fn archive(self, format: ArchiveFormat) -> Outcome {
        match self.site.archive(&self.request, format, self.device) {
            Ok(response) => response.into(),
            Err(postponed) => self.continued(postponed),
        }
    }

    fn list(self, ticket: ListingTicket) -> Outcome {
        let close_files = || self.hosts.close_cached_files();
        match self.site.list(&self.request, ticket, close_files) {
            Ok(response) => response.into(),
            Err(postponed) => self.continued(postponed),
        }
    }
}

impl VirtualHosts {
    fn sites(&self) -> impl Iterator<Item = &SiteFiles> {
        let named = self.named.iter().map(|(_, site)| site);
        std::iter::once(&self.default).chain(named).map(Arc::as_ref)
    }

    /// Yields the sites that no job holds.
    fn sites_mut(&mut self) -> impl Iterator<Item = &mut SiteFiles> {
        let named = self.named.iter_mut().map(|(_, site)| site);
        let sites = std::iter::once(&mut self.default).chain(named);
        sites.filter_map(Arc::get_mut)
    }

    /// Closes the files that the caches keep open, to free descriptors.
    fn close_cached_files(&self) {
        self.sites().for_each(|site| site.tree.close_cached_files());
    }

    /// Returns the site of the requested host, or the default one if no `[[host]]` has the name. An
    /// exact name has precedence over a pattern.
    fn site_of(&self, request: &Request<'_>) -> &Arc<SiteFiles> {
        let default_path = || self.default.tree.path.display();
        if self.named.is_empty() {
            explain!(
                "host",
                "{} is served whatever the Host, because there is no [[host]]",
                default_path()
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
        let exact = |name: &HostName| name.as_str().eq_ignore_ascii_case(host);
        let pattern = |name: &HostName| matches_pattern(name, host);
        let site = self.named(exact).or_else(|| self.named(pattern));
        let shown = || host.to_ascii_lowercase();
        match site {
            Some((name, site)) => {
                explain!(
                    "host",
                    "{} matches [[host]] {name}, served from {path}",
                    Escaped(shown().as_bytes()),
                    path = site.tree.path.display()
                );
                site
            }
            None => {
                explain!(
                    "host",
                    "{host} matches no [[host]], so the default site is used: {path}",
                    host = Escaped(shown().as_bytes()),
                    path = default_path()
                );
                &self.default
            }
        }
    }

    /// Returns the first site with a name that `matches`, and the name.
    fn named(&self, matches: impl Fn(&HostName) -> bool) -> Option<(&str, &Arc<SiteFiles>)> {
        self.named.iter().find_map(|(names, site)| {
            let name = names.iter().find(|name| matches(name))?;
            Some((name.as_str(), site))
        })
    }
}

/// True if `name` is a pattern such as `*.example.org`, and `host` matches it in any case.
fn matches_pattern(name: &HostName, host: &str) -> bool {
    let Some(suffix) = name.as_str().strip_prefix('*') else {
        return false;
    };
    let start = host.len().checked_sub(suffix.len());
    start.is_some_and(|start| {
        start > 0 && host.as_bytes()[start..].eq_ignore_ascii_case(suffix.as_bytes())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_patterns_match_subdomains_in_any_case() {
        let table = [
            ("*.example.org", "a.example.org", true),
            ("*.example.org", "A.Example.ORG", true),
            ("*.example.org", "a.b.example.org", true),
            ("*.example.org", "example.org", false),
            ("*.example.org", ".example.org", false),
            ("*.example.org", "aexample.org", false),
            ("*.example.org", "ñ.example.org", true),
            ("*.example.org", "", false),
            ("example.org", "example.org", false),
        ];
        for (name, host, expected) in table {
            let name: HostName = name.parse().expect("a host name");
            assert_eq!(matches_pattern(&name, host), expected, "{host}");
        }
    }
}
