//! One HTTP/1.1 connection, as a state machine without a socket, a file or a clock.
//!
//! The driver asks [`Machine::next`] what to do, does it with what the machine lends
//! ([`read_buf`](Machine::read_buf), [`request`](Machine::request), [`segment`](Machine::segment)),
//! and reports the result with one of the `on_*` methods. See [the module above](super) for the
//! states.
//!
//! The file is long, as it is one type: every transition of the state of a connection is in it.

use std::io;
use std::net::SocketAddr;
use std::time::Instant;

use ::http::{Method, StatusCode, Version};
use bytes::Bytes;

use super::chunked;
use super::exchange::{Exchange, ExchangeState, LingerMode, PendingRequest};
use super::framing::{BodyFraming, Framing, Persistence};
use super::head::{self, HeadInfo};
use super::head_scan::{Scan, scan_head};
use super::outbox::{Outbox, PartlySent, SMALL_BODY_BYTES};
use super::request_body::{BodyDecoder, BodyProgress, ContinueExpected, RequestBody};
use super::response_head::{ConnectionFields, encode_head};
use crate::body::BodyWriter;
use crate::body::file_range::Resident;
use crate::body::polled::PolledBody;
use crate::body::stream::BodySource;
use crate::config::Http2;
use crate::http::admission::Admission;
use crate::http::forwarded::{ClientInfo, Scheme, TlsVersion};
use crate::http::negotiation;
use crate::http::request::ReceivedBody;
use crate::http::upgrade::{AfterAdvance, Turn, UpgradeWaker, UpgradedInput, UpgradedProtocol};
use crate::http::{Body, Fields, Rejection, Request, Response};
use crate::proto::body_sender::LengthMismatch;
use crate::proto::context::{Context, DrainState, RecordMode};
use crate::proto::exchange::{BodyMode, ExchangeId, RequestInfo, SendBody};
use crate::proto::inbox::Inbox;
use crate::proto::record::InFlightRecord;
use crate::proto::request_rules::{
    BODY_TOO_LARGE, Expect, INCOMPLETE_BODY, MAX_BUFFERED_STREAM_BYTES, TIMED_OUT,
    UNKNOWN_EXPECTATION,
};
use crate::proto::segment::Segment;
use crate::proto::transfer::TransferProgress;
use crate::proto::{Action, CloseReason, HTTP2_PREFACE, Ready, Timer};

const INCOMPLETE_HEAD: Rejection = Rejection::bad_request("incomplete request head");

#[derive(Debug)]
pub(crate) struct Machine {
    state: ConnectionState,
    inbox: Inbox,
    outbox: Outbox,
    input: InputState,
    truncation: Truncation,
    /// Requests whose head was parsed; the last of them is the current exchange.
    requests: u32,
    /// The address of the connection's other end, the scheme and the version of TLS: separate fields, as
    /// one struct with its padding would make every connection larger.
    peer: SocketAddr,
    scheme: Scheme,
    tls: Option<TlsVersion>,
}

/// The state of the connection.
#[derive(Debug)]
enum ConnectionState {
    /// Between requests.
    Idle,
    /// Part of a head has been received; its first `scanned` bytes are whole lines.
    ReadingHead { scanned: usize, started: Instant },
    /// A request is being received or handled.
    Exchange(ExchangeState),
    /// A response with status 101 is queued; the protocol that follows has no waker yet.
    Upgrading(Box<dyn UpgradedProtocol>),
    /// The connection speaks another protocol until its end.
    Upgraded(Box<dyn UpgradedProtocol>),
    /// The last response is being sent.
    Closing(LingerMode),
    /// The last response is sent; up to this many bytes more are read and discarded (RFC 9112 §9.6).
    Lingering { bytes: u64 },
    /// Nothing remains but to close the socket.
    Closed(CloseReason),
}

/// Whether the peer may send more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum InputState {
    Open,
    Ended,
}

/// How the client of the last response can tell that the response was cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Truncation {
    /// By the framing of the body.
    Framing,
    /// Only by a reset of the connection: the end of the connection is, or may be taken for, the end
    /// of the body (RFC 9112 §8).
    Reset,
}

/// How a response is sent, beside its own status, fields and body.
struct Delivery {
    send_body: SendBody,
    framing: BodyFraming,
    persistence: Persistence,
    /// How many further requests the connection serves, if that is limited.
    further_requests: Option<u32>,
    info: Option<Box<RequestInfo>>,
}

impl Machine {
    pub(crate) fn new(peer: ClientInfo) -> Self {
        Self {
            state: ConnectionState::Idle,
            inbox: Inbox::default(),
            outbox: Outbox::default(),
            input: InputState::Open,
            truncation: Truncation::Framing,
            requests: 0,
            peer: peer.address,
            scheme: peer.scheme,
            tls: peer.tls,
        }
    }

    /// What to do next.
    pub(crate) fn next(&mut self, ready: Ready, cx: &mut Context) -> Action {
        if cx.drain_state == DrainState::Draining && self.outbox.end_at_shutdown() {
            self.on_body_chunk(self.exchange_id(), Ok(None), cx);
        }
        loop {
            if let Some(record) = self.outbox.take_complete(cx.now) {
                return Action::Log(Box::new(record));
            }
            if let Some(action) = self.step(ready, cx) {
                return action;
            }
        }
    }

    /// The buffer for [`Action::Read`]: append to it, within its capacity.
    pub(crate) fn read_buf(&mut self, cx: &mut Context) -> &mut Vec<u8> {
        self.inbox.read_buf(&mut cx.buffers)
    }

    /// The next bytes to send, for [`Action::Write`].
    pub(crate) fn segment(&self) -> Segment<'_> {
        self.outbox.segment()
    }

    /// The request of an exchange that the last [`Action`] named. It must be asked for before the
    /// context is lent to another machine, as the head of a request without a body is in the scratch
    /// memory of the context.
    pub(crate) fn request<'a>(&'a self, id: ExchangeId, cx: &'a Context) -> Request<'a> {
        debug_assert_eq!(id, self.exchange_id(), "the request of another exchange");
        let pending = match &self.state {
            ConnectionState::Exchange(exchange) => exchange.request(),
            _ => None,
        };
        let head = pending.map_or(&cx.head, |pending| &pending.head);
        let bytes = &self.inbox.bytes()[..head.len];
        let mut body = ReceivedBody::default();
        match &self.state {
            ConnectionState::Exchange(ExchangeState::AwaitingAdmission(pending)) => {
                body.admission = Some(&pending.admission);
            }
            ConnectionState::Exchange(ExchangeState::HandlingBody(pending)) => {
                body.content = &pending.body.bytes;
                body.admission = Some(pending.admission.mark_decided());
            }
            ConnectionState::Exchange(ExchangeState::Streaming(pending, writer)) => {
                body.stream = Some(writer.reader_handle());
                body.admission = Some(pending.admission.mark_decided());
            }
            // An unknown expectation is rejected before the handler is asked about the body.
            ConnectionState::Exchange(ExchangeState::Rejecting(pending, rejection))
                if rejection.status() != StatusCode::EXPECTATION_FAILED =>
            {
                body.admission = Some(pending.admission.mark_decided());
            }
            _ => {}
        }
        head.request(bytes, body, self.client(&head.fields(bytes), cx))
    }

    /// Takes one step; `None` if another one can be taken at once.
    fn step(&mut self, ready: Ready, cx: &mut Context) -> Option<Action> {
        match self.state {
            ConnectionState::Idle | ConnectionState::ReadingHead { .. }
                if self.outbox.is_full(cx.limits.max_outbox_bytes) =>
            {
                Some(self.flush())
            }
            ConnectionState::Idle => self.begin(cx),
            ConnectionState::ReadingHead { scanned, started } => {
                self.read_head(scanned, started, cx)
            }
            ConnectionState::Exchange(_) => self.step_exchange(cx),
            ConnectionState::Upgrading(_) => Some(Action::Upgrade(self.exchange_id())),
            ConnectionState::Upgraded(_) => self.step_upgraded(ready, cx),
            ConnectionState::Closing(linger) => self.close_when_flushed(linger, cx),
            ConnectionState::Lingering { bytes } => self.linger(bytes),
            ConnectionState::Closed(reason) => {
                self.inbox.clear();
                let is_cut_off = !self.outbox.is_empty();
                self.outbox.abandon();
                if is_cut_off && self.truncation == Truncation::Reset {
                    return Some(Action::Abort);
                }
                Some(match self.outbox.take_any(cx.now) {
                    Some(record) => Action::Log(Box::new(record)),
                    None => Action::Close(reason),
                })
            }
        }
    }

    /// Takes one step of the exchange, which is taken out of the state if its request has a body.
    fn step_exchange(&mut self, cx: &mut Context) -> Option<Action> {
        let id = self.exchange_id();
        match std::mem::replace(&mut self.state, ConnectionState::Idle) {
            ConnectionState::Exchange(ExchangeState::ReadingBody(request)) => {
                self.read_body(request, cx)
            }
            ConnectionState::Exchange(ExchangeState::StreamPending(request, writer)) => {
                self.state = ConnectionState::Exchange(ExchangeState::Streaming(request, writer));
                Some(Action::Dispatch(id))
            }
            ConnectionState::Exchange(ExchangeState::Streaming(request, writer)) => {
                self.stream_body(request, writer, cx)
            }
            state => {
                self.state = state;
                match self.state {
                    ConnectionState::Exchange(ExchangeState::AwaitingAdmission(_)) => {
                        Some(Action::Admit(id))
                    }
                    ConnectionState::Exchange(ExchangeState::Rejecting(_, rejection)) => {
                        Some(Action::Reject(id, rejection))
                    }
                    _ => Some(self.flush_or(|| Action::Blocked)),
                }
            }
        }
    }

    /// Waits for a request to begin.
    fn begin(&mut self, cx: &mut Context) -> Option<Action> {
        // RFC 9112 §2.2: empty lines before a request line are ignored.
        while self.inbox.bytes().starts_with(b"\r\n") {
            self.inbox.consume(2);
        }
        match self.inbox.bytes() {
            [] | [b'\r'] if self.outbox.is_empty() && self.input == InputState::Ended => {
                self.state = ConnectionState::Closed(CloseReason::PeerLeft);
                None
            }
            [] | [b'\r'] => Some(self.flush_or(|| Action::Read)),
            [first, ..] => match head::check_first_byte(*first) {
                Err(rejection) => {
                    self.reject_head(rejection, cx.now, cx);
                    None
                }
                Ok(()) => self.read_head(0, cx.now, cx),
            },
        }
    }

    fn read_head(&mut self, scanned: usize, started: Instant, cx: &mut Context) -> Option<Action> {
        let bytes = self.inbox.bytes();
        if self.requests == 0 && self.may_switch(cx) && begins_http2(bytes) {
            self.state = ConnectionState::ReadingHead { scanned, started };
            return Some(Action::Switch);
        }
        if scanned == 0
            && let Some(info) = head::parse_received(bytes, &mut cx.head, &cx.limits)
        {
            return self.on_head(info, started, cx);
        }
        let scan = scan_head(bytes, scanned);
        let rejection = match scan {
            Scan::Complete(len) => match head::validate(bytes, len, &cx.limits) {
                Ok(()) => match head::parse(&bytes[..len], &mut cx.head, &cx.limits) {
                    Ok(info) => return self.on_head(info, started, cx),
                    Err(rejection) => Some(rejection),
                },
                Err(rejection) => Some(rejection),
            },
            Scan::BareLf(at) => {
                const BARE_LF: Rejection = Rejection::bad_request("bare LF in the request head");
                Some(
                    head::validate(bytes, at, &cx.limits)
                        .err()
                        .unwrap_or(BARE_LF),
                )
            }
            // The request line is checked once, when it is complete.
            Scan::Incomplete(_) if scanned == 0 || bytes.len() > cx.limits.max_head_bytes => {
                head::validate_part(bytes, &cx.limits).err()
            }
            Scan::Incomplete(_) => None,
        };
        match (rejection, scan) {
            (None, Scan::Incomplete(scanned)) if self.input == InputState::Open => {
                self.state = ConnectionState::ReadingHead { scanned, started };
                return Some(self.flush_or(|| Action::Read));
            }
            (rejection, _) => {
                let rejection = rejection.unwrap_or(INCOMPLETE_HEAD);
                self.reject_head(rejection, started, cx);
            }
        }
        None
    }

    /// Returns true if the client may speak HTTP/2 without having selected it in a TLS handshake.
    fn may_switch(&self, cx: &Context) -> bool {
        cx.http2 == Http2::All && self.scheme == Scheme::Http
    }

    /// Returns the peer and what it has sent, for [`Action::Switch`].
    pub(crate) fn into_input(self) -> (ClientInfo, Inbox) {
        let peer = ClientInfo {
            address: self.peer,
            scheme: self.scheme,
            tls: self.tls,
        };
        (peer, self.inbox)
    }

    /// Begins the exchange of the request whose head was parsed into the context.
    fn on_head(&mut self, info: HeadInfo, started: Instant, cx: &mut Context) -> Option<Action> {
        self.requests = self.requests.saturating_add(1);
        let exchange = self.exchange(info, started, cx);
        let decoder = match info.framing {
            Framing::None if info.expect != Expect::Unknown => {
                self.state = ConnectionState::Exchange(ExchangeState::Handling(exchange));
                return Some(Action::Dispatch(self.exchange_id()));
            }
            Framing::None => BodyDecoder::Length { left: 0 },
            Framing::Length(left) => BodyDecoder::Length { left },
            Framing::Chunked => {
                BodyDecoder::Chunked(chunked::ChunkedDecoder::new(cx.limits.max_head_bytes))
            }
        };
        let continue_expected = match info.expect {
            Expect::Continue => ContinueExpected::Yes,
            Expect::None | Expect::Unknown => ContinueExpected::No,
        };
        let request = Box::new(PendingRequest {
            exchange,
            head: std::mem::take(&mut cx.head),
            body: RequestBody::new(decoder, continue_expected),
            admission: Admission::default(),
        });
        self.state = ConnectionState::Exchange(match info.expect {
            Expect::Unknown => ExchangeState::Rejecting(request, UNKNOWN_EXPECTATION),
            Expect::None | Expect::Continue => ExchangeState::AwaitingAdmission(request),
        });
        None
    }

    /// The handler's decision about the body of the request that [`Action::Admit`] named: how it
    /// takes the body, or the response without it.
    pub(crate) fn on_admission(
        &mut self,
        id: ExchangeId,
        admission: Result<BodyMode, Response>,
        cx: &mut Context,
    ) {
        if id != self.exchange_id() {
            return;
        }
        let mut request = match std::mem::replace(&mut self.state, ConnectionState::Idle) {
            ConnectionState::Exchange(ExchangeState::AwaitingAdmission(request)) => request,
            state => {
                debug_assert!(false, "an admission that was not asked for");
                self.state = state;
                return;
            }
        };
        self.state = ConnectionState::Exchange(match admission {
            Ok(BodyMode::Buffered { max }) => {
                request.body.max_bytes = max.min(cx.limits.max_content_bytes);
                ExchangeState::ReadingBody(request)
            }
            Ok(BodyMode::Streamed { max, writer }) => {
                request.body.max_bytes = usize::try_from(max).unwrap_or(usize::MAX);
                match request.body.length() {
                    Some(length) if length > max => {
                        ExchangeState::Rejecting(request, BODY_TOO_LARGE)
                    }
                    Some(..=MAX_BUFFERED_STREAM_BYTES) => ExchangeState::ReadingBody(request),
                    _ => ExchangeState::StreamPending(request, writer),
                }
            }
            Err(mut response) => {
                let exchange = Exchange {
                    persistence: Persistence::Close,
                    ..request.exchange
                };
                self.respond(exchange, &mut response, cx);
                return;
            }
        });
    }

    /// Collects the body until it is complete.
    fn read_body(&mut self, mut request: Box<PendingRequest>, cx: &mut Context) -> Option<Action> {
        let head_len = request.head.len;
        let (state, action) = match request.body.decode(&self.inbox.bytes()[head_len..]) {
            Err(rejection) => (ExchangeState::Rejecting(request, rejection), None),
            Ok(BodyProgress::Complete(taken)) => {
                self.inbox.consume_behind(head_len, taken);
                let action = Action::Dispatch(self.exchange_id());
                (ExchangeState::HandlingBody(request), Some(action))
            }
            Ok(BodyProgress::Incomplete(_)) if self.input == InputState::Ended => {
                (ExchangeState::Rejecting(request, INCOMPLETE_BODY), None)
            }
            Ok(BodyProgress::Incomplete(taken)) => {
                self.inbox.consume_behind(head_len, taken);
                self.send_100_continue(&mut request.body, cx);
                let action = self.flush_or(|| Action::Read);
                (ExchangeState::ReadingBody(request), Some(action))
            }
        };
        self.state = ConnectionState::Exchange(state);
        action
    }

    /// Passes the body on to the handler as it is received.
    fn stream_body(
        &mut self,
        mut request: Box<PendingRequest>,
        writer: BodyWriter,
        cx: &mut Context,
    ) -> Option<Action> {
        if !writer.has_room() {
            self.state = ConnectionState::Exchange(ExchangeState::Streaming(request, writer));
            return Some(self.flush_or(|| Action::Blocked));
        }
        let head_len = request.head.len;
        let progress = request.body.decode(&self.inbox.bytes()[head_len..]);
        request.body.pass_on(&writer);
        let (state, action) = match progress {
            Ok(BodyProgress::Complete(taken)) => {
                self.inbox.consume_behind(head_len, taken);
                writer.complete();
                (ExchangeState::Handling(request.exchange), None)
            }
            Ok(BodyProgress::Incomplete(taken)) if self.input == InputState::Open => {
                self.inbox.consume_behind(head_len, taken);
                self.send_100_continue(&mut request.body, cx);
                let action = self.flush_or(|| Action::Read);
                (ExchangeState::Streaming(request, writer), Some(action))
            }
            Ok(BodyProgress::Incomplete(_)) => {
                writer.fail(io::ErrorKind::UnexpectedEof, INCOMPLETE_BODY.reason());
                (ExchangeState::BodyFailed(request, INCOMPLETE_BODY), None)
            }
            Err(rejection) => {
                writer.fail(io::ErrorKind::InvalidData, rejection.reason());
                (ExchangeState::BodyFailed(request, rejection), None)
            }
        };
        self.state = ConnectionState::Exchange(state);
        action
    }

    /// Sends 100 Continue if the client waits for it (RFC 9110 §10.1.1).
    fn send_100_continue(&mut self, body: &mut RequestBody, cx: &mut Context) {
        if body.take_expect_continue() {
            let response = b"HTTP/1.1 100 Continue\r\n\r\n";
            self.outbox.push_interim(response, &mut cx.buffers);
        }
    }

    fn exchange(&self, info: HeadInfo, started: Instant, cx: &Context) -> Exchange {
        let head = &cx.head;
        let bytes = &self.inbox.bytes()[..head.len];
        Exchange {
            head_len: head.len,
            send_body: match head.method {
                Method::HEAD => SendBody::HeadOnly,
                _ => SendBody::Yes,
            },
            version: head.version,
            persistence: info.persistence,
            linger: match (info.persistence, info.framing) {
                (Persistence::Close, Framing::None) => LingerMode::Skip,
                // Old clients send a line end after a body that is not part of it.
                _ => LingerMode::Required,
            },
            info: self.request_info(bytes, &head.fields(bytes), started, cx),
        }
    }

    /// Responds to bytes that are not a request, without a handler, as far as they can be
    /// understood.
    fn reject_head(&mut self, rejection: Rejection, started: Instant, cx: &mut Context) {
        let bytes = self.inbox.bytes();
        let known = match cx.recording {
            RecordMode::Off => Vec::new(),
            RecordMode::On => head::recorded_fields(bytes),
        };
        let exchange = Exchange {
            head_len: bytes.len(),
            // What is known of the method.
            send_body: if bytes.starts_with(b"HEAD ") {
                SendBody::HeadOnly
            } else {
                SendBody::Yes
            },
            version: Version::HTTP_11,
            persistence: Persistence::Close,
            linger: LingerMode::Required,
            info: self.request_info(bytes, &Fields::new(bytes, &known), started, cx),
        };
        self.respond(exchange, &mut rejection.into(), cx);
    }

    fn request_info(
        &self,
        bytes: &[u8],
        fields: &Fields<'_>,
        started: Instant,
        cx: &Context,
    ) -> Option<Box<RequestInfo>> {
        if cx.recording == RecordMode::Off {
            return None;
        }
        let line_end = bytes.iter().position(|byte| matches!(byte, b'\r' | b'\n'));
        let line = &bytes[..line_end.unwrap_or(bytes.len())];
        let client = self.client(fields, cx);
        Some(Box::new(RequestInfo {
            peer: client.address,
            scheme: client.scheme,
            tls: client.tls,
            host: head::authority(line, fields).map(Box::from),
            user: None,
            line: line[..line.len().min(cx.limits.max_head_bytes)].to_vec(),
            referer: fields.first("referer").map(Box::from),
            user_agent: fields.first("user-agent").map(Box::from),
            is_subresource: negotiation::is_subresource(fields),
            started,
        }))
    }

    /// The client that sent a request with these fields.
    fn client(&self, fields: &Fields<'_>, cx: &Context) -> ClientInfo {
        let peer = ClientInfo {
            address: self.peer,
            scheme: self.scheme,
            tls: self.tls,
        };
        cx.proxies.client(peer, fields)
    }

    /// The response to a request that was dispatched or rejected. A response for another exchange is
    /// dropped.
    pub(crate) fn on_response(&mut self, id: ExchangeId, mut response: Response, cx: &mut Context) {
        if id != self.exchange_id() {
            return;
        }
        match std::mem::replace(&mut self.state, ConnectionState::Idle) {
            ConnectionState::Exchange(ExchangeState::BodyFailed(request, rejection)) => {
                self.state =
                    ConnectionState::Exchange(ExchangeState::Rejecting(request, rejection));
            }
            ConnectionState::Exchange(exchange) => match exchange.into_answered() {
                Ok(exchange) => self.respond(exchange, &mut response, cx),
                Err(exchange) => {
                    debug_assert!(false, "a response before the request was dispatched");
                    self.state = ConnectionState::Exchange(exchange);
                }
            },
            state => {
                debug_assert!(false, "a response without a request");
                self.state = state;
            }
        }
    }

    /// Queues the response that ends an exchange, and decides what the connection does next.
    fn respond(&mut self, exchange: Exchange, response: &mut Response, cx: &mut Context) {
        // Without persistence the client may still be sending a body.
        if exchange.persistence == Persistence::KeepAlive
            && let Some(protocol) = response.take_upgrade()
        {
            self.upgrade(exchange, response, protocol, cx);
            return;
        }
        response.make_final();
        debug_assert!(
            self.inbox.bytes().len() >= exchange.head_len,
            "the head is consumed before its response"
        );
        self.inbox.consume(exchange.head_len);
        let length = response.body().length();
        let framing = match (length, exchange.version) {
            (Some(length), _) => BodyFraming::Length(length),
            (None, Version::HTTP_10) => BodyFraming::UntilClose,
            (None, _) => BodyFraming::Chunked,
        };
        // Clients of HTTP/1.0 may ignore the length.
        self.truncation = match exchange.version {
            Version::HTTP_10 => Truncation::Reset,
            _ => Truncation::Framing,
        };
        let answered = self.requests.saturating_sub(1);
        let max_requests = cx.limits.keep_alive_max;
        let further_requests = max_requests.map(|max| max.saturating_sub(answered));
        let persists = exchange.persistence == Persistence::KeepAlive
            && further_requests != Some(0)
            && cx.drain_state == DrainState::Running
            && framing != BodyFraming::UntilClose
            && !response.asks_to_close();
        let is_small = length.is_some_and(|length| length <= SMALL_BODY_BYTES as u64);
        let persistence = if persists {
            self.state = ConnectionState::Idle;
            Persistence::KeepAlive
        } else {
            // While a long response is sent, the client may send what it did not announce.
            self.state = ConnectionState::Closing(if is_small && self.inbox.is_empty() {
                exchange.linger
            } else {
                LingerMode::Required
            });
            Persistence::Close
        };
        let delivery = Delivery {
            send_body: exchange.send_body,
            framing,
            persistence,
            further_requests,
            info: exchange.info,
        };
        self.queue(response, delivery, cx);
    }

    /// Queues a 101. The bytes after the request belong to the protocol that follows.
    fn upgrade(
        &mut self,
        exchange: Exchange,
        response: &mut Response,
        protocol: Box<dyn UpgradedProtocol>,
        cx: &mut Context,
    ) {
        self.inbox.consume(exchange.head_len);
        self.truncation = Truncation::Framing;
        self.state = ConnectionState::Upgrading(protocol);
        let connection = ConnectionFields {
            date: cx.date.as_bytes(),
            persistence: Persistence::KeepAlive,
            keep_alive_seconds: cx.keep_alive_seconds.as_bytes(),
            further_requests: None,
            // RFC 9110 §8.6: such a response has no Content-Length.
            framing: None,
        };
        let user = response.take_user();
        let info = exchange.info.map(|info| RequestInfo {
            user: user.or(info.user),
            ..*info
        });
        self.outbox.push_upgrade(
            &mut cx.buffers,
            |buffer| encode_head(buffer, response, &connection),
            info,
        );
    }

    /// The waker of the connection, which [`Action::Upgrade`] asked for.
    pub(crate) fn on_upgraded(&mut self, waker: UpgradeWaker, cx: &Context) {
        self.state = match std::mem::replace(&mut self.state, ConnectionState::Idle) {
            ConnectionState::Upgrading(mut protocol) => {
                protocol.start(waker, cx.now);
                ConnectionState::Upgraded(protocol)
            }
            state => state,
        };
    }

    /// Lets the protocol that the connection speaks in place of HTTP take input and make output. While its
    /// output is not sent, it gets input only up to the limit of the outbox.
    fn step_upgraded(&mut self, ready: Ready, cx: &mut Context) -> Option<Action> {
        let ConnectionState::Upgraded(protocol) = &mut self.state else {
            return None;
        };
        let max_output = cx.limits.max_outbox_bytes;
        let turn = Turn {
            now: cx.now,
            input: match (self.input, ready.readable) {
                (InputState::Ended, _) => UpgradedInput::Ended,
                (InputState::Open, true) => UpgradedInput::Unread,
                (InputState::Open, false) => UpgradedInput::Drained,
            },
            is_sending: !self.outbox.is_empty(),
            max_output: max_output.saturating_sub(self.outbox.unsent()),
            is_draining: cx.drain_state == DrainState::Draining,
        };
        let output = self.outbox.upgraded_output(&mut cx.buffers);
        let advance = protocol.advance(self.inbox.bytes(), output, &turn);
        self.inbox.consume(advance.taken);
        match advance.next {
            // Both directions move independently of each other, as long as the output is bounded.
            AfterAdvance::Read
                if !ready.writable && ready.readable && self.outbox.unsent() < max_output =>
            {
                Some(Action::Read)
            }
            AfterAdvance::Read => Some(self.flush_or(|| Action::Read)),
            AfterAdvance::Write | AfterAdvance::Wait => Some(self.flush_or(|| Action::Blocked)),
            AfterAdvance::RunJob(job) => Some(Action::RunJob(self.exchange_id(), job)),
            AfterAdvance::Finish => {
                self.outbox.end_upgraded_output();
                self.state = ConnectionState::Closing(LingerMode::Required);
                None
            }
            AfterAdvance::TimeOut => {
                self.state = ConnectionState::Closed(CloseReason::TimedOut);
                None
            }
            AfterAdvance::Lost => {
                self.state = ConnectionState::Closing(LingerMode::Skip);
                None
            }
        }
    }

    fn queue(&mut self, response: &mut Response, delivery: Delivery, cx: &mut Context) {
        let status = response.status();
        // RFC 9110 §15.3.5, §15.4.5.
        let is_bodiless = matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        let connection = ConnectionFields {
            date: cx.date.as_bytes(),
            persistence: delivery.persistence,
            keep_alive_seconds: cx.keep_alive_seconds.as_bytes(),
            further_requests: delivery.further_requests,
            framing: (!is_bodiless).then_some(delivery.framing),
        };
        // RFC 9110 §9.3.2: the response to HEAD has the length of the body and not the body.
        let sends_body = !is_bodiless && delivery.send_body == SendBody::Yes;
        let body = if sends_body {
            response.take_body()
        } else {
            Body::Empty
        };
        let user = response.take_user();
        let info = delivery.info.map(|info| RequestInfo {
            user: user.or(info.user),
            ..*info
        });
        self.outbox.push_response(
            &mut cx.buffers,
            |buffer| encode_head(buffer, response, &connection),
            body,
            delivery.framing,
            status,
            info,
        );
    }

    /// The chunk that [`Action::PullBody`] asked for, with the source of the next, or the end of the
    /// body. A chunk for another exchange is dropped.
    pub(crate) fn on_body_chunk(
        &mut self,
        id: ExchangeId,
        chunk: io::Result<Option<(Bytes, BodySource)>>,
        cx: &mut Context,
    ) {
        if id != self.exchange_id() {
            return;
        }
        match chunk {
            Ok(chunk) => {
                if let Err(LengthMismatch) = self.outbox.on_chunk(chunk, &mut cx.buffers) {
                    log::error!(
                        "response body: length differs from Content-Length; connection closed"
                    );
                    self.on_lost(CloseReason::BodyTruncated);
                }
            }
            Err(error) => {
                log::error!("response body: {error}; connection closed");
                self.on_lost(CloseReason::BodyTruncated);
            }
        }
    }

    /// The body that [`Action::PullBody`] named has no chunk yet; [`on_body_ready`](Self::on_body_ready)
    /// follows.
    pub(crate) fn on_body_parked(&mut self, body: Box<PolledBody>, cx: &Context) {
        self.outbox.on_parked(body, cx.now);
    }

    /// A parked body may have its next chunk.
    pub(crate) fn on_body_ready(&mut self, id: ExchangeId) {
        if id == self.exchange_id() {
            self.outbox.on_ready();
        }
    }

    /// When the heartbeat of a parked body is due.
    pub(crate) fn next_heartbeat(&self) -> Option<Instant> {
        self.outbox.next_heartbeat()
    }

    /// Queues the heartbeat of a parked body if it is due.
    pub(crate) fn send_heartbeats(&mut self, cx: &mut Context) {
        if let Some(chunk) = self.outbox.take_heartbeat(cx.now) {
            self.on_body_chunk(self.exchange_id(), Ok(Some(chunk)), cx);
        }
    }

    /// The beginning of the file range that [`Action::ProbeFile`] named is in memory, or cannot be
    /// read. A result for another exchange is dropped.
    pub(crate) fn on_probed(
        &mut self,
        id: ExchangeId,
        resident: io::Result<Resident>,
        cx: &mut Context,
    ) {
        if id != self.exchange_id() {
            return;
        }
        match resident {
            Ok(resident) => self.outbox.on_probed(resident),
            Err(error) => {
                let reason = match self.outbox.transfer() {
                    Some(TransferProgress { info, .. }) => {
                        let line = String::from_utf8_lossy(&info.line);
                        format!("{line:?}: cannot read the file: {error}")
                    }
                    // The request is not recorded.
                    None => format!("cannot read a file: {error}"),
                };
                match self.outbox.withdraw_file() {
                    Ok(info) => self.fail(&reason, info, cx),
                    Err(PartlySent) => {
                        log::error!("{reason}");
                        self.on_lost(CloseReason::BodyTruncated);
                    }
                }
            }
        }
    }

    /// Sends a 500 in place of a response that was withdrawn.
    fn fail(&mut self, reason: &str, info: Option<RequestInfo>, cx: &mut Context) {
        let mut response = Response::fault(reason);
        let length = response.body().length().unwrap_or(0);
        self.state = ConnectionState::Closing(LingerMode::Required);
        let delivery = Delivery {
            send_body: SendBody::Yes,
            framing: BodyFraming::Length(length),
            persistence: Persistence::Close,
            further_requests: None,
            info: info.map(Box::new),
        };
        self.queue(&mut response, delivery, cx);
    }

    /// Nothing is sent for a while: the peer takes no more, or the connection is throttled.
    pub(crate) fn on_pause(&mut self) {
        self.outbox.forget_residency();
    }

    /// The first `count` bytes of the [`segment`](Self::segment) are sent.
    pub(crate) fn on_written(&mut self, count: usize) {
        self.outbox.on_written(count);
    }

    /// The peer will send no more. The requests it has sent are still answered.
    pub(crate) fn on_eof(&mut self) {
        self.input = InputState::Ended;
    }

    /// Closes the connection, and returns true, if the server shuts down and no exchange is in
    /// progress. Only to be called when there is nothing to read.
    pub(crate) fn close_if_draining(&mut self, cx: &Context) -> bool {
        // The first request of a new connection may be in transit.
        let is_idle = matches!(self.state, ConnectionState::Idle)
            && self.requests > 0
            && self.outbox.is_empty();
        let closes = is_idle && cx.drain_state == DrainState::Draining;
        if closes {
            self.on_lost(CloseReason::Drained);
        }
        closes
    }

    /// The time limit of the current [`timer`](Self::timer) has passed.
    pub(crate) fn on_timeout(&mut self, cx: &mut Context) {
        let timer = self.timer();
        match (
            timer,
            std::mem::replace(&mut self.state, ConnectionState::Idle),
        ) {
            (Timer::Header, ConnectionState::ReadingHead { started, .. }) => {
                self.reject_head(TIMED_OUT, started, cx);
            }
            (Timer::Body, ConnectionState::Exchange(ExchangeState::ReadingBody(request))) => {
                self.state =
                    ConnectionState::Exchange(ExchangeState::Rejecting(request, TIMED_OUT));
            }
            (Timer::Body, ConnectionState::Exchange(ExchangeState::Streaming(request, writer))) => {
                writer.fail(io::ErrorKind::TimedOut, TIMED_OUT.reason());
                self.state =
                    ConnectionState::Exchange(ExchangeState::BodyFailed(request, TIMED_OUT));
            }
            (Timer::Handler | Timer::Upgraded, state) => self.state = state,
            (_, state) => {
                self.state = state;
                self.on_lost(CloseReason::TimedOut);
            }
        }
    }

    /// Ends the connection. A request without a response is recorded as such.
    pub(crate) fn on_lost(&mut self, reason: CloseReason) {
        let state = std::mem::replace(&mut self.state, ConnectionState::Closed(reason));
        if let ConnectionState::Exchange(exchange) = state
            && let Some(info) = exchange.into_exchange().info
        {
            self.outbox.push_record(InFlightRecord::unanswered(*info));
        }
    }

    /// What the connection waits for.
    pub(crate) fn timer(&self) -> Timer {
        if self.outbox.is_waiting() {
            return Timer::Handler;
        }
        if !self.outbox.is_empty() {
            return Timer::Send;
        }
        match &self.state {
            ConnectionState::Idle => Timer::KeepAlive,
            ConnectionState::ReadingHead { .. } => Timer::Header,
            ConnectionState::Exchange(exchange) if exchange.is_receiving() => Timer::Body,
            ConnectionState::Exchange(_) => Timer::Handler,
            ConnectionState::Upgrading(_) | ConnectionState::Upgraded(_) => Timer::Upgraded,
            ConnectionState::Closing(_)
            | ConnectionState::Lingering { .. }
            | ConnectionState::Closed(_) => Timer::Linger,
        }
    }

    /// When the protocol must be called that the connection speaks in place of HTTP. While its output is being
    /// sent, the time limits of the transport apply instead.
    pub(crate) fn upgraded_deadline(&self) -> Option<Instant> {
        match &self.state {
            ConnectionState::Upgraded(protocol) => protocol.deadline(),
            _ => None,
        }
    }

    /// True if nothing remains but to close the socket.
    pub(crate) fn is_closed(&self) -> bool {
        matches!(self.state, ConnectionState::Closed(_))
    }

    /// True if a handler has admitted a body that is being received, and is called when the body is
    /// complete.
    pub(crate) fn is_admitted(&self) -> bool {
        matches!(
            self.state,
            ConnectionState::Exchange(ExchangeState::ReadingBody(_))
        )
    }

    /// The exchange of the last request whose head was parsed; 0 before the first.
    pub(crate) fn exchange_id(&self) -> ExchangeId {
        ExchangeId(self.requests)
    }

    /// True while a large body is being sent, which other connections' requests may overtake.
    pub(crate) fn is_sending_bulk(&self) -> bool {
        self.outbox.is_sending_bulk()
    }

    /// The progress of the body that is being transferred, if it is large or streamed, and the
    /// exchange is recorded.
    pub(crate) fn transfer(&self) -> Option<TransferProgress<'_>> {
        let receiving = match &self.state {
            ConnectionState::Exchange(exchange) => exchange.transfer(),
            _ => None,
        };
        receiving.or_else(|| self.outbox.transfer())
    }

    /// Returns the buffers that hold nothing.
    pub(crate) fn release_buffers(&mut self, cx: &mut Context) {
        self.inbox.release_buffer(&mut cx.buffers);
        self.outbox.release_buffers(&mut cx.buffers);
    }

    fn flush_or(&mut self, otherwise: impl FnOnce() -> Action) -> Action {
        if self.outbox.is_empty() {
            otherwise()
        } else {
            self.flush()
        }
    }

    /// What the outbox needs next. It must not be empty.
    fn flush(&mut self) -> Action {
        self.outbox.next_action(self.exchange_id())
    }

    /// Closes the connection after the last response. RFC 9112 §9.6: the sending side first and, when
    /// the peer has closed its own, the connection. Closing at once would let bytes that the peer
    /// still sends reset the connection, and the reset could overtake the response.
    fn close_when_flushed(&mut self, linger: LingerMode, cx: &Context) -> Option<Action> {
        if !self.outbox.is_empty() {
            self.state = ConnectionState::Closing(linger);
            return Some(self.flush());
        }
        if self.input == InputState::Open && linger == LingerMode::Required {
            let bytes = cx.limits.max_linger_bytes;
            self.state = ConnectionState::Lingering { bytes };
            return Some(Action::ShutdownWrite);
        }
        self.state = ConnectionState::Closed(CloseReason::Finished);
        None
    }

    /// Discards input, at most `bytes` of it, until the peer closes.
    fn linger(&mut self, bytes: u64) -> Option<Action> {
        let bytes = bytes.saturating_sub(self.inbox.bytes().len() as u64);
        self.inbox.clear();
        if bytes == 0 || self.input == InputState::Ended {
            self.state = ConnectionState::Closed(CloseReason::Finished);
            return None;
        }
        self.state = ConnectionState::Lingering { bytes };
        Some(Action::Read)
    }
}

/// Returns true if the input begins with the connection preface of HTTP/2 (RFC 9113 §3.4), or with
/// enough of it that it is no beginning of an HTTP/1.1 request: its method is reserved.
fn begins_http2(bytes: &[u8]) -> bool {
    const METHOD_BYTES: usize = b"PRI ".len();
    let len = bytes.len().min(HTTP2_PREFACE.len());
    len >= METHOD_BYTES && bytes[..len] == HTTP2_PREFACE[..len]
}
