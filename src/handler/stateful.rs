//! Handlers that get the state of a program beside the request, and handlers that run on helper
//! threads.
//!
//! A route takes anything that is [`IntoHandler`]: a [`Handler`], a function of the request, a function
//! of the state and the request, and each of these in [`blocking`]. So a router holds one reference to the
//! state, and no handler needs a copy of its own.

use std::marker::PhantomData;
use std::sync::Arc;

use super::{BodyPolicy, BoxHandler, Handler, Outcome};
use crate::http::{Request, Response};

/// What a [`Router`](crate::Router) with the state `S` accepts as a handler:
///
/// - a [`Handler`], so also a function `fn(&Request<'_>) -> R`,
/// - a function `fn(&S, &Request<'_>) -> R`,
/// - one of these functions in [`blocking`], where `R` converts into a [`Response`].
///
/// `R` is a [`Response`], a [`StatusCode`](crate::StatusCode), one with a text (`(StatusCode, &str)`), an
/// [`Outcome`], or a `Result` of one of those, whose error converts into a [`Response`]:
/// [`HandlerResult`](crate::HandlerResult), for example. A closure must name the types of its parameters
/// (`|app: &App, request: &Request<'_>|`).
///
/// `Kind` tells these apart and is inferred.
#[diagnostic::on_unimplemented(
    message = "this is not a handler for a router with the state `{S}`",
    label = "not a handler",
    note = "a handler is `fn(&Request<'_>) -> R` or `fn(&{S}, &Request<'_>) -> R`; a closure must name the \
            types of its parameters",
    note = "`R` is `Response`, `StatusCode`, `(StatusCode, &str)`, `Outcome` (not in `blocking`), or a `Result` of \
            one of these, whose error converts into a `Response`: `HandlerResult`, for example",
    note = "what an `async fn` returns is sent with `Outcome::deferred`",
    note = "`{S}` and what a closure captures must be `Send + Sync + 'static`"
)]
pub trait IntoHandler<S, Kind> {
    /// Returns the handler, with a reference to the state if it needs one.
    fn into_handler(self, state: &Arc<S>) -> BoxHandler;
}

/// Without state.
#[derive(Debug)]
pub enum Plain {}

/// With state, for functions that return `R`.
#[derive(Debug)]
pub struct Stateful<R>(PhantomData<fn() -> R>);

/// On a helper thread, with state, for functions that return `R`.
#[derive(Debug)]
pub struct OnHelper<R>(PhantomData<fn() -> R>);

impl<S, H: Handler + 'static> IntoHandler<S, Plain> for H {
    fn into_handler(self, _: &Arc<S>) -> BoxHandler {
        BoxHandler::new(self)
    }
}

impl<S, F, R> IntoHandler<S, Stateful<R>> for F
where
    S: Send + Sync + 'static,
    F: Fn(&S, &Request<'_>) -> R + Send + Sync + 'static,
    R: Into<Outcome>,
{
    fn into_handler(self, state: &Arc<S>) -> BoxHandler {
        let state = Arc::clone(state);
        BoxHandler::new(move |request: &Request<'_>| self(&state, request))
    }
}

/// A function that runs on a helper thread: see [`blocking`].
#[derive(Debug)]
pub struct Blocking<F> {
    function: Arc<F>,
    max_streamed: Option<u64>,
}

impl<F> Clone for Blocking<F> {
    fn clone(&self) -> Self {
        Self {
            function: Arc::clone(&self.function),
            max_streamed: self.max_streamed,
        }
    }
}

/// A handler that may block: it waits for a disk, a database, a lock or another server.
///
/// The function is called on a helper thread ([`Outcome::Blocking`]) with an owned copy of the request,
/// so it may read the content while it arrives: see [`Blocking::streaming`].
///
/// ```
/// use std::path::PathBuf;
/// use tws::{HandlerResult, Request, Response, Router, blocking};
///
/// struct App {
///     notes: PathBuf,
/// }
///
/// fn note(app: &App, request: &Request<'_>) -> HandlerResult {
///     let number: u32 = request.param("number")?;
///     let text = std::fs::read_to_string(app.notes.join(format!("{number}.txt")))?;
///     Ok(Response::text(text))
/// }
///
/// let notes = PathBuf::from("/var/lib/notes");
/// let router = Router::with_state(App { notes }).get("/notes/{number}", blocking(note));
/// # use tws::Handler;
/// # assert_eq!(router.handle(&Request::get("/notes/x")).wait().status(), 400);
/// ```
pub fn blocking<F>(function: F) -> Blocking<F> {
    Blocking {
        function: Arc::new(function),
        max_streamed: None,
    }
}

impl<F> Blocking<F> {
    /// Streams the content of requests ([`BodyPolicy::Stream`](crate::BodyPolicy::Stream)): the function is
    /// called at once and reads it with [`Request::reader`] while it arrives. A body of more than
    /// `max_bytes` is rejected with 413.
    pub fn streaming(mut self, max_bytes: u64) -> Self {
        self.max_streamed = Some(max_bytes);
        self
    }
}

impl<S, F, R> IntoHandler<S, OnHelper<R>> for Blocking<F>
where
    S: Send + Sync + 'static,
    F: Fn(&S, &Request<'_>) -> R + Send + Sync + 'static,
    R: Into<Response>,
{
    fn into_handler(self, state: &Arc<S>) -> BoxHandler {
        let (function, state) = (self.function, Arc::clone(state));
        BoxHandler::new(Blocking {
            function: Arc::new(move |request: &Request<'_>| function(&state, request)),
            max_streamed: self.max_streamed,
        })
    }
}

impl<F, R> Handler for Blocking<F>
where
    F: Fn(&Request<'_>) -> R + Send + Sync + 'static,
    R: Into<Response>,
{
    fn handle(&self, request: &Request<'_>) -> Outcome {
        let function = Arc::clone(&self.function);
        let request = request.clone().into_owned();
        Outcome::blocking(move || function(&request).into())
    }

    fn admit(&self, _: &Request<'_>) -> BodyPolicy {
        match self.max_streamed {
            Some(max) => BodyPolicy::Stream { max },
            None => BodyPolicy::Buffer { max: usize::MAX },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::sync::atomic::{AtomicU32, Ordering};

    use ::http::StatusCode;

    use super::*;
    use crate::handler::HandlerResult;
    use crate::handler::router::Router;

    #[derive(Default)]
    struct App {
        calls: AtomicU32,
    }

    fn count(app: &App, request: &Request<'_>) -> HandlerResult {
        let step: u32 = request.param("step")?;
        let calls = app.calls.fetch_add(step, Ordering::Relaxed) + step;
        Ok(Response::json(&calls))
    }

    fn length(_: &App, request: &Request<'_>) -> HandlerResult {
        let mut content = Vec::new();
        request.reader().read_to_end(&mut content)?;
        Ok(Response::json(&content.len()))
    }

    fn plain(_: &Request<'_>) -> Response {
        Response::text("plain")
    }

    fn text(handler: &dyn Handler, request: &Request<'_>) -> String {
        let response = handler.handle(request).wait();
        assert_eq!(response.status(), StatusCode::OK);
        String::from_utf8(response.into_content().expect("content")).expect("text")
    }

    #[test]
    fn router_takes_every_kind_of_handler() {
        let nested = Router::with_state("inner".to_owned())
            .get("/", |name: &String, _: &Request<'_>| {
                Response::text(&**name)
            });
        let router = Router::with_state(App::default())
            .get("/count/{step}", count)
            .get("/blocking/{step}", blocking(count))
            .post("/length", blocking(length).streaming(100))
            .get("/plain", plain)
            .get("/plain/blocking", blocking(plain))
            .get("/boxed", BoxHandler::new(plain))
            .nest("/nested", nested)
            .fallback(|app: &App, _: &Request<'_>| {
                Response::text(format!("{} so far", app.calls.load(Ordering::Relaxed)))
            });
        let get = |target| text(&router, &Request::get(target));
        assert_eq!(get("/count/1"), "1");
        assert_eq!(get("/blocking/2"), "3");
        assert_eq!(get("/plain"), "plain");
        assert_eq!(get("/plain/blocking"), "plain");
        assert_eq!(get("/boxed"), "plain");
        assert_eq!(get("/nested"), "inner");
        assert_eq!(get("/other"), "3 so far");
        assert_eq!(text(&router, &Request::post("/length", "four")), "4");
        let bad = router.handle(&Request::get("/blocking/x")).wait();
        assert_eq!(bad.status(), StatusCode::BAD_REQUEST);
    }

    #[test]
    fn blocking_function_is_a_handler() {
        let boxed = BoxHandler::new(blocking(plain).streaming(7));
        assert_eq!(text(&boxed, &Request::get("/")), "plain");
        let policy = boxed.admit(&Request::post("/", "a"));
        assert!(matches!(policy, BodyPolicy::Stream { max: 7 }));
    }

    #[test]
    fn blocking_handler_streams_only_if_told_to() {
        let router = Router::with_state(App::default())
            .post("/streamed", blocking(length).streaming(100))
            .post("/buffered", blocking(length));
        let policy = |target| router.admit(&Request::post(target, ""));
        assert!(matches!(
            policy("/streamed"),
            BodyPolicy::Stream { max: 100 }
        ));
        assert!(matches!(policy("/buffered"), BodyPolicy::Buffer { .. }));
        let outcome = router.handle(&Request::post("/buffered", ""));
        assert!(matches!(outcome, Outcome::Blocking(_)));
    }
}
