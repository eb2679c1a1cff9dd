//! The files and folders beneath a folder, depth first, that a client could also request one by one: the
//! entries of listings, opened through the root.

use std::sync::Arc;

use crate::files::listing::{Completeness, Entries, EntryKind, SortOrder};
use crate::files::root::{Blocking, InodeId, OpenError, OpenedFile, OpenedPath};
use crate::files::serve::SiteFiles;
use crate::files::tree::RootSnapshot;
use crate::files::upload::target::MAX_PATH_BYTES;
use crate::http::Request;
use crate::semaphore::SemaphorePermit;

/// Walks through the folder that a request names.
pub(super) struct FolderWalk {
    site: Arc<SiteFiles>,
    snapshot: Arc<RootSnapshot>,
    /// What is requested: rules about access may be about some of the entries only.
    request: Request<'static>,
    /// The folders from the outermost one to that of the next entry.
    open: Vec<OpenFolder>,
}

/// A folder of which some entries are still to be visited.
struct OpenFolder {
    /// Beneath the root; empty, or with a slash at the end.
    name: Vec<u8>,
    inode: Option<InodeId>,
    entries: Entries,
    /// The positions of the entries in the order of listings.
    sorted: Box<[u32]>,
    next: usize,
    _held_until_the_end: SemaphorePermit,
}

/// An entry of the folder, with its name beneath the root.
pub(super) struct WalkedEntry {
    /// With a slash at the end for a folder.
    pub(super) name: Vec<u8>,
    pub(super) kind: WalkedKind,
    /// In bytes; 0 unless it is a file.
    pub(super) size: u64,
    /// In seconds since the epoch; 0 if it is unknown.
    pub(super) modified: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WalkedKind {
    /// Its entries come next.
    Folder,
    File,
    /// Neither it nor what is beneath it can be read, for this reason.
    Unreadable(&'static str),
}

/// Why a file or a folder is not read.
pub(super) const NO_PERMISSION: &str = "the server has no permission to read it";

/// Why the entries of a folder are not known.
#[derive(Debug)]
pub(super) enum WalkError {
    Open(OpenError),
    /// A folder has more entries than are read.
    FolderTooLarge,
    /// All folders that are being read have too many entries together.
    TooManyEntries,
}

impl FolderWalk {
    /// Begins with the entries of `folder`, whose name is empty, or has a slash at the end.
    pub(super) fn new(
        site: &Arc<SiteFiles>,
        snapshot: &Arc<RootSnapshot>,
        request: &Request<'_>,
        folder: &[u8],
    ) -> Result<Self, WalkError> {
        let mut walk = Self {
            request: request.clone().into_owned(),
            site: Arc::clone(site),
            snapshot: Arc::clone(snapshot),
            open: Vec::new(),
        };
        let inode = walk.snapshot.root.inode_at(folder);
        walk.enter(folder.to_vec(), inode)?;
        Ok(walk)
    }

    /// True if an entry of the folder that the walk begins with has this name, in whatever case. To be asked
    /// before the first entry is visited.
    pub(super) fn has_entry(&self, name: &str) -> bool {
        let Some(OpenFolder { entries, .. }) = self.open.first() else {
            return false;
        };
        let mut names = (0..entries.len()).filter_map(|at| Some(entries.get(at)?.name));
        names.any(|entry| entry.eq_ignore_ascii_case(name.as_bytes()))
    }

    /// Returns the next entry, a folder before its own entries, or `None` at the end. An entry that was
    /// removed meanwhile is left out, and so is one with rules about access that are not about the folder that
    /// is requested, and a file that other rules hide.
    pub(super) fn next(&mut self) -> Result<Option<WalkedEntry>, WalkError> {
        while let Some(folder) = self.open.last_mut() {
            let position = folder.sorted.get(folder.next);
            folder.next += 1;
            let Some(entry) = position.and_then(|at| folder.entries.get(*at as usize)) else {
                self.open.pop();
                continue;
            };
            let mut name = [&folder.name, entry.name].concat();
            if entry.kind == EntryKind::Directory {
                name.push(b'/');
            }
            let (size, modified) = (entry.size.unwrap_or(0), entry.modified);
            let kind = entry.kind;
            if let Some(kind) = self.visit(&name, kind, modified)? {
                return Ok(Some(WalkedEntry {
                    name,
                    kind,
                    size,
                    modified: modified.unwrap_or(0),
                }));
            }
        }
        Ok(None)
    }

    /// Enters an entry if it is a folder. `None` if it is not in the archive.
    fn visit(
        &mut self,
        name: &[u8],
        kind: EntryKind,
        modified: Option<i64>,
    ) -> Result<Option<WalkedKind>, WalkError> {
        let rules = &self.site.tree.rules;
        if !rules.permit_as_well(&self.request, name) {
            return Ok(None);
        }
        match kind {
            // It could not be examined: its folder can be read, but not searched.
            EntryKind::Other if modified.is_none() => {
                Ok(Some(WalkedKind::Unreadable(NO_PERMISSION)))
            }
            EntryKind::Other => Ok(None),
            EntryKind::File if rules.shadows_file(name) => Ok(None),
            EntryKind::File | EntryKind::Directory if name.len() > MAX_PATH_BYTES => {
                Ok(Some(WalkedKind::Unreadable("its path is too long")))
            }
            EntryKind::File => Ok(Some(WalkedKind::File)),
            EntryKind::Directory => self.visit_folder(name),
        }
    }

    fn visit_folder(&mut self, name: &[u8]) -> Result<Option<WalkedKind>, WalkError> {
        let inode = self.snapshot.root.inode_at(name);
        // A symbolic link to a folder that contains it.
        if self.open.iter().any(|open| open.inode == inode) {
            return Ok(None);
        }
        match self.enter(name.to_vec(), inode) {
            Ok(()) => Ok(Some(WalkedKind::Folder)),
            Err(WalkError::Open(OpenError::NotFound)) => Ok(None),
            Err(WalkError::Open(OpenError::Forbidden)) => {
                Ok(Some(WalkedKind::Unreadable(NO_PERMISSION)))
            }
            Err(error) => Err(error),
        }
    }

    /// Opens a file that [`next`](Self::next) has returned.
    pub(super) fn open(&self, name: &[u8]) -> Result<OpenedFile, OpenError> {
        match self.snapshot.root.get(name, Blocking::Allowed)? {
            OpenedPath::File(opened) => Ok(opened),
            OpenedPath::Directory => Err(OpenError::NotFound),
        }
    }

    fn enter(&mut self, name: Vec<u8>, inode: Option<InodeId>) -> Result<(), WalkError> {
        let tree = &self.site.tree;
        let entries = tree.entries(&self.snapshot.root, &name);
        let entries = entries.map_err(WalkError::Open)?;
        if entries.extent() == Completeness::Truncated {
            return Err(WalkError::FolderTooLarge);
        }
        let permit = tree.listed_entries.try_acquire(entries.len());
        self.open.push(OpenFolder {
            name,
            inode,
            sorted: entries.sorted(SortOrder::default()),
            entries,
            next: 0,
            _held_until_the_end: permit.ok_or(WalkError::TooManyEntries)?,
        });
        Ok(())
    }
}
