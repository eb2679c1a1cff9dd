//! Received bytes to messages, with the `tungstenite` crate, which reads from memory here.
//!
//! tungstenite gets exactly one frame at a time. So it holds no bytes between two frames and, between two
//! messages, can be dropped with its buffers: an idle connection has none, however large its last message
//! was.

use std::io::{self, Cursor, ErrorKind, Read, Write};

use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::OpCode;
use tungstenite::protocol::{Role, WebSocketConfig, WebSocketContext};
use tungstenite::{Error, Message};

/// The buffer of a connection that is receiving a message.
const READ_BUFFER_BYTES: usize = 4096;

/// Decodes what a client sends, and makes the Pong and Close frames that respond to it.
#[derive(Debug)]
pub(super) struct Decoder {
    max_message_bytes: usize,
    /// `None` between two messages.
    context: Option<Box<WebSocketContext>>,
    /// How many bytes of the current frame are still to come; 0 between two frames.
    frame_left: u64,
    message: MessageState,
}

/// Whether the next frame may continue a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum MessageState {
    Complete,
    Fragmented,
}

impl Decoder {
    pub(super) fn new(max_message_bytes: usize) -> Self {
        Self {
            max_message_bytes,
            context: None,
            frame_left: 0,
            message: MessageState::Complete,
        }
    }

    /// Returns how many bytes were taken from the beginning of `input`, and the message or control frame
    /// that they complete; `None` if more input is needed. Appends to `replies` what must be sent in
    /// response.
    pub(super) fn decode(
        &mut self,
        input: &[u8],
        replies: &mut Vec<u8>,
    ) -> (usize, Result<Option<Message>, Error>) {
        let mut taken = 0;
        let result = loop {
            let (count, result) = self.decode_frame(&input[taken..], replies);
            taken += count;
            match result {
                // A fragment, after which the next may follow.
                Ok(None) if count > 0 && self.frame_left == 0 => {}
                result => break result,
            }
        };
        (taken, result)
    }

    fn decode_frame(
        &mut self,
        input: &[u8],
        replies: &mut Vec<u8>,
    ) -> (usize, Result<Option<Message>, Error>) {
        if self.frame_left == 0 {
            let mut cursor = Cursor::new(input);
            let (header, length) = match FrameHeader::parse(&mut cursor) {
                Ok(Some(header)) => header,
                Ok(None) => return (0, Ok(None)),
                Err(error) => return (0, Err(error)),
            };
            self.frame_left = cursor.position().saturating_add(length);
            if let OpCode::Data(_) = header.opcode {
                self.message = if header.is_final {
                    MessageState::Complete
                } else {
                    MessageState::Fragmented
                };
            }
        }
        let max_message_bytes = self.max_message_bytes;
        let context = self.context.get_or_insert_with(|| {
            let config = WebSocketConfig::default()
                .read_buffer_size(READ_BUFFER_BYTES)
                .write_buffer_size(0)
                .max_frame_size(Some(max_message_bytes))
                .max_message_size(Some(max_message_bytes));
            Box::new(WebSocketContext::new(Role::Server, Some(config)))
        });
        let len = usize::try_from(self.frame_left).unwrap_or(usize::MAX);
        let mut stream = MemoryStream {
            input: &input[..len.min(input.len())],
            taken: 0,
            output: replies,
        };
        let result = match context.read(&mut stream) {
            Ok(message) => match context.flush(&mut stream) {
                // The response to a Close is written.
                Ok(()) | Err(Error::ConnectionClosed) => Ok(Some(message)),
                Err(error) => Err(error),
            },
            Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        };
        self.frame_left -= stream.taken as u64;
        (stream.taken, result)
    }

    /// Frees the buffers, if no frame and no message is incomplete.
    pub(super) fn release_buffers(&mut self) {
        if self.frame_left == 0 && self.message == MessageState::Complete {
            self.context = None;
        }
    }
}

/// Input and output in memory.
struct MemoryStream<'a> {
    input: &'a [u8],
    /// How many bytes of the input were read.
    taken: usize,
    output: &'a mut Vec<u8>,
}

impl Read for MemoryStream<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut rest = &self.input[self.taken..];
        if rest.is_empty() {
            return Err(ErrorKind::WouldBlock.into());
        }
        let count = rest.read(buffer)?;
        self.taken += count;
        Ok(count)
    }
}

impl Write for MemoryStream<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.output.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A binary message whose mask is 0, in frames of these sizes.
    fn message(sizes: &[usize]) -> Vec<u8> {
        let mut frames = Vec::new();
        for (at, size) in sizes.iter().enumerate() {
            let fin = if at + 1 == sizes.len() { 0x80 } else { 0 };
            let opcode = if at == 0 { 2 } else { 0 };
            frames.extend([fin | opcode, 0xff]);
            frames.extend((*size as u64).to_be_bytes());
            frames.resize(frames.len() + 4 + size, 0);
        }
        frames
    }

    #[test]
    fn decoder_owns_buffers_only_within_a_message() {
        let mut decoder = Decoder::new(1 << 20);
        let input = message(&[1000, 100_000]);
        let mut taken = 0;
        // In the first frame, between the frames, and in the second.
        for end in [500, 1014, 1014 + 5, 50_000] {
            let (count, result) = decoder.decode(&input[taken..end], &mut Vec::new());
            assert!(matches!(result, Ok(None)));
            taken += count;
            decoder.release_buffers();
            assert!(decoder.context.is_some(), "{end}");
        }
        let (count, result) = decoder.decode(&input[taken..], &mut Vec::new());
        assert!(matches!(result, Ok(Some(Message::Binary(bytes))) if bytes.len() == 101_000));
        assert_eq!(taken + count, input.len());
        decoder.release_buffers();
        assert!(decoder.context.is_none());
    }
}
