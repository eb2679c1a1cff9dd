//! One version of one file, as it is served under one path: what it is, and what is true of *it*.

use std::fs::File;
use std::io::{self, IoSliceMut};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ::http::HeaderMap;
use ::http::header::{
    ACCEPT_RANGES, CONTENT_ENCODING, CONTENT_TYPE, ETAG, HeaderValue, LAST_MODIFIED, VARY,
};
use bytes::Bytes;
use rustix::io::{Errno, ReadWriteFlags, preadv2};

use super::media_type;
use super::root::{self, Blocking, FileId, FileMetadata, OpenError, OpenedFile};
use super::rules::Rules;
use crate::body::FileRange;
use crate::body::file_range::{FileState, Storage};
use crate::http::Body;
use crate::http::conditional::{EntityTag, Strength, Validators};
use crate::http::date;
use crate::http::negotiation::Coding;
use crate::http::range::ByteRange;
use crate::http::response::PreparedFields;
use crate::proto::h1::outbox::SMALL_BODY_BYTES;
use crate::site::Compress;

/// See the module.
#[derive(Debug)]
pub(super) struct Representation {
    /// Which version of which file this is, or was made from.
    pub(super) file_id: FileId,
    /// The file's name beneath the root.
    pub(super) name: Vec<u8>,
    pub(super) modified: SystemTime,
    pub(super) len: u64,
    pub(super) media_type: HeaderValue,
    pub(super) validators: Validators,
    /// The fields of a 200.
    pub(super) ok_fields: Arc<PreparedFields>,
    /// The fields of a 304 (RFC 9110 §15.4.5).
    pub(super) not_modified_fields: Arc<PreparedFields>,
    pub(super) finish: fn(&mut HeaderMap),
    age: MtimeAge,
    content: Content,
}

/// Whether the modification time can be relied on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum MtimeAge {
    /// A second change could leave the same time behind.
    Recent,
    Stable,
}

#[derive(Clone, Debug)]
pub(super) enum Content {
    Memory(Bytes),
    File(Arc<File>, Arc<FileState>),
}

/// What a version is made of beside its file.
pub(super) struct RepresentationBuilder<'a> {
    pub(super) rules: &'a Rules,
    /// The path of the request, which rules are about.
    pub(super) path: &'a [u8],
    pub(super) name: &'a [u8],
    /// The name of which the extension says the media type; a sidecar has another.
    pub(super) typed_name: &'a [u8],
    pub(super) coding: Coding,
    /// A tag made from the content, if tags are.
    pub(super) content_tag: Option<String>,
    /// Changes the fields last.
    pub(super) finish: fn(&mut HeaderMap),
}

impl Representation {
    pub(super) fn new(
        builder: &RepresentationBuilder<'_>,
        metadata: FileMetadata,
        content: Content,
    ) -> Self {
        let media_type = builder.rules.media_types.of(builder.typed_name);
        let len = match &content {
            Content::Memory(bytes) => bytes.len() as u64,
            Content::File(..) => metadata.len,
        };
        let now = SystemTime::now();
        let age = age(metadata.modified, now);
        let validators = builder.validators(metadata, now);
        let mut fields = fields(
            builder.rules,
            builder.path,
            &validators,
            &media_type,
            builder.coding,
        );
        if is_gzipped_svg(builder.name) {
            fields.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        (builder.finish)(&mut fields);
        Self {
            file_id: metadata.id,
            name: builder.name.to_vec(),
            modified: metadata.modified,
            len,
            media_type,
            validators,
            not_modified_fields: not_modified_fields(&fields),
            ok_fields: PreparedFields::new(fields),
            finish: builder.finish,
            age,
            content,
        }
    }

    /// True if the bytes that would be sent are still those of this version: what is in memory
    /// does not change, a file may be written to in place.
    pub(super) fn is_unchanged(&self) -> bool {
        match &self.content {
            Content::Memory(_) => true,
            Content::File(file, _) => root::is_unchanged(file, self.file_id),
        }
    }

    /// Whether it becomes smaller by a coding.
    pub(super) fn is_compressible(&self) -> bool {
        media_type::compresses(&self.media_type)
    }

    /// Whether it can be there in another coding, because it has none.
    pub(super) fn may_be_coded(&self) -> bool {
        media_type::may_be_coded(&self.media_type) && !is_gzipped_svg(&self.name)
    }

    /// True if its modification time can be relied on.
    pub(super) fn is_mtime_stable(&self) -> bool {
        self.age == MtimeAge::Stable
    }

    /// True if this is still the version to serve for a file of this identity.
    pub(super) fn is_of(&self, file_id: FileId) -> bool {
        let settled =
            self.age == MtimeAge::Stable || age(self.modified, SystemTime::now()) == self.age;
        self.file_id == file_id && settled
    }

    /// How many bytes of content it holds in memory.
    pub(super) fn memory(&self) -> usize {
        match &self.content {
            Content::Memory(bytes) => bytes.len(),
            Content::File(..) => 0,
        }
    }

    /// How many descriptors it holds.
    pub(super) fn descriptors(&self) -> usize {
        match &self.content {
            Content::Memory(_) => 0,
            Content::File(..) => 1,
        }
    }

    /// The whole content, from the disk if need be.
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

    pub(super) fn file(&self) -> Option<&Arc<File>> {
        match &self.content {
            Content::Memory(_) => None,
            Content::File(file, _) => Some(file),
        }
    }

    /// This version in a coding that was made here.
    pub(super) fn recoded(
        &self,
        rules: &Rules,
        path: &[u8],
        coding: Coding,
        content: Bytes,
    ) -> Self {
        let tag = self
            .validators
            .etag
            .as_ref()
            .map(|tag| tag.recoded(coding.name()));
        let validators = Validators {
            etag: tag,
            ..self.validators.clone()
        };
        let mut fields = fields(rules, path, &validators, &self.media_type, coding);
        (self.finish)(&mut fields);
        Self {
            file_id: self.file_id,
            name: self.name.clone(),
            modified: self.modified,
            len: content.len() as u64,
            media_type: self.media_type.clone(),
            not_modified_fields: not_modified_fields(&fields),
            ok_fields: PreparedFields::new(fields),
            validators,
            finish: self.finish,
            age: self.age,
            content: Content::Memory(content),
        }
    }

    pub(super) fn full_range(&self) -> ByteRange {
        ByteRange {
            start: 0,
            end: self.len,
        }
    }

    /// A part as it is sent: a small one from memory, so that it leaves in one write with its head,
    /// others by the connection as the client takes them.
    pub(super) fn body(&self, range: ByteRange) -> Body {
        match &self.content {
            Content::Memory(bytes) => {
                Body::Bytes(bytes.slice(range.start as usize..range.end as usize))
            }
            Content::File(file, version) => {
                if range.len() <= SMALL_BODY_BYTES as u64 {
                    let mut bytes = vec![0; range.len() as usize];
                    // What is not in the kernel's memory has a way of its own.
                    if peek(file, &mut bytes, range.start) == Ok(range.len() as usize) {
                        return Body::Bytes(Bytes::from(bytes));
                    }
                }
                let part = FileRange::new(Arc::clone(file), range.start, range.len());
                Body::File(part.with_state(version))
            }
        }
    }
}

impl Content {
    /// The content of an opened file: read if it is small, so that it leaves in one write with its
    /// head and needs no descriptor. `None` if the file changed while it was read.
    pub(super) fn of(
        opened: OpenedFile,
        storage: Storage,
        blocking: Blocking,
    ) -> Result<Option<Self>, OpenError> {
        if opened.metadata.len > SMALL_BODY_BYTES as u64 {
            let version = FileState::new(opened.metadata.len, opened.metadata.modified, storage);
            return Ok(Some(Self::File(Arc::new(opened.file), version)));
        }
        let mut bytes = vec![0; opened.metadata.len as usize];
        if blocking == Blocking::Forbidden && storage == Storage::Backed {
            read_from_memory(&opened.file, &mut bytes)?;
        } else if let Err(error) = opened.file.read_exact_at(&mut bytes, 0) {
            return match error.kind() {
                // It has become shorter.
                io::ErrorKind::UnexpectedEof => Ok(None),
                _ => Err(OpenError::Failed(error)),
            };
        }
        let unchanged = opened.is_unchanged();
        Ok(unchanged.then(|| Self::Memory(Bytes::from(bytes))))
    }
}

/// Reads a whole file without waiting for a disk: what is not in the kernel's memory is
/// [`OpenError::WouldBlock`], and asking has begun to bring it there. So is what a file system has that cannot
/// say (FUSE, NFS).
fn read_from_memory(file: &File, bytes: &mut [u8]) -> Result<(), OpenError> {
    let len = bytes.len();
    match peek(file, bytes, 0) {
        Ok(count) if count == len => Ok(()),
        // A part of it, or nothing.
        Ok(_) | Err(_) => Err(OpenError::WouldBlock),
    }
}

/// Reads what is in the kernel's memory.
fn peek(file: &File, bytes: &mut [u8], offset: u64) -> Result<usize, Errno> {
    let mut pieces = [IoSliceMut::new(bytes)];
    preadv2(file, &mut pieces, offset, ReadWriteFlags::NOWAIT)
}

impl RepresentationBuilder<'_> {
    /// What identifies the version that would be made.
    pub(super) fn validators(&self, metadata: FileMetadata, now: SystemTime) -> Validators {
        Validators {
            etag: Some(self.tag(metadata, age(metadata.modified, now))),
            last_modified: last_modified(metadata.modified, now),
        }
    }

    /// From modification time and size, not from the inode: machines with the same files agree.
    /// Weak while the file is so young that a second change could leave the same time behind
    /// (RFC 9110 §8.8.1).
    fn tag(&self, metadata: FileMetadata, age: MtimeAge) -> EntityTag {
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
        let strength = match age {
            MtimeAge::Stable => Strength::Strong,
            MtimeAge::Recent => Strength::Weak,
        };
        EntityTag::new(&opaque, strength)
    }
}

/// The fields of a 200.
fn fields(
    rules: &Rules,
    path: &[u8],
    validators: &Validators,
    media_type: &HeaderValue,
    coding: Coding,
) -> HeaderMap {
    let mut fields = HeaderMap::new();
    if let Some(Ok(tag)) = validators
        .etag
        .as_ref()
        .map(|tag| tag.to_field().try_into())
    {
        fields.insert(ETAG, tag);
    }
    if let Some(Ok(date)) = validators
        .last_modified
        .map(|time| date::format(time).try_into())
    {
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
    rules.add_fields(path, &mut fields);
    fields
}

/// The fields of a 304: those of the 200 without what is about a content (RFC 9110 §15.4.5).
fn not_modified_fields(fields: &HeaderMap) -> Arc<PreparedFields> {
    let mut unchanged = fields.clone();
    for name in [CONTENT_TYPE, CONTENT_ENCODING, ACCEPT_RANGES] {
        unchanged.remove(name);
    }
    PreparedFields::new(unchanged)
}

/// The one kind of file that is its own coding: browsers show it only if they are told.
fn is_gzipped_svg(name: &[u8]) -> bool {
    name.ends_with(b".svgz")
}

/// Whether a sidecar may stand for its source: not if it is older, and not while it may still be
/// written. What compressors make has its source's time when it is done.
pub(super) fn is_ready(sidecar: SystemTime, source: SystemTime) -> bool {
    sidecar == source || (sidecar > source && age(sidecar, SystemTime::now()) == MtimeAge::Stable)
}

/// File systems count in up to 2 s. A time in the future may come again.
fn age(modified: SystemTime, now: SystemTime) -> MtimeAge {
    const YOUNG: Duration = Duration::from_secs(2);
    match now.duration_since(modified) {
        Ok(age) if age >= YOUNG => MtimeAge::Stable,
        _ => MtimeAge::Recent,
    }
}

/// None for times up to a second after 1970: trees that are made to be the same everywhere (Nix,
/// container layers) have them, and they say nothing. A date in the future is not sent as it is
/// (RFC 9110 §8.8.2.1).
fn last_modified(modified: SystemTime, now: SystemTime) -> Option<SystemTime> {
    let meaningful = modified > UNIX_EPOCH + Duration::from_secs(1);
    meaningful.then(|| modified.min(now))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_young_for_two_seconds_and_before_its_time() {
        let modified = UNIX_EPOCH + Duration::from_secs(100);
        let after = |millis| age(modified, modified + Duration::from_millis(millis));
        assert_eq!(after(0), MtimeAge::Recent);
        assert_eq!(after(1999), MtimeAge::Recent);
        assert_eq!(after(2000), MtimeAge::Stable);
        assert_eq!(
            age(modified, modified - Duration::from_secs(1)),
            MtimeAge::Recent
        );
    }

    #[test]
    fn dates_that_say_nothing_are_not_sent() {
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        let now = at(1000);
        assert_eq!(last_modified(at(0), now), None);
        assert_eq!(last_modified(at(1), now), None);
        assert_eq!(last_modified(at(2), now), Some(at(2)));
        assert_eq!(last_modified(at(2000), now), Some(now));
    }
}
