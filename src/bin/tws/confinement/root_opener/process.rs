//! The process of the root opener: what it runs.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, Scope};

use rustix::io::{Errno, retry_on_intr};
use rustix::net::sockopt::socket_type;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketType, recvmsg, send, sendmsg,
};
use signal_hook::consts::signal::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::flag;
use tws::{Error, ReplaceableRoot};

use super::message::{self, MAX_ERROR_LEN, READY, UNSUPPORTED};
use crate::cli::{Exit, RawArgs};
use crate::confinement::privileges::RunAs;
use crate::confinement::sandbox::{Sandbox, SandboxStatus};

/// Maximum number of threads that open files. A disk that hangs blocks one of them for each request, and
/// must not block requests for other disks. The server has fewer threads that wait for one disk.
const MAX_THREADS: usize = 256;

/// Those that are sent to all processes of a service, or of a terminal.
const SIGNALS_OF_SERVER: [i32; 5] = [SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2];

/// Opens what is requested on standard input, a socket, until its other end is closed. The arguments are
/// the user and the group, possibly empty, and the roots.
pub(crate) fn run(args: &RawArgs) -> Result<ExitCode, Exit> {
    let stdin = io::stdin();
    let socket = stdin.as_fd();
    if socket_type(socket) != Ok(SocketType::SEQPACKET) {
        let text = "this argument is for processes that tws starts itself; omit it";
        return Err(Exit::usage(text.to_owned()));
    }
    let (first, roots) = match prepare(args) {
        Ok(Some(roots)) => (vec![READY], roots),
        Ok(None) => (vec![UNSUPPORTED], Vec::new()),
        Err(error) => (error.to_string().into_bytes(), Vec::new()),
    };
    let first = &first[..first.len().min(MAX_ERROR_LEN)];
    // An error means that the server has ended.
    let is_sent = send(socket, first, SendFlags::NOSIGNAL).is_ok();
    if is_sent && !roots.is_empty() {
        let replier = Replier::new(socket, |request: &[u8]| open(&roots, request));
        thread::scope(|scope| replier.serve(scope));
    }
    Ok(ExitCode::SUCCESS)
}

/// Drops privileges, opens the folders above the roots and enters the sandbox. `None` if the kernel has no
/// sandbox.
fn prepare(args: &RawArgs) -> Result<Option<Vec<ReplaceableRoot>>, Error> {
    for signal in SIGNALS_OF_SERVER {
        // Without an effect: a signal to the whole process group must not end this process.
        flag::register(signal, Arc::default()).map_err(Error::system("handle signals"))?;
    }
    let mut args = args.args.iter().skip(1);
    let mut name = || args.next()?.to_str().filter(|name| !name.is_empty());
    if let Some(identity) = RunAs::find(name(), name())? {
        identity.apply()?;
    }
    let mut sandbox = Sandbox::empty();
    let mut roots = Vec::new();
    let mut unreachable = None;
    for path in args.map(Path::new) {
        match ReplaceableRoot::new(path) {
            Ok(root) => roots.push(root),
            // The user may not reach it. The other roots can be opened.
            Err(error) => unreachable = Some(Error::path("open the folder of", path, error)),
        }
        if let Some(parent) = path.parent() {
            sandbox.allow_read(parent);
        }
    }
    if let (true, Some(error)) = (roots.is_empty(), unreachable) {
        return Err(error);
    }
    match sandbox.enter()? {
        SandboxStatus::Enforced(_) => Ok(Some(roots)),
        SandboxStatus::Off | SandboxStatus::Unsupported(_) | SandboxStatus::Inherited => Ok(None),
    }
}

/// Replies to requests with what `open` returns, on as many threads as there are requests at once.
struct Replier<'a, F> {
    socket: BorrowedFd<'a>,
    open: F,
    threads: AtomicUsize,
    /// How many of the threads wait for a request.
    waiting: AtomicUsize,
}

impl<'a, F: Fn(&[u8]) -> Result<OwnedFd, Errno> + Sync> Replier<'a, F> {
    fn new(socket: BorrowedFd<'a>, open: F) -> Self {
        Self {
            socket,
            open,
            threads: AtomicUsize::new(1),
            waiting: AtomicUsize::new(1),
        }
    }

    /// Replies to requests until the other end of the socket is closed.
    fn serve<'scope>(&'scope self, scope: &'scope Scope<'scope, '_>) {
        let mut buffer = vec![0; message::MAX_REQUEST_LEN];
        while let Some((len, reply_to)) = self.receive(&mut buffer) {
            if self.waiting.fetch_sub(1, Ordering::Relaxed) == 1 {
                self.start_thread(scope);
            }
            // Without a socket, as at the limit of open files, the client reads the end of it.
            if let Some(reply_to) = reply_to {
                reply(&reply_to, &(self.open)(&buffer[..len]));
            }
            self.waiting.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Receives a request: its length, and the socket for the reply. `None` at the end of the socket.
    fn receive(&self, buffer: &mut [u8]) -> Option<(usize, Option<OwnedFd>)> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::CMSG_CLOEXEC;
        let mut buffers = [IoSliceMut::new(buffer)];
        let received = retry_on_intr(|| recvmsg(self.socket, &mut buffers, &mut control, flags));
        let len = received.ok()?.bytes;
        let reply_to = control.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
            _ => None,
        });
        (len > 0).then_some((len, reply_to))
    }

    /// Starts a thread that waits for the next request, as all others are busy.
    fn start_thread<'scope>(&'scope self, scope: &'scope Scope<'scope, '_>) {
        if self.threads.fetch_add(1, Ordering::Relaxed) < MAX_THREADS {
            self.waiting.fetch_add(1, Ordering::Relaxed);
            let thread = thread::Builder::new().spawn_scoped(scope, || self.serve(scope));
            if thread.is_ok() {
                return;
            }
            // The system has no room for another thread.
            self.waiting.fetch_sub(1, Ordering::Relaxed);
        }
        self.threads.fetch_sub(1, Ordering::Relaxed);
    }
}

fn open(roots: &[ReplaceableRoot], packet: &[u8]) -> Result<OwnedFd, Errno> {
    let request = message::decode(packet).ok_or(Errno::INVAL)?;
    let root = roots.iter().find(|root| root.path() == request.root);
    let opened = root.ok_or(Errno::ACCESS)?.open(&request);
    opened.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
}

/// An error means that the client waits no longer.
fn reply(socket: &OwnedFd, opened: &Result<OwnedFd, Errno>) {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    let packet = message::encode_reply(opened.as_ref().err().copied());
    let packet = [IoSlice::new(&packet)];
    let _: Result<_, _> = match opened {
        Ok(descriptor) => {
            let descriptors = [descriptor.as_fd()];
            control.push(SendAncillaryMessage::ScmRights(&descriptors));
            sendmsg(socket, &packet, &mut control, flags)
        }
        Err(_) => sendmsg(socket, &packet, &mut control, flags),
    };
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::Barrier;

    use rustix::net::{AddressFamily, SocketFlags, socketpair};
    use tws::site::{OpenRequest, RootOpener, Symlinks};

    use super::*;
    use crate::confinement::root_opener::RootOpenerClient;

    fn pair() -> (OwnedFd, OwnedFd) {
        let flags = SocketFlags::CLOEXEC;
        let pair = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None);
        pair.expect("a pair of sockets")
    }

    #[test]
    fn requests_are_answered_until_the_client_ends() {
        let home = tempfile::tempdir().expect("a folder");
        let home = home.path().canonicalize().expect("a folder");
        fs::create_dir(home.join("dist")).expect("a folder");
        fs::create_dir(home.join("other")).expect("a folder");
        fs::write(home.join("dist/page"), "page").expect("a file");
        let dist = home.join("dist");
        let root = ReplaceableRoot::new(&dist).expect("a root");
        let (ours, theirs) = pair();
        let replier = Replier::new(theirs.as_fd(), |request: &[u8]| {
            open(std::slice::from_ref(&root), request)
        });
        thread::scope(|scope| {
            scope.spawn(|| replier.serve(scope));
            let client = RootOpenerClient::new(ours);
            // Packets that are no requests are ignored, or answered with an error.
            send(
                client.duplicate().expect("a duplicate"),
                b"x",
                SendFlags::empty(),
            )
            .expect("sent");
            let request = OpenRequest {
                root: &dist,
                directory: None,
                symlinks: Symlinks::Inside,
                path: b"page",
            };
            let page = client.open(&request).expect("opened");
            let page = io::read_to_string(fs::File::from(page)).expect("read");
            assert_eq!(page, "page");
            let error = |request: &OpenRequest<'_>| {
                let error = client.open(request).expect_err("refused");
                Errno::from_io_error(&error)
            };
            let missing = OpenRequest {
                path: b"none",
                ..request
            };
            assert_eq!(error(&missing), Some(Errno::NOENT));
            let other = home.join("other");
            let other = OpenRequest {
                root: &other,
                path: b"",
                ..request
            };
            assert_eq!(error(&other), Some(Errno::ACCESS));
            let long = OpenRequest {
                path: &[b'a'; 5000],
                ..request
            };
            assert_eq!(error(&long), Some(Errno::NAMETOOLONG));
            assert!(client.opens(&dist) && !client.opens(&home));
            drop(client);
        });
    }

    #[test]
    fn requests_that_block_do_not_block_others() {
        const REQUESTS: usize = 20;
        let (ours, theirs) = pair();
        // All requests are being opened at once.
        let all = Barrier::new(REQUESTS);
        let replier = Replier::new(theirs.as_fd(), |_: &[u8]| {
            all.wait();
            Err(Errno::NOENT)
        });
        thread::scope(|scope| {
            scope.spawn(|| replier.serve(scope));
            let client = RootOpenerClient::new(ours);
            thread::scope(|clients| {
                for _ in 0..REQUESTS {
                    clients.spawn(|| assert!(!client.opens(Path::new("/"))));
                }
            });
            drop(client);
        });
    }

    #[test]
    fn ended_process_is_an_error() {
        let (ours, theirs) = pair();
        drop(theirs);
        assert!(!RootOpenerClient::new(ours).opens(Path::new("/tmp")));
    }
}
