//! The simulated services of a worker: the handler, its threads, and the access log.

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

use super::publisher::{PIECE_BYTE, PolledLength, Publisher, WakeUps};
use super::rng::Rng;
use super::script::Script;
use super::wire::{FILE_STRIDE, Fault, Wire, byte_at};
use crate::body::file_range::Resident;
use crate::body::stream::BodySource;
use crate::body::{BodyReader, BodyStream, BodyWriter, FileRange};
use crate::handler::BodyPolicy;
use crate::http::upgrade::{UpgradeJob, UpgradeWaker};
use crate::http::{Body, Rejection, Request, Response};
use crate::net::connection::Services;
use crate::net::worker::message::{ExchangeEvent, Pulled};
use crate::proto::exchange::ExchangeId;
use crate::proto::file_read::{FileBytes, FileRead};
use crate::proto::record::Record;

/// A request as the handler has seen it, and the response it has intended.
pub(super) struct SimulatedExchange {
    pub(super) line: String,
    pub(super) expects: bool,
    pub(super) stage: Stage,
    pub(super) status: u16,
    pub(super) content: Vec<u8>,
    /// Whether the body is a stream of announced length.
    pub(super) announced: bool,
    /// Whether the announced body cannot be delivered.
    pub(super) failed: bool,
    /// Whether heartbeats may be between the bytes of the body.
    pub(super) has_heartbeats: bool,
    /// Whether the body may end before its end, as at shutdown.
    pub(super) may_end_early: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// The body is to be received.
    Admitted,
    /// The handler has the request, but not all of its body.
    StreamingBody,
    /// The handler has the request with its whole body.
    Handled,
    Answered,
}

/// Services whose behaviour depends on a seed.
pub(super) struct SimulatedServices {
    rng: Rng,
    wire: Rc<RefCell<Wire>>,
    script: Rc<Script>,
    file: Arc<File>,
    pub(super) exchanges: Vec<SimulatedExchange>,
    pub(super) records: Vec<Record>,
    /// Messages to the connection that have not been delivered.
    pub(super) messages: Vec<(ExchangeId, ExchangeEvent)>,
    /// Number of undelivered messages that there is room for more of a request body.
    pub(super) room: Arc<AtomicUsize>,
    pub(super) job: Option<Job>,
    produced: Option<ProducedBody>,
    publisher: Option<Publisher>,
    polled: PolledLength,
    wake_ups: WakeUps,
    /// Disks and producers fail with a probability of one in this many.
    failures: usize,
}

/// A handler that reads a request body while it is received.
pub(super) struct Job {
    exchange: ExchangeId,
    at: usize,
    reader: BodyReader,
    read: Vec<u8>,
    /// The number of bytes after which the handler stops reading.
    enough: usize,
}

/// A response body that is produced chunk by chunk.
struct ProducedBody {
    at: usize,
    chunks: VecDeque<Bytes>,
    announced: Option<usize>,
    made: usize,
    /// Tells a writer that its chunk has been taken.
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
            messages: Vec::new(),
            room: Arc::default(),
            job: None,
            produced: None,
            publisher: None,
            polled: PolledLength::default(),
            wake_ups: WakeUps::default(),
            failures: [5, 60, usize::MAX][rng.below(3)],
            rng,
        }
    }

    /// Returns true if the connection will receive a message.
    pub(super) fn is_busy(&self) -> bool {
        !self.messages.is_empty()
            || self.job.is_some()
            || self.room.load(Ordering::Relaxed) > 0
            || self.can_publish()
            || self.has_wake_up()
    }

    pub(super) fn can_publish(&self) -> bool {
        self.publisher.as_ref().is_some_and(Publisher::can_publish)
    }

    /// Sends the next piece of a body that comes through a channel.
    pub(super) fn publish(&mut self) {
        self.publisher = self.publisher.take().and_then(Publisher::publish);
    }

    pub(super) fn has_wake_up(&self) -> bool {
        !self.wake_ups.is_empty()
    }

    /// Takes any of the undelivered wake-ups.
    pub(super) fn take_wake_up(&mut self) -> Option<ExchangeId> {
        self.wake_ups.take_any(&mut self.rng)
    }

    /// No body may have ended early: the server has not shut down.
    pub(super) fn all_are_to_be_complete(&mut self) {
        for exchange in &mut self.exchanges {
            exchange.may_end_early = false;
        }
    }

    /// Continues the handler that reads a request body, unless it would block.
    pub(super) fn run_job(&mut self) {
        let Some(job) = &mut self.job else {
            return;
        };
        if job.reader.would_wait() {
            return;
        }
        let mut buffer = vec![0; self.rng.size(100_000)];
        let more = match job.reader.read(&mut buffer) {
            Ok(0) => {
                let complete = self.script.requests.get(job.at).map(|sent| &sent.content);
                if job.at < self.script.intact {
                    assert!(Some(&job.read) == complete, "a wrong body");
                }
                false
            }
            Ok(count) => {
                job.read.extend_from_slice(&buffer[..count]);
                job.read.len() < job.enough
            }
            Err(_) => false,
        };
        if !more {
            let (exchange, at) = (job.exchange, job.at);
            self.job = None;
            let response = self.make_response(at);
            self.send(exchange, ExchangeEvent::Response(response));
        }
    }

    fn send(&mut self, exchange: ExchangeId, event: ExchangeEvent) {
        self.messages.push((exchange, event));
    }

    /// Returns the index of the exchange of a request, which may be known from its admission.
    fn exchange(&mut self, request: &Request<'_>) -> usize {
        let version = match request.version() {
            ::http::Version::HTTP_10 => "HTTP/1.0",
            _ => "HTTP/1.1",
        };
        let line = format!("{} {} {version}", request.method(), request.target());
        let last = self.exchanges.last();
        let is_known = last.is_some_and(|last| last.stage != Stage::Answered && last.line == line);
        if !is_known {
            let done = last
                .is_none_or(|last| matches!(last.stage, Stage::Answered | Stage::StreamingBody));
            assert!(done, "a request before the response to the previous one");
            let at = self.exchanges.len();
            if at < self.script.intact {
                assert_eq!(line, self.script.requests[at].line);
            }
            self.exchanges.push(SimulatedExchange {
                line,
                expects: request.header("Expect") == Some("100-continue"),
                stage: Stage::Admitted,
                status: 0,
                content: Vec::new(),
                announced: false,
                failed: false,
                has_heartbeats: false,
                may_end_early: false,
            });
        }
        self.exchanges.len() - 1
    }

    /// Makes any response that a handler may make.
    fn make_response(&mut self, at: usize) -> Response {
        let rng = &mut self.rng;
        let mut status = StatusCode::OK;
        let mut are_events = false;
        let bytes = |len: usize| -> Vec<u8> { (at as u64..).take(len).map(byte_at).collect() };
        let (body, content) = match rng.below(12) {
            0 => {
                status = StatusCode::NO_CONTENT;
                (Body::Empty, Vec::new())
            }
            1 => (Body::Empty, Vec::new()),
            2 => {
                // The length of what a GET would have sent.
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
                are_events = rng.one_in(4);
                let mut content = bytes(lens.iter().sum());
                if are_events {
                    content.fill(PIECE_BYTE);
                }
                let mut rest = Bytes::from(content.clone());
                let chunks = lens.iter().map(|len| rest.split_to(*len)).collect();
                let announced = (!are_events && rng.one_in(2)).then_some(content.len());
                let announced = if rng.one_in(self.failures) {
                    announced.map(|len| (len + rng.below(3)).saturating_sub(1))
                } else {
                    announced
                };
                let stream = if are_events || rng.one_in(3) {
                    let (publisher, mut stream) = Publisher::new(chunks, self.failures, rng);
                    if are_events {
                        Publisher::make_events(&mut stream, rng);
                    }
                    self.publisher = Some(publisher);
                    self.polled = PolledLength::announced(announced);
                    stream
                } else {
                    self.produced = Some(ProducedBody {
                        at,
                        chunks,
                        announced,
                        made: 0,
                        taken: None,
                    });
                    if rng.one_in(2) {
                        BodyStream::produced(|| Ok(None))
                    } else {
                        BodyStream::written(|_| Ok(()))
                    }
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
        exchange.has_heartbeats = are_events;
        exchange.may_end_early = are_events;
        exchange.announced =
            matches!(response.body(), Body::Stream(stream) if stream.length.is_some());
        if exchange.stage != Stage::StreamingBody {
            exchange.stage = Stage::Answered;
        }
        if self.rng.one_in(30) {
            response.closing()
        } else {
            response
        }
    }

    /// Brings a part of the range into the page cache. Returns its length.
    fn read_into_cache(&mut self, range: &FileRange) -> u64 {
        let len = if self.rng.one_in(3) {
            range.len
        } else {
            self.rng.size(range.len as usize) as u64
        };
        self.wire.borrow_mut().resident = range.offset..range.offset + len;
        len
    }

    /// Reads a part of the range into the page cache, or into memory only.
    fn read_file(&mut self, range: &FileRange) -> Resident {
        let start = range.offset / FILE_STRIDE * FILE_STRIDE;
        let is_sound = !self.wire.borrow().faults.contains_key(&start);
        if !is_sound || self.rng.one_in(2) {
            return Resident::InKernel(self.read_into_cache(range));
        }
        self.wire.borrow_mut().resident = 0..0;
        let len = self.rng.size(range.len as usize) as u64;
        let bytes: Vec<u8> = (range.offset..range.offset + len).map(byte_at).collect();
        Resident::Read(bytes.into())
    }
}

impl Services for SimulatedServices {
    fn answer(&mut self, exchange: ExchangeId, request: &Request<'_>) -> Option<Response> {
        let at = self.exchange(request);
        if request.is_streamed() {
            self.exchanges[at].stage = Stage::StreamingBody;
            self.job = Some(Job {
                exchange,
                at,
                reader: request.reader(),
                read: Vec::new(),
                enough: if self.rng.one_in(8) {
                    self.rng.below(100_000)
                } else {
                    usize::MAX
                },
            });
            return None;
        }
        if at < self.script.intact {
            let same = request.content() == self.script.requests[at].content;
            assert!(same, "a wrong body");
        }
        self.exchanges[at].stage = Stage::Handled;
        let response = self.make_response(at);
        if self.rng.one_in(2) {
            return Some(response);
        }
        self.send(exchange, ExchangeEvent::Response(response));
        None
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

    fn reject(&mut self, _: ExchangeId, request: &Request<'_>, rejection: Rejection) -> Response {
        let at = self.exchange(request);
        // The response of a handler that was reading the body has been discarded.
        assert!(self.job.is_none(), "the handler is still running");
        (self.produced, self.publisher) = (None, None);
        let response = Response::from(rejection).with_header("X-At", at.to_string());
        let exchange = &mut self.exchanges[at];
        exchange.stage = Stage::Answered;
        (exchange.has_heartbeats, exchange.may_end_early) = (false, false);
        exchange.status = rejection.status().as_u16();
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

    fn probe_file(&mut self, exchange: ExchangeId, range: FileRange, _: Instant) -> Option<u64> {
        if self.rng.one_in(2) {
            return Some(self.read_into_cache(&range));
        }
        let resident = if self.rng.one_in(self.failures) {
            if let Some(last) = self.exchanges.last_mut() {
                last.failed = true;
            }
            Err(io::Error::other("a broken disk"))
        } else {
            Ok(self.read_file(&range))
        };
        self.send(exchange, ExchangeEvent::FileRead(resident));
        None
    }

    fn fetch_file(&mut self, _: ExchangeId, _: FileRange) {
        panic!("a file is probed");
    }

    fn read_file(&mut self, _: &mut FileRead<'_>, _: Instant) -> FileBytes {
        panic!("a file is sent");
    }

    fn cancel(&mut self, _: ExchangeId) {
        panic!("an exchange is never cancelled alone");
    }

    fn pull_body(&mut self, exchange: ExchangeId, source: BodySource) -> Pulled {
        let is_chunk = |event: &ExchangeEvent| matches!(event, ExchangeEvent::BodyChunk(_));
        let pending = self.messages.iter().any(|(_, event)| is_chunk(event));
        assert!(
            !pending,
            "a second chunk is requested before the first has arrived"
        );
        let source = match source {
            BodySource::Polled(body) => {
                if self.rng.one_in(10) {
                    // A wake-up without a reason.
                    self.wake_ups.push(exchange);
                }
                let (pulled, fails) = self.polled.poll(body, exchange, &self.wake_ups);
                if let Some(last) = self.exchanges.last_mut() {
                    last.failed |= fails;
                }
                return pulled;
            }
            source => source,
        };
        let produced = self.produced.as_mut().expect("a stream");
        assert_eq!(produced.at + 1, self.exchanges.len(), "of another exchange");
        let mut next = |source: BodySource| {
            let chunk = produced.chunks.pop_front()?;
            produced.made += chunk.len();
            Some((chunk, source))
        };
        let chunk = match source {
            BodySource::Producer(_) | BodySource::Polled(_) => next(source),
            BodySource::Writer(_) => {
                let (tell, taken) = sync_channel(1);
                let chunk = next(BodySource::Waiting(tell));
                produced.taken = Some(taken);
                chunk
            }
            BodySource::Waiting(tell) => {
                tell.send(()).expect("a writer that waits");
                let taken = produced.taken.take().expect("a writer");
                taken.recv().expect("it was notified");
                let (tell, taken) = sync_channel(1);
                let chunk = next(BodySource::Waiting(tell));
                produced.taken = Some(taken);
                chunk
            }
        };
        let broken = match (produced.announced, &chunk) {
            (Some(announced), Some(_)) => produced.made > announced,
            (Some(announced), None) => produced.made < announced,
            (None, _) => false,
        };
        let fails = self.rng.one_in(self.failures);
        self.exchanges[produced.at].failed |= broken || fails;
        let chunk = if fails {
            Err(io::Error::other("a producer that fails"))
        } else {
            Ok(chunk)
        };
        self.send(exchange, ExchangeEvent::BodyChunk(chunk));
        Pulled::Later
    }

    fn upgrade_waker(&mut self, _: ExchangeId) -> UpgradeWaker {
        panic!("nothing is upgraded");
    }

    fn run_upgrade_job(&mut self, _: ExchangeId, _: UpgradeJob) {
        panic!("nothing is upgraded");
    }

    fn record(&mut self, record: Record) {
        self.records.push(record);
    }
}
