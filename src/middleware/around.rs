//! A middleware from a closure.
//!
//! A [`Handler`] has three methods, and a wrapper that forgets to forward one loses streaming, limits of
//! bodies or error pages. Here one closure is called for all three, with a [`Next`] that stands for the
//! method of the inner handler.
//!
//! For a request with content the closure is called with the head, when the server asks about the content
//! ([`Handler::admit`]). What it returns is kept ([`Decision`]) until the content has been received and the
//! handler is called, or until the content is rejected.

use std::any::Any;
use std::fmt;
use std::ptr;
use std::sync::Arc;

use ::http::StatusCode;

use super::late_call::handle_late;
use crate::handler::{BodyPolicy, BoxHandler, Handler, Outcome, Promise, RequestName};
use crate::http::admission::Admission;
use crate::http::{Rejection, Request, Response, error_page};
use crate::sync::Mutex;

/// The limit of a body that the inner handler rejects while the closure has not decided yet, in bytes.
const MAX_UNWANTED_BYTES: usize = 64 * 1024;

/// Makes a layer from a closure `Fn(&Request<'_>, Next) -> R`, where `R` converts into an [`Outcome`]. The
/// closure is called around the handlers: it may respond itself, attach values to the request, and change
/// the response. For [`Router::layer`](crate::Router::layer).
///
/// ```
/// use tws::{Handler, Outcome, Request, Response, Router, StatusCode, around};
///
/// struct User(String);
///
/// fn user_of(token: &str) -> Option<User> {
///     (token == "Bearer 7d1f").then(|| User("Ana".to_owned()))
/// }
///
/// fn greet(request: &Request<'_>) -> tws::HandlerResult {
///     let User(name) = request.extension()?;
///     Ok(Response::text(format!("hello {name}\n")))
/// }
///
/// let app = Router::new().get("/", greet).layer(around(|request, next| {
///     let token = request.header("authorization").ok_or(StatusCode::UNAUTHORIZED)?;
///     let user = user_of(token).ok_or(StatusCode::FORBIDDEN)?;
///     let outcome = next.with(user).run(request);
///     Ok::<_, StatusCode>(outcome.map(|response| response.with_header("Cache-Control", "no-store")))
/// }));
/// let get = |token| app.handle(&Request::get("/").with_header("Authorization", token)).wait();
/// assert_eq!(get("Bearer 7d1f").status(), StatusCode::OK);
/// assert_eq!(get("Bearer 7d1f").headers()["Cache-Control"], "no-store");
/// assert_eq!(get("Bearer 0000").status(), StatusCode::FORBIDDEN);
/// ```
///
/// The closure is called once for each request. It gets the head: for a request with content it is called
/// before that is received. So [`Request::content`] and [`Request::reader`] are empty in the closure even if
/// content follows, and content that it sets is replaced. A layer that checks or changes the content, such as
/// one for signatures or decompression, must implement [`Handler`] instead.
///
/// If the closure does not call [`Next::run`], its response is sent and the content is not read. If it does,
/// the inner handler is called when the content has been received, or while it is ([`BodyPolicy::Stream`]). Changes of the response ([`Outcome::map`]) run when there is one: also if the
/// content is rejected (413, for example), if the handler panics (500), and if it cannot be called because too
/// much is in progress (503). Only the rejection of content of which the handler has begun to read a
/// stream passes through another call of the closure.
///
/// The closure is called on an event loop. One that must block, to look up a session for example, returns
/// [`Outcome::blocking`] or [`Outcome::deferred`] and calls `next` there, with an owned copy of the
/// request: not in a task that the closure itself starts, which may run before the content is received. For the
/// same reason [`Outcome::wait`] of the outcome of `next` belongs in the job that is returned. Content is
/// received before that job runs, as the inner handler says, up to 64 KiB where it would reject it.
///
/// A layer of several routes ([`Router::route_layer`](crate::Router::route_layer)) calls the same closure for
/// all of them.
pub fn around<F, R>(closure: F) -> impl Fn(BoxHandler) -> Around
where
    F: Fn(&Request<'_>, Next) -> R + Send + Sync + 'static,
    R: Into<Outcome>,
{
    let closure: Arc<Closure> = Arc::new(move |request, next| closure(request, next).into());
    move |inner| Around {
        closure: Arc::clone(&closure),
        inner: Arc::new(inner),
    }
}

/// As [`around`], for a closure that gets a reference to a state, which it shares with the handlers of a
/// router ([`Router::with_shared_state`](crate::Router::with_shared_state)).
///
/// ```
/// use std::sync::Arc;
/// use tws::{HandlerResult, Next, Outcome, Request, Response, Router, StatusCode, TestClient};
/// use tws::around_with_state;
///
/// struct App {
///     token: String,
/// }
///
/// fn check(app: &App, request: &Request<'_>, next: Next) -> Result<Outcome, StatusCode> {
///     match request.header("authorization") {
///         Some(token) if token == app.token => Ok(next.run(request)),
///         _ => Err(StatusCode::UNAUTHORIZED),
///     }
/// }
///
/// fn home(app: &App, _: &Request<'_>) -> Response {
///     Response::text(format!("{} bytes\n", app.token.len()))
/// }
///
/// let app = Arc::new(App { token: "7d1f".to_owned() });
/// let router = Router::with_shared_state(Arc::clone(&app))
///     .get("/", home)
///     .layer(around_with_state(app, check));
/// assert_eq!(TestClient::new(router).get("/").status(), 401);
/// ```
pub fn around_with_state<S, F, R>(state: Arc<S>, closure: F) -> impl Fn(BoxHandler) -> Around
where
    S: Send + Sync + 'static,
    F: Fn(&S, &Request<'_>, Next) -> R + Send + Sync + 'static,
    R: Into<Outcome>,
{
    around(move |request, next| closure(&state, request, next))
}

type Closure = dyn Fn(&Request<'_>, Next) -> Outcome + Send + Sync;

/// A handler with a closure around it: see [`around`].
pub struct Around {
    closure: Arc<Closure>,
    inner: Arc<BoxHandler>,
}

impl fmt::Debug for Around {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Around")
    }
}

/// The inner handler, for the closure of [`around`].
pub struct Next {
    inner: Arc<BoxHandler>,
    call: Call,
    extensions: Vec<Arc<dyn Any + Send + Sync>>,
}

/// The method of the inner handler that is called.
enum Call {
    /// For a request without content.
    Handle,
    Admit(Arc<HeadCall>),
    Reject(Rejection),
}

impl Next {
    /// Attaches a value to the request. The inner handler gets it with
    /// [`Request::extension`](crate::Request::extension).
    pub fn with(mut self, value: impl Any + Send + Sync) -> Self {
        self.extensions.push(Arc::new(value));
        self
    }

    /// Calls the inner handler.
    pub fn run(self, request: &Request<'_>) -> Outcome {
        let Self {
            inner,
            call,
            extensions,
        } = self;
        let extended = |call: &dyn Fn(&Request<'_>) -> Outcome| match extensions.as_slice() {
            [] => call(request),
            extensions => call(&request.with_extensions(extensions.to_vec())),
        };
        match call {
            Call::Handle => extended(&|request| inner.handle(request)),
            Call::Reject(rejection) => extended(&|request| inner.reject(request, rejection).into()),
            Call::Admit(head) => head.run(&inner, request, extensions),
        }
    }
}

impl fmt::Debug for Next {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Next")
    }
}

/// A call of the closure with the head of a request.
struct HeadCall {
    /// Where that is in memory, to tell it from another request.
    address: usize,
    state: Mutex<HeadState>,
    /// The outcome of the inner handler, of which the closure makes its own.
    promise: Promise,
    /// What the handlers inside have decided.
    admission: Admission,
}

/// How far it has come.
enum HeadState {
    /// The closure has not called the inner handler. A job may do so later.
    Undecided,
    /// The inner handler accepts the content of the request that the closure has passed on.
    Accepted(BodyPolicy, PassedOn),
    /// The response of the inner handler, with this status, was passed to the closure.
    Rejected(StatusCode),
    /// The content is there, of a request about which a job decides.
    Received(Request<'static>),
}

/// What the closure has passed on to the inner handler.
struct PassedOn {
    /// `None` if it is the request with which the closure was called.
    request: Option<Request<'static>>,
    extensions: Vec<Arc<dyn Any + Send + Sync>>,
}

impl HeadCall {
    fn new(request: &Request<'_>) -> Self {
        Self {
            address: ptr::from_ref(request).addr(),
            state: Mutex::new(HeadState::Undecided),
            promise: Promise::default(),
            admission: Admission::default(),
        }
    }

    /// Asks the inner handler about the content, or calls it if the content is there.
    fn run(
        &self,
        inner: &BoxHandler,
        request: &Request<'_>,
        extensions: Vec<Arc<dyn Any + Send + Sync>>,
    ) -> Outcome {
        let state = std::mem::replace(&mut *self.state.lock(), HeadState::Undecided);
        let extended = request.with_extensions(extensions.clone());
        if let HeadState::Received(received) = state {
            return handle_late(inner, &extended.with_content_of(&received));
        }
        let is_changed = ptr::from_ref(request).addr() != self.address;
        let (state, outcome) = match inner.admit(&extended.with_admission(&self.admission)) {
            BodyPolicy::Reject(response) => {
                (HeadState::Rejected(response.status()), response.into())
            }
            policy => {
                let passed_on = PassedOn {
                    request: is_changed.then(|| request.clone().into_owned()),
                    extensions,
                };
                (
                    HeadState::Accepted(policy, passed_on),
                    Outcome::promised(&self.promise),
                )
            }
        };
        *self.state.lock() = state;
        outcome
    }
}

/// What the closure has returned for the head of a request whose content is received.
struct Decision {
    head: Arc<HeadCall>,
    /// `None` if the closure has not called the inner handler yet.
    passed_on: Option<PassedOn>,
    outcome: Outcome,
    /// Whose decision it is.
    inner: Arc<BoxHandler>,
}

impl Decision {
    /// Completes the outcome with that of the inner handler, which `call` calls.
    fn complete(
        self,
        request: &Request<'_>,
        call: impl FnOnce(&BoxHandler, &Request<'_>) -> Outcome,
    ) -> Outcome {
        let Some(passed_on) = self.passed_on else {
            *self.head.state.lock() = HeadState::Received(request.clone().into_owned());
            return self.outcome;
        };
        let head = passed_on.request.as_ref().unwrap_or(request);
        let whole = head.with_content_of(request);
        let extended = whole.with_extensions(passed_on.extensions);
        let admission = self.head.admission.mark_decided();
        let made = call(&self.inner, &extended.with_admission(admission));
        let promise = &self.head.promise;
        promise.fill(self.outcome, made, &RequestName(request))
    }
}

impl Around {
    fn call(&self, request: &Request<'_>, call: Call) -> Outcome {
        let next = Next {
            inner: Arc::clone(&self.inner),
            call,
            extensions: Vec::new(),
        };
        (self.closure)(request, next)
    }

    /// What the inner handler says of content about which the closure decides later.
    fn policy_of_undecided(&self, request: &Request<'_>) -> BodyPolicy {
        match self.inner.admit(&request.clone().admitted()) {
            BodyPolicy::Reject(_) => BodyPolicy::Buffer {
                max: MAX_UNWANTED_BYTES,
            },
            policy => policy,
        }
    }

    fn take_decision(&self, request: &Request<'_>) -> Option<Decision> {
        let is_own = |decision: &Decision| Arc::ptr_eq(&decision.inner, &self.inner);
        request.admission()?.take(is_own)
    }
}

/// Returns a response that is there. Otherwise the work for it is not begun, and `instead` is the response.
fn ready_or(outcome: Outcome, request: &Request<'_>, instead: impl Fn() -> Response) -> Response {
    let name = RequestName(request);
    let made = outcome.made(&name);
    let made = made.or_else(|outcome| outcome.replace(instead(), &name).made(&name));
    made.unwrap_or_else(|_| instead())
}

impl Handler for Around {
    fn handle(&self, request: &Request<'_>) -> Outcome {
        match self.take_decision(request) {
            Some(decision) => decision.complete(request, Handler::handle),
            None => self.call(request, Call::Handle),
        }
    }

    fn admit(&self, request: &Request<'_>) -> BodyPolicy {
        // A middleware outside asks for the policy only, and will ask again.
        if request.was_admitted() {
            return self.inner.admit(request);
        }
        let head = Arc::new(HeadCall::new(request));
        let outcome = self.call(request, Call::Admit(Arc::clone(&head)));
        let state = std::mem::replace(&mut *head.state.lock(), HeadState::Undecided);
        let (policy, outcome, passed_on) = match (state, outcome) {
            (HeadState::Accepted(policy, passed_on), outcome) => (policy, outcome, Some(passed_on)),
            (HeadState::Rejected(status), outcome) => {
                let page = || error_page::instead_of(status.into(), request.fields());
                return BodyPolicy::Reject(ready_or(outcome, request, page));
            }
            (_, outcome) => match outcome.made(&RequestName(request)) {
                Ok(response) => return BodyPolicy::Reject(response),
                // The closure decides later, in a job.
                Err(outcome) => (self.policy_of_undecided(request), outcome, None),
            },
        };
        if let Some(admission) = request.admission() {
            admission.keep(Decision {
                head,
                passed_on,
                outcome,
                inner: Arc::clone(&self.inner),
            });
        }
        policy
    }

    fn reject(&self, request: &Request<'_>, rejection: Rejection) -> Response {
        let outcome = match self.take_decision(request) {
            Some(decision) => decision.complete(request, |inner, request| {
                inner.reject(request, rejection).into()
            }),
            None => self.call(request, Call::Reject(rejection)),
        };
        // What decides later does not learn of a request that is over.
        let page = || error_page::instead_of(rejection.into(), request.fields());
        ready_or(outcome, request, page).closing()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use ::http::Method;

    use super::*;
    use crate::handler::router::Router;
    use crate::handler::{StreamingBody, TestClient};
    use crate::middleware::{Rate, RateLimit};

    /// Streams, and rejects what is not a POST of `/`; its error pages are a teapot.
    struct Inner;

    impl Handler for Inner {
        fn handle(&self, request: &Request<'_>) -> Outcome {
            match request.extension::<&str>() {
                Ok(user) => Response::text(*user).into(),
                Err(_) => StatusCode::NO_CONTENT.into(),
            }
        }

        fn admit(&self, request: &Request<'_>) -> BodyPolicy {
            match request.path() {
                "/" => BodyPolicy::Stream { max: 7 },
                _ => BodyPolicy::Reject(StatusCode::NOT_FOUND.into()),
            }
        }

        fn reject(&self, _: &Request<'_>, _: Rejection) -> Response {
            StatusCode::IM_A_TEAPOT.into()
        }
    }

    fn layered<R: Into<Outcome> + 'static>(
        closure: impl Fn(&Request<'_>, Next) -> R + Send + Sync + 'static,
    ) -> BoxHandler {
        BoxHandler::new(Inner).layer(around(closure))
    }

    fn rejected(policy: BodyPolicy) -> Response {
        match policy {
            BodyPolicy::Reject(response) => response,
            other => panic!("{other:?}"),
        }
    }

    fn text(outcome: Outcome) -> String {
        let content = outcome.wait().into_content().expect("content");
        String::from_utf8(content).expect("text")
    }

    const TOO_LARGE: Rejection = Rejection::new(StatusCode::PAYLOAD_TOO_LARGE, "on purpose");

    #[test]
    fn closure_that_calls_next_keeps_policy_and_rejections() {
        let calls = Arc::new(AtomicUsize::new(0));
        let changes = Arc::clone(&calls);
        let handler = layered(move |request, next| {
            let changes = Arc::clone(&changes);
            next.with("Ana").run(request).map(move |response| {
                changes.fetch_add(1, Ordering::Relaxed);
                response.with_header("X-Layer", "1")
            })
        });
        let request = Request::post("/", "body");
        let policy = handler.admit(&request);
        assert!(
            matches!(policy, BodyPolicy::Stream { max: 7 }),
            "{policy:?}"
        );
        // There was no response to change.
        assert_eq!(calls.load(Ordering::Relaxed), 0);
        assert_eq!(text(handler.handle(&request)), "Ana");
        assert_eq!(calls.load(Ordering::Relaxed), 1);
        // Neither the rejection by the inner handler nor that by the server is lost.
        let response = rejected(handler.admit(&Request::post("/other", "body")));
        assert_eq!(response.status(), StatusCode::NOT_FOUND);
        assert_eq!(response.headers()["X-Layer"], "1");
        let response = handler.reject(&request, TOO_LARGE);
        assert_eq!(response.status(), StatusCode::IM_A_TEAPOT);
        assert_eq!(response.headers()["X-Layer"], "1");
        assert_eq!(response.headers()["Connection"], "close");
    }

    #[test]
    fn closure_that_responds_itself_prevents_the_content() {
        let handler = layered(|_, _| StatusCode::UNAUTHORIZED);
        let request = Request::post("/", "body");
        let response = rejected(handler.admit(&request));
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
        let response = handler.handle(&request).wait();
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
        let response = handler.reject(&request, TOO_LARGE);
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    }

    /// Decides in a job.
    fn late(request: &Request<'_>, next: Next) -> Outcome {
        let request = request.clone().into_owned();
        Outcome::blocking(move || next.with("late").run(&request).wait())
    }

    #[test]
    fn closure_that_decides_in_a_job_keeps_policy_and_rejections() {
        let handler = layered(late);
        let request = Request::post("/", "body");
        let policy = handler.admit(&request);
        assert!(
            matches!(policy, BodyPolicy::Stream { max: 7 }),
            "{policy:?}"
        );
        assert_eq!(text(handler.handle(&request)), "late");
        let other = Request::post("/other", "body");
        let policy = handler.admit(&other);
        let expected = matches!(policy, BodyPolicy::Buffer { max } if max == MAX_UNWANTED_BYTES);
        assert!(expected, "{policy:?}");
        // The content was read, but the inner handler does not get the request.
        let admission = Admission::default();
        let other = other.with_admission(&admission);
        let _ = handler.admit(&other);
        admission.mark_decided();
        let response = handler.handle(&other).wait();
        assert_eq!(response.status(), StatusCode::NOT_FOUND);
        let response = handler.reject(&request, TOO_LARGE);
        assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
    }

    #[test]
    fn rejection_that_is_changed_in_a_job_remains_a_rejection() {
        let handler = layered(|request, next| {
            let outcome = next.run(request);
            Outcome::blocking(move || outcome.wait())
        });
        let response = rejected(handler.admit(&Request::post("/other", "body")));
        assert_eq!(response.status(), StatusCode::NOT_FOUND);
    }

    #[test]
    fn limit_inside_counts_a_request_with_content_once() {
        let rate: Rate = "0.001:2".parse().expect("a rate");
        let sync = |request: &Request<'_>, next: Next| next.run(request);
        for layer in [sync, late] {
            let ok = |_: &Request<'_>| Response::text("ok");
            let limited = Router::new()
                .post("/", ok)
                .layer(move |inner| RateLimit::new(inner).per_client(rate));
            let handler = limited.layer(around(layer));
            let client = TestClient::new(handler);
            let post = || {
                let address = ([192, 0, 2, 1], 1).into();
                client
                    .send(Request::post("/", "x").with_client_addr(address))
                    .status()
            };
            assert_eq!(post(), StatusCode::OK);
            assert_eq!(post(), StatusCode::OK);
            assert_eq!(post(), StatusCode::TOO_MANY_REQUESTS);
        }
    }

    #[test]
    fn last_layer_is_outermost() {
        let add = |letter: &'static str| {
            around(move |request, next: Next| {
                next.run(request).map(move |mut response| {
                    response
                        .headers_mut()
                        .append("X-Order", letter.parse().expect("a value"));
                    response
                })
            })
        };
        let router = Router::new().layer(add("a")).layer(add("b"));
        let response = router.handle(&Request::get("/none")).wait();
        let order: Vec<_> = response.headers().get_all("X-Order").iter().collect();
        assert_eq!(order, ["a", "b"]);
        assert_eq!(response.status(), StatusCode::NOT_FOUND);
    }

    #[test]
    fn route_layer_wraps_the_routes_before_it() {
        let layer = around(|request, next: Next| {
            let name = request.param_str("name").unwrap_or("-").to_owned();
            let outcome = next.run(request);
            outcome.map(move |response| response.with_header("X-Layer", name))
        });
        let ok = |_: &Request<'_>| StatusCode::OK;
        let router = Router::new()
            .get("/in/{name}", ok)
            .post("/in/{name}", StreamingBody::new(ok, 3))
            .nest("/nested/{name}", Router::new().get("/", ok))
            .fallback(ok)
            .route_layer(layer)
            .get("/out", ok)
            .route(Method::DELETE, "/in/{name}", ok);
        let client = TestClient::new(router);
        for (method, target, status, layer) in [
            ("GET", "/in/Ana", 200, Some("Ana")),
            ("HEAD", "/in/Ana", 200, Some("Ana")),
            ("GET", "/nested/Ana", 200, Some("Ana")),
            ("GET", "/nested/Ana/none", 404, Some("Ana")),
            ("DELETE", "/in/Ana", 200, None),
            ("PUT", "/in/Ana", 405, None),
            ("OPTIONS", "/in/Ana", 204, None),
            ("GET", "/out", 200, None),
            ("GET", "/none", 200, None),
        ] {
            let method = Method::from_bytes(method.as_bytes()).expect("a method");
            let response = client.send(Request::new(method.clone(), target));
            assert_eq!(response.status(), status, "{method} {target}");
            let found = response.headers().get("X-Layer");
            let found = found.map(|value| value.to_str().expect("text"));
            assert_eq!(found, layer, "{method} {target}");
        }
        let rejected = client.post("/in/Ana", "four");
        assert_eq!(rejected.status(), 413);
        assert_eq!(rejected.headers()["X-Layer"], "Ana");
        assert_eq!(client.post("/in/Ana", "abc").status(), 200);
    }
}
