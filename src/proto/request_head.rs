//! A parsed request head, as positions in bytes that the connection holds.

use std::borrow::Cow;
use std::ops::Range;

use ::http::{Method, Version};

use crate::http::fields::NameFilter;
use crate::http::forwarded::ClientInfo;
use crate::http::request::ReceivedBody;
use crate::http::{FieldSpan, Fields, Request};

/// A parsed request head. It holds positions instead of references: the bytes stay in the
/// connection's buffer, and one value is reused for request after request without an allocation.
#[derive(Debug, Default)]
pub(crate) struct RequestHead {
    /// The length in bytes, with HTTP/1.1 including the empty line.
    pub(crate) len: usize,
    pub(crate) method: Method,
    pub(crate) version: Version,
    pub(crate) target: Range<u32>,
    pub(crate) path: Path,
    pub(crate) spans: Vec<FieldSpan>,
    /// The names of the fields.
    pub(crate) names: NameFilter,
}

/// The decoded path; nearly always it is part of the head as it is.
#[derive(Debug)]
pub(crate) enum Path {
    InHead(Range<u32>),
    Decoded(Vec<u8>),
}

impl Path {
    /// The path of a target, which may be a part of the `head`.
    pub(crate) fn new(path: Cow<'_, [u8]>, head: &[u8]) -> Self {
        match path {
            Cow::Borrowed(path) if head.as_ptr_range().contains(&path.as_ptr()) => {
                Self::InHead(span_of(path, head))
            }
            path => Self::Decoded(path.into_owned()),
        }
    }
}

impl Default for Path {
    fn default() -> Self {
        Self::InHead(0..0)
    }
}

impl RequestHead {
    /// The header fields; `bytes` are those the head was parsed from.
    pub(crate) fn fields<'a>(&'a self, bytes: &'a [u8]) -> Fields<'a> {
        Fields::with_names(bytes, &self.spans, self.names)
    }

    /// The request with this head and this body; `bytes` are those that the head was parsed from.
    pub(crate) fn request<'a>(
        &'a self,
        bytes: &'a [u8],
        body: ReceivedBody<'a>,
        client: ClientInfo,
    ) -> Request<'a> {
        let slice = |range: &Range<u32>| &bytes[range.start as usize..range.end as usize];
        let target = slice(&self.target);
        let path = match &self.path {
            Path::InHead(range) => Cow::Borrowed(slice(range)),
            Path::Decoded(path) => Cow::Borrowed(&path[..]),
        };
        let (method, fields) = (self.method.clone(), self.fields(bytes));
        Request::from_head(method, self.version, target, path, fields, body, client)
    }
}

/// The position of `part`, a slice of `whole`, in it.
pub(crate) fn span_of(part: &[u8], whole: &[u8]) -> Range<u32> {
    let start = part.as_ptr() as usize - whole.as_ptr() as usize;
    start as u32..(start + part.len()) as u32
}
