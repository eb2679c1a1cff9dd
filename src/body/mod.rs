//! What the body of a message is made of: bytes, ranges of open files, streams, and the pipe through which
//! a request body is read while it arrives. Knows files and threads, and no protocol.

pub(crate) mod file_range;
pub(crate) mod pipe;
pub(crate) mod stream;

pub use file_range::FileRange;
pub use pipe::BodyReader;
pub(crate) use pipe::BodyWriter;
pub use stream::{BodyProducer, BodyStream};
