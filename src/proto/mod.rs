//! Protocol machines: bytes in, actions out. Nothing here knows sockets, files or clocks.

pub(crate) mod context;
pub(crate) mod exchange;
pub(crate) mod h1;
pub(crate) mod record;
pub(crate) mod transfer;

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
