//! Content that is made while it is sent: pulled piece by piece, or written by somebody who may
//! wait. Either way the client's pace is the maker's.

use std::fmt;
use std::io::{self, Write};
use std::sync::mpsc::SyncSender;

use bytes::Bytes;

/// Makes a content piece by piece, for when it is not there as a whole: on a helper thread, one
/// piece at a time, each when the client has taken the one before. So a slow client keeps neither
/// a thread nor more than a piece, and what makes the pieces may wait.
pub trait BodyProducer: Send {
    /// The next piece, of some 16 to 64 KiB, or `None` at the end. An error ends the connection:
    /// the client learns that the content is cut short.
    fn next_piece(&mut self) -> io::Result<Option<Bytes>>;
}

impl<F> BodyProducer for F
where
    F: FnMut() -> io::Result<Option<Bytes>> + Send,
{
    fn next_piece(&mut self) -> io::Result<Option<Bytes>> {
        self()
    }
}

/// Writes a whole content.
pub(crate) type WriteContent = Box<dyn FnOnce(&mut dyn Write) -> io::Result<()> + Send>;

/// A content that is made while it is sent: in chunks (RFC 9112 §7.1), or with a length that is
/// known before.
///
/// ```
/// use std::io::Write;
/// use tws::{Body, Request, Response, BodyStream, StatusCode};
///
/// let count = |_: &Request<'_>| {
///     let numbers = BodyStream::written(|out| {
///         for number in 0..1000 {
///             writeln!(out, "{number}")?;
///         }
///         Ok(())
///     });
///     Response::new(StatusCode::OK).with_body(Body::Stream(numbers))
/// };
/// let content = count(&Request::get("/")).into_content().expect("numbers");
/// assert!(content.starts_with(b"0\n1\n2\n"));
/// ```
#[derive(Debug)]
pub struct BodyStream {
    pub(crate) source: BodySource,
    pub(crate) length: Option<u64>,
}

/// Where the next piece of a content comes from.
pub(crate) enum BodySource {
    /// It is asked for.
    Producer(Box<dyn BodyProducer>),
    /// This is to be started, on a thread of its own.
    Writer(WriteContent),
    /// The writer's thread waits to be told that its last piece is taken. If that is dropped, it
    /// learns that nobody takes any more.
    Waiting(SyncSender<()>),
}

impl BodyStream {
    /// A content that is pulled: see [`BodyProducer`], and prefer it where it is as easy to write. It
    /// costs no thread while the client is slow.
    pub fn produced(producer: impl BodyProducer + 'static) -> Self {
        Self {
            source: BodySource::Producer(Box::new(producer)),
            length: None,
        }
    }

    /// A content that is written. The writer has a thread to itself
    /// ([`Limits::max_streams`](crate::Limits) bounds how many), waits in `write` while the client
    /// is slow, and gets an error when the client is gone. What is written is gathered; `flush`
    /// sends it at once. An error ends the connection: the client learns that the content is cut
    /// short.
    pub fn written(write: impl FnOnce(&mut dyn Write) -> io::Result<()> + Send + 'static) -> Self {
        Self {
            source: BodySource::Writer(Box::new(write)),
            length: None,
        }
    }

    /// The same content with a length, in bytes, that is announced. If it turns out to be another,
    /// the connection ends.
    pub fn with_length(mut self, bytes: u64) -> Self {
        self.length = Some(bytes);
        self
    }

    /// All of it, as long as it takes.
    pub(crate) fn into_content(self) -> io::Result<Vec<u8>> {
        let mut content = Vec::new();
        match self.source {
            BodySource::Producer(mut producer) => {
                while let Some(piece) = producer.next_piece()? {
                    content.extend_from_slice(&piece);
                }
            }
            BodySource::Writer(write) => write(&mut content)?,
            BodySource::Waiting(_) => {}
        }
        Ok(content)
    }
}

impl fmt::Debug for BodySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Producer(_) => "Producer",
            Self::Writer(_) => "Writer",
            Self::Waiting(_) => "Waiting",
        })
    }
}
