//! Tests of changes while the server runs: the handler and limits of a server in this process; the
//! config file, passwords and log files of the binary.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;

use rustix::process::Signal;
use tws::{
    BodyPolicy, Config, ForwardedField, Handler, Outcome, ProxyProtocol, Request, Response,
    ServerState,
};

use crate::support::{Client, TestServer, TwsProcess, eventually};

/// A handler that responds with its name, reports each admitted body, and sets a flag when it is
/// dropped.
struct NamedHandler {
    name: &'static str,
    admitted: mpsc::Sender<()>,
    is_gone: Arc<AtomicBool>,
}

impl NamedHandler {
    fn new(name: &'static str) -> (Self, mpsc::Receiver<()>, Arc<AtomicBool>) {
        let (admitted, contents) = mpsc::channel();
        let is_gone = Arc::new(AtomicBool::new(false));
        let named = Self {
            name,
            admitted,
            is_gone: Arc::clone(&is_gone),
        };
        (named, contents, is_gone)
    }
}

impl Handler for NamedHandler {
    fn handle(&self, request: &Request<'_>) -> Outcome {
        Response::text(format!("{} {}", self.name, request.content().len())).into()
    }

    fn admit(&self, _: &Request<'_>) -> BodyPolicy {
        let _ = self.admitted.send(());
        BodyPolicy::Buffer { max: 100 }
    }
}

impl Drop for NamedHandler {
    fn drop(&mut self) {
        self.is_gone.store(true, Ordering::Release);
    }
}

#[test]
fn request_in_progress_finishes_with_old_handler() {
    let (old, contents, is_gone) = NamedHandler::new("old");
    let server = TestServer::configured(old, |config| config.workers = 1.try_into().ok());
    let mut kept = server.client();
    assert_eq!(kept.get("/").text(), "old 0");
    let mut halfway = server.client();
    halfway.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nab");
    contents.recv().expect("body is admitted");

    let (new, _, _) = NamedHandler::new("new");
    server
        .handle
        .reload(new, &Config::default())
        .expect("reload settings");
    eventually!(|| kept.get("/").text() == "new 0");
    assert_eq!(server.client().get("/").text(), "new 0");
    assert!(!is_gone.load(Ordering::Acquire));
    // A second reload, before that request is finished.
    let (newer, _, _) = NamedHandler::new("newer");
    server
        .handle
        .reload(newer, &Config::default())
        .expect("reload settings");
    eventually!(|| kept.get("/").text() == "newer 0");
    // The last bytes of one request and the whole next request arrive together.
    halfway.send("cdGET / HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(halfway.response().text(), "old 4");
    assert_eq!(halfway.response().text(), "newer 0");
    eventually!(|| is_gone.load(Ordering::Acquire));
}

#[test]
fn old_handler_is_dropped_after_last_client_disconnects() {
    let (old, contents, is_gone) = NamedHandler::new("old");
    let server = TestServer::configured(old, |config| config.workers = 1.try_into().ok());
    let [stays_open, resets] = [(), ()].map(|()| {
        let mut client = server.client();
        client.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nab");
        contents.recv().expect("body is admitted");
        client
    });
    let (new, _, _) = NamedHandler::new("new");
    server
        .handle
        .reload(new, &Config::default())
        .expect("reload settings");
    eventually!(|| server.client().get("/").text() == "new 0");
    // With a linger time of zero, closing resets the connection.
    let linger = Some(std::time::Duration::ZERO);
    rustix::net::sockopt::set_socket_linger(resets.stream(), linger).expect("set linger time");
    drop(resets);
    eventually!(|| server.handle.connections() == 1);
    assert!(!is_gone.load(Ordering::Acquire));
    drop(stays_open);
    eventually!(|| is_gone.load(Ordering::Acquire));
}

#[test]
fn reload_changes_limits_of_open_and_new_connections() {
    let hello = |_: &Request<'_>| Response::text("hello");
    let server = TestServer::configured(hello, |config| config.workers = 1.try_into().ok());
    let mut kept = server.client();
    assert_eq!(kept.get("/").status, 200);

    let mut config = Config::default();
    config.limits.max_target_bytes = 5;
    config.limits.max_connections_per_client = Some(2);
    server
        .handle
        .reload(hello, &config)
        .expect("reload settings");
    // Each attempt is a new connection, because the rejection closes it.
    eventually!(|| server.client().get("/longer").status == 414);
    assert_eq!(kept.get("/").status, 200);
    assert_eq!(kept.get("/longer").status, 414);

    config.limits.max_fields = 1_000_000;
    let error = server
        .handle
        .reload(hello, &config)
        .expect_err("max_fields above the maximum");
    assert!(error.to_string().contains("max_fields"), "{error}");
    drop(kept);
    eventually!(|| server.handle.connections() == 0);
    let mut held: Vec<Client> = (0..2).map(|_| server.client()).collect();
    for client in &mut held {
        assert_eq!(client.get("/").status, 200);
    }
    // The acceptor may not have received the new limits yet.
    eventually!(|| {
        let mut client = server.client();
        client.send("GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
        client.response().status == 503
    });

    config = Config::default();
    config.limits.keep_alive_max = Some(0);
    server
        .handle
        .reload(hello, &config)
        .expect("reload settings");
    eventually!(|| held[0].get("/").field("connection") == Some("close"));
    held.push(server.client());
    assert_eq!(held[2].get("/").field("connection"), Some("close"));
}

#[test]
fn reload_changes_drain_timeout() {
    let (sender, _unanswered) = mpsc::channel();
    let handler = move |_: &Request<'_>| {
        let sender = sender.clone();
        Outcome::deferred(move |responder| drop(sender.send(responder)))
    };
    let long = std::time::Duration::from_secs(3600);
    let mut server = TestServer::configured(handler, |config| config.timeouts.drain = long);
    let mut waiting = server.client();
    waiting.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    eventually!(|| server.handle.stats().requests == 1);
    let mut config = Config::default();
    config.timeouts.drain = std::time::Duration::ZERO;
    let handler = |_: &Request<'_>| Response::text("");
    server
        .handle
        .reload(handler, &config)
        .expect("reload settings");
    server.handle.shut_down();
    waiting.expect_closed();
    server.join();
    assert_eq!(server.handle.state(), ServerState::Ended);
}

#[test]
fn reload_changes_trusted_proxies_of_open_connection() {
    let echo_client =
        |request: &Request<'_>| Response::text(request.client_addr().ip().to_string());
    let server = TestServer::start(echo_client);
    let fields = "X-Forwarded-For: 192.0.2.7\r\nForwarded: for=192.0.2.8\r\n";
    let mut client = server.client();
    for (trusted, field, expected) in [
        ("127.0.0.1", ForwardedField::XForwardedFor, "192.0.2.7"),
        ("127.0.0.1", ForwardedField::Forwarded, "192.0.2.8"),
        ("192.0.2.1", ForwardedField::Forwarded, "127.0.0.1"),
    ] {
        let mut config = Config::default();
        config.trusted_proxies = trusted.parse().expect("valid networks");
        config.forwarded_field = field;
        server
            .handle
            .reload(echo_client, &config)
            .expect("reload settings");
        eventually!(|| client.request("GET", "/", fields).text() == expected);
    }
}

#[test]
fn reload_changes_trusted_proxy_header_senders() {
    let hello = |_: &Request<'_>| Response::text("hello");
    let server = TestServer::configured(hello, |config| {
        config.proxy_protocol = ProxyProtocol::Required;
    });
    let is_accepted = || {
        let mut client = server.client();
        // The server may close the connection before the header is sent.
        let header = "PROXY TCP4 192.0.2.7 192.0.2.1 1234 80\r\n";
        let request = format!("{header}GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
        let _ = client.stream().write_all(request.as_bytes());
        !client.rest_or_reset().is_empty()
    };
    assert!(is_accepted());
    for (trusted, expected) in [("192.0.2.1", false), ("127.0.0.0/8", true)] {
        let mut config = Config::default();
        config.trusted_proxies = trusted.parse().expect("valid networks");
        server
            .handle
            .reload(hello, &config)
            .expect("reload settings");
        eventually!(|| is_accepted() == expected);
    }
}

/// The binary with its standard error in a file.
pub(crate) struct ProcessWithStderr {
    pub(crate) process: TwsProcess,
    errors: PathBuf,
}

impl ProcessWithStderr {
    fn start(folder: &Path, args: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tws"));
        // One event loop unless a test says otherwise: the first changed response shows that all
        // event loops have changed.
        command.args(args).env("TWS_WORKERS", "1");
        Self::run(folder, &mut command)
    }

    pub(crate) fn run(folder: &Path, command: &mut Command) -> Self {
        let errors = folder.join("errors");
        command
            .current_dir(folder)
            .stdin(Stdio::null())
            .stderr(File::create(&errors).expect("create file"));
        let process = TwsProcess::run(command);
        Self { process, errors }
    }

    pub(crate) fn errors(&self) -> String {
        fs::read_to_string(&self.errors).expect("read file")
    }

    /// Waits for a complete line on standard error that contains `word`.
    pub(crate) fn wait_for_line(&self, word: &str) -> String {
        let mut found = None;
        eventually!(|| {
            let errors = self.errors();
            let line = errors.lines().find(|line| line.contains(word));
            // A complete line only.
            found = line.filter(|_| errors.ends_with('\n')).map(str::to_owned);
            found.is_some()
        });
        found.expect("line found")
    }

    fn end(mut self) {
        self.process.signal(Signal::TERM);
        assert!(self.process.child.wait_for_exit().success());
    }
}

/// Replaces a file atomically, as editors and deployment tools do.
fn replace(path: &Path, text: &str) {
    let new = path.with_extension("new");
    fs::write(&new, text).expect("write file");
    fs::rename(&new, path).expect("rename file");
}

/// Returns a folder with a site, and a config file beside the site.
fn site_folder(text: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("create temporary directory");
    fs::create_dir_all(folder.path().join("site")).expect("create directory");
    fs::create_dir_all(folder.path().join("etc")).expect("create directory");
    fs::write(folder.path().join("site/a.html"), "a").expect("write file");
    fs::write(folder.path().join("site/b.html"), "b").expect("write file");
    fs::write(folder.path().join("etc/tws.toml"), text).expect("write file");
    folder
}

const SETTINGS: &str = "directory = \"../site\"\nport = 0\naccess-log = \"off\"\n";

#[test]
fn sighup_reloads_config_file() {
    let folder = site_folder(&format!("{SETTINGS}index = [\"a.html\"]\n"));
    let file = folder.path().join("etc/tws.toml");
    let tws = ProcessWithStderr::start(folder.path(), &["--config=etc/tws.toml"]);
    let mut client = tws.process.client();
    assert_eq!(client.get("/").text(), "a");
    // Repeated, because the replacing file is replaced as well.
    for name in ["b", "a", "b"] {
        replace(
            &file,
            &format!("{SETTINGS}index = [\"{name}.html\"]\nkeep-alive-max = 100000\n"),
        );
        tws.process.signal(Signal::HUP);
        eventually!(|| client.get("/").text() == name);
    }
    // The new connection has the new settings, and only the reloads were logged.
    assert_eq!(tws.process.client().get("/").text(), "b");
    eventually!(|| tws.errors().matches("in force\n").count() == 3);
    assert_eq!(tws.errors().lines().count(), 3, "{}", tws.errors());
    tws.end();
}

#[test]
fn sighup_with_invalid_file_keeps_settings_and_logs() {
    let folder = site_folder(&format!("{SETTINGS}index = [\"a.html\"]\n"));
    let file = folder.path().join("etc/tws.toml");
    let tws = ProcessWithStderr::start(folder.path(), &["--config=etc/tws.toml"]);
    const SITE: &str = "directory = \"../site\"\n";
    for (text, expected) in [
        (format!("{SITE}prot = 1\n"), "etc/tws.toml:2: "),
        (format!("{SITE}\nindex = [\"b.html\"\n"), "etc/tws.toml:3: "),
        (format!("{SITE}auth-file = \"none\"\n"), "etc/none"),
        ("directory = \"nowhere\"\n".to_owned(), "etc/nowhere"),
        (format!("{SITE}bind = \"::\"\n[upload]\n"), "--auth-file"),
    ] {
        replace(&file, &text);
        tws.process.signal(Signal::HUP);
        let line = tws.wait_for_line(expected);
        assert!(line.contains("the settings are unchanged"), "{line}");
        assert_eq!(tws.process.client().get("/").text(), "a");
    }
    assert_eq!(tws.errors().lines().count(), 5, "{}", tws.errors());
    fs::remove_file(&file).expect("remove file");
    tws.process.signal(Signal::HUP);
    tws.wait_for_line("no such file");
    assert_eq!(tws.process.client().get("/").text(), "a");
    tws.end();
}

/// With the old delay of an hour the process would not exit.
#[test]
fn sighup_changes_drain_delay() {
    let folder = site_folder(&format!(
        "{SETTINGS}index = [\"a.html\"]\ndrain-delay = 3600\n"
    ));
    let file = folder.path().join("etc/tws.toml");
    let tws = ProcessWithStderr::start(folder.path(), &["--config=etc/tws.toml"]);
    assert_eq!(tws.process.client().get("/").text(), "a");
    // Two reloads: the first has completed when the second shows its effect.
    for name in ["b", "a"] {
        replace(
            &file,
            &format!("{SETTINGS}index = [\"{name}.html\"]\ndrain-delay = 0\n"),
        );
        tws.process.signal(Signal::HUP);
        eventually!(|| tws.process.client().get("/").text() == name);
    }
    tws.process.signal(Signal::TERM);
    eventually!(|| TcpStream::connect(tws.process.address).is_err());
    let mut process = tws.process;
    assert!(process.child.wait_for_exit().success());
}

#[test]
fn sighup_logs_settings_that_need_restart() {
    let folder = site_folder(SETTINGS);
    let file = folder.path().join("etc/tws.toml");
    let tws = ProcessWithStderr::start(folder.path(), &["--config=etc/tws.toml"]);
    let text = "directory = \"../site\"\nport = 1\nbind = \"127.0.0.2\"\nunix-mode = \"600\"\n\
                proxy-protocol = true\nadmin = \"127.0.0.1:0\"\n\
                access-log = \"log\"\nindex = [\"b.html\"]\nstate-dir = \"s\"\n";
    replace(&file, text);
    tws.process.signal(Signal::HUP);
    let line = tws.wait_for_line("after a restart");
    assert!(
        line.ends_with(": bind, port, unix-mode, proxy-protocol, admin, state-dir, access-log"),
        "{line}"
    );
    eventually!(|| tws.process.client().get("/").text() == "b");
    tws.end();
}

#[test]
fn sighup_changes_root_within_sandbox() {
    let folder = site_folder(SETTINGS);
    fs::write(folder.path().join("site/index.html"), "site").expect("write file");
    let other = tempfile::tempdir().expect("create temporary directory");
    fs::write(other.path().join("index.html"), "other").expect("write file");
    fs::create_dir(folder.path().join("site/inside")).expect("create directory");
    fs::write(folder.path().join("site/inside/index.html"), "inside").expect("write file");
    let file = folder.path().join("etc/tws.toml");
    let text = |root: &str| format!("directory = \"{root}\"\nport = 0\naccess-log = \"off\"\n");
    let outside = other.path().display().to_string();
    for (args, is_sandboxed) in [
        (&["--config=etc/tws.toml", "--no-sandbox"][..], false),
        (&["--config=etc/tws.toml"], true),
    ] {
        replace(&file, &text("../site"));
        let tws = ProcessWithStderr::start(folder.path(), args);
        replace(&file, &text("../site/inside"));
        tws.process.signal(Signal::HUP);
        eventually!(|| tws.process.client().get("/").text() == "inside");
        replace(&file, &text(&outside));
        tws.process.signal(Signal::HUP);
        let content = || tws.process.client().get("/").text();
        // Not every kernel enforces the sandbox.
        if is_sandboxed && tws.process.announcement.contains("(Landlock") {
            let line = tws.wait_for_line(&outside);
            assert!(line.contains("sandbox"), "{line}");
            assert_eq!(content(), "inside");
        } else {
            eventually!(|| content() == "other");
            let is_of_root = |line: &&str| line.contains("in place of");
            eventually!(|| tws.errors().matches("in force\n").count() == 2);
            assert_eq!(tws.errors().lines().filter(is_of_root).count(), 2);
            assert_eq!(tws.errors().lines().count(), 4, "{}", tws.errors());
        }
        tws.end();
    }
}

#[test]
fn sighup_keeps_hiding_files_of_former_settings() {
    let text = |number: usize| {
        let index = ["a", "b"][number % 2];
        format!(
            "directory = \"../site\"\nport = 0\naccess-log = \"../site/log{number}\"\n\
             index = [\"{index}.html\"]\n"
        )
    };
    let folder = site_folder(&text(0));
    let file = folder.path().join("etc/tws.toml");
    let tws = ProcessWithStderr::start(folder.path(), &["--config=etc/tws.toml"]);
    let status = |path: &str| tws.process.client().get(path).status;
    for number in 1..4 {
        replace(&file, &text(number));
        tws.process.signal(Signal::HUP);
        eventually!(|| tws.process.client().get("/").text() == ["a", "b"][number % 2]);
        fs::write(folder.path().join(format!("site/log{number}")), "log").expect("write file");
        for former in 0..=number {
            assert_eq!(status(&format!("/log{former}")), 404, "log{former}");
        }
    }
    tws.end();
}

#[test]
fn sighup_with_lost_root_or_empty_file_keeps_settings() {
    let named = "directory = \"../site\"\n";
    let rest = "port = 0\naccess-log = \"off\"\nindex = [\"a.html\"]\n";
    for (args, before, after) in [
        (
            &["--config=etc/tws.toml"][..],
            format!("{named}{rest}"),
            rest,
        ),
        (&["--config=etc/tws.toml"], format!("{named}{rest}"), ""),
        (&["site", "--config=etc/tws.toml"], rest.to_owned(), "\n"),
        (
            &["site", "--config=etc/tws.toml"],
            rest.to_owned(),
            "# soon\n",
        ),
    ] {
        for (signal, expected) in [
            (Signal::HUP, "the settings are unchanged"),
            (Signal::USR2, "continues to serve"),
        ] {
            let folder = site_folder(&before);
            let file = folder.path().join("etc/tws.toml");
            let tws = ProcessWithStderr::start(folder.path(), args);
            // In place, as a program does that does not replace the file.
            fs::write(&file, after).expect("write file");
            tws.process.signal(signal);
            tws.wait_for_line(expected);
            let mut client = tws.process.client();
            assert_eq!(client.get("/").text(), "a");
            assert_eq!(client.get("/etc/tws.toml").status, 404);
            tws.end();
        }
    }
}

/// An editor that renames its new file to the settings file removes the old one before.
#[test]
fn settings_file_of_root_that_is_gone_keeps_settings() {
    for (signal, expected) in [
        (Signal::HUP, "the settings are unchanged"),
        (Signal::USR2, "continues to serve"),
    ] {
        let folder = tempfile::tempdir().expect("create temporary directory");
        fs::write(folder.path().join("secret.txt"), "secret").expect("write file");
        let file = folder.path().join(".tws.toml");
        let rules = "[[access]]\npath = \"/secret.txt\"\ndeny = \"all\"\n";
        fs::write(&file, rules).expect("write file");
        let tws = ProcessWithStderr::start(folder.path(), &[".", "--access-log=off"]);
        assert_eq!(tws.process.client().get("/secret.txt").status, 403);
        fs::remove_file(&file).expect("remove file");
        tws.process.signal(signal);
        tws.wait_for_line(expected);
        assert_eq!(tws.process.client().get("/secret.txt").status, 403);
        tws.end();
    }
}

/// A file that is read before it is complete may lack rules at its end.
#[test]
fn sighup_reports_each_path_that_is_no_longer_restricted() {
    let text = |paths: &[&str]| {
        let rule = |path: &&str| format!("[[access]]\npath = \"{path}\"\ndeny = \"all\"\n");
        let rules: String = paths.iter().map(rule).collect();
        format!("directory = \"../site\"\nport = 0\naccess-log = \"off\"\n{rules}")
    };
    let folder = site_folder(&text(&["/one/*", "/two/*"]));
    let file = folder.path().join("etc/tws.toml");
    let tws = ProcessWithStderr::start(folder.path(), &["--config=etc/tws.toml"]);
    replace(&file, &text(&["/one/*"]));
    tws.process.signal(Signal::HUP);
    tws.wait_for_line("/two/* is not restricted");
    tws.end();
}

#[cfg(feature = "sqlite")]
#[test]
fn sighup_rejects_root_around_state_in_use() {
    let text = |root: &str, more: &str| {
        format!(
            "directory = \"{root}\"\nport = 0\naccess-log = \"off\"\nindex = [\"a.html\"]\n{more}"
        )
    };
    let users = "state-dir = \"../state\"\n[users]\nstore = \"sqlite:users.db\"\n";
    let folder = site_folder(&text("../site", users));
    let file = folder.path().join("etc/tws.toml");
    let tws = ProcessWithStderr::start(folder.path(), &["--config=etc/tws.toml"]);
    replace(&file, &text("..", ""));
    tws.process.signal(Signal::HUP);
    let line = tws.wait_for_line("the settings are unchanged");
    assert!(line.contains("users.db"), "{line}");
    assert_eq!(tws.process.client().get("/state/users.db").status, 404);
    assert_eq!(tws.process.client().get("/").text(), "a");
    tws.end();
}

/// The hash of "secret".
#[cfg(feature = "auth")]
const HASH: &str = "$2y$04$CAEdaA94G7IhZBfoXyCMaeiZuCDGuWguBmdqyGRCxi1VqVOfYmlmW";

#[cfg(feature = "auth")]
#[test]
fn sighup_reloads_password_file() {
    let folder = site_folder(&format!("{SETTINGS}auth-file = \"users\"\n"));
    let users = folder.path().join("etc/users");
    let (ana, ben) = (format!("ana:{HASH}\n"), format!("ben:{HASH}\n"));
    fs::write(&users, &ana).expect("write file");
    let tws = ProcessWithStderr::start(folder.path(), &["--config=etc/tws.toml"]);
    let status = |login: &str| {
        let field = format!("Authorization: Basic {login}\r\n");
        tws.process
            .client()
            .request("GET", "/a.html", &field)
            .status
    };
    let statuses = || (status("YW5hOnNlY3JldA=="), status("YmVuOnNlY3JldA=="));
    assert_eq!(statuses(), (200, 401));
    for (text, expected) in [(ben, (401, 200)), (ana, (200, 401))] {
        replace(&users, &text);
        tws.process.signal(Signal::HUP);
        eventually!(|| statuses() == expected);
    }
    // The loss of all passwords is logged.
    replace(&folder.path().join("etc/tws.toml"), SETTINGS);
    tws.process.signal(Signal::HUP);
    tws.wait_for_line("requires no password");
    tws.end();
}

#[cfg(feature = "auth")]
#[test]
fn sighup_keeps_hiding_former_password_file() {
    let folder = site_folder(&format!("{SETTINGS}auth-file = \"../site/users\"\n"));
    fs::write(folder.path().join("site/users"), format!("ana:{HASH}\n")).expect("write file");
    let tws = ProcessWithStderr::start(folder.path(), &["--config=etc/tws.toml"]);
    let status = |path: &str| tws.process.client().get(path).status;
    assert_eq!(status("/a.html"), 401);
    replace(&folder.path().join("etc/tws.toml"), SETTINGS);
    tws.process.signal(Signal::HUP);
    eventually!(|| status("/a.html") == 200);
    assert_eq!(status("/users"), 404);
    tws.end();
}

#[test]
fn sigusr1_reopens_log_without_losing_lines() {
    const ROUNDS: usize = 5;
    const CLIENTS: usize = 4;
    let folder = site_folder("");
    let log = folder.path().join("etc/access.log");
    let args = ["site", "-p0", "--workers=2", "--access-log=etc/access.log"];
    let tws = ProcessWithStderr::start(folder.path(), &args);
    let done = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|name| {
            let (mut client, done) = (tws.process.client(), Arc::clone(&done));
            std::thread::spawn(move || {
                let mut sent = 0;
                while !done.load(Ordering::Acquire) {
                    client.get(&format!("/{name}-{sent}-"));
                    sent += 1;
                }
                sent
            })
        })
        .collect();
    for round in 0..ROUNDS {
        eventually!(|| fs::metadata(&log).is_ok_and(|log| log.len() > 0));
        fs::rename(&log, log.with_extension(round.to_string())).expect("rename log");
        tws.process.signal(Signal::USR1);
    }
    eventually!(|| fs::metadata(&log).is_ok_and(|log| log.len() > 0));
    done.store(true, Ordering::Release);
    let sent: Vec<usize> = clients
        .into_iter()
        .map(|client| client.join().expect("thread does not panic"))
        .collect();
    tws.end();
    let mut lines = BTreeMap::new();
    for entry in fs::read_dir(folder.path().join("etc")).expect("read directory") {
        let path = entry.expect("read directory entry").path();
        if path.display().to_string().contains("access") {
            let text = fs::read_to_string(&path).expect("read log");
            assert!(text.ends_with('\n'), "{}", path.display());
            for line in text.lines() {
                let name = line.split('/').find(|word| word.contains("- HTTP"));
                *lines
                    .entry(name.expect("name of pseudo-terminal").to_owned())
                    .or_insert(0) += 1;
            }
        }
    }
    assert_eq!(lines.len(), sent.iter().sum::<usize>());
    assert!(lines.values().all(|&count| count == 1), "{lines:?}");
}

#[test]
fn sigusr1_failing_to_reopen_keeps_old_log() {
    let folder = site_folder("");
    let log = folder.path().join("etc/access.log");
    let moved = folder.path().join("moved.log");
    let args = ["site", "-p0", "--access-log=etc/access.log"];
    let tws = ProcessWithStderr::start(folder.path(), &args);
    assert_eq!(tws.process.client().get("/first").status, 404);
    fs::rename(&log, &moved).expect("rename log");
    fs::create_dir(&log).expect("create directory");
    tws.process.signal(Signal::USR1);
    let line = tws.wait_for_line("access.log");
    assert!(line.contains("stays in use"), "{line}");
    assert_eq!(tws.process.client().get("/second").status, 404);
    eventually!(|| fs::read_to_string(&moved).is_ok_and(|log| log.contains("/second")));
    fs::remove_dir(&log).expect("remove directory");
    tws.process.signal(Signal::USR1);
    eventually!(|| log.exists());
    assert_eq!(tws.process.client().get("/third").status, 404);
    eventually!(|| fs::read_to_string(&log).is_ok_and(|log| log.contains("/third")));
    tws.end();
}

#[test]
fn sigusr1_after_folder_of_log_was_replaced_reports_reason() {
    let folder = site_folder("");
    let logs = folder.path().join("logs");
    fs::create_dir(&logs).expect("create directory");
    let args = ["site", "-p0", "--access-log=logs/access.log"];
    let tws = ProcessWithStderr::start(folder.path(), &args);
    fs::rename(&logs, folder.path().join("old")).expect("rename directory");
    tws.process.signal(Signal::USR1);
    let line = tws.wait_for_line("cannot reopen");
    assert!(line.contains("folder does not exist"), "{line}");
    fs::create_dir(&logs).expect("create directory");
    tws.process.signal(Signal::USR1);
    if tws.process.announcement.contains("Landlock)") {
        let line = tws.wait_for_line("the sandbox of the process");
        assert!(line.contains("cannot reopen"), "{line}");
    } else {
        eventually!(|| logs.join("access.log").exists());
    }
    tws.end();
}

/// A closed terminal stops the process that was started in it.
#[test]
fn sighup_after_terminal_closed_stops_server() {
    use rustix::fs::{Mode, OFlags};
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    use std::io::IsTerminal;
    let folder = site_folder("");
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)
        .expect("open pseudo-terminal");
    grantpt(&master).expect("grant pseudo-terminal");
    unlockpt(&master).expect("unlock pseudo-terminal");
    let name = ptsname(&master, Vec::new()).expect("name of pseudo-terminal");
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let slave = rustix::fs::open(name.as_c_str(), flags, Mode::empty()).expect("open terminal");
    let theirs = File::from(slave.try_clone().expect("duplicate descriptor"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_tws"));
    command
        .current_dir(folder.path())
        .args(["site", "-p0", "--listing=off", "--workers=1"])
        .stdin(slave);
    let mut process = TwsProcess::run(&mut command);
    drop(command);
    fs::write(folder.path().join("site/.tws.toml"), "index = [\"a.html\"]").expect("write file");
    process.signal(Signal::HUP);
    eventually!(|| process.client().get("/").status == 200);
    assert_eq!(process.client().get("/").text(), "a");
    drop(master);
    // A child process that another test is starting may hold a copy of the descriptor for a moment.
    eventually!(|| !theirs.is_terminal());
    process.signal(Signal::HUP);
    assert!(process.child.wait_for_exit().success());
}
