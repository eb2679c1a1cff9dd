//! A FUSE file system that hangs and fails as instructed. It needs root and `/dev/fuse`.
//!
//! Its files must be read by another process: a thread that waits for a disk cannot be killed, and
//! a process that waits for itself waits forever. Dropping it unmounts it; waiting readers then get
//! an error.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use fuser::{
    BackgroundSession, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation,
    INodeNo, LockOwner, MountOption, OpenFlags, ReplyAttr, ReplyData, ReplyEntry, ReplyOpen,
    Request,
};
use rustix::mount::{UnmountFlags, unmount};

/// The behaviour of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FileBehavior {
    Sound,
    /// Reads wait until [`FuseDisk::release`].
    HangsInReads,
    /// Opening waits until [`FuseDisk::release`].
    HangsInOpens,
    /// Reads fail from this offset on.
    FailsFrom(u64),
    /// The kernel caches neither its content nor its size.
    Forgotten,
}

/// A mounted file system.
pub(crate) struct FuseDisk {
    path: PathBuf,
    waiting: Arc<BlockedRequests>,
    requesting_threads: Arc<RequestingThreads>,
    /// `None` once it is unmounted.
    session: Option<BackgroundSession>,
}

struct FuseFiles {
    files: Vec<(&'static str, Vec<u8>, FileBehavior)>,
    modified: SystemTime,
    waiting: Arc<BlockedRequests>,
    requesting_threads: Arc<RequestingThreads>,
}

/// The names of the threads that have requested something of a file.
type RequestingThreads = Mutex<BTreeSet<String>>;

/// The blocked requests, each as the function that completes it; `None` after the release.
struct BlockedRequests(Mutex<Option<Vec<Unblock>>>);

type Unblock = Box<dyn FnOnce() + Send>;

impl FuseDisk {
    /// Mounts these files at `path`, an empty folder.
    pub(crate) fn mount(path: &Path, files: &[(&'static str, Vec<u8>, FileBehavior)]) -> Self {
        let waiting = Arc::new(BlockedRequests(Mutex::new(Some(Vec::new()))));
        let files = FuseFiles {
            files: files.to_vec(),
            // Files written moments ago get weak entity tags.
            modified: SystemTime::now() - Duration::from_secs(3600),
            waiting: Arc::clone(&waiting),
            requesting_threads: Arc::default(),
        };
        let requesting_threads = Arc::clone(&files.requesting_threads);
        let mut config = fuser::Config::default();
        config.mount_options = vec![MountOption::RO, MountOption::FSName("tests".to_owned())];
        let session = fuser::spawn_mount(files, path, &config)
            .expect("mount FUSE file system (needs root and /dev/fuse)");
        Self {
            path: path.to_owned(),
            waiting,
            requesting_threads,
            session: Some(session),
        }
    }

    /// Returns the number of blocked reads and opens.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.lock().as_ref().map_or(0, Vec::len)
    }

    /// Returns the names of the threads that have requested a file's content or size, and so could
    /// have been blocked.
    pub(crate) fn requesting_threads(&self) -> BTreeSet<String> {
        let requesting_threads = self.requesting_threads.lock();
        requesting_threads
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Completes the blocked requests; from now on no request blocks.
    pub(crate) fn release(&self) {
        let waiting = self.waiting.lock().take();
        waiting.into_iter().flatten().for_each(|resume| resume());
    }
}

impl Drop for FuseDisk {
    fn drop(&mut self) {
        self.release();
        // Processes keep the files that they have open: the mount point is free immediately.
        if let Err(error) = unmount(&self.path, UnmountFlags::DETACH) {
            eprintln!("{} is still mounted: {error}", self.path.display());
        }
        drop(self.session.take());
    }
}

impl BlockedRequests {
    fn lock(&self) -> MutexGuard<'_, Option<Vec<Unblock>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, resume: Unblock) {
        match &mut *self.lock() {
            Some(waiting) => waiting.push(resume),
            None => resume(),
        }
    }
}

impl FuseFiles {
    fn attributes(&self, inode: INodeNo) -> Option<FileAttr> {
        let (kind, size) = match inode {
            INodeNo::ROOT => (FileType::Directory, 0),
            inode => (FileType::RegularFile, self.file(inode)?.1.len() as u64),
        };
        Some(FileAttr {
            ino: inode,
            size,
            blocks: size.div_ceil(512),
            atime: self.modified,
            mtime: self.modified,
            ctime: self.modified,
            crtime: self.modified,
            kind,
            perm: 0o755,
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        })
    }

    fn note(&self, request: &Request) {
        let name = std::fs::read_to_string(format!("/proc/{}/comm", request.pid()));
        let name = name.unwrap_or_default().trim_end().to_owned();
        let requesting_threads = self.requesting_threads.lock();
        requesting_threads
            .unwrap_or_else(PoisonError::into_inner)
            .insert(name);
    }

    /// Returns how long the kernel may cache a file's attributes.
    fn lifetime(&self, inode: INodeNo) -> Duration {
        match self.file(inode) {
            Some((_, _, FileBehavior::Forgotten)) => Duration::ZERO,
            _ => FOR_EVER,
        }
    }

    /// The root's inode is 1, and those of the files follow.
    fn file(&self, inode: INodeNo) -> Option<&(&'static str, Vec<u8>, FileBehavior)> {
        self.files
            .get(usize::try_from(inode.0).ok()?.checked_sub(2)?)
    }
}

/// The kernel caches attributes as long as it does for a disk.
const FOR_EVER: Duration = Duration::from_secs(86_400);

impl Filesystem for FuseFiles {
    fn lookup(&self, _: &Request, _: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let found = self.files.iter().position(|(file, ..)| *file == name);
        match found.and_then(|at| self.attributes(INodeNo(at as u64 + 2))) {
            Some(attributes) => {
                reply.entry(&self.lifetime(attributes.ino), &attributes, Generation(0));
            }
            None => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, request: &Request, inode: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        self.note(request);
        match self.attributes(inode) {
            Some(attributes) => reply.attr(&self.lifetime(inode), &attributes),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn open(&self, _: &Request, inode: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        match self.file(inode) {
            Some((_, _, FileBehavior::HangsInOpens)) => self.waiting.add(Box::new(move || {
                reply.opened(FileHandle(0), FopenFlags::FOPEN_KEEP_CACHE);
            })),
            Some((_, _, FileBehavior::Forgotten)) => {
                reply.opened(FileHandle(0), FopenFlags::FOPEN_DIRECT_IO);
            }
            _ => reply.opened(FileHandle(0), FopenFlags::FOPEN_KEEP_CACHE),
        }
    }

    fn read(
        &self,
        request: &Request,
        inode: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        self.note(request);
        let Some((_, content, temper)) = self.file(inode) else {
            return reply.error(Errno::EIO);
        };
        let start = content.len().min(offset as usize);
        let piece = &content[start..content.len().min(start + size as usize)];
        match *temper {
            FileBehavior::FailsFrom(at) if offset + u64::from(size) > at => reply.error(Errno::EIO),
            FileBehavior::HangsInReads => {
                let piece = piece.to_vec();
                self.waiting.add(Box::new(move || reply.data(&piece)));
            }
            _ => reply.data(piece),
        }
    }
}
