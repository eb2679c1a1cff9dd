//! `[[rewrite]]` and `[[spa]]`: paths that are answered with files of other names, without a redirect.

use std::fmt;

use ::http::Method;
use serde::de::value::SeqAccessDeserializer;
use serde::de::{self, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::pattern::{PathPattern, RedirectTemplate};
use super::rules::rule;
use super::{FileName, SourceLocation};
use crate::error::SettingError;
use crate::http::target::Target;

/// One `[[rewrite]]`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RewriteRule {
    /// The paths that are rewritten.
    pub(crate) from: PathPattern,
    /// The path that is looked up instead.
    pub(crate) to: RedirectTemplate,
    /// Whether only paths are rewritten at which nothing is found.
    pub(crate) missing: bool,
    pub(crate) location: SourceLocation,
}

/// One `[[spa]]`: a single-page application.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SpaRule {
    /// Navigations to missing pages below this path get the application's page. It begins and ends
    /// with a slash.
    pub path: String,
    /// The page.
    pub page: FileName,
    pub(crate) location: SourceLocation,
}

impl SpaRule {
    /// The application of a whole site.
    pub fn of_site(page: FileName, location: SourceLocation) -> Self {
        Self {
            path: "/".to_owned(),
            page,
            location,
        }
    }

    /// Returns whether a path belongs to the application.
    pub(crate) fn contains(&self, path: &[u8]) -> bool {
        let folder = self.path.as_bytes();
        path.starts_with(folder) || path == &folder[..folder.len() - 1]
    }
}

/// Displays the rule on one line, with its location.
impl fmt::Display for RewriteRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rewrite {} → {}{}", self.from, self.to, self.location)
    }
}

/// Displays the rule on one line, with its location.
impl fmt::Display for SpaRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "spa {}{}", self.path, self.location)
    }
}

impl<'de> Deserialize<'de> for RewriteRule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        rule::<RawRewrite, _, _>(deserializer)
    }
}

impl<'de> Deserialize<'de> for SpaRule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        rule::<RawSpa, _, _>(deserializer)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRewrite {
    from: String,
    to: String,
    #[serde(default)]
    missing: bool,
}

impl TryFrom<RawRewrite> for RewriteRule {
    type Error = SettingError;

    fn try_from(raw: RawRewrite) -> Result<Self, SettingError> {
        let from = PathPattern::new(&raw.from)?;
        if !raw.to.starts_with('/') || raw.to.contains(['?', '#', '\\']) {
            return Err(format!(
                "to must be a path that begins with a slash, without a query (got {:?}); use \
                 [[redirect]] for URLs",
                raw.to
            )
            .into());
        }
        let to = RedirectTemplate::new(&raw.to, from.stars())?;
        let example_path = from.example_path();
        let example = from.matches(&example_path).map(|it| to.expand(&it));
        if example.is_none_or(|it| Target::parse(&Method::GET, &it).is_err()) {
            return Err(format!(
                "to must be a path that a request can have: below the root, each % with two \
                 hexadecimal digits (got {:?})",
                raw.to
            )
            .into());
        }
        Ok(Self {
            to,
            from,
            missing: raw.missing,
            location: SourceLocation::default(),
        })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSpa {
    #[serde(default = "slash")]
    path: String,
    page: FileName,
}

fn slash() -> String {
    "/".to_owned()
}

impl TryFrom<RawSpa> for SpaRule {
    type Error = SettingError;

    fn try_from(raw: RawSpa) -> Result<Self, SettingError> {
        let mut path = raw.path;
        let is_normal = PathPattern::new(&path).is_ok_and(|pattern| pattern.is_possible());
        if !is_normal || path.contains(['*', '?', '#']) {
            return Err(format!(
                "path must be that of a folder, such as /app/, without stars (got {path:?})"
            )
            .into());
        }
        if !path.ends_with('/') {
            path.push('/');
        }
        Ok(Self {
            path,
            page: raw.page,
            location: SourceLocation::default(),
        })
    }
}

/// Parses `spa = "index.html"`, for the whole site, or the tables `[[spa]]`.
pub(super) fn spa_rules<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<SpaRule>, D::Error> {
    struct SpaVisitor;

    impl<'de> Visitor<'de> for SpaVisitor {
        type Value = Vec<SpaRule>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a file name or tables [[spa]]")
        }

        fn visit_str<E: de::Error>(self, page: &str) -> Result<Self::Value, E> {
            let page = page.parse().map_err(E::custom)?;
            Ok(vec![SpaRule::of_site(page, SourceLocation::default())])
        }

        fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Self::Value, A::Error> {
            Vec::deserialize(SeqAccessDeserializer::new(seq))
        }
    }

    deserializer.deserialize_any(SpaVisitor)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::site::Site;

    #[test]
    fn spa_is_a_page_or_tables() {
        let rules = |text: &str| {
            let site: Site = toml::from_str(text).map_err(|error| error.to_string())?;
            let rules = site.spa.into_iter();
            Ok::<_, String>(
                rules
                    .map(|rule| (rule.path, rule.page.as_str().to_owned()))
                    .collect::<Vec<_>>(),
            )
        };
        let pair = |path: &str, page: &str| (path.to_owned(), page.to_owned());
        assert_eq!(rules("spa = 'a.html'"), Ok(vec![pair("/", "a.html")]));
        let text = "[[spa]]\npath = '/app'\npage = 'b.html'\n[[spa]]\npage = 'c.html'\n";
        let expected = vec![pair("/app/", "b.html"), pair("/", "c.html")];
        assert_eq!(rules(text), Ok(expected));
        for wrong in [
            "spa = 1",
            "spa = '/etc/passwd'",
            "[[spa]]\npath = '/a/*'\npage = 'a'",
            "[[spa]]\npath = 'a'\npage = 'a'",
            "[[spa]]\npath = '/a//b'\npage = 'a'",
            "[[spa]]\npath = '/a'",
            "[[spa]]\npath = '/a'\npage = '../a'",
        ] {
            assert!(rules(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn rewrite_leads_to_a_path() {
        let parse = |to: &str| {
            toml::from_str::<RewriteRule>(&format!("from = '/a/*'\nto = {to:?}\n")).is_ok()
        };
        for to in ["/b/$1", "/b", "/$1.html"] {
            assert!(parse(to), "{to}");
        }
        for to in [
            "b",
            "https://a.test/",
            "/b?c",
            "/b#c",
            "/$2",
            "/a\\b",
            "",
            "/../b",
            "/100%",
            "/%00",
        ] {
            assert!(!parse(to), "{to}");
        }
    }
}
