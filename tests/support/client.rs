//! A client that sends given bytes and returns the responses.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

/// How long a test waits for something that must happen: long enough for the slowest machine. A
/// test that passes never waits for it.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(300);

pub(crate) struct Client {
    stream: BufReader<TcpStream>,
}

/// A response to an HTTP request.
#[derive(Debug, Clone)]
pub(crate) struct HttpResponse {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) content: Vec<u8>,
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        Self::on(TcpStream::connect(address).expect("connect"))
    }

    /// Connects as a different client: from `source`, which must be a loopback address.
    pub(crate) fn connect_from(source: [u8; 4], address: SocketAddr) -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("create socket");
        let source = SocketAddr::from((source, 0));
        socket.bind(&source.into()).expect("bind address");
        socket.connect(&address.into()).expect("connect");
        Self::on(socket.into())
    }

    fn on(stream: TcpStream) -> Self {
        stream
            .set_read_timeout(Some(TIMEOUT))
            .expect("set read timeout");
        stream
            .set_write_timeout(Some(TIMEOUT))
            .expect("set write timeout");
        stream.set_nodelay(true).expect("set TCP_NODELAY");
        Self {
            stream: BufReader::new(stream),
        }
    }

    pub(crate) fn stream(&self) -> &TcpStream {
        self.stream.get_ref()
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        let result = self.stream.get_mut().write_all(bytes.as_ref());
        result.expect("send bytes");
        self
    }

    /// Sends a request for `path` with further field lines, each terminated by CRLF, and reads the
    /// response.
    pub(crate) fn request(&mut self, method: &str, path: &str, fields: &str) -> HttpResponse {
        self.send(format!(
            "{method} {path} HTTP/1.1\r\nHost: test\r\n{fields}\r\n"
        ));
        match method {
            "HEAD" => self.head(),
            _ => self.response(),
        }
    }

    pub(crate) fn get(&mut self, path: &str) -> HttpResponse {
        self.request("GET", path, "")
    }

    pub(crate) fn end_input(&mut self) -> &mut Self {
        let result = self.stream().shutdown(Shutdown::Write);
        result.expect("shut down sending side");
        self
    }

    /// Reads the next response with its body.
    pub(crate) fn response(&mut self) -> HttpResponse {
        let mut response = self.head();
        let bodiless = matches!(response.status, 100..200 | 204 | 304);
        if !bodiless {
            let length = response.length().expect("Content-Length field");
            response.content = vec![0; usize::try_from(length).expect("fits in usize")];
            let result = self.stream.read_exact(&mut response.content);
            result.expect("read complete body");
        }
        response
    }

    /// Reads the next response's head, and nothing after it.
    pub(crate) fn head(&mut self) -> HttpResponse {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            let count = self.stream.read_line(&mut head).expect("read line");
            assert!(count > 0, "the connection ended in a head: {head:?}");
        }
        HttpResponse {
            status: head[9..12].parse().expect("status code"),
            head,
            content: Vec::new(),
        }
    }

    /// Reads `count` bytes of a body.
    pub(crate) fn read(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.stream.read_exact(&mut bytes).expect("read body");
        bytes
    }

    /// Reads a chunked body (RFC 9112 §7.1).
    pub(crate) fn chunks(&mut self) -> Vec<u8> {
        let mut content = Vec::new();
        loop {
            let chunk = self.chunk();
            if chunk.is_empty() {
                return content;
            }
            content.extend_from_slice(&chunk);
        }
    }

    /// Reads one chunk; the last one is empty.
    pub(crate) fn chunk(&mut self) -> Vec<u8> {
        let mut line = String::new();
        self.stream.read_line(&mut line).expect("read chunk size");
        let size = usize::from_str_radix(line.trim_end(), 16).expect("hexadecimal chunk size");
        let mut chunk = self.read(size + 2);
        assert!(chunk.ends_with(b"\r\n"), "a chunk's end");
        chunk.truncate(size);
        chunk
    }

    /// Reads until the server closes; an error if it resets the connection.
    pub(crate) fn rest(&mut self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.stream.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// Reads until the server closes or resets the connection, and returns the bytes received before.
    pub(crate) fn rest_or_reset(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        if let Err(error) = self.stream.read_to_end(&mut bytes) {
            assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        }
        bytes
    }

    /// Asserts that the server closes without sending another byte.
    pub(crate) fn expect_closed(&mut self) {
        let rest = self.rest().expect("read to end of connection");
        assert!(rest.is_empty(), "{:?}", String::from_utf8_lossy(&rest));
    }

    /// Asserts that the server closes without sending another byte, or resets the connection, as
    /// the kernel does if the server has left received bytes unread.
    pub(crate) fn expect_closed_or_reset(&mut self) {
        let rest = self.rest_or_reset();
        assert!(rest.is_empty(), "{:?}", String::from_utf8_lossy(&rest));
    }
}

impl HttpResponse {
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    pub(crate) fn length(&self) -> Option<u64> {
        self.field("Content-Length")?.parse().ok()
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.content).into_owned()
    }
}
