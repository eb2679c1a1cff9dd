//! Response heads on the wire (RFC 9112 §4, §5): the fields a handler chose, and those that
//! belong to the connection.

use std::io::Write;

use ::http::header::{
    CONNECTION, CONTENT_LENGTH, DATE, HeaderName, SERVER, TRANSFER_ENCODING, UPGRADE,
};
use ::http::{HeaderMap, StatusCode};

use super::framing::Persistence;

static KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");

/// What the connection adds to a response.
pub(super) struct ConnectionFields<'a> {
    pub(super) date: &'a [u8],
    pub(super) persistence: Persistence,
    /// What a persistent reply announces as `timeout=`.
    pub(super) keep_alive_seconds: u64,
    /// What it announces as `max=`.
    pub(super) further_requests: Option<u32>,
    pub(super) length: Length,
}

/// What a head says of the length of the content behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Length {
    /// Nothing: there is none (RFC 9110 §8.6), or the end of the connection tells it.
    Unsaid,
    Bytes(u64),
    Chunked,
}

/// Appends one head. Fields about the connection and the framing are the connection's to say;
/// those a handler set are left out.
pub(super) fn encode_head(
    out: &mut Vec<u8>,
    status: StatusCode,
    fields: &HeaderMap,
    connection: &ConnectionFields<'_>,
) {
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(status.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
    if !fields.contains_key(SERVER) {
        out.extend_from_slice(b"\r\nServer: tws");
    }
    out.extend_from_slice(b"\r\nDate: ");
    out.extend_from_slice(connection.date);
    match connection.persistence {
        Persistence::Close => out.extend_from_slice(b"\r\nConnection: close"),
        Persistence::KeepAlive => {
            out.extend_from_slice(b"\r\nConnection: keep-alive\r\nKeep-Alive: timeout=");
            push_number(out, connection.keep_alive_seconds);
            if let Some(max) = connection.further_requests {
                out.extend_from_slice(b", max=");
                push_number(out, u64::from(max));
            }
        }
    }
    for (name, value) in fields {
        if !is_connection_field(name) {
            push_field(out, name.as_str(), value.as_bytes());
        }
    }
    match connection.length {
        Length::Unsaid => {}
        Length::Bytes(length) => {
            out.extend_from_slice(b"\r\nContent-Length: ");
            push_number(out, length);
        }
        Length::Chunked => out.extend_from_slice(b"\r\nTransfer-Encoding: chunked"),
    }
    out.extend_from_slice(b"\r\n\r\n");
}

fn is_connection_field(name: &HeaderName) -> bool {
    [CONNECTION, CONTENT_LENGTH, DATE, TRANSFER_ENCODING, UPGRADE].contains(name)
        || name == KEEP_ALIVE
}

/// The `http` crate keeps names in lower case; on the wire they stand as RFCs write them.
fn push_field(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(b"\r\n");
    let mut word_start = true;
    out.extend(name.bytes().map(|byte| {
        let cased = if word_start {
            byte.to_ascii_uppercase()
        } else {
            byte
        };
        word_start = byte == b'-';
        cased
    }));
    // The one common exception to that rule.
    if name == "etag" {
        let tag = out.len() - 3;
        out[tag] = b'T';
    }
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
}

fn push_number(out: &mut Vec<u8>, number: u64) {
    // Writing to a vector does not fail.
    let _ = write!(out, "{number}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::http::HeaderValue;
    use ::http::header::{ETAG, LAST_MODIFIED};

    fn encode(fields: &HeaderMap, persistence: Persistence, max: Option<u32>) -> String {
        let mut out = Vec::new();
        let connection = ConnectionFields {
            date: b"<date>",
            persistence,
            keep_alive_seconds: 10,
            further_requests: max,
            length: Length::Bytes(7),
        };
        encode_head(&mut out, StatusCode::NOT_FOUND, fields, &connection);
        String::from_utf8_lossy(&out).into_owned()
    }

    #[test]
    fn heads() {
        let mut fields = HeaderMap::new();
        fields.insert(LAST_MODIFIED, HeaderValue::from_static("<then>"));
        fields.insert(ETAG, HeaderValue::from_static("\"x\""));
        assert_eq!(
            encode(&fields, Persistence::KeepAlive, Some(99)),
            "HTTP/1.1 404 Not Found\r\nServer: tws\r\nDate: <date>\r\nConnection: keep-alive\r\n\
             Keep-Alive: timeout=10, max=99\r\nLast-Modified: <then>\r\nETag: \"x\"\r\n\
             Content-Length: 7\r\n\r\n"
        );
        assert_eq!(
            encode(&HeaderMap::new(), Persistence::Close, None),
            "HTTP/1.1 404 Not Found\r\nServer: tws\r\nDate: <date>\r\nConnection: close\r\n\
             Content-Length: 7\r\n\r\n"
        );
    }

    #[test]
    fn a_handler_does_not_speak_for_the_connection() {
        let mut fields = HeaderMap::new();
        for name in [
            CONNECTION,
            CONTENT_LENGTH,
            DATE,
            TRANSFER_ENCODING,
            KEEP_ALIVE.clone(),
        ] {
            fields.insert(name, HeaderValue::from_static("bogus"));
        }
        assert!(!encode(&fields, Persistence::KeepAlive, None).contains("bogus"));
    }
}
