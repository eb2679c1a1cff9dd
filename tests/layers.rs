//! Tests of layers around handlers: every response of a request passes through them, and the closure of
//! `around` runs once for each request, over HTTP/1.1 and HTTP/2.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};

use tws::{
    Body, BodyPolicy, BodyStream, BoxHandler, Config, Cors, DiskJob, Handler, Http2, Next, Outcome,
    RateLimit, Rejection, Request, RequestId, Response, Router, StatusCode, StreamingBody, around,
    blocking, request_id, security_headers, site::Origin,
};

use crate::support::h2::H2Client;
use crate::support::{TestServer, eventually};

const MIB: usize = 1024 * 1024;

#[derive(Clone, Copy, Debug)]
enum Protocol {
    Http1,
    Http2,
}

const PROTOCOLS: [Protocol; 2] = [Protocol::Http1, Protocol::Http2];

/// The method, the path and the announced length of a request.
type Head<'a> = (&'a str, &'a str, usize);

/// A response, with its fields by their lower-case names.
struct Reply {
    status: u16,
    fields: Vec<(String, String)>,
    text: String,
}

impl Reply {
    fn field(&self, name: &str) -> Option<&str> {
        let mut found = self.fields.iter().filter(|(known, _)| known == name);
        let value = found.next().map(|(_, value)| value.as_str());
        assert!(found.next().is_none(), "{name} twice");
        value
    }
}

fn server(handler: impl Handler + 'static, change: impl FnOnce(&mut Config)) -> TestServer {
    TestServer::configured(handler, |config| {
        config.http2 = Http2::All;
        config.workers = Some(NonZeroUsize::MIN);
        config.helpers = NonZeroUsize::MIN;
        change(config);
    })
}

/// Sends a request on a connection of its own, with `content` of the `announced` bytes.
fn ask(
    server: &TestServer,
    protocol: Protocol,
    (method, path, announced): Head<'_>,
    content: &[u8],
) -> Reply {
    match protocol {
        Protocol::Http1 => {
            let length = match announced {
                0 => String::new(),
                bytes => format!("Content-Length: {bytes}\r\n"),
            };
            let mut client = server.client();
            client.send(format!(
                "{method} {path} HTTP/1.1\r\nHost: t\r\n{length}\r\n"
            ));
            client.send(content);
            let response = client.response();
            let lines = response.head.lines().skip(1);
            let fields = lines.filter_map(|line| line.split_once(": "));
            Reply {
                status: response.status,
                fields: fields
                    .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
                    .collect(),
                text: response.text(),
            }
        }
        Protocol::Http2 => {
            let mut client = H2Client::connect(server.address);
            let stream = if announced == 0 {
                client.request(method, path, &[])
            } else {
                let length = announced.to_string();
                let head = client.head(method, path, &[("content-length", &length)]);
                client.send_frame(&head);
                if content.len() == announced {
                    client.send_body(head.stream, content);
                }
                head.stream
            };
            client.receive_until(|client| {
                let so_far = client.so_far(stream);
                so_far.ended || so_far.reset.is_some()
            });
            let response = client.so_far(stream);
            Reply {
                status: response.status(),
                text: response.text().to_owned(),
                fields: response.fields,
            }
        }
    }
}

/// How often a closure was called, and how often it has changed a response.
#[derive(Default)]
struct Counts {
    calls: AtomicUsize,
    changes: AtomicUsize,
}

impl Counts {
    fn change(self: &Arc<Self>) -> impl Fn(Response) -> Response + use<> {
        let counts = Arc::clone(self);
        move |response| {
            counts.changes.fetch_add(1, Ordering::SeqCst);
            response.with_header("X-Layer", "1")
        }
    }

    fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }

    fn changes(&self) -> usize {
        self.changes.load(Ordering::SeqCst)
    }
}

fn counting(app: BoxHandler, counts: &Arc<Counts>) -> BoxHandler {
    let counts = Arc::clone(counts);
    app.layer(around(move |request, next: Next| {
        counts.calls.fetch_add(1, Ordering::SeqCst);
        next.run(request).map(counts.change())
    }))
}

fn written() -> Response {
    let stream = BodyStream::written(|out| out.write_all(b"x")).with_length(1);
    Response::new(StatusCode::OK).with_body(Body::Stream(stream))
}

fn parked() -> Response {
    let (_, stream) = BodyStream::channel(1);
    Response::new(StatusCode::OK).with_body(Body::Stream(stream))
}

#[test]
fn errors_that_the_server_makes_pass_through_all_layers() {
    let (release, released) = mpsc::channel::<()>();
    let released = Mutex::new(released);
    let (started, has_started) = mpsc::channel::<()>();
    let hold = blocking(move |_: &Request<'_>| {
        started.send(()).expect("the test waits");
        let _ = released.lock().expect("no panic").recv();
        StatusCode::OK
    });
    let read = blocking(|request: &Request<'_>| {
        std::io::read_to_string(request.reader())
            .map_or(StatusCode::BAD_REQUEST, |_| StatusCode::OK)
    });
    let router = Router::new()
        .get("/now", |_: &Request<'_>| -> Response {
            panic!("on purpose")
        })
        .get("/job", |_: &Request<'_>| {
            Outcome::blocking(|| panic!("on purpose"))
        })
        .get("/disk", |_: &Request<'_>| {
            let work = || -> Response { panic!("on purpose") };
            Outcome::BlockingOnDisk(DiskJob::short(0, work))
        })
        .get("/deferred", |_: &Request<'_>| {
            Outcome::deferred(|_| panic!("on purpose"))
        })
        .get("/dropped", |_: &Request<'_>| Outcome::deferred(drop))
        .get("/written", |_: &Request<'_>| written())
        .get("/written/job", |_: &Request<'_>| Outcome::blocking(written))
        .get("/parked", |_: &Request<'_>| parked())
        .get("/parked/later", |_: &Request<'_>| {
            Outcome::deferred(|responder| responder.send(parked()))
        })
        .post("/upload", read.streaming(u64::MAX))
        .get("/hold", hold);
    let counts = Arc::new(Counts::default());
    let origin: Origin = "https://a.test".parse().expect("an origin");
    let app = counting(BoxHandler::new(router), &counts)
        .layer(request_id())
        .layer(security_headers())
        .layer(|app| Cors::new(app, &origin));
    let server = server(app, |config| {
        config.limits.max_waiting_jobs = 0;
        config.limits.max_streams = 0;
        config.limits.max_parked_streams = 0;
    });
    let check = |protocol, request: Head<'_>, status| {
        let before = (counts.calls(), counts.changes());
        let reply = ask(&server, protocol, request, b"");
        let name = format!("{protocol:?} {}", request.1);
        assert_eq!(reply.status, status, "{name}");
        assert_eq!(reply.field("x-layer"), Some("1"), "{name}");
        assert!(reply.field("x-request-id").is_some(), "{name}");
        assert_eq!(
            reply.field("x-content-type-options"),
            Some("nosniff"),
            "{name}"
        );
        let origin = reply.field("access-control-allow-origin");
        assert_eq!(origin, Some("https://a.test"), "{name}");
        let after = (counts.calls(), counts.changes());
        assert_eq!(after, (before.0 + 1, before.1 + 1), "{name}");
    };
    for protocol in PROTOCOLS {
        for path in ["/now", "/job", "/disk", "/deferred", "/dropped"] {
            check(protocol, ("GET", path, 0), 500);
        }
        for path in ["/written", "/written/job", "/parked", "/parked/later"] {
            check(protocol, ("GET", path, 0), 503);
        }
        check(protocol, ("POST", "/upload", MIB), 503);
    }
    let mut holding = server.client();
    holding.send("GET /hold HTTP/1.1\r\nHost: t\r\n\r\n");
    has_started.recv().expect("the job runs");
    for protocol in PROTOCOLS {
        check(protocol, ("GET", "/job", 0), 503);
    }
    drop(release);
    assert_eq!(holding.response().status, 200);
}

/// Rejects all content with a response whose body is written by a thread.
struct RejectsWithStream;

impl Handler for RejectsWithStream {
    fn handle(&self, _: &Request<'_>) -> Outcome {
        written().into()
    }

    fn admit(&self, _: &Request<'_>) -> BodyPolicy {
        BodyPolicy::Reject(written())
    }

    fn reject(&self, _: &Request<'_>, _: Rejection) -> Response {
        written()
    }
}

#[test]
fn streamed_response_before_the_content_passes_through_layers() {
    let answer = around(|_, _| written());
    let answer_changed = around(|_, _| {
        Outcome::from(written()).map(|response| response.with_header("X-Inner", "1"))
    });
    let ok = |_: &Request<'_>| StatusCode::OK;
    let admitted = StreamingBody::new(ok, u64::MAX);
    let router = Router::new()
        .any("/answer", BoxHandler::new(admitted).layer(&answer))
        .any("/changed", BoxHandler::new(ok).layer(&answer_changed))
        .any("/admit", RejectsWithStream);
    let app = counting(BoxHandler::new(router), &Arc::default()).layer(security_headers());
    let server = server(app, |_| {});
    for protocol in PROTOCOLS {
        for path in ["/answer", "/changed", "/admit"] {
            for (method, announced) in [("GET", 0), ("POST", 5)] {
                let reply = ask(&server, protocol, (method, path, announced), b"");
                let name = format!("{protocol:?} {method} {path}");
                assert_eq!((reply.status, reply.text.as_str()), (200, "x"), "{name}");
                assert_eq!(reply.field("x-layer"), Some("1"), "{name}");
                let inner = (path == "/changed").then_some("1");
                assert_eq!(reply.field("x-inner"), inner, "{name}");
            }
        }
    }
}

#[test]
fn changed_stream_of_a_layer_rejects_the_content() {
    let app = Router::new()
        .post("/", |_: &Request<'_>| StatusCode::OK)
        .layer(around(|_, _| {
            Outcome::from(written()).map(|response| response.with_status(StatusCode::FORBIDDEN))
        }));
    let server = server(app, |_| {});
    let mut client = server.client();
    client.send("POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n");
    assert_eq!(client.response().status, 403);
}

#[test]
fn layer_closure_runs_once_with_and_without_content() {
    type Closure = fn(&Request<'_>, Next) -> Outcome;
    let at_once: Closure = |request, next| next.run(request);
    let in_job: Closure = |request, next| {
        let request = request.clone().into_owned();
        Outcome::blocking(move || next.run(&request).wait())
    };
    let deferred: Closure = |request, next| {
        let request = request.clone().into_owned();
        Outcome::deferred(move |responder| responder.send(next.run(&request)))
    };
    let changed: Closure = |request, next| {
        let request = request.clone().into_owned().with_header("X-Changed", "1");
        next.run(&request)
    };
    let waiting: Closure = |request, next| {
        let outcome = next.run(request);
        Outcome::blocking(move || outcome.wait())
    };
    for closure in [at_once, in_job, deferred, changed, waiting] {
        let echo = |request: &Request<'_>| {
            let id: &RequestId = request.extension().expect("an identifier");
            let mut content = String::new();
            let read = std::io::Read::read_to_string(&mut request.reader(), &mut content);
            Response::text(format!("{} {}", id.as_str(), read.unwrap_or(0)))
        };
        let [outside, inside] = [(); 2].map(|()| Arc::new(Counts::default()));
        let router = Router::new()
            .get("/", echo)
            .post("/", echo)
            .post("/small", StreamingBody::new(echo, 5))
            .post("/streamed", blocking(echo).streaming(u64::MAX));
        let counted = Arc::clone(&outside);
        let rate = "0.0001:1000".parse().expect("a rate");
        let app = counting(BoxHandler::new(router), &inside)
            .layer(request_id())
            .layer(move |app| RateLimit::new(app).per_client(rate))
            .layer(around(move |request, next: Next| {
                counted.calls.fetch_add(1, Ordering::SeqCst);
                closure(request, next).map(counted.change())
            }));
        let server = server(app, |_| {});
        let large = vec![b'x'; 200_000];
        let requests: [(Head<'_>, &[u8], u16); 7] = [
            (("GET", "/", 0), b"", 200),
            (("POST", "/", 5), b"hello", 200),
            (("POST", "/small", 5), b"hello", 200),
            (("POST", "/small", 6), b"hello!", 413),
            (("POST", "/streamed", large.len()), &large, 200),
            (("POST", "/none", 5), b"hello", 404),
            (("POST", "/", 0), b"", 200),
        ];
        for protocol in PROTOCOLS {
            for (request, content, status) in requests {
                let before = (outside.calls(), outside.changes(), inside.calls());
                let reply = ask(&server, protocol, request, content);
                let name = format!("{protocol:?} {request:?}");
                assert_eq!(reply.status, status, "{name}");
                assert_eq!(reply.field("x-layer"), Some("1"), "{name}");
                if status == 200 {
                    let id = reply.field("x-request-id").expect("an identifier");
                    assert_eq!(reply.text, format!("{id} {}", content.len()), "{name}");
                }
                let after = (outside.calls(), outside.changes(), inside.calls());
                assert_eq!((after.0, after.1), (before.0 + 1, before.1 + 1), "{name}");
                // What is rejected before a job has run does not reach the layers inside.
                assert!(after.2 <= before.2 + 1, "{name}");
                assert!(status != 200 || after.2 == before.2 + 1, "{name}");
            }
        }
    }
}

#[test]
fn decision_is_dropped_with_its_request() {
    let alive = Arc::new(());
    let held = Arc::clone(&alive);
    let app = Router::new()
        .post("/", |_: &Request<'_>| StatusCode::OK)
        .layer(around(move |request, next: Next| {
            let held = Arc::clone(&held);
            next.run(request).map(move |response| {
                drop(held);
                response
            })
        }));
    let server = server(app, |_| {});
    let mut client = server.client();
    client.send("POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 9\r\n\r\nfour");
    eventually!(|| Arc::strong_count(&alive) == 3);
    drop(client);
    eventually!(|| Arc::strong_count(&alive) == 2);
}

#[test]
#[should_panic(expected = "route_layer")]
fn route_layer_without_routes_panics() {
    let _ = Router::new().route_layer(security_headers());
}

#[test]
fn error_with_a_text_forbids_to_guess_its_media_type() {
    for (status, expected) in [
        (StatusCode::OK, false),
        (StatusCode::NOT_FOUND, true),
        (StatusCode::BAD_GATEWAY, true),
    ] {
        let response = Response::from((status, "text"));
        let found = response.headers().contains_key("X-Content-Type-Options");
        assert_eq!(found, expected, "{status}");
    }
}

#[test]
fn layer_needs_no_second_thread_for_a_response_that_is_made() {
    let written = StreamingBody::new(|_: &Request<'_>| written(), u64::MAX);
    let app = counting(
        BoxHandler::new(Router::new().post("/", written)),
        &Arc::default(),
    );
    let server = server(app, |config| config.limits.max_streams = 1);
    let mut client = server.client();
    // The content is still to come when the handler responds.
    client.send("POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 1048576\r\n\r\n");
    assert_eq!(client.head().status, 200);
}

#[test]
fn content_that_is_set_again_has_one_length() {
    let request = Request::post("/", "").with_content("abc");
    let lengths: Vec<_> = request.fields().all("content-length").collect();
    assert_eq!(lengths, [b"3"]);
}
