//! A bare event loop: it counts the ends of request heads and sends the same response for each. It
//! parses nothing, opens no file and reads no clock, so its cost is that of the kernel and of the
//! loop. Responses above 32 KiB are sent with `sendfile`, like those of the servers.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::path::Path;

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use slab::Slab;

const LISTENER: Token = Token(usize::MAX - 1);

const END_OF_HEAD: &[u8] = b"\r\n\r\n";

/// Above this length a response is sent from the file.
const MAX_BYTES_IN_MEMORY: u64 = 32 * 1024;

/// The bytes of one `sendfile`: one packet before segmentation.
const SENDFILE_BYTES: u64 = 60 * 1024;

/// The response to every request.
struct Response {
    file: File,
    len: u64,
    /// The whole response, if it is small.
    bytes: Vec<u8>,
    closes: bool,
}

struct Connection {
    stream: TcpStream,
    /// Responses that are not completely sent.
    responses: usize,
    /// What is sent of the first of them.
    sent: u64,
}

pub(super) fn run(port: u16, response: &Path) -> io::Result<()> {
    let response = Response::open(response)?;
    let mut poll = Poll::new()?;
    let mut listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], port)))?;
    let registry = poll.registry();
    registry.register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut events = Events::with_capacity(1024);
    let mut connections: Slab<Connection> = Slab::new();
    let mut buffer = vec![0; 16 * 1024];
    loop {
        poll.poll(&mut events, None)?;
        for event in &events {
            if event.token() == LISTENER {
                accept(&listener, &poll, &mut connections)?;
            } else if let Some(connection) = connections.get_mut(event.token().0)
                && !connection.serve(&mut buffer, &response)
            {
                connections.remove(event.token().0);
            }
        }
    }
}

fn accept(
    listener: &TcpListener,
    poll: &Poll,
    connections: &mut Slab<Connection>,
) -> io::Result<()> {
    loop {
        match listener.accept() {
            Ok((mut stream, _)) => {
                stream.set_nodelay(true)?;
                let entry = connections.vacant_entry();
                let token = Token(entry.key());
                let interest = Interest::READABLE | Interest::WRITABLE;
                poll.registry().register(&mut stream, token, interest)?;
                entry.insert(Connection {
                    stream,
                    responses: 0,
                    sent: 0,
                });
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

impl Response {
    fn open(path: &Path) -> io::Result<Self> {
        const CLOSE: &[u8] = b"connection: close";
        let file = File::open(path)?;
        let len = file.metadata()?.len();
        let mut beginning = Vec::new();
        (&file)
            .take(MAX_BYTES_IN_MEMORY)
            .read_to_end(&mut beginning)?;
        let head = memchr::memmem::find(&beginning, END_OF_HEAD).unwrap_or(0);
        let head = beginning[..head].to_ascii_lowercase();
        Ok(Self {
            file,
            len,
            closes: memchr::memmem::find(&head, CLOSE).is_some(),
            bytes: if len <= MAX_BYTES_IN_MEMORY {
                beginning
            } else {
                Vec::new()
            },
        })
    }

    /// Sends a part of the response.
    fn send(&self, stream: &mut TcpStream, from: u64) -> io::Result<u64> {
        if !self.bytes.is_empty() {
            return Ok(stream.write(&self.bytes[from as usize..])? as u64);
        }
        let mut position = from;
        let len = SENDFILE_BYTES.min(self.len - from) as usize;
        let sent = rustix::fs::sendfile(&stream, &self.file, Some(&mut position), len)?;
        Ok(sent as u64)
    }
}

impl Connection {
    /// Reads the requests that have arrived and sends responses until the kernel takes no more.
    /// Returns false if the connection is to be closed. Requests split across reads do not occur with
    /// this client's sizes; they would close the connection, which wrk counts as an error.
    fn serve(&mut self, buffer: &mut [u8], response: &Response) -> bool {
        let mut is_drained = false;
        loop {
            while self.responses > 0 {
                match response.send(&mut self.stream, self.sent) {
                    Ok(count) => self.sent += count,
                    Err(error) => return error.kind() == ErrorKind::WouldBlock,
                }
                if self.sent == response.len {
                    self.sent = 0;
                    self.responses -= 1;
                    if response.closes {
                        return false;
                    }
                }
            }
            if is_drained {
                return true;
            }
            match self.stream.read(buffer) {
                Ok(count) if buffer[..count].ends_with(END_OF_HEAD) => {
                    is_drained = count < buffer.len();
                    self.responses =
                        memchr::memmem::find_iter(&buffer[..count], END_OF_HEAD).count();
                }
                Ok(_) => return false,
                Err(error) => return error.kind() == ErrorKind::WouldBlock,
            }
        }
    }
}
