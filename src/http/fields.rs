//! The header fields of a request, borrowed from its bytes.

use std::borrow::Cow;
use std::iter::FusedIterator;
use std::ops::Range;

/// The position of one field line in the bytes of a head. Offsets instead of references, so that the
/// table of them can be reused for the next request.
#[derive(Clone, Debug)]
pub(crate) struct FieldSpan {
    pub(crate) name: Range<u32>,
    pub(crate) value: Range<u32>,
}

impl FieldSpan {
    /// The length of the name. Cheaper than [`Range::len`], which checks for an end before the start.
    fn name_len(&self) -> usize {
        self.name.end.wrapping_sub(self.name.start) as usize
    }
}

/// The header fields of a request, in the order in which they were received.
///
/// A field may occur on several lines. Names are compared without case (RFC 9110 §5.1); values are
/// bytes, as nothing guarantees that they are UTF-8.
#[derive(Clone, Debug, Default)]
pub struct Fields<'a> {
    bytes: Cow<'a, [u8]>,
    spans: Cow<'a, [FieldSpan]>,
    names: NameFilter,
}

/// The field lines of a request as names and values: see [`Fields::iter`].
#[derive(Clone, Debug)]
pub struct FieldsIter<'a> {
    bytes: &'a [u8],
    spans: std::slice::Iter<'a, FieldSpan>,
}

/// A field that must not be repeated is on several lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Repeated;

/// A multiset of field names: a Bloom filter with one hash function. Most names that a server looks up
/// are not in a request, and the others are there once. The filter tells both without a comparison with
/// each field.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct NameFilter {
    /// The bits of the names.
    present: u64,
    /// The bits that two names have.
    repeated: u64,
}

impl NameFilter {
    pub(crate) const fn of(names: &[&str]) -> Self {
        let mut filter = Self {
            present: 0,
            repeated: 0,
        };
        let mut at = 0;
        while at < names.len() {
            filter.insert(names[at].as_bytes());
            at += 1;
        }
        filter
    }

    pub(crate) const fn insert(&mut self, name: &[u8]) {
        let bit = Self::bit(name);
        self.repeated |= self.present & bit;
        self.present |= bit;
    }

    #[inline]
    pub(crate) fn may_contain(self, name: &[u8]) -> bool {
        self.present & Self::bit(name) != 0
    }

    #[inline]
    fn may_repeat(self, name: &[u8]) -> bool {
        self.repeated & Self::bit(name) != 0
    }

    /// Returns the bit of a name in any case. The factors are such that no name that is looked up for
    /// files has the bit of another field that browsers send. Inlined, so that the bit of a literal is a
    /// constant.
    #[inline]
    const fn bit(name: &[u8]) -> u64 {
        let (Some(first), Some(last)) = (name.first(), name.last()) else {
            return 1;
        };
        let (first, last) = ((*first | 0x20) as usize, (*last | 0x20) as usize);
        1 << ((name.len() + 9 * first + 2 * last) % 64)
    }
}

impl<'a> Fields<'a> {
    pub(crate) fn new(bytes: &'a [u8], spans: &'a [FieldSpan]) -> Self {
        let mut names = NameFilter::default();
        for span in spans {
            names.insert(slice(bytes, &span.name));
        }
        Self::with_names(bytes, spans, names)
    }

    /// Creates the fields whose names are known to be `names`.
    pub(crate) fn with_names(bytes: &'a [u8], spans: &'a [FieldSpan], names: NameFilter) -> Self {
        Self {
            bytes: Cow::Borrowed(bytes),
            spans: Cow::Borrowed(spans),
            names,
        }
    }

    pub(crate) fn names(&self) -> NameFilter {
        self.names
    }

    /// Returns an iterator over all field lines as name and value. Values have no leading or trailing
    /// white space.
    pub fn iter(&self) -> FieldsIter<'_> {
        FieldsIter {
            bytes: &self.bytes,
            spans: self.spans.iter(),
        }
    }

    /// Returns an iterator over the values of all field lines of that name.
    #[inline]
    pub fn all<'s>(&'s self, name: &str) -> impl DoubleEndedIterator<Item = &'s [u8]> {
        let name = name.as_bytes();
        let spans = if self.names.may_contain(name) {
            &self.spans[..]
        } else {
            &[]
        };
        spans
            .iter()
            // Most names have another length.
            .filter(move |span| span.name_len() == name.len())
            .filter(move |span| is_same_name(self.slice(&span.name), name))
            .map(|span| self.slice(&span.value))
    }

    /// Returns false if no field has one of these names.
    #[inline]
    pub(crate) fn may_have_any(&self, names: NameFilter) -> bool {
        self.names.present & names.present != 0
    }

    /// Returns the value of the first field line of that name.
    #[inline]
    pub fn first(&self, name: &str) -> Option<&[u8]> {
        if self.names.may_contain(name.as_bytes()) {
            self.search(name)
        } else {
            None
        }
    }

    /// As [`first`](Self::first), which is inlined up to the call of this: with the bit of a literal as a
    /// constant, an absent field takes few instructions.
    #[inline(never)]
    fn search(&self, name: &str) -> Option<&[u8]> {
        self.all(name).next()
    }

    /// Returns the value of a field that must not be repeated; `None` if it is absent.
    #[inline]
    pub(crate) fn single(&self, name: &str) -> Result<Option<&[u8]>, Repeated> {
        if self.names.may_repeat(name.as_bytes()) && self.is_repeated(name) {
            return Err(Repeated);
        }
        Ok(self.first(name))
    }

    #[cold]
    fn is_repeated(&self, name: &str) -> bool {
        self.all(name).nth(1).is_some()
    }

    /// Returns whether the content has a coding (RFC 9110 §8.4), such as gzip.
    pub(crate) fn has_content_coding(&self) -> bool {
        let is_none = |value: &[u8]| value.is_empty() || value.eq_ignore_ascii_case(b"identity");
        !self.all("content-encoding").all(is_none)
    }

    fn slice(&self, range: &Range<u32>) -> &[u8] {
        slice(&self.bytes, range)
    }

    pub(super) fn push(&mut self, name: &str, value: &[u8]) {
        self.names.insert(name.as_bytes());
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

    /// As [`push`](Self::push), in place of the lines of that name.
    pub(super) fn set(&mut self, name: &str, value: &[u8]) {
        let mut others = Fields::default();
        for (known, value) in self.iter() {
            if !known.eq_ignore_ascii_case(name) {
                others.push(known, value);
            }
        }
        others.push(name, value);
        *self = others;
    }

    pub(super) fn into_owned(self) -> Fields<'static> {
        Fields {
            bytes: Cow::Owned(self.bytes.into_owned()),
            spans: Cow::Owned(self.spans.into_owned()),
            names: self.names,
        }
    }

    pub(super) fn reborrow(&self) -> Fields<'_> {
        Fields::with_names(&self.bytes, &self.spans, self.names)
    }
}

/// Iterates over all field lines.
///
/// ```
/// let request = tws::Request::get("/").with_header("Accept", "text/*");
/// for (name, value) in request.fields() {
///     assert_eq!((name, value), ("Accept", &b"text/*"[..]));
/// }
/// ```
impl<'a> IntoIterator for &'a Fields<'_> {
    type Item = (&'a str, &'a [u8]);
    type IntoIter = FieldsIter<'a>;

    fn into_iter(self) -> FieldsIter<'a> {
        self.iter()
    }
}

impl<'a> FieldsIter<'a> {
    fn field(&self, span: &FieldSpan) -> (&'a str, &'a [u8]) {
        let name = std::str::from_utf8(slice(self.bytes, &span.name)).unwrap_or_default();
        (name, slice(self.bytes, &span.value))
    }
}

impl<'a> Iterator for FieldsIter<'a> {
    type Item = (&'a str, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let span = self.spans.next()?;
        Some(self.field(span))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.spans.size_hint()
    }
}

impl DoubleEndedIterator for FieldsIter<'_> {
    fn next_back(&mut self) -> Option<Self::Item> {
        let span = self.spans.next_back()?;
        Some(self.field(span))
    }
}

impl ExactSizeIterator for FieldsIter<'_> {}

impl FusedIterator for FieldsIter<'_> {}

fn slice<'a>(bytes: &'a [u8], range: &Range<u32>) -> &'a [u8] {
    &bytes[range.start as usize..range.end as usize]
}

/// Compares two names without case. Most of their bytes are equal as they are, which takes a third of the
/// instructions of comparing the lower case of both.
fn is_same_name(a: &[u8], b: &[u8]) -> bool {
    let is_same = |(a, b): (&u8, &u8)| a == b || a.eq_ignore_ascii_case(b);
    a.len() == b.len() && a.iter().zip(b).all(is_same)
}

/// Returns whether the byte is a `tchar` of RFC 9110 §5.6.2.
pub(crate) fn is_token_char(byte: u8) -> bool {
    TOKEN.contains(byte)
}

const TOKEN: ByteSet = ByteSet::of_alphanumeric_and(b"!#$%&'*+-.^_`|~");

/// Returns whether the byte may be part of a field name of HTTP/2: a `tchar`, but no letter in upper case
/// (RFC 9113 §8.2.1).
pub(crate) fn is_lowercase_token_char(byte: u8) -> bool {
    static LOWERCASE: ByteSet = TOKEN.without_uppercase();
    LOWERCASE.contains(byte)
}

/// A set of bytes that is looked up in one step: every byte of every head is.
pub(crate) struct ByteSet([bool; 256]);

impl ByteSet {
    /// ASCII letters and digits, and `others`.
    pub(crate) const fn of_alphanumeric_and(others: &[u8]) -> Self {
        let mut set = [false; 256];
        let mut byte = 0;
        while byte < set.len() {
            set[byte] = (byte as u8).is_ascii_alphanumeric();
            byte += 1;
        }
        let mut at = 0;
        while at < others.len() {
            set[others[at] as usize] = true;
            at += 1;
        }
        Self(set)
    }

    const fn without_uppercase(&self) -> Self {
        let mut set = self.0;
        let mut byte = b'A';
        while byte <= b'Z' {
            set[byte as usize] = false;
            byte += 1;
        }
        Self(set)
    }

    #[inline]
    pub(crate) const fn contains(&self, byte: u8) -> bool {
        self.0[byte as usize]
    }
}

/// Returns whether the byte may be part of a field value: HTAB, SP, VCHAR, obs-text (RFC 9110 §5.5).
pub(crate) fn is_field_text(byte: u8) -> bool {
    matches!(byte, b'\t' | 0x20..=0x7E | 0x80..)
}
