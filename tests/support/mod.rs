//! Servers, clients and other programs for the tests.

pub(crate) mod browser;
pub(crate) mod child_process;
pub(crate) mod client;
pub(crate) mod disk;
pub(crate) mod external_server;
#[cfg(feature = "acme")]
pub(crate) mod fake_ca;
pub(crate) mod h2;
pub(crate) mod haproxy;
pub(crate) mod line_reader;
pub(crate) mod load;
pub(crate) mod log;
pub(crate) mod metrics;
pub(crate) mod nginx;
#[cfg(feature = "acme")]
pub(crate) mod pebble;
pub(crate) mod ports;
#[cfg(feature = "postgres")]
pub(crate) mod postgres;
pub(crate) mod recipes;
pub(crate) mod server;
#[cfg(feature = "acme")]
pub(crate) mod tls_alpn;
#[cfg(feature = "cli")]
pub(crate) mod tws_process;
#[cfg(feature = "cli")]
pub(crate) mod upgradable_process;
#[cfg(feature = "websocket")]
pub(crate) mod websocket;

use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

pub(crate) use child_process::ChildProcess;
pub(crate) use client::{Client, HttpResponse};
pub(crate) use server::TestServer;
#[cfg(feature = "cli")]
pub(crate) use tws_process::TwsProcess;

/// Waits until a closure returns true, for at most [`client::TIMEOUT`]. The panic at the timeout
/// shows the closure's source text.
macro_rules! eventually {
    ($condition:expr) => {
        $crate::support::wait_until(
            stringify!($condition),
            $crate::support::client::TIMEOUT,
            $condition,
        )
    };
}
pub(crate) use eventually;

/// Evaluates `condition` about once a millisecond until it returns true.
///
/// # Panics
///
/// If it is still false after `timeout`; `description` says what the test waited for.
#[track_caller]
pub(crate) fn wait_until(
    description: &str,
    timeout: Duration,
    mut condition: impl FnMut() -> bool,
) {
    const INTERVAL: Duration = Duration::from_millis(1);
    let start = Instant::now();
    while !condition() {
        assert!(
            start.elapsed() < timeout,
            "timed out after {timeout:?} waiting for: {description}"
        );
        thread::park_timeout(INTERVAL);
    }
}

/// Writes a program to `path`: a script, or a copy of a file. A child process writes it: a file
/// that this process has open for writing, possibly through a child that another test is starting,
/// is busy and cannot be executed (ETXTBSY).
pub(crate) fn install(path: &Path, program: Program<'_>) {
    let mut command = Command::new("sh");
    match program {
        Program::Script(text) => command
            .args(["-c", "printf %s \"$1\" > \"$0\" && chmod 755 \"$0\""])
            .arg(path)
            .arg(text),
        Program::CopyOf(file) => command.args(["-c", "cp \"$1\" \"$0\""]).arg(path).arg(file),
    };
    assert!(command.status().expect("run shell").success());
}

#[derive(Clone, Copy)]
pub(crate) enum Program<'a> {
    Script(&'a str),
    CopyOf(&'a str),
}

/// Returns `len` bytes that differ at every position, so that shifted or swapped bytes are
/// detected.
pub(crate) fn pattern(len: usize) -> Vec<u8> {
    (0..len as u64)
        .map(|at| (at.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8)
        .collect()
}
