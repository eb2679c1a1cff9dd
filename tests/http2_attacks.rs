//! Tests of clients that attack through HTTP/2, one for each attack that is known by a CVE number.
//!
//! Each attack runs on several connections at once against the binary. Other clients are served
//! meanwhile, the connections take little memory, and those that send more frames than any client
//! has use for are closed by the limit that is named here.

use std::fs;
use std::io::Write;
use std::net::{Shutdown, SocketAddr};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use tempfile::TempDir;
use tws::{Outcome, Request, Response};

use crate::http2::configured;
use crate::support::h2::H2Client;
use crate::support::h2::frame::{
    CANCEL, CONTINUATION, DATA, END_HEADERS, END_STREAM, Frame, PING, PRIORITY, PRIORITY_UPDATE,
    PROTOCOL_ERROR, SETTINGS,
};
use crate::support::h2::hpack;
use crate::support::metrics::Metrics;
use crate::support::{Client, TwsProcess, eventually, pattern};

/// The connections of an attack.
const CONNECTIONS: usize = 8;

/// The memory that one connection may take.
const MAX_BYTES_PER_CONNECTION: u64 = 1 << 20;

/// The streams that the server permits on a connection.
const MAX_STREAMS: usize = 100;

/// Frames that no limit permits at once.
const MANY: usize = 20_000;

const INITIAL_WINDOW_SIZE: u16 = 4;

/// A server that is attacked.
struct Target {
    _folder: TempDir,
    site: TwsProcess,
    admin: SocketAddr,
    /// The memory of the process before the attack.
    memory: u64,
}

impl Target {
    fn start() -> Self {
        let folder = tempfile::tempdir().expect("create temporary directory");
        fs::write(folder.path().join("small.txt"), "small").expect("write file");
        fs::write(folder.path().join("large.bin"), pattern(4_000_000)).expect("write file");
        // With a log, so that what is recorded of a request counts, too.
        let args = [
            ".",
            "--http2=all",
            "--admin=127.0.0.1:0",
            "--access-log=log",
        ];
        let site = TwsProcess::start(folder.path(), &args);
        let mut target = Self {
            _folder: folder,
            admin: site.admin.expect("admin address"),
            site,
            memory: 0,
        };
        target.expect_service();
        target.memory = target.site.private_memory();
        target
    }

    fn connect(&self, settings: &[(u16, u32)]) -> H2Client {
        let mut client = H2Client::connect_with(self.site.address, settings);
        // The settings are exchanged afterwards, so the client sends nothing by itself.
        let stream = client.request("HEAD", "/small.txt", &[]);
        assert_eq!(client.response(stream).status(), 200);
        client.keep_windows();
        client
    }

    /// Attacks on several connections with the bytes that `frames` returns for each, serves other
    /// clients, and returns the connections. The bytes are sent as long as the server takes them.
    fn attack(
        &self,
        settings: &[(u16, u32)],
        frames: impl Fn(&mut H2Client) -> Vec<u8>,
    ) -> Vec<H2Client> {
        let mut clients: Vec<_> = (0..CONNECTIONS).map(|_| self.connect(settings)).collect();
        for client in &mut clients {
            let bytes = frames(client);
            let mut socket = client.socket().try_clone().expect("duplicate descriptor");
            thread::spawn(move || {
                // It fails when the server closes the connection, or the test ends.
                let _ = socket.write_all(&bytes);
            });
        }
        self.expect_service();
        clients
    }

    /// Asserts that the server closes all connections because of one of these limits, and that they
    /// did not take much memory.
    fn expect_closed(&self, clients: Vec<H2Client>, limits: &[&str]) {
        for mut client in clients {
            client.read_to_end();
        }
        let closed = || {
            let metrics = self.metrics();
            let count =
                |limit: &&str| metrics.value("tws_http2_floods_total", &[("limit", *limit)]);
            limits.iter().map(count).sum::<f64>()
        };
        eventually!(|| closed() == CONNECTIONS as f64);
        self.expect_little_memory();
        self.expect_service();
    }

    fn expect_little_memory(&self) {
        let after = self.site.private_memory();
        let max = self.memory + CONNECTIONS as u64 * MAX_BYTES_PER_CONNECTION;
        assert!(after <= max, "{} bytes before, {after} after", self.memory);
    }

    /// Asserts that connections whose bytes end with a PING are open when the server has processed
    /// them, and that they take little memory.
    fn expect_held(&self, mut clients: Vec<H2Client>) {
        for client in &mut clients {
            client.receive_until(|client| client.control.iter().any(|frame| frame.kind == PING));
        }
        self.expect_little_memory();
        self.expect_service();
        disconnect(clients);
        self.expect_streams(0);
    }

    fn expect_streams(&self, per_connection: usize) {
        let expected = (CONNECTIONS * per_connection) as f64;
        eventually!(|| self.metrics().value("tws_http2_streams", &[]) == expected);
    }

    /// Asserts that clients of both versions get responses.
    fn expect_service(&self) {
        assert_eq!(self.site.client().get("/small.txt").text(), "small");
        let mut client = H2Client::connect(self.site.address);
        assert_eq!(client.get("/small.txt").text(), "small");
        assert_eq!(client.get("/large.bin").content.len(), 4_000_000);
    }

    fn metrics(&self) -> Metrics {
        let mut client = Client::connect(self.admin);
        client.send(format!(
            "GET /metrics HTTP/1.1\r\nHost: {}\r\n\r\n",
            self.admin
        ));
        Metrics::parse(&client.response().text())
    }
}

/// Ends connections that the server keeps, so that their writing threads end.
fn disconnect(clients: Vec<H2Client>) {
    for client in clients {
        let _ = client.socket().shutdown(Shutdown::Both);
    }
}

fn concat(frames: impl IntoIterator<Item = Frame>) -> Vec<u8> {
    frames
        .into_iter()
        .flat_map(|frame| frame.encode())
        .collect()
}

fn ping() -> Frame {
    Frame::new(PING, 0, 0, [0; 8])
}

/// A request on the client's next stream.
fn get(client: &mut H2Client, path: &str) -> Frame {
    let mut head = client.head("GET", path, &[]);
    head.flags |= END_STREAM;
    head
}

/// CVE-2019-9511: windows that permit one byte at a time.
#[test]
fn data_dribble() {
    let target = Target::start();
    let clients = target.attack(&[(INITIAL_WINDOW_SIZE, 0)], |client| {
        let requests: Vec<_> = (0..MAX_STREAMS)
            .map(|_| get(client, "/large.bin"))
            .collect();
        let streams: Vec<_> = requests.iter().map(|frame| frame.stream).collect();
        let updates = streams.iter().cycle().take(MANY);
        let updates = updates.map(|stream| Frame::window_update(*stream, 1));
        [concat(requests), concat(updates)].concat()
    });
    target.expect_closed(clients, &["frame", "window_update"]);
}

/// CVE-2019-9512: PING frames whose answers are not read.
#[test]
fn ping_flood() {
    let target = Target::start();
    let clients = target.attack(&[], |_| ping().encode().repeat(MANY));
    target.expect_closed(clients, &["ping"]);
}

/// CVE-2019-9513: a tree of priorities that changes all the time.
#[test]
fn resource_loop() {
    let target = Target::start();
    let clients = target.attack(&[], |_| {
        let depends_on = |at: usize| {
            let parent = (at as u32 % 50) * 2 + 1;
            let stream = ((at as u32 * 7 + 3) % 50) * 2 + 101;
            Frame::new(
                PRIORITY,
                0,
                stream,
                [&parent.to_be_bytes()[..], &[at as u8]].concat(),
            )
        };
        concat((0..MANY).map(depends_on))
    });
    target.expect_closed(clients, &["priority"]);
}

/// The same with the frame that has replaced it (RFC 9218 §7.1).
#[test]
fn priority_update_flood() {
    let target = Target::start();
    let clients = target.attack(&[], |_| {
        let update = |at: usize| {
            // Of as many streams as may be open; of more they would be an error at once.
            let stream = (at as u32 % 50) * 2 + 1001;
            let value = [
                &stream.to_be_bytes()[..],
                format!("u={}", at % 8).as_bytes(),
            ]
            .concat();
            Frame::new(PRIORITY_UPDATE, 0, 0, value)
        };
        concat((0..MANY).map(update))
    });
    target.expect_closed(clients, &["priority_update"]);
}

/// CVE-2019-9514: requests that the server has to answer with RST_STREAM.
#[test]
fn reset_flood() {
    let target = Target::start();
    let clients = target.attack(&[], |client| {
        let mut request = || {
            let mut head = client.head("GET", "/small.txt", &[("Upper-Case", "x")]);
            head.flags |= END_STREAM;
            head
        };
        concat((0..MANY).map(|_| request()))
    });
    target.expect_closed(clients, &["faulty_stream"]);
}

/// CVE-2019-9515: SETTINGS frames whose acknowledgements are not read.
#[test]
fn settings_flood() {
    let target = Target::start();
    let clients = target.attack(&[], |_| Frame::settings(&[]).encode().repeat(MANY));
    target.expect_closed(clients, &["settings"]);
    // One frame with many settings, each of which changes the window of every stream.
    let target = Target::start();
    let clients = target.attack(&[], |client| {
        let requests: Vec<_> = (0..MAX_STREAMS)
            .map(|_| get(client, "/large.bin"))
            .collect();
        let settings: Vec<_> = (0..2700).map(|at| (INITIAL_WINDOW_SIZE, at % 2)).collect();
        let settings = Frame::settings(&settings).encode().repeat(MANY / 1000);
        [concat(requests), settings].concat()
    });
    target.expect_closed(clients, &["settings"]);
}

/// CVE-2019-9516: fields without a name and a value.
#[test]
fn empty_header_fields() {
    let target = Target::start();
    // As literals, as literals that enter the table, and with an empty string in Huffman code.
    for field in [[0, 0, 0], [0x40, 0, 0], [0, 0x80, 0x80]] {
        let mut client = target.connect(&[]);
        let mut head = client.head("GET", "/small.txt", &[]);
        head.payload.extend(field.repeat(90));
        head.flags |= END_STREAM;
        client.send_frame(&head);
        assert_eq!(client.response(head.stream).reset, Some(PROTOCOL_ERROR));
    }
    let clients = target.attack(&[], |client| {
        let request = |_| {
            let mut head = client.head("GET", "/small.txt", &[]);
            head.payload.extend([0x40, 0, 0].repeat(5000));
            head.flags |= END_STREAM;
            head
        };
        concat((0..500).map(request))
    });
    target.expect_closed(clients, &["faulty_stream", "discarded_headers"]);
}

/// CVE-2019-9517: open windows, and a client that reads nothing.
#[test]
fn internal_data_buffering() {
    const WINDOW: u32 = (1 << 31) - 1;
    let target = Target::start();
    let clients = target.attack(&[(INITIAL_WINDOW_SIZE, WINDOW)], |client| {
        let window = Frame::window_update(0, WINDOW - 65_535);
        let requests = (0..MAX_STREAMS).map(|_| get(client, "/large.bin"));
        concat([window].into_iter().chain(requests))
    });
    target.expect_streams(MAX_STREAMS);
    target.expect_little_memory();
    target.expect_service();
    disconnect(clients);
    target.expect_streams(0);
}

/// CVE-2019-9518: DATA frames that are empty, or hold only padding.
#[test]
fn empty_frames() {
    const PADDED: u8 = 8;
    let target = Target::start();
    for (flags, payload) in [(0, vec![]), (PADDED, vec![0]), (PADDED, vec![3, 0, 0, 0])] {
        let before = target
            .metrics()
            .value("tws_http2_floods_total", &[("limit", "empty_data")]);
        let mut client = target.connect(&[]);
        let head = client.head("PUT", "/small.txt", &[]);
        let data = Frame::new(DATA, flags, head.stream, payload);
        client.send([head.encode(), data.encode().repeat(100)].concat());
        client.read_to_end();
        let after = || {
            target
                .metrics()
                .value("tws_http2_floods_total", &[("limit", "empty_data")])
        };
        eventually!(|| after() == before + 1.0);
    }
    let target = Target::start();
    let clients = target.attack(&[], |client| {
        let head = client.head("POST", "/small.txt", &[]);
        let data = Frame::new(DATA, 0, head.stream, []).encode().repeat(MANY);
        [head.encode(), data].concat()
    });
    target.expect_closed(clients, &["empty_data"]);
}

/// CVE-2016-6581: a field of the table that is referred to by one byte each time.
#[test]
fn header_compression_bomb() {
    let target = Target::start();
    let clients = target.attack(&[], |client| {
        let request = |_| {
            let mut head = client.head("GET", "/small.txt", &[]);
            head.payload
                .extend(hpack::encode_indexed("x", &"a".repeat(4000)));
            head.payload.extend([NEWEST_FIELD].repeat(4000));
            head.flags |= END_STREAM;
            head
        };
        concat((0..500).map(request))
    });
    target.expect_closed(clients, &["discarded_headers"]);
}

/// The index of the field that has entered the dynamic table last, as a complete field.
const NEWEST_FIELD: u8 = 0x80 | 62;

/// CVE-2026-49975, CVE-2026-47774: many small fields of the table, `cookie` crumbs among them, on
/// streams that a window of 0 keeps open. One byte at a time is taken.
#[test]
fn header_bomb_that_is_held() {
    let target = Target::start();
    let clients = target.attack(&[(INITIAL_WINDOW_SIZE, 0)], |client| {
        let request = |_| {
            let mut head = client.head("GET", "/large.bin", &[]);
            head.payload.extend(hpack::encode_indexed("cookie", "a"));
            head.payload.extend([NEWEST_FIELD].repeat(4000));
            head.flags |= END_STREAM;
            head
        };
        concat((0..400).map(request))
    });
    target.expect_closed(clients, &["discarded_headers", "refused_stream"]);

    // As much as every limit permits, the one of heads that wait for a handler included.
    let target = Target::start();
    let clients = target.attack(&[(INITIAL_WINDOW_SIZE, 0)], |client| {
        let mut bytes = Vec::new();
        let mut streams = Vec::new();
        for _ in 0..MAX_STREAMS {
            let mut head = client.head("GET", "/large.bin", &[]);
            head.payload
                .extend(hpack::encode_indexed("cookie", &"a".repeat(40)));
            head.payload.extend([NEWEST_FIELD].repeat(90));
            head.flags |= END_STREAM;
            streams.push(head.stream);
            bytes.extend(head.encode());
        }
        let drip = streams.iter().cycle().take(500);
        bytes.extend(concat(drip.map(|stream| Frame::window_update(*stream, 1))));
        bytes.extend(ping().encode());
        bytes
    });
    target.expect_held(clients);
}

/// What is recorded of a request for the log is referred to by one byte, too.
#[test]
fn recorded_fields_that_are_held() {
    let target = Target::start();
    let path = format!("/large.bin?{}", "a".repeat(3900));
    let clients = target.attack(&[(INITIAL_WINDOW_SIZE, 0)], |client| {
        let request = |at| {
            let mut head = client.head("GET", "/", &[]);
            let mut block = Vec::new();
            // `:method: GET` and `:scheme: http` of the static table.
            block.extend([0x82, 0x86]);
            block.extend(match at {
                0 => hpack::encode_indexed(":path", &path),
                _ => vec![NEWEST_FIELD],
            });
            head.payload = block;
            head.flags |= END_STREAM;
            head
        };
        concat((0..MAX_STREAMS).map(request).chain([ping()]))
    });
    target.expect_held(clients);
}

/// CVE-2023-44487: requests that are cancelled at once.
#[test]
fn rapid_reset() {
    let target = Target::start();
    let clients = target.attack(&[], |client| {
        let mut request = || {
            let head = get(client, "/large.bin");
            let reset = Frame::reset(head.stream, CANCEL);
            [head, reset]
        };
        concat((0..MANY).flat_map(|_| request()))
    });
    target.expect_closed(clients, &["reset"]);
}

/// CVE-2024-27316: a field block without an end.
#[test]
fn continuation_flood() {
    for part in [
        vec![],
        vec![0x82],
        hpack::encode_indexed("x", &"a".repeat(16_000)),
    ] {
        let target = Target::start();
        let clients = target.attack(&[], |client| {
            let mut head = client.head("GET", "/small.txt", &[]);
            head.flags &= !END_HEADERS;
            let continuation = Frame::new(CONTINUATION, 0, head.stream, part.clone());
            [head.encode(), continuation.encode().repeat(1000)].concat()
        });
        target.expect_closed(clients, &["header_block"]);
    }
}

/// CVE-2025-8671: requests that are valid, after which the client makes the server reset them.
#[test]
fn made_you_reset() {
    // Each is an error of its stream only.
    let ways: [fn(u32) -> Frame; 3] = [
        |stream| Frame::window_update(stream, 0),
        |stream| Frame::window_update(stream, u32::MAX >> 1),
        |stream| Frame::new(DATA, END_STREAM, stream, *b"after the end"),
    ];
    for way in ways {
        let target = Target::start();
        let clients = target.attack(&[], |client| {
            let mut request = || {
                let head = get(client, "/large.bin");
                let fault = way(head.stream);
                [head, fault]
            };
            concat((0..MANY).flat_map(|_| request()))
        });
        target.expect_closed(clients, &["faulty_stream"]);
    }
}

/// Responses that are produced in chunks of 64 KiB, and windows for less: of most streams, no chunk is
/// produced.
#[test]
fn chunks_that_are_held() {
    const RANGES: (&str, &str) = ("range", "bytes=0-999999,1500000-3499999");
    // 1 MiB, and what is begun before the limit is reached and goes on beyond it.
    const MAX_HELD: u64 = (16 + 16 + 4) * 64 * 1024;
    let target = Target::start();
    let mut other = H2Client::connect(target.site.address);
    let mut ranges = || {
        let stream = other.request("GET", "/large.bin", &[RANGES]);
        other.response(stream).content.len()
    };
    let len = ranges();
    assert!(len > 3_000_000, "{len} bytes");
    let before = target.site.peak_memory();
    // For the beginning of a part, which is a chunk of its own.
    let clients = target.attack(&[(INITIAL_WINDOW_SIZE, 400)], |client| {
        let window = Frame::window_update(0, 1 << 30);
        let requests = (0..MAX_STREAMS).map(|_| {
            let mut head = client.head("GET", "/large.bin", &[RANGES]);
            head.flags |= END_STREAM;
            head
        });
        concat([window].into_iter().chain(requests))
    });
    // The chunks of others are produced between those of the attackers.
    for _ in 0..20 {
        assert_eq!(ranges(), len);
    }
    let used = target.site.peak_memory() - before;
    let max = CONNECTIONS as u64 * (MAX_BYTES_PER_CONNECTION + MAX_HELD);
    assert!(used <= max, "{used} of {max} bytes");
    target.expect_service();
    disconnect(clients);
    target.expect_streams(0);
}

/// The same on requests whose handlers take long: no more jobs begin than a connection may have. A job
/// whose stream is reset before it begins is not begun, and the next one has its place.
#[test]
fn reset_requests_keep_their_jobs() {
    const MAX_JOBS: usize = 16;
    let (release, released) = std::sync::mpsc::channel::<()>();
    let released = Arc::new(std::sync::Mutex::new(released));
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let handler = move |request: &Request<'_>| -> Outcome {
        if request.path() != "/job" {
            return Response::text("fine").into();
        }
        let counted = Arc::clone(&counted);
        let released = Arc::clone(&released);
        Outcome::blocking(move || {
            counted.fetch_add(1, Ordering::SeqCst);
            let _ = released.lock().expect("lock is not poisoned").recv();
            Response::text("done")
        })
    };
    // Clients have half of the threads each.
    let server = configured(handler, |config| {
        config.helpers = NonZeroUsize::new(4 * MAX_JOBS).expect("not zero");
    });
    let mut client = H2Client::connect(server.address);
    for _ in 0..MAX_STREAMS {
        let head = get(&mut client, "/job");
        client.send(concat([head.clone(), Frame::reset(head.stream, CANCEL)]));
    }
    // The server has read all of it when it answers.
    client.send_frame(&ping());
    client.receive_until(|client| client.control.iter().any(|frame| frame.kind == PING));
    assert!(calls.load(Ordering::SeqCst) <= MAX_JOBS);
    assert_eq!(H2Client::connect(server.address).get("/").text(), "fine");
    drop(release);
    assert_eq!(client.get("/").text(), "fine");
}

/// Frames that have no effect.
#[test]
fn frames_without_effect() {
    const UNKNOWN: u8 = 0xbe;
    let target = Target::start();
    let clients = target.attack(&[], |_| {
        Frame::new(UNKNOWN, 0xff, 0, [0; 8]).encode().repeat(MANY)
    });
    target.expect_closed(clients, &["ignored"]);
    let target = Target::start();
    let clients = target.attack(&[], |_| {
        Frame::new(SETTINGS, 1, 0, []).encode().repeat(MANY)
    });
    target.expect_closed(clients, &["frame"]);
    let target = Target::start();
    let clients = target.attack(&[], |_| Frame::window_update(0, 1).encode().repeat(MANY));
    target.expect_closed(clients, &["window_update"]);
}

/// More streams than the server permits.
#[test]
fn streams_beyond_the_limit() {
    let target = Target::start();
    let clients = target.attack(&[(INITIAL_WINDOW_SIZE, 0)], |client| {
        concat((0..1000).map(|_| get(client, "/large.bin")))
    });
    target.expect_closed(clients, &["refused_stream"]);
    // Bodies that never arrive.
    let target = Target::start();
    let clients = target.attack(&[], |client| {
        let head = |_| client.head("POST", "/small.txt", &[("content-length", "60000")]);
        concat((0..MAX_STREAMS).map(head).chain([ping()]))
    });
    target.expect_held(clients);
}
