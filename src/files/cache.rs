//! Versions of files that were served lately: open, or read if they are small, with their heads
//! rendered.
//!
//! An entry is believed for [`REVALIDATE_AFTER`], or for [`MAX_UNWATCHED_AGE`] if its directory is watched and nothing
//! happens there; then the path is resolved again, and the entry stays if it leads to the same
//! version of the same file. So a hot file costs next to no system calls, and a changed one is seen
//! practically at once, whole: entries are replaced, never changed.

use std::hash::{BuildHasher, RandomState};
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use lru::LruCache;

use super::inotify::WatchedDirectory;
use super::representation::Representation;

/// How long nobody looks whether a file has changed.
pub(super) const REVALIDATE_AFTER: Duration = Duration::from_millis(10);

/// How long nobody looks if nothing is heard of its directory.
pub(super) const MAX_UNWATCHED_AGE: Duration = Duration::from_secs(2);

/// Event loops seldom meet at one lock.
const SHARDS: usize = 16;

/// Paths in all.
const MAX_ENTRIES: usize = 16 * 1024;
/// Small contents in all.
const MAX_BYTES: usize = 64 * 1024 * 1024;
/// Open files in all, well below the 1,024 descriptors that are usual.
const MAX_FILES: usize = 256;

/// How often somebody looked for a version of a file, and what came of it. A file's forms (plain,
/// compressed, a sidecar) are looked for one by one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CacheStats {
    /// It was there, and nobody asked the file system.
    pub hits: u64,
    /// It was there, and the file system said that it is still the same.
    pub revalidations: u64,
    /// It had to be opened, or made, and is there now.
    pub misses: u64,
}

impl CacheStats {
    pub(super) fn add(&mut self, other: Self) {
        self.hits += other.hits;
        self.revalidations += other.revalidations;
        self.misses += other.misses;
    }
}

#[derive(Debug)]
pub(super) struct Cache {
    shards: Vec<Mutex<Shard>>,
    hasher: RandomState,
}

#[derive(Debug)]
struct Shard {
    entries: LruCache<Vec<u8>, CacheEntry>,
    bytes: usize,
    files: usize,
    /// Beside the entries, whose lock is taken anyway.
    stats: CacheStats,
}

#[derive(Debug)]
struct CacheEntry {
    /// `None` if there is known to be nothing.
    version: Option<Arc<Representation>>,
    checked: Instant,
    /// Its directory, if that was watched when it was checked.
    watched: Option<Arc<WatchedDirectory>>,
}

impl CacheEntry {
    fn known(&self, now: Instant) -> CacheState {
        let age = now.saturating_duration_since(self.checked);
        let quiet = || {
            self.watched
                .as_ref()
                .is_some_and(|watched| watched.is_unchanged())
        };
        let version = self.version.clone();
        if age < MAX_UNWATCHED_AGE && quiet() {
            CacheState::Watched(version)
        } else if age < REVALIDATE_AFTER {
            CacheState::Fresh(version)
        } else {
            CacheState::Stale(version)
        }
    }

    fn bytes(&self) -> usize {
        self.version.as_ref().map_or(0, |version| version.memory())
    }

    fn files(&self) -> usize {
        self.version
            .as_ref()
            .map_or(0, |version| version.descriptors())
    }
}

/// When something was found, and whether it would be heard if it changed.
#[derive(Clone, Debug)]
pub(super) struct CheckedAt {
    /// The moment before looking.
    pub(super) at: Instant,
    pub(super) watched: Option<Arc<WatchedDirectory>>,
}

impl CheckedAt {
    /// What nobody would hear of.
    pub(super) fn unwatched(at: Instant) -> Self {
        Self { at, watched: None }
    }
}

/// What the cache knows.
#[derive(Debug)]
pub(super) enum CacheState {
    /// This, and nobody has touched it.
    Watched(Option<Arc<Representation>>),
    /// This, for certain enough.
    Fresh(Option<Arc<Representation>>),
    /// This, a while ago.
    Stale(Option<Arc<Representation>>),
    Miss,
}

impl Cache {
    pub(super) fn new() -> Self {
        let shard = || {
            let capacity = NonZeroUsize::new(MAX_ENTRIES / SHARDS).unwrap_or(NonZeroUsize::MIN);
            Mutex::new(Shard {
                entries: LruCache::new(capacity),
                bytes: 0,
                files: 0,
                stats: CacheStats::default(),
            })
        };
        Self {
            shards: (0..SHARDS).map(|_| shard()).collect(),
            hasher: RandomState::new(),
        }
    }

    pub(super) fn get(&self, key: &[u8], now: Instant) -> CacheState {
        let mut shard = self.shard(key);
        let entry = shard.entries.get(key);
        let known = entry.map_or(CacheState::Miss, |entry| entry.known(now));
        if matches!(known, CacheState::Watched(_) | CacheState::Fresh(_)) {
            shard.stats.hits += 1;
        }
        known
    }

    /// Keeps what was found.
    pub(super) fn put(&self, key: &[u8], version: Option<Arc<Representation>>, seen: CheckedAt) {
        let entry = CacheEntry {
            version,
            checked: seen.at,
            watched: seen.watched,
        };
        self.shard(key).put(key, entry);
    }

    /// Keeps a version that was looked at again and is the same, unless another has come.
    pub(super) fn confirm(&self, key: &[u8], version: &Arc<Representation>, seen: CheckedAt) {
        let mut shard = self.shard(key);
        shard.stats.revalidations += 1;
        if let Some(entry) = shard.entries.get_mut(key)
            && entry
                .version
                .as_ref()
                .is_some_and(|kept| Arc::ptr_eq(kept, version))
        {
            entry.checked = seen.at;
            entry.watched = seen.watched;
        }
    }

    pub(super) fn stats(&self) -> CacheStats {
        let mut sum = CacheStats::default();
        for shard in &self.shards {
            let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            sum.add(shard.stats);
        }
        sum
    }

    /// Forgets all that holds a descriptor.
    pub(super) fn close_files(&self) {
        for shard in &self.shards {
            let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            shard.close_files();
        }
    }

    fn shard(&self, key: &[u8]) -> MutexGuard<'_, Shard> {
        let index = self.hasher.hash_one(key) as usize % SHARDS;
        // Entries are replaced whole: a panic leaves no half.
        self.shards[index]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shard {
    fn put(&mut self, key: &[u8], entry: CacheEntry) {
        self.stats.misses += 1;
        self.bytes += entry.bytes();
        self.files += entry.files();
        if let Some((_, old)) = self.entries.push(key.to_vec(), entry) {
            self.forget(&old);
        }
        while self.bytes > MAX_BYTES / SHARDS || self.files > MAX_FILES / SHARDS {
            match self.entries.pop_lru() {
                Some((_, old)) => self.forget(&old),
                None => break,
            }
        }
    }

    fn close_files(&mut self) {
        if self.files == 0 {
            return;
        }
        let open = self.entries.iter().filter(|(_, entry)| entry.files() > 0);
        let keys: Vec<_> = open.map(|(key, _)| key.clone()).collect();
        for key in keys {
            if let Some(old) = self.entries.pop(&key) {
                self.forget(&old);
            }
        }
    }

    fn forget(&mut self, entry: &CacheEntry) {
        self.bytes -= entry.bytes();
        self.files -= entry.files();
    }
}
