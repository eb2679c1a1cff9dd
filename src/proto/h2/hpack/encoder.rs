//! The encoder of response fields. It has no state: no field enters the dynamic table of the client.
//!
//! Fields that a shared table would save are few (`server`, `content-type`), and a table costs memory
//! on every connection, and a search for every field.

use ::http::StatusCode;

use super::static_table::{self, Match};
use super::{huffman, integer};

/// The patterns at the beginning of a field (RFC 7541 §6).
const INDEXED: u8 = 0x80;
const SIZE_UPDATE: u8 = 0x20;
const LITERAL_WITHOUT_INDEXING: u8 = 0x00;

/// Indexes in the static table (RFC 7541 Appendix A): the first entry of the name.
const STATUS: usize = 8;
const CONTENT_LENGTH: usize = 28;

/// The flag of a string literal with Huffman codes (RFC 7541 §5.2).
const HUFFMAN: u8 = 0x80;

/// Appends an announcement that the encoder's dynamic table has no room. In the first block of a
/// connection it permits every later value of SETTINGS_HEADER_TABLE_SIZE (RFC 9113 §4.3.1).
pub(crate) fn encode_size_update_to_zero(out: &mut Vec<u8>) {
    integer::encode(SIZE_UPDATE, 5, 0, out);
}

/// Appends the pseudo-field `:status`.
pub(crate) fn encode_status(status: StatusCode, out: &mut Vec<u8>) {
    let index = match status.as_u16() {
        200 => 8,
        204 => 9,
        206 => 10,
        304 => 11,
        400 => 12,
        404 => 13,
        500 => 14,
        _ => return encode_value(STATUS, status.as_str().as_bytes(), out),
    };
    integer::encode(INDEXED, 7, index, out);
}

/// Appends the field `content-length`. Its digits are not compressed, as that costs more than any other
/// part of a response's head and saves one octet in four.
pub(crate) fn encode_content_length(length: u64, out: &mut Vec<u8>) {
    let mut digits = itoa::Buffer::new();
    integer::encode(LITERAL_WITHOUT_INDEXING, 4, CONTENT_LENGTH, out);
    encode_plain_string(digits.format(length).as_bytes(), out);
}

/// Appends a field whose name has this index in the static table.
fn encode_value(name: usize, value: &[u8], out: &mut Vec<u8>) {
    integer::encode(LITERAL_WITHOUT_INDEXING, 4, name, out);
    encode_string(value, out);
}

/// Appends a field. The name must be in lower case (RFC 9113 §8.2.1).
pub(crate) fn encode_field(name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    match static_table::find(name, value) {
        Some(Match::Field(index)) => integer::encode(INDEXED, 7, index, out),
        Some(Match::Name(index)) => encode_value(index, value, out),
        None => {
            integer::encode(LITERAL_WITHOUT_INDEXING, 4, 0, out);
            encode_string(name, out);
            encode_string(value, out);
        }
    }
}

/// Appends a string literal in the shorter one of its two forms (RFC 7541 §5.2).
fn encode_string(string: &[u8], out: &mut Vec<u8>) {
    let huffman_len = huffman::encoded_len(string);
    if huffman_len < string.len() {
        integer::encode(HUFFMAN, 7, huffman_len, out);
        huffman::encode(string, out);
    } else {
        encode_plain_string(string, out);
    }
}

fn encode_plain_string(string: &[u8], out: &mut Vec<u8>) {
    integer::encode(0, 7, string.len(), out);
    out.extend_from_slice(string);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::proto::h2::hpack::{Decoded, DecodedFields, Decoder, FieldBudget};

    fn field(name: &[u8], value: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        encode_field(name, value, &mut out);
        out
    }

    fn status(code: u16) -> Vec<u8> {
        let mut out = Vec::new();
        encode_status(StatusCode::from_u16(code).expect("a status"), &mut out);
        out
    }

    #[test]
    fn status_of_the_static_table_is_one_octet() {
        for (code, index) in [
            (200, 8),
            (204, 9),
            (206, 10),
            (304, 11),
            (400, 12),
            (404, 13),
            (500, 14),
        ] {
            assert_eq!(status(code), [0x80 | index]);
        }
    }

    #[test]
    fn other_status_is_a_literal_with_the_name_of_the_static_table() {
        // RFC 7541 C.6.1 and C.6.2, without indexing; the Huffman code of 307 is not shorter.
        assert_eq!(status(302), [0x08, 0x82, 0x64, 0x02]);
        assert_eq!(status(307), [0x08, 0x03, b'3', b'0', b'7']);
    }

    #[test]
    fn literals_are_not_indexed_and_huffman_coded_where_shorter() {
        // RFC 7541 C.6.1.
        let private = [0x0f, 0x09, 0x85, 0xae, 0xc3, 0x77, 0x1a, 0x4b];
        assert_eq!(field(b"cache-control", b"private"), private);
        assert_eq!(field(b"age", b""), [0x80 | 21]);
        assert_eq!(field(b"age", b"{}"), [0x0f, 0x06, 0x02, b'{', b'}']);
        assert_eq!(field(b"~", b""), [0x00, 0x01, b'~', 0x00]);
    }

    #[test]
    fn status_is_encoded_as_any_other_field() {
        for code in 100..=999 {
            assert_eq!(status(code), field(b":status", code.to_string().as_bytes()));
        }
    }

    #[test]
    fn content_length_is_a_literal_with_the_name_of_the_static_table() {
        for length in [0, 7, 1024, u64::MAX] {
            let mut out = Vec::new();
            encode_content_length(length, &mut out);
            let digits = length.to_string();
            let expected = [&[0x0F, 0x0D, digits.len() as u8], digits.as_bytes()].concat();
            assert_eq!(out, expected);
        }
    }

    #[test]
    fn size_update_to_zero_is_one_octet() {
        let mut out = Vec::new();
        encode_size_update_to_zero(&mut out);
        assert_eq!(out, [0x20]);
    }

    #[test]
    fn encoding_into_sufficient_capacity_does_not_allocate() {
        let mut out = Vec::with_capacity(64);
        let before = out.as_ptr();
        encode_size_update_to_zero(&mut out);
        encode_status(StatusCode::OK, &mut out);
        encode_field(b"content-type", b"text/html; charset=utf-8", &mut out);
        encode_field(b"x-content-type-options", b"nosniff", &mut out);
        assert!(std::ptr::eq(before, out.as_ptr()) && out.capacity() == 64);
    }

    fn text() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            "[a-z-]{0,30}".prop_map(String::into_bytes),
            prop::sample::select(vec!["content-type", "etag", ":status", "GET", "200"])
                .prop_map(|text| text.as_bytes().to_vec()),
            prop::collection::vec(any::<u8>(), 0..600),
        ]
    }

    proptest! {
        #[test]
        fn decoder_returns_the_encoded_fields(
            code in 100_u16..1000,
            fields in prop::collection::vec((text(), text()), 0..20),
        ) {
            let mut block = Vec::new();
            encode_size_update_to_zero(&mut block);
            block.extend(status(code));
            for (name, value) in &fields {
                encode_field(name, value, &mut block);
            }
            let mut expected = vec![(b":status".to_vec(), code.to_string().into_bytes())];
            expected.extend(fields);

            let mut out = DecodedFields::default();
            let unlimited = FieldBudget { bytes: usize::MAX, fields: usize::MAX };
            let result = Decoder::new().decode(&block, unlimited, &mut out);
            prop_assert_eq!(result, Ok(Decoded::Complete));
            prop_assert_eq!(out.fields(), expected);
        }
    }
}
