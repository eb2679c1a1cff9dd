//! Response heads (RFC 9113 §8.3.2): the fields of the handler and those of the connection as one field
//! block. Fields that many responses share are encoded once.

use std::borrow::Cow;

use super::hpack::{
    encode_content_length, encode_field, encode_size_update_to_zero, encode_status,
};
use crate::http::Response;
use crate::http::date::DateField;
use crate::proto::context::DateBlock;
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

/// The Server field, encoded.
const SERVER: &[u8] = b"\x0f\x27\x03tws";

/// Returns the Date field, encoded.
pub(crate) fn encoded_date<'a>(date: &DateField, block: &'a mut DateBlock) -> &'a [u8] {
    let date = date.as_bytes();
    block.of(date, |out| encode_field(b"date", date, out))
}

/// Appends the fields of a response, for [`complete`]. `date` is the Date field, encoded; `length` is
/// that of its body, if it is announced.
pub(crate) fn encode_head(
    out: &mut Vec<u8>,
    response: &Response,
    date: &[u8],
    length: Option<u64>,
) {
    encode_status(response.status(), out);
    if !response.has_server() {
        out.extend_from_slice(SERVER);
    }
    out.extend_from_slice(date);
    response.encode_fields(encode_field, out);
    if let Some(length) = length {
        encode_content_length(length, out);
    }
}

/// Returns the field block of 100 Continue.
pub(crate) fn encode_continue(state: &mut EncoderState) -> Vec<u8> {
    let mut block = Vec::new();
    begin(&mut block, state);
    encode_status(StatusCode::CONTINUE, &mut block);
    block
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn server_field_is_encoded_as_any_other() {
        let mut out = Vec::new();
        encode_field(b"server", b"tws", &mut out);
        assert_eq!(out, SERVER);
    }

    #[test]
    fn date_is_encoded_again_when_it_changes() {
        let mut block = DateBlock::default();
        let mut encoded = |seconds| {
            let date =
                DateField::new(std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds));
            let mut expected = Vec::new();
            encode_field(b"date", date.as_bytes(), &mut expected);
            let twice = [(); 2].map(|()| encoded_date(&date, &mut block).to_vec());
            assert_eq!(twice, [expected.clone(), expected.clone()]);
            expected
        };
        assert_ne!(encoded(1), encoded(2));
    }
}
