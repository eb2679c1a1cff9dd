//! How many requests a client, or a connection, may send in a time.
//!
//! The measure is the generic cell rate algorithm: of each client one point in time is known, the
//! one at which it has its whole burst again. A request that is served moves it by the time that
//! one is worth, and one that is not served moves nothing, so who keeps asking gets its rate.
//!
//! Of how many clients it is known has a bound, and where that is met nobody is charged for the
//! others: whoever owes least is forgotten, which is the one who loses least by it.

use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use ::http::StatusCode;
use ::http::header::RETRY_AFTER;

use crate::client_key::ClientKey;
use crate::handler::{BodyPolicy, Handler, Outcome};
use crate::http::{Rejection, Request, Response, error_page};

/// How many requests in a second, and how many at once by one who has been quiet: `10`, `0.5` (one
/// in two seconds), `10:50` (10 a second, 50 at once). Without a second number it is the first,
/// rounded up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// What one request is worth, in nanoseconds.
    interval: u64,
    burst: u32,
}

impl Rate {
    /// One request in three hours is the least.
    const LEAST: f64 = 0.0001;
    /// More than any event loop answers.
    const MOST: f64 = 1_000_000.0;
    const MAX_BURST: u32 = 1_000_000;

    /// # Errors
    ///
    /// A line that says what is wrong, if `per_second` is not between 0.0001 and a million or
    /// `burst` not between 1 and a million.
    pub fn new(per_second: f64, burst: u32) -> Result<Self, String> {
        if !(Self::LEAST..=Self::MOST).contains(&per_second) {
            let (least, most) = (Self::LEAST, Self::MOST);
            return Err(format!(
                "the rate must be between {least} and {most} requests per second"
            ));
        }
        if !(1..=Self::MAX_BURST).contains(&burst) {
            let most = Self::MAX_BURST;
            return Err(format!("the burst must be between 1 and {most} requests"));
        }
        // Rounded up: it is never more than was said.
        let interval = (1e9 / per_second).ceil() as u64;
        Ok(Self { interval, burst })
    }

    /// By how much the point in time of a client may be ahead for another request.
    fn tolerance(self) -> u64 {
        self.interval * u64::from(self.burst - 1)
    }
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("must be a rate such as 10, 0.5 or 10:50 (50 at once) (got {text:?})");
        let (rate, burst) = match text.split_once(':') {
            Some((rate, burst)) => (rate, Some(burst)),
            None => (text, None),
        };
        let number = |byte: u8| byte.is_ascii_digit() || byte == b'.';
        if !rate.bytes().all(number) {
            return Err(wrong());
        }
        let rate: f64 = rate.parse().map_err(|_| wrong())?;
        let burst = match burst {
            Some(burst) => burst.parse().map_err(|_| wrong())?,
            None => rate.ceil().max(1.0) as u32,
        };
        Self::new(rate, burst)
    }
}

/// Lets through so many requests of one client, or of one connection, and answers 429 to those
/// above (RFC 6585 §4), with a `Retry-After` in seconds. The connection stays open, unless there
/// was a content, which is not read.
///
/// A client is an IPv4 address or an IPv6 network of 64 bits, as [`Request::client_addr`] has it. A
/// connection is the peer's address with its port; where that is 0, because a proxy has said for
/// whom it speaks and not from which port, all requests for that address count as one connection.
/// Peers without an address, those of unix sockets, are not limited.
///
/// A request counts once, when its head is there; a denied one does not count. What is refused for
/// its form does not come here, and ends its connection.
///
/// Each of the two limits takes some 2 MiB of memory and no more, and knows 65,536 clients: of more that
/// are over their rate at once, those who owe least are forgotten.
///
/// ```
/// use tws::{Handler, RateLimit, Request, Response, StatusCode};
///
/// # fn main() -> Result<(), String> {
/// let hello = |_: &Request<'_>| Response::text("hello");
/// let handler = RateLimit::new(hello).per_client("0.1:2".parse()?);
/// let client = ([192, 0, 2, 1], 50_000).into();
/// let status = || {
///     let request = Request::get("/").with_client_addr(client);
///     handler.handle(&request).wait().status()
/// };
/// assert_eq!(status(), StatusCode::OK);
/// assert_eq!(status(), StatusCode::OK);
/// assert_eq!(status(), StatusCode::TOO_MANY_REQUESTS);
/// # Ok(())
/// # }
/// ```
pub struct RateLimit {
    inner: Box<dyn Handler>,
    start: Instant,
    clock: fn() -> Instant,
    clients: Option<RateTable>,
    connections: Option<RateTable>,
}

impl RateLimit {
    /// Around `inner`, without limits yet.
    pub fn new(inner: impl Handler + 'static) -> Self {
        Self::with_clock(inner, Instant::now)
    }

    fn with_clock(inner: impl Handler + 'static, clock: fn() -> Instant) -> Self {
        Self {
            inner: Box::new(inner),
            start: clock(),
            clock,
            clients: None,
            connections: None,
        }
    }

    /// Limits the requests of one client, on all its connections together.
    pub fn per_client(mut self, rate: Rate) -> Self {
        self.clients = Some(RateTable::new(rate, SHELVES));
        self
    }

    /// Limits the requests on one connection.
    pub fn per_connection(mut self, rate: Rate) -> Self {
        self.connections = Some(RateTable::new(rate, SHELVES));
        self
    }

    /// The answer to a request that is one too many.
    fn deny(&self, request: &Request<'_>) -> Option<Response> {
        let client = ClientKey::of(request.client_addr().ip())?;
        let now = (self.clock)().saturating_duration_since(self.start);
        let Denied { wait } = self.take(client, request.client_addr(), now).err()?;
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        let status = StatusCode::TOO_MANY_REQUESTS;
        let plain = Response::text(format!("{status}: try again in {seconds} s\n"));
        let page = error_page::instead_of(plain.with_status(status), request.fields());
        Some(page.with_header(RETRY_AFTER, seconds))
    }

    fn take(&self, client: ClientKey, peer: SocketAddr, now: Duration) -> Result<(), Denied> {
        let connection = RateKey::of_connection(peer);
        if let Some(connections) = &self.connections {
            connections.take(connection, now)?;
        }
        let Some(clients) = &self.clients else {
            return Ok(());
        };
        let taken = clients.take(RateKey::of_client(client), now);
        if let (Err(_), Some(connections)) = (&taken, &self.connections) {
            connections.give_back(connection);
        }
        taken
    }
}

impl Handler for RateLimit {
    fn handle(&self, request: &Request<'_>) -> Outcome {
        // One with a content was counted before that was read.
        if !request.announces_content()
            && let Some(response) = self.deny(request)
        {
            return response.into();
        }
        self.inner.handle(request)
    }

    fn admit(&self, request: &Request<'_>) -> BodyPolicy {
        match self.deny(request) {
            Some(response) => BodyPolicy::Reject(response),
            None => self.inner.admit(request),
        }
    }

    fn reject(&self, request: &Request<'_>, rejection: Rejection) -> Response {
        self.inner.reject(request, rejection)
    }

    fn shed(&self) {
        self.inner.shed();
    }
}

/// Whose requests are counted together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct RateKey {
    address: [u8; 16],
    port: u16,
}

impl RateKey {
    fn of_client(client: ClientKey) -> Self {
        Self {
            address: client.octets(),
            port: 0,
        }
    }

    fn of_connection(peer: SocketAddr) -> Self {
        Self {
            address: match peer.ip().to_canonical() {
                IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
                IpAddr::V6(v6) => v6.octets(),
            },
            port: peer.port(),
        }
    }
}

/// An account and the time, in nanoseconds, at which all is paid: one that is past, as that of an
/// empty place is, is the same as none.
#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    account: RateKey,
    paid_at: u64,
}

/// How many accounts have a place on one shelf. They are looked through one by one.
const WIDTH: usize = 16;
const SHELVES: usize = 4096;

type Bucket = [Entry; WIDTH];

/// All accounts that owe something, on shelves: each account has its place on one of them, which a
/// key of this process decides, so that nobody can choose to meet another there. Each shelf has its
/// own lock.
#[derive(Debug)]
struct RateTable {
    rate: Rate,
    key: RandomState,
    shelves: Box<[Mutex<Bucket>]>,
}

/// Not now, but after this time.
#[derive(Debug, PartialEq, Eq)]
struct Denied {
    wait: Duration,
}

impl RateTable {
    fn new(rate: Rate, shelves: usize) -> Self {
        Self {
            rate,
            key: RandomState::new(),
            shelves: (0..shelves).map(|_| Mutex::default()).collect(),
        }
    }

    /// Charges an account with one request at `now`, which is counted from any one point in time.
    fn take(&self, account: RateKey, now: Duration) -> Result<(), Denied> {
        // 584 years.
        let now = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        self.on_shelf(account, |shelf| {
            let entry = place_of(account, shelf);
            let paid_at = match entry.account == account {
                true => entry.paid_at.max(now),
                false => now,
            };
            let ahead = paid_at - now;
            if let early @ 1.. = ahead.saturating_sub(self.rate.tolerance()) {
                let wait = Duration::from_nanos(early);
                return Err(Denied { wait });
            }
            *entry = Entry {
                account,
                paid_at: paid_at.saturating_add(self.rate.interval),
            };
            Ok(())
        })
    }

    /// Takes back the charge for a request that was not served.
    fn give_back(&self, account: RateKey) {
        self.on_shelf(account, |shelf| {
            let entry = place_of(account, shelf);
            if entry.account == account {
                entry.paid_at = entry.paid_at.saturating_sub(self.rate.interval);
            }
        });
    }

    fn on_shelf<T>(&self, account: RateKey, act: impl FnOnce(&mut Bucket) -> T) -> T {
        let at = self.key.hash_one(account) as usize % self.shelves.len();
        let shelf = self.shelves[at].lock();
        act(&mut shelf.unwrap_or_else(PoisonError::into_inner))
    }
}

/// Where an account stands, or whose place it takes: that of the one who is paid first.
fn place_of(account: RateKey, shelf: &mut Bucket) -> &mut Entry {
    let known = shelf.iter().position(|entry| entry.account == account);
    let least = || (0..WIDTH).min_by_key(|at| shelf[*at].paid_at);
    let at = known.or_else(least).unwrap_or(0);
    &mut shelf[at]
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;
    use crate::middleware::test_clock::{now, pass};

    fn rate(text: &str) -> Rate {
        text.parse().expect("a rate")
    }

    fn account(address: u128) -> RateKey {
        RateKey {
            address: address.to_be_bytes(),
            port: 0,
        }
    }

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn a_rate_is_written_as_people_say_it() {
        for (text, interval, burst) in [
            ("10", SECOND / 10, 10),
            ("0.5", 2 * SECOND, 1),
            ("2.5", SECOND * 2 / 5, 3),
            ("10:50", SECOND / 10, 50),
            ("0.5:4", 2 * SECOND, 4),
            ("3", SECOND / 3 + 1, 3),
            ("0.0001:1000000", 10_000 * SECOND, 1_000_000),
            ("1000000", 1000, 1_000_000),
        ] {
            assert_eq!(text.parse(), Ok(Rate { interval, burst }), "{text}");
        }
        for (text, expected) in [
            ("", "10:50"),
            (".", "10:50"),
            ("ten", "10:50"),
            ("-1", "10:50"),
            ("1e3", "10:50"),
            ("inf", "10:50"),
            ("10:", "10:50"),
            ("10,5", "10:50"),
            ("0", "the rate must be between 0.0001 and 1000000"),
            ("1000001", "the rate must be"),
            ("1:0", "the burst must be between 1 and 1000000"),
            ("1:1000001", "the burst must be"),
        ] {
            let error = text.parse::<Rate>().expect_err("no rate");
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    fn limited() -> RateLimit {
        RateLimit::with_clock(|_: &Request<'_>| Response::text("in"), now)
    }

    fn from(request: Request<'static>, peer: &str) -> Request<'static> {
        request.with_client_addr(peer.parse().expect("an address"))
    }

    fn status(handler: &RateLimit, peer: &str) -> u16 {
        let request = from(Request::get("/"), peer);
        handler.handle(&request).wait().status().as_u16()
    }

    #[test]
    fn who_is_denied_is_told_when_to_come_back() {
        let handler = limited().per_client(rate("0.4:2"));
        let ana = "192.0.2.1:50000";
        assert_eq!([status(&handler, ana), status(&handler, ana)], [200, 200]);
        for (wait, seconds) in [(0, "3"), (400, "3"), (200, "2"), (1899, "1")] {
            pass(wait);
            let request = from(Request::get("/"), ana).with_header("Accept", "application/json");
            let response = handler.handle(&request).wait();
            assert_eq!(response.status(), 429);
            assert_eq!(response.headers()[RETRY_AFTER], seconds);
            assert_eq!(response.headers()["content-type"], "application/json");
        }
        // To have asked in vain has cost nothing.
        pass(1);
        assert_eq!(status(&handler, ana), 200);
        assert_eq!(status(&handler, ana), 429);
    }

    #[test]
    fn a_client_is_not_a_connection() {
        let by_client = limited().per_client(rate("0.1"));
        let by_connection = limited().per_connection(rate("0.1"));
        for (peer, of_client, of_connection) in [
            ("192.0.2.1:1", 200, 200),
            ("192.0.2.1:2", 429, 200),
            ("[::ffff:192.0.2.1]:2", 429, 429),
            ("192.0.2.2:2", 200, 200),
            ("[2001:db8::1]:3", 200, 200),
            ("[2001:db8::2]:3", 429, 200),
            ("[2001:db8::2]:3", 429, 429),
            // A proxy has said whom it speaks for, and not on which connection.
            ("192.0.2.3:0", 200, 200),
            ("192.0.2.3:0", 429, 429),
            // Unix sockets.
            ("[::]:0", 200, 200),
            ("[::]:0", 200, 200),
        ] {
            assert_eq!(status(&by_client, peer), of_client, "{peer}");
            assert_eq!(status(&by_connection, peer), of_connection, "{peer}");
        }
    }

    /// A connection is not charged for what its client may not have.
    #[test]
    fn a_request_that_one_limit_denies_costs_nothing_at_the_other() {
        let handler = limited()
            .per_client(rate("1"))
            .per_connection(rate("0.1:2"));
        let peer = "192.0.2.1:1";
        assert_eq!(
            [(); 5].map(|()| status(&handler, peer)),
            [200, 429, 429, 429, 429]
        );
        pass(1000);
        assert_eq!(status(&handler, peer), 200);
        pass(1000);
        assert_eq!(status(&handler, peer), 429);
        assert_eq!(status(&handler, "192.0.2.1:2"), 200);
    }

    #[test]
    fn a_request_with_a_content_counts_once_and_before_it_is_read() {
        let handler = limited().per_client(rate("0.1:2"));
        let post = from(Request::post("/", "text"), "192.0.2.1:1");
        let is_admitted = || matches!(handler.admit(&post), BodyPolicy::Buffer { max: _ });
        for _ in 0..2 {
            assert!(is_admitted());
            assert_eq!(handler.handle(&post).wait().status(), 200);
        }
        match handler.admit(&post) {
            BodyPolicy::Reject(response) => assert_eq!(response.status(), 429),
            other => panic!("{other:?}"),
        }
        let refused = handler.reject(&post, Rejection::bad_request("no"));
        assert_eq!(refused.status(), 400);
    }

    /// However many come, those who owe most are not forgotten, and those who come last are known.
    #[test]
    fn a_crowd_does_not_wash_a_debt_away() {
        let ledger = RateTable::new(rate("0.1:3"), 4);
        let debtor = account(1 << 100);
        let now = Duration::from_secs(1);
        for _ in 0..3 {
            assert_eq!(ledger.take(debtor, now), Ok(()));
        }
        for stranger in 0..10_000 {
            assert_eq!(ledger.take(account(stranger), now), Ok(()));
        }
        assert!(ledger.take(debtor, now).is_err());
        // Once it has paid, its place is anybody's.
        let later = now + Duration::from_secs(30);
        for stranger in 0..10_000 {
            assert_eq!(ledger.take(account(stranger), later), Ok(()));
        }
        let is_known = |shelf: &Mutex<Bucket>| {
            let shelf = shelf.lock().expect("a shelf");
            shelf.iter().any(|entry| entry.account == debtor)
        };
        assert!(!ledger.shelves.iter().any(is_known));
    }

    #[test]
    fn the_memory_is_what_the_documentation_says() {
        assert_eq!(WIDTH * SHELVES, 65_536);
        assert!(size_of::<Mutex<Bucket>>() * SHELVES < (2 << 20) + (64 << 10));
    }

    /// The same said differently: a bucket with room for a burst, into which time drips.
    struct ExactBucket {
        rate: Rate,
        credit: u64,
        at: u64,
    }

    impl ExactBucket {
        fn take(&mut self, at: u64) -> bool {
            let full = self.rate.interval * u64::from(self.rate.burst);
            self.credit = full.min(self.credit + (at - self.at));
            self.at = at;
            let serves = self.credit >= self.rate.interval;
            if serves {
                self.credit -= self.rate.interval;
            }
            serves
        }
    }

    fn any_rate() -> impl Strategy<Value = Rate> {
        (1..2000u32, 1..20u32)
            .prop_map(|(tenths, burst)| Rate::new(f64::from(tenths) / 10.0, burst).expect("a rate"))
    }

    proptest! {
        /// Whoever comes and when: nobody has ever had more than a burst and what the time since is
        /// worth, nobody is denied what a bucket of its own would have given, and who is told to
        /// wait is told how long.
        #[test]
        fn nobody_gets_more_or_less_than_the_rate_whoever_else_comes(
            rate in any_rate(),
            arrivals in proptest::collection::vec((0..4u128, 0..SECOND), 1..200),
        ) {
            let ledger = RateTable::new(rate, 1);
            let mut buckets = HashMap::new();
            let mut served: HashMap<u128, Vec<u64>> = HashMap::new();
            let mut at = 0;
            for (client, gap) in arrivals {
                at += gap / 8;
                let full = rate.interval * u64::from(rate.burst);
                let bucket = buckets.entry(client).or_insert(ExactBucket { rate, credit: full, at });
                let taken = ledger.take(account(client + 1), Duration::from_nanos(at));
                prop_assert_eq!(taken.is_ok(), bucket.take(at));
                match taken {
                    Ok(()) => served.entry(client).or_default().push(at),
                    Err(Denied { wait }) => {
                        let wait = u64::try_from(wait.as_nanos()).expect("a short time");
                        prop_assert_eq!(wait, rate.interval - bucket.credit);
                    }
                }
            }
            for times in served.values() {
                for (first, from) in times.iter().enumerate() {
                    for (last, to) in times.iter().enumerate().skip(first) {
                        let most = u64::from(rate.burst) + (to - from) / rate.interval;
                        prop_assert!((last - first + 1) as u64 <= most);
                    }
                }
            }
        }

        /// Who keeps asking, however often in vain, gets all that there is.
        #[test]
        fn who_keeps_asking_gets_its_rate(
            rate in any_rate().prop_filter("a burst", |rate| rate.burst > 1),
            gaps in proptest::collection::vec(0..=1000u64, 1..300),
        ) {
            let ledger = RateTable::new(rate, 1);
            let mut at = 0;
            let mut served = 0;
            for gap in &gaps {
                at += rate.interval / 1000 * gap;
                served += u64::from(ledger.take(account(1), Duration::from_nanos(at)).is_ok());
            }
            let start = rate.interval / 1000 * gaps[0];
            let most = u64::from(rate.burst) + (at - start) / rate.interval;
            prop_assert!(served <= most);
            prop_assert!(served + 1 >= most.min(gaps.len() as u64));
        }
    }
}
