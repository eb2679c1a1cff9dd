//! The path patterns of site rules (`/old/*`), and the templates of redirects (`/new/$1`).
//!
//! A pattern is matched against the decoded path as bytes; its captures are percent-encoded for the
//! part of the URL into which they are inserted.

use std::fmt;

use ::http::Method;
use memchr::memmem;

use crate::http::target::{Target, encode_parameter, encode_path};

/// Their captures are named `$1` to `$9`.
const MAX_STARS: usize = 9;

/// A pattern for decoded paths: `*` matches any sequence of bytes, which may be empty or contain
/// slashes; everything else matches itself.
#[derive(Clone, Debug)]
pub(crate) struct PathPattern {
    /// The texts before, between and after the stars: one more than there are stars.
    literals: Vec<Vec<u8>>,
}

impl PathPattern {
    /// Parses a pattern. The error is a message for the author of the site file.
    pub(crate) fn new(pattern: &str) -> Result<Self, String> {
        if !pattern.starts_with('/') {
            return Err(format!(
                "a pattern must begin with a slash (got {pattern:?})"
            ));
        }
        let literals: Vec<Vec<u8>> = pattern.split('*').map(Vec::from).collect();
        let stars = literals.len() - 1;
        if stars > MAX_STARS {
            return Err(format!(
                "a pattern must have at most {MAX_STARS} stars (got {stars} in {pattern:?})"
            ));
        }
        Ok(Self { literals })
    }

    /// Returns the number of captures of a match.
    pub(crate) fn stars(&self) -> usize {
        self.literals.len() - 1
    }

    /// Returns the text before the first star.
    pub(crate) fn prefix(&self) -> &[u8] {
        self.literals.first().map_or(b"", Vec::as_slice)
    }

    pub(crate) fn is_match(&self, path: &[u8]) -> bool {
        self.matches(path).is_some()
    }

    /// Returns a path that matches, with 0xFF for each star: a byte that does not occur in UTF-8,
    /// so no literal of another pattern matches it by chance. Where this path is redirected to,
    /// nearly all matching paths are.
    pub(crate) fn example_path(&self) -> Vec<u8> {
        self.literals.join(&0xFF)
    }

    /// True if and only if it matches every path that `other` matches: only a star matches the 0xFF
    /// in the other's example path, and a star that matches one of them matches anything in its
    /// place.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        self.is_match(&other.example_path())
    }

    /// True if a request's path can match: these are normal, without `..` or `//`. If the pattern
    /// is not normal, one of its literals is the cause, whatever the stars match.
    pub(crate) fn is_possible(&self) -> bool {
        let example_path = self.example_path();
        let target = encode_path(&example_path);
        Target::parse(&Method::GET, &target).is_ok_and(|parsed| *parsed.path == *example_path)
    }

    /// Matches a path and returns the captures. From left to right, each star matches as little as
    /// possible, and the last one the remainder: in `/a/b/c`, `/*/*` captures `a` and `b/c`.
    ///
    /// There is no backtracking: if the rest of the pattern matches after a later occurrence of a
    /// literal, it also matches after the first one, because the next star matches the bytes
    /// between. So the time is linear in the lengths of path and pattern.
    pub(crate) fn matches<'p>(&self, path: &'p [u8]) -> Option<Captures<'p>> {
        let mut captures = Captures::default();
        match &self.literals[..] {
            [first, inner @ .., last] => {
                let mut rest = path.strip_prefix(&first[..])?.strip_suffix(&last[..])?;
                for literal in inner {
                    let at = memmem::find(rest, literal)?;
                    captures.push(&rest[..at]);
                    rest = &rest[at + literal.len()..];
                }
                captures.push(rest);
            }
            [only] if path == only => {}
            [_] | [] => return None,
        }
        Some(captures)
    }
}

/// Displays the pattern as it was written.
impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, literal) in self.literals.iter().enumerate() {
            let star = if index > 0 { "*" } else { "" };
            write!(f, "{star}{}", String::from_utf8_lossy(literal))?;
        }
        Ok(())
    }
}

/// What the stars of a [`PathPattern`] match in one path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Captures<'p> {
    slices: [&'p [u8]; MAX_STARS],
    len: usize,
}

impl<'p> Captures<'p> {
    /// Returns the capture `$number`; the first is 1.
    pub(crate) fn number(&self, number: usize) -> Option<&'p [u8]> {
        let all = &self.slices[..self.len];
        all.get(number.checked_sub(1)?).copied()
    }

    fn push(&mut self, capture: &'p [u8]) {
        self.slices[self.len] = capture;
        self.len += 1;
    }
}

/// The target of a redirect: `$1` to `$9` are replaced with the captures of the pattern, `$$` with
/// a dollar sign.
#[derive(Clone, Debug)]
pub(crate) struct RedirectTemplate {
    segments: Vec<TemplateSegment>,
}

#[derive(Clone, Debug)]
enum TemplateSegment {
    Literal(Vec<u8>),
    Capture {
        /// Counted from 1.
        number: usize,
        part: UrlPart,
    },
}

/// The part of a URL where a capture is inserted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum UrlPart {
    Path,
    /// A query or a fragment: both may consist of parameters.
    Parameters,
}

impl UrlPart {
    /// Returns the part that follows `literal` in this part.
    fn after(self, literal: &str) -> Self {
        if literal.contains(['?', '#']) {
            Self::Parameters
        } else {
            self
        }
    }

    fn encode(self, capture: &[u8]) -> String {
        match self {
            Self::Path => encode_path(capture),
            Self::Parameters => encode_parameter(capture),
        }
    }
}

impl RedirectTemplate {
    /// Parses a template for a pattern with that many stars. The error is a message for the author
    /// of the site file.
    pub(crate) fn new(text: &str, stars: usize) -> Result<Self, String> {
        let mut segments = Vec::new();
        let mut part = UrlPart::Path;
        let mut rest = text;
        while let Some((literal, behind)) = rest.split_once('$') {
            segments.push(TemplateSegment::Literal(literal.into()));
            part = part.after(literal);
            let (sign, tail) = behind.split_at_checked(1).unwrap_or_default();
            segments.push(match sign.as_bytes() {
                b"$" => TemplateSegment::Literal(b"$".into()),
                &[digit @ b'1'..=b'9'] => {
                    let number = usize::from(digit - b'0');
                    if number > stars {
                        return Err(format!(
                            "{text:?} uses ${number}, but the pattern has {stars} stars"
                        ));
                    }
                    TemplateSegment::Capture { number, part }
                }
                _ => {
                    return Err(format!(
                        "a $ must be followed by 1 to 9 (got {text:?}); write $$ for a dollar sign"
                    ));
                }
            });
            rest = tail;
        }
        segments.push(TemplateSegment::Literal(rest.into()));
        Ok(Self { segments })
    }

    /// Returns the URL with the captures, which are percent-encoded. Several slashes at its start
    /// become one: `//host` would be another server.
    pub(crate) fn expand(&self, captures: &Captures<'_>) -> String {
        let segments = self.segments.iter().map(|segment| match segment {
            TemplateSegment::Literal(text) => String::from_utf8_lossy(text).into_owned(),
            TemplateSegment::Capture { number, part } => {
                part.encode(captures.number(*number).unwrap_or_default())
            }
        });
        let url: String = segments.collect();
        match url.strip_prefix('/') {
            Some(rest) => format!("/{}", rest.trim_start_matches('/')),
            None => url,
        }
    }
}

/// Displays the template as it was written.
impl fmt::Display for RedirectTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.segments.iter().try_for_each(|segment| match segment {
            TemplateSegment::Literal(text) => {
                let text = String::from_utf8_lossy(text);
                f.write_str(&text.replace('$', "$$"))
            }
            TemplateSegment::Capture { number, .. } => write!(f, "${number}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn path_pattern(pattern: &str) -> PathPattern {
        PathPattern::new(pattern).expect("a pattern")
    }

    fn captures(pattern: &str, path: &[u8]) -> Option<Vec<Vec<u8>>> {
        let pattern = path_pattern(pattern);
        let captures = pattern.matches(path)?;
        assert_eq!(captures.number(0), None);
        assert_eq!(captures.number(pattern.stars() + 1), None);
        let capture = |number| captures.number(number).expect("one for each star").to_vec();
        Some((1..=pattern.stars()).map(capture).collect())
    }

    #[test]
    fn stars_match_lazily_and_the_last_the_remainder() {
        let table: &[(&str, &str, Option<&[&str]>)] = &[
            ("/", "/", Some(&[])),
            ("/", "/a", None),
            ("/a", "/a", Some(&[])),
            ("/a", "/A", None),
            ("/*", "/", Some(&[""])),
            ("/*", "/a/b", Some(&["a/b"])),
            ("/*", "", None),
            ("/a/*", "/a", None),
            ("/a/*", "/a/", Some(&[""])),
            ("/*/*", "/a/b/c", Some(&["a", "b/c"])),
            ("/*.html", "/a.html.html", Some(&["a.html"])),
            ("/*.html", "/.html", Some(&[""])),
            ("/*.html", "/a.htm", None),
            ("/*/x/*", "/a/x/b/x/c", Some(&["a", "b/x/c"])),
            ("/*/x/*.js", "/a/x/b/x/c.js", Some(&["a", "b/x/c"])),
            // The inner literal matches at its first occurrence, the last literal at the end.
            ("/*ab*b", "/xabab", Some(&["x", "a"])),
            ("/*aa", "/aaa", Some(&["a"])),
            // The first and the last literal may not overlap.
            ("/a*a", "/a", None),
            ("/a*a", "/aa", Some(&[""])),
            ("/**", "/ab", Some(&["", "ab"])),
            // No other character is special.
            ("/[a]?{b}\\", "/[a]?{b}\\", Some(&[])),
            ("/?", "/a", None),
            ("/ñ*", "/ñu", Some(&["u"])),
        ];
        for (pattern, path, expected) in table {
            let expected = expected.map(|all| {
                let bytes = |text: &&str| text.as_bytes().to_vec();
                all.iter().map(bytes).collect::<Vec<_>>()
            });
            let found = captures(pattern, path.as_bytes());
            assert_eq!(found, expected, "{pattern} {path}");
            assert_eq!(
                path_pattern(pattern).is_match(path.as_bytes()),
                found.is_some()
            );
        }
        assert_eq!(captures("/*/", b"/\xFF/"), Some(vec![b"\xFF".to_vec()]));
    }

    #[test]
    fn invalid_patterns_and_templates_are_rejected() {
        let patterns = [
            ("", "a pattern must begin with a slash (got \"\")"),
            ("*", "a pattern must begin with a slash (got \"*\")"),
            (
                "/**********",
                "a pattern must have at most 9 stars (got 10 in \"/**********\")",
            ),
        ];
        for (pattern, error) in patterns {
            assert_eq!(PathPattern::new(pattern).err().as_deref(), Some(error));
        }
        let bare_dollar = |text: &str| {
            format!("a $ must be followed by 1 to 9 (got {text:?}); write $$ for a dollar sign")
        };
        let templates = [
            (
                "/$3",
                "\"/$3\" uses $3, but the pattern has 2 stars".to_owned(),
            ),
            ("/$0", bare_dollar("/$0")),
            ("/$", bare_dollar("/$")),
            ("/$x", bare_dollar("/$x")),
            ("/$ñ", bare_dollar("/$ñ")),
            ("/$$$", bare_dollar("/$$$")),
        ];
        for (text, error) in templates {
            assert_eq!(RedirectTemplate::new(text, 2).err(), Some(error));
        }
    }

    #[test]
    fn templates_expand_captures() {
        let pattern = path_pattern("/*/*");
        let captures = pattern.matches(b"/a/b\xFF?$1").expect("a match");
        let table: &[(&str, &str)] = &[
            ("", ""),
            ("/new", "/new"),
            ("/new/$1", "/new/a"),
            ("/$2/$1", "/b%FF%3F$1/a"),
            ("$1$1", "aa"),
            ("/$12", "/a2"),
            ("/$$1$$", "/$1$"),
            ("/$$$1", "/$a"),
            ("//$1", "/a"),
            ("https://h/ñ/$1?q", "https://h/ñ/a?q"),
            ("/$2?$2", "/b%FF%3F$1?b%FF%3F%241"),
            ("/$2#$2", "/b%FF%3F$1#b%FF%3F%241"),
            ("/$$?$$/$2", "/$?$/b%FF%3F%241"),
        ];
        for (text, expected) in table {
            let template = RedirectTemplate::new(text, pattern.stars()).expect("a template");
            assert_eq!(template.expand(&captures), *expected, "{text}");
        }
    }

    #[test]
    fn capture_with_leading_slash_stays_on_this_server() {
        let pattern = path_pattern("/old*");
        let captures = pattern.matches(b"/old/evil.test/x").expect("a match");
        let template = RedirectTemplate::new("/$1", pattern.stars()).expect("a template");
        assert_eq!(template.expand(&captures), "/evil.test/x");
    }

    #[test]
    fn covers_is_containment() {
        for (wide, narrow, covers) in [
            ("/*", "/", true),
            ("/*", "/*/*", true),
            ("/*/*", "/*", false),
            ("/a", "/a", true),
            ("/a", "/b", false),
            ("/a/*", "/a", false),
            ("/a/*", "/a/b/*.js", true),
            ("/*.js", "/a/*.js", true),
            ("/a/*.js", "/*.js", false),
            ("/*a*", "/*b*a", true),
            ("/*aa*", "/*a*", false),
            ("/*a*a*", "/aa", true),
            ("/a*a", "/a", false),
            // Adjacent stars are equivalent to one.
            ("/*", "/**", true),
            ("/**", "/*", true),
            ("/***a", "/*a", true),
        ] {
            assert_eq!(
                path_pattern(wide).covers(&path_pattern(narrow)),
                covers,
                "{wide} {narrow}"
            );
        }
    }

    #[test]
    fn abnormal_patterns_are_impossible() {
        for pattern in [
            "//", "/a//b", "/../a", "/*/..", "/a/./*", "/.", "/a\\b*", "/a\0",
        ] {
            assert!(!path_pattern(pattern).is_possible(), "{pattern}");
        }
        for pattern in [
            "/",
            "/*",
            "/*/*/",
            "/.*",
            "/..*",
            "/a.",
            "/*..",
            "/a b%?#ñ",
            "/.a/",
        ] {
            assert!(path_pattern(pattern).is_possible(), "{pattern}");
        }
    }

    /// With backtracking the time would be exponential.
    #[test]
    fn repetitive_path_matches_in_linear_time() {
        let path = [b"/", &vec![b'a'; 1 << 20][..]].concat();
        assert!(!path_pattern("/*a*a*a*a*a*a*a*a*b").is_match(&path));
        assert!(!path_pattern("/*ab*ab*ab*ab*ab*ab*ab*ab*").is_match(&path));
        let half = "a".repeat(1 << 10);
        assert!(!path_pattern(&format!("/*{half}b*{half}b*")).is_match(&path));
    }

    /// The definition: tries all captures, shorter ones first.
    fn naive(pattern: &[u8], path: &[u8]) -> Option<Vec<Vec<u8>>> {
        match pattern {
            [] => path.is_empty().then(Vec::new),
            [b'*', rest @ ..] => (0..=path.len()).find_map(|len| {
                let mut captures = naive(rest, &path[len..])?;
                captures.insert(0, path[..len].to_vec());
                Some(captures)
            }),
            [byte, rest @ ..] => naive(rest, path.strip_prefix(&[*byte])?),
        }
    }

    proptest! {
        #[test]
        fn matches_equals_exhaustive_search(pattern in "/([ab/]{0,2}\\*){0,4}[ab]{0,2}", path in "/[ab/]{0,14}") {
            prop_assert_eq!(
                captures(&pattern, path.as_bytes()),
                naive(pattern.as_bytes(), path.as_bytes())
            );
        }

        /// If `wide` covers `narrow`, it matches a path that `narrow` matches; if not, the example
        /// path is a counterexample.
        #[test]
        fn covers_holds_for_every_matching_path(
            wide in "/([ab/]{0,2}\\*){0,3}[ab]{0,1}",
            narrow in "/([ab/]{0,2}\\*){0,3}[ab]{0,1}",
            fillings in proptest::collection::vec("[ab/]{0,4}", 3),
        ) {
            let (wide, narrow) = (path_pattern(&wide), path_pattern(&narrow));
            let mut path = narrow.literals[0].clone();
            for (filling, literal) in fillings.iter().zip(&narrow.literals[1..]) {
                path = [&path, filling.as_bytes(), literal].concat();
            }
            prop_assert!(narrow.is_match(&path));
            if wide.covers(&narrow) {
                prop_assert!(wide.is_match(&path));
            } else {
                prop_assert!(!wide.is_match(&narrow.example_path()) && narrow.is_match(&narrow.example_path()));
            }
        }

        #[test]
        fn patterns_and_templates_display_as_written(
            pattern in "/[ab*]{0,9}",
            template in "/([ab]|\\$\\$|\\$1)*",
        ) {
            let stars = pattern.matches('*').count();
            prop_assert_eq!(path_pattern(&pattern).to_string(), &pattern[..]);
            if let Ok(read) = RedirectTemplate::new(&template, stars) {
                prop_assert_eq!(read.to_string(), template);
            }
        }

        /// A path built from a pattern matches it, and its captures in the pattern's own template
        /// yield the path.
        #[test]
        fn captures_in_own_template_yield_the_path(
            literals in proptest::collection::vec("[ab/]{0,2}", 1..=MAX_STARS + 1),
            between in proptest::collection::vec("[ab/$*]{0,3}", MAX_STARS),
        ) {
            let stars = literals.len() - 1;
            let mut path = format!("/{}", literals[0]);
            let mut template = path.clone();
            for number in 1..=stars {
                path = path + &between[number - 1] + &literals[number];
                template = template + &format!("${number}") + &literals[number];
            }
            let pattern = path_pattern(&format!("/{}", literals.join("*")));
            let captures = pattern.matches(path.as_bytes()).expect("made to match");
            let template = RedirectTemplate::new(&template, stars).expect("a template");
            let expanded = template.expand(&captures);
            let joined = path.trim_start_matches('/');
            prop_assert_eq!(expanded, format!("/{}", encode_path(joined.as_bytes())));
        }

        #[test]
        fn arbitrary_text_never_panics(text in any::<String>(), dollars in "[$0-9a]{0,9}", stars in 0..12usize) {
            let pattern = format!("/{text}");
            match PathPattern::new(&pattern) {
                // A star in the path is matched by the star.
                Ok(parsed) => prop_assert!(parsed.is_match(pattern.as_bytes())),
                Err(_) => prop_assert!(text.matches('*').count() > MAX_STARS),
            }
            for text in [text, dollars] {
                if let Ok(template) = RedirectTemplate::new(&text, stars) {
                    template.expand(&Captures::default());
                }
            }
        }
    }
}
