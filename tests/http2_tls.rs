//! Tests of HTTP/2 over TLS: selection of the protocol, one connection for several names, and clients
//! of other projects.

use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::process::{Command, Output};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use tws::{Config, Http2, ProxyProtocol, Response, Server, StaticFiles, Tls};

use crate::http2::hello;
use crate::support::client::TIMEOUT;
use crate::support::h2::H2Client;
use crate::support::{TestServer, TwsProcess, eventually, pattern};
use crate::tls_transport::{CertificateAuthority, TlsClient};

type TlsStream = StreamOwned<ClientConnection, std::net::TcpStream>;

fn serve(
    authority: &CertificateAuthority,
    handler: impl tws::Handler + 'static,
    change: impl FnOnce(&mut Config),
) -> TestServer {
    let pairs = vec![
        authority.issue("a", &["a.test", "b.test"]),
        authority.issue("wild", &["*.example.test"]),
    ];
    let tls = Tls::open(pairs).expect("open certificates");
    TestServer::with(handler, change, |server: Server| server.with_tls(tls))
}

/// A client that offers these protocols.
fn offering(authority: &CertificateAuthority, protocols: &[&str]) -> Arc<ClientConfig> {
    let mut config = authority.client();
    config.alpn_protocols = protocols
        .iter()
        .map(|name| name.as_bytes().to_vec())
        .collect();
    Arc::new(config)
}

fn connect(address: SocketAddr, name: &str, config: &Arc<ClientConfig>) -> H2Client<TlsStream> {
    let client = TlsClient::connect(address, name, config).expect("complete TLS handshake");
    assert_eq!(client.0.conn.alpn_protocol(), Some(&b"h2"[..]));
    H2Client::on(client.0, &[])
}

#[test]
fn client_selects_http2_unless_it_is_off() {
    let authority = CertificateAuthority::new();
    let table: &[(Http2, &[&str], Option<&str>)] = &[
        (Http2::Off, &["h2", "http/1.1"], Some("http/1.1")),
        (Http2::Off, &[], None),
        (Http2::Tls, &["h2", "http/1.1"], Some("h2")),
        (Http2::Tls, &["http/1.1", "h2"], Some("h2")),
        (Http2::Tls, &["http/1.1"], Some("http/1.1")),
        (Http2::Tls, &[], None),
        (Http2::All, &["h2"], Some("h2")),
    ];
    for (http2, offered, selected) in table {
        let server = serve(&authority, hello, |config| config.http2 = *http2);
        let config = offering(&authority, offered);
        let mut client =
            TlsClient::connect(server.address, "a.test", &config).expect("complete TLS handshake");
        let protocol = client.0.conn.alpn_protocol();
        assert_eq!(
            protocol,
            selected.map(str::as_bytes),
            "{http2:?} {offered:?}"
        );
        if *selected == Some("h2") {
            assert_eq!(H2Client::on(client.0, &[]).get("/").text(), "hello\n");
        } else {
            assert_eq!(client.get("/").1, b"hello\n");
        }
    }
    let server = serve(&authority, hello, |config| config.http2 = Http2::Off);
    let config = offering(&authority, &["h2"]);
    assert!(TlsClient::connect(server.address, "a.test", &config).is_err());
}

/// Without ALPN a TLS client speaks HTTP/1.1 (RFC 9113 §3.2).
#[test]
fn preface_without_selection_is_505_over_tls() {
    let authority = CertificateAuthority::new();
    let server = serve(&authority, hello, |config| config.http2 = Http2::All);
    let config = offering(&authority, &[]);
    let client = TlsClient::connect(server.address, "a.test", &config);
    let mut client = client.expect("complete TLS handshake");
    let (head, _) = client.exchange("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 505"), "{head}");
}

#[test]
fn files_arrive_complete_over_both_versions_of_tls() {
    let authority = CertificateAuthority::new();
    let folder = tempfile::tempdir().expect("create temporary directory");
    let sizes = [0, 1, 16_375, 65_536, 5_000_007];
    for size in sizes {
        fs::write(folder.path().join(size.to_string()), pattern(size)).expect("write file");
    }
    let files = StaticFiles::new(folder.path()).expect("open site root");
    let server = serve(&authority, files, |_| {});
    for version in [&TLS12, &TLS13] {
        let config = Arc::new(authority.client_with(&[version], &["h2"]));
        let mut client = connect(server.address, "a.test", &config);
        let streams = sizes.map(|size| (size, client.request("GET", &format!("/{size}"), &[])));
        for (size, stream) in streams {
            let response = client.response(stream);
            assert_eq!(response.status(), 200);
            assert!(response.content == pattern(size), "{version:?} {size}");
        }
    }
}

/// RFC 9113 §9.1.2: one connection serves the names of its certificate.
#[test]
fn name_of_another_certificate_is_421() {
    let authority = CertificateAuthority::new();
    let server = serve(&authority, hello, |_| {});
    let config = offering(&authority, &["h2"]);
    let table: &[(&str, &[(&str, u16)])] = &[
        (
            "a.test",
            &[
                ("a.test", 200),
                ("b.test", 200),
                ("B.TEST:8443", 200),
                ("x.example.test", 421),
                ("unknown.test", 200),
                ("127.0.0.1", 200),
            ],
        ),
        (
            "x.example.test",
            &[("y.example.test", 200), ("a.test", 421)],
        ),
    ];
    for (name, requests) in table {
        let mut client = connect(server.address, name, &config);
        for (authority, status) in *requests {
            for method in ["GET", "HEAD"] {
                let stream = client.request_to(authority, method, "/");
                assert_eq!(
                    client.response(stream).status(),
                    *status,
                    "{name} {authority}"
                );
            }
        }
    }
}

#[test]
fn proxy_header_comes_before_the_handshake() {
    let authority = CertificateAuthority::new();
    let address = |request: &tws::Request<'_>| Response::text(request.client_addr().to_string());
    let server = serve(&authority, address, |config| {
        config.proxy_protocol = ProxyProtocol::Required;
    });
    let config = offering(&authority, &["h2"]);
    let header = "PROXY TCP4 192.0.2.7 192.0.2.1 1234 443\r\n";
    let client = TlsClient::connect_after(header, server.address, "a.test", &config);
    let mut client = H2Client::on(client.expect("complete TLS handshake").0, &[]);
    assert_eq!(client.get("/").text(), "192.0.2.7:1234");
}

/// A client that has closed its side of the session, and not the connection, may still read. Its request
/// is cancelled after the timeout of half-closed connections.
#[test]
fn close_notify_cancels_deferred_response_after_half_closed_timeout() {
    let authority = CertificateAuthority::new();
    let (sender, responders) = mpsc::channel();
    let deferring = move |_: &tws::Request<'_>| {
        let sender = sender.clone();
        tws::Outcome::deferred(move |responder: tws::Responder| {
            sender.send(responder).expect("test receives");
        })
    };
    let server = serve(&authority, deferring, |config| {
        config.timeouts.half_closed = Duration::from_millis(200);
    });
    let config = offering(&authority, &["h2"]);
    let client = TlsClient::connect(server.address, "a.test", &config);
    let stream = client.expect("complete TLS handshake").0;
    let socket = stream.sock.try_clone().expect("duplicate descriptor");
    let mut client = H2Client::on(stream, &[]);
    client.request("GET", "/", &[]);
    let responder = responders.recv_timeout(TIMEOUT).expect("a responder");
    client.with_stream(|stream| {
        stream.conn.send_close_notify();
        stream.flush().expect("send close_notify");
    });
    let (sender, cancelled) = mpsc::channel();
    responder.on_cancel(move || sender.send(()).expect("test receives"));
    cancelled.recv_timeout(TIMEOUT).expect("cancelled");
    eventually!(|| server.handle.connections() == 0);
    drop(socket);
}

fn run(program: &str, args: &[&str]) -> Output {
    let mut command = Command::new(program);
    let output = command.env("no_proxy", "*").args(args).output();
    output.unwrap_or_else(|error| panic!("{program}: {error}"))
}

fn site(args: &[&str]) -> (tempfile::TempDir, TwsProcess) {
    let folder = tempfile::tempdir().expect("create temporary directory");
    fs::write(folder.path().join("a.txt"), "a").expect("write file");
    fs::write(folder.path().join("large.bin"), pattern(20_000_000)).expect("write file");
    let args = [&[".", "--access-log=off"], args].concat();
    let site = TwsProcess::start(folder.path(), &args);
    (folder, site)
}

#[test]
#[ignore = "needs curl"]
fn curl_speaks_http2() {
    for (args, scheme, flag) in [
        (&["--tls-self-signed"][..], "https", "--http2"),
        (&["--http2=all"][..], "http", "--http2-prior-knowledge"),
    ] {
        let (_folder, site) = site(args);
        let url = |path: &str| format!("{scheme}://{}{path}", site.address);
        let format = "%{http_version} %{http_code} %{size_download}\n";
        let common = ["-sk", flag, "-o", "/dev/null", "-w", format];
        let paths = [url("/a.txt"), url("/large.bin"), url("/none")];
        let mut printed = String::new();
        for path in &paths {
            let output = run("curl", &[&common[..], &[path]].concat());
            assert!(output.status.success(), "{output:?}");
            printed += &String::from_utf8_lossy(&output.stdout);
        }
        let lines: Vec<_> = printed.lines().collect();
        assert_eq!(lines[0], "2 200 1");
        assert_eq!(lines[1], "2 200 20000000");
        assert!(lines[2].starts_with("2 404 "), "{printed}");
    }
}

#[test]
#[ignore = "needs nghttp"]
fn nghttp_fetches_everything() {
    let (_folder, site) = site(&["--http2=all"]);
    let url = |path: &str| format!("http://{}{path}", site.address);
    let output = run(
        "nghttp",
        &["-ns", &url("/a.txt"), &url("/large.bin"), &url("/none")],
    );
    assert!(output.status.success(), "{output:?}");
    let printed = String::from_utf8_lossy(&output.stdout);
    for text in [" 200 ", " 404 ", "/large.bin"] {
        assert!(printed.contains(text), "{printed}");
    }
}

#[test]
#[ignore = "needs h2load"]
fn h2load_gets_only_successful_responses() {
    let (_folder, plain) = site(&["--http2=all"]);
    let (_folder, secure) = site(&["--tls-self-signed"]);
    for url in [
        format!("http://{}/a.txt", plain.address),
        format!("https://{}/a.txt", secure.address),
    ] {
        let output = run("h2load", &["-n20000", "-c10", "-m100", &url]);
        assert!(output.status.success(), "{output:?}");
        let printed = String::from_utf8_lossy(&output.stdout);
        let counts = "20000 total, 20000 started, 20000 done, 20000 succeeded, 0 failed, 0 errored";
        assert!(printed.contains(counts), "{printed}");
    }
}
