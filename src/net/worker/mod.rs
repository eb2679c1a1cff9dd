//! A worker: one event loop, with a thread, a `Poll` and a slab of connections.
//!
//! An iteration waits for events; runs the connections that have one; reads the mailbox; runs entries of the
//! run queue up to a limit, which are connections that move large bodies, response bodies that were woken
//! and connections to drain; checks deadlines; flushes the access log. Requests come before the run queue, so a
//! request waits for at most one iteration's portion of it.

mod loop_state;
pub(crate) mod message;
pub(crate) mod pending_exchanges;
mod previous_handlers;
pub(crate) mod services;
pub(crate) mod settings;

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use mio::event::Event;
use mio::{Events, Interest, Poll, Token};
use slab::Slab;

use super::blocking::Pools;
use super::connection::{Connection, DriveScope, Readiness};
use super::event_loop::handle::{LoopParts, Occupancy};
use super::event_loop::timer_wheel::Tick;
use super::event_loop::tokens::{TokenAllocator, WAKER_TOKEN, key_of};
use super::observe::question::{SnapshotKind, SnapshotRequest};
use super::transport::MAX_CALL_BYTES;
use crate::access_log::LogSender;
use crate::config::Config;
use crate::handler::Handler;
use crate::http::forwarded::ClientInfo;
use crate::panics::{Panicked, catch, drop_caught};
use crate::proto::context::{DrainState, RecordMode};
use crate::proto::protocol::Protocol;
use loop_state::{Flow, LoopState, QUANTUM_BYTES, QueueState, Runnable, Slot};
use message::{NewConnection, WorkerMessage};
use settings::RuntimeConfig;

/// Bytes that all large bodies together may move before new events are polled: about 80 µs.
const BULK_BYTES_PER_ITERATION: usize = 4 * QUANTUM_BYTES;
/// The cost of polling one response body, in bytes of [`BULK_BYTES_PER_ITERATION`]: sending a small chunk
/// takes about 10 µs, as long as sending this many bytes of a file.
const BODY_COST_BYTES: usize = MAX_CALL_BYTES;
/// Events taken from the kernel per iteration.
const EVENTS_PER_ITERATION: usize = 1024;

/// The most connections that are cut per iteration after the drain time. 64 take about 5 ms.
const CUTS_PER_ITERATION: usize = 64;

/// Deadlines are checked after at most this many consecutive iterations that were full of events.
const MAX_ITERATIONS_WITHOUT_DEADLINES: usize = 16;

/// The event loop.
pub(crate) struct Worker {
    poll: Poll,
    slots: Slab<Slot>,
    tokens: TokenAllocator,
    state: LoopState,
    /// When the remaining connections are cut, once the server drains.
    drained_by: Option<Instant>,
    /// Whether the warning about cut connections has been logged.
    is_cut_logged: bool,
}

/// Memory that is kept from one iteration to the next.
struct IterationBuffers {
    events: Events,
    messages: Vec<WorkerMessage>,
    due: Vec<(Tick, Token)>,
    /// Number of consecutive iterations that were full of events.
    full_iterations: usize,
}

impl IterationBuffers {
    fn new() -> Self {
        Self {
            events: Events::with_capacity(EVENTS_PER_ITERATION),
            messages: Vec::new(),
            due: Vec::new(),
            full_iterations: 0,
        }
    }
}

impl Worker {
    pub(crate) fn new(
        parts: LoopParts<WorkerMessage>,
        config: &Config,
        handler: Arc<dyn Handler>,
        pools: Pools,
        access_log: Option<LogSender>,
    ) -> Self {
        Self {
            poll: parts.poll,
            slots: Slab::new(),
            tokens: TokenAllocator::default(),
            state: LoopState::new(parts.handle, config, handler, pools, access_log),
            drained_by: None,
            is_cut_logged: false,
        }
    }

    /// Serves until the server drains and the last connection has ended or is cut.
    pub(crate) fn run(mut self) -> io::Result<()> {
        let mut buffers = IterationBuffers::new();
        loop {
            self.run_iteration(&mut buffers)?;
            if self.is_draining() && self.slots.is_empty() {
                drop_caught(self, "shutdown: the handler");
                return Ok(());
            }
        }
    }

    fn is_draining(&self) -> bool {
        self.state.cx.drain_state == DrainState::Draining
    }

    fn run_iteration(&mut self, buffers: &mut IterationBuffers) -> io::Result<()> {
        match self.poll.poll(&mut buffers.events, self.poll_timeout()) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        let start = Instant::now();
        self.state.cx.tick(start, SystemTime::now);
        self.state.cx.recording = self.state.record_mode();
        let mut woken = false;
        for event in &buffers.events {
            match event.token() {
                WAKER_TOKEN => woken = true,
                token => self.on_event(token, event),
            }
        }
        if woken {
            self.state.handle.mailbox.take(&mut buffers.messages);
            for message in buffers.messages.drain(..) {
                self.on_message(message);
            }
        }
        self.run_bulk();
        // After SIGSTOP or suspend all deadlines have passed at once: pending input is read first.
        if buffers.events.iter().count() < EVENTS_PER_ITERATION {
            buffers.full_iterations = 0;
        } else {
            buffers.full_iterations += 1;
        }
        let full = buffers.full_iterations;
        if full.is_multiple_of(MAX_ITERATIONS_WITHOUT_DEADLINES) {
            self.state
                .timers
                .take_due(self.state.cx.now, &mut buffers.due);
            for (tick, token) in buffers.due.drain(..) {
                self.visit(token, |slot, state| state.on_tick(slot, tick));
            }
        }
        if let Some(access_log) = &mut self.state.access_log {
            access_log.flush();
        }
        if self.drained_by.is_some_and(|end| self.state.cx.now >= end) {
            self.cut_portion();
        }
        if self.state.cx.recording == RecordMode::On {
            let metrics = &self.state.handle.stats.metrics;
            metrics.count_iteration(start.elapsed());
        }
        Ok(())
    }

    fn poll_timeout(&self) -> Option<Duration> {
        if !self.state.run_queue.is_empty() {
            return Some(Duration::ZERO);
        }
        let now = self.state.cx.now;
        let end = self
            .drained_by
            .map(|end| end.saturating_duration_since(now));
        let tick = self.state.timers.until_next(now);
        end.into_iter().chain(tick).min()
    }

    /// Runs `visit` on the slot of a token, unless its connection is gone, and closes the connection
    /// if it has ended.
    fn visit(&mut self, token: Token, visit: impl FnOnce(&mut Slot, &mut LoopState) -> Flow) {
        // The destructors of what handlers return run here.
        match catch(|| self.try_visit(token, visit)) {
            Ok(Flow::Continue(())) => {}
            Ok(Flow::Break(reason)) => {
                log::trace!("connection closed: {reason:?}");
                self.remove(token);
            }
            Err(Panicked) => {
                log::error!("connection: a part of a response panicked; connection closed");
                if let Some(slot) = self.slots.get_mut(key_of(token)) {
                    slot.connection.abort();
                }
                self.remove(token);
            }
        }
    }

    fn try_visit(
        &mut self,
        token: Token,
        visit: impl FnOnce(&mut Slot, &mut LoopState) -> Flow,
    ) -> Flow {
        let slot = self.slots.get_mut(key_of(token));
        match slot.filter(|slot| slot.token == token) {
            Some(slot) => visit(slot, &mut self.state),
            None => Flow::Continue(()),
        }
    }

    fn remove(&mut self, token: Token) {
        let slot = self.slots.get(key_of(token));
        if slot.is_some_and(|slot| slot.token == token) {
            let mut slot = self.slots.remove(key_of(token));
            slot.count_as(Occupancy::Incomplete, &self.state.handle.stats);
            self.state.pending.retain(token, |_| false);
            drop_caught(slot, "connection: a part of a response");
            self.state.handle.stats.uncount_connection();
        }
    }

    fn on_event(&mut self, token: Token, event: &Event) {
        self.visit(token, |slot, state| {
            // After an error or a hang-up every call reports what has happened.
            let over = event.is_error() || (event.is_read_closed() && event.is_write_closed());
            slot.connection.on_ready(Readiness {
                readable: event.is_readable() || event.is_read_closed() || over,
                writable: event.is_writable() || over,
                read_closed: event.is_read_closed() || over,
            });
            if over {
                slot.connection.on_hang_up();
            }
            state.resume(slot)
        });
    }

    fn on_message(&mut self, message: WorkerMessage) {
        match message {
            WorkerMessage::Connection(connection) => self.insert(connection),
            WorkerMessage::Evict(count) => self.evict(count),
            WorkerMessage::Exchange {
                connection,
                exchange,
                event,
            } => self.visit(connection, |slot, state| {
                if !slot.connection.is_open(exchange) {
                    // The exchange has ended.
                    return Flow::Continue(());
                }
                state.on_exchange_event(slot, exchange, event)
            }),
            WorkerMessage::BodyReady(body) => {
                self.state.run_queue.push_back(Runnable::Body(body));
            }
            WorkerMessage::Reload(config) => self.reload(*config),
            WorkerMessage::Snapshot(request) => self.report(request),
            WorkerMessage::Drain(time) => self.drain(time),
        }
    }

    fn insert(&mut self, new: NewConnection) {
        let NewConnection {
            mut transport,
            client,
            client_slot,
        } = new;
        let entry = self.slots.vacant_entry();
        let token = self.tokens.issue(entry.key());
        let client = ClientInfo {
            address: client,
            scheme: transport.scheme(),
            tls: transport.tls_version(),
        };
        let cx = &mut self.state.cx;
        let protocol = if transport.is_http2() {
            Protocol::http2(client, transport.take_authorities(), cx)
        } else {
            Protocol::http1(client)
        };
        entry.insert(Slot {
            connection: Connection::new(transport, protocol, client_slot, cx.now),
            token,
            scheduled: None,
            queue: QueueState::NotQueued,
            counted: Occupancy::Incomplete,
        });
        self.visit(token, |slot, state| state.drive(slot, DriveScope::All));
        self.register(token);
    }

    /// Registers a new connection, unless it is over already: a client that sends one request on each
    /// connection needs no events. The kernel reports what happened before, too.
    fn register(&mut self, token: Token) {
        let slot = self.slots.get_mut(key_of(token));
        let Some(slot) = slot.filter(|slot| slot.token == token) else {
            return;
        };
        let interest = Interest::READABLE | Interest::WRITABLE;
        let transport = slot.connection.transport_mut();
        if let Err(error) = self.poll.registry().register(transport, token, interest) {
            log::error!("connection: failed to register it with the event loop: {error}");
            self.remove(token);
        }
    }

    fn drain(&mut self, time: Duration) {
        self.state.cx.drain_state = DrainState::Draining;
        // No end if it is beyond the range of `Instant`.
        let end = self.state.cx.now.checked_add(time);
        self.drained_by = self.drained_by.into_iter().chain(end).min();
        self.state.shorten_keep_alive();
        self.mark_woken_bodies();
        // Through the run queue: closing thousands of streams at once would delay requests.
        for (_, slot) in &self.slots {
            let connection = Runnable::Draining(slot.token);
            self.state.run_queue.push_back(connection);
        }
    }

    /// Tells the connections which bodies wait in the run queue, so that streams that end at the shutdown
    /// send the events before it.
    fn mark_woken_bodies(&mut self) {
        for at in 0..self.state.run_queue.len() {
            if let Runnable::Body(body) = &self.state.run_queue[at] {
                let (token, exchange) = (body.connection, body.exchange);
                self.visit(token, |slot, _| {
                    slot.connection.on_body_ready(exchange);
                    Flow::Continue(())
                });
            }
        }
    }

    fn reload(&mut self, config: RuntimeConfig) {
        let state = &mut self.state;
        let previous = std::mem::replace(&mut state.handler, config.handler);
        for (_, slot) in &self.slots {
            let keep = || config.reaper.keep(&previous);
            let admitted = slot.connection.admitted();
            state.previous_handlers.add(slot.token, admitted, keep);
        }
        config.reaper.reap(previous);
        state
            .cx
            .reconfigure(&config.limits, &config.timeouts, config.proxies);
        state.timeouts = config.timeouts;
        if self.is_draining() {
            self.state.shorten_keep_alive();
        }
        // Deadlines may be earlier than before.
        for (_, slot) in &mut self.slots {
            self.state.schedule(slot);
        }
    }

    fn report(&self, request: SnapshotRequest) {
        let mut snapshot = request.snapshot();
        if request.kind() == SnapshotKind::Connections {
            for (_, slot) in &self.slots {
                slot.connection
                    .report(slot.token, self.state.cx.now, &mut snapshot);
            }
        }
        request.reply(snapshot);
    }

    /// Closes up to `count` idle or incomplete connections, those that have waited longest first.
    fn evict(&mut self, count: usize) {
        let cx = &self.state.cx;
        let evictable = |slot: &Slot| Some((slot.connection.evictable_since(cx)?, slot.token));
        let mut evictable: Vec<_> = self
            .slots
            .iter()
            .filter_map(|(_, slot)| evictable(slot))
            .collect();
        if evictable.len() > count {
            evictable.select_nth_unstable(count);
            evictable.truncate(count);
        }
        for (since, token) in evictable {
            self.visit(token, |slot, state| {
                slot.connection.mark_ready();
                state.drive(slot, DriveScope::All)?;
                // A request may have arrived in the meantime.
                if slot.connection.evictable_since(&state.cx) != Some(since) {
                    return Flow::Continue(());
                }
                slot.connection.evict();
                let evicted = &state.handle.stats.evicted;
                evicted.fetch_add(1, Ordering::Relaxed);
                state.drive(slot, DriveScope::All)
            });
        }
    }

    /// Runs the entries of the run queue, until the portion of the iteration is moved.
    fn run_bulk(&mut self) {
        let mut left = BULK_BYTES_PER_ITERATION;
        for _ in 0..self.state.run_queue.len() {
            let Some(next) = self.state.run_queue.front() else {
                return;
            };
            let cost = match next {
                Runnable::Connection(_) | Runnable::Draining(_) => QUANTUM_BYTES,
                Runnable::Body(_) => BODY_COST_BYTES,
            };
            if cost > left {
                return;
            }
            left -= cost;
            self.run_next();
        }
    }

    /// Runs the first entry of the run queue.
    fn run_next(&mut self) {
        match self.state.run_queue.pop_front() {
            None => {}
            Some(Runnable::Connection(token)) => self.visit(token, |slot, state| {
                slot.queue = QueueState::NotQueued;
                state.drive(slot, DriveScope::All)
            }),
            Some(Runnable::Draining(token)) => self.visit(token, |slot, state| {
                slot.connection.mark_ready();
                state.drive(slot, DriveScope::All)
            }),
            Some(Runnable::Body(body)) => {
                body.begin_poll();
                self.visit(body.connection, |slot, state| {
                    slot.connection.on_body_ready(body.exchange);
                    match slot.queue {
                        QueueState::NotQueued => state.drive(slot, DriveScope::All),
                        QueueState::Queued => Flow::Continue(()),
                    }
                });
            }
        }
    }

    /// Cuts some of the connections after the drain time, so that observers and the supervisor get replies
    /// while thousands are cut. The next iteration begins without waiting, as the time is over.
    fn cut_portion(&mut self) {
        let count = self.slots.len();
        if count > 0 && !std::mem::replace(&mut self.is_cut_logged, true) {
            log::warn!("shutdown: drain time is over; cutting {count} connections");
        }
        let portion = self.slots.iter().take(CUTS_PER_ITERATION);
        let tokens: Vec<Token> = portion.map(|(_, slot)| slot.token).collect();
        for token in tokens {
            self.visit(token, |slot, state| {
                slot.connection.cut();
                state.drive(slot, DriveScope::All)
            });
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // Closing drops the messages, so that no thread waits for an answer that never arrives.
        self.state.handle.mailbox.close();
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{Ipv4Addr, SocketAddr, TcpStream};

    use super::*;
    use crate::body::{Broadcast, Event};
    use crate::config::Http2;
    use crate::http::{Request, Response};
    use crate::net::bandwidth::per_client::ClientSlot;
    use crate::net::transport::any::AnyTransport;
    use crate::net::transport::listener::{Listener, ListenerAddress, V6};
    use crate::net::worker::message::{ExchangeEvent, ReplyTo};
    use crate::proto::HTTP2_PREFACE;
    use crate::proto::exchange::ExchangeId;
    use crate::proto::h2::hpack::encode_field;
    use crate::sync::CancelFlag;

    fn worker() -> Worker {
        worker_with(&Broadcast::new(1))
    }

    fn worker_with(news: &Broadcast) -> Worker {
        let news = news.clone();
        let config = Config {
            http2: Http2::All,
            ..Config::default()
        };
        let handler = Arc::new(move |request: &Request<'_>| match request.path() {
            "/large" => Response::text("x".repeat(1 << 20)),
            "/events" => Response::sse(news.subscribe()),
            _ => Response::text("hello\n"),
        });
        let pools = Pools::new(&config);
        let parts = LoopParts::new().expect("a poll");
        Worker::new(parts, &config, handler, pools, None)
    }

    fn listener() -> Listener {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Listener::tcp(any, V6::Only).expect("a port")
    }

    fn requests(worker: &Worker) -> usize {
        worker.state.handle.stats.requests.load(Ordering::Relaxed) as usize
    }

    /// Returns a connection to the worker, which is in its mailbox.
    fn connect(worker: &Worker, listener: &Listener) -> TcpStream {
        let ListenerAddress::Tcp(address) = *listener.address() else {
            panic!("a TCP listener has an address");
        };
        let client = TcpStream::connect(address).expect("a connection");
        let (socket, peer) = loop {
            match listener.accept() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                accepted => break accepted.expect("a connection"),
            }
        };
        let message = WorkerMessage::Connection(NewConnection {
            transport: AnyTransport::Plain(socket),
            client: peer,
            client_slot: ClientSlot::UNLIMITED,
        });
        worker.state.handle.mailbox.send(message);
        client
    }

    /// The machine would panic in a debug build.
    #[test]
    fn message_of_an_ended_exchange_is_dropped() {
        let mut worker = worker();
        let mut buffers = IterationBuffers::new();
        let listener = listener();
        let _client = connect(&worker, &listener);
        worker.run_iteration(&mut buffers).expect("an iteration");
        let (_, slot) = worker.slots.iter().next().expect("a connection");
        assert!(slot.connection.is_open(ExchangeId(0)));
        let reply_to = ReplyTo {
            mailbox: Arc::clone(&worker.state.handle.mailbox),
            connection: slot.token,
            exchange: ExchangeId(1),
            client: None,
            cancelled: CancelFlag::default(),
        };
        reply_to.send(ExchangeEvent::Response(Response::text("late\n")));
        worker.run_iteration(&mut buffers).expect("an iteration");
        assert_eq!(worker.slots.len(), 1);
    }

    /// The frame that requests a path on a stream.
    fn request(stream: u32, path: &str) -> Vec<u8> {
        const HEADERS: u8 = 1;
        const END_STREAM_AND_HEADERS: u8 = 5;
        let mut block = Vec::new();
        for (name, value) in [
            (":method", "GET"),
            (":scheme", "http"),
            (":authority", "h"),
            (":path", path),
        ] {
            encode_field(name.as_bytes(), value.as_bytes(), &mut block);
        }
        let len = (block.len() as u32).to_be_bytes();
        let header = [&len[1..], &[HEADERS, END_STREAM_AND_HEADERS]].concat();
        [&header, &stream.to_be_bytes()[..], &block].concat()
    }

    /// Begins a connection of HTTP/2 with the request for a path on stream 1.
    fn begin_http2(client: &mut TcpStream, path: &str) {
        const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
        let begin = [HTTP2_PREFACE, SETTINGS, &request(1, path)].concat();
        client.write_all(&begin).expect("a worker");
    }

    /// Otherwise it would wait for the large bodies of all connections.
    #[test]
    fn request_beside_large_body_does_not_wait_for_the_run_queue() {
        let mut worker = worker();
        let mut buffers = IterationBuffers::new();
        let listener = listener();
        let mut client = connect(&worker, &listener);
        begin_http2(&mut client, "/large");
        while requests(&worker) < 1 {
            worker.run_iteration(&mut buffers).expect("an iteration");
        }
        // The first window of the stream; the rest of the body waits for the next.
        client.read_exact(&mut [0; 65_535]).expect("a response");
        let others = (0..100_000).map(|key| Runnable::Connection(Token(usize::MAX - 1 - key)));
        worker.state.run_queue.extend(others);
        client.write_all(&request(3, "/")).expect("a worker");
        while requests(&worker) < 2 {
            assert!(
                worker.state.run_queue.len() > 1000,
                "its place in the queue"
            );
            worker.run_iteration(&mut buffers).expect("an iteration");
        }
        let (_, slot) = worker.slots.iter().next().expect("a connection");
        assert_eq!(slot.queue, QueueState::Queued);
        assert!(slot.connection.is_sending_bulk());
    }

    /// Beside its own two system calls a request costs a share of one `epoll_wait` for all requests
    /// that have arrived.
    #[test]
    fn concurrent_requests_are_answered_in_one_iteration() {
        const CLIENTS: usize = 32;
        const ROUNDS: usize = 10;
        let mut worker = worker();
        let mut buffers = IterationBuffers::new();
        let listener = listener();
        let mut clients: Vec<_> = (0..CLIENTS).map(|_| connect(&worker, &listener)).collect();
        worker.run_iteration(&mut buffers).expect("an iteration");
        assert_eq!(worker.slots.len(), CLIENTS);
        let mut iterations = 0;
        for round in 1..=ROUNDS {
            for client in &mut clients {
                let request = b"GET / HTTP/1.1\r\nHost: test\r\n\r\n";
                client.write_all(request).expect("a worker");
            }
            while requests(&worker) < round * CLIENTS {
                worker.run_iteration(&mut buffers).expect("an iteration");
                iterations += 1;
            }
            for client in &mut clients {
                let mut reply = [0; 1024];
                let count = client.read(&mut reply).expect("a reply");
                assert!(reply[..count].ends_with(b"hello\n"));
            }
        }
        // One per round; the kernel may deliver some requests late.
        assert!(iterations <= 2 * ROUNDS, "{iterations} iterations");
    }

    const STREAMS: usize = 100;

    fn send_request(client: &mut TcpStream, path: &str) {
        let request = format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n");
        client.write_all(request.as_bytes()).expect("a worker");
    }

    /// Returns true if the client receives `text`, and false if its connection ends before.
    fn receives(client: &mut TcpStream, text: &str) -> bool {
        let mut received = Vec::new();
        let mut buffer = [0; 1024];
        let text = text.as_bytes();
        while !received.windows(text.len()).any(|bytes| bytes == text) {
            match client.read(&mut buffer) {
                Ok(0) | Err(_) => return false,
                Ok(count) => received.extend_from_slice(&buffer[..count]),
            }
        }
        true
    }

    /// Opens streams of events, and a connection beside them.
    fn open_streams(
        worker: &mut Worker,
        buffers: &mut IterationBuffers,
    ) -> (Vec<TcpStream>, TcpStream) {
        let listener = listener();
        let open = |path| {
            let mut client = connect(worker, &listener);
            send_request(&mut client, path);
            client
        };
        let streams = (0..STREAMS).map(|_| open("/events")).collect();
        let mut other = open("/");
        while requests(worker) <= STREAMS {
            worker.run_iteration(buffers).expect("an iteration");
        }
        other.read_exact(&mut [0; 16]).expect("a response");
        (streams, other)
    }

    #[test]
    fn event_for_many_clients_does_not_delay_a_request() {
        let news = Broadcast::new(2);
        let mut worker = worker_with(&news);
        let mut buffers = IterationBuffers::new();
        let (mut streams, mut other) = open_streams(&mut worker, &mut buffers);
        news.send("one");
        send_request(&mut other, "/");
        let before = requests(&worker);
        while requests(&worker) == before {
            worker.run_iteration(&mut buffers).expect("an iteration");
        }
        assert!(worker.state.run_queue.len() > STREAMS / 2);
        // A body has one entry, however often it is woken.
        news.send("two");
        worker.run_iteration(&mut buffers).expect("an iteration");
        assert!(worker.state.run_queue.len() <= STREAMS);
        while !worker.state.run_queue.is_empty() {
            worker.run_iteration(&mut buffers).expect("an iteration");
        }
        for stream in &mut streams {
            assert!(receives(stream, "data: two\n"));
        }
    }

    #[test]
    fn connections_are_cut_in_portions_at_the_end_of_the_drain_time() {
        let mut worker = worker();
        let mut buffers = IterationBuffers::new();
        let (mut streams, other) = open_streams(&mut worker, &mut buffers);
        streams.push(other);
        let drain = WorkerMessage::Drain(Duration::ZERO);
        worker.state.handle.mailbox.send(drain);
        worker.run_iteration(&mut buffers).expect("an iteration");
        assert!(worker.slots.len() > STREAMS / 4, "{}", worker.slots.len());
        // One that was accepted late.
        let late = connect(&worker, &listener());
        streams.push(late);
        let mut iterations = 0;
        while !worker.slots.is_empty() {
            worker.run_iteration(&mut buffers).expect("an iteration");
            iterations += 1;
        }
        assert!(iterations < STREAMS / 4, "{iterations} iterations");
        for stream in &mut streams {
            assert!(!receives(stream, "no such text"));
        }
    }

    #[test]
    fn streams_that_end_at_shutdown_do_not_delay_a_request_and_lose_no_event() {
        let news = Broadcast::new(1);
        let mut worker = worker_with(&news);
        let mut buffers = IterationBuffers::new();
        let (mut streams, mut other) = open_streams(&mut worker, &mut buffers);
        let mut multiplexed = connect(&worker, &listener());
        begin_http2(&mut multiplexed, "/events");
        while news.subscribers() == STREAMS {
            worker.run_iteration(&mut buffers).expect("an iteration");
        }
        news.send(Event::new("last").with_id("1"));
        let drain = WorkerMessage::Drain(Duration::from_secs(3600));
        worker.state.handle.mailbox.send(drain);
        worker.run_iteration(&mut buffers).expect("an iteration");
        assert!(worker.is_draining());
        // The new requests make both connections run before their entries in the queue.
        send_request(&mut other, "/");
        let second = request(3, "/");
        multiplexed.write_all(&second).expect("a worker");
        let answered = requests(&worker) + 2;
        while requests(&worker) < answered {
            worker.run_iteration(&mut buffers).expect("an iteration");
        }
        assert!(news.subscribers() > STREAMS / 2);
        while news.subscribers() > 0 {
            worker.run_iteration(&mut buffers).expect("an iteration");
        }
        // Closes the connections, so that `receives` ends.
        drop(worker);
        streams.push(multiplexed);
        for stream in &mut streams {
            assert!(receives(stream, "data: last\n"));
        }
    }
}
