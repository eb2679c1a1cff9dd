//! The trash: a folder in the root, never served, into which a deletion renames. Each deletion has a
//! folder of its own there, with the former path in it.

use std::time::SystemTime;

use ::http::StatusCode;
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, Mode, OFlags, mkdirat, openat, renameat, unlinkat};
use rustix::io::Errno;

use super::erase::erase_content;
use crate::calendar::UtcDateTime;
use crate::files::explained_error::ExplainedError;
use crate::files::resolve::{TRASH, file_name};
use crate::files::upload::temp_file::Folder;
use crate::http::date;

/// Only the user of the server may see what was deleted.
const TRASH_MODE: Mode = Mode::from_raw_mode(0o700);

const OPEN_FOLDER: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// A folder in the trash for one deletion.
struct Deletion {
    trash: OwnedFd,
    name: String,
    folder: OwnedFd,
}

/// Moves `name`, a path beneath the root whose folder is `parent`, into the trash.
pub(super) fn keep(root: &Folder, parent: &Folder, name: &[u8]) -> Result<(), ExplainedError> {
    let moved = Deletion::begin(root).and_then(|deletion| {
        let moved = deletion.create_parents(name).and_then(|folder| {
            let folder = folder.as_ref().unwrap_or(&deletion.folder);
            renameat(parent, file_name(name), folder, file_name(name))
        });
        moved.inspect_err(|_| deletion.give_up())
    });
    moved.map_err(|errno| match errno {
        Errno::XDEV => ExplainedError::conflict(
            "it is on another file system than the trash, so it can only be deleted permanently",
        )
        .with_remedy("--manage-delete permanent does that"),
        Errno::NOSPC | Errno::DQUOT => full(
            "the disk is full, so nothing can be moved into the trash",
        )
        .with_remedy(
            "empty .tws-trash in the root, or delete permanently with --manage-delete permanent",
        ),
        errno => errno.into(),
    })
}

fn full(explanation: &'static str) -> ExplainedError {
    ExplainedError::new(StatusCode::INSUFFICIENT_STORAGE, explanation)
}

/// Deletes `last` in the folder `parent` with all that is in it. It is renamed first, so that clients see
/// all of it or nothing.
pub(super) fn erase(root: &Folder, parent: &Folder, last: &[u8]) -> Result<(), ExplainedError> {
    match unlinkat(parent, last, AtFlags::empty()) {
        Err(Errno::ISDIR | Errno::PERM) => {}
        result => return Ok(result?),
    }
    // An empty folder needs no trash, and may be on another file system.
    match unlinkat(parent, last, AtFlags::REMOVEDIR) {
        Err(Errno::NOTEMPTY | Errno::EXIST) => {}
        result => return Ok(result?),
    }
    let deletion = Deletion::begin(root).map_err(|errno| match errno {
        Errno::NOSPC | Errno::DQUOT => full(
            "the disk is full, and deleting a folder with something in it needs a new folder; delete \
             the files in it first",
        ),
        errno => errno.into(),
    })?;
    if let Err(errno) = renameat(parent, last, &deletion.folder, "0") {
        deletion.give_up();
        return Err(match errno {
            Errno::XDEV => ExplainedError::conflict(
                "the folder is on another file system; delete what is in it first",
            ),
            errno => errno.into(),
        });
    }
    erase_content(&deletion.folder).map_err(|errno| {
        log::error!("manage: {} in the trash: {errno}", deletion.name);
        ExplainedError::conflict("it is deleted in part; the rest is in the trash")
    })?;
    deletion.give_up();
    Ok(())
}

impl Deletion {
    fn begin(root: &Folder) -> Result<Self, Errno> {
        /// Deletions within the same millisecond.
        const ATTEMPTS: usize = 1000;
        match mkdirat(root, TRASH, TRASH_MODE) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno),
        }
        let trash = openat(root, TRASH, OPEN_FOLDER, Mode::empty())?;
        let now = u64::try_from(date::seconds(SystemTime::now())).unwrap_or_default();
        let now = UtcDateTime::from_unix_seconds_clamped(now).to_string();
        let now = now.replace(':', "-");
        for at in 0..ATTEMPTS {
            let name = format!("{now}-{at:03}");
            match mkdirat(&trash, &name, TRASH_MODE) {
                Err(Errno::EXIST) => continue,
                result => result?,
            }
            let folder = openat(&trash, &name, OPEN_FOLDER, Mode::empty())?;
            return Ok(Self {
                trash,
                name,
                folder,
            });
        }
        Err(Errno::EXIST)
    }

    /// Creates the folders of `name`, and returns the innermost one, if there is any.
    fn create_parents(&self, name: &[u8]) -> Result<Option<OwnedFd>, Errno> {
        let parents = &name[..name.len() - file_name(name).len()];
        let mut innermost = None;
        for parent in parents
            .split(|&byte| byte == b'/')
            .filter(|it| !it.is_empty())
        {
            let within = innermost.as_ref().unwrap_or(&self.folder);
            mkdirat(within, parent, TRASH_MODE)?;
            innermost = Some(openat(within, parent, OPEN_FOLDER, Mode::empty())?);
        }
        Ok(innermost)
    }

    /// Removes the folder of a deletion that has nothing in it but empty folders.
    fn give_up(&self) {
        let removed = erase_content(&self.folder)
            .and_then(|()| unlinkat(&self.trash, &self.name, AtFlags::REMOVEDIR));
        if let Err(errno) = removed {
            log::warn!(
                "manage: {} cannot be removed from the trash: {errno}",
                self.name
            );
        }
    }
}
