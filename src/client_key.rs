//! The key by which clients are counted: for connection limits, bandwidth and request rates.

use std::net::IpAddr;

/// An IPv4 address, or an IPv6 network of 64 bits, which is the smallest that a customer is assigned
/// (RFC 6177).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ClientKey(u128);

impl ClientKey {
    /// Returns the key of an address. `None` for a peer without an address (a Unix socket's is reported
    /// as `[::]:0`), because all such peers would count as one client.
    pub(crate) fn of(address: IpAddr) -> Option<Self> {
        match address.to_canonical() {
            address if address.is_unspecified() => None,
            IpAddr::V4(v4) => Some(Self(v4.to_ipv6_mapped().to_bits())),
            IpAddr::V6(v6) => Some(Self(v6.to_bits() >> 64 << 64)),
        }
    }

    /// Returns the address, or the first one of the network, as an IPv6 address.
    pub(crate) fn octets(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_is_the_ipv4_address_or_the_ipv6_network() {
        let client = |text: &str| ClientKey::of(text.parse().expect("an address"));
        for (first, same, other) in [
            ("192.0.2.1", "::ffff:192.0.2.1", "192.0.2.2"),
            ("2001:db8::1", "2001:db8::2:0:0:1", "2001:db8:0:1::1"),
            ("127.0.0.1", "127.0.0.1", "::1"),
        ] {
            assert_eq!(client(first), client(same), "{same}");
            assert_ne!(client(first), client(other), "{other}");
            assert!(client(first).is_some(), "{first}");
        }
        for unspecified in ["::", "0.0.0.0", "::ffff:0.0.0.0"] {
            assert_eq!(client(unspecified), None, "{unspecified}");
        }
    }
}
