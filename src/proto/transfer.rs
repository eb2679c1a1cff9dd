//! The progress of a body that is being transferred, for observers of the server.

use super::exchange::RequestInfo;

/// The direction of a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// To the client.
    Down,
    /// From the client.
    Up,
}

/// What a transfer waits for, other than the socket and the connection's own turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StalledOn {
    /// A disk that is being read.
    Disk,
    /// The handler or the producer, which makes the response body or reads the request body.
    Handler,
    /// The client, which has closed the flow-control window (RFC 9113 §5.2).
    Window,
}

/// The progress of a body that is being transferred. Only recorded exchanges have one.
#[derive(Debug)]
pub(crate) struct TransferProgress<'a> {
    pub(crate) direction: Direction,
    pub(crate) info: &'a RequestInfo,
    /// Bytes that have been transferred.
    pub(crate) moved: u64,
    /// The length of the body in bytes, if it is known.
    pub(crate) total: Option<u64>,
    /// `None` if only the socket, or the connection's turn, can delay the transfer.
    pub(crate) stall: Option<StalledOn>,
}
