//! Which stream sends next, and which one waits: for its turn, a window, or a job.

use std::time::Duration;

use ::http::StatusCode;

use super::support::*;
use crate::body::BodyStream;
use crate::http::{Body, Response};
use crate::proto::exchange::ExchangeId;
use crate::proto::h2::error_code::ErrorCode;
use crate::proto::transfer::StalledOn;

#[track_caller]
fn assert_ends_with(conversation: &Conversation, last: &str) {
    let summary = conversation.summary();
    assert_eq!(
        summary.last().map(String::as_str),
        Some(last),
        "{summary:?}"
    );
}

/// The promise of the design: what is urgent waits for one portion at most.
#[test]
fn small_response_overtakes_a_download() {
    let mut conversation = sizes(1 << 30);
    conversation.send(&window_update(0, 1 << 30));
    conversation.room = 1_000_000;
    conversation.send(&get(1, "/file/1000000000"));
    assert_eq!(conversation.room, 0);
    let before = conversation.received(1);
    conversation.send(&get(3, "/css/20000"));
    // The client goes on reading.
    let mut more = 0;
    while !has_ended(&conversation, 3) {
        conversation.room = 10_000;
        conversation.run([]);
        more += 10_000;
        assert!(more <= 200_000, "{more} bytes before the small response");
    }
    let between = conversation.received(1) - before;
    assert!(
        between <= 64 * 1024,
        "{between} bytes of the download in between"
    );
}

/// What a client of 1 MB/s waits for before a small response is half of what a fast one waits for.
#[test]
fn little_is_staged_for_a_slow_client() {
    for (millis, most) in [(100, 32 * 1024), (1, 64 * 1024)] {
        let mut conversation = sizes(1 << 30);
        conversation.send(&window_update(0, 1 << 30));
        conversation.room = 0;
        conversation.send(&get(1, "/file/1000000000"));
        let mut left = Vec::new();
        for _ in 0..100 {
            // Blocked, and writable again after this time.
            conversation.cx.now += Duration::from_millis(millis);
            conversation.room = 10_000;
            conversation.run([]);
            left.push(conversation.machine.segment().prefix.len());
        }
        // The first portion was staged before the pace was known.
        let largest = left[10..].iter().max().copied().unwrap_or(0);
        assert!(largest <= most, "{largest} bytes after {millis} ms");
        assert!(largest > most / 2, "{largest} bytes after {millis} ms");
    }
}

/// The kernel of a client receives as much as it has room for, and the client reads little of it.
#[test]
fn very_slow_client_has_little_unread() {
    const BUFFER: usize = 230_000;
    let mut conversation = sizes(1 << 30);
    conversation.peer_buffer = Some(BUFFER);
    conversation.send(&window_update(0, 1 << 30));
    conversation.room = 1;
    conversation.send(&get(1, "/file/1000000000"));
    conversation.cx.now += Duration::from_millis(200);
    conversation.room = BUFFER;
    // What may be sent ahead of it, and what was staged before it was known.
    let mut most = (128 + 16 + 64 + 1) * 1024;
    for _ in 0..20 {
        conversation.run([]);
        assert!(conversation.unread <= most, "{}", conversation.unread);
        most = (128 + 16 + 1) * 1024;
        let (held, queries) = (conversation.received(1), conversation.state_queries);
        conversation.wait(Duration::from_millis(100));
        assert_eq!(conversation.received(1), held);
        assert!(conversation.state_queries > queries);
        // It reads everything.
        conversation.unread = 0;
        conversation.room = BUFFER;
        conversation.wait(Duration::from_millis(10));
        assert!(conversation.received(1) > held);
    }
    conversation.send(&get(3, "/css/20000"));
    assert!(has_ended(&conversation, 3), "a small response is held");
}

#[test]
fn downloads_share_the_connection() {
    let mut conversation = sizes(1 << 30);
    conversation.send(&window_update(0, 1 << 30));
    conversation.room = 0;
    conversation.send(&[get(1, "/file/1000000000"), get(3, "/file/1000000000")].concat());
    for _ in 0..500 {
        conversation.room = 10_000;
        conversation.run([]);
    }
    let (first, second) = (conversation.received(1), conversation.received(3));
    assert!(first.abs_diff(second) <= 32_768, "{first} {second}");
}

#[test]
fn priority_update_changes_the_order() {
    let mut conversation = sizes(1 << 30);
    conversation.send(&window_update(0, 1 << 30));
    conversation.room = 0;
    let update =
        |id: u8, value: &[u8]| frame(PRIORITY_UPDATE, 0, 0, &[&[0, 0, 0, id], value].concat());
    // For a stream that is open, and for one that is not.
    conversation.send(&update(5, b"u=1"));
    conversation.send(&[get(1, "/file/500000"), get(3, "/file/500000")].concat());
    conversation.send(&get(5, "/file/500000"));
    conversation.send(&update(3, b"u=0"));
    let mut ends = Vec::new();
    for _ in 0..2_000 {
        conversation.room = 1_000;
        conversation.run([]);
        for id in [1, 3, 5] {
            if conversation.received(id) == 500_000 && !ends.contains(&id) {
                ends.push(id);
            }
        }
        if ends.len() == 3 {
            break;
        }
    }
    assert_eq!(ends, [3, 5, 1]);
}

#[test]
fn bulk_waits_for_its_turn_and_small_responses_do_not() {
    let mut conversation = sizes(1 << 30);
    conversation.max_bulk_bytes = 0;
    conversation.send(&get(1, "/file/100000"));
    conversation.send(&get(3, "/bytes/1000"));
    assert!(has_ended(&conversation, 3));
    assert_eq!(conversation.received(1), 0);
    conversation.max_bulk_bytes = 100;
    conversation.run([]);
    assert!(conversation.received(1) > 0);
}

#[test]
fn held_stream_is_reset_and_held_connection_is_closed() {
    // One of two streams is held.
    let mut conversation = sizes(10);
    conversation.send(&get(1, "/bytes/100"));
    conversation.send(&get(3, "/later"));
    conversation.wait(Duration::from_secs(4));
    assert_eq!(conversation.summary().len(), 1);
    conversation.wait(Duration::from_secs(2));
    assert_eq!(conversation.summary(), ["1: 200 BBBBBBBBBBRST CANCEL"]);
    assert_eq!(
        conversation.logged(),
        ["GET /bytes/100 HTTP/2.0 200 10 Aborted"]
    );

    // All streams are.
    let mut conversation = sizes(10);
    conversation.send(&[get(1, "/bytes/100"), get(3, "/file/100")].concat());
    conversation.wait(Duration::from_secs(6));
    assert_ends_with(&conversation, "GOAWAY 3 ENHANCE_YOUR_CALM");
    assert_eq!(conversation.records.len(), 2);

    // The window of the connection is used up.
    let mut conversation = sizes(1 << 30);
    conversation.send(&[get(1, "/file/100000"), get(3, "/later")].concat());
    assert_eq!(conversation.received(1), 65_535);
    // At the minimum rate, these would take minutes, of which 30 seconds count.
    conversation.wait(Duration::from_secs(29));
    assert_eq!(conversation.summary().len(), 1);
    conversation.wait(Duration::from_secs(2));
    assert_ends_with(&conversation, "GOAWAY 3 ENHANCE_YOUR_CALM");
}

/// With a small window, a stream is held until the next WINDOW_UPDATE, so for most of the time.
#[test]
fn stream_that_is_held_for_a_moment_is_not_held_too_long() {
    let mut conversation = sizes(1000);
    conversation.send(&[get(1, "/bytes/100000"), get(3, "/file/100000")].concat());
    for _ in 0..60 {
        conversation.send(&window_update(3, 1000));
        conversation.wait(Duration::from_secs(1));
    }
    assert!(conversation.summary()[0].ends_with("RST CANCEL"));
    assert_eq!(conversation.received(3), 61_000);
    // The only stream that is left.
    conversation.wait(Duration::from_secs(31));
    assert_ends_with(&conversation, "GOAWAY 3 ENHANCE_YOUR_CALM");
}

/// What the client takes before its first pause counts, whichever window it leaves closed.
#[test]
fn client_that_pauses_after_a_fast_beginning_has_saved_time() {
    for (window, of_connection) in [(50_000, 1 << 30), (1 << 30, 0)] {
        let mut conversation = sizes(window);
        if of_connection > 0 {
            conversation.send(&window_update(0, of_connection));
        }
        conversation.send(&get(1, "/file/1000000"));
        assert!(conversation.received(1) >= 50_000);
        conversation.wait(Duration::from_secs(29));
        assert_eq!(conversation.summary().len(), 1, "{window}");
        conversation.wait(Duration::from_secs(2));
        assert_ends_with(&conversation, "GOAWAY 1 ENHANCE_YOUR_CALM");
    }
}

/// One byte buys 4 ms.
#[test]
fn window_that_is_opened_byte_by_byte_does_not_hold_a_stream_open() {
    let mut conversation = sizes(1);
    conversation.send(&[get(1, "/bytes/100000"), get(3, "/later")].concat());
    for _ in 0..6 {
        conversation.send(&window_update(1, 1));
        conversation.wait(Duration::from_secs(1));
    }
    assert!(conversation.summary()[0].ends_with("RST CANCEL"));

    let mut conversation = sizes(1);
    conversation.send(&[get(1, "/bytes/100000"), get(3, "/later")].concat());
    for _ in 0..100 {
        conversation.send(&window_update(1, 300));
        conversation.wait(Duration::from_secs(1));
    }
    assert_eq!(conversation.received(1), 30_001);
}

#[test]
fn one_connection_has_sixteen_jobs_at_most() {
    let mut conversation = sizes(65_535);
    for at in 0..20 {
        conversation.send(&get(2 * at + 1, "/later"));
    }
    assert_eq!(conversation.jobs.len(), 16);
    // A producer needs a job, too.
    conversation.send(&get(41, "/bytes/5"));
    assert_eq!(conversation.received(41), 0);
    conversation.answer(1, Response::text("x"));
    assert_eq!(conversation.jobs.len(), 16);
    assert!(conversation.jobs.contains(&33));
    for _ in 0..19 {
        let id = conversation.jobs[0];
        conversation.answer(id, Response::text("x"));
    }
    assert_eq!(conversation.received(41), 5);
    assert_eq!(conversation.records.len(), 21);
}

#[test]
fn end_of_a_request_does_not_end_the_wait_for_the_window_of_its_response() {
    let mut conversation = sizes(3);
    conversation.send(&post(1, "/no-body", &[]));
    conversation.send(&get(3, "/later"));
    assert_eq!(conversation.received(1), 3);
    conversation.send(&data(1, END_STREAM, b"x"));
    conversation.wait(Duration::from_secs(6));
    assert_eq!(conversation.summary(), ["1: 200 notRST CANCEL"]);
}

#[test]
fn time_of_a_bandwidth_limit_is_not_the_fault_of_the_client() {
    let mut conversation = sizes(3);
    conversation.send(&[get(1, "/bytes/100"), get(3, "/later")].concat());
    let throttled = Duration::from_secs(60);
    conversation.cx.now += throttled;
    conversation.machine.exclude_wait(throttled);
    conversation.wait(Duration::from_secs(4));
    assert!(conversation.summary()[0].ends_with('…'));
    conversation.wait(Duration::from_secs(2));
    assert!(conversation.summary()[0].ends_with("RST CANCEL"));
}

#[test]
fn jobs_at_the_pace_of_the_client_leave_some_for_other_requests() {
    let id = |at: u32| 2 * at + 1;
    // Handlers that read bodies.
    let mut conversation = Conversation::begun();
    conversation.handler = |_| Answer::Later;
    for at in 0..20 {
        conversation.send(&post(id(at), "/stream", &[]));
    }
    assert_eq!(conversation.jobs.len(), 12);
    conversation.send(&get(41, "/"));
    assert_eq!(conversation.jobs.len(), 13);
    conversation.answer(1, Response::text("x"));
    assert_eq!(conversation.jobs.len(), 13);
    assert!(conversation.jobs.contains(&id(12)));
    // A client that opens many of them and nothing else gets no more.
    conversation.answer(41, Response::text("x"));
    assert_eq!(conversation.jobs.len(), 12);
    // What has been received is not read at the pace of the client.
    conversation.send(&post(43, "/stream", &[]));
    assert_eq!(conversation.jobs.len(), 12);
    conversation.send(&data(43, END_STREAM, b"all"));
    assert_eq!(conversation.jobs.len(), 13);
    conversation.send(&data(id(19), END_STREAM, b"all"));
    conversation.send(&data(id(5), END_STREAM, b"all"));
    assert_eq!(conversation.jobs.len(), 15);

    // Writers of response bodies.
    let mut conversation = sizes(65_535);
    conversation.handler = |request| match request.path() {
        "/written" => {
            let body = BodyStream::written(|_| Ok(()));
            let response = Response::new(StatusCode::OK);
            response.with_body(Body::Stream(body)).into()
        }
        _ => sized(request),
    };
    for at in 0..20 {
        conversation.send(&get(id(at), "/written"));
    }
    assert_eq!(conversation.pulls.len(), 12);
    conversation.send(&get(41, "/stream/5"));
    assert_eq!(conversation.pulls.len(), 13);
    conversation.send(&reset(1, ErrorCode::Cancel));
    conversation.machine.on_cancelled(ExchangeId(1));
    conversation.run([]);
    assert_eq!(conversation.pulls.len(), 14);
}

#[test]
fn transfer_that_is_held_by_a_window_waits_for_the_client() {
    let stall = |conversation: &Conversation| {
        let mut transfers = conversation.machine.transfers();
        transfers.next().and_then(|(_, progress)| progress.stall)
    };
    // By the window of the stream, and by that of the connection.
    for (window, held) in [(3, 1), (1 << 30, 0)] {
        let mut conversation = sizes(window);
        conversation.send(&get(1, "/file/1000000"));
        assert_eq!(stall(&conversation), Some(StalledOn::Window));
        conversation.room = 0;
        conversation.send(&window_update(held, 100_000));
        assert_eq!(stall(&conversation), None);
    }
}
