//! One connection: does what the machine asks on a transport, until the kernel says `WouldBlock`
//! or the turn's byte budget is spent.
//!
//! mio is edge-triggered: readiness is remembered here until a call has proved it wrong. So a
//! connection parks only for what it knows to be not ready, or it yields and stays runnable. One
//! whose bandwidth has a limit also parks for its turn, and all its timers stand still meanwhile.

pub(crate) mod min_rate;
use std::io;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use mio::Token;

use super::bandwidth::limiter::{BandwidthLimiter, Permit};
use super::bandwidth::per_client::ClientSlot;
use super::event_loop::mailbox::Piece;
use super::observe::observer::{Activity, BlockedOn, Direction, LoopSnapshot};
use super::transport::{Received, Transport};
use crate::body::file_range::Resident;
use crate::body::stream::BodySource;
use crate::body::{BodyWriter, FileRange};
use crate::config::Timeouts;
use crate::handler::BodyPolicy;
use crate::http::forwarded::ClientInfo;
use crate::http::{Rejection, Request, Response};
use crate::proto::context::Context;
use crate::proto::exchange::{BodyMode, ExchangeId};
use crate::proto::h1::machine::Machine;
use crate::proto::h1::outbox::SMALL_BODY_BYTES;
use crate::proto::record::Record;
use crate::proto::segment::{Payload, Segment};
use crate::proto::transfer::{StalledOn, TransferProgress};
use crate::proto::{Action, CloseReason, Timer};
use min_rate::MinRateBudget;

/// Services of the worker that a connection uses while it runs.
pub(crate) trait Services {
    /// Returns the response to a request, or `None` if it arrives later, through
    /// [`Connection::on_response`].
    fn answer(&mut self, exchange: ExchangeId, request: &Request<'_>) -> Option<Response>;

    /// Returns how the body of a request is to be received.
    fn admit(&mut self, request: &Request<'_>) -> BodyPolicy;

    /// Returns the response to a request that is rejected.
    fn reject(&mut self, request: &Request<'_>, rejection: Rejection) -> Response;

    /// Opens the pipe through which a handler reads a request body while it is received.
    fn open_request_body(&mut self, exchange: ExchangeId) -> BodyWriter;

    /// Returns how many bytes at the beginning of a range are in the page cache, or `None` if they
    /// are being read, which is reported through [`Connection::on_probed`].
    fn probe_file(&mut self, exchange: ExchangeId, range: FileRange, now: Instant) -> Option<u64>;

    /// Requests the next chunk of a body, which arrives through [`Connection::on_body_chunk`].
    fn pull_body(&mut self, exchange: ExchangeId, source: BodySource);

    /// Records a finished exchange.
    fn record(&mut self, record: Record);
}

/// When the server has no room or ends, those who have been served within this time are expected to
/// ask for more, and those who are new, to ask at all.
pub(crate) const EXPECTED_REQUEST_WINDOW: Duration = Duration::from_millis(500);

/// What a read counts for at least: little may come of much that is encrypted.
const READ_EFFORT_BYTES: usize = 4096;

/// Why a connection has stopped running for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Blocked {
    /// Until there is something to read.
    Readable,
    /// Until the peer takes something.
    Writable,
    /// Until the handler's reply comes.
    Handler,
    /// Until its turn comes, at this time: its bandwidth has a limit.
    Throttled(Instant),
    /// Until its next turn in the loop: it could go on.
    Yield,
    /// For good.
    Closed(CloseReason),
}

/// What the kernel may have for us. True until a call proves it wrong.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Readiness {
    pub(crate) readable: bool,
    pub(crate) writable: bool,
    /// The end of the input has come, perhaps behind bytes that are not read yet. There will be
    /// no further event about it, so a short read does not mean that all is read.
    pub(crate) read_closed: bool,
}

#[derive(Debug)]
pub(crate) struct Connection<T> {
    transport: T,
    machine: Machine,
    readiness: Readiness,
    /// What is waited for, in which exchange, and since when.
    timer: Timer,
    timed_exchange: ExchangeId,
    since: Instant,
    /// How long after `since` the peer's minimum rate is kept, whatever it does.
    credit: MinRateBudget,
    /// Bytes of the replies waited for that the transport has taken since the wait began, less those
    /// that the peer is known to have.
    in_flight: u32,
    /// What it has of its client's, for as long as it is there.
    share: Option<Box<ClientSlot>>,
}

impl<T: Transport> Connection<T> {
    pub(crate) fn new(transport: T, peer: ClientInfo, now: Instant) -> Self {
        Self {
            transport,
            machine: Machine::new(peer),
            // Try first: the request is often there already.
            readiness: Readiness {
                readable: true,
                writable: true,
                read_closed: false,
            },
            timer: Timer::KeepAlive,
            timed_exchange: ExchangeId(0),
            since: now,
            credit: MinRateBudget::FOR_EVER,
            in_flight: 0,
            share: None,
        }
    }

    /// One that counts as its client's.
    pub(crate) fn with_share(self, share: Option<Box<ClientSlot>>) -> Self {
        Self { share, ..self }
    }

    /// An event about the transport.
    pub(crate) fn on_ready(&mut self, news: Readiness) {
        self.readiness.readable |= news.readable;
        self.readiness.writable |= news.writable;
        self.readiness.read_closed |= news.read_closed;
    }

    /// The peer is gone, and nothing moves any more: that is to be found out at once.
    pub(crate) fn on_hang_up(&mut self) {
        if let Some(allowance) = allowance(&mut self.share) {
            allowance.lift();
        }
    }

    /// The response that a handler's job has made.
    pub(crate) fn on_response(&mut self, id: ExchangeId, response: Response, cx: &mut Context) {
        self.machine.on_response(id, response, cx);
    }

    /// The chunk of a response body that was asked for.
    pub(crate) fn on_body_chunk(&mut self, id: ExchangeId, chunk: Piece, cx: &mut Context) {
        self.machine.on_body_chunk(id, chunk, cx);
    }

    /// A part of a file was brought into memory.
    pub(crate) fn on_probed(
        &mut self,
        id: ExchangeId,
        resident: io::Result<Resident>,
        cx: &mut Context,
    ) {
        self.machine.on_probed(id, resident, cx);
    }

    /// The exchange that answers are for.
    pub(crate) fn exchange_id(&self) -> ExchangeId {
        self.machine.exchange_id()
    }

    pub(crate) fn on_timeout(&mut self, cx: &mut Context) {
        match self.transport.holds_back() {
            // Whatever the machine waits for now, it is the peer that does not take its reply.
            true => self.machine.on_lost(CloseReason::TimedOut),
            false => self.machine.on_timeout(cx),
        }
    }

    /// The server cannot wait any longer.
    pub(crate) fn cut(&mut self) {
        self.machine.on_lost(CloseReason::Drained);
    }

    /// Room is needed for others.
    pub(crate) fn shed(&mut self) {
        self.machine.on_lost(CloseReason::Evicted);
    }

    /// True if all it has to do is to move bulk, which comes after everybody's requests.
    pub(crate) fn is_sending_bulk(&self) -> bool {
        self.machine.is_sending_bulk()
    }

    /// For which turn it waits, if it does, having parked for it.
    pub(crate) fn waits_until(&self) -> Option<Instant> {
        self.share.as_ref()?.allowance.as_ref()?.waits_until()
    }

    /// When the wait is over; `None` if it may last, as one for a turn, which is nobody's fault.
    pub(crate) fn deadline(&self, timeouts: &Timeouts) -> Option<Instant> {
        if self.waits_until().is_some() {
            return None;
        }
        let patience = match self.timer {
            Timer::KeepAlive => timeouts.keep_alive,
            Timer::Header => timeouts.header,
            Timer::Body => timeouts.body,
            Timer::Send => timeouts.send,
            Timer::Linger => timeouts.linger,
            Timer::Handler => return None,
        };
        // A patience without end is one that a clock cannot count.
        self.since.checked_add(patience.min(self.credit.time()))
    }

    /// Before it is called late it is asked once more, whatever events have told: after a long stop
    /// (SIGSTOP, a suspended machine) what it has sent lies there unread.
    pub(crate) fn look_again(&mut self) {
        self.readiness.readable = true;
        self.readiness.writable = true;
    }

    /// Before it is called late for not taking its reply: what it has acknowledged lately, as the
    /// kernel takes more at once than a slow peer does in a minute.
    pub(crate) fn settle(&mut self, cx: &Context) {
        if self.timer != Timer::Send || self.in_flight == 0 {
            return;
        }
        let left = self.transport.unacknowledged().unwrap_or(0);
        let taken = self.in_flight.saturating_sub(left);
        if taken > 0 {
            self.in_flight -= taken;
            self.on_progress(taken as usize, cx);
        }
    }

    /// Whether a handler has taken the content that is coming in, and waits for the whole of it.
    pub(crate) fn is_admitted(&self) -> bool {
        self.machine.is_admitted()
    }

    /// Whether it waits for a further request.
    pub(crate) fn is_idle(&self) -> bool {
        self.timer == Timer::KeepAlive && self.timed_exchange.0 > 0 && self.waits_until().is_none()
    }

    /// Since when it waits for a request, if it does and the first one is not to be expected any
    /// moment.
    pub(crate) fn idle_since(&self, now: Instant) -> Option<Instant> {
        let quiet = now.saturating_duration_since(self.since) >= EXPECTED_REQUEST_WINDOW;
        let idle = self.timer == Timer::KeepAlive && (self.timed_exchange.0 > 0 || quiet);
        let idle = idle && self.waits_until().is_none();
        idle.then_some(self.since)
    }

    /// Says what it is doing; the token says who it is.
    pub(crate) fn report(&self, token: Token, now: Instant, answer: &mut LoopSnapshot) {
        let passage = self.machine.transfer();
        answer.add(match (self.machine.timer(), &passage) {
            (Timer::Handler, Some(passage)) if passage.direction == Direction::Down => {
                Activity::Sending
            }
            (Timer::KeepAlive, _) => Activity::Idle,
            (Timer::Header, _) => Activity::Head,
            (Timer::Body, _) => Activity::Content,
            (Timer::Handler, _) => Activity::Handler,
            (Timer::Send, _) => Activity::Sending,
            (Timer::Linger, _) => Activity::Lingering,
        });
        if let Some(passage) = passage {
            let who = (token.0, self.machine.exchange_id().0);
            answer.add_transfer(&passage, who, self.waits_for(&passage), now);
        }
    }

    fn waits_for(&self, passage: &TransferProgress<'_>) -> BlockedOn {
        let ready = match passage.direction {
            Direction::Down => self.readiness.writable,
            Direction::Up => self.readiness.readable,
        };
        match passage.stall {
            _ if self.waits_until().is_some() => BlockedOn::Bandwidth,
            Some(StalledOn::Disk) => BlockedOn::Disk,
            Some(StalledOn::Handler) => BlockedOn::Handler,
            None if ready => BlockedOn::Turn,
            None => BlockedOn::Client,
        }
    }

    /// Runs until it must park, moving about `quantum` bytes at most.
    pub(crate) fn drive(
        &mut self,
        cx: &mut Context,
        services: &mut impl Services,
        quantum: usize,
    ) -> Blocked {
        cx.refresh_clock();
        self.end_wait(cx.now);
        let mut moved = Moved::default();
        let park = loop {
            let left = quantum.saturating_sub(moved.effort());
            if left == 0 {
                break Blocked::Yield;
            }
            if let ControlFlow::Break(blocked) = self.step(cx, services, left, &mut moved) {
                break blocked;
            }
        };
        if let Blocked::Writable | Blocked::Throttled(_) = park {
            self.machine.on_pause();
        }
        self.machine.release_buffers(cx);
        self.restart_timer(moved.received, moved.sent, cx);
        if let Some(allowance) = allowance(&mut self.share) {
            match park {
                Blocked::Throttled(_) => allowance.begin_wait(cx.now),
                Blocked::Yield => {}
                // A disk, or who makes the content, brings what to move in a moment.
                Blocked::Handler if self.machine.is_sending_bulk() => {}
                _ => allowance.give_back(),
            }
        }
        park
    }

    /// Does what the machine asks for next, sending at most `left` bytes of a body.
    fn step(
        &mut self,
        cx: &mut Context,
        services: &mut impl Services,
        left: usize,
        moved: &mut Moved,
    ) -> ControlFlow<Blocked> {
        if self.transport.holds_back() && !self.machine.is_closed() {
            return self.flush();
        }
        match self.machine.next(cx) {
            Action::Read => return self.read(cx, moved),
            Action::Write => return self.write(cx, left, moved),
            Action::Admit(id) => {
                let admission = match services.admit(&self.machine.request(id, cx)) {
                    BodyPolicy::Buffer { max } => Ok(BodyMode::Buffered { max }),
                    BodyPolicy::Stream { max } => {
                        let writer = services.open_request_body(id);
                        Ok(BodyMode::Streamed { max, writer })
                    }
                    BodyPolicy::Reject(response) => Err(response),
                };
                self.machine.on_admission(id, admission, cx);
            }
            Action::Dispatch(id) => {
                let response = services.answer(id, &self.machine.request(id, cx));
                if let Some(response) = response {
                    self.machine.on_response(id, response, cx);
                }
            }
            Action::Reject(id, rejection) => {
                let response = services.reject(&self.machine.request(id, cx), rejection);
                self.machine.on_response(id, response, cx);
            }
            Action::ProbeFile(id, range) => {
                if let Some(bytes) = services.probe_file(id, range, cx.now) {
                    let resident = Resident::InKernel(bytes);
                    self.machine.on_probed(id, Ok(resident), cx);
                }
            }
            Action::PullBody(id, source) => services.pull_body(id, source),
            Action::Log(record) => services.record(record),
            Action::ShutdownWrite => {
                if let Err(error) = self.transport.shutdown_write() {
                    self.on_broken(&error);
                }
            }
            Action::Blocked => return ControlFlow::Break(Blocked::Handler),
            Action::Close(reason) => return ControlFlow::Break(Blocked::Closed(reason)),
        }
        ControlFlow::Continue(())
    }

    /// Hands the transport's own buffer to the kernel.
    fn flush(&mut self) -> ControlFlow<Blocked> {
        if !self.readiness.writable {
            return ControlFlow::Break(Blocked::Writable);
        }
        match self.transport.flush() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.readiness.writable = false;
            }
            Err(error) => self.on_broken(&error),
            Ok(()) => {}
        }
        ControlFlow::Continue(())
    }

    fn read(&mut self, cx: &mut Context, moved: &mut Moved) -> ControlFlow<Blocked> {
        let now = cx.now;
        if !self.readiness.readable {
            if self.is_quiet(now) && self.machine.close_if_draining(cx) {
                return ControlFlow::Continue(());
            }
            return ControlFlow::Break(Blocked::Readable);
        }
        // Input that is discarded has a time limit and a byte limit of its own.
        if self.timer != Timer::Linger
            && let Permit::RetryAt(turn) = may_move(&mut self.share, now)
        {
            return ControlFlow::Break(Blocked::Throttled(turn));
        }
        let count = match self.transport.recv(self.machine.read_buf(cx)) {
            Ok(Received::Eof) => {
                self.machine.on_eof();
                return ControlFlow::Continue(());
            }
            Ok(Received::Partial(count)) => {
                moved.overhead += READ_EFFORT_BYTES.saturating_sub(count);
                count
            }
            Ok(Received::Drained(count)) => {
                // There is no event for an end of input that was reported before: read on.
                self.readiness.readable = self.readiness.read_closed;
                count
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.readiness.readable = false;
                return ControlFlow::Continue(());
            }
            Err(error) => {
                self.on_broken(&error);
                return ControlFlow::Continue(());
            }
        };
        on_moved(&mut self.share, count, now);
        moved.received += count;
        ControlFlow::Continue(())
    }

    fn write(&mut self, cx: &mut Context, left: usize, moved: &mut Moved) -> ControlFlow<Blocked> {
        let now = cx.now;
        if !self.readiness.writable {
            return ControlFlow::Break(Blocked::Writable);
        }
        let segment = self.machine.segment();
        let max = match may_move(&mut self.share, now) {
            Permit::Ready(bytes) if !is_small(&segment) => left.min(bytes),
            Permit::Ready(_) => left,
            Permit::RetryAt(turn) => return ControlFlow::Break(Blocked::Throttled(turn)),
        };
        let segment = segment.limited_to(max);
        if is_rewritten(&segment) {
            self.machine.on_lost(CloseReason::BodyTruncated);
            return ControlFlow::Continue(());
        }
        match self.transport.send_segment(segment) {
            // The file has become shorter.
            Ok(0) => self.machine.on_lost(CloseReason::BodyTruncated),
            Ok(count) => {
                cx.refresh_clock();
                self.machine.on_written(count);
                on_moved(&mut self.share, count, now);
                moved.sent += count;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.readiness.writable = false;
            }
            Err(error) => self.on_broken(&error),
        }
        ControlFlow::Continue(())
    }

    /// Whatever the peer was waited for, the time until the connection's own turn does not count.
    fn end_wait(&mut self, now: Instant) {
        let Some(allowance) = allowance(&mut self.share) else {
            return;
        };
        if let Some(waited) = allowance.end_wait(now) {
            self.since += waited;
        }
    }

    /// A client that asks for one thing after the other has the next request on its way already,
    /// and closing would lose it.
    fn is_quiet(&self, now: Instant) -> bool {
        self.timer == Timer::KeepAlive
            && now.saturating_duration_since(self.since) >= EXPECTED_REQUEST_WINDOW
    }

    /// A wait begins anew when it is for something else, or for another request; one for content
    /// also when some has come, and one for the peer to take a reply when it has taken some, which is
    /// found out [when it matters](Self::settle).
    fn restart_timer(&mut self, received: usize, sent: usize, cx: &Context) {
        let timer = match self.transport.holds_back() {
            true => Timer::Send,
            false => self.machine.timer(),
        };
        let exchange = self.machine.exchange_id();
        if timer != self.timer || exchange != self.timed_exchange {
            self.timer = timer;
            self.timed_exchange = exchange;
            self.credit = MinRateBudget::of(timer, cx);
            self.since = cx.now;
            self.in_flight = 0;
        }
        match timer {
            Timer::Send => {
                let sent = u32::try_from(sent).unwrap_or(u32::MAX);
                self.in_flight = self.in_flight.saturating_add(sent);
            }
            Timer::Body if received > 0 => self.on_progress(received, cx),
            _ => {}
        }
    }

    /// The peer has sent or taken so much since it was last looked at.
    fn on_progress(&mut self, bytes: usize, cx: &Context) {
        let time = cx.now.saturating_duration_since(self.since);
        self.credit = self.credit.after(time, bytes, cx);
        self.since = cx.now;
    }

    fn on_broken(&mut self, error: &io::Error) {
        log::debug!("connection lost: {error}");
        self.machine.on_lost(CloseReason::Broken);
    }
}

/// What one call of [`Connection::drive`] has moved, in bytes.
#[derive(Default)]
struct Moved {
    received: usize,
    sent: usize,
    /// What reads have cost beyond the bytes they returned.
    overhead: usize,
}

impl Moved {
    fn effort(&self) -> usize {
        self.received + self.sent + self.overhead
    }
}

fn allowance(share: &mut Option<Box<ClientSlot>>) -> Option<&mut BandwidthLimiter> {
    share.as_deref_mut()?.allowance.as_mut()
}

fn may_move(share: &mut Option<Box<ClientSlot>>, now: Instant) -> Permit {
    match allowance(share) {
        Some(allowance) => allowance.ask(now),
        None => Permit::Ready(usize::MAX),
    }
}

fn on_moved(share: &mut Option<Box<ClientSlot>>, bytes: usize, now: Instant) {
    if let Some(allowance) = allowance(share) {
        allowance.on_moved(bytes, now);
    }
}

/// A small response is not split, however little may be sent: it is paid for afterwards.
fn is_small(segment: &Segment<'_>) -> bool {
    let len = segment.len_in_memory();
    len.is_some_and(|len| len <= SMALL_BODY_BYTES)
}

/// True if the payload of the segment is a part of a file that is not the promised one any more.
fn is_rewritten(segment: &Segment<'_>) -> bool {
    match segment.payload {
        Payload::File(part) => part.is_rewritten(),
        Payload::None | Payload::Bytes(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::net::{Ipv4Addr, SocketAddr};
    use std::num::NonZeroU64;
    use std::sync::Arc;
    use std::time::SystemTime;

    use ::http::StatusCode;

    use super::*;
    use crate::config::{Config, Limits};
    use crate::http::Body;
    use crate::net::bandwidth::per_client::Clients;
    use crate::net::transport::More;
    use crate::proto::context::RecordMode;

    /// A peer that has sent `input` and takes `takes` bytes before it is full.
    struct Peer {
        input: Vec<u8>,
        takes: usize,
        sent: usize,
        reads: usize,
        /// Calls that were to send.
        calls: usize,
        unacknowledged: u32,
    }

    impl Peer {
        fn take(&mut self, count: usize) -> io::Result<usize> {
            self.calls += 1;
            let count = count.min(self.takes);
            self.takes -= count;
            self.sent += count;
            match count {
                0 => Err(io::ErrorKind::WouldBlock.into()),
                count => Ok(count),
            }
        }
    }

    impl Transport for Peer {
        fn recv(&mut self, room: &mut Vec<u8>) -> io::Result<Received> {
            self.reads += 1;
            let count = self.input.len().min(room.capacity() - room.len());
            room.extend(self.input.drain(..count));
            match count {
                0 => Err(io::ErrorKind::WouldBlock.into()),
                count if self.input.is_empty() => Ok(Received::Drained(count)),
                count => Ok(Received::Partial(count)),
            }
        }

        fn send(&mut self, bytes: &[u8], _: More) -> io::Result<usize> {
            self.take(bytes.len())
        }

        fn send_pair(&mut self, first: &[u8], second: &[u8]) -> io::Result<usize> {
            self.take(first.len() + second.len())
        }

        fn send_file(&mut self, _: &File, _: u64, len: usize) -> io::Result<usize> {
            self.take(len)
        }

        fn shutdown_write(&mut self) -> io::Result<()> {
            Ok(())
        }

        fn unacknowledged(&self) -> Option<u32> {
            Some(self.unacknowledged)
        }
    }

    /// Answers everything with what it is.
    enum Always {
        Small,
        /// A terabyte.
        Large(Arc<File>),
    }

    impl Services for Always {
        fn answer(&mut self, _: ExchangeId, _: &Request<'_>) -> Option<Response> {
            let file = match self {
                Self::Small => return Some(Response::text("small")),
                Self::Large(file) => Arc::clone(file),
            };
            let range = FileRange::new(file, 0, 1 << 40);
            Some(Response::new(StatusCode::OK).with_body(Body::File(range)))
        }

        fn admit(&mut self, _: &Request<'_>) -> BodyPolicy {
            BodyPolicy::Buffer { max: 0 }
        }

        fn reject(&mut self, _: &Request<'_>, refusal: Rejection) -> Response {
            refusal.into()
        }

        fn open_request_body(&mut self, _: ExchangeId) -> BodyWriter {
            BodyWriter::new(|| {})
        }

        fn probe_file(&mut self, _: ExchangeId, range: FileRange, _: Instant) -> Option<u64> {
            Some(range.len)
        }

        fn pull_body(&mut self, _: ExchangeId, _: BodySource) {}

        fn record(&mut self, _: Record) {}
    }

    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n";

    fn download(takes: usize) -> (Connection<Peer>, Context, Always) {
        let peer = Peer {
            input: REQUEST.to_vec(),
            takes,
            sent: 0,
            reads: 0,
            calls: 0,
            unacknowledged: 0,
        };
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
        let connection = Connection::new(peer, ClientInfo::plain(address), Instant::now());
        let wall = SystemTime::now();
        let cx = Context::new(&Config::default(), RecordMode::Off, Instant::now, wall);
        let file = File::open("/dev/null").expect("a file");
        (connection, cx, Always::Large(Arc::new(file)))
    }

    /// Nothing is asked of the kernel that is known already: neither whether there is more to read
    /// behind a short read, nor whether the socket takes what it has always taken.
    #[test]
    fn a_request_costs_one_read_and_one_write() {
        const REQUESTS: usize = 100;
        let (mut connection, mut cx, _) = download(usize::MAX);
        for _ in 0..REQUESTS {
            connection.transport.input = REQUEST.to_vec();
            connection.on_ready(Readiness {
                readable: true,
                writable: true,
                read_closed: false,
            });
            let park = connection.drive(&mut cx, &mut Always::Small, usize::MAX);
            assert_eq!(park, Blocked::Readable);
        }
        let calls = (connection.transport.reads, connection.transport.calls);
        assert_eq!(calls, (REQUESTS, REQUESTS));
    }

    /// A client that takes everything, for ever, gets a quantum and then it is another's turn.
    #[test]
    fn a_fast_client_takes_turns() {
        const QUANTUM: usize = 1000;
        let (mut connection, mut cx, mut host) = download(usize::MAX);
        for turn in 1..=10 {
            assert_eq!(
                connection.drive(&mut cx, &mut host, QUANTUM),
                Blocked::Yield
            );
            assert!(connection.is_sending_bulk());
            let sent = connection.transport.sent;
            assert!(
                ((turn - 1) * QUANTUM + 1..=turn * QUANTUM).contains(&sent),
                "{sent}"
            );
        }
    }

    /// What the kernel takes in a lump buys no time before the peer has acknowledged it.
    #[test]
    fn a_slow_client_is_judged_by_what_it_acknowledges() {
        const TAKEN: u32 = 100_000;
        let timeouts = Timeouts::default();
        let (mut connection, mut cx, mut host) = download(TAKEN as usize);
        let start = cx.now;
        let park = connection.drive(&mut cx, &mut host, 1 << 20);
        assert_eq!(park, Blocked::Writable);
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut judge = |connection: &mut Connection<Peer>, seconds, unacknowledged| {
            connection.transport.unacknowledged = unacknowledged;
            cx.tick(at(seconds), SystemTime::now());
            connection.settle(&cx);
            connection.deadline(&timeouts)
        };
        // The grace.
        assert_eq!(connection.deadline(&timeouts), Some(at(5)));
        // 2,400 bytes are worth 10 seconds, and they came at the end of the grace.
        assert_eq!(judge(&mut connection, 5, TAKEN - 2400), Some(at(15)));
        assert_eq!(judge(&mut connection, 10, TAKEN - 4800), Some(at(25)));
        // Nothing more: late.
        assert_eq!(judge(&mut connection, 25, TAKEN - 4800), Some(at(25)));
    }

    /// A client that takes nothing more costs nothing more: it is not asked again until an event
    /// says that it can be.
    #[test]
    fn a_stalled_client_is_left_alone() {
        let (mut connection, mut cx, mut host) = download(5000);
        assert_eq!(
            connection.drive(&mut cx, &mut host, 1 << 20),
            Blocked::Writable
        );
        let calls = connection.transport.calls;
        for _ in 0..10 {
            assert_eq!(
                connection.drive(&mut cx, &mut host, 1 << 20),
                Blocked::Writable
            );
        }
        assert_eq!(
            (connection.transport.sent, connection.transport.calls),
            (5000, calls)
        );
        connection.transport.takes = 10;
        connection.on_ready(Readiness {
            writable: true,
            ..Readiness::default()
        });
        assert_eq!(
            connection.drive(&mut cx, &mut host, 1 << 20),
            Blocked::Writable
        );
        assert_eq!(connection.transport.sent, 5010);
    }

    /// One that may move 64 KiB in a second, and has moved what it may at once.
    fn paced_download() -> (Connection<Peer>, Context, Always, Instant) {
        let limits = Limits {
            bandwidth_per_connection: NonZeroU64::new(64 * 1024),
            ..Limits::default()
        };
        let clients = Clients::new(&limits).expect("a limit");
        let (connection, mut cx, mut host) = download(usize::MAX);
        let share = clients.share(Ipv4Addr::LOCALHOST.into(), cx.now);
        let mut connection = connection.with_share(share.expect("no limit"));
        cx.limits.min_rate_bytes_per_second = 0;
        let turn = loop {
            match connection.drive(&mut cx, &mut host, 1 << 20) {
                Blocked::Throttled(turn) => break turn,
                Blocked::Yield => {}
                park => panic!("{park:?}"),
            }
        };
        (connection, cx, host, turn)
    }

    /// One that sends on and on, and nothing but empty records.
    struct Noise {
        reads: usize,
    }

    impl Transport for Noise {
        fn recv(&mut self, _: &mut Vec<u8>) -> io::Result<Received> {
            self.reads += 1;
            Ok(Received::Partial(0))
        }

        fn send(&mut self, bytes: &[u8], _: More) -> io::Result<usize> {
            Ok(bytes.len())
        }

        fn send_pair(&mut self, first: &[u8], second: &[u8]) -> io::Result<usize> {
            Ok(first.len() + second.len())
        }

        fn send_file(&mut self, _: &File, _: u64, len: usize) -> io::Result<usize> {
            Ok(len)
        }

        fn shutdown_write(&mut self) -> io::Result<()> {
            Ok(())
        }

        fn unacknowledged(&self) -> Option<u32> {
            None
        }
    }

    #[test]
    fn who_sends_nothing_of_use_leaves_others_their_turns() {
        let now = Instant::now();
        let clock = Instant::now;
        let config = Config::default();
        let mut cx = Context::new(&config, RecordMode::Off, clock, SystemTime::now());
        let peer = ClientInfo::plain(SocketAddr::from((Ipv4Addr::LOCALHOST, 1)));
        let mut connection = Connection::new(Noise { reads: 0 }, peer, now);
        let park = connection.drive(&mut cx, &mut Always::Small, 128 * 1024);
        assert_eq!(park, Blocked::Yield);
        assert_eq!(connection.transport.reads, 32);
        // It is as late as one that sends nothing.
        let deadline = connection.deadline(&config.timeouts);
        assert_eq!(deadline, Some(now + config.timeouts.keep_alive));
    }

    #[test]
    fn it_waits_for_its_turn_and_then_goes_on() {
        let (mut connection, mut cx, mut host, mut turn) = paced_download();
        let (begin, start) = (connection.transport.sent, cx.now);
        assert!((8 * 1024..32 * 1024).contains(&begin), "{begin}");
        while turn < start + Duration::from_secs(10) {
            assert!(turn > cx.now, "it could go on");
            // Asked too early, it stays where it is.
            let before = connection.transport.calls;
            let park = connection.drive(&mut cx, &mut host, 1 << 20);
            assert_eq!(
                (park, connection.transport.calls),
                (Blocked::Throttled(turn), before)
            );
            assert_eq!(connection.waits_until(), Some(turn));
            cx.tick(turn, SystemTime::now());
            match connection.drive(&mut cx, &mut host, 1 << 20) {
                Blocked::Throttled(next) => turn = next,
                park => panic!("{park:?}"),
            }
        }
        let sent = connection.transport.sent - begin;
        assert!(sent.abs_diff(10 * 64 * 1024) <= 16 * 1024, "{sent}");
    }

    /// Nobody is late for something that could not be.
    #[test]
    fn the_time_until_its_turn_is_not_counted() {
        let (mut connection, mut cx, mut host, turn) = paced_download();
        let timeouts = Config::default().timeouts;
        assert_eq!(connection.deadline(&timeouts), None);
        assert!(!connection.is_idle());
        let (stopped, turn) = (cx.now, turn + Duration::from_secs(3600));
        cx.tick(turn, SystemTime::now());
        connection.transport.takes = 0;
        assert_eq!(
            connection.drive(&mut cx, &mut host, 1 << 20),
            Blocked::Writable
        );
        let deadline = connection.deadline(&timeouts).expect("a deadline");
        assert!(deadline >= turn + timeouts.send && stopped + timeouts.send < deadline);
    }

    #[test]
    fn a_request_waits_until_those_before_are_paid_for() {
        let limits = Limits {
            bandwidth_per_client: NonZeroU64::new(1024),
            ..Limits::default()
        };
        let clients = Clients::new(&limits).expect("a limit");
        let (connection, mut cx, _) = download(usize::MAX);
        let share = clients.share(Ipv4Addr::LOCALHOST.into(), cx.now);
        let mut connection = connection.with_share(share.expect("no limit"));
        let mut answered = 0;
        let turn = loop {
            match connection.drive(&mut cx, &mut Always::Small, 1 << 20) {
                Blocked::Throttled(turn) => break turn,
                Blocked::Readable => answered += 1,
                park => panic!("{park:?}"),
            }
            connection.transport.input = REQUEST.to_vec();
            connection.on_ready(Readiness {
                readable: true,
                ..Readiness::default()
            });
        };
        assert!((1..10).contains(&answered), "{answered}");
        assert_eq!(connection.transport.input, REQUEST, "it is not read");
        cx.tick(turn, SystemTime::now());
        let park = connection.drive(&mut cx, &mut Always::Small, 1 << 20);
        assert_eq!(
            (park, connection.transport.input.len()),
            (Blocked::Readable, 0)
        );
    }
}
