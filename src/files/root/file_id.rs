//! Identities of files: an inode, and one state of its content.

use std::io;
use std::path::Path;

use rustix::fs::{Stat, stat};

use crate::site::DirectoryId;

/// Identifies a file or directory while it exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::files) struct InodeId {
    pub(super) device: u64,
    pub(super) inode: u64,
}

/// Identifies one state of a file: another one has another time or length, or is another inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::files) struct FileId {
    pub(super) inode: InodeId,
    pub(super) len: u64,
    pub(super) modified: (i64, u64),
    pub(super) changed: (i64, u64),
}

impl InodeId {
    pub(super) fn of(stat: &Stat) -> Self {
        Self {
            device: stat.st_dev,
            inode: stat.st_ino,
        }
    }

    /// Returns the inode that `path` leads to now.
    pub(in crate::files) fn of_directory(path: &Path) -> io::Result<Self> {
        Ok(Self::of(&stat(path)?))
    }
}

impl From<InodeId> for DirectoryId {
    fn from(InodeId { device, inode }: InodeId) -> Self {
        Self { device, inode }
    }
}

impl From<DirectoryId> for InodeId {
    fn from(DirectoryId { device, inode }: DirectoryId) -> Self {
        Self { device, inode }
    }
}

impl FileId {
    pub(super) fn of(stat: &Stat) -> Self {
        Self {
            inode: InodeId::of(stat),
            len: stat.st_size.unsigned_abs(),
            modified: (stat.st_mtime, stat.st_mtime_nsec),
            changed: (stat.st_ctime, stat.st_ctime_nsec),
        }
    }
}
