//! Floods: just below each limit the connection works, above it ends (RFC 9113 §10.5).

use super::support::*;
use crate::http::Response;
use crate::proto::context::DrainState;
use crate::proto::h2::error_code::ErrorCode;

/// Sends the frames, and returns whether the connection still works.
fn survives(conversation: &mut Conversation, frames: impl IntoIterator<Item = Vec<u8>>) -> bool {
    for frame in frames {
        conversation.send(&frame);
    }
    let sent = conversation.sent.clone();
    let failed = sent.iter().any(|sent| matches!(sent, Sent::GoAway(..)));
    let calm = Sent::GoAway(0, ErrorCode::EnhanceYourCalm);
    if let (true, Some(Sent::GoAway(_, code))) = (failed, sent.last()) {
        let Sent::GoAway(_, expected) = calm else {
            return false;
        };
        assert_eq!(*code, expected);
    }
    !failed
}

/// Checks that `count` frames are accepted and one more is not. `prepare` is sent before.
fn check(prepare: &[Vec<u8>], count: usize, frame: impl Fn(usize) -> Vec<u8>) {
    let mut conversation = Conversation::begun();
    assert!(survives(&mut conversation, prepare.iter().cloned()));
    let frames: Vec<u8> = (0..count).flat_map(&frame).collect();
    // The client reads the answers to a part of them, which is what limits its input otherwise.
    let chunks = frames.chunks(1000).map(<[u8]>::to_vec);
    assert!(survives(&mut conversation, chunks), "{count} are too many");
    assert!(
        !survives(&mut conversation, [frame(count)]),
        "more than {count} are accepted"
    );
}

fn id(at: usize) -> u32 {
    2 * at as u32 + 1
}

/// Any number of requests that are answered is no flood.
#[test]
fn requests_that_are_answered_are_not_limited() {
    let mut conversation = Conversation::begun();
    conversation.send(&window_update(0, 1 << 20));
    for at in 0..12_000 {
        conversation.send(&get(id(at), "/"));
        conversation
            .sent
            .retain(|sent| matches!(sent, Sent::GoAway(..)));
        assert!(conversation.sent.is_empty(), "{at}");
    }
}

#[test]
fn rapid_reset_is_limited() {
    // CVE-2023-44487; the requests are never answered.
    check(&[], 200, |at| {
        [post(id(at), "/", &[]), reset(id(at), ErrorCode::Cancel)].concat()
    });
}

#[test]
fn streams_that_the_server_resets_are_limited() {
    // CVE-2025-8671.
    check(&[], 20, |at| {
        [post(id(at), "/", &[]), window_update(id(at), 0)].concat()
    });
}

#[test]
fn refused_streams_are_limited() {
    let open: Vec<_> = (0..100).map(|at| post(id(at), "/", &[])).collect();
    check(&open, 100, |at| post(id(100 + at), "/", &[]));
}

/// An exchange that has ended keeps its place while its job is out.
#[test]
fn streams_with_their_jobs_are_limited() {
    let mut conversation = Conversation::begun();
    for at in 0..16 {
        conversation.send(&get(id(at), "/later"));
        conversation.send(&reset(id(at), ErrorCode::Cancel));
    }
    for at in 16..100 {
        conversation.send(&post(id(at), "/", &[]));
    }
    assert_eq!(conversation.machine.open_streams(), 100);
    assert_eq!(conversation.summary(), [""; 0]);
    conversation.send(&post(id(100), "/", &[]));
    assert_eq!(conversation.summary(), ["201: RST REFUSED_STREAM"]);
}

#[test]
fn discarded_header_blocks_are_limited() {
    // After GOAWAY.
    let mut conversation = Conversation::begun();
    conversation.send(&get(1, "/later"));
    conversation.cx.drain_state = DrainState::Draining;
    conversation.send(&frame(PING, ACK, 0, b"shutdown"));
    let calm = Sent::GoAway(1, ErrorCode::EnhanceYourCalm);
    for at in 1..=32 {
        conversation.send(&post(id(at), "/", &[]));
    }
    assert!(!conversation.sent.contains(&calm));
    conversation.send(&post(id(33), "/", &[]));
    assert!(conversation.sent.contains(&calm));
    // Of a stream that the server has reset.
    let prepare = [post(1, "/", &[]), window_update(1, 0)];
    check(&prepare, 32, |_| headers(1, END_STREAM, &[("x", "y")]));
    // Larger than a head may be.
    let large = [block(&head("GET", "/")), vec![0x82; 1_000]].concat();
    check(&[], 32, |at| {
        frame(HEADERS, END_STREAM | END_HEADERS, id(at), &large)
    });
}

#[test]
fn control_frames_are_limited() {
    check(&[], 50, |_| frame(PING, 0, 0, &[0; 8]));
    // The settings of the preface are one.
    check(&[], 9, |_| settings(&[]));
    check(&[], 1000, |_| window_update(0, 1));
    // Each DATA frame that is sent permits ten more, and each stream 100 PRIORITY frames.
    check(&[get(1, "/")], 1010, |_| window_update(0, 1));
    check(&[get(1, "/")], 200, |_| frame(PRIORITY, 0, 1, &[0; 5]));
    check(&[], 100, |_| frame(PRIORITY, 0, 1, &[0; 5]));
    check(&[], 200, |_| frame(PRIORITY_UPDATE, 0, 0, b"\0\0\0\x01u=1"));
    check(&[], 200, |_| frame(0x77, 0, 0, b""));
    // On a stream that is gone, which permits one more, as does its DATA frame.
    check(&[get(1, "/")], 202, |_| window_update(1, 1));
    check(&[get(1, "/")], 202, |_| reset(1, ErrorCode::Cancel));
    // On one that the server has reset: also what was in transit in its window of 64 KiB.
    let faulty = [post(1, "/", &[]), window_update(1, 0)];
    check(&faulty, 200 + 64, |_| data(1, 0, b"x"));
}

#[test]
fn empty_data_is_limited() {
    // CVE-2019-9518.
    let open = [post(1, "/", &[])];
    check(&open, 10, |_| data(1, 0, b""));
    check(&open, 10, |_| data(1, PADDED, &[3, 0, 0, 0]));
}

/// What a client has sent before it knew that its request was answered is no flood.
#[test]
fn data_in_transit_to_a_closed_request_is_not_limited() {
    for path in ["/no-body", "/little"] {
        let mut conversation = Conversation::begun();
        for at in 0..20 {
            let id = id(at);
            conversation.send(&post(id, path, &[]));
            let frames = std::iter::repeat_n(data(id, 0, &[b'x'; 1024]), 60);
            assert!(survives(&mut conversation, frames), "{path} {at}");
        }
    }
    // A client that never stops is.
    let mut conversation = Conversation::begun();
    conversation.send(&post(1, "/no-body", &[("content-length", "99999")]));
    let frames = std::iter::repeat_n(data(1, 0, b"x"), 300);
    assert!(!survives(&mut conversation, frames));
}

#[test]
fn tiny_frames_are_limited_and_large_ones_are_not() {
    let open = [post(1, "/", &[])];
    // Two frames of the preface, and one of the head. Each KiB earns one.
    check(&open, 10_006, |_| data(1, 0, b"x"));
}

/// A client may have as many requests in transit as it may have streams.
#[test]
fn data_in_transit_to_all_requests_that_were_closed_is_not_limited() {
    let mut conversation = Conversation::begun();
    // More than the window, so that the client is asked to stop.
    let length = [("content-length", "100000")];
    let requests = (0..100).map(|at| post(id(at), "/no-body", &length));
    assert!(survives(&mut conversation, requests));
    let stopped = Sent::Reset(1, ErrorCode::NoError);
    assert!(conversation.sent.contains(&stopped));
    for _ in 0..3 {
        let bodies = (0..100).map(|at| data(id(at), 0, &[b'x'; 16_384]));
        assert!(survives(&mut conversation, bodies));
    }
    let closed = |sent: &&Sent| matches!(sent, Sent::Reset(_, ErrorCode::StreamClosed));
    assert_eq!(conversation.sent.iter().filter(closed).count(), 0);
}

/// A client that is served may be as fast as the server.
#[test]
fn requests_and_downloads_are_not_limited() {
    let survives_long = |conversation: &mut Conversation, frames: &[Vec<u8>]| {
        frames.iter().all(|frame| {
            conversation.sent.clear();
            survives(conversation, [frame.clone()])
        })
    };
    let mut conversation = Conversation::begun();
    conversation.send(&window_update(0, 1 << 30));
    let request = |at, method| headers(id(at), END_STREAM, &head(method, "/"));
    let requests: Vec<_> = (0..12_000).map(|at| request(at, "GET")).collect();
    assert!(survives_long(&mut conversation, &requests));
    let requests: Vec<_> = (12_000..24_000).map(|at| request(at, "HEAD")).collect();
    assert!(survives_long(&mut conversation, &requests));
    // Windows of 64 KiB, of which each half is acknowledged: 400 MB are 24,000 frames.
    let mut conversation = sizes(65_535);
    conversation.send(&get(1, "/file/400000000"));
    let acknowledged = [window_update(0, 32_768), window_update(1, 32_768)].concat();
    assert!(survives_long(
        &mut conversation,
        &vec![acknowledged; 12_000]
    ));
}

/// CVE-2024-27316.
#[test]
fn continuations_are_limited() {
    let first = || frame(HEADERS, END_STREAM, 1, &block(&head("GET", "/")));
    let more = |fragment: &[u8], flags| frame(CONTINUATION, flags, 1, fragment);
    let field = block(&[("a", "b")]);
    let calm = "GOAWAY 0 ENHANCE_YOUR_CALM";
    let fine = "1: 200 GET / ";
    let table: &[(Vec<Vec<u8>>, &str)] = &[
        (
            [
                vec![first()],
                vec![more(&field, 0); 7],
                vec![more(&field, END_HEADERS)],
            ]
            .concat(),
            fine,
        ),
        ([vec![first()], vec![more(&field, 0); 9]].concat(), calm),
        (vec![first(), more(b"", END_HEADERS)], fine),
        (vec![first(), more(b"", 0), more(b"", 0)], calm),
    ];
    for (frames, expected) in table {
        assert_eq!(in_steps(frames), [*expected]);
    }
    // 32 KiB are decoded; more is not.
    let half = |len| vec![0x82; len];
    let begin = frame(HEADERS, END_STREAM, 1, &half(16_384));
    let frames = [begin.clone(), more(&half(16_384), END_HEADERS)];
    assert!(in_steps(&frames)[0].starts_with("1: 431 "));
    let frames = [begin, more(&half(16_383), 0), more(&half(2), END_HEADERS)];
    assert_eq!(in_steps(&frames), [calm]);
}

/// CVE-2016-6581 and the "HTTP/2 bomb" of 2026: references of one byte to a large entry.
#[test]
fn references_to_large_fields_cost_no_memory() {
    let mut conversation = Conversation::begun();
    let mut first = block(&head("GET", "/"));
    // A literal with incremental indexing, of 4,000 bytes.
    first.extend_from_slice(b"\x40\x01a\x7f");
    // 4,000 - 127 = 3873 = 0x1e * 128 + 0x21.
    first.extend_from_slice(&[0x21 | 0x80, 0x1e]);
    first.extend_from_slice(&[b'x'; 4_000]);
    conversation.send(&frame(HEADERS, END_STREAM | END_HEADERS, 1, &first));
    assert_eq!(conversation.summary(), ["1: 200 GET / "]);
    let bomb = [block(&head("GET", "/")), vec![0x80 | 62; 16_000]].concat();
    for at in 1..20 {
        conversation.send(&frame(HEADERS, END_STREAM | END_HEADERS, id(at), &bomb));
    }
    let summary = conversation.summary();
    assert!(summary[19].starts_with("39: 431 "), "{:?}", summary.last());
    assert!(conversation.cx.head_bytes.capacity() <= 64 * 1024);
}

/// CVE-2019-9512, CVE-2019-9517: what the client does not take is not answered without end.
#[test]
fn client_that_takes_nothing_is_not_read() {
    let mut conversation = Conversation::begun();
    conversation.writable = false;
    for at in 0..100 {
        conversation.send(&get(id(at), "/"));
    }
    for _ in 0..3000 {
        conversation.cx.now += std::time::Duration::from_millis(100);
        let ready = conversation.try_send(&frame(PING, 0, 0, &[0; 8]));
        if !ready {
            break;
        }
    }
    // The heads of the responses are staged, and the bodies are not.
    let staged = conversation.machine.segment().prefix.len();
    assert!((16 * 1024..17 * 1024).contains(&staged), "{staged} bytes");
    conversation.writable = true;
    conversation.run([]);
    assert_eq!(conversation.records.len(), 100);
    assert!(conversation.try_send(&get(id(100), "/")));
    assert_eq!(conversation.records.len(), 101);
}

#[test]
fn memory_of_held_streams_is_bounded() {
    let mut conversation = Conversation::new();
    conversation.handler = |_| {
        let file = std::sync::Arc::new(std::fs::File::open("/dev/null").expect("a file"));
        let range = crate::body::FileRange::new(file, 0, 1 << 40);
        Response::new(::http::StatusCode::OK)
            .with_body(crate::http::Body::File(range))
            .into()
    };
    conversation.send(&preface_with(&[(INITIAL_WINDOW_SIZE, 0)]));
    for at in 0..100 {
        conversation.send(&get(id(at), "/"));
    }
    assert_eq!(conversation.machine.open_streams(), 100);
    let memory = conversation.machine.stream_memory();
    assert!(memory <= 48 * 1024, "{memory} bytes");
}

/// The "HTTP/2 bomb" of 2026 (CVE-2026-49975): each head is a few bytes on the wire, and is kept for the
/// record of its exchange while the window is closed.
#[test]
fn memory_of_held_heads_is_bounded() {
    let mut conversation = Conversation::new();
    conversation.handler = |_| Response::text("x".repeat(100)).into();
    conversation.send(&preface_with(&[(INITIAL_WINDOW_SIZE, 0)]));
    let large = "x".repeat(1_800);
    let mut first = block(&head("GET", "/"));
    for name in ["user-agent", "referer"] {
        // A literal with incremental indexing; lengths of 1,800 are 127 + 1,673.
        first.push(0x40);
        first.push(name.len() as u8);
        first.extend_from_slice(name.as_bytes());
        first.extend_from_slice(&[0x7f, (1_673 % 128) as u8 | 0x80, (1_673 / 128) as u8]);
        first.extend_from_slice(large.as_bytes());
    }
    conversation.send(&frame(HEADERS, END_STREAM | END_HEADERS, 1, &first));
    let path = format!("/{}", "a".repeat(8_000));
    let more = [block(&head("GET", &path)), vec![0x80 | 62, 0x80 | 63]].concat();
    for at in 1..100 {
        conversation.cx.now += std::time::Duration::from_secs(1);
        conversation.send(&frame(HEADERS, END_STREAM | END_HEADERS, id(at), &more));
    }
    let memory = conversation.machine.stream_memory();
    assert!(memory <= 768 * 1024, "{memory} bytes");
    let refused = Sent::Reset(199, ErrorCode::RefusedStream);
    assert!(conversation.sent.contains(&refused));
}
