//! Tests of the number of allocations per request and of the memory per idle connection: limits
//! that do not depend on the speed of the machine.
//!
//! The counts are those of the whole process, including the server's threads. Therefore the client
//! here allocates nothing, and a single test does everything in sequence, so that the test harness
//! has nothing else to do either.

use std::alloc::System;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use tws::bench::BenchConnection;
use tws::{
    Body, Broadcast, Config, Error, Handler, Request, Response, Router, Server, ServerHandle,
    StaticFiles, StatusCode,
};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

#[test]
fn request_allocates_nothing_and_idle_connection_is_below_256_bytes() {
    let folder = tempfile::tempdir().expect("create temporary directory");
    write_small_file(folder.path());
    let files = StaticFiles::new(folder.path()).expect("open site root");
    connection_allocations(&files);
    server_allocations(files.clone());
    idle_connection_memory(files);
    event_stream_memory();
    #[cfg(feature = "websocket")]
    idle_websocket_memory();
}

fn write_small_file(folder: &Path) {
    let path = folder.join("small.txt");
    std::fs::write(&path, [b'x'; 1024]).expect("write file");
    // Long past, so that the entity tag is strong.
    let file = std::fs::File::options().write(true).open(&path);
    let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(1_577_836_800);
    file.expect("open file")
        .set_modified(long_ago)
        .expect("set modification time");
}

fn connection_allocations(files: &StaticFiles) {
    let first = files.handle(&Request::get("/small.txt")).wait();
    let tag = first.headers()["ETag"].to_str().expect("valid UTF-8");
    let conditional = request("GET", &format!("If-None-Match: {tag}\r\n"));
    let coded = request("GET", "Accept-Encoding: gzip\r\n");
    let text = |_: &Request<'_>| Response::text("hello\n");
    let bytes = |_: &Request<'_>| {
        Response::new(StatusCode::OK).with_body(Body::Bytes(Bytes::from_static(b"hello\n")))
    };
    let router = Router::new().get("/small.txt", text);
    let table: [(&str, &dyn Handler, Vec<u8>, usize); 8] = [
        ("a file", files, request("GET", ""), 0),
        ("its head", files, request("HEAD", ""), 0),
        ("a file that the client has", files, conditional, 0),
        ("a file, pipelined", files, request("GET", "").repeat(16), 0),
        // The keys of the sidecar look-ups, and a list of the sidecars found.
        ("a file that could be compressed", files, coded, 4),
        ("static bytes", &bytes, request("GET", ""), 0),
        // The text, and the header map in its box, which makes three allocations.
        ("a text", &text, request("GET", ""), 4),
        ("a text behind a router", &router, request("GET", ""), 4),
    ];
    for (name, handler, request, max) in table {
        let handler = |request: &Request<'_>| handler.handle(request);
        let mut exchange = BenchConnection::default();
        assert!(exchange.serve(&request, &handler) > 0, "{name}");
        let count = median_allocations(|| {
            exchange.serve(&request, &handler);
        });
        assert!(count <= max, "{name}: {count} allocations");
    }
}

fn request(method: &str, fields: &str) -> Vec<u8> {
    format!("{method} /small.txt HTTP/1.1\r\nHost: test\r\nUser-Agent: test\r\n{fields}\r\n")
        .into_bytes()
}

fn server_allocations(files: StaticFiles) {
    let server = SingleLoopServer::start(files);
    let mut client = server.client();
    let request = request("GET", "");
    let count = median_allocations(|| client.round_trip(&request));
    assert_eq!(count, 0, "allocations");
}

/// The number is a power of two, so that the slab is full: a growing slab has capacity for up to
/// twice as many entries, of which the system provides only the pages in use.
fn idle_connection_memory(files: StaticFiles) {
    const COUNT: usize = 256;
    const MAX_BYTES_EACH: usize = 256;
    let server = SingleLoopServer::start(files);
    let request = request("GET", "");
    let mut clients = Vec::with_capacity(COUNT);
    clients.push(server.client());
    clients[0].round_trip(&request);
    let region = Region::new(ALLOCATOR);
    for _ in 1..COUNT {
        let mut client = server.client();
        client.round_trip(&request);
        clients.push(client);
    }
    // Once this response has arrived, the worker has released its buffers for the other
    // connections.
    clients[0].round_trip(&request);
    assert_held(&region, COUNT - 1, MAX_BYTES_EACH);
}

/// So 10,000 clients take 8 MB, beside what the kernel has for their sockets.
fn event_stream_memory() {
    const COUNT: usize = 256;
    const MAX_BYTES_EACH: usize = 800;
    let news = Broadcast::new(16);
    let router = Router::with_state(news.clone())
        .get("/small.txt", |news: &Broadcast, _: &Request<'_>| {
            Response::sse(news.subscribe())
        });
    let server = SingleLoopServer::start(router);
    let request = request("GET", "");
    let mut clients = Vec::with_capacity(COUNT);
    clients.push(server.client());
    clients[0].round_trip(&request);
    let region = Region::new(ALLOCATOR);
    for _ in 1..COUNT {
        let mut client = server.client();
        client.round_trip(&request);
        clients.push(client);
    }
    assert_eq!(news.subscribers(), COUNT);
    assert_held(&region, COUNT - 1, MAX_BYTES_EACH);
}

/// A WebSocket connection that has exchanged a message holds no buffers, and none of the size of the message.
#[cfg(feature = "websocket")]
fn idle_websocket_memory() {
    const COUNT: usize = 256;
    const MAX_BYTES_EACH: usize = 2048;
    const MESSAGE_BYTES: usize = 4000;
    let echo = |request: &Request<'_>| -> tws::HandlerResult {
        let upgrade = tws::websocket::WebSocketUpgrade::new(request)?;
        Ok(upgrade.on_message(|message, sender| sender.send(message).expect("room")))
    };
    let server = SingleLoopServer::start(echo);
    let handshake = request(
        "GET",
        "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
    );
    // A binary message with the mask 0.
    let mut message = vec![0x82, 0xfe];
    message.extend((MESSAGE_BYTES as u16).to_be_bytes());
    message.resize(8 + MESSAGE_BYTES, 0);
    let exchange = |client: &mut AllocationFreeClient| {
        let mut echo = [0; 4 + MESSAGE_BYTES];
        client.0.write_all(&message).expect("send message");
        client.0.read_exact(&mut echo).expect("read message");
        assert_eq!(echo[..2], [0x82, 0x7e]);
    };
    let mut clients = Vec::with_capacity(COUNT);
    clients.push(server.client());
    clients[0].round_trip(&handshake);
    exchange(&mut clients[0]);
    let region = Region::new(ALLOCATOR);
    for _ in 1..COUNT {
        let mut client = server.client();
        client.round_trip(&handshake);
        exchange(&mut client);
        clients.push(client);
    }
    exchange(&mut clients[0]);
    assert_held(&region, COUNT - 1, MAX_BYTES_EACH);
}

/// Asserts that each of `count` connections holds at most so many bytes of what the region has allocated.
fn assert_held(region: &Region<'_, System>, count: usize, max_bytes_each: usize) {
    let change = region.change();
    let held = change
        .bytes_allocated
        .saturating_sub(change.bytes_deallocated);
    let each = held / count;
    assert!(each <= max_bytes_each, "{each} bytes each: {change:?}");
}

/// Returns the median: every ten milliseconds a cached file is revalidated, and that allocates.
fn median_allocations(mut run: impl FnMut()) -> usize {
    const RUNS: usize = 1001;
    let mut counts = [0; RUNS];
    for count in &mut counts {
        let region = Region::new(ALLOCATOR);
        run();
        let change = region.change();
        *count = change.allocations + change.reallocations;
    }
    counts.sort_unstable();
    counts[RUNS / 2]
}

/// A server with one event loop.
struct SingleLoopServer {
    address: SocketAddr,
    handle: ServerHandle,
    thread: Option<JoinHandle<Result<(), Error>>>,
}

impl SingleLoopServer {
    fn start(handler: impl Handler + 'static) -> Self {
        let mut config = Config::default();
        config.port = 0;
        config.workers = Some(1.try_into().expect("nonzero"));
        // On a slow machine a connection is idle for longer than by default.
        config.timeouts.keep_alive = Duration::from_secs(3600);
        let server = Server::bind(config).expect("bind server");
        let handle = server.handle();
        Self {
            address: handle.local_addresses()[0],
            handle,
            thread: Some(std::thread::spawn(move || server.serve(handler))),
        }
    }

    fn client(&self) -> AllocationFreeClient {
        AllocationFreeClient(TcpStream::connect(self.address).expect("connect"))
    }
}

impl Drop for SingleLoopServer {
    fn drop(&mut self) {
        self.handle.shut_down();
        if let Some(thread) = self.thread.take() {
            thread
                .join()
                .expect("thread does not panic")
                .expect("server ends without an error");
        }
    }
}

struct AllocationFreeClient(TcpStream);

impl AllocationFreeClient {
    /// Sends a request and receives the response, which arrives in one read.
    fn round_trip(&mut self, request: &[u8]) {
        let mut response = [0; 4096];
        self.0.write_all(request).expect("send bytes");
        let count = self.0.read(&mut response).expect("read response");
        assert!(response[..count].starts_with(b"HTTP/1.1 "));
    }
}
