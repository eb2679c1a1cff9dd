//! HPACK, the compression of field sections in HTTP/2 (RFC 7541).
//!
//! The [`decoder`] is complete: both tables, all representations, Huffman codes. The [`encoder`] uses
//! only the static table and Huffman codes, so it has no state: a response's block depends on nothing
//! that was sent before, and no memory is kept for it.
//!
//! A decoded field may be far larger than its encoding: one octet can refer to a table entry of
//! 4 KiB. So decoding has a [`FieldBudget`], beyond which fields are decoded for their effect on the
//! dynamic table only.

mod decoder;
mod dynamic_table;
mod encoder;
mod huffman;
mod integer;
mod static_table;

pub(crate) use decoder::{Decoded, DecodedFields, Decoder, FieldBudget};
pub(crate) use encoder::{
    encode_content_length, encode_field, encode_size_update_to_zero, encode_status,
};

/// A field block that cannot be decoded. It leaves the dynamic table in an unknown state, so it is a
/// connection error of type COMPRESSION_ERROR (RFC 9113 §4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CompressionError;
