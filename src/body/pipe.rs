//! A request's content as something to read, whether it is all there or still coming in.
//!
//! One that is coming in goes through a pipe: the connection puts in what it receives, a handler's
//! job takes it out and waits for more. The pipe is bounded; while it is full the connection reads
//! nothing, so that the job's pace becomes the client's.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, Cursor, Read};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// Bytes that wait in a pipe for their reader.
const PIPE_BYTES: usize = 256 * 1024;

/// Reads a request's content; it borrows from nothing and can go along into a job.
///
/// If the handler has asked for the content as a stream
/// ([`BodyPolicy::Stream`](crate::BodyPolicy::Stream)), reading waits for what the client has not
/// sent yet: read in a job, not in [`Handler::handle`](crate::Handler::handle). An error means that
/// the rest will not come: the client has gone, was too slow, sent too much, or broke the framing.
/// Whatever response is made then, the client gets the one that says so.
pub struct BodyReader {
    source: Source,
}

enum Source {
    Whole(Cursor<Vec<u8>>),
    Pipe(Arc<Pipe>),
}

/// The reader's and the connection's common part.
struct Pipe {
    flow: Mutex<PipeState>,
    /// Bytes, or the end.
    news: Condvar,
    /// Tells the connection that there is room again.
    wake: Box<dyn Fn() + Send + Sync>,
}

struct PipeState {
    bytes: VecDeque<u8>,
    end: End,
    writer: Writer,
}

enum End {
    Open,
    Complete,
    Broken(io::ErrorKind, &'static str),
}

/// What the connection does about the content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Writer {
    Receives,
    WaitsForRoom,
}

/// Where a connection puts the content that it receives. If it is dropped before the end, reading
/// fails.
pub(crate) struct BodyWriter {
    pipe: Arc<Pipe>,
}

/// What a request holds of a pipe: enough to read from it.
#[derive(Clone)]
pub(crate) struct PipeReaderHandle(Arc<Pipe>);

impl BodyReader {
    pub(crate) fn whole(content: Vec<u8>) -> Self {
        Self {
            source: Source::Whole(Cursor::new(content)),
        }
    }

    /// True if reading would wait, for those who must not.
    #[cfg(test)]
    pub(crate) fn would_wait(&self) -> bool {
        match &self.source {
            Source::Whole(_) => false,
            Source::Pipe(pipe) => {
                let flow = pipe.lock();
                flow.bytes.is_empty() && matches!(flow.end, End::Open)
            }
        }
    }
}

impl Read for BodyReader {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        match &mut self.source {
            Source::Whole(content) => content.read(room),
            Source::Pipe(pipe) => pipe.read(room),
        }
    }
}

impl PipeReaderHandle {
    pub(crate) fn reader(&self) -> BodyReader {
        BodyReader {
            source: Source::Pipe(Arc::clone(&self.0)),
        }
    }
}

impl BodyWriter {
    /// A pipe's writing end; `wake` is called, on the reader's thread, when there is room again
    /// after [`has_room`](Self::has_room) has said no.
    pub(crate) fn new(wake: impl Fn() + Send + Sync + 'static) -> Self {
        let flow = PipeState {
            bytes: VecDeque::new(),
            end: End::Open,
            writer: Writer::Receives,
        };
        Self {
            pipe: Arc::new(Pipe {
                flow: Mutex::new(flow),
                news: Condvar::new(),
                wake: Box::new(wake),
            }),
        }
    }

    pub(crate) fn reading_end(&self) -> PipeReaderHandle {
        PipeReaderHandle(Arc::clone(&self.pipe))
    }

    /// False if the connection is to wait until it is woken.
    pub(crate) fn has_room(&self) -> bool {
        let mut flow = self.pipe.lock();
        if flow.bytes.len() >= PIPE_BYTES {
            flow.writer = Writer::WaitsForRoom;
        }
        flow.writer == Writer::Receives
    }

    pub(crate) fn push(&self, bytes: &[u8]) {
        self.pipe.lock().bytes.extend(bytes);
        self.pipe.news.notify_one();
    }

    /// The content is complete.
    pub(crate) fn complete(self) {
        self.end(End::Complete);
    }

    /// The rest will not come.
    pub(crate) fn fail(self, kind: io::ErrorKind, reason: &'static str) {
        self.end(End::Broken(kind, reason));
    }

    fn end(&self, end: End) {
        let mut flow = self.pipe.lock();
        if let End::Open = flow.end {
            flow.end = end;
        }
        self.pipe.news.notify_all();
    }
}

impl Drop for BodyWriter {
    fn drop(&mut self) {
        self.end(End::Broken(
            io::ErrorKind::ConnectionAborted,
            "the connection is closed",
        ));
    }
}

impl Pipe {
    fn lock(&self) -> MutexGuard<'_, PipeState> {
        // Nothing that is done under the lock can panic half way.
        self.flow.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self, room: &mut [u8]) -> io::Result<usize> {
        if room.is_empty() {
            return Ok(0);
        }
        let mut flow = self.lock();
        loop {
            if !flow.bytes.is_empty() {
                let count = flow.bytes.read(room)?;
                // Not for every byte: a connection that is woken should find something to do.
                if flow.writer == Writer::WaitsForRoom && flow.bytes.len() <= PIPE_BYTES / 2 {
                    flow.writer = Writer::Receives;
                    drop(flow);
                    (self.wake)();
                }
                return Ok(count);
            }
            match flow.end {
                End::Complete => return Ok(0),
                End::Broken(kind, reason) => return Err(io::Error::new(kind, reason)),
                End::Open => {
                    let woken = self.news.wait(flow);
                    flow = woken.unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }
}

impl fmt::Debug for BodyReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ContentReader")
    }
}

impl fmt::Debug for BodyWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ContentWriter")
    }
}

impl fmt::Debug for PipeReaderHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PipeEnd")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;

    use super::*;

    #[test]
    fn what_is_put_in_comes_out() {
        let writer = BodyWriter::new(|| {});
        let mut reader = writer.reading_end().reader();
        let read = thread::spawn(move || {
            let mut content = Vec::new();
            reader.read_to_end(&mut content).map(|_| content)
        });
        for byte in 0..=255 {
            writer.push(&[byte]);
        }
        writer.complete();
        let content = read.join().expect("a reader").expect("all of it");
        assert_eq!(content, (0..=255).collect::<Vec<u8>>());
    }

    #[test]
    fn a_full_pipe_has_no_room_until_half_of_it_is_read() {
        let woken = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&woken);
        let writer = BodyWriter::new(move || {
            count.fetch_add(1, Ordering::Relaxed);
        });
        writer.push(&vec![b'x'; PIPE_BYTES - 1]);
        assert!(writer.has_room());
        writer.push(b"x");
        assert!(!writer.has_room());
        let mut reader = writer.reading_end().reader();
        let mut room = vec![0; PIPE_BYTES / 2 - 1];
        reader.read_exact(&mut room).expect("bytes");
        assert!(!writer.has_room());
        assert_eq!(woken.load(Ordering::Relaxed), 0);
        reader.read_exact(&mut [0]).expect("a byte");
        assert_eq!(woken.load(Ordering::Relaxed), 1);
        assert!(writer.has_room());
        reader.read_exact(&mut room).expect("bytes");
        assert_eq!(woken.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn an_end_that_is_none_is_an_error_behind_what_came() {
        for failed in [true, false] {
            let writer = BodyWriter::new(|| {});
            let mut reader = writer.reading_end().reader();
            writer.push(b"ab");
            let kind = match failed {
                true => {
                    writer.fail(io::ErrorKind::TimedOut, "too slow");
                    io::ErrorKind::TimedOut
                }
                false => {
                    drop(writer);
                    io::ErrorKind::ConnectionAborted
                }
            };
            let mut content = Vec::new();
            let error = reader.read_to_end(&mut content).expect_err("no end");
            assert_eq!((error.kind(), &content[..]), (kind, &b"ab"[..]));
        }
    }
}
