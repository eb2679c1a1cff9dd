//! Access control by path: which networks may request a path, and which passwords it requires.
//!
//! A rule is about a file, whatever the path that leads to it: the paths of the index and of the page
//! behind a clean URL, that of a sidecar, and those before and after a route or a rewrite. The path of
//! a request is decoded and normal, so rules cannot be evaded with escapes or dot segments.
//!
//! What is served only where nothing is found is checked when the response depends on it ([`Dependency`]):
//! - the page of an application;
//! - the target of a rewrite of missing paths, also if it is missing itself;
//! - the slash variant of a path, which is the same path with its trailing slash removed, or added, when the
//!   response reveals whether there is something: a redirect there, or what is served if there is nothing,
//!   which is an error, one of the above, or a file of a former root.
//!
//! PUT, DELETE, MKCOL and MOVE treat a path with and without its trailing slash alike. The rules for both are
//! checked before anything is looked up.
//!
//! The layers here check the path of a request. Where a request reads or changes other files as well, as
//! an archive, a listing with a README, a form with files and a change of the tree do, these must be open to
//! all clients to which that path is open: [`Rules::permit_as_well`].

use std::path::Path;
use std::sync::Arc;

use ::http::{Method, StatusCode};

use super::access_rules::Aliases;
use super::rules::{CleanUrls, RouteTarget, Rules};
use super::virtual_hosts::VirtualHosts;
use crate::explain_log::{self, Escaped, explain};
use crate::handler::{BodyPolicy, BoxHandler, Handler, Outcome};
use crate::http::negotiation::Coding;
use crate::http::response::Dependency;
use crate::http::{Rejection, Request, Response, error_page};
use crate::site::RequiredPasswords;

impl Rules {
    /// Returns the files that a request may get or change, each by the paths that lead to it.
    fn files_of(&self, request: &Request<'_>) -> Vec<Aliases> {
        let mut files = self.files_at(request.path_bytes());
        files.extend(self.other_changed_files(request));
        files
    }

    /// As [`files_of`](Self::files_of), without routes and rewrites.
    fn plain_files_of(&self, request: &Request<'_>) -> Vec<Aliases> {
        let mut files = self.plain_files_at(request.path_bytes().to_vec());
        files.extend(self.other_changed_files(request));
        files
    }

    /// Returns the files at the slash variant of the path of a PUT, DELETE, MKCOL or MOVE; empty for other
    /// methods.
    fn other_changed_files(&self, request: &Request<'_>) -> Vec<Aliases> {
        let is_change = match *request.method() {
            Method::PUT | Method::DELETE => true,
            ref method => matches!(method.as_str(), "MKCOL" | "MOVE"),
        };
        let variant = is_change.then(|| slash_variant(request.path_bytes()));
        let variant = variant.flatten();
        variant.map_or(Vec::new(), |path| self.plain_files_at(path))
    }

    /// Returns the files that a request for `path` may get, each by the paths that lead to it.
    fn files_at(&self, path: &[u8]) -> Vec<Aliases> {
        // Requests for the server (`OPTIONS *`) and for other servers are subject to the rules for `/`.
        let path = if path.starts_with(b"/") { path } else { b"/" };
        let mut files = self.routed_files_at(path.to_vec());
        if let Some(target) = self.rewritten(path) {
            files.extend(self.files_at_target(target));
        }
        files
    }

    /// Returns the path to which a rewrite leads that does not depend on what is at `path`.
    fn rewritten(&self, path: &[u8]) -> Option<Vec<u8>> {
        let is_route = self.routes.contains_key(path);
        (!is_route).then(|| self.rewrites.target(path)).flatten()
    }

    /// Returns the files that a request for `path` may get if there is nothing: those at the target of a
    /// rewrite of missing paths.
    fn files_at_fallback(&self, path: &[u8]) -> Vec<Aliases> {
        if self.rewritten(path).is_some() {
            return Vec::new();
        }
        let target = self.fallback_rewrites.target(path);
        target.map_or(Vec::new(), |path| self.files_at_target(path))
    }

    /// Returns the files that may be served at the target of a rewrite. A folder is not redirected to its
    /// slash, but served with its index.
    fn files_at_target(&self, target: Vec<u8>) -> Vec<Aliases> {
        let folder = [&target[..], b"/"].concat();
        let paths = [target, folder];
        let files = paths.into_iter().map(|path| self.routed_files_at(path));
        files.flatten().collect()
    }

    /// As [`plain_files_at`](Self::plain_files_at), with the file of the route of the path.
    fn routed_files_at(&self, path: Vec<u8>) -> Vec<Aliases> {
        let routed = match self.routes.get(&path) {
            Some(RouteTarget::File(name)) => self.plain_files_at([b"/", &name[..]].concat()),
            Some(RouteTarget::Generated(_)) | None => Vec::new(),
        };
        let mut files = self.plain_files_at(path);
        files.extend(routed);
        files
    }

    /// Returns the files on which the response may depend as well.
    fn files_of_dependency(&self, request: &Request<'_>, dependency: Dependency) -> Vec<Aliases> {
        let path = request.path_bytes();
        match dependency {
            Dependency::Application => {
                let application = self.application(path).into_iter();
                let page = application.map(|it| [b"/", it.page.as_str().as_bytes()].concat());
                page.map(|page| self.aliases(page)).collect()
            }
            Dependency::SlashVariant => self.files_at_slash_variant(path),
            Dependency::Fallback => self.files_at_fallback(path),
        }
    }

    /// Returns the files that may be served at the slash variant of a path, if a request for this path may
    /// be redirected there.
    fn files_at_slash_variant(&self, path: &[u8]) -> Vec<Aliases> {
        match slash_variant(path) {
            Some(page) if self.clean_urls == CleanUrls::On || page.ends_with(b"/") => {
                self.plain_files_at(page)
            }
            _ => Vec::new(),
        }
    }

    /// Returns the files that may be served at a path without routes and rewrites: for a folder, its index
    /// files.
    fn plain_files_at(&self, path: Vec<u8>) -> Vec<Aliases> {
        if !path.ends_with(b"/") {
            return vec![self.aliases(path)];
        }
        let indexes = self.index.iter();
        let files = indexes.map(|index| [&path[..], index.as_bytes()].concat());
        files.map(|file| self.aliases(file)).collect()
    }

    /// Returns the paths under which the file at `path` may be served, that path included.
    pub(super) fn aliases(&self, path: Vec<u8>) -> Aliases {
        /// The name of a file with more of them has more than 255 bytes, Linux' NAME_MAX.
        const MAX_ALIASES: usize = 256;
        let mut known = Aliases::new();
        let mut new = vec![path];
        while let Some(path) = new.pop() {
            // A request may consist of extensions, each of which is an alias.
            if known.len() == MAX_ALIASES {
                break;
            }
            if let Some((_, inner)) = Coding::of_file_name(&path) {
                new.push(inner.to_vec());
            }
            for index in &self.index {
                let folder = path.strip_suffix(index.as_bytes());
                new.extend(folder.filter(|it| it.ends_with(b"/")).map(<[u8]>::to_vec));
            }
            if self.clean_urls == CleanUrls::On {
                match path.strip_suffix(b".html") {
                    Some(page) if !page.ends_with(b"/") => new.push(page.to_vec()),
                    None if !path.ends_with(b"/") => new.push([&path[..], b".html"].concat()),
                    _ => {}
                }
            }
            known.push(path);
            new.retain(|path| !known.contains(path));
        }
        known
    }
}

impl Rules {
    /// True if a request that is permitted may read or change another file as well, whose name beneath the
    /// root is given; that of a folder has a slash at its end.
    pub(super) fn permit_as_well(&self, request: &Request<'_>, name: &[u8]) -> bool {
        if !self.access.has_rules() {
            return true;
        }
        let requested = self.plain_files_of(request);
        let others = self.plain_files_at([b"/", name].concat());
        let method = request.method();
        let permits = |other| self.access.permit_as_well(&requested, other, method);
        others.iter().all(permits)
    }

    /// As [`permit_as_well`](Self::permit_as_well), for a name without a slash at its end at which there may
    /// be a file or a folder.
    pub(super) fn permit_name_as_well(&self, request: &Request<'_>, name: &[u8]) -> bool {
        self.permit_as_well(request, name) && self.permit_as_well(request, &[name, b"/"].concat())
    }

    /// As [`permit_as_well`](Self::permit_as_well), for all that is or may be beneath a folder, whose name
    /// has no slash at its end.
    pub(super) fn permit_beneath_as_well(&self, request: &Request<'_>, name: &[u8]) -> bool {
        let folder = [b"/", name, b"/"].concat();
        let requested = self.plain_files_of(request);
        self.access
            .permit_beneath(&requested, &folder, request.method())
    }
}

/// Returns the path with its trailing slash removed, or added; `None` for `/`.
fn slash_variant(path: &[u8]) -> Option<Vec<u8>> {
    match path.strip_suffix(b"/") {
        Some([]) => None,
        Some(file) => Some(file.to_vec()),
        None => Some([path, b"/"].concat()),
    }
}

impl VirtualHosts {
    /// Returns what a request needs to be served.
    pub(super) fn required_passwords(&self, request: &Request<'_>) -> RequiredPasswords {
        let rules = &self.quietly_site_of(request).tree.rules;
        let method = request.method();
        let mut required = RequiredPasswords::default();
        if rules.access.has_password_rules() {
            let files = rules.files_of(request);
            let files = files
                .iter()
                .filter_map(|paths| rules.access.password_file(paths, method));
            required.files = files.map(Path::to_owned).collect();
            let files_of = |dependency| {
                let files = rules.files_of_dependency(request, dependency);
                let files = files
                    .iter()
                    .filter_map(|paths| rules.access.quiet_password_file(paths, method));
                files.map(Path::to_owned).collect()
            };
            required.files_of_application = files_of(Dependency::Application);
            required.files_of_slash_variant = files_of(Dependency::SlashVariant);
            required.files_of_fallback = files_of(Dependency::Fallback);
        }
        required
    }

    /// Returns the dependencies of a response that the client may not request.
    fn denied_dependencies(&self, request: &Request<'_>) -> Vec<DeniedDependency> {
        let rules = &self.quietly_site_of(request).tree.rules;
        let denied = |dependency| {
            let files = rules.files_of_dependency(request, dependency);
            let denial = files.iter().find_map(|paths| denial(rules, paths, request));
            denial.map(|explanation| DeniedDependency {
                dependency,
                explanation,
            })
        };
        Dependency::ALL.into_iter().filter_map(denied).collect()
    }

    /// Returns whether a client may request what it asks for.
    fn is_permitted(&self, request: &Request<'_>) -> bool {
        let rules = &self.quietly_site_of(request).tree.rules;
        let files = rules.files_of(request);
        let mut denials = files
            .iter()
            .filter_map(|paths| denial(rules, paths, request));
        let denial = denials.next();
        if let Some(explanation) = &denial {
            explain!("access", "{explanation}");
        }
        denial.is_none()
    }

    fn has_network_rules(&self) -> bool {
        let mut sites = self.sites();
        sites.any(|site| site.tree.rules.access.has_network_rules())
    }
}

/// What a client may not request, but a response may depend on.
struct DeniedDependency {
    dependency: Dependency,
    explanation: String,
}

/// Returns why a client may not request the file with these paths, if it may not. The explanation is empty
/// unless decisions are explained.
fn denial(rules: &Rules, paths: &Aliases, request: &Request<'_>) -> Option<String> {
    let client = request.client_addr();
    let rule = rules.access.denial(paths, client)?;
    if !explain_log::is_explained() {
        return Some(String::new());
    }
    let requested = request.path_bytes();
    // Another path than the requested one is that of a route, of a rewrite, or of an index file.
    let is_requested = paths.iter().any(|path| path == requested);
    let file = paths.first().filter(|_| !is_requested);
    let denied = Escaped(file.map_or(requested, Vec::as_slice));
    let client = client.ip().to_canonical();
    Some(format!("{rule} denies {denied} to {client}: 403"))
}

/// Rejects requests from networks that the rules deny.
struct NetworkAccess {
    inner: BoxHandler,
    hosts: Arc<VirtualHosts>,
}

/// Wraps a handler, unless there are no rules about networks.
pub(super) fn restrict_networks(
    inner: impl Handler + 'static,
    hosts: &Arc<VirtualHosts>,
) -> BoxHandler {
    let inner = BoxHandler::new(inner);
    if hosts.has_network_rules() {
        let hosts = Arc::clone(hosts);
        BoxHandler::new(NetworkAccess { inner, hosts })
    } else {
        inner
    }
}

impl Handler for NetworkAccess {
    fn handle(&self, request: &Request<'_>) -> Outcome {
        if !self.hosts.is_permitted(request) {
            return denied(request).into();
        }
        let outcome = self.inner.handle(request);
        let dependencies = self.hosts.denied_dependencies(request);
        if dependencies.is_empty() {
            return outcome;
        }
        let denied = denied(request);
        outcome.map(move |response| {
            let of_response = response.dependencies();
            let mut dependencies = dependencies.iter();
            match dependencies.find(|it| of_response.contains(it.dependency)) {
                None => response,
                Some(DeniedDependency { explanation, .. }) => {
                    explain!("access", "{explanation}");
                    denied
                }
            }
        })
    }

    fn admit(&self, request: &Request<'_>) -> BodyPolicy {
        if self.hosts.is_permitted(request) {
            self.inner.admit(request)
        } else {
            BodyPolicy::Reject(denied(request))
        }
    }

    fn reject(&self, request: &Request<'_>, rejection: Rejection) -> Response {
        if self.hosts.is_permitted(request) {
            self.inner.reject(request, rejection)
        } else {
            denied(request)
        }
    }
}

fn denied(request: &Request<'_>) -> Response {
    let plain = Response::error_line(StatusCode::FORBIDDEN, "not from this network");
    error_page::with_index(plain, request)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::site::Site;

    #[test]
    fn path_of_many_extensions_has_few_aliases() {
        let site = Site {
            clean_urls: true,
            ..Site::default()
        };
        let rules = Rules::new(&site).expect("rules");
        for extensions in [".gz", ".html", ".html.br"] {
            let repeated = |bytes: usize| {
                let count = (bytes - 1) / extensions.len();
                format!("/a{}", extensions.repeat(count)).into_bytes()
            };
            let aliases = rules.aliases(repeated(16 * 1024));
            assert!(aliases.len() <= 256, "{extensions}: {}", aliases.len());
            // The longest name that a file can have.
            let aliases = rules.aliases(repeated(255));
            assert!(aliases.len() < 256, "{extensions}: {}", aliases.len());
            assert!(aliases.contains(&b"/a".to_vec()), "{extensions}");
        }
    }
}
