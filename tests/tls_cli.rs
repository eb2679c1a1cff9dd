//! Tests of TLS in the binary: certificates from flags, redirects from HTTP, SIGHUP, and other
//! programs as clients.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;

use rustix::process::Signal;

use crate::command_line::fails;
use crate::reload::ProcessWithStderr;
use crate::support::{Client, TwsProcess, eventually};
use crate::tls_transport::{CertificateAuthority, TlsClient};

fn sample_folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("create temporary directory");
    fs::write(folder.path().join("a.txt"), "a").expect("write file");
    fs::write(folder.path().join("large"), vec![7; 3 << 20]).expect("write file");
    folder
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// The address of the listener that redirects to HTTPS.
pub(crate) fn redirecting_address(announcement: &str) -> std::net::SocketAddr {
    let (_, after) = announcement
        .split_once("redirects here: http://")
        .expect("redirecting URL in the announcement");
    let (address, _) = after.split_once('/').expect("path of the URL");
    address.parse().expect("valid address")
}

#[test]
fn certificates_are_selected_by_sni_and_http_is_redirected() {
    let authority = CertificateAuthority::new();
    let (a, b) = (
        authority.issue("a", &["a.test"]),
        authority.issue("b", &["b.test"]),
    );
    let folder = sample_folder();
    let log = folder.path().join("access.log");
    let process = TwsProcess::start(
        folder.path(),
        &[
            &format!("--tls-cert={}", text(&a.certificate)),
            &format!("--tls-key={}", text(&a.key)),
            &format!("--tls-cert={}", text(&b.certificate)),
            &format!("--tls-key={}", text(&b.key)),
            "--redirect-http=0",
            &format!("--access-log={}", text(&log)),
        ],
    );
    assert!(process.announcement.contains("https://127.0.0.1:"));
    assert!(process.announcement.contains("a.pem: a.test, valid until "));
    let config = Arc::new(authority.client());
    for name in ["a.test", "b.test"] {
        let mut client = TlsClient::connect(process.address, name, &config).expect(name);
        assert_eq!(client.get("/a.txt").1, b"a");
        assert_eq!(client.get("/large").1.len(), 3 << 20);
    }
    let response = Client::connect(redirecting_address(&process.announcement)).get("/a.txt?b");
    assert_eq!(response.status, 308);
    let expected = format!("https://test:{}/a.txt?b", process.address.port());
    assert_eq!(response.field("Location"), Some(expected.as_str()));
    process.signal(Signal::TERM);
    let mut process = process;
    assert_eq!(process.child.wait_for_exit().code(), Some(0));
    let log = fs::read_to_string(log).expect("read log");
    assert_eq!(log.lines().count(), 5, "{log}");
    assert!(log.contains("\"GET /a.txt?b HTTP/1.1\" 308"), "{log}");
}

/// At the start, and after a reload.
#[test]
fn redirect_listener_applies_limits_and_their_reload() {
    let folder = sample_folder();
    let settings = folder.path().join("settings.toml");
    fs::write(&settings, "rate-limit = \"0.001:1\"\n").expect("write file");
    let process = TwsProcess::start(
        folder.path(),
        &[
            "--tls-self-signed",
            "--redirect-http=0",
            &format!("--config={}", text(&settings)),
        ],
    );
    let mut client = Client::connect(redirecting_address(&process.announcement));
    assert_eq!([(); 3].map(|()| client.get("/").status), [308, 429, 429]);
    fs::write(&settings, "keep-alive-max = 0\n").expect("write file");
    process.signal(Signal::HUP);
    // The only limit now is the number of requests per connection.
    eventually!(|| {
        let response = Client::connect(redirecting_address(&process.announcement)).get("/");
        (response.status, response.field("Connection")) == (308, Some("close"))
    });
}

/// The body is not for the redirecting port, which does not wait for it.
#[test]
fn redirect_of_request_with_body_is_308_without_reading_it() {
    let folder = sample_folder();
    let args = ["--tls-self-signed", "--redirect-http=0", "--access-log=off"];
    let process = TwsProcess::start(folder.path(), &args);
    let plain = redirecting_address(&process.announcement);
    for fields in [
        "Content-Length: 1\r\n",
        "Content-Length: 5000000000\r\n",
        "Content-Length: 5000000000\r\nExpect: 100-continue\r\n",
        "Transfer-Encoding: chunked\r\n",
    ] {
        let response = Client::connect(plain).request("PUT", "/a", fields);
        assert_eq!(response.status, 308, "{fields}");
        let expected = format!("https://test:{}/a", process.address.port());
        assert_eq!(response.field("Location"), Some(expected.as_str()));
    }
}

/// In the sandbox, by SIGHUP.
#[test]
fn renewed_certificate_is_served_after_sighup() {
    let authority = CertificateAuthority::new();
    let pair = authority.issue("a", &["a.test"]);
    let folder = sample_folder();
    let process = TwsProcess::start(
        folder.path(),
        &[
            &format!("--tls-cert={}", text(&pair.certificate)),
            &format!("--tls-key={}", text(&pair.key)),
        ],
    );
    let config = Arc::new(authority.client());
    let shown = || {
        let client = TlsClient::connect(process.address, "a.test", &Arc::new(authority.client()));
        let client = client.expect("complete TLS handshake");
        let chain = client.0.conn.peer_certificates().expect("peer certificate");
        chain[0].to_vec()
    };
    let mut kept =
        TlsClient::connect(process.address, "a.test", &config).expect("complete TLS handshake");
    let before = shown();
    authority.issue("new", &["a.test"]);
    for (new, old) in [("new.pem", &pair.certificate), ("new.key", &pair.key)] {
        fs::rename(authority.path(new), old).expect("rename file");
    }
    process.signal(Signal::HUP);
    eventually!(|| shown() != before);
    assert_eq!(kept.get("/a.txt").1, b"a");
}

/// The certificates are those that the file names now; a wrong certificate or limit leaves them
/// unchanged.
#[test]
fn sighup_adds_and_removes_certificates() {
    let authority = CertificateAuthority::new();
    let (a, b) = (
        authority.issue("a", &["a.test"]),
        authority.issue("b", &["b.test"]),
    );
    let folder = sample_folder();
    let file = folder.path().join("tws.toml");
    let write = |pairs: &[(&Path, &Path)], limits: &str| {
        let row = |paths: Vec<&Path>| format!("{paths:?}");
        let certificates = row(pairs.iter().map(|pair| pair.0).collect());
        let keys = row(pairs.iter().map(|pair| pair.1).collect());
        let text =
            format!("directory = \".\"\ntls-cert = {certificates}\ntls-key = {keys}\n{limits}");
        fs::write(&file, text).expect("write file");
    };
    let (a, b): ((&Path, &Path), (&Path, &Path)) =
        ((&a.certificate, &a.key), (&b.certificate, &b.key));
    write(&[a], "");
    let args = ["--config=tws.toml", "--port=0", "--access-log=off"];
    let mut command = Command::new(env!("CARGO_BIN_EXE_tws"));
    let tws = ProcessWithStderr::run(folder.path(), command.args(args));
    let config = Arc::new(authority.client());
    let is_served = |name| TlsClient::connect(tws.process.address, name, &config).is_ok();
    assert!(is_served("a.test") && !is_served("b.test"));
    write(&[a, b], "");
    tws.process.signal(Signal::HUP);
    eventually!(|| is_served("b.test"));
    assert!(is_served("a.test"));
    for (pairs, limits, reason) in [
        (&[b, (a.0, b.1)][..], "", "does not match the certificate"),
        (&[b], "workers = 2000\n", "workers: 2000"),
    ] {
        write(pairs, limits);
        tws.process.signal(Signal::HUP);
        tws.wait_for_line(reason);
        assert!(is_served("a.test") && is_served("b.test"));
    }
    write(&[b], "");
    tws.process.signal(Signal::HUP);
    eventually!(|| !is_served("a.test"));
    assert!(is_served("b.test"));
}

#[test]
fn invalid_tls_options_are_start_errors() {
    let authority = CertificateAuthority::new();
    let (a, b) = (
        authority.issue("a", &["a.test"]),
        authority.issue("b", &["b.test"]),
    );
    let folder = sample_folder();
    let certificate = format!("--tls-cert={}", text(&a.certificate));
    let other = format!("--tls-key={}", text(&b.key));
    let error = fails(folder.path(), &["--port=0", &certificate, &other], 1);
    assert!(error.contains("does not match the certificate"), "{error}");
    let error = fails(folder.path(), &["--port=0", "--tls-cert=none"], 1);
    assert!(
        error.contains("cannot read the certificate none"),
        "{error}"
    );
    fails(folder.path(), &["--redirect-http"], 2);
    let sockets = ["--bind=unix:s", "--tls-self-signed", "--redirect-http=0"];
    let error = fails(folder.path(), &sockets, 1);
    assert!(error.contains("--bind names no IP address"), "{error}");
}

/// Files that were joined without a line break between them lost their second certificate or key.
#[test]
fn joined_pem_sections_without_line_break_are_errors_with_their_line() {
    let authority = CertificateAuthority::new();
    let a = authority.issue("a", &["a.test"]);
    let certificate = fs::read_to_string(&a.certificate).expect("read file");
    let key = fs::read_to_string(&a.key).expect("read file");
    let lines = |text: &str| text.trim_end().lines().count();
    let folder = sample_folder();
    let joined = folder.path().join("joined.pem");
    let (flag, other_key) = (
        format!("--tls-cert={}", text(&joined)),
        format!("--tls-key={}", text(&a.key)),
    );
    let cases: [(String, &[&str], usize); 3] = [
        (
            certificate.trim_end().to_owned() + &certificate,
            &[&other_key],
            lines(&certificate),
        ),
        (
            certificate.trim_end().to_owned() + &key,
            &[],
            lines(&certificate),
        ),
        (key.trim_end().to_owned() + &certificate, &[], lines(&key)),
    ];
    for (content, key_flag, line) in cases {
        fs::write(&joined, content).expect("write file");
        let place = format!("joined.pem:{line}: ");
        let args = [&["-p0", &flag][..], key_flag].concat();
        let check = Command::new(env!("CARGO_BIN_EXE_tws"))
            .current_dir(folder.path())
            .arg("check")
            .args(&args)
            .output()
            .expect("run tws");
        let report = String::from_utf8_lossy(&check.stdout);
        assert_eq!(check.status.code(), Some(1), "{report}");
        let is_wrong = |line: &str| line.starts_with("error: ") && line.contains(&place);
        assert!(report.lines().any(is_wrong), "{report}");
        let error = fails(folder.path(), &args, 1);
        assert!(error.contains(&place), "{error}");
    }
    fs::write(&joined, certificate + "\n" + &key).expect("write file");
    let process = TwsProcess::start(folder.path(), &[&flag, "--access-log=off"]);
    let config = Arc::new(authority.client());
    let mut client = TlsClient::connect(process.address, "a.test", &config).expect("handshake");
    assert_eq!(client.get("/a.txt").1, b"a");
}

fn run(program: &str, args: &[&str]) -> Output {
    let output = Command::new(program).args(args).output();
    output.unwrap_or_else(|error| panic!("{program}: {error}"))
}

#[test]
#[ignore = "needs curl"]
fn curl_fetches_over_tls_and_follows_redirect() {
    let folder = sample_folder();
    let args = ["--tls-self-signed", "--redirect-http=0", "--access-log=off"];
    let process = TwsProcess::start(folder.path(), &args);
    let plain = redirecting_address(&process.announcement);
    for (version, url) in [
        (
            "--tlsv1.2",
            format!("https://localhost:{}/a.txt", process.address.port()),
        ),
        (
            "--tlsv1.3",
            format!("https://127.0.0.1:{}/a.txt", process.address.port()),
        ),
        (
            "--location",
            format!("http://127.0.0.1:{}/a.txt", plain.port()),
        ),
    ] {
        let output = run(
            "curl",
            &["--silent", "--show-error", "--insecure", version, &url],
        );
        assert_eq!(output.stdout, b"a", "{url}: {output:?}");
    }
    let url = format!("https://localhost:{}/large", process.address.port());
    let range = ["--silent", "--insecure", "--range", "10-19", &url];
    assert_eq!(run("curl", &range).stdout, [7; 10]);
}

/// As testssl requires: only cipher suites with forward secrecy and authenticated encryption, and
/// no version before 1.2.
#[test]
#[ignore = "needs openssl"]
fn openssl_weak_versions_and_ciphers_are_rejected() {
    let folder = sample_folder();
    let process = TwsProcess::start(folder.path(), &["--tls-self-signed", "--access-log=off"]);
    let at = process.address.to_string();
    let connect = |args: &[&str]| {
        let all = ["s_client", "-connect", &at, "-servername", "localhost"];
        let mut command = Command::new("openssl");
        command
            .args(all)
            .args(args)
            .stdin(std::process::Stdio::null());
        let output = command.output().expect("run openssl");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let is_spoken = |text: &str| text.contains("BEGIN CERTIFICATE");
    for good in [
        &["-tls1_3"][..],
        &["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256"],
        &["-tls1_2", "-cipher", "ECDHE-ECDSA-CHACHA20-POLY1305"],
    ] {
        assert!(is_spoken(&connect(good)), "{good:?}");
    }
    let lax = "ALL:COMPLEMENTOFALL:@SECLEVEL=0";
    for weak in [
        &["-tls1", "-cipher", lax][..],
        &["-tls1_1", "-cipher", lax],
        &[
            "-tls1_2",
            "-cipher",
            "AES128-GCM-SHA256:AES256-SHA:@SECLEVEL=0",
        ],
        &[
            "-tls1_2",
            "-cipher",
            "ECDHE-ECDSA-AES128-SHA256:ECDHE-ECDSA-AES256-SHA:@SECLEVEL=0",
        ],
        &[
            "-tls1_2",
            "-cipher",
            "NULL:eNULL:aNULL:EXPORT:RC4:3DES:@SECLEVEL=0",
        ],
    ] {
        let text = connect(weak);
        assert!(!is_spoken(&text), "{weak:?}: {text}");
    }
    for (offered, selected) in [("http/1.1,h2", "h2"), ("http/1.1", "http/1.1")] {
        let text = connect(&["-alpn", offered]);
        let line = format!("ALPN protocol: {selected}\n");
        assert!(text.contains(&line), "{text}");
    }
}

/// A connection that waits for its next request holds its keys, and no buffers.
#[test]
fn idle_connection_uses_at_most_6_kib() {
    const CONNECTIONS: u64 = 300;
    let authority = CertificateAuthority::new();
    let pair = authority.issue("here", &["localhost"]);
    let folder = sample_folder();
    let process = TwsProcess::start(
        folder.path(),
        &[
            &format!("--tls-cert={}", text(&pair.certificate)),
            &format!("--tls-key={}", text(&pair.key)),
            "--keep-alive-timeout=3600",
        ],
    );
    let mut config = authority.client();
    config.resumption = rustls::client::Resumption::disabled();
    let config = Arc::new(config);
    let connect = |count| -> Vec<_> {
        let connect = || {
            let mut client =
                TlsClient::connect(process.address, "localhost", &config).expect("a handshake");
            assert_eq!(client.get("/a.txt").1, b"a");
            // The session of the client is not needed any more.
            client.0.sock
        };
        (0..count).map(|_| connect()).collect()
    };
    let _first = connect(100);
    let before = process.private_memory();
    let _others = connect(CONNECTIONS);
    let each = (process.private_memory() - before) / CONNECTIONS;
    assert!(each <= 6 * 1024, "{each}");
}
