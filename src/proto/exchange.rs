//! What the protocol machines share about one exchange: a request and its response.

use std::net::SocketAddr;
use std::time::Instant;

use crate::body::BodyWriter;
use crate::http::forwarded::{Scheme, TlsVersion};

/// Identifies a request and its response on one connection. HTTP/1.1 counts the requests of the
/// connection, HTTP/2 numbers its streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ExchangeId(pub(crate) u32);

/// How a handler takes a request body, and the maximum number of bytes of it.
#[derive(Debug)]
pub(crate) enum BodyMode {
    /// As a whole.
    Buffered { max: usize },
    /// While it is received, through a pipe.
    Streamed { max: u64, writer: BodyWriter },
}

/// How much of the response is sent (RFC 9110 §9.3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SendBody {
    Yes,
    /// The request was a HEAD.
    HeadOnly,
}

/// What is kept of a request for the record of its exchange.
#[derive(Debug)]
pub(crate) struct RequestInfo {
    /// The address of the client, as far as proxies report it.
    pub(crate) peer: SocketAddr,
    /// The scheme that the client uses, as far as proxies report it.
    pub(crate) scheme: Scheme,
    /// The version of TLS on the connection.
    pub(crate) tls: Option<TlsVersion>,
    /// The Host field.
    pub(crate) host: Option<Box<[u8]>>,
    /// The authenticated user, once a response has named it.
    pub(crate) user: Option<Box<str>>,
    /// The request line without its line end.
    pub(crate) line: Vec<u8>,
    pub(crate) referer: Option<Box<[u8]>>,
    pub(crate) user_agent: Option<Box<[u8]>>,
    pub(crate) is_subresource: bool,
    /// When the first byte of the request was received.
    pub(crate) started: Instant,
}
