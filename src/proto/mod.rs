//! Protocol machines: bytes in, actions out. Nothing here knows sockets, files or clocks.

pub(crate) mod body_sender;
pub(crate) mod context;
pub(crate) mod exchange;
pub(crate) mod file_read;
pub(crate) mod h1;
pub(crate) mod h2;
pub(crate) mod http2_stats;
pub(crate) mod inbox;
pub(crate) mod min_rate;
pub(crate) mod peer_state;
pub(crate) mod protocol;
pub(crate) mod record;
pub(crate) mod request_head;
pub(crate) mod request_rules;
pub(crate) mod segment;
pub(crate) mod transfer;
pub(crate) mod wait;

use self::exchange::ExchangeId;
use self::record::Record;
use crate::body::FileRange;
use crate::body::stream::BodySource;
use crate::http::Rejection;
use crate::http::upgrade::UpgradeJob;

/// The connection preface of an HTTP/2 client (RFC 9113 §3.4).
pub(crate) const HTTP2_PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

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
    /// Read bytes of a file into the machine's buffer without waiting for a disk, and report the result
    /// before the next action. After [`NotResident`](file_read::FileBytes::NotResident) the machine
    /// returns [`ProbeFile`](Self::ProbeFile).
    ReadFile(ExchangeId),
    /// Ask the transport how much the peer is ready to receive, and report it before the next action.
    AskPeerState,
    /// Have the next chunk of a response body produced and report it, now or later.
    PullBody(ExchangeId, BodySource),
    /// Nothing that is still to come for this exchange is of use: its client has cancelled it.
    Cancel(ExchangeId),
    /// Replace the machine by one for HTTP/2: the input begins with its preface.
    Switch,
    /// Report the waker of the connection, which changes to another protocol, before the next action.
    Upgrade(ExchangeId),
    /// Run a job of the protocol that the connection speaks in place of HTTP on a helper thread, and report
    /// its end by waking the connection.
    RunJob(ExchangeId, UpgradeJob),
    /// Record this. Boxed, because every action would take its 176 bytes and is copied several times.
    Log(Box<Record>),
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

/// What a machine may ask for. A machine with one exchange at a time ignores it before an upgrade: it asks
/// for one thing only, and the driver waits until that is possible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ready {
    /// The transport may have input. If false, the machine does not return [`Action::Read`].
    pub(crate) readable: bool,
    /// The transport may take output. If false, the machine does not return [`Action::Write`].
    pub(crate) writable: bool,
    /// How many bytes of large bodies may be added to the output. 0 leaves only what comes before the
    /// large bodies of other connections: control frames, heads and small bodies.
    pub(crate) max_bulk_bytes: usize,
}

impl Ready {
    /// Everything is possible.
    pub(crate) const ALL: Self = Self {
        readable: true,
        writable: true,
        max_bulk_bytes: usize::MAX,
    };
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
    /// Whatever the protocol waits for that the connection speaks in place of HTTP, which has time limits of
    /// its own.
    Upgraded,
    /// The handler, a producer or a disk, without a limit.
    Handler,
    /// The same, while the peer has closed its sending side and may be gone; from the last byte that
    /// was sent or received on.
    HalfClosed,
}
