//! Who a client is when proxies stand between: Forwarded (RFC 7239) and X-Forwarded-For.
//!
//! Each proxy appends the address that it saw to what it was sent, so the fields are read from the
//! right: what stands there was written by the proxy next to us, and each address that is a trusted
//! proxy's vouches for the one before it. The first that is not is the client; whatever is before
//! it the client may have made up, and it is never looked at. Reading from the right also means
//! that nothing a client writes can change how the part behind it is read: not by a quote that it
//! opens and not by a line that is no list.
//!
//! Of the two fields one is read, and which is a setting, as it is in nginx and with other servers:
//! a proxy that writes one of them passes on the other as its client wrote it.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use super::Fields;

/// Who sends a request, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ClientInfo {
    pub(crate) address: SocketAddr,
    pub(crate) scheme: Scheme,
}

/// What a client speaks to the first who hears it: this server, or a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scheme {
    Http,
    Https,
}

/// A client as a proxy tells of it.
struct Hop {
    /// `None` if the proxy does not tell, or nothing that could be read.
    address: Option<SocketAddr>,
    scheme: Option<Scheme>,
}

impl ClientInfo {
    /// Somebody who speaks HTTP to us, without TLS.
    pub(crate) fn plain(address: SocketAddr) -> Self {
        Self {
            address,
            scheme: Scheme::Http,
        }
    }

    /// Who is meant by the field `Forwarded` on a connection from this client, who is a trusted
    /// proxy.
    pub(crate) fn by_forwarded(
        self,
        fields: &Fields<'_>,
        trusts: impl Fn(SocketAddr) -> bool,
    ) -> Self {
        let elements = fields.all("forwarded").rev();
        let elements = elements.flat_map(|line| split_from_right(line, b','));
        let hops = elements
            .filter(|element| !element.is_empty())
            .map(|element| Hop {
                address: parameter(element, "for").and_then(node),
                scheme: parameter(element, "proto").map(Scheme::parse),
            });
        self.behind(hops, trusts)
    }

    /// The same for the fields X-Forwarded-For and X-Forwarded-Proto. Some proxies append to the
    /// latter as to the former, some replace it: where it is the shorter list, its first entry
    /// stands for all before it.
    pub(crate) fn by_x_forwarded(
        self,
        fields: &Fields<'_>,
        trusts: impl Fn(SocketAddr) -> bool,
    ) -> Self {
        let mut schemes = list_from_right(fields, "x-forwarded-proto").map(Scheme::parse);
        let mut scheme = schemes.next();
        let proxy = Self {
            scheme: scheme.unwrap_or(self.scheme),
            ..self
        };
        let hops = list_from_right(fields, "x-forwarded-for").map(|entry| {
            let hop = Hop {
                address: node(entry),
                scheme,
            };
            scheme = schemes.next().or(scheme);
            hop
        });
        proxy.behind(hops, trusts)
    }

    /// From hop to hop as long as they are trusted. A hop that tells no address ends it, and what
    /// is known before it holds. A scheme that is not told is not taken for the better one.
    fn behind(
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
        match name.eq_ignore_ascii_case(b"https") {
            true => Self::Https,
            false => Self::Http,
        }
    }
}

/// The entries of all field lines of that name, the last one first. Empty entries are none
/// (RFC 9110 §5.6.1.2).
fn list_from_right<'a>(fields: &'a Fields<'_>, name: &str) -> impl Iterator<Item = &'a [u8]> {
    let lines = fields.all(name).rev();
    let entries = lines.flat_map(|line| line.rsplit(|byte| *byte == b','));
    entries
        .map(<[u8]>::trim_ascii)
        .filter(|entry| !entry.is_empty())
}

/// The parts of a list whose entries may have quoted strings in them (RFC 9110 §5.6.4), the last
/// one first, without white space around them.
fn split_from_right(list: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let mut left = Some(list);
    std::iter::from_fn(move || {
        let list = left?;
        let mut is_quoted = false;
        let boundary = list.iter().enumerate().rposition(|(at, byte)| {
            if *byte == b'"' && !(is_quoted && is_escaped(list, at)) {
                is_quoted = !is_quoted;
            }
            *byte == separator && !is_quoted
        });
        left = boundary.map(|at| &list[..at]);
        let start = boundary.map_or(0, |at| at + 1);
        Some(list[start..].trim_ascii())
    })
}

fn is_escaped(text: &[u8], at: usize) -> bool {
    let backslashes = text[..at].iter().rev().take_while(|byte| **byte == b'\\');
    backslashes.count() % 2 == 1
}

/// The value of a parameter that is there once, without its quotes. Escapes in it stay: nothing
/// that is looked for here needs one.
fn parameter<'a>(element: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let mut values = split_from_right(element, b';').filter_map(|pair| {
        let equals = pair.iter().position(|byte| *byte == b'=')?;
        let (key, value) = (&pair[..equals], &pair[equals + 1..]);
        key.eq_ignore_ascii_case(name.as_bytes())
            .then(|| unquoted(value))
    });
    let value = values.next()?;
    values.next().is_none().then_some(value)
}

fn unquoted(value: &[u8]) -> &[u8] {
    match value {
        [b'"', inner @ .., b'"'] => inner,
        value => value,
    }
}

/// An address, with a port or without (RFC 7239 §6): 0 then, or if it is obfuscated. IPv6 should be
/// in brackets; where there is no port it is taken without, as it is usual in X-Forwarded-For.
/// `unknown` and obfuscated names are no address, and neither is the unspecified one.
fn node(text: &[u8]) -> Option<SocketAddr> {
    let text = std::str::from_utf8(text).ok()?;
    let (address, port) = match text.strip_prefix('[') {
        Some(text) => {
            let (address, behind) = text.split_once(']')?;
            (IpAddr::V6(address.parse::<Ipv6Addr>().ok()?), behind)
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
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::http::request::get_with;

    const PROXY: &str = "10.0.0.1:1234";

    fn address(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    /// Everything in 10.0.0.0/8.
    fn trusts(peer: SocketAddr) -> bool {
        matches!(peer.ip(), IpAddr::V4(v4) if v4.octets()[0] == 10)
    }

    fn proxy(scheme: Scheme) -> ClientInfo {
        ClientInfo {
            address: address(PROXY),
            scheme,
        }
    }

    fn lines<'a>(name: &'a str, values: &[&'a str]) -> Vec<(&'a str, &'a str)> {
        values.iter().map(|value| (name, *value)).collect()
    }

    fn forwarded(values: &[&str]) -> ClientInfo {
        let request = get_with(&lines("Forwarded", values));
        proxy(Scheme::Http).by_forwarded(request.fields(), trusts)
    }

    fn x_forwarded(hosts: &[&str], protos: &[&str]) -> ClientInfo {
        let mut fields = lines("X-Forwarded-For", hosts);
        fields.extend(lines("x-forwarded-proto", protos));
        let request = get_with(&fields);
        proxy(Scheme::Http).by_x_forwarded(request.fields(), trusts)
    }

    #[test]
    fn the_first_from_the_right_that_is_not_trusted_is_the_client() {
        let table: &[(&[&str], &str)] = &[
            (&[], PROXY),
            (&["192.0.2.7"], "192.0.2.7:0"),
            (&["  192.0.2.7\t"], "192.0.2.7:0"),
            (&["1.1.1.1, 192.0.2.7"], "192.0.2.7:0"),
            (&["1.1.1.1", "192.0.2.7"], "192.0.2.7:0"),
            (&["192.0.2.7", "10.9.9.9"], "192.0.2.7:0"),
            (&["1.1.1.1,192.0.2.7,10.9.9.9,10.0.0.3"], "192.0.2.7:0"),
            // A client that claims to be a proxy of ours.
            (&["10.0.0.2, 192.0.2.7, 10.0.0.3"], "192.0.2.7:0"),
            // Within, all are trusted.
            (&["10.9.9.9, 10.0.0.2"], "10.9.9.9:0"),
            (&["192.0.2.7:80"], "192.0.2.7:80"),
            (&["2001:db8::1"], "[2001:db8::1]:0"),
            (&["[2001:db8::1]"], "[2001:db8::1]:0"),
            (&["[2001:db8::1]:80"], "[2001:db8::1]:80"),
            (&["::ffff:10.0.0.2"], "10.0.0.2:0"),
            (&["192.0.2.7, , ,"], "192.0.2.7:0"),
            (&["192.0.2.7", "", " , "], "192.0.2.7:0"),
            // What cannot be read ends it.
            (&["192.0.2.7, nonsense"], PROXY),
            (&["192.0.2.7, nonsense, 10.0.0.2"], "10.0.0.2:0"),
            (&["unknown"], PROXY),
            (&["192.0.2.7, unknown, 10.0.0.2:5"], "10.0.0.2:5"),
            (&["192.0.2.7:"], PROXY),
            (&["192.0.2.7:x"], PROXY),
            (&["192.0.2.7:+1"], PROXY),
            (&["192.0.2.7:65536"], PROXY),
            (&["192.0.2.7 10.0.0.2"], PROXY),
            (&["[2001:db8::1"], PROXY),
            (&["[2001:db8::1]80"], PROXY),
            (&["[192.0.2.7]"], PROXY),
            (&["fe80::1%eth0"], PROXY),
            (&["::"], PROXY),
            (&["0.0.0.0"], PROXY),
            (&["\"192.0.2.7\""], PROXY),
        ];
        for (values, expected) in table {
            let client = x_forwarded(values, &[]);
            assert_eq!(client.address, address(expected), "{values:?}");
            assert_eq!(client.scheme, Scheme::Http, "{values:?}");
        }
    }

    #[test]
    fn forwarded_is_read_the_same_way() {
        let table: &[(&[&str], &str)] = &[
            (&[], PROXY),
            (&["for=192.0.2.7"], "192.0.2.7:0"),
            (&["FOR=192.0.2.7;by=10.0.0.1"], "192.0.2.7:0"),
            (&["by=10.0.0.1; for=192.0.2.7 ; host=h"], "192.0.2.7:0"),
            (&["for=\"192.0.2.7\""], "192.0.2.7:0"),
            (&["for=\"192.0.2.7:80\""], "192.0.2.7:80"),
            (&["for=\"192.0.2.7:_http\""], "192.0.2.7:0"),
            (&["for=\"[2001:db8::1]\""], "[2001:db8::1]:0"),
            (&["for=\"[2001:db8::1]:80\""], "[2001:db8::1]:80"),
            (&["for=1.1.1.1, for=192.0.2.7"], "192.0.2.7:0"),
            (
                &["for=192.0.2.7", "for=10.0.0.2,for=10.0.0.3"],
                "192.0.2.7:0",
            ),
            (
                &["for=10.0.0.9, for=192.0.2.7, for=10.0.0.3"],
                "192.0.2.7:0",
            ),
            (&["for=192.0.2.7;host=\"a,for=1.1.1.1\""], "192.0.2.7:0"),
            (&["for=192.0.2.7;x=\"\\\",for=1.1.1.1\""], "192.0.2.7:0"),
            (&["for=192.0.2.7;x=\";for=1.1.1.1\""], "192.0.2.7:0"),
            (&["for=192.0.2.7;x=\"a\\\\\""], "192.0.2.7:0"),
            // A quote that the client opened and does not close.
            (&["for=\"1.1.1.1, for=192.0.2.7"], "192.0.2.7:0"),
            (&["for=1.1.1.1;x=\", for=\"192.0.2.7\""], "192.0.2.7:0"),
            (&["x=\"\\, for=192.0.2.7;by=\"_x\""], "192.0.2.7:0"),
            // What tells no address ends it.
            (&["for=192.0.2.7, for=unknown"], PROXY),
            (&["for=192.0.2.7, for=_hidden, for=10.0.0.2"], "10.0.0.2:0"),
            (&["for=192.0.2.7, by=10.0.0.1"], PROXY),
            (&["for=192.0.2.7;for=1.1.1.1"], PROXY),
            (&["192.0.2.7"], PROXY),
            (&["for = 192.0.2.7"], PROXY),
            (&["for="], PROXY),
            (&["for=\""], PROXY),
            (&["for=\"192.0.2.7"], PROXY),
        ];
        for (values, expected) in table {
            let client = forwarded(values);
            assert_eq!(client.address, address(expected), "{values:?}");
        }
    }

    #[test]
    fn the_scheme_is_the_clients() {
        use Scheme::{Http, Https};
        let table: &[(&[&str], &[&str], Scheme)] = &[
            (&["192.0.2.7"], &["https"], Https),
            (&["192.0.2.7"], &["HTTPS"], Https),
            (&["192.0.2.7"], &["http"], Http),
            (&["192.0.2.7"], &["httpsx"], Http),
            (&["192.0.2.7"], &[], Http),
            // The client says it, the proxy something else.
            (&["192.0.2.7"], &["https, http"], Http),
            (&["1.1.1.1, 192.0.2.7"], &["https", "http"], Http),
            (&["192.0.2.7, 10.0.0.2"], &["https, http"], Https),
            (&["192.0.2.7, 10.0.0.2"], &["http, https"], Http),
            (
                &["1.1.1.1, 192.0.2.7, 10.0.0.2"],
                &["https, http, https"],
                Http,
            ),
            // One that replaces it.
            (&["192.0.2.7, 10.0.0.2, 10.0.0.3"], &["https"], Https),
            (&["192.0.2.7, 10.0.0.2, 10.0.0.3"], &["https, http"], Https),
            (&["unknown"], &["https"], Https),
            (&[], &["https"], Https),
            (&[], &["http, https"], Https),
        ];
        for (hosts, protos, scheme) in table {
            let client = x_forwarded(hosts, protos);
            assert_eq!(client.scheme, *scheme, "{hosts:?} {protos:?}");
        }
        let table: &[(&str, Scheme)] = &[
            ("for=192.0.2.7;proto=https", Https),
            ("for=192.0.2.7;proto=\"https\"", Https),
            ("for=192.0.2.7", Http),
            ("for=unknown;proto=https", Https),
            ("proto=https", Https),
            ("for=192.0.2.7;proto=https, for=10.0.0.2;proto=http", Https),
            ("for=192.0.2.7;proto=https, for=10.0.0.2", Https),
            ("for=1.1.1.1;proto=https, for=192.0.2.7;proto=http", Http),
            ("for=192.0.2.7, for=10.0.0.2;proto=https", Http),
            ("for=192.0.2.7;proto=https;proto=https", Http),
        ];
        for (value, scheme) in table {
            assert_eq!(forwarded(&[value]).scheme, *scheme, "{value}");
        }
    }

    /// A proxy that encrypts towards us and says nothing of its client is not its client.
    #[test]
    fn the_connections_own_scheme_holds_while_nothing_is_told() {
        let table: &[(&[(&str, &str)], Scheme)] = &[
            (&[], Scheme::Https),
            (&[("X-Forwarded-For", "192.0.2.7")], Scheme::Http),
            (&[("X-Forwarded-Proto", "http")], Scheme::Http),
        ];
        for (fields, scheme) in table {
            let request = get_with(fields);
            let client = proxy(Scheme::Https).by_x_forwarded(request.fields(), trusts);
            assert_eq!(client.scheme, *scheme, "{fields:?}");
        }
        let request = get_with(&[("Host", "h")]);
        let client = proxy(Scheme::Https).by_forwarded(request.fields(), trusts);
        assert_eq!(client, proxy(Scheme::Https));
    }

    proptest! {
        /// Whatever a client sends, it is who the proxy says it is.
        #[test]
        fn a_client_cannot_write_who_it_is(
            claims in prop::collection::vec("[ -~]{0,40}|(for=|[\",;\\\\=]|10\\.0\\.0\\.2|https){0,12}", 0..3),
            appended: bool,
        ) {
            let told = "for=\"[2001:db8::1]\";proto=http;by=\"_x\"";
            let x_told = "2001:db8::1";
            let add = |told: &str| {
                let mut lines = claims.clone();
                match lines.last_mut() {
                    Some(last) if appended => *last = format!("{last}, {told}"),
                    _ => lines.push(told.to_owned()),
                }
                lines
            };
            let expected = ClientInfo { address: address("[2001:db8::1]:0"), scheme: Scheme::Http };
            let lines = add(told);
            let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
            prop_assert_eq!(forwarded(&lines), expected);
            let lines = add(x_told);
            let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
            prop_assert_eq!(x_forwarded(&lines, &["http"]), expected);
        }
    }
}
