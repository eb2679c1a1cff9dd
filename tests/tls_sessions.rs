//! Tests of TLS sessions: key exchange with clients of other projects, the count of handshakes, and
//! resumption across new certificates and upgrades.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, HandshakeKind};
use tws::{KeyPair, Reloaded, Request, Response, Tls};

use crate::support::metrics::Metrics;
use crate::support::upgradable_process::UpgradableProcess;
use crate::support::{Client, TestServer, TwsProcess};
use crate::tls_transport::{CertificateAuthority, TlsClient};
use crate::upgrade::replaceable;

/// The binary with a self-signed certificate and the admin interface.
pub(crate) struct SecureSite {
    pub(crate) process: TwsProcess,
}

impl SecureSite {
    pub(crate) fn start(folder: &Path) -> Self {
        let args = [
            "--tls-self-signed",
            "--admin=127.0.0.1:0",
            "--access-log=off",
        ];
        Self {
            process: TwsProcess::start(folder, &args),
        }
    }

    /// Returns the number of handshakes of this kind with this key-exchange group.
    pub(crate) fn handshakes(&self, kind: &str, group: &str) -> f64 {
        let mut admin = Client::connect(self.process.admin.expect("admin address"));
        admin.send("GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let metrics = Metrics::parse(&admin.response().text());
        let labels = [("kind", kind), ("group", group)];
        metrics.value("tws_tls_handshakes_total", &labels)
    }
}

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
fn handshakes_are_counted_by_kind_and_group() {
    let authority = CertificateAuthority::new();
    let pair = authority.issue("a", &["a.test"]);
    let folder = tempfile::tempdir().expect("create temporary directory");
    std::fs::write(folder.path().join("a.txt"), "a").expect("write file");
    let [certificate, key] = flags(&pair);
    let args = [
        &certificate,
        &key,
        "--admin=127.0.0.1:0",
        "--access-log=off",
    ];
    let site = SecureSite {
        process: TwsProcess::start(folder.path(), &args),
    };
    for (version, resumed_group) in [(&TLS13, "X25519"), (&TLS12, "none")] {
        let before = site.handshakes("full", "X25519");
        let config = Arc::new(authority.client_with(&[version], &[]));
        for _ in 0..3 {
            let client = TlsClient::connect(site.process.address, "a.test", &config);
            let mut client = client.expect("complete TLS handshake");
            assert_eq!(client.get("/a.txt").1, b"a");
        }
        assert_eq!(site.handshakes("full", "X25519"), before + 1.0);
        assert_eq!(site.handshakes("resumed", resumed_group), 2.0);
        assert_eq!(site.handshakes("retried", "X25519"), 0.0);
    }
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

/// Fetches a file and prints the key-exchange group.
const OPENSSL_CLIENT: &str = r#"
import socket, sys
from OpenSSL import SSL
host, port = sys.argv[1].rsplit(":", 1)
client = SSL.Connection(SSL.Context(SSL.TLS_METHOD), socket.create_connection((host, int(port))))
client.set_tlsext_host_name(b"localhost")
client.set_connect_state()
client.do_handshake()
client.sendall(b"GET /a.txt HTTP/1.0\r\n\r\n")
response = b""
while not response.endswith(b"hello"):
    response += client.recv(4096)
print(client.get_group_name())
"#;

#[test]
#[ignore = "needs python3 with pyOpenSSL 25 or later, on OpenSSL 3.5 or later"]
fn openssl_negotiates_hybrid_key_exchange() {
    let folder = tempfile::tempdir().expect("create temporary directory");
    std::fs::write(folder.path().join("a.txt"), "hello").expect("write file");
    let site = SecureSite::start(folder.path());
    let address = site.process.address.to_string();
    let output = Command::new("python3")
        .args(["-c", OPENSSL_CLIENT, &address])
        .output()
        .expect("run python3");
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(text, "X25519MLKEM768\n", "{output:?}");
    assert_eq!(site.handshakes("full", "X25519MLKEM768"), 1.0);
}
