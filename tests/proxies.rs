//! Tests of Forwarded and X-Forwarded-For: the client of a request passed on by a trusted proxy; and
//! of uploads through nginx with the recipe of `.readme/operating.md`.

use std::fs;
use std::net::SocketAddr;
#[cfg(feature = "auth")]
use std::process::Command;

use rustix::process::Signal;
use serde_json::Value;
use tws::{Config, ForwardedField, Networks, Outcome, Request, Response};

#[cfg(feature = "auth")]
use crate::support::{Client, nginx, pattern, recipes};
use crate::support::{TestServer, TwsProcess};

/// Responds with the client's address, and whether its connection is encrypted.
fn echo_client(request: &Request<'_>) -> Outcome {
    let text = format!("{} {}", request.client_addr(), request.is_secure());
    Response::text(text).into()
}

fn server(trusted: &str, change: impl FnOnce(&mut Config)) -> TestServer {
    TestServer::configured(echo_client, |config| {
        config.trusted_proxies = trusted.parse().expect("valid networks");
        change(config);
    })
}

const BOTH: &str = "X-Forwarded-For: 192.0.2.66, 192.0.2.7\r\nX-Forwarded-Proto: https\r\n\
                    Forwarded: for=192.0.2.67;proto=http\r\nForwarded: for=\"[2001:db8::7]:80\"\r\n";

#[test]
fn trusted_proxy_field_sets_client_address() {
    let own = "own false";
    let table: &[(&str, ForwardedField, &str, &str)] = &[
        (
            "127.0.0.0/8",
            ForwardedField::XForwardedFor,
            BOTH,
            "192.0.2.7:0 true",
        ),
        (
            "127.0.0.0/8",
            ForwardedField::Forwarded,
            BOTH,
            "[2001:db8::7]:80 false",
        ),
        ("127.0.0.0/8", ForwardedField::XForwardedFor, "", own),
        ("127.0.0.0/8", ForwardedField::Forwarded, "", own),
        (
            "127.0.0.0/8",
            ForwardedField::XForwardedFor,
            "X-Forwarded-For: ?\r\n",
            own,
        ),
        (
            "10.0.0.0/8,::1,unix",
            ForwardedField::XForwardedFor,
            BOTH,
            own,
        ),
        ("10.0.0.0/8,::1,unix", ForwardedField::Forwarded, BOTH, own),
    ];
    for (trusted, field, fields, expected) in table {
        let server = server(trusted, |config| config.forwarded_field = *field);
        let mut client = server.client();
        let own = client.stream().local_addr().expect("local address");
        let expected = expected.replace("own", &own.to_string());
        assert_eq!(
            client.request("GET", "/", fields).text(),
            expected,
            "{trusted} {fields}"
        );
    }
}

#[test]
fn forwarded_fields_without_trusted_proxy_are_ignored() {
    let server = TestServer::start(echo_client);
    let mut client = server.client();
    let own = client.stream().local_addr().expect("local address");
    let response = client.request("GET", "/", BOTH);
    assert_eq!(response.text(), format!("{own} false"));
}

/// One proxy connection carries requests of many clients.
#[test]
fn requests_on_one_proxy_connection_have_own_clients() {
    let server = server("127.0.0.0/8", |_| {});
    let mut proxy = server.client();
    let own = proxy.stream().local_addr().expect("local address");
    for client in ["192.0.2.1:1", "[2001:db8::2]:2"] {
        let address: SocketAddr = client.parse().expect("valid address");
        let field = format!("X-Forwarded-For: {address}\r\n");
        assert_eq!(
            proxy.request("GET", "/", &field).text(),
            format!("{client} false")
        );
        assert_eq!(proxy.get("/").text(), format!("{own} false"));
        // With a body the head is evaluated more than once.
        proxy.send(format!(
            "POST / HTTP/1.1\r\nHost: h\r\n{field}Content-Length: 2\r\n\r\nab"
        ));
        assert_eq!(proxy.response().text(), format!("{client} false"));
    }
}

/// Connections are counted by peer address.
#[test]
fn connection_limit_counts_proxy_not_forwarded_client() {
    let server = server("127.0.0.0/8", |config| {
        config.limits.max_connections_per_client = Some(1);
    });
    let mut first = server.client();
    assert_eq!(
        first
            .request("GET", "/", "X-Forwarded-For: 192.0.2.1\r\n")
            .status,
        200
    );
    // The connection is rejected before it sends a forwarded address.
    assert_eq!(server.client().response().status, 503);
}

#[test]
fn access_log_has_forwarded_client_address() {
    let folder = tempfile::tempdir().expect("create temporary directory");
    fs::write(folder.path().join("a.txt"), "a").expect("write file");
    let args = [
        "--log-format=json",
        "--workers=1",
        "--trusted-proxy=10.0.0.0/8",
        "--trusted-proxy=127.0.0.1,unix",
    ];
    let mut server = TwsProcess::start(folder.path(), &args);
    let mut proxy = server.client();
    let port = proxy.stream().local_addr().expect("local address").port();
    let field = "X-Forwarded-For: 192.0.2.66, 192.0.2.7:4321, 10.0.0.2\r\n";
    assert_eq!(proxy.request("GET", "/a.txt", field).status, 200);
    // A malformed request is logged with the peer's address.
    proxy.send(format!("GET /a.txt HTTP/1.1\r\n{field}broken\r\n\r\n"));
    assert_eq!(proxy.response().status, 400);
    let mut seen = || {
        let line: Value = serde_json::from_str(&server.line()).expect("parse JSON");
        (line["ip"].clone(), line["port"].clone())
    };
    assert_eq!(seen(), ("192.0.2.7".into(), 4321.into()));
    assert_eq!(seen(), ("127.0.0.1".into(), port.into()));
    drop(proxy);
    server.signal(Signal::TERM);
    assert!(server.child.wait_for_exit().success());
}

#[test]
fn forwarded_field_flag_selects_forwarded() {
    let folder = tempfile::tempdir().expect("create temporary directory");
    let args = [
        "--log-format=json",
        "--trusted-proxy=127.0.0.0/8",
        "--forwarded-field=Forwarded",
    ];
    let mut server = TwsProcess::start(folder.path(), &args);
    assert_eq!(server.client().request("GET", "/", BOTH).status, 404);
    let line: Value = serde_json::from_str(&server.line()).expect("parse JSON");
    assert_eq!(
        (&line["ip"], &line["port"]),
        (&"2001:db8::7".into(), &80.into())
    );
}

/// An embedding program collects its trusted proxies from several settings.
#[test]
fn collected_networks_contain_all_parts() {
    let sets =
        ["10.0.0.0/8", "::1, unix"].map(|set| set.parse::<Networks>().expect("valid networks"));
    let all: Networks = sets.into_iter().collect();
    assert!(all.contains("[::1]:80".parse().expect("valid address")));
}

/// nginx and tws as `.readme/operating.md` says, with uploads turned on. Only the ports are others, as those of the
/// recipe may be in use.
#[cfg(feature = "auth")]
#[test]
#[ignore = "needs nginx"]
fn nginx_recipe_passes_uploads_of_own_pages() {
    const ANA: &str = "Authorization: Basic YW5hOnNlY3JldA==\r\n";
    let (folder, own) = (tempfile::tempdir(), tempfile::tempdir());
    let folder = folder.expect("create temporary directory");
    let own = own.expect("create temporary directory");
    let users = own.path().join("users.txt");
    fs::write(&users, crate::middleware::USERS).expect("write file");
    let recipe = recipes::code_block("nginx");
    let (_, command) = recipe
        .split_once("each: tws ")
        .expect("command of the recipe");
    let args = command.lines().next().expect("command of the recipe");
    let args = recipes::with(args, "127.0.0.1:8001", "127.0.0.1:0");
    let [first, second] = [(); 2].map(|()| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tws"));
        command
            .current_dir(folder.path())
            .args(args.split_whitespace())
            .args(["--upload", "--access-log=off", "--auth-file"])
            .arg(&users)
            .env_remove("TWS_HOST_NAME");
        TwsProcess::run(&mut command)
    });
    let nginx = nginx::before(|recipe| {
        let recipe = recipes::with(recipe, "127.0.0.1:8001", &first.address.to_string());
        recipes::with(&recipe, "127.0.0.1:8002", &second.address.to_string())
    });
    let address = nginx.address;
    let request = |method: &str, path: &str, fields: &str, content: &[u8]| {
        let mut client = Client::connect(address);
        let len = content.len();
        // Browsers send the port, unless it is the default one.
        client.send(format!(
            "{method} {path} HTTP/1.1\r\nHost: {address}\r\n{ANA}Content-Length: {len}\r\n{fields}\r\n"
        ));
        client.send(content).response()
    };
    let form = |name: &str, origin: &str, content: &[u8]| {
        let head = format!(
            "--B\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{name}\"\r\n\
             Content-Type: application/octet-stream\r\n\r\n"
        );
        let form = [head.as_bytes(), content, b"\r\n--B--\r\n"].concat();
        let fields = format!(
            "Origin: {origin}\r\nReferer: {origin}/\r\nAccept: text/html,*/*;q=0.8\r\n\
             Content-Type: multipart/form-data; boundary=B\r\n"
        );
        request("POST", "/", &fields, &form)
    };
    // More than nginx accepts by default.
    let content = pattern(3 * 1024 * 1024);
    let stored = form("own.bin", &format!("http://{address}"), &content);
    let location = stored.field("Location");
    assert_eq!(
        (stored.status, location),
        (303, Some("/")),
        "{}",
        stored.head
    );
    let file = fs::read(folder.path().join("own.bin")).expect("read file");
    assert!(file == content);
    assert_eq!(request("PUT", "/put.txt", "", b"put").status, 201);
    assert_eq!(request("GET", "/put.txt", "", b"").text(), "put");
    for origin in ["http://elsewhere.test", "http://127.0.0.1:1", "null"] {
        let response = form("other.bin", origin, b"other");
        assert_eq!(response.status, 403, "{origin}");
    }
    assert!(!folder.path().join("other.bin").exists());
}
