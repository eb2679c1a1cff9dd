//! Tests of HTTP/2 on sockets: how it is negotiated, files, bodies in both directions, many streams at
//! once, cancellation, shutdown.

use std::fs;
use std::io::Read;
use std::net::Shutdown;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use tempfile::TempDir;
use tws::access_log::{AccessLog, Format, LogDestination};
use tws::{
    Body, BodyStream, Config, FileRange, Handler, Http2, Outcome, Request, Response, StaticFiles,
    StatusCode, StreamingBody,
};

use crate::support::h2::H2Client;
use crate::support::h2::frame::{
    CANCEL, Frame, INTERNAL_ERROR, NO_ERROR, PREFACE, PROTOCOL_ERROR, SETTINGS,
};
use crate::support::{Client, TestServer, TwsProcess, eventually, pattern};

const MIB: usize = 1 << 20;

/// A server that speaks HTTP/2 without TLS.
pub(crate) fn serve(handler: impl Handler + 'static) -> TestServer {
    configured(handler, |_| {})
}

pub(crate) fn configured(
    handler: impl Handler + 'static,
    change: impl FnOnce(&mut Config),
) -> TestServer {
    TestServer::configured(handler, |config| {
        config.http2 = Http2::All;
        change(config);
    })
}

pub(crate) fn hello(_: &Request<'_>) -> Response {
    Response::text("hello\n")
}

/// A folder with a file of each size, which is its name.
fn folder_of(sizes: &[usize]) -> TempDir {
    let folder = tempfile::tempdir().expect("create temporary directory");
    for size in sizes {
        fs::write(folder.path().join(size.to_string()), pattern(*size)).expect("write file");
    }
    folder
}

#[test]
fn prior_knowledge_is_accepted_only_with_all() {
    for (http2, is_spoken) in [(Http2::Off, false), (Http2::Tls, false), (Http2::All, true)] {
        let server = TestServer::configured(hello, |config| config.http2 = http2);
        if is_spoken {
            assert_eq!(H2Client::connect(server.address).get("/").text(), "hello\n");
        } else {
            let mut client = server.client();
            client.send(PREFACE);
            assert_eq!(client.response().status, 505, "{http2:?}");
        }
        // HTTP/1.1 on the same port.
        assert_eq!(server.client().get("/").status, 200);
    }
}

#[test]
fn preface_may_arrive_in_any_parts() {
    let server = serve(hello);
    for split in 1..PREFACE.len() {
        let mut client = Client::connect(server.address);
        let (first, second) = PREFACE.split_at(split);
        client.send(first);
        // So that the parts are read one by one.
        eventually!(|| server.handle.connections() > 0);
        client.send(second);
        client.send(Frame::settings(&[]).encode());
        let header = client.read(9);
        assert_eq!(header[3], SETTINGS, "{split}");
    }
}

#[test]
fn beginning_that_is_no_preface_is_http1_or_an_error() {
    let server = serve(hello);
    let mut client = server.client();
    client.send("PRINT / HTTP/1.1\r\nHost: test\r\n\r\n");
    assert_eq!(client.response().status, 200);
    let mut client = server.client();
    // A request before it: the preface is no longer the beginning.
    assert_eq!(client.get("/").status, 200);
    client.send(PREFACE);
    assert_eq!(client.response().status, 505);
    // The rest differs, after the server has begun to speak HTTP/2.
    let mut client = server.client();
    client.send(&PREFACE[..20]);
    let mut bytes = client.read(9);
    client.send("wrong");
    bytes.extend(client.rest_or_reset());
    let mut bytes = &bytes[..];
    let mut frames = Vec::new();
    while let Some(frame) = Frame::read(&mut bytes).expect("whole frames") {
        frames.push(frame);
    }
    let last = frames.last().expect("a frame");
    assert_eq!(last.goaway(), (0, PROTOCOL_ERROR), "{frames:?}");
}

#[test]
fn files_of_every_size_arrive_complete() {
    let sizes = [
        0,
        1,
        4096,
        16_375,
        16_384,
        32_768,
        65_536,
        100_000,
        MIB,
        5 * MIB + 7,
    ];
    let folder = folder_of(&sizes);
    let server = serve(StaticFiles::new(folder.path()).expect("open site root"));
    let mut client = H2Client::connect(server.address);
    for size in sizes {
        let response = client.get(&format!("/{size}"));
        assert_eq!(response.status(), 200);
        let length = response.field("content-length").map(str::to_owned);
        assert_eq!(length, Some(size.to_string()));
        assert!(response.content == pattern(size), "{size}");
    }
    // All at once.
    let streams = sizes.map(|size| (size, client.request("GET", &format!("/{size}"), &[])));
    for (size, stream) in streams {
        assert!(client.response(stream).content == pattern(size), "{size}");
    }
}

#[test]
fn ranges_conditions_and_head_work_as_in_http1() {
    let folder = folder_of(&[100_000]);
    let server = serve(StaticFiles::new(folder.path()).expect("open site root"));
    let mut client = H2Client::connect(server.address);
    let mut exchange = |method: &str, path: &str, fields: &[(&str, &str)]| {
        let stream = client.request(method, path, fields);
        client.response(stream)
    };
    let whole = exchange("GET", "/100000", &[]);
    let part = exchange("GET", "/100000", &[("range", "bytes=10-19")]);
    assert_eq!(
        (part.status(), &part.content[..]),
        (206, &pattern(20)[10..])
    );
    let etag = whole.field("etag").expect("an entity tag");
    let same = exchange("GET", "/100000", &[("if-none-match", etag)]);
    assert_eq!((same.status(), same.content.len()), (304, 0));
    let head = exchange("HEAD", "/100000", &[]);
    assert_eq!((head.status(), head.content.len()), (200, 0));
    assert_eq!(head.field("content-length"), Some("100000"));
    assert_eq!(exchange("GET", "/none", &[]).status(), 404);
    assert_eq!(exchange("POST", "/100000", &[]).status(), 405);
    assert!(
        whole
            .fields
            .iter()
            .all(|(name, _)| name != "connection" && name != "keep-alive")
    );
}

/// Answers with the body of the request, each path in its own way.
fn echo(request: &Request<'_>) -> Outcome {
    let content = request.content().to_vec();
    match request.path() {
        "/blocking" => Outcome::blocking(move || bytes(content)),
        "/produced" => {
            let mut chunks: Vec<_> = content.chunks(1000).map(<[u8]>::to_vec).collect();
            chunks.reverse();
            let body = BodyStream::produced(move || Ok(chunks.pop().map(Into::into)));
            Response::new(StatusCode::OK)
                .with_body(Body::Stream(body))
                .into()
        }
        "/written" => {
            let length = content.len() as u64;
            let body = BodyStream::written(move |out| {
                content
                    .chunks(1000)
                    .try_for_each(|chunk| out.write_all(chunk))
            });
            let body = Body::Stream(body.with_length(length));
            Response::new(StatusCode::OK).with_body(body).into()
        }
        _ => bytes(content).into(),
    }
}

fn bytes(content: Vec<u8>) -> Response {
    Response::new(StatusCode::OK).with_body(Body::Bytes(content.into()))
}

#[test]
fn bodies_of_every_kind_are_echoed() {
    let server = serve(echo);
    let mut client = H2Client::connect(server.address);
    let bodies = [0, 1, 65_535, 65_536, 700_000].map(pattern);
    for path in ["/", "/blocking", "/produced", "/written"] {
        for body in &bodies {
            let stream = client.upload("POST", path, &[], body);
            let response = client.response(stream);
            assert_eq!((response.status(), response.reset), (200, None), "{path}");
            assert!(response.content == *body, "{path} {}", body.len());
        }
    }
    let streams = ["/", "/blocking", "/produced", "/written"]
        .map(|path| client.upload("POST", path, &[], &bodies[3]));
    for stream in streams {
        assert!(client.response(stream).content == bodies[3]);
    }
}

#[test]
fn streamed_request_body_is_read_while_it_is_sent() {
    let (sender, received) = mpsc::channel();
    let handle = move |request: &Request<'_>| {
        let (mut reader, sender) = (request.reader(), sender.clone());
        Outcome::blocking(move || {
            let (mut buffer, mut total) = (vec![0; 100_000], 0);
            loop {
                match reader.read(&mut buffer) {
                    Ok(0) => return Response::text(total.to_string()),
                    Ok(count) => total += count,
                    Err(_) => return Response::new(StatusCode::INTERNAL_SERVER_ERROR),
                }
                let _ = sender.send(total);
            }
        })
    };
    let server = serve(StreamingBody::new(handle, 1 << 30));
    let mut client = H2Client::connect(server.address);
    let head = client.head("PUT", "/", &[]);
    client.send_frame(&head);
    client.send_data(head.stream, &pattern(100), 0);
    // The handler has it before the body ends.
    assert_eq!(received.recv(), Ok(100));
    client.send_body(head.stream, &pattern(3 * MIB));
    assert_eq!(
        client.response(head.stream).text(),
        (3 * MIB + 100).to_string()
    );
}

#[test]
fn expect_continue_is_answered_before_the_body() {
    let server = serve(echo);
    let mut client = H2Client::connect(server.address);
    let head = client.head(
        "POST",
        "/",
        &[("expect", "100-continue"), ("content-length", "4")],
    );
    client.send_frame(&head);
    client.receive_until(|client| !client.so_far(head.stream).interim.is_empty());
    client.send_body(head.stream, b"four");
    let response = client.response(head.stream);
    assert_eq!(
        (&response.interim[..], response.text()),
        (&[100][..], "four")
    );
}

/// The connection goes on after a stream whose body cannot be completed.
#[test]
fn body_that_breaks_off_resets_its_stream_only() {
    let file = tempfile::tempfile().expect("create temporary file");
    file.set_len(200_000).expect("set file length");
    let file = Arc::new(file);
    let handler = move |request: &Request<'_>| {
        let body = match request.path() {
            "/shrunk" => Body::File(FileRange::new(Arc::clone(&file), 0, 300_000)),
            "/error" => Body::Stream(BodyStream::produced(|| {
                Err(std::io::Error::other("on purpose"))
            })),
            "/panic" => Body::Stream(BodyStream::written(|_| panic!("on purpose"))),
            "/short" => {
                let stream = BodyStream::written(|out| out.write_all(b"some"));
                Body::Stream(stream.with_length(100))
            }
            _ => Body::Bytes("fine".into()),
        };
        Response::new(StatusCode::OK).with_body(body)
    };
    let server = serve(handler);
    let mut client = H2Client::connect(server.address);
    for path in ["/shrunk", "/error", "/panic", "/short"] {
        let response = client.get(path);
        assert!(response.reset.is_some(), "{path}: {:?}", response.fields);
        assert_eq!(client.get("/").text(), "fine");
    }
}

/// The length and the validators that were announced are those of the old content.
#[test]
fn file_rewritten_while_it_is_sent_resets_its_stream() {
    let folder = folder_of(&[MIB]);
    let server = serve(StaticFiles::new(folder.path()).expect("open site root"));
    let mut client = H2Client::connect(server.address);
    client.keep_windows();
    let stream = client.request("GET", &format!("/{MIB}"), &[]);
    client.receive_until(|client| client.content_len(stream) == 65_535);
    let path = folder.path().join(MIB.to_string());
    fs::write(path, vec![b'x'; MIB]).expect("write file");
    for stream in [0, stream] {
        client.send_frame(&Frame::window_update(stream, 1 << 24));
    }
    assert_eq!(client.response(stream).reset, Some(INTERNAL_ERROR));
    assert_eq!(client.get("/none").status(), 404);
}

#[test]
fn reset_stream_stops_its_body_and_is_logged_as_aborted() {
    let folder = tempfile::tempdir().expect("create temporary directory");
    let path = folder.path().join("log");
    let log = AccessLog::start(Format::Json, &[LogDestination::File(path.clone())]);
    let log = log.expect("start access log");
    let (ended, has_ended) = mpsc::channel();
    let handler = move |request: &Request<'_>| {
        if request.path() == "/" {
            return Response::text("fine");
        }
        let ended = ended.clone();
        let body = BodyStream::written(move |out| {
            let result = std::iter::repeat(()).try_for_each(|()| out.write_all(&[b'x'; 10_000]));
            let _ = ended.send(result.is_err());
            result
        });
        Response::new(StatusCode::OK).with_body(Body::Stream(body))
    };
    let mut server = TestServer::with(
        handler,
        |config| config.http2 = Http2::All,
        |server| server.with_access_log(log),
    );
    let mut client = H2Client::connect(server.address);
    let stream = client.request("GET", "/endless", &[]);
    client.receive_until(|client| client.content_len(stream) > 100_000);
    client.send_frame(&Frame::reset(stream, CANCEL));
    assert_eq!(has_ended.recv(), Ok(true), "the writer gets an error");
    assert_eq!(client.get("/").text(), "fine");
    drop(client);
    server.handle.shut_down();
    server.join();
    let log = fs::read_to_string(&path).expect("read log");
    let line = |target: &str| {
        let line = log.lines().find(|line| line.contains(target));
        let line = line.unwrap_or_else(|| panic!("{target} in {log}"));
        serde_json::from_str::<serde_json::Value>(line).expect("JSON")
    };
    let aborted = line("/endless");
    assert_eq!(aborted["outcome"], "aborted");
    assert_eq!(aborted["protocol"], "HTTP/2.0");
    assert!(aborted["bytes"].as_u64().is_some_and(|bytes| bytes > 0));
    assert_eq!(line("\"target\":\"/\"")["outcome"], "complete");
    assert_eq!(log.lines().count(), 2, "{log}");
}

#[test]
fn log_lines_name_the_protocol_in_every_format() {
    let folder = tempfile::tempdir().expect("create temporary directory");
    fs::write(folder.path().join("a.txt"), "a").expect("write file");
    let expected = [
        ("common", "\"GET /a.txt?q HTTP/2.0\" 200 1"),
        ("combined", "\"GET /a.txt?q HTTP/2.0\" 200 1 \"-\" \"test\""),
        (
            "json",
            "\"method\":\"GET\",\"target\":\"/a.txt?q\",\"protocol\":\"HTTP/2.0\"",
        ),
        ("access-count", "a.txt|127.0.0.1|"),
    ];
    for (format, text) in expected {
        let args = [".", "--http2=all", &format!("--log-format={format}")];
        let mut server = TwsProcess::start(folder.path(), &args);
        let mut client = H2Client::connect(server.address);
        let stream = client.request("GET", "/a.txt?q", &[("user-agent", "test")]);
        assert_eq!(client.response(stream).text(), "a");
        let line = server.line();
        assert!(line.contains(text), "{format}: {line}");
    }
}

/// A job that waits for its release.
fn waiting_jobs(running: &Arc<AtomicUsize>) -> (impl Handler + 'static, mpsc::Sender<()>) {
    let (release, released) = mpsc::channel::<()>();
    let released = Arc::new(std::sync::Mutex::new(released));
    let running = Arc::clone(running);
    let handler = move |request: &Request<'_>| -> Outcome {
        if request.path() != "/job" {
            return Response::text("fine").into();
        }
        let (released, running) = (Arc::clone(&released), Arc::clone(&running));
        Outcome::blocking(move || {
            running.fetch_add(1, Ordering::SeqCst);
            let _ = released.lock().expect("lock is not poisoned").recv();
            Response::text("done")
        })
    };
    (handler, release)
}

/// One connection must not occupy all helper threads.
#[test]
fn connection_has_16_jobs_at_a_time_and_answers_other_requests() {
    let running = Arc::new(AtomicUsize::new(0));
    let (handler, release) = waiting_jobs(&running);
    let server = configured(handler, |config| {
        config.helpers = NonZeroUsize::new(64).expect("not zero");
        config.workers = Some(NonZeroUsize::MIN);
    });
    let mut client = H2Client::connect(server.address);
    let streams: Vec<_> = (0..40)
        .map(|_| client.request("GET", "/job", &[]))
        .collect();
    eventually!(|| running.load(Ordering::SeqCst) == 16);
    let mut other = H2Client::connect(server.address);
    let job = other.request("GET", "/job", &[]);
    eventually!(|| running.load(Ordering::SeqCst) == 17);
    assert_eq!(other.get("/").text(), "fine");
    let observer = server.handle.observe();
    assert_eq!(observer.totals().jobs.waiting, 0);
    drop(release);
    for stream in streams {
        assert_eq!(client.response(stream).text(), "done");
    }
    assert_eq!(other.response(job).text(), "done");
}

/// The jobs of streams that the client has reset are not begun, and occupy no place on the connection
/// then.
#[test]
fn jobs_of_reset_streams_free_their_places() {
    let running = Arc::default();
    let (handler, release) = waiting_jobs(&running);
    let server = configured(handler, |config| config.helpers = NonZeroUsize::MIN);
    let observer = server.handle.observe();
    let mut client = H2Client::connect(server.address);
    let first = client.request("GET", "/job", &[]);
    eventually!(|| running.load(Ordering::SeqCst) == 1);
    let request = |client: &mut H2Client| client.request("GET", "/job", &[]);
    let others: Vec<_> = (0..15).map(|_| request(&mut client)).collect();
    eventually!(|| observer.totals().jobs.waiting == 15);
    for stream in others {
        client.send_frame(&Frame::reset(stream, CANCEL));
    }
    // The server has read the resets.
    client.ping();
    let next = request(&mut client);
    drop(release);
    assert_eq!(client.response(first).text(), "done");
    assert_eq!(client.response(next).text(), "done");
    assert_eq!(running.load(Ordering::SeqCst), 2);
}

#[test]
fn drain_finishes_streams_and_refuses_later_ones() {
    let running = Arc::default();
    let (handler, release) = waiting_jobs(&running);
    let mut server = serve(handler);
    let mut client = H2Client::connect(server.address);
    assert_eq!(client.get("/").text(), "fine");
    let stream = client.request("GET", "/job", &[]);
    eventually!(|| running.load(Ordering::SeqCst) == 1);
    server.handle.shut_down();
    // The first GOAWAY only announces the second, which follows the answer to a PING.
    let (last, code) = client.goaway().goaway();
    assert_eq!((last, code), (u32::MAX >> 1, NO_ERROR));
    let (last, code) = client.goaway().goaway();
    assert_eq!((last, code), (stream, NO_ERROR));
    release.send(()).expect("a job waits");
    assert_eq!(client.response(stream).text(), "done");
    client.read_to_end();
    drop(client);
    server.join();
}

#[test]
fn idle_connection_ends_with_goaway() {
    let server = serve(hello);
    let mut client = H2Client::connect(server.address);
    assert_eq!(client.get("/").text(), "hello\n");
    // With this timeout, the connection of a slow client would end before its request.
    let mut config = Config::default();
    config.timeouts.keep_alive_h2 = Duration::from_millis(100);
    let reloaded = server.handle.reload(hello, &config);
    reloaded.expect("settings that are valid");
    let (last, code) = client.goaway().goaway();
    assert_eq!((last, code), (1, NO_ERROR));
    client.read_to_end();
}

/// A connection that is idle makes room for another one.
#[test]
fn idle_connection_is_evicted_with_goaway() {
    let server = configured(hello, |config| config.limits.max_connections = Some(1));
    let mut client = H2Client::connect(server.address);
    assert_eq!(client.get("/").text(), "hello\n");
    // It stays open: with its end there would be room again, and no need to evict.
    let mut other = None;
    eventually!(|| {
        let client = other.insert(Client::connect(server.address));
        client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
        // A rejection may end with a reset.
        let mut status_line = [0; b"HTTP/1.1 200".len()];
        let read = client.stream().read_exact(&mut status_line);
        read.is_ok() && status_line == *b"HTTP/1.1 200"
    });
    let (last, code) = client.goaway().goaway();
    assert_eq!((last, code), (1, NO_ERROR));
    client.read_to_end();
    assert!(server.handle.stats().evicted > 0);
}

#[test]
fn client_that_ends_its_input_gets_its_responses() {
    let folder = folder_of(&[MIB]);
    let server = serve(StaticFiles::new(folder.path()).expect("open site root"));
    let mut client = H2Client::connect_with(server.address, &[(4, 1 << 24)]);
    client.send_frame(&Frame::window_update(0, 1 << 24));
    client.keep_windows();
    let stream = client.request("GET", &format!("/{MIB}"), &[]);
    client.receive_until(|client| client.content_len(stream) > 0);
    client
        .socket()
        .shutdown(Shutdown::Write)
        .expect("shut down sending side");
    assert!(client.response(stream).content == pattern(MIB));
    client.read_to_end();
}

#[test]
fn requests_are_recorded_once_each() {
    const REQUESTS: usize = 1000;
    let server = serve(hello);
    let observer = server.handle.observe();
    let mut client = H2Client::connect(server.address);
    for _ in 0..REQUESTS / 50 {
        let streams: Vec<_> = (0..50).map(|_| client.request("GET", "/", &[])).collect();
        for stream in streams {
            assert_eq!(client.response(stream).text(), "hello\n");
        }
    }
    let count = || {
        observer
            .totals()
            .responses
            .iter()
            .map(|(_, count)| *count)
            .sum::<u64>()
    };
    eventually!(|| count() == REQUESTS as u64);
    assert_eq!(server.handle.stats().requests, REQUESTS as u64);
}
