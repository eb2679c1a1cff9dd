//! What a protocol machine lends its driver to send.

use crate::body::FileRange;

/// The next bytes to send, all of them or the first part. The payload follows the prefix at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Segment<'a> {
    /// Heads, small bodies, framing: bytes of the machine's own buffer.
    pub(crate) prefix: &'a [u8],
    pub(crate) payload: Payload<'a>,
}

/// The next part of a response body that can be sent without waiting.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Payload<'a> {
    None,
    Bytes(&'a [u8]),
    File(FilePart<'a>),
}

/// The part of a file range that is in memory, from its beginning.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FilePart<'a> {
    /// What is left of the range.
    pub(crate) range: &'a FileRange,
    /// How many bytes of the range can be sent without waiting for a disk.
    pub(crate) len: usize,
    /// These bytes, if they have been read into memory because the page cache may not keep them.
    pub(crate) bytes: Option<&'a [u8]>,
    pub(crate) progress: FileProgress,
}

/// Whether a part of a file range has been sent, so that time has passed since the file was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FileProgress {
    Unsent,
    PartlySent,
}

impl Segment<'_> {
    /// The segment with at most `max` bytes of its payload or, if it has none, of its prefix.
    pub(crate) fn limited_to(mut self, max: usize) -> Self {
        match &mut self.payload {
            Payload::None => self.prefix = first(self.prefix, max),
            Payload::Bytes(bytes) => *bytes = first(bytes, max),
            Payload::File(part) => part.len = part.len.min(max),
        }
        self
    }

    /// The number of bytes, if they are all in memory of the process.
    pub(crate) fn len_in_memory(&self) -> Option<usize> {
        match self.payload {
            Payload::None => Some(self.prefix.len()),
            Payload::Bytes(bytes) => Some(self.prefix.len() + bytes.len()),
            Payload::File(_) => None,
        }
    }
}

impl FilePart<'_> {
    /// True if the file was rewritten while it was sent. That is checked before the last part, so
    /// that the client does not take a mixture of two versions for the whole. A range that is sent in
    /// one part was opened just before.
    pub(crate) fn is_rewritten(&self) -> bool {
        let is_last = self.len as u64 == self.range.len;
        is_last && self.progress == FileProgress::PartlySent && self.range.is_rewritten()
    }
}

fn first(bytes: &[u8], max: usize) -> &[u8] {
    &bytes[..bytes.len().min(max)]
}
