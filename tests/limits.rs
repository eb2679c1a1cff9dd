//! How much one client may ask for, and how fast it gets it.

use std::net::SocketAddr;

use tempfile::TempDir;

use tws::{RateLimit, Request, Response};

use crate::support::{Client, Process, TestServer};

/// One request that comes back in three hours: none does within a test.
const NEVER: &str = "0.0001";

fn site(args: &[&str]) -> (TempDir, Process) {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("a.txt"), "a").expect("a file");
    let common = [".", "--access-log=off", "--bind=0.0.0.0"];
    let site = Process::start(folder.path(), &[&common, args].concat());
    (folder, site)
}

fn at(site: &Process) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], site.address.port()))
}

#[test]
fn a_client_gets_its_burst_and_then_429_wherever_it_connects() {
    let (_folder, site) = site(&[&format!("--rate-limit={NEVER}:5")]);
    let mut first = Client::connect(at(&site));
    let mut second = Client::connect(at(&site));
    let asked = ["/a.txt", "/none", "/a.txt"].map(|path| first.get(path).status);
    assert_eq!(asked, [200, 404, 200]);
    assert_eq!(second.request("HEAD", "/a.txt", "").status, 200);
    assert_eq!(second.get("/a.txt").status, 200);
    // Each goes on being answered on the connection that it has.
    for _ in 0..3 {
        for client in [&mut first, &mut second] {
            let denied = client.get("/a.txt");
            assert_eq!(denied.status, 429);
            assert_eq!(denied.field("Connection"), Some("keep-alive"));
            let wait: u64 = denied
                .field("Retry-After")
                .expect("a time")
                .parse()
                .expect("s");
            assert!((9_000..=10_000).contains(&wait), "{wait}");
        }
    }
    let page = first.request("GET", "/a.txt", "Accept: text/html\r\n");
    assert_eq!(page.status, 429);
    assert!(
        page.text()
            .contains("<h1>Error: 429 Too Many Requests</h1>")
    );
    assert!(page.field("Retry-After").is_some());
    let mut other = Client::connect_from([127, 0, 0, 2], at(&site));
    assert_eq!(other.get("/a.txt").status, 200);
}

#[test]
fn pipelined_requests_are_counted_one_by_one() {
    let (_folder, site) = site(&[&format!("--rate-limit-connection={NEVER}:2")]);
    for _ in 0..2 {
        let mut client = Client::connect(at(&site));
        client.send("GET /a.txt HTTP/1.1\r\nHost: test\r\n\r\n".repeat(5));
        let statuses = [(); 5].map(|()| client.reply().status);
        assert_eq!(statuses, [200, 200, 429, 429, 429]);
    }
}

#[test]
fn the_content_of_a_request_too_many_is_not_read() {
    let rate = format!("{NEVER}:2").parse().expect("a rate");
    let length = |request: &Request<'_>| Response::text(request.content().len().to_string());
    let server = TestServer::start(RateLimit::new(length).per_client(rate));
    let mut client = server.client();
    let post =
        |length| format!("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: {length}\r\n\r\n");
    // One is counted once, though the handler is asked twice.
    client.send(post(4)).send("text");
    assert_eq!(client.reply().text(), "4");
    assert_eq!(client.get("/").text(), "0");
    // None of it is sent.
    client.send(post(9));
    let denied = client.reply();
    assert_eq!(denied.status, 429);
    assert!(denied.field("Retry-After").is_some());
    assert_eq!(denied.field("Connection"), Some("close"));
    client.end_input().expect_end();
}

/// A page can read that it asks too often; what a browser asks before is not counted.
#[test]
fn a_page_of_another_origin_is_told() {
    let (_folder, site) = site(&[&format!("--rate-limit={NEVER}"), "--cors=https://a.test"]);
    let mut client = Client::connect(at(&site));
    let asks = "Origin: https://a.test\r\nAccess-Control-Request-Method: GET\r\n";
    let asked = [
        ("OPTIONS", 204),
        ("GET", 200),
        ("OPTIONS", 204),
        ("GET", 429),
    ];
    for (method, status) in asked {
        let reply = client.request(method, "/a.txt", asks);
        assert_eq!(reply.status, status);
        let origin = reply.field("Access-Control-Allow-Origin");
        assert_eq!(origin, Some("https://a.test"));
    }
}
