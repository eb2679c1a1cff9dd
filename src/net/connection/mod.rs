//! The driver of one connection: does what the protocol machine asks on a transport, until the
//! kernel says `WouldBlock` or the byte budget of the iteration is spent.
//!
//! mio is edge-triggered: readiness is remembered here until a call has proved it wrong. So a
//! connection blocks only on what it knows not to be ready, or it yields and stays in the run queue. A
//! connection with a bandwidth limit is also throttled, and its timeouts do not run meanwhile.
//!
//! The file is long because the driver is one loop: what it does for each action reads and sets the
//! same readiness, wait and bandwidth.

#[cfg(test)]
mod tests;

use std::io;
use std::ops::ControlFlow;
use std::time::Instant;

use mio::Token;

use super::bandwidth::limiter::Permit;
use super::bandwidth::per_client::ClientSlot;
use super::event_loop::handle::Occupancy;
use super::observe::question::LoopSnapshot;
use super::observe::report::{Activity, BlockedOn};
use super::transport::{Received, Transport};
use super::worker::message::{BodyChunk, Pulled};
use crate::body::file_range::Resident;
use crate::body::stream::BodySource;
use crate::body::{BodyWriter, FileRange};
use crate::config::Timeouts;
use crate::handler::BodyPolicy;
use crate::http::upgrade::{UpgradeJob, UpgradeWaker};
use crate::http::{Rejection, Request, Response};
use crate::proto::context::{Context, DrainState};
use crate::proto::exchange::{BodyMode, ExchangeId};
use crate::proto::file_read::{FileBytes, FileRead};
use crate::proto::h1::outbox::SMALL_BODY_BYTES;
use crate::proto::protocol::Protocol;
use crate::proto::record::Record;
use crate::proto::segment::{Payload, Segment};
use crate::proto::transfer::{Direction, StalledOn, TransferProgress};
use crate::proto::wait::Wait;
use crate::proto::{Action, CloseReason, Ready, Timer};

/// Services the worker provides to a connection: request dispatch, thread pools, access log.
pub(crate) trait Services {
    /// Returns the response to a request, or `None` if it arrives later, through
    /// [`Connection::on_response`].
    fn answer(&mut self, exchange: ExchangeId, request: &Request<'_>) -> Option<Response>;

    /// Returns how the body of a request is to be received.
    fn admit(&mut self, request: &Request<'_>) -> BodyPolicy;

    /// Returns the response to a request that is rejected.
    fn reject(
        &mut self,
        exchange: ExchangeId,
        request: &Request<'_>,
        rejection: Rejection,
    ) -> Response;

    /// Opens the pipe through which a handler reads a request body while it is received.
    fn open_request_body(&mut self, exchange: ExchangeId) -> BodyWriter;

    /// Returns how many bytes at the beginning of a range are in the page cache, or `None` if they
    /// are being fetched, which is reported through [`Connection::on_file_read`].
    fn probe_file(&mut self, exchange: ExchangeId, range: FileRange, now: Instant) -> Option<u64>;

    /// Has the beginning of a range fetched into the page cache, which is reported through
    /// [`Connection::on_file_read`].
    fn fetch_file(&mut self, exchange: ExchangeId, range: FileRange);

    /// Reads the beginning of a range that is in the page cache.
    fn read_file(&mut self, read: &mut FileRead<'_>, now: Instant) -> FileBytes;

    /// Drops what is still to come for an exchange.
    fn cancel(&mut self, exchange: ExchangeId);

    /// Requests the next chunk of a body. One that arrives later is reported through
    /// [`Connection::on_body_chunk`].
    fn pull_body(&mut self, exchange: ExchangeId, source: BodySource) -> Pulled;

    /// Returns what wakes a connection that changes to another protocol, and tells its protocol from any
    /// thread that it has something to do.
    fn upgrade_waker(&mut self, exchange: ExchangeId) -> UpgradeWaker;

    /// Runs a job of an upgraded connection, whose end wakes the connection.
    fn run_upgrade_job(&mut self, exchange: ExchangeId, job: UpgradeJob);

    /// Records a finished exchange.
    fn record(&mut self, record: Record);
}

/// Unsent bytes that the kernel may hold of a connection with many exchanges: they delay a response that
/// is more urgent. Less than a TLS record or two would cost throughput.
const MAX_UNSENT_BYTES: u32 = 32 * 1024;

/// The minimum that a read costs of the byte budget: many encrypted bytes may yield little data.
const MIN_READ_COST_BYTES: usize = 4096;

/// What a chunk that was polled costs of the byte budget, beside its bytes: chunks may be small, and each
/// costs a system call.
const POLL_COST_BYTES: usize = 4096;

/// Why a connection has stopped running for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Blocked {
    /// Until there is something to read.
    Readable,
    /// Until the peer takes something.
    Writable,
    /// Until a message arrives: a response, a chunk of a body, a part of a file.
    Handler,
    /// Until this time, because of a bandwidth limit.
    Throttled(Instant),
    /// Until its next place in the run queue: it could continue.
    Yield,
    /// The connection is to be closed.
    Closed(CloseReason),
}

/// How much a connection may do before the next one runs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Quantum {
    pub(crate) bytes: usize,
    pub(crate) scope: DriveScope,
}

impl Quantum {
    /// Everything, up to this many bytes.
    #[cfg(test)]
    pub(crate) fn of(bytes: usize) -> Self {
        let scope = DriveScope::All;
        Self { bytes, scope }
    }
}

/// What a connection may move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DriveScope {
    All,
    /// Requests and small responses. Large bodies wait for the connection's place in the run queue.
    Requests,
}

/// What the kernel may have for the connection. True until a call proves it wrong.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Readiness {
    pub(crate) readable: bool,
    pub(crate) writable: bool,
    /// The end of the input has arrived, possibly after bytes that are not read yet. There will be
    /// no further event about it, so a short read does not mean that everything is read.
    pub(crate) read_closed: bool,
}

/// A connection: its transport, its protocol machine, and what it waits for.
#[derive(Debug)]
pub(crate) struct Connection<T> {
    transport: T,
    protocol: Protocol,
    readiness: Readiness,
    wait: Wait,
    /// Its place among the connections of its client, and its bandwidth limit.
    client_slot: ClientSlot,
}

impl<T: Transport> Connection<T> {
    pub(crate) fn new(
        transport: T,
        protocol: Protocol,
        client_slot: ClientSlot,
        now: Instant,
    ) -> Self {
        if protocol.is_multiplexed() {
            transport.limit_unsent(MAX_UNSENT_BYTES);
        }
        Self {
            transport,
            protocol,
            // Try first: the request has often arrived already.
            readiness: Readiness {
                readable: true,
                writable: true,
                read_closed: false,
            },
            wait: Wait::for_first_request(now),
            client_slot,
        }
    }

    pub(crate) fn transport_mut(&mut self) -> &mut T {
        &mut self.transport
    }

    /// Merges an event of the transport.
    pub(crate) fn on_ready(&mut self, event: Readiness) {
        self.readiness.readable |= event.readable;
        self.readiness.writable |= event.writable;
        self.readiness.read_closed |= event.read_closed;
    }

    /// The peer has disconnected in both directions. The connection must detect that at once, even
    /// if it is throttled or waits for a handler.
    pub(crate) fn on_hang_up(&mut self) {
        self.client_slot.unlimit();
        if let Timer::Handler | Timer::HalfClosed | Timer::Upgraded = self.wait.timer() {
            self.protocol.on_lost(CloseReason::Broken);
        }
    }

    /// The response that a job has made. Ignored if the exchange has ended, like the other answers.
    pub(crate) fn on_response(&mut self, id: ExchangeId, response: Response, cx: &mut Context) {
        self.protocol.on_response(id, response, cx);
    }

    /// The chunk of the response body that was requested.
    pub(crate) fn on_body_chunk(&mut self, id: ExchangeId, chunk: BodyChunk, cx: &mut Context) {
        self.protocol.on_body_chunk(id, chunk, cx);
    }

    /// A response body that is polled may have its next chunk.
    pub(crate) fn on_body_ready(&mut self, id: ExchangeId) {
        self.protocol.on_body_ready(id);
    }

    /// Returns when the first heartbeat of a response body is due; `None` if no body waits.
    pub(crate) fn next_heartbeat(&self) -> Option<Instant> {
        self.protocol.next_heartbeat()
    }

    /// Queues the heartbeats that are due. Returns false if there are none.
    pub(crate) fn send_heartbeats(&mut self, cx: &mut Context) -> bool {
        let is_due = self.next_heartbeat().is_some_and(|at| at <= cx.now);
        if is_due {
            self.protocol.send_heartbeats(cx);
        }
        is_due
    }

    /// A part of a file was read.
    pub(crate) fn on_file_read(
        &mut self,
        id: ExchangeId,
        resident: io::Result<Resident>,
        cx: &mut Context,
    ) {
        self.protocol.on_probed(id, resident, cx);
    }

    /// The work for the exchange was cancelled before it has begun.
    pub(crate) fn on_cancelled(&mut self, id: ExchangeId) {
        self.protocol.on_cancelled(id);
    }

    /// Returns true if answers for the exchange are expected.
    pub(crate) fn is_open(&self, id: ExchangeId) -> bool {
        self.protocol.is_open(id)
    }

    pub(crate) fn on_timeout(&mut self, timeouts: &Timeouts, cx: &mut Context) {
        let is_half_closed = self.wait.timer() == Timer::HalfClosed;
        let is_gone = is_half_closed || self.transport.holds_back();
        if is_gone && !self.protocol.is_multiplexed() {
            // Whatever the machine waits for, the peer is gone or does not take its response.
            self.protocol.on_lost(CloseReason::TimedOut);
        } else {
            self.protocol.on_timeout(&self.wait, timeouts, cx);
        }
    }

    /// Makes the close of the connection a reset, after a panic has left it in an unknown state.
    pub(crate) fn abort(&mut self) {
        self.transport.abort();
    }

    /// Closes the connection at the end of the drain time.
    pub(crate) fn cut(&mut self) {
        self.protocol.on_lost(CloseReason::Drained);
    }

    /// Closes the connection to make room for others.
    pub(crate) fn evict(&mut self) {
        self.protocol.evict();
    }

    /// Returns true if the connection is only moving a large body, which comes after the requests of
    /// other connections.
    pub(crate) fn is_sending_bulk(&self) -> bool {
        self.protocol.is_sending_bulk()
    }

    /// Returns true if requests may be answered while a large body is being sent.
    pub(crate) fn is_multiplexed(&self) -> bool {
        self.protocol.is_multiplexed()
    }

    /// Returns until when the connection waits for bandwidth, if it does.
    pub(crate) fn throttled_until(&self) -> Option<Instant> {
        self.client_slot.throttled_until()
    }

    /// Returns when the connection times out; `None` if it may wait, as for bandwidth.
    pub(crate) fn deadline(&self, timeouts: &Timeouts) -> Option<Instant> {
        if self.throttled_until().is_some() {
            return None;
        }
        self.protocol.deadline(&self.wait, timeouts)
    }

    /// Returns true if the deadline has passed.
    pub(crate) fn is_expired(&self, timeouts: &Timeouts, now: Instant) -> bool {
        self.deadline(timeouts)
            .is_some_and(|deadline| deadline <= now)
    }

    /// Assumes readiness, whatever events were received. Called before a connection is timed out: after
    /// SIGSTOP or suspend, unread input may be pending.
    pub(crate) fn mark_ready(&mut self) {
        self.readiness.readable = true;
        self.readiness.writable = true;
    }

    /// Asks the transport what the peer has acknowledged. Called before a connection is timed out
    /// because its peer does not take the response.
    pub(crate) fn poll_acked(&mut self, cx: &Context) {
        if self.wait.has_in_flight() {
            let state = self.transport.peer_state();
            let unacknowledged = state.map_or(0, |state| state.unacknowledged);
            self.wait.on_acked(unacknowledged, cx);
        }
    }

    /// Returns the exchanges whose request body is being received after a handler has admitted it,
    /// and whose handler will be called with the whole of it.
    pub(crate) fn admitted(&self) -> Vec<ExchangeId> {
        self.protocol.admitted()
    }

    /// Returns whether the connection can be closed to make room for others.
    pub(crate) fn occupancy(&self) -> Occupancy {
        if self.throttled_until().is_some() {
            return Occupancy::Busy;
        }
        match self.wait.timer() {
            Timer::KeepAlive if self.wait.is_for_further_request() => Occupancy::Idle,
            Timer::KeepAlive | Timer::Header | Timer::Linger | Timer::HalfClosed => {
                Occupancy::Incomplete
            }
            // A minimum rate applies to these, or they wait for the handler.
            Timer::Body | Timer::Send | Timer::Handler | Timer::Upgraded => Occupancy::Busy,
        }
    }

    /// Returns since when the connection waits, if it may be closed now to make room for others.
    pub(crate) fn evictable_since(&self, cx: &Context) -> Option<Instant> {
        let is_evictable = match self.occupancy() {
            Occupancy::Busy => false,
            Occupancy::Idle => true,
            Occupancy::Incomplete => self.wait.is_beyond_grace(cx),
        };
        is_evictable.then_some(self.wait.since())
    }

    /// Adds what the connection is doing to a snapshot.
    pub(crate) fn report(&self, token: Token, now: Instant, snapshot: &mut LoopSnapshot) {
        let is_down =
            |(_, progress): (_, TransferProgress<'_>)| progress.direction == Direction::Down;
        snapshot.count(match self.protocol.timer() {
            Timer::Handler if self.protocol.transfers().any(is_down) => Activity::Sending,
            Timer::KeepAlive => Activity::Idle,
            Timer::Header => Activity::Head,
            Timer::Body => Activity::Content,
            Timer::Handler | Timer::HalfClosed => Activity::Handler,
            Timer::Send => Activity::Sending,
            Timer::Linger => Activity::Lingering,
            Timer::Upgraded => Activity::Upgraded,
        });
        if let Some(streams) = self.protocol.open_streams() {
            snapshot.count_http2(streams);
        }
        for (exchange, progress) in self.protocol.transfers() {
            let blocked_on = self.blocked_on(&progress);
            snapshot.add_transfer(token, exchange, &progress, blocked_on, now);
        }
    }

    fn blocked_on(&self, progress: &TransferProgress<'_>) -> BlockedOn {
        let ready = match progress.direction {
            Direction::Down => self.readiness.writable,
            Direction::Up => self.readiness.readable,
        };
        match progress.stall {
            _ if self.throttled_until().is_some() => BlockedOn::Bandwidth,
            Some(StalledOn::Disk) => BlockedOn::Disk,
            Some(StalledOn::Handler) => BlockedOn::Handler,
            None if ready => BlockedOn::RunQueue,
            Some(StalledOn::Window) | None => BlockedOn::Client,
        }
    }

    /// Runs until the connection blocks, moving about as many bytes as `quantum` has at most.
    pub(crate) fn drive(
        &mut self,
        cx: &mut Context,
        services: &mut impl Services,
        quantum: Quantum,
    ) -> Blocked {
        cx.refresh_clock();
        if let Some(throttled) = self.client_slot.end_wait(cx.now) {
            self.wait.exclude(throttled);
            self.protocol.exclude_wait(throttled);
        }
        let mut moved = Moved::default();
        let blocked = loop {
            let left = quantum.bytes.saturating_sub(moved.cost());
            if left == 0 {
                break Blocked::Yield;
            }
            let quantum = Quantum {
                bytes: left,
                ..quantum
            };
            if let ControlFlow::Break(blocked) = self.step(cx, services, quantum, &mut moved) {
                break blocked;
            }
        };
        let is_pause = match blocked {
            // Or its bulk has no turn, while the transport takes bytes.
            Blocked::Writable => !self.ready(quantum).writable,
            Blocked::Throttled(_) => true,
            Blocked::Readable | Blocked::Handler | Blocked::Yield | Blocked::Closed(_) => false,
        };
        if is_pause {
            self.protocol.on_pause();
        }
        self.protocol.release_buffers(cx);
        self.update_wait(&moved, cx);
        self.update_bandwidth(blocked, cx.now);
        blocked
    }

    /// Does what the machine asks for next, sending at most as many bytes of a body as `left` has.
    fn step(
        &mut self,
        cx: &mut Context,
        services: &mut impl Services,
        left: Quantum,
        moved: &mut Moved,
    ) -> ControlFlow<Blocked> {
        if self.transport.holds_back() && !self.protocol.is_closed() {
            if self.readiness.writable {
                return self.flush();
            }
            // With many exchanges, input must be read meanwhile.
            if !self.protocol.is_multiplexed() {
                return ControlFlow::Break(Blocked::Writable);
            }
        }
        match self.protocol.next(self.ready(left), cx) {
            Action::Read => return self.read(cx, moved),
            Action::Write => return self.write(cx, left.bytes, moved),
            Action::Admit(id) => {
                let admission = match services.admit(&self.protocol.request(id, cx)) {
                    BodyPolicy::Buffer { max } => Ok(BodyMode::Buffered { max }),
                    BodyPolicy::Stream { max } => {
                        let writer = services.open_request_body(id);
                        Ok(BodyMode::Streamed { max, writer })
                    }
                    BodyPolicy::Reject(response) => Err(response),
                };
                self.protocol.on_admission(id, admission, cx);
            }
            Action::Dispatch(id) => {
                let response = services.answer(id, &self.protocol.request(id, cx));
                if let Some(response) = response {
                    self.protocol.on_response(id, response, cx);
                }
            }
            Action::Reject(id, rejection) => {
                let response = services.reject(id, &self.protocol.request(id, cx), rejection);
                self.protocol.on_response(id, response, cx);
            }
            // The machine has asked for what is resident already.
            Action::ProbeFile(id, range) if self.protocol.is_multiplexed() => {
                services.fetch_file(id, range);
            }
            Action::ProbeFile(id, range) => {
                if let Some(bytes) = services.probe_file(id, range, cx.now) {
                    let resident = Resident::InKernel(bytes);
                    self.protocol.on_probed(id, Ok(resident), cx);
                }
            }
            Action::ReadFile(id) => {
                if let Some(mut read) = self.protocol.file_read() {
                    let bytes = services.read_file(&mut read, cx.now);
                    self.protocol.on_file_bytes(id, bytes, cx);
                }
            }
            Action::AskPeerState => {
                let state = self.transport.peer_state();
                self.protocol.on_peer_state(state, cx);
            }
            Action::PullBody(id, source) => match services.pull_body(id, source) {
                Pulled::Later => {}
                Pulled::Chunk(chunk) => {
                    moved.overhead += POLL_COST_BYTES;
                    self.protocol.on_body_chunk(id, chunk, cx);
                }
                Pulled::Parked(body) => self.protocol.on_body_parked(id, body, cx),
            },
            Action::Cancel(id) => services.cancel(id),
            Action::Switch => {
                self.protocol.switch_to_http2(cx);
                self.transport.limit_unsent(MAX_UNSENT_BYTES);
            }
            Action::Upgrade(id) => {
                let waker = services.upgrade_waker(id);
                self.protocol.on_upgraded(waker, cx);
            }
            Action::RunJob(id, job) => services.run_upgrade_job(id, job),
            Action::Log(record) => services.record(*record),
            Action::ShutdownWrite => {
                if let Err(error) = self.transport.shutdown_write() {
                    self.on_broken(&error);
                }
            }
            Action::Abort => self.transport.abort(),
            Action::Blocked => return ControlFlow::Break(self.blocked()),
            Action::Close(reason) => return ControlFlow::Break(Blocked::Closed(reason)),
        }
        ControlFlow::Continue(())
    }

    /// What the machine may ask for.
    fn ready(&self, left: Quantum) -> Ready {
        Ready {
            readable: self.readiness.readable,
            writable: self.readiness.writable && !self.transport.holds_back(),
            max_bulk_bytes: match left.scope {
                // A chunk of the bandwidth limit, because what is in the output is not overtaken.
                DriveScope::All => self.client_slot.chunk(),
                DriveScope::Requests => 0,
            },
        }
    }

    /// Returns what the connection waits for when its machine has nothing to do.
    fn blocked(&self) -> Blocked {
        match self.timer() {
            _ if !self.protocol.is_multiplexed() => Blocked::Handler,
            Timer::Send => Blocked::Writable,
            // Streams wait for many things, and among them always for input.
            _ => Blocked::Readable,
        }
    }

    /// Returns what the connection as a whole waits for.
    fn timer(&self) -> Timer {
        match self.protocol.timer() {
            _ if self.transport.holds_back() => Timer::Send,
            Timer::Handler if self.readiness.read_closed => Timer::HalfClosed,
            timer => timer,
        }
    }

    /// Hands the transport's own buffer to the kernel.
    fn flush(&mut self) -> ControlFlow<Blocked> {
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
            // A client that sends one request after the other has the next one in transit already,
            // and closing would lose it.
            if cx.drain_state == DrainState::Draining
                && self.wait.is_idle_beyond_grace(cx)
                && self.protocol.close_if_draining(cx)
            {
                return ControlFlow::Continue(());
            }
            return ControlFlow::Break(Blocked::Readable);
        }
        // Input that is discarded has a time limit and a byte limit of its own.
        if self.wait.timer() != Timer::Linger
            && let Permit::RetryAt(time) = self.client_slot.request(now)
        {
            return ControlFlow::Break(Blocked::Throttled(time));
        }
        let count = match self.transport.recv(self.protocol.read_buf(cx)) {
            Ok(Received::Eof) => {
                self.readiness.read_closed = true;
                self.protocol.on_eof();
                return ControlFlow::Continue(());
            }
            Ok(Received::Partial(count)) => {
                moved.overhead += MIN_READ_COST_BYTES.saturating_sub(count);
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
        self.client_slot.on_moved(count, now);
        moved.received += count;
        ControlFlow::Continue(())
    }

    fn write(&mut self, cx: &mut Context, left: usize, moved: &mut Moved) -> ControlFlow<Blocked> {
        let now = cx.now;
        if !self.readiness.writable {
            return ControlFlow::Break(Blocked::Writable);
        }
        let segment = self.protocol.segment();
        let max = match self.client_slot.request(now) {
            Permit::Ready(bytes) if !is_small(&segment) => left.min(bytes),
            Permit::Ready(_) => left,
            Permit::RetryAt(time) => return ControlFlow::Break(Blocked::Throttled(time)),
        };
        let segment = segment.limited_to(max);
        if is_rewritten(&segment) {
            self.protocol.on_lost(CloseReason::BodyTruncated);
            return ControlFlow::Continue(());
        }
        match self.transport.send_segment(segment) {
            // The file has become shorter.
            Ok(0) => self.protocol.on_lost(CloseReason::BodyTruncated),
            Ok(count) => {
                cx.refresh_clock();
                self.protocol.on_written(count);
                self.client_slot.on_moved(count, now);
                moved.sent += count;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.readiness.writable = false;
            }
            Err(error) => self.on_broken(&error),
        }
        ControlFlow::Continue(())
    }

    fn update_wait(&mut self, moved: &Moved, cx: &Context) {
        let exchange = self.protocol.waiting_exchange();
        self.wait
            .update(self.timer(), exchange, moved.received, moved.sent, cx);
    }

    /// Keeps the reserved bandwidth if the connection can use it soon, and gives it back otherwise.
    fn update_bandwidth(&mut self, blocked: Blocked, now: Instant) {
        match blocked {
            Blocked::Throttled(_) => self.client_slot.begin_wait(now),
            Blocked::Yield => {}
            // The disk or the producer of the body delivers what to move in a moment.
            Blocked::Handler if self.protocol.is_sending_bulk() => {}
            Blocked::Readable | Blocked::Writable | Blocked::Handler | Blocked::Closed(_) => {
                self.client_slot.release();
            }
        }
    }

    fn on_broken(&mut self, error: &io::Error) {
        log::debug!("connection lost: {error}");
        self.protocol.on_lost(CloseReason::Broken);
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
    fn cost(&self) -> usize {
        self.received + self.sent + self.overhead
    }
}

/// Returns true for a small response, which is not split, however little may move: the bytes beyond
/// the permit delay the next ones.
fn is_small(segment: &Segment<'_>) -> bool {
    let len = segment.len_in_memory();
    len.is_some_and(|len| len <= SMALL_BODY_BYTES)
}

/// Returns true if the payload of the segment is a part of a file that is no longer the file whose
/// length was announced.
fn is_rewritten(segment: &Segment<'_>) -> bool {
    match segment.payload {
        Payload::File(part) => part.is_rewritten(),
        Payload::None | Payload::Bytes(_) => false,
    }
}
