//! Tests of what helps to share a folder for a while: passwords on the command line, paths that cannot be
//! guessed, the end after downloads or a time, the next free port, a prefix of all paths.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::process::{Command, Stdio};

use rustix::process::Signal;
use tempfile::TempDir;

use crate::support::line_reader::LineReader;
use crate::support::upgradable_process::UpgradableProcess;
use crate::support::{Client, TwsProcess};

fn folder() -> TempDir {
    let folder = tempfile::tempdir().expect("create temporary directory");
    fs::create_dir(folder.path().join("sub")).expect("create directory");
    fs::write(folder.path().join("a.txt"), "a").expect("write file");
    fs::write(folder.path().join("sub/b.txt"), "b").expect("write file");
    folder
}

fn get(client: &mut Client, path: &str, fields: &str) -> u16 {
    client.send(format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n"
    ));
    let response = client.head();
    match response.length() {
        Some(len) => drop(client.read(len as usize)),
        None => drop(client.chunks()),
    }
    response.status
}

/// Returns the path in the first URL of the announcement.
fn announced_path(site: &TwsProcess) -> String {
    let (_, url) = site.announcement.split_once("://").expect("a URL");
    let line = url.lines().next().expect("a line");
    line[line.find('/').expect("a path")..]
        .trim_end()
        .to_owned()
}

/// `ana:secret` and `ben:a:b` (RFC 7617 §2).
#[cfg(feature = "auth")]
const ANA: &str = "Authorization: Basic YW5hOnNlY3JldA==\r\n";
#[cfg(feature = "auth")]
const BEN: &str = "Authorization: Basic YmVuOmE6Yg==\r\n";

#[cfg(feature = "auth")]
#[test]
fn users_on_the_command_line_or_in_the_variable_need_their_password() {
    let folder = folder();
    let start = |command: &mut Command| {
        command
            .current_dir(folder.path())
            .args(["--port=0", "--access-log=off", "--listing=on", "."])
            .stderr(Stdio::piped());
        let mut site = TwsProcess::run(command);
        let stderr = LineReader::new(site.child.stderr.take().expect("stdio pipe"));
        (site, stderr)
    };
    let mut typed = Command::new(env!("CARGO_BIN_EXE_tws"));
    typed.args(["--auth", "ana:secret", "--auth=ben:a:b"]);
    let (site, mut stderr) = start(&mut typed);
    let warning = stderr.read_until("--auth").pop().expect("a line");
    assert!(
        warning.contains("TWS_AUTH") && !warning.contains("secret"),
        "{warning}"
    );
    let mut client = site.client();
    for (fields, status) in [("", 401), (ANA, 200), (BEN, 200)] {
        assert_eq!(get(&mut client, "/a.txt", fields), status, "{fields}");
    }
    let mut variable = Command::new(env!("CARGO_BIN_EXE_tws"));
    variable
        .env("TWS_AUTH", "ana:secret")
        .args(["--upload", "-b", "0.0.0.0"]);
    let (site, _stderr) = start(&mut variable);
    let mut client = Client::connect((Ipv4Addr::LOCALHOST, site.address.port()).into());
    for (fields, status) in [("", 401), (BEN, 401), (ANA, 200)] {
        assert_eq!(get(&mut client, "/a.txt", fields), status, "{fields}");
    }
}

#[cfg(feature = "auth")]
#[test]
fn wrong_users_are_errors_that_name_flag_or_variable() {
    let folder = folder();
    let too_long = format!("ana:s3cret{}", "x".repeat(72));
    let control = "a\u{7}na:s3cret";
    for value in [&too_long[..], control, "s3cret", "ana:secret\nben:"] {
        let run = |command: &mut Command| {
            let output = command.current_dir(folder.path()).output();
            let output = output.expect("run tws");
            assert_eq!(output.status.code(), Some(2), "{value:?}");
            String::from_utf8(output.stderr).expect("UTF-8")
        };
        let error = run(Command::new(env!("CARGO_BIN_EXE_tws")).env("TWS_AUTH", value));
        assert!(
            error.contains("TWS_AUTH: ") && !error.contains("--auth:"),
            "{error}"
        );
        assert!(!error.contains("s3cret"), "{error}");
        let flag = format!("--auth={}", value.lines().last().expect("a line"));
        let error = run(Command::new(env!("CARGO_BIN_EXE_tws")).arg(flag));
        assert!(
            error.contains("--auth: ") && !error.contains("TWS_AUTH: "),
            "{error}"
        );
        assert!(!error.contains("s3cret"), "{error}");
    }
}

#[test]
fn wrong_values_are_usage_errors_that_repeat_no_password() {
    let folder = folder();
    for (args, subject) in [
        (&["--auth=s3cret"][..], "--auth"),
        (&["--auth=:s3cret"], "--auth"),
        (&["--auth=s3cret:"], "--auth"),
        (&["--base=docs"], "--base"),
        (&["--base=/../s3cret-not/"], "--base"),
        (&["--exit-after=soon"], "--exit-after"),
        (&["--exit-after=0"], "--exit-after"),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_tws"))
            .current_dir(folder.path())
            .args(args)
            .output()
            .expect("run tws");
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(error.contains(subject), "{error}");
        assert_eq!(error.lines().count(), 1, "{error}");
        if subject == "--auth" {
            assert!(!error.contains("s3cret"), "{error}");
        }
    }
}

#[test]
fn site_is_served_below_its_base_only() {
    let folder = folder();
    let args = [
        "--base=/docs/x",
        "--upload",
        "--manage",
        "--access-log=off",
        "--listing=on",
        ".",
    ];
    let site = TwsProcess::start(folder.path(), &args);
    assert_eq!(announced_path(&site), "/docs/x/");
    let mut client = site.client();
    for (path, status) in [
        ("/docs/x/", 200),
        ("/docs/x/a.txt", 200),
        ("/docs/x/sub/?zip", 200),
        ("/docs/x", 301),
        ("/docs/x/sub", 301),
        ("/", 404),
        ("/a.txt", 404),
        ("/docs/", 404),
        ("/docs/xa.txt", 404),
        ("/docs/x/../a.txt", 404),
    ] {
        assert_eq!(get(&mut client, path, ""), status, "{path}");
    }
    let mut request = |method: &str, path: &str, fields: &str| {
        client.send(format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n{fields}\r\n"
        ));
        let response = client.response();
        let location = response.field("Location").unwrap_or_default().to_owned();
        (response.status, location)
    };
    for (method, path, fields, status, location) in [
        ("PUT", "/docs/x/new.txt", "", 201, "/docs/x/new.txt"),
        ("MKCOL", "/docs/x/new/", "", 201, "/docs/x/new/"),
        (
            "MOVE",
            "/docs/x/new.txt",
            "Destination: /docs/x/new/a\r\n",
            201,
            "/docs/x/new/a",
        ),
        ("MOVE", "/docs/x/new/a", "Destination: /new/b\r\n", 400, ""),
        ("DELETE", "/docs/x/new/a", "", 204, ""),
    ] {
        assert_eq!(
            request(method, path, fields),
            (status, location.to_owned()),
            "{path}"
        );
    }
}

#[test]
fn error_pages_lead_to_the_index_below_the_base_and_do_not_reveal_it() {
    let folder = folder();
    fs::write(folder.path().join("sub/README.md"), "[x](/a.txt)").expect("write file");
    let rules = "[[access]]\npath = \"/sub/b.txt\"\ndeny = [\"all\"]\n";
    fs::write(folder.path().join("rules"), rules).expect("write file");
    let args = ["--config=rules", "--access-log=off", "--listing=on", "."];
    let errors = |site: &TwsProcess, base: &str, page: &str| {
        for (method, path, status) in [
            ("GET", "none", 404),
            ("GET", "none", 404),
            ("GET", "sub/b.txt", 403),
            ("PUT", "a.txt", 405),
            ("BREW", "a.txt", 501),
        ] {
            for accept in ["text/html", "text/plain"] {
                let fields = format!("Accept: {accept}\r\n");
                let path = format!("{base}{path}");
                let response = site.client().request(method, &path, &fields);
                assert_eq!(response.status, status, "{method} {path}");
                let text = response.text();
                // A reason in plain text has no hint.
                if accept == "text/html" || text.contains("Hint") {
                    assert!(text.contains(page), "{text}");
                }
            }
        }
    };
    let site = TwsProcess::start(folder.path(), &[&["--base=/docs/x"], &args[..]].concat());
    errors(&site, "/docs/x/", "/docs/x/");
    let mut client = site.client();
    let html = "Accept: text/html\r\n";
    for path in ["/", "/docs/", "/none"] {
        let response = client.request("GET", path, html);
        assert_eq!(response.status, 404, "{path}");
        assert!(!response.text().contains("Hint"), "{path}");
    }
    client.send(format!(
        "GET /docs/x/sub/ HTTP/1.1\r\nHost: localhost\r\n{html}\r\n"
    ));
    client.head();
    let listing = String::from_utf8(client.chunks()).expect("a listing is UTF-8");
    assert!(listing.contains("<a href=\"../a.txt\">x</a>"), "{listing}");

    let site = TwsProcess::start(folder.path(), &[&["--random-path"], &args[..]].concat());
    let base = announced_path(&site);
    errors(&site, &base, &base);
    for (method, path) in [("GET", "/"), ("GET", "/x/y"), ("PUT", "/"), ("GET", "//")] {
        for fields in ["", html, "Accept: application/json\r\n"] {
            let response = site.client().request(method, path, fields);
            let all = response.head.clone() + &response.text();
            let secret = base.trim_matches('/');
            assert!(response.status == 404 && !all.contains(secret), "{all}");
        }
    }
}

#[test]
fn random_path_is_announced_and_survives_reload_and_upgrade() {
    let folder = folder();
    let args = [
        "--random-path",
        "--base=/s",
        "--access-log=off",
        "--listing=on",
        ".",
    ];
    let paths: Vec<String> = (0..2)
        .map(|_| {
            let site = TwsProcess::start(folder.path(), &args);
            let path = announced_path(&site);
            assert!(path.starts_with("/s/") && path.len() == 20, "{path}");
            let mut client = site.client();
            assert_eq!(get(&mut client, &format!("{path}a.txt"), ""), 200);
            for wrong in ["/", "/a.txt", "/s/", "/s/a.txt", &path.to_uppercase()] {
                assert_eq!(get(&mut client, wrong, ""), 404, "{wrong}");
            }
            path
        })
        .collect();
    assert_ne!(paths[0], paths[1]);

    let mut command = Command::new(env!("CARGO_BIN_EXE_tws"));
    command
        .current_dir(folder.path())
        .args(["--port=0", "-v", "--access-log=log"])
        .args(&args[..2])
        .args(["--listing=on", "."])
        .env_remove("RUST_LOG")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    // The path is in the banner, which this helper does not keep: it is the one of the first request.
    let mut upgradable = UpgradableProcess::start({
        command.env("TWS_UPGRADE_PATH", "abcdefghijkmnpqr");
        command
    });
    let path = "/s/abcdefghijkmnpqr/a.txt";
    assert_eq!(get(&mut Client::connect(upgradable.address), path, ""), 200);
    upgradable.upgrade();
    assert_eq!(get(&mut Client::connect(upgradable.address), path, ""), 200);
}

#[test]
fn server_ends_after_downloads_or_a_time() {
    let folder = folder();
    let args = [
        "--exit-after=2",
        "--exit-after=1d",
        "--listing=on",
        "--access-log=off",
        ".",
    ];
    let mut site = TwsProcess::start(folder.path(), &args);
    // What a browser requests for a page, on the same machine and elsewhere.
    let image = "Sec-Fetch-Dest: image\r\nAccept: */*\r\n";
    let plain = "Accept: image/avif,image/webp,*/*;q=0.8\r\n";
    let page = "Sec-Fetch-Dest: document\r\nAccept: text/html,image/webp,*/*;q=0.8\r\n";
    for (path, fields, status) in [
        ("/", "", 200),
        ("/none", "", 404),
        ("/a.txt", image, 200),
        ("/a.txt", plain, 200),
        ("/a.txt", page, 200),
        ("/", "", 200),
        ("/sub/?download=tar", "", 200),
    ] {
        // A server that ends accepts no new connection.
        assert_eq!(get(&mut site.client(), path, fields), status, "{path}");
    }
    assert!(site.child.wait_for_exit().success());

    let args = ["--exit-after", "1s", "--access-log=off", "."];
    let mut site = TwsProcess::start(folder.path(), &args);
    assert!(site.child.wait_for_exit().success());
}

#[test]
fn next_port_is_used_if_the_default_one_is_in_use() {
    let folder = folder();
    // An address of this machine that no other test uses.
    let [_, _, high, low] = std::process::id().to_be_bytes();
    let address = Ipv4Addr::new(127, 77, high, low.clamp(1, 254));
    let first = TcpListener::bind((address, 8000));
    let bind = format!("--bind={address}");
    let mut command = Command::new(env!("CARGO_BIN_EXE_tws"));
    command
        .current_dir(folder.path())
        .args([&bind, "--access-log=off", "."])
        .stderr(Stdio::piped());
    let mut site = TwsProcess::run(&mut command);
    assert_eq!(site.address.ip(), address);
    assert!(
        (8001..8051).contains(&site.address.port()),
        "{}",
        site.address
    );
    let mut stderr = LineReader::new(site.child.stderr.take().expect("stdio pipe"));
    stderr.read_until("port 8000 is in use");
    assert_eq!(
        get(
            &mut site.client(),
            "/a.txt",
            &format!("X-Y: {}\r\n", first.is_ok())
        ),
        200
    );

    // A port that is asked for is not replaced.
    let port = format!("--port={}", site.address.port());
    let output = Command::new(env!("CARGO_BIN_EXE_tws"))
        .current_dir(folder.path())
        .args([&bind, &port, "."])
        .output()
        .expect("run tws");
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn names_of_other_servers_work_and_ctrl_c_prints_a_summary() {
    let folder = folder();
    let mut command = Command::new(env!("CARGO_BIN_EXE_tws"));
    command
        .args([
            "-l",
            "0",
            "-i",
            "127.0.0.1",
            "--access-log=/dev/null",
            "--root",
        ])
        .arg(folder.path());
    let mut site = TwsProcess::run(&mut command);
    let mut client = site.client();
    assert_eq!(get(&mut client, "/a.txt", ""), 200);
    assert_eq!(get(&mut client, "/sub/b.txt", ""), 200);
    drop(client);
    site.signal(Signal::INT);
    let summary = site.line();
    assert!(
        summary.starts_with("2 requests, 2 bytes sent, in "),
        "{summary}"
    );
    assert!(site.child.wait_for_exit().success());
    let mut quiet = TwsProcess::start(folder.path(), &["--access-log=off", "."]);
    quiet.signal(Signal::TERM);
    assert!(quiet.line().starts_with("0 requests in "));
}

#[test]
fn each_subcommand_has_a_help_of_its_own() {
    for (subcommand, usage) in [
        ("check", "Usage: tws check [OPTIONS]"),
        ("explain", "Usage: tws explain [OPTIONS]"),
        ("man", "Usage: tws man"),
        ("completions", "Usage: tws completions <SHELL>"),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_tws"))
            .args([subcommand, "--help"])
            .output()
            .expect("run tws");
        assert_eq!(output.status.code(), Some(0), "{subcommand}");
        let help = String::from_utf8_lossy(&output.stdout);
        assert!(help.contains(usage), "{help}");
    }
}
