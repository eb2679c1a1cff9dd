//! Byte ranges (RFC 9110 §14).

/// A part of a representation: `start < end <= length`, so it is never empty.
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
}

/// What a Range field asks of a representation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RangeRequest {
    /// Nothing that this server does: no bytes unit, ill-formed, or several ranges. The field is
    /// ignored and the whole is sent, as RFC 9110 §14.2 allows in each of these cases.
    Whole,
    /// 206.
    Part(ByteRange),
    /// 416: well-formed, but it begins behind the last byte.
    Unsatisfiable,
}

/// Reads a Range field for a representation of `length` bytes.
pub(crate) fn parse(value: &[u8], length: u64) -> RangeRequest {
    let spec = std::str::from_utf8(value).ok().and_then(byte_range_spec);
    match spec {
        None => RangeRequest::Whole,
        Some(spec) => spec
            .of(length)
            .map_or(RangeRequest::Unsatisfiable, RangeRequest::Part),
    }
}

/// One range as it is written, RFC 9110 §14.1.2.
enum Spec {
    /// `first-last`, or `first-` with `last` at its largest.
    From { first: u64, last: u64 },
    /// `-suffix`: the last so many bytes.
    Suffix(u64),
}

fn byte_range_spec(value: &str) -> Option<Spec> {
    let (unit, set) = value.split_once('=')?;
    if !unit.eq_ignore_ascii_case("bytes") || set.contains(',') {
        return None;
    }
    let (first, last) = set.trim_matches([' ', '\t']).split_once('-')?;
    match (first, last) {
        ("", suffix) => Some(Spec::Suffix(digits(suffix)?)),
        (first, "") => Some(Spec::From {
            first: digits(first)?,
            last: u64::MAX,
        }),
        (first, last) => {
            let (first, last) = (digits(first)?, digits(last)?);
            (first <= last).then_some(Spec::From { first, last })
        }
    }
}

/// A number too large for 64 bits lies behind every representation, like the largest there is.
fn digits(text: &str) -> Option<u64> {
    let all = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    all.then(|| text.parse().unwrap_or(u64::MAX))
}

impl Spec {
    fn of(&self, length: u64) -> Option<ByteRange> {
        let (start, end) = match *self {
            Self::From { first, last } => (first, last.saturating_add(1).min(length)),
            Self::Suffix(suffix) => (length.saturating_sub(suffix), length),
        };
        (start < end).then_some(ByteRange { start, end })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn part(start: u64, end: u64) -> RangeRequest {
        RangeRequest::Part(ByteRange { start, end })
    }

    #[test]
    fn ranges() {
        use RangeRequest::{Unsatisfiable, Whole};
        let table = [
            ("bytes=0-99", 1000, part(0, 100)),
            ("bytes=0-0", 1000, part(0, 1)),
            ("Bytes=5-", 1000, part(5, 1000)),
            ("bytes=-5", 1000, part(995, 1000)),
            ("bytes=-5000", 1000, part(0, 1000)),
            ("bytes=999-5000", 1000, part(999, 1000)),
            ("bytes= 1-2 ", 1000, part(1, 3)),
            ("bytes=0-18446744073709551615", 1000, part(0, 1000)),
            ("bytes=0-99999999999999999999999", 1000, part(0, 1000)),
            ("bytes=1000-", 1000, Unsatisfiable),
            ("bytes=99999999999999999999999-", 1000, Unsatisfiable),
            ("bytes=-0", 1000, Unsatisfiable),
            ("bytes=0-", 0, Unsatisfiable),
            ("bytes=-1", 0, Unsatisfiable),
            ("bytes=2-1", 1000, Whole),
            ("bytes=-", 1000, Whole),
            ("bytes=", 1000, Whole),
            ("bytes=a-b", 1000, Whole),
            ("bytes=+1-2", 1000, Whole),
            ("bytes=1 - 2", 1000, Whole),
            ("lines=1-2", 1000, Whole),
            ("bytes", 1000, Whole),
            ("bytes=0-1,2-3", 1000, Whole),
        ];
        for (value, length, expected) in table {
            assert_eq!(parse(value.as_bytes(), length), expected, "{value}");
        }
        assert_eq!(parse(b"bytes=\xFF-", 1000), Whole);
    }

    proptest! {
        #[test]
        fn a_part_is_what_a_slice_would_be(first in 0..40u64, last in 0..40u64, length in 0..30u64) {
            let whole: Vec<u64> = (0..length).collect();
            let wanted: Vec<u64> = (first..=last).filter(|at| *at < length).collect();
            match parse(format!("bytes={first}-{last}").as_bytes(), length) {
                RangeRequest::Part(range) => {
                    prop_assert_eq!(&whole[range.start as usize..range.end as usize], &wanted[..]);
                    prop_assert_eq!(range.len(), wanted.len() as u64);
                }
                RangeRequest::Unsatisfiable => prop_assert!(first <= last && wanted.is_empty()),
                RangeRequest::Whole => prop_assert!(first > last),
            }
        }
    }
}
