//! The writer for a response body that a thread writes, which may block: gathers chunks and sends
//! them to the connection's worker, one at a time.

use std::io::{self, Write};
use std::sync::mpsc::{Receiver, sync_channel};

use bytes::Bytes;

use crate::body::Cancellation;
use crate::body::stream::{BodySource, WriteBody};
use crate::net::worker::message::{ExchangeEvent, ReplyTo};

/// A chunk is sent when it has this length. A writer is at most two chunks ahead of the client: one
/// in transit and one being filled.
const CHUNK_BYTES: usize = 32 * 1024;

struct ResponseBodyWriter<'a> {
    reply_to: &'a ReplyTo,
    chunk: Vec<u8>,
    /// Receives when the previous chunk has been taken.
    taken: Option<Receiver<()>>,
}

/// Runs `body` to its end and sends what it writes to `reply_to`.
pub(crate) fn write_all(body: WriteBody, reply_to: &ReplyTo) -> io::Result<()> {
    let WriteBody { write, thread } = body;
    // The thread also waits until the client has taken the last chunk.
    let _until_the_end = thread;
    let mut writer = ResponseBodyWriter {
        reply_to,
        chunk: Vec::new(),
        taken: None,
    };
    let cancellation = Cancellation::new(reply_to.cancelled.clone());
    let written = write(&mut writer, &cancellation);
    cancellation.complete();
    written?;
    writer.flush()?;
    writer.wait_until_taken()
}

impl ResponseBodyWriter<'_> {
    fn wait_until_taken(&mut self) -> io::Result<()> {
        match self.taken.take() {
            Some(taken) => taken.recv().map_err(|_| closed()),
            None => Ok(()),
        }
    }
}

fn closed() -> io::Error {
    const CLOSED: &str = "the connection that takes the body is closed";
    io::Error::new(io::ErrorKind::BrokenPipe, CLOSED)
}

impl Write for ResponseBodyWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.reply_to.cancelled.is_cancelled() {
            return Err(closed());
        }
        if self.chunk.capacity() == 0 {
            self.chunk.reserve_exact(CHUNK_BYTES);
        }
        let count = bytes.len().min(CHUNK_BYTES - self.chunk.len());
        self.chunk.extend_from_slice(&bytes[..count]);
        if self.chunk.len() == CHUNK_BYTES {
            self.flush()?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.chunk.is_empty() {
            return Ok(());
        }
        self.wait_until_taken()?;
        let (taken, is_taken) = sync_channel(1);
        let chunk = Bytes::from(std::mem::take(&mut self.chunk));
        let next = BodySource::Waiting(taken);
        self.reply_to
            .send(ExchangeEvent::BodyChunk(Ok(Some((chunk, next)))));
        self.taken = Some(is_taken);
        Ok(())
    }
}
