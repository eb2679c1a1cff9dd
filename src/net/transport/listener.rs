//! Listening sockets: TCP and Unix.

use std::fs::{self, Permissions};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{Mode, fchmod};
use rustix::net::SocketFlags;
use socket2::{Domain, Protocol, SockAddr, SockRef, TcpKeepalive, Type};

use super::impl_source;
use super::socket::Socket;
use crate::config::UNIX_PEER;
use crate::error::Error;

/// The longest path of a Unix socket: `sun_path` has 108 bytes, one of them a NUL (unix(7)).
const MAX_UNIX_PATH_BYTES: usize = 107;

/// Connections that the kernel holds until they are accepted; capped by `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// Unsent bytes that a connection's socket may hold beside those in flight: one quantum of a worker.
const MAX_UNSENT_BYTES: u32 = 128 * 1024;

/// How long a connection is silent before the kernel probes whether its peer still exists: longer than
/// the idle timeout, so that only connections that wait for a handler are probed.
const KEEPALIVE_TIME: Duration = Duration::from_secs(60);
/// The time between two probes, and the number of unanswered probes after which the connection is reset.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
const KEEPALIVE_PROBES: u32 = 4;

/// A listening socket, non-blocking.
#[derive(Debug)]
pub(crate) struct Listener {
    fd: OwnedFd,
    address: ListenerAddress,
}

/// The address of a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ListenerAddress {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// Whether an IPv6 listener accepts IPv4 connections.
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

    /// Listens on a Unix socket. `mode` says which users may connect: those with write permission.
    pub(crate) fn unix(path: &Path, mode: u32) -> Result<Self, Error> {
        let failed = |source| Error::path("listen on", path, source);
        if path.as_os_str().len() > MAX_UNIX_PATH_BYTES {
            let text = format!("the socket path is too long (limit {MAX_UNIX_PATH_BYTES} bytes)");
            return Err(failed(io::Error::new(io::ErrorKind::InvalidInput, text)));
        }
        remove_stale_socket(path).map_err(failed)?;
        let listen = || {
            let socket = socket2::Socket::new(Domain::UNIX, Type::STREAM, None)?;
            // Before it has a name, so that other users can never connect (unix(7)).
            fchmod(&socket, Mode::from_raw_mode(mode))?;
            socket.bind(&SockAddr::unix(path)?)?;
            // Adds what the umask has removed.
            fs::set_permissions(path, Permissions::from_mode(mode))?;
            socket.listen(BACKLOG)?;
            Self::adopt(socket.into())
        };
        listen().map_err(|source| Error::new_file("listen on", path, source))
    }

    /// Takes over a socket that listens already, in another process for example.
    pub(crate) fn adopt(fd: OwnedFd) -> io::Result<Self> {
        let socket = SockRef::from(&fd);
        let address = socket.local_addr()?;
        let address = match (address.as_socket(), address.as_pathname()) {
            (Some(address), _) => ListenerAddress::Tcp(address),
            (None, Some(path)) => ListenerAddress::Unix(path.to_owned()),
            (None, None) if !address.is_unix() => {
                // A peer without an IP address would count as local.
                let text = "neither a TCP nor a Unix socket";
                return Err(io::Error::new(io::ErrorKind::Unsupported, text));
            }
            (None, None) => ListenerAddress::Unix(PathBuf::from("(unnamed)")),
        };
        if let ListenerAddress::Tcp(_) = address {
            // Inherited by accepted sockets: a response is written whole, so delaying its last
            // segment gains nothing.
            socket.set_tcp_nodelay(true)?;
            // Inherited, too: a slow client occupies less kernel memory.
            socket.set_tcp_notsent_lowat(MAX_UNSENT_BYTES)?;
            // And a connection that waits for a handler has no timeout: a peer that has vanished without
            // a reset is detected by probes.
            let keepalive = TcpKeepalive::new()
                .with_time(KEEPALIVE_TIME)
                .with_interval(KEEPALIVE_INTERVAL)
                .with_retries(KEEPALIVE_PROBES);
            socket.set_tcp_keepalive(&keepalive)?;
        }
        socket.set_nonblocking(true)?;
        Ok(Self { fd, address })
    }

    pub(crate) fn address(&self) -> &ListenerAddress {
        &self.address
    }

    /// Accepts a connection; returns its socket and the peer's address, [`UNIX_PEER`] for a Unix
    /// socket.
    pub(crate) fn accept(&self) -> io::Result<(Socket, SocketAddr)> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let (fd, peer) = rustix::net::acceptfrom_with(&self.fd, flags)?;
        let peer = peer.and_then(|peer| SocketAddr::try_from(peer).ok());
        Ok((Socket::new(fd), peer.unwrap_or(UNIX_PEER)))
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl_source!(Listener);

/// Removes the socket of a server that has ended. A socket that is in use is an error, and so is
/// anything else of that name.
fn remove_stale_socket(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(metadata) if !metadata.file_type().is_socket() => {
            let text = "the file exists and is not a socket; remove it or choose another path";
            Err(io::Error::new(io::ErrorKind::AlreadyExists, text))
        }
        Ok(_) => match UnixStream::connect(path) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
            Err(error) => Err(error),
            Ok(_) => {
                let text = "another server listens on it; stop that server or choose another path";
                Err(io::Error::new(io::ErrorKind::AddrInUse, text))
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).expect("a socket").permissions().mode() & 0o777
    }

    fn kind_of_failure(path: &Path) -> io::ErrorKind {
        match Listener::unix(path, 0o600).expect_err("taken") {
            Error::Path { source, .. } => source.kind(),
            error => panic!("{error:?}"),
        }
    }

    #[test]
    fn unix_socket_has_its_mode_and_replaces_a_stale_one() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("tws.sock");
        for wanted in [0o600, 0o666, 0o660] {
            let listener = Listener::unix(&path, wanted).expect("a socket");
            assert_eq!(mode(&path), wanted);
            assert_eq!(listener.address(), &ListenerAddress::Unix(path.clone()));
            assert_eq!(kind_of_failure(&path), io::ErrorKind::AddrInUse);
        }
    }

    #[test]
    fn file_that_is_not_a_socket_is_not_removed() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("precious");
        fs::write(&path, "precious").expect("a file");
        assert_eq!(kind_of_failure(&path), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).expect("a file"), b"precious");
    }

    #[test]
    fn socket_path_beyond_107_bytes_is_invalid_input() {
        let folder = tempfile::tempdir().expect("a folder");
        let room = MAX_UNIX_PATH_BYTES - folder.path().as_os_str().len() - 1;
        let longest = folder.path().join("a".repeat(room));
        Listener::unix(&longest, 0o600).expect("a path that fits");
        let too_long = folder.path().join("b".repeat(room + 1));
        assert_eq!(kind_of_failure(&too_long), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn socket_of_another_family_is_not_adopted() {
        let netlink = rustix::net::socket(
            rustix::net::AddressFamily::NETLINK,
            rustix::net::SocketType::DGRAM,
            None,
        );
        let error = Listener::adopt(netlink.expect("a socket")).expect_err("no listener");
        assert_eq!(error.kind(), io::ErrorKind::Unsupported);
    }

    #[test]
    fn adopted_listener_keeps_its_address() {
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
