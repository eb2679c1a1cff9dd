//! Request heads: httparse parses them, this module rejects what it accepts and HTTP forbids.
//!
//! httparse is lenient where RFC 9112 allows it. A server whose clients or proxies may parse the same
//! bytes differently must not be: the search for the end of the head rejects a bare LF, this module
//! everything else.

use ::http::{Method, StatusCode, Version};

use super::framing::{self, Framing, Persistence};
use super::head_scan::{Scan, scan_head};
use crate::config::Limits;
use crate::http::fields::{NameFilter, Repeated, is_token_char};
use crate::http::host::is_authority;
use crate::http::target::{Target, split_absolute};
use crate::http::{FieldSpan, Fields, Rejection};
use crate::proto::request_head::{Path, RequestHead, span_of};
use crate::proto::request_rules::{Expect, HEAD_TOO_LARGE, TARGET_TOO_LONG, UNKNOWN_EXPECTATION};

/// Maximum number of field lines that any configuration allows: their positions are on the stack.
pub(crate) const MAX_FIELDS: usize = 256;

/// What a request head says about the message and its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HeadInfo {
    pub(crate) framing: Framing,
    pub(crate) persistence: Persistence,
    pub(crate) expect: Expect,
}

/// Parses the head at the beginning of the received bytes without searching for its end first, which
/// takes a tenth of the instructions of a browser's request. Returns `None` if the bytes do not end with an
/// empty line, or if the head is not acceptable: the search then finds the reason. `head` must not be used
/// then.
pub(crate) fn parse_received(
    bytes: &[u8],
    head: &mut RequestHead,
    limits: &Limits,
) -> Option<HeadInfo> {
    if !ends_with_empty_line(bytes) {
        return None;
    }
    let info = parse_first(bytes, head, limits).ok()?;
    let bytes = &bytes[..head.len];
    let is_valid =
        has_crlf_line_ends(bytes, &head.spans) && validate(bytes, bytes.len(), limits).is_ok();
    is_valid.then_some(info)
}

/// Returns whether no line of a head that httparse accepts ends with a bare LF.
fn has_crlf_line_ends(head: &[u8], fields: &[FieldSpan]) -> bool {
    let before_name = |field: &FieldSpan| field.name.start as usize - b"\r\n".len();
    let mut line_ends = fields.iter().map(before_name);
    line_ends.all(|at| head[at] == b'\r') && ends_with_empty_line(head)
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
    let info = parse_first(bytes, head, limits)?;
    if head.len < bytes.len() {
        return Err(MALFORMED_HEAD);
    }
    Ok(info)
}

const MALFORMED_HEAD: Rejection = Rejection::bad_request("malformed request head");

/// As [`parse`], of bytes that may continue after the head.
fn parse_first(
    bytes: &[u8],
    head: &mut RequestHead,
    limits: &Limits,
) -> Result<HeadInfo, Rejection> {
    let mut storage = [const { std::mem::MaybeUninit::uninit() }; MAX_FIELDS];
    let storage = &mut storage[..limits.max_fields.min(MAX_FIELDS)];
    let mut parsed = httparse::Request::new(&mut []);
    head.len = match parsed.parse_with_uninit_headers(bytes, storage) {
        Ok(httparse::Status::Complete(len)) => len,
        Ok(httparse::Status::Partial) => return Err(MALFORMED_HEAD),
        Err(error) => return Err(rejection(error, bytes)),
    };
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
    let mut names = NameFilter::default();
    head.spans.clear();
    head.spans.extend(parsed.headers.iter().map(|field| {
        names.insert(field.name.as_bytes());
        FieldSpan {
            name: span_of(field.name.as_bytes(), bytes),
            value: span_of(field.value, bytes),
        }
    }));
    head.names = names;
    let fields = head.fields(bytes);
    let parsed_target = Target::parse(&method, target)?;
    check_host(version, &fields, parsed_target.authority)?;
    let info = HeadInfo {
        framing: framing::framing(version, &fields)?,
        persistence: framing::persistence(version, &fields),
        expect: Expect::of(version, &fields),
    };
    head.target = span_of(target.as_bytes(), bytes);
    head.path = Path::new(parsed_target.path, bytes);
    head.version = version;
    head.method = method;
    Ok(info)
}

/// Returns the fields that are recorded of bytes that are no valid head, as far as their lines were
/// received. Those about the client are not among them.
pub(crate) fn recorded_fields(bytes: &[u8]) -> Vec<FieldSpan> {
    const NAMES: [&[u8]; 3] = [b"host", b"referer", b"user-agent"];
    let lines = bytes.split_inclusive(|&byte| byte == b'\n');
    let lines = lines.filter_map(|line| line.strip_suffix(b"\n"));
    let lines = lines.map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let fields = lines.skip(1).take_while(|line| !line.is_empty());
    let fields = fields.filter_map(|line| {
        let colon = memchr::memchr(b':', line)?;
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        let is_recorded = NAMES.iter().any(|known| name.eq_ignore_ascii_case(known));
        is_recorded.then(|| FieldSpan {
            name: span_of(name, bytes),
            value: span_of(value, bytes),
        })
    });
    fields.collect()
}

/// Returns the authority for which a request is served (RFC 9112 §3.2.2). The request line and the fields
/// need not be those of a valid head.
pub(crate) fn authority<'a>(line: &'a [u8], fields: &'a Fields<'_>) -> Option<&'a [u8]> {
    let target = line.split(|&byte| byte == b' ').nth(1);
    let target = target.filter(|target| !target.starts_with(b"/"));
    let target = target.and_then(|target| std::str::from_utf8(target).ok());
    match target.and_then(split_absolute) {
        Some((authority, _)) => Some(authority.as_bytes()),
        None => fields.single("host").ok()?,
    }
}

/// Validates the sizes and the request line of a head of which `len` bytes, complete lines, have been
/// received. Errors in them precede errors in the fields, so that the result does not depend on how
/// the bytes were split across reads.
pub(crate) fn validate(bytes: &[u8], len: usize, limits: &Limits) -> Result<(), Rejection> {
    if len <= longest_line(limits).min(limits.max_head_bytes) && ends_with_empty_line(&bytes[..len])
    {
        return Ok(());
    }
    validate_line(bytes, limits)?;
    validate_size(len, limits)
}

/// Validates a complete request head as a server does before it calls a handler.
///
/// # Errors
///
/// The rejection that a server with these limits responds with.
pub fn check_head(bytes: &[u8], limits: &Limits) -> Result<(), Rejection> {
    if scan_head(bytes, 0) != Scan::Complete(bytes.len()) {
        return Err(Rejection::bad_request(
            "incomplete request head; lines must end with CRLF",
        ));
    }
    validate(bytes, bytes.len(), limits)?;
    let head = parse(bytes, &mut RequestHead::default(), limits)?;
    match head.expect {
        Expect::Unknown => Err(UNKNOWN_EXPECTATION),
        Expect::None | Expect::Continue => Ok(()),
    }
}

fn ends_with_empty_line(bytes: &[u8]) -> bool {
    bytes.ends_with(b"\r\n\r\n")
}

/// Validates the beginning of a head.
pub(crate) fn validate_part(bytes: &[u8], limits: &Limits) -> Result<(), Rejection> {
    validate_line(bytes, limits)?;
    validate_size(bytes.len(), limits)
}

/// Validates the received part of the request line.
fn validate_line(bytes: &[u8], limits: &Limits) -> Result<(), Rejection> {
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
    /// Room for a method, a version and two spaces in addition to the longest target.
    const METHOD_AND_VERSION_BYTES: usize = 64;
    limits
        .max_target_bytes
        .saturating_add(METHOD_AND_VERSION_BYTES)
}

fn validate_size(len: usize, limits: &Limits) -> Result<(), Rejection> {
    if len > limits.max_head_bytes {
        return Err(HEAD_TOO_LARGE);
    }
    Ok(())
}

/// Validates a request line before the rest of the head is received, so that a client of another
/// protocol, or of HTTP/0.9, gets a response at once instead of a timeout.
fn check_request_line(line: &[u8]) -> Result<(), Rejection> {
    match httparse::Request::new(&mut []).parse(line) {
        Ok(_) => Ok(()),
        Err(error) => Err(rejection(error, line)),
    }
}

/// Validates the first byte that a peer sends: a method begins with a token character.
pub(crate) fn check_first_byte(byte: u8) -> Result<(), Rejection> {
    /// The record type of a TLS handshake (RFC 8446 §5.1).
    const TLS_HANDSHAKE: u8 = 0x16;
    match byte {
        TLS_HANDSHAKE => Err(Rejection::bad_request("TLS handshake on a plain HTTP port")),
        byte if is_token_char(byte) => Ok(()),
        _ => Err(Rejection::bad_request("not an HTTP request")),
    }
}

fn rejection(error: httparse::Error, bytes: &[u8]) -> Rejection {
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

/// True for a request line that is valid except for the digits after `HTTP/`.
fn names_http_version(bytes: &[u8]) -> bool {
    let line_end = memchr::memchr(b'\r', bytes).unwrap_or(bytes.len());
    let mut parts = bytes[..line_end].split(|&byte| byte == b' ').skip(2);
    matches!((parts.next(), parts.next()), (Some([b'H', b'T', b'T', b'P', b'/', major, b'.', minor]), None)
        if major.is_ascii_digit() && minor.is_ascii_digit())
}

/// RFC 9112 §3.2: a request has exactly one Host field in HTTP/1.1 and at most one in HTTP/1.0.
fn check_host(
    version: Version,
    fields: &Fields<'_>,
    target_authority: Option<&str>,
) -> Result<(), Rejection> {
    match fields.single("host") {
        Ok(None) if version == Version::HTTP_11 => {
            return Err(Rejection::bad_request("missing Host field"));
        }
        Err(Repeated) => return Err(Rejection::bad_request("more than one Host field")),
        Ok(Some(host)) if !is_authority(host) => {
            return Err(Rejection::bad_request("malformed Host field"));
        }
        Ok(_) => {}
    }
    match target_authority {
        Some(authority) if !is_authority(authority.as_bytes()) => Err(Rejection::bad_request(
            "malformed authority in the request-target",
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
