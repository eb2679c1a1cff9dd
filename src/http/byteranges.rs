//! The framing of several parts of one representation: `multipart/byteranges` (RFC 9110 §14.6).
//! It knows what stands around the parts and how long all of it is, not the bytes in them.

use ::http::HeaderValue;
use bytes::Bytes;

use super::range::ByteRange;

/// A message of several parts: for each of them its head and then its range, then the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Multipart {
    /// The Content-Type of the message. There is no Content-Range beside it (RFC 9110 §15.3.7.2).
    pub(crate) content_type: HeaderValue,
    pub(crate) parts: Vec<Part>,
    /// The delimiter that closes the last part.
    pub(crate) end: Bytes,
    /// Of everything: heads, ranges and end.
    pub(crate) content_length: u64,
}

/// One part. Its head begins with the delimiter, which owns the line break before it
/// (RFC 2046 §5.1.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) head: Bytes,
    pub(crate) range: ByteRange,
}

impl Multipart {
    /// Frames `ranges` of a representation of that media type and of `length` bytes.
    ///
    /// The delimiter must not occur in the content, which nobody has read: make `boundary` a
    /// number that whoever wrote the content could not guess. `None` if the length of the message
    /// is no 64-bit number.
    pub(crate) fn new(
        media_type: &HeaderValue,
        length: u64,
        ranges: &[ByteRange],
        boundary: u64,
    ) -> Option<Self> {
        let end = Bytes::from(format!("\r\n--{boundary:016x}--\r\n"));
        let mut content_length = end.len() as u64;
        let mut parts = Vec::with_capacity(ranges.len());
        for &range in ranges {
            let head = head(media_type, length, range, boundary);
            content_length = content_length
                .checked_add(head.len() as u64)?
                .checked_add(range.len())?;
            parts.push(Part { head, range });
        }
        let content_type = format!("multipart/byteranges; boundary={boundary:016x}");
        Some(Self {
            content_type: HeaderValue::try_from(content_type).ok()?,
            parts,
            end,
            content_length,
        })
    }
}

/// A header value has no line breaks, so a media type cannot end the head of its part.
fn head(media_type: &HeaderValue, length: u64, range: ByteRange, boundary: u64) -> Bytes {
    let content_range = range.content_range(length);
    let fields: [&[u8]; 5] = [
        b"\r\nContent-Type: ",
        media_type.as_bytes(),
        b"\r\nContent-Range: ",
        content_range.as_bytes(),
        b"\r\n\r\n",
    ];
    let mut head = format!("\r\n--{boundary:016x}").into_bytes();
    head.extend(fields.concat());
    Bytes::from(head)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

    /// What the connection will send.
    fn written(multipart: &Multipart, content: &[u8]) -> Vec<u8> {
        let mut message = Vec::new();
        for Part { head, range } in &multipart.parts {
            message.extend_from_slice(head);
            message.extend_from_slice(&content[range.start as usize..range.end as usize]);
        }
        message.extend_from_slice(&multipart.end);
        message
    }

    #[test]
    fn byte_for_byte() {
        let ranges = [
            ByteRange { start: 7, end: 10 },
            ByteRange { start: 0, end: 1 },
        ];
        let multipart = Multipart::new(&TEXT, 10, &ranges, 0xB0_0B).expect("a short message");
        let expected = "\r\n--000000000000b00b\r\n\
            Content-Type: text/plain; charset=utf-8\r\n\
            Content-Range: bytes 7-9/10\r\n\r\n\
            789\
            \r\n--000000000000b00b\r\n\
            Content-Type: text/plain; charset=utf-8\r\n\
            Content-Range: bytes 0-0/10\r\n\r\n\
            0\
            \r\n--000000000000b00b--\r\n";
        assert_eq!(
            written(&multipart, b"0123456789")
                .escape_ascii()
                .to_string(),
            expected.as_bytes().escape_ascii().to_string()
        );
        assert_eq!(multipart.content_length, expected.len() as u64);
        assert_eq!(
            multipart.content_type,
            "multipart/byteranges; boundary=000000000000b00b"
        );
    }

    #[test]
    fn lengths_at_the_edge_of_64_bits() {
        let all = |end| [ByteRange { start: 0, end }];
        assert_eq!(Multipart::new(&TEXT, u64::MAX, &all(u64::MAX), 0), None);
        // The end may be what does not fit.
        let framed = Multipart::new(&TEXT, u64::MAX, &all(1), 0).expect("a short message");
        let framing = framed.content_length - 1;
        // The last position has as many digits as the length here, one more than 0 has.
        let digits = u64::MAX.to_string().len() as u64 - 1;
        let most = u64::MAX - framing - digits;
        let longest = Multipart::new(&TEXT, u64::MAX, &all(most), 0);
        assert_eq!(longest.map(|framed| framed.content_length), Some(u64::MAX));
        assert_eq!(Multipart::new(&TEXT, u64::MAX, &all(most + 1), 0), None);
    }

    proptest! {
        #[test]
        fn the_content_length_is_that_of_the_message(
            length in 1..2000u64,
            asked in proptest::collection::vec((0..2000u64, 1..2000u64), 0..16),
            boundary in any::<u64>(),
        ) {
            let ranges: Vec<ByteRange> = asked
                .iter()
                .map(|(start, len)| ByteRange { start: start % length, end: start + len })
                .map(|range| ByteRange { end: range.end.min(length), ..range })
                .collect();
            let multipart = Multipart::new(&TEXT, length, &ranges, boundary).expect("a short message");
            let message = written(&multipart, &vec![b'x'; length as usize]);
            prop_assert_eq!(message.len() as u64, multipart.content_length);
            // The delimiter is the boundary of the Content-Type, once for each part and at the end.
            let shown = multipart.content_type.to_str().expect("ASCII");
            let (_, boundary) = shown.split_once("boundary=").expect("a boundary");
            let delimiter = format!("\r\n--{boundary}");
            let found = memchr::memmem::find_iter(&message, &delimiter).count();
            prop_assert_eq!(found, ranges.len() + 1);
        }
    }
}
