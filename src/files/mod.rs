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

mod access;
mod access_rules;
mod archive;
mod archive_format;
mod background;
mod cache;
mod client_slots;
mod compress;
mod content_tag;
mod encodings;
mod error_fields;
mod explained_error;
mod folder;
mod inotify;
mod listing;
mod lookup;
mod manage;
mod media_type;
mod preflights;
mod representation;
mod resolve;
mod response_body;
mod response_file;
mod root;
mod rules;
mod serve;
mod sidecars;
mod single_flight;
mod tree;
mod upload;
mod virtual_hosts;

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use crate::body::Cancellation;
use crate::error::Error;
use crate::handler::{BodyPolicy, BoxHandler, DiskJob, Handler, Outcome};
use crate::http::{Rejection, Request, Response, error_page};
use crate::site::{Compress, RequiredPasswords, RootOpener, Site};
use archive_format::ArchiveFormat;
pub use cache::CacheStats;
use error_fields::{ErrorFields, RequestFields};
use lookup::Postponed;
use preflights::Preflights;
use resolve::{Resolved, Resolver};
use root::Blocking;
pub use root::ReplaceableRoot;
use serve::{MAX_IGNORED_BYTES, SiteFiles};
pub use sidecars::{SidecarReport, Sidecars};
use tree::ListingTicket;
use virtual_hosts::VirtualHosts;

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
        Self::open(path.as_ref(), site, None)
    }

    /// As [`with_site`](Self::with_site). `opener` opens a root that was replaced, if the sandbox of this
    /// process denies access to the new folder.
    ///
    /// # Errors
    ///
    /// As [`with_site`](Self::with_site).
    pub fn with_opener(
        path: impl AsRef<Path>,
        site: &Site,
        opener: &Arc<dyn RootOpener>,
    ) -> Result<Self, Error> {
        Self::open(path.as_ref(), site, Some(opener))
    }

    fn open(path: &Path, site: &Site, opener: Option<&Arc<dyn RootOpener>>) -> Result<Self, Error> {
        let default = Arc::new(SiteFiles::open(path, site, opener)?);
        let mut named = Vec::new();
        for host in &site.hosts {
            let root = host.root.as_deref().unwrap_or(Path::new("."));
            let mut host_site = host.clone();
            // The rules of the default site about access come first, on every host.
            host_site.access.splice(0..0, site.access.iter().cloned());
            host_site.auth.splice(0..0, site.auth.iter().cloned());
            let files = SiteFiles::open(&path.join(root), &host_site, opener)
                .map_err(|error| error.at(host.location_of("root").prefix()))?;
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

    /// Returns a line for each file with the name of a sidecar (`a.js.br`) that is not served as one, or
    /// for which a header rule has `encoded` without effect, because it is empty or not in the format of
    /// its name. Reads the folders of all hosts.
    pub fn invalid_sidecars(&self) -> Vec<String> {
        let sites = self.hosts.sites();
        sites
            .filter(|site| site.tree.rules.compress != Compress::Off)
            .flat_map(|site| sidecars::invalid(&site.tree.path, &site.tree.rules))
            .collect()
    }

    /// True if there is a file at a request's path, whatever the method. Preconditions, content
    /// codings and media types are not considered. May block on a disk.
    pub fn finds(&self, request: &Request<'_>) -> bool {
        let tree = &self.hosts.site_of(request).tree;
        let snapshot = tree.snapshot_blocking(Instant::now());
        let resolver = Resolver {
            rules: &tree.rules,
            root: &snapshot.root,
            blocking: Blocking::Allowed,
        };
        let resolve = || resolver.resolve(request.path_bytes());
        let is_file = || matches!(resolve(), Ok(Resolved::File(..) | Resolved::Fallback(..)));
        tree.rules.redirect(request).is_none() && is_file()
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

impl StaticFiles {
    fn answer(&self, site: &Arc<SiteFiles>, request: &Request<'_>) -> Outcome {
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

    /// Returns the passwords that a request needs by the rules `[[auth]]` of the requested host. This
    /// handler does not verify them; `BasicAuth::with_rules` (feature `auth`) does.
    pub fn required_passwords(&self, request: &Request<'_>) -> RequiredPasswords {
        self.hosts.required_passwords(request)
    }

    /// Wraps a handler of which this one is a part, so that requests get 403 that the rules
    /// `[[access]]` of the requested host deny to their client, as
    /// [`Request::client_addr`](crate::Request::client_addr) returns it.
    pub fn restrict_networks(&self, inner: impl Handler + 'static) -> BoxHandler {
        access::restrict_networks(inner, &self.hosts)
    }

    /// Wraps a handler of which this one is a part, so that what the requested host says about errors
    /// applies to all error responses, such as those of middlewares: the header rules for errors, the origins
    /// whose pages may read responses, and the pages for errors. These replace the content of responses that
    /// says no more than the status.
    pub fn add_error_fields(&self, inner: impl Handler + 'static) -> BoxHandler {
        let hosts = Arc::clone(&self.hosts);
        let has_fields = |site: &SiteFiles| {
            let rules = &site.tree.rules;
            rules.has_error_fields || rules.cors.is_some() || !rules.error_pages.is_empty()
        };
        if hosts.sites().any(has_fields) {
            BoxHandler::new(ErrorFields::new(inner, hosts))
        } else {
            BoxHandler::new(inner)
        }
    }

    /// Wraps a handler of which this one is a part, so that preflight requests (Fetch §4.8) are answered
    /// and do not reach it, if pages of other origins may read the responses of the requested host. Browsers
    /// send these requests without a password.
    pub fn answer_preflights(&self, inner: impl Handler + 'static) -> BoxHandler {
        let hosts = Arc::clone(&self.hosts);
        if hosts.sites().any(|site| site.tree.rules.cors.is_some()) {
            BoxHandler::new(Preflights::new(inner, hosts))
        } else {
            BoxHandler::new(inner)
        }
    }
}

impl Handler for StaticFiles {
    fn handle(&self, request: &Request<'_>) -> Outcome {
        let site = self.hosts.site_of(request);
        match RequestFields::of(site, request) {
            Some(fields) => self
                .answer(site, request)
                .map(move |response| fields.add(response)),
            None => self.answer(site, request),
        }
    }

    fn admit(&self, request: &Request<'_>) -> BodyPolicy {
        let site = self.hosts.site_of(request);
        let method = request.method();
        let policy = if site.is_upload(method) {
            site.admit_upload(request)
        } else if site.is_change(method) {
            site.admit_change(request)
        } else if site.allowed_methods().contains(method) {
            BodyPolicy::Buffer {
                max: MAX_IGNORED_BYTES,
            }
        } else {
            BodyPolicy::Reject(site.reject_method(request))
        };
        match (policy, RequestFields::of(site, request)) {
            (BodyPolicy::Reject(response), Some(fields)) => {
                BodyPolicy::Reject(fields.add(response))
            }
            (policy, _) => policy,
        }
    }

    fn reject(&self, request: &Request<'_>, rejection: Rejection) -> Response {
        let site = self.hosts.site_of(request);
        let response = site
            .reject_too_large(request, &rejection)
            .unwrap_or_else(|| error_page::with_index(rejection.into(), request));
        match RequestFields::of(site, request) {
            Some(fields) => fields.add(response),
            None => response,
        }
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
            Postponed::Archive(format) => {
                return Outcome::deferred(move |responder| {
                    let cancellation = responder.cancellation();
                    let job = DiskJob::long(device, move || self.archive(format, &cancellation));
                    responder.send(Outcome::BlockingOnDisk(job));
                });
            }
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

    fn archive(self, format: ArchiveFormat, cancellation: &Cancellation) -> Outcome {
        let (request, device) = (&self.request, self.device);
        match self.site.archive(request, format, device, cancellation) {
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

#[cfg(all(test, feature = "archive"))]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::handler::{ResponderContext, Settled};
    use crate::site::Archive;
    use crate::sync::CancelFlag;

    /// Begins an archive of a folder with one file, as for a client that disconnects before the job runs.
    fn archive_status(is_cancelled: bool) -> u16 {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("a"), "a").expect("a file");
        let site = Site {
            archive: Archive::On,
            ..Site::default()
        };
        let files = StaticFiles::with_site(folder.path(), &site).expect("a site");
        let Outcome::Deferred(deferral) = files.handle(&Request::get("/?download=tar")) else {
            panic!("an archive is a deferred outcome");
        };
        let flag = CancelFlag::default();
        let context = ResponderContext::new("a test", Cancellation::new(flag.clone()));
        let (sender, settled) = mpsc::channel();
        deferral.settle(&context, move |settled| drop(sender.send(settled)));
        if is_cancelled {
            flag.cancel();
        }
        match settled.recv().expect("a job") {
            Settled::BlockingOnDisk(job) => job.into_job().run(&"a test").wait().status().as_u16(),
            Settled::Ready(_) | Settled::Unreserved(..) | Settled::Blocking(_) => {
                panic!("it is not a job of a disk")
            }
        }
    }

    #[test]
    fn archive_is_not_measured_for_a_client_that_has_disconnected() {
        assert_eq!(archive_status(false), 200);
        assert_eq!(archive_status(true), 503);
    }
}
