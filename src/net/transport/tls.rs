//! TLS on a socket after the handshake (RFC 8446, RFC 5246).
//!
//! Bytes are encrypted in portions of 60 KiB. Records that the kernel does not take are held, and the caller
//! sends nothing more until they are flushed ([`Transport::holds_back`]). So a connection holds one portion,
//! and at most one record more.

use std::cell::RefCell;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use mio::event::Source;
use mio::{Interest, Registry, Token};
use rustls::ProtocolVersion;

use super::socket::Socket;
use super::{MAX_CALL_BYTES, More, Received, Transport};
use crate::http::forwarded::TlsVersion;
use crate::proto::h2::machine::Authorities;
use crate::proto::peer_state::PeerState;
use crate::tls::{MAX_CONTENT_BYTES, ServedCertificate, Session, SocketRead, is_http2};

/// Bytes encrypted at once: four records, for one system call.
const PORTION_BYTES: usize = MAX_CALL_BYTES;

thread_local! {
    /// The buffer through which files are read, and in which short parts become one record; one per
    /// thread.
    static PLAINTEXT: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// A socket with an established session.
#[derive(Debug)]
pub(crate) struct TlsStream {
    socket: Socket,
    session: Session,
    output: Output,
    /// `MoreToCome` while encrypted bytes wait for more, to be written together.
    more: More,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Output {
    Open,
    /// `close_notify` is queued; the socket is shut down when it is flushed.
    Closing,
    Closed,
}

/// Lends a buffer of `PORTION_BYTES`.
fn with_plaintext_buffer<T>(use_buffer: impl FnOnce(&mut [u8]) -> T) -> T {
    PLAINTEXT.with_borrow_mut(|buffer| {
        buffer.resize(PORTION_BYTES, 0);
        use_buffer(buffer)
    })
}

/// Writes the records of a session to its socket.
///
/// # Errors
///
/// Those of the socket: `WouldBlock` if it does not take all of them now.
pub(crate) fn send_records(session: &mut Session, socket: &mut Socket) -> io::Result<()> {
    while !session.records().is_empty() {
        match socket.send(session.records(), More::Last) {
            Ok(count) => session.on_sent(count),
            Err(error) => {
                session.hold_records();
                return Err(error);
            }
        }
    }
    Ok(())
}

impl TlsStream {
    pub(crate) fn new(socket: Socket, mut session: Session) -> Self {
        if !is_http2(session.state()) {
            // Clients of HTTP/1.1 do not use a connection for other names.
            session.take_served();
        }
        Self {
            socket,
            session,
            output: Output::Open,
            more: More::Last,
        }
    }

    /// Returns true if HTTP/2 is negotiated (ALPN).
    pub(crate) fn is_http2(&self) -> bool {
        is_http2(self.session.state())
    }

    /// Returns the version of the protocol.
    pub(crate) fn version(&self) -> Option<TlsVersion> {
        match self.session.state().protocol_version()? {
            ProtocolVersion::TLSv1_2 => Some(TlsVersion::Tls12),
            ProtocolVersion::TLSv1_3 => Some(TlsVersion::Tls13),
            _ => None,
        }
    }

    /// Takes what the client may use the connection for, if it has requested a name.
    pub(crate) fn take_authorities(&mut self) -> Option<Arc<dyn Authorities>> {
        Some(Arc::new(self.session.take_served()?))
    }

    /// Reads from the socket once, and decrypts what was read.
    fn receive(&mut self, buffer: &mut Vec<u8>) -> io::Result<SocketRead> {
        let result = self.session.receive(&mut self.socket, buffer);
        // A response to a message of TLS, or the alert after an error, if the socket takes it.
        match self.flush() {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => result.and(Err(error)),
            _ => result,
        }
    }

    /// Encrypts a portion of `bytes`, and writes it to the socket unless more follows.
    fn encrypt(&mut self, bytes: &[u8], more: More) -> io::Result<usize> {
        let portion = &bytes[..bytes.len().min(PORTION_BYTES)];
        self.session.encrypt(portion).map_err(io::Error::other)?;
        self.more = more;
        if more == More::Last {
            self.write_out()?;
        }
        Ok(portion.len())
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

impl Transport for TlsStream {
    fn recv(&mut self, buffer: &mut Vec<u8>) -> io::Result<Received> {
        let before = buffer.len();
        let read = if self.session.has_plaintext() {
            self.session.take_plaintext(buffer);
            // The socket may have received more since it was read.
            SocketRead::Partial
        } else if self.session.has_ended() {
            SocketRead::Eof
        } else {
            self.receive(buffer)?
        };
        let count = buffer.len() - before;
        let has_ended = self.session.has_ended();
        Ok(match read {
            _ if self.session.has_plaintext() => Received::Partial(count),
            _ if has_ended && count == 0 => Received::Eof,
            SocketRead::Drained if !has_ended => Received::Drained(count),
            // The next call returns `Eof`, or reads on. This one returns even without application data: a
            // loop here would let a client that sends empty records keep the event loop busy.
            _ => Received::Partial(count),
        })
    }

    fn send(&mut self, bytes: &[u8], more: More) -> io::Result<usize> {
        self.encrypt(bytes, more)
    }

    /// A short first part and the beginning of the second one become one record.
    fn send_pair(&mut self, first: &[u8], second: &[u8]) -> io::Result<usize> {
        if first.len() >= MAX_CONTENT_BYTES {
            return self.encrypt(first, More::Last);
        }
        let joined = second.len().min(MAX_CONTENT_BYTES - first.len());
        let (joined, rest) = second.split_at(joined);
        let count = with_plaintext_buffer(|buffer| {
            let len = first.len() + joined.len();
            buffer[..first.len()].copy_from_slice(first);
            buffer[first.len()..len].copy_from_slice(joined);
            self.encrypt(&buffer[..len], More::MoreToCome)
        })?;
        let following = match rest {
            [] => 0,
            rest => self.encrypt(rest, More::MoreToCome)?,
        };
        self.write_out()?;
        Ok(count + following)
    }

    fn send_file(&mut self, file: &File, offset: u64, len: usize) -> io::Result<usize> {
        with_plaintext_buffer(|buffer| {
            let len = len.min(PORTION_BYTES);
            match file.read_at(&mut buffer[..len], offset)? {
                0 => Ok(0),
                count => self.encrypt(&buffer[..count], More::Last),
            }
        })
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        self.session.close().map_err(io::Error::other)?;
        self.output = Output::Closing;
        self.write_out()
    }

    fn abort(&mut self) {
        self.output = Output::Closed;
        self.socket.abort();
    }

    fn peer_state(&self) -> Option<PeerState> {
        let state = self.socket.peer_state()?;
        let held = self.session.records().len() as u32;
        Some(PeerState {
            unacknowledged: state.unacknowledged.saturating_add(held),
            ..state
        })
    }

    fn holds_back(&self) -> bool {
        self.more == More::Last && !self.session.records().is_empty()
    }

    fn flush(&mut self) -> io::Result<()> {
        send_records(&mut self.session, &mut self.socket)?;
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
        if self.output == Output::Open
            && self.session.records().is_empty()
            && self.session.close().is_ok()
        {
            // If the socket takes it.
            let _ = send_records(&mut self.session, &mut self.socket);
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

#[cfg(test)]
mod tests;
