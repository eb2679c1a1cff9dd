//! Tests of the access log: line formats, hostile input, and a log that is never read, for the
//! binary and for an embedded server.

use std::fs;
use std::io::Read;
use std::process::{Command, Stdio};

use rustix::process::Signal;
use serde_json::Value;

use tws::access_log::{AccessLog, Format, LogDestination};
use tws::{Request, Response};

use crate::support::h2::H2Client;
use crate::support::{TestServer, TwsProcess, pattern};

#[test]
fn hostile_request_is_one_printable_line() {
    let folder = tempfile::tempdir().expect("create temporary directory");
    let log = folder.path().join("logs.txt");
    let path = log.to_str().expect("valid UTF-8").to_owned();
    let site = tempfile::tempdir().expect("create temporary directory");
    let mut server = TwsProcess::start(
        site.path(),
        &["--log-format=combined", "--access-log", &path],
    );
    let hostile = [
        "GET /\u{e9}\" HTTP/1.1\r\nHost: h\r\nUser-Agent: a\"b\\c\u{1f600}\t\r\nReferer: \u{80}\r\n\r\n",
        "GET /%0a%0dfake%20line HTTP/1.1\r\nHost: h\r\n\r\n",
        "\u{1b}[31mred\r\n\r\n",
        "GET / HTTP/1.1\nHost: h\n\n",
    ];
    for request in hostile {
        let mut client = server.client();
        client.send(request);
        client.response();
    }
    server.signal(Signal::TERM);
    assert!(server.child.wait_for_exit().success());
    let text = fs::read_to_string(&log).expect("read log");
    assert_eq!(text.lines().count(), hostile.len(), "{text}");
    assert!(text.is_ascii(), "{text}");
    for line in text.lines() {
        assert!(line.starts_with("127.0.0.1 - - ["), "{line}");
        assert_eq!(line.matches('"').count(), 6, "{line}");
        assert!(
            !line.contains(|letter: char| letter.is_control()),
            "{line:?}"
        );
    }
}

#[test]
fn json_line_has_bytes_status_duration_and_outcome() {
    let folder = tempfile::tempdir().expect("create temporary directory");
    fs::write(folder.path().join("big.bin"), pattern(30_000_000)).expect("write file");
    // One event loop: lines of several event loops have no defined order.
    let mut server = TwsProcess::start(folder.path(), &["--log-format=json", "--workers=1"]);
    let mut client = server.client();
    let port = client.stream().local_addr().expect("local address").port();
    assert_eq!(client.get("/none?q").status, 404);
    let mut leaves = server.client();
    leaves.send("GET /big.bin HTTP/1.1\r\nHost: h\r\nUser-Agent: leaves\r\n\r\n");
    leaves.read(100_000);
    drop(leaves);

    let mut line = || serde_json::from_str::<Value>(&server.line()).expect("parse JSON");
    let missed = line();
    assert_eq!(missed["ip"], "127.0.0.1");
    assert_eq!(missed["port"], port);
    assert_eq!(missed["method"], "GET");
    assert_eq!(missed["target"], "/none?q");
    assert_eq!(missed["status"], 404);
    assert_eq!(missed["outcome"], "complete");
    assert!(missed["bytes"].as_u64().is_some_and(|bytes| bytes > 0));
    assert!(missed["duration_ms"].is_number());
    let aborted = line();
    assert_eq!(
        (&aborted["status"], &aborted["outcome"]),
        (&200.into(), &"aborted".into())
    );
    assert_eq!(aborted["user_agent"], "leaves");
    let bytes = aborted["bytes"].as_u64().expect("JSON integer");
    assert!((100_000 - 1000..30_000_000).contains(&bytes), "{bytes}");
}

#[test]
#[cfg(feature = "auth")]
fn lines_name_the_authenticated_user() {
    let folder = tempfile::tempdir().expect("create temporary directory");
    fs::write(folder.path().join("big.bin"), pattern(3_000_000)).expect("write file");
    let users = crate::middleware::USERS;
    fs::write(folder.path().join("users.txt"), users).expect("write file");
    for (format, index) in [("common", 2), ("combined", 2), ("json", 0)] {
        let format_flag = format!("--log-format={format}");
        let args = [
            ".",
            "--auth-file=users.txt",
            "--workers=1",
            "--upload",
            &format_flag,
        ];
        let mut server = TwsProcess::start(folder.path(), &args);
        let user = |line: &str| {
            if format == "json" {
                let value: Value = serde_json::from_str(line).expect("JSON");
                value["user"].as_str().unwrap_or("-").to_owned()
            } else {
                line.split(' ').nth(index).expect("a field").to_owned()
            }
        };
        let ana = "Authorization: Basic YW5hOnNlY3JldA==\r\n";
        let wrong = "Authorization: Basic YW5hOndyb25n\r\n";
        let too_large = format!("{ana}Content-Length: 99999999999\r\n");
        for (method, path, fields, expected) in [
            ("GET", "/big.bin", "", "-"),
            ("GET", "/big.bin", wrong, "-"),
            // Verified on a thread, then known.
            ("GET", "/big.bin", ana, "ana"),
            ("GET", "/big.bin", ana, "ana"),
            ("HEAD", "/none", ana, "ana"),
            // A listing and an archive, which are made by jobs.
            ("GET", "/", ana, "ana"),
            ("DELETE", "/big.bin", ana, "ana"),
            ("PUT", "/new.txt", &too_large, "ana"),
            ("GET", "/big.bin", wrong, "-"),
        ] {
            let mut client = server.client();
            client.send(format!(
                "{method} {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n{fields}\r\n"
            ));
            client.rest().expect("a response");
            assert_eq!(
                user(&server.line()),
                expected,
                "{format} {method} {path} {fields}"
            );
        }
    }
}

#[test]
fn unread_stdout_pipe_does_not_block_requests() {
    let folder = tempfile::tempdir().expect("create temporary directory");
    fs::write(folder.path().join("small.txt"), "small").expect("write file");
    // Standard output is a pipe that this test does not read.
    let mut command = Command::new(env!("CARGO_BIN_EXE_tws"));
    command
        .current_dir(folder.path())
        .args(["--port=0", "--log-format=combined"])
        .stderr(Stdio::piped());
    let mut server = TwsProcess::run(&mut command);
    let request = "GET /small.txt HTTP/1.1\r\nHost: h\r\n\r\n".repeat(100);
    let mut client = server.client();
    // Many more lines than a pipe buffer holds.
    for _ in 0..100 {
        client.send(&request);
        for _ in 0..100 {
            assert_eq!(client.response().status, 200);
        }
    }
    drop(client);
    server.signal(Signal::TERM);
    assert!(server.child.wait_for_exit().success());
    let mut errors = String::new();
    let mut stderr = server.child.stderr.take().expect("stdio pipe");
    stderr
        .read_to_string(&mut errors)
        .expect("read standard error");
    assert!(errors.contains("lines dropped"), "{errors}");
}

#[test]
fn log_file_is_complete_after_server_join() {
    const REQUESTS: usize = 100;
    let folder = tempfile::tempdir().expect("create temporary directory");
    let path = folder.path().join("log");
    let log = AccessLog::start(Format::Common, &[LogDestination::File(path.clone())]);
    let log = log.expect("start access log");
    let mut server = TestServer::with(
        |_: &Request<'_>| Response::text(""),
        |_| {},
        |server| server.with_access_log(log),
    );
    let mut client = server.client();
    for _ in 0..REQUESTS {
        assert_eq!(client.get("/").status, 200);
    }
    server.handle.shut_down();
    server.join();
    let lines = fs::read_to_string(&path).expect("read log");
    assert_eq!(lines.lines().count(), REQUESTS, "{lines}");
    assert_eq!(server.handle.stats().dropped_log_lines, 0);
}

/// The Host field does not count where the target has an authority.
#[test]
fn host_and_path_in_the_log_are_those_by_which_a_request_is_served() {
    let folder = tempfile::tempdir().expect("create temporary directory");
    let format = "--log-format={status} {host} {path} {query} {user-agent}";
    let long = format!("GET /{}", "a".repeat(100_000));
    let fields = "Host: shop.test\r\nuser-agent: U\r\nReferer: R\r\n";
    let large = format!(
        "GET / HTTP/1.1\r\n{fields}X: {}\r\n\r\n",
        "a".repeat(100_000)
    );
    let h1 = |request: &str| format!("GET {request} HTTP/1.1\r\nHost: x.test:80\r\n\r\n");
    for (request, expected) in [
        (h1("/none?q"), "404 x.test:80 /none q -"),
        (h1("http://shop.test/%61?q"), "404 shop.test /%61 q -"),
        (h1("HTTPS://shop.test:1/a"), "404 shop.test:1 /a - -"),
        (h1("http://shop.test?q"), "200 shop.test / q -"),
        (h1("http://shop.test"), "200 shop.test / - -"),
        (
            h1("ftp://shop.test/a"),
            "400 x.test:80 ftp://shop.test/a - -",
        ),
        (
            "OPTIONS http://shop.test HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(),
            "204 shop.test * - -",
        ),
        (
            format!("GET /%zz HTTP/1.1\r\n{fields}\r\n"),
            "400 shop.test /%zz - U",
        ),
        (
            format!("GET http://a.test/%zz HTTP/1.1\r\n{fields}\r\n"),
            "400 a.test /%zz - U",
        ),
        (
            format!("GET / HTTP/1.1\r\n{fields}Broken\r\n\r\n"),
            "400 shop.test / - U",
        ),
        // Which one is meant is unknown.
        (
            format!("GET / HTTP/1.1\r\n{fields}Host: b\r\n\r\n"),
            "400 - / - U",
        ),
        (large, "431 shop.test / - U"),
        (long, "414 - - - -"),
        // What follows a line that is not complete is not known.
        (
            format!("GET / HTTP/1.1\r\n{fields}User-Agent: tru\n"),
            "400 shop.test / - U",
        ),
    ] {
        let mut process = TwsProcess::start(folder.path(), &[".", format, "--listing=on"]);
        let mut client = process.client();
        client.send(&request);
        client.end_input();
        client.rest_or_reset();
        assert_eq!(process.line(), expected, "{request:.80}");
    }
    let mut process = TwsProcess::start(folder.path(), &[".", format, "--http2=all"]);
    for (path, expected) in [
        ("/none?q", "404 shop.test /none q -"),
        ("/%zz", "400 shop.test /%zz - -"),
    ] {
        let mut client = H2Client::connect(process.address);
        let stream = client.request_to("shop.test", "GET", path);
        client.response(stream);
        assert_eq!(process.line(), expected, "HTTP/2 {path}");
    }
}

#[test]
fn log_flags_set_format_exclusions_and_anonymity() {
    let folder = tempfile::tempdir().expect("create temporary directory");
    std::fs::write(folder.path().join("a.txt"), "a").expect("write file");
    let mut process = TwsProcess::start(
        folder.path(),
        &[
            ".",
            "--log-format={client} {port} {host} \"{request}\" {status}",
            "--log-exclude=/skipped/*",
            "--log-exclude=404",
            "--log-anonymize",
        ],
    );
    let mut client = process.client();
    for path in ["/skipped/a", "/none", "/a.txt"] {
        client.get(path);
    }
    let line = process.line();
    assert_eq!(line, "127.0.0.0 0 test \"GET /a.txt HTTP/1.1\" 200");
}
