//! Tests of server-sent events and of other response bodies for which no thread waits.

use std::io;
use std::net::Shutdown;
use std::num::NonZeroUsize;
use std::sync::mpsc::{self, Sender};
use std::task::Poll;
use std::thread;
use std::time::Duration;

use tws::observe::BlockedOn;
use tws::{
    Body, BodyStream, Broadcast, Config, Event, EventSender, EventStream, Http2, Outcome,
    PieceSender, Request, Response, Router, StatusCode,
};

use crate::support::client::TIMEOUT;
use crate::support::h2::H2Client;
use crate::support::h2::frame::Frame;
use crate::support::{Client, TestServer, eventually, pattern};

const MIB: usize = 1 << 20;

/// Longer than a test may take: what has to wait for it fails.
const NEVER: Duration = Duration::from_secs(3600);

/// Limits that leave no threads for streams.
fn without_stream_threads(config: &mut Config) {
    config.workers = Some(NonZeroUsize::MIN);
    config.limits.max_streams = 0;
    config.http2 = Http2::All;
    config.timeouts.drain = NEVER;
    config.timeouts.half_closed = Duration::from_millis(100);
}

/// Without heartbeats, which a slow test would receive between the events.
fn subscribe(news: &Broadcast, request: &Request<'_>) -> Response {
    let events = news.subscribe_after(request.header("Last-Event-ID"));
    Response::sse(events.with_heartbeat(NEVER))
}

fn serve_news(news: &Broadcast) -> TestServer {
    let router = Router::with_state(news.clone())
        .get("/events", subscribe)
        .get("/job", |_: &Broadcast, _: &Request<'_>| {
            Outcome::blocking(|| Response::text("done"))
        });
    TestServer::configured(router, without_stream_threads)
}

/// Requests a stream and reads its head.
fn open(server: &TestServer, path: &str) -> Client {
    let mut client = server.client();
    client.send(format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n"));
    let head = client.head();
    assert_eq!(head.status, 200, "{}", head.head);
    client
}

fn numbered(number: u32) -> Event {
    Event::new(number.to_string()).with_id(number.to_string())
}

fn text(number: u32) -> String {
    format!("id: {number}\ndata: {number}\n\n")
}

/// More than there are threads of any kind, on one worker.
#[test]
fn broadcast_reaches_all_clients_without_threads() {
    const CLIENTS: usize = 100;
    const STREAMS: usize = 50;
    let news = Broadcast::new(16);
    let server = serve_news(&news);
    let mut clients: Vec<Client> = (0..CLIENTS).map(|_| open(&server, "/events")).collect();
    let mut multiplexed = H2Client::connect(server.address);
    let streams: Vec<u32> = (0..STREAMS)
        .map(|_| multiplexed.request("GET", "/events", &[]))
        .collect();
    eventually!(|| news.subscribers() == CLIENTS + STREAMS);
    // Streams that wait take no job of their connection.
    assert_eq!(multiplexed.get("/job").text(), "done");
    for number in 0..3 {
        news.send(numbered(number));
        for client in &mut clients {
            assert_eq!(client.chunk(), text(number).as_bytes());
        }
        let expected: String = (0..=number).map(text).collect();
        for stream in &streams {
            multiplexed.receive_until(|client| client.content_len(*stream) == expected.len());
            let response = multiplexed.so_far(*stream);
            assert_eq!(response.text(), expected);
            assert_eq!(response.field("content-type"), Some("text/event-stream"));
            assert_eq!(response.field("cache-control"), Some("no-store"));
        }
    }
    assert_eq!(multiplexed.get("/job").text(), "done");
    for stream in &streams[1..] {
        multiplexed.send_frame(&Frame::reset(*stream, 8));
    }
    drop(clients);
    eventually!(|| news.subscribers() == 1);
}

#[test]
fn streams_end_at_shutdown_after_the_events_before() {
    let news = Broadcast::new(16);
    let (finite, body) = BodyStream::channel(1);
    let body = std::sync::Mutex::new(Some(body));
    let router = Router::with_state(news.clone())
        .get("/events", subscribe)
        .get("/finite", move |_: &Broadcast, _: &Request<'_>| {
            let body = body.lock().expect("no panic").take().expect("one request");
            Response::new(StatusCode::OK).with_body(Body::Stream(body))
        });
    let mut server = TestServer::configured(router, without_stream_threads);
    let mut client = open(&server, "/events");
    let mut old = server.client();
    old.send("GET /events HTTP/1.0\r\n\r\n").head();
    let mut multiplexed = H2Client::connect(server.address);
    let stream = multiplexed.request("GET", "/events", &[]);
    let mut download = open(&server, "/finite");
    eventually!(|| news.subscribers() == 3);
    news.send(numbered(1));
    server.handle.shut_down();
    assert_eq!(client.chunks(), text(1).as_bytes());
    client.expect_closed();
    assert_eq!(old.rest().expect("a regular end"), text(1).as_bytes());
    let response = multiplexed.response(stream);
    assert!(response.ended && response.reset.is_none());
    assert_eq!(response.text(), text(1));
    multiplexed.with_stream(|socket| socket.shutdown(Shutdown::Both).expect("shut down"));
    assert_eq!(news.subscribers(), 0);
    // A client must not take a part of another body for the whole.
    finite.send("whole").expect("an open body");
    drop(finite);
    assert_eq!(download.chunks(), b"whole");
    drop((client, old, download));
    server.join();
}

#[test]
fn bodies_beyond_the_limit_are_503() {
    let news = Broadcast::new(1);
    let events = |news: &Broadcast| Response::sse(news.subscribe());
    let (job, deferred) = (news.clone(), news.clone());
    let router = Router::with_state(news.clone())
        .get("/ready", move |news: &Broadcast, _: &Request<'_>| {
            events(news)
        })
        .get("/job", move |_: &Broadcast, _: &Request<'_>| {
            let news = job.clone();
            Outcome::blocking(move || events(&news))
        })
        .get("/deferred", move |_: &Broadcast, _: &Request<'_>| {
            let news = deferred.clone();
            Outcome::deferred(move |responder| responder.send(events(&news)))
        });
    let server = TestServer::configured(router, |config| {
        without_stream_threads(config);
        config.limits.max_parked_streams = 2;
    });
    // The response to HEAD needs no place.
    for _ in 0..5 {
        assert_eq!(server.client().request("HEAD", "/ready", "").status, 200);
    }
    for path in ["/ready", "/job", "/deferred"] {
        let streams = [open(&server, path), open(&server, "/ready")];
        for full in ["/ready", "/job", "/deferred"] {
            let response = server.client().get(full);
            let rejected = (response.status, response.field("Retry-After"));
            assert_eq!(rejected, (503, Some("1")), "{full}");
        }
        let mut multiplexed = H2Client::connect(server.address);
        assert_eq!(multiplexed.get("/ready").status(), 503);
        drop(streams);
        eventually!(|| news.subscribers() == 0);
    }
}

#[test]
fn waiting_stream_sends_comments_at_the_interval() {
    let news = Broadcast::new(1);
    let router = || {
        Router::with_state(news.clone()).get("/events", |news: &Broadcast, _: &Request<'_>| {
            Response::sse(news.subscribe().with_heartbeat(Duration::ZERO))
        })
    };
    let server = TestServer::configured(router(), without_stream_threads);
    let mut client = open(&server, "/events");
    let mut multiplexed = H2Client::connect(server.address);
    let stream = multiplexed.request("GET", "/events", &[]);
    multiplexed.receive_until(|client| client.content_len(stream) > 0);
    // A stream that waits has no time limit.
    let mut config = Config::default();
    without_stream_threads(&mut config);
    config.timeouts.send = Duration::from_millis(1);
    config.timeouts.keep_alive = Duration::from_millis(1);
    config.timeouts.keep_alive_h2 = Duration::from_millis(1);
    let reloaded = server.handle.reload(router(), &config);
    reloaded.expect("settings that are valid");
    server.client().expect_closed();
    for _ in 0..3 {
        assert_eq!(client.chunk(), b":\n\n");
    }
    let end = multiplexed.content_len(stream) + 9;
    multiplexed.receive_until(|client| client.content_len(stream) >= end);
    let content = multiplexed.so_far(stream).content;
    assert_eq!(&content[end - 9..end], b":\n\n:\n\n:\n\n");
    news.send(numbered(1));
    while client.chunk() != text(1).as_bytes() {}
}

/// A client that does not read must not keep events in memory, nor delay the other clients.
#[test]
fn client_that_does_not_read_is_disconnected_or_told_what_it_missed() {
    // Far more than the kernel buffers.
    const EVENTS: usize = 32;
    let news = Broadcast::new(4);
    let telling = news
        .clone()
        .with_missed_event(|count| Event::new(format!("missed {}", count.is_some())));
    let router = Router::with_state((news.clone(), telling))
        .get(
            "/events",
            |state: &(Broadcast, Broadcast), request: &Request<'_>| subscribe(&state.0, request),
        )
        .get(
            "/told",
            |state: &(Broadcast, Broadcast), request: &Request<'_>| subscribe(&state.1, request),
        );
    let server = TestServer::configured(router, |config| {
        without_stream_threads(config);
        config.timeouts.send = NEVER;
        config.limits.min_rate_bytes_per_second = 0;
    });
    let mut silent = open(&server, "/events");
    let mut told = open(&server, "/told");
    let mut reading = open(&server, "/events");
    eventually!(|| news.subscribers() == 3);
    let data = "x".repeat(MIB);
    let expected = format!("id: x\ndata: {data}\n\n");
    for _ in 0..EVENTS {
        news.send(Event::new(&*data).with_id("x"));
        assert_eq!(reading.chunk().len(), expected.len());
    }
    news.send("last");
    // It receives whole events, and the end: then it connects again.
    let received = silent.chunks();
    assert!(received.len() < EVENTS * expected.len());
    assert_eq!(received.len() % expected.len(), 0);
    let mut received = String::new();
    while !received.contains("data: last\n\n") {
        received += &String::from_utf8(told.chunk()).expect("UTF-8");
    }
    assert_eq!(received.matches("data: missed true\n\n").count(), 1);
}

/// Its windows do not open: the stream is reset after the time limit, and others go on.
#[test]
fn stream_whose_window_stays_closed_is_reset_and_one_that_waits_is_not() {
    let news = Broadcast::new(64);
    let router = Router::with_state(news.clone()).get("/events", subscribe);
    let server = TestServer::configured(router, |config| {
        without_stream_threads(config);
        config.timeouts.send = Duration::from_millis(200);
    });
    const INITIAL_WINDOW_SIZE: u16 = 4;
    let mut client = H2Client::connect_with(server.address, &[(INITIAL_WINDOW_SIZE, 0)]);
    client.keep_windows();
    let closed = client.request("GET", "/events", &[]);
    let waiting = client.request("GET", "/events", &[]);
    client.send_frame(&Frame::window_update(waiting, 100));
    eventually!(|| news.subscribers() == 2);
    client.ping();
    let one = text(1).len();
    news.send(numbered(1));
    client.receive_until(|client| client.content_len(waiting) == one);
    client.receive_until(|client| client.so_far(closed).reset.is_some());
    news.send(numbered(2));
    client.receive_until(|client| client.content_len(waiting) == 2 * one);
}

/// A sender for the next request.
type Senders = Sender<(PieceSender, EventSender)>;

fn channels(senders: &Senders, request: &Request<'_>) -> Response {
    let (pieces, body) = BodyStream::channel(2);
    let (event_sender, events) = EventStream::channel(2);
    senders.send((pieces, event_sender)).expect("the test runs");
    match request.path() {
        "/pieces" => Response::new(StatusCode::OK).with_body(Body::Stream(body)),
        "/announced" => {
            let body = Body::Stream(body.with_length(700_000));
            Response::new(StatusCode::OK).with_body(body)
        }
        _ => Response::sse(events),
    }
}

#[test]
fn sender_is_told_when_its_client_has_disconnected() {
    let (senders, receiver) = mpsc::channel();
    let server = TestServer::configured(
        Router::with_state(senders).fallback(channels),
        without_stream_threads,
    );
    let next = || receiver.recv_timeout(TIMEOUT).expect("a request");
    for path in ["/pieces", "/events"] {
        let client = open(&server, path);
        let (pieces, events) = next();
        let (cancelled, is_cancelled) = mpsc::channel();
        let cancellation = match path {
            "/pieces" => pieces.cancellation(),
            _ => events.cancellation(),
        };
        cancellation.on_cancel(move || cancelled.send(()).expect("the test runs"));
        drop(client);
        is_cancelled.recv_timeout(TIMEOUT).expect("a cancellation");
        let sent = match path {
            "/pieces" => pieces.send("late"),
            _ => events.send(&Event::new("late")),
        };
        assert_eq!(
            sent.map_err(|error| error.kind()),
            Err(io::ErrorKind::BrokenPipe)
        );
    }
    let mut multiplexed = H2Client::connect(server.address);
    let stream = multiplexed.request("GET", "/events", &[]);
    let (_pieces, events) = next();
    multiplexed.send_frame(&Frame::reset(stream, 8));
    eventually!(|| events.is_closed());
}

#[test]
fn pieces_of_a_thread_arrive_whole_and_failures_truncate() {
    let (senders, receiver) = mpsc::channel();
    let server = TestServer::configured(
        Router::with_state(senders).fallback(channels),
        without_stream_threads,
    );
    let content = pattern(700_000);
    let send_all = |count: usize| {
        let (pieces, _) = receiver.recv_timeout(TIMEOUT).expect("a request");
        let content = content[..count].to_vec();
        thread::spawn(move || {
            for piece in content.chunks(1000) {
                pieces.send(piece.to_vec()).expect("an open body");
            }
        });
    };
    let mut client = open(&server, "/pieces");
    send_all(content.len());
    assert!(client.chunks() == content);
    client.send("GET /announced HTTP/1.1\r\nHost: test\r\n\r\n");
    send_all(content.len());
    assert!(client.response().content == content);
    let head = client.request("HEAD", "/announced", "");
    assert_eq!(head.length(), Some(700_000));
    receiver.recv_timeout(TIMEOUT).expect("a request");
    let mut multiplexed = H2Client::connect(server.address);
    for path in ["/pieces", "/announced"] {
        let stream = multiplexed.request("GET", path, &[]);
        send_all(content.len());
        assert!(multiplexed.response(stream).content == content, "{path}");
    }
    // Less than was announced.
    let stream = multiplexed.request("GET", "/announced", &[]);
    send_all(1000);
    assert!(multiplexed.response(stream).reset.is_some());
    let stream = multiplexed.request("GET", "/pieces", &[]);
    let (pieces, _) = receiver.recv_timeout(TIMEOUT).expect("a request");
    pieces.fail(io::Error::other("on purpose"));
    assert!(multiplexed.response(stream).reset.is_some());
    let mut client = open(&server, "/pieces");
    let (pieces, _) = receiver.recv_timeout(TIMEOUT).expect("a request");
    pieces.send("some").expect("an open body");
    assert_eq!(client.chunk(), b"some");
    pieces.fail(io::Error::other("on purpose"));
    assert!(!client.rest_or_reset().ends_with(b"0\r\n\r\n"));
}

/// A source that panics, fails, or never ends costs the server nothing but its own response.
#[test]
fn faulty_source_ends_its_own_response_only() {
    let router = Router::new()
        .get("/panics", |_: &Request<'_>| polled(|| panic!("on purpose")))
        .get("/empty", |_: &Request<'_>| {
            polled(|| Poll::Ready(Ok(Some("".into()))))
        })
        .get("/fails", |_: &Request<'_>| {
            polled(|| Poll::Ready(Err(io::Error::other("on purpose"))))
        })
        .get("/endless", |_: &Request<'_>| {
            polled(|| Poll::Ready(Ok(Some("x".into()))))
        })
        .get("/job", |_: &Request<'_>| {
            Outcome::blocking(|| Response::text("done"))
        });
    let server = TestServer::configured(router, without_stream_threads);
    let mut endless = open(&server, "/endless");
    assert_eq!(endless.chunk(), b"x");
    for path in ["/panics", "/empty", "/fails"] {
        let received = open(&server, path).rest_or_reset();
        assert!(!received.ends_with(b"0\r\n\r\n"), "{path}");
        assert_eq!(server.client().get("/job").text(), "done", "{path}");
    }
    let mut multiplexed = H2Client::connect(server.address);
    let endless = multiplexed.request("GET", "/endless", &[]);
    multiplexed.receive_until(|client| client.content_len(endless) > 100);
    for path in ["/panics", "/empty", "/fails"] {
        let stream = multiplexed.request("GET", path, &[]);
        multiplexed.receive_until(|client| client.so_far(stream).reset.is_some());
    }
    server.handle.shut_down_within(Duration::ZERO);
}

fn polled(
    mut poll: impl FnMut() -> Poll<io::Result<Option<bytes::Bytes>>> + Send + 'static,
) -> Response {
    let body = BodyStream::polled(move |_| poll());
    Response::new(StatusCode::OK).with_body(Body::Stream(body))
}

#[test]
fn streams_of_a_replaced_handler_end_and_go_on_if_others_have_their_broadcast() {
    let (own, shared) = (Broadcast::new(1), Broadcast::new(1));
    let handler = |own: Broadcast, shared: Broadcast| {
        Router::new()
            .get("/own", move |request: &Request<'_>| {
                subscribe(&own, request)
            })
            .get("/shared", move |request: &Request<'_>| {
                subscribe(&shared, request)
            })
    };
    let server = TestServer::configured(handler(own, shared.clone()), without_stream_threads);
    let (mut first, mut second) = (open(&server, "/own"), open(&server, "/shared"));
    let new = handler(Broadcast::new(1), shared.clone());
    let reloaded = server.handle.reload(new, &Config::default());
    reloaded.expect("settings that are valid");
    assert_eq!(first.chunks(), b"");
    shared.send(numbered(1));
    assert_eq!(second.chunk(), text(1).as_bytes());
}

#[test]
fn waiting_stream_is_reported_as_waiting_for_its_handler() {
    let news = Broadcast::new(1);
    let server = serve_news(&news);
    let observer = server.handle.observe();
    let mut client = open(&server, "/events");
    news.send(numbered(1));
    client.chunk();
    eventually!(|| {
        let report = observer.report(TIMEOUT);
        let transfers = report.transfers.iter();
        let waits = |transfer: &&tws::observe::Transfer| transfer.blocked_on == BlockedOn::Handler;
        transfers.filter(waits).count() == 1
    });
    let report = observer.report(TIMEOUT);
    let framed = format!("{:x}\r\n{}\r\n", text(1).len(), text(1));
    assert_eq!(report.transfers[0].moved, framed.len() as u64);
}

#[cfg(feature = "tls")]
#[test]
fn events_are_sent_over_tls_at_once() {
    use std::io::{Read, Write};
    use std::sync::Arc;

    use crate::tls_transport::{CertificateAuthority, TlsClient};

    let authority = CertificateAuthority::new();
    let pair = authority.issue("here", &["localhost"]);
    let tls = tws::Tls::open(vec![pair]).expect("open certificates");
    let news = Broadcast::new(1);
    let router = Router::with_state(news.clone()).get("/events", subscribe);
    let server = TestServer::with(router, without_stream_threads, |server| {
        server.with_tls(tls)
    });
    let config = Arc::new(authority.client());
    let mut client =
        TlsClient::connect(server.address, "localhost", &config).expect("complete TLS handshake");
    client
        .0
        .write_all(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .expect("send the request");
    let mut received = String::new();
    let mut receive_until = |end: &str| {
        while !received.ends_with(end) {
            let mut buffer = [0; 1000];
            let count = client.0.read(&mut buffer).expect("read the stream");
            assert!(count > 0, "the connection has ended");
            received += std::str::from_utf8(&buffer[..count]).expect("UTF-8");
        }
    };
    eventually!(|| news.subscribers() == 1);
    for number in 1..4 {
        news.send(numbered(number));
        receive_until(&format!("{}\r\n", text(number)));
    }
    server.handle.shut_down();
    receive_until("0\r\n\r\n");
}

/// Middlewares and the handler trait pass streams on.
#[test]
fn middlewares_do_not_buffer_events() {
    let news = Broadcast::new(1);
    let router = Router::with_state(news.clone())
        .get("/events", subscribe)
        .layer(|app| tws::SlowLog::new(app, NEVER))
        .layer(tws::around(|request, next| {
            next.run(request)
                .map(|response| response.with_header("X-Outer", "1"))
        }));
    let server = TestServer::configured(router, without_stream_threads);
    let mut client = open(&server, "/events");
    news.send(numbered(1));
    assert_eq!(client.chunk(), text(1).as_bytes());
}
