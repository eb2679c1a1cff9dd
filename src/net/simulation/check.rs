//! Checks the bytes that were sent with a parser of its own.

use super::host::{SimulatedExchange, Stage};
use super::publisher::PIECE_BYTE;
use crate::proto::CloseReason;
use crate::proto::record::{Completion, Record};

/// How much of a response was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    Complete,
    Part,
    /// Up to the end of the connection.
    End,
}

struct Parsed<'a> {
    status: u16,
    head: &'a str,
    reach: Reach,
    content: Vec<u8>,
    /// Bytes of the body on the wire.
    wire: u64,
}

/// Asserts that `sent` are the responses to `exchanges`, one each and in order, possibly truncated,
/// and that `records` describe them.
pub(super) fn check(
    sent: &[u8],
    exchanges: &[SimulatedExchange],
    records: &[Record],
    reason: CloseReason,
    aborted: bool,
) {
    assert!(!aborted || reason != CloseReason::Finished);
    let mut rest = sent;
    let mut records = records.iter();
    let mut over = false;
    for (at, exchange) in exchanges.iter().enumerate() {
        let record = records.next().expect("a record for each exchange");
        assert_eq!(String::from_utf8_lossy(&record.line), exchange.line);
        if over {
            assert!(rest.is_empty(), "bytes after the last response");
        }
        let interim = b"HTTP/1.1 100 Continue\r\n\r\n";
        if let Some(after) = rest.strip_prefix(interim) {
            assert!(exchange.expects, "100 Continue without Expect");
            rest = after;
        } else if exchange.expects && interim.starts_with(rest) {
            rest = &[];
        }
        let head_only = exchange.line.starts_with("HEAD ");
        let Some(mut parsed) = parse(&mut rest, head_only) else {
            assert_ne!(
                reason,
                CloseReason::Finished,
                "{} is not answered",
                exchange.line
            );
            assert_eq!(record.outcome, Completion::Aborted);
            assert_eq!(record.content_bytes, 0);
            over = true;
            continue;
        };
        assert!(
            exchange.stage != Stage::Admitted,
            "a response without a handler"
        );
        // A disk has failed before the head was sent.
        if exchange.failed && parsed.status == 500 && exchange.status != 500 {
            assert_eq!(record.status.as_u16(), 500);
            assert!(parsed.head.lines().any(|line| line == "Connection: close"));
            over = true;
            continue;
        }
        assert_eq!(parsed.status, exchange.status);
        assert_eq!(parsed.status, record.status.as_u16());
        let expected = format!("X-At: {at}");
        assert!(
            parsed.head.lines().any(|line| line == expected),
            "{}",
            parsed.head
        );
        assert_eq!(record.content_bytes, parsed.wire, "{record:?}");
        if exchange.has_heartbeats {
            parsed.content.retain(|byte| *byte == PIECE_BYTE);
        }
        if head_only {
            assert_eq!(parsed.content, b"");
        } else {
            assert!(exchange.content.starts_with(&parsed.content), "wrong bytes");
        }
        match parsed.reach {
            // All announced bytes were sent before the producer has failed to end the body.
            Reach::Complete if exchange.announced && record.outcome == Completion::Aborted => {
                assert_ne!(reason, CloseReason::Finished);
                over = true;
            }
            Reach::End if record.outcome == Completion::Aborted => {
                assert!(aborted, "a truncated body looks complete");
            }
            Reach::Complete | Reach::End => {
                let is_whole = parsed.content.len() == exchange.content.len();
                assert!(head_only || is_whole || exchange.may_end_early);
                assert_eq!(record.outcome, Completion::Complete);
                assert!(!exchange.failed, "a failed body looks complete");
            }
            Reach::Part => {
                assert_ne!(
                    reason,
                    CloseReason::Finished,
                    "{} is truncated",
                    exchange.line
                );
                assert_eq!(record.outcome, Completion::Aborted);
                over = true;
            }
        }
        over |= parsed.head.lines().any(|line| line == "Connection: close");
    }
    // An invalid request is rejected without a handler.
    if let Some(record) = records.next() {
        let status = record.status.as_u16();
        assert!(
            [400, 408, 414, 431, 501, 505].contains(&status),
            "{record:?}"
        );
        assert!(!over || rest.is_empty(), "bytes after the last response");
        let head_only = record.line.starts_with(b"HEAD ");
        if let Some(parsed) = parse(&mut rest, head_only) {
            assert_eq!(parsed.status, status);
            assert!(parsed.head.lines().any(|line| line == "Connection: close"));
            assert_eq!(
                parsed.reach == Reach::Complete,
                record.outcome == Completion::Complete
            );
        }
    }
    assert!(records.next().is_none(), "a record without an exchange");
    assert!(rest.is_empty(), "{:?}", String::from_utf8_lossy(rest));
}

/// Parses the next response or the part of it that was sent; `None` if its head is incomplete.
fn parse<'a>(rest: &mut &'a [u8], head_only: bool) -> Option<Parsed<'a>> {
    let Some(head_len) = memchr::memmem::find(rest, b"\r\n\r\n") else {
        assert!(rest.first().is_none_or(|byte| *byte == b'H'), "no head");
        *rest = &[];
        return None;
    };
    let (head, after) = rest.split_at(head_len + 4);
    *rest = after;
    let head = std::str::from_utf8(head).expect("a head");
    let status = head.strip_prefix("HTTP/1.1 ").expect("a status line");
    let status: u16 = status[..3].parse().expect("a status");
    let field = |name: &str| head.lines().find_map(|line| line.strip_prefix(name));
    let lengths = head.matches("Content-Length").count();
    let codings = head.matches("Transfer-Encoding").count();
    assert!(lengths + codings <= 1, "framed twice: {head}");
    let mut parsed = Parsed {
        status,
        head,
        reach: Reach::Complete,
        content: Vec::new(),
        wire: 0,
    };
    if head_only || status == 204 || status == 304 {
        assert!(
            status == 200 || head_only || lengths + codings == 0,
            "{head}"
        );
        return Some(parsed);
    }
    let before = rest.len();
    if codings == 1 {
        parsed.reach = dechunk(rest, &mut parsed.content);
    } else if let Some(length) = field("Content-Length: ") {
        let length: usize = length.parse().expect("a length");
        let (content, after) = rest.split_at(length.min(rest.len()));
        parsed.content = content.to_vec();
        *rest = after;
        if content.len() < length {
            parsed.reach = Reach::Part;
        }
    } else {
        assert!(
            head.contains("Connection: close"),
            "the body has no end: {head}"
        );
        parsed.content = std::mem::take(rest).to_vec();
        parsed.reach = Reach::End;
    }
    parsed.wire = (before - rest.len()) as u64;
    Some(parsed)
}

fn dechunk(rest: &mut &[u8], content: &mut Vec<u8>) -> Reach {
    let truncated = |rest: &mut &[u8]| {
        *rest = &[];
        Reach::Part
    };
    loop {
        let Some(line_len) = memchr::memmem::find(rest, b"\r\n") else {
            return truncated(rest);
        };
        let line = std::str::from_utf8(&rest[..line_len]).expect("a size");
        let size = usize::from_str_radix(line, 16).expect("a size");
        let after = &rest[line_len + 2..];
        let chunk = &after[..size.min(after.len())];
        content.extend_from_slice(chunk);
        let Some(end) = after.get(size..size + 2) else {
            return truncated(rest);
        };
        assert_eq!(end, b"\r\n", "a chunk's end");
        *rest = &after[size + 2..];
        if size == 0 {
            return Reach::Complete;
        }
    }
}
