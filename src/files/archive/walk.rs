//! The files and folders beneath a folder, depth first, that a client could also request one by one: the
//! entries of listings, opened through the root.

use std::sync::Arc;

use crate::files::listing::{Completeness, Entries, EntryKind, SortOrder};
use crate::files::root::{Blocking, InodeId, OpenError, OpenedFile, OpenedPath};
use crate::files::serve::SiteFiles;
use crate::files::tree::RootSnapshot;
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
    /// Entries that the process may not read.
    pub(super) unreadable: usize,
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

/// An entry of the archive, with its name beneath the root.
pub(super) struct WalkedEntry {
    pub(super) name: Vec<u8>,
    pub(super) kind: EntryKind,
    /// In bytes; 0 unless it is a file.
    pub(super) size: u64,
    /// In seconds since the epoch; 0 if it is unknown.
    pub(super) modified: i64,
}

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
            unreadable: 0,
        };
        let inode = walk.snapshot.root.inode_at(folder);
        walk.enter(folder.to_vec(), inode)?;
        Ok(walk)
    }

    /// Returns the next entry, a folder before its own entries, or `None` at the end. An entry that was
    /// removed meanwhile is left out, and so is one that the process may not read, one with rules about
    /// access that are not about the folder that is requested, and a file that other rules hide.
    pub(super) fn next(&mut self) -> Result<Option<WalkedEntry>, WalkError> {
        while let Some(folder) = self.open.last_mut() {
            let position = folder.sorted.get(folder.next);
            folder.next += 1;
            let Some(entry) = position.and_then(|at| folder.entries.get(*at as usize)) else {
                self.open.pop();
                continue;
            };
            let mut walked = WalkedEntry {
                name: [&folder.name, entry.name].concat(),
                kind: entry.kind,
                size: entry.size.unwrap_or(0),
                modified: entry.modified.unwrap_or(0),
            };
            if entry.kind == EntryKind::Directory {
                walked.name.push(b'/');
            }
            let rules = &self.site.tree.rules;
            if !rules.permit_as_well(&self.request, &walked.name) {
                continue;
            }
            match entry.kind {
                EntryKind::Other => continue,
                EntryKind::File if rules.shadows_file(&walked.name) => continue,
                EntryKind::File => return Ok(Some(walked)),
                EntryKind::Directory => {}
            }
            let inode = self.snapshot.root.inode_at(&walked.name);
            // A symbolic link to a folder that contains it.
            if self.open.iter().any(|open| open.inode == inode) {
                continue;
            }
            if self.is_entered(walked.name.clone(), inode)? {
                return Ok(Some(walked));
            }
        }
        Ok(None)
    }

    /// Opens a file that [`next`](Self::next) has returned. `None` if it was removed meanwhile, or if the
    /// process may not read it.
    pub(super) fn open(&mut self, name: &[u8]) -> Result<Option<OpenedFile>, OpenError> {
        match self.snapshot.root.get(name, Blocking::Allowed) {
            Ok(OpenedPath::File(opened)) => Ok(Some(opened)),
            Ok(OpenedPath::Directory) | Err(OpenError::NotFound) => Ok(None),
            Err(OpenError::Forbidden) => {
                self.unreadable += 1;
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn is_entered(&mut self, name: Vec<u8>, inode: Option<InodeId>) -> Result<bool, WalkError> {
        match self.enter(name, inode) {
            Ok(()) => Ok(true),
            Err(WalkError::Open(OpenError::NotFound)) => Ok(false),
            Err(WalkError::Open(OpenError::Forbidden)) => {
                self.unreadable += 1;
                Ok(false)
            }
            Err(error) => Err(error),
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
