//! TLS on a socket, from the end of the handshake on (RFC 8446, RFC 5246).
//!
//! What is sent is encrypted in portions and handed to the kernel at once; what the kernel does not
//! take is held back, and nothing more is encrypted before that is gone. So a connection holds one
//! portion at most, and an idle one nothing but its keys.

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, BufRead, Write};
use std::os::unix::fs::FileExt;

use mio::event::Source;
use mio::{Interest, Registry, Token};
use rustls::ServerConnection;

use super::socket::Socket;
use super::{More, Received, Transport};

/// What is encrypted at once: four records, for one system call.
const PORTION_BYTES: usize = 64 * 1024;

thread_local! {
    /// Where parts of files are read into on their way; each event loop has one.
    static FILE_PART: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// A socket with an established session.
#[derive(Debug)]
pub(crate) struct TlsStream {
    socket: Socket,
    session: ServerConnection,
    output: Output,
    /// What was encrypted last and is perhaps not handed over.
    portion: u32,
    /// Whether what is encrypted waits for more, to go together.
    more: More,
    /// Whether the socket may have more than was read from it.
    input: Input,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Output {
    Open,
    /// The end is said; the socket's is to follow when it has taken that.
    Closing,
    Closed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Input {
    MayHaveMore,
    Drained,
}

impl TlsStream {
    pub(crate) fn new(socket: Socket, mut session: ServerConnection) -> Self {
        // Portions are a limit already, and one that is never in the way.
        session.set_buffer_limit(None);
        Self {
            socket,
            session,
            output: Output::Open,
            portion: 0,
            more: More::Last,
            input: Input::MayHaveMore,
        }
    }

    /// Moves what is decrypted to `room`, within its capacity; `None` if there is nothing.
    fn take(&mut self, room: &mut Vec<u8>) -> io::Result<Option<Received>> {
        let mut reader = self.session.reader();
        let before = room.len();
        while room.len() < room.capacity() {
            let there = match reader.fill_buf() {
                Ok(there) => there,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // Without a word of goodbye, too: what HTTP has announced is checked by its own
                // rules.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => &[],
                Err(error) => return Err(error),
            };
            if there.is_empty() {
                match room.len() - before {
                    0 => return Ok(Some(Received::Eof)),
                    // It is met again.
                    count => return Ok(Some(Received::Partial(count))),
                }
            }
            let count = there.len().min(room.capacity() - room.len());
            room.extend_from_slice(&there[..count]);
            reader.consume(count);
        }
        let count = room.len() - before;
        if count == 0 {
            return Ok(None);
        }
        let is_all = self.input == Input::Drained && self.is_read();
        Ok(Some(match is_all {
            true => Received::Drained(count),
            false => Received::Partial(count),
        }))
    }

    /// True if nothing is decrypted that was not taken.
    fn is_read(&mut self) -> bool {
        let left = self.session.reader().fill_buf().map(<[u8]>::len);
        matches!(left, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Reads from the socket once and decrypts.
    fn decrypt(&mut self) -> io::Result<()> {
        let mut reading = Reading {
            socket: &mut self.socket,
            input: &mut self.input,
        };
        self.session.read_tls(&mut reading)?;
        if let Err(error) = self.session.process_new_packets() {
            // The peer may be told why, if the socket takes it.
            let _ = self.session.write_tls(&mut self.socket);
            return Err(io::Error::new(io::ErrorKind::InvalidData, error));
        }
        // What answers a message of TLS itself.
        match self.flush() {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ => Ok(()),
        }
    }

    /// Encrypts some of `bytes`, and hands it over if nothing more follows.
    fn encrypt(&mut self, bytes: &[u8], more: More) -> io::Result<usize> {
        let portion = &bytes[..bytes.len().min(PORTION_BYTES)];
        let count = self.session.writer().write(portion)?;
        self.portion = self.portion.saturating_add(count as u32);
        self.more = more;
        if more == More::Last {
            self.hand_over()?;
        }
        Ok(count)
    }

    /// What the kernel does not take is held back.
    fn hand_over(&mut self) -> io::Result<()> {
        self.more = More::Last;
        match self.flush() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            result => result,
        }
    }
}

/// A socket that is read, and remembers whether that was all it had.
struct Reading<'a> {
    socket: &'a mut Socket,
    input: &'a mut Input,
}

impl io::Read for Reading<'_> {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        let count = self.socket.read(room)?;
        *self.input = match count < room.len() {
            true => Input::Drained,
            false => Input::MayHaveMore,
        };
        Ok(count)
    }
}

impl Transport for TlsStream {
    fn recv(&mut self, room: &mut Vec<u8>) -> io::Result<Received> {
        if let Some(received) = self.take(room)? {
            return Ok(received);
        }
        self.decrypt()?;
        // Half a record, or one that is no content: others have their turn before there is more.
        Ok(self.take(room)?.unwrap_or(Received::Partial(0)))
    }

    fn send(&mut self, bytes: &[u8], more: More) -> io::Result<usize> {
        self.encrypt(bytes, more)
    }

    fn send_pair(&mut self, first: &[u8], second: &[u8]) -> io::Result<usize> {
        let count = self.encrypt(first, More::MoreToCome)?;
        let rest = match count == first.len() && count < PORTION_BYTES {
            true => self.encrypt(second, More::MoreToCome)?,
            false => 0,
        };
        self.hand_over()?;
        Ok(count + rest)
    }

    fn send_file(&mut self, file: &File, offset: u64, len: usize) -> io::Result<usize> {
        FILE_PART.with_borrow_mut(|part| {
            part.resize(PORTION_BYTES, 0);
            let len = len.min(PORTION_BYTES);
            match file.read_at(&mut part[..len], offset)? {
                0 => Ok(0),
                count => self.encrypt(&part[..count], More::Last),
            }
        })
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        self.session.send_close_notify();
        self.output = Output::Closing;
        self.hand_over()
    }

    fn unacknowledged(&self) -> Option<u32> {
        Some(self.socket.unacknowledged()?.saturating_add(self.portion))
    }

    fn holds_back(&self) -> bool {
        self.more == More::Last && self.session.wants_write()
    }

    fn flush(&mut self) -> io::Result<()> {
        while self.session.wants_write() {
            self.session.write_tls(&mut self.socket)?;
        }
        self.portion = 0;
        if self.output == Output::Closing {
            self.output = Output::Closed;
            self.socket.shutdown_write()?;
        }
        Ok(())
    }
}

impl Drop for TlsStream {
    fn drop(&mut self) {
        if self.output == Output::Open && !self.session.wants_write() {
            // A client can tell an end from a cut (RFC 8446 §6.1), if the socket takes it.
            self.session.send_close_notify();
            let _ = self.session.write_tls(&mut self.socket);
        }
    }
}

impl Source for TlsStream {
    fn register(&mut self, r: &Registry, t: Token, i: Interest) -> io::Result<()> {
        self.socket.register(r, t, i)
    }

    fn reregister(&mut self, r: &Registry, t: Token, i: Interest) -> io::Result<()> {
        self.socket.reregister(r, t, i)
    }

    fn deregister(&mut self, r: &Registry) -> io::Result<()> {
        self.socket.deregister(r)
    }
}
