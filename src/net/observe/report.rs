//! What an observed server tells: the values that [`Observer`](super::observer::Observer) returns.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use ::http::StatusCode;

use super::histogram::Histogram;
pub use crate::proto::transfer::Direction;

/// What a server has measured while it was observed or wrote an access log, and the load of its
/// thread pools.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ServerTotals {
    /// Finished responses by status; 499 for requests whose client disconnected before there was a
    /// response.
    pub responses: Vec<(StatusCode, u64)>,
    /// Bytes of content sent with those responses.
    pub content_bytes: u64,
    /// Time from the first byte of a request to the last byte of its response.
    pub durations: Histogram,
    /// Duration of the iterations of each event loop. An event waits for at most one iteration.
    pub iterations: Vec<Histogram>,
    /// The thread pool for jobs.
    pub jobs: QueueStats,
    /// The thread pool for bodies that are read or written at a client's pace.
    pub streams: QueueStats,
    /// The threads that read from disks.
    pub disks: QueueStats,
    /// Number of reads by those threads. Each read a part of a file that was not in the page cache.
    pub cold_reads: u64,
    /// What was counted on HTTP/2 connections, whether the server was observed or not.
    pub http2: Http2Totals,
}

/// What was counted on HTTP/2 connections.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Http2Totals {
    /// Streams that clients have reset, by error code (RFC 9113 §7).
    pub resets_received: Vec<(&'static str, u64)>,
    /// Streams that the server has reset, by error code.
    pub resets_sent: Vec<(&'static str, u64)>,
    /// Connections that were closed because their client had exceeded a limit, by the limit.
    pub floods: Vec<(&'static str, u64)>,
}

/// The HTTP/2 connections of a server at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Http2Report {
    /// Open connections.
    pub connections: usize,
    /// Open streams on them.
    pub streams: usize,
}

/// The load of a thread pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueueStats {
    /// Tasks that wait for a thread.
    pub waiting: usize,
    /// Tasks that a thread runs.
    pub running: usize,
}

/// What a server is doing at one moment.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct ServerReport {
    /// Number of connections by activity.
    pub connections: Activities,
    /// Bodies in transit that are too large to be sent at once, oldest first. A body whose request
    /// arrived before the server was observed or recorded is not listed.
    pub transfers: Vec<Transfer>,
    /// Number of transfers not listed: each event loop lists at most 1,000.
    pub transfers_left_out: usize,
    /// The HTTP/2 connections, which are among the connections.
    pub http2: Http2Report,
    /// Indices of the event loops that did not answer in time.
    pub silent: Vec<usize>,
}

/// Number of connections by activity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Activities {
    /// Connections in a TLS handshake, or waiting for a PROXY header.
    pub handshake: usize,
    /// Connections waiting for a request.
    pub idle: usize,
    /// Connections of which a part of a request head has arrived.
    pub head: usize,
    /// Connections that are receiving a request body.
    pub content: usize,
    /// Connections waiting for a handler.
    pub handler: usize,
    /// Connections that are sending a response.
    pub sending: usize,
    /// Connections whose responses are sent, waiting for the client to close (lingering close).
    pub lingering: usize,
    /// Connections that speak another protocol since a response with status 101, and send nothing.
    pub upgraded: usize,
}

/// What one connection of a worker is doing; counted in [`Activities`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Activity {
    Idle,
    Head,
    Content,
    Handler,
    Sending,
    Lingering,
    Upgraded,
}

impl Activities {
    /// Each count with its name.
    pub fn named(&self) -> [(&'static str, usize); 8] {
        [
            ("handshake", self.handshake),
            ("idle", self.idle),
            ("head", self.head),
            ("content", self.content),
            ("handler", self.handler),
            ("sending", self.sending),
            ("lingering", self.lingering),
            ("upgraded", self.upgraded),
        ]
    }

    pub(crate) fn count(&mut self, activity: Activity) {
        *match activity {
            Activity::Idle => &mut self.idle,
            Activity::Head => &mut self.head,
            Activity::Content => &mut self.content,
            Activity::Handler => &mut self.handler,
            Activity::Sending => &mut self.sending,
            Activity::Lingering => &mut self.lingering,
            Activity::Upgraded => &mut self.upgraded,
        } += 1;
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.handshake += other.handshake;
        self.idle += other.idle;
        self.head += other.head;
        self.content += other.content;
        self.handler += other.handler;
        self.sending += other.sending;
        self.lingering += other.lingering;
        self.upgraded += other.upgraded;
    }
}

/// Why a transfer makes no progress at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BlockedOn {
    /// The client takes or sends no more at the moment.
    Client,
    /// A disk is read.
    Disk,
    /// The handler has not made, or has not read, the next part of the body.
    Handler,
    /// The connection is in the event loop's run queue: only the server itself limits it.
    RunQueue,
    /// The bandwidth limit of the client or the connection ([`Limits`](crate::Limits)).
    Bandwidth,
}

/// A body in transit.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Transfer {
    /// Identifies the transfer within this server.
    pub id: TransferId,
    /// To the client or from it.
    pub direction: Direction,
    /// The client's address.
    pub client: SocketAddr,
    /// The request's method.
    pub method: String,
    /// The request target as received, truncated to 512 characters. The client chose it: treat it
    /// as untrusted.
    pub target: String,
    /// Bytes that the kernel has taken, or that have been received.
    pub moved: u64,
    /// Total number of bytes, if known.
    pub total: Option<u64>,
    /// Time since the request began.
    pub age: Duration,
    /// What the transfer waits for.
    pub blocked_on: BlockedOn,
}

/// Identifies a transfer within a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TransferId {
    pub(crate) worker: usize,
    pub(crate) connection: usize,
    pub(crate) exchange: u32,
}

impl fmt::Display for TransferId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            worker,
            connection,
            exchange,
        } = self;
        write!(f, "{worker}-{connection:x}-{exchange}")
    }
}
