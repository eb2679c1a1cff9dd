//! Tests of the lines byte by byte, and of a writer that fails, writes partially and stalls.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Mutex;
use std::time::UNIX_EPOCH;

use ::http::StatusCode;
use proptest::prelude::*;

use super::*;

const FORMATS: [Format; 4] = [
    Format::AccessCount,
    Format::Common,
    Format::Combined,
    Format::Json,
];

/// A timeout that is reached only if something is broken.
const TIMEOUT: Duration = Duration::from_secs(60);

fn record(line: impl AsRef<[u8]>) -> Record {
    Record {
        client_addr: SocketAddr::from((Ipv4Addr::new(192, 0, 2, 7), 4321)),
        host: None,
        is_secure: false,
        tls: None,
        user: None,
        line: line.as_ref().to_vec(),
        referer: None,
        user_agent: None,
        is_subresource: false,
        status: StatusCode::OK,
        content_bytes: 1234,
        duration: Duration::from_micros(1500),
        outcome: Completion::Complete,
    }
}

fn wall() -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(971_186_136_007)
}

fn render(format: Format, record: &Record) -> String {
    let mut out = Vec::new();
    Renderer::new(format).render(record, wall(), &mut out);
    String::from_utf8(out).expect("ASCII")
}

#[test]
fn request_is_rendered_in_each_format() {
    let mut full = record("GET /a%20b.html?q=1 HTTP/1.1");
    full.referer = Some(b"http://h/".to_vec());
    full.user_agent = Some(b"Mozilla/5.0 (X11)".to_vec());
    let table = [
        (Format::AccessCount, "a b.html|192.0.2.7|4321|1\n"),
        (
            Format::Common,
            "192.0.2.7 - - [10/Oct/2000:13:55:36 +0000] \"GET /a%20b.html?q=1 HTTP/1.1\" 200 1234\n",
        ),
        (
            Format::Combined,
            "192.0.2.7 - - [10/Oct/2000:13:55:36 +0000] \"GET /a%20b.html?q=1 HTTP/1.1\" 200 1234 \"http://h/\" \"Mozilla/5.0 (X11)\"\n",
        ),
        (
            Format::Json,
            "{\"time\":\"2000-10-10T13:55:36.007Z\",\"ip\":\"192.0.2.7\",\"port\":4321,\"user\":null,\"host\":null,\"scheme\":\"http\",\"tls\":null,\"method\":\"GET\",\"target\":\"/a%20b.html?q=1\",\"protocol\":\"HTTP/1.1\",\"status\":200,\"bytes\":1234,\"duration_ms\":1.500,\"outcome\":\"complete\",\"referer\":\"http://h/\",\"user_agent\":\"Mozilla/5.0 (X11)\"}\n",
        ),
    ];
    for (format, line) in table {
        assert_eq!(render(format, &full), line);
    }
}

#[test]
fn malformed_request_is_rendered_in_each_format() {
    let mut empty = record("");
    empty.client_addr = "[::ffff:192.0.2.7]:1".parse().expect("an address");
    empty.status = StatusCode::REQUEST_TIMEOUT;
    empty.content_bytes = 0;
    empty.duration = Duration::ZERO;
    empty.outcome = Completion::Aborted;
    let table = [
        (Format::AccessCount, "-|192.0.2.7|1|-\n"),
        (
            Format::Common,
            "192.0.2.7 - - [10/Oct/2000:13:55:36 +0000] \"-\" 408 -\n",
        ),
        (
            Format::Combined,
            "192.0.2.7 - - [10/Oct/2000:13:55:36 +0000] \"-\" 408 - \"-\" \"-\"\n",
        ),
        (
            Format::Json,
            "{\"time\":\"2000-10-10T13:55:36.007Z\",\"ip\":\"192.0.2.7\",\"port\":1,\"user\":null,\"host\":null,\"scheme\":\"http\",\"tls\":null,\"method\":null,\"target\":null,\"protocol\":null,\"status\":408,\"bytes\":0,\"duration_ms\":0.000,\"outcome\":\"aborted\",\"referer\":null,\"user_agent\":null}\n",
        ),
    ];
    for (format, line) in table {
        assert_eq!(render(format, &empty), line);
    }
}

fn custom() -> Format {
    "{client} {host} \"{request}\" {status} \"{referer}\" {path} {query}"
        .parse()
        .expect("a format")
}

#[test]
fn custom_format_has_the_named_fields() {
    let mut full = record("GET /a%20b?q=1 HTTP/1.1");
    full.host = Some(b"a.test".to_vec());
    full.user = Some("ana".into());
    full.is_secure = true;
    full.tls = Some(TlsVersion::Tls13);
    full.user_agent = Some(b"a\"b".to_vec());
    for (format, expected) in [
        (
            "{client} {host} \"{request}\" {status}",
            "192.0.2.7 a.test \"GET /a%20b?q=1 HTTP/1.1\" 200",
        ),
        ("{{{port}}}", "{4321}"),
        (
            "{method} {path} {query} {target} {protocol}",
            "GET /a%20b q=1 /a%20b?q=1 HTTP/1.1",
        ),
        (
            "{user} {scheme} {tls} {bytes} {duration} {outcome}",
            "ana https TLSv1.3 1234 0.001500 complete",
        ),
        (
            "{time} {iso-time}",
            "10/Oct/2000:13:55:36 +0000 2000-10-10T13:55:36.007Z",
        ),
        ("\"{user-agent}\" {referer}", "\"a\\x22b\" -"),
        ("{status}\t{user-agent}", "200\ta\\x22b"),
    ] {
        let parsed: Format = format.parse().expect(format);
        assert_eq!(
            render(parsed.clone(), &full),
            format!("{expected}\n"),
            "{format}"
        );
        let Format::Custom(template) = &parsed else {
            panic!("{format}")
        };
        assert_eq!(
            template.to_string().parse(),
            Ok(template.clone()),
            "{format}"
        );
    }
    for wrong in [
        "{",
        "}",
        "{client",
        "client}",
        "{none}",
        "{}",
        "{{}}",
        "a{client}\n",
        "nginx",
        "",
    ] {
        assert!(wrong.parse::<Format>().is_err(), "{wrong}");
    }
    let json = render(Format::Json, &full);
    let value: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    let found = ["host", "scheme", "tls", "protocol", "user"].map(|key| value[key].as_str());
    assert_eq!(
        found,
        ["a.test", "https", "TLSv1.3", "HTTP/1.1", "ana"].map(Some)
    );
}

#[test]
fn excluded_requests_have_no_line() {
    let exclude = |what: &[&str]| {
        let exclusions = what.iter().map(|what| what.parse().expect("an exclusion"));
        let mut renderer = Renderer::new("{path} {status}".parse().expect("a format"))
            .excluding(exclusions.collect());
        let mut out = Vec::new();
        for (target, status) in [
            ("/healthz", 200),
            ("/assets/a/b.js", 304),
            ("/%61ssets/c", 404),
            ("/x", 500),
        ] {
            let mut record = record(format!("GET {target} HTTP/1.1"));
            record.status = StatusCode::from_u16(status).expect("a status");
            renderer.render(&record, wall(), &mut out);
        }
        let text = String::from_utf8(out).expect("ASCII");
        text.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(exclude(&[]).len(), 4);
    assert_eq!(
        exclude(&["/healthz", "5xx"]),
        ["/assets/a/b.js 304", "/%61ssets/c 404"]
    );
    assert_eq!(exclude(&["/assets/*"]), ["/healthz 200", "/x 500"]);
    assert_eq!(exclude(&["304", "/x"]), ["/healthz 200", "/%61ssets/c 404"]);
    for wrong in ["", "99", "6xx", "healthz", "600", "x"] {
        assert!(wrong.parse::<LogExclusion>().is_err(), "{wrong}");
    }
}

#[test]
fn anonymized_addresses_are_networks() {
    for (client, ip, port) in [
        ("192.0.2.77:4321", "192.0.2.0", 0),
        ("[::ffff:192.0.2.77]:4321", "192.0.2.0", 0),
        ("[2001:db8:1:2:3:4:5:6]:80", "2001:db8:1::", 0),
        ("[::1]:80", "::", 0),
    ] {
        let mut record = record("GET / HTTP/1.1");
        record.client_addr = client.parse().expect("an address");
        for (format, expected) in [
            (Format::AccessCount, format!("|{ip}|{port}|")),
            (Format::Common, format!("{ip} - ")),
            (Format::Combined, format!("{ip} - ")),
            (Format::Json, format!("\"ip\":\"{ip}\",\"port\":{port},")),
            (
                "{client}|{port}".parse().expect("a format"),
                format!("{ip}|{port}\n"),
            ),
        ] {
            let mut out = Vec::new();
            let mut renderer = Renderer::new(format).with_addresses(Addresses::Anonymized);
            renderer.render(&record, wall(), &mut out);
            let line = String::from_utf8(out).expect("ASCII");
            assert!(line.contains(&expected), "{line}");
        }
    }
}

#[test]
fn user_is_one_escaped_word() {
    for (user, word, json) in [
        ("ana", "ana", r#""ana""#),
        (
            "ana.b@example.org",
            "ana.b@example.org",
            r#""ana.b@example.org""#,
        ),
        ("Ana B", r"Ana\x20B", r#""Ana B""#),
        ("-", r"\x2D", r#""-""#),
        (
            "ñ\"\\[x] - [",
            r"\xC3\xB1\x22\x5C[x]\x20-\x20[",
            r#""\u00f1\"\\[x] - [""#,
        ),
    ] {
        let mut record = record("GET / HTTP/1.1");
        record.user = Some(user.into());
        for format in [Format::Common, Format::Combined] {
            let line = render(format, &record);
            let start = format!("192.0.2.7 - {word} [10/Oct/2000:13:55:36 +0000] \"GET");
            assert!(line.starts_with(&start), "{line}");
        }
        let line = render(Format::Json, &record);
        assert!(line.contains(&format!(r#","user":{json},"#)), "{line}");
        assert_eq!(render(Format::AccessCount, &record), "/|192.0.2.7|4321|1\n");
    }
}

#[test]
fn ipv6_address_is_rendered_without_brackets() {
    let mut record = record("GET / HTTP/1.1");
    record.client_addr = "[2001:db8::1]:80".parse().expect("an address");
    assert_eq!(render(Format::AccessCount, &record), "/|2001:db8::1|80|1\n");
}

#[test]
fn access_count_name_is_the_decoded_path() {
    let table = [
        ("GET / HTTP/1.1", "/"),
        ("GET /?a=b HTTP/1.1", "/"),
        ("GET /index.html HTTP/1.0", "index.html"),
        ("POST /test/folder.html?q HTTP/1.1", "test/folder.html"),
        ("GET /test/ HTTP/1.1", "test/"),
        ("GET //a/../b HTTP/1.1", "b"),
        ("GET http://h/x HTTP/1.1", "x"),
        ("OPTIONS * HTTP/1.1", "*"),
        (
            "GET /%C3%B1%0A%7C%22%20 HTTP/1.1",
            "\\xC3\\xB1\\x0A\\x7C\\x22 ",
        ),
        ("CONNECT h:1 HTTP/1.1", "-"),
        ("GET /../x HTTP/1.1", "-"),
        ("GET /", "-"),
        ("GET /a b HTTP/1.1", "-"),
        ("GET  HTTP/1.1", "-"),
        ("\x16\x03\x01 /x HTTP/1.1", "-"),
    ];
    for (line, name) in table {
        let rendered = render(Format::AccessCount, &record(line));
        assert_eq!(rendered.split('|').next(), Some(name), "{line}");
    }
}

#[test]
fn hostile_bytes_are_escaped() {
    let mut hostile = record(b"GET /\"\\\x1B[2J\n\xFF\x7F HTTP/1.1");
    hostile.user_agent = Some("ñ\"\r\n|".into());
    assert_eq!(
        render(Format::Combined, &hostile),
        "192.0.2.7 - - [10/Oct/2000:13:55:36 +0000] \
         \"GET /\\x22\\x5C\\x1B[2J\\x0A\\xFF\\x7F HTTP/1.1\" 200 1234 \"-\" \"\\xC3\\xB1\\x22\\x0D\\x0A|\"\n"
    );
    let line = render(Format::Json, &hostile);
    assert!(
        line.contains(r#""target":"/\"\\\u001b[2J\n\ufffd\u007f""#),
        "{line}"
    );
    assert!(line.contains(r#""user_agent":"\u00f1\"\r\n|""#), "{line}");
    hostile.user_agent = Some("😀".into());
    assert!(render(Format::Json, &hostile).contains(r#""\ud83d\ude00""#));
}

proptest! {
    #[test]
    fn arbitrary_request_is_one_line_of_ascii(
        line in proptest::collection::vec(any::<u8>(), 0..64),
        field in proptest::collection::vec(any::<u8>(), 0..64),
    ) {
        let mut hostile = record([b"GET /", &line[..], b" HTTP/1.1"].concat());
        hostile.referer = Some(field.clone());
        hostile.user_agent = Some(field.clone());
        hostile.host = Some(field.clone());
        for format in FORMATS.into_iter().chain([custom()]) {
            let text = render(format.clone(), &hostile);
            prop_assert!(text.ends_with('\n'));
            prop_assert!(text[..text.len() - 1].bytes().all(|byte| matches!(byte, b' '..=b'~')));
            match format {
                Format::AccessCount => prop_assert_eq!(text.matches('|').count(), 3),
                Format::Common => prop_assert_eq!(text.matches('"').count(), 2),
                Format::Combined => prop_assert_eq!(text.matches('"').count(), 6),
                Format::Json => {
                    let value: serde_json::Value = serde_json::from_str(&text).expect("JSON");
                    let expected = String::from_utf8_lossy(&field);
                    prop_assert_eq!(value["referer"].as_str(), Some(&*expected));
                }
                Format::Custom(_) => prop_assert_eq!(text.matches('"').count(), 4),
            }
        }
    }
}

#[test]
fn timestamp_changes_with_the_second() {
    let mut renderer = Renderer::new(Format::Json);
    let mut at = |time: SystemTime| {
        let mut out = Vec::new();
        renderer.render(&record(""), time, &mut out);
        String::from_utf8_lossy(&out[9..33]).into_owned()
    };
    assert_eq!(at(wall()), "2000-10-10T13:55:36.007Z");
    assert_eq!(
        at(wall() + Duration::from_millis(992)),
        "2000-10-10T13:55:36.999Z"
    );
    assert_eq!(
        at(wall() + Duration::from_millis(993)),
        "2000-10-10T13:55:37.000Z"
    );
    assert_eq!(
        at(UNIX_EPOCH - Duration::from_secs(1)),
        "1970-01-01T00:00:00.000Z"
    );
    let late = UNIX_EPOCH + Duration::from_secs(1 << 40);
    assert_eq!(at(late), "9999-12-31T23:59:59.000Z", "clamped");
}

#[test]
fn names_are_counted_until_the_table_is_full() {
    let mut renderer = Renderer::new(Format::AccessCount);
    let mut count = |name: &str, status| {
        let mut out = Vec::new();
        let mut record = record(format!("GET /{name} HTTP/1.1"));
        record.status = status;
        renderer.render(&record, wall(), &mut out);
        let text = String::from_utf8(out).expect("ASCII");
        text.trim_end().rsplit('|').next().map(str::to_owned)
    };
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(count("a", StatusCode::OK), some("1"));
    assert_eq!(count("b", StatusCode::OK), some("1"));
    assert_eq!(count("%61", StatusCode::NOT_FOUND), some("2"));
    assert_eq!(count(&"x".repeat(1025), StatusCode::OK), some("-"));
    for number in 0..5_000 {
        count(&format!("guess-{number}"), StatusCode::NOT_FOUND);
    }
    assert_eq!(count("another-guess", StatusCode::NOT_FOUND), some("-"));
    for number in 0..5_000 {
        assert_eq!(count(&format!("page-{number}"), StatusCode::OK), some("1"));
    }
    assert_eq!(count("one-too-many", StatusCode::OK), some("-"));
    assert_eq!(count("a", StatusCode::OK), some("3"));
}

#[test]
fn format_names_are_parsed() {
    for (name, format) in ["access-count", "common", "combined", "json"]
        .iter()
        .zip(FORMATS)
    {
        assert_eq!(name.parse(), Ok(format));
    }
    let error = "clf".parse::<Format>().expect_err("no format");
    assert!(
        error
            .to_string()
            .contains("access-count, common, combined, json")
    );
}

/// A writer into memory that the test can read.
#[derive(Clone, Default)]
struct SharedBuffer(Arc<Mutex<Vec<u8>>>);

impl SharedBuffer {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().expect("no panic")).into_owned()
    }
}

impl Write for SharedBuffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no panic").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Accepts as many bytes in each write as the script says; `None` is a full disk.
struct Scripted {
    memory: SharedBuffer,
    script: std::slice::Iter<'static, Option<usize>>,
}

impl Write for Scripted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.script.next().copied() {
            None => self.memory.write(bytes),
            Some(Some(0)) => Err(io::ErrorKind::Interrupted.into()),
            Some(Some(most)) => self.memory.write(&bytes[..most.min(bytes.len())]),
            Some(None) => Err(io::ErrorKind::StorageFull.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn torn_line_is_completed_before_the_next() {
    type Case = (&'static [Option<usize>], [u64; 3], &'static str);
    let table: &[Case] = &[
        (&[], [0, 0, 0], "1\n2\n3\n4\n5\n6\n"),
        (
            &[Some(1), Some(0), Some(2), Some(0)],
            [0, 0, 0],
            "1\n2\n3\n4\n5\n6\n",
        ),
        (&[None], [2, 0, 0], "3\n4\n5\n6\n"),
        (&[None, None], [2, 2, 0], "5\n6\n"),
        (&[Some(2), None], [1, 0, 0], "1\n3\n4\n5\n6\n"),
        (&[Some(1), None], [2, 0, 0], "1\n3\n4\n5\n6\n"),
        (&[Some(3), None, None], [1, 2, 0], "1\n2\n5\n6\n"),
        (&[Some(3), None, Some(1), None], [1, 2, 0], "1\n2\n5\n6\n"),
        (
            &[Some(3), None, Some(1), Some(1), None],
            [1, 2, 0],
            "1\n2\n3\n5\n6\n",
        ),
    ];
    for (script, dropped, text) in table {
        let memory = SharedBuffer::default();
        let scripted = Scripted {
            memory: memory.clone(),
            script: script.iter(),
        };
        let mut output = LogOutput::new("a test", Box::new(scripted));
        let counted = [b"1\n2\n", b"3\n4\n", b"5\n6\n"].map(|lines| output.write(lines));
        assert_eq!((counted, &memory.text()[..]), (*dropped, *text));
    }
}

/// Blocks in `write` until the other end of `gate` is dropped.
struct Gated {
    gate: Receiver<()>,
    memory: SharedBuffer,
}

impl Write for Gated {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = self.gate.recv();
        self.memory.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn start(stream: impl Write + Send + 'static) -> AccessLog {
    let outputs = vec![LogOutput::new("a test", Box::new(stream))];
    AccessLog::with_outputs(Renderer::new(Format::Common), outputs).expect("a thread")
}

/// More than the queue holds.
const MANY: u64 = 2 * MAX_QUEUED_BYTES as u64 / LONG_AGENT as u64;

const LONG_AGENT: usize = 4096;

fn flood(log: &AccessLog) {
    let mut sender = log.sender();
    for _ in 0..MANY {
        let mut long = record("GET / HTTP/1.1");
        long.user_agent = Some(vec![b'x'; LONG_AGENT]);
        sender.record(long);
        sender.flush();
    }
}

/// While the destination is blocked, 10,000 requests in batches of one fit into the queue.
#[test]
fn short_stall_drops_no_lines() {
    let (open, gate) = mpsc::channel();
    let memory = SharedBuffer::default();
    let log = start(Gated {
        gate,
        memory: memory.clone(),
    });
    let mut sender = log.sender();
    for _ in 0..10_000 {
        sender.record(record("GET / HTTP/1.1"));
        sender.flush();
    }
    drop((open, sender));
    assert_eq!(log.finish(TIMEOUT), 0);
    assert_eq!(memory.text().lines().count(), 10_000);
}

#[test]
fn stalled_destination_drops_lines_without_blocking_senders() {
    let (open, gate) = mpsc::channel();
    let memory = SharedBuffer::default();
    let log = start(Gated {
        gate,
        memory: memory.clone(),
    });
    flood(&log);
    let dropped = log.dropped();
    assert!(dropped > 0);
    drop(open);
    assert_eq!(log.finish(TIMEOUT), dropped);
    let written = memory.text().lines().count() as u64;
    assert_eq!(written + dropped, MANY, "every line is written or counted");
}

#[test]
fn finish_does_not_wait_for_a_stalled_destination() {
    let (open, gate) = mpsc::channel();
    let log = start(Gated {
        gate,
        memory: SharedBuffer::default(),
    });
    flood(&log);
    assert_eq!(
        log.finish(Duration::from_millis(1)),
        MANY,
        "none is written"
    );
    drop::<mpsc::Sender<()>>(open);
}

#[test]
fn batch_is_bounded_in_bytes() {
    let log = start(SharedBuffer::default());
    let mut sender = log.sender();
    let mut large = record("");
    large.user_agent = Some(vec![b'x'; MAX_BATCH_BYTES]);
    for _ in 0..3 {
        sender.record(large.clone());
        assert!(sender.batch.records.is_empty(), "sent or dropped");
    }
}

#[test]
fn every_destination_gets_the_lines_of_every_sender() {
    let folder = tempfile::tempdir().expect("a folder");
    let paths = ["a.log", "b.log"].map(|name| folder.path().join(name));
    std::fs::write(&paths[0], "before\n").expect("a file");
    let destinations = paths.clone().map(LogDestination::File);
    let log = AccessLog::start(Format::AccessCount, &destinations).expect("a log");
    thread::scope(|scope| {
        for _ in 0..4 {
            let mut sender = log.sender();
            scope.spawn(move || {
                for _ in 0..25 {
                    sender.record(record("GET /x HTTP/1.1"));
                }
            });
        }
    });
    assert_eq!(log.finish(TIMEOUT), 0);
    let [first, second] = paths.map(|path| std::fs::read_to_string(path).expect("a log"));
    assert_eq!(first, format!("before\n{second}"));
    let expected: Vec<String> = (1..=100).map(|n| format!("x|192.0.2.7|4321|{n}")).collect();
    assert_eq!(second.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn full_disk_drops_all_lines() {
    let Ok(full) = OpenOptions::new().append(true).open("/dev/full") else {
        return;
    };
    let log = start(full);
    flood(&log);
    assert_eq!(log.finish(TIMEOUT), MANY);
}

#[test]
fn unopenable_destination_is_an_error_with_its_path() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("none/access.log");
    let error = AccessLog::start(Format::Json, &[LogDestination::File(path.clone())]);
    let text = error.expect_err("no such folder").to_string();
    let expected = format!(
        "cannot write the access log to {}: no such file or folder",
        path.display()
    );
    assert_eq!(text, expected);
}
