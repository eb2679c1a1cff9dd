//! HTTP/1.1 (RFC 9112) as pure code: bytes in, actions out.
//!
//! [`machine`] is one connection. Its states:
//!
//! ```text
//!       first byte               end of head            last response           all sent
//!  Idle ──────────▶ ReadingHead ─────────────▶ Exchange ─────────────▶ Closing ──────────▶ Lingering
//!   ▲                    │ rejected               │                       ▲                    │
//!   │                    └────────────────────────│───────────────────────┘                    ▼
//!   └───────── response, keep-alive ──────────────┘                                         Closed
//! ```
//!
//! The states of an [`exchange`], of which a connection has at most one:
//!
//! ```text
//!  no body ──▶ Handling ──▶ response
//!  body ──▶ AwaitingAdmission
//!            ├─ buffered ──▶ ReadingBody ─┬─ complete ──▶ HandlingBody ──▶ response
//!            │                            └─ failed ──▶ Rejecting ──▶ response
//!            ├─ streamed ──▶ StreamPending ──▶ Streaming ─┬─ complete ──▶ Handling ──▶ response
//!            │                                            ├─ answered early ──▶ response, Closing
//!            │                                            └─ failed ──▶ BodyFailed ──▶ Rejecting
//!            └─ not admitted ──▶ response, Closing
//! ```
//!
//! In `AwaitingAdmission` the handler decides whether the body is read at all, and in `Rejecting` it
//! writes the response to a rejected one. `Handling` with a body is `HandlingBody`, so that it is
//! small without one. A handler may read the body while it is received: then `StreamPending` hands
//! the request out before its body, and `Streaming` lasts until the body is complete (`Handling`),
//! is answered before that (`Closing`), or fails (`BodyFailed`, and `Rejecting` when the handler's
//! response has come).
//!
//! A peer that closes its sending side still gets its responses. While a handler makes one, the peer may
//! be gone, and nothing but a write could tell: nginx closes the connection at once (499), hyper by
//! default too, and Go cancels the context of the request but still sends the response. Here the
//! driver waits for the handler for [`Timeouts::half_closed`](crate::Timeouts::half_closed), and then
//! ends the connection with [`on_lost`](machine::Machine::on_lost), as it does at once after a reset.
//!
//! A response with status 101 may change the connection to another
//! [protocol](crate::http::upgrade::UpgradedProtocol). `Upgrading` asks the driver for the waker of the
//! connection, and `Upgraded` passes on bytes in both directions:
//!
//! ```text
//!  Exchange ──▶ Upgrading ──▶ Upgraded ─┬─ end of the protocol ──▶ Closing
//!                                       └─ time limit, loss ─────▶ Closed
//! ```
//!
//! Responses gather in the [`outbox`] while complete requests wait in the [`inbox`](super::inbox). They are
//! written when no further request can be answered, when the outbox is full, or when a body that is
//! not small, or is produced while it is sent, is queued. A state owns what only it needs; an idle
//! machine owns no memory.
//!
//! Nothing here knows sockets, files, or the time: the event loop lends a
//! [`Context`](super::context::Context) with the time and the memory. That the bytes of responses do
//! not depend on how the bytes of requests were split across reads is tested.

mod chunked;
mod exchange;
mod framing;
mod head;
mod head_scan;
pub(crate) mod machine;
pub(crate) mod outbox;

pub(crate) use head::MAX_FIELDS;
pub use head::check_head;

pub(crate) mod request_body;
mod response_head;
#[cfg(test)]
mod tests;

use super::request_head::RequestHead;
use crate::config::Limits;

/// Parses a head; true if it is not rejected. For the benches.
pub(crate) fn parse_head(bytes: &[u8], head: &mut RequestHead, limits: &Limits) -> bool {
    head::parse(bytes, head, limits).is_ok()
}

/// Encodes a complete chunked body, for the benches.
pub(crate) fn encode_chunked(body: &[u8], len: usize, out: &mut Vec<u8>) {
    for chunk in body.chunks(len) {
        chunked::encode(chunk, out);
    }
    out.extend_from_slice(chunked::LAST_CHUNK);
}

/// Decodes a chunked body; true if `input` is a complete and valid one. For the benches.
pub(crate) fn decode_chunked(input: &[u8], body: &mut Vec<u8>) -> bool {
    let mut decoder = chunked::ChunkedDecoder::new(usize::MAX);
    let taken = decoder.decode(input, body, usize::MAX);
    taken.is_ok_and(|taken| taken == input.len() && decoder.is_done())
}
