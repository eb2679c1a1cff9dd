//! What a WebSocket connection carries: messages, and the reasons of its end.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

/// A message, received or to be sent. Clones share its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Text. What was received has been checked to be UTF-8.
    Text(Arc<str>),
    /// Bytes.
    Binary(Bytes),
}

impl Message {
    /// Returns the text of a text message.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Binary(_) => None,
        }
    }

    /// Returns the content as bytes.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::Binary(bytes) => bytes,
        }
    }
}

impl From<&str> for Message {
    fn from(text: &str) -> Self {
        Self::Text(text.into())
    }
}

impl From<String> for Message {
    fn from(text: String) -> Self {
        Self::Text(text.into())
    }
}

impl From<Vec<u8>> for Message {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Binary(bytes.into())
    }
}

impl From<Bytes> for Message {
    fn from(bytes: Bytes) -> Self {
        Self::Binary(bytes)
    }
}

/// Why a connection ends, as a number (RFC 6455 §7.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CloseCode(u16);

impl CloseCode {
    /// 1000: what the connection was for is done.
    pub const NORMAL: Self = Self(1000);
    /// 1001: the server shuts down, or the user has left the page.
    pub const GOING_AWAY: Self = Self(1001);
    /// 1002: a violation of the protocol.
    pub const PROTOCOL_ERROR: Self = Self(1002);
    /// 1003: a message of a kind that is not accepted.
    pub const UNSUPPORTED: Self = Self(1003);
    /// 1005: a Close frame without a code.
    pub const NO_STATUS: Self = Self(1005);
    /// 1006: the connection has ended without a Close frame. It is never sent.
    pub const ABNORMAL: Self = Self(1006);
    /// 1007: a text message that is not UTF-8.
    pub const INVALID_DATA: Self = Self(1007);
    /// 1008: a message that violates a rule of the application.
    pub const POLICY_VIOLATION: Self = Self(1008);
    /// 1009: a message that is too large.
    pub const TOO_LARGE: Self = Self(1009);
    /// 1011: an error of the server.
    pub const INTERNAL_ERROR: Self = Self(1011);
    /// 1013: the server is overloaded.
    pub const TRY_AGAIN_LATER: Self = Self(1013);

    /// Returns a code of an application (4000 to 4999), or one that is registered with IANA for libraries and
    /// frameworks (3000 to 3999); `None` for other numbers.
    pub const fn application(code: u16) -> Option<Self> {
        match code {
            3000..=4999 => Some(Self(code)),
            _ => None,
        }
    }

    /// A code from the wire.
    pub(super) const fn received(code: u16) -> Self {
        Self(code)
    }

    /// Returns the number.
    pub const fn as_u16(self) -> u16 {
        self.0
    }

    /// Returns whether a Close frame may contain the code.
    pub(super) fn is_sendable(self) -> bool {
        !matches!(self, Self::NO_STATUS | Self::ABNORMAL)
    }
}

impl fmt::Display for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How a connection has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Close {
    /// The code that the client has sent; [`NO_STATUS`](CloseCode::NO_STATUS) if it has sent none, and
    /// [`ABNORMAL`](CloseCode::ABNORMAL) if it has sent no Close frame. If the server has ended the connection
    /// because of an error, it is the code of that error.
    pub code: CloseCode,
    /// The text that goes with the code, at most 123 bytes. It is for logs; as the client sends it, it must
    /// be escaped there.
    pub reason: String,
}

impl Close {
    pub(super) fn new(code: CloseCode, reason: &str) -> Self {
        let reason = reason.to_owned();
        Self { code, reason }
    }
}
