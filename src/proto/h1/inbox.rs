//! Received bytes that are not yet consumed, and the search for the end of a head in them.

use crate::proto::context::Buffers;

/// The least room that is worth a read.
const MIN_ROOM: usize = 4 * 1024;

/// Bytes from the peer, oldest first. It owns a buffer only from the first byte to the last.
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

    /// Room for the next read: whoever reads appends to it, within its capacity.
    pub(crate) fn room(&mut self, buffers: &mut Buffers) -> &mut Vec<u8> {
        if self.buffer.capacity() == 0 {
            self.buffer = buffers.take();
        }
        if self.is_empty() {
            self.clear();
        }
        if self.buffer.capacity() - self.buffer.len() < MIN_ROOM {
            self.buffer.drain(..self.consumed);
            self.consumed = 0;
            self.buffer.reserve(MIN_ROOM);
        }
        &mut self.buffer
    }

    /// Forgets the first `count` bytes.
    pub(crate) fn consume(&mut self, count: usize) {
        self.consumed = (self.consumed + count).min(self.buffer.len());
    }

    /// Forgets `count` bytes that stand behind the first `keep`.
    pub(crate) fn consume_behind(&mut self, keep: usize, count: usize) {
        let start = self.consumed + keep;
        self.buffer.drain(start..start + count);
    }

    pub(crate) fn clear(&mut self) {
        self.buffer.clear();
        self.consumed = 0;
    }

    /// Returns the buffer if nothing is in it.
    pub(crate) fn release_buffer(&mut self, buffers: &mut Buffers) {
        if self.is_empty() && self.buffer.capacity() > 0 {
            self.consumed = 0;
            buffers.give_back(std::mem::take(&mut self.buffer));
        }
    }
}

/// What is known about the end of a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scan {
    /// The head is this long, its empty line included.
    Complete(usize),
    /// It has not come yet; the lines before this offset are whole and need not be looked at again.
    Incomplete(usize),
    /// A line ends, before this offset, with LF alone, which some would read as a line end and
    /// others not (RFC 9112 §2.2): nothing is to be guessed here.
    BareLf(usize),
}

/// Looks for the end of the head from `scanned`, which is 0 or what an earlier
/// [`Scan::Incomplete`] said. The head must not begin with an empty line.
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
    fn heads_end_with_an_empty_line() {
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
    fn a_scan_goes_on_where_it_stopped() {
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
    fn a_buffer_is_owned_only_while_it_holds_bytes() {
        let mut buffers = Buffers::new(8 * 1024);
        let mut inbox = Inbox::default();
        inbox.room(&mut buffers).extend_from_slice(b"abcdef");
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
    fn there_is_always_room_for_a_read() {
        let mut buffers = Buffers::new(8 * 1024);
        let mut inbox = Inbox::default();
        for _ in 0..20 {
            let room = inbox.room(&mut buffers);
            assert!(room.capacity() - room.len() >= MIN_ROOM);
            room.extend_from_slice(&[b'x'; MIN_ROOM]);
            inbox.consume(MIN_ROOM / 2);
        }
        assert_eq!(inbox.bytes().len(), 10 * MIN_ROOM);
    }
}
