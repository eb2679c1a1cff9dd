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
#[derive(Clone, Debug, PartialEq, Eq)]
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

    /// Returns the pattern that matches every path: `/*`.
    pub(crate) fn every() -> Self {
        Self {
            literals: vec![b"/".to_vec(), Vec::new()],
        }
    }

    /// Returns the number of captures of a match.
    pub(crate) fn stars(&self) -> usize {
        self.literals.len() - 1
    }

    /// Returns the text before the first star.
    pub(crate) fn prefix(&self) -> &[u8] {
        self.literals.first().map_or(b"", Vec::as_slice)
    }

    /// False if it certainly matches no path beneath `folder`, which has a slash at its end.
    pub(crate) fn may_match_beneath(&self, folder: &[u8]) -> bool {
        let prefix = self.prefix();
        prefix.starts_with(folder) || self.stars() > 0 && folder.starts_with(prefix)
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
mod tests;
