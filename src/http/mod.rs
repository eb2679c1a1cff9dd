//! HTTP semantics as plain values: RFC 9110 without any I/O.
//!
//! Methods, status codes, header names and values come from the [`http`](::http) crate; what that
//! crate leaves open (targets as bytes, borrowed requests, preconditions, ranges, negotiation, path
//! patterns) is here.
//! Of ours it imports nothing but [`decision`](crate::explain_log).

pub(crate) mod byteranges;
pub(crate) mod conditional;
pub(crate) mod cors;
pub(crate) mod date;
pub(crate) mod error_page;
pub(crate) mod forwarded;
pub(crate) mod multipart_form;
pub(crate) mod negotiation;
pub(crate) mod range;
pub(crate) mod rejection;
pub(crate) mod request;
pub(crate) mod response;
pub(crate) mod target;

pub use rejection::Rejection;
pub(crate) use request::FieldSpan;
pub use request::{Fields, Request};
pub use response::{Body, Response};
