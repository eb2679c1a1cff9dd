//! Response heads (RFC 9113 §8.3.2): the fields of the handler and those of the connection as one field
//! block. Fields that many responses share are encoded once.

use std::borrow::Cow;

use super::hpack::{encode_field, encode_size_update_to_zero, encode_status};
use crate::http::Response;
use ::http::StatusCode;

/// What the encoding of a field block depends on: whether it is the first of its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EncoderState {
    Initial,
    Used,
}

/// Begins a field block. The first one announces that the encoder uses no dynamic table.
fn begin(out: &mut Vec<u8>, state: &mut EncoderState) {
    if std::mem::replace(state, EncoderState::Used) == EncoderState::Initial {
        encode_size_update_to_zero(out);
    }
}

/// Returns the field block of a response whose fields are encoded. It is to be staged at once, as the
/// first one of a connection has a special beginning.
pub(crate) fn complete<'a>(state: &mut EncoderState, fields: &'a [u8]) -> Cow<'a, [u8]> {
    if *state == EncoderState::Used {
        return Cow::Borrowed(fields);
    }
    let mut block = Vec::with_capacity(fields.len() + 1);
    begin(&mut block, state);
    block.extend_from_slice(fields);
    Cow::Owned(block)
}

/// Appends the fields of a response, for [`complete`]. `length` is that of its body, if it is announced.
pub(crate) fn encode_head(
    out: &mut Vec<u8>,
    response: &Response,
    date: &[u8],
    length: Option<u64>,
) {
    encode_status(response.status(), out);
    if !response.has_server() {
        encode_field(b"server", b"tws", out);
    }
    encode_field(b"date", date, out);
    response.encode_fields(encode_field, out);
    if let Some(length) = length {
        let mut digits = itoa::Buffer::new();
        encode_field(b"content-length", digits.format(length).as_bytes(), out);
    }
}

/// Returns the field block of 100 Continue.
pub(crate) fn encode_continue(state: &mut EncoderState) -> Vec<u8> {
    let mut block = Vec::new();
    begin(&mut block, state);
    encode_status(StatusCode::CONTINUE, &mut block);
    block
}
