//! Tests of the admin interface: metrics, health endpoints, the event stream and access, through
//! `Admin` and `--admin`.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::mpsc;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;
use tws::admin::{Admin, CertificateError, CertificateStatus, Hosts, Sampler};
use tws::{
    Config, Handler, Request, Response, Router, Server, ServerState, StaticFiles, StatusCode,
};

use crate::static_files::write;
use crate::support::metrics::Metrics;
use crate::support::{Client, HttpResponse, TestServer, TwsProcess, eventually, pattern};

pub(crate) const MIB: usize = 1024 * 1024;

/// More than the socket buffers hold.
pub(crate) const LARGE: usize = 64 * MIB;

pub(crate) fn sample_folder() -> TempDir {
    let folder = tempfile::tempdir().expect("create temporary directory");
    write(folder.path(), "a.txt", "four");
    write(folder.path(), "large.bin", pattern(LARGE));
    folder
}

/// A file server, and a second server with the admin interface of the first.
struct ObservedServer {
    server: TestServer,
    admin: TestServer,
    _folder: TempDir,
}

impl ObservedServer {
    fn start() -> Self {
        let folder = sample_folder();
        let files = StaticFiles::new(folder.path()).expect("open site root");
        let server = TestServer::start(files.clone());
        let sampler = Sampler::new(&server.handle);
        let counts = move || files.cache_stats();
        let admin = Admin::with_sources(&server.handle, counts, &sampler);
        Self {
            admin: TestServer::start(admin),
            server,
            _folder: folder,
        }
    }

    fn metrics(&self) -> Metrics {
        let response = get_admin(&self.admin, "/metrics");
        let media_type = "text/plain; version=0.0.4; charset=utf-8";
        assert_eq!(
            (response.status, response.field("Content-Type")),
            (200, Some(media_type))
        );
        Metrics::parse(&response.text())
    }
}

/// Sends a GET request with a Host that the admin interface accepts.
fn get_admin(admin: &TestServer, path: &str) -> HttpResponse {
    let mut client = admin.client();
    client.send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
    client.response()
}

#[test]
fn metrics_count_requests_responses_and_bytes() {
    let observed = ObservedServer::start();
    let mut client = observed.server.client();
    for (path, times) in [("/a.txt", 7), ("/nothing", 3)] {
        for _ in 0..times {
            client.get(path);
        }
    }
    let response = client.request("GET", "/a.txt", "Range: bytes=1-2\r\n");
    assert_eq!(response.status, 206);
    assert_eq!(client.request("HEAD", "/a.txt", "").status, 200);
    let missing = client.get("/nothing").content.len();
    client.send("GET / HTTP/1.1\r\n\r\n");
    assert_eq!(client.response().status, 400);
    // A response is counted once the kernel has accepted it, which can be after the client received
    // it.
    let mut metrics = observed.metrics();
    eventually!(|| {
        metrics = observed.metrics();
        // An event loop that has not run for a second is not up.
        metrics.value("tws_response_duration_seconds_count", &[]) == 14.0
            && metrics.value("tws_worker_up", &[("worker", "0")]) == 1.0
    });
    for (code, count) in [("200", 8.0), ("206", 1.0), ("400", 1.0), ("404", 4.0)] {
        assert_eq!(
            metrics.value("tws_responses_total", &[("code", code)]),
            count,
            "{code}"
        );
    }
    let least = 7 * 4 + 2 + 4 * missing;
    let bytes = metrics.value("tws_response_content_bytes_total", &[]);
    assert!(
        (least as f64..least as f64 + 200.0).contains(&bytes),
        "{bytes}"
    );
    assert_eq!(metrics.value("tws_requests_total", &[]), 13.0);
    assert_eq!(metrics.value("tws_connections_accepted_total", &[]), 1.0);
    let lookups = |result| metrics.value("tws_file_cache_lookups_total", &[("result", result)]);
    assert!(lookups("miss") >= 1.0);
    assert!(lookups("hit") + lookups("revalidated") + lookups("miss") >= 9.0);
    assert_eq!(metrics.value("tws_ready", &[]), 1.0);
    assert!(metrics.value("process_resident_memory_bytes", &[]) > 1e5);
    assert!(metrics.value("process_open_fds", &[]) > 5.0);
    assert!(metrics.value("process_start_time_seconds", &[]) > 1.7e9);
}

#[test]
fn metrics_help_matches_golden_text() {
    let observed = ObservedServer::start();
    let text = get_admin(&observed.admin, "/metrics").text();
    let help: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# HELP tws_"))
        .collect();
    let expected = [
        "build_info Version of tws, as a label.",
        "ready 1 while the server accepts requests, 0 before and from shutdown on.",
        "requests_total Requests passed to the handler.",
        "responses_total Finished responses by status; 499 if the client disconnected before one was sent.",
        "response_content_bytes_total Bytes of content sent in finished responses.",
        "response_duration_seconds Time from the first byte of a request to the last byte of its response.",
        "access_log_dropped_lines_total Access log lines dropped.",
        "connections Open connections by state.",
        "connections_accepted_total Connections accepted.",
        "connections_rejected_total Connections rejected with 503 by limit: all connections, or those of one client.",
        "connections_evicted_total Idle connections closed to make room for new ones.",
        #[cfg(feature = "tls")]
        "tls_handshakes_total TLS handshakes by kind (full, resumed, retried with another group) and key-exchange group.",
        "transfers Running transfers by direction and by what they wait for.",
        "http2_connections Open HTTP/2 connections.",
        "http2_streams Open streams on HTTP/2 connections.",
        "http2_resets_total HTTP/2 streams reset by error code, received from clients or sent to them.",
        "http2_floods_total HTTP/2 connections closed because their client exceeded a limit, by the limit.",
        "worker_up 1 if the event loop responds within a second.",
        "event_loop_iteration_duration_seconds Duration of event loop iterations; an event waits for at most one.",
        "helper_tasks Tasks of helper threads by pool: handler jobs, streamed bodies, disk reads.",
        "cold_reads_total Reads by disk threads, of files that were not wholly in the page cache.",
        "file_cache_lookups_total File cache lookups by result (hit, revalidated, miss).",
    ];
    assert_eq!(help, expected);
}

/// A name without a certificate has no expiry, and one without a failure no error.
#[test]
fn certificates_are_reported_with_expiry_and_last_error() {
    let server = TestServer::start(|_: &Request<'_>| Response::text(""));
    let admin = Admin::new(&server.handle);
    let admin = TestServer::start(admin.with_certificates(|| {
        let mut valid = CertificateStatus::new("a.test");
        valid.not_after = Some(1_900_000_000);
        let mut missing = CertificateStatus::new("b.test");
        missing.last_error = Some(CertificateError {
            at: 1_800_000_000,
            kind: "dns".to_owned(),
            message: "no \"b.test\"".to_owned(),
        });
        vec![valid, missing]
    }));
    let metrics = get_admin(&admin, "/metrics").text();
    let samples = metrics
        .lines()
        .filter(|line| line.starts_with("tws_certificate_"));
    let samples: Vec<_> = samples.collect();
    assert_eq!(
        samples,
        [
            "tws_certificate_expiry_seconds{name=\"a.test\"} 1900000000",
            "tws_certificate_last_error_seconds{name=\"b.test\",error=\"dns\"} 1800000000",
        ]
    );
    let json = get_admin(&admin, "/certificates.json").text();
    let json: Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(json[0]["not_after"], 1_900_000_000);
    assert_eq!(json[0]["last_error"], Value::Null);
    assert_eq!(json[1]["last_error"]["message"], "no \"b.test\"");
}

#[test]
fn readyz_fails_at_announced_shutdown_and_healthz_after_end() {
    let observed = ObservedServer::start();
    let status = |path| get_admin(&observed.admin, path).status;
    eventually!(|| (status("/readyz"), status("/healthz")) == (200, 200));
    let mut busy = observed.server.client();
    busy.send("GET /large.bin HTTP/1.1\r\nHost: test\r\n\r\n")
        .head();
    // A client that connects while the shutdown is only announced is served.
    observed
        .server
        .handle
        .shut_down_after(Duration::from_secs(3600));
    assert_eq!(status("/readyz"), 503);
    eventually!(|| status("/healthz") == 200);
    assert_eq!(observed.server.client().get("/a.txt").status, 200);
    observed.server.handle.shut_down();
    eventually!(|| observed.server.handle.state() == ServerState::Draining);
    assert_eq!((status("/readyz"), status("/healthz")), (503, 200));
    let phase = || {
        let text = get_admin(&observed.admin, "/transfers.json").text();
        let sample: Value = serde_json::from_str(&text).expect("parse JSON");
        let target = &sample["transfers"][0]["target"];
        (sample["phase"].clone(), target.clone())
    };
    eventually!(|| phase() == (Value::from("draining"), Value::from("/large.bin")));
    busy.read(LARGE);
    eventually!(|| observed.server.handle.state() == ServerState::Ended);
    assert_eq!((status("/readyz"), status("/healthz")), (503, 503));
}

#[test]
fn stuck_event_loop_makes_healthz_503() {
    let (release, released) = mpsc::channel::<()>();
    let released = std::sync::Mutex::new(released);
    let handler = move |_: &Request<'_>| {
        let _ = released.lock().expect("lock is not poisoned").recv();
        Response::text("done")
    };
    let server = TestServer::configured(handler, |config| {
        config.workers = Some(NonZeroUsize::MIN);
    });
    let admin = TestServer::start(Admin::new(&server.handle));
    eventually!(|| get_admin(&admin, "/healthz").status == 200);
    let mut stuck = server.client();
    stuck.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    eventually!(|| server.handle.stats().requests == 1);
    // Repeated, because unanswered snapshot requests must not accumulate.
    let observer = server.handle.observe();
    for _ in 0..100 {
        assert_eq!(observer.report(Duration::ZERO).silent, [0]);
    }
    assert_eq!(get_admin(&admin, "/healthz").status, 503);
    drop(release);
    assert_eq!(stuck.response().text(), "done");
    // After the event loop has answered the requests of the meantime.
    eventually!(|| get_admin(&admin, "/healthz").status == 200);
}

#[test]
fn event_stream_sends_samples_until_server_ends() {
    let mut observed = ObservedServer::start();
    let mut busy = observed.server.client();
    busy.send("GET /large.bin HTTP/1.1\r\nHost: test\r\n\r\n")
        .head();
    busy.read(MIB);
    let mut watchers: Vec<Client> = (0..3).map(|_| observed.admin.client()).collect();
    for watcher in &mut watchers {
        watcher.send("GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let head = watcher.head();
        assert_eq!(
            (head.status, head.field("Content-Type")),
            (200, Some("text/event-stream"))
        );
    }
    // One watcher disconnects; the others are not affected.
    drop(watchers.pop());
    // An event loop that has not run for a moment is missing in a sample.
    let is_complete = |sample: &Value| {
        let mut workers = sample["workers"].as_array().expect("workers").iter();
        workers.all(|worker| worker["answers"] == true)
    };
    let mut numbers = Vec::new();
    for watcher in &mut watchers {
        let mut seen: Vec<u64> = Vec::new();
        while seen.len() < 3 {
            if let Some(sample) = event(watcher).filter(is_complete) {
                assert_eq!(sample["phase"], "serving");
                let transfer = &sample["transfers"][0];
                assert_eq!(transfer["target"], "/large.bin");
                assert_eq!(transfer["total"], LARGE);
                assert!(transfer["moved"].as_u64() >= Some(MIB as u64));
                assert!(transfer["rate"].as_f64() >= Some(0.0));
                assert!(sample["workers"][0]["lag"].is_number());
                seen.push(sample["number"].as_u64().expect("JSON integer"));
            }
        }
        assert!(seen.is_sorted_by(|one, next| one < next), "{seen:?}");
        numbers.push(seen);
    }
    // The watchers share their samples: samples are not taken once per watcher. One of them may have
    // begun later.
    eventually!(|| {
        for (watcher, seen) in watchers.iter_mut().zip(&mut numbers) {
            let sample = event(watcher);
            seen.extend(sample.and_then(|sample| sample["number"].as_u64()));
        }
        numbers[0].iter().any(|number| numbers[1].contains(number))
    });
    busy.read(LARGE - MIB);
    observed.server.handle.shut_down();
    observed.server.join();
    for watcher in &mut watchers {
        let mut last = Value::Null;
        while last["phase"] != "ended" {
            last = event(watcher).unwrap_or(last);
        }
    }
}

/// Reads one chunk and returns its event; `None` if the chunk has no data, as for a comment.
fn event(watcher: &mut Client) -> Option<Value> {
    let chunk = watcher.chunk();
    let text = String::from_utf8(chunk).expect("decode UTF-8");
    let data = text.lines().find_map(|line| line.strip_prefix("data: "))?;
    Some(serde_json::from_str(data).expect("parse JSON"))
}

#[test]
fn admin_rejects_foreign_hosts_and_sets_security_headers() {
    let observed = ObservedServer::start();
    let host = |host: &str| {
        let mut client = observed.admin.client();
        client.send(format!(
            "GET /metrics HTTP/1.1\r\nHost: {host}\r\nAccept: */*\r\n\r\n"
        ));
        client.response().status
    };
    for own in [
        "127.0.0.1",
        "127.0.0.1:9090",
        "localhost:9090",
        "[::1]:9090",
        "LOCALHOST",
    ] {
        assert_eq!(host(own), 200, "{own}");
    }
    for foreign in [
        "evil.test",
        "evil.test:9090",
        "127.0.0.1.evil.test",
        "localhost.evil.test",
    ] {
        assert_eq!(host(foreign), 421, "{foreign}");
    }
    for (method, path, status) in [
        ("GET", "/", 200),
        ("HEAD", "/", 200),
        ("HEAD", "/metrics", 200),
        ("HEAD", "/events", 200),
        ("HEAD", "/healthz", 200),
        ("GET", "/page.js", 200),
        ("GET", "/page.css", 200),
        ("POST", "/metrics", 405),
        ("DELETE", "/events", 405),
        ("BREW", "/", 501),
        ("GET", "/nothing", 404),
    ] {
        let mut client = observed.admin.client();
        client.send(format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"
        ));
        let response = client.head();
        assert_eq!(response.status, status, "{method} {path}");
        assert_eq!(
            response.field("X-Content-Type-Options"),
            Some("nosniff"),
            "{path}"
        );
        assert_eq!(response.field("Cache-Control"), Some("no-store"), "{path}");
        let policy = response
            .field("Content-Security-Policy")
            .expect("Content-Security-Policy field");
        assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"));
        if method == "HEAD" {
            assert_eq!(
                client
                    .end_input()
                    .rest()
                    .expect("read to end of connection"),
                b"",
                "{path}"
            );
        }
    }
    let any = Admin::new(&observed.server.handle).for_hosts(Hosts::Any);
    let any = TestServer::start(any);
    assert_eq!(any.client().get("/healthz").status, 200);
}

fn get_admin_at(address: Option<SocketAddr>, path: &str) -> HttpResponse {
    let mut client = Client::connect(address.expect("admin address"));
    client.send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
    client.response()
}

#[test]
fn admin_listener_answers_until_drain_completes() {
    let folder = sample_folder();
    let mut process =
        TwsProcess::start(folder.path(), &["--access-log=off", "--admin=127.0.0.1:0"]);
    let get = |path: &str| get_admin_at(process.admin, path);
    // The process has announced its address and starts to serve shortly after.
    eventually!(|| get("/readyz").status == 200);
    eventually!(|| get("/healthz").status == 200);
    assert_eq!(process.client().get("/a.txt").status, 200);
    // Inside the sandbox, which does not allow reading /proc.
    let metrics = Metrics::parse(&get("/metrics").text());
    assert!(metrics.value("process_open_fds", &[]) > 5.0);
    assert!(metrics.value("process_resident_memory_bytes", &[]) > 1e5);
    assert!(metrics.value("process_cpu_seconds_total", &[]) < 1e5);
    assert_eq!(
        metrics.value("tws_file_cache_lookups_total", &[("result", "miss")]),
        1.0
    );
    let mut busy = process.client();
    busy.send("GET /large.bin HTTP/1.1\r\nHost: test\r\n\r\n")
        .head();
    process.signal(Signal::TERM);
    eventually!(|| get("/readyz").status == 503);
    eventually!(|| get("/healthz").status == 200);
    eventually!(|| get("/transfers.json").text().contains("\"draining\""));
    busy.read(LARGE);
    drop(busy);
    assert_eq!(process.child.wait_for_exit().code(), Some(0));
}

#[test]
fn hundred_event_streams_all_get_samples() {
    let folder = sample_folder();
    let process = TwsProcess::start(folder.path(), &["--access-log=off", "--admin=127.0.0.1:0"]);
    let address = process.admin.expect("admin address");
    let mut watchers: Vec<_> = (0..100)
        .map(|_| {
            let mut watcher = Client::connect(address);
            watcher.send("GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n");
            watcher
        })
        .collect();
    for watcher in &mut watchers {
        assert_eq!(watcher.head().status, 200);
        while event(watcher).is_none() {}
    }
}

#[test]
fn drain_delay_keeps_serving_after_readyz_fails() {
    let folder = sample_folder();
    let args = [
        "--access-log=off",
        "--admin=127.0.0.1:0",
        "--drain-delay=3600",
    ];
    let mut process = TwsProcess::start(folder.path(), &args);
    eventually!(|| get_admin_at(process.admin, "/readyz").status == 200);
    process.signal(Signal::TERM);
    eventually!(|| get_admin_at(process.admin, "/readyz").status == 503);
    let mut client = process.client();
    for _ in 0..2 {
        let response = client.get("/a.txt");
        assert_eq!(
            (response.status, response.field("Connection")),
            (200, Some("keep-alive"))
        );
    }
    process.signal(Signal::TERM);
    assert_eq!(process.child.wait_for_exit().code(), Some(1));
}

#[test]
#[cfg(feature = "auth")]
fn admin_on_wildcard_address_requires_password_except_healthz() {
    let folder = sample_folder();
    let users = folder.path().join("users");
    // From `htpasswd -nbB -C4 ana secret`.
    let line = "ana:$2y$04$kSsBIzvQFVfIiYlVHXtyReK7dOVGHaMyd5hhDZeNQPNcyC5kEAvOa\n";
    std::fs::write(&users, line).expect("write file");
    let args = ["--access-log=off", "--auth-file=users"];
    for (address, status) in [("--admin=0.0.0.0:0", 401), ("--admin=127.0.0.1:0", 200)] {
        let process = TwsProcess::start(folder.path(), &[&args[..], &[address]].concat());
        eventually!(|| get_admin_at(process.admin, "/readyz").status == 200);
        let metrics = get_admin_at(process.admin, "/metrics");
        assert_eq!(metrics.status, status, "{address}");
        eventually!(|| get_admin_at(process.admin, "/healthz").status == 200);
    }
}

#[test]
fn admin_nested_in_observed_server_answers() {
    let mut config = Config::default();
    config.port = 0;
    let server = Server::bind(config).expect("bind server");
    let handle = server.handle();
    let admin = Admin::new(&handle).for_hosts(Hosts::Any);
    let phase = admin.handle(&Request::get("/readyz")).wait();
    assert_eq!(phase.status(), StatusCode::SERVICE_UNAVAILABLE);
    let router = Router::new().nest("/admin", admin);
    let serving = std::thread::spawn(move || server.serve(router));
    let mut client = Client::connect(handle.local_addresses()[0]);
    eventually!(|| client.get("/admin/readyz").status == 200);
    assert_eq!(client.get("/admin").field("Location"), Some("/admin/"));
    assert_eq!(client.get("/admin/").status, 200);
    Metrics::parse(&client.get("/admin/metrics").text());
    handle.shut_down();
    serving
        .join()
        .expect("thread does not panic")
        .expect("server ends without an error");
}
