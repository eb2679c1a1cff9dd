//! A bare event loop: it counts the ends of request heads and sends the same response for each, with
//! one write per read. It parses nothing, opens no file and reads no clock, so its cost is that of
//! the kernel and of the loop.

use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::path::Path;

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use slab::Slab;

const LISTENER: Token = Token(usize::MAX - 1);

const END_OF_HEAD: &[u8] = b"\r\n\r\n";

pub(super) fn run(port: u16, file: &Path) -> io::Result<()> {
    let content = std::fs::read(file)?;
    let head = format!(
        "HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Type: image/png\r\n\
         Content-Length: {}\r\nLast-Modified: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
         ETag: \"17a2b3c4d5e6f708-2a00\"\r\nAccept-Ranges: bytes\r\n\r\n",
        content.len()
    );
    let response = [head.as_bytes(), &content].concat();
    let mut poll = Poll::new()?;
    let mut listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], port)))?;
    let registry = poll.registry();
    registry.register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut events = Events::with_capacity(1024);
    let mut streams: Slab<TcpStream> = Slab::new();
    let mut buffer = vec![0; 16 * 1024];
    loop {
        poll.poll(&mut events, None)?;
        for event in &events {
            if event.token() == LISTENER {
                accept(&listener, &poll, &mut streams)?;
            } else if let Some(stream) = streams.get_mut(event.token().0)
                && !serve(stream, &mut buffer, &response)
            {
                streams.remove(event.token().0);
            }
        }
    }
}

fn accept(listener: &TcpListener, poll: &Poll, streams: &mut Slab<TcpStream>) -> io::Result<()> {
    loop {
        match listener.accept() {
            Ok((mut stream, _)) => {
                stream.set_nodelay(true)?;
                let entry = streams.vacant_entry();
                let token = Token(entry.key());
                let registry = poll.registry();
                registry.register(&mut stream, token, Interest::READABLE)?;
                entry.insert(stream);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

/// Responds to the requests that have arrived; returns false if the connection is to be closed.
/// Requests split across reads and partial writes do not occur with this client's sizes. They would
/// close the connection, which wrk counts as an error.
fn serve(stream: &mut TcpStream, buffer: &mut [u8], response: &[u8]) -> bool {
    loop {
        let count = match stream.read(buffer) {
            Ok(count) => count,
            Err(error) => return error.kind() == ErrorKind::WouldBlock,
        };
        if !buffer[..count].ends_with(END_OF_HEAD) {
            return false;
        }
        let requests = memchr::memmem::find_iter(&buffer[..count], END_OF_HEAD).count();
        let sent = match requests {
            1 => stream
                .write(response)
                .is_ok_and(|sent| sent == response.len()),
            _ => stream.write_all(&response.repeat(requests)).is_ok(),
        };
        if !sent {
            return false;
        }
        // A short read means that the socket's buffer is empty.
        if count < buffer.len() {
            return true;
        }
    }
}
