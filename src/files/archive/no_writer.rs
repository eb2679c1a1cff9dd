//! A build without the feature `archive` writes none.

use std::io;

use crate::files::archive_format::{ArchiveFormat, Compressibility};

/// No value exists.
pub(super) enum ArchiveWriter {}

impl ArchiveWriter {
    pub(super) fn new(_: ArchiveFormat) -> io::Result<Self> {
        Err(io::Error::other(
            "this tws was built without the feature archive",
        ))
    }

    pub(super) fn add_folder(&mut self, _: &[u8], _: i64) -> io::Result<()> {
        match *self {}
    }

    pub(super) fn start_file(
        &mut self,
        _: &[u8],
        _: u64,
        _: i64,
        _: Compressibility,
    ) -> io::Result<()> {
        match *self {}
    }

    pub(super) fn write(&mut self, _: &[u8]) -> io::Result<()> {
        match *self {}
    }

    pub(super) fn end_file(&mut self) -> io::Result<()> {
        match *self {}
    }

    pub(super) fn finish(self) -> io::Result<Vec<u8>> {
        match self {}
    }

    pub(super) fn len(&self) -> usize {
        match *self {}
    }

    pub(super) fn take(&self) -> Vec<u8> {
        match *self {}
    }
}
