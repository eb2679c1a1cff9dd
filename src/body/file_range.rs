//! A part of an open file, and what is known about the file while it is sent.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use bytes::{Buf, Bytes};
use rustix::fs::{AtFlags, Statx, StatxFlags, makedev, statx};

/// A range of an open file. It stays readable when the name is replaced or unlinked meanwhile.
#[derive(Clone, Debug)]
pub struct FileRange {
    /// The open file; its read position is not used.
    pub file: Arc<File>,
    /// The first byte.
    pub offset: u64,
    /// How many bytes.
    pub len: u64,
    /// What the file is known to be, if somebody promised so.
    pub(crate) version: Option<Arc<FileState>>,
}

/// What a file was when it was promised; all who send it share it.
#[derive(Debug)]
pub(crate) struct FileState {
    len: u64,
    modified: SystemTime,
    pub(crate) medium: Storage,
    since: Instant,
    /// Milliseconds from `since` until it was seen to be in the kernel's memory; 0 is never.
    seen: AtomicU64,
    /// The same for when some of it was seen not to be there.
    missed: AtomicU64,
}

/// Where a file's bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Storage {
    /// In the kernel's memory, and nowhere else: tmpfs, ramfs.
    PageCacheOnly,
    /// Somewhere that may have to be waited for.
    Backed,
}

/// The beginning of a range, as far as it can be sent without waiting for a disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Resident {
    /// So many bytes are in the kernel's memory.
    InKernel(u64),
    /// These are in ours: the file system cannot say what the kernel keeps of it.
    Read(Bytes),
}

impl Resident {
    /// In bytes.
    pub(crate) fn len(&self) -> u64 {
        match self {
            Self::InKernel(len) => *len,
            Self::Read(bytes) => bytes.len() as u64,
        }
    }

    /// So many bytes are sent.
    pub(crate) fn advance(&mut self, count: u64) {
        match self {
            Self::InKernel(len) => *len = len.saturating_sub(count),
            Self::Read(bytes) => bytes.advance(bytes.len().min(count as usize)),
        }
    }
}

/// How long a file that was in the kernel's memory is taken to be there still. What is sent so often
/// is not what the kernel lets go of.
const RESIDENT_TTL: Duration = Duration::from_secs(1);

/// How long a file that was not in the kernel's memory is taken not to be there still.
const NON_RESIDENT_TTL: Duration = Duration::from_secs(3);

impl FileRange {
    /// `len` bytes from `offset` on.
    pub fn new(file: Arc<File>, offset: u64, len: u64) -> Self {
        Self {
            file,
            offset,
            len,
            version: None,
        }
    }

    pub(crate) fn with_version(mut self, version: &Arc<FileState>) -> Self {
        self.version = Some(Arc::clone(version));
        self
    }

    pub(crate) fn read(&self) -> io::Result<Vec<u8>> {
        let too_large = |_| io::Error::from(io::ErrorKind::FileTooLarge);
        let mut content = vec![0; usize::try_from(self.len).map_err(too_large)?];
        self.file.read_exact_at(&mut content, self.offset)?;
        Ok(content)
    }

    /// True if the file is not the version that was promised. One that has only grown, as logs do,
    /// still has the bytes it had.
    pub(crate) fn is_rewritten(&self) -> bool {
        let Some(promised) = &self.version else {
            return false;
        };
        self.known().is_some_and(|now| {
            now.stx_size <= promised.len && modified(&now) != Some(promised.modified)
        })
    }

    /// The device that the file is on; 0 if that cannot be said.
    pub(crate) fn device(&self) -> u64 {
        let known = self.known();
        known.map_or(0, |known| makedev(known.stx_dev_major, known.stx_dev_minor))
    }

    /// What the kernel knows of the file, without asking a file system that may have to be waited
    /// for (FUSE, NFS).
    fn known(&self) -> Option<Statx> {
        let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
        statx(&self.file, "", flags, StatxFlags::SIZE | StatxFlags::MTIME).ok()
    }
}

fn modified(known: &Statx) -> Option<SystemTime> {
    let at = known.stx_mtime;
    let seconds = Duration::from_secs(at.tv_sec.unsigned_abs());
    let whole = match at.tv_sec {
        0.. => SystemTime::UNIX_EPOCH.checked_add(seconds),
        _ => SystemTime::UNIX_EPOCH.checked_sub(seconds),
    };
    whole?.checked_add(Duration::from_nanos(at.tv_nsec.into()))
}

impl FileState {
    pub(crate) fn new(len: u64, modified: SystemTime, medium: Storage) -> Arc<Self> {
        Arc::new(Self {
            len,
            modified,
            medium,
            since: Instant::now(),
            seen: AtomicU64::new(0),
            missed: AtomicU64::new(0),
        })
    }

    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Notes that all of the file is in the kernel's memory.
    pub(crate) fn see(&self, now: Instant) {
        self.seen.store(self.millis(now) + 1, Ordering::Relaxed);
    }

    /// True if all of the file was in the kernel's memory a moment ago.
    pub(crate) fn was_seen_lately(&self, now: Instant) -> bool {
        self.is_recent(&self.seen, RESIDENT_TTL, now)
    }

    /// Notes that some of the file is not in the kernel's memory.
    pub(crate) fn miss(&self, now: Instant) {
        self.missed.store(self.millis(now) + 1, Ordering::Relaxed);
    }

    /// True if some of the file was not in the kernel's memory a moment ago.
    pub(crate) fn was_missed_lately(&self, now: Instant) -> bool {
        self.is_recent(&self.missed, NON_RESIDENT_TTL, now)
    }

    fn is_recent(&self, moment: &AtomicU64, span: Duration, now: Instant) -> bool {
        let moment = moment.load(Ordering::Relaxed);
        moment > 0 && self.millis(now).saturating_sub(moment) < span.as_millis() as u64
    }

    fn millis(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.since).as_millis() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_devices_are_those_that_others_see() {
        use std::os::unix::fs::MetadataExt;
        let file = tempfile::tempfile().expect("a file");
        for offset in [-1.5, -1.0, 0.0, 0.25, 1.7e9] {
            let start = SystemTime::UNIX_EPOCH;
            let time = match offset < 0.0 {
                true => start - Duration::from_secs_f64(-offset),
                false => start + Duration::from_secs_f64(offset),
            };
            file.set_modified(time).expect("a time");
            let metadata = file.metadata().expect("a file");
            let modified = metadata.modified().expect("a time");
            let version = FileState::new(0, modified, Storage::Backed);
            let range = FileRange::new(Arc::new(file.try_clone().expect("a file")), 0, 0);
            assert_eq!(range.device(), metadata.dev());
            let range = range.with_version(&version);
            assert!(!range.is_rewritten(), "{time:?}");
            file.set_modified(time + Duration::from_millis(1))
                .expect("a time");
            assert!(range.is_rewritten(), "{time:?}");
        }
    }

    #[test]
    fn a_file_is_seen_for_a_while() {
        let version = FileState::new(1, SystemTime::now(), Storage::Backed);
        let start = Instant::now();
        assert!(!version.was_seen_lately(start));
        version.see(start);
        assert!(version.was_seen_lately(start));
        assert!(version.was_seen_lately(start + RESIDENT_TTL / 2));
        assert!(!version.was_seen_lately(start + 2 * RESIDENT_TTL));
    }
}
