//! One request's lookups beneath a site's root: from the decoded path, or a file's name, to a
//! representation, through the cache.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use ::http::Method;

use super::archive_format::ArchiveFormat;
use super::cache::{CacheKey, CacheState};
use super::content_tag;
use super::representation::{Content, PageUse, Representation, RepresentationBuilder};
use super::resolve::{Resolved, Resolver};
use super::root::{Blocking, OpenError, OpenedFile, OpenedPath};
use super::sidecars;
use super::single_flight::{Entered, Ticket};
use super::tree::{ListingTicket, RootSnapshot, Tree};
use crate::explain_log::{Escaped, explain};
use crate::http::Request;
use crate::http::conditional::{self, Precondition, Validators};
use crate::http::negotiation::Coding;
use crate::site::EtagSource;

/// The context of one request's lookups.
#[derive(Clone, Copy)]
pub(super) struct Lookup<'a> {
    pub(super) tree: &'a Tree,
    /// The root when the request came.
    pub(super) snapshot: &'a Arc<RootSnapshot>,
    pub(super) request: &'a Request<'a>,
    pub(super) blocking: Blocking,
    /// The time before anything was looked up.
    pub(super) now: Instant,
}

/// Why a request is not answered here and now: what is next to do is not allowed on this thread.
#[derive(Debug)]
pub(super) enum Postponed {
    /// A lookup may block. The request is processed again on a thread for short jobs.
    Lookup,
    /// A file is to be hashed or compressed. The request is processed again on a thread for long jobs.
    Work,
    /// That is being done for another request. This one is processed again afterwards.
    WorkInProgress(Ticket<Infallible>),
    /// A folder is to be listed on a thread for long jobs.
    Listing(ListingTicket),
    /// An archive of a folder is to be made on threads for long jobs.
    Archive(ArchiveFormat),
    /// Its entries are being read for another request. This one is continued afterwards.
    ListingInProgress(ListingTicket),
}

/// Why a lookup has no result.
#[derive(Debug)]
pub(super) enum ServeError {
    /// There is nothing to serve.
    Open(OpenError),
    Postponed(Postponed),
}

impl From<Postponed> for ServeError {
    fn from(postponed: Postponed) -> Self {
        Self::Postponed(postponed)
    }
}

impl From<OpenError> for ServeError {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::WouldBlock => Self::Postponed(Postponed::Lookup),
            error => Self::Open(error),
        }
    }
}

/// What exists at a path.
#[derive(Debug)]
pub(super) enum LookupResult {
    Representation(Arc<Representation>),
    /// A directory, and the path lacks its trailing slash.
    MissingSlash,
    /// A directory without an index file.
    NoIndex,
    /// Nothing, but the path without its slash at the end leads to a page.
    ExtraSlash,
}

impl<'a> Lookup<'a> {
    /// The request's decoded path.
    pub(super) fn path(&self) -> &'a [u8] {
        self.request.path_bytes()
    }

    pub(super) fn resolver(&self) -> Resolver<'a> {
        Resolver {
            rules: &self.tree.rules,
            root: &self.snapshot.root,
            blocking: self.blocking,
        }
    }

    /// Looks up the request's path.
    pub(super) fn find(&self) -> Result<LookupResult, ServeError> {
        let path = self.path();
        let resolve = || self.resolver().resolve(path);
        self.look_up(&CacheKey::of_path(path), PageUse::Requested, resolve)
    }

    /// Looks up a file by its name beneath the root, to serve it at the request's path as an error
    /// page or the like. Returns its cache key too.
    pub(super) fn page(
        &self,
        name: &[u8],
        page_use: PageUse,
    ) -> Result<(CacheKey<'static>, Arc<Representation>), ServeError> {
        // Paths may be made up at will, but few sets of rules apply to them, so the cache has few
        // entries for a page.
        let header_rules = self.tree.rules.header_rules(self.path(), Some(name));
        let key = CacheKey::of_page(name, page_use, &header_rules);
        let resolve = || self.resolver().file(name.into());
        match self.look_up(&key, page_use, resolve)? {
            LookupResult::Representation(representation) => Ok((key, representation)),
            LookupResult::MissingSlash | LookupResult::NoIndex | LookupResult::ExtraSlash => {
                Err(OpenError::NotFound.into())
            }
        }
    }

    /// Returns what the cache has for `key`, or else what `resolve` finds.
    fn look_up<'n>(
        &self,
        key: &CacheKey<'_>,
        page_use: PageUse,
        resolve: impl Fn() -> Result<Resolved<'n>, OpenError>,
    ) -> Result<LookupResult, ServeError> {
        let now = self.now;
        let (snapshot, cache) = (self.snapshot, &self.snapshot.cache);
        let stale = match cache.get(key, now) {
            CacheState::Watched(Some(cached)) | CacheState::Fresh(Some(cached))
                if cached.is_unchanged() =>
            {
                return Ok(LookupResult::Representation(cached));
            }
            CacheState::Watched(None) | CacheState::Fresh(None) => {
                return Err(OpenError::NotFound.into());
            }
            CacheState::Watched(cached) | CacheState::Fresh(cached) | CacheState::Stale(cached) => {
                cached
            }
            CacheState::NotCached => None,
        };
        // A file that changes while it is read is read again, a few times.
        const ATTEMPTS: usize = 4;
        for _ in 0..ATTEMPTS {
            let (opened, name, page_use) = match resolve() {
                Ok(Resolved::File(opened, name)) => (opened, name, page_use),
                Ok(Resolved::Fallback(opened, name)) => (opened, name, PageUse::Fallback),
                Ok(Resolved::MissingSlash) => return Ok(LookupResult::MissingSlash),
                Ok(Resolved::NoIndex) => return Ok(LookupResult::NoIndex),
                Ok(Resolved::ExtraSlash) => return Ok(LookupResult::ExtraSlash),
                Err(error) => {
                    if let OpenError::NotFound = error {
                        cache.put_absent(key, now);
                    }
                    return Err(error.into());
                }
            };
            if let Some(stale) = &stale
                && stale.is_of(opened.metadata.id)
                && stale.page_use == page_use
            {
                cache.confirm(key, stale, snapshot.checked(stale, now));
                return Ok(LookupResult::Representation(Arc::clone(stale)));
            }
            let content_tag = self.content_tag(&opened)?;
            let metadata = opened.metadata;
            let Some(content) = self.content(opened)? else {
                continue;
            };
            let builder = RepresentationBuilder {
                rules: &self.tree.rules,
                path: self.path(),
                name: &name,
                typed_name: &name,
                coding: Coding::Identity,
                own_coding: self.own_coding(&name, &content)?,
                content_tag,
                page_use,
            };
            let representation = Arc::new(Representation::new(&builder, metadata, content));
            let checked = snapshot.checked(&representation, now);
            cache.put(key, Some(Arc::clone(&representation)), checked);
            return Ok(LookupResult::Representation(representation));
        }
        Err(OpenError::Modified.into())
    }

    /// Returns the coding that a file is to be sent in, and its name without the extension of that
    /// coding; `None` if it has none, or is not in its format.
    fn own_coding<'n>(
        &self,
        name: &'n [u8],
        content: &Content,
    ) -> Result<Option<(Coding, &'n [u8])>, OpenError> {
        let Some((coding, inner)) = self.tree.rules.own_coding(self.path(), name) else {
            return Ok(None);
        };
        let start = content.start(sidecars::START_BYTES, self.blocking)?;
        if sidecars::is_in_format(coding, &start) {
            return Ok(Some((coding, inner)));
        }
        let format = coding.name();
        explain!(
            "coding",
            "{} is sent as it is: it is not in the format {format}",
            Escaped(name)
        );
        Ok(None)
    }

    /// Returns the content of an opened file, or `None` if it changed while it was read.
    pub(super) fn content(&self, opened: OpenedFile) -> Result<Option<Content>, OpenError> {
        let storage = self.snapshot.root.storage_of(&opened.metadata);
        Content::of(opened, storage, self.blocking)
    }

    /// Evaluates the preconditions of a request that would change what exists at `name`. May block.
    pub(super) fn precondition(
        &self,
        name: &[u8],
        method: &Method,
    ) -> Result<Precondition, OpenError> {
        let fields = self.request.fields();
        if !conditional::has_preconditions(fields) {
            return Ok(Precondition::Proceed);
        }
        match self.validators(name) {
            Ok(current) => Ok(conditional::evaluate(method, fields, &current)),
            Err(ServeError::Open(OpenError::NotFound)) => Ok(conditional::evaluate_absent(fields)),
            Err(ServeError::Open(error)) => Err(error),
            Err(ServeError::Postponed(_)) => Err(OpenError::WouldBlock),
        }
    }

    /// Returns the validators that a GET without content codings would report for the file `name`; a folder
    /// has none. May block.
    pub(super) fn validators(&self, name: &[u8]) -> Result<Validators, ServeError> {
        let opened = match self.snapshot.root.get(name, self.blocking)? {
            OpenedPath::File(opened) => opened,
            OpenedPath::Directory => return Ok(Validators::NONE),
        };
        let content_tag = loop {
            match self.content_tag(&opened) {
                Err(ServeError::Postponed(Postponed::WorkInProgress(other))) => other.wait(),
                tag => break tag?,
            }
        };
        let builder = RepresentationBuilder {
            rules: &self.tree.rules,
            path: name,
            name,
            typed_name: name,
            coding: Coding::Identity,
            own_coding: None,
            content_tag,
            page_use: PageUse::Requested,
        };
        Ok(builder.validators(opened.metadata, SystemTime::now()))
    }

    /// Returns the entity tag made from a file's content, or `None` if tags are made from
    /// modification times. A large file is hashed once, on a thread for long jobs.
    pub(super) fn content_tag(&self, opened: &OpenedFile) -> Result<Option<String>, ServeError> {
        /// Hashing this takes about a tenth of a millisecond.
        const QUICK_BYTES: u64 = 64 * 1024;
        /// Hashing this takes some seconds; the tag of a larger file is made from its modification
        /// time.
        const MAX_HASHED_BYTES: u64 = 4 * 1024 * 1024 * 1024;
        let metadata = &opened.metadata;
        if self.tree.rules.etag == EtagSource::Mtime || metadata.len > MAX_HASHED_BYTES {
            return Ok(None);
        }
        if let Some(tag) = self.tree.content_tags().get(&metadata.id) {
            return Ok(Some(tag.clone()));
        }
        if metadata.len <= QUICK_BYTES {
            return self.hashed(opened);
        }
        if self.blocking != Blocking::Allowed {
            return Err(Postponed::Work.into());
        }
        let _run = match self.tree.hashes.ticket(metadata.id).enter() {
            Entered::Run(run) => run,
            Entered::Busy(ticket) => return Err(Postponed::WorkInProgress(ticket).into()),
            Entered::Done(never) => match never {},
        };
        // Another run may have ended meanwhile.
        if let Some(tag) = self.tree.content_tags().get(&metadata.id) {
            return Ok(Some(tag.clone()));
        }
        self.hashed(opened)
    }

    /// Hashes a file for its entity tag; returns `None` if it changes meanwhile.
    fn hashed(&self, opened: &OpenedFile) -> Result<Option<String>, ServeError> {
        let tag = content_tag::hash(&opened.file).map_err(OpenError::Failed)?;
        if !opened.is_unchanged() {
            return Ok(None);
        }
        let id = opened.metadata.id;
        self.tree.content_tags().put(id, tag.clone());
        Ok(Some(tag))
    }
}
