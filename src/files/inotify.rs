//! Watches the directories beneath a root for changes, so that unchanged files need not be
//! revalidated.
//!
//! A directory is unchanged since its watch began, or something has happened in it or in a
//! directory above it (inotify(7)); what has happened is not distinguished, and its files are
//! revalidated as if they were not watched. Each watch reports one event and ends (`IN_ONESHOT`),
//! so a directory with many changes costs no more than one with few.
//!
//! Only local file systems are watched. A change through a memory mapping, or through another hard
//! link elsewhere, has no event in the directory: therefore files in unchanged directories are
//! revalidated too, after [`REVALIDATE_WATCHED_AFTER`](super::cache::REVALIDATE_WATCHED_AFTER).

use std::collections::HashMap;
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, MutexGuard};
use std::time::{Duration, Instant};

use rustix::fd::OwnedFd;
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};

use super::root::Root;
use crate::sync::Mutex;

/// Directories watched beneath one root; a user's limit is some thousand watches.
const MAX_DIRECTORIES: usize = 1024;

/// How long a directory that has changed, or cannot be watched, is not watched again.
const WATCH_RETRY_INTERVAL: Duration = Duration::from_millis(100);

/// The watches beneath one root.
#[derive(Debug)]
pub(super) struct DirectoryWatches {
    /// `None` where not every change has an event.
    inotify: Option<OwnedFd>,
    table: Mutex<WatchTable>,
}

#[derive(Debug, Default)]
struct WatchTable {
    by_name: HashMap<Vec<u8>, Arc<WatchedDirectory>>,
    /// By watch descriptor. One directory may have several names.
    by_watch: HashMap<i32, Vec<Arc<WatchedDirectory>>>,
}

/// A directory whose watch is active or has reported its event.
#[derive(Debug)]
pub(super) struct WatchedDirectory {
    /// `None` for the root.
    parent: Option<Arc<WatchedDirectory>>,
    since: Instant,
    changed: AtomicBool,
}

impl WatchedDirectory {
    /// True if no event was reported in it, or in a directory above it, since its watch began.
    pub(super) fn is_unchanged(&self) -> bool {
        let parent = self.parent.as_ref();
        let above = || parent.is_none_or(|parent| parent.is_unchanged());
        !self.changed.load(Ordering::Acquire) && above()
    }

    fn mark_changed(&self) {
        self.changed.store(true, Ordering::Release);
    }
}

impl DirectoryWatches {
    pub(super) fn new(root: &Root) -> Self {
        let inotify = if root.is_local() {
            inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).ok()
        } else {
            None
        };
        Self {
            inotify,
            table: Mutex::default(),
        }
    }

    /// Reads the pending events, and marks their directories as changed.
    pub(super) fn drain_events(&self) {
        let Some(inotify) = &self.inotify else {
            return;
        };
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut events = Reader::new(inotify, &mut buffer);
        // The error is EAGAIN: no more events.
        while let Ok(event) = events.next() {
            let mut table = self.table();
            if event.events().contains(ReadFlags::QUEUE_OVERFLOW) {
                table.mark_all_changed();
            } else if let Some(directories) = table.by_watch.remove(&event.wd()) {
                for directory in directories {
                    directory.mark_changed();
                }
            }
        }
    }

    /// Returns the directory `name`, if it has been watched since before `now` and is unchanged. If
    /// it is not watched, its watch begins.
    pub(super) fn unchanged_directory(
        &self,
        root: &Root,
        name: &[u8],
        now: Instant,
    ) -> Option<Arc<WatchedDirectory>> {
        let inotify = self.inotify.as_ref()?;
        let directory = self.table().watch(inotify, root, name, now);
        (directory.since < now && directory.is_unchanged()).then_some(directory)
    }

    fn table(&self) -> MutexGuard<'_, WatchTable> {
        self.table.lock()
    }
}

impl WatchTable {
    fn watch(
        &mut self,
        inotify: &OwnedFd,
        root: &Root,
        name: &[u8],
        now: Instant,
    ) -> Arc<WatchedDirectory> {
        if let Some(directory) = self.by_name.get(name)
            && (directory.is_unchanged() || now < directory.since + WATCH_RETRY_INTERVAL)
        {
            return Arc::clone(directory);
        }
        if self.by_name.len() >= MAX_DIRECTORIES {
            self.by_name.retain(|_, directory| directory.is_unchanged());
            self.by_watch.retain(|_, directories| {
                directories.retain(|directory| Arc::strong_count(directory) > 1);
                !directories.is_empty()
            });
        }
        let parent = match name.iter().rposition(|&byte| byte == b'/') {
            Some(slash) => Some(self.watch(inotify, root, &name[..slash], now)),
            None if !name.is_empty() => Some(self.watch(inotify, root, b"", now)),
            None => None,
        };
        let has_room = self.by_name.len() < MAX_DIRECTORIES;
        let watch = has_room.then(|| add_watch(inotify, root, name)).flatten();
        let directory = Arc::new(WatchedDirectory {
            parent,
            since: now,
            changed: AtomicBool::new(watch.is_none()),
        });
        if let Some(watch) = watch {
            let same = self.by_watch.entry(watch).or_default();
            same.retain(|directory| Arc::strong_count(directory) > 1);
            same.push(Arc::clone(&directory));
        }
        if has_room {
            self.by_name.insert(name.to_vec(), Arc::clone(&directory));
        }
        directory
    }

    fn mark_all_changed(&mut self) {
        for directory in self.by_name.values() {
            directory.mark_changed();
        }
    }
}

/// Watches a directory whose path contains no symbolic link, and returns its watch descriptor.
fn add_watch(inotify: &OwnedFd, root: &Root, name: &[u8]) -> Option<i32> {
    let events = WatchFlags::ATTRIB
        | WatchFlags::CLOSE_WRITE
        | WatchFlags::CREATE
        | WatchFlags::DELETE
        | WatchFlags::DELETE_SELF
        | WatchFlags::MODIFY
        | WatchFlags::MOVE
        | WatchFlags::MOVE_SELF;
    let path = root.path_without_links(name)?;
    let flags = events | WatchFlags::ONESHOT | WatchFlags::ONLYDIR;
    inotify::add_watch(inotify, path.as_str(), flags).ok()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::site::Symlinks;

    const LATER: Duration = Duration::from_secs(1);

    #[test]
    fn directory_is_unchanged_until_an_event_in_it_or_above() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path();
        fs::create_dir_all(path.join("a/b")).expect("folders");
        fs::write(path.join("a/b/file"), "one").expect("a file");
        std::os::unix::fs::symlink("a", path.join("link")).expect("a link");
        let root = Root::open(path, Symlinks::Inside).expect("a root");
        if !root.is_local() {
            return;
        }
        let watches = DirectoryWatches::new(&root);
        let mut now = Instant::now();
        let mut unchanged_directory = |name: &[u8]| {
            now += LATER;
            watches.drain_events();
            watches.unchanged_directory(&root, name, now)
        };
        let changes: [&dyn Fn(); 5] = [
            &|| fs::write(path.join("a/b/file"), "two").expect("a change"),
            &|| fs::write(path.join("a/b/new"), "new").expect("a file"),
            &|| fs::rename(path.join("a/b/new"), path.join("a/b/file")).expect("a change"),
            &|| {
                fs::rename(path.join("a"), path.join("c")).expect("a change");
                fs::create_dir_all(path.join("a/b")).expect("folders");
            },
            &|| fs::remove_dir(path.join("a/b")).expect("a change"),
        ];
        for (at, change) in changes.iter().enumerate() {
            assert!(
                unchanged_directory(b"a/b").is_none(),
                "{at}: not watched before"
            );
            let directory = unchanged_directory(b"a/b").expect("it is watched");
            assert!(unchanged_directory(b"a/b").is_some() && directory.is_unchanged());
            change();
            watches.drain_events();
            assert!(!directory.is_unchanged(), "{at}");
        }
        for unwatched in [&b"link"[..], b"link/b", b"none"] {
            assert!(
                unchanged_directory(unwatched).is_none()
                    && unchanged_directory(unwatched).is_none()
            );
        }
    }
}
