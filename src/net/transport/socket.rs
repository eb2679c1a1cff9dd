//! Sockets, of whatever family: those that listen, and those that are connected.

use std::fs::{self, File, Permissions};
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileExt, FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use mio::event::Source;
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use rustix::buffer::spare_capacity;
use rustix::fs::{Mode, fchmod};
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{RecvFlags, SendFlags, Shutdown, SocketFlags};
use socket2::{Domain, Protocol, SockAddr, SockRef, Type};

use super::sock_diag;
use super::{More, Received, Transport};
use crate::config::UNIX_PEER;
use crate::error::Error;

/// Connections the kernel keeps for us while we are busy; it is capped by `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// What a connection's socket may hold beside what is on the wire: one turn's portion.
const MAX_UNSENT_BYTES: u32 = 128 * 1024;

/// The longest path of a Unix socket: `sun_path` has 108 bytes, one of them a NUL (unix(7)).
const MAX_UNIX_PATH_BYTES: usize = 107;

/// A socket that connections come from.
#[derive(Debug)]
pub(crate) struct Listener {
    fd: OwnedFd,
    address: ListenerAddress,
}

/// Where a listener is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ListenerAddress {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// Whether an IPv6 listener takes IPv4 connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum V6 {
    Only,
    Dual,
}

impl Listener {
    pub(crate) fn tcp(address: SocketAddr, v6: V6) -> io::Result<Self> {
        let domain = Domain::for_address(address);
        let socket = socket2::Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
        if address.is_ipv6() {
            socket.set_only_v6(v6 == V6::Only)?;
        }
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        let listener = Self::adopt(socket.into())?;
        SockRef::from(&listener.fd).listen(BACKLOG)?;
        Ok(listener)
    }

    /// A Unix socket that those may connect to whom `mode` lets write.
    pub(crate) fn unix(path: &Path, mode: u32) -> Result<Self, Error> {
        let failed = |source| Error::path("listen on", path, source);
        if path.as_os_str().len() > MAX_UNIX_PATH_BYTES {
            let text = format!("the socket path is too long (limit {MAX_UNIX_PATH_BYTES} bytes)");
            return Err(failed(io::Error::new(io::ErrorKind::InvalidInput, text)));
        }
        make_way(path).map_err(failed)?;
        let listen = || {
            let socket = socket2::Socket::new(Domain::UNIX, Type::STREAM, None)?;
            // Before it has a name, so that at no time somebody else can connect (unix(7)).
            fchmod(&socket, Mode::from_raw_mode(mode))?;
            socket.bind(&SockAddr::unix(path)?)?;
            // What the umask took away is given.
            fs::set_permissions(path, Permissions::from_mode(mode))?;
            socket.listen(BACKLOG)?;
            Self::adopt(socket.into())
        };
        listen().map_err(failed)
    }

    /// One that listens already, in another process, say.
    pub(crate) fn adopt(fd: OwnedFd) -> io::Result<Self> {
        let socket = SockRef::from(&fd);
        let address = socket.local_addr()?;
        let address = match (address.as_socket(), address.as_pathname()) {
            (Some(address), _) => ListenerAddress::Tcp(address),
            (None, Some(path)) => ListenerAddress::Unix(path.to_owned()),
            (None, None) if !address.is_unix() => {
                // Whoever comes by it would be taken for a peer of this machine.
                let text = "neither a TCP nor a Unix socket";
                return Err(io::Error::new(io::ErrorKind::Unsupported, text));
            }
            (None, None) => ListenerAddress::Unix(PathBuf::from("(unnamed)")),
        };
        if let ListenerAddress::Tcp(_) = address {
            // Accepted sockets inherit it: a reply is written whole, there is nothing to wait for.
            socket.set_tcp_nodelay(true)?;
            // They inherit this, too: a slow client holds less of the kernel's memory.
            socket.set_tcp_notsent_lowat(MAX_UNSENT_BYTES)?;
        }
        socket.set_nonblocking(true)?;
        Ok(Self { fd, address })
    }

    pub(crate) fn address(&self) -> &ListenerAddress {
        &self.address
    }

    /// A connection, if there is one, and who has made it.
    pub(crate) fn accept(&self) -> io::Result<(Socket, SocketAddr)> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let (fd, peer) = rustix::net::acceptfrom_with(&self.fd, flags)?;
        let peer = peer.and_then(|peer| SocketAddr::try_from(peer).ok());
        Ok((Socket(fd), peer.unwrap_or(UNIX_PEER)))
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Removes the socket of a server that is no more. One that is somebody's is an error, and so is
/// anything else of that name.
fn make_way(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(metadata) if !metadata.file_type().is_socket() => Err(io::Error::other(
            "the file exists and is not a socket; remove it or choose another path",
        )),
        Ok(_) => match UnixStream::connect(path) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
            Err(error) => Err(error),
            Ok(_) => Err(io::Error::other(
                "another server listens on it; stop that server or choose another path",
            )),
        },
    }
}

/// A connected socket, non-blocking.
#[derive(Debug)]
pub(crate) struct Socket(OwnedFd);

impl Socket {
    /// Reads what has come without taking it.
    pub(crate) fn peek(&self, room: &mut [u8]) -> io::Result<usize> {
        let peek = || rustix::net::recv(&self.0, &mut *room, RecvFlags::PEEK);
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
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        let receive = || rustix::net::recv(&self.0, &mut *room, RecvFlags::empty());
        let (count, _) = retry_on_intr(receive)?;
        Ok(count)
    }
}

impl io::Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.send(bytes, More::Last)
    }

    fn write_vectored(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        Ok(retry_on_intr(|| rustix::io::writev(&self.0, pieces))?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Transport for Socket {
    fn recv(&mut self, room: &mut Vec<u8>) -> io::Result<Received> {
        let receive = || rustix::net::recv(&self.0, spare_capacity(&mut *room), RecvFlags::empty());
        let (count, _) = retry_on_intr(receive)?;
        Ok(match count {
            0 => Received::Eof,
            count if room.len() < room.capacity() => Received::Drained(count),
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
        let pieces = [IoSlice::new(first), IoSlice::new(second)];
        Ok(retry_on_intr(|| rustix::io::writev(&self.0, &pieces))?)
    }

    fn send_file(&mut self, file: &File, offset: u64, len: usize) -> io::Result<usize> {
        let mut position = offset;
        let send = || rustix::fs::sendfile(&self.0, file, Some(&mut position), len);
        match retry_on_intr(send) {
            // A file system that cannot splice: some FUSE and pseudo file systems.
            Err(Errno::INVAL | Errno::NOSYS) => send_copy(self, file, offset, len),
            result => Ok(result?),
        }
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        Ok(rustix::net::shutdown(&self.0, Shutdown::Write)?)
    }

    fn unacknowledged(&self) -> Option<u32> {
        let local = rustix::net::getsockname(&self.0).ok()?;
        let peer = rustix::net::getpeername(&self.0).ok()??;
        let (local, peer) = (local.try_into().ok()?, peer.try_into().ok()?);
        sock_diag::unacknowledged(local, peer).ok()
    }
}

/// [`Transport::send_file`] through memory.
fn send_copy(
    transport: &mut impl Transport,
    file: &File,
    offset: u64,
    len: usize,
) -> io::Result<usize> {
    const COPY_BYTES: usize = 64 * 1024;
    let mut bytes = vec![0; len.min(COPY_BYTES)];
    match file.read_at(&mut bytes, offset)? {
        0 => Ok(0),
        count => transport.send(&bytes[..count], More::Last),
    }
}

/// Descriptors of ours are watched as what they are.
macro_rules! watch {
    ($kind:ty) => {
        impl Source for $kind {
            fn register(&mut self, r: &Registry, t: Token, i: Interest) -> io::Result<()> {
                SourceFd(&self.as_fd().as_raw_fd()).register(r, t, i)
            }

            fn reregister(&mut self, r: &Registry, t: Token, i: Interest) -> io::Result<()> {
                SourceFd(&self.as_fd().as_raw_fd()).reregister(r, t, i)
            }

            fn deregister(&mut self, r: &Registry) -> io::Result<()> {
                SourceFd(&self.as_fd().as_raw_fd()).deregister(r)
            }
        }
    };
}

watch!(Listener);
watch!(Socket);

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).expect("a socket").permissions().mode() & 0o777
    }

    #[test]
    fn a_unix_socket_has_its_mode_and_takes_the_place_of_a_dead_one() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("tws.sock");
        for wanted in [0o600, 0o666, 0o660] {
            let listener = Listener::unix(&path, wanted).expect("a socket");
            assert_eq!(mode(&path), wanted);
            assert_eq!(listener.address(), &ListenerAddress::Unix(path.clone()));
            let error = Listener::unix(&path, 0o600).expect_err("taken").to_string();
            assert!(error.contains("another server listens"), "{error}");
        }
    }

    #[test]
    fn what_is_no_socket_is_not_removed() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("precious");
        fs::write(&path, "precious").expect("a file");
        let error = Listener::unix(&path, 0o600).expect_err("taken").to_string();
        assert!(error.contains("is not a socket"), "{error}");
        assert_eq!(fs::read(&path).expect("a file"), b"precious");
    }

    #[test]
    fn socket_path_beyond_107_bytes_is_invalid_input() {
        let folder = tempfile::tempdir().expect("a folder");
        let room = MAX_UNIX_PATH_BYTES - folder.path().as_os_str().len() - 1;
        let longest = folder.path().join("a".repeat(room));
        Listener::unix(&longest, 0o600).expect("a path that fits");
        let too_long = folder.path().join("b".repeat(room + 1));
        let error = Listener::unix(&too_long, 0o600).expect_err("a path that is too long");
        let Error::Path { source, .. } = &error else {
            panic!("{error:?}");
        };
        assert_eq!(source.kind(), io::ErrorKind::InvalidInput);
        assert!(error.to_string().ends_with("(limit 107 bytes)"), "{error}");
    }

    #[test]
    fn what_is_neither_tcp_nor_unix_is_not_served() {
        let netlink = rustix::net::socket(
            rustix::net::AddressFamily::NETLINK,
            rustix::net::SocketType::DGRAM,
            None,
        );
        let error = Listener::adopt(netlink.expect("a socket")).expect_err("no listener");
        assert_eq!(error.kind(), io::ErrorKind::Unsupported);
    }

    #[test]
    fn a_listener_of_another_is_taken_as_what_it_is() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("s");
        let unix = UnixListener::bind(&path).expect("a socket");
        let adopted = Listener::adopt(unix.into()).expect("a listener");
        assert_eq!(adopted.address(), &ListenerAddress::Unix(path.clone()));
        let _client = UnixStream::connect(&path).expect("a connection");
        let (_, peer) = adopted.accept().expect("a connection");
        assert_eq!(peer, UNIX_PEER);
        let tcp = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = tcp.local_addr().expect("an address");
        let adopted = Listener::adopt(tcp.into()).expect("a listener");
        assert_eq!(adopted.address(), &ListenerAddress::Tcp(address));
    }
}
