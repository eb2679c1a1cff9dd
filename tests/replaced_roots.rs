//! Tests of a root directly in the home folder that is removed and created again, or replaced by another
//! one, while the sandbox does not allow the home folder to be read.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, SystemTime};

use rustix::process::{Pid, Signal, geteuid, kill_process};
use tempfile::TempDir;

use crate::support::upgradable_process::UpgradableProcess;
use crate::support::{Client, TwsProcess, eventually};

/// A home folder with `dist`, which is served, and with files that are not.
struct Home(TempDir);

impl Home {
    fn new() -> Self {
        let home = tempfile::tempdir().expect("create temporary directory");
        let mode = fs::Permissions::from_mode(0o755);
        fs::set_permissions(home.path(), mode).expect("set permissions");
        let home = Self(home);
        fs::write(home.at("secret"), "secret").expect("write file");
        home.build("dist", "one");
        home
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Creates a folder as a build does. `/page` has the text.
    fn build(&self, name: &str, text: &str) {
        let at = |file: &str| self.at(name).join(file);
        fs::create_dir_all(at("sub/deep")).expect("create directory");
        fs::create_dir(at("list")).expect("create directory");
        let files = [
            ("page", text),
            ("index.html", "index"),
            ("sub/deep/file", "deep"),
            ("list/a", "a"),
            ("list/b", "b"),
            ("app.js", "script"),
        ];
        for (file, content) in files {
            fs::write(at(file), content).expect("write file");
        }
        fs::write(at("app.js.gz"), b"\x1f\x8b\x08 sidecar").expect("write file");
        // One that was just written is not used yet.
        for file in ["app.js", "app.js.gz"] {
            let file = fs::File::options()
                .write(true)
                .open(at(file))
                .expect("open file");
            let hour_ago = SystemTime::now() - Duration::from_secs(3600);
            file.set_modified(hour_ago).expect("set modification time");
        }
        symlink("page", at("inside")).expect("create symlink");
        symlink("../secret", at("outside")).expect("create symlink");
        symlink("../..", at("list/up")).expect("create symlink");
    }

    fn remove(&self, name: &str) {
        fs::remove_dir_all(self.at(name)).expect("remove directory");
    }

    fn rename(&self, from: &str, to: &str) {
        fs::rename(self.at(from), self.at(to)).expect("move directory");
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command
            .current_dir(self.0.path())
            .env("HOME", self.0.path())
            .args(["dist", "--port=0", "--state-dir=state", "--listing=on"]);
        command
    }

    /// Starts the program. `None` if the kernel has no sandbox.
    fn start(&self, args: &[&str]) -> Option<TwsProcess> {
        let mut command = self.command(Path::new(env!("CARGO_BIN_EXE_tws")));
        let process = TwsProcess::run(command.args(args));
        let text = &process.announcement;
        if !text.contains("(Landlock") {
            eprintln!("not tested: {text}");
            return None;
        }
        assert!(text.contains("another process reads dist"), "{text}");
        Some(process)
    }

    /// Returns the process that opens replaced roots.
    fn opener(&self) -> Option<Pid> {
        let folder = self.0.path().to_str().expect("UTF-8");
        let is_opener = |id: &i32| {
            let command = fs::read_to_string(format!("/proc/{id}/cmdline")).unwrap_or_default();
            command.contains("--internal-open-roots") && command.contains(folder)
        };
        let processes = fs::read_dir("/proc").expect("read processes");
        let ids = processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        Pid::from_raw({ ids }.find(is_opener)?)
    }
}

/// Whether the kernel has a sandbox. Where it has, a process must open the root.
fn has_sandbox() -> bool {
    Home::new().start(&[]).is_some()
}

fn status_of(process: Pid, key: &str) -> String {
    let path = format!("/proc/{}/status", process.as_raw_nonzero());
    let status = fs::read_to_string(path).expect("read process status");
    let value = status.lines().find_map(|line| line.strip_prefix(key));
    value.expect("line of the status").trim().to_owned()
}

/// Requests everything that [`Home::build`] has created.
fn check_all(client: &mut Client, text: &str) {
    assert_eq!(client.get("/page").text(), text);
    assert_eq!(client.get("/").text(), "index");
    assert_eq!(client.get("/inside").text(), text);
    assert_eq!(client.get("/sub/deep/file").text(), "deep");
    assert_eq!(client.get("/sub").status, 301);
    let range = client.request("GET", "/page", "Range: bytes=1-\r\n");
    assert_eq!((range.status, range.text()), (206, text[1..].to_owned()));
    let script = client.request("GET", "/app.js", "Accept-Encoding: gzip\r\n");
    assert_eq!(script.field("content-encoding"), Some("gzip"));
    assert!(script.content.starts_with(b"\x1f\x8b"));
    let tag = client.get("/page").field("etag").expect("a tag").to_owned();
    let fields = format!("If-None-Match: {tag}\r\n");
    assert_eq!(client.request("GET", "/page", &fields).status, 304);
    client.send("GET /list/?json HTTP/1.1\r\nHost: test\r\n\r\n");
    client.head();
    let listing = String::from_utf8(client.chunks()).expect("UTF-8");
    assert!(
        listing.contains("\"a\"") && listing.contains("\"b\""),
        "{listing}"
    );
    assert!(!listing.contains("up"), "{listing}");
    for path in ["/outside", "/list/up/", "/list/up/secret", "/none"] {
        assert_eq!(client.get(path).status, 404, "{path}");
    }
}

#[test]
fn replaced_root_in_home_is_served_completely() {
    let home = Home::new();
    let Some(process) = home.start(&["--access-log=off"]) else {
        return;
    };
    let mut client = process.client();
    check_all(&mut client, "one");
    home.remove("dist");
    eventually!(|| client.get("/page").status == 404);
    home.build("dist", "two");
    eventually!(|| client.get("/page").text() == "two");
    check_all(&mut client, "two");
    // Another one is moved there.
    home.build("next", "three");
    home.rename("dist", "old");
    home.rename("next", "dist");
    eventually!(|| client.get("/page").text() == "three");
    check_all(&mut client, "three");
    // A file in it changes.
    fs::write(home.at("dist/page"), "four").expect("write file");
    eventually!(|| client.get("/page").text() == "four");
    // Both sandboxes are in force, and the process knows no variables.
    let opener = home.opener().expect("a process");
    assert_eq!(status_of(opener, "NoNewPrivs:"), "1");
    let environment = format!("/proc/{}/environ", opener.as_raw_nonzero());
    assert_eq!(fs::read(environment).expect("read environment"), b"");
}

#[test]
#[cfg(feature = "archive")]
fn replaced_root_in_home_is_archived() {
    let home = Home::new();
    let Some(process) = home.start(&["--access-log=off"]) else {
        return;
    };
    let mut client = process.client();
    home.remove("dist");
    home.build("dist", "two");
    eventually!(|| client.get("/page").text() == "two");
    client.send("GET /?download=tar HTTP/1.1\r\nHost: test\r\n\r\n");
    client.head();
    let archive = client.chunks();
    let mut archive = tar::Archive::new(&archive[..]);
    let entries = archive.entries().expect("tar archive");
    let mut names: Vec<_> = entries
        .map(|entry| {
            entry
                .expect("tar entry")
                .path()
                .expect("a path")
                .display()
                .to_string()
        })
        .filter(|name| !name.ends_with('/'))
        .collect();
    names.sort();
    let expected = [
        "dist/app.js",
        "dist/app.js.gz",
        "dist/index.html",
        "dist/inside",
        "dist/list/a",
        "dist/list/b",
        "dist/page",
        "dist/sub/deep/file",
    ];
    assert_eq!(names, expected);
}

/// The link may lead to anything that the process beside the server can read.
#[test]
fn symlink_in_place_of_root_in_home_is_not_followed() {
    if !has_sandbox() {
        return;
    }
    let home = Home::new();
    fs::create_dir(home.at("private")).expect("create directory");
    fs::write(home.at("private/key"), "key").expect("write file");
    let command = home.command(Path::new(env!("CARGO_BIN_EXE_tws")));
    let mut process = UpgradableProcess::start(command);
    assert!(home.opener().is_some());
    let mut client = Client::connect(process.address);
    home.rename("dist", "old");
    symlink("private", home.at("dist")).expect("create symlink");
    let warning = thread::spawn(move || {
        process.line_with("symbolic link to private");
        process
    });
    eventually!(|| {
        assert_eq!(client.get("/key").status, 404);
        assert_eq!(client.get("/page").text(), "one");
        warning.is_finished()
    });
    let _process = warning.join().expect("thread does not panic");
    fs::remove_file(home.at("dist")).expect("remove symlink");
    home.build("dist", "two");
    eventually!(|| client.get("/page").text() == "two");
}

/// Of the whole process group, as in a terminal, or of all processes of a service.
#[test]
fn signals_for_server_do_not_end_opener_and_its_death_does() {
    let home = Home::new();
    let Some(mut process) = home.start(&["--access-log=off"]) else {
        return;
    };
    let opener = home.opener().expect("a process");
    for signal in [
        Signal::INT,
        Signal::TERM,
        Signal::HUP,
        Signal::USR1,
        Signal::USR2,
    ] {
        kill_process(opener, signal).expect("signal process");
    }
    home.remove("dist");
    home.build("dist", "two");
    let mut client = process.client();
    eventually!(|| client.get("/page").text() == "two");
    process.child.kill().expect("kill process");
    process.child.wait_for_exit();
    eventually!(|| home.opener().is_none());
}

#[test]
fn without_opener_replaced_root_is_503_and_no_zombie_remains() {
    let home = Home::new();
    let Some(process) = home.start(&["--access-log=off"]) else {
        return;
    };
    let opener = home.opener().expect("a process");
    kill_process(opener, Signal::KILL).expect("kill process");
    // A zombie would have an entry.
    let entry = PathBuf::from(format!("/proc/{}", opener.as_raw_nonzero()));
    eventually!(|| !entry.exists());
    let mut client = process.client();
    assert_eq!(client.get("/page").text(), "one");
    home.remove("dist");
    home.build("dist", "two");
    eventually!(|| client.get("/page").status == 503);
}

#[test]
fn upgrades_and_reloads_keep_serving_replaced_root() {
    if !has_sandbox() {
        return;
    }
    let home = Home::new();
    let rule = |value: &str| {
        let text = format!("[[header]]\npath = \"/*\"\nX-Build = \"{value}\"\n");
        fs::write(home.at("dist/.tws.toml"), text).expect("write file");
    };
    rule("one");
    let command = home.command(Path::new(env!("CARGO_BIN_EXE_tws")));
    let mut process = UpgradableProcess::start(command);
    let opener = home.opener().expect("a process");
    let is_served = |process: &UpgradableProcess, text: &str, build: &str| {
        let response = Client::connect(process.address).get("/page");
        response.text() == text && response.field("x-build") == Some(build)
    };
    assert!(is_served(&process, "one", "one"));
    for generation in ["two", "three"] {
        home.remove("dist");
        home.build("dist", generation);
        rule(generation);
        let mut client = Client::connect(process.address);
        eventually!(|| client.get("/page").text() == generation);
        drop(client);
        if generation == "two" {
            process.signal(Signal::HUP);
            eventually!(|| is_served(&process, "two", "two"));
        }
        process.upgrade();
        // The previous process may still accept connections.
        eventually!(|| is_served(&process, generation, generation));
    }
    // The first process has ended, and its opener serves the others.
    assert_eq!(process.child.wait_for_exit().code(), Some(0));
    assert_eq!(home.opener(), Some(opener));
    home.remove("dist");
    home.build("dist", "four");
    let mut client = Client::connect(process.address);
    eventually!(|| client.get("/page").text() == "four");
    process.signal(Signal::KILL);
    eventually!(|| home.opener().is_none());
}

#[test]
fn opener_has_user_of_server() {
    if !geteuid().is_root() {
        return eprintln!("only root can change to another user");
    }
    let home = Home::new();
    let args = [
        "--access-log=off",
        "--user=4000000001",
        "--group=4000000002",
    ];
    let Some(process) = home.start(&args) else {
        return;
    };
    let opener = home.opener().expect("a process");
    assert_eq!(status_of(opener, "Uid:"), ["4000000001"; 4].join("\t"));
    assert_eq!(status_of(opener, "Gid:"), ["4000000002"; 4].join("\t"));
    assert_eq!(status_of(opener, "Groups:"), "");
    home.remove("dist");
    home.build("dist", "two");
    let mode = fs::Permissions::from_mode(0o600);
    fs::set_permissions(home.at("dist/app.js"), mode).expect("set permissions");
    let mut client = process.client();
    eventually!(|| client.get("/page").text() == "two");
    assert_eq!(client.get("/app.js").status, 403);
}

#[test]
fn opener_is_started_only_where_it_is_needed() {
    let home = Home::new();
    for args in [
        &["--no-sandbox"][..],
        &["--symlinks=follow"],
        &["--directory=dist/sub"],
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tws"));
        command
            .current_dir(home.0.path())
            .env("HOME", home.0.path())
            .args(["--port=0", "--state-dir=state", "--access-log=off"])
            .args(args);
        if !args[0].contains("directory") {
            command.arg("dist");
        }
        let process = TwsProcess::run(&mut command);
        assert_eq!(process.client().get("/none").status, 404);
        assert_eq!(home.opener(), None, "{args:?}");
    }
}

#[test]
fn argument_of_opener_is_refused_from_command_line() {
    let home = Home::new();
    crate::command_line::fails(home.0.path(), &["--internal-open-roots", "", "", "/tmp"], 2);
}

/// Each root has its own former ones, of which the root opener opens the later ones.
#[test]
fn replaced_roots_of_hosts_keep_their_previous_files() {
    if !has_sandbox() {
        return;
    }
    let home = Home::new();
    home.build("other", "one");
    let config = "directory = 'dist'\naccess-log = 'off'\nkeep-previous = '10m'\n\
                  [[host]]\nnames = ['other.test']\nroot = '../other'\nkeep-previous = '10m'\n";
    fs::create_dir(home.at("config")).expect("create directory");
    let config_file = home.at("config/tws.toml");
    fs::write(&config_file, config.replace("'dist'", "'../dist'")).expect("write file");
    let mut command = Command::new(env!("CARGO_BIN_EXE_tws"));
    command
        .current_dir(home.0.path())
        .env("HOME", home.0.path())
        .args(["--port=0", "--state-dir=state", "--config"])
        .arg(&config_file);
    let process = TwsProcess::run(&mut command);
    assert!(home.opener().is_some());
    let mut client = process.client();
    for (root, host) in [("dist", "test"), ("other", "other.test")] {
        let mut text = |path: &str| {
            client.send(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
            let response = client.response();
            (response.status == 200).then(|| response.text())
        };
        for build in ["two", "three", "four"] {
            home.build("next", build);
            fs::write(home.at("next").join(format!("{build}.js")), build).expect("write file");
            home.rename(root, &format!("{root}-before-{build}"));
            home.rename("next", root);
            eventually!(|| text("/page").as_deref() == Some(build));
        }
        for build in ["two", "three", "four"] {
            assert_eq!(text(&format!("/{build}.js")).as_deref(), Some(build));
        }
        assert_eq!(text("/five.js"), None);
    }
}
