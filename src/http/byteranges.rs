//! The framing of `multipart/byteranges` (RFC 9110 §14.6): several ranges of one representation in one
//! message. It knows the bytes around the parts and the length of the whole, not the parts' content.

use ::http::HeaderValue;
use bytes::Bytes;

use super::range::ByteRange;

/// A multipart message: for each part its head and then its range, then the closing delimiter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Multipart {
    /// The Content-Type of the message. The message has no Content-Range (RFC 9110 §15.3.7.2).
    pub(crate) content_type: HeaderValue,
    pub(crate) parts: Vec<BodyPart>,
    /// The closing delimiter.
    pub(crate) end: Bytes,
    /// The length of the message in bytes: heads, ranges and closing delimiter.
    pub(crate) content_length: u64,
}

/// One body part. Its head begins with the delimiter, which includes the preceding line break
/// (RFC 2046 §5.1.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BodyPart {
    pub(crate) head: Bytes,
    pub(crate) range: ByteRange,
}

impl Multipart {
    /// Frames `ranges` of a representation of the given media type and of `length` bytes.
    ///
    /// The delimiter must not occur in the content, which is not searched for it: `boundary` must be
    /// a number that an author of the content cannot guess. Returns `None` if the length of the
    /// message does not fit into 64 bits.
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
            parts.push(BodyPart { head, range });
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

/// The head of one part. A header value has no line breaks, so a media type cannot end the head.
fn head(media_type: &HeaderValue, length: u64, range: ByteRange, boundary: u64) -> Bytes {
    let mut head = format!("\r\n--{boundary:016x}\r\nContent-Type: ").into_bytes();
    head.extend_from_slice(media_type.as_bytes());
    head.extend_from_slice(b"\r\nContent-Range: ");
    range.push_content_range(length, &mut head);
    head.extend_from_slice(b"\r\n\r\n");
    Bytes::from(head)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

    /// The message as the connection sends it.
    fn serialize(multipart: &Multipart, content: &[u8]) -> Vec<u8> {
        let mut message = Vec::new();
        for BodyPart { head, range } in &multipart.parts {
            message.extend_from_slice(head);
            message.extend_from_slice(&content[range.start as usize..range.end as usize]);
        }
        message.extend_from_slice(&multipart.end);
        message
    }

    #[test]
    fn multipart_message_matches_golden_bytes() {
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
            serialize(&multipart, b"0123456789")
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
    fn length_beyond_64_bits_is_none() {
        let prefix = |end| [ByteRange { start: 0, end }];
        assert_eq!(Multipart::new(&TEXT, u64::MAX, &prefix(u64::MAX), 0), None);
        // The closing delimiter alone may exceed the limit.
        let framed = Multipart::new(&TEXT, u64::MAX, &prefix(1), 0).expect("a short message");
        let framing = framed.content_length - 1;
        // The last position has as many digits as the length here, one more than 0 has.
        let digits = u64::MAX.to_string().len() as u64 - 1;
        let max = u64::MAX - framing - digits;
        let longest = Multipart::new(&TEXT, u64::MAX, &prefix(max), 0);
        assert_eq!(longest.map(|framed| framed.content_length), Some(u64::MAX));
        assert_eq!(Multipart::new(&TEXT, u64::MAX, &prefix(max + 1), 0), None);
    }

    proptest! {
        #[test]
        fn content_length_equals_message_length(
            length in 1..2000u64,
            requested in proptest::collection::vec((0..2000u64, 1..2000u64), 0..16),
            boundary in any::<u64>(),
        ) {
            let ranges: Vec<ByteRange> = requested
                .iter()
                .map(|(start, len)| ByteRange { start: start % length, end: start + len })
                .map(|range| ByteRange { end: range.end.min(length), ..range })
                .collect();
            let multipart = Multipart::new(&TEXT, length, &ranges, boundary).expect("a short message");
            let message = serialize(&multipart, &vec![b'x'; length as usize]);
            prop_assert_eq!(message.len() as u64, multipart.content_length);
            // The delimiter occurs once for each part and once at the end.
            let shown = multipart.content_type.to_str().expect("ASCII");
            let (_, boundary) = shown.split_once("boundary=").expect("a boundary");
            let delimiter = format!("\r\n--{boundary}");
            let found = memchr::memmem::find_iter(&message, &delimiter).count();
            prop_assert_eq!(found, ranges.len() + 1);
        }
    }
}
