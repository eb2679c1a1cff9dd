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

use super::chunked::Decoder;
use super::context::{Context, Recording, Service};
use super::framing::{Framing, Persistence};
use super::head::{self, Expectation, Head};
use super::inbox::{Inbox, Scan, scan_head};
use super::outbox::{Need, Outbox, Segment, StreamCoding};
use super::record::{Draft, Pending, Record};
use super::reply::{ConnectionFields, Length, encode_head};
use crate::http::{Body, FieldSpan, Fields, Produce, Refusal, Request, Response};

#[derive(Debug)]
pub(crate) struct Machine {
    state: State,
    inbox: Inbox,
    outbox: Outbox,
    input: Input,
    /// Requests whose head was read.
    requests: u32,
    peer: SocketAddr,
}

#[derive(Debug)]
enum State {
    /// Between requests.
    Idle,
    /// Part of a head is there, up to `scanned` in whole lines.
    Head { scanned: usize, started: Instant },
    /// The head is there, the content is not.
    Content(Box<Receiving>),
    /// A handler has the request.
    Handling(Exchange),
    /// The last reply is on its way.
    Closing(Farewell),
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

/// A request whose content is coming in.
#[derive(Debug)]
struct Receiving {
    head: Head,
    spans: Vec<FieldSpan>,
    decoder: ContentDecoder,
    content: Vec<u8>,
    started: Instant,
}

#[derive(Debug)]
enum ContentDecoder {
    Length { left: u64 },
    Chunked(Decoder),
}

/// All that a reply needs to know of its request.
#[derive(Debug)]
struct Exchange {
    /// The request's bytes that still stand in the inbox.
    head_len: usize,
    /// The content, which the handler may be reading.
    content: Vec<u8>,
    method: Method,
    version: Version,
    persistence: Persistence,
    farewell: Farewell,
    draft: Option<Box<Draft>>,
}

/// How a connection that is not kept is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Farewell {
    /// The peer asked for it and has nothing more to say.
    Plain,
    /// The peer may still be sending: it must get our reply before a reset.
    Linger,
}

/// Why a TCP connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CloseReason {
    /// As agreed, after the last reply.
    Finished,
    /// The peer left between requests.
    PeerLeft,
    /// The server shuts down.
    Drained,
    /// One of the timeouts; the state says which.
    TimedOut,
    /// A file became shorter while it was sent: the length that was promised cannot be kept.
    ContentCutShort,
    /// Reading or writing failed: a reset, most often.
    Broken,
}

/// What the driver is to do next.
#[derive(Debug)]
pub(crate) enum Next<'a> {
    /// Read once into this room (append to it), then say [`Machine::on_end_of_input`] if that
    /// was the end.
    Read(&'a mut Vec<u8>),
    /// Answer with [`Machine::on_reply`], now or later.
    Handle(Request<'a>),
    /// Answer a request that is refused with [`Machine::on_reply`].
    Refuse(Request<'a>, Refusal),
    /// Write this or a part of it and say [`Machine::on_sent`].
    Write(Segment<'a>),
    /// Nothing, until the handler's reply is there.
    Wait,
    /// Have a piece of this made and say [`Machine::on_piece`], now or later.
    Produce(Box<dyn Produce>),
    /// Write this to the access log.
    Log(Record),
    /// Tell the peer that nothing more will come.
    ShutdownWrite,
    /// Close the socket. Nothing is asked for afterwards.
    Close(CloseReason),
}

/// What a connection waits for, which decides how long it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Timer {
    /// For a request to begin; from the last reply on.
    KeepAlive,
    /// For a head; from its first byte on.
    Header,
    /// For content; from the last bytes of it on.
    Body,
    /// For the peer to take some of a reply; from the last bytes it took on.
    Send,
    /// For the peer to close; from our last byte on.
    Linger,
    /// For the handler, which has all the time.
    Handler,
}

/// [`Next`] without borrows, so that deciding and lending are apart.
enum Step {
    Again,
    Read,
    Handle(Head),
    Refuse(Head, Refusal),
    Write,
    Wait,
    Produce(Box<dyn Produce>),
    Log(Record),
    ShutdownWrite,
    Close(CloseReason),
}

impl Machine {
    pub(crate) fn new(peer: SocketAddr) -> Self {
        Self {
            state: State::Idle,
            inbox: Inbox::default(),
            outbox: Outbox::default(),
            input: Input::Open,
            requests: 0,
            peer,
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
            Step::Handle(head) => Next::Handle(self.request(head, &cx.spans)),
            Step::Refuse(head, refusal) => Next::Refuse(self.request(head, &cx.spans), refusal),
            Step::Write => Next::Write(self.outbox.segment()),
            Step::Produce(producer) => Next::Produce(producer),
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
            State::Content(_) => self.read_content(cx),
            State::Handling(_) => self.flush_or(Step::Wait),
            State::Closing(farewell) => {
                let farewell = *farewell;
                self.close_when_flushed(farewell, cx)
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
        match scan_head(bytes, scanned) {
            Scan::BareLf => self.refuse(Refusal::bad_request("bare LF in the head"), started, cx),
            Scan::Complete(len) if len > cx.limits.max_head_bytes => {
                self.refuse(head::HEAD_TOO_LARGE, started, cx)
            }
            Scan::Complete(len) => match Head::parse(&bytes[..len], &mut cx.spans, &cx.limits) {
                Ok(head) => self.on_head(head, started, cx),
                Err(refusal) => self.refuse(refusal, started, cx),
            },
            Scan::Incomplete(lines) => {
                match check_incomplete(bytes, scanned, lines, cx) {
                    Err(refusal) => return self.refuse(refusal, started, cx),
                    Ok(()) => {
                        self.state = State::Head {
                            scanned: lines,
                            started,
                        };
                    }
                }
                if self.input == Input::Ended {
                    const CUT: Refusal = Refusal::bad_request("the request ended in its head");
                    return self.refuse(CUT, started, cx);
                }
                self.flush_or(Step::Read)
            }
        }
    }

    fn on_head(&mut self, head: Head, started: Instant, cx: &mut Context) -> Step {
        const TOO_LARGE: Refusal = Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "content too large");
        const UNKNOWN_EXPECTATION: Refusal = Refusal::new(
            StatusCode::EXPECTATION_FAILED,
            "the only expectation met here is 100-continue",
        );
        self.requests = self.requests.saturating_add(1);
        if head.expectation == Expectation::Unknown {
            return self.refuse_request(head, UNKNOWN_EXPECTATION, started, cx);
        }
        let decoder = match head.framing {
            Framing::None => return self.handle(head, Vec::new(), started, cx),
            Framing::Length(length) if length > cx.limits.max_content_bytes as u64 => {
                return self.refuse_request(head, TOO_LARGE, started, cx);
            }
            Framing::Length(left) => ContentDecoder::Length { left },
            Framing::Chunked => ContentDecoder::Chunked(Decoder::new(cx.limits.max_head_bytes)),
        };
        // RFC 9110 §10.1.1: not if some of the content has come already.
        let waits = head.expectation == Expectation::Continue;
        if waits && self.inbox.bytes().len() == head.len {
            let buffer = self.outbox.head_buffer(&mut cx.buffers);
            buffer.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
        }
        self.state = State::Content(Box::new(Receiving {
            head,
            spans: cx.spans.clone(),
            decoder,
            content: Vec::new(),
            started,
        }));
        Step::Again
    }

    fn read_content(&mut self, cx: &mut Context) -> Step {
        let State::Content(mut receiving) = std::mem::replace(&mut self.state, State::Idle) else {
            return Step::Again;
        };
        let head_len = receiving.head.len;
        let input = &self.inbox.bytes()[head_len..];
        match receiving.decode(input, cx.limits.max_content_bytes) {
            Err(refusal) => {
                cx.spans = receiving.spans;
                self.refuse_request(receiving.head, refusal, receiving.started, cx)
            }
            Ok(Progress::Complete(taken)) => {
                self.inbox.consume_behind(head_len, taken);
                cx.spans = receiving.spans;
                self.handle(receiving.head, receiving.content, receiving.started, cx)
            }
            Ok(Progress::Incomplete(_)) if self.input == Input::Ended => {
                const CUT: Refusal = Refusal::bad_request("the request ended in its content");
                cx.spans = receiving.spans;
                self.refuse_request(receiving.head, CUT, receiving.started, cx)
            }
            Ok(Progress::Incomplete(taken)) => {
                self.inbox.consume_behind(head_len, taken);
                self.state = State::Content(receiving);
                self.flush_or(Step::Read)
            }
        }
    }

    fn handle(&mut self, head: Head, content: Vec<u8>, started: Instant, cx: &mut Context) -> Step {
        let farewell = match head.persistence {
            Persistence::Close if self.inbox.bytes().len() == head.len => Farewell::Plain,
            _ => Farewell::Linger,
        };
        let exchange = self.exchange(&head, started, cx);
        self.state = State::Handling(Exchange {
            content,
            farewell,
            ..exchange
        });
        Step::Handle(head)
    }

    fn refuse_request(
        &mut self,
        head: Head,
        refusal: Refusal,
        started: Instant,
        cx: &Context,
    ) -> Step {
        let exchange = self.exchange(&head, started, cx);
        self.state = State::Handling(Exchange {
            persistence: Persistence::Close,
            ..exchange
        });
        Step::Refuse(head, refusal)
    }

    fn exchange(&self, head: &Head, started: Instant, cx: &Context) -> Exchange {
        let bytes = &self.inbox.bytes()[..head.len];
        let fields = Fields::new(bytes, &cx.spans);
        Exchange {
            head_len: head.len,
            content: Vec::new(),
            method: head.method.clone(),
            version: head.version,
            persistence: head.persistence,
            farewell: Farewell::Linger,
            draft: self.draft(bytes, &fields, started, cx),
        }
    }

    /// Answers what is no request, as far as can be said; nobody else sees it.
    fn refuse(&mut self, refusal: Refusal, started: Instant, cx: &mut Context) -> Step {
        let bytes = self.inbox.bytes();
        let draft = self.draft(bytes, &Fields::default(), started, cx);
        self.state = State::Handling(Exchange {
            head_len: bytes.len(),
            content: Vec::new(),
            // A GET: the answer has content whatever the method was.
            method: Method::GET,
            version: Version::HTTP_11,
            persistence: Persistence::Close,
            farewell: Farewell::Linger,
            draft,
        });
        self.on_reply(refusal.into(), cx);
        Step::Again
    }

    fn draft(
        &self,
        bytes: &[u8],
        fields: &Fields<'_>,
        started: Instant,
        cx: &Context,
    ) -> Option<Box<Draft>> {
        if cx.recording == Recording::Off {
            return None;
        }
        let line_end = bytes.iter().position(|byte| matches!(byte, b'\r' | b'\n'));
        let line = &bytes[..line_end.unwrap_or(bytes.len())];
        Some(Box::new(Draft {
            peer: self.peer,
            line: line[..line.len().min(cx.limits.max_head_bytes)].to_vec(),
            referer: fields.first("referer").map(<[u8]>::to_vec),
            user_agent: fields.first("user-agent").map(<[u8]>::to_vec),
            started,
        }))
    }

    fn request<'a>(&'a self, head: Head, spans: &'a [FieldSpan]) -> Request<'a> {
        let bytes = &self.inbox.bytes()[..head.len];
        let content = match &self.state {
            State::Handling(exchange) => &exchange.content[..],
            _ => &[],
        };
        head.into_request(bytes, spans, self.peer)
            .with_borrowed_content(content)
    }

    /// The reply to the request that was handed out last.
    pub(crate) fn on_reply(&mut self, response: Response, cx: &mut Context) {
        let State::Handling(exchange) = std::mem::replace(&mut self.state, State::Idle) else {
            debug_assert!(false, "a reply without a request");
            return;
        };
        self.inbox.consume(exchange.head_len);
        let answered = self.requests.saturating_sub(1);
        let further = cx
            .limits
            .keep_alive_max
            .map(|max| max.saturating_sub(answered));
        let keeps = exchange.persistence == Persistence::KeepAlive
            && further != Some(0)
            && cx.service == Service::Open
            && !asks_to_close(&response);
        let coding = match exchange.version {
            Version::HTTP_10 => StreamCoding::UntilClose,
            _ => StreamCoding::Chunked,
        };
        let keeps =
            keeps && (response.body().length().is_some() || coding == StreamCoding::Chunked);
        let persistence = if keeps {
            Persistence::KeepAlive
        } else {
            Persistence::Close
        };
        if !keeps {
            self.state = State::Closing(exchange.farewell);
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
            length: match response.body().length() {
                _ if bodiless => Length::Unsaid,
                Some(length) => Length::Bytes(length),
                None if coding == StreamCoding::Chunked => Length::Chunked,
                None => Length::Unsaid,
            },
        };
        let buffer = self.outbox.head_buffer(&mut cx.buffers);
        encode_head(buffer, status, response.headers(), &connection);
        let content_start = self.outbox.end();
        let body = match response.into_body() {
            // RFC 9110 §9.3.2: the length is told, the content is not sent.
            _ if bodiless || exchange.method == Method::HEAD => Body::Empty,
            body => body,
        };
        let is_stream = matches!(body, Body::Stream(_));
        self.outbox.push_content(body, coding);
        if let Some(draft) = exchange.draft {
            let end = self.outbox.end();
            self.outbox.push_pending(Pending {
                draft: *draft,
                status,
                content_start,
                // That of a stream is known when it is there.
                end: if is_stream { u64::MAX } else { end },
            });
        }
    }

    /// The piece that was asked for, with its producer, or the end of the stream.
    pub(crate) fn on_piece(
        &mut self,
        piece: io::Result<Option<(Bytes, Box<dyn Produce>)>>,
        cx: &mut Context,
    ) {
        match piece {
            Ok(piece) => self.outbox.push_piece(piece, &mut cx.buffers),
            Err(error) => {
                log::error!("a content that is made piece by piece: {error}");
                self.on_lost(CloseReason::ContentCutShort);
            }
        }
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
        let idle = matches!(self.state, State::Idle) && self.outbox.is_empty();
        let leaves = idle && cx.service == Service::Draining;
        if leaves {
            self.on_lost(CloseReason::Drained);
        }
        leaves
    }

    /// What [`timer`](Self::timer) names has taken too long.
    pub(crate) fn on_timeout(&mut self, cx: &mut Context) {
        const TOO_SLOW: Refusal =
            Refusal::new(StatusCode::REQUEST_TIMEOUT, "the request took too long");
        match self.timer() {
            Timer::Header | Timer::Body => {
                self.refuse(TOO_SLOW, cx.now, cx);
            }
            Timer::KeepAlive | Timer::Send | Timer::Linger => self.on_lost(CloseReason::TimedOut),
            Timer::Handler => {}
        }
    }

    /// The connection cannot go on.
    pub(crate) fn on_lost(&mut self, reason: CloseReason) {
        self.state = State::Closed(reason);
    }

    /// What the connection waits for.
    pub(crate) fn timer(&self) -> Timer {
        if self.outbox.is_waiting() {
            return Timer::Handler;
        }
        if !self.outbox.is_empty() {
            return Timer::Send;
        }
        match self.state {
            State::Idle => Timer::KeepAlive,
            State::Head { .. } => Timer::Header,
            State::Content(_) => Timer::Body,
            State::Handling(_) => Timer::Handler,
            State::Closing(_) | State::Lingering { .. } | State::Closed(_) => Timer::Linger,
        }
    }

    /// How many requests have begun to be answered: when it changes, so does what a timer is for.
    pub(crate) fn requests(&self) -> u32 {
        self.requests
    }

    /// True while what is to be sent is bulk, which can wait for its turn.
    pub(crate) fn is_sending_bulk(&self) -> bool {
        self.outbox.has_bulk()
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
            Need::Piece(producer) => Step::Produce(producer),
            Need::Wait => Step::Wait,
        }
    }

    fn close_when_flushed(&mut self, farewell: Farewell, cx: &Context) -> Step {
        if !self.outbox.is_empty() {
            return self.flush();
        }
        match farewell {
            Farewell::Linger if self.input == Input::Open => {
                let bytes = cx.limits.max_linger_bytes;
                self.state = State::Lingering { bytes };
                Step::ShutdownWrite
            }
            _ => self.close(CloseReason::Finished),
        }
    }

    fn close(&mut self, reason: CloseReason) -> Step {
        self.state = State::Closed(reason);
        Step::Again
    }
}

enum Progress {
    /// So many bytes of the input were the rest of the content.
    Complete(usize),
    /// So many bytes were content, and more must come.
    Incomplete(usize),
}

impl Receiving {
    fn decode(&mut self, input: &[u8], max_content: usize) -> Result<Progress, Refusal> {
        let (taken, complete) = match &mut self.decoder {
            ContentDecoder::Length { left } => {
                let taken = input
                    .len()
                    .min(usize::try_from(*left).unwrap_or(usize::MAX));
                self.content.extend_from_slice(&input[..taken]);
                *left -= taken as u64;
                (taken, *left == 0)
            }
            ContentDecoder::Chunked(decoder) => {
                let taken = decoder.decode(input, &mut self.content, max_content)?;
                (taken, decoder.is_done())
            }
        };
        Ok(if complete {
            Progress::Complete(taken)
        } else {
            Progress::Incomplete(taken)
        })
    }
}

/// Judges a head whose end has not come: its size, and its request line as soon as that is whole.
fn check_incomplete(
    bytes: &[u8],
    scanned: usize,
    lines: usize,
    cx: &Context,
) -> Result<(), Refusal> {
    /// Room for a method, a version and two spaces beside the longest target.
    const METHOD_AND_VERSION_BYTES: usize = 64;
    if lines == 0 && bytes.len() > cx.limits.max_target_bytes + METHOD_AND_VERSION_BYTES {
        return Err(head::TARGET_TOO_LONG);
    }
    if bytes.len() > cx.limits.max_head_bytes {
        return Err(head::HEAD_TOO_LARGE);
    }
    if scanned == 0 && lines > 0 {
        let line_end = bytes.iter().position(|&byte| byte == b'\n');
        return head::check_request_line(&bytes[..line_end.map_or(lines, |at| at + 1)]);
    }
    Ok(())
}

fn asks_to_close(response: &Response) -> bool {
    let value = response.headers().get(CONNECTION);
    value.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"close"))
}
