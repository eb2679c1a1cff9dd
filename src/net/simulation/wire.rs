//! The simulated kernel's side of a connection, and the simulated disk.
//!
//! Events are edge-triggered in the strictest sense: there is one when the input becomes non-empty,
//! when it ends, when a write has returned `WouldBlock` and there is room again, and when the
//! connection is reset. No event is repeated.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io;
use std::ops::Range;
use std::rc::Rc;

use super::rng::Rng;
use crate::net::connection::Readiness;
use crate::net::transport::{More, Received, Transport};
use crate::proto::peer_state::PeerState;

/// The state that both ends of a connection share.
pub(super) struct Wire {
    rng: Rng,
    /// Bytes received and not read.
    incoming: VecDeque<u8>,
    pub(super) max_incoming: usize,
    input: WireInput,
    /// Total number of bytes read.
    pub(super) read: usize,
    /// Whether a read has returned the end of the input.
    pub(super) end_was_read: bool,
    /// Number of bytes the peer has not taken.
    outgoing: usize,
    pub(super) max_outgoing: usize,
    /// All bytes the server has sent.
    pub(super) sent: Vec<u8>,
    pub(super) shut_down: bool,
    /// Whether the server has made the end of the connection a reset.
    pub(super) aborted: bool,
    /// Whether a write has returned `WouldBlock`, so that there will be an event about room.
    write_blocked: bool,
    /// Whether a read or a write has returned `WouldBlock` and there was no event since.
    read_would_block: bool,
    write_would_block: bool,
    /// The event that is pending.
    pending_event: Option<Readiness>,
    /// The range of the disk that is known to be in the page cache.
    pub(super) resident: Range<u64>,
    /// The position and kind of the fault of each faulty file, by the start of the file.
    pub(super) faults: HashMap<u64, (u64, Fault)>,
    /// Number of times a fault was hit.
    pub(super) faults_hit: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WireInput {
    Open,
    Ended,
    /// Bytes sent now are answered with a reset.
    Closed,
    Reset,
}

/// A fault of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The file ends too early.
    Shrunk,
    /// The disk returns an error.
    Unreadable,
}

/// The distance between the starts of two files on the disk.
pub(super) const FILE_STRIDE: u64 = 1 << 32;

/// Returns the byte at a position of the disk.
pub(super) fn byte_at(position: u64) -> u8 {
    (position.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8
}

impl Wire {
    pub(super) fn new(mut rng: Rng) -> Rc<RefCell<Self>> {
        let event = Readiness {
            writable: true,
            ..Readiness::default()
        };
        Rc::new(RefCell::new(Self {
            incoming: VecDeque::new(),
            max_incoming: rng.size(200_000),
            input: WireInput::Open,
            read: 0,
            end_was_read: false,
            outgoing: 0,
            max_outgoing: rng.size(200_000),
            sent: Vec::new(),
            shut_down: false,
            aborted: false,
            write_blocked: false,
            read_would_block: false,
            write_would_block: false,
            // The kernel may announce a new socket as writable.
            pending_event: rng.one_in(2).then_some(event),
            resident: 0..0,
            faults: HashMap::new(),
            faults_hit: 0,
            rng,
        }))
    }

    /// The peer sends the beginning of `bytes`. Returns how many bytes fit.
    pub(super) fn put(&mut self, bytes: &[u8]) -> usize {
        let count = bytes.len().min(self.max_incoming - self.incoming.len());
        // A kernel may repeat the event for further bytes; that must not be relied on.
        if count > 0 && (self.incoming.is_empty() || self.rng.one_in(2)) {
            self.notify(Readiness {
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

    /// The peer reads up to `count` bytes.
    pub(super) fn take(&mut self, count: usize) {
        self.outgoing -= count.min(self.outgoing);
        // Linux notifies when a third is free.
        if self.write_blocked && self.outgoing <= self.max_outgoing * 2 / 3 {
            self.write_blocked = false;
            self.notify(Readiness {
                writable: true,
                ..Readiness::default()
            });
        }
    }

    pub(super) fn untaken(&self) -> usize {
        self.outgoing
    }

    pub(super) fn end_input(&mut self) {
        self.input = WireInput::Ended;
        self.notify(Readiness {
            readable: true,
            writable: self.shut_down,
            read_closed: true,
        });
    }

    pub(super) fn close_input(&mut self) {
        self.end_input();
        self.input = WireInput::Closed;
        self.outgoing = 0;
    }

    pub(super) fn reset(&mut self) {
        self.input = WireInput::Reset;
        self.incoming.clear();
        self.outgoing = 0;
        self.notify(Readiness {
            readable: true,
            writable: true,
            read_closed: true,
        });
    }

    fn notify(&mut self, more: Readiness) {
        let event = self.pending_event.get_or_insert_default();
        event.readable |= more.readable;
        event.writable |= more.writable;
        event.read_closed |= more.read_closed;
    }

    pub(super) fn is_reset(&self) -> bool {
        self.input == WireInput::Reset
    }

    pub(super) fn has_event(&self) -> bool {
        self.pending_event.is_some()
    }

    /// Returns the event as a poll reports it: with the current state, which may include what was
    /// reported before.
    pub(super) fn take_event(&mut self) -> Option<Readiness> {
        let event = self.pending_event.take()?;
        self.read_would_block = false;
        self.write_would_block = false;
        let now = Readiness {
            readable: self.is_readable(),
            writable: self.is_writable(),
            read_closed: self.input != WireInput::Open,
        };
        let any = now.readable || now.writable || now.read_closed;
        match self.rng.below(3) {
            0 => any.then_some(now),
            1 => Some(event),
            _ => Some(Readiness {
                readable: event.readable,
                writable: event.writable || now.writable,
                read_closed: now.read_closed,
            }),
        }
    }

    /// Returns true if a read would not return `WouldBlock`.
    pub(super) fn is_readable(&self) -> bool {
        !self.incoming.is_empty() || self.input != WireInput::Open
    }

    /// Returns true if a write would not return `WouldBlock`, and no event about it will follow.
    pub(super) fn is_writable(&self) -> bool {
        !self.write_blocked && (self.outgoing < self.max_outgoing || self.input == WireInput::Reset)
    }

    fn send(&mut self, len: usize) -> io::Result<usize> {
        assert!(len > 0, "an empty write");
        assert!(!self.shut_down, "a write after the shutdown");
        match self.input {
            WireInput::Reset => return Err(io::ErrorKind::ConnectionReset.into()),
            WireInput::Closed => {
                self.reset();
                return Ok(len);
            }
            WireInput::Open | WireInput::Ended => {}
        }
        let room = self.max_outgoing - self.outgoing;
        if room == 0 || self.write_blocked {
            assert!(!self.write_would_block, "repeated writes without an event");
            self.write_would_block = true;
            self.write_blocked = true;
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let max = len.min(room);
        let count = if self.rng.one_in(3) {
            self.rng.size(max)
        } else {
            max
        };
        self.outgoing += count;
        Ok(count)
    }
}

/// The server's end of a connection.
pub(super) struct SimulatedSocket(pub(super) Rc<RefCell<Wire>>);

impl Transport for SimulatedSocket {
    fn abort(&mut self) {
        self.0.borrow_mut().aborted = true;
    }

    fn peer_state(&self) -> Option<PeerState> {
        None
    }

    fn recv(&mut self, buffer: &mut Vec<u8>) -> io::Result<Received> {
        let wire = &mut *self.0.borrow_mut();
        let max = buffer.capacity() - buffer.len();
        assert!(max > 0, "a read into a full buffer would look like the end");
        assert!(!wire.end_was_read, "a read after the end");
        if wire.input == WireInput::Reset {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        // Everything that fits: a stream never returns less.
        let count = wire.incoming.len().min(max);
        buffer.extend(wire.incoming.drain(..count));
        wire.read += count;
        match count {
            0 if wire.input == WireInput::Open => {
                assert!(!wire.read_would_block, "repeated reads without an event");
                wire.read_would_block = true;
                Err(io::ErrorKind::WouldBlock.into())
            }
            0 => {
                wire.end_was_read = true;
                Ok(Received::Eof)
            }
            count if count < max => Ok(Received::Drained(count)),
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
        let is_resident = wire.resident.start <= offset && offset + len as u64 <= wire.resident.end;
        assert!(is_resident, "{len} bytes at {offset} would block");
        let start = offset / FILE_STRIDE * FILE_STRIDE;
        let mut len = len;
        if let Some((at, fault)) = wire.faults.get(&start).copied() {
            if offset >= at {
                wire.faults_hit += 1;
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
        assert!(!wire.shut_down, "a second shutdown");
        if wire.input == WireInput::Reset {
            return Err(io::ErrorKind::NotConnected.into());
        }
        wire.shut_down = true;
        Ok(())
    }
}
