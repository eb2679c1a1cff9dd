//! Tests of the number of system calls per request, which determines the throughput for small
//! files.

use std::fs;
use std::io::BufReader;
use std::process::{Command, Stdio};

use rustix::process::Signal;

use crate::support::server::announced_address;
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
    let folder = tempfile::tempdir().expect("create temporary directory");
    let state = tempfile::tempdir().expect("create temporary directory");
    fs::write(folder.path().join("small.png"), [b'x'; 1024]).expect("write file");
    let summary = state.path().join("calls");
    // With `-D` the child process is the server itself, so it receives the signals.
    let mut command = Command::new("strace");
    command
        .args(["-D", "-f", "-c", "-e", NOT_PER_TIME, "-o"])
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
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| Client::connect(address)).collect();
    for _ in 0..ROUNDS {
        for client in &mut clients {
            client.send("GET /small.png HTTP/1.1\r\nHost: test\r\n\r\n");
        }
        for client in &mut clients {
            assert_eq!(client.response().status, 200);
        }
    }
    drop(clients);
    server.signal(Signal::TERM);
    server.wait_for_exit();

    // The calls of the server's start and end are included.
    let mut calls = None;
    crate::support::eventually!(|| {
        calls = total(&fs::read_to_string(&summary).unwrap_or_default());
        calls.is_some()
    });
    let each = calls.unwrap_or(f64::MAX) / (CLIENTS * ROUNDS) as f64;
    assert!(each <= MAX_CALLS_PER_REQUEST, "{each} calls per request");
}

/// Returns the number of calls in the last line: `100.00  0.5  12  41280  7 total`.
fn total(summary: &str) -> Option<f64> {
    let line = summary.lines().find(|line| line.ends_with(" total"))?;
    line.split_whitespace().nth(3)?.parse().ok()
}
