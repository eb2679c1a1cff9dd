//! The preface, settings, and what frames mean in each state (RFC 9113 §3 to §6).

use super::support::*;
use crate::proto::h2::error_code::ErrorCode;
use crate::proto::{CloseReason, HTTP2_PREFACE};

const GET_1: &str = "1: 200 GET / ";

#[test]
fn server_sends_its_settings_first_and_acknowledges_those_of_the_client() {
    let mut conversation = Conversation::new();
    assert_eq!(conversation.run([]), End::Waiting);
    assert_eq!(
        conversation.sent,
        [Sent::Settings, Sent::WindowUpdate(0, 983_041)]
    );
    conversation.send(&preface());
    conversation.send(&settings(&[(INITIAL_WINDOW_SIZE, 1)]));
    let sent = conversation.sent.clone();
    assert_eq!(sent[2..], [Sent::SettingsAck, Sent::SettingsAck]);
}

#[test]
fn connection_begins_with_preface_and_settings() {
    let goaway = "GOAWAY 0 PROTOCOL_ERROR";
    let table: &[(Vec<u8>, &[&str])] = &[
        (preface(), &[]),
        (HTTP2_PREFACE.to_vec(), &[]),
        (HTTP2_PREFACE[..10].to_vec(), &[]),
        (b"GET / HTTP/1.1\r\nHost: h\r\n\r\n".to_vec(), &[goaway]),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\rX".to_vec(), &[goaway]),
        ([&HTTP2_PREFACE[..], &get(1, "/")].concat(), &[goaway]),
        (
            [&HTTP2_PREFACE[..], &frame(SETTINGS, ACK, 0, &[])].concat(),
            &[goaway],
        ),
        (
            [&HTTP2_PREFACE[..], &frame(PING, 0, 0, &[0; 8])].concat(),
            &[goaway],
        ),
    ];
    for (input, expected) in table {
        assert_eq!(converse(input), *expected, "{input:?}");
    }
}

#[test]
fn requests_get_their_responses_however_they_are_split() {
    let requests = [
        get(1, "/"),
        headers(3, END_STREAM, &head("HEAD", "/3")),
        get(5, "/empty"),
        post(7, "/7", &[("content-length", "5")]),
        get(9, "/9?q"),
        data(7, 0, b"hel"),
        data(7, END_STREAM, b"lo"),
    ];
    let expected = [
        GET_1,
        "3: 200 ",
        "5: 204 ",
        "7: 200 POST /7 hello",
        "9: 200 GET /9 ",
    ];
    assert_eq!(exchange(&requests), expected);
}

/// Frames after the preface, and what becomes of the streams.
#[test]
fn frames_are_checked_in_the_state_of_their_stream() {
    let protocol = "GOAWAY 0 PROTOCOL_ERROR";
    let size = "GOAWAY 0 FRAME_SIZE_ERROR";
    let with = |first: &str, rest: &[&str]| {
        let first = std::iter::once(first.to_owned());
        first
            .chain(rest.iter().map(|it| (*it).to_owned()))
            .collect()
    };
    let only = |text: &str| vec![text.to_owned()];
    let closed_stream = || get(1, "/");
    let open_stream = || post(1, "/", &[]);
    let table: Vec<(Vec<Vec<u8>>, Vec<String>)> = vec![
        // §4.1: unknown types, unused flags and the reserved bit are ignored.
        (vec![frame(0x77, 0xff, 5, b"xyz"), get(1, "/")], only(GET_1)),
        (
            vec![frame(
                HEADERS,
                0xC2 | END_STREAM | END_HEADERS,
                1 << 31 | 1,
                &block(&head("GET", "/")),
            )],
            only(GET_1),
        ),
        // §4.2.
        (
            vec![frame(0x77, 0, 0, &[0; 16_384]), get(1, "/")],
            only(GET_1),
        ),
        (vec![frame(0x77, 0, 0, &[0; 16_385])], only(size)),
        (vec![frame(PING, 0, 0, &[0; 7])], only(size)),
        (vec![frame(SETTINGS, 0, 0, &[0; 5])], only(size)),
        (vec![frame(SETTINGS, ACK, 0, &[0; 6])], only(size)),
        // §4.3: nothing may interrupt a field block.
        (
            vec![
                frame(HEADERS, END_STREAM, 1, &block(&head("GET", "/"))),
                frame(PING, 0, 0, &[0; 8]),
            ],
            only(protocol),
        ),
        (
            vec![
                frame(HEADERS, END_STREAM, 1, &block(&head("GET", "/"))),
                frame(0x77, 0, 0, &[]),
            ],
            only(protocol),
        ),
        (
            vec![
                frame(HEADERS, END_STREAM, 1, &block(&head("GET", "/"))),
                frame(CONTINUATION, 4, 3, &[]),
            ],
            only(protocol),
        ),
        (
            vec![frame(HEADERS, END_HEADERS | END_STREAM, 1, &[0x80])],
            only("GOAWAY 0 COMPRESSION_ERROR"),
        ),
        // §5.1: idle streams.
        (vec![data(1, END_STREAM, b"x")], only(protocol)),
        (vec![reset(1, ErrorCode::Cancel)], only(protocol)),
        (vec![window_update(1, 1)], only(protocol)),
        (vec![window_update(2, 1)], only(protocol)),
        (
            vec![frame(CONTINUATION, END_HEADERS, 1, &[])],
            only(protocol),
        ),
        // Half-closed by the client, with its job still out.
        (
            vec![get(1, "/later"), data(1, END_STREAM, b"x")],
            only("1: RST STREAM_CLOSED"),
        ),
        (
            vec![get(1, "/later"), get(1, "/later")],
            only("1: RST STREAM_CLOSED"),
        ),
        (vec![get(1, "/later"), window_update(1, 1)], vec![]),
        // Closed by END_STREAM in both directions.
        (
            vec![closed_stream(), data(1, END_STREAM, b"x")],
            only(&format!("{GET_1}RST STREAM_CLOSED")),
        ),
        (
            vec![closed_stream(), get(1, "/")],
            with(GET_1, &["GOAWAY 1 STREAM_CLOSED"]),
        ),
        (vec![closed_stream(), window_update(1, 1)], only(GET_1)),
        (
            vec![closed_stream(), reset(1, ErrorCode::Cancel)],
            only(GET_1),
        ),
        // Closed by RST_STREAM of the client.
        (
            vec![
                open_stream(),
                reset(1, ErrorCode::Cancel),
                data(1, END_STREAM, b"x"),
            ],
            only("1: RST STREAM_CLOSED"),
        ),
        (
            vec![
                open_stream(),
                reset(1, ErrorCode::Cancel),
                window_update(1, 1),
            ],
            vec![],
        ),
        // Closed by RST_STREAM of the server: what was in transit is ignored.
        (
            vec![
                post(1, "/no-body", &[("content-length", "99999")]),
                data(1, 0, b"x"),
                data(1, END_STREAM, b"y"),
                get(3, "/"),
            ],
            vec![
                "1: 200 not wantedRST NO_ERROR".to_owned(),
                "3: 200 GET / ".to_owned(),
            ],
        ),
        // §5.1.1.
        (vec![get(2, "/")], only(protocol)),
        (
            vec![get(5, "/"), get(3, "/")],
            with("5: 200 GET / ", &["GOAWAY 5 PROTOCOL_ERROR"]),
        ),
        // §5.3: ignored, but for its form.
        (
            vec![frame(PRIORITY, 0, 1, &[0, 0, 0, 1, 7]), get(1, "/")],
            only(GET_1),
        ),
        (
            vec![open_stream(), frame(PRIORITY, 0, 1, &[0; 4])],
            only("1: RST FRAME_SIZE_ERROR"),
        ),
        (vec![frame(PRIORITY, 0, 0, &[0; 5])], only(protocol)),
        // RFC 9218 §7.1.
        (
            vec![
                frame(PRIORITY_UPDATE, 0, 0, b"\0\0\0\x01u=1, i"),
                get(1, "/"),
            ],
            only(GET_1),
        ),
        (
            vec![frame(PRIORITY_UPDATE, 0, 0, b"\0\0\0\0u=1")],
            only(protocol),
        ),
        // §6.1 to §6.3.
        (vec![data(0, 0, b"x")], only(protocol)),
        (
            vec![open_stream(), data(1, PADDED, &[5, 1, 2])],
            only("GOAWAY 1 PROTOCOL_ERROR"),
        ),
        (
            vec![open_stream(), data(1, PADDED | END_STREAM, &[1, b'a', 0])],
            only("1: 200 POST / a"),
        ),
        (
            vec![headers(0, END_STREAM, &head("GET", "/"))],
            only(protocol),
        ),
        (vec![frame(RST_STREAM, 0, 0, &[0; 4])], only(protocol)),
        (
            vec![open_stream(), frame(RST_STREAM, 0, 1, &[0; 3])],
            only("GOAWAY 1 FRAME_SIZE_ERROR"),
        ),
        // §6.5 to §6.9.
        (vec![frame(SETTINGS, 0, 1, &[])], only(protocol)),
        (vec![settings(&[(2, 2)])], only(protocol)),
        (
            vec![settings(&[(INITIAL_WINDOW_SIZE, 1 << 31)])],
            only("GOAWAY 0 FLOW_CONTROL_ERROR"),
        ),
        (vec![settings(&[(0x99, 7)]), get(1, "/")], only(GET_1)),
        (
            vec![frame(PUSH_PROMISE, END_HEADERS, 1, &[0; 4])],
            only(protocol),
        ),
        (vec![frame(PING, 0, 0, &[7; 8])], only("PING")),
        (vec![frame(PING, ACK, 0, &[7; 8])], vec![]),
        (vec![frame(PING, 0, 1, &[7; 8])], only(protocol)),
        (vec![frame(GOAWAY, 0, 0, &[0; 8]), get(1, "/")], only(GET_1)),
        (vec![frame(GOAWAY, 0, 1, &[0; 8])], only(protocol)),
        (vec![window_update(0, 0)], only(protocol)),
        (
            vec![open_stream(), window_update(1, 0)],
            only("1: RST PROTOCOL_ERROR"),
        ),
        (
            vec![window_update(0, 0x7FFF_FFFF)],
            only("GOAWAY 0 FLOW_CONTROL_ERROR"),
        ),
        (
            vec![open_stream(), window_update(1, 0x7FFF_FFFF)],
            only("1: RST FLOW_CONTROL_ERROR"),
        ),
        // §6.10.
        (
            vec![
                frame(HEADERS, END_STREAM, 1, &block(&head("GET", "/"))[..3]),
                frame(CONTINUATION, END_HEADERS, 1, &block(&head("GET", "/"))[3..]),
            ],
            only(GET_1),
        ),
        (
            vec![get(1, "/later"), frame(CONTINUATION, END_HEADERS, 1, &[])],
            only("GOAWAY 1 PROTOCOL_ERROR"),
        ),
        // §7: unknown codes are no errors.
        (
            vec![
                open_stream(),
                frame(RST_STREAM, 0, 1, &[0xff; 4]),
                get(3, "/"),
            ],
            only("3: 200 GET / "),
        ),
    ];
    for (frames, expected) in &table {
        assert_eq!(in_steps(frames), *expected, "{frames:?}");
    }
}

#[test]
fn connection_closes_after_an_error() {
    let mut conversation = Conversation::begun();
    conversation.send(&frame(SETTINGS, 0, 1, &[]));
    assert!(conversation.shut_down);
    assert_eq!(conversation.send(&get(1, "/")), End::Waiting);
    assert_eq!(conversation.end_input(), End::Closed(CloseReason::Finished));
    assert_eq!(conversation.summary(), ["GOAWAY 0 PROTOCOL_ERROR"]);
}

#[test]
fn table_of_compressed_fields_is_kept_over_blocks_that_are_not_used() {
    // A literal with incremental indexing: x-name: value, then index 62.
    let literal = |block: &mut Vec<u8>| block.extend_from_slice(b"\x40\x06x-name\x05value");
    let mut refused = block(&head("GET", "/bad"));
    literal(&mut refused);
    // Malformed, after the field was added to the table.
    refused.extend(block(&[("connection", "close")]));
    let mut used = block(&head("GET", "/good"));
    used.push(0x80 | 62);
    let frames = [
        frame(HEADERS, END_STREAM | END_HEADERS, 1, &refused),
        frame(HEADERS, END_STREAM | END_HEADERS, 3, &used),
    ];
    let expected = ["1: RST PROTOCOL_ERROR", "3: 200 GET /good "];
    assert_eq!(exchange(&frames), expected);
}

/// RFC 9113 §5.1, §6.4: streams that only the server could open are idle, and are not reset.
#[test]
fn faulty_frames_on_streams_of_the_server_are_errors_of_the_connection() {
    for faulty in [window_update(2, 0), frame(PRIORITY, 0, 2, &[0; 4])] {
        let summary = in_steps(&[get(3, "/later"), faulty]);
        assert_eq!(summary, ["GOAWAY 3 PROTOCOL_ERROR"]);
    }
}

/// RFC 9218 §7.1: streams that are open or that have a priority are at most as many as may be open.
#[test]
fn priorities_of_more_streams_than_may_open_are_an_error() {
    let update = |id: u32| {
        frame(
            PRIORITY_UPDATE,
            0,
            0,
            &[&id.to_be_bytes()[..], b"u=1"].concat(),
        )
    };
    let mut conversation = Conversation::begun();
    // One stream is active, and one was reset while its job runs.
    conversation.send(&[get(1, "/later"), get(3, "/later")].concat());
    conversation.send(&reset(3, ErrorCode::Cancel));
    for at in 0..99 {
        conversation.send(&update(5 + 2 * at));
    }
    // One that has a priority already, and one that is closed.
    conversation.send(&[update(5), update(3)].concat());
    assert_eq!(conversation.summary(), [""; 0]);
    conversation.send(&update(203));
    assert_eq!(conversation.summary(), ["GOAWAY 3 PROTOCOL_ERROR"]);
}
