//! The chunked transfer coding (RFC 9112 §7.1): an incremental decoder and an encoder.

use std::io::Write;

use ::http::StatusCode;

use crate::http::Rejection;
use crate::http::fields::{is_field_text, is_token_char};
use crate::http::target::hex_digit;

/// A decoder of one chunked message body. Extensions and trailers are checked and dropped.
#[derive(Debug)]
pub(crate) struct ChunkedDecoder {
    state: DecoderState,
    /// How many more bytes of extensions and trailers are accepted: they cost time and carry no body.
    overhead: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DecoderState {
    /// In the hexadecimal digits of a chunk's size.
    Size {
        digits: u8,
        size: u64,
    },
    /// In white space after the size, which only an extension may follow.
    SizeSpace {
        size: u64,
    },
    Extension {
        size: u64,
    },
    SizeLf {
        size: u64,
    },
    Data {
        left: u64,
    },
    DataCr,
    DataLf,
    /// At the start of a trailer field, or of the empty line that ends the body.
    TrailerStart,
    TrailerName,
    TrailerValue,
    TrailerLf,
    EndLf,
    Done,
}

/// Sizes below 2^60 bytes: more than any body has, and sums of sizes do not overflow.
const MAX_SIZE_DIGITS: u8 = 15;

impl ChunkedDecoder {
    /// `max_overhead` bounds the bytes of all extensions and trailers together.
    pub(crate) fn new(max_overhead: usize) -> Self {
        Self {
            state: DecoderState::Size { digits: 0, size: 0 },
            overhead: max_overhead,
        }
    }

    pub(crate) fn is_done(&self) -> bool {
        self.state == DecoderState::Done
    }

    /// Decodes the part of `input` that belongs to the body, appends the data to `body`, and returns
    /// how many bytes of `input` it took.
    ///
    /// # Errors
    ///
    /// 413 if `body` would grow beyond `max_bytes`, 431 for too many extensions and trailers, and 400
    /// for a malformed body.
    pub(crate) fn decode(
        &mut self,
        input: &[u8],
        body: &mut Vec<u8>,
        max_bytes: usize,
    ) -> Result<usize, Rejection> {
        let mut rest = input;
        while let [byte, tail @ ..] = rest {
            match self.state {
                DecoderState::Done => break,
                DecoderState::Data { left } => {
                    let take = rest.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                    body.extend_from_slice(&rest[..take]);
                    rest = &rest[take..];
                    self.state = match left - take as u64 {
                        0 => DecoderState::DataCr,
                        left => DecoderState::Data { left },
                    };
                }
                state => {
                    rest = tail;
                    self.state = self.line_byte(state, *byte)?;
                }
            }
            if let DecoderState::Data { left } = self.state
                && body.len() as u64 + left > max_bytes as u64
            {
                return Err(Rejection::new(
                    StatusCode::PAYLOAD_TOO_LARGE,
                    "request body too large",
                ));
            }
        }
        Ok(input.len() - rest.len())
    }

    /// Takes one byte that is not chunk data.
    #[expect(clippy::match_same_arms, reason = "a line is a transition")]
    fn line_byte(&mut self, state: DecoderState, byte: u8) -> Result<DecoderState, Rejection> {
        const BAD_SIZE: Rejection = Rejection::bad_request("malformed chunk size");
        const BAD_LINE: Rejection =
            Rejection::bad_request("malformed line ending in the chunked body");
        const BAD_TRAILER: Rejection = Rejection::bad_request("malformed trailer");
        Ok(match (state, byte) {
            (DecoderState::Size { digits: 1.., size }, b'\r') => DecoderState::SizeLf { size },
            (DecoderState::Size { digits: 1.., size }, b';') => DecoderState::Extension { size },
            (DecoderState::Size { digits: 1.., size }, b' ' | b'\t') => {
                DecoderState::SizeSpace { size }
            }
            (DecoderState::Size { digits, size }, byte) => match hex_digit(byte) {
                Some(_) if digits == MAX_SIZE_DIGITS => return Err(BAD_SIZE),
                Some(digit) => DecoderState::Size {
                    digits: digits + 1,
                    size: size << 4 | u64::from(digit),
                },
                None => return Err(BAD_SIZE),
            },
            (DecoderState::SizeSpace { size }, b';') => {
                self.spend(DecoderState::Extension { size })?
            }
            (DecoderState::SizeSpace { .. }, b' ' | b'\t') => self.spend(state)?,
            (DecoderState::SizeSpace { .. }, _) => return Err(BAD_SIZE),
            (DecoderState::Extension { size }, b'\r') => DecoderState::SizeLf { size },
            (DecoderState::Extension { .. }, byte) if is_field_text(byte) => self.spend(state)?,
            (DecoderState::Extension { .. }, _) => {
                return Err(Rejection::bad_request("malformed chunk extension"));
            }
            (DecoderState::SizeLf { size: 0 }, b'\n') => DecoderState::TrailerStart,
            (DecoderState::SizeLf { size }, b'\n') => DecoderState::Data { left: size },
            (DecoderState::DataCr, b'\r') => DecoderState::DataLf,
            (DecoderState::DataLf, b'\n') => DecoderState::Size { digits: 0, size: 0 },
            (DecoderState::TrailerStart, b'\r') => DecoderState::EndLf,
            (DecoderState::TrailerStart | DecoderState::TrailerName, byte)
                if is_token_char(byte) =>
            {
                self.spend(DecoderState::TrailerName)?
            }
            (DecoderState::TrailerName, b':') => self.spend(DecoderState::TrailerValue)?,
            (DecoderState::TrailerStart | DecoderState::TrailerName, _) => return Err(BAD_TRAILER),
            (DecoderState::TrailerValue, b'\r') => DecoderState::TrailerLf,
            (DecoderState::TrailerValue, byte) if is_field_text(byte) => self.spend(state)?,
            (DecoderState::TrailerValue, _) => return Err(BAD_TRAILER),
            (DecoderState::TrailerLf, b'\n') => DecoderState::TrailerStart,
            (DecoderState::EndLf, b'\n') => DecoderState::Done,
            (DecoderState::SizeLf { .. } | DecoderState::DataCr | DecoderState::DataLf, _)
            | (DecoderState::TrailerLf | DecoderState::EndLf, _)
            | (DecoderState::Data { .. } | DecoderState::Done, _) => return Err(BAD_LINE),
        })
    }

    /// Counts a byte of an extension or a trailer.
    fn spend(&mut self, next: DecoderState) -> Result<DecoderState, Rejection> {
        const TOO_LONG: Rejection = Rejection::new(
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            "chunk extensions and trailers too large",
        );
        self.overhead = self.overhead.checked_sub(1).ok_or(TOO_LONG)?;
        Ok(next)
    }
}

/// The end of a body: the last chunk, no trailers, an empty line.
pub(crate) const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// Appends one chunk. Appends nothing for an empty one, which would end the body.
pub(crate) fn encode(data: &[u8], out: &mut Vec<u8>) {
    if data.is_empty() {
        return;
    }
    // Writing to a vector cannot fail.
    let _ = write!(out, "{:x}\r\n", data.len());
    out.extend_from_slice(data);
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Decoded = Result<(Vec<u8>, usize), u16>;

    /// Feeds `input` in parts of `step` bytes; `None` if the body is incomplete.
    fn decode(input: &[u8], step: usize) -> Option<Decoded> {
        let mut decoder = ChunkedDecoder::new(32);
        let mut body = Vec::new();
        let mut taken = 0;
        for part in input.chunks(step) {
            match decoder.decode(part, &mut body, 64) {
                Ok(count) => taken += count,
                Err(rejection) => return Some(Err(rejection.status().as_u16())),
            }
            if decoder.is_done() {
                return Some(Ok((body, taken)));
            }
        }
        None
    }

    #[test]
    fn body_is_decoded_or_rejected_in_any_parts() {
        type Expected = Option<Result<(&'static str, usize), u16>>;
        let table: &[(&str, Expected)] = &[
            ("0\r\n\r\n", Some(Ok(("", 5)))),
            ("5\r\nhello\r\n0\r\n\r\nGET", Some(Ok(("hello", 15)))),
            (
                "5\r\nhello\r\n1\r\n!\r\n000\r\n\r\n",
                Some(Ok(("hello!", 23))),
            ),
            ("A\r\n0123456789\r\n0\r\n\r\n", Some(Ok(("0123456789", 20)))),
            ("1;a=b;c=\"d\"\r\nx\r\n0;z\r\n\r\n", Some(Ok(("x", 23)))),
            ("1 ;a\r\nx\r\n0\r\n\r\n", Some(Ok(("x", 14)))),
            ("1\r\nx\r\n0\r\nA: b\r\nC:\r\n\r\n", Some(Ok(("x", 21)))),
            ("5\r\nhel", None),
            ("0\r\n", None),
            ("", None),
            ("\r\n", Some(Err(400))),
            ("g\r\n", Some(Err(400))),
            (" 1\r\nx\r\n", Some(Err(400))),
            ("1 \r\nx\r\n", Some(Err(400))),
            ("+1\r\nx\r\n", Some(Err(400))),
            ("0x1\r\nx\r\n", Some(Err(400))),
            ("-1\r\nx\r\n", Some(Err(400))),
            ("1\nx\r\n", Some(Err(400))),
            ("1\r\nx\n0\r\n\r\n", Some(Err(400))),
            ("1\r\nxy\r\n0\r\n\r\n", Some(Err(400))),
            ("1\r\rx\r\n", Some(Err(400))),
            ("1;a\nb\r\nx\r\n", Some(Err(400))),
            ("0\r\nA: b\n\r\n", Some(Err(400))),
            ("0\r\n: b\r\n\r\n", Some(Err(400))),
            ("0\r\nA : b\r\n\r\n", Some(Err(400))),
            ("0\r\n folded\r\n\r\n", Some(Err(400))),
            ("10000000000000000\r\n", Some(Err(400))),
            ("FFFFFFFFFFFFFFFF\r\n", Some(Err(400))),
            ("fffffffffffffff\r\n", Some(Err(413))),
            ("41\r\n", Some(Err(413))),
            ("40\r\n", None),
            ("1;aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n", Some(Err(431))),
            (
                "0\r\nA: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n",
                Some(Err(431)),
            ),
        ];
        for (input, expected) in table {
            let expected = expected.map(|result| result.map(|(text, len)| (text.into(), len)));
            for step in [1, 2, 3, 1000] {
                assert_eq!(
                    decode(input.as_bytes(), step),
                    expected,
                    "{input:?} by {step}"
                );
            }
        }
    }

    proptest! {
        #[test]
        fn decoding_does_not_depend_on_how_input_is_split(
            input in proptest::collection::vec(
                prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'1'), Just(b'0'), Just(b';'), any::<u8>()],
                0..80,
            ),
            step in 1..10usize,
        ) {
            prop_assert_eq!(decode(&input, step), decode(&input, usize::MAX));
        }

        /// No byte after a complete body is taken, and the bytes after a rejected one do not change
        /// the rejection.
        #[test]
        fn bytes_after_body_do_not_change_result(
            parts in proptest::collection::vec(prop_oneof![
                Just("3\r\nabc\r\n"),
                Just("1;a=b\r\nx\r\n"),
                Just("0\r\n"),
                Just("A: b\r\n"),
                Just("\r\n"),
                Just("\n"),
                Just("f"),
            ], 0..7),
            after in proptest::collection::vec(any::<u8>(), 0..9),
            step in 1..10usize,
        ) {
            let body = parts.concat().into_bytes();
            let decoded = decode(&body, usize::MAX);
            if let Some(decoded) = decoded {
                let more = [&body[..], &after].concat();
                prop_assert_eq!(decode(&more, step), Some(decoded));
            }
        }

        #[test]
        fn encoded_body_decodes_to_itself(
            chunks in proptest::collection::vec("[ -~]{1,9}", 0..7),
            step in 1..10usize,
        ) {
            let mut encoded = Vec::new();
            for chunk in &chunks {
                encode(chunk.as_bytes(), &mut encoded);
            }
            encoded.extend_from_slice(LAST_CHUNK);
            let expected = (chunks.concat().into_bytes(), encoded.len());
            prop_assert_eq!(decode(&encoded, step), Some(Ok(expected)));
        }
    }
}
