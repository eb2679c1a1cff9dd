//! Why a path cannot be opened, and whether the calling thread may wait for it.

use std::io;

/// Whether the calling thread may wait for a disk or a long computation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::files) enum Blocking {
    /// On an event loop.
    Forbidden,
    /// On a thread for short jobs: it may look up files and read small ones.
    Short,
    /// On a thread for long jobs.
    Allowed,
}

/// Why a path cannot be served.
#[derive(Debug)]
pub(in crate::files) enum OpenError {
    /// There is nothing, or it is outside of the root: a response must not tell these apart.
    NotFound,
    /// This process may not read it, or it is not a regular file.
    Forbidden,
    /// The process is out of file descriptors or memory.
    OutOfDescriptors,
    /// The file was modified each time it was read.
    Modified,
    /// It is not in the kernel's memory, and the calling thread may not block.
    WouldBlock,
    /// The disk failed.
    Failed(io::Error),
}
