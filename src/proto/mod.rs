//! Protocol machines: bytes in, actions out. Nothing here knows sockets, files or clocks.

pub(crate) mod body_sender;
pub(crate) mod context;
pub(crate) mod exchange;
pub(crate) mod h1;
pub(crate) mod min_rate;
pub(crate) mod protocol;
pub(crate) mod record;
pub(crate) mod request_head;
pub(crate) mod segment;
pub(crate) mod transfer;
pub(crate) mod wait;

use self::exchange::ExchangeId;
use self::record::Record;
use crate::body::FileRange;
use crate::body::stream::BodySource;
use crate::http::Rejection;

/// What the driver of a protocol machine must do next. It borrows nothing: what an action is about,
/// the machine lends when it is asked for it.
#[derive(Debug)]
pub(crate) enum Action {
    /// Read once into the machine's buffer, and report the end of the input.
    Read,
    /// Send the machine's segment, or the beginning of it, and report how many bytes were sent.
    Write,
    /// Ask the handler whether and how it takes the body of the request, and report its decision
    /// before the next action.
    Admit(ExchangeId),
    /// Call the handler with the request and report its response, now or later.
    Dispatch(ExchangeId),
    /// Have the handler write the response to a request that is rejected, and report it.
    Reject(ExchangeId, Rejection),
    /// Bring the beginning of the file range into memory and report the result, now or later.
    ProbeFile(ExchangeId, FileRange),
    /// Have the next chunk of a response body produced and report it, now or later.
    PullBody(ExchangeId, BodySource),
    /// Record this.
    Log(Record),
    /// Close the sending side of the transport.
    ShutdownWrite,
    /// Make the close of the transport, which follows, a reset: a response was cut off, and its client
    /// would take the regular end of the connection for the end of the response.
    Abort,
    /// Close the transport. Nothing follows.
    Close(CloseReason),
    /// Nothing, until something that was asked for is reported.
    Blocked,
}

/// Why a TCP connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CloseReason {
    /// As announced, after the last response.
    Finished,
    /// The peer closed the connection between requests.
    PeerLeft,
    /// The server shuts down.
    Drained,
    /// It was idle, and room was needed for other connections.
    Evicted,
    /// One of the timeouts passed; the state says which.
    TimedOut,
    /// A response body ended before its announced end, or could not be produced.
    BodyTruncated,
    /// Reading or writing failed, in most cases because of a reset.
    Broken,
}

/// What a connection waits for, which decides for how long it may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Timer {
    /// The first byte of a request; from the last response on.
    KeepAlive,
    /// A request head; from its first byte on.
    Header,
    /// A request body; from its last received bytes on.
    Body,
    /// The peer, which has to take some of a response; from the last bytes that it took on.
    Send,
    /// The peer, which has to close the connection; from the last byte that was sent on.
    Linger,
    /// The handler, a producer or a disk, without a limit.
    Handler,
    /// The same, while the peer has closed its sending side and may be gone; from the last byte that
    /// was sent or received on.
    HalfClosed,
}
