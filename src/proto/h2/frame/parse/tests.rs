//! Frames as bytes, and what they are parsed to.

use proptest::prelude::*;

use super::*;
use crate::proto::h2::frame::MAX_FRAME_BYTES;

/// The bytes of a frame.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = payload.len().to_be_bytes()[5..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// Parses bytes that are exactly one frame.
fn parse(bytes: &[u8]) -> Result<Frame<'_>, FrameError> {
    let (header, payload) = bytes.split_first_chunk().expect("a frame header");
    Frame::parse(FrameHeader::parse(header)?, payload)
}

const DATA: u8 = 0x0;
const HEADERS: u8 = 0x1;
const PRIORITY_FRAME: u8 = 0x2;
const RST_STREAM: u8 = 0x3;
const SETTINGS: u8 = 0x4;
const PUSH_PROMISE: u8 = 0x5;
const PING: u8 = 0x6;
const GOAWAY: u8 = 0x7;
const WINDOW_UPDATE: u8 = 0x8;
const CONTINUATION: u8 = 0x9;
const PRIORITY_UPDATE: u8 = 0x10;

const PROTOCOL: Result<Frame<'static>, FrameError> = Err(PROTOCOL_ERROR);
const SIZE: Result<Frame<'static>, FrameError> = Err(FRAME_SIZE_ERROR);

type Row<'a> = (u8, u8, u32, &'a [u8], Result<Frame<'a>, FrameError>);

fn check(table: &[Row<'_>]) {
    for (kind, flags, stream, payload, expected) in table {
        let context = format!("{kind:#x} {flags:#x} {stream} {payload:?}");
        let bytes = frame(*kind, *flags, *stream, payload);
        assert_eq!(parse(&bytes), *expected, "{context}");
        let reserved = frame(*kind, *flags, stream | RESERVED_BIT, payload);
        assert_eq!(parse(&reserved), *expected, "reserved bit: {context}");
    }
}

/// Adds the flags that a frame type does not define.
fn with_undefined_flags(rows: &[Row<'_>], defined: u8) {
    for (kind, flags, stream, payload, expected) in rows {
        let bytes = frame(*kind, flags | !defined, *stream, payload);
        assert_eq!(parse(&bytes), *expected, "{kind:#x}, flags {flags:#x}");
    }
}

#[test]
fn data_frames() {
    let data = |data, flow_len, end_stream| {
        Ok(Frame::Data {
            stream: 1,
            data,
            flow_len,
            end_stream,
        })
    };
    let rows: &[Row<'_>] = &[
        (DATA, 0, 1, b"", data(b"", 0, false)),
        (DATA, 0, 1, b"abc", data(b"abc", 3, false)),
        (DATA, END_STREAM, 1, b"abc", data(b"abc", 3, true)),
        (DATA, PADDED, 1, b"\0abc", data(b"abc", 4, false)),
        (DATA, PADDED, 1, b"\x02abc..", data(b"abc", 6, false)),
        // Padding as long as what follows its length leaves no data.
        (DATA, PADDED, 1, b"\x03abc", data(b"", 4, false)),
        (DATA, PADDED | END_STREAM, 1, b"\0", data(b"", 1, true)),
        (DATA, PADDED, 1, b"\x04abc", PROTOCOL),
        (DATA, PADDED, 1, b"\xFFabc", PROTOCOL),
        (DATA, PADDED, 1, b"\x01", PROTOCOL),
        (DATA, PADDED, 1, b"", SIZE),
        (DATA, 0, 0, b"abc", PROTOCOL),
        (DATA, PADDED, 0, b"", PROTOCOL),
    ];
    check(rows);
    with_undefined_flags(rows, END_STREAM | PADDED);
}

#[test]
fn headers_frames() {
    let headers = |fragment, end_stream, end_headers, depends_on_itself| {
        Ok(Frame::Headers {
            stream: 3,
            fragment,
            end_stream,
            end_headers,
            depends_on_itself,
        })
    };
    let plain = |fragment| headers(fragment, false, false, false);
    let both = PADDED | PRIORITY;
    let rows: &[Row<'_>] = &[
        (HEADERS, 0, 3, b"", plain(b"")),
        (HEADERS, 0, 3, b"abc", plain(b"abc")),
        (
            HEADERS,
            END_STREAM,
            3,
            b"abc",
            headers(b"abc", true, false, false),
        ),
        (
            HEADERS,
            END_HEADERS,
            3,
            b"abc",
            headers(b"abc", false, true, false),
        ),
        (HEADERS, PADDED, 3, b"\x02abc..", plain(b"abc")),
        (HEADERS, PADDED, 3, b"\x03abc", plain(b"")),
        (HEADERS, PADDED, 3, b"\x04abc", PROTOCOL),
        (HEADERS, PADDED, 3, b"", SIZE),
        (HEADERS, PRIORITY, 3, b"\0\0\0\x01\x10abc", plain(b"abc")),
        (HEADERS, PRIORITY, 3, b"\0\0\0\x01\x10", plain(b"")),
        (HEADERS, PRIORITY, 3, b"\0\0\0\x01", SIZE),
        (
            HEADERS,
            PRIORITY,
            3,
            b"\0\0\0\x03\x10a",
            headers(b"a", false, false, true),
        ),
        // The exclusive bit.
        (
            HEADERS,
            PRIORITY,
            3,
            b"\x80\0\0\x03\x10a",
            headers(b"a", false, false, true),
        ),
        (HEADERS, both, 3, b"\x01\0\0\0\x01\x10abc.", plain(b"abc")),
        (HEADERS, both, 3, b"\x01\0\0\0\x01\x10.", plain(b"")),
        // The priority does not count as padding.
        (HEADERS, both, 3, b"\x02\0\0\0\x01\x10.", PROTOCOL),
        (HEADERS, both, 3, b"\x01\0\0\0\x01", SIZE),
        (HEADERS, 0, 0, b"abc", PROTOCOL),
    ];
    check(rows);
    with_undefined_flags(rows, END_STREAM | END_HEADERS | PADDED | PRIORITY);
}

#[test]
fn frames_of_a_stream_with_fixed_length() {
    let priority = |depends_on_itself| {
        Ok(Frame::Priority {
            stream: 5,
            depends_on_itself,
        })
    };
    let stream_error = |code| Err(FrameError::Stream(5, code));
    let bad_priority = stream_error(ErrorCode::FrameSizeError);
    let update = |stream, increment| Ok(Frame::WindowUpdate { stream, increment });
    let max = 0x7FFF_FFFF;
    let rows: &[Row<'_>] = &[
        (PRIORITY_FRAME, 0, 5, b"\0\0\0\x01\xFF", priority(false)),
        (PRIORITY_FRAME, 0, 5, b"\x80\0\0\x05\0", priority(true)),
        (PRIORITY_FRAME, 0, 5, b"\0\0\0\x01", bad_priority),
        (PRIORITY_FRAME, 0, 5, b"\0\0\0\x01\xFF\0", bad_priority),
        (PRIORITY_FRAME, 0, 5, b"", bad_priority),
        (PRIORITY_FRAME, 0, 0, b"\0\0\0\x01\xFF", PROTOCOL),
        (PRIORITY_FRAME, 0, 0, b"", PROTOCOL),
        (
            RST_STREAM,
            0,
            5,
            b"\0\0\0\x08",
            Ok(Frame::Reset { stream: 5, code: 8 }),
        ),
        // Unknown codes are accepted.
        (
            RST_STREAM,
            0,
            5,
            b"\xFF\0\0\0",
            Ok(Frame::Reset {
                stream: 5,
                code: 0xFF00_0000,
            }),
        ),
        (RST_STREAM, 0, 5, b"\0\0\0", SIZE),
        (RST_STREAM, 0, 5, b"\0\0\0\x08\0", SIZE),
        (RST_STREAM, 0, 0, b"\0\0\0\x08", PROTOCOL),
        (WINDOW_UPDATE, 0, 5, b"\0\0\0\x01", update(5, 1)),
        (WINDOW_UPDATE, 0, 0, b"\0\0\0\x01", update(0, 1)),
        (WINDOW_UPDATE, 0, 5, b"\x7F\xFF\xFF\xFF", update(5, max)),
        (WINDOW_UPDATE, 0, 5, b"\xFF\xFF\xFF\xFF", update(5, max)),
        (
            WINDOW_UPDATE,
            0,
            5,
            b"\0\0\0\0",
            stream_error(ErrorCode::ProtocolError),
        ),
        (
            WINDOW_UPDATE,
            0,
            5,
            b"\x80\0\0\0",
            stream_error(ErrorCode::ProtocolError),
        ),
        (WINDOW_UPDATE, 0, 0, b"\0\0\0\0", PROTOCOL),
        (WINDOW_UPDATE, 0, 5, b"\0\0\x01", SIZE),
        (WINDOW_UPDATE, 0, 0, b"\0\0\0\x01\0", SIZE),
    ];
    check(rows);
    with_undefined_flags(rows, 0);
}

#[test]
fn frames_of_the_connection() {
    let settings = |ack, payload| Ok(Frame::Settings { ack, payload });
    let ping = |ack| {
        Ok(Frame::Ping {
            ack,
            data: *b"12345678",
        })
    };
    let goaway = Ok(Frame::GoAway { last: 7, code: 2 });
    let rows: &[Row<'_>] = &[
        (SETTINGS, 0, 0, b"", settings(false, b"")),
        (SETTINGS, 0, 0, b"123456", settings(false, b"123456")),
        (SETTINGS, 0, 0, &[0; 12], settings(false, &[0; 12])),
        (SETTINGS, 0, 0, b"12345", SIZE),
        (SETTINGS, 0, 0, b"1234567", SIZE),
        (SETTINGS, ACK, 0, b"", settings(true, b"")),
        (SETTINGS, ACK, 0, b"123456", SIZE),
        (SETTINGS, 0, 1, b"", PROTOCOL),
        (SETTINGS, ACK, 1, b"", PROTOCOL),
        (PING, 0, 0, b"12345678", ping(false)),
        (PING, ACK, 0, b"12345678", ping(true)),
        (PING, 0, 0, b"1234567", SIZE),
        (PING, 0, 0, b"123456789", SIZE),
        (PING, 0, 0, b"", SIZE),
        (PING, 0, 1, b"12345678", PROTOCOL),
    ];
    check(rows);
    with_undefined_flags(rows, ACK);
    let rows: &[Row<'_>] = &[
        (GOAWAY, 0, 0, b"\0\0\0\x07\0\0\0\x02", goaway),
        (GOAWAY, 0, 0, b"\x80\0\0\x07\0\0\0\x02debug", goaway),
        (GOAWAY, 0, 0, b"\0\0\0\x07\0\0\0", SIZE),
        (GOAWAY, 0, 0, b"", SIZE),
        (GOAWAY, 0, 1, b"\0\0\0\x07\0\0\0\x02", PROTOCOL),
    ];
    check(rows);
    with_undefined_flags(rows, 0);
}

#[test]
fn continuation_frames() {
    let continuation = |end_headers| {
        Ok(Frame::Continuation {
            stream: 1,
            fragment: b"abc",
            end_headers,
        })
    };
    let rows: &[Row<'_>] = &[
        (CONTINUATION, 0, 1, b"abc", continuation(false)),
        (CONTINUATION, END_HEADERS, 1, b"abc", continuation(true)),
        (CONTINUATION, 0, 0, b"abc", PROTOCOL),
    ];
    check(rows);
    // Padding and priority are flags of HEADERS only.
    with_undefined_flags(rows, END_HEADERS);
}

#[test]
fn priority_update_frames() {
    let update = |element, value| Ok(Frame::PriorityUpdate { element, value });
    let rows: &[Row<'_>] = &[
        (PRIORITY_UPDATE, 0, 0, b"\0\0\0\x01u=1", update(1, b"u=1")),
        (PRIORITY_UPDATE, 0, 0, b"\x80\0\0\x09", update(9, b"")),
        (PRIORITY_UPDATE, 0, 0, b"\0\0\0\0u=1", PROTOCOL),
        (PRIORITY_UPDATE, 0, 0, b"\0\0\0\x02u=1", PROTOCOL),
        (PRIORITY_UPDATE, 0, 0, b"\0\0\x01", SIZE),
        (PRIORITY_UPDATE, 0, 0, b"", SIZE),
        (PRIORITY_UPDATE, 0, 1, b"\0\0\0\x01u=1", PROTOCOL),
    ];
    check(rows);
    with_undefined_flags(rows, 0);
}

#[test]
fn unknown_types_are_ignored_whatever_they_contain() {
    for kind in [0x0A, 0x0B, 0x0C, 0x0F, 0x11, 0xFF] {
        for stream in [0, 1, 2] {
            check(&[(kind, 0xFF, stream, b"abc", Ok(Frame::Unknown))]);
        }
    }
}

#[test]
fn push_promise_is_reported() {
    let expected = Ok(Frame::PushPromise);
    check(&[(PUSH_PROMISE, END_HEADERS, 1, b"\0\0\0\x02", expected)]);
}

#[test]
fn frame_of_16384_bytes_is_accepted_and_a_longer_one_is_not() {
    for kind in 0..=0x11 {
        let header = |len: u32| {
            let [_, l0, l1, l2] = len.to_be_bytes();
            FrameHeader::parse(&[l0, l1, l2, kind, 0, 0, 0, 0, 1])
        };
        assert_eq!(header(16_384).map(|it| it.len), Ok(16_384));
        assert_eq!(header(16_385), Err(FRAME_SIZE_ERROR));
        assert_eq!(header(0xFF_FFFF), Err(FRAME_SIZE_ERROR));
    }
}

proptest! {
    #[test]
    fn any_bytes_are_parsed_or_rejected(
        kind in 0..0x14u8,
        flags: u8,
        stream: u32,
        payload in proptest::collection::vec(any::<u8>(), 0..20),
    ) {
        let _ = parse(&frame(kind, flags, stream, &payload));
    }

    #[test]
    fn header_is_read_as_it_was_written(
        len in 0..=MAX_FRAME_BYTES,
        kind: u8,
        flags: u8,
        stream in 0..RESERVED_BIT,
    ) {
        let header = FrameHeader { len, kind: FrameKind::from_u8(kind), flags, stream };
        prop_assert_eq!(FrameHeader::parse(&header.to_bytes()), Ok(header));
    }
}
