//! The request-target and its path (RFC 9112 §3.2, RFC 3986 §3.3).
//!
//! A path is decoded exactly once, here. All other code uses the decoded form, so that no two parts of
//! the server can interpret one path differently.

use std::borrow::Cow;

use ::http::Method;
use percent_encoding::{AsciiSet, CONTROLS};

use super::Rejection;
use super::fields::ByteSet;

/// A request-target in its four forms (RFC 9112 §3.2).
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Target<'a> {
    /// The authority of the absolute form; it overrides the Host field (RFC 9112 §3.2.2).
    pub(crate) authority: Option<&'a str>,
    /// The decoded path, without dot segments and empty segments: `/`, `/a/b`, `/a/`. It is `*` for
    /// the asterisk form and empty for the authority form; neither matches a resource.
    pub(crate) path: Cow<'a, [u8]>,
}

impl<'a> Target<'a> {
    /// Parses a request-target in any of its forms.
    ///
    /// # Errors
    ///
    /// 400 for a malformed target, a fragment, or a path that [`decode_path`] rejects.
    pub(crate) fn parse(method: &Method, raw: &'a str) -> Result<Self, Rejection> {
        if is_plain_path(raw.as_bytes()) {
            return Ok(Self {
                authority: None,
                path: Cow::Borrowed(raw.as_bytes()),
            });
        }
        if memchr::memchr(b'#', raw.as_bytes()).is_some() {
            return Err(Rejection::bad_request("fragment in the request-target"));
        }
        if raw.starts_with('/') {
            return Ok(Self {
                authority: None,
                path: decode_path(split_query(raw).0)?,
            });
        }
        if *method == Method::CONNECT {
            return Ok(Self {
                authority: Some(raw),
                path: Cow::Borrowed(b""),
            });
        }
        if raw == "*" && *method == Method::OPTIONS {
            return Ok(Self {
                authority: None,
                path: Cow::Borrowed(b"*"),
            });
        }
        Self::parse_absolute(method, raw)
    }

    fn parse_absolute(method: &Method, raw: &'a str) -> Result<Self, Rejection> {
        const MALFORMED: Rejection = Rejection::bad_request("malformed request-target");
        let (authority, path_and_query) = split_absolute(raw).ok_or(MALFORMED)?;
        if authority.is_empty() || authority.starts_with(':') {
            return Err(Rejection::bad_request("empty host in the request-target"));
        }
        let (path, query) = split_query(path_and_query);
        let path = match path {
            // RFC 9112 §3.2.4: the absolute form without path and query means the asterisk form.
            "" if *method == Method::OPTIONS && query.is_none() => Cow::Borrowed(&b"*"[..]),
            "" => Cow::Borrowed(&b"/"[..]),
            path => decode_path(path)?,
        };
        Ok(Self {
            authority: Some(authority),
            path,
        })
    }
}

/// Returns true for a target that is its own decoded path, as nearly all are: segments of unreserved
/// characters (RFC 3986 §2.3) that are not empty and do not begin with a dot, and no query.
pub(crate) fn is_plain_path(raw: &[u8]) -> bool {
    static PLAIN: ByteSet = ByteSet::of_alphanumeric_and(b"/-._~");
    let is_plain = |pair: &[u8]| PLAIN.contains(pair[1]) && !begins_abnormally(pair);
    raw.starts_with(b"/") && raw.windows(2).all(is_plain)
}

/// Splits a request-target at its first `?`.
pub(crate) fn split_query(raw: &str) -> (&str, Option<&str>) {
    match memchr::memchr(b'?', raw.as_bytes()) {
        Some(mark) => (&raw[..mark], Some(&raw[mark + 1..])),
        None => (raw, None),
    }
}

/// Splits a request-target in absolute form after its authority, which may be empty, as may be the rest: the
/// path and the query. `None` for the other forms.
pub(crate) fn split_absolute(raw: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = raw.split_once("://")?;
    let is_http = scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https");
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    is_http.then(|| rest.split_at(end))
}

/// Decodes a path that starts with `/`, removes dot segments and merges slashes.
///
/// An encoded slash is a slash: clients encode it in names such as `@scope/package`. It is decoded
/// before the segments are examined, so that it leads nowhere that a slash does not.
///
/// Rejected, so that no later layer can be misled by them: NUL, an encoded slash where the path is
/// not normal without changes or at its end, a backslash, an escape that is not two hexadecimal
/// digits, and dot segments that lead above the root.
fn decode_path(raw: &str) -> Result<Cow<'_, [u8]>, Rejection> {
    let decoded = percent_decode(raw.as_bytes())?;
    if decoded.contains(&b'\\') {
        return Err(Rejection::bad_request("backslash in the path"));
    }
    if has_encoded_slash(raw) && !is_unambiguous(raw, &decoded) {
        return Err(Rejection::bad_request(
            "encoded slash in a path with an empty segment or a dot segment",
        ));
    }
    if is_normal(&decoded) {
        return Ok(decoded);
    }
    let mut path = Vec::with_capacity(decoded.len());
    let mut segments = decoded[1..].split(|&byte| byte == b'/').peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment {
            b"" | b"." => {}
            b".." => {
                let parent = path.iter().rposition(|&byte| byte == b'/');
                path.truncate(parent.ok_or(Rejection::bad_request("path goes above the root"))?);
            }
            name => {
                path.push(b'/');
                path.extend_from_slice(name);
                continue;
            }
        }
        if last {
            path.push(b'/');
        }
    }
    if path.is_empty() {
        path.push(b'/');
    }
    Ok(Cow::Owned(path))
}

fn has_encoded_slash(raw: &str) -> bool {
    memchr::memchr_iter(b'%', raw.as_bytes())
        .any(|at| matches!(raw.as_bytes()[at + 1..], [b'2', b'f' | b'F', ..]))
}

/// True if all segments of a path are names, except for an empty one after a slash at the end that
/// is not encoded: the segments are the same whether dot segments are removed before the path is
/// decoded or after that.
fn is_unambiguous(raw: &str, decoded: &[u8]) -> bool {
    let names = match decoded.strip_suffix(b"/") {
        Some(names) if raw.ends_with('/') => names,
        _ => decoded,
    };
    let mut segments = names.split(|&byte| byte == b'/').skip(1);
    segments.all(|segment| !matches!(segment, b"" | b"." | b".."))
}

/// Returns whether the path has no empty segment and none that starts with a dot, which is the
/// common case.
fn is_normal(path: &[u8]) -> bool {
    !path.windows(2).any(begins_abnormally)
}

/// Returns whether two bytes are the slash before an empty segment or before one that starts with a dot.
fn begins_abnormally(pair: &[u8]) -> bool {
    pair[0] == b'/' && matches!(pair[1], b'/' | b'.')
}

fn percent_decode(raw: &[u8]) -> Result<Cow<'_, [u8]>, Rejection> {
    let Some(first) = memchr::memchr(b'%', raw) else {
        return Ok(Cow::Borrowed(raw));
    };
    let mut decoded = Vec::with_capacity(raw.len());
    decoded.extend_from_slice(&raw[..first]);
    let mut rest = &raw[first..];
    while let [byte, tail @ ..] = rest {
        rest = tail;
        if *byte != b'%' {
            decoded.push(*byte);
            continue;
        }
        let [high, low, tail @ ..] = rest else {
            return Err(Rejection::bad_request("incomplete percent-encoding"));
        };
        let (Some(high), Some(low)) = (hex_digit(*high), hex_digit(*low)) else {
            return Err(Rejection::bad_request(
                "percent sign not followed by two hex digits",
            ));
        };
        rest = tail;
        match high << 4 | low {
            0 => return Err(Rejection::bad_request("NUL in the path")),
            byte => decoded.push(byte),
        }
    }
    Ok(Cow::Owned(decoded))
}

/// Returns the value of a hexadecimal digit.
pub(crate) fn hex_digit(digit: u8) -> Option<u8> {
    (digit as char).to_digit(16).map(|value| value as u8)
}

/// The characters that are percent-encoded in a path: all but `pchar` and `/` (RFC 3986 §3.3).
const NOT_IN_PATH: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'[')
    .add(b'\\')
    .add(b']')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

/// Encodes a decoded path for a Location field or a link.
pub(crate) fn encode_path(path: &[u8]) -> String {
    percent_encoding::percent_encode(path, NOT_IN_PATH).to_string()
}

/// Encodes decoded text for a parameter's value in a query or a fragment. A slash stays as it is:
/// it separates no parameters.
pub(crate) fn encode_parameter(text: &[u8]) -> String {
    const RESERVED_BUT_SLASH: &AsciiSet = &RESERVED.remove(b'/');
    percent_encoding::percent_encode(text, RESERVED_BUT_SLASH).to_string()
}

/// Encodes all but the unreserved characters (RFC 3986 §2.3), for text that must not get a meaning
/// in the part of a URL where it is inserted.
pub(crate) fn encode_component(text: &[u8]) -> String {
    percent_encoding::percent_encode(text, RESERVED).to_string()
}

/// All but unreserved characters.
const RESERVED: &AsciiSet = &percent_encoding::NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn path(raw: &str) -> Result<Vec<u8>, &'static str> {
        match Target::parse(&Method::GET, raw) {
            Ok(target) => Ok(target.path.into_owned()),
            Err(rejection) => Err(rejection.reason()),
        }
    }

    #[test]
    fn path_is_decoded_once_and_normalised() {
        let table: &[(&str, &[u8])] = &[
            ("/", b"/"),
            ("/a/b.html", b"/a/b.html"),
            ("/a?b/../..", b"/a"),
            ("/a%20b+c", b"/a b+c"),
            ("/100%25", b"/100%"),
            ("/%2525", b"/%25"),
            ("/%23%3F%3f", b"/#??"),
            ("/%F1", b"/\xF1"),
            ("/ñ", "/ñ".as_bytes()),
            ("//a///b//", b"/a/b/"),
            ("/./a/./b/.", b"/a/b/"),
            ("/a/b/../c", b"/a/c"),
            ("/a/b/..", b"/a/"),
            ("/a/%2e%2E/b", b"/b"),
            ("/a/..", b"/"),
            ("/...", b"/..."),
            ("/.hidden", b"/.hidden"),
            ("/@s%2fp", b"/@s/p"),
            ("/a%2Fb%2fc?d%2fe", b"/a/b/c"),
            ("/a%2fb/", b"/a/b/"),
            ("/a%2f.b%2f..c", b"/a/.b/..c"),
            ("/a%252fb", b"/a%2fb"),
            ("http://h/a%20b", b"/a b"),
            ("HTTP://h", b"/"),
            ("https://h?q", b"/"),
        ];
        for (raw, decoded) in table {
            assert_eq!(path(raw).as_deref(), Ok(*decoded), "{raw}");
        }
    }

    #[test]
    fn ambiguous_paths_are_rejected() {
        const ENCODED_SLASH: &str =
            "encoded slash in a path with an empty segment or a dot segment";
        let table = [
            ("/%00", "NUL in the path"),
            ("/%2f", ENCODED_SLASH),
            ("/%2fa", ENCODED_SLASH),
            ("/a%2f", ENCODED_SLASH),
            ("/a%2F/", ENCODED_SLASH),
            ("/a/%2Fb", ENCODED_SLASH),
            ("/a%2f%2fb", ENCODED_SLASH),
            ("/a//b%2fc", ENCODED_SLASH),
            ("/..%2fa", ENCODED_SLASH),
            ("/a/..%2fb", ENCODED_SLASH),
            ("/a%2f..", ENCODED_SLASH),
            ("/a%2f../b", ENCODED_SLASH),
            ("/a/%2e%2e%2fb", ENCODED_SLASH),
            ("/a%2f%2e%2e%2fb", ENCODED_SLASH),
            ("/a%2f.%2fb", ENCODED_SLASH),
            ("/a/../b%2fc", ENCODED_SLASH),
            ("/a%2f./", ENCODED_SLASH),
            ("http://h/..%2fa", ENCODED_SLASH),
            ("/a%2f%00", "NUL in the path"),
            ("/a%2f%5c..", "backslash in the path"),
            ("/a%2f%2", "incomplete percent-encoding"),
            ("/a\\b", "backslash in the path"),
            ("/a%5Cb", "backslash in the path"),
            ("/%", "incomplete percent-encoding"),
            ("/%4", "incomplete percent-encoding"),
            ("/%zz", "percent sign not followed by two hex digits"),
            ("/%+1", "percent sign not followed by two hex digits"),
            ("/..", "path goes above the root"),
            ("/a/../../b", "path goes above the root"),
            ("/%2e%2e/etc", "path goes above the root"),
            ("/a#b", "fragment in the request-target"),
            ("a", "malformed request-target"),
            ("*", "malformed request-target"),
            ("ftp://h/a", "malformed request-target"),
            ("http:///a", "empty host in the request-target"),
            ("http://:80/", "empty host in the request-target"),
        ];
        for (raw, reason) in table {
            assert_eq!(path(raw), Err(reason), "{raw}");
        }
    }

    #[test]
    fn asterisk_and_authority_forms_require_their_methods() {
        let options = Target::parse(&Method::OPTIONS, "*").map(|target| target.path.into_owned());
        assert_eq!(options, Ok(b"*".to_vec()));
        let connect = Target::parse(&Method::CONNECT, "h:443").map(|target| target.authority);
        assert_eq!(connect, Ok(Some("h:443")));
    }

    proptest! {
        #[test]
        fn decoded_path_is_normal_and_survives_encoding(raw in "/([a-c./%2eF\\x20ñ]|%2[fF]){0,24}") {
            if let Ok(decoded) = path(&raw) {
                let slashes = raw.to_ascii_lowercase().replace("%2f", "/");
                let with_slashes = path(&slashes).map(|path| path.to_ascii_lowercase());
                prop_assert_eq!(with_slashes, Ok(decoded.to_ascii_lowercase()));
                prop_assert!(decoded.starts_with(b"/"));
                for segment in decoded[1..].split(|&byte| byte == b'/') {
                    prop_assert!(segment != b"." && segment != b"..");
                }
                prop_assert!(!decoded.windows(2).any(|pair| pair == b"//"));
                prop_assert_eq!(path(&encode_path(&decoded)), Ok(decoded));
            }
        }
    }
}
