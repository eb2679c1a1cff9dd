//! Tests of `--tui` on a pseudo-terminal.

use std::fs::File;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};

use rustix::process::Signal;
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};
use tempfile::TempDir;

use crate::support::h2::H2Client;
use crate::support::{ChildProcess, Client, eventually};

/// More than the socket buffers hold.
const LARGE: usize = 64 * 1024 * 1024;

const FRESH_SCREEN: &str = "\x1b[?1049h";
const OLD_SCREEN: &str = "\x1b[?1049l";
const CURSOR: &str = "\x1b[?25h";

/// The binary on a terminal.
struct TerminalSession {
    child: ChildProcess,
    terminal: File,
    modes: LocalModes,
    written: Arc<Mutex<Vec<u8>>>,
    _state: TempDir,
}

impl TerminalSession {
    fn start(folder: &TempDir, args: &[&str]) -> Self {
        let state = tempfile::tempdir().expect("create temporary directory");
        let terminal =
            openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("open pseudo-terminal");
        grantpt(&terminal).expect("grant pseudo-terminal");
        unlockpt(&terminal).expect("unlock pseudo-terminal");
        resize(&terminal, 120, 40);
        let modes = tcgetattr(&terminal)
            .expect("read terminal attributes")
            .local_modes;
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY;
        let theirs = ioctl_tiocgptpeer(&terminal, flags).expect("open other end of terminal");
        let end = || Stdio::from(theirs.try_clone().expect("duplicate descriptor"));
        let mut command = Command::new(env!("CARGO_BIN_EXE_tws"));
        command
            .current_dir(folder.path())
            .args(["--tui", "--port=0", "-v", "--state-dir"])
            .arg(state.path())
            .args(args)
            .env_remove("RUST_LOG")
            .stdin(end())
            .stdout(end())
            .stderr(end());
        let child = ChildProcess::start(&mut command);
        // Drop the command's copies, so that the server alone has the other end of the terminal.
        drop(command);
        let terminal = File::from(terminal);
        let written = Arc::<Mutex<Vec<u8>>>::default();
        let mut output = terminal.try_clone().expect("duplicate descriptor");
        let all = Arc::clone(&written);
        // Reading fails when the other end of the terminal is closed.
        std::thread::spawn(move || {
            let mut bytes = [0; 65536];
            while let Ok(count @ 1..) = output.read(&mut bytes) {
                let mut all = all.lock().expect("lock is not poisoned");
                all.extend_from_slice(&bytes[..count]);
            }
        });
        Self {
            child,
            terminal,
            modes,
            written,
            _state: state,
        }
    }

    /// Returns everything written to the terminal.
    fn written(&self) -> String {
        let written = self.written.lock().expect("lock is not poisoned");
        String::from_utf8_lossy(&written).into_owned()
    }

    #[track_caller]
    fn wait_for(&self, words: &str) {
        eventually!(|| screen(&self.written()).contains(words));
    }

    fn client(&self) -> Client {
        Client::connect(self.address())
    }

    fn address(&self) -> SocketAddr {
        let mut address = None;
        eventually!(|| {
            let screen = screen(&self.written());
            let after = screen.split_once("http://").map(|(_, after)| after);
            let text = after.and_then(|after| after.split_once('/'));
            address = text.and_then(|(text, _)| text.parse::<SocketAddr>().ok());
            address.is_some()
        });
        address.expect("listen address")
    }

    fn press(&mut self, keys: &[u8]) {
        self.terminal.write_all(keys).expect("write to terminal");
    }

    fn signal(&self, signal: Signal) {
        self.child.signal(signal);
    }

    /// Waits for the process to exit, asserts that the terminal is restored, and returns the
    /// status.
    fn end(mut self) -> ExitStatus {
        let status = self.child.wait_for_exit();
        eventually!(|| self.written().ends_with(CURSOR));
        let written = self.written();
        let (_, after) = written
            .rsplit_once(OLD_SCREEN)
            .expect("escape sequence of the old screen");
        assert!(
            !after.contains(FRESH_SCREEN) && after == CURSOR,
            "{after:?}"
        );
        let modes = tcgetattr(&self.terminal)
            .expect("read terminal attributes")
            .local_modes;
        assert_eq!(modes, self.modes);
        status
    }
}

fn resize(terminal: impl AsFd, columns: u16, rows: u16) {
    let size = Winsize {
        ws_col: columns,
        ws_row: rows,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    tcsetwinsize(terminal, size).expect("set terminal size");
}

/// Returns the screen after `written`, as far as these tests need it: text at positions (ECMA-48
/// CUP). Unchanged cells are not written, so words arrive in parts.
fn screen(written: &str) -> String {
    let mut rows = vec![vec![' '; 200]; 60];
    let (mut row, mut column) = (0, 0);
    let mut letters = written.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\x1b' => {
                let mut sequence = letters.by_ref().skip_while(|letter| *letter == '[');
                let mut arguments = String::new();
                let end = loop {
                    match sequence.next() {
                        Some(letter @ ('@'..='~')) => break letter,
                        Some(letter) => arguments.push(letter),
                        // The rest of the sequence has not arrived yet.
                        None => break '~',
                    }
                };
                let at = arguments.split_once(';').filter(|_| end == 'H');
                if let Some((down, right)) = at {
                    row = down.parse::<usize>().expect("row number") - 1;
                    column = right.parse::<usize>().expect("column number") - 1;
                }
            }
            '\r' | '\n' => {}
            letter => {
                rows[row][column] = letter;
                column += 1;
            }
        }
    }
    let lines = rows.into_iter().map(String::from_iter);
    lines.collect::<Vec<_>>().join("\n")
}

fn folder() -> TempDir {
    let folder = tempfile::tempdir().expect("create temporary directory");
    let file = File::create(folder.path().join("large ñ.bin")).expect("create file");
    file.set_len(LARGE as u64).expect("set file length");
    folder
}

fn download(session: &TerminalSession) -> Client {
    let mut client = session.client();
    client.send("GET /large%20%C3%B1.bin HTTP/1.1\r\nHost: test\r\n\r\n");
    client.head();
    client.read(LARGE / 2);
    client
}

#[test]
fn tui_shows_download_and_restores_terminal() {
    let folder = folder();
    let mut session = TerminalSession::start(&folder, &[]);
    session.wait_for("No transfers running");
    let mut client = download(&session);
    for words in ["large ñ.bin", "64.0 MiB", " %", "client"] {
        session.wait_for(words);
    }
    let modes = tcgetattr(&session.terminal)
        .expect("read terminal attributes")
        .local_modes;
    assert!(!modes.contains(LocalModes::ECHO), "echo is off");
    // In a terminal of another size everything is redrawn, and the name fits.
    session
        .written
        .lock()
        .expect("lock is not poisoned")
        .clear();
    resize(&session.terminal, 80, 24);
    session.signal(Signal::WINCH);
    session.wait_for("large ñ.bin");

    session.press(b"q");
    session.wait_for("shutdown: finishing");
    assert!(
        !session.written().contains(OLD_SCREEN),
        "the screen is kept while the server drains"
    );
    client.read(LARGE - LARGE / 2);
    drop(client);
    assert_eq!(session.end().code(), Some(0));
}

#[test]
fn tui_shows_each_stream_of_an_http2_connection() {
    let folder = folder();
    let other = File::create(folder.path().join("other.bin")).expect("create file");
    other.set_len(LARGE as u64).expect("set file length");
    let mut session = TerminalSession::start(&folder, &["--http2=all"]);
    session.wait_for("No transfers running");
    let mut client = H2Client::connect(session.address());
    client.keep_windows();
    for path in ["/large%20%C3%B1.bin", "/other.bin"] {
        client.request("GET", path, &[]);
    }
    eventually!(|| {
        let screen = screen(&session.written());
        let has_row = |name: &str| screen.lines().any(|row| row.contains(name));
        has_row("large ñ.bin") && has_row("other.bin")
    });
    drop(client);
    session.wait_for("No transfers running");
    session.press(b"q");
    assert_eq!(session.end().code(), Some(0));
}

#[test]
fn tui_second_ctrl_c_exits_1() {
    let folder = folder();
    let mut session = TerminalSession::start(&folder, &["--drain-timeout=3600"]);
    let client = download(&session);
    // Ctrl-C.
    session.press(b"\x03");
    session.wait_for("shutdown: finishing");
    session.press(b"\x03");
    assert_eq!(session.end().code(), Some(1));
    drop(client);
}

#[test]
fn tui_sigterm_restores_terminal() {
    let folder = folder();
    let session = TerminalSession::start(&folder, &[]);
    session.wait_for("No transfers running");
    session.signal(Signal::TERM);
    assert_eq!(session.end().code(), Some(0));
}

#[test]
fn tui_without_terminal_is_exit_2() {
    let folder = folder();
    let output = Command::new(env!("CARGO_BIN_EXE_tws"))
        .current_dir(folder.path())
        .args(["--tui", "--port=0"])
        .stdin(Stdio::null())
        .output()
        .expect("run tws");
    let stderr = String::from_utf8(output.stderr).expect("decode UTF-8");
    assert_eq!(output.status.code(), Some(2));
    assert!(
        stderr.contains("--tui: needs a terminal") && stderr.lines().count() == 1,
        "{stderr}"
    );
    assert_eq!(output.stdout, b"");
}
