//! Asks the kernel how many sent bytes the peer of a TCP socket has not acknowledged.
//!
//! The kernel buffers more of a response than it sends at once, so what it accepts says little about
//! a slow peer. The number of unacknowledged bytes is what `ss(8)` shows, and is queried in the same
//! way: over netlink (sock_diag(7)), because the ioctl `SIOCOUTQ` needs unsafe code. A query takes
//! some 10 µs, so it is made only for a connection that is about to time out.

use std::io;
use std::net::{IpAddr, SocketAddr};

use rustix::net::netlink::{SOCK_DIAG, SocketAddrNetlink};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, sendto, socket_with,
};

/// `SOCK_DIAG_BY_FAMILY`: the type of the request and of its answer.
const BY_FAMILY: u16 = 20;
const NLM_F_REQUEST: u16 = 1;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const IPPROTO_TCP: u8 = 6;
const HEADER_BYTES: usize = 16;
const REQUEST_BYTES: usize = HEADER_BYTES + 56;
/// The offset of `idiag_wqueue` in an `inet_diag_msg` and its header.
const UNACKNOWLEDGED_AT: usize = HEADER_BYTES + 60;

/// Returns the number of bytes sent on the TCP connection between `local` and `peer` and not
/// acknowledged.
pub(crate) fn unacknowledged(local: SocketAddr, peer: SocketAddr) -> io::Result<u32> {
    let netlink = socket_with(
        AddressFamily::NETLINK,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        Some(SOCK_DIAG),
    )?;
    let kernel = SocketAddrNetlink::new(0, 0);
    sendto(&netlink, &request(local, peer), SendFlags::empty(), &kernel)?;
    // The kernel answers before `sendto` returns.
    let mut answer = [0; 1024];
    let (_, count) = recv(&netlink, &mut answer, RecvFlags::empty())?;
    decode(&answer[..count.min(answer.len())]).ok_or_else(|| io::ErrorKind::NotFound.into())
}

/// Encodes a `nlmsghdr` and an `inet_diag_req_v2` (linux/inet_diag.h).
fn request(local: SocketAddr, peer: SocketAddr) -> [u8; REQUEST_BYTES] {
    let (from, to) = (local.ip().to_canonical(), peer.ip().to_canonical());
    let family = match from {
        IpAddr::V4(_) => AF_INET,
        IpAddr::V6(_) => AF_INET6,
    };
    let mut bytes = Vec::with_capacity(REQUEST_BYTES);
    bytes.extend_from_slice(&(REQUEST_BYTES as u32).to_ne_bytes());
    bytes.extend_from_slice(&BY_FAMILY.to_ne_bytes());
    bytes.extend_from_slice(&NLM_F_REQUEST.to_ne_bytes());
    // Sequence number and port, which a single request does not need.
    bytes.extend_from_slice(&[0; 8]);
    bytes.extend_from_slice(&[family, IPPROTO_TCP, 0, 0]);
    // In any TCP state.
    bytes.extend_from_slice(&u32::MAX.to_ne_bytes());
    bytes.extend_from_slice(&local.port().to_be_bytes());
    bytes.extend_from_slice(&peer.port().to_be_bytes());
    bytes.extend_from_slice(&octets(from));
    bytes.extend_from_slice(&octets(to));
    // On any interface, with any socket cookie.
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(&[0xff; 8]);
    let mut request = [0; REQUEST_BYTES];
    request.copy_from_slice(&bytes);
    request
}

fn octets(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V6(v6) => v6.octets(),
        IpAddr::V4(v4) => {
            let mut octets = [0; 16];
            octets[..4].copy_from_slice(&v4.octets());
            octets
        }
    }
}

/// Decodes the answer; `None` if it is another message, usually an error.
fn decode(answer: &[u8]) -> Option<u32> {
    let kind = answer.get(4..6)?;
    let bytes = answer.get(UNACKNOWLEDGED_AT..UNACKNOWLEDGED_AT + 4)?;
    let is_answer = kind == BY_FAMILY.to_ne_bytes();
    is_answer.then_some(u32::from_ne_bytes(bytes.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn bytes_the_peer_has_not_read_are_counted() {
        const SENT: usize = 16 << 20;
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let listener = TcpListener::bind(address).expect("a port");
            let address = listener.local_addr().expect("an address");
            let mut peer = TcpStream::connect(address).expect("a connection");
            let (mut ours, from) = listener.accept().expect("a connection");
            let held = || unacknowledged(address, from).expect("an answer");
            assert_eq!(held(), 0);
            ours.set_nonblocking(true).expect("a mode");
            let mut sent = 0;
            while sent < SENT {
                match ours.write(&[b'x'; 1 << 16]) {
                    Ok(count) => sent += count,
                    Err(_) => break,
                }
            }
            let before = held();
            assert!(before > 0, "{sent} sent, {before} not acknowledged");
            let mut taken = vec![0; sent];
            peer.read_exact(&mut taken).expect("all");
            while held() > 0 {
                std::thread::yield_now();
            }
            drop(ours);
        }
    }

    #[test]
    fn unknown_connection_is_an_error() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        drop(listener);
        assert!(unacknowledged(address, address).is_err());
        assert_eq!(decode(&[]), None);
        assert_eq!(decode(&[0; 1024]), None);
    }
}
