//! A small blocking client: to compare answers, to download, to wait for a server's first byte.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::Result;

/// How long an answer may keep us waiting, if nothing else is said.
const PATIENCE: Duration = Duration::from_secs(10);

const MAX_HEAD_BYTES: usize = 16 * 1024;

/// The head of an answer.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) status: u16,
    fields: Vec<(String, String)>,
}

impl Head {
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let mut fields = self.fields.iter();
        let found = fields.find(|(other, _)| other.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// How many bytes of content follow.
    fn content_len(&self) -> io::Result<u64> {
        if matches!(self.status, 204 | 304) {
            return Ok(0);
        }
        let len = self
            .field("Content-Length")
            .and_then(|len| len.parse().ok());
        len.ok_or_else(|| io::Error::other("an answer without a length"))
    }
}

/// One connection, kept alive.
#[derive(Debug)]
pub(crate) struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> io::Result<Self> {
        Self::connect_with(address, PATIENCE)
    }

    pub(crate) fn connect_with(address: SocketAddr, patience: Duration) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, patience)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(patience))?;
        stream.set_write_timeout(Some(patience))?;
        Ok(Self {
            stream,
            buffer: Vec::new(),
        })
    }

    /// Whether a server says anything when asked for `path`.
    pub(crate) fn hears_from(address: SocketAddr, path: &str) -> bool {
        let hear = || {
            let mut client = Self::connect(address)?;
            client.ask(path, &[])?;
            client.stream.read(&mut [0])
        };
        hear().is_ok_and(|count| count > 0)
    }

    /// Sends a request; nothing is read.
    pub(crate) fn ask(&mut self, path: &str, fields: &[String]) -> io::Result<()> {
        let fields: String = fields.iter().map(|field| format!("{field}\r\n")).collect();
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n");
        self.stream.write_all(request.as_bytes())
    }

    pub(crate) fn fetch(&mut self, path: &str, fields: &[String]) -> io::Result<(Head, Vec<u8>)> {
        let mut content = Vec::new();
        let head = self.download(path, fields, |bytes| content.extend_from_slice(bytes))?;
        Ok((head, content))
    }

    /// Gives the content to `take` as it comes.
    pub(crate) fn download(
        &mut self,
        path: &str,
        fields: &[String],
        mut take: impl FnMut(&[u8]),
    ) -> io::Result<Head> {
        self.ask(path, fields)?;
        if self.buffer.is_empty() {
            self.buffer = vec![0; 256 * 1024];
        }
        let mut filled = 0;
        let (head, head_len) = loop {
            if let Some(parsed) = parse(&self.buffer[..filled])? {
                break parsed;
            }
            if filled > MAX_HEAD_BYTES {
                return Err(io::Error::other("a head without an end"));
            }
            filled += self.receive(filled)?;
        };
        let mut left = head.content_len()?;
        let mut bytes = head_len..filled;
        loop {
            if bytes.len() as u64 > left {
                return Err(io::Error::other("more than was promised"));
            }
            left -= bytes.len() as u64;
            take(&self.buffer[bytes]);
            if left == 0 {
                return Ok(head);
            }
            bytes = 0..self.receive(0)?;
        }
    }

    /// Whether an answer has begun before `deadline`; nothing is taken from it.
    pub(crate) fn has_bytes_by(&self, deadline: Instant) -> bool {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = left.max(Duration::from_millis(1));
        let waits = self.stream.set_read_timeout(Some(left));
        waits.is_ok() && self.stream.peek(&mut [0]).is_ok_and(|count| count > 0)
    }

    /// The connection alone: fifteen thousand buffers are too many.
    pub(crate) fn into_stream(self) -> TcpStream {
        self.stream
    }

    fn receive(&mut self, from: usize) -> io::Result<usize> {
        match self.stream.read(&mut self.buffer[from..])? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            count => Ok(count),
        }
    }
}

fn parse(bytes: &[u8]) -> io::Result<Option<(Head, usize)>> {
    let mut fields = [httparse::EMPTY_HEADER; 64];
    let mut response = httparse::Response::new(&mut fields);
    let parsed = response.parse(bytes).map_err(io::Error::other)?;
    let httparse::Status::Complete(len) = parsed else {
        return Ok(None);
    };
    let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
    let fields = response.headers.iter();
    let head = Head {
        status: response.code.unwrap_or(0),
        fields: fields
            .map(|field| (field.name.to_owned(), text(field.value)))
            .collect(),
    };
    Ok(Some((head, len)))
}

/// How many of `count` requests, written before any answer is read, are answered with `content`.
pub(crate) fn pipelined(
    address: SocketAddr,
    path: &str,
    count: usize,
    content: &[u8],
) -> io::Result<usize> {
    let mut client = Client::connect(address)?;
    for _ in 0..count {
        client.ask(path, &[])?;
    }
    let mut received = Vec::new();
    let mut room = vec![0; 64 * 1024];
    loop {
        let found = memchr::memmem::find_iter(&received, content).count();
        if found >= count {
            return Ok(found);
        }
        match client.stream.read(&mut room)? {
            0 => return Ok(found),
            len => received.extend_from_slice(&room[..len]),
        }
    }
}

/// One answer on a connection of its own, in words if it fails.
pub(crate) fn fetch(address: SocketAddr, path: &str, fields: &[String]) -> Result<(Head, Vec<u8>)> {
    let fetched = Client::connect(address).and_then(|mut client| client.fetch(path, fields));
    fetched.map_err(|error| format!("no answer for {path}: {error}"))
}
