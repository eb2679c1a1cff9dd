//! What answers the simulated requests: the handler, its threads, and the access log.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Instant;

use ::http::StatusCode;
use bytes::Bytes;

use super::rng::Rng;
use super::script::Script;
use super::wire::{FILE_STRIDE, Fault, Wire, byte_at};
use crate::body::file_range::Resident;
use crate::body::stream::BodySource;
use crate::body::{BodyReader, BodyStream, BodyWriter, FileRange};
use crate::handler::BodyPolicy;
use crate::http::{Body, Rejection, Request, Response};
use crate::net::connection::Services;
use crate::net::event_loop::mailbox::Piece;
use crate::proto::exchange::ExchangeId;
use crate::proto::record::Record;

/// What comes back to the connection from elsewhere.
pub(super) enum Mail {
    Response(ExchangeId, Response),
    Chunk(ExchangeId, Piece),
    Resident(ExchangeId, io::Result<Resident>),
}

/// A request as the host has seen it, and what it has meant to answer.
pub(super) struct Exchange {
    pub(super) line: String,
    pub(super) expects: bool,
    pub(super) stage: Stage,
    pub(super) status: u16,
    pub(super) content: Vec<u8>,
    /// The content is made piece by piece, and its length is known before.
    pub(super) announced: bool,
    /// The content that was promised is not to be had.
    pub(super) failed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Its content is to be read.
    Admitted,
    /// The handler has it, but not all of its content.
    StreamingBody,
    /// The handler has all of it.
    Handled,
    Answered,
}

pub(super) struct SimulatedServices {
    rng: Rng,
    wire: Rc<RefCell<Wire>>,
    script: Rc<Script>,
    file: Arc<File>,
    pub(super) exchanges: Vec<Exchange>,
    pub(super) records: Vec<Record>,
    pub(super) mail: Vec<Mail>,
    /// How often readers have told that there is room.
    pub(super) room: Arc<AtomicUsize>,
    pub(super) job: Option<Job>,
    making: Option<Making>,
    /// How often disks and makers fail: one in so many times.
    failures: usize,
}

/// A handler that reads a content while it comes in.
pub(super) struct Job {
    id: ExchangeId,
    at: usize,
    reader: BodyReader,
    read: Vec<u8>,
    /// After how many bytes it has seen enough.
    enough: usize,
}

/// A content that is made piece by piece.
struct Making {
    at: usize,
    pieces: VecDeque<Bytes>,
    announced: Option<usize>,
    made: usize,
    /// How a writer is told that its piece is taken.
    taken: Option<Receiver<()>>,
}

impl SimulatedServices {
    pub(super) fn new(mut rng: Rng, wire: Rc<RefCell<Wire>>, script: Rc<Script>) -> Self {
        Self {
            wire,
            script,
            file: Arc::new(File::open("/dev/null").expect("a file")),
            exchanges: Vec::new(),
            records: Vec::new(),
            mail: Vec::new(),
            room: Arc::default(),
            job: None,
            making: None,
            failures: [5, 60, usize::MAX][rng.below(3)],
            rng,
        }
    }

    /// True if somebody will come back to the connection.
    pub(super) fn is_busy(&self) -> bool {
        !self.mail.is_empty() || self.job.is_some() || self.room.load(Ordering::Relaxed) > 0
    }

    /// The handler that reads a content goes on, if it need not wait.
    pub(super) fn run_job(&mut self) {
        let Some(job) = &mut self.job else {
            return;
        };
        if job.reader.would_wait() {
            return;
        }
        let mut room = vec![0; self.rng.size(100_000)];
        let more = match job.reader.read(&mut room) {
            Ok(0) => {
                let complete = self.script.requests.get(job.at).map(|sent| &sent.content);
                if job.at < self.script.intact {
                    assert!(Some(&job.read) == complete, "another content");
                }
                false
            }
            Ok(count) => {
                job.read.extend_from_slice(&room[..count]);
                job.read.len() < job.enough
            }
            Err(_) => false,
        };
        if !more {
            let (id, at) = (job.id, job.at);
            self.job = None;
            let response = self.make_response(at);
            self.mail.push(Mail::Response(id, response));
        }
    }

    /// The exchange that this is about; it may be known from its admission.
    fn exchange(&mut self, request: &Request<'_>) -> usize {
        let version = match request.version() {
            ::http::Version::HTTP_10 => "HTTP/1.0",
            _ => "HTTP/1.1",
        };
        let line = format!("{} {} {version}", request.method(), request.target());
        let last = self.exchanges.last();
        let goes_on = last.is_some_and(|last| last.stage != Stage::Answered && last.line == line);
        if !goes_on {
            let done = last
                .is_none_or(|last| matches!(last.stage, Stage::Answered | Stage::StreamingBody));
            assert!(done, "another request before the answer");
            let at = self.exchanges.len();
            if at < self.script.intact {
                assert_eq!(line, self.script.requests[at].line);
            }
            self.exchanges.push(Exchange {
                line,
                expects: request.header("Expect") == Some("100-continue"),
                stage: Stage::Admitted,
                status: 0,
                content: Vec::new(),
                announced: false,
                failed: false,
            });
        }
        self.exchanges.len() - 1
    }

    /// Whatever a handler may answer.
    fn make_response(&mut self, at: usize) -> Response {
        let rng = &mut self.rng;
        let mut status = StatusCode::OK;
        let bytes = |len: usize| -> Vec<u8> { (at as u64..).take(len).map(byte_at).collect() };
        let (body, content) = match rng.below(12) {
            0 => {
                status = StatusCode::NO_CONTENT;
                (Body::Empty, Vec::new())
            }
            1 => (Body::Empty, Vec::new()),
            2 => {
                // The length of what would have been sent.
                status = StatusCode::NOT_MODIFIED;
                (Body::Bytes(bytes(100).into()), Vec::new())
            }
            3 => {
                let content = bytes(32_769 + rng.size(60_000));
                (Body::Bytes(content.clone().into()), content)
            }
            4..7 => {
                let start = at as u64 * FILE_STRIDE;
                let offset = start + rng.size(1000) as u64;
                let len = (rng.size(200_000) - 1) as u64;
                if rng.one_in(self.failures) {
                    let fault = [Fault::Shrunk, Fault::Unreadable][rng.below(2)];
                    let broken = offset + rng.below(len as usize + 1) as u64;
                    self.wire.borrow_mut().faults.insert(start, (broken, fault));
                }
                let content = (offset..offset + len).map(byte_at).collect();
                let range = FileRange::new(Arc::clone(&self.file), offset, len);
                (Body::File(range), content)
            }
            7 | 8 => {
                let count = rng.size(12) - 1;
                let lens: Vec<_> = (0..count).map(|_| rng.size(15_000) - 1).collect();
                let content = bytes(lens.iter().sum());
                let mut rest = Bytes::from(content.clone());
                let pieces = lens.iter().map(|len| rest.split_to(*len)).collect();
                let announced = rng.one_in(2).then_some(content.len());
                let announced = match rng.one_in(self.failures) {
                    true => announced.map(|len| (len + rng.below(3)).saturating_sub(1)),
                    false => announced,
                };
                self.making = Some(Making {
                    at,
                    pieces,
                    announced,
                    made: 0,
                    taken: None,
                });
                let stream = match rng.one_in(2) {
                    true => BodyStream::produced(|| Ok(None)),
                    false => BodyStream::written(|_| Ok(())),
                };
                let stream = match announced {
                    Some(len) => stream.with_length(len as u64),
                    None => stream,
                };
                (Body::Stream(stream), content)
            }
            _ => {
                let content = bytes(rng.size(15_000));
                (Body::Bytes(content.clone().into()), content)
            }
        };
        let response = Response::new(status)
            .with_header("X-At", at.to_string())
            .with_body(body);
        let exchange = &mut self.exchanges[at];
        exchange.status = status.as_u16();
        exchange.content = content;
        exchange.announced =
            matches!(response.body(), Body::Stream(stream) if stream.length.is_some());
        if exchange.stage != Stage::StreamingBody {
            exchange.stage = Stage::Answered;
        }
        match self.rng.one_in(30) {
            true => response.closing(),
            false => response,
        }
    }

    /// A part of the file is in memory from now on.
    fn bring(&mut self, range: &FileRange) -> u64 {
        let len = match self.rng.one_in(3) {
            true => range.len,
            false => self.rng.size(range.len as usize) as u64,
        };
        self.wire.borrow_mut().in_memory = range.offset..range.offset + len;
        len
    }

    /// The same, or it is in memory of ours, and nowhere else.
    fn fetch(&mut self, range: &FileRange) -> Resident {
        let start = range.offset / FILE_STRIDE * FILE_STRIDE;
        let is_sound = !self.wire.borrow().faults.contains_key(&start);
        if !is_sound || self.rng.one_in(2) {
            return Resident::InKernel(self.bring(range));
        }
        self.wire.borrow_mut().in_memory = 0..0;
        let len = self.rng.size(range.len as usize) as u64;
        let bytes: Vec<u8> = (range.offset..range.offset + len).map(byte_at).collect();
        Resident::Read(bytes.into())
    }
}

impl Services for SimulatedServices {
    fn answer(&mut self, id: ExchangeId, request: &Request<'_>) -> Option<Response> {
        let at = self.exchange(request);
        if request.is_streamed() {
            self.exchanges[at].stage = Stage::StreamingBody;
            self.job = Some(Job {
                id,
                at,
                reader: request.reader(),
                read: Vec::new(),
                enough: match self.rng.one_in(8) {
                    true => self.rng.below(100_000),
                    false => usize::MAX,
                },
            });
            return None;
        }
        if at < self.script.intact {
            let same = request.content() == self.script.requests[at].content;
            assert!(same, "another content");
        }
        self.exchanges[at].stage = Stage::Handled;
        let response = self.make_response(at);
        match self.rng.one_in(2) {
            true => Some(response),
            false => {
                self.mail.push(Mail::Response(id, response));
                None
            }
        }
    }

    fn admit(&mut self, request: &Request<'_>) -> BodyPolicy {
        let at = self.exchange(request);
        match self.rng.below(12) {
            0 => {
                let response = self.make_response(at);
                self.exchanges[at].stage = Stage::Answered;
                BodyPolicy::Reject(response)
            }
            1 => BodyPolicy::Buffer {
                max: self.rng.size(5000),
            },
            2 => BodyPolicy::Stream {
                max: self.rng.size(100_000) as u64,
            },
            3..7 => BodyPolicy::Stream { max: 1 << 40 },
            _ => BodyPolicy::Buffer { max: usize::MAX },
        }
    }

    fn reject(&mut self, request: &Request<'_>, refusal: Rejection) -> Response {
        let at = self.exchange(request);
        // What a handler of the stream has said does not count.
        assert!(self.job.is_none(), "it is still being handled");
        self.making = None;
        let response = Response::from(refusal).with_header("X-At", at.to_string());
        let exchange = &mut self.exchanges[at];
        exchange.stage = Stage::Answered;
        exchange.status = refusal.status().as_u16();
        exchange.content = match response.body() {
            Body::Bytes(bytes) => bytes.to_vec(),
            other => panic!("{other:?}"),
        };
        response
    }

    fn open_request_body(&mut self, _: ExchangeId) -> BodyWriter {
        let room = Arc::clone(&self.room);
        BodyWriter::new(move || {
            room.fetch_add(1, Ordering::Relaxed);
        })
    }

    fn probe_file(&mut self, id: ExchangeId, range: FileRange, _: Instant) -> Option<u64> {
        if self.rng.one_in(2) {
            return Some(self.bring(&range));
        }
        let memory = match self.rng.one_in(self.failures) {
            true => {
                if let Some(last) = self.exchanges.last_mut() {
                    last.failed = true;
                }
                Err(io::Error::other("a broken disk"))
            }
            false => Ok(self.fetch(&range)),
        };
        self.mail.push(Mail::Resident(id, memory));
        None
    }

    fn pull_body(&mut self, id: ExchangeId, source: BodySource) {
        let waits = self.mail.iter().any(|mail| matches!(mail, Mail::Chunk(..)));
        assert!(!waits, "a second piece before the first");
        let making = self.making.as_mut().expect("something to make");
        assert_eq!(making.at + 1, self.exchanges.len(), "of another exchange");
        let mut next = |source: BodySource| {
            let piece = making.pieces.pop_front()?;
            making.made += piece.len();
            Some((piece, source))
        };
        let piece = match source {
            BodySource::Producer(producer) => next(BodySource::Producer(producer)),
            BodySource::Writer(_) => {
                let (tell, taken) = sync_channel(1);
                let piece = next(BodySource::Waiting(tell));
                making.taken = Some(taken);
                piece
            }
            BodySource::Waiting(tell) => {
                tell.send(()).expect("a writer that waits");
                let taken = making.taken.take().expect("a writer");
                taken.recv().expect("it was just told");
                let (tell, taken) = sync_channel(1);
                let piece = next(BodySource::Waiting(tell));
                making.taken = Some(taken);
                piece
            }
        };
        let broken = match (making.announced, &piece) {
            (Some(announced), Some(_)) => making.made > announced,
            (Some(announced), None) => making.made < announced,
            (None, _) => false,
        };
        let fails = self.rng.one_in(self.failures);
        self.exchanges[making.at].failed |= broken || fails;
        let chunk = if fails {
            Err(io::Error::other("a producer that fails"))
        } else {
            Ok(piece)
        };
        self.mail.push(Mail::Chunk(id, chunk));
    }

    fn record(&mut self, record: Record) {
        self.records.push(record);
    }
}
