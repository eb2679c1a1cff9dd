//! Tests of the binary's sandbox, and of the user that it runs as. The sandbox's own tests are
//! beside its source.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown, symlink};
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::{Signal, geteuid};

use crate::command_line::fails;
use crate::support::{ChildProcess, Client, TwsProcess, eventually};

/// Starts `tws` and returns the lines of its announcement.
fn announced(folder: &Path, args: &[&str]) -> (ChildProcess, Client, Vec<String>) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tws"));
    command
        .current_dir(folder)
        .args(["-p0", "--state-dir=state"])
        .args(args)
        .env_remove("RUST_LOG")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = ChildProcess::start(&mut command);
    let mut lines = Vec::new();
    for line in BufReader::new(child.stdout.take().expect("stdio pipe")).lines() {
        let line = line.expect("read line");
        if line.starts_with("Ctrl-C") {
            break;
        }
        lines.push(line.trim().to_owned());
    }
    let address = lines.get(1).and_then(|line| line.strip_prefix("http://"));
    let address = address.unwrap_or_else(|| panic!("no address in the announcement: {lines:?}"));
    let address = address
        .trim_end_matches('/')
        .parse()
        .expect("valid address");
    (child, Client::connect(address), lines)
}

/// Returns the line about the sandbox.
fn sandbox(lines: &[String]) -> &str {
    let line = lines.iter().find(|line| line.starts_with("sandbox: "));
    line.expect("sandbox line")
}

/// Returns the name of each thread and the value of `key` in its /proc status.
fn threads(process: u32, key: &str) -> BTreeSet<(String, String)> {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).expect("read process threads");
    let statuses =
        tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("status")).ok());
    let values = statuses.map(|status| {
        let value = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key));
            line.expect("read line")
                .trim_matches([':', '\t', ' '])
                .to_owned()
        };
        (value("Name"), value(key))
    });
    values.collect()
}

/// Returns a folder that all users may enter, with `site/page` in it.
fn site() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("create temporary directory");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("set permissions");
    fs::create_dir(folder.path().join("site")).expect("create directory");
    fs::write(folder.path().join("site/page"), "page").expect("write file");
    folder
}

const ALL_THREADS: [&str; 5] = ["access-log", "diagnostics", "signals", "tws", "worker-0"];

/// Returns the name and value of each thread once all of `names` exist. A thread that has just
/// started has the name of its parent.
fn wait_for_threads(id: u32, key: &str, names: &[&str]) -> BTreeSet<(String, String)> {
    let mut found = BTreeSet::new();
    eventually!(|| {
        found = threads(id, key);
        let exists = |name: &&str| found.iter().any(|(thread, _)| thread == name);
        names.iter().all(exists)
    });
    found
}

#[test]
fn sandboxed_threads_have_no_new_privs() {
    let folder = site();
    let users = [
        "site",
        "--upload",
        "--listing=on",
        "--users=sqlite:users.db",
    ];
    let users = &users[..if cfg!(feature = "sqlite") { 4 } else { 3 }];
    for (args, expected) in [(users, "1"), (&["site", "--no-sandbox"], "0")] {
        let (process, mut client, _) = announced(folder.path(), args);
        // A listing runs on a helper thread.
        client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
        client.head();
        let has_users = cfg!(feature = "sqlite") && expected == "1";
        let names = ALL_THREADS
            .into_iter()
            .chain(has_users.then_some("users-writer"));
        let names: Vec<_> = names.collect();
        let found = wait_for_threads(process.id(), "NoNewPrivs", &names);
        assert!(
            found.iter().all(|(_, value)| value == expected),
            "{found:?}"
        );
        let users = found.iter().any(|(name, _)| name == "users-writer");
        assert_eq!(users, has_users, "{found:?}");
    }
}

#[test]
fn start_prints_sandbox_scope() {
    let folder = site();
    let real = folder.path().canonicalize().expect("canonicalize path");
    let real = real.display();
    let (_process, _, lines) = announced(folder.path(), &["site", "--no-sandbox"]);
    assert_eq!(sandbox(&lines), "sandbox: off (--no-sandbox)");
    let (_process, _, lines) = announced(folder.path(), &["site"]);
    if sandbox(&lines).contains("none") {
        return eprintln!("{}", sandbox(&lines));
    }
    let expected = format!("sandbox: reads beneath {real}/site, writes nowhere (Landlock");
    assert!(sandbox(&lines).starts_with(&expected), "{lines:?}");
    let args = ["site", "--symlinks=follow", "--access-log=access.log"];
    let (_process, _, lines) = announced(folder.path(), &args);
    let expected =
        format!("sandbox: reads everywhere because of --symlinks follow, writes beneath {real} (");
    assert!(sandbox(&lines).starts_with(&expected), "{lines:?}");
}

/// A process that can switch the link to the root, or to a served file, could otherwise read
/// everything.
#[test]
fn switched_root_symlink_is_confined_to_siblings() {
    let folder = site();
    let at = |name: &str| folder.path().join(name);
    for (name, text) in [
        ("releases/1", "one"),
        ("releases/2", "two"),
        ("outside", "secret"),
    ] {
        fs::create_dir_all(at(name)).expect("create directory");
        fs::write(at(name).join("page"), text).expect("write file");
    }
    let switch = |link: &str, target: &str| {
        symlink(target, at("next")).expect("create symlink");
        fs::rename(at("next"), at(link)).expect("switch symlink");
    };
    switch("current", "releases/1");
    let (process, mut client, lines) = announced(folder.path(), &["current", "--access-log=off"]);
    let mut text = || client.get("/page").text();
    switch("current", "releases/2");
    eventually!(|| text() == "two");
    switch("current", "outside");
    if sandbox(&lines).contains("Landlock)") {
        let mut process = process;
        let stderr = process.stderr.take().expect("stdio pipe");
        let warning = std::thread::spawn(|| BufReader::new(stderr).lines().next());
        eventually!(|| {
            assert_eq!(text(), "two");
            warning.is_finished()
        });
        let warning = warning
            .join()
            .expect("thread does not panic")
            .expect("read line");
        let warning = warning.expect("read line");
        assert!(
            warning.contains("current: ") && warning.contains("symbolic link to outside"),
            "{warning}"
        );
        switch("current", "releases/1");
        eventually!(|| text() == "one");
    } else {
        eventually!(|| text() == "secret");
    }

    switch("file", "releases/1/page");
    for (args, escapes) in [(&["file"][..], false), (&["file", "--no-sandbox"], true)] {
        switch("file", "releases/1/page");
        let (_process, mut client, lines) = announced(folder.path(), args);
        assert_eq!(client.get("/").text(), "one");
        switch("file", "/etc/passwd");
        let escapes = escapes || !sandbox(&lines).contains("Landlock)");
        let expected = if escapes { 200 } else { 403 };
        let passwd = fs::read_to_string("/etc/passwd").expect("read file");
        eventually!(|| {
            let response = client.get("/");
            response.status == expected && (response.text() == passwd) == escapes
        });
    }
}

/// As build tools and deployments do: the folder is removed and created, another one is moved there,
/// a link takes its place.
#[test]
fn replaced_root_is_served() {
    let folder = site();
    let at = |name: &str| folder.path().join(name);
    let write = |name: &str, text: &str| {
        fs::create_dir_all(at(name)).expect("create directory");
        fs::write(at(name).join("page"), text).expect("write file");
    };
    let (_process, mut client, _) = announced(folder.path(), &["site", "--access-log=off"]);
    let mut page = || client.get("/page");
    assert_eq!(page().text(), "page");
    fs::remove_dir_all(at("site")).expect("remove directory");
    eventually!(|| page().status == 404);
    write("site", "new");
    eventually!(|| page().text() == "new");
    write("moved", "moved");
    fs::remove_dir_all(at("site")).expect("remove directory");
    fs::rename(at("moved"), at("site")).expect("move directory");
    eventually!(|| page().text() == "moved");
    write("other", "linked");
    fs::rename(at("site"), at("old")).expect("move directory");
    symlink("other", at("site")).expect("create symlink");
    eventually!(|| page().text() == "linked");
}

/// The working directory of the process is the folder that a build removes and creates again.
#[test]
fn replaced_working_directory_is_served() {
    let folder = site();
    let at = folder.path().join("site");
    let (_process, mut client, _) = announced(&at, &["--access-log=off"]);
    let mut page = || client.get("/page");
    assert_eq!(page().text(), "page");
    fs::remove_dir_all(&at).expect("remove directory");
    fs::create_dir(&at).expect("create directory");
    fs::write(at.join("page"), "new").expect("write file");
    eventually!(|| page().text() == "new");
}

/// Nothing is known about the files of a folder that cannot be opened, so they are not reported as
/// missing. The sandbox does not include the siblings of a folder in a folder that all programs share.
#[test]
fn new_root_outside_of_sandbox_is_503() {
    let folder = site();
    let root = tempfile::tempdir().expect("create temporary directory");
    let root = root.path();
    let args = [root.to_str().expect("UTF-8"), "--access-log=off"];
    let (_process, mut client, lines) = announced(folder.path(), &args);
    let is_confined = sandbox(&lines).contains("Landlock)")
        && !lines.iter().any(|line| line.contains("replaced root"));
    assert_eq!(client.get("/none").status, 404);
    fs::remove_dir_all(root).expect("remove directory");
    fs::create_dir(root).expect("create directory");
    if is_confined {
        assert!(sandbox(&lines).contains("restart"), "{lines:?}");
        eventually!(|| client.get("/none").status == 503);
    } else {
        fs::write(root.join("page"), "new").expect("write file");
        eventually!(|| client.get("/page").status == 200);
    }
}

#[test]
fn unknown_user_or_missing_root_is_start_error() {
    let folder = site();
    let at = folder.path();
    let error = fails(at, &["site", "-p0", "--user", "no such user"], 1);
    assert!(error.contains("no such user"), "{error}");
    let error = fails(at, &["site", "-p0", "--user", "4000000001"], 1);
    assert!(error.contains("--group"), "{error}");
    if !geteuid().is_root() {
        let error = fails(at, &["site", "-p0", "--user=4000000001", "--group=1"], 1);
        assert!(error.contains("root"), "{error}");
    }
}

#[test]
fn uploads_to_root_without_write_permission_are_start_error() {
    if !geteuid().is_root() {
        return eprintln!("only root can change to another user");
    }
    let folder = site();
    let user = [
        "site",
        "-p0",
        "--upload",
        "--user=4000000001",
        "--group=4000000001",
    ];
    let error = fails(folder.path(), &user, 1);
    assert!(error.contains("store uploads in site"), "{error}");
    let (_process, mut client, _) = announced(folder.path(), &["site", "--upload"]);
    assert_eq!(client.get("/page").status, 200);
}

/// Root must not append to, or create, a file that another user has chosen (CVE-2016-1247).
#[test]
fn access_log_link_of_another_user_is_not_followed_by_root() {
    if !geteuid().is_root() {
        return eprintln!("only root can change to another user");
    }
    const USER: u32 = 4_000_000_001;
    let folder = site();
    let at = |name: &str| folder.path().join(name);
    fs::create_dir(at("logs")).expect("create directory");
    fs::write(at("secret"), "secret").expect("write file");
    fs::set_permissions(at("secret"), fs::Permissions::from_mode(0o600)).expect("change mode");
    symlink("..", at("logs/up")).expect("create symlink");
    for (name, target) in [
        ("logs/a", "../secret"),
        ("logs/b", "../created"),
        ("logs/up", ".."),
    ] {
        let _ = symlink(target, at(name));
        lchown(at(name), Some(USER), Some(USER)).expect("change owner");
    }
    lchown(at("logs"), Some(USER), Some(USER)).expect("change owner");
    for log in ["logs/a", "logs/b", "logs/up/created"] {
        let log = format!("--access-log={log}");
        let user = ["--user=4000000001", "--group=4000000001"];
        let group = ["--group=4000000001"];
        for flags in [&user[..], &group] {
            fails(folder.path(), &[&["site", "-p0", &log], flags].concat(), 1);
        }
    }
    for log in ["logs/a", "logs/b"] {
        fails(
            folder.path(),
            &["site", "-p0", &format!("--access-log={log}")],
            1,
        );
    }
    assert_eq!(fs::read(at("secret")).expect("read file"), b"secret");
    assert!(!at("created").exists());
    let args = [
        "site",
        "--user=4000000001",
        "--group=4000000001",
        "--access-log=logs/c",
    ];
    let (_process, mut client, _) = announced(folder.path(), &args);
    assert_eq!(client.get("/page").status, 200);
    assert_eq!(fs::metadata(at("logs/c")).expect("a log").uid(), USER);
}

#[test]
fn user_flag_drops_privileges_and_files_belong_to_user() {
    if !geteuid().is_root() {
        return eprintln!("only root can change to another user");
    }
    let folder = site();
    let at = |name: &str| folder.path().join(name);
    let (_process, _, lines) = announced(folder.path(), &["site"]);
    assert!(
        lines.iter().any(|line| line.contains("--user")),
        "{lines:?}"
    );
    let args = [
        "site",
        "--user=4000000001",
        "--group=4000000002",
        "--access-log=access.log",
        "--bind=127.0.0.1",
        "--bind=unix:tws.sock",
        "--admin=unix:admin.sock",
        "--users=sqlite:users.db",
    ];
    let users = cfg!(feature = "sqlite");
    let args = &args[..if users { 8 } else { 7 }];
    let (process, mut client, lines) = announced(folder.path(), args);
    assert!(
        !lines.iter().any(|line| line.contains("--user")),
        "{lines:?}"
    );
    assert_eq!(client.get("/page").text(), "page");
    let id = process.id();
    let same = |key: &str, expected: &str| {
        let found = wait_for_threads(id, key, &ALL_THREADS);
        assert!(
            found.iter().all(|(_, value)| value == expected),
            "{key}: {found:?}"
        );
    };
    // Real, effective, saved and file system IDs.
    same("Uid", &["4000000001"; 4].join("\t"));
    same("Gid", &["4000000002"; 4].join("\t"));
    same("Groups", "");
    same("CapEff", "0000000000000000");
    let mut written = vec!["access.log", "tws.sock", "admin.sock"];
    if users {
        let post = "POST /createUser HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\n\
                    Content-Length: 14\r\n\r\n{\"Nombre\":\"A\"}";
        client.send(post);
        assert_eq!(client.response().status, 201);
        written.extend(["state", "state/users.db", "state/users.db-wal"]);
    }
    for name in written {
        let metadata = at(name).metadata().expect("read metadata");
        let owner = (metadata.uid(), metadata.gid());
        assert_eq!(owner, (4_000_000_001, 4_000_000_002), "{name}");
    }
    eventually!(|| !fs::read(at("access.log")).expect("read log").is_empty());
}

/// A FIFO, a device and a closed descriptor are usable logs inside the sandbox, too.
#[test]
fn access_log_to_device_or_stdout_starts() {
    let folder = site();
    for log in ["/dev/null", "/dev/stdout", "-"] {
        let site = TwsProcess::start(folder.path(), &["site", "--access-log", log]);
        assert_eq!(site.client().get("/page").status, 200, "{log}");
        site.signal(Signal::TERM);
    }
}
