//! A log of slow requests.

use std::fmt;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use ::http::{Method, StatusCode};

use crate::handler::{BodyPolicy, Handler, Outcome};
use crate::http::{Rejection, Request, Response};

/// Logs a warning for each request whose handler takes at least a threshold to make the response: on
/// the event loop, where it should not take long, in a job (including the wait for a helper thread),
/// or deferred.
///
/// The time that the client takes to receive the response is not included; the access log has that.
/// The time that the client takes to send the body is included if the handler streams it.
pub struct SlowLog {
    inner: Box<dyn Handler>,
    timer: SlowTimer,
}

impl fmt::Debug for SlowLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SlowLog")
            .field("threshold", &self.timer.threshold)
            .finish_non_exhaustive()
    }
}

/// The threshold, and the clock and the log that it uses. Both are arguments for the tests.
#[derive(Clone, Copy)]
struct SlowTimer {
    threshold: Duration,
    clock: fn() -> Instant,
    log_line: fn(&str),
}

impl SlowLog {
    /// Wraps `inner`. Responses that take `threshold` or longer are logged.
    pub fn new(inner: impl Handler + 'static, threshold: Duration) -> Self {
        let timer = SlowTimer {
            threshold,
            clock: Instant::now,
            log_line: |line| log::warn!("{line}"),
        };
        Self {
            inner: Box::new(inner),
            timer,
        }
    }
}

impl Handler for SlowLog {
    fn handle(&self, request: &Request<'_>) -> Outcome {
        let timer = self.timer;
        let started = (timer.clock)();
        match self.inner.handle(request) {
            // The common case copies nothing.
            Outcome::Ready(response) => {
                timer.log_if_slow(started, &RequestSummary::of(request), response.status());
                Outcome::Ready(response)
            }
            outcome => {
                let method = request.method().clone();
                let target = request.target().to_owned();
                let peer = request.client_addr();
                outcome.map(move |response| {
                    let summary = RequestSummary {
                        method: &method,
                        target: &target,
                        peer,
                    };
                    timer.log_if_slow(started, &summary, response.status());
                    response
                })
            }
        }
    }

    fn admit(&self, request: &Request<'_>) -> BodyPolicy {
        let started = (self.timer.clock)();
        let policy = self.inner.admit(request);
        if let BodyPolicy::Reject(response) = &policy {
            let summary = RequestSummary::of(request);
            self.timer.log_if_slow(started, &summary, response.status());
        }
        policy
    }

    fn reject(&self, request: &Request<'_>, rejection: Rejection) -> Response {
        let started = (self.timer.clock)();
        let response = self.inner.reject(request, rejection);
        let summary = RequestSummary::of(request);
        self.timer.log_if_slow(started, &summary, response.status());
        response
    }
}

/// The part of a request that is logged.
struct RequestSummary<'a> {
    method: &'a Method,
    target: &'a str,
    peer: SocketAddr,
}

impl<'a> RequestSummary<'a> {
    fn of(request: &'a Request<'_>) -> Self {
        Self {
            method: request.method(),
            target: request.target(),
            peer: request.client_addr(),
        }
    }
}

impl SlowTimer {
    fn log_if_slow(&self, started: Instant, summary: &RequestSummary<'_>, status: StatusCode) {
        let taken = (self.clock)().duration_since(started);
        if taken < self.threshold {
            return;
        }
        let RequestSummary {
            method,
            target,
            peer,
        } = summary;
        let (status, milliseconds) = (status.as_u16(), taken.as_millis());
        // The target is quoted and escaped, so that one request is one line.
        (self.log_line)(&format!(
            "slow request: {method} {target:?} {status} for {peer} took {milliseconds} ms"
        ));
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;
    use crate::middleware::test_clock::{now, pass};

    thread_local! {
        static LOGGED: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
    }

    /// Takes as many milliseconds as the query says, on the thread that the path names.
    struct SlowHandler;

    impl Handler for SlowHandler {
        fn handle(&self, request: &Request<'_>) -> Outcome {
            let milliseconds = milliseconds(request);
            let make = move || {
                pass(milliseconds);
                Response::text("")
            };
            match request.path() {
                "/job" => Outcome::blocking(make),
                "/later" => Outcome::deferred(move |responder| responder.send(make())),
                "/dropped" => Outcome::deferred(move |_| pass(milliseconds)),
                _ => make().into(),
            }
        }

        fn admit(&self, request: &Request<'_>) -> BodyPolicy {
            pass(milliseconds(request));
            BodyPolicy::Reject(Response::new(StatusCode::FORBIDDEN))
        }

        fn reject(&self, request: &Request<'_>, rejection: Rejection) -> Response {
            pass(milliseconds(request));
            rejection.into()
        }
    }

    fn milliseconds(request: &Request<'_>) -> u64 {
        let query = request.query_str().expect("a query");
        query.parse().expect("a number")
    }

    fn slow_log() -> SlowLog {
        let timer = SlowTimer {
            threshold: Duration::from_millis(20),
            clock: now,
            log_line: |line| LOGGED.with_borrow_mut(|logged| logged.push(line.to_owned())),
        };
        SlowLog {
            inner: Box::new(SlowHandler),
            timer,
        }
    }

    #[test]
    fn slow_responses_are_logged_on_every_thread() {
        let handler = slow_log();
        for (target, logged) in [
            ("/?19", None),
            ("/?20", Some("GET \"/?20\" 200 for 127.0.0.1:0 took 20 ms")),
            ("/job?19", None),
            (
                "/job?21",
                Some("GET \"/job?21\" 200 for 127.0.0.1:0 took 21 ms"),
            ),
            ("/later?0", None),
            (
                "/later?99",
                Some("GET \"/later?99\" 200 for 127.0.0.1:0 took 99 ms"),
            ),
            (
                "/dropped?50",
                Some("GET \"/dropped?50\" 500 for 127.0.0.1:0 took 50 ms"),
            ),
        ] {
            handler.handle(&Request::get(target)).wait();
            let lines = LOGGED.with_borrow_mut(std::mem::take);
            let expected: Vec<String> = logged
                .iter()
                .map(|logged| format!("slow request: {logged}"))
                .collect();
            assert_eq!(lines, expected, "{target}");
        }
    }

    #[test]
    fn slow_rejections_are_logged() {
        let handler = slow_log();
        let request = Request::post("/ñ\u{85}?30", "a");
        assert!(matches!(handler.admit(&request), BodyPolicy::Reject(_)));
        let response = handler.reject(&request, Rejection::bad_request("no"));
        assert_eq!(response.status(), 400);
        let lines = LOGGED.with_borrow_mut(std::mem::take);
        assert_eq!(
            lines,
            [403, 400].map(|status| format!(
                "slow request: POST \"/ñ\\u{{85}}?30\" {status} for 127.0.0.1:0 took 30 ms"
            ))
        );
    }
}
