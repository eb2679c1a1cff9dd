//! Notices changes beneath a root, so that what has not changed need not be looked at again.
//!
//! The kernel tells of what happens in a directory (inotify(7)). Here a directory is either quiet,
//! since a moment that is known, or something has happened in it or above it; what, does not matter:
//! then its files are looked at as if nobody watched. Each watch tells of one event and is over, so
//! that a directory in which much happens costs no more than one in which little does.
//!
//! It is heard on local file systems only. What nobody is told of, a change through a memory
//! mapping, or through another name of the file elsewhere, is the reason why even quiet files are
//! looked at from time to time ([`MAX_UNWATCHED_AGE`](super::cache::MAX_UNWATCHED_AGE)).

use std::collections::HashMap;
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::fd::OwnedFd;
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};

use super::root::Root;

/// Directories in all: a user may have some thousand watches.
const MAX_DIRECTORIES: usize = 1024;

/// How long a directory in which something has happened, or that cannot be watched, is left alone.
const WATCH_RETRY_INTERVAL: Duration = Duration::from_millis(100);

/// The watches beneath one root.
#[derive(Debug)]
pub(super) struct DirectoryWatches {
    /// `None` where nothing would be heard.
    inotify: Option<OwnedFd>,
    known: Mutex<WatchTable>,
}

#[derive(Debug, Default)]
struct WatchTable {
    by_name: HashMap<Vec<u8>, Arc<WatchedDirectory>>,
    /// One directory may have several names.
    by_watch: HashMap<i32, Vec<Arc<WatchedDirectory>>>,
}

/// A directory that is watched, or was.
#[derive(Debug)]
pub(super) struct WatchedDirectory {
    /// `None` for the root.
    parent: Option<Arc<WatchedDirectory>>,
    since: Instant,
    changed: AtomicBool,
}

impl WatchedDirectory {
    /// True if nothing is known to have happened in it, or to it, since it is watched.
    pub(super) fn is_unchanged(&self) -> bool {
        let above = || {
            self.parent
                .as_ref()
                .is_none_or(|parent| parent.is_unchanged())
        };
        !self.changed.load(Ordering::Acquire) && above()
    }

    fn mark_changed(&self) {
        self.changed.store(true, Ordering::Release);
    }
}

impl DirectoryWatches {
    pub(super) fn new(root: &Root) -> Self {
        let inotify = match root.is_local() {
            true => inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).ok(),
            false => None,
        };
        Self {
            inotify,
            known: Mutex::default(),
        }
    }

    /// Takes note of what has happened.
    pub(super) fn drain_events(&self) {
        let Some(inotify) = &self.inotify else {
            return;
        };
        let mut room = [MaybeUninit::uninit(); 4096];
        let mut events = Reader::new(inotify, &mut room);
        // An error is that there is nothing more to hear.
        while let Ok(event) = events.next() {
            let mut known = self.known();
            if event.events().contains(ReadFlags::QUEUE_OVERFLOW) {
                known.mark_all_changed();
            } else if let Some(directories) = known.by_watch.remove(&event.wd()) {
                directories
                    .iter()
                    .for_each(|directory| directory.mark_changed());
            }
        }
    }

    /// The directory `name`, if it has been watched since before `now` and is quiet.
    pub(super) fn unchanged_directory(
        &self,
        root: &Root,
        name: &[u8],
        now: Instant,
    ) -> Option<Arc<WatchedDirectory>> {
        self.inotify.as_ref()?;
        let directory = self.known().watch(self, root, name, now);
        (directory.since < now && directory.is_unchanged()).then_some(directory)
    }

    fn known(&self) -> MutexGuard<'_, WatchTable> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl WatchTable {
    fn watch(
        &mut self,
        watch: &DirectoryWatches,
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
            Some(slash) => Some(self.watch(watch, root, &name[..slash], now)),
            None if !name.is_empty() => Some(self.watch(watch, root, b"", now)),
            None => None,
        };
        let started = match self.by_name.len() < MAX_DIRECTORIES {
            true => start(watch, root, name),
            false => None,
        };
        let directory = Arc::new(WatchedDirectory {
            parent,
            since: now,
            changed: AtomicBool::new(started.is_none()),
        });
        if let Some(watch) = started {
            let same = self.by_watch.entry(watch).or_default();
            same.retain(|directory| Arc::strong_count(directory) > 1);
            same.push(Arc::clone(&directory));
        }
        if self.by_name.len() < MAX_DIRECTORIES {
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

/// Watches a directory that no link leads to.
fn start(watch: &DirectoryWatches, root: &Root, name: &[u8]) -> Option<i32> {
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
    inotify::add_watch(watch.inotify.as_ref()?, path.as_str(), flags).ok()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::site::Symlinks;

    const LATER: Duration = Duration::from_secs(1);

    #[test]
    fn a_directory_is_unchanged_until_something_happens_in_it_or_above() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path();
        fs::create_dir_all(path.join("a/b")).expect("folders");
        fs::write(path.join("a/b/file"), "one").expect("a file");
        std::os::unix::fs::symlink("a", path.join("link")).expect("a link");
        let root = Root::open(path, Symlinks::Inside).expect("a root");
        if !root.is_local() {
            return;
        }
        let watch = DirectoryWatches::new(&root);
        let mut now = Instant::now();
        let mut unchanged_directory = |name: &[u8]| {
            now += LATER;
            watch.drain_events();
            watch.unchanged_directory(&root, name, now)
        };
        let happens: [&dyn Fn(); 5] = [
            &|| fs::write(path.join("a/b/file"), "two").expect("a change"),
            &|| fs::write(path.join("a/b/new"), "new").expect("a file"),
            &|| fs::rename(path.join("a/b/new"), path.join("a/b/file")).expect("a change"),
            &|| {
                fs::rename(path.join("a"), path.join("c")).expect("a change");
                fs::create_dir_all(path.join("a/b")).expect("folders");
            },
            &|| fs::remove_dir(path.join("a/b")).expect("a change"),
        ];
        for (at, happens) in happens.iter().enumerate() {
            assert!(
                unchanged_directory(b"a/b").is_none(),
                "{at}: not watched before"
            );
            let directory = unchanged_directory(b"a/b").expect("it is watched");
            assert!(unchanged_directory(b"a/b").is_some() && directory.is_unchanged());
            happens();
            watch.drain_events();
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
