//! Tests of clients that disconnect while a handler makes their response: the handler is told, and its
//! thread and the descriptor are released.

use std::io::{ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use bytes::Bytes;
use socket2::SockRef;
use tws::{
    Body, BodyStream, Config, Http2, Method, Outcome, Request, Responder, Response, Router,
    StatusCode, StreamingBody,
};

use crate::support::client::TIMEOUT;
use crate::support::h2::H2Client;
use crate::support::h2::frame::{CANCEL, Frame};
use crate::support::{Client, TestServer, eventually};

const GET: &str = "GET / HTTP/1.1\r\nHost: test\r\n\r\n";

/// Longer than any test.
const NEVER: Duration = Duration::from_secs(3600);

/// Starts a server whose handler passes its responders on.
fn deferring(change: impl FnOnce(&mut Config)) -> (TestServer, Receiver<Responder>) {
    let (sender, responders) = mpsc::channel();
    let handler = move |_: &Request<'_>| {
        let sender = sender.clone();
        Outcome::deferred(move |responder| sender.send(responder).expect("test receives"))
    };
    (TestServer::configured(handler, change), responders)
}

fn next<T>(receiver: &Receiver<T>) -> T {
    receiver.recv_timeout(TIMEOUT).expect("a message")
}

/// Makes dropping the client a reset.
fn reset(client: Client) {
    let linger = Some(Duration::ZERO);
    SockRef::from(client.stream())
        .set_linger(linger)
        .expect("set linger time");
    drop(client);
}

/// Asserts that the exchange of `responder` is cancelled and that the server has no connection.
fn expect_cancelled(server: &TestServer, responder: &Responder) {
    let (sender, called) = mpsc::channel();
    responder.on_cancel(move || sender.send(()).expect("test receives"));
    next(&called);
    assert!(responder.is_cancelled());
    eventually!(|| server.handle.connections() == 0);
}

#[test]
fn reset_cancels_deferred_response() {
    let (server, responders) = deferring(|config| config.timeouts.half_closed = NEVER);
    let mut client = server.client();
    client.send(GET);
    let responder = next(&responders);
    assert!(!responder.is_cancelled());
    reset(client);
    expect_cancelled(&server, &responder);
    // It goes nowhere.
    responder.send(StatusCode::OK);
}

/// Over HTTP/2 a stream ends on its own, and all end with their connection.
#[test]
fn reset_of_stream_or_connection_cancels_deferred_responses() {
    let (server, responders) = deferring(|config| {
        config.http2 = Http2::All;
        config.timeouts.half_closed = NEVER;
    });
    let mut client = H2Client::connect(server.address);
    let mut request = |path: &str| {
        let stream = client.request("GET", path, &[]);
        (stream, next(&responders))
    };
    let [
        (first, first_responder),
        (second, second_responder),
        (_, third_responder),
    ] = ["/1", "/2", "/3"].map(&mut request);
    let (sender, called) = mpsc::channel();
    first_responder.on_cancel(move || sender.send(()).expect("test receives"));
    client.send_frame(&Frame::reset(first, CANCEL));
    next(&called);
    assert!(!second_responder.is_cancelled() && !third_responder.is_cancelled());
    second_responder.send(Response::text("second"));
    assert_eq!(client.response(second).text(), "second");
    // It goes nowhere.
    first_responder.send(StatusCode::OK);
    client.ping();
    let linger = Some(Duration::ZERO);
    SockRef::from(client.socket())
        .set_linger(linger)
        .expect("set linger time");
    drop(client);
    expect_cancelled(&server, &third_responder);
}

#[test]
fn closed_unix_socket_cancels_deferred_response() {
    let folder = tempfile::tempdir().expect("create temporary directory");
    let path = folder.path().join("socket");
    let endpoint = format!("unix:{}", path.display());
    let (server, responders) = deferring(|config| {
        config
            .addresses
            .push(endpoint.parse().expect("valid endpoint"));
        config.timeouts.half_closed = NEVER;
    });
    let mut client = UnixStream::connect(&path).expect("connect");
    client.write_all(GET.as_bytes()).expect("send request");
    let responder = next(&responders);
    drop(client);
    expect_cancelled(&server, &responder);
}

/// Whether the client has closed its connection or only its sending side cannot be seen.
#[test]
fn closed_connection_cancels_deferred_response_after_half_closed_timeout() {
    let (server, responders) = deferring(|config| {
        config.timeouts.half_closed = Duration::from_millis(200);
    });
    let mut client = server.client();
    client.send(GET);
    let responder = next(&responders);
    drop(client);
    expect_cancelled(&server, &responder);
    drop(responder);
    // A client whose sending side is open waits for as long as it takes.
    let mut client = server.client();
    client.send(GET);
    let responder = next(&responders);
    std::thread::spawn(move || {
        std::thread::park_timeout(Duration::from_millis(600));
        responder.send(StatusCode::IM_A_TEAPOT);
    });
    assert_eq!(client.response().status, 418);
}

#[test]
fn half_closed_client_gets_deferred_response() {
    let (server, responders) = deferring(|config| config.timeouts.half_closed = NEVER);
    let called = Arc::new(AtomicBool::new(false));
    for request in [GET, "GET / HTTP/1.0\r\n\r\n"] {
        let mut client = server.client();
        client.send(request).end_input();
        let responder = next(&responders);
        let calls = Arc::clone(&called);
        responder.on_cancel(move || calls.store(true, Ordering::Relaxed));
        responder.send(StatusCode::IM_A_TEAPOT);
        assert_eq!(client.response().status, 418);
        client.expect_closed();
    }
    eventually!(|| server.handle.connections() == 0);
    assert!(
        !called.load(Ordering::Relaxed),
        "cancelled after the response"
    );
}

/// The connection is closed, and the flag of the responder set, when the server cuts it.
#[test]
fn shutdown_cancels_deferred_response() {
    let (mut server, responders) = deferring(|_| {});
    let mut client = server.client();
    client.send(GET);
    let responder = next(&responders);
    server.handle.shut_down_within(Duration::ZERO);
    server.join();
    assert!(responder.is_cancelled());
    client.expect_closed();
}

/// The connection does not read, as its pipe is full, and so does not see the reset in a read.
#[test]
fn reset_ends_body_that_is_not_read() {
    let (sender, readers) = mpsc::channel();
    let handler = move |request: &Request<'_>| -> Outcome {
        if request.method() == Method::GET {
            return StatusCode::OK.into();
        }
        let (sender, reader) = (sender.clone(), request.reader());
        Outcome::deferred(move |responder| {
            sender.send((responder, reader)).expect("test receives");
        })
    };
    let handler = StreamingBody::new(handler, u64::MAX);
    let server = TestServer::configured(handler, |config| {
        config.workers = Some(std::num::NonZeroUsize::MIN);
        config.timeouts.half_closed = NEVER;
    });
    let mut client = server.client();
    client.send("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 1000000000\r\n\r\n");
    let (responder, mut reader) = next(&readers);
    client
        .stream()
        .set_nonblocking(true)
        .expect("set non-blocking mode");
    // The server has stopped reading when the other client was answered many times meanwhile.
    let mut other = server.client();
    let mut answers_since_progress = 0;
    while answers_since_progress < 20 {
        match client.stream().write(&[b'x'; 64 * 1024]) {
            Ok(count) => {
                assert!(count > 0);
                answers_since_progress = 0;
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                assert_eq!(other.get("/").status, 200);
                answers_since_progress += 1;
            }
        }
    }
    reset(client);
    drop(other);
    expect_cancelled(&server, &responder);
    let error = std::io::copy(&mut reader, &mut std::io::sink()).expect_err("incomplete body");
    assert_eq!(error.kind(), ErrorKind::ConnectionAborted);
}

/// A body that waits for events holds one of the threads, until it is told.
#[test]
fn waiting_writer_is_told_of_reset() {
    let waits = |_: &Request<'_>| {
        let stream = BodyStream::written_with_cancellation(|out, cancellation| {
            let (sender, is_cancelled) = mpsc::channel();
            cancellation.on_cancel(move || drop(sender));
            out.write_all(b"first")?;
            out.flush()?;
            // Until the sender is dropped.
            let _: Result<(), _> = is_cancelled.recv();
            Ok(())
        });
        Response::new(StatusCode::OK).with_body(Body::Stream(stream))
    };
    let ends = |_: &Request<'_>| {
        let stream = BodyStream::written(|out| out.write_all(b"all"));
        Response::new(StatusCode::OK).with_body(Body::Stream(stream.with_length(3)))
    };
    let router = Router::new().get("/", waits).get("/ends", ends);
    let server = TestServer::configured(router, |config| {
        config.limits.max_streams = 1;
        config.timeouts.half_closed = Duration::from_millis(200);
    });
    let resets: fn(Client) = reset;
    for disconnect in [resets, drop] {
        // The thread of the response before may not be free yet.
        let mut client = server.client();
        eventually!(|| {
            client = server.client();
            client.send(GET).head().status == 200
        });
        assert_eq!(client.chunk(), b"first");
        disconnect(client);
        eventually!(|| server.handle.connections() == 0);
        // Its thread is free again.
        eventually!(|| server.client().get("/ends").status == 200);
    }
}

#[test]
fn producer_of_empty_pieces_ends_the_response() {
    let pieces = Arc::new(AtomicUsize::new(0));
    let made = Arc::clone(&pieces);
    let handler = move |_: &Request<'_>| {
        let made = Arc::clone(&made);
        let stream = BodyStream::produced(move || {
            made.fetch_add(1, Ordering::Relaxed);
            Ok(Some(Bytes::new()))
        });
        Response::new(StatusCode::OK).with_body(Body::Stream(stream))
    };
    let server = TestServer::start(handler);
    let mut client = server.client();
    client.send(GET).head();
    // Without the last chunk.
    client.expect_closed();
    assert!(pieces.load(Ordering::Relaxed) <= 100);
}

#[test]
fn empty_piece_between_others_is_skipped() {
    let handler = |_: &Request<'_>| {
        let mut pieces = vec!["c", "", "b", "", "", "a", ""];
        let stream = BodyStream::produced(move || {
            Ok(pieces
                .pop()
                .map(|piece| Bytes::from_static(piece.as_bytes())))
        });
        Response::new(StatusCode::OK).with_body(Body::Stream(stream))
    };
    let server = TestServer::start(handler);
    let mut client = server.client();
    client.send(GET).head();
    assert_eq!(client.chunks(), b"abc");
}
