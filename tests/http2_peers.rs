//! Tests of HTTP/2 with programs of other projects that check the server: a conformance suite, and a
//! client that rejects violations of the protocol.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use crate::http2;
use crate::support::{TwsProcess, pattern};

/// Runs the conformance suite, and returns how many of its tests passed and which failed.
fn run_conformance_suite(address: SocketAddr) -> (String, Vec<String>) {
    let output = Command::new("httpwg")
        .env("SEQUENTIAL", "1")
        .args(["-a", &address.to_string(), "--frame-timeout", "300"])
        .output()
        .expect("run httpwg");
    let text = String::from_utf8_lossy(&output.stderr);
    let is_failure = |line: &&str| line.contains("Test failed") || line.contains("panicked");
    let failed = text.lines().filter(is_failure).map(str::to_owned);
    // "Passed 107/107 tests", with escape sequences between the words.
    let passed = text.lines().find_map(|line| {
        let (before, after) = line.split_once('/')?;
        let end = |letter: char| !letter.is_ascii_digit();
        let passed = before
            .rsplit(end)
            .next()
            .filter(|_| line.contains("Passed"))?;
        Some(format!("{passed}/{}", after.split(end).next()?))
    });
    (passed.expect("number of passed tests"), failed.collect())
}

#[test]
#[ignore = "needs httpwg"]
fn conformance_suite_passes() {
    let server = http2::serve(http2::hello);
    let (passed, failed) = run_conformance_suite(server.address);
    assert_eq!(passed, "107/107", "{failed:#?}");
}

/// A site of files answers POST, which most tests send, before the body ends. One test expects the
/// status 200, which is 405 here.
#[test]
#[ignore = "needs httpwg"]
fn conformance_suite_passes_on_files_but_for_one_status() {
    let folder = tempfile::tempdir().expect("create temporary directory");
    fs::write(folder.path().join("index.html"), "<p>index").expect("write file");
    let args = [".", "--http2=all", "--access-log=off"];
    let site = TwsProcess::start(folder.path(), &args);
    let (passed, failed) = run_conformance_suite(site.address);
    assert_eq!(passed, "106/107", "{failed:#?}");
}

#[test]
#[ignore = "needs Python with the package h2"]
fn python_client_downloads_and_uploads() {
    let folder = tempfile::tempdir().expect("create temporary directory");
    fs::write(folder.path().join("large.bin"), pattern(3_000_000)).expect("write file");
    let args = [".", "--http2=all", "--upload", "--access-log=off"];
    let site = TwsProcess::start(folder.path(), &args);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/http2_peers/client.py");
    let output = Command::new("python3")
        .arg(script)
        .arg(site.address.port().to_string())
        .arg(folder.path())
        .output()
        .expect("run python3");
    assert!(output.status.success(), "{output:?}");
}
