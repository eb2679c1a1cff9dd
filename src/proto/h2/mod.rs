//! HTTP/2 (RFC 9113) as pure code: bytes in, actions out.
//!
//! [`machine`] is one connection. Its states:
//!
//! ```text
//!                   preface                    SETTINGS                 error, or shutdown
//!  AwaitingPreface ─────────▶ AwaitingSettings ─────────▶ Open ───────────────────────────▶ Closing
//!                                                          │ ▲   and no streams are open       │
//!                                                          ▼ │                     all is sent │
//!                                                        streams                               ▼
//!                                                                         Closed ◀──────── Lingering
//! ```
//!
//! The states of a [`stream`], of which a connection has up to
//! [`Limits::h2_max_streams`](crate::Limits):
//!
//! ```text
//!  no body ──▶ Handling ──▶ response            (Ready before that, while no job is free)
//!  body ──▶ AwaitingAdmission
//!            ├─ buffered ──▶ ReadingBody ─┬─ complete ──▶ Ready ──▶ Handling ──▶ response
//!            │                            └─ failed ──▶ Rejecting ──▶ response
//!            ├─ streamed ──▶ Ready ──▶ Streaming ─┬─ complete ──▶ Handling ──▶ response
//!            │                                    ├─ answered early ──▶ response
//!            │                                    └─ failed ──▶ BodyFailed ──▶ Rejecting
//!            └─ not admitted ──▶ response
//!
//!  response ──▶ Sending ──▶ Finishing ─┬─ all is taken ──▶ gone
//!                                      └─ and the request has not ended ──▶ Answered ──▶ gone
//!  any, reset ──▶ Orphaned while its job runs ──▶ gone
//! ```
//!
//! A request that is answered before its end is received and discarded if it ends soon, so that it is
//! checked as any other. If the window of the stream does not suffice, or it takes too long, the peer is
//! asked to stop (RST_STREAM with NO_ERROR, RFC 9113 §8.1).
//!
//! What the peer is entitled to know at once, control frames and the heads of responses, is staged in
//! the [`output`] when it is due. Bodies are staged in portions and only when the transport can take
//! them; the [`scheduler`] chooses the stream of each frame then. So what is urgent waits for one
//! portion at most, whatever was asked for before.
//!
//! A connection is bounded in everything that its peer can make it hold: streams, jobs, bytes of
//! bodies that are received or wait to be sent, output that the peer does not take (see [`limits`]),
//! and the rate of events ([`flood`]).

pub(crate) mod error_code;
pub(crate) mod flood;
mod flood_log;
pub(crate) mod flow;
pub(crate) mod frame;
mod head;
pub(crate) mod hpack;
mod limits;
pub(crate) mod machine;
mod output;
mod pace;
mod peer_wait;
pub(crate) mod priority;
mod request_body;
mod response_head;
pub(crate) mod scheduler;
pub(crate) mod settings;
pub(crate) mod spare_memory;
mod stream;
#[cfg(test)]
mod tests;
mod window_share;
