//! Frames (RFC 9113 §4 and §6, RFC 9218 §7.1): parsing what a client sends, and writing.
//!
//! A [`FrameHeader`] is parsed as soon as its nine bytes are there, so that a frame that is too long
//! is rejected before any of it is read. All frames but DATA are then read as a whole and parsed by
//! [`Frame::parse`]. The payload of DATA is taken in parts by a [`DataPayload`].
//!
//! Only what one frame shows is checked here. Whether a frame is permitted in the state of its stream
//! is up to the machine, which also has to turn the error of a stream that is idle into an error of
//! the connection (§5.1).

mod data;
mod header;
mod parse;
mod write;

pub(crate) use data::DataPayload;
pub(crate) use header::{FRAME_HEADER_BYTES, FrameError, FrameHeader, FrameKind, MAX_FRAME_BYTES};
pub(crate) use parse::Frame;
pub(crate) use write::{
    write_goaway, write_headers, write_ping, write_ping_ack, write_rst_stream, write_settings,
    write_settings_ack, write_window_update,
};
