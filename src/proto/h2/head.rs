//! Request heads (RFC 9113 §8.2, §8.3): decoded fields become the head that a request of HTTP/1.1
//! would have. `:authority` becomes the Host field, and the lines of a cookie become one.
//!
//! A head that breaks the rules of HTTP/2 is malformed, which is an error of its stream (§8.1.1). A
//! head that is well-formed and not acceptable gets a response, as it does with HTTP/1.1.

use std::ops::Range;

use ::http::{Method, StatusCode, Version};

use super::hpack::DecodedFields;
use super::priority::PriorityParameters;
use crate::config::Limits;
use crate::http::fields::{NameFilter, is_field_text, is_lowercase_token_char};
use crate::http::host::is_authority;
use crate::http::target::{Target, is_plain_path};
use crate::http::{FieldSpan, Fields, Rejection};
use crate::proto::request_head::{Path, RequestHead};
use crate::proto::request_rules::{Expect, TARGET_TOO_LONG, content_length};

const CONNECT_NOT_SUPPORTED: Rejection =
    Rejection::new(StatusCode::NOT_IMPLEMENTED, "CONNECT is not supported");

/// What a head says about its message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HeadInfo {
    pub(crate) content_length: Option<u64>,
    pub(crate) expect: Expect,
    /// `None` without a `priority` field (RFC 9218 §5).
    pub(crate) priority: Option<PriorityParameters>,
}

/// Why a head is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HeadError {
    /// It is malformed: PROTOCOL_ERROR of the stream (RFC 9113 §8.1.1).
    Malformed(&'static str),
    Rejected(Rejection),
}

impl From<Rejection> for HeadError {
    fn from(rejection: Rejection) -> Self {
        Self::Rejected(rejection)
    }
}

/// The positions of the pseudo-fields (RFC 9113 §8.3.1).
#[derive(Debug, Default)]
struct PseudoFields {
    method: Option<Range<u32>>,
    scheme: Option<Range<u32>>,
    authority: Option<Range<u32>>,
    path: Option<Range<u32>>,
}

impl PseudoFields {
    fn set(&mut self, name: &[u8], value: &Range<u32>) -> Result<(), HeadError> {
        let field = match name {
            b":method" => &mut self.method,
            b":scheme" => &mut self.scheme,
            b":authority" => &mut self.authority,
            b":path" => &mut self.path,
            _ => return Err(HeadError::Malformed("unknown pseudo-field")),
        };
        match field.replace(value.clone()) {
            None => Ok(()),
            Some(_) => Err(HeadError::Malformed("pseudo-field more than once")),
        }
    }
}

/// Turns decoded fields into a head, to which their positions are moved. Appends to their bytes what
/// HTTP/1.1 would have had in others.
///
/// # Errors
///
/// The head is malformed or rejected. `head` must not be used then.
pub(crate) fn parse(
    fields: &mut DecodedFields,
    head: &mut RequestHead,
    limits: &Limits,
) -> Result<HeadInfo, HeadError> {
    let DecodedFields { bytes, spans } = fields;
    check_text(bytes)?;
    let (pseudo, mut names, info) = take_pseudo_fields(bytes, spans)?;
    let method = pseudo.method.ok_or(MISSING_PSEUDO_FIELD)?;
    head.method = Method::from_bytes(slice(bytes, &method))
        .map_err(|_| HeadError::Malformed("malformed method"))?;
    if head.method == Method::CONNECT {
        // RFC 9113 §8.5.
        return Err(match (pseudo.scheme, pseudo.path, pseudo.authority) {
            (None, None, Some(_)) => CONNECT_NOT_SUPPORTED.into(),
            _ => HeadError::Malformed("malformed CONNECT"),
        });
    }
    let scheme = pseudo.scheme.ok_or(MISSING_PSEUDO_FIELD)?;
    check_scheme(slice(bytes, &scheme))?;
    head.target = pseudo.path.ok_or(MISSING_PSEUDO_FIELD)?;
    head.path = parse_path(bytes, &head.target, &head.method, limits)?;
    set_host(bytes, spans, &mut names, pseudo.authority)?;
    if names.may_contain(b"cookie") {
        join_cookies(bytes, spans);
    }
    head.spans = std::mem::take(spans);
    head.names = names;
    head.version = Version::HTTP_2;
    head.len = bytes.len();
    Ok(info)
}

const MISSING_PSEUDO_FIELD: HeadError = HeadError::Malformed("missing pseudo-field");

/// Checks the fields, but for the characters of their values, and removes the pseudo-fields, which come
/// first.
fn take_pseudo_fields(
    bytes: &[u8],
    spans: &mut Vec<FieldSpan>,
) -> Result<(PseudoFields, NameFilter, HeadInfo), HeadError> {
    let mut pseudo = PseudoFields::default();
    let is_pseudo = |span: &FieldSpan| slice(bytes, &span.name).first() == Some(&b':');
    let pseudo_len = spans.iter().take_while(|span| is_pseudo(span)).count();
    for span in &spans[..pseudo_len] {
        check_surrounding_blanks(slice(bytes, &span.value))?;
        pseudo.set(slice(bytes, &span.name), &span.value)?;
    }
    spans.drain(..pseudo_len);
    for span in spans.iter() {
        check_field(slice(bytes, &span.name), slice(bytes, &span.value))?;
    }
    let fields = Fields::new(bytes, spans);
    let info = HeadInfo {
        content_length: content_length(&fields)
            .map_err(|rejection| HeadError::Malformed(rejection.reason()))?,
        expect: Expect::of(Version::HTTP_2, &fields),
        priority: fields
            .first("priority")
            .map(|_| PriorityParameters::parse(fields.all("priority"))),
    };
    Ok((pseudo, fields.names(), info))
}

/// Checks the characters of all fields together, so that many are checked at once. Values that HTTP/1.1
/// does not permit, which RFC 9113 leaves open, are malformed.
fn check_text(bytes: &[u8]) -> Result<(), HeadError> {
    // Without a short circuit, so that the compiler can vectorize it.
    let is_text = bytes
        .iter()
        .fold(true, |is_text, byte| is_text & is_field_text(*byte));
    if !is_text {
        return Err(HeadError::Malformed("malformed field value"));
    }
    Ok(())
}

/// Checks a field of a head or of trailers (RFC 9113 §8.2), but for the characters of its value.
fn check_field(name: &[u8], value: &[u8]) -> Result<(), HeadError> {
    if name.is_empty() || !name.iter().all(|byte| is_lowercase_token_char(*byte)) {
        // A colon is not part of a name: so is a pseudo-field after a field.
        return Err(HeadError::Malformed("malformed field name"));
    }
    match name {
        b"connection" | b"keep-alive" | b"proxy-connection" | b"transfer-encoding" | b"upgrade" => {
            return Err(HeadError::Malformed("field of an HTTP/1.1 connection"));
        }
        b"te" if !value.eq_ignore_ascii_case(b"trailers") => {
            return Err(HeadError::Malformed("te is not trailers"));
        }
        _ => {}
    }
    check_surrounding_blanks(value)
}

fn check_surrounding_blanks(value: &[u8]) -> Result<(), HeadError> {
    let is_blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    if is_blank(value.first()) || is_blank(value.last()) {
        return Err(HeadError::Malformed("white space around a field value"));
    }
    Ok(())
}

/// `scheme` of RFC 3986 §3.1, and of those the ones that a server can be the origin of.
fn check_scheme(scheme: &[u8]) -> Result<(), HeadError> {
    if scheme.eq_ignore_ascii_case(b"http") || scheme.eq_ignore_ascii_case(b"https") {
        return Ok(());
    }
    let is_scheme_char = |byte: &u8| byte.is_ascii_alphanumeric() || b"+-.".contains(byte);
    let begins_with_letter = scheme.first().is_some_and(u8::is_ascii_alphabetic);
    if !begins_with_letter || !scheme.iter().all(is_scheme_char) {
        return Err(HeadError::Malformed("malformed scheme"));
    }
    Err(Rejection::bad_request("unsupported scheme").into())
}

/// Returns the decoded path of the target at a position (RFC 9113 §8.3.1).
fn parse_path(
    bytes: &[u8],
    at: &Range<u32>,
    method: &Method,
    limits: &Limits,
) -> Result<Path, HeadError> {
    let target = slice(bytes, at);
    if is_plain_path(target) && target.len() <= limits.max_target_bytes {
        return Ok(Path::InHead(at.clone()));
    }
    check_target(target, method, limits)?;
    let target =
        std::str::from_utf8(target).map_err(|_| HeadError::Malformed("target is not UTF-8"))?;
    Ok(Path::new(Target::parse(method, target)?.path, bytes))
}

/// Checks a target for what the parser of request lines checks with HTTP/1.1.
fn check_target(target: &[u8], method: &Method, limits: &Limits) -> Result<(), HeadError> {
    let is_origin_form = target.starts_with(b"/");
    let is_asterisk_form = target == b"*" && *method == Method::OPTIONS;
    if !is_origin_form && !is_asterisk_form {
        return Err(HeadError::Malformed("malformed path"));
    }
    if !target
        .iter()
        .fold(true, |is_target, byte| is_target & is_target_byte(*byte))
    {
        return Err(HeadError::Malformed("malformed path"));
    }
    if target.len() > limits.max_target_bytes {
        return Err(TARGET_TOO_LONG.into());
    }
    Ok(())
}

/// A byte that the parser of request lines accepts.
fn is_target_byte(byte: u8) -> bool {
    matches!(byte, b'!'..=b'~' | 0x80..)
}

/// Puts one Host field first: `:authority`, or the field that the client has sent in place of it.
fn set_host(
    bytes: &mut Vec<u8>,
    spans: &mut Vec<FieldSpan>,
    names: &mut NameFilter,
    authority: Option<Range<u32>>,
) -> Result<(), HeadError> {
    let host = if names.may_contain(HOST) {
        take_host(bytes, spans)?
    } else {
        None
    };
    let value = match (authority, host) {
        (None, None) => return Err(MISSING_AUTHORITY),
        (Some(authority), Some(host)) => {
            if !slice(bytes, &authority).eq_ignore_ascii_case(slice(bytes, &host)) {
                return Err(HeadError::Malformed("host differs from the authority"));
            }
            authority
        }
        (Some(value), None) | (None, Some(value)) => value,
    };
    match slice(bytes, &value) {
        // RFC 9110 §4.2.1: a URI with an empty host is invalid.
        b"" => return Err(MISSING_AUTHORITY),
        value if is_authority(value) => {}
        _ => return Err(Rejection::bad_request("malformed authority").into()),
    }
    let name = append(bytes, HOST);
    names.insert(HOST);
    spans.insert(0, FieldSpan { name, value });
    Ok(())
}

const HOST: &[u8] = b"host";

const MISSING_AUTHORITY: HeadError =
    HeadError::Rejected(Rejection::bad_request("missing authority"));

/// Removes the Host field, and returns the position of its value.
fn take_host(bytes: &[u8], spans: &mut Vec<FieldSpan>) -> Result<Option<Range<u32>>, HeadError> {
    let is_host = |span: &FieldSpan| slice(bytes, &span.name) == HOST;
    let Some(at) = spans.iter().position(is_host) else {
        return Ok(None);
    };
    let host = spans.remove(at);
    if spans.iter().any(is_host) {
        return Err(HeadError::Malformed("more than one host"));
    }
    Ok(Some(host.value))
}

/// Joins the lines of the cookie (RFC 9113 §8.2.3).
fn join_cookies(bytes: &mut Vec<u8>, spans: &mut Vec<FieldSpan>) {
    let is_cookie = |bytes: &[u8], span: &FieldSpan| slice(bytes, &span.name) == b"cookie";
    let mut cookies = spans.iter().filter(|span| is_cookie(bytes, span));
    let (Some(first), Some(_)) = (cookies.next().cloned(), cookies.next()) else {
        return;
    };
    let start = bytes.len() as u32;
    for span in spans.iter() {
        if is_cookie(bytes, span) {
            if bytes.len() as u32 > start {
                bytes.extend_from_slice(b"; ");
            }
            let value = span.value.start as usize..span.value.end as usize;
            bytes.extend_from_within(value);
        }
    }
    spans.retain(|span| !is_cookie(bytes, span));
    spans.push(FieldSpan {
        name: first.name,
        value: start..bytes.len() as u32,
    });
}

/// Checks trailers (RFC 9113 §8.1): fields, and no pseudo-fields.
pub(crate) fn check_trailers(fields: &DecodedFields) -> Result<(), HeadError> {
    check_text(&fields.bytes)?;
    for span in &fields.spans {
        check_field(
            slice(&fields.bytes, &span.name),
            slice(&fields.bytes, &span.value),
        )?;
    }
    Ok(())
}

/// Returns true if the method is HEAD. The fields need not be those of a valid head.
pub(crate) fn is_head_request(fields: &DecodedFields) -> bool {
    find(fields, b":method") == Some(b"HEAD")
}

/// The value of the first field with a name.
fn find<'a>(fields: &'a DecodedFields, name: &[u8]) -> Option<&'a [u8]> {
    let mut spans = fields.spans.iter();
    let span = spans.find(|span| slice(&fields.bytes, &span.name) == name)?;
    Some(slice(&fields.bytes, &span.value))
}

/// The request line that the request would have had with HTTP/1.1, for its record; empty without a
/// method. The fields need not be those of a valid head.
pub(crate) fn request_line(fields: &DecodedFields) -> Vec<u8> {
    let Some(method) = find(fields, b":method") else {
        return Vec::new();
    };
    let target = find(fields, b":path").or_else(|| find(fields, b":authority"));
    [method, b" ", target.unwrap_or_default(), b" HTTP/2.0"].concat()
}

fn append(bytes: &mut Vec<u8>, text: &[u8]) -> Range<u32> {
    let start = bytes.len() as u32;
    bytes.extend_from_slice(text);
    start..bytes.len() as u32
}

fn slice<'a>(bytes: &'a [u8], range: &Range<u32>) -> &'a [u8] {
    &bytes[range.start as usize..range.end as usize]
}

#[cfg(test)]
mod tests;
