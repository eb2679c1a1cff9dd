//! One event loop: a thread, a `Poll`, a slab of connections.
//!
//! A turn: wait for events; serve who asks; read the mail; give those who move bulk their share;
//! look at who is late; hand the access log over. Requests come before bulk, and bulk comes in
//! bounded portions, so a request waits for at most one portion of everybody else's downloads.

pub(crate) mod services;
pub(crate) mod settings;
use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use mio::event::Event;
use mio::{Events, Interest, Poll, Token};
use slab::Slab;

use super::blocking::disk::DiskPools;
use super::blocking::pool::BlockingPool;
use super::connection::{Blocked, Connection, EXPECTED_REQUEST_WINDOW, Readiness};
use super::event_loop::handle::{LoopHandle, LoopParts};
use super::event_loop::mailbox::WorkerMessage;
use super::event_loop::timer_wheel::{Tick, TimerWheel};
use super::event_loop::tokens::{TokenAllocator, WAKER_TOKEN, key_of};
use super::observe::observer::{SnapshotKind, SnapshotRequest};
use super::transport::any::AnyTransport;
use crate::access_log::LogSender;
use crate::config::{Config, Timeouts};
use crate::handler::Handler;
use crate::http::forwarded::ClientInfo;
use crate::proto::context::{Context, DrainState, RecordMode};
use services::WorkerServices;
use settings::{PreviousHandler, RuntimeConfig};

/// What one connection may move before it is another's turn. About 10 µs of `sendfile`.
const QUANTUM_BYTES: usize = 128 * 1024;
/// What all bulk together may move before new events are looked at.
const BULK_BYTES_PER_TURN: usize = 4 * QUANTUM_BYTES;
/// How many events one turn takes from the kernel.
const EVENTS_PER_TURN: usize = 1024;

/// In how many full turns in a row nobody is looked at for being late.
const MAX_TURNS_WITHOUT_DEADLINES: usize = 16;

pub(crate) struct Worker {
    poll: Poll,
    address: LoopHandle,
    timeouts: Timeouts,
    slots: Slab<Slot>,
    tokens: TokenAllocator,
    /// Those that can go on at once; each at most once.
    run_queue: VecDeque<Token>,
    deadlines: TimerWheel,
    cx: Context,
    handler: Arc<dyn Handler>,
    /// For the contents that the handler before has admitted and that are still coming in.
    former: HashMap<Token, PreviousHandler>,
    /// For jobs that wait for no client.
    helpers: BlockingPool,
    /// For those that read from a client or write to one, at its pace.
    streams: BlockingPool,
    disks: DiskPools,
    access_log: Option<LogSender>,
    /// When the last connections are cut, once the server drains.
    drained_by: Option<Instant>,
}

struct Slot {
    connection: Connection<AnyTransport>,
    token: Token,
    /// The nearest tick at which the wheel reports this connection.
    filed: Option<Tick>,
    turn: QueueState,
}

/// What a connection holds in memory while it waits for its next request, but for a token in the
/// wheel: what is rare, and what is only there during a request, lies elsewhere.
const MAX_SLOT_BYTES: usize = 232;

const _: () = assert!(size_of::<Slot>() <= MAX_SLOT_BYTES);

/// Whether a connection stands in the run queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum QueueState {
    Queued,
    Parked,
}

/// What one turn leaves to the next: memory, most of all.
struct IterationBuffers {
    events: Events,
    mail: Vec<WorkerMessage>,
    late: Vec<(Tick, Token)>,
    /// How many turns in a row were full of events.
    full_turns: usize,
}

impl IterationBuffers {
    fn new() -> Self {
        Self {
            events: Events::with_capacity(EVENTS_PER_TURN),
            mail: Vec::new(),
            late: Vec::new(),
            full_turns: 0,
        }
    }
}

impl Worker {
    pub(crate) fn new(
        seat: LoopParts,
        config: &Config,
        handler: Arc<dyn Handler>,
        (helpers, streams, disks): (BlockingPool, BlockingPool, DiskPools),
        access_log: Option<LogSender>,
    ) -> Self {
        let now = Instant::now();
        Self {
            poll: seat.poll,
            address: seat.address,
            timeouts: config.timeouts.clone(),
            slots: Slab::new(),
            tokens: TokenAllocator::default(),
            run_queue: VecDeque::new(),
            deadlines: TimerWheel::new(now),
            cx: Context::new(config, RecordMode::Off, Instant::now, SystemTime::now()),
            handler,
            former: HashMap::new(),
            helpers,
            streams,
            disks,
            access_log,
            drained_by: None,
        }
    }

    /// Serves until the server drains and the last connection has ended or is cut.
    pub(crate) fn run(mut self) -> io::Result<()> {
        let mut desk = IterationBuffers::new();
        loop {
            self.turn(&mut desk)?;
            if self.cx.drain_state == DrainState::Draining && self.slots.is_empty() {
                return Ok(());
            }
        }
    }

    fn turn(&mut self, desk: &mut IterationBuffers) -> io::Result<()> {
        match self.poll.poll(&mut desk.events, self.patience()) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        let begun = Instant::now();
        self.cx.tick(begun, SystemTime::now());
        self.cx.recording = self.recording();
        let mut rung = false;
        for event in &desk.events {
            match event.token() {
                WAKER_TOKEN => rung = true,
                token => self.on_event(token, event),
            }
        }
        if rung {
            self.address.mailbox.take(&mut desk.mail);
            for message in desk.mail.drain(..) {
                self.on_mail(message);
            }
        }
        self.run_bulk();
        // After a long stop (SIGSTOP, a suspended machine) everybody is late at once: all that has
        // come meanwhile is read first.
        desk.full_turns = match desk.events.iter().count() < EVENTS_PER_TURN {
            true => 0,
            false => desk.full_turns + 1,
        };
        if desk.full_turns.is_multiple_of(MAX_TURNS_WITHOUT_DEADLINES) {
            self.deadlines.take_due(self.cx.now, &mut desk.late);
            for (tick, token) in desk.late.drain(..) {
                self.on_tick(tick, token);
            }
        }
        if let Some(sink) = &mut self.access_log {
            sink.flush();
        }
        if self.drained_by.is_some_and(|end| self.cx.now >= end) {
            self.cut_all();
        }
        if self.cx.recording == RecordMode::On {
            self.address.tally.meter.count_turn(begun.elapsed());
        }
        Ok(())
    }

    /// Who observes may come and go.
    fn recording(&self) -> RecordMode {
        let observers = self.address.tally.observers.load(Ordering::Relaxed);
        match self.access_log.is_some() || observers > 0 {
            true => RecordMode::On,
            false => RecordMode::Off,
        }
    }

    /// How long the next poll may wait.
    fn patience(&self) -> Option<Duration> {
        if !self.run_queue.is_empty() {
            return Some(Duration::ZERO);
        }
        let now = self.cx.now;
        let end = self
            .drained_by
            .map(|end| end.saturating_duration_since(now));
        let tick = self.deadlines.until_next(now);
        end.into_iter().chain(tick).min()
    }

    fn on_event(&mut self, token: Token, event: &Event) {
        let Some(slot) = self.slot(token) else {
            return;
        };
        // After an error or a hang-up every call tells what happened.
        let over = event.is_error() || (event.is_read_closed() && event.is_write_closed());
        slot.connection.on_ready(Readiness {
            readable: event.is_readable() || event.is_read_closed() || over,
            writable: event.is_writable() || over,
            read_closed: event.is_read_closed() || over,
        });
        if over {
            slot.connection.on_hang_up();
        }
        self.resume(token);
    }

    fn on_mail(&mut self, mail: WorkerMessage) {
        match mail {
            WorkerMessage::Connection(stream, address, share) => {
                let now = self.cx.now;
                let scheme = stream.scheme();
                let peer = ClientInfo { address, scheme };
                self.insert(stream, |stream| {
                    Connection::new(stream, peer, now).with_share(share)
                });
            }
            WorkerMessage::Shed(count) => self.shed(count),
            WorkerMessage::Response(token, response) => {
                let Some(slot) = slot(&mut self.slots, token) else {
                    return;
                };
                let exchange = slot.connection.exchange_id();
                slot.connection
                    .on_response(exchange, response, &mut self.cx);
                self.drive(token);
            }
            WorkerMessage::Piece(token, piece) => {
                let Some(slot) = slot(&mut self.slots, token) else {
                    return;
                };
                let exchange = slot.connection.exchange_id();
                slot.connection.on_body_chunk(exchange, piece, &mut self.cx);
                self.drive(token);
            }
            WorkerMessage::Memory(token, at_hand) => {
                if let Some(slot) = slot(&mut self.slots, token) {
                    let exchange = slot.connection.exchange_id();
                    slot.connection.on_probed(exchange, at_hand, &mut self.cx);
                    self.resume(token);
                }
            }
            WorkerMessage::Room(token) => self.drive(token),
            WorkerMessage::RuntimeConfig(terms) => self.change(*terms),
            WorkerMessage::Report(question) => self.report(question),
            WorkerMessage::Drain(time) => {
                self.cx.drain_state = DrainState::Draining;
                // Without an end if it is too far for a clock.
                let end = self.cx.now.checked_add(time);
                self.drained_by = self.drained_by.into_iter().chain(end).min();
                self.timeouts.keep_alive = self.timeouts.keep_alive.min(EXPECTED_REQUEST_WINDOW);
                let all: Vec<Token> = self.slots.iter().map(|(_, slot)| slot.token).collect();
                for token in all {
                    if let Some(slot) = self.slot(token) {
                        slot.connection.look_again();
                    }
                    self.drive(token);
                }
            }
        }
    }

    fn change(&mut self, terms: RuntimeConfig) {
        let handler = std::mem::replace(&mut self.handler, terms.handler);
        let admitted = self.slots.iter().map(|(_, slot)| slot);
        for slot in admitted.filter(|slot| slot.connection.is_admitted()) {
            let former = || terms.grave.later(&handler);
            self.former.entry(slot.token).or_insert_with(former);
        }
        terms.grave.take(handler);
        self.cx
            .reconfigure(&terms.limits, &terms.timeouts, terms.proxies);
        self.timeouts = terms.timeouts;
        if self.cx.drain_state == DrainState::Draining {
            self.timeouts.keep_alive = self.timeouts.keep_alive.min(EXPECTED_REQUEST_WINDOW);
        }
        // Some may be late sooner.
        let all: Vec<Token> = self.slots.iter().map(|(_, slot)| slot.token).collect();
        for token in all {
            self.file(token);
        }
    }

    fn insert(
        &mut self,
        mut stream: AnyTransport,
        connection: impl FnOnce(AnyTransport) -> Connection<AnyTransport>,
    ) {
        let entry = self.slots.vacant_entry();
        let token = self.tokens.issue(entry.key());
        let interest = Interest::READABLE | Interest::WRITABLE;
        if let Err(error) = self.poll.registry().register(&mut stream, token, interest) {
            log::error!("worker: cannot register a connection: {error}; connection closed");
            self.address
                .tally
                .connections
                .fetch_sub(1, Ordering::Relaxed);
            return;
        }
        entry.insert(Slot {
            connection: connection(stream),
            token,
            filed: None,
            turn: QueueState::Parked,
        });
        self.drive(token);
    }

    fn report(&self, question: SnapshotRequest) {
        let mut answer = question.answer();
        if question.subject() == SnapshotKind::Connections {
            for (_, slot) in &self.slots {
                slot.connection.report(slot.token, self.cx.now, &mut answer);
            }
        }
        question.reply(answer);
    }

    fn shed(&mut self, count: usize) {
        let now = self.cx.now;
        let idle = |slot: &Slot| Some((slot.connection.idle_since(now)?, slot.token));
        let mut idle: Vec<_> = self
            .slots
            .iter()
            .filter_map(|(_, slot)| idle(slot))
            .collect();
        if idle.len() > count {
            idle.select_nth_unstable(count);
            idle.truncate(count);
        }
        for (since, token) in idle {
            let Some(slot) = self.slot(token) else {
                continue;
            };
            slot.connection.look_again();
            self.drive(token);
            // It may have asked for something in the meantime.
            if let Some(slot) = self.slot(token)
                && slot.connection.idle_since(now) == Some(since)
            {
                slot.connection.shed();
                self.address.tally.evicted.fetch_add(1, Ordering::Relaxed);
                self.drive(token);
            }
        }
    }

    /// Gives everybody in the run queue a share, until the turn's portion of bulk is moved.
    fn run_bulk(&mut self) {
        let shares = (BULK_BYTES_PER_TURN / QUANTUM_BYTES).min(self.run_queue.len());
        for _ in 0..shares {
            let Some(token) = self.run_queue.pop_front() else {
                return;
            };
            if let Some(slot) = self.slot(token) {
                slot.turn = QueueState::Parked;
                self.drive(token);
            }
        }
    }

    fn on_tick(&mut self, tick: Tick, token: Token) {
        let Some(slot) = slot(&mut self.slots, token) else {
            return;
        };
        if slot.filed == Some(tick) {
            slot.filed = None;
        } else if slot.connection.waits_until().is_none() {
            return;
        }
        match slot.connection.waits_until() {
            None => {}
            Some(turn) if turn <= self.cx.now => return self.resume(token),
            // Too far away for the wheel, or it was to be looked at for another reason.
            Some(turn) => return self.file_at(turn, token),
        }
        match slot.connection.deadline(&self.timeouts) {
            Some(deadline) if deadline <= self.cx.now => {
                slot.connection.look_again();
                self.drive(token);
                self.settle(token);
                self.expire(token);
            }
            _ => self.file(token),
        }
    }

    fn settle(&mut self, token: Token) {
        if let Some(slot) = slot(&mut self.slots, token) {
            slot.connection.settle(&self.cx);
            self.file(token);
        }
    }

    fn expire(&mut self, token: Token) {
        if let Some(slot) = slot(&mut self.slots, token)
            && let Some(deadline) = slot.connection.deadline(&self.timeouts)
            && deadline <= self.cx.now
        {
            slot.connection.on_timeout(&mut self.cx);
            self.drive(token);
        }
    }

    fn cut_all(&mut self) {
        let all: Vec<Token> = self.slots.iter().map(|(_, slot)| slot.token).collect();
        if !all.is_empty() {
            log::warn!(
                "shutdown: {} connections cut at the drain timeout",
                all.len()
            );
        }
        for token in all {
            if let Some(slot) = self.slot(token) {
                slot.connection.cut();
                self.drive(token);
            }
        }
    }

    /// Lets a connection go on: at once, or when it is the turn of bulk.
    fn resume(&mut self, token: Token) {
        match self.slot(token) {
            Some(slot) if slot.turn == QueueState::Queued => {}
            Some(slot) if slot.connection.is_sending_bulk() => self.enqueue(token),
            _ => self.drive(token),
        }
    }

    fn drive(&mut self, token: Token) {
        let Some(slot) = slot(&mut self.slots, token) else {
            return;
        };
        let former = match self.former.is_empty() {
            true => None,
            false => self.former.remove(&token),
        };
        let mut host = WorkerServices {
            token,
            former,
            mailbox: &self.address.mailbox,
            tally: &self.address.tally,
            handler: &*self.handler,
            helpers: &self.helpers,
            streams: &self.streams,
            disks: &self.disks,
            access_log: self.access_log.as_mut(),
        };
        let waited_until = slot.connection.waits_until();
        // Not counted while it runs: who gets an answer may rely on it that it counts as busy.
        if slot.connection.is_idle() {
            self.address.tally.count_idle(-1);
        }
        let park = slot
            .connection
            .drive(&mut self.cx, &mut host, QUANTUM_BYTES);
        // Unless it was asked, or nothing is left to ask it.
        if let Some(former) = host.former
            && slot.connection.is_admitted()
        {
            self.former.insert(token, former);
        }
        if slot.connection.is_idle() && !matches!(park, Blocked::Closed(_)) {
            self.address.tally.count_idle(1);
        }
        match park {
            Blocked::Closed(reason) => {
                log::trace!("connection closed: {reason:?}");
                self.slots.remove(key_of(token));
                self.address
                    .tally
                    .connections
                    .fetch_sub(1, Ordering::Relaxed);
            }
            Blocked::Yield => {
                self.file(token);
                self.enqueue(token);
            }
            // Whoever waits for that turn already is filed.
            Blocked::Throttled(turn) if waited_until == Some(turn) => {}
            Blocked::Throttled(turn) => self.file_at(turn, token),
            Blocked::Readable | Blocked::Writable | Blocked::Handler => self.file(token),
        }
    }

    /// Sees to it that the wheel reports the connection no later than its deadline.
    fn file(&mut self, token: Token) {
        let Some(slot) = slot(&mut self.slots, token) else {
            return;
        };
        let Some(deadline) = slot.connection.deadline(&self.timeouts) else {
            return;
        };
        let tick = self.deadlines.tick_of(deadline);
        if slot.filed.is_none_or(|filed| tick < filed) {
            slot.filed = Some(tick);
            self.deadlines.file(tick, token);
        }
    }

    /// Has the wheel report the connection when its turn has come, beside its deadline.
    fn file_at(&mut self, turn: Instant, token: Token) {
        let tick = self.deadlines.tick_of(turn);
        self.deadlines.file(tick, token);
    }

    fn enqueue(&mut self, token: Token) {
        if let Some(slot) = slot(&mut self.slots, token)
            && slot.turn == QueueState::Parked
        {
            slot.turn = QueueState::Queued;
            self.run_queue.push_back(token);
        }
    }

    fn slot(&mut self, token: Token) -> Option<&mut Slot> {
        slot(&mut self.slots, token)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // Threads that wait for an answer to what they mailed must not wait for ever.
        self.address.mailbox.close();
    }
}

/// The slot of a token, unless its connection is gone.
fn slot(slots: &mut Slab<Slot>, token: Token) -> Option<&mut Slot> {
    slots
        .get_mut(key_of(token))
        .filter(|slot| slot.token == token)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{Ipv4Addr, SocketAddr};

    use super::*;
    use crate::http::{Request, Response};
    use crate::net::transport::socket::{Listener, ListenerAddress, V6};

    fn worker() -> Worker {
        let config = Config::default();
        let handler = Arc::new(|_: &Request<'_>| Response::text("hello\n"));
        let pools = (
            BlockingPool::new(1, 1),
            BlockingPool::new(1, 1),
            DiskPools::new(1, 1),
        );
        let seat = LoopParts::new().expect("a poll");
        Worker::new(seat, &config, handler, pools, None)
    }

    /// The other part of what a request costs in system calls: beside its own two, a share of one
    /// call for all that have come.
    #[test]
    fn all_who_ask_at_once_are_answered_in_one_turn() {
        const CLIENTS: usize = 32;
        const ROUNDS: usize = 10;
        let mut worker = worker();
        let mut desk = IterationBuffers::new();
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let listener = Listener::tcp(any, V6::Only).expect("a port");
        let ListenerAddress::Tcp(address) = *listener.address() else {
            panic!("a TCP listener has an address");
        };
        let connect = |_| {
            let client = std::net::TcpStream::connect(address).expect("a connection");
            let (socket, peer) = loop {
                match listener.accept() {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    accepted => break accepted.expect("a connection"),
                }
            };
            let mail = WorkerMessage::Connection(AnyTransport::Plain(socket), peer, None);
            worker.address.mailbox.send(mail);
            client
        };
        let mut clients: Vec<_> = (0..CLIENTS).map(connect).collect();
        worker.turn(&mut desk).expect("a turn");
        assert_eq!(worker.slots.len(), CLIENTS);
        let mut turns = 0;
        for round in 1..=ROUNDS {
            for client in &mut clients {
                let request = b"GET / HTTP/1.1\r\nHost: test\r\n\r\n";
                client.write_all(request).expect("a worker");
            }
            let answered = (round * CLIENTS) as u64;
            while worker.address.tally.requests.load(Ordering::Relaxed) < answered {
                worker.turn(&mut desk).expect("a turn");
                turns += 1;
            }
            for client in &mut clients {
                let mut reply = [0; 1024];
                let count = client.read(&mut reply).expect("a reply");
                assert!(reply[..count].ends_with(b"hello\n"));
            }
        }
        // One each; the kernel may be late now and then with what it was given.
        assert!(turns <= 2 * ROUNDS, "{turns} turns");
    }
}
