//! HTTP/1.1 (RFC 9112) as pure code: bytes in, intentions out.
//!
//! [`machine`] is one connection:
//!
//! ```text
//!       first byte      empty line         taken           last byte
//!  Idle ─────────▶ Head ─────────▶ BodyPolicy ────▶ Content ─────────▶ Handling
//!   ▲               │   no content ──────│────────────│─────────────▶  │   │
//!   │               │                    │            └─▶ Refusing ──▶ │   │ last reply
//!   └───────────────│── keep-alive ──────│─────────────────────────────┘   ▼
//!                   └── refusal ─────────┴── not taken ──────────────▶ Closing
//!                                                                         │ all sent
//!                                          Closed ◀── Lingering ◀─────────┘
//! ```
//!
//! The handler decides in `BodyPolicy` whether content is read at all, and words what is refused in
//! `Refusing`. `Handling` with a content is `HandlingContent`, so that without one it is small. The
//! handler may want the content while it comes in: then `Announcing` hands the request out before
//! it, and `Streaming` stands for `Content` and `Handling` at once, until the content is complete
//! (`Handling`), is answered too early for that (`Closing`), or goes wrong (`Spoilt`, and `Refusing`
//! when the handler has let go).
//!
//! Replies gather in the [`outbox`] while whole requests wait in the [`inbox`]; they are written
//! when no further request can be answered, when the outbox is full, or when a content that is
//! not small, or is made while it is sent, stands in it. A state owns what only it needs; an idle
//! machine owns no memory.
//!
//! Nothing here knows sockets, files, or what time it is: the event loop lends a
//! [`context::Context`] with the time and the memory. That reply bytes do not depend on how the
//! request bytes were split across reads is tested, not hoped.

mod chunked;
mod exchange;
mod framing;
mod head;
mod inbox;
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

/// True if `bytes` are a head that is not refused: the parser alone, for the benches.
pub(crate) fn parse_head(bytes: &[u8], head: &mut RequestHead, limits: &Limits) -> bool {
    head::parse(bytes, head, limits).is_ok()
}

/// A whole chunked body, for the benches.
pub(crate) fn encode_chunked(content: &[u8], len: usize, out: &mut Vec<u8>) {
    for chunk in content.chunks(len) {
        chunked::encode(chunk, out);
    }
    out.extend_from_slice(chunked::LAST_CHUNK);
}

/// True if `input` is a whole chunked body without fault, for the benches.
pub(crate) fn decode_chunked(input: &[u8], content: &mut Vec<u8>) -> bool {
    let mut decoder = chunked::Decoder::new(usize::MAX);
    let taken = decoder.decode(input, content, usize::MAX);
    taken.is_ok_and(|taken| taken == input.len() && decoder.is_done())
}
