//! What a handler returns: a response, a job that makes it, or the promise to send it later through a
//! [`Responder`].
//!
//! What layers do with a response that is not there yet is kept beside the work that makes it ([`Changes`]).
//! So it is done to any response of the request: to that of the work, to the 500 if the work panics, and to
//! the 503 if there is no room for the work or for the body.
//!
//! A responder may send another deferred outcome, and that one's again. Such a chain is followed in a
//! loop of limited length, and dropped in a loop as well: neither uses the stack in proportion to its
//! length.

use std::cell::RefCell;
use std::fmt::{self, Display};
use std::sync::{Arc, MutexGuard, mpsc};

use ::http::StatusCode;

use crate::body::Cancellation;
use crate::http::{Request, Response};
use crate::panics::{Panicked, catch, drop_caught};
use crate::sync::Mutex;

/// Names a request that no server has received, in the log.
const MADE_BY_HAND: &str = "a request made by hand";

/// A blocking job that makes a response. It runs on a helper thread and may wait for a disk, a lock or
/// another server. Made with [`Outcome::blocking`].
pub struct Job {
    work: Box<dyn FnOnce() -> Outcome + Send>,
    changes: Changes,
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Job(..)")
    }
}

impl Job {
    fn new<R: Into<Outcome>>(work: impl FnOnce() -> R + Send + 'static) -> Self {
        Self {
            work: Box::new(move || work().into()),
            changes: Changes::default(),
        }
    }

    /// Does the work, which may block. Its panic is a 500. `request` names the request in the log.
    pub(crate) fn run(self, request: &dyn Display) -> Outcome {
        let outcome = catch(self.work).unwrap_or_else(|Panicked| handler_panicked(request).into());
        self.changes.apply(outcome, request)
    }

    /// Does the work for a caller that waits. Its panic goes on to the caller, unless a layer changes the
    /// response.
    fn run_by_hand(self) -> Outcome {
        if self.changes.0.is_empty() {
            return (self.work)();
        }
        self.run(&MADE_BY_HAND)
    }

    /// Drops the work and responds with `response` instead.
    pub(crate) fn replace(self, response: Response, request: &dyn Display) -> Outcome {
        drop_caught(self.work, "a job that is not begun");
        self.changes.apply(response.into(), request)
    }
}

type Change = Box<dyn FnOnce(Response) -> Outcome + Send>;

/// What layers make of a response when it is there, the innermost first.
#[derive(Default)]
pub(crate) struct Changes(Vec<Change>);

impl Changes {
    /// Changes the response of an outcome, now or when it is there. A change that panics makes a 500, which
    /// the following ones change.
    pub(crate) fn apply(self, outcome: Outcome, request: &dyn Display) -> Outcome {
        let changes = self.0.into_iter();
        changes.fold(outcome, |outcome, change| outcome.changed(change, request))
    }

    /// As [`apply`](Self::apply), for a response whose body has what it needs.
    pub(crate) fn apply_to_reserved(
        mut self,
        response: Response,
        request: &dyn Display,
    ) -> Outcome {
        if self.0.is_empty() {
            return response.into();
        }
        let outcome = change_caught(response, self.0.remove(0), request);
        self.apply(outcome, request)
    }
}

fn change_caught(response: Response, change: Change, request: &dyn Display) -> Outcome {
    catch(|| change(response)).unwrap_or_else(|Panicked| {
        Response::fault(&format!("{request}: middleware panicked")).into()
    })
}

/// Names a request in the log.
pub(crate) struct RequestName<'a>(pub(crate) &'a Request<'a>);

impl Display for RequestName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}", self.0.method(), self.0.target())
    }
}

/// The response to a request whose handler panicked.
pub(crate) fn handler_panicked(request: &dyn Display) -> Response {
    Response::fault(&format!("{request}: the handler panicked"))
}

/// What a handler returns: a response, or how to get it.
#[must_use = "the client gets the outcome that a handler returns"]
#[non_exhaustive]
pub enum Outcome {
    /// A response that is available now.
    Ready(Response),
    /// A job that makes the response on a helper thread. The connection waits for it; the event loop
    /// does not. Clients get the threads in turn. If the request is over before the job begins, because
    /// its client has disconnected, the job is dropped.
    Blocking(Job),
    /// A job that waits for one disk and for nothing else, and what it returns.
    BlockingOnDisk(DiskJob),
    /// A response that is sent later through a [`Responder`]. The closure is called at once and must
    /// not wait; it passes the responder on. No thread waits for the response.
    Deferred(Deferral),
}

impl fmt::Debug for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ready(response) => f.debug_tuple("Ready").field(response).finish(),
            Self::Blocking(_) => f.write_str("Blocking(..)"),
            Self::BlockingOnDisk(job) => f.debug_tuple("BlockingOnDisk").field(job).finish(),
            Self::Deferred(deferral) => f.debug_tuple("Deferred").field(deferral).finish(),
        }
    }
}

impl Outcome {
    /// Creates an [`Outcome::Blocking`].
    pub fn blocking(job: impl FnOnce() -> Response + Send + 'static) -> Self {
        Self::Blocking(Job::new(job))
    }

    /// Creates an [`Outcome::Deferred`].
    pub fn deferred(hand_over: impl FnOnce(Responder) + Send + 'static) -> Self {
        Self::Deferred(Deferral::new(hand_over))
    }

    /// Changes the response with `change`, now or when it is available, on the thread that makes it or finds
    /// that it cannot be made. A middleware changes the responses of the handler inside it with this: the 500
    /// of a job that panics and the 503 of one that has no place in the queue are changed too.
    pub fn map(self, change: impl FnOnce(Response) -> Response + Send + 'static) -> Self {
        self.and_then(move |response| change(response).into())
    }

    /// Replaces the response by what `change` makes of it, as [`map`](Self::map) does.
    pub(crate) fn and_then(self, change: impl FnOnce(Response) -> Self + Send + 'static) -> Self {
        match self {
            Self::Ready(response) if !response.needs_permit() => change(response),
            outcome => outcome.changed_later(Box::new(change)),
        }
    }

    fn changed(self, change: Change, request: &dyn Display) -> Self {
        match self {
            Self::Ready(response) if !response.needs_permit() => {
                change_caught(response, change, request)
            }
            outcome => outcome.changed_later(change),
        }
    }

    fn changed_later(self, change: Change) -> Self {
        match self {
            // The body may be replaced by a 503 when the server looks for a place for it.
            Self::Ready(response) => {
                let mut deferral = Deferral::from(DeferralSource::Unreserved(response));
                deferral.changes.0.push(change);
                Self::Deferred(deferral)
            }
            Self::Blocking(mut job) => {
                job.changes.0.push(change);
                Self::Blocking(job)
            }
            Self::BlockingOnDisk(mut job) => {
                job.job.changes.0.push(change);
                Self::BlockingOnDisk(job)
            }
            Self::Deferred(mut deferral) => {
                deferral.changes.0.push(change);
                Self::Deferred(deferral)
            }
        }
    }

    /// Returns whether the response is made, though its body may lack a thread or a place.
    pub(crate) fn is_made(&self) -> bool {
        match self {
            Self::Ready(_) => true,
            Self::Deferred(deferral) => {
                matches!(deferral.source, Some(DeferralSource::Unreserved(_)))
            }
            Self::Blocking(_) | Self::BlockingOnDisk(_) => false,
        }
    }

    /// Returns the response if it is made, with all its changes. The caller reserves what its body needs.
    pub(crate) fn made(self, request: &dyn Display) -> Result<Response, Self> {
        let mut outcome = self;
        while outcome.is_made() {
            outcome = match outcome.settled(request) {
                Ok(Settled::Ready(response)) => return Ok(response),
                Ok(Settled::Unreserved(response, changes)) => {
                    changes.apply_to_reserved(response, request)
                }
                Ok(Settled::Blocking(job)) => Self::Blocking(job),
                Ok(Settled::BlockingOnDisk(job)) => Self::BlockingOnDisk(job),
                Err(deferral) => Self::Deferred(deferral),
            };
        }
        Err(outcome)
    }

    /// Drops the work that makes the response, and responds with `response` instead.
    pub(crate) fn replace(self, response: Response, request: &dyn Display) -> Self {
        match self {
            Self::Ready(replaced) => {
                drop_caught(replaced, "a response that is replaced");
                response.into()
            }
            Self::Blocking(job) => job.replace(response, request),
            Self::BlockingOnDisk(job) => job.job.replace(response, request),
            Self::Deferred(deferral) => deferral.replace(response, request),
        }
    }

    /// Creates the outcome of a call that is made later: see [`Promise::fill`].
    pub(crate) fn promised(promise: &Promise) -> Self {
        Self::Deferred(DeferralSource::Promised(promise.clone()).into())
    }

    /// Returns the response and blocks until it is available. For tests and other callers that may
    /// wait.
    pub fn wait(self) -> Response {
        let mut outcome = self;
        loop {
            let settled = match outcome.settled(&MADE_BY_HAND) {
                Ok(settled) => settled,
                Err(deferral) => deferral.wait(),
            };
            outcome = match settled {
                Settled::Ready(response) => return response,
                Settled::Unreserved(response, changes) => {
                    changes.apply_to_reserved(response, &MADE_BY_HAND)
                }
                Settled::Blocking(job) => job.run_by_hand(),
                Settled::BlockingOnDisk(job) => job.into_job().run_by_hand(),
            };
        }
    }

    /// Returns what is to be done, unless the outcome is deferred by a closure.
    pub(crate) fn settled(self, request: &dyn Display) -> Result<Settled, Deferral> {
        let mut outcome = self;
        loop {
            outcome = match outcome {
                Self::Ready(response) => return Ok(Settled::Ready(response)),
                Self::Blocking(job) => return Ok(Settled::Blocking(job)),
                Self::BlockingOnDisk(job) => return Ok(Settled::BlockingOnDisk(job)),
                Self::Deferred(mut deferral) => match deferral.source.take() {
                    Some(DeferralSource::Unreserved(response)) => {
                        let changes = std::mem::take(&mut deferral.changes);
                        return Ok(Settled::Unreserved(response, changes));
                    }
                    Some(DeferralSource::Promised(promise)) => {
                        let changes = std::mem::take(&mut deferral.changes);
                        changes.apply(promise.take(request), request)
                    }
                    source => {
                        deferral.source = source;
                        return Err(deferral);
                    }
                },
            };
        }
    }
}

impl From<Response> for Outcome {
    fn from(response: Response) -> Self {
        Self::Ready(response)
    }
}

impl From<StatusCode> for Outcome {
    fn from(status: StatusCode) -> Self {
        Self::Ready(status.into())
    }
}

impl<T: Into<String>> From<(StatusCode, T)> for Outcome {
    fn from(text: (StatusCode, T)) -> Self {
        Self::Ready(text.into())
    }
}

/// A handler may use `?`: its error is converted to a response.
impl<T, E> From<Result<T, E>> for Outcome
where
    T: Into<Outcome>,
    E: Into<Response>,
{
    fn from(result: Result<T, E>) -> Self {
        result.map_or_else(|error| Self::Ready(error.into()), Into::into)
    }
}

/// The same for a function that makes a response on a helper thread.
impl<T, E> From<Result<T, E>> for Response
where
    T: Into<Response>,
    E: Into<Response>,
{
    fn from(result: Result<T, E>) -> Self {
        result.map_or_else(Into::into, Into::into)
    }
}

/// A job that waits for one disk, identified by its device number (`st_dev`), and for nothing else.
///
/// Each disk has its own threads, so that a disk that hangs blocks no thread that others need, and
/// separate ones for short and for long jobs, so that a short job never waits for a long one. A short
/// job that turns out to be long returns the rest of its work as another job:
///
/// ```
/// use tws::{DiskJob, Outcome, Response};
///
/// fn size_or_sum(device: u64, path: &'static str) -> Outcome {
///     Outcome::BlockingOnDisk(DiskJob::short(device, move || match std::fs::metadata(path) {
///         Ok(metadata) if metadata.is_dir() => {
///             let count = move || std::fs::read_dir(path).map_or(0, Iterator::count);
///             let long = DiskJob::long(device, move || Response::text(format!("{}\n", count())));
///             Outcome::BlockingOnDisk(long)
///         }
///         Ok(metadata) => Response::text(format!("{} bytes\n", metadata.len())).into(),
///         Err(_) => tws::StatusCode::NOT_FOUND.into(),
///     }))
/// }
/// # assert_eq!(size_or_sum(0, "/dev/null").wait().into_content()?, b"0 bytes\n");
/// # assert_eq!(size_or_sum(0, "/dev").wait().status(), tws::StatusCode::OK);
/// # Ok::<_, std::io::Error>(())
/// ```
pub struct DiskJob {
    device: u64,
    length: JobLength,
    job: Job,
}

impl fmt::Debug for DiskJob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DiskJob")
            .field("device", &self.device)
            .field("length", &self.length)
            .finish_non_exhaustive()
    }
}

/// How long a job occupies its thread, if its disk works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum JobLength {
    Short,
    Long,
}

impl DiskJob {
    /// Creates a job that opens or examines a few files and reads little of them.
    pub fn short<R: Into<Outcome>>(device: u64, job: impl FnOnce() -> R + Send + 'static) -> Self {
        Self::new(device, JobLength::Short, job)
    }

    /// Creates a job that reads a folder or a large file, or computes.
    pub fn long<R: Into<Outcome>>(device: u64, job: impl FnOnce() -> R + Send + 'static) -> Self {
        Self::new(device, JobLength::Long, job)
    }

    fn new<R: Into<Outcome>>(
        device: u64,
        length: JobLength,
        job: impl FnOnce() -> R + Send + 'static,
    ) -> Self {
        Self {
            device,
            length,
            job: Job::new(job),
        }
    }

    pub(crate) fn device(&self) -> u64 {
        self.device
    }

    pub(crate) fn length(&self) -> JobLength {
        self.length
    }

    pub(crate) fn into_job(self) -> Job {
        self.job
    }
}

/// The limit of deferred outcomes that are sent one after the other before the closure that sends one
/// has returned. More are an error of the handler, which would keep an event loop from its other
/// connections. One that is sent later starts a new count.
const MAX_DEFERRALS: usize = 1000;

type HandOver = Box<dyn FnOnce(Responder) + Send>;

/// The closure of an [`Outcome::Deferred`]; made with [`Outcome::deferred`].
pub struct Deferral {
    source: Option<DeferralSource>,
    changes: Changes,
}

/// Where the outcome comes from.
enum DeferralSource {
    HandOver(HandOver),
    /// A response that is made, and changed when its body has what it needs.
    Unreserved(Response),
    Promised(Promise),
}

impl From<DeferralSource> for Deferral {
    fn from(source: DeferralSource) -> Self {
        Self {
            source: Some(source),
            changes: Changes::default(),
        }
    }
}

/// The outcome of a handler that is called later: a layer decides about a request when its head is there,
/// and the handler inside it is called when the content is.
#[derive(Clone, Default)]
pub(crate) struct Promise(Arc<Mutex<Option<Outcome>>>);

impl Promise {
    /// Returns `outcome`, which was made of [`Outcome::promised`], with `made` in the place of that. A job
    /// that waits for it finds it there.
    pub(crate) fn fill(&self, outcome: Outcome, made: Outcome, request: &dyn Display) -> Outcome {
        match outcome {
            Outcome::Deferred(mut deferral) if deferral.is_of(self) => {
                std::mem::take(&mut deferral.changes).apply(made, request)
            }
            outcome => {
                *self.0.lock() = Some(made);
                outcome
            }
        }
    }

    fn take(&self, request: &dyn Display) -> Outcome {
        let made = self.0.lock().take();
        made.unwrap_or_else(|| response_dropped(request).into())
    }
}

impl fmt::Debug for Deferral {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Deferral(..)")
    }
}

/// An outcome that is not deferred.
pub(crate) enum Settled {
    Ready(Response),
    /// A response whose body needs a place, and what is made of it then.
    Unreserved(Response, Changes),
    Blocking(Job),
    BlockingOnDisk(DiskJob),
}

type Deliver = Box<dyn FnOnce(Settled) + Send>;

/// What a call of a closure has led to.
enum Call {
    /// The closure has not returned, and nothing was sent.
    Running,
    /// An outcome was sent before the closure returned. The caller of the closure goes on with it.
    Sent(Outcome, Deliver),
    /// The closure has returned. The thread that sends the outcome goes on with it.
    Returned,
}

impl Deferral {
    fn new(hand_over: impl FnOnce(Responder) + Send + 'static) -> Self {
        DeferralSource::HandOver(Box::new(hand_over)).into()
    }

    fn is_of(&self, promise: &Promise) -> bool {
        match &self.source {
            Some(DeferralSource::Promised(Promise(own))) => Arc::ptr_eq(own, &promise.0),
            _ => false,
        }
    }

    fn replace(mut self, response: Response, request: &dyn Display) -> Outcome {
        let changes = std::mem::take(&mut self.changes);
        drop_caught(self, "a deferred response that is replaced");
        changes.apply(response.into(), request)
    }

    /// Waits until something is sent that is not deferred.
    fn wait(self) -> Settled {
        let (sender, receiver) = mpsc::sync_channel(1);
        let context = ResponderContext::new(MADE_BY_HAND, Cancellation::default());
        self.settle(&context, move |settled| {
            // This fails only if the receiver is gone.
            let _ = sender.send(settled);
        });
        let settled = receiver.recv();
        settled.unwrap_or_else(|_| Settled::Ready(response_dropped(&MADE_BY_HAND)))
    }

    /// Calls the closure, and those that are sent in response, until something else is sent. `deliver`
    /// gets that, on the thread that sends it. A panic of a closure is a 500.
    pub(crate) fn settle(
        self,
        context: &ResponderContext,
        deliver: impl FnOnce(Settled) + Send + 'static,
    ) {
        settle(self, context, Box::new(deliver));
    }
}

fn settle(mut deferral: Deferral, context: &ResponderContext, mut deliver: Deliver) {
    for _ in 0..MAX_DEFERRALS {
        let Some((outcome, next)) = call(deferral, context, deliver) else {
            return;
        };
        deliver = next;
        deferral = match outcome.settled(&context.request) {
            Ok(settled) => return deliver(settled),
            Err(deferral) => deferral,
        };
    }
    let request = &context.request;
    let text =
        format!("{request}: the handler deferred the response {MAX_DEFERRALS} times in a row");
    let outcome = deferral.replace(Response::fault(&text), request);
    let settled = outcome.settled(request);
    deliver(settled.unwrap_or_else(|_| Settled::Ready(StatusCode::INTERNAL_SERVER_ERROR.into())));
}

/// Calls a closure. Returns the outcome that it sends before it returns.
fn call(
    mut deferral: Deferral,
    context: &ResponderContext,
    deliver: Deliver,
) -> Option<(Outcome, Deliver)> {
    let state = Arc::new(Mutex::new(Call::Running));
    let changes = std::mem::take(&mut deferral.changes);
    let on_outcome = {
        let (state, context) = (Arc::clone(&state), context.clone());
        move |outcome: Outcome| {
            let outcome = changes.apply(outcome, &context.request);
            let mut state = lock(&state);
            if let Call::Running = *state {
                *state = Call::Sent(outcome, deliver);
                return;
            }
            drop(state);
            match outcome.settled(&context.request) {
                Ok(settled) => deliver(settled),
                Err(deferral) => settle(deferral, &context, deliver),
            }
        }
    };
    let responder = Responder::new(context.clone(), on_outcome);
    // A responder that is dropped by the panic sends a 500.
    if let Some(DeferralSource::HandOver(hand_over)) = deferral.source.take()
        && catch(|| hand_over(responder)).is_err()
    {
        log::error!("{}: the handler panicked", context.request);
    }
    match std::mem::replace(&mut *lock(&state), Call::Returned) {
        Call::Sent(outcome, deliver) => Some((outcome, deliver)),
        Call::Running | Call::Returned => None,
    }
}

fn lock(state: &Mutex<Call>) -> MutexGuard<'_, Call> {
    // No code panics while it holds the lock.
    state.lock()
}

thread_local! {
    /// The closures to drop next, while one is being dropped on this thread.
    static DROPPED: RefCell<Option<Vec<HandOver>>> = const { RefCell::new(None) };
}

/// A closure that was not called may hold another deferred outcome, and so on. They are dropped one
/// after the other.
impl Drop for Deferral {
    fn drop(&mut self) {
        let Some(DeferralSource::HandOver(hand_over)) = self.source.take() else {
            return;
        };
        let mut first = Some(hand_over);
        let enqueue = |dropped: &RefCell<Option<Vec<HandOver>>>| match &mut *dropped.borrow_mut() {
            Some(queue) => queue.extend(first.take()),
            none => *none = Some(Vec::new()),
        };
        // While a thread ends it may have no queue; `first` is dropped then as it is.
        if DROPPED.try_with(enqueue).is_err() || first.is_none() {
            return;
        }
        let _queue = DropQueue;
        while let Some(next) = first.take().or_else(DropQueue::next) {
            drop(next);
        }
    }
}

/// The queue of this thread. It ends with this value, also if a destructor panics.
struct DropQueue;

impl DropQueue {
    fn next() -> Option<HandOver> {
        DROPPED.with_borrow_mut(|dropped| dropped.as_mut()?.pop())
    }
}

impl Drop for DropQueue {
    fn drop(&mut self) {
        let rest = DROPPED.take();
        drop(rest);
    }
}

/// Sends the response of an [`Outcome::Deferred`]. If it is dropped unused, the client gets a 500.
///
/// It may be kept for as long as the response takes. When the client disconnects, the exchange is
/// cancelled and its connection closed; the responder can be dropped then.
pub struct Responder {
    deliver: Option<Box<dyn FnOnce(Outcome) + Send>>,
    context: ResponderContext,
}

impl fmt::Debug for Responder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Responder")
            .field("request", &self.context.request)
            .field("cancellation", &self.context.cancellation)
            .finish_non_exhaustive()
    }
}

/// What a responder knows of its exchange.
#[derive(Clone)]
pub(crate) struct ResponderContext {
    /// Names the request in the log.
    request: Arc<str>,
    cancellation: Cancellation,
}

impl ResponderContext {
    pub(crate) fn new(request: &str, cancellation: Cancellation) -> Self {
        Self {
            request: request.into(),
            cancellation,
        }
    }
}

impl Responder {
    fn new(context: ResponderContext, deliver: impl FnOnce(Outcome) + Send + 'static) -> Self {
        Self {
            deliver: Some(Box::new(deliver)),
            context,
        }
    }

    /// Returns true if the exchange has been cancelled, so that a response would be dropped.
    pub fn is_cancelled(&self) -> bool {
        self.context.cancellation.is_cancelled()
    }

    /// Calls `callback` when the exchange is cancelled, or now if it has been. It is called on an event
    /// loop and must not block. It is dropped when the response is sent.
    pub fn on_cancel(&self, callback: impl FnOnce() + Send + 'static) {
        self.context.cancellation.on_cancel(callback);
    }

    /// Returns a handle with the same methods, for another thread for example.
    pub fn cancellation(&self) -> Cancellation {
        self.context.cancellation.clone()
    }

    /// Sends the response, from any thread, without waiting. It may be anything that a handler may
    /// return; a job runs on the helper threads. A closure that sends another deferred outcome before
    /// it returns, whose closure does the same, can do so 1000 times; then the response is a 500.
    pub fn send(mut self, outcome: impl Into<Outcome>) {
        self.deliver(|_| outcome.into());
    }

    fn deliver(&mut self, outcome: impl FnOnce(&dyn Display) -> Outcome) {
        let Some(deliver) = self.deliver.take() else {
            return;
        };
        self.context.cancellation.complete();
        let request = &self.context.request;
        let outcome = outcome(request);
        // What is dropped on the way may panic. The panic must not reach the thread that sends the response.
        if catch(|| deliver(outcome)).is_err() {
            log::error!("{request}: a response panicked when it was dropped");
        }
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        if self.is_cancelled() {
            // The client has disconnected, so there is no need for a response.
            return;
        }
        self.deliver(|request| response_dropped(request).into());
    }
}

/// The response to a request whose [`Responder`] was dropped.
fn response_dropped(request: &dyn Display) -> Response {
    Response::fault(&format!(
        "{request}: the handler dropped its replier without replying"
    ))
}

#[cfg(test)]
mod tests;
