//! A session from received bytes to sent bytes: each case at once, byte by byte, and split at every
//! position.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use bytes::Bytes;
use proptest::prelude::*;

use super::sender::{NextJob, Queued};
use super::session::Session;
use super::settings::Settings;
use super::{Close, CloseCode, Message, SendError, WebSocketHandler, WebSocketSender};
use crate::http::upgrade::{AfterAdvance, Turn, UpgradeJob, UpgradedInput, UpgradedProtocol};
use crate::sync::Mutex;

const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;
const FIN: u8 = 0x80;

/// A frame of a client, with `first` as its first byte.
fn client_frame(first: u8, payload: &[u8]) -> Vec<u8> {
    const MASKED: u8 = 0x80;
    const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
    let mut frame = server_frame(first, payload);
    frame[1] |= MASKED;
    let head_len = frame.len() - payload.len();
    frame.truncate(head_len);
    frame.extend_from_slice(&MASK);
    let masked = payload.iter().zip(MASK.iter().cycle());
    frame.extend(masked.map(|(byte, mask)| byte ^ mask));
    frame
}

fn server_frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        len @ 0..126 => frame.push(len as u8),
        len @ 126..65_536 => {
            frame.push(126);
            frame.extend_from_slice(&(len as u16).to_be_bytes());
        }
        len => {
            frame.push(127);
            frame.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(payload);
    frame
}

fn close_payload(code: u16, reason: &[u8]) -> Vec<u8> {
    [&code.to_be_bytes(), reason].concat()
}

/// What the handler of a session was called with.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Call {
    Open,
    Message(Message),
    Close(u16),
}

/// Records its calls, and does what messages ask for.
struct Recorder {
    calls: Arc<Mutex<Vec<Call>>>,
    opened: mpsc::Sender<WebSocketSender>,
}

impl WebSocketHandler for Recorder {
    fn on_open(&mut self, sender: &WebSocketSender) {
        self.calls.lock().push(Call::Open);
        // A test that ignores the sender has dropped the receiver.
        let _ = self.opened.send(sender.clone());
    }

    fn on_message(&mut self, message: Message, sender: &WebSocketSender) {
        match message.as_text() {
            Some("panic") => panic!("on purpose"),
            Some("close") => {
                sender.send("last words").expect("room in the queue");
                sender.close(CloseCode::NORMAL, "bye");
            }
            Some("echo") => sender.send(message.clone()).expect("room in the queue"),
            _ => {}
        }
        self.calls.lock().push(Call::Message(message));
    }

    fn on_close(&mut self, close: Close) {
        self.calls.lock().push(Call::Close(close.code.as_u16()));
    }
}

/// A session, its client and its event loop.
struct Conversation {
    session: Session,
    sender: WebSocketSender,
    calls: Arc<Mutex<Vec<Call>>>,
    wakes: Arc<AtomicUsize>,
    input: Vec<u8>,
    output: Vec<u8>,
    turn: Turn,
}

/// How a turn has ended.
#[derive(Debug)]
enum End {
    Read,
    Write,
    Job(UpgradeJob),
    Wait,
    Finished,
    TimedOut,
    Lost,
}

impl Conversation {
    fn new() -> Self {
        Self::with(Settings::default())
    }

    fn with(settings: Settings) -> Self {
        let calls = Arc::new(Mutex::new(Vec::new()));
        let (opened, sender) = mpsc::channel();
        let handler = Recorder {
            calls: Arc::clone(&calls),
            opened,
        };
        let wakes = Arc::new(AtomicUsize::new(0));
        let mut session = Session::new(Box::new(handler), settings);
        let now = Instant::now();
        let waker = {
            let wakes = Arc::clone(&wakes);
            Arc::new(move || {
                wakes.fetch_add(1, Ordering::Relaxed);
            })
        };
        session.start(waker, now);
        Self {
            session,
            sender: sender.try_recv().expect("the handler is called"),
            calls,
            wakes,
            input: Vec::new(),
            output: Vec::new(),
            turn: Turn {
                now,
                input: UpgradedInput::Drained,
                is_sending: false,
                max_output: usize::MAX,
                is_draining: false,
            },
        }
    }

    fn advance(&mut self) -> End {
        let advance = self
            .session
            .advance(&self.input, &mut self.output, &self.turn);
        self.input.drain(..advance.taken);
        match advance.next {
            AfterAdvance::Read => End::Read,
            AfterAdvance::Write => End::Write,
            AfterAdvance::RunJob(job) => End::Job(job),
            AfterAdvance::Wait => End::Wait,
            AfterAdvance::Finish => End::Finished,
            AfterAdvance::TimeOut => End::TimedOut,
            AfterAdvance::Lost => End::Lost,
        }
    }

    fn receive(&mut self, bytes: &[u8]) -> End {
        self.input.extend_from_slice(bytes);
        self.advance()
    }

    fn after(&mut self, time: Duration) -> End {
        self.turn.now += time;
        self.advance()
    }

    fn calls(&self) -> Vec<Call> {
        self.calls.lock().clone()
    }
}

/// What a client has caused.
#[derive(Debug, PartialEq, Eq)]
struct Effect {
    output: Vec<u8>,
    calls: Vec<Call>,
    is_finished: bool,
}

/// The effect of input that arrives in these parts.
fn effect<'p>(parts: impl IntoIterator<Item = &'p [u8]>) -> Effect {
    let settings = Settings {
        max_message_bytes: 70_000,
        ..Settings::default()
    };
    let mut conversation = Conversation::with(settings);
    let mut is_finished = false;
    for part in parts {
        match conversation.receive(part) {
            End::Read => {}
            End::Finished => {
                is_finished = true;
                break;
            }
            end => panic!("{end:?}"),
        }
    }
    let calls = conversation.calls();
    Effect {
        output: conversation.output,
        calls,
        is_finished,
    }
}

/// The effect of input, however it is split.
fn effect_of_all_splits(input: &[u8]) -> Effect {
    let whole = effect([input]);
    assert_eq!(effect(input.chunks(1)), whole, "byte by byte");
    let positions = (1..input.len()).filter(|at| input.len() < 1000 || at % 997 < 3);
    for at in positions {
        let (first, second) = input.split_at(at);
        assert_eq!(effect([first, second]), whole, "split at {at}");
    }
    whole
}

fn text(text: &str) -> Call {
    Call::Message(text.into())
}

#[test]
fn messages_are_received_however_they_are_fragmented_and_split() {
    let frame = client_frame;
    let euro = "€".as_bytes();
    /// Frames, the messages that the handler gets, and the output.
    type Case = (Vec<Vec<u8>>, Vec<Call>, Vec<u8>);
    let table: &[Case] = &[
        (vec![frame(FIN | TEXT, b"")], vec![text("")], vec![]),
        (
            vec![frame(FIN | TEXT, b"Hello")],
            vec![text("Hello")],
            vec![],
        ),
        (
            vec![frame(TEXT, b"Hel"), frame(FIN | CONTINUATION, b"lo")],
            vec![text("Hello")],
            vec![],
        ),
        // Control frames between fragments.
        (
            vec![
                frame(TEXT, b"a"),
                frame(FIN | PING, b"1"),
                frame(CONTINUATION, b""),
                frame(FIN | PONG, b"unsolicited"),
                frame(FIN | PING, b""),
                frame(FIN | CONTINUATION, b"b"),
                frame(FIN | PING, &[7; 125]),
            ],
            vec![text("ab")],
            [
                server_frame(FIN | PONG, b"1"),
                server_frame(FIN | PONG, b""),
                server_frame(FIN | PONG, &[7; 125]),
            ]
            .concat(),
        ),
        // A character that is split over frames.
        (
            vec![
                frame(TEXT, &euro[..1]),
                frame(CONTINUATION, &euro[1..2]),
                frame(FIN | CONTINUATION, &euro[2..]),
            ],
            vec![text("€")],
            vec![],
        ),
        // Bytes are not checked.
        (
            vec![frame(BINARY, b"\xff"), frame(FIN | CONTINUATION, b"\xfe")],
            vec![Call::Message(Bytes::from_static(b"\xff\xfe").into())],
            vec![],
        ),
        (
            vec![frame(FIN | TEXT, b"echo"), frame(FIN | TEXT, b"echo")],
            vec![text("echo"), text("echo")],
            [
                server_frame(FIN | TEXT, b"echo"),
                server_frame(FIN | TEXT, b"echo"),
            ]
            .concat(),
        ),
    ];
    for (frames, messages, output) in table {
        let effect = effect_of_all_splits(&frames.concat());
        let calls = [vec![Call::Open], messages.clone()].concat();
        assert_eq!(effect.calls, calls);
        assert_eq!(&effect.output, output);
        assert!(!effect.is_finished);
    }
}

#[test]
fn every_form_of_the_length_is_received() {
    for len in [0, 1, 125, 126, 127, 65_535, 65_536, 70_000] {
        let content = pattern(len);
        let effect = effect_of_all_splits(&client_frame(FIN | BINARY, &content));
        assert_eq!(effect.calls, [Call::Open, Call::Message(content.into())]);
    }
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 7 % 251) as u8).collect()
}

#[test]
fn violations_are_answered_with_their_code() {
    const RSV: [u8; 3] = [0x40, 0x20, 0x10];
    let frame = client_frame;
    let (protocol, utf8, size) = (1002, 1007, 1009);
    let announced = |len: u64| [&[FIN | BINARY, 0xff][..], &len.to_be_bytes(), &[0; 4]].concat();
    let mut table: Vec<(Vec<Vec<u8>>, u16)> = vec![
        (vec![server_frame(FIN | TEXT, b"unmasked")], protocol),
        (vec![frame(FIN | CONTINUATION, b"")], protocol),
        (vec![frame(CONTINUATION, b"x")], protocol),
        (vec![frame(TEXT, b"a"), frame(FIN | TEXT, b"b")], protocol),
        (vec![frame(BINARY, b"a"), frame(BINARY, b"b")], protocol),
        (vec![frame(PING, b"")], protocol),
        (vec![frame(PONG, b"")], protocol),
        (vec![frame(CLOSE, b"")], protocol),
        (vec![frame(FIN | PING, &[0; 126])], protocol),
        (
            vec![frame(FIN | CLOSE, &close_payload(1000, &[b'x'; 124]))],
            protocol,
        ),
        (vec![frame(FIN | CLOSE, b"\x03")], protocol),
        (
            vec![frame(FIN | CLOSE, &close_payload(1000, b"\xff"))],
            utf8,
        ),
        (
            vec![frame(FIN | TEXT, b"\xce\xba\xe1\xbd\xb9\xed\xa0\x80")],
            utf8,
        ),
        (vec![frame(FIN | TEXT, b"\xe2\x82")], utf8),
        (
            vec![frame(TEXT, b"\xe2"), frame(FIN | CONTINUATION, b"x")],
            utf8,
        ),
        (
            vec![frame(TEXT, b"\xe2\x82"), frame(FIN | CONTINUATION, b"")],
            utf8,
        ),
        (
            vec![frame(TEXT, b"\xff"), frame(FIN | CONTINUATION, b"x")],
            utf8,
        ),
        (vec![frame(FIN | BINARY, &[0; 70_001])], size),
        (
            vec![frame(BINARY, &[0; 70_000]), frame(FIN | CONTINUATION, b"x")],
            size,
        ),
        (
            vec![
                frame(TEXT, &[b'x'; 40_000]),
                frame(FIN | CONTINUATION, &[b'x'; 40_000]),
            ],
            size,
        ),
        // Announced sizes for which no memory is reserved.
        (vec![announced(u64::MAX >> 1)], size),
        (vec![announced(u64::MAX)], size),
    ];
    for bit in RSV {
        table.push((vec![frame(FIN | bit | TEXT, b"x")], protocol));
        table.push((vec![frame(FIN | bit | PING, b"")], protocol));
    }
    for opcode in (3..8).chain(11..16) {
        table.push((vec![frame(FIN | opcode, b"x")], protocol));
    }
    for code in [
        0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535,
    ] {
        table.push((
            vec![frame(FIN | CLOSE, &close_payload(code, b""))],
            protocol,
        ));
    }
    for (frames, code) in table {
        // What follows a violation is not read.
        let input = [frames.concat(), frame(FIN | TEXT, b"echo")].concat();
        let effect = effect_of_all_splits(&input);
        let context = format!("{:02x?}", &input[..input.len().min(20)]);
        assert!(effect.is_finished, "{context}");
        assert_eq!(effect.output[0], FIN | CLOSE, "{context}");
        assert_eq!(effect.output[2..4], u16::to_be_bytes(code), "{context}");
        assert_eq!(usize::from(effect.output[1]), effect.output.len() - 2);
        assert_eq!(effect.calls, [Call::Open, Call::Close(code)], "{context}");
    }
}

#[test]
fn close_of_the_client_is_answered_with_its_code() {
    let valid = (1000..1004)
        .chain(1007..1012)
        .chain([3000, 3999, 4000, 4999]);
    for code in valid {
        for reason in ["", "gone fishing"] {
            let payload = close_payload(code, reason.as_bytes());
            let effect = effect_of_all_splits(&client_frame(FIN | CLOSE, &payload));
            assert_eq!(effect.output, server_frame(FIN | CLOSE, &payload));
            assert_eq!(effect.calls, [Call::Open, Call::Close(code)]);
            assert!(effect.is_finished);
        }
    }
    let effect = effect_of_all_splits(&client_frame(FIN | CLOSE, b""));
    assert_eq!(effect.output, server_frame(FIN | CLOSE, b""));
    assert_eq!(effect.calls, [Call::Open, Call::Close(1005)]);
}

#[test]
fn close_of_the_server_follows_queued_messages_and_waits_for_the_client() {
    let mut conversation = Conversation::new();
    let end = conversation.receive(&client_frame(FIN | TEXT, b"close"));
    assert!(matches!(end, End::Read));
    assert_eq!(conversation.sender.send("late"), Err(SendError::Closed));
    conversation
        .sender
        .close(CloseCode::POLICY_VIOLATION, "again");
    let close = server_frame(FIN | CLOSE, &close_payload(1000, b"bye"));
    let sent = [server_frame(FIN | TEXT, b"last words"), close].concat();
    assert_eq!(conversation.output, sent);
    // What was in transit is dropped, and a Ping is not answered any more.
    let input = [
        client_frame(FIN | TEXT, b"echo"),
        client_frame(FIN | PING, b""),
    ]
    .concat();
    assert!(matches!(conversation.receive(&input), End::Read));
    assert_eq!(conversation.calls(), [Call::Open, text("close")]);
    let reply = client_frame(FIN | CLOSE, &close_payload(1000, b""));
    assert!(matches!(conversation.receive(&reply), End::Finished));
    assert_eq!(conversation.output, sent);
    assert_eq!(
        conversation.calls(),
        [Call::Open, text("close"), Call::Close(1000)]
    );
    drop(conversation.session);
    assert_eq!(conversation.calls.lock().len(), 3, "told once");
}

#[test]
fn codes_that_are_not_sent_close_without_a_code() {
    for code in [CloseCode::NO_STATUS, CloseCode::ABNORMAL] {
        let mut conversation = Conversation::new();
        conversation.sender.close(code, "unsent");
        assert!(matches!(conversation.advance(), End::Read));
        assert_eq!(conversation.output, server_frame(FIN | CLOSE, b""));
    }
    assert_eq!(CloseCode::application(2999), None);
    assert_eq!(CloseCode::application(5000), None);
    let mut conversation = Conversation::new();
    let code = CloseCode::application(4321).expect("a code of applications");
    // The 123rd byte is in a character.
    conversation.sender.close(code, &"é".repeat(100));
    conversation.advance();
    let reason = "é".repeat(61);
    let expected = close_payload(4321, reason.as_bytes());
    assert_eq!(conversation.output, server_frame(FIN | CLOSE, &expected));
}

#[test]
fn shutdown_closes_at_once_as_going_away() {
    let mut conversation = Conversation::new();
    conversation.turn.is_draining = true;
    assert!(matches!(conversation.advance(), End::Read));
    let close = server_frame(FIN | CLOSE, &close_payload(1001, b""));
    assert_eq!(conversation.output, close);
    conversation.advance();
    assert_eq!(conversation.output, close, "sent once");
    let timeout = Settings::default().close_timeout;
    let deadline = conversation.turn.now + timeout;
    assert_eq!(conversation.session.deadline(), Some(deadline));
    assert!(matches!(conversation.after(timeout), End::TimedOut));
    assert_eq!(conversation.calls(), [Call::Open, Call::Close(1006)]);
}

#[test]
fn silent_client_gets_a_ping_and_is_closed_without_response() {
    let settings = Settings::default();
    let interval = settings.ping_interval.expect("an interval");
    let timeout = settings.pong_timeout;
    let mut conversation = Conversation::new();
    let ping = server_frame(FIN | PING, b"");
    let start = conversation.turn.now;
    assert_eq!(conversation.session.deadline(), Some(start + interval));
    // What has not been read may be a sign of life.
    conversation.turn.input = UpgradedInput::Unread;
    conversation.after(interval);
    assert!(conversation.output.is_empty());
    conversation.turn.input = UpgradedInput::Drained;
    conversation.advance();
    assert_eq!(conversation.output, ping);
    // While the Ping waits for the transport, no time passes.
    conversation.turn.is_sending = true;
    conversation.after(timeout * 2);
    conversation.turn.is_sending = false;
    let deadline = conversation.turn.now + timeout;
    assert_eq!(conversation.session.deadline(), Some(deadline));
    // Any input counts.
    conversation.after(timeout / 2);
    conversation.receive(&client_frame(FIN | PONG, b""));
    let deadline = conversation.turn.now + interval;
    assert_eq!(conversation.session.deadline(), Some(deadline));
    conversation.after(interval);
    assert_eq!(conversation.output, [ping.clone(), ping].concat());
    assert!(matches!(
        conversation.after(timeout - Duration::from_nanos(1)),
        End::Read
    ));
    conversation.turn.input = UpgradedInput::Unread;
    assert!(matches!(conversation.after(timeout), End::Read));
    conversation.turn.input = UpgradedInput::Drained;
    assert!(matches!(conversation.advance(), End::TimedOut));
    assert_eq!(conversation.calls(), [Call::Open, Call::Close(1006)]);
}

#[test]
fn without_an_interval_there_is_no_ping() {
    let settings = Settings {
        ping_interval: None,
        ..Settings::default()
    };
    let mut conversation = Conversation::with(settings);
    assert_eq!(conversation.session.deadline(), None);
    conversation.after(Duration::from_secs(1_000_000));
    assert!(conversation.output.is_empty());
}

#[test]
fn full_output_stops_the_input() {
    let mut conversation = Conversation::new();
    let pong = server_frame(FIN | PONG, b"12345678");
    conversation.turn.max_output = 3 * pong.len();
    conversation.turn.input = UpgradedInput::Unread;
    let pings = client_frame(FIN | PING, b"12345678").repeat(10);
    assert!(matches!(conversation.receive(&pings), End::Write));
    assert_eq!(conversation.output, pong.repeat(3));
    assert_eq!(conversation.input.len(), pings.len() / 10 * 7);
    // Nothing has been sent, then everything.
    conversation.turn.is_sending = true;
    conversation.turn.max_output = 0;
    assert!(matches!(conversation.advance(), End::Write));
    conversation.turn.is_sending = false;
    conversation.turn.max_output = usize::MAX;
    assert!(matches!(conversation.advance(), End::Read));
    assert_eq!(conversation.output, pong.repeat(10));
    // At least one message is sent, whatever the limit.
    conversation.turn.max_output = 0;
    conversation.sender.send("text").expect("room");
    assert!(matches!(conversation.advance(), End::Write));
    assert_eq!(conversation.output.len(), 10 * pong.len() + 6);
}

#[test]
fn queue_is_limited_and_a_large_message_needs_an_empty_one() {
    let settings = Settings {
        max_queued_bytes: 1000,
        ..Settings::default()
    };
    let mut conversation = Conversation::with(settings);
    let send = |conversation: &Conversation, len| conversation.sender.send(vec![0; len]);
    assert_eq!(send(&conversation, 5000), Ok(()));
    assert_eq!(send(&conversation, 0), Err(SendError::QueueFull));
    conversation.advance();
    let accepted = (0..100).filter(|_| send(&conversation, 0).is_ok()).count();
    assert!(
        (2..20).contains(&accepted),
        "empty messages are limited: {accepted}"
    );
    conversation.advance();
    assert_eq!(send(&conversation, 900), Ok(()));
    assert_eq!(send(&conversation, 900), Err(SendError::QueueFull));
    drop(conversation.session);
    assert_eq!(conversation.sender.send("x"), Err(SendError::Closed));
    assert!(conversation.sender.is_closed());
}

#[test]
fn waiting_event_loop_is_woken_once() {
    let mut conversation = Conversation::new();
    let wakes = |conversation: &Conversation| conversation.wakes.load(Ordering::Relaxed);
    // It has not waited yet.
    conversation.sender.send("a").expect("room");
    assert_eq!(wakes(&conversation), 0);
    conversation.advance();
    for text in ["b", "c"] {
        conversation.sender.send(text).expect("room");
        assert_eq!(wakes(&conversation), 1);
    }
    conversation.advance();
    // Messages that a handler sends are seen in the same turn.
    conversation.receive(&client_frame(FIN | TEXT, b"echo"));
    assert_eq!(wakes(&conversation), 1);
    // While output waits for the transport, the loop looks again when some of it was sent.
    conversation.turn.max_output = 1;
    conversation.receive(&client_frame(FIN | TEXT, b"echo"));
    conversation.sender.send("d").expect("room");
    assert_eq!(wakes(&conversation), 1);
    conversation.turn.max_output = usize::MAX;
    conversation.advance();
    conversation.sender.close(CloseCode::NORMAL, "");
    assert_eq!(wakes(&conversation), 2);
    conversation.advance();
    let frames = ["a", "b", "c", "echo", "echo", "d"];
    let frames = frames.map(|text| server_frame(FIN | TEXT, text.as_bytes()));
    let close = server_frame(FIN | CLOSE, &close_payload(1000, b""));
    assert_eq!(conversation.output, [frames.concat(), close].concat());
}

#[test]
fn event_loop_rests_only_without_anything_to_do() {
    let sender = WebSocketSender::new(1000);
    assert!(sender.rest());
    sender.send("text").expect("room");
    assert!(!sender.rest());
    assert!(matches!(sender.next(), Some(Queued::Message(_))));
    assert!(sender.rest());
    sender.run_blocking(|_| ()).expect("room");
    assert!(!sender.rest());
    let job = sender.next_job();
    assert!(matches!(job, NextJob::Start(_)));
    // The end of the job wakes the loop.
    sender.run_blocking(|_| ()).expect("room");
    assert!(sender.rest());
    sender.close(CloseCode::NORMAL, "");
    assert!(!sender.rest());
}

#[test]
fn concurrent_senders_lose_no_message() {
    const SENDERS: usize = 4;
    const EACH: usize = 500;
    let (woken, wakes) = mpsc::channel();
    let (opened, sender) = mpsc::channel();
    let handler = Recorder {
        calls: Arc::default(),
        opened,
    };
    let mut session = Session::new(Box::new(handler), Settings::default());
    session.start(
        Arc::new(move || woken.send(()).expect("an event loop")),
        Instant::now(),
    );
    let sender = sender.try_recv().expect("a sender");
    let threads: Vec<_> = (0..SENDERS)
        .map(|_| {
            let sender = sender.clone();
            std::thread::spawn(move || {
                for _ in 0..EACH {
                    sender.send("").expect("room");
                }
            })
        })
        .collect();
    let turn = Turn {
        now: Instant::now(),
        input: UpgradedInput::Drained,
        is_sending: false,
        max_output: usize::MAX,
        is_draining: false,
    };
    let mut output = Vec::new();
    loop {
        session.advance(&[], &mut output, &turn);
        if output.len() == 2 * SENDERS * EACH {
            break;
        }
        let woken = wakes.recv_timeout(Duration::from_secs(60));
        woken.expect("a wake-up after each message that the turn has not seen");
    }
    for thread in threads {
        thread.join().expect("a sender");
    }
}

#[test]
fn jobs_run_one_at_a_time_while_nothing_is_received() {
    let mut conversation = Conversation::new();
    for text in ["one", "two"] {
        let job = move |sender: &WebSocketSender| sender.send(text).expect("room");
        conversation.sender.run_blocking(job).expect("room");
    }
    conversation.input = client_frame(FIN | TEXT, b"echo");
    let End::Job(job) = conversation.advance() else {
        panic!("a job");
    };
    assert!(matches!(conversation.advance(), End::Wait));
    // A client whose input is not read is not expected to respond.
    assert_eq!(conversation.session.deadline(), None);
    conversation.after(Duration::from_secs(1000));
    // Messages are sent meanwhile.
    conversation.sender.send("zero").expect("room");
    assert!(matches!(conversation.advance(), End::Wait));
    let before = conversation.wakes.load(Ordering::Relaxed);
    job.run();
    assert!(conversation.wakes.load(Ordering::Relaxed) > before);
    let End::Job(job) = conversation.advance() else {
        panic!("a job");
    };
    job.run();
    assert!(matches!(conversation.advance(), End::Read));
    let frames = ["zero", "one", "two", "echo"];
    let frames = frames.map(|text| server_frame(FIN | TEXT, text.as_bytes()));
    assert_eq!(conversation.output, frames.concat());
    let waiting = (0..100).take_while(|_| conversation.sender.run_blocking(|_| ()).is_ok());
    assert_eq!(waiting.count(), 16);
}

#[test]
fn job_that_fails_closes_the_connection() {
    let close_of = |run: fn(UpgradeJob)| {
        let mut conversation = Conversation::new();
        let panics = |_: &WebSocketSender| panic!("on purpose");
        conversation.sender.run_blocking(panics).expect("room");
        let End::Job(job) = conversation.advance() else {
            panic!("a job");
        };
        assert!(matches!(conversation.advance(), End::Wait));
        run(job);
        assert!(conversation.wakes.load(Ordering::Relaxed) > 0);
        assert!(matches!(conversation.advance(), End::Read));
        conversation.output
    };
    let close = |code| server_frame(FIN | CLOSE, &close_payload(code, b""));
    assert_eq!(close_of(UpgradeJob::run), close(1011));
    // There was no thread for it.
    assert_eq!(close_of(drop), close(1013));
}

#[test]
fn panic_of_the_handler_closes_the_connection() {
    let effect = effect_of_all_splits(&client_frame(FIN | TEXT, b"panic"));
    let close = server_frame(FIN | CLOSE, &close_payload(1011, b""));
    assert_eq!(effect.output, close);
    assert_eq!(effect.calls, [Call::Open, Call::Close(1011)]);
    assert!(effect.is_finished);
}

#[test]
fn end_of_the_connection_is_told_once() {
    let mut conversation = Conversation::new();
    conversation.turn.input = UpgradedInput::Ended;
    let end = conversation.receive(&client_frame(FIN | TEXT, b"last"));
    assert!(matches!(end, End::Lost));
    drop(conversation.session);
    let calls = conversation.calls.lock().clone();
    assert_eq!(calls, [Call::Open, text("last"), Call::Close(1006)]);
    // A Close before the end is a regular one.
    let mut conversation = Conversation::new();
    conversation.turn.input = UpgradedInput::Ended;
    let end = conversation.receive(&client_frame(FIN | CLOSE, b""));
    assert!(matches!(end, End::Finished));
    // The connection is dropped while it is open.
    let conversation = Conversation::new();
    drop(conversation.session);
    assert_eq!(*conversation.calls.lock(), [Call::Open, Call::Close(1006)]);
}

/// A part of a message, and whether a Ping follows it.
fn fragments() -> impl Strategy<Value = Vec<(Vec<u8>, bool)>> {
    let fragment = proptest::collection::vec(any::<u8>(), 0..300);
    proptest::collection::vec((fragment, any::<bool>()), 1..5)
}

proptest! {
    /// However messages are fragmented, and however the frames are split across reads.
    #[test]
    fn fragmented_messages_are_received_as_a_whole(
        messages in proptest::collection::vec(fragments(), 0..6),
        cuts in proptest::collection::vec(1_usize..200, 1..40),
    ) {
        let (mut input, mut calls, mut output) = (Vec::new(), vec![Call::Open], Vec::new());
        for message in &messages {
            for (at, (fragment, has_ping)) in message.iter().enumerate() {
                let opcode = if at == 0 { BINARY } else { CONTINUATION };
                let fin = if at + 1 == message.len() { FIN } else { 0 };
                input.extend(client_frame(fin | opcode, fragment));
                if *has_ping {
                    input.extend(client_frame(FIN | PING, &[at as u8]));
                    output.extend(server_frame(FIN | PONG, &[at as u8]));
                }
            }
            let whole = message.iter().flat_map(|(fragment, _)| fragment).copied();
            calls.push(Call::Message(whole.collect::<Vec<u8>>().into()));
        }
        let (mut rest, mut parts) = (&input[..], Vec::new());
        for cut in cuts.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (part, others) = rest.split_at((*cut).min(rest.len()));
            parts.push(part);
            rest = others;
        }
        let effect = effect(parts);
        prop_assert_eq!(effect.calls, calls);
        prop_assert_eq!(effect.output, output);
    }

    /// Nothing that a client sends panics, loops or is answered with anything but valid frames.
    #[test]
    fn arbitrary_input_ends_with_at_most_one_close(
        input in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        let effect = effect_of_all_splits(&input);
        let closes = effect.calls.iter().filter(|call| matches!(call, Call::Close(_)));
        prop_assert_eq!(closes.count(), usize::from(effect.is_finished));
    }
}
