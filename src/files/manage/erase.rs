//! Deletes what is in a folder, however deep: without recursion, and with two open folders at any time.
//! Symbolic links are not followed.

use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, Mode, OFlags, RawDir, openat, renameat, unlinkat};
use rustix::io::Errno;

const READ_BYTES: usize = 32 * 1024;

/// Deletes everything in `folder`. Folders in its folders are renamed into `folder` itself, so that their
/// depth does not matter.
pub(super) fn erase_content(folder: &OwnedFd) -> Result<(), Errno> {
    let mut renamed: u64 = 0;
    loop {
        let names = some_names(folder)?;
        if names.is_empty() {
            return Ok(());
        }
        for name in names {
            if is_unlinked(folder, &name)? {
                continue;
            }
            let inner = open_folder(folder, &name)?;
            loop {
                let names = some_names(&inner)?;
                if names.is_empty() {
                    break;
                }
                for name in names {
                    if !is_unlinked(&inner, &name)? {
                        move_up(&inner, &name, folder, &mut renamed)?;
                    }
                }
            }
            unlinkat(folder, &name, AtFlags::REMOVEDIR)?;
        }
    }
}

/// Renames a folder into `folder`, with an unused name.
fn move_up(inner: &OwnedFd, name: &[u8], folder: &OwnedFd, renamed: &mut u64) -> Result<(), Errno> {
    loop {
        *renamed += 1;
        // A name of this form that exists already is that of a folder that is not empty, or of a file.
        match renameat(inner, name, folder, format!("{renamed}")) {
            Err(Errno::EXIST | Errno::NOTEMPTY | Errno::NOTDIR) => {}
            result => return result,
        }
    }
}

/// Returns false for a folder.
fn is_unlinked(folder: &OwnedFd, name: &[u8]) -> Result<bool, Errno> {
    match unlinkat(folder, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(true),
        Err(Errno::ISDIR) => Ok(false),
        Err(errno) => Err(errno),
    }
}

fn open_folder(folder: &OwnedFd, name: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(folder, name, flags, Mode::empty())
}

/// Returns names in a folder: as many as one system call reads.
fn some_names(folder: &OwnedFd) -> Result<Vec<Vec<u8>>, Errno> {
    // Opened again, to begin with the first one.
    let folder = open_folder(folder, b".")?;
    let mut buffer = Vec::with_capacity(READ_BYTES);
    let mut entries = RawDir::new(&folder, buffer.spare_capacity_mut());
    let mut names = Vec::new();
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if !matches!(name, b"." | b"..") {
            names.push(name.to_vec());
        }
        if entries.is_buffer_empty() && !names.is_empty() {
            break;
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::io;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn deep_folders_and_links_are_erased_and_targets_kept() -> io::Result<()> {
        let outside = tempfile::tempdir()?;
        fs::write(outside.path().join("kept"), "")?;
        let folder = tempfile::tempdir()?;
        // Deeper than the names of files can be long.
        let top = folder.path().join("top");
        fs::create_dir(&top)?;
        let mut within = OwnedFd::from(File::open(&top)?);
        for depth in 0..5000 {
            rustix::fs::mkdirat(&within, "1", Mode::RWXU)?;
            if depth % 1000 == 0 {
                rustix::fs::symlinkat(outside.path(), &within, "link")?;
            }
            within = open_folder(&within, b"1")?;
        }
        for name in ["1", "2", "3"] {
            fs::write(folder.path().join(name), "")?;
        }
        for at in 0..2000 {
            fs::write(top.join(format!("file {at}")), "")?;
        }
        symlink(outside.path(), folder.path().join("link"))?;
        erase_content(&OwnedFd::from(File::open(folder.path())?))?;
        assert_eq!(fs::read_dir(folder.path())?.count(), 0);
        assert!(outside.path().join("kept").exists());
        Ok(())
    }
}
