//! Tests of listen addresses, Unix sockets, given listeners and the PROXY protocol.

use std::fs;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tws::{Config, Endpoint, ProxyProtocol, Request, Response, Server};

use crate::support::client::TIMEOUT;
use crate::support::{Client, TestServer, TwsProcess, eventually};

/// Responds with the scheme and the client's address.
fn echo_client(request: &Request<'_>) -> Response {
    let scheme = if request.is_secure() { "https" } else { "http" };
    Response::text(format!("{scheme} {}", request.client_addr()))
}

/// Sends a request to a Unix socket and returns the response.
fn request_unix(path: &Path, request: &str) -> String {
    let mut stream = UnixStream::connect(path).expect("connect");
    stream
        .set_read_timeout(Some(TIMEOUT))
        .expect("set read timeout");
    stream.write_all(request.as_bytes()).expect("send bytes");
    let mut response = String::new();
    stream.read_to_string(&mut response).expect("read response");
    response
}

const LAST: &str = "GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n";

#[test]
fn server_with_several_endpoints_serves_all() {
    let folder = tempfile::tempdir().expect("create temporary directory");
    let socket = folder.path().join("tws.sock");
    let server = TestServer::configured(echo_client, |config| {
        config.addresses = vec![
            "127.0.0.1:0".parse::<Endpoint>().expect("valid address"),
            "[::1]:0".parse().expect("valid address"),
            Endpoint::Unix(socket.clone()),
        ];
        config.unix_mode = 0o606;
    });
    let addresses = server.handle.local_addresses();
    assert_eq!(addresses.len(), 2);
    assert_ne!(addresses[0].port(), addresses[1].port());
    for address in addresses {
        let text = Client::connect(*address).get("/").text();
        let peer = text.strip_prefix("http ").expect("scheme of the response");
        let peer: SocketAddr = peer.parse().expect("valid address");
        assert_eq!(peer.ip(), address.ip());
    }
    assert_eq!(server.handle.unix_sockets(), std::slice::from_ref(&socket));
    assert!(request_unix(&socket, LAST).ends_with("\r\n\r\nhttp [::]:0"));
    let mode = fs::metadata(&socket).expect("read metadata").permissions();
    assert_eq!(mode.mode() & 0o777, 0o606);
    assert_eq!(server.handle.stats().accepted, 3);
}

/// A Unix socket carries a large download as well.
#[test]
fn unix_socket_serves_large_file() {
    let folder = tempfile::tempdir().expect("create temporary directory");
    let content = crate::support::pattern(3 << 20);
    fs::write(folder.path().join("large"), &content).expect("write file");
    let socket = folder.path().join("tws.sock");
    let files = tws::StaticFiles::new(folder.path()).expect("open site root");
    let mut config = Config::default();
    config.addresses = vec![Endpoint::Unix(socket.clone())];
    let server = Server::bind(config).expect("bind server");
    let handle = server.handle();
    let served = std::thread::spawn(move || server.serve(files));
    let mut stream = UnixStream::connect(&socket).expect("connect");
    stream
        .set_read_timeout(Some(TIMEOUT))
        .expect("set read timeout");
    let request = "GET /large HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).expect("send bytes");
    let mut response = Vec::new();
    stream.read_to_end(&mut response).expect("read response");
    assert!(response.ends_with(&content));
    handle.shut_down();
    served
        .join()
        .expect("thread does not panic")
        .expect("server ends without an error");
}

#[test]
fn socket_files_are_removed_at_shutdown_unless_replaced() {
    let folder = tempfile::tempdir().expect("create temporary directory");
    let at = |name: &str| folder.path().join(name);
    let args = [
        "--bind=127.0.0.1",
        "--bind=unix:a.sock",
        "--bind=unix:b.sock",
    ];
    let mut process = TwsProcess::start(folder.path(), &args);
    fs::remove_file(at("b.sock")).expect("remove file");
    let _other = UnixListener::bind(at("b.sock")).expect("bind socket");
    process.signal(Signal::TERM);
    assert!(process.child.wait_for_exit().success());
    for (name, exists) in [("a.sock", false), ("b.sock", true)] {
        assert_eq!(at(name).exists(), exists, "{name}");
    }
}

#[test]
fn server_from_given_unix_listener_serves() {
    let folder = tempfile::tempdir().expect("create temporary directory");
    let socket = folder.path().join("s");
    let listener = UnixListener::bind(&socket).expect("bind Unix socket");
    let server = Server::from_listeners([listener], Config::default())
        .expect("create server from listeners");
    let handle = server.handle();
    let served = std::thread::spawn(move || server.serve(echo_client));
    assert!(request_unix(&socket, LAST).starts_with("HTTP/1.1 200 OK"));
    handle.shut_down();
    served
        .join()
        .expect("thread does not panic")
        .expect("server ends without an error");
}

fn behind_proxy(trusted: &str) -> TestServer {
    TestServer::configured(echo_client, |config| {
        config.proxy_protocol = ProxyProtocol::Required;
        if !trusted.is_empty() {
            config.trusted_proxies = trusted.parse().expect("valid networks");
        }
    })
}

#[test]
fn proxy_header_sets_client_address() {
    let server = behind_proxy("");
    let v1 = b"PROXY TCP4 192.0.2.7 192.0.2.1 1234 80\r\n".to_vec();
    let mut v2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x21\0\x24".to_vec();
    v2.extend(
        "2001:db8::7"
            .parse::<std::net::Ipv6Addr>()
            .expect("valid address")
            .octets(),
    );
    v2.extend([0; 16]);
    v2.extend([0x04, 0xd2, 0, 80]);
    for (header, expected) in [(v1, "http 192.0.2.7:1234"), (v2, "http [2001:db8::7]:1234")] {
        let mut client = server.client();
        client.send(&header);
        assert_eq!(client.get("/").text(), expected);
        // The header applies to the connection, not to one request.
        assert_eq!(client.get("/").text(), expected);
        // In one segment with the request, and byte by byte.
        let mut whole = server.client();
        whole.send([&header[..], LAST.as_bytes()].concat());
        assert_eq!(whole.response().text(), expected);
        let mut slow = server.client();
        for byte in [&header[..], LAST.as_bytes()].concat() {
            slow.send([byte]);
        }
        assert_eq!(slow.response().text(), expected);
    }
    let mut unknown = server.client();
    unknown.send("PROXY UNKNOWN\r\n");
    assert!(unknown.get("/").text().starts_with("http 127.0.0.1:"));
}

#[test]
fn missing_or_untrusted_proxy_header_closes_connection() {
    let server = behind_proxy("");
    let mut client = server.client();
    client.send(LAST).expect_closed_or_reset();
    let strict = behind_proxy("192.0.2.0/24");
    let mut stranger = strict.client();
    // The server may close the connection before the header is sent.
    let _ = stranger
        .stream()
        .write_all(b"PROXY TCP4 192.0.2.7 192.0.2.1 1234 80\r\n");
    stranger.expect_closed_or_reset();
    for server in [&server, &strict] {
        eventually!(|| server.handle.connections() == 0);
        assert_eq!(server.handle.stats().requests, 0);
    }
}

/// Connects as a proxy does for `client`.
fn through_proxy(server: &TestServer, client: &str) -> Client {
    let mut connection = server.client();
    connection.send(format!("PROXY TCP4 {client} 192.0.2.1 1234 80\r\n"));
    connection
}

/// The limit applies to the client named in the header, not to the proxy, which opens all
/// connections.
#[test]
fn proxy_header_client_above_connection_limit_is_503() {
    let server = TestServer::configured(echo_client, |config| {
        config.proxy_protocol = ProxyProtocol::Required;
        config.limits.max_connections_per_client = Some(1);
    });
    let mut first = through_proxy(&server, "192.0.2.7");
    assert_eq!(first.get("/").text(), "http 192.0.2.7:1234");
    let mut second = through_proxy(&server, "192.0.2.7");
    assert_eq!(second.response().status, 503);
    second.expect_closed();
    let counts = server.handle.stats();
    assert_eq!((counts.rejected, counts.rejected_clients), (1, 1));
    let mut other = through_proxy(&server, "192.0.2.8");
    assert_eq!(other.get("/").status, 200);
    // The proxy's own connections, as for health checks.
    let mut own = [(); 2].map(|()| {
        let mut client = server.client();
        client.send("PROXY UNKNOWN\r\n");
        client
    });
    for client in &mut own {
        assert_eq!(client.get("/").status, 200);
    }
    // The client sees the end of a rejected connection before it is no longer counted.
    eventually!(|| server.handle.connections() == 4);
    drop(first);
    eventually!(|| server.handle.connections() == 3);
    assert_eq!(through_proxy(&server, "192.0.2.7").get("/").status, 200);
}

#[test]
fn reload_changes_connection_limit_of_proxied_client() {
    let server = behind_proxy("");
    let config = |max| {
        let mut config = Config::default();
        config.limits.max_connections_per_client = max;
        config
    };
    let status = || {
        let mut client = through_proxy(&server, "192.0.2.7");
        // The server may reject the connection before the request is sent.
        let _ = client.stream().write_all(LAST.as_bytes());
        client.response().status
    };
    for (max, expected) in [(Some(1), 503), (Some(2), 200), (None, 200)] {
        let reloaded = server.handle.reload(echo_client, &config(max));
        reloaded.expect("reload settings");
        let mut first = None;
        // A connection accepted under the old limits is not counted.
        eventually!(|| {
            drop(first.take());
            eventually!(|| server.handle.connections() == 0);
            let mut client = through_proxy(&server, "192.0.2.7");
            assert_eq!(client.get("/").status, 200);
            first = Some(client);
            status() == expected
        });
    }
}

/// An incomplete PROXY header has the same timeout as an incomplete request head.
#[test]
fn incomplete_proxy_header_times_out() {
    const TIMEOUT_OF_HEADER: Duration = Duration::from_millis(100);
    let server = TestServer::configured(echo_client, |config| {
        config.proxy_protocol = ProxyProtocol::Required;
        config.timeouts.header = TIMEOUT_OF_HEADER;
    });
    let start = Instant::now();
    let mut silent = server.client();
    let mut half = server.client();
    half.send("PROXY TCP4 192.");
    silent.expect_closed();
    half.expect_closed_or_reset();
    assert!(
        start.elapsed() >= TIMEOUT_OF_HEADER,
        "{:?}",
        start.elapsed()
    );
    eventually!(|| server.handle.connections() == 0);
}

#[test]
fn shutdown_closes_connection_awaiting_proxy_header() {
    // With the longest possible timeouts.
    for timeout in [Duration::from_secs(3600), Duration::MAX] {
        let mut server = TestServer::configured(echo_client, |config| {
            config.proxy_protocol = ProxyProtocol::Required;
            config.timeouts.header = timeout;
        });
        let mut waiting = server.client();
        eventually!(|| server.handle.connections() == 1);
        server.handle.shut_down();
        waiting.expect_closed();
        server.join();
    }
}
