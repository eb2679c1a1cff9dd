//! Bytes of a file that the driver reads into a machine's own buffer.

use super::segment::FileProgress;
use crate::body::FileRange;

/// A read that [`Action::ReadFile`](super::Action::ReadFile) asks for.
#[derive(Debug)]
pub(crate) struct FileRead<'a> {
    /// What is left of the range, from its first byte on.
    pub(crate) range: &'a FileRange,
    /// These bytes were read into the page cache just before, because they were not resident.
    pub(crate) is_resident: bool,
    /// Whether a part of the range has been read before, so that time has passed since the file was
    /// opened.
    pub(crate) progress: FileProgress,
    /// The bytes are read into this, which has room for at least one and for no more than the range has.
    pub(crate) buffer: &'a mut [u8],
}

/// The result of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FileBytes {
    /// This many bytes, at least one, were read.
    Read(usize),
    /// The bytes are not in the page cache.
    NotResident,
    /// The file has become shorter, or was rewritten.
    Ended,
    /// The disk has returned an error.
    Failed,
}

impl FileRead<'_> {
    /// True if `count` bytes, which were just read, are the last of the range, and the file was
    /// rewritten since the first were read. A range that is read at once was opened just before.
    pub(crate) fn is_rewritten_after(&self, count: usize) -> bool {
        let is_last = count as u64 == self.range.len;
        is_last && self.progress == FileProgress::PartlySent && self.range.is_rewritten()
    }
}
