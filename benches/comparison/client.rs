//! A small blocking HTTP client that compares responses, downloads, and waits for a server's first
//! byte.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::Result;

/// The default timeout of connecting, reading and writing.
const TIMEOUT: Duration = Duration::from_secs(10);

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

    /// Returns the length of the content that follows the head.
    fn content_len(&self) -> io::Result<u64> {
        if matches!(self.status, 204 | 304) {
            return Ok(0);
        }
        let len = self
            .field("Content-Length")
            .and_then(|len| len.parse().ok());
        len.ok_or_else(|| io::Error::other("response without Content-Length"))
    }
}

/// A persistent connection.
#[derive(Debug)]
pub(crate) struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> io::Result<Self> {
        Self::connect_with_timeout(address, TIMEOUT)
    }

    pub(crate) fn connect_with_timeout(address: SocketAddr, timeout: Duration) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, timeout)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(timeout))?;
        stream.set_write_timeout(Some(timeout))?;
        Ok(Self {
            stream,
            buffer: Vec::new(),
        })
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
        let mut remaining = head.content_len()?;
        let mut bytes = head_len..filled;
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
    /// whether it has arrived. The byte stays in the socket's buffer.
    pub(crate) fn has_bytes_by(&self, deadline: Instant) -> bool {
        let timeout = deadline.saturating_duration_since(Instant::now());
        let timeout = timeout.max(Duration::from_millis(1));
        let set = self.stream.set_read_timeout(Some(timeout));
        set.is_ok() && self.stream.peek(&mut [0]).is_ok_and(|count| count > 0)
    }

    /// Returns the connection without the client's buffer, which would take too much memory for
    /// 15,000 idle connections.
    pub(crate) fn into_stream(self) -> TcpStream {
        self.stream
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
