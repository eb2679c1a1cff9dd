//! Handlers: they turn requests into responses. A handler does not know the connection: it can be
//! called with a [`Request`] built by a test, and what it returns can be read.

mod deferral;
pub(crate) mod router;

use std::fmt;
use std::sync::mpsc;

use ::http::StatusCode;

pub(crate) use deferral::Settled;
pub use deferral::{Deferral, Responder};

use crate::http::{Rejection, Request, Response};

/// A blocking job that makes a response. It runs on a helper thread and may wait for a disk, a lock or
/// another server.
pub type Job = Box<dyn FnOnce() -> Response + Send>;

/// How the body of a request is received, decided by a handler before the body is read.
#[derive(Debug)]
pub enum BodyPolicy {
    /// Read the whole body before the handler is called. A body larger than `max` or than
    /// [`Limits::max_content_bytes`](crate::Limits::max_content_bytes) is rejected with 413.
    Buffer {
        /// The limit, in bytes.
        max: usize,
    },
    /// Call the handler at once and let it read the body while it arrives, with
    /// [`Request::reader`] in a job. A body larger than `max` is rejected with 413;
    /// [`Limits::max_content_bytes`](crate::Limits::max_content_bytes) does not apply. A small
    /// body of known length is received before the handler is called.
    Stream {
        /// The limit, in bytes.
        max: u64,
    },
    /// Do not read the body: send this response and close the connection.
    Reject(Response),
}

/// What a handler returns: a response, or how to get it.
pub enum Outcome {
    /// A response that is available now.
    Ready(Response),
    /// A job that makes the response on a helper thread. The connection waits for it; the event loop
    /// does not.
    Blocking(Job),
    /// A job that waits for one disk, identified by its device number (`st_dev`), and for nothing else.
    /// Each disk has its own threads, so that a disk that hangs blocks no thread that others need.
    BlockingOnDisk(u64, Job),
    /// A response that is sent later through a [`Responder`]. The closure is called at once and must
    /// not wait; it passes the responder on. No thread waits for the response.
    Deferred(Deferral),
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
        match self {
            Self::Ready(response) => Self::Ready(change(response)),
            Self::Blocking(job) => Self::blocking(move || change(job())),
            Self::BlockingOnDisk(device, job) => {
                Self::BlockingOnDisk(device, Box::new(move || change(job())))
            }
            Self::Deferred(deferral) => Self::deferred(move |responder| {
                let request = responder.request();
                let changed = move |outcome: Self| responder.send(outcome.map(change));
                deferral.call(Responder::new(request, changed));
            }),
        }
    }

    /// Returns the response and blocks until it is available. For tests and other callers that may
    /// wait.
    pub fn wait(self) -> Response {
        const REQUEST: &str = "a request made by hand";
        let deferral = match self.settled() {
            Ok(settled) => return settled.wait(),
            Err(deferral) => deferral,
        };
        let (sender, receiver) = mpsc::sync_channel(1);
        deferral.settle(&REQUEST.into(), move |settled| {
            // This fails only if the receiver is gone.
            let _ = sender.send(settled);
        });
        match receiver.recv() {
            Ok(settled) => settled.wait(),
            Err(_) => deferral::response_dropped(REQUEST),
        }
    }

    /// Returns what is to be done, unless the outcome is deferred.
    pub(crate) fn settled(self) -> Result<Settled, Deferral> {
        match self {
            Self::Ready(response) => Ok(Settled::Ready(response)),
            Self::Blocking(job) => Ok(Settled::Blocking(job)),
            Self::BlockingOnDisk(device, job) => Ok(Settled::BlockingOnDisk(device, job)),
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

/// A handler may use `?`: its error is converted to an outcome as well.
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
/// [`handle`](Self::handle) is called on an event loop that serves many connections: it must not
/// block. Work that may block goes into [`Outcome::Blocking`]. Closures
/// `Fn(&Request<'_>) -> Response` are handlers, as are closures that return an [`Outcome`], a
/// [`StatusCode`], or a `Result` of those. A closure must name the type of its parameter
/// (`|request: &Request<'_>|`), because the compiler does not infer that it is valid for every lifetime.
///
/// A middleware, which wraps another handler, must forward all methods of this trait.
pub trait Handler: Send + Sync {
    /// Handles one request.
    fn handle(&self, request: &Request<'_>) -> Outcome;

    /// Decides how the body of a request is received. It is called when the head announces content,
    /// with a request without content. The default reads the body up to
    /// [`Limits::max_content_bytes`](crate::Limits::max_content_bytes).
    fn admit(&self, request: &Request<'_>) -> BodyPolicy {
        let _ = request;
        BodyPolicy::Buffer { max: usize::MAX }
    }

    /// Makes the response to a request whose head is valid but whose body is rejected: too large (413),
    /// badly framed (400), or with an unsupported expectation (417). The request has no content.
    fn reject(&self, request: &Request<'_>, rejection: Rejection) -> Response {
        let _ = request;
        rejection.into()
    }
}

/// Streams the bodies of requests to a handler ([`BodyPolicy::Stream`]), except small ones. For
/// closures, which cannot implement [`Handler::admit`].
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
    /// Wraps `handler`. Bodies of more than `max_bytes` are rejected with 413.
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
            reject => reject,
        }
    }

    fn reject(&self, request: &Request<'_>, rejection: Rejection) -> Response {
        self.handler.reject(request, rejection)
    }
}

/// Any handler, boxed: what wraps handlers conditionally has one type with it.
///
/// ```
/// use std::time::Duration;
/// use tws::{BoxHandler, Request, Response, SlowLog};
///
/// fn app(slow_log: Option<Duration>) -> BoxHandler {
///     let handler = |_: &Request<'_>| Response::text("hello\n");
///     match slow_log {
///         Some(threshold) => BoxHandler::new(SlowLog::new(handler, threshold)),
///         None => BoxHandler::new(handler),
///     }
/// }
/// ```
pub struct BoxHandler(Box<dyn Handler>);

impl BoxHandler {
    /// Boxes a handler.
    pub fn new(handler: impl Handler + 'static) -> Self {
        Self(Box::new(handler))
    }
}

impl Handler for BoxHandler {
    fn handle(&self, request: &Request<'_>) -> Outcome {
        self.0.handle(request)
    }

    fn admit(&self, request: &Request<'_>) -> BodyPolicy {
        self.0.admit(request)
    }

    fn reject(&self, request: &Request<'_>, rejection: Rejection) -> Response {
        self.0.reject(request, rejection)
    }
}

impl fmt::Debug for BoxHandler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BoxHandler")
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
    fn map_changes_the_response_of_every_outcome() {
        let made = || Response::text("made");
        let teapot = |response: Response| response.with_status(StatusCode::IM_A_TEAPOT);
        for outcome in [
            Outcome::Ready(made()),
            Outcome::blocking(made),
            Outcome::BlockingOnDisk(0, Box::new(made)),
            Outcome::deferred(move |responder| responder.send(made())),
            // The 500 of a dropped responder is changed as well.
            Outcome::deferred(drop),
            Outcome::deferred(move |responder| responder.send(Outcome::blocking(made))),
        ] {
            assert_eq!(outcome.map(teapot).wait().status(), StatusCode::IM_A_TEAPOT);
        }
    }

    #[test]
    fn box_handler_forwards_all_methods() {
        struct Teapot;

        impl Handler for Teapot {
            fn handle(&self, _: &Request<'_>) -> Outcome {
                StatusCode::IM_A_TEAPOT.into()
            }

            fn admit(&self, _: &Request<'_>) -> BodyPolicy {
                BodyPolicy::Stream { max: 7 }
            }

            fn reject(&self, _: &Request<'_>, _: Rejection) -> Response {
                StatusCode::IM_A_TEAPOT.into()
            }
        }

        let boxed = BoxHandler::new(BoxHandler::new(Teapot));
        let request = Request::post("/", "body");
        let rejection = Rejection::bad_request("on purpose");
        let teapot = StatusCode::IM_A_TEAPOT;
        assert_eq!(boxed.handle(&request).wait().status(), teapot);
        assert!(matches!(
            boxed.admit(&request),
            BodyPolicy::Stream { max: 7 }
        ));
        assert_eq!(boxed.reject(&request, rejection).status(), teapot);
    }

    #[test]
    fn closure_error_becomes_the_response() {
        let handler = |request: &Request<'_>| {
            let name = request.query_param("name").ok_or(StatusCode::NOT_FOUND)?;
            Ok::<_, StatusCode>(Response::text(name))
        };
        let status = |target| handler.handle(&Request::get(target)).wait().status();
        assert_eq!(status("/?name=Ana"), StatusCode::OK);
        assert_eq!(status("/"), StatusCode::NOT_FOUND);
    }
}
