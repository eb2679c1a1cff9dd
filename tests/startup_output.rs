//! Tests of the output at the start: addresses, warnings, colours, the QR code; and of the browser
//! that --open starts.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{ChildStderr, Command, Stdio};
use std::sync::mpsc;
use std::thread;

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use crate::support::client::TIMEOUT;
use crate::support::{ChildProcess, Program, eventually, install};

fn command(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tws"));
    command
        .current_dir(folder)
        .args(["-p0", "--access-log=off"])
        .args(args)
        .env_remove("RUST_LOG")
        .env_remove("NO_COLOR")
        .env("TERM", "xterm")
        .stdin(Stdio::null())
        .stderr(Stdio::null());
    command
}

const LAST_LINE: &str = "Ctrl-C stops the server.";

fn lines_of(output: impl Read) -> String {
    lines_with(output, &[LAST_LINE])
}

/// Reads lines until all of `words` have appeared.
fn lines_with(output: impl Read, words: &[&str]) -> String {
    let mut text = String::new();
    let mut output = BufReader::new(output);
    while !words.iter().all(|words| text.contains(words)) {
        let count = output.read_line(&mut text).expect("read line");
        assert!(count > 0, "the output ended early: {text}");
    }
    text
}

fn announced(folder: &Path, args: &[&str]) -> String {
    let mut command = command(folder, args);
    let mut child = ChildProcess::start(command.stdout(Stdio::piped()));
    lines_of(child.stdout.take().expect("stdio pipe"))
}

fn write(folder: &Path, files: &[(&str, &str)]) {
    for (name, content) in files {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().expect("path has a parent")).expect("create directory");
        fs::write(path, content).expect("write file");
    }
}

const PRIVATE: &str = "-----BEGIN PRIVATE KEY-----\nx\n";

#[test]
fn served_secrets_and_risky_flags_are_warned_about() {
    let folder = tempfile::tempdir().expect("create temporary directory");
    let at = folder.path();
    write(
        at,
        &[
            (".git/HEAD", "ref: x"),
            (".env", "SECRET=1"),
            ("index.html", "<p>home"),
            ("deep/tls/server.pem", PRIVATE),
            ("deep/tls/public.pem", "-----BEGIN CERTIFICATE-----\n"),
            ("slides.key", "PK\x03\x04"),
            ("moved.sql", "INSERT"),
            ("a.sql", "INSERT"),
            ("b b.sql", "INSERT"),
            ("c.sql", "INSERT"),
            ("d.sql", "INSERT"),
            ("hosts/b.pem", PRIVATE),
            (
                ".tws.toml",
                "[[redirect]]\nfrom = \"/moved.sql\"\nto = \"/\"\n[[redirect]]\nfrom = \"/hosts/*\"\nto = \"/\"\n\
                 [[host]]\nnames = [\"b.test\"]\nroot = \"hosts\"\n",
            ),
        ],
    );
    let plain = announced(at, &[]);
    for line in [
        "  warning: private keys are served (/b.pem, /deep/tls/server.pem); move them out of the root\n",
        "  warning: databases or backups are served (/a.sql, /b b.sql, /c.sql and 1 more); move",
    ] {
        assert!(plain.contains(line), "{line} in {plain}");
    }
    for name in [
        ".git",
        ".env",
        "public",
        "slides",
        "moved",
        "password",
        "may replace",
        "links",
    ] {
        assert!(!plain.contains(name), "{name} in {plain}");
    }
    let bold = announced(
        at,
        &[
            "--hidden",
            "--symlinks=follow",
            "--upload",
            "--upload-overwrite",
        ],
    );
    for line in [
        "  warning: a repository is served (/.git); omit --hidden to hide it\n",
        "  warning: passwords are served (/.env); move them out of the root\n",
        "  warning: symbolic links are followed out of the root; use --symlinks inside",
        "  warning: uploads may replace served files; omit --upload-overwrite",
    ] {
        assert!(bold.contains(line), "{line} in {bold}");
    }
}

/// The text of the whole announcement. Other tests look for parts of it.
#[test]
fn announcement_matches_golden_text() {
    let folder = tempfile::tempdir().expect("create temporary directory");
    write(folder.path(), &[("a.sql", "INSERT")]);
    let text = announced(folder.path(), &["--no-sandbox", "--qr"]);
    let (first, rest) = text.split_once('\n').expect("end of line");
    assert_eq!(
        first,
        concat!("tws ", env!("CARGO_PKG_VERSION"), " serves .")
    );
    let (url, rest) = rest.split_once('\n').expect("end of line");
    let port = url.strip_prefix("  http://127.0.0.1:");
    let port = port.and_then(|port| port.strip_suffix('/')).expect(url);
    port.parse::<u16>().expect(url);
    let root = "  warning: running as root; use --user NAME to drop privileges\n";
    let expected = "  sandbox: off (--no-sandbox)\n  \
                    warning: databases or backups are served (/a.sql); move them out of the root\n  \
                    warning: --qr: no address is reachable from other machines; use --bind 0.0.0.0\n\
                    Ctrl-C stops the server.\n";
    assert_eq!(rest.replace(root, ""), expected);
}

/// However large a folder is, the scan delays the start only for a short time.
#[test]
fn secrets_scan_of_large_folder_is_bounded() {
    let folder = tempfile::tempdir().expect("create temporary directory");
    for number in 0..4500 {
        fs::write(folder.path().join(format!("{number}.sql")), "").expect("write file");
    }
    let text = announced(folder.path(), &[]);
    let (_, after) = text.split_once(" and ").expect("number of further files");
    let (more, _) = after
        .split_once(" more")
        .expect("a number of further files");
    let more: usize = more.parse().expect("a number");
    assert!((97..4000).contains(&more), "{text}");
}

#[test]
fn home_folder_root_is_warned_about() {
    let home = tempfile::tempdir().expect("create temporary directory");
    fs::create_dir(home.path().join("site")).expect("create directory");
    let served = |name: &str| {
        let mut command = command(home.path(), &[name]);
        command.env("HOME", home.path()).stdout(Stdio::piped());
        let mut child = ChildProcess::start(&mut command);
        lines_of(child.stdout.take().expect("stdio pipe"))
    };
    assert!(served(".").contains("a whole home folder; name the folder"));
    assert!(!served("site").contains("home folder"));
}

#[test]
fn wildcard_bind_prints_reachable_addresses_and_qr_code() {
    let folder = tempfile::tempdir().expect("create temporary directory");
    let text = announced(folder.path(), &["-b", "0.0.0.0", "--qr"]);
    let urls: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("  http://"))
        .collect();
    assert!(
        urls[0].starts_with("127.0.0.1:") && urls[0].ends_with('/'),
        "{text}"
    );
    assert!(!text.contains("//0.0.0.0"), "{text}");
    assert!(
        text.contains("0.0.0.0 can be reached without a password; use --auth or --auth-file"),
        "{text}"
    );
    let rows: Vec<usize> = text
        .lines()
        // The number of modules is odd, so the last line is only an upper half.
        .filter(|line| line.contains(['█', '▀']))
        .map(|line| line.chars().count())
        .collect();
    // A machine may have no address that is reachable from other machines.
    match urls.len() {
        1 => assert!(text.contains("--qr: no address is reachable"), "{text}"),
        _ => {
            let width = rows[0];
            assert!(rows.iter().all(|row| *row == width), "{text}");
            assert_eq!(rows.len(), width.div_ceil(2), "{text}");
            // QR code versions are 4 modules apart, starting at 21; the quiet zone has 4 on each
            // side.
            assert_eq!((width - 8) % 4, 1, "{text}");
        }
    }
    let here = announced(folder.path(), &["--qr"]);
    assert!(
        here.contains("--qr: no address is reachable from other machines; use --bind 0.0.0.0"),
        "{here}"
    );
    assert!(!here.contains('█') && !here.contains("password"), "{here}");
}

/// Returns the output of the binary on a terminal, with a warning on standard error.
fn output_on_terminal(folder: &Path, no_color: Option<&str>) -> String {
    let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("open pseudo-terminal");
    grantpt(&terminal).expect("grant pseudo-terminal");
    unlockpt(&terminal).expect("unlock pseudo-terminal");
    let name = ptsname(&terminal, Vec::new()).expect("name of pseudo-terminal");
    let name = name.to_str().expect("valid UTF-8");
    let inside = fs::File::options()
        .write(true)
        .open(name)
        .expect("open terminal");
    let mut command = command(folder, &[]);
    if let Some(value) = no_color {
        command.env("NO_COLOR", value);
    }
    let diagnostics = inside.try_clone().expect("duplicate descriptor");
    command.env("TWS_PROT", "1").stderr(diagnostics);
    let _child = ChildProcess::start(command.stdout(inside));
    lines_with(fs::File::from(terminal), &["TWS_PROT", LAST_LINE])
}

#[test]
fn colors_appear_on_terminals_without_no_color() {
    let folder = tempfile::tempdir().expect("create temporary directory");
    assert!(!announced(folder.path(), &[]).contains('\x1b'));
    assert!(!output_on_terminal(folder.path(), Some("1")).contains('\x1b'));
    for no_color in [None, Some("")] {
        let coloured = output_on_terminal(folder.path(), no_color);
        for expected in [
            "\x1b[1mtws ",
            "\x1b[4m\x1b[36mhttp://127.0.0.1:",
            "\x1b[33mWARN",
        ] {
            assert!(coloured.contains(expected), "{coloured:?}");
        }
    }
}

/// Returns a folder with an `xdg-open` that runs a script.
fn desktop(script: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("create temporary directory");
    let path = folder.path().join("xdg-open");
    install(&path, Program::Script(&format!("#!/bin/sh\n{script}\n")));
    folder
}

fn opening(root: &Path, path: &Path, flag: &str) -> (ChildProcess, String, ChildStderr) {
    let mut command = command(root, &[flag]);
    command.env("PATH", path).env("OPENED", root.join("opened"));
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = ChildProcess::start(&mut command);
    let text = lines_of(child.stdout.take().expect("stdio pipe"));
    let stderr = child.stderr.take().expect("stdio pipe");
    (child, text, stderr)
}

#[test]
fn open_flag_passes_listen_url_to_browser() {
    let folder = tempfile::tempdir().expect("create temporary directory");
    // The script runs outside the sandbox: it writes a file that the server may not write.
    let desktop =
        desktop("printf %s \"$1\" > \"$OPENED.part\"; /bin/mv \"$OPENED.part\" \"$OPENED\"");
    for flag in ["-o", "--open"] {
        let _ = fs::remove_file(folder.path().join("opened"));
        let (_child, text, _) = opening(folder.path(), desktop.path(), flag);
        let opened = || fs::read_to_string(folder.path().join("opened"));
        eventually!(|| opened().is_ok());
        let opened = opened().expect("read opened URL");
        assert!(opened.starts_with("http://127.0.0.1:"), "{opened}");
        assert!(
            text.contains(&format!("  {opened}\n")),
            "{opened} in {text}"
        );
    }
}

#[test]
fn open_flag_failure_is_warning() {
    let folder = tempfile::tempdir().expect("create temporary directory");
    let empty = tempfile::tempdir().expect("create temporary directory");
    let failing = desktop("exit 3");
    for (path, expected) in [
        (empty.path(), "--open: no xdg-open"),
        (
            failing.path(),
            "--open: no browser could be opened; open http://127.0.0.1:",
        ),
    ] {
        let (mut child, _, stderr) = opening(folder.path(), path, "-o");
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || sender.send(BufReader::new(stderr).lines().next()));
        let line = receiver
            .recv_timeout(TIMEOUT)
            .expect("a line on standard error");
        let line = line.expect("read line").expect("read line");
        assert!(line.contains(expected), "{line}");
        assert_eq!(
            child.try_wait().expect("query child process"),
            None,
            "the server has exited"
        );
    }
}

/// The names of files and requests may contain escape sequences, which could change the terminal.
#[test]
fn printed_names_do_not_control_the_terminal() {
    let folder = tempfile::tempdir().expect("create temporary directory");
    let root = folder.path().join("a\u{1b}]0;x\u{7}\u{9b}b\u{202e}\nc");
    fs::create_dir(&root).expect("create directory");
    fs::write(root.join("private\u{1b}.key"), "PRIVATE KEY").expect("write file");
    fs::write(root.join("\u{1b}]0;x\u{7}.html"), "page").expect("write file");
    fs::create_dir(root.join("host\u{1b}[2J")).expect("create directory");
    let host = "[[host]]\nnames = ['h.test']\nroot = \"host\\u001b[2J\"\n";
    fs::write(root.join(".tws.toml"), host).expect("write file");
    let is_plain = |text: &str| {
        text.lines().all(|line| {
            let mut letters = line.chars();
            !letters.any(|letter| letter.is_control() || letter == '\u{202e}')
        })
    };
    let output = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tws"));
        command.args(args).arg(&root);
        if args[0] == "explain" {
            command.args(["GET", "/%1b%5D0;x%07.html", "-vvv"]);
        }
        let output = command.output().expect("run tws");
        let texts = [output.stdout, output.stderr].concat();
        String::from_utf8(texts).expect("UTF-8")
    };
    for args in [
        &["explain"][..],
        &["explain", "-HHost: h.test"],
        &["check"],
        &["-p0", "--bind=192.0.2.1"],
        &["check", "--auth-file=\u{1b}c"],
    ] {
        let text = output(args);
        assert!(!text.is_empty() && is_plain(&text), "{args:?}: {text:?}");
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_tws"));
    command.args(["-p0", "-vvv"]).arg(&root);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut process = ChildProcess::start(&mut command);
    let stdout = process.stdout.take().expect("stdio pipe");
    let mut banner = String::new();
    for line in BufReader::new(stdout).lines() {
        let line = line.expect("read line");
        banner = banner + &line + "\n";
        if line.starts_with("Ctrl-C") {
            break;
        }
    }
    assert!(
        banner.contains(r"a\u{1b}]0;x\u{7}\u{9b}b\u{202e} c"),
        "{banner:?}"
    );
    assert!(is_plain(&banner), "{banner:?}");
}
