//! Load: clients that send requests without a pause, of this process and of wrk.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Instant;

use rustix::process::Signal;
use tws::Timeouts;

use super::h2::H2Client;
use super::h2::frame::GOAWAY;
use super::{ChildProcess, Client};

/// Starts clients that send requests without a pause, half of them on persistent connections.
pub(crate) fn load(
    address: SocketAddr,
    over: &Arc<AtomicBool>,
    done: &Arc<AtomicUsize>,
) -> Vec<JoinHandle<()>> {
    (0..4)
        .map(|at| {
            let (over, done) = (Arc::clone(over), Arc::clone(done));
            std::thread::spawn(move || {
                let field = ["", "Connection: close\r\n"][at % 2];
                let request = format!("GET /a.txt HTTP/1.1\r\nHost: test\r\n{field}\r\n");
                let connect = || (Client::connect(address), Instant::now());
                let mut kept = None;
                while !over.load(Ordering::Relaxed) {
                    let (mut client, last_sent) = kept.take().unwrap_or_else(connect);
                    let is_sent = client.stream().write_all(request.as_bytes()).is_ok();
                    let (sent, pause) = (Instant::now(), last_sent.elapsed());
                    let is_answered =
                        is_sent && client.stream().peek(&mut [0]).is_ok_and(|count| count > 0);
                    if !is_answered {
                        // A server that shuts down closes connections that are idle for so long. This
                        // thread may have paused.
                        assert!(pause >= Timeouts::default().idle_grace, "{pause:?}");
                        continue;
                    }
                    let response = client.response();
                    assert_eq!(response.text(), "a");
                    done.fetch_add(1, Ordering::Relaxed);
                    if response.field("Connection") != Some("close") {
                        kept = Some((client, sent));
                    }
                }
            })
        })
        .collect()
}

/// The same over HTTP/2 without TLS, with several streams at once. A client connects again when the
/// server has announced the end of its connection.
pub(crate) fn http2_load(
    address: SocketAddr,
    over: &Arc<AtomicBool>,
    done: &Arc<AtomicUsize>,
) -> Vec<JoinHandle<()>> {
    let run = move |over: &AtomicBool, done: &AtomicUsize| {
        let mut client = H2Client::connect(address);
        while !over.load(Ordering::Relaxed) {
            if client.control.iter().any(|frame| frame.kind == GOAWAY) {
                client = H2Client::connect(address);
            }
            let streams = [(); 5].map(|()| client.request("GET", "/a.txt", &[]));
            for stream in streams {
                assert_eq!(client.response(stream).text(), "a");
                done.fetch_add(1, Ordering::Relaxed);
            }
        }
    };
    let spawn = |_| {
        let (over, done) = (Arc::clone(over), Arc::clone(done));
        std::thread::spawn(move || run(&over, &done))
    };
    (0..4).map(spawn).collect()
}

/// A wrk process that sends requests without a pause until it is stopped.
pub(crate) struct WrkLoad(ChildProcess);

impl WrkLoad {
    pub(crate) fn on(address: SocketAddr, options: &[&str]) -> Self {
        let mut command = Command::new("wrk");
        command
            .args(options)
            .arg("-d600")
            .arg(format!("http://{address}/a.txt"))
            .stdout(Stdio::piped());
        Self(ChildProcess::start(&mut command))
    }

    /// Stops wrk, and asserts that every response was successful.
    pub(crate) fn end(mut self) {
        self.0.signal(Signal::INT);
        let mut report = String::new();
        let stdout = self.0.stdout.as_mut().expect("stdio pipe");
        stdout
            .read_to_string(&mut report)
            .expect("read report of wrk");
        assert!(report.contains("requests in"), "{report}");
        assert!(!report.contains("Socket errors"), "{report}");
        assert!(!report.contains("Non-2xx"), "{report}");
    }
}
