//! What carries bytes to the peer and back, without ever waiting.

pub(crate) mod any;
pub(crate) mod sock_diag;
pub(crate) mod socket;
#[cfg(feature = "tls")]
pub(crate) mod tls;
use std::fs::File;
use std::io;

use crate::proto::segment::{Payload, Segment};

/// Whether more bytes follow at once, so that a packet need not leave half full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum More {
    MoreToCome,
    Last,
}

/// What a read has brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Received {
    /// So many bytes, and there may be more. None, if what has come is not content yet.
    Partial(usize),
    /// So many bytes, which is all there was.
    Drained(usize),
    /// The peer sends nothing more.
    Eof,
}

/// A non-blocking stream. Every method does at most one thing and reports `WouldBlock` as an
/// error; `Interrupted` never comes out.
pub(crate) trait Transport {
    /// Appends what has come to `room`, within its capacity.
    fn recv(&mut self, room: &mut Vec<u8>) -> io::Result<Received>;

    fn send(&mut self, bytes: &[u8], more: More) -> io::Result<usize>;

    /// Both pieces in one go.
    fn send_pair(&mut self, first: &[u8], second: &[u8]) -> io::Result<usize>;

    /// A part of a file; 0 if the file ends before `offset`.
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

    /// Bytes that were taken from us and not yet by the peer; `None` if that cannot be known.
    fn unacknowledged(&self) -> Option<u32>;

    /// True if something that was taken from us is still to be handed to the kernel, which
    /// [`flush`](Self::flush) does, before anything else is sent.
    fn holds_back(&self) -> bool {
        false
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
