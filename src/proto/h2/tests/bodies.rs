//! Request bodies: admission, buffering, streams, windows.

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::support::*;
use crate::http::Response;
use crate::proto::h2::error_code::ErrorCode;
use crate::proto::h2::flow::{DEFAULT_WINDOW_BYTES, MAX_STREAM_WINDOW_BYTES};

/// The increments of the windows of a stream, or of the connection after the first.
fn granted(conversation: &Conversation, id: u32) -> u32 {
    conversation
        .sent
        .iter()
        .map(|sent| match sent {
            Sent::WindowUpdate(stream, increment) if *stream == id => *increment,
            _ => 0,
        })
        .sum()
}

#[test]
fn admission_limits_or_rejects_body() {
    let large = [("content-length", "4")];
    let huge = [("content-length", "1048577")];
    let expect = [("content-length", "4"), ("expect", "100-continue")];
    let too_large = "1: 413 413 Payload Too Large: request body too large\n";
    let table: &[(Vec<Vec<u8>>, String)] = &[
        (
            vec![post(1, "/no-body", &[]), data(1, END_STREAM, b"abc")],
            "1: 200 not wanted".to_owned(),
        ),
        (
            vec![post(1, "/little", &[]), data(1, END_STREAM, b"abc")],
            "1: 200 POST /little abc".to_owned(),
        ),
        (vec![post(1, "/little", &large)], too_large.to_owned()),
        (vec![post(1, "/little", &expect)], too_large.to_owned()),
        (
            vec![post(1, "/little", &[]), data(1, 0, b"abcd")],
            too_large.to_owned(),
        ),
        // More than the window: it would not end soon.
        (
            vec![post(1, "/", &huge)],
            format!("{too_large}RST NO_ERROR"),
        ),
    ];
    for (frames, expected) in table {
        assert_eq!(in_steps(frames), [&expected[..]], "{frames:?}");
    }
}

#[test]
fn client_that_expects_100_continue_gets_it_unless_body_came() {
    let expect = [("content-length", "2"), ("expect", "100-continue")];
    let head = post(1, "/", &expect);
    let mut waits = Conversation::begun();
    waits.send(&head);
    assert_eq!(waits.summary(), ["1: 100 …"]);
    waits.send(&data(1, END_STREAM, b"hi"));
    assert_eq!(waits.summary(), ["1: 100 200 POST / hi"]);

    let mut at_once = Conversation::begun();
    at_once.send(&[head, data(1, END_STREAM, b"hi")].concat());
    assert_eq!(at_once.summary(), ["1: 200 POST / hi"]);

    let mut streamed = Conversation::begun();
    streamed.handler = |_| Answer::Later;
    streamed.send(&post(1, "/stream", &[("expect", "100-continue")]));
    assert_eq!(streamed.summary(), ["1: 100 …"]);
}

#[test]
fn large_body_is_received_whatever_its_frames_are() {
    let body: Vec<u8> = (0..200_000u32).map(|at| b'a' + (at % 26) as u8).collect();
    for size in [1000, 16_384] {
        let mut conversation = Conversation::begun();
        conversation.handler = |request| {
            let content = request.content();
            let sum: usize = content.iter().map(|byte| usize::from(*byte)).sum();
            Response::text(format!("{} {sum}", content.len())).into()
        };
        conversation.send(&post(1, "/", &[]));
        let mut window = DEFAULT_WINDOW_BYTES as usize;
        let mut seen = 0;
        for chunk in body.chunks(size) {
            assert!(window >= chunk.len(), "the body is held up");
            window -= chunk.len();
            conversation.send(&data(1, 0, chunk));
            let total = granted(&conversation, 1) as usize;
            window += total - seen;
            seen = total;
        }
        conversation.send(&data(1, END_STREAM, b""));
        let sum: usize = body.iter().map(|byte| usize::from(*byte)).sum();
        assert_eq!(conversation.summary(), [format!("1: 200 200000 {sum}")]);
    }
}

#[test]
fn more_than_the_window_is_an_error_of_the_stream_or_of_the_connection() {
    let mut conversation = Conversation::begun();
    conversation.handler = |_| Answer::Later;
    conversation.send(&post(1, "/stream", &[]));
    let frame = data(1, 0, &[b'x'; 16_384]);
    for _ in 0..3 {
        conversation.send(&frame);
    }
    // Nothing is read, and 16,383 bytes are left of the window.
    conversation.send(&data(1, 0, &[b'x'; 16_383]));
    assert_eq!(conversation.summary(), [""; 0]);
    conversation.send(&data(1, 0, b"x"));
    assert_eq!(conversation.summary(), ["1: RST FLOW_CONTROL_ERROR"]);
    assert_eq!(conversation.cancelled, [1]);
}

#[test]
fn padding_is_granted_again() {
    let mut conversation = Conversation::begun();
    conversation.send(&post(1, "/", &[]));
    let padded = [&[255][..], &[0; 255]].concat();
    for _ in 0..9 {
        conversation.send(&data(1, PADDED, &padded));
        conversation.send(&data(1, 0, b"x"));
    }
    let mut left = DEFAULT_WINDOW_BYTES - 9 * 257 + granted(&conversation, 1);
    while left > 0 {
        let len = left.min(16_384);
        conversation.send(&data(1, 0, &vec![b'x'; len as usize]));
        left -= len;
    }
    assert!(granted(&conversation, 1) >= DEFAULT_WINDOW_BYTES / 2);
    assert!(
        !conversation
            .summary()
            .iter()
            .any(|it| it.contains("GOAWAY"))
    );
}

#[test]
fn streamed_body_reaches_its_reader_and_then_the_response_is_sent() {
    let mut conversation = Conversation::begun();
    conversation.handler = |_| Answer::Later;
    conversation.send(&post(1, "/stream", &[]));
    assert_eq!(conversation.jobs, [1]);
    conversation.send(&data(1, 0, b"abc"));
    conversation.send(&data(1, END_STREAM, b"def"));
    let mut body = String::new();
    let mut reader = conversation.writers.remove(&1).expect("a reader");
    reader.read_to_string(&mut body).expect("a body");
    assert_eq!(body, "abcdef");
    conversation.answer(1, Response::text("read"));
    assert_eq!(conversation.summary(), ["1: 200 read"]);
    assert_eq!(conversation.records.len(), 1);
}

#[test]
fn streamed_body_that_came_before_its_job_is_passed_on() {
    let mut conversation = Conversation::begun();
    conversation.handler = |_| Answer::Later;
    // All jobs are out.
    for id in 0..16 {
        conversation.send(&get(2 * id + 1, "/later"));
    }
    conversation.send(&post(33, "/stream", &[]));
    conversation.send(&data(33, 0, b"abc"));
    conversation.send(&data(33, END_STREAM, b"def"));
    assert_eq!(conversation.jobs.len(), 16);
    conversation.answer(1, Response::text("x"));
    assert!(conversation.jobs.contains(&33));
    let mut body = String::new();
    let mut reader = conversation.writers.remove(&33).expect("a reader");
    reader.read_to_string(&mut body).expect("a body");
    assert_eq!(body, "abcdef");
}

#[test]
fn wait_for_a_job_is_not_the_fault_of_the_client() {
    let mut conversation = Conversation::begun();
    conversation.handler = |_| Answer::Later;
    for id in 0..16 {
        conversation.send(&get(2 * id + 1, "/later"));
    }
    conversation.send(&post(33, "/stream", &[]));
    // The whole window, and no more may be sent.
    for size in [16_384, 16_384, 16_384, 16_383] {
        conversation.send(&data(33, 0, &vec![b'x'; size]));
    }
    conversation.wait(Duration::from_secs(3600));
    assert_eq!(conversation.summary(), [""; 0]);
    conversation.answer(1, Response::text("x"));
    assert!(conversation.jobs.contains(&33));
    // From now on the client has to send.
    let mut reader = conversation.writers.remove(&33).expect("a reader");
    let whole = reader.read_exact(&mut vec![0; 65_535]);
    whole.expect("the beginning of a body");
    conversation.run([]);
    conversation.wait(Duration::from_secs(3600));
    conversation.answer(33, Response::text("x"));
    let summary = conversation.summary();
    assert!(summary[1].starts_with("33: 408 "), "{summary:?}");
}

#[test]
fn body_that_fails_while_it_is_streamed_is_rejected_when_the_handler_has_answered() {
    let mut conversation = Conversation::begun();
    conversation.handler = |_| Answer::Later;
    conversation.admission = |_| Admitted::Streamed(4);
    conversation.send(&post(1, "/stream", &[]));
    conversation.send(&data(1, 0, b"abcde"));
    assert_eq!(conversation.summary(), [""; 0]);
    let mut reader = conversation.writers.remove(&1).expect("a reader");
    assert!(reader.read_to_end(&mut Vec::new()).is_err());
    conversation.answer(1, Response::text("unaware"));
    let summary = conversation.summary();
    assert!(summary[0].starts_with("1: 413 "), "{summary:?}");
}

#[test]
fn early_answer_ends_the_body() {
    let mut conversation = Conversation::begun();
    conversation.handler = |_| Answer::Later;
    conversation.send(&post(1, "/stream", &[]));
    conversation.send(&data(1, 0, b"abc"));
    conversation.answer(1, Response::text("enough"));
    assert_eq!(conversation.summary(), ["1: 200 enough"]);
    let mut reader = conversation.writers.remove(&1).expect("a reader");
    assert!(reader.read_to_end(&mut Vec::new()).is_err());
    // What is in transit is discarded.
    conversation.send(&data(1, 0, b"more"));
    conversation.send(&data(1, END_STREAM, b"more"));
    assert_eq!(conversation.machine.open_streams(), 0);
    conversation.send(&get(3, "/"));
    assert_eq!(conversation.summary(), ["1: 200 enough"]);
    assert_eq!(conversation.jobs, [3]);
    assert_eq!(conversation.records.len(), 1);
}

#[test]
fn client_that_goes_on_after_an_early_answer_is_asked_to_stop() {
    let rst = ["1: 200 not wantedRST NO_ERROR"];
    // It sends too much.
    let mut conversation = Conversation::begun();
    conversation.send(&post(1, "/no-body", &[]));
    conversation.send(&data(1, 0, &[b'x'; 16_384]));
    conversation.send(&data(1, 0, &[b'x'; 16_000]));
    assert_eq!(conversation.summary(), ["1: 200 not wanted"]);
    conversation.send(&data(1, 0, &[b'x'; 16_000]));
    assert_eq!(conversation.summary(), rst);
    // What is in transit then is ignored.
    conversation.send(&data(1, 0, &[b'x'; 16_000]));
    conversation.send(&data(1, END_STREAM, b""));
    assert_eq!(conversation.summary(), rst);
    assert_eq!(conversation.machine.open_streams(), 0);

    // It does not know yet, as the response is not taken.
    let mut conversation = Conversation::begun();
    conversation.writable = false;
    conversation.send(&post(1, "/no-body", &[("content-length", "99999")]));
    conversation.writable = true;
    conversation.room = 10;
    conversation.run([]);
    conversation.send(&data(1, 0, b"x"));
    conversation.room = usize::MAX;
    conversation.run([]);
    assert_eq!(conversation.summary(), rst);
    assert_eq!(conversation.records[0].status, 200);

    // It takes too long.
    let mut conversation = Conversation::begun();
    conversation.send(&post(1, "/no-body", &[]));
    conversation.wait(Duration::from_secs(4));
    assert_eq!(conversation.summary(), ["1: 200 not wanted"]);
    conversation.wait(Duration::from_secs(1));
    assert_eq!(conversation.summary(), rst);
    assert_eq!(conversation.machine.open_streams(), 0);
    assert_eq!(conversation.records.len(), 1);
}

#[test]
fn request_is_checked_to_its_end_although_it_is_answered() {
    let length = [("content-length", "2")];
    let table: &[(Vec<u8>, &str)] = &[
        (data(1, 0, b"abc"), "RST PROTOCOL_ERROR"),
        (data(1, END_STREAM, b"a"), "RST PROTOCOL_ERROR"),
        (headers(1, 0, &[("x", "y")]), "RST PROTOCOL_ERROR"),
        (
            headers(1, END_STREAM, &[(":path", "/")]),
            "RST PROTOCOL_ERROR",
        ),
        (window_update(1, 0x7FFF_FFFF), "RST FLOW_CONTROL_ERROR"),
        (data(1, END_STREAM, b"ab"), ""),
        (reset(1, ErrorCode::Cancel), ""),
    ];
    for (frame, expected) in table {
        let frames = [post(1, "/no-body", &length), frame.clone()];
        assert_eq!(in_steps(&frames), [format!("1: 200 not wanted{expected}")]);
    }
}

#[test]
fn reset_while_a_body_is_received_ends_it() {
    let mut conversation = Conversation::begun();
    conversation.handler = |_| Answer::Later;
    conversation.send(&post(1, "/stream", &[]));
    conversation.send(&post(3, "/", &[]));
    conversation.send(&reset(1, ErrorCode::Cancel));
    conversation.send(&reset(3, ErrorCode::Cancel));
    let mut reader = conversation.writers.remove(&1).expect("a reader");
    assert!(reader.read_to_end(&mut Vec::new()).is_err());
    assert_eq!(conversation.cancelled, [1]);
    assert_eq!(conversation.machine.open_streams(), 1);
    conversation.answer(1, Response::text("too late"));
    assert_eq!(conversation.machine.open_streams(), 0);
    assert_eq!(conversation.summary(), [""; 0]);
    let expected = [
        "POST /stream HTTP/2.0 499 0 Aborted",
        "POST / HTTP/2.0 499 0 Aborted",
    ];
    assert_eq!(conversation.logged(), expected);
}

/// At 50 ms per round trip, a window of 64 KiB would be 1.3 MB/s.
#[test]
fn window_of_an_upload_grows_when_its_reader_keeps_up() {
    let mut conversation = Conversation::begun();
    conversation.handler = |_| Answer::Later;
    conversation.send(&post(1, "/stream", &[]));
    let mut reader = conversation.writers.remove(&1).expect("a reader");
    let mut windows = [DEFAULT_WINDOW_BYTES, 1024 * 1024];
    let mut seen = [granted(&conversation, 1), granted(&conversation, 0)];
    let mut sent = 0;
    for _ in 0..40 {
        conversation.cx.now += Duration::from_millis(50);
        let mut burst = windows[0].min(windows[1]);
        sent += burst as usize;
        windows = windows.map(|window| window - burst);
        while burst > 0 {
            let len = burst.min(16_384);
            conversation.send(&data(1, 0, &vec![b'x'; len as usize]));
            let mut read = vec![0; len as usize];
            reader.read_exact(&mut read).expect("bytes");
            burst -= len;
        }
        conversation.run([]);
        let total = [granted(&conversation, 1), granted(&conversation, 0)];
        for at in 0..2 {
            windows[at] += total[at] - seen[at];
        }
        seen = total;
        assert!(windows[0] <= MAX_STREAM_WINDOW_BYTES);
    }
    assert!(sent > 20_000_000, "{sent} bytes in 2 s");
}

/// Receives 16 KiB of each of these streams, again and again, and has them read.
fn receive(conversation: &mut Conversation, ids: &[u32]) {
    for _ in 0..200 {
        for id in ids {
            conversation.cx.now += Duration::from_micros(10);
            conversation.send(&data(*id, 0, &[b'x'; 16_384]));
            let reader = conversation.writers.get_mut(id).expect("a reader");
            reader.read_exact(&mut [0; 16_384]).expect("bytes");
            conversation.run([]);
        }
    }
}

/// What a client may send on a stream after 200 frames of 16 KiB.
fn window(conversation: &Conversation, id: u32) -> usize {
    (DEFAULT_WINDOW_BYTES + granted(conversation, id)) as usize - 200 * 16_384
}

#[test]
fn windows_of_a_connection_grow_up_to_its_limit_and_that_of_its_event_loop() {
    const MIB: usize = 1024 * 1024;
    let ids: Vec<u32> = (0..8).map(|at| 2 * at + 1).collect();
    let upload = |others: usize| {
        let mut conversation = Conversation::begun();
        conversation.handler = |_| Answer::Later;
        for id in &ids {
            conversation.send(&post(*id, "/stream", &[]));
        }
        let total = Arc::clone(&conversation.cx.receive_windows);
        total.fetch_add(others, Ordering::Relaxed);
        receive(&mut conversation, &ids);
        let windows = ids.iter().map(|id| window(&conversation, *id));
        let sum: usize = windows.sum();
        let counted = total.load(Ordering::Relaxed) - others;
        assert!(sum <= counted, "{sum} of {counted}");
        for id in &ids {
            conversation.send(&data(*id, END_STREAM, b""));
        }
        assert_eq!(total.load(Ordering::Relaxed), others);
        counted
    };
    // Other connections have nothing, almost everything, everything.
    assert_eq!(upload(0), 4 * MIB);
    let few = 64 * MIB - 8 * DEFAULT_WINDOW_BYTES as usize - 100_000;
    assert_eq!(upload(few), 64 * MIB - few);
    assert_eq!(upload(64 * MIB), 8 * DEFAULT_WINDOW_BYTES as usize);
}

#[test]
fn slow_body_times_out_and_fast_one_does_not() {
    let mut slow = Conversation::begun();
    slow.send(&post(1, "/", &[]));
    // Less than 240 bytes per second.
    for _ in 0..6 {
        slow.send(&data(1, 0, b"x"));
        slow.wait(Duration::from_secs(1));
    }
    let summary = slow.summary();
    assert!(summary[0].starts_with("1: 408 "), "{summary:?}");
    slow.send(&get(3, "/"));
    assert_eq!(slow.summary()[1], "3: 200 GET / ");

    let mut fast = Conversation::begun();
    fast.send(&post(1, "/", &[]));
    for _ in 0..100 {
        fast.send(&data(1, 0, &[b'x'; 300]));
        fast.wait(Duration::from_secs(1));
    }
    fast.send(&data(1, END_STREAM, b""));
    assert_eq!(fast.records[0].status, 200);
}

/// The reader of the body is slow, which is not the client's fault.
#[test]
fn client_is_not_timed_out_while_the_pipe_is_full() {
    let mut conversation = Conversation::begun();
    conversation.handler = |_| Answer::Later;
    conversation.send(&post(1, "/stream", &[]));
    for _ in 0..3 {
        conversation.send(&data(1, 0, &[b'x'; 16_384]));
    }
    conversation.wait(Duration::from_secs(600));
    assert_eq!(conversation.summary(), [""; 0]);
}
