//! Tests of sessions with a client in memory.

use std::io::{Read, Write};

use proptest::prelude::*;
use rustls::version::{TLS12, TLS13};
use rustls::{AlertDescription, ClientConnection, Error, SupportedProtocolVersion};

use super::*;
use crate::config::Http2;
use crate::tls::provider::provider;
use crate::tls::tests::{NAME, client, handshake, receive, sent, tls};
use crate::tls::{ClientHelloReader, TlsAcceptor};

const VERSIONS: [&SupportedProtocolVersion; 2] = [&TLS12, &TLS13];

/// Returns a client and a server after the handshake.
fn established(version: &'static SupportedProtocolVersion) -> (ClientConnection, Session) {
    let tls = tls();
    let config = client(&tls, provider(), version, &[]);
    let mut sides = handshake(&tls.acceptor(Http2::Tls), &config).expect("a handshake");
    sides.0.set_buffer_limit(None);
    sides
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 31 % 251) as u8).collect()
}

/// Passes all records to the client, and returns what it has decrypted.
fn decrypted(client: &mut ClientConnection, server: &mut Session) -> Vec<u8> {
    let records = server.records().to_vec();
    server.on_sent(records.len());
    let mut plaintext = Vec::new();
    for record in records.chunks(1000) {
        receive(client, record).expect("valid records");
        // The end is an error without `close_notify`.
        let _ = client.reader().read_to_end(&mut plaintext);
    }
    plaintext
}

fn encrypted(client: &mut ClientConnection, bytes: &[u8]) -> Vec<u8> {
    client.writer().write_all(bytes).expect("encrypted");
    sent(client)
}

/// Reads all of `bytes` in pieces, with a buffer of limited capacity.
fn received(server: &mut Session, bytes: &[u8], piece: usize, capacity: usize) -> Vec<u8> {
    let mut all = Vec::new();
    let mut buffer = Vec::with_capacity(capacity);
    for mut piece in bytes.chunks(piece) {
        while !piece.is_empty() {
            server.receive(&mut piece, &mut buffer).expect("valid");
            loop {
                assert_eq!(buffer.capacity(), capacity);
                all.append(&mut buffer);
                if !server.has_plaintext() {
                    break;
                }
                server.take_plaintext(&mut buffer);
            }
        }
    }
    all
}

/// Returns the capacity of all buffers.
fn held(session: &Session) -> usize {
    session.unprocessed.capacity()
        + session.plaintext.bytes.capacity()
        + session.records.buffer.capacity()
}

#[test]
fn input_may_be_split_anywhere_and_leaves_no_buffer() {
    for version in VERSIONS {
        let (mut client, mut server) = established(version);
        assert_eq!(held(&server), 0);
        for (piece, capacity) in [(1, 1), (1, 64), (7, 5), (1000, 3000), (100_000, 100_000)] {
            // Several records, of which two are of the largest size.
            let sizes = [1, 300, 40_000, 0, 5];
            let bytes: Vec<u8> = sizes
                .into_iter()
                .flat_map(|size| encrypted(&mut client, &pattern(size)))
                .collect();
            let expected: Vec<u8> = sizes.into_iter().flat_map(pattern).collect();
            assert!(received(&mut server, &bytes, piece, capacity) == expected);
            assert_eq!(held(&server), 0, "{version:?} {piece} {capacity}");
        }
        assert!(!server.has_ended());
    }
}

#[test]
fn output_may_be_sent_in_parts() {
    for version in VERSIONS {
        let (mut client, mut server) = established(version);
        server.encrypt(b"").expect("encrypted");
        assert_eq!(held(&server), 0);
        server.encrypt(&pattern(50_000)).expect("encrypted");
        server.encrypt(b"").expect("encrypted");
        server.encrypt(&pattern(10)).expect("encrypted");
        let mut plaintext = Vec::new();
        while !server.records().is_empty() {
            let part = server.records()[..server.records().len().min(7000)].to_vec();
            server.on_sent(part.len());
            server.hold_records();
            let left = server.records().len();
            assert!(held(&server) <= 2 * left, "{left}");
            receive(&mut client, &part).expect("valid records");
            let _ = client.reader().read_to_end(&mut plaintext);
        }
        assert!(plaintext == [pattern(50_000), pattern(10)].concat());
        assert_eq!(held(&server), 0);
    }
}

#[test]
fn bytes_after_the_end_are_ignored_and_the_server_may_still_send() {
    for version in VERSIONS {
        let (mut client, mut server) = established(version);
        let mut bytes = encrypted(&mut client, b"last");
        client.send_close_notify();
        bytes.append(&mut sent(&mut client));
        bytes.extend_from_slice(b"not a record");
        let mut buffer = Vec::with_capacity(100);
        let read = server.receive(&mut &bytes[..], &mut buffer);
        assert_eq!(read.expect("valid"), SocketRead::Drained);
        assert_eq!(buffer, b"last");
        assert!(server.has_ended());
        server.encrypt(b"answer").expect("encrypted");
        server.close().expect("closed");
        assert_eq!(decrypted(&mut client, &mut server), b"answer");
        let state = client.process_new_packets().expect("valid");
        assert!(state.peer_has_closed());
        assert_eq!(held(&server), 0);
    }
}

#[test]
fn socket_may_end_without_close_notify() {
    let (mut client, mut server) = established(&TLS13);
    let bytes = encrypted(&mut client, b"cut");
    let mut buffer = Vec::with_capacity(100);
    for (mut bytes, expected) in [
        (&bytes[..bytes.len() - 1], SocketRead::Drained),
        (&[][..], SocketRead::Eof),
    ] {
        let read = server.receive(&mut bytes, &mut buffer);
        assert_eq!(read.expect("valid"), expected);
    }
    assert!(buffer.is_empty() && server.has_ended());
    server.encrypt(b"answer").expect("encrypted");
    assert_eq!(decrypted(&mut client, &mut server), b"answer");
}

#[test]
fn unacceptable_input_is_answered_with_an_alert_and_ends_the_session() {
    let damaged: fn(&mut Vec<u8>) = |bytes| *bytes.last_mut().expect("a record") ^= 1;
    let too_large: fn(&mut Vec<u8>) = |bytes| bytes[3] = 0xff;
    let unknown: fn(&mut Vec<u8>) = |bytes| bytes[0] = 99;
    for version in VERSIONS {
        for (change, alert) in [
            (damaged, AlertDescription::BadRecordMac),
            (too_large, AlertDescription::DecodeError),
            (unknown, AlertDescription::DecodeError),
        ] {
            let (mut client, mut server) = established(version);
            let mut bytes = encrypted(&mut client, &pattern(100));
            change(&mut bytes);
            // What is sent before the alert precedes it.
            server.encrypt(b"before").expect("encrypted");
            let result = server.receive(&mut &bytes[..], &mut Vec::new());
            let kind = result.expect_err("not acceptable").kind();
            assert_eq!(kind, io::ErrorKind::InvalidData);
            assert!(server.has_ended());
            let records = server.records().to_vec();
            let result = receive(&mut client, &records);
            assert_eq!(result, Err(Error::AlertReceived(alert)), "{version:?}");
            let mut plaintext = [0; 6];
            client
                .reader()
                .read_exact(&mut plaintext)
                .expect("before the alert");
            assert_eq!(&plaintext, b"before");
            assert!(server.encrypt(b"more").is_err() && server.close().is_err());
            assert_eq!(server.records(), records);
        }
    }
}

/// RFC 8446 §4.6.3.
#[test]
fn keys_may_be_updated() {
    let (mut client, mut server) = established(&TLS13);
    for _ in 0..3 {
        client.refresh_traffic_keys().expect("TLS 1.3");
        let bytes = encrypted(&mut client, b"request");
        assert_eq!(received(&mut server, &bytes, 3, 100), b"request");
        server.encrypt(b"response").expect("encrypted");
        // The client accepts nothing with the old keys after the server's own update.
        assert_eq!(decrypted(&mut client, &mut server), b"response");
    }
    assert_eq!(held(&server), 0);
}

#[test]
fn first_message_may_be_split_anywhere() {
    let tls = tls();
    for version in VERSIONS {
        let config = client(&tls, provider(), version, &[]);
        let acceptor = tls.acceptor(Http2::Tls);
        let name = NAME.try_into().expect("a name");
        let mut client = ClientConnection::new(config, name).expect("a client");
        let bytes = sent(&mut client);
        let (last, others) = bytes.split_last().expect("bytes");
        let mut first = ClientHelloReader::default();
        for byte in others {
            let session = acceptor.accept(&mut first, &[*byte]);
            assert!(session.expect("valid").is_none());
        }
        let session = acceptor.accept(&mut first, &[*last]).expect("valid");
        let mut server = session.expect("a whole message");
        assert!(server.take_served().is_some());
        receive(&mut client, server.records()).expect("valid");
        server.on_sent(server.records().len());
        let bytes = [sent(&mut client), encrypted(&mut client, b"")].concat();
        let request = match client.is_handshaking() {
            true => Vec::new(),
            false => encrypted(&mut client, b"request"),
        };
        let bytes = [bytes, request.clone()].concat();
        let plaintext = received(&mut server, &bytes, 1, 100);
        assert!(!server.state().is_handshaking());
        assert_eq!(plaintext.is_empty(), request.is_empty());
    }
}

fn rejected(acceptor: &TlsAcceptor, bytes: &[u8]) -> bool {
    let mut first = ClientHelloReader::default();
    bytes
        .chunks(4096)
        .any(|bytes| acceptor.accept(&mut first, bytes).is_err())
}

#[test]
fn endless_first_message_is_rejected() {
    let acceptor = tls().acceptor(Http2::Tls);
    // A record of one byte each, of a message that announces the largest length.
    let first: &[u8] = &[22, 3, 1, 0, 4, 1, 0, 0xff, 0xff];
    let following: &[u8] = &[22, 3, 1, 0, 1, 0];
    let bytes = [first, &following.repeat(20_000)].concat();
    assert!(rejected(&acceptor, &bytes));
    // A record that never ends.
    let bytes = [&[22, 3, 1, 0x40, 0, 1, 0, 0xff, 0xff], &[0; 100_000][..]].concat();
    assert!(rejected(&acceptor, &bytes));
}

proptest! {
    #[test]
    fn arbitrary_bytes_are_processed_or_rejected(
        records in proptest::collection::vec((20_u8..25, proptest::collection::vec(any::<u8>(), 0..40)), 0..6),
        kept in 0..2000_usize,
        piece in 1..200_usize,
        is_established in any::<bool>(),
    ) {
        let mut garbage = Vec::new();
        for (kind, content) in records {
            garbage.extend_from_slice(&[kind, 3, 3, 0, content.len() as u8]);
            garbage.extend_from_slice(&content);
        }
        let tls = tls();
        if is_established {
            let (_, mut server) = established(&TLS13);
            let mut input = &garbage[..];
            while !input.is_empty() && !server.has_ended() {
                let _ = server.receive(&mut (&mut input).take(piece as u64), &mut Vec::new());
            }
            let _ = server.close();
        } else {
            let config = client(&tls, provider(), &TLS13, &[]);
            let name = NAME.try_into().expect("a name");
            let mut client = ClientConnection::new(config, name).expect("a client");
            let mut bytes = sent(&mut client);
            bytes.truncate(kept);
            bytes.extend_from_slice(&garbage);
            let acceptor = tls.acceptor(Http2::Tls);
            let mut first = ClientHelloReader::default();
            for piece in bytes.chunks(piece) {
                match acceptor.accept(&mut first, piece) {
                    Ok(None) => {}
                    Ok(Some(_)) | Err(_) => break,
                }
            }
        }
    }
}
