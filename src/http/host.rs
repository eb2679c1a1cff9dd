//! Authorities and origins, and host names that no other site can have: the check against DNS rebinding.
//!
//! A web page can let the name of its own site resolve to 127.0.0.1. Browsers then treat the responses
//! of a server on this machine as belonging to that site, whose scripts can read them. The Host field
//! shows it: it has the name of that site.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::fields::ByteSet;

/// Returns whether a host needs no DNS lookup, so that no other site can have it: an IP address, or
/// `localhost` and the names below it (RFC 6761 §6.3).
pub(crate) fn is_local(host: &str) -> bool {
    let v6 = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    match host.as_bytes().last() {
        Some(b']') => v6.is_some_and(|host| host.parse::<Ipv6Addr>().is_ok()),
        Some(b'0'..=b'9') => host.parse::<Ipv4Addr>().is_ok(),
        _ => {
            let last_label = host.rsplit('.').next().unwrap_or_default();
            last_label.eq_ignore_ascii_case("localhost")
        }
    }
}

/// Returns whether the bytes are `uri-host [ ":" port ]` (RFC 9110 §4.2.3); user information is not accepted (§4.2.4).
pub(crate) fn is_authority(bytes: &[u8]) -> bool {
    let (host, port) = match bytes.iter().rposition(|byte| matches!(byte, b':' | b']')) {
        Some(at) if bytes[at] == b':' => (&bytes[..at], &bytes[at + 1..]),
        _ => (bytes, &b""[..]),
    };
    let literal = host
        .strip_prefix(b"[")
        .and_then(|host| host.strip_suffix(b"]"));
    let is_host = match literal {
        Some(address) => address
            .iter()
            .all(|byte| *byte == b':' || is_name_char(byte)),
        None => host.iter().all(is_name_char),
    };
    is_host && port.iter().all(u8::is_ascii_digit)
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

fn is_name_char(byte: &u8) -> bool {
    static NAME: ByteSet = ByteSet::of_alphanumeric_and(b"-._~!$&'()*+,;=%");
    NAME.contains(*byte)
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
}
