//! Tests of automatic certificates with a certificate authority of their own: orders, challenges,
//! renewal, faults, several processes, `tws acme` and `tws check`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use rustix::process::{Pid, Signal, kill_process};
use rustls::HandshakeKind;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::reload::ProcessWithStderr;
use crate::support::fake_ca::{Behaviour, FakeCa, Fault, Moment};
use crate::support::ports::free_port;
use crate::support::tls_alpn::{has_acme_identifier, served_certificate};
use crate::support::upgradable_process::UpgradableProcess;
use crate::support::{Client, eventually};
use crate::tls_transport::TlsClient;

const NAME: &str = "a.test";

/// The time between two orders after a failure, in seconds.
const HOUR: i64 = 3600;

/// A folder to serve, and a state directory.
pub(crate) struct Site {
    pub(crate) folder: TempDir,
    pub(crate) state: TempDir,
}

impl Site {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().expect("create temporary directory");
        fs::write(folder.path().join("a.txt"), "a").expect("write file");
        Self {
            folder,
            state: tempfile::tempdir().expect("create temporary directory"),
        }
    }

    /// Returns a command that serves `names` with certificates of a certificate authority.
    pub(crate) fn command(&self, names: &[&str], directory: &str, root: &Path) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tws"));
        command
            .current_dir(self.folder.path())
            .args([
                "--bind=127.0.0.1",
                "--access-log=off",
                "--acme-directory",
                directory,
            ])
            .args(names.iter().map(|name| format!("--acme={name}")))
            .arg("--acme-ca")
            .arg(root)
            .arg("--state-dir")
            .arg(self.state.path());
        command
    }

    fn serving(&self, ca: &FakeCa) -> Command {
        let mut command = self.command(&[NAME], &ca.directory(), &ca.root());
        command.arg("--port=0");
        command
    }

    fn start(&self, ca: &FakeCa, args: &[&str]) -> ProcessWithStderr {
        ProcessWithStderr::run(self.folder.path(), self.serving(ca).args(args))
    }

    /// Returns a file in the folder of a name. There is one certificate authority.
    pub(crate) fn file(&self, name: &str, file: &str) -> PathBuf {
        let mut cas = fs::read_dir(self.state.path().join("acme")).expect("read folder");
        let ca = cas.next().expect("a certificate authority");
        ca.expect("read folder").path().join(name).join(file)
    }

    pub(crate) fn read_state(&self) -> Value {
        let text = fs::read(self.file(NAME, "state.json")).expect("read file");
        serde_json::from_slice(&text).expect("JSON")
    }

    /// Changes the state while no server runs, as the time would.
    pub(crate) fn change_state(&self, change: impl FnOnce(&mut Value)) {
        let mut state = self.read_state();
        change(&mut state);
        let path = self.file(NAME, "state.json");
        fs::write(path, state.to_string()).expect("write file");
    }

    /// Runs `tws acme`.
    pub(crate) fn acme(&self, args: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_tws"))
            .current_dir(self.folder.path())
            .arg("acme")
            .args(args)
            .arg("--state-dir")
            .arg(self.state.path())
            .stdin(Stdio::null())
            .output()
            .expect("run tws")
    }

    pub(crate) fn status(&self) -> Value {
        let output = self.acme(&["status", "--json"]);
        assert!(output.status.success(), "{output:?}");
        serde_json::from_slice(&output.stdout).expect("JSON")
    }
}

/// Returns whether a client that trusts the certificate authority alone is served.
fn is_served(tws: &ProcessWithStderr, ca: &FakeCa) -> bool {
    let client = TlsClient::connect(tws.process.address, NAME, &ca.client());
    client.is_ok_and(|mut client| client.get("/a.txt").1 == b"a")
}

/// Waits until a certificate is obtained, served and recorded. It can be served before it is recorded.
fn wait_for_certificate(tws: &ProcessWithStderr, ca: &FakeCa) {
    tws.wait_for_line("certificate obtained");
    assert!(is_served(tws, ca));
}

fn end(mut tws: ProcessWithStderr) {
    tws.process.signal(Signal::TERM);
    assert!(tws.process.child.wait_for_exit().success());
}

/// Until there is a certificate, a self-signed one is served.
#[test]
fn certificate_is_obtained_while_serving() {
    let ca = FakeCa::start(Behaviour {
        challenges: &["dns-01", "tls-alpn-01", "http-01"],
        fault: Some(("directory", Fault::Status(503))),
        ..Behaviour::default()
    });
    let site = Site::new();
    let tws = site.start(&ca, &["--admin=127.0.0.1:0"]);
    let address = tws.process.address;
    tws.wait_for_line("cannot reach the certificate authority");
    assert!(!is_served(&tws, &ca));
    assert!(served_certificate(address, NAME, &[]).is_some());
    assert_eq!(site.status()[0]["state"], "missing");
    ca.change(|behaviour| {
        behaviour.fault = None;
        behaviour.validated_at = Some([address, address]);
    });
    wait_for_certificate(&tws, &ca);
    assert_eq!((ca.issued(), ca.requests("new-order")), (1, 1));
    let mode = |file: &str| {
        let metadata = fs::metadata(site.file(NAME, file)).expect("read metadata");
        metadata.permissions().mode() & 0o777
    };
    assert_eq!(
        [".", "certificate.pem", "state.json"].map(mode),
        [0o700, 0o600, 0o600]
    );
    assert_eq!(mode("../account.key"), 0o600);
    // The challenge is over.
    assert_eq!(served_certificate(address, NAME, &["acme-tls/1"]), None);
    let status = &site.status()[0];
    assert_eq!(
        (&status["state"], &status["server_running"]),
        (&json!("valid"), &json!(true))
    );
    let mut client = Client::connect(tws.process.admin.expect("admin address"));
    client.send("GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let metrics = client.response().text();
    let expected = format!(
        "tws_certificate_expiry_seconds{{name=\"{NAME}\"}} {}\n",
        status["not_after"]
    );
    assert!(metrics.contains(&expected), "{metrics}");
    assert!(
        !metrics.contains("tws_certificate_last_error_seconds{"),
        "{metrics}"
    );
    // The certificate is served at once by the next process, which orders nothing.
    end(tws);
    let tws = site.start(&ca, &[]);
    assert!(is_served(&tws, &ca));
    assert_eq!(ca.requests("new-order"), 1);
}

/// Neither a password, nor a host name, nor a redirect of the site, nor that to HTTPS comes before it.
#[test]
fn http_challenge_is_answered_before_everything_else() {
    let site = Site::new();
    let redirect_port = free_port();
    let http = ([127, 0, 0, 1], redirect_port).into();
    let ca = FakeCa::start(Behaviour {
        challenges: &["http-01"],
        validated_at: Some([http, http]),
        ..Behaviour::default()
    });
    let rules = "[[redirect]]\nfrom = \"/*\"\nto = \"https://else.test/$1\"\n";
    fs::write(site.folder.path().join(".tws.toml"), rules).expect("write file");
    let mut command = site.serving(&ca);
    command
        .arg(format!("--redirect-http={redirect_port}"))
        .arg("--rate-limit=1:1")
        .env("TWS_HOST_NAME", "else.test");
    #[cfg(feature = "auth")]
    {
        let users = "u:$2y$12$L6Bc/AlTQHyd9liGgGEZyOFLPHNgyxeOPfgYfBvcG9JURnROJl4fm\n";
        fs::write(site.state.path().join("users"), users).expect("write file");
        command
            .arg("--auth-file")
            .arg(site.state.path().join("users"));
    }
    let tws = ProcessWithStderr::run(site.folder.path(), &mut command);
    tws.wait_for_line("certificate obtained");
    assert!(TlsClient::connect(tws.process.address, NAME, &ca.client()).is_ok());
    assert_eq!(ca.issued(), 1);
    let response = Client::connect(http).get("/.well-known/acme-challenge/token-0");
    assert_ne!(response.status, 200, "the challenge is over");
}

/// The second attempt is an hour later, also after a restart, and with the other challenge.
#[test]
fn failed_validation_is_repeated_after_an_hour_with_the_other_challenge() {
    let site = Site::new();
    let redirect_port = free_port();
    let http = ([127, 0, 0, 1], redirect_port).into();
    // Nothing speaks TLS there.
    let ca = FakeCa::start(Behaviour {
        challenges: &["tls-alpn-01", "http-01"],
        validated_at: Some([http, http]),
        ..Behaviour::default()
    });
    let redirect = format!("--redirect-http={redirect_port}");
    let tws = site.start(&ca, &[&redirect, "--admin=127.0.0.1:0"]);
    let line = tws.wait_for_line("unauthorized");
    assert!(line.contains("once an hour"), "{line}");
    let now = jiff::Timestamp::now().as_second();
    let status = site.status()[0].clone();
    let next = status["next_attempt"].as_i64().expect("a time");
    assert!((HOUR - 60..=2 * HOUR).contains(&(next - now)), "{status}");
    assert_eq!(status["last_error"]["kind"], "unauthorized");
    let text = String::from_utf8(site.acme(&["status"]).stdout).expect("UTF-8");
    assert!(text.contains("once an hour"), "{text}");
    let mut client = Client::connect(tws.process.admin.expect("admin address"));
    client.send("GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let metrics = client.response().text();
    assert!(
        metrics.contains("{name=\"a.test\",error=\"unauthorized\"}"),
        "{metrics}"
    );
    // An operator cannot exceed the limit either.
    let renewed = site.acme(&["renew", NAME]);
    assert_eq!(renewed.status.code(), Some(1), "{renewed:?}");
    end(tws);
    let tws = site.start(&ca, &[&redirect]);
    let renewed = site.acme(&["renew", NAME, "--json"]);
    let results: Value = serde_json::from_slice(&renewed.stdout).expect("JSON");
    assert_eq!(results[0]["done"], false);
    assert_eq!((ca.requests("new-order"), ca.issued()), (1, 0));
    end(tws);
    site.change_state(|state| state["next_attempt"] = (now - 1).into());
    let tws = site.start(&ca, &[&redirect]);
    wait_for_certificate(&tws, &ca);
    assert_eq!(ca.requests("new-order"), 2);
    assert_eq!(site.read_state()["failures"], 0);
}

/// At two thirds of the lifetime, or when the certificate authority suggests it (RFC 9773).
#[test]
fn certificate_is_renewed_when_it_is_due() {
    for window in [None, Some((-200, -100))] {
        let site = Site::new();
        let ca = FakeCa::start(Behaviour::default());
        let tws = site.start(&ca, &[]);
        wait_for_certificate(&tws, &ca);
        end(tws);
        let before = fs::read(site.file(NAME, "certificate.pem")).expect("read file");
        let plan = site.read_state()["plan"].clone();
        let id = plan["certificate"]
            .as_str()
            .expect("an identifier")
            .to_owned();
        ca.change(|behaviour| behaviour.window = window);
        site.change_state(|state| {
            state["next_attempt"] = Value::Null;
            match window {
                None => state["plan"]["renew_at"] = 0.into(),
                Some(_) => state["plan"]["next_check"] = 0.into(),
            }
        });
        let tws = site.start(&ca, &[]);
        wait_for_certificate(&tws, &ca);
        assert!(fs::read(site.file(NAME, "certificate.pem")).expect("read file") != before);
        assert_eq!(site.status()[0]["order_pending"], false);
        let replaces = window.map_or(Value::Null, |_| id.into());
        assert_eq!(ca.ordered("replaces"), replaces);
        // The window has passed for the new certificate, too; but it is not ordered without end.
        assert_eq!((ca.issued(), ca.requests("new-order")), (2, 2));
        if window.is_some() {
            eventually!(|| site.read_state()["plan"]["window"] != Value::Null);
            assert_eq!(site.status()[0]["renewal_suggested"], true);
        }
        end(tws);
        assert_eq!(ca.requests("new-order"), 2);
    }
}

/// With old connections and new ones, full handshakes and resumed sessions.
#[test]
fn renewal_fails_no_request_and_keeps_sessions() {
    let site = Site::new();
    let ca = FakeCa::start(Behaviour {
        challenges: &["tls-alpn-01"],
        ..Behaviour::default()
    });
    let tws = site.start(&ca, &[]);
    wait_for_certificate(&tws, &ca);
    let address = tws.process.address;
    let config = ca.client();
    let kind = || {
        let mut client = TlsClient::connect(address, NAME, &config).expect("handshake");
        // The ticket comes with the response.
        assert_eq!(client.get("/a.txt").1, b"a");
        client.0.conn.handshake_kind()
    };
    assert_eq!(kind(), Some(HandshakeKind::Full));
    let mut kept = TlsClient::connect(address, NAME, &config).expect("handshake");
    let (over, done) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    let client = TlsClient::connect(address, NAME, &ca.client());
                    let mut client = client.expect("handshake");
                    assert_eq!(client.get("/a.txt").1, b"a");
                    done.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let renewed = site.acme(&["renew"]);
        let before = done.load(Ordering::Relaxed);
        eventually!(|| done.load(Ordering::Relaxed) > before + 10);
        over.store(true, Ordering::Relaxed);
        assert!(renewed.status.success(), "{renewed:?}");
    });
    assert_eq!(ca.issued(), 2);
    assert_eq!(kept.get("/a.txt").1, b"a");
    assert_eq!(kind(), Some(HandshakeKind::Resumed));
}

/// Runs some work on a few threads.
fn in_parallel<T: Sync>(all: &[T], work: impl Fn(&T) + Sync) {
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while let Some(one) = all.get(next.fetch_add(1, Ordering::Relaxed)) {
                    work(one);
                }
            });
        }
    });
}

/// Whatever the certificate authority sends, the server serves, and the next attempt is within bounds.
#[test]
fn unusable_responses_are_failures_that_are_repeated_later() {
    let table: &[(&str, Fault, &str, bool)] = &[
        ("directory", Fault::Status(500), "unreachable", true),
        ("directory", Fault::Status(404), "protocol", false),
        ("directory", Fault::Text("no JSON"), "protocol", false),
        (
            "directory",
            Fault::Text("{\"newNonce\": \"http://127.0.0.1/\"}"),
            "protocol",
            false,
        ),
        ("directory", Fault::Bytes(1 << 20), "unreachable", true),
        ("directory", Fault::Redirect, "protocol", false),
        ("nonce", Fault::Status(503), "unreachable", true),
        (
            "account",
            Fault::Problem("externalAccountRequired"),
            "externalAccountRequired",
            false,
        ),
        ("account", Fault::Problem("badNonce"), "badNonce", false),
        (
            "new-order",
            Fault::Problem("rateLimited"),
            "rateLimited",
            false,
        ),
        ("new-order", Fault::Text("{}"), "protocol", false),
        ("new-order", Fault::Status(500), "unreachable", false),
        ("authorization", Fault::Text("[]"), "protocol", false),
        ("authorization", Fault::Token, "protocol", false),
        ("finalize", Fault::Problem("badCSR"), "badCSR", false),
        ("finalize", Fault::Status(502), "unreachable", true),
        ("finalize", Fault::OtherName, "protocol", false),
        ("finalize", Fault::OtherKey, "protocol", false),
        ("certificate", Fault::Text("no PEM"), "protocol", false),
        ("certificate", Fault::Bytes(300_000), "unreachable", true),
    ];
    in_parallel(table, |(request, fault, kind, is_soon)| {
        let site = Site::new();
        let ca = FakeCa::start(Behaviour {
            challenges: match fault {
                Fault::Token => &["http-01"],
                _ => &[],
            },
            fault: Some((request, *fault)),
            ..Behaviour::default()
        });
        // A fault of an authorization shows only if there is one to complete.
        if *request == "authorization" {
            ca.change(|behaviour| behaviour.challenges = &["http-01"]);
        }
        let tws = site.start(&ca, &[]);
        tws.wait_for_line("the next attempt is at");
        let state = site.read_state();
        let place = format!("{request} {fault:?}: {state}");
        let failure = &state["last_failure"];
        assert_eq!(failure["kind"], *kind, "{place}");
        let time = |value: &Value| value.as_i64().expect("a time");
        let wait = time(&state["next_attempt"]) - time(&failure["at"]);
        let expected = if *is_soon {
            0..=60
        } else {
            HOUR - 60..=2 * HOUR
        };
        assert!(expected.contains(&wait), "{place}");
        assert!(
            served_certificate(tws.process.address, NAME, &[]).is_some(),
            "{place}"
        );
        end(tws);
    });
}

/// Whenever the process is killed: the next one obtains the certificate, and nothing is issued twice.
#[test]
fn killed_process_is_continued_without_a_second_certificate() {
    let undisturbed = FakeCa::start(Behaviour::default());
    let site = Site::new();
    let tws = site.start(&undisturbed, &[]);
    eventually!(|| is_served(&tws, &undisturbed));
    let kinds = [
        "directory",
        "nonce",
        "account",
        "new-order",
        "order",
        "authorization",
    ];
    let kinds = kinds.iter().chain(&["finalize", "certificate"]);
    let count: usize = kinds.map(|kind| undisturbed.requests(kind)).sum();
    assert!(count > 5, "{count}");
    let moments = [Moment::Before, Moment::After];
    let steps = (0..count).flat_map(|at| moments.map(|moment| (at, moment)));
    let steps: Vec<_> = steps.collect();
    in_parallel(&steps, |step| {
        let site = Site::new();
        let pid: Arc<Mutex<Option<Pid>>> = Arc::default();
        let (killed, target) = (Arc::clone(&pid), *step);
        let ca = FakeCa::start(Behaviour {
            hook: Some(Box::new(move |number, moment| {
                if (number, moment) == target {
                    eventually!(|| killed.lock().expect("lock").is_some());
                    let pid = killed.lock().expect("lock").expect("a process id");
                    kill_process(pid, Signal::KILL).expect("kill process");
                }
            })),
            ..Behaviour::default()
        });
        let mut tws = site.start(&ca, &[]);
        *pid.lock().expect("lock") = Some(tws.process.child.pid());
        tws.process.child.wait_for_exit();
        ca.change(|behaviour| behaviour.hook = None);
        let tws = site.start(&ca, &[]);
        eventually!(|| is_served(&tws, &ca));
        assert_eq!(ca.issued(), 1, "{step:?}");
        // The URL of an order is lost with the response.
        assert!(ca.requests("new-order") <= 2, "{step:?}");
        end(tws);
    });
}

#[test]
fn processes_that_share_a_state_directory_order_once() {
    let site = Site::new();
    let ca = FakeCa::start(Behaviour {
        challenges: &["tls-alpn-01"],
        ..Behaviour::default()
    });
    let all = [(); 3].map(|()| {
        let folder = tempfile::tempdir().expect("create temporary directory");
        fs::write(folder.path().join("a.txt"), "a").expect("write file");
        let mut command = site.serving(&ca);
        let tws = ProcessWithStderr::run(folder.path(), &mut command);
        (tws, folder)
    });
    // Each answers the challenge, whichever has ordered.
    let challenge = site.file(NAME, "challenge.json");
    eventually!(|| challenge.exists() || ca.issued() == 1);
    for (tws, _) in &all {
        eventually!(|| is_served(tws, &ca));
    }
    let has_obtained = |tws: &ProcessWithStderr| tws.errors().contains("certificate obtained");
    eventually!(|| all.iter().any(|(tws, _)| has_obtained(tws)));
    assert_eq!(
        (
            ca.issued(),
            ca.requests("new-order"),
            ca.requests("account")
        ),
        (1, 1, 1)
    );
    let renewed = site.acme(&["renew"]);
    assert!(renewed.status.success(), "{renewed:?}");
    let new = fs::read_to_string(site.file(NAME, "certificate.pem")).expect("read file");
    for (tws, _) in &all {
        eventually!(|| {
            let served = served_certificate(tws.process.address, NAME, &[]).expect("a certificate");
            let served = base64_lines(&served);
            new.replace('\n', "").contains(&served)
        });
    }
    assert_eq!((ca.issued(), ca.requests("new-order")), (2, 2));
}

fn base64_lines(der: &[u8]) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(der)
}

/// Also those that did not order answer the challenge.
#[test]
fn challenge_is_answered_by_each_process() {
    let site = Site::new();
    let ca = FakeCa::start(Behaviour {
        challenges: &["tls-alpn-01"],
        fault: Some(("challenge", Fault::Text("{}"))),
        ..Behaviour::default()
    });
    let all = [(); 2].map(|()| site.start(&ca, &[]));
    for tws in &all {
        eventually!(|| {
            let protocols = &["acme-tls/1"];
            let certificate = served_certificate(tws.process.address, NAME, protocols);
            certificate.is_some_and(|certificate| has_acme_identifier(&certificate))
        });
    }
    assert_eq!(ca.requests("new-order"), 1);
}

/// SIGUSR2 while an order is unfinished: the new process finishes it.
#[test]
fn upgrade_continues_the_order() {
    let site = Site::new();
    let ca = FakeCa::start(Behaviour {
        challenges: &["tls-alpn-01"],
        fault: Some(("finalize", Fault::Status(503))),
        ..Behaviour::default()
    });
    let mut tws = UpgradableProcess::start(site.serving(&ca));
    tws.line_with("the next attempt is at");
    tws.upgrade();
    assert!(tws.child.wait_for_exit().success());
    ca.change(|behaviour| behaviour.fault = None);
    let is_served = || TlsClient::connect(tws.address, NAME, &ca.client()).is_ok();
    eventually!(is_served);
    assert_eq!((ca.issued(), ca.requests("new-order")), (1, 1));
    assert_eq!(ca.requests("challenge"), 1);
}

#[test]
fn profile_is_part_of_the_order_if_it_exists() {
    let ca = FakeCa::start(Behaviour {
        profiles: &["classic", "shortlived"],
        lifetime: 6 * 24 * 3600,
        ..Behaviour::default()
    });
    let site = Site::new();
    let tws = site.start(&ca, &["--acme-profile=shortlived"]);
    eventually!(|| is_served(&tws, &ca));
    assert_eq!(ca.ordered("profile"), "shortlived");
    let other = Site::new();
    let tws = other.start(&ca, &["--acme-profile=other"]);
    let line = tws.wait_for_line("invalidProfile");
    assert!(line.contains("classic, shortlived"), "{line}");
    assert_eq!(ca.requests("new-order"), 1);
}

#[test]
fn revoked_certificate_is_replaced() {
    let ca = FakeCa::start(Behaviour::default());
    let site = Site::new();
    let nothing = site.acme(&["revoke"]);
    assert_eq!(nothing.status.code(), Some(1), "{nothing:?}");
    let tws = site.start(&ca, &[]);
    wait_for_certificate(&tws, &ca);
    end(tws);
    let without_server = site.acme(&["renew"]);
    assert_eq!(without_server.status.code(), Some(1), "{without_server:?}");
    for name in ["b.test", "../a.test"] {
        let unknown = site.acme(&["revoke", name]);
        assert_eq!(unknown.status.code(), Some(1), "{unknown:?}");
    }
    assert_eq!(ca.revoked(), 0);
    let revoked = site.acme(&["revoke", NAME]);
    assert!(revoked.status.success(), "{revoked:?}");
    assert_eq!(ca.revoked(), 1);
    assert_eq!(site.status()[0]["state"], "revoked");
    let tws = site.start(&ca, &[]);
    ca.wait_for_issued(2);
    eventually!(|| site.status()[0]["state"] == "valid");
    assert!(is_served(&tws, &ca));
}

#[test]
fn each_host_has_a_certificate_of_its_own_also_after_a_reload() {
    let ca = FakeCa::start(Behaviour::default());
    let site = Site::new();
    let folder = site.folder.path();
    fs::create_dir(folder.join("site")).expect("create directory");
    fs::write(folder.join("site/a.txt"), "a").expect("write file");
    let settings = folder.join("tws.toml");
    let write = |names: &str| {
        let text = format!(
            "directory = \"site\"\nacme = true\n[[host]]\nnames = {names}\nroot = \"site\"\n"
        );
        fs::write(&settings, text).expect("write file");
    };
    write("[\"a.test\", \"*.b.test\"]");
    let mut command = site.command(&[], &ca.directory(), &ca.root());
    let tws = ProcessWithStderr::run(folder, command.args(["--config=tws.toml", "--port=0"]));
    let is_served =
        |name: &str| TlsClient::connect(tws.process.address, name, &ca.client()).is_ok();
    tws.wait_for_line("no certificate for the host *.b.test");
    eventually!(|| is_served("a.test"));
    write("[\"a.test\", \"c.test\"]");
    tws.process.signal(Signal::HUP);
    eventually!(|| is_served("c.test"));
    assert!(is_served("a.test"));
    assert_eq!(ca.issued(), 2);
}

fn tws(args: &[&str]) -> Output {
    let folder = tempfile::tempdir().expect("create temporary directory");
    Command::new(env!("CARGO_BIN_EXE_tws"))
        .current_dir(folder.path())
        .args(args)
        .arg("--state-dir")
        .arg(folder.path().join("../no-such-state"))
        .env_remove("RUST_LOG")
        .stdin(Stdio::null())
        .output()
        .expect("run tws")
}

#[test]
fn wrong_acme_settings_are_errors() {
    let private = "--acme-directory=https://127.0.0.1:1/dir";
    for (args, code) in [
        (&["--acme=*.example.org"][..], 2),
        (&["--acme=localhost"], 2),
        (&["--acme=192.0.2.1", private], 2),
        (&["--acme"], 2),
        (&["--acme=a.test", "--acme-directory=http://a.test/"], 2),
        (&["--acme=a.test", private, "--tls-self-signed"], 2),
        (&["--acme-email=a@b.test"], 2),
        (&["--acme=a.test", private, "-p0", "--acme-ca=none.pem"], 1),
        (&["--acme=a.test", private, "-p0", "--acme-eab=none"], 1),
        (&["--acme=a.test", private, "-p0", "--acme-ca=/dev/null"], 1),
        (&["acme"], 2),
        (&["acme", "remove"], 2),
        (&["acme", "status", "a", "b"], 2),
        (&["acme", "renew"], 1),
    ] {
        let output = tws(args);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{args:?}: {error}");
        assert_eq!(error.lines().count(), 1, "{args:?}: {error}");
    }
    let empty = tws(&["acme", "status", "--json"]);
    let json: Value = serde_json::from_slice(&empty.stdout).expect("JSON");
    assert_eq!((json, empty.status.code()), (json!([]), Some(0)));
}

/// Of a name or a flag that prevents certificates, whatever else is wrong.
#[test]
fn check_reports_what_prevents_certificates() {
    let lines = |args: &[&str], kind: &str| {
        let all = [&["check"][..], args].concat();
        let report = String::from_utf8(tws(&all).stdout).expect("UTF-8");
        let lines = report
            .lines()
            .filter(|line| line.starts_with(kind) && line.contains("--acme"));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    let private = "--acme-directory=https://127.0.0.1:1/dir";
    assert_eq!(
        lines(&["--acme=www.example.org", "-b0.0.0.0"], "warning"),
        [""; 0]
    );
    for args in [
        &["--acme=www.example.org", "-p8443"][..],
        &["--acme=www.example.org", "-b127.0.0.1"],
    ] {
        assert_eq!(lines(args, "warning").len(), 1, "{args:?}");
    }
    let local = &["--acme=www.example.org", "-b127.0.0.1", "-p8443"];
    assert_eq!(lines(local, "warning").len(), 2);
    let forwarded = &["--acme=www.example.org", "-p8443", "--redirect-http"];
    assert_eq!(lines(forwarded, "warning"), [""; 0]);
    assert_eq!(
        lines(&["--acme=a.test", private, "-p8443", "-b::1"], "warning"),
        [""; 0]
    );
    for args in [
        &["--acme=*.example.org"][..],
        &["--acme=localhost"],
        &["--acme=printer.lan"],
    ] {
        assert_eq!(lines(args, "error").len(), 1, "{args:?}");
    }
    let report = tws(&[
        "check",
        "--acme=a.test",
        private,
        "--acme-ca=none.pem",
        "--acme-eab=none",
    ]);
    let report = String::from_utf8(report.stdout).expect("UTF-8");
    let errors = report.lines().filter(|line| line.starts_with("error: "));
    assert_eq!(errors.count(), 2, "{report}");
}
