//! What a content is written to by somebody who may wait: gathers pieces and mails them to the
//! connection's event loop, one at a time.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};

use bytes::Bytes;
use mio::Token;

use crate::body::stream::{BodySource, WriteBody};
use crate::net::event_loop::mailbox::{Mailbox, WorkerMessage};

/// A piece goes when it has this length. Two such are all that a writer is ahead of its client:
/// one on its way and one in the making.
const PIECE_BYTES: usize = 32 * 1024;

pub(crate) struct ResponseBodyWriter<'a> {
    mailbox: &'a Arc<Mailbox>,
    token: Token,
    piece: Vec<u8>,
    /// Tells when the piece before is taken.
    taken: Option<Receiver<()>>,
}

/// Runs `write` to its end; what it writes is mailed to `mailbox` for `token`.
pub(crate) fn write_all(write: WriteBody, mailbox: &Arc<Mailbox>, token: Token) -> io::Result<()> {
    let mut writer = ResponseBodyWriter {
        mailbox,
        token,
        piece: Vec::new(),
        taken: None,
    };
    write(&mut writer)?;
    writer.flush()?;
    writer.wait_until_taken()
}

impl ResponseBodyWriter<'_> {
    fn wait_until_taken(&mut self) -> io::Result<()> {
        const GONE: &str = "the connection that takes the body is closed";
        match self.taken.take() {
            Some(taken) => {
                let gone = |_| io::Error::new(io::ErrorKind::BrokenPipe, GONE);
                taken.recv().map_err(gone)
            }
            None => Ok(()),
        }
    }
}

impl Write for ResponseBodyWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.piece.capacity() == 0 {
            self.piece.reserve_exact(PIECE_BYTES);
        }
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
        self.wait_until_taken()?;
        let (taken, is_taken) = sync_channel(1);
        let piece = Bytes::from(std::mem::take(&mut self.piece));
        let source = BodySource::Waiting(taken);
        let mail = WorkerMessage::Piece(self.token, Ok(Some((piece, source))));
        self.mailbox.send(mail);
        self.taken = Some(is_taken);
        Ok(())
    }
}
