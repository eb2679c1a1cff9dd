//! Writing of frames.

use super::header::{ACK, END_HEADERS, END_STREAM, FrameHeader, FrameKind, MAX_FRAME_BYTES};
use crate::proto::h2::error_code::ErrorCode;

/// The bytes of debug data in a GOAWAY frame at most.
const MAX_DEBUG_BYTES: usize = 64;

/// Appends a frame whose payload is at most [`MAX_FRAME_BYTES`].
fn write_frame(out: &mut Vec<u8>, kind: FrameKind, flags: u8, stream: u32, payload: &[u8]) {
    write_header(out, FrameHeader::new(kind, flags, stream, payload.len()));
    out.extend_from_slice(payload);
}

fn write_header(out: &mut Vec<u8>, header: FrameHeader) {
    out.extend_from_slice(&header.to_bytes());
}

/// Appends a header block as a HEADERS frame and as many CONTINUATION frames as it needs.
pub(crate) fn write_headers(out: &mut Vec<u8>, stream: u32, block: &[u8], end_stream: bool) {
    let mut kind = FrameKind::Headers;
    let mut flags = if end_stream { END_STREAM } else { 0 };
    let mut rest = block;
    loop {
        let (fragment, tail) = rest.split_at(rest.len().min(MAX_FRAME_BYTES));
        rest = tail;
        if rest.is_empty() {
            flags |= END_HEADERS;
        }
        write_frame(out, kind, flags, stream, fragment);
        if rest.is_empty() {
            return;
        }
        (kind, flags) = (FrameKind::Continuation, 0);
    }
}

pub(crate) fn write_rst_stream(out: &mut Vec<u8>, stream: u32, code: ErrorCode) {
    let payload = u32::from(code).to_be_bytes();
    write_frame(out, FrameKind::Reset, 0, stream, &payload);
}

/// Appends settings: their identifiers and values.
pub(crate) fn write_settings(out: &mut Vec<u8>, settings: &[(u16, u32)]) {
    let header = FrameHeader::new(FrameKind::Settings, 0, 0, 6 * settings.len());
    write_header(out, header);
    for (id, value) in settings {
        out.extend_from_slice(&id.to_be_bytes());
        out.extend_from_slice(&value.to_be_bytes());
    }
}

pub(crate) fn write_settings_ack(out: &mut Vec<u8>) {
    write_frame(out, FrameKind::Settings, ACK, 0, &[]);
}

pub(crate) fn write_ping(out: &mut Vec<u8>, data: [u8; 8]) {
    write_frame(out, FrameKind::Ping, 0, 0, &data);
}

pub(crate) fn write_ping_ack(out: &mut Vec<u8>, data: [u8; 8]) {
    write_frame(out, FrameKind::Ping, ACK, 0, &data);
}

/// Appends a GOAWAY frame. The debug data is for a reader of the client's log, and is cut off.
pub(crate) fn write_goaway(out: &mut Vec<u8>, last: u32, code: ErrorCode, debug: &[u8]) {
    let debug = &debug[..debug.len().min(MAX_DEBUG_BYTES)];
    let header = FrameHeader::new(FrameKind::GoAway, 0, 0, 8 + debug.len());
    write_header(out, header);
    out.extend_from_slice(&last.to_be_bytes());
    out.extend_from_slice(&u32::from(code).to_be_bytes());
    out.extend_from_slice(debug);
}

/// Appends a WINDOW_UPDATE frame, for the connection if `stream` is 0.
pub(crate) fn write_window_update(out: &mut Vec<u8>, stream: u32, increment: u32) {
    let payload = increment.to_be_bytes();
    write_frame(out, FrameKind::WindowUpdate, 0, stream, &payload);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::h2::frame::{FRAME_HEADER_BYTES, Frame};

    #[test]
    fn header_block_is_split_at_16384_bytes() {
        let table: &[(usize, &[usize])] = &[
            (0, &[0]),
            (1, &[1]),
            (16_384, &[16_384]),
            (16_385, &[16_384, 1]),
            (40_000, &[16_384, 16_384, 7_232]),
        ];
        for (len, expected) in table {
            for end_stream in [false, true] {
                let block: Vec<u8> = (0u8..=255).cycle().take(*len).collect();
                let mut out = Vec::new();
                write_headers(&mut out, 9, &block, end_stream);
                let (lens, joined, last) = read_block(&out, 9, end_stream);
                assert_eq!(lens, *expected);
                assert_eq!(joined, block);
                assert_eq!(last, lens.len() - 1, "END_HEADERS is on the last frame");
            }
        }
    }

    /// Reads the frames of a header block: their lengths, the block, and which has END_HEADERS.
    fn read_block(mut bytes: &[u8], id: u32, ends: bool) -> (Vec<usize>, Vec<u8>, usize) {
        let (mut lens, mut block, mut last) = (Vec::new(), Vec::new(), usize::MAX);
        while let Some((header, rest)) = bytes.split_first_chunk() {
            let header = FrameHeader::parse(header).expect("a valid header");
            let (payload, rest) = rest.split_at(header.len);
            let (fragment, is_last) = match Frame::parse(header, payload) {
                Ok(Frame::Headers {
                    stream,
                    fragment,
                    end_stream,
                    end_headers,
                    ..
                }) if lens.is_empty() => {
                    assert_eq!((stream, end_stream), (id, ends));
                    (fragment, end_headers)
                }
                Ok(Frame::Continuation {
                    stream,
                    fragment,
                    end_headers,
                }) if !lens.is_empty() => {
                    assert_eq!(stream, id);
                    (fragment, end_headers)
                }
                other => panic!("{other:?}"),
            };
            if is_last {
                assert_eq!(last, usize::MAX, "END_HEADERS twice");
                last = lens.len();
            }
            lens.push(fragment.len());
            block.extend_from_slice(fragment);
            bytes = rest;
        }
        (lens, block, last)
    }

    #[test]
    fn written_frames_have_the_bytes_of_the_standard() {
        type Write = fn(&mut Vec<u8>);
        let table: &[(Write, &[u8])] = &[
            (
                |out| write_header(out, FrameHeader::data(1, 16_384, true)),
                b"\0\x40\0\0\x01\0\0\0\x01",
            ),
            (
                |out| write_header(out, FrameHeader::data(0x7FFF_FFFF, 0, false)),
                b"\0\0\0\0\0\x7F\xFF\xFF\xFF",
            ),
            (
                |out| write_headers(out, 1, b"ab", true),
                b"\0\0\x02\x01\x05\0\0\0\x01ab",
            ),
            (
                |out| write_rst_stream(out, 3, ErrorCode::Cancel),
                b"\0\0\x04\x03\0\0\0\0\x03\0\0\0\x08",
            ),
            (
                |out| write_settings(out, &[(3, 100), (9, 1)]),
                b"\0\0\x0C\x04\0\0\0\0\0\0\x03\0\0\0\x64\0\x09\0\0\0\x01",
            ),
            (write_settings_ack, b"\0\0\0\x04\x01\0\0\0\0"),
            (
                |out| write_ping(out, *b"12345678"),
                b"\0\0\x08\x06\0\0\0\0\x0012345678",
            ),
            (
                |out| write_ping_ack(out, *b"12345678"),
                b"\0\0\x08\x06\x01\0\0\0\x0012345678",
            ),
            (
                |out| write_goaway(out, 0x7FFF_FFFF, ErrorCode::NoError, b""),
                b"\0\0\x08\x07\0\0\0\0\0\x7F\xFF\xFF\xFF\0\0\0\0",
            ),
            (
                |out| write_goaway(out, 1, ErrorCode::EnhanceYourCalm, b"why"),
                b"\0\0\x0B\x07\0\0\0\0\0\0\0\0\x01\0\0\0\x0Bwhy",
            ),
            (
                |out| write_window_update(out, 0, 983_041),
                b"\0\0\x04\x08\0\0\0\0\0\0\x0F\0\x01",
            ),
        ];
        for (write, expected) in table {
            let mut out = b"before".to_vec();
            write(&mut out);
            assert_eq!(out, [b"before", *expected].concat());
        }
    }

    #[test]
    fn debug_data_of_goaway_is_bounded() {
        let mut out = Vec::new();
        write_goaway(&mut out, 1, ErrorCode::NoError, &[b'a'; 1000]);
        assert_eq!(out.len(), FRAME_HEADER_BYTES + 8 + MAX_DEBUG_BYTES);
    }
}
