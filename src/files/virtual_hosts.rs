//! The choice of the site of a request, by its host.

use std::sync::Arc;

use super::serve::SiteFiles;
use crate::explain_log::{Escaped, explain};
use crate::http::Request;
use crate::site::HostName;

/// The default site, and the sites of `[[host]]`s with their names.
#[derive(Debug)]
pub(super) struct VirtualHosts {
    pub(super) default: Arc<SiteFiles>,
    pub(super) named: Vec<(Vec<HostName>, Arc<SiteFiles>)>,
}

impl VirtualHosts {
    pub(super) fn sites(&self) -> impl Iterator<Item = &SiteFiles> {
        let named = self.named.iter().map(|(_, site)| site);
        std::iter::once(&self.default).chain(named).map(Arc::as_ref)
    }

    /// Yields the sites that no job holds.
    pub(super) fn sites_mut(&mut self) -> impl Iterator<Item = &mut SiteFiles> {
        let named = self.named.iter_mut().map(|(_, site)| site);
        let sites = std::iter::once(&mut self.default).chain(named);
        sites.filter_map(Arc::get_mut)
    }

    /// Closes the files that the caches keep open, to free descriptors.
    pub(super) fn close_cached_files(&self) {
        self.sites().for_each(|site| site.tree.close_cached_files());
    }

    /// Returns the site of the requested host, or the default one if no `[[host]]` has the name. An
    /// exact name has precedence over a pattern.
    pub(super) fn site_of(&self, request: &Request<'_>) -> &Arc<SiteFiles> {
        let found = self.find(request);
        let shown = || request.host().unwrap_or_default().to_ascii_lowercase();
        let default_path = || self.default.tree.path.display();
        match found {
            Some((name, site)) => explain!(
                "host",
                "{} matches [[host]] {name}, served from {path}",
                Escaped(shown().as_bytes()),
                path = site.tree.path.display()
            ),
            None if self.named.is_empty() => explain!(
                "host",
                "{} is served whatever the Host, because there is no [[host]]",
                default_path()
            ),
            None if request.host().is_none() => explain!(
                "host",
                "the request names no host, so the default site is used"
            ),
            None => explain!(
                "host",
                "{host} matches no [[host]], so the default site is used: {path}",
                host = Escaped(shown().as_bytes()),
                path = default_path()
            ),
        }
        found.map_or(&self.default, |(_, site)| site)
    }

    /// As [`site_of`](Self::site_of), without an explanation.
    pub(super) fn quietly_site_of(&self, request: &Request<'_>) -> &Arc<SiteFiles> {
        self.find(request).map_or(&self.default, |(_, site)| site)
    }

    /// Returns the site of the requested host and the name that matches it.
    fn find(&self, request: &Request<'_>) -> Option<(&str, &Arc<SiteFiles>)> {
        if self.named.is_empty() {
            return None;
        }
        let host = request.host_bytes()?;
        let is_pattern = |name: &HostName| name.wildcard_suffix().is_some();
        let exact = |name: &HostName| !is_pattern(name) && name.matches(host);
        let pattern = |name: &HostName| is_pattern(name) && name.matches(host);
        self.named(exact).or_else(|| self.named(pattern))
    }

    /// Returns the first site with a name that `matches`, and the name.
    fn named(&self, matches: impl Fn(&HostName) -> bool) -> Option<(&str, &Arc<SiteFiles>)> {
        self.named.iter().find_map(|(names, site)| {
            let name = names.iter().find(|name| matches(name))?;
            Some((name.as_str(), site))
        })
    }
}
