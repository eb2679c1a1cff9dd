//! The TLS session of one connection, in memory: received bytes are decrypted, and sent ones become
//! records (RFC 8446 §5).
//!
//! The buffers are not those of rustls, which keeps 4 KiB for the next read of each connection. A session
//! holds incomplete input, what is decrypted and not taken, and the records that the socket has not taken.
//! An idle session holds no buffers.

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::mem;
use std::sync::Arc;

use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, WriteTraffic};
use rustls::{CommonState, Error, ServerConfig};

use super::served_certificate::ServedCertificate;

/// The most content of a record (RFC 8446 §5.1).
pub(crate) const MAX_CONTENT_BYTES: usize = 16 * 1024;

/// The most bytes of a record: its content, what TLS 1.2 allows encryption to add, and a header
/// (RFC 5246 §6.2.3). TLS 1.3 allows less.
const MAX_RECORD_BYTES: usize = MAX_CONTENT_BYTES + 2048 + 5;

/// The most incomplete input that is held: a part of a record, or the records of an incomplete message of
/// the handshake (RFC 8446 §5.1).
const MAX_UNPROCESSED_BYTES: usize = 64 * 1024;

/// The largest buffer of records that is kept for the next session.
const MAX_SPARE_BYTES: usize = 128 * 1024;

thread_local! {
    /// The buffer into which sockets are read; one per thread.
    static INPUT: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };

    /// A buffer for the records of the next session that sends; one per thread.
    static SPARE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// A session, from the first message of the client on.
pub(crate) struct Session {
    connection: UnbufferedServerConnection,
    /// The incomplete input.
    unprocessed: Vec<u8>,
    plaintext: Plaintext,
    records: OutgoingRecords,
    read: ReadState,
    /// The certificate for the requested name, if there is one, until it is taken.
    served: Option<ServedCertificate>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ReadState {
    Open,
    /// The client has sent `close_notify`, or the socket has ended without it, which is accepted: HTTP
    /// detects truncation by its own framing.
    Ended,
    /// What was received was not acceptable. rustls must not be asked for anything more.
    Failed,
}

/// The failure to begin a session, with the records that tell the client.
#[derive(Debug)]
pub(crate) struct SessionError {
    pub(crate) error: rustls::Error,
    /// An alert; empty if there is none.
    pub(crate) alert: Vec<u8>,
}

/// The result of reading from a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SocketRead {
    /// The socket may have more.
    Partial,
    /// The socket had no more.
    Drained,
    /// The socket has reached its end.
    Eof,
}

impl Session {
    /// Begins a session with the first bytes that the client has sent.
    ///
    /// # Errors
    ///
    /// If they are not acceptable, or the configuration is not.
    pub(super) fn new(
        config: Arc<ServerConfig>,
        served: Option<ServedCertificate>,
        mut received: Vec<u8>,
    ) -> Result<Self, SessionError> {
        let rejected = |error, alert: &[u8]| SessionError {
            error,
            alert: alert.to_vec(),
        };
        let connection = UnbufferedServerConnection::new(config);
        let mut session = Self {
            connection: connection.map_err(|error| rejected(error, b""))?,
            unprocessed: Vec::new(),
            plaintext: Plaintext::default(),
            records: OutgoingRecords::default(),
            read: ReadState::Open,
            served,
        };
        match session.process(&mut received, &mut Vec::new()) {
            Ok(()) => Ok(session),
            Err(error) => Err(rejected(error, session.records())),
        }
    }

    /// Returns what is negotiated, and whether the handshake is complete.
    pub(crate) fn state(&self) -> &CommonState {
        &self.connection
    }

    /// Takes the certificate, if the client has requested a name.
    pub(crate) fn take_served(&mut self) -> Option<ServedCertificate> {
        self.served.take()
    }

    /// Returns true if there are decrypted bytes to be taken.
    pub(crate) fn has_plaintext(&self) -> bool {
        !self.plaintext.bytes.is_empty()
    }

    /// Moves decrypted bytes to `buffer`, within its capacity.
    pub(crate) fn take_plaintext(&mut self, buffer: &mut Vec<u8>) {
        self.plaintext.move_to(buffer);
    }

    /// Returns true if nothing follows what is decrypted.
    pub(crate) fn has_ended(&self) -> bool {
        self.read != ReadState::Open
    }

    /// Reads once, at most a record of the largest size, and decrypts what was read. It goes to `buffer`,
    /// within its capacity; the rest has to be [taken](Self::take_plaintext) before the next call.
    /// [Records](Self::records) may have to be sent afterwards, also after an error: an alert.
    ///
    /// # Errors
    ///
    /// Those of `socket`, and `InvalidData` for what is not acceptable.
    pub(crate) fn receive(
        &mut self,
        socket: &mut impl io::Read,
        buffer: &mut Vec<u8>,
    ) -> io::Result<SocketRead> {
        debug_assert!(!self.has_plaintext(), "plaintext must be taken first");
        INPUT.with_borrow_mut(|input| {
            let kept = self.unprocessed.len();
            let end = kept + MAX_RECORD_BYTES;
            if input.len() < end {
                input.resize(end, 0);
            }
            let count = socket.read(&mut input[kept..end])?;
            if count == 0 {
                self.read = ReadState::Ended;
                return Ok(SocketRead::Eof);
            }
            input[..kept].copy_from_slice(&self.unprocessed);
            self.process(&mut input[..kept + count], buffer)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
            Ok(if count < MAX_RECORD_BYTES {
                SocketRead::Drained
            } else {
                SocketRead::Partial
            })
        })
    }

    /// Decrypts `received`, which begins with what was unprocessed.
    fn process(&mut self, received: &mut [u8], buffer: &mut Vec<u8>) -> Result<(), Error> {
        let result = self.process_records(received, buffer);
        match result {
            Ok(processed) if self.read == ReadState::Open => {
                let rest = &received[processed..];
                if rest.len() > MAX_UNPROCESSED_BYTES {
                    self.read = ReadState::Failed;
                    return Err(Error::General("message too large".to_owned()));
                }
                self.unprocessed.clear();
                self.unprocessed.extend_from_slice(rest);
                self.unprocessed.shrink_to_fit();
            }
            // What follows `close_notify` is ignored (RFC 8446 §6.1).
            Ok(_) => self.unprocessed = Vec::new(),
            Err(_) => self.read = ReadState::Failed,
        }
        result.map(|_| ())
    }

    /// Processes whole records, and returns how many bytes they have.
    fn process_records(
        &mut self,
        received: &mut [u8],
        buffer: &mut Vec<u8>,
    ) -> Result<usize, Error> {
        let mut processed = 0;
        loop {
            let rest = &mut received[processed..];
            let status = self.connection.process_tls_records(rest);
            processed += status.discard;
            match status.state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record?;
                        processed += record.discard;
                        self.plaintext.add(record.payload, buffer);
                    }
                }
                Ok(ConnectionState::EncodeTlsData(mut message)) => {
                    self.records.add(|space| Ok(message.encode(space)?))?;
                }
                // The caller sends the records.
                Ok(ConnectionState::TransmitTlsData(message)) => message.done(),
                Ok(ConnectionState::PeerClosed) => self.read = ReadState::Ended,
                Ok(
                    ConnectionState::WriteTraffic(_)
                    | ConnectionState::BlockedHandshake
                    | ConnectionState::Closed,
                ) => return Ok(processed),
                // Early data is not enabled.
                Ok(other) => return Err(Error::General(format!("{other:?}"))),
                Err(error) => {
                    self.add_alert(&mut received[processed..]);
                    return Err(error);
                }
            }
        }
    }

    /// Adds the alert about `received`, and the messages before it.
    fn add_alert(&mut self, received: &mut [u8]) {
        // rustls returns messages that are to be sent before it processes input. Without any it would
        // process the input again, and add a second alert.
        while self.connection.wants_write()
            && let status = self.connection.process_tls_records(received)
            && let Ok(ConnectionState::EncodeTlsData(mut message)) = status.state
            && let Ok(()) = self.records.add(|space| Ok(message.encode(space)?))
        {}
    }

    /// Encrypts `bytes`, which become records behind those that are not sent.
    ///
    /// # Errors
    ///
    /// If the session has failed, or its keys have encrypted as much as they may (RFC 8446 §5.5).
    pub(crate) fn encrypt(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.add_encrypted(|traffic, space| traffic.encrypt(bytes, space))
    }

    /// Adds `close_notify`, which distinguishes the end from a truncation (RFC 8446 §6.1).
    ///
    /// # Errors
    ///
    /// If the session has failed.
    #[expect(
        clippy::redundant_closure_for_method_calls,
        reason = "the method is of a type with one lifetime, and the closure of one with any"
    )]
    pub(crate) fn close(&mut self) -> Result<(), Error> {
        self.add_encrypted(|traffic, space| traffic.queue_close_notify(space))
    }

    fn add_encrypted(
        &mut self,
        mut encrypt: impl FnMut(
            &mut WriteTraffic<'_, ServerConnectionData>,
            &mut [u8],
        ) -> Result<usize, EncryptError>,
    ) -> Result<(), Error> {
        if self.read == ReadState::Failed {
            return Err(Error::EncryptError);
        }
        let status = self.connection.process_tls_records(&mut self.unprocessed);
        match status.state {
            Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                self.records.add(|space| Ok(encrypt(&mut traffic, space)?))
            }
            _ => Err(Error::EncryptError),
        }
    }

    /// Returns the records that are to be sent.
    pub(crate) fn records(&self) -> &[u8] {
        self.records.bytes()
    }

    /// Removes the first `count` bytes of the records, which are sent.
    pub(crate) fn on_sent(&mut self, count: usize) {
        self.records.remove(count);
    }

    /// Shrinks the buffer of the records, which cannot be sent now, if it is more than twice as large as
    /// they are.
    pub(crate) fn hold_records(&mut self) {
        self.records.shrink();
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("read", &self.read)
            .finish_non_exhaustive()
    }
}

/// Decrypted bytes that are not taken. Without any it holds no memory.
#[derive(Default)]
struct Plaintext {
    bytes: Vec<u8>,
    taken: usize,
}

impl Plaintext {
    /// Appends as many bytes to `buffer` as it has capacity for, and holds the others.
    fn add(&mut self, bytes: &[u8], buffer: &mut Vec<u8>) {
        let room = match self.bytes.len() {
            0 => buffer.capacity() - buffer.len(),
            _ => 0,
        };
        let (now, later) = bytes.split_at(room.min(bytes.len()));
        buffer.extend_from_slice(now);
        self.bytes.extend_from_slice(later);
    }

    fn move_to(&mut self, buffer: &mut Vec<u8>) {
        let left = &self.bytes[self.taken..];
        let count = left.len().min(buffer.capacity() - buffer.len());
        buffer.extend_from_slice(&left[..count]);
        self.taken += count;
        if self.taken == self.bytes.len() {
            *self = Self::default();
        }
    }
}

/// OutgoingRecords that are to be sent. Without any it holds no memory: the buffer is given to the next
/// session that sends.
#[derive(Default)]
struct OutgoingRecords {
    /// Initialized memory, of which a part is used.
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

/// Why a record was not written.
enum NotWritten {
    /// The space is too small.
    Requires(usize),
    Failed,
}

impl OutgoingRecords {
    fn bytes(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// Appends records. `write` writes them into the space that it is given, and returns their length; if
    /// the space is too small, it is called again with what it requires.
    fn add(
        &mut self,
        mut write: impl FnMut(&mut [u8]) -> Result<usize, NotWritten>,
    ) -> Result<(), Error> {
        if self.buffer.is_empty() {
            self.buffer = SPARE.take();
        }
        loop {
            match write(&mut self.buffer[self.end..]) {
                Ok(count) => {
                    self.end += count;
                    // Nothing may have been written.
                    self.remove(0);
                    return Ok(());
                }
                Err(NotWritten::Requires(count)) if self.buffer.len() < self.end + count => {
                    self.buffer.resize(self.end + count, 0);
                }
                Err(_) => return Err(Error::EncryptError),
            }
        }
    }

    fn remove(&mut self, count: usize) {
        self.start += count;
        if self.start == self.end {
            give_back(mem::take(self).buffer);
        }
    }

    fn shrink(&mut self) {
        let bytes = self.bytes();
        if self.buffer.capacity() > 2 * bytes.len() {
            let held = Self {
                buffer: bytes.to_vec(),
                start: 0,
                end: bytes.len(),
            };
            give_back(mem::replace(self, held).buffer);
        }
    }
}

/// Makes `buffer` the spare buffer if it is larger, and not larger than `MAX_SPARE_BYTES`.
fn give_back(buffer: Vec<u8>) {
    SPARE.with_borrow_mut(|spare| {
        if spare.len() < buffer.len() && buffer.len() <= MAX_SPARE_BYTES {
            *spare = buffer;
        }
    });
}

impl From<EncodeError> for NotWritten {
    fn from(error: EncodeError) -> Self {
        match error {
            EncodeError::InsufficientSize(size) => Self::Requires(size.required_size),
            EncodeError::AlreadyEncoded => Self::Failed,
        }
    }
}

impl From<EncryptError> for NotWritten {
    fn from(error: EncryptError) -> Self {
        match error {
            EncryptError::InsufficientSize(size) => Self::Requires(size.required_size),
            EncryptError::EncryptExhausted => Self::Failed,
        }
    }
}

#[cfg(test)]
mod tests;
