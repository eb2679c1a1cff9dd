//! What carries bytes to the peer and back, without ever waiting.

use std::fs::File;
use std::io::{self, IoSlice, Write};
use std::net::Shutdown;
use std::os::unix::fs::FileExt;

use mio::net::TcpStream;
use rustix::buffer::spare_capacity;
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{RecvFlags, SendFlags};

use super::acknowledged;

/// Whether more bytes follow at once, so that a packet need not leave half full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum More {
    Follows,
    No,
}

/// What a read has brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Received {
    /// So many bytes, and there may be more.
    Some(usize),
    /// So many bytes, which is all there was.
    All(usize),
    /// The peer sends nothing more.
    End,
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

    fn shutdown_write(&mut self) -> io::Result<()>;

    /// Bytes that were taken from us and not yet by the peer; `None` if that cannot be known.
    fn unacknowledged(&self) -> Option<u32>;
}

impl Transport for TcpStream {
    fn recv(&mut self, room: &mut Vec<u8>) -> io::Result<Received> {
        let receive = || rustix::net::recv(&*self, spare_capacity(&mut *room), RecvFlags::empty());
        let (count, _) = retry_on_intr(receive)?;
        Ok(match count {
            0 => Received::End,
            count if room.len() < room.capacity() => Received::All(count),
            count => Received::Some(count),
        })
    }

    fn send(&mut self, bytes: &[u8], more: More) -> io::Result<usize> {
        let flags = match more {
            More::Follows => SendFlags::NOSIGNAL | SendFlags::MORE,
            More::No => SendFlags::NOSIGNAL,
        };
        Ok(retry_on_intr(|| rustix::net::send(&*self, bytes, flags))?)
    }

    fn send_pair(&mut self, first: &[u8], second: &[u8]) -> io::Result<usize> {
        loop {
            match self.write_vectored(&[IoSlice::new(first), IoSlice::new(second)]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }

    fn send_file(&mut self, file: &File, offset: u64, len: usize) -> io::Result<usize> {
        let mut position = offset;
        let send = || rustix::fs::sendfile(&*self, file, Some(&mut position), len);
        match retry_on_intr(send) {
            // A file system that cannot splice: some FUSE and pseudo file systems.
            Err(Errno::INVAL | Errno::NOSYS) => send_copy(self, file, offset, len),
            result => Ok(result?),
        }
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }

    fn unacknowledged(&self) -> Option<u32> {
        let (local, peer) = (self.local_addr().ok()?, self.peer_addr().ok()?);
        acknowledged::unacknowledged(local, peer).ok()
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
        count => transport.send(&bytes[..count], More::No),
    }
}
