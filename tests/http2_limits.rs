//! Tests of what HTTP/2 streams may not circumvent or delay: bandwidth and request rates, a stylesheet
//! beside a download, slow readers, and the view of operators.

use std::fs;
use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::num::NonZeroU64;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use socket2::{Domain, Socket, Type};
use tws::observe::Direction;
use tws::{Body, BodyStream, Limits, Request, Response, StaticFiles, StatusCode};

use crate::http2::{configured, hello, serve};
use crate::reload::ProcessWithStderr;
use crate::support::client::TIMEOUT;
use crate::support::h2::H2Client;
use crate::support::h2::frame::{CANCEL, END_STREAM, ENHANCE_YOUR_CALM, Frame, PING};
use crate::support::metrics::Metrics;
use crate::support::{Client, TwsProcess, eventually, pattern};

const MIB: usize = 1 << 20;

/// Windows as large as those of browsers.
const WIDE: &[(u16, u32)] = &[(4, 6 * 1024 * 1024)];

/// Connects with a small receive buffer, so that the kernel holds little.
fn narrow(address: SocketAddr) -> H2Client {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("create socket");
    socket
        .set_recv_buffer_size(128 * 1024)
        .expect("set buffer size");
    socket.connect(&address.into()).expect("connect");
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(TIMEOUT)).expect("set timeout");
    let mut client = H2Client::on(stream, WIDE);
    client.send_frame(&Frame::window_update(0, 15 * 1024 * 1024));
    client
}

/// The stream is chosen when bytes can be sent, so only what the kernels and one portion hold comes
/// before a small response. Other servers send 3 MB of the download first.
#[test]
fn stylesheet_overtakes_download_on_its_connection() {
    const MAX_BYTES_BEFORE: usize = 400_000;
    let folder = tempfile::tempdir().expect("create temporary directory");
    let large = fs::File::create(folder.path().join("large.bin")).expect("create file");
    large.set_len(1 << 30).expect("set file length");
    fs::write(folder.path().join("a.css"), pattern(20_000)).expect("write file");
    let server = serve(StaticFiles::new(folder.path()).expect("open site root"));
    for fields in [&[][..], &[("priority", "u=0")], &[("priority", "u=3")]] {
        let mut client = narrow(server.address);
        let download = client.request("GET", "/large.bin", &[]);
        client.receive_until(|client| client.content_len(download) >= 2 * MIB);
        let before = client.content_len(download);
        let stylesheet = client.request("GET", "/a.css", fields);
        client.receive_until(|client| client.so_far(stylesheet).ended);
        let between = client.content_len(download) - before;
        assert!(between <= MAX_BYTES_BEFORE, "{between} bytes, {fields:?}");
        assert!(client.response(stylesheet).content == pattern(20_000));
    }
}

/// The limit is for the connection, however many streams it has.
#[test]
fn streams_share_the_bandwidth_of_their_connection() {
    const RATE: u64 = 256 * 1024;
    let server = configured(
        |_: &Request<'_>| {
            Response::new(StatusCode::OK).with_body(Body::Bytes(pattern(300_000).into()))
        },
        |config| config.limits.bandwidth_per_connection = NonZeroU64::new(RATE),
    );
    let start = Instant::now();
    let mut client = H2Client::connect(server.address);
    let streams: Vec<_> = (0..2).map(|_| client.request("GET", "/", &[])).collect();
    for stream in streams {
        assert!(client.response(stream).content == pattern(300_000));
    }
    // A burst of a quarter of a second comes first, and one portion delays what follows it.
    let least = (600_000 - 64 * 1024) as f64 / RATE as f64 - 0.25;
    let took = start.elapsed().as_secs_f64();
    assert!(took >= least, "{took} s, not {least}");
}

#[test]
fn streams_share_the_request_rate_of_their_connection() {
    let folder = tempfile::tempdir().expect("create temporary directory");
    fs::write(folder.path().join("a.txt"), "a").expect("write file");
    for flag in ["--rate-limit=0.0001:5", "--rate-limit-connection=0.0001:5"] {
        let args = [".", "--http2=all", "--access-log=off", flag];
        let site = TwsProcess::start(folder.path(), &args);
        let mut client = H2Client::connect(site.address);
        let streams: Vec<_> = (0..8)
            .map(|_| client.request("GET", "/a.txt", &[]))
            .collect();
        let statuses: Vec<_> = streams
            .iter()
            .map(|stream| client.response(*stream).status())
            .collect();
        let denied = statuses.iter().filter(|status| **status == 429);
        assert_eq!(denied.count(), 3, "{flag}: {statuses:?}");
    }
}

/// A stream with no window is a slow reader; the other streams go on.
#[test]
fn stream_without_window_is_reset_after_the_send_timeout() {
    let server = configured(
        |request: &Request<'_>| match request.path() {
            "/large" => {
                let body = Body::Bytes(pattern(MIB).into());
                Response::new(StatusCode::OK).with_body(body)
            }
            _ => Response::text("fine"),
        },
        |config| config.timeouts.send = Duration::from_millis(200),
    );
    let mut client = H2Client::connect_with(server.address, &[(4, 1000)]);
    client.keep_windows();
    // A stream that waits for something else.
    let upload = client.head("POST", "/", &[]);
    client.send_frame(&upload);
    let held = client.request("GET", "/large", &[]);
    client.receive_until(|client| client.content_len(held) == 1000);
    client.receive_until(|client| client.so_far(held).reset == Some(CANCEL));
    assert_eq!(client.get("/").text(), "fine");
    client.send_data(upload.stream, b"all", END_STREAM);
    assert_eq!(client.response(upload.stream).text(), "fine");
    // A connection whose streams are all held makes no progress at all.
    // In one write: the first stream must not be reset before the second one begins.
    let heads = [(); 2].map(|()| {
        let mut head = client.head("GET", "/large", &[]);
        head.flags |= END_STREAM;
        head
    });
    client.send(heads.each_ref().map(Frame::encode).concat());
    let held = heads.map(|head| head.stream);
    client.receive_until(|client| held.iter().all(|id| client.content_len(*id) == 1000));
    let (_, code) = client.goaway().goaway();
    assert_eq!(code, ENHANCE_YOUR_CALM);
    client.read_to_end();
}

#[test]
fn peer_that_reads_nothing_is_disconnected_after_the_send_timeout() {
    let server = configured(
        |_: &Request<'_>| {
            let body = BodyStream::written(|out| {
                std::iter::repeat(()).try_for_each(|()| out.write_all(&[b'x'; 10_000]))
            });
            Response::new(StatusCode::OK).with_body(Body::Stream(body))
        },
        |config| config.timeouts.send = Duration::from_millis(200),
    );
    let mut client = narrow(server.address);
    client.request("GET", "/", &[]);
    eventually!(|| server.handle.stats().requests == 1);
    eventually!(|| server.handle.connections() == 0);
    let mut rest = Vec::new();
    let _ = client.socket().read_to_end(&mut rest);
}

#[test]
fn each_stream_is_a_transfer_of_its_own() {
    let server = configured(
        |_: &Request<'_>| Response::new(StatusCode::OK).with_body(Body::Bytes(pattern(MIB).into())),
        |_| {},
    );
    let observer = server.handle.observe();
    let mut client = H2Client::connect(server.address);
    client.keep_windows();
    let streams: Vec<_> = ["/a", "/b", "/c"]
        .iter()
        .map(|path| client.request("GET", path, &[]))
        .collect();
    eventually!(|| {
        let report = observer.report(TIMEOUT);
        let mut targets: Vec<_> = report
            .transfers
            .iter()
            .filter(|transfer| transfer.direction == Direction::Down)
            .map(|transfer| transfer.target.as_str())
            .collect();
        targets.sort_unstable();
        targets == ["/a", "/b", "/c"] && report.http2.connections == 1 && report.http2.streams == 3
    });
    drop(streams);
}

#[test]
fn metrics_count_connections_streams_and_resets() {
    let folder = tempfile::tempdir().expect("create temporary directory");
    fs::write(folder.path().join("a.txt"), "a").expect("write file");
    fs::write(folder.path().join("large.bin"), pattern(MIB)).expect("write file");
    let args = [
        ".",
        "--http2=all",
        "--access-log=off",
        "--admin=127.0.0.1:0",
    ];
    let site = TwsProcess::start(folder.path(), &args);
    let admin = site.admin.expect("admin address");
    let metrics = || {
        let mut client = Client::connect(admin);
        client.send("GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n");
        Metrics::parse(&client.response().text())
    };
    let mut client = H2Client::connect(site.address);
    assert_eq!(client.get("/a.txt").text(), "a");
    eventually!(|| metrics().value("tws_http2_connections", &[]) == 1.0);
    assert_eq!(metrics().value("tws_http2_streams", &[]), 0.0);
    let reset = [("direction", "received"), ("code", "CANCEL")];
    assert_eq!(metrics().value("tws_http2_resets_total", &reset), 0.0);
    client.keep_windows();
    let stream = client.request("GET", "/large.bin", &[]);
    client.receive_until(|client| client.content_len(stream) > 0);
    client.send_frame(&Frame::reset(stream, CANCEL));
    eventually!(|| metrics().value("tws_http2_resets_total", &reset) == 1.0);
    // More PING frames than a client has use for.
    let pings = Frame::new(PING, 0, 0, [0; 8]).encode().repeat(100);
    client.send(pings);
    client.goaway();
    client.read_to_end();
    let flood = [("limit", "ping")];
    eventually!(|| metrics().value("tws_http2_floods_total", &flood) == 1.0);
    eventually!(|| metrics().value("tws_http2_connections", &[]) == 0.0);
}

/// A client that is disconnected comes back at once, and the log does not grow with it.
#[test]
fn floods_of_a_client_are_one_line() {
    let folder = tempfile::tempdir().expect("create temporary directory");
    let mut command = Command::new(env!("CARGO_BIN_EXE_tws"));
    command.args([".", "--port=0", "--http2=all", "--access-log=off", "-v"]);
    let mut tws = ProcessWithStderr::run(folder.path(), &mut command);
    for _ in 0..5 {
        let mut client = H2Client::connect(tws.process.address);
        client.send(Frame::new(PING, 0, 0, [0; 8]).encode().repeat(100));
        client.read_to_end();
    }
    tws.process.signal(Signal::TERM);
    assert!(tws.process.child.wait_for_exit().success());
    let errors = tws.errors();
    let lines = errors.lines().filter(|line| line.contains("limit ping"));
    assert_eq!(lines.count(), 1, "{errors}");
}

#[test]
fn connection_is_one_idle_connection_between_requests() {
    let server = serve(hello);
    let observer = server.handle.observe();
    let mut client = H2Client::connect(server.address);
    assert_eq!(client.get("/").text(), "hello\n");
    eventually!(|| observer.report(TIMEOUT).connections.idle == 1);
}

#[test]
fn request_bodies_stay_within_memory_bound() {
    const CONNECTIONS: usize = 4;
    let limits = Limits::default();
    let folder = tempfile::tempdir().expect("create temporary directory");
    fs::write(folder.path().join("small.txt"), "small").expect("write file");
    let args = ["--http2=all", "--workers=1", "--access-log=off"];
    let site = TwsProcess::start(folder.path(), &args);
    assert_eq!(
        H2Client::connect(site.address).get("/small.txt").text(),
        "small"
    );
    let before = site.private_memory();
    let mut clients = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut client = H2Client::connect(site.address);
        let streams: Vec<u32> = (0..limits.h2_max_streams)
            .map(|_| {
                let length = [("content-length", "60000")];
                let head = client.head("GET", "/small.txt", &length);
                client.send_frame(&head);
                head.stream
            })
            .collect();
        for stream in streams {
            client.receive_until(|client| client.window(0) >= 59_999);
            for part in [b'x'; 59_999].chunks(16_384) {
                client.send_data(stream, part, 0);
            }
        }
        client.ping();
        clients.push(client);
    }
    let used = site.private_memory() - before;
    let bound = CONNECTIONS * limits.max_memory_per_http2_connection();
    println!("{used} of {bound} bytes");
    assert!(used <= bound as u64, "{used} of {bound} bytes");
    assert!(used >= (CONNECTIONS * 100 * 59_999) as u64, "{used} bytes");
}
