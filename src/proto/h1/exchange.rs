//! One exchange of an HTTP/1.1 connection, from the end of the request's head until its response is
//! queued for sending.

use ::http::Version;

use super::framing::Persistence;
use super::request_body::RequestBody;
use crate::body::BodyWriter;
use crate::http::Rejection;
use crate::http::admission::Admission;
use crate::proto::exchange::{RequestInfo, SendBody};
use crate::proto::request_head::RequestHead;
use crate::proto::transfer::{Direction, StalledOn, TransferProgress};

/// What the response needs to know about its request.
#[derive(Debug)]
pub(crate) struct Exchange {
    /// The length of the request's head, which stays first in the inbox until the response is there.
    pub(crate) head_len: usize,
    pub(crate) send_body: SendBody,
    pub(crate) version: Version,
    pub(crate) persistence: Persistence,
    pub(crate) linger: LingerMode,
    /// `None` if the exchange is not recorded.
    pub(crate) info: Option<Box<RequestInfo>>,
}

/// Whether the connection lingers before it is closed (RFC 9112 §9.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LingerMode {
    /// The client sent `Connection: close` and no body: nothing more can arrive.
    Skip,
    Required,
}

/// A request with a body, and its exchange. Owns the parsed head, as other connections reuse the
/// scratch memory of the event loop before the body is complete.
#[derive(Debug)]
pub(crate) struct PendingRequest {
    pub(crate) exchange: Exchange,
    pub(crate) head: RequestHead,
    pub(crate) body: RequestBody,
    pub(crate) admission: Admission,
}

/// How far an exchange has come.
#[derive(Debug)]
pub(crate) enum ExchangeState {
    /// The head is complete; the handler decides whether and how the body is read.
    AwaitingAdmission(Box<PendingRequest>),
    /// The body is being received; the handler is called when it is complete.
    ReadingBody(Box<PendingRequest>),
    /// The handler is to be called before the body is received, and reads it as a stream.
    StreamPending(Box<PendingRequest>, BodyWriter),
    /// The handler has the request while its body is being received.
    Streaming(Box<PendingRequest>, BodyWriter),
    /// The body failed while the handler was reading it; the handler's response is discarded.
    BodyFailed(Box<PendingRequest>, Rejection),
    /// The body is rejected; the handler writes the response to that.
    Rejecting(Box<PendingRequest>, Rejection),
    /// The handler has the request, which has no body, or whose body has been streamed to its end.
    Handling(Exchange),
    /// The handler has the request with its complete body.
    HandlingBody(Box<PendingRequest>),
}

impl ExchangeState {
    /// The request, if it has a body that is still of use.
    pub(crate) fn request(&self) -> Option<&PendingRequest> {
        match self {
            Self::AwaitingAdmission(request)
            | Self::ReadingBody(request)
            | Self::StreamPending(request, _)
            | Self::Streaming(request, _)
            | Self::BodyFailed(request, _)
            | Self::Rejecting(request, _)
            | Self::HandlingBody(request) => Some(request),
            Self::Handling(_) => None,
        }
    }

    pub(crate) fn into_exchange(self) -> Exchange {
        match self {
            Self::AwaitingAdmission(request)
            | Self::ReadingBody(request)
            | Self::StreamPending(request, _)
            | Self::Streaming(request, _)
            | Self::BodyFailed(request, _)
            | Self::Rejecting(request, _)
            | Self::HandlingBody(request) => request.exchange,
            Self::Handling(exchange) => exchange,
        }
    }

    /// The exchange that a response completes.
    ///
    /// # Errors
    ///
    /// The state, if no response is expected in it.
    pub(crate) fn into_answered(self) -> Result<Exchange, Self> {
        match self {
            Self::Handling(exchange) => Ok(exchange),
            Self::HandlingBody(request) => Ok(request.exchange),
            // The rest of the body is not read, so the start of the next request is unknown.
            Self::Streaming(request, _) => Ok(Exchange {
                persistence: Persistence::Close,
                ..request.exchange
            }),
            Self::Rejecting(request, _) => Ok(Exchange {
                persistence: Persistence::Close,
                linger: LingerMode::Required,
                ..request.exchange
            }),
            state @ (Self::AwaitingAdmission(_)
            | Self::ReadingBody(_)
            | Self::StreamPending(..)
            | Self::BodyFailed(..)) => Err(state),
        }
    }

    /// Whether the next step is up to the client, which sends the body, and not to the handler.
    pub(crate) fn is_receiving(&self) -> bool {
        match self {
            Self::ReadingBody(_) => true,
            Self::Streaming(_, writer) => writer.has_room(),
            _ => false,
        }
    }

    /// The progress of the body that is being received, if the exchange is recorded.
    pub(crate) fn transfer(&self) -> Option<TransferProgress<'_>> {
        let (request, stall) = match self {
            Self::ReadingBody(request) => (request, None),
            Self::Streaming(request, writer) => {
                (request, (!writer.has_room()).then_some(StalledOn::Handler))
            }
            _ => return None,
        };
        Some(TransferProgress {
            direction: Direction::Up,
            info: request.exchange.info.as_deref()?,
            moved: request.body.received(),
            total: request.body.length(),
            stall,
        })
    }
}
