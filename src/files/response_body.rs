//! A representation as the content of a response: whole, one range, or several ranges (RFC 9110
//! §14, §15.3.7).

use std::collections::VecDeque;
use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use ::http::StatusCode;
use ::http::header::CONTENT_TYPE;
use bytes::{Bytes, BytesMut};

use super::representation::Representation;
use crate::body::{BodyProducer, BodyStream};
use crate::http::byteranges::Multipart;
use crate::http::range::ByteRange;
use crate::http::{Body, Response};

/// Returns 200 (OK) with the whole content.
pub(super) fn whole(representation: &Representation) -> Response {
    let body = representation.body(representation.full_range());
    Response::prepared(StatusCode::OK, &representation.ok_fields, body)
}

/// Returns 206 (Partial Content) with one range.
pub(super) fn part(representation: &Representation, range: ByteRange) -> Response {
    let (fields, body) = (&representation.ok_fields, representation.body(range));
    Response::prepared(StatusCode::PARTIAL_CONTENT, fields, body)
        .with_content_range(range, representation.len)
}

/// Returns 206 (Partial Content) as `multipart/byteranges`. Content in memory is copied into one
/// buffer; ranges of a file are read one after the other, at the client's pace.
pub(super) fn parts(representation: &Representation, ranges: &[ByteRange]) -> Response {
    // The author of the content cannot predict it: the hash has another key each time.
    let boundary = RandomState::new().hash_one(representation.len);
    let framed = Multipart::new(
        &representation.media_type,
        representation.len,
        ranges,
        boundary,
    );
    let Some(framed) = framed else {
        return whole(representation);
    };
    let length = framed.content_length;
    let body = match representation.file() {
        None => Body::Bytes(joined(representation, &framed)),
        Some(file) => {
            let parts = MultipartFile::new(Arc::clone(file), &framed);
            Body::Stream(BodyStream::produced(parts).with_length(length))
        }
    };
    Response::prepared(StatusCode::PARTIAL_CONTENT, &representation.ok_fields, body)
        .with_header(CONTENT_TYPE, framed.content_type)
}

fn joined(representation: &Representation, framed: &Multipart) -> Bytes {
    let mut content = BytesMut::new();
    for part in &framed.parts {
        content.extend_from_slice(&part.head);
        if let Body::Bytes(bytes) = representation.body(part.range) {
            content.extend_from_slice(&bytes);
        }
    }
    content.extend_from_slice(&framed.end);
    content.freeze()
}

/// Produces the part headers and ranges of a file in turn.
struct MultipartFile {
    file: Arc<File>,
    remaining: VecDeque<MultipartItem>,
}

enum MultipartItem {
    /// A part's header section, or the closing delimiter.
    Bytes(Bytes),
    Range(ByteRange),
}

impl MultipartFile {
    fn new(file: Arc<File>, framed: &Multipart) -> Self {
        let parts = framed.parts.iter();
        let mut remaining: VecDeque<MultipartItem> = parts
            .flat_map(|part| {
                [
                    MultipartItem::Bytes(part.head.clone()),
                    MultipartItem::Range(part.range),
                ]
            })
            .collect();
        remaining.push_back(MultipartItem::Bytes(framed.end.clone()));
        Self { file, remaining }
    }
}

impl BodyProducer for MultipartFile {
    fn next_piece(&mut self) -> io::Result<Option<Bytes>> {
        const PIECE_BYTES: u64 = 64 * 1024;
        let range = match self.remaining.pop_front() {
            None => return Ok(None),
            Some(MultipartItem::Bytes(bytes)) => return Ok(Some(bytes)),
            Some(MultipartItem::Range(range)) => range,
        };
        let len = range.len().min(PIECE_BYTES);
        if len < range.len() {
            self.remaining.push_front(MultipartItem::Range(ByteRange {
                start: range.start + len,
                ..range
            }));
        }
        let mut bytes = vec![0; len as usize];
        self.file.read_exact_at(&mut bytes, range.start)?;
        Ok(Some(bytes.into()))
    }
}
