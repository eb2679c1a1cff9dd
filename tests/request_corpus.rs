//! Tests of hostile requests, given as data: the allowed statuses, and whether the connection may
//! carry another request.
//!
//! The cases are in `tests/request_corpus/`, one file per family.

use std::net::SocketAddr;

use crate::nginx_comparison::{exchange, site};
use crate::support::TestServer;
use crate::support::nginx;

const FAMILIES: [(&str, &str); 6] = [
    ("framing", include_str!("request_corpus/framing.txt")),
    ("lines", include_str!("request_corpus/lines.txt")),
    ("targets", include_str!("request_corpus/targets.txt")),
    ("ranges", include_str!("request_corpus/ranges.txt")),
    ("codings", include_str!("request_corpus/codings.txt")),
    ("methods", include_str!("request_corpus/methods.txt")),
];

/// The request that follows each case; no case alone is answered with this status.
const PROBE: &[u8] = b"GET /ten.txt HTTP/1.1\r\nHost: probe\r\nRange: bytes=9-9\r\n\r\n";

struct CorpusCase<'a> {
    name: &'a str,
    bytes: Vec<u8>,
    allowed: Vec<&'a str>,
    connection: ConnectionFate,
    /// Why tws accepts what nginx rejects.
    nginx: Option<&'a str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ConnectionFate {
    Closes,
    Keeps,
    Any,
}

fn parse(family: &str) -> Vec<CorpusCase<'_>> {
    let blocks = family.split("\n\n").map(str::trim_end);
    let blocks = blocks.filter(|block| !block.trim_start().starts_with('#'));
    blocks.filter(|block| !block.is_empty()).map(case).collect()
}

fn case(block: &str) -> CorpusCase<'_> {
    let mut lines = block.lines();
    let name = lines.next().expect("a name");
    let mut bytes = Vec::new();
    let mut answer = None;
    let mut reasons = Vec::new();
    for line in lines {
        if let Some(piece) = line.strip_prefix("> ") {
            bytes.extend(unescape(piece));
        } else if let Some(allowed) = line.strip_prefix("= ") {
            answer = Some(allowed);
        } else {
            reasons.push(line);
        }
    }
    let answer = answer.unwrap_or_else(|| panic!("{name}: no expected response"));
    let (allowed, connection) = answer
        .split_once(' ')
        .expect("statuses and connection state");
    let connection = match connection {
        "closes" => ConnectionFate::Closes,
        "keeps" => ConnectionFate::Keeps,
        "any" => ConnectionFate::Any,
        other => panic!("{name}: {other}"),
    };
    assert!(
        !bytes.is_empty() && !reasons.is_empty(),
        "{name}: incomplete"
    );
    CorpusCase {
        name,
        bytes,
        allowed: allowed.split('|').collect(),
        connection,
        nginx: reasons.iter().find_map(|line| line.strip_prefix("nginx: ")),
    }
}

/// Decodes a line: `\r \n \t \0 \\ \x41` are bytes, `{x*9}` is x nine times; all else stands for
/// itself.
fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some(letter) = rest.chars().next() {
        rest = &rest[letter.len_utf8()..];
        match letter {
            '\\' => {
                let (kind, after) = rest.split_at(1);
                rest = after;
                bytes.push(match kind {
                    "r" => b'\r',
                    "n" => b'\n',
                    "t" => b'\t',
                    "0" => 0,
                    "\\" => b'\\',
                    "x" => {
                        let (digits, after) = rest.split_at(2);
                        rest = after;
                        u8::from_str_radix(digits, 16).expect("two hexadecimal digits")
                    }
                    other => panic!("\\{other} in {text:?}"),
                });
            }
            '{' => {
                let (repeated, after) = rest.split_once('}').expect("closing brace");
                let (what, count) = repeated.rsplit_once('*').expect("repeat count");
                rest = after;
                let count = count.parse().expect("repeat count");
                bytes.extend(unescape(what).repeat(count));
            }
            letter => bytes.extend(letter.to_string().bytes()),
        }
    }
    bytes
}

/// Returns the statuses of all responses to a case and the probe after it.
fn statuses(address: SocketAddr, case: &CorpusCase<'_>) -> Vec<String> {
    let all = exchange(address, &[&case.bytes, PROBE].concat());
    let mut statuses = Vec::new();
    let mut rest = &all[..];
    while !rest.is_empty() {
        // nginx answers HTTP/0.9 with a body alone.
        let Some(end) = memchr::memmem::find(rest, b"\r\n\r\n") else {
            statuses.push("no head".to_owned());
            break;
        };
        let head = String::from_utf8_lossy(&rest[..end]).into_owned();
        rest = &rest[end + 4..];
        let status = head[9..12].to_owned();
        let is_head = case.bytes.starts_with(b"HEAD") && statuses.is_empty();
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("Content-Length: "));
        if let Some(length) = length.filter(|_| !is_head && status != "304") {
            let length: usize = length.parse().expect("valid Content-Length");
            rest = rest.get(length..).expect("complete body");
        }
        statuses.push(status);
    }
    statuses
}

#[test]
fn hostile_request_gets_allowed_status_and_connection_state() {
    let site = site();
    let server = TestServer::of(site.path());
    let mut wrong = String::new();
    for (family, text) in FAMILIES {
        for case in parse(text) {
            let statuses = statuses(server.address, &case);
            let first = statuses.first().map_or("none", String::as_str);
            let after: Vec<_> = statuses.iter().skip(1).map(String::as_str).collect();
            let connection = match after[..] {
                [] => Some(ConnectionFate::Closes),
                ["206"] => Some(ConnectionFate::Keeps),
                _ => None,
            };
            let fine = case.allowed.contains(&first)
                && connection.is_some_and(|way| {
                    case.connection == ConnectionFate::Any || case.connection == way
                });
            if !fine {
                wrong += &format!("  {family}, {}: {statuses:?}\n", case.name);
            }
        }
    }
    assert!(wrong.is_empty(), "not as allowed:\n{wrong}");
    // The server still serves the next client.
    assert_eq!(server.client().get("/ten.txt").status, 200);
}

#[test]
#[ignore = "needs nginx"]
fn request_rejected_by_nginx_but_accepted_has_documented_reason() {
    let site = site();
    let ours = TestServer::of(site.path());
    let theirs = nginx::serving(site.path());
    let accepted = |statuses: &[String]| statuses.first().is_some_and(|first| first == "200");
    let mut wrong = String::new();
    for (family, text) in &FAMILIES[..2] {
        for case in parse(text) {
            let [ours, theirs] = [ours.address, theirs.address].map(|at| statuses(at, &case));
            let laxer = accepted(&ours) && !accepted(&theirs);
            if laxer != case.nginx.is_some() {
                wrong += &format!("  {family}, {}: {ours:?} | {theirs:?}\n", case.name);
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "accepted by tws only, without a reason, or the reason is outdated:\n{wrong}"
    );
}
