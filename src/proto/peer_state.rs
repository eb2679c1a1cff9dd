//! What the kernel knows about the peer of a connection.

use std::time::Duration;

/// The state of the TCP connection to a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PeerState {
    /// How many bytes were sent and are not acknowledged, or are to be sent.
    pub(crate) unacknowledged: u32,
    pub(crate) receiver: Option<ReceiverState>,
}

/// How the peer receives. Not all kernels tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ReceiverState {
    /// How many bytes the peer is ready to receive (RFC 9293 §3.8.6), as of its last segment.
    pub(crate) window: u32,
    /// The shortest round-trip time.
    pub(crate) min_rtt: Duration,
}
