//! Tests of automatic certificates with pebble, a certificate authority for tests that validates names as
//! Let's Encrypt does.

use std::fs;
use std::net::TcpStream;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use rustix::process::Signal;

use crate::acme::Site;
use crate::reload::ProcessWithStderr;
use crate::support::eventually;
use crate::support::pebble::{EXTERNAL_ACCOUNT, Pebble};
use crate::support::upgradable_process::UpgradableProcess;
use crate::tls_transport::TlsClient;

const NAME: &str = "a.test";

fn serving(site: &Site, pebble: &Pebble, names: &[&str], args: &[&str]) -> Command {
    let mut command = site.command(names, &pebble.directory(), &pebble.ca());
    command
        .arg(format!("--port={}", pebble.tls_port))
        .args(args);
    command
}

fn start(site: &Site, pebble: &Pebble, args: &[&str]) -> ProcessWithStderr {
    let mut command = serving(site, pebble, &[NAME], args);
    ProcessWithStderr::run(site.folder.path(), &mut command)
}

/// Waits until a certificate is obtained, served and recorded. It can be served before it is recorded.
fn wait_for_certificate(tws: &ProcessWithStderr, pebble: &Pebble) {
    tws.wait_for_line("certificate obtained");
    assert!(is_served(pebble, NAME));
}

fn is_served(pebble: &Pebble, name: &str) -> bool {
    let address = ([127, 0, 0, 1], pebble.tls_port).into();
    let client = TlsClient::connect(address, name, &pebble.client());
    client.is_ok_and(|mut client| client.get("/a.txt").1 == b"a")
}

#[test]
#[ignore = "needs pebble and curl"]
fn curl_verifies_the_certificate_of_pebble() {
    let pebble = Pebble::start(&[]);
    let site = Site::new();
    let redirect = format!("--redirect-http={}", pebble.http_port);
    let mut command = serving(&site, &pebble, &["localhost"], &[&redirect]);
    let _tws = ProcessWithStderr::run(site.folder.path(), &mut command);
    let root = pebble.issuing_root();
    eventually!(|| {
        let url = format!("https://localhost:{}/a.txt", pebble.tls_port);
        let curl = Command::new("curl")
            .args(["--silent", "--noproxy", "*", "--cacert"])
            .arg(&root)
            .arg(url)
            .output();
        curl.expect("run curl").stdout == b"a"
    });
}

#[test]
#[ignore = "needs pebble"]
fn certificates_are_obtained_for_several_names_although_nonces_are_rejected() {
    let pebble = Pebble::start(&[("PEBBLE_WFE_NONCEREJECT", "50")]);
    let site = Site::new();
    let mut command = serving(&site, &pebble, &["a.test", "b.test"], &[]);
    let _tws = ProcessWithStderr::run(site.folder.path(), &mut command);
    for name in ["a.test", "b.test"] {
        eventually!(|| is_served(&pebble, name));
    }
}

/// Nothing speaks TLS at the port where pebble expects it; the next attempt is with HTTP-01.
#[test]
#[ignore = "needs pebble"]
fn failed_tls_challenge_is_followed_by_an_http_challenge() {
    let pebble = Pebble::start(&[]);
    let site = Site::new();
    let args = [
        "--port=0".to_owned(),
        format!("--redirect-http={}", pebble.http_port),
    ];
    let start = || {
        let mut command = site.command(&[NAME], &pebble.directory(), &pebble.ca());
        ProcessWithStderr::run(site.folder.path(), command.args(&args))
    };
    let mut tws = start();
    tws.wait_for_line("once an hour");
    tws.process.signal(Signal::TERM);
    assert!(tws.process.child.wait_for_exit().success());
    site.change_state(|state| state["next_attempt"] = 0.into());
    let tws = start();
    let is_served = || TlsClient::connect(tws.process.address, NAME, &pebble.client()).is_ok();
    eventually!(is_served);
}

#[test]
#[ignore = "needs pebble"]
fn external_account_is_bound() {
    let pebble = Pebble::with_external_accounts();
    let site = Site::new();
    let file = site.state.path().join("eab");
    fs::write(&file, EXTERNAL_ACCOUNT).expect("write file");
    let without = Site::new();
    let mut command = without.command(&[NAME], &pebble.directory(), &pebble.ca());
    let tws = ProcessWithStderr::run(without.folder.path(), command.arg("--port=0"));
    tws.wait_for_line("--acme-eab");
    let _tws = start(&site, &pebble, &[&format!("--acme-eab={}", file.display())]);
    eventually!(|| is_served(&pebble, NAME));
}

/// Renewals under load, each with an authorization that is valid already.
#[test]
#[ignore = "needs pebble"]
fn renewals_under_load_fail_no_request() {
    let pebble = Pebble::start(&[("PEBBLE_AUTHZREUSE", "100")]);
    let site = Site::new();
    let tws = start(&site, &pebble, &[]);
    wait_for_certificate(&tws, &pebble);
    let config = pebble.client();
    let (over, done) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    let client = TlsClient::connect(tws.process.address, NAME, &config);
                    assert_eq!(client.expect("handshake").get("/a.txt").1, b"a");
                    done.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for _ in 0..5 {
            let renewed = site.acme(&["renew"]);
            assert!(renewed.status.success(), "{renewed:?}");
        }
        over.store(true, Ordering::Relaxed);
    });
    assert!(done.load(Ordering::Relaxed) > 10);
}

/// Also its account is gone when pebble comes back.
#[test]
#[ignore = "needs pebble"]
fn certificate_is_obtained_and_renewed_when_the_authority_comes_back() {
    let mut pebble = Pebble::start(&[]);
    pebble.stop();
    let site = Site::new();
    let tws = start(&site, &pebble, &[]);
    tws.wait_for_line("cannot reach the certificate authority");
    pebble.run();
    wait_for_certificate(&tws, &pebble);
    pebble.stop();
    pebble.run();
    let renewed = site.acme(&["renew"]);
    assert!(renewed.status.success(), "{renewed:?}");
    eventually!(|| is_served(&pebble, NAME));
}

#[test]
#[ignore = "needs pebble"]
fn revocation_is_known_to_the_authority_and_the_certificate_is_replaced() {
    let pebble = Pebble::start(&[]);
    let site = Site::new();
    let tws = start(&site, &pebble, &[]);
    wait_for_certificate(&tws, &pebble);
    let pem = fs::read(site.file(NAME, "certificate.pem")).expect("read file");
    let revoked = site.acme(&["revoke", NAME]);
    assert!(revoked.status.success(), "{revoked:?}");
    let serial = serial_of(&pem);
    let status = pebble.manage(&format!("/cert-status-by-serial/{serial}"));
    let status = String::from_utf8(status).expect("UTF-8");
    assert!(status.contains("\"Revoked\""), "{status}");
    eventually!(|| fs::read(site.file(NAME, "certificate.pem")).expect("read file") != pem);
}

fn serial_of(pem: &[u8]) -> String {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;
    use x509_parser::prelude::{FromDer, X509Certificate};
    let der = CertificateDer::from_pem_slice(pem).expect("a certificate");
    let (_, certificate) = X509Certificate::from_der(&der).expect("valid certificate");
    let bytes = certificate.raw_serial().iter();
    bytes.map(|byte| format!("{byte:02x}")).collect()
}

#[test]
#[ignore = "needs pebble"]
fn processes_that_share_a_state_directory_share_the_certificate() {
    let pebble = Pebble::start(&[]);
    let site = Site::new();
    let tws = start(&site, &pebble, &[]);
    let other = tempfile::tempdir().expect("create temporary directory");
    let mut command = site.command(&[NAME], &pebble.directory(), &pebble.ca());
    let second = ProcessWithStderr::run(other.path(), command.arg("--port=0"));
    for tws in [&tws, &second] {
        let address = tws.process.address;
        eventually!(|| TlsClient::connect(address, NAME, &pebble.client()).is_ok());
    }
}

/// The new process continues the order, or has its certificate.
#[test]
#[ignore = "needs pebble"]
fn upgrade_during_an_order_loses_nothing() {
    let pebble = Pebble::start(&[]);
    let site = Site::new();
    let mut tws = UpgradableProcess::start(serving(&site, &pebble, &[NAME], &["-v"]));
    tws.line_with("ordering a certificate");
    // The order may be over before its challenge is seen.
    let files = ["challenge.json", "certificate.pem"];
    eventually!(|| files.iter().any(|file| site.file(NAME, file).exists()));
    tws.upgrade();
    assert!(tws.child.wait_for_exit().success());
    eventually!(|| is_served(&pebble, NAME));
    assert_eq!(site.read_state()["failures"], 0);
    tws.signal(Signal::TERM);
    eventually!(|| TcpStream::connect(tws.address).is_err());
}
