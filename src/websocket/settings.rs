//! The limits of one connection.

use std::time::Duration;

/// The limits of one connection, in bytes and as times.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    /// The largest message, and the largest frame, that is received.
    pub(super) max_message_bytes: usize,
    /// Content of messages that wait to be sent.
    pub(super) max_queued_bytes: usize,
    /// After so long without input a Ping is sent; `None` for none.
    pub(super) ping_interval: Option<Duration>,
    /// How long the client may take to respond to it.
    pub(super) pong_timeout: Duration,
    /// How long the client may take to respond to a Close.
    pub(super) close_timeout: Duration,
}

impl Default for Settings {
    /// The limits of Python's `websockets`.
    fn default() -> Self {
        Self {
            max_message_bytes: 1024 * 1024,
            max_queued_bytes: 1024 * 1024,
            ping_interval: Some(Duration::from_secs(20)),
            pong_timeout: Duration::from_secs(20),
            close_timeout: Duration::from_secs(10),
        }
    }
}
