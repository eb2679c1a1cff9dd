//! Tests of the number of system calls per request, which determines the throughput for small
//! files.

use std::fs;
use std::io::BufReader;
use std::net::SocketAddr;
use std::process::{Command, Stdio};

use rustix::process::Signal;

use crate::support::tws_process::announced_address;
use crate::support::{ChildProcess, Client};

/// One read, one write, and a share of one epoll wait. A bare epoll loop needs as many.
const MAX_CALLS_PER_REQUEST: f64 = 2.15;

/// Excludes the calls that revalidate a cached file every ten milliseconds, independent of the
/// number of requests: their number would depend on the speed of the machine.
const NOT_PER_TIME: &str = "trace=!openat2,newfstatat,fstat,fcntl,close";

#[test]
#[ignore = "needs strace"]
fn small_file_request_takes_at_most_2_15_system_calls() {
    const CLIENTS: usize = 32;
    const ROUNDS: usize = 600;
    // The calls of the server's start and end are included.
    let max = MAX_CALLS_PER_REQUEST * (CLIENTS * ROUNDS) as f64;
    expect_calls(NOT_PER_TIME, max, |address| {
        let mut clients: Vec<_> = (0..CLIENTS).map(|_| Client::connect(address)).collect();
        for _ in 0..ROUNDS {
            for client in &mut clients {
                client.send("GET /small.png HTTP/1.1\r\nHost: test\r\n\r\n");
            }
            for client in &mut clients {
                assert_eq!(client.response().status, 200);
            }
        }
    });
}

/// The request has arrived before the connection is accepted, so no event has to be waited for.
#[test]
#[ignore = "needs strace"]
fn connection_for_one_request_is_not_registered_for_events() {
    const CONNECTIONS: usize = 300;
    // Some are, as their file has to be looked up on another thread.
    let max = CONNECTIONS as f64 / 2.0;
    expect_calls("trace=epoll_ctl", max, |address| {
        for _ in 0..CONNECTIONS {
            let mut client = Client::connect(address);
            client.send("GET /small.png HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
            assert_eq!(client.response().status, 200);
        }
    });
}

/// Asserts that a server makes at most `max` system calls, of those that `filter` names, while `requests`
/// sends requests to it. The smallest number of several attempts counts: on a busy machine the client
/// is interrupted, so that fewer requests arrive together, and the server makes more calls.
fn expect_calls(filter: &str, max: f64, requests: impl Fn(SocketAddr)) {
    const ATTEMPTS: usize = 10;
    let mut counts = Vec::new();
    while counts.last().is_none_or(|count| *count > max) {
        assert!(counts.len() < ATTEMPTS, "{counts:?} calls, more than {max}");
        counts.push(count_calls(filter, &requests));
    }
}

/// Returns the number of system calls that a server makes, of those that `filter` names, while
/// `requests` sends requests for `/small.png` to it.
fn count_calls(filter: &str, requests: impl FnOnce(SocketAddr)) -> f64 {
    let folder = tempfile::tempdir().expect("create temporary directory");
    let state = tempfile::tempdir().expect("create temporary directory");
    fs::write(folder.path().join("small.png"), [b'x'; 1024]).expect("write file");
    let summary = state.path().join("calls");
    // With `-D` the child process is the server itself, so it receives the signals.
    let mut command = Command::new("strace");
    command
        .args(["-D", "-f", "-c", "-e", filter, "-o"])
        .arg(&summary)
        .arg(env!("CARGO_BIN_EXE_tws"))
        .arg(folder.path())
        .args(["--port=0", "--workers=1", "--access-log=off", "--state-dir"])
        .arg(state.path())
        .env_remove("RUST_LOG")
        .stdout(Stdio::piped());
    let mut server = ChildProcess::start(&mut command);
    let address = announced_address(&mut BufReader::new(
        server.stdout.take().expect("stdio pipe"),
    ));
    requests(address);
    server.signal(Signal::TERM);
    server.wait_for_exit();
    let mut calls = None;
    crate::support::eventually!(|| {
        calls = total(&fs::read_to_string(&summary).unwrap_or_default());
        calls.is_some()
    });
    calls.unwrap_or(f64::MAX)
}

/// Returns the number of calls in the last line: `100.00  0.5  12  41280  7 total`.
fn total(summary: &str) -> Option<f64> {
    let line = summary.lines().find(|line| line.ends_with(" total"))?;
    line.split_whitespace().nth(3)?.parse().ok()
}
