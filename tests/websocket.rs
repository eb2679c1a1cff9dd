//! Tests of WebSocket connections through sockets, with a client by hand, a browser, and a client in
//! Python.

use std::num::NonZeroUsize;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tws::access_log::{AccessLog, Format, LogDestination};
use tws::websocket::{
    Close, CloseCode, Message, SendError, WebSocketHandler, WebSocketSender, WebSocketUpgrade,
};
use tws::{HandlerResult, Http2, Request, Response, Router, StatusCode, around};

use crate::support::browser::Browser;
use crate::support::client::TIMEOUT;
use crate::support::h2::H2Client;
use crate::support::websocket::{
    ACCEPT, BINARY, CLOSE, FIN, HANDSHAKE, PING, PONG, TEXT, WebSocketClient, frame,
};
use crate::support::{TestServer, eventually, pattern};

fn echo(request: &Request<'_>) -> HandlerResult {
    let upgrade = WebSocketUpgrade::new(request)?;
    Ok(upgrade.on_message(|message, sender| {
        sender.send(message).expect("room in the queue");
    }))
}

fn echo_server() -> TestServer {
    TestServer::start(Router::new().get("/", echo))
}

/// What a handler has been called with.
#[derive(Debug)]
enum Event {
    Open(WebSocketSender),
    Message(Message),
    Close(Close),
}

/// Reports its calls.
struct Reporter(Sender<Event>);

impl WebSocketHandler for Reporter {
    fn on_open(&mut self, sender: &WebSocketSender) {
        self.0.send(Event::Open(sender.clone())).expect("a test");
    }

    fn on_message(&mut self, message: Message, _: &WebSocketSender) {
        self.0.send(Event::Message(message)).expect("a test");
    }

    fn on_close(&mut self, close: Close) {
        self.0.send(Event::Close(close)).expect("a test");
    }
}

/// A handler of connections that report their calls.
fn reporting(
    configure: impl Fn(WebSocketUpgrade) -> WebSocketUpgrade + Send + Sync + 'static,
) -> (Router, Receiver<Event>) {
    let (events, received) = mpsc::channel();
    let events = Mutex::new(events);
    let handle = move |request: &Request<'_>| -> HandlerResult {
        let events = events.lock().expect("lock is not poisoned").clone();
        Ok(configure(WebSocketUpgrade::new(request)?).accept(Reporter(events)))
    };
    (Router::new().get("/", handle), received)
}

fn next(events: &Receiver<Event>) -> Event {
    events.recv_timeout(TIMEOUT).expect("an event")
}

fn opened(events: &Receiver<Event>) -> WebSocketSender {
    match next(events) {
        Event::Open(sender) => sender,
        other => panic!("{other:?}"),
    }
}

fn message(events: &Receiver<Event>) -> Message {
    match next(events) {
        Event::Message(message) => message,
        other => panic!("{other:?}"),
    }
}

/// The code with which the handler was told of the end.
fn closed(events: &Receiver<Event>) -> u16 {
    match next(events) {
        Event::Close(close) => close.code.as_u16(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn messages_are_echoed_until_the_client_closes() {
    let server = echo_server();
    let mut client = server.client();
    let response = WebSocketClient::handshake(&mut client, "/");
    assert_eq!(response.status, 101);
    for (name, value) in [
        ("Connection", "upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Accept", ACCEPT),
    ] {
        assert_eq!(response.field(name), Some(value));
    }
    for absent in ["Content-Length", "Keep-Alive", "Sec-WebSocket-Protocol"] {
        assert_eq!(response.field(absent), None);
    }
    let mut client = WebSocketClient { client };
    for len in [0, 1, 125, 126, 65_535, 65_536, 1024 * 1024] {
        let content = pattern(len);
        client.send(BINARY, &content).expect(BINARY, &content);
        let text = "é".repeat(len / 2);
        client.send(TEXT, &text).expect(TEXT, &text);
    }
    client.send(PING, "ping").expect(PONG, "ping");
    client.send_close(4321);
    assert_eq!(client.close_code(), 4321);
    client.client.expect_closed();
}

#[test]
fn frames_behind_the_request_are_received() {
    let server = echo_server();
    let request = format!("GET / HTTP/1.1\r\nHost: test\r\n{HANDSHAKE}\r\n");
    // After another request, and cut anywhere.
    let first = "GET /none HTTP/1.1\r\nHost: test\r\n\r\n";
    let frames = [frame(FIN | TEXT, b"one"), frame(FIN | TEXT, b"two")].concat();
    let input = [first.as_bytes(), request.as_bytes(), &frames].concat();
    for at in [0, first.len(), input.len() - frames.len(), input.len() - 3] {
        let mut client = server.client();
        client.send(&input[..at]).send(&input[at..]);
        assert_eq!(client.response().status, 404);
        assert_eq!(client.head().status, 101);
        let mut client = WebSocketClient { client };
        assert_eq!([client.text(), client.text()], ["one", "two"]);
    }
}

/// The client sends everything before it reads anything: more than the server would buffer.
#[test]
fn slow_reader_stops_the_server_from_reading_and_loses_nothing() {
    const MESSAGES: usize = 300;
    let server = echo_server();
    let mut client = WebSocketClient::connect(server.address, "/");
    let mut stream = client
        .client
        .stream()
        .try_clone()
        .expect("duplicate descriptor");
    let content = pattern(100_000);
    let sending = {
        let message = frame(FIN | BINARY, &content);
        std::thread::spawn(move || {
            for _ in 0..MESSAGES {
                std::io::Write::write_all(&mut stream, &message).expect("send message");
            }
        })
    };
    for _ in 0..MESSAGES {
        client.expect(BINARY, &content);
    }
    sending.join().expect("thread does not panic");
}

#[test]
fn invalid_handshakes_are_rejected() {
    let server = TestServer::start(Router::new().get("/", echo).post("/", echo));
    let without = |name: &str| -> String {
        let lines = HANDSHAKE.split_inclusive("\r\n");
        lines.filter(|line| !line.starts_with(name)).collect()
    };
    let with = |from: &str, to: &str| HANDSHAKE.replace(from, to);
    let key = "dGhlIHNhbXBsZSBub25jZQ==";
    let table: Vec<(&str, String, u16)> = vec![
        ("GET / HTTP/1.1", HANDSHAKE.to_owned(), 101),
        (
            "GET / HTTP/1.1",
            HANDSHAKE.to_lowercase().replace(&key.to_lowercase(), key),
            101,
        ),
        (
            "GET / HTTP/1.1",
            with("Connection: Upgrade", "Connection: keep-alive, UPGRADE"),
            101,
        ),
        (
            "GET / HTTP/1.1",
            with("Upgrade: websocket", "Upgrade: h2c, WebSocket"),
            101,
        ),
        (
            "GET / HTTP/1.1",
            format!("{HANDSHAKE}Content-Length: 0\r\n"),
            101,
        ),
        ("GET / HTTP/1.1", String::new(), 426),
        ("GET / HTTP/1.0", HANDSHAKE.to_owned(), 426),
        ("GET / HTTP/1.1", without("Connection"), 426),
        ("GET / HTTP/1.1", without("Upgrade"), 426),
        (
            "GET / HTTP/1.1",
            with("Upgrade: websocket", "Upgrade: h2c"),
            426,
        ),
        ("GET / HTTP/1.1", without("Sec-WebSocket-Version"), 426),
        ("GET / HTTP/1.1", with("13", "8"), 426),
        (
            "GET / HTTP/1.1",
            format!("{HANDSHAKE}Sec-WebSocket-Version: 8\r\n"),
            426,
        ),
        ("GET / HTTP/1.1", without("Sec-WebSocket-Key"), 400),
        ("GET / HTTP/1.1", with(key, "short=="), 400),
        (
            "GET / HTTP/1.1",
            with(key, "dGhlIHNhbXBsZSBub25j\u{e9}=="),
            400,
        ),
        (
            "GET / HTTP/1.1",
            format!("{HANDSHAKE}Sec-WebSocket-Key: {key}\r\n"),
            400,
        ),
        (
            "GET / HTTP/1.1",
            format!("{HANDSHAKE}Connection: close\r\n"),
            400,
        ),
        (
            "GET / HTTP/1.1",
            format!("{HANDSHAKE}Transfer-Encoding: chunked\r\n"),
            400,
        ),
        ("HEAD / HTTP/1.1", HANDSHAKE.to_owned(), 405),
        (
            "POST / HTTP/1.1",
            format!("{HANDSHAKE}Content-Length: 0\r\n"),
            405,
        ),
    ];
    for (line, fields, status) in table {
        let mut client = server.client();
        client.send(format!("{line}\r\nHost: test\r\n{fields}\r\n"));
        if fields.contains("chunked") {
            client.send("0\r\n\r\n");
        }
        let response = client.head();
        assert_eq!(response.status, status, "{line} {fields}");
        let expected = (status == 426).then_some("13");
        assert_eq!(
            response.field("Sec-WebSocket-Version"),
            expected,
            "{line} {fields}"
        );
        let upgrade = response.field("Upgrade");
        let is_offered = matches!(status, 101 | 426);
        assert_eq!(
            upgrade,
            is_offered.then_some("websocket"),
            "{line} {fields}"
        );
        let connection = response.field("Connection").unwrap_or_default();
        assert_eq!(
            connection.contains("upgrade"),
            is_offered,
            "{line} {fields}"
        );
        assert_eq!(response.field("Allow").is_some(), status == 405);
    }
}

#[test]
fn http2_request_is_505() {
    let server = TestServer::configured(Router::new().get("/", echo), |config| {
        config.http2 = Http2::All;
    });
    let mut client = H2Client::connect(server.address);
    let response = client.get("/");
    assert_eq!(response.status(), 505);
    assert!(response.text().contains("HTTP/1.1"));
}

#[test]
fn pages_of_other_origins_are_rejected_unless_allowed() {
    let from_a = |request: &Request<'_>| -> HandlerResult {
        let upgrade = WebSocketUpgrade::from_origins(request, &["https://a.test"])?;
        Ok(upgrade.on_message(|_, _| ()))
    };
    let from_any = |request: &Request<'_>| -> HandlerResult {
        Ok(WebSocketUpgrade::from_any_origin(request)?.on_message(|_, _| ()))
    };
    let router = Router::new()
        .get("/", echo)
        .get("/a", from_a)
        .get("/any", from_any);
    let server = TestServer::start(router);
    let table = [
        ("", [101, 101, 101]),
        ("Origin: http://test\r\n", [101, 403, 101]),
        ("Origin: https://test:443\r\n", [101, 403, 101]),
        ("Origin: http://test:8000\r\n", [403, 403, 101]),
        ("Origin: https://a.test\r\n", [403, 101, 101]),
        ("Origin: http://a.test\r\n", [403, 403, 101]),
        ("Origin: https://a.test.evil\r\n", [403, 403, 101]),
        ("Origin: null\r\n", [403, 403, 101]),
        (
            "Origin: http://test\r\nOrigin: http://evil\r\n",
            [403, 403, 101],
        ),
    ];
    for (origin, statuses) in table {
        for (path, status) in ["/", "/a", "/any"].into_iter().zip(statuses) {
            let response = server
                .client()
                .request("GET", path, &format!("{HANDSHAKE}{origin}"));
            assert_eq!(response.status, status, "{path} {origin}");
        }
    }
}

#[test]
fn first_offered_protocol_that_is_supported_is_selected() {
    let handle = |request: &Request<'_>| -> HandlerResult {
        let upgrade = WebSocketUpgrade::new(request)?.with_protocols(&["chat.v1", "chat.v2"]);
        let protocol = upgrade.protocol().unwrap_or("none").to_owned();
        Ok(upgrade.on_message(move |_, sender| {
            sender.send(&*protocol).expect("room in the queue");
        }))
    };
    let server = TestServer::start(handle);
    for (offered, selected) in [
        ("", None),
        ("Sec-WebSocket-Protocol: chat.v2\r\n", Some("chat.v2")),
        (
            "Sec-WebSocket-Protocol: chat.v3, chat.v2, chat.v1\r\n",
            Some("chat.v2"),
        ),
        (
            "Sec-WebSocket-Protocol: x\r\nSec-WebSocket-Protocol: chat.v1\r\n",
            Some("chat.v1"),
        ),
        ("Sec-WebSocket-Protocol: CHAT.V1\r\n", None),
    ] {
        let mut client = server.client();
        let response = client.request("GET", "/", &format!("{HANDSHAKE}{offered}"));
        assert_eq!(
            response.field("Sec-WebSocket-Protocol"),
            selected,
            "{offered}"
        );
        let mut client = WebSocketClient { client };
        client
            .send(TEXT, "?")
            .expect(TEXT, selected.unwrap_or("none"));
    }
}

#[test]
fn middlewares_run_before_the_handshake() {
    let router = Router::new().get("/", echo).layer(around(|request, next| {
        if request.header("authorization").is_none() {
            return StatusCode::UNAUTHORIZED.into();
        }
        next.run(request)
            .map(|response| response.with_header("X-Seen", "yes"))
    }));
    let server = TestServer::start(router);
    let mut client = server.client();
    assert_eq!(client.request("GET", "/", HANDSHAKE).status, 401);
    // The connection goes on with HTTP.
    let allowed = format!("{HANDSHAKE}Authorization: Basic eDp5\r\n");
    let response = client.request("GET", "/", &allowed);
    assert_eq!(
        (response.status, response.field("X-Seen")),
        (101, Some("yes"))
    );
    let mut client = WebSocketClient { client };
    client.send(TEXT, "hello").expect(TEXT, "hello");
}

/// The handler's side of the connection ends with the response.
#[test]
fn changed_status_drops_the_handler_and_stays_with_http() {
    let (router, events) = reporting(|upgrade| upgrade);
    let changed = router.layer(around(|request, next| {
        next.run(request)
            .map(|response| response.with_status(StatusCode::FORBIDDEN))
    }));
    let server = TestServer::start(changed);
    let mut client = server.client();
    for _ in 0..2 {
        let response = client.request("GET", "/", HANDSHAKE);
        assert_eq!((response.status, response.field("Upgrade")), (403, None));
    }
    drop(server);
    assert!(events.recv().is_err(), "the handler was called");
}

/// A response that another thread makes.
#[test]
fn deferred_and_blocking_handlers_may_accept() {
    let blocking = tws::blocking(|request: &Request<'_>| echo(request));
    let deferred = |request: &Request<'_>| match echo(request) {
        Ok(response) => tws::Outcome::deferred(move |responder| {
            std::thread::spawn(move || responder.send(response));
        }),
        Err(error) => error.into(),
    };
    let server = TestServer::start(
        Router::new()
            .get("/blocking", blocking)
            .get("/deferred", deferred),
    );
    for path in ["/blocking", "/deferred"] {
        let mut client = WebSocketClient::connect(server.address, path);
        client.send(TEXT, "hello").expect(TEXT, "hello");
    }
}

#[test]
fn any_thread_sends_to_many_clients_of_one_event_loop() {
    const CLIENTS: usize = 100;
    const MESSAGES: usize = 50;
    // The clients answer no Ping, however long it takes to open all of them.
    let (router, events) = reporting(|upgrade| upgrade.with_ping(None, TIMEOUT));
    let server = TestServer::configured(router, |config| config.workers = Some(NonZeroUsize::MIN));
    let (mut clients, senders): (Vec<_>, Vec<_>) = (0..CLIENTS)
        .map(|_| {
            let client = WebSocketClient::connect(server.address, "/");
            (client, opened(&events))
        })
        .unzip();
    let threads: Vec<_> = (0..2)
        .map(|_| {
            let senders = senders.clone();
            std::thread::spawn(move || {
                for number in 0..MESSAGES {
                    let message = Message::from(number.to_string());
                    for sender in &senders {
                        sender.send(message.clone()).expect("room in the queue");
                    }
                }
            })
        })
        .collect();
    for client in &mut clients {
        let mut sums = 0;
        for _ in 0..2 * MESSAGES {
            sums += client.text().parse::<usize>().expect("a number");
        }
        assert_eq!(sums, MESSAGES * (MESSAGES - 1));
    }
    for thread in threads {
        thread.join().expect("thread does not panic");
    }
    // A client that leaves is known at once, and the others stay.
    drop(clients.pop());
    assert_eq!(closed(&events), 1006);
    assert_eq!(senders[CLIENTS - 1].send("late"), Err(SendError::Closed));
    senders[0].close(CloseCode::NORMAL, "done");
    assert_eq!(clients[0].close_code(), 1000);
    clients[0].send_close(1000).client.expect_closed();
    assert_eq!(closed(&events), 1000);
    assert!(!senders[1].is_closed());
}

#[test]
fn blocking_job_delays_no_other_connection() {
    let (release, released) = mpsc::channel::<()>();
    let released = Arc::new(Mutex::new(released));
    let handle = move |request: &Request<'_>| -> HandlerResult {
        let released = Arc::clone(&released);
        Ok(
            WebSocketUpgrade::new(request)?.on_message(move |message, sender| {
                let released = Arc::clone(&released);
                let job = move |sender: &WebSocketSender| {
                    let _ = released.lock().expect("lock is not poisoned").recv();
                    sender.send(message).expect("room in the queue");
                };
                sender.run_blocking(job).expect("room for the job");
            }),
        )
    };
    let router = Router::new().get("/", handle).get("/echo", echo);
    let server = TestServer::configured(router, |config| config.workers = Some(NonZeroUsize::MIN));
    let mut client = WebSocketClient::connect(server.address, "/");
    client.send(TEXT, "one").send(TEXT, "two");
    let mut other = WebSocketClient::connect(server.address, "/echo");
    other.send(TEXT, "quick").expect(TEXT, "quick");
    for text in ["one", "two"] {
        release.send(()).expect("a job");
        client.expect(TEXT, text);
    }
    // A connection that is lost while its job runs.
    client.send(TEXT, "three");
    drop(client);
    release.send(()).expect("a job");
    drop(other);
    eventually!(|| server.handle.connections() == 0);
}

#[test]
fn shutdown_closes_connections_as_going_away() {
    let (router, events) = reporting(|upgrade| upgrade);
    let mut server = TestServer::start(router);
    let mut client = WebSocketClient::connect(server.address, "/");
    client.send(TEXT, "before");
    opened(&events);
    assert_eq!(message(&events).as_text(), Some("before"));
    // No time limit but that of the test ends the connection.
    server.handle.shut_down_within(TIMEOUT * 10);
    assert_eq!(client.close_code(), 1001);
    client.send_close(1001).client.expect_closed();
    assert_eq!(closed(&events), 1001);
    server.join();
}

#[test]
fn client_that_does_not_answer_the_close_is_closed() {
    let timeout = Duration::from_millis(50);
    let (router, events) = reporting(move |upgrade| upgrade.with_close_timeout(timeout));
    let mut server = TestServer::start(router);
    let mut client = WebSocketClient::connect(server.address, "/");
    opened(&events);
    server.handle.shut_down_within(TIMEOUT * 10);
    assert_eq!(client.close_code(), 1001);
    client.client.expect_closed();
    assert_eq!(closed(&events), 1006);
    server.join();
}

#[test]
fn silent_client_is_pinged_and_closed() {
    let time = Duration::from_millis(20);
    // A client that responds stays.
    let (router, _events) = reporting(move |upgrade| upgrade.with_ping(Some(time), TIMEOUT));
    let server = TestServer::start(router);
    let mut client = WebSocketClient::connect(server.address, "/");
    for _ in 0..3 {
        client.expect(PING, "");
        client.send(PONG, "");
    }
    let (router, events) = reporting(move |upgrade| upgrade.with_ping(Some(time), time));
    let server = TestServer::start(router);
    let mut client = WebSocketClient::connect(server.address, "/");
    opened(&events);
    client.expect(PING, "");
    assert_eq!(closed(&events), 1006);
    client.client.expect_closed();
}

#[test]
fn client_that_reads_nothing_is_closed() {
    let (router, events) = reporting(|upgrade| upgrade.with_max_queued_bytes(100_000));
    let server = TestServer::configured(router, |config| {
        config.timeouts.send = Duration::from_millis(200);
        config.timeouts.min_rate_grace = Duration::from_millis(200);
    });
    let client = WebSocketClient::connect(server.address, "/");
    let sender = opened(&events);
    let mut accepted = 0;
    loop {
        match sender.send(vec![0; 10_000]) {
            Ok(()) => accepted += 1,
            Err(SendError::QueueFull) => std::thread::park_timeout(Duration::from_millis(1)),
            Err(SendError::Closed) => break,
            Err(other) => panic!("{other}"),
        }
        assert!(accepted < 10_000, "nothing is bounded");
    }
    assert_eq!(closed(&events), 1006);
    drop(client);
}

#[test]
fn connection_has_one_record_and_counts_as_upgraded() {
    let folder = tempfile::tempdir().expect("create temporary directory");
    let path = folder.path().join("log");
    let log = AccessLog::start(Format::Common, &[LogDestination::File(path.clone())]);
    let log = log.expect("start access log");
    let mut server = TestServer::with(
        Router::new().get("/", echo),
        // Lines of several event loops have no defined order.
        |config| config.workers = Some(NonZeroUsize::MIN),
        |server| server.with_access_log(log),
    );
    let observer = server.handle.observe();
    let mut regular = WebSocketClient::connect(server.address, "/");
    let mut lost = WebSocketClient::connect(server.address, "/");
    for client in [&mut regular, &mut lost] {
        client
            .send(BINARY, pattern(100_000))
            .expect(BINARY, pattern(100_000));
    }
    eventually!(|| {
        let report = observer.report(TIMEOUT);
        report.connections.upgraded == 2
    });
    drop(observer);
    regular.send_close(1000);
    assert_eq!(regular.close_code(), 1000);
    regular.client.expect_closed();
    drop(lost);
    eventually!(|| server.handle.connections() == 0);
    server.handle.shut_down();
    server.join();
    let log = std::fs::read_to_string(&path).expect("read log");
    let lines: Vec<_> = log.lines().collect();
    assert_eq!(lines.len(), 2, "{log}");
    // Frame heads have 10 bytes, and the Close frame 4.
    assert!(lines[0].ends_with("\"GET / HTTP/1.1\" 101 100014"), "{log}");
    assert!(lines[1].ends_with("\"GET / HTTP/1.1\" 101 100010"), "{log}");
}

#[test]
fn connection_is_not_closed_to_make_room_for_others() {
    let server = TestServer::configured(Router::new().get("/", echo), |config| {
        config.workers = Some(NonZeroUsize::MIN);
        config.limits.max_connections = Some(3);
        config.timeouts.idle_grace = Duration::ZERO;
    });
    let mut socket = WebSocketClient::connect(server.address, "/");
    let mut idle: Vec<_> = (0..5)
        .map(|_| {
            let mut client = server.client();
            assert_eq!(client.get("/").status, 426);
            client
        })
        .collect();
    idle[0].expect_closed_or_reset();
    socket.send(TEXT, "still here").expect(TEXT, "still here");
    assert!(server.handle.stats().evicted > 0);
}

#[test]
fn panic_and_violation_close_one_connection_only() {
    let handle = |request: &Request<'_>| -> HandlerResult {
        Ok(
            WebSocketUpgrade::new(request)?.on_message(|message, sender| {
                assert_ne!(message.as_text(), Some("panic"), "on purpose");
                sender.send(message).expect("room in the queue");
            }),
        )
    };
    let server = TestServer::configured(handle, |config| config.workers = Some(NonZeroUsize::MIN));
    let mut other = WebSocketClient::connect(server.address, "/");
    for (input, code) in [
        (frame(FIN | TEXT, b"panic"), 1011),
        (frame(FIN | TEXT, b"\xff"), 1007),
        (frame(FIN | 3, b""), 1002),
        (frame(FIN | BINARY, &vec![0; 2 * 1024 * 1024]), 1009),
    ] {
        let mut client = WebSocketClient::connect(server.address, "/");
        client.client.send(&input);
        assert_eq!(client.close_code(), code);
        client.client.expect_closed();
        other.send(TEXT, "still here").expect(TEXT, "still here");
    }
}

#[test]
fn end_of_input_without_close_ends_the_connection() {
    let (router, events) = reporting(|upgrade| upgrade);
    let server = TestServer::start(router);
    let mut client = WebSocketClient::connect(server.address, "/");
    opened(&events);
    client.send(TEXT, "last");
    client.client.end_input();
    client.client.expect_closed();
    assert_eq!(message(&events).as_text(), Some("last"));
    assert_eq!(closed(&events), 1006);
    // Its own Close frame counts although the end of input follows at once.
    let mut client = WebSocketClient::connect(server.address, "/");
    opened(&events);
    client.send(CLOSE, []).client.end_input();
    client.expect(CLOSE, []);
    client.client.expect_closed();
    assert_eq!(closed(&events), 1005);
}

/// The bandwidth limit of the client applies, and its waits are no silence of the client.
#[test]
fn bandwidth_limit_applies_to_messages() {
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let handle = move |request: &Request<'_>| -> HandlerResult {
        let counted = Arc::clone(&counted);
        let ping = Some(Duration::from_millis(20));
        let upgrade = WebSocketUpgrade::new(request)?.with_ping(ping, TIMEOUT);
        Ok(upgrade.on_message(move |message, sender| {
            counted.fetch_add(1, Ordering::Relaxed);
            sender.send(message).expect("room in the queue");
        }))
    };
    let server = TestServer::configured(handle, |config| {
        config.limits.bandwidth_per_connection = std::num::NonZeroU64::new(400_000);
    });
    let mut client = WebSocketClient::connect(server.address, "/");
    let content = pattern(100_000);
    let start = std::time::Instant::now();
    client.send(BINARY, &content).send(BINARY, &content);
    let mut received = 0;
    while received < 2 {
        match client.frame() {
            (first, payload) if first == FIN | BINARY => {
                assert!(payload == content);
                received += 1;
            }
            (first, _) => assert_eq!(first, FIN | PING),
        }
    }
    assert_eq!(calls.load(Ordering::Relaxed), 2);
    // 400,000 bytes both ways, less a burst of a quarter of a second and a chunk.
    assert!(
        start.elapsed() > Duration::from_millis(400),
        "{:?}",
        start.elapsed()
    );
}

/// A page that opens a connection, and what it has received.
fn page(_: &Request<'_>) -> Response {
    Response::html(
        "<!doctype html><title>echo</title><script>
        const log = [];
        const socket = new WebSocket(`ws://${location.host}/echo`, ['chat.v0', 'chat.v1']);
        socket.binaryType = 'arraybuffer';
        socket.onopen = () => {
            log.push(`open ${socket.protocol}`);
            socket.send('grüße');
            socket.send(new Uint8Array(70000).fill(7));
        };
        socket.onmessage = event => {
            if (typeof event.data === 'string') {
                log.push(event.data);
            } else {
                const bytes = new Uint8Array(event.data);
                log.push(`${bytes.length} ${bytes.every(byte => byte === 7)}`);
                socket.close(4001, 'done');
            }
        };
        socket.onclose = event => log.push(`close ${event.code} ${event.wasClean}`);
        const refused = new WebSocket(`ws://localhost:${location.port}/echo`);
        refused.onclose = event => log.push(`refused ${event.code}`);
        </script>",
    )
}

/// Browsers offer only HTTP/1.1 for a connection to `wss:`.
#[cfg(feature = "tls")]
#[test]
fn messages_cross_tls() {
    use std::io::{Read, Write};

    use tws::Tls;

    use crate::tls_transport::{CertificateAuthority, TlsClient};

    let authority = CertificateAuthority::new();
    let pair = authority.issue("a", &["a.test"]);
    let tls = Tls::open(vec![pair]).expect("open certificates");
    let router = Router::new().get("/", echo);
    let mut server = TestServer::with(router, |_| {}, |server| server.with_tls(tls));
    let config = authority.client_with(rustls::DEFAULT_VERSIONS, &["http/1.1"]);
    let open = |origin: &str| {
        let TlsClient(mut stream) =
            TlsClient::connect(server.address, "a.test", &Arc::new(config.clone()))
                .expect("complete TLS handshake");
        assert_eq!(stream.conn.alpn_protocol(), Some(&b"http/1.1"[..]));
        let request =
            format!("GET / HTTP/1.1\r\nHost: a.test\r\nOrigin: {origin}\r\n{HANDSHAKE}\r\n");
        stream.write_all(request.as_bytes()).expect("send bytes");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).expect("a response");
            head.extend(byte);
        }
        (String::from_utf8(head).expect("UTF-8"), stream)
    };
    assert!(open("https://b.test").0.starts_with("HTTP/1.1 403 "));
    let (head, mut stream) = open("https://a.test");
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    assert!(head.contains(ACCEPT), "{head}");
    let mut expect = |sent: &[u8], received: &[&[u8]]| {
        stream.write_all(sent).expect("send bytes");
        let received = received.concat();
        let mut frame = vec![0; received.len()];
        stream.read_exact(&mut frame).expect("a frame");
        assert!(frame == received);
    };
    let text = FIN | TEXT;
    expect(&frame(text, b"one"), &[&[text, 3], b"one"]);
    // More than a TLS record, and than the kernel buffers at once.
    let content = pattern(1_000_000);
    let len = (content.len() as u64).to_be_bytes();
    let binary = FIN | BINARY;
    expect(&frame(binary, &content), &[&[binary, 127], &len, &content]);
    let code = 1000_u16.to_be_bytes();
    let close = FIN | CLOSE;
    expect(&frame(close, &code), &[&[close, 2], &code]);
    // close_notify: a connection that breaks off is an error.
    assert_eq!(stream.read(&mut [0]).expect("an end"), 0);
    drop(stream);
    server.handle.shut_down();
    server.join();
}

#[test]
#[ignore = "needs Chromium and chromedriver"]
fn chromium_exchanges_messages_and_closes() {
    let handle = |request: &Request<'_>| -> HandlerResult {
        let upgrade = WebSocketUpgrade::new(request)?.with_protocols(&["chat.v1"]);
        Ok(upgrade.on_message(|message, sender| {
            sender.send(message).expect("room in the queue");
        }))
    };
    let server = TestServer::start(Router::new().get("/", page).get("/echo", handle));
    let browser = Browser::start();
    browser.open(&format!("http://{}/", server.address));
    let log = browser.wait_for("return log.length === 5 && log");
    let mut lines: Vec<&str> = log
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|line| line.as_str())
        .collect();
    // The page of 127.0.0.1 is one of another origin for localhost.
    let refused = lines.iter().position(|line| *line == "refused 1006");
    lines.remove(refused.expect("refused"));
    let expected = ["open chat.v1", "grüße", "70000 true", "close 4001 true"];
    assert_eq!(lines, expected);
}

#[test]
#[ignore = "needs Python's websockets"]
fn python_client_exchanges_messages_and_closes() {
    const SCRIPT: &str = "
import sys
from websockets.sync.client import connect
with connect(sys.argv[1], max_size=None) as socket:
    for message in ['', 'grüße', b'', bytes(range(256)) * 4000]:
        socket.send(message)
        assert socket.recv() == message
    socket.send(['frag', 'men', 'ted'])
    assert socket.recv() == 'fragmented'
    assert socket.ping().wait(60)
    socket.close(4001, 'done')
assert socket.protocol.close_rcvd.code == 4001
print('fine')
";
    let server = echo_server();
    let output = Command::new("python3")
        .args(["-c", SCRIPT, &format!("ws://{}/", server.address)])
        .stderr(Stdio::inherit())
        .output()
        .expect("run Python");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "fine\n");
}
