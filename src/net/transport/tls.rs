//! TLS on a socket after the handshake (RFC 8446, RFC 5246).
//!
//! What is sent is encrypted in portions, each written to the socket at once. What the kernel does
//! not take is held back, and nothing more is encrypted before it is flushed. So a connection holds
//! at most one portion, and an idle one nothing but its keys.

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, BufRead, Write};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use mio::event::Source;
use mio::{Interest, Registry, Token};
use rustls::{ProtocolVersion, ServerConnection};

use super::socket::Socket;
use super::{MAX_CALL_BYTES, More, Received, Transport};
use crate::http::forwarded::TlsVersion;
use crate::proto::h2::machine::Authorities;
use crate::proto::peer_state::PeerState;
use crate::tls::{ServedCertificate, is_http2};

/// Bytes encrypted at once: four records, for one system call.
const PORTION_BYTES: usize = MAX_CALL_BYTES;

thread_local! {
    /// The buffer through which files are read; one per event loop.
    static FILE_BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// A socket with an established session.
#[derive(Debug)]
pub(crate) struct TlsStream {
    socket: Socket,
    session: ServerConnection,
    output: Output,
    /// Bytes that are encrypted and not written to the socket; no more than they were as plaintext.
    unflushed: u32,
    /// `MoreToCome` while encrypted bytes wait for more, to be written together.
    more: More,
    /// Whether the socket may have unread bytes.
    input: TlsInput,
    /// The certificate, if the client has requested a name; until it is taken.
    served: Option<ServedCertificate>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Output {
    Open,
    /// `close_notify` is queued; the socket is shut down when it is flushed.
    Closing,
    Closed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TlsInput {
    MayHaveMore,
    Drained,
}

impl TlsStream {
    pub(crate) fn new(
        socket: Socket,
        mut session: ServerConnection,
        served: Option<ServedCertificate>,
    ) -> Self {
        // Portions limit the buffer already, and rustls' limit could split one.
        session.set_buffer_limit(None);
        Self {
            socket,
            session,
            output: Output::Open,
            unflushed: 0,
            more: More::Last,
            input: TlsInput::MayHaveMore,
            served,
        }
    }

    /// Returns true if the client has selected HTTP/2.
    pub(crate) fn is_http2(&self) -> bool {
        is_http2(&self.session)
    }

    /// Returns the version of the protocol.
    pub(crate) fn version(&self) -> Option<TlsVersion> {
        match self.session.protocol_version()? {
            ProtocolVersion::TLSv1_2 => Some(TlsVersion::Tls12),
            ProtocolVersion::TLSv1_3 => Some(TlsVersion::Tls13),
            _ => None,
        }
    }

    /// Takes what the client may use the connection for, if it has requested a name.
    pub(crate) fn take_authorities(&mut self) -> Option<Arc<dyn Authorities>> {
        Some(Arc::new(self.served.take()?))
    }

    /// Moves decrypted bytes to `buffer`, within its capacity; `None` if no bytes are decrypted.
    fn take(&mut self, buffer: &mut Vec<u8>) -> io::Result<Option<Received>> {
        let mut reader = self.session.reader();
        let before = buffer.len();
        while buffer.len() < buffer.capacity() {
            let bytes = match reader.fill_buf() {
                Ok(bytes) => bytes,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // The end without `close_notify` is accepted: HTTP detects truncation by its own
                // framing.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => &[],
                Err(error) => return Err(error),
            };
            if bytes.is_empty() {
                match buffer.len() - before {
                    0 => return Ok(Some(Received::Eof)),
                    // The next call returns `Eof`.
                    count => return Ok(Some(Received::Partial(count))),
                }
            }
            let count = bytes.len().min(buffer.capacity() - buffer.len());
            buffer.extend_from_slice(&bytes[..count]);
            reader.consume(count);
        }
        let count = buffer.len() - before;
        if count == 0 {
            return Ok(None);
        }
        Ok(Some(if self.input == TlsInput::Drained && self.is_read() {
            Received::Drained(count)
        } else {
            Received::Partial(count)
        }))
    }

    /// Returns true if all decrypted bytes have been taken.
    fn is_read(&mut self) -> bool {
        let left = self.session.reader().fill_buf().map(<[u8]>::len);
        matches!(left, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Reads from the socket once and decrypts what was read.
    fn decrypt(&mut self) -> io::Result<()> {
        let mut reader = SocketReader {
            socket: &mut self.socket,
            input: &mut self.input,
        };
        self.session.read_tls(&mut reader)?;
        if let Err(error) = self.session.process_new_packets() {
            // Sends the alert, if the socket takes it.
            let _ = self.session.write_tls(&mut self.socket);
            return Err(io::Error::new(io::ErrorKind::InvalidData, error));
        }
        // A response to a TLS message, a key update for example.
        match self.flush() {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ => Ok(()),
        }
    }

    /// Encrypts a portion of `bytes`, and writes it to the socket unless more follows.
    fn encrypt(&mut self, bytes: &[u8], more: More) -> io::Result<usize> {
        let portion = &bytes[..bytes.len().min(PORTION_BYTES)];
        let count = self.session.writer().write(portion)?;
        self.unflushed = self.unflushed.saturating_add(count as u32);
        self.more = more;
        if more == More::Last {
            self.write_out()?;
        }
        Ok(count)
    }

    /// Writes what is encrypted; what the kernel does not take is held back.
    fn write_out(&mut self) -> io::Result<()> {
        self.more = More::Last;
        match self.flush() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            result => result,
        }
    }
}

impl Authorities for ServedCertificate {
    fn is_misdirected(&self, host: &str) -> bool {
        Self::is_misdirected(self, host)
    }
}

/// Reads from a socket and records whether the read has drained it.
struct SocketReader<'a> {
    socket: &'a mut Socket,
    input: &'a mut TlsInput,
}

impl io::Read for SocketReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.socket.read(buffer)?;
        *self.input = if count < buffer.len() {
            TlsInput::Drained
        } else {
            TlsInput::MayHaveMore
        };
        Ok(count)
    }
}

impl Transport for TlsStream {
    fn recv(&mut self, buffer: &mut Vec<u8>) -> io::Result<Received> {
        if let Some(received) = self.take(buffer)? {
            return Ok(received);
        }
        self.decrypt()?;
        // A partial record, or one without application data: the next read is left to the next call,
        // so that such records do not keep the event loop busy.
        Ok(self.take(buffer)?.unwrap_or(Received::Partial(0)))
    }

    fn send(&mut self, bytes: &[u8], more: More) -> io::Result<usize> {
        self.encrypt(bytes, more)
    }

    fn send_pair(&mut self, first: &[u8], second: &[u8]) -> io::Result<usize> {
        let count = self.encrypt(first, More::MoreToCome)?;
        let rest = if count == first.len() && count < PORTION_BYTES {
            self.encrypt(second, More::MoreToCome)?
        } else {
            0
        };
        self.write_out()?;
        Ok(count + rest)
    }

    fn send_file(&mut self, file: &File, offset: u64, len: usize) -> io::Result<usize> {
        FILE_BUFFER.with_borrow_mut(|buffer| {
            buffer.resize(PORTION_BYTES, 0);
            let len = len.min(PORTION_BYTES);
            match file.read_at(&mut buffer[..len], offset)? {
                0 => Ok(0),
                count => self.encrypt(&buffer[..count], More::Last),
            }
        })
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        self.session.send_close_notify();
        self.output = Output::Closing;
        self.write_out()
    }

    fn abort(&mut self) {
        self.output = Output::Closed;
        self.socket.abort();
    }

    fn peer_state(&self) -> Option<PeerState> {
        let state = self.socket.peer_state()?;
        Some(PeerState {
            unacknowledged: state.unacknowledged.saturating_add(self.unflushed),
            ..state
        })
    }

    fn holds_back(&self) -> bool {
        self.more == More::Last && self.session.wants_write()
    }

    fn flush(&mut self) -> io::Result<()> {
        while self.session.wants_write() {
            let count = self.session.write_tls(&mut self.socket)?;
            self.unflushed = self.unflushed.saturating_sub(count as u32);
        }
        self.unflushed = 0;
        if self.output == Output::Closing {
            self.output = Output::Closed;
            self.socket.shutdown_write()?;
        }
        Ok(())
    }

    fn limit_unsent(&self, bytes: u32) {
        self.socket.limit_unsent(bytes);
    }
}

impl Drop for TlsStream {
    fn drop(&mut self) {
        if self.output == Output::Open && !self.session.wants_write() {
            // `close_notify` tells the end from a truncation (RFC 8446 §6.1), if the socket takes it.
            self.session.send_close_notify();
            let _ = self.session.write_tls(&mut self.socket);
        }
    }
}

impl Source for TlsStream {
    fn register(
        &mut self,
        registry: &Registry,
        token: Token,
        interest: Interest,
    ) -> io::Result<()> {
        self.socket.register(registry, token, interest)
    }

    fn reregister(
        &mut self,
        registry: &Registry,
        token: Token,
        interest: Interest,
    ) -> io::Result<()> {
        self.socket.reregister(registry, token, interest)
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        self.socket.deregister(registry)
    }
}
