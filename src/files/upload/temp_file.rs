//! The only place that creates files: in a [`Folder`] that the [`root`](crate::files::root) has
//! opened, or to which sidecars are written.
//!
//! A file is created without a name (`O_TMPFILE`) and gets its name when it is complete: if the
//! process is killed before, the kernel removes it. Symbolic links are never followed for writing.

use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Seek, Write};
use std::path::Path;

use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, RenameFlags, fsync, linkat, openat, renameat, renameat_with,
    statat, unlinkat,
};
use rustix::io::Errno;

/// An open directory in which files can be created.
#[derive(Debug)]
pub(crate) struct Folder {
    descriptor: OwnedFd,
}

/// What a name in a folder refers to; a symbolic link is not followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ExistingEntry {
    Absent,
    File,
    /// A folder, a symbolic link or a special file.
    NotAFile,
}

/// Whether saving a file may replace an existing one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OverwritePolicy {
    Keep,
    Replace,
}

/// Whether the folders above an uploaded file are created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ParentFolders {
    Created,
    MustExist,
}

/// What uploads may do, for pages that offer them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct UploadFeatures {
    pub(crate) overwrite: OverwritePolicy,
    pub(crate) parents: ParentFolders,
}

/// What saving a file has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SaveResult {
    Created,
    Replaced,
}

/// A file that is being written. It is removed when this is dropped, unless it was saved.
#[derive(Debug)]
pub(crate) struct TempFile<'f> {
    folder: &'f Folder,
    file: File,
    /// Its name meanwhile, on file systems without `O_TMPFILE` or while another file is replaced.
    temp_name: Option<Vec<u8>>,
}

/// The prefix of temporary names.
const TEMP_FILE_PREFIX: &[u8] = b".tws-upload-";

/// True if a name is a temporary one: it is never served, even where dot files are.
pub(crate) fn is_temp_file(name: &[u8]) -> bool {
    name.starts_with(TEMP_FILE_PREFIX)
}

/// Readable by all users, subject to the umask: what is uploaded is there to be served.
const TEMP_FILE_MODE: Mode = Mode::from_raw_mode(0o644);

/// It is read if it must be copied.
const OPEN_TEMP_FILE: OFlags = OFlags::RDWR.union(OFlags::CLOEXEC);

impl Folder {
    /// Wraps an open directory.
    pub(crate) fn new(descriptor: OwnedFd) -> Self {
        Self { descriptor }
    }

    /// Returns what `name` refers to.
    pub(crate) fn entry(&self, name: &[u8]) -> Result<ExistingEntry, Errno> {
        match statat(&self.descriptor, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => match FileType::from_raw_mode(stat.st_mode) {
                FileType::RegularFile => Ok(ExistingEntry::File),
                _ => Ok(ExistingEntry::NotAFile),
            },
            Err(Errno::NOENT) => Ok(ExistingEntry::Absent),
            Err(errno) => Err(errno),
        }
    }

    /// Creates an empty file without a name.
    pub(crate) fn create_temp_file(&self) -> Result<TempFile<'_>, Errno> {
        // Needed to give the file a name later.
        if !Path::new("/proc/self/fd").exists() {
            return self.create_named_temp_file();
        }
        let flags = OPEN_TEMP_FILE | OFlags::TMPFILE;
        match openat(&self.descriptor, ".", flags, TEMP_FILE_MODE) {
            Ok(descriptor) => Ok(TempFile {
                folder: self,
                file: File::from(descriptor),
                temp_name: None,
            }),
            // Not every file system supports O_TMPFILE.
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL | Errno::NOENT) => {
                self.create_named_temp_file()
            }
            Err(errno) => Err(errno),
        }
    }

    /// Creates an empty file with a temporary name.
    fn create_named_temp_file(&self) -> Result<TempFile<'_>, Errno> {
        let flags = OPEN_TEMP_FILE | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        let create = |name: &[u8]| openat(&self.descriptor, name, flags, TEMP_FILE_MODE);
        let (temp_name, descriptor) = with_temp_name(create)?;
        Ok(TempFile {
            folder: self,
            file: File::from(descriptor),
            temp_name: Some(temp_name),
        })
    }

    /// Waits until the directory's entries are on the disk (fsync(2)).
    pub(crate) fn sync(&self) -> Result<(), Errno> {
        fsync(&self.descriptor)
    }
}

impl AsFd for Folder {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

/// Calls `act` with an unused temporary name, and returns that name.
fn with_temp_name<T>(
    mut act: impl FnMut(&[u8]) -> Result<T, Errno>,
) -> Result<(Vec<u8>, T), Errno> {
    const ATTEMPTS: usize = 8;
    for _ in 0..ATTEMPTS {
        let number = RandomState::new().hash_one(());
        let name = [TEMP_FILE_PREFIX, format!("{number:016x}").as_bytes()].concat();
        match act(&name) {
            Err(Errno::EXIST) => {}
            result => return result.map(|value| (name, value)),
        }
    }
    Err(Errno::EXIST)
}

impl<'f> TempFile<'f> {
    /// Returns the open file, to set its mode and times.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Waits until the content is on the disk (fsync(2)).
    pub(crate) fn sync(&self) -> Result<(), Errno> {
        fsync(&self.file)
    }

    /// Gives the file its name in `target` atomically: opening the name yields the former file or this one,
    /// complete. Only regular files are replaced; if `overwrite` forbids it, the error is `EEXIST`.
    pub(crate) fn save(
        mut self,
        target: &'f Folder,
        name: &[u8],
        overwrite: OverwritePolicy,
    ) -> Result<SaveResult, Errno> {
        match self.place(target, name, overwrite) {
            // Landlock before Linux 5.19 allows no links into other folders.
            Err(Errno::XDEV) => self.copied_to(target)?.place(target, name, overwrite),
            result => result,
        }
    }

    fn place(
        &mut self,
        target: &'f Folder,
        name: &[u8],
        overwrite: OverwritePolicy,
    ) -> Result<SaveResult, Errno> {
        match (self.link_or_rename(target, name), overwrite) {
            (Ok(()), _) => return Ok(SaveResult::Created),
            (Err(Errno::EXIST), OverwritePolicy::Replace) => {}
            (Err(errno), _) => return Err(errno),
        }
        if target.entry(name)? == ExistingEntry::NotAFile {
            return Err(Errno::ISDIR);
        }
        // linkat(2) does not replace an existing file, renameat(2) does.
        if self.temp_name.is_none() {
            let (temp_name, ()) = with_temp_name(|name| self.link(target, name))?;
            self.folder = target;
            self.temp_name = Some(temp_name);
        }
        if let Some(temp_name) = &self.temp_name {
            renameat(self.folder, &temp_name[..], target, name)?;
        }
        self.temp_name = None;
        Ok(SaveResult::Replaced)
    }

    /// Returns a copy in another folder, which is on the disk.
    fn copied_to(&mut self, target: &'f Folder) -> Result<TempFile<'f>, Errno> {
        let mut copy = target.create_temp_file()?;
        let copied = self.file.rewind();
        let copied = copied.and_then(|()| io::copy(&mut self.file, &mut copy.file));
        copied.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
        copy.sync()?;
        Ok(copy)
    }

    /// Gives the file its name, if no file has it: `EEXIST` otherwise.
    fn link_or_rename(&mut self, target: &Folder, name: &[u8]) -> Result<(), Errno> {
        let Some(temp_name) = &self.temp_name else {
            return self.link(target, name);
        };
        let folder = self.folder;
        match renameat_with(folder, &temp_name[..], target, name, RenameFlags::NOREPLACE) {
            // Not every file system supports the flag. The temporary name is removed on drop.
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
                linkat(folder, &temp_name[..], target, name, AtFlags::empty())
            }
            result => {
                result?;
                self.temp_name = None;
                Ok(())
            }
        }
    }

    /// Gives a name to a file without one, as described in open(2) under `O_TMPFILE`.
    fn link(&self, target: &Folder, name: &[u8]) -> Result<(), Errno> {
        let unnamed = format!("/proc/self/fd/{}", self.file.as_raw_fd());
        linkat(target, unnamed, target, name, AtFlags::SYMLINK_FOLLOW)
    }
}

impl Write for TempFile<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for TempFile<'_> {
    fn drop(&mut self) {
        if let Some(temp_name) = &self.temp_name
            && let Err(error) = unlinkat(&self.folder.descriptor, &temp_name[..], AtFlags::empty())
        {
            let name = String::from_utf8_lossy(temp_name);
            log::warn!("cannot remove the temporary file {name}: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn names(folder: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(folder)? {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        names.sort_unstable();
        Ok(names)
    }

    #[test]
    fn temp_file_is_saved_completely_or_not_at_all() -> io::Result<()> {
        let outside = tempfile::tempdir()?;
        fs::write(outside.path().join("file"), "file")?;
        let sub = outside.path().join("sub");
        fs::create_dir_all(sub.join("deep"))?;
        symlink("../file", sub.join("up"))?;
        let folder = Folder::new(File::open(&sub)?.into());
        let before = names(&sub)?;
        let unnamed: fn(&Folder) -> Result<TempFile<'_>, Errno> = Folder::create_temp_file;
        for (at, begin) in [unnamed, Folder::create_named_temp_file]
            .into_iter()
            .enumerate()
        {
            // Dropped without being saved.
            begin(&folder)?.write_all(b"dropped")?;
            assert_eq!(names(&sub)?, before);

            let save = |name: &str, content: &str, overwrite| {
                let mut temp_file = begin(&folder)?;
                temp_file.write_all(content.as_bytes())?;
                io::Result::Ok(temp_file.save(&folder, name.as_bytes(), overwrite))
            };
            use OverwritePolicy::{Keep, Replace};
            let new = format!("new {at}");
            assert_eq!(save(&new, "one", Keep)?, Ok(SaveResult::Created));
            assert_eq!(save(&new, "two", Keep)?, Err(Errno::EXIST));
            assert_eq!(fs::read(sub.join(&new))?, b"one");
            assert_eq!(save(&new, "three", Replace)?, Ok(SaveResult::Replaced));
            assert_eq!(fs::read(sub.join(&new))?, b"three");
            let newer = format!("newer {at}");
            assert_eq!(save(&newer, "four", Replace)?, Ok(SaveResult::Created));
            for (name, overwrite, errno) in [
                ("deep", Keep, Errno::EXIST),
                ("deep", Replace, Errno::ISDIR),
                ("up", Keep, Errno::EXIST),
                ("up", Replace, Errno::ISDIR),
            ] {
                assert_eq!(save(name, "five", overwrite)?, Err(errno), "{name}");
            }
            assert_eq!(fs::read(outside.path().join("file"))?, b"file");
            fs::remove_file(sub.join(new))?;
            fs::remove_file(sub.join(newer))?;
            assert_eq!(names(&sub)?, before);
        }
        Ok(())
    }

    /// Directly, or as a copy where links between folders are not allowed.
    #[test]
    fn temp_file_is_saved_in_another_folder() -> io::Result<()> {
        let [from, to] = [tempfile::tempdir()?, tempfile::tempdir()?];
        let open = |path: &Path| io::Result::Ok(Folder::new(File::open(path)?.into()));
        let (folder, target) = (open(from.path())?, open(to.path())?);
        let unnamed: fn(&Folder) -> Result<TempFile<'_>, Errno> = Folder::create_temp_file;
        for begin in [unnamed, Folder::create_named_temp_file] {
            for is_copied in [false, true] {
                use OverwritePolicy::{Keep, Replace};
                for (overwrite, expected) in [
                    (Keep, Ok(SaveResult::Created)),
                    (Keep, Err(Errno::EXIST)),
                    (Replace, Ok(SaveResult::Replaced)),
                ] {
                    let mut temp_file = begin(&folder)?;
                    temp_file.write_all(b"text")?;
                    if is_copied {
                        temp_file = temp_file.copied_to(&target)?;
                    }
                    assert_eq!(temp_file.save(&target, b"name", overwrite), expected);
                    assert_eq!(fs::read(to.path().join("name"))?, b"text");
                }
                fs::remove_file(to.path().join("name"))?;
                assert_eq!(names(from.path())?, [""; 0]);
                assert_eq!(names(to.path())?, [""; 0]);
            }
        }
        Ok(())
    }
}
