//! Response bodies that are produced while they are sent: pulled in pieces, written on a thread that may
//! block, or polled on the event loop. In any case the client exerts back-pressure on the producer.

use std::fmt;
use std::io::{self, Write};
use std::sync::mpsc::SyncSender;
use std::task::{Context, Poll};

use bytes::Bytes;

use super::cancellation::Cancellation;
use super::polled::PolledBody;
use crate::semaphore::SemaphorePermit;

/// Produces a body in pieces, on a thread of the blocking pool: each piece when the client has
/// taken the one before. So a slow client occupies no thread and at most one piece of memory, and the
/// producer may block.
pub trait BodyProducer: Send {
    /// Returns the next piece, of some 16 to 64 KiB, or `None` at the end. An error closes the
    /// connection, so that the client can tell that the body is incomplete.
    ///
    /// An empty piece is skipped, and many of them in a row are an error: a producer that has nothing
    /// yet must wait. While it waits it occupies a thread of the pool; a body that waits for something else
    /// than a disk is better sent through a [channel](BodyStream::channel).
    fn next_piece(&mut self) -> io::Result<Option<Bytes>>;

    /// Returns the device number (`st_dev`) of the disk that [`next_piece`](Self::next_piece) waits for,
    /// if it reads from one. The pieces are produced on the threads of that disk then, so that one that
    /// hangs delays no other producers.
    fn device(&self) -> Option<u64> {
        None
    }
}

impl<F> BodyProducer for F
where
    F: FnMut() -> io::Result<Option<Bytes>> + Send,
{
    fn next_piece(&mut self) -> io::Result<Option<Bytes>> {
        self()
    }
}

/// The limit of empty pieces in a row. A filter may have nothing to return for some of its input; a
/// producer that returns them without end would keep a thread busy.
const MAX_EMPTY_PIECES: usize = 64;

/// Returns the next piece of a body that is not empty, or `None` at the end.
pub(crate) fn next_non_empty_piece(producer: &mut dyn BodyProducer) -> io::Result<Option<Bytes>> {
    for _ in 0..=MAX_EMPTY_PIECES {
        match producer.next_piece()? {
            Some(piece) if piece.is_empty() => {}
            piece => return Ok(piece),
        }
    }
    let text = format!(
        "its producer returned more than {MAX_EMPTY_PIECES} empty pieces in a row; \
         it must wait for the next piece, or return `None` at the end"
    );
    Err(io::Error::other(text))
}

type WriteFn = dyn FnOnce(&mut dyn Write, &Cancellation) -> io::Result<()> + Send;

/// Writes a whole body.
pub(crate) struct WriteBody {
    pub(crate) write: Box<WriteFn>,
    /// The thread that is reserved for it. It is free again when this is dropped.
    pub(crate) thread: Option<SemaphorePermit>,
}

/// A body that is produced while it is sent: in chunks (RFC 9112 §7.1), or with a length that is
/// announced.
///
/// ```
/// use std::io::Write;
/// use tws::{Request, Response, BodyStream, StatusCode};
///
/// let count = |_: &Request<'_>| {
///     let numbers = BodyStream::written(|out| {
///         for number in 0..1000 {
///             writeln!(out, "{number}")?;
///         }
///         Ok(())
///     });
///     Response::new(StatusCode::OK).with_body(numbers)
/// };
/// let body = count(&Request::get("/")).into_content().expect("numbers");
/// assert!(body.starts_with(b"0\n1\n2\n"));
/// ```
#[derive(Debug)]
pub struct BodyStream {
    pub(crate) source: BodySource,
    pub(crate) length: Option<u64>,
}

/// Where the next piece of a body comes from.
pub(crate) enum BodySource {
    /// It is pulled from this.
    Producer(Box<dyn BodyProducer>),
    /// This is to be started on a thread of its own, and writes it.
    Writer(Box<WriteBody>),
    /// The thread of the writer, which waits for this message that its last piece is taken. If the
    /// sender is dropped, the next write of the thread fails.
    Waiting(SyncSender<()>),
    /// It is polled.
    Polled(Box<PolledBody>),
}

/// What a source needs while it produces a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SourceKind {
    /// A thread of a pool.
    Produced,
    /// A thread of its own, for the whole body.
    Written,
    /// Nothing but the event loop.
    Polled,
}

impl BodySource {
    pub(crate) fn kind(&self) -> SourceKind {
        match self {
            Self::Producer(_) => SourceKind::Produced,
            Self::Writer(_) | Self::Waiting(_) => SourceKind::Written,
            Self::Polled(_) => SourceKind::Polled,
        }
    }
}

impl BodyStream {
    /// A body that is pulled; see [`BodyProducer`]. Prefer it where it is as easy to write: it occupies
    /// no thread while the client is slow.
    pub fn produced(producer: impl BodyProducer + 'static) -> Self {
        Self {
            source: BodySource::Producer(Box::new(producer)),
            length: None,
        }
    }

    /// A body that is written. The writer has a thread of its own, of which
    /// [`Limits::max_streams`](crate::Limits) bounds the number; if there is none left, the client gets a
    /// 503 instead of the response. It waits in `write` while the client
    /// is slow, and gets an error when the client has disconnected. Writes are buffered; `flush` sends
    /// them at once. An error closes the connection, so that the client can tell that the body is
    /// incomplete.
    ///
    /// A writer that waits for something else than the client notices a disconnect only when it writes;
    /// see [`written_with_cancellation`](Self::written_with_cancellation).
    pub fn written(write: impl FnOnce(&mut dyn Write) -> io::Result<()> + Send + 'static) -> Self {
        Self::written_with_cancellation(|out, _| write(out))
    }

    /// Like [`written`](Self::written), for a writer that waits. Its cancellation reports that the client
    /// has disconnected, and it must return then: until it does, it occupies its thread. A body that waits for
    /// most of its time is better sent through a [`channel`](Self::channel), which needs no thread.
    ///
    /// ```
    /// use std::sync::mpsc;
    /// use tws::BodyStream;
    ///
    /// /// A message to a writer of events; `None` ends it.
    /// type Message = Option<String>;
    ///
    /// fn events(sender: mpsc::Sender<Message>, receiver: mpsc::Receiver<Message>) -> BodyStream {
    ///     BodyStream::written_with_cancellation(move |out, cancellation| {
    ///         cancellation.on_cancel(move || drop(sender.send(None)));
    ///         while let Ok(Some(event)) = receiver.recv() {
    ///             write!(out, "data: {event}\n\n")?;
    ///             out.flush()?;
    ///         }
    ///         Ok(())
    ///     })
    /// }
    /// ```
    pub fn written_with_cancellation(
        write: impl FnOnce(&mut dyn Write, &Cancellation) -> io::Result<()> + Send + 'static,
    ) -> Self {
        let write = WriteBody {
            write: Box::new(write),
            thread: None,
        };
        Self {
            source: BodySource::Writer(Box::new(write)),
            length: None,
        }
    }

    /// A body that is polled on the event loop of its connection, for sources with wakers of their own.
    /// `poll` returns the next piece, `None` at the end, or `Poll::Pending` after it has arranged for the
    /// waker to be called when there may be a piece. It must not block. An error closes the connection, so
    /// that the client can tell that the body is incomplete. Empty pieces are skipped, and many of them in
    /// a row are an error.
    ///
    /// The bound on such bodies is that of a [`channel`](Self::channel). With
    /// [`futures_core::Stream`](https://docs.rs/futures-core) of bytes:
    ///
    /// ```ignore
    /// let mut stream = Box::pin(stream);
    /// BodyStream::polled(move |cx| stream.as_mut().poll_next(cx).map(Option::transpose))
    /// ```
    pub fn polled(
        poll: impl FnMut(&mut Context<'_>) -> Poll<io::Result<Option<Bytes>>> + Send + 'static,
    ) -> Self {
        PolledBody::new(poll).into()
    }

    /// The same body with an announced length, in bytes. If it turns out to have another length, the
    /// connection is closed.
    pub fn with_length(mut self, bytes: u64) -> Self {
        self.length = Some(bytes);
        self
    }

    /// Sets what is reserved for the body: a thread for its writer, or a place among the bodies that wait.
    pub(crate) fn set_permit(&mut self, permit: SemaphorePermit) {
        match &mut self.source {
            BodySource::Writer(body) => body.thread = Some(permit),
            BodySource::Polled(body) => body.set_permit(permit),
            BodySource::Producer(_) | BodySource::Waiting(_) => {}
        }
    }

    /// Returns whether something is to be reserved for the body and was not.
    pub(crate) fn needs_permit(&self) -> bool {
        match &self.source {
            BodySource::Writer(body) => body.thread.is_none(),
            BodySource::Polled(body) => !body.has_permit(),
            BodySource::Producer(_) | BodySource::Waiting(_) => false,
        }
    }

    /// Produces the whole body, which may block.
    pub(crate) fn into_content(self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        match self.source {
            BodySource::Producer(mut producer) => {
                while let Some(piece) = next_non_empty_piece(&mut *producer)? {
                    body.extend_from_slice(&piece);
                }
            }
            BodySource::Writer(body_writer) => {
                (body_writer.write)(&mut body, &Cancellation::default())?;
            }
            BodySource::Polled(mut polled) => {
                while let Some(piece) = polled.wait_for_piece()? {
                    body.extend_from_slice(&piece);
                }
            }
            BodySource::Waiting(_) => {}
        }
        Ok(body)
    }
}

impl From<PolledBody> for BodyStream {
    fn from(body: PolledBody) -> Self {
        Self {
            source: BodySource::Polled(Box::new(body)),
            length: None,
        }
    }
}

impl fmt::Debug for BodySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Producer(_) => "Producer",
            Self::Writer(_) => "Writer",
            Self::Waiting(_) => "Waiting",
            Self::Polled(_) => "Polled",
        })
    }
}
