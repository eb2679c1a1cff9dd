//! Tests of TLS in the library: handshakes, certificate selection and replacement, session
//! resumption, limits and close.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair as Key};
use rustls::pki_types::ServerName;
use rustls::{
    ClientConfig, ClientConnection, HandshakeKind, RootCertStore, StreamOwned,
    SupportedProtocolVersion,
};
use tempfile::TempDir;
use tws::access_log::{AccessLog, LogDestination};
use tws::{Config, KeyPair, ProxyProtocol, Reloaded, Request, Response, Server, StaticFiles, Tls};

use crate::support::client::TIMEOUT;
use crate::support::{TestServer, eventually, pattern};

const MIB: usize = 1 << 20;

/// A certificate authority, and the folder of the certificates that it has issued.
pub(crate) struct CertificateAuthority {
    issuer: CertifiedIssuer<'static, Key>,
    folder: TempDir,
}

impl CertificateAuthority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = Key::generate().expect("generate key");
        Self {
            issuer: CertifiedIssuer::self_signed(params, key).expect("create CA certificate"),
            folder: tempfile::tempdir().expect("create temporary directory"),
        }
    }

    /// Returns the root certificate in PEM.
    #[cfg(feature = "acme")]
    pub(crate) fn root_pem(&self) -> String {
        self.issuer.pem()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a certificate for `names` and its key to `NAME.pem` and `NAME.key`.
    pub(crate) fn issue(&self, name: &str, names: &[&str]) -> KeyPair {
        self.issue_with(name, names, |_| {})
    }

    fn issue_with(
        &self,
        name: &str,
        names: &[&str],
        change: impl FnOnce(&mut CertificateParams),
    ) -> KeyPair {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("valid certificate names");
        change(&mut params);
        let key = Key::generate().expect("generate key");
        let certificate = params
            .signed_by(&key, &self.issuer)
            .expect("sign certificate");
        let pair = KeyPair {
            certificate: self.path(&format!("{name}.pem")),
            key: self.path(&format!("{name}.key")),
        };
        fs::write(&pair.certificate, certificate.pem()).expect("write file");
        fs::write(&pair.key, key.serialize_pem()).expect("write file");
        pair
    }

    /// Returns the configuration of a client that trusts this authority.
    pub(crate) fn client(&self) -> ClientConfig {
        self.client_with(rustls::DEFAULT_VERSIONS, &[])
    }

    /// As [`client`](Self::client), with these versions of TLS, and offering these protocols.
    pub(crate) fn client_with(
        &self,
        versions: &[&'static SupportedProtocolVersion],
        protocols: &[&str],
    ) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots
            .add(self.issuer.der().clone())
            .expect("add root certificate");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .expect("supported TLS versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let protocols = protocols.iter().map(|name| name.as_bytes().to_vec());
        config.alpn_protocols = protocols.collect();
        config
    }
}

/// A client that has completed its handshake.
pub(crate) struct TlsClient(pub(crate) StreamOwned<ClientConnection, TcpStream>);

impl TlsClient {
    pub(crate) fn connect(
        address: SocketAddr,
        name: &str,
        config: &Arc<ClientConfig>,
    ) -> io::Result<Self> {
        Self::on(TcpStream::connect(address)?, name, config)
    }

    /// Connects, sends `header`, and begins the handshake then.
    pub(crate) fn connect_after(
        header: &str,
        address: SocketAddr,
        name: &str,
        config: &Arc<ClientConfig>,
    ) -> io::Result<Self> {
        let mut socket = TcpStream::connect(address)?;
        socket.write_all(header.as_bytes())?;
        Self::on(socket, name, config)
    }

    /// Sends bytes, and returns the head and the body of the response.
    pub(crate) fn exchange(&mut self, request: &str) -> (String, Vec<u8>) {
        self.send(request);
        self.response()
    }

    fn on(socket: TcpStream, name: &str, config: &Arc<ClientConfig>) -> io::Result<Self> {
        let name = ServerName::try_from(name.to_owned()).expect("valid server name");
        let session = ClientConnection::new(Arc::clone(config), name).expect("create TLS session");
        socket.set_read_timeout(Some(TIMEOUT))?;
        socket.set_write_timeout(Some(TIMEOUT))?;
        let mut stream = StreamOwned::new(session, socket);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        Ok(Self(stream))
    }

    fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.write_all(bytes.as_ref()).expect("send bytes");
    }

    /// Reads a response and returns its head and body.
    fn response(&mut self) -> (String, Vec<u8>) {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            self.0.read_exact(&mut byte).expect("read response head");
            head.extend(byte);
        }
        let head = String::from_utf8(head).expect("decode UTF-8");
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("Content-Length: "));
        let length = length
            .expect("valid Content-Length")
            .parse()
            .expect("valid Content-Length");
        let mut content = vec![0; length];
        self.0.read_exact(&mut content).expect("read body");
        (head, content)
    }

    pub(crate) fn get(&mut self, path: &str) -> (String, Vec<u8>) {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n"));
        self.response()
    }
}

/// Starts a server on a free port, with TLS.
fn serve(tls: Tls, handler: impl tws::Handler + 'static) -> TestServer {
    TestServer::with(handler, |_| {}, |server| server.with_tls(tls))
}

fn text(_: &Request<'_>) -> Response {
    Response::text("hello\n")
}

#[test]
fn files_of_every_size_arrive_complete_over_tls() {
    let authority = CertificateAuthority::new();
    let folder = tempfile::tempdir().expect("create temporary directory");
    let sizes = [0, 1, 4096, 32 * 1024, 100_000, MIB, 20 * MIB + 7];
    for size in sizes {
        fs::write(folder.path().join(size.to_string()), pattern(size)).expect("write file");
    }
    let tls = Tls::open(vec![authority.issue("a", &["a.test"])]).expect("open certificates");
    let server = serve(
        tls,
        StaticFiles::new(folder.path()).expect("open site root"),
    );
    let config = Arc::new(authority.client());
    let mut client =
        TlsClient::connect(server.address, "a.test", &config).expect("complete TLS handshake");
    for size in sizes {
        let (head, content) = client.get(&format!("/{size}"));
        assert!(head.starts_with("HTTP/1.1 200 OK"), "{head}");
        assert!(content == pattern(size), "{size}");
    }
    // Several at once, so that responses share records.
    let requests: String = (0..50)
        .map(|_| "GET /4096 HTTP/1.1\r\nHost: test\r\n\r\n")
        .collect();
    client.send(requests);
    for _ in 0..50 {
        assert_eq!(client.response().1, pattern(4096));
    }
}

#[test]
fn request_body_and_streamed_response_cross_tls() {
    let authority = CertificateAuthority::new();
    let tls = Tls::open(vec![authority.issue("a", &["a.test"])]).expect("open certificates");
    let server = serve(tls, |request: &Request<'_>| {
        assert!(request.is_secure());
        let content = request.content().to_vec();
        let body = tws::BodyStream::written(move |out| {
            content
                .chunks(1000)
                .try_for_each(|chunk| out.write_all(chunk))
        });
        Response::new(tws::StatusCode::OK).with_body(tws::Body::Stream(
            body.with_length(request.content().len() as u64),
        ))
    });
    let config = Arc::new(authority.client());
    let mut client =
        TlsClient::connect(server.address, "a.test", &config).expect("complete TLS handshake");
    let content = pattern(700_000);
    client.send(format!(
        "POST / HTTP/1.1\r\nHost: test\r\nContent-Length: {}\r\n\r\n",
        content.len()
    ));
    client.send(&content);
    assert!(client.response().1 == content);
}

/// The server sends close_notify, so a client that reads to the end knows that the response is
/// complete.
#[test]
fn connection_close_sends_close_notify() {
    let authority = CertificateAuthority::new();
    let tls = Tls::open(vec![authority.issue("a", &["a.test"])]).expect("open certificates");
    let server = serve(tls, text);
    let config = Arc::new(authority.client());
    for request in [
        "GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n",
        "GET / HTTP/1.0\r\n\r\n",
        "nonsense\r\n\r\n",
    ] {
        let mut client =
            TlsClient::connect(server.address, "a.test", &config).expect("complete TLS handshake");
        client.send(request);
        let mut response = String::new();
        client
            .0
            .read_to_string(&mut response)
            .expect("read to close_notify");
        assert!(response.starts_with("HTTP/1.1 "), "{response}");
    }
    // A client that closes its sending side first still gets its response.
    let mut client =
        TlsClient::connect(server.address, "a.test", &config).expect("complete TLS handshake");
    client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    client.0.conn.send_close_notify();
    client.0.flush().expect("flush connection");
    let mut response = String::new();
    client
        .0
        .read_to_string(&mut response)
        .expect("read to close_notify");
    assert!(response.ends_with("hello\n"), "{response}");
}

#[test]
fn sni_selects_certificate() {
    let authority = CertificateAuthority::new();
    let tls = Tls::open(vec![
        authority.issue("a", &["a.test", "b.test"]),
        authority.issue("wild", &["*.example.test"]),
    ])
    .expect("open certificates");
    let server = serve(tls, text);
    let config = Arc::new(authority.client());
    for name in ["a.test", "B.test", "x.example.test", "y.EXAMPLE.test"] {
        let mut client = TlsClient::connect(server.address, name, &config).expect(name);
        assert_eq!(client.get("/").1, b"hello\n");
    }
    for name in ["c.test", "example.test", "x.y.example.test"] {
        let refused = TlsClient::connect(server.address, name, &config);
        assert!(refused.is_err(), "{name}: another's certificate");
    }
}

#[test]
fn tls12_and_tls13_sessions_are_resumed() {
    let authority = CertificateAuthority::new();
    let tls = Tls::open(vec![authority.issue("a", &["a.test"])]).expect("open certificates");
    let server = serve(tls, text);
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let mut roots = RootCertStore::empty();
        roots
            .add(authority.issuer.der().clone())
            .expect("add root certificate");
        let config = config_of(version, roots);
        let mut kinds = Vec::new();
        for _ in 0..3 {
            let mut client = TlsClient::connect(server.address, "a.test", &config)
                .expect("complete TLS handshake");
            assert_eq!(client.get("/").1, b"hello\n");
            assert_eq!(client.0.conn.protocol_version(), Some(version.version));
            kinds.push(client.0.conn.handshake_kind().expect("completed handshake"));
        }
        assert_eq!(
            kinds,
            [
                HandshakeKind::Full,
                HandshakeKind::Resumed,
                HandshakeKind::Resumed
            ]
        );
    }
}

/// With certbot, `live/NAME/*.pem` are links into `archive` that are switched by a renewal.
#[test]
fn replaced_certificate_is_served_without_dropping_connections() {
    let authority = CertificateAuthority::new();
    let first = authority.issue("1", &["a.test"]);
    let live = KeyPair {
        certificate: authority.path("fullchain.pem"),
        key: authority.path("privkey.pem"),
    };
    let link = |to: &Path, at: &Path| {
        let new = at.with_extension("new");
        std::os::unix::fs::symlink(to, &new).expect("create symlink");
        fs::rename(&new, at).expect("switch symlink");
    };
    link(&first.certificate, &live.certificate);
    link(&first.key, &live.key);
    let tls = Tls::open(vec![live.clone()]).expect("open certificates");
    let server = serve(tls.clone(), text);
    let config = Arc::new(authority.client());
    let shown = |client: &TlsClient| {
        let chain = client.0.conn.peer_certificates().expect("peer certificate");
        chain[0].to_vec()
    };
    let connect = || TlsClient::connect(server.address, "a.test", &Arc::new(authority.client()));
    let mut old = connect().expect("complete TLS handshake");
    assert_eq!(tls.reload().expect("reload settings"), Reloaded::Unchanged);
    // In the middle of a renewal the certificate and the key do not match, and nothing changes.
    let second = authority.issue("2", &["a.test", "b.test"]);
    link(&second.certificate, &live.certificate);
    let error = tls
        .reload()
        .expect_err("certificate and key that do not match")
        .to_string();
    assert!(error.contains("does not match the certificate"), "{error}");
    assert_eq!(
        shown(&connect().expect("complete TLS handshake")),
        shown(&old)
    );
    link(&second.key, &live.key);
    // The server checks for changes by itself.
    eventually!(|| shown(&connect().expect("complete TLS handshake")) != shown(&old));
    assert_eq!(old.get("/").1, b"hello\n");
    assert!(TlsClient::connect(server.address, "b.test", &config).is_ok());
}

#[test]
fn invalid_certificate_or_key_is_one_line_error() {
    let authority = CertificateAuthority::new();
    let a = authority.issue("a", &["a.test"]);
    let b = authority.issue("b", &["b.test"]);
    let expired = authority.issue_with("expired", &["a.test"], |params| {
        params.not_after = rcgen::date_time_ymd(2020, 2, 29);
    });
    let early = authority.issue_with("early", &["a.test"], |params| {
        params.not_before = rcgen::date_time_ymd(2999, 1, 1);
    });
    let write = |name: &str, text: &str| {
        let path = authority.path(name);
        fs::write(&path, text).expect("write file");
        path
    };
    let pem = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let encrypted = write("encrypted.key", pem);
    let empty = write("empty.pem", "");
    let cut = write("cut.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n");
    let nonsense = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let nonsense = write("nonsense.pem", nonsense);
    let text = |path: &Path| {
        fs::read_to_string(path)
            .expect("read file")
            .trim()
            .to_owned()
    };
    let (leaf, other) = (text(&a.certificate), text(&b.certificate));
    let joined = write("joined.pem", &format!("{leaf}{other}\n"));
    let key_joined = write("key-joined.pem", &format!("{leaf}{}\n", text(&a.key)));
    let bad_intermediate =
        format!("{leaf}\n-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    let bad_intermediate = write("intermediate.pem", &bad_intermediate);
    let table: &[(&Path, &Path, &str)] = &[
        (&joined, &a.key, "must each have a line of their own"),
        (
            &key_joined,
            &key_joined,
            "must each have a line of their own",
        ),
        (
            &a.certificate,
            &key_joined,
            "must each have a line of their own",
        ),
        (
            &bad_intermediate,
            &a.key,
            ": this certificate cannot be parsed",
        ),
        (&a.certificate, &b.key, "does not match the certificate"),
        (&expired.certificate, &expired.key, "expired on 2020-02-29"),
        (
            &early.certificate,
            &early.key,
            "is not valid before 2999-01-01",
        ),
        (&a.certificate, &encrypted, "is encrypted; `openssl pkey"),
        (&a.certificate, &a.certificate, "contains no private key"),
        (&a.key, &a.key, "contains no certificate"),
        (&empty, &a.key, "contains no certificate"),
        (&cut, &a.key, "the file is truncated"),
        (&nonsense, &a.key, "the first certificate cannot be parsed"),
        (&authority.path("missing"), &a.key, "no such file"),
        (authority.folder.path(), &a.key, "this is a folder"),
    ];
    for (certificate, key, expected) in table {
        let pair = KeyPair {
            certificate: certificate.to_path_buf(),
            key: key.to_path_buf(),
        };
        let error = Tls::open(vec![pair]).expect_err(expected).to_string();
        assert!(error.contains(expected), "{error}");
        assert!(!error.contains('\n'), "{error}");
    }
    assert!(Tls::open(Vec::new()).is_err());
}

#[test]
fn self_signed_certificate_has_requested_names() {
    let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
    let tls = Tls::self_signed(&names).expect("create self-signed certificate");
    assert!(tls.describe()[0].contains("localhost, 127.0.0.1, valid until 20"));
    assert!(tls.warnings().is_empty());
    let server = serve(tls, text);
    let authority = CertificateAuthority::new();
    let strict = Arc::new(authority.client());
    assert!(TlsClient::connect(server.address, "localhost", &strict).is_err());
    assert!(Tls::self_signed(&["ñ".to_owned()]).is_err());
}

fn config_of(
    version: &'static SupportedProtocolVersion,
    roots: RootCertStore,
) -> Arc<ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .expect("supported TLS version")
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config)
}

#[test]
fn access_log_has_scheme_host_and_tls_version() {
    let authority = CertificateAuthority::new();
    let path = authority.path("access.log");
    let format = "{scheme} {tls} {host}".parse().expect("valid log format");
    let log = AccessLog::start(format, &[LogDestination::File(path.clone())]);
    let log = log.expect("start access log");
    let tls = Tls::open(vec![authority.issue("a", &["a.test"])]).expect("open certificates");
    let mut server = TestServer::with(
        text,
        |_| {},
        |server| server.with_tls(tls).with_access_log(log),
    );
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let mut roots = RootCertStore::empty();
        let root = authority.issuer.der().clone();
        roots.add(root).expect("add root certificate");
        let config = config_of(version, roots);
        let client = TlsClient::connect(server.address, "a.test", &config);
        client.expect("complete TLS handshake").get("/");
    }
    server.handle.shut_down();
    server.join();
    let lines = fs::read_to_string(path).expect("read log");
    let mut lines: Vec<&str> = lines.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["https TLSv1.2 test", "https TLSv1.3 test"]);
}

#[test]
fn plain_http_on_tls_port_is_400() {
    let authority = CertificateAuthority::new();
    let tls = Tls::open(vec![authority.issue("a", &["a.test"])]).expect("open certificates");
    let server = serve(tls, text);
    let response = server.client().get("/");
    assert_eq!(response.status, 400);
    assert!(response.text().contains("HTTPS"), "{}", response.text());
    let mut nonsense = server.client();
    nonsense
        .send([0x80, 0x2e, 0x01, 0x00])
        .expect_closed_or_reset();
}

/// The server is behind a proxy that sends the client's address and passes on the encrypted bytes.
#[test]
fn tls_connection_above_client_limit_is_closed() {
    let authority = CertificateAuthority::new();
    let tls = Tls::open(vec![authority.issue("here", &["localhost"])]).expect("open certificates");
    let change = |config: &mut Config| {
        config.proxy_protocol = ProxyProtocol::Required;
        config.limits.max_connections_per_client = Some(1);
    };
    let server = TestServer::with(text, change, |server| server.with_tls(tls));
    let client = Arc::new(authority.client());
    let connect = || {
        let mut socket = TcpStream::connect(server.address).expect("connect");
        socket
            .write_all(b"PROXY TCP4 192.0.2.7 192.0.2.1 1234 443\r\n")
            .expect("send bytes");
        TlsClient::on(socket, "localhost", &client)
    };
    let mut first = connect().expect("complete TLS handshake");
    assert_eq!(first.get("/").1, b"hello\n");
    assert!(connect().is_err());
    let counts = server.handle.stats();
    assert_eq!((counts.rejected, counts.rejected_clients), (1, 1));
    drop(first);
    eventually!(|| server.handle.connections() == 0);
    assert_eq!(
        connect().expect("complete TLS handshake").get("/").1,
        b"hello\n"
    );
}

/// Incomplete handshakes delay no other connection, and time out.
#[test]
fn incomplete_handshakes_time_out_without_blocking_others() {
    let authority = CertificateAuthority::new();
    let tls = Tls::open(vec![authority.issue("a", &["a.test"])]).expect("open certificates");
    let serve = |timeout| {
        TestServer::with(
            text,
            |config: &mut Config| config.timeouts.header = timeout,
            |server: Server| server.with_tls(tls.clone()),
        )
    };
    let begin_handshakes = |server: &TestServer| -> Vec<_> {
        let begin = |at: usize| {
            let client = server.client();
            // A record that announces more bytes than are sent. The server may close the connection
            // before.
            let _ = client.stream().write_all(&[22, 3, 1, 2, 0][..at % 6]);
            client
        };
        (0..100).map(begin).collect()
    };
    let server = serve(Duration::from_secs(3600));
    let _halves = begin_handshakes(&server);
    let config = Arc::new(authority.client());
    let mut client =
        TlsClient::connect(server.address, "a.test", &config).expect("complete TLS handshake");
    assert_eq!(client.get("/").1, b"hello\n");
    let server = serve(Duration::from_millis(300));
    for half in &mut begin_handshakes(&server) {
        half.expect_closed_or_reset();
    }
    eventually!(|| server.handle.connections() == 0);
}

/// Connections with an incomplete handshake are evicted for new ones.
#[test]
fn incomplete_handshakes_are_evicted_at_connection_limit() {
    let authority = CertificateAuthority::new();
    let tls = Tls::open(vec![authority.issue("a", &["a.test"])]).expect("open certificates");
    let server = TestServer::with(
        text,
        |config: &mut Config| {
            config.limits.max_connections = Some(3);
            config.timeouts.header = Duration::from_secs(3600);
        },
        |server: Server| server.with_tls(tls),
    );
    let config = Arc::new(authority.client());
    let silent: Vec<_> = (0..3).map(|_| server.client()).collect();
    eventually!(|| server.handle.connections() == 3);
    eventually!(|| {
        let client = TlsClient::connect(server.address, "a.test", &config);
        client.is_ok_and(|mut client| client.get("/").1 == b"hello\n")
    });
    // Each event loop evicts its own oldest one, so which of them are closed is not determined.
    eventually!(|| server.handle.connections() < silent.len());
}

/// A response that a client does not read yet is held back, and is not lost.
#[test]
fn late_reading_tls_client_gets_complete_response() {
    let authority = CertificateAuthority::new();
    let tls = Tls::open(vec![authority.issue("a", &["a.test"])]).expect("open certificates");
    let content = pattern(8 * MIB);
    let answer = content.clone();
    let server = serve(tls, move |_: &Request<'_>| {
        Response::new(tws::StatusCode::OK).with_body(tws::Body::Bytes(answer.clone().into()))
    });
    let config = Arc::new(authority.client());
    let mut late: Vec<_> = (0..3)
        .map(|_| {
            let mut client = TlsClient::connect(server.address, "a.test", &config)
                .expect("complete TLS handshake");
            client.send("GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
            client
        })
        .collect();
    let mut other =
        TlsClient::connect(server.address, "a.test", &config).expect("complete TLS handshake");
    assert!(other.get("/").1 == content);
    for client in &mut late {
        assert!(client.response().1 == content);
        assert_eq!(client.0.read(&mut [0]).expect("read close_notify"), 0);
    }
}

/// `close_notify` says that the end is the regular one (RFC 8446 §6.1).
#[test]
fn http10_response_that_breaks_off_has_no_close_notify() {
    let authority = CertificateAuthority::new();
    let tls = Tls::open(vec![authority.issue("a", &["a.test"])]).expect("open certificates");
    let server = serve(tls, |request: &Request<'_>| {
        let fails = request.path() == "/fails";
        let stream = tws::BodyStream::written(move |out| {
            out.write_all(b"some")?;
            out.flush()?;
            if fails {
                return Err(io::Error::other("on purpose"));
            }
            Ok(())
        });
        Response::new(tws::StatusCode::OK).with_body(tws::Body::Stream(stream))
    });
    let config = Arc::new(authority.client());
    for (path, is_regular) in [("/", true), ("/fails", false)] {
        let mut client =
            TlsClient::connect(server.address, "a.test", &config).expect("complete TLS handshake");
        client.send(format!("GET {path} HTTP/1.0\r\n\r\n"));
        let mut response = Vec::new();
        // Without `close_notify` the end is an error.
        let end = client.0.read_to_end(&mut response);
        assert_eq!(end.is_ok(), is_regular, "{path}: {end:?}");
    }
}

/// A client may send its only request together with the end of its handshake, and `close_notify`.
#[test]
fn request_in_one_segment_with_finished_and_close_notify_is_answered() {
    let authority = CertificateAuthority::new();
    let tls = Tls::open(vec![authority.issue("here", &["localhost"])]).expect("open certificates");
    let server = TestServer::with(text, |_| {}, |server| server.with_tls(tls));
    let config = Arc::new(authority.client());
    for sends_close_notify in [false, true] {
        let name = ServerName::try_from("localhost").expect("valid server name");
        let mut session = ClientConnection::new(Arc::clone(&config), name).expect("a session");
        let mut socket = TcpStream::connect(server.address).expect("connect");
        socket.set_read_timeout(Some(TIMEOUT)).expect("a timeout");
        let flight = |session: &mut ClientConnection, socket: &mut TcpStream| {
            let mut bytes = Vec::new();
            while session.wants_write() {
                session.write_tls(&mut bytes).expect("written");
            }
            socket.write_all(&bytes).expect("send bytes");
        };
        flight(&mut session, &mut socket);
        while session.is_handshaking() {
            session.read_tls(&mut socket).expect("read");
            session.process_new_packets().expect("valid records");
        }
        let request = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        session.writer().write_all(request).expect("encrypted");
        if sends_close_notify {
            session.send_close_notify();
        }
        flight(&mut session, &mut socket);
        let mut response = String::new();
        let mut stream = StreamOwned::new(session, socket);
        stream.read_to_string(&mut response).expect("a response");
        assert!(response.starts_with("HTTP/1.1 200 "), "{response:?}");
    }
}
