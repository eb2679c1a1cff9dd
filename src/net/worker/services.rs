//! What a connection has of its worker while it runs: a handler that is asked, and threads for all
//! that takes time. What they find comes back by mail.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use mio::Token;

use super::settings::PreviousHandler;
use crate::access_log::LogSender;
use crate::body::stream::BodySource;
use crate::body::{BodyWriter, FileRange};
use crate::handler::{BodyPolicy, Handler, Outcome, Responder};
use crate::http::{Rejection, Request, Response};
use crate::net::blocking::disk::{self, DiskPools, ProbeResult};
use crate::net::blocking::pool::{BlockingPool, QueueFull, panicked};
use crate::net::connection::Services;
use crate::net::event_loop::handle::LoopStats;
use crate::net::event_loop::mailbox::{Mailbox, WorkerMessage};
use crate::proto::exchange::ExchangeId;
use crate::proto::record::Record;

/// What a worker lends a connection that runs.
pub(crate) struct WorkerServices<'a> {
    pub(crate) token: Token,
    pub(crate) mailbox: &'a Arc<Mailbox>,
    pub(crate) tally: &'a LoopStats,
    pub(crate) handler: &'a dyn Handler,
    /// Who answers the request at hand instead.
    pub(crate) former: Option<PreviousHandler>,
    pub(crate) helpers: &'a BlockingPool,
    pub(crate) streams: &'a BlockingPool,
    pub(crate) disks: &'a DiskPools,
    pub(crate) access_log: Option<&'a mut LogSender>,
}

impl Services for WorkerServices<'_> {
    fn answer(&mut self, _: ExchangeId, request: &Request<'_>) -> Option<Response> {
        // Nobody else adds to it.
        let requests = self.tally.requests.load(Ordering::Relaxed) + 1;
        self.tally.requests.store(requests, Ordering::Relaxed);
        let former = self.former.take();
        let handler = former
            .as_ref()
            .map_or(self.handler, |former| &*former.handler);
        let handle = AssertUnwindSafe(|| handler.handle(request));
        match catch_unwind(handle) {
            Ok(Outcome::Ready(response)) => Some(response),
            Ok(reply) => {
                let promise = PendingReply {
                    // Reading from a client takes as long as the client does.
                    pool: match request.is_streamed() {
                        true => self.streams.clone(),
                        false => self.helpers.clone(),
                    },
                    disks: self.disks.clone(),
                    mailbox: Arc::clone(self.mailbox),
                    token: self.token,
                    request: line_of(request),
                };
                promise.keep(reply);
                None
            }
            Err(_) => Some(panicked(&line_of(request))),
        }
    }

    fn admit(&mut self, request: &Request<'_>) -> BodyPolicy {
        let admit = AssertUnwindSafe(|| self.handler.admit(request));
        catch_unwind(admit).unwrap_or_else(|_| BodyPolicy::Reject(panicked(&line_of(request))))
    }

    fn reject(&mut self, request: &Request<'_>, refusal: Rejection) -> Response {
        let former = self.former.take();
        let handler = former
            .as_ref()
            .map_or(self.handler, |former| &*former.handler);
        let reject = AssertUnwindSafe(|| handler.reject(request, refusal));
        catch_unwind(reject).unwrap_or_else(|_| panicked(&line_of(request)))
    }

    fn open_request_body(&mut self, _: ExchangeId) -> BodyWriter {
        let mailbox = Arc::clone(self.mailbox);
        let token = self.token;
        BodyWriter::new(move || mailbox.send(WorkerMessage::Room(token)))
    }

    fn probe_file(&mut self, _: ExchangeId, range: FileRange, now: Instant) -> Option<u64> {
        match disk::look(&range, now) {
            ProbeResult::InMemory(bytes) => Some(bytes),
            ProbeResult::OnDisk => {
                self.disks.fetch(range, self.mailbox, self.token);
                None
            }
        }
    }

    fn pull_body(&mut self, _: ExchangeId, source: BodySource) {
        match source {
            BodySource::Producer(producer) => {
                self.helpers.produce(producer, self.mailbox, self.token);
            }
            BodySource::Writer(write) => self.streams.write(write, self.mailbox, self.token),
            // If its thread has ended, that has mailed why.
            BodySource::Waiting(taken) => drop(taken.send(())),
        }
    }

    fn record(&mut self, record: Record) {
        self.tally.meter.count(&record);
        if let Some(sink) = &mut self.access_log {
            sink.record(record);
        }
    }
}

/// A reply that is owed to a connection.
struct PendingReply {
    /// Where its jobs run.
    pool: BlockingPool,
    disks: DiskPools,
    mailbox: Arc<Mailbox>,
    token: Token,
    request: Box<str>,
}

impl PendingReply {
    /// Sees to it that the connection gets the response.
    fn keep(self, reply: Outcome) {
        match reply {
            Outcome::Ready(response) => self
                .mailbox
                .send(WorkerMessage::Response(self.token, response)),
            Outcome::Blocking(job) => {
                let task = (job, self.request);
                let submitted = self.pool.submit(task, &self.mailbox, self.token);
                submitted.unwrap_or_else(|QueueFull| turn_away(&self.mailbox, self.token));
            }
            Outcome::BlockingOnDisk(device, job) => {
                let task = (job, self.request);
                let submitted = self.disks.submit(device, task, &self.mailbox, self.token);
                submitted.unwrap_or_else(|QueueFull| turn_away(&self.mailbox, self.token));
            }
            Outcome::Deferred(hand_over) => {
                let request = self.request.clone();
                let replier = Responder::new(request.clone(), move |reply| self.keep(reply));
                // The replier that is dropped on the way has said 500.
                if catch_unwind(AssertUnwindSafe(|| hand_over(replier))).is_err() {
                    log::error!("{request}: the handler panicked");
                }
            }
        }
    }
}

fn turn_away(mailbox: &Mailbox, token: Token) {
    let response = Response::unavailable("too many requests in progress; try again");
    mailbox.send(WorkerMessage::Response(token, response));
}

/// A request as the log of errors names it.
fn line_of(request: &Request<'_>) -> Box<str> {
    format!("{} {:?}", request.method(), request.target()).into()
}
