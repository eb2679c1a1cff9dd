//! The pieces of a body for a caller that may wait, such as a test: each as soon as it is produced.

use std::fmt;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use bytes::Bytes;

use super::Body;
use super::cancellation::Cancellation;
use super::file_range::FileRange;
use super::polled::PolledBody;
use super::stream::{BodyProducer, BodySource, WriteBody, next_non_empty_piece};
use crate::panics::catch;
use crate::sync::CancelFlag;

/// The most bytes of a piece of a file, or of a body that is written without a flush.
const PIECE_BYTES: usize = 32 * 1024;

/// An iterator over the pieces of a body, each of which it returns as soon as it is produced. It blocks
/// until then. A body that is written is written on a thread of its own, which is told to end when this is
/// dropped ([`Cancellation`]).
///
/// ```
/// use tws::{BodyStream, Response, StatusCode};
///
/// let events = BodyStream::written(|out| {
///     for number in 0.. {
///         write!(out, "data: {number}\n\n")?;
///         out.flush()?;
///     }
///     Ok(())
/// });
/// let response = Response::new(StatusCode::OK).with_body(events);
/// let mut pieces = response.into_pieces();
/// assert_eq!(pieces.next().expect("an event")?, "data: 0\n\n");
/// assert_eq!(pieces.next().expect("an event")?, "data: 1\n\n");
/// # Ok::<_, std::io::Error>(())
/// ```
pub struct BodyPieces {
    source: PieceSource,
}

enum PieceSource {
    End,
    Bytes(Bytes),
    File(FileRange),
    Producer(Box<dyn BodyProducer>),
    Writer(WriterThread),
    Polled(Box<PolledBody>),
}

/// A thread that writes a body, one piece ahead at most.
struct WriterThread {
    pieces: Receiver<io::Result<Bytes>>,
    cancelled: CancelFlag,
}

impl From<Body> for BodyPieces {
    fn from(body: Body) -> Self {
        let source = match body {
            Body::Empty => PieceSource::End,
            Body::Bytes(bytes) if bytes.is_empty() => PieceSource::End,
            Body::Bytes(bytes) => PieceSource::Bytes(bytes),
            Body::File(range) => PieceSource::File(range),
            Body::Stream(stream) => match stream.source {
                BodySource::Producer(producer) => PieceSource::Producer(producer),
                BodySource::Writer(body) => PieceSource::Writer(WriterThread::start(*body)),
                BodySource::Polled(body) => PieceSource::Polled(body),
                BodySource::Waiting(_) => PieceSource::End,
            },
        };
        Self { source }
    }
}

impl Iterator for BodyPieces {
    type Item = io::Result<Bytes>;

    /// Returns the next piece, which is not empty. After an error there is none.
    fn next(&mut self) -> Option<io::Result<Bytes>> {
        let piece = match &mut self.source {
            PieceSource::End => None,
            PieceSource::Bytes(bytes) => Some(Ok(std::mem::take(bytes))),
            PieceSource::File(range) => next_of_file(range).transpose(),
            PieceSource::Producer(producer) => next_non_empty_piece(&mut **producer).transpose(),
            // The thread drops its sender at the end.
            PieceSource::Writer(thread) => thread.pieces.recv().ok(),
            PieceSource::Polled(body) => body.wait_for_piece().transpose(),
        };
        let is_last = matches!(self.source, PieceSource::Bytes(_));
        if is_last || !matches!(piece, Some(Ok(_))) {
            self.source = PieceSource::End;
        }
        piece
    }
}

impl fmt::Debug for BodyPieces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BodyPieces")
    }
}

fn next_of_file(range: &mut FileRange) -> io::Result<Option<Bytes>> {
    let len = range.len.min(PIECE_BYTES as u64);
    if len == 0 {
        return Ok(None);
    }
    let mut piece = vec![0; len as usize];
    range.file.read_exact_at(&mut piece, range.offset)?;
    range.offset += len;
    range.len -= len;
    Ok(Some(piece.into()))
}

impl WriterThread {
    fn start(body: WriteBody) -> Self {
        // Without a buffer, the writer waits until its piece is taken.
        let (sender, pieces) = sync_channel(0);
        let cancelled = CancelFlag::default();
        let cancellation = Cancellation::new(cancelled.clone());
        thread::spawn(move || {
            let mut out = PieceWriter {
                piece: Vec::new(),
                sender,
            };
            let written = catch(|| (body.write)(&mut out, &cancellation))
                .unwrap_or_else(|_| Err(io::Error::other("the writer of the body panicked")));
            cancellation.complete();
            // If the receiver is gone, nothing is left to be told.
            if let Err(error) = written.and_then(|()| out.flush()) {
                let _ = out.sender.send(Err(error));
            }
        });
        Self { pieces, cancelled }
    }
}

impl Drop for WriterThread {
    fn drop(&mut self) {
        self.cancelled.cancel();
    }
}

struct PieceWriter {
    piece: Vec<u8>,
    sender: SyncSender<io::Result<Bytes>>,
}

impl Write for PieceWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(PIECE_BYTES - self.piece.len());
        self.piece.extend_from_slice(&bytes[..count]);
        if self.piece.len() == PIECE_BYTES {
            self.flush()?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let piece = Bytes::from(std::mem::take(&mut self.piece));
        let sent = self.sender.send(Ok(piece));
        sent.map_err(|_| {
            io::Error::new(io::ErrorKind::BrokenPipe, "the reader of the body is gone")
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::mpsc;

    use super::*;
    use crate::body::BodyStream;

    fn all(body: Body) -> Vec<u8> {
        let pieces = BodyPieces::from(body).map(|piece| piece.expect("a piece"));
        pieces
            .inspect(|piece| assert!(!piece.is_empty()))
            .flatten()
            .collect()
    }

    #[test]
    fn pieces_are_the_whole_body() {
        let content: Vec<u8> = (0..100_000_u32).map(|at| at as u8).collect();
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(&content).expect("a file");
        let range = FileRange::new(Arc::new(file), 10, 90_000);
        assert_eq!(all(Body::File(range)), content[10..90_010]);
        assert_eq!(all(Body::Empty), b"");
        assert_eq!(all(Body::Bytes(Bytes::new())), b"");
        assert_eq!(all(Body::Bytes(content.clone().into())), content);
        let mut left = content
            .chunks(7_000)
            .map(Bytes::copy_from_slice)
            .collect::<Vec<_>>()
            .into_iter();
        let produced = BodyStream::produced(move || Ok(left.next()));
        assert_eq!(all(Body::Stream(produced)), content);
        let copy = content.clone();
        let written = BodyStream::written(move |out| out.write_all(&copy));
        assert_eq!(all(Body::Stream(written)), content);
    }

    #[test]
    fn error_or_panic_is_the_last_piece() {
        let failing: [fn(&mut dyn Write) -> io::Result<()>; 2] = [
            |out| {
                out.write_all(b"lost")?;
                Err(io::ErrorKind::TimedOut.into())
            },
            |_| panic!("on purpose"),
        ];
        for write in failing {
            let mut pieces = BodyPieces::from(Body::Stream(BodyStream::written(write)));
            assert!(pieces.next().expect("an error").is_err());
            assert!(pieces.next().is_none());
        }
        let file = Arc::new(tempfile::tempfile().expect("a file"));
        let mut pieces = BodyPieces::from(Body::File(FileRange::new(file, 0, 1)));
        assert!(pieces.next().expect("an error").is_err());
        assert!(pieces.next().is_none());
    }

    #[test]
    fn writer_is_cancelled_when_pieces_are_dropped() {
        let (ended, is_ended) = mpsc::channel();
        let waiting = BodyStream::written_with_cancellation(move |out, cancellation| {
            let (sender, receiver) = mpsc::channel::<()>();
            cancellation.on_cancel(move || drop(sender));
            out.write_all(b"first")?;
            out.flush()?;
            assert!(receiver.recv().is_err());
            ended.send(()).map_err(io::Error::other)
        });
        let mut pieces = BodyPieces::from(Body::Stream(waiting));
        assert_eq!(pieces.next().expect("a piece").expect("a piece"), "first");
        drop(pieces);
        is_ended.recv().expect("the writer ends");
    }
}
