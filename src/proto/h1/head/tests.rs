//! Request heads that are accepted, and those that are rejected.

use std::net::{Ipv4Addr, SocketAddr};

use proptest::prelude::*;

use super::*;
use crate::http::forwarded::ClientInfo;
use crate::http::request::ReceivedBody;

fn status(head: &str) -> Result<(), (u16, &'static str)> {
    match parse(
        head.as_bytes(),
        &mut RequestHead::default(),
        &Limits::default(),
    ) {
        Ok(_) => Ok(()),
        Err(rejection) => Err((rejection.status().as_u16(), rejection.reason())),
    }
}

#[test]
fn head_is_parsed_into_request() {
    let bytes = b"GET /a/%62?c=d HTTP/1.1\r\nHost: h:1\r\nX:  y z\t\r\n\r\n";
    let mut head = RequestHead::default();
    if let Err(rejection) = parse(bytes, &mut head, &Limits::default()) {
        panic!("{rejection:?}");
    }
    assert_eq!(head.len, bytes.len());
    let peer = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
    let request = head.request(bytes, ReceivedBody::default(), ClientInfo::plain(peer));
    assert_eq!(request.method(), Method::GET);
    assert_eq!(request.version(), Version::HTTP_11);
    assert_eq!(request.target(), "/a/%62?c=d");
    assert_eq!(request.path(), "/a/b");
    assert_eq!(request.query_str(), Some("c=d"));
    let fields: Vec<_> = request.fields().iter().collect();
    assert_eq!(fields, [("Host", &b"h:1"[..]), ("X", b"y z")]);
}

#[test]
fn path_without_escapes_is_not_copied() {
    let bytes = b"GET http://h/a/b?c HTTP/1.1\r\nHost: h\r\n\r\n";
    let mut head = RequestHead::default();
    assert!(parse(bytes, &mut head, &Limits::default()).is_ok());
    assert!(matches!(head.path, Path::InHead(range) if range == (12..16)));
}

#[test]
fn malformed_or_ambiguous_head_is_rejected() {
    let long = format!("GET /{} HTTP/1.1\r\nHost: h\r\n\r\n", "a".repeat(8192));
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(101));
    let table: &[(&str, Result<(), u16>)] = &[
        ("GET / HTTP/1.1\r\nHost: h\r\n\r\n", Ok(())),
        ("GET / HTTP/1.1\r\nHost:\r\n\r\n", Ok(())),
        ("GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", Ok(())),
        ("GET / HTTP/1.0\r\n\r\n", Ok(())),
        ("BREW /pot HTTP/1.1\r\nHost: h\r\n\r\n", Ok(())),
        ("OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n", Ok(())),
        ("GET http://h/a HTTP/1.1\r\nHost: h\r\n\r\n", Ok(())),
        ("GET / HTTP/1.1\r\n\r\n", Err(400)),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", Err(400)),
        ("GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n", Err(400)),
        ("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", Err(400)),
        ("GET / HTTP/1.1\r\nHost: u@h\r\n\r\n", Err(400)),
        ("GET / HTTP/1.1\r\nHost: h/a\r\n\r\n", Err(400)),
        ("GET http://u@h/ HTTP/1.1\r\nHost: h\r\n\r\n", Err(400)),
        ("GET / HTTP/1.1\r\nHost: h\r\nA : b\r\n\r\n", Err(400)),
        ("GET / HTTP/1.1\r\nHost: h\r\nA: b\r\n c\r\n\r\n", Err(400)),
        ("GET / HTTP/1.1\r\n Host: h\r\n\r\n", Err(400)),
        ("GET / HTTP/1.1\r\nHost: h\r\nA: b\0c\r\n\r\n", Err(400)),
        ("GET / HTTP/1.1\r\nHost: h\r\nA: b\rc\r\n\r\n", Err(400)),
        ("GET / HTTP/1.1\rHost: h\r\n\r\n", Err(400)),
        ("GET / HTTP/1.1\r\nHost: h\r\nA\r\n\r\n", Err(400)),
        ("GET / HTTP/1.1\r\nHost: h\r\n: b\r\n\r\n", Err(400)),
        ("GET  / HTTP/1.1\r\nHost: h\r\n\r\n", Err(400)),
        ("GET /  HTTP/1.1\r\nHost: h\r\n\r\n", Err(400)),
        ("GET / a HTTP/1.1\r\nHost: h\r\n\r\n", Err(400)),
        ("GET\t/ HTTP/1.1\r\nHost: h\r\n\r\n", Err(400)),
        ("GET /\0 HTTP/1.1\r\nHost: h\r\n\r\n", Err(400)),
        ("G@T / HTTP/1.1\r\nHost: h\r\n\r\n", Err(400)),
        ("GET /\r\n\r\n", Err(400)),
        ("GET\r\n\r\n", Err(400)),
        ("GET / http/1.1\r\nHost: h\r\n\r\n", Err(400)),
        ("GET / HTTP/1.10\r\nHost: h\r\n\r\n", Err(400)),
        ("GET /a#b HTTP/1.1\r\nHost: h\r\n\r\n", Err(400)),
        ("GET / HTTP/2.0\r\nHost: h\r\n\r\n", Err(505)),
        ("GET / HTTP/1.2\r\nHost: h\r\n\r\n", Err(505)),
        ("GET / HTTP/0.9\r\nHost: h\r\n\r\n", Err(505)),
        ("PRI * HTTP/2.0\r\n\r\n", Err(505)),
        (&long, Err(414)),
        (&many, Err(431)),
    ];
    for (head, expected) in table {
        let result = status(head);
        assert_eq!(
            result.map_err(|(status, _)| status),
            *expected,
            "{head:?} {result:?}"
        );
    }
}

/// What a client may send: a head, or bytes that resemble one.
fn received() -> impl Strategy<Value = Vec<u8>> {
    let first = prop_oneof![
        Just("GET / HTTP/1.1\r\n"),
        Just("GET / HTTP/1.1\n"),
        Just("POST /a%2eb?c HTTP/1.1\r\n"),
        Just("GET / HTTP/1.0\r\n"),
        Just("GET http://h/ HTTP/1.1\r\n"),
    ];
    let part = prop_oneof![
        4 => Just("Host: h\r\n"),
        1 => Just("Host: h\n"),
        2 => Just("Content-Length: 5\r\n"),
        2 => Just("Transfer-Encoding: chunked\r\n"),
        1 => Just("Content-Length:"),
        1 => Just("Transfer-Encoding"),
        1 => Just("X:\ty \r\n"),
        1 => Just(": "),
        1 => Just(" "),
        1 => Just("\r"),
        1 => Just("\n"),
        1 => Just("\r\n"),
        1 => Just("\0"),
        1 => Just("\u{80}"),
    ];
    let flip = (0..200usize, any::<u8>());
    let parts = proptest::collection::vec(part, 0..6);
    let flips = proptest::collection::vec(flip, 0..2);
    (first, parts, flips).prop_map(|(first, parts, flips)| {
        let mut bytes = [first, &parts.concat(), "\r\n"].concat().into_bytes();
        for (at, byte) in flips {
            let at = at % bytes.len();
            bytes[at] = byte;
        }
        bytes
    })
}

proptest! {
    /// What is parsed without a search for its end is what is parsed with it, and nothing is missed if an
    /// empty line is the last.
    #[test]
    fn head_is_the_same_with_and_without_a_search_for_its_end(
        first in received(),
        second in prop_oneof![Just(Vec::new()), received()],
        max_head_bytes in prop_oneof![Just(40), Just(1_000)],
    ) {
        let bytes = [&first[..], &second].concat();
        prop_assume!(check_first_byte(bytes[0]).is_ok());
        let limits = Limits { max_head_bytes, ..Limits::default() };
        let (mut found, mut head) = (RequestHead::default(), RequestHead::default());
        let with_search = match scan_head(&bytes, 0) {
            Scan::Complete(len) => validate(&bytes, len, &limits)
                .and_then(|()| parse(&bytes[..len], &mut found, &limits))
                .ok(),
            Scan::Incomplete(_) | Scan::BareLf(_) => None,
        };
        let without = parse_received(&bytes, &mut head, &limits);
        match without {
            Some(_) => {
                prop_assert_eq!(without, with_search);
                prop_assert_eq!(format!("{head:?}"), format!("{found:?}"));
            }
            None => prop_assert!(with_search.is_none() || !ends_with_empty_line(&bytes)),
        }
    }

    /// A head that is accepted is one that any other parser reads alike: lines that end with CRLF,
    /// names that are tokens, values without control characters, one Host field and at most one
    /// framing of the body.
    #[test]
    fn accepted_head_is_unambiguous(bytes in received()) {
        // As the machine does: only for a complete head.
        let Scan::Complete(len) = scan_head(&bytes, 0) else {
            return Ok(());
        };
        let bytes = &bytes[..len];
        let mut head = RequestHead::default();
        let Ok(info) = parse(bytes, &mut head, &Limits::default()) else {
            return Ok(());
        };
        let mut lines = bytes[..len - 4].split(|byte| *byte == b'\n').skip(1);
        let fields = Fields::new(bytes, &head.spans);
        for (name, value) in &fields {
            let line = lines.next().expect("a line for each field");
            prop_assert!(name.bytes().all(is_token_char));
            let rest = line.strip_prefix(name.as_bytes());
            prop_assert!(rest.is_some_and(|rest| rest.starts_with(b":")));
            prop_assert!(value.iter().all(|byte| *byte == b'\t' || *byte >= b' ' && *byte != 0x7f));
            prop_assert!(memchr::memmem::find(line, value).is_some());
        }
        prop_assert!(lines.next().is_none());
        let count = |name| fields.all(name).count();
        prop_assert!(count("host") == 1 || count("host") == 0 && head.version == Version::HTTP_10);
        let ways = usize::from(count("content-length") > 0) + count("transfer-encoding");
        prop_assert!(ways <= 1);
        let framing = match (count("content-length"), count("transfer-encoding")) {
            (0, 0) => matches!(info.framing, Framing::None),
            (0, _) => matches!(info.framing, Framing::Chunked),
            _ => !matches!(info.framing, Framing::Chunked),
        };
        prop_assert!(framing);
    }
}

#[test]
fn other_protocol_is_rejected_at_first_byte_or_line() {
    assert!(check_first_byte(b'G').is_ok());
    for byte in [0x16, 0x80, 0, b' ', b'{', b'\n'] {
        assert!(check_first_byte(byte).is_err(), "{byte}");
    }
    let table = [
        (&b"GET / HTTP/1.1\r\n"[..], None),
        (b"GET /\r\n", Some(400)),
        (b"hello there\r\n", Some(400)),
        (b"PRI * HTTP/2.0\r\n", Some(505)),
    ];
    for (line, expected) in table {
        let result = check_request_line(line);
        assert_eq!(
            result.err().map(|r| r.status().as_u16()),
            expected,
            "{line:?}"
        );
    }
}

#[test]
fn check_head_rejects_as_a_server_does() {
    let status = |head: &str| {
        let rejection = check_head(head.as_bytes(), &Limits::default()).err();
        rejection.map(|rejection| rejection.status().as_u16())
    };
    let get = |line_end: &str, rest: &str| format!("GET / HTTP/1.1\r\nHost: h{line_end}{rest}");
    let long = "x".repeat(Limits::default().max_target_bytes);
    for (head, expected) in [
        (get("\r\n", "\r\n"), None),
        (get("\r\n", "Expect: 100-continue\r\n\r\n"), None),
        (get("\r\n", "Expect: more\r\n\r\n"), Some(417)),
        (get("\r\n", "Host: h\r\n\r\n"), Some(400)),
        (get("\n", "\r\n"), Some(400)),
        (get("\r\n", ""), Some(400)),
        (get("\r\n", "\r\nnext"), Some(400)),
        (
            format!("GET /{long} HTTP/1.1\r\nHost: h\r\n\r\n"),
            Some(414),
        ),
        (String::new(), Some(400)),
    ] {
        assert_eq!(status(&head), expected, "{head:.80}");
    }
}
