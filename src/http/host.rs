//! Host names that no other site can have: the check against DNS rebinding.
//!
//! A web page can let the name of its own site resolve to 127.0.0.1. Browsers then treat the responses
//! of a server on this machine as belonging to that site, whose scripts can read them. The Host field
//! shows it: it has the name of that site.

use std::net::{Ipv4Addr, Ipv6Addr};

/// Returns whether a host needs no DNS lookup, so that no other site can have it: an IP address, or
/// `localhost` and the names below it (RFC 6761 §6.3).
pub(crate) fn is_local(host: &str) -> bool {
    let v6 = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    let last_label = host.rsplit('.').next().unwrap_or_default();
    v6.is_some_and(|host| host.parse::<Ipv6Addr>().is_ok())
        || host.parse::<Ipv4Addr>().is_ok()
        || last_label.eq_ignore_ascii_case("localhost")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ip_addresses_and_localhost_are_local() {
        for host in [
            "127.0.0.1",
            "127.9.8.7",
            "[::1]",
            "localhost",
            "LocalHost",
            "app.localhost",
            "a.b.LOCALHOST",
            "192.0.2.7",
            "[fe80::1]",
        ] {
            assert!(is_local(host), "{host}");
        }
        for host in [
            "",
            "evil.test",
            "localhost.evil.test",
            "evillocalhost",
            "127.0.0.1.evil.test",
            "::1",
            "[::1",
            "[localhost]",
            "1",
        ] {
            assert!(!is_local(host), "{host}");
        }
    }
}
