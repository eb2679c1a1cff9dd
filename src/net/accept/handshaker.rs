//! What comes before HTTP: the PROXY header that says whose a connection is, and the TLS handshake.
//!
//! A handshake costs a signature, a millisecond of work with a large key, and a peer may take its
//! time over it. So both happen in event loops of their own, one thread each, beside the workers,
//! which get a connection when it is ready for a request. All that a connection may take until then
//! is the time that there is for a head.

use std::collections::VecDeque;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll, Token};
use slab::Slab;

#[cfg(feature = "tls")]
use super::acceptor;
use super::acceptor::AcceptStats;
use super::proxy_protocol::{self, Source};
use crate::config::{Config, Networks, ProxyProtocol, UNIX_PEER};
use crate::http::forwarded::Scheme;
use crate::net::bandwidth::per_client::{ClientSlot, Clients, TooManyConnections};
use crate::net::connection::EXPECTED_REQUEST_WINDOW;
use crate::net::event_loop::handle::{LoopHandle, LoopParts, least_loaded};
use crate::net::event_loop::mailbox::WorkerMessage;
use crate::net::event_loop::tokens::{TokenAllocator, WAKER_TOKEN, key_of};
use crate::net::transport::any::AnyTransport;
use crate::net::transport::socket::Socket;
#[cfg(feature = "tls")]
use crate::net::transport::tls::TlsStream;
use crate::net::worker::settings::RuntimeConfig;

const EVENTS_PER_TURN: usize = 256;

/// So few deadlines are not looked through for those of connections that are gone.
const MIN_DEADLINES: usize = 1024;

/// What a handshaker is told.
#[derive(Debug)]
pub(crate) enum HandshakerMessage {
    /// A connection that has just been accepted.
    Arrival(Socket, SocketAddr, Option<Box<ClientSlot>>),
    /// Those who come from now on begin with this.
    AcceptPolicy(AcceptPolicy),
    /// Give up so many that do not go on, the oldest first: others need the room.
    Shed(usize),
    /// Finish what is begun, at once, and end.
    Drain,
}

/// Where all handshakers of a server are reached. They are known when it serves, and there are none
/// if all connections begin with a request.
#[derive(Debug, Default)]
pub(crate) struct HandshakerHandles(OnceLock<Vec<LoopHandle<HandshakerMessage>>>);

impl HandshakerHandles {
    /// Once.
    pub(crate) fn publish(&self, handshakers: Vec<LoopHandle<HandshakerMessage>>) {
        let _ = self.0.set(handshakers);
    }

    pub(crate) fn all(&self) -> &[LoopHandle<HandshakerMessage>] {
        self.0.get().map_or(&[], Vec::as_slice)
    }

    /// How many connections they have together.
    pub(crate) fn connections(&self) -> usize {
        self.all().iter().map(LoopHandle::connections).sum()
    }

    /// Has about so many given up that do not go on.
    pub(crate) fn shed(&self, count: usize) {
        for handshaker in self.all() {
            handshaker.mailbox.send(HandshakerMessage::Shed(count));
        }
    }

    /// Whoever has the fewest connections.
    pub(crate) fn least_loaded(&self) -> Option<&LoopHandle<HandshakerMessage>> {
        least_loaded(self.all())
    }
}

/// What connections begin with, and what they count for.
#[derive(Clone, Debug)]
pub(crate) struct AcceptPolicy {
    /// From whom a PROXY header is taken, if there must be one.
    proxies: Option<Networks>,
    /// Unix sockets have none.
    tls: Option<TlsConfig>,
    /// Without a limit for each client there is nothing to know of them.
    clients: Option<Arc<Clients>>,
}

#[cfg(feature = "tls")]
type TlsConfig = Arc<rustls::ServerConfig>;

/// There is none.
#[cfg(not(feature = "tls"))]
type TlsConfig = std::convert::Infallible;

/// Who is believed about a PROXY header: those who are trusted, or this machine if nobody is named.
fn believed(trusted: &Networks) -> Networks {
    match trusted.is_empty() {
        true => "127.0.0.0/8, ::1, unix".parse().unwrap_or_default(),
        false => trusted.clone(),
    }
}

impl AcceptPolicy {
    pub(crate) fn of(config: &Config) -> Self {
        Self {
            proxies: match config.proxy_protocol {
                ProxyProtocol::Off => None,
                ProxyProtocol::Required => Some(believed(&config.trusted_proxies)),
            },
            tls: None,
            clients: Clients::new(&config.limits),
        }
    }

    #[cfg(feature = "tls")]
    pub(crate) fn with_tls(self, config: &TlsConfig) -> Self {
        Self {
            tls: Some(Arc::clone(config)),
            ..self
        }
    }

    /// From now on, for those who come.
    pub(crate) fn change(&mut self, terms: &RuntimeConfig, now: Instant) {
        if let Some(proxies) = &mut self.proxies {
            *proxies = believed(&terms.trusted_proxies);
        }
        match &self.clients {
            Some(clients) => clients.change(&terms.limits, now),
            None => self.clients = Clients::new(&terms.limits),
        }
    }

    /// True if every connection begins with a request.
    pub(crate) fn is_empty(&self) -> bool {
        let anybody = SocketAddr::from(([127, 0, 0, 1], 1));
        self.is_empty_for(anybody)
    }

    /// True if a connection from `peer` begins with a request.
    pub(crate) fn is_empty_for(&self, peer: SocketAddr) -> bool {
        self.proxies.is_none() && self.scheme(peer) == Scheme::Http
    }

    /// What a connection that does not begin with a request begins with; `None` if it may not
    /// begin at all.
    fn first_stage(&self, peer: SocketAddr) -> Option<HandshakeStage> {
        match &self.proxies {
            Some(proxies) => proxies
                .contains(peer)
                .then_some(HandshakeStage::ProxyHeader),
            None => self.first_stage_of_tls(peer),
        }
    }

    #[cfg(feature = "tls")]
    fn first_stage_of_tls(&self, peer: SocketAddr) -> Option<HandshakeStage> {
        (self.scheme(peer) == Scheme::Https).then_some(HandshakeStage::Hello)
    }

    #[cfg(not(feature = "tls"))]
    #[expect(clippy::unused_self, reason = "as its twin")]
    fn first_stage_of_tls(&self, _: SocketAddr) -> Option<HandshakeStage> {
        None
    }

    /// What is spoken with `peer`.
    pub(crate) fn scheme(&self, peer: SocketAddr) -> Scheme {
        match self.tls.is_some() && peer != UNIX_PEER {
            true => Scheme::Https,
            false => Scheme::Http,
        }
    }

    /// What a connection of `peer` counts for when it comes; an error if there may be no more of
    /// them. Whose one is that begins with a PROXY header is known later.
    pub(crate) fn share_at_first(
        &self,
        peer: SocketAddr,
    ) -> Result<Option<Box<ClientSlot>>, TooManyConnections> {
        match self.proxies {
            Some(_) => Ok(None),
            None => self.share(peer),
        }
    }

    fn share(&self, client: SocketAddr) -> Result<Option<Box<ClientSlot>>, TooManyConnections> {
        match &self.clients {
            Some(clients) => clients.share(client.ip(), Instant::now()),
            None => Ok(None),
        }
    }
}

pub(crate) struct Handshaker {
    poll: Poll,
    address: LoopHandle<HandshakerMessage>,
    preamble: AcceptPolicy,
    workers: Vec<LoopHandle>,
    admittance: Arc<AcceptStats>,
    /// How long a connection may take.
    patience: Duration,
    greetings: Slab<PendingHandshake>,
    tokens: TokenAllocator,
    /// In the order in which they came, which is that of their ends. Some are gone.
    deadlines: VecDeque<(Instant, Token)>,
    phase: Phase,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Open,
    Draining,
}

/// A connection that is not ready for a request yet.
struct PendingHandshake {
    token: Token,
    socket: Socket,
    stage: HandshakeStage,
    /// Whose connection it is, as far as is known.
    peer: SocketAddr,
    share: Option<Box<ClientSlot>>,
}

/// What is waited for.
enum HandshakeStage {
    ProxyHeader,
    /// The first byte of a handshake, before there is any memory for one.
    #[cfg(feature = "tls")]
    Hello,
    #[cfg(feature = "tls")]
    Handshake(Box<rustls::ServerConnection>),
}

/// What came of going on with a greeting.
enum Progress {
    /// The peer is to send or to take something.
    Wait,
    /// There may be more to do at once.
    Again,
    /// What comes next is HTTP.
    Ready,
    /// The client has as many connections as it may have.
    TooManyConnections,
    /// There will be no request; for the log.
    Over(String),
}

/// What a client hears that speaks HTTP where TLS is spoken. nginx's is 400, too.
#[cfg(feature = "tls")]
const PLAIN_HTTP: &[u8] = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\
    Content-Type: text/plain; charset=utf-8\r\nContent-Length: 55\r\n\r\n\
    400 Bad Request: this port speaks HTTPS, not plain HTTP\n";

/// How a handshake begins (RFC 8446 §5.1).
#[cfg(feature = "tls")]
const HANDSHAKE_RECORD: u8 = 22;

impl Handshaker {
    pub(crate) fn new(
        seat: LoopParts<HandshakerMessage>,
        config: &Config,
        preamble: AcceptPolicy,
        workers: Vec<LoopHandle>,
        admittance: Arc<AcceptStats>,
    ) -> Self {
        Self {
            poll: seat.poll,
            address: seat.address,
            preamble,
            workers,
            admittance,
            patience: config.timeouts.header,
            greetings: Slab::new(),
            tokens: TokenAllocator::default(),
            deadlines: VecDeque::new(),
            phase: Phase::Open,
        }
    }

    /// Greets connections until the server drains and the last one is passed on or given up.
    pub(crate) fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS_PER_TURN);
        let mut mail = Vec::new();
        while self.phase == Phase::Open || !self.greetings.is_empty() {
            let now = Instant::now();
            let next = self.deadlines.front();
            let wait = next.map(|(end, _)| end.saturating_duration_since(now));
            match self.poll.poll(&mut events, wait) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
            let now = Instant::now();
            for event in &events {
                if event.token() != WAKER_TOKEN {
                    self.go_on(event.token());
                }
            }
            self.address.mailbox.take(&mut mail);
            for message in mail.drain(..) {
                match message {
                    HandshakerMessage::Arrival(socket, peer, share) => {
                        self.greet(socket, peer, share, now);
                    }
                    HandshakerMessage::AcceptPolicy(preamble) => self.preamble = preamble,
                    HandshakerMessage::Shed(count) => self.shed(count, now),
                    HandshakerMessage::Drain => self.drain(now),
                }
            }
            self.give_up_the_late(now);
        }
        Ok(())
    }

    fn greet(
        &mut self,
        mut socket: Socket,
        peer: SocketAddr,
        share: Option<Box<ClientSlot>>,
        now: Instant,
    ) {
        let entry = self.greetings.vacant_entry();
        let token = self.tokens.issue(entry.key());
        let interest = Interest::READABLE | Interest::WRITABLE;
        let registered = self.poll.registry().register(&mut socket, token, interest);
        if let Err(error) = registered {
            log::error!("handshake: cannot register a connection: {error}; connection closed");
            self.uncount();
            return;
        }
        let Some(stage) = self.preamble.first_stage(peer) else {
            log::info!("PROXY protocol: {peer} is not a trusted proxy; connection closed");
            self.uncount();
            return;
        };
        entry.insert(PendingHandshake {
            token,
            socket,
            stage,
            peer,
            share,
        });
        // Without an end if it is too far for a clock.
        if let Some(end) = now.checked_add(self.patience) {
            self.forget_deadlines();
            self.deadlines.push_back((end, token));
        }
        self.go_on(token);
    }

    /// Goes on with a greeting as far as that goes without waiting.
    fn go_on(&mut self, token: Token) {
        let key = key_of(token);
        let Some(greeting) = self
            .greetings
            .get_mut(key)
            .filter(|greeting| greeting.token == token)
        else {
            return;
        };
        loop {
            match greeting.step(&self.preamble) {
                Ok(Progress::Again) => {}
                Ok(Progress::Wait) => return,
                Ok(Progress::Ready) => return self.pass_on(key),
                Ok(Progress::TooManyConnections) => return self.turn_away(key),
                Ok(Progress::Over(reason)) => {
                    log::debug!("handshake with {}: {reason}", greeting.peer);
                    return self.forget(key);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => {
                    log::debug!("handshake with {}: {error}", greeting.peer);
                    return self.forget(key);
                }
            }
        }
    }

    /// Gives a connection to the least-loaded worker.
    fn pass_on(&mut self, key: usize) {
        let socket = &mut self.greetings[key].socket;
        if let Err(error) = self.poll.registry().deregister(socket) {
            log::error!(
                "handshake: cannot hand a connection to a worker: {error}; connection closed"
            );
            return self.forget(key);
        }
        let Some(worker) = least_loaded(&self.workers) else {
            return self.forget(key);
        };
        worker.tally.connections.fetch_add(1, Ordering::Relaxed);
        let mailbox = Arc::clone(&worker.mailbox);
        let mut greeting = self.remove(key);
        let (peer, share) = (greeting.peer, greeting.share.take());
        mailbox.send(WorkerMessage::Connection(
            greeting.into_stream(),
            peer,
            share,
        ));
    }

    fn turn_away(&mut self, key: usize) {
        let PendingHandshake { socket, peer, .. } = self.remove(key);
        let scheme = self.preamble.scheme(peer);
        self.admittance.turn_away_client(socket, scheme);
    }

    fn forget(&mut self, key: usize) {
        drop(self.remove(key));
    }

    /// It counts no more before its peer can see that it has gone, or where it has got to.
    fn remove(&mut self, key: usize) -> PendingHandshake {
        self.uncount();
        self.greetings.remove(key)
    }

    fn uncount(&self) {
        let connections = &self.address.tally.connections;
        connections.fetch_sub(1, Ordering::Relaxed);
    }

    fn give_up_the_late(&mut self, now: Instant) {
        self.give_up(usize::MAX, now);
    }

    /// Those who are new are expected to go on any moment.
    fn shed(&mut self, count: usize, now: Instant) {
        let spared = self.patience.saturating_sub(EXPECTED_REQUEST_WINDOW);
        if let Some(last) = now.checked_add(spared) {
            self.give_up(count, last);
        }
    }

    /// Gives up so many of those whose time ends by then.
    fn give_up(&mut self, mut count: usize, last: Instant) {
        while let Some((end, token)) = self.deadlines.front().copied()
            && end <= last
            && count > 0
        {
            self.deadlines.pop_front();
            let key = key_of(token);
            let greeting = self.greetings.get(key);
            if let Some(greeting) = greeting.filter(|greeting| greeting.token == token) {
                log::debug!("handshake with {}: timed out", greeting.peer);
                self.forget(key);
                count -= 1;
            }
        }
    }

    /// Those of connections that are gone, before they are more than the others.
    fn forget_deadlines(&mut self) {
        if self.deadlines.len() < MIN_DEADLINES.max(2 * self.greetings.len()) {
            return;
        }
        let greetings = &self.greetings;
        self.deadlines.retain(|(_, token)| {
            let greeting = greetings.get(key_of(*token));
            greeting.is_some_and(|greeting| greeting.token == *token)
        });
    }

    /// Those who have come get as long as anybody else of whom a request is expected.
    fn drain(&mut self, now: Instant) {
        self.phase = Phase::Draining;
        let end = now + EXPECTED_REQUEST_WINDOW;
        for (own, _) in &mut self.deadlines {
            *own = end.min(*own);
        }
        // Also those who had all the time there is.
        let all = self.greetings.iter();
        self.deadlines
            .extend(all.map(|(_, greeting)| (end, greeting.token)));
    }
}

impl Drop for Handshaker {
    fn drop(&mut self) {
        self.address.mailbox.close();
    }
}

impl PendingHandshake {
    /// Does one thing.
    fn step(&mut self, preamble: &AcceptPolicy) -> io::Result<Progress> {
        match &mut self.stage {
            HandshakeStage::ProxyHeader => self.read_proxy_header(preamble),
            #[cfg(feature = "tls")]
            HandshakeStage::Hello => self.await_hello(preamble),
            #[cfg(feature = "tls")]
            HandshakeStage::Handshake(session) => shake_hands(session, &mut self.socket),
        }
    }

    fn read_proxy_header(&mut self, preamble: &AcceptPolicy) -> io::Result<Progress> {
        let mut bytes = [0; proxy_protocol::MAX_BYTES];
        // What is behind it stays in the socket.
        let count = self.socket.peek(&mut bytes)?;
        if count == 0 {
            return Ok(Progress::Over(
                "the connection ended before its PROXY header".to_owned(),
            ));
        }
        match proxy_protocol::parse(&bytes[..count]) {
            Ok(None) => Ok(Progress::Wait),
            Ok(Some(header)) => {
                self.socket.read_exact(&mut bytes[..header.len])?;
                let proxy = self.peer;
                // A proxy that speaks for itself is nobody's client.
                if let Source::Client(client) = header.source {
                    match preamble.share(client) {
                        Ok(share) => self.share = share,
                        Err(TooManyConnections) => return Ok(Progress::TooManyConnections),
                    }
                    self.peer = client;
                }
                let Some(stage) = preamble.first_stage_of_tls(proxy) else {
                    return Ok(Progress::Ready);
                };
                self.stage = stage;
                Ok(Progress::Again)
            }
            Err(reason) => Ok(Progress::Over(reason.to_owned())),
        }
    }

    fn into_stream(self) -> AnyTransport {
        match self.stage {
            #[cfg(feature = "tls")]
            HandshakeStage::Handshake(session) => {
                AnyTransport::Tls(Box::new(TlsStream::new(self.socket, *session)))
            }
            _ => AnyTransport::Plain(self.socket),
        }
    }
}

#[cfg(feature = "tls")]
impl PendingHandshake {
    fn await_hello(&mut self, preamble: &AcceptPolicy) -> io::Result<Progress> {
        let mut first = [0];
        let count = self.socket.peek(&mut first)?;
        let over = |reason: &str| Ok(Progress::Over(reason.to_owned()));
        match (first, &preamble.tls) {
            _ if count == 0 => over("the connection ended before the TLS handshake"),
            ([HANDSHAKE_RECORD], Some(config)) => {
                let session = rustls::ServerConnection::new(Arc::clone(config));
                let session = session.map_err(io::Error::other)?;
                self.stage = HandshakeStage::Handshake(Box::new(session));
                Ok(Progress::Again)
            }
            ([b'A'..=b'Z'], _) => {
                acceptor::say_and_close(&mut self.socket, PLAIN_HTTP);
                over("plain HTTP instead of TLS")
            }
            _ => over("the first byte does not begin a TLS handshake"),
        }
    }
}

/// Goes on with a handshake until the peer is to send or to take something.
#[cfg(feature = "tls")]
fn shake_hands(
    session: &mut rustls::ServerConnection,
    socket: &mut Socket,
) -> io::Result<Progress> {
    loop {
        while session.wants_write() {
            session.write_tls(socket)?;
        }
        if !session.is_handshaking() {
            return Ok(Progress::Ready);
        }
        if session.read_tls(socket)? == 0 {
            return Ok(Progress::Over(
                "the connection ended during the TLS handshake".to_owned(),
            ));
        }
        if let Err(error) = session.process_new_packets() {
            // It is told why, if the socket takes it.
            let _ = session.write_tls(socket);
            return Ok(Progress::Over(error.to_string()));
        }
    }
}
