//! Frames to be sent. They are not fragmented and, as those of every server, not masked (RFC 6455 §5.1).

use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

use super::{Close, Message};

/// The maximum length of the reason in a Close frame: a control frame has at most 125 bytes (RFC 6455 §5.5).
const MAX_REASON_BYTES: usize = 123;

/// Appends a message.
pub(super) fn push_message(message: &Message, output: &mut Vec<u8>) {
    let opcode = match message {
        Message::Text(_) => Data::Text,
        Message::Binary(_) => Data::Binary,
    };
    push_frame(OpCode::Data(opcode), message.as_bytes(), output);
}

/// Appends an empty Ping frame.
pub(super) fn push_ping(output: &mut Vec<u8>) {
    push_frame(OpCode::Control(Control::Ping), b"", output);
}

/// Appends a Close frame. A code that must not be sent is omitted, and the reason with it.
pub(super) fn push_close(close: &Close, output: &mut Vec<u8>) {
    let mut payload = Vec::new();
    if close.code.is_sendable() {
        payload.extend_from_slice(&close.code.as_u16().to_be_bytes());
        payload.extend_from_slice(shortened(&close.reason).as_bytes());
    }
    push_frame(OpCode::Control(Control::Close), &payload, output);
}

/// The beginning of a reason that fits into a Close frame.
fn shortened(reason: &str) -> &str {
    let mut end = reason.len().min(MAX_REASON_BYTES);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    &reason[..end]
}

fn push_frame(opcode: OpCode, payload: &[u8], output: &mut Vec<u8>) {
    let header = FrameHeader {
        opcode,
        ..FrameHeader::default()
    };
    let written = header.format(payload.len() as u64, output);
    debug_assert!(written.is_ok(), "a vector takes every byte");
    output.extend_from_slice(payload);
}
