//! Asks the kernel what it knows about the peer of a TCP socket.
//!
//! The kernel buffers more of a response than it sends at once, and the peer's kernel more than its
//! program reads, so what is accepted for sending says little about a slow peer. What `ss(8)` shows says
//! more, and is queried in the same way: over netlink (sock_diag(7)), because `SIOCOUTQ` and `TCP_INFO`
//! need unsafe code. A query takes some 10 µs, so it is made only for a connection that is about to time
//! out, or whose peer reads slowly.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use rustix::net::netlink::{SOCK_DIAG, SocketAddrNetlink};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, sendto, socket_with,
};

use crate::proto::peer_state::{PeerState, ReceiverState};

/// `SOCK_DIAG_BY_FAMILY`: the type of the request and of its answer.
const BY_FAMILY: u16 = 20;
const NLM_F_REQUEST: u16 = 1;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const IPPROTO_TCP: u8 = 6;
/// The type of the attribute that holds a `tcp_info` (linux/tcp.h).
const INET_DIAG_INFO: u16 = 2;
/// In `inet_diag_req_v2`, the bit that asks for that attribute.
const INFO_WANTED: u8 = 1 << (INET_DIAG_INFO - 1);
const HEADER_BYTES: usize = 16;
const REQUEST_BYTES: usize = HEADER_BYTES + 56;
/// The offset of `idiag_wqueue` in an `inet_diag_msg` and its header.
const UNACKNOWLEDGED_AT: usize = HEADER_BYTES + 60;
/// Where the attributes begin: after an `inet_diag_msg`.
const ATTRIBUTES_AT: usize = HEADER_BYTES + 72;
const ATTRIBUTE_HEADER_BYTES: usize = 4;
/// The offset of `tcpi_min_rtt` in a `tcp_info`, in microseconds, since Linux 4.6.
const MIN_RTT_AT: usize = 148;
/// The offset of `tcpi_snd_wnd` in a `tcp_info`, since Linux 5.4.
const WINDOW_AT: usize = 228;

/// Returns what the kernel knows about `peer`, which is connected to `local`.
pub(crate) fn peer_state(local: SocketAddr, peer: SocketAddr) -> io::Result<PeerState> {
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
    bytes.extend_from_slice(&[family, IPPROTO_TCP, INFO_WANTED, 0]);
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
fn decode(answer: &[u8]) -> Option<PeerState> {
    let kind = answer.get(4..6)?;
    if kind != BY_FAMILY.to_ne_bytes() {
        return None;
    }
    Some(PeerState {
        unacknowledged: u32_at(answer, UNACKNOWLEDGED_AT)?,
        receiver: info(answer).and_then(decode_info),
    })
}

fn decode_info(info: &[u8]) -> Option<ReceiverState> {
    Some(ReceiverState {
        window: u32_at(info, WINDOW_AT)?,
        min_rtt: Duration::from_micros(u32_at(info, MIN_RTT_AT)?.into()),
    })
}

/// Returns the `tcp_info` among the attributes of an answer (struct `rtattr`, rtnetlink(7)).
fn info(answer: &[u8]) -> Option<&[u8]> {
    let mut rest = answer.get(ATTRIBUTES_AT..)?;
    loop {
        let &[len0, len1, kind0, kind1, ..] = rest else {
            return None;
        };
        let len = usize::from(u16::from_ne_bytes([len0, len1]));
        let value = rest.get(ATTRIBUTE_HEADER_BYTES..len)?;
        if u16::from_ne_bytes([kind0, kind1]) == INET_DIAG_INFO {
            return Some(value);
        }
        // Attributes are aligned to four bytes.
        rest = rest.get(len.next_multiple_of(4)..)?;
    }
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at + 4)?;
    Some(u32::from_ne_bytes(bytes.try_into().ok()?))
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
            let state = || peer_state(address, from).expect("an answer");
            let held = || state().unacknowledged;
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
            let window = || state().receiver.expect("a kernel that tells").window;
            let full = window();
            let mut taken = vec![0; sent];
            peer.read_exact(&mut taken).expect("all");
            while held() > 0 {
                std::thread::yield_now();
            }
            // The peer's buffer was full, and is empty.
            assert!(window() > full, "{full}, now {}", window());
            drop(ours);
        }
    }

    #[test]
    fn unknown_connection_is_an_error() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        drop(listener);
        assert!(peer_state(address, address).is_err());
        assert_eq!(decode(&[]), None);
        assert_eq!(decode(&[0; 1024]), None);
    }

    #[test]
    fn attributes_that_are_cut_off_hold_nothing() {
        let mut answer = [0; ATTRIBUTES_AT];
        answer[4..6].copy_from_slice(&BY_FAMILY.to_ne_bytes());
        let attribute = |len: u16, kind: u16, bytes: usize| {
            let mut attribute = [len.to_ne_bytes(), kind.to_ne_bytes()].concat();
            attribute.resize(attribute.len() + bytes, 7);
            attribute
        };
        let window_of = |attributes: &[u8]| {
            let answer = [&answer[..], attributes].concat();
            let receiver = decode(&answer).expect("an answer").receiver;
            receiver.map(|receiver| receiver.window)
        };
        let seven = Some(0x0707_0707);
        assert_eq!(window_of(&[]), None);
        assert_eq!(window_of(&attribute(236, 2, 232)), seven);
        let other = attribute(5, 1, 4);
        assert_eq!(window_of(&[other, attribute(236, 2, 232)].concat()), seven);
        for attribute in [
            attribute(0, 1, 232),
            attribute(3, 1, 232),
            attribute(235, 2, 232),
            attribute(237, 2, 232),
            attribute(u16::MAX, 2, 232),
        ] {
            assert_eq!(window_of(&attribute), None);
        }
    }
}
