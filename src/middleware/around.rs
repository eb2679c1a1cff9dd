//! A middleware from a closure.
//!
//! A [`Handler`] has three methods, and a wrapper that forgets to forward one loses streaming, limits of
//! bodies or error pages. Here one closure is called for all three, with a [`Next`] that stands for the
//! method of the inner handler.

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ::http::StatusCode;

use crate::handler::{BodyPolicy, BoxHandler, Handler, Outcome};
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
/// The closure is called once for a request without content, and twice for one with content: when its
/// head is received, to decide about the content, and when the request is handled. If it does not call
/// [`Next::run`] on the head, its response is sent and the content is not read. If it does, and the inner
/// handler accepts the content, the inner handler is not called yet: changes of the response
/// ([`Outcome::map`]) run when there is one, so once. If the request is rejected because of its content
/// (413, for example), the response to that passes through the closure too.
///
/// The closure is called on an event loop. One that must block, to look up a session for example, returns
/// [`Outcome::blocking`] or [`Outcome::deferred`] and calls `next` there, with an owned copy of the
/// request. On the head, the job is not run: content is then received as the inner handler says, up to
/// 64 KiB where it would reject it.
pub fn around<F, R>(closure: F) -> impl FnOnce(BoxHandler) -> Around
where
    F: Fn(&Request<'_>, Next) -> R + Send + Sync + 'static,
    R: Into<Outcome>,
{
    let closure = Box::new(move |request: &Request<'_>, next: Next| closure(request, next).into());
    |inner| Around {
        closure,
        inner: Arc::new(inner),
    }
}

type Closure = Box<dyn Fn(&Request<'_>, Next) -> Outcome + Send + Sync>;

/// A handler with a closure around it: see [`around`].
pub struct Around {
    closure: Closure,
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
    /// For a request with content, with whether the closure has returned.
    Handle(Option<Arc<AtomicBool>>),
    /// The policy is stored here.
    Admit(Arc<Mutex<Option<Admitted>>>),
    Reject(Rejection),
}

/// What the inner handler says about the content of a request.
enum Admitted {
    /// The content is received.
    Accepted(BodyPolicy),
    /// The response, with this status, was passed to the closure.
    Rejected(StatusCode),
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
        if self.extensions.is_empty() {
            self.call(request)
        } else {
            let request = request.with_extensions(self.extensions.clone());
            self.call(&request)
        }
    }

    fn call(&self, request: &Request<'_>) -> Outcome {
        match &self.call {
            Call::Handle(Some(returned)) if returned.load(Ordering::Acquire) => {
                self.handle_late(request)
            }
            Call::Handle(_) => self.inner.handle(request),
            Call::Reject(rejection) => self.inner.reject(request, *rejection).into(),
            Call::Admit(admitted) => {
                let (policy, outcome) = match self.inner.admit(request) {
                    BodyPolicy::Reject(response) => {
                        (Admitted::Rejected(response.status()), response.into())
                    }
                    // There is no response yet, so nothing to change: a deferred outcome that nothing
                    // waits for does not run what is mapped.
                    policy => (Admitted::Accepted(policy), Outcome::deferred(drop)),
                };
                *admitted.lock() = Some(policy);
                outcome
            }
        }
    }
}

impl Next {
    /// Calls the inner handler from a job. When the head was received, the job was not run, so the inner
    /// handler was asked about the content without effect on what counts requests.
    fn handle_late(&self, request: &Request<'_>) -> Outcome {
        request.forget_admission();
        match self.inner.admit(request) {
            BodyPolicy::Reject(response) => response.closing().into(),
            BodyPolicy::Buffer { .. } | BodyPolicy::Stream { .. } => self.inner.handle(request),
        }
    }
}

impl fmt::Debug for Next {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Next")
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
}

impl Handler for Around {
    fn handle(&self, request: &Request<'_>) -> Outcome {
        let returned = request.may_have_content().then(Arc::default);
        let outcome = self.call(request, Call::Handle(returned.clone()));
        if let Some(returned) = returned {
            returned.store(true, Ordering::Release);
        }
        outcome
    }

    fn admit(&self, request: &Request<'_>) -> BodyPolicy {
        let admitted = Arc::new(Mutex::new(None));
        let outcome = self.call(request, Call::Admit(Arc::clone(&admitted)));
        let admitted = admitted.lock().take();
        match (admitted, outcome) {
            (Some(Admitted::Accepted(policy)), _) => policy,
            (_, Outcome::Ready(response)) => BodyPolicy::Reject(response),
            (Some(Admitted::Rejected(status)), _) => {
                BodyPolicy::Reject(error_page::instead_of(status.into(), request.fields()))
            }
            // The closure decides later, in a job.
            (None, _) => match self.inner.admit(&request.clone().admitted()) {
                BodyPolicy::Reject(_) => BodyPolicy::Buffer {
                    max: MAX_UNWANTED_BYTES,
                },
                policy => policy,
            },
        }
    }

    fn reject(&self, request: &Request<'_>, rejection: Rejection) -> Response {
        match self.call(request, Call::Reject(rejection)) {
            Outcome::Ready(response) => response.closing(),
            // What decides later does not learn of a request that is over.
            _ => error_page::instead_of(rejection.into(), request.fields()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;
    use crate::handler::router::Router;
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
            let post = || {
                let client = ([192, 0, 2, 1], 1).into();
                let request = Request::post("/", "x").with_client_addr(client);
                if let BodyPolicy::Reject(response) = handler.admit(&request) {
                    return response.status();
                }
                handler.handle(&request.admitted()).wait().status()
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
}
