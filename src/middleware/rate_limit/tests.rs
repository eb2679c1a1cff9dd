use std::collections::HashMap;

use ::http::Method;
use proptest::prelude::*;

use super::*;
use crate::middleware::test_clock::{now, pass};

fn rate(text: &str) -> Rate {
    text.parse().expect("a rate")
}

fn key(address: u128) -> RateKey {
    RateKey {
        address: address.to_be_bytes(),
        port: 0,
    }
}

const SECOND: u64 = 1_000_000_000;

#[test]
fn rates_are_parsed_with_and_without_burst() {
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
        assert!(error.to_string().contains(expected), "{text}: {error}");
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
fn denied_request_gets_429_with_retry_after() {
    let handler = limited().per_client(rate("0.4:2"));
    let client = "192.0.2.1:50000";
    assert_eq!(
        [status(&handler, client), status(&handler, client)],
        [200, 200]
    );
    for (wait, seconds) in [(0, "3"), (400, "3"), (200, "2"), (1899, "1")] {
        pass(wait);
        let request = from(Request::get("/"), client).with_header("Accept", "application/json");
        let response = handler.handle(&request).wait();
        assert_eq!(response.status(), 429);
        assert_eq!(response.headers()[RETRY_AFTER], seconds);
        assert_eq!(response.headers()["content-type"], "application/json");
    }
    // The denied requests did not count.
    pass(1);
    assert_eq!(status(&handler, client), 200);
    assert_eq!(status(&handler, client), 429);
}

#[test]
fn client_and_connection_limits_count_separately() {
    let by_client = limited().per_client(rate("0.1"));
    let by_connection = limited().per_connection(rate("0.1"));
    for (peer, for_client, for_connection) in [
        ("192.0.2.1:1", 200, 200),
        ("192.0.2.1:2", 429, 200),
        ("[::ffff:192.0.2.1]:2", 429, 429),
        ("192.0.2.2:2", 200, 200),
        ("[2001:db8::1]:3", 200, 200),
        ("[2001:db8::2]:3", 429, 200),
        ("[2001:db8::2]:3", 429, 429),
        // A proxy reported the client's address without its port.
        ("192.0.2.3:0", 200, 200),
        ("192.0.2.3:0", 429, 429),
        // Unix sockets.
        ("[::]:0", 200, 200),
        ("[::]:0", 200, 200),
    ] {
        assert_eq!(status(&by_client, peer), for_client, "{peer}");
        assert_eq!(status(&by_connection, peer), for_connection, "{peer}");
    }
}

/// A request that the client limit denies does not count for its connection.
#[test]
fn request_denied_by_one_limit_does_not_count_in_the_other() {
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
fn request_with_body_counts_once_before_the_body_is_read() {
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
    let rejected = handler.reject(&post, Rejection::bad_request("no"));
    assert_eq!(rejected.status(), 400);
}

/// A server calls `handle` alone, `admit` and then `handle` or `reject` of the request that it built
/// again, or `reject` alone. So do programs that call a handler without a server, with one request.
#[test]
fn request_counts_once_whatever_its_framing() {
    type Call = fn(&dyn Handler, &Request<'static>);
    let handle: Call = |handler, request| drop(handler.handle(request).wait());
    let admit_and_handle: Call = |handler, request| {
        let _ = handler.admit(request);
        handler.handle(request).wait();
    };
    let as_server: Call = |handler, request| {
        let _ = handler.admit(&request.clone());
        handler.handle(&request.clone().admitted()).wait();
    };
    let admit_and_reject: Call = |handler, request| {
        let _ = handler.admit(request);
        handler.reject(request, Rejection::bad_request("no"));
    };
    let reject: Call = |handler, request| {
        handler.reject(request, Rejection::bad_request("no"));
    };
    let empty = Request::get("/in").with_header("Content-Length", "0");
    let preflight =
        Request::new(Method::OPTIONS, "/in").with_header("Access-Control-Request-Method", "PUT");
    for (name, request, call) in [
        ("no content", Request::get("/in"), handle),
        ("Content-Length: 0", empty, handle),
        ("no body in a POST", Request::post("/in", ""), handle),
        ("not admitted", Request::post("/in", "a"), handle),
        ("admitted", Request::post("/in", "a"), admit_and_handle),
        (
            "admitted, empty",
            Request::post("/in", ""),
            admit_and_handle,
        ),
        ("by a server", Request::post("/in", "a"), as_server),
        ("rejected body", Request::post("/in", "a"), admit_and_reject),
        ("unknown expectation", Request::get("/in"), reject),
        ("OPTIONS", Request::new(Method::OPTIONS, "/in"), handle),
        ("preflight", preflight, handle),
    ] {
        for wrap in [alone, in_another, below_a_prefix] {
            let handler = wrap(limited().per_client(rate("0.1:3")));
            let request = from(request.clone(), "192.0.2.1:1");
            for _ in 0..2 {
                call(&*handler, &request);
            }
            let next = from(Request::get("/in"), "192.0.2.1:1");
            let statuses = [(); 2].map(|()| handler.handle(&next).wait().status().as_u16());
            assert_eq!(statuses, [200, 429], "{name}");
        }
    }
}

fn alone(limit: RateLimit) -> Box<dyn Handler> {
    Box::new(limit)
}

fn in_another(limit: RateLimit) -> Box<dyn Handler> {
    let outer = RateLimit::with_clock(limit, now).per_connection(rate("0.1:3"));
    Box::new(outer)
}

/// The limit gets a copy of the request that the router derives.
fn below_a_prefix(limit: RateLimit) -> Box<dyn Handler> {
    Box::new(crate::Router::new().nest("/in", limit))
}

/// However many clients come, an entry that is over its rate is not evicted before others.
#[test]
fn many_clients_do_not_evict_one_over_its_rate() {
    let table = RateTable::new(rate("0.1:3"), 4);
    let limited_key = key(1 << 100);
    let now = Duration::from_secs(1);
    for _ in 0..3 {
        assert_eq!(table.take(limited_key, now), Ok(()));
    }
    for other in 0..10_000 {
        assert_eq!(table.take(key(other), now), Ok(()));
    }
    assert!(table.take(limited_key, now).is_err());
    // When its TAT has passed, its entry may be evicted.
    let later = now + Duration::from_secs(30);
    for other in 0..10_000 {
        assert_eq!(table.take(key(other), later), Ok(()));
    }
    let is_known = |bucket: &Mutex<Bucket>| {
        let bucket = bucket.lock();
        bucket.iter().any(|entry| entry.key == limited_key)
    };
    assert!(!table.buckets.iter().any(is_known));
}

#[test]
fn table_memory_is_as_documented() {
    assert_eq!(BUCKET_ENTRIES * BUCKETS, 65_536);
    assert!(size_of::<Mutex<Bucket>>() * BUCKETS < (2 << 20) + (64 << 10));
}

/// The model: a token bucket with the size of the burst.
struct TokenBucket {
    rate: Rate,
    tokens: u64,
    at: u64,
}

impl TokenBucket {
    fn take(&mut self, at: u64) -> bool {
        let full = self.rate.interval * u64::from(self.rate.burst);
        self.tokens = full.min(self.tokens + (at - self.at));
        self.at = at;
        let serves = self.tokens >= self.rate.interval;
        if serves {
            self.tokens -= self.rate.interval;
        }
        serves
    }
}

fn any_rate() -> impl Strategy<Value = Rate> {
    (1..2000u32, 1..20u32)
        .prop_map(|(tenths, burst)| Rate::new(f64::from(tenths) / 10.0, burst).expect("a rate"))
}

proptest! {
    /// For any arrivals, a client never gets more than a burst plus the rate times the elapsed time, is
    /// never denied what its own token bucket would grant, and the time to wait is exact.
    #[test]
    fn served_requests_equal_those_of_a_token_bucket(
        rate in any_rate(),
        arrivals in proptest::collection::vec((0..4u128, 0..SECOND), 1..200),
    ) {
        let table = RateTable::new(rate, 1);
        let mut buckets = HashMap::new();
        let mut served: HashMap<u128, Vec<u64>> = HashMap::new();
        let mut at = 0;
        for (client, gap) in arrivals {
            at += gap / 8;
            let full = rate.interval * u64::from(rate.burst);
            let bucket = buckets.entry(client).or_insert(TokenBucket { rate, tokens: full, at });
            let taken = table.take(key(client + 1), Duration::from_nanos(at));
            prop_assert_eq!(taken.is_ok(), bucket.take(at));
            match taken {
                Ok(()) => served.entry(client).or_default().push(at),
                Err(RateExceeded { retry_after }) => {
                    let wait = u64::try_from(retry_after.as_nanos()).expect("a short time");
                    prop_assert_eq!(wait, rate.interval - bucket.tokens);
                }
            }
        }
        for times in served.values() {
            for (first, from) in times.iter().enumerate() {
                for (last, to) in times.iter().enumerate().skip(first) {
                    let max = u64::from(rate.burst) + (to - from) / rate.interval;
                    prop_assert!((last - first + 1) as u64 <= max);
                }
            }
        }
    }

    /// A client that keeps sending, denied or not, gets its whole rate.
    #[test]
    fn client_that_keeps_sending_gets_its_rate(
        rate in any_rate().prop_filter("a burst", |rate| rate.burst > 1),
        gaps in proptest::collection::vec(0..=1000u64, 1..300),
    ) {
        let table = RateTable::new(rate, 1);
        let mut at = 0;
        let mut served = 0;
        for gap in &gaps {
            at += rate.interval / 1000 * gap;
            served += u64::from(table.take(key(1), Duration::from_nanos(at)).is_ok());
        }
        let start = rate.interval / 1000 * gaps[0];
        let max = u64::from(rate.burst) + (at - start) / rate.interval;
        prop_assert!(served <= max);
        prop_assert!(served + 1 >= max.min(gaps.len() as u64));
    }
}
