//! Takes connections off the listeners and mails each to the least-loaded worker, or to a handshaker
//! if it does not begin with a request. It knows how many there may be, and turns the others away.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll, Token, Waker};
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

use super::handshaker::{self, AcceptPolicy, HandshakerMessage};
use crate::handler::Handler;
use crate::http::forwarded::Scheme;
use crate::net::event_loop::handle::{LoopHandle, least_loaded};
use crate::net::event_loop::mailbox::WorkerMessage;
use crate::net::transport::Transport;
use crate::net::transport::any::AnyTransport;
use crate::net::transport::socket::{Listener, Socket};
use crate::net::worker::settings::RuntimeConfig;

/// How long accepting rests when the process is out of descriptors or memory. Long enough not to
/// spin, short enough that nobody notices.
const BACK_OFF: Duration = Duration::from_millis(50);

/// How long accepting waits for workers that have not taken the last connections yet. Meanwhile more
/// clients come, and are taken at once: to be woken for each costs more than to take it.
const ACCEPT_COALESCE_DELAY: Duration = Duration::from_micros(200);

/// How long a want of descriptors, which comes and goes, is not complained of again.
const WARN_INTERVAL: Duration = Duration::from_secs(10);

/// How many idle connections are closed at once for new ones: an eighth of them, a quarter if there
/// are no descriptors, and not more than this. nginx does alike.
const MAX_SHED: usize = 32;

/// After so many attempts in a row somebody looks whether the server is to stop.
const MAX_BATCH: usize = 1024;

const WAKER_TOKEN: Token = Token(usize::MAX);

/// How another thread ends the acceptor, or tells it that other terms hold.
#[derive(Debug)]
pub(crate) struct AcceptorHandle {
    asked: AtomicBool,
    /// Looked at only when the bell has rung.
    terms: Mutex<Option<RuntimeConfig>>,
    bell: Waker,
}

/// What the acceptor counts, for others to read.
#[derive(Debug, Default)]
pub(crate) struct AcceptStats {
    /// Connections that were given to a worker or a handshaker.
    pub(crate) accepted: AtomicU64,
    /// Those that were told 503, for want of room.
    pub(crate) rejected: AtomicU64,
    /// Those of them whose client had its share.
    pub(crate) rejected_clients: AtomicU64,
}

impl AcceptStats {
    /// Tells a client that there is no room for it. Whoever waits for TLS would not understand.
    fn turn_away(&self, mut socket: Socket, scheme: Scheme) {
        self.rejected.fetch_add(1, Ordering::Relaxed);
        if scheme == Scheme::Http {
            say_and_close(&mut socket, NO_ROOM);
        }
    }

    /// The same, as it has its share already.
    pub(crate) fn turn_away_client(&self, socket: Socket, scheme: Scheme) {
        self.rejected_clients.fetch_add(1, Ordering::Relaxed);
        self.turn_away(socket, scheme);
    }
}

/// Who gets the connections, and how many there may be.
pub(crate) struct ConnectionLimits {
    pub(crate) workers: Vec<LoopHandle>,
    /// Who gets those that do not begin with a request.
    pub(crate) handshakers: Arc<handshaker::HandshakerHandles>,
    pub(crate) preamble: AcceptPolicy,
    pub(crate) handler: Arc<dyn Handler>,
    /// How many connections there may be; more are told so.
    pub(crate) cap: Option<usize>,
    /// For how many the process has descriptors; more wait.
    pub(crate) descriptors: usize,
}

impl ConnectionLimits {
    /// From now on, for those who come.
    fn change(&mut self, terms: RuntimeConfig) {
        let limits = &terms.limits;
        self.cap = limits.max_connections;
        self.descriptors = connections_with_descriptors(self.cap);
        self.preamble.change(&terms, Instant::now());
        for handshaker in self.handshakers.all() {
            let preamble = self.preamble.clone();
            handshaker
                .mailbox
                .send(HandshakerMessage::AcceptPolicy(preamble));
        }
        let former = std::mem::replace(&mut self.handler, terms.handler);
        terms.grave.take(former);
    }

    fn connections(&self) -> usize {
        let of_workers: usize = self.workers.iter().map(LoopHandle::connections).sum();
        of_workers + self.handshakers.connections()
    }

    fn idle(&self) -> usize {
        let of = |worker: &LoopHandle| worker.tally.idle.load(Ordering::Relaxed);
        self.workers.iter().map(of).sum()
    }

    fn is_out_of_descriptors(&self) -> bool {
        self.connections() >= self.descriptors
    }

    /// How many more connections there are than there may be.
    fn excess(&self) -> usize {
        let over = |cap| self.connections().saturating_sub(cap);
        self.cap.map_or(0, over)
    }

    /// Whether there are so many that not even the idle ones could make room for another.
    fn is_full(&self) -> bool {
        self.excess() >= self.idle() && self.cap.is_some_and(|cap| self.connections() >= cap)
    }

    /// Has about so many idle connections closed, the oldest of each worker.
    fn shed(&self, count: usize) {
        let each = count.div_ceil(self.workers.len().max(1));
        for worker in &self.workers {
            worker.mailbox.send(WorkerMessage::Shed(each));
        }
    }
}

impl AcceptorHandle {
    pub(crate) fn ask(&self) {
        self.asked.store(true, Ordering::Release);
        self.ring();
    }

    pub(crate) fn change(&self, terms: RuntimeConfig) {
        *self.terms.lock().unwrap_or_else(PoisonError::into_inner) = Some(terms);
        self.ring();
    }

    fn new_terms(&self) -> Option<RuntimeConfig> {
        self.terms
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }

    fn ring(&self) {
        if let Err(error) = self.bell.wake() {
            log::error!("acceptor: wake-up failed: {error}");
        }
    }

    fn is_asked(&self) -> bool {
        self.asked.load(Ordering::Acquire)
    }
}

pub(crate) struct Acceptor {
    poll: Poll,
    listeners: Vec<Listener>,
    stop: Arc<AcceptorHandle>,
    admittance: Arc<AcceptStats>,
}

/// What became of an attempt to empty a listener's queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum AcceptOutcome {
    Emptied,
    /// There may be more.
    Unfinished,
    /// The process cannot hold one more; those who wait stay in the kernel's queue.
    OutOfResources,
}

impl Acceptor {
    pub(crate) fn new(mut listeners: Vec<Listener>) -> io::Result<Self> {
        let poll = Poll::new()?;
        for (index, listener) in listeners.iter_mut().enumerate() {
            poll.registry()
                .register(listener, Token(index), Interest::READABLE)?;
        }
        let stop = Arc::new(AcceptorHandle {
            asked: AtomicBool::new(false),
            terms: Mutex::new(None),
            bell: Waker::new(poll.registry(), WAKER_TOKEN)?,
        });
        Ok(Self {
            poll,
            listeners,
            stop,
            admittance: Arc::default(),
        })
    }

    pub(crate) fn listeners(&self) -> &[Listener] {
        &self.listeners
    }

    pub(crate) fn stop(&self) -> Arc<AcceptorHandle> {
        Arc::clone(&self.stop)
    }

    pub(crate) fn admittance(&self) -> Arc<AcceptStats> {
        Arc::clone(&self.admittance)
    }

    /// Accepts until it is asked to stop. The listeners close when it returns.
    pub(crate) fn run(mut self, mut room: ConnectionLimits) -> io::Result<()> {
        let mut events = Events::with_capacity(64);
        let mut patience = None;
        let mut last = AcceptOutcome::Emptied;
        let mut said = None;
        while !self.stop.is_asked() {
            match self.poll.poll(&mut events, patience) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
            if events.iter().any(|event| event.token() == WAKER_TOKEN)
                && let Some(terms) = self.stop.new_terms()
            {
                room.change(terms);
            }
            // There are few listeners, and after a rest there will be no event: try each.
            let batches = self
                .listeners
                .iter()
                .map(|listener| self.accept_all(listener, &room));
            let worst = batches.max().unwrap_or(AcceptOutcome::Emptied);
            let mut rest = BACK_OFF;
            match (worst, last) {
                (AcceptOutcome::OutOfResources, AcceptOutcome::OutOfResources) => {
                    room.shed((room.connections() / 4).clamp(1, MAX_SHED));
                }
                // What is kept for speed goes first, and accepting is tried again at once.
                (AcceptOutcome::OutOfResources, _) => {
                    shed_cache(&*room.handler);
                    rest = Duration::ZERO;
                }
                (AcceptOutcome::Emptied | AcceptOutcome::Unfinished, _) => {}
            }
            if room.excess() > 0 {
                let spare = (room.idle() / 8).clamp(1, MAX_SHED);
                room.shed(spare.max(room.excess()));
            }
            if worst == AcceptOutcome::OutOfResources
                && said.is_none_or(|at: Instant| at.elapsed() >= WARN_INTERVAL)
            {
                said = Some(Instant::now());
                log::warn!(
                    "accept: out of file descriptors or memory; pausing until some are free"
                );
            }
            last = worst;
            if room.workers.iter().all(|worker| worker.mailbox.has_mail()) {
                std::thread::sleep(ACCEPT_COALESCE_DELAY);
            }
            patience = match worst {
                AcceptOutcome::Emptied => None,
                AcceptOutcome::Unfinished => Some(Duration::ZERO),
                AcceptOutcome::OutOfResources => Some(rest),
            };
        }
        // Those who wait in the kernel's queue have been promised nothing, but they would be reset.
        for listener in &self.listeners {
            self.accept_all(listener, &room);
        }
        Ok(())
    }

    fn accept_all(&self, listener: &Listener, room: &ConnectionLimits) -> AcceptOutcome {
        for _ in 0..MAX_BATCH {
            if room.is_out_of_descriptors() {
                return AcceptOutcome::OutOfResources;
            }
            match listener.accept() {
                Ok((socket, peer)) => self.hand_over(socket, peer, room),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return AcceptOutcome::Emptied;
                }
                Err(error) => match Errno::from_io_error(&error) {
                    Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => {
                        return AcceptOutcome::OutOfResources;
                    }
                    // The connection died in the queue (accept(2) lists what may be reported); the
                    // next one may be fine.
                    _ => log::debug!("accept: {error}"),
                },
            }
        }
        AcceptOutcome::Unfinished
    }

    fn hand_over(&self, socket: Socket, peer: SocketAddr, room: &ConnectionLimits) {
        let scheme = room.preamble.scheme(peer);
        if room.is_full() {
            // Who asks again finds some.
            room.handshakers.shed(MAX_SHED);
            self.admittance.turn_away(socket, scheme);
            return;
        }
        let Ok(share) = room.preamble.share_at_first(peer) else {
            self.admittance.turn_away_client(socket, scheme);
            return;
        };
        self.admittance.accepted.fetch_add(1, Ordering::Relaxed);
        if room.preamble.is_empty_for(peer) {
            if let Some(worker) = least_loaded(&room.workers) {
                worker.tally.connections.fetch_add(1, Ordering::Relaxed);
                let mail = WorkerMessage::Connection(AnyTransport::Plain(socket), peer, share);
                worker.mailbox.send(mail);
            }
        } else if let Some(handshaker) = room.handshakers.least_loaded() {
            handshaker.tally.connections.fetch_add(1, Ordering::Relaxed);
            let mail = HandshakerMessage::Arrival(socket, peer, share);
            handshaker.mailbox.send(mail);
        }
    }
}

/// How many connections the process has descriptors for. Some are for everything else: a download
/// takes a second one, and the event loops have a few. A quarter, unless somebody has thought
/// about it.
pub(crate) fn connections_with_descriptors(cap: Option<usize>) -> usize {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let others = match cap {
        Some(_) => 32,
        None => (limit / 4).max(32),
    };
    usize::try_from(limit.saturating_sub(others))
        .unwrap_or(usize::MAX)
        .max(1)
}

/// The handler is not ours, and its panic is not to end the server.
fn shed_cache(handler: &dyn Handler) {
    if catch_unwind(AssertUnwindSafe(|| handler.shed())).is_err() {
        log::error!("handler: panicked while closing cached files");
    }
}

/// What those hear for whom there is no room.
const NO_ROOM: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\n\
    Connection: close\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 46\r\n\r\n\
    503 Service Unavailable: too many connections\n";

/// Tells a client why there will be nothing else, as far as that goes without waiting for it.
pub(crate) fn say_and_close(socket: &mut Socket, answer: &[u8]) {
    // What has come is taken first: closing over unread bytes would reset the connection, and the
    // reset could overtake the answer.
    let _ = socket.read(&mut [0; 4096]);
    let _ = socket.write(answer);
    let _ = socket.shutdown_write();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_that_is_announced_to_those_turned_away_is_right() {
        let text = String::from_utf8_lossy(NO_ROOM).into_owned();
        let (head, content) = text.split_once("\r\n\r\n").expect("a head");
        assert!(
            head.ends_with(&format!("Content-Length: {}", content.len())),
            "{head}"
        );
    }
}
