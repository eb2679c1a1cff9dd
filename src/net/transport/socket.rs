//! Connected sockets: TCP and Unix.

use std::fs::File;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{RecvFlags, SendFlags, Shutdown};
use socket2::SockRef;

use super::{MAX_CALL_BYTES, More, Received, Transport, impl_source, sock_diag};
use crate::proto::peer_state::PeerState;

/// A connected socket, non-blocking.
#[derive(Debug)]
pub(crate) struct Socket(OwnedFd);

impl Socket {
    pub(super) fn new(fd: OwnedFd) -> Self {
        Self(fd)
    }

    /// Copies received bytes into `buffer` and leaves them in the socket.
    pub(crate) fn peek(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let peek = || rustix::net::recv(&self.0, &mut *buffer, RecvFlags::PEEK);
        let (count, _) = retry_on_intr(peek)?;
        Ok(count)
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl io::Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let receive = || rustix::net::recv(&self.0, &mut *buffer, RecvFlags::empty());
        let (count, _) = retry_on_intr(receive)?;
        Ok(count)
    }
}

impl io::Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.send(bytes, More::Last)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        Ok(retry_on_intr(|| rustix::io::writev(&self.0, slices))?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Transport for Socket {
    fn recv(&mut self, buffer: &mut Vec<u8>) -> io::Result<Received> {
        let receive =
            || rustix::net::recv(&self.0, spare_capacity(&mut *buffer), RecvFlags::empty());
        let (count, _) = retry_on_intr(receive)?;
        Ok(match count {
            0 => Received::Eof,
            count if buffer.len() < buffer.capacity() => Received::Drained(count),
            count => Received::Partial(count),
        })
    }

    fn send(&mut self, bytes: &[u8], more: More) -> io::Result<usize> {
        let flags = match more {
            More::MoreToCome => SendFlags::NOSIGNAL | SendFlags::MORE,
            More::Last => SendFlags::NOSIGNAL,
        };
        Ok(retry_on_intr(|| rustix::net::send(&self.0, bytes, flags))?)
    }

    fn send_pair(&mut self, first: &[u8], second: &[u8]) -> io::Result<usize> {
        let slices = [IoSlice::new(first), IoSlice::new(second)];
        Ok(retry_on_intr(|| rustix::io::writev(&self.0, &slices))?)
    }

    fn send_file(&mut self, file: &File, offset: u64, len: usize) -> io::Result<usize> {
        let len = len.min(MAX_CALL_BYTES);
        let mut position = offset;
        let send = || rustix::fs::sendfile(&self.0, file, Some(&mut position), len);
        match retry_on_intr(send) {
            // The file system does not support splicing: some FUSE and pseudo file systems.
            Err(Errno::INVAL | Errno::NOSYS) => send_copy(self, file, offset, len),
            result => Ok(result?),
        }
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        Ok(rustix::net::shutdown(&self.0, Shutdown::Write)?)
    }

    fn limit_unsent(&self, bytes: u32) {
        // A Unix socket has no such option.
        if let Err(error) = SockRef::from(&self.0).set_tcp_notsent_lowat(bytes) {
            log::trace!("connection: TCP_NOTSENT_LOWAT: {error}");
        }
    }

    fn abort(&mut self) {
        // SO_LINGER with no time makes close(2) send a reset (socket(7)).
        let linger = Some(Duration::ZERO);
        if let Err(error) = rustix::net::sockopt::set_socket_linger(&self.0, linger) {
            log::debug!("connection: cannot be reset: {error}");
        }
    }

    fn peer_state(&self) -> Option<PeerState> {
        let local = rustix::net::getsockname(&self.0).ok()?;
        let peer = rustix::net::getpeername(&self.0).ok()??;
        let (local, peer) = (local.try_into().ok()?, peer.try_into().ok()?);
        sock_diag::peer_state(local, peer).ok()
    }
}

/// [`Transport::send_file`] through a buffer, for file systems without splicing.
fn send_copy(
    transport: &mut impl Transport,
    file: &File,
    offset: u64,
    len: usize,
) -> io::Result<usize> {
    let mut bytes = vec![0; len.min(MAX_CALL_BYTES)];
    match file.read_at(&mut bytes, offset)? {
        0 => Ok(0),
        count => transport.send(&bytes[..count], More::Last),
    }
}

impl_source!(Socket);

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{Shutdown, TcpListener, TcpStream};

    use rustix::event::{PollFd, PollFlags, poll};

    use super::*;

    const UNREAD: usize = 100_000;

    /// Returns a connection with bytes that the client has not read.
    fn connection() -> (TcpStream, Socket) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let client = TcpStream::connect(address).expect("a connection");
        let (accepted, _) = listener.accept().expect("a connection");
        let mut socket = Socket::new(accepted.into());
        socket.write_all(&[b'x'; UNREAD]).expect("room");
        (client, socket)
    }

    #[test]
    fn state_of_a_peer_is_known_until_its_reset() {
        let (client, mut socket) = connection();
        assert!(socket.peer_state().is_some());
        // It may still read.
        client.shutdown(Shutdown::Write).expect("shut down");
        assert_eq!(socket.read(&mut [0]).expect("an end"), 0);
        assert!(socket.peer_state().is_some());
        // Closing with unread bytes is a reset.
        drop(client);
        wait_for_reset(&socket);
        assert_eq!(socket.peer_state(), None);
    }

    #[test]
    fn state_of_a_client_that_resets_its_connection_is_not_known() {
        let (client, mut socket) = connection();
        let linger = Some(Duration::ZERO);
        rustix::net::sockopt::set_socket_linger(&client, linger).expect("an option");
        drop(client);
        assert!(socket.read(&mut [0]).is_err());
        assert_eq!(socket.peer_state(), None);
    }

    #[test]
    fn peer_on_a_unix_socket_has_no_such_state() {
        let (ours, _theirs) = std::os::unix::net::UnixStream::pair().expect("a pair");
        assert_eq!(Socket::new(ours.into()).peer_state(), None);
    }

    /// The end of the input was read before, so reading does not show it.
    fn wait_for_reset(socket: &Socket) {
        let mut sockets = [PollFd::new(socket, PollFlags::empty())];
        poll(&mut sockets, None).expect("an event");
        assert!(sockets[0].revents().contains(PollFlags::ERR));
    }
}
