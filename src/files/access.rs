//! Access control by path: which networks may request a path, and which passwords it requires.
//!
//! A rule is about a file, whatever the path that leads to it: the paths of the index and of the page
//! behind a clean URL, that of a sidecar, and those before and after a route or a rewrite. The path of
//! a request is decoded and normal, so rules cannot be evaded with escapes or dot segments. The page of
//! an application, which is served only where nothing else is found, is checked when it is. So is the slash
//! variant of a path, which is the same path with its trailing slash removed, or added, when the response
//! reveals whether there is something: a redirect there, or what is served if there is nothing, which is an
//! error, the page of an application, the target of a rewrite of missing paths, or a file of a former root.
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
use crate::explain_log::{Escaped, explain};
use crate::handler::{BodyPolicy, BoxHandler, Handler, Outcome};
use crate::http::negotiation::Coding;
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
        let mut targets = vec![path.to_vec()];
        if !self.routes.contains_key(path) {
            let rewrites = [&self.rewrites, &self.fallback_rewrites];
            for target in rewrites.iter().filter_map(|rules| rules.target(path)) {
                // A folder is not redirected to its slash, but served with its index.
                targets.extend([[&target[..], b"/"].concat(), target]);
            }
        }
        let routed = targets.iter().filter_map(|path| self.routes.get(path));
        let routed = routed.filter_map(|route| match route {
            RouteTarget::File(name) => Some([b"/", &name[..]].concat()),
            RouteTarget::Generated(_) => None,
        });
        let routed: Vec<_> = routed.collect();
        let all = targets.into_iter().chain(routed);
        all.flat_map(|path| self.plain_files_at(path)).collect()
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
        let tree = &self.quietly_site_of(request).tree;
        let method = request.method();
        let rules = &tree.rules;
        let file = |paths: Aliases| {
            let file = rules.access.password_file(&paths, method);
            file.map(Path::to_owned)
        };
        let mut required = RequiredPasswords::default();
        if rules.access.has_password_rules() {
            let files = rules.files_of(request).into_iter();
            required.files = files.filter_map(file).collect();
            let page = application(rules, request);
            required.files_of_application = page.and_then(file).into_iter().collect();
            let others = rules
                .files_at_slash_variant(request.path_bytes())
                .into_iter();
            let file = |paths| rules.access.quiet_password_file(&paths, method);
            required.files_of_slash_variant = others.filter_map(file).map(Path::to_owned).collect();
        }
        required
    }

    /// Returns whether a client may know if there is something at the slash variant of the path.
    fn is_slash_variant_permitted(&self, request: &Request<'_>) -> bool {
        let rules = &self.quietly_site_of(request).tree.rules;
        let others = rules.files_at_slash_variant(request.path_bytes());
        let client = request.client_addr();
        others
            .iter()
            .all(|paths| rules.access.denial(paths, client).is_none())
    }

    /// Returns whether a client may request what it asks for.
    fn is_permitted(&self, request: &Request<'_>) -> bool {
        let rules = &self.quietly_site_of(request).tree.rules;
        let files = rules.files_of(request);
        files.iter().all(|paths| permits(rules, paths, request))
    }

    /// Returns whether a client may get the page of the application at its path.
    fn is_application_permitted(&self, request: &Request<'_>) -> bool {
        let rules = &self.quietly_site_of(request).tree.rules;
        application(rules, request).is_none_or(|paths| permits(rules, &paths, request))
    }

    fn has_network_rules(&self) -> bool {
        let mut sites = self.sites();
        sites.any(|site| site.tree.rules.access.has_network_rules())
    }
}

/// Returns the paths of the page of the application at a request's path.
fn application(rules: &Rules, request: &Request<'_>) -> Option<Aliases> {
    let application = rules.application(request.path_bytes())?;
    let page = [b"/", application.page.as_str().as_bytes()].concat();
    Some(rules.aliases(page))
}

fn permits(rules: &Rules, paths: &Aliases, request: &Request<'_>) -> bool {
    let client = request.client_addr();
    let denial = rules.access.denial(paths, client);
    if let Some(rule) = denial {
        explain!(
            "access",
            "{rule} denies {} to {}: 403",
            Escaped(request.path_bytes()),
            client.ip().to_canonical()
        );
    }
    denial.is_none()
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
        let is_application_permitted = self.hosts.is_application_permitted(request);
        let is_slash_variant_permitted = self.hosts.is_slash_variant_permitted(request);
        if is_application_permitted && is_slash_variant_permitted {
            return outcome;
        }
        let denied = denied(request);
        outcome.map(move |response| {
            let is_permitted = (is_application_permitted || !response.is_application())
                && (is_slash_variant_permitted || !response.reveals_slash_variant());
            if is_permitted { response } else { denied }
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
    let status = StatusCode::FORBIDDEN;
    let plain = Response::text(format!("{status}: not from this network\n"));
    error_page::with_index(plain.with_status(status), request)
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
