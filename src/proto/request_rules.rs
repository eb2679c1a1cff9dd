//! Rules about requests that are the same in all protocols, and the rejections of requests that
//! violate them.

use ::http::{StatusCode, Version};

use crate::http::{Fields, Rejection};

/// The request-target is longer than the limit.
pub(crate) const TARGET_TOO_LONG: Rejection =
    Rejection::new(StatusCode::URI_TOO_LONG, "request-target too long");

/// The head has too many bytes or field lines.
pub(crate) const HEAD_TOO_LARGE: Rejection = Rejection::new(
    StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
    "request head too large",
);

/// Sent because a client with another expectation would wait for its fulfilment.
pub(crate) const UNKNOWN_EXPECTATION: Rejection = Rejection::new(
    StatusCode::EXPECTATION_FAILED,
    "only the expectation 100-continue is supported",
);

/// The body is longer than the handler or the limits accept.
pub(crate) const BODY_TOO_LARGE: Rejection =
    Rejection::new(StatusCode::PAYLOAD_TOO_LARGE, "request body too large");

/// The peer has ended its input before the end of the body.
pub(crate) const INCOMPLETE_BODY: Rejection = Rejection::bad_request("incomplete request body");

/// The head or the body took too long.
pub(crate) const TIMED_OUT: Rejection =
    Rejection::new(StatusCode::REQUEST_TIMEOUT, "request timed out");

/// A body of up to this length is received as a whole before its handler is called, even if the
/// handler accepts a stream: the job that reads it never waits for the client.
pub(crate) const MAX_BUFFERED_STREAM_BYTES: u64 = 64 * 1024;

/// The Expect field (RFC 9110 §10.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expect {
    None,
    Continue,
    /// An undefined expectation: 417.
    Unknown,
}

impl Expect {
    pub(crate) fn of(version: Version, fields: &Fields<'_>) -> Self {
        let is_continue = |value: &[u8]| value.eq_ignore_ascii_case(b"100-continue");
        match fields.first("expect") {
            // RFC 9110 §10.1.1: an expectation from an HTTP/1.0 client is ignored.
            Some(_) if version == Version::HTTP_10 => Self::None,
            None => Self::None,
            Some(_) if fields.all("expect").all(is_continue) => Self::Continue,
            Some(_) => Self::Unknown,
        }
    }
}

/// The Content-Length. Several equal values count as one (RFC 9110 §8.6); anything else than one
/// number is rejected.
pub(crate) fn content_length(fields: &Fields<'_>) -> Result<Option<u64>, Rejection> {
    let mut length = None;
    for value in fields.all("content-length") {
        for item in value.split(|&byte| byte == b',') {
            let item = item.trim_ascii();
            let number = std::str::from_utf8(item)
                .ok()
                .filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))
                .and_then(|text| text.parse::<u64>().ok())
                .ok_or(Rejection::bad_request("malformed Content-Length"))?;
            if length.is_some_and(|other| other != number) {
                return Err(Rejection::bad_request("conflicting Content-Length values"));
            }
            length = Some(number);
        }
    }
    Ok(length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::Request;

    #[test]
    fn unknown_expectation_is_not_ignored() {
        let of = |version, value| {
            let request = Request::get("/").with_header("Expect", value);
            Expect::of(version, request.fields())
        };
        assert_eq!(of(Version::HTTP_11, "100-Continue"), Expect::Continue);
        assert_eq!(of(Version::HTTP_11, "tea"), Expect::Unknown);
        assert_eq!(of(Version::HTTP_10, "100-continue"), Expect::None);
    }
}
