//! What a supervisor hears from a service, as systemd has it (sd_notify(3)): that it serves, reloads, is
//! replaced and ends. The sockets that it gives are the business of `inheritance`. Without
//! `NOTIFY_SOCKET` in the environment there is no supervisor, and nothing is said.
//!
//! | when | what is said |
//! |---|---|
//! | it accepts connections | `READY=1`, `STATUS=` with where |
//! | SIGHUP | `RELOADING=1`, `MONOTONIC_USEC=`, and afterwards `READY=1`; `STATUS=` says what was wrong |
//! | SIGUSR2 | `MAINPID=` of the new process, when that serves; the rest is its to say |
//! | SIGTERM, SIGINT | `STOPPING=1` |
//! | twice in the time of `WATCHDOG_USEC` | `WATCHDOG=1`, if all event loops answer |
//!
//! The old process says `MAINPID=`, because it is the one that is believed: `NotifyAccess=main`, the
//! default of `Type=notify` and `Type=notify-reload`, is enough for upgrades, too. The new one waits
//! with what it has to say until it is the main one.
//!
//! The socket is connected before anything is given up, so neither the sandbox nor `--user` is in the
//! way. A supervisor that does not listen is waited for, but no longer than a second.

use std::io;
use std::net::Shutdown;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use sd_notify::NotifyState;
use tws::{Error, ServerHandle, ServerState};

/// What a supervisor means for the process that it has started, and for none of that one's children.
pub(crate) const FOR_ONE_PROCESS: [&str; 4] =
    ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "WATCHDOG_PID"];

/// How long it may take to tell the supervisor something.
const PATIENCE: Duration = Duration::from_secs(1);

/// Who is told. Copies are one.
#[derive(Clone)]
pub(crate) struct Supervisor {
    shared: Arc<Shared>,
}

struct Shared {
    /// `None` without a supervisor.
    socket: Option<UnixDatagram>,
    /// Where it serves, once it does.
    status: OnceLock<String>,
    /// Another process is the main one.
    is_relieved: AtomicBool,
}

impl Supervisor {
    /// The one of `NOTIFY_SOCKET`. One that cannot be reached is warned of.
    pub(crate) fn of_this_process() -> Self {
        let name = std::env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty());
        let socket = name.and_then(|name| match connect(name.as_bytes()) {
            Ok(socket) => Some(socket),
            Err(error) => {
                let name = name.display();
                log::warn!("sd_notify: cannot connect to NOTIFY_SOCKET={name}: {error}; no notifications are sent");
                None
            }
        });
        Self::at(socket)
    }

    fn at(socket: Option<UnixDatagram>) -> Self {
        let shared = Shared {
            socket,
            status: OnceLock::new(),
            is_relieved: AtomicBool::new(false),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// The process accepts connections; `status` says where.
    pub(crate) fn serves(&self, status: String) {
        let status = self.shared.status.get_or_init(|| status);
        self.tell(&[NotifyState::Ready, NotifyState::Status(&one_line(status))]);
    }

    /// The settings are read anew.
    pub(crate) fn reloads(&self) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => self.tell(&[NotifyState::Reloading, now]),
            Err(error) => log::warn!("sd_notify: cannot send RELOADING=1: {error}"),
        }
    }

    /// They have been, unless there is a reason for which they stay.
    pub(crate) fn has_reloaded(&self, reason: Option<&str>) {
        // The main thread will say so.
        let Some(serving) = self.shared.status.get() else {
            return;
        };
        let status = match reason {
            None => serving.clone(),
            Some(reason) => format!("reload failed: {reason}; {serving}"),
        };
        self.tell(&[NotifyState::Ready, NotifyState::Status(&one_line(&status))]);
    }

    /// The process finishes its answers.
    pub(crate) fn ends(&self) {
        self.tell(&[
            NotifyState::Stopping,
            NotifyState::Status("finishing responses in progress"),
        ]);
    }

    /// Another process serves in this one's place. From now on this one says nothing.
    pub(crate) fn hand_over(&self, pid: u32) {
        self.tell(&[NotifyState::MainPid(pid)]);
        self.shared.is_relieved.store(true, Ordering::Release);
    }

    /// Says that the event loops of a server answer, for as long as they do, if that is wanted.
    pub(crate) fn watch(&self, server: ServerHandle) -> Result<(), Error> {
        // Another process's is no business of this one; see `FOR_ONE_PROCESS`.
        let limit = sd_notify::watchdog_enabled().filter(|limit| !limit.is_zero());
        let (Some(limit), Some(_)) = (limit, &self.shared.socket) else {
            return Ok(());
        };
        let supervisor = self.clone();
        let answers = move |patience| {
            let silent = || server.silent_event_loops(patience).is_empty();
            // Those that have finished say nothing more.
            server.phase() >= ServerState::Draining || silent()
        };
        let thread = thread::Builder::new().name("watchdog".to_owned());
        let started = thread.spawn(move || supervisor.keep_awake(limit, answers));
        started.map(drop).map_err(|source| Error::System {
            doing: "start the watchdog",
            source,
        })
    }

    /// Tells for ever, twice within `limit`, that all is well. If it is not, that is asked again and
    /// again.
    fn keep_awake(&self, limit: Duration, answers: impl Fn(Duration) -> bool) {
        let limit = limit.max(Duration::from_millis(1));
        let mut was_well = false;
        while !self.shared.is_relieved.load(Ordering::Acquire) {
            let begun = Instant::now();
            let is_well = answers(limit / 4);
            let period = match is_well {
                true => limit / 2,
                false => limit / 16,
            };
            if is_well {
                self.tell(&[NotifyState::Watchdog]);
            } else if was_well {
                log::error!("watchdog: an event loop is unresponsive; withholding WATCHDOG=1");
            }
            was_well = is_well;
            thread::sleep(period.saturating_sub(begun.elapsed()));
        }
    }

    fn tell(&self, states: &[NotifyState<'_>]) {
        let Some(socket) = &self.shared.socket else {
            return;
        };
        if self.shared.is_relieved.load(Ordering::Acquire) {
            return;
        }
        let lines: Vec<_> = states.iter().map(ToString::to_string).collect();
        if let Err(error) = socket.send(lines.join("\n").as_bytes()) {
            log::warn!(
                "sd_notify: cannot send {}: {error}",
                one_line(&lines.join(" "))
            );
        }
    }
}

/// The crate that knows the words knows no abstract names, and connects anew for each word.
fn connect(name: &[u8]) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    match name {
        [b'@', name @ ..] => socket.connect_addr(&SocketAddr::from_abstract_name(name)?)?,
        [b'/', ..] => socket.connect(Path::new(std::ffi::OsStr::from_bytes(name)))?,
        _ => {
            return Err(io::Error::other(
                "neither an absolute path nor an abstract name (@NAME)",
            ));
        }
    }
    socket.shutdown(Shutdown::Read)?;
    socket.set_write_timeout(Some(PATIENCE))?;
    Ok(socket)
}

/// Each line is a word of its own to the supervisor.
fn one_line(text: &str) -> String {
    text.replace(char::is_control, " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (Supervisor, UnixDatagram) {
        let (ours, theirs) = UnixDatagram::pair().expect("a pair");
        (Supervisor::at(Some(ours)), theirs)
    }

    fn heard(socket: &UnixDatagram) -> String {
        let mut room = [0; 4096];
        let count = socket.recv(&mut room).expect("a word");
        String::from_utf8_lossy(&room[..count]).into_owned()
    }

    #[test]
    fn what_is_said_is_a_line_each() {
        let (supervisor, socket) = pair();
        supervisor.serves("at\nhome".to_owned());
        assert_eq!(heard(&socket), "READY=1\nSTATUS=at home");
        supervisor.reloads();
        let text = heard(&socket);
        let time = text.strip_prefix("RELOADING=1\nMONOTONIC_USEC=");
        let time: u64 = time.and_then(|time| time.parse().ok()).expect("a time");
        assert!(time > 0);
        supervisor.has_reloaded(Some("a\nb"));
        let text = heard(&socket);
        assert_eq!(text, "READY=1\nSTATUS=reload failed: a b; at home");
        supervisor.has_reloaded(None);
        assert_eq!(heard(&socket), "READY=1\nSTATUS=at home");
        supervisor.hand_over(7);
        // The rest is said by the other process.
        supervisor.ends();
        supervisor.has_reloaded(None);
        drop(supervisor);
        assert_eq!(heard(&socket), "MAINPID=7");
        socket.set_nonblocking(true).expect("a socket");
        assert!(!matches!(socket.recv(&mut [0; 64]), Ok(1..)));
    }

    #[test]
    fn the_watchdog_hears_only_of_event_loops_that_answer() {
        const ROUNDS: usize = 3;
        let (supervisor, socket) = pair();
        let asked = std::cell::Cell::new(0);
        let answers = |_| {
            asked.set(asked.get() + 1);
            if asked.get() == 2 * ROUNDS {
                supervisor.shared.is_relieved.store(true, Ordering::Release);
            }
            asked.get() % 2 == 1
        };
        supervisor.keep_awake(Duration::ZERO, answers);
        for _ in 0..ROUNDS {
            assert_eq!(heard(&socket), "WATCHDOG=1");
        }
        socket.set_nonblocking(true).expect("a socket");
        assert!(socket.recv(&mut [0; 64]).is_err());
    }

    #[test]
    fn a_supervisor_is_found_by_a_path_and_by_an_abstract_name() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("notify");
        let name = format!("tws-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).expect("a name");
        for (there, name) in [
            (UnixDatagram::bind(&path), path.display().to_string()),
            (UnixDatagram::bind_addr(&address), format!("@{name}")),
        ] {
            let there = there.expect("a socket");
            let here = connect(name.as_bytes()).expect("a supervisor");
            here.send(b"x").expect("sent");
            assert_eq!(heard(&there), "x");
        }
        for wrong in ["/nowhere", "@", "relative", "vsock:2:1"] {
            connect(wrong.as_bytes()).expect_err(wrong);
        }
    }
}
