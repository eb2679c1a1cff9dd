//! Tests of the transport with a client in memory, on a pair of Unix sockets.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use rustls::ClientConnection;
use rustls::version::{TLS12, TLS13};

use super::*;
use crate::config::Http2;
use crate::tls::tests::{client, handshake, receive, sent, tls};

/// Returns the server's side, and the client's with its socket.
fn established(
    version: &'static rustls::SupportedProtocolVersion,
) -> (TlsStream, ClientConnection, UnixStream) {
    let tls = tls();
    let config = client(&tls, rustls::crypto::ring::default_provider(), version, &[]);
    let (mut client, session) = handshake(&tls.acceptor(Http2::Tls), &config).expect("a handshake");
    client.set_buffer_limit(None);
    let (ours, theirs) = UnixStream::pair().expect("a pair of sockets");
    ours.set_nonblocking(true).expect("a mode");
    (
        TlsStream::new(Socket::new(ours.into()), session),
        client,
        theirs,
    )
}

/// Sends records with this many bytes each.
fn send_records(client: &mut ClientConnection, socket: &mut UnixStream, sizes: &[usize]) {
    for size in sizes {
        client
            .writer()
            .write_all(&vec![b'x'; *size])
            .expect("encrypted");
    }
    socket.write_all(&sent(client)).expect("sent");
}

/// After `Drained` the socket is not read before its next event.
#[test]
fn socket_is_reported_as_drained_by_the_read_that_drained_it_only() {
    for version in [&TLS12, &TLS13] {
        let (mut server, mut client, mut socket) = established(version);
        let mut buffer = Vec::with_capacity(1000);
        send_records(&mut client, &mut socket, &[700, 800]);
        let received = server.recv(&mut buffer).expect("received");
        assert_eq!(received, Received::Partial(1000));
        // The event of these bytes precedes the next call.
        send_records(&mut client, &mut socket, &[10]);
        buffer.clear();
        let received = server.recv(&mut buffer).expect("received");
        assert_eq!(received, Received::Partial(500));
        let received = server.recv(&mut buffer).expect("received");
        assert_eq!(received, Received::Drained(10));
        let blocked = server.recv(&mut buffer).expect_err("nothing is left");
        assert_eq!(blocked.kind(), io::ErrorKind::WouldBlock);
        // A part of a record.
        client.writer().write_all(b"y").expect("encrypted");
        let bytes = sent(&mut client);
        let (first, second) = bytes.split_at(10);
        for (part, expected) in [(first, 0), (second, 1)] {
            socket.write_all(part).expect("sent");
            let received = server.recv(&mut buffer).expect("received");
            assert_eq!(received, Received::Drained(expected));
        }
    }
}

#[test]
fn end_follows_what_was_sent_before_it() {
    for sends_close_notify in [true, false] {
        let (mut server, mut client, mut socket) = established(&TLS13);
        client.writer().write_all(&[b'x'; 1500]).expect("encrypted");
        if sends_close_notify {
            client.send_close_notify();
        }
        socket.write_all(&sent(&mut client)).expect("sent");
        let end = socket.shutdown(std::net::Shutdown::Write);
        end.expect("the end of the output");
        let mut buffer = Vec::with_capacity(1000);
        for expected in [Received::Partial(1000), Received::Partial(500)] {
            buffer.clear();
            assert_eq!(server.recv(&mut buffer).expect("received"), expected);
        }
        for _ in 0..2 {
            let received = server.recv(&mut buffer).expect("received");
            assert_eq!(received, Received::Eof, "{sends_close_notify}");
        }
        let sent = server.send(b"answer", More::Last).expect("sent");
        assert_eq!(sent, b"answer".len());
    }
}

/// A pair of slices arrives as it is, whatever their sizes.
#[test]
fn pairs_of_any_sizes_arrive() {
    let sizes = [0, 1, 300, MAX_CONTENT_BYTES - 1, MAX_CONTENT_BYTES, 70_000];
    let (mut server, mut client, mut socket) = established(&TLS13);
    for first in sizes {
        for second in sizes {
            let (first, second) = (vec![b'1'; first], vec![b'2'; second]);
            let expected = [&first[..], &second[..]].concat();
            let count = server.send_pair(&first, &second).expect("sent");
            assert!(count >= expected.len().min(MAX_CONTENT_BYTES), "{count}");
            let mut received = Vec::new();
            while received.len() < count {
                let mut bytes = [0; 4000];
                let count = socket.read(&mut bytes).expect("read");
                receive(&mut client, &bytes[..count]).expect("valid records");
                // The end is an error without `close_notify`.
                let _ = client.reader().read_to_end(&mut received);
                server.flush().or_else(blocked).expect("flushed");
            }
            assert!(received == expected[..count]);
        }
    }
}

fn blocked(error: io::Error) -> io::Result<()> {
    match error.kind() {
        io::ErrorKind::WouldBlock => Ok(()),
        _ => Err(error),
    }
}
