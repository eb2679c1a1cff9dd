//! A version as the content of a response: whole, a part, or several parts (RFC 9110 §14, §15.3.7).

use std::collections::VecDeque;
use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use ::http::header::{CONTENT_RANGE, CONTENT_TYPE};
use ::http::{HeaderValue, StatusCode};
use bytes::{Bytes, BytesMut};

use super::representation::Representation;
use crate::body::{BodyProducer, BodyStream};
use crate::http::byteranges::Multipart;
use crate::http::range::ByteRange;
use crate::http::{Body, Response};

pub(super) fn whole(version: &Representation) -> Response {
    Response::prepared(StatusCode::OK, &version.ok_fields)
        .with_body(version.body(version.full_range()))
}

pub(super) fn part(version: &Representation, range: ByteRange) -> Response {
    let field = HeaderValue::try_from(range.content_range(version.len));
    let response = match field {
        Ok(value) => {
            let status = StatusCode::PARTIAL_CONTENT;
            Response::extended(status, &version.ok_fields, (CONTENT_RANGE, value))
        }
        Err(_) => return Response::fault("response: invalid Content-Range"),
    };
    response.with_body(version.body(range))
}

/// `multipart/byteranges`. What is in memory is joined there; the parts of a file are read one by
/// one, as the client takes them.
pub(super) fn parts(version: &Representation, ranges: &[ByteRange]) -> Response {
    // Nobody who wrote the content could know it: it is another in each process.
    let boundary = RandomState::new().hash_one(version.len);
    let framed = Multipart::new(&version.media_type, version.len, ranges, boundary);
    let Some(framed) = framed else {
        return whole(version);
    };
    let length = framed.content_length;
    let body = match version.file() {
        None => Body::Bytes(joined(version, &framed)),
        Some(file) => {
            let parts = PartsOfFile::new(Arc::clone(file), &framed);
            Body::Stream(BodyStream::produced(parts).with_length(length))
        }
    };
    Response::prepared(StatusCode::PARTIAL_CONTENT, &version.ok_fields)
        .with_header(CONTENT_TYPE, framed.content_type)
        .with_body(body)
}

fn joined(version: &Representation, framed: &Multipart) -> Bytes {
    let mut content = BytesMut::new();
    for part in &framed.parts {
        content.extend_from_slice(&part.head);
        if let Body::Bytes(bytes) = version.body(part.range) {
            content.extend_from_slice(&bytes);
        }
    }
    content.extend_from_slice(&framed.end);
    content.freeze()
}

/// Heads and parts of a file, in turn.
struct PartsOfFile {
    file: Arc<File>,
    todo: VecDeque<MultipartItem>,
}

enum MultipartItem {
    Head(Bytes),
    Part(ByteRange),
}

impl PartsOfFile {
    fn new(file: Arc<File>, framed: &Multipart) -> Self {
        let parts = framed.parts.iter();
        let mut todo: VecDeque<MultipartItem> = parts
            .flat_map(|part| {
                [
                    MultipartItem::Head(part.head.clone()),
                    MultipartItem::Part(part.range),
                ]
            })
            .collect();
        todo.push_back(MultipartItem::Head(framed.end.clone()));
        Self { file, todo }
    }
}

impl BodyProducer for PartsOfFile {
    fn next_piece(&mut self) -> io::Result<Option<Bytes>> {
        const PIECE_BYTES: u64 = 64 * 1024;
        let range = match self.todo.pop_front() {
            None => return Ok(None),
            Some(MultipartItem::Head(head)) => return Ok(Some(head)),
            Some(MultipartItem::Part(range)) => range,
        };
        let len = range.len().min(PIECE_BYTES);
        if len < range.len() {
            self.todo.push_front(MultipartItem::Part(ByteRange {
                start: range.start + len,
                ..range
            }));
        }
        let mut bytes = vec![0; len as usize];
        self.file.read_exact_at(&mut bytes, range.start)?;
        Ok(Some(bytes.into()))
    }
}
