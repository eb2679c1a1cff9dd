//! Handlers: they turn requests into responses. A handler does not know the connection: it can be
//! called with a [`Request`] built by a test, and what it returns can be read.

mod boxed;
pub(crate) mod caught;
mod error;
mod outcome;
pub(crate) mod router;
mod stateful;
mod test_client;

pub use boxed::BoxHandler;
pub(crate) use caught::CatchPanics;
pub use error::{HandlerError, HandlerResult};
pub use outcome::{Deferral, DiskJob, Job, Outcome, Responder};
pub(crate) use outcome::{
    JobLength, Promise, RequestName, ResponderContext, Settled, handler_panicked,
};
pub use stateful::{Blocking, IntoHandler, blocking};
pub use test_client::TestClient;

use crate::http::{Rejection, Request, Response};

/// How the body of a request is received, decided by a handler before the body is read.
#[derive(Debug)]
#[non_exhaustive]
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

/// Turns requests into responses.
///
/// [`handle`](Self::handle) is called on an event loop that serves many connections: it must not
/// block. Work that may block goes into [`Outcome::Blocking`]. Closures
/// `Fn(&Request<'_>) -> Response` are handlers, as are closures that return an [`Outcome`], a
/// [`StatusCode`](crate::StatusCode), or a `Result` of those. A closure must name the type of its parameter
/// (`|request: &Request<'_>|`), because the compiler does not infer that it is valid for every lifetime.
///
/// A middleware, which wraps another handler, must forward all methods of this trait. A panic of the handler
/// inside a [layer](crate::Router::layer) does not reach the layer, which gets a 500 response.
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
    use ::http::StatusCode;

    use super::*;

    #[test]
    fn map_changes_the_response_of_every_outcome() {
        let made = || Response::text("made");
        let teapot = |response: Response| response.with_status(StatusCode::IM_A_TEAPOT);
        for outcome in [
            Outcome::Ready(made()),
            Outcome::blocking(made),
            Outcome::BlockingOnDisk(DiskJob::short(0, made)),
            Outcome::BlockingOnDisk(DiskJob::long(0, move || Outcome::blocking(made))),
            Outcome::deferred(move |responder| responder.send(made())),
            // The 500 of a dropped responder is changed as well.
            Outcome::deferred(drop),
            Outcome::deferred(move |responder| responder.send(Outcome::blocking(made))),
        ] {
            assert_eq!(outcome.map(teapot).wait().status(), StatusCode::IM_A_TEAPOT);
        }
    }

    #[test]
    fn map_changes_the_response_that_is_sent_instead() {
        let panics = || -> Response { panic!("on purpose") };
        let outcomes = || {
            let outcomes = [
                Outcome::blocking(panics),
                Outcome::BlockingOnDisk(DiskJob::short(0, panics)),
                Outcome::deferred(move |responder| responder.send(panics())),
            ];
            outcomes.map(|outcome| outcome.map(|response| response.with_header("X-Layer", "1")))
        };
        let expect = |response: Response, status: u16| {
            assert_eq!(response.status(), status);
            assert_eq!(response.headers()["X-Layer"], "1");
        };
        for outcome in outcomes() {
            expect(outcome.wait(), 500);
        }
        for outcome in outcomes() {
            let replaced = outcome.replace(Response::unavailable("full"), &"a test");
            expect(replaced.wait(), 503);
        }
        // A change that panics makes a 500, which the next one changes.
        let outcome = Outcome::blocking(|| Response::text("made")).map(|_| panic!("on purpose"));
        expect(
            outcome
                .map(|response| response.with_header("X-Layer", "1"))
                .wait(),
            500,
        );
    }

    #[test]
    fn and_then_replaces_the_response_of_every_outcome() {
        let made = || Response::text("made");
        let outcomes: [fn(Response) -> Outcome; 4] = [
            |response| response.with_status(StatusCode::IM_A_TEAPOT).into(),
            |_| Outcome::blocking(|| StatusCode::IM_A_TEAPOT.into()),
            |_| Outcome::BlockingOnDisk(DiskJob::long(0, || StatusCode::IM_A_TEAPOT)),
            |_| Outcome::deferred(|responder| responder.send(StatusCode::IM_A_TEAPOT)),
        ];
        for next in outcomes {
            for outcome in [
                Outcome::Ready(made()),
                Outcome::blocking(made),
                Outcome::BlockingOnDisk(DiskJob::short(0, made)),
                Outcome::deferred(move |responder| responder.send(made())),
                Outcome::deferred(drop),
                Outcome::deferred(move |responder| responder.send(Outcome::blocking(made))),
            ] {
                let status = outcome.and_then(next).wait().status();
                assert_eq!(status, StatusCode::IM_A_TEAPOT);
            }
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
