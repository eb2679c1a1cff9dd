//! Tests of request rates (429) and of bandwidth limits, per client and per connection.

use std::net::SocketAddr;

use tempfile::TempDir;

use tws::{RateLimit, Request, Response};

use crate::support::{Client, TestServer, TwsProcess};

/// One request in about three hours, so that none is added during a test.
const NEVER: &str = "0.0001";

fn site(args: &[&str]) -> (TempDir, TwsProcess) {
    let folder = tempfile::tempdir().expect("create temporary directory");
    std::fs::write(folder.path().join("a.txt"), "a").expect("write file");
    let common = [".", "--access-log=off", "--bind=0.0.0.0"];
    let site = TwsProcess::start(folder.path(), &[&common, args].concat());
    (folder, site)
}

fn at(site: &TwsProcess) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], site.address.port()))
}

#[test]
fn requests_beyond_burst_are_429_on_every_connection() {
    let (_folder, site) = site(&[&format!("--rate-limit={NEVER}:5")]);
    let mut first = Client::connect(at(&site));
    let mut second = Client::connect(at(&site));
    let asked = ["/a.txt", "/none", "/a.txt"].map(|path| first.get(path).status);
    assert_eq!(asked, [200, 404, 200]);
    assert_eq!(second.request("HEAD", "/a.txt", "").status, 200);
    assert_eq!(second.get("/a.txt").status, 200);
    // Each connection stays open and is answered.
    for _ in 0..3 {
        for client in [&mut first, &mut second] {
            let denied = client.get("/a.txt");
            assert_eq!(denied.status, 429);
            assert_eq!(denied.field("Connection"), Some("keep-alive"));
            let wait: u64 = denied
                .field("Retry-After")
                .expect("Retry-After field")
                .parse()
                .expect("Retry-After in seconds");
            assert!((9_000..=10_000).contains(&wait), "{wait}");
        }
    }
    let page = first.request("GET", "/a.txt", "Accept: text/html\r\n");
    assert_eq!(page.status, 429);
    assert!(
        page.text()
            .contains("<h1>Error: 429 Too Many Requests</h1>")
    );
    assert!(page.field("Retry-After").is_some());
    let mut other = Client::connect_from([127, 0, 0, 2], at(&site));
    assert_eq!(other.get("/a.txt").status, 200);
}

#[test]
fn pipelined_requests_beyond_connection_rate_are_429() {
    let (_folder, site) = site(&[&format!("--rate-limit-connection={NEVER}:2")]);
    for _ in 0..2 {
        let mut client = Client::connect(at(&site));
        client.send("GET /a.txt HTTP/1.1\r\nHost: test\r\n\r\n".repeat(5));
        let statuses = [(); 5].map(|()| client.response().status);
        assert_eq!(statuses, [200, 200, 429, 429, 429]);
    }
}

#[test]
fn rate_limited_request_body_is_not_read() {
    let rate = format!("{NEVER}:2").parse().expect("valid rate");
    let length = |request: &Request<'_>| Response::text(request.content().len().to_string());
    let server = TestServer::start(RateLimit::new(length).per_client(rate));
    let mut client = server.client();
    let post =
        |length| format!("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: {length}\r\n\r\n");
    // A request is counted once, although the handler is called twice.
    client.send(post(4)).send("text");
    assert_eq!(client.response().text(), "4");
    assert_eq!(client.get("/").text(), "0");
    // The body is never sent.
    client.send(post(9));
    let denied = client.response();
    assert_eq!(denied.status, 429);
    assert!(denied.field("Retry-After").is_some());
    assert_eq!(denied.field("Connection"), Some("close"));
    client.end_input().expect_closed();
}

#[test]
fn request_counts_once_on_the_wire_whatever_its_framing() {
    let head =
        |method: &str, fields: &str| format!("{method} / HTTP/1.1\r\nHost: test\r\n{fields}\r\n");
    let with = |method, fields, body: &str| head(method, fields) + body;
    let expects = "Expect: 100-continue\r\nContent-Length: 1\r\n";
    let chunked = "Transfer-Encoding: chunked\r\n";
    for (request, status) in [
        (with("GET", "", ""), 200),
        (with("GET", "Content-Length: 0\r\n", ""), 200),
        (with("OPTIONS", "Content-Length: 0\r\n", ""), 200),
        (with("POST", "Content-Length: 4\r\n", "text"), 200),
        (with("POST", chunked, "0\r\n\r\n"), 200),
        (with("POST", chunked, "1\r\na\r\n0\r\n\r\n"), 200),
        (with("POST", expects, "a"), 200),
        (
            with("POST", "Content-Length: 100000\r\n", &"a".repeat(100_000)),
            200,
        ),
        (with("POST", "Content-Length: 999999\r\n", ""), 413),
        (with("POST", chunked, "no"), 400),
        (with("GET", "Expect: tea\r\n", ""), 417),
    ] {
        let rate = format!("{NEVER}:3").parse().expect("a rate");
        let drain = |request: &Request<'_>| {
            let mut body = request.reader();
            tws::Outcome::blocking(move || {
                let read = std::io::copy(&mut body, &mut std::io::sink());
                Response::text(read.is_ok().to_string())
            })
        };
        let limit = RateLimit::new(tws::StreamingBody::new(drain, 200_000)).per_client(rate);
        let server = TestServer::start(limit);
        let line = request.lines().next().expect("a line");
        let fields = request.lines().nth(2).expect("a field");
        for expected in [status, status, status, 429] {
            let mut client = server.client();
            client.send(&request);
            let mut response = client.response();
            if response.status == 100 {
                response = client.response();
            }
            assert_eq!(response.status, expected, "{line} {fields}");
        }
    }
}

/// A page can read the 429. Preflight requests count, too.
#[test]
fn rate_limited_cors_response_has_allow_origin() {
    let folder = tempfile::tempdir().expect("create temporary directory");
    let settings = folder.path().join("tws.toml");
    std::fs::write(&settings, "cors = 'https://a.test'\n").expect("write file");
    let key = format!("--config={}", settings.display());
    for cors in ["--cors=https://a.test", &key] {
        let (_folder, site) = site(&[&format!("--rate-limit={NEVER}:3"), cors]);
        check_limited_cors(&mut Client::connect(at(&site)));
    }
}

fn check_limited_cors(client: &mut Client) {
    let preflight_fields = "Origin: https://a.test\r\nAccess-Control-Request-Method: GET\r\n";
    let asked = [
        ("OPTIONS", 204),
        ("GET", 200),
        ("OPTIONS", 204),
        ("GET", 429),
        ("OPTIONS", 429),
    ];
    for (method, status) in asked {
        let response = client.request(method, "/a.txt", preflight_fields);
        assert_eq!(response.status, status);
        let origin = response.field("Access-Control-Allow-Origin");
        assert_eq!(origin, Some("https://a.test"));
    }
}

/// Tests of limited bandwidth. A slow machine takes longer, so the tests assert the minimum
/// duration only.
mod bandwidth {
    use std::io::Read;
    use std::net::Shutdown;
    use std::num::NonZeroU64;
    use std::sync::Arc;
    use std::thread;
    use std::time::{Duration, Instant};

    use socket2::SockRef;
    use tws::{BodyStream, Config, Handler, Limits, Outcome, StaticFiles, StreamingBody};

    use super::*;
    use crate::support::{eventually, pattern};

    const KIB: usize = 1024;

    /// In bytes per second.
    const RATE: usize = 512 * KIB;
    /// Most bytes that move immediately after an idle time: a quarter of a second's worth, one
    /// chunk, and the response heads.
    const MAX_BURST: usize = RATE / 4 + RATE / 8 + KIB;

    fn limited(handler: impl Handler + 'static, change: impl FnOnce(&mut Limits)) -> TestServer {
        TestServer::configured(handler, |config| {
            config.addresses = vec![std::net::IpAddr::from([0, 0, 0, 0]).into()];
            change(&mut config.limits);
        })
    }

    fn per_client(rate: usize) -> impl FnOnce(&mut Limits) {
        move |limits| limits.bandwidth_per_client = NonZeroU64::new(rate as u64)
    }

    fn per_connection(rate: usize) -> impl FnOnce(&mut Limits) {
        move |limits| limits.bandwidth_per_connection = NonZeroU64::new(rate as u64)
    }

    fn local(server: &TestServer, last: u8) -> Client {
        let at = SocketAddr::from(([127, 0, 0, 1], server.address.port()));
        Client::connect_from([127, 0, 0, last], at)
    }

    /// Returns a folder with a file `big` of `len` bytes and a file `small`, and its handler.
    fn files(len: usize) -> (TempDir, StaticFiles) {
        let folder = tempfile::tempdir().expect("create temporary directory");
        std::fs::write(folder.path().join("big"), pattern(len)).expect("write file");
        std::fs::write(folder.path().join("small"), "small").expect("write file");
        let files = StaticFiles::new(folder.path()).expect("open site root");
        (folder, files)
    }

    /// Returns the minimum duration of a transfer at `RATE`.
    fn minimum_duration(bytes: usize) -> Duration {
        Duration::from_secs_f64(bytes.saturating_sub(MAX_BURST) as f64 / RATE as f64)
    }

    fn get_big(mut client: Client, len: usize) {
        let response = client.get("/big");
        assert_eq!(response.status, 200);
        assert!(response.content == pattern(len), "the body differs");
    }

    #[test]
    fn limited_download_is_complete_and_takes_minimum_time() {
        const LEN: usize = RATE;
        for limit in [
            Box::new(per_client(RATE)) as Box<dyn FnOnce(&mut Limits)>,
            Box::new(per_connection(RATE)),
        ] {
            let (_folder, files) = files(LEN);
            let server = limited(files, limit);
            let start = Instant::now();
            get_big(local(&server, 1), LEN);
            assert!(
                start.elapsed() >= minimum_duration(LEN),
                "{:?}",
                start.elapsed()
            );
        }
    }

    /// A body in memory, and a body that is streamed.
    #[test]
    fn limit_applies_to_memory_and_streamed_bodies() {
        const LEN: usize = RATE * 3 / 4;
        let content = pattern(LEN);
        let handler = move |request: &Request<'_>| {
            let content = content.clone();
            match request.path() {
                "/bytes" => Response::text("").with_body(tws::Body::Bytes(content.into())),
                _ => Response::text("").with_body(tws::Body::Stream(BodyStream::written(
                    move |out| out.write_all(&content),
                ))),
            }
        };
        let server = limited(handler, per_connection(RATE));
        let start = Instant::now();
        let mut client = local(&server, 1);
        assert!(
            client.get("/bytes").content == pattern(LEN),
            "the body differs"
        );
        client.request("HEAD", "/stream", "");
        client
            .send("GET /stream HTTP/1.1\r\nHost: test\r\n\r\n")
            .head();
        assert!(client.chunks() == pattern(LEN), "the body differs");
        assert!(
            start.elapsed() >= minimum_duration(2 * LEN),
            "{:?}",
            start.elapsed()
        );
    }

    #[test]
    fn connections_of_one_client_share_bandwidth() {
        const LEN: usize = RATE / 2;
        let (_folder, files) = files(LEN);
        let server = limited(files, per_client(RATE));
        let start = Instant::now();
        thread::scope(|scope| {
            for _ in 0..3 {
                let client = local(&server, 1);
                scope.spawn(|| get_big(client, LEN));
            }
        });
        assert!(
            start.elapsed() >= minimum_duration(3 * LEN),
            "{:?}",
            start.elapsed()
        );
        // A new connection does not help: the client's debt persists.
        (0..3).for_each(|_| get_big(local(&server, 1), LEN));
        assert!(
            start.elapsed() >= minimum_duration(6 * LEN),
            "{:?}",
            start.elapsed()
        );
    }

    /// The greedy client's download would take hours.
    #[test]
    fn limited_client_does_not_delay_another_client() {
        const LEN: usize = 64 * 1024 * KIB;
        let (_folder, files) = files(LEN);
        let server = limited(files, per_client(4 * KIB));
        let mut greedy = local(&server, 1);
        greedy
            .send("GET /big HTTP/1.1\r\nHost: test\r\n\r\n")
            .head();
        for _ in 0..3 {
            assert_eq!(local(&server, 2).get("/small").text(), "small");
        }
        assert_eq!(greedy.read(1), pattern(1));
        eventually!(|| server.handle.connections() == 1);
        server.handle.shut_down_within(Duration::ZERO);
    }

    /// Throttling is not the client's fault: the connection waits for longer than the timeouts
    /// allow the client. Request and response fit into the buffers of the kernel, so that it does not
    /// matter how fast the client is.
    #[test]
    fn throttled_connection_does_not_time_out() {
        const LEN: usize = 48 * KIB;
        const RATE: usize = 64 * KIB;
        let echo = |request: &Request<'_>| {
            let mut content = request.reader();
            Outcome::blocking(move || {
                let mut bytes = Vec::new();
                content.read_to_end(&mut bytes).expect("read whole body");
                Response::text("").with_body(tws::Body::Bytes(bytes.into()))
            })
        };
        let change = |config: &mut Config| {
            config.limits.bandwidth_per_client = NonZeroU64::new(RATE as u64);
            config.limits.min_rate_bytes_per_second = 4 * RATE as u32;
            config.timeouts.min_rate_grace = Duration::from_millis(60);
            config.timeouts.body = Duration::from_millis(60);
            config.timeouts.send = Duration::from_millis(60);
        };
        let server = TestServer::configured(StreamingBody::new(echo, 1 << 30), change);
        let mut client = server.client();
        let start = Instant::now();
        let mut request =
            format!("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: {LEN}\r\n\r\n").into_bytes();
        request.extend(pattern(LEN));
        client.send(request);
        assert!(
            client.response().content == pattern(LEN),
            "the body differs"
        );
        // Both ways, less a burst of a quarter of a second and a chunk.
        assert!(start.elapsed() > Duration::from_millis(500));
    }

    #[test]
    fn throttled_expect_continue_gets_100() {
        let length = |request: &Request<'_>| Response::text(request.content().len().to_string());
        let server = limited(length, per_client(8 * KIB));
        let mut client = local(&server, 1);
        let head =
            "POST / HTTP/1.1\r\nHost: test\r\nExpect: 100-continue\r\nContent-Length: 5000\r\n\r\n";
        for _ in 0..2 {
            client.send(head);
            assert_eq!(client.head().status, 100);
            client.send([b'x'; 5000]);
            assert_eq!(client.response().text(), "5000");
        }
    }

    #[test]
    fn throttled_pipeline_is_answered_in_order() {
        let path = |request: &Request<'_>| Response::text(request.path().repeat(500));
        let server = limited(path, per_connection(64 * KIB));
        let mut client = local(&server, 1);
        let paths: Vec<_> = (0..20).map(|at| format!("/{at}")).collect();
        let get = |path: &String| format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n");
        client.send(paths.iter().map(get).collect::<String>());
        for path in &paths {
            assert_eq!(client.response().text(), path.repeat(500));
        }
    }

    /// Connects so many clients that the turn of the last is minutes away.
    fn connect_waiting_clients(server: &TestServer) -> Vec<Client> {
        let mut waiting: Vec<_> = (0..40).map(|_| local(server, 1)).collect();
        for client in &mut waiting {
            client.send("GET /big HTTP/1.1\r\nHost: test\r\n\r\n");
        }
        eventually!(|| server.handle.connections() == waiting.len());
        waiting
    }

    #[test]
    fn reset_while_throttled_closes_connection() {
        let (_folder, files) = files(1024 * KIB);
        let server = limited(files, per_client(KIB));
        let mut waiting = connect_waiting_clients(&server);
        for reset in waiting.split_off(20) {
            let linger = SockRef::from(reset.stream()).set_linger(Some(Duration::ZERO));
            linger.expect("set linger time");
        }
        eventually!(|| server.handle.connections() == 20);
        server.handle.shut_down_within(Duration::ZERO);
    }

    #[test]
    fn throttled_downloads_are_aborted_at_drain_timeout() {
        let (_folder, files) = files(1024 * KIB);
        let mut server = limited(files, per_client(KIB));
        let mut waiting = connect_waiting_clients(&server);
        let drain_time = Duration::from_millis(200);
        let start = Instant::now();
        server.handle.shut_down_within(drain_time);
        server.join();
        assert!(start.elapsed() >= drain_time, "{:?}", start.elapsed());
        for client in &mut waiting {
            // Reset if the throttled server has not read the request.
            let received = client.rest_or_reset();
            assert!(received.len() < 64 * KIB, "{}", received.len());
        }
    }

    /// A stream without end, as for events.
    #[test]
    fn throttled_stream_sends_each_flushed_chunk() {
        let (sender, receiver) = std::sync::mpsc::channel::<&str>();
        let receiver = Arc::new(std::sync::Mutex::new(receiver));
        let handler = move |_: &Request<'_>| {
            let receiver = Arc::clone(&receiver);
            Response::text("").with_body(tws::Body::Stream(BodyStream::written(move |out| {
                for event in &*receiver.lock().expect("lock is not poisoned") {
                    out.write_all(event.as_bytes())?;
                    out.flush()?;
                }
                Ok(())
            })))
        };
        let server = limited(handler, per_connection(KIB));
        let mut client = local(&server, 1);
        client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n").head();
        for event in ["one", "three", "five"] {
            sender.send(event).expect("body writer receives");
            let chunk = format!("{:x}\r\n{event}\r\n", event.len());
            assert_eq!(client.read(chunk.len()), chunk.as_bytes());
        }
        drop(sender);
        assert_eq!(client.chunks(), b"");
        let _ = client.stream().shutdown(Shutdown::Both);
    }
}
