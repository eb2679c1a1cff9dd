//! Files that may not be in the kernel's memory: `sendfile` would wait for the disk, and with it an
//! event loop and all its connections.
//!
//! So the part that is to be sent next is looked at first, without waiting (`preadv2` with
//! `RWF_NOWAIT`, Linux 4.14). If its end is in memory, the rest is taken to be, too: what is read
//! ahead and what is forgotten goes by ranges. If not, a helper reads it, which brings it into
//! memory, and the event loop sends it from there. If the file system cannot say (FUSE, NFS), the
//! kernel may have nothing a moment later, or ask before it gives what it has: then what the helper
//! has read is what is sent, and not kept while the client takes nothing.
//!
//! Disks have helpers of their own, each device its own few, and so have the jobs that look for
//! files on it ([`Outcome::BlockingOnDisk`](crate::Outcome::BlockingOnDisk)): a device that hangs keeps nobody from another,
//! nor from what needs no disk.
//!
//! A look that finds nothing makes the kernel fetch what was looked at, an island of which the next
//! look would draw the wrong conclusion. So a file that was once not in memory is read by helpers,
//! every byte of it, as long as that takes time, and nobody looks.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, IoSliceMut};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use mio::Token;
use rustix::fs::{Advice, fadvise};
use rustix::io::{Errno, ReadWriteFlags, preadv2};

use super::pool::{BlockingPool, QueueFull};
use crate::body::FileRange;
use crate::body::file_range::{Resident, Storage};
use crate::handler::Job;
use crate::net::event_loop::mailbox::Mailbox;
use crate::net::observe::observer::QueueStats;

/// What is looked at at once. A look costs a system call, about 1 µs; sending this much 100 µs.
const PROBE_BYTES: u64 = 512 * 1024;

/// What is read at once from a disk: little enough for a slow disk to serve many in turn.
const READ_BYTES: u64 = 128 * 1024;

/// Readers of one device. A disk that is asked by a few can order their requests.
const READERS_PER_DEVICE: usize = 4;

/// Devices with helpers of their own; further ones share those of one.
const MAX_DEVICES: usize = 32;

/// Helpers by device.
#[derive(Clone)]
pub(crate) struct DiskPools {
    /// They read what is being sent.
    readers: Arc<Pools>,
    /// They run the jobs that have to find something first.
    helpers: Arc<Pools>,
    /// How often readers were asked.
    reads: Arc<AtomicU64>,
}

struct Pools {
    by_device: Mutex<HashMap<u64, BlockingPool>>,
    /// Of each.
    max_threads: usize,
    max_waiting: usize,
}

/// Sees what the helpers do, and does not keep them from ending.
#[derive(Clone, Debug)]
pub(crate) struct DiskPoolStats {
    pools: [Weak<Pools>; 2],
    reads: Arc<AtomicU64>,
}

impl DiskPoolStats {
    pub(crate) fn queue(&self) -> QueueStats {
        let mut sum = QueueStats::default();
        for pools in self.pools.iter().filter_map(Weak::upgrade) {
            let by_device = pools.by_device.lock();
            let by_device = by_device.unwrap_or_else(PoisonError::into_inner);
            for queue in by_device.values().map(|helpers| helpers.view().queue()) {
                sum.waiting += queue.waiting;
                sum.running += queue.running;
            }
        }
        sum
    }

    pub(crate) fn reads(&self) -> u64 {
        self.reads.load(Ordering::Relaxed)
    }
}

/// What a look says about the beginning of a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProbeResult {
    /// So many bytes are in memory.
    InMemory(u64),
    OnDisk,
}

/// Looks at the beginning of a range, without waiting.
pub(crate) fn look(range: &FileRange, now: Instant) -> ProbeResult {
    let len = range.len.min(PROBE_BYTES);
    let version = range.state.as_ref();
    if version.is_some_and(|version| version.storage == Storage::PageCacheOnly) {
        return ProbeResult::InMemory(range.len);
    }
    if version.is_some_and(|version| version.len() <= PROBE_BYTES && version.was_resident(now)) {
        return ProbeResult::InMemory(len);
    }
    if version.is_some_and(|version| version.was_not_resident(now)) {
        return ProbeResult::OnDisk;
    }
    let found = match is_in_memory(&range.file, range.offset + len - 1) {
        true => ProbeResult::InMemory(len),
        false => ProbeResult::OnDisk,
    };
    match (version, found) {
        (Some(version), ProbeResult::OnDisk) => version.mark_not_resident(now),
        (Some(version), ProbeResult::InMemory(_)) if version.len() <= PROBE_BYTES => {
            version.mark_resident(now);
        }
        _ => {}
    }
    found
}

/// True if the kernel has a byte without having to wait for it. Nothing there is the end of a file
/// that has shrunk: sending finds that out.
fn is_in_memory(file: &File, at: u64) -> bool {
    peek(file, at).is_ok()
}

fn peek(file: &File, at: u64) -> Result<usize, Errno> {
    let mut byte = [0];
    let mut pieces = [IoSliceMut::new(&mut byte)];
    preadv2(file, &mut pieces, at, ReadWriteFlags::NOWAIT)
}

impl DiskPools {
    /// With so many threads for the jobs of each device, and so many jobs that wait for them.
    pub(crate) fn new(max_threads: usize, max_waiting: usize) -> Self {
        Self {
            readers: Pools::new(READERS_PER_DEVICE, 0),
            helpers: Pools::new(max_threads, max_waiting),
            reads: Arc::default(),
        }
    }

    pub(crate) fn view(&self) -> DiskPoolStats {
        DiskPoolStats {
            pools: [Arc::downgrade(&self.readers), Arc::downgrade(&self.helpers)],
            reads: Arc::clone(&self.reads),
        }
    }

    /// Has the beginning of a range brought into memory, which is mailed to `reply_to` for `token`.
    pub(crate) fn fetch(&self, range: FileRange, reply_to: &Arc<Mailbox>, token: Token) {
        self.reads.fetch_add(1, Ordering::Relaxed);
        // What is read ahead would be asked for on the event loop, which might wait for that. Helpers
        // read in large pieces anyway.
        if let Err(error) = fadvise(&range.file, 0, None, Advice::Random) {
            log::debug!("disk: posix_fadvise failed: {error}");
        }
        self.readers
            .of(range.device())
            .fetch(range, reply_to, token);
    }

    /// Runs a job that waits for nothing but `device`; see [`BlockingPool::submit`].
    pub(crate) fn submit(
        &self,
        device: u64,
        task: (Job, Box<str>),
        reply_to: &Arc<Mailbox>,
        token: Token,
    ) -> Result<(), QueueFull> {
        self.helpers.of(device).submit(task, reply_to, token)
    }
}

impl Pools {
    fn new(max_threads: usize, max_waiting: usize) -> Arc<Self> {
        Arc::new(Self {
            by_device: Mutex::default(),
            max_threads,
            max_waiting,
        })
    }

    fn of(&self, device: u64) -> BlockingPool {
        let mut pools = self
            .by_device
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let known = match pools.len() < MAX_DEVICES || pools.contains_key(&device) {
            true => device,
            false => pools.keys().next().copied().unwrap_or(device),
        };
        let make = || BlockingPool::new(self.max_threads, self.max_waiting);
        pools.entry(known).or_insert_with(make).clone()
    }
}

/// Brings the beginning of a range into memory; that takes as long as the disk does.
pub(crate) fn read(range: &FileRange) -> io::Result<Resident> {
    /// A piece that comes so soon was in memory.
    const AT_ONCE: Duration = Duration::from_micros(300);
    let mut room = vec![0; READ_BYTES.min(range.len) as usize];
    let most = range.len.min(PROBE_BYTES);
    let mut done = 0;
    while done < most {
        let start = Instant::now();
        let piece = READ_BYTES.min(most - done);
        match read_at(
            &range.file,
            &mut room[..piece as usize],
            range.offset + done,
        ) {
            // Here, where there is time to ask, and not behind a piece that need not be there.
            Ok(count) if done == 0 && peek(&range.file, range.offset) == Err(Errno::OPNOTSUPP) => {
                room.truncate(count);
                return keep(range, room);
            }
            // The end of a file that has shrunk: sending finds that out.
            Ok(0) => done += piece,
            Ok(count) => done += count as u64,
            // What is before it is sent, and then it is met again.
            Err(_) if done > 0 => break,
            Err(error) => return Err(error),
        }
        let end = Instant::now();
        if end - start > AT_ONCE {
            if let Some(version) = &range.state {
                version.mark_not_resident(end);
            }
            break;
        }
    }
    Ok(Resident::InKernel(done))
}

/// What was read, to be sent as it is.
fn keep(range: &FileRange, bytes: Vec<u8>) -> io::Result<Resident> {
    if bytes.is_empty() && range.len > 0 {
        let error = "the file became shorter while it was being sent";
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, error));
    }
    // Who sends it looks only at what the kernel knows, which is brought up to date here.
    if let Err(error) = range.file.metadata() {
        log::debug!("disk: fstat failed: {error}");
    }
    Ok(Resident::Read(bytes.into()))
}

/// Reads a piece, or what there is of it before a failure or the end.
fn read_at(file: &File, piece: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut done = 0;
    while done < piece.len() {
        match file.read_at(&mut piece[done..], offset + done as u64) {
            Ok(0) => break,
            Ok(count) => done += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) if done > 0 => break,
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::body::file_range::FileState;

    const LEN: u64 = 2 * PROBE_BYTES;

    fn range(folder: &tempfile::TempDir) -> FileRange {
        let path = folder.path().join("large");
        fs::write(&path, vec![b'x'; LEN as usize]).expect("a file");
        FileRange::new(Arc::new(File::open(path).expect("a file")), 0, LEN)
    }

    #[test]
    fn what_was_just_written_is_in_memory_or_is_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let range = range(&folder);
        // By the file system: it can say so, or it cannot.
        match look(&range, Instant::now()) {
            ProbeResult::InMemory(PROBE_BYTES) | ProbeResult::OnDisk => {}
            other => panic!("{other:?}"),
        }
        let brought = read(&range).expect("a disk that works").len();
        assert!((READ_BYTES..=PROBE_BYTES).contains(&brought), "{brought}");
    }

    /// Not even its file system is asked, which might be one to wait for.
    #[test]
    fn what_has_no_disk_is_not_looked_at() {
        let version = FileState::new(LEN, std::time::SystemTime::now(), Storage::PageCacheOnly);
        // A look at this would fail.
        let file = Arc::new(File::create("/dev/null").expect("a file"));
        let range = FileRange::new(file, 0, LEN).with_state(&version);
        assert_eq!(look(&range, Instant::now()), ProbeResult::InMemory(LEN));
    }

    #[test]
    fn a_small_file_that_was_seen_is_not_looked_at_again() {
        let version = FileState::new(PROBE_BYTES, std::time::SystemTime::now(), Storage::Backed);
        // A look at this would fail.
        let file = Arc::new(File::create("/dev/null").expect("a file"));
        let range = FileRange::new(file, 100, 1000).with_state(&version);
        let now = Instant::now();
        assert_eq!(look(&range, now), ProbeResult::OnDisk);
        // It was found missing, so nobody looks for a while.
        assert!(version.was_not_resident(now));
        version.mark_resident(now);
        assert_eq!(look(&range, now), ProbeResult::InMemory(1000));
    }

    #[test]
    fn a_range_behind_the_end_is_not_waited_for() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut range = range(&folder);
        range.offset = 10 * LEN;
        assert!(read(&range).is_ok());
    }
}
