//! What came out, read by somebody who knows nothing of how it was made.

use super::host::{Exchange, Stage};
use crate::proto::CloseReason;
use crate::proto::record::{Completion, Record};

/// How far a response came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    Whole,
    Part,
    /// To the end of the connection.
    End,
}

struct Parsed<'a> {
    status: u16,
    head: &'a str,
    reach: Reach,
    content: Vec<u8>,
    /// Bytes of content on the wire.
    wire: u64,
}

/// Asserts that `sent` are the responses to `exchanges`, one each and in order, as far as they came,
/// and that `records` say so.
pub(super) fn check(sent: &[u8], exchanges: &[Exchange], records: &[Record], reason: CloseReason) {
    let mut rest = sent;
    let mut records = records.iter();
    let mut over = false;
    for (at, exchange) in exchanges.iter().enumerate() {
        let record = records.next().expect("a record for each exchange");
        assert_eq!(String::from_utf8_lossy(&record.line), exchange.line);
        if over {
            assert!(rest.is_empty(), "bytes behind the last response");
        }
        let interim = b"HTTP/1.1 100 Continue\r\n\r\n";
        if let Some(behind) = rest.strip_prefix(interim) {
            assert!(exchange.expects, "nobody waits to be told to go on");
            rest = behind;
        } else if exchange.expects && interim.starts_with(rest) {
            rest = &[];
        }
        let head_only = exchange.line.starts_with("HEAD ");
        let Some(parsed) = parse(&mut rest, head_only) else {
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
        assert!(exchange.stage != Stage::Admitted, "an answer of nobody's");
        // A disk that fails before the head is gone.
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
        match head_only {
            true => assert_eq!(parsed.content, b""),
            false => assert!(exchange.content.starts_with(&parsed.content), "other bytes"),
        }
        match parsed.reach {
            // All that was announced has gone out before its maker has said that this is the end.
            Reach::Whole if exchange.announced && record.outcome == Completion::Aborted => {
                assert_ne!(reason, CloseReason::Finished);
                over = true;
            }
            Reach::End if record.outcome == Completion::Aborted => {
                assert_ne!(reason, CloseReason::Finished);
            }
            Reach::Whole | Reach::End => {
                assert!(head_only || parsed.content.len() == exchange.content.len());
                assert_eq!(record.outcome, Completion::Complete);
                assert!(!exchange.failed, "an end that is none");
            }
            Reach::Part => {
                assert_ne!(reason, CloseReason::Finished, "{} is cut", exchange.line);
                assert_eq!(record.outcome, Completion::Aborted);
                over = true;
            }
        }
        over |= parsed.head.lines().any(|line| line == "Connection: close");
    }
    // What was no request is refused without anybody's help.
    if let Some(record) = records.next() {
        let status = record.status.as_u16();
        assert!(
            [400, 408, 414, 431, 501, 505].contains(&status),
            "{record:?}"
        );
        assert!(!over || rest.is_empty(), "bytes behind the last response");
        if let Some(parsed) = parse(&mut rest, false) {
            assert_eq!(parsed.status, status);
            assert!(parsed.head.lines().any(|line| line == "Connection: close"));
            assert_eq!(
                parsed.reach == Reach::Whole,
                record.outcome == Completion::Complete
            );
        }
    }
    assert!(records.next().is_none(), "records of nothing");
    assert!(rest.is_empty(), "{:?}", String::from_utf8_lossy(rest));
}

/// The next response, or what there is of it; `None` if its head is not whole.
fn parse<'a>(rest: &mut &'a [u8], head_only: bool) -> Option<Parsed<'a>> {
    let Some(head_len) = memchr::memmem::find(rest, b"\r\n\r\n") else {
        assert!(rest.first().is_none_or(|byte| *byte == b'H'), "no head");
        *rest = &[];
        return None;
    };
    let (head, behind) = rest.split_at(head_len + 4);
    *rest = behind;
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
        reach: Reach::Whole,
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
        let (content, behind) = rest.split_at(length.min(rest.len()));
        parsed.content = content.to_vec();
        *rest = behind;
        if content.len() < length {
            parsed.reach = Reach::Part;
        }
    } else {
        assert!(head.contains("Connection: close"), "without an end: {head}");
        parsed.content = std::mem::take(rest).to_vec();
        parsed.reach = Reach::End;
    }
    parsed.wire = (before - rest.len()) as u64;
    Some(parsed)
}

fn dechunk(rest: &mut &[u8], content: &mut Vec<u8>) -> Reach {
    let cut = |rest: &mut &[u8]| {
        *rest = &[];
        Reach::Part
    };
    loop {
        let Some(line_len) = memchr::memmem::find(rest, b"\r\n") else {
            return cut(rest);
        };
        let line = std::str::from_utf8(&rest[..line_len]).expect("a size");
        let size = usize::from_str_radix(line, 16).expect("a size");
        let behind = &rest[line_len + 2..];
        let here = &behind[..size.min(behind.len())];
        content.extend_from_slice(here);
        let Some(end) = behind.get(size..size + 2) else {
            return cut(rest);
        };
        assert_eq!(end, b"\r\n", "a chunk's end");
        *rest = &behind[size + 2..];
        if size == 0 {
            return Reach::Whole;
        }
    }
}
