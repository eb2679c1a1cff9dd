//! What an application does with a WebSocket connection.

use std::fmt;

use super::{Close, Message, WebSocketSender};

/// The application's side of one connection. Its value is the state of that connection.
///
/// The methods are called on an event loop that serves many connections: they must not block. Work that
/// may block goes into [`WebSocketSender::run_blocking`], or to a thread of the application that has a clone
/// of the sender. If a method panics, the connection is closed with
/// [`INTERNAL_ERROR`](super::CloseCode::INTERNAL_ERROR).
pub trait WebSocketHandler: Send + 'static {
    /// The connection is open. Called once, first.
    fn on_open(&mut self, sender: &WebSocketSender) {
        let _ = sender;
    }

    /// A message has arrived, as a whole. None is received after a Close frame was sent.
    fn on_message(&mut self, message: Message, sender: &WebSocketSender);

    /// The connection has ended, in whatever way. Called once, last.
    fn on_close(&mut self, close: Close) {
        let _ = close;
    }
}

/// The handler that [`WebSocketUpgrade::on_message`](super::WebSocketUpgrade::on_message) makes of a closure.
pub(super) struct MessageHandler<F>(pub(super) F);

impl<F> WebSocketHandler for MessageHandler<F>
where
    F: FnMut(Message, &WebSocketSender) + Send + 'static,
{
    fn on_message(&mut self, message: Message, sender: &WebSocketSender) {
        (self.0)(message, sender);
    }
}

impl fmt::Debug for dyn WebSocketHandler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WebSocketHandler")
    }
}
