//! A representation (RFC 9110 §3.2): one state of one file in one content coding, as it is served
//! at one path, with the fields and validators of exactly that state.

use std::fs::File;
use std::io::{self, IoSliceMut};
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ::http::header::{
    ACCEPT_RANGES, CONTENT_ENCODING, CONTENT_TYPE, ETAG, HeaderValue, LAST_MODIFIED, VARY,
};
use ::http::{HeaderMap, StatusCode};
use bytes::Bytes;
use rustix::io::{Errno, ReadWriteFlags, preadv2};

use super::media_type;
use super::root::{self, Blocking, FileId, FileMetadata, OpenError, OpenedFile};
use super::rules::Rules;
use crate::body::FileRange;
use crate::body::file_range::{FileState, Storage};
use crate::http::Body;
use crate::http::conditional::{EntityTag, Strength, Validators};
use crate::http::date::HttpDate;
use crate::http::negotiation::Coding;
use crate::http::range::ByteRange;
use crate::http::response::PreparedFields;
use crate::proto::h1::outbox::SMALL_BODY_BYTES;
use crate::site::Compress;
use crate::sync::Mutex;

/// What is served at a path. It never changes; a changed file gets another one.
#[derive(Debug)]
pub(super) struct Representation {
    /// The state of the file that this is, or was made from.
    pub(super) file_id: FileId,
    /// The file's name beneath the root.
    pub(super) name: Vec<u8>,
    pub(super) modified: SystemTime,
    pub(super) len: u64,
    pub(super) media_type: HeaderValue,
    /// Whether compression makes it clearly smaller.
    pub(super) is_compressible: bool,
    /// Whether there may be another content coding of it: it has none itself.
    pub(super) may_be_coded: bool,
    pub(super) validators: Validators,
    /// The fields of a 200 (OK).
    pub(super) ok_fields: Arc<PreparedFields>,
    /// The fields of a 304 (Not Modified, RFC 9110 §15.4.5).
    pub(super) not_modified_fields: Arc<PreparedFields>,
    pub(super) page_use: PageUse,
    mtime_age: MtimeAge,
    content: Content,
    /// What the last request for another content coding of it got.
    negotiated: Mutex<Option<Negotiated>>,
}

/// The result of a negotiation of the content coding.
#[derive(Debug)]
struct Negotiated {
    /// The value of Accept-Encoding.
    accepted: Box<[u8]>,
    /// It is not kept alive, so that it counts for the cache only once.
    representation: Weak<Representation>,
    at: Instant,
}

/// Why a file is served at a path; it decides fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PageUse {
    /// The path leads to it.
    Requested,
    /// A rewrite of missing paths leads to it.
    Fallback,
    /// It is the page of a single-page application, served for a navigation to a missing page.
    Application,
    /// It is the page of an error.
    Error,
}

/// Whether the modification time identifies the file's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum MtimeAge {
    /// Another change could still get the same modification time.
    Recent,
    Stable,
    /// The time is still to come: a program has set it, or a clock was wrong. A change now leaves
    /// another time behind.
    Future,
}

/// The bytes of a representation.
#[derive(Clone, Debug)]
pub(super) enum Content {
    Memory(Bytes),
    File(Arc<File>, Arc<FileState>),
}

/// What a representation is made of besides the file and its content.
pub(super) struct RepresentationBuilder<'a> {
    pub(super) rules: &'a Rules,
    /// The request's path, to which header rules apply.
    pub(super) path: &'a [u8],
    pub(super) name: &'a [u8],
    /// The name whose extension decides the media type: for a sidecar, the name of its file.
    pub(super) typed_name: &'a [u8],
    pub(super) coding: Coding,
    /// The coding that the file itself is in, and its name without the extension of that coding.
    pub(super) own_coding: Option<(Coding, &'a [u8])>,
    /// The entity tag made from the content, if the site makes them so.
    pub(super) content_tag: Option<String>,
    pub(super) page_use: PageUse,
}

impl PageUse {
    /// Changes the fields that the rules set.
    fn change(self, fields: &mut HeaderMap) {
        if self == Self::Application {
            Rules::set_no_cache(fields);
        }
    }
}

impl Representation {
    pub(super) fn new(
        builder: &RepresentationBuilder<'_>,
        metadata: FileMetadata,
        content: Content,
    ) -> Self {
        let encoded = builder.own_coding;
        let typed_name = encoded.map_or(builder.typed_name, |(_, inner)| inner);
        let media_type = builder.rules.media_types.of(typed_name);
        let len = match &content {
            Content::Memory(bytes) => bytes.len() as u64,
            Content::File(..) => metadata.len,
        };
        let now = SystemTime::now();
        let mtime_age = mtime_age(metadata.modified, now);
        let validators = builder.validators(metadata, now);
        let mut fields = match builder.page_use {
            // The response has those of an error.
            PageUse::Error => HeaderMap::new(),
            _ => fields(
                builder.rules,
                (builder.path, builder.typed_name),
                &validators,
                &media_type,
                encoded.map_or(builder.coding, |(coding, _)| coding),
            ),
        };
        builder.page_use.change(&mut fields);
        Self {
            file_id: metadata.id,
            name: builder.name.to_vec(),
            modified: metadata.modified,
            len,
            is_compressible: media_type::compresses(&media_type),
            may_be_coded: media_type::may_be_coded(&media_type) && encoded.is_none(),
            media_type,
            validators,
            not_modified_fields: not_modified_fields(&fields),
            ok_fields: PreparedFields::new(fields),
            page_use: builder.page_use,
            mtime_age,
            content,
            negotiated: Mutex::default(),
        }
    }

    /// Returns what the last request with this Accept-Encoding field got, and when.
    pub(super) fn negotiated(&self, accepted: &[u8]) -> Option<(Arc<Self>, Instant)> {
        let negotiated = self.negotiated.lock();
        let last = negotiated.as_ref()?;
        if *last.accepted != *accepted {
            return None;
        }
        Some((last.representation.upgrade()?, last.at))
    }

    /// Remembers what a request with this Accept-Encoding field gets.
    pub(super) fn on_negotiated(&self, accepted: &[u8], result: &Arc<Self>, now: Instant) {
        *self.negotiated.lock() = Some(Negotiated {
            accepted: accepted.into(),
            representation: Arc::downgrade(result),
            at: now,
        });
    }

    /// True if the bytes that would be sent still belong to this state of the file: content in
    /// memory does not change, but an open file may be modified in place.
    pub(super) fn is_unchanged(&self) -> bool {
        match &self.content {
            Content::Memory(_) => true,
            Content::File(file, _) => root::is_unchanged(file, self.file_id),
        }
    }

    /// True if its modification time identifies its content.
    pub(super) fn is_mtime_stable(&self) -> bool {
        self.mtime_age != MtimeAge::Recent
    }

    /// True if this is the representation of the file's state `file_id`, with validators of the
    /// right strength.
    pub(super) fn is_of(&self, file_id: FileId) -> bool {
        let is_same_age = || mtime_age(self.modified, SystemTime::now()) == self.mtime_age;
        self.file_id == file_id && (self.is_mtime_stable() || is_same_age())
    }

    /// Returns how many bytes of content it holds in memory.
    pub(super) fn bytes_in_memory(&self) -> usize {
        match &self.content {
            Content::Memory(bytes) => bytes.len(),
            Content::File(..) => 0,
        }
    }

    /// Returns how many files it holds open.
    pub(super) fn open_files(&self) -> usize {
        match &self.content {
            Content::Memory(_) => 0,
            Content::File(..) => 1,
        }
    }

    /// Reads the whole content. May block on a disk.
    pub(super) fn read(&self) -> io::Result<Bytes> {
        match &self.content {
            Content::Memory(bytes) => Ok(bytes.clone()),
            Content::File(file, _) => {
                let mut bytes = vec![0; usize::try_from(self.len).unwrap_or(usize::MAX)];
                file.read_exact_at(&mut bytes, 0)?;
                Ok(Bytes::from(bytes))
            }
        }
    }

    /// Returns the open file, unless the content is in memory.
    pub(super) fn file(&self) -> Option<&Arc<File>> {
        match &self.content {
            Content::Memory(_) => None,
            Content::File(file, _) => Some(file),
        }
    }

    /// Returns this representation in another content coding.
    pub(super) fn recoded(
        &self,
        rules: &Rules,
        path: &[u8],
        coding: Coding,
        content: Bytes,
    ) -> Self {
        let etag = self.validators.etag.as_ref();
        let validators = Validators {
            etag: etag.map(|tag| tag.recoded(coding.name())),
            ..self.validators.clone()
        };
        let place = (path, &self.name[..]);
        let mut fields = fields(rules, place, &validators, &self.media_type, coding);
        self.page_use.change(&mut fields);
        Self {
            file_id: self.file_id,
            name: self.name.clone(),
            modified: self.modified,
            len: content.len() as u64,
            media_type: self.media_type.clone(),
            is_compressible: self.is_compressible,
            may_be_coded: self.may_be_coded,
            not_modified_fields: not_modified_fields(&fields),
            ok_fields: PreparedFields::new(fields),
            validators,
            page_use: self.page_use,
            mtime_age: self.mtime_age,
            content: Content::Memory(content),
            negotiated: Mutex::default(),
        }
    }

    pub(super) fn full_range(&self) -> ByteRange {
        ByteRange {
            start: 0,
            end: self.len,
        }
    }

    /// Returns the bytes of a range as a body. A small range is copied, so that it is sent in one
    /// write with the head; of a larger one the connection sends as much as its client accepts at a
    /// time.
    pub(super) fn body(&self, range: ByteRange) -> Body {
        match &self.content {
            Content::Memory(bytes) => {
                Body::Bytes(bytes.slice(range.start as usize..range.end as usize))
            }
            Content::File(file, state) => {
                if range.len() <= SMALL_BODY_BYTES as u64 {
                    let mut bytes = vec![0; range.len() as usize];
                    // If it is not in the page cache, the connection reads it on a blocking thread.
                    if read_cached(file, &mut bytes, range.start) == Ok(range.len() as usize) {
                        return Body::Bytes(Bytes::from(bytes));
                    }
                }
                let part = FileRange::new(Arc::clone(file), range.start, range.len());
                Body::File(part.with_state(state))
            }
        }
    }
}

impl Content {
    /// Returns the content of an opened file: a small file is read, so that it is sent in one write
    /// with the head and needs no descriptor. `None` if the file changed while it was read.
    pub(super) fn of(
        opened: OpenedFile,
        storage: Storage,
        blocking: Blocking,
    ) -> Result<Option<Self>, OpenError> {
        if opened.metadata.len > SMALL_BODY_BYTES as u64 {
            let state = FileState::new(opened.metadata.len, opened.metadata.modified, storage);
            return Ok(Some(Self::File(Arc::new(opened.file), state)));
        }
        let mut bytes = vec![0; opened.metadata.len as usize];
        if blocking == Blocking::Forbidden && storage == Storage::Backed {
            read_if_cached(&opened.file, &mut bytes)?;
        } else if let Err(error) = opened.file.read_exact_at(&mut bytes, 0) {
            return match error.kind() {
                // It was truncated.
                io::ErrorKind::UnexpectedEof => Ok(None),
                _ => Err(OpenError::Failed(error)),
            };
        }
        let unchanged = opened.is_unchanged();
        Ok(unchanged.then(|| Self::Memory(Bytes::from(bytes))))
    }
}

impl Content {
    /// Returns up to `count` bytes from the start.
    pub(super) fn start(&self, count: usize, blocking: Blocking) -> Result<Bytes, OpenError> {
        match self {
            Self::Memory(bytes) => Ok(bytes.slice(..count.min(bytes.len()))),
            Self::File(file, _) => {
                let mut bytes = vec![0; count];
                let read = match blocking {
                    Blocking::Forbidden => {
                        read_cached(file, &mut bytes, 0).map_err(|_| OpenError::WouldBlock)?
                    }
                    _ => file.read_at(&mut bytes, 0).map_err(OpenError::Failed)?,
                };
                bytes.truncate(read);
                Ok(Bytes::from(bytes))
            }
        }
    }
}

/// Reads a whole file from the page cache. What is not there is [`OpenError::WouldBlock`], and
/// readahead has begun; so is everything on file systems without `RWF_NOWAIT` (FUSE, NFS).
fn read_if_cached(file: &File, bytes: &mut [u8]) -> Result<(), OpenError> {
    let len = bytes.len();
    match read_cached(file, bytes, 0) {
        Ok(count) if count == len => Ok(()),
        Ok(_) | Err(_) => Err(OpenError::WouldBlock),
    }
}

/// Reads what is in the page cache, and returns how many bytes that is.
fn read_cached(file: &File, bytes: &mut [u8], offset: u64) -> Result<usize, Errno> {
    let mut pieces = [IoSliceMut::new(bytes)];
    preadv2(file, &mut pieces, offset, ReadWriteFlags::NOWAIT)
}

impl RepresentationBuilder<'_> {
    /// Returns the validators of the representation that would be built.
    pub(super) fn validators(&self, metadata: FileMetadata, now: SystemTime) -> Validators {
        Validators {
            etag: Some(self.tag(metadata, mtime_age(metadata.modified, now))),
            last_modified: last_modified(metadata.modified, now).map(HttpDate::new),
            date_strength: match mtime_age(metadata.modified, now) {
                MtimeAge::Stable => Strength::Strong,
                MtimeAge::Recent | MtimeAge::Future => Strength::Weak,
            },
        }
    }

    /// Makes an entity tag from modification time and size. The inode is not part of it, so that
    /// machines with copies of the same files have the same tags. The tag is weak while another
    /// change could still get the same modification time (RFC 9110 §8.8.1).
    fn tag(&self, metadata: FileMetadata, mtime_age: MtimeAge) -> EntityTag {
        let suffix = match self.coding {
            Coding::Identity => String::new(),
            coding => format!("-{}", coding.name()),
        };
        if let Some(tag) = &self.content_tag {
            return EntityTag::new(&format!("{tag}{suffix}"), Strength::Strong);
        }
        let nanoseconds = match metadata.modified.duration_since(UNIX_EPOCH) {
            Ok(since) => since.as_nanos() as i128,
            Err(before) => -(before.duration().as_nanos() as i128),
        };
        let opaque = format!("{nanoseconds:x}-{:x}{suffix}", metadata.len);
        let strength = match mtime_age {
            MtimeAge::Stable | MtimeAge::Future => Strength::Strong,
            MtimeAge::Recent => Strength::Weak,
        };
        EntityTag::new(&opaque, strength)
    }
}

/// Returns the fields of a 200 (OK) for a path, and the name of the file that is served there.
fn fields(
    rules: &Rules,
    (path, name): (&[u8], &[u8]),
    validators: &Validators,
    media_type: &HeaderValue,
    coding: Coding,
) -> HeaderMap {
    let mut fields = HeaderMap::new();
    let tag = validators.etag.as_ref();
    if let Some(Ok(tag)) = tag.map(|tag| tag.to_field().try_into()) {
        fields.insert(ETAG, tag);
    }
    let modified = validators.last_modified.as_ref();
    if let Some(Ok(date)) = modified.map(|date| date.as_str().try_into()) {
        fields.insert(LAST_MODIFIED, date);
    }
    fields.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    fields.insert(CONTENT_TYPE, media_type.clone());
    if coding != Coding::Identity {
        fields.insert(CONTENT_ENCODING, HeaderValue::from_static(coding.name()));
    }
    if rules.compress != Compress::Off && media_type::may_be_coded(media_type) {
        fields.insert(VARY, HeaderValue::from_static("Accept-Encoding"));
    }
    rules.add_fields(path, Some(name), StatusCode::OK, &mut fields);
    fields
}

/// Returns the fields of a 304: those of the 200 without the ones that describe content (RFC 9110
/// §15.4.5).
fn not_modified_fields(fields: &HeaderMap) -> Arc<PreparedFields> {
    let mut fields = fields.clone();
    for name in [CONTENT_TYPE, CONTENT_ENCODING, ACCEPT_RANGES] {
        fields.remove(name);
    }
    PreparedFields::new(fields)
}

/// True if a sidecar may be served instead of its source: it must not be older, nor possibly still
/// being written. Compressors give the finished file its source's modification time.
pub(super) fn is_ready(sidecar: SystemTime, source: SystemTime) -> bool {
    sidecar == source
        || (sidecar > source && mtime_age(sidecar, SystemTime::now()) == MtimeAge::Stable)
}

/// The modification times of file systems have a granularity of up to 2 s, and the clock of a file
/// server may be slightly ahead.
fn mtime_age(modified: SystemTime, now: SystemTime) -> MtimeAge {
    const STABLE_AFTER: Duration = Duration::from_secs(2);
    match now.duration_since(modified) {
        Ok(age) if age >= STABLE_AFTER => MtimeAge::Stable,
        Err(ahead) if ahead.duration() >= STABLE_AFTER => MtimeAge::Future,
        _ => MtimeAge::Recent,
    }
}

/// Returns the Last-Modified time: `None` for times up to a second after the epoch, which
/// reproducible builds (Nix, container layers) give to all files, and the current time instead of a
/// future one (RFC 9110 §8.8.2.1).
fn last_modified(modified: SystemTime, now: SystemTime) -> Option<SystemTime> {
    let meaningful = modified > UNIX_EPOCH + Duration::from_secs(1);
    meaningful.then(|| modified.min(now))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mtime_is_recent_for_two_seconds_and_in_the_future() {
        let modified = UNIX_EPOCH + Duration::from_secs(100);
        let after = |millis| mtime_age(modified, modified + Duration::from_millis(millis));
        assert_eq!(after(0), MtimeAge::Recent);
        assert_eq!(after(1999), MtimeAge::Recent);
        assert_eq!(after(2000), MtimeAge::Stable);
        assert_eq!(
            mtime_age(modified, modified - Duration::from_secs(1)),
            MtimeAge::Recent
        );
        assert_eq!(
            mtime_age(modified, modified - Duration::from_secs(2)),
            MtimeAge::Future
        );
        assert_eq!(mtime_age(modified, UNIX_EPOCH), MtimeAge::Future);
    }

    #[test]
    fn last_modified_skips_the_epoch_and_clamps_the_future() {
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        let now = at(1000);
        assert_eq!(last_modified(at(0), now), None);
        assert_eq!(last_modified(at(1), now), None);
        assert_eq!(last_modified(at(2), now), Some(at(2)));
        assert_eq!(last_modified(at(2000), now), Some(now));
    }
}
