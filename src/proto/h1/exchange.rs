//! What an exchange keeps of its request until the response is sent.

use ::http::Version;

use super::framing::Persistence;
use crate::proto::exchange::RequestInfo;

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

/// How much of the response is sent (RFC 9110 §9.3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SendBody {
    Yes,
    /// The request was a HEAD.
    HeadOnly,
}

/// Whether the connection lingers before it is closed (RFC 9112 §9.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LingerMode {
    /// The client sent `Connection: close` and no body: nothing more can come.
    Skip,
    Required,
}
