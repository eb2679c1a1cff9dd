//! What comes before HTTP: the PROXY header that contains the client's address, and the TLS handshake.
//!
//! A TLS handshake costs a signature, a millisecond of CPU time with a large key, and a peer may take
//! its time over it. So both happen in event loops of their own, one thread each. A worker receives a
//! connection when it is ready for a request. Until then a connection has as much time as there is
//! for a request head.

use std::collections::VecDeque;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll, Token};
use slab::Slab;

use super::admission::AcceptStats;
#[cfg(feature = "tls")]
use super::admission::respond_and_close;
use super::directory::{AcceptedConnection, HandshakerHandle, HandshakerMessage};
use super::preamble::{AcceptPolicy, HandshakeStage};
use super::proxy_protocol::{self, SourceAddress};
use crate::config::Timeouts;
use crate::net::bandwidth::per_client::{ClientSlot, TooManyConnections};
use crate::net::event_loop::handle::{LoopParts, least_loaded};
use crate::net::event_loop::tokens::{TokenAllocator, WAKER_TOKEN, key_of};
use crate::net::transport::any::AnyTransport;
use crate::net::transport::socket::Socket;
#[cfg(feature = "tls")]
use crate::net::transport::tls::{TlsStream, send_records};
#[cfg(feature = "tls")]
use crate::net::transport::{More, Transport};
use crate::net::worker::message::{NewConnection, WorkerHandle, WorkerMessage};
#[cfg(feature = "tls")]
use crate::tls::{ClientHelloReader, Session, SessionError, SocketRead, is_validation};

const EVENTS_PER_ITERATION: usize = 256;

/// Do not purge stale deadlines below this count.
const MIN_PURGE_LEN: usize = 1024;

/// An event loop that completes handshakes.
pub(crate) struct Handshaker {
    poll: Poll,
    handle: HandshakerHandle,
    policy: AcceptPolicy,
    workers: Vec<WorkerHandle>,
    stats: Arc<AcceptStats>,
    /// How long a connection may take.
    timeout: Duration,
    /// How long a new connection is neither evicted nor closed for shutdown.
    idle_grace: Duration,
    pending: Slab<PendingHandshake>,
    tokens: TokenAllocator,
    /// The end of each connection's time, in order of arrival, which is the order of the ends. Some
    /// connections are gone.
    deadlines: VecDeque<(Instant, Token)>,
    state: HandshakerState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum HandshakerState {
    Running,
    Draining,
}

/// A connection that is not ready for a request.
struct PendingHandshake {
    token: Token,
    socket: Socket,
    stage: HandshakeStage,
    /// The client's address: the peer's until a PROXY header contains another one.
    client: SocketAddr,
    client_slot: ClientSlot,
    /// For which events the socket is registered, once the handshake has had to wait.
    registered: Option<Interest>,
}

/// The result of one step of a handshake.
enum HandshakeProgress {
    /// The peer has to send or to read something.
    Blocked,
    /// There may be more to do at once.
    Continue,
    /// What follows is HTTP.
    Ready,
    /// The client has its maximum number of connections.
    TooManyConnections,
    /// The handshake has failed; the reason is for the log.
    Failed(String),
}

/// The response to a client that speaks HTTP where TLS is expected. nginx responds with 400, too.
#[cfg(feature = "tls")]
const PLAIN_HTTP: &[u8] = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\
    X-Content-Type-Options: nosniff\r\n\
    Content-Type: text/plain; charset=utf-8\r\nContent-Length: 55\r\n\r\n\
    400 Bad Request: this port speaks HTTPS, not plain HTTP\n";

/// The content type of the record with which a handshake begins (RFC 8446 §5.1).
#[cfg(feature = "tls")]
const HANDSHAKE_RECORD: u8 = 22;

/// A ClientHello has 500 to 2000 bytes, most of them the key share of X25519MLKEM768.
#[cfg(feature = "tls")]
const CLIENT_HELLO_READ_BYTES: usize = 4096;

#[cfg(feature = "tls")]
const CLOSED_IN_HANDSHAKE: &str = "connection closed during its TLS handshake";

impl Handshaker {
    pub(crate) fn new(
        parts: LoopParts<HandshakerMessage>,
        timeouts: &Timeouts,
        policy: AcceptPolicy,
        workers: Vec<WorkerHandle>,
        stats: Arc<AcceptStats>,
    ) -> Self {
        Self {
            poll: parts.poll,
            handle: parts.handle,
            policy,
            workers,
            stats,
            timeout: timeouts.header,
            idle_grace: timeouts.idle_grace,
            pending: Slab::new(),
            tokens: TokenAllocator::default(),
            deadlines: VecDeque::new(),
            state: HandshakerState::Running,
        }
    }

    /// Completes handshakes until the server drains and the last connection is handed over or
    /// closed.
    pub(crate) fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS_PER_ITERATION);
        let mut messages = Vec::new();
        while self.state == HandshakerState::Running || !self.pending.is_empty() {
            match self.poll.poll(&mut events, self.poll_timeout()) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
            let now = Instant::now();
            for event in &events {
                if event.token() != WAKER_TOKEN {
                    self.resume(event.token());
                }
            }
            self.handle.mailbox.take(&mut messages);
            for message in messages.drain(..) {
                match message {
                    HandshakerMessage::Connection(accepted) => self.insert(accepted, now),
                    HandshakerMessage::AcceptPolicy(policy) => self.policy = policy,
                    HandshakerMessage::Evict(count) => self.evict(count, now),
                    HandshakerMessage::Drain => self.drain(now),
                }
            }
            self.expire(usize::MAX, now);
        }
        Ok(())
    }

    fn poll_timeout(&self) -> Option<Duration> {
        let (end, _) = self.deadlines.front()?;
        Some(end.saturating_duration_since(Instant::now()))
    }

    fn insert(&mut self, accepted: AcceptedConnection, now: Instant) {
        let AcceptedConnection {
            socket,
            peer,
            client_slot,
        } = accepted;
        let entry = self.pending.vacant_entry();
        let token = self.tokens.issue(entry.key());
        let Some(stage) = self.policy.first_stage(peer) else {
            log::info!("PROXY protocol: {peer} is not a trusted proxy; connection closed");
            self.handle.stats.uncount_connection();
            return;
        };
        entry.insert(PendingHandshake {
            token,
            socket,
            stage,
            client: peer,
            client_slot,
            registered: None,
        });
        // No deadline if it is beyond the range of `Instant`.
        if let Some(end) = now.checked_add(self.timeout) {
            self.purge_deadlines();
            self.deadlines.push_back((end, token));
        }
        self.resume(token);
    }

    /// Continues a handshake until it blocks or ends.
    fn resume(&mut self, token: Token) {
        let key = key_of(token);
        let pending = self.pending.get_mut(key);
        let Some(pending) = pending.filter(|pending| pending.token == token) else {
            return;
        };
        let reason = loop {
            match pending.step(&self.policy) {
                Ok(HandshakeProgress::Continue) => {}
                Ok(HandshakeProgress::Blocked) => return self.await_event(key),
                Ok(HandshakeProgress::Ready) => return self.hand_over(key),
                Ok(HandshakeProgress::TooManyConnections) => return self.reject(key),
                Ok(HandshakeProgress::Failed(reason)) => break reason,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return self.await_event(key);
                }
                Err(error) => break error.to_string(),
            }
        };
        log::debug!("handshake with {}: {reason}", pending.client);
        drop(self.remove(key));
    }

    /// Registers a socket for the event that its handshake waits for. The kernel reports what happened
    /// before, too.
    fn await_event(&mut self, key: usize) {
        let pending = &mut self.pending[key];
        let interest = pending.interest();
        let registry = self.poll.registry();
        let (socket, token) = (&mut pending.socket, pending.token);
        let result = match pending.registered.replace(interest) {
            Some(registered) if registered == interest => Ok(()),
            Some(_) => registry.reregister(socket, token, interest),
            None => registry.register(socket, token, interest),
        };
        if let Err(error) = result {
            log::error!("connection: failed to register it with the event loop: {error}");
            drop(self.remove(key));
        }
    }

    /// Hands a connection to the least-loaded worker.
    fn hand_over(&mut self, key: usize) {
        let pending = &mut self.pending[key];
        if pending.registered.is_some()
            && let Err(error) = self.poll.registry().deregister(&mut pending.socket)
        {
            log::error!("connection: failed to deregister it from the handshaker: {error}");
            drop(self.remove(key));
            return;
        }
        let Some(worker) = least_loaded(&self.workers).cloned() else {
            drop(self.remove(key));
            return;
        };
        // Counted by the worker before it is uncounted here, so that the total never drops.
        worker.stats.count_connection();
        let pending = self.remove(key);
        #[cfg(feature = "tls")]
        if let HandshakeStage::TlsHandshake(session) = &pending.stage {
            self.stats.handshakes.count(session.state());
        }
        let connection = pending.into_connection();
        worker.mailbox.send(WorkerMessage::Connection(connection));
    }

    fn reject(&mut self, key: usize) {
        let PendingHandshake { socket, client, .. } = self.remove(key);
        let scheme = self.policy.scheme(client);
        self.stats.reject_client(socket, scheme);
    }

    /// Removes a connection. It is not counted any more before its peer can notice that it is closed
    /// or has reached a worker.
    fn remove(&mut self, key: usize) -> PendingHandshake {
        self.handle.stats.uncount_connection();
        self.pending.remove(key)
    }

    /// Closes up to `count` connections, the oldest first, except new ones, which are expected to
    /// make progress.
    fn evict(&mut self, count: usize, now: Instant) {
        let spared = self.timeout.saturating_sub(self.idle_grace);
        if let Some(last) = now.checked_add(spared) {
            self.expire(count, last);
        }
    }

    /// Closes up to `count` connections whose deadline is not after `last`.
    fn expire(&mut self, mut count: usize, last: Instant) {
        while let Some((end, token)) = self.deadlines.front().copied()
            && end <= last
            && count > 0
        {
            self.deadlines.pop_front();
            let key = key_of(token);
            let pending = self.pending.get(key);
            if let Some(pending) = pending.filter(|pending| pending.token == token) {
                log::debug!("no request from {}: handshake timed out", pending.client);
                drop(self.remove(key));
                count -= 1;
            }
        }
    }

    /// Removes the deadlines of connections that are gone, before they outnumber the others.
    fn purge_deadlines(&mut self) {
        if self.deadlines.len() < MIN_PURGE_LEN.max(2 * self.pending.len()) {
            return;
        }
        let pending = &self.pending;
        self.deadlines.retain(|(_, token)| {
            let pending = pending.get(key_of(*token));
            pending.is_some_and(|pending| pending.token == *token)
        });
    }

    /// Shortens the time of all connections to the grace period.
    fn drain(&mut self, now: Instant) {
        self.state = HandshakerState::Draining;
        let Some(end) = now.checked_add(self.idle_grace) else {
            return;
        };
        for (own, _) in &mut self.deadlines {
            *own = end.min(*own);
        }
        // Also of those that had no deadline.
        let all = self.pending.iter();
        self.deadlines
            .extend(all.map(|(_, pending)| (end, pending.token)));
    }
}

impl Drop for Handshaker {
    fn drop(&mut self) {
        self.handle.mailbox.close();
    }
}

impl PendingHandshake {
    /// What the handshake waits for. It can nearly always write.
    fn interest(&self) -> Interest {
        match &self.stage {
            #[cfg(feature = "tls")]
            HandshakeStage::TlsHandshake(session) if !session.records().is_empty() => {
                Interest::READABLE | Interest::WRITABLE
            }
            _ => Interest::READABLE,
        }
    }

    /// Makes one step.
    fn step(&mut self, policy: &AcceptPolicy) -> io::Result<HandshakeProgress> {
        match &mut self.stage {
            HandshakeStage::ProxyHeader => self.read_proxy_header(policy),
            #[cfg(feature = "tls")]
            HandshakeStage::FirstByte => self.start_handshake(),
            #[cfg(feature = "tls")]
            HandshakeStage::ClientHello(first) => {
                let session = read_client_hello(first, &mut self.socket, policy)?;
                self.stage = HandshakeStage::TlsHandshake(Box::new(session));
                Ok(HandshakeProgress::Continue)
            }
            #[cfg(feature = "tls")]
            HandshakeStage::TlsHandshake(session) => drive_handshake(session, &mut self.socket),
        }
    }

    fn read_proxy_header(&mut self, policy: &AcceptPolicy) -> io::Result<HandshakeProgress> {
        let mut bytes = [0; proxy_protocol::MAX_BYTES];
        // What follows the header stays in the socket.
        let count = self.socket.peek(&mut bytes)?;
        if count == 0 {
            return Ok(failed("connection closed before its PROXY header"));
        }
        match proxy_protocol::parse(&bytes[..count]) {
            Ok(None) => Ok(HandshakeProgress::Blocked),
            Ok(Some(header)) => {
                self.socket.read_exact(&mut bytes[..header.len])?;
                let proxy = self.client;
                // A connection of the proxy itself counts towards no client's limit.
                if let SourceAddress::Client(client) = header.source {
                    match policy.register(client) {
                        Ok(slot) => self.client_slot = slot,
                        Err(TooManyConnections) => {
                            return Ok(HandshakeProgress::TooManyConnections);
                        }
                    }
                    self.client = client;
                }
                let Some(stage) = policy.tls_stage(proxy) else {
                    return Ok(HandshakeProgress::Ready);
                };
                self.stage = stage;
                Ok(HandshakeProgress::Continue)
            }
            Err(reason) => Ok(failed(reason)),
        }
    }

    fn into_connection(self) -> NewConnection {
        let transport = match self.stage {
            #[cfg(feature = "tls")]
            HandshakeStage::TlsHandshake(session) => {
                AnyTransport::Tls(Box::new(TlsStream::new(self.socket, *session)))
            }
            _ => AnyTransport::Plain(self.socket),
        };
        NewConnection {
            transport,
            client: self.client,
            client_slot: self.client_slot,
        }
    }
}

fn failed(reason: &str) -> HandshakeProgress {
    HandshakeProgress::Failed(reason.to_owned())
}

#[cfg(feature = "tls")]
impl PendingHandshake {
    /// Allocates memory for a handshake when its first byte has arrived.
    fn start_handshake(&mut self) -> io::Result<HandshakeProgress> {
        let mut first = [0];
        let count = self.socket.peek(&mut first)?;
        match first {
            _ if count == 0 => Ok(failed("connection closed before its TLS handshake")),
            [HANDSHAKE_RECORD] => {
                self.stage = HandshakeStage::ClientHello(Box::default());
                Ok(HandshakeProgress::Continue)
            }
            [b'A'..=b'Z'] => {
                respond_and_close(&mut self.socket, PLAIN_HTTP);
                Ok(failed("plain HTTP instead of TLS"))
            }
            _ => Ok(failed("no TLS handshake")),
        }
    }
}

/// Reads the ClientHello, and begins the session.
#[cfg(feature = "tls")]
fn read_client_hello(
    first: &mut ClientHelloReader,
    socket: &mut Socket,
    policy: &AcceptPolicy,
) -> io::Result<Session> {
    let acceptor = policy.tls();
    let acceptor = acceptor.ok_or_else(|| io::Error::other("TLS is disabled"))?;
    let mut bytes = [0; CLIENT_HELLO_READ_BYTES];
    loop {
        let count = socket.read(&mut bytes)?;
        if count == 0 {
            return Err(io::Error::other(CLOSED_IN_HANDSHAKE));
        }
        match acceptor.accept(first, &bytes[..count]) {
            Ok(Some(session)) => return Ok(session),
            Ok(None) => {}
            Err(SessionError { error, alert }) => {
                // If the socket takes it.
                let _ = socket.send(&alert, More::Last);
                return Err(io::Error::other(error));
            }
        }
    }
}

/// Continues a TLS handshake until the peer has to send or to read something.
#[cfg(feature = "tls")]
fn drive_handshake(session: &mut Session, socket: &mut Socket) -> io::Result<HandshakeProgress> {
    loop {
        send_records(session, socket)?;
        if !session.state().is_handshaking() {
            if is_validation(session.state()) {
                let _ = session.close();
                let _ = send_records(session, socket);
                return Ok(failed("answered a TLS-ALPN-01 challenge"));
            }
            return Ok(HandshakeProgress::Ready);
        }
        // The client may send its first request together with the end of its handshake. It is held until
        // the worker takes it.
        match session.receive(socket, &mut Vec::new()) {
            Ok(SocketRead::Eof) => return Ok(failed(CLOSED_IN_HANDSHAKE)),
            Ok(_) if session.has_ended() && session.state().is_handshaking() => {
                return Ok(failed(CLOSED_IN_HANDSHAKE));
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                // The alert, if the socket takes it.
                let _ = send_records(session, socket);
                return Err(error);
            }
            Err(error) => return Err(error),
        }
    }
}
