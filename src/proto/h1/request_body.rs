//! A request body while it is received.

use super::chunked;
use crate::body::BodyWriter;
use crate::http::Rejection;
use crate::proto::request_rules::BODY_TOO_LARGE;

/// The part of a request body that has been received.
#[derive(Debug)]
pub(crate) struct RequestBody {
    /// Decoded bytes that have not been passed on to a pipe.
    pub(crate) bytes: Vec<u8>,
    /// How many bytes the handler accepts; for a stream, how many more.
    pub(crate) max_bytes: usize,
    decoder: BodyDecoder,
    /// How many bytes of a stream have been passed on to its reader.
    passed_on: u64,
    continue_expected: ContinueExpected,
}

#[derive(Debug)]
pub(crate) enum BodyDecoder {
    Length { left: u64 },
    Chunked(chunked::ChunkedDecoder),
}

/// Whether the client waits for 100 Continue before it sends the body (RFC 9110 §10.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ContinueExpected {
    Yes,
    No,
}

/// How many bytes of the input were part of the body.
pub(crate) enum BodyProgress {
    /// These were the rest of it.
    Complete(usize),
    Incomplete(usize),
}

impl RequestBody {
    pub(crate) fn new(decoder: BodyDecoder, continue_expected: ContinueExpected) -> Self {
        Self {
            bytes: Vec::new(),
            max_bytes: 0,
            decoder,
            passed_on: 0,
            continue_expected,
        }
    }

    /// Decodes the bytes at the front of `input` that are part of the body.
    pub(crate) fn decode(&mut self, input: &[u8]) -> Result<BodyProgress, Rejection> {
        let bytes = &mut self.bytes;
        let (taken, is_complete) = match &mut self.decoder {
            BodyDecoder::Length { left } => {
                if bytes.len() as u64 + *left > self.max_bytes as u64 {
                    return Err(BODY_TOO_LARGE);
                }
                let taken = input
                    .len()
                    .min(usize::try_from(*left).unwrap_or(usize::MAX));
                bytes.extend_from_slice(&input[..taken]);
                *left -= taken as u64;
                (taken, *left == 0)
            }
            BodyDecoder::Chunked(decoder) => {
                let taken = decoder.decode(input, bytes, self.max_bytes)?;
                (taken, decoder.is_done())
            }
        };
        Ok(if is_complete {
            BodyProgress::Complete(taken)
        } else {
            BodyProgress::Incomplete(taken)
        })
    }

    /// Moves the decoded bytes to the reader of a stream.
    pub(crate) fn pass_on(&mut self, writer: &BodyWriter) {
        let bytes = &mut self.bytes;
        if !bytes.is_empty() {
            writer.push(bytes);
            self.max_bytes -= bytes.len();
            self.passed_on += bytes.len() as u64;
            bytes.clear();
        }
    }

    /// How many bytes of the body have been received, without transfer coding.
    pub(crate) fn received(&self) -> u64 {
        self.passed_on + self.bytes.len() as u64
    }

    /// The length of the body, if the head announces it.
    pub(crate) fn length(&self) -> Option<u64> {
        match self.decoder {
            BodyDecoder::Length { left } => Some(self.received() + left),
            BodyDecoder::Chunked(_) => None,
        }
    }

    /// Returns true, once, if the client waits for 100 Continue: a client that has sent some of the
    /// body does not.
    pub(crate) fn take_expect_continue(&mut self) -> bool {
        let expected = std::mem::replace(&mut self.continue_expected, ContinueExpected::No);
        expected == ContinueExpected::Yes && self.received() == 0
    }
}
