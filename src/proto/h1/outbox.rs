//! Heads and content still to send.
//!
//! Heads and small contents are gathered in one buffer, so that one write carries them all, those
//! of several pipelined replies too. A content that is not small stands behind the buffer as what
//! it is, a piece of memory, of a file, or somebody who makes pieces, and nothing else joins the
//! queue until it is sent.

use std::collections::VecDeque;
use std::time::Instant;

use bytes::{Buf, Bytes};

use super::chunked;
use crate::body::FileRange;
use crate::body::file_range::Resident;
use crate::body::stream::BodySource;
use crate::http::Body;
use crate::proto::context::Buffers;
use crate::proto::exchange::RequestInfo;
use crate::proto::record::{InFlightRecord, Record};
use crate::proto::transfer::{Direction, StalledOn, TransferProgress};

/// Contents up to this size are copied behind their head. Up to about here a copy is cheaper than
/// a second write or a `sendfile`.
pub(crate) const SMALL_CONTENT_BYTES: usize = 32 * 1024;

#[derive(Debug, Default)]
pub(crate) struct Outbox {
    buffer: Vec<u8>,
    /// How many bytes of `buffer` are sent.
    buffer_sent: usize,
    /// Apart, because few replies have it and every connection an outbox.
    bulk: Option<Box<Bulk>>,
    /// Only while there is something in it.
    trail: Option<Box<Trail>>,
}

/// The content that stands behind the buffer; never an empty one.
#[derive(Debug)]
enum Bulk {
    Bytes(Bytes),
    File(FileOnItsWay),
    Made(Making),
}

/// The replies on their way that somebody wants records of.
#[derive(Debug, Default)]
struct Trail {
    /// Bytes of the stream to this peer that were sent since the first of them was pushed.
    sent: u64,
    /// Those that are not sent whole, oldest first.
    pending: VecDeque<InFlightRecord>,
}

/// A part of a file that is being sent.
#[derive(Debug)]
pub(crate) struct FileOnItsWay {
    /// What is left of it.
    pub(crate) range: FileRange,
    /// Where it began.
    start: u64,
    /// Where its head begins in the buffer.
    head_at: usize,
    memory: Memory,
}

/// How much of what is left is known to be in memory.
#[derive(Debug, PartialEq, Eq)]
enum Memory {
    /// This; nothing if nobody has looked.
    Has(Resident),
    /// Somebody looks.
    Unknown,
}

impl Memory {
    const NOTHING: Self = Self::Has(Resident::InKernel(0));
}

impl FileOnItsWay {
    /// How many bytes can be sent without waiting for a disk.
    pub(crate) fn in_memory(&self) -> u64 {
        match &self.memory {
            Memory::Has(at_hand) => at_hand.len().min(self.range.len),
            Memory::Unknown => 0,
        }
    }

    /// Those of them that the kernel need not have.
    pub(crate) fn read(&self) -> Option<&[u8]> {
        match &self.memory {
            Memory::Has(Resident::Read(bytes)) => Some(bytes),
            _ => None,
        }
    }

    /// True if some of it is sent, so that time has passed since it was promised.
    pub(crate) fn is_begun(&self) -> bool {
        self.range.offset > self.start
    }
}

/// A content that is made while it is sent. The pieces go through the buffer.
#[derive(Debug)]
struct Making {
    coding: StreamCoding,
    /// `None` while somebody makes the next piece.
    source: Option<BodySource>,
}

/// How the end of a stream is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StreamCoding {
    /// By the length that was announced.
    Length { left: u64 },
    /// RFC 9112 §7.1.
    Chunked,
    /// By closing the connection, for HTTP/1.0.
    UntilClose,
}

/// Whether a stream has the length that was announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Promise {
    Kept,
    Broken,
}

/// What an outbox that is not empty needs.
pub(crate) enum Need {
    /// To be written.
    Write,
    /// The beginning of this in the kernel's memory.
    Memory(FileRange),
    /// A piece of this.
    Piece(BodySource),
    /// The piece that is being made.
    Wait,
}

/// The next piece to write, all of it or a part.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Segment<'a> {
    /// The last bytes there are for now.
    Bytes(&'a [u8]),
    /// Two pieces of memory, for one vectored write.
    Pair(&'a [u8], &'a [u8]),
    /// Bytes that a file range follows at once.
    BytesBeforeFile(&'a [u8]),
    /// A part of a file.
    File(&'a FileOnItsWay),
}

impl Outbox {
    pub(crate) fn is_empty(&self) -> bool {
        self.buffer.is_empty() && self.bulk.is_none()
    }

    /// True if another reply must wait until something is sent.
    pub(crate) fn is_full(&self, max_bytes: usize) -> bool {
        self.has_bulk() || self.buffer.len() >= max_bytes
    }

    /// True if nothing can be written until a piece is made.
    pub(crate) fn is_waiting(&self) -> bool {
        match self.bulk.as_deref() {
            Some(Bulk::Made(making)) => making.source.is_none() && self.buffer.is_empty(),
            Some(Bulk::File(file)) => file.memory == Memory::Unknown,
            Some(Bulk::Bytes(_)) | None => false,
        }
    }

    pub(crate) fn has_bulk(&self) -> bool {
        self.bulk.is_some()
    }

    /// The content that stands behind the buffer, and how far it has come.
    pub(crate) fn passage(&self) -> Option<TransferProgress<'_>> {
        let bulk = self.bulk.as_deref()?;
        let trail = self.trail.as_deref()?;
        // Nothing joins the queue behind bulk: it belongs to the last.
        let pending = trail.pending.back()?;
        let moved = trail.sent.saturating_sub(pending.content_start);
        let (total, stall) = match bulk {
            Bulk::Bytes(_) => (
                Some(pending.end.saturating_sub(pending.content_start)),
                None,
            ),
            Bulk::File(file) => (
                Some(pending.end.saturating_sub(pending.content_start)),
                (file.memory == Memory::Unknown).then_some(StalledOn::Disk),
            ),
            Bulk::Made(making) => (
                match making.coding {
                    StreamCoding::Length { left } => {
                        Some((self.end() + left).saturating_sub(pending.content_start))
                    }
                    StreamCoding::Chunked | StreamCoding::UntilClose => None,
                },
                (making.source.is_none() && self.buffer.is_empty()).then_some(StalledOn::Handler),
            ),
        };
        Some(TransferProgress {
            direction: Direction::Down,
            info: &pending.info,
            moved,
            total,
            stall,
        })
    }

    /// The stream position at which the next byte that is pushed will stand.
    pub(crate) fn end(&self) -> u64 {
        let unsent = self.buffer.len() - self.buffer_sent;
        let bulk = match self.bulk.as_deref() {
            None | Some(Bulk::Made(_)) => 0,
            Some(Bulk::Bytes(bytes)) => bytes.len() as u64,
            Some(Bulk::File(file)) => file.range.len,
        };
        let sent = self.trail.as_ref().map_or(0, |trail| trail.sent);
        sent + unsent as u64 + bulk
    }

    /// The buffer, for a head to be appended. Only if the outbox is not full.
    pub(crate) fn head_buffer(&mut self, buffers: &mut Buffers) -> &mut Vec<u8> {
        debug_assert!(self.bulk.is_none(), "a reply behind bulk");
        if self.buffer.capacity() == 0 {
            self.buffer = buffers.take();
        }
        &mut self.buffer
    }

    /// Puts a content behind the head that was appended last, which announced `coding` if the
    /// content is a stream.
    pub(crate) fn push_content(&mut self, body: Body, coding: StreamCoding, head_at: usize) {
        let bulk = match body {
            Body::Bytes(bytes) if bytes.len() <= SMALL_CONTENT_BYTES => {
                self.buffer.extend_from_slice(&bytes);
                return;
            }
            Body::Bytes(bytes) => Bulk::Bytes(bytes),
            Body::File(range) if range.len > 0 => Bulk::File(FileOnItsWay {
                start: range.offset,
                head_at,
                range,
                memory: Memory::NOTHING,
            }),
            Body::Stream(stream) => Bulk::Made(Making {
                coding,
                source: Some(stream.source),
            }),
            Body::File(_) | Body::Empty => return,
        };
        self.bulk = Some(Box::new(bulk));
    }

    /// What is to be done next. Only if the outbox is not empty.
    pub(crate) fn need(&mut self) -> Need {
        match self.bulk.as_deref_mut() {
            Some(Bulk::Made(making)) if self.buffer.is_empty() => match making.source.take() {
                Some(source) => Need::Piece(source),
                None => Need::Wait,
            },
            // Before the head, too: it would leave in a packet of its own.
            Some(Bulk::File(file)) => match &file.memory {
                Memory::Has(at_hand) if at_hand.len() == 0 => {
                    file.memory = Memory::Unknown;
                    Need::Memory(file.range.clone())
                }
                Memory::Has(_) => Need::Write,
                Memory::Unknown => Need::Wait,
            },
            _ => Need::Write,
        }
    }

    /// Takes back the reply whose file cannot be read, and what was to be recorded of it; `None` if
    /// some of it is sent.
    pub(crate) fn take_back_file(&mut self) -> Option<Option<RequestInfo>> {
        let head_at = match self.bulk.as_deref() {
            Some(Bulk::File(file)) => file.head_at,
            _ => return None,
        };
        if self.buffer_sent > head_at || self.buffer.len() <= head_at {
            return None;
        }
        self.buffer.truncate(head_at);
        self.bulk = None;
        let pending = self
            .trail
            .as_mut()
            .and_then(|trail| trail.pending.pop_back());
        Some(pending.map(|pending| pending.info))
    }

    /// Notes that time will pass: what is in the kernel's memory need not be there then, and what is
    /// in ours should not.
    pub(crate) fn forget_memory(&mut self) {
        if let Some(Bulk::File(file)) = self.bulk.as_deref_mut()
            && file.memory != Memory::Unknown
        {
            file.memory = Memory::NOTHING;
        }
    }

    /// Notes that the beginning of the file is in memory.
    pub(crate) fn set_in_memory(&mut self, at_hand: Resident) {
        if let Some(Bulk::File(file)) = self.bulk.as_deref_mut() {
            file.memory = Memory::Has(at_hand);
        }
    }

    /// Appends a piece of the stream, or its end; the source comes back if there may be more.
    pub(crate) fn push_piece(
        &mut self,
        piece: Option<(Bytes, BodySource)>,
        buffers: &mut Buffers,
    ) -> Promise {
        let Some(Bulk::Made(making)) = self.bulk.as_deref_mut() else {
            return Promise::Kept;
        };
        if self.buffer.capacity() == 0 {
            self.buffer = buffers.take();
        }
        match piece {
            Some((bytes, source)) => {
                making.source = Some(source);
                match &mut making.coding {
                    StreamCoding::Length { left } => match left.checked_sub(bytes.len() as u64) {
                        Some(less) => {
                            *left = less;
                            self.buffer.extend_from_slice(&bytes);
                        }
                        None => return Promise::Broken,
                    },
                    StreamCoding::Chunked => chunked::encode(&bytes, &mut self.buffer),
                    StreamCoding::UntilClose => self.buffer.extend_from_slice(&bytes),
                }
            }
            None => {
                match making.coding {
                    StreamCoding::Length { left: 1.. } => return Promise::Broken,
                    StreamCoding::Chunked => self.buffer.extend_from_slice(chunked::LAST_CHUNK),
                    StreamCoding::Length { left: 0 } | StreamCoding::UntilClose => {}
                }
                self.bulk = None;
                let end = self.end();
                let last = self
                    .trail
                    .as_mut()
                    .and_then(|trail| trail.pending.back_mut());
                if let Some(pending) = last {
                    pending.end = end;
                }
            }
        }
        Promise::Kept
    }

    pub(crate) fn push_pending(&mut self, pending: InFlightRecord) {
        let trail = self.trail.get_or_insert_default();
        trail.pending.push_back(pending);
    }

    /// The next piece to write. Only if the outbox is not empty.
    pub(crate) fn segment(&self) -> Segment<'_> {
        let unsent = &self.buffer[self.buffer_sent..];
        match self.bulk.as_deref() {
            None | Some(Bulk::Made(_)) => Segment::Bytes(unsent),
            Some(Bulk::Bytes(bytes)) if unsent.is_empty() => Segment::Bytes(bytes),
            Some(Bulk::Bytes(bytes)) => Segment::Pair(unsent, bytes),
            Some(Bulk::File(file)) if unsent.is_empty() => Segment::File(file),
            Some(Bulk::File(_)) => Segment::BytesBeforeFile(unsent),
        }
    }

    /// Notes that the first `count` bytes of what [`segment`](Self::segment) showed are sent.
    pub(crate) fn on_sent(&mut self, count: usize) {
        if let Some(trail) = &mut self.trail {
            trail.sent += count as u64;
        }
        let of_buffer = count.min(self.buffer.len() - self.buffer_sent);
        self.buffer_sent += of_buffer;
        if self.buffer_sent == self.buffer.len() {
            self.buffer.clear();
            self.buffer_sent = 0;
        }
        let of_bulk = count - of_buffer;
        let left = match self.bulk.as_deref_mut() {
            None | Some(Bulk::Made(_)) => return,
            Some(Bulk::Bytes(bytes)) => {
                bytes.advance(of_bulk);
                bytes.len() as u64
            }
            Some(Bulk::File(file)) => {
                let sent = of_bulk as u64;
                file.range.offset += sent;
                file.range.len -= sent;
                if let Memory::Has(at_hand) = &mut file.memory {
                    at_hand.advance(sent);
                }
                file.range.len
            }
        };
        if left == 0 {
            self.bulk = None;
        }
    }

    /// The record of the oldest reply, if it is sent whole.
    pub(crate) fn take_complete(&mut self, now: Instant) -> Option<Record> {
        let trail = self.trail.as_ref()?;
        let complete = trail.pending.front()?.end <= trail.sent;
        complete.then(|| self.take_any(now)).flatten()
    }

    /// The record of the oldest reply, sent whole or not.
    pub(crate) fn take_any(&mut self, now: Instant) -> Option<Record> {
        let trail = self.trail.as_mut()?;
        let pending = trail.pending.pop_front()?;
        Some(pending.into_record(trail.sent, now))
    }

    /// Drops what is not sent; the records stay.
    pub(crate) fn abandon(&mut self) {
        self.buffer.clear();
        self.buffer_sent = 0;
        self.bulk = None;
    }

    /// Returns the memory if there is nothing in it.
    pub(crate) fn rest(&mut self, buffers: &mut Buffers) {
        if self.buffer.is_empty() && self.buffer.capacity() > 0 {
            buffers.give_back(std::mem::take(&mut self.buffer));
        }
        self.trail.take_if(|trail| trail.pending.is_empty());
    }
}
