//! Tests of handlers on a server: streamed bodies in both directions, blocking jobs, panics, limits
//! and shutdown.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use tws::{
    Body, BodyProducer, BodyStream, FileRange, Handler, Outcome, Request, Response, Router, Server,
    StatusCode, StreamingBody,
};

use crate::support::client::TIMEOUT;
use crate::support::{TestServer, eventually, log, pattern};

const MIB: usize = 1024 * 1024;

/// Returns a handler that reads the body, compares it with the pattern, and responds with its
/// length.
fn count(most: u64) -> impl Handler {
    let handle = |request: &Request<'_>| {
        let mut content = request.reader();
        let whole = request.content().len();
        Outcome::blocking(move || {
            let mut all = Vec::new();
            match content.read_to_end(&mut all) {
                Ok(_) => {
                    let right = all == pattern(all.len());
                    Response::text(format!("{} {right} {whole}", all.len()))
                }
                Err(error) => Response::text(format!("not whole: {error}")),
            }
        })
    };
    StreamingBody::new(handle, most)
}

fn post(length: usize) -> String {
    format!("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: {length}\r\n\r\n")
}

#[test]
fn streamed_request_body_is_read_while_received() {
    let server = TestServer::start(count(u64::MAX));
    let mut client = server.client();
    // Many times the limit of a buffered body.
    let content = pattern(20 * MIB);
    client.send(post(content.len())).send(&content);
    assert_eq!(client.response().text(), format!("{} true 0", 20 * MIB));
    // In chunks of many sizes.
    client.send("POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n");
    let mut rest = &content[..3 * MIB];
    for size in (1..).map(|at| at * 997) {
        let (chunk, others) = rest.split_at(size.min(rest.len()));
        client.send(format!("{:x}\r\n", chunk.len())).send(chunk);
        client.send("\r\n");
        rest = others;
        if rest.is_empty() {
            break;
        }
    }
    client.send("0\r\n\r\n");
    assert_eq!(client.response().text(), format!("{} true 0", 3 * MIB));
    // A small body is complete before the handler is called; a body without a length is streamed.
    client.send(post(9)).send(&content[..9]);
    assert_eq!(client.response().text(), "9 true 9");
    let chunked = "POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    client.send(chunked);
    assert_eq!(client.response().text(), "0 true 0");
    assert_eq!(client.get("/").text(), "0 true 0");
}

#[test]
fn expect_continue_with_streamed_body_gets_100() {
    let server = TestServer::start(count(u64::MAX));
    let mut client = server.client();
    let content = pattern(MIB);
    client.send(format!(
        "POST / HTTP/1.1\r\nHost: test\r\nExpect: 100-continue\r\nContent-Length: {MIB}\r\n\r\n"
    ));
    assert_eq!(client.head().status, 100);
    client.send(&content);
    assert_eq!(client.response().text(), format!("{MIB} true 0"));
}

/// A handler that does not read stops its client from sending, and nothing accumulates in memory.
#[test]
fn slow_body_reader_applies_backpressure_to_client() {
    const MOST: usize = 64 * MIB;
    let (release, released) = mpsc::channel::<()>();
    let released = Mutex::new(Some(released));
    let handle = move |request: &Request<'_>| {
        let mut content = request.reader();
        let released = released.lock().expect("lock is not poisoned").take();
        Outcome::blocking(move || {
            if let Some(released) = released {
                let _ = released.recv();
            }
            let count = std::io::copy(&mut content, &mut std::io::sink());
            Response::text(format!("{}", count.expect("read whole body")))
        })
    };
    let most = MOST as u64;
    let server = TestServer::start(StreamingBody::new(handle, most));
    let mut client = server.client();
    client.send(post(MOST));
    let stream = client.stream().try_clone().expect("duplicate descriptor");
    stream
        .set_write_timeout(Some(Duration::from_secs(2)))
        .expect("set write timeout");
    let mut sent = 0;
    let content = vec![b'x'; MIB];
    while let Ok(count) = (&stream).write(&content) {
        sent += count;
        assert!(sent < MOST, "the server takes everything");
    }
    stream
        .set_write_timeout(Some(TIMEOUT))
        .expect("set write timeout");
    drop(release);
    client.send(vec![b'x'; MOST - sent]);
    assert_eq!(client.response().text(), MOST.to_string());
}

#[test]
fn response_before_end_of_body_closes_without_reset() {
    let handle = |_: &Request<'_>| Response::text("no, thanks").with_status(StatusCode::CONFLICT);
    let server = TestServer::start(StreamingBody::new(handle, u64::MAX));
    let mut client = server.client();
    client.send(post(MIB)).send(pattern(1000));
    let response = client.response();
    assert_eq!(
        (response.status, response.text().as_str()),
        (409, "no, thanks")
    );
    assert_eq!(response.field("Connection"), Some("close"));
    // The rest of the body is read and discarded, so the connection is not reset.
    client.send(pattern(MIB - 1000)).end_input();
    client.expect_closed();
}

#[test]
fn invalid_streamed_body_gets_error_status() {
    let server = TestServer::start(count(100_000));
    let impatient = TestServer::configured(count(100_000), |config| {
        config.timeouts.body = Duration::from_millis(50);
    });
    let chunked = "POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n";
    for (server, request, status) in [
        (&server, post(100_001), 413),
        (&server, format!("{chunked}20000\r\n"), 413),
        (&server, format!("{chunked}5\r\nabcdeX"), 400),
        (&impatient, post(100_000), 408),
        (&impatient, format!("{chunked}5\r\nabcde\r\n"), 408),
    ] {
        let mut client = server.client();
        client.send(&request);
        let response = client.response();
        assert_eq!(response.status, status, "{request:?}");
        assert_eq!(response.field("Connection"), Some("close"), "{request:?}");
    }
    let mut client = server.client();
    client.send(post(100_000)).end_input();
    assert_eq!(client.response().status, 400);
}

#[test]
fn body_reader_gets_error_after_client_reset() {
    let (sender, receiver) = mpsc::channel();
    let sender = Mutex::new(sender);
    let handle = move |request: &Request<'_>| {
        let mut content = request.reader();
        let sender = sender.lock().expect("lock is not poisoned").clone();
        Outcome::blocking(move || {
            let result = std::io::copy(&mut content, &mut std::io::sink());
            let _ = sender.send(result.map_err(|error| error.kind()));
            Response::text("too late")
        })
    };
    let server = TestServer::start(StreamingBody::new(handle, u64::MAX));
    let client = server.client();
    let socket = socket2::SockRef::from(client.stream());
    socket
        .set_linger(Some(Duration::ZERO))
        .expect("set linger time");
    (&mut client.stream())
        .write_all(post(MIB).as_bytes())
        .expect("send request head");
    eventually!(|| server.handle.stats().requests == 1);
    drop(client);
    let result = receiver
        .recv_timeout(TIMEOUT)
        .expect("result of the handler");
    assert_eq!(result, Err(std::io::ErrorKind::ConnectionAborted));
    eventually!(|| server.handle.connections() == 0);
}

/// Slow uploads have their own threads, so jobs are not delayed.
#[test]
fn slow_uploads_do_not_block_jobs_and_are_limited() {
    let router = Router::new()
        .post("/", count(u64::MAX))
        .get("/job", |_: &Request<'_>| {
            Outcome::blocking(|| Response::text("done"))
        });
    let server = TestServer::configured(router, |config| {
        // The request that is rejected is handled after the others.
        config.workers = Some(std::num::NonZeroUsize::MIN);
        config.helpers = std::num::NonZeroUsize::MIN;
        config.limits.max_streams = 3;
    });
    let mut slow: Vec<_> = (0..3).map(|_| server.client()).collect();
    for client in &mut slow {
        client.send(post(MIB));
    }
    eventually!(|| server.handle.stats().requests == 3);
    assert_eq!(server.client().get("/job").text(), "done");
    // The number of streamed bodies is limited.
    let response = server.client().send(post(MIB)).response();
    assert_eq!(
        (response.status, response.field("Retry-After")),
        (503, Some("1"))
    );
    for client in &mut slow {
        client.send(pattern(MIB));
        assert_eq!(client.response().text(), format!("{MIB} true 0"));
    }
}

/// The 200 would be followed by nothing until another client has disconnected.
#[test]
fn written_bodies_beyond_the_limit_are_503() {
    let events = || {
        let stream = BodyStream::written_with_cancellation(|out, cancellation| {
            let (sender, is_cancelled) = mpsc::channel::<()>();
            cancellation.on_cancel(move || drop(sender));
            out.write_all(b"first")?;
            out.flush()?;
            let _ = is_cancelled.recv();
            Ok(())
        });
        Response::new(StatusCode::OK).with_body(Body::Stream(stream))
    };
    let router = Router::new()
        .get("/ready", move |_: &Request<'_>| events())
        .get("/job", move |_: &Request<'_>| Outcome::blocking(events))
        .get("/deferred", move |_: &Request<'_>| {
            Outcome::deferred(move |responder| responder.send(events()))
        })
        .post("/", count(u64::MAX));
    let server = TestServer::configured(router, |config| {
        config.limits.max_streams = 2;
        config.timeouts.half_closed = Duration::from_millis(100);
    });
    let get = |path: &str| {
        let mut client = server.client();
        client.send(format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n"));
        let head = client.head();
        (client, head)
    };
    // The response to HEAD needs no thread.
    for _ in 0..5 {
        assert_eq!(server.client().request("HEAD", "/ready", "").status, 200);
    }
    for path in ["/ready", "/job", "/deferred"] {
        // The threads of the responses before may not be free yet.
        let free = |path: &str| {
            let mut opened = get(path);
            eventually!(|| {
                if opened.1.status != 200 {
                    opened = get(path);
                }
                opened.1.status == 200
            });
            opened
        };
        let (mut first, head) = free(path);
        assert_eq!(
            (head.status, first.chunk()),
            (200, b"first".to_vec()),
            "{path}"
        );
        let (mut second, head) = free("/ready");
        assert_eq!((head.status, second.chunk()), (200, b"first".to_vec()));
        for full in ["/ready", "/job", "/deferred"] {
            let (_client, head) = get(full);
            let rejected = (head.status, head.field("Retry-After"));
            assert_eq!(rejected, (503, Some("1")), "{full}");
        }
        // A streamed request body needs a thread as well.
        let response = server.client().send(post(MIB)).response();
        assert_eq!(response.status, 503);
        drop((first, second));
        eventually!(|| server.handle.connections() == 0);
        // The threads are free when the writers have returned.
        eventually!(|| get("/ready").1.status == 200 && get("/ready").1.status == 200);
        eventually!(|| server.handle.connections() == 0);
        // A rejected body may end its connection.
        let upload = [post(3).as_bytes(), &pattern(3)].concat();
        eventually!(|| server.client().send(&upload).response().status == 200);
    }
}

#[test]
fn written_body_arrives_chunked_or_with_length() {
    const LEN: usize = 5 * MIB;
    let handler = |request: &Request<'_>| {
        let stream = BodyStream::written(|out| out.write_all(&pattern(LEN)));
        let stream = match request.path() {
            "/length" => stream.with_length(LEN as u64),
            _ => stream,
        };
        Response::new(StatusCode::OK).with_body(Body::Stream(stream))
    };
    let server = TestServer::start(handler);
    let mut client = server.client();
    client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    assert_eq!(client.head().field("Transfer-Encoding"), Some("chunked"));
    assert!(client.chunks() == pattern(LEN), "the content");
    assert!(client.get("/length").content == pattern(LEN), "the content");
    assert_eq!(
        client.request("HEAD", "/length", "").length(),
        Some(LEN as u64)
    );
    client.send("GET / HTTP/1.0\r\n\r\n");
    client.head();
    assert!(
        client.rest().expect("read to end of connection") == pattern(LEN),
        "the content"
    );
}

/// Flushed bytes are sent before the next ones are written.
#[test]
fn flushed_chunk_is_sent_before_next_write() {
    let (go, gone_on) = mpsc::channel::<()>();
    let steps = Mutex::new(Some(gone_on));
    let server = TestServer::start(move |_: &Request<'_>| {
        let steps = steps
            .lock()
            .expect("lock is not poisoned")
            .take()
            .expect("only one request");
        let stream = BodyStream::written(move |out| {
            for step in steps {
                let () = step;
                out.write_all(b"tick")?;
                out.flush()?;
            }
            Ok(())
        });
        Response::new(StatusCode::OK).with_body(Body::Stream(stream))
    });
    let mut client = server.client();
    client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n").head();
    for _ in 0..3 {
        go.send(()).expect("body writer receives");
        assert_eq!(client.read(9), b"4\r\ntick\r\n");
    }
    drop(go);
    assert_eq!(client.chunks(), b"");
}

/// Returns a handler that writes without end, counts the bytes written, and reports the error that
/// ends it.
fn endless(written: Arc<AtomicUsize>, sender: Sender<std::io::ErrorKind>) -> impl Handler {
    let sender = Mutex::new(sender);
    move |_: &Request<'_>| {
        let written = Arc::clone(&written);
        let sender = sender.lock().expect("lock is not poisoned").clone();
        let stream = BodyStream::written(move |out| {
            loop {
                if let Err(error) = out.write_all(&[b'x'; 1024]) {
                    let _ = sender.send(error.kind());
                    return Err(error);
                }
                written.fetch_add(1024, Ordering::Relaxed);
            }
        });
        Response::new(StatusCode::OK).with_body(Body::Stream(stream))
    }
}

fn endless_server() -> (TestServer, Arc<AtomicUsize>, Receiver<std::io::ErrorKind>) {
    let written = Arc::new(AtomicUsize::new(0));
    let (sender, receiver) = mpsc::channel();
    let server = TestServer::configured(endless(Arc::clone(&written), sender), |config| {
        config.timeouts.send = Duration::from_millis(300);
    });
    (server, written, receiver)
}

#[test]
fn stalled_client_blocks_writer_until_send_timeout() {
    let (server, written, receiver) = endless_server();
    let mut client = server.client();
    client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n").head();
    // The client does not read: the server gives up, and only the bytes in the kernel's buffers
    // were written.
    assert_eq!(
        receiver.recv_timeout(TIMEOUT),
        Ok(std::io::ErrorKind::BrokenPipe)
    );
    assert!(written.load(Ordering::Relaxed) < 32 * MIB);
}

#[test]
fn body_writer_gets_broken_pipe_after_disconnect_or_shutdown() {
    let (server, _, receiver) = endless_server();
    let mut client = server.client();
    client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n").head();
    drop(client);
    assert_eq!(
        receiver.recv_timeout(TIMEOUT),
        Ok(std::io::ErrorKind::BrokenPipe)
    );
    let mut client = server.client();
    client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n").head();
    server.handle.shut_down_within(Duration::ZERO);
    assert_eq!(
        receiver.recv_timeout(TIMEOUT),
        Ok(std::io::ErrorKind::BrokenPipe)
    );
}

#[test]
fn failing_body_writer_truncates_response() {
    let server = TestServer::start(|request: &Request<'_>| {
        let panics = request.path() == "/panic";
        let stream = BodyStream::written(move |out| {
            out.write_all(b"some")?;
            assert!(!panics, "on purpose");
            Err(std::io::Error::other("on purpose"))
        });
        Response::new(StatusCode::OK).with_body(Body::Stream(stream))
    });
    for path in ["/", "/panic"] {
        let mut client = server.client();
        client.send(format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n"));
        assert_eq!(client.head().status, 200);
        let rest = client.rest().expect("read to end of connection");
        assert!(
            !rest.ends_with(b"0\r\n\r\n"),
            "{path}: the end of a content"
        );
    }
}

/// A client of HTTP/1.0 takes the end of the connection for the end of the body, or may.
#[test]
fn http10_response_that_breaks_off_is_reset() {
    let file = tempfile::tempfile().expect("create temporary file");
    file.set_len(100_000).expect("set file length");
    let file = Arc::new(file);
    let handler = move |request: &Request<'_>| {
        let path = request.path().to_owned();
        let body = match &*path {
            "/file" => Body::File(FileRange::new(Arc::clone(&file), 0, 200_000)),
            "/producer" => Body::Stream(BodyStream::produced(|| {
                Err(std::io::Error::other("on purpose"))
            })),
            "/length" => {
                let stream = BodyStream::written(|out| out.write_all(b"some"));
                Body::Stream(stream.with_length(100))
            }
            _ => Body::Stream(BodyStream::written(move |out| {
                out.write_all(b"some")?;
                assert_ne!(path, "/panic", "on purpose");
                match &*path {
                    "/error" => Err(std::io::Error::other("on purpose")),
                    _ => Ok(()),
                }
            })),
        };
        Response::new(StatusCode::OK).with_body(body)
    };
    let server = TestServer::start(handler);
    let end = |path: &str| {
        let mut client = server.client();
        client.send(format!("GET {path} HTTP/1.0\r\n\r\n"));
        client.rest().map_err(|error| error.kind())
    };
    for path in ["/file", "/producer", "/length", "/panic", "/error"] {
        assert_eq!(end(path), Err(ErrorKind::ConnectionReset), "{path}");
    }
    assert!(end("/complete").is_ok_and(|response| response.ends_with(b"some")));
}

/// The log line names the request only if requests are recorded, as with an observer.
#[test]
fn unreadable_file_body_is_500_and_logged_with_request() {
    log::keep_errors();
    let handler = |_: &Request<'_>| {
        let folder = std::fs::File::open("/").expect("open directory");
        let range = FileRange::new(Arc::new(folder), 0, 1 << 20);
        Response::new(StatusCode::OK).with_body(Body::File(range))
    };
    let server = TestServer::start(handler);
    let _observer = server.handle.observe();
    assert_eq!(server.client().get("/unreadable-1").status, 500);
    eventually!(|| {
        let errors = log::errors_with("/unreadable-1");
        errors.iter().any(|error| {
            error.starts_with("\"GET /unreadable-1 HTTP/1.1\": cannot read the file: ")
        })
    });
}

#[test]
fn handler_panic_is_500_and_logged_with_request() {
    log::keep_errors();
    let router = Router::new()
        .get("/", |_: &Request<'_>| Response::text("fine"))
        .get("/now", |_: &Request<'_>| -> Response {
            panic!("on purpose")
        })
        .get("/job", |_: &Request<'_>| {
            Outcome::blocking(|| panic!("on purpose"))
        })
        .get("/later", |_: &Request<'_>| {
            Outcome::deferred(|_| panic!("on purpose"))
        })
        .get("/change", |_: &Request<'_>| {
            let made = Outcome::deferred(|responder| responder.send(StatusCode::OK));
            made.map(|_| panic!("on purpose"))
        })
        .get("/both", |_: &Request<'_>| {
            // The second panic occurs while the stack of the first is unwound.
            let made = Outcome::deferred(|_| panic!("on purpose"));
            made.map(|_| panic!("on purpose"))
        });
    let server = TestServer::configured(router, |config| {
        config.workers = Some(std::num::NonZeroUsize::MIN);
    });
    let mut other = server.client();
    assert_eq!(other.get("/").text(), "fine");
    let mut client = server.client();
    let table = [
        ("/now", "the handler"),
        ("/job", "the handler"),
        ("/later", "the handler"),
        ("/change", "middleware"),
        ("/both", "the handler"),
    ];
    for (path, who) in table {
        let target = format!("{path}?in=the&log=too");
        assert_eq!(client.get(&target).status, 500, "{path}");
        assert_eq!(other.get("/").text(), "fine");
        let error = format!("GET \"{target}\": {who} panicked");
        // The response may arrive before the log line.
        eventually!(|| log::errors_with(&target).contains(&error));
    }
}

#[test]
fn jobs_above_queue_limit_are_503() {
    let (release, released) = mpsc::channel::<()>();
    let released = Arc::new(Mutex::new(released));
    let router = Router::new()
        .get("/", |_: &Request<'_>| Response::text("fine"))
        .get("/job", move |_: &Request<'_>| {
            let released = Arc::clone(&released);
            Outcome::blocking(move || {
                let _ = released.lock().expect("lock is not poisoned").recv();
                Response::text("done")
            })
        });
    let server = TestServer::configured(router, |config| {
        // The request that is rejected is handled after the others.
        config.workers = Some(std::num::NonZeroUsize::MIN);
        config.helpers = std::num::NonZeroUsize::new(2).expect("nonzero");
        config.limits.max_waiting_jobs = 3;
    });
    let mut waiting: Vec<_> = (0..5).map(|_| server.client()).collect();
    for client in &mut waiting {
        client.send("GET /job HTTP/1.1\r\nHost: test\r\n\r\n");
    }
    eventually!(|| server.handle.stats().requests == 5);
    let response = server.client().get("/job");
    assert_eq!(
        (response.status, response.field("Retry-After")),
        (503, Some("1"))
    );
    assert_eq!(server.client().get("/").text(), "fine");
    drop(release);
    for client in &mut waiting {
        assert_eq!(client.response().text(), "done");
    }
}

#[test]
fn two_servers_in_one_process_have_separate_stats() {
    let named = |name: &'static str| move |_: &Request<'_>| Response::text(name);
    let first = TestServer::start(named("first"));
    let second = TestServer::start(named("second"));
    let mut kept = first.client();
    assert_eq!(kept.get("/").text(), "first");
    assert_eq!(second.client().get("/").text(), "second");
    assert_eq!(second.client().get("/").text(), "second");
    let counts = second.handle.stats();
    assert_eq!(
        (counts.accepted, counts.requests, counts.rejected),
        (2, 2, 0)
    );
    drop(second);
    let counts = first.handle.stats();
    assert_eq!(
        (counts.connections, counts.accepted, counts.requests),
        (1, 1, 1)
    );
    assert_eq!(kept.get("/").text(), "first");
}

/// 200,000 deferred outcomes, in each other or made one after the other, neither overflow a stack nor
/// keep the event loop.
#[test]
fn chains_of_deferred_outcomes_are_bounded() {
    fn endless() -> Outcome {
        Outcome::deferred(|responder| responder.send(endless()))
    }
    fn nested(depth: usize) -> Outcome {
        (0..depth).fold(Response::text("end").into(), |inner, _| {
            Outcome::deferred(move |responder| responder.send(inner))
        })
    }
    let router = Router::new()
        .get("/", |_: &Request<'_>| Response::text("fine"))
        .get("/few", |_: &Request<'_>| nested(100))
        .get("/many", |_: &Request<'_>| nested(200_000))
        .get("/endless", |_: &Request<'_>| endless());
    let server = TestServer::configured(router, |config| {
        config.workers = Some(std::num::NonZeroUsize::MIN);
    });
    let mut client = server.client();
    for (path, status) in [("/few", 200), ("/many", 500), ("/endless", 500), ("/", 200)] {
        assert_eq!(client.get(path).status, status, "{path}");
    }
}

#[test]
fn shut_down_within_shortens_running_drain() {
    let (_release, released) = mpsc::channel::<()>();
    let released = Arc::new(Mutex::new(released));
    let handler = move |_: &Request<'_>| {
        let released = Arc::clone(&released);
        Outcome::deferred(move |responder| {
            std::thread::spawn(move || {
                let _ = released.lock().expect("lock is not poisoned").recv();
                drop(responder);
            });
        })
    };
    let mut server = TestServer::configured(handler, |config| {
        config.timeouts.drain = Duration::from_secs(3600);
    });
    let mut client = server.client();
    client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    eventually!(|| server.handle.stats().requests == 1);
    server.handle.shut_down();
    eventually!(|| TcpStream::connect(server.address).is_err());
    server.handle.shut_down_within(Duration::ZERO);
    server.join();
    assert!(client.rest().is_ok_and(|rest| rest.is_empty()));
    let _ = client.stream().shutdown(Shutdown::Both);
}

/// The example of the crate's front page.
#[test]
fn front_page_example_routes_answer_and_taken_port_is_error() {
    let router = Router::new()
        .get("/", |_: &Request<'_>| Response::text("Homepage\n"))
        .get("/hello/{name}", |r: &Request<'_>| {
            Response::text(format!("hello {}", r.param_str("name").unwrap_or("")))
        })
        .fallback(|_: &Request<'_>| {
            Response::text("Page not found\n").with_status(StatusCode::NOT_FOUND)
        });
    let server = TestServer::start(router);
    let mut client = server.client();
    for (path, status, text) in [
        ("/", 200, "Homepage\n"),
        ("/hello/Ana", 200, "hello Ana"),
        ("/x", 404, "Page not found\n"),
    ] {
        let response = client.get(path);
        assert_eq!(
            (response.status, response.text().as_str()),
            (status, text),
            "{path}"
        );
    }
    let mut taken = tws::Config::default();
    taken.port = server.address.port();
    let error = Server::bind(taken).expect_err("port in use");
    assert!(error.to_string().contains("--port"), "{error}");
}

/// Panics when it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("on purpose");
    }
}

impl BodyProducer for Bomb {
    fn next_piece(&mut self) -> std::io::Result<Option<Bytes>> {
        Ok(None)
    }
}

/// Panics when it is dropped, with a value that does the same.
struct NestedBomb;

impl Drop for NestedBomb {
    fn drop(&mut self) {
        std::panic::panic_any(Bomb);
    }
}

#[test]
fn panics_of_destructors_end_no_thread() {
    let stream = |stream| Response::new(StatusCode::OK).with_body(Body::Stream(stream));
    let router = Router::new()
        .get("/", |_: &Request<'_>| Response::text("fine"))
        .get("/job", |_: &Request<'_>| {
            Outcome::blocking(|| Response::text("done"))
        })
        .get("/producer-ends", move |_: &Request<'_>| {
            stream(BodyStream::produced(Bomb))
        })
        .get("/producer-fails", move |_: &Request<'_>| {
            let bomb = Bomb;
            stream(BodyStream::produced(move || {
                let _ = &bomb;
                Err(std::io::ErrorKind::Other.into())
            }))
        })
        .get("/producer-of-head", move |request: &Request<'_>| {
            assert_eq!(request.method(), "HEAD");
            stream(BodyStream::produced(Bomb))
        })
        .get("/writer", move |_: &Request<'_>| {
            let bomb = Bomb;
            stream(BodyStream::written(move |_| {
                let _ = &bomb;
                Ok(())
            }))
        })
        .get("/job-owns", |_: &Request<'_>| {
            let bomb = NestedBomb;
            Outcome::blocking(move || {
                let _ = &bomb;
                Response::text("done")
            })
        })
        .get("/handed-over", |_: &Request<'_>| {
            let bomb = NestedBomb;
            Outcome::deferred(move |responder| {
                let _ = &bomb;
                responder.send(StatusCode::OK);
            })
        })
        .get("/now", |_: &Request<'_>| -> Response {
            std::panic::panic_any(NestedBomb)
        });
    let mut server = TestServer::configured(router, |config| {
        config.workers = Some(std::num::NonZeroUsize::MIN);
        config.helpers = std::num::NonZeroUsize::MIN;
        config.limits.max_streams = 1;
    });
    let paths = [
        "/producer-ends",
        "/producer-fails",
        "/producer-of-head",
        "/writer",
        "/job-owns",
        "/handed-over",
        "/now",
    ];
    for path in paths {
        let method = match path {
            "/producer-of-head" => "HEAD",
            _ => "GET",
        };
        for _ in 0..2 {
            let mut client = server.client();
            client.send(format!(
                "{method} {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"
            ));
            client.rest_or_reset();
        }
        assert_eq!(server.client().get("/job").text(), "done", "{path}");
        assert_eq!(server.client().get("/").text(), "fine", "{path}");
    }
    server.handle.shut_down();
    server.join();
}

#[test]
fn panic_of_a_replaced_handler_when_dropped_ends_no_thread() {
    struct Replaced {
        _bomb: Bomb,
        dropped: Sender<()>,
    }

    impl Handler for Replaced {
        fn handle(&self, _: &Request<'_>) -> Outcome {
            StatusCode::OK.into()
        }
    }

    impl Drop for Replaced {
        fn drop(&mut self) {
            let _ = self.dropped.send(());
        }
    }

    let (sender, receiver) = mpsc::channel();
    let handler = || Replaced {
        _bomb: Bomb,
        dropped: sender.clone(),
    };
    let mut server = TestServer::start(handler());
    for _ in 0..2 {
        let config = tws::Config::default();
        let reloaded = server.handle.reload(handler(), &config);
        reloaded.expect("settings that are valid");
        receiver
            .recv_timeout(TIMEOUT)
            .expect("the replaced handler");
        assert_eq!(server.client().get("/").status, 200);
    }
    server.handle.shut_down();
    server.join();
    receiver.recv_timeout(TIMEOUT).expect("the last handler");
}
