//! The cache of representations that were served lately: open files, or their content if it is
//! small, with their header fields rendered.
//!
//! An entry is used without a system call for [`REVALIDATE_AFTER`], or for
//! [`REVALIDATE_WATCHED_AFTER`] while its directory is watched and unchanged. Then its path is
//! resolved again, and the entry is kept if the path leads to the same state of the same file. So a
//! file in frequent use costs next to no system calls, and a change is visible within milliseconds.
//! Entries are replaced, never modified.
//!
//! Paths at which nothing was found are remembered for [`REVALIDATE_AFTER`], in a table of their own:
//! clients can make up any number of them, and these must not displace files.

use std::borrow::Cow;
use std::hash::BuildHasher;
use std::num::NonZeroUsize;
use std::sync::{Arc, MutexGuard};
use std::time::{Duration, Instant};

use foldhash::fast::RandomState;
use lru::LruCache;

use super::inotify::WatchedDirectory;
use super::representation::{PageUse, Representation};
use crate::http::negotiation::Coding;
use crate::sync::Mutex;

/// The revalidation interval of an entry whose directory is not watched, or has changed.
pub(super) const REVALIDATE_AFTER: Duration = Duration::from_millis(10);

/// The revalidation interval of an entry whose directory is watched and unchanged: some changes
/// have no inotify event.
pub(super) const REVALIDATE_WATCHED_AFTER: Duration = Duration::from_secs(2);

/// Enough that two event loops rarely contend for one lock.
const SHARDS: usize = 16;

/// Paths in all shards.
const MAX_ENTRIES: usize = 16 * 1024;
/// Bytes of small contents in all shards.
const MAX_BYTES: usize = 64 * 1024 * 1024;
/// Open files in all shards, well below the usual limit of 1,024 descriptors.
const MAX_FILES: usize = 256;

/// Paths in all shards at which nothing was found.
const MAX_ABSENT: usize = 1024;
/// Longer paths are not remembered.
const MAX_ABSENT_BYTES: usize = 256;

/// File cache lookups by result. The representations of a file (plain, compressed, a sidecar) are
/// looked up separately.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CacheStats {
    /// Found, and used without asking the file system.
    pub hits: u64,
    /// Found, and the file system confirmed that it has not changed.
    pub revalidations: u64,
    /// Not found or changed: opened, or compressed, and added.
    pub misses: u64,
}

impl CacheStats {
    pub(super) fn add(&mut self, other: Self) {
        self.hits += other.hits;
        self.revalidations += other.revalidations;
        self.misses += other.misses;
    }
}

/// What identifies a representation: everything that decides its content and fields. It is not a
/// path, so that header rules cannot be applied to it by mistake.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct CacheKey<'a>(Cow<'a, [u8]>);

impl<'a> CacheKey<'a> {
    /// The key of what is served at a request's decoded path.
    pub(super) fn of_path(path: &'a [u8]) -> Self {
        Self(Cow::Borrowed(path))
    }

    /// The key of the file `name` as it is served in place of what a path lacks, with the fields of
    /// the header rules at these positions.
    pub(super) fn of_page(name: &[u8], page_use: PageUse, header_rules: &[u32]) -> Self {
        // A path begins with a slash and neither it nor a name contains NUL, so the kinds of keys do
        // not overlap, and a suffix begins with the last NUL.
        let mut key = vec![0, page_use as u8];
        key.extend((header_rules.len() as u32).to_be_bytes());
        key.extend(header_rules.iter().flat_map(|rule| rule.to_be_bytes()));
        key.extend(name);
        Self(Cow::Owned(key))
    }

    /// The key of a sidecar of the same content, with this extension.
    pub(super) fn of_sidecar(&self, extension: &[u8]) -> CacheKey<'static> {
        CacheKey(Cow::Owned([&self.0, &b"\0s"[..], extension].concat()))
    }

    /// The key of the same content, compressed with this coding.
    pub(super) fn compressed(&self, coding: Coding) -> CacheKey<'static> {
        CacheKey(Cow::Owned(
            [&self.0, &b"\0c"[..], coding.name().as_bytes()].concat(),
        ))
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Cache {
    shards: Vec<Mutex<Shard>>,
    /// Its key is random, so that clients cannot construct paths with the same shard or hash.
    hasher: RandomState,
}

/// Both tables are keyed by the hash of the key; each entry holds its key for comparison. In each table, a
/// key replaces another one with the same hash.
#[derive(Debug)]
struct Shard {
    entries: LruCache<u64, CacheEntry>,
    /// A key, and when nothing was found for it.
    absent: LruCache<u64, (Box<[u8]>, Instant)>,
    bytes: usize,
    files: usize,
    /// Here because the lock of the shard is held whenever they change.
    stats: CacheStats,
}

#[derive(Debug)]
struct CacheEntry {
    key: Box<[u8]>,
    /// `None` if there is no file.
    representation: Option<Arc<Representation>>,
    checked: CheckedAt,
}

impl CacheEntry {
    fn state(&self, now: Instant) -> CacheState {
        let checked = self.checked.at;
        let watched = self.checked.watched.as_ref();
        let is_unchanged = || watched.is_some_and(|directory| directory.is_unchanged());
        let representation = self.representation.clone();
        if now < checked + REVALIDATE_WATCHED_AFTER && is_unchanged() {
            CacheState::Watched(representation)
        } else if now < checked + REVALIDATE_AFTER {
            CacheState::Fresh(representation)
        } else {
            CacheState::Stale(representation)
        }
    }

    fn bytes(&self) -> usize {
        let representation = self.representation.as_ref();
        representation.map_or(0, |representation| representation.bytes_in_memory())
    }

    fn files(&self) -> usize {
        let representation = self.representation.as_ref();
        representation.map_or(0, |representation| representation.open_files())
    }
}

/// When an entry was last compared with the file system.
#[derive(Clone, Debug)]
pub(super) struct CheckedAt {
    /// The time before the file system was asked.
    pub(super) at: Instant,
    /// Its directory, if a later change has an inotify event there.
    pub(super) watched: Option<Arc<WatchedDirectory>>,
}

impl CheckedAt {
    pub(super) fn unwatched(at: Instant) -> Self {
        Self { at, watched: None }
    }
}

/// The result of a cache lookup. `None` in it means that there is no file.
#[derive(Debug)]
pub(super) enum CacheState {
    /// No event in its directory since it was checked.
    Watched(Option<Arc<Representation>>),
    /// Checked within [`REVALIDATE_AFTER`].
    Fresh(Option<Arc<Representation>>),
    /// To be revalidated.
    Stale(Option<Arc<Representation>>),
    /// Not in the cache.
    NotCached,
}

impl Cache {
    pub(super) fn new() -> Self {
        let capacity = |of_all| NonZeroUsize::new(of_all / SHARDS).unwrap_or(NonZeroUsize::MIN);
        let shard = || {
            Mutex::new(Shard {
                entries: LruCache::new(capacity(MAX_ENTRIES)),
                absent: LruCache::new(capacity(MAX_ABSENT)),
                bytes: 0,
                files: 0,
                stats: CacheStats::default(),
            })
        };
        Self {
            shards: (0..SHARDS).map(|_| shard()).collect(),
            hasher: RandomState::default(),
        }
    }

    pub(super) fn get(&self, key: &CacheKey<'_>, now: Instant) -> CacheState {
        let (hash, mut shard) = self.shard(key);
        let entry = shard.entries.get(&hash);
        let Some(entry) = entry.filter(|entry| *entry.key == *key.0) else {
            return match shard.absent.get(&hash) {
                Some((absent, at)) if **absent == *key.0 && now < *at + REVALIDATE_AFTER => {
                    CacheState::Fresh(None)
                }
                _ => CacheState::NotCached,
            };
        };
        let state = entry.state(now);
        if matches!(state, CacheState::Watched(_) | CacheState::Fresh(_)) {
            shard.stats.hits += 1;
        }
        state
    }

    /// Notes that nothing was found after `now`.
    pub(super) fn put_absent(&self, key: &CacheKey<'_>, now: Instant) {
        let (hash, mut shard) = self.shard(key);
        if let Some(removed) = shard.entries.pop(&hash) {
            shard.on_removed(&removed);
        }
        if key.0.len() <= MAX_ABSENT_BYTES {
            shard.absent.put(hash, ((*key.0).into(), now));
        }
    }

    /// Forgets what was not found: files were added.
    pub(super) fn forget_absent(&self) {
        for shard in &self.shards {
            lock(shard).absent.clear();
        }
    }

    /// Adds or replaces an entry.
    pub(super) fn put(
        &self,
        key: &CacheKey<'_>,
        representation: Option<Arc<Representation>>,
        checked: CheckedAt,
    ) {
        let entry = CacheEntry {
            key: (*key.0).into(),
            representation,
            checked,
        };
        let (hash, mut shard) = self.shard(key);
        shard.put(hash, entry);
    }

    /// Notes that a representation was revalidated, unless its entry was replaced meanwhile.
    pub(super) fn confirm(
        &self,
        key: &CacheKey<'_>,
        representation: &Arc<Representation>,
        checked: CheckedAt,
    ) {
        let (hash, mut shard) = self.shard(key);
        shard.stats.revalidations += 1;
        if let Some(entry) = shard.entries.get_mut(&hash)
            && let Some(cached) = &entry.representation
            && Arc::ptr_eq(cached, representation)
        {
            entry.checked = checked;
        }
    }

    pub(super) fn stats(&self) -> CacheStats {
        let mut sum = CacheStats::default();
        for shard in &self.shards {
            sum.add(lock(shard).stats);
        }
        sum
    }

    /// Removes all entries with an open file.
    pub(super) fn close_files(&self) {
        for shard in &self.shards {
            lock(shard).close_files();
        }
    }

    /// Returns the hash of a key, and its shard.
    fn shard(&self, key: &CacheKey<'_>) -> (u64, MutexGuard<'_, Shard>) {
        let hash = self.hasher.hash_one(&key.0);
        (hash, lock(&self.shards[hash as usize % SHARDS]))
    }
}

/// Entries are replaced as a whole, so a panic of another thread leaves no partial one.
fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock()
}

impl Shard {
    fn put(&mut self, hash: u64, entry: CacheEntry) {
        self.stats.misses += 1;
        self.bytes += entry.bytes();
        self.files += entry.files();
        if let Some((_, removed)) = self.entries.push(hash, entry) {
            self.on_removed(&removed);
        }
        while self.bytes > MAX_BYTES / SHARDS || self.files > MAX_FILES / SHARDS {
            match self.entries.pop_lru() {
                Some((_, removed)) => self.on_removed(&removed),
                None => break,
            }
        }
    }

    fn close_files(&mut self) {
        if self.files == 0 {
            return;
        }
        let open = self.entries.iter().filter(|(_, entry)| entry.files() > 0);
        let hashes: Vec<_> = open.map(|(hash, _)| *hash).collect();
        for hash in hashes {
            if let Some(removed) = self.entries.pop(&hash) {
                self.on_removed(&removed);
            }
        }
    }

    fn on_removed(&mut self, entry: &CacheEntry) {
        self.bytes -= entry.bytes();
        self.files -= entry.files();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_absent(cache: &Cache, path: &[u8], now: Instant) -> bool {
        matches!(
            cache.get(&CacheKey::of_path(path), now),
            CacheState::Fresh(None)
        )
    }

    #[test]
    fn absent_path_is_looked_up_again_after_the_interval_or_an_upload() {
        let cache = Cache::new();
        let now = Instant::now();
        assert!(!is_absent(&cache, b"/none", now));
        cache.put_absent(&CacheKey::of_path(b"/none"), now);
        assert!(is_absent(&cache, b"/none", now));
        assert!(!is_absent(&cache, b"/none", now + REVALIDATE_AFTER));
        cache.forget_absent();
        assert!(!is_absent(&cache, b"/none", now));
    }

    #[test]
    fn entry_of_another_key_with_the_same_hash_is_not_used() {
        let cache = Cache::new();
        let now = Instant::now();
        let key = CacheKey::of_path(b"/one");
        let other = || Box::from(*b"/two");
        let (hash, mut shard) = cache.shard(&key);
        let entry = CacheEntry {
            key: other(),
            representation: None,
            checked: CheckedAt::unwatched(now),
        };
        shard.put(hash, entry);
        shard.absent.put(hash, (other(), now));
        drop(shard);
        assert!(matches!(cache.get(&key, now), CacheState::NotCached));
    }

    #[test]
    fn absent_paths_do_not_displace_files() {
        let cache = Cache::new();
        let now = Instant::now();
        let path = |number: usize| format!("/{number}").into_bytes();
        for number in 0..MAX_ABSENT {
            let checked = CheckedAt::unwatched(now);
            cache.put(&CacheKey::of_path(&path(number)), None, checked);
        }
        for number in MAX_ABSENT..2 * MAX_ENTRIES {
            cache.put_absent(&CacheKey::of_path(&path(number)), now);
        }
        let later = now + REVALIDATE_AFTER;
        for number in 0..MAX_ABSENT {
            let state = cache.get(&CacheKey::of_path(&path(number)), later);
            assert!(matches!(state, CacheState::Stale(None)), "{number}");
        }
        let kept: usize = cache
            .shards
            .iter()
            .map(|shard| lock(shard).absent.len())
            .sum();
        assert!(kept <= MAX_ABSENT, "{kept}");
        let long = vec![b'x'; MAX_ABSENT_BYTES + 1];
        cache.put_absent(&CacheKey::of_path(&long), now);
        assert!(!is_absent(&cache, &long, now));
    }
}
