//! What an access log, and who observes a server, want to know of one exchange.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use ::http::StatusCode;

use super::exchange::RequestInfo;

/// One exchange, as it went. Bytes are as the client sent them: whoever writes them must escape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The client, as [`Request::client_addr`](crate::Request::client_addr) has it; if what came was no request,
    /// where the connection comes from.
    pub client_addr: SocketAddr,
    /// The request line without its line end; cut short, or empty, if what came was no request.
    pub line: Vec<u8>,
    /// The Referer field.
    pub referer: Option<Vec<u8>>,
    /// The User-Agent field.
    pub user_agent: Option<Vec<u8>>,
    /// The status of the response; 499 if there was none.
    pub status: StatusCode,
    /// How many bytes of content the kernel has taken.
    pub content_bytes: u64,
    /// From the first byte of the request to the last byte of the response that was sent.
    pub duration: Duration,
    /// How it ended.
    pub outcome: Completion,
}

/// How an exchange ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Completion {
    /// The kernel has taken the whole response.
    Complete,
    /// The connection ended before that.
    Aborted,
}

/// A response on its way: where it lies in the stream of bytes to this peer.
#[derive(Debug)]
pub(crate) struct InFlightRecord {
    pub(crate) info: RequestInfo,
    pub(crate) status: StatusCode,
    /// Where the content begins in the stream, behind the head.
    pub(crate) content_start: u64,
    /// One past the last byte.
    pub(crate) end: u64,
}

impl InFlightRecord {
    /// A request that gets no response: its client has gone, or the server could not wait. 499 is
    /// nginx's number for that.
    pub(crate) fn unanswered(info: RequestInfo) -> Self {
        Self {
            info,
            status: StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST),
            content_start: u64::MAX,
            end: u64::MAX,
        }
    }

    /// The record, when `sent` bytes of the stream are sent and no more will be for it.
    pub(crate) fn into_record(self, sent: u64, now: Instant) -> Record {
        let RequestInfo {
            peer,
            line,
            referer,
            user_agent,
            started,
        } = self.info;
        Record {
            client_addr: peer,
            line,
            referer,
            user_agent,
            status: self.status,
            content_bytes: sent.min(self.end).saturating_sub(self.content_start),
            duration: now.saturating_duration_since(started),
            outcome: if sent >= self.end {
                Completion::Complete
            } else {
                Completion::Aborted
            },
        }
    }
}
