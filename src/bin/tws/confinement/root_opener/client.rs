//! The server's end of the socket.

use std::ffi::OsStr;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::io::{Errno, retry_on_intr};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use tws::site::{OpenRequest, RootOpener, Symlinks};

use super::message;

/// A disk that has to spin up takes some ten seconds.
const REPLY_TIMEOUT: Duration = Duration::from_secs(60);

/// Sends requests to the root opener.
#[derive(Debug)]
pub(crate) struct RootOpenerClient {
    socket: OwnedFd,
    /// Whether the log says that the process does not reply.
    is_failure_logged: AtomicBool,
}

impl RootOpenerClient {
    /// `socket` is the server's end of the pair that the root opener was started with, or what
    /// [`duplicate`](Self::duplicate) has returned in the previous process.
    pub(crate) fn new(socket: OwnedFd) -> Self {
        Self {
            socket,
            is_failure_logged: AtomicBool::new(false),
        }
    }

    /// Returns a duplicate of the socket, for the next version of this program.
    pub(crate) fn duplicate(&self) -> io::Result<OwnedFd> {
        self.socket.try_clone()
    }

    /// Returns true if the process can open this root.
    pub(crate) fn opens(&self, root: &Path) -> bool {
        let opened = root.canonicalize().and_then(|root| {
            self.open(&OpenRequest {
                root: &root,
                directory: None,
                symlinks: Symlinks::Inside,
                path: b"",
            })
        });
        opened.is_ok()
    }

    /// Sends a request and receives the reply. The outer error is that of the communication.
    fn ask(&self, packet: &[u8]) -> Result<Result<OwnedFd, Errno>, Errno> {
        let flags = SocketFlags::CLOEXEC;
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        let timeout = Some(REPLY_TIMEOUT);
        set_socket_timeout(&self.socket, Timeout::Send, timeout)?;
        set_socket_timeout(&ours, Timeout::Recv, timeout)?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let descriptors = [theirs.as_fd()];
        control.push(SendAncillaryMessage::ScmRights(&descriptors));
        let packet = [IoSlice::new(packet)];
        // With a time limit, a signal interrupts both calls.
        retry_on_intr(|| sendmsg(&self.socket, &packet, &mut control, SendFlags::NOSIGNAL))?;
        // So that `receive` returns the end of the socket if the root opener exits without a reply.
        drop(theirs);
        receive(&ours)
    }
}

/// Receives a reply.
fn receive(socket: &OwnedFd) -> Result<Result<OwnedFd, Errno>, Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut packet = [0; message::REPLY_LEN];
    let mut buffers = [IoSliceMut::new(&mut packet)];
    let flags = RecvFlags::CMSG_CLOEXEC;
    let received = retry_on_intr(|| recvmsg(socket, &mut buffers, &mut control, flags))?;
    let descriptor = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    match message::decode_reply(&packet[..received.bytes.min(message::REPLY_LEN)]) {
        // The descriptor is missing if this process has reached its limit of open files.
        Some(Ok(())) => Ok(descriptor.ok_or(Errno::MFILE)),
        Some(Err(errno)) => Ok(Err(errno)),
        None => Err(Errno::PROTO),
    }
}

impl RootOpener for RootOpenerClient {
    fn open(&self, request: &OpenRequest<'_>) -> io::Result<OwnedFd> {
        let packet = message::encode(request).ok_or(Errno::NAMETOOLONG)?;
        match self.ask(&packet) {
            Ok(opened) => Ok(opened?),
            Err(errno @ (Errno::MFILE | Errno::NFILE | Errno::NOMEM)) => Err(errno.into()),
            Err(Errno::AGAIN) => {
                let path = request.root.join(OsStr::from_bytes(request.path));
                let (path, time) = (path.display(), REPLY_TIMEOUT.as_secs());
                log::warn!("sandbox: {path}: not opened within {time} s; is its disk available?");
                Err(Errno::TIMEDOUT.into())
            }
            Err(errno) => {
                if !self.is_failure_logged.swap(true, Ordering::Relaxed) {
                    log::error!(
                        "sandbox: the root opener does not reply: {errno}; restart the server"
                    );
                }
                Err(Errno::IO.into())
            }
        }
    }
}
