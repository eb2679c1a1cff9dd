//! Features of the server over HTTP/2: handlers that answer later, middleware, uploads, listings, the view
//! of operators, reload. Their own tests are those over HTTP/1.1; these are about what differs: many
//! requests on one connection, and fields without a connection.

use std::fs;
use std::num::NonZeroU64;
use std::sync::mpsc;
use std::time::Instant;

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;
use tws::admin::{Admin, Sampler};
use tws::{Body, Outcome, ProxyProtocol, Request, Response, StatusCode};

use crate::http2::configured;
use crate::support::client::TIMEOUT;
use crate::support::h2::frame::{END_STREAM, Frame};
use crate::support::h2::{H2Client, H2Response};
use crate::support::{TestServer, TwsProcess, eventually, pattern};
#[cfg(feature = "tls")]
use crate::tls_cli::redirecting_address;

const MIB: usize = 1 << 20;

fn folder() -> TempDir {
    let folder = tempfile::tempdir().expect("create temporary directory");
    fs::write(folder.path().join("a.txt"), "a").expect("write file");
    folder
}

fn site(args: &[&str]) -> (TempDir, TwsProcess) {
    let folder = folder();
    let args = [&[".", "--http2=all", "--access-log=off"], args].concat();
    let site = TwsProcess::start(folder.path(), &args);
    (folder, site)
}

/// Sends a request without a body.
fn ask(client: &mut H2Client, method: &str, path: &str, fields: &[(&str, &str)]) -> H2Response {
    let stream = client.request(method, path, fields);
    client.response(stream)
}

#[test]
fn deferred_responses_arrive_in_any_order() {
    let (sender, responders) = mpsc::channel();
    let handler = move |request: &Request<'_>| {
        let (path, sender) = (request.path().to_owned(), sender.clone());
        Outcome::deferred(move |responder| {
            sender.send((path, responder)).expect("test receives");
        })
    };
    let server = configured(handler, |_| {});
    let mut client = H2Client::connect(server.address);
    let streams = ["/a", "/b", "/c"].map(|path| client.request("GET", path, &[]));
    let mut waiting: Vec<_> = streams
        .iter()
        .map(|_| responders.recv_timeout(TIMEOUT).expect("a responder"))
        .collect();
    while let Some((path, responder)) = waiting.pop() {
        responder.send(Response::text(path));
        let stream = streams[waiting.len()];
        let expected = ["/a", "/b", "/c"][waiting.len()];
        assert_eq!(client.response(stream).text(), expected);
    }
}

#[cfg(feature = "auth")]
#[test]
fn request_without_valid_password_is_401_on_its_stream() {
    let folder = folder_with_users();
    let args = [
        ".",
        "--http2=all",
        "--access-log=off",
        "--auth-file=users.txt",
        "--upload",
    ];
    let site = TwsProcess::start(folder.path(), &args);
    let mut client = H2Client::connect(site.address);
    let ana = [("authorization", "Basic YW5hOnNlY3JldA==")];
    let wrong = [("authorization", "Basic YW5hOndyb25n")];
    for (fields, status) in [(&[][..], 401), (&wrong[..], 401), (&ana[..], 200)] {
        for method in ["GET", "HEAD"] {
            let response = ask(&mut client, method, "/a.txt", fields);
            assert_eq!(response.status(), status, "{method} {fields:?}");
            let challenge = response.field("www-authenticate");
            assert_eq!(challenge.is_some(), status == 401);
        }
    }
    // A body that is not accepted is not read, and the connection goes on.
    let length = [("content-length", "9000000")];
    let head = client.head("PUT", "/b.txt", &length);
    client.send_frame(&head);
    assert_eq!(client.response(head.stream).status(), 401);
    assert_eq!(ask(&mut client, "GET", "/a.txt", &ana).text(), "a");
}

#[cfg(feature = "auth")]
fn folder_with_users() -> TempDir {
    let folder = folder();
    let users = crate::middleware::USERS;
    fs::write(folder.path().join("users.txt"), users).expect("write file");
    folder
}

/// The listeners beside that of the site.
#[cfg(feature = "tls")]
#[test]
fn operators_and_redirects_have_http2_too() {
    let args = [
        "--admin=127.0.0.1:0",
        "--tls-self-signed",
        "--redirect-http=0",
    ];
    let (_folder, site) = site(&args);
    let admin = site.admin.expect("admin address");
    let redirect = redirecting_address(&site.announcement);
    for (address, path, status) in [(admin, "/healthz", 200), (redirect, "/a.txt", 308)] {
        let mut client = H2Client::connect(address);
        let stream = client.request_to("localhost", "GET", path);
        assert_eq!(client.response(stream).status(), status, "{path}");
    }
}

#[test]
fn cors_fields_are_on_every_response() {
    let (_folder, site) = site(&["--cors=https://a.test"]);
    let mut client = H2Client::connect(site.address);
    let origin = ("origin", "https://a.test");
    let preflight = ("access-control-request-method", "GET");
    for (method, path, fields, status) in [
        ("GET", "/a.txt", &[origin][..], 200),
        ("GET", "/none", &[origin], 404),
        ("OPTIONS", "/a.txt", &[origin, preflight], 204),
    ] {
        let response = ask(&mut client, method, path, fields);
        assert_eq!(response.status(), status, "{method} {path}");
        let allowed = response.field("access-control-allow-origin");
        assert_eq!(allowed, Some("https://a.test"), "{method} {path}");
        let methods = response.field("access-control-allow-methods");
        assert_eq!(methods.is_some(), method == "OPTIONS", "{method} {path}");
    }
}

#[test]
fn uploads_are_stored_and_served() {
    let (folder, site) = site(&["--upload"]);
    let mut client = H2Client::connect(site.address);
    let content = pattern(3 * MIB);
    let streams = ["/b.bin", "/c.bin"].map(|path| {
        let stream = client.upload("PUT", path, &[], &content);
        (path, stream)
    });
    for (path, stream) in streams {
        assert_eq!(client.response(stream).status(), 201, "{path}");
        assert!(client.get(path).content == content, "{path}");
    }
    let form = "--XyZ\r\nContent-Disposition: form-data; name=\"file\"; filename=\"d.txt\"\r\n\r\n\
        uploaded\r\n--XyZ--\r\n";
    let fields = [("content-type", "multipart/form-data; boundary=XyZ")];
    let stream = client.upload("POST", "/", &fields, form.as_bytes());
    let status = client.response(stream).status();
    assert!((200..400).contains(&status), "{status}");
    assert_eq!(client.get("/d.txt").text(), "uploaded");
    assert!(folder.path().join("d.txt").exists());
    // What exists is not replaced.
    let stream = client.upload("PUT", "/a.txt", &[], b"b");
    assert_eq!(client.response(stream).status(), 409);
}

#[cfg(feature = "sqlite")]
#[test]
fn users_are_created_and_listed() {
    let (_folder, site) = site(&["--users=sqlite:users.db"]);
    let mut client = H2Client::connect(site.address);
    let json = [("content-type", "application/json")];
    let streams: Vec<u32> = (0..20)
        .map(|number| {
            let user = format!("{{\"Nombre\": \"user {number}.\"}}");
            client.upload("POST", "/createUser", &json, user.as_bytes())
        })
        .collect();
    for stream in streams {
        let response = client.response(stream);
        assert!(
            (200..300).contains(&response.status()),
            "{}",
            response.text()
        );
    }
    let users: Value = serde_json::from_str(client.get("/users").text()).expect("parse JSON");
    let text = users.to_string();
    assert!(
        (0..20).all(|number| text.contains(&format!("user {number}."))),
        "{text}"
    );
}

#[test]
fn listings_and_error_pages_are_in_the_format_that_the_client_accepts() {
    let (_folder, site) = site(&[]);
    let mut client = H2Client::connect(site.address);
    for (accept, media_type) in [
        ("application/json", "application/json"),
        ("text/html", "text/html; charset=utf-8"),
    ] {
        let fields = [("accept", accept)];
        for (path, status) in [("/", 200), ("/none", 404)] {
            let response = ask(&mut client, "GET", path, &fields);
            assert_eq!(response.status(), status, "{path}");
            if (path, accept) != ("/none", "application/json") {
                assert_eq!(response.field("content-type"), Some(media_type), "{path}");
            }
        }
        let listing = ask(&mut client, "GET", "/", &fields);
        assert!(listing.text().contains("a.txt"));
    }
}

/// The header comes before the preface, and is not a part of it.
#[test]
fn proxy_header_names_the_client_of_all_streams() {
    let address = |request: &Request<'_>| Response::text(request.client_addr().to_string());
    let server = configured(address, |config| {
        config.proxy_protocol = ProxyProtocol::Required;
        config.trusted_proxies = "127.0.0.1".parse().expect("valid networks");
    });
    let socket = std::net::TcpStream::connect(server.address).expect("connect");
    socket.set_read_timeout(Some(TIMEOUT)).expect("set timeout");
    let header = "PROXY TCP4 192.0.2.7 192.0.2.1 1234 80\r\n";
    std::io::Write::write_all(&mut &socket, header.as_bytes()).expect("send header");
    let mut client = H2Client::on(socket, &[]);
    for _ in 0..2 {
        assert_eq!(client.get("/").text(), "192.0.2.7:1234");
    }
}

/// The limit is for the client, however many connections and streams it has.
#[test]
fn connections_of_one_client_share_its_bandwidth() {
    const RATE: u64 = 256 * 1024;
    let server = configured(
        |_: &Request<'_>| {
            Response::new(StatusCode::OK).with_body(Body::Bytes(pattern(150_000).into()))
        },
        |config| config.limits.bandwidth_per_client = NonZeroU64::new(RATE),
    );
    let start = Instant::now();
    let mut clients = [(); 2].map(|()| H2Client::connect(server.address));
    let streams = clients
        .each_mut()
        .map(|client| [(); 2].map(|()| client.request("GET", "/", &[])));
    for (client, streams) in clients.iter_mut().zip(streams) {
        for stream in streams {
            assert!(client.response(stream).content == pattern(150_000));
        }
    }
    // A burst of a quarter of a second comes first, and a portion of each connection.
    let least = (600_000 - 2 * 64 * 1024) as f64 / RATE as f64 - 0.25;
    let took = start.elapsed().as_secs_f64();
    assert!(took >= least, "{took} s, not {least}");
}

#[test]
fn admin_lists_the_streams_of_a_connection_as_transfers() {
    let body =
        |_: &Request<'_>| Response::new(StatusCode::OK).with_body(Body::Bytes(pattern(MIB).into()));
    let server = configured(body, |_| {});
    let sampler = Sampler::new(&server.handle);
    let admin = Admin::with_sources(&server.handle, tws::observe::CacheStats::default, &sampler);
    let admin = TestServer::start(admin);
    let mut client = H2Client::connect(server.address);
    client.keep_windows();
    for path in ["/a", "/b"] {
        client.request("GET", path, &[]);
    }
    let head = client.head("POST", "/c", &[("content-length", "1000")]);
    client.send_frame(&head);
    client.send_data(head.stream, &[b'x'; 10], 0);
    let rows = || {
        let mut client = admin.client();
        client.send("GET /transfers.json HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let sample: Value = serde_json::from_str(&client.response().text()).expect("parse JSON");
        let rows = sample["transfers"].as_array().cloned().unwrap_or_default();
        let mut rows: Vec<_> = rows
            .iter()
            .map(|row| {
                let total = row["total"].as_u64();
                (row["target"].as_str().unwrap_or_default().to_owned(), total)
            })
            .collect();
        rows.sort();
        rows
    };
    let body = Some(MIB as u64);
    let expected = [("/a", body), ("/b", body), ("/c", Some(1000))];
    let expected = expected.map(|(target, total)| (target.to_owned(), total));
    eventually!(|| rows() == expected);
    // Each is gone when its stream is.
    client.send_data(head.stream, &[b'x'; 990], END_STREAM);
    eventually!(|| rows().len() == 3 && rows().iter().all(|(_, total)| *total == body));
}

#[test]
fn sighup_changes_the_limits_of_new_connections_only() {
    const SETTINGS_FRAME: u8 = 4;
    const MAX_CONCURRENT_STREAMS: u16 = 3;
    let folder = folder();
    let file = folder.path().join("tws.toml");
    let settings = |streams: u32, index: &str| {
        format!(
            "directory = \".\"\naccess-log = \"off\"\nhttp2 = \"all\"\n\
             index = [\"{index}\"]\nh2-streams = {streams}\nh2-keep-alive = 30\n"
        )
    };
    fs::write(folder.path().join("b.txt"), "b").expect("write file");
    fs::write(&file, settings(7, "a.txt")).expect("write file");
    // One event loop: a changed response shows that all connections have the new settings.
    let site = TwsProcess::start(folder.path(), &["--config=tws.toml", "--workers=1"]);
    let announced = |client: &H2Client| {
        let is_settings =
            |frame: &&Frame| frame.kind == SETTINGS_FRAME && !frame.payload.is_empty();
        let frame = client.control.iter().find(is_settings).expect("settings");
        let mut settings = frame.payload.chunks_exact(6);
        let id = MAX_CONCURRENT_STREAMS.to_be_bytes();
        let value = settings.find(|setting| setting[..2] == id);
        let value = value.expect("a number of streams");
        u32::from_be_bytes(value[2..].try_into().expect("four bytes"))
    };
    let mut before = H2Client::connect(site.address);
    assert_eq!(before.get("/").text(), "a");
    assert_eq!(announced(&before), 7);
    fs::write(&file, settings(2, "b.txt")).expect("write file");
    site.signal(Signal::HUP);
    eventually!(|| before.get("/").text() == "b");
    // It may have as many as it was told.
    let streams: Vec<u32> = (0..7)
        .map(|_| {
            let head = before.head("GET", "/a.txt", &[("content-length", "1")]);
            before.send_frame(&head);
            head.stream
        })
        .collect();
    for stream in streams {
        before.send_data(stream, b"x", END_STREAM);
        assert_eq!(before.response(stream).text(), "a");
    }
    let mut after = H2Client::connect(site.address);
    assert_eq!(after.get("/").text(), "b");
    assert_eq!(announced(&after), 2);
}

/// The lines of other requests are written while streams of the connection are open.
#[test]
fn log_has_one_line_for_each_stream() {
    let folder = folder();
    let args = [".", "--http2=all", "--access-log=log", "--log-format=json"];
    let site = TwsProcess::start(folder.path(), &args);
    let mut client = H2Client::connect(site.address);
    let head = client.head("GET", "/a.txt", &[("content-length", "1")]);
    client.send_frame(&head);
    for path in ["/a.txt", "/none"] {
        client.get(path);
    }
    let lines = || -> Vec<(String, u64)> {
        let log = fs::read_to_string(folder.path().join("log")).unwrap_or_default();
        log.lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .map(|line| {
                let status = line["status"].as_u64().unwrap_or_default();
                (line.to_string(), status)
            })
            .collect()
    };
    let statuses = || -> Vec<u64> { lines().iter().map(|(_, status)| *status).collect() };
    eventually!(|| statuses() == [200, 404]);
    client.send_data(head.stream, b"x", END_STREAM);
    assert_eq!(client.response(head.stream).status(), 200);
    eventually!(|| statuses() == [200, 404, 200]);
    assert!(lines().iter().all(|(line, _)| line.contains("HTTP/2.0")));
}
