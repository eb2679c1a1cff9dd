//! HTTP semantics as plain values: RFC 9110 without any I/O.
//!
//! Methods, status codes, header names and values come from the [`http`](::http) crate. This module
//! adds what that crate leaves open: request-targets as bytes, borrowed requests, preconditions,
//! ranges, content negotiation, multipart framing and the `Forwarded` fields.
//!
//! Nothing here opens a file or a socket, or reads a clock. Of this crate it imports
//! [`body`](crate::body), which a response carries and a request reads from,
//! [`explain_log`](crate::explain_log), and what catches panics and locks. None of them imports `http`.

pub(crate) mod admission;
pub(crate) mod byteranges;
pub(crate) mod conditional;
#[cfg(feature = "cookies")]
mod cookies;
pub(crate) mod cors;
pub(crate) mod date;
pub(crate) mod disposition;
pub(crate) mod error_page;
pub(crate) mod fields;
pub(crate) mod forwarded;
pub(crate) mod host;
pub(crate) mod html_text;
pub(crate) mod input;
pub(crate) mod list;
pub(crate) mod multipart_form;
pub(crate) mod negotiation;
pub(crate) mod range;
pub(crate) mod rejection;
pub(crate) mod request;
pub(crate) mod response;
pub(crate) mod target;
// Without the feature only tests implement it, and use less of it.
#[cfg_attr(not(feature = "websocket"), allow(dead_code))]
pub(crate) mod upgrade;
mod urlencoded;

pub(crate) use crate::body::Body;
pub(crate) use fields::FieldSpan;
pub use fields::{Fields, FieldsIter};
pub use input::InputError;
pub use multipart_form::{FormData, FormError, FormPart};
pub use rejection::Rejection;
pub use request::Request;
pub use response::Response;
