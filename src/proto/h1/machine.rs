//! One connection's HTTP/1.1, as a state machine without a socket, a file or a clock.
//!
//! Whoever drives it asks [`Machine::next`] what to do, does it, and tells what came of it with
//! one of the `on_*` methods. See [the module above](super) for the states.

use std::io;
use std::net::SocketAddr;
use std::time::Instant;

use ::http::header::CONNECTION;
use ::http::{Method, StatusCode, Version};
use bytes::Bytes;

use super::chunked;
use super::exchange::{Exchange, LingerMode, SendBody};
use super::framing::{Framing, Persistence};
use super::head::{self, Expectation, Head};
use super::inbox::{Inbox, Scan, scan_head};
use super::outbox::{Need, Outbox, Promise, SMALL_CONTENT_BYTES, Segment, StreamCoding};
use super::request_body::{Decoder, Intake, Progress, Receiving, TOO_LARGE};
use super::response_head::{ConnectionFields, Length, encode_head};
use crate::body::file_range::Resident;
use crate::body::stream::BodySource;
use crate::body::{BodyWriter, FileRange};
use crate::http::forwarded::{ClientInfo, Scheme};
use crate::http::{Body, FieldSpan, Fields, Rejection, Request, Response};
use crate::proto::context::{Context, DrainState, RecordMode};
use crate::proto::exchange::RequestInfo;
use crate::proto::record::{InFlightRecord, Record};
use crate::proto::transfer::{StalledOn, TransferProgress};
use crate::proto::{CloseReason, Timer};

/// A content of up to this length is whole before its handler is called, even if that would have
/// taken it as a stream: a job that reads it waits for nobody.
const MAX_WHOLE_BYTES: u64 = 64 * 1024;

const CONTENT_CUT: Rejection = Rejection::bad_request("incomplete request body");

#[derive(Debug)]
pub(crate) struct Machine {
    state: State,
    inbox: Inbox,
    outbox: Outbox,
    input: Input,
    /// Requests whose head was read.
    requests: u32,
    /// Who is at the other end of the connection, and what is spoken with it: apart, as together
    /// they would make every connection larger.
    peer: SocketAddr,
    scheme: Scheme,
}

#[derive(Debug)]
enum State {
    /// Between requests.
    Idle,
    /// Part of a head is there, up to `scanned` in whole lines.
    Head { scanned: usize, started: Instant },
    /// The head is there; the handler says whether it takes the content.
    AwaitingAdmission(Box<Receiving>),
    /// The content is coming in.
    Content(Box<Receiving>),
    /// The content is to be a stream, which the handler does not know yet.
    Announcing(Box<Receiving>, BodyWriter),
    /// A handler has the request while its content is coming in.
    Streaming(Box<Receiving>, BodyWriter),
    /// The content that a handler was reading is refused, and its reply will not count.
    Spoilt(Box<Receiving>, Rejection),
    /// The content is refused, which the handler words.
    Refusing(Box<Receiving>, Rejection),
    /// A handler has the request, which has no content or one that is of no more use.
    Handling(Exchange),
    /// A handler has the request with its whole content.
    HandlingContent(Box<Receiving>),
    /// The last reply is on its way.
    Closing(LingerMode),
    /// The last reply is sent; what the peer still sends is thrown away (RFC 9112 §9.6).
    Lingering { bytes: u64 },
    /// The end.
    Closed(CloseReason),
}

/// Whether the peer may send more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Input {
    Open,
    Ended,
}

/// What the driver is to do next.
#[derive(Debug)]
pub(crate) enum Next<'a> {
    /// Read once into this room (append to it), then say [`Machine::on_end_of_input`] if that
    /// was the end.
    Read(&'a mut Vec<u8>),
    /// Say with [`Machine::on_admission`] whether the content of this is to be read.
    Admit(Request<'a>),
    /// Answer with [`Machine::on_reply`], now or later.
    Handle(Request<'a>),
    /// Answer a request that is refused with [`Machine::on_reply`].
    Refuse(Request<'a>, Rejection),
    /// Write this or a part of it and say [`Machine::on_sent`].
    Write(Segment<'a>),
    /// Nothing, until the handler's reply is there.
    Wait,
    /// See to it that the beginning of this is in memory and say
    /// [`Machine::on_memory`], now or later.
    Memory(FileRange),
    /// Have a piece of this made and say [`Machine::on_piece`], now or later.
    Produce(BodySource),
    /// Write this to the access log.
    Log(Record),
    /// Tell the peer that nothing more will come.
    ShutdownWrite,
    /// Close the socket. Nothing is asked for afterwards.
    Close(CloseReason),
}

/// [`Next`] without borrows, so that deciding and lending are apart.
enum Step {
    Again,
    Read,
    Admit,
    Handle(Head),
    HandleContent,
    HandleStream,
    Refuse(Head, Rejection),
    Write,
    Wait,
    Memory(FileRange),
    Produce(BodySource),
    Log(Record),
    ShutdownWrite,
    Close(CloseReason),
}

impl Machine {
    pub(crate) fn new(peer: ClientInfo) -> Self {
        Self {
            state: State::Idle,
            inbox: Inbox::default(),
            outbox: Outbox::default(),
            input: Input::Open,
            requests: 0,
            peer: peer.address,
            scheme: peer.scheme,
        }
    }

    /// What to do next.
    pub(crate) fn next<'a>(&'a mut self, cx: &'a mut Context) -> Next<'a> {
        let step = loop {
            match self.step(cx) {
                Step::Again => {}
                step => break step,
            }
        };
        match step {
            Step::Again | Step::Wait => Next::Wait,
            Step::Read => Next::Read(self.inbox.room(&mut cx.buffers)),
            Step::Admit => match &self.state {
                State::AwaitingAdmission(receiving) => {
                    Next::Admit(self.request(&receiving.head, &receiving.spans, cx))
                }
                _ => Next::Wait,
            },
            Step::Handle(head) => Next::Handle(self.request(&head, &cx.spans, cx)),
            Step::HandleContent => match &self.state {
                State::HandlingContent(receiving) => {
                    let request = self.request(&receiving.head, &receiving.spans, cx);
                    Next::Handle(request.with_borrowed_content(&receiving.content))
                }
                _ => Next::Wait,
            },
            Step::HandleStream => match &self.state {
                State::Streaming(receiving, writer) => {
                    let request = self.request(&receiving.head, &receiving.spans, cx);
                    Next::Handle(request.with_stream(writer.reading_end()))
                }
                _ => Next::Wait,
            },
            Step::Refuse(head, refusal) => {
                Next::Refuse(self.request(&head, &cx.spans, cx), refusal)
            }
            Step::Write => Next::Write(self.outbox.segment()),
            Step::Memory(range) => Next::Memory(range),
            Step::Produce(source) => Next::Produce(source),
            Step::Log(record) => Next::Log(record),
            Step::ShutdownWrite => Next::ShutdownWrite,
            Step::Close(reason) => Next::Close(reason),
        }
    }

    fn step(&mut self, cx: &mut Context) -> Step {
        if let Some(record) = self.outbox.take_complete(cx.now) {
            return Step::Log(record);
        }
        match &mut self.state {
            State::Idle | State::Head { .. } if self.outbox.is_full(cx.limits.max_outbox_bytes) => {
                self.flush()
            }
            State::Idle => self.begin(cx),
            State::Head { scanned, started } => {
                let (scanned, started) = (*scanned, *started);
                self.read_head(scanned, started, cx)
            }
            State::AwaitingAdmission(_) => Step::Admit,
            State::Content(_) => self.read_content(cx),
            State::Announcing(..) => self.announce_stream(),
            State::Streaming(..) => self.stream_content(cx),
            State::Refusing(..) => self.refuse_request(cx),
            State::Handling(_) | State::HandlingContent(_) | State::Spoilt(..) => {
                self.flush_or(Step::Wait)
            }
            State::Closing(linger) => {
                let linger = *linger;
                self.close_when_flushed(linger, cx)
            }
            State::Lingering { bytes } => {
                *bytes = bytes.saturating_sub(self.inbox.bytes().len() as u64);
                let spent = *bytes == 0;
                self.inbox.clear();
                if spent || self.input == Input::Ended {
                    self.close(CloseReason::Finished)
                } else {
                    Step::Read
                }
            }
            State::Closed(reason) => {
                let reason = *reason;
                self.inbox.clear();
                self.outbox.abandon();
                match self.outbox.take_any(cx.now) {
                    Some(record) => Step::Log(record),
                    None => Step::Close(reason),
                }
            }
        }
    }

    /// Waits for a request to begin.
    fn begin(&mut self, cx: &mut Context) -> Step {
        // RFC 9112 §2.2: empty lines before a request line are ignored.
        while self.inbox.bytes().starts_with(b"\r\n") {
            self.inbox.consume(2);
        }
        match self.inbox.bytes() {
            [] | [b'\r'] if self.outbox.is_empty() && self.input == Input::Ended => {
                self.close(CloseReason::PeerLeft)
            }
            [] | [b'\r'] => self.flush_or(Step::Read),
            [first, ..] => match head::check_first_byte(*first) {
                Err(refusal) => self.refuse(refusal, cx.now, cx),
                Ok(()) => {
                    self.state = State::Head {
                        scanned: 0,
                        started: cx.now,
                    };
                    Step::Again
                }
            },
        }
    }

    fn read_head(&mut self, scanned: usize, started: Instant, cx: &mut Context) -> Step {
        let bytes = self.inbox.bytes();
        let scan = scan_head(bytes, scanned);
        let refusal = match scan {
            Scan::Complete(len) => match head::judge(bytes, len, &cx.limits) {
                Ok(()) => match Head::parse(&bytes[..len], &mut cx.spans, &cx.limits) {
                    Ok(head) => return self.on_head(head, started, cx),
                    Err(refusal) => Some(refusal),
                },
                Err(refusal) => Some(refusal),
            },
            Scan::BareLf(at) => {
                const BARE_LF: Rejection = Rejection::bad_request("bare LF in the request head");
                Some(head::judge(bytes, at, &cx.limits).err().unwrap_or(BARE_LF))
            }
            // The request line is judged once, when it is whole.
            Scan::Incomplete(_) if scanned == 0 || bytes.len() > cx.limits.max_head_bytes => {
                head::judge_part(bytes, &cx.limits).err()
            }
            Scan::Incomplete(_) => None,
        };
        const CUT: Rejection = Rejection::bad_request("incomplete request head");
        match (refusal, scan) {
            (Some(refusal), _) => self.refuse(refusal, started, cx),
            (None, _) if self.input == Input::Ended => self.refuse(CUT, started, cx),
            (None, Scan::Incomplete(scanned)) => {
                self.state = State::Head { scanned, started };
                self.flush_or(Step::Read)
            }
            (None, _) => Step::Again,
        }
    }

    fn on_head(&mut self, head: Head, started: Instant, cx: &mut Context) -> Step {
        self.requests = self.requests.saturating_add(1);
        let exchange = self.exchange(&head, started, cx);
        let decoder = match head.framing {
            Framing::None if head.expectation != Expectation::Unknown => {
                self.state = State::Handling(exchange);
                return Step::Handle(head);
            }
            Framing::None => Decoder::Length { left: 0 },
            Framing::Length(left) => Decoder::Length { left },
            Framing::Chunked => Decoder::Chunked(chunked::Decoder::new(cx.limits.max_head_bytes)),
        };
        let unknown = head.expectation == Expectation::Unknown;
        let spans = cx.spans.clone();
        let receiving = Box::new(Receiving::new(head, spans, exchange, decoder));
        self.state = match unknown {
            true => State::Refusing(receiving, head::UNKNOWN_EXPECTATION),
            false => State::AwaitingAdmission(receiving),
        };
        Step::Again
    }

    /// What the handler says to the content of the request that was shown to it last: how it takes
    /// it, or the answer without it.
    pub(crate) fn on_admission(&mut self, admission: Result<Intake, Response>, cx: &mut Context) {
        match (std::mem::replace(&mut self.state, State::Idle), admission) {
            (State::AwaitingAdmission(mut receiving), Ok(Intake::Whole(bytes))) => {
                receiving.max_bytes = bytes.min(cx.limits.max_content_bytes);
                self.state = State::Content(receiving);
            }
            (State::AwaitingAdmission(mut receiving), Ok(Intake::Streamed(bytes, writer))) => {
                receiving.max_bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
                self.state = match receiving.announced_length() {
                    Some(length) if length > bytes => State::Refusing(receiving, TOO_LARGE),
                    Some(..=MAX_WHOLE_BYTES) => State::Content(receiving),
                    _ => State::Announcing(receiving, writer),
                };
            }
            (State::AwaitingAdmission(mut receiving), Err(response)) => {
                receiving.exchange.persistence = Persistence::Close;
                self.state = State::Handling(receiving.exchange);
                self.on_reply(response, cx);
            }
            (state, _) => {
                debug_assert!(false, "an admission without a question");
                self.state = state;
            }
        }
    }

    fn read_content(&mut self, cx: &mut Context) -> Step {
        let State::Content(mut receiving) = std::mem::replace(&mut self.state, State::Idle) else {
            return Step::Again;
        };
        let head_len = receiving.head.len;
        match receiving.decode(&self.inbox.bytes()[head_len..]) {
            Err(refusal) => {
                self.state = State::Refusing(receiving, refusal);
                Step::Again
            }
            Ok(Progress::Complete(taken)) => {
                self.inbox.consume_behind(head_len, taken);
                self.state = State::HandlingContent(receiving);
                Step::HandleContent
            }
            Ok(Progress::Incomplete(_)) if self.input == Input::Ended => {
                self.state = State::Refusing(receiving, CONTENT_CUT);
                Step::Again
            }
            Ok(Progress::Incomplete(taken)) => {
                self.inbox.consume_behind(head_len, taken);
                self.tell_to_go_on(&mut receiving, cx);
                self.state = State::Content(receiving);
                self.flush_or(Step::Read)
            }
        }
    }

    /// Hands out the request before its content.
    fn announce_stream(&mut self) -> Step {
        if let State::Announcing(receiving, writer) =
            std::mem::replace(&mut self.state, State::Idle)
        {
            self.state = State::Streaming(receiving, writer);
        }
        Step::HandleStream
    }

    /// Passes on to the handler what comes in of the content.
    fn stream_content(&mut self, cx: &mut Context) -> Step {
        let State::Streaming(mut receiving, writer) =
            std::mem::replace(&mut self.state, State::Idle)
        else {
            return Step::Again;
        };
        if !writer.has_room() {
            self.state = State::Streaming(receiving, writer);
            return self.flush_or(Step::Wait);
        }
        let head_len = receiving.head.len;
        let progress = receiving.decode(&self.inbox.bytes()[head_len..]);
        receiving.pass_on(&writer);
        match progress {
            Ok(Progress::Complete(taken)) => {
                self.inbox.consume_behind(head_len, taken);
                writer.complete();
                self.state = State::Handling(receiving.exchange);
                Step::Again
            }
            Ok(Progress::Incomplete(taken)) if self.input == Input::Open => {
                self.inbox.consume_behind(head_len, taken);
                self.tell_to_go_on(&mut receiving, cx);
                self.state = State::Streaming(receiving, writer);
                self.flush_or(Step::Read)
            }
            Ok(Progress::Incomplete(_)) => {
                writer.fail(io::ErrorKind::UnexpectedEof, CONTENT_CUT.reason());
                self.state = State::Spoilt(receiving, CONTENT_CUT);
                Step::Again
            }
            Err(refusal) => {
                writer.fail(io::ErrorKind::InvalidData, refusal.reason());
                self.state = State::Spoilt(receiving, refusal);
                Step::Again
            }
        }
    }

    /// Sends 100 Continue if the client waits for it.
    fn tell_to_go_on(&mut self, receiving: &mut Receiving, cx: &mut Context) {
        if receiving.takes_up_wait() {
            let buffer = self.outbox.head_buffer(&mut cx.buffers);
            buffer.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
        }
    }

    /// Has the handler word the refusal of a content.
    fn refuse_request(&mut self, cx: &mut Context) -> Step {
        let State::Refusing(receiving, refusal) = std::mem::replace(&mut self.state, State::Idle)
        else {
            return Step::Again;
        };
        cx.spans = receiving.spans;
        self.state = State::Handling(Exchange {
            persistence: Persistence::Close,
            linger: LingerMode::Required,
            ..receiving.exchange
        });
        Step::Refuse(receiving.head, refusal)
    }

    fn exchange(&self, head: &Head, started: Instant, cx: &Context) -> Exchange {
        let bytes = &self.inbox.bytes()[..head.len];
        let fields = Fields::new(bytes, &cx.spans);
        Exchange {
            head_len: head.len,
            send_body: match head.method {
                Method::HEAD => SendBody::HeadOnly,
                _ => SendBody::Yes,
            },
            version: head.version,
            persistence: head.persistence,
            linger: match (head.persistence, head.framing) {
                (Persistence::Close, Framing::None) => LingerMode::Skip,
                // After a content, old clients send a line end that is not part of it.
                _ => LingerMode::Required,
            },
            info: self.request_info(bytes, &fields, started, cx),
        }
    }

    /// Answers what is no request, as far as can be said; nobody else sees it.
    fn refuse(&mut self, refusal: Rejection, started: Instant, cx: &mut Context) -> Step {
        let bytes = self.inbox.bytes();
        let info = self.request_info(bytes, &Fields::default(), started, cx);
        self.state = State::Handling(Exchange {
            head_len: bytes.len(),
            // Whatever the method was.
            send_body: SendBody::Yes,
            version: Version::HTTP_11,
            persistence: Persistence::Close,
            linger: LingerMode::Required,
            info,
        });
        self.on_reply(refusal.into(), cx);
        Step::Again
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
        Some(Box::new(RequestInfo {
            peer: self.client(fields, cx).address,
            line: line[..line.len().min(cx.limits.max_head_bytes)].to_vec(),
            referer: fields.first("referer").map(<[u8]>::to_vec),
            user_agent: fields.first("user-agent").map(<[u8]>::to_vec),
            started,
        }))
    }

    /// Whose request has these fields.
    fn client(&self, fields: &Fields<'_>, cx: &Context) -> ClientInfo {
        let peer = ClientInfo {
            address: self.peer,
            scheme: self.scheme,
        };
        cx.proxies.client(peer, fields)
    }

    fn request<'a>(&'a self, head: &Head, spans: &'a [FieldSpan], cx: &Context) -> Request<'a> {
        let bytes = &self.inbox.bytes()[..head.len];
        let client = self.client(&Fields::new(bytes, spans), cx);
        head.request(bytes, spans, client)
    }

    /// The reply to the request that was handed out last.
    pub(crate) fn on_reply(&mut self, response: Response, cx: &mut Context) {
        let exchange = match std::mem::replace(&mut self.state, State::Idle) {
            State::Handling(exchange) => exchange,
            State::HandlingContent(receiving) => receiving.exchange,
            // The handler has seen enough. Where the next request begins is not known.
            State::Streaming(receiving, _) => Exchange {
                persistence: Persistence::Close,
                ..receiving.exchange
            },
            State::Spoilt(receiving, refusal) => {
                self.state = State::Refusing(receiving, refusal);
                return;
            }
            state => {
                debug_assert!(false, "a reply without a request");
                self.state = state;
                return;
            }
        };
        let response = match response.status().is_informational() {
            // The client would go on waiting for the final one.
            true => Response::fault("handler returned an interim (1xx) status"),
            false => response,
        };
        self.inbox.consume(exchange.head_len);
        let answered = self.requests.saturating_sub(1);
        let further = cx
            .limits
            .keep_alive_max
            .map(|max| max.saturating_sub(answered));
        let keeps = exchange.persistence == Persistence::KeepAlive
            && further != Some(0)
            && cx.service == DrainState::Running
            && !asks_to_close(&response);
        let coding = match (response.body().length(), exchange.version) {
            (Some(length), _) => StreamCoding::Length { left: length },
            (None, Version::HTTP_10) => StreamCoding::UntilClose,
            (None, _) => StreamCoding::Chunked,
        };
        let keeps = keeps && coding != StreamCoding::UntilClose;
        let persistence = if keeps {
            Persistence::KeepAlive
        } else {
            Persistence::Close
        };
        if !keeps {
            let length = response.body().length();
            let is_small = length.is_some_and(|length| length <= SMALL_CONTENT_BYTES as u64);
            // A reply that takes its time leaves some for what was not announced.
            self.state = State::Closing(match is_small && self.inbox.bytes().is_empty() {
                true => exchange.linger,
                false => LingerMode::Required,
            });
        }
        self.push_response(response, exchange, (persistence, coding), further, cx);
    }

    fn push_response(
        &mut self,
        response: Response,
        exchange: Exchange,
        (persistence, coding): (Persistence, StreamCoding),
        further_requests: Option<u32>,
        cx: &mut Context,
    ) {
        let status = response.status();
        let bodiless = status == StatusCode::NOT_MODIFIED || status == StatusCode::NO_CONTENT;
        let connection = ConnectionFields {
            date: cx.date.as_bytes(),
            persistence,
            keep_alive_seconds: cx.keep_alive_seconds,
            further_requests,
            length: match coding {
                _ if bodiless => Length::Unsaid,
                StreamCoding::Length { left } => Length::Bytes(left),
                StreamCoding::Chunked => Length::Chunked,
                StreamCoding::UntilClose => Length::Unsaid,
            },
        };
        let buffer = self.outbox.head_buffer(&mut cx.buffers);
        let head_at = buffer.len();
        encode_head(buffer, &response, &connection);
        let content_start = self.outbox.end();
        let body = match response.into_body() {
            // RFC 9110 §9.3.2: the length is told, the content is not sent.
            _ if bodiless || exchange.send_body == SendBody::HeadOnly => Body::Empty,
            body => body,
        };
        let is_stream = matches!(body, Body::Stream(_));
        self.outbox.push_content(body, coding, head_at);
        if let Some(info) = exchange.info {
            let end = self.outbox.end();
            self.outbox.push_pending(InFlightRecord {
                info: *info,
                status,
                content_start,
                // That of a stream is known when it is there.
                end: if is_stream { u64::MAX } else { end },
            });
        }
    }

    /// The piece that was asked for, with the source of the next, or the end of the stream.
    pub(crate) fn on_piece(
        &mut self,
        piece: io::Result<Option<(Bytes, BodySource)>>,
        cx: &mut Context,
    ) {
        match piece {
            Ok(piece) => {
                if self.outbox.push_piece(piece, &mut cx.buffers) == Promise::Broken {
                    log::error!(
                        "response body: length differs from Content-Length; connection closed"
                    );
                    self.on_lost(CloseReason::ContentCutShort);
                }
            }
            Err(error) => {
                log::error!("response body: {error}; connection closed");
                self.on_lost(CloseReason::ContentCutShort);
            }
        }
    }

    /// The beginning of the range that was asked for is in memory, or it cannot be read.
    pub(crate) fn on_memory(&mut self, at_hand: io::Result<Resident>, cx: &mut Context) {
        match at_hand {
            Ok(at_hand) => self.outbox.set_in_memory(at_hand),
            Err(error) => {
                let reason = match self.outbox.passage() {
                    Some(TransferProgress { info, .. }) => {
                        let line = String::from_utf8_lossy(&info.line);
                        format!("{line:?}: cannot read the file: {error}")
                    }
                    // Nobody records which request that was.
                    None => format!("cannot read a file: {error}"),
                };
                match self.outbox.take_back_file() {
                    Some(info) => self.fail(&reason, info, cx),
                    None => {
                        log::error!("{reason}");
                        self.on_lost(CloseReason::ContentCutShort);
                    }
                }
            }
        }
    }

    /// Answers with a 500 in place of a reply that was taken back.
    fn fail(&mut self, reason: &str, info: Option<RequestInfo>, cx: &mut Context) {
        let response = Response::fault(reason);
        let exchange = Exchange {
            head_len: 0,
            send_body: SendBody::Yes,
            version: Version::HTTP_11,
            persistence: Persistence::Close,
            linger: LingerMode::Required,
            info: info.map(Box::new),
        };
        let left = response.body().length().unwrap_or(0);
        let framing = (Persistence::Close, StreamCoding::Length { left });
        self.state = State::Closing(LingerMode::Required);
        self.push_response(response, exchange, framing, None, cx);
    }

    /// Nothing is sent for a while: the peer takes nothing more, or its turn is later.
    pub(crate) fn on_pause(&mut self) {
        self.outbox.forget_memory();
    }

    /// `count` bytes of the segment are sent.
    pub(crate) fn on_sent(&mut self, count: usize) {
        self.outbox.on_sent(count);
    }

    /// The peer will send nothing more. What it has sent is still answered.
    pub(crate) fn on_end_of_input(&mut self) {
        self.input = Input::Ended;
    }

    /// Asked when there is nothing to read at the moment: true if the connection ends because the
    /// server shuts down and the peer is not in the middle of something.
    pub(crate) fn leaves_when_quiet(&mut self, cx: &Context) -> bool {
        // The first request of a new connection may be on its way.
        let idle = matches!(self.state, State::Idle) && self.requests > 0 && self.outbox.is_empty();
        let leaves = idle && cx.service == DrainState::Draining;
        if leaves {
            self.on_lost(CloseReason::Drained);
        }
        leaves
    }

    /// What [`timer`](Self::timer) names has taken too long.
    pub(crate) fn on_timeout(&mut self, cx: &mut Context) {
        const TOO_SLOW: Rejection =
            Rejection::new(StatusCode::REQUEST_TIMEOUT, "request timed out");
        match (
            self.timer(),
            std::mem::replace(&mut self.state, State::Idle),
        ) {
            (Timer::Header, State::Head { started, .. }) => {
                self.refuse(TOO_SLOW, started, cx);
            }
            (Timer::Body, State::Content(receiving)) => {
                self.state = State::Refusing(receiving, TOO_SLOW);
            }
            (Timer::Body, State::Streaming(receiving, writer)) => {
                writer.fail(io::ErrorKind::TimedOut, TOO_SLOW.reason());
                self.state = State::Spoilt(receiving, TOO_SLOW);
            }
            (Timer::Handler, state) => self.state = state,
            (_, state) => {
                self.state = state;
                self.on_lost(CloseReason::TimedOut);
            }
        }
    }

    /// The connection cannot go on. A request that is not answered yet is recorded as it is.
    pub(crate) fn on_lost(&mut self, reason: CloseReason) {
        let exchange = match std::mem::replace(&mut self.state, State::Closed(reason)) {
            State::Handling(exchange) => exchange,
            State::HandlingContent(receiving)
            | State::AwaitingAdmission(receiving)
            | State::Content(receiving)
            | State::Announcing(receiving, _)
            | State::Streaming(receiving, _)
            | State::Spoilt(receiving, _)
            | State::Refusing(receiving, _) => receiving.exchange,
            State::Idle
            | State::Head { .. }
            | State::Closing(_)
            | State::Lingering { .. }
            | State::Closed(_) => return,
        };
        if let Some(info) = exchange.info {
            self.outbox.push_pending(InFlightRecord::unanswered(*info));
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
            State::Idle => Timer::KeepAlive,
            State::Head { .. } => Timer::Header,
            State::Content(_) => Timer::Body,
            State::Streaming(_, writer) if writer.has_room() => Timer::Body,
            State::AwaitingAdmission(_)
            | State::Announcing(..)
            | State::Streaming(..)
            | State::Spoilt(..)
            | State::Refusing(..)
            | State::Handling(_)
            | State::HandlingContent(_) => Timer::Handler,
            State::Closing(_) | State::Lingering { .. } | State::Closed(_) => Timer::Linger,
        }
    }

    /// True if nothing more is to be done but to close.
    pub(crate) fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed(_))
    }

    /// Whether a handler has taken the content that is coming in, and waits for the whole of it.
    pub(crate) fn is_admitted(&self) -> bool {
        matches!(self.state, State::Content(_))
    }

    /// How many requests have begun to be answered: when it changes, so does what a timer is for.
    pub(crate) fn requests(&self) -> u32 {
        self.requests
    }

    /// True while what is to be sent is bulk, which can wait for its turn.
    pub(crate) fn is_sending_bulk(&self) -> bool {
        self.outbox.has_bulk()
    }

    /// The content that is on its way, if there is one that takes more than a moment.
    pub(crate) fn passage(&self) -> Option<TransferProgress<'_>> {
        match &self.state {
            State::Content(receiving) => receiving.passage(None),
            State::Streaming(receiving, writer) => {
                receiving.passage((!writer.has_room()).then_some(StalledOn::Handler))
            }
            _ => self.outbox.passage(),
        }
    }

    /// Returns the memory that holds nothing.
    pub(crate) fn rest(&mut self, cx: &mut Context) {
        self.inbox.rest(&mut cx.buffers);
        self.outbox.rest(&mut cx.buffers);
    }

    fn flush_or(&mut self, otherwise: Step) -> Step {
        if self.outbox.is_empty() {
            otherwise
        } else {
            self.flush()
        }
    }

    fn flush(&mut self) -> Step {
        match self.outbox.need() {
            Need::Write => Step::Write,
            Need::Memory(range) => Step::Memory(range),
            Need::Piece(source) => Step::Produce(source),
            Need::Wait => Step::Wait,
        }
    }

    /// RFC 9112 §9.6: first our side, then, when the peer has closed its own, the connection.
    /// Closing at once would let whatever the peer still sends reset the connection, and the reset
    /// could overtake our reply. A peer that has said its linger does not do that.
    fn close_when_flushed(&mut self, linger: LingerMode, cx: &Context) -> Step {
        if !self.outbox.is_empty() {
            return self.flush();
        }
        match self.input {
            Input::Open if linger == LingerMode::Required => {
                let bytes = cx.limits.max_linger_bytes;
                self.state = State::Lingering { bytes };
                Step::ShutdownWrite
            }
            Input::Open | Input::Ended => self.close(CloseReason::Finished),
        }
    }

    fn close(&mut self, reason: CloseReason) -> Step {
        self.state = State::Closed(reason);
        Step::Again
    }
}

fn asks_to_close(response: &Response) -> bool {
    let value = response.headers().get(CONNECTION);
    value.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"close"))
}
