//! Parsing of whole frames (RFC 9113 §6, RFC 9218 §7.1).

use super::data::DataPayload;
use super::header::{
    ACK, END_HEADERS, END_STREAM, FRAME_SIZE_ERROR, FrameError, FrameHeader, FrameKind, PADDED,
    PRIORITY, PROTOCOL_ERROR, RESERVED_BIT,
};
use crate::proto::h2::error_code::ErrorCode;

/// A frame of a client. Flags that its type does not define are ignored (RFC 9113 §4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Frame<'a> {
    Data {
        stream: u32,
        data: &'a [u8],
        /// What the frame uses of the flow-control windows: its data and its padding (§6.1).
        flow_len: u32,
        end_stream: bool,
    },
    Headers {
        stream: u32,
        fragment: &'a [u8],
        end_stream: bool,
        end_headers: bool,
        /// Whether the deprecated priority names the stream itself as its parent (§5.3.2).
        depends_on_itself: bool,
    },
    /// Deprecated (§5.3.2).
    Priority {
        stream: u32,
        depends_on_itself: bool,
    },
    Reset {
        stream: u32,
        /// Any number, as unknown codes are not errors (§7).
        code: u32,
    },
    Settings {
        ack: bool,
        /// A multiple of six bytes; empty with `ack`.
        payload: &'a [u8],
    },
    /// An error of the connection, as a client cannot push (§8.4).
    PushPromise,
    Ping {
        ack: bool,
        data: [u8; 8],
    },
    GoAway {
        last: u32,
        code: u32,
    },
    WindowUpdate {
        /// 0 for the window of the connection.
        stream: u32,
        /// From 1 to 2^31-1.
        increment: u32,
    },
    Continuation {
        stream: u32,
        fragment: &'a [u8],
        end_headers: bool,
    },
    /// RFC 9218 §7.1.
    PriorityUpdate {
        /// The stream that the priority is for: one of a client, open or not.
        element: u32,
        /// In the syntax of the `priority` field.
        value: &'a [u8],
    },
    /// A type that is ignored.
    Unknown,
}

impl<'a> Frame<'a> {
    /// Parses the frame of a header and its whole payload.
    ///
    /// # Errors
    ///
    /// Every violation that the frame alone shows, as the error that RFC 9113 §6 prescribes.
    pub(crate) fn parse(header: FrameHeader, payload: &'a [u8]) -> Result<Self, FrameError> {
        debug_assert_eq!(header.len, payload.len(), "a whole payload");
        match header.kind {
            FrameKind::Data => parse_data(header, payload),
            FrameKind::Headers => parse_headers(header, payload),
            FrameKind::Priority => parse_priority(header, payload),
            FrameKind::Reset => parse_reset(header, payload),
            FrameKind::Settings => parse_settings(header, payload),
            FrameKind::PushPromise => Ok(Self::PushPromise),
            FrameKind::Ping => parse_ping(header, payload),
            FrameKind::GoAway => parse_goaway(header, payload),
            FrameKind::WindowUpdate => parse_window_update(header, payload),
            FrameKind::Continuation => parse_continuation(header, payload),
            FrameKind::PriorityUpdate => parse_priority_update(header, payload),
            FrameKind::Unknown(_) => Ok(Self::Unknown),
        }
    }
}

fn parse_data(header: FrameHeader, payload: &[u8]) -> Result<Frame<'_>, FrameError> {
    let mut data = DataPayload::new(header)?;
    let part = data.take(payload)?;
    Ok(Frame::Data {
        stream: header.stream,
        data: part.data,
        flow_len: data.flow_len(),
        end_stream: data.end_stream(),
    })
}

fn parse_headers(header: FrameHeader, payload: &[u8]) -> Result<Frame<'_>, FrameError> {
    header.requires_stream()?;
    let (padding, payload) = if header.has(PADDED) {
        let (padding, rest) = payload.split_first().ok_or(FRAME_SIZE_ERROR)?;
        (usize::from(*padding), rest)
    } else {
        (0, payload)
    };
    let (depends_on_itself, payload) = if header.has(PRIORITY) {
        let (priority, rest) = payload.split_first_chunk().ok_or(FRAME_SIZE_ERROR)?;
        (depends_on(priority) == header.stream, rest)
    } else {
        (false, payload)
    };
    let len = payload.len().checked_sub(padding).ok_or(PROTOCOL_ERROR)?;
    Ok(Frame::Headers {
        stream: header.stream,
        fragment: &payload[..len],
        end_stream: header.has(END_STREAM),
        end_headers: header.has(END_HEADERS),
        depends_on_itself,
    })
}

fn parse_priority(header: FrameHeader, payload: &[u8]) -> Result<Frame<'_>, FrameError> {
    header.requires_stream()?;
    let stream = header.stream;
    let priority = payload
        .try_into()
        .map_err(|_| FrameError::Stream(stream, ErrorCode::FrameSizeError))?;
    Ok(Frame::Priority {
        stream,
        depends_on_itself: depends_on(priority) == stream,
    })
}

/// The parent stream of a deprecated priority (RFC 9113 §6.3). Its exclusive bit is ignored.
fn depends_on(priority: &[u8; 5]) -> u32 {
    let [parent @ .., _weight] = *priority;
    u32::from_be_bytes(parent) & !RESERVED_BIT
}

fn parse_reset(header: FrameHeader, payload: &[u8]) -> Result<Frame<'_>, FrameError> {
    header.requires_stream()?;
    Ok(Frame::Reset {
        stream: header.stream,
        code: whole_u32(payload)?,
    })
}

fn parse_settings(header: FrameHeader, payload: &[u8]) -> Result<Frame<'_>, FrameError> {
    header.requires_connection()?;
    let ack = header.has(ACK);
    if !payload.len().is_multiple_of(6) || ack && !payload.is_empty() {
        return Err(FRAME_SIZE_ERROR);
    }
    Ok(Frame::Settings { ack, payload })
}

fn parse_ping(header: FrameHeader, payload: &[u8]) -> Result<Frame<'_>, FrameError> {
    header.requires_connection()?;
    Ok(Frame::Ping {
        ack: header.has(ACK),
        data: payload.try_into().map_err(|_| FRAME_SIZE_ERROR)?,
    })
}

fn parse_goaway(header: FrameHeader, payload: &[u8]) -> Result<Frame<'_>, FrameError> {
    header.requires_connection()?;
    let (last, rest) = leading_u32(payload)?;
    let (code, _debug_data) = leading_u32(rest)?;
    Ok(Frame::GoAway {
        last: last & !RESERVED_BIT,
        code,
    })
}

fn parse_window_update(header: FrameHeader, payload: &[u8]) -> Result<Frame<'_>, FrameError> {
    let stream = header.stream;
    match (whole_u32(payload)? & !RESERVED_BIT, stream) {
        (0, 0) => Err(PROTOCOL_ERROR),
        (0, stream) => Err(FrameError::Stream(stream, ErrorCode::ProtocolError)),
        (increment, stream) => Ok(Frame::WindowUpdate { stream, increment }),
    }
}

fn parse_continuation(header: FrameHeader, fragment: &[u8]) -> Result<Frame<'_>, FrameError> {
    header.requires_stream()?;
    Ok(Frame::Continuation {
        stream: header.stream,
        fragment,
        end_headers: header.has(END_HEADERS),
    })
}

fn parse_priority_update(header: FrameHeader, payload: &[u8]) -> Result<Frame<'_>, FrameError> {
    header.requires_connection()?;
    let (element, value) = leading_u32(payload)?;
    let element = element & !RESERVED_BIT;
    // Even numbers would be streams that the server has pushed; there are none.
    if element.is_multiple_of(2) {
        return Err(PROTOCOL_ERROR);
    }
    Ok(Frame::PriorityUpdate { element, value })
}

fn whole_u32(payload: &[u8]) -> Result<u32, FrameError> {
    let bytes = payload.try_into().map_err(|_| FRAME_SIZE_ERROR)?;
    Ok(u32::from_be_bytes(bytes))
}

fn leading_u32(payload: &[u8]) -> Result<(u32, &[u8]), FrameError> {
    let (bytes, rest) = payload.split_first_chunk().ok_or(FRAME_SIZE_ERROR)?;
    Ok((u32::from_be_bytes(*bytes), rest))
}

#[cfg(test)]
mod tests;
