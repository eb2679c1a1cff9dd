//! Byte ranges and the Range field (RFC 9110 §14).

use super::list;

/// A range of bytes of a representation: `start < end <= length`, so it is never empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ByteRange {
    pub(crate) start: u64,
    /// One past the last byte.
    pub(crate) end: u64,
}

impl ByteRange {
    pub(crate) fn len(self) -> u64 {
        self.end - self.start
    }

    /// Appends the Content-Range value for this range of `length` bytes (RFC 9110 §14.4).
    pub(crate) fn push_content_range(self, length: u64, out: &mut Vec<u8>) {
        for (before, number) in [
            (&b"bytes "[..], self.start),
            (b"-", self.end - 1),
            (b"/", length),
        ] {
            out.extend_from_slice(before);
            out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
        }
    }

    /// Returns whether the ranges overlap, adjoin, or are so close that a second part would cost more
    /// bytes than the gap.
    fn touches(self, other: Self) -> bool {
        let gap = self
            .start
            .max(other.start)
            .saturating_sub(self.end.min(other.end));
        gap < MERGED_GAP_BYTES
    }

    fn span(self, other: Self) -> Self {
        Self {
            start: self.start.min(other.start),
            end: self.end.max(other.end),
        }
    }
}

/// A request for more ranges is treated as an attack and its Range field ignored (RFC 9110 §17.15).
/// Apache's limit is 200. Document viewers request a handful; clients that download the changed
/// blocks of a file (zsync, zchunk) request dozens, and need them as parts.
const MAX_RANGES: usize = 256;

/// Ranges with a smaller gap between them are merged: another part costs more bytes than the gap
/// (RFC 9110 §15.3.7.2).
const MERGED_GAP_BYTES: u64 = 80;

/// The ranges of a representation that a Range field requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RangeRequest {
    /// The field is ignored and the whole representation is sent, as RFC 9110 §14.2 permits: the unit
    /// is not bytes, the field is ill-formed, or it has too many ranges.
    Full,
    /// 206 with this range as its content.
    Part(ByteRange),
    /// 206 as multipart/byteranges: two ranges or more, at least [`MERGED_GAP_BYTES`] apart, so that
    /// their sum never exceeds the whole. They are in the order of the request.
    Parts(Vec<ByteRange>),
    /// 416: well-formed, but every range begins after the last byte.
    Unsatisfiable,
}

impl RangeRequest {
    /// Adds a range. It takes the position of the first part that it touches, because a client may
    /// want the parts in the order of the request (RFC 9110 §15.3.7.2).
    fn with(self, range: ByteRange) -> Self {
        match self {
            Self::Full => Self::Full,
            Self::Unsatisfiable => Self::Part(range),
            Self::Part(part) if part.touches(range) => Self::Part(part.span(range)),
            Self::Part(part) => Self::Parts(vec![part, range]),
            Self::Parts(mut parts) => {
                insert(&mut parts, range);
                match parts[..] {
                    [part] => Self::Part(part),
                    _ => Self::Parts(parts),
                }
            }
        }
    }
}

/// Inserts a range into parts that do not touch each other: the parts that the range touches are
/// removed and merged with it. The union may touch a further part, so the search is repeated; each
/// iteration removes a part.
fn insert(parts: &mut Vec<ByteRange>, mut range: ByteRange) {
    let mut position = parts.len();
    while let Some(at) = parts.iter().position(|part| part.touches(range)) {
        range = range.span(parts.remove(at));
        position = position.min(at);
    }
    parts.insert(position, range);
}

/// Parses a Range field for a representation of `length` bytes.
pub(crate) fn parse(value: &[u8], length: u64) -> RangeRequest {
    requested(value, length).unwrap_or(RangeRequest::Full)
}

/// `None` for a field that is ignored.
fn requested(value: &[u8], length: u64) -> Option<RangeRequest> {
    let (unit, set) = split_at_byte(value, b'=')?;
    if !unit.eq_ignore_ascii_case(b"bytes") {
        return None;
    }
    // RFC 9110 §5.6.1.2: empty members are skipped, but the list must not be empty.
    let mut members = list::members(set).enumerate().peekable();
    members.peek()?;
    let mut request = RangeRequest::Unsatisfiable;
    for (before, member) in members {
        if before == MAX_RANGES {
            return None;
        }
        if let Some(range) = byte_range_spec(member)?.of(length) {
            request = request.with(range);
        }
    }
    Some(request)
}

/// One range specifier (RFC 9110 §14.1.2).
enum Spec {
    /// `first-last`, or `first-` with `last` at its largest.
    From { first: u64, last: u64 },
    /// `-suffix`: the last `suffix` bytes.
    Suffix(u64),
}

fn byte_range_spec(text: &[u8]) -> Option<Spec> {
    let (first, last) = split_at_byte(text, b'-')?;
    match (first, last) {
        (b"", suffix) => Some(Spec::Suffix(digits(suffix)?)),
        (first, b"") => Some(Spec::From {
            first: digits(first)?,
            last: u64::MAX,
        }),
        (first, last) => {
            let (first, last) = (digits(first)?, digits(last)?);
            (first <= last).then_some(Spec::From { first, last })
        }
    }
}

/// Parses a decimal number. One that does not fit into 64 bits is beyond the end of every
/// representation, as the largest one is.
fn digits(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let push = |number: u64, digit: &u8| {
        let tens = number.saturating_mul(10);
        tens.saturating_add(u64::from(digit - b'0'))
    };
    Some(text.iter().fold(0, push))
}

/// Splits at the first `separator`, which is in neither part.
fn split_at_byte(text: &[u8], separator: u8) -> Option<(&[u8], &[u8])> {
    let at = text.iter().position(|byte| *byte == separator)?;
    Some((&text[..at], &text[at + 1..]))
}

impl Spec {
    /// The bytes that the specifier selects of `length` bytes; `None` if it selects none.
    fn of(&self, length: u64) -> Option<ByteRange> {
        let (start, end) = match *self {
            Self::From { first, last } => (first, last.saturating_add(1).min(length)),
            Self::Suffix(suffix) => (length.saturating_sub(suffix), length),
        };
        (start < end).then_some(ByteRange { start, end })
    }
}

#[cfg(test)]
mod tests;
