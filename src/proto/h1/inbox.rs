//! Received bytes that are not consumed yet, and the search for the end of a head in them.

use crate::proto::context::Buffers;

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

/// The result of a search for the end of a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scan {
    /// The length of the head in bytes, including its empty line.
    Complete(usize),
    /// The end has not been received. The lines before this offset are complete and need not be scanned
    /// again.
    Incomplete(usize),
    /// A line that ends before this offset ends with a bare LF. Some parsers accept that as a line end
    /// and some do not (RFC 9112 §2.2), so it must be rejected.
    BareLf(usize),
}

/// Searches for the end of the head from `scanned` on, which is 0 or the offset of an earlier
/// [`Scan::Incomplete`]. The head must not begin with an empty line.
pub(crate) fn scan_head(bytes: &[u8], scanned: usize) -> Scan {
    let mut line_start = scanned;
    for offset in memchr::memchr_iter(b'\n', &bytes[scanned..]) {
        let line_feed = scanned + offset;
        if line_feed == line_start || bytes[line_feed - 1] != b'\r' {
            return Scan::BareLf(line_feed + 1);
        }
        if line_feed - 1 == line_start {
            return Scan::Complete(line_feed + 1);
        }
        line_start = line_feed + 1;
    }
    Scan::Incomplete(line_start)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_line_ends_head() {
        let table: &[(&[u8], Scan)] = &[
            (b"", Scan::Incomplete(0)),
            (b"GET / HTT", Scan::Incomplete(0)),
            (b"GET / HTTP/1.1\r\n", Scan::Incomplete(16)),
            (b"GET / HTTP/1.1\r\nHost: h\r\n\r", Scan::Incomplete(25)),
            (b"GET / HTTP/1.1\r\nHost: h\r\n\r\nnext", Scan::Complete(27)),
            (b"GET / HTTP/1.1\nHost: h\n\n", Scan::BareLf(15)),
            (b"GET / HTTP/1.1\r\nHost: h\r\n\n", Scan::BareLf(26)),
            (b"\n", Scan::BareLf(1)),
        ];
        for (bytes, expected) in table {
            assert_eq!(scan_head(bytes, 0), *expected, "{bytes:?}");
        }
    }

    #[test]
    fn scan_resumes_at_last_complete_line() {
        let bytes = b"GET / HTTP/1.1\r\nHost: h\r\nA: b\r\n\r\n";
        let mut scanned = 0;
        for len in 0..bytes.len() {
            match scan_head(&bytes[..len], scanned) {
                Scan::Incomplete(next) => scanned = next,
                other => panic!("{len}: {other:?}"),
            }
        }
        assert_eq!(scan_head(bytes, scanned), Scan::Complete(bytes.len()));
    }

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
