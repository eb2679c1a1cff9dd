//! What the simulated client sends.

use super::rng::Rng;

/// Everything that a client sends unless the connection ends before.
pub(super) struct Script {
    pub(super) bytes: Vec<u8>,
    pub(super) requests: Vec<Sent>,
    /// Number of requests, from the first on, that are not corrupted.
    pub(super) intact: usize,
    pub(super) end: ScriptEnd,
    /// The position in `bytes` at which the client ends; it need not be after the last request.
    pub(super) end_at: usize,
}

/// One request of a script.
pub(super) struct Sent {
    pub(super) line: String,
    pub(super) content: Vec<u8>,
    /// The position after its last byte.
    pub(super) end: usize,
    /// The position at which the client waits for 100 Continue.
    pub(super) hold: Option<usize>,
    /// Whether the request asks to close the connection and has no body.
    pub(super) is_last: bool,
}

/// How a client ends its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ScriptEnd {
    /// It waits for the server to close.
    Waits,
    /// It never closes.
    Stays,
    /// It shuts down its sending side and continues to read.
    HalfCloses,
    /// It closes: bytes sent to it are answered with a reset.
    Closes,
    Resets,
}

impl Script {
    pub(super) fn new(rng: &mut Rng) -> Self {
        let mut bytes = Vec::new();
        let mut requests = Vec::new();
        for at in 0..rng.size(12) {
            // RFC 9112 §2.2: a server ignores empty lines before a request.
            if rng.one_in(10) {
                bytes.extend_from_slice(b"\r\n");
            }
            requests.push(push_request(at, rng, &mut bytes));
        }
        let end = match rng.below(12) {
            0 => ScriptEnd::Stays,
            1 | 2 => ScriptEnd::HalfCloses,
            3 => ScriptEnd::Closes,
            4 => ScriptEnd::Resets,
            _ => ScriptEnd::Waits,
        };
        let end_at = if rng.one_in(2) {
            rng.below(bytes.len() + 1)
        } else {
            bytes.len()
        };
        let mut script = Self {
            intact: requests.len(),
            bytes,
            requests,
            end,
            end_at,
        };
        if rng.one_in(4) {
            script.corrupt(rng);
        }
        script
    }

    /// Changes one byte, usually outside of the bodies.
    fn corrupt(&mut self, rng: &mut Rng) {
        const NASTY: &[u8] = b"\r\n\0 :;,\t019aZ\x7f\xff";
        let at = if rng.one_in(3) {
            rng.below(self.bytes.len())
        } else {
            let request = rng.below(self.requests.len());
            let start = match request {
                0 => 0,
                request => self.requests[request - 1].end,
            };
            (start + rng.below(120)).min(self.bytes.len() - 1)
        };
        let byte = NASTY[rng.below(NASTY.len())];
        let len = self.bytes.len();
        match rng.below(3) {
            0 => self.bytes[at] = byte,
            1 => self.bytes.insert(at, byte),
            _ => drop(self.bytes.remove(at)),
        }
        self.intact = self.requests.iter().filter(|sent| sent.end <= at).count();
        // The positions after the change are not valid any more.
        for sent in &mut self.requests[self.intact..] {
            sent.hold = None;
        }
        if self.end_at == len || self.end_at > self.bytes.len() {
            self.end_at = self.bytes.len();
        }
    }
}

fn push_request(at: usize, rng: &mut Rng, bytes: &mut Vec<u8>) -> Sent {
    let posts = rng.one_in(3);
    let method = if posts {
        "POST"
    } else if rng.one_in(5) {
        "HEAD"
    } else {
        "GET"
    };
    let kind = rng.below(16);
    let (version, mut fields) = match kind {
        0 => ("HTTP/1.0", String::new()),
        1 => ("HTTP/1.0", "Connection: keep-alive\r\n".to_owned()),
        2 => ("HTTP/1.1", "Host: h\r\nConnection: close\r\n".to_owned()),
        _ => ("HTTP/1.1", "Host: h\r\n".to_owned()),
    };
    if rng.one_in(8) {
        fields += &format!("X: {}\r\n", "x".repeat(rng.size(15_000)));
    }
    let line = format!("{method} /{at} {version}");
    let mut content = Vec::new();
    let mut body = Vec::new();
    let mut waits = false;
    if posts {
        let max = match rng.below(12) {
            0 => 600_000,
            1..4 => 100_000,
            _ => 3000,
        };
        let len = rng.size(max);
        content.extend((0..len).map(|at| (at as u64).wrapping_mul(0x9E37_79B9) as u8));
        if version == "HTTP/1.1" && rng.one_in(2) {
            fields += "Transfer-Encoding: chunked\r\n";
            encode_chunked(&content, rng, &mut body);
        } else {
            fields += &format!("Content-Length: {len}\r\n");
            body.clone_from(&content);
        }
        if version == "HTTP/1.1" && rng.one_in(3) {
            fields += "Expect: 100-continue\r\n";
            waits = rng.one_in(2);
        }
    } else if rng.one_in(30) {
        fields += "Expect: tea\r\n";
    }
    bytes.extend_from_slice(format!("{line}\r\n{fields}\r\n").as_bytes());
    let hold = waits.then_some(bytes.len());
    bytes.extend_from_slice(&body);
    Sent {
        line,
        content,
        end: bytes.len(),
        hold,
        is_last: body.is_empty() && matches!(kind, 0 | 2),
    }
}

/// Encodes `content` in chunks of random sizes, with random extensions and trailers.
fn encode_chunked(content: &[u8], rng: &mut Rng, out: &mut Vec<u8>) {
    let mut rest = content;
    while !rest.is_empty() {
        let (chunk, after) = rest.split_at(rng.size(rest.len().min(50_000)));
        rest = after;
        let extension = if rng.one_in(9) { ";a=b" } else { "" };
        out.extend_from_slice(format!("{:x}{extension}\r\n", chunk.len()).as_bytes());
        out.extend_from_slice(chunk);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"0\r\n");
    if rng.one_in(5) {
        out.extend_from_slice(b"Trailer: t\r\n");
    }
    out.extend_from_slice(b"\r\n");
}
