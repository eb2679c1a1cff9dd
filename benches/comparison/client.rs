//! A small blocking HTTP client, with and without TLS, that compares responses, downloads, and waits
//! for a server's first byte.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::{ClientConfig, ClientConnection, HandshakeKind, StreamOwned};

use crate::Result;

const MAX_HEAD_BYTES: usize = 16 * 1024;

/// The status and the header fields of a response.
#[derive(Debug)]
pub(crate) struct ResponseHead {
    pub(crate) status: u16,
    fields: Vec<(String, String)>,
}

impl ResponseHead {
    /// Returns the value of the first field with this name.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let mut fields = self.fields.iter();
        let found = fields.find(|(other, _)| other.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// Returns the length of the content that follows the head; `None` if it is chunked.
    fn content_len(&self) -> io::Result<Option<u64>> {
        if matches!(self.status, 204 | 304) {
            return Ok(Some(0));
        }
        if self.field("Transfer-Encoding") == Some("chunked") {
            return Ok(None);
        }
        let len = self
            .field("Content-Length")
            .and_then(|len| len.parse().ok());
        let missing = || io::Error::other("response without Content-Length");
        len.ok_or_else(missing).map(Some)
    }
}

/// The connection of a client.
#[derive(Debug)]
enum Stream {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Stream {
    fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(stream) => &stream.sock,
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.read(buffer),
            Self::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(socket) => socket.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}

/// A persistent connection.
#[derive(Debug)]
pub(crate) struct Client {
    stream: Stream,
    buffer: Vec<u8>,
}

/// The last bytes of a chunked body.
const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

impl Client {
    /// The default timeout of connecting, reading and writing.
    pub(crate) const TIMEOUT: Duration = Duration::from_secs(10);

    pub(crate) fn connect(address: SocketAddr) -> io::Result<Self> {
        Self::connect_with_timeout(address, Self::TIMEOUT)
    }

    pub(crate) fn connect_with_timeout(address: SocketAddr, timeout: Duration) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, timeout)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(timeout))?;
        stream.set_write_timeout(Some(timeout))?;
        Ok(Self {
            stream: Stream::Plain(stream),
            buffer: Vec::new(),
        })
    }

    /// Connects with TLS if there is a configuration for it.
    pub(crate) fn connect_over(
        address: SocketAddr,
        tls: Option<&Arc<ClientConfig>>,
        timeout: Duration,
    ) -> io::Result<Self> {
        let mut client = Self::connect_with_timeout(address, timeout)?;
        if let (Some(config), Stream::Plain(socket)) = (tls, &client.stream) {
            let name = Ipv4Addr::LOCALHOST.into();
            let session = ClientConnection::new(Arc::clone(config), name);
            let session = session.map_err(io::Error::other)?;
            let stream = StreamOwned::new(session, socket.try_clone()?);
            client.stream = Stream::Tls(Box::new(stream));
        }
        Ok(client)
    }

    /// Returns whether the session was resumed, after a response.
    pub(crate) fn is_resumed(&self) -> bool {
        match &self.stream {
            Stream::Plain(_) => false,
            Stream::Tls(stream) => stream.conn.handshake_kind() == Some(HandshakeKind::Resumed),
        }
    }

    /// Returns whether the server sends at least one byte in response to a request for `path`.
    pub(crate) fn gets_response(address: SocketAddr, path: &str) -> bool {
        let read = || {
            let mut client = Self::connect(address)?;
            client.send_request(path, &[])?;
            client.stream.read(&mut [0])
        };
        read().is_ok_and(|count| count > 0)
    }

    /// Sends a request without reading the response.
    pub(crate) fn send_request(&mut self, path: &str, fields: &[String]) -> io::Result<()> {
        let fields: String = fields.iter().map(|field| format!("{field}\r\n")).collect();
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n");
        self.stream.write_all(request.as_bytes())
    }

    /// Sends a request and reads the response.
    pub(crate) fn fetch(
        &mut self,
        path: &str,
        fields: &[String],
    ) -> io::Result<(ResponseHead, Vec<u8>)> {
        let mut content = Vec::new();
        let head = self.download(path, fields, |bytes| content.extend_from_slice(bytes))?;
        Ok((head, content))
    }

    /// Sends a request and passes the content to `on_bytes` in pieces as it arrives.
    pub(crate) fn download(
        &mut self,
        path: &str,
        fields: &[String],
        on_bytes: impl FnMut(&[u8]),
    ) -> io::Result<ResponseHead> {
        self.exchange(path, fields, |_| {}, on_bytes)
    }

    /// Sends a request, passes the bytes of the head to `on_head` and the content to `on_bytes`, as it
    /// is on the wire, with the frames of chunks.
    fn exchange(
        &mut self,
        path: &str,
        fields: &[String],
        mut on_head: impl FnMut(&[u8]),
        mut on_bytes: impl FnMut(&[u8]),
    ) -> io::Result<ResponseHead> {
        self.send_request(path, fields)?;
        if self.buffer.is_empty() {
            self.buffer = vec![0; 256 * 1024];
        }
        let mut filled = 0;
        let (head, head_len) = loop {
            if let Some(parsed) = parse(&self.buffer[..filled])? {
                break parsed;
            }
            if filled > MAX_HEAD_BYTES {
                return Err(io::Error::other("response head is too long"));
            }
            filled += self.read_at(filled)?;
        };
        on_head(&self.buffer[..head_len]);
        let mut bytes = head_len..filled;
        let Some(mut remaining) = head.content_len()? else {
            let mut received: Vec<u8> = Vec::new();
            loop {
                received.extend_from_slice(&self.buffer[bytes]);
                if received.ends_with(LAST_CHUNK) {
                    on_bytes(&received);
                    return Ok(head);
                }
                bytes = 0..self.read_at(0)?;
            }
        };
        loop {
            if bytes.len() as u64 > remaining {
                return Err(io::Error::other(
                    "response is longer than its Content-Length",
                ));
            }
            remaining -= bytes.len() as u64;
            on_bytes(&self.buffer[bytes]);
            if remaining == 0 {
                return Ok(head);
            }
            bytes = 0..self.read_at(0)?;
        }
    }

    /// Waits until the first byte of a response has arrived or `deadline` has passed, and returns
    /// whether it has arrived. The byte is read.
    pub(crate) fn has_bytes_by(&mut self, deadline: Instant) -> bool {
        let timeout = deadline.saturating_duration_since(Instant::now());
        let timeout = timeout.max(Duration::from_millis(1));
        let set = self.stream.socket().set_read_timeout(Some(timeout));
        set.is_ok() && self.stream.read(&mut [0]).is_ok_and(|count| count > 0)
    }

    /// Frees the client's buffer, which would take too much memory for 15,000 idle connections.
    pub(crate) fn free_buffer(&mut self) {
        self.buffer = Vec::new();
    }

    /// Reads into the buffer from the offset `from`; the end of the stream is an error.
    fn read_at(&mut self, from: usize) -> io::Result<usize> {
        match self.stream.read(&mut self.buffer[from..])? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            count => Ok(count),
        }
    }
}

fn parse(bytes: &[u8]) -> io::Result<Option<(ResponseHead, usize)>> {
    let mut fields = [httparse::EMPTY_HEADER; 64];
    let mut response = httparse::Response::new(&mut fields);
    let parsed = response.parse(bytes).map_err(io::Error::other)?;
    let httparse::Status::Complete(len) = parsed else {
        return Ok(None);
    };
    let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
    let fields = response.headers.iter();
    let head = ResponseHead {
        status: response.code.unwrap_or(0),
        fields: fields
            .map(|field| (field.name.to_owned(), text(field.value)))
            .collect(),
    };
    Ok(Some((head, len)))
}

/// Writes `count` requests before reading, and returns how many responses contain `content`.
pub(crate) fn pipelined(
    address: SocketAddr,
    path: &str,
    count: usize,
    content: &[u8],
) -> io::Result<usize> {
    let mut client = Client::connect(address)?;
    for _ in 0..count {
        client.send_request(path, &[])?;
    }
    let mut received = Vec::new();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let found = memchr::memmem::find_iter(&received, content).count();
        if found >= count {
            return Ok(found);
        }
        match client.stream.read(&mut buffer)? {
            0 => return Ok(found),
            len => received.extend_from_slice(&buffer[..len]),
        }
    }
}

/// Sends one request on a new connection and reads the response.
pub(crate) fn fetch(
    address: SocketAddr,
    path: &str,
    fields: &[String],
) -> Result<(ResponseHead, Vec<u8>)> {
    let fetched = Client::connect(address).and_then(|mut client| client.fetch(path, fields));
    fetched.map_err(|error| format!("{path}: {error}"))
}

/// Writes the whole response to a request, with its head, to a file.
pub(crate) fn save_response(
    address: SocketAddr,
    path: &str,
    fields: &[String],
    file: &Path,
) -> Result<()> {
    let save = || {
        let file = File::create(file)?;
        let failure = std::cell::Cell::new(None);
        let write = |bytes: &[u8]| {
            if let Err(error) = (&file).write_all(bytes) {
                failure.set(Some(error));
            }
        };
        Client::connect(address)?.exchange(path, fields, write, write)?;
        failure.into_inner().map_or(Ok(()), Err)
    };
    save().map_err(|error: io::Error| format!("{path}: {error}"))
}
