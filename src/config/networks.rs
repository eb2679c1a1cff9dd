//! Sets of networks, such as `10.0.0.0/8, ::1`, and the peers of Unix sockets.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Net};

use crate::error::SettingError;

/// The address that stands for the peer of a Unix socket, which has none. No other peer has it.
pub(crate) const UNIX_PEER: SocketAddr =
    SocketAddr::V6(SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, 0, 0, 0));

/// A set of networks, which may include the peers of Unix sockets.
///
/// The text form is a list with commas of networks (`10.0.0.0/8`, `2001:db8::/32`), addresses, and
/// `unix`. An IPv4-mapped IPv6 address (`::ffff:192.0.2.7`), as a dual-stack socket reports it, is
/// treated as the IPv4 address; `::/0` therefore contains all of IPv6 and nothing of IPv4.
///
/// ```
/// use tws::Networks;
///
/// let networks: Networks = "10.0.0.0/8, ::1".parse()?;
/// assert!(networks.contains(([10, 1, 2, 3], 80).into()));
/// assert!(!networks.contains(([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1], 80).into()));
/// # Ok::<_, tws::SettingError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks {
    networks: Vec<IpNet>,
    unix: bool,
}

impl Networks {
    /// Returns whether the set is empty.
    pub fn is_empty(&self) -> bool {
        self.networks.is_empty() && !self.unix
    }

    /// Returns whether the set contains the peer of a connection. The peer of a Unix socket is `[::]:0`.
    pub fn contains(&self, peer: SocketAddr) -> bool {
        if peer == UNIX_PEER {
            return self.unix;
        }
        let address = peer.ip().to_canonical();
        self.networks.iter().any(|net| net.contains(&address))
    }
}

impl FromStr for Networks {
    type Err = SettingError;

    fn from_str(text: &str) -> Result<Self, SettingError> {
        let mut found = Self::default();
        for word in text.split(',').map(str::trim) {
            match word {
                "unix" => found.unix = true,
                word => found.networks.push(network(word).ok_or_else(|| {
                    format!(
                        "must be a network or an address such as 10.0.0.0/8, 192.0.2.7 or ::1, or unix \
                         for peers on Unix sockets (got {word:?})"
                    )
                })?),
            }
        }
        Ok(found)
    }
}

impl FromIterator<Self> for Networks {
    fn from_iter<I: IntoIterator<Item = Self>>(sets: I) -> Self {
        sets.into_iter().fold(Self::default(), |mut all, set| {
            all.networks.extend(set.networks);
            all.unix |= set.unix;
            all
        })
    }
}

fn network(word: &str) -> Option<IpNet> {
    let network = match word.parse::<IpAddr>() {
        Ok(address) => IpNet::from(address),
        Err(_) => word.parse().ok()?,
    };
    let mapped = match network {
        IpNet::V6(v6) => v6
            .addr()
            .to_ipv4_mapped()
            .zip(v6.prefix_len().checked_sub(96)),
        IpNet::V4(_) => None,
    };
    match mapped {
        Some((address, prefix)) => Ipv4Net::new(address, prefix).ok().map(IpNet::V4),
        None => Some(network),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn network_contains_its_addresses_only() {
        let table = [
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.1"),
            ("10.1.2.3/8", "10.255.0.1", "11.0.0.1"),
            ("192.0.2.7", "192.0.2.7", "192.0.2.8"),
            ("192.0.2.7", "::ffff:192.0.2.7", "::ffff:192.0.2.8"),
            ("::ffff:192.0.2.0/120", "192.0.2.7", "192.0.3.7"),
            ("::ffff:192.0.2.7", "::ffff:192.0.2.7", "192.0.2.8"),
            ("::1", "::1", "127.0.0.1"),
            ("2001:db8::/32", "2001:db8:1::7", "2001:db9::"),
            ("::/0", "2001:db8::1", "192.0.2.7"),
            ("0.0.0.0/0", "192.0.2.7", "2001:db8::1"),
            ("::/0", "::2", "::ffff:192.0.2.7"),
            ("10.0.0.0/8,192.0.2.7 , ::1", "192.0.2.7", "192.0.2.8"),
        ];
        for (text, inside, outside) in table {
            let networks: Networks = text.parse().expect("networks");
            let has =
                |ip: &str| networks.contains(SocketAddr::new(ip.parse().expect("an address"), 1));
            assert!(has(inside) && !has(outside), "{text}");
            assert!(!networks.contains(UNIX_PEER), "{text}");
            assert!(!networks.is_empty(), "{text}");
        }
        assert!(Networks::default().is_empty());
    }

    #[test]
    fn unix_contains_unix_peers_only() {
        let unix: Networks = "unix".parse().expect("networks");
        assert!(unix.contains(UNIX_PEER) && !unix.is_empty());
        for other in ["[::]:1", "[::1]:0", "0.0.0.0:0", "127.0.0.1:0"] {
            assert!(
                !unix.contains(other.parse().expect("an address")),
                "{other}"
            );
        }
        let sets = ["unix", "::1", "10.0.0.0/8"];
        let all: Networks = sets
            .iter()
            .map(|set| set.parse::<Networks>().expect("a set"))
            .collect();
        assert_eq!(Ok(all), "::1,10.0.0.0/8,unix".parse());
    }

    #[test]
    fn invalid_network_is_an_error_with_examples() {
        for word in [
            "",
            "10.0.0.0/33",
            "10.0.0",
            "proxy.example",
            "10.0.0.1-9",
            "fe80::1%lo",
            "/8",
        ] {
            for text in [word.to_owned(), format!("::1, {word}")] {
                let reason = text.parse::<Networks>().expect_err(&text);
                assert!(
                    reason.to_string().ends_with(&format!("(got {word:?})")),
                    "{reason}"
                );
            }
        }
    }
}
