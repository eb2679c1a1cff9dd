//! Who counts as one client, wherever something is counted for each.

use std::net::IpAddr;

/// An IPv4 address, or the network that one IPv6 customer has at least (RFC 6177).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ClientKey(u128);

impl ClientKey {
    /// `None` for a peer without an address (a unix socket's stands as `[::]:0`): all of them would
    /// be one.
    pub(crate) fn of(address: IpAddr) -> Option<Self> {
        match address.to_canonical() {
            address if address.is_unspecified() => None,
            IpAddr::V4(v4) => Some(Self(v4.to_ipv6_mapped().to_bits())),
            IpAddr::V6(v6) => Some(Self(v6.to_bits() >> 64 << 64)),
        }
    }

    /// The address, or the network's first one, as IPv6 writes it.
    pub(crate) fn octets(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_an_address_or_a_network() {
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
        for nobody in ["::", "0.0.0.0", "::ffff:0.0.0.0"] {
            assert_eq!(client(nobody), None, "{nobody}");
        }
    }
}
