//! Tests of failures around a server: descriptor exhaustion, connection limits, slow clients,
//! signals, upgrades and panics.

use std::fs;
use std::io::{BufReader, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::num::NonZeroUsize;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tws::{Body, BodyStream, Config, Request, Response, Server, StatusCode};

use crate::support::line_reader::LineReader;
use crate::support::server::Announcement;
use crate::support::{ChildProcess, Client, Program, TestServer, TwsProcess, eventually, install};

const MIB: usize = 1024 * 1024;

fn text(_: &Request<'_>) -> Response {
    Response::text("fine")
}

/// Creates a folder with a small and a large file.
fn sample_folder() -> TempDir {
    let folder = tempfile::tempdir().expect("create temporary directory");
    fs::write(folder.path().join("a.txt"), "a").expect("write file");
    let large = fs::File::create(folder.path().join("large")).expect("create file");
    large.set_len(64 * MIB as u64).expect("set file length");
    folder
}

/// The binary with its standard error, which the processes that replace it inherit.
pub(crate) struct UpgradableProcess {
    pub(crate) address: SocketAddr,
    pub(crate) admin: Option<SocketAddr>,
    pid: Pid,
    pub(crate) child: ChildProcess,
    stderr: LineReader,
}

impl UpgradableProcess {
    pub(crate) fn start(mut command: Command) -> Self {
        command
            .env_remove("RUST_LOG")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = ChildProcess::start(&mut command);
        let mut stdout = BufReader::new(child.stdout.take().expect("stdio pipe"));
        let Announcement { address, admin, .. } = Announcement::read(&mut stdout);
        // The processes that replace it announce themselves on the same pipe.
        std::thread::spawn(move || std::io::copy(&mut stdout, &mut std::io::sink()));
        let stderr = LineReader::new(child.stderr.take().expect("stdio pipe"));
        Self {
            address,
            admin,
            pid: child.pid(),
            child,
            stderr,
        }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid, signal).expect("signal process");
    }

    /// Returns the next line on standard error that contains `words`.
    fn line_with(&mut self, words: &str) -> String {
        let mut lines = self.stderr.read_until(words);
        lines.pop().expect("the line with the words")
    }

    /// Replaces the process by a new one, with SIGUSR2.
    pub(crate) fn upgrade(&mut self) {
        self.signal(Signal::USR2);
        let line = self.line_with(" serves now; this process");
        let (_, after) = line.split_once("process ").expect("process id in the line");
        let pid: i32 = after
            .split(' ')
            .next()
            .and_then(|word| word.parse().ok())
            .expect("process id");
        self.pid = Pid::from_raw(pid).expect("nonzero pid");
    }
}

impl Drop for UpgradableProcess {
    fn drop(&mut self) {
        let _ = kill_process(self.pid, Signal::KILL);
    }
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
        let before = (Instant::now(), ticks(server.pid));
        let idle = TcpStream::connect(server.address).expect("connect");
        idle.set_read_timeout(Some(Duration::from_secs(2)))
            .expect("set read timeout");
        // Nothing arrives within this time. It is the interval of the measurement, not a wait.
        let error = (&idle)
            .read(&mut [0])
            .expect_err("no response without a descriptor");
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
        let (time, spent) = (before.0.elapsed(), ticks(server.pid) - before.1);
        // Less than 1 %, and one tick that had begun before.
        let most = time.as_millis() as u64 / 1000 + 1;
        assert!(spent <= most, "{spent} ticks in {time:?}");
        let start = Instant::now();
        drop((busy, idle));
        assert_eq!(Client::connect(server.address).get("/a.txt").text(), "a");
        assert!(start.elapsed() < Duration::from_secs(1), "late");
    }
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

/// Each byte arrives long before the timeout, but their rate is below the minimum.
#[test]
fn body_below_minimum_rate_is_408() {
    let server = TestServer::configured(text, |config| {
        config.timeouts.min_rate_grace = Duration::from_millis(300);
        config.limits.min_rate_bytes_per_second = 10_000_000;
    });
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
    // A body above the minimum rate is accepted.
    let mut client = server.client();
    client.send(&head);
    client.send(vec![b'x'; MIB]);
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

/// Bytes that arrived while the process was stopped are read before any timeout is applied.
#[test]
fn requests_sent_during_sigstop_are_answered_after_sigcont() {
    let folder = sample_folder();
    let process = TwsProcess::start(
        folder.path(),
        &["--access-log=off", "--keep-alive-timeout=1"],
    );
    let mut clients: Vec<_> = (0..50).map(|_| process.client()).collect();
    for client in &mut clients {
        assert_eq!(client.get("/a.txt").text(), "a");
    }
    process.signal(Signal::STOP);
    for client in &mut clients {
        client.send("GET /a.txt HTTP/1.1\r\nHost: test\r\n\r\n");
    }
    // The test is about the time during which the process is stopped.
    std::thread::park_timeout(Duration::from_secs(2));
    process.signal(Signal::CONT);
    for client in &mut clients {
        assert_eq!(client.response().text(), "a");
    }
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
                let mut kept: Option<Client> = None;
                while !over.load(Ordering::Relaxed) {
                    let mut client = kept.take().unwrap_or_else(|| Client::connect(address));
                    let field = ["", "Connection: close\r\n"][at % 2];
                    let response = client.request("GET", "/a.txt", field);
                    assert_eq!(response.text(), "a");
                    done.fetch_add(1, Ordering::Relaxed);
                    if response.field("Connection") != Some("close") {
                        kept = Some(client);
                    }
                }
            })
        })
        .collect()
}

/// Returns a folder with a copy of the program that can be replaced, a folder to serve, and a
/// command.
fn replaceable() -> (TempDir, TempDir, Command) {
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

#[test]
fn upgrade_hands_over_admin_listener() {
    let (_programs, _folder, mut command) = replaceable();
    command.arg("--admin=127.0.0.1:0");
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
    assert_eq!(get("/healthz").status, 200);
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

/// A value that panics when it is dropped, to be dropped by an event loop.
struct PanicsOnDrop;

impl Drop for PanicsOnDrop {
    fn drop(&mut self) {
        panic!("on purpose");
    }
}

#[test]
fn event_loop_panic_makes_serve_return_error() {
    let handler = |_: &Request<'_>| {
        let bomb = PanicsOnDrop;
        let stream = BodyStream::produced(move || {
            let _held = &bomb;
            Ok(None)
        });
        Response::new(StatusCode::OK).with_body(Body::Stream(stream))
    };
    let mut config = Config::default();
    config.port = 0;
    let server = Server::bind(config).expect("bind server");
    let address = server.handle().local_addresses()[0];
    let served = std::thread::spawn(move || server.serve(handler));
    let mut client = Client::connect(address);
    // HEAD: the body is not sent, so the event loop drops it immediately.
    client.send("HEAD / HTTP/1.1\r\nHost: test\r\n\r\n");
    let result = served.join().expect("thread does not panic");
    assert!(result.is_err(), "serve() reports no error");
    assert!(TcpStream::connect(address).is_err());
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
