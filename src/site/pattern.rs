//! Path patterns of site rules (`/old/*`) and what their matches turn into (`/new/$1`).
//!
//! Patterns work on the decoded path as bytes; what they capture is encoded when it is put into a
//! URL.

use std::fmt;

use ::http::Method;
use memchr::memmem;

use crate::http::target::{Target, encode_path};

/// As many as there are names for their captures, `$1` to `$9`.
const MAX_STARS: usize = 9;

/// A pattern for decoded paths: `*` is any sequence of bytes, also none, also with slashes;
/// everything else is itself.
#[derive(Clone, Debug)]
pub(crate) struct PathPattern {
    /// What stands before, between and behind the stars: one more than there are stars.
    literals: Vec<Vec<u8>>,
}

impl PathPattern {
    /// Reads a pattern; the error says what is wrong with it, for whoever wrote the site file.
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

    /// How many captures a match has.
    pub(crate) fn stars(&self) -> usize {
        self.literals.len() - 1
    }

    pub(crate) fn is_match(&self, path: &[u8]) -> bool {
        self.matches(path).is_some()
    }

    /// A path that matches and that no literal of any pattern has a part in but where it must: its
    /// stars stand for a byte that no text in UTF-8 has. What is true of where it leads is true of
    /// nearly all paths that match.
    pub(crate) fn witness(&self) -> Vec<u8> {
        self.literals.join(&0xFF)
    }

    /// True if it matches all that `other` matches. Exactly so: only a star can take the witness's
    /// strange bytes, and a star that takes one of them takes anything in its place.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        self.is_match(&other.witness())
    }

    /// True if a path can match: those that are matched are normal, without `..` or `//`. What
    /// makes a path abnormal stands in a literal, whatever the stars stand for.
    pub(crate) fn is_possible(&self) -> bool {
        let witness = self.witness();
        let target = encode_path(&witness);
        Target::parse(&Method::GET, &target).is_ok_and(|parsed| *parsed.path == *witness)
    }

    /// What the stars stand for. From left to right each takes as little as it can, and the last
    /// one takes the rest: of `/a/b/c`, `/*/*` takes `a` and `b/c`.
    ///
    /// A literal is never looked for again once it is found: if the rest of the pattern fits
    /// behind a later place of it, it fits behind the first one too, for the next star takes what
    /// is between. So the time is linear in the path and the pattern.
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

/// As it was written.
impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, literal) in self.literals.iter().enumerate() {
            let star = if index > 0 { "*" } else { "" };
            write!(f, "{star}{}", String::from_utf8_lossy(literal))?;
        }
        Ok(())
    }
}

/// What the stars of a [`PathPattern`] stand for in one path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Captures<'p> {
    slices: [&'p [u8]; MAX_STARS],
    len: usize,
}

impl<'p> Captures<'p> {
    /// That of `$number`, so the first is 1.
    pub(crate) fn number(&self, number: usize) -> Option<&'p [u8]> {
        let all = &self.slices[..self.len];
        all.get(number.checked_sub(1)?).copied()
    }

    fn push(&mut self, capture: &'p [u8]) {
        self.slices[self.len] = capture;
        self.len += 1;
    }
}

/// Where a match leads: `$1` to `$9` stand for the captures of its glob, `$$` for a dollar sign.
#[derive(Clone, Debug)]
pub(crate) struct Template {
    pieces: Vec<Piece>,
}

#[derive(Clone, Debug)]
enum Piece {
    Literal(Vec<u8>),
    /// Counted from 1.
    Capture(usize),
}

impl Template {
    /// Reads a template for a glob with that many stars; the error is for whoever wrote the site
    /// file.
    pub(crate) fn new(text: &str, stars: usize) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((literal, behind)) = rest.split_once('$') {
            pieces.push(Piece::Literal(literal.into()));
            let (sign, tail) = behind.split_at_checked(1).unwrap_or_default();
            pieces.push(match sign.as_bytes() {
                b"$" => Piece::Literal(b"$".into()),
                &[digit @ b'1'..=b'9'] => {
                    let number = usize::from(digit - b'0');
                    if number > stars {
                        return Err(format!(
                            "{text:?} uses ${number}, but the pattern has {stars} stars"
                        ));
                    }
                    Piece::Capture(number)
                }
                _ => {
                    return Err(format!(
                        "a $ must be followed by 1 to 9 (got {text:?}); write $$ for a dollar sign"
                    ));
                }
            });
            rest = tail;
        }
        pieces.push(Piece::Literal(rest.into()));
        Ok(Self { pieces })
    }

    /// The URL with the captures in it, which are parts of a decoded path and encoded here. One
    /// that starts with a slash starts with one slash only: `//host` would be another server.
    pub(crate) fn expand(&self, captures: &Captures<'_>) -> String {
        let pieces = self.pieces.iter().map(|piece| match piece {
            Piece::Literal(text) => String::from_utf8_lossy(text).into_owned(),
            Piece::Capture(number) => encode_path(captures.number(*number).unwrap_or_default()),
        });
        let url: String = pieces.collect();
        match url.strip_prefix('/') {
            Some(rest) => format!("/{}", rest.trim_start_matches('/')),
            None => url,
        }
    }
}

/// As it was written.
impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.pieces.iter().try_for_each(|piece| match piece {
            Piece::Literal(text) => {
                let text = String::from_utf8_lossy(text);
                f.write_str(&text.replace('$', "$$"))
            }
            Piece::Capture(number) => write!(f, "${number}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn glob(pattern: &str) -> PathPattern {
        PathPattern::new(pattern).expect("a pattern")
    }

    fn captures(pattern: &str, path: &[u8]) -> Option<Vec<Vec<u8>>> {
        let glob = glob(pattern);
        let captures = glob.matches(path)?;
        assert_eq!(captures.number(0), None);
        assert_eq!(captures.number(glob.stars() + 1), None);
        let capture = |number| captures.number(number).expect("one for each star").to_vec();
        Some((1..=glob.stars()).map(capture).collect())
    }

    #[test]
    fn each_star_takes_little_and_the_last_the_rest() {
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
            // The first place of a literal does, though a later one is needed for the end.
            ("/*ab*b", "/xabab", Some(&["x", "a"])),
            ("/*aa", "/aaa", Some(&["a"])),
            // Before and behind may not overlap.
            ("/a*a", "/a", None),
            ("/a*a", "/aa", Some(&[""])),
            ("/**", "/ab", Some(&["", "ab"])),
            // Nothing else is special.
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
            assert_eq!(glob(pattern).is_match(path.as_bytes()), found.is_some());
        }
        assert_eq!(captures("/*/", b"/\xFF/"), Some(vec![b"\xFF".to_vec()]));
    }

    #[test]
    fn patterns_and_templates_that_are_refused() {
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
        let lone = |text: &str| {
            format!("a $ must be followed by 1 to 9 (got {text:?}); write $$ for a dollar sign")
        };
        let templates = [
            (
                "/$3",
                "\"/$3\" uses $3, but the pattern has 2 stars".to_owned(),
            ),
            ("/$0", lone("/$0")),
            ("/$", lone("/$")),
            ("/$x", lone("/$x")),
            ("/$ñ", lone("/$ñ")),
            ("/$$$", lone("/$$$")),
        ];
        for (text, error) in templates {
            assert_eq!(Template::new(text, 2).err(), Some(error));
        }
    }

    #[test]
    fn templates() {
        let glob = glob("/*/*");
        let captures = glob.matches(b"/a/b\xFF?$1").expect("a match");
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
        ];
        for (text, expected) in table {
            let template = Template::new(text, glob.stars()).expect("a template");
            assert_eq!(template.expand(&captures), *expected, "{text}");
        }
    }

    #[test]
    fn a_capture_cannot_lead_to_another_server() {
        let glob = glob("/old*");
        let captures = glob.matches(b"/old/evil.test/x").expect("a match");
        let template = Template::new("/$1", glob.stars()).expect("a template");
        assert_eq!(template.expand(&captures), "/evil.test/x");
    }

    #[test]
    fn one_pattern_covers_another() {
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
            // Stars side by side are one.
            ("/*", "/**", true),
            ("/**", "/*", true),
            ("/***a", "/*a", true),
        ] {
            assert_eq!(glob(wide).covers(&glob(narrow)), covers, "{wide} {narrow}");
        }
    }

    #[test]
    fn patterns_that_nothing_matches() {
        for pattern in [
            "//", "/a//b", "/../a", "/*/..", "/a/./*", "/.", "/a\\b*", "/a\0",
        ] {
            assert!(!glob(pattern).is_possible(), "{pattern}");
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
            assert!(glob(pattern).is_possible(), "{pattern}");
        }
    }

    /// With backtracking this would not end.
    #[test]
    fn a_hostile_path_takes_linear_time() {
        let path = [b"/", &vec![b'a'; 1 << 20][..]].concat();
        assert!(!glob("/*a*a*a*a*a*a*a*a*b").is_match(&path));
        assert!(!glob("/*ab*ab*ab*ab*ab*ab*ab*ab*").is_match(&path));
        let half = "a".repeat(1 << 10);
        assert!(!glob(&format!("/*{half}b*{half}b*")).is_match(&path));
    }

    /// The definition: tries everything, short captures first.
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
        fn as_by_trying_everything(pattern in "/([ab/]{0,2}\\*){0,4}[ab]{0,2}", path in "/[ab/]{0,14}") {
            prop_assert_eq!(
                captures(&pattern, path.as_bytes()),
                naive(pattern.as_bytes(), path.as_bytes())
            );
        }

        /// What the narrow one matches, the wide one does; if there is a doubt, a path says so.
        #[test]
        fn covering_is_what_it_says(
            wide in "/([ab/]{0,2}\\*){0,3}[ab]{0,1}",
            narrow in "/([ab/]{0,2}\\*){0,3}[ab]{0,1}",
            fillings in proptest::collection::vec("[ab/]{0,4}", 3),
        ) {
            let (wide, narrow) = (glob(&wide), glob(&narrow));
            let mut path = narrow.literals[0].clone();
            for (filling, literal) in fillings.iter().zip(&narrow.literals[1..]) {
                path = [&path, filling.as_bytes(), literal].concat();
            }
            prop_assert!(narrow.is_match(&path));
            if wide.covers(&narrow) {
                prop_assert!(wide.is_match(&path));
            } else {
                prop_assert!(!wide.is_match(&narrow.witness()) && narrow.is_match(&narrow.witness()));
            }
        }

        #[test]
        fn patterns_and_templates_are_shown_as_written(
            pattern in "/[ab*]{0,9}",
            template in "/([ab]|\\$\\$|\\$1)*",
        ) {
            let stars = pattern.matches('*').count();
            prop_assert_eq!(glob(&pattern).to_string(), &pattern[..]);
            if let Ok(read) = Template::new(&template, stars) {
                prop_assert_eq!(read.to_string(), template);
            }
        }

        /// A path that is made to match does, and its captures put into the pattern give it back.
        #[test]
        fn there_and_back(
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
            let glob = glob(&format!("/{}", literals.join("*")));
            let captures = glob.matches(path.as_bytes()).expect("made to match");
            let template = Template::new(&template, stars).expect("a template");
            let expanded = template.expand(&captures);
            let joined = path.trim_start_matches('/');
            prop_assert_eq!(expanded, format!("/{}", encode_path(joined.as_bytes())));
        }

        #[test]
        fn no_text_is_too_strange(text in any::<String>(), dollars in "[$0-9a]{0,9}", stars in 0..12usize) {
            let pattern = format!("/{text}");
            match PathPattern::new(&pattern) {
                // A star matches a star too.
                Ok(glob) => prop_assert!(glob.is_match(pattern.as_bytes())),
                Err(_) => prop_assert!(text.matches('*').count() > MAX_STARS),
            }
            for text in [text, dollars] {
                if let Ok(template) = Template::new(&text, stars) {
                    template.expand(&Captures::default());
                }
            }
        }
    }
}
