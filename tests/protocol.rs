//! Tests of HTTP/1.1 connections on a real socket: keep-alive, pipelining, timeouts, limits and
//! shutdown.

use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tws::{Outcome, Request, Response, ServerState};

use crate::support::client::TIMEOUT;
use crate::support::{TestServer, eventually};

fn echo(request: &Request<'_>) -> Response {
    let content = String::from_utf8_lossy(request.content()).into_owned();
    Response::text(format!("{} {} {content}", request.method(), request.path()))
}

#[test]
fn keep_alive_connection_serves_requests_until_close() {
    let server = TestServer::configured(echo, |config| {
        config.timeouts.keep_alive = Duration::from_secs(1234);
    });
    let mut client = server.client();
    for at in 0..100 {
        let response = client.get(&format!("/{at}"));
        assert_eq!(response.text(), format!("GET /{at} "));
        assert_eq!(response.field("Connection"), Some("keep-alive"));
        assert_eq!(response.field("Keep-Alive"), Some("timeout=1234"));
    }
    let response = client.request("GET", "/last", "Connection: close\r\n");
    assert_eq!(response.field("Connection"), Some("close"));
    assert_eq!(response.field("Keep-Alive"), None);
    client.expect_closed();
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let server = TestServer::start(echo);
    let mut client = server.client();
    let pipeline: String = (0..500)
        .map(|at| format!("GET /{at} HTTP/1.1\r\nHost: test\r\n\r\n"))
        .collect();
    client.send(pipeline);
    for at in 0..500 {
        assert_eq!(client.response().text(), format!("GET /{at} "));
    }
}

#[test]
fn half_closed_connection_gets_pending_responses() {
    let server = TestServer::start(echo);
    let mut client = server.client();
    client.send("GET /a HTTP/1.1\r\nHost: test\r\n\r\nGET /b HTTP/1.1\r\nHost: test\r\n\r\n");
    client.end_input();
    assert_eq!(client.response().text(), "GET /a ");
    assert_eq!(client.response().text(), "GET /b ");
    client.expect_closed();
}

#[test]
fn rejection_is_readable_while_client_still_sends() {
    let server = TestServer::start(echo);
    let mut client = server.client();
    let head = "POST /x HTTP/1.1\r\nHost: test\r\nContent-Length: 8388608\r\n\r\n";
    client.send(head);
    // Much more than the socket buffers hold: without a lingering close the connection would be
    // reset.
    let sender = client.stream().try_clone().expect("duplicate descriptor");
    let sender = std::thread::spawn(move || {
        use std::io::Write;
        let mut sender = sender;
        let _ = sender.write_all(&vec![b'x'; 8 * 1024 * 1024]);
        let _ = sender.shutdown(std::net::Shutdown::Write);
    });
    sender.join().expect("thread does not panic");
    let response = client.response();
    assert_eq!(
        (response.status, response.field("Connection")),
        (413, Some("close"))
    );
    client.expect_closed();
}

#[test]
fn expect_continue_gets_100_before_body() {
    let server = TestServer::start(echo);
    let mut client = server.client();
    client.send(
        "POST /x HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n",
    );
    assert_eq!(client.head().status, 100);
    client.send("hello");
    assert_eq!(client.response().text(), "POST /x hello");
}

#[test]
fn malformed_request_gets_error_status_and_clean_close() {
    let server = TestServer::start(echo);
    let table: &[(&[u8], u16)] = &[
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
        (b"this is not HTTP\r\n\r\n", 400),
        (b"GET / HTTP/1.1\nHost: test\n\n", 400),
        (b"BREW / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
    ];
    for (bytes, status) in table {
        let mut client = server.client();
        client.send(bytes);
        let response = client.response();
        assert_eq!(
            (response.status, response.field("Connection")),
            (*status, Some("close"))
        );
        client.end_input();
        client.expect_closed();
    }
}

/// One server for each timeout; the other timeouts are long.
#[test]
fn slow_head_or_body_is_408_and_idle_connection_is_closed() {
    let soon = Duration::from_millis(1);
    let header = TestServer::configured(echo, |config| config.timeouts.header = soon);
    let mut client = header.client();
    client.send("GET / HT");
    assert_eq!(client.response().status, 408);

    let body = TestServer::configured(echo, |config| config.timeouts.body = soon);
    let mut client = body.client();
    client.send("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 9\r\n\r\nab");
    assert_eq!(client.response().status, 408);

    let idle = TestServer::configured(echo, |config| config.timeouts.keep_alive = soon);
    idle.client().expect_closed();
}

/// Bytes after the last request must not reset the connection while the response is being sent.
#[test]
fn bytes_after_last_request_do_not_reset_response() {
    const LARGE: usize = 16 * 1024 * 1024;
    let server = TestServer::start(|_: &Request<'_>| Response::text("x".repeat(LARGE)));
    for request in [
        "GET / HTTP/1.0\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n",
    ] {
        let mut client = server.client();
        client.send(request);
        let head = client.head();
        client.send("\r\n");
        assert_eq!(head.length(), Some(LARGE as u64));
        assert_eq!(client.read(LARGE).len(), LARGE);
        client.end_input();
        client.expect_closed();
    }
}

#[test]
fn rejected_expect_continue_body_is_not_requested() {
    let folder = tempfile::tempdir().expect("create temporary directory");
    let server = TestServer::of(folder.path());
    let mut client = server.client();
    let head =
        "POST /x HTTP/1.1\r\nHost: test\r\nContent-Length: 1000000\r\nExpect: 100-continue\r\n\r\n";
    client.send(head);
    let response = client.response();
    assert_eq!(
        (response.status, response.field("Connection")),
        (405, Some("close"))
    );
}

#[test]
fn maximum_timeouts_and_limits_do_not_overflow() {
    let server = TestServer::configured(echo, |config| {
        for timeout in [
            &mut config.timeouts.header,
            &mut config.timeouts.body,
            &mut config.timeouts.send,
            &mut config.timeouts.keep_alive,
            &mut config.timeouts.linger,
            &mut config.timeouts.drain,
        ] {
            *timeout = Duration::MAX;
        }
        config.limits.max_target_bytes = usize::MAX;
        config.limits.max_content_bytes = usize::MAX;
        config.limits.max_outbox_bytes = usize::MAX;
    });
    let mut client = server.client();
    client.send("GET /a HTTP/1.1\r\nHost: test\r\n");
    client.send("\r\n");
    assert_eq!(client.response().text(), "GET /a ");
    // Close the connection, because the server's drain timeout never expires.
    drop(client);
}

#[test]
fn blocking_handler_does_not_delay_other_requests() {
    let (release, released) = mpsc::channel::<()>();
    let released = Arc::new(Mutex::new(released));
    let handler = move |request: &Request<'_>| -> Outcome {
        let path = request.path().to_owned();
        let released = Arc::clone(&released);
        match path.as_str() {
            "/slow" => Outcome::blocking(move || {
                let released = released.lock().expect("lock is not poisoned");
                let _ = released.recv();
                Response::text("slow")
            }),
            _ => Response::text("fast").into(),
        }
    };
    let server = TestServer::configured(handler, |config| {
        config.workers = Some(1.try_into().expect("nonzero"));
    });
    let mut slow = server.client();
    slow.send("GET /slow HTTP/1.1\r\nHost: test\r\n\r\n");
    let mut fast = server.client();
    for _ in 0..100 {
        assert_eq!(fast.get("/fast").text(), "fast");
    }
    release.send(()).expect("job receives");
    assert_eq!(slow.response().text(), "slow");
}

#[test]
fn handler_panic_is_500_on_usable_connection() {
    let handler = |request: &Request<'_>| -> Outcome {
        match request.path() {
            "/now" => panic!("on purpose"),
            "/later" => Outcome::blocking(|| panic!("on purpose")),
            _ => Response::text("fine").into(),
        }
    };
    let server = TestServer::start(handler);
    let mut client = server.client();
    assert_eq!(client.get("/now").status, 500);
    assert_eq!(client.get("/later").status, 500);
    assert_eq!(client.get("/").text(), "fine");
}

#[test]
fn connection_above_limit_is_503_with_retry_after() {
    let server = TestServer::configured(echo, |config| config.limits.max_connections = Some(2));
    // In the middle of a request, because idle connections would be evicted.
    let mut first = server.client();
    let mut second = server.client();
    for client in [&mut first, &mut second] {
        assert_eq!(client.get("/").status, 200);
        let half =
            "POST / HTTP/1.1\r\nHost: test\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n";
        client.send(half);
        assert_eq!(client.head().status, 100);
    }
    let mut third = server.client();
    let response = third.response();
    assert_eq!(
        (response.status, response.field("Retry-After")),
        (503, Some("1"))
    );
    third.expect_closed();
    drop(first);
    eventually!(|| server.handle.connections() < 2);
    assert_eq!(server.client().get("/").status, 200);
}

#[test]
fn shutdown_finishes_response_in_progress() {
    let (release, released) = mpsc::channel::<()>();
    let (started, has_started) = mpsc::channel::<()>();
    let released = Arc::new(Mutex::new((started, released)));
    let handler = move |_: &Request<'_>| {
        let released = Arc::clone(&released);
        Outcome::blocking(move || {
            let channels = released.lock().expect("lock is not poisoned");
            channels.0.send(()).expect("test receives");
            let _ = channels.1.recv();
            Response::text("finished")
        })
    };
    let mut server = TestServer::configured(handler, |config| {
        config.workers = Some(1.try_into().expect("nonzero"));
    });
    let mut idle = server.client();
    let mut busy = server.client();
    busy.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    has_started.recv().expect("job runs");
    server.handle.shut_down();
    idle.expect_closed();
    release.send(()).expect("job receives");
    let response = busy.response();
    assert_eq!(
        (response.text().as_str(), response.field("Connection")),
        ("finished", Some("close"))
    );
    busy.end_input();
    busy.expect_closed();
    server.join();
    assert!(std::net::TcpStream::connect(server.address).is_err());
}

#[test]
fn wait_for_ended_returns_after_shutdown() {
    let server = TestServer::start(|_: &Request<'_>| Response::text(""));
    assert!(server.handle.wait_for(ServerState::Serving, TIMEOUT));
    assert!(!server.handle.wait_for(ServerState::Ended, Duration::ZERO));
    let handle = server.handle.clone();
    let waits = std::thread::spawn(move || handle.wait_for(ServerState::Ended, Duration::MAX));
    server.handle.shut_down();
    assert!(waits.join().expect("thread does not panic"));
    assert_eq!(server.handle.state(), ServerState::Ended);
}

#[test]
fn shutdown_aborts_response_at_drain_timeout() {
    const LEN: usize = 64 * 1024 * 1024;
    let mut server = TestServer::configured(
        |_: &Request<'_>| Response::text("x".repeat(LEN)),
        |config| config.timeouts.drain = Duration::from_millis(1),
    );
    let mut client = server.client();
    client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    client.head();
    server.handle.shut_down();
    server.join();
    assert_eq!(server.handle.connections(), 0);
    let received = client.rest().expect("read to end of connection");
    assert!(received.len() < LEN, "the response is complete");
}
