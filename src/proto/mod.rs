//! Protocol machines: bytes in, actions out. Nothing here knows sockets, files or clocks.

pub(crate) mod body_sender;
pub(crate) mod context;
pub(crate) mod exchange;
pub(crate) mod h1;
pub(crate) mod record;
pub(crate) mod request_head;
pub(crate) mod segment;
pub(crate) mod transfer;

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
    /// The peer left between requests.
    PeerLeft,
    /// The server shuts down.
    Drained,
    /// Idle, and others needed the room.
    Shed,
    /// One of the timeouts; the state says which.
    TimedOut,
    /// A file became shorter while it was sent: the length that was promised cannot be kept.
    ContentCutShort,
    /// Reading or writing failed: a reset, most often.
    Broken,
}

/// What a connection waits for, which decides how long it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Timer {
    /// For a request to begin; from the last reply on.
    KeepAlive,
    /// For a head; from its first byte on.
    Header,
    /// For content; from the last bytes of it on.
    Body,
    /// For the peer to take some of a reply; from the last bytes it took on.
    Send,
    /// For the peer to close; from our last byte on.
    Linger,
    /// For the handler, which has all the time.
    Handler,
}
