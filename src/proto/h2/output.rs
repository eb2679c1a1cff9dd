//! Frames that are staged for sending, and how much of them the transport has taken.
//!
//! Control frames and the heads of responses are staged when they are due, bodies only when the
//! transport can take them: [`max_data`](Output::max_data) says how much fits in the next frame.
//! A portion has at most [`PORTION_BYTES`]. Its frames end where TLS records do, so that a record
//! has one frame.

use std::collections::VecDeque;

use super::error_code::ErrorCode;
use super::frame::{
    FRAME_HEADER_BYTES, FrameHeader, MAX_FRAME_BYTES, write_goaway, write_headers, write_ping,
    write_ping_ack, write_rst_stream, write_settings_ack, write_window_update,
};
use crate::proto::context::Buffers;

/// What is staged at once, in bytes: four TLS records, the last of them not full. The kernel takes this
/// much in one call at the lowest cost, which `net::transport` explains.
pub(crate) const PORTION_BYTES: usize = 60 * 1024;

/// What is staged at once while several streams have something to send, or the peer is slow: an urgent
/// response waits for no more than this. Less is of no use: with smaller segments, the receive buffer of
/// the peer holds more.
pub(crate) const SMALL_PORTION_BYTES: usize = 32 * 1024;

/// The payload of a TLS record.
const RECORD_BYTES: usize = 16 * 1024;

/// As many frames, with the heads of responses, as small responses in a portion have.
const USUAL_FRAMES: usize = 64;

/// A frame that is shorter only because it would end at a record is joined with the next record.
const MIN_FRAME_BYTES: usize = 1024;

/// Frames of a connection, oldest first. It owns a buffer only while it holds bytes.
#[derive(Debug, Default)]
pub(crate) struct Output {
    /// What is staged, up to `end`. The rest is initialised memory, so that bytes of files are read into it
    /// without being cleared before.
    buffer: Vec<u8>,
    /// How many bytes of `buffer` are staged.
    end: usize,
    /// How many of them the transport has taken.
    sent: usize,
    /// How many bytes the transport has taken in all.
    position: u64,
    /// What is staged and not taken to its end.
    staged: VecDeque<Staged>,
    /// How many bytes of control frames and heads are not taken.
    control_bytes: u32,
    /// How many DATA frames are not taken.
    data_frames: u32,
    /// The frame of a file's bytes that are being read.
    open_frame: Option<OpenFrame>,
}

/// A DATA frame that waits for its bytes, after the head of its response if that is unsent. If there are
/// none, neither is staged.
#[derive(Clone, Copy, Debug)]
struct OpenFrame {
    /// Where the head begins in the buffer.
    head_at: u32,
    /// Where the header of the DATA frame is.
    data_at: u32,
}

/// A frame that is staged, or several control frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Staged {
    /// The position after its last byte.
    end: u64,
    kind: StagedKind,
    pub(crate) stream: u32,
    /// The payload of a DATA frame; the whole length of control frames and heads.
    len: u32,
    pub(crate) ends_stream: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StagedKind {
    /// Control frames, and heads that do not end their stream.
    Control,
    /// The head of a response without a body.
    LastHead,
    Data,
}

impl Staged {
    /// The number of bytes of a body in it.
    pub(crate) fn data_len(&self) -> u64 {
        match self.kind {
            StagedKind::Data => self.len.into(),
            StagedKind::Control | StagedKind::LastHead => 0,
        }
    }
}

impl Output {
    pub(crate) fn is_empty(&self) -> bool {
        self.end == 0
    }

    /// The bytes that are to be sent.
    pub(crate) fn bytes(&self) -> &[u8] {
        debug_assert!(self.open_frame.is_none(), "a frame without its payload");
        &self.buffer[self.sent..self.end]
    }

    /// How many bytes of control frames and heads the transport has not taken.
    pub(crate) fn control_bytes(&self) -> usize {
        self.control_bytes as usize
    }

    /// True if the transport has not taken all DATA that is staged.
    pub(crate) fn has_data(&self) -> bool {
        self.data_frames > 0
    }

    /// How many bytes of DATA fit in the next frame of a portion of this size, and not beyond.
    /// `before` are bytes that are staged before it.
    pub(crate) fn max_data(&self, portion: usize, before: usize) -> usize {
        let staged = self.end - self.sent + before;
        let to_record_end = RECORD_BYTES - staged % RECORD_BYTES;
        let frame = if to_record_end < MIN_FRAME_BYTES {
            to_record_end + RECORD_BYTES
        } else {
            to_record_end
        };
        let room = portion.saturating_sub(staged).min(frame);
        room.saturating_sub(FRAME_HEADER_BYTES).min(MAX_FRAME_BYTES)
    }

    /// Stages a control frame, which `write` appends.
    fn control(&mut self, buffers: &mut Buffers, write: impl FnOnce(&mut Vec<u8>)) {
        let len = self.append(buffers, write);
        self.push_control(len, self.end_position());
    }

    /// Takes note of control frames that end at a position.
    fn push_control(&mut self, len: u32, end: u64) {
        match self.staged.back_mut() {
            Some(last) if last.kind == StagedKind::Control => {
                last.end = end;
                last.len += len;
            }
            _ => self.staged.push_back(Staged {
                end,
                kind: StagedKind::Control,
                stream: 0,
                len,
                ends_stream: false,
            }),
        }
    }

    /// Appends what is no DATA, and returns its length.
    fn append(&mut self, buffers: &mut Buffers, write: impl FnOnce(&mut Vec<u8>)) -> u32 {
        let before = self.end;
        self.write(buffers, write);
        let len = (self.end - before) as u32;
        self.control_bytes += len;
        len
    }

    /// Appends with a function that needs a vector.
    fn write(&mut self, buffers: &mut Buffers, write: impl FnOnce(&mut Vec<u8>)) {
        self.provide_buffer(buffers);
        self.buffer.truncate(self.end);
        write(&mut self.buffer);
        self.end = self.buffer.len();
    }

    /// Appends bytes to the buffer, which there must be.
    fn extend(&mut self, bytes: &[u8]) {
        let end = self.end + bytes.len();
        match self.buffer.get_mut(self.end..end) {
            Some(room) => room.copy_from_slice(bytes),
            None => {
                self.buffer.truncate(self.end);
                self.buffer.extend_from_slice(bytes);
            }
        }
        self.end = end;
    }

    pub(crate) fn settings(&mut self, buffers: &mut Buffers, max_streams: u32, max_head: u32) {
        let write =
            |out: &mut Vec<u8>| super::settings::write_server_settings(out, max_streams, max_head);
        self.control(buffers, write);
    }

    pub(crate) fn settings_ack(&mut self, buffers: &mut Buffers) {
        self.control(buffers, write_settings_ack);
    }

    pub(crate) fn ping(&mut self, buffers: &mut Buffers, data: [u8; 8]) {
        self.control(buffers, |out| write_ping(out, data));
    }

    pub(crate) fn ping_ack(&mut self, buffers: &mut Buffers, data: [u8; 8]) {
        self.control(buffers, |out| write_ping_ack(out, data));
    }

    pub(crate) fn window_update(&mut self, buffers: &mut Buffers, stream: u32, increment: u32) {
        self.control(buffers, |out| write_window_update(out, stream, increment));
    }

    pub(crate) fn rst_stream(&mut self, buffers: &mut Buffers, stream: u32, code: ErrorCode) {
        self.control(buffers, |out| write_rst_stream(out, stream, code));
    }

    pub(crate) fn goaway(
        &mut self,
        buffers: &mut Buffers,
        last: u32,
        code: ErrorCode,
        debug: &str,
    ) {
        self.control(buffers, |out| {
            write_goaway(out, last, code, debug.as_bytes());
        });
    }

    /// Stages the head of a response, whose field block is given.
    pub(crate) fn head(
        &mut self,
        buffers: &mut Buffers,
        stream: u32,
        block: &[u8],
        ends_stream: bool,
    ) {
        let write = |out: &mut Vec<u8>| write_headers(out, stream, block, ends_stream);
        if ends_stream {
            let len = self.append(buffers, write);
            self.push(StagedKind::LastHead, stream, len, true);
        } else {
            self.control(buffers, write);
        }
    }

    /// Stages an interim response, whose field block is given.
    pub(crate) fn interim(&mut self, buffers: &mut Buffers, stream: u32, block: &[u8]) {
        self.control(buffers, |out| write_headers(out, stream, block, false));
    }

    /// Stages a DATA frame of at most [`max_data`](Self::max_data) bytes.
    pub(crate) fn data(
        &mut self,
        buffers: &mut Buffers,
        stream: u32,
        bytes: &[u8],
        ends_stream: bool,
    ) {
        self.provide_buffer(buffers);
        self.extend(&FrameHeader::data(stream, bytes.len(), ends_stream).to_bytes());
        self.extend(bytes);
        self.push_data(stream, bytes.len(), ends_stream);
    }

    /// Opens a DATA frame, whose bytes are then [read](Self::room), after the field block of the response
    /// if that is not staged yet.
    pub(crate) fn open_data(&mut self, buffers: &mut Buffers, stream: u32, block: Option<&[u8]>) {
        self.provide_buffer(buffers);
        let head_at = self.end as u32;
        if let Some(block) = block {
            self.write(buffers, |out| write_headers(out, stream, block, false));
        }
        let data_at = self.end as u32;
        self.extend(&[0; FRAME_HEADER_BYTES]);
        self.open_frame = Some(OpenFrame { head_at, data_at });
    }

    /// The memory for the first `len` bytes of the open frame.
    pub(crate) fn room(&mut self, len: usize) -> &mut [u8] {
        debug_assert!(self.open_frame.is_some(), "no open frame");
        let end = self.end + len;
        if self.buffer.len() < end {
            self.buffer.resize(end, 0);
        }
        &mut self.buffer[self.end..end]
    }

    /// Closes the open frame, of which `len` bytes were read. Without bytes nothing is staged.
    pub(crate) fn close_data(&mut self, stream: u32, len: usize, ends_stream: bool) {
        let Some(OpenFrame { head_at, data_at }) = self.open_frame.take() else {
            return;
        };
        if len == 0 {
            self.end = head_at as usize;
            self.clear_if_taken();
            return;
        }
        let at = data_at as usize;
        if head_at < data_at {
            let head = data_at - head_at;
            self.control_bytes += head;
            let end = self.position + (at - self.sent) as u64;
            self.push_control(head, end);
        }
        debug_assert_eq!(
            self.end,
            at + FRAME_HEADER_BYTES,
            "bytes after an open frame"
        );
        let header = FrameHeader::data(stream, len, ends_stream).to_bytes();
        self.buffer[at..self.end].copy_from_slice(&header);
        self.end += len;
        debug_assert!(self.end <= self.buffer.len());
        self.push_data(stream, len, ends_stream);
    }

    /// The transport has taken `count` bytes. What it has taken to the end is reported to `taken`.
    pub(crate) fn on_written(&mut self, count: usize, mut taken: impl FnMut(Staged)) {
        self.sent += count.min(self.end - self.sent);
        self.position += count as u64;
        while let Some(staged) = self.staged.front().copied() {
            if staged.end > self.position {
                break;
            }
            self.staged.pop_front();
            match staged.kind {
                StagedKind::Control => self.control_bytes -= staged.len,
                StagedKind::LastHead => {
                    self.control_bytes -= staged.len;
                    taken(staged);
                }
                StagedKind::Data => {
                    self.data_frames -= 1;
                    taken(staged);
                }
            }
        }
        self.clear_if_taken();
        // What is staged meanwhile must not make the buffer grow.
        if self.sent >= PORTION_BYTES {
            self.buffer.copy_within(self.sent..self.end, 0);
            self.end -= self.sent;
            self.sent = 0;
        }
    }

    /// How many bytes of the DATA frame that the transport has taken a part of it has taken.
    pub(crate) fn partly_taken(&self) -> Option<(u32, u64)> {
        let is_data = |first: &&Staged| first.kind == StagedKind::Data;
        let first = self.staged.front().filter(is_data)?;
        let payload_start = first.end.checked_sub(first.len.into())?;
        let taken = self.position.saturating_sub(payload_start);
        Some((first.stream, taken))
    }

    /// Drops what is not taken.
    pub(crate) fn abandon(&mut self) {
        let position = self.position;
        *self = Self {
            buffer: std::mem::take(&mut self.buffer),
            position,
            ..Self::default()
        };
        self.buffer.clear();
    }

    /// Returns the buffer to the pool if it is empty.
    pub(crate) fn release_buffer(&mut self, buffers: &mut Buffers) {
        if self.is_empty() && self.buffer.capacity() > 0 {
            buffers.give_back(std::mem::take(&mut self.buffer));
            self.staged = VecDeque::new();
        }
    }

    fn push_data(&mut self, stream: u32, len: usize, ends_stream: bool) {
        self.data_frames += 1;
        self.push(StagedKind::Data, stream, len as u32, ends_stream);
    }

    fn push(&mut self, kind: StagedKind, stream: u32, len: u32, ends_stream: bool) {
        self.staged.push_back(Staged {
            end: self.end_position(),
            kind,
            stream,
            len,
            ends_stream,
        });
    }

    /// The position after the last staged byte.
    fn end_position(&self) -> u64 {
        self.position + (self.end - self.sent) as u64
    }

    fn clear_if_taken(&mut self) {
        if self.sent == self.end {
            self.end = 0;
            self.sent = 0;
        }
    }

    fn provide_buffer(&mut self, buffers: &mut Buffers) {
        if self.buffer.capacity() == 0 {
            self.buffer = buffers.take();
            self.staged.reserve(USUAL_FRAMES);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_end_where_tls_records_do() {
        let mut buffers = Buffers::new(PORTION_BYTES);
        let mut output = Output::default();
        output.ping_ack(&mut buffers, [0; 8]);
        let mut ends = Vec::new();
        loop {
            let max = output.max_data(PORTION_BYTES, 0);
            if max == 0 {
                break;
            }
            output.data(&mut buffers, 1, &vec![b'x'; max], false);
            ends.push(output.bytes().len());
        }
        assert_eq!(ends, [16_384, 32_768, 49_152, PORTION_BYTES]);
    }

    #[test]
    fn short_rest_of_a_record_is_not_a_frame() {
        let mut buffers = Buffers::new(PORTION_BYTES);
        let mut output = Output::default();
        output.data(&mut buffers, 1, &vec![b'x'; RECORD_BYTES - 9 - 100], false);
        // Longer than what is left of the record, and than a frame may be.
        assert_eq!(output.max_data(PORTION_BYTES, 0), MAX_FRAME_BYTES);
        assert_eq!(output.max_data(RECORD_BYTES, 0), 91);
    }

    #[test]
    fn taken_frames_are_reported_in_order_once() {
        let mut buffers = Buffers::new(PORTION_BYTES);
        let mut output = Output::default();
        output.head(&mut buffers, 1, b"block", false);
        output.data(&mut buffers, 1, b"abc", true);
        output.head(&mut buffers, 3, b"block", true);
        output.ping_ack(&mut buffers, [0; 8]);
        assert_eq!(output.control_bytes(), 14 + 14 + 17);
        let mut reported = Vec::new();
        let total = output.bytes().len();
        for at in 0..total {
            let report = |staged: Staged| reported.push((at + 1, staged.stream, staged.data_len()));
            output.on_written(1, report);
            if at == 14 + 9 {
                assert_eq!(output.partly_taken(), Some((1, 1)));
            }
        }
        assert_eq!(reported, [(26, 1, 3), (40, 3, 0)]);
        assert!(output.is_empty() && !output.has_data());
        assert_eq!(output.control_bytes(), 0);
    }

    #[test]
    fn frame_without_bytes_of_a_file_is_not_sent() {
        let mut buffers = Buffers::new(PORTION_BYTES);
        let mut output = Output::default();
        for block in [None, Some(&b"block"[..])] {
            output.open_data(&mut buffers, 1, block);
            output.close_data(1, 0, false);
            assert!(output.is_empty());
            assert_eq!(output.control_bytes(), 0);
        }
        output.open_data(&mut buffers, 1, None);
        output.room(6).copy_from_slice(b"abcdef");
        output.close_data(1, 4, true);
        assert_eq!(output.bytes(), b"\0\0\x04\0\x01\0\0\0\x01abcd");
        // With the head of the response.
        output.open_data(&mut buffers, 3, Some(b"block"));
        output.room(2).copy_from_slice(b"xy");
        output.close_data(3, 2, true);
        assert_eq!(output.control_bytes(), 14);
        let mut reported = Vec::new();
        for at in 0..output.bytes().len() {
            output.on_written(1, |staged| reported.push((at, staged.stream, staged.len)));
        }
        assert_eq!(reported, [(12, 1, 4), (12 + 14 + 11, 3, 2)]);
        assert_eq!(output.control_bytes(), 0);
    }

    #[test]
    fn buffer_does_not_grow_while_it_is_never_empty() {
        let mut buffers = Buffers::new(PORTION_BYTES);
        let mut output = Output::default();
        output.ping_ack(&mut buffers, [0; 8]);
        for _ in 0..100_000 {
            output.ping_ack(&mut buffers, [0; 8]);
            output.on_written(17, |_| {});
        }
        assert_eq!(output.bytes().len(), 17);
        assert!(output.buffer.capacity() <= 4 * PORTION_BYTES);
    }
}
