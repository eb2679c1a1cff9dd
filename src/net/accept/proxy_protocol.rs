//! The PROXY protocol, versions 1 and 2: what a proxy that passes on bytes says, ahead of them,
//! about the connection it took (haproxy's `proxy-protocol.txt`).
//!
//! Pure and incremental: [`parse`] is shown all that has come so far, as often as more comes, and
//! how the bytes were split makes no difference. Which peers may send a header, and how long they
//! may take, is decided elsewhere.
//!
//! The `ppp` crate (2.3.0) fails the table below: a TCP4 or TCP6 line split right before its second
//! port is a terminal error, a line with five or more words after UNKNOWN stays incomplete, LOCAL
//! with an unknown family is an error although the protocol says to ignore the family, most errors in
//! a line are found only when it is complete, and lengths beyond 4 KiB and malformed extensions are
//! accepted.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

/// The longest header that is taken. The protocol's own bound, 64 KiB of extensions, is more than
/// anybody sends: haproxy's are a few hundred bytes, with a client certificate's name in them.
pub(crate) const MAX_BYTES: usize = 4096;

/// The longest line of version 1, with its end: the protocol's figure.
const MAX_LINE_BYTES: usize = 107;

/// How version 2 begins.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// The part of version 2 that always has the same length.
const FIXED_BYTES: usize = 16;

/// A header, whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// In bytes; what is behind it is the client's.
    pub(crate) len: usize,
    pub(crate) source: Source,
}

/// Where a connection comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// From whom it seems to come: a proxy that looks whether we live (LOCAL), or one that cannot
    /// tell (UNKNOWN, an unspecified family or address) or whose client has no address (AF_UNIX).
    Connection,
    /// From this client of the proxy.
    Client(SocketAddr),
}

/// Why this is no header, in a few words that never quote it.
pub(crate) type Reason = &'static str;

const NO_HEADER: Reason = "the connection does not begin with a PROXY header";
const BAD_PROTOCOL: Reason = "the protocol in the PROXY header is not TCP4, TCP6 or UNKNOWN";
const BAD_ADDRESS: Reason = "malformed address in the PROXY header";
const BAD_PORT: Reason = "malformed port in the PROXY header";
const BAD_LINE_END: Reason = "the PROXY header line does not end with CRLF after the ports";
const LINE_TOO_LONG: Reason = "the PROXY header line is longer than 107 bytes";
const BAD_COMMAND: Reason = "unknown version or command in the PROXY header";
const BAD_FAMILY: Reason = "unknown address family or protocol in the PROXY header";
const TOO_LONG: Reason = "the PROXY header is longer than 4 KiB";
const TOO_SHORT: Reason = "the PROXY header is shorter than its addresses";
const BAD_EXTENSION: Reason = "an extension in the PROXY header is longer than the header";

/// The header at the beginning of `bytes`, which are what has come of a connection so far.
///
/// `None` while they can become one. Never asks for more than [`MAX_BYTES`].
pub(crate) fn parse(bytes: &[u8]) -> Result<Option<Header>, Reason> {
    match bytes.first() {
        None => Ok(None),
        Some(b'P') => parse_line(bytes),
        Some(b'\r') => parse_binary(bytes),
        Some(_) => Err(NO_HEADER),
    }
}

/// Version 1: a line of text.
fn parse_line(bytes: &[u8]) -> Result<Option<Header>, Reason> {
    let seen = &bytes[..bytes.len().min(MAX_LINE_BYTES - 1)];
    let end = seen.iter().position(|byte| matches!(byte, b'\r' | b'\n'));
    let words = Words {
        rest: Some(&seen[..end.unwrap_or(seen.len())]),
        line: match end {
            Some(_) => Line::Whole,
            None => Line::Part,
        },
    };
    let source = words.into_source()?;
    match end.map(|at| &bytes[at..]) {
        None if seen.len() == MAX_LINE_BYTES - 1 => Err(LINE_TOO_LONG),
        None | Some([b'\r']) => Ok(None),
        Some([b'\r', b'\n', behind @ ..]) => Ok(source.map(|source| Header {
            len: bytes.len() - behind.len(),
            source,
        })),
        Some(_) => Err(BAD_LINE_END),
    }
}

/// The words of a line, with one space between any two.
struct Words<'a> {
    rest: Option<&'a [u8]>,
    line: Line,
}

/// Whether the end of a line has come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Line {
    Whole,
    Part,
}

enum Word<'a> {
    Whole(&'a [u8]),
    /// More of it may come.
    Part(&'a [u8]),
}

impl<'a> Words<'a> {
    /// `None` if the words are right so far and there have to be more.
    fn into_source(mut self) -> Result<Option<Source>, Reason> {
        let Some(_) = self.next().one_of(&["PROXY"], NO_HEADER)? else {
            return Ok(None);
        };
        let protocols = ["TCP4", "TCP6", "UNKNOWN"];
        match self.next().one_of(&protocols, BAD_PROTOCOL)? {
            Some("TCP4") => self.into_client::<Ipv4Addr>(15),
            Some("TCP6") => self.into_client::<Ipv6Addr>(45),
            // What else the line says is of no meaning.
            Some(_) => Ok(Some(Source::Connection)),
            None => Ok(None),
        }
    }

    /// Both addresses and both ports. `longest` is an address in characters.
    fn into_client<A>(mut self, longest: usize) -> Result<Option<Source>, Reason>
    where
        A: FromStr + Into<IpAddr>,
    {
        let Some(client) = self.next().address::<A>(longest)? else {
            return Ok(None);
        };
        let Some(_) = self.next().address::<A>(longest)? else {
            return Ok(None);
        };
        let Some(port) = self.next().port()? else {
            return Ok(None);
        };
        let Some(_) = self.next().port()? else {
            return Ok(None);
        };
        match self.rest {
            None => Ok(Some(Source::of(client.into(), port))),
            Some(_) => Err(BAD_LINE_END),
        }
    }

    /// A line that is too short has empty words at its end, which are nothing.
    fn next(&mut self) -> Word<'a> {
        let rest = self.rest.unwrap_or_default();
        match rest.iter().position(|byte| *byte == b' ') {
            Some(at) => {
                self.rest = Some(&rest[at + 1..]);
                Word::Whole(&rest[..at])
            }
            None => {
                self.rest = None;
                match self.line {
                    Line::Whole => Word::Whole(rest),
                    Line::Part => Word::Part(rest),
                }
            }
        }
    }
}

impl Word<'_> {
    fn one_of<'t>(self, table: &[&'t str], reason: Reason) -> Result<Option<&'t str>, Reason> {
        let find = |is: &dyn Fn(&[u8]) -> bool| {
            let found = table.iter().copied().find(|entry| is(entry.as_bytes()));
            found.ok_or(reason)
        };
        match self {
            Self::Whole(word) => find(&|entry| entry == word).map(Some),
            Self::Part(word) => find(&|entry| entry.starts_with(word)).map(|_| None),
        }
    }

    fn address<A: FromStr>(self, longest: usize) -> Result<Option<A>, Reason> {
        match self {
            Self::Whole(word) => parse_text(word).map(Some).ok_or(BAD_ADDRESS),
            Self::Part(word) => {
                let fits = |byte: &u8| byte.is_ascii_hexdigit() || matches!(byte, b'.' | b':');
                match word.len() <= longest && word.iter().all(fits) {
                    true => Ok(None),
                    false => Err(BAD_ADDRESS),
                }
            }
        }
    }

    /// Digits without a zero ahead of them: what `u16` takes beside these, a sign, is no port.
    fn port(self) -> Result<Option<u16>, Reason> {
        let parse = |word: &[u8]| match word {
            [b'0', _, ..] | [b'+', ..] => Err(BAD_PORT),
            word => parse_text(word).ok_or(BAD_PORT),
        };
        match self {
            Self::Whole(word) => parse(word).map(Some),
            Self::Part([]) => Ok(None),
            Self::Part(word) => parse(word).map(|_| None),
        }
    }
}

fn parse_text<T: FromStr>(word: &[u8]) -> Option<T> {
    std::str::from_utf8(word).ok()?.parse().ok()
}

/// Version 2: sixteen bytes, addresses, extensions (TLVs).
fn parse_binary(bytes: &[u8]) -> Result<Option<Header>, Reason> {
    let signed = bytes.len().min(SIGNATURE.len());
    if bytes[..signed] != SIGNATURE[..signed] {
        return Err(NO_HEADER);
    }
    let command = match bytes.get(12) {
        None => return Ok(None),
        Some(0x20) => Command::Local,
        Some(0x21) => Command::Proxy,
        Some(_) => return Err(BAD_COMMAND),
    };
    let family = match (command, bytes.get(13)) {
        (_, None) => return Ok(None),
        (Command::Local, Some(_)) => Family::Unspecified,
        (Command::Proxy, Some(byte)) => Family::parse(*byte).ok_or(BAD_FAMILY)?,
    };
    let Some([high, low]) = bytes.get(14..FIXED_BYTES) else {
        return Ok(None);
    };
    let announced = usize::from(u16::from_be_bytes([*high, *low]));
    let len = FIXED_BYTES + announced;
    if len > MAX_BYTES {
        return Err(TOO_LONG);
    }
    let addresses = family.bytes();
    let extensions = announced.checked_sub(addresses).ok_or(TOO_SHORT)?;
    if family != Family::Unspecified {
        let start = bytes.len().min(FIXED_BYTES + addresses);
        check_extensions(&bytes[start..bytes.len().min(len)], extensions)?;
    }
    Ok(bytes.get(FIXED_BYTES..len).map(|block| Header {
        len,
        source: family.source(block),
    }))
}

#[derive(Clone, Copy)]
enum Command {
    /// The proxy speaks for itself, and whatever else the header says is of no meaning.
    Local,
    Proxy,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Family {
    Unspecified,
    Inet,
    Inet6,
    Unix,
}

impl Family {
    /// Of the byte that also has, in its lower half, how the client speaks to the proxy: that is
    /// the proxy's business (a QUIC client's address is an address), as long as it is something.
    fn parse(byte: u8) -> Option<Self> {
        match (byte >> 4, byte & 0xF) {
            (0, 0..=2) => Some(Self::Unspecified),
            (1, 0..=2) => Some(Self::Inet),
            (2, 0..=2) => Some(Self::Inet6),
            (3, 0..=2) => Some(Self::Unix),
            _ => None,
        }
    }

    /// How long both addresses are, with their ports.
    fn bytes(self) -> usize {
        match self {
            Self::Unspecified => 0,
            Self::Inet => 2 * (4 + 2),
            Self::Inet6 => 2 * (16 + 2),
            Self::Unix => 2 * 108,
        }
    }

    /// Both addresses come first, then both ports.
    fn source(self, block: &[u8]) -> Source {
        let read = |(address, behind): (IpAddr, &[u8])| match behind {
            [high, low, ..] => Source::of(address, u16::from_be_bytes([*high, *low])),
            _ => Source::Connection,
        };
        let found = match self {
            Self::Unspecified | Self::Unix => None,
            Self::Inet => block
                .split_first_chunk()
                .map(|(client, rest): (&[u8; 4], _)| (IpAddr::from(*client), &rest[4..])),
            Self::Inet6 => block
                .split_first_chunk()
                .map(|(client, rest): (&[u8; 16], _)| (IpAddr::from(*client), &rest[16..])),
        };
        found.map_or(Source::Connection, read)
    }
}

impl Source {
    /// An unspecified address is nobody's.
    fn of(address: IpAddr, port: u16) -> Self {
        match address.is_unspecified() {
            true => Self::Connection,
            false => Self::Client(SocketAddr::new(address, port)),
        }
    }
}

/// Extensions are skipped: a type, two bytes of length, a value. `present` is what is there of the
/// `left` bytes they have. Their checksum is not looked at either: TCP has its own.
fn check_extensions(mut present: &[u8], mut left: usize) -> Result<(), Reason> {
    while left > 0 {
        if left < 3 {
            return Err(BAD_EXTENSION);
        }
        let [_, high, low, ..] = present else {
            return Ok(());
        };
        let len = 3 + usize::from(u16::from_be_bytes([*high, *low]));
        left = left.checked_sub(len).ok_or(BAD_EXTENSION)?;
        present = present.get(len..).unwrap_or_default();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LOCAL: u8 = 0x20;
    const PROXY: u8 = 0x21;

    fn client(text: &str) -> Source {
        Source::Client(text.parse().expect("an address"))
    }

    fn binary(command: u8, family: u8, block: &[u8]) -> Vec<u8> {
        let mut bytes = SIGNATURE.to_vec();
        bytes.extend([command, family]);
        bytes.extend(u16::try_from(block.len()).expect("short").to_be_bytes());
        bytes.extend(block);
        bytes
    }

    fn inet(extensions: &[u8]) -> Vec<u8> {
        let addresses = [192, 0, 2, 7, 127, 0, 0, 1, 0xD4, 0x31, 0, 80];
        binary(PROXY, 0x11, &[&addresses[..], extensions].concat())
    }

    fn inet6(client: Ipv6Addr, port: u16) -> Vec<u8> {
        let mut block = client.octets().to_vec();
        block.extend(Ipv6Addr::LOCALHOST.octets());
        block.extend(port.to_be_bytes());
        block.extend(443_u16.to_be_bytes());
        binary(PROXY, 0x21, &block)
    }

    #[test]
    fn headers_say_where_a_connection_comes_from() {
        let unix = [b'/'; 216];
        let extension = [0x04, 0, 2, 9, 9, 0x20, 0, 0];
        let longest = format!("PROXY UNKNOWN {}\r\n", "f".repeat(107 - 16));
        let v6: Ipv6Addr = "2001:db8::7".parse().expect("an address");
        let table: &[(&[u8], Source)] = &[
            (
                b"PROXY TCP4 192.0.2.7 127.0.0.1 54321 80\r\n",
                client("192.0.2.7:54321"),
            ),
            (
                b"PROXY TCP4 192.0.2.7 127.0.0.1 0 65535\r\n",
                client("192.0.2.7:0"),
            ),
            (
                b"PROXY TCP6 2001:db8::7 ::1 54321 80\r\n",
                client("[2001:db8::7]:54321"),
            ),
            (
                b"PROXY TCP6 ::ffff:192.0.2.7 ::1 1 80\r\n",
                client("[::ffff:192.0.2.7]:1"),
            ),
            (
                b"PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff \
                  ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n",
                client("[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535"),
            ),
            (b"PROXY TCP6 :: ::1 0 80\r\n", Source::Connection),
            (b"PROXY UNKNOWN\r\n", Source::Connection),
            (
                b"PROXY UNKNOWN ?? whatever  this says\r\n",
                Source::Connection,
            ),
            (longest.as_bytes(), Source::Connection),
            (&inet(b""), client("192.0.2.7:54321")),
            (&inet(&extension), client("192.0.2.7:54321")),
            (&inet6(v6, 54321), client("[2001:db8::7]:54321")),
            (&inet6(Ipv6Addr::UNSPECIFIED, 0), Source::Connection),
            // A client that speaks QUIC.
            (
                &binary(PROXY, 0x12, &[192, 0, 2, 7, 0, 0, 0, 0, 0, 9, 0, 0]),
                client("192.0.2.7:9"),
            ),
            (&binary(PROXY, 0x31, &unix), Source::Connection),
            (&binary(PROXY, 0x00, b""), Source::Connection),
            (&binary(PROXY, 0x00, b"anything"), Source::Connection),
            (&binary(LOCAL, 0x00, b""), Source::Connection),
            (&binary(LOCAL, 0x11, &[1; 12]), Source::Connection),
            (&binary(LOCAL, 0xFF, b"x"), Source::Connection),
            (
                &inet(&[&[0xEA, 15, 225][..], &[0; 4065]].concat()),
                client("192.0.2.7:54321"),
            ),
        ];
        for (bytes, source) in table {
            let expected = Ok(Some(Header {
                len: bytes.len(),
                source: *source,
            }));
            assert_eq!(parse(bytes), expected, "{}", bytes.escape_ascii());
            let with_more = [bytes, &b"GET / HTTP/1.1\r\n"[..]].concat();
            assert_eq!(parse(&with_more), expected, "{}", bytes.escape_ascii());
            check_prefixes(&with_more);
        }
    }

    #[test]
    fn what_is_no_header_is_refused_for_a_reason() {
        let table: &[(&[u8], Reason)] = &[
            (b"GET / HTTP/1.1\r\n", NO_HEADER),
            (b"POST / HTTP/1.1\r\n", NO_HEADER),
            (b"\x16\x03\x01", NO_HEADER),
            (b"\r\n\r\nGET", NO_HEADER),
            (b"proxy TCP4", NO_HEADER),
            (b"PROXYTCP4", NO_HEADER),
            (b"PROXY  TCP4", BAD_PROTOCOL),
            (b"PROXY\r\n", BAD_PROTOCOL),
            (b"PROXY UDP4", BAD_PROTOCOL),
            (b"PROXY TCP4\r\n", BAD_ADDRESS),
            (b"PROXY TCP4 192.0.2.07 127.0.0.1 1 2\r\n", BAD_ADDRESS),
            (b"PROXY TCP4 192.0.2 ", BAD_ADDRESS),
            (b"PROXY TCP4 192.0.2.x", BAD_ADDRESS),
            (b"PROXY TCP4 192.0.2.1111111111", BAD_ADDRESS),
            (b"PROXY TCP4 ::1 ::1 1 2\r\n", BAD_ADDRESS),
            (b"PROXY TCP4 1.2.3.4  1.2.3.4 1 2\r\n", BAD_ADDRESS),
            (b"PROXY TCP6 1.2.3.4 1.2.3.4 1 2\r\n", BAD_ADDRESS),
            (b"PROXY TCP6 fe80::1%eth0 ", BAD_ADDRESS),
            (b"PROXY TCP4 1.2.3.4 1.2.3.4 65536", BAD_PORT),
            (b"PROXY TCP4 1.2.3.4 1.2.3.4 01", BAD_PORT),
            (b"PROXY TCP4 1.2.3.4 1.2.3.4 +1", BAD_PORT),
            (b"PROXY TCP4 1.2.3.4 1.2.3.4 -", BAD_PORT),
            (b"PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n", BAD_PORT),
            (b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2 ", BAD_LINE_END),
            (b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2\n", BAD_LINE_END),
            (b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2\rG", BAD_LINE_END),
            (b"PROXY UNKNOWN\n", BAD_LINE_END),
            (
                &[&b"PROXY UNKNOWN "[..], &[b'x'; 92]].concat(),
                LINE_TOO_LONG,
            ),
            (&binary(0x11, 0x11, &[0; 12]), BAD_COMMAND),
            (&binary(0x22, 0x11, &[0; 12]), BAD_COMMAND),
            (&binary(PROXY, 0x41, &[0; 12]), BAD_FAMILY),
            (&binary(PROXY, 0x13, &[0; 12]), BAD_FAMILY),
            (&binary(PROXY, 0x11, &[0; 11]), TOO_SHORT),
            (&binary(PROXY, 0x21, &[0; 35]), TOO_SHORT),
            (&binary(PROXY, 0x31, &[0; 215]), TOO_SHORT),
            (&binary(PROXY, 0x11, &[0; 4081])[..16], TOO_LONG),
            (&binary(LOCAL, 0x00, &[0; 4081])[..16], TOO_LONG),
            (&inet(&[1, 0]), BAD_EXTENSION),
            (&inet(&[1, 0, 1])[..31], BAD_EXTENSION),
            (&inet(&[1, 0, 0, 2]), BAD_EXTENSION),
        ];
        for (bytes, reason) in table {
            assert_eq!(parse(bytes), Err(*reason), "{}", bytes.escape_ascii());
            check_prefixes(bytes);
            // It is known with the last byte of the table's entry at the latest.
            let with_more = [bytes, &b"\r\n"[..]].concat();
            assert_eq!(parse(&with_more), Err(*reason), "{}", bytes.escape_ascii());
        }
    }

    /// What is said of some bytes holds whatever comes behind them; so it makes no difference how
    /// they were split.
    fn check_prefixes(bytes: &[u8]) {
        let whole = parse(bytes);
        for len in 0..bytes.len() {
            let part = parse(&bytes[..len]);
            assert!(
                part == Ok(None) || part == whole,
                "{part:?} of {}, {whole:?} of {}",
                bytes[..len].escape_ascii(),
                bytes.escape_ascii()
            );
        }
    }

    #[test]
    fn it_never_asks_for_more_than_it_takes() {
        let long = inet(&[&[0xEA, 15, 225][..], &[0; 4065]].concat());
        assert_eq!(long.len(), MAX_BYTES);
        assert_eq!(parse(&long[..MAX_BYTES - 1]), Ok(None));
        let line = [&b"PROXY UNKNOWN "[..], &[b'x'; 91]].concat();
        assert_eq!((line.len(), parse(&line)), (105, Ok(None)));
    }

    /// Bytes that look like a header as long as possible.
    fn nearly() -> impl Strategy<Value = Vec<u8>> {
        let headers = prop_oneof![
            Just(b"PROXY TCP4 192.0.2.7 127.0.0.1 54321 80\r\nrest".to_vec()),
            Just(b"PROXY TCP6 2001:db8::7 ::ffff:1.2.3.4 54321 80\r\nrest".to_vec()),
            Just(b"PROXY UNKNOWN 1\r\nrest".to_vec()),
            Just(inet(&[4, 0, 1, 7, 3, 0, 0])),
            Just(inet6(Ipv6Addr::LOCALHOST, 1)),
            Just(binary(LOCAL, 0, b"")),
        ];
        let change = (any::<prop::sample::Index>(), any::<u8>(), 0..4_u8);
        (headers, prop::collection::vec(change, 0..4)).prop_map(|(mut bytes, changes)| {
            for (at, byte, what) in changes {
                if bytes.is_empty() {
                    continue;
                }
                let at = at.index(bytes.len());
                match what {
                    0 => bytes[at] = byte,
                    1 => bytes.insert(at, byte),
                    2 => drop(bytes.remove(at)),
                    _ => bytes.insert(at, bytes[at]),
                }
            }
            bytes
        })
    }

    proptest! {
        #[test]
        fn any_split_says_the_same(bytes in nearly()) {
            check_prefixes(&bytes);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            check_prefixes(&bytes);
            check_prefixes(&[&SIGNATURE[..], &bytes].concat());
        }

        #[test]
        fn what_a_proxy_says_is_what_is_read(client: SocketAddr, server: SocketAddr) {
            prop_assume!(!client.ip().is_unspecified());
            let (client, server) = match (client.ip(), server.ip()) {
                (IpAddr::V4(v4), IpAddr::V6(_)) => {
                    (SocketAddr::new(v4.to_ipv6_mapped().into(), client.port()), server)
                }
                (IpAddr::V6(_), IpAddr::V4(v4)) => {
                    (client, SocketAddr::new(v4.to_ipv6_mapped().into(), server.port()))
                }
                _ => (client, server),
            };
            let (name, family) = match client.is_ipv4() {
                true => ("TCP4", 0x11),
                false => ("TCP6", 0x21),
            };
            let (from, to) = (client.ip(), server.ip());
            let line = format!(
                "PROXY {name} {from} {to} {} {}\r\n",
                client.port(),
                server.port()
            );
            let mut block = Vec::new();
            for address in [from, to] {
                match address {
                    IpAddr::V4(v4) => block.extend(v4.octets()),
                    IpAddr::V6(v6) => block.extend(v6.octets()),
                }
            }
            block.extend(client.port().to_be_bytes());
            block.extend(server.port().to_be_bytes());
            let expected = Source::Client(SocketAddr::new(from, client.port()));
            for bytes in [line.into_bytes(), binary(PROXY, family, &block)] {
                let header = Header { len: bytes.len(), source: expected };
                prop_assert_eq!(parse(&bytes), Ok(Some(header)));
            }
        }
    }
}
