//! A request body while it is received.

use crate::body::BodyWriter;

/// How much of a request body has been received, and how much was announced. It is checked even if the
/// body itself is of no use any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BodyLength {
    received: u64,
    announced: Option<u64>,
}

/// A body has another length than the head announces: the message is malformed (RFC 9113 §8.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ContentLengthMismatch;

impl BodyLength {
    /// A body of which nothing has been received, with the length of Content-Length.
    pub(crate) fn new(announced: Option<u64>) -> Self {
        Self {
            received: 0,
            announced,
        }
    }

    pub(crate) fn received(&self) -> u64 {
        self.received
    }

    pub(crate) fn announced(&self) -> Option<u64> {
        self.announced
    }

    /// How much is still to come, if that was announced.
    pub(crate) fn left(&self) -> Option<u64> {
        self.announced.map(|length| length - self.received)
    }

    /// Counts the bytes of a DATA frame.
    pub(crate) fn add(&mut self, bytes: usize) -> Result<(), ContentLengthMismatch> {
        let received = self.received + bytes as u64;
        if self.announced.is_some_and(|length| received > length) {
            return Err(ContentLengthMismatch);
        }
        self.received = received;
        Ok(())
    }

    /// Checks the length at the end of the body.
    pub(crate) fn check_end(&self) -> Result<(), ContentLengthMismatch> {
        match self.left() {
            Some(1..) => Err(ContentLengthMismatch),
            Some(0) | None => Ok(()),
        }
    }
}

/// A request body while it is received.
#[derive(Debug)]
pub(crate) struct RequestBody {
    /// Received bytes that have not been passed on to a pipe.
    pub(crate) bytes: Vec<u8>,
    /// How many bytes the handler accepts.
    pub(crate) max_bytes: u64,
    continue_expected: ContinueExpected,
}

/// Whether the client waits for 100 Continue before it sends the body (RFC 9110 §10.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ContinueExpected {
    Yes,
    No,
}

impl RequestBody {
    pub(crate) fn new(continue_expected: ContinueExpected) -> Self {
        Self {
            bytes: Vec::new(),
            max_bytes: 0,
            continue_expected,
        }
    }

    /// Moves the bytes to the reader of a stream.
    pub(crate) fn pass_on(&mut self, writer: &BodyWriter) {
        if !self.bytes.is_empty() {
            writer.push(&self.bytes);
            self.bytes = Vec::new();
        }
    }

    /// Returns true, once, if the client waits for 100 Continue: a client that has sent some of the
    /// body does not.
    pub(crate) fn take_expect_continue(&mut self, length: BodyLength) -> bool {
        let expected = std::mem::replace(&mut self.continue_expected, ContinueExpected::No);
        expected == ContinueExpected::Yes && length.received() == 0
    }
}
