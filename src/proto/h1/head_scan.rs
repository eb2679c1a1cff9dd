//! The search for the end of a request head in received bytes.

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
}
