//! A request body as a reader, whether it is complete or still being received.
//!
//! A body that is being received goes through a pipe: the connection writes what it receives, and a
//! handler's job reads it and waits for more. The pipe is bounded. While it is full the connection
//! reads nothing, so the job exerts back-pressure on the client.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, Cursor, Read};
use std::sync::Arc;

use crate::sync::{Condvar, Mutex};

/// Capacity of a pipe in bytes.
const PIPE_BYTES: usize = 256 * 1024;

/// Reads a request body. It borrows nothing and can be moved into a job.
///
/// If the handler has asked for a stream ([`BodyPolicy::Stream`](crate::BodyPolicy::Stream)), reading
/// waits for what the client has not sent yet: read in a job, not in
/// [`Handler::handle`](crate::Handler::handle). An error means that the rest will not be received: the
/// client has disconnected, was too slow, sent too much, or violated the framing. The response of the
/// handler is discarded then, and the client gets one that states the error.
pub struct BodyReader {
    source: PipeSource,
}

enum PipeSource {
    Whole(Cursor<Vec<u8>>),
    Pipe(Arc<Pipe>),
}

/// The part that the reader and the connection share.
struct Pipe {
    state: Mutex<PipeState>,
    /// Notified when bytes or the end have been written.
    changed: Condvar,
    /// Wakes the connection when there is room again.
    wake: Box<dyn Fn() + Send + Sync>,
}

struct PipeState {
    bytes: VecDeque<u8>,
    end: PipeEnd,
    writer: Writer,
}

enum PipeEnd {
    Open,
    Complete,
    Broken(io::ErrorKind, &'static str),
}

/// The source of the error of a reader: the rest of the body will not be received. It distinguishes the
/// client's error from those of files that a handler uses.
#[derive(Debug)]
pub(crate) struct IncompleteBody(&'static str);

impl IncompleteBody {
    /// Returns whether reading a body caused the error.
    pub(crate) fn is_source_of(error: &io::Error) -> bool {
        matches!(error.get_ref(), Some(source) if source.is::<Self>())
    }
}

impl fmt::Display for IncompleteBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for IncompleteBody {}

/// Whether the connection writes or waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Writer {
    Writing,
    /// Until at most this many bytes are left to be read.
    Waiting {
        wake_at: usize,
    },
}

/// The writing end of a pipe, for the connection. If it is dropped before the end of the body, reading
/// fails.
pub(crate) struct BodyWriter {
    pipe: Arc<Pipe>,
}

/// A handle of a request to a pipe, from which readers are made.
#[derive(Clone)]
pub(crate) struct PipeReaderHandle(Arc<Pipe>);

impl BodyReader {
    pub(crate) fn whole(body: Vec<u8>) -> Self {
        Self {
            source: PipeSource::Whole(Cursor::new(body)),
        }
    }

    /// True if reading would block.
    #[cfg(test)]
    pub(crate) fn would_wait(&self) -> bool {
        match &self.source {
            PipeSource::Whole(_) => false,
            PipeSource::Pipe(pipe) => {
                let state = pipe.state.lock();
                state.bytes.is_empty() && matches!(state.end, PipeEnd::Open)
            }
        }
    }
}

impl Read for BodyReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.source {
            PipeSource::Whole(body) => body.read(buffer),
            PipeSource::Pipe(pipe) => pipe.read(buffer),
        }
    }
}

impl PipeReaderHandle {
    pub(crate) fn reader(&self) -> BodyReader {
        BodyReader {
            source: PipeSource::Pipe(Arc::clone(&self.0)),
        }
    }
}

impl BodyWriter {
    /// Opens a pipe. `wake` is called on the reader's thread when there is room again after
    /// [`has_room`](Self::has_room) has returned false.
    pub(crate) fn new(wake: impl Fn() + Send + Sync + 'static) -> Self {
        let state = PipeState {
            bytes: VecDeque::new(),
            end: PipeEnd::Open,
            writer: Writer::Writing,
        };
        Self {
            pipe: Arc::new(Pipe {
                state: Mutex::new(state),
                changed: Condvar::default(),
                wake: Box::new(wake),
            }),
        }
    }

    pub(crate) fn reader_handle(&self) -> PipeReaderHandle {
        PipeReaderHandle(Arc::clone(&self.pipe))
    }

    /// False if the pipe is full: the connection must wait until it is woken.
    pub(crate) fn has_room(&self) -> bool {
        let mut state = self.pipe.state.lock();
        if state.bytes.len() >= PIPE_BYTES {
            // Not for every byte: a wake-up should be worth a read.
            let wake_at = PIPE_BYTES / 2;
            state.writer = Writer::Waiting { wake_at };
        }
        state.writer == Writer::Writing
    }

    /// Returns how many bytes have not been read. If they are more than `wake_at`, the connection is
    /// woken when only so many are left.
    pub(crate) fn unread(&self, wake_at: usize) -> usize {
        let mut state = self.pipe.state.lock();
        let unread = state.bytes.len();
        state.writer = if unread > wake_at {
            Writer::Waiting { wake_at }
        } else {
            Writer::Writing
        };
        unread
    }

    pub(crate) fn push(&self, bytes: &[u8]) {
        self.pipe.state.lock().bytes.extend(bytes);
        self.pipe.changed.notify_one();
    }

    /// Ends the body, which is complete.
    pub(crate) fn complete(self) {
        self.end(PipeEnd::Complete);
    }

    /// Ends the body, of which the rest will not be received.
    pub(crate) fn fail(self, kind: io::ErrorKind, reason: &'static str) {
        self.end(PipeEnd::Broken(kind, reason));
    }

    fn end(&self, end: PipeEnd) {
        let mut state = self.pipe.state.lock();
        if let PipeEnd::Open = state.end {
            state.end = end;
        }
        self.pipe.changed.notify_all();
    }
}

impl Drop for BodyWriter {
    fn drop(&mut self) {
        self.end(PipeEnd::Broken(
            io::ErrorKind::ConnectionAborted,
            "the connection is closed",
        ));
    }
}

impl Pipe {
    fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let mut state = self.state.lock();
        loop {
            if !state.bytes.is_empty() {
                let count = state.bytes.read(buffer)?;
                if let Writer::Waiting { wake_at } = state.writer
                    && state.bytes.len() <= wake_at
                {
                    state.writer = Writer::Writing;
                    drop(state);
                    (self.wake)();
                }
                return Ok(count);
            }
            match state.end {
                PipeEnd::Complete => return Ok(0),
                PipeEnd::Broken(kind, reason) => {
                    return Err(io::Error::new(kind, IncompleteBody(reason)));
                }
                PipeEnd::Open => state = self.changed.wait(state),
            }
        }
    }
}

impl fmt::Debug for BodyReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BodyReader")
    }
}

impl fmt::Debug for BodyWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BodyWriter")
    }
}

impl fmt::Debug for PipeReaderHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PipeReaderHandle")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;

    use super::*;

    #[test]
    fn bytes_are_read_in_order_until_the_end() {
        let writer = BodyWriter::new(|| {});
        let mut reader = writer.reader_handle().reader();
        let read = thread::spawn(move || {
            let mut body = Vec::new();
            reader.read_to_end(&mut body).map(|_| body)
        });
        for byte in 0..=255 {
            writer.push(&[byte]);
        }
        writer.complete();
        let body = read.join().expect("a reader").expect("all of it");
        assert_eq!(body, (0..=255).collect::<Vec<u8>>());
    }

    #[test]
    fn full_pipe_has_no_room_until_half_is_read() {
        let woken = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&woken);
        let writer = BodyWriter::new(move || {
            count.fetch_add(1, Ordering::Relaxed);
        });
        writer.push(&vec![b'x'; PIPE_BYTES - 1]);
        assert!(writer.has_room());
        writer.push(b"x");
        assert!(!writer.has_room());
        let mut reader = writer.reader_handle().reader();
        let mut buffer = vec![0; PIPE_BYTES / 2 - 1];
        reader.read_exact(&mut buffer).expect("bytes");
        assert!(!writer.has_room());
        assert_eq!(woken.load(Ordering::Relaxed), 0);
        reader.read_exact(&mut [0]).expect("a byte");
        assert_eq!(woken.load(Ordering::Relaxed), 1);
        assert!(writer.has_room());
        reader.read_exact(&mut buffer).expect("bytes");
        assert_eq!(woken.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn connection_is_woken_when_as_few_bytes_are_left_as_it_waits_for() {
        let woken = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&woken);
        let writer = BodyWriter::new(move || {
            count.fetch_add(1, Ordering::Relaxed);
        });
        let mut reader = writer.reader_handle().reader();
        writer.push(b"abcdef");
        assert_eq!(writer.unread(6), 6);
        reader.read_exact(&mut [0]).expect("a byte");
        assert_eq!(woken.load(Ordering::Relaxed), 0);
        assert_eq!(writer.unread(3), 5);
        for (left, wakes) in [(4, 0), (3, 1), (2, 1)] {
            reader.read_exact(&mut [0]).expect("a byte");
            assert_eq!(woken.load(Ordering::Relaxed), wakes, "{left}");
        }
    }

    #[test]
    fn failed_body_is_error_after_received_bytes() {
        for failed in [true, false] {
            let writer = BodyWriter::new(|| {});
            let mut reader = writer.reader_handle().reader();
            writer.push(b"ab");
            let kind = if failed {
                writer.fail(io::ErrorKind::TimedOut, "too slow");
                io::ErrorKind::TimedOut
            } else {
                drop(writer);
                io::ErrorKind::ConnectionAborted
            };
            let mut body = Vec::new();
            let error = reader.read_to_end(&mut body).expect_err("no end");
            assert_eq!((error.kind(), &body[..]), (kind, &b"ab"[..]));
        }
    }
}
