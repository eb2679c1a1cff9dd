//! The program is replaced while it serves. On SIGUSR2 the process starts its own file anew, as it is
//! on the disk by then, with the same arguments, and hands its listeners to the new process. When
//! that says that it serves, the old one finishes its answers and ends; if it does not come to that,
//! the old one goes on.
//!
//! The two talk over a socket that is the new process's standard input, which is the one descriptor
//! that a process may take without being told where it is. One message carries each listener
//! (`SCM_RIGHTS`); one byte comes back, and the end of the socket says that the supervisor, if there
//! is one, knows whom to listen to. Both accept from the same queues for a moment, so no client
//! notices. What is meant for one process of the supervisor's is not passed on.

use std::ffi::OsString;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::{ManuallyDrop, MaybeUninit};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use rustix::process::{Pid, getppid};
use tws::{Error, Server, ServerHandle};

use super::systemd::{FOR_ONE_PROCESS, Supervisor};

/// Says to the new process whose child it must be and how many listeners it gets, server by server:
/// `PID:COUNT,COUNT`. 0 is of a server that there is not.
pub(crate) const VARIABLE: &str = "TWS_UPGRADE";

/// How long the new process may take to serve; large user databases are opened in that time.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long it waits for the old one to have told the supervisor of it.
const TELLING_PATIENCE: Duration = Duration::from_secs(2);

/// How long the old one serves on while its other listeners end: watchers take theirs.
const OTHERS_PATIENCE: Duration = Duration::from_secs(3);

/// What it says then.
const READY: u8 = b'+';

/// The process that this one takes the place of.
pub(crate) struct Ancestor {
    /// Open until this process serves or has ended, for when it closes before, that process kills
    /// this one, which may have to say what is wrong.
    socket: ManuallyDrop<UnixStream>,
    counts: Vec<usize>,
}

impl Ancestor {
    /// `None` if this process was started like any other.
    pub(crate) fn of_this_process() -> Result<Option<Self>, Error> {
        let Some(counts) = std::env::var(VARIABLE)
            .ok()
            .and_then(|text| counts_in(&text))
        else {
            return Ok(None);
        };
        let take = || {
            let socket = io::stdin().as_fd().try_clone_to_owned()?;
            // Whoever reads from it finds nothing.
            rustix::stdio::dup2_stdin(std::fs::File::open("/dev/null")?)?;
            Ok(ManuallyDrop::new(UnixStream::from(socket)))
        };
        let socket = take().map_err(failed("take over from the previous process"))?;
        Ok(Some(Self { socket, counts }))
    }

    /// Those of each server, in the order of [`Upgrade::new`]; `None` for one that there was not.
    pub(crate) fn listeners(&self) -> Result<Vec<Option<Vec<OwnedFd>>>, Error> {
        let receive = |count: &usize| (0..*count).map(|_| receive(&self.socket)).collect();
        let listeners: io::Result<Vec<Vec<_>>> = self.counts.iter().map(receive).collect();
        let listeners = listeners.map_err(failed("take over the listeners"))?;
        let there = |own: Vec<_>| (!own.is_empty()).then_some(own);
        Ok(listeners.into_iter().map(there).collect())
    }

    /// Says that this process serves, and gives the one before time to tell the supervisor.
    pub(crate) fn relieve(mut self) -> Result<(), Error> {
        let said = self.socket.write_all(&[READY]);
        let waits = said.and_then(|()| self.socket.set_read_timeout(Some(TELLING_PATIENCE)));
        if waits.is_ok() {
            // Nothing comes but the end, and without it this process serves as well.
            let _ = self.socket.read(&mut [0]);
        }
        drop(ManuallyDrop::into_inner(self.socket));
        waits.map_err(failed("notify the previous process"))
    }
}

fn failed(doing: &'static str) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::System { doing, source }
}

/// Nothing if the variable is meant for another process.
fn counts_in(text: &str) -> Option<Vec<usize>> {
    let (parent, counts) = text.split_once(':')?;
    let parent = Pid::from_raw(parent.parse().ok()?);
    let counts: Result<_, _> = counts.split(',').map(str::parse).collect();
    counts.ok().filter(|_| parent == getppid())
}

/// Starts the process that takes this one's place.
pub(crate) struct Upgrade {
    shared: Arc<Shared>,
}

struct Shared {
    program: PathBuf,
    /// The first is that of the server itself.
    handles: Vec<ServerHandle>,
    supervisor: Supervisor,
    phase: Mutex<Phase>,
}

enum Phase {
    Serving(Vec<Vec<OwnedFd>>),
    /// A new process is to start, or does.
    Upgrading(Option<Child>),
    /// This one serves no more.
    Ending,
}

impl Upgrade {
    /// Of a process that has these servers. Their order is that of every version; one that there is
    /// not is `None`.
    pub(crate) fn new<'s>(
        servers: impl IntoIterator<Item = Option<&'s Server>>,
        supervisor: Supervisor,
    ) -> Result<Self, Error> {
        let program = program(std::env::args_os().next());
        let mut handles = Vec::new();
        let mut listeners = Vec::new();
        for server in servers {
            handles.extend(server.map(Server::handle));
            listeners.push(server.map_or(Ok(Vec::new()), Server::listeners)?);
        }
        let shared = Shared {
            program: program.map_err(failed("find the file of this program"))?,
            handles,
            supervisor,
            phase: Mutex::new(Phase::Serving(listeners)),
        };
        Ok(Self {
            shared: Arc::new(shared),
        })
    }

    /// Does not wait for it.
    pub(crate) fn begin(&self) {
        let mut phase = self.shared.phase();
        match std::mem::replace(&mut *phase, Phase::Upgrading(None)) {
            Phase::Serving(listeners) => {
                let shared = Arc::clone(&self.shared);
                let thread = std::thread::Builder::new().name("upgrade".to_owned());
                if let Err(error) = thread.spawn(move || shared.run(listeners)) {
                    // The listeners are gone with the closure: there is no second attempt.
                    log::error!(
                        "upgrade: cannot start a thread: {error}; restart the server to upgrade it"
                    );
                }
            }
            other => {
                *phase = other;
                log::warn!("upgrade: ignored, as an upgrade or a shutdown is in progress");
            }
        }
    }

    /// This process ends, and no other takes its place.
    pub(crate) fn give_up(&self) {
        let before = std::mem::replace(&mut *self.shared.phase(), Phase::Ending);
        if let Phase::Upgrading(Some(mut child)) = before {
            end(&mut child);
        }
    }
}

impl Shared {
    fn run(&self, listeners: Vec<Vec<OwnedFd>>) {
        let ready = self.start(&listeners);
        let mut phase = self.phase();
        match (std::mem::replace(&mut *phase, Phase::Ending), ready) {
            (Phase::Upgrading(Some(child)), Ok(Some(socket))) => {
                // Signals are heeded while the rest takes its time.
                drop(phase);
                // They must not outlive those of the acceptor.
                drop(listeners);
                let pid = child.id();
                self.supervisor.hand_over(pid);
                drop(socket);
                log::warn!(
                    "upgrade: process {pid} serves now; this process finishes its responses"
                );
                self.leave();
            }
            (Phase::Upgrading(child), Err(error)) => {
                child.into_iter().for_each(|mut child| end(&mut child));
                *phase = Phase::Serving(listeners);
                let reason = explain(&error);
                let program = self.program.display();
                log::error!("upgrade: {program}: {reason}; this process continues to serve");
            }
            // This process was told to end in the meantime.
            _ => {}
        }
    }

    /// Starts the new process and waits until it serves. It waits for the end of the socket then;
    /// `None` if this process ends instead.
    fn start(&self, listeners: &[Vec<OwnedFd>]) -> io::Result<Option<UnixStream>> {
        let (mut ours, theirs) = UnixStream::pair()?;
        let counts: Vec<_> = listeners.iter().map(|own| own.len().to_string()).collect();
        let counts = counts.join(",");
        let mut command = Command::new(&self.program);
        command
            .args(std::env::args_os().skip(1))
            .env(VARIABLE, format!("{}:{counts}", std::process::id()))
            .stdin(Stdio::from(OwnedFd::from(theirs)));
        for name in FOR_ONE_PROCESS {
            command.env_remove(name);
        }
        match &mut *self.phase() {
            Phase::Upgrading(child) => *child = Some(command.spawn()?),
            Phase::Serving(_) | Phase::Ending => return Ok(None),
        }
        // Our copy of its end of the socket: without it, its end is the end.
        drop(command);
        for listener in listeners.iter().flatten() {
            send(&ours, listener)?;
        }
        ours.set_read_timeout(Some(PATIENCE))?;
        ours.read_exact(&mut [0])?;
        Ok(Some(ours))
    }

    /// The server itself comes last: who asks at the operators' listener in the meantime must hear
    /// of no end, for there the new process answers, too.
    fn leave(&self) {
        let Some((server, others)) = self.handles.split_first() else {
            return;
        };
        others.iter().for_each(ServerHandle::shut_down);
        let end = Instant::now() + OTHERS_PATIENCE;
        for other in others {
            other.wait_for(
                tws::ServerState::Ended,
                end.saturating_duration_since(Instant::now()),
            );
        }
        server.shut_down();
    }

    fn phase(&self) -> MutexGuard<'_, Phase> {
        self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn explain(error: &io::Error) -> String {
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

fn end(child: &mut Child) {
    // It may have ended by itself.
    let _ = child.kill();
    let _ = child.wait();
}

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

/// The path this program was started as: what lies there later is its successor. A link that a new
/// version is put behind stays a link.
fn program(typed: Option<OsString>) -> io::Result<PathBuf> {
    let own = std::env::current_exe()?;
    let typed = PathBuf::from(typed.unwrap_or_default());
    let found = match typed.components().count() {
        1 => {
            let path = std::env::var_os("PATH").unwrap_or_default();
            let places: Vec<_> = std::env::split_paths(&path).collect();
            places
                .into_iter()
                .map(|folder| folder.join(&typed))
                .find(|path| path.is_file())
        }
        _ => Some(typed),
    };
    let named = found.and_then(|path| std::path::absolute(path).ok());
    let is_own = |path: &PathBuf| path.canonicalize().is_ok_and(|path| path == own);
    Ok(named.filter(is_own).unwrap_or(own))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn the_variable_is_for_one_child() {
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
    fn listeners_go_through_a_socket() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let (here, there) = UnixStream::pair().expect("a pair");
        send(&here, &listener.try_clone().expect("a copy").into()).expect("sent");
        let received = receive(&there).expect("received").into();
        let address = |listener: &TcpListener| listener.local_addr().expect("an address");
        assert_eq!(address(&received), address(&listener));
        drop(here);
        assert!(receive(&there).is_err());
    }

    #[test]
    fn a_program_knows_its_own_path() {
        let own = std::env::current_exe().expect("a path");
        for typed in [
            None,
            Some("cargo".into()),
            Some("/bin/sh".into()),
            Some(own.clone().into()),
        ] {
            assert_eq!(program(typed).expect("a path"), own);
        }
    }
}
