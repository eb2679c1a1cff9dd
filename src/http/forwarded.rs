//! The client behind trusted proxies: Forwarded (RFC 7239) and X-Forwarded-For.
//!
//! Each proxy appends the address of its peer to the field that it received, so the fields are read
//! from the right. The rightmost entry was written by the proxy that connected to this server. If an
//! entry is the address of a trusted proxy, the entry before it is trusted too. The first address
//! that is not a trusted proxy's is the client. Entries before that one may be forged by the client
//! and are never read. Reading from the right also means that nothing a client sends changes how the
//! entries after it are parsed: neither an unclosed quote nor a line that is not a list.
//!
//! Only one of the two fields is read, and which one is a setting, as in nginx and other servers: a
//! proxy that writes one of them passes on the other as its client wrote it.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use super::fields::Fields;
use super::list;

/// The address of a client and the scheme it uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ClientInfo {
    pub(crate) address: SocketAddr,
    pub(crate) scheme: Scheme,
    /// Of the connection to this server, which may be that of a proxy.
    pub(crate) tls: Option<TlsVersion>,
}

/// The version of TLS on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TlsVersion {
    /// TLS 1.2 (RFC 5246).
    Tls12,
    /// TLS 1.3 (RFC 8446).
    Tls13,
}

impl TlsVersion {
    /// Returns the name of the version, as `TLSv1.3`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tls12 => "TLSv1.2",
            Self::Tls13 => "TLSv1.3",
        }
    }
}

/// The scheme between the client and the first server that it connects to, this one or a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scheme {
    Http,
    Https,
}

/// One entry of a forwarding field: what a proxy reports about its peer.
struct Hop {
    /// `None` if the proxy reports no address, or one that cannot be parsed.
    address: Option<SocketAddr>,
    scheme: Option<Scheme>,
}

impl ClientInfo {
    /// A client that connected directly, without TLS.
    pub(crate) fn plain(address: SocketAddr) -> Self {
        Self {
            address,
            scheme: Scheme::Http,
            tls: None,
        }
    }

    /// Returns the client that the field `Forwarded` names, where `self` is the peer of the
    /// connection and a trusted proxy. `trusts` tells whether an address is that of a trusted proxy.
    pub(crate) fn by_forwarded(
        self,
        fields: &Fields<'_>,
        trusts: impl Fn(SocketAddr) -> bool,
    ) -> Self {
        let elements = fields.all("forwarded").rev();
        let elements = elements.flat_map(|line| list::rsplit(line, b','));
        let hops = elements
            .filter(|element| !element.is_empty())
            .map(|element| Hop {
                address: parameter(element, "for").and_then(node),
                scheme: parameter(element, "proto").map(Scheme::parse),
            });
        self.resolve_hops(hops, trusts)
    }

    /// As [`by_forwarded`](Self::by_forwarded), for the fields X-Forwarded-For and
    /// X-Forwarded-Proto. Some proxies append to the latter as to the former, some replace it: if it
    /// is the shorter list, its first entry applies to all hops before it.
    pub(crate) fn by_x_forwarded(
        self,
        fields: &Fields<'_>,
        trusts: impl Fn(SocketAddr) -> bool,
    ) -> Self {
        let mut schemes = members_from_right(fields, "x-forwarded-proto").map(Scheme::parse);
        let mut scheme = schemes.next();
        let proxy = Self {
            scheme: scheme.unwrap_or(self.scheme),
            ..self
        };
        let hops = members_from_right(fields, "x-forwarded-for").map(|entry| {
            let hop = Hop {
                address: node(entry),
                scheme,
            };
            scheme = schemes.next().or(scheme);
            hop
        });
        proxy.resolve_hops(hops, trusts)
    }

    /// Follows the hops, nearest first, as long as each is a trusted proxy. A hop without an address
    /// ends the walk; the address found before it holds. A hop without a scheme counts as HTTP: a
    /// missing report must not make a request look encrypted.
    fn resolve_hops(
        mut self,
        hops: impl Iterator<Item = Hop>,
        trusts: impl Fn(SocketAddr) -> bool,
    ) -> Self {
        for hop in hops {
            self.scheme = hop.scheme.unwrap_or(Scheme::Http);
            match hop.address {
                Some(address) => self.address = address,
                None => break,
            }
            if !trusts(self.address) {
                break;
            }
        }
        self
    }
}

impl Scheme {
    fn parse(name: &[u8]) -> Self {
        if name.eq_ignore_ascii_case(b"https") {
            Self::Https
        } else {
            Self::Http
        }
    }
}

/// The members of all field lines of that name, the last one first.
fn members_from_right<'a>(fields: &'a Fields<'_>, name: &str) -> impl Iterator<Item = &'a [u8]> {
    let lines = fields.all(name).rev();
    lines.flat_map(|line| list::members(line).rev())
}

/// Returns the value of a parameter that occurs exactly once, without quotes. Escapes in it are kept:
/// no value that is used here contains one.
fn parameter<'a>(element: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let mut values = list::rsplit(element, b';').filter_map(|pair| {
        let equals = pair.iter().position(|byte| *byte == b'=')?;
        let (key, value) = (&pair[..equals], &pair[equals + 1..]);
        key.eq_ignore_ascii_case(name.as_bytes())
            .then(|| list::unquote(value))
    });
    let value = values.next()?;
    values.next().is_none().then_some(value)
}

/// Parses an address with an optional port (RFC 7239 §6). The port is 0 if it is missing or
/// obfuscated. IPv6 addresses should be in brackets; without a port they are accepted without, as is
/// usual in X-Forwarded-For. `None` for `unknown`, obfuscated names and the unspecified address.
fn node(text: &[u8]) -> Option<SocketAddr> {
    let text = std::str::from_utf8(text).ok()?;
    let (address, port) = match text.strip_prefix('[') {
        Some(text) => {
            let (address, rest) = text.split_once(']')?;
            (IpAddr::V6(address.parse::<Ipv6Addr>().ok()?), rest)
        }
        None => match text.parse::<Ipv6Addr>() {
            Ok(address) => (IpAddr::V6(address), ""),
            Err(_) => {
                let (address, port) = text.split_at(text.find(':').unwrap_or(text.len()));
                (IpAddr::V4(address.parse().ok()?), port)
            }
        },
    };
    let port = match port.strip_prefix(':') {
        None if port.is_empty() => 0,
        Some(obfuscated) if obfuscated.starts_with('_') => 0,
        Some(digits) if !digits.starts_with('+') => digits.parse().ok()?,
        _ => return None,
    };
    (!address.is_unspecified()).then(|| SocketAddr::new(address.to_canonical(), port))
}

#[cfg(test)]
mod tests;
