//! A range of an open file, and what is known about the file while it is sent.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use bytes::{Buf, Bytes};
use rustix::fs::{AtFlags, Statx, StatxFlags, makedev, statx};

/// A range of an open file. It stays readable if the name is replaced or unlinked meanwhile.
#[derive(Clone, Debug)]
pub struct FileRange {
    /// The open file. Its read position is not used.
    pub file: Arc<File>,
    /// The position of the first byte.
    pub offset: u64,
    /// The length in bytes.
    pub len: u64,
    /// What the file was when the response was made, if that is checked while it is sent.
    pub(crate) state: Option<Arc<FileState>>,
}

/// The state of a file when a representation of it was made, shared by all responses with it.
#[derive(Debug)]
pub(crate) struct FileState {
    len: u64,
    modified: SystemTime,
    pub(crate) storage: Storage,
    created: Instant,
    /// When the file was last found to be in the page cache, in milliseconds after `created` and plus
    /// one; 0 if never.
    resident_at: AtomicU64,
    /// The same for when a part of it was found not to be there.
    not_resident_at: AtomicU64,
}

/// Where the bytes of a file are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Storage {
    /// In the page cache and nowhere else: tmpfs, ramfs.
    PageCacheOnly,
    /// On a device or a server, which may have to be waited for.
    Backed,
}

/// The beginning of a range that can be sent without waiting for a disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Resident {
    /// This many bytes are in the page cache.
    InKernel(u64),
    /// These bytes, which have been read into memory: the file system cannot tell what is in the page
    /// cache.
    Read(Bytes),
}

impl Resident {
    /// The length in bytes.
    pub(crate) fn len(&self) -> u64 {
        match self {
            Self::InKernel(len) => *len,
            Self::Read(bytes) => bytes.len() as u64,
        }
    }

    /// Removes the first `count` bytes, which are sent.
    pub(crate) fn advance(&mut self, count: u64) {
        match self {
            Self::InKernel(len) => *len = len.saturating_sub(count),
            Self::Read(bytes) => bytes.advance(bytes.len().min(count as usize)),
        }
    }
}

/// Assume that a file stays in the page cache for this long after it was found there. The kernel does
/// not evict pages that are sent this often.
const RESIDENT_TTL: Duration = Duration::from_secs(1);

/// Assume that a file is not in the page cache for this long after a part of it was not.
const NON_RESIDENT_TTL: Duration = Duration::from_secs(3);

impl FileRange {
    /// The `len` bytes from `offset` on.
    pub fn new(file: Arc<File>, offset: u64, len: u64) -> Self {
        Self {
            file,
            offset,
            len,
            state: None,
        }
    }

    pub(crate) fn with_state(mut self, state: &Arc<FileState>) -> Self {
        self.state = Some(Arc::clone(state));
        self
    }

    /// Reads the range, which may block.
    pub(crate) fn read(&self) -> io::Result<Vec<u8>> {
        let too_large = |_| io::Error::from(io::ErrorKind::FileTooLarge);
        let mut bytes = vec![0; usize::try_from(self.len).map_err(too_large)?];
        self.file.read_exact_at(&mut bytes, self.offset)?;
        Ok(bytes)
    }

    /// True if the file was rewritten after the response was made. A file that has only grown, like a
    /// log, still has the same bytes in the range.
    pub(crate) fn is_rewritten(&self) -> bool {
        let Some(state) = &self.state else {
            return false;
        };
        self.metadata()
            .is_some_and(|now| now.stx_size <= state.len && modified(&now) != Some(state.modified))
    }

    /// The device number of the file; 0 if it is unknown.
    pub(crate) fn device(&self) -> u64 {
        let metadata = self.metadata();
        metadata.map_or(0, |at| makedev(at.stx_dev_major, at.stx_dev_minor))
    }

    /// The metadata that the kernel has, without asking a file system that may block (FUSE, NFS).
    fn metadata(&self) -> Option<Statx> {
        let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
        statx(&self.file, "", flags, StatxFlags::SIZE | StatxFlags::MTIME).ok()
    }
}

fn modified(metadata: &Statx) -> Option<SystemTime> {
    let at = metadata.stx_mtime;
    let seconds = Duration::from_secs(at.tv_sec.unsigned_abs());
    let whole = match at.tv_sec {
        0.. => SystemTime::UNIX_EPOCH.checked_add(seconds),
        _ => SystemTime::UNIX_EPOCH.checked_sub(seconds),
    };
    whole?.checked_add(Duration::from_nanos(at.tv_nsec.into()))
}

impl FileState {
    pub(crate) fn new(len: u64, modified: SystemTime, storage: Storage) -> Arc<Self> {
        Arc::new(Self {
            len,
            modified,
            storage,
            created: Instant::now(),
            resident_at: AtomicU64::new(0),
            not_resident_at: AtomicU64::new(0),
        })
    }

    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Notes that the whole file is in the page cache.
    pub(crate) fn mark_resident(&self, now: Instant) {
        self.resident_at
            .store(self.millis(now) + 1, Ordering::Relaxed);
    }

    /// True if the whole file was in the page cache less than [`RESIDENT_TTL`] ago.
    pub(crate) fn was_resident(&self, now: Instant) -> bool {
        self.is_recent(&self.resident_at, RESIDENT_TTL, now)
    }

    /// Notes that a part of the file is not in the page cache.
    pub(crate) fn mark_not_resident(&self, now: Instant) {
        self.not_resident_at
            .store(self.millis(now) + 1, Ordering::Relaxed);
    }

    /// True if a part of the file was not in the page cache less than [`NON_RESIDENT_TTL`] ago.
    pub(crate) fn was_not_resident(&self, now: Instant) -> bool {
        self.is_recent(&self.not_resident_at, NON_RESIDENT_TTL, now)
    }

    fn is_recent(&self, time: &AtomicU64, ttl: Duration, now: Instant) -> bool {
        let time = time.load(Ordering::Relaxed);
        time > 0 && self.millis(now).saturating_sub(time) < ttl.as_millis() as u64
    }

    fn millis(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.created).as_millis() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_devices_match_metadata_of_std() {
        use std::os::unix::fs::MetadataExt;
        let file = tempfile::tempfile().expect("a file");
        for offset in [-1.5, -1.0, 0.0, 0.25, 1.7e9] {
            let start = SystemTime::UNIX_EPOCH;
            let time = if offset < 0.0 {
                start - Duration::from_secs_f64(-offset)
            } else {
                start + Duration::from_secs_f64(offset)
            };
            file.set_modified(time).expect("a time");
            let metadata = file.metadata().expect("a file");
            let modified = metadata.modified().expect("a time");
            let state = FileState::new(0, modified, Storage::Backed);
            let range = FileRange::new(Arc::new(file.try_clone().expect("a file")), 0, 0);
            assert_eq!(range.device(), metadata.dev());
            let range = range.with_state(&state);
            assert!(!range.is_rewritten(), "{time:?}");
            file.set_modified(time + Duration::from_millis(1))
                .expect("a time");
            assert!(range.is_rewritten(), "{time:?}");
        }
    }

    #[test]
    fn residency_expires() {
        let state = FileState::new(1, SystemTime::now(), Storage::Backed);
        let start = Instant::now();
        assert!(!state.was_resident(start));
        state.mark_resident(start);
        assert!(state.was_resident(start));
        assert!(state.was_resident(start + RESIDENT_TTL / 2));
        assert!(!state.was_resident(start + 2 * RESIDENT_TTL));
    }
}
