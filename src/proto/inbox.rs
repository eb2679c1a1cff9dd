//! Received bytes that are not consumed yet.

use super::context::Buffers;

/// The minimum room for a read.
const MIN_READ_BYTES: usize = 4 * 1024;

/// Bytes from the peer, oldest first. It owns a buffer only while it holds bytes.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    buffer: Vec<u8>,
    consumed: usize,
}

impl Inbox {
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.buffer[self.consumed..]
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes().is_empty()
    }

    /// The buffer for the next read, which appends to it within its capacity.
    pub(crate) fn read_buf(&mut self, buffers: &mut Buffers) -> &mut Vec<u8> {
        if self.buffer.capacity() == 0 {
            self.buffer = buffers.take();
        }
        if self.is_empty() {
            self.clear();
        }
        if self.buffer.capacity() - self.buffer.len() < MIN_READ_BYTES {
            self.buffer.drain(..self.consumed);
            self.consumed = 0;
            self.buffer.reserve(MIN_READ_BYTES);
        }
        &mut self.buffer
    }

    /// Removes the first `count` bytes.
    pub(crate) fn consume(&mut self, count: usize) {
        self.consumed = (self.consumed + count).min(self.buffer.len());
    }

    /// Removes `count` bytes after the first `keep`.
    pub(crate) fn consume_behind(&mut self, keep: usize, count: usize) {
        let start = self.consumed + keep;
        self.buffer.drain(start..start + count);
    }

    pub(crate) fn clear(&mut self) {
        self.buffer.clear();
        self.consumed = 0;
    }

    /// Returns the buffer to the pool if it is empty.
    pub(crate) fn release_buffer(&mut self, buffers: &mut Buffers) {
        if self.is_empty() && self.buffer.capacity() > 0 {
            self.consumed = 0;
            buffers.give_back(std::mem::take(&mut self.buffer));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_inbox_returns_its_buffer() {
        let mut buffers = Buffers::new(8 * 1024);
        let mut inbox = Inbox::default();
        inbox.read_buf(&mut buffers).extend_from_slice(b"abcdef");
        inbox.consume(2);
        inbox.consume_behind(1, 2);
        assert_eq!(inbox.bytes(), b"cf");
        inbox.release_buffer(&mut buffers);
        assert_eq!(buffers.free(), 0);
        inbox.consume(2);
        inbox.release_buffer(&mut buffers);
        assert_eq!(buffers.free(), 1);
        assert_eq!(inbox.buffer.capacity(), 0);
    }

    #[test]
    fn read_buf_has_room_for_a_read() {
        let mut buffers = Buffers::new(8 * 1024);
        let mut inbox = Inbox::default();
        for _ in 0..20 {
            let buffer = inbox.read_buf(&mut buffers);
            assert!(buffer.capacity() - buffer.len() >= MIN_READ_BYTES);
            buffer.extend_from_slice(&[b'x'; MIN_READ_BYTES]);
            inbox.consume(MIN_READ_BYTES / 2);
        }
        assert_eq!(inbox.bytes().len(), 10 * MIN_READ_BYTES);
    }
}
