//! Requests whose answers take long, in the diagnostics.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use ::http::{Method, StatusCode};

use crate::handler::{BodyPolicy, Handler, Outcome};
use crate::http::{Rejection, Request, Response};

/// Writes a line to the diagnostics for each request whose response takes a handler so long or
/// longer, wherever it is made: on the event loop, where it must not take long, in a job (the wait
/// for a helper thread counts), or later. How long the client takes to read it does not count; the
/// access log knows that. How long it takes to send a content does, if the handler reads that as a
/// stream.
pub struct SlowLog {
    inner: Box<dyn Handler>,
    watch: Watch,
}

/// When a response is slow, and who is told. Clock and ear are arguments for the tests' sake.
#[derive(Clone, Copy)]
struct Watch {
    threshold: Duration,
    clock: fn() -> Instant,
    tell: fn(&str),
}

impl SlowLog {
    /// Watches over `inner`.
    pub fn new(inner: impl Handler + 'static, threshold: Duration) -> Self {
        let watch = Watch {
            threshold,
            clock: Instant::now,
            tell: |line| log::warn!("{line}"),
        };
        Self {
            inner: Box::new(inner),
            watch,
        }
    }
}

impl Handler for SlowLog {
    fn handle(&self, request: &Request<'_>) -> Outcome {
        let watch = self.watch;
        let started = (watch.clock)();
        match self.inner.handle(request) {
            // The usual case copies nothing.
            Outcome::Ready(response) => {
                watch.judge(started, &Asked::of(request), response.status());
                Outcome::Ready(response)
            }
            reply => {
                let method = request.method().clone();
                let target = request.target().to_owned();
                let peer = request.client_addr();
                reply.map(move |response| {
                    let asked = Asked {
                        method: &method,
                        target: &target,
                        peer,
                    };
                    watch.judge(started, &asked, response.status());
                    response
                })
            }
        }
    }

    fn admit(&self, request: &Request<'_>) -> BodyPolicy {
        let started = (self.watch.clock)();
        let admission = self.inner.admit(request);
        if let BodyPolicy::Reject(response) = &admission {
            let asked = Asked::of(request);
            self.watch.judge(started, &asked, response.status());
        }
        admission
    }

    fn reject(&self, request: &Request<'_>, rejection: Rejection) -> Response {
        let started = (self.watch.clock)();
        let response = self.inner.reject(request, rejection);
        let asked = Asked::of(request);
        self.watch.judge(started, &asked, response.status());
        response
    }

    fn shed(&self) {
        self.inner.shed();
    }
}

/// What a line says of a request.
struct Asked<'a> {
    method: &'a Method,
    target: &'a str,
    peer: SocketAddr,
}

impl<'a> Asked<'a> {
    fn of(request: &'a Request<'_>) -> Self {
        Self {
            method: request.method(),
            target: request.target(),
            peer: request.client_addr(),
        }
    }
}

impl Watch {
    fn judge(&self, started: Instant, asked: &Asked<'_>, status: StatusCode) {
        let taken = (self.clock)().duration_since(started);
        if taken < self.threshold {
            return;
        }
        let Asked {
            method,
            target,
            peer,
        } = asked;
        let (status, milliseconds) = (status.as_u16(), taken.as_millis());
        // A target is quoted and escaped: one request is one line.
        (self.tell)(&format!(
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
        static TOLD: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
    }

    /// Takes as many milliseconds as the query says, where the path says.
    struct Slow;

    impl Handler for Slow {
        fn handle(&self, request: &Request<'_>) -> Outcome {
            let milliseconds = milliseconds(request);
            let make = move || {
                pass(milliseconds);
                Response::text("")
            };
            match request.path() {
                "/job" => Outcome::blocking(make),
                "/later" => Outcome::deferred(move |replier| replier.send(make())),
                "/forgotten" => Outcome::deferred(move |_| pass(milliseconds)),
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
        let query = request.query().expect("a query");
        query.parse().expect("a number")
    }

    fn watched() -> SlowLog {
        let watch = Watch {
            threshold: Duration::from_millis(20),
            clock: now,
            tell: |line| TOLD.with_borrow_mut(|told| told.push(line.to_owned())),
        };
        SlowLog {
            inner: Box::new(Slow),
            watch,
        }
    }

    #[test]
    fn what_is_slow_is_told_wherever_it_is_made() {
        let handler = watched();
        for (target, told) in [
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
                "/forgotten?50",
                Some("GET \"/forgotten?50\" 500 for 127.0.0.1:0 took 50 ms"),
            ),
        ] {
            handler.handle(&Request::get(target)).wait();
            let lines = TOLD.with_borrow_mut(std::mem::take);
            let expected: Vec<String> = told
                .iter()
                .map(|told| format!("slow request: {told}"))
                .collect();
            assert_eq!(lines, expected, "{target}");
        }
    }

    #[test]
    fn refusals_are_watched_and_passed_on() {
        let handler = watched();
        let request = Request::post("/ñ\u{85}?30", "a");
        assert!(matches!(handler.admit(&request), BodyPolicy::Reject(_)));
        let response = handler.reject(&request, Rejection::bad_request("no"));
        assert_eq!(response.status(), 400);
        let lines = TOLD.with_borrow_mut(std::mem::take);
        assert_eq!(
            lines,
            [403, 400].map(|status| format!(
                "slow request: POST \"/ñ\\u{{85}}?30\" {status} for 127.0.0.1:0 took 30 ms"
            ))
        );
    }
}
