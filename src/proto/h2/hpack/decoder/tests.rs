//! Blocks of RFC 7541 Appendix C, malformed blocks, budgets, and properties of any bytes.

use proptest::prelude::*;

use super::*;
use crate::http::target::hex_digit;

type Field = (Vec<u8>, Vec<u8>);

const UNLIMITED: FieldBudget = FieldBudget {
    bytes: usize::MAX,
    fields: usize::MAX,
};

/// The octets of a hexadecimal dump.
fn octets(dump: &str) -> Vec<u8> {
    let digits: Vec<u8> = dump.bytes().filter_map(hex_digit).collect();
    digits
        .chunks(2)
        .map(|pair| pair[0] << 4 | pair[1])
        .collect()
}

fn decode_within(
    decoder: &mut Decoder,
    block: &[u8],
    budget: FieldBudget,
) -> Result<(Decoded, Vec<Field>), CompressionError> {
    let mut out = DecodedFields::default();
    let decoded = decoder.decode(block, budget, &mut out)?;
    Ok((decoded, out.fields()))
}

fn decode(decoder: &mut Decoder, block: &[u8]) -> Result<Vec<Field>, CompressionError> {
    let (decoded, fields) = decode_within(decoder, block, UNLIMITED)?;
    assert_eq!(decoded, Decoded::Complete);
    Ok(fields)
}

fn fields(text: &[(&str, &str)]) -> Vec<Field> {
    text.iter()
        .map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec()))
        .collect()
}

/// Blocks of one connection with their fields, and the dynamic table and its size after each.
type Example<'a> = (
    &'a str,
    &'a [(&'a str, &'a str)],
    &'a [(&'a str, &'a str)],
    usize,
);

fn check_examples(decoder: &mut Decoder, examples: &[Example<'_>]) {
    for (block, expected, table, size) in examples {
        assert_eq!(
            decode(decoder, &octets(block)),
            Ok(fields(expected)),
            "{block}"
        );
        assert_eq!(decoder.table.contents(), (fields(table), *size), "{block}");
    }
}

#[test]
fn examples_of_rfc_7541_c_2() {
    for (block, name, value, size) in [
        (
            "400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572",
            "custom-key",
            "custom-header",
            55,
        ),
        (
            "040c 2f73 616d 706c 652f 7061 7468",
            ":path",
            "/sample/path",
            0,
        ),
        (
            "1008 7061 7373 776f 7264 0673 6563 7265 74",
            "password",
            "secret",
            0,
        ),
        ("82", ":method", "GET", 0),
    ] {
        let field: &[(&str, &str)] = &[(name, value)];
        let table = if size > 0 { field } else { &[] };
        check_examples(&mut Decoder::new(), &[(block, field, table, size)]);
    }
}

const AUTHORITY: (&str, &str) = (":authority", "www.example.com");
const NO_CACHE: (&str, &str) = ("cache-control", "no-cache");
const CUSTOM: (&str, &str) = ("custom-key", "custom-value");

/// The requests of C.3 and C.4.
fn check_requests(blocks: [&str; 3]) {
    let [first, second, third] = blocks;
    let get = (":method", "GET");
    check_examples(
        &mut Decoder::new(),
        &[
            (
                first,
                &[get, (":scheme", "http"), (":path", "/"), AUTHORITY],
                &[AUTHORITY],
                57,
            ),
            (
                second,
                &[
                    get,
                    (":scheme", "http"),
                    (":path", "/"),
                    AUTHORITY,
                    NO_CACHE,
                ],
                &[NO_CACHE, AUTHORITY],
                110,
            ),
            (
                third,
                &[
                    get,
                    (":scheme", "https"),
                    (":path", "/index.html"),
                    AUTHORITY,
                    CUSTOM,
                ],
                &[CUSTOM, NO_CACHE, AUTHORITY],
                164,
            ),
        ],
    );
}

#[test]
fn requests_of_rfc_7541_c_3() {
    check_requests([
        "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
        "8286 84be 5808 6e6f 2d63 6163 6865",
        "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
    ]);
}

#[test]
fn requests_of_rfc_7541_c_4() {
    check_requests([
        "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
        "8286 84be 5886 a8eb 1064 9cbf",
        "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
    ]);
}

const LOCATION: (&str, &str) = ("location", "https://www.example.com");
const PRIVATE: (&str, &str) = ("cache-control", "private");
const FOUND: (&str, &str) = (":status", "302");
const TEMPORARY: (&str, &str) = (":status", "307");
const DATE: (&str, &str) = ("date", "Mon, 21 Oct 2013 20:13:21 GMT");
const NEXT_DATE: (&str, &str) = ("date", "Mon, 21 Oct 2013 20:13:22 GMT");
const GZIP: (&str, &str) = ("content-encoding", "gzip");
const COOKIE: (&str, &str) = (
    "set-cookie",
    "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1",
);

/// The responses of C.5 and C.6, with a table of 256 octets, from which entries are evicted.
fn check_responses(blocks: [&str; 3]) {
    let mut decoder = Decoder::new();
    assert_eq!(decode(&mut decoder, &octets("3fe101")), Ok(vec![]));
    let [first, second, third] = blocks;
    check_examples(
        &mut decoder,
        &[
            (
                first,
                &[FOUND, PRIVATE, DATE, LOCATION],
                &[LOCATION, DATE, PRIVATE, FOUND],
                222,
            ),
            (
                second,
                &[TEMPORARY, PRIVATE, DATE, LOCATION],
                &[TEMPORARY, LOCATION, DATE, PRIVATE],
                222,
            ),
            (
                third,
                &[
                    (":status", "200"),
                    PRIVATE,
                    NEXT_DATE,
                    LOCATION,
                    GZIP,
                    COOKIE,
                ],
                &[COOKIE, GZIP, NEXT_DATE],
                215,
            ),
        ],
    );
}

#[test]
fn responses_of_rfc_7541_c_5() {
    check_responses([
        "4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133
         2032 303a 3133 3a32 3120 474d 546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70
         6c65 2e63 6f6d",
        "4803 3330 37c1 c0bf",
        "88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d
         54c0 5a04 677a 6970 7738 666f 6f3d 4153 444a 4b48 514b 425a 584f 5157 454f 5049
         5541 5851 5745 4f49 553b 206d 6178 2d61 6765 3d33 3630 303b 2076 6572 7369 6f6e
         3d31",
    ]);
}

#[test]
fn responses_of_rfc_7541_c_6() {
    check_responses([
        "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6
         2d1b ff6e 919d 29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3",
        "4883 640e ffc1 c0bf",
        "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab
         77ad 94e7 821d d7f2 e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f
         9587 3160 65c0 03ed 4ee5 b106 3d50 07",
    ]);
}

#[test]
fn size_updates_are_permitted_only_at_the_beginning() {
    for (block, is_permitted) in [
        ("20", true),
        ("3fe11f", true),    // 4,096
        ("20 3fe11f", true), // 0, 4,096
        ("20 3fe11f 82", true),
        ("3fe21f", false), // 4,097
        ("20 3fe21f", false),
        ("20 20 20", false),
        ("82 20", false),
        ("20 82 20", false),
        ("3f", false),
        ("3fffffffff0f", false),
    ] {
        let result = decode(&mut Decoder::new(), &octets(block));
        assert_eq!(result.is_ok(), is_permitted, "{block}");
    }
}

#[test]
fn size_update_evicts_before_the_fields_of_its_block() {
    let mut decoder = Decoder::new();
    let added = octets("40 01 61 01 62");
    assert_eq!(decode(&mut decoder, &added), Ok(fields(&[("a", "b")])));
    assert_eq!(decode(&mut decoder, &[0xbe]), Ok(fields(&[("a", "b")])));
    assert_eq!(decode(&mut decoder, &octets("3f02")), Ok(vec![]));
    assert_eq!(decode(&mut decoder, &[0xbe]), Err(CompressionError));
}

#[test]
fn malformed_blocks_are_errors() {
    for block in [
        "80", // index 0
        "be", // index 62 of an empty table
        "bd be",
        "ff 80 80 80 80 00", // index of six octets
        "ff ff ff ff ff 7f",
        "ff 80",    // incomplete index
        "7f 00 00", // name index 63
        "0f 2f 00", // name index 62
        "40",       // nothing after the first octet
        "00",
        "10 01",
        "00 01 61",             // no value
        "00 01 61 02 62",       // value incomplete
        "00 7f ff ff ff 7f 61", // name of 2^28 octets
        "00 81 18 00",          // padding 000
        "00 82 1f ff 00",       // padding of 11 ones
        "00 84 ff ff ff ff 00", // EOS
        "04 84 ff ff ff fc",
    ] {
        let result = decode(&mut Decoder::new(), &octets(block));
        assert_eq!(result, Err(CompressionError), "{block}");
        let nothing = FieldBudget {
            bytes: 0,
            fields: 0,
        };
        let result = decode_within(&mut Decoder::new(), &octets(block), nothing);
        assert_eq!(result, Err(CompressionError), "{block} over the budget");
    }
}

#[test]
fn name_of_an_entry_that_its_own_insertion_evicts_is_used() {
    let mut decoder = Decoder::new();
    let name = "n".repeat(100);
    let value = "v".repeat(3_900);
    let mut block = vec![0x40, 100];
    block.extend(name.bytes());
    block.push(0);
    // The name of index 62, and a value of 3,900 octets.
    block.extend([0x7e, 0x7f, 0xbd, 0x1d]);
    block.extend(value.bytes());
    let expected = fields(&[(&name, ""), (&name, &value)]);
    assert_eq!(decode(&mut decoder, &block), Ok(expected));
    assert_eq!(
        decoder.table.contents(),
        (fields(&[(&name, &value)]), 4_032)
    );
}

#[test]
fn fields_are_appended_and_each_has_32_bytes_of_overhead() {
    let block = octets("82 00 01 61 01 62 86");
    let get = (":method", "GET");
    // 7 + 3, 1 + 1 and 7 + 4 bytes.
    for (bytes, count, expected) in [
        (41, 9, &[][..]),
        (42, 9, &[get]),
        (75, 9, &[get]),
        (76, 9, &[get, ("a", "b")]),
        (118, 9, &[get, ("a", "b")]),
        (119, 3, &[get, ("a", "b"), (":scheme", "http")]),
        (119, 2, &[get, ("a", "b")]),
        (119, 0, &[]),
    ] {
        let mut out = DecodedFields::default();
        let budget = FieldBudget {
            bytes,
            fields: count,
        };
        let result = Decoder::new().decode(&block, budget, &mut out);
        let is_complete = expected.len() == 3;
        assert_eq!(
            result == Ok(Decoded::Complete),
            is_complete,
            "{bytes} {count}"
        );
        assert_eq!(out.fields(), fields(expected));
        // Once more behind the fields that are there.
        assert!(Decoder::new().decode(&block, budget, &mut out).is_ok());
        assert_eq!(out.fields(), fields(&[expected, expected].concat()));
    }
}

#[test]
fn small_field_after_one_beyond_the_budget_is_not_appended() {
    let block = octets("00 05 6c61726765 05 6669656c64 00 01 61 01 62");
    let result = decode_within(
        &mut Decoder::new(),
        &block,
        FieldBudget {
            bytes: 34,
            fields: 9,
        },
    );
    assert_eq!(result, Ok((Decoded::OverBudget, vec![])));
}

/// One-octet references to an entry of 4 KiB: 100,000 octets would be 400 MB of fields.
#[test]
fn bomb_of_indexed_fields_is_bounded_by_the_budget() {
    let mut decoder = Decoder::new();
    let value = [b'v'; MAX_TABLE_BYTES - ENTRY_OVERHEAD_BYTES - 1];
    let mut block = vec![0x40, 0x01, b'n'];
    integer::encode(0, 7, value.len(), &mut block);
    block.extend(value);
    block.extend([0xbe; 100_000]);
    let mut out = DecodedFields::default();
    let budget = FieldBudget {
        bytes: 16_384,
        fields: 100,
    };
    let result = decoder.decode(&block, budget, &mut out);
    assert_eq!(result, Ok(Decoded::OverBudget));
    assert_eq!(out.spans.len(), 4);
    assert!(out.bytes.len() <= budget.bytes && out.bytes.capacity() <= 2 * budget.bytes);
    assert_eq!(decoder.table.contents().0.len(), 1);
}

/// What an encoder may write, in pieces, so that many blocks of them are valid.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    let string = || {
        let raw = prop_oneof![
            9 => prop::collection::vec(any::<u8>(), 0..40),
            1 => prop::collection::vec(any::<u8>(), 0..5_000),
        ];
        (raw, any::<bool>()).prop_map(|(raw, is_huffman)| {
            let mut out = Vec::new();
            if is_huffman {
                integer::encode(0x80, 7, huffman::encoded_len(&raw), &mut out);
                huffman::encode(&raw, &mut out);
            } else {
                integer::encode(0, 7, raw.len(), &mut out);
                out.extend(raw);
            }
            out
        })
    };
    let encoded = |flags: u8, prefix_bits, value| {
        let mut out = Vec::new();
        integer::encode(flags, prefix_bits, value, &mut out);
        out
    };
    let first = move || {
        let literal = prop::sample::select(vec![(0x40, 6), (0x40, 6), (0x00, 4), (0x10, 4)]);
        (literal, 0_usize..66).prop_map(move |((flags, bits), index)| encoded(flags, bits, index))
    };
    let named = || prop::sample::select(vec![0x40, 0x40, 0x00, 0x10]);
    prop_oneof![
        8 => (1_usize..66).prop_map(move |index| encoded(0x80, 7, index)),
        4 => (first(), string()).prop_map(|(first, value)| [first, value].concat()),
        4 => (named(), string(), string())
            .prop_map(|(first, name, value)| [vec![first], name, value].concat()),
        1 => (0_usize..4_200).prop_map(move |size| encoded(0x20, 5, size)),
        1 => prop::collection::vec(any::<u8>(), 0..4),
    ]
}

fn blocks() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let pieces = prop::collection::vec(piece(), 0..20).prop_map(|pieces| pieces.concat());
    let any_bytes = prop::collection::vec(any::<u8>(), 0..300);
    prop::collection::vec(prop_oneof![4 => pieces, 1 => any_bytes], 0..6)
}

proptest! {
    /// A budget has no effect on errors and on the dynamic table, and the fields within it are the
    /// first ones of those without a budget.
    #[test]
    fn budget_changes_nothing_but_the_output(
        blocks in blocks(),
        bytes in 0_usize..3_000,
        count in 0_usize..30,
    ) {
        let budget = FieldBudget { bytes, fields: count };
        let (mut limited, mut unlimited) = (Decoder::new(), Decoder::new());
        for block in blocks {
            let mut out = DecodedFields::default();
            let result = limited.decode(&block, budget, &mut out);
            let all = decode(&mut unlimited, &block);
            prop_assert_eq!(limited.table.contents(), unlimited.table.contents());
            prop_assert!(limited.table.contents().1 <= MAX_TABLE_BYTES);
            prop_assert!(out.bytes.capacity() <= 2 * (bytes.max(MAX_TABLE_BYTES) + bytes));
            let (Ok(decoded), Ok(all)) = (result, &all) else {
                prop_assert_eq!(result.is_err(), all.is_err());
                break;
            };
            let within = out.fields();
            let size: usize = within.iter().map(|(name, value)| name.len() + value.len() + 32).sum();
            prop_assert!(size <= bytes && within.len() <= count);
            prop_assert_eq!(&within[..], &all[..within.len()]);
            prop_assert_eq!(out.bytes.len(), size - 32 * within.len());
            let next = all.get(within.len());
            let next_fits = next.is_some_and(|(name, value)| {
                within.len() < count && size + name.len() + value.len() + 32 <= bytes
            });
            prop_assert!(!next_fits);
            prop_assert_eq!(decoded == Decoded::Complete, next.is_none());
        }
    }
}
