//! How much of bodies is held in memory: of requests that are not complete, and of responses whose client
//! does not take them.

use std::collections::HashMap;
use std::time::Duration;

use ::http::StatusCode;
use bytes::Bytes;

use super::support::*;
use crate::body::BodyStream;
use crate::http::{Body, Response};
use crate::proto::exchange::ExchangeId;

const MIB: usize = 1024 * 1024;

/// As long as the listing of a large folder.
const LISTING: usize = 480_000;

const CHUNK: usize = 64 * 1024;

fn id(at: usize) -> u32 {
    2 * at as u32 + 1
}

/// `/chunks` has as many chunks as its client takes; see [`sized`] for others.
fn chunks(request: &crate::http::Request<'_>) -> Answer {
    if request.path() != "/chunks" {
        return sized(request);
    }
    let produced = BodyStream::produced(|| Ok(Some(Bytes::from(vec![b'P'; CHUNK]))));
    Response::new(StatusCode::OK)
        .with_body(Body::Stream(produced))
        .into()
}

/// Answers the pulls that are out, and those that follow.
fn produce_all(conversation: &mut Conversation) {
    while !conversation.pulls.is_empty() {
        conversation.produce();
    }
}

/// The client sends what the windows permit, and ends no body.
#[test]
fn request_bodies_are_bounded() {
    const LEN: usize = MIB - 1;
    let mut conversation = Conversation::begun();
    let ids: Vec<u32> = (0..100).map(id).collect();
    for id in &ids {
        conversation.send(&post(*id, "/", &[("content-length", "1048576")]));
    }
    let mut windows: HashMap<u32, usize> = ids.iter().map(|id| (*id, 65_535)).collect();
    let mut sent: HashMap<u32, usize> = HashMap::new();
    windows.insert(0, 65_535);
    let mut is_blocked = false;
    while !is_blocked {
        is_blocked = true;
        for id in &ids {
            for frame in std::mem::take(&mut conversation.sent) {
                if let Sent::WindowUpdate(stream, increment) = frame {
                    *windows.entry(stream).or_default() += increment as usize;
                }
            }
            let own = sent.entry(*id).or_default();
            let len = windows[id].min(windows[&0]).min(LEN - *own).min(16_384);
            if len > 0 {
                conversation.send(&data(*id, 0, &vec![b'x'; len]));
                *own += len;
                windows.entry(*id).and_modify(|window| *window -= len);
                windows.entry(0).and_modify(|window| *window -= len);
                is_blocked = false;
            }
        }
    }
    let held = conversation.machine.request_body_memory();
    let sent: usize = sent.values().sum();
    assert!(held >= sent, "{held} of {sent}");
    // As documented with `Limits`, which has more for what is not content.
    let windows = 100 * 64 * 1024;
    let bound = 2 * (4 * MIB + windows + MIB);
    assert!(held <= bound, "{held} of {bound} bytes");
    assert!(sent > 4 * MIB + windows / 2, "{sent} bytes");
    let limits = &conversation.cx.limits;
    assert!(bound < limits.max_memory_per_http2_connection());
    assert!(conversation.machine.stream_memory() <= 100 * 2048);
}

/// The handler answers at once, or its jobs do.
#[test]
fn whole_bodies_that_are_not_taken_are_bounded() {
    for (has_jobs, answers) in [(false, 3 + 4), (true, 2 + 16 + 4)] {
        let mut conversation = sizes(0);
        if has_jobs {
            conversation.handler = |_| Answer::Later;
        }
        let mut most = 0;
        for at in 0..100 {
            conversation.send(&get(id(at), &format!("/bytes/{LISTING}")));
        }
        while let Some(job) = conversation.jobs.first().copied() {
            let body = Body::Bytes(vec![b'B'; LISTING].into());
            conversation.answer(job, Response::new(StatusCode::OK).with_body(body));
            most = most.max(conversation.machine.body_memory());
        }
        most = most.max(conversation.machine.body_memory());
        // Up to the limit, and what was begun below it, and the few that go on.
        assert!(most <= MIB + (16 + 4) * LISTING, "{most} bytes");
        assert_eq!(conversation.machine.open_streams(), 100);
        let heads = conversation.summary().len();
        assert_eq!(heads, answers, "{has_jobs}");
    }
}

#[test]
fn every_request_is_answered_when_the_client_takes_the_bodies() {
    let mut conversation = sizes(0);
    for at in 0..100 {
        conversation.send(&get(id(at), &format!("/bytes/{LISTING}")));
    }
    conversation.send(&window_update(0, 1 << 30));
    conversation.send(&settings(&[(INITIAL_WINDOW_SIZE, 1 << 20)]));
    assert_eq!(conversation.records.len(), 100);
    assert!((0..100).all(|at| has_ended(&conversation, id(at))));
    assert_eq!(conversation.machine.body_memory(), 0);
}

/// The streams that hold the memory are reset, and others have their turns.
#[test]
fn client_that_takes_nothing_is_timed_out() {
    let mut conversation = sizes(0);
    for at in 0..100 {
        conversation.send(&get(id(at), &format!("/bytes/{LISTING}")));
    }
    for _ in 0..30 {
        conversation.wait(Duration::from_secs(6));
        let held = conversation.machine.body_memory();
        assert!(held <= MIB + 5 * LISTING, "{held} bytes");
    }
    assert_eq!(conversation.records.len(), 100);
    assert_eq!(conversation.machine.open_streams(), 0);
}

#[test]
fn small_response_overtakes_bodies_that_are_not_taken() {
    let mut conversation = sizes(10);
    for at in 0..3 {
        conversation.send(&get(id(at), &format!("/bytes/{LISTING}")));
    }
    assert!(conversation.machine.body_memory() > MIB);
    for at in 3..50 {
        conversation.send(&get(id(at), "/bytes/5"));
        assert!(has_ended(&conversation, id(at)), "{at}");
    }
    // Four may be slow.
    for at in 50..60 {
        conversation.send(&get(id(at), "/later"));
    }
    assert_eq!(conversation.jobs.len(), 4);
    conversation.answer(id(50), Response::text("x"));
    assert_eq!(conversation.jobs.len(), 4);
    conversation.send(&window_update(0, 1 << 20));
    conversation.send(&window_update(1, 1 << 20));
    assert_eq!(conversation.jobs.len(), 9, "there is room again");
}

#[test]
fn chunks_that_are_not_taken_are_bounded() {
    let mut conversation = sizes(0);
    conversation.handler = chunks;
    conversation.send(&window_update(0, 1 << 30));
    for at in 0..100 {
        conversation.send(&get(id(at), "/chunks"));
    }
    assert_eq!(conversation.summary().len(), 100);
    for at in 0..100 {
        conversation.send(&window_update(id(at), 1));
        produce_all(&mut conversation);
    }
    let held = conversation.machine.body_memory();
    assert!(held <= MIB + 5 * CHUNK, "{held} bytes");
    assert!(held > MIB - CHUNK, "{held} bytes");
    // A stream whose client takes what is produced goes on.
    for increment in [CHUNK as u32; 20] {
        conversation.send(&window_update(id(99), increment));
        produce_all(&mut conversation);
    }
    assert!(conversation.received(id(99)) >= 19 * CHUNK);
    let held = conversation.machine.body_memory();
    assert!(held <= MIB + 6 * CHUNK, "{held} bytes");
    // All others, too, when it takes them.
    for _ in 0..2 {
        for at in 0..100 {
            conversation.send(&window_update(id(at), 2 * CHUNK as u32));
            produce_all(&mut conversation);
        }
    }
    assert!((0..100).all(|at| conversation.received(id(at)) >= CHUNK));
}

/// A stream that is reset while it waits for room is gone.
#[test]
fn streams_that_are_reset_give_their_memory_back() {
    let mut conversation = sizes(1);
    conversation.handler = chunks;
    conversation.send(&window_update(0, 1 << 30));
    for at in 0..60 {
        conversation.send(&get(id(at), "/chunks"));
        produce_all(&mut conversation);
    }
    for at in 0..60 {
        let code = crate::proto::h2::error_code::ErrorCode::Cancel;
        conversation.send(&reset(id(at), code));
        for cancelled in std::mem::take(&mut conversation.cancelled) {
            conversation.machine.on_cancelled(ExchangeId(cancelled));
        }
        conversation.pulls.clear();
    }
    conversation.run([]);
    assert_eq!(conversation.machine.open_streams(), 0);
    assert_eq!(conversation.machine.body_memory(), 0);
}
