//! A content on its way, as far as it has come: for who looks at a server, not for the protocol.

use super::exchange::RequestInfo;

/// Which way it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// To the client.
    Down,
    /// From the client.
    Up,
}

/// Why it does not go on by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StalledOn {
    /// It waits for a disk.
    Disk,
    /// It waits for who makes the content, or reads it.
    Handler,
}

/// A content on its way. There is one only if its request is recorded.
#[derive(Debug)]
pub(crate) struct TransferProgress<'a> {
    pub(crate) direction: Direction,
    pub(crate) info: &'a RequestInfo,
    /// Bytes that have gone.
    pub(crate) moved: u64,
    /// Bytes that will have gone, if that is known.
    pub(crate) total: Option<u64>,
    /// `None` if only the socket, or the connection's turn, can hold it up.
    pub(crate) stall: Option<StalledOn>,
}
