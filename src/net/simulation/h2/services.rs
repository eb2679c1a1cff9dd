//! The simulated services of a worker for a connection with many exchanges.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Instant;

use ::http::StatusCode;
use bytes::Bytes;

use super::peer::Peer;
use crate::body::file_range::Resident;
use crate::body::stream::BodySource;
use crate::body::{BodyReader, BodyStream, BodyWriter, FileRange};
use crate::handler::BodyPolicy;
use crate::http::upgrade::{UpgradeJob, UpgradeWaker};
use crate::http::{Body, Rejection, Request, Response};
use crate::net::connection::Services;
use crate::net::simulation::publisher::{PIECE_BYTE, PolledLength, Publisher, WakeUps};
use crate::net::simulation::rng::Rng;
use crate::net::simulation::wire::{FILE_STRIDE, Fault, byte_at};
use crate::net::worker::message::{ExchangeEvent, Pulled};
use crate::proto::exchange::ExchangeId;
use crate::proto::file_read::{FileBytes, FileRead};
use crate::proto::record::Record;

/// One connection may have so many jobs at once.
const MAX_JOBS: usize = 16;

/// A request as the handler has seen it, and the response it has intended.
#[derive(Default)]
pub(super) struct Exchange {
    /// How often the handler was called.
    pub(super) calls: usize,
    pub(super) status: u16,
    pub(super) content: Vec<u8>,
    /// Whether the intended body cannot be delivered.
    pub(super) failed: bool,
    /// The server needs nothing more for the exchange.
    pub(super) cancelled: bool,
    /// The handler has not responded.
    pub(super) pending: bool,
    /// A chunk of the body, or a part of a file, is on its way.
    pub(super) fetching: bool,
    produced: Option<ProducedBody>,
    publisher: Option<Publisher>,
    polled: PolledLength,
    /// Whether heartbeats may be between the bytes of the body.
    pub(super) has_heartbeats: bool,
    /// Whether the body may end before its end, as at shutdown.
    pub(super) may_end_early: bool,
    /// The position and the kind of the fault of the file.
    fault: Option<(u64, Fault)>,
    /// Undelivered notifications that there is room for more of the request body.
    room: Arc<AtomicUsize>,
}

/// A handler that reads a request body while it is received.
struct Job {
    id: u32,
    reader: BodyReader,
    read: Vec<u8>,
    /// The number of bytes after which the handler stops reading.
    enough: usize,
}

/// A response body that is produced chunk by chunk.
struct ProducedBody {
    chunks: VecDeque<Bytes>,
    announced: Option<usize>,
    made: usize,
    /// Tells a writer that its chunk has been taken.
    taken: Option<Receiver<()>>,
}

pub(super) struct MultiplexedServices {
    rng: Rng,
    file: Arc<File>,
    pub(super) exchanges: BTreeMap<u32, Exchange>,
    pub(super) records: Vec<Record>,
    /// Messages to the connection that have not been delivered.
    pub(super) messages: Vec<(ExchangeId, ExchangeEvent)>,
    jobs: Vec<Job>,
    wake_ups: WakeUps,
    /// Disks and producers fail with a probability of one in this many.
    failures: usize,
    max_content: usize,
}

/// The stream of a request, which is its path.
fn id_of(request: &Request<'_>) -> u32 {
    request.path()[1..].parse().expect("a stream")
}

impl MultiplexedServices {
    pub(super) fn new(mut rng: Rng, max_content: usize) -> Self {
        Self {
            file: Arc::new(File::open("/dev/null").expect("a file")),
            exchanges: BTreeMap::new(),
            records: Vec::new(),
            messages: Vec::new(),
            jobs: Vec::new(),
            wake_ups: WakeUps::default(),
            failures: [5, 60, usize::MAX][rng.below(3)],
            max_content,
            rng,
        }
    }

    pub(super) fn has_room(&self) -> bool {
        let room = |exchange: &Exchange| exchange.room.load(Ordering::Relaxed) > 0;
        self.exchanges.values().any(room)
    }

    /// Takes a notification about room. Returns true if the connection must be told.
    pub(super) fn take_room(&mut self, is_open: impl Fn(ExchangeId) -> bool) -> bool {
        let mut exchanges = self.exchanges.iter();
        let room = |(_, exchange): &(&u32, &Exchange)| exchange.room.load(Ordering::Relaxed) > 0;
        let Some((id, exchange)) = exchanges.find(room) else {
            return false;
        };
        exchange.room.fetch_sub(1, Ordering::Relaxed);
        is_open(ExchangeId(*id))
    }

    /// Returns the streams whose publishers have room for another piece.
    fn publishing(&self) -> Vec<u32> {
        let can = |exchange: &Exchange| {
            exchange
                .publisher
                .as_ref()
                .is_some_and(Publisher::can_publish)
        };
        let exchanges = self.exchanges.iter();
        exchanges
            .filter(|(_, exchange)| can(exchange))
            .map(|(id, _)| *id)
            .collect()
    }

    pub(super) fn can_publish(&self) -> bool {
        !self.publishing().is_empty()
    }

    /// Sends the next piece of any of the bodies that come through channels.
    pub(super) fn publish(&mut self) {
        let ids = self.publishing();
        let id = ids[self.rng.below(ids.len())];
        let exchange = self.exchange(id);
        exchange.publisher = exchange.publisher.take().and_then(Publisher::publish);
    }

    /// No body may have ended early: the server has not shut down.
    pub(super) fn all_are_to_be_complete(&mut self) {
        for exchange in self.exchanges.values_mut() {
            exchange.may_end_early = false;
        }
    }

    pub(super) fn has_wake_up(&self) -> bool {
        !self.wake_ups.is_empty()
    }

    /// Takes any of the undelivered wake-ups.
    pub(super) fn take_wake_up(&mut self) -> Option<ExchangeId> {
        self.wake_ups.take_any(&mut self.rng)
    }

    pub(super) fn can_run_job(&self) -> bool {
        self.jobs.iter().any(|job| !job.reader.would_wait())
    }

    /// Continues a handler that reads a request body.
    pub(super) fn run_job(&mut self, peer: &Peer) {
        let ready = |job: &Job| !job.reader.would_wait();
        let Some(at) = self.jobs.iter().position(ready) else {
            return;
        };
        let job = &mut self.jobs[at];
        let mut buffer = vec![0; self.rng.size(100_000)];
        let more = match job.reader.read(&mut buffer) {
            Ok(0) => {
                assert!(job.read == peer.body(job.id), "a wrong body");
                false
            }
            Ok(count) => {
                job.read.extend_from_slice(&buffer[..count]);
                assert!(peer.body(job.id).starts_with(&job.read), "a wrong body");
                job.read.len() < job.enough
            }
            Err(_) => false,
        };
        if !more {
            let job = self.jobs.swap_remove(at);
            let response = self.make_response(job.id);
            self.send(job.id, ExchangeEvent::Response(response));
        }
    }

    fn send(&mut self, id: u32, event: ExchangeEvent) {
        self.messages.push((ExchangeId(id), event));
    }

    fn exchange(&mut self, id: u32) -> &mut Exchange {
        self.exchanges.entry(id).or_default()
    }

    /// Makes any response that a handler may make.
    fn make_response(&mut self, id: u32) -> Response {
        let (rng, max) = (&mut self.rng, self.max_content);
        let mut status = StatusCode::OK;
        let bytes = |len: usize| -> Vec<u8> { (u64::from(id)..).take(len).map(byte_at).collect() };
        let (mut fault, mut produced, mut publisher) = (None, None, None);
        let (mut are_events, mut polled) = (false, PolledLength::default());
        let (body, content) = match rng.below(10) {
            0 => {
                status = StatusCode::NO_CONTENT;
                (Body::Empty, Vec::new())
            }
            1 => (Body::Empty, Vec::new()),
            2 => {
                let content = bytes(max.min(32_769) + rng.size(max / 3));
                (Body::Bytes(content.clone().into()), content)
            }
            3..6 => {
                let start = u64::from(id) * FILE_STRIDE;
                let offset = start + rng.size(1000) as u64;
                let len = (rng.size(max) - 1) as u64;
                if rng.one_in(self.failures) {
                    let kind = [Fault::Shrunk, Fault::Unreadable][rng.below(2)];
                    fault = Some((offset + rng.below(len as usize + 1) as u64, kind));
                }
                let content = (offset..offset + len).map(byte_at).collect();
                let range = FileRange::new(Arc::clone(&self.file), offset, len);
                (Body::File(range), content)
            }
            6 | 7 => {
                let count = rng.size(12) - 1;
                let lens: Vec<_> = (0..count).map(|_| rng.size(max.min(15_000)) - 1).collect();
                are_events = rng.one_in(4);
                let mut content = bytes(lens.iter().sum());
                if are_events {
                    content.fill(PIECE_BYTE);
                }
                let mut rest = Bytes::from(content.clone());
                let chunks = lens.iter().map(|len| rest.split_to(*len)).collect();
                let announced = (!are_events && rng.one_in(2)).then_some(content.len());
                let stream = if are_events || rng.one_in(3) {
                    let (new, mut stream) = Publisher::new(chunks, self.failures, rng);
                    if are_events {
                        Publisher::make_events(&mut stream, rng);
                    }
                    publisher = Some(new);
                    polled = PolledLength::announced(announced);
                    stream
                } else {
                    produced = Some(ProducedBody {
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
                let content = bytes(rng.size(max.min(15_000)));
                (Body::Bytes(content.clone().into()), content)
            }
        };
        let exchange = self.exchange(id);
        exchange.status = status.as_u16();
        exchange.content = content;
        exchange.fault = fault;
        exchange.produced = produced;
        exchange.publisher = publisher;
        exchange.polled = polled;
        exchange.has_heartbeats = are_events;
        exchange.may_end_early = are_events;
        exchange.failed |= fault.is_some();
        Response::new(status).with_body(body)
    }

    /// Whether the handler or a producer works for the exchange.
    fn jobs_at_work(&self) -> usize {
        let at_work = |exchange: &&Exchange| exchange.pending;
        self.exchanges.values().filter(at_work).count()
    }

    /// The connection has received what it was waiting for.
    pub(super) fn on_delivered(&mut self, id: ExchangeId, event: &ExchangeEvent) {
        let exchange = self.exchange(id.0);
        match event {
            ExchangeEvent::Response(_) => exchange.pending = false,
            ExchangeEvent::Cancelled => (exchange.pending, exchange.fetching) = (false, false),
            ExchangeEvent::BodyChunk(_) | ExchangeEvent::FileRead(_) => exchange.fetching = false,
            ExchangeEvent::RequestBodyRoom | ExchangeEvent::UpgradeWake => {}
        }
    }
}

impl Services for MultiplexedServices {
    fn answer(&mut self, id: ExchangeId, request: &Request<'_>) -> Option<Response> {
        assert_eq!(id.0, id_of(request), "the request of another stream");
        let is_streamed = request.is_streamed();
        let exchange = self.exchange(id.0);
        exchange.calls += 1;
        assert_eq!(exchange.calls, 1, "a request is handled twice");
        assert!(!exchange.cancelled, "a cancelled request is handled");
        if is_streamed {
            exchange.pending = true;
            self.jobs.push(Job {
                id: id.0,
                reader: request.reader(),
                read: Vec::new(),
                enough: if self.rng.one_in(8) {
                    self.rng.below(100_000)
                } else {
                    usize::MAX
                },
            });
        } else {
            let response = self.make_response(id.0);
            if self.rng.one_in(2) {
                return Some(response);
            }
            self.exchange(id.0).pending = true;
            self.send(id.0, ExchangeEvent::Response(response));
        }
        assert!(self.jobs_at_work() <= MAX_JOBS, "too many jobs");
        None
    }

    fn admit(&mut self, request: &Request<'_>) -> BodyPolicy {
        let id = id_of(request);
        match self.rng.below(12) {
            0 => {
                let response = self.make_response(id);
                self.exchange(id).calls += 1;
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

    fn reject(&mut self, id: ExchangeId, request: &Request<'_>, rejection: Rejection) -> Response {
        assert_eq!(id.0, id_of(request), "the request of another stream");
        let response = Response::from(rejection);
        let exchange = self.exchange(id.0);
        exchange.calls = exchange.calls.max(1);
        exchange.status = rejection.status().as_u16();
        exchange.content = match response.body() {
            Body::Bytes(bytes) => bytes.to_vec(),
            other => panic!("{other:?}"),
        };
        (exchange.fault, exchange.produced, exchange.publisher) = (None, None, None);
        (exchange.has_heartbeats, exchange.may_end_early) = (false, false);
        response
    }

    fn open_request_body(&mut self, id: ExchangeId) -> BodyWriter {
        let room = Arc::clone(&self.exchange(id.0).room);
        BodyWriter::new(move || {
            room.fetch_add(1, Ordering::Relaxed);
        })
    }

    fn probe_file(&mut self, _: ExchangeId, _: FileRange, _: Instant) -> Option<u64> {
        panic!("a file is read, not probed");
    }

    fn fetch_file(&mut self, id: ExchangeId, range: FileRange) {
        let exchange = self.exchange(id.0);
        assert!(!exchange.fetching, "a second part is fetched");
        exchange.fetching = true;
        let len = self.rng.size(range.len as usize) as u64;
        let resident = if self.rng.one_in(self.failures) {
            self.exchange(id.0).failed = true;
            Err(io::Error::other("a broken disk"))
        } else if self.rng.one_in(2) {
            Ok(Resident::InKernel(len))
        } else {
            let fault = self.exchange(id.0).fault;
            let end = fault.map_or(u64::MAX, |(at, _)| at.max(range.offset));
            let end = end.min(range.offset + len);
            if end == range.offset {
                Err(io::Error::other("a broken disk"))
            } else {
                let bytes: Vec<u8> = (range.offset..end).map(byte_at).collect();
                Ok(Resident::Read(bytes.into()))
            }
        };
        self.send(id.0, ExchangeEvent::FileRead(resident));
    }

    fn read_file(&mut self, read: &mut FileRead<'_>, _: Instant) -> FileBytes {
        let (offset, mut len) = (read.range.offset, read.buffer.len() as u64);
        assert!((1..=read.range.len).contains(&len), "{len}");
        let id = (offset / FILE_STRIDE) as u32;
        if let Some((at, fault)) = self.exchange(id).fault {
            if offset >= at {
                return match fault {
                    Fault::Shrunk => FileBytes::Ended,
                    Fault::Unreadable => FileBytes::Failed,
                };
            }
            len = len.min(at - offset);
        }
        if !read.is_resident && self.rng.one_in(3) {
            return FileBytes::NotResident;
        }
        if self.rng.one_in(3) {
            len = self.rng.size(len as usize) as u64;
        }
        let bytes = (offset..offset + len).map(byte_at);
        for (to, byte) in read.buffer.iter_mut().zip(bytes) {
            *to = byte;
        }
        FileBytes::Read(len as usize)
    }

    fn cancel(&mut self, id: ExchangeId) {
        self.exchange(id.0).cancelled = true;
        // What waits in the queue of a pool is not begun.
        let message = self.messages.iter_mut().find(|(other, _)| *other == id);
        if let Some((_, event)) = message
            && self.rng.one_in(2)
        {
            *event = ExchangeEvent::Cancelled;
        }
    }

    fn pull_body(&mut self, id: ExchangeId, source: BodySource) -> Pulled {
        let source = match source {
            BodySource::Polled(body) => {
                if self.rng.one_in(10) {
                    // A wake-up without a reason.
                    self.wake_ups.push(id);
                }
                let wake_ups = self.wake_ups.clone();
                let exchange = self.exchange(id.0);
                let (pulled, fails) = exchange.polled.poll(body, id, &wake_ups);
                exchange.failed |= fails;
                return pulled;
            }
            source => source,
        };
        let fails = self.rng.one_in(self.failures);
        let exchange = self.exchange(id.0);
        assert!(
            !exchange.fetching,
            "a second chunk is requested before the first has arrived"
        );
        exchange.fetching = true;
        let produced = exchange.produced.as_mut().expect("a stream");
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
        exchange.failed |= broken || fails;
        let chunk = if fails {
            Err(io::Error::other("a producer that fails"))
        } else {
            Ok(chunk)
        };
        self.send(id.0, ExchangeEvent::BodyChunk(chunk));
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
