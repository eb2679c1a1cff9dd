//! The header fields of a request, borrowed from its bytes.

use std::borrow::Cow;
use std::ops::Range;

/// The position of one field line in the bytes of a head. Offsets instead of references, so that the
/// table of them can be reused for the next request.
#[derive(Clone, Debug)]
pub(crate) struct FieldSpan {
    pub(crate) name: Range<u32>,
    pub(crate) value: Range<u32>,
}

/// The header fields of a request, in the order in which they were received.
///
/// A field may occur on several lines. Names are compared without case (RFC 9110 §5.1); values are
/// bytes, as nothing guarantees that they are UTF-8.
#[derive(Clone, Debug, Default)]
pub struct Fields<'a> {
    bytes: Cow<'a, [u8]>,
    spans: Cow<'a, [FieldSpan]>,
}

impl<'a> Fields<'a> {
    pub(crate) fn new(bytes: &'a [u8], spans: &'a [FieldSpan]) -> Self {
        Self {
            bytes: Cow::Borrowed(bytes),
            spans: Cow::Borrowed(spans),
        }
    }

    /// Returns an iterator over all field lines as name and value. Values have no leading or trailing
    /// white space.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.spans.iter().map(|span| {
            let name = std::str::from_utf8(self.slice(&span.name)).unwrap_or_default();
            (name, self.slice(&span.value))
        })
    }

    /// Returns an iterator over the values of all field lines of that name.
    pub fn all<'s>(&'s self, name: &str) -> impl DoubleEndedIterator<Item = &'s [u8]> {
        self.spans
            .iter()
            .filter(move |span| self.slice(&span.name).eq_ignore_ascii_case(name.as_bytes()))
            .map(|span| self.slice(&span.value))
    }

    /// Returns the value of the first field line of that name.
    pub fn first(&self, name: &str) -> Option<&[u8]> {
        self.all(name).next()
    }

    fn slice(&self, range: &Range<u32>) -> &[u8] {
        &self.bytes[range.start as usize..range.end as usize]
    }

    pub(super) fn push(&mut self, name: &str, value: &[u8]) {
        let bytes = self.bytes.to_mut();
        let mut append = |text: &[u8]| {
            let start = bytes.len() as u32;
            bytes.extend_from_slice(text);
            start..bytes.len() as u32
        };
        let span = FieldSpan {
            name: append(name.as_bytes()),
            value: append(value),
        };
        self.spans.to_mut().push(span);
    }

    pub(super) fn into_owned(self) -> Fields<'static> {
        Fields {
            bytes: Cow::Owned(self.bytes.into_owned()),
            spans: Cow::Owned(self.spans.into_owned()),
        }
    }

    pub(super) fn reborrow(&self) -> Fields<'_> {
        Fields::new(&self.bytes, &self.spans)
    }
}

/// Returns whether the byte is a `tchar` of RFC 9110 §5.6.2.
pub(crate) fn is_token_char(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Returns whether the byte may be part of a field value: HTAB, SP, VCHAR, obs-text (RFC 9110 §5.5).
pub(crate) fn is_field_text(byte: u8) -> bool {
    matches!(byte, b'\t' | 0x20..=0x7E | 0x80..)
}
