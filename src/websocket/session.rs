//! One connection: the protocol that it speaks after the 101, without a socket and without a clock.

use std::fmt;
use std::time::Instant;

use tungstenite::Error;

use super::decoder::Decoder;
use super::handler::WebSocketHandler;
use super::sender::{NextJob, Queued};
use super::settings::Settings;
use super::{Close, CloseCode, Message, WebSocketSender, encoder};
use crate::http::upgrade::{
    Advance, AfterAdvance, Turn, UpgradeWaker, UpgradedInput, UpgradedProtocol,
};
use crate::panics::catch;

/// A WebSocket connection.
pub(super) struct Session {
    handler: Box<dyn WebSocketHandler>,
    sender: WebSocketSender,
    decoder: Decoder,
    settings: Settings,
    phase: Phase,
    /// Whether the client can be expected to respond. It cannot while its input is not read.
    attention: Attention,
}

/// How far the connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The handler was not called yet.
    New,
    /// Messages are sent and received. `quiet_since` is when the last input was received.
    Open { quiet_since: Instant, ping: Ping },
    /// A Close frame was sent at this time, and none was received.
    Closing { since: Instant },
    /// The handler knows of the end. Nothing more is sent or received.
    Closed,
}

/// Whether a Ping was sent since the last input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ping {
    Unsent,
    Sent { at: Instant },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Attention {
    Reading,
    /// A job is running.
    Busy,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut session = f.debug_struct("Session");
        session.field("phase", &self.phase).finish_non_exhaustive()
    }
}

impl Session {
    pub(super) fn new(handler: Box<dyn WebSocketHandler>, settings: Settings) -> Self {
        Self {
            handler,
            sender: WebSocketSender::new(settings.max_queued_bytes),
            decoder: Decoder::new(settings.max_message_bytes),
            settings,
            phase: Phase::New,
            attention: Attention::Reading,
        }
    }

    /// Sends and receives until nothing more can be done. Returns what the connection does next.
    fn run(
        &mut self,
        input: &[u8],
        output: &mut Vec<u8>,
        turn: &Turn,
        taken: &mut usize,
    ) -> AfterAdvance {
        let begin = output.len();
        let is_full = |output: &Vec<u8>| {
            let appended = output.len() - begin;
            appended >= turn.max_output && (appended > 0 || turn.is_sending)
        };
        loop {
            if self.phase == Phase::Closed {
                return AfterAdvance::Finish;
            }
            if is_full(output) {
                return AfterAdvance::Write;
            }
            if let Some(queued) = self.sender.next() {
                self.send(queued, output, turn);
                continue;
            }
            match self.sender.next_job() {
                NextJob::Start(job) => return AfterAdvance::RunJob(job),
                NextJob::Running if self.sender.rest() => return AfterAdvance::Wait,
                NextJob::Running => continue,
                NextJob::None => {}
            }
            if self.receive(&input[*taken..], output, turn, taken) {
                continue;
            }
            match turn.input {
                UpgradedInput::Ended => {
                    self.end(Close::new(CloseCode::ABNORMAL, ""));
                    return AfterAdvance::Lost;
                }
                UpgradedInput::Drained if !self.check_time(output, turn.now) => {
                    self.end(Close::new(CloseCode::ABNORMAL, ""));
                    return AfterAdvance::TimeOut;
                }
                UpgradedInput::Drained | UpgradedInput::Unread => {}
            }
            if self.sender.rest() {
                return AfterAdvance::Read;
            }
        }
    }

    /// Receives one message or control frame. Returns false if the input has none.
    fn receive(
        &mut self,
        input: &[u8],
        output: &mut Vec<u8>,
        turn: &Turn,
        taken: &mut usize,
    ) -> bool {
        let mut replies = Vec::new();
        let (count, result) = self.decoder.decode(input, &mut replies);
        *taken += count;
        if let Phase::Open { quiet_since, ping } = &mut self.phase
            && count > 0
        {
            *quiet_since = turn.now;
            *ping = Ping::Unsent;
        }
        // After its Close an endpoint sends nothing (RFC 6455 §5.5.1).
        if let Phase::Open { .. } = self.phase {
            output.append(&mut replies);
        }
        match result {
            Ok(None) => return false,
            Ok(Some(message)) => self.on_message(message, output),
            Err(error) => {
                let (code, reason) = violation(&error);
                self.fail(Close::new(code, reason), output);
            }
        }
        true
    }

    fn on_message(&mut self, message: tungstenite::Message, output: &mut Vec<u8>) {
        let message = match message {
            tungstenite::Message::Text(text) => Message::from(text.as_str()),
            tungstenite::Message::Binary(bytes) => Message::Binary(bytes),
            tungstenite::Message::Close(frame) => {
                let close = match frame {
                    Some(frame) => {
                        let code = CloseCode::received(frame.code.into());
                        Close::new(code, frame.reason.as_str())
                    }
                    None => Close::new(CloseCode::NO_STATUS, ""),
                };
                self.end(close);
                return;
            }
            tungstenite::Message::Ping(_)
            | tungstenite::Message::Pong(_)
            | tungstenite::Message::Frame(_) => return,
        };
        if let Phase::Open { .. } = self.phase {
            self.call(output, |handler, sender| {
                handler.on_message(message, sender);
            });
        }
    }

    /// Calls the handler. A panic is the end of the connection.
    fn call(
        &mut self,
        output: &mut Vec<u8>,
        call: impl FnOnce(&mut dyn WebSocketHandler, &WebSocketSender),
    ) {
        if catch(|| call(&mut *self.handler, &self.sender)).is_err() {
            log::error!("WebSocket: the handler panicked; connection closed");
            self.fail(Close::new(CloseCode::INTERNAL_ERROR, ""), output);
        }
    }

    fn send(&mut self, queued: Queued, output: &mut Vec<u8>, turn: &Turn) {
        match queued {
            Queued::Message(message) => encoder::push_message(&message, output),
            Queued::Close(close) => {
                encoder::push_close(&close, output);
                self.phase = Phase::Closing { since: turn.now };
            }
        }
    }

    /// Sends a Close frame and reads nothing more ("Fail the WebSocket Connection", RFC 6455 §7.1.7).
    fn fail(&mut self, close: Close, output: &mut Vec<u8>) {
        if let Phase::Open { .. } = self.phase {
            encoder::push_close(&close, output);
        }
        self.end(close);
    }

    /// The connection has ended. The handler is called, once, unless it was not called before.
    fn end(&mut self, close: Close) {
        self.sender.end();
        let before = std::mem::replace(&mut self.phase, Phase::Closed);
        let is_known = matches!(before, Phase::New | Phase::Closed);
        if !is_known && catch(|| self.handler.on_close(close)).is_err() {
            log::error!("WebSocket: the handler panicked when the connection was closed");
        }
    }

    /// Returns until when the client must respond to a Ping or to the Close, if one was sent.
    fn response_due(&self) -> Option<Instant> {
        match self.phase {
            Phase::Open {
                ping: Ping::Sent { at },
                ..
            } => at.checked_add(self.settings.pong_timeout),
            Phase::Closing { since } => since.checked_add(self.settings.close_timeout),
            Phase::Open { .. } | Phase::New | Phase::Closed => None,
        }
    }

    /// Returns when a Ping must be sent, if none was.
    fn ping_due(&self) -> Option<Instant> {
        match self.phase {
            Phase::Open {
                ping: Ping::Unsent,
                quiet_since,
            } => quiet_since.checked_add(self.settings.ping_interval?),
            _ => None,
        }
    }

    /// Everything that has arrived is received. Returns false if the client has not responded in time.
    fn check_time(&mut self, output: &mut Vec<u8>, now: Instant) -> bool {
        let has_passed = |due: Option<Instant>| due.is_some_and(|due| due <= now);
        if has_passed(self.ping_due())
            && let Phase::Open { ping, .. } = &mut self.phase
        {
            *ping = Ping::Sent { at: now };
            encoder::push_ping(output);
        }
        !has_passed(self.response_due())
    }

    /// The client was not able to respond until now: its input was not read, or what it would respond to was
    /// not sent.
    fn restart_waits(&mut self, now: Instant) {
        match &mut self.phase {
            Phase::Open {
                ping: Ping::Sent { at },
                ..
            } => *at = now,
            Phase::Open { quiet_since, .. } => *quiet_since = now,
            Phase::Closing { since } => *since = now,
            Phase::New | Phase::Closed => {}
        }
    }
}

impl UpgradedProtocol for Session {
    fn start(&mut self, waker: UpgradeWaker, now: Instant) {
        self.sender.set_waker(waker);
        self.phase = Phase::Open {
            quiet_since: now,
            ping: Ping::Unsent,
        };
        // A panic leaves the queue as it is, and the next turn sends the Close frame.
        if catch(|| self.handler.on_open(&self.sender)).is_err() {
            log::error!("WebSocket: the handler panicked; connection closed");
            self.sender.close(CloseCode::INTERNAL_ERROR, "");
        }
    }

    fn advance(&mut self, input: &[u8], output: &mut Vec<u8>, turn: &Turn) -> Advance {
        self.sender.begin_turn();
        if turn.is_draining {
            self.sender.close(CloseCode::GOING_AWAY, "");
        }
        if turn.is_sending || self.attention == Attention::Busy {
            self.restart_waits(turn.now);
        }
        let mut taken = 0;
        let next = self.run(input, output, turn, &mut taken);
        self.attention = match next {
            AfterAdvance::RunJob(_) | AfterAdvance::Wait => Attention::Busy,
            _ => Attention::Reading,
        };
        self.decoder.release_buffers();
        Advance { taken, next }
    }

    fn deadline(&self) -> Option<Instant> {
        if self.attention == Attention::Busy {
            return None;
        }
        self.response_due().or_else(|| self.ping_due())
    }
}

/// The connection may be lost at any time.
impl Drop for Session {
    fn drop(&mut self) {
        self.end(Close::new(CloseCode::ABNORMAL, ""));
    }
}

/// How the server closes the connection after input that cannot be decoded.
fn violation(error: &Error) -> (CloseCode, &'static str) {
    match error {
        Error::Utf8(_) => (CloseCode::INVALID_DATA, "not UTF-8"),
        Error::Capacity(_) => (CloseCode::TOO_LARGE, "the message is too large"),
        _ => (CloseCode::PROTOCOL_ERROR, "protocol violation"),
    }
}
