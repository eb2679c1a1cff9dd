//! HTTP/1.1 (RFC 9112) as pure code: bytes in, intentions out.
//!
//! [`machine`] is one connection:
//!
//! ```text
//!       first byte      empty line         taken           last byte
//!  Idle ─────────▶ Head ─────────▶ Admission ────▶ Content ─────────▶ Handling
//!   ▲               │   no content ──────│────────────│─────────────▶  │   │
//!   │               │                    │            └─▶ Refusing ──▶ │   │ last reply
//!   └───────────────│── keep-alive ──────│─────────────────────────────┘   ▼
//!                   └── refusal ─────────┴── not taken ──────────────▶ Closing
//!                                                                         │ all sent
//!                                          Closed ◀── Lingering ◀─────────┘
//! ```
//!
//! The handler decides in `Admission` whether content is read at all, and words what is refused in
//! `Refusing`.
//!
//! Replies gather in the [`outbox`] while whole requests wait in the [`inbox`]; they are written
//! when no further request can be answered, when the outbox is full, or when a content that is
//! not small, or is made piece by piece, stands in it. A state owns what only it needs; an idle machine owns no memory.
//!
//! Nothing here knows sockets, files, or what time it is: the event loop lends a
//! [`context::Context`] with the time and the memory. That reply bytes do not depend on how the
//! request bytes were split across reads is tested, not hoped.

mod chunked;
mod content;
pub(crate) mod context;
mod framing;
mod head;
mod inbox;
pub(crate) mod machine;
pub(crate) mod outbox;
pub(crate) mod record;
mod reply;

pub(crate) use head::MAX_FIELDS;

#[cfg(test)]
mod tests;

/// True if `bytes` are a head that is not refused: the parser alone, for the benches.
pub(crate) fn parse_head(
    bytes: &[u8],
    spans: &mut Vec<crate::http::FieldSpan>,
    limits: &crate::config::Limits,
) -> bool {
    head::Head::parse(bytes, spans, limits).is_ok()
}
