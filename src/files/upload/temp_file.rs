//! The only place that makes files: in a [`Folder`] that the [`root`](crate::files::root) has opened.
//!
//! A file is made without a name (`O_TMPFILE`) and gets its name when it is whole: who is killed
//! before leaves nothing behind. Nothing is ever written through a link.

use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Write};
use std::path::Path;

use rustix::fd::{AsRawFd, OwnedFd};
use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, RenameFlags, fsync, linkat, openat, renameat, renameat_with,
    statat, unlinkat,
};
use rustix::io::Errno;

/// A folder in which files can be made.
#[derive(Debug)]
pub(crate) struct Folder {
    descriptor: OwnedFd,
}

/// What has a name in a folder; a link is not followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ExistingEntry {
    Absent,
    File,
    /// A folder, a link, or stranger things.
    NotAFile,
}

/// What becomes of a file whose name is wanted for another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OverwritePolicy {
    Keep,
    Replace,
}

/// What publishing a temp_file has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SaveResult {
    Created,
    Replaced,
}

/// A file that is written and has no name yet. Without one it vanishes, whatever happens.
#[derive(Debug)]
pub(crate) struct TempFile<'f> {
    folder: &'f Folder,
    file: File,
    /// The hidden name it has meanwhile, if it needs one.
    hidden: Option<Vec<u8>>,
}

/// How names of drafts begin.
const TEMP_FILE_PREFIX: &[u8] = b".tws-upload-";

/// True if a name is that of a temp_file: it is nobody's business, even where dotted names are.
pub(crate) fn is_temp_file(name: &[u8]) -> bool {
    name.starts_with(TEMP_FILE_PREFIX)
}

/// Everybody may read what is uploaded, as far as the umask lets them; it is here to be served.
const TEMP_FILE_MODE: Mode = Mode::from_raw_mode(0o644);

const OPEN_TEMP_FILE: OFlags = OFlags::WRONLY.union(OFlags::CLOEXEC);

impl Folder {
    /// By an open directory.
    pub(crate) fn new(descriptor: OwnedFd) -> Self {
        Self { descriptor }
    }

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

    /// Begins a file.
    pub(crate) fn create_temp_file(&self) -> Result<TempFile<'_>, Errno> {
        // Without it a file without a name cannot be given one.
        if !Path::new("/proc/self/fd").exists() {
            return self.create_named_temp_file();
        }
        let flags = OPEN_TEMP_FILE | OFlags::TMPFILE;
        match openat(&self.descriptor, ".", flags, TEMP_FILE_MODE) {
            Ok(descriptor) => Ok(TempFile {
                folder: self,
                file: File::from(descriptor),
                hidden: None,
            }),
            // Not every file system has such files.
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL | Errno::NOENT) => {
                self.create_named_temp_file()
            }
            Err(errno) => Err(errno),
        }
    }

    /// Begins a file under a hidden name.
    fn create_named_temp_file(&self) -> Result<TempFile<'_>, Errno> {
        let flags = OPEN_TEMP_FILE | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        let make = |name: &[u8]| openat(&self.descriptor, name, flags, TEMP_FILE_MODE);
        let (hidden, descriptor) = with_hidden_name(make)?;
        Ok(TempFile {
            folder: self,
            file: File::from(descriptor),
            hidden: Some(hidden),
        })
    }

    /// Waits until the names in it are on the disk.
    pub(crate) fn sync(&self) -> Result<(), Errno> {
        fsync(&self.descriptor)
    }
}

/// Does something with a name that nothing has.
fn with_hidden_name<T>(
    mut act: impl FnMut(&[u8]) -> Result<T, Errno>,
) -> Result<(Vec<u8>, T), Errno> {
    const ATTEMPTS: usize = 8;
    for _ in 0..ATTEMPTS {
        let number = RandomState::new().hash_one(());
        let name = [TEMP_FILE_PREFIX, format!("{number:016x}").as_bytes()].concat();
        match act(&name) {
            Err(Errno::EXIST) => {}
            result => return result.map(|done| (name, done)),
        }
    }
    Err(Errno::EXIST)
}

impl TempFile<'_> {
    /// Waits until the content is on the disk.
    pub(crate) fn sync(&self) -> Result<(), Errno> {
        fsync(&self.file)
    }

    /// Gives the file its name, in one step: whoever opens the name gets what was there or all of
    /// this. Only regular files are replaced; `EXIST` is what is not to be.
    pub(crate) fn save(
        mut self,
        name: &[u8],
        overwrite: OverwritePolicy,
    ) -> Result<SaveResult, Errno> {
        match (self.take_free_name(name), overwrite) {
            (Ok(()), _) => return Ok(SaveResult::Created),
            (Err(Errno::EXIST), OverwritePolicy::Replace) => {}
            (Err(errno), _) => return Err(errno),
        }
        if self.folder.entry(name)? == ExistingEntry::NotAFile {
            return Err(Errno::ISDIR);
        }
        // A link replaces nothing, a renaming does.
        if self.hidden.is_none() {
            let (hidden, ()) = with_hidden_name(|name| self.link(name))?;
            self.hidden = Some(hidden);
        }
        let folder = &self.folder.descriptor;
        if let Some(hidden) = &self.hidden {
            renameat(folder, &hidden[..], folder, name)?;
        }
        self.hidden = None;
        Ok(SaveResult::Replaced)
    }

    fn take_free_name(&mut self, name: &[u8]) -> Result<(), Errno> {
        let Some(hidden) = &self.hidden else {
            return self.link(name);
        };
        let folder = &self.folder.descriptor;
        match renameat_with(folder, &hidden[..], folder, name, RenameFlags::NOREPLACE) {
            // Not every file system can; then the hidden name is removed when this is dropped.
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
                linkat(folder, &hidden[..], folder, name, AtFlags::empty())
            }
            result => {
                result?;
                self.hidden = None;
                Ok(())
            }
        }
    }

    /// Gives a file without a name one, as open(2) tells under `O_TMPFILE`.
    fn link(&self, name: &[u8]) -> Result<(), Errno> {
        let nameless = format!("/proc/self/fd/{}", self.file.as_raw_fd());
        let folder = &self.folder.descriptor;
        linkat(folder, nameless, folder, name, AtFlags::SYMLINK_FOLLOW)
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
        if let Some(hidden) = &self.hidden
            && let Err(error) = unlinkat(&self.folder.descriptor, &hidden[..], AtFlags::empty())
        {
            let name = String::from_utf8_lossy(hidden);
            log::warn!("upload: cannot remove the temporary file {name}: {error}");
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
    fn a_draft_gets_its_name_at_once_or_never() -> io::Result<()> {
        let outside = tempfile::tempdir()?;
        fs::write(outside.path().join("file"), "file")?;
        let sub = outside.path().join("sub");
        fs::create_dir_all(sub.join("deep"))?;
        symlink("../file", sub.join("up"))?;
        let folder = Folder::new(File::open(&sub)?.into());
        let before = names(&sub)?;
        let nameless: fn(&Folder) -> Result<TempFile<'_>, Errno> = Folder::create_temp_file;
        for (at, begin) in [nameless, Folder::create_named_temp_file]
            .into_iter()
            .enumerate()
        {
            // One that is forgotten.
            begin(&folder)?.write_all(b"forgotten")?;
            assert_eq!(names(&sub)?, before);

            let save = |name: &str, content: &str, overwrite| {
                let mut temp_file = begin(&folder)?;
                temp_file.write_all(content.as_bytes())?;
                io::Result::Ok(temp_file.save(name.as_bytes(), overwrite))
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
}
