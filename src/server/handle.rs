//! The handle to a server, and the state that a server shares with its handles.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use super::setting_check::check;
use crate::access_log::DropCounter;
use crate::config::Config;
use crate::error::Error;
use crate::handler::Handler;
use crate::net::accept::acceptor::AcceptorHandle;
use crate::net::accept::admission::AcceptStats;
use crate::net::accept::directory::HandshakerHandles;
use crate::net::blocking::BlockingPoolStats;
use crate::net::event_loop::handle::LoopHandle;
use crate::net::observe::observer::{Observer, ask};
use crate::net::observe::question::SnapshotKind;
use crate::net::worker::message::{WorkerHandle, WorkerMessage};
use crate::net::worker::settings::RuntimeConfig;
use crate::sync::{Condvar, Mutex};

/// A handle to a server: its addresses and statistics, reload and shutdown. It can be used from any
/// thread.
#[derive(Clone, Debug)]
pub struct ServerHandle {
    pub(super) shared: Arc<Shared>,
}

/// What a server shares with its handles and threads.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) addresses: Vec<SocketAddr>,
    pub(super) unix_sockets: Vec<PathBuf>,
    pub(super) workers: Vec<WorkerHandle>,
    pub(super) handshakers: Arc<HandshakerHandles>,
    pub(super) acceptor: Arc<AcceptorHandle>,
    pub(super) accept_stats: Arc<AcceptStats>,
    pub(super) pools: BlockingPoolStats,
    /// The counter of the access log, if there is one.
    pub(super) dropped_lines: OnceLock<DropCounter>,
    pub(super) lifecycle: Mutex<Lifecycle>,
    /// Notified when the state of `lifecycle` changes.
    pub(super) state_changed: Condvar,
    /// Whether an event loop has failed.
    pub(super) failed: AtomicBool,
}

/// The state of a server, and how it ends.
#[derive(Debug)]
pub(super) struct Lifecycle {
    pub(super) state: ServerState,
    /// How long responses in progress may take.
    pub(super) drain_time: Duration,
}

/// The state of a server. States only advance, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum ServerState {
    /// The server listens and does not accept connections yet.
    Bound,
    /// The server serves requests.
    Serving,
    /// Shutdown is announced; the server still accepts connections for a while.
    ShutdownAnnounced,
    /// The server accepts no more connections and finishes the responses in progress.
    Draining,
    /// The server has ended.
    Ended,
}

/// The counters of a server since it was bound, and the number of its connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerStats {
    /// Open connections.
    pub connections: usize,
    /// Accepted connections, including those whose PROXY header revealed only later that their
    /// client has too many.
    pub accepted: u64,
    /// Connections closed because of a limit: with a 503, or without a response if they were to begin
    /// with TLS.
    pub rejected: u64,
    /// Those of them whose client had
    /// [`max_connections_per_client`](crate::Limits::max_connections_per_client) connections; the
    /// others exceeded [`max_connections`](crate::Limits::max_connections).
    pub rejected_clients: u64,
    /// Idle connections closed to make room for others.
    pub evicted: u64,
    /// Requests given to the handler, answered or not.
    pub requests: u64,
    /// Lines missing from the access log, because they could not be written in time or at all.
    pub dropped_log_lines: u64,
}

impl ServerHandle {
    /// Returns the addresses the server listens on, with the ports the system has chosen.
    pub fn local_addresses(&self) -> &[SocketAddr] {
        &self.shared.addresses
    }

    /// Returns the paths of the Unix sockets the server listens on.
    pub fn unix_sockets(&self) -> &[PathBuf] {
        &self.shared.unix_sockets
    }

    /// Returns the number of open connections.
    pub fn connections(&self) -> usize {
        let workers = &self.shared.workers;
        let of_workers: usize = workers.iter().map(LoopHandle::connections).sum();
        of_workers + self.shared.handshakers.connections()
    }

    /// Returns the counters. They are read one after the other while the server runs.
    pub fn stats(&self) -> ServerStats {
        let Shared {
            workers,
            accept_stats,
            dropped_lines,
            ..
        } = &*self.shared;
        let requests = |worker: &WorkerHandle| worker.stats.requests.load(Ordering::Relaxed);
        let evicted = |worker: &WorkerHandle| worker.stats.evicted.load(Ordering::Relaxed);
        ServerStats {
            connections: self.connections(),
            accepted: accept_stats.accepted.load(Ordering::Relaxed),
            rejected: accept_stats.rejected.load(Ordering::Relaxed),
            rejected_clients: accept_stats.rejected_clients.load(Ordering::Relaxed),
            evicted: workers.iter().map(evicted).sum(),
            requests: workers.iter().map(requests).sum(),
            dropped_log_lines: dropped_lines.get().map_or(0, DropCounter::count),
        }
    }

    /// Returns the number of TLS handshakes by kind and by key-exchange group.
    #[cfg(feature = "tls")]
    pub(crate) fn tls_handshakes(&self) -> Vec<(&'static str, &'static str, u64)> {
        self.shared.accept_stats.handshakes.counts()
    }

    /// Returns the state of the server.
    pub fn state(&self) -> ServerState {
        self.shared.lifecycle.lock().state
    }

    /// Waits until the server has reached `state`. Returns false if it has not within `timeout`.
    pub fn wait_for(&self, state: ServerState, timeout: Duration) -> bool {
        let is_before = |lifecycle: &mut Lifecycle| lifecycle.state < state;
        let lifecycle = self.shared.lifecycle.lock();
        let condvar = &self.shared.state_changed;
        let lifecycle = condvar.wait_timeout_while(lifecycle, timeout, is_before);
        lifecycle.state >= state
    }

    /// Observes the server. It measures its requests for as long as the observer exists.
    pub fn observe(&self) -> Observer {
        let shared = &self.shared;
        let handshakers = Arc::clone(&shared.handshakers);
        let handshakes = Box::new(move || handshakers.connections());
        Observer::new(shared.workers.clone(), handshakes, shared.pools.clone())
    }

    /// Returns the indices of the event loops that do not answer within `timeout`: all before the
    /// server serves and after it has ended, and during shutdown those that have finished. A query
    /// costs an event loop next to nothing, and nothing is measured.
    pub fn silent_event_loops(&self, timeout: Duration) -> Vec<usize> {
        ask(&self.shared.workers, SnapshotKind::Liveness, timeout).silent
    }

    /// Announces shutdown, and calls [`shut_down`](Self::shut_down) after `delay`. Meanwhile the
    /// server serves as before, and only its [`state`](Self::state) tells that it will end: time for
    /// a load balancer to notice. Returns at once.
    pub fn shut_down_after(&self, delay: Duration) {
        self.shared.enter(ServerState::ShutdownAnnounced);
        let handle = self.clone();
        let wait = move || {
            thread::sleep(delay);
            handle.shut_down();
        };
        if delay.is_zero() || thread::Builder::new().spawn(wait).is_err() {
            self.shut_down();
        }
    }

    /// Replaces the handler, the limits, the timeouts and the trusted proxies, on all connections,
    /// and closes none. What has begun finishes as it began: a request whose body the previous
    /// handler has admitted is answered by that handler, and a client with more connections than the
    /// new limit keeps them. Returns at once.
    ///
    /// The server keeps its addresses, its port, the mode of its Unix sockets, the PROXY protocol,
    /// [`http2`](crate::Config::http2), its numbers of workers and helpers,
    /// [`max_waiting_jobs`](crate::Limits::max_waiting_jobs), [`max_streams`](crate::Limits::max_streams) and
    /// [`max_parked_streams`](crate::Limits::max_parked_streams); those of `config` are ignored. Event
    /// streams go on, unless the [`Broadcast`](crate::Broadcast) or sender belongs to the previous handler:
    /// they end when that is dropped.
    ///
    /// # Errors
    ///
    /// [`Error::Setting`] for limits that contradict each other; then nothing has changed.
    pub fn reload(&self, handler: impl Handler + 'static, config: &Config) -> Result<(), Error> {
        check(config)?;
        let new = RuntimeConfig::new(Arc::new(handler), config);
        // Locked, so that of two concurrent reloads the same is the last for all threads.
        let mut lifecycle = self.shared.lifecycle.lock();
        if lifecycle.state == ServerState::Serving {
            lifecycle.drain_time = config.timeouts.drain;
        }
        for worker in &self.shared.workers {
            let new = Box::new(new.clone());
            worker.mailbox.send(WorkerMessage::Reload(new));
        }
        self.shared.acceptor.reload(new);
        Ok(())
    }

    /// Begins a graceful shutdown: no connections are accepted, idle ones are closed, and responses
    /// in progress are finished within [`Timeouts::drain`](crate::Timeouts::drain). Returns at once;
    /// [`Server::serve`](crate::Server::serve) returns when the shutdown is complete.
    pub fn shut_down(&self) {
        self.shared.shut_down();
    }

    /// Like [`shut_down`](Self::shut_down), with another time for the responses in progress; those
    /// not finished then are cut. The time of a shutdown that has begun can be shortened, not
    /// extended.
    pub fn shut_down_within(&self, time: Duration) {
        self.shared.shorten_drain(time);
        self.shared.shut_down();
    }
}

impl Shared {
    /// Advances to `state`, unless the server is beyond it.
    pub(super) fn enter(&self, state: ServerState) {
        self.advance(&mut self.lifecycle.lock(), state);
    }

    /// Stops the acceptor. When it has stopped, the server drains.
    pub(super) fn shut_down(&self) {
        self.enter(ServerState::ShutdownAnnounced);
        self.acceptor.stop();
    }

    /// Has the workers finish what they have begun.
    pub(super) fn drain(&self) {
        let mut lifecycle = self.lifecycle.lock();
        self.advance(&mut lifecycle, ServerState::Draining);
        self.drain_workers(lifecycle.drain_time);
    }

    fn advance(&self, lifecycle: &mut Lifecycle, state: ServerState) {
        lifecycle.state = lifecycle.state.max(state);
        self.state_changed.notify_all();
    }

    fn shorten_drain(&self, time: Duration) {
        let mut lifecycle = self.lifecycle.lock();
        if lifecycle.state < ServerState::Draining {
            lifecycle.drain_time = time;
        } else {
            lifecycle.drain_time = time.min(lifecycle.drain_time);
            self.drain_workers(lifecycle.drain_time);
        }
    }

    fn drain_workers(&self, time: Duration) {
        for worker in &self.workers {
            worker.mailbox.send(WorkerMessage::Drain(time));
        }
    }
}
