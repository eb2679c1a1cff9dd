//! Tests of clients that exhaust a server's memory, descriptors or time.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::{Resource, getrlimit};
use socket2::{Domain, SockRef, Socket, Type};
use tws::{Limits, Request, Response, Timeouts};

use crate::support::{HttpResponse, TestServer, TwsProcess, eventually, pattern};

/// The resources in use by a process.
#[derive(Clone, Copy, Debug)]
struct ProcessResources {
    descriptors: usize,
    memory: u64,
}

fn process_resources(server: &TwsProcess) -> ProcessResources {
    let folder = format!("/proc/{}", server.child.id());
    let status = fs::read_to_string(format!("{folder}/status")).expect("read process status");
    let memory = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kibibytes = memory.and_then(|line| line.trim().strip_suffix(" kB"));
    let kibibytes: u64 = kibibytes.and_then(|n| n.parse().ok()).expect("VmRSS in kB");
    ProcessResources {
        descriptors: fs::read_dir(format!("{folder}/fd"))
            .expect("read process descriptors")
            .count(),
        memory: kibibytes * 1024,
    }
}

/// Asserts that descriptors return to their number before, and memory almost: allocators keep some.
fn assert_nothing_left(server: &TwsProcess, before: ProcessResources) {
    const SPARE: u64 = 8 * 1024 * 1024;
    eventually!(|| process_resources(server).descriptors <= before.descriptors);
    let after = process_resources(server);
    assert!(
        after.memory <= before.memory + SPARE,
        "{before:?} {after:?}"
    );
}

/// Limits a number of connections to half of this process's descriptor limit.
fn affordable(wanted: usize) -> usize {
    let most = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    wanted.min(usize::try_from(most / 2).unwrap_or(usize::MAX))
}

const BIG: usize = 4_000_000;

fn site() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("create temporary directory");
    fs::write(folder.path().join("small.txt"), "small").expect("write file");
    fs::write(folder.path().join("big.bin"), pattern(BIG)).expect("write file");
    folder
}

fn quiet(site: &Path) -> TwsProcess {
    TwsProcess::start(site, &["--workers=1", "--access-log=off"])
}

/// Connects from a separate local address: one address has too few ports for so many connections.
fn connect(to: SocketAddr, at: usize) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("create socket");
    let [low, high] = [at % 250, at / 250 % 250].map(|part| part as u8 + 1);
    let from = SocketAddr::from((Ipv4Addr::new(127, 1, high, low), 0));
    socket.bind(&from.into()).expect("bind address");
    socket.connect(&to.into()).expect("connect");
    socket.into()
}

const GET: &[u8] = b"GET /small.txt HTTP/1.1\r\nHost: h\r\n\r\n";

/// Where a client aborts: a name, the bytes sent before, and the number of response bytes read.
const ABORT_POINTS: [(&str, &[u8], usize); 8] = [
    ("before a head", b"", 0),
    ("in a head", b"GET /small.txt HTTP/1.1\r\nHo", 0),
    (
        "in content",
        b"GET /small.txt HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nabc",
        0,
    ),
    (
        "in chunks",
        b"GET /small.txt HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
        0,
    ),
    ("before a response", GET, 0),
    (
        "in a response",
        b"GET /big.bin HTTP/1.1\r\nHost: h\r\n\r\n",
        100,
    ),
    ("after a response", GET, 15),
    (
        "after the last response",
        b"GET /small.txt HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
        15,
    ),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CloseKind {
    Closes,
    Resets,
    /// Shuts down its sending side and reads to the end.
    HalfCloses,
}

/// Opens a connection and ends it; `at` selects where and how.
fn open_and_abort(address: SocketAddr, at: usize) {
    let (_, request, read) = ABORT_POINTS[at % ABORT_POINTS.len()];
    let close_kind =
        [CloseKind::Closes, CloseKind::Resets, CloseKind::HalfCloses][at / ABORT_POINTS.len() % 3];
    let mut stream = connect(address, at);
    stream.write_all(request).expect("send bytes");
    stream
        .read_exact(&mut vec![0; read])
        .expect("read start of response");
    match close_kind {
        CloseKind::Closes => {}
        CloseKind::Resets => {
            let linger = Some(Duration::ZERO);
            SockRef::from(&stream)
                .set_linger(linger)
                .expect("set linger time");
        }
        CloseKind::HalfCloses => {
            stream
                .shutdown(Shutdown::Write)
                .expect("shut down sending side");
            let rest = std::io::copy(&mut stream, &mut std::io::sink());
            rest.expect("read to end of connection");
        }
    }
}

fn short_connections(count: usize) {
    let site = site();
    let server = quiet(site.path());
    for at in 0..count / 10 {
        open_and_abort(server.address, at);
    }
    let mut client = server.client();
    assert_eq!(client.get("/small.txt").text(), "small");
    drop(client);
    // The server notices all closed connections eventually.
    eventually!(|| process_resources(&server).descriptors < 64);
    let before = process_resources(&server);
    for at in 0..count {
        open_and_abort(server.address, at);
    }
    assert_nothing_left(&server, before);
    assert_eq!(server.client().get("/small.txt").text(), "small");
}

#[test]
fn short_connections_leak_no_descriptors_or_memory() {
    short_connections(5_000);
}

#[test]
#[ignore = "half a minute"]
fn hundred_thousand_short_connections_leak_nothing() {
    short_connections(100_000);
}

/// A head that arrives byte by byte is rejected at its deadline, although bytes still arrive, and
/// other clients are not delayed meanwhile.
#[test]
fn slow_heads_are_408_while_others_are_served() {
    let server = TestServer::configured(
        |_: &Request<'_>| Response::text("quick"),
        |config| {
            config.timeouts.header = Duration::from_millis(500);
            config.timeouts.keep_alive = Duration::from_secs(600);
            config.limits.max_connections = Some(10_000);
            config.workers = Some(1.try_into().expect("nonzero"));
        },
    );
    let mut slow: Vec<_> = (0..affordable(1000))
        .map(|at| {
            let stream = connect(server.address, at);
            stream.set_nonblocking(true).expect("set non-blocking mode");
            stream
        })
        .collect();
    let count = slow.len();
    let mut other = server.client();
    let mut answers = 0;
    let mut served = 0;
    while !slow.is_empty() {
        assert_eq!(other.get("/").text(), "quick");
        served += 1;
        slow.retain_mut(|stream| {
            // The target stays below its maximum length, however often this repeats.
            let _ = stream.write(b"G");
            let mut buffer = [0; 4096];
            match stream.read(&mut buffer) {
                Ok(read) => {
                    let text = String::from_utf8_lossy(&buffer[..read]);
                    assert!(text.starts_with("HTTP/1.1 408 "), "{text:?}");
                    answers += 1;
                    false
                }
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::WouldBlock);
                    true
                }
            }
        });
    }
    assert_eq!(answers, count);
    assert!(served > 1, "no other request was served meanwhile");
}

/// Once the outbox is full, the server stops reading a client that pipelines without reading; later
/// the client gets all responses.
#[test]
fn pipelining_without_reading_is_bounded_by_outbox() {
    const REPLY: usize = 4000;
    let server = TestServer::configured(
        |_: &Request<'_>| Response::text("x".repeat(REPLY)),
        |config| config.workers = Some(1.try_into().expect("nonzero")),
    );
    let mut other = server.client();
    let mut flood = connect(server.address, 0);
    flood.set_nonblocking(true).expect("set non-blocking mode");
    let request = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n";
    let batch = request.repeat(1000);
    let mut sent = 0;
    let mut asked = 0;
    // Reading has stopped when the other client was answered many times and this one was not.
    let mut quiet = 0;
    while quiet < 20 {
        let answered = server.handle.stats().requests - asked;
        match flood.write(&batch[sent % request.len()..]) {
            Ok(count) => sent += count,
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
        assert_eq!(other.get("/").content.len(), REPLY);
        asked += 1;
        let more = server.handle.stats().requests - asked > answered;
        quiet = if more { 0 } else { quiet + 1 };
    }
    let answered = server.handle.stats().requests - asked;
    let of_kernel = |name: &str| -> u64 {
        let text =
            fs::read_to_string(format!("/proc/sys/net/ipv4/{name}")).expect("read kernel setting");
        let most = text.split_whitespace().nth(2).expect("three numbers");
        most.parse().expect("a number")
    };
    // The outbox, the kernel's two buffers, and the response that exceeded them.
    let bound = Limits::default().max_outbox_bytes as u64
        + of_kernel("tcp_wmem")
        + of_kernel("tcp_rmem")
        + 2 * REPLY as u64;
    assert!(answered * REPLY as u64 <= bound, "{answered} responses");

    flood.set_nonblocking(false).expect("set non-blocking mode");
    let mut all = flood.try_clone().expect("duplicate descriptor");
    let reader = std::thread::spawn(move || {
        let mut text = Vec::new();
        all.read_to_end(&mut text).map(|_| text)
    });
    // The rest of the request that is half sent.
    let half = sent % request.len();
    if half > 0 {
        flood
            .write_all(&request[half..])
            .expect("server reads again");
        sent += request.len() - half;
    }
    flood
        .shutdown(Shutdown::Write)
        .expect("shut down sending side");
    let text = reader
        .join()
        .expect("thread does not panic")
        .expect("read to end of connection");
    let responses = memchr::memmem::find_iter(&text, b"HTTP/1.1 200 OK\r\n").count();
    assert_eq!(responses, sent / request.len());
}

/// Asserts that the memory of a server stays below the bound that its limits give.
fn largest_requests(wanted: usize) {
    let limits = Limits::default();
    let site = site();
    let server = quiet(site.path());
    let count = affordable(wanted);
    let head = |fields: usize| {
        let head = "GET /small.txt HTTP/1.1\r\nHost: h\r\nX: ";
        let end = "\r\nContent-Length: 60000\r\n\r\n";
        let value = "x".repeat(fields - head.len() - end.len());
        format!("{head}{value}{end}").into_bytes()
    };
    let head = head(limits.max_head_bytes);
    let content = vec![b'x'; 59_999];
    let mut probe = server.client();
    assert_eq!(probe.get("/small.txt").text(), "small");
    let before = process_resources(&server);
    // A slow machine opens fewer connections: their heads must be complete before the timeout.
    let timeout = Timeouts::default().header;
    let start = Instant::now();
    let mut floods: Vec<_> = (0..count)
        .take_while(|_| start.elapsed() < timeout / 4)
        .map(|at| {
            let mut stream = connect(server.address, at);
            stream
                .write_all(&head[..head.len() - 1])
                .expect("server reads");
            stream
        })
        .collect();
    let count = floods.len();
    let bound = before.memory + (count * limits.max_memory_per_connection()) as u64;
    // A response to another client arrives after the bytes sent before have been read.
    let memory = |probe: &mut crate::support::Client| {
        for _ in 0..5 {
            assert_eq!(probe.get("/small.txt").text(), "small");
        }
        process_resources(&server).memory
    };
    let with_heads = memory(&mut probe);
    // A head uses only its own part of the bound.
    let bound_of_heads = before.memory + (count * (2 * limits.max_head_bytes + 24 * 1024)) as u64;
    assert!(
        with_heads <= bound_of_heads,
        "{with_heads} of {bound_of_heads} bytes"
    );
    for stream in &mut floods {
        stream
            .write_all(&head[head.len() - 1..])
            .expect("server reads");
    }
    for stream in &mut floods {
        stream.write_all(&content).expect("server reads");
    }
    let with_contents = memory(&mut probe);
    println!("{count} connections, from {before:?}: {with_heads} and {with_contents} bytes");
    assert!(with_contents <= bound, "{with_contents} of {bound} bytes");
    for mut stream in floods {
        stream.write_all(b"x").expect("server reads");
        let mut response = [0; 15];
        stream.read_exact(&mut response).expect("read response");
        assert_eq!(&response, b"HTTP/1.1 200 OK");
    }
}

#[test]
fn largest_requests_stay_within_memory_bound() {
    largest_requests(1_000);
}

#[test]
#[ignore = "needs 20,000 descriptors and a gigabyte"]
fn ten_thousand_largest_requests_stay_within_memory_bound() {
    largest_requests(10_000);
}

/// Counts of the mixed load.
#[derive(Default)]
struct LoadTotals {
    counts: std::collections::BTreeMap<&'static str, u64>,
    bytes: u64,
}

impl LoadTotals {
    fn count(&mut self, what: &'static str, bytes: usize) {
        *self.counts.entry(what).or_default() += 1;
        self.bytes += bytes as u64;
    }
}

/// Runs one round of every kind of request, and compares every byte.
fn mixed_load(server: &TwsProcess, at: usize, big: &[u8], totals: &mut LoadTotals) {
    let small = |response: &HttpResponse| assert_eq!(response.text(), "small");
    let mut client = server.client();
    for _ in 0..20 {
        let response = client.get("/small.txt");
        small(&response);
        totals.count("small", response.content.len());
    }
    let tag = client.get("/small.txt");
    let tag = tag.field("ETag").expect("ETag field").to_owned();
    let fields = format!("If-None-Match: {tag}\r\n");
    // A file written moments ago has a weak entity tag, which matches as well.
    assert_eq!(client.request("GET", "/small.txt", &fields).status, 304);
    totals.count("conditional", 0);

    let start = at * 7919 % (BIG - 1000);
    let fields = format!("Range: bytes={start}-{}\r\n", start + 999);
    let response = client.request("GET", "/big.bin", &fields);
    assert_eq!(response.status, 206);
    assert!(response.content == big[start..start + 1000], "other bytes");
    totals.count("range", 1000);

    client.send(GET.repeat(50));
    for _ in 0..50 {
        small(&client.response());
        totals.count("pipelined", 5);
    }
    assert!(client.get("/big.bin").content == big, "other bytes");
    totals.count("big", BIG);

    client.send("GET /big.bin HTTP/1.1\r\nHost: h\r\n\r\n");
    client.head();
    for piece in big.chunks(BIG / 16) {
        assert!(client.read(piece.len()) == piece, "other bytes");
        small(&server.client().get("/small.txt"));
    }
    totals.count("slow", BIG);

    let file = &big[..10_000 + at % 5000];
    // Few names: the cache keeps what it knows of a file for a while, up to a bound.
    let name = format!("/up/{}.bin", at % 8);
    let len = file.len();
    client.send(format!(
        "PUT {name} HTTP/1.1\r\nHost: h\r\nContent-Length: {len}\r\n\r\n"
    ));
    client.send(file);
    let response = client.response();
    assert_eq!(response.status, 201, "{}", response.text());
    totals.count("upload", file.len());
    let mut client = server.client();
    assert!(client.get(&name).content == file, "other bytes");

    assert_eq!(client.request("DELETE", "/small.txt", "").status, 405);
    totals.count("refused", 0);
    for more in 0..24 {
        open_and_abort(server.address, at * 24 + more);
        totals.count("aborting", 0);
    }
}

/// Mixed load for some minutes: at the end the server uses as much as after the first rounds.
#[test]
#[ignore = "three minutes"]
fn mixed_load_leaks_no_descriptors_or_memory() {
    let seconds = std::env::var("TWS_SOAK_SECONDS").ok();
    let seconds = seconds.and_then(|text| text.parse().ok()).unwrap_or(180);
    let site = site();
    let uploads = site.path().join("up");
    fs::create_dir(&uploads).expect("create directory");
    let server = TwsProcess::start(site.path(), &["--access-log=off", "--upload"]);
    let big = pattern(BIG);
    let mut totals = LoadTotals::default();
    let round = |at: usize, totals: &mut LoadTotals| {
        mixed_load(&server, at, &big, totals);
        fs::remove_file(uploads.join(format!("{}.bin", at % 8))).expect("remove upload");
    };
    for at in 0..20 {
        round(at, &mut totals);
    }
    eventually!(|| process_resources(&server).descriptors < 64);
    let before = process_resources(&server);
    let start = Instant::now();
    let mut at = 20;
    while start.elapsed() < Duration::from_secs(seconds) {
        round(at, &mut totals);
        at += 1;
    }
    println!("{at} rounds, {:?}, {} bytes", totals.counts, totals.bytes);
    println!("before {before:?}, after {:?}", process_resources(&server));
    assert_nothing_left(&server, before);
}
