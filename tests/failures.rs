//! Tests of failures around a server: descriptor exhaustion, connection limits, slow clients,
//! signals and panics.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::num::NonZeroUsize;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};
use tempfile::TempDir;
use tws::{Body, BodyStream, Request, Response, StatusCode};

use crate::support::upgradable_process::UpgradableProcess;
use crate::support::{Client, TestServer, TwsProcess, eventually};

pub(crate) const MIB: usize = 1024 * 1024;

fn text(_: &Request<'_>) -> Response {
    Response::text("fine")
}

/// Creates a folder with a small and a large file.
pub(crate) fn sample_folder() -> TempDir {
    let folder = tempfile::tempdir().expect("create temporary directory");
    fs::write(folder.path().join("a.txt"), "a").expect("write file");
    let large = fs::File::create(folder.path().join("large")).expect("create file");
    large.set_len(64 * MIB as u64).expect("set file length");
    folder
}

/// Returns the CPU time of a process, in ticks of 10 ms.
fn ticks(pid: Pid) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()))
        .expect("read process stat");
    let (_, after) = stat.rsplit_once(')').expect("process name in parentheses");
    let fields: Vec<&str> = after.split_whitespace().collect();
    let number = |at: usize| fields[at].parse::<u64>().expect("a number");
    number(11) + number(12)
}

fn with_few_descriptors(folder: &Path, more: &[&str]) -> UpgradableProcess {
    let mut command = Command::new("sh");
    command
        .current_dir(folder)
        .args(["-c", "ulimit -n 64; exec \"$0\" \"$@\""])
        .arg(env!("CARGO_BIN_EXE_tws"))
        .args(["--port=0", "--access-log=off", "--workers=2"])
        .args(more);
    UpgradableProcess::start(command)
}

/// With the connection limit that follows from 64 descriptors, and with a limit beyond them.
#[test]
fn descriptor_exhaustion_evicts_idle_and_uses_no_cpu() {
    let folder = sample_folder();
    for more in [&[][..], &["--max-connections=100000"]] {
        let mut server = with_few_descriptors(folder.path(), more);
        server.line_with("at most 64 can be open");
        let mut clients: Vec<_> = (0..500).map(|_| Client::connect(server.address)).collect();
        // Connections that have been served become idle and are evicted for the others.
        for client in &mut clients {
            client.send("GET /a.txt HTTP/1.1\r\nHost: test\r\n\r\n");
        }
        for client in &mut clients {
            assert_eq!(client.response().text(), "a");
        }
        drop(clients);
        // These connections stay busy, and further ones wait in the backlog.
        let busy: Vec<_> = (0..100)
            .map(|_| {
                let mut client = Client::connect(server.address);
                client.send("GET /large HTTP/1.1\r\nHost: test\r\n\r\n");
                client
            })
            .collect();
        let idle = TcpStream::connect(server.address).expect("connect");
        idle.set_read_timeout(Some(Duration::from_secs(2)))
            .expect("set read timeout");
        // The server may still be filling the socket buffers of the busy connections.
        eventually!(|| {
            let before = (Instant::now(), ticks(server.pid));
            // Nothing arrives within this time. It is the interval of the measurement, not a wait.
            let error = (&idle)
                .read(&mut [0])
                .expect_err("no response without a descriptor");
            assert_eq!(error.kind(), ErrorKind::WouldBlock);
            let (time, spent) = (before.0.elapsed(), ticks(server.pid) - before.1);
            // Less than 1 %, and one tick that had begun before.
            spent <= time.as_millis() as u64 / 1000 + 1
        });
        drop((busy, idle));
        assert_eq!(Client::connect(server.address).get("/a.txt").text(), "a");
    }
}

/// Without eviction the incomplete heads would occupy all descriptors until their timeout, and be
/// answered with a 408.
#[test]
fn descriptor_exhaustion_evicts_incomplete_requests() {
    let folder = sample_folder();
    let proxy = "PROXY TCP4 192.0.2.7 192.0.2.1 1234 80\r\n";
    let table: [(&[&str], &str, &str); 3] = [
        (&[], "GET / HT", ""),
        (&["--keep-alive-timeout=3600"], "", ""),
        (&["--proxy-protocol"], "PROXY TC", proxy),
    ];
    for (more, incomplete, preamble) in table {
        let server = with_few_descriptors(folder.path(), more);
        let held: Vec<_> = (0..150)
            .map(|_| {
                let mut client = Client::connect(server.address);
                client.send(incomplete);
                client
            })
            .collect();
        let mut new = Client::connect(server.address);
        new.send(preamble);
        assert_eq!(new.get("/a.txt").text(), "a", "{incomplete:?}");
        let ends = held.into_iter().filter_map(|client| {
            client
                .stream()
                .set_nonblocking(true)
                .expect("set non-blocking mode");
            match client.stream().read(&mut [0; 100]) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => None,
                // Closed or reset.
                Ok(0) | Err(_) => Some(0),
                Ok(count) => Some(count),
            }
        });
        let ends: Vec<_> = ends.collect();
        assert!(
            !ends.is_empty() && ends.iter().all(|count| *count == 0),
            "{ends:?}"
        );
    }
}

/// Connections that are incomplete in any way, with timeouts that do not end them.
#[test]
fn connection_limit_evicts_incomplete_connections() {
    for incomplete in ["", "GET / HT", "GET / HTTP/1.1\r\nHost: h\r\n", "\0"] {
        let server = TestServer::configured(text, |config| {
            let long = Duration::from_secs(3600);
            config.timeouts.header = long;
            config.timeouts.keep_alive = long;
            config.timeouts.linger = long;
            config.limits.max_connections = Some(3);
        });
        let mut held: Vec<_> = (0..3).map(|_| server.client()).collect();
        for client in &mut held {
            client.send(incomplete);
            if incomplete == "\0" {
                // The connection lingers, as this client does not close it.
                assert_eq!(client.response().status, 400);
            }
        }
        eventually!(|| server.handle.connections() == 3);
        assert_eq!(server.client().get("/").text(), "fine", "{incomplete:?}");
        let counts = server.handle.stats();
        assert_eq!(counts.rejected, 0, "{incomplete:?}");
        assert!(counts.evicted > 0, "{incomplete:?}");
    }
}

/// A request that is being received or answered is not incomplete: its client has to keep a minimum
/// rate.
#[test]
fn connection_limit_spares_requests_in_progress() {
    let server = TestServer::configured(text, |config| {
        config.timeouts.idle_grace = Duration::ZERO;
        config.limits.max_connections = Some(2);
    });
    let mut busy: Vec<_> = (0..2).map(|_| server.client()).collect();
    for client in &mut busy {
        client.send("POST / HTTP/1.1\r\nHost: test\r\nExpect: 100-continue\r\n");
        client.send("Content-Length: 2\r\n\r\n");
        assert_eq!(client.head().status, 100);
    }
    assert_eq!(server.client().response().status, 503);
    for client in &mut busy {
        client.send("ab");
        assert_eq!(client.response().text(), "fine");
    }
    assert_eq!(server.handle.stats().evicted, 0);
}

/// More files than descriptors, each of which would be kept open in the cache.
#[test]
fn cached_open_files_do_not_exhaust_descriptors() {
    let folder = sample_folder();
    for at in 0..100 {
        let file = fs::File::create(folder.path().join(at.to_string())).expect("create file");
        file.set_len(MIB as u64).expect("set file length");
    }
    let server = with_few_descriptors(folder.path(), &[]);
    let mut client = Client::connect(server.address);
    for at in 0..100 {
        let response = client.get(&format!("/{at}"));
        assert_eq!(
            (response.status, response.content.len()),
            (200, MIB),
            "{at}"
        );
    }
    // The cached files leave descriptors for clients.
    let mut clients: Vec<_> = (0..30).map(|_| Client::connect(server.address)).collect();
    for client in &mut clients {
        assert_eq!(client.get("/a.txt").text(), "a");
    }
}

#[test]
fn connection_limit_evicts_oldest_idle_not_busy() {
    let (release, released) = std::sync::mpsc::channel::<()>();
    let released = Arc::new(std::sync::Mutex::new(released));
    let handler = move |request: &Request<'_>| -> tws::Outcome {
        let released = Arc::clone(&released);
        match request.path() {
            "/job" => tws::Outcome::blocking(move || {
                let _ = released.lock().expect("lock is not poisoned").recv();
                Response::text("done")
            }),
            _ => Response::text("fine").into(),
        }
    };
    let server = TestServer::configured(handler, |config| {
        config.workers = Some(NonZeroUsize::MIN);
        config.limits.max_connections = Some(3);
    });
    let mut busy = server.client();
    busy.send("GET /job HTTP/1.1\r\nHost: test\r\n\r\n");
    eventually!(|| server.handle.stats().requests == 1);
    let mut oldest = server.client();
    assert_eq!(oldest.get("/").text(), "fine");
    let mut younger = server.client();
    assert_eq!(younger.get("/").text(), "fine");
    let mut new = server.client();
    assert_eq!(new.get("/").text(), "fine");
    oldest.expect_closed();
    assert_eq!(younger.get("/").text(), "fine");
    drop(release);
    assert_eq!(busy.response().text(), "done");
    let counts = server.handle.stats();
    assert_eq!((counts.evicted, counts.rejected), (1, 0));
}

#[test]
fn connection_above_client_limit_is_503() {
    let server = TestServer::configured(text, |config| {
        config.addresses = vec![IpAddr::from([0, 0, 0, 0]).into()];
        config.limits.max_connections_per_client = Some(2);
    });
    let at = SocketAddr::from(([127, 0, 0, 1], server.address.port()));
    let mut first = Client::connect(at);
    let mut second = Client::connect(at);
    assert_eq!(first.get("/").status, 200);
    assert_eq!(second.get("/").status, 200);
    let mut third = Client::connect(at);
    assert_eq!(third.response().status, 503);
    third.expect_closed();
    // A different address is a different client.
    let other = Client::connect_from([127, 0, 0, 2], at).get("/");
    assert_eq!(other.status, 200);
    let counts = server.handle.stats();
    assert_eq!((counts.rejected, counts.rejected_clients), (1, 1));
    drop(first);
    eventually!(|| server.handle.connections() == 1);
    assert_eq!(Client::connect(at).get("/").status, 200);
}

/// Each byte arrives long before the timeout, but their rate is below the minimum: it is less than
/// 1,000 bytes per second on any machine.
#[test]
fn body_below_minimum_rate_is_408() {
    let at_rate = |min_rate| {
        TestServer::configured(text, |config| {
            config.timeouts.min_rate_grace = Duration::from_millis(300);
            config.limits.min_rate_bytes_per_second = min_rate;
        })
    };
    let server = at_rate(10_000_000);
    let head = format!("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: {MIB}\r\n\r\n");
    let mut client = server.client();
    client.send(&head);
    let sender = client.stream().try_clone().expect("duplicate descriptor");
    let over = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&over);
    let dribble = std::thread::spawn(move || {
        while !seen.load(Ordering::Relaxed) && (&sender).write_all(b"x").is_ok() {
            std::thread::park_timeout(Duration::from_millis(1));
        }
    });
    assert_eq!(client.response().status, 408);
    over.store(true, Ordering::Relaxed);
    dribble.join().expect("thread does not panic");
    // A body above the minimum rate is accepted. However slow this client is, the beginning of the
    // body comes with the head, and is enough for hours.
    let server = at_rate(1);
    let mut client = server.client();
    client.send([head.as_bytes(), &vec![b'x'; MIB]].concat());
    assert_eq!(client.response().status, 200);
}

/// One client that does not read, and one that reads a few bytes now and then.
#[test]
fn response_read_below_minimum_rate_closes_connection() {
    let server = TestServer::configured(
        |_: &Request<'_>| Response::text("x".repeat(64 * MIB)),
        |config| {
            config.timeouts.min_rate_grace = Duration::from_millis(300);
            config.limits.min_rate_bytes_per_second = 100_000_000;
            // Only the minimum rate can close the connections.
            config.timeouts.send = Duration::from_secs(3600);
        },
    );
    let mut shut = server.client();
    shut.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n").head();
    let mut slow = server.client();
    slow.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n").head();
    eventually!(|| {
        if server.handle.connections() == 2 {
            slow.read(16);
        }
        server.handle.connections() == 0
    });
}

/// Stops a process, and waits until each of its threads is stopped.
fn stop(process: &TwsProcess) {
    process.signal(Signal::STOP);
    let tasks = format!("/proc/{}/task", process.child.id());
    let is_stopped = |task: std::io::Result<fs::DirEntry>| {
        let stat = fs::read_to_string(task.expect("a thread").path().join("stat"));
        stat.is_ok_and(|stat| stat.contains(") T "))
    };
    eventually!(|| {
        let mut tasks = fs::read_dir(&tasks).expect("read process threads");
        tasks.all(is_stopped)
    });
}

/// Bytes that arrived while the process was stopped are read before any timeout is applied.
#[test]
fn requests_sent_during_sigstop_are_answered_after_sigcont() {
    const TIMEOUT: Duration = Duration::from_secs(1);
    const REQUEST: &[u8] = b"GET /a.txt HTTP/1.1\r\nHost: test\r\n\r\n";
    let folder = sample_folder();
    let timeout = format!("--keep-alive-timeout={}", TIMEOUT.as_secs());
    let process = TwsProcess::start(folder.path(), &["--access-log=off", &timeout]);
    // On a slow machine the timeout closes connections before the process is stopped.
    let open = |_| {
        let client = process.client();
        let mut stream = client.stream();
        let is_answered = stream.write_all(REQUEST).is_ok()
            && stream.read(&mut [0; 4096]).is_ok_and(|count| count > 0);
        is_answered.then_some(client)
    };
    let is_open = |client: &Client| {
        let stream = client.stream();
        stream.set_nonblocking(true).expect("set non-blocking mode");
        let end = stream.peek(&mut [0]);
        stream.set_nonblocking(false).expect("set blocking mode");
        end.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
    };
    eventually!(|| {
        let mut clients: Vec<_> = (0..50).filter_map(open).collect();
        stop(&process);
        clients.retain(is_open);
        for client in &mut clients {
            client.send(REQUEST);
        }
        // The test is about the time during which the process is stopped.
        std::thread::park_timeout(2 * TIMEOUT);
        process.signal(Signal::CONT);
        for client in &mut clients {
            assert_eq!(client.response().text(), "a");
        }
        !clients.is_empty()
    });
}

#[test]
fn sigterm_finishes_download_and_closes_idle_connections() {
    let folder = sample_folder();
    let mut process = TwsProcess::start(folder.path(), &["--access-log=off"]);
    let mut idle = process.client();
    assert_eq!(idle.get("/a.txt").status, 200);
    let mut busy = process.client();
    busy.send("GET /large HTTP/1.1\r\nHost: test\r\n\r\n")
        .head();
    process.signal(Signal::TERM);
    idle.expect_closed();
    eventually!(|| TcpStream::connect(process.address).is_err());
    assert_eq!(busy.read(64 * MIB).len(), 64 * MIB);
    busy.end_input().expect_closed();
    assert_eq!(process.child.wait_for_exit().code(), Some(0));
}

#[test]
fn drain_timeout_is_exit_0_and_second_sigterm_exit_1() {
    let folder = sample_folder();
    for (args, code) in [
        (&["--access-log=off", "--drain-timeout=1"], 0),
        (&["--access-log=off", "--drain-timeout=3600"], 1),
    ] {
        let mut process = TwsProcess::start(folder.path(), args);
        let mut busy = process.client();
        busy.send("GET /large HTTP/1.1\r\nHost: test\r\n\r\n")
            .head();
        process.signal(Signal::TERM);
        eventually!(|| TcpStream::connect(process.address).is_err());
        if code == 1 {
            process.signal(Signal::TERM);
        }
        assert_eq!(process.child.wait_for_exit().code(), Some(code));
    }
}

/// A value that panics when it is dropped, to be dropped by an event loop.
struct PanicsOnDrop;

impl Drop for PanicsOnDrop {
    fn drop(&mut self) {
        panic!("on purpose");
    }
}

/// HEAD: the body is not sent, so the event loop drops it.
#[test]
fn body_that_panics_in_the_event_loop_ends_only_its_connection() {
    let handler = |request: &Request<'_>| {
        let bomb = PanicsOnDrop;
        let stream = BodyStream::produced(move || {
            let _held = &bomb;
            Ok(None)
        });
        match request.method().as_str() {
            "HEAD" => Response::new(StatusCode::OK).with_body(Body::Stream(stream)),
            _ => {
                std::mem::forget(stream);
                Response::text("fine")
            }
        }
    };
    let mut server = TestServer::configured(handler, |config| {
        config.workers = Some(std::num::NonZeroUsize::MIN);
    });
    let mut other = server.client();
    assert_eq!(other.get("/").text(), "fine");
    let mut client = server.client();
    client.send("HEAD / HTTP/1.1\r\nHost: test\r\n\r\n");
    client.rest_or_reset();
    assert_eq!(other.get("/").text(), "fine");
    server.handle.shut_down();
    server.join();
}

/// The text of log lines. Other tests look for parts of them.
#[test]
fn log_lines_match_golden_text() {
    let folder = sample_folder();
    let mut command = Command::new(env!("CARGO_BIN_EXE_tws"));
    command
        .current_dir(folder.path())
        .args(["--port=0", "--access-log=off", "-v"]);
    let mut server = UpgradableProcess::start(command);
    server.signal(Signal::HUP);
    let reloaded = server.line_with("");
    server.signal(Signal::TERM);
    let ends = server.line_with("");
    for (line, expected) in [
        (reloaded, "] reload: the new settings are in force\n"),
        (
            ends,
            "] shutdown: finishing responses in progress; a second signal exits \
             at once\n",
        ),
    ] {
        assert!(line.ends_with(expected), "{line}");
    }
}

/// A container may have no /proc. What needs it is done in another way, or fails alone.
#[test]
#[ignore = "needs unshare, and root or user namespaces"]
fn process_without_proc_serves_stores_and_upgrades() {
    let folder = sample_folder();
    let mut command = Command::new("unshare");
    let without_proc = "mount -t tmpfs none /proc && exec \"$0\" \"$@\"";
    command
        .current_dir(folder.path())
        .args(["--map-root-user", "--mount", "sh", "-c", without_proc])
        .arg(env!("CARGO_BIN_EXE_tws"))
        .args(["--port=0", "--admin=127.0.0.1:0", "--access-log=off"])
        .args(["--upload", "--listing=on", "."]);
    let mut server = UpgradableProcess::start(command);
    assert_works_without_proc(&server, "first");
    server.upgrade();
    // While it ends, the old process may accept a connection and close it.
    assert_eq!(server.child.wait_for_exit().code(), Some(0));
    assert_works_without_proc(&server, "second");
}

fn assert_works_without_proc(server: &UpgradableProcess, name: &str) {
    let mut client = Client::connect(server.address);
    assert_eq!(client.get("/a.txt").status, 200);
    client.send(format!(
        "PUT /{name} HTTP/1.1\r\nHost: test\r\nContent-Length: 3\r\n\r\nput"
    ));
    assert_eq!(client.response().status, 201);
    assert_eq!(client.get(&format!("/{name}")).text(), "put");
    let mut admin = Client::connect(server.admin.expect("admin address"));
    admin.send("GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(admin.response().status, 200);
}
