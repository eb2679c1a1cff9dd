//! Tests of SIGUSR2: a new process replaces the old one without a failed request, and an upgrade that
//! fails leaves the old process serving.

use std::fs;
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::process::Signal;
use tempfile::TempDir;

use crate::failures::{MIB, sample_folder};
use crate::support::load::{WrkLoad, http2_load, load};
use crate::support::upgradable_process::UpgradableProcess;
use crate::support::{Client, Program, eventually, install};

/// Returns a folder with a copy of the program that can be replaced, a folder to serve, and a
/// command.
pub(crate) fn replaceable() -> (TempDir, TempDir, Command) {
    let programs = tempfile::tempdir().expect("create temporary directory");
    let program = programs.path().join("tws");
    install(&program, Program::CopyOf(env!("CARGO_BIN_EXE_tws")));
    let folder = sample_folder();
    let mut command = Command::new(program);
    command
        .current_dir(folder.path())
        .args(["--port=0", "--access-log=access.log", "--state-dir"])
        .arg(programs.path());
    if cfg!(feature = "sqlite") {
        command.arg("--users=sqlite:users.db");
    }
    (programs, folder, command)
}

#[test]
fn upgrades_under_load_fail_no_request() {
    let (_programs, folder, command) = replaceable();
    let mut server = UpgradableProcess::start(command);
    let (over, done) = (Arc::default(), Arc::default());
    let clients = load(server.address, &over, &done);
    for _ in 0..20 {
        let before = done.load(Ordering::Relaxed);
        server.upgrade();
        eventually!(|| done.load(Ordering::Relaxed) > before + 50);
    }
    over.store(true, Ordering::Relaxed);
    for client in clients {
        client.join().expect("no request fails");
    }
    // The first process has exited with 0, and the last one exits like any other.
    assert_eq!(server.child.wait_for_exit().code(), Some(0));
    server.signal(Signal::TERM);
    eventually!(|| TcpStream::connect(server.address).is_err());
    // All processes wrote to one log, which contains every request.
    let lines = |log: String| log.lines().filter(|line| line.contains("/a.txt")).count();
    let requests = done.load(Ordering::Relaxed);
    let log = folder.path().join("access.log");
    eventually!(|| lines(fs::read_to_string(&log).expect("read log")) == requests);
}

/// A client that has read GOAWAY opens its next stream on another connection; those that it has opened
/// before are answered (RFC 9113 §6.8).
#[test]
fn upgrades_under_http2_load_fail_no_request() {
    let (_programs, folder, mut command) = replaceable();
    command.arg("--http2=all");
    let mut server = UpgradableProcess::start(command);
    let (over, done) = (Arc::default(), Arc::default());
    let clients = http2_load(server.address, &over, &done);
    for _ in 0..5 {
        let before = done.load(Ordering::Relaxed);
        server.upgrade();
        eventually!(|| done.load(Ordering::Relaxed) > before + 50);
    }
    over.store(true, Ordering::Relaxed);
    for client in clients {
        client.join().expect("no request fails");
    }
    server.signal(Signal::TERM);
    eventually!(|| TcpStream::connect(server.address).is_err());
    let lines = |log: String| log.lines().filter(|line| line.contains("/a.txt")).count();
    let requests = done.load(Ordering::Relaxed);
    let log = folder.path().join("access.log");
    eventually!(|| lines(fs::read_to_string(&log).expect("read log")) == requests);
}

#[test]
fn upgrade_hands_over_admin_listener() {
    let (_programs, _folder, mut command) = replaceable();
    command.args(["--admin=127.0.0.1:0", "--drain-timeout=3600"]);
    let mut server = UpgradableProcess::start(command);
    let admin = server.admin.expect("admin address");
    let get = |path: &str| {
        let mut client = Client::connect(admin);
        client.send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
        client.response()
    };
    eventually!(|| get("/readyz").status == 200);
    let mut busy = Client::connect(server.address);
    busy.send("GET /large HTTP/1.1\r\nHost: test\r\n\r\n")
        .head();
    // The old process finishes its responses; its admin interface does not interfere.
    let is_handed_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watch = scope.spawn(|| {
            while !is_handed_over.load(Ordering::Relaxed) {
                let response = get("/readyz");
                assert_eq!(response.status, 200, "{}", response.text());
            }
        });
        server.upgrade();
        let is_new = |_| !get("/transfers.json").text().contains("large");
        eventually!(|| (0..20).all(is_new) || watch.is_finished());
        is_handed_over.store(true, Ordering::Relaxed);
    });
    assert_eq!(busy.read(64 * MIB).len(), 64 * MIB);
    drop(busy);
    assert_eq!(server.child.wait_for_exit().code(), Some(0));
    eventually!(|| get("/healthz").status == 200);
}

#[test]
fn unix_socket_outlives_upgrade_and_is_removed_at_shutdown() {
    let (_programs, folder, mut command) = replaceable();
    command.args(["--bind=127.0.0.1", "--bind=unix:tws.sock"]);
    let mut server = UpgradableProcess::start(command);
    server.upgrade();
    assert_eq!(server.child.wait_for_exit().code(), Some(0));
    let sockets = ["tws.sock"].map(|name| folder.path().join(name));
    for socket in &sockets {
        UnixStream::connect(socket).expect("connect");
    }
    server.signal(Signal::TERM);
    eventually!(|| sockets.iter().all(|socket| !socket.exists()));
}

#[test]
#[ignore = "needs wrk"]
fn upgrades_under_wrk_fail_no_request() {
    let (_programs, _folder, command) = replaceable();
    let mut server = UpgradableProcess::start(command);
    let wrk = WrkLoad::on(server.address, &["-t2", "-c32"]);
    for _ in 0..20 {
        server.upgrade();
        assert_eq!(Client::connect(server.address).get("/a.txt").status, 200);
    }
    wrk.end();
}

#[test]
fn failed_upgrade_keeps_old_process_serving() {
    let (programs, _folder, command) = replaceable();
    let mut server = UpgradableProcess::start(command);
    let program = programs.path().join("tws");
    let new = programs.path().join("new");
    for script in ["#!/bin/sh\nexit 1\n", "neither a program nor a script\n"] {
        install(&new, Program::Script(script));
        fs::rename(&new, &program).expect("replace program");
        let mut kept = Client::connect(server.address);
        assert_eq!(kept.get("/a.txt").status, 200);
        server.signal(Signal::USR2);
        server.line_with("this process continues to serve");
        assert_eq!(kept.get("/a.txt").status, 200);
        assert_eq!(Client::connect(server.address).get("/a.txt").status, 200);
    }
    // The next valid program is used.
    install(&new, Program::CopyOf(env!("CARGO_BIN_EXE_tws")));
    fs::rename(&new, &program).expect("replace program");
    server.upgrade();
    assert_eq!(Client::connect(server.address).get("/a.txt").status, 200);
}

#[test]
fn upgrade_with_other_addresses_logs_that_they_need_a_restart() {
    let (_programs, folder, mut command) = replaceable();
    let settings = folder.path().join("tws.toml");
    let write = |bind: &str| {
        let text = format!("directory = '.'\nbind = {bind}\n");
        fs::write(&settings, text).expect("write file");
    };
    write("'127.0.0.1'");
    let mut server = UpgradableProcess::start({
        command.arg("--config=tws.toml");
        command
    });
    let needs_restart = "settings take effect only after a restart";
    for bind in ["['127.0.0.1', '127.0.0.2']", "'127.0.0.2'"] {
        write(bind);
        server.signal(Signal::USR2);
        let lines = server.adopt();
        // It is a line of the new process, which may come after that of the old one.
        if !lines.iter().any(|line| line.contains(needs_restart)) {
            server.line_with(needs_restart);
        }
        assert_eq!(Client::connect(server.address).get("/a.txt").status, 200);
    }
    // Sockets that fit are not reported.
    write("'127.0.0.1'");
    server.signal(Signal::USR2);
    let lines = server.adopt();
    assert!(
        !lines.iter().any(|line| line.contains(needs_restart)),
        "{lines:?}"
    );
}

#[test]
fn failed_upgrade_logs_reason_of_new_process() {
    let (_programs, folder, mut command) = replaceable();
    let site = folder.path().join("site");
    fs::create_dir(&site).expect("create directory");
    command.arg("site");
    let mut server = UpgradableProcess::start(command);
    fs::remove_dir(&site).expect("remove directory");
    // Repeated, because the old process might kill the new one before it has written its error.
    for _ in 0..5 {
        server.signal(Signal::USR2);
        let line = server.line_with("tws: ");
        assert!(line.contains("cannot serve site: no such file"), "{line}");
        server.line_with("this process continues to serve");
    }
}

#[test]
fn second_upgrade_is_rejected_and_shutdown_kills_first() {
    let (programs, folder, mut command) = replaceable();
    // The sandbox does not allow executing a shell.
    command.arg("--no-sandbox");
    let mut server = UpgradableProcess::start(command);
    let program = programs.path().join("tws");
    fs::remove_file(&program).expect("remove program");
    // A program that never serves.
    let script = "#!/bin/sh\necho $$ > pid.new; mv pid.new pid\nexec sleep 600\n";
    install(&program, Program::Script(script));
    server.signal(Signal::USR2);
    let pid = folder.path().join("pid");
    eventually!(|| pid.exists());
    server.signal(Signal::USR2);
    server.line_with("an upgrade or a shutdown is in progress");
    assert_eq!(Client::connect(server.address).get("/a.txt").status, 200);
    server.signal(Signal::TERM);
    assert_eq!(server.child.wait_for_exit().code(), Some(0));
    assert!(TcpStream::connect(server.address).is_err());
    let pid = fs::read_to_string(pid).expect("read process id");
    let new = Path::new("/proc").join(pid.trim());
    assert!(!new.exists(), "the new process still exists");
}

/// No stream breaks off, and none waits for the drain timeout: clients connect to the new process at once.
#[test]
fn event_streams_end_at_upgrade_and_at_shutdown() {
    let (_programs, _folder, mut command) = replaceable();
    command.args(["--admin=127.0.0.1:0", "--drain-timeout=3600"]);
    let mut server = UpgradableProcess::start(command);
    let admin = server.admin.expect("admin address");
    let open = || {
        let mut client = Client::connect(admin);
        client.send("GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n");
        assert_eq!(client.head().status, 200);
        assert!(!client.chunk().is_empty());
        client
    };
    let open_some = || -> Vec<Client> { (0..20).map(|_| open()).collect() };
    let expect_ends = |streams: Vec<Client>| {
        for mut stream in streams {
            // Up to the last chunk.
            stream.chunks();
            stream.expect_closed();
        }
    };
    let streams = open_some();
    server.upgrade();
    expect_ends(streams);
    assert_eq!(server.child.wait_for_exit().code(), Some(0));
    let streams = open_some();
    server.signal(Signal::TERM);
    expect_ends(streams);
    eventually!(|| TcpStream::connect(admin).is_err());
}
