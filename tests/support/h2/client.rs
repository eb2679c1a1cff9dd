//! The client.

use std::collections::{HashMap, VecDeque};
use std::io::{self, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};

use super::frame::{
    ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, Frame, GOAWAY, HEADERS, PING, PREFACE,
    RST_STREAM, SETTINGS, WINDOW_UPDATE,
};
use super::hpack;
use crate::support::client::TIMEOUT;

/// A connection to a server, and what has been received on its streams.
pub(crate) struct H2Client<S: Read + Write = TcpStream> {
    stream: BufReader<S>,
    next_stream: u32,
    streams: HashMap<u32, H2Response>,
    /// Frames that are about the connection, in the order of their arrival.
    pub(crate) control: VecDeque<Frame>,
    /// How many bytes each stream may still send to the server, and the connection (0).
    windows: HashMap<u32, i64>,
    initial_window: i64,
    /// Whether the client gives the server a new window for what it has received.
    windows_kept_open: bool,
}

/// What has been received on a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct H2Response {
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) content: Vec<u8>,
    /// Statuses of interim responses.
    pub(crate) interim: Vec<u16>,
    /// The server has ended the stream.
    pub(crate) ended: bool,
    /// The code with which the server has reset the stream.
    pub(crate) reset: Option<u32>,
}

impl H2Response {
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let field = self.fields.iter().find(|(own, _)| own == name);
        field.map(|(_, value)| &**value)
    }

    pub(crate) fn status(&self) -> u16 {
        let status = self.field(":status").expect("a status");
        status.parse().expect("a number")
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.content).expect("UTF-8")
    }

    fn is_over(&self) -> bool {
        self.ended || self.reset.is_some()
    }
}

impl H2Client {
    /// Connects without TLS, and sends the connection preface.
    pub(crate) fn connect(address: SocketAddr) -> Self {
        Self::connect_with(address, &[])
    }

    pub(crate) fn connect_with(address: SocketAddr, settings: &[(u16, u32)]) -> Self {
        let stream = TcpStream::connect(address).expect("connect");
        stream.set_read_timeout(Some(TIMEOUT)).expect("set timeout");
        stream
            .set_write_timeout(Some(TIMEOUT))
            .expect("set timeout");
        stream.set_nodelay(true).expect("set TCP_NODELAY");
        Self::on(stream, settings)
    }

    pub(crate) fn socket(&self) -> &TcpStream {
        self.stream.get_ref()
    }
}

impl<S: Read + Write> H2Client<S> {
    /// Sends the connection preface.
    pub(crate) fn on(stream: S, settings: &[(u16, u32)]) -> Self {
        let mut client = Self {
            stream: BufReader::new(stream),
            next_stream: 1,
            streams: HashMap::new(),
            control: VecDeque::new(),
            windows: HashMap::from([(0, 65_535)]),
            initial_window: 65_535,
            windows_kept_open: true,
        };
        client.send(PREFACE);
        // A table of size 0, because the decoder has none.
        client.send_frame(&Frame::settings(&[&[(1, 0)], settings].concat()));
        client
    }

    /// From now on the server may send only what the present windows allow.
    pub(crate) fn keep_windows(&mut self) {
        self.windows_kept_open = false;
    }

    /// Does something with the stream below.
    pub(crate) fn with_stream(&mut self, close: impl FnOnce(&mut S)) {
        close(self.stream.get_mut());
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let stream = self.stream.get_mut();
        stream.write_all(bytes.as_ref()).expect("send bytes");
        stream.flush().expect("send bytes");
    }

    pub(crate) fn send_frame(&mut self, frame: &Frame) {
        self.send(frame.encode());
    }

    /// Returns the frame that begins a request on the next stream, with further fields.
    pub(crate) fn head(&mut self, method: &str, path: &str, fields: &[(&str, &str)]) -> Frame {
        let stream = self.next_stream;
        self.next_stream += 2;
        let pseudo = [
            (":method", method),
            (":scheme", "http"),
            (":authority", "test"),
            (":path", path),
        ];
        let block = hpack::encode(&[&pseudo[..], fields].concat());
        Frame::new(HEADERS, END_HEADERS, stream, block)
    }

    /// Sends a request without a body, and returns its stream.
    pub(crate) fn request(&mut self, method: &str, path: &str, fields: &[(&str, &str)]) -> u32 {
        let mut head = self.head(method, path, fields);
        head.flags |= END_STREAM;
        self.send_frame(&head);
        head.stream
    }

    /// Sends a request with another `:authority`, and returns its stream.
    pub(crate) fn request_to(&mut self, authority: &str, method: &str, path: &str) -> u32 {
        let pseudo = [
            (":method", method),
            (":scheme", "https"),
            (":authority", authority),
            (":path", path),
        ];
        let stream = self.next_stream;
        self.next_stream += 2;
        let flags = END_HEADERS | END_STREAM;
        self.send_frame(&Frame::new(HEADERS, flags, stream, hpack::encode(&pseudo)));
        stream
    }

    pub(crate) fn get(&mut self, path: &str) -> H2Response {
        let stream = self.request("GET", path, &[]);
        self.response(stream)
    }

    /// Sends a request with a body as the server's windows allow, and returns its stream.
    pub(crate) fn upload(
        &mut self,
        method: &str,
        path: &str,
        fields: &[(&str, &str)],
        body: &[u8],
    ) -> u32 {
        let head = self.head(method, path, fields);
        self.send_frame(&head);
        self.send_body(head.stream, body);
        head.stream
    }

    /// Sends a body to its end, unless the stream is over before.
    pub(crate) fn send_body(&mut self, stream: u32, body: &[u8]) {
        const MAX_DATA: usize = 16_384;
        let mut rest = body;
        loop {
            let room = self.window(stream).min(self.window(0)).max(0);
            let room = usize::try_from(room).expect("no negative number");
            if room == 0 && !rest.is_empty() {
                self.receive();
                if self.streams.get(&stream).is_some_and(H2Response::is_over) {
                    return;
                }
                continue;
            }
            let (data, after) = rest.split_at(rest.len().min(room).min(MAX_DATA));
            rest = after;
            let flags = if rest.is_empty() { END_STREAM } else { 0 };
            self.send_data(stream, data, flags);
            if rest.is_empty() {
                return;
            }
        }
    }

    /// Sends a DATA frame, for which there must be a window.
    pub(crate) fn send_data(&mut self, stream: u32, data: &[u8], flags: u8) {
        self.send_frame(&Frame::new(DATA, flags, stream, data));
        let sent = i64::try_from(data.len()).expect("a length");
        let initial = self.initial_window;
        *self.windows.entry(stream).or_insert(initial) -= sent;
        *self.windows.entry(0).or_default() -= sent;
    }

    /// How many bytes may be sent on a stream, or the connection.
    pub(crate) fn window(&self, stream: u32) -> i64 {
        let window = self.windows.get(&stream).copied();
        window.unwrap_or(self.initial_window)
    }

    /// Reads until the response of a stream is complete, or reset.
    pub(crate) fn response(&mut self, stream: u32) -> H2Response {
        self.receive_until(|client| client.so_far(stream).is_over());
        self.streams.remove(&stream).unwrap_or_default()
    }

    /// What has been received on a stream.
    pub(crate) fn so_far(&self, stream: u32) -> H2Response {
        self.streams.get(&stream).cloned().unwrap_or_default()
    }

    pub(crate) fn content_len(&self, stream: u32) -> usize {
        let response = self.streams.get(&stream);
        response.map_or(0, |response| response.content.len())
    }

    /// Reads frames until a condition holds.
    #[track_caller]
    pub(crate) fn receive_until(&mut self, mut is_done: impl FnMut(&Self) -> bool) {
        while !is_done(self) {
            let received = self.receive();
            assert!(received, "the connection ended: {:?}", self.control);
        }
    }

    /// Waits until the server has read everything that was sent.
    pub(crate) fn ping(&mut self) {
        self.send_frame(&Frame::new(PING, 0, 0, *b"anything"));
        let is_answer = |frame: &Frame| frame.kind == PING && frame.has(ACK);
        self.receive_until(|client| client.control.iter().any(is_answer));
        self.control.retain(|frame| !is_answer(frame));
    }

    /// Reads until a GOAWAY, and returns it.
    #[track_caller]
    pub(crate) fn goaway(&mut self) -> Frame {
        let is_goaway = |frame: &Frame| frame.kind == GOAWAY;
        self.receive_until(|client| client.control.iter().any(is_goaway));
        let at = self.control.iter().position(is_goaway);
        let frame = at.and_then(|at| self.control.remove(at));
        frame.expect("a GOAWAY")
    }

    /// Reads to the end of the connection.
    pub(crate) fn read_to_end(&mut self) {
        while self.receive() {}
    }

    /// Reads a frame and does what it asks for. Returns false at the end of the connection.
    pub(crate) fn receive(&mut self) -> bool {
        match Frame::read(&mut self.stream) {
            Ok(Some(frame)) => self.on_frame(frame),
            Ok(None) => return false,
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return false,
            Err(error) => panic!("read a frame: {error}"),
        }
        true
    }

    fn on_frame(&mut self, frame: Frame) {
        match frame.kind {
            DATA => self.on_data(&frame),
            HEADERS => self.on_headers(&frame),
            RST_STREAM => {
                let response = self.streams.entry(frame.stream).or_default();
                response.reset = Some(frame.number());
            }
            WINDOW_UPDATE => {
                let initial = self.initial_window;
                let window = self.windows.entry(frame.stream).or_insert(initial);
                *window += i64::from(frame.number());
                if frame.stream == 0 {
                    self.control.push_back(frame);
                }
            }
            SETTINGS if !frame.has(ACK) => {
                self.on_settings(&frame);
                self.send_frame(&Frame::new(SETTINGS, ACK, 0, []));
                self.control.push_back(frame);
            }
            PING if !frame.has(ACK) => {
                self.send_frame(&Frame::new(PING, ACK, 0, frame.payload.clone()));
                self.control.push_back(frame);
            }
            _ => self.control.push_back(frame),
        }
    }

    fn on_settings(&mut self, frame: &Frame) {
        const INITIAL_WINDOW_SIZE: u16 = 4;
        for setting in frame.payload.chunks_exact(6) {
            let (id, value) = setting.split_at(2);
            if id == INITIAL_WINDOW_SIZE.to_be_bytes() {
                let value = u32::from_be_bytes(value.try_into().expect("four bytes"));
                self.initial_window = value.into();
            }
        }
    }

    fn on_data(&mut self, frame: &Frame) {
        let response = self.streams.entry(frame.stream).or_default();
        assert!(
            !response.is_over(),
            "data after the end of {}",
            frame.stream
        );
        assert!(response.field(":status").is_some(), "data before the head");
        response.content.extend_from_slice(&frame.payload);
        response.ended = frame.has(END_STREAM);
        let ended = response.ended;
        let len = u32::try_from(frame.payload.len()).expect("a length");
        if self.windows_kept_open && len > 0 {
            self.send_frame(&Frame::window_update(0, len));
            if !ended {
                self.send_frame(&Frame::window_update(frame.stream, len));
            }
        }
    }

    fn on_headers(&mut self, frame: &Frame) {
        let mut block = frame.payload.clone();
        let mut is_whole = frame.has(END_HEADERS);
        while !is_whole {
            let next = Frame::read(&mut self.stream).expect("read a frame");
            let next = next.expect("the rest of the block");
            assert_eq!((next.kind, next.stream), (CONTINUATION, frame.stream));
            block.extend_from_slice(&next.payload);
            is_whole = next.has(END_HEADERS);
        }
        let response = self.streams.entry(frame.stream).or_default();
        assert!(
            !response.is_over(),
            "a head after the end of {}",
            frame.stream
        );
        assert!(
            response.fields.is_empty(),
            "a second head of {}",
            frame.stream
        );
        let fields = hpack::decode(&block);
        let status = fields.first().filter(|(name, _)| name == ":status");
        let status = status.expect("the status comes first").1.as_str();
        if status.starts_with('1') {
            response.interim.push(status.parse().expect("a number"));
        } else {
            response.fields = fields;
            response.ended = frame.has(END_STREAM);
        }
    }
}
