//! The only inode that opens files: beneath the root, and nothing that could hang.
//!
//! The root is held as an open directory. A path is resolved by the kernel with
//! `openat2(RESOLVE_BENEATH)`: neither `..` nor a symbolic link can lead out of the root, and there
//! is no moment between a check and the opening. Kernels and sandboxes without `openat2` get a
//! walk, component by component, with the same result; so do absolute links, which the kernel
//! refuses even if they lead back into the root. Who may not wait for a disk is told
//! [`OpenError::WouldBlock`] instead (`RESOLVE_CACHED`), and is told nothing else of file systems that ask
//! another machine or program whenever something is opened (NFS, FUSE).

use std::ffi::{CStr, CString, OsStr};
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{
    AtFlags, FileType, FsWord, Mode, OFlags, ResolveFlags, Stat, StatxFlags, fstat, fstatfs,
    makedev, open, openat, openat2, readlinkat, stat, statat, statx,
};
use rustix::io::Errno;

use super::upload::temp_file::Folder;
use crate::body::file_range::Storage;
use crate::explain_log::{self, Escaped, explain};
use crate::site::Symlinks;

/// An open directory, beneath which everything lies that is served.
#[derive(Debug)]
pub(super) struct Root {
    directory: OwnedFd,
    /// Which directory that is, wherever its name leads by now.
    pub(super) inode: InodeId,
    /// As it was named, and without links: what an absolute link must begin with to stay inside.
    names: [PathBuf; 2],
    symlinks: Symlinks,
    resolver: PathResolver,
    cached_lookups: CachedLookups,
    /// Where the bytes of the directory's own file system are.
    storage: Storage,
}

/// Whether the kernel can be asked to look in its memory only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CachedLookups {
    /// `RESOLVE_CACHED`, since Linux 5.12.
    Supported,
    /// It would ask others, whatever is in its memory.
    Remote,
    Unsupported,
}

/// What tells two files apart at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct InodeId {
    device: u64,
    inode: u64,
}

/// What tells two versions of a file apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct FileId {
    inode: InodeId,
    len: u64,
    modified: (i64, u64),
    changed: (i64, u64),
}

/// Who resolves paths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PathResolver {
    Openat2,
    Walk,
}

/// What stands at a path.
#[derive(Debug)]
pub(super) enum OpenedPath {
    File(OpenedFile),
    Directory,
}

/// A regular file with the metadata it had when it was opened, read from the descriptor itself: a
/// size and a date never belong to another file than the bytes.
#[derive(Debug)]
pub(super) struct OpenedFile {
    pub(super) file: File,
    pub(super) metadata: FileMetadata,
}

/// What was true of a file when it was opened.
#[derive(Clone, Copy, Debug)]
pub(super) struct FileMetadata {
    pub(super) id: FileId,
    pub(super) len: u64,
    pub(super) modified: SystemTime,
}

impl OpenedFile {
    /// True if nobody has changed the file since it was opened.
    pub(super) fn is_unchanged(&self) -> bool {
        is_unchanged(&self.file, self.metadata.id)
    }
}

/// True if an open file is still the version it was.
pub(super) fn is_unchanged(file: &File, identity: FileId) -> bool {
    fstat(file).is_ok_and(|stat| FileId::of(&stat) == identity)
}

impl InodeId {
    fn of(stat: &Stat) -> Self {
        Self {
            device: stat.st_dev,
            inode: stat.st_ino,
        }
    }

    /// The directory that `path` names now.
    pub(super) fn of_directory(path: &Path) -> io::Result<Self> {
        Ok(Self::of(&stat(path)?))
    }
}

impl FileId {
    fn of(stat: &Stat) -> Self {
        Self {
            inode: InodeId::of(stat),
            len: stat.st_size.unsigned_abs(),
            modified: (stat.st_mtime, stat.st_mtime_nsec),
            changed: (stat.st_ctime, stat.st_ctime_nsec),
        }
    }
}

/// Whether the thread that asks may wait for a disk or a computation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Blocking {
    /// An event loop: it may not.
    Forbidden,
    /// A helper.
    Allowed,
}

/// Why there is nothing to serve at a path.
#[derive(Debug)]
pub(super) enum OpenError {
    /// Nothing is there, or it leads out of the root: which of the two is nobody's business.
    NotFound,
    /// It is there, but not for us to read, or it is no regular file.
    Forbidden,
    /// The process is out of descriptors or memory.
    OutOfDescriptors,
    /// Somebody writes to it faster than it can be read.
    Modified,
    /// It is not in memory, and who asks may not wait for the disk.
    WouldBlock,
    /// The disk failed.
    Failed(io::Error),
}

impl From<Errno> for OpenError {
    fn from(errno: Errno) -> Self {
        match errno {
            Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV | Errno::NAMETOOLONG => {
                Self::NotFound
            }
            // A socket, or a device without a driver.
            Errno::ACCESS | Errno::PERM | Errno::NXIO | Errno::NODEV => Self::Forbidden,
            Errno::MFILE | Errno::NFILE | Errno::NOMEM => Self::OutOfDescriptors,
            errno => Self::Failed(errno.into()),
        }
    }
}

/// Opening a FIFO or a device must not wait for its other end, nor make it our terminal.
const OPEN_FILE: OFlags = OFlags::RDONLY
    .union(OFlags::NONBLOCK)
    .union(OFlags::CLOEXEC)
    .union(OFlags::NOCTTY);

const OPEN_DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::CLOEXEC);

impl Root {
    pub(super) fn open(path: &Path, symlinks: Symlinks) -> io::Result<Self> {
        let names = [std::path::absolute(path)?, path.canonicalize()?];
        let directory = open(&names[1], OPEN_DIRECTORY, Mode::empty())?;
        // Old kernels do not have the call (ENOSYS), some sandboxes forbid it (EPERM).
        let beneath = ResolveFlags::BENEATH;
        let resolver = match open_kernel(directory.as_fd(), b".", beneath) {
            Err(Errno::NOSYS | Errno::PERM | Errno::INVAL) => PathResolver::Walk,
            _ => PathResolver::Openat2,
        };
        let cached = beneath | ResolveFlags::CACHED;
        let cached_lookups = match open_kernel(directory.as_fd(), b".", cached) {
            _ if is_remote(&directory) => CachedLookups::Remote,
            Ok(_) => CachedLookups::Supported,
            Err(_) => CachedLookups::Unsupported,
        };
        Ok(Self {
            inode: InodeId::of(&fstat(&directory)?),
            storage: storage(&directory),
            directory,
            names,
            symlinks,
            resolver,
            cached_lookups,
        })
    }

    /// Opens `path`, which is relative to the root; the root itself is empty or `.`.
    pub(super) fn get(&self, path: &[u8], blocking: Blocking) -> Result<OpenedPath, OpenError> {
        if explain_log::is_explained() {
            self.explain_links(path);
        }
        if !self.may_open_with(blocking) {
            return Err(OpenError::WouldBlock);
        }
        if blocking == Blocking::Forbidden && self.cached_lookups == CachedLookups::Supported {
            return opened(self.descriptor_if_cached(path)?);
        }
        opened(self.descriptor(path)?)
    }

    /// Says which symbolic links are on the way, and what becomes of them: the kernel follows them
    /// without a word, and an answer must not tell a link that is refused from nothing.
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

    /// False if nothing can be found out here by who may not wait.
    pub(super) fn may_open_with(&self, blocking: Blocking) -> bool {
        blocking == Blocking::Allowed || self.cached_lookups != CachedLookups::Remote
    }

    /// Opens without waiting for a disk: what is not in the kernel's memory is [`OpenError::WouldBlock`], and
    /// so is what is mounted beneath the root, where opening may be to ask others.
    fn descriptor_if_cached(&self, path: &[u8]) -> Result<OwnedFd, OpenError> {
        let path = if path.is_empty() { b"." } else { path };
        let flags = self.flags() | ResolveFlags::CACHED | ResolveFlags::NO_XDEV;
        match openat2(&self.directory, path, OPEN_FILE, Mode::empty(), flags) {
            // What is mounted, and a link that must be looked at more closely.
            Err(Errno::AGAIN | Errno::XDEV | Errno::INTR) => Err(OpenError::WouldBlock),
            result => Ok(result?),
        }
    }

    /// The device that `path` lies on, as far as the kernel has it in cached_lookups: that of the folder
    /// above it that is there. What is mounted is, so a disk that hangs is known by its device.
    pub(super) fn device_of(&self, path: &[u8]) -> u64 {
        /// Folders that are looked at, and this is more than lie above what is mounted.
        const MAX_DEPTH: usize = 16;
        let flags = self.flags() | ResolveFlags::CACHED;
        let device = |folder: &[u8]| {
            let open = OFlags::PATH | OFlags::CLOEXEC;
            let held = openat2(&self.directory, folder, open, Mode::empty(), flags)?;
            // What is known is asked for, not the disk.
            let asked = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
            let stat = statx(&held, "", asked, StatxFlags::TYPE)?;
            Ok::<_, Errno>(makedev(stat.stx_dev_major, stat.stx_dev_minor))
        };
        let ends = memchr::memchr_iter(b'/', path).chain([path.len()]);
        let folders = ends
            .map(|end| &path[..end])
            .filter(|folder| !folder.is_empty());
        let known = folders
            .take(MAX_DEPTH)
            .map_while(|folder| device(folder).ok());
        known.last().unwrap_or(self.inode.device)
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

    /// Where the bytes of a file are. What is mounted beneath the root is not asked: that could have
    /// to be waited for.
    pub(super) fn storage_of(&self, metadata: &FileMetadata) -> Storage {
        match metadata.id.inode.device == self.inode.device {
            true => self.storage,
            false => Storage::Backed,
        }
    }

    /// True if all that changes beneath the root changes on this machine.
    pub(super) fn is_local(&self) -> bool {
        const BTRFS: FsWord = 0x9123_683e;
        const EXT4: FsWord = 0xef53;
        const F2FS: FsWord = 0xf2f5_2010;
        const TMPFS: FsWord = 0x0102_1994;
        const XFS: FsWord = 0x5846_5342;
        let system = fstatfs(&self.directory).map(|system| system.f_type);
        system.is_ok_and(|system| [BTRFS, EXT4, F2FS, TMPFS, XFS].contains(&system))
    }

    /// A path to a directory of the root's own file system, good for a moment; `None` if a link is
    /// on the way.
    pub(super) fn path_without_links(&self, path: &[u8]) -> Option<ProcFdPath> {
        let path = if path.is_empty() { b"." } else { path };
        let flags = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let open = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let held = openat2(&self.directory, path, open, Mode::empty(), flags).ok()?;
        let inode = InodeId::of(&fstat(&held).ok()?);
        (inode.device == self.inode.device).then(|| ProcFdPath::new(held))
    }

    /// What stands at `path` itself, be it a link. It may be anywhere: only for comparing.
    pub(super) fn file_id_at(&self, path: &[u8]) -> Result<Option<FileId>, Errno> {
        match statat(&self.directory, path, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(FileId::of(&stat))),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    /// Opens a directory to read its entries.
    pub(super) fn directory(&self, path: &[u8]) -> Result<OwnedFd, OpenError> {
        let descriptor = self.descriptor(path)?;
        let stat = fstat(&descriptor)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => Ok(descriptor),
            _ => Err(OpenError::NotFound),
        }
    }

    /// Opens a directory to make files in it: one beneath the root, wherever links may lead who
    /// only reads.
    pub(super) fn folder(&self, path: &[u8]) -> Result<Folder, OpenError> {
        let descriptor = self.descriptor_beneath(path)?;
        let stat = fstat(&descriptor)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => Ok(Folder::new(descriptor)),
            _ => Err(OpenError::NotFound),
        }
    }

    /// What is left of an absolute path that leads into the root.
    fn beneath<'p>(&self, path: &'p Path) -> Option<&'p Path> {
        self.names
            .iter()
            .find_map(|name| path.strip_prefix(name).ok())
    }

    /// What stands at `path`, without opening it: for listings.
    pub(super) fn stat(&self, path: &[u8]) -> Option<Stat> {
        fstat(self.descriptor(path).ok()?).ok()
    }

    fn descriptor(&self, path: &[u8]) -> Result<OwnedFd, Errno> {
        if self.symlinks == Symlinks::Follow {
            let path = if path.is_empty() { b"." } else { path };
            return openat(&self.directory, path, OPEN_FILE, Mode::empty());
        }
        self.descriptor_beneath(path)
    }

    fn descriptor_beneath(&self, path: &[u8]) -> Result<OwnedFd, Errno> {
        let path = if path.is_empty() { b"." } else { path };
        let directory = self.directory.as_fd();
        match self.resolver {
            PathResolver::Walk => self.walk(path),
            PathResolver::Openat2 => match open_kernel(directory, path, self.flags_beneath()) {
                Err(Errno::XDEV) => self.walk(path),
                result => result,
            },
        }
    }

    /// `openat2(RESOLVE_BENEATH)` by hand: symbolic links are read and followed here, and `..` goes
    /// back to a directory that was opened on the way, so it cannot climb above the first.
    fn walk(&self, path: &[u8]) -> Result<OwnedFd, Errno> {
        /// As many links as the kernel follows.
        const MAX_LINKS: usize = 40;
        let directory = self.directory.as_fd();
        let mut links = 0;
        let mut todo: Vec<Vec<u8>> = components(path);
        let mut above: Vec<OwnedFd> = Vec::new();
        let mut followed = (Vec::new(), CString::default());
        while let Some(name) = todo.pop() {
            let here = above.last().map_or(directory, AsFd::as_fd);
            match &name[..] {
                b"." => continue,
                b".." => {
                    if above.pop().is_none() {
                        explain_escape(&followed.0, &followed.1);
                        return Err(Errno::XDEV);
                    }
                    continue;
                }
                _ => {}
            }
            let more = !todo.is_empty();
            let flags = if more { OPEN_DIRECTORY } else { OPEN_FILE };
            match openat(here, &name[..], flags | OFlags::NOFOLLOW, Mode::empty()) {
                Ok(descriptor) if more => above.push(descriptor),
                Ok(descriptor) => return Ok(descriptor),
                // ELOOP for a link, ENOTDIR for a link where a directory was wanted.
                Err(errno @ (Errno::LOOP | Errno::NOTDIR)) => {
                    let link = readlinkat(here, &name[..], Vec::new()).map_err(|_| errno)?;
                    links += 1;
                    let shown = (Escaped(&name), Escaped(link.to_bytes()));
                    if self.symlinks == Symlinks::Never {
                        let way_out = "--symlinks inside follows links within the root";
                        explain!(
                            "symlink",
                            "{} → {} is not followed ({way_out})",
                            shown.0,
                            shown.1
                        );
                        return Err(Errno::LOOP);
                    }
                    if links > MAX_LINKS {
                        explain!(
                            "symlink",
                            "{} → {} is not followed: more than {MAX_LINKS} links",
                            shown.0,
                            shown.1
                        );
                        return Err(Errno::LOOP);
                    }
                    let mut target = Path::new(OsStr::from_bytes(link.to_bytes()));
                    if target.is_absolute() {
                        let Some(inside) = self.beneath(target) else {
                            explain_escape(&name, &link);
                            return Err(Errno::XDEV);
                        };
                        target = inside;
                        above.clear();
                    }
                    explain!("symlink", "{} → {} is followed", shown.0, shown.1);
                    todo.extend(components(target.as_os_str().as_bytes()));
                    followed = (name, link);
                }
                Err(errno) => return Err(errno),
            }
        }
        // The path ends with a directory that is open already.
        let here = above.last().map_or(directory, AsFd::as_fd);
        openat(here, ".", OPEN_DIRECTORY, Mode::empty())
    }
}

fn explain_escape(name: &[u8], link: &CStr) {
    let link = Escaped(link.to_bytes());
    let way_out = "leads out of the root and is not followed (--symlinks follow allows it)";
    explain!("symlink", "{} → {link} {way_out}", Escaped(name));
}

/// A path that leads to an open descriptor.
pub(super) struct ProcFdPath {
    path: String,
    _held: OwnedFd,
}

impl ProcFdPath {
    fn new(held: OwnedFd) -> Self {
        Self {
            path: format!("/proc/self/fd/{}", held.as_raw_fd()),
            _held: held,
        }
    }

    pub(super) fn as_str(&self) -> &str {
        &self.path
    }
}

/// True for file systems that open nothing without asking another machine or program.
fn is_remote(file: impl AsFd) -> bool {
    const AFS: FsWord = 0x5346_414f;
    const CEPH: FsWord = 0x00c3_6400;
    const CIFS: FsWord = 0xff53_4d42;
    const FUSE: FsWord = 0x6573_5546;
    const NFS: FsWord = 0x6969;
    const SMB2: FsWord = 0xfe53_4d42;
    const V9FS: FsWord = 0x0102_1997;
    let all = [AFS, CEPH, CIFS, FUSE, NFS, SMB2, V9FS];
    fstatfs(file).is_ok_and(|system| all.contains(&system.f_type))
}

/// Where the bytes of a file system are. One that is on another machine may have to be waited for.
pub(super) fn storage(file: impl AsFd) -> Storage {
    const TMPFS: FsWord = 0x0102_1994;
    const RAMFS: FsWord = 0x8584_58f6;
    match fstatfs(file).map(|system| system.f_type) {
        Ok(TMPFS | RAMFS) => Storage::PageCacheOnly,
        _ => Storage::Backed,
    }
}

/// What a descriptor is, if it is one of the two things that can be served.
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
    let whole = Duration::from_secs(seconds.unsigned_abs());
    let time = match seconds {
        0.. => UNIX_EPOCH.checked_add(whole),
        _ => UNIX_EPOCH.checked_sub(whole),
    };
    time.unwrap_or(UNIX_EPOCH) + Duration::from_nanos(nanoseconds)
}

fn open_kernel(
    directory: BorrowedFd<'_>,
    path: &[u8],
    resolve: ResolveFlags,
) -> Result<OwnedFd, Errno> {
    /// EAGAIN means that somebody renamed on our way (openat2(2)); it does not go on for ever.
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

/// The components of a path, the first one last.
fn components(path: &[u8]) -> Vec<Vec<u8>> {
    path.split(|&byte| byte == b'/')
        .filter(|name| !name.is_empty())
        .rev()
        .map(<[u8]>::to_vec)
        .collect()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::os::unix::net::UnixListener;

    use rustix::fs::{CWD, mkfifoat};
    use tempfile::TempDir;

    use super::*;

    fn tree() -> io::Result<TempDir> {
        let outside = tempfile::tempdir()?;
        let at = |name: &str| outside.path().join(name);
        fs::write(at("secret"), "secret")?;
        fs::create_dir_all(at("root/sub/deep"))?;
        fs::write(at("root/file"), "file")?;
        fs::write(at("root/sub/file"), "sub file")?;
        symlink("sub/file", at("root/inside"))?;
        symlink("../file", at("root/sub/up"))?;
        symlink("sub", at("root/dir"))?;
        symlink("../secret", at("root/out"))?;
        symlink("../../../secret", at("root/sub/out"))?;
        symlink(at("root/file"), at("root/absolute"))?;
        symlink("/etc/passwd", at("root/passwd"))?;
        symlink("loop", at("root/loop"))?;
        symlink("nowhere", at("root/dangling"))?;
        mkfifoat(CWD, at("root/fifo"), Mode::RUSR)?;
        let _ = UnixListener::bind(at("root/socket"))?;
        Ok(outside)
    }

    fn get(root: &Root, path: &str) -> &'static str {
        match root.get(path.as_bytes(), Blocking::Allowed) {
            Ok(OpenedPath::File(opened)) => match opened.metadata.len {
                4 => "file",
                8 => "sub file",
                _ => "another file",
            },
            Ok(OpenedPath::Directory) => "directory",
            Err(OpenError::NotFound) => "not found",
            Err(OpenError::Forbidden) => "forbidden",
            Err(other) => panic!("{path}: {other:?}"),
        }
    }

    #[test]
    fn nothing_outside_the_root_is_ever_opened() -> io::Result<()> {
        let outside = tree()?;
        let mut root = Root::open(&outside.path().join("root"), Symlinks::Inside)?;
        let table = [
            ("", "directory"),
            ("file", "file"),
            ("sub", "directory"),
            ("sub/file", "sub file"),
            ("inside", "sub file"),
            ("sub/up", "file"),
            ("dir", "directory"),
            ("dir/file", "sub file"),
            ("dir/up", "file"),
            ("sub/../file", "file"),
            ("nothing", "not found"),
            ("file/", "not found"),
            ("file/x", "not found"),
            ("../secret", "not found"),
            ("sub/../../secret", "not found"),
            ("/etc/passwd", "not found"),
            ("out", "not found"),
            ("sub/out", "not found"),
            ("dir/out", "not found"),
            ("absolute", "file"),
            ("passwd", "not found"),
            ("loop", "not found"),
            ("dangling", "not found"),
            ("fifo", "forbidden"),
            ("socket", "forbidden"),
        ];
        for resolver in [root.resolver, PathResolver::Walk] {
            root.resolver = resolver;
            for (path, expected) in table {
                // The walk ignores empty components at either end, which no caller hands it.
                let rooted = path.starts_with('/') || path.ends_with('/');
                if resolver == PathResolver::Openat2 || !rooted {
                    assert_eq!(get(&root, path), expected, "{path:?} by {resolver:?}");
                }
            }
        }
        Ok(())
    }

    /// What is mounted beneath the root is another disk, which may not even be asked to open
    /// something by who may not wait for it.
    #[test]
    fn a_disk_beneath_the_root_is_known_without_asking_it() -> io::Result<()> {
        let root = Root::open(Path::new("/"), Symlinks::Inside)?;
        let proc = InodeId::of_directory(Path::new("/proc"))?.device;
        assert_ne!(proc, root.inode.device);
        let table = [
            ("", root.inode.device),
            ("nothing/at/all", root.inode.device),
            ("proc", proc),
            ("proc/version", proc),
            ("proc/nothing/at/all", proc),
        ];
        for (path, device) in table {
            assert_eq!(root.device_of(path.as_bytes()), device, "{path}");
        }
        if root.cached_lookups == CachedLookups::Supported {
            let impatient = root.get(b"proc", Blocking::Forbidden);
            assert!(
                matches!(impatient, Err(OpenError::WouldBlock)),
                "{impatient:?}"
            );
        }
        let patient = root.get(b"proc", Blocking::Allowed);
        assert!(matches!(patient, Ok(OpenedPath::Directory)), "{patient:?}");
        Ok(())
    }

    #[test]
    fn links_are_followed_as_far_as_they_may() -> io::Result<()> {
        let outside = tree()?;
        let table = [
            (
                Symlinks::Never,
                ["not found", "not found", "not found", "file"],
            ),
            (
                Symlinks::Inside,
                ["sub file", "sub file", "not found", "file"],
            ),
            (
                Symlinks::Follow,
                ["sub file", "sub file", "another file", "file"],
            ),
        ];
        for (symlinks, expected) in table {
            let mut root = Root::open(&outside.path().join("root"), symlinks)?;
            for resolver in [root.resolver, PathResolver::Walk] {
                root.resolver = resolver;
                let found = ["inside", "dir/file", "out", "file"].map(|path| get(&root, path));
                assert_eq!(found, expected, "{symlinks:?} by {resolver:?}");
            }
        }
        Ok(())
    }

    #[test]
    fn what_may_not_be_read_is_forbidden() -> io::Result<()> {
        let outside = tree()?;
        let path = outside.path().join("root/file");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o0))?;
        if File::open(&path).is_ok() {
            // Root may read everything.
            return Ok(());
        }
        let root = Root::open(&outside.path().join("root"), Symlinks::Inside)?;
        assert_eq!(get(&root, "file"), "forbidden");
        Ok(())
    }

    #[test]
    fn a_folder_to_write_in_is_beneath_the_root() -> io::Result<()> {
        let outside = tree()?;
        let inside = outside.path().join("root");
        fs::create_dir(outside.path().join("elsewhere"))?;
        symlink("../elsewhere", inside.join("away"))?;
        let open = |root: &Root, path: &str| match root.folder(path.as_bytes()) {
            Ok(_) => "open",
            Err(OpenError::NotFound) => "not found",
            Err(other) => panic!("{path}: {other:?}"),
        };
        for (symlinks, expected) in [
            (Symlinks::Never, ["open", "open", "not found", "not found"]),
            (Symlinks::Inside, ["open", "open", "open", "not found"]),
            (Symlinks::Follow, ["open", "open", "open", "not found"]),
        ] {
            let mut root = Root::open(&inside, symlinks)?;
            for resolver in [root.resolver, PathResolver::Walk] {
                root.resolver = resolver;
                let found = ["", "sub/deep", "dir/deep", "away"].map(|path| open(&root, path));
                assert_eq!(found, expected, "{symlinks:?} by {resolver:?}");
                for path in ["file", "fifo", "nothing", "..", "sub/../../elsewhere"] {
                    assert_eq!(open(&root, path), "not found", "{path}");
                }
            }
        }
        Ok(())
    }

    #[test]
    fn times_before_1970_are_times() {
        let time = modification_time(-2, 500_000_000);
        assert_eq!(time, UNIX_EPOCH - Duration::from_millis(1500));
    }
}
