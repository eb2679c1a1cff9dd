//! The PROXY protocol, versions 1 and 2: a header with which a proxy that forwards bytes describes
//! the connection it has accepted (haproxy's `proxy-protocol.txt`).
//!
//! Pure and incremental: [`parse`] is called with all bytes received so far whenever more arrive, and
//! how they were split makes no difference. Which peers may send a header, and how long they may
//! take, is decided by the handshaker.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

/// The longest header that is accepted. The protocol allows 64 KiB of extensions; those of haproxy
/// have a few hundred bytes, including the subject of a client certificate.
pub(crate) const MAX_BYTES: usize = 4096;

/// The longest line of version 1 with its CRLF, as the protocol defines it.
const MAX_LINE_BYTES: usize = 107;

/// The signature of version 2.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// The length of the fixed part of version 2.
const FIXED_BYTES: usize = 16;

/// A complete header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// In bytes; what follows are the client's bytes.
    pub(crate) len: usize,
    pub(crate) source: SourceAddress,
}

/// The source of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SourceAddress {
    /// The peer of the connection: a health check of the proxy (LOCAL), a client that the proxy does
    /// not know (UNKNOWN, an unspecified family or address) or one without an IP address (AF_UNIX).
    Connection,
    /// This client of the proxy.
    Client(SocketAddr),
}

/// Why a header is invalid, for the log; never quotes the header.
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

/// Parses the header at the beginning of `bytes`, which are all bytes of a connection so far.
///
/// Returns `None` while the header is incomplete, which it never is at [`MAX_BYTES`].
pub(crate) fn parse(bytes: &[u8]) -> Result<Option<Header>, Reason> {
    match bytes.first() {
        None => Ok(None),
        Some(b'P') => parse_line(bytes),
        Some(b'\r') => parse_binary(bytes),
        Some(_) => Err(NO_HEADER),
    }
}

/// Parses version 1: a line of text.
fn parse_line(bytes: &[u8]) -> Result<Option<Header>, Reason> {
    let seen = &bytes[..bytes.len().min(MAX_LINE_BYTES - 1)];
    let end = seen.iter().position(|byte| matches!(byte, b'\r' | b'\n'));
    let fields = LineFields {
        rest: Some(&seen[..end.unwrap_or(seen.len())]),
        line: match end {
            Some(_) => Line::Complete,
            None => Line::Part,
        },
    };
    let source = fields.into_source()?;
    match end.map(|at| &bytes[at..]) {
        None if seen.len() == MAX_LINE_BYTES - 1 => Err(LINE_TOO_LONG),
        None | Some([b'\r']) => Ok(None),
        Some([b'\r', b'\n', rest @ ..]) => Ok(source.map(|source| Header {
            len: bytes.len() - rest.len(),
            source,
        })),
        Some(_) => Err(BAD_LINE_END),
    }
}

/// Iterates over the fields of a line, which single spaces separate.
struct LineFields<'a> {
    rest: Option<&'a [u8]>,
    line: Line,
}

/// Whether the end of a line has been received.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Line {
    Complete,
    Part,
}

/// A field of a line.
enum LineField<'a> {
    Complete(&'a [u8]),
    /// The beginning of a field, of which more may follow.
    Part(&'a [u8]),
}

impl<'a> LineFields<'a> {
    /// Returns `None` if the fields are valid so far and more have to follow.
    fn into_source(mut self) -> Result<Option<SourceAddress>, Reason> {
        let Some(_) = self.next().one_of(&["PROXY"], NO_HEADER)? else {
            return Ok(None);
        };
        let protocols = ["TCP4", "TCP6", "UNKNOWN"];
        match self.next().one_of(&protocols, BAD_PROTOCOL)? {
            Some("TCP4") => self.into_client::<Ipv4Addr>(15),
            Some("TCP6") => self.into_client::<Ipv6Addr>(45),
            // The rest of the line has no meaning.
            Some(_) => Ok(Some(SourceAddress::Connection)),
            None => Ok(None),
        }
    }

    /// Parses both addresses and both ports. `longest` is the maximum length of an address.
    fn into_client<A>(mut self, longest: usize) -> Result<Option<SourceAddress>, Reason>
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
            None => Ok(Some(SourceAddress::of(client.into(), port))),
            Some(_) => Err(BAD_LINE_END),
        }
    }

    /// Returns the next field, which is empty at the end of a line that is too short.
    fn next(&mut self) -> LineField<'a> {
        let rest = self.rest.unwrap_or_default();
        match rest.iter().position(|byte| *byte == b' ') {
            Some(at) => {
                self.rest = Some(&rest[at + 1..]);
                LineField::Complete(&rest[..at])
            }
            None => {
                self.rest = None;
                match self.line {
                    Line::Complete => LineField::Complete(rest),
                    Line::Part => LineField::Part(rest),
                }
            }
        }
    }
}

impl LineField<'_> {
    fn one_of<'t>(self, table: &[&'t str], reason: Reason) -> Result<Option<&'t str>, Reason> {
        let find = |is: &dyn Fn(&[u8]) -> bool| {
            let found = table.iter().copied().find(|entry| is(entry.as_bytes()));
            found.ok_or(reason)
        };
        match self {
            Self::Complete(text) => find(&|entry| entry == text).map(Some),
            Self::Part(text) => find(&|entry| entry.starts_with(text)).map(|_| None),
        }
    }

    fn address<A: FromStr>(self, longest: usize) -> Result<Option<A>, Reason> {
        match self {
            Self::Complete(text) => parse_text(text).map(Some).ok_or(BAD_ADDRESS),
            Self::Part(text) => {
                let fits = |byte: &u8| byte.is_ascii_hexdigit() || matches!(byte, b'.' | b':');
                if text.len() <= longest && text.iter().all(fits) {
                    Ok(None)
                } else {
                    Err(BAD_ADDRESS)
                }
            }
        }
    }

    /// Parses a port: digits without leading zeros. `u16` would also parse a sign.
    fn port(self) -> Result<Option<u16>, Reason> {
        let parse = |text: &[u8]| match text {
            [b'0', _, ..] | [b'+', ..] => Err(BAD_PORT),
            text => parse_text(text).ok_or(BAD_PORT),
        };
        match self {
            Self::Complete(text) => parse(text).map(Some),
            Self::Part([]) => Ok(None),
            Self::Part(text) => parse(text).map(|_| None),
        }
    }
}

fn parse_text<T: FromStr>(text: &[u8]) -> Option<T> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Parses version 2: sixteen bytes, addresses, extensions (TLVs).
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
    /// A connection of the proxy itself. The rest of the header has no meaning.
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
    /// Parses the byte whose lower half is the transport protocol between client and proxy. Any
    /// defined protocol is accepted: the address of a QUIC client is an address, too.
    fn parse(byte: u8) -> Option<Self> {
        match (byte >> 4, byte & 0xF) {
            (0, 0..=2) => Some(Self::Unspecified),
            (1, 0..=2) => Some(Self::Inet),
            (2, 0..=2) => Some(Self::Inet6),
            (3, 0..=2) => Some(Self::Unix),
            _ => None,
        }
    }

    /// Returns the length of both addresses with their ports.
    fn bytes(self) -> usize {
        match self {
            Self::Unspecified => 0,
            Self::Inet => 2 * (4 + 2),
            Self::Inet6 => 2 * (16 + 2),
            Self::Unix => 2 * 108,
        }
    }

    /// Reads the source from a block of both addresses followed by both ports.
    fn source(self, block: &[u8]) -> SourceAddress {
        let read = |(address, ports): (IpAddr, &[u8])| match ports {
            [high, low, ..] => SourceAddress::of(address, u16::from_be_bytes([*high, *low])),
            _ => SourceAddress::Connection,
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
        found.map_or(SourceAddress::Connection, read)
    }
}

impl SourceAddress {
    /// An unspecified address identifies no client.
    fn of(address: IpAddr, port: u16) -> Self {
        if address.is_unspecified() {
            Self::Connection
        } else {
            Self::Client(SocketAddr::new(address, port))
        }
    }
}

/// Checks the lengths of the extensions: a type, two bytes of length, a value. `present` are the
/// bytes received of the `left` bytes they have. Their values are ignored, including the checksum:
/// TCP has its own.
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
mod tests;
