//! What the body of a message is made of: bytes, ranges of open files, streams, server-sent events, and
//! the pipe through which a request body is read while it is received; and how the code that makes it is
//! cancelled. Knows files and threads, and no protocol.

mod broadcast;
pub(crate) mod cancellation;
mod channel;
mod event;
mod event_stream;
pub(crate) mod file_range;
mod pieces;
pub(crate) mod pipe;
pub(crate) mod polled;
pub(crate) mod stream;

use bytes::Bytes;

pub use broadcast::Broadcast;
pub use cancellation::Cancellation;
pub use channel::PieceSender;
pub use event::Event;
pub use event_stream::{EventSender, EventStream};
pub use file_range::FileRange;
pub use pieces::BodyPieces;
pub use pipe::BodyReader;
pub(crate) use pipe::BodyWriter;
pub use stream::{BodyProducer, BodyStream};

/// The body of a response: what is sent after its head.
///
/// A body describes its bytes. They are read or produced while the response is sent, in bounded
/// chunks, as fast as the client accepts them.
#[derive(Debug, Default)]
#[non_exhaustive]
pub enum Body {
    /// No content.
    #[default]
    Empty,
    /// Bytes in memory.
    Bytes(Bytes),
    /// A range of an open file, sent in chunks as the client accepts them.
    File(FileRange),
    /// Content that is produced while it is sent.
    Stream(BodyStream),
}

impl Body {
    /// Returns the length of the content in bytes, or `None` for a stream without a declared length.
    pub fn length(&self) -> Option<u64> {
        match self {
            Self::Empty => Some(0),
            Self::Bytes(bytes) => Some(bytes.len() as u64),
            Self::File(range) => Some(range.len),
            Self::Stream(stream) => stream.length,
        }
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Self::Bytes(bytes)
    }
}

impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Bytes(bytes.into())
    }
}

impl From<String> for Body {
    fn from(text: String) -> Self {
        Self::Bytes(text.into())
    }
}

impl From<&'static str> for Body {
    fn from(text: &'static str) -> Self {
        Self::Bytes(text.into())
    }
}

impl From<FileRange> for Body {
    fn from(range: FileRange) -> Self {
        Self::File(range)
    }
}

impl From<BodyStream> for Body {
    fn from(stream: BodyStream) -> Self {
        Self::Stream(stream)
    }
}
