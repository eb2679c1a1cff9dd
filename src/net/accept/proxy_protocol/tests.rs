//! Tests of the parser with valid, invalid and mutated headers.

use proptest::prelude::*;

use super::*;

const LOCAL: u8 = 0x20;
const PROXY: u8 = 0x21;

fn client(text: &str) -> SourceAddress {
    SourceAddress::Client(text.parse().expect("an address"))
}

fn binary(command: u8, family: u8, block: &[u8]) -> Vec<u8> {
    let mut bytes = SIGNATURE.to_vec();
    bytes.extend([command, family]);
    bytes.extend(u16::try_from(block.len()).expect("short").to_be_bytes());
    bytes.extend(block);
    bytes
}

fn inet(extensions: &[u8]) -> Vec<u8> {
    let addresses = [192, 0, 2, 7, 127, 0, 0, 1, 0xD4, 0x31, 0, 80];
    binary(PROXY, 0x11, &[&addresses[..], extensions].concat())
}

fn inet6(client: Ipv6Addr, port: u16) -> Vec<u8> {
    let mut block = client.octets().to_vec();
    block.extend(Ipv6Addr::LOCALHOST.octets());
    block.extend(port.to_be_bytes());
    block.extend(443_u16.to_be_bytes());
    binary(PROXY, 0x21, &block)
}

#[test]
fn valid_header_yields_its_source() {
    let unix = [b'/'; 216];
    let extension = [0x04, 0, 2, 9, 9, 0x20, 0, 0];
    let longest = format!("PROXY UNKNOWN {}\r\n", "f".repeat(107 - 16));
    let v6: Ipv6Addr = "2001:db8::7".parse().expect("an address");
    let table: &[(&[u8], SourceAddress)] = &[
        (
            b"PROXY TCP4 192.0.2.7 127.0.0.1 54321 80\r\n",
            client("192.0.2.7:54321"),
        ),
        (
            b"PROXY TCP4 192.0.2.7 127.0.0.1 0 65535\r\n",
            client("192.0.2.7:0"),
        ),
        (
            b"PROXY TCP6 2001:db8::7 ::1 54321 80\r\n",
            client("[2001:db8::7]:54321"),
        ),
        (
            b"PROXY TCP6 ::ffff:192.0.2.7 ::1 1 80\r\n",
            client("[::ffff:192.0.2.7]:1"),
        ),
        (
            b"PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff \
              ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n",
            client("[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535"),
        ),
        (b"PROXY TCP6 :: ::1 0 80\r\n", SourceAddress::Connection),
        (b"PROXY UNKNOWN\r\n", SourceAddress::Connection),
        (
            b"PROXY UNKNOWN ?? anything  at all\r\n",
            SourceAddress::Connection,
        ),
        (longest.as_bytes(), SourceAddress::Connection),
        (&inet(b""), client("192.0.2.7:54321")),
        (&inet(&extension), client("192.0.2.7:54321")),
        (&inet6(v6, 54321), client("[2001:db8::7]:54321")),
        (&inet6(Ipv6Addr::UNSPECIFIED, 0), SourceAddress::Connection),
        // A QUIC client.
        (
            &binary(PROXY, 0x12, &[192, 0, 2, 7, 0, 0, 0, 0, 0, 9, 0, 0]),
            client("192.0.2.7:9"),
        ),
        (&binary(PROXY, 0x31, &unix), SourceAddress::Connection),
        (&binary(PROXY, 0x00, b""), SourceAddress::Connection),
        (&binary(PROXY, 0x00, b"anything"), SourceAddress::Connection),
        (&binary(LOCAL, 0x00, b""), SourceAddress::Connection),
        (&binary(LOCAL, 0x11, &[1; 12]), SourceAddress::Connection),
        (&binary(LOCAL, 0xFF, b"x"), SourceAddress::Connection),
        (
            &inet(&[&[0xEA, 15, 225][..], &[0; 4065]].concat()),
            client("192.0.2.7:54321"),
        ),
    ];
    for (bytes, source) in table {
        let expected = Ok(Some(Header {
            len: bytes.len(),
            source: *source,
        }));
        assert_eq!(parse(bytes), expected, "{}", bytes.escape_ascii());
        let with_more = [bytes, &b"GET / HTTP/1.1\r\n"[..]].concat();
        assert_eq!(parse(&with_more), expected, "{}", bytes.escape_ascii());
        check_prefixes(&with_more);
    }
}

#[test]
fn invalid_header_is_rejected_with_its_reason() {
    let table: &[(&[u8], Reason)] = &[
        (b"GET / HTTP/1.1\r\n", NO_HEADER),
        (b"POST / HTTP/1.1\r\n", NO_HEADER),
        (b"\x16\x03\x01", NO_HEADER),
        (b"\r\n\r\nGET", NO_HEADER),
        (b"proxy TCP4", NO_HEADER),
        (b"PROXYTCP4", NO_HEADER),
        (b"PROXY  TCP4", BAD_PROTOCOL),
        (b"PROXY\r\n", BAD_PROTOCOL),
        (b"PROXY UDP4", BAD_PROTOCOL),
        (b"PROXY TCP4\r\n", BAD_ADDRESS),
        (b"PROXY TCP4 192.0.2.07 127.0.0.1 1 2\r\n", BAD_ADDRESS),
        (b"PROXY TCP4 192.0.2 ", BAD_ADDRESS),
        (b"PROXY TCP4 192.0.2.x", BAD_ADDRESS),
        (b"PROXY TCP4 192.0.2.1111111111", BAD_ADDRESS),
        (b"PROXY TCP4 ::1 ::1 1 2\r\n", BAD_ADDRESS),
        (b"PROXY TCP4 1.2.3.4  1.2.3.4 1 2\r\n", BAD_ADDRESS),
        (b"PROXY TCP6 1.2.3.4 1.2.3.4 1 2\r\n", BAD_ADDRESS),
        (b"PROXY TCP6 fe80::1%eth0 ", BAD_ADDRESS),
        (b"PROXY TCP4 1.2.3.4 1.2.3.4 65536", BAD_PORT),
        (b"PROXY TCP4 1.2.3.4 1.2.3.4 01", BAD_PORT),
        (b"PROXY TCP4 1.2.3.4 1.2.3.4 +1", BAD_PORT),
        (b"PROXY TCP4 1.2.3.4 1.2.3.4 -", BAD_PORT),
        (b"PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n", BAD_PORT),
        (b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2 ", BAD_LINE_END),
        (b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2\n", BAD_LINE_END),
        (b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2\rG", BAD_LINE_END),
        (b"PROXY UNKNOWN\n", BAD_LINE_END),
        (
            &[&b"PROXY UNKNOWN "[..], &[b'x'; 92]].concat(),
            LINE_TOO_LONG,
        ),
        (&binary(0x11, 0x11, &[0; 12]), BAD_COMMAND),
        (&binary(0x22, 0x11, &[0; 12]), BAD_COMMAND),
        (&binary(PROXY, 0x41, &[0; 12]), BAD_FAMILY),
        (&binary(PROXY, 0x13, &[0; 12]), BAD_FAMILY),
        (&binary(PROXY, 0x11, &[0; 11]), TOO_SHORT),
        (&binary(PROXY, 0x21, &[0; 35]), TOO_SHORT),
        (&binary(PROXY, 0x31, &[0; 215]), TOO_SHORT),
        (&binary(PROXY, 0x11, &[0; 4081])[..16], TOO_LONG),
        (&binary(LOCAL, 0x00, &[0; 4081])[..16], TOO_LONG),
        (&inet(&[1, 0]), BAD_EXTENSION),
        (&inet(&[1, 0, 1])[..31], BAD_EXTENSION),
        (&inet(&[1, 0, 0, 2]), BAD_EXTENSION),
    ];
    for (bytes, reason) in table {
        assert_eq!(parse(bytes), Err(*reason), "{}", bytes.escape_ascii());
        check_prefixes(bytes);
        // More bytes do not change the reason.
        let with_more = [bytes, &b"\r\n"[..]].concat();
        assert_eq!(parse(&with_more), Err(*reason), "{}", bytes.escape_ascii());
    }
}

/// The result for a prefix is "incomplete" or that for all bytes, so it makes no difference how
/// they were split.
fn check_prefixes(bytes: &[u8]) {
    let whole = parse(bytes);
    for len in 0..bytes.len() {
        let part = parse(&bytes[..len]);
        assert!(
            part == Ok(None) || part == whole,
            "{part:?} of {}, {whole:?} of {}",
            bytes[..len].escape_ascii(),
            bytes.escape_ascii()
        );
    }
}

#[test]
fn header_of_maximum_length_is_never_incomplete() {
    let long = inet(&[&[0xEA, 15, 225][..], &[0; 4065]].concat());
    assert_eq!(long.len(), MAX_BYTES);
    assert_eq!(parse(&long[..MAX_BYTES - 1]), Ok(None));
    let line = [&b"PROXY UNKNOWN "[..], &[b'x'; 91]].concat();
    assert_eq!((line.len(), parse(&line)), (105, Ok(None)));
}

/// Valid headers with a few bytes changed.
fn mutated_header() -> impl Strategy<Value = Vec<u8>> {
    let headers = prop_oneof![
        Just(b"PROXY TCP4 192.0.2.7 127.0.0.1 54321 80\r\nrest".to_vec()),
        Just(b"PROXY TCP6 2001:db8::7 ::ffff:1.2.3.4 54321 80\r\nrest".to_vec()),
        Just(b"PROXY UNKNOWN 1\r\nrest".to_vec()),
        Just(inet(&[4, 0, 1, 7, 3, 0, 0])),
        Just(inet6(Ipv6Addr::LOCALHOST, 1)),
        Just(binary(LOCAL, 0, b"")),
    ];
    let change = (any::<prop::sample::Index>(), any::<u8>(), 0..4_u8);
    (headers, prop::collection::vec(change, 0..4)).prop_map(|(mut bytes, changes)| {
        for (at, byte, what) in changes {
            if bytes.is_empty() {
                continue;
            }
            let at = at.index(bytes.len());
            match what {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                2 => drop(bytes.remove(at)),
                _ => bytes.insert(at, bytes[at]),
            }
        }
        bytes
    })
}

proptest! {
    #[test]
    fn result_does_not_depend_on_splits(bytes in mutated_header()) {
        check_prefixes(&bytes);
    }

    #[test]
    fn arbitrary_bytes_do_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        check_prefixes(&bytes);
        check_prefixes(&[&SIGNATURE[..], &bytes].concat());
    }

    #[test]
    fn encoded_address_is_parsed_back(client: SocketAddr, server: SocketAddr) {
        prop_assume!(!client.ip().is_unspecified());
        let (client, server) = match (client.ip(), server.ip()) {
            (IpAddr::V4(v4), IpAddr::V6(_)) => {
                (SocketAddr::new(v4.to_ipv6_mapped().into(), client.port()), server)
            }
            (IpAddr::V6(_), IpAddr::V4(v4)) => {
                (client, SocketAddr::new(v4.to_ipv6_mapped().into(), server.port()))
            }
            _ => (client, server),
        };
        let (name, family) = if client.is_ipv4() {
            ("TCP4", 0x11)
        } else {
            ("TCP6", 0x21)
        };
        let (from, to) = (client.ip(), server.ip());
        let line = format!(
            "PROXY {name} {from} {to} {} {}\r\n",
            client.port(),
            server.port()
        );
        let mut block = Vec::new();
        for address in [from, to] {
            match address {
                IpAddr::V4(v4) => block.extend(v4.octets()),
                IpAddr::V6(v6) => block.extend(v6.octets()),
            }
        }
        block.extend(client.port().to_be_bytes());
        block.extend(server.port().to_be_bytes());
        let expected = SourceAddress::Client(SocketAddr::new(from, client.port()));
        for bytes in [line.into_bytes(), binary(PROXY, family, &block)] {
            let header = Header { len: bytes.len(), source: expected };
            prop_assert_eq!(parse(&bytes), Ok(Some(header)));
        }
    }
}
