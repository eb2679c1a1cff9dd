use proptest::prelude::*;

use super::*;
use crate::http::request::get_with;

const PROXY: &str = "10.0.0.1:1234";

fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

/// The trusted proxies are 10.0.0.0/8.
fn trusts(peer: SocketAddr) -> bool {
    matches!(peer.ip(), IpAddr::V4(v4) if v4.octets()[0] == 10)
}

fn proxy(scheme: Scheme) -> ClientInfo {
    ClientInfo {
        address: address(PROXY),
        scheme,
        tls: None,
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
fn x_forwarded_for_yields_first_untrusted_address_from_the_right() {
    let table: &[(&[&str], &str)] = &[
        (&[], PROXY),
        (&["192.0.2.7"], "192.0.2.7:0"),
        (&["  192.0.2.7\t"], "192.0.2.7:0"),
        (&["1.1.1.1, 192.0.2.7"], "192.0.2.7:0"),
        (&["1.1.1.1", "192.0.2.7"], "192.0.2.7:0"),
        (&["192.0.2.7", "10.9.9.9"], "192.0.2.7:0"),
        (&["1.1.1.1,192.0.2.7,10.9.9.9,10.0.0.3"], "192.0.2.7:0"),
        // A client that claims to be a trusted proxy.
        (&["10.0.0.2, 192.0.2.7, 10.0.0.3"], "192.0.2.7:0"),
        // All hops are trusted.
        (&["10.9.9.9, 10.0.0.2"], "10.9.9.9:0"),
        (&["192.0.2.7:80"], "192.0.2.7:80"),
        (&["2001:db8::1"], "[2001:db8::1]:0"),
        (&["[2001:db8::1]"], "[2001:db8::1]:0"),
        (&["[2001:db8::1]:80"], "[2001:db8::1]:80"),
        (&["::ffff:10.0.0.2"], "10.0.0.2:0"),
        (&["192.0.2.7, , ,"], "192.0.2.7:0"),
        (&["192.0.2.7", "", " , "], "192.0.2.7:0"),
        // An entry that cannot be parsed ends the walk.
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
fn forwarded_yields_first_untrusted_address_from_the_right() {
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
        // A quote that the client opened and did not close.
        (&["for=\"1.1.1.1, for=192.0.2.7"], "192.0.2.7:0"),
        (&["for=1.1.1.1;x=\", for=\"192.0.2.7\""], "192.0.2.7:0"),
        (&["x=\"\\, for=192.0.2.7;by=\"_x\""], "192.0.2.7:0"),
        // An entry without an address ends the walk.
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
fn scheme_is_that_of_the_client_hop() {
    use Scheme::{Http, Https};
    let table: &[(&[&str], &[&str], Scheme)] = &[
        (&["192.0.2.7"], &["https"], Https),
        (&["192.0.2.7"], &["HTTPS"], Https),
        (&["192.0.2.7"], &["http"], Http),
        (&["192.0.2.7"], &["httpsx"], Http),
        (&["192.0.2.7"], &[], Http),
        // The client and the proxy report different schemes.
        (&["192.0.2.7"], &["https, http"], Http),
        (&["1.1.1.1, 192.0.2.7"], &["https", "http"], Http),
        (&["192.0.2.7, 10.0.0.2"], &["https, http"], Https),
        (&["192.0.2.7, 10.0.0.2"], &["http, https"], Http),
        (
            &["1.1.1.1, 192.0.2.7, 10.0.0.2"],
            &["https, http, https"],
            Http,
        ),
        // A proxy that replaces the field.
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

/// The scheme of the connection between the proxy and this server is not the client's.
#[test]
fn scheme_of_the_connection_holds_without_forwarding_fields() {
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
    /// Nothing that a client sends changes the address and scheme that the proxy reports.
    #[test]
    fn client_fields_cannot_change_the_reported_client(
        claims in prop::collection::vec("[ -~]{0,40}|(for=|[\",;\\\\=]|10\\.0\\.0\\.2|https){0,12}", 0..3),
        appended: bool,
    ) {
        let reported = "for=\"[2001:db8::1]\";proto=http;by=\"_x\"";
        let x_reported = "2001:db8::1";
        let add = |reported: &str| {
            let mut lines = claims.clone();
            match lines.last_mut() {
                Some(last) if appended => *last = format!("{last}, {reported}"),
                _ => lines.push(reported.to_owned()),
            }
            lines
        };
        let expected = ClientInfo { address: address("[2001:db8::1]:0"), scheme: Scheme::Http, tls: None };
        let lines = add(reported);
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        prop_assert_eq!(forwarded(&lines), expected);
        let lines = add(x_reported);
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        prop_assert_eq!(x_forwarded(&lines, &["http"]), expected);
    }
}
