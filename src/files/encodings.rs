//! Content codings of a representation: a file beside the file (`page.html.br`), or the content
//! compressed here.

use std::sync::Arc;

use bytes::Bytes;

use super::background::{CompressedFile, CompressedFiles};
use super::cache::{CacheKey, CacheState, CheckedAt, REVALIDATE_AFTER};
use super::compress::{self, CompressionTime, NotCompressed};
use super::lookup::{Lookup, Postponed, ServeError};
use super::representation::{self, Representation, RepresentationBuilder};
use super::root::{Blocking, OpenError, OpenedPath};
use super::sidecars;
use super::single_flight::Entered;
use crate::explain_log::{self, Escaped, explain};
use crate::http::negotiation::{AcceptEncoding, Coding};
use crate::site::Compress;

/// Accept-Encoding fields of browsers have some 30 bytes. What longer ones get is not remembered.
const MAX_ACCEPTED_BYTES: usize = 64;

impl Lookup<'_> {
    /// Returns the representation in the coding that Accept-Encoding prefers of those there are: a
    /// sidecar file, one compressed here, or `plain` itself. `key` is the cache key of `plain`.
    pub(super) fn encoded(
        &self,
        key: &CacheKey<'_>,
        plain: Arc<Representation>,
    ) -> Result<Arc<Representation>, ServeError> {
        let compress = self.tree.rules.compress;
        if compress == Compress::Off {
            explain!("coding", "not compressed: compress is off");
            return Ok(plain);
        }
        if !plain.may_be_coded {
            let media_type = Escaped(plain.media_type.as_bytes());
            explain!(
                "coding",
                "not compressed: {media_type} would not become smaller"
            );
            return Ok(plain);
        }
        // Each coding takes a lookup, and clients of one kind send the same field.
        let mut lines = self.request.fields().all("accept-encoding");
        let line = match (lines.next(), lines.next()) {
            (Some(line), None) if line.len() <= MAX_ACCEPTED_BYTES => Some(line),
            _ => None,
        };
        let line = line.filter(|_| !explain_log::is_explained());
        let now = self.now;
        if let Some((found, at)) = line.and_then(|line| plain.negotiated(line))
            && now.saturating_duration_since(at) < REVALIDATE_AFTER
        {
            return Ok(found);
        }
        let encoded = self.negotiate(key, &plain)?;
        if let Some(line) = line {
            plain.on_negotiated(line, &encoded, now);
        }
        Ok(encoded)
    }

    /// Returns the representation in the best of the accepted codings that there is.
    fn negotiate(
        &self,
        key: &CacheKey<'_>,
        plain: &Arc<Representation>,
    ) -> Result<Arc<Representation>, ServeError> {
        let plain = Arc::clone(plain);
        let accepted = AcceptEncoding::parse(self.request.fields());
        let is_coded = |coding: &Coding| *coding != Coding::Identity;
        let mut codings = accepted.ranked().take_while(is_coded).peekable();
        let Some(&preferred) = codings.peek() else {
            explain!(
                "coding",
                "not compressed: Accept-Encoding asks for none of br, zstd, gzip"
            );
            return Ok(plain);
        };
        for coding in codings {
            if let Some(sidecar) = self.sidecar(key, &plain, coding)? {
                explain!(
                    "sidecar",
                    "{} is sent, as Accept-Encoding asks for it",
                    Escaped(&sidecar.name)
                );
                return Ok(sidecar);
            }
        }
        let identity_rejected = accepted.rejects_identity();
        match self.may_compress(&plain, identity_rejected) {
            Ok(CompressionTime::Now) => {}
            Ok(CompressionTime::Background) => return Ok(self.compressed_later(plain, preferred)),
            Err(reason) => {
                explain!("coding", "not compressed: no sidecar fits, and {reason}");
                return Ok(plain);
            }
        }
        let len = plain.len;
        let encoded = self.compressed(key, plain, preferred)?;
        let coding = preferred.name();
        if encoded.len < len {
            explain!("coding", "compressed here with {coding} (--compress auto)");
        } else {
            explain!(
                "coding",
                "not compressed: {coding} would not make it smaller"
            );
        }
        Ok(encoded)
    }

    /// Checks whether a file without a sidecar is compressed on the fly.
    fn may_compress(
        &self,
        plain: &Representation,
        identity_rejected: bool,
    ) -> Result<CompressionTime, NotCompressed> {
        if self.tree.rules.compress != Compress::Auto {
            return Err(NotCompressed::SidecarsOnly);
        }
        if !plain.is_compressible {
            return Err(NotCompressed::MediaType);
        }
        compress::check_len(plain.len, identity_rejected)
    }

    /// Returns `plain` compressed, if it was compressed in the background, and else `plain` itself.
    fn compressed_later(&self, plain: Arc<Representation>, coding: Coding) -> Arc<Representation> {
        let name = coding.name();
        match CompressedFiles::get(&self.tree.compressed_files, &plain, coding) {
            CompressedFile::Ready(content) => {
                explain!(
                    "coding",
                    "compressed in the background with {name} (--compress auto)"
                );
                let recoded = plain.recoded(&self.tree.rules, self.path(), coding, content);
                return Arc::new(recoded);
            }
            CompressedFile::NotSmaller => {
                explain!("coding", "not compressed: {name} would not make it smaller");
            }
            CompressedFile::Pending => explain!(
                "coding",
                "not compressed yet: {name} is applied in the background, for later responses"
            ),
            CompressedFile::Overloaded => explain!(
                "coding",
                "not compressed: too many files wait for compression in the background"
            ),
        }
        plain
    }

    /// Returns the file beside the file, if there is one that is not older.
    fn sidecar(
        &self,
        key: &CacheKey<'_>,
        plain: &Representation,
        coding: Coding,
    ) -> Result<Option<Arc<Representation>>, ServeError> {
        let extension = coding.extension();
        let (snapshot, cache) = (self.snapshot, &self.snapshot.cache);
        let key = key.of_sidecar(extension);
        let now = self.now;
        let stale = match cache.get(&key, now) {
            CacheState::Watched(cached) | CacheState::Fresh(cached) => {
                // `plain` may be newer than the cached sidecar.
                return Ok(cached.filter(|sidecar| sidecar.modified >= plain.modified));
            }
            CacheState::Stale(stale) => stale,
            CacheState::NotCached => None,
        };
        let name = [&plain.name, extension].concat();
        let opened = match snapshot.root.get(&name, self.blocking) {
            Err(OpenError::WouldBlock) => return Err(Postponed::Lookup.into()),
            Ok(OpenedPath::File(opened))
                if representation::is_ready(opened.metadata.modified, plain.modified) =>
            {
                opened
            }
            Err(OpenError::NotFound) => {
                explain!("sidecar", "{} does not exist", Escaped(&name));
                cache.put(&key, None, snapshot.checked_absent(&name, now));
                return Ok(None);
            }
            // It may become ready without an event in its directory.
            _ => {
                let why = "it is older than its file, still being written, or unreadable";
                explain!("sidecar", "{} is not used: {why}", Escaped(&name));
                cache.put(&key, None, CheckedAt::unwatched(now));
                return Ok(None);
            }
        };
        if let Some(stale) = stale
            && stale.is_of(opened.metadata.id)
        {
            cache.confirm(&key, &stale, snapshot.checked(&stale, now));
            return Ok(Some(stale));
        }
        let content_tag = self.content_tag(&opened)?;
        let metadata = opened.metadata;
        // One that changes while it is read is not ready.
        let Some(content) = self.content(opened)? else {
            return Ok(None);
        };
        let start = content.start(sidecars::START_BYTES, self.blocking)?;
        if !sidecars::is_in_format(coding, &start) {
            let format = coding.name();
            explain!(
                "sidecar",
                "{} is not used: it is not in the format {format}",
                Escaped(&name)
            );
            cache.put(&key, None, CheckedAt::unwatched(now));
            return Ok(None);
        }
        let builder = RepresentationBuilder {
            rules: &self.tree.rules,
            path: self.path(),
            name: &name,
            typed_name: &plain.name,
            coding,
            own_coding: None,
            content_tag,
            page_use: plain.page_use,
        };
        let sidecar = Arc::new(Representation::new(&builder, metadata, content));
        let checked = snapshot.checked(&sidecar, now);
        cache.put(&key, Some(Arc::clone(&sidecar)), checked);
        Ok(Some(sidecar))
    }

    /// Returns `plain` compressed, from the cache, or made here on a thread for long jobs.
    fn compressed(
        &self,
        key: &CacheKey<'_>,
        plain: Arc<Representation>,
        coding: Coding,
    ) -> Result<Arc<Representation>, ServeError> {
        let cache = &self.snapshot.cache;
        let key = key.compressed(coding);
        let now = self.now;
        let cached = || match cache.get(&key, now) {
            // It was made from this state of the file, so it needs no revalidation of its own.
            CacheState::Watched(cached) | CacheState::Fresh(cached) | CacheState::Stale(cached) => {
                cached.filter(|cached| cached.is_of(plain.file_id))
            }
            CacheState::NotCached => None,
        };
        if let Some(cached) = cached() {
            return Ok(cached);
        }
        if self.blocking != Blocking::Allowed {
            return Err(Postponed::Work.into());
        }
        let _run = match self.snapshot.compressions.ticket(key.clone()).enter() {
            Entered::Run(run) => run,
            Entered::Busy(ticket) => return Err(Postponed::WorkInProgress(ticket).into()),
            Entered::Done(never) => match never {},
        };
        // Another run may have ended meanwhile.
        if let Some(cached) = cached() {
            return Ok(cached);
        }
        let content = plain.read().map_err(OpenError::Failed)?;
        if !plain.is_unchanged() {
            return Err(OpenError::Modified.into());
        }
        let compressed = compress::encode(&content, coding).map_err(OpenError::Failed)?;
        let representation = match compressed {
            Some(compressed) => {
                let content = Bytes::from(compressed);
                Arc::new(plain.recoded(&self.tree.rules, self.path(), coding, content))
            }
            // It would be no smaller.
            None => plain,
        };
        let checked = CheckedAt::unwatched(now);
        cache.put(&key, Some(Arc::clone(&representation)), checked);
        Ok(representation)
    }
}
