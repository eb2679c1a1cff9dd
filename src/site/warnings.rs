//! Rules without effect: another rule has precedence, or no request can match. They are probably
//! mistakes, so there is a warning for each. No file is opened for that.

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap};

use ::http::header::VARY;
use ::http::{HeaderName, Method};

use super::pattern::PathPattern;
use super::pattern_index::PatternIndex;
use super::{
    ErrorStatus, HeaderRule, HostName, RedirectRule, RewriteRule, RouteRule, Site, SourceLocation,
    SpaRule,
};
use crate::http::target::{Target, split_query};

/// Where a rule without effect is, and why it has none.
type Warning = (SourceLocation, String);

impl Site {
    /// Returns one line for each rule without effect: rules after others that match all of their
    /// paths, patterns that no path matches, redirect loops, host names that no request can have.
    pub fn warnings(&self) -> Vec<String> {
        let budget = Budget::new();
        let mut warnings = self.own_warnings(&budget);
        for (index, host) in self.hosts.iter().enumerate() {
            warnings.extend(host.host_name_warnings(&self.hosts[..index], &budget));
            warnings.extend(host.own_warnings(&budget));
        }
        let line = |(location, text): Warning| location.prefix() + &text;
        warnings.into_iter().map(line).collect()
    }

    fn own_warnings(&self, budget: &Budget) -> Vec<Warning> {
        let rules = RuleIndex::new(self, budget);
        let redirects = self
            .redirects
            .iter()
            .enumerate()
            .filter_map(|(index, rule)| {
                let text = rules.redirect_warning(index, rule)?;
                Some((
                    rule.location.clone(),
                    format!("redirect {} → {} {text}", rule.from, rule.to),
                ))
            });
        let routes = self.routes.iter().enumerate().filter_map(|(index, rule)| {
            let text = rules.route_warning(index, rule)?;
            Some((rule.location.clone(), format!("route {} {text}", rule.path)))
        });
        let headers = self.headers.iter().enumerate().filter_map(|(index, rule)| {
            let text = rules.header_warning(index, rule)?;
            Some((
                rule.location.clone(),
                format!("header {} {text}", rule.path),
            ))
        });
        let rewrites = self
            .rewrites
            .iter()
            .enumerate()
            .filter_map(|(index, rule)| {
                let text = rules.rewrite_warning(index, rule)?;
                Some((
                    rule.location.clone(),
                    format!("rewrite {} → {} {text}", rule.from, rule.to),
                ))
            });
        let rewrites = rewrites
            .chain(self.spa_warnings())
            .chain(self.access_warnings());
        let mut all: Vec<Warning> = redirects
            .chain(routes)
            .chain(rewrites)
            .chain(headers)
            .collect();
        all.extend(self.origin_warnings());
        all.extend(self.error_page_warnings());
        all.extend(self.media_type_warnings());
        all
    }

    /// Returns warnings about applications whose path another one has: the first is used.
    fn spa_warnings(&self) -> impl Iterator<Item = Warning> {
        let mut known: HashMap<&str, &SpaRule> = HashMap::new();
        self.spa.iter().filter_map(move |rule| {
            let first = known.get(rule.path.as_str()).copied();
            known.entry(&rule.path).or_insert(rule);
            let first = first?;
            Some((
                rule.location.clone(),
                format!("spa {} is never used: {first} comes first", rule.path),
            ))
        })
    }

    /// Returns warnings about rules of access for paths that no request can have.
    fn access_warnings(&self) -> impl Iterator<Item = Warning> {
        let passwords = self.auth.iter().map(|rule| {
            let reason = unmatched(&rule.path);
            (&rule.location, &rule.path, "auth", reason)
        });
        let networks = self.access.iter().map(|rule| {
            let all = "has no effect: it allows every client, and other rules are applied as well";
            let reason = unmatched(&rule.path).or(rule.permits_all().then_some(all));
            (&rule.location, &rule.path, "access", reason)
        });
        passwords
            .chain(networks)
            .filter_map(|(location, path, kind, reason)| {
                Some((location.clone(), format!("{kind} {path} {}", reason?)))
            })
    }

    /// Returns warnings about origins that no request has.
    fn origin_warnings(&self) -> impl Iterator<Item = Warning> {
        self.cors.iter().filter_map(|origin| {
            let reason = origin.reason_against()?;
            let text = format!("cors {:?} matches no origin: {reason}", origin.as_str());
            Some((self.location_of("cors"), text))
        })
    }

    fn error_page_warnings(&self) -> impl Iterator<Item = Warning> {
        let unseen = self
            .error_pages
            .iter()
            .filter(|(status, _)| !status.has_page());
        unseen.map(|(status, page)| {
            let page = page.as_str();
            let statuses = ErrorStatus::WITH_PAGE.map(|status| status.to_string());
            let statuses = statuses.join(", ");
            let text = format!(
                "error page {status} = {page:?} is never used: only these errors have one: {statuses}"
            );
            (self.location_of(&format!("error-pages.{status}")), text)
        })
    }

    fn media_type_warnings(&self) -> Vec<Warning> {
        let mut known: BTreeMap<String, &str> = BTreeMap::new();
        let mut warnings = Vec::new();
        let mut warn = |key: &str, text| {
            warnings.push((self.location_of(&format!("media-types.{key}")), text));
        };
        // In the order of precedence: the last of several is used.
        for key in self.media_types.keys() {
            let extension = key.trim_start_matches('.').to_ascii_lowercase();
            if extension.contains(['.', '/']) {
                let text = "applies to no file: an extension is what follows the last dot";
                warn(key, format!("media type {key:?} {text}"));
            } else if let Some(other) = known.insert(extension, key) {
                let text = format!("is never used: {key:?} is the same extension");
                warn(other, format!("media type {other:?} {text}"));
            }
        }
        warnings
    }

    /// Returns warnings about names of this host without effect: a host before it has precedence,
    /// or no request can have the name.
    fn host_name_warnings(&self, before: &[Self], budget: &Budget) -> Vec<Warning> {
        let names = self.names.iter().map(HostName::as_str);
        let warn = |name: &str| {
            if !is_possible_host(name) {
                return Some(format!("no request can have the name {name:?}"));
            }
            // Exact names have precedence over patterns.
            let suffix = name.strip_prefix('*')?;
            budget.take(before.len())?;
            let mut wider = before.iter().flat_map(|host| &host.names);
            let wider = wider.find(|other| {
                let other = other.as_str().strip_prefix('*');
                other.is_some_and(|other| suffix.ends_with(other))
            })?;
            let wider = wider.as_str();
            Some(format!(
                "the name {name:?} is never used: {wider:?} of an earlier host matches the same"
            ))
        };
        let warnings = names.filter_map(warn);
        warnings
            .map(|text| (self.location_of("names"), text))
            .collect()
    }
}

/// What the analysis may still cost, in comparisons of a rule with a path or so. Rules may be written
/// so that the analysis of all would take very long, so that it ends without a verdict.
struct Budget(Cell<usize>);

impl Budget {
    /// Enough for some ten thousand rules, and less than a second.
    fn new() -> Self {
        Self(Cell::new(2_000_000))
    }

    /// Takes the cost of a step; `None` if too little is left.
    fn take(&self, cost: usize) -> Option<()> {
        let remaining = self.0.get().checked_sub(cost)?;
        self.0.set(remaining);
        Some(())
    }
}

/// Where redirects lead.
enum RedirectEnd {
    /// A path of this server that no rule redirects.
    At(Vec<u8>),
    /// Another server, or a URL that this server rejects.
    Elsewhere,
    Never,
}

/// The rules of one site, so that rules with precedence over another are found quickly.
struct RuleIndex<'a> {
    site: &'a Site,
    redirects: PatternIndex,
    rewrites: PatternIndex,
    headers: PatternIndex,
    /// The last route of each path.
    last_routes: HashMap<&'a str, usize>,
    budget: &'a Budget,
}

impl<'a> RuleIndex<'a> {
    fn new(site: &'a Site, budget: &'a Budget) -> Self {
        let routes = site.routes.iter().enumerate();
        Self {
            site,
            redirects: PatternIndex::new(site.redirects.iter().map(|rule| &rule.from)),
            rewrites: PatternIndex::new(site.rewrites.iter().map(|rule| &rule.from)),
            headers: PatternIndex::new(site.headers.iter().map(|rule| &rule.path)),
            last_routes: routes
                .map(|(index, rule)| (rule.path.as_str(), index))
                .collect(),
            budget,
        }
    }

    /// Returns the position of the redirect for a path, if there is one. `None` if the analysis
    /// ends here.
    fn redirect_of(&self, path: &[u8]) -> Option<Option<usize>> {
        const BYTES_PER_STEP: usize = 64;
        self.budget
            .take(1 + path.len() / BYTES_PER_STEP + self.redirects.candidates(path))?;
        Some(self.redirects.first(path))
    }

    /// Returns the text that follows the rule in the warning.
    fn redirect_warning(&self, index: usize, rule: &RedirectRule) -> Option<String> {
        if let Some(reason) = unmatched(&rule.from) {
            return Some(reason.to_owned());
        }
        // The first rule that matches this path covers the rule.
        let example_path = rule.from.example_path();
        match self.redirect_of(&example_path)? {
            Some(first) if first < index => {
                let first = &self.site.redirects[first];
                Some(format!("is never used: {first} comes first"))
            }
            _ => match self.follow(example_path)? {
                RedirectEnd::At(path) => self.slash_loop(&path),
                RedirectEnd::Elsewhere => None,
                RedirectEnd::Never => Some("loops; browsers give up".to_owned()),
            },
        }
    }

    /// Returns the warning that redirects to `path` loop with the one that the server itself makes there: to
    /// the path with a slash if there is a folder, and to the path without it if there is a page with a clean
    /// URL.
    fn slash_loop(&self, path: &[u8]) -> Option<String> {
        let (redirected, subject) = match path.strip_suffix(b"/") {
            None => ([path, b"/"].concat(), "a folder: the server adds the slash"),
            Some([]) => return None,
            Some(page) if self.site.clean_urls => {
                (page.to_vec(), "a page: clean-urls removes the slash")
            }
            Some(_) => return None,
        };
        match self.follow(redirected)? {
            RedirectEnd::At(end) if end == path && !self.is_served_by_rule(path)? => {
                Some(format!("loops where there is {subject}; browsers give up"))
            }
            _ => None,
        }
    }

    /// Returns whether a route or a rewrite answers at a path, whatever is there. `None` if the analysis ends
    /// first.
    fn is_served_by_rule(&self, path: &[u8]) -> Option<bool> {
        self.budget.take(1 + self.rewrites.candidates(path))?;
        let mut rewrites = self.rewrites.all(path).into_iter();
        let is_route = std::str::from_utf8(path).is_ok_and(|it| self.last_routes.contains_key(it));
        Some(is_route || rewrites.any(|position| !self.site.rewrites[position as usize].missing))
    }

    /// Follows the redirects from `path`. `None` if the analysis ends first.
    fn follow(&self, mut path: Vec<u8>) -> Option<RedirectEnd> {
        /// The limit of browsers (Fetch, "HTTP-redirect fetch").
        const MAX_REDIRECTS: usize = 20;
        /// Longer paths than requests usually have; each redirect may multiply the length.
        const MAX_PATH_BYTES: usize = 8 * 1024;
        for _ in 0..=MAX_REDIRECTS {
            if path.len() > MAX_PATH_BYTES {
                return None;
            }
            let Some(position) = self.redirect_of(&path)? else {
                return Some(RedirectEnd::At(path));
            };
            let rule = &self.site.redirects[position];
            let location = rule.to.expand(&rule.from.matches(&path)?);
            let (address, _) = location.split_once('#').unwrap_or((&location, ""));
            let Ok(target) = Target::parse(&Method::GET, split_query(address).0) else {
                return Some(RedirectEnd::Elsewhere);
            };
            if target.authority.is_some() {
                return Some(RedirectEnd::Elsewhere);
            }
            path = target.path.into_owned();
        }
        Some(RedirectEnd::Never)
    }

    fn route_warning(&self, index: usize, rule: &RouteRule) -> Option<String> {
        if rule.path.contains('*') {
            return Some(
                "matches no other path: a route has no pattern; use [[rewrite]] for that"
                    .to_owned(),
            );
        }
        if has_escape(&rule.path) {
            return Some(NO_ESCAPE.to_owned());
        }
        if let Some(position) = self.redirect_of(rule.path.as_bytes())? {
            let redirect = &self.site.redirects[position];
            return Some(format!("is never used: {redirect} comes first"));
        }
        let last = *self.last_routes.get(rule.path.as_str())?;
        let last = self.site.routes.get(last).filter(|_| last > index)?;
        Some(format!("is never used: {last} replaces it"))
    }

    fn rewrite_warning(&self, index: usize, rule: &RewriteRule) -> Option<String> {
        if let Some(reason) = unmatched(&rule.from) {
            return Some(reason.to_owned());
        }
        let example_path = rule.from.example_path();
        if let Some(position) = self.redirect_of(&example_path)? {
            let redirect = &self.site.redirects[position];
            return Some(format!("is never used: {redirect} comes first"));
        }
        self.budget
            .take(1 + self.rewrites.candidates(&example_path))?;
        let covering = self.rewrites.all(&example_path).into_iter();
        let covering = covering.map(|position| position as usize);
        // A rewrite for missing files comes after all others.
        let mut covering = covering.filter(|position| {
            let other = &self.site.rewrites[*position];
            *position != index
                && (other.missing == rule.missing && *position < index
                    || !other.missing && rule.missing)
        });
        let first = &self.site.rewrites[covering.next()?];
        Some(format!("is never used: {first} comes first"))
    }

    fn header_warning(&self, index: usize, rule: &HeaderRule) -> Option<String> {
        if let Some(reason) = unmatched(&rule.path) {
            return Some(reason.to_owned());
        }
        if rule.condition.is_only_of_parts() {
            return Some("applies to no response: 206 and 304 count as 200".to_owned());
        }
        let example_path = rule.path.example_path();
        if let Some(position) = self.redirect_of(&example_path)? {
            let redirect = &self.site.redirects[position];
            // A header rule with the same paths is meant for the redirect response.
            let intended = rule.path.covers(&redirect.from);
            return (!intended)
                .then(|| format!("applies to no file: {redirect} answers at all of its paths"));
        }
        let candidates = self.headers.candidates(&example_path);
        self.budget
            .take(1 + candidates.saturating_mul(1 + rule.fields.len()))?;
        let covering = self.headers.all(&example_path).into_iter();
        // A flag is meant to override the file.
        let covering: Vec<&HeaderRule> = covering
            .map(|position| position as usize)
            .filter(|position| *position > index)
            .map(|position| &self.site.headers[position])
            .filter(|other| !matches!(other.location, SourceLocation::Flag(_)))
            .filter(|other| other.condition.covers(&rule.condition))
            .collect();
        let replacing = |name: &HeaderName| {
            let sets = |other: &&&HeaderRule| other.fields.iter().any(|(set, _)| set == name);
            // Vary fields are appended, not replaced.
            covering.iter().rfind(sets).filter(|_| *name != VARY)
        };
        let replaced = rule.fields.iter().map(|(name, _)| replacing(name));
        let last = replaced
            .collect::<Option<Vec<_>>>()?
            .into_iter()
            .next_back();
        Some(match last {
            None if rule.encoded => return None,
            None => "sets no field".to_owned(),
            Some(last) => format!("has no effect: {last} sets the same fields"),
        })
    }
}

/// Returns why no path matches a pattern, or not the intended ones.
fn unmatched(pattern: &PathPattern) -> Option<&'static str> {
    if !pattern.is_possible() {
        return Some("matches no path: paths have no \"//\", \".\", \"..\" or backslashes");
    }
    let written = pattern.to_string();
    if written.contains('?') {
        return Some("matches no query: patterns apply to the path before the '?'");
    }
    if written.contains('#') {
        return Some("matches no fragment: browsers do not send what follows a '#'");
    }
    has_escape(&written).then_some(NO_ESCAPE)
}

const NO_ESCAPE: &str =
    "matches no escape: patterns apply to decoded paths, where \"%20\" is a space";

/// True if a text contains what looks like a percent-encoded byte.
fn has_escape(text: &str) -> bool {
    let is_escape = |after_percent: &str| {
        let digits = after_percent.as_bytes().get(..2);
        digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    };
    text.split('%').skip(1).any(is_escape)
}

/// True if a Host field can have this name (RFC 1035 §2.3.4), in which a star is any labels.
fn is_possible_host(name: &str) -> bool {
    if let Some(address) = name.strip_prefix('[') {
        let address = address.strip_suffix(']');
        return address.is_some_and(|address| address.parse::<std::net::Ipv6Addr>().is_ok());
    }
    let label = |label: &str| (1..=63).contains(&label.len()) && !label.contains(['[', ']', ':']);
    name.len() <= 253 && name.split('.').all(label)
}

#[cfg(all(test, feature = "config-file"))]
mod tests;
