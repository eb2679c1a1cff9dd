//! Tests of the command line, the environment, the site file, `tws check` and the exit codes.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use rustix::process::Signal;

use crate::support::{TwsProcess, eventually};

/// Runs `tws` and returns its output when it has exited.
fn tws(folder: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tws"))
        .current_dir(folder)
        .args(args)
        .env_remove("RUST_LOG")
        .stdin(Stdio::null())
        .output()
        .expect("run tws")
}

/// Asserts that `tws` exits with `code` and one line on standard error, and returns that line.
pub(crate) fn fails(folder: &Path, args: &[&str], code: i32) -> String {
    let output = tws(folder, args);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{args:?}: {error}");
    assert_eq!(error.lines().count(), 1, "{args:?}: {error}");
    assert!(error.starts_with("tws: "), "{args:?}: {error}");
    error
}

/// A write error is a failure; a closed pipe is not, because its reader has read enough.
#[test]
fn stdout_write_error_is_exit_1_and_broken_pipe_exit_0() {
    let print = |to: Stdio| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tws"));
        command.arg("man").stdout(to).stderr(Stdio::piped());
        let output = command.spawn().and_then(Child::wait_with_output);
        let output = output.expect("run tws");
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), error)
    };
    let full = fs::File::options().write(true).open("/dev/full");
    let (code, error) = print(full.expect("open /dev/full").into());
    assert_eq!((code, error.lines().count()), (Some(1), 1), "{error}");
    assert!(error.contains("standard output"), "{error}");
    let (reader, writer) = std::io::pipe().expect("create pipe");
    drop(reader);
    assert_eq!(print(writer.into()), (Some(0), String::new()));
}

#[test]
fn help_and_version_flags_print_and_exit_0() {
    let folder = tempfile::tempdir().expect("create temporary directory");
    let help = tws(folder.path(), &["--help"]);
    let text = String::from_utf8_lossy(&help.stdout);
    assert!(help.status.success());
    for flag in [
        "--port",
        "--bind",
        "--access-log",
        "--users",
        "--auth-file",
        "--slow-log",
        "--no-site-file",
        "--no-sandbox",
        "--user",
        "[PATH] [PORT]",
    ] {
        assert!(text.contains(flag), "{flag} in {text}");
    }
    let version = tws(folder.path(), &["--version"]);
    assert_eq!(
        version.stdout,
        format!("tws {}\n", env!("CARGO_PKG_VERSION")).into_bytes()
    );
}

/// Each flag has one line, which also fits a terminal of 80 columns.
#[test]
fn short_help_is_one_line_per_flag() {
    let folder = tempfile::tempdir().expect("a folder");
    for (columns, args) in [
        ("80", &["-h"][..]),
        ("120", &["-h"]),
        ("80", &["check", "-h"]),
        ("80", &["explain", "-h"]),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tws"));
        command.current_dir(folder.path()).args(args);
        let output = command.env("COLUMNS", columns).output();
        let output = output.expect("the binary runs");
        let help = String::from_utf8_lossy(&output.stdout);
        let mut flags = 0;
        for line in help.lines() {
            assert!(line.chars().count() <= 80, "{line}");
            assert!(!line.starts_with("        "), "a second line: {line}");
            if line.trim_start().starts_with('-') {
                let (_, text) = line.trim_start().split_once("  ").unwrap_or_default();
                assert!(!text.trim().is_empty(), "{line}");
                flags += 1;
            }
        }
        let reference = include_str!("../.readme/reference.md");
        let rows = reference.lines().filter(|line| line.starts_with("| `-"));
        assert!(flags >= rows.count() + 2, "{flags} flags in {help}");
    }
}

#[test]
fn usage_error_is_one_line_and_exit_2() {
    let folder = tempfile::tempdir().expect("create temporary directory");
    for (args, subject) in [
        (&["--workers=0"][..], "--workers"),
        (&["--max-connections=many"], "--max-connections"),
        (&["--port=70000"], "--port"),
        (&["--drain-timeout=99999999999999999999"], "--drain-timeout"),
        (&["--prot", "80"], "--prot"),
        (&["--port", "x"], "--port"),
        (&["99999"], "PORT"),
        (&["--log-format", "xml"], "--log-format"),
        (&[""], "PATH"),
    ] {
        let error = fails(folder.path(), args, 2);
        assert!(error.starts_with(&format!("tws: {subject}: ")), "{error}");
    }
}

/// The text of one error of each family: operands, flags, variables, folders, files, addresses,
/// settings files. Other tests look for parts of such texts.
#[test]
fn error_lines_match_golden_text() {
    let folder = tempfile::tempdir().expect("create temporary directory");
    let at = folder.path();
    fs::create_dir(at.join("site")).expect("create directory");
    fs::create_dir(at.join("sub")).expect("create directory");
    for (name, text) in [
        ("file", ""),
        ("open.toml", "a = \"b\n"),
        ("yaml.toml", "port: 80\n"),
    ] {
        fs::write(at.join(name), text).expect("write file");
    }
    let long = format!("unix:{:a<108}", "");
    let table: &[(&[&str], i32, &str)] = &[
        // Operands.
        (
            &["18731", "18732"],
            2,
            "two ports given (18731 and 18732); give one",
        ),
        (
            &["site", "sub"],
            2,
            "give only one folder (got site and sub)",
        ),
        (
            &[""],
            2,
            "PATH: the folder name is empty; give a folder, or . for this one",
        ),
        // Flags and their values.
        (
            &["--frobnicate"],
            2,
            "--frobnicate: unknown flag; `tws --help` lists the flags",
        ),
        (
            &["--threads", "2"],
            2,
            "--threads: unknown flag; did you mean --workers?",
        ),
        (
            &["--no-hidden"],
            2,
            "--no-hidden: unknown flag; use --hidden=no",
        ),
        (
            &["-p", "x"],
            2,
            "--port: must be an integer between 0 and 65535 (got \"x\")",
        ),
        // Folders.
        (
            &["chek"],
            1,
            "cannot serve chek: no such file or folder; did you mean `tws check`?",
        ),
        (
            &["sitee"],
            1,
            "cannot serve sitee: no such file or folder; did you mean ./site?",
        ),
        (
            &["http://a"],
            1,
            "cannot serve http://a: no such file or folder; give a folder, not a URL",
        ),
        (
            &["--upload", "yes"],
            1,
            "cannot serve yes: no such file or folder; did you mean --upload=yes?",
        ),
        (
            &["file/sub"],
            1,
            "cannot serve file/sub: there is a file where a folder is needed; give another path",
        ),
        // Files that are read or written.
        #[cfg(feature = "auth")]
        (
            &["--auth-file=site"],
            1,
            "cannot read the passwords in site: this is a folder; give a file",
        ),
        (
            &["--access-log=site"],
            1,
            "cannot write the access log to site: this is a folder; give a file",
        ),
        (
            &["--access-log=no/log"],
            1,
            "cannot write the access log to no/log: no such file or folder",
        ),
        // Addresses.
        (
            &["-b", "unix:file"],
            1,
            "cannot listen on file: the file exists and is not a socket; remove it or choose another path",
        ),
        (
            &["-b", &long],
            1,
            "the socket path is too long (limit 107 bytes)",
        ),
        (
            &["-b", "unix:no/s"],
            1,
            "cannot listen on no/s: no such file or folder",
        ),
        // Settings files.
        (
            &["--config=open.toml"],
            1,
            "open.toml:1: the string is not closed; add the quote at its end",
        ),
        (
            &["--config=yaml.toml"],
            1,
            "yaml.toml:1: TOML needs `key = value`; is this YAML?",
        ),
    ];
    for (args, code, expected) in table {
        let error = fails(at, &[&["--no-sandbox"], *args].concat(), *code);
        let line = error
            .trim_end()
            .strip_prefix("tws: ")
            .expect("name of the program");
        let line = line
            .strip_prefix(&format!("cannot listen on {:a<108}: ", ""))
            .unwrap_or(line);
        assert_eq!(line, *expected, "{args:?}");
    }
}

#[test]
fn a_root_that_does_not_exist_is_1_with_advice() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::create_dir(folder.path().join("site")).expect("a folder");
    for (args, advice) in [
        (&["chek"][..], "`tws check`"),
        (&["sitee"], "./site"),
        (&["help"], "`tws --help`"),
        (&["http://a.test/"], "not a URL"),
        (&["explain", "sitee", "GET", "/"], "./site"),
    ] {
        let error = fails(folder.path(), args, 1);
        assert!(error.contains(advice), "{error}");
    }
}

#[test]
fn start_failure_is_one_line_with_advice_and_exit_1() {
    let folder = tempfile::tempdir().expect("create temporary directory");
    let at = folder.path();
    let error = fails(at, &["nowhere"], 1);
    assert!(
        error.contains("nowhere") && error.contains("no such file or folder"),
        "{error}"
    );

    let taken = TcpListener::bind("127.0.0.1:0").expect("bind TCP port");
    let port = taken
        .local_addr()
        .expect("local address")
        .port()
        .to_string();
    let error = fails(at, &["-p", &port], 1);
    assert!(
        error.contains(&port) && error.contains("in use") && error.contains("--port"),
        "{error}"
    );

    let error = fails(at, &["-b", "192.0.2.1", "-p", "0"], 1);
    assert!(
        error.contains("192.0.2.1") && error.contains("--bind"),
        "{error}"
    );

    let error = fails(at, &["-p", "0", "--access-log", "no/such/folder.log"], 1);
    assert!(error.contains("no/such/folder.log"), "{error}");

    let error = fails(at, &["-p", "0", "--config", "none.toml"], 1);
    assert!(error.contains("none.toml"), "{error}");
}

#[cfg(feature = "sqlite")]
#[test]
fn state_directory_inside_root_is_start_error() {
    let folder = tempfile::tempdir().expect("create temporary directory");
    let at = folder.path();
    fs::create_dir(at.join("state")).expect("create directory");
    let error = fails(
        at,
        &["-p", "0", "--users", "sqlite:u.db", "--state-dir", "state"],
        1,
    );
    assert!(
        error.contains("inside the served folder") && error.contains("--state-dir"),
        "{error}"
    );
}

#[test]
fn invalid_site_file_is_error_with_file_and_line() {
    let folder = tempfile::tempdir().expect("create temporary directory");
    let table = [
        (
            "clean-urls = true\ncolour = \"red\"\n",
            ":2: ",
            &["colour", "clean-urls", "error-pages"][..],
        ),
        ("clean-urls = 1\n", ":1: ", &["clean-urls", "true or false"]),
        ("\n\n[[route]]\npath = \"/a\"\n", ":3: ", &["file", "size"]),
        (
            "[[route]]\npath = \"a\"\nfile = \"b\"\n",
            ":1: ",
            &["\"a\""],
        ),
        (
            "[[route]]\npath = \"/a\"\nfile = \"../b\"\n",
            ":3: ",
            &["route.file", "../b"],
        ),
        (
            "[[route]]\npath = \"/a\"\nsize = \"big\"\n",
            ":1: ",
            &["GiB"],
        ),
        (
            "[[route]]\npath = \"/a\"\nfiel = \"b\"\n",
            ":3: ",
            &["fiel", "file"],
        ),
        (
            "[error-pages]\n200 = \"a.html\"\n",
            ":2: ",
            &["400 and 599"],
        ),
        (
            "[users]\nstore = \"mysql:x\"\n",
            ":2: ",
            &["sqlite:users.db"],
        ),
        ("[users]\n", ":1: ", &["store"]),
        (
            "[[route]]\npath = \"/a//b\"\nfile = \"b\"\n",
            ":1: ",
            &["/a//b"],
        ),
        (
            "[[route]]\npath = \"/a\"\nfile = \".tws.toml\"\n",
            ":3: ",
            &["never served"],
        ),
        ("a = = b\n", ":1: ", &[]),
    ];
    for (text, line, words) in table {
        fs::write(folder.path().join(".tws.toml"), text).expect("write file");
        let error = fails(folder.path(), &["-p", "0"], 1);
        assert!(
            error.contains(&format!(".tws.toml{line}")),
            "{text:?}: {error}"
        );
        for word in words {
            assert!(error.contains(word), "{text:?}: {error}");
        }
    }
}

#[test]
fn site_file_is_applied_and_never_served() {
    let folder = tempfile::tempdir().expect("create temporary directory");
    let at = folder.path();
    fs::write(at.join("a.html"), "a").expect("write file");
    fs::write(at.join(".tws.toml"), "clean-urls = true\n").expect("write file");
    fs::write(at.join("other.toml"), "index = [\"a.html\"]\n").expect("write file");

    let own = TwsProcess::start(at, &[]);
    assert_eq!(own.client().get("/a").text(), "a");
    assert_eq!(own.client().get("/.tws.toml").status, 404);
    assert_eq!(own.client().get("/other.toml").status, 200);

    let other = TwsProcess::start(at, &["--config", "other.toml"]);
    assert_eq!(other.client().get("/a").status, 404);
    assert_eq!(other.client().get("/").text(), "a");
    assert_eq!(other.client().get("/other.toml").status, 404);

    let none = TwsProcess::start(at, &["--no-site-file"]);
    assert_eq!(none.client().get("/a").status, 404);
    assert_eq!(none.client().get("/.tws.toml").status, 404);

    let flag = TwsProcess::start(at, &["--index", "a.html"]);
    assert_eq!(flag.client().get("/").text(), "a");
}

#[test]
fn flags_override_environment_and_environment_overrides_file() {
    let folder = tempfile::tempdir().expect("create temporary directory");
    let at = folder.path();
    fs::create_dir_all(at.join("etc/site")).expect("create directory");
    for name in ["a", "b", "c"] {
        fs::write(at.join("etc/site").join(name), name).expect("write file");
    }
    let text = "directory = \"site\"\nport = 0\nbind = [\"127.0.0.1\", \"127.0.0.2\"]\n\
                access-log = \"access.log\"\nindex = [\"a\"]\n";
    fs::write(at.join("etc/tws.toml"), text).expect("write file");
    for (variable, args, expected) in [
        (None, &[][..], "a"),
        (Some("b"), &[], "b"),
        (Some("b"), &["--index=c"], "c"),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tws"));
        command.current_dir(at).args(args);
        command.env("TWS_CONFIG", "etc/tws.toml");
        if let Some(value) = variable {
            command.env("TWS_INDEX", value);
        }
        let process = TwsProcess::run(&mut command);
        assert_eq!(process.client().get("/").text(), expected);
        let mut second = process.address;
        second.set_ip([127, 0, 0, 2].into());
        let mut client = crate::support::Client::connect(second);
        assert_eq!(client.get("/").text(), expected);
        assert!(at.join("etc/access.log").exists());
    }
}

#[test]
fn invalid_variable_is_exit_2_and_invalid_file_exit_1() {
    let folder = tempfile::tempdir().expect("create temporary directory");
    let run = |variables: &[(&str, &str)]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tws"));
        command.current_dir(folder.path()).stdin(Stdio::null());
        command.envs(variables.iter().copied());
        let output = command.output().expect("run tws");
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(error.lines().count(), 1, "{error}");
        (output.status.code(), error)
    };
    let (code, error) = run(&[("TWS_PORT", "http")]);
    assert_eq!(code, Some(2), "{error}");
    assert!(error.starts_with("tws: TWS_PORT: "), "{error}");
    fs::write(folder.path().join("tws.toml"), "\nport = \"http\"\n").expect("write file");
    let (code, error) = run(&[("TWS_CONFIG", "tws.toml")]);
    assert_eq!(code, Some(1), "{error}");
    assert!(error.contains("tws.toml:2: port: "), "{error}");
    fs::write(folder.path().join(".tws.toml"), "\nport = 80\n").expect("write file");
    let (code, error) = run(&[]);
    assert_eq!(code, Some(1), "{error}");
    assert!(error.contains(".tws.toml:2: port: "), "{error}");
    let (code, error) = run(&[("TWS_WORKERS", "0")]);
    assert_eq!(code, Some(2), "{error}");
    assert!(error.contains("and 1 more"), "{error}");
    fs::write(folder.path().join(".tws.toml"), "bind = \"::\"\n").expect("write file");
    let (code, error) = run(&[]);
    assert_eq!(code, Some(1), "{error}");
    assert!(error.contains("--config"), "{error}");
}

#[test]
fn check_reports_all_errors_and_changes_nothing() {
    let folder = tempfile::tempdir().expect("create temporary directory");
    let at = folder.path();
    fs::create_dir(at.join("site")).expect("create directory");
    fs::write(at.join("site/index.html"), "hello").expect("write file");
    let taken = TcpListener::bind("127.0.0.1:0").expect("bind TCP port");
    let port = taken.local_addr().expect("local address").port();
    let text = format!(
        "directory = \"site\"\nport = {port}\naccess-log = \"log\"\nstate-dir = \"state/tws\"\n\
         spa = \"app.html\"\n"
    );
    fs::write(at.join("tws.toml"), text).expect("write file");
    let output = tws(at, &["check", "--config", "tws.toml"]);
    let found = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{found}");
    assert!(!found.contains("error: "), "{found}");
    assert!(
        found.contains("warning: ") && found.contains("app.html"),
        "{found}"
    );
    for name in ["log", "state"] {
        assert!(!at.join(name).exists(), "{name} was made");
    }

    let text = "directory = \"none\"\nport = \"x\"\nprot = 1\nworkers = 1025\nbind = \"192.0.2.1\"\n\
                access-log = [\"no/folder/log\", \"site\"]\nauth-file = \"passwords\"\n\
                tls-cert = [\"a.pem\", \"b.pem\"]\n";
    fs::write(at.join("tws.toml"), text).expect("write file");
    let output = tws(at, &["check", "--config", "tws.toml"]);
    let found = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{found}");
    for expected in [
        "tws.toml:2: port: ",
        "tws.toml:3: ",
        "none: no such file",
        #[cfg(feature = "auth")]
        "passwords: no such file",
        #[cfg(feature = "tls")]
        "a.pem: no such file",
        #[cfg(feature = "tls")]
        "b.pem: no such file",
        "workers: 1025 is above the maximum",
        "192.0.2.1",
        "no/folder/log",
        "site: this is a folder",
    ] {
        let is_wrong = |line: &str| line.starts_with("error: ") && line.contains(expected);
        assert!(found.lines().any(is_wrong), "{expected} in {found}");
    }
    assert_eq!(output.stderr, b"");
}

/// The other checks would be of different settings: the file names the root.
#[test]
fn check_of_invalid_file_reports_only_the_error() {
    let folder = tempfile::tempdir().expect("create temporary directory");
    let at = folder.path();
    fs::create_dir(at.join("site")).expect("create directory");
    let text = "directory = \"site\"\n[[redirect]]\nfrom = \"a\"\nto = \"/b\"\n";
    fs::write(at.join("tws.toml"), text).expect("write file");
    let output = tws(at, &["check", "--config", "tws.toml"]);
    let found = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{found}");
    assert!(found.starts_with("error: tws.toml:2: "), "{found}");
    assert_eq!(found.lines().count(), 1, "{found}");
}

/// The text of a whole report. Other tests look for parts of it.
#[test]
fn check_report_matches_golden_text() {
    let folder = tempfile::tempdir().expect("create temporary directory");
    let args = ["check", "--port=81", "--admin=127.0.0.1:81"];
    let output = tws(folder.path(), &args);
    let expected = "ok: settings: ./.tws.toml does not exist\n\
        ok: . can be served\n\
        ok: the limits are consistent\n\
        ok: 127.0.0.1 is an address of this machine\n\
        ok: --host-name: other names than localhost and this machine's get 421\n\
        error: --admin: 127.0.0.1:81 is already used by --bind; choose another port or path\n\
        ok: protocols: HTTP/1.1 (HTTP/2 with TLS, or with --http2=all)\n";
    assert_eq!(String::from_utf8_lossy(&output.stdout), expected);
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn check_reports_the_protocols_that_clients_can_use() {
    let folder = tempfile::tempdir().expect("create temporary directory");
    let has_http2 = |args: &[&str]| {
        let output = tws(folder.path(), &[&["check"], args].concat());
        let found = String::from_utf8_lossy(&output.stdout).into_owned();
        let line = found.lines().find(|line| line.contains("protocols: "));
        line.expect("a line about protocols")
            .contains(", and HTTP/2")
    };
    assert!(!has_http2(&[]));
    assert!(has_http2(&["--http2=all"]));
    assert!(!has_http2(&["--http2=off"]));
    #[cfg(feature = "tls")]
    for (args, expected) in [
        (&["--tls-self-signed"][..], true),
        (&["--tls-self-signed", "--http2=off"], false),
    ] {
        assert_eq!(has_http2(args), expected, "{args:?}");
    }
}

#[test]
fn check_reports_unusable_and_conflicting_addresses() {
    let folder = tempfile::tempdir().expect("create temporary directory");
    fs::write(folder.path().join("file"), "").expect("write file");
    let table: &[(&[&str], &str)] = &[
        (
            &["--bind=unix:file"],
            "file: the file exists and is not a socket",
        ),
        (
            &["--admin=unix:file"],
            "file: the file exists and is not a socket",
        ),
        (&["--admin=unix:no/socket"], "no/socket: no such file"),
        (&[&format!("--bind=unix:{:a<108}", "")], "(limit 107 bytes)"),
        (
            &["--port=81", "--admin=127.0.0.1:81"],
            "--admin: 127.0.0.1:81",
        ),
        #[cfg(feature = "tls")]
        (
            &["--port=81", "--tls-self-signed", "--redirect-http=81"],
            "--redirect-http: 127.0.0.1:81",
        ),
        #[cfg(feature = "tls")]
        (
            &[
                "--tls-self-signed",
                "--redirect-http=81",
                "--admin=127.0.0.1:81",
            ],
            "--redirect-http: 127.0.0.1:81",
        ),
        // Conflicts as a start would detect them.
        (
            &["--bind=0.0.0.0", "--port=81", "--admin=127.0.0.1:81"],
            "--admin: 127.0.0.1:81",
        ),
        (
            &["--bind=127.0.0.1", "--bind=0.0.0.0", "--port=81"],
            "--bind: 0.0.0.0:81",
        ),
        (
            &["--bind=::", "--port=81", "--admin=127.0.0.1:81"],
            "--admin: 127.0.0.1:81",
        ),
        (
            &["--bind=::,127.0.0.1", "--port=81", "--admin=127.0.0.2:81"],
            "",
        ),
        (&["--bind=0.0.0.0,::"], ""),
        (&["--bind=unix:s", "--admin=unix:s"], "--admin: unix:s"),
        #[cfg(feature = "tls")]
        (
            &["--bind=unix:s", "--tls-self-signed", "--redirect-http=81"],
            "--bind names no IP address",
        ),
        #[cfg(feature = "tls")]
        (
            &[
                "--bind=127.0.0.1:81,127.0.0.1:82",
                "--tls-self-signed",
                "--redirect-http=83",
            ],
            "",
        ),
        (&["--port=0", "--admin=127.0.0.1:0"], ""),
        (&["--port=81", "--admin=127.0.0.2:81"], ""),
    ];
    for (args, expected) in table {
        let output = tws(folder.path(), &[&["check"], *args].concat());
        let found = String::from_utf8_lossy(&output.stdout);
        let wrong: Vec<_> = found
            .lines()
            .filter(|it| it.starts_with("error: "))
            .collect();
        match (&wrong[..], expected) {
            ([], &"") => {}
            ([wrong], &expected) => assert!(wrong.contains(expected), "{wrong}"),
            _ => panic!("{args:?}: {found}"),
        }
    }
}

#[test]
fn messages_about_a_settings_file_name_line_and_host() {
    let folder = tempfile::tempdir().expect("create temporary directory");
    for name in ["site", "etc"] {
        fs::create_dir(folder.path().join(name)).expect("create directory");
    }
    let host = "[[host]]\nnames = ['a.test']\nroot = '../site'\n";
    let table = [
        (
            "warning",
            "[[route]]\npath = '/x'\nfile = 'none'\n",
            "3: route /x: ",
        ),
        ("warning", "spa = 'none.html'\n", "3: spa: "),
        (
            "warning",
            "[error-pages]\n404 = 'none'\n",
            "4: error page 404: ",
        ),
        (
            "warning",
            "[error-pages]\n413 = 'none'\n",
            "4: error page 413 ",
        ),
        (
            "warning",
            "[media-types]\n'a.b' = 'text/plain'\n",
            "4: media type ",
        ),
        (
            "warning",
            &format!("{host}spa = 'none.html'\n"),
            "6: host a.test: spa: ",
        ),
        (
            "warning",
            &format!("{host}[host.error-pages]\n413 = 'none'\n"),
            "7: host a.test: error page 413 ",
        ),
        (
            "error",
            &host.replace("site", "none"),
            "5: host a.test: cannot serve ",
        ),
        (
            "error",
            &format!("{host}hidden = 1\n"),
            "6: host a.test: hidden: ",
        ),
        ("error", "tls-key = 'none'\n", "3: "),
        ("error", "redirect-http = 81\n", "3: --redirect-http: "),
        ("error", "access-log = 'none/log'\n", "3: cannot write "),
        ("error", "auth-file = 'none'\n", "3: "),
        ("error", "[[auth]]\npath = '/*'\nfile = 'none'\n", "3: "),
        (
            "error",
            &format!("{host}auth = [{{ path = '/*', file = 'none' }}]\n"),
            "6: host a.test: ",
        ),
    ];
    for (kind, text, expected) in table {
        let text = format!("directory = '../site'\nport = 0\n{text}");
        fs::write(folder.path().join("etc/tws.toml"), &text).expect("write file");
        let output = tws(folder.path(), &["check", "--config=etc/tws.toml"]);
        let found = String::from_utf8_lossy(&output.stdout);
        let line = format!("{kind}: etc/tws.toml:{expected}");
        assert!(
            found.lines().any(|found| found.starts_with(&line)),
            "{line} in {found}"
        );
    }
}

#[test]
fn folder_named_like_subcommand_is_served_as_path() {
    let folder = tempfile::tempdir().expect("create temporary directory");
    for name in ["check", "man", "completions"] {
        fs::create_dir(folder.path().join(name)).expect("create directory");
        fs::write(folder.path().join(name).join("index.html"), name).expect("write file");
        // `TwsProcess` passes `--port=0` first. As the first argument, a bare name would be a
        // subcommand.
        let site = TwsProcess::start(folder.path(), &[&format!("./{name}")]);
        assert_eq!(site.client().get("/").text(), name);
    }
    let man = tws(folder.path(), &["man"]);
    assert!(String::from_utf8_lossy(&man.stdout).contains(".TH tws 1"));
    let script = tws(folder.path(), &["completions", "bash"]);
    assert!(String::from_utf8_lossy(&script.stdout).contains("--access-log"));
    fails(folder.path(), &["completions", "tcsh"], 2);
    // `PATH PORT` with a folder named like a subcommand is an error.
    fails(folder.path(), &["man", "8080"], 2);
    let help = tws(folder.path(), &["check", "--help"]);
    assert!(String::from_utf8_lossy(&help.stdout).contains("Check the settings"));
}

/// Each subcommand names its own arguments.
#[test]
fn errors_and_help_of_subcommands_show_their_own_usage() {
    let folder = tempfile::tempdir().expect("create temporary directory");
    let at = folder.path();
    fs::write(at.join("file"), "").expect("write file");
    for (subcommand, missing, flag, meant) in [
        ("completions", Some("SHELL"), "--port", None),
        ("compress", Some("FOLDER"), "--port", None),
        ("compress", Some("FOLDER"), "--job", Some("--jobs")),
        ("man", None, "--port", None),
        ("explain", None, "--frobnicate", None),
        ("explain", None, "--prot", Some("--port")),
    ] {
        let usage = format!("tws {subcommand}");
        if let Some(missing) = missing {
            let error = fails(at, &[subcommand], 2);
            let expected =
                format!("tws: {missing} is missing; the command is `{usage} {missing}`\n");
            assert_eq!(error, expected);
        }
        let help = tws(at, &[subcommand, "--help"]);
        let help = String::from_utf8_lossy(&help.stdout);
        assert!(help.contains(&format!("Usage: {usage}")), "{help}");
        let advice = match meant {
            Some(flag) => format!("did you mean {flag}?"),
            None => format!("`{usage} --help` lists the flags"),
        };
        let error = fails(at, &[subcommand, flag], 2);
        assert_eq!(error, format!("tws: {flag}: unknown flag; {advice}\n"));
    }
    let error = fails(at, &["compress", ".", "other"], 2);
    assert!(error.contains("`tws compress "), "{error}");
    let error = fails(at, &["acme", "stat"], 2);
    assert!(error.starts_with("tws: ACTION: "), "{error}");
    let error = fails(at, &["compress", "file"], 1);
    assert!(error.contains("a folder is needed"), "{error}");
}

#[test]
fn quiet_prints_nothing_and_sigterm_is_exit_0() {
    let folder = tempfile::tempdir().expect("create temporary directory");
    // With -q the access log is the only sign that the process has started.
    fs::create_dir(folder.path().join("logs")).expect("create directory");
    let log = folder.path().join("logs/access.log");
    let mut child = Command::new(env!("CARGO_BIN_EXE_tws"))
        .current_dir(folder.path())
        .args(["-q", "-p0", "--access-log", "logs/access.log"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("start tws");
    eventually!(|| {
        let status = child.try_wait().expect("query child process");
        assert_eq!(status, None, "the process exited before it served");
        log.exists()
    });
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, Signal::TERM).expect("signal process");
    let output = child.wait_with_output().expect("wait for exit");
    assert_eq!(output.status.code(), Some(0));
    assert_eq!((output.stdout, output.stderr), (Vec::new(), Vec::new()));
}

/// Standard error is a pipe that is full and is not read; then clients connect that cause many log
/// lines.
#[test]
fn unread_stderr_pipe_does_not_block_requests() {
    let folder = tempfile::tempdir().expect("create temporary directory");
    fs::write(folder.path().join("a.txt"), "a").expect("write file");
    let mut command = Command::new(env!("CARGO_BIN_EXE_tws"));
    command
        .current_dir(folder.path())
        .args(["-p0", "-vvv", "--access-log=off"])
        .stderr(Stdio::piped());
    let mut site = TwsProcess::run(&mut command);
    for _ in 0..3000 {
        let response = site
            .client()
            .request("GET", "/a.txt", "Connection: close\r\n");
        assert_eq!(response.status, 200);
    }
    site.signal(Signal::TERM);
    assert_eq!(site.child.wait_for_exit().code(), Some(0));
}

#[test]
fn fifo_as_root_or_site_file_is_error_and_as_log_is_not() {
    use rustix::fs::{CWD, Mode, mkfifoat};
    let folder = tempfile::tempdir().expect("create temporary directory");
    mkfifoat(CWD, folder.path().join("fifo"), Mode::RUSR | Mode::WUSR).expect("create FIFO");
    let error = fails(folder.path(), &["fifo", "-p0"], 1);
    assert!(error.contains("neither a folder nor a file"), "{error}");
    fs::create_dir(folder.path().join("site")).expect("create directory");
    mkfifoat(CWD, folder.path().join("site/.tws.toml"), Mode::RUSR).expect("create FIFO");
    let error = fails(folder.path(), &["site", "-p0"], 1);
    assert!(error.contains("not a regular file"), "{error}");
    // An access log that is a FIFO without a reader is a stalled log, not an error.
    fs::create_dir(folder.path().join("www")).expect("create directory");
    let site = TwsProcess::start(folder.path(), &["--access-log", "fifo"]);
    assert_eq!(site.client().get("/x").status, 404);
}

#[test]
fn several_bind_addresses_share_one_port() {
    let folder = tempfile::tempdir().expect("create temporary directory");
    let site = TwsProcess::start(
        folder.path(),
        &["-b", "127.0.0.1", "-b", "127.0.0.2", "-b", "::1"],
    );
    let port = site.address.port();
    for address in ["127.0.0.1", "127.0.0.2", "::1"] {
        let ip: std::net::IpAddr = address.parse().expect("valid address");
        let mut client = crate::support::Client::connect((ip, port).into());
        assert_eq!(client.get("/x").status, 404, "{address}");
    }
}

#[test]
fn check_warns_of_damaged_sidecars_and_of_routes_without_effect() {
    let folder = tempfile::tempdir().expect("create temporary directory");
    for (name, content) in [
        ("a.js", "source"),
        ("a.js.gz", ""),
        ("a.js.br", "version https://git-lfs.github.com/spec/v1\n"),
        ("a.js.zst", "(\u{b5}"),
        ("b.wasm.gz", ""),
        (
            ".tws.toml",
            "[[route]]\npath = \"/x/*\"\nfile = \"a.js\"\n\
             [[header]]\npath = \"/*.wasm.gz\"\nencoded = true\n",
        ),
    ] {
        fs::write(folder.path().join(name), content).expect("write file");
    }
    let output = tws(folder.path(), &["check"]);
    assert_eq!(output.status.code(), Some(0));
    let report = String::from_utf8_lossy(&output.stdout);
    let warns_of = |name: &str| {
        let mut lines = report.lines();
        lines.any(|line| line.starts_with("warning: ") && line.contains(name))
    };
    for name in [
        "a.js.gz",
        "a.js.br",
        "a.js.zst",
        "b.wasm.gz",
        ".tws.toml:1: route /x/*",
    ] {
        assert!(warns_of(name), "{name}: {report}");
    }
}

/// The commands in the README's table of other servers.
#[test]
fn commands_for_users_of_other_servers_are_valid() {
    let readme = include_str!("../README.md");
    let (_, section) = readme
        .split_once("## Coming from another server")
        .expect("section of the README");
    let (section, _) = section.split_once("\n## ").expect("end of the section");
    let folder = tempfile::tempdir().expect("create temporary directory");
    for name in ["dist", "build"] {
        fs::create_dir(folder.path().join(name)).expect("create directory");
    }
    let commands: Vec<&str> = section
        .split('`')
        .skip(1)
        .step_by(2)
        .filter(|code| code.starts_with("tws ") && !code.starts_with("tws compress"))
        .collect();
    assert!(commands.len() >= 15, "{commands:?}");
    for command in commands {
        // As a shell splits it: only single quotes are used.
        let quoted = command.split('\'').enumerate();
        let args: Vec<&str> = quoted
            .flat_map(|(at, text)| match at % 2 {
                0 => text.split_whitespace().collect(),
                _ => vec![text],
            })
            .skip(1)
            .collect();
        let output = tws(folder.path(), &[&["check"], &args[..]].concat());
        let report = String::from_utf8_lossy(&output.stdout);
        let problems = report.lines().filter(|line| line.starts_with("error: "));
        // Certificates and passwords are not there, and another server may use the port.
        let unexpected: Vec<&str> = problems
            .filter(|line| !line.contains("no such file") && !line.contains(".pem"))
            .collect();
        assert!(unexpected.is_empty(), "{command}: {unexpected:?}");
    }
}
