//! The upgrade of the program while it serves. On SIGUSR2 the process executes its own file as it is
//! now, with the same arguments, and passes its listeners to the new process. Once the new process
//! reports that it serves, the old one finishes its responses and ends; if the new one fails, the
//! old one continues.
//!
//! The two communicate over a socket that is the standard input of the new process, the one
//! descriptor that a process can take without knowing its number. Each listener is passed in one
//! message (`SCM_RIGHTS`). The socket of the root opener follows, because the new process is in the sandbox of
//! the old one and cannot start a root opener. Then come the keys of TLS session tickets, so that clients
//! resume their sessions with the new process. The new process sends one byte when it serves, and the
//! old process closes the socket once it has told the supervisor, if any, which process is the main one. Both
//! accept from the same backlogs for a moment, so no client notices. Variables that the supervisor sets for
//! a single process are not passed on.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::{ManuallyDrop, MaybeUninit};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use rustix::process::{Pid, getppid};
use tws::{Error, Server, ServerHandle, ServerState};

use super::socket_files::SocketFiles;
use super::systemd::{PER_PROCESS_VARS, Supervisor};
use crate::cli::UPGRADE_VARIABLE;
use crate::confinement::program_file;
use crate::confinement::root_opener::RootOpenerClient;
use crate::services::random_path::{self, RANDOM_PATH_VARIABLE};
use crate::services::tls::{self, Tls};
use crate::sync::Mutex;

/// Set for the new process of an upgrade if the previous one has created its Unix sockets, which the new
/// process then removes at its end.
const SOCKETS_VARIABLE: &str = "TWS_UPGRADE_SOCKETS";

/// Set for the new process of an upgrade to the process id of the previous one and the number of bytes
/// that follow the listeners: the keys of TLS session tickets. They never are in the variable itself,
/// which other processes can read.
const TICKET_KEYS_VARIABLE: &str = "TWS_UPGRADE_TICKET_KEYS";

/// The time in which the new process must serve. It includes opening a large user database.
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// How long the new process waits until the old one has notified the supervisor.
const NOTIFY_TIMEOUT: Duration = Duration::from_secs(2);

/// How long the main server of the old process continues while the others drain: clients that watch
/// the operators' listener take as long as their drain timeout.
const DRAIN_OTHERS_TIMEOUT: Duration = Duration::from_secs(3);

/// The byte that the new process sends when it serves.
const READY: u8 = b'+';

/// The process that this one takes over from.
pub(crate) struct PreviousProcess {
    /// Not closed on drop, but when this process serves or has ended: if it were closed earlier, the
    /// previous process would kill this one, possibly before it has printed its error.
    socket: ManuallyDrop<UnixStream>,
    /// The number of listeners of each server.
    counts: Vec<usize>,
    /// The number of bytes that follow the listeners.
    ticket_keys_len: usize,
}

/// The listeners of each server, in the order of [`Upgrade::new`]. `None` for a server that the
/// previous process did not have.
pub(crate) struct PassedListeners {
    pub(crate) main: Option<Vec<OwnedFd>>,
    pub(crate) admin: Option<Vec<OwnedFd>>,
    pub(crate) redirect: Option<Vec<OwnedFd>>,
    /// The socket of the root opener.
    pub(crate) root_opener: Option<OwnedFd>,
}

impl PreviousProcess {
    /// `None` if this process was not started by an upgrade.
    pub(crate) fn from_env() -> Result<Option<Self>, Error> {
        let counts = |name| std::env::var(name).ok().and_then(|text| counts_in(&text));
        let ticket_keys_len = counts(TICKET_KEYS_VARIABLE).map_or(0, |lens| lens[0]);
        let Some(counts) = counts(UPGRADE_VARIABLE) else {
            return Ok(None);
        };
        let take = || {
            let socket = io::stdin().as_fd().try_clone_to_owned()?;
            // Later reads from standard input must find nothing.
            rustix::stdio::dup2_stdin(std::fs::File::open("/dev/null")?)?;
            Ok(ManuallyDrop::new(UnixStream::from(socket)))
        };
        let socket = take().map_err(Error::system("take over from the previous process"))?;
        Ok(Some(Self {
            socket,
            counts,
            ticket_keys_len,
        }))
    }

    /// Returns true if the Unix sockets become those of this process.
    pub(crate) fn passes_sockets() -> bool {
        std::env::var_os(SOCKETS_VARIABLE).is_some()
    }

    /// Receives the listeners.
    pub(crate) fn listeners(&self) -> Result<PassedListeners, Error> {
        let receive = |count: &usize| (0..*count).map(|_| receive(&self.socket)).collect();
        let listeners: io::Result<Vec<Vec<_>>> = self.counts.iter().map(receive).collect();
        let mut listeners = listeners
            .map_err(Error::system("take over the listeners"))?
            .into_iter();
        let mut next = || listeners.next().filter(|own| !own.is_empty());
        Ok(PassedListeners {
            main: next(),
            admin: next(),
            redirect: next(),
            root_opener: next().and_then(|mut sockets| sockets.pop()),
        })
    }

    /// Receives the keys of TLS session tickets, after the [`listeners`](Self::listeners), if the previous
    /// process has sent any. Without them, clients begin new sessions.
    pub(crate) fn receive_ticket_keys(&self, tls: &Tls) {
        if self.ticket_keys_len == 0 {
            return;
        }
        let mut input = (&*self.socket).take(self.ticket_keys_len as u64);
        if let Err(error) = tls::receive_ticket_keys(tls, &mut input) {
            log::warn!("upgrade: TLS session keys: {error}; clients cannot resume their sessions");
        }
    }

    /// Reports that this process serves, and waits until the previous process has notified the
    /// supervisor.
    pub(crate) fn take_over(mut self) -> Result<(), Error> {
        let sent = self.socket.write_all(&[READY]);
        let notified = sent.and_then(|()| self.socket.set_read_timeout(Some(NOTIFY_TIMEOUT)));
        if notified.is_ok() {
            // The event is the end of the socket. If it does not come in time, this process serves
            // nevertheless. Keys are unread if this process has no TLS.
            let _ = io::copy(&mut *self.socket, &mut io::sink());
        }
        drop(ManuallyDrop::into_inner(self.socket));
        notified.map_err(Error::system("notify the previous process"))
    }
}

/// Parses [`UPGRADE_VARIABLE`]. `None` if it is meant for another process.
fn counts_in(text: &str) -> Option<Vec<usize>> {
    let (parent, counts) = text.split_once(':')?;
    let parent = Pid::from_raw(parent.parse().ok()?);
    let counts: Result<_, _> = counts.split(',').map(str::parse).collect();
    counts.ok().filter(|_| parent == getppid())
}

/// The servers of this process, whose listeners an upgrade passes on.
pub(crate) struct Servers<'a> {
    pub(crate) main: &'a Server,
    pub(crate) admin: Option<&'a Server>,
    pub(crate) redirect: Option<&'a Server>,
    /// The certificates of the main server, and the keys of its sessions.
    pub(crate) tls: Option<&'a Tls>,
    pub(crate) root_opener: Option<&'a RootOpenerClient>,
}

/// Starts the process that takes over from this one.
pub(crate) struct Upgrade {
    process: Arc<UpgradeProcess>,
}

struct UpgradeProcess {
    program: PathBuf,
    main_server: ServerHandle,
    side_servers: Vec<ServerHandle>,
    tls: Option<Tls>,
    sockets: SocketFiles,
    supervisor: Supervisor,
    state: Mutex<UpgradeState>,
}

enum UpgradeState {
    /// Duplicates of the listeners of each server, and of the socket of the root opener. The order is the
    /// same in all versions.
    Serving(Vec<Vec<OwnedFd>>),
    /// The new process is about to start (`None`) or starting.
    Upgrading(Option<Child>),
    /// This process is shutting down.
    Ending,
}

impl Upgrade {
    pub(crate) fn new(
        servers: &Servers<'_>,
        sockets: SocketFiles,
        supervisor: Supervisor,
    ) -> Result<Self, Error> {
        let side_servers = [servers.admin, servers.redirect];
        let mut listeners = [Some(servers.main)]
            .into_iter()
            .chain(side_servers)
            .map(|server| server.map_or(Ok(Vec::new()), Server::listeners))
            .collect::<Result<Vec<_>, _>>()?;
        let opener = servers.root_opener.map(RootOpenerClient::duplicate);
        let opener = opener
            .transpose()
            .map_err(Error::system("duplicate the socket of the root opener"))?;
        listeners.push(opener.into_iter().collect());
        let process = UpgradeProcess {
            program: program_file::path(),
            main_server: servers.main.handle(),
            side_servers: side_servers
                .into_iter()
                .flatten()
                .map(Server::handle)
                .collect(),
            tls: servers.tls.cloned(),
            sockets,
            supervisor,
            state: Mutex::new(UpgradeState::Serving(listeners)),
        };
        Ok(Self {
            process: Arc::new(process),
        })
    }

    /// Starts an upgrade and returns at once. The upgrade fails if `check` does, with its reason.
    pub(crate) fn begin(&self, check: impl Fn() -> Result<(), String> + Send + 'static) {
        let mut state = self.process.state.lock();
        match std::mem::replace(&mut *state, UpgradeState::Upgrading(None)) {
            UpgradeState::Serving(listeners) => {
                let process = Arc::clone(&self.process);
                let thread = std::thread::Builder::new().name("upgrade".to_owned());
                if let Err(error) = thread.spawn(move || process.run(listeners, check)) {
                    // The listeners were dropped with the closure: there is no second attempt.
                    log::error!(
                        "upgrade: cannot start a thread: {error}; restart the server to upgrade it"
                    );
                }
            }
            other => {
                *state = other;
                log::warn!("upgrade: ignored, as an upgrade or a shutdown is in progress");
            }
        }
    }

    /// Cancels an upgrade that is in progress, and prevents others: this process shuts down.
    pub(crate) fn cancel(&self) {
        let previous = std::mem::replace(&mut *self.process.state.lock(), UpgradeState::Ending);
        if let UpgradeState::Upgrading(Some(mut child)) = previous {
            kill(&mut child);
        }
    }
}

impl UpgradeProcess {
    fn run(&self, listeners: Vec<Vec<OwnedFd>>, check: impl Fn() -> Result<(), String>) {
        let ready = check().map_err(io::Error::other);
        let ready = ready.and_then(|()| self.start(&listeners));
        let mut state = self.state.lock();
        match (std::mem::replace(&mut *state, UpgradeState::Ending), ready) {
            (UpgradeState::Upgrading(Some(child)), Ok(Some(socket))) => {
                // The rest takes time; signals are handled meanwhile.
                drop(state);
                // The duplicates must be closed before the acceptor closes its listeners.
                drop(listeners);
                let pid = child.id();
                self.sockets.hand_over();
                self.supervisor.hand_over(pid);
                drop(socket);
                log::warn!(
                    "upgrade: process {pid} serves now; this process finishes its responses"
                );
                self.shut_down();
            }
            (UpgradeState::Upgrading(child), Err(error)) => {
                child.into_iter().for_each(|mut child| kill(&mut child));
                *state = UpgradeState::Serving(listeners);
                let reason = start_failure(&error);
                let program = self.program.display();
                log::error!("upgrade: {program}: {reason}; this process continues to serve");
            }
            // The upgrade was cancelled meanwhile.
            _ => {}
        }
    }

    /// Starts the new process, waits until it serves, and returns the socket, for whose end the new
    /// process waits. `None` if the upgrade was cancelled.
    fn start(&self, listeners: &[Vec<OwnedFd>]) -> io::Result<Option<UnixStream>> {
        let (mut ours, theirs) = UnixStream::pair()?;
        let counts: Vec<_> = listeners.iter().map(|own| own.len().to_string()).collect();
        let counts = counts.join(",");
        let mut command = Command::new(&self.program);
        command
            .args(std::env::args_os().skip(1))
            .env(UPGRADE_VARIABLE, format!("{}:{counts}", std::process::id()))
            .stdin(Stdio::from(OwnedFd::from(theirs)));
        if let Some(path) = random_path::chosen() {
            command.env(RANDOM_PATH_VARIABLE, path);
        }
        if self.sockets.has_own() {
            command.env(SOCKETS_VARIABLE, "1");
        } else {
            command.env_remove(SOCKETS_VARIABLE);
        }
        match &self.tls {
            Some(_) => command.env(
                TICKET_KEYS_VARIABLE,
                format!("{}:{}", std::process::id(), tls::TICKET_KEYS_LEN),
            ),
            None => command.env_remove(TICKET_KEYS_VARIABLE),
        };
        for name in PER_PROCESS_VARS {
            command.env_remove(name);
        }
        match &mut *self.state.lock() {
            UpgradeState::Upgrading(child) => *child = Some(command.spawn()?),
            UpgradeState::Serving(_) | UpgradeState::Ending => return Ok(None),
        }
        // The command holds a duplicate of the other end of the socket. Once it is closed, the exit
        // of the new process is the end of the socket.
        drop(command);
        for listener in listeners.iter().flatten() {
            send(&ours, listener)?;
        }
        if let Some(tls) = &self.tls {
            tls::send_ticket_keys(tls, &mut ours)?;
        }
        ours.set_read_timeout(Some(START_TIMEOUT))?;
        ours.read_exact(&mut [0])?;
        Ok(Some(ours))
    }

    /// Shuts the servers down, the main one last: the new process responds at the operators'
    /// listener as well, so the listener of this process must not report a shutdown.
    fn shut_down(&self) {
        self.side_servers.iter().for_each(ServerHandle::shut_down);
        let end = Instant::now() + DRAIN_OTHERS_TIMEOUT;
        for server in &self.side_servers {
            let left = end.saturating_duration_since(Instant::now());
            server.wait_for(ServerState::Ended, left);
        }
        self.main_server.shut_down();
    }
}

/// Describes why the new process has not become ready.
fn start_failure(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::UnexpectedEof
        | io::ErrorKind::BrokenPipe
        | io::ErrorKind::ConnectionReset => "it exited before it was ready".to_owned(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
            "it was not ready in time".to_owned()
        }
        _ => error.to_string(),
    }
}

fn kill(child: &mut Child) {
    // The process may have exited by itself.
    let _ = child.kill();
    let _ = child.wait();
}

/// Sends a listener.
fn send(socket: &UnixStream, listener: &OwnedFd) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors = [listener.as_fd()];
    control.push(SendAncillaryMessage::ScmRights(&descriptors));
    sendmsg(
        socket,
        &[IoSlice::new(b"l")],
        &mut control,
        SendFlags::NOSIGNAL,
    )?;
    Ok(())
}

/// Receives a listener.
fn receive(socket: &UnixStream) -> io::Result<OwnedFd> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let flags = RecvFlags::CMSG_CLOEXEC;
    recvmsg(
        socket,
        &mut [IoSliceMut::new(&mut byte)],
        &mut control,
        flags,
    )?;
    let descriptor = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    match descriptor {
        Some(descriptor) => Ok(descriptor),
        None => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn variable_is_ignored_by_other_processes() {
        let parent = getppid().map_or(0, |pid| pid.as_raw_nonzero().get());
        assert_eq!(counts_in(&format!("{parent}:2")), Some(vec![2]));
        assert_eq!(counts_in(&format!("{parent}:2,1")), Some(vec![2, 1]));
        for text in ["", "1", "x:1", "0:1", &format!("{}:2", std::process::id())] {
            assert_eq!(counts_in(text), None, "{text:?}");
        }
        for counts in ["", "1,", "1,x"] {
            assert_eq!(counts_in(&format!("{parent}:{counts}")), None, "{counts:?}");
        }
    }

    #[test]
    fn listener_is_passed_through_socket() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let (sender, receiver) = UnixStream::pair().expect("a pair");
        send(&sender, &listener.try_clone().expect("a duplicate").into()).expect("sent");
        let received = receive(&receiver).expect("received").into();
        let address = |listener: &TcpListener| listener.local_addr().expect("an address");
        assert_eq!(address(&received), address(&listener));
        drop(sender);
        assert!(receive(&receiver).is_err());
    }
}
