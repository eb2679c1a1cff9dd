//! Tests of TLS sessions: resumption across new certificates and upgrades.

use std::sync::Arc;

use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, HandshakeKind};
use tws::{KeyPair, Reloaded, Request, Response, Tls};

use crate::support::upgradable_process::UpgradableProcess;
use crate::support::TestServer;
use crate::tls_transport::{CertificateAuthority, TlsClient};
use crate::upgrade::replaceable;

fn kind(client: &TlsClient) -> HandshakeKind {
    let kind = client.0.conn.handshake_kind();
    kind.expect("completed handshake")
}

/// Flags for a certificate and its key.
fn flags(pair: &KeyPair) -> [String; 2] {
    [
        format!("--tls-cert={}", pair.certificate.display()),
        format!("--tls-key={}", pair.key.display()),
    ]
}

#[test]
fn sessions_are_resumed_after_certificate_reload() {
    let authority = CertificateAuthority::new();
    let tls = Tls::open(vec![authority.issue("a", &["a.test"])]).expect("open certificates");
    let hello = |_: &Request<'_>| Response::text("hello\n");
    let server = TestServer::with(hello, |_| {}, |server| server.with_tls(tls.clone()));
    for version in [&TLS12, &TLS13] {
        let config = Arc::new(authority.client_with(&[version], &[]));
        let connect = || {
            let client = TlsClient::connect(server.address, "a.test", &config);
            let mut client = client.expect("complete TLS handshake");
            assert_eq!(client.get("/").1, b"hello\n");
            kind(&client)
        };
        assert_eq!(connect(), HandshakeKind::Full);
        let name = version.version.as_str().expect("a name");
        let other = authority.issue(name, &["a.test"]);
        let reloaded = tls.replace(vec![other]).expect("replace certificates");
        assert_eq!(reloaded, Reloaded::Changed);
        assert_eq!(connect(), HandshakeKind::Resumed);
    }
}

#[test]
fn sessions_are_resumed_after_upgrades() {
    let authority = CertificateAuthority::new();
    let pair = authority.issue("a", &["a.test"]);
    let (_programs, _folder, mut command) = replaceable();
    command.args(flags(&pair));
    let mut server = UpgradableProcess::start(command);
    let address = server.address;
    let connect = |config: &Arc<ClientConfig>| {
        let client = TlsClient::connect(address, "a.test", config);
        let mut client = client.expect("complete TLS handshake");
        assert!(client.get("/a.txt").0.starts_with("HTTP/1.1 200"));
        kind(&client)
    };
    let clients = [&TLS12, &TLS13].map(|version| Arc::new(authority.client_with(&[version], &[])));
    for config in &clients {
        assert_eq!(connect(config), HandshakeKind::Full);
    }
    server.upgrade();
    // No other process answers from here on.
    assert_eq!(server.child.wait_for_exit().code(), Some(0));
    for config in &clients {
        assert_eq!(connect(config), HandshakeKind::Resumed);
    }
    server.upgrade();
    for config in &clients {
        assert_eq!(connect(config), HandshakeKind::Resumed);
    }
}
