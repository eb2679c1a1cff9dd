//! Deterministic simulation of one HTTP/2 connection, as [the one](super) of HTTP/1.1: with a client
//! that has many streams, splits its frames anywhere and keeps a model of all windows.
//!
//! After every step it is asserted that what the connection waits for will happen; at the end, that
//! every request has exactly one response and one record.

mod peer;
mod services;

use std::cell::RefCell;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use self::peer::{Peer, PeerEnd};
use self::services::MultiplexedServices;
use super::rng::Rng;
use super::wire::{SimulatedSocket, Wire};
use super::{Bandwidth, NOW, advance, limit_bandwidth, now};
use crate::config::{Config, Http2, Timeouts};
use crate::http::forwarded::ClientInfo;
use crate::net::bandwidth::per_client::ClientSlot;
use crate::net::connection::{Blocked, Connection, DriveScope, Quantum};
use crate::net::worker::message::ExchangeEvent;
use crate::proto::CloseReason;
use crate::proto::context::{Context, DrainState, RecordMode};
use crate::proto::protocol::Protocol;

/// Number of seeds that a plain `cargo test` runs.
const SEEDS: u64 = 600;

/// A run with so many steps is in an endless loop.
const MAX_STEPS: usize = 200_000;

#[test]
fn every_stream_is_answered_and_every_connection_ends() {
    let number = |name: &str| -> Option<u64> { std::env::var(name).ok()?.parse().ok() };
    if let Some(seed) = number("TWS_SEED") {
        run(seed);
        return;
    }
    let mut reasons = Vec::new();
    for seed in 0..number("TWS_SEEDS").unwrap_or(SEEDS) {
        let reason = run(seed);
        if !reasons.contains(&reason) {
            reasons.push(reason);
        }
    }
    // The runs cover all kinds of ends.
    for reason in [
        CloseReason::PeerLeft,
        CloseReason::Drained,
        CloseReason::TimedOut,
        CloseReason::Broken,
    ] {
        assert!(reasons.contains(&reason), "never {reason:?}");
    }
}

fn run(seed: u64) -> CloseReason {
    let report = super::ReportSeed(seed);
    let mut simulation = Simulation::new(seed);
    let reason = simulation.run();
    drop(report);
    reason
}

struct Simulation {
    rng: Rng,
    connection: Connection<SimulatedSocket>,
    wire: Rc<RefCell<Wire>>,
    services: MultiplexedServices,
    cx: Context,
    timeouts: Timeouts,
    peer: Peer,
    /// Why the connection does not run.
    blocked: Blocked,
    /// The connection has a place in the run queue.
    queued: bool,
    drains_at: Option<usize>,
    cut_at: Option<usize>,
    bandwidth: Option<Bandwidth>,
}

/// What may happen next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    PeerActs,
    PeerSends,
    PeerTakes,
    PeerEnds,
    Readiness,
    Message,
    Room,
    Job,
    Publishes,
    WakeUp,
    RunQueue,
    Time,
}

impl Simulation {
    fn new(seed: u64) -> Self {
        NOW.set(Some(std::time::Instant::now()));
        let mut rng = Rng::new(seed, 10);
        let wire = Wire::new(Rng::new(seed, 12));
        // Of what passes through a small buffer there is little.
        let max = |buffer: usize| (200 * buffer).min(200_000);
        let max_body = max(wire.borrow().max_incoming);
        let max_content = max(wire.borrow().max_outgoing);
        let mut config = Config {
            http2: Http2::All,
            ..Config::default()
        };
        config.limits.max_linger_bytes = rng.size(1_000_000) as u64;
        if rng.one_in(4) {
            config.timeouts.header = Duration::from_millis(100);
            config.timeouts.body = Duration::from_millis(100);
            config.timeouts.send = Duration::from_millis(100);
            config.timeouts.keep_alive_h2 = Duration::from_millis(100);
        }
        let (client_slot, bandwidth) =
            limit_bandwidth(&mut Rng::new(seed, 14), &mut config.limits).unzip();
        let mut cx = Context::new(&config, RecordMode::On, now, SystemTime::now());
        let client = ClientInfo::plain(SocketAddr::from((Ipv4Addr::LOCALHOST, 1)));
        // The client has selected HTTP/2 in a handshake, or begins with it.
        let protocol = if rng.one_in(2) {
            Protocol::http2(client, None, &mut cx)
        } else {
            Protocol::http1(client)
        };
        Self {
            connection: Connection::new(
                SimulatedSocket(Rc::clone(&wire)),
                protocol,
                client_slot.unwrap_or(ClientSlot::UNLIMITED),
                now(),
            ),
            services: MultiplexedServices::new(Rng::new(seed, 13), max_content),
            wire,
            cx,
            timeouts: config.timeouts,
            peer: Peer::new(Rng::new(seed, 11), max_body),
            blocked: Blocked::Yield,
            queued: true,
            drains_at: rng.one_in(10).then(|| rng.below(300)),
            cut_at: rng.one_in(40).then(|| rng.below(400)),
            bandwidth,
            rng,
        }
    }

    fn run(&mut self) -> CloseReason {
        for step in 0..MAX_STEPS {
            self.cx.tick(now(), || SystemTime::UNIX_EPOCH);
            self.shut_down(step);
            if let Blocked::Closed(reason) = self.blocked {
                self.check_end(reason);
                return reason;
            }
            let possible = self.possible();
            let event = possible[self.rng.below(possible.len())];
            self.on_event(event);
            self.check_wait();
        }
        panic!(
            "the run does not end: {:?}, {:?}, {:?}",
            self.blocked,
            self.possible(),
            self.peer
        );
    }

    fn shut_down(&mut self, step: usize) {
        if self.drains_at == Some(step) {
            self.cx.drain_state = DrainState::Draining;
            let grace = self.timeouts.idle_grace;
            self.timeouts.keep_alive_h2 = self.timeouts.keep_alive_h2.min(grace);
            self.drive(DriveScope::All);
        }
        if self.cut_at == Some(step) && !matches!(self.blocked, Blocked::Closed(_)) {
            self.connection.cut();
            self.drive(DriveScope::All);
        }
    }

    fn possible(&self) -> Vec<Event> {
        let wire = self.wire.borrow();
        let mut possible = Vec::new();
        let mut add = |event, is_possible| {
            if is_possible {
                possible.push(event);
            }
        };
        add(Event::PeerActs, self.peer.can_act());
        add(
            Event::PeerSends,
            self.peer.has_output() && wire.has_room_for_input(),
        );
        add(Event::PeerTakes, wire.untaken() > 0 && self.peer.reads());
        let follows = wire.shut_down && wire.untaken() == 0;
        add(Event::PeerEnds, self.peer.can_end(follows));
        add(Event::Readiness, wire.has_event());
        add(Event::Message, !self.services.messages.is_empty());
        add(Event::Room, self.services.has_room());
        add(Event::Job, self.services.can_run_job());
        add(Event::Publishes, self.services.can_publish());
        add(Event::WakeUp, self.services.has_wake_up());
        add(
            Event::RunQueue,
            match self.blocked {
                Blocked::Throttled(until) => until <= now(),
                _ => self.queued,
            },
        );
        add(Event::Time, true);
        possible
    }

    fn on_event(&mut self, event: Event) {
        match event {
            Event::PeerActs => self.peer.act(),
            Event::PeerSends => self.peer.send(&mut self.wire.borrow_mut()),
            Event::PeerTakes => self.peer.take(&mut self.wire.borrow_mut()),
            Event::PeerEnds => {
                let mut wire = self.wire.borrow_mut();
                match self.peer.end() {
                    PeerEnd::Stays => {}
                    PeerEnd::HalfCloses => wire.end_input(),
                    PeerEnd::Closes => wire.close_input(),
                    PeerEnd::Resets => wire.reset(),
                }
            }
            Event::Readiness => {
                let event = self.wire.borrow_mut().take_event();
                if let Some(event) = event {
                    self.connection.on_ready(event);
                    if self.wire.borrow().is_reset() {
                        self.connection.on_hang_up();
                    }
                    self.resume();
                }
            }
            Event::Message => self.deliver(),
            Event::Room => {
                if self.services.take_room(|id| self.connection.is_open(id)) {
                    self.resume();
                }
            }
            Event::Job => self.services.run_job(&self.peer),
            Event::Publishes => self.services.publish(),
            Event::WakeUp => {
                let woken = self.services.take_wake_up();
                if let Some(id) = woken.filter(|id| self.connection.is_open(*id)) {
                    self.connection.on_body_ready(id);
                    self.resume();
                }
            }
            Event::RunQueue => {
                self.queued = false;
                self.drive(DriveScope::All);
            }
            Event::Time => self.pass_time(),
        }
    }

    /// Delivers a message, as the worker does.
    fn deliver(&mut self) {
        let at = self.rng.below(self.services.messages.len());
        let (id, event) = self.services.messages.swap_remove(at);
        if !self.connection.is_open(id) {
            return;
        }
        self.services.on_delivered(id, &event);
        let (connection, cx) = (&mut self.connection, &mut self.cx);
        match event {
            ExchangeEvent::Response(response) => connection.on_response(id, response, cx),
            ExchangeEvent::BodyChunk(chunk) => connection.on_body_chunk(id, chunk, cx),
            ExchangeEvent::FileRead(resident) => connection.on_file_read(id, resident, cx),
            ExchangeEvent::RequestBodyRoom | ExchangeEvent::UpgradeWake => {}
            ExchangeEvent::Cancelled => connection.on_cancelled(id),
        }
        self.resume();
    }

    /// A short or a long time passes, or all the time until the deadline.
    fn pass_time(&mut self) {
        let only_time = self.possible() == [Event::Time];
        let deadline = self.connection.deadline(&self.timeouts);
        if only_time {
            self.check_progress();
        }
        let end = match self.blocked {
            Blocked::Throttled(until) => Some(until),
            _ => deadline,
        };
        match end {
            Some(end) if only_time => advance(end.saturating_duration_since(now())),
            None if only_time => panic!("blocked on nothing, {:?}", self.blocked),
            _ if self.rng.one_in(2000) => advance(Duration::from_secs(3600)),
            _ => advance(Duration::from_micros(self.rng.size(10_000) as u64)),
        }
        self.cx.tick(now(), || SystemTime::UNIX_EPOCH);
        if let Some(bandwidth) = &mut self.bandwidth {
            bandwidth.pass_time();
        }
        let is_throttled = matches!(self.blocked, Blocked::Throttled(_));
        if !is_throttled && self.connection.send_heartbeats(&mut self.cx) {
            self.resume();
        }
        // Pending input is read before anything is timed out.
        let is_due = self.connection.is_expired(&self.timeouts, now());
        if is_due && !self.wire.borrow().has_event() && self.services.messages.is_empty() {
            self.peer.on_timeout();
            self.connection.on_timeout(&self.timeouts, &mut self.cx);
            self.drive(DriveScope::All);
        }
    }

    /// As the worker does.
    fn resume(&mut self) {
        if self.connection.is_sending_bulk() {
            self.queued = true;
        }
        let scope = if self.queued {
            DriveScope::Requests
        } else {
            DriveScope::All
        };
        self.drive(scope);
    }

    fn drive(&mut self, scope: DriveScope) {
        if matches!(self.blocked, Blocked::Closed(_)) {
            return;
        }
        let quantum = Quantum {
            bytes: self.rng.size(300_000),
            scope,
        };
        self.blocked = self
            .connection
            .drive(&mut self.cx, &mut self.services, quantum);
        self.queued |= self.blocked == Blocked::Yield;
        if let Blocked::Throttled(until) = self.blocked {
            assert!(until > self.cx.now, "throttled without need");
        }
        if let Some(bandwidth) = &self.bandwidth {
            bandwidth.check(&self.wire.borrow());
        }
    }

    /// What the connection waits for will happen.
    fn check_wait(&self) {
        let wire = self.wire.borrow();
        if self.queued {
            return;
        }
        match self.blocked {
            Blocked::Readable | Blocked::Writable => {
                // It reads whatever it waits for, unless it is being closed.
                let ends = self.cx.drain_state == DrainState::Draining
                    || self.peer.timed_out()
                    || !self.connection.is_multiplexed();
                let is_read = !wire.is_readable()
                    || wire.end_was_read
                    || ends && self.blocked == Blocked::Writable;
                assert!(is_read || wire.has_event(), "a lost edge: input");
                let is_written = !wire.is_writable() || self.blocked == Blocked::Readable;
                assert!(is_written || wire.has_event(), "a lost edge: room");
            }
            Blocked::Handler => panic!("streams wait for many things"),
            Blocked::Throttled(_) | Blocked::Yield | Blocked::Closed(_) => {}
        }
    }

    /// Nothing but time can pass: nothing that the client could receive is held back.
    fn check_progress(&self) {
        let wire = self.wire.borrow();
        let is_over = wire.shut_down || wire.is_reset();
        if matches!(self.blocked, Blocked::Throttled(_)) || is_over || !self.peer.reads() {
            return;
        }
        self.peer.check_progress(&self.services);
    }

    fn check_end(&mut self, reason: CloseReason) {
        let wire = self.wire.borrow();
        if self.cx.drain_state == DrainState::Running {
            self.services.all_are_to_be_complete();
        }
        match reason {
            CloseReason::Evicted => panic!("evicted without need"),
            CloseReason::Drained => {
                assert!(self.cut_at.is_some() || self.cx.drain_state == DrainState::Draining);
            }
            CloseReason::TimedOut => assert!(self.peer.timed_out()),
            CloseReason::Finished
            | CloseReason::PeerLeft
            | CloseReason::BodyTruncated
            | CloseReason::Broken => {}
        }
        self.peer.check_end(&wire, &self.services);
    }
}
