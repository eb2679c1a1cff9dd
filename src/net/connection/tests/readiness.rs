//! Every order of events on an HTTP/2 connection: no wake-up is lost.

use super::*;
use crate::proto::HTTP2_PREFACE;
use crate::proto::h2::hpack::encode_field;

/// The length of the response's body: more than the client's first window.
const BODY_BYTES: usize = 100_000;

/// A transport that reports each edge once, as epoll does.
#[derive(Default)]
struct EdgePeer {
    input: Vec<u8>,
    /// How many bytes it takes.
    room: usize,
    sent: Vec<u8>,
    /// What has not been reported.
    edge: Readiness,
    write_blocked: bool,
}

impl EdgePeer {
    fn send_part(&mut self, bytes: &[u8]) {
        self.edge.readable |= self.input.is_empty();
        self.input.extend_from_slice(bytes);
    }

    fn make_room(&mut self, bytes: usize) {
        self.room += bytes;
        if std::mem::take(&mut self.write_blocked) {
            self.edge.writable = true;
        }
    }
}

impl Transport for EdgePeer {
    fn recv(&mut self, buffer: &mut Vec<u8>) -> io::Result<Received> {
        let count = self.input.len().min(buffer.capacity() - buffer.len());
        buffer.extend(self.input.drain(..count));
        match count {
            0 => Err(io::ErrorKind::WouldBlock.into()),
            count if self.input.is_empty() => Ok(Received::Drained(count)),
            count => Ok(Received::Partial(count)),
        }
    }

    fn send(&mut self, bytes: &[u8], _: More) -> io::Result<usize> {
        let count = bytes.len().min(self.room);
        self.room -= count;
        self.sent.extend_from_slice(&bytes[..count]);
        if count == 0 {
            self.write_blocked = true;
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(count)
    }

    fn send_pair(&mut self, first: &[u8], _: &[u8]) -> io::Result<usize> {
        self.send(first, More::Last)
    }

    fn send_file(&mut self, _: &File, _: u64, _: usize) -> io::Result<usize> {
        panic!("files are read into frames");
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn abort(&mut self) {}

    fn peer_state(&self) -> Option<PeerState> {
        None
    }
}

/// What the client sends, in three parts: a request, the windows for its response, and a PING.
fn parts() -> [Vec<u8>; 3] {
    let frame = |kind: u8, flags: u8, stream: u32, payload: &[u8]| {
        let len = (payload.len() as u32).to_be_bytes();
        let header = [&len[1..], &[kind, flags], &stream.to_be_bytes()].concat();
        [&header, payload].concat()
    };
    let mut block = Vec::new();
    for (name, value) in [
        (":method", "GET"),
        (":scheme", "http"),
        (":authority", "h"),
        (":path", "/"),
    ] {
        encode_field(name.as_bytes(), value.as_bytes(), &mut block);
    }
    let window = (BODY_BYTES as u32).to_be_bytes();
    [
        [
            HTTP2_PREFACE,
            &frame(4, 0, 0, &[])[..],
            &frame(1, 5, 1, &block),
        ]
        .concat(),
        [frame(8, 0, 1, &window), frame(8, 0, 0, &window)].concat(),
        frame(6, 0, 0, b"anything"),
    ]
}

/// The number of bytes of DATA in complete frames, and whether there is an answer to the PING.
fn received(mut sent: &[u8]) -> (usize, bool) {
    let (mut data, mut is_answered) = (0, false);
    while let [a, b, c, kind, flags, rest @ ..] = sent {
        let len = u32::from_be_bytes([0, *a, *b, *c]) as usize;
        data += if *kind == 0 { len } else { 0 };
        is_answered |= (*kind, *flags) == (6, 1);
        sent = &rest[4 + len..];
    }
    (data, is_answered)
}

/// Runs a connection. Bit by bit, `order` says whether the client sends its next part or takes more,
/// and `reports` whether the connection is told at once or with the next report.
fn run(order: u32, reports: u32) {
    let wall = SystemTime::now();
    let mut cx = Context::new(&Config::default(), RecordMode::Off, Instant::now, wall);
    let client = ClientInfo::plain(SocketAddr::from((Ipv4Addr::LOCALHOST, 1)));
    let protocol = Protocol::http2(client, None, &mut cx);
    let mut connection = Connection::new(
        EdgePeer::default(),
        protocol,
        ClientSlot::UNLIMITED,
        Instant::now(),
    );
    let mut services = Always::Medium;
    let mut report = |connection: &mut Connection<EdgePeer>| {
        let edge = std::mem::take(&mut connection.transport.edge);
        connection.on_ready(edge);
        connection.drive(&mut cx, &mut services, Quantum::of(1 << 30));
        // A client may take nothing until its own output is read.
        assert!(connection.transport.input.is_empty(), "unread input");
    };
    report(&mut connection);
    let parts = parts();
    let mut parts = parts.iter();
    let mut rooms = [20, 50_000, usize::MAX / 2].iter();
    for step in 0..6 {
        if order >> step & 1 == 0 {
            let part = parts.next().expect("three parts");
            connection.transport.send_part(part);
        } else {
            let room = rooms.next().expect("three times");
            connection.transport.make_room(*room);
        }
        if reports >> step & 1 == 1 {
            report(&mut connection);
        }
    }
    report(&mut connection);
    let end = received(&connection.transport.sent);
    assert_eq!(end, (BODY_BYTES, true), "{order:06b} {reports:06b}");
}

#[test]
fn no_order_of_events_loses_a_wake_up() {
    for order in (0..64_u32).filter(|order| order.count_ones() == 3) {
        for reports in 0..64 {
            run(order, reports);
        }
    }
}

/// After a file was read, its connection runs for its other requests first. The peer takes bytes
/// meanwhile, so this is no pause, after which the file would be read again, without end.
#[test]
fn file_that_was_read_is_sent_after_requests_had_their_turn() {
    let wall = SystemTime::now();
    let mut cx = Context::new(&Config::default(), RecordMode::Off, Instant::now, wall);
    let client = ClientInfo::plain(SocketAddr::from((Ipv4Addr::LOCALHOST, 1)));
    let protocol = Protocol::http2(client, None, &mut cx);
    let mut peer = EdgePeer::default();
    peer.make_room(1 << 20);
    peer.send_part(&parts()[0]);
    let mut connection = Connection::new(peer, protocol, ClientSlot::UNLIMITED, Instant::now());
    let file = File::open("/dev/null").expect("a file");
    let mut services = Always::Large(Arc::new(file));
    let all = Quantum::of(1 << 30);
    let requests = Quantum {
        scope: DriveScope::Requests,
        ..all
    };
    connection.drive(&mut cx, &mut services, all);
    assert_eq!(received(&connection.transport.sent).0, 0);
    connection.on_file_read(ExchangeId(1), Ok(Resident::InKernel(1 << 20)), &mut cx);
    connection.drive(&mut cx, &mut services, requests);
    connection.drive(&mut cx, &mut services, all);
    // The window.
    assert_eq!(received(&connection.transport.sent).0, 65_535);
}
