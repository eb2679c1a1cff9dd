//! The files that the server itself reads or writes (passwords, keys, logs, databases). They are never
//! served or replaced, under whatever name a request reaches them.
//!
//! A file is recognised by its inode: a symbolic link to it, a folder that is a link, or an index file,
//! clean URL or sidecar lead to the same inode. The path is looked up again when a snapshot of a root is
//! checked, and before a file is served that has changed since, as the file may have been replaced.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::stat;
use rustix::io::Errno;

use super::file_id::{FileId, InodeId};
use super::open_error::{Blocking, OpenError};
use crate::sync::RwLock;

/// Time stamps of files may be older than the clock by a tick of the kernel, or by the difference to
/// the clock of a file server.
const CLOCK_MARGIN: Duration = Duration::from_secs(2);

/// The files of one site that are never served.
#[derive(Debug, Default)]
pub(in crate::files) struct ServerFiles(RwLock<Known>);

#[derive(Debug, Default)]
struct Known {
    files: Vec<ServerFile>,
    /// When the paths were looked up, as the time since 1970.
    looked_up: Duration,
}

#[derive(Debug)]
struct ServerFile {
    path: PathBuf,
    /// `None` if the file does not exist.
    inode: Option<InodeId>,
}

impl ServerFiles {
    /// Adds a file, which need not exist.
    pub(in crate::files) fn add(&self, path: &Path) {
        self.0.write().files.push(ServerFile {
            path: path.to_owned(),
            inode: None,
        });
        self.look_up();
    }

    /// Looks up the paths. Returns true if one of them leads to another file than before.
    pub(in crate::files) fn look_up(&self) -> bool {
        if self.0.read().files.is_empty() {
            return false;
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let paths: Vec<_> = self
            .0
            .read()
            .files
            .iter()
            .map(|file| file.path.clone())
            .collect();
        let found = paths.iter().map(stat).collect::<Vec<_>>();
        let mut known = self.0.write();
        let mut is_changed = false;
        for (file, found) in known.files.iter_mut().zip(found) {
            let inode = match found {
                Ok(stat) => Some(InodeId::of(&stat)),
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => None,
                // The process may have lost the permission with its privileges.
                Err(_) => file.inode,
            };
            is_changed |= inode != file.inode;
            file.inode = inode;
        }
        known.looked_up = now.unwrap_or_default();
        is_changed
    }

    /// Returns true for one of the files.
    pub(super) fn contain(&self, id: &FileId, blocking: Blocking) -> Result<bool, OpenError> {
        {
            let known = self.0.read();
            if known.files.is_empty() || known.has(id.inode) {
                return Ok(!known.files.is_empty());
            }
            if id.changed_after() + CLOCK_MARGIN < known.looked_up {
                return Ok(false);
            }
        }
        // The file may have been given the name of one of these since.
        if blocking == Blocking::Forbidden {
            return Err(OpenError::WouldBlock);
        }
        self.look_up();
        Ok(self.0.read().has(id.inode))
    }

    /// Returns true for one of the files, as they were looked up last.
    pub(super) fn have(&self, inode: InodeId) -> bool {
        self.0.read().has(inode)
    }

    /// Returns true if one of the files has, or would have, the name `last` in `folder`. The name is
    /// compared without case, as some file systems do.
    pub(super) fn have_name(&self, folder: InodeId, last: &[u8]) -> bool {
        let is_same = |path: &Path| {
            let name = path.file_name().map(OsStr::as_bytes).unwrap_or_default();
            name.eq_ignore_ascii_case(last)
                && path.parent().is_some_and(|parent| {
                    InodeId::of_directory(parent).is_ok_and(|it| it == folder)
                })
        };
        let known = self.0.read();
        known.files.iter().any(|file| {
            is_same(&file.path) || file.path.canonicalize().is_ok_and(|path| is_same(&path))
        })
    }

    /// Returns true if one of the files, or the folder of one that does not exist, is beneath `folder`.
    pub(super) fn have_one_beneath(&self, folder: InodeId) -> bool {
        let is_beneath = |path: &Path| {
            let mut above = path.ancestors().skip(1);
            above.any(|above| InodeId::of_directory(above).is_ok_and(|it| it == folder))
        };
        let known = self.0.read();
        known.files.iter().any(|file| {
            is_beneath(&file.path) || file.path.canonicalize().is_ok_and(|path| is_beneath(&path))
        })
    }
}

impl Known {
    fn has(&self, inode: InodeId) -> bool {
        self.files.iter().any(|file| file.inode == Some(inode))
    }
}

impl FileId {
    /// Returns the time of the last change of the inode, which a new name is, since 1970.
    fn changed_after(&self) -> Duration {
        let seconds = u64::try_from(self.changed.0).unwrap_or(0);
        Duration::from_secs(seconds) + Duration::from_nanos(self.changed.1)
    }
}
