//! The payload of DATA frames.

use super::header::{
    END_STREAM, FRAME_SIZE_ERROR, FrameError, FrameHeader, PADDED, PROTOCOL_ERROR,
};

/// The payload of a DATA frame (RFC 9113 §6.1), taken in parts as it is received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DataPayload {
    stream: u32,
    flow_len: u32,
    end_stream: bool,
    /// Whether the next byte is the length of the padding.
    is_pad_length_next: bool,
    /// The data that is still to come; with the padding, until its length is known.
    data_left: usize,
    padding_left: usize,
}

/// A part of the payload of a DATA frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DataPart<'a> {
    /// How many bytes of the input belong to the part, the padding included.
    pub(crate) taken: usize,
    pub(crate) data: &'a [u8],
}

impl DataPayload {
    /// Begins with the header of a DATA frame.
    ///
    /// # Errors
    ///
    /// PROTOCOL_ERROR for stream 0, FRAME_SIZE_ERROR without room for the length of the padding.
    pub(crate) fn new(header: FrameHeader) -> Result<Self, FrameError> {
        header.requires_stream()?;
        let is_padded = header.has(PADDED);
        if is_padded && header.len == 0 {
            return Err(FRAME_SIZE_ERROR);
        }
        Ok(Self {
            stream: header.stream,
            flow_len: u32::try_from(header.len).map_err(|_| FRAME_SIZE_ERROR)?,
            end_stream: header.has(END_STREAM),
            is_pad_length_next: is_padded,
            data_left: header.len - usize::from(is_padded),
            padding_left: 0,
        })
    }

    pub(crate) fn stream(&self) -> u32 {
        self.stream
    }

    /// What the whole frame uses of the flow-control windows: its data and its padding.
    pub(crate) fn flow_len(&self) -> u32 {
        self.flow_len
    }

    /// Whether the frame is the last of its stream.
    pub(crate) fn end_stream(&self) -> bool {
        self.end_stream
    }

    pub(crate) fn is_complete(&self) -> bool {
        !self.is_pad_length_next && self.data_left == 0 && self.padding_left == 0
    }

    /// Takes the part of the payload that `input` begins with.
    ///
    /// # Errors
    ///
    /// PROTOCOL_ERROR of the connection if the padding is longer than the payload.
    pub(crate) fn take<'a>(&mut self, input: &'a [u8]) -> Result<DataPart<'a>, FrameError> {
        let mut rest = input;
        if self.is_pad_length_next
            && let [padding, tail @ ..] = rest
        {
            self.is_pad_length_next = false;
            self.padding_left = usize::from(*padding);
            self.data_left = self
                .data_left
                .checked_sub(self.padding_left)
                .ok_or(PROTOCOL_ERROR)?;
            rest = tail;
        }
        let data = split_off(&mut rest, &mut self.data_left);
        if self.data_left == 0 {
            split_off(&mut rest, &mut self.padding_left);
        }
        Ok(DataPart {
            taken: input.len() - rest.len(),
            data,
        })
    }
}

/// Removes at most `left` bytes from the beginning of `rest`.
fn split_off<'a>(rest: &mut &'a [u8], left: &mut usize) -> &'a [u8] {
    let (first, tail) = rest.split_at(rest.len().min(*left));
    *rest = tail;
    *left -= first.len();
    first
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::proto::h2::frame::FrameKind;

    fn header(flags: u8, len: usize) -> FrameHeader {
        FrameHeader::new(FrameKind::Data, flags, 1, len)
    }

    /// Takes a DATA payload in parts of `step` bytes.
    fn take_in_parts(
        header: FrameHeader,
        mut payload: &[u8],
        step: usize,
    ) -> Result<Vec<u8>, FrameError> {
        let mut state = DataPayload::new(header)?;
        let mut data = Vec::new();
        while !state.is_complete() {
            let input = &payload[..payload.len().min(step)];
            assert!(!input.is_empty(), "incomplete at the end of the payload");
            let part = state.take(input)?;
            assert_eq!(part.taken, input.len(), "all of it belongs to the frame");
            data.extend_from_slice(part.data);
            payload = &payload[part.taken..];
        }
        assert!(payload.is_empty(), "complete before the end of the payload");
        Ok(data)
    }

    #[test]
    fn data_payload_leaves_the_next_frame() {
        let mut state = DataPayload::new(header(PADDED, 6)).expect("a valid frame");
        let part = state.take(b"\x02abc..next").expect("valid padding");
        let expected = DataPart {
            taken: 6,
            data: b"abc",
        };
        assert_eq!(part, expected);
        assert!(state.is_complete());
        let nothing = DataPart {
            taken: 0,
            data: b"",
        };
        assert_eq!(state.take(b"next"), Ok(nothing));
    }

    proptest! {
        #[test]
        fn data_does_not_depend_on_how_the_payload_is_split(
            payload in proptest::collection::vec(0u8..20, 0..40),
            flags: u8,
            step in 1..50usize,
        ) {
            let header = header(flags, payload.len());
            prop_assert_eq!(take_in_parts(header, &payload, step), take_in_parts(header, &payload, 40));
        }
    }
}
