//! The states of a connection, and what it keeps beside its streams.

use std::collections::VecDeque;
use std::time::Instant;

use ::http::StatusCode;

use crate::proto::CloseReason;
use crate::proto::exchange::RequestInfo;
use crate::proto::h2::flood::HeaderBlockLimits;
use crate::proto::h2::frame::DataPayload;
use crate::proto::h2::limits::MAX_BEYOND_HELD_BODIES;
use crate::proto::h2::response_head::EncoderState;
use crate::proto::record::Completion;

/// The state of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ConnectionState {
    /// The client's preface is awaited (RFC 9113 §3.4).
    AwaitingPreface,
    /// The client's first SETTINGS frame is awaited.
    AwaitingSettings,
    Open,
    /// The last frames are being sent; input is ignored.
    Closing(CloseReason, LingerMode),
    /// Everything is sent; up to this many bytes more are read and discarded (RFC 9112 §9.6).
    Lingering {
        bytes: u64,
        reason: CloseReason,
    },
    /// Nothing remains but to close the socket.
    Closed(CloseReason),
}

/// Whether the connection lingers before it is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LingerMode {
    Skip,
    Required,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Eviction {
    None,
    Requested,
}

/// Whether the peer may send more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum InputState {
    Open,
    Ended,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LastTransfer {
    Read,
    Write,
}

/// Whether the frames that are sent next are being chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Portion {
    Open,
    Complete,
}

/// A part of a file that is being read.
#[derive(Clone, Copy, Debug)]
pub(super) struct FileReading {
    pub(super) stream: u32,
    /// At most the payload of a frame.
    pub(super) len: u32,
    /// The state of the encoder before the head of the response, which is sent if the read succeeds.
    pub(super) encoder: EncoderState,
}

/// An exchange that has ended and is not recorded yet.
#[derive(Debug)]
pub(super) struct EndedExchange {
    pub(super) info: Box<RequestInfo>,
    pub(super) status: Option<StatusCode>,
    pub(super) sent: u64,
    pub(super) outcome: Completion,
}

/// The data of the PING of a shutdown.
pub(super) const SHUTDOWN_PING: [u8; 8] = *b"shutdown";

/// How far the connection is shut down while its exchanges go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shutdown {
    None,
    /// GOAWAY with the largest identifier is sent, so that the client opens no further streams. Those
    /// that it has opened until it answers the PING are served.
    Announced {
        since: Instant,
    },
    /// GOAWAY with the last stream that is served is sent.
    Final {
        last: u32,
        reason: CloseReason,
    },
}

/// Why a stream ends before its response is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// The peer has violated the protocol: the exchange is recorded as a bad request.
    Malformed,
    /// The peer has reset it or is lost, or the response has failed.
    Aborted,
}

/// A DATA frame that is being received.
#[derive(Clone, Copy, Debug)]
pub(super) struct ReceivedData {
    pub(super) payload: DataPayload,
    /// The bytes of it that were not padding.
    pub(super) len: u32,
}

/// A field block that is being received.
#[derive(Debug)]
pub(super) struct HeaderBlock {
    pub(super) stream: u32,
    pub(super) end_stream: bool,
    pub(super) bytes: Vec<u8>,
    pub(super) limits: HeaderBlockLimits,
    pub(super) started: Instant,
}

/// What waits for the driver or for a job.
#[derive(Debug, Default)]
pub(super) struct Queues {
    /// Streams whose request can be dispatched.
    pub(super) ready: Vec<u32>,
    /// Streams whose request is to be rejected.
    pub(super) rejecting: Vec<u32>,
    /// Streams whose response body needs a job.
    pub(super) wait_for_job: Vec<u32>,
    /// Streams whose job is of no use any more.
    pub(super) cancelled: Vec<u32>,
    /// Streams whose producers wait until fewer bytes of bodies are held, oldest first.
    pub(super) wait_for_memory: Vec<u32>,
    /// Exchanges to be recorded.
    pub(super) ended: VecDeque<EndedExchange>,
    /// Whether receive windows may have to be enlarged, or bodies passed on.
    pub(super) are_bodies_due: bool,
}

/// The bodies of responses that the connection holds in memory.
#[derive(Debug, Default)]
pub(super) struct HeldBodies {
    /// No fewer bytes than are held: what is sent is subtracted only when the limit seems to be reached.
    pub(super) bytes: usize,
    /// The streams that go on although the limit is reached. A place is free if its stream is over, or does
    /// not exist.
    pub(super) beyond: [u32; MAX_BEYOND_HELD_BODIES],
}

impl HeldBodies {
    /// A body, or a chunk of one, has come into memory.
    pub(super) fn add(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_add(bytes);
    }
}

/// The streams that were closed last, oldest first. The peer may have sent frames before it knew.
#[derive(Debug)]
pub(super) struct ClosedStreams {
    by_peer: Vec<u32>,
    by_server: Vec<u32>,
    /// How many streams that the server has reset are remembered: as many as may be open. The client
    /// sends on none of those that were reset before them, as it has seen the resets.
    max_by_server: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ClosedBy {
    /// END_STREAM in both directions, or RST_STREAM of the peer.
    Peer,
    /// RST_STREAM of this server.
    Server,
}

impl ClosedStreams {
    /// How many streams that the peer has closed are remembered.
    const MAX_BY_PEER: u32 = 32;

    pub(super) fn new(max_streams: u32) -> Self {
        Self {
            by_peer: Vec::new(),
            by_server: Vec::new(),
            max_by_server: max_streams,
        }
    }

    /// Remembers a stream, unless it is known as reset by this server already.
    pub(super) fn insert(&mut self, id: u32, by: ClosedBy) {
        if self.by_server.contains(&id) {
            return;
        }
        let (ids, max) = match by {
            ClosedBy::Peer => (&mut self.by_peer, Self::MAX_BY_PEER),
            ClosedBy::Server => (&mut self.by_server, self.max_by_server),
        };
        if ids.len() >= max.max(1) as usize {
            ids.remove(0);
        }
        ids.push(id);
    }

    pub(super) fn find(&self, id: u32) -> Option<ClosedBy> {
        if self.by_server.contains(&id) {
            Some(ClosedBy::Server)
        } else if self.by_peer.contains(&id) {
            Some(ClosedBy::Peer)
        } else {
            None
        }
    }

    #[cfg(test)]
    pub(super) fn memory(&self) -> usize {
        (self.by_peer.capacity() + self.by_server.capacity()) * size_of::<u32>()
    }
}
