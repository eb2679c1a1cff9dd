//! Doors for `benches/` to the parts that have no public face. Nothing else may use them.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Instant, SystemTime};

use crate::config::{Config, Limits};
use crate::http::forwarded::ClientInfo;
use crate::proto::Action;
use crate::proto::context::{Context, RecordMode};
use crate::proto::exchange::BodyMode;
use crate::proto::h1::machine::Machine;
use crate::proto::request_head::RequestHead;
use crate::{Handler, Request, Response};

/// A connection without a socket: requests go in as bytes, replies come out as bytes.
pub struct BenchConnection {
    machine: Machine,
    cx: Context,
}

impl Default for BenchConnection {
    fn default() -> Self {
        let now = SystemTime::now();
        Self {
            machine: Machine::new(ClientInfo::plain(SocketAddr::from((
                Ipv4Addr::LOCALHOST,
                1,
            )))),
            cx: Context::new(&Config::default(), RecordMode::Off, Instant::now, now),
        }
    }
}

impl BenchConnection {
    /// Feeds `input` in one read, answers every request in it with what `respond` makes, and
    /// returns how many bytes went out.
    pub fn round_trip(&mut self, input: &[u8], respond: impl Fn() -> Response) -> usize {
        self.exchange(input, |_| respond())
    }

    /// The same with a handler, whose replies are waited for.
    pub fn serve(&mut self, input: &[u8], handler: &impl Handler) -> usize {
        self.exchange(input, |request| handler.handle(request).wait())
    }

    fn exchange(&mut self, input: &[u8], respond: impl Fn(&Request<'_>) -> Response) -> usize {
        let cx = &mut self.cx;
        let mut input = Some(input);
        let mut sent = 0;
        loop {
            match self.machine.next(cx) {
                Action::Read => match input.take() {
                    Some(bytes) => self.machine.read_buf(cx).extend_from_slice(bytes),
                    None => break,
                },
                Action::Admit(id) => {
                    let mode = BodyMode::Buffered { max: usize::MAX };
                    self.machine.on_admission(id, Ok(mode), cx);
                }
                Action::Dispatch(id) => {
                    let response = respond(&self.machine.request(id, cx));
                    self.machine.on_response(id, response, cx);
                }
                Action::Write => {
                    let Some(count) = self.machine.segment().len_in_memory() else {
                        break;
                    };
                    sent += count;
                    self.machine.on_written(count);
                }
                _ => break,
            }
        }
        self.machine.release_buffers(cx);
        sent
    }
}

/// Parses one head as a connection does; true if it is a request.
pub fn parse_head(bytes: &[u8], parser: &mut HeadParser) -> bool {
    crate::proto::h1::parse_head(bytes, &mut parser.head, &parser.limits)
}

/// What parsing a head needs again and again.
#[derive(Default)]
pub struct HeadParser {
    head: RequestHead,
    limits: Limits,
}

/// Encodes `content` as a whole chunked body, `len` bytes in each chunk.
pub fn encode_chunked(content: &[u8], len: usize, out: &mut Vec<u8>) {
    crate::proto::h1::encode_chunked(content, len, out);
}

/// Decodes a chunked body in one piece; true if it is whole and has no fault.
pub fn decode_chunked(input: &[u8], content: &mut Vec<u8>) -> bool {
    crate::proto::h1::decode_chunked(input, content)
}
