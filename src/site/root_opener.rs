//! Opening the files of a root in another process.
//!
//! A sandbox allows what is beneath a folder, and not what is beneath another folder that takes its place
//! later. A process that is confined in this way asks another one, which may open both.

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use super::Symlinks;

/// Opens files for a process that may not open them itself, as in a sandbox. The other end is a
/// [`ReplaceableRoot`](crate::ReplaceableRoot).
pub trait RootOpener: fmt::Debug + Send + Sync {
    /// Opens a file or a folder beneath a root for reading. May block; is never called on an event loop.
    ///
    /// # Errors
    ///
    /// Those of openat2(2), which includes a denied permission for an unknown root.
    fn open(&self, request: &OpenRequest<'_>) -> io::Result<OwnedFd>;
}

/// A request to open a path beneath a root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenRequest<'a> {
    /// The absolute path of the root, without symbolic links.
    pub root: &'a Path,
    /// The folder that was opened as the root. `None` opens the one that is at the root's path now.
    pub directory: Option<DirectoryId>,
    /// Links out of the root are never followed, even with [`Symlinks::Follow`].
    pub symlinks: Symlinks,
    /// The path relative to the root; empty for the root itself.
    pub path: &'a [u8],
}

/// Identifies a folder while it exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DirectoryId {
    /// The device number of its file system.
    pub device: u64,
    /// The inode number.
    pub inode: u64,
}
