//! One site's folder: its root, which a deploy may switch, and the versions of its files.

use std::io;
use std::num::NonZeroUsize;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Instant, SystemTime};

use ::http::HeaderMap;
use bytes::Bytes;
use lru::LruCache;

use super::WouldBlock;
use super::cache::{Cache, CacheState, CacheStats, CheckedAt, REVALIDATE_AFTER};
use super::compress;
use super::inotify::{DirectoryWatches, WatchedDirectory};
use super::representation::{self, Content, Representation, RepresentationBuilder};
use super::resolve::{self, Resolved};
use super::root::{Blocking, FileId, InodeId, OpenError, OpenedFile, OpenedPath, Root};
use super::rules::{RouteTarget, Rules, ServeScope};
use super::upload::Uploads;
use crate::error::Error;
use crate::explain_log::{Escaped, explain};
use crate::http::conditional::Validators;
use crate::http::negotiation::{AcceptEncoding, Coding};
use crate::site::{Compress, EtagSource, Site, Symlinks};

/// Some hundred bytes each.
const MAX_TAGS: usize = 16 * 1024;

/// One site.
#[derive(Debug)]
pub(super) struct Tree {
    pub(super) rules: Rules,
    /// What names the root; it may be a link.
    pub(super) path: PathBuf,
    current: RwLock<Arc<RootSnapshot>>,
    /// What the caches of former snapshots have counted.
    past_counts: Mutex<CacheStats>,
    checked: Mutex<Instant>,
    /// What the path named last of all that could not be opened.
    unreadable: Mutex<Option<InodeId>>,
    /// Tags made from contents, by the version of the file they were made from.
    tags: Mutex<LruCache<FileId, String>>,
    symlinks: Symlinks,
    /// Entries of listings on their way out.
    pub(super) listed: Arc<AtomicUsize>,
    /// If files are taken.
    pub(super) uploads: Option<Uploads>,
}

/// The root at one moment, and what was found beneath it. A request uses one from beginning to
/// end, so it never meets two deploys.
#[derive(Debug)]
pub(super) struct RootSnapshot {
    pub(super) root: Root,
    cache: Cache,
    watch: DirectoryWatches,
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum ServeError {
    /// Because there is nothing to serve.
    Open(OpenError),
    /// Because it takes blocking.
    WouldBlock,
}

impl From<WouldBlock> for ServeError {
    fn from(WouldBlock: WouldBlock) -> Self {
        Self::WouldBlock
    }
}

impl From<OpenError> for ServeError {
    fn from(miss: OpenError) -> Self {
        match miss {
            OpenError::WouldBlock => Self::WouldBlock,
            miss => Self::Open(miss),
        }
    }
}

/// What stands at a path.
#[derive(Debug)]
pub(super) enum LookupResult {
    Representation(Arc<Representation>),
    /// The address of a directory lacks its slash.
    MissingSlash,
    /// A directory without an index.
    NoIndex,
}

impl Tree {
    /// Opens the folder, or the folder of the single file, that `path` names.
    pub(super) fn open(path: &Path, site: &Site) -> Result<Self, Error> {
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
                    "{path} is a file, but uploads need a folder; name a folder, or omit --upload and \
                     [upload]"
                )));
            }
            std::fs::File::open(path).map_err(failed)?;
            let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
                return Err(failed(io::ErrorKind::NotFound.into()));
            };
            // Whoever names a link means what it leads to, now and later.
            symlinks = Symlinks::Follow;
            rules.scope = ServeScope::RoutesOnly;
            let address = [b"/", name.as_bytes()].concat();
            for path in [b"/".to_vec(), address] {
                let name = RouteTarget::File(name.as_bytes().to_vec());
                rules.routes.insert(path, name);
            }
            match parent.as_os_str().is_empty() {
                true => PathBuf::from("."),
                false => parent.to_owned(),
            }
        };
        let snapshot = RootSnapshot::open(&folder, symlinks).map_err(failed)?;
        let max_tags = NonZeroUsize::new(MAX_TAGS).unwrap_or(NonZeroUsize::MIN);
        Ok(Self {
            rules,
            path: folder,
            current: RwLock::new(Arc::new(snapshot)),
            past_counts: Mutex::default(),
            checked: Mutex::new(Instant::now()),
            unreadable: Mutex::default(),
            tags: Mutex::new(LruCache::new(max_tags)),
            symlinks,
            listed: Arc::default(),
            uploads: site.upload.as_ref().map(Uploads::new),
        })
    }

    /// Never serves `file` if it lies beneath this root, by its name or as what that links to.
    pub(super) fn hide(&mut self, file: &Path) {
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

    /// The root as it is now, give or take [`REVALIDATE_AFTER`]. A root that cannot be found, because a
    /// deploy is between two steps, stays what it was.
    pub(super) fn snapshot(&self, blocking: Blocking) -> Arc<RootSnapshot> {
        let current = self.read();
        if current.root.may_open_with(blocking) && self.is_to_be_checked() {
            current.watch.drain_events();
            match InodeId::of_directory(&self.path) {
                Ok(inode) if inode != current.root.inode => {
                    match RootSnapshot::open(&self.path, self.symlinks) {
                        Ok(snapshot) => self.replace(snapshot),
                        Err(error) => self.warn_once(inode, &error),
                    }
                }
                _ => {}
            }
            return self.read();
        }
        current
    }

    fn replace(&self, snapshot: RootSnapshot) {
        let mut past = self.past_counts();
        let current = self.current.write();
        let mut current = current.unwrap_or_else(PoisonError::into_inner);
        past.add(current.cache.counts());
        *current = Arc::new(snapshot);
    }

    fn past_counts(&self) -> MutexGuard<'_, CacheStats> {
        let counts = self.past_counts.lock();
        counts.unwrap_or_else(PoisonError::into_inner)
    }

    /// What the caches have counted; of one that a deploy has replaced, until then.
    pub(super) fn counts(&self) -> CacheStats {
        let past = self.past_counts();
        let mut counts = *past;
        counts.add(self.read().cache.counts());
        counts
    }

    /// Says that the folder of a deploy cannot be opened, once: it is tried again and again.
    fn warn_once(&self, inode: InodeId, error: &io::Error) {
        let mut unreadable = self
            .unreadable
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if unreadable.replace(inode) != Some(inode) {
            let path = self.path.display();
            let remedy = match error.kind() {
                io::ErrorKind::PermissionDenied => {
                    "restart if the sandbox blocks it, or use --no-sandbox"
                }
                _ => "it is tried again",
            };
            log::warn!(
                "{path}: the folder was replaced and the new one cannot be opened: {error}; the old \
                 one is served; {remedy}"
            );
        }
    }

    /// Closes the files that are kept open.
    pub(super) fn shed(&self) {
        self.read().cache.shed();
    }

    fn read(&self) -> Arc<RootSnapshot> {
        let current = self.current.read();
        Arc::clone(&current.unwrap_or_else(PoisonError::into_inner))
    }

    /// True for one thread each time [`REVALIDATE_AFTER`] is over.
    fn is_to_be_checked(&self) -> bool {
        let now = Instant::now();
        // Whoever holds it is checking.
        let Ok(mut checked) = self.checked.try_lock() else {
            return false;
        };
        let due = now.saturating_duration_since(*checked) >= REVALIDATE_AFTER;
        if due {
            *checked = now;
        }
        due
    }

    /// What stands at a decoded path.
    pub(super) fn find(
        &self,
        at: &RootSnapshot,
        path: &[u8],
        blocking: Blocking,
    ) -> Result<LookupResult, ServeError> {
        let resolve = || resolve::resolve(&self.rules, &at.root, path, blocking);
        self.look_up(at, path, path, |_| {}, blocking, resolve)
    }

    /// The device that has what stands at a decoded path, as far as that is known without waiting.
    pub(super) fn device_of(&self, path: &[u8]) -> u64 {
        let name = match self.rules.routes.get(path) {
            Some(RouteTarget::File(name)) => &name[..],
            _ => path.strip_prefix(b"/").unwrap_or_default(),
        };
        self.read().root.device_of(name)
    }

    /// A file by its name beneath the root, for error pages and the like. `finish` changes the
    /// fields last, and must be the same for the same `key`.
    pub(super) fn file(
        &self,
        at: &RootSnapshot,
        name: &[u8],
        finish: fn(&mut HeaderMap),
        blocking: Blocking,
    ) -> Result<Arc<Representation>, ServeError> {
        // No path begins with NUL.
        let key = [b"\0", name].concat();
        let path = [b"/", name].concat();
        let resolve = || resolve::file(&at.root, name.into(), blocking);
        match self.look_up(at, &key, &path, finish, blocking, resolve)? {
            LookupResult::Representation(version) => Ok(version),
            LookupResult::MissingSlash | LookupResult::NoIndex => Err(OpenError::NotFound.into()),
        }
    }

    fn look_up<'n>(
        &self,
        at: &RootSnapshot,
        key: &[u8],
        path: &[u8],
        finish: fn(&mut HeaderMap),
        blocking: Blocking,
        resolve: impl Fn() -> Result<Resolved<'n>, OpenError>,
    ) -> Result<LookupResult, ServeError> {
        let now = Instant::now();
        let stale = match at.cache.get(key, now) {
            CacheState::Watched(Some(version)) | CacheState::Fresh(Some(version))
                if version.is_unchanged() =>
            {
                return Ok(LookupResult::Representation(version));
            }
            CacheState::Watched(stale) | CacheState::Fresh(stale) | CacheState::Stale(stale) => {
                stale
            }
            CacheState::Miss => None,
        };
        // A file that is written to just now is read again, a few times.
        const ATTEMPTS: usize = 4;
        for _ in 0..ATTEMPTS {
            let (opened, name) = match resolve()? {
                Resolved::File(opened, name) => (opened, name),
                Resolved::MissingSlash => return Ok(LookupResult::MissingSlash),
                Resolved::NoIndex => return Ok(LookupResult::NoIndex),
            };
            if let Some(stale) = &stale
                && stale.is_of(opened.metadata.id)
            {
                at.cache.confirm(key, stale, at.seen(stale, now));
                return Ok(LookupResult::Representation(Arc::clone(stale)));
            }
            let content_tag = self.content_tag(&opened, blocking)?;
            let metadata = opened.metadata;
            let Some(content) = Content::of(opened, at.root.storage_of(&metadata), blocking)?
            else {
                continue;
            };
            let builder = RepresentationBuilder {
                rules: &self.rules,
                path,
                name: &name,
                typed_name: &name,
                coding: Coding::Identity,
                content_tag,
                finish,
            };
            let version = Arc::new(Representation::new(&builder, metadata, content));
            at.cache
                .put(key, Some(Arc::clone(&version)), at.seen(&version, now));
            return Ok(LookupResult::Representation(version));
        }
        Err(OpenError::Modified.into())
    }

    /// What identifies the file of that name now, as a GET without codings would say it. Only with
    /// blocking.
    pub(super) fn validators(
        &self,
        at: &RootSnapshot,
        name: &[u8],
    ) -> Result<Validators, ServeError> {
        let opened = match at.root.get(name, Blocking::Allowed)? {
            OpenedPath::File(opened) => opened,
            OpenedPath::Directory => return Err(OpenError::NotFound.into()),
        };
        let builder = RepresentationBuilder {
            rules: &self.rules,
            path: name,
            name,
            typed_name: name,
            coding: Coding::Identity,
            content_tag: self.content_tag(&opened, Blocking::Allowed)?,
            finish: |_| {},
        };
        Ok(builder.validators(opened.metadata, SystemTime::now()))
    }

    /// The tag of a file whose tag is made from its content. Large files take blocking, once.
    fn content_tag(
        &self,
        opened: &OpenedFile,
        blocking: Blocking,
    ) -> Result<Option<String>, ServeError> {
        /// About a tenth of a millisecond.
        const QUICK_BYTES: u64 = 64 * 1024;
        /// What takes a helper thread some seconds; above it the time must do.
        const MAX_HASHED_BYTES: u64 = 4 * 1024 * 1024 * 1024;
        if self.rules.etag == EtagSource::Mtime || opened.metadata.len > MAX_HASHED_BYTES {
            return Ok(None);
        }
        let tags = || self.tags.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(tag) = tags().get(&opened.metadata.id) {
            return Ok(Some(tag.clone()));
        }
        if opened.metadata.len > QUICK_BYTES && blocking == Blocking::Forbidden {
            return Err(ServeError::WouldBlock);
        }
        let tag = hash(opened).map_err(OpenError::Failed)?;
        if !opened.is_unchanged() {
            return Ok(None);
        }
        tags().put(opened.metadata.id, tag.clone());
        Ok(Some(tag))
    }

    /// The version in the coding that the client prefers: a sidecar, or one that is made here.
    pub(super) fn encoded(
        &self,
        at: &RootSnapshot,
        path: &[u8],
        plain: Arc<Representation>,
        accepted: AcceptEncoding,
        blocking: Blocking,
    ) -> Result<Arc<Representation>, ServeError> {
        const CODINGS: [Coding; 3] = [Coding::Brotli, Coding::Zstd, Coding::Gzip];
        if self.rules.compress == Compress::Off {
            explain!("coding", "not compressed: compress is off");
            return Ok(plain);
        }
        if !plain.may_be_coded() {
            let media_type = Escaped(plain.media_type.as_bytes());
            explain!(
                "coding",
                "not compressed: {media_type} would not become smaller"
            );
            return Ok(plain);
        }
        let all = [CODINGS[0], CODINGS[1], CODINGS[2], Coding::Identity];
        let wanted = accepted.preferred(&all);
        if matches!(wanted, None | Some(Coding::Identity)) {
            explain!(
                "coding",
                "not compressed: Accept-Encoding asks for none of br, zstd, gzip"
            );
            return Ok(plain);
        }
        let mut sidecars = Vec::with_capacity(CODINGS.len());
        let mut available = vec![Coding::Identity];
        for coding in CODINGS {
            // Not looked for if it would not be taken.
            if accepted.preferred(&[coding, Coding::Identity]) == Some(coding)
                && let Some(sidecar) = self.sidecar(at, path, &plain, coding, blocking)?
            {
                available.push(coding);
                sidecars.push((coding, sidecar));
            }
        }
        if let Some(best) = accepted.preferred(&available)
            && let Some(at) = sidecars.iter().position(|(coding, _)| *coding == best)
        {
            let (_, sidecar) = sidecars.swap_remove(at);
            explain!(
                "sidecar",
                "{} is sent, as Accept-Encoding asks for it",
                Escaped(&sidecar.name)
            );
            return Ok(sidecar);
        }
        let identity_refused = accepted.preferred(&[Coding::Identity]).is_none();
        let worthwhile =
            plain.is_compressible() && compress::is_worthwhile(plain.len, identity_refused);
        match wanted {
            Some(coding @ (Coding::Brotli | Coding::Zstd | Coding::Gzip))
                if self.rules.compress == Compress::Auto && worthwhile && sidecars.is_empty() =>
            {
                explain!(
                    "coding",
                    "compressed here with {} (--compress auto)",
                    coding.name()
                );
                self.compressed(at, path, plain, coding, blocking)
            }
            _ => {
                let why = "too small, too large, of such a type, or compress is not auto";
                explain!(
                    "coding",
                    "not compressed: no sidecar fits, and the file is {why}"
                );
                Ok(plain)
            }
        }
    }

    /// The file beside the file, if there is one and it is not older.
    fn sidecar(
        &self,
        at: &RootSnapshot,
        path: &[u8],
        plain: &Representation,
        coding: Coding,
        blocking: Blocking,
    ) -> Result<Option<Arc<Representation>>, ServeError> {
        let extension: &[u8] = match coding {
            Coding::Brotli => b".br",
            Coding::Zstd => b".zst",
            Coding::Gzip => b".gz",
            Coding::Identity => return Ok(None),
        };
        let key = [path, b"\0", extension].concat();
        let now = Instant::now();
        let stale = match at.cache.get(&key, now) {
            CacheState::Watched(version) | CacheState::Fresh(version) => {
                // Not older than the version at hand, which may be newer than this knowledge.
                return Ok(version.filter(|sidecar| sidecar.modified >= plain.modified));
            }
            CacheState::Stale(stale) => stale,
            CacheState::Miss => None,
        };
        let name = [&plain.name, extension].concat();
        let opened = match at.root.get(&name, blocking) {
            Err(OpenError::WouldBlock) => return Err(ServeError::WouldBlock),
            Ok(OpenedPath::File(opened))
                if representation::is_ready(opened.metadata.modified, plain.modified) =>
            {
                opened
            }
            Err(OpenError::NotFound) => {
                explain!("sidecar", "{} does not exist", Escaped(&name));
                at.cache.put(&key, None, at.seen_nothing(&name, now));
                return Ok(None);
            }
            // It may be ready soon.
            _ => {
                let why = "it is older than its file, still being written, or unreadable";
                explain!("sidecar", "{} is not used: {why}", Escaped(&name));
                at.cache.put(&key, None, CheckedAt::unwatched(now));
                return Ok(None);
            }
        };
        if let Some(stale) = stale
            && stale.is_of(opened.metadata.id)
        {
            at.cache.confirm(&key, &stale, at.seen(&stale, now));
            return Ok(Some(stale));
        }
        let content_tag = self.content_tag(&opened, blocking)?;
        // One that changes just now is not ready.
        let metadata = opened.metadata;
        let Some(content) = Content::of(opened, at.root.storage_of(&metadata), blocking)? else {
            return Ok(None);
        };
        let builder = RepresentationBuilder {
            rules: &self.rules,
            path,
            name: &name,
            typed_name: &plain.name,
            coding,
            content_tag,
            finish: plain.finish,
        };
        let version = Arc::new(Representation::new(&builder, metadata, content));
        at.cache
            .put(&key, Some(Arc::clone(&version)), at.seen(&version, now));
        Ok(Some(version))
    }

    /// The version compressed here, from the cache or with blocking.
    fn compressed(
        &self,
        at: &RootSnapshot,
        path: &[u8],
        plain: Arc<Representation>,
        coding: Coding,
        blocking: Blocking,
    ) -> Result<Arc<Representation>, ServeError> {
        let key = [path, b"\0", coding.name().as_bytes()].concat();
        let now = Instant::now();
        match at.cache.get(&key, now) {
            // It was made from this version, so it does not grow old.
            CacheState::Watched(Some(made))
            | CacheState::Fresh(Some(made))
            | CacheState::Stale(Some(made))
                if made.is_of(plain.file_id) =>
            {
                return Ok(made);
            }
            _ if blocking == Blocking::Forbidden => return Err(ServeError::WouldBlock),
            _ => {}
        }
        let content = plain.read().map_err(OpenError::Failed)?;
        if !plain.is_unchanged() {
            return Err(OpenError::Modified.into());
        }
        let Some(encoded) = compress::encode(&content, coding).map_err(OpenError::Failed)? else {
            at.cache
                .put(&key, Some(Arc::clone(&plain)), CheckedAt::unwatched(now));
            return Ok(plain);
        };
        let made = plain.recoded(&self.rules, path, coding, Bytes::from(encoded));
        let made = Arc::new(made);
        at.cache
            .put(&key, Some(Arc::clone(&made)), CheckedAt::unwatched(now));
        Ok(made)
    }
}

impl RootSnapshot {
    fn open(path: &Path, symlinks: Symlinks) -> io::Result<Self> {
        let root = Root::open(path, symlinks)?;
        Ok(Self {
            watch: DirectoryWatches::new(&root),
            root,
            cache: Cache::new(),
        })
    }

    /// Notes that a version was found after `now`. It would be heard of if its directory was watched
    /// by then, its name is no link, and its time can be relied on.
    fn seen(&self, version: &Representation, now: Instant) -> CheckedAt {
        let watched = version
            .is_mtime_stable()
            .then(|| self.unchanged_directory(&version.name, now));
        let is_itself = |_: &Arc<WatchedDirectory>| {
            self.root.file_id_at(&version.name) == Ok(Some(version.file_id))
        };
        CheckedAt {
            at: now,
            watched: watched.flatten().filter(is_itself),
        }
    }

    /// Notes that there was nothing at `name` after `now`.
    fn seen_nothing(&self, name: &[u8], now: Instant) -> CheckedAt {
        let is_nothing = |_: &Arc<WatchedDirectory>| self.root.file_id_at(name) == Ok(None);
        CheckedAt {
            at: now,
            watched: self.unchanged_directory(name, now).filter(is_nothing),
        }
    }

    /// The directory of `name`, if it was watched and quiet before `now`.
    fn unchanged_directory(&self, name: &[u8], now: Instant) -> Option<Arc<WatchedDirectory>> {
        let slash = name.iter().rposition(|&byte| byte == b'/');
        self.watch
            .unchanged_directory(&self.root, &name[..slash.unwrap_or(0)], now)
    }
}

/// The content as 128 bits of BLAKE3, in hexadecimal digits. The descriptor's position is left
/// alone: copies of it share one.
fn hash(opened: &OpenedFile) -> io::Result<String> {
    const PIECE_BYTES: usize = 128 * 1024;
    let mut hasher = blake3::Hasher::new();
    let mut piece = vec![0; PIECE_BYTES];
    let mut at = 0;
    loop {
        match opened.file.read_at(&mut piece, at)? {
            0 => break,
            count => {
                hasher.update(&piece[..count]);
                at += count as u64;
            }
        }
    }
    Ok(hasher.finalize().to_hex()[..32].to_owned())
}
