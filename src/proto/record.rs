//! The record of one exchange, for access logs and for observers of the server.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use ::http::StatusCode;

use super::exchange::RequestInfo;
use crate::http::forwarded::{Scheme, TlsVersion};

/// The record of an exchange that has ended. Bytes are as the client sent them and must be escaped
/// when they are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The client, as [`Request::client_addr`](crate::Request::client_addr) has it; without a valid
    /// request, the peer of the connection.
    pub client_addr: SocketAddr,
    /// The authority of the request: of a target in absolute form or of an HTTP/2 request, otherwise the
    /// Host field.
    pub host: Option<Vec<u8>>,
    /// Whether the client uses HTTPS, as [`Request::is_secure`](crate::Request::is_secure) has it.
    pub is_secure: bool,
    /// The version of TLS on the connection to this server.
    pub tls: Option<TlsVersion>,
    /// The authenticated user, as [`Response::with_user`](crate::Response::with_user) names it.
    pub user: Option<Box<str>>,
    /// The request line without its line end; truncated, or empty, without a valid request.
    pub line: Vec<u8>,
    /// The Referer field.
    pub referer: Option<Vec<u8>>,
    /// The User-Agent field.
    pub user_agent: Option<Vec<u8>>,
    /// Whether a browser loads the response as a part of a page, such as an image, by its Sec-Fetch-Dest
    /// field or its Accept field.
    pub is_subresource: bool,
    /// The status of the response; 499 if the connection ended before there was one.
    pub status: StatusCode,
    /// How many bytes of the response body the kernel has taken, including transfer coding. After a response
    /// with status 101 these are all bytes that were sent on the connection.
    pub content_bytes: u64,
    /// The time from the first byte of the request to the last byte of the response that was sent.
    pub duration: Duration,
    /// How the exchange ended.
    pub outcome: Completion,
}

impl Record {
    /// The record of an exchange that ends now; `status` is `None` if it ended without a response.
    pub(crate) fn new(
        info: RequestInfo,
        status: Option<StatusCode>,
        content_bytes: u64,
        outcome: Completion,
        now: Instant,
    ) -> Self {
        Self {
            client_addr: info.peer,
            host: info.host.map(<[u8]>::into_vec),
            is_secure: info.scheme == Scheme::Https,
            tls: info.tls,
            user: info.user,
            line: info.line,
            referer: info.referer.map(<[u8]>::into_vec),
            user_agent: info.user_agent.map(<[u8]>::into_vec),
            is_subresource: info.is_subresource,
            status: status.unwrap_or(CLIENT_CLOSED_REQUEST),
            content_bytes,
            duration: now.saturating_duration_since(info.started),
            outcome,
        }
    }
}

/// How an exchange ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Completion {
    /// The kernel has taken the whole response.
    Complete,
    /// The connection ended before that.
    Aborted,
}

/// The status of a request without a response: nginx's number for a client that has closed the
/// connection.
const CLIENT_CLOSED_REQUEST: StatusCode = match StatusCode::from_u16(499) {
    Ok(status) => status,
    Err(_) => StatusCode::BAD_REQUEST,
};

/// An exchange whose record is due when its response is sent, or the connection has ended.
#[derive(Debug)]
pub(crate) struct InFlightRecord {
    info: RequestInfo,
    /// `None` if the connection ended before there was a response.
    response: Option<InFlightResponse>,
}

/// Where a response is in the output to the peer, counted in bytes.
#[derive(Debug)]
struct InFlightResponse {
    status: StatusCode,
    /// The position of the first byte of the body.
    body_start: u64,
    /// The position after the last byte; `None` until the end of a body that is produced is known.
    end: Option<u64>,
}

impl InFlightRecord {
    pub(crate) fn response(
        info: RequestInfo,
        status: StatusCode,
        body_start: u64,
        end: Option<u64>,
    ) -> Self {
        let response = Some(InFlightResponse {
            status,
            body_start,
            end,
        });
        Self { info, response }
    }

    /// A request that gets no response, as the connection has ended.
    pub(crate) fn unanswered(info: RequestInfo) -> Self {
        let response = None;
        Self { info, response }
    }

    pub(crate) fn info(&self) -> &RequestInfo {
        &self.info
    }

    pub(crate) fn into_info(self) -> RequestInfo {
        self.info
    }

    /// The end of the body has been produced.
    pub(crate) fn set_end(&mut self, end: u64) {
        if let Some(response) = &mut self.response {
            response.end = Some(end);
        }
    }

    /// True if the whole response is among the first `sent` bytes of the output.
    pub(crate) fn is_complete(&self, sent: u64) -> bool {
        let end = self.response.as_ref().and_then(|response| response.end);
        end.is_some_and(|end| end <= sent)
    }

    /// How many bytes of the body are among the first `sent` bytes of the output.
    pub(crate) fn body_bytes(&self, sent: u64) -> u64 {
        self.response.as_ref().map_or(0, |response| {
            let end = response.end.map_or(sent, |end| end.min(sent));
            end.saturating_sub(response.body_start)
        })
    }

    /// The record, if no more of the output than its first `sent` bytes is sent for it.
    pub(crate) fn into_record(self, sent: u64, now: Instant) -> Record {
        let (content_bytes, is_complete) = (self.body_bytes(sent), self.is_complete(sent));
        let status = self.response.map(|response| response.status);
        let outcome = if is_complete {
            Completion::Complete
        } else {
            Completion::Aborted
        };
        Record::new(self.info, status, content_bytes, outcome, now)
    }
}
