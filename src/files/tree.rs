//! A site's folder: its root, which a deploy may replace, the rules, and the cache.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::num::NonZeroUsize;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, MutexGuard};
use std::time::{Duration, Instant};

use lru::LruCache;

use super::background::CompressedFiles;
use super::cache::{Cache, CacheKey, CacheStats, CheckedAt, REVALIDATE_AFTER};
use super::inotify::{DirectoryWatches, WatchedDirectory};
use super::listing::SharedListing;
use super::representation::Representation;
use super::root::{Blocking, FileId, InodeId, OpenedPath, Root, ServerFiles};
use super::rules::{MentionedFile, RouteTarget, Rules, ServeScope};
use super::single_flight::{SingleFlight, Ticket};
use crate::error::Error;
use crate::semaphore::Semaphore;
use crate::site::{Period, RootOpener, Site, Symlinks};
use crate::sync::{Mutex, RwLock};

/// How often a missing root is logged.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// Former roots that are kept: more than there are deploys within minutes.
const MAX_PREVIOUS: usize = 4;

/// Some hundred bytes each.
const MAX_CONTENT_TAGS: usize = 16 * 1024;

/// Entries that the listings being sent may hold in all, at some 50 bytes each: a listing stays in
/// memory until the last of its clients has read it.
const MAX_LISTED_ENTRIES: usize = 2_000_000;

/// The files of one site.
#[derive(Debug)]
pub(super) struct Tree {
    pub(super) rules: Rules,
    /// The root's path as given, for messages.
    pub(super) path: PathBuf,
    /// The root's absolute path, which may be a symbolic link that a deploy replaces. A relative one
    /// would lead into the working directory even after that was removed and created again.
    location: PathBuf,
    current: RwLock<Arc<RootSnapshot>>,
    /// How long files of a former root are served that the current one lacks.
    keep_previous: Duration,
    /// The former roots, the last one first, each with the time until which it is kept.
    previous: Mutex<VecDeque<(Instant, Arc<RootSnapshot>)>>,
    /// The statistics of the caches of former snapshots.
    past_stats: Mutex<CacheStats>,
    /// When the root was last checked for a deploy.
    checked: Mutex<Instant>,
    /// The last directory at `path` that could not be opened, and when that was known.
    unreadable: Mutex<Option<(InodeId, Instant)>>,
    /// Whether the directory at `path` cannot be opened and the one that is open was removed.
    lost: AtomicBool,
    /// Opens the directory at `location` and the files in it where this process may not.
    opener: Option<Arc<dyn RootOpener>>,
    /// Held by the thread that replaces the snapshot, if it may block.
    replacing: Mutex<()>,
    /// Whether the snapshot must be replaced although the inode may be the same: a file has become the
    /// server's own, or opening the new root would have blocked an event loop.
    is_replacement_due: AtomicBool,
    /// When the log said that there is nothing at `path`.
    logged_missing: Mutex<Option<Instant>>,
    /// Files that were compressed in the background.
    pub(super) compressed_files: Arc<CompressedFiles>,
    /// Entity tags made from file contents.
    content_tags: Mutex<LruCache<FileId, String>>,
    /// Files that are being hashed for them.
    pub(super) hashes: SingleFlight<FileId, Infallible>,
    symlinks: Symlinks,
    /// Never served.
    server_files: Arc<ServerFiles>,
    /// Entries of listings that are being sent.
    pub(super) listed_entries: Semaphore,
}

/// The root at one moment, and the cache of what was found beneath it. A request uses one snapshot
/// from beginning to end, so it never mixes files of two deploys; only what is not there is looked up in
/// former ones, if these are kept.
#[derive(Debug)]
pub(super) struct RootSnapshot {
    pub(super) root: Root,
    pub(super) cache: Cache,
    /// Representations that are being compressed.
    pub(super) compressions: SingleFlight<CacheKey<'static>, Infallible>,
    /// Folders whose entries are being read, by their names.
    listings: SingleFlight<Vec<u8>, SharedListing>,
    watches: DirectoryWatches,
}

/// A request's right to the entries of a folder as they are after the request has arrived.
#[derive(Debug)]
pub(super) struct ListingTicket {
    pub(super) snapshot: Arc<RootSnapshot>,
    pub(super) ticket: Ticket<SharedListing>,
}

impl ListingTicket {
    /// Calls `retry` when the entries that are being read are there; see [`Ticket::park`].
    pub(super) fn park(self, retry: impl FnOnce(Self) + Send + 'static) {
        let snapshot = self.snapshot;
        let retry = move |ticket| retry(Self { snapshot, ticket });
        self.ticket.park(retry);
    }
}

impl Tree {
    /// Opens the folder, or the folder of the single file, that `path` names.
    pub(super) fn open(
        path: &Path,
        site: &Site,
        opener: Option<&Arc<dyn RootOpener>>,
    ) -> Result<Self, Error> {
        let failed = |source| Error::path("serve", path, source);
        let metadata = path.metadata().map_err(failed)?;
        let mut rules = Rules::new(site)?;
        let mut symlinks = site.symlinks;
        let folder = if metadata.is_dir() {
            path.to_owned()
        } else {
            if !metadata.is_file() {
                return Err(failed(io::Error::other("neither a folder nor a file")));
            }
            if site.upload.is_some() {
                let path = path.display();
                return Err(Error::Setting(format!(
                    "{path} is a file, but uploads need a folder; name a folder, or omit --upload and [upload]"
                )));
            }
            if site.manage.is_some() {
                let path = path.display();
                return Err(Error::Setting(format!(
                    "{path} is a file, but --manage needs a folder; name a folder, or omit --manage and [manage]"
                )));
            }
            std::fs::File::open(path).map_err(failed)?;
            let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
                return Err(failed(io::ErrorKind::NotFound.into()));
            };
            // If `path` is a symbolic link, it may be replaced later: the file it leads to is
            // served.
            symlinks = Symlinks::Follow;
            rules.scope = ServeScope::RoutesOnly;
            let own_path = [b"/", name.as_bytes()].concat();
            for path in [b"/".to_vec(), own_path] {
                let name = RouteTarget::File(name.as_bytes().to_vec());
                rules.routes.insert(path, name);
            }
            if parent.as_os_str().is_empty() {
                PathBuf::from(".")
            } else {
                parent.to_owned()
            }
        };
        let location = std::path::absolute(&folder).map_err(failed)?;
        let server_files = Arc::default();
        let parameters = RootParameters {
            location: &location,
            symlinks,
            server_files: &server_files,
            opener,
        };
        let snapshot = parameters.snapshot(Blocking::Allowed).map_err(failed)?;
        let max_tags = NonZeroUsize::new(MAX_CONTENT_TAGS).unwrap_or(NonZeroUsize::MIN);
        Ok(Self {
            rules,
            path: folder,
            location,
            current: RwLock::new(Arc::new(snapshot)),
            keep_previous: site.keep_previous.map_or(Duration::ZERO, Period::duration),
            previous: Mutex::default(),
            past_stats: Mutex::default(),
            checked: Mutex::new(Instant::now()),
            unreadable: Mutex::default(),
            lost: AtomicBool::new(false),
            opener: opener.cloned(),
            replacing: Mutex::default(),
            is_replacement_due: AtomicBool::new(false),
            logged_missing: Mutex::default(),
            compressed_files: Arc::default(),
            content_tags: Mutex::new(LruCache::new(max_tags)),
            hashes: SingleFlight::default(),
            symlinks,
            server_files,
            listed_entries: Semaphore::new(MAX_LISTED_ENTRIES),
        })
    }

    /// Never serves or replaces `file`, by whatever name. It need not exist.
    pub(super) fn hide(&mut self, file: &Path) {
        self.server_files.add(file);
        let Ok(root) = self.path.canonicalize() else {
            return;
        };
        let folder = file.parent().and_then(|folder| folder.canonicalize().ok());
        let link = folder
            .zip(file.file_name())
            .map(|(folder, name)| folder.join(name));
        let names = [link, file.canonicalize().ok()].into_iter().flatten();
        for name in names.filter_map(|name| Some(name.strip_prefix(&root).ok()?.to_owned())) {
            let name = name.as_os_str().as_bytes().to_vec();
            self.rules.hidden_names.push(name);
        }
    }

    /// Returns the root as it was at most [`REVALIDATE_AFTER`] before `now`. While the path leads nowhere,
    /// because a deploy is between two steps, the root stays what it was. `None` if the root was replaced
    /// and opening the new one may block.
    pub(super) fn snapshot(&self, blocking: Blocking, now: Instant) -> Option<Arc<RootSnapshot>> {
        let current = self.current();
        if !current.root.may_stat_with(blocking) || !self.is_check_due(now) {
            return Some(current);
        }
        self.drop_previous();
        current.watches.drain_events();
        // What is cached may be a file that is the server's own now.
        if self.server_files.look_up() {
            self.is_replacement_due.store(true, Ordering::Relaxed);
        }
        match InodeId::of_directory(&self.location) {
            Ok(inode) if inode != current.root.inode || self.is_replacement_due() => {
                self.reopen(inode, blocking)
            }
            Ok(_) => {
                self.lost.store(false, Ordering::Relaxed);
                Some(current)
            }
            Err(error) => {
                self.lost.store(false, Ordering::Relaxed);
                self.log_missing(&error);
                Some(current)
            }
        }
    }

    /// As [`snapshot`](Self::snapshot), on a thread that may block.
    pub(super) fn snapshot_blocking(&self, now: Instant) -> Arc<RootSnapshot> {
        let snapshot = self.snapshot(Blocking::Allowed, now);
        snapshot.unwrap_or_else(|| self.current())
    }

    fn is_replacement_due(&self) -> bool {
        self.is_replacement_due.load(Ordering::Relaxed)
    }

    /// Replaces the snapshot by one of the directory `inode`, which is at the root's path, if it can be
    /// opened. Returns the snapshot that is current then; `None` if opening may block and the calling
    /// thread may not.
    fn reopen(&self, inode: InodeId, blocking: Blocking) -> Option<Arc<RootSnapshot>> {
        let asked = Instant::now();
        let _guard = (blocking != Blocking::Forbidden).then(|| self.replacing.lock());
        let current = self.current();
        // An opener that does not reply must not block one waiting thread after the other.
        let failed = *self.unreadable.lock();
        if failed.is_some_and(|(failed, at)| failed == inode && at >= asked) {
            return Some(current);
        }
        let is_due = self.is_replacement_due.swap(false, Ordering::Relaxed);
        if current.root.inode == inode && !is_due {
            return Some(current);
        }
        let parameters = RootParameters {
            location: &self.location,
            symlinks: self.symlinks,
            server_files: &self.server_files,
            opener: self.opener.as_ref(),
        };
        match parameters.snapshot(blocking) {
            Ok(snapshot) => self.set_current(snapshot),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.is_replacement_due.store(true, Ordering::Relaxed);
                return None;
            }
            Err(error) => {
                let is_lost = current.root.is_removed();
                self.lost.store(is_lost, Ordering::Relaxed);
                self.warn_once(inode, &error);
            }
        }
        Some(self.current())
    }

    /// True if the root was removed and the one in its place cannot be opened: that a file is not found
    /// says nothing then.
    pub(super) fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Relaxed)
    }

    /// Logs that the root's path leads nowhere, at most once in each [`LOG_INTERVAL`].
    fn log_missing(&self, error: &io::Error) {
        let now = Instant::now();
        let mut logged = self.logged_missing.lock();
        if logged.is_none_or(|logged| now.saturating_duration_since(logged) >= LOG_INTERVAL) {
            *logged = Some(now);
            let path = self.path.display();
            log::error!("{path}: {error}; it is served again as soon as it is there");
        }
    }

    fn set_current(&self, snapshot: RootSnapshot) {
        self.lost.store(false, Ordering::Relaxed);
        let mut past = self.past_stats.lock();
        let mut current = self.current.write();
        past.add(current.cache.stats());
        let former = std::mem::replace(&mut *current, Arc::new(snapshot));
        drop(current);
        if !self.keep_previous.is_zero() {
            let mut previous = self.previous.lock();
            previous.truncate(MAX_PREVIOUS - 1);
            previous.push_front((Instant::now() + self.keep_previous, former));
        }
    }

    /// Returns the former roots that are still kept, the last one first.
    pub(super) fn previous(&self) -> Vec<Arc<RootSnapshot>> {
        if self.keep_previous.is_zero() {
            return Vec::new();
        }
        let previous = self.previous.lock();
        previous.iter().map(|(_, root)| Arc::clone(root)).collect()
    }

    /// Closes the former roots that are kept no longer.
    fn drop_previous(&self) {
        if !self.keep_previous.is_zero() {
            let now = Instant::now();
            self.previous.lock().retain(|(until, _)| now < *until);
        }
    }

    /// Returns the cache statistics; those of a former snapshot end with its replacement.
    pub(super) fn cache_stats(&self) -> CacheStats {
        let past = self.past_stats.lock();
        let mut stats = *past;
        stats.add(self.current().cache.stats());
        stats
    }

    /// Warns that the root of a deploy cannot be opened, once for each root: opening is attempted
    /// at every check.
    fn warn_once(&self, inode: InodeId, error: &io::Error) {
        let mut unreadable = self.unreadable.lock();
        let former = unreadable.replace((inode, Instant::now()));
        if former.is_none_or(|(former, _)| former != inode) {
            let path = self.path.display();
            let served = if self.is_lost() {
                "requests get 503"
            } else {
                "the old one is served"
            };
            // What a link leads to is not where the former root was, so the sandbox may block it.
            let link = std::fs::read_link(&self.location).ok();
            let remedy = match (error.kind(), &link) {
                (io::ErrorKind::PermissionDenied, Some(_)) => {
                    "if its mode permits reading, the sandbox blocks it: put a folder in place of the \
                     link, or restart tws to serve what it leads to"
                }
                (io::ErrorKind::PermissionDenied, None) => {
                    "if its mode permits reading, the sandbox blocks it: restart tws now, and to need \
                     no restart next time, serve a folder inside it (dist), or use --no-sandbox"
                }
                _ => "it is tried again",
            };
            let replaced = match link {
                Some(target) => format!(
                    "the root is now a symbolic link to {}, which cannot be opened",
                    target.display()
                ),
                None => "the folder was replaced and the new one cannot be opened".to_owned(),
            };
            log::warn!("{path}: {replaced}: {error}; {served}; {remedy}");
        }
    }

    /// Returns the name of the folder, for titles and archives: empty if it is `/`.
    pub(super) fn name(&self) -> Vec<u8> {
        let path = std::path::absolute(&self.path).unwrap_or_else(|_| self.path.clone());
        // The last component may be `..`, or a link like `current`, whose own name says what it is.
        let name = path.file_name().map(ToOwned::to_owned);
        let name = name.or_else(|| Some(path.canonicalize().ok()?.file_name()?.to_owned()));
        name.map(|name| name.as_bytes().to_vec())
            .unwrap_or_default()
    }

    /// Closes the files that the cache keeps open.
    pub(super) fn close_cached_files(&self) {
        self.current().cache.close_files();
        let former = self.previous();
        former.iter().for_each(|root| root.cache.close_files());
    }

    fn current(&self) -> Arc<RootSnapshot> {
        Arc::clone(&self.current.read())
    }

    /// True for one thread in each interval of [`REVALIDATE_AFTER`], and for all while the snapshot is to
    /// be replaced.
    fn is_check_due(&self, now: Instant) -> bool {
        if self.is_replacement_due() {
            return true;
        }
        // If it is locked, another thread is checking.
        let Some(mut checked) = self.checked.try_lock() else {
            return false;
        };
        let due = now >= *checked + REVALIDATE_AFTER;
        if due {
            *checked = now;
        }
        due
    }

    /// Returns the device of what is at a decoded path, as far as that is known without blocking.
    pub(super) fn device_of(&self, path: &[u8]) -> u64 {
        let name = match self.rules.routes.get(path) {
            Some(RouteTarget::File(name)) => &name[..],
            _ => path.strip_prefix(b"/").unwrap_or_default(),
        };
        self.current().root.device_of(name)
    }

    /// Returns the files that the rules mention and that cannot be opened now, each with its rule, as
    /// `spa: index.html`.
    pub(super) fn missing_files(&self) -> impl Iterator<Item = String> {
        let snapshot = self.snapshot_blocking(Instant::now());
        let is_missing = move |file: &&MentionedFile| {
            let opened = snapshot.root.get(&file.name, Blocking::Allowed);
            !matches!(opened, Ok(OpenedPath::File(_)))
        };
        let missing = self.rules.mentioned_files.iter().filter(is_missing);
        missing.map(|file| format!("{}: {}", file.rule, String::from_utf8_lossy(&file.name)))
    }

    /// Locks the entity tags made from file contents.
    pub(super) fn content_tags(&self) -> MutexGuard<'_, LruCache<FileId, String>> {
        self.content_tags.lock()
    }
}

/// What is needed to open the root.
struct RootParameters<'a> {
    location: &'a Path,
    symlinks: Symlinks,
    server_files: &'a Arc<ServerFiles>,
    opener: Option<&'a Arc<dyn RootOpener>>,
}

impl RootParameters<'_> {
    /// Opens the root, where this process may not with the opener. That is an error of the kind
    /// [`io::ErrorKind::WouldBlock`] on a thread that may not block.
    fn snapshot(&self, blocking: Blocking) -> io::Result<RootSnapshot> {
        let root = match (Root::open(self.location, self.symlinks), self.opener) {
            (Err(error), Some(opener)) if error.kind() == io::ErrorKind::PermissionDenied => {
                if blocking == Blocking::Forbidden {
                    return Err(io::ErrorKind::WouldBlock.into());
                }
                Root::open_by(opener, self.location, self.symlinks)?
            }
            (root, _) => root?,
        };
        Ok(RootSnapshot::of(
            root.without(Arc::clone(self.server_files)),
        ))
    }
}

impl RootSnapshot {
    fn of(root: Root) -> Self {
        Self {
            watches: DirectoryWatches::new(&root),
            root,
            cache: Cache::new(),
            compressions: SingleFlight::default(),
            listings: SingleFlight::default(),
        }
    }

    /// Returns the right to the entries of the folder `name`.
    pub(super) fn listing_ticket(this: &Arc<Self>, name: &[u8]) -> ListingTicket {
        ListingTicket {
            ticket: this.listings.ticket(name.to_vec()),
            snapshot: Arc::clone(this),
        }
    }

    /// Notes that a representation was found current after `now`. A change would produce an inotify
    /// event if its directory was watched before `now`, its name is no link, and its modification
    /// time is reliable.
    pub(super) fn checked(&self, representation: &Representation, now: Instant) -> CheckedAt {
        let name = &representation.name;
        let is_itself = || self.root.file_id_at(name) == Ok(Some(representation.file_id));
        let watched = if representation.is_mtime_stable() {
            self.unchanged_directory(name, now).filter(|_| is_itself())
        } else {
            None
        };
        CheckedAt { at: now, watched }
    }

    /// Notes that nothing was found at `name` after `now`.
    pub(super) fn checked_absent(&self, name: &[u8], now: Instant) -> CheckedAt {
        let is_absent = || self.root.file_id_at(name) == Ok(None);
        let watched = self.unchanged_directory(name, now);
        CheckedAt {
            at: now,
            watched: watched.filter(|_| is_absent()),
        }
    }

    /// Returns the directory of `name`, if it was watched before `now` and has not changed since.
    fn unchanged_directory(&self, name: &[u8], now: Instant) -> Option<Arc<WatchedDirectory>> {
        let slash = name.iter().rposition(|&byte| byte == b'/');
        self.watches
            .unchanged_directory(&self.root, &name[..slash.unwrap_or(0)], now)
    }
}
