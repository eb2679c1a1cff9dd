//! A client that speaks HTTP/2 frame by frame (RFC 9113), on any stream of bytes. It has an encoder and
//! a decoder of its own, so that the server is not tested with its own code.

mod client;
pub(crate) mod frame;
pub(crate) mod hpack;

pub(crate) use client::{H2Client, H2Response};
