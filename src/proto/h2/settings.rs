//! Settings (RFC 9113 §6.5): what the server announces, and what it keeps of the client's.

use super::error_code::ErrorCode;
use super::flow::{DEFAULT_WINDOW_BYTES, MAX_WINDOW_BYTES};
use super::frame;

const ENABLE_PUSH: u16 = 0x2;
const MAX_CONCURRENT_STREAMS: u16 = 0x3;
const INITIAL_WINDOW_SIZE: u16 = 0x4;
const MAX_FRAME_SIZE: u16 = 0x5;
const MAX_HEADER_LIST_SIZE: u16 = 0x6;
/// RFC 9218 §2.1. It must be in the first SETTINGS frame, and must never change.
const NO_RFC7540_PRIORITIES: u16 = 0x9;

/// The values of SETTINGS_MAX_FRAME_SIZE that are valid (§6.5.2).
const FRAME_SIZES: std::ops::RangeInclusive<u32> = 16_384..=16_777_215;

/// Appends the SETTINGS frame of the server, which is the first frame that it sends. The settings that
/// are not in it have their defaults.
pub(crate) fn write_server_settings(out: &mut Vec<u8>, max_streams: u32, max_head_bytes: u32) {
    let settings = [
        (MAX_CONCURRENT_STREAMS, max_streams),
        (MAX_HEADER_LIST_SIZE, max_head_bytes),
        (NO_RFC7540_PRIORITIES, 1),
    ];
    frame::write_settings(out, &settings);
}

/// The settings of the client that matter.
///
/// The others do not: the encoder uses no dynamic table, no frame is longer than every client accepts,
/// nothing is pushed, and MAX_HEADER_LIST_SIZE is advisory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PeerSettings {
    /// The send window of a new stream, in bytes: at most [`MAX_WINDOW_BYTES`].
    pub(crate) initial_window: u32,
}

impl Default for PeerSettings {
    fn default() -> Self {
        Self {
            initial_window: DEFAULT_WINDOW_BYTES,
        }
    }
}

impl PeerSettings {
    /// Applies the payload of a SETTINGS frame, in the order of its settings, and returns by how much
    /// the send window of each stream changes. Unknown settings are ignored.
    ///
    /// # Errors
    ///
    /// The code of a connection error. No setting has been applied then.
    pub(crate) fn apply(&mut self, payload: &[u8]) -> Result<i32, ErrorCode> {
        let before = *self;
        let mut after = before;
        let mut rest = payload;
        while let Some((&[i0, i1, v0, v1, v2, v3], tail)) = rest.split_first_chunk() {
            let id = u16::from_be_bytes([i0, i1]);
            after.set(id, u32::from_be_bytes([v0, v1, v2, v3]))?;
            rest = tail;
        }
        if !rest.is_empty() {
            return Err(ErrorCode::FrameSizeError);
        }
        *self = after;
        let delta = i64::from(after.initial_window) - i64::from(before.initial_window);
        // Both are from 0 to 2^31-1.
        i32::try_from(delta).map_err(|_| ErrorCode::FlowControlError)
    }

    fn set(&mut self, id: u16, value: u32) -> Result<(), ErrorCode> {
        match id {
            ENABLE_PUSH | NO_RFC7540_PRIORITIES if value > 1 => Err(ErrorCode::ProtocolError),
            MAX_FRAME_SIZE if !FRAME_SIZES.contains(&value) => Err(ErrorCode::ProtocolError),
            INITIAL_WINDOW_SIZE if value > MAX_WINDOW_BYTES => Err(ErrorCode::FlowControlError),
            INITIAL_WINDOW_SIZE => {
                self.initial_window = value;
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::frame::{FRAME_HEADER_BYTES, Frame, FrameHeader};
    use super::*;

    const HEADER_TABLE_SIZE: u16 = 0x1;
    const ENABLE_CONNECT_PROTOCOL: u16 = 0x8;

    fn payload(settings: &[(u16, u32)]) -> Vec<u8> {
        let mut out = Vec::new();
        frame::write_settings(&mut out, settings);
        out.split_off(FRAME_HEADER_BYTES)
    }

    /// The initial window afterwards, and by how much it changed.
    fn apply(settings: &[(u16, u32)]) -> Result<(u32, i32), ErrorCode> {
        let mut peer = PeerSettings::default();
        let result = peer.apply(&payload(settings));
        if result.is_err() {
            assert_eq!(peer, PeerSettings::default(), "{settings:?}");
        }
        result.map(|delta| (peer.initial_window, delta))
    }

    #[test]
    fn settings_are_applied_or_rejected() {
        let unchanged = Ok((65_535, 0));
        let protocol = Err(ErrorCode::ProtocolError);
        let flow_control = Err(ErrorCode::FlowControlError);
        type Expected = Result<(u32, i32), ErrorCode>;
        let table: &[(&[(u16, u32)], Expected)] = &[
            (&[], unchanged),
            (&[(HEADER_TABLE_SIZE, 0)], unchanged),
            (&[(HEADER_TABLE_SIZE, u32::MAX)], unchanged),
            (&[(ENABLE_PUSH, 0)], unchanged),
            (&[(ENABLE_PUSH, 1)], unchanged),
            (&[(ENABLE_PUSH, 2)], protocol),
            (&[(MAX_CONCURRENT_STREAMS, 0)], unchanged),
            (&[(INITIAL_WINDOW_SIZE, 0)], Ok((0, -65_535))),
            (
                &[(INITIAL_WINDOW_SIZE, 6_291_456)],
                Ok((6_291_456, 6_225_921)),
            ),
            (
                &[(INITIAL_WINDOW_SIZE, 0x7FFF_FFFF)],
                Ok((0x7FFF_FFFF, 0x7FFF_0000)),
            ),
            (&[(INITIAL_WINDOW_SIZE, 0x8000_0000)], flow_control),
            (&[(INITIAL_WINDOW_SIZE, u32::MAX)], flow_control),
            (&[(MAX_FRAME_SIZE, 16_383)], protocol),
            (&[(MAX_FRAME_SIZE, 16_384)], unchanged),
            (&[(MAX_FRAME_SIZE, 16_777_215)], unchanged),
            (&[(MAX_FRAME_SIZE, 16_777_216)], protocol),
            (&[(MAX_HEADER_LIST_SIZE, 0)], unchanged),
            (&[(ENABLE_CONNECT_PROTOCOL, 7)], unchanged),
            (&[(NO_RFC7540_PRIORITIES, 0)], unchanged),
            (&[(NO_RFC7540_PRIORITIES, 1)], unchanged),
            (&[(NO_RFC7540_PRIORITIES, 2)], protocol),
            (&[(0, u32::MAX)], unchanged),
            (&[(0xFFFF, u32::MAX)], unchanged),
            // The last of equal settings wins, but a bad one remains an error.
            (
                &[(INITIAL_WINDOW_SIZE, 1), (INITIAL_WINDOW_SIZE, 65_545)],
                Ok((65_545, 10)),
            ),
            (&[(ENABLE_PUSH, 2), (ENABLE_PUSH, 0)], protocol),
            (&[(INITIAL_WINDOW_SIZE, 1), (ENABLE_PUSH, 2)], protocol),
        ];
        for (settings, expected) in table {
            assert_eq!(apply(settings), *expected, "{settings:?}");
        }
    }

    #[test]
    fn settings_of_several_frames_add_up() {
        let mut peer = PeerSettings::default();
        let delta =
            |peer: &mut PeerSettings, size| peer.apply(&payload(&[(INITIAL_WINDOW_SIZE, size)]));
        assert_eq!(delta(&mut peer, 0x7FFF_FFFF), Ok(0x7FFF_0000));
        assert_eq!(delta(&mut peer, 0), Ok(-0x7FFF_FFFF));
        assert_eq!(delta(&mut peer, 0), Ok(0));
        assert_eq!(delta(&mut peer, 10), Ok(10));
    }

    #[test]
    fn incomplete_setting_is_a_frame_size_error() {
        for len in [1, 5, 7, 11] {
            let result = PeerSettings::default().apply(&vec![0; len]);
            assert_eq!(result, Err(ErrorCode::FrameSizeError));
        }
    }

    #[test]
    fn server_settings_are_valid_settings() {
        let mut out = Vec::new();
        write_server_settings(&mut out, 100, 16_384);
        let (header, rest) = out.split_first_chunk().expect("a frame header");
        let header = FrameHeader::parse(header).expect("a valid header");
        let expected = payload(&[(0x3, 100), (0x6, 16_384), (0x9, 1)]);
        let frame = Frame::Settings {
            ack: false,
            payload: &expected,
        };
        assert_eq!(Frame::parse(header, rest), Ok(frame));
        assert_eq!(PeerSettings::default().apply(rest), Ok(0));
    }
}
