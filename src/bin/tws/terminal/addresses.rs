//! The addresses and URLs at which clients reach the server. Pure, but for the list of the network
//! interfaces' addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;

use crate::cli::{BasePath, Encryption};

/// Returns the URL of the site at `address`, below `base`.
pub(crate) fn url(encryption: &Encryption, address: SocketAddr, base: &BasePath) -> String {
    let scheme = match encryption {
        Encryption::Off => "http",
        Encryption::SelfSigned | Encryption::Certificates(_) | Encryption::Acme(_) => "https",
    };
    format!("{scheme}://{address}{}/", base.prefix())
}

/// Returns all addresses at which listeners bound to `listening` can be reached: those for this
/// machine alone first, then, for unspecified addresses, those of the network interfaces.
pub(crate) fn reachable(listening: &[SocketAddr]) -> Vec<SocketAddr> {
    let has_unspecified = listening
        .iter()
        .any(|address| address.ip().is_unspecified());
    // The kernel lists all interfaces of the machine, which may be many.
    let interfaces = if has_unspecified {
        interface_addresses()
    } else {
        Vec::new()
    };
    reachable_with(listening, &interfaces)
}

/// Replaces an unspecified address with the loopback address of its family.
pub(crate) fn from_this_machine(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// Returns the first address that other machines can reach; an IPv4 address if there is one.
pub(super) fn from_other_machines(reachable: &[SocketAddr]) -> Option<SocketAddr> {
    let mut others = reachable
        .iter()
        .filter(|address| !address.ip().to_canonical().is_loopback());
    let first = others.clone().next();
    others.find(|address| address.is_ipv4()).or(first).copied()
}

fn reachable_with(listening: &[SocketAddr], interfaces: &[IpAddr]) -> Vec<SocketAddr> {
    let mut all: Vec<SocketAddr> = listening.iter().copied().map(from_this_machine).collect();
    let unspecified = |address: &&SocketAddr| address.ip().is_unspecified();
    for address in listening.iter().filter(unspecified) {
        // A dual-stack socket bound to [::] accepts IPv4 as well.
        let accepts = |ip: &&IpAddr| ip.is_ipv4() || address.is_ipv6();
        let interfaces = interfaces.iter().filter(accepts);
        all.extend(interfaces.map(|ip| SocketAddr::new(*ip, address.port())));
    }
    let mut seen = Vec::new();
    all.retain(|address| {
        let is_new = !seen.contains(address);
        seen.push(*address);
        is_new
    });
    all
}

/// Returns the addresses of the interfaces that are up, IPv4 first, without loopback and link-local
/// ones, which are valid on this machine or on one link only.
fn interface_addresses() -> Vec<IpAddr> {
    let Ok(interfaces) = getifaddrs() else {
        return Vec::new();
    };
    let up = interfaces.filter(|interface| interface.flags.contains(InterfaceFlags::IFF_UP));
    let addresses = up.filter_map(|interface| {
        let address = interface.address?;
        let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
        v4.or_else(|| Some(IpAddr::V6(address.as_sockaddr_in6()?.ip())))
    });
    let is_routable = |ip: &IpAddr| match ip {
        IpAddr::V4(ip) => !ip.is_loopback() && !ip.is_link_local(),
        IpAddr::V6(ip) => !ip.is_loopback() && !ip.is_unicast_link_local(),
    };
    let mut addresses: Vec<IpAddr> = addresses.filter(is_routable).collect();
    addresses.sort_by_key(IpAddr::is_ipv6);
    addresses
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(texts: &[&str]) -> Vec<SocketAddr> {
        let address = |text: &&str| text.parse().expect("an address");
        texts.iter().map(address).collect()
    }

    #[test]
    fn unspecified_address_is_reachable_at_loopback_and_all_interfaces() {
        let interfaces: Vec<IpAddr> = ["192.0.2.7", "198.51.100.7", "2001:db8::7"]
            .map(|text| text.parse().expect("an address"))
            .into();
        for (listening, expected, from_others) in [
            (&["127.0.0.1:80"][..], &["127.0.0.1:80"][..], None),
            (
                &["[::1]:80", "127.0.0.1:80"],
                &["[::1]:80", "127.0.0.1:80"],
                None,
            ),
            (&["192.0.2.7:80"], &["192.0.2.7:80"], Some("192.0.2.7:80")),
            (
                &["0.0.0.0:80"],
                &["127.0.0.1:80", "192.0.2.7:80", "198.51.100.7:80"],
                Some("192.0.2.7:80"),
            ),
            (
                &["[::]:80", "0.0.0.0:80"],
                &[
                    "[::1]:80",
                    "127.0.0.1:80",
                    "192.0.2.7:80",
                    "198.51.100.7:80",
                    "[2001:db8::7]:80",
                ],
                Some("192.0.2.7:80"),
            ),
            (
                &["[2001:db8::7]:80"],
                &["[2001:db8::7]:80"],
                Some("[2001:db8::7]:80"),
            ),
        ] {
            let found = reachable_with(&parse(listening), &interfaces);
            assert_eq!(found, parse(expected), "{listening:?}");
            let from_others = from_others.map(|text| parse(&[text])[0]);
            assert_eq!(from_other_machines(&found), from_others, "{listening:?}");
        }
    }
}
