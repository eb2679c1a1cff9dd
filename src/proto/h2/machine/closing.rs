//! The end of a connection and of single streams: errors, timeouts, shutdown in two steps (RFC 9113
//! §5.4, §6.8).

use std::time::{Duration, Instant};

use ::http::StatusCode;

use super::Machine;
use super::state::{
    Cause, ClosedBy, ConnectionState, EndedExchange, Eviction, InputState, LingerMode,
    SHUTDOWN_PING, Shutdown,
};
use crate::config::Timeouts;
use crate::proto::context::{Context, DrainState};
use crate::proto::h2::error_code::ErrorCode;
use crate::proto::h2::flood::{Flood, FloodEvent};
use crate::proto::h2::flood_log;
use crate::proto::h2::flow::DEFAULT_WINDOW_BYTES;
use crate::proto::h2::frame::FrameError;
use crate::proto::h2::limits::MAX_STREAM_ID;
use crate::proto::h2::stream::{JobState, RemoteSide, Stream, StreamState};
use crate::proto::record::Completion;
use crate::proto::request_rules::TIMED_OUT;
use crate::proto::{Action, CloseReason, Ready, Timer};

/// How long the answer to the PING of a shutdown is awaited: streams that the client has opened before
/// it knew of the shutdown arrive before that.
const SHUTDOWN_PING_TIMEOUT: Duration = Duration::from_secs(1);

impl Machine {
    /// Announces a shutdown if the server shuts down, or if the client has sent as many requests as it may
    /// on one connection.
    pub(super) fn shut_down_when_due(&mut self, cx: &mut Context) {
        let requests = self.last_stream.div_ceil(2);
        let max = cx.limits.keep_alive_max;
        let is_last = max.is_some_and(|further| requests > further);
        if is_last || cx.drain_state == DrainState::Draining {
            self.announce_shutdown(cx);
        }
        if cx.drain_state == DrainState::Draining {
            self.end_parked_bodies(cx);
        }
    }

    /// Announces a shutdown, unless that has been done (RFC 9113 §6.8).
    fn announce_shutdown(&mut self, cx: &mut Context) {
        if self.shutdown == Shutdown::None {
            let buffers = &mut cx.buffers;
            self.output
                .goaway(buffers, MAX_STREAM_ID, ErrorCode::NoError, "");
            self.output.ping(buffers, SHUTDOWN_PING);
            self.shutdown = Shutdown::Announced { since: cx.now };
        }
    }

    /// The client knows of the shutdown, or has had the time to.
    pub(super) fn complete_announcement(&mut self, cx: &mut Context) {
        if let Shutdown::Announced { .. } = self.shutdown {
            let reason = match cx.drain_state {
                DrainState::Draining => CloseReason::Drained,
                DrainState::Running => CloseReason::Finished,
            };
            self.refuse_further(reason, cx);
        }
    }

    /// Serves no stream beyond those that are open, and closes the connection after them.
    fn refuse_further(&mut self, reason: CloseReason, cx: &mut Context) {
        let last = self.last_stream;
        self.output
            .goaway(&mut cx.buffers, last, ErrorCode::NoError, "");
        self.shutdown = Shutdown::Final { last, reason };
    }

    /// True if a stream was opened after the client had been told that it would not be served.
    pub(super) fn is_beyond_shutdown(&self, stream: u32) -> bool {
        matches!(self.shutdown, Shutdown::Final { last, .. } if stream > last)
    }

    /// Begins to close the connection, and returns true, if nothing is left to do on it.
    pub(super) fn close_when_done(&mut self) -> bool {
        if !self.streams.is_empty() {
            return false;
        }
        let reason = match (self.shutdown, self.input) {
            (Shutdown::Final { reason, .. }, _) => reason,
            (_, InputState::Ended) => CloseReason::PeerLeft,
            _ => return false,
        };
        self.state = ConnectionState::Closing(reason, LingerMode::Required);
        true
    }

    /// Closes the idle connection to make room for others, when it runs next.
    pub(crate) fn evict(&mut self) {
        if self.is_running() {
            self.eviction = Eviction::Requested;
        } else {
            self.on_lost(CloseReason::Evicted);
        }
    }

    pub(super) fn begin_eviction(&mut self, cx: &mut Context) {
        self.refuse_further(CloseReason::Evicted, cx);
        self.abandon_all();
        self.state = ConnectionState::Closing(CloseReason::Evicted, LingerMode::Skip);
    }

    /// Ends the connection. Requests without a response are recorded as such.
    pub(crate) fn on_lost(&mut self, reason: CloseReason) {
        self.abandon_all();
        self.state = ConnectionState::Closed(reason);
    }

    /// The peer will send no more. Complete requests are still answered.
    pub(crate) fn on_eof(&mut self) {
        self.input = InputState::Ended;
        let is_open = |stream: &&Stream| stream.remote == RemoteSide::Open;
        let open = self.streams.iter().filter(is_open);
        let open: Vec<(u32, bool)> = open.map(|it| (it.id, it.is_answered())).collect();
        for (id, is_answered) in open {
            if is_answered {
                self.end_request(id);
            } else {
                self.abandon(id, Cause::Aborted);
            }
        }
    }

    /// Counts something that a client may not do too often.
    ///
    /// # Errors
    ///
    /// It has.
    pub(super) fn count(&mut self, event: FloodEvent, cx: &Context) -> Result<(), FrameError> {
        self.flood
            .take(event, cx.now)
            .map_err(|flood| self.on_flood(flood, cx))
    }

    pub(super) fn on_flood(&self, flood: Flood, cx: &Context) -> FrameError {
        cx.http2_stats.floods.count(flood.number());
        flood_log::report(self.peer.address, flood, cx.now);
        FrameError::Connection(ErrorCode::EnhanceYourCalm)
    }

    /// Ends the stream or the connection because of what the peer has sent.
    pub(super) fn on_frame_error(&mut self, error: FrameError, cx: &mut Context) {
        let error = match error {
            FrameError::Connection(_) => error,
            // RFC 9113 §5.1: a frame on an idle stream. Those of the server are all idle.
            FrameError::Stream(id, _) if id > self.last_stream || id.is_multiple_of(2) => {
                FrameError::Connection(ErrorCode::ProtocolError)
            }
            FrameError::Stream(..) => match self.count(FloodEvent::FaultyStream, cx) {
                Ok(()) => error,
                Err(flood) => flood,
            },
        };
        match error {
            FrameError::Connection(code) => self.fail(code, CloseReason::Finished, cx),
            FrameError::Stream(id, code) => self.reset(id, code, Cause::Malformed, cx),
        }
    }

    /// Ends the connection with an error.
    pub(super) fn fail(&mut self, code: ErrorCode, reason: CloseReason, cx: &mut Context) {
        let last = match self.shutdown {
            Shutdown::Final { last, .. } => last,
            Shutdown::None | Shutdown::Announced { .. } => self.last_stream,
        };
        let client = self.peer.address;
        log::debug!("{client}: HTTP/2: {}; connection closed", code.name());
        self.abandon_all();
        self.output.goaway(&mut cx.buffers, last, code, code.name());
        self.state = ConnectionState::Closing(reason, LingerMode::Required);
    }

    /// Stages a frame that resets a stream, whose further frames are then ignored.
    pub(super) fn stage_reset(&mut self, id: u32, code: ErrorCode, cx: &mut Context) {
        if self.closed_streams.find(id) == Some(ClosedBy::Server) {
            return;
        }
        cx.http2_stats.resets_sent.count(code as usize);
        self.output.rst_stream(&mut cx.buffers, id, code);
        if self.closed_streams.find(id).is_none() {
            let window = self.streams.get(id).map(|it| it.receive_window.size());
            self.flood
                .on_stream_closed(window.unwrap_or(DEFAULT_WINDOW_BYTES));
            self.closed_streams.insert(id, ClosedBy::Server);
        }
    }

    /// Resets a stream.
    pub(super) fn reset(&mut self, id: u32, code: ErrorCode, cause: Cause, cx: &mut Context) {
        self.stage_reset(id, code, cx);
        self.abandon(id, cause);
    }

    /// Ends the exchange of a stream before its response is complete. The stream keeps its place while
    /// its job is out.
    pub(super) fn abandon(&mut self, id: u32, cause: Cause) {
        let sent_of_frame = self.output.partly_taken();
        let Some(stream) = self.streams.get_mut(id) else {
            return;
        };
        if let StreamState::Orphaned = stream.state {
            return;
        }
        stream.state = StreamState::Orphaned;
        stream.remote = RemoteSide::Ended;
        let partly_sent = match sent_of_frame {
            Some((stream, bytes)) if stream == id => bytes,
            _ => 0,
        };
        let malformed = match cause {
            Cause::Malformed => Some(StatusCode::BAD_REQUEST),
            Cause::Aborted => None,
        };
        if let Some(info) = stream.info.take() {
            self.queues.ended.push_back(EndedExchange {
                info,
                status: stream.status.or(malformed),
                sent: stream.sent + partly_sent,
                outcome: Completion::Aborted,
            });
        }
        let job = stream.job;
        self.scheduler.remove(id);
        self.queues.ready.retain(|other| *other != id);
        self.queues.rejecting.retain(|other| *other != id);
        self.queues.wait_for_job.retain(|other| *other != id);
        self.queues.wait_for_memory.retain(|other| *other != id);
        match job {
            JobState::None => {
                self.streams.remove(id);
            }
            // Its thread ends by itself, as nothing takes its chunks.
            JobState::Held => self.end_job(id),
            JobState::Running => self.queues.cancelled.push(id),
        }
    }

    fn abandon_all(&mut self) {
        let ids: Vec<u32> = self.streams.iter().map(|stream| stream.id).collect();
        for id in ids {
            self.abandon(id, Cause::Aborted);
        }
        self.probe = None;
        self.block = None;
        self.data = None;
    }

    /// Sends the last frames, and closes the sending side of the transport.
    pub(super) fn flush(
        &mut self,
        reason: CloseReason,
        linger: LingerMode,
        ready: Ready,
        cx: &Context,
    ) -> Action {
        self.inbox.clear();
        if !self.output.is_empty() {
            if ready.writable {
                return Action::Write;
            }
            if linger == LingerMode::Required {
                return Action::Blocked;
            }
        }
        if linger == LingerMode::Skip || self.input == InputState::Ended {
            self.state = ConnectionState::Closed(reason);
            self.output.abandon();
            return Action::Close(reason);
        }
        let bytes = cx.limits.max_linger_bytes;
        self.state = ConnectionState::Lingering { bytes, reason };
        Action::ShutdownWrite
    }

    /// Discards input, at most `bytes` of it, until the peer closes. Closing at once would let bytes
    /// that the peer still sends reset the connection, and the reset could overtake the last frames.
    pub(super) fn linger(&mut self, bytes: u64, reason: CloseReason, ready: Ready) -> Action {
        let bytes = bytes.saturating_sub(self.inbox.bytes().len() as u64);
        self.inbox.clear();
        if bytes == 0 || self.input == InputState::Ended {
            self.state = ConnectionState::Closed(reason);
            return Action::Close(reason);
        }
        self.state = ConnectionState::Lingering { bytes, reason };
        if ready.readable {
            Action::Read
        } else {
            Action::Blocked
        }
    }

    /// What the connection as a whole waits for. Streams wait on their own; see
    /// [`deadline`](Self::deadline).
    pub(crate) fn timer(&self) -> Timer {
        match self.state {
            ConnectionState::Lingering { .. } | ConnectionState::Closed(_) => Timer::Linger,
            _ if !self.output.is_empty() => Timer::Send,
            ConnectionState::Closing(..) => Timer::Linger,
            ConnectionState::AwaitingPreface if self.inbox.is_empty() => Timer::KeepAlive,
            ConnectionState::AwaitingPreface | ConnectionState::AwaitingSettings => Timer::Header,
            ConnectionState::Open if self.streams.is_empty() => Timer::KeepAlive,
            // Bodies are staged when the transport can take them. The windows have a wait of their own.
            ConnectionState::Open
                if self.scheduler.ready_len() > 0 && self.window_wait.timer().is_none() =>
            {
                Timer::Send
            }
            ConnectionState::Open if self.input == InputState::Ended => Timer::HalfClosed,
            ConnectionState::Open => Timer::Handler,
        }
    }

    /// When the first time limit passes but for those of the transport, which are its driver's
    /// ([`Timer::Send`], [`Timer::HalfClosed`]).
    pub(crate) fn deadline(&self, timeouts: &Timeouts) -> Option<Instant> {
        let connection = self.connection_deadline(timeouts);
        if !self.is_running() {
            return connection;
        }
        let parts = [
            connection,
            self.settings_deadline(timeouts),
            self.block_deadline(timeouts),
            self.shutdown_deadline(),
            self.window_wait.deadline(timeouts),
            self.pace.recheck_at(),
        ];
        let streams = self.streams.iter();
        let streams = streams.filter_map(|stream| stream.wait.deadline(timeouts));
        parts.into_iter().flatten().chain(streams).min()
    }

    /// Until when the connection may be idle, and how long its beginning and its end may take.
    fn connection_deadline(&self, timeouts: &Timeouts) -> Option<Instant> {
        match self.wait.timer() {
            Timer::KeepAlive if self.state == ConnectionState::Open => {
                self.wait.since().checked_add(timeouts.keep_alive_h2)
            }
            Timer::KeepAlive | Timer::Header | Timer::Linger => self.wait.deadline(timeouts),
            Timer::Body | Timer::Send | Timer::Handler | Timer::HalfClosed | Timer::Upgraded => {
                None
            }
        }
    }

    fn is_running(&self) -> bool {
        matches!(
            self.state,
            ConnectionState::AwaitingPreface
                | ConnectionState::AwaitingSettings
                | ConnectionState::Open
        )
    }

    /// Once the client has begun.
    fn settings_deadline(&self, timeouts: &Timeouts) -> Option<Instant> {
        match self.state {
            ConnectionState::Open => self.settings_sent?.checked_add(timeouts.header),
            _ => None,
        }
    }

    fn block_deadline(&self, timeouts: &Timeouts) -> Option<Instant> {
        let started = self.block.as_ref()?.started;
        started.checked_add(timeouts.header)
    }

    fn shutdown_deadline(&self) -> Option<Instant> {
        match self.shutdown {
            Shutdown::Announced { since } => since.checked_add(SHUTDOWN_PING_TIMEOUT),
            Shutdown::None | Shutdown::Final { .. } => None,
        }
    }

    /// The first time limit has passed; see [`deadline`](Self::deadline).
    pub(crate) fn on_timeout(&mut self, timeouts: &Timeouts, cx: &mut Context) {
        let now = cx.now;
        let is_due = |deadline: Option<Instant>| deadline.is_some_and(|at| at <= now);
        if is_due(self.connection_deadline(timeouts)) {
            self.on_connection_timeout(cx);
        } else if is_due(self.settings_deadline(timeouts)) {
            self.fail(ErrorCode::SettingsTimeout, CloseReason::TimedOut, cx);
        } else if is_due(self.block_deadline(timeouts))
            || is_due(self.window_wait.deadline(timeouts))
        {
            self.fail(ErrorCode::EnhanceYourCalm, CloseReason::TimedOut, cx);
        } else {
            if is_due(self.shutdown_deadline()) {
                self.complete_announcement(cx);
            }
            self.on_stream_timeouts(timeouts, cx);
        }
    }

    fn on_connection_timeout(&mut self, cx: &mut Context) {
        if self.is_running() {
            self.refuse_further(CloseReason::TimedOut, cx);
            self.abandon_all();
            self.state = ConnectionState::Closing(CloseReason::TimedOut, LingerMode::Required);
        } else {
            self.on_lost(CloseReason::TimedOut);
        }
    }

    /// Ends the streams whose peer is too slow. If all streams have been held by their windows for too
    /// long, the peer takes nothing any more, and the connection is closed.
    fn on_stream_timeouts(&mut self, timeouts: &Timeouts, cx: &mut Context) {
        let now = cx.now;
        let is_due = |stream: &Stream| {
            let deadline = stream.wait.deadline(timeouts);
            deadline.is_some_and(|at| at <= now)
        };
        // A stream with a small window is held for most of the time, until its next WINDOW_UPDATE.
        let is_held = |it: &Stream| it.wait.timer() == Some(Timer::Send) && is_due(it);
        let are_all_held = self.streams.iter().all(|it| it.is_over() || is_held(it));
        let due: Vec<(u32, Timer)> = self
            .streams
            .iter()
            .filter(|stream| is_due(stream))
            .filter_map(|stream| Some((stream.id, stream.wait.timer()?)))
            .collect();
        for (id, timer) in due {
            match timer {
                Timer::Send if are_all_held => {
                    self.fail(ErrorCode::EnhanceYourCalm, CloseReason::TimedOut, cx);
                    return;
                }
                Timer::Send => self.reset(id, ErrorCode::Cancel, Cause::Aborted, cx),
                Timer::Linger => self.stop_request(id, cx),
                _ => self.reject_body(id, TIMED_OUT, std::io::ErrorKind::TimedOut, cx),
            }
        }
    }

    /// Always false: a shutdown is announced when the machine runs.
    pub(crate) fn close_if_draining(&mut self, _: &Context) -> bool {
        false
    }
}
