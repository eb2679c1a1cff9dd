//! Tests of the driver with transports that need no socket.

mod readiness;

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ::http::StatusCode;

use super::*;
use crate::config::{Config, Limits};
use crate::http::Body;
use crate::http::forwarded::ClientInfo;
use crate::net::bandwidth::per_client::Clients;
use crate::net::transport::More;
use crate::proto::context::RecordMode;
use crate::proto::peer_state::PeerState;

/// A transport whose peer has sent `input` and takes `takes` more bytes.
struct TestPeer {
    input: Vec<u8>,
    takes: usize,
    sent: usize,
    reads: usize,
    /// Number of calls that send.
    calls: usize,
    unacknowledged: u32,
}

impl TestPeer {
    fn take(&mut self, count: usize) -> io::Result<usize> {
        self.calls += 1;
        let count = count.min(self.takes);
        self.takes -= count;
        self.sent += count;
        match count {
            0 => Err(io::ErrorKind::WouldBlock.into()),
            count => Ok(count),
        }
    }
}

impl Transport for TestPeer {
    fn recv(&mut self, buffer: &mut Vec<u8>) -> io::Result<Received> {
        self.reads += 1;
        let count = self.input.len().min(buffer.capacity() - buffer.len());
        buffer.extend(self.input.drain(..count));
        match count {
            0 => Err(io::ErrorKind::WouldBlock.into()),
            count if self.input.is_empty() => Ok(Received::Drained(count)),
            count => Ok(Received::Partial(count)),
        }
    }

    fn send(&mut self, bytes: &[u8], _: More) -> io::Result<usize> {
        self.take(bytes.len())
    }

    fn send_pair(&mut self, first: &[u8], second: &[u8]) -> io::Result<usize> {
        self.take(first.len() + second.len())
    }

    fn send_file(&mut self, _: &File, _: u64, len: usize) -> io::Result<usize> {
        self.take(len)
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn abort(&mut self) {}

    fn peer_state(&self) -> Option<PeerState> {
        Some(PeerState {
            unacknowledged: self.unacknowledged,
            receiver: None,
        })
    }
}

/// Answers every request with this.
enum Always {
    Small,
    /// More than a window of HTTP/2.
    Medium,
    /// A terabyte.
    Large(Arc<File>),
}

impl Services for Always {
    fn answer(&mut self, _: ExchangeId, _: &Request<'_>) -> Option<Response> {
        let file = match self {
            Self::Small => return Some(Response::text("small")),
            Self::Medium => return Some(Response::text("x".repeat(100_000))),
            Self::Large(file) => Arc::clone(file),
        };
        let range = FileRange::new(file, 0, 1 << 40);
        Some(Response::new(StatusCode::OK).with_body(Body::File(range)))
    }

    fn admit(&mut self, _: &Request<'_>) -> BodyPolicy {
        BodyPolicy::Buffer { max: 0 }
    }

    fn reject(&mut self, _: ExchangeId, _: &Request<'_>, rejection: Rejection) -> Response {
        rejection.into()
    }

    fn open_request_body(&mut self, _: ExchangeId) -> BodyWriter {
        BodyWriter::new(|| {})
    }

    fn probe_file(&mut self, _: ExchangeId, range: FileRange, _: Instant) -> Option<u64> {
        Some(range.len)
    }

    fn fetch_file(&mut self, _: ExchangeId, _: FileRange) {}

    fn read_file(&mut self, read: &mut FileRead<'_>, _: Instant) -> FileBytes {
        if !read.is_resident {
            return FileBytes::NotResident;
        }
        read.buffer.fill(b'F');
        FileBytes::Read(read.buffer.len())
    }

    fn cancel(&mut self, _: ExchangeId) {}

    fn pull_body(&mut self, _: ExchangeId, _: BodySource) -> Pulled {
        Pulled::Later
    }

    fn upgrade_waker(&mut self, _: ExchangeId) -> UpgradeWaker {
        panic!("nothing is upgraded");
    }

    fn run_upgrade_job(&mut self, _: ExchangeId, _: UpgradeJob) {
        panic!("nothing is upgraded");
    }

    fn record(&mut self, _: Record) {}
}

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n";

fn download(takes: usize) -> (Connection<TestPeer>, Context, Always) {
    let peer = TestPeer {
        input: REQUEST.to_vec(),
        takes,
        sent: 0,
        reads: 0,
        calls: 0,
        unacknowledged: 0,
    };
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
    let connection = Connection::new(
        peer,
        Protocol::http1(ClientInfo::plain(address)),
        ClientSlot::UNLIMITED,
        Instant::now(),
    );
    let wall = SystemTime::now();
    let cx = Context::new(&Config::default(), RecordMode::Off, Instant::now, wall);
    let file = File::open("/dev/null").expect("a file");
    (connection, cx, Always::Large(Arc::new(file)))
}

/// A short read is not followed by another read, and readiness to write is not asked for.
#[test]
fn request_costs_one_read_and_one_write() {
    const REQUESTS: usize = 100;
    let (mut connection, mut cx, _) = download(usize::MAX);
    for _ in 0..REQUESTS {
        connection.transport.input = REQUEST.to_vec();
        connection.on_ready(Readiness {
            readable: true,
            writable: true,
            read_closed: false,
        });
        let blocked = connection.drive(&mut cx, &mut Always::Small, Quantum::of(usize::MAX));
        assert_eq!(blocked, Blocked::Readable);
    }
    let calls = (connection.transport.reads, connection.transport.calls);
    assert_eq!(calls, (REQUESTS, REQUESTS));
}

#[test]
fn fast_client_yields_after_each_quantum() {
    const QUANTUM: usize = 1000;
    let (mut connection, mut cx, mut services) = download(usize::MAX);
    for round in 1..=10 {
        assert_eq!(
            connection.drive(&mut cx, &mut services, Quantum::of(QUANTUM)),
            Blocked::Yield
        );
        assert!(connection.is_sending_bulk());
        let sent = connection.transport.sent;
        assert!(
            ((round - 1) * QUANTUM + 1..=round * QUANTUM).contains(&sent),
            "{sent}"
        );
    }
}

/// Bytes that the kernel has taken extend the deadline only when the peer has acknowledged them.
#[test]
fn deadline_of_slow_client_depends_on_acknowledged_bytes() {
    const TAKEN: u32 = 100_000;
    let timeouts = Timeouts::default();
    let (mut connection, mut cx, mut services) = download(TAKEN as usize);
    let start = cx.now;
    let blocked = connection.drive(&mut cx, &mut services, Quantum::of(1 << 20));
    assert_eq!(blocked, Blocked::Writable);
    let at = |seconds| start + Duration::from_secs(seconds);
    let mut deadline_after = |connection: &mut Connection<TestPeer>, seconds, unacknowledged| {
        connection.transport.unacknowledged = unacknowledged;
        cx.tick(at(seconds), SystemTime::now);
        connection.poll_acked(&cx);
        connection.deadline(&timeouts)
    };
    // The grace period.
    assert_eq!(connection.deadline(&timeouts), Some(at(5)));
    // 2,400 bytes are worth 10 seconds, and they were acknowledged at the end of the grace period.
    assert_eq!(
        deadline_after(&mut connection, 5, TAKEN - 2400),
        Some(at(15))
    );
    assert_eq!(
        deadline_after(&mut connection, 10, TAKEN - 4800),
        Some(at(25))
    );
    // Nothing more is acknowledged: the deadline has passed.
    assert_eq!(
        deadline_after(&mut connection, 25, TAKEN - 4800),
        Some(at(25))
    );
}

#[test]
fn stalled_client_costs_no_calls_before_an_event() {
    let (mut connection, mut cx, mut services) = download(5000);
    assert_eq!(
        connection.drive(&mut cx, &mut services, Quantum::of(1 << 20)),
        Blocked::Writable
    );
    let calls = connection.transport.calls;
    for _ in 0..10 {
        assert_eq!(
            connection.drive(&mut cx, &mut services, Quantum::of(1 << 20)),
            Blocked::Writable
        );
    }
    assert_eq!(
        (connection.transport.sent, connection.transport.calls),
        (5000, calls)
    );
    connection.transport.takes = 10;
    connection.on_ready(Readiness {
        writable: true,
        ..Readiness::default()
    });
    assert_eq!(
        connection.drive(&mut cx, &mut services, Quantum::of(1 << 20)),
        Blocked::Writable
    );
    assert_eq!(connection.transport.sent, 5010);
}

/// A download at 64 KiB per second that is throttled after its burst.
fn throttled_download() -> (Connection<TestPeer>, Context, Always, Instant) {
    let limits = Limits {
        bandwidth_per_connection: NonZeroU64::new(64 * 1024),
        ..Limits::default()
    };
    let clients = Clients::new(&limits).expect("a limit");
    let (mut connection, mut cx, mut services) = download(usize::MAX);
    let slot = clients.register(Ipv4Addr::LOCALHOST.into(), cx.now);
    connection.client_slot = slot.expect("no limit");
    cx.limits.min_rate_bytes_per_second = 0;
    let retry_at = loop {
        match connection.drive(&mut cx, &mut services, Quantum::of(1 << 20)) {
            Blocked::Throttled(retry_at) => break retry_at,
            Blocked::Yield => {}
            blocked => panic!("{blocked:?}"),
        }
    };
    (connection, cx, services, retry_at)
}

/// A transport whose peer sends TLS records without data, endlessly.
struct EmptyRecords {
    reads: usize,
}

impl Transport for EmptyRecords {
    fn recv(&mut self, _: &mut Vec<u8>) -> io::Result<Received> {
        self.reads += 1;
        Ok(Received::Partial(0))
    }

    fn send(&mut self, bytes: &[u8], _: More) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn send_pair(&mut self, first: &[u8], second: &[u8]) -> io::Result<usize> {
        Ok(first.len() + second.len())
    }

    fn send_file(&mut self, _: &File, _: u64, len: usize) -> io::Result<usize> {
        Ok(len)
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn abort(&mut self) {}

    fn peer_state(&self) -> Option<PeerState> {
        None
    }
}

#[test]
fn peer_that_sends_empty_records_yields() {
    let now = Instant::now();
    let clock = Instant::now;
    let config = Config::default();
    let mut cx = Context::new(&config, RecordMode::Off, clock, SystemTime::now());
    let peer = ClientInfo::plain(SocketAddr::from((Ipv4Addr::LOCALHOST, 1)));
    let peer = Protocol::http1(peer);
    let mut connection =
        Connection::new(EmptyRecords { reads: 0 }, peer, ClientSlot::UNLIMITED, now);
    let blocked = connection.drive(&mut cx, &mut Always::Small, Quantum::of(128 * 1024));
    assert_eq!(blocked, Blocked::Yield);
    assert_eq!(connection.transport.reads, 32);
    // Its deadline is that of a peer that sends nothing.
    let deadline = connection.deadline(&config.timeouts);
    assert_eq!(deadline, Some(now + config.timeouts.keep_alive));
}

#[test]
fn throttled_connection_resumes_and_keeps_its_rate() {
    let (mut connection, mut cx, mut services, mut retry_at) = throttled_download();
    let (begin, start) = (connection.transport.sent, cx.now);
    assert!((8 * 1024..32 * 1024).contains(&begin), "{begin}");
    while retry_at < start + Duration::from_secs(10) {
        assert!(retry_at > cx.now, "it need not wait");
        // Driven too early, it stays throttled.
        let before = connection.transport.calls;
        let blocked = connection.drive(&mut cx, &mut services, Quantum::of(1 << 20));
        assert_eq!(
            (blocked, connection.transport.calls),
            (Blocked::Throttled(retry_at), before)
        );
        assert_eq!(connection.throttled_until(), Some(retry_at));
        cx.tick(retry_at, SystemTime::now);
        match connection.drive(&mut cx, &mut services, Quantum::of(1 << 20)) {
            Blocked::Throttled(next) => retry_at = next,
            blocked => panic!("{blocked:?}"),
        }
    }
    let sent = connection.transport.sent - begin;
    assert!(sent.abs_diff(10 * 64 * 1024) <= 16 * 1024, "{sent}");
}

#[test]
fn throttled_time_does_not_count_towards_timeouts() {
    let (mut connection, mut cx, mut services, retry_at) = throttled_download();
    let timeouts = Config::default().timeouts;
    assert_eq!(connection.deadline(&timeouts), None);
    assert_eq!(connection.occupancy(), Occupancy::Busy);
    let (stopped, retry_at) = (cx.now, retry_at + Duration::from_secs(3600));
    cx.tick(retry_at, SystemTime::now);
    connection.transport.takes = 0;
    assert_eq!(
        connection.drive(&mut cx, &mut services, Quantum::of(1 << 20)),
        Blocked::Writable
    );
    let deadline = connection.deadline(&timeouts).expect("a deadline");
    assert!(deadline >= retry_at + timeouts.send && stopped + timeouts.send < deadline);
}

#[test]
fn request_is_not_read_while_throttled_by_previous_responses() {
    let limits = Limits {
        bandwidth_per_client: NonZeroU64::new(1024),
        ..Limits::default()
    };
    let clients = Clients::new(&limits).expect("a limit");
    let (mut connection, mut cx, _) = download(usize::MAX);
    let slot = clients.register(Ipv4Addr::LOCALHOST.into(), cx.now);
    connection.client_slot = slot.expect("no limit");
    let mut answered = 0;
    let retry_at = loop {
        match connection.drive(&mut cx, &mut Always::Small, Quantum::of(1 << 20)) {
            Blocked::Throttled(retry_at) => break retry_at,
            Blocked::Readable => answered += 1,
            blocked => panic!("{blocked:?}"),
        }
        connection.transport.input = REQUEST.to_vec();
        connection.on_ready(Readiness {
            readable: true,
            ..Readiness::default()
        });
    };
    assert!((1..10).contains(&answered), "{answered}");
    assert_eq!(connection.transport.input, REQUEST, "it was read");
    cx.tick(retry_at, SystemTime::now);
    let blocked = connection.drive(&mut cx, &mut Always::Small, Quantum::of(1 << 20));
    assert_eq!(
        (blocked, connection.transport.input.len()),
        (Blocked::Readable, 0)
    );
}

#[test]
fn incomplete_connection_is_evictable_after_the_grace_period() {
    for input in ["", "G", "GET / HTTP/1.1\r\nHost"] {
        let (mut connection, mut cx, mut services) = download(0);
        connection.transport.input = input.into();
        cx.idle_grace = Duration::from_secs(3);
        let blocked = connection.drive(&mut cx, &mut services, Quantum::of(1 << 20));
        assert_eq!(blocked, Blocked::Readable);
        assert_eq!(connection.occupancy(), Occupancy::Incomplete);
        let start = connection.wait.since();
        cx.tick(start + Duration::from_millis(2999), SystemTime::now);
        assert_eq!(connection.evictable_since(&cx), None);
        cx.tick(start + cx.idle_grace, SystemTime::now);
        assert_eq!(connection.evictable_since(&cx), Some(start));
    }
}

#[test]
fn connection_with_a_request_is_not_evictable() {
    let (mut connection, mut cx, mut services) = download(0);
    cx.idle_grace = Duration::ZERO;
    let blocked = connection.drive(&mut cx, &mut services, Quantum::of(1 << 20));
    assert_eq!(blocked, Blocked::Writable);
    assert_eq!(connection.occupancy(), Occupancy::Busy);
    assert_eq!(connection.evictable_since(&cx), None);
}

/// Never answers.
struct Silent;

impl Services for Silent {
    fn answer(&mut self, _: ExchangeId, _: &Request<'_>) -> Option<Response> {
        None
    }

    fn admit(&mut self, _: &Request<'_>) -> BodyPolicy {
        BodyPolicy::Buffer { max: 0 }
    }

    fn reject(&mut self, _: ExchangeId, _: &Request<'_>, rejection: Rejection) -> Response {
        rejection.into()
    }

    fn open_request_body(&mut self, _: ExchangeId) -> BodyWriter {
        BodyWriter::new(|| {})
    }

    fn probe_file(&mut self, _: ExchangeId, _: FileRange, _: Instant) -> Option<u64> {
        None
    }

    fn fetch_file(&mut self, _: ExchangeId, _: FileRange) {}

    fn read_file(&mut self, _: &mut FileRead<'_>, _: Instant) -> FileBytes {
        FileBytes::NotResident
    }

    fn cancel(&mut self, _: ExchangeId) {}

    fn pull_body(&mut self, _: ExchangeId, _: BodySource) -> Pulled {
        Pulled::Later
    }

    fn upgrade_waker(&mut self, _: ExchangeId) -> UpgradeWaker {
        panic!("nothing is upgraded");
    }

    fn run_upgrade_job(&mut self, _: ExchangeId, _: UpgradeJob) {
        panic!("nothing is upgraded");
    }

    fn record(&mut self, _: Record) {}
}

#[test]
fn wait_for_handler_has_a_deadline_only_while_half_closed() {
    let timeouts = Config::default().timeouts;
    let (mut connection, mut cx, _) = download(usize::MAX);
    let blocked = connection.drive(&mut cx, &mut Silent, Quantum::of(1 << 20));
    assert_eq!(blocked, Blocked::Handler);
    assert_eq!(connection.deadline(&timeouts), None);
    connection.on_ready(Readiness {
        readable: true,
        writable: false,
        read_closed: true,
    });
    let blocked = connection.drive(&mut cx, &mut Silent, Quantum::of(1 << 20));
    assert_eq!(blocked, Blocked::Handler);
    let deadline = connection.wait.since() + timeouts.half_closed;
    assert_eq!(connection.deadline(&timeouts), Some(deadline));
    connection.on_timeout(&Timeouts::default(), &mut cx);
    let blocked = connection.drive(&mut cx, &mut Silent, Quantum::of(1 << 20));
    assert_eq!(blocked, Blocked::Closed(CloseReason::TimedOut));
}

#[test]
fn hang_up_ends_the_wait_for_handler_at_once() {
    let (mut connection, mut cx, _) = download(usize::MAX);
    let blocked = connection.drive(&mut cx, &mut Silent, Quantum::of(1 << 20));
    assert_eq!(blocked, Blocked::Handler);
    connection.on_hang_up();
    let blocked = connection.drive(&mut cx, &mut Silent, Quantum::of(1 << 20));
    assert_eq!(blocked, Blocked::Closed(CloseReason::Broken));
}
