//! The services that a worker provides to a running connection: the handler, the thread pools, the
//! access log. Results of the thread pools arrive as messages to the worker.

use std::io;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Instant;

use mio::Token;

use super::message::{BodyChunk, BodyWaker, ExchangeEvent, Pulled, ReplyTo, WorkerHandle};
use super::pending_exchanges::PendingExchanges;
use super::previous_handlers::ByExchange;
use crate::access_log::LogSender;
use crate::body::polled::PolledBody;
use crate::body::stream::{BodyProducer, BodySource, SourceKind, WriteBody, next_non_empty_piece};
use crate::body::{BodyWriter, Cancellation, FileRange};
use crate::client_key::ClientKey;
use crate::handler::{
    BodyPolicy, Handler, Job, Outcome, RequestName, ResponderContext, Settled, caught,
    handler_panicked,
};
use crate::http::upgrade::{UpgradeJob, UpgradeWaker};
use crate::http::{Body, Rejection, Request, Response};
use crate::net::blocking::disk::{DiskPools, ProbeResult, probe_page_cache, read_page_cache};
use crate::net::blocking::pool::{BlockingPool, NoThread, QueueFull};
use crate::net::blocking::{Pools, StreamPermits, body_writer, too_many_streams};
use crate::net::connection::Services;
use crate::panics::{Panicked, catch};
use crate::proto::exchange::ExchangeId;
use crate::proto::file_read::{FileBytes, FileRead};
use crate::proto::record::Record;
use crate::semaphore::SemaphorePermit;

/// What a worker lends to a connection while it runs.
pub(crate) struct WorkerServices<'a> {
    pub(crate) token: Token,
    pub(crate) worker: &'a WorkerHandle,
    pub(crate) handler: &'a dyn Handler,
    /// The handlers that have admitted the bodies of requests and were replaced since.
    pub(crate) previous_handlers: ByExchange,
    pub(crate) pools: &'a Pools,
    pub(crate) pending: &'a mut PendingExchanges,
    pub(crate) access_log: Option<&'a mut LogSender>,
}

impl WorkerServices<'_> {
    fn reply_to(&mut self, exchange: ExchangeId) -> ReplyTo {
        let pending = self.pending.get(self.token, exchange);
        ReplyTo {
            mailbox: self.worker.mailbox.clone(),
            connection: self.token,
            exchange,
            client: pending.client,
            cancelled: pending.cancelled().clone(),
        }
    }

    /// Has a thread produce a body, or reports that there is none.
    fn begin_pull(
        &mut self,
        exchange: ExchangeId,
        submit: impl FnOnce(&Pools, ReplyTo) -> Result<(), NoThread>,
    ) {
        let reply_to = self.reply_to(exchange);
        let failed = reply_to.clone();
        if let Err(NoThread) = submit(self.pools, reply_to) {
            let error = io::Error::other("no thread to make it");
            failed.send(ExchangeEvent::BodyChunk(Err(error)));
        }
    }

    /// Polls a body that no thread works for.
    fn poll_body(&self, exchange: ExchangeId, mut body: Box<PolledBody>) -> Pulled {
        let make_waker = || {
            let mailbox = Arc::clone(&self.worker.mailbox);
            Waker::from(Arc::new(BodyWaker::new(mailbox, self.token, exchange)))
        };
        match catch(|| body.poll_with(make_waker)) {
            Ok(Poll::Pending) => Pulled::Parked(body),
            Ok(Poll::Ready(piece)) => {
                let with_source = |bytes| (bytes, BodySource::Polled(body));
                Pulled::Chunk(piece.map(|piece| piece.map(with_source)))
            }
            Err(Panicked) => Pulled::Chunk(Err(io::Error::other("its source panicked"))),
        }
    }

    /// Reserves what a response needs that is there.
    fn ready(
        &mut self,
        exchange: ExchangeId,
        request: &Request<'_>,
        mut response: Response,
    ) -> Response {
        if needs_others(&response) {
            self.set_client(exchange, request);
        }
        self.pools.permits.reserve_for_body(&mut response);
        response
    }

    /// Has a response delivered that is not there yet.
    fn answer_later(
        &mut self,
        exchange: ExchangeId,
        request: &Request<'_>,
        mut outcome: Outcome,
    ) -> Option<Response> {
        let mut thread = None;
        // Reading from a client takes as long as the client does. What makes a response at once reads nothing.
        if request.is_streamed() && !outcome.is_made() {
            thread = self.pools.permits.reserve_thread();
            if thread.is_none() {
                outcome = outcome.replace(too_many_streams(), &RequestName(request));
            }
        }
        if let Outcome::Ready(response) = outcome {
            return Some(self.ready(exchange, request, response));
        }
        self.set_client(exchange, request);
        let pending = PendingReply {
            pool: match thread {
                Some(_) => self.pools.streams.clone(),
                None => self.pools.jobs.clone(),
            },
            _thread: thread,
            permits: Arc::clone(&self.pools.permits),
            disks: self.pools.disks.clone(),
            reply_to: self.reply_to(exchange),
            request: RequestName(request).to_string().into(),
        };
        pending.deliver(outcome);
        None
    }

    /// Notes the client of an exchange that other threads will work for.
    fn set_client(&mut self, exchange: ExchangeId, request: &Request<'_>) {
        let client = ClientKey::of(request.client_addr().ip());
        self.pending.get(self.token, exchange).client = client;
    }
}

impl Services for WorkerServices<'_> {
    fn answer(&mut self, exchange: ExchangeId, request: &Request<'_>) -> Option<Response> {
        self.worker.stats.count_request();
        let previous = self.previous_handlers.take(exchange);
        let handler = previous
            .as_ref()
            .map_or(self.handler, |previous| &*previous.handler);
        match catch(|| handler.handle(request)) {
            Ok(Outcome::Ready(response)) => Some(self.ready(exchange, request, response)),
            Ok(outcome) => self.answer_later(exchange, request, outcome),
            Err(Panicked) => Some(handler_panicked(&RequestName(request))),
        }
    }

    fn admit(&mut self, request: &Request<'_>) -> BodyPolicy {
        let mut policy = caught::admit(self.handler, request);
        if let BodyPolicy::Reject(response) = &mut policy {
            self.pools.permits.reserve_for_body(response);
        }
        policy
    }

    fn reject(
        &mut self,
        exchange: ExchangeId,
        request: &Request<'_>,
        rejection: Rejection,
    ) -> Response {
        let previous = self.previous_handlers.take(exchange);
        let handler = previous
            .as_ref()
            .map_or(self.handler, |previous| &*previous.handler);
        let mut response = caught::reject(handler, request, rejection);
        self.pools.permits.reserve_for_body(&mut response);
        response
    }

    fn open_request_body(&mut self, exchange: ExchangeId) -> BodyWriter {
        let reply_to = self.reply_to(exchange);
        BodyWriter::new(move || reply_to.send(ExchangeEvent::RequestBodyRoom))
    }

    fn probe_file(&mut self, exchange: ExchangeId, range: FileRange, now: Instant) -> Option<u64> {
        match probe_page_cache(&range, now) {
            ProbeResult::Resident(bytes) => Some(bytes),
            ProbeResult::NotResident => {
                let reply_to = self.reply_to(exchange);
                self.pools.disks.read(range, reply_to);
                None
            }
        }
    }

    fn fetch_file(&mut self, exchange: ExchangeId, range: FileRange) {
        let reply_to = self.reply_to(exchange);
        self.pools.disks.read(range, reply_to);
    }

    fn read_file(&mut self, read: &mut FileRead<'_>, now: Instant) -> FileBytes {
        read_page_cache(read, now)
    }

    fn cancel(&mut self, exchange: ExchangeId) {
        self.pending.cancel(self.token, exchange);
    }

    fn pull_body(&mut self, exchange: ExchangeId, source: BodySource) -> Pulled {
        match source {
            BodySource::Polled(body) => return self.poll_body(exchange, body),
            BodySource::Producer(producer) => {
                let device = producer.device();
                let work = move || ExchangeEvent::BodyChunk(next_chunk(producer));
                self.begin_pull(exchange, |pools, reply_to| match device {
                    Some(device) => pools.disks.submit_required(device, reply_to, work),
                    None => pools.jobs.submit_required(reply_to, work),
                });
            }
            BodySource::Writer(write) => self.begin_pull(exchange, |pools, reply_to| {
                let chunks = reply_to.clone();
                let work = move || ExchangeEvent::BodyChunk(write_body(*write, &chunks));
                pools.streams.submit_required(reply_to, work)
            }),
            BodySource::Waiting(taken) => {
                // An error means that the writer's thread has ended, and it has sent the reason.
                let _ = taken.send(());
            }
        }
        Pulled::Later
    }

    fn upgrade_waker(&mut self, exchange: ExchangeId) -> UpgradeWaker {
        let reply_to = self.reply_to(exchange);
        Arc::new(move || reply_to.send(ExchangeEvent::UpgradeWake))
    }

    fn run_upgrade_job(&mut self, exchange: ExchangeId, job: UpgradeJob) {
        let reply_to = self.reply_to(exchange);
        let work = move || {
            job.run();
            ExchangeEvent::UpgradeWake
        };
        // A job that is dropped unused reports that itself.
        let _ = self.pools.jobs.submit_required(reply_to, work);
    }

    fn record(&mut self, record: Record) {
        self.worker.stats.metrics.count(&record);
        if let Some(access_log) = &mut self.access_log {
            access_log.record(record);
        }
    }
}

/// True if other threads may work for the rest of the exchange.
fn needs_others(response: &Response) -> bool {
    match response.body() {
        Body::File(_) => true,
        Body::Stream(stream) => stream.source.kind() != SourceKind::Polled,
        Body::Empty | Body::Bytes(_) => response.is_upgrade(),
    }
}

/// A response that an exchange waits for.
struct PendingReply {
    /// Runs its jobs.
    pool: BlockingPool,
    /// The thread that is reserved for its jobs, if they read a request body while it is received.
    _thread: Option<SemaphorePermit>,
    permits: Arc<StreamPermits>,
    disks: DiskPools,
    reply_to: ReplyTo,
    /// Names the request in the error log.
    request: Box<str>,
}

impl PendingReply {
    /// Sends the response to the worker, now or when a job or a responder has made it.
    fn deliver(self, outcome: Outcome) {
        match outcome.settled(&self.request) {
            Ok(settled) => self.deliver_settled(settled),
            Err(deferral) => {
                let cancellation = Cancellation::new(self.reply_to.cancelled.clone());
                let context = ResponderContext::new(&self.request, cancellation);
                deferral.settle(&context, move |settled| self.deliver_settled(settled));
            }
        }
    }

    fn deliver_settled(self, settled: Settled) {
        match settled {
            Settled::Ready(response) => self.reply_to.send(ExchangeEvent::Response(response)),
            Settled::Unreserved(mut response, changes) => {
                self.permits.reserve_for_body(&mut response);
                let outcome = changes.apply_to_reserved(response, &self.request);
                self.deliver(outcome);
            }
            Settled::Blocking(job) => {
                let (pool, reply_to) = (self.pool.clone(), self.reply_to.clone());
                pool.submit(reply_to, |place| self.run(job, place));
            }
            Settled::BlockingOnDisk(job) => {
                let (disks, reply_to) = (self.disks.clone(), self.reply_to.clone());
                disks.submit(job, reply_to, |job, place| self.run(job, place));
            }
        }
    }

    /// Returns the response of a job, unless it has another outcome: that is delivered when it is there.
    fn run(self, job: Job, place: Result<(), QueueFull>) -> Option<ExchangeEvent> {
        let outcome = match place {
            Ok(()) => job.run(&self.request),
            Err(QueueFull) => {
                let response = Response::unavailable("too many requests in progress; try again");
                job.replace(response, &self.request)
            }
        };
        match outcome {
            Outcome::Ready(response) => Some(ExchangeEvent::Response(response)),
            outcome => {
                self.deliver(outcome);
                None
            }
        }
    }
}

/// Pulls the next chunk. A producer that has reached its end is dropped here.
fn next_chunk(mut producer: Box<dyn BodyProducer>) -> BodyChunk {
    let pull = move || {
        let chunk = next_non_empty_piece(&mut *producer)?;
        Ok(chunk.map(|bytes| (bytes, BodySource::Producer(producer))))
    };
    catch(pull).unwrap_or_else(|Panicked| Err(io::Error::other("its producer panicked")))
}

/// Writes a whole body, and returns its end, which follows all its chunks.
fn write_body(write: WriteBody, reply_to: &ReplyTo) -> BodyChunk {
    catch(|| body_writer::write_all(write, reply_to))
        .unwrap_or_else(|Panicked| Err(io::Error::other("its writer panicked")))
        .map(|()| None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panic_of_a_producer_is_an_error() {
        let panics = || -> io::Result<Option<bytes::Bytes>> { panic!("on purpose") };
        assert!(next_chunk(Box::new(panics)).is_err());
    }
}
