//! Connections that speak another protocol after a 101.

use super::*;
use crate::http::upgrade::{
    Advance, AfterAdvance, Turn, UpgradeWaker, UpgradedInput, UpgradedProtocol,
};

/// Echoes each byte twice. A `.` is the end of the protocol, and a `!` a lost client.
#[derive(Debug)]
struct Doubler;

impl UpgradedProtocol for Doubler {
    fn start(&mut self, _: UpgradeWaker, _: Instant) {}

    fn advance(&mut self, input: &[u8], output: &mut Vec<u8>, turn: &Turn) -> Advance {
        let begin = output.len();
        let mut taken = 0;
        let next = loop {
            if output.len() - begin >= turn.max_output && (turn.is_sending || taken > 0) {
                break AfterAdvance::Write;
            }
            let Some(byte) = input.get(taken) else {
                break match turn.input {
                    UpgradedInput::Ended => AfterAdvance::Lost,
                    UpgradedInput::Unread | UpgradedInput::Drained => AfterAdvance::Read,
                };
            };
            taken += 1;
            match byte {
                b'.' => break AfterAdvance::Finish,
                b'!' => break AfterAdvance::TimeOut,
                byte => output.extend([byte, byte]),
            }
        };
        Advance { taken, next }
    }

    fn deadline(&self) -> Option<Instant> {
        None
    }
}

fn switch(request: &Request<'_>) -> Response {
    match request.path() {
        "/switch" => Response::switching("doubler", Box::new(Doubler)),
        path => Response::text(path),
    }
}

fn conversation(change: impl FnOnce(&mut Config)) -> Conversation {
    Conversation {
        handler: switch,
        ..Conversation::new(context(change))
    }
}

const REQUEST: &str = "GET /switch HTTP/1.1\r\nHost: h\r\n\r\n";

/// The output after the head of the last response.
fn after_head(conversation: &Conversation) -> String {
    let text = String::from_utf8_lossy(&conversation.output);
    let (_, rest) = text.rsplit_once("\r\n\r\n").expect("a head");
    rest.to_owned()
}

#[test]
fn bytes_behind_the_request_belong_to_the_other_protocol_however_they_are_split() {
    let input = format!("GET /1 HTTP/1.1\r\nHost: h\r\n\r\n{REQUEST}GET abc\r\n\r\n.ignored");
    let input = input.as_bytes();
    let run = |reads: &[&[u8]], write_size| {
        let mut conversation = conversation(|_| {});
        conversation.write_size = write_size;
        assert_eq!(
            conversation.run(reads.iter().copied()),
            ConversationEnd::Reading
        );
        let end = conversation.end_input();
        assert_eq!(end, ConversationEnd::Closed(CloseReason::Finished));
        assert!(!conversation.aborted);
        conversation
    };
    let whole = run(&[input], usize::MAX);
    let text = String::from_utf8_lossy(&whole.output);
    let (first, second) = text.split_once("\r\n\r\n/1").expect("a first response");
    assert!(first.starts_with("HTTP/1.1 200 "));
    assert!(
        second.starts_with("HTTP/1.1 101 Switching Protocols\r\n"),
        "{second}"
    );
    assert!(second.contains("\r\nConnection: upgrade\r\nUpgrade: doubler\r\n"));
    let doubled = "GGEETT  aabbcc\r\r\n\n\r\r\n\n";
    assert!(second.ends_with(&format!("\r\n\r\n{doubled}")));
    let record = &whole.records[1];
    assert_eq!(record.status, StatusCode::SWITCHING_PROTOCOLS);
    assert_eq!(record.content_bytes, doubled.len() as u64);
    assert_eq!(record.outcome, Completion::Complete);
    let chunks: Vec<_> = input.chunks(1).collect();
    for write_size in [1, 3, usize::MAX] {
        assert_eq!(run(&chunks, write_size).output, whole.output);
        for at in 1..input.len() {
            let (first, second) = input.split_at(at);
            assert_eq!(run(&[first, second], write_size).output, whole.output);
        }
    }
}

#[test]
fn lost_and_timed_out_connections_are_recorded_as_aborted() {
    for (input, reason) in [
        ("ab!", CloseReason::TimedOut),
        ("ab", CloseReason::Finished),
    ] {
        let mut conversation = conversation(|_| {});
        let (request, rest) = (REQUEST.as_bytes(), input.as_bytes());
        let end = match conversation.run([request, rest]) {
            ConversationEnd::Reading => conversation.end_input(),
            end => end,
        };
        assert_eq!(end, ConversationEnd::Closed(reason));
        assert_eq!(conversation.records.len(), 1);
        assert_eq!(conversation.records[0].outcome, Completion::Aborted);
    }
    // The driver ends the connection.
    let mut conversation = conversation(|_| {});
    conversation.run([REQUEST.as_bytes(), b"abc"]);
    assert_eq!(conversation.machine.timer(), Timer::Upgraded);
    conversation.machine.on_lost(CloseReason::Broken);
    let end = conversation.run([]);
    assert_eq!(end, ConversationEnd::Closed(CloseReason::Broken));
    assert_eq!(conversation.records[0].content_bytes, 6);
}

/// While the transport takes nothing, input is read until the output has reached its limit.
#[test]
fn both_directions_move_independently_until_output_is_full() {
    const BLOCKED: Ready = Ready {
        writable: false,
        ..Ready::ALL
    };
    let mut conversation = conversation(|config| config.limits.max_outbox_bytes = 1000);
    conversation.run([REQUEST.as_bytes()]);
    let mut read = 0;
    let Conversation { machine, cx, .. } = &mut conversation;
    while let Action::Read = machine.next(BLOCKED, cx) {
        machine.read_buf(cx).extend_from_slice(&[b'x'; 100]);
        read += 100;
        assert!(read < 10_000, "the output has no limit");
    }
    assert_eq!(read, 500);
    assert!(matches!(machine.next(BLOCKED, cx), Action::Write));
    assert_eq!(machine.timer(), Timer::Send);
    machine.read_buf(cx).extend_from_slice(&[b'y'; 3000]);
    conversation.write_size = 700;
    assert_eq!(conversation.run([]), ConversationEnd::Reading);
    let expected = "x".repeat(1000) + &"y".repeat(6000);
    assert_eq!(after_head(&conversation), expected);
}

#[test]
fn idle_upgraded_machine_owns_no_buffers() {
    let mut conversation = conversation(|_| {});
    conversation.run([REQUEST.as_bytes(), b"abc"]);
    let Conversation { machine, cx, .. } = &mut conversation;
    machine.release_buffers(cx);
    assert_eq!(cx.buffers.free(), 2);
}

/// The start of the other protocol would be unknown, or the client does not know of it.
#[test]
fn upgrade_of_a_connection_that_closes_is_500() {
    for request in [
        "GET /switch HTTP/1.0\r\n\r\n",
        "GET /switch HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
    ] {
        let mut conversation = conversation(|_| {});
        conversation.run([request.as_bytes()]);
        assert!(conversation.responses()[0].starts_with("500- "));
    }
}
