//! A small HTTP/2 client without TLS that reads at a limited rate. It interprets no header fields: it
//! counts the bytes of each response.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

/// The windows of Chromium.
const STREAM_WINDOW: u32 = 6 << 20;
const CONNECTION_WINDOW: u32 = 15 << 20;

/// The receive buffer, so that the kernel holds little of what the client has not read.
const RECEIVE_BUFFER: usize = 128 * 1024;

const TIMEOUT: Duration = Duration::from_secs(10);

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const PRIORITY: u8 = 0x20;

/// What a request says about its priority.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PrioritySignal {
    None,
    /// The field `priority` (RFC 9218).
    Field(&'static str),
    /// The weight in the dependency tree (RFC 7540 §5.3).
    Weight(u8),
}

/// A response as far as it has been received.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ResponseProgress {
    pub(crate) bytes: u64,
    pub(crate) is_complete: bool,
}

/// A connection.
#[derive(Debug)]
pub(crate) struct Http2Client {
    stream: TcpStream,
    buffer: Vec<u8>,
    responses: HashMap<u32, ResponseProgress>,
    /// Bytes that the server may not send again yet, by stream; those of the connection are 0.
    used: HashMap<u32, u32>,
    bytes_per_second: f64,
    started: Instant,
    received: u64,
}

impl Http2Client {
    pub(crate) fn connect(address: SocketAddr, bytes_per_second: f64) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
        socket.connect_timeout(&address.into(), TIMEOUT)?;
        let stream = TcpStream::from(socket);
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        let mut client = Self {
            stream,
            buffer: Vec::new(),
            responses: HashMap::new(),
            used: HashMap::new(),
            bytes_per_second,
            started: Instant::now(),
            received: 0,
        };
        client.stream.write_all(PREFACE)?;
        let settings = [[0, 2, 0, 0, 0, 0], initial_window_setting()].concat();
        client.send(SETTINGS, 0, 0, &settings)?;
        client.send(WINDOW_UPDATE, 0, 0, &CONNECTION_WINDOW.to_be_bytes())?;
        Ok(client)
    }

    /// Sends a GET request on a stream, which must be odd and greater than all before it.
    pub(crate) fn request(
        &mut self,
        stream: u32,
        path: &str,
        priority: PrioritySignal,
    ) -> io::Result<()> {
        let mut flags = END_HEADERS | END_STREAM;
        let mut payload = Vec::new();
        if let PrioritySignal::Weight(weight) = priority {
            const EXCLUSIVE: u32 = 1 << 31;
            flags |= PRIORITY;
            payload.extend_from_slice(&EXCLUSIVE.to_be_bytes());
            payload.push(weight);
        }
        let mut fields = vec![
            (":method", "GET"),
            (":scheme", "http"),
            (":authority", "localhost"),
            (":path", path),
        ];
        if let PrioritySignal::Field(value) = priority {
            fields.push(("priority", value));
        }
        for (name, value) in fields {
            push_literal(&mut payload, name, value);
        }
        self.responses.insert(stream, ResponseProgress::default());
        self.send(HEADERS, flags, stream, &payload)
    }

    pub(crate) fn progress(&self, stream: u32) -> ResponseProgress {
        self.responses.get(&stream).copied().unwrap_or_default()
    }

    /// Reads some bytes, not faster than the rate, and processes the frames that are complete.
    pub(crate) fn receive(&mut self) -> io::Result<()> {
        let mut bytes = [0; 16 * 1024];
        let count = self.stream.read(&mut bytes)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.buffer.extend_from_slice(&bytes[..count]);
        self.received += count as u64;
        let due = Duration::from_secs_f64(self.received as f64 / self.bytes_per_second);
        std::thread::sleep(due.saturating_sub(self.started.elapsed()));
        while let Some(&[a, b, c, kind, flags, s0, s1, s2, s3]) = self.buffer.first_chunk() {
            let len = u32::from_be_bytes([0, a, b, c]);
            let end = 9 + len as usize;
            if self.buffer.len() < end {
                break;
            }
            let stream = u32::from_be_bytes([s0 & 0x7f, s1, s2, s3]);
            self.buffer.drain(..end);
            self.on_frame(kind, flags, stream, len)?;
        }
        Ok(())
    }

    fn on_frame(&mut self, kind: u8, flags: u8, stream: u32, len: u32) -> io::Result<()> {
        match kind {
            SETTINGS if flags & ACK == 0 => self.send(SETTINGS, ACK, 0, &[])?,
            RST_STREAM => return Err(io::Error::other("the server reset a stream")),
            GOAWAY => return Err(io::Error::other("the server sent GOAWAY")),
            DATA => {
                self.return_window(0, len, CONNECTION_WINDOW / 2)?;
                self.return_window(stream, len, STREAM_WINDOW / 2)?;
                self.responses.entry(stream).or_default().bytes += u64::from(len);
            }
            _ => {}
        }
        if matches!(kind, DATA | HEADERS) && flags & END_STREAM != 0 {
            self.responses.entry(stream).or_default().is_complete = true;
        }
        Ok(())
    }

    /// Counts received bytes, and lets the server send them again when they are more than `limit`.
    fn return_window(&mut self, stream: u32, len: u32, limit: u32) -> io::Result<()> {
        let used = self.used.entry(stream).or_default();
        *used += len;
        if *used <= limit {
            return Ok(());
        }
        let increment = std::mem::take(used);
        self.send(WINDOW_UPDATE, 0, stream, &increment.to_be_bytes())
    }

    fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> io::Result<()> {
        let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
        frame.extend_from_slice(&[kind, flags]);
        frame.extend_from_slice(&stream.to_be_bytes());
        frame.extend_from_slice(payload);
        self.stream.write_all(&frame)
    }
}

/// SETTINGS_INITIAL_WINDOW_SIZE.
fn initial_window_setting() -> [u8; 6] {
    let [a, b, c, d] = STREAM_WINDOW.to_be_bytes();
    [0, 4, a, b, c, d]
}

/// Appends a field as a literal without indexing (RFC 7541 §6.2.2). Names and values are shorter than
/// 127 bytes.
fn push_literal(block: &mut Vec<u8>, name: &str, value: &str) {
    block.push(0);
    for text in [name, value] {
        block.push(text.len() as u8);
        block.extend_from_slice(text.as_bytes());
    }
}
