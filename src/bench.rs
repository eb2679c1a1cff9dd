//! Access for `benches/` to parts that are not public. Not for any other use.

#![allow(missing_debug_implementations)]

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Instant, SystemTime};

use crate::config::{Config, Limits};
use crate::http::forwarded::ClientInfo;
use crate::proto::context::{Context, RecordMode};
use crate::proto::exchange::BodyMode;
use crate::proto::h1::machine::Machine;
use crate::proto::request_head::RequestHead;
use crate::proto::{Action, Ready};
use crate::{Handler, Request, Response};

/// A connection without a socket: request bytes in, response bytes out.
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
    /// Feeds `input` in one read, answers every request in it with the response of `respond`, and
    /// returns how many bytes were sent.
    pub fn round_trip(&mut self, input: &[u8], respond: impl Fn() -> Response) -> usize {
        self.exchange(input, |_| respond())
    }

    /// As [`round_trip`](Self::round_trip), with a handler, whose responses are waited for.
    pub fn serve(&mut self, input: &[u8], handler: &impl Handler) -> usize {
        self.exchange(input, |request| handler.handle(request).wait())
    }

    fn exchange(&mut self, input: &[u8], respond: impl Fn(&Request<'_>) -> Response) -> usize {
        let cx = &mut self.cx;
        let mut input = Some(input);
        let mut sent = 0;
        loop {
            match self.machine.next(Ready::ALL, cx) {
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

/// Parses one head as a connection does; true if it is not rejected.
pub fn parse_head(bytes: &[u8], parser: &mut HeadParser) -> bool {
    crate::proto::h1::parse_head(bytes, &mut parser.head, &parser.limits)
}

/// The memory and limits for parsing heads.
#[derive(Default)]
pub struct HeadParser {
    head: RequestHead,
    limits: Limits,
}

/// Encodes `body` as a complete chunked body, `len` bytes in each chunk.
pub fn encode_chunked(body: &[u8], len: usize, out: &mut Vec<u8>) {
    crate::proto::h1::encode_chunked(body, len, out);
}

/// Decodes a chunked body at once; true if it is complete and valid.
pub fn decode_chunked(input: &[u8], body: &mut Vec<u8>) -> bool {
    crate::proto::h1::decode_chunked(input, body)
}
