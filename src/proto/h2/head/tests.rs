//! Request heads that are accepted, malformed, or rejected.

use proptest::prelude::*;

use super::*;
use crate::http::Request;
use crate::http::forwarded::ClientInfo;
use crate::http::request::ReceivedBody;

/// The fields as a decoder would return them.
fn decoded(fields: &[(&[u8], &[u8])]) -> DecodedFields {
    let mut decoded = DecodedFields::default();
    for (name, value) in fields {
        let name = append(&mut decoded.bytes, name);
        let value = append(&mut decoded.bytes, value);
        decoded.spans.push(FieldSpan { name, value });
    }
    decoded
}

fn parse_fields(fields: &[(&[u8], &[u8])]) -> Result<(RequestHead, Vec<u8>, HeadInfo), HeadError> {
    let mut decoded = decoded(fields);
    let mut head = RequestHead::default();
    let info = parse(&mut decoded, &mut head, &Limits::default())?;
    Ok((head, decoded.bytes, info))
}

/// `None` if the head is accepted, 0 if it is malformed, and the status of a rejection.
fn outcome(fields: &[(&[u8], &[u8])]) -> Option<u16> {
    match parse_fields(fields) {
        Ok(_) => None,
        Err(HeadError::Malformed(_)) => Some(0),
        Err(HeadError::Rejected(rejection)) => Some(rejection.status().as_u16()),
    }
}

fn head_with<'a>(more: &[(&'a [u8], &'a [u8])]) -> Vec<(&'a [u8], &'a [u8])> {
    let head: [(&[u8], &[u8]); 4] = [
        (b":method", b"GET"),
        (b":scheme", b"https"),
        (b":authority", b"h"),
        (b":path", b"/"),
    ];
    [&head[..], more].concat()
}

/// The head with one pseudo-field replaced, or without it.
fn replaced<'a>(name: &'a [u8], value: Option<&'a [u8]>) -> Vec<(&'a [u8], &'a [u8])> {
    let fields = head_with(&[]).into_iter();
    fields
        .filter_map(|(other, old)| match value {
            Some(value) if other == name => Some((name, value)),
            None if other == name => None,
            _ => Some((other, old)),
        })
        .collect()
}

#[test]
fn head_is_that_of_http_1_1() {
    let (head, bytes, info) = parse_fields(&[
        (b":method", b"POST"),
        (b":scheme", b"https"),
        (b":path", b"/a/%62?c=d"),
        (b":authority", b"h:1"),
        (b"cookie", b"a=1"),
        (b"x", b"y z"),
        (b"cookie", b"b=2"),
        (b"content-length", b"7"),
        (b"expect", b"100-continue"),
        (b"priority", b"u=1"),
        (b"cookie", b"c=3"),
        (b"te", b"trailers"),
    ])
    .expect("a head");
    let peer = ClientInfo::plain(std::net::SocketAddr::from(([127, 0, 0, 1], 1)));
    let request: Request<'_> = head.request(&bytes, ReceivedBody::default(), peer);
    assert_eq!(request.method(), Method::POST);
    assert_eq!(request.version(), Version::HTTP_2);
    assert_eq!((request.target(), request.path()), ("/a/%62?c=d", "/a/b"));
    assert_eq!(request.host(), Some("h"));
    let fields: Vec<_> = request.fields().iter().map(|(name, _)| name).collect();
    let expected = [
        "host",
        "x",
        "content-length",
        "expect",
        "priority",
        "te",
        "cookie",
    ];
    assert_eq!(fields, expected);
    assert_eq!(request.header("cookie"), Some("a=1; b=2; c=3"));
    assert_eq!(info.content_length, Some(7));
    assert_eq!(info.expect, Expect::Continue);
    assert_eq!(info.priority.and_then(|it| it.urgency), Some(1));
}

/// RFC 9113 §8.2.
#[test]
fn fields_that_http_2_forbids_are_malformed() {
    let fine: &[(&[u8], &[u8])] = &[
        (b"x", b""),
        (b"x!#$%&'*+-.^_`|~9", b"a b\tc"),
        (b"x", b"\x80\xff"),
        (b"te", b"trailers"),
        (b"host", b"h"),
        (b"host", b"H"),
        (b"content-length", b"0"),
        (b"cookie", b"a"),
    ];
    for field in fine {
        assert_eq!(outcome(&head_with(&[*field])), None, "{field:?}");
    }
    let malformed: &[(&[u8], &[u8])] = &[
        (b"", b"x"),
        (b"X", b"y"),
        (b"aB", b"y"),
        (b"a b", b"y"),
        (b"a:", b"y"),
        (b"a\x7f", b"y"),
        (b"a\x00", b"y"),
        (b"\xc3\xa4", b"y"),
        (b":method", b"GET"),
        (b":status", b"200"),
        (b":protocol", b"websocket"),
        (b"x", b"\x00"),
        (b"x", b"a\rb"),
        (b"x", b"a\nb"),
        (b"x", b"a\x01b"),
        (b"x", b"a\x7fb"),
        (b"x", b" a"),
        (b"x", b"a "),
        (b"x", b"\ta"),
        (b"x", b"a\t"),
        (b"connection", b"close"),
        (b"connection", b""),
        (b"keep-alive", b"x"),
        (b"proxy-connection", b"x"),
        (b"transfer-encoding", b"chunked"),
        (b"upgrade", b"h2c"),
        (b"te", b"gzip"),
        (b"te", b"trailers, gzip"),
        (b"host", b"other"),
        (b"content-length", b"x"),
        (b"content-length", b"-1"),
        (b"content-length", b"1,2"),
    ];
    for field in malformed {
        assert_eq!(outcome(&head_with(&[*field])), Some(0), "{field:?}");
    }
}

/// RFC 9113 §8.3.
#[test]
fn pseudo_fields_are_required_once_first_and_well_formed() {
    for name in [&b":method"[..], b":scheme", b":path"] {
        assert_eq!(outcome(&replaced(name, None)), Some(0));
        assert_eq!(outcome(&replaced(name, Some(b""))), Some(0));
        let twice = [(name, &b"GET"[..]), (name, b"GET")];
        assert_eq!(outcome(&[&twice[..], &head_with(&[])].concat()), Some(0));
    }
    let late = [&[(&b"x"[..], &b"y"[..])][..], &head_with(&[])].concat();
    assert_eq!(outcome(&late), Some(0));

    let paths: &[(&[u8], Option<u16>)] = &[
        (b"/%20?a b", Some(0)),
        (b"/a\x00", Some(0)),
        (b"/a\x7f", Some(0)),
        (b"a", Some(0)),
        (b"*", Some(0)),
        (b"https://h/", Some(0)),
        (b"/\xff", Some(0)),
        ("/ä".as_bytes(), None),
        (b"/a#b", Some(400)),
        (b"/%zz", Some(400)),
        (b"/%00", Some(400)),
        (b"/a\\b", Some(400)),
        (b"/../a", Some(400)),
        (b"//a", None),
    ];
    for (path, expected) in paths {
        assert_eq!(
            outcome(&replaced(b":path", Some(path))),
            *expected,
            "{path:?}"
        );
    }
    let long = [
        b"/".to_vec(),
        vec![b'a'; Limits::default().max_target_bytes],
    ]
    .concat();
    assert_eq!(outcome(&replaced(b":path", Some(&long))), Some(414));

    let schemes: &[(&[u8], Option<u16>)] = &[
        (b"http", None),
        (b"HTTPS", None),
        (b"ftp", Some(400)),
        (b"1", Some(0)),
        (b"ht tp", Some(0)),
    ];
    for (scheme, expected) in schemes {
        let fields = replaced(b":scheme", Some(scheme));
        assert_eq!(outcome(&fields), *expected, "{scheme:?}");
    }
    let methods: &[(&[u8], Option<u16>)] = &[
        (b"BREW", None),
        (b"get", None),
        (b"G T", Some(0)),
        (b"G\x7f", Some(0)),
    ];
    for (method, expected) in methods {
        let fields = replaced(b":method", Some(method));
        assert_eq!(outcome(&fields), *expected, "{method:?}");
    }
    let authorities: &[(&[u8], Option<u16>)] = &[
        (b"h:80", None),
        (b"[::1]:1", None),
        (b"a@h", Some(400)),
        (b"a b", Some(400)),
    ];
    for (authority, expected) in authorities {
        let fields = replaced(b":authority", Some(authority));
        assert_eq!(outcome(&fields), *expected, "{authority:?}");
    }
    assert_eq!(outcome(&replaced(b":authority", None)), Some(400));
    let host_only = [
        &replaced(b":authority", None)[..],
        &[(&b"host"[..], &b"h"[..])],
    ]
    .concat();
    assert_eq!(outcome(&host_only), None);
    let options = [
        &replaced(b":method", Some(b"OPTIONS"))[..3],
        &[(&b":path"[..], &b"*"[..])],
    ];
    assert_eq!(outcome(&options.concat()), None);
}

/// RFC 9113 §8.5.
#[test]
fn connect_is_not_implemented() {
    let connect = (&b":method"[..], &b"CONNECT"[..]);
    let authority = (&b":authority"[..], &b"h:443"[..]);
    assert_eq!(outcome(&[connect, authority]), Some(501));
    assert_eq!(outcome(&[connect]), Some(0));
    assert_eq!(outcome(&replaced(b":method", Some(b"CONNECT"))), Some(0));
}

/// The bytes of targets are those that the parser of HTTP/1.1 accepts.
#[test]
fn target_bytes_are_those_of_http_1_1() {
    for byte in 0..=0x7f {
        let line = [b"GET /".as_slice(), &[byte], b" HTTP/1.1\r\n\r\n"].concat();
        let parsed = httparse::Request::new(&mut []).parse(&line);
        let accepted = parsed.is_ok() && byte != b' ';
        assert_eq!(is_target_byte(byte), accepted, "{byte:#x}");
    }
}

#[test]
fn trailers_have_no_pseudo_fields() {
    let check = |fields: &[(&[u8], &[u8])]| check_trailers(&decoded(fields)).is_ok();
    assert!(check(&[]));
    assert!(check(&[(b"x", b"y")]));
    assert!(!check(&[(b":path", b"/")]));
    assert!(!check(&[(b"X", b"y")]));
    assert!(!check(&[(b"connection", b"close")]));
}

#[test]
fn request_line_is_that_of_http_1_1_as_far_as_it_is_known() {
    let line = |fields: &[(&[u8], &[u8])]| {
        String::from_utf8_lossy(&request_line(&decoded(fields))).into_owned()
    };
    assert_eq!(line(&head_with(&[])), "GET / HTTP/2.0");
    assert_eq!(line(&[(b":path", b"/")]), "");
    assert_eq!(line(&[(b":method", b"GET")]), "GET  HTTP/2.0");
    let connect: &[(&[u8], &[u8])] = &[(b":method", b"CONNECT"), (b":authority", b"h:1")];
    assert_eq!(line(connect), "CONNECT h:1 HTTP/2.0");
}

proptest! {
    /// Whatever is decoded, the request that is made of it can be read.
    #[test]
    fn accepted_heads_are_consistent(
        fields in proptest::collection::vec(
            (
                proptest::sample::select(vec![
                    &b":method"[..], b":path", b":scheme", b":authority", b"host", b"cookie", b"x",
                    b"te", b"content-length", b"expect", b"priority",
                ]),
                proptest::sample::select(vec![
                    &b"GET"[..], b"/", b"/%41/..", b"https", b"h", b"a=b", b"", b"trailers", b"3",
                    b"100-continue", b"u=1, i", b"*", b"OPTIONS", b"\xff",
                ]),
            ),
            0..12,
        )
    ) {
        if let Ok((head, bytes, _)) = parse_fields(&fields) {
            let peer = ClientInfo::plain(std::net::SocketAddr::from(([127, 0, 0, 1], 1)));
            let request = head.request(&bytes, ReceivedBody::default(), peer);
            prop_assert!(request.host().is_some());
            prop_assert!(request.path().starts_with('/') || request.path() == "*");
            prop_assert_eq!(request.fields().all("host").count(), 1);
            prop_assert!(request.fields().all("cookie").count() <= 1);
        }
    }
}
