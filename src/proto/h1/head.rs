//! A request's head: httparse does the parsing, this module does the refusing.
//!
//! httparse is lenient where RFC 9112 allows it. A server in front of or behind which something
//! else may parse the same bytes must not be: bare LF is caught by the scan for the head's end,
//! the rest here.

use std::borrow::Cow;
use std::ops::Range;

use ::http::{Method, StatusCode, Version};

use super::framing::{self, Framing, Persistence};
use super::inbox::{Scan, scan_head};
use crate::config::Limits;
use crate::http::target::Target;
use crate::http::{FieldSpan, Fields, Rejection};
use crate::proto::request_head::{Path, RequestHead};

/// The most field lines that any configuration allows: their places lie on the stack.
pub(crate) const MAX_FIELDS: usize = 256;

/// The request line is longer than any method, target and version that are served.
const TARGET_TOO_LONG: Rejection =
    Rejection::new(StatusCode::URI_TOO_LONG, "request-target too long");

/// More bytes or lines than a head may have.
const HEAD_TOO_LARGE: Rejection = Rejection::new(
    StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
    "request head too large",
);

/// Whoever expects something else would wait for it.
pub(crate) const UNKNOWN_EXPECTATION: Rejection = Rejection::new(
    StatusCode::EXPECTATION_FAILED,
    "only the expectation 100-continue is supported",
);

/// What a request head says about the message and its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HeadInfo {
    pub(crate) framing: Framing,
    pub(crate) persistence: Persistence,
    pub(crate) expectation: Expectation,
}

/// The Expect field (RFC 9110 §10.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expectation {
    None,
    Continue,
    /// One that nobody defined: 417.
    Unknown,
}

/// Parses `bytes`, which are one whole head, into `head`.
///
/// # Errors
///
/// The rejection of a head that is malformed, larger than `limits` allow, or ambiguous to another
/// parser. `head` must not be used then.
pub(crate) fn parse(
    bytes: &[u8],
    head: &mut RequestHead,
    limits: &Limits,
) -> Result<HeadInfo, Rejection> {
    let mut storage = [const { std::mem::MaybeUninit::uninit() }; MAX_FIELDS];
    let storage = &mut storage[..limits.max_fields.min(MAX_FIELDS)];
    let mut parsed = httparse::Request::new(&mut []);
    match parsed.parse_with_uninit_headers(bytes, storage) {
        Ok(httparse::Status::Complete(len)) if len == bytes.len() => {}
        Ok(_) => return Err(Rejection::bad_request("malformed request head")),
        Err(error) => return Err(refusal(error, bytes)),
    }
    let (Some(method), Some(target), Some(minor)) = (parsed.method, parsed.path, parsed.version)
    else {
        return Err(Rejection::bad_request("malformed request line"));
    };
    if target.len() > limits.max_target_bytes {
        return Err(TARGET_TOO_LONG);
    }
    let version = match minor {
        0 => Version::HTTP_10,
        _ => Version::HTTP_11,
    };
    let method = Method::from_bytes(method.as_bytes())
        .map_err(|_| Rejection::bad_request("malformed method"))?;
    head.spans.clear();
    head.spans
        .extend(parsed.headers.iter().map(|field| FieldSpan {
            name: span_of(field.name.as_bytes(), bytes),
            value: span_of(field.value, bytes),
        }));
    let fields = Fields::new(bytes, &head.spans);
    let parsed_target = Target::parse(&method, target)?;
    check_host(version, &fields, parsed_target.authority)?;
    let info = HeadInfo {
        framing: framing::framing(version, &fields)?,
        persistence: framing::persistence(version, &fields),
        expectation: expectation(version, &fields),
    };
    head.len = bytes.len();
    head.target = span_of(target.as_bytes(), bytes);
    head.path = match parsed_target.path {
        Cow::Borrowed(path) if bytes.as_ptr_range().contains(&path.as_ptr()) => {
            Path::InHead(span_of(path, bytes))
        }
        path => Path::Decoded(path.into_owned()),
    };
    head.version = version;
    head.method = method;
    Ok(info)
}

/// Judges a head of which `len` bytes are there, whole lines: what is too long, and what the
/// request line says, come before what is wrong behind it. So it makes no difference how the bytes
/// came.
pub(crate) fn judge(bytes: &[u8], len: usize, limits: &Limits) -> Result<(), Rejection> {
    if len <= longest_line(limits).min(limits.max_head_bytes) && is_whole_head(&bytes[..len]) {
        return Ok(());
    }
    judge_line(bytes, limits)?;
    judge_size(len, limits)
}

/// Judges a whole head by all that can be said of it before anybody is asked for an answer.
///
/// # Errors
///
/// What a server with these limits says to it.
pub fn check_head(bytes: &[u8], limits: &Limits) -> Result<(), Rejection> {
    if scan_head(bytes, 0) != Scan::Complete(bytes.len()) {
        return Err(Rejection::bad_request(
            "incomplete request head; lines must end with CRLF",
        ));
    }
    judge(bytes, bytes.len(), limits)?;
    let head = parse(bytes, &mut RequestHead::default(), limits)?;
    match head.expectation {
        Expectation::Unknown => Err(UNKNOWN_EXPECTATION),
        Expectation::None | Expectation::Continue => Ok(()),
    }
}

fn is_whole_head(bytes: &[u8]) -> bool {
    bytes.ends_with(b"\r\n\r\n")
}

/// Judges a head of which only these bytes are there.
pub(crate) fn judge_part(bytes: &[u8], limits: &Limits) -> Result<(), Rejection> {
    judge_line(bytes, limits)?;
    judge_size(bytes.len(), limits)
}

/// Judges the request line as far as it is there.
fn judge_line(bytes: &[u8], limits: &Limits) -> Result<(), Rejection> {
    let line_feed = memchr::memchr(b'\n', bytes);
    if line_feed.unwrap_or(bytes.len()) > longest_line(limits) {
        return Err(TARGET_TOO_LONG);
    }
    match line_feed.map(|at| &bytes[..=at]) {
        Some(line) if line.ends_with(b"\r\n") => check_request_line(line),
        _ => Ok(()),
    }
}

fn longest_line(limits: &Limits) -> usize {
    /// Room for a method, a version and two spaces beside the longest target.
    const METHOD_AND_VERSION_BYTES: usize = 64;
    limits
        .max_target_bytes
        .saturating_add(METHOD_AND_VERSION_BYTES)
}

fn judge_size(len: usize, limits: &Limits) -> Result<(), Rejection> {
    match len > limits.max_head_bytes {
        true => Err(HEAD_TOO_LARGE),
        false => Ok(()),
    }
}

/// Judges a request line before the rest of the head is there, so that what speaks another
/// protocol, or HTTP/0.9, hears so at once and does not wait for a timeout.
fn check_request_line(line: &[u8]) -> Result<(), Rejection> {
    match httparse::Request::new(&mut []).parse(line) {
        Ok(_) => Ok(()),
        Err(error) => Err(refusal(error, line)),
    }
}

/// Judges the first byte that a peer sends: a method begins with a token character.
pub(crate) fn check_first_byte(byte: u8) -> Result<(), Rejection> {
    /// The record type of a TLS handshake (RFC 8446 §5.1).
    const TLS_HANDSHAKE: u8 = 0x16;
    match byte {
        TLS_HANDSHAKE => Err(Rejection::bad_request("TLS handshake on a plain HTTP port")),
        byte if super::chunked::is_token_char(byte) => Ok(()),
        _ => Err(Rejection::bad_request("not an HTTP request")),
    }
}

fn refusal(error: httparse::Error, bytes: &[u8]) -> Rejection {
    use httparse::Error;
    match error {
        Error::HeaderName => Rejection::bad_request("malformed field name"),
        Error::HeaderValue => Rejection::bad_request("malformed field value"),
        Error::NewLine => Rejection::bad_request("malformed line ending"),
        Error::TooManyHeaders => HEAD_TOO_LARGE,
        Error::Version if names_http_version(bytes) => Rejection::new(
            StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            "only HTTP/1.0 and HTTP/1.1 are supported",
        ),
        Error::Version | Error::Token | Error::Status => {
            Rejection::bad_request("malformed request line")
        }
    }
}

/// True for a request line that is fine but for the digits behind `HTTP/`.
fn names_http_version(bytes: &[u8]) -> bool {
    let line_end = memchr::memchr(b'\r', bytes).unwrap_or(bytes.len());
    let mut parts = bytes[..line_end].split(|&byte| byte == b' ').skip(2);
    matches!((parts.next(), parts.next()), (Some([b'H', b'T', b'T', b'P', b'/', major, b'.', minor]), None)
        if major.is_ascii_digit() && minor.is_ascii_digit())
}

/// RFC 9112 §3.2: HTTP/1.1 has exactly one Host field, and nobody more than one.
fn check_host(
    version: Version,
    fields: &Fields<'_>,
    target_authority: Option<&str>,
) -> Result<(), Rejection> {
    let mut hosts = fields.all("host");
    match (hosts.next(), hosts.next()) {
        (None, _) if version == Version::HTTP_11 => {
            return Err(Rejection::bad_request("missing Host field"));
        }
        (_, Some(_)) => return Err(Rejection::bad_request("more than one Host field")),
        (Some(host), None) if !is_authority(host) => {
            return Err(Rejection::bad_request("malformed Host field"));
        }
        (_, None) => {}
    }
    match target_authority {
        Some(authority) if !is_authority(authority.as_bytes()) => Err(Rejection::bad_request(
            "malformed authority in the request-target",
        )),
        _ => Ok(()),
    }
}

/// `uri-host [ ":" port ]` (RFC 9110 §4.2.3); user information is not accepted (§4.2.4).
fn is_authority(bytes: &[u8]) -> bool {
    let (host, port) = match bytes.iter().rposition(|byte| matches!(byte, b':' | b']')) {
        Some(at) if bytes[at] == b':' => (&bytes[..at], &bytes[at + 1..]),
        _ => (bytes, &b""[..]),
    };
    let literal = host
        .strip_prefix(b"[")
        .and_then(|host| host.strip_suffix(b"]"));
    let is_host = match literal {
        Some(address) => address
            .iter()
            .all(|byte| *byte == b':' || is_name_char(byte)),
        None => host.iter().all(is_name_char),
    };
    is_host && port.iter().all(u8::is_ascii_digit)
}

fn is_name_char(byte: &u8) -> bool {
    matches!(
        byte,
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9'
        | b'-' | b'.' | b'_' | b'~' | b'!' | b'$' | b'&' | b'\'' | b'(' | b')'
        | b'*' | b'+' | b',' | b';' | b'=' | b'%'
    )
}

fn expectation(version: Version, fields: &Fields<'_>) -> Expectation {
    let is_continue = |value: &[u8]| value.eq_ignore_ascii_case(b"100-continue");
    match fields.first("expect") {
        // RFC 9110 §10.1.1: an expectation from an HTTP/1.0 client is ignored.
        Some(_) if version == Version::HTTP_10 => Expectation::None,
        None => Expectation::None,
        Some(_) if fields.all("expect").all(is_continue) => Expectation::Continue,
        Some(_) => Expectation::Unknown,
    }
}

/// Where `part`, a slice of `whole`, lies in it.
fn span_of(part: &[u8], whole: &[u8]) -> Range<u32> {
    let start = (part.as_ptr() as usize).saturating_sub(whole.as_ptr() as usize);
    start as u32..(start + part.len()) as u32
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};

    use proptest::prelude::*;

    use super::*;
    use crate::http::Request;
    use crate::http::forwarded::ClientInfo;

    fn status(head: &str) -> Result<(), (u16, &'static str)> {
        match parse(
            head.as_bytes(),
            &mut RequestHead::default(),
            &Limits::default(),
        ) {
            Ok(_) => Ok(()),
            Err(rejection) => Err((rejection.status().as_u16(), rejection.reason())),
        }
    }

    #[test]
    fn a_head_becomes_a_request() {
        let bytes = b"GET /a/%62?c=d HTTP/1.1\r\nHost: h:1\r\nX:  y z\t\r\n\r\n";
        let mut head = RequestHead::default();
        if let Err(rejection) = parse(bytes, &mut head, &Limits::default()) {
            panic!("{rejection:?}");
        }
        assert_eq!(head.len, bytes.len());
        let peer = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
        let request = head.request(bytes, ClientInfo::plain(peer));
        assert_eq!(request.method(), Method::GET);
        assert_eq!(request.version(), Version::HTTP_11);
        assert_eq!(request.target(), "/a/%62?c=d");
        assert_eq!(request.path(), "/a/b");
        assert_eq!(request.query(), Some("c=d"));
        let fields: Vec<_> = request.fields().iter().collect();
        assert_eq!(fields, [("Host", &b"h:1"[..]), ("X", b"y z")]);
    }

    #[test]
    fn a_plain_path_is_not_copied() {
        let bytes = b"GET http://h/a/b?c HTTP/1.1\r\nHost: h\r\n\r\n";
        let mut head = RequestHead::default();
        assert!(parse(bytes, &mut head, &Limits::default()).is_ok());
        assert!(matches!(head.path, Path::InHead(range) if range == (12..16)));
    }

    #[test]
    fn what_is_refused_in_a_head() {
        let long = format!("GET /{} HTTP/1.1\r\nHost: h\r\n\r\n", "a".repeat(8192));
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(101));
        let table: &[(&str, Result<(), u16>)] = &[
            ("GET / HTTP/1.1\r\nHost: h\r\n\r\n", Ok(())),
            ("GET / HTTP/1.1\r\nHost:\r\n\r\n", Ok(())),
            ("GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", Ok(())),
            ("GET / HTTP/1.0\r\n\r\n", Ok(())),
            ("BREW /pot HTTP/1.1\r\nHost: h\r\n\r\n", Ok(())),
            ("OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n", Ok(())),
            ("GET http://h/a HTTP/1.1\r\nHost: h\r\n\r\n", Ok(())),
            ("GET / HTTP/1.1\r\n\r\n", Err(400)),
            ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", Err(400)),
            ("GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n", Err(400)),
            ("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", Err(400)),
            ("GET / HTTP/1.1\r\nHost: u@h\r\n\r\n", Err(400)),
            ("GET / HTTP/1.1\r\nHost: h/a\r\n\r\n", Err(400)),
            ("GET http://u@h/ HTTP/1.1\r\nHost: h\r\n\r\n", Err(400)),
            ("GET / HTTP/1.1\r\nHost: h\r\nA : b\r\n\r\n", Err(400)),
            ("GET / HTTP/1.1\r\nHost: h\r\nA: b\r\n c\r\n\r\n", Err(400)),
            ("GET / HTTP/1.1\r\n Host: h\r\n\r\n", Err(400)),
            ("GET / HTTP/1.1\r\nHost: h\r\nA: b\0c\r\n\r\n", Err(400)),
            ("GET / HTTP/1.1\r\nHost: h\r\nA: b\rc\r\n\r\n", Err(400)),
            ("GET / HTTP/1.1\rHost: h\r\n\r\n", Err(400)),
            ("GET / HTTP/1.1\r\nHost: h\r\nA\r\n\r\n", Err(400)),
            ("GET / HTTP/1.1\r\nHost: h\r\n: b\r\n\r\n", Err(400)),
            ("GET  / HTTP/1.1\r\nHost: h\r\n\r\n", Err(400)),
            ("GET /  HTTP/1.1\r\nHost: h\r\n\r\n", Err(400)),
            ("GET / a HTTP/1.1\r\nHost: h\r\n\r\n", Err(400)),
            ("GET\t/ HTTP/1.1\r\nHost: h\r\n\r\n", Err(400)),
            ("GET /\0 HTTP/1.1\r\nHost: h\r\n\r\n", Err(400)),
            ("G@T / HTTP/1.1\r\nHost: h\r\n\r\n", Err(400)),
            ("GET /\r\n\r\n", Err(400)),
            ("GET\r\n\r\n", Err(400)),
            ("GET / http/1.1\r\nHost: h\r\n\r\n", Err(400)),
            ("GET / HTTP/1.10\r\nHost: h\r\n\r\n", Err(400)),
            ("GET /a#b HTTP/1.1\r\nHost: h\r\n\r\n", Err(400)),
            ("GET / HTTP/2.0\r\nHost: h\r\n\r\n", Err(505)),
            ("GET / HTTP/1.2\r\nHost: h\r\n\r\n", Err(505)),
            ("GET / HTTP/0.9\r\nHost: h\r\n\r\n", Err(505)),
            ("PRI * HTTP/2.0\r\n\r\n", Err(505)),
            (&long, Err(414)),
            (&many, Err(431)),
        ];
        for (head, expected) in table {
            let result = status(head);
            assert_eq!(
                result.map_err(|(status, _)| status),
                *expected,
                "{head:?} {result:?}"
            );
        }
    }

    proptest! {
        /// Whatever comes, it is refused or it is a head that any other parser reads alike: lines
        /// that end with CRLF, names that are tokens, values without control characters, one Host
        /// and at most one way to say where the content ends.
        #[test]
        fn what_is_accepted_can_be_read_in_one_way(
            first in prop_oneof![
                Just("GET / HTTP/1.1\r\n"),
                Just("POST /a%2eb?c HTTP/1.1\r\n"),
                Just("GET / HTTP/1.0\r\n"),
                Just("GET http://h/ HTTP/1.1\r\n"),
            ],
            parts in proptest::collection::vec(prop_oneof![
                4 => Just("Host: h\r\n"),
                2 => Just("Content-Length: 5\r\n"),
                2 => Just("Transfer-Encoding: chunked\r\n"),
                1 => Just("Content-Length:"),
                1 => Just("Transfer-Encoding"),
                1 => Just("X:\ty \r\n"),
                1 => Just(": "),
                1 => Just(" "),
                1 => Just("\r"),
                1 => Just("\n"),
                1 => Just("\r\n"),
                1 => Just("\0"),
                1 => Just("\u{80}"),
            ], 0..6),
            flips in proptest::collection::vec((0..200usize, any::<u8>()), 0..2),
        ) {
            let mut bytes = [first, &parts.concat(), "\r\n"].concat().into_bytes();
            for (at, byte) in flips {
                let at = at % bytes.len();
                bytes[at] = byte;
            }
            // As the machine asks: only for what is one whole head.
            let Scan::Complete(len) = scan_head(&bytes, 0) else {
                return Ok(());
            };
            let bytes = &bytes[..len];
            let mut head = RequestHead::default();
            let Ok(info) = parse(bytes, &mut head, &Limits::default()) else {
                return Ok(());
            };
            let mut lines = bytes[..len - 4].split(|byte| *byte == b'\n').skip(1);
            let fields = Fields::new(bytes, &head.spans);
            for (name, value) in fields.iter() {
                let line = lines.next().expect("a line for each field");
                prop_assert!(name.bytes().all(crate::proto::h1::chunked::is_token_char));
                let behind = line.strip_prefix(name.as_bytes());
                prop_assert!(behind.is_some_and(|behind| behind.starts_with(b":")));
                prop_assert!(value.iter().all(|byte| *byte == b'\t' || *byte >= b' ' && *byte != 0x7f));
                prop_assert!(memchr::memmem::find(line, value).is_some());
            }
            prop_assert!(lines.next().is_none());
            let count = |name| fields.all(name).count();
            prop_assert!(count("host") == 1 || count("host") == 0 && head.version == Version::HTTP_10);
            let ways = usize::from(count("content-length") > 0) + count("transfer-encoding");
            prop_assert!(ways <= 1);
            let framing = match (count("content-length"), count("transfer-encoding")) {
                (0, 0) => matches!(info.framing, Framing::None),
                (0, _) => matches!(info.framing, Framing::Chunked),
                _ => !matches!(info.framing, Framing::Chunked),
            };
            prop_assert!(framing);
        }
    }

    #[test]
    fn what_is_not_http_is_refused_at_its_first_bytes() {
        assert!(check_first_byte(b'G').is_ok());
        for byte in [0x16, 0x80, 0, b' ', b'{', b'\n'] {
            assert!(check_first_byte(byte).is_err(), "{byte}");
        }
        let table = [
            (&b"GET / HTTP/1.1\r\n"[..], None),
            (b"GET /\r\n", Some(400)),
            (b"hello there\r\n", Some(400)),
            (b"PRI * HTTP/2.0\r\n", Some(505)),
        ];
        for (line, expected) in table {
            let result = check_request_line(line);
            assert_eq!(
                result.err().map(|r| r.status().as_u16()),
                expected,
                "{line:?}"
            );
        }
    }

    #[test]
    fn what_is_refused_without_a_handler() {
        let status = |head: &str| {
            let refusal = check_head(head.as_bytes(), &Limits::default()).err();
            refusal.map(|refusal| refusal.status().as_u16())
        };
        let get = |line_end: &str, rest: &str| format!("GET / HTTP/1.1\r\nHost: h{line_end}{rest}");
        let long = "x".repeat(Limits::default().max_target_bytes);
        for (head, expected) in [
            (get("\r\n", "\r\n"), None),
            (get("\r\n", "Expect: 100-continue\r\n\r\n"), None),
            (get("\r\n", "Expect: more\r\n\r\n"), Some(417)),
            (get("\r\n", "Host: h\r\n\r\n"), Some(400)),
            (get("\n", "\r\n"), Some(400)),
            (get("\r\n", ""), Some(400)),
            (get("\r\n", "\r\nnext"), Some(400)),
            (
                format!("GET /{long} HTTP/1.1\r\nHost: h\r\n\r\n"),
                Some(414),
            ),
            (String::new(), Some(400)),
        ] {
            assert_eq!(status(&head), expected, "{head:.80}");
        }
    }

    #[test]
    fn a_host_and_perhaps_a_port() {
        for fine in [
            "",
            "a.test",
            "a.test:80",
            "a.test:",
            "[::1]",
            "[::1]:8080",
            "a_b-c~%41",
            "192.0.2.1:1",
        ] {
            assert!(is_authority(fine.as_bytes()), "{fine:?}");
        }
        for malformed in [
            "[::1",
            "::1]",
            "::1",
            "a:b:c",
            "a.test:80x",
            "a.test:-1",
            "a@b",
            "a b",
            "a/b",
            "[a]b",
            "[[::1]]",
            "a[::1]",
        ] {
            assert!(!is_authority(malformed.as_bytes()), "{malformed:?}");
        }
    }

    #[test]
    fn expectations() {
        let of = |version, value| {
            let request = Request::get("/").with_header("Expect", value);
            expectation(version, request.fields())
        };
        assert_eq!(of(Version::HTTP_11, "100-Continue"), Expectation::Continue);
        assert_eq!(of(Version::HTTP_11, "tea"), Expectation::Unknown);
        assert_eq!(of(Version::HTTP_10, "100-continue"), Expectation::None);
    }
}
