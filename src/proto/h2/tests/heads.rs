//! Requests whose head is rejected, and what is recorded of them.

use super::support::*;
use crate::proto::h2::error_code::ErrorCode;

#[test]
fn malformed_head_resets_its_stream_and_is_recorded_as_400() {
    let mut conversation = Conversation::begun();
    let upper_case = [&head("GET", "/x")[..], &[("X-Name", "a")]].concat();
    conversation.send(&headers(1, END_STREAM, &upper_case));
    conversation.send(&headers(3, END_STREAM, &[(":path", "/y")]));
    conversation.send(&get(5, "/"));
    let expected = [
        "1: RST PROTOCOL_ERROR",
        "3: RST PROTOCOL_ERROR",
        "5: 200 GET / ",
    ];
    assert_eq!(conversation.summary(), expected);
    let expected = [
        "GET /x HTTP/2.0 400 0 Aborted",
        " 400 0 Aborted",
        "GET / HTTP/2.0 200 6 Complete",
    ];
    assert_eq!(conversation.logged(), expected);
}

fn with_authority(value: &str) -> Vec<(&str, &str)> {
    let mut fields = head("GET", "/");
    fields[2].1 = value;
    fields
}

#[test]
fn rejected_head_gets_a_response() {
    let long = format!("/{}", "a".repeat(9000));
    let large = "a".repeat(9000);
    let many: Vec<_> = (0..100).map(|_| ("cookie", "a=b")).collect();
    let connect = [(":method", "CONNECT"), (":authority", "h:1")];
    let table: &[(Vec<(&str, &str)>, &str)] = &[
        (head("GET", &long), "414"),
        (
            [&head("GET", "/")[..], &[("a", &large[..]), ("b", &large)]].concat(),
            "431",
        ),
        ([&head("GET", "/")[..], &many].concat(), "431"),
        (connect.to_vec(), "501"),
        (head("GET", "/#"), "400"),
        (head("GET", "/%zz"), "400"),
        (with_authority(""), "400"),
        (with_authority("a b"), "400"),
        (
            [&head("GET", "/")[..], &[("expect", "tea")]].concat(),
            "417",
        ),
    ];
    for (fields, status) in table {
        for flags in [END_STREAM, 0] {
            let mut conversation = Conversation::begun();
            conversation.send(&headers(1, flags, fields));
            let summary = conversation.summary();
            assert_eq!(summary.len(), 1, "{summary:?}");
            assert!(
                summary[0].starts_with(&format!("1: {status} ")),
                "{summary:?}"
            );
            assert!(!summary[0].contains("RST"), "{summary:?}");
            assert_eq!(conversation.records.len(), 1);
            assert_eq!(conversation.records[0].status.as_str(), *status);
            assert!(conversation.received(1) > 0);
            // The connection is still of use.
            conversation.send(&get(3, "/"));
            assert_eq!(conversation.summary()[1], "3: 200 GET / ");
        }
    }
}

/// RFC 9110 §9.3.2: curl and browsers take content in a response to HEAD for an error of the connection.
#[test]
fn rejected_head_request_gets_no_content() {
    let long = format!("/{}", "a".repeat(9000));
    let large = "a".repeat(9000);
    let fields = [("a", &large[..]), ("b", &large)];
    for (fields, status) in [
        (head("HEAD", "/%zz"), "400"),
        (head("HEAD", &long), "414"),
        ([&head("HEAD", "/")[..], &fields].concat(), "431"),
        (
            [&head("HEAD", "/")[..], &[("expect", "tea")]].concat(),
            "417",
        ),
    ] {
        let mut conversation = Conversation::begun();
        conversation.send(&headers(1, END_STREAM, &fields));
        assert_eq!(conversation.summary(), [format!("1: {status} ")]);
        assert_eq!(conversation.received(1), 0);
    }
}

#[test]
fn fields_up_to_the_limit_are_accepted() {
    // Host is one of them with HTTP/1.1.
    let most: Vec<_> = (0..99).map(|_| ("cookie", "a=b")).collect();
    let fields = [&head("GET", "/")[..], &most].concat();
    assert_eq!(
        exchange(&[headers(1, END_STREAM, &fields)]),
        ["1: 200 GET / "]
    );
}

/// Each field counts with 32 bytes more (RFC 9113 §6.5.2).
#[test]
fn heads_up_to_the_limit_are_accepted() {
    let len = |fields: &[(&str, &str)]| -> usize {
        let lens = fields.iter().map(|(name, value)| name.len() + value.len());
        lens.map(|len| len + 32).sum()
    };
    let base = head("GET", "/");
    let left = 16 * 1024 - len(&base) - len(&[("a", "")]);
    for (more, expected) in [(0, "1: 200 "), (1, "1: 431 ")] {
        let value = "a".repeat(left + more);
        let fields = [&base[..], &[("a", &value)]].concat();
        let mut conversation = Conversation::begun();
        conversation.send(&headers(1, END_STREAM, &fields));
        let summary = conversation.summary();
        assert!(summary[0].starts_with(expected), "{more}: {summary:?}");
    }
}

#[test]
fn content_length_must_be_that_of_the_body() {
    let rst = "1: RST PROTOCOL_ERROR";
    let with = |length: &'static str| [("content-length", length)];
    let end_stream = [&head("GET", "/")[..], &with("1")].concat();
    let table: &[(Vec<Vec<u8>>, &str)] = &[
        (vec![headers(1, END_STREAM, &end_stream)], rst),
        (
            vec![post(1, "/", &with("2")), data(1, END_STREAM, b"a")],
            rst,
        ),
        (
            vec![
                post(1, "/", &with("2")),
                data(1, 0, b"a"),
                data(1, END_STREAM, b"bc"),
            ],
            rst,
        ),
        (vec![post(1, "/", &with("2")), data(1, 0, b"abc")], rst),
        (
            vec![post(1, "/", &with("0")), data(1, END_STREAM, b"a")],
            rst,
        ),
        (
            vec![post(1, "/", &with("0")), data(1, END_STREAM, b"")],
            "1: 200 POST / ",
        ),
        (
            vec![
                post(1, "/", &with("2")),
                data(1, 0, b"a"),
                data(1, END_STREAM, b"b"),
            ],
            "1: 200 POST / ab",
        ),
        // Trailers end the body.
        (
            vec![
                post(1, "/", &with("1")),
                data(1, 0, b"a"),
                headers(1, END_STREAM, &[("x", "y")]),
            ],
            "1: 200 POST / a",
        ),
        (
            vec![
                post(1, "/", &with("2")),
                data(1, 0, b"a"),
                headers(1, END_STREAM, &[("x", "y")]),
            ],
            rst,
        ),
    ];
    for (frames, expected) in table {
        assert_eq!(exchange(frames), [*expected], "{frames:?}");
        let mut conversation = Conversation::begun();
        for frame in frames {
            conversation.send(frame);
        }
        let status = if *expected == rst { 400 } else { 200 };
        assert_eq!(conversation.records.len(), 1, "{frames:?}");
        assert_eq!(conversation.records[0].status, status, "{frames:?}");
    }
}

#[test]
fn trailers_are_checked_and_dropped() {
    let table: &[(Vec<u8>, &str)] = &[
        (headers(1, END_STREAM, &[("x", "y")]), "1: 200 POST / a"),
        (
            headers(1, END_STREAM, &[(":path", "/")]),
            "1: RST PROTOCOL_ERROR",
        ),
        (
            headers(1, END_STREAM, &[("X", "y")]),
            "1: RST PROTOCOL_ERROR",
        ),
        // RFC 9113 §8.1: a second head.
        (headers(1, 0, &[("x", "y")]), "1: RST PROTOCOL_ERROR"),
    ];
    for (trailers, expected) in table {
        let frames = [post(1, "/", &[]), data(1, 0, b"a"), trailers.clone()];
        assert_eq!(exchange(&frames), [*expected]);
    }
    let large = "a".repeat(9000);
    let trailers = headers(1, END_STREAM, &[("a", &large), ("b", &large)]);
    let summary = exchange(&[post(1, "/", &[]), trailers]);
    assert!(summary[0].starts_with("1: 431 "), "{summary:?}");
}

#[test]
fn refused_stream_is_untouched() {
    let mut conversation = Conversation::with(context(|config| config.limits.h2_max_streams = 2));
    conversation.send(&preface());
    for id in [1, 3, 5] {
        conversation.send(&get(id, "/later"));
    }
    assert_eq!(conversation.jobs, [1, 3]);
    assert_eq!(conversation.summary(), ["5: RST REFUSED_STREAM"]);
    assert!(conversation.records.is_empty());
    // A reset stream keeps its place while its job is out (CVE-2025-8671).
    conversation.send(&reset(1, ErrorCode::Cancel));
    assert_eq!(conversation.cancelled, [1]);
    conversation.send(&get(7, "/"));
    assert_eq!(conversation.summary()[1], "7: RST REFUSED_STREAM");
    conversation.answer(1, crate::http::Response::text("too late"));
    conversation.send(&get(9, "/"));
    let summary = conversation.summary();
    assert_eq!(summary[2..], ["9: 200 GET / "]);
    assert_eq!(
        conversation.logged(),
        [
            "GET /later HTTP/2.0 499 0 Aborted",
            "GET / HTTP/2.0 200 6 Complete"
        ]
    );
}

/// A reload of the settings does not make a client one that opens too many streams.
#[test]
fn streams_are_limited_to_the_number_that_was_announced() {
    let mut conversation = Conversation::with(context(|config| config.limits.h2_max_streams = 2));
    conversation.send(&preface());
    conversation.cx.limits.h2_max_streams = 1;
    for id in [1, 3] {
        conversation.send(&get(id, "/later"));
    }
    assert_eq!(conversation.jobs, [1, 3]);
    conversation.cx.limits.h2_max_streams = 5;
    conversation.send(&get(5, "/later"));
    assert_eq!(conversation.summary(), ["5: RST REFUSED_STREAM"]);
}

#[derive(Debug)]
struct OtherHosts;

impl crate::proto::h2::machine::Authorities for OtherHosts {
    fn is_misdirected(&self, host: &str) -> bool {
        host == "other"
    }
}

#[test]
fn authority_of_another_certificate_is_421() {
    let mut conversation = Conversation::new();
    let client = crate::http::forwarded::ClientInfo::plain(peer());
    conversation.machine = crate::proto::h2::machine::Machine::new(client, &mut conversation.cx)
        .with_authorities(std::sync::Arc::new(OtherHosts));
    conversation.send(&preface());
    let mut fields = head("GET", "/");
    conversation.send(&headers(1, END_STREAM, &fields));
    fields[2].1 = "other";
    conversation.send(&headers(3, END_STREAM, &fields));
    let summary = conversation.summary();
    assert_eq!(summary[0], "1: 200 GET / ");
    assert!(summary[1].starts_with("3: 421 "), "{summary:?}");
}

#[test]
fn part_of_a_page_is_recorded_as_such() {
    let mut conversation = Conversation::begun();
    let image = [&head("GET", "/")[..], &[("sec-fetch-dest", "image")]].concat();
    conversation.send(&headers(1, END_STREAM, &image));
    conversation.send(&get(3, "/"));
    let records = conversation.records.iter();
    let subresources: Vec<_> = records.map(|record| record.is_subresource).collect();
    assert_eq!(subresources, [true, false]);
}
