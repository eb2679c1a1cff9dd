//! Frame headers (RFC 9113 §4.1), and the errors that frames cause.

use crate::proto::h2::error_code::ErrorCode;

/// The length of a frame header (RFC 9113 §4.1).
pub(crate) const FRAME_HEADER_BYTES: usize = 9;

/// The largest payload that is accepted and sent: the default of SETTINGS_MAX_FRAME_SIZE, which tws
/// does not raise.
pub(crate) const MAX_FRAME_BYTES: usize = 16_384;

pub(super) const END_STREAM: u8 = 0x1;
pub(super) const ACK: u8 = 0x1;
pub(super) const END_HEADERS: u8 = 0x4;
pub(super) const PADDED: u8 = 0x8;
pub(super) const PRIORITY: u8 = 0x20;

/// The reserved bit in front of stream identifiers and window increments, which is ignored (§4.1).
pub(super) const RESERVED_BIT: u32 = 1 << 31;

/// What a frame that breaks the rules ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FrameError {
    /// The connection, with GOAWAY (RFC 9113 §5.4.1).
    Connection(ErrorCode),
    /// The stream, with RST_STREAM (§5.4.2).
    Stream(u32, ErrorCode),
}

pub(super) const PROTOCOL_ERROR: FrameError = FrameError::Connection(ErrorCode::ProtocolError);
pub(super) const FRAME_SIZE_ERROR: FrameError = FrameError::Connection(ErrorCode::FrameSizeError);

/// The type of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FrameKind {
    Data,
    Headers,
    Priority,
    Reset,
    Settings,
    PushPromise,
    Ping,
    GoAway,
    WindowUpdate,
    Continuation,
    PriorityUpdate,
    /// Ignored, except within a header block (RFC 9113 §5.5).
    Unknown(u8),
}

impl FrameKind {
    pub(super) fn from_u8(number: u8) -> Self {
        match number {
            0x0 => Self::Data,
            0x1 => Self::Headers,
            0x2 => Self::Priority,
            0x3 => Self::Reset,
            0x4 => Self::Settings,
            0x5 => Self::PushPromise,
            0x6 => Self::Ping,
            0x7 => Self::GoAway,
            0x8 => Self::WindowUpdate,
            0x9 => Self::Continuation,
            0x10 => Self::PriorityUpdate,
            other => Self::Unknown(other),
        }
    }

    fn to_u8(self) -> u8 {
        match self {
            Self::Data => 0x0,
            Self::Headers => 0x1,
            Self::Priority => 0x2,
            Self::Reset => 0x3,
            Self::Settings => 0x4,
            Self::PushPromise => 0x5,
            Self::Ping => 0x6,
            Self::GoAway => 0x7,
            Self::WindowUpdate => 0x8,
            Self::Continuation => 0x9,
            Self::PriorityUpdate => 0x10,
            Self::Unknown(other) => other,
        }
    }
}

/// The header of a frame (RFC 9113 §4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FrameHeader {
    /// The length of the payload: at most [`MAX_FRAME_BYTES`].
    pub(crate) len: usize,
    pub(crate) kind: FrameKind,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
}

impl FrameHeader {
    /// Parses a header.
    ///
    /// # Errors
    ///
    /// FRAME_SIZE_ERROR of the connection for a frame that is too long.
    pub(crate) fn parse(bytes: &[u8; FRAME_HEADER_BYTES]) -> Result<Self, FrameError> {
        let [l0, l1, l2, kind, flags, s0, s1, s2, s3] = *bytes;
        let len = usize::from(l0) << 16 | usize::from(l1) << 8 | usize::from(l2);
        if len > MAX_FRAME_BYTES {
            return Err(FRAME_SIZE_ERROR);
        }
        Ok(Self {
            len,
            kind: FrameKind::from_u8(kind),
            flags,
            stream: u32::from_be_bytes([s0, s1, s2, s3]) & !RESERVED_BIT,
        })
    }

    /// The header of a DATA frame with `len` bytes, which are at most [`MAX_FRAME_BYTES`].
    pub(crate) fn data(stream: u32, len: usize, end_stream: bool) -> Self {
        let flags = if end_stream { END_STREAM } else { 0 };
        Self::new(FrameKind::Data, flags, stream, len)
    }

    pub(super) fn new(kind: FrameKind, flags: u8, stream: u32, len: usize) -> Self {
        debug_assert!(len <= MAX_FRAME_BYTES, "{len} bytes");
        Self {
            len,
            kind,
            flags,
            stream,
        }
    }

    pub(crate) fn to_bytes(self) -> [u8; FRAME_HEADER_BYTES] {
        let [.., l0, l1, l2] = self.len.to_be_bytes();
        let [s0, s1, s2, s3] = self.stream.to_be_bytes();
        let kind = self.kind.to_u8();
        [l0, l1, l2, kind, self.flags, s0, s1, s2, s3]
    }

    pub(super) fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    pub(super) fn requires_stream(self) -> Result<(), FrameError> {
        if self.stream == 0 {
            return Err(PROTOCOL_ERROR);
        }
        Ok(())
    }

    pub(super) fn requires_connection(self) -> Result<(), FrameError> {
        if self.stream != 0 {
            return Err(PROTOCOL_ERROR);
        }
        Ok(())
    }
}
