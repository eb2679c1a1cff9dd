//! The transports of a connection: a socket, or TLS on a socket. All are non-blocking.

pub(crate) mod any;
pub(crate) mod listener;
pub(crate) mod sock_diag;
pub(crate) mod socket;
#[cfg(feature = "tls")]
pub(crate) mod tls;

use std::fs::File;
use std::io;

use crate::proto::peer_state::PeerState;
use crate::proto::segment::{Payload, Segment};

/// The most bytes of a large body that are handed to the kernel in one call.
///
/// At the end of a call the kernel sends what it has, also if that does not fill a packet. A packet
/// beside a full one costs as much as that. 60 KiB become exactly one packet:
/// - It is less than the largest packet before segmentation (GSO): whole segments, together less than
///   64 KiB, which are 45 × 1448 bytes at an MTU of 1500 and 65,483 bytes at the MTU of the loopback
///   device. 64 KiB are one such packet and a second one of 376 or 53 bytes.
/// - `sendfile` moves at most 16 pages at a time (the pipe between file and socket), and these are 15,
///   or 16 if the range begins within one. A second round would end with a small packet, too.
/// - With a first page that other bytes share, they fit into the 17 fragments of a packet.
/// - They are four TLS records, with less than 100 bytes added.
///
/// `sendfile` to 32 connections at an MTU of 1500 takes 230 µs per MiB this way; in calls of 44, 64,
/// 120, 128 and 176 KiB it takes 290, 770, 350, 650 and 450. To one connection it takes 330, and 340,
/// 530, 390, 360 and 330. At an MTU of 65,536 the differences are less than a third.
pub(crate) const MAX_CALL_BYTES: usize = 60 * 1024;

/// Whether more bytes follow at once, so that the kernel need not send a segment that is not full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum More {
    MoreToCome,
    Last,
}

/// The result of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Received {
    /// This many bytes, and there may be more. Zero if what has arrived is not yet application data.
    Partial(usize),
    /// This many bytes, which were all there were.
    Drained(usize),
    /// The peer sends nothing more.
    Eof,
}

/// A non-blocking byte stream. Each method makes at most one attempt and reports `WouldBlock` as an
/// error; `Interrupted` is retried and never returned.
pub(crate) trait Transport {
    /// Appends received bytes to `buffer`, within its capacity.
    fn recv(&mut self, buffer: &mut Vec<u8>) -> io::Result<Received>;

    fn send(&mut self, bytes: &[u8], more: More) -> io::Result<usize>;

    /// Sends both slices together.
    fn send_pair(&mut self, first: &[u8], second: &[u8]) -> io::Result<usize>;

    /// Sends a part of a file. Returns 0 if the file ends before `offset`.
    fn send_file(&mut self, file: &File, offset: u64, len: usize) -> io::Result<usize>;

    /// Sends the beginning of a segment. A prefix and a payload in memory go to the kernel in one call;
    /// a prefix before a file goes first, and does not leave in a packet of its own.
    fn send_segment(&mut self, segment: Segment<'_>) -> io::Result<usize> {
        match (segment.prefix, segment.payload) {
            (bytes, Payload::None) | ([], Payload::Bytes(bytes)) => self.send(bytes, More::Last),
            (prefix, Payload::Bytes(bytes)) => self.send_pair(prefix, bytes),
            ([], Payload::File(part)) => match part.bytes {
                Some(bytes) => self.send(&bytes[..part.len], More::Last),
                None => self.send_file(&part.range.file, part.range.offset, part.len),
            },
            (prefix, Payload::File(_)) => self.send(prefix, More::MoreToCome),
        }
    }

    fn shutdown_write(&mut self) -> io::Result<()>;

    /// Makes the close of the transport an abrupt end, which the peer cannot take for a regular one: a
    /// TCP reset, and no `close_notify` over TLS. A Unix socket has no reset.
    fn abort(&mut self);

    /// Returns how much the peer has not acknowledged of what was sent, and how much it is ready to
    /// receive; `None` if it is not known.
    fn peer_state(&self) -> Option<PeerState>;

    /// Returns true if bytes that were accepted for sending have to be [flushed](Self::flush) before
    /// anything else is sent. Bytes that wait for others (`MoreToCome`) need not be.
    fn holds_back(&self) -> bool {
        false
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// Limits the unsent bytes that the kernel holds beside those in flight. What is chosen to be sent
    /// next waits behind them.
    fn limit_unsent(&self, _bytes: u32) {}
}

/// Implements mio's `Source` for a type that is `AsFd`.
macro_rules! impl_source {
    ($type:ty) => {
        impl mio::event::Source for $type {
            fn register(
                &mut self,
                registry: &mio::Registry,
                token: mio::Token,
                interest: mio::Interest,
            ) -> std::io::Result<()> {
                let fd = std::os::fd::AsRawFd::as_raw_fd(&self.as_fd());
                mio::unix::SourceFd(&fd).register(registry, token, interest)
            }

            fn reregister(
                &mut self,
                registry: &mio::Registry,
                token: mio::Token,
                interest: mio::Interest,
            ) -> std::io::Result<()> {
                let fd = std::os::fd::AsRawFd::as_raw_fd(&self.as_fd());
                mio::unix::SourceFd(&fd).reregister(registry, token, interest)
            }

            fn deregister(&mut self, registry: &mio::Registry) -> std::io::Result<()> {
                let fd = std::os::fd::AsRawFd::as_raw_fd(&self.as_fd());
                mio::unix::SourceFd(&fd).deregister(registry)
            }
        }
    };
}
use impl_source;
