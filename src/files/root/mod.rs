//! The only place that opens files: beneath the root, and without blocking on a FIFO or a device.
//!
//! The root is held as an open directory. The kernel resolves a path with
//! `openat2(RESOLVE_BENEATH)`: neither `..` nor a symbolic link can leave the root, and there is no
//! time between a check and the opening. Kernels and sandboxes without `openat2` get the same
//! result from a [walk](walk), component by component; so do absolute links, which the kernel
//! rejects even if they lead back into the root.
//!
//! A caller that may not block gets [`OpenError::WouldBlock`] if the kernel does not have the path
//! in memory (`RESOLVE_CACHED`), and always on file systems that contact another machine or process
//! when a file is opened (NFS, FUSE).
//!
//! Where a sandbox denies a folder that has taken the place of the root, a [`RootOpener`] opens it and the
//! files beneath it.

mod file_id;
mod fs_type;
mod open_error;
mod replaceable;
mod server_files;
#[cfg(test)]
mod tests;
mod walk;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat, StatxFlags, fstat, makedev, mkdirat, open,
    openat, openat2, readlinkat, statat, statx,
};
use rustix::io::Errno;

use super::upload::temp_file::Folder;
use crate::body::file_range::Storage;
use crate::explain_log::{self, Escaped, explain};
use crate::site::{OpenRequest, RootOpener, Symlinks};
pub(super) use file_id::{FileId, InodeId};
pub(super) use fs_type::storage;
pub(super) use open_error::{Blocking, OpenError};
pub use replaceable::ReplaceableRoot;
pub(super) use server_files::ServerFiles;

/// The open directory with the files of a site.
#[derive(Debug)]
pub(super) struct Root {
    directory: OwnedFd,
    /// The directory's inode. Its path may lead to another one meanwhile.
    pub(super) inode: InodeId,
    /// The root's path as given, and without symbolic links: an absolute link stays inside if it
    /// begins with one of them.
    names: [PathBuf; 2],
    symlinks: Symlinks,
    /// Never served.
    server_files: Arc<ServerFiles>,
    resolver: PathResolver,
    /// Opens files beneath the root if this process may not.
    opener: Option<Arc<dyn RootOpener>>,
    cached_lookups: CachedLookups,
    /// Where the bytes of the directory's own file system are.
    storage: Storage,
}

/// Whether paths can be resolved from the kernel's memory alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CachedLookups {
    /// `RESOLVE_CACHED`, since Linux 5.12.
    Supported,
    /// The file system contacts another machine or process, whatever is in memory.
    Remote,
    Unsupported,
}

/// How paths are resolved beneath the root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PathResolver {
    Openat2,
    Walk,
}

/// A path that was opened.
#[derive(Debug)]
pub(super) enum OpenedPath {
    File(OpenedFile),
    Directory,
}

/// A regular file with the metadata that it had when it was opened, from fstat(2) on the
/// descriptor: length and modification time always belong to the same file as the bytes.
#[derive(Debug)]
pub(super) struct OpenedFile {
    pub(super) file: File,
    pub(super) metadata: FileMetadata,
}

/// The metadata of a file when it was opened.
#[derive(Clone, Copy, Debug)]
pub(super) struct FileMetadata {
    pub(super) id: FileId,
    pub(super) len: u64,
    pub(super) modified: SystemTime,
}

impl OpenedFile {
    /// True if the file has not changed since it was opened.
    pub(super) fn is_unchanged(&self) -> bool {
        is_unchanged(&self.file, self.metadata.id)
    }
}

/// True if an open file is still in the state `id`.
pub(super) fn is_unchanged(file: &File, id: FileId) -> bool {
    fstat(file).is_ok_and(|stat| FileId::of(&stat) == id)
}

impl From<Errno> for OpenError {
    fn from(errno: Errno) -> Self {
        match errno {
            Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV | Errno::NAMETOOLONG => {
                Self::NotFound
            }
            // ENXIO and ENODEV: a socket, or a device without a driver.
            Errno::ACCESS | Errno::PERM | Errno::NXIO | Errno::NODEV => Self::Forbidden,
            Errno::MFILE | Errno::NFILE | Errno::NOMEM => Self::OutOfDescriptors,
            errno => Self::Failed(errno.into()),
        }
    }
}

/// Opening a FIFO must not block, and opening a terminal must not make it the controlling one.
const OPEN_FILE: OFlags = OFlags::RDONLY
    .union(OFlags::NONBLOCK)
    .union(OFlags::CLOEXEC)
    .union(OFlags::NOCTTY);

const OPEN_DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::CLOEXEC);

impl Root {
    pub(super) fn open(path: &Path, symlinks: Symlinks) -> io::Result<Self> {
        let names = names(path)?;
        let directory = open(&names[1], OPEN_DIRECTORY, Mode::empty())?;
        Self::from_directory(directory, names, symlinks)
    }

    /// Has another process open the root, and later what is beneath it. May block.
    pub(super) fn open_by(
        opener: &Arc<dyn RootOpener>,
        path: &Path,
        symlinks: Symlinks,
    ) -> io::Result<Self> {
        let names = names(path)?;
        let directory = opener.open(&OpenRequest {
            root: &names[1],
            directory: None,
            symlinks,
            path: b"",
        })?;
        let mut root = Self::from_directory(directory, names, symlinks)?;
        root.opener = Some(Arc::clone(opener));
        Ok(root)
    }

    /// `names` are those of [`Root::names`].
    fn from_directory(
        directory: OwnedFd,
        names: [PathBuf; 2],
        symlinks: Symlinks,
    ) -> io::Result<Self> {
        // Old kernels lack the call (ENOSYS), and some sandboxes forbid it (EPERM).
        let beneath = ResolveFlags::BENEATH;
        let resolver = match open_beneath(directory.as_fd(), b".", beneath) {
            Err(Errno::NOSYS | Errno::PERM | Errno::INVAL) => PathResolver::Walk,
            _ => PathResolver::Openat2,
        };
        let cached = beneath | ResolveFlags::CACHED;
        let cached_lookups = match open_beneath(directory.as_fd(), b".", cached) {
            _ if fs_type::is_remote(&directory) => CachedLookups::Remote,
            Ok(_) => CachedLookups::Supported,
            Err(_) => CachedLookups::Unsupported,
        };
        Ok(Self {
            inode: InodeId::of(&fstat(&directory)?),
            storage: storage(&directory),
            directory,
            names,
            symlinks,
            server_files: Arc::default(),
            resolver,
            opener: None,
            cached_lookups,
        })
    }

    /// True if the directory has no name any more: it was removed.
    pub(super) fn is_removed(&self) -> bool {
        fstat(&self.directory).is_ok_and(|stat| stat.st_nlink == 0)
    }

    /// Never opens `files`.
    pub(super) fn without(mut self, files: Arc<ServerFiles>) -> Self {
        self.server_files = files;
        self
    }

    /// Opens `path`, which is relative to the root; the root itself is empty or `.`. The server's own
    /// files are [`OpenError::NotFound`].
    pub(super) fn get(&self, path: &[u8], blocking: Blocking) -> Result<OpenedPath, OpenError> {
        if explain_log::is_explained() {
            self.explain_links(path);
        }
        if !self.may_open_with(blocking) {
            return Err(OpenError::WouldBlock);
        }
        if blocking == Blocking::Forbidden && self.cached_lookups == CachedLookups::Supported {
            return self.served(path, opened(self.descriptor_if_cached(path)?)?, blocking);
        }
        self.served(path, opened(self.descriptor(path)?)?, blocking)
    }

    fn served(
        &self,
        path: &[u8],
        opened: OpenedPath,
        blocking: Blocking,
    ) -> Result<OpenedPath, OpenError> {
        if let OpenedPath::File(file) = &opened
            && self.server_files.contain(&file.metadata.id, blocking)?
        {
            let why = "the server itself reads or writes this file, so it is never served";
            explain!("path", "/{} is refused because {why}", Escaped(path));
            return Err(OpenError::NotFound);
        }
        Ok(opened)
    }

    /// Returns true for one of the server's own files, as far as they are known.
    pub(super) fn is_server_file(&self, stat: &Stat) -> bool {
        self.server_files.have(InodeId::of(stat))
    }

    /// Returns true if storing a file at `path` would replace one of the server's own files, or create
    /// one that does not exist yet. May block.
    pub(super) fn would_replace_server_file(&self, path: &[u8]) -> bool {
        self.server_files.look_up();
        let start = memchr::memrchr(b'/', path).map_or(0, |slash| slash + 1);
        let (folder, last) = path.split_at(start);
        let inode = |descriptor| fstat(descriptor).map(|stat| InodeId::of(&stat));
        let folder = self.descriptor_beneath(folder).and_then(inode);
        if folder.is_ok_and(|folder| self.server_files.have_name(folder, last)) {
            return true;
        }
        let file = statat(&self.directory, path, AtFlags::SYMLINK_NOFOLLOW);
        file.is_ok_and(|stat| self.is_server_file(&stat))
    }

    /// Returns true if one of the server's own files is beneath the folder at `path`. May block.
    pub(super) fn has_server_file_beneath(&self, path: &[u8]) -> bool {
        self.inode_at(path)
            .is_some_and(|folder| self.server_files.have_one_beneath(folder))
    }

    /// Explains the symbolic links on a path: the kernel follows them silently, and a response must
    /// not tell a link that is not followed from a path that does not exist.
    fn explain_links(&self, path: &[u8]) {
        if self.symlinks != Symlinks::Follow {
            return drop(self.walk(path));
        }
        let slashes = memchr::memchr_iter(b'/', path);
        for end in slashes.chain([path.len()]) {
            if let Ok(link) = readlinkat(&self.directory, &path[..end], Vec::new()) {
                let (name, link) = (Escaped(&path[..end]), Escaped(link.to_bytes()));
                explain!("symlink", "{name} → {link} is followed (--symlinks follow)");
            }
        }
    }

    /// False if opening any file may block, and the calling thread may not.
    fn may_open_with(&self, blocking: Blocking) -> bool {
        blocking != Blocking::Forbidden || self.opener.is_none() && self.may_stat_with(blocking)
    }

    /// False if every call on this file system may block, and the calling thread may not.
    pub(super) fn may_stat_with(&self, blocking: Blocking) -> bool {
        blocking != Blocking::Forbidden || self.cached_lookups != CachedLookups::Remote
    }

    /// Opens `path` from the kernel's memory. Mount points beneath the root are
    /// [`OpenError::WouldBlock`] too: their file system may be remote.
    fn descriptor_if_cached(&self, path: &[u8]) -> Result<OwnedFd, OpenError> {
        let flags = self.flags() | ResolveFlags::CACHED | ResolveFlags::NO_XDEV;
        let path = or_dot(path);
        match openat2(&self.directory, path, OPEN_FILE, Mode::empty(), flags) {
            // EXDEV: a mount point, or a link for which the kernel's answer is not final.
            Err(Errno::AGAIN | Errno::XDEV | Errno::INTR) => Err(OpenError::WouldBlock),
            result => Ok(result?),
        }
    }

    /// Returns the device that `path` is on, as far as the kernel has the path in memory: that of
    /// its deepest cached folder. Mount points are always cached, so a disk that hangs is
    /// identified.
    pub(super) fn device_of(&self, path: &[u8]) -> u64 {
        /// More folders than there usually are above a mount point.
        const MAX_DEPTH: usize = 16;
        let flags = self.flags() | ResolveFlags::CACHED;
        let device = |folder: &[u8]| {
            let open = OFlags::PATH | OFlags::CLOEXEC;
            let descriptor = openat2(&self.directory, folder, open, Mode::empty(), flags)?;
            // From the inode in memory, not from the disk.
            let cached = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
            let stat = statx(&descriptor, "", cached, StatxFlags::TYPE)?;
            Ok::<_, Errno>(makedev(stat.stx_dev_major, stat.stx_dev_minor))
        };
        let ends = memchr::memchr_iter(b'/', path).chain([path.len()]);
        let folders = ends
            .map(|end| &path[..end])
            .filter(|folder| !folder.is_empty());
        let devices = folders
            .take(MAX_DEPTH)
            .map_while(|folder| device(folder).ok());
        devices.last().unwrap_or(self.inode.device)
    }

    fn flags(&self) -> ResolveFlags {
        match self.symlinks {
            Symlinks::Never | Symlinks::Inside => self.flags_beneath(),
            Symlinks::Follow => ResolveFlags::empty(),
        }
    }

    fn flags_beneath(&self) -> ResolveFlags {
        let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        match self.symlinks {
            Symlinks::Never => beneath | ResolveFlags::NO_SYMLINKS,
            Symlinks::Inside | Symlinks::Follow => beneath,
        }
    }

    /// Returns where the bytes of a file are. Other file systems mounted beneath the root count as
    /// [`Storage::Backed`]: asking them could block.
    pub(super) fn storage_of(&self, metadata: &FileMetadata) -> Storage {
        if metadata.id.inode.device == self.inode.device {
            self.storage
        } else {
            Storage::Backed
        }
    }

    /// True if only this machine changes the files beneath the root.
    pub(super) fn is_local(&self) -> bool {
        fs_type::is_local(&self.directory)
    }

    /// Returns a path to a directory on the root's own file system, valid while the result exists;
    /// `None` if `path` contains a symbolic link.
    pub(super) fn path_without_links(&self, path: &[u8]) -> Option<ProcFdPath> {
        let flags = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let open = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let path = or_dot(path);
        let descriptor = openat2(&self.directory, path, open, Mode::empty(), flags).ok()?;
        let inode = InodeId::of(&fstat(&descriptor).ok()?);
        (inode.device == self.inode.device).then(|| ProcFdPath::new(descriptor))
    }

    /// Returns the state of what is at `path`; a symbolic link is not followed. To be used for
    /// comparisons only: the path may lead out of the root.
    pub(super) fn file_id_at(&self, path: &[u8]) -> Result<Option<FileId>, Errno> {
        match statat(&self.directory, path, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(FileId::of(&stat))),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    /// Opens a directory to read its entries.
    pub(super) fn directory(&self, path: &[u8]) -> Result<OwnedFd, OpenError> {
        check_directory(self.descriptor(path)?)
    }

    /// Opens a directory to create files in it, and creates it and those above it if they do not exist.
    pub(super) fn create_folders(&self, path: &[u8]) -> Result<Folder, OpenError> {
        /// Readable by all users, subject to the umask, as uploaded files are.
        const MODE: Mode = Mode::from_raw_mode(0o755);
        let mut folder = self.folder(b"")?;
        for (at, _) in path.iter().enumerate().filter(|(_, byte)| **byte == b'/') {
            let start = memchr::memrchr(b'/', &path[..at]).map_or(0, |slash| slash + 1);
            match self.folder(&path[..at]) {
                Err(OpenError::NotFound) => {
                    match mkdirat(&folder, &path[start..at], MODE) {
                        Ok(()) => folder.sync()?,
                        Err(Errno::EXIST) => {}
                        Err(errno) => return Err(errno.into()),
                    }
                    folder = self.folder(&path[..at])?;
                }
                opened => folder = opened?,
            }
        }
        Ok(folder)
    }

    /// Opens the deepest existing directory on the way to `path`, which ends with a slash. Also returns the
    /// next component, which is not a directory.
    pub(super) fn deepest_folder<'p>(
        &self,
        path: &'p [u8],
    ) -> Result<(Folder, &'p [u8]), OpenError> {
        let mut folder = self.folder(b"")?;
        let mut start = 0;
        for at in memchr::memchr_iter(b'/', path) {
            match self.folder(&path[..at]) {
                Err(OpenError::NotFound) => return Ok((folder, &path[start..at])),
                opened => folder = opened?,
            }
            start = at + 1;
        }
        Ok((folder, &path[start..]))
    }

    /// Opens a directory to create files in it. It is beneath the root even where reading follows
    /// symbolic links out of it.
    pub(super) fn folder(&self, path: &[u8]) -> Result<Folder, OpenError> {
        let descriptor = check_directory(self.descriptor_beneath(path)?)?;
        Ok(Folder::new(descriptor))
    }

    /// Returns the metadata of what is at `path`, for listings.
    pub(super) fn stat(&self, path: &[u8]) -> Option<Stat> {
        fstat(self.descriptor(path).ok()?).ok()
    }

    /// Returns the inode of what is at `path`.
    pub(super) fn inode_at(&self, path: &[u8]) -> Option<InodeId> {
        self.stat(path).map(|stat| InodeId::of(&stat))
    }

    fn descriptor(&self, path: &[u8]) -> Result<OwnedFd, Errno> {
        if self.symlinks == Symlinks::Follow && self.opener.is_none() {
            return openat(&self.directory, or_dot(path), OPEN_FILE, Mode::empty());
        }
        self.descriptor_beneath(path)
    }

    fn descriptor_beneath(&self, path: &[u8]) -> Result<OwnedFd, Errno> {
        if let Some(opener) = &self.opener {
            let opened = opener.open(&OpenRequest {
                root: &self.names[1],
                directory: Some(self.inode.into()),
                symlinks: self.symlinks,
                path,
            });
            return opened.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO));
        }
        let path = or_dot(path);
        let directory = self.directory.as_fd();
        match self.resolver {
            PathResolver::Walk => self.walk(path),
            PathResolver::Openat2 => match open_beneath(directory, path, self.flags_beneath()) {
                Err(Errno::XDEV) => self.walk(path),
                result => result,
            },
        }
    }
}

/// Returns the path of a root as given, but absolute, and without symbolic links.
fn names(path: &Path) -> io::Result<[PathBuf; 2]> {
    Ok([std::path::absolute(path)?, path.canonicalize()?])
}

/// The root's own name is empty, which openat2(2) rejects.
fn or_dot(path: &[u8]) -> &[u8] {
    if path.is_empty() { b"." } else { path }
}

fn check_directory(descriptor: OwnedFd) -> Result<OwnedFd, OpenError> {
    let stat = fstat(&descriptor)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => Ok(descriptor),
        _ => Err(OpenError::NotFound),
    }
}

/// A path in `/proc/self/fd` to an open descriptor.
pub(super) struct ProcFdPath {
    path: String,
    _descriptor: OwnedFd,
}

impl ProcFdPath {
    fn new(descriptor: OwnedFd) -> Self {
        Self {
            path: format!("/proc/self/fd/{}", descriptor.as_raw_fd()),
            _descriptor: descriptor,
        }
    }

    pub(super) fn as_str(&self) -> &str {
        &self.path
    }
}

/// Returns what a descriptor refers to, if it is a regular file or a directory.
pub(super) fn opened(descriptor: OwnedFd) -> Result<OpenedPath, OpenError> {
    let stat = fstat(&descriptor)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Ok(OpenedPath::File(OpenedFile {
            metadata: FileMetadata {
                id: FileId::of(&stat),
                len: stat.st_size.unsigned_abs(),
                modified: modification_time(stat.st_mtime, stat.st_mtime_nsec),
            },
            file: File::from(descriptor),
        })),
        FileType::Directory => Ok(OpenedPath::Directory),
        _ => Err(OpenError::Forbidden),
    }
}

fn modification_time(seconds: i64, nanoseconds: u64) -> SystemTime {
    let magnitude = Duration::from_secs(seconds.unsigned_abs());
    let time = if seconds < 0 {
        UNIX_EPOCH.checked_sub(magnitude)
    } else {
        UNIX_EPOCH.checked_add(magnitude)
    };
    time.unwrap_or(UNIX_EPOCH) + Duration::from_nanos(nanoseconds)
}

fn open_beneath(
    directory: BorrowedFd<'_>,
    path: &[u8],
    resolve: ResolveFlags,
) -> Result<OwnedFd, Errno> {
    /// EAGAIN means that a directory was renamed during the resolution (openat2(2)).
    const ATTEMPTS: usize = 8;
    let mut result = Err(Errno::AGAIN);
    for _ in 0..ATTEMPTS {
        result = openat2(directory, path, OPEN_FILE, Mode::empty(), resolve);
        if !matches!(result, Err(Errno::AGAIN | Errno::INTR)) {
            break;
        }
    }
    result
}
