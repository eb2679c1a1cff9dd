//! One HTTP/2 connection, as a state machine without a socket, a file or a clock.
//!
//! The driver asks [`Machine::next`] what to do, does it with what the machine lends
//! ([`read_buf`](Machine::read_buf), [`request`](Machine::request), [`segment`](Machine::segment),
//! [`file_read`](Machine::file_read)), and reports the result with one of the `on_*` methods. See
//! [the module above](super) for the states.

mod closing;
mod held_bodies;
mod input;
mod request_bodies;
mod requests;
mod response_bodies;
mod responses;
mod state;

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use self::state::{
    ClosedStreams, ConnectionState, EndedExchange, Eviction, FileReading, HeaderBlock, HeldBodies,
    InputState, LastTransfer, Portion, Queues, ReceivedData, Shutdown,
};
use super::flood::FloodLimits;
use super::flow::{CONNECTION_WINDOW_BYTES, DEFAULT_WINDOW_BYTES, ReceiveWindow, SendWindow};
use super::hpack::Decoder;
use super::limits::{MAX_CLIENT_PACED_JOBS, MAX_JOBS, MAX_UNSENT_CONTROL_BYTES};
use super::output::Output;
use super::pace::Pace;
use super::peer_wait::PeerWait;
use super::priority::PendingUpdates;
use super::response_head::EncoderState;
use super::scheduler::Scheduler;
use super::settings::PeerSettings;
use super::stream::{JobState, Stream, StreamState, Streams};
use super::window_share::WindowShare;
use crate::body::FileRange;
use crate::http::admission::Admission;
use crate::http::forwarded::ClientInfo;
use crate::http::request::ReceivedBody;
use crate::http::{Fields, Request};
use crate::proto::context::Context;
use crate::proto::exchange::ExchangeId;
use crate::proto::inbox::Inbox;
use crate::proto::record::Record;
use crate::proto::segment::{Payload, Segment};
use crate::proto::transfer::TransferProgress;
use crate::proto::wait::Wait;
use crate::proto::{Action, Ready};

/// Which authorities a connection may be used for.
pub(crate) trait Authorities: fmt::Debug + Send + Sync {
    /// Returns true if the certificate that the client was shown is not for this host, and another one
    /// of the server is (RFC 9110 §7.4): the client has to use another connection.
    fn is_misdirected(&self, host: &str) -> bool;
}

#[derive(Debug)]
pub(crate) struct Machine {
    state: ConnectionState,
    /// The connection's other end.
    peer: ClientInfo,
    authorities: Option<Arc<dyn Authorities>>,
    inbox: Inbox,
    input: InputState,
    /// The DATA frame that is being received.
    data: Option<ReceivedData>,
    /// The field block that is being received.
    block: Option<Box<HeaderBlock>>,
    decoder: Decoder,
    peer_settings: PeerSettings,
    /// When our settings were sent, until they are acknowledged.
    settings_sent: Option<Instant>,
    streams: Streams,
    /// How many streams the client was told that it may open.
    max_streams: u32,
    /// The last stream that the peer has opened.
    last_stream: u32,
    closed_streams: ClosedStreams,
    output: Output,
    /// Whether the transport has been read since it was written, so that both get their turns.
    last_transfer: LastTransfer,
    scheduler: Scheduler,
    /// Whether DATA frames may be added to the output.
    portion: Portion,
    pace: Pace,
    send_window: SendWindow,
    receive_window: ReceiveWindow,
    window_share: WindowShare,
    /// The wait for the connection's send window.
    window_wait: PeerWait,
    flood: FloodLimits,
    /// Whether the client has ever signalled a priority.
    signals_priority: bool,
    priority_updates: PendingUpdates,
    jobs: u16,
    queues: Queues,
    held_bodies: HeldBodies,
    shutdown: Shutdown,
    encoder: EncoderState,
    /// The wait of the connection as a whole, as of the last time that it ran.
    wait: Wait,
    /// Whether the connection is to be closed to make room for others.
    eviction: Eviction,
    /// The file range to probe next.
    probe: Option<Box<(u32, FileRange)>>,
    /// The stream of the file that is being read into the output.
    reading: Option<FileReading>,
}

impl Machine {
    /// A connection that begins with the client's preface. The server's settings are staged at once.
    pub(crate) fn new(peer: ClientInfo, cx: &mut Context) -> Self {
        let mut machine = Self {
            state: ConnectionState::AwaitingPreface,
            peer,
            authorities: None,
            inbox: Inbox::default(),
            input: InputState::Open,
            data: None,
            block: None,
            decoder: Decoder::new(),
            peer_settings: PeerSettings::default(),
            settings_sent: Some(cx.now),
            streams: Streams::default(),
            max_streams: cx.limits.h2_max_streams,
            last_stream: 0,
            closed_streams: ClosedStreams::new(cx.limits.h2_max_streams),
            output: Output::default(),
            last_transfer: LastTransfer::Write,
            scheduler: Scheduler::default(),
            portion: Portion::Open,
            pace: Pace::default(),
            send_window: SendWindow::new(DEFAULT_WINDOW_BYTES),
            receive_window: ReceiveWindow::new(DEFAULT_WINDOW_BYTES, cx.now),
            window_share: WindowShare::new(&cx.receive_windows),
            window_wait: PeerWait::none(0, cx),
            flood: FloodLimits::new(cx.now),
            signals_priority: false,
            priority_updates: PendingUpdates::default(),
            jobs: 0,
            queues: Queues::default(),
            held_bodies: HeldBodies::default(),
            shutdown: Shutdown::None,
            encoder: EncoderState::Initial,
            wait: Wait::for_first_request(cx.now),
            eviction: Eviction::None,
            probe: None,
            reading: None,
        };
        let max_head = u32::try_from(cx.limits.max_head_bytes).unwrap_or(u32::MAX);
        let max_streams = cx.limits.h2_max_streams;
        let buffers = &mut cx.buffers;
        machine.output.settings(buffers, max_streams, max_head);
        if let Some(increment) = machine.receive_window.enlarge(CONNECTION_WINDOW_BYTES) {
            machine.output.window_update(buffers, 0, increment);
        }
        machine
    }

    /// A connection without TLS whose first bytes, which are HTTP/2, have been received.
    pub(crate) fn with_input(peer: ClientInfo, inbox: Inbox, cx: &mut Context) -> Self {
        Self {
            inbox,
            ..Self::new(peer, cx)
        }
    }

    /// Rejects requests for authorities of other connections with 421.
    pub(crate) fn with_authorities(mut self, authorities: Arc<dyn Authorities>) -> Self {
        self.authorities = Some(authorities);
        self
    }

    /// What to do next. [`Action::Read`] and [`Action::Write`] are returned only if the transport is
    /// ready for them.
    pub(crate) fn next(&mut self, ready: Ready, cx: &mut Context) -> Action {
        if let Some(record) = self.take_record(cx) {
            return Action::Log(Box::new(record));
        }
        match self.state {
            ConnectionState::AwaitingPreface
            | ConnectionState::AwaitingSettings
            | ConnectionState::Open => self.run(ready, cx),
            ConnectionState::Closing(reason, linger) => self.flush(reason, linger, ready, cx),
            ConnectionState::Lingering { bytes, reason } => self.linger(bytes, reason, ready),
            ConnectionState::Closed(reason) => {
                self.inbox.clear();
                self.output.abandon();
                Action::Close(reason)
            }
        }
    }

    fn run(&mut self, ready: Ready, cx: &mut Context) -> Action {
        if self.eviction == Eviction::Requested {
            self.begin_eviction(cx);
            return self.next(ready, cx);
        }
        self.shut_down_when_due(cx);
        if let Some(id) = self.queues.cancelled.pop() {
            return Action::Cancel(ExchangeId(id));
        }
        if let Some(action) = self.read_input(cx) {
            return action;
        }
        if let Some(action) = self.next_request(cx) {
            return action;
        }
        self.update_bodies(cx);
        if self.close_when_done() || !self.queues.ended.is_empty() {
            return self.next(ready, cx);
        }
        // What was reset meanwhile, or is to be rejected.
        if !self.queues.rejecting.is_empty() || !self.queues.cancelled.is_empty() {
            return self.run(ready, cx);
        }
        self.transfer_bytes(ready, cx)
    }

    /// Reads and writes in turns, as far as the transport is ready.
    fn transfer_bytes(&mut self, ready: Ready, cx: &mut Context) -> Action {
        self.pace.on_time(cx.now);
        if ready.writable {
            self.pace.on_writable(cx.now);
        } else if !self.output.is_empty() {
            self.pace.on_blocked(cx.now);
        }
        let can_read = ready.readable && self.accepts_bytes();
        if can_read && self.last_transfer == LastTransfer::Write {
            self.last_transfer = LastTransfer::Read;
            return Action::Read;
        }
        if ready.writable
            && let Some(action) = self.write(ready.max_bulk_bytes, cx)
        {
            if let Action::Write = action {
                self.last_transfer = LastTransfer::Write;
            }
            return action;
        }
        if can_read {
            Action::Read
        } else {
            Action::Blocked
        }
    }

    /// True if received bytes would be processed. A peer that sends what has to be answered, and does
    /// not take the answers, is not read (CVE-2019-9512).
    fn accepts_bytes(&self) -> bool {
        self.input == InputState::Open && self.output.control_bytes() <= MAX_UNSENT_CONTROL_BYTES
    }

    /// The buffer for [`Action::Read`]: append to it, within its capacity.
    pub(crate) fn read_buf(&mut self, cx: &mut Context) -> &mut Vec<u8> {
        self.inbox.read_buf(&mut cx.buffers)
    }

    /// The next bytes to send, for [`Action::Write`].
    pub(crate) fn segment(&self) -> Segment<'_> {
        Segment {
            prefix: self.output.bytes(),
            payload: Payload::None,
        }
    }

    /// The request of an exchange that the last [`Action`] named. It must be asked for before the
    /// context is lent to another machine, as the head of a request without a body is in the scratch
    /// memory of the context.
    pub(crate) fn request<'a>(&'a self, id: ExchangeId, cx: &'a Context) -> Request<'a> {
        let state = self.streams.get(id.0).map(|stream| &stream.state);
        let Some(pending) = state.and_then(StreamState::request) else {
            let bytes = &cx.head_bytes[..];
            let client = self.client(&cx.head.fields(bytes), cx);
            return cx.head.request(bytes, ReceivedBody::default(), client);
        };
        let bytes = &pending.head_bytes[..];
        let client = self.client(&pending.head.fields(bytes), cx);
        let mut body = ReceivedBody {
            admission: match (state, &pending.admission) {
                (Some(StreamState::AwaitingAdmission(_)), admission) => admission.as_ref(),
                (_, admission) => admission.as_ref().map(Admission::mark_decided),
            },
            ..ReceivedBody::default()
        };
        match state {
            Some(StreamState::Streaming(_, writer)) => body.stream = Some(writer.reader_handle()),
            Some(StreamState::Handling(_)) => body.content = &pending.body.bytes,
            _ => {}
        }
        pending.head.request(bytes, body, client)
    }

    /// The client that sent a request with these fields.
    fn client(&self, fields: &Fields<'_>, cx: &Context) -> ClientInfo {
        cx.proxies.client(self.peer, fields)
    }

    /// Nothing is sent for a while: the peer takes no more, or the connection is throttled.
    pub(crate) fn on_pause(&mut self) {
        for stream in self.streams.iter_mut() {
            if let Some(sender) = stream.sender_mut() {
                sender.forget_residency();
            }
        }
    }

    /// Excludes a time that was spent waiting for bandwidth, which is not the peer's fault.
    pub(crate) fn exclude_wait(&mut self, time: Duration) {
        self.wait.exclude(time);
        self.window_wait.exclude(time);
        for stream in self.streams.iter_mut() {
            stream.wait.exclude(time);
        }
    }

    /// True if answers for an exchange are expected, or a job of it has not ended.
    pub(crate) fn is_open(&self, id: ExchangeId) -> bool {
        self.streams.get(id.0).is_some()
    }

    /// True if nothing remains but to close the socket.
    pub(crate) fn is_closed(&self) -> bool {
        matches!(self.state, ConnectionState::Closed(_))
    }

    /// The exchanges whose request body a handler has admitted, and whose handler is called later.
    pub(crate) fn admitted(&self) -> Vec<ExchangeId> {
        let is_admitted = |state: &StreamState| match state {
            StreamState::ReadingBody(_) => true,
            StreamState::Ready(request, _) => request.admission.is_some(),
            _ => false,
        };
        let admitted = self.streams.iter().filter(|it| is_admitted(&it.state));
        admitted.map(|stream| ExchangeId(stream.id)).collect()
    }

    /// The last exchange that the peer has begun; 0 before the first.
    pub(crate) fn last_exchange(&self) -> ExchangeId {
        ExchangeId(self.last_stream)
    }

    /// True while a body is being sent that is not small, which other connections' requests may
    /// overtake.
    pub(crate) fn is_sending_bulk(&self) -> bool {
        self.streams.iter().any(Stream::is_sending_bulk)
    }

    /// The progress of the bodies that are being transferred, if their exchanges are recorded.
    pub(crate) fn transfers(&self) -> impl Iterator<Item = (ExchangeId, TransferProgress<'_>)> {
        self.streams.iter().filter_map(|stream| {
            let progress = stream.transfer(self.send_window)?;
            Some((ExchangeId(stream.id), progress))
        })
    }

    /// How many streams are open.
    pub(crate) fn open_streams(&self) -> usize {
        self.streams.len()
    }

    /// Returns the memory that holds nothing, and takes note of what the connection waits for from now
    /// on.
    pub(crate) fn release_buffers(&mut self, cx: &mut Context) {
        let last = self.last_exchange();
        self.wait.update(self.timer(), last, 0, 0, cx);
        if self.window_share.is_used() {
            self.update_window_share();
        }
        self.inbox.release_buffer(&mut cx.buffers);
        self.output.release_buffer(&mut cx.buffers);
        if self.streams.is_empty() {
            let (streams, scheduler) = (&mut self.streams, &mut self.scheduler);
            cx.http2_memory.give_back(streams, scheduler);
            self.held_bodies = HeldBodies::default();
            self.queues = Queues {
                ended: std::mem::take(&mut self.queues.ended),
                cancelled: std::mem::take(&mut self.queues.cancelled),
                ..Queues::default()
            };
        }
    }

    /// The memory of a connection without streams, in bytes, but for the pooled buffers and what its
    /// client has made the decoder keep.
    #[cfg(test)]
    pub(crate) fn idle_memory(&self) -> usize {
        assert!(self.streams.is_empty());
        size_of::<Self>() + self.closed_streams.memory() + self.stream_memory()
    }

    /// The memory of the streams, in bytes.
    #[cfg(test)]
    pub(crate) fn stream_memory(&self) -> usize {
        self.streams.memory()
    }

    /// The memory of request bodies that wait for their handlers, in bytes.
    #[cfg(test)]
    pub(crate) fn request_body_memory(&self) -> usize {
        let requests = self.streams.iter().filter_map(|it| it.state.request());
        requests.map(|it| it.body.bytes.capacity()).sum()
    }

    /// How many bytes of response bodies are held.
    #[cfg(test)]
    pub(crate) fn body_memory(&self) -> usize {
        self.held_body_bytes()
    }

    /// The record of an exchange that has ended.
    fn take_record(&mut self, cx: &Context) -> Option<Record> {
        let ended = self.queues.ended.pop_front()?;
        if self.queues.ended.is_empty() {
            self.queues.ended = VecDeque::new();
        }
        let EndedExchange {
            info,
            status,
            sent,
            outcome,
        } = ended;
        Some(Record::new(*info, status, sent, outcome, cx.now))
    }

    /// True if another job may run.
    fn has_free_job(&self) -> bool {
        self.jobs < MAX_JOBS
    }

    /// True if another job may run that goes at the pace of the client.
    fn has_free_client_paced_job(&self) -> bool {
        let paced = self.streams.iter().filter(|it| it.has_client_paced_job());
        self.has_free_job() && paced.count() < MAX_CLIENT_PACED_JOBS
    }

    /// Counts a job of a stream that has none.
    fn begin_job(&mut self, id: u32) {
        if let Some(stream) = self.streams.get_mut(id) {
            debug_assert_eq!(stream.job, JobState::None, "a second job of a stream");
            stream.job = JobState::Running;
            self.jobs += 1;
        }
    }

    /// The job of a stream has ended. An orphaned stream ends with it, and another stream may have the
    /// job's place.
    fn end_job(&mut self, id: u32) {
        let Some(stream) = self.streams.get_mut(id) else {
            return;
        };
        if std::mem::replace(&mut stream.job, JobState::None) == JobState::None {
            return;
        }
        self.jobs -= 1;
        if let StreamState::Orphaned = stream.state {
            self.streams.remove(id);
        }
        for id in std::mem::take(&mut self.queues.wait_for_job) {
            self.scheduler.set_ready(id, true);
        }
    }
}
