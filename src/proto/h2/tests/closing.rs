//! Shutdown, timeouts, the end of the input, memory.

use std::time::Duration;

use super::support::*;
use crate::http::Response;
use crate::proto::context::DrainState;
use crate::proto::exchange::ExchangeId;
use crate::proto::h2::error_code::ErrorCode;
use crate::proto::h2::stream::Stream;
use crate::proto::{CloseReason, Timer};

const LAST: u32 = 0x7FFF_FFFF;

#[test]
fn shutdown_serves_what_the_client_has_sent_before_it_knew() {
    let mut conversation = Conversation::begun();
    conversation.send(&get(1, "/later"));
    conversation.cx.drain_state = DrainState::Draining;
    conversation.run([]);
    let sent = conversation.sent.clone();
    let announced = [Sent::GoAway(LAST, ErrorCode::NoError), Sent::Ping];
    assert!(sent.ends_with(&announced), "{sent:?}");
    // In transit.
    conversation.send(&get(3, "/"));
    conversation.send(&frame(PING, ACK, 0, b"shutdown"));
    // A client that does not stick to it.
    conversation.send(&get(5, "/"));
    let expected = [
        "3: 200 GET / ".to_owned(),
        format!("GOAWAY {LAST} NO_ERROR"),
        "GOAWAY 3 NO_ERROR".to_owned(),
    ];
    assert_eq!(conversation.summary(), expected);
    assert!(!conversation.shut_down);
    conversation.answer(1, Response::text("x"));
    assert!(conversation.shut_down);
    assert_eq!(conversation.end_input(), End::Closed(CloseReason::Drained));
    assert_eq!(conversation.records.len(), 2);
}

#[test]
fn shutdown_does_not_depend_on_the_answer_to_its_ping() {
    let mut conversation = Conversation::begun();
    conversation.cx.drain_state = DrainState::Draining;
    conversation.run([]);
    assert!(!conversation.shut_down);
    conversation.wait(Duration::from_secs(1));
    let expected = [
        format!("GOAWAY {LAST} NO_ERROR"),
        "GOAWAY 0 NO_ERROR".to_owned(),
    ];
    assert_eq!(conversation.summary(), expected);
    assert!(conversation.shut_down);
    assert_eq!(
        conversation.wait(Duration::from_secs(5)),
        End::Closed(CloseReason::TimedOut)
    );
}

#[test]
fn connection_ends_after_its_number_of_requests() {
    let limited = context(|config| config.limits.keep_alive_max = Some(2));
    let mut conversation = Conversation::with(limited);
    conversation.send(&preface());
    conversation.send(&[get(1, "/"), get(3, "/")].concat());
    let is_announced = |conversation: &Conversation| {
        let goaway = Sent::GoAway(LAST, ErrorCode::NoError);
        conversation.sent.contains(&goaway)
    };
    assert!(!is_announced(&conversation));
    conversation.send(&get(5, "/"));
    assert!(is_announced(&conversation));
    // In transit.
    conversation.send(&get(7, "/"));
    conversation.send(&frame(PING, ACK, 0, b"shutdown"));
    let summary = conversation.summary();
    assert_eq!(summary.last().map(|it| &it[..]), Some("GOAWAY 7 NO_ERROR"));
    assert_eq!(conversation.records.len(), 4);
    assert_eq!(conversation.end_input(), End::Closed(CloseReason::Finished));
}

#[test]
fn frames_of_streams_beyond_the_shutdown_are_ignored() {
    let mut conversation = Conversation::begun();
    conversation.send(&get(1, "/later"));
    conversation.cx.drain_state = DrainState::Draining;
    conversation.send(&frame(PING, ACK, 0, b"shutdown"));
    let before = conversation.summary();
    for frame in [
        post(3, "/", &[]),
        data(3, 0, b"abc"),
        window_update(3, 1),
        headers(3, END_STREAM, &[("x", "y")]),
    ] {
        conversation.send(&frame);
    }
    assert_eq!(conversation.summary(), before);
    assert!(conversation.records.is_empty());
}

#[test]
fn idle_connection_is_closed_after_keep_alive_and_before_only_with_goaway() {
    let mut conversation = Conversation::begun();
    conversation.send(&get(1, "/"));
    assert_eq!(conversation.machine.timer(), Timer::KeepAlive);
    conversation.wait(Duration::from_secs(59));
    // PING does not keep it open.
    conversation.send(&frame(PING, 0, 0, &[0; 8]));
    assert!(!conversation.shut_down);
    conversation.wait(Duration::from_secs(1));
    assert!(conversation.shut_down);
    let summary = conversation.summary();
    assert_eq!(summary[1..], ["PING", "GOAWAY 1 NO_ERROR"]);

    let mut conversation = Conversation::begun();
    conversation.send(&get(1, "/"));
    conversation.machine.evict();
    assert_eq!(conversation.run([]), End::Closed(CloseReason::Evicted));
    assert_eq!(conversation.summary()[1..], ["GOAWAY 1 NO_ERROR"]);

    // There is no time to wait for a client that takes nothing.
    let mut conversation = Conversation::begun();
    conversation.writable = false;
    conversation.machine.evict();
    assert_eq!(conversation.run([]), End::Closed(CloseReason::Evicted));
}

#[test]
fn connection_that_does_not_begin_is_closed() {
    for input in [&b""[..], &preface()[..10], &preface()[..24]] {
        let mut conversation = Conversation::new();
        conversation.send(input);
        conversation.wait(Duration::from_secs(9));
        assert!(!conversation.shut_down);
        conversation.wait(Duration::from_secs(1));
        assert!(conversation.shut_down, "{input:?}");
    }
}

#[test]
fn settings_must_be_acknowledged() {
    let mut conversation = Conversation::new();
    let without_ack = preface().len() - 9;
    conversation.send(&preface()[..without_ack]);
    conversation.send(&get(1, "/later"));
    conversation.wait(Duration::from_secs(9));
    assert_eq!(conversation.summary(), [""; 0]);
    conversation.wait(Duration::from_secs(2));
    assert_eq!(conversation.summary(), ["GOAWAY 1 SETTINGS_TIMEOUT"]);
    let mut conversation = Conversation::begun();
    conversation.send(&get(1, "/later"));
    conversation.wait(Duration::from_secs(600));
    assert_eq!(conversation.summary(), [""; 0]);
}

#[test]
fn field_block_must_be_completed_in_time() {
    let mut conversation = Conversation::begun();
    conversation.send(&get(1, "/later"));
    conversation.send(&frame(HEADERS, END_STREAM, 3, &block(&head("GET", "/"))));
    conversation.wait(Duration::from_secs(9));
    assert_eq!(conversation.summary(), [""; 0]);
    conversation.wait(Duration::from_secs(1));
    assert_eq!(conversation.summary(), ["GOAWAY 1 ENHANCE_YOUR_CALM"]);
}

#[test]
fn end_of_input_ends_incomplete_requests_and_answers_complete_ones() {
    let mut conversation = Conversation::begun();
    conversation.send(&get(1, "/later"));
    conversation.send(&post(3, "/", &[]));
    assert_eq!(conversation.end_input(), End::Waiting);
    assert_eq!(conversation.machine.timer(), Timer::HalfClosed);
    assert_eq!(conversation.logged(), ["POST / HTTP/2.0 499 0 Aborted"]);
    conversation.jobs.clear();
    let id = ExchangeId(1);
    conversation
        .machine
        .on_response(id, Response::text("x"), &mut conversation.cx);
    assert_eq!(conversation.run([]), End::Closed(CloseReason::PeerLeft));
    assert_eq!(conversation.summary(), ["1: 200 x"]);
}

#[test]
fn lost_connection_records_its_exchanges() {
    let mut conversation = Conversation::begun();
    conversation.send(&get(1, "/later"));
    conversation.send(&post(3, "/", &[]));
    conversation.machine.on_lost(CloseReason::Broken);
    assert_eq!(conversation.run([]), End::Closed(CloseReason::Broken));
    let expected = [
        "GET /later HTTP/2.0 499 0 Aborted",
        "POST / HTTP/2.0 499 0 Aborted",
    ];
    assert_eq!(conversation.logged(), expected);
}

#[test]
fn answers_for_exchanges_that_are_gone_are_dropped() {
    let mut conversation = Conversation::begun();
    conversation.send(&get(1, "/"));
    let id = ExchangeId(1);
    assert!(!conversation.machine.is_open(id));
    let cx = &mut conversation.cx;
    conversation
        .machine
        .on_response(id, Response::text("x"), cx);
    conversation.machine.on_body_chunk(id, Ok(None), cx);
    conversation
        .machine
        .on_probed(id, Err(std::io::ErrorKind::Other.into()), cx);
    conversation.run([]);
    assert_eq!(conversation.summary(), ["1: 200 GET / "]);
}

#[test]
fn idle_connection_is_small_and_owns_no_buffers() {
    assert!(size_of::<Stream>() <= 168, "{}", size_of::<Stream>());
    let mut conversation = Conversation::begun();
    let free = conversation.cx.buffers.free();
    for id in 0..50 {
        conversation.send(&get(2 * id + 1, "/"));
    }
    // One buffer for input and one for output, which are in the pool.
    assert!(free >= 2);
    assert_eq!(conversation.cx.buffers.free(), free.max(3));
    let memory = conversation.machine.idle_memory();
    // With the slot of the connection, 1.5 KiB.
    assert!(memory <= 1536 - 232, "{memory} bytes");
}
