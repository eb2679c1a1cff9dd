//! Accepts connections and hands each to the least-loaded worker, or to a handshaker if it does not
//! begin with a request. Rejects connections beyond the limits.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll, Token, Waker};
use rustix::io::Errno;

use super::admission::{AcceptStats, ConnectionLimits, Room};
use super::directory::{AcceptedConnection, HandshakerMessage};
use super::fd_pressure::FdPressure;
use crate::net::event_loop::handle::least_loaded;
use crate::net::event_loop::tokens::WAKER_TOKEN;
use crate::net::transport::any::AnyTransport;
use crate::net::transport::listener::Listener;
use crate::net::transport::socket::Socket;
use crate::net::worker::message::{NewConnection, WorkerMessage};
use crate::net::worker::settings::RuntimeConfig;
use crate::panics::drop_caught;
use crate::sync::Mutex;

/// How long accepting pauses when the process is out of descriptors or memory: long enough not to
/// spin, and short enough not to be noticed.
const BACK_OFF: Duration = Duration::from_millis(50);

/// How long accepting waits for workers that have not taken the previous connections. Meanwhile more
/// clients connect and are accepted together: to be woken for each costs more than to accept it.
const ACCEPT_COALESCE_DELAY: Duration = Duration::from_micros(200);

/// Minimum interval between warnings about a lack of descriptors, which may come and go.
const WARN_INTERVAL: Duration = Duration::from_secs(10);

/// Maximum number of connections evicted at once: an eighth of them, or a quarter without descriptors,
/// but no more than this. nginx does the same.
const MAX_EVICTED: usize = 32;

/// Check for shutdown after this many accepts.
const MAX_BATCH: usize = 1024;

/// Stops the acceptor or changes its configuration, from any thread.
#[derive(Debug)]
pub(crate) struct AcceptorHandle {
    stopped: AtomicBool,
    /// Read only after a wake-up.
    new_config: Mutex<Option<RuntimeConfig>>,
    waker: Waker,
}

impl AcceptorHandle {
    pub(crate) fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
        self.wake();
    }

    pub(crate) fn reload(&self, config: RuntimeConfig) {
        *self.new_config.lock() = Some(config);
        self.wake();
    }

    fn wake(&self) {
        if let Err(error) = self.waker.wake() {
            log::error!("acceptor: wake-up failed: {error}");
        }
    }

    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }
}

/// Accepts from all listeners of a server, on the thread that calls [`run`](Self::run).
pub(crate) struct Acceptor {
    poll: Poll,
    listeners: Vec<Listener>,
    handle: Arc<AcceptorHandle>,
    stats: Arc<AcceptStats>,
}

/// The result of emptying a listener's backlog.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum AcceptOutcome {
    Emptied,
    /// There may be more connections.
    Unfinished,
    /// The maximum number of connections is reached, and some of them are being evicted.
    WaitingForRoom,
    /// The process cannot hold another connection; the others stay in the backlog.
    OutOfResources,
}

/// A connection that was accepted while there was no room for it.
#[derive(Default)]
struct WaitingRoom {
    /// It waits for others to be evicted. No other one is accepted meanwhile.
    connection: Option<(Socket, SocketAddr)>,
    /// Since when there is no room.
    full_since: Option<Instant>,
}

impl Acceptor {
    pub(crate) fn new(mut listeners: Vec<Listener>) -> io::Result<Self> {
        let poll = Poll::new()?;
        for (index, listener) in listeners.iter_mut().enumerate() {
            poll.registry()
                .register(listener, Token(index), Interest::READABLE)?;
        }
        let handle = Arc::new(AcceptorHandle {
            stopped: AtomicBool::new(false),
            new_config: Mutex::new(None),
            waker: Waker::new(poll.registry(), WAKER_TOKEN)?,
        });
        Ok(Self {
            poll,
            listeners,
            handle,
            stats: Arc::default(),
        })
    }

    pub(crate) fn listeners(&self) -> &[Listener] {
        &self.listeners
    }

    pub(crate) fn handle(&self) -> Arc<AcceptorHandle> {
        Arc::clone(&self.handle)
    }

    pub(crate) fn stats(&self) -> Arc<AcceptStats> {
        Arc::clone(&self.stats)
    }

    /// Accepts until it is stopped. The listeners are closed when it returns.
    pub(crate) fn run(
        mut self,
        mut limits: ConnectionLimits,
        fd_pressure: &FdPressure,
    ) -> io::Result<()> {
        let mut events = Events::with_capacity(64);
        let mut timeout = None;
        let mut previous = AcceptOutcome::Emptied;
        let mut waiting = WaitingRoom::default();
        let mut warned_at = None;
        while !self.handle.is_stopped() {
            match self.poll.poll(&mut events, timeout) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
            if events.iter().any(|event| event.token() == WAKER_TOKEN)
                && let Some(config) = self.handle.new_config.lock().take()
            {
                limits.change(&config);
                drop_caught(config, "reload: a handler");
            }
            // There are few listeners, and after a pause there is no event: try each.
            let outcomes = self
                .listeners
                .iter()
                .map(|listener| self.accept_all(listener, &limits, &mut waiting));
            let outcome = outcomes.max().unwrap_or(AcceptOutcome::Emptied);
            let mut pause = BACK_OFF;
            if outcome == AcceptOutcome::OutOfResources {
                if previous == AcceptOutcome::OutOfResources {
                    limits.evict_incomplete((limits.connections() / 4).clamp(1, MAX_EVICTED));
                } else {
                    // Caches go first, and accepting is retried at once.
                    fd_pressure.release();
                    pause = Duration::ZERO;
                }
                if warned_at.is_none_or(|at: Instant| at.elapsed() >= WARN_INTERVAL) {
                    warned_at = Some(Instant::now());
                    log::warn!(
                        "accept: out of file descriptors or memory; pausing until some are free"
                    );
                }
            }
            if limits.excess() > 0 {
                let spare = (limits.idle() / 8).clamp(1, MAX_EVICTED);
                limits.evict(spare.max(limits.excess()));
            }
            previous = outcome;
            if limits
                .workers
                .iter()
                .all(|worker| worker.mailbox.has_messages())
            {
                std::thread::sleep(ACCEPT_COALESCE_DELAY);
            }
            timeout = match outcome {
                AcceptOutcome::Emptied => None,
                AcceptOutcome::Unfinished => Some(Duration::ZERO),
                AcceptOutcome::WaitingForRoom => Some(BACK_OFF),
                AcceptOutcome::OutOfResources => Some(pause),
            };
        }
        // Closing a listener resets the connections in its backlog.
        for listener in &self.listeners {
            self.accept_all(listener, &limits, &mut waiting);
        }
        if let Some((socket, peer)) = waiting.connection {
            self.stats.reject(socket, limits.policy.scheme(peer));
        }
        Ok(())
    }

    fn accept_all(
        &self,
        listener: &Listener,
        limits: &ConnectionLimits,
        waiting: &mut WaitingRoom,
    ) -> AcceptOutcome {
        for _ in 0..MAX_BATCH {
            if limits.is_out_of_descriptors() {
                return AcceptOutcome::OutOfResources;
            }
            let accepted = match waiting.connection.take() {
                Some(connection) => Ok(connection),
                None => listener.accept(),
            };
            match accepted {
                Ok((socket, peer)) => {
                    self.place(socket, peer, limits, waiting);
                    if waiting.connection.is_some() {
                        return AcceptOutcome::WaitingForRoom;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return AcceptOutcome::Emptied;
                }
                Err(error) => match Errno::from_io_error(&error) {
                    Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => {
                        return AcceptOutcome::OutOfResources;
                    }
                    // The connection failed in the backlog (accept(2) lists the errors); the next
                    // one may be fine.
                    _ => log::debug!("accept: {error}"),
                },
            }
        }
        AcceptOutcome::Unfinished
    }

    /// Hands over a connection if there is room for it. If there will be some when incomplete
    /// connections are evicted, the connection waits for that, and is rejected otherwise.
    fn place(
        &self,
        socket: Socket,
        peer: SocketAddr,
        limits: &ConnectionLimits,
        waiting: &mut WaitingRoom,
    ) {
        match limits.room() {
            Room::Available => {
                waiting.full_since = None;
                return self.hand_over(socket, peer, limits);
            }
            Room::AfterEviction => {
                limits.evict_incomplete((limits.connections() / 8).clamp(1, MAX_EVICTED));
                let full_since = *waiting.full_since.get_or_insert_with(Instant::now);
                if full_since.elapsed() < limits.max_wait_for_room() {
                    waiting.connection = Some((socket, peer));
                    return;
                }
            }
            Room::None => {}
        }
        self.stats.reject(socket, limits.policy.scheme(peer));
    }

    fn hand_over(&self, socket: Socket, peer: SocketAddr, limits: &ConnectionLimits) {
        let scheme = limits.policy.scheme(peer);
        let Ok(client_slot) = limits.policy.register_peer(peer) else {
            self.stats.reject_client(socket, scheme);
            return;
        };
        self.stats.accepted.fetch_add(1, Ordering::Relaxed);
        if limits.policy.is_empty_for(peer) {
            if let Some(worker) = least_loaded(&limits.workers) {
                worker.send_connection(WorkerMessage::Connection(NewConnection {
                    transport: AnyTransport::Plain(socket),
                    client: peer,
                    client_slot,
                }));
            }
        } else if let Some(handshaker) = limits.handshakers.least_loaded() {
            handshaker.send_connection(HandshakerMessage::Connection(AcceptedConnection {
                socket,
                peer,
                client_slot,
            }));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpStream};
    use std::sync::mpsc;

    use super::*;
    use crate::config::Config;
    use crate::net::accept::directory::HandshakerHandles;
    use crate::net::accept::preamble::AcceptPolicy;
    use crate::net::event_loop::handle::LoopParts;
    use crate::net::transport::listener::{ListenerAddress, V6};
    use crate::net::worker::message::WorkerHandle;

    /// Returns an acceptor with its address.
    fn acceptor() -> (Acceptor, SocketAddr) {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let listener = Listener::tcp(any, V6::Only).expect("a port");
        let ListenerAddress::Tcp(address) = *listener.address() else {
            panic!("a TCP listener has an address");
        };
        let acceptor = Acceptor::new(vec![listener]).expect("an acceptor");
        (acceptor, address)
    }

    /// Returns the limits of a server with one worker that has more connections than the process has
    /// descriptors.
    fn exceeded(worker: &WorkerHandle, handshakers: Arc<HandshakerHandles>) -> ConnectionLimits {
        let connections = &worker.stats.connections;
        connections.store(usize::MAX / 2, Ordering::Relaxed);
        let config = Config::default();
        ConnectionLimits::new(
            vec![worker.clone()],
            handshakers,
            AcceptPolicy::of(&config),
            &config.limits,
            &config.timeouts,
        )
    }

    /// Waits until the mailbox of `parts` has a message for which `is_wanted` is true.
    fn await_message<M>(parts: &mut LoopParts<M>, is_wanted: impl Fn(&M) -> bool) {
        let mut events = Events::with_capacity(1);
        let mut messages = Vec::new();
        while !messages.iter().any(&is_wanted) {
            parts.poll.poll(&mut events, None).expect("an event");
            messages.clear();
            parts.handle.mailbox.take(&mut messages);
        }
    }

    #[test]
    fn lack_of_descriptors_evicts_from_workers_and_handshakers() {
        let (acceptor, address) = acceptor();
        let handle = acceptor.handle();
        let mut worker = LoopParts::new().expect("a poll");
        let mut handshaker = LoopParts::new().expect("a poll");
        let handshakers = Arc::new(HandshakerHandles::default());
        handshakers.publish(vec![handshaker.handle().clone()]);
        let limits = exceeded(worker.handle(), handshakers);
        let thread = std::thread::spawn(move || acceptor.run(limits, &FdPressure::default()));
        let _client = TcpStream::connect(address).expect("a connection");
        await_message(&mut worker, |message| {
            matches!(message, WorkerMessage::Evict(1..))
        });
        await_message(&mut handshaker, |message| {
            matches!(message, HandshakerMessage::Evict(1..))
        });
        handle.stop();
        thread.join().expect("no panic").expect("no error");
    }

    #[test]
    fn lack_of_descriptors_calls_the_callbacks() {
        let (acceptor, address) = acceptor();
        let handle = acceptor.handle();
        let worker = LoopParts::new().expect("a poll");
        let limits = exceeded(worker.handle(), Arc::default());
        let (called, is_called) = mpsc::channel();
        let mut fd_pressure = FdPressure::default();
        fd_pressure.add(|| panic!("on purpose"));
        fd_pressure.add(move || {
            let _ = called.send(());
        });
        let thread = std::thread::spawn(move || acceptor.run(limits, &fd_pressure));
        let _client = TcpStream::connect(address).expect("a connection");
        is_called.recv().expect("the second callback is called");
        handle.stop();
        thread.join().expect("no panic").expect("no error");
    }
}
