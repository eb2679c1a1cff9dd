//! What a handler returns: a response, a job that makes it, or the promise to send it later through a
//! [`Responder`].
//!
//! A responder may send another deferred outcome, and that one's again. Such a chain is followed in a
//! loop of limited length, and dropped in a loop as well: neither uses the stack in proportion to its
//! length.

use std::cell::RefCell;
use std::fmt;
use std::sync::{Arc, MutexGuard, mpsc};

use ::http::StatusCode;

use crate::body::Cancellation;
use crate::http::Response;
use crate::panics::catch;
use crate::sync::Mutex;

/// A blocking job that makes a response. It runs on a helper thread and may wait for a disk, a lock or
/// another server.
pub type Job = Box<dyn FnOnce() -> Response + Send>;

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
        Self::Blocking(Box::new(job))
    }

    /// Creates an [`Outcome::Deferred`].
    pub fn deferred(hand_over: impl FnOnce(Responder) + Send + 'static) -> Self {
        Self::Deferred(Deferral::new(hand_over))
    }

    /// Changes the response with `change`, now or when it is available, on the thread that makes it. A
    /// middleware changes the responses of the handler inside it with this.
    pub fn map(self, change: impl FnOnce(Response) -> Response + Send + 'static) -> Self {
        self.and_then(move |response| change(response).into())
    }

    /// Replaces the response by what `change` makes of it, as [`map`](Self::map) does. A job waits on its
    /// thread for an outcome that is not ready.
    pub(crate) fn and_then(self, change: impl FnOnce(Response) -> Self + Send + 'static) -> Self {
        match self {
            Self::Ready(response) => change(response),
            Self::Blocking(job) => Self::blocking(move || change(job()).wait()),
            Self::BlockingOnDisk(job) => {
                let run = job.run;
                let work = move || run().and_then(change);
                Self::BlockingOnDisk(DiskJob::new(job.device, job.length, work))
            }
            Self::Deferred(deferral) => Self::deferred(move |responder| {
                let context = responder.context.clone();
                let changed = move |outcome: Self| responder.send(outcome.and_then(change));
                deferral.call(Responder::new(context, changed));
            }),
        }
    }

    /// Returns the response and blocks until it is available. For tests and other callers that may
    /// wait.
    pub fn wait(self) -> Response {
        let mut outcome = self;
        loop {
            let settled = match outcome.settled() {
                Ok(settled) => settled,
                Err(deferral) => deferral.wait(),
            };
            outcome = match settled {
                Settled::Ready(response) => return response,
                Settled::Blocking(job) => return job(),
                Settled::BlockingOnDisk(job) => job.run(),
            };
        }
    }

    /// Returns what is to be done, unless the outcome is deferred.
    pub(crate) fn settled(self) -> Result<Settled, Deferral> {
        match self {
            Self::Ready(response) => Ok(Settled::Ready(response)),
            Self::Blocking(job) => Ok(Settled::Blocking(job)),
            Self::BlockingOnDisk(job) => Ok(Settled::BlockingOnDisk(job)),
            Self::Deferred(deferral) => Err(deferral),
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
    run: Box<dyn FnOnce() -> Outcome + Send>,
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
            run: Box::new(move || job().into()),
        }
    }

    pub(crate) fn device(&self) -> u64 {
        self.device
    }

    pub(crate) fn length(&self) -> JobLength {
        self.length
    }

    /// Does the work, which may block.
    pub(crate) fn run(self) -> Outcome {
        (self.run)()
    }
}

/// The limit of deferred outcomes that are sent one after the other before the closure that sends one
/// has returned. More are an error of the handler, which would keep an event loop from its other
/// connections. One that is sent later starts a new count.
const MAX_DEFERRALS: usize = 1000;

type HandOver = Box<dyn FnOnce(Responder) + Send>;

/// The closure of an [`Outcome::Deferred`]; made with [`Outcome::deferred`].
pub struct Deferral(Option<HandOver>);

impl fmt::Debug for Deferral {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Deferral(..)")
    }
}

/// An outcome that is not deferred.
pub(crate) enum Settled {
    Ready(Response),
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
    pub(super) fn new(hand_over: impl FnOnce(Responder) + Send + 'static) -> Self {
        Self(Some(Box::new(hand_over)))
    }

    pub(super) fn call(mut self, responder: Responder) {
        if let Some(hand_over) = self.0.take() {
            hand_over(responder);
        }
    }

    /// Waits until something is sent that is not deferred.
    fn wait(self) -> Settled {
        const REQUEST: &str = "a request made by hand";
        let (sender, receiver) = mpsc::sync_channel(1);
        let context = ResponderContext::new(REQUEST, Cancellation::default());
        self.settle(&context, move |settled| {
            // This fails only if the receiver is gone.
            let _ = sender.send(settled);
        });
        let settled = receiver.recv();
        settled.unwrap_or_else(|_| Settled::Ready(response_dropped(REQUEST)))
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
        deferral = match outcome.settled() {
            Ok(settled) => return deliver(settled),
            Err(deferral) => deferral,
        };
    }
    let request = &context.request;
    let text =
        format!("{request}: the handler deferred the response {MAX_DEFERRALS} times in a row");
    deliver(Settled::Ready(Response::fault(&text)));
}

/// Calls a closure. Returns the outcome that it sends before it returns.
fn call(
    deferral: Deferral,
    context: &ResponderContext,
    deliver: Deliver,
) -> Option<(Outcome, Deliver)> {
    let state = Arc::new(Mutex::new(Call::Running));
    let on_outcome = {
        let (state, context) = (Arc::clone(&state), context.clone());
        move |outcome: Outcome| {
            let mut state = lock(&state);
            if let Call::Running = *state {
                *state = Call::Sent(outcome, deliver);
                return;
            }
            drop(state);
            match outcome.settled() {
                Ok(settled) => deliver(settled),
                Err(deferral) => settle(deferral, &context, deliver),
            }
        }
    };
    let responder = Responder::new(context.clone(), on_outcome);
    // A responder that is dropped by the panic sends a 500.
    if catch(|| deferral.call(responder)).is_err() {
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
        let Some(hand_over) = self.0.take() else {
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

    fn deliver(&mut self, outcome: impl FnOnce(&str) -> Outcome) {
        let Some(deliver) = self.deliver.take() else {
            return;
        };
        self.context.cancellation.complete();
        let request = &self.context.request;
        let outcome = outcome(request);
        // A middleware may panic while it changes the response. The panic must not reach the thread
        // that sends it; the responder inside the middleware's closure is dropped and sends a 500.
        if catch(|| deliver(outcome)).is_err() {
            log::error!("{request}: middleware panicked");
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
pub(super) fn response_dropped(request: &str) -> Response {
    Response::fault(&format!(
        "{request}: the handler dropped its replier without replying"
    ))
}

#[cfg(test)]
mod tests;
