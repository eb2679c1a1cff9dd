//! What turns a request into a response. A handler knows no connection: it can be called with a
//! [`Request`] made by hand, and what it returns can be read.

pub(crate) mod router;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc;

use ::http::StatusCode;

use crate::http::{Rejection, Request, Response};

/// Work that may wait: for a disk, a lock, another server. It runs on a helper thread.
pub type Job = Box<dyn FnOnce() -> Response + Send>;

/// What a handler says to a request with content before the content is read.
#[derive(Debug)]
pub enum BodyPolicy {
    /// Read it, up to so many bytes and to [`Limits::max_content_bytes`](crate::Limits); more is
    /// refused with 413.
    Buffer {
        /// The limit, in bytes.
        max: usize,
    },
    /// Let the handler read it while it comes in, up to so many bytes, whatever
    /// [`Limits::max_content_bytes`](crate::Limits) says; more is refused with 413. The handler is
    /// called at once and reads with [`Request::reader`], in a job. A content that is small and of
    /// known length is whole by then.
    Stream {
        /// The limit, in bytes.
        max: u64,
    },
    /// Do not read it: answer this and close the connection.
    Reject(Response),
}

/// Where the answer of [`Outcome::Deferred`] goes. If it is dropped instead, the client gets a 500.
pub struct Responder {
    deliver: Option<Box<dyn FnOnce(Outcome) + Send>>,
    /// For the log.
    request: Arc<str>,
}

impl Responder {
    pub(crate) fn new(
        request: impl Into<Arc<str>>,
        deliver: impl FnOnce(Outcome) + Send + 'static,
    ) -> Self {
        Self {
            deliver: Some(Box::new(deliver)),
            request: request.into(),
        }
    }

    /// Sends the answer, from any thread, and does not wait: a response, or a reply like that of a
    /// handler, whose job goes to the threads for jobs.
    pub fn send(mut self, reply: impl Into<Outcome>) {
        self.deliver(|_| reply.into());
    }

    fn deliver(&mut self, reply: impl FnOnce(&str) -> Outcome) {
        let Some(deliver) = self.deliver.take() else {
            return;
        };
        let reply = reply(&self.request);
        // What wraps a handler may panic over its answer, on the thread of whoever sends it: they
        // go on. The replier that lies in the wrapping is dropped and says 500.
        if catch_unwind(AssertUnwindSafe(|| deliver(reply))).is_err() {
            log::error!("{}: middleware panicked", self.request);
        }
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        self.deliver(|request| forgotten(request).into());
    }
}

fn forgotten(request: &str) -> Response {
    Response::fault(&format!(
        "{request}: the handler dropped its replier without replying"
    ))
}

/// A handler's answer.
pub enum Outcome {
    /// The response, at once.
    Ready(Response),
    /// A job that makes the response. The connection waits for it, the event loop does not.
    Blocking(Job),
    /// A job that waits for one disk, named by its device number (`st_dev`), and for nothing else.
    /// Each disk has threads of its own: those that wait for one that hangs are none that anything
    /// else needs.
    BlockingOnDisk(u64, Job),
    /// A response that somebody else will send: this hands them what to send it with, at once and
    /// without waiting. It costs no thread, however long it takes.
    Deferred(Box<dyn FnOnce(Responder) + Send>),
}

impl Outcome {
    /// A job that makes the response on a helper thread.
    pub fn blocking(job: impl FnOnce() -> Response + Send + 'static) -> Self {
        Self::Blocking(Box::new(job))
    }

    /// A response that somebody else will send.
    pub fn deferred(hand_over: impl FnOnce(Responder) + Send + 'static) -> Self {
        Self::Deferred(Box::new(hand_over))
    }

    /// The same reply with another response, which `change` makes of the one there is, or will be,
    /// on the thread that has it. What wraps a handler changes its responses with this.
    pub fn map(self, change: impl FnOnce(Response) -> Response + Send + 'static) -> Self {
        match self {
            Self::Ready(response) => Self::Ready(change(response)),
            Self::Blocking(job) => Self::blocking(move || change(job())),
            Self::BlockingOnDisk(device, job) => {
                Self::BlockingOnDisk(device, Box::new(move || change(job())))
            }
            Self::Deferred(hand_over) => Self::deferred(move |replier| {
                let request = Arc::clone(&replier.request);
                let changed = move |reply: Self| replier.send(reply.map(change));
                hand_over(Responder::new(request, changed));
            }),
        }
    }

    /// The response, waiting for it if need be. For tests and other callers that may wait.
    pub fn wait(self) -> Response {
        match self {
            Self::Ready(response) => response,
            Self::Blocking(job) | Self::BlockingOnDisk(_, job) => job(),
            Self::Deferred(hand_over) => {
                let (sender, receiver) = mpsc::sync_channel(1);
                const REQUEST: &str = "a request made by hand";
                hand_over(Responder::new(REQUEST, move |reply| {
                    // Nobody waits any more if this fails.
                    let _ = sender.send(reply);
                }));
                match receiver.recv() {
                    Ok(reply) => reply.wait(),
                    Err(_) => forgotten(REQUEST),
                }
            }
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

/// A handler may use `?`: what went wrong is a reply, too.
impl<T, E> From<Result<T, E>> for Outcome
where
    T: Into<Outcome>,
    E: Into<Outcome>,
{
    fn from(result: Result<T, E>) -> Self {
        result.map_or_else(Into::into, Into::into)
    }
}

/// Turns requests into responses.
///
/// `handle` is called on an event loop that serves many connections: it must not wait. What may
/// wait goes into [`Outcome::Blocking`]. Closures `Fn(&Request<'_>) -> Response` are handlers, and
/// those that return a [`Outcome`], a status, or a `Result` of such.
pub trait Handler: Send + Sync {
    /// Answers one request.
    fn handle(&self, request: &Request<'_>) -> Outcome;

    /// Says whether the content of a request is to be read. The request is shown without it.
    fn admit(&self, request: &Request<'_>) -> BodyPolicy {
        let _ = request;
        BodyPolicy::Buffer { max: usize::MAX }
    }

    /// Answers a request whose head is fine but whose content is refused: too large (413), badly
    /// framed (400), or with an expectation nobody meets (417). The request has no content then.
    fn reject(&self, request: &Request<'_>, refusal: Rejection) -> Response {
        let _ = request;
        refusal.into()
    }

    /// The process is out of file descriptors: lets go of what is only kept for speed. What wraps
    /// handlers passes it on.
    fn shed(&self) {}
}

/// A handler whose contents come as streams, small ones excepted
/// ([`BodyPolicy::StreamingBody`]); for closures, which cannot say so themselves.
///
/// ```
/// use tws::{Outcome, Request, Response, Router, StatusCode, StreamingBody};
///
/// let count = |request: &Request<'_>| {
///     let mut content = request.reader();
///     Outcome::blocking(move || match std::io::copy(&mut content, &mut std::io::sink()) {
///         Ok(bytes) => Response::text(format!("{bytes} bytes\n")),
///         Err(_) => StatusCode::BAD_REQUEST.into(),
///     })
/// };
/// let router = Router::new().post("/count", StreamingBody::new(count, 1 << 30));
/// # use tws::Handler;
/// # let content = router.handle(&Request::post("/count", "four")).wait().into_content();
/// # assert_eq!(content.expect("content"), b"4 bytes\n");
/// ```
#[derive(Debug)]
pub struct StreamingBody<H> {
    handler: H,
    max_bytes: u64,
}

impl<H: Handler> StreamingBody<H> {
    /// Gives `handler` contents of up to `max_bytes`; more is refused with 413.
    pub fn new(handler: H, max_bytes: u64) -> Self {
        Self { handler, max_bytes }
    }
}

impl<H: Handler> Handler for StreamingBody<H> {
    fn handle(&self, request: &Request<'_>) -> Outcome {
        self.handler.handle(request)
    }

    fn admit(&self, request: &Request<'_>) -> BodyPolicy {
        match self.handler.admit(request) {
            BodyPolicy::Buffer { max: _ } | BodyPolicy::Stream { max: _ } => BodyPolicy::Stream {
                max: self.max_bytes,
            },
            refused => refused,
        }
    }

    fn reject(&self, request: &Request<'_>, refusal: Rejection) -> Response {
        self.handler.reject(request, refusal)
    }

    fn shed(&self) {
        self.handler.shed();
    }
}

impl<F, R> Handler for F
where
    F: Fn(&Request<'_>) -> R + Send + Sync,
    R: Into<Outcome>,
{
    fn handle(&self, request: &Request<'_>) -> Outcome {
        self(request).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_is_changed_wherever_it_is_made() {
        let made = || Response::text("made");
        let teapot = |response: Response| response.with_status(StatusCode::IM_A_TEAPOT);
        for reply in [
            Outcome::Ready(made()),
            Outcome::blocking(made),
            Outcome::BlockingOnDisk(0, Box::new(made)),
            Outcome::deferred(move |replier| replier.send(made())),
            // One that is forgotten is a 500, which is changed like any other.
            Outcome::deferred(drop),
            Outcome::deferred(move |replier| replier.send(Outcome::blocking(made))),
        ] {
            assert_eq!(reply.map(teapot).wait().status(), StatusCode::IM_A_TEAPOT);
        }
    }

    #[test]
    fn a_closure_may_fail() {
        let handler = |request: &Request<'_>| {
            let name = request.query_param("name").ok_or(StatusCode::NOT_FOUND)?;
            Ok::<_, StatusCode>(Response::text(name))
        };
        let status = |target| handler.handle(&Request::get(target)).wait().status();
        assert_eq!(status("/?name=Ana"), StatusCode::OK);
        assert_eq!(status("/"), StatusCode::NOT_FOUND);
    }
}
