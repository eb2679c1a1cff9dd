//! Authorities and origins, and host names that no other site can have: the check against DNS rebinding.
//!
//! A web page can let the name of its own site resolve to 127.0.0.1. Browsers then treat the responses
//! of a server on this machine as belonging to that site, whose scripts can read them. The Host field
//! shows it: it has the name of that site.

use std::net::Ipv6Addr;

use super::fields::ByteSet;

/// Returns whether a host needs no DNS lookup, so that no other site can have it: an IP address, or
/// `localhost` and the names below it (RFC 6761 §6.3).
pub(crate) fn is_local(host: &[u8]) -> bool {
    const LOCALHOST: &[u8] = b"localhost";
    match host {
        [b'[', address @ .., b']'] => {
            let address = std::str::from_utf8(address).ok();
            address.is_some_and(|address| address.parse::<Ipv6Addr>().is_ok())
        }
        [.., b'0'..=b'9'] => is_ipv4_address(host),
        _ => {
            let start = host.len().checked_sub(LOCALHOST.len());
            start.is_some_and(|start| {
                let (above, last) = host.split_at(start);
                matches!(above, [] | [.., b'.']) && last.eq_ignore_ascii_case(LOCALHOST)
            })
        }
    }
}

/// Returns whether the bytes are an `IPv4address` (RFC 3986 §3.2.2). Every request to a local server is
/// checked, and [`Ipv4Addr`](std::net::Ipv4Addr), which needs text, takes nearly twice the instructions.
fn is_ipv4_address(host: &[u8]) -> bool {
    let mut octets = 0;
    host.split(|byte| *byte == b'.').all(|octet| {
        octets += 1;
        matches!(
            octet,
            [b'0'..=b'9']
                | [b'1'..=b'9', b'0'..=b'9']
                | [b'1', b'0'..=b'9', b'0'..=b'9']
                | [b'2', b'0'..=b'4', b'0'..=b'9']
                | [b'2', b'5', b'0'..=b'5']
        )
    }) && octets == 4
}

/// Returns whether the bytes are `uri-host [ ":" port ]` (RFC 9110 §4.2.3); user information is not accepted (§4.2.4).
pub(crate) fn is_authority(bytes: &[u8]) -> bool {
    static NAME: ByteSet = ByteSet::of_alphanumeric_and(b"-._~!$&'()*+,;=%");
    let is_name_char = |byte: &u8| NAME.contains(*byte);
    let after_host = match bytes {
        [b'[', literal @ ..] => {
            let is_address_char = |byte: &u8| *byte == b':' || is_name_char(byte);
            let len = literal
                .iter()
                .take_while(|byte| is_address_char(byte))
                .count();
            match &literal[len..] {
                [b']', rest @ ..] => rest,
                _ => return false,
            }
        }
        name => &name[name.iter().take_while(|byte| is_name_char(byte)).count()..],
    };
    match after_host {
        [] => true,
        [b':', port @ ..] => port.iter().all(u8::is_ascii_digit),
        _ => false,
    }
}

/// Returns whether an origin (RFC 6454) has the requested host and port. A proxy may have terminated TLS, so the
/// scheme decides only which port is the default.
pub(crate) fn is_of_host(origin: &[u8], host: &[u8]) -> bool {
    let (authority, port) = if let Some(authority) = origin.strip_prefix(b"http://") {
        (authority, &b":80"[..])
    } else if let Some(authority) = origin.strip_prefix(b"https://") {
        (authority, &b":443"[..])
    } else {
        return false;
    };
    let without_port = |text| <[u8]>::strip_suffix(text, port).unwrap_or(text);
    without_port(authority).eq_ignore_ascii_case(without_port(host))
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
            assert!(is_local(host.as_bytes()), "{host}");
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
            "ñlocalhost",
            "ocalhost",
        ] {
            assert!(!is_local(host.as_bytes()), "{host}");
        }
    }

    #[test]
    fn authority_is_host_and_optional_port() {
        for valid in [
            "",
            "a.test",
            "a.test:80",
            "a.test:",
            "[::1]",
            "[::1]:8080",
            "a_b-c~%41",
            "192.0.2.1:1",
        ] {
            assert!(is_authority(valid.as_bytes()), "{valid:?}");
        }
        for malformed in [
            "[::1",
            "::1]",
            "::1",
            "a:b:c",
            "a.test:80x",
            "a.test:-1",
            "a@b",
            "a b",
            "a/b",
            "[a]b",
            "[[::1]]",
            "a[::1]",
        ] {
            assert!(!is_authority(malformed.as_bytes()), "{malformed:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn ipv4_addresses_are_those_of_the_standard_library(
            host in "[0-9]{1,4}(\\.(25[0-9]|[0-9]{1,3}|0[0-9])){2,4}[.x]?"
        ) {
            let is_address = host.parse::<std::net::Ipv4Addr>().is_ok();
            proptest::prop_assert_eq!(is_ipv4_address(host.as_bytes()), is_address);
        }
    }
}
