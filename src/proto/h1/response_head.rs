//! Response heads on the wire (RFC 9112 §4, §5): the fields of the handler, and those of the
//! connection.

use ::http::StatusCode;
use ::http::header::UPGRADE;

use super::framing::{BodyFraming, Persistence};
use crate::http::Response;

/// What the connection adds to a response.
pub(crate) struct ConnectionFields<'a> {
    pub(crate) date: &'a [u8],
    pub(crate) persistence: Persistence,
    /// The `timeout` of the Keep-Alive field of a persistent connection, in decimal digits.
    pub(crate) keep_alive_seconds: &'a [u8],
    /// Its `max`, if the number of requests is limited.
    pub(crate) further_requests: Option<u32>,
    /// How the end of the body is found; `None` for a status that has no body (RFC 9110 §8.6).
    pub(crate) framing: Option<BodyFraming>,
}

/// Appends the head of `response`.
pub(crate) fn encode_head(
    out: &mut Vec<u8>,
    response: &Response,
    connection: &ConnectionFields<'_>,
) {
    let status = response.status();
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(status.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
    if !response.has_server() {
        out.extend_from_slice(b"\r\nServer: tws");
    }
    out.extend_from_slice(b"\r\nDate: ");
    out.extend_from_slice(connection.date);
    // RFC 9110 §7.8: the field is in these two, and named in Connection.
    let upgrade = match status {
        StatusCode::SWITCHING_PROTOCOLS | StatusCode::UPGRADE_REQUIRED => response.field(&UPGRADE),
        _ => None,
    };
    let also: &[u8] = if upgrade.is_some() { b", upgrade" } else { b"" };
    match connection.persistence {
        _ if status == StatusCode::SWITCHING_PROTOCOLS => {
            out.extend_from_slice(b"\r\nConnection: upgrade");
        }
        Persistence::Close => {
            out.extend_from_slice(b"\r\nConnection: close");
            out.extend_from_slice(also);
        }
        Persistence::KeepAlive => {
            out.extend_from_slice(b"\r\nConnection: keep-alive");
            out.extend_from_slice(also);
            out.extend_from_slice(b"\r\nKeep-Alive: timeout=");
            out.extend_from_slice(connection.keep_alive_seconds);
            if let Some(max) = connection.further_requests {
                out.extend_from_slice(b", max=");
                push_number(out, u64::from(max));
            }
        }
    }
    if let Some(protocol) = upgrade {
        out.extend_from_slice(b"\r\nUpgrade: ");
        out.extend_from_slice(protocol.as_bytes());
    }
    response.render_fields(out);
    match connection.framing {
        Some(BodyFraming::Length(length)) => {
            out.extend_from_slice(b"\r\nContent-Length: ");
            push_number(out, length);
        }
        Some(BodyFraming::Chunked) => {
            out.extend_from_slice(b"\r\nTransfer-Encoding: chunked");
        }
        Some(BodyFraming::UntilClose) | None => {}
    }
    out.extend_from_slice(b"\r\n\r\n");
}

/// Appends decimal digits. A head has one or two numbers, and `write!` takes longer for one of them
/// than everything else takes for a field.
fn push_number(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::http::StatusCode;
    use ::http::header::{
        CONNECTION, CONTENT_LENGTH, DATE, ETAG, LAST_MODIFIED, SERVER, TRANSFER_ENCODING,
    };

    use crate::body::Body;
    use crate::http::response::PreparedFields;

    fn encode(response: &Response, persistence: Persistence, max: Option<u32>) -> String {
        let mut out = Vec::new();
        let connection = ConnectionFields {
            date: b"<date>",
            persistence,
            keep_alive_seconds: b"10",
            further_requests: max,
            framing: Some(BodyFraming::Length(7)),
        };
        encode_head(&mut out, response, &connection);
        String::from_utf8_lossy(&out).into_owned()
    }

    #[test]
    fn head_has_the_fields_of_connection_and_response() {
        let response = Response::new(StatusCode::NOT_FOUND)
            .with_header(LAST_MODIFIED, "<then>")
            .with_header(ETAG, "\"x\"");
        let expected = "HTTP/1.1 404 Not Found\r\nServer: tws\r\nDate: <date>\r\n\
             Connection: keep-alive\r\nKeep-Alive: timeout=10, max=99\r\n\
             Last-Modified: <then>\r\nETag: \"x\"\r\nContent-Length: 7\r\n\r\n";
        assert_eq!(
            encode(&response, Persistence::KeepAlive, Some(99)),
            expected
        );
        let prepared = PreparedFields::new(response.headers().clone());
        let prepared = Response::prepared(StatusCode::NOT_FOUND, &prepared, Body::Empty);
        assert_eq!(
            encode(&prepared, Persistence::KeepAlive, Some(99)),
            expected
        );
        assert_eq!(
            encode(
                &Response::new(StatusCode::NOT_FOUND),
                Persistence::Close,
                None
            ),
            "HTTP/1.1 404 Not Found\r\nServer: tws\r\nDate: <date>\r\nConnection: close\r\n\
             Content-Length: 7\r\n\r\n"
        );
    }

    #[test]
    fn upgrade_is_offered_only_with_101_and_426() {
        let head = |status, persistence| {
            let response = Response::new(status).with_header(UPGRADE, "websocket");
            encode(&response, persistence, None).to_ascii_lowercase()
        };
        let required = StatusCode::UPGRADE_REQUIRED;
        for (status, persistence, expected) in [
            (
                StatusCode::SWITCHING_PROTOCOLS,
                Persistence::KeepAlive,
                "upgrade",
            ),
            (required, Persistence::KeepAlive, "keep-alive, upgrade"),
            (required, Persistence::Close, "close, upgrade"),
        ] {
            let head = head(status, persistence);
            assert!(
                head.contains(&format!("\r\nconnection: {expected}\r\n")),
                "{head}"
            );
            assert_eq!(head.matches("\r\nupgrade: websocket\r\n").count(), 1);
        }
        assert!(!head(StatusCode::OK, Persistence::KeepAlive).contains("upgrade"));
    }

    #[test]
    fn connection_fields_of_a_handler_are_dropped() {
        let mut response = Response::new(StatusCode::OK);
        for name in [CONNECTION, CONTENT_LENGTH, DATE, TRANSFER_ENCODING] {
            response = response.with_header(name, "bogus");
        }
        let response = response.with_header("Keep-Alive", "bogus");
        assert!(!encode(&response, Persistence::KeepAlive, None).contains("bogus"));
        let shared = PreparedFields::new(response.headers().clone());
        let shared = Response::prepared(StatusCode::OK, &shared, Body::Empty);
        let bare = PreparedFields::new(Default::default());
        let bare =
            Response::prepared(StatusCode::OK, &bare, Body::Empty).with_header(CONNECTION, "bogus");
        for response in [shared, bare] {
            assert!(!encode(&response, Persistence::KeepAlive, None).contains("bogus"));
        }
    }

    #[test]
    fn shared_fields_are_extended_by_one_and_replaced_by_more() {
        let shared = Response::new(StatusCode::OK).with_header(ETAG, "\"x\"");
        let shared = PreparedFields::new(shared.headers().clone());
        let prepared = || Response::prepared(StatusCode::OK, &shared, Body::Empty);
        let one = prepared().with_header(LAST_MODIFIED, "<then>");
        let own = Response::new(StatusCode::OK)
            .with_header(ETAG, "\"x\"")
            .with_header(LAST_MODIFIED, "<then>");
        let encode = |response: &Response| encode(response, Persistence::KeepAlive, None);
        assert_eq!(encode(&one), encode(&own));
        assert_eq!(one.headers(), own.headers());
        let two = one.with_header(SERVER, "other");
        assert_eq!(encode(&two).matches("Server:").count(), 1);
        let server = prepared().with_header(SERVER, "other");
        assert_eq!(encode(&server).matches("Server:").count(), 1);
        assert!(prepared().closing().asks_to_close());
    }
}
