//! A request body while it is received.

use super::error_code::ErrorCode;
use crate::body::BodyWriter;
use crate::http::Rejection;
use crate::proto::request_rules::BODY_TOO_LARGE;

/// The part of a request body that has been received.
#[derive(Debug)]
pub(crate) struct RequestBody {
    /// Received bytes that have not been passed on to a pipe.
    pub(crate) bytes: Vec<u8>,
    /// How many bytes the handler accepts.
    pub(crate) max_bytes: u64,
    received: u64,
    length: Option<u64>,
    continue_expected: ContinueExpected,
}

/// Whether the client waits for 100 Continue before it sends the body (RFC 9110 §10.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ContinueExpected {
    Yes,
    No,
}

/// Why a body is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BodyError {
    /// It has another length than the head announces: the message is malformed (RFC 9113 §8.1.1).
    Malformed(ErrorCode),
    Rejected(Rejection),
}

const LENGTH_MISMATCH: BodyError = BodyError::Malformed(ErrorCode::ProtocolError);

impl RequestBody {
    /// A body with the length that the head announces, if it does.
    pub(crate) fn new(length: Option<u64>, continue_expected: ContinueExpected) -> Self {
        Self {
            bytes: Vec::new(),
            max_bytes: 0,
            received: 0,
            length,
            continue_expected,
        }
    }

    /// Counts the bytes of a DATA frame.
    pub(crate) fn count(&mut self, bytes: usize) -> Result<(), BodyError> {
        self.received += bytes as u64;
        if self.length.is_some_and(|length| self.received > length) {
            return Err(LENGTH_MISMATCH);
        }
        if self.received > self.max_bytes {
            return Err(BodyError::Rejected(BODY_TOO_LARGE));
        }
        Ok(())
    }

    /// Checks the length at the end of the body.
    pub(crate) fn check_end(&self) -> Result<(), BodyError> {
        match self.length {
            Some(length) if length != self.received => Err(LENGTH_MISMATCH),
            _ => Ok(()),
        }
    }

    /// Moves the bytes to the reader of a stream.
    pub(crate) fn pass_on(&mut self, writer: &BodyWriter) {
        if !self.bytes.is_empty() {
            writer.push(&self.bytes);
            self.bytes = Vec::new();
        }
    }

    /// How many bytes have been received.
    pub(crate) fn received(&self) -> u64 {
        self.received
    }

    /// The length of the body, if the head announces it.
    pub(crate) fn length(&self) -> Option<u64> {
        self.length
    }

    /// Returns true, once, if the client waits for 100 Continue: a client that has sent some of the
    /// body does not.
    pub(crate) fn take_expect_continue(&mut self) -> bool {
        let expected = std::mem::replace(&mut self.continue_expected, ContinueExpected::No);
        expected == ContinueExpected::Yes && self.received == 0
    }
}
