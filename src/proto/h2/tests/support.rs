//! A client and a driver without a transport.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use ::http::StatusCode;
use bytes::Bytes;

use crate::body::file_range::Resident;
use crate::body::stream::BodySource;
use crate::body::{BodyStream, BodyWriter, FileRange};
use crate::config::{Config, Timeouts};
use crate::http::forwarded::ClientInfo;
use crate::http::{Body, Rejection, Request, Response};
use crate::proto::context::{Context, RecordMode};
use crate::proto::exchange::{BodyMode, ExchangeId};
use crate::proto::file_read::FileBytes;
use crate::proto::h2::machine::Machine;
use crate::proto::peer_state::{PeerState, ReceiverState};
use crate::proto::record::Record;
use crate::proto::{Action, CloseReason, Ready};

pub(super) use super::client::*;

/// How a conversation has ended so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The machine waits.
    Waiting,
    Closed(CloseReason),
}

/// What the handler does with a request.
pub(super) enum Answer {
    Now(Response),
    /// A job is out, and answers when the test says so.
    Later,
}

impl From<Response> for Answer {
    fn from(response: Response) -> Self {
        Self::Now(response)
    }
}

pub(super) struct Conversation {
    pub(super) machine: Machine,
    pub(super) cx: Context,
    pub(super) timeouts: Timeouts,
    /// What the server has sent.
    pub(super) sent: Vec<Sent>,
    /// The beginning of a frame.
    unparsed: Vec<u8>,
    pub(super) records: Vec<Record>,
    pub(super) cancelled: Vec<u32>,
    /// Exchanges whose handler has not answered.
    pub(super) jobs: Vec<u32>,
    pub(super) pulls: Vec<(u32, BodySource)>,
    pub(super) probes: Vec<(u32, FileRange)>,
    pub(super) writers: BTreeMap<u32, crate::body::BodyReader>,
    pub(super) shut_down: bool,
    /// How often the machine has read.
    pub(super) reads: usize,
    /// Reads of files that were brought into the page cache before.
    pub(super) resident_reads: usize,
    pub(super) writable: bool,
    pub(super) max_bulk_bytes: usize,
    /// Bytes that the transport takes before it is not writable any more.
    pub(super) room: usize,
    /// Maximum number of bytes of one write.
    pub(super) write_size: usize,
    pub(super) handler: fn(&Request<'_>) -> Answer,
    pub(super) admission: fn(&Request<'_>) -> Admitted,
    /// The receive buffer of the client's kernel, if it is known, and what the client has not read.
    pub(super) peer_buffer: Option<usize>,
    pub(super) unread: usize,
    pub(super) state_queries: usize,
    /// What a read of a file returns; `None` reads `F`s.
    pub(super) file_bytes: VecDeque<FileBytes>,
}

/// The decision of a handler about a body.
pub(super) enum Admitted {
    Buffered(usize),
    Streamed(u64),
    Rejected(Response),
}

pub(super) fn peer() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 4321))
}

pub(super) fn context(change: impl FnOnce(&mut Config)) -> Context {
    let mut config = Config::default();
    change(&mut config);
    let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
    Context::new(&config, RecordMode::On, Instant::now, wall)
}

/// The handler of these tests: its response is the request as the handler sees it.
pub(super) fn echo(request: &Request<'_>) -> Answer {
    let body = String::from_utf8_lossy(request.content()).into_owned();
    match request.path() {
        "/later" => Answer::Later,
        "/empty" => Response::new(::http::StatusCode::NO_CONTENT).into(),
        path => Response::text(format!("{} {path} {body}", request.method())).into(),
    }
}

fn admit(request: &Request<'_>) -> Admitted {
    match request.path() {
        "/no-body" => Admitted::Rejected(Response::text("not wanted")),
        "/little" => Admitted::Buffered(3),
        "/stream" => Admitted::Streamed(u64::MAX),
        _ => Admitted::Buffered(usize::MAX),
    }
}

impl Conversation {
    pub(super) fn new() -> Self {
        Self::with(context(|_| {}))
    }

    pub(super) fn with(mut cx: Context) -> Self {
        let client = ClientInfo::plain(peer());
        Self {
            machine: Machine::new(client, &mut cx),
            cx,
            timeouts: Timeouts::default(),
            sent: Vec::new(),
            unparsed: Vec::new(),
            records: Vec::new(),
            cancelled: Vec::new(),
            jobs: Vec::new(),
            pulls: Vec::new(),
            probes: Vec::new(),
            writers: BTreeMap::new(),
            shut_down: false,
            reads: 0,
            resident_reads: 0,
            writable: true,
            max_bulk_bytes: usize::MAX,
            room: usize::MAX,
            write_size: usize::MAX,
            handler: echo,
            admission: admit,
            peer_buffer: None,
            unread: 0,
            state_queries: 0,
            file_bytes: VecDeque::new(),
        }
    }

    /// A connection whose client has sent its preface.
    pub(super) fn begun() -> Self {
        let mut conversation = Self::new();
        assert_eq!(conversation.send(&preface()), End::Waiting);
        conversation
    }

    /// Lets the client send `bytes`, and runs the machine.
    pub(super) fn send(&mut self, bytes: &[u8]) -> End {
        self.run([bytes])
    }

    /// As [`send`](Self::send); returns whether the machine has read the bytes.
    pub(super) fn try_send(&mut self, bytes: &[u8]) -> bool {
        let before = self.reads;
        self.send(bytes);
        self.reads > before
    }

    /// Runs the machine, each read returning one of `reads`, until it has to wait.
    pub(super) fn run<'p>(&mut self, reads: impl IntoIterator<Item = &'p [u8]>) -> End {
        let mut reads = reads.into_iter().filter(|read| !read.is_empty()).peekable();
        for _ in 0..10_000_000 {
            let ready = Ready {
                readable: reads.peek().is_some(),
                writable: self.writable && self.room > 0,
                max_bulk_bytes: self.max_bulk_bytes,
            };
            let action = self.machine.next(ready, &mut self.cx);
            match action {
                Action::Read => {
                    self.reads += 1;
                    let bytes = reads
                        .next()
                        .expect("the machine knows that there is nothing");
                    let buffer = self.machine.read_buf(&mut self.cx);
                    buffer.extend_from_slice(bytes);
                }
                Action::Blocked => {
                    self.machine.release_buffers(&mut self.cx);
                    return End::Waiting;
                }
                Action::Close(reason) => return End::Closed(reason),
                action => self.perform(action),
            }
        }
        panic!("the machine loops without progress");
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::Admit(id) => self.admit(id),
            Action::Dispatch(id) => {
                let request = self.machine.request(id, &self.cx);
                assert_eq!(request.version(), ::http::Version::HTTP_2);
                if request.is_streamed() {
                    self.writers.insert(id.0, request.reader());
                }
                match (self.handler)(&request) {
                    Answer::Now(response) => self.machine.on_response(id, response, &mut self.cx),
                    Answer::Later => self.jobs.push(id.0),
                }
            }
            Action::Reject(id, rejection) => self.reject(id, rejection),
            Action::Write => self.write(),
            Action::ReadFile(id) => self.read_file(id),
            Action::ProbeFile(id, range) => self.probes.push((id.0, range)),
            Action::AskPeerState => {
                self.state_queries += 1;
                let state = self.peer_buffer.map(|buffer| PeerState {
                    unacknowledged: 0,
                    receiver: Some(ReceiverState {
                        window: (buffer - self.unread).try_into().expect("a window"),
                        min_rtt: Duration::ZERO,
                    }),
                });
                self.machine.on_peer_state(state, &self.cx);
            }
            Action::PullBody(id, source) => self.pulls.push((id.0, source)),
            Action::Cancel(id) => self.cancelled.push(id.0),
            Action::Log(record) => self.records.push(*record),
            Action::ShutdownWrite => self.shut_down = true,
            other => panic!("{other:?}"),
        }
    }

    fn admit(&mut self, id: ExchangeId) {
        let request = self.machine.request(id, &self.cx);
        let admission = match (self.admission)(&request) {
            Admitted::Buffered(max) => Ok(BodyMode::Buffered { max }),
            Admitted::Streamed(max) => {
                let writer = BodyWriter::new(|| {});
                Ok(BodyMode::Streamed { max, writer })
            }
            Admitted::Rejected(response) => Err(response),
        };
        self.machine.on_admission(id, admission, &mut self.cx);
    }

    fn reject(&mut self, id: ExchangeId, rejection: Rejection) {
        // The request must be there.
        assert!(!self.machine.request(id, &self.cx).path().is_empty());
        self.machine.on_response(id, rejection.into(), &mut self.cx);
    }

    fn write(&mut self) {
        let segment = self.machine.segment();
        let bytes = segment.prefix;
        assert!(!bytes.is_empty(), "a write of nothing");
        assert!(bytes.len() <= 128 * 1024, "{} bytes staged", bytes.len());
        assert!(!self.shut_down, "a write after the end");
        let count = bytes.len().min(self.write_size).min(self.room);
        self.room -= count;
        self.unread += count;
        self.unparsed.extend_from_slice(&bytes[..count]);
        take_frames(&mut self.unparsed, &mut self.sent);
        self.machine.on_written(count);
    }

    fn read_file(&mut self, id: ExchangeId) {
        let read = self.machine.file_read().expect("a read");
        let len = read.buffer.len();
        assert!(len > 0 && len as u64 <= read.range.len);
        self.resident_reads += usize::from(read.is_resident);
        let result = self.file_bytes.pop_front();
        let result = result.unwrap_or(FileBytes::Read(len));
        if let FileBytes::Read(count) = result {
            read.buffer[..count].fill(b'F');
        }
        self.machine.on_file_bytes(id, result, &mut self.cx);
    }

    /// The handler answers.
    pub(super) fn answer(&mut self, id: u32, response: Response) -> End {
        assert!(
            self.machine.is_open(ExchangeId(id)),
            "the answer is dropped"
        );
        self.jobs.retain(|job| *job != id);
        self.machine
            .on_response(ExchangeId(id), response, &mut self.cx);
        self.run([])
    }

    /// The oldest pull is answered by its producer.
    pub(super) fn produce(&mut self) -> End {
        let (id, source) = self.pulls.remove(0);
        let BodySource::Producer(mut producer) = source else {
            panic!("{source:?}");
        };
        let chunk = producer.next_piece();
        let chunk = chunk.map(|chunk| chunk.map(|it| (it, BodySource::Producer(producer))));
        self.machine
            .on_body_chunk(ExchangeId(id), chunk, &mut self.cx);
        self.run([])
    }

    /// The oldest probe is answered.
    pub(super) fn probed(&mut self, resident: std::io::Result<Resident>) -> End {
        let (id, _) = self.probes.remove(0);
        self.machine
            .on_probed(ExchangeId(id), resident, &mut self.cx);
        self.run([])
    }

    /// Time passes. If a limit is due, it expires.
    pub(super) fn wait(&mut self, time: Duration) -> End {
        self.cx.now += time;
        let deadline = self.machine.deadline(&self.timeouts);
        if deadline.is_some_and(|deadline| deadline <= self.cx.now) {
            self.machine.on_timeout(&self.timeouts, &mut self.cx);
        }
        self.run([])
    }

    pub(super) fn end_input(&mut self) -> End {
        self.machine.on_eof();
        self.run([])
    }

    pub(super) fn summary(&self) -> Vec<String> {
        summary(&self.sent)
    }

    /// The method, target and version, status and bytes of each record.
    pub(super) fn logged(&self) -> Vec<String> {
        let line = |record: &Record| String::from_utf8_lossy(&record.line).into_owned();
        let records = self.records.iter();
        records
            .map(|record| {
                let (status, bytes) = (record.status.as_u16(), record.content_bytes);
                format!("{} {status} {bytes} {:?}", line(record), record.outcome)
            })
            .collect()
    }

    /// How many bytes of DATA of a stream the client has received.
    pub(super) fn received(&self, id: u32) -> usize {
        self.sent
            .iter()
            .map(|sent| match sent {
                Sent::Data { stream, bytes, .. } if *stream == id => bytes.len(),
                _ => 0,
            })
            .sum()
    }
}

/// Runs `input` with every split into reads and checks that what becomes of the streams is always the
/// same. Returns the summary.
pub(super) fn converse(input: &[u8]) -> Vec<String> {
    let mut whole = Conversation::new();
    whole.run([input]);
    let expected = whole.summary();
    let mut bytewise = Conversation::new();
    bytewise.write_size = 1;
    bytewise.run(input.chunks(1));
    assert_eq!(bytewise.summary(), expected, "byte by byte");
    let sorted = |mut lines: Vec<String>| {
        lines.sort();
        lines
    };
    let logged = sorted(bytewise.logged());
    assert_eq!(logged, sorted(whole.logged()), "byte by byte");
    let step = (input.len() / 2000).max(1);
    for at in (1..input.len()).step_by(step) {
        let mut split = Conversation::new();
        let (first, second) = input.split_at(at);
        split.run([first, second]);
        assert_eq!(split.summary(), expected, "split at {at}");
    }
    expected
}

/// Sends the frames one by one, and byte by byte, so that each has its effect before the next is sent.
/// Returns the summary.
pub(super) fn in_steps(frames: &[Vec<u8>]) -> Vec<String> {
    let mut conversation = Conversation::begun();
    for frame in frames {
        conversation.send(frame);
    }
    let mut bytewise = Conversation::begun();
    for frame in frames {
        bytewise.run(frame.chunks(1));
    }
    assert_eq!(bytewise.summary(), conversation.summary());
    conversation.summary()
}

/// As [`converse`], after the preface.
pub(super) fn exchange(frames: &[Vec<u8>]) -> Vec<String> {
    converse(&[preface(), frames.concat()].concat())
}

/// True if the stream ended regularly.
pub(super) fn has_ended(conversation: &Conversation, id: u32) -> bool {
    conversation.sent.iter().any(|sent| {
        matches!(sent, Sent::Data { stream, ends: true, .. } | Sent::Head { stream, ends: true, .. } if *stream == id)
    })
}

fn file(len: u64) -> Body {
    let file = Arc::new(File::open("/dev/null").expect("a file"));
    Body::File(FileRange::new(file, 0, len))
}

/// `/bytes/N`, `/file/N`, `/stream/N` and `/status/N` have bodies of N bytes, or that status.
pub(super) fn sized(request: &crate::http::Request<'_>) -> Answer {
    let mut segments = request.path()[1..].split('/');
    let kind = segments.next().unwrap_or_default();
    let len: usize = segments
        .next()
        .and_then(|text| text.parse().ok())
        .unwrap_or(0);
    let response = Response::new(StatusCode::OK);
    match kind {
        "bytes" => response
            .with_body(Body::Bytes(vec![b'B'; len].into()))
            .into(),
        "file" => response.with_body(file(len as u64)).into(),
        "stream" | "known" => {
            let mut left = len;
            let stream = BodyStream::produced(move || {
                let chunk = left.min(10_000);
                left -= chunk;
                Ok((chunk > 0).then(|| Bytes::from(vec![b'P'; chunk])))
            });
            let stream = if kind == "known" {
                stream.with_length(len as u64)
            } else {
                stream
            };
            response.with_body(Body::Stream(stream)).into()
        }
        "short" => {
            let stream = BodyStream::produced(|| Ok(None)).with_length(len as u64);
            response.with_body(Body::Stream(stream)).into()
        }
        "fails" => {
            let stream = BodyStream::produced(|| Err(std::io::Error::other("on purpose")));
            response.with_body(Body::Stream(stream)).into()
        }
        "status" => {
            let status = StatusCode::from_u16(len as u16).expect("a status");
            Response::text("forbidden").with_status(status).into()
        }
        "css" => response
            .with_header("content-type", "text/css")
            .with_body(Body::Bytes(vec![b'C'; len].into()))
            .into(),
        _ => Answer::Later,
    }
}

pub(super) fn sizes(initial_window: u32) -> Conversation {
    let mut conversation = Conversation::new();
    conversation.handler = sized;
    conversation.send(&preface_with(&[(INITIAL_WINDOW_SIZE, initial_window)]));
    conversation
}
