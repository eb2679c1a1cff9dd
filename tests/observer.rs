//! Tests of `Observer`: connections by activity, and transfers with what they wait for.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use tws::observe::{BlockedOn, Direction, Transfer};
use tws::{
    Body, BodyStream, ProxyProtocol, Request, Response, StaticFiles, StatusCode, StreamingBody,
};

use crate::admin::{LARGE, MIB, sample_folder};
use crate::support::client::TIMEOUT;
use crate::support::{TestServer, eventually};

#[test]
fn connections_are_counted_by_activity() {
    let (release, released) = mpsc::channel::<()>();
    let released = Arc::new(std::sync::Mutex::new(released));
    let handler = move |request: &Request<'_>| -> tws::Outcome {
        let released = Arc::clone(&released);
        match request.path() {
            "/job" => tws::Outcome::blocking(move || {
                let _ = released.lock().expect("lock is not poisoned").recv();
                Response::text("done")
            }),
            "/large" => Response::text("x".repeat(LARGE)).into(),
            _ => Response::text("fine").into(),
        }
    };
    let server = TestServer::configured(handler, |config| {
        config.proxy_protocol = ProxyProtocol::Required;
        config.timeouts.linger = Duration::from_secs(3600);
    });
    let observer = server.handle.observe();
    let _handshake = server.client();
    let connect = || {
        let mut client = server.client();
        client.send("PROXY UNKNOWN\r\n");
        client
    };
    let mut idle = connect();
    assert_eq!(idle.get("/").status, 200);
    let mut head = connect();
    head.send("GET / HT");
    let mut content = connect();
    content.send("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 10\r\n\r\nfour");
    let mut job = connect();
    job.send("GET /job HTTP/1.1\r\nHost: test\r\n\r\n");
    let mut sending = connect();
    sending
        .send("GET /large HTTP/1.1\r\nHost: test\r\n\r\n")
        .head();
    let mut lingering = connect();
    lingering.send("nonsense\r\n\r\n").response();
    eventually!(|| {
        let report = observer.report(TIMEOUT);
        assert!(report.silent.is_empty());
        // Upgraded connections need a feature, and a test of their own.
        let mut activities = report.connections.named().into_iter();
        activities.all(|(name, count)| count == usize::from(name != "upgraded"))
    });
    // The job is counted as waiting until a thread of the pool takes it.
    eventually!(|| {
        let jobs = observer.totals().jobs;
        (jobs.running, jobs.waiting) == (1, 0)
    });
    drop(release);
    assert_eq!(job.response().text(), "done");
}

/// Waits until the only transfer is as expected, and returns it.
fn transfer(server: &TestServer, expected: impl Fn(&Transfer) -> bool) -> Transfer {
    let observer = server.handle.observe();
    let mut found = None;
    eventually!(|| {
        let mut transfers = observer.report(TIMEOUT).transfers;
        found = transfers.pop();
        assert!(transfers.is_empty());
        found.as_ref().is_some_and(&expected)
    });
    found.expect("one transfer")
}

#[test]
fn slow_client_download_is_reported_blocked_on_client() {
    let folder = sample_folder();
    let server = TestServer::of(folder.path());
    let observer = server.handle.observe();
    let mut client = server.client();
    let field = "Range: bytes=1000-\r\n";
    client
        .send(format!(
            "GET /large.bin?x=1 HTTP/1.1\r\nHost: test\r\n{field}\r\n"
        ))
        .head();
    client.read(MIB);
    let reported = transfer(&server, |transfer| transfer.blocked_on == BlockedOn::Client);
    assert_eq!(
        (reported.method.as_str(), reported.target.as_str()),
        ("GET", "/large.bin?x=1")
    );
    assert_eq!(reported.direction, Direction::Down);
    assert_eq!(
        reported.client,
        client.stream().local_addr().expect("local address")
    );
    assert_eq!(reported.total, Some(LARGE as u64 - 1000));
    assert!(
        (MIB as u64..LARGE as u64 - 1000).contains(&reported.moved),
        "{reported:?}"
    );
    client.read(LARGE - 1000 - MIB);
    eventually!(|| { observer.report(TIMEOUT).transfers.is_empty() });
}

#[test]
fn limited_download_is_reported_blocked_on_bandwidth() {
    let folder = sample_folder();
    let files = StaticFiles::new(folder.path()).expect("open site root");
    let server = TestServer::configured(files, |config| {
        config.limits.bandwidth_per_client = NonZeroU64::new(100_000);
    });
    // Observe before connecting: an event loop that already handles the connection may have checked
    // for observers before.
    let _observer = server.handle.observe();
    let mut client = server.client();
    client
        .send("GET /large.bin HTTP/1.1\r\nHost: test\r\n\r\n")
        .head();
    transfer(&server, |transfer| {
        transfer.blocked_on == BlockedOn::Bandwidth
    });
}

#[test]
fn streamed_body_is_reported_blocked_on_handler_then_client() {
    let (pieces, made) = mpsc::channel::<usize>();
    let made = Arc::new(std::sync::Mutex::new(made));
    let handler = move |_: &Request<'_>| {
        let made = Arc::clone(&made);
        let stream = BodyStream::written(move |out| {
            while let Ok(count) = made.lock().expect("lock is not poisoned").recv() {
                out.write_all(&vec![b'x'; count])?;
                out.flush()?;
            }
            Ok(())
        });
        let stream = stream.with_length(LARGE as u64);
        Response::new(StatusCode::OK).with_body(Body::Stream(stream))
    };
    let server = TestServer::start(handler);
    let _observer = server.handle.observe();
    let mut client = server.client();
    pieces.send(1000).expect("handler receives");
    client
        .send("GET /made HTTP/1.1\r\nHost: test\r\n\r\n")
        .head();
    client.read(1000);
    let reported = transfer(&server, |transfer| {
        transfer.blocked_on == BlockedOn::Handler
    });
    assert_eq!((reported.moved, reported.total), (1000, Some(LARGE as u64)));
    pieces.send(LARGE - 1000).expect("handler receives");
    let reported = transfer(&server, |transfer| transfer.blocked_on == BlockedOn::Client);
    assert_eq!(reported.total, Some(LARGE as u64));
    client.read(LARGE - 1000);
    // The body is complete, and the handler's thread is not waiting for the client.
    drop(pieces);
}

#[test]
fn upload_is_reported_as_transfer_up() {
    let (start, started) = mpsc::channel::<()>();
    let started = Arc::new(std::sync::Mutex::new(started));
    let handler = move |request: &Request<'_>| {
        let mut content = request.reader();
        let started = Arc::clone(&started);
        tws::Outcome::blocking(move || {
            let _ = started.lock().expect("lock is not poisoned").recv();
            let count = std::io::copy(&mut content, &mut std::io::sink());
            Response::text(count.expect("read whole body").to_string())
        })
    };
    let server = TestServer::start(StreamingBody::new(handler, u64::MAX));
    let _observer = server.handle.observe();
    let mut client = server.client();
    let head = format!("PUT /up HTTP/1.1\r\nHost: test\r\nContent-Length: {LARGE}\r\n\r\n");
    client.send(head);
    let reported = transfer(&server, |transfer| transfer.blocked_on == BlockedOn::Client);
    assert_eq!((reported.moved, reported.total), (0, Some(LARGE as u64)));
    assert_eq!(
        (reported.direction, reported.method.as_str()),
        (Direction::Up, "PUT")
    );
    let mut sender = client.stream().try_clone().expect("duplicate descriptor");
    let sending = std::thread::spawn(move || {
        std::io::Write::write_all(&mut sender, &vec![b'x'; LARGE]).expect("send bytes");
    });
    let reported = transfer(&server, |transfer| {
        transfer.blocked_on == BlockedOn::Handler
    });
    assert!(
        reported.moved > 0 && reported.moved < LARGE as u64,
        "{reported:?}"
    );
    start.send(()).expect("handler receives");
    sending.join().expect("thread does not panic");
    assert_eq!(client.response().text(), LARGE.to_string());
}

#[test]
fn unobserved_responses_are_not_counted() {
    let server = TestServer::start(|_: &Request<'_>| Response::text("fine"));
    // An event loop looks for observers when an iteration begins. Of two requests to it, the second one
    // is answered in an iteration that has begun after the first one was sent.
    let begin_iterations = || {
        for _ in 0..2 {
            assert!(server.handle.silent_event_loops(TIMEOUT).is_empty());
        }
    };
    assert_eq!(server.client().get("/").status, 200);
    let observer = server.handle.observe();
    begin_iterations();
    assert_eq!(observer.totals().responses, []);
    assert_eq!(observer.totals().durations.count(), 0);
    assert_eq!(server.client().get("/").status, 200);
    let ok = [(StatusCode::OK, 1)];
    eventually!(|| observer.totals().responses == ok);
    drop(observer);
    begin_iterations();
    assert_eq!(server.client().get("/").status, 200);
    let counted = server.handle.stats().requests;
    assert_eq!(
        (counted, server.handle.observe().totals().responses),
        (3, ok.to_vec())
    );
}
