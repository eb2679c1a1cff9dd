//! Which connections are accepted: the limits, the counters, and the response to a connection that
//! is rejected.

use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Resource, getrlimit};

use super::directory::{HandshakerHandles, HandshakerMessage};
use super::preamble::AcceptPolicy;
use crate::config::{Limits, Timeouts};
use crate::http::forwarded::Scheme;
use crate::net::event_loop::handle::LoopHandle;
use crate::net::transport::Transport;
use crate::net::transport::socket::Socket;
use crate::net::worker::message::{WorkerHandle, WorkerMessage};
use crate::net::worker::settings::RuntimeConfig;
#[cfg(feature = "tls")]
use crate::tls::HandshakeStats;

/// Descriptors reserved for files, event loops and everything else that is not a connection.
const RESERVED_DESCRIPTORS: u64 = 32;

/// Time in which the event loops evict connections that have become evictable.
const EVICTION_TIME: Duration = Duration::from_millis(150);

/// The longest time that a new connection waits for the eviction of incomplete ones.
const MAX_WAIT_FOR_ROOM: Duration = Duration::from_secs(1);

/// What the acceptor and the handshakers count, for other threads to read.
#[derive(Debug, Default)]
pub(crate) struct AcceptStats {
    /// Connections given to a worker or a handshaker.
    pub(crate) accepted: AtomicU64,
    /// Connections rejected with 503 because of a limit.
    pub(crate) rejected: AtomicU64,
    /// Those of them whose client had its maximum number of connections.
    pub(crate) rejected_clients: AtomicU64,
    #[cfg(feature = "tls")]
    pub(crate) handshakes: HandshakeStats,
}

impl AcceptStats {
    /// Closes a connection for which there is no room, after a 503 unless it expects TLS.
    pub(super) fn reject(&self, mut socket: Socket, scheme: Scheme) {
        self.rejected.fetch_add(1, Ordering::Relaxed);
        if scheme == Scheme::Http {
            respond_and_close(&mut socket, TOO_MANY_CONNECTIONS);
        }
    }

    /// Like [`reject`](Self::reject), because of the limit per client.
    pub(super) fn reject_client(&self, socket: Socket, scheme: Scheme) {
        self.rejected_clients.fetch_add(1, Ordering::Relaxed);
        self.reject(socket, scheme);
    }
}

/// The event loops that receive connections, and how many connections there may be.
pub(crate) struct ConnectionLimits {
    pub(crate) workers: Vec<WorkerHandle>,
    /// Receive the connections that need a handshake.
    pub(crate) handshakers: Arc<HandshakerHandles>,
    pub(crate) policy: AcceptPolicy,
    /// Maximum number of connections; more are rejected.
    max_connections: Option<usize>,
    /// Number of connections for which the process has descriptors; more stay in the backlog.
    max_descriptors: usize,
    /// How long an incomplete connection is not evicted.
    idle_grace: Duration,
}

/// Whether another connection can be accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Room {
    Available,
    /// When incomplete connections are evicted.
    AfterEviction,
    /// All connections are busy.
    None,
}

impl ConnectionLimits {
    pub(crate) fn new(
        workers: Vec<WorkerHandle>,
        handshakers: Arc<HandshakerHandles>,
        policy: AcceptPolicy,
        limits: &Limits,
        timeouts: &Timeouts,
    ) -> Self {
        Self {
            workers,
            handshakers,
            policy,
            max_connections: limits.max_connections,
            max_descriptors: connections_with_descriptors(limits.max_connections),
            idle_grace: timeouts.idle_grace,
        }
    }

    /// Applies a reloaded configuration to new connections.
    pub(super) fn change(&mut self, config: &RuntimeConfig) {
        self.max_connections = config.limits.max_connections;
        self.max_descriptors = connections_with_descriptors(self.max_connections);
        self.idle_grace = config.timeouts.idle_grace;
        self.policy.change(config, Instant::now());
        for handshaker in self.handshakers.all() {
            let policy = self.policy.clone();
            handshaker
                .mailbox
                .send(HandshakerMessage::AcceptPolicy(policy));
        }
    }

    pub(super) fn connections(&self) -> usize {
        let of_workers: usize = self.workers.iter().map(LoopHandle::connections).sum();
        of_workers + self.handshakers.connections()
    }

    pub(super) fn idle(&self) -> usize {
        let of = |worker: &WorkerHandle| worker.stats.idle.load(Ordering::Relaxed);
        self.workers.iter().map(of).sum()
    }

    pub(super) fn is_out_of_descriptors(&self) -> bool {
        self.connections() >= self.max_descriptors
    }

    /// Returns by how many the connections exceed their maximum.
    pub(super) fn excess(&self) -> usize {
        let over = |max| self.connections().saturating_sub(max);
        self.max_connections.map_or(0, over)
    }

    /// Returns whether there is room for another connection. Idle connections are closed for it, as
    /// they can be closed at once.
    pub(super) fn room(&self) -> Room {
        let at_max = |max| self.connections() >= max;
        let is_full = self.excess() >= self.idle() && self.max_connections.is_some_and(at_max);
        match is_full {
            false => Room::Available,
            true if self.incomplete() > 0 => Room::AfterEviction,
            true => Room::None,
        }
    }

    /// Returns the number of connections that can be evicted after the grace period.
    fn incomplete(&self) -> usize {
        let of_workers: usize = self.workers.iter().map(LoopHandle::incomplete).sum();
        of_workers + self.handshakers.connections()
    }

    /// Returns how long a new connection waits for the eviction of incomplete ones: until all of today
    /// are beyond their grace period.
    pub(super) fn max_wait_for_room(&self) -> Duration {
        self.idle_grace
            .saturating_add(EVICTION_TIME)
            .min(MAX_WAIT_FOR_ROOM)
    }

    /// Has the workers and the handshakers close about `count` idle or incomplete connections each,
    /// those of each that have waited longest.
    pub(super) fn evict_incomplete(&self, count: usize) {
        self.evict(count);
        self.handshakers.evict(count);
    }

    /// Has the workers close about `count` connections, those of each that have waited longest.
    pub(super) fn evict(&self, count: usize) {
        let each = count.div_ceil(self.workers.len().max(1));
        for worker in &self.workers {
            worker.mailbox.send(WorkerMessage::Evict(each));
        }
    }
}

/// Returns the number of connections for which the process has descriptors. Some descriptors are
/// reserved: a download takes a second one, and the event loops have a few. Without a configured
/// maximum a quarter is reserved.
fn connections_with_descriptors(max_connections: Option<usize>) -> usize {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let reserved = match max_connections {
        Some(_) => RESERVED_DESCRIPTORS,
        None => (limit / 4).max(RESERVED_DESCRIPTORS),
    };
    usize::try_from(limit.saturating_sub(reserved))
        .unwrap_or(usize::MAX)
        .max(1)
}

/// The response to a connection that is rejected.
const TOO_MANY_CONNECTIONS: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\n\
    Connection: close\r\nX-Content-Type-Options: nosniff\r\n\
    Content-Type: text/plain; charset=utf-8\r\nContent-Length: 46\r\n\r\n\
    503 Service Unavailable: too many connections\n";

/// Sends a response before the connection is closed, if the socket takes it without blocking.
pub(super) fn respond_and_close(socket: &mut Socket, response: &[u8]) {
    // What has been received is read first: closing with unread bytes resets the connection, and the
    // reset could overtake the response.
    let _ = socket.read(&mut [0; 4096]);
    let _ = socket.write(response);
    let _ = socket.shutdown_write();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_length_of_the_rejection_is_right() {
        let text = String::from_utf8_lossy(TOO_MANY_CONNECTIONS).into_owned();
        let (head, content) = text.split_once("\r\n\r\n").expect("a head");
        assert!(
            head.ends_with(&format!("Content-Length: {}", content.len())),
            "{head}"
        );
    }
}
