//! What a client writes and reads: frames.

use std::collections::BTreeMap;

use crate::proto::HTTP2_PREFACE;
use crate::proto::h2::error_code::ErrorCode;
use crate::proto::h2::hpack::{self, DecodedFields, Decoder, FieldBudget};

pub(super) const END_STREAM: u8 = 0x1;
pub(super) const ACK: u8 = 0x1;
pub(super) const END_HEADERS: u8 = 0x4;
pub(super) const PADDED: u8 = 0x8;

pub(super) const DATA: u8 = 0x0;
pub(super) const HEADERS: u8 = 0x1;
pub(super) const PRIORITY: u8 = 0x2;
pub(super) const RST_STREAM: u8 = 0x3;
pub(super) const SETTINGS: u8 = 0x4;
pub(super) const PUSH_PROMISE: u8 = 0x5;
pub(super) const PING: u8 = 0x6;
pub(super) const GOAWAY: u8 = 0x7;
pub(super) const WINDOW_UPDATE: u8 = 0x8;
pub(super) const CONTINUATION: u8 = 0x9;
pub(super) const PRIORITY_UPDATE: u8 = 0x10;

pub(super) const INITIAL_WINDOW_SIZE: u16 = 0x4;

pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let [.., l0, l1, l2] = payload.len().to_be_bytes();
    let mut bytes = vec![l0, l1, l2, kind, flags];
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

pub(super) fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        hpack::encode_field(name.as_bytes(), value.as_bytes(), &mut block);
    }
    block
}

pub(super) fn headers(stream: u32, flags: u8, fields: &[(&str, &str)]) -> Vec<u8> {
    frame(HEADERS, flags | END_HEADERS, stream, &block(fields))
}

pub(super) fn head<'a>(method: &'a str, path: &'a str) -> Vec<(&'a str, &'a str)> {
    vec![
        (":method", method),
        (":scheme", "https"),
        (":authority", "h"),
        (":path", path),
    ]
}

/// A request without a body.
pub(super) fn get(stream: u32, path: &str) -> Vec<u8> {
    headers(stream, END_STREAM, &head("GET", path))
}

/// The head of a request with a body.
pub(super) fn post(stream: u32, path: &str, more: &[(&str, &str)]) -> Vec<u8> {
    let fields = [&head("POST", path)[..], more].concat();
    headers(stream, 0, &fields)
}

pub(super) fn data(stream: u32, flags: u8, bytes: &[u8]) -> Vec<u8> {
    frame(DATA, flags, stream, bytes)
}

pub(super) fn reset(stream: u32, code: ErrorCode) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &u32::from(code).to_be_bytes())
}

pub(super) fn window_update(stream: u32, increment: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, stream, &increment.to_be_bytes())
}

pub(super) fn settings(settings: &[(u16, u32)]) -> Vec<u8> {
    let mut payload = Vec::new();
    for (id, value) in settings {
        payload.extend_from_slice(&id.to_be_bytes());
        payload.extend_from_slice(&value.to_be_bytes());
    }
    frame(SETTINGS, 0, 0, &payload)
}

/// What every client begins with.
pub(super) fn preface() -> Vec<u8> {
    preface_with(&[])
}

pub(super) fn preface_with(initial: &[(u16, u32)]) -> Vec<u8> {
    [
        &HTTP2_PREFACE[..],
        &settings(initial),
        &frame(SETTINGS, ACK, 0, &[]),
    ]
    .concat()
}

/// A frame of the server, as far as a client cares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    Settings,
    SettingsAck,
    Ping,
    PingAck([u8; 8]),
    WindowUpdate(u32, u32),
    Head {
        stream: u32,
        fields: Vec<(String, String)>,
        ends: bool,
    },
    /// The beginning of a head that continues in another frame.
    HeadPart {
        stream: u32,
        ends: bool,
        block: Vec<u8>,
    },
    Data {
        stream: u32,
        bytes: Vec<u8>,
        ends: bool,
    },
    Reset(u32, ErrorCode),
    GoAway(u32, ErrorCode),
}

/// Removes the complete frames from the output of a server.
pub(super) fn take_frames(output: &mut Vec<u8>, sent: &mut Vec<Sent>) {
    let mut rest = &output[..];
    while let Some((header, tail)) = rest.split_at_checked(9) {
        let len =
            usize::from(header[0]) << 16 | usize::from(header[1]) << 8 | usize::from(header[2]);
        assert!(len <= 16_384, "a frame of {len} bytes");
        let stream = u32::from_be_bytes([header[5], header[6], header[7], header[8]]);
        let Some((payload, tail)) = tail.split_at_checked(len) else {
            break;
        };
        let (kind, flags) = (header[3], header[4]);
        match (kind, sent.last_mut()) {
            (
                CONTINUATION,
                Some(Sent::HeadPart {
                    stream: of,
                    ends,
                    block,
                }),
            ) => {
                assert_eq!(*of, stream);
                block.extend_from_slice(payload);
                if flags & END_HEADERS != 0 {
                    let fields = decode(block);
                    let ends = *ends;
                    sent.pop();
                    sent.push(Sent::Head {
                        stream,
                        fields,
                        ends,
                    });
                }
            }
            _ => sent.push(parse_frame(kind, flags, stream, payload)),
        }
        rest = tail;
    }
    let left = rest.len();
    output.drain(..output.len() - left);
}

fn parse_frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Sent {
    let number = |at: usize| {
        let bytes = payload[at..at + 4].try_into().expect("four bytes");
        u32::from_be_bytes(bytes)
    };
    let code = |at| ErrorCode::from_u32(number(at)).expect("a known code");
    match kind {
        DATA => Sent::Data {
            stream,
            bytes: payload.to_vec(),
            ends: flags & END_STREAM != 0,
        },
        HEADERS if flags & END_HEADERS == 0 => Sent::HeadPart {
            stream,
            ends: flags & END_STREAM != 0,
            block: payload.to_vec(),
        },
        HEADERS => Sent::Head {
            stream,
            fields: decode(payload),
            ends: flags & END_STREAM != 0,
        },
        RST_STREAM => Sent::Reset(stream, code(0)),
        SETTINGS if flags & ACK != 0 => Sent::SettingsAck,
        SETTINGS => Sent::Settings,
        PING if flags & ACK != 0 => Sent::PingAck(payload.try_into().expect("eight bytes")),
        PING => Sent::Ping,
        GOAWAY => Sent::GoAway(number(0), code(4)),
        WINDOW_UPDATE => Sent::WindowUpdate(stream, number(0)),
        other => panic!("a frame of type {other}"),
    }
}

/// The server uses no dynamic table.
fn decode(block: &[u8]) -> Vec<(String, String)> {
    let budget = FieldBudget {
        bytes: usize::MAX,
        fields: usize::MAX,
    };
    let mut fields = DecodedFields::default();
    Decoder::new()
        .decode(block, budget, &mut fields)
        .expect("a valid block");
    let text = |range: &std::ops::Range<u32>| {
        let bytes = &fields.bytes[range.start as usize..range.end as usize];
        String::from_utf8_lossy(bytes).into_owned()
    };
    fields
        .spans
        .iter()
        .map(|span| (text(&span.name), text(&span.value)))
        .collect()
}

/// What became of the streams and of the connection: `1: 200 body` with an end, `1: 200 body…` without
/// one, `1: RST CANCEL`, `GOAWAY 1 NO_ERROR`, `PING`. Settings and windows are left out.
pub(super) fn summary(sent: &[Sent]) -> Vec<String> {
    let mut streams: BTreeMap<u32, String> = BTreeMap::new();
    let mut connection = Vec::new();
    let mut ended = Vec::new();
    for sent in sent {
        match sent {
            Sent::Head {
                stream,
                fields,
                ends,
            } => {
                let text = streams.entry(*stream).or_default();
                let (name, status) = &fields[0];
                assert_eq!(name, ":status");
                *text += &format!("{status} ");
                if *ends {
                    ended.push(*stream);
                }
            }
            Sent::Data {
                stream,
                bytes,
                ends,
            } => {
                assert!(!ended.contains(stream), "DATA after the end");
                let text = streams.get_mut(stream).expect("a head before DATA");
                *text += &String::from_utf8_lossy(bytes);
                if *ends {
                    ended.push(*stream);
                }
            }
            Sent::Reset(stream, code) => {
                let text = streams.entry(*stream).or_default();
                *text += &format!("RST {}", code.name());
                ended.push(*stream);
            }
            Sent::GoAway(last, code) => connection.push(format!("GOAWAY {last} {}", code.name())),
            Sent::PingAck(_) => connection.push("PING".to_owned()),
            Sent::HeadPart { stream, .. } => panic!("half of the head of {stream}"),
            Sent::Settings | Sent::SettingsAck | Sent::Ping | Sent::WindowUpdate(..) => {}
        }
    }
    let streams = streams.into_iter().map(|(stream, text)| {
        let end = if ended.contains(&stream) { "" } else { "…" };
        format!("{stream}: {text}{end}")
    });
    streams.chain(connection).collect()
}
