//! Notifications to the supervisor, as systemd defines them (sd_notify(3)): the process serves,
//! reloads, is replaced, stops. Sockets passed by the supervisor are in `inherited_sockets`. Without
//! `NOTIFY_SOCKET` in the environment there is no supervisor, and nothing is sent.
//!
//! | when | what is sent |
//! |---|---|
//! | the process accepts connections | `READY=1`, `STATUS=` with the addresses |
//! | SIGHUP | `RELOADING=1`, `MONOTONIC_USEC=`, then `READY=1`; `STATUS=` with the error, if any |
//! | SIGUSR2 | `MAINPID=` of the new process once it serves; that process sends the rest |
//! | SIGTERM, SIGINT | `STOPPING=1` |
//! | twice in the time of `WATCHDOG_USEC` | `WATCHDOG=1`, if all event loops respond |
//!
//! `MAINPID=` is sent by the old process, because the supervisor accepts it from the main process
//! alone: `NotifyAccess=main`, the default of `Type=notify` and `Type=notify-reload`, suffices for
//! upgrades, too. The new process sends nothing until it is the main one.
//!
//! The socket is connected before privileges are dropped, so neither the sandbox nor `--user` blocks
//! it. A send to a supervisor that does not receive times out after a second.

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

/// The variables that a supervisor sets for the process that it starts, and not for its children.
pub(crate) const PER_PROCESS_VARS: [&str; 4] =
    ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "WATCHDOG_PID"];

/// The timeout of sending one notification.
const SEND_TIMEOUT: Duration = Duration::from_secs(1);

/// The supervisor of this process. Clones share the socket.
#[derive(Clone)]
pub(crate) struct Supervisor {
    state: Arc<SupervisorState>,
}

struct SupervisorState {
    /// `None` without a supervisor.
    socket: Option<UnixDatagram>,
    /// The status while serving: root and addresses. Set once the process serves.
    status: OnceLock<String>,
    /// Another process has become the main process.
    is_superseded: AtomicBool,
}

impl Supervisor {
    /// Connects to `NOTIFY_SOCKET`. A failure is logged as a warning.
    pub(crate) fn from_env() -> Self {
        let name = std::env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty());
        let socket = name.and_then(|name| match connect(name.as_bytes()) {
            Ok(socket) => Some(socket),
            Err(error) => {
                let name = name.display();
                log::warn!("sd_notify: cannot connect to NOTIFY_SOCKET={name}: {error}; no notifications are sent");
                None
            }
        });
        Self::with_socket(socket)
    }

    fn with_socket(socket: Option<UnixDatagram>) -> Self {
        let state = SupervisorState {
            socket,
            status: OnceLock::new(),
            is_superseded: AtomicBool::new(false),
        };
        Self {
            state: Arc::new(state),
        }
    }

    /// Reports that the process accepts connections; `status` says at which addresses.
    pub(crate) fn notify_ready(&self, status: String) {
        let status = self.state.status.get_or_init(|| status);
        self.send(&[NotifyState::Ready, NotifyState::Status(&one_line(status))]);
    }

    /// Reports that a reload has begun.
    pub(crate) fn notify_reloading(&self) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => self.send(&[NotifyState::Reloading, now]),
            Err(error) => log::warn!("sd_notify: cannot send RELOADING=1: {error}"),
        }
    }

    /// Reports that a reload has ended, with the reason if it has failed.
    pub(crate) fn notify_reloaded(&self, failure: Option<&str>) {
        // Before the process serves, the main thread is still to send `READY=1`.
        let Some(serving) = self.state.status.get() else {
            return;
        };
        let status = match failure {
            None => serving.clone(),
            Some(reason) => format!("reload failed: {reason}; {serving}"),
        };
        self.send(&[NotifyState::Ready, NotifyState::Status(&one_line(&status))]);
    }

    /// Reports that the process shuts down.
    pub(crate) fn notify_stopping(&self) {
        self.send(&[
            NotifyState::Stopping,
            NotifyState::Status("finishing responses in progress"),
        ]);
    }

    /// Reports the process that takes over from this one. Nothing more is sent by this one.
    pub(crate) fn hand_over(&self, pid: u32) {
        self.send(&[NotifyState::MainPid(pid)]);
        self.state.is_superseded.store(true, Ordering::Release);
    }

    /// Starts the thread that reports that the event loops of a server respond, if the supervisor has
    /// a watchdog.
    pub(crate) fn start_watchdog(&self, server: ServerHandle) -> Result<(), Error> {
        // `WATCHDOG_PID` of another process is ignored; see `PER_PROCESS_VARS`.
        let limit = sd_notify::watchdog_enabled().filter(|limit| !limit.is_zero());
        let (Some(limit), Some(_)) = (limit, &self.state.socket) else {
            return Ok(());
        };
        let supervisor = self.clone();
        let all_respond = move |timeout| {
            // Event loops that have ended do not respond; they end while the server drains.
            server.state() >= ServerState::Draining || server.silent_event_loops(timeout).is_empty()
        };
        let thread = thread::Builder::new().name("watchdog".to_owned());
        let started = thread.spawn(move || supervisor.run_watchdog(limit, all_respond));
        started
            .map(drop)
            .map_err(Error::system("start the watchdog"))
    }

    /// Sends `WATCHDOG=1` twice within `limit` while all event loops respond; if one does not, checks
    /// more often. `all_respond` waits for at most the given time.
    fn run_watchdog(&self, limit: Duration, all_respond: impl Fn(Duration) -> bool) {
        let limit = limit.max(Duration::from_millis(1));
        let mut was_responding = false;
        while !self.state.is_superseded.load(Ordering::Acquire) {
            let start = Instant::now();
            let is_responding = all_respond(limit / 4);
            let period = if is_responding { limit / 2 } else { limit / 16 };
            if is_responding {
                self.send(&[NotifyState::Watchdog]);
            } else if was_responding {
                log::error!("watchdog: an event loop is unresponsive; withholding WATCHDOG=1");
            }
            was_responding = is_responding;
            thread::sleep(period.saturating_sub(start.elapsed()));
        }
    }

    fn send(&self, states: &[NotifyState<'_>]) {
        let Some(socket) = &self.state.socket else {
            return;
        };
        if self.state.is_superseded.load(Ordering::Acquire) {
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

/// Connects to a path or an abstract name. The crate `sd_notify` supports no abstract names, and it
/// connects again for each notification.
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
    socket.set_write_timeout(Some(SEND_TIMEOUT))?;
    Ok(socket)
}

/// The supervisor takes each line as a notification, so none may come from a text.
fn one_line(text: &str) -> String {
    text.replace(char::is_control, " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (Supervisor, UnixDatagram) {
        let (ours, theirs) = UnixDatagram::pair().expect("a pair");
        (Supervisor::with_socket(Some(ours)), theirs)
    }

    fn received(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 4096];
        let count = socket.recv(&mut buffer).expect("a notification");
        String::from_utf8_lossy(&buffer[..count]).into_owned()
    }

    #[test]
    fn notifications_are_one_line_each() {
        let (supervisor, socket) = pair();
        supervisor.notify_ready("at\nhome".to_owned());
        assert_eq!(received(&socket), "READY=1\nSTATUS=at home");
        supervisor.notify_reloading();
        let text = received(&socket);
        let time = text.strip_prefix("RELOADING=1\nMONOTONIC_USEC=");
        let time: u64 = time.and_then(|time| time.parse().ok()).expect("a time");
        assert!(time > 0);
        supervisor.notify_reloaded(Some("a\nb"));
        let text = received(&socket);
        assert_eq!(text, "READY=1\nSTATUS=reload failed: a b; at home");
        supervisor.notify_reloaded(None);
        assert_eq!(received(&socket), "READY=1\nSTATUS=at home");
        supervisor.hand_over(7);
        // The other process sends the rest.
        supervisor.notify_stopping();
        supervisor.notify_reloaded(None);
        drop(supervisor);
        assert_eq!(received(&socket), "MAINPID=7");
        socket.set_nonblocking(true).expect("a socket");
        assert!(!matches!(socket.recv(&mut [0; 64]), Ok(1..)));
    }

    #[test]
    fn watchdog_is_sent_only_while_event_loops_respond() {
        const ROUNDS: usize = 3;
        let (supervisor, socket) = pair();
        let checks = std::cell::Cell::new(0);
        let all_respond = |_| {
            checks.set(checks.get() + 1);
            if checks.get() == 2 * ROUNDS {
                supervisor
                    .state
                    .is_superseded
                    .store(true, Ordering::Release);
            }
            checks.get() % 2 == 1
        };
        supervisor.run_watchdog(Duration::ZERO, all_respond);
        for _ in 0..ROUNDS {
            assert_eq!(received(&socket), "WATCHDOG=1");
        }
        socket.set_nonblocking(true).expect("a socket");
        assert!(socket.recv(&mut [0; 64]).is_err());
    }

    #[test]
    fn notify_socket_is_path_or_abstract_name() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("notify");
        let name = format!("tws-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).expect("a name");
        for (receiver, name) in [
            (UnixDatagram::bind(&path), path.display().to_string()),
            (UnixDatagram::bind_addr(&address), format!("@{name}")),
        ] {
            let receiver = receiver.expect("a socket");
            let sender = connect(name.as_bytes()).expect("connected");
            sender.send(b"x").expect("sent");
            assert_eq!(received(&receiver), "x");
        }
        for invalid in ["/nowhere", "@", "relative", "vsock:2:1"] {
            connect(invalid.as_bytes()).expect_err(invalid);
        }
    }
}
