//! Header compression (RFC 7541) without a dynamic table: the client announces none.

use std::collections::HashMap;
use std::sync::OnceLock;

/// Encodes fields as literals without indexing.
pub(super) fn encode(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        push_literal(&mut block, 0, name, value);
    }
    block
}

/// Encodes a field as a literal that enters the server's dynamic table.
pub(crate) fn encode_indexed(name: &str, value: &str) -> Vec<u8> {
    const INCREMENTAL_INDEXING: u8 = 64;
    let mut block = Vec::new();
    push_literal(&mut block, INCREMENTAL_INDEXING, name, value);
    block
}

fn push_literal(block: &mut Vec<u8>, kind: u8, name: &str, value: &str) {
    block.push(kind);
    for text in [name, value] {
        push_integer(block, 7, text.len());
        block.extend_from_slice(text.as_bytes());
    }
}

/// Appends an integer with a prefix of `bits` bits whose other bits are zero.
fn push_integer(block: &mut Vec<u8>, bits: u32, value: usize) {
    let max = (1 << bits) - 1;
    if value < max {
        block.push(value as u8);
        return;
    }
    block.push(max as u8);
    let mut rest = value - max;
    while rest >= 128 {
        block.push((rest % 128) as u8 | 128);
        rest /= 128;
    }
    block.push(rest as u8);
}

/// Decodes a header block.
pub(super) fn decode(block: &[u8]) -> Vec<(String, String)> {
    let mut input = Input(block);
    let mut fields = Vec::new();
    while let Some(&first) = input.0.first() {
        match first {
            128.. => {
                let (name, value) = STATIC_TABLE[input.integer(7)];
                fields.push((name.to_owned(), value.to_owned()));
            }
            64..128 => panic!("a field for the dynamic table, whose size is 0"),
            32..64 => {
                assert_eq!(input.integer(5), 0, "the size of the dynamic table");
            }
            0..32 => {
                let name = match input.integer(4) {
                    0 => input.string(),
                    index => STATIC_TABLE[index].0.to_owned(),
                };
                let value = input.string();
                fields.push((name, value));
            }
        }
    }
    fields
}

struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn byte(&mut self) -> u8 {
        let (first, rest) = self.0.split_first().expect("a complete block");
        self.0 = rest;
        *first
    }

    fn integer(&mut self, bits: u32) -> usize {
        let max = (1 << bits) - 1;
        let mut value = usize::from(self.byte()) & max;
        if value < max {
            return value;
        }
        let mut shift = 0;
        loop {
            let byte = usize::from(self.byte());
            value += (byte & 127) << shift;
            shift += 7;
            if byte < 128 {
                return value;
            }
        }
    }

    fn string(&mut self) -> String {
        let is_huffman = self.0.first().is_some_and(|first| first & 128 != 0);
        let len = self.integer(7);
        let (text, rest) = self.0.split_at(len);
        self.0 = rest;
        let bytes = if is_huffman {
            decode_huffman(text)
        } else {
            text.to_vec()
        };
        String::from_utf8(bytes).expect("UTF-8")
    }
}

fn decode_huffman(bytes: &[u8]) -> Vec<u8> {
    let symbols = SYMBOLS.get_or_init(symbols);
    let mut text = Vec::new();
    let (mut code, mut bits) = (0, 0);
    let input = bytes
        .iter()
        .flat_map(|byte| (0..8).rev().map(move |at| byte >> at & 1));
    for bit in input {
        code = code << 1 | u32::from(bit);
        bits += 1;
        if let Some(&symbol) = symbols.get(&(bits, code)) {
            text.push(symbol);
            (code, bits) = (0, 0);
        }
    }
    assert!(bits < 8 && code == (1 << bits) - 1, "padding of ones");
    text
}

/// The symbol of each code, by the length and the bits of the code.
static SYMBOLS: OnceLock<HashMap<(u8, u32), u8>> = OnceLock::new();

/// The code is canonical: those of one length are consecutive in the order of the symbols.
fn symbols() -> HashMap<(u8, u32), u8> {
    let mut symbols = HashMap::new();
    let mut next = 0;
    for bits in 1..=30 {
        for symbol in (0..=255).filter(|symbol| CODE_BITS[usize::from(*symbol)] == bits) {
            symbols.insert((bits, next), symbol);
            next += 1;
        }
        next <<= 1;
    }
    symbols
}

/// The length of each symbol's code in bits; the last is that of the end of a string (RFC 7541
/// appendix B).
#[rustfmt::skip]
const CODE_BITS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28,
    28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6,
    5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5,
    6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23,
    21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25,
    19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
    30,
];

/// The static table (RFC 7541 appendix A), whose first index is 1.
const STATIC_TABLE: [(&str, &str); 62] = [
    ("", ""),
    (":authority", ""),
    (":method", "GET"),
    (":method", "POST"),
    (":path", "/"),
    (":path", "/index.html"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "200"),
    (":status", "204"),
    (":status", "206"),
    (":status", "304"),
    (":status", "400"),
    (":status", "404"),
    (":status", "500"),
    ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"),
    ("accept-language", ""),
    ("accept-ranges", ""),
    ("accept", ""),
    ("access-control-allow-origin", ""),
    ("age", ""),
    ("allow", ""),
    ("authorization", ""),
    ("cache-control", ""),
    ("content-disposition", ""),
    ("content-encoding", ""),
    ("content-language", ""),
    ("content-length", ""),
    ("content-location", ""),
    ("content-range", ""),
    ("content-type", ""),
    ("cookie", ""),
    ("date", ""),
    ("etag", ""),
    ("expect", ""),
    ("expires", ""),
    ("from", ""),
    ("host", ""),
    ("if-match", ""),
    ("if-modified-since", ""),
    ("if-none-match", ""),
    ("if-range", ""),
    ("if-unmodified-since", ""),
    ("last-modified", ""),
    ("link", ""),
    ("location", ""),
    ("max-forwards", ""),
    ("proxy-authenticate", ""),
    ("proxy-authorization", ""),
    ("range", ""),
    ("referer", ""),
    ("refresh", ""),
    ("retry-after", ""),
    ("server", ""),
    ("set-cookie", ""),
    ("strict-transport-security", ""),
    ("transfer-encoding", ""),
    ("user-agent", ""),
    ("vary", ""),
    ("via", ""),
    ("www-authenticate", ""),
];
