//! Tests of Forwarded and X-Forwarded-For: the client of a request passed on by a trusted proxy.

use std::fs;
use std::net::SocketAddr;

use rustix::process::Signal;
use serde_json::Value;
use tws::{Config, ForwardedField, Networks, Outcome, Request, Response};

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
