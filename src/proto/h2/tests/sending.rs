//! Responses: frames, windows, files, producers, priorities, records.

use bytes::Bytes;

use super::support::*;
use crate::body::file_range::Resident;
use crate::http::Response;
use crate::proto::file_read::FileBytes;
use crate::proto::h2::error_code::ErrorCode;
use crate::proto::record::Completion;

const LARGE: usize = 300_000;

fn heads(conversation: &Conversation, id: u32) -> Vec<Vec<(String, String)>> {
    conversation
        .sent
        .iter()
        .filter_map(|sent| match sent {
            Sent::Head { stream, fields, .. } if *stream == id => Some(fields.clone()),
            _ => None,
        })
        .collect()
}

fn field(fields: &[(String, String)], name: &str) -> Option<String> {
    let found = fields.iter().find(|(other, _)| other == name);
    found.map(|(_, value)| value.clone())
}

#[test]
fn head_has_the_fields_of_server_and_handler() {
    let mut conversation = Conversation::begun();
    conversation.handler = |_| {
        Response::text("x")
            .with_header("etag", "\"a\"")
            .with_header("connection", "close")
            .with_header("keep-alive", "x")
            .with_header("upgrade", "x")
            .with_header("proxy-connection", "x")
            .with_header("transfer-encoding", "chunked")
            .into()
    };
    conversation.send(&get(1, "/"));
    let heads = heads(&conversation, 1);
    let names: Vec<_> = heads[0].iter().map(|(name, _)| &name[..]).collect();
    let mut sorted = names.clone();
    sorted.sort_unstable();
    let expected = [
        ":status",
        "content-length",
        "content-type",
        "date",
        "etag",
        "server",
    ];
    assert_eq!(sorted, expected);
    assert_eq!(names[0], ":status");
    assert_eq!(field(&heads[0], "content-length").as_deref(), Some("1"));
    assert_eq!(
        field(&heads[0], "date").as_deref(),
        Some("Sun, 06 Nov 1994 08:49:37 GMT")
    );
}

#[test]
fn status_that_permits_no_content_sends_none() {
    for (status, length) in [(204, None), (205, Some("0")), (304, None)] {
        for method in ["GET", "HEAD"] {
            let mut conversation = sizes(65_535);
            let path = format!("/status/{status}");
            conversation.send(&headers(1, END_STREAM, &head(method, &path)));
            assert_eq!(conversation.summary(), [format!("1: {status} ")]);
            let heads = heads(&conversation, 1);
            assert_eq!(field(&heads[0], "content-length").as_deref(), length);
            assert_eq!(conversation.records[0].content_bytes, 0);
        }
    }
    let mut conversation = sizes(65_535);
    conversation.send(&headers(1, END_STREAM, &head("HEAD", "/bytes/7")));
    assert_eq!(conversation.summary(), ["1: 200 "]);
    let heads = heads(&conversation, 1);
    assert_eq!(field(&heads[0], "content-length").as_deref(), Some("7"));
}

#[test]
fn interim_status_of_handler_is_500() {
    let mut conversation = sizes(65_535);
    conversation.send(&get(1, "/status/103"));
    assert!(conversation.summary()[0].starts_with("1: 500 "));
}

#[test]
fn bodies_of_every_kind_are_sent_to_their_end() {
    for kind in ["bytes", "file", "stream", "known"] {
        for len in [0, 1, 16_384, 16_385, LARGE] {
            for write_size in [usize::MAX, 1000] {
                let mut conversation = sizes(1 << 30);
                conversation.send(&window_update(0, 1 << 30));
                conversation.write_size = write_size;
                conversation.send(&get(1, &format!("/{kind}/{len}")));
                while !conversation.pulls.is_empty() {
                    conversation.produce();
                }
                assert_eq!(conversation.received(1), len, "{kind} {len}");
                assert!(has_ended(&conversation, 1), "{kind} {len}");
                let expected = format!("GET /{kind}/{len} HTTP/2.0 200 {len} Complete");
                assert_eq!(conversation.logged(), [expected]);
                let known = (kind != "stream").then(|| len.to_string());
                assert_eq!(field(&heads(&conversation, 1)[0], "content-length"), known);
                assert_eq!(conversation.machine.open_streams(), 0);
            }
        }
    }
}

#[test]
fn windows_of_stream_and_connection_are_kept() {
    let mut conversation = sizes(10);
    conversation.send(&get(1, "/bytes/25"));
    conversation.send(&get(3, "/file/25"));
    assert_eq!(
        (conversation.received(1), conversation.received(3)),
        (10, 10)
    );
    conversation.send(&window_update(1, 1));
    assert_eq!(
        (conversation.received(1), conversation.received(3)),
        (11, 10)
    );
    // Negative windows: RFC 9113 §6.9.2.
    conversation.send(&settings(&[(INITIAL_WINDOW_SIZE, 0)]));
    conversation.send(&window_update(1, 10));
    assert_eq!(conversation.received(1), 11);
    conversation.send(&window_update(1, 1));
    assert_eq!(conversation.received(1), 12);
    conversation.send(&settings(&[(INITIAL_WINDOW_SIZE, 100)]));
    assert!(has_ended(&conversation, 1) && has_ended(&conversation, 3));

    let mut conversation = sizes(1 << 30);
    conversation.send(&get(1, "/bytes/100000"));
    conversation.send(&get(3, "/bytes/100000"));
    let received = |it: &Conversation| it.received(1) + it.received(3);
    assert_eq!(received(&conversation), 65_535);
    conversation.send(&window_update(0, 7));
    assert_eq!(received(&conversation), 65_542);
    conversation.send(&window_update(0, 1 << 30));
    assert!(has_ended(&conversation, 1) && has_ended(&conversation, 3));
}

#[test]
fn failed_body_resets_its_stream_only() {
    type Fails = fn(&mut Conversation);
    let cases: [(&str, Fails); 5] = [
        ("/short/5", |it| assert_eq!(it.produce(), End::Waiting)),
        ("/fails/0", |it| assert_eq!(it.produce(), End::Waiting)),
        ("/file/100000", |it| {
            it.file_bytes
                .extend([FileBytes::Read(100), FileBytes::Ended]);
        }),
        ("/file/100000", |it| {
            it.file_bytes
                .extend([FileBytes::Read(100), FileBytes::Failed]);
        }),
        ("/file/100000", |it| {
            it.file_bytes
                .extend([FileBytes::Read(100), FileBytes::NotResident]);
        }),
    ];
    for (path, fails) in cases {
        let mut conversation = sizes(65_535);
        conversation.writable = false;
        conversation.send(&get(1, path));
        if path.starts_with("/file") {
            fails(&mut conversation);
            conversation.writable = true;
            conversation.run([]);
        } else {
            conversation.writable = true;
            conversation.run([]);
            fails(&mut conversation);
        }
        if !conversation.probes.is_empty() {
            conversation.probed(Err(std::io::Error::other("on purpose")));
        }
        let summary = conversation.summary();
        assert!(
            summary[0].ends_with("RST INTERNAL_ERROR"),
            "{path}: {summary:?}"
        );
        assert_eq!(conversation.records.len(), 1);
        conversation.send(&get(3, "/bytes/1"));
        assert_eq!(conversation.summary()[1], "3: 200 B");
    }
}

/// As with HTTP/1.1, and also if another head must be the first of the connection.
#[test]
fn file_that_cannot_be_read_at_all_is_500() {
    let cases = [FileBytes::Failed, FileBytes::Ended, FileBytes::NotResident];
    for result in cases {
        for other in [None, Some(())] {
            let mut conversation = sizes(65_535);
            conversation.file_bytes.push_back(result);
            conversation.writable = false;
            conversation.send(&get(1, "/file/100000"));
            conversation.writable = true;
            if other.is_some() {
                conversation.send(&get(3, "/file/1"));
            } else {
                conversation.run([]);
            }
            if !conversation.probes.is_empty() {
                assert_eq!(conversation.received(1), 0);
                assert_eq!(heads(&conversation, 1).len(), 0);
                conversation.probed(Err(std::io::Error::other("on purpose")));
            }
            let summary = conversation.summary();
            assert!(summary[0].starts_with("1: 500 "), "{result:?}: {summary:?}");
            assert!(has_ended(&conversation, 1));
            let failed = conversation.records.iter().find(|it| it.status == 500);
            assert!(failed.is_some_and(|it| it.outcome == Completion::Complete));
            assert_eq!(conversation.machine.open_streams(), 0);
        }
    }
}

/// It does not fit in a portion together with the first bytes of the file.
#[test]
fn head_of_a_file_may_be_larger_than_a_portion() {
    let mut conversation = sizes(65_535);
    conversation.handler = |request| {
        let Answer::Now(response) = sized(request) else {
            panic!("a file");
        };
        response.with_header("x-large", "é".repeat(50_000)).into()
    };
    conversation.send(&get(1, "/file/100"));
    assert!(has_ended(&conversation, 1));
    let heads = heads(&conversation, 1);
    let large = field(&heads[0], "x-large").expect("a field");
    assert!(large.len() > 64 * 1024, "{} bytes", large.len());
}

/// The head of a response does not depend on a window.
#[test]
fn head_of_a_file_is_sent_without_a_window() {
    let mut conversation = sizes(0);
    conversation.send(&get(1, "/file/100"));
    assert_eq!(conversation.summary(), ["1: 200 …"]);
    conversation.send(&window_update(1, 100));
    assert!(has_ended(&conversation, 1));
    // The window of the connection is used up.
    let mut conversation = sizes(1 << 30);
    conversation.send(&[get(1, "/file/100000"), get(3, "/file/100000")].concat());
    conversation.send(&get(5, "/file/5"));
    conversation.send(&get(7, "/bytes/5"));
    let expected = ["3: 200 …", "5: 200 …", "7: 200 …"];
    let summary = conversation.summary();
    assert_eq!(summary.len(), 4, "{summary:?}");
    assert!(summary[1].starts_with("3: 200 "), "{summary:?}");
    assert_eq!(summary[2..], expected[1..]);
}

#[test]
fn file_that_is_not_in_memory_is_probed_and_delays_no_other_stream() {
    let mut conversation = sizes(1 << 20);
    conversation.file_bytes.push_back(FileBytes::NotResident);
    conversation.send(&get(1, "/file/40000"));
    assert_eq!(conversation.probes.len(), 1);
    conversation.send(&get(3, "/bytes/100"));
    assert!(has_ended(&conversation, 3));
    assert_eq!(conversation.received(1), 0);
    // The bytes themselves, and then again from the page cache.
    conversation.probed(Ok(Resident::Read(Bytes::from(vec![b'R'; 20_000]))));
    assert!(has_ended(&conversation, 1));
    assert_eq!(conversation.received(1), 40_000);

    let mut conversation = sizes(1 << 20);
    conversation.file_bytes.push_back(FileBytes::NotResident);
    conversation.send(&get(1, "/file/40000"));
    assert_eq!(conversation.resident_reads, 0);
    conversation.probed(Ok(Resident::InKernel(30_000)));
    assert_eq!(conversation.received(1), 40_000);
    // 30,000 bytes in two frames; the rest is not known to be there.
    assert_eq!(conversation.resident_reads, 2);
}

#[test]
fn reset_ends_a_download_at_once() {
    for path in ["/bytes/1000000", "/file/1000000", "/stream/1000000"] {
        let mut conversation = sizes(1 << 30);
        conversation.send(&get(1, path));
        if !conversation.pulls.is_empty() {
            conversation.produce();
        }
        let received = conversation.received(1);
        assert!(received > 0);
        conversation.send(&reset(1, ErrorCode::Cancel));
        conversation.send(&window_update(0, 1 << 20));
        assert_eq!(conversation.received(1), received, "{path}");
        let expected = format!("GET {path} HTTP/2.0 200 {received} Aborted");
        assert_eq!(conversation.logged(), [expected]);
        let is_pulled = !conversation.pulls.is_empty();
        assert_eq!(conversation.machine.open_streams(), usize::from(is_pulled));
        if is_pulled {
            assert_eq!(conversation.cancelled, [1]);
            conversation.produce();
            assert_eq!(conversation.machine.open_streams(), 0);
        }
    }
}

#[test]
fn bytes_of_a_frame_that_is_partly_taken_are_recorded() {
    let mut conversation = sizes(1 << 30);
    conversation.send(&window_update(0, 1 << 30));
    conversation.send(&get(1, "/bytes/16"));
    conversation.room = 9 + 100 + 9 + 5000;
    conversation.send(&get(3, "/bytes/100000"));
    conversation.send(&reset(3, ErrorCode::Cancel));
    let sent = conversation.records[1].content_bytes as usize;
    assert!(sent > 4000 && sent < 5200, "{sent}");
}

#[test]
fn every_request_of_a_batch_is_answered_in_one_write() {
    let mut conversation = sizes(65_535);
    let before = conversation.sent.len();
    let requests: Vec<u8> = (0..32)
        .flat_map(|at| get(2 * at + 1, "/bytes/1000"))
        .collect();
    conversation.writable = false;
    conversation.send(&requests);
    assert_eq!(conversation.sent.len(), before);
    conversation.writable = true;
    conversation.write_size = usize::MAX;
    conversation.run([]);
    assert_eq!(conversation.records.len(), 32);
}

#[test]
fn transfers_are_reported_for_recorded_exchanges() {
    let mut conversation = sizes(10);
    conversation.send(&get(1, "/bytes/100"));
    conversation.send(&post(3, "/", &[("content-length", "7")]));
    conversation.send(&data(3, 0, b"abc"));
    let transfers: Vec<_> = conversation
        .machine
        .transfers()
        .map(|(id, it)| (id.0, it.moved, it.total))
        .collect();
    assert_eq!(transfers, [(1, 10, Some(100)), (3, 3, Some(7))]);
}
