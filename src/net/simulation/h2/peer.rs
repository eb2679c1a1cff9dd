//! The simulated client of an HTTP/2 connection: valid in all it sends, in any order and in any parts.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;

use super::services::{Exchange, MultiplexedServices};
use crate::net::simulation::publisher::PIECE_BYTE;
use crate::net::simulation::rng::Rng;
use crate::net::simulation::wire::Wire;
use crate::proto::HTTP2_PREFACE;
use crate::proto::h2::hpack::{DecodedFields, Decoder, FieldBudget};
use crate::proto::record::Completion;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const PRIORITY_UPDATE: u8 = 16;
const UNKNOWN: u8 = 200;

const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;

const NO_ERROR: u32 = 0;
const CANCEL: u32 = 8;

const DEFAULT_WINDOW: i64 = 65_535;
const MAX_FRAME: usize = 16_384;

/// How the client ends its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PeerEnd {
    /// It never closes.
    Stays,
    /// It shuts down its sending side and continues to read.
    HalfCloses,
    Closes,
    Resets,
}

/// A request and what has been received for it.
#[derive(Default)]
struct PeerStream {
    method: &'static str,
    body: Vec<u8>,
    sent: usize,
    end_sent: bool,
    /// How much may be sent, and received.
    send_window: i64,
    receive_window: i64,
    /// Received bytes for which no window was given.
    owed: i64,
    status: Option<u16>,
    content: Vec<u8>,
    ended: bool,
    reset_by_server: Option<u32>,
    reset_by_peer: bool,
}

impl PeerStream {
    fn is_over(&self) -> bool {
        self.ended || self.reset_by_server.is_some() || self.reset_by_peer
    }

    fn has_body_left(&self) -> bool {
        !self.end_sent && !self.is_over()
    }
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let open = self.streams.iter().filter(|(_, stream)| !stream.is_over());
        f.debug_struct("Peer")
            .field("out", &self.out.len())
            .field("parsed", &self.parsed)
            .field("send_window", &self.send_window)
            .field("receive_window", &self.receive_window)
            .field("requests_left", &self.requests_left)
            .field("goaway", &self.goaway)
            .field("ended", &self.ended)
            .field(
                "open",
                &open
                    .map(|(id, stream)| {
                        (
                            id,
                            stream.sent,
                            stream.content.len(),
                            stream.receive_window,
                            stream.owed,
                        )
                    })
                    .collect::<Vec<_>>(),
            )
            .finish_non_exhaustive()
    }
}

pub(super) struct Peer {
    rng: Rng,
    /// Bytes to be sent.
    out: VecDeque<u8>,
    /// Bytes of the server's output that were received, and parsed.
    taken: usize,
    parsed: usize,
    decoder: Decoder,
    streams: BTreeMap<u32, PeerStream>,
    next_id: u32,
    requests_left: usize,
    max_body: usize,
    send_window: i64,
    receive_window: i64,
    owed: i64,
    /// That of the server's streams, and of the client's.
    initial_send_window: i64,
    initial_receive_window: i64,
    /// A smaller window that the server has not acknowledged: for streams below this one, by so much.
    pending_decrease: Option<(u32, i64)>,
    unacknowledged_settings: usize,
    unanswered_pings: usize,
    /// Frames that a client may send only a limited number of.
    frames_left: usize,
    /// Whether windows are given.
    is_generous: bool,
    goaway: Option<u32>,
    end: PeerEnd,
    ends_early: bool,
    ended: bool,
    /// The number of bytes it reads in total.
    reads: usize,
    timed_out: bool,
}

impl Peer {
    pub(super) fn new(mut rng: Rng, max_body: usize) -> Self {
        let initial_receive_window = match rng.below(3) {
            0 => DEFAULT_WINDOW,
            _ => 2000 + rng.size(300_000) as i64,
        };
        let mut peer = Self {
            out: HTTP2_PREFACE.iter().copied().collect(),
            taken: 0,
            parsed: 0,
            decoder: Decoder::new(),
            streams: BTreeMap::new(),
            next_id: 1,
            requests_left: rng.size(40),
            max_body,
            send_window: DEFAULT_WINDOW,
            receive_window: DEFAULT_WINDOW,
            owed: 0,
            initial_send_window: DEFAULT_WINDOW,
            initial_receive_window,
            pending_decrease: None,
            unacknowledged_settings: 1,
            unanswered_pings: 0,
            frames_left: rng.below(30),
            is_generous: !rng.one_in(10),
            goaway: None,
            end: match rng.below(6) {
                0 => PeerEnd::Stays,
                1 => PeerEnd::Closes,
                2 => PeerEnd::Resets,
                _ => PeerEnd::HalfCloses,
            },
            ends_early: rng.one_in(8),
            ended: false,
            reads: if rng.one_in(10) {
                rng.size(300_000)
            } else {
                usize::MAX
            },
            timed_out: false,
            rng,
        };
        let window = u32::try_from(initial_receive_window).expect("a window");
        let setting = [&4_u16.to_be_bytes()[..], &window.to_be_bytes()].concat();
        peer.frame(SETTINGS, 0, 0, &setting);
        peer
    }

    fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let len = payload.len() as u32;
        self.out.extend(&len.to_be_bytes()[1..]);
        self.out.extend([kind, flags]);
        self.out.extend(stream.to_be_bytes());
        self.out.extend(payload);
    }

    /// The body of a request.
    pub(super) fn body(&self, id: u32) -> &[u8] {
        self.streams.get(&id).map_or(&[], |stream| &stream.body)
    }

    pub(super) fn reads(&self) -> bool {
        self.reads > 0
    }

    pub(super) fn timed_out(&self) -> bool {
        self.timed_out
    }

    /// A time limit has passed: from now on streams may be reset, and the connection closed.
    pub(super) fn on_timeout(&mut self) {
        self.timed_out = true;
    }

    pub(super) fn has_output(&self) -> bool {
        !self.out.is_empty() && !self.ended
    }

    fn can_request(&self) -> bool {
        let open = self.streams.values().filter(|stream| !stream.is_over());
        self.requests_left > 0 && self.goaway.is_none() && open.count() < 90
    }

    /// The streams on which some of a body can be sent.
    fn sendable(&self) -> Vec<u32> {
        let can_send = |stream: &PeerStream| {
            let has_window = self.send_window > 0 && stream.send_window > 0;
            stream.has_body_left() && (has_window || stream.sent == stream.body.len())
        };
        let sendable = self.streams.iter().filter(|(_, stream)| can_send(stream));
        sendable.map(|(id, _)| *id).collect()
    }

    /// The streams, and the connection (0), that are owed a window.
    fn owing(&self) -> Vec<u32> {
        if !self.is_generous {
            return Vec::new();
        }
        let owes = |stream: &PeerStream| stream.owed > 0 && !stream.is_over();
        let streams = self.streams.iter().filter(|(_, stream)| owes(stream));
        let connection = (self.owed > 0).then_some(0);
        connection
            .into_iter()
            .chain(streams.map(|(id, _)| *id))
            .collect()
    }

    pub(super) fn can_act(&self) -> bool {
        !self.ended
            && (self.can_request()
                || !self.sendable().is_empty()
                || !self.owing().is_empty()
                || self.frames_left > 0)
    }

    /// Does one thing, which appends to what is to be sent.
    pub(super) fn act(&mut self) {
        match self.rng.below(8) {
            0 | 1 if self.can_request() => self.request(),
            2..5 => {
                let sendable = self.sendable();
                if let Some(id) = self.any(&sendable) {
                    self.send_data(id);
                }
            }
            5 | 6 => {
                let owing = self.owing();
                if let Some(id) = self.any(&owing) {
                    self.give_window(id);
                }
            }
            _ if self.frames_left > 0 => {
                self.frames_left -= 1;
                self.send_other_frame();
            }
            _ => {}
        }
    }

    fn any(&mut self, ids: &[u32]) -> Option<u32> {
        ids.get(self.rng.below(ids.len())).copied()
    }

    fn request(&mut self) {
        self.requests_left -= 1;
        let id = self.next_id;
        self.next_id += 2 * (1 + self.rng.below(2) as u32);
        let method = ["GET", "GET", "HEAD", "POST", "POST"][self.rng.below(5)];
        let body: Vec<u8> = match method {
            "POST" => {
                let len = self.rng.size(self.max_body);
                (0..len)
                    .map(|at| (at as u64).wrapping_mul(0x9E37_79B9) as u8)
                    .collect()
            }
            _ => Vec::new(),
        };
        let path = format!("/{id}");
        let mut fields = vec![
            (":method", method),
            (":scheme", "http"),
            (":authority", "h"),
            (":path", &path),
        ];
        let length = body.len().to_string();
        if method == "POST" && self.rng.one_in(2) {
            fields.push(("content-length", &length));
        }
        if method == "POST" && self.rng.one_in(4) {
            fields.push(("expect", "100-continue"));
        }
        let padding = "x".repeat(self.rng.size(self.max_body.min(10_000)));
        if self.rng.one_in(8) {
            fields.push(("x-padding", &padding));
        }
        let mut block = Vec::new();
        for (name, value) in fields {
            push_literal(&mut block, name, value);
        }
        let end_stream = if body.is_empty() { END_STREAM } else { 0 };
        self.send_block(id, end_stream, &block);
        let stream = PeerStream {
            method,
            end_sent: body.is_empty(),
            body,
            send_window: self.initial_send_window,
            receive_window: self.initial_receive_window,
            ..PeerStream::default()
        };
        self.streams.insert(id, stream);
    }

    /// Sends a header block in one frame or in several, possibly padded.
    fn send_block(&mut self, id: u32, flags: u8, block: &[u8]) {
        let parts = if self.rng.one_in(3) {
            1 + self.rng.below(4)
        } else {
            1
        };
        let mut rest = block;
        for part in 0..parts {
            let is_last = part + 1 == parts;
            let len = if is_last {
                rest.len()
            } else {
                1 + self.rng.below(rest.len() / 2)
            };
            let (fragment, after) = rest.split_at(len.min(rest.len()));
            rest = after;
            let end_headers = if is_last { END_HEADERS } else { 0 };
            if part > 0 {
                self.frame(CONTINUATION, end_headers, id, fragment);
            } else if self.rng.one_in(4) {
                let padded = self.pad(fragment);
                self.frame(HEADERS, flags | end_headers | PADDED, id, &padded);
            } else {
                self.frame(HEADERS, flags | end_headers, id, fragment);
            }
        }
    }

    fn pad(&mut self, content: &[u8]) -> Vec<u8> {
        let padding = self.rng.below(20);
        let zeros = vec![0; padding];
        [&[padding as u8], content, &zeros].concat()
    }

    fn send_data(&mut self, id: u32) {
        let padded = self.rng.one_in(6);
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        let left = stream.body.len() - stream.sent;
        let window = self.send_window.min(stream.send_window).max(0) as usize;
        let mut len = left.min(window).min(MAX_FRAME);
        if self.rng.one_in(3) {
            len = self.rng.size(len.max(1)).min(len);
        }
        let data = stream.body[stream.sent..stream.sent + len].to_vec();
        let is_last = len == left;
        // Padding must fit into the window, too.
        let padded = padded && len + 21 <= window && len + 21 <= MAX_FRAME && len > 0;
        let payload = if padded { self.pad(&data) } else { data };
        let flow = payload.len() as i64;
        let flags = if is_last { END_STREAM } else { 0 } | if padded { PADDED } else { 0 };
        self.frame(DATA, flags, id, &payload);
        self.send_window -= flow;
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.sent += len;
            stream.send_window -= flow;
            stream.end_sent = is_last;
        }
    }

    fn give_window(&mut self, id: u32) {
        let owed = match id {
            0 => &mut self.owed,
            id => match self.streams.get_mut(&id) {
                Some(stream) => &mut stream.owed,
                None => return,
            },
        };
        let given = std::mem::take(owed);
        self.enlarge(id, given);
    }

    fn enlarge(&mut self, id: u32, by: i64) {
        let increment = u32::try_from(by).expect("an increment");
        self.frame(WINDOW_UPDATE, 0, id, &increment.to_be_bytes());
        match self.streams.get_mut(&id) {
            Some(stream) => stream.receive_window += by,
            None => self.receive_window += by,
        }
    }

    fn send_other_frame(&mut self) {
        let any = self.rng.next().to_be_bytes();
        let open: Vec<u32> = self
            .streams
            .iter()
            .filter(|(_, stream)| !stream.is_over())
            .map(|(id, _)| *id)
            .collect();
        match self.rng.below(8) {
            0 => {
                self.unanswered_pings += 1;
                self.frame(PING, 0, 0, &any);
            }
            1 => self.frame(UNKNOWN, any[0], self.next_id, &any),
            2 => self.frame(PRIORITY, 0, self.next_id, &[0, 0, 0, 0, 16]),
            3 => {
                let id = self.any(&open).unwrap_or(self.next_id);
                let payload = [&id.to_be_bytes()[..], b"u=1, i"].concat();
                self.frame(PRIORITY_UPDATE, 0, 0, &payload);
            }
            4 => self.change_window(),
            5 => {
                let by = self.rng.size(300_000) as i64;
                let id = self.any(&open).filter(|_| by % 2 == 0).unwrap_or(0);
                self.enlarge(id, by);
            }
            _ => {
                if let Some(id) = self.any(&open) {
                    self.frame(RST_STREAM, 0, id, &CANCEL.to_be_bytes());
                    if let Some(stream) = self.streams.get_mut(&id) {
                        stream.reset_by_peer = true;
                    }
                }
            }
        }
    }

    /// Changes the initial window, also of the streams that are open.
    fn change_window(&mut self) {
        if self.unacknowledged_settings > 0 {
            return;
        }
        let new = 2000 + self.rng.size(300_000) as i64;
        let change = new - self.initial_receive_window;
        self.initial_receive_window = new;
        self.unacknowledged_settings += 1;
        if change > 0 {
            for stream in self.streams.values_mut() {
                stream.receive_window += change;
            }
        } else {
            self.pending_decrease = Some((self.next_id, change));
        }
        let window = u32::try_from(new).expect("a window");
        let setting = [&4_u16.to_be_bytes()[..], &window.to_be_bytes()].concat();
        self.frame(SETTINGS, 0, 0, &setting);
    }

    /// Sends some of what is to be sent.
    pub(super) fn send(&mut self, wire: &mut Wire) {
        let count = if self.rng.one_in(2) {
            self.out.len()
        } else {
            self.rng.size(self.out.len())
        };
        let bytes: Vec<u8> = self.out.iter().copied().take(count).collect();
        let sent = wire.put(&bytes);
        self.out.drain(..sent);
    }

    /// Receives some of what the server has sent.
    pub(super) fn take(&mut self, wire: &mut Wire) {
        let count = self.rng.size(200_000).min(wire.untaken()).min(self.reads);
        wire.take(count);
        self.reads -= count;
        self.taken += count;
        self.parse(&wire.sent[..self.taken]);
    }

    pub(super) fn can_end(&self, follows: bool) -> bool {
        let all_over = self.streams.values().all(PeerStream::is_over);
        let is_done = all_over && self.requests_left == 0 && self.out.is_empty();
        let stays = self.end == PeerEnd::Stays && !follows;
        !self.ended && !stays && (follows || is_done || self.ends_early)
    }

    pub(super) fn end(&mut self) -> PeerEnd {
        self.ended = true;
        match self.end {
            PeerEnd::Stays => PeerEnd::HalfCloses,
            end => end,
        }
    }

    /// Parses complete frames.
    fn parse(&mut self, received: &[u8]) {
        if is_http1(received) {
            return;
        }
        while let Some(header) = received.get(self.parsed..self.parsed + 9) {
            let [a, b, c, kind, flags, id @ ..] = header else {
                return;
            };
            let len = u32::from_be_bytes([0, *a, *b, *c]) as usize;
            assert!(len <= MAX_FRAME, "a frame of {len} bytes");
            let start = self.parsed + 9;
            let Some(payload) = received.get(start..start + len) else {
                return;
            };
            let is_first = self.parsed == 0;
            self.parsed = start + len;
            assert!(
                !is_first || *kind == SETTINGS,
                "the first frame is of type {kind}"
            );
            let id = u32::from_be_bytes(id.try_into().expect("four bytes"));
            self.on_frame(*kind, *flags, id, payload);
        }
    }

    fn on_frame(&mut self, kind: u8, flags: u8, id: u32, payload: &[u8]) {
        let number = |at: usize| {
            let bytes = payload[at..at + 4].try_into().expect("four bytes");
            u32::from_be_bytes(bytes)
        };
        match kind {
            DATA => self.on_data(flags, id, payload),
            HEADERS => self.on_headers(flags, id, payload),
            RST_STREAM => {
                let stream = self.streams.get_mut(&id).expect("a stream");
                assert!(stream.reset_by_server.is_none(), "a second reset of {id}");
                stream.reset_by_server = Some(number(0));
            }
            SETTINGS if flags & ACK != 0 => {
                assert!(self.unacknowledged_settings > 0, "an ACK without SETTINGS");
                self.unacknowledged_settings -= 1;
                if let Some((end, change)) = self.pending_decrease.take() {
                    for (_, stream) in self.streams.range_mut(..end) {
                        stream.receive_window += change;
                    }
                }
            }
            SETTINGS => {
                for setting in payload.chunks_exact(6) {
                    if setting[..2] == 4_u16.to_be_bytes() {
                        let value = setting[2..].try_into().expect("four bytes");
                        self.initial_send_window = u32::from_be_bytes(value).into();
                    }
                }
                self.frame(SETTINGS, ACK, 0, &[]);
            }
            PING if flags & ACK != 0 => {
                assert!(self.unanswered_pings > 0, "an answer without a PING");
                self.unanswered_pings -= 1;
            }
            PING => self.frame(PING, ACK, 0, payload),
            GOAWAY => {
                let (last, code) = (number(0), number(4));
                assert!(
                    code == NO_ERROR || self.timed_out,
                    "GOAWAY with code {code}"
                );
                assert!(self.goaway.is_none_or(|before| last <= before), "{last}");
                self.goaway = Some(last);
            }
            WINDOW_UPDATE => {
                let increment = i64::from(number(0));
                assert!(increment > 0);
                let window = match id {
                    0 => &mut self.send_window,
                    id => &mut self.streams.get_mut(&id).expect("a stream").send_window,
                };
                *window += increment;
                assert!(*window < 1 << 31, "a window of {window}");
            }
            kind => panic!("a frame of type {kind}"),
        }
    }

    fn on_data(&mut self, flags: u8, id: u32, payload: &[u8]) {
        let len = payload.len() as i64;
        let stream = self.streams.get_mut(&id).expect("a stream");
        assert!(
            !stream.ended && stream.reset_by_server.is_none(),
            "data after the end of {id}"
        );
        assert!(stream.status.is_some(), "data before the head");
        assert!(
            len == 0 || len <= stream.receive_window,
            "beyond the window of {id}"
        );
        assert!(
            len == 0 || len <= self.receive_window,
            "beyond the window of the connection"
        );
        assert!(len > 0 || flags & END_STREAM != 0, "empty data");
        stream.receive_window -= len;
        stream.owed += len;
        stream.content.extend_from_slice(payload);
        stream.ended = flags & END_STREAM != 0;
        self.receive_window -= len;
        self.owed += len;
    }

    fn on_headers(&mut self, flags: u8, id: u32, block: &[u8]) {
        assert!(flags & END_HEADERS != 0, "a head in several frames");
        let mut fields = DecodedFields::default();
        let budget = FieldBudget {
            bytes: 1 << 20,
            fields: 1000,
        };
        let decoded = self.decoder.decode(block, budget, &mut fields);
        assert!(decoded.is_ok(), "a valid block");
        let value = fields.spans.first().map(|span| span.value.clone());
        let value = value.map(|value| &fields.bytes[value.start as usize..value.end as usize]);
        let status = std::str::from_utf8(value.unwrap_or_default()).ok();
        let status: u16 = status
            .and_then(|status| status.parse().ok())
            .expect("a status");
        let stream = self.streams.get_mut(&id).expect("a stream");
        assert!(
            !stream.ended && stream.reset_by_server.is_none(),
            "a head after the end of {id}"
        );
        assert!(stream.status.is_none(), "a second head of {id}");
        if status >= 200 {
            stream.status = Some(status);
            stream.ended = flags & END_STREAM != 0;
        } else {
            assert!(flags & END_STREAM == 0);
        }
    }

    /// Nothing but time can pass: whatever the server could send was received.
    pub(super) fn check_progress(&self, services: &MultiplexedServices) {
        if self.ended && self.end != PeerEnd::HalfCloses {
            return;
        }
        for (id, stream) in self.streams.iter().filter(|(_, stream)| !stream.is_over()) {
            let Some(exchange) = services.exchanges.get(id) else {
                continue;
            };
            if exchange.calls > 0 && !exchange.pending && !exchange.cancelled {
                let head = stream.status.is_some();
                let has_window = stream.receive_window > 0 && self.receive_window > 0;
                assert!(head && !has_window, "the response of {id} stalls");
            }
            if exchange.calls == 0 && stream.has_body_left() && !self.ended {
                let has_window = stream.send_window > 0 && self.send_window > 0;
                assert!(has_window, "the body of {id} stalls");
            }
        }
        assert!(
            self.ended || self.unanswered_pings == 0,
            "a PING is not answered"
        );
        assert!(self.ended || self.unacknowledged_settings == 0, "no ACK");
    }

    /// Every request has one response and one record.
    pub(super) fn check_end(&mut self, wire: &Wire, services: &MultiplexedServices) {
        self.parse(&wire.sent);
        if is_http1(&wire.sent) {
            assert!(services.exchanges.is_empty());
            return;
        }
        let mut records = BTreeMap::new();
        for record in &services.records {
            let line = String::from_utf8_lossy(&record.line).into_owned();
            let mut words = line.split(' ');
            let method = words.next().expect("a method");
            let id = words.next().and_then(|path| path[1..].parse::<u32>().ok());
            let id = id.unwrap_or_else(|| panic!("{line:?}"));
            assert_eq!(words.next(), Some("HTTP/2.0"), "{line:?}");
            assert_eq!(
                self.streams.get(&id).map(|stream| stream.method),
                Some(method)
            );
            let before = records.insert(id, record);
            assert!(before.is_none(), "two records of {id}");
        }
        for (id, exchange) in services
            .exchanges
            .iter()
            .filter(|(_, exchange)| exchange.calls > 0)
        {
            let record = records
                .get(id)
                .unwrap_or_else(|| panic!("no record of {id}"));
            let stream = &self.streams[id];
            check_response(*id, stream, exchange);
            if let Some(status) = stream.status.filter(|_| !stream.reset_by_peer) {
                assert_eq!(record.status.as_u16(), status, "{id}");
            }
            let received = stream.content.len() as u64;
            if stream.ended && !stream.reset_by_peer {
                // After a time limit, what was staged is sent after the record is made.
                if !self.timed_out {
                    assert_eq!(record.outcome, Completion::Complete, "{id}");
                    assert_eq!(record.content_bytes, received, "{id}");
                }
            } else {
                // What was staged when the stream ended is sent after its record is made.
                let max = received + MAX_FRAME as u64;
                assert!(record.content_bytes <= max, "{id}: {record:?}");
            }
        }
    }
}

/// The client has ended before the server knew that it speaks HTTP/2.
fn is_http1(sent: &[u8]) -> bool {
    sent.starts_with(b"H")
}

fn check_response(id: u32, stream: &PeerStream, exchange: &Exchange) {
    let Some(status) = stream.status else {
        return;
    };
    // A disk has failed before the head was sent, or the body of the request was rejected.
    if status != exchange.status {
        let is_known = [400, 408, 413, 500].contains(&status);
        assert!(is_known, "{id}: {status} instead of {}", exchange.status);
        return;
    }
    if stream.method == "HEAD" {
        assert!(stream.content.is_empty());
        return;
    }
    let mut content = stream.content.clone();
    if exchange.has_heartbeats {
        content.retain(|byte| *byte == PIECE_BYTE);
    }
    assert!(exchange.content.starts_with(&content), "{id}: wrong bytes");
    if stream.ended {
        let is_whole = content.len() == exchange.content.len() || exchange.may_end_early;
        assert!(is_whole, "{id} is truncated and looks complete");
    }
}

/// Appends a field as a literal without indexing (RFC 7541 §6.2.2).
fn push_literal(block: &mut Vec<u8>, name: &str, value: &str) {
    block.push(0);
    for text in [name, value] {
        let mut rest = text.len();
        if rest < 127 {
            block.push(rest as u8);
        } else {
            block.push(127);
            rest -= 127;
            while rest >= 128 {
                block.push((rest % 128) as u8 | 128);
                rest /= 128;
            }
            block.push(rest as u8);
        }
        block.extend_from_slice(text.as_bytes());
    }
}
