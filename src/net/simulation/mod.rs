//! Deterministic simulation of one connection: the driver and the protocol machine with a client that
//! sends anything, a kernel that reports each edge once, a disk that may be slow or broken, handlers
//! that respond now or later, and a clock that jumps.
//!
//! After every step it is asserted that what the connection waits for will happen; at the end, that
//! the output is what was intended. The same seed makes the same run:
//!
//! ```text
//! TWS_SEED=17 cargo test --lib simulation                     # one seed
//! TWS_SEEDS=1000000 cargo test --release --lib simulation     # the seeds from 0 on
//! ```

mod check;
mod h2;
mod host;
mod publisher;
mod rng;
mod script;
mod wire;

use std::cell::{Cell, RefCell};
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroU64;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use self::host::{SimulatedServices, Stage};
use self::rng::Rng;
use self::script::{Script, ScriptEnd};
use self::wire::{SimulatedSocket, Wire};
use super::bandwidth::limiter::Permit;
use super::bandwidth::per_client::{ClientSlot, Clients};
use super::connection::{Blocked, Connection, Quantum};
use crate::config::{Config, Limits, Timeouts};
use crate::http::forwarded::ClientInfo;
use crate::net::worker::message::ExchangeEvent;
use crate::proto::CloseReason;
use crate::proto::context::{Context, DrainState, RecordMode};
use crate::proto::protocol::Protocol;

/// Number of seeds that a plain `cargo test` runs.
const SEEDS: u64 = 3000;

/// A run with so many steps is in an endless loop.
const MAX_STEPS: usize = 100_000;

/// Buffers in the pool: more than a connection ever uses.
const BUFFERS: usize = 4;

#[test]
fn every_request_is_answered_and_every_connection_ends() {
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
        CloseReason::Finished,
        CloseReason::PeerLeft,
        CloseReason::Drained,
        CloseReason::TimedOut,
        CloseReason::BodyTruncated,
        CloseReason::Broken,
    ] {
        assert!(reasons.contains(&reason), "never {reason:?}");
    }
}

/// Runs one connection from its beginning to its end.
fn run(seed: u64) -> CloseReason {
    let report = ReportSeed(seed);
    let mut simulation = Simulation::new(seed);
    let reason = simulation.run();
    drop(report);
    reason
}

/// Prints the seed if the run panics.
struct ReportSeed(u64);

impl Drop for ReportSeed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("run it again with TWS_SEED={}", self.0);
        }
    }
}

thread_local! {
    static NOW: Cell<Option<Instant>> = const { Cell::new(None) };
}

fn now() -> Instant {
    NOW.get().expect("a simulation")
}

fn advance(by: Duration) {
    NOW.set(Some(now() + by));
}

struct Simulation {
    rng: Rng,
    connection: Connection<SimulatedSocket>,
    wire: Rc<RefCell<Wire>>,
    services: SimulatedServices,
    cx: Context,
    timeouts: Timeouts,
    script: Rc<Script>,
    peer: SimulatedPeer,
    /// Why the connection does not run.
    blocked: Blocked,
    /// When bytes were last sent, and the number of bytes sent until then.
    sent_at: Instant,
    sent: usize,
    timed_out: bool,
    drains_at: Option<usize>,
    cut_at: Option<usize>,
    cut: bool,
    bandwidth: Option<Bandwidth>,
}

/// A bandwidth limit, and another connection of the same client that uses a part of it.
struct Bandwidth {
    bytes_per_second: u64,
    start: Instant,
    other: ClientSlot,
}

/// The state of the client.
struct SimulatedPeer {
    sent: usize,
    ended: bool,
    /// The number of bytes it reads in total, and at once.
    reads: usize,
    read_size: usize,
    continue_wait: ContinueWait,
}

/// How long the client waits for 100 Continue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ContinueWait {
    Limited,
    Endless,
}

/// What may happen next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
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
        NOW.set(Some(Instant::now()));
        let mut rng = Rng::new(seed, 0);
        let script = Rc::new(Script::new(&mut Rng::new(seed, 1)));
        let wire = Wire::new(Rng::new(seed, 2));
        let services =
            SimulatedServices::new(Rng::new(seed, 3), Rc::clone(&wire), Rc::clone(&script));
        let mut config = Config::default();
        config.limits.max_outbox_bytes = rng.size(16 * 1024);
        config.limits.max_linger_bytes = rng.size(1_000_000) as u64;
        config.limits.keep_alive_max = rng.one_in(5).then(|| rng.below(5) as u32);
        if rng.one_in(4) {
            config.timeouts.header = Duration::from_millis(100);
            config.timeouts.body = Duration::from_millis(100);
            config.timeouts.send = Duration::from_millis(100);
            config.timeouts.keep_alive = Duration::from_millis(100);
        }
        let mut cx = Context::new(&config, RecordMode::On, now, SystemTime::now());
        let ready: Vec<_> = (0..BUFFERS).map(|_| cx.buffers.take()).collect();
        for buffer in ready {
            cx.buffers.give_back(buffer);
        }
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
        let (client_slot, bandwidth) =
            limit_bandwidth(&mut Rng::new(seed, 4), &mut config.limits).unzip();
        let peer = SimulatedPeer {
            sent: 0,
            ended: false,
            reads: if rng.one_in(8) {
                rng.size(300_000)
            } else {
                usize::MAX
            },
            read_size: if rng.one_in(3) {
                rng.size(20_000)
            } else {
                usize::MAX
            },
            continue_wait: if rng.one_in(2) {
                ContinueWait::Limited
            } else {
                ContinueWait::Endless
            },
        };
        Self {
            connection: Connection::new(
                SimulatedSocket(Rc::clone(&wire)),
                Protocol::http1(ClientInfo::plain(address)),
                client_slot.unwrap_or(ClientSlot::UNLIMITED),
                now(),
            ),
            wire,
            services,
            cx,
            timeouts: config.timeouts,
            script,
            peer,
            blocked: Blocked::Yield,
            sent_at: now(),
            sent: 0,
            timed_out: false,
            drains_at: rng.one_in(12).then(|| rng.below(100)),
            cut_at: rng.one_in(40).then(|| rng.below(200)),
            cut: false,
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
        panic!("the run does not end");
    }

    fn shut_down(&mut self, step: usize) {
        if self.drains_at == Some(step) {
            self.cx.drain_state = DrainState::Draining;
            self.drive();
        }
        if self.cut_at == Some(step) && !matches!(self.blocked, Blocked::Closed(_)) {
            self.cut = true;
            self.connection.cut();
            self.drive();
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
        let all_sent = self.peer.sent == self.script.end_at;
        let holds = self.holds(&wire).is_some() && self.peer.continue_wait == ContinueWait::Endless;
        let sends = !self.peer.ended && !all_sent && !holds && wire.has_room_for_input();
        add(Event::PeerSends, sends);
        add(Event::PeerTakes, wire.untaken() > 0 && self.peer.reads > 0);
        let follows = wire.shut_down && wire.untaken() == 0;
        let ends = match self.script.end {
            ScriptEnd::Stays => false,
            ScriptEnd::Waits => follows,
            ScriptEnd::HalfCloses | ScriptEnd::Closes | ScriptEnd::Resets => all_sent || follows,
        };
        add(Event::PeerEnds, ends && !self.peer.ended);
        add(Event::Readiness, wire.has_event());
        add(Event::Message, !self.services.messages.is_empty());
        add(Event::Room, self.services.room.load(Ordering::Relaxed) > 0);
        add(Event::Job, self.services.job.is_some());
        add(Event::Publishes, self.services.can_publish());
        add(Event::WakeUp, self.services.has_wake_up());
        let can_continue = match self.blocked {
            Blocked::Throttled(until) => until <= now(),
            blocked => blocked == Blocked::Yield,
        };
        add(Event::RunQueue, can_continue);
        add(Event::Time, true);
        possible
    }

    fn on_event(&mut self, event: Event) {
        match event {
            Event::PeerSends => self.send(),
            Event::PeerTakes => {
                let count = self
                    .rng
                    .size(self.peer.read_size.min(500_000))
                    .min(self.peer.reads);
                let mut wire = self.wire.borrow_mut();
                let count = count.min(wire.untaken());
                wire.take(count);
                self.peer.reads -= count;
            }
            Event::PeerEnds => {
                self.peer.ended = true;
                let mut wire = self.wire.borrow_mut();
                match self.script.end {
                    ScriptEnd::Stays => {}
                    ScriptEnd::Waits | ScriptEnd::HalfCloses => wire.end_input(),
                    ScriptEnd::Closes => wire.close_input(),
                    ScriptEnd::Resets => wire.reset(),
                }
            }
            Event::Readiness => {
                let event = self.wire.borrow_mut().take_event();
                if let Some(event) = event {
                    self.connection.on_ready(event);
                    let reset = self.wire.borrow().is_reset();
                    if reset {
                        self.connection.on_hang_up();
                    }
                    self.resume();
                    let throttled = matches!(self.blocked, Blocked::Throttled(_));
                    assert!(!reset || !throttled, "throttled after a reset");
                }
            }
            Event::Message => {
                let at = self.rng.below(self.services.messages.len());
                let (exchange, event) = self.services.messages.swap_remove(at);
                // The worker would drop it.
                assert!(self.connection.is_open(exchange), "a stale message");
                match event {
                    ExchangeEvent::Response(response) => {
                        self.connection
                            .on_response(exchange, response, &mut self.cx);
                        self.drive();
                    }
                    ExchangeEvent::BodyChunk(chunk) => {
                        self.connection.on_body_chunk(exchange, chunk, &mut self.cx);
                        self.drive();
                    }
                    ExchangeEvent::FileRead(resident) => {
                        self.connection
                            .on_file_read(exchange, resident, &mut self.cx);
                        self.resume();
                    }
                    ExchangeEvent::RequestBodyRoom
                    | ExchangeEvent::Cancelled
                    | ExchangeEvent::UpgradeWake => self.drive(),
                }
            }
            Event::Room => {
                self.services.room.fetch_sub(1, Ordering::Relaxed);
                self.drive();
            }
            Event::Job => self.services.run_job(),
            Event::Publishes => self.services.publish(),
            Event::WakeUp => {
                let woken = self.services.take_wake_up();
                // The worker drops those of other exchanges.
                if let Some(exchange) = woken.filter(|id| self.connection.is_open(*id)) {
                    self.connection.on_body_ready(exchange);
                    self.resume();
                }
            }
            Event::RunQueue => self.drive(),
            Event::Time => self.pass_time(),
        }
    }

    /// Returns the position at which the client waits for 100 Continue, if it does.
    fn holds(&self, wire: &Wire) -> Option<usize> {
        let received = || memchr::memmem::find_iter(&wire.sent, b" 100 Continue\r\n\r\n").count();
        let holds = self.script.requests.iter().filter_map(|sent| sent.hold);
        let before = holds.clone().filter(|hold| *hold < self.peer.sent).count();
        holds
            .into_iter()
            .find(|hold| *hold == self.peer.sent)
            .filter(|_| received() <= before)
    }

    fn send(&mut self) {
        let holds = self.holds(&self.wire.borrow());
        // Sometimes it stops waiting.
        if holds.is_some() && !self.rng.one_in(20) {
            return;
        }
        let stop = self.script.requests.iter().filter_map(|sent| sent.hold);
        let stop = stop.filter(|hold| *hold > self.peer.sent).min();
        let end = self.script.end_at.min(stop.unwrap_or(usize::MAX));
        let left = &self.script.bytes[self.peer.sent..end];
        let count = if self.rng.one_in(2) {
            left.len()
        } else {
            self.rng.size(left.len())
        };
        self.peer.sent += self.wire.borrow_mut().put(&left[..count]);
    }

    /// A short or a long time passes, or all the time until the deadline.
    fn pass_time(&mut self) {
        let only_time = self.possible() == [Event::Time];
        let deadline = self.connection.deadline(&self.timeouts);
        let end = match self.blocked {
            Blocked::Throttled(until) => Some(until),
            _ => deadline,
        };
        match end {
            Some(end) if only_time || (deadline.is_none() && self.rng.one_in(4)) => {
                advance(end.saturating_duration_since(now()));
            }
            None if only_time => panic!("blocked on nothing, {:?}", self.blocked),
            _ if self.rng.one_in(1000) => advance(Duration::from_secs(3600)),
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
        // Pending input is read before the connection is timed out.
        if deadline.is_some_and(|deadline| deadline <= now()) && !self.wire.borrow().has_event() {
            self.check_timeout();
            self.timed_out = true;
            self.connection.on_timeout(&self.timeouts, &mut self.cx);
            self.drive();
        }
    }

    /// An idle connection is not timed out early, and a client that waits for 100 Continue gets it.
    fn check_timeout(&self) {
        let wire = self.wire.borrow();
        if self.blocked == Blocked::Readable && !wire.shut_down && self.is_between_requests(&wire) {
            let waited = now() - self.sent_at;
            assert!(waited >= self.timeouts.keep_alive, "only {waited:?}");
        }
        let asked = self.services.exchanges.last();
        let asked = asked.is_some_and(|last| last.expects && last.stage == Stage::Admitted);
        if let Some(hold) = self.holds(&wire)
            && asked
            && self.blocked == Blocked::Readable
        {
            assert!(wire.read != hold, "no 100 Continue");
        }
    }

    fn resume(&mut self) {
        if self.blocked == Blocked::Yield {
            return;
        }
        // As the worker does: a large body continues from the run queue.
        if self.connection.is_sending_bulk() && self.rng.one_in(2) {
            self.blocked = Blocked::Yield;
        } else {
            self.drive();
        }
    }

    fn drive(&mut self) {
        if matches!(self.blocked, Blocked::Closed(_)) {
            return;
        }
        let quantum = self.rng.size(300_000);
        self.blocked =
            self.connection
                .drive(&mut self.cx, &mut self.services, Quantum::of(quantum));
        let sent = self.wire.borrow().sent.len();
        if sent > self.sent {
            self.sent = sent;
            self.sent_at = now();
        }
        if let Blocked::Throttled(until) = self.blocked {
            assert!(until > self.cx.now, "throttled without need");
        }
        if let Some(bandwidth) = &self.bandwidth {
            bandwidth.check(&self.wire.borrow());
        }
    }

    /// What the connection waits for will happen, and there is a deadline.
    fn check_wait(&self) {
        let wire = self.wire.borrow();
        let has_deadline = self.connection.deadline(&self.timeouts).is_some();
        match self.blocked {
            Blocked::Readable => {
                assert!(
                    !wire.is_readable() || wire.has_event(),
                    "a lost edge: input"
                );
                assert!(has_deadline, "no deadline");
                self.check_idle_buffers(&wire);
            }
            Blocked::Writable => {
                assert!(!wire.is_writable() || wire.has_event(), "a lost edge: room");
                assert!(has_deadline, "no deadline");
            }
            Blocked::Handler => assert!(self.services.is_busy(), "no message will arrive"),
            Blocked::Throttled(_) => assert!(!has_deadline, "a deadline while throttled"),
            Blocked::Yield | Blocked::Closed(_) => {}
        }
    }

    /// Between requests a connection owns no buffer.
    fn check_idle_buffers(&self, wire: &Wire) {
        if self.is_between_requests(wire) {
            assert_eq!(self.cx.buffers.free(), BUFFERS, "an idle buffer");
        }
    }

    /// Returns true if everything that was read is answered.
    fn is_between_requests(&self, wire: &Wire) -> bool {
        let exchanges = &self.services.exchanges;
        let answered = exchanges.len();
        (1..=self.script.intact).contains(&answered)
            && exchanges[answered - 1].stage != Stage::Admitted
            && self.script.requests[answered - 1].end == wire.read
    }

    fn check_end(&mut self, reason: CloseReason) {
        let wire = self.wire.borrow();
        if self.cx.drain_state == DrainState::Running {
            self.services.all_are_to_be_complete();
        }
        assert_eq!(self.cx.buffers.free(), BUFFERS, "a buffer leaked");
        match reason {
            CloseReason::TimedOut => assert!(self.timed_out),
            CloseReason::Evicted => panic!("evicted without need"),
            CloseReason::Drained => {
                assert!(self.cut || self.cx.drain_state == DrainState::Draining);
            }
            CloseReason::Finished => {
                let lingered = wire.read as u64 >= self.cx.limits.max_linger_bytes;
                let read = wire.end_was_read || (wire.shut_down && lingered);
                let last = self.services.exchanges.len().checked_sub(1);
                let sent = last.and_then(|last| self.script.requests.get(last));
                // A corrupted request may ask to close the connection.
                let corrupted = last.is_some_and(|last| last >= self.script.intact);
                let is_last = corrupted || sent.is_some_and(|sent| sent.is_last);
                assert!(read || is_last, "it did not linger");
            }
            CloseReason::PeerLeft => assert!(wire.end_was_read),
            CloseReason::BodyTruncated => {
                let failed = self
                    .services
                    .exchanges
                    .iter()
                    .any(|exchange| exchange.failed);
                assert!(failed || wire.faults_hit > 0, "truncated without a fault");
            }
            CloseReason::Broken => {}
        }
        check::check(
            &wire.sent,
            &self.services.exchanges,
            &self.services.records,
            reason,
            wire.aborted,
        );
    }
}

/// Limits the bandwidth of some runs: of the connection, of its client, or both.
fn limit_bandwidth(rng: &mut Rng, limits: &mut Limits) -> Option<(ClientSlot, Bandwidth)> {
    if !rng.one_in(3) {
        return None;
    }
    let rate = NonZeroU64::new(1024 << rng.below(14));
    let (both, of_client) = (rng.one_in(3), rng.one_in(2));
    limits.bandwidth_per_client = rate.filter(|_| both || of_client);
    limits.bandwidth_per_connection = rate.filter(|_| both || !of_client);
    let clients = Clients::new(limits)?;
    let register = || clients.register(Ipv4Addr::LOCALHOST.into(), now()).ok();
    let bandwidth = Bandwidth {
        bytes_per_second: rate?.get(),
        start: now(),
        other: register()?,
    };
    Some((register()?, bandwidth))
}

impl Bandwidth {
    /// No read and no small response, which are not split, have so many bytes.
    const MAX_UNSPLIT: u64 = 128 * 1024;

    fn pass_time(&mut self) {
        if let Permit::Ready(bytes) = self.other.request(now()) {
            self.other.on_moved(bytes, now());
        }
    }

    /// Asserts that the limit is kept. Bytes discarded during a lingering close are not limited.
    fn check(&self, wire: &Wire) {
        let time = now() - self.start + Duration::from_millis(250);
        let due = (time.as_secs_f64() * self.bytes_per_second as f64) as u64;
        let moved = (wire.sent.len() + wire.read) as u64;
        assert!(
            wire.shut_down || moved <= due + Self::MAX_UNSPLIT,
            "{moved} bytes in {time:?} at {} a second",
            self.bytes_per_second
        );
    }
}
