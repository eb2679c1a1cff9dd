//! The machine from request bytes to response bytes: each case at once, byte by byte, and split at
//! every position.

mod upgrade;

use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use ::http::StatusCode;
use bytes::Bytes;
use proptest::prelude::*;

use super::machine::Machine;
use super::outbox::SMALL_BODY_BYTES;
use crate::body::file_range::Resident;
use crate::body::stream::BodySource;
use crate::body::{BodyStream, BodyWriter, FileRange};
use crate::config::Config;
use crate::http::forwarded::ClientInfo;
use crate::http::{Body, Request, Response};
use crate::proto::context::{Context, DrainState, RecordMode};
use crate::proto::exchange::{BodyMode, ExchangeId};
use crate::proto::record::{Completion, Record};
use crate::proto::segment::{Payload, Segment};
use crate::proto::transfer::{Direction, StalledOn};
use crate::proto::{Action, CloseReason, HTTP2_PREFACE, Ready, Timer};

fn peer() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 4321))
}

fn context(change: impl FnOnce(&mut Config)) -> Context {
    let mut config = Config::default();
    change(&mut config);
    let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
    Context::new(&config, RecordMode::On, Instant::now, wall)
}

/// How a conversation has ended so far.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
enum ConversationEnd {
    /// The machine wants to read more than there is.
    Reading,
    /// The client speaks HTTP/2.
    Switched,
    Closed(CloseReason),
}

struct Conversation {
    machine: Machine,
    cx: Context,
    output: Vec<u8>,
    records: Vec<Record>,
    shut_down: bool,
    aborted: bool,
    /// Maximum number of bytes of one write.
    write_size: usize,
    handler: fn(&Request<'_>) -> Response,
}

/// The bytes of a segment; those of a file are all `F`.
fn bytes_of(segment: Segment<'_>) -> Vec<u8> {
    let payload = match segment.payload {
        Payload::None => Vec::new(),
        Payload::Bytes(bytes) => bytes.to_vec(),
        Payload::File(part) => vec![b'F'; part.len],
    };
    [segment.prefix, &payload].concat()
}

/// The handler of these tests: its response is the request as the handler sees it.
fn echo(request: &Request<'_>) -> Response {
    let body = String::from_utf8_lossy(request.content()).into_owned();
    match request.path() {
        "/close" => Response::text("closing").closing(),
        "/empty" => Response::new(StatusCode::NO_CONTENT),
        "/large" => Response::text("x".repeat(SMALL_BODY_BYTES + 1)),
        path => Response::text(format!("{} {path} {body}", request.method())),
    }
}

impl Conversation {
    fn new(cx: Context) -> Self {
        Self {
            machine: Machine::new(ClientInfo::plain(peer())),
            cx,
            output: Vec::new(),
            records: Vec::new(),
            shut_down: false,
            aborted: false,
            write_size: usize::MAX,
            handler: echo,
        }
    }

    /// Runs the machine, each read returning one of `reads`, until it wants to read more.
    fn run<'p>(&mut self, reads: impl IntoIterator<Item = &'p [u8]>) -> ConversationEnd {
        let mut reads = reads.into_iter();
        for _ in 0..1_000_000 {
            match self.machine.next(Ready::ALL, &mut self.cx) {
                Action::Read => match reads.next() {
                    Some(bytes) => self.receive(bytes),
                    None => return ConversationEnd::Reading,
                },
                Action::Admit(id) => {
                    let request = self.machine.request(id, &self.cx);
                    let admission = match request.path() {
                        "/no-body" => Err(Response::text("not wanted")),
                        "/little" => Ok(BodyMode::Buffered { max: 3 }),
                        _ => Ok(BodyMode::Buffered { max: usize::MAX }),
                    };
                    self.machine.on_admission(id, admission, &mut self.cx);
                }
                Action::Dispatch(id) => self.respond(id),
                Action::Reject(id, rejection) => {
                    self.machine.on_response(id, rejection.into(), &mut self.cx);
                }
                Action::Write => {
                    let bytes = bytes_of(self.machine.segment());
                    assert!(!bytes.is_empty(), "a write of nothing");
                    assert!(!self.shut_down, "a write after the end");
                    let count = bytes.len().min(self.write_size);
                    self.output.extend_from_slice(&bytes[..count]);
                    self.machine.on_written(count);
                }
                Action::ProbeFile(id, range) => {
                    let resident = Ok(Resident::InKernel(range.len));
                    self.machine.on_probed(id, resident, &mut self.cx);
                }
                Action::PullBody(id, source) => {
                    let BodySource::Producer(mut producer) = source else {
                        panic!("{source:?}");
                    };
                    let chunk = producer.next_piece();
                    let again = |bytes| (bytes, BodySource::Producer(producer));
                    let chunk = chunk.map(|chunk| chunk.map(again));
                    self.machine.on_body_chunk(id, chunk, &mut self.cx);
                }
                Action::Blocked => panic!("nothing to wait for"),
                Action::ReadFile(_) | Action::AskPeerState | Action::Cancel(_) => {
                    panic!("only HTTP/2 asks for that")
                }
                Action::Upgrade(_) => self.machine.on_upgraded(Arc::new(|| ()), &self.cx),
                Action::RunJob(..) => panic!("no job"),
                Action::Switch => return ConversationEnd::Switched,
                Action::Log(record) => self.records.push(*record),
                Action::ShutdownWrite => self.shut_down = true,
                Action::Abort => self.aborted = true,
                Action::Close(reason) => return ConversationEnd::Closed(reason),
            }
        }
        panic!("the machine loops without progress");
    }

    /// Calls the handler.
    fn respond(&mut self, id: ExchangeId) {
        let response = (self.handler)(&self.machine.request(id, &self.cx));
        self.machine.on_response(id, response, &mut self.cx);
    }

    /// Lets the machine read `bytes`.
    fn receive(&mut self, bytes: &[u8]) {
        self.machine.read_buf(&mut self.cx).extend_from_slice(bytes);
    }

    fn end_input(&mut self) -> ConversationEnd {
        self.machine.on_eof();
        self.run([])
    }

    /// The status, persistence and body of each response: `200+ GET / ` is kept alive, `400-` closes.
    fn responses(&self) -> Vec<String> {
        let mut responses = Vec::new();
        let text = String::from_utf8_lossy(&self.output).into_owned();
        let mut rest = &text[..];
        while !rest.is_empty() {
            let (head, after) = rest.split_once("\r\n\r\n").expect("a complete head");
            let status = &head[9..12];
            let field = |name: &str| {
                head.lines()
                    .find_map(|line| line.strip_prefix(name))
                    .map(str::trim)
            };
            if status == "100" {
                responses.push("100".to_owned());
                rest = after;
                continue;
            }
            let sign = match field("Connection:") {
                Some("keep-alive") => '+',
                Some("close") => '-',
                other => panic!("Connection: {other:?}"),
            };
            let length = field("Content-Length:").map_or(0, |n| n.parse().expect("a number"));
            let (body, rest_of_output) = after.split_at(length.min(after.len()));
            responses.push(format!("{status}{sign} {body}"));
            rest = rest_of_output;
        }
        responses
    }
}

/// Runs `input` with every split into reads and checks that the output is always the same.
fn converse(input: &[u8]) -> Vec<String> {
    let fine = |end| {
        matches!(
            end,
            ConversationEnd::Reading | ConversationEnd::Closed(CloseReason::Finished)
        )
    };
    let mut whole = Conversation::new(context(|_| {}));
    assert!(fine(whole.run([input])));
    let mut bytewise = Conversation::new(context(|_| {}));
    bytewise.write_size = 1;
    assert!(fine(bytewise.run(input.chunks(1))));
    assert_eq!(bytewise.output, whole.output, "byte by byte");
    for at in 1..input.len() {
        let mut split = Conversation::new(context(|_| {}));
        let (first, second) = input.split_at(at);
        assert!(fine(split.run([first, second])));
        assert_eq!(split.output, whole.output, "split at {at}");
    }
    whole.responses()
}

#[test]
fn requests_get_their_responses_however_they_are_split() {
    let table: &[(&str, &[&str])] = &[
        ("", &[]),
        ("GET / HTTP/1.1\r\nHost: h\r\n\r\n", &["200+ GET / "]),
        // RFC 9112 §2.2: empty lines first.
        (
            "\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n",
            &["200+ GET / "],
        ),
        // §9.3: persistence.
        ("GET / HTTP/1.0\r\n\r\n", &["200- GET / "]),
        (
            "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
            &["200+ GET / "],
        ),
        (
            "GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
            &["200- GET / "],
        ),
        ("GET /close HTTP/1.1\r\nHost: h\r\n\r\n", &["200- closing"]),
        // §9.3.2: pipelining.
        (
            "GET /1 HTTP/1.1\r\nHost: h\r\n\r\nGET /2 HTTP/1.1\r\nHost: h\r\n\r\nHEAD /3 HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\nGET /4 HTTP/1.1\r\nHost: h\r\n\r\n",
            &["200+ GET /1 ", "200+ GET /2 ", "200- "],
        ),
        // Bodies.
        (
            "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello",
            &["200+ POST / hello"],
        ),
        (
            "POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabcPOST /b HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nde\r\n1;x\r\nf\r\n0\r\nT: v\r\n\r\nGET /c HTTP/1.1\r\nHost: h\r\n\r\n",
            &["200+ POST /a abc", "200+ POST /b def", "200+ GET /c "],
        ),
        ("GET /empty HTTP/1.1\r\nHost: h\r\n\r\n", &["204+ "]),
        // Rejections close.
        (
            "GET / HTTP/1.1\nHost: h\n\n",
            &["400- 400 Bad Request: bare LF in the request head\n"],
        ),
        (
            "GET / HTTP/1.1\r\n\r\n",
            &["400- 400 Bad Request: missing Host field\n"],
        ),
        (
            "\x16\x03\x01\x02\x00\x01\x00\x01\x3c\x03\x03",
            &["400- 400 Bad Request: TLS handshake on a plain HTTP port\n"],
        ),
        (
            "GET /\r\n",
            &["400- 400 Bad Request: malformed request line\n"],
        ),
        (
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            &["505- 505 HTTP Version Not Supported: only HTTP/1.0 and HTTP/1.1 are supported\n"],
        ),
        (
            "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip\r\n\r\n",
            &["501- 501 Not Implemented: only the transfer coding chunked is supported\n"],
        ),
        (
            "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
            &["400- 400 Bad Request: malformed chunk size\n"],
        ),
        (
            "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1048577\r\n\r\n",
            &["413- 413 Payload Too Large: request body too large\n"],
        ),
        (
            "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n100001\r\n",
            &["413- 413 Payload Too Large: request body too large\n"],
        ),
        (
            "GET / HTTP/1.1\r\nHost: h\r\nExpect: tea\r\n\r\n",
            &["417- 417 Expectation Failed: only the expectation 100-continue is supported\n"],
        ),
        // Nothing after a rejected head is read as a request.
        (
            "GET / HTTP/1.1\r\n\r\nGET /2 HTTP/1.1\r\nHost: h\r\n\r\n",
            &["400- 400 Bad Request: missing Host field\n"],
        ),
    ];
    for (input, expected) in table {
        assert_eq!(converse(input.as_bytes()), *expected, "{input:?}");
    }
}

/// Responds to `/STATUS/KIND` with that status and content of that kind.
fn with_forbidden_content(request: &Request<'_>) -> Response {
    let mut segments = request.path()[1..].split('/');
    let status = segments.next().and_then(|text| text.parse().ok());
    let status = StatusCode::from_u16(status.expect("a number")).expect("a status");
    let response = match segments.next().expect("a kind") {
        "large" => Response::text("x".repeat(SMALL_BODY_BYTES + 1)),
        "stream" => {
            let stream = BodyStream::written(|out| out.write_all(b"xxx"));
            Response::text("").with_body(Body::Stream(stream))
        }
        _ => Response::text("x"),
    };
    response.with_status(status)
}

#[test]
fn status_that_permits_no_content_sends_none() {
    for (status, framing) in [
        ("204 No Content", ""),
        ("205 Reset Content", "Content-Length: 0\r\n"),
        ("304 Not Modified", ""),
    ] {
        for method in ["GET", "HEAD"] {
            for kind in ["small", "large", "stream"] {
                let mut conversation = Conversation::new(context(|_| {}));
                conversation.handler = with_forbidden_content;
                let request = format!(
                    "{method} /{}/{kind} HTTP/1.1\r\nHost: h\r\n\r\n",
                    &status[..3]
                );
                let end = conversation.run([request.repeat(2).as_bytes()]);
                assert_eq!(end, ConversationEnd::Reading, "{request}");
                let output = String::from_utf8_lossy(&conversation.output).into_owned();
                let (first, second) = output.split_at(output.len() / 2);
                assert_eq!(first, second, "{request}");
                assert!(
                    first.starts_with(&format!("HTTP/1.1 {status}\r\n")),
                    "{first}"
                );
                assert!(first.contains("Connection: keep-alive\r\n"), "{first}");
                assert!(first.ends_with(&format!("\r\n{framing}\r\n")), "{first}");
                assert_eq!(first.matches("\r\n\r\n").count(), 1, "{first}");
                let has_length = first.contains("Content-Length") || first.contains("Transfer-");
                assert_eq!(has_length, !framing.is_empty(), "{first}");
                let sent: Vec<u64> = conversation
                    .records
                    .iter()
                    .map(|r| r.content_bytes)
                    .collect();
                assert_eq!(sent, [0, 0], "{request}");
            }
        }
    }
}

#[test]
fn client_that_expects_100_continue_gets_it_unless_body_came_or_is_rejected() {
    let mut waits = Conversation::new(context(|_| {}));
    waits.run([
        &b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n"[..],
    ]);
    assert_eq!(waits.responses(), ["100"]);
    waits.run([&b"hi"[..]]);
    assert_eq!(waits.responses(), ["100", "200+ POST / hi"]);

    let mut at_once = Conversation::new(context(|_| {}));
    at_once.run([
        &b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\nhi"[..],
    ]);
    assert_eq!(at_once.responses(), ["200+ POST / hi"]);

    let mut too_large = Conversation::new(context(|_| {}));
    too_large.run([&b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9999999\r\nExpect: 100-continue\r\n\r\n"[..]]);
    assert_eq!(
        too_large.responses(),
        ["413- 413 Payload Too Large: request body too large\n"]
    );
}

/// RFC 9110 §9.3.2.
#[test]
fn rejected_head_request_gets_no_content() {
    let long = format!("HEAD /{}", "a".repeat(9000));
    let large = format!("HEAD / HTTP/1.1\r\nHost: h\r\nA: {}", "a".repeat(17_000));
    for (input, status) in [
        ("HEAD /%zz HTTP/1.1\r\nHost: h\r\n\r\n", "400"),
        ("HEAD / HTTP/1.1\r\n\r\n", "400"),
        ("HEAD / HTTP/3.0\r\n\r\n", "505"),
        (&long, "414"),
        (&large, "431"),
    ] {
        for step in [1, 7, input.len()] {
            let mut conversation = Conversation::new(context(|_| {}));
            conversation.run(input.as_bytes().chunks(step));
            let output = String::from_utf8_lossy(&conversation.output).into_owned();
            assert_eq!(&output[9..12], status, "{input:?}");
            assert!(output.ends_with("\r\n\r\n"), "{output}");
        }
    }
}

#[test]
fn oversized_head_is_414_or_431() {
    let cases = [
        (format!("GET /{}", "a".repeat(9000)), "414"),
        (
            format!("GET / HTTP/1.1\r\nHost: h\r\nA: {}", "a".repeat(17_000)),
            "431",
        ),
        (
            format!(
                "GET / HTTP/1.1\r\nHost: h\r\nA: {}\r\n\r\n",
                "a".repeat(17_000)
            ),
            "431",
        ),
        (
            format!("GET / HTTP/1.1\r\n{}", "A: b\r\n".repeat(5_000)),
            "431",
        ),
    ];
    for (input, status) in &cases {
        for step in [1, 7, 4096, input.len()] {
            let mut conversation = Conversation::new(context(|_| {}));
            conversation.run(input.as_bytes().chunks(step));
            let responses = conversation.responses();
            assert!(
                responses.len() == 1 && responses[0].starts_with(status),
                "{responses:?} by {step}"
            );
        }
    }
}

#[test]
fn half_closed_client_gets_its_responses() {
    let request = &b"GET /1 HTTP/1.1\r\nHost: h\r\n\r\nGET /2 HTTP/1.1\r\nHost: h\r\n\r\n"[..];
    let mut late = Conversation::new(context(|_| {}));
    late.run([request]);
    assert_eq!(
        late.end_input(),
        ConversationEnd::Closed(CloseReason::PeerLeft)
    );
    assert_eq!(late.responses(), ["200+ GET /1 ", "200+ GET /2 "]);
}

#[test]
fn eof_inside_a_request_is_400() {
    let table = [
        ("GET / HTT", "incomplete request head"),
        (
            "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nhi",
            "incomplete request body",
        ),
    ];
    for (input, reason) in table {
        let mut conversation = Conversation::new(context(|_| {}));
        conversation.run([input.as_bytes()]);
        assert_eq!(
            conversation.end_input(),
            ConversationEnd::Closed(CloseReason::Finished)
        );
        assert_eq!(
            conversation.responses(),
            [format!("400- 400 Bad Request: {reason}\n")]
        );
    }
}

/// RFC 9112 §9.6: the connection is not closed while the client may send something, which would reset
/// it and lose the response, no matter which side asked for the close.
#[test]
fn server_close_lingers_until_client_closes() {
    for request in [
        "GET / HTTP/1.1\r\n\r\n",
        "GET /close HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET /large HTTP/1.0\r\n\r\n",
        "GET /large HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
        "GET / HTTP/1.0\r\n\r\nmore",
        "POST / HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: 1\r\n\r\na",
    ] {
        let mut conversation = Conversation::new(context(|_| {}));
        assert_eq!(
            conversation.run([request.as_bytes()]),
            ConversationEnd::Reading
        );
        assert!(conversation.shut_down);
        assert_eq!(conversation.machine.timer(), Timer::Linger);
        assert_eq!(
            conversation.run([&b"\r\nmore and more"[..]]),
            ConversationEnd::Reading
        );
        assert_eq!(
            conversation.end_input(),
            ConversationEnd::Closed(CloseReason::Finished)
        );
        assert_eq!(conversation.responses().len(), 1);
    }
}

/// A client that has announced that it sends no more is not waited for after a small response.
#[test]
fn client_that_announced_close_is_closed_without_lingering() {
    for request in [
        "GET / HTTP/1.0\r\n\r\n",
        "HEAD / HTTP/1.0\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
    ] {
        let mut conversation = Conversation::new(context(|_| {}));
        let end = conversation.run([request.as_bytes()]);
        assert_eq!(
            end,
            ConversationEnd::Closed(CloseReason::Finished),
            "{request}"
        );
        assert_eq!(conversation.records.len(), 1);
    }
}

#[test]
fn admission_limits_or_rejects_body() {
    let table = [
        ("/no-body", "Content-Length: 5\r\n", "200- not wanted"),
        ("/little", "Content-Length: 3\r\n", "200+ POST /little abc"),
        (
            "/little",
            "Content-Length: 4\r\n",
            "413- 413 Payload Too Large: request body too large\n",
        ),
    ];
    for (path, fields, response) in table {
        let mut conversation = Conversation::new(context(|_| {}));
        let head =
            format!("POST {path} HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\n{fields}\r\n");
        conversation.run([head.as_bytes()]);
        conversation.run([&b"abc"[..]]);
        let responses = conversation.responses();
        let final_response = responses.last().map(String::as_str);
        assert_eq!(final_response, Some(response), "{path} {fields}");
        let waited = responses[0] == "100";
        assert_eq!(waited, response.starts_with("200+"), "{path} {fields}");
    }
}

#[test]
fn interim_status_of_handler_is_500() {
    let mut conversation = Conversation::new(context(|_| {}));
    conversation.handler = |_| Response::new(StatusCode::CONTINUE);
    conversation.run([&b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"[..]]);
    assert!(conversation.responses()[0].starts_with("500"));
}

#[test]
fn unanswered_request_is_recorded_as_499() {
    let mut conversation = Conversation::new(context(|_| {}));
    conversation
        .run([&b"POST /a HTTP/1.1\r\nHost: h\r\nReferer: r\r\nContent-Length: 9\r\n\r\nab"[..]]);
    conversation.machine.on_lost(CloseReason::Broken);
    assert_eq!(
        conversation.run([]),
        ConversationEnd::Closed(CloseReason::Broken)
    );
    let record = &conversation.records[0];
    assert_eq!((record.status.as_u16(), record.content_bytes), (499, 0));
    assert_eq!(record.outcome, Completion::Aborted);
    assert_eq!(record.referer.as_deref(), Some(&b"r"[..]));
}

#[test]
fn lingering_ends_after_max_linger_bytes() {
    let mut conversation =
        Conversation::new(context(|config| config.limits.max_linger_bytes = 100));
    conversation.run([&b"GET / HTTP/1.1\r\n\r\n"[..]]);
    assert_eq!(
        conversation.run([&[b'x'; 99][..]]),
        ConversationEnd::Reading
    );
    assert_eq!(
        conversation.run([&b"x"[..]]),
        ConversationEnd::Closed(CloseReason::Finished)
    );
}

#[test]
fn keep_alive_max_is_announced_and_counted_down() {
    let mut conversation =
        Conversation::new(context(|config| config.limits.keep_alive_max = Some(2)));
    let request = &b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"[..];
    conversation.run([request, request, request, request]);
    let output = String::from_utf8_lossy(&conversation.output).into_owned();
    let announced: Vec<_> = output
        .lines()
        .filter(|line| line.starts_with("Keep-Alive:") || line.starts_with("Connection: close"))
        .collect();
    assert_eq!(
        announced,
        [
            "Keep-Alive: timeout=10, max=2",
            "Keep-Alive: timeout=10, max=1",
            "Connection: close"
        ]
    );
}

#[test]
fn pipelined_responses_are_one_write() {
    let mut conversation = Conversation::new(context(|_| {}));
    let request = &b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"[..];
    let pipeline = request.repeat(16);
    let mut writes = 0;
    let mut reads = vec![&pipeline[..]].into_iter();
    loop {
        match conversation.machine.next(Ready::ALL, &mut conversation.cx) {
            Action::Read => match reads.next() {
                Some(bytes) => conversation.receive(bytes),
                None => break,
            },
            Action::Dispatch(id) => conversation.respond(id),
            Action::Write => {
                let count = conversation.machine.segment().len_in_memory();
                let count = count.expect("bytes");
                writes += 1;
                conversation.machine.on_written(count);
            }
            Action::Log(record) => conversation.records.push(*record),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((writes, conversation.records.len()), (1, 16));
}

#[test]
fn full_outbox_stops_reading() {
    let mut conversation =
        Conversation::new(context(|config| config.limits.max_outbox_bytes = 1000));
    let pipeline = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n".repeat(200);
    let mut handled = 0;
    let mut sent = false;
    loop {
        match conversation.machine.next(Ready::ALL, &mut conversation.cx) {
            Action::Read if !sent => {
                sent = true;
                conversation.receive(&pipeline);
            }
            Action::Dispatch(id) => {
                handled += 1;
                conversation.respond(id);
            }
            // Nothing is sent.
            Action::Write => {
                assert!(conversation.machine.segment().prefix.len() < 1000 + 300);
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(handled < 10, "{handled} requests were handled");
}

/// A response with a body of `len` bytes, produced in chunks of three.
fn stream(len: usize, length: Option<u64>) -> Response {
    let mut left = len;
    let produce = move || {
        let chunk = left.min(3);
        left -= chunk;
        Ok((chunk > 0).then(|| bytes::Bytes::from(vec![b's'; chunk])))
    };
    let stream = BodyStream::produced(produce);
    let stream = match length {
        Some(length) => stream.with_length(length),
        None => stream,
    };
    Response::new(StatusCode::OK).with_body(Body::Stream(stream))
}

#[test]
fn stream_of_unknown_length_is_chunked_and_keeps_connection() {
    let mut conversation = Conversation::new(context(|_| {}));
    conversation.handler = |request| match request.path() {
        "/stream" => stream(7, None),
        _ => Response::text("plain"),
    };
    let request = "GET /stream HTTP/1.1\r\nHost: h\r\n\r\nHEAD /stream HTTP/1.1\r\nHost: h\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n";
    conversation.run([request.as_bytes()]);
    let output = String::from_utf8_lossy(&conversation.output).into_owned();
    let (head, rest) = output.split_once("\r\n\r\n").expect("a head");
    assert!(head.contains("Transfer-Encoding: chunked") && !head.contains("Content-Length"));
    let rest = rest.strip_prefix("3\r\nsss\r\n3\r\nsss\r\n1\r\ns\r\n0\r\n\r\n");
    let (head, rest) = rest
        .expect("chunks")
        .split_once("\r\n\r\n")
        .expect("a head");
    assert!(head.contains("Transfer-Encoding: chunked"), "{head}");
    assert!(
        rest.starts_with("HTTP/1.1 200 OK") && rest.ends_with("plain"),
        "{rest}"
    );
    let outcomes: Vec<_> = conversation
        .records
        .iter()
        .map(|record| record.outcome)
        .collect();
    assert_eq!(outcomes, [Completion::Complete; 3]);
}

#[test]
fn stream_to_http_1_0_ends_with_connection() {
    let mut conversation = Conversation::new(context(|_| {}));
    conversation.handler = |_| stream(7, None);
    let request = &b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"[..];
    conversation.run([request]);
    assert!(conversation.shut_down);
    let output = String::from_utf8_lossy(&conversation.output).into_owned();
    assert!(
        output.contains("Connection: close") && !output.contains("chunked"),
        "{output}"
    );
    assert!(output.ends_with("\r\n\r\nsssssss"), "{output}");
}

#[test]
fn stream_with_other_length_than_announced_closes_connection() {
    let requests = &b"GET /7 HTTP/1.1\r\nHost: h\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n"[..];
    let mut matching = Conversation::new(context(|_| {}));
    matching.handler = |request| match request.path() {
        "/7" => stream(7, Some(7)),
        _ => Response::text("next"),
    };
    assert_eq!(matching.run([requests]), ConversationEnd::Reading);
    assert_eq!(matching.responses(), ["200+ sssssss", "200+ next"]);
    for announced in [6, 8] {
        let mut mismatched = Conversation::new(context(|_| {}));
        mismatched.handler = match announced {
            6 => |_| stream(7, Some(6)),
            _ => |_| stream(7, Some(8)),
        };
        assert_eq!(
            mismatched.run([requests]),
            ConversationEnd::Closed(CloseReason::BodyTruncated)
        );
        assert!(!mismatched.output.ends_with(b"next"));
        assert_eq!(mismatched.records[0].outcome, Completion::Aborted);
    }
}

#[test]
fn failed_stream_closes_connection_without_last_chunk() {
    let mut conversation = Conversation::new(context(|_| {}));
    conversation.handler = |_| {
        let mut first = true;
        let produce = move || {
            if std::mem::take(&mut first) {
                Ok(Some(bytes::Bytes::from_static(b"abc")))
            } else {
                Err(std::io::Error::other("on purpose"))
            }
        };
        Response::new(StatusCode::OK).with_body(Body::Stream(BodyStream::produced(produce)))
    };
    let end = conversation.run([&b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"[..]]);
    assert_eq!(end, ConversationEnd::Closed(CloseReason::BodyTruncated));
    assert!(conversation.output.ends_with(b"3\r\nabc\r\n"));
    assert_eq!(conversation.records[0].outcome, Completion::Aborted);
}

#[test]
fn every_exchange_is_recorded() {
    let mut conversation = Conversation::new(context(|_| {}));
    conversation.run([&b"HEAD /large HTTP/1.1\r\nHost: h\r\nUser-Agent: u\r\nReferer: r\r\nSec-Fetch-Dest: image\r\n\r\nGET /a HTTP/1.1\r\nHost: h\r\n\r\n"[..]]);
    conversation.run([&b"GET /b\r\n"[..]]);
    let seen: Vec<_> = conversation
        .records
        .iter()
        .map(|record| {
            let line = String::from_utf8_lossy(&record.line).into_owned();
            (
                line,
                record.status.as_u16(),
                record.content_bytes,
                record.outcome,
            )
        })
        .collect();
    let rejection = "400 Bad Request: malformed request line\n".len() as u64;
    assert_eq!(
        seen,
        [
            (
                "HEAD /large HTTP/1.1".to_owned(),
                200,
                0,
                Completion::Complete
            ),
            ("GET /a HTTP/1.1".to_owned(), 200, 7, Completion::Complete),
            ("GET /b".to_owned(), 400, rejection, Completion::Complete),
        ]
    );
    assert_eq!(
        conversation.records[0].user_agent.as_deref(),
        Some(&b"u"[..])
    );
    assert_eq!(conversation.records[0].referer.as_deref(), Some(&b"r"[..]));
    let subresources = conversation.records.iter();
    let subresources: Vec<_> = subresources.map(|record| record.is_subresource).collect();
    assert_eq!(subresources, [true, false, false]);
    assert_eq!(conversation.records[0].client_addr, peer());
}

#[test]
fn aborted_transfer_is_recorded_with_bytes_sent() {
    let mut conversation = Conversation::new(context(|_| {}));
    conversation.handler = |_| {
        let file = std::fs::File::open("/dev/null").expect("a file");
        let range = FileRange::new(Arc::new(file), 0, 1 << 40);
        Response::new(StatusCode::OK).with_body(Body::File(range))
    };
    let mut received = false;
    let mut head_len = 0;
    loop {
        match conversation.machine.next(Ready::ALL, &mut conversation.cx) {
            Action::Read if !received => {
                received = true;
                conversation.receive(b"GET /big HTTP/1.1\r\nHost: h\r\n\r\n");
            }
            Action::Dispatch(id) => conversation.respond(id),
            Action::ProbeFile(id, range) => {
                assert_eq!((range.offset, range.len), (0, 1 << 40));
                let resident = Ok(Resident::InKernel(100_000));
                conversation
                    .machine
                    .on_probed(id, resident, &mut conversation.cx);
            }
            Action::Write => {
                let segment = conversation.machine.segment();
                let Payload::File(part) = segment.payload else {
                    panic!("{segment:?}");
                };
                assert_eq!((part.range.offset, part.len), (0, 100_000));
                if segment.prefix.is_empty() {
                    conversation.machine.on_written(1000);
                    break;
                }
                head_len = segment.prefix.len();
                conversation.machine.on_written(head_len);
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(head_len > 0 && conversation.machine.is_sending_bulk());
    assert_eq!(conversation.machine.timer(), Timer::Send);
    conversation.machine.on_lost(CloseReason::Broken);
    assert_eq!(
        conversation.run([]),
        ConversationEnd::Closed(CloseReason::Broken)
    );
    assert_eq!(conversation.records.len(), 1);
    let record = &conversation.records[0];
    assert_eq!(
        (record.content_bytes, record.outcome),
        (1000, Completion::Aborted)
    );
}

#[test]
fn preface_of_http2_switches_only_at_the_beginning_and_if_allowed() {
    use crate::config::Http2;

    let run = |http2: Http2, parts: &[&[u8]]| {
        let mut conversation = Conversation::new(context(|config| config.http2 = http2));
        conversation.run(parts.iter().copied())
    };
    let request = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n";
    for split in 1..HTTP2_PREFACE.len() {
        let (first, second) = HTTP2_PREFACE.split_at(split);
        let end = run(Http2::All, &[first, second]);
        assert_eq!(end, ConversationEnd::Switched, "{split}");
        for http2 in [Http2::Off, Http2::Tls] {
            let end = run(http2, &[first, second]);
            assert_ne!(end, ConversationEnd::Switched, "{split} {http2:?}");
        }
    }
    assert_eq!(run(Http2::All, &[b"PRI"]), ConversationEnd::Reading);
    assert_eq!(run(Http2::All, &[b"PRI *"]), ConversationEnd::Switched);
    for other in [
        &[&request[..], HTTP2_PREFACE][..],
        &[b"PRI * HTTP/2.1\r\n\r\n"],
        &[b"PRIX / HTTP/1.1\r\nHost: h\r\n\r\n"],
        &[b"pri * HTTP/2.0\r\n\r\n"],
    ] {
        assert_ne!(
            run(Http2::All, other),
            ConversationEnd::Switched,
            "{other:?}"
        );
    }
}

/// A client of HTTP/1.0 may take the end of the connection for the end of the body.
#[test]
fn http10_response_that_is_cut_off_aborts_the_connection() {
    fn fails(_: &Request<'_>) -> Response {
        let mut pieces = vec![Bytes::from_static(b"some")];
        let producer = move || match pieces.pop() {
            Some(piece) => Ok(Some(piece)),
            None => Err(std::io::Error::other("on purpose")),
        };
        Response::new(StatusCode::OK).with_body(Body::Stream(BodyStream::produced(producer)))
    }

    fn ends(_: &Request<'_>) -> Response {
        let mut pieces = vec![Bytes::from_static(b"some")];
        let producer = move || Ok(pieces.pop());
        Response::new(StatusCode::OK).with_body(Body::Stream(BodyStream::produced(producer)))
    }

    for is_cut_off in [true, false] {
        for version in ["1.0", "1.1"] {
            let mut conversation = Conversation::new(context(|_| {}));
            conversation.handler = if is_cut_off { fails } else { ends };
            let request = format!("GET / HTTP/{version}\r\nHost: h\r\n\r\n");
            conversation.run([request.as_bytes()]);
            let end = conversation.end_input();
            assert!(matches!(end, ConversationEnd::Closed(_)), "{end:?}");
            let aborts = is_cut_off && version == "1.0";
            assert_eq!(conversation.aborted, aborts, "{version} {is_cut_off}");
        }
    }
}

#[test]
fn timeout_is_408_inside_a_request_and_close_between_requests() {
    let table = [
        ("", Timer::KeepAlive, None),
        (
            "GET / HT",
            Timer::Header,
            Some("408- 408 Request Timeout: request timed out\n"),
        ),
        (
            "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nhi",
            Timer::Body,
            Some("408- 408 Request Timeout: request timed out\n"),
        ),
    ];
    for (input, timer, response) in table {
        let mut conversation = Conversation::new(context(|_| {}));
        conversation.run([input.as_bytes()]);
        assert_eq!(conversation.machine.timer(), timer);
        conversation.machine.on_timeout(&mut conversation.cx);
        let end = conversation.run([]);
        let responses = conversation.responses();
        assert_eq!(responses.first().map(String::as_str), response, "{input:?}");
        if response.is_none() {
            assert_eq!(end, ConversationEnd::Closed(CloseReason::TimedOut));
        }
    }
}

#[test]
fn drained_connection_closes_when_idle() {
    let mut conversation = Conversation::new(context(|_| {}));
    conversation.cx.drain_state = DrainState::Draining;
    // A request that is already in transit is answered.
    assert!(!conversation.machine.close_if_draining(&conversation.cx));
    conversation.run([&b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"[..]]);
    assert_eq!(conversation.responses(), ["200- GET / "]);

    let mut idle = Conversation::new(context(|_| {}));
    idle.run([&b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"[..]]);
    assert!(!idle.machine.close_if_draining(&idle.cx));
    idle.cx.drain_state = DrainState::Draining;
    assert!(idle.machine.close_if_draining(&idle.cx));
    assert_eq!(idle.run([]), ConversationEnd::Closed(CloseReason::Drained));
}

#[test]
fn idle_machine_owns_no_buffers() {
    let mut conversation = Conversation::new(context(|_| {}));
    conversation.run([&b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"[..]]);
    conversation.machine.release_buffers(&mut conversation.cx);
    assert_eq!(conversation.cx.buffers.free(), 2);
}

/// Longer than a target may be; three of them are longer than a head may be.
const LONG: &[u8] = &[b'a'; 8300];

proptest! {
    #[test]
    fn output_does_not_depend_on_how_input_is_split(
        parts in proptest::collection::vec(prop_oneof![
            Just(&b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n"[..]),
            Just(&b"HEAD /b HTTP/1.1\r\nHost: h\r\n\r\n"[..]),
            Just(&b"GET /large HTTP/1.1\r\nHost: h\r\n\r\n"[..]),
            Just(&b"GET / HTTP/1.0\r\n"[..]),
            Just(&b"POST /c HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nabcd"[..]),
            Just(&b"POST /d HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"[..]),
            Just(&b"2\r\nxy\r\n0\r\n\r\n"[..]),
            Just(&b"GET /\r\n"[..]),
            Just(&b"GET / HTTP/2.0\r\n"[..]),
            Just(&b"Host: h\r\n"[..]),
            Just(LONG),
            Just(&b"\r\n"[..]),
            Just(&b"\n"[..]),
            Just(&b"\0"[..]),
            Just(&b": "[..]),
        ], 0..8),
        read_size in 1..40usize,
        write_size in 1..5000usize,
    ) {
        let input = parts.concat();
        let mut whole = Conversation::new(context(|_| {}));
        whole.run([&input[..]]);
        let mut split = Conversation::new(context(|_| {}));
        split.write_size = write_size;
        split.run(input.chunks(read_size));
        prop_assert_eq!(&split.output, &whole.output);
        prop_assert_eq!(split.records.len(), whole.records.len());
    }
}

/// Runs a machine whose handlers read request bodies as streams, each read returning one of `reads`,
/// until it wants to read more. A handler responds when it has read its whole body. Returns the output
/// and the bodies.
fn stream_in(reads: &[&[u8]]) -> (Machine, Context, Vec<u8>, Vec<u8>) {
    let mut reads = reads.iter();
    let mut machine = Machine::new(ClientInfo::plain(peer()));
    let mut cx = context(|_| {});
    let (mut output, mut bodies, mut reader) = (Vec::new(), Vec::new(), None);
    loop {
        match machine.next(Ready::ALL, &mut cx) {
            Action::Admit(id) => {
                let writer = BodyWriter::new(|| {});
                let mode = BodyMode::Streamed {
                    max: 1 << 20,
                    writer,
                };
                machine.on_admission(id, Ok(mode), &mut cx);
            }
            Action::Dispatch(id) => reader = Some((id, machine.request(id, &cx).reader())),
            Action::Read => match reads.next() {
                Some(bytes) => machine.read_buf(&mut cx).extend_from_slice(bytes),
                None => break,
            },
            Action::Write => {
                let bytes = bytes_of(machine.segment());
                output.extend_from_slice(&bytes);
                machine.on_written(bytes.len());
            }
            Action::Blocked => {
                let (id, mut reader) = reader.take().expect("a request");
                reader.read_to_end(&mut bodies).expect("a complete body");
                machine.on_response(id, Response::text("read"), &mut cx);
            }
            Action::Log(_) => {}
            other => panic!("{other:?}"),
        }
    }
    (machine, cx, output, bodies)
}

#[test]
fn streamed_body_does_not_depend_on_how_input_is_split() {
    let body: Vec<u8> = (0..70_000_u32).map(|at| (at / 7) as u8).collect();
    let length = "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 70000\r\n\r\n";
    let length = [length.as_bytes(), &body].concat();
    let chunked = "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";
    let mut chunked = chunked.as_bytes().to_vec();
    for chunk in body.chunks(999) {
        chunked.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        chunked.extend_from_slice(chunk);
        chunked.extend_from_slice(b"\r\n");
    }
    chunked.extend_from_slice(b"0\r\n\r\n");
    let next = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nab";
    for input in [length, chunked] {
        let input = [&input[..], next].concat();
        for size in [1, 2, 3, 50, 1000, 4096, 16_384] {
            let reads: Vec<&[u8]> = input.chunks(size).collect();
            let (_, _, output, bodies) = stream_in(&reads);
            // The second body is small, so it is complete before it is read.
            assert!(bodies == [&body[..], b"ab"].concat(), "reads of {size}");
            let output = String::from_utf8_lossy(&output);
            assert_eq!(output.matches("HTTP/1.1 200").count(), 2, "{size}");
        }
    }
}

#[test]
fn streaming_waits_for_client_or_for_full_pipe() {
    let head = &b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\n\r\n"[..];
    let (mut machine, mut cx, _, _) = stream_in(&[head]);
    assert_eq!(machine.timer(), Timer::Body);
    let mut sent = 0;
    while let Action::Read = machine.next(Ready::ALL, &mut cx) {
        machine.read_buf(&mut cx).extend_from_slice(&[b'x'; 1000]);
        sent += 1000;
        assert!(sent < 1_000_000, "it reads without end");
    }
    assert_eq!(machine.timer(), Timer::Handler);
    machine.on_timeout(&mut cx);
    assert!(matches!(machine.next(Ready::ALL, &mut cx), Action::Blocked));
    // A response before the end of the body closes the connection: the start of the next request is
    // unknown.
    machine.on_response(machine.exchange_id(), Response::text("enough"), &mut cx);
    assert!(matches!(machine.next(Ready::ALL, &mut cx), Action::Write));
    let text = String::from_utf8_lossy(machine.segment().prefix).into_owned();
    assert!(text.contains("Connection: close"), "{text}");
}

/// A file that cannot be read is a 500 as long as nothing of the response is sent; after that the
/// connection is closed.
#[test]
fn unreadable_file_is_500_unless_response_is_partly_sent() {
    let file = Arc::new(std::fs::File::open("/dev/null").expect("a file"));
    for (readable, status) in [(0, "500"), (1000, "200")] {
        let mut machine = Machine::new(ClientInfo::plain(peer()));
        let mut cx = context(|_| {});
        let mut input =
            Some(&b"GET /1 HTTP/1.1\r\nHost: h\r\n\r\nGET /2 HTTP/1.1\r\nHost: h\r\n\r\n"[..]);
        let (mut output, mut records, mut probes) = (Vec::new(), Vec::new(), 0);
        let reason = loop {
            match machine.next(Ready::ALL, &mut cx) {
                Action::Read => match input.take() {
                    Some(input) => machine.read_buf(&mut cx).extend_from_slice(input),
                    None => machine.on_eof(),
                },
                Action::Dispatch(id) => {
                    let response = match machine.request(id, &cx).path() {
                        "/1" => Response::text("small"),
                        _ => {
                            let range = FileRange::new(Arc::clone(&file), 0, 100_000);
                            Response::new(StatusCode::OK).with_body(Body::File(range))
                        }
                    };
                    machine.on_response(id, response, &mut cx);
                }
                Action::ProbeFile(id, _) => {
                    probes += 1;
                    let result = match probes {
                        1 if readable > 0 => Ok(Resident::InKernel(readable)),
                        _ => Err(std::io::Error::other("on purpose")),
                    };
                    machine.on_probed(id, result, &mut cx);
                }
                Action::Write => {
                    let bytes = bytes_of(machine.segment());
                    output.extend_from_slice(&bytes);
                    machine.on_written(bytes.len());
                }
                Action::Log(record) => records.push(*record),
                Action::ShutdownWrite => {}
                Action::Close(reason) => break reason,
                other => panic!("{other:?}"),
            }
        };
        let output = String::from_utf8_lossy(&output).into_owned();
        let last = output.rfind("HTTP/1.1 ").expect("a response");
        assert!(
            output[last..].starts_with(&format!("HTTP/1.1 {status}")),
            "{output}"
        );
        assert!(output.contains("small"), "{output}");
        let is_500 = status == "500";
        assert_eq!(
            output[last..].contains("Connection: close"),
            is_500,
            "{output}"
        );
        let expected = if is_500 {
            CloseReason::Finished
        } else {
            CloseReason::BodyTruncated
        };
        assert_eq!(reason, expected);
        assert_eq!(records.len(), 2);
        assert_eq!(records[1].status.as_str(), status);
        assert_eq!(records[1].outcome == Completion::Complete, is_500);
    }
}

/// A machine with a response whose body is a file of a gibibyte.
fn large_download(recording: RecordMode) -> (Machine, Context) {
    let mut machine = Machine::new(ClientInfo::plain(peer()));
    let mut cx = context(|_| {});
    cx.recording = recording;
    assert!(matches!(machine.next(Ready::ALL, &mut cx), Action::Read));
    let request = b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n";
    machine.read_buf(&mut cx).extend_from_slice(request);
    let Action::Dispatch(id) = machine.next(Ready::ALL, &mut cx) else {
        panic!("a request");
    };
    assert!(machine.transfer().is_none());
    let file = Arc::new(std::fs::File::open("/dev/null").expect("a file"));
    let body = Body::File(FileRange::new(file, 0, 1 << 30));
    let response = Response::new(StatusCode::OK).with_body(body);
    machine.on_response(id, response, &mut cx);
    (machine, cx)
}

#[test]
fn transfer_of_file_is_stalled_on_disk_while_probed() {
    let (mut machine, mut cx) = large_download(RecordMode::On);
    let progress = |machine: &Machine| {
        let transfer = machine.transfer().expect("a file");
        assert_eq!(transfer.info.line, b"GET /a HTTP/1.1");
        assert_eq!(
            (transfer.direction, transfer.total),
            (Direction::Down, Some(1 << 30))
        );
        (transfer.moved, transfer.stall)
    };
    assert_eq!(progress(&machine), (0, None));
    let Action::ProbeFile(id, _) = machine.next(Ready::ALL, &mut cx) else {
        panic!("a file to probe");
    };
    assert_eq!(progress(&machine), (0, Some(StalledOn::Disk)));
    machine.on_probed(id, Ok(Resident::InKernel(1000)), &mut cx);
    assert_eq!(progress(&machine), (0, None));
    assert!(matches!(machine.next(Ready::ALL, &mut cx), Action::Write));
    let head = machine.segment().prefix.len();
    machine.on_written(head);
    machine.on_written(1000);
    assert_eq!(progress(&machine), (1000, None));
    assert!(matches!(
        machine.next(Ready::ALL, &mut cx),
        Action::ProbeFile(..)
    ));
    assert_eq!(progress(&machine), (1000, Some(StalledOn::Disk)));
}

#[test]
fn unrecorded_exchange_reports_no_transfer() {
    let (machine, _) = large_download(RecordMode::Off);
    assert!(machine.transfer().is_none());
}

#[test]
fn answers_for_another_exchange_are_dropped() {
    let stale = ExchangeId(7);
    let (mut machine, mut cx) = large_download(RecordMode::On);
    let Action::ProbeFile(id, _) = machine.next(Ready::ALL, &mut cx) else {
        panic!("a file to probe");
    };
    machine.on_probed(stale, Ok(Resident::InKernel(1000)), &mut cx);
    machine.on_body_chunk(stale, Ok(None), &mut cx);
    machine.on_response(stale, Response::text("late"), &mut cx);
    let admission = Ok(BodyMode::Buffered { max: 1 });
    machine.on_admission(stale, admission, &mut cx);
    assert!(matches!(machine.next(Ready::ALL, &mut cx), Action::Blocked));
    machine.on_probed(id, Ok(Resident::InKernel(1000)), &mut cx);
    assert!(matches!(machine.next(Ready::ALL, &mut cx), Action::Write));
}
