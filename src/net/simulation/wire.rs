//! The kernel's part of a connection, and the disk.
//!
//! Events are edge-triggered in the strictest sense: there is one when the input becomes not empty,
//! when it ends, when a write was turned away and there is room again, and when the connection
//! breaks. Nobody is told twice.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io;
use std::ops::Range;
use std::rc::Rc;

use super::rng::Rng;
use crate::net::connection::Readiness;
use crate::net::transport::{More, Received, Transport};

/// What both ends of a connection share.
pub(super) struct Wire {
    rng: Rng,
    /// Bytes that have come and are not read.
    incoming: VecDeque<u8>,
    max_incoming: usize,
    input: Input,
    /// How many bytes were read in all.
    pub(super) read: usize,
    /// True once a read has said that this was all.
    pub(super) end_was_read: bool,
    /// How many bytes the peer has not taken.
    outgoing: usize,
    max_outgoing: usize,
    /// Every byte that was ever taken from the server.
    pub(super) sent: Vec<u8>,
    pub(super) shut_down: bool,
    /// A write was turned away, and there will be an event about room.
    rejected: bool,
    /// True if a read or a write was turned away and nothing was told since.
    read_in_vain: bool,
    written_in_vain: bool,
    /// What there is an event about.
    news: Option<Readiness>,
    /// Where a file can be sent from, as far as anybody has looked.
    pub(super) in_memory: Range<u64>,
    /// Where files are broken, by where each begins.
    pub(super) faults: HashMap<u64, (u64, Fault)>,
    /// How often one was met.
    pub(super) faults_met: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Input {
    Open,
    Ended,
    /// What is sent now is answered with a reset.
    Closed,
    Reset,
}

/// What is wrong with a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// It ends too early.
    Shrunk,
    /// The disk cannot read it.
    Unreadable,
}

/// Each file has so much of the disk's positions to itself.
pub(super) const FILE_STRIDE: u64 = 1 << 32;

/// The byte that lies on the disk at a position.
pub(super) fn byte_at(position: u64) -> u8 {
    (position.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8
}

impl Wire {
    pub(super) fn new(mut rng: Rng) -> Rc<RefCell<Self>> {
        let news = Readiness {
            writable: true,
            ..Readiness::default()
        };
        Rc::new(RefCell::new(Self {
            incoming: VecDeque::new(),
            max_incoming: rng.size(200_000),
            input: Input::Open,
            read: 0,
            end_was_read: false,
            outgoing: 0,
            max_outgoing: rng.size(200_000),
            sent: Vec::new(),
            shut_down: false,
            rejected: false,
            read_in_vain: false,
            written_in_vain: false,
            // One that is new is announced as writable.
            news: rng.one_in(2).then_some(news),
            in_memory: 0..0,
            faults: HashMap::new(),
            faults_met: 0,
            rng,
        }))
    }

    /// The peer sends the beginning of `bytes`; how much fits.
    pub(super) fn put(&mut self, bytes: &[u8]) -> usize {
        let count = bytes.len().min(self.max_incoming - self.incoming.len());
        // A kernel may say it again for what comes on top; that is nothing to rely on.
        if count > 0 && (self.incoming.is_empty() || self.rng.one_in(2)) {
            self.tell(Readiness {
                readable: true,
                ..Readiness::default()
            });
        }
        self.incoming.extend(&bytes[..count]);
        count
    }

    pub(super) fn has_room_for_input(&self) -> bool {
        self.incoming.len() < self.max_incoming
    }

    /// The peer takes up to `count` bytes.
    pub(super) fn take(&mut self, count: usize) {
        self.outgoing -= count.min(self.outgoing);
        // Linux waits for a third to be free.
        if self.rejected && self.outgoing <= self.max_outgoing * 2 / 3 {
            self.rejected = false;
            self.tell(Readiness {
                writable: true,
                ..Readiness::default()
            });
        }
    }

    pub(super) fn untaken(&self) -> usize {
        self.outgoing
    }

    pub(super) fn end_input(&mut self) {
        self.input = Input::Ended;
        self.tell(Readiness {
            readable: true,
            writable: self.shut_down,
            read_closed: true,
        });
    }

    pub(super) fn close_input(&mut self) {
        self.end_input();
        self.input = Input::Closed;
        self.outgoing = 0;
    }

    pub(super) fn reset(&mut self) {
        self.input = Input::Reset;
        self.incoming.clear();
        self.outgoing = 0;
        self.tell(Readiness {
            readable: true,
            writable: true,
            read_closed: true,
        });
    }

    fn tell(&mut self, more: Readiness) {
        let news = self.news.get_or_insert_default();
        news.readable |= more.readable;
        news.writable |= more.writable;
        news.read_closed |= more.read_closed;
    }

    pub(super) fn is_reset(&self) -> bool {
        self.input == Input::Reset
    }

    pub(super) fn has_news(&self) -> bool {
        self.news.is_some()
    }

    /// The event as a poll reports it: what is so by then. It may tell what is known already.
    pub(super) fn take_news(&mut self) -> Option<Readiness> {
        let told = self.news.take()?;
        self.read_in_vain = false;
        self.written_in_vain = false;
        let now = Readiness {
            readable: self.is_readable(),
            writable: self.is_writable(),
            read_closed: self.input != Input::Open,
        };
        let any = now.readable || now.writable || now.read_closed;
        match self.rng.below(3) {
            0 => any.then_some(now),
            1 => Some(told),
            _ => Some(Readiness {
                readable: told.readable,
                writable: told.writable || now.writable,
                read_closed: now.read_closed,
            }),
        }
    }

    /// True if a read would not be turned away.
    pub(super) fn is_readable(&self) -> bool {
        !self.incoming.is_empty() || self.input != Input::Open
    }

    /// True if a write would not be turned away, and nobody will be told.
    pub(super) fn is_writable(&self) -> bool {
        !self.rejected && (self.outgoing < self.max_outgoing || self.input == Input::Reset)
    }

    fn send(&mut self, len: usize) -> io::Result<usize> {
        assert!(len > 0, "a write of nothing");
        assert!(!self.shut_down, "a write after the end");
        match self.input {
            Input::Reset => return Err(io::ErrorKind::ConnectionReset.into()),
            Input::Closed => {
                self.reset();
                return Ok(len);
            }
            Input::Open | Input::Ended => {}
        }
        let room = self.max_outgoing - self.outgoing;
        if room == 0 || self.rejected {
            assert!(!self.written_in_vain, "it asks and asks for room");
            self.written_in_vain = true;
            self.rejected = true;
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let most = len.min(room);
        let count = match self.rng.one_in(3) {
            true => self.rng.size(most),
            false => most,
        };
        self.outgoing += count;
        Ok(count)
    }
}

/// The server's end.
pub(super) struct Socket(pub(super) Rc<RefCell<Wire>>);

impl Transport for Socket {
    fn unacknowledged(&self) -> Option<u32> {
        None
    }

    fn recv(&mut self, room: &mut Vec<u8>) -> io::Result<Received> {
        let wire = &mut *self.0.borrow_mut();
        let most = room.capacity() - room.len();
        assert!(most > 0, "a read into no room looks like the end");
        assert!(!wire.end_was_read, "a read behind the end");
        if wire.input == Input::Reset {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        // All that there is: a stream never gives less.
        let count = wire.incoming.len().min(most);
        room.extend(wire.incoming.drain(..count));
        wire.read += count;
        match count {
            0 if wire.input == Input::Open => {
                assert!(!wire.read_in_vain, "it asks and asks for input");
                wire.read_in_vain = true;
                Err(io::ErrorKind::WouldBlock.into())
            }
            0 => {
                wire.end_was_read = true;
                Ok(Received::Eof)
            }
            count if count < most => Ok(Received::Drained(count)),
            count => Ok(Received::Partial(count)),
        }
    }

    fn send(&mut self, bytes: &[u8], _: More) -> io::Result<usize> {
        let wire = &mut *self.0.borrow_mut();
        let count = wire.send(bytes.len())?;
        wire.sent.extend_from_slice(&bytes[..count]);
        Ok(count)
    }

    fn send_pair(&mut self, first: &[u8], second: &[u8]) -> io::Result<usize> {
        let wire = &mut *self.0.borrow_mut();
        let count = wire.send(first.len() + second.len())?;
        let of_first = count.min(first.len());
        wire.sent.extend_from_slice(&first[..of_first]);
        wire.sent.extend_from_slice(&second[..count - of_first]);
        Ok(count)
    }

    fn send_file(&mut self, _: &File, offset: u64, len: usize) -> io::Result<usize> {
        let wire = &mut *self.0.borrow_mut();
        let known = wire.in_memory.start <= offset && offset + len as u64 <= wire.in_memory.end;
        assert!(known, "{len} bytes at {offset} would be waited for");
        let start = offset / FILE_STRIDE * FILE_STRIDE;
        let mut len = len;
        if let Some((at, fault)) = wire.faults.get(&start).copied() {
            if offset >= at {
                wire.faults_met += 1;
                return match fault {
                    Fault::Shrunk => Ok(0),
                    Fault::Unreadable => Err(io::Error::other("a broken disk")),
                };
            }
            len = len.min((at - offset) as usize);
        }
        let count = wire.send(len)?;
        wire.sent
            .extend((offset..offset + count as u64).map(byte_at));
        Ok(count)
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        let wire = &mut *self.0.borrow_mut();
        assert!(!wire.shut_down, "an end behind the end");
        if wire.input == Input::Reset {
            return Err(io::ErrorKind::NotConnected.into());
        }
        wire.shut_down = true;
        Ok(())
    }
}
