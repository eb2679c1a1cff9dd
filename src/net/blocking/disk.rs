//! Files that may not be in the page cache: `sendfile` would wait for the disk, and so would the
//! event loop with all its connections.
//!
//! So the part of a file that is sent next is probed first, without blocking (`preadv2` with
//! `RWF_NOWAIT`, Linux 4.14). If its last byte is in the page cache, the rest is assumed to be, too,
//! because readahead and reclaim work on ranges. Longer parts are not probed at once: the event loop
//! would wait for as much as is missing in the middle. A file of a few MiB is probed as a whole, in
//! such parts, and not again for a second. If the last byte is not there, a thread reads that part, which brings it
//! into the page cache, and the event loop sends it from there. Some file systems do not support the
//! probe (FUSE, NFS): they may have dropped the data a moment later, or ask their server before they
//! return cached data. Then the bytes that the thread has read are sent themselves, and are not kept
//! while the client takes nothing.
//!
//! Each device has a few threads of its own, for these reads, for short jobs and for long ones
//! ([`DiskJob`]): a device that hangs delays neither other devices nor anything that needs no disk, and
//! a file is never looked up behind folders that are being listed.
//!
//! A probe that misses makes the kernel read the probed page only; the next probe would then wrongly
//! report the range as resident. So a file that was once not resident is read by threads, every byte
//! of it, for a while, and is not probed.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, IoSliceMut};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use rustix::fs::{Advice, fadvise};
use rustix::io::{Errno, ReadWriteFlags, preadv2, retry_on_intr};

use super::pool::{BlockingPool, NoThread, PoolSize, QueueFull};
use crate::body::FileRange;
use crate::body::file_range::{Resident, Storage};
use crate::handler::{DiskJob, Job, JobLength};
use crate::net::observe::report::QueueStats;
use crate::net::transport::MAX_CALL_BYTES;
use crate::net::worker::message::{ExchangeEvent, ReplyTo};
use crate::proto::file_read::{FileBytes, FileRead};
use crate::sync::Mutex;

/// Length of a probed range. A probe is a system call of about 1 µs; sending this much takes 100 µs.
/// A multiple of what is sent in one call.
const PROBE_BYTES: u64 = 8 * MAX_CALL_BYTES as u64;

/// Files up to this length are probed as a whole, and then not again for a while.
const MAX_WHOLE_FILE_BYTES: u64 = 8 * PROBE_BYTES;

/// Length of one read from a disk: short enough for a slow disk to serve many clients in turn.
const READ_BYTES: u64 = 128 * 1024;

/// Reading threads per device. A disk with several requests in its queue can order them.
const READERS_PER_DEVICE: usize = 4;

/// Devices with pools of their own. Further devices share the pool of one of them.
const MAX_DEVICES: usize = 32;

/// The thread pools of each device.
#[derive(Clone)]
pub(crate) struct DiskPools {
    /// Read the files that are being sent.
    readers: Arc<DevicePools>,
    /// Run short jobs, which look up files.
    short_jobs: Arc<DevicePools>,
    /// Run long jobs.
    long_jobs: Arc<DevicePools>,
    /// Number of reads.
    reads: Arc<AtomicU64>,
}

/// A pool per device, created when it is first needed.
struct DevicePools {
    by_device: Mutex<HashMap<u64, BlockingPool>>,
    /// Of each pool.
    size: PoolSize,
}

/// Reads the load of the pools. Does not keep their threads running.
#[derive(Clone, Debug)]
pub(crate) struct DiskPoolStats {
    pools: [Weak<DevicePools>; 3],
    reads: Arc<AtomicU64>,
}

impl DiskPoolStats {
    /// Returns the load of all pools together.
    pub(crate) fn queue(&self) -> QueueStats {
        let mut sum = QueueStats::default();
        for pools in self.pools.iter().filter_map(Weak::upgrade) {
            let by_device = pools.by_device.lock();
            for queue in by_device.values().map(|pool| pool.stats().queue()) {
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

/// The result of a probe of the beginning of a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProbeResult {
    /// This many bytes are in the page cache.
    Resident(u64),
    NotResident,
}

/// Probes whether the beginning of a range is in the page cache, without blocking.
pub(crate) fn probe_page_cache(range: &FileRange, now: Instant) -> ProbeResult {
    let len = range.len.min(PROBE_BYTES);
    let Some(state) = &range.state else {
        return ProbeResult::of(probe(range, len));
    };
    if state.storage == Storage::PageCacheOnly || state.was_resident(now) {
        return ProbeResult::Resident(range.len);
    }
    if state.was_not_resident(now) {
        return ProbeResult::NotResident;
    }
    let is_small = state.len() <= PROBE_BYTES;
    let is_whole = range.len == state.len() && state.len() <= MAX_WHOLE_FILE_BYTES;
    let len = if is_whole { range.len } else { len };
    let resident = probe(range, len);
    if resident < len {
        state.mark_not_resident(now);
    } else if is_small || is_whole {
        state.mark_resident(now);
    }
    ProbeResult::of(resident)
}

impl ProbeResult {
    fn of(resident: u64) -> Self {
        match resident {
            0 => Self::NotResident,
            resident => Self::Resident(resident),
        }
    }
}

/// Reads the beginning of a range that is in the page cache, without waiting for a disk: a part of what
/// is asked for, if only that is there.
pub(crate) fn read_page_cache(read: &mut FileRead<'_>, now: Instant) -> FileBytes {
    let range = read.range;
    let state = range.state.as_deref();
    let never_waits =
        read.is_resident || state.is_some_and(|state| state.storage == Storage::PageCacheOnly);
    if !never_waits && state.is_some_and(|state| state.was_not_resident(now)) {
        return FileBytes::NotResident;
    }
    let flags = if never_waits {
        ReadWriteFlags::empty()
    } else {
        ReadWriteFlags::NOWAIT
    };
    let result = {
        let mut buffers = [IoSliceMut::new(read.buffer)];
        retry_on_intr(|| preadv2(&range.file, &mut buffers, range.offset, flags))
    };
    match result {
        Ok(0) => FileBytes::Ended,
        Ok(count) if read.is_rewritten_after(count) => FileBytes::Ended,
        Ok(count) => FileBytes::Read(count),
        // Some file systems do not support the flag; the threads find out.
        Err(Errno::AGAIN | Errno::OPNOTSUPP) if !never_waits => {
            if let Some(state) = state {
                state.mark_not_resident(now);
            }
            FileBytes::NotResident
        }
        Err(error) => {
            log::error!("a file cannot be read: {error}");
            FileBytes::Failed
        }
    }
}

/// Probes the first `len` bytes of a range and returns how many of them are in the page cache. Beyond
/// the end of a file that has shrunk the probe succeeds; sending detects that.
fn probe(range: &FileRange, len: u64) -> u64 {
    let mut resident = 0;
    while resident < len {
        let end = len.min(resident + PROBE_BYTES);
        if peek(&range.file, range.offset + end - 1).is_err() {
            break;
        }
        resident = end;
    }
    resident
}

/// Reads a byte if that does not block.
fn peek(file: &File, offset: u64) -> Result<usize, Errno> {
    let mut byte = [0];
    let mut buffers = [IoSliceMut::new(&mut byte)];
    preadv2(file, &mut buffers, offset, ReadWriteFlags::NOWAIT)
}

impl DiskPools {
    /// `jobs` is the size of each device's pool for short jobs. That for long jobs, which also need the
    /// processor, has half of the threads.
    pub(crate) fn new(jobs: PoolSize) -> Self {
        Self {
            readers: DevicePools::new(PoolSize::shared(READERS_PER_DEVICE, 0)),
            short_jobs: DevicePools::new(jobs),
            long_jobs: DevicePools::new(PoolSize::shared(jobs.threads.div_ceil(2), jobs.waiting)),
            reads: Arc::default(),
        }
    }

    pub(crate) fn stats(&self) -> DiskPoolStats {
        DiskPoolStats {
            pools: [&self.readers, &self.short_jobs, &self.long_jobs].map(Arc::downgrade),
            reads: Arc::clone(&self.reads),
        }
    }

    /// Reads the beginning of a range on a thread of its device and sends the result to `reply_to`.
    pub(crate) fn read(&self, range: FileRange, reply_to: ReplyTo) {
        self.reads.fetch_add(1, Ordering::Relaxed);
        // Readahead would be started on the event loop, which might wait for it. The threads read in
        // large chunks anyway.
        if let Err(error) = fadvise(&range.file, 0, None, Advice::Random) {
            log::debug!("disk: posix_fadvise failed: {error}");
        }
        let pool = self.readers.of(range.device());
        let failed = reply_to.clone();
        let work = move || ExchangeEvent::FileRead(read(&range));
        if pool.submit_required(reply_to, work).is_err() {
            let error = io::Error::other("no thread to read it");
            failed.send(ExchangeEvent::FileRead(Err(error)));
        }
    }

    /// Runs a job with `run` on a thread of its device; see [`BlockingPool::submit`].
    pub(crate) fn submit(
        &self,
        job: DiskJob,
        reply_to: ReplyTo,
        run: impl FnOnce(Job, Result<(), QueueFull>) -> Option<ExchangeEvent> + Send + 'static,
    ) {
        let pools = match job.length() {
            JobLength::Short => &self.short_jobs,
            JobLength::Long => &self.long_jobs,
        };
        let pool = pools.of(job.device());
        pool.submit(reply_to, move |place| run(job.into_job(), place));
    }

    /// Runs work that a response in progress needs on a thread of a device for long jobs; see
    /// [`BlockingPool::submit_required`].
    pub(crate) fn submit_required(
        &self,
        device: u64,
        reply_to: ReplyTo,
        work: impl FnOnce() -> ExchangeEvent + Send + 'static,
    ) -> Result<(), NoThread> {
        self.long_jobs.of(device).submit_required(reply_to, work)
    }
}

impl DevicePools {
    fn new(size: PoolSize) -> Arc<Self> {
        Arc::new(Self {
            by_device: Mutex::default(),
            size,
        })
    }

    fn of(&self, device: u64) -> BlockingPool {
        let mut pools = self.by_device.lock();
        let key = if pools.len() < MAX_DEVICES || pools.contains_key(&device) {
            device
        } else {
            pools.keys().next().copied().unwrap_or(device)
        };
        let new = || BlockingPool::new(self.size);
        pools.entry(key).or_insert_with(new).clone()
    }
}

/// Reads the beginning of a range, which brings it into the page cache. Blocks until the disk has
/// answered.
fn read(range: &FileRange) -> io::Result<Resident> {
    /// A chunk that is read within this time was in the page cache.
    const MAX_RESIDENT_TIME: Duration = Duration::from_micros(300);
    let mut buffer = vec![0; READ_BYTES.min(range.len) as usize];
    let end = range.len.min(PROBE_BYTES);
    let mut done = 0;
    while done < end {
        let start = Instant::now();
        let chunk = READ_BYTES.min(end - done);
        match read_at(
            &range.file,
            &mut buffer[..chunk as usize],
            range.offset + done,
        ) {
            // Asked on this thread, which may block, and at the beginning, which has been read.
            Ok(count) if done == 0 && peek(&range.file, range.offset) == Err(Errno::OPNOTSUPP) => {
                buffer.truncate(count);
                return into_resident(range, buffer);
            }
            // The end of a file that has shrunk: sending detects that.
            Ok(0) => done += chunk,
            Ok(count) => done += count as u64,
            // The bytes before the fault are sent; then the fault is met again.
            Err(_) if done > 0 => break,
            Err(error) => return Err(error),
        }
        let now = Instant::now();
        if now - start > MAX_RESIDENT_TIME {
            if let Some(state) = &range.state {
                state.mark_not_resident(now);
            }
            break;
        }
    }
    Ok(Resident::InKernel(done))
}

/// Returns the bytes themselves, to be sent from memory.
fn into_resident(range: &FileRange, bytes: Vec<u8>) -> io::Result<Resident> {
    if bytes.is_empty() && range.len > 0 {
        let error = "the file became shorter while it was being sent";
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, error));
    }
    // The sender checks only the attributes that the kernel has cached; this updates them.
    if let Err(error) = range.file.metadata() {
        log::debug!("disk: fstat failed: {error}");
    }
    Ok(Resident::Read(bytes.into()))
}

/// Fills `buffer`, or the part of it before an error or the end of the file.
fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut done = 0;
    while done < buffer.len() {
        match file.read_at(&mut buffer[done..], offset + done as u64) {
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
    fn file_just_written_is_resident_or_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let range = range(&folder);
        // Depends on whether the file system supports the probe.
        match probe_page_cache(&range, Instant::now()) {
            ProbeResult::Resident(PROBE_BYTES) | ProbeResult::NotResident => {}
            other => panic!("{other:?}"),
        }
        let resident = read(&range).expect("a disk that works").len();
        assert!((READ_BYTES..=PROBE_BYTES).contains(&resident), "{resident}");
    }

    #[test]
    fn file_without_disk_is_not_probed() {
        let state = FileState::new(LEN, std::time::SystemTime::now(), Storage::PageCacheOnly);
        // A probe of this would fail.
        let file = Arc::new(File::create("/dev/null").expect("a file"));
        let range = FileRange::new(file, 0, LEN).with_state(&state);
        assert_eq!(
            probe_page_cache(&range, Instant::now()),
            ProbeResult::Resident(LEN)
        );
    }

    #[test]
    fn small_file_seen_lately_is_not_probed_again() {
        let state = FileState::new(PROBE_BYTES, std::time::SystemTime::now(), Storage::Backed);
        // A probe of this would fail.
        let file = Arc::new(File::create("/dev/null").expect("a file"));
        let range = FileRange::new(file, 100, 1000).with_state(&state);
        let now = Instant::now();
        assert_eq!(probe_page_cache(&range, now), ProbeResult::NotResident);
        // The miss is remembered for a while.
        assert!(state.was_not_resident(now));
        state.mark_resident(now);
        assert_eq!(probe_page_cache(&range, now), ProbeResult::Resident(1000));
    }

    #[test]
    fn file_of_some_parts_is_probed_as_a_whole() {
        let folder = tempfile::tempdir().expect("a folder");
        let range = range(&folder);
        if peek(&range.file, 0).is_err() {
            // The file system does not support the probe.
            return;
        }
        let now = Instant::now();
        let state = FileState::new(LEN, std::time::SystemTime::now(), Storage::Backed);
        let range = range.with_state(&state);
        // A range within it says nothing about the rest.
        let mut part = range.clone();
        (part.offset, part.len) = (PROBE_BYTES, PROBE_BYTES);
        assert_eq!(
            probe_page_cache(&part, now),
            ProbeResult::Resident(PROBE_BYTES)
        );
        assert!(!state.was_resident(now));
        assert_eq!(probe_page_cache(&range, now), ProbeResult::Resident(LEN));
        assert!(state.was_resident(now));
    }

    #[test]
    fn larger_file_is_probed_in_parts() {
        let len = MAX_WHOLE_FILE_BYTES + 1;
        let file = tempfile::tempfile().expect("a file");
        file.write_all_at(&[b'x'; 1], len - 1).expect("a file");
        let state = FileState::new(len, std::time::SystemTime::now(), Storage::Backed);
        let range = FileRange::new(Arc::new(file), 0, len).with_state(&state);
        let now = Instant::now();
        match probe_page_cache(&range, now) {
            ProbeResult::Resident(PROBE_BYTES) | ProbeResult::NotResident => {}
            other => panic!("{other:?}"),
        }
        assert!(!state.was_resident(now));
    }

    #[test]
    fn range_beyond_the_end_is_not_an_error() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut range = range(&folder);
        range.offset = 10 * LEN;
        assert!(read(&range).is_ok());
    }
}
