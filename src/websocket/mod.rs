//! WebSocket (RFC 6455): messages in both directions over one connection. Needs the feature `websocket`.
//!
//! A handler checks the request with [`WebSocketUpgrade::new`] and returns the response of
//! [`accept`](WebSocketUpgrade::accept). Middlewares run before, as for every request, and may refuse it.
//! From then on the [`WebSocketHandler`] gets the messages of the client, and every thread that has the
//! [`WebSocketSender`] can send to it.
//!
//! ```
//! use std::sync::Mutex;
//!
//! use tws::websocket::{
//!     Close, Message, WebSocketHandler, WebSocketSender, WebSocketUpgrade,
//! };
//! use tws::{HandlerResult, Request, Response, Router};
//!
//! #[derive(Clone, Default)]
//! struct Room(std::sync::Arc<Mutex<Vec<WebSocketSender>>>);
//!
//! impl WebSocketHandler for Room {
//!     fn on_open(&mut self, sender: &WebSocketSender) {
//!         self.0.lock().expect("no panic while locked").push(sender.clone());
//!     }
//!
//!     fn on_message(&mut self, message: Message, _: &WebSocketSender) {
//!         // Clients that have left, or are too slow, are forgotten.
//!         let mut members = self.0.lock().expect("no panic while locked");
//!         members.retain(|member| member.send(message.clone()).is_ok());
//!     }
//! }
//!
//! fn join(room: &Room, request: &Request<'_>) -> HandlerResult {
//!     Ok(WebSocketUpgrade::new(request)?.accept(room.clone()))
//! }
//!
//! fn echo(_: &Room, request: &Request<'_>) -> HandlerResult {
//!     let upgrade = WebSocketUpgrade::new(request)?.with_max_message_bytes(64 * 1024);
//!     Ok(upgrade.on_message(|message, sender| {
//!         // An error means that the client does not read its messages: it loses some.
//!         let _ = sender.send(message);
//!     }))
//! }
//!
//! let router = Router::with_state(Room::default()).get("/room", join).get("/echo", echo);
//! # let client = tws::TestClient::new(router);
//! # assert_eq!(client.get("/room").status(), 426);
//! # let request = Request::get("/echo")
//! #     .with_header("Connection", "Upgrade")
//! #     .with_header("Upgrade", "websocket")
//! #     .with_header("Sec-WebSocket-Version", "13")
//! #     .with_header("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==");
//! # let response = client.send(request);
//! # assert_eq!(response.status(), 101);
//! # assert_eq!(response.headers()["Sec-WebSocket-Accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
//! ```
//!
//! # How a connection runs
//!
//! A connection stays on its event loop and has no thread. Its states:
//!
//! ```text
//!  101 ──▶ Open ─┬─ WebSocketSender::close, shutdown: Close sent ──▶ Closing ─┬─ Close received ──▶ Closed
//!                ├─ Close received: Close sent ─────────────▶ Closed          ├─ close timeout ───▶ Closed
//!                ├─ violation, panic: Close sent ───────────▶ Closed          └─ connection lost ─▶ Closed
//!                └─ no response to a Ping, connection lost ─▶ Closed
//! ```
//!
//! | event | what the server sends |
//! |---|---|
//! | Ping | a Pong with the same content |
//! | no input for 20 s | a Ping; without any input for 20 s more, the connection is closed |
//! | a text that is not UTF-8 | Close 1007 |
//! | a message or frame that is too large | Close 1009 |
//! | another violation: reserved bits or opcodes, an unmasked frame, an invalid close code | Close 1002 |
//! | a panic of the handler | Close 1011 |
//! | shutdown of the server | Close 1001, at once, and the connection ends within the close timeout |
//!
//! After a Close of the client, or a violation, the server closes the TCP connection first (RFC 6455 §7.1.1).
//!
//! Fragmented messages are received as a whole; those that are sent are not fragmented. Extensions, and among
//! them compression (RFC 7692), are not supported: none is negotiated. WebSocket over HTTP/2 (RFC 8441) is not
//! supported either, and a request for it gets a 505.
//!
//! # Limits
//!
//! While output is waiting for the client, at most [`Limits::max_outbox_bytes`](crate::Limits::max_outbox_bytes)
//! are taken from the queue of messages, which is itself limited, and then no input is read until some is
//! sent. Beside the queue, a connection holds the message that is being received and the one that is being
//! sent; between messages it has no buffers. Bandwidth limits, the minimum rate and the send timeout apply as
//! they do to responses. A WebSocket connection counts as a busy one: it is not closed to make room for others.
//!
//! The access log has one record for the request, with status 101, written at the end of the connection; its
//! bytes are those that were sent after the head.
//!
//! # The framing
//!
//! Frames are decoded by the crate `tungstenite`, which drives any `Read` and `Write` and can so be fed from
//! memory. `websocket-sans-io` has no such adapter to feed, but leaves the checks of messages, UTF-8 and close
//! codes to its user; `soketto` and `fastwebsockets` need an async runtime.

mod decoder;
mod encoder;
mod handler;
mod handshake;
mod message;
mod sender;
mod session;
mod settings;
#[cfg(test)]
mod tests;

pub use handler::WebSocketHandler;
pub use handshake::{UpgradeError, WebSocketUpgrade};
pub use message::{Close, CloseCode, Message};
pub use sender::{SendError, WebSocketSender};
