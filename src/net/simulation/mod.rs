//! The driver and the machine among things made of a seed: a client that says and does anything,
//! a kernel that reports each edge once, a disk that may be slow or broken, handlers that answer
//! now or later, and a clock that jumps.
//!
//! After every step it is asserted that the connection waits only for what will come; at the end,
//! that everything came out as it was meant. A seed makes the same run each time:
//!
//! ```text
//! TWS_SEED=17 cargo test --lib simulation              # that one
//! TWS_SEEDS=1000000 cargo test --release --lib simulation     # so many, from 0 on
//! ```

mod check;
mod host;
mod rng;
mod script;
mod wire;

use std::cell::{Cell, RefCell};
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroU64;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use self::host::{Mail, SimulatedServices, Stage};
use self::rng::Rng;
use self::script::{End, Script};
use self::wire::{Socket, Wire};
use super::bandwidth::limiter::Permit;
use super::bandwidth::per_client::{ClientSlot, Clients};
use super::connection::{Blocked, Connection};
use crate::config::{Config, Limits, Timeouts};
use crate::http::forwarded::ClientInfo;
use crate::proto::CloseReason;
use crate::proto::context::{Context, DrainState, RecordMode};

/// How many seeds a plain `cargo test` runs.
const SEEDS: u64 = 3000;

/// No run needs so many steps: it goes round in circles.
const MAX_STEPS: usize = 100_000;

/// Buffers that lie ready: more than a connection ever has.
const BUFFERS: usize = 4;

#[test]
fn whatever_happens_each_request_has_its_response_and_each_connection_its_end() {
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
    // That the runs are of all kinds.
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

/// One connection's life.
fn run(seed: u64) -> CloseReason {
    let told = TellSeed(seed);
    let mut simulation = Simulation::new(seed);
    let reason = simulation.run();
    drop(told);
    reason
}

/// Says which seed it was if it goes wrong.
struct TellSeed(u64);

impl Drop for TellSeed {
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
    connection: Connection<Socket>,
    wire: Rc<RefCell<Wire>>,
    host: SimulatedServices,
    cx: Context,
    timeouts: Timeouts,
    script: Rc<Script>,
    peer: Peer,
    /// Why the connection does not run.
    park: Blocked,
    /// When something was sent last, and how much was by then.
    sent_at: Instant,
    sent: usize,
    timed_out: bool,
    drains_at: Option<usize>,
    cut_at: Option<usize>,
    cut: bool,
    bandwidth: Option<Bandwidth>,
}

/// A limit, and another connection of the same client that takes its part of it.
struct Bandwidth {
    bytes_per_second: u64,
    start: Instant,
    other: Box<ClientSlot>,
}

/// The client, as far as it has come.
struct Peer {
    sent: usize,
    ended: bool,
    /// How many bytes it takes in all, and at once.
    reads: usize,
    pace: usize,
    /// Whether it tires of waiting to be told to go on.
    patience: Patience,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Patience {
    Some,
    Endless,
}

/// What may happen next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    PeerSends,
    PeerTakes,
    PeerEnds,
    Readiness,
    Mail,
    Room,
    Job,
    Turn,
    Time,
}

impl Simulation {
    fn new(seed: u64) -> Self {
        NOW.set(Some(Instant::now()));
        let mut rng = Rng::new(seed, 0);
        let script = Rc::new(Script::new(&mut Rng::new(seed, 1)));
        let wire = Wire::new(Rng::new(seed, 2));
        let host = SimulatedServices::new(Rng::new(seed, 3), Rc::clone(&wire), Rc::clone(&script));
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
        let (share, bandwidth) =
            limit_bandwidth(&mut Rng::new(seed, 4), &mut config.limits).unzip();
        let peer = Peer {
            sent: 0,
            ended: false,
            reads: match rng.one_in(8) {
                true => rng.size(300_000),
                false => usize::MAX,
            },
            pace: match rng.one_in(3) {
                true => rng.size(20_000),
                false => usize::MAX,
            },
            patience: match rng.one_in(2) {
                true => Patience::Some,
                false => Patience::Endless,
            },
        };
        Self {
            connection: Connection::new(
                Socket(Rc::clone(&wire)),
                ClientInfo::plain(address),
                now(),
            )
            .with_share(share),
            wire,
            host,
            cx,
            timeouts: config.timeouts,
            script,
            peer,
            park: Blocked::Yield,
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
            self.cx.tick(now(), SystemTime::UNIX_EPOCH);
            self.shut_down(step);
            if let Blocked::Closed(reason) = self.park {
                self.check_end(reason);
                return reason;
            }
            let possible = self.possible();
            let event = possible[self.rng.below(possible.len())];
            self.on_event(event);
            self.check_wait();
        }
        panic!("no end in sight");
    }

    fn shut_down(&mut self, step: usize) {
        if self.drains_at == Some(step) {
            self.cx.drain_state = DrainState::Draining;
            self.drive();
        }
        if self.cut_at == Some(step) && !matches!(self.park, Blocked::Closed(_)) {
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
        let holds = self.holds(&wire).is_some() && self.peer.patience == Patience::Endless;
        let sends = !self.peer.ended && !all_sent && !holds && wire.has_room_for_input();
        add(Event::PeerSends, sends);
        add(Event::PeerTakes, wire.untaken() > 0 && self.peer.reads > 0);
        let follows = wire.shut_down && wire.untaken() == 0;
        let ends = match self.script.end {
            End::Stays => false,
            End::Waits => follows,
            End::HalfCloses | End::Closes | End::Resets => all_sent || follows,
        };
        add(Event::PeerEnds, ends && !self.peer.ended);
        add(Event::Readiness, wire.has_news());
        add(Event::Mail, !self.host.mail.is_empty());
        add(Event::Room, self.host.room.load(Ordering::Relaxed) > 0);
        add(Event::Job, self.host.job.is_some());
        let goes_on = match self.park {
            Blocked::Throttled(turn) => turn <= now(),
            park => park == Blocked::Yield,
        };
        add(Event::Turn, goes_on);
        add(Event::Time, true);
        possible
    }

    fn on_event(&mut self, event: Event) {
        match event {
            Event::PeerSends => self.send(),
            Event::PeerTakes => {
                let count = self
                    .rng
                    .size(self.peer.pace.min(500_000))
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
                    End::Stays => {}
                    End::Waits | End::HalfCloses => wire.end_input(),
                    End::Closes => wire.close_input(),
                    End::Resets => wire.reset(),
                }
            }
            Event::Readiness => {
                let news = self.wire.borrow_mut().take_news();
                if let Some(news) = news {
                    self.connection.on_ready(news);
                    let reset = self.wire.borrow().is_reset();
                    if reset {
                        self.connection.on_hang_up();
                    }
                    self.resume();
                    let waits = matches!(self.park, Blocked::Throttled(_));
                    assert!(!reset || !waits, "it waits for its turn with nobody");
                }
            }
            Event::Mail => {
                let at = self.rng.below(self.host.mail.len());
                match self.host.mail.swap_remove(at) {
                    Mail::Response(id, response) => {
                        self.connection.on_response(id, response, &mut self.cx);
                        self.drive();
                    }
                    Mail::Chunk(id, chunk) => {
                        self.connection.on_body_chunk(id, chunk, &mut self.cx);
                        self.drive();
                    }
                    Mail::Resident(id, resident) => {
                        self.connection.on_probed(id, resident, &mut self.cx);
                        self.resume();
                    }
                }
            }
            Event::Room => {
                self.host.room.fetch_sub(1, Ordering::Relaxed);
                self.drive();
            }
            Event::Job => self.host.run_job(),
            Event::Turn => self.drive(),
            Event::Time => self.pass_time(),
        }
    }

    /// Where the client waits to be told to go on, if it does.
    fn holds(&self, wire: &Wire) -> Option<usize> {
        let told = || memchr::memmem::find_iter(&wire.sent, b" 100 Continue\r\n\r\n").count();
        let holds = self.script.requests.iter().filter_map(|sent| sent.hold);
        let before = holds.clone().filter(|hold| *hold < self.peer.sent).count();
        holds
            .into_iter()
            .find(|hold| *hold == self.peer.sent)
            .filter(|_| told() <= before)
    }

    fn send(&mut self) {
        let holds = self.holds(&self.wire.borrow());
        // It tires of waiting, at times.
        if holds.is_some() && !self.rng.one_in(20) {
            return;
        }
        let stop = self.script.requests.iter().filter_map(|sent| sent.hold);
        let stop = stop.filter(|hold| *hold > self.peer.sent).min();
        let end = self.script.end_at.min(stop.unwrap_or(usize::MAX));
        let left = &self.script.bytes[self.peer.sent..end];
        let most = match self.rng.one_in(2) {
            true => left.len(),
            false => self.rng.size(left.len()),
        };
        self.peer.sent += self.wire.borrow_mut().put(&left[..most]);
    }

    /// A little time passes, or a lot, or all that there is to wait.
    fn pass_time(&mut self) {
        let only_time = self.possible() == [Event::Time];
        let deadline = self.connection.deadline(&self.timeouts);
        let end = match self.park {
            Blocked::Throttled(turn) => Some(turn),
            _ => deadline,
        };
        match end {
            Some(end) if only_time || (deadline.is_none() && self.rng.one_in(4)) => {
                advance(end.saturating_duration_since(now()));
            }
            None if only_time => panic!("it waits for nothing, {:?}", self.park),
            _ if self.rng.one_in(1000) => advance(Duration::from_secs(3600)),
            _ => advance(Duration::from_micros(self.rng.size(10_000) as u64)),
        }
        self.cx.tick(now(), SystemTime::UNIX_EPOCH);
        if let Some(bandwidth) = &mut self.bandwidth {
            bandwidth.pass_time();
        }
        // What has come is read first, however late it is.
        if deadline.is_some_and(|deadline| deadline <= now()) && !self.wire.borrow().has_news() {
            self.check_timeout();
            self.timed_out = true;
            self.connection.on_timeout(&mut self.cx);
            self.drive();
        }
    }

    /// Nobody is let go too early, and nobody who waits to be told to go on is let down.
    fn check_timeout(&self) {
        let wire = self.wire.borrow();
        if self.park == Blocked::Readable && !wire.shut_down && self.is_between_requests(&wire) {
            let waited = now() - self.sent_at;
            assert!(waited >= self.timeouts.keep_alive, "only {waited:?}");
        }
        let asked = self.host.exchanges.last();
        let asked = asked.is_some_and(|last| last.expects && last.stage == Stage::Admitted);
        if let Some(hold) = self.holds(&wire)
            && asked
            && self.park == Blocked::Readable
        {
            assert!(wire.read != hold, "it was not told to go on");
        }
    }

    fn resume(&mut self) {
        if self.park == Blocked::Yield {
            return;
        }
        match self.connection.is_sending_bulk() && self.rng.one_in(2) {
            // As the worker does: it comes when it is its turn.
            true => self.park = Blocked::Yield,
            false => self.drive(),
        }
    }

    fn drive(&mut self) {
        if matches!(self.park, Blocked::Closed(_)) {
            return;
        }
        let quantum = self.rng.size(300_000);
        self.park = self.connection.drive(&mut self.cx, &mut self.host, quantum);
        let sent = self.wire.borrow().sent.len();
        if sent > self.sent {
            self.sent = sent;
            self.sent_at = now();
        }
        if let Blocked::Throttled(turn) = self.park {
            assert!(turn > self.cx.now, "its turn has come");
        }
        if let Some(bandwidth) = &self.bandwidth {
            bandwidth.check(&self.wire.borrow());
        }
    }

    /// The connection waits for what will come, and for no longer than it may.
    fn check_wait(&self) {
        let wire = self.wire.borrow();
        let has_end = self.connection.deadline(&self.timeouts).is_some();
        match self.park {
            Blocked::Readable => {
                assert!(!wire.is_readable() || wire.has_news(), "a lost edge: input");
                assert!(has_end, "it waits for ever");
                self.check_rest(&wire);
            }
            Blocked::Writable => {
                assert!(!wire.is_writable() || wire.has_news(), "a lost edge: room");
                assert!(has_end, "it waits for ever");
            }
            Blocked::Handler => assert!(self.host.is_busy(), "nobody will answer"),
            Blocked::Throttled(_) => assert!(!has_end, "nobody is late"),
            Blocked::Yield | Blocked::Closed(_) => {}
        }
    }

    /// Between requests a connection owns no buffer.
    fn check_rest(&self, wire: &Wire) {
        if self.is_between_requests(wire) {
            assert_eq!(self.cx.buffers.free(), BUFFERS, "an idle buffer");
        }
    }

    /// True if all that was read is answered.
    fn is_between_requests(&self, wire: &Wire) -> bool {
        let exchanges = &self.host.exchanges;
        let answered = exchanges.len();
        (1..=self.script.intact).contains(&answered)
            && exchanges[answered - 1].stage != Stage::Admitted
            && self.script.requests[answered - 1].end == wire.read
    }

    fn check_end(&self, reason: CloseReason) {
        let wire = self.wire.borrow();
        assert_eq!(self.cx.buffers.free(), BUFFERS, "a buffer is lost");
        match reason {
            CloseReason::TimedOut => assert!(self.timed_out),
            CloseReason::Evicted => panic!("nobody needs room"),
            CloseReason::Drained => {
                assert!(self.cut || self.cx.drain_state == DrainState::Draining);
            }
            CloseReason::Finished => {
                let lingered = wire.read as u64 >= self.cx.limits.max_linger_bytes;
                let read = wire.end_was_read || (wire.shut_down && lingered);
                let last = self.host.exchanges.len().checked_sub(1);
                let sent = last.and_then(|last| self.script.requests.get(last));
                // One that was garbled may have become one that says so.
                let garbled = last.is_some_and(|last| last >= self.script.intact);
                let is_last = garbled || sent.is_some_and(|sent| sent.is_last);
                assert!(read || is_last, "it did not linger");
            }
            CloseReason::PeerLeft => assert!(wire.end_was_read),
            CloseReason::BodyTruncated => {
                let failed = self.host.exchanges.iter().any(|exchange| exchange.failed);
                assert!(failed || wire.faults_met > 0, "a content without fault");
            }
            CloseReason::Broken => {}
        }
        check::check(&wire.sent, &self.host.exchanges, &self.host.records, reason);
    }
}

/// The limit of some runs: of the connection, of its client, or both.
fn limit_bandwidth(rng: &mut Rng, limits: &mut Limits) -> Option<(Box<ClientSlot>, Bandwidth)> {
    if !rng.one_in(3) {
        return None;
    }
    let rate = NonZeroU64::new(1024 << rng.below(14));
    let (both, of_client) = (rng.one_in(3), rng.one_in(2));
    limits.bandwidth_per_client = rate.filter(|_| both || of_client);
    limits.bandwidth_per_connection = rate.filter(|_| both || !of_client);
    let clients = Clients::new(limits)?;
    let share = || clients.share(Ipv4Addr::LOCALHOST.into(), now()).ok();
    let bandwidth = Bandwidth {
        bytes_per_second: rate?.get(),
        start: now(),
        other: share()??,
    };
    Some((share()??, bandwidth))
}

impl Bandwidth {
    /// No read and no answer that goes whole has so many bytes.
    const BEYOND: u64 = 128 * 1024;

    fn pass_time(&mut self) {
        let allowance = self.other.allowance.as_mut().expect("a limit");
        if let Permit::Ready(bytes) = allowance.ask(now()) {
            allowance.on_moved(bytes, now());
        }
    }

    /// Not more has moved than may have. What comes when all is said is thrown away and not waited
    /// for.
    fn check(&self, wire: &Wire) {
        let time = now() - self.start + Duration::from_millis(250);
        let due = (time.as_secs_f64() * self.bytes_per_second as f64) as u64;
        let moved = (wire.sent.len() + wire.read) as u64;
        assert!(
            wire.shut_down || moved <= due + Self::BEYOND,
            "{moved} bytes in {time:?} at {} a second",
            self.bytes_per_second
        );
    }
}
