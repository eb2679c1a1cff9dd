//! Rules without effect: another rule has precedence, or no request can match. They are probably
//! mistakes, so there is a warning for each. No file is opened for that.

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use ::http::header::VARY;
use ::http::{HeaderName, Method};

use super::pattern::PathPattern;
use super::pattern_index::PatternIndex;
use super::{HeaderRule, HostName, RedirectRule, RouteRule, Site, SourceLocation};
use crate::http::target::{Target, split_query};

/// Where a rule without effect is, and why it has none.
type Warning = (SourceLocation, String);

impl Site {
    /// Returns one line for each rule without effect: rules after others that match all of their
    /// paths, patterns that no path matches, redirect loops, host names that no request can have.
    pub fn warnings(&self, file: &Path) -> Vec<String> {
        let budget = Budget::new();
        let mut warnings = self.own_warnings(&budget);
        for (index, host) in self.hosts.iter().enumerate() {
            let name = host.names.first().map_or("", HostName::as_str);
            let of_names = host.host_name_warnings(&self.hosts[..index], &budget);
            let of_host = of_names.into_iter().chain(host.own_warnings(&budget));
            warnings
                .extend(of_host.map(|(location, text)| (location, format!("host {name}: {text}"))));
        }
        let file = file.display();
        let line = |(location, text): Warning| match location {
            SourceLocation::Line(line) => format!("{file}:{line}: {text}"),
            SourceLocation::Flag => format!("--header: {text}"),
            SourceLocation::Unknown => format!("{file}: {text}"),
        };
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
                    rule.location,
                    format!("redirect {} → {} {text}", rule.from, rule.to),
                ))
            });
        let routes = self.routes.iter().enumerate().filter_map(|(index, rule)| {
            let text = rules.route_warning(index, rule)?;
            Some((rule.location, format!("route {} {text}", rule.path)))
        });
        let headers = self.headers.iter().enumerate().filter_map(|(index, rule)| {
            let text = rules.header_warning(index, rule)?;
            Some((rule.location, format!("header {} {text}", rule.path)))
        });
        let mut all: Vec<Warning> = redirects.chain(routes).chain(headers).collect();
        let others = self.error_page_warnings().chain(self.media_type_warnings());
        all.extend(others.map(|text| (SourceLocation::Unknown, text)));
        all
    }

    fn error_page_warnings(&self) -> impl Iterator<Item = String> {
        let unseen = self
            .error_pages
            .iter()
            .filter(|(status, _)| !status.has_page());
        unseen.map(|(status, page)| {
            let page = page.as_str();
            format!(
                "error page {status} = {page:?} is never used: errors of files are 403, 404, 412, 416 \
                 and 500"
            )
        })
    }

    fn media_type_warnings(&self) -> impl Iterator<Item = String> {
        let mut known: BTreeMap<String, &str> = BTreeMap::new();
        let mut warnings = Vec::new();
        // In the order of precedence: the last of several is used.
        for key in self.media_types.keys() {
            let extension = key.trim_start_matches('.').to_ascii_lowercase();
            if extension.contains(['.', '/']) {
                warnings.push(format!(
                    "media type {key:?} applies to no file: an extension is what follows the last dot"
                ));
            } else if let Some(other) = known.insert(extension, key) {
                warnings.push(format!(
                    "media type {other:?} is never used: {key:?} is the same extension"
                ));
            }
        }
        warnings.into_iter()
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
            .map(|text| (SourceLocation::Unknown, text))
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

/// The rules of one site, so that rules with precedence over another are found quickly.
struct RuleIndex<'a> {
    site: &'a Site,
    redirects: PatternIndex,
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
            _ if self.redirects_end(example_path)? => None,
            _ => Some("loops; browsers give up".to_owned()),
        }
    }

    /// True if following redirects from `path` ends, at this server or another one. `None` if the
    /// analysis ends first.
    fn redirects_end(&self, mut path: Vec<u8>) -> Option<bool> {
        /// The limit of browsers (Fetch, "HTTP-redirect fetch").
        const MAX_REDIRECTS: usize = 20;
        /// Longer paths than requests usually have; each redirect may multiply the length.
        const MAX_PATH_BYTES: usize = 8 * 1024;
        for _ in 0..=MAX_REDIRECTS {
            if path.len() > MAX_PATH_BYTES {
                return None;
            }
            let Some(position) = self.redirect_of(&path)? else {
                return Some(true);
            };
            let rule = &self.site.redirects[position];
            let location = rule.to.expand(&rule.from.matches(&path)?);
            let (address, _) = location.split_once('#').unwrap_or((&location, ""));
            // Another server, or a URL that this server rejects.
            let Ok(target) = Target::parse(&Method::GET, split_query(address).0) else {
                return Some(true);
            };
            if target.authority.is_some() {
                return Some(true);
            }
            path = target.path.into_owned();
        }
        Some(false)
    }

    fn route_warning(&self, index: usize, rule: &RouteRule) -> Option<String> {
        if let Some(position) = self.redirect_of(rule.path.as_bytes())? {
            let redirect = &self.site.redirects[position];
            return Some(format!("is never used: {redirect} comes first"));
        }
        let last = *self.last_routes.get(rule.path.as_str())?;
        let last = self.site.routes.get(last).filter(|_| last > index)?;
        Some(format!("is never used: {last} replaces it"))
    }

    fn header_warning(&self, index: usize, rule: &HeaderRule) -> Option<String> {
        if let Some(reason) = unmatched(&rule.path) {
            return Some(reason.to_owned());
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
            .filter(|other| other.location != SourceLocation::Flag)
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
    let is_escape = |after_percent: &str| {
        let digits = after_percent.as_bytes().get(..2);
        digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    };
    let escaped = written.split('%').skip(1).any(is_escape);
    escaped
        .then_some("matches no escape: patterns apply to decoded paths, where \"%20\" is a space")
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

#[cfg(test)]
mod tests {
    use super::*;

    fn warnings(text: &str) -> Vec<String> {
        let mut site: Site = toml::from_str(text).expect("a site");
        let table = toml::de::DeTable::parse(text).expect("a table");
        let lines = crate::site::config_file::LineNumbers::of(text);
        crate::site::config_file::locate(&mut site, table.get_ref(), &lines);
        site.warnings(Path::new("f"))
    }

    /// From and to.
    type Redirects = &'static [(&'static str, &'static str)];

    fn redirects(rules: Redirects) -> Vec<String> {
        let rule =
            |(from, to): &(&str, &str)| format!("[[redirect]]\nfrom = {from:?}\nto = {to:?}\n");
        warnings(&rules.iter().map(rule).collect::<String>())
    }

    #[test]
    fn effective_rules_have_no_warnings() {
        let text = r#"
            [[route]]
            path = "/logo"
            file = "logo.svg"
            [[redirect]]
            from = "/old/*"
            to = "/new/$1"
            [[redirect]]
            from = "/*/index.html"
            to = "/$1/"
            [[redirect]]
            from = "/www/*"
            to = "https://www.example.org/www/$1"
            [[header]]
            path = "/*"
            Cache-Control = "no-cache"
            [[header]]
            path = "/assets/*"
            Cache-Control = "immutable"
            [[header]]
            path = "/old/*"
            Cache-Control = "max-age=60"
            [[header]]
            path = "/a/*"
            Vary = "Cookie"
            [[header]]
            path = "/*"
            Vary = "DNT"
            [error-pages]
            404 = "error.html"
            [media-types]
            md = "text/markdown"
            [[host]]
            names = ["*.a.example.org"]
            root = "a"
            [[host]]
            names = ["*.example.org", "b.a.example.org", "[::1]", "127.0.0.1"]
            root = "b"
        "#;
        assert_eq!(warnings(text), Vec::<String>::new());
    }

    /// A flag is meant to override the file.
    #[test]
    fn header_flag_causes_no_warning() {
        let text = "[[header]]\npath = \"/a\"\nX-A = \"1\"\n";
        let mut site: Site = toml::from_str(text).expect("a site");
        site.headers.extend(HeaderRule::for_all("X-A: 2"));
        assert_eq!(site.warnings(Path::new("f")), Vec::<String>::new());
    }

    #[test]
    fn shadowed_and_impossible_redirects_are_warned_about() {
        let table: &[(Redirects, &[&str])] = &[
            (
                &[("/a/*", "/x/$1"), ("/a/b", "/y")],
                &[
                    "f:4: redirect /a/b → /y is never used: redirect /a/* → /x/$1 (line 1) comes first",
                ],
            ),
            (
                &[("/a//b", "/y")],
                &[
                    "f:1: redirect /a//b → /y matches no path: paths have no \"//\", \".\", \"..\" or backslashes",
                ],
            ),
            (&[("/a?b=*", "/y")], &["matches no query"]),
            (&[("/a#b", "/y")], &["matches no fragment"]),
            (&[("/a%20b", "/y")], &["matches no escape"]),
            (&[("/100%", "/y")], &[]),
        ];
        for (rules, expected) in table {
            let found = redirects(rules);
            assert_eq!(found.len(), expected.len(), "{found:?}");
            for (found, expected) in found.iter().zip(*expected) {
                assert!(found.contains(expected), "{found}");
            }
        }
    }

    #[test]
    fn redirect_loops_are_warned_about() {
        let table: &[(Redirects, usize)] = &[
            (&[("/a", "/a")], 1),
            (&[("/a", "/a?b#c")], 1),
            (&[("/*", "/index.html")], 1),
            (&[("/old/*", "/old/new/$1")], 1),
            (&[("/a", "/b"), ("/b", "/a")], 2),
            (
                &[("/a/*", "/b/$1"), ("/b/*", "/c/$1"), ("/c/*", "/a/$1")],
                3,
            ),
            (&[("/a", "/b"), ("/b", "/c")], 0),
            // Another server is not followed.
            (&[("/*", "https://example.org/$1")], 0),
            // Each step shortens the path, so it ends.
            (&[("/a*", "/$1")], 0),
            // An earlier rule leaves the loop.
            (&[("/b", "/c"), ("/a", "/b"), ("/*b", "/a")], 0),
        ];
        for (rules, circles) in table {
            let found = redirects(rules);
            let count = found.iter().filter(|line| line.contains(" loops")).count();
            assert_eq!(
                (count, found.len()),
                (*circles, *circles),
                "{rules:?}: {found:?}"
            );
        }
    }

    /// Each redirect multiplies the length of the path.
    #[test]
    fn growing_redirects_are_analysed_within_bounds() {
        let growing: Redirects = &[("/*", "/x$1$1$1$1$1$1$1$1$1")];
        assert_eq!(redirects(growing), Vec::<String>::new());
        let alternating: Redirects = &[("/a*", "/b$1$1$1$1"), ("/b*", "/a$1$1?$1$1")];
        assert_eq!(redirects(alternating), Vec::<String>::new());
    }

    /// Comparing each rule with each other one would exceed the budget before the last rule.
    #[test]
    fn many_rules_are_analysed_within_the_budget() {
        let rule = |number: usize| {
            format!(
                "[[redirect]]\nfrom = \"/old/{number}\"\nto = \"/new/{number}\"\n\
                 [[redirect]]\nfrom = \"/old/{number}/*\"\nto = \"/new/{number}/$1\"\n\
                 [[route]]\npath = \"/file/{number}\"\nfile = \"{number}\"\n\
                 [[header]]\npath = \"/file/{number}\"\nX-A = \"1\"\n"
            )
        };
        let last = "[[redirect]]\nfrom = \"/old/7/a\"\nto = \"/b\"\n";
        let text = (0..5_000).map(rule).collect::<String>() + last;
        let found = warnings(&text);
        assert_eq!(found.len(), 1, "{:?}", found.first());
        assert!(
            found[0].contains("redirect /old/7/* → /new/7/$1 (line 88) comes first"),
            "{}",
            found[0]
        );

        let shared =
            |number: usize| format!("[[redirect]]\nfrom = \"/*/{number}\"\nto = \"/{number}\"\n");
        warnings(&(0..5_000).map(shared).collect::<String>());
    }

    #[test]
    fn other_rules_without_effect_are_warned_about() {
        for (text, expected) in [
            (
                "[[redirect]]\nfrom = \"/a*\"\nto = \"/b\"\n[[route]]\npath = \"/ab\"\nfile = \"f\"\n",
                "f:4: route /ab is never used: redirect /a* → /b (line 1) comes first",
            ),
            (
                "[[route]]\npath = \"/a\"\nfile = \"f\"\n[[route]]\npath = \"/a\"\nsize = \"1\"\n",
                "f:1: route /a is never used: route /a (line 4) replaces it",
            ),
            (
                "[[redirect]]\nfrom = \"/a/*\"\nto = \"/b\"\n[[header]]\npath = \"/a/*.js\"\nX-A = \"1\"\n",
                "f:4: header /a/*.js applies to no file: redirect /a/* → /b (line 1) answers at all of its paths",
            ),
            (
                "[[header]]\npath = \"/a/*\"\nX-A = \"1\"\nX-B = \"1\"\n\
                 [[header]]\npath = \"/*\"\nX-A = \"2\"\nX-B = \"2\"\nX-C = \"2\"\n",
                "f:1: header /a/* has no effect: header /* (line 5) sets the same fields",
            ),
            (
                "[[header]]\npath = \"/a\"\n",
                "f:1: header /a sets no field",
            ),
            (
                "[[header]]\npath = \"/../a\"\nX-A = \"1\"\n",
                "matches no path",
            ),
            (
                "[error-pages]\n405 = \"no.html\"\n",
                "f: error page 405 = \"no.html\" is never used: errors of files are 403, 404, 412, 416 and 500",
            ),
            (
                "[media-types]\n\"tar.gz\" = \"application/gzip\"\n",
                "f: media type \"tar.gz\" applies to no file: an extension is what follows the last dot",
            ),
            (
                "[media-types]\nMD = \"text/plain\"\nmd = \"text/markdown\"\n",
                "f: media type \"MD\" is never used: \"md\" is the same extension",
            ),
            (
                "[[host]]\nnames = [\"*.example.org\"]\nroot = \"a\"\n\
                 [[host]]\nnames = [\"b.test\", \"*.a.example.org\"]\nroot = \"b\"\n",
                "f: host b.test: the name \"*.a.example.org\" is never used: \"*.example.org\" of an earlier host matches the same",
            ),
            (
                "[[host]]\nnames = [\"a..b\"]\nroot = \"a\"\n",
                "f: host a..b: no request can have the name \"a..b\"",
            ),
            (
                "[[host]]\nnames = [\"a\"]\nroot = \"a\"\n[[host.redirect]]\nfrom = \"/a\"\nto = \"/a\"\n",
                "f:4: host a: redirect /a → /a loops; browsers give up",
            ),
        ] {
            let found = warnings(text);
            assert_eq!(found.len(), 1, "{found:?}");
            assert!(found[0].contains(expected), "{}", found[0]);
        }
    }
}
