//! The Huffman code of string literals (RFC 7541 §5.2 and Appendix B).

use super::CompressionError;

/// All octets and EOS.
const SYMBOLS: usize = 257;

/// The end-of-string symbol. Its code is thirty ones, so that the beginning of it serves as padding.
const EOS: usize = 256;

/// The length of each symbol's code in bits. The code is canonical: codes of one length are
/// consecutive in the order of the symbols, and shorter codes precede longer ones.
#[rustfmt::skip]
const CODE_BITS: [u8; SYMBOLS] = [
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

const MIN_CODE_BITS: usize = 5;
const MAX_CODE_BITS: u8 = 30;

/// Maximum number of padding bits (RFC 7541 §5.2).
const MAX_PADDING_BITS: u8 = 7;

/// A symbol's code, in the least significant bits.
#[derive(Clone, Copy)]
struct Code {
    code: u32,
    bits: u8,
}

static CODES: [Code; SYMBOLS] = codes();

const fn codes() -> [Code; SYMBOLS] {
    let mut codes = [Code { code: 0, bits: 0 }; SYMBOLS];
    let mut next = 0;
    let mut bits = 1;
    while bits <= MAX_CODE_BITS {
        let mut symbol = 0;
        while symbol < SYMBOLS {
            if CODE_BITS[symbol] == bits {
                codes[symbol] = Code { code: next, bits };
                next += 1;
            }
            symbol += 1;
        }
        next <<= 1;
        bits += 1;
    }
    codes
}

/// The decoder's states are the inner nodes of the code's tree. The root and the nodes below it on
/// the path of EOS have the numbers 0, 1, 2, …, which are their depths.
const STATES: usize = SYMBOLS - 1;

/// A node of the code's tree: one of the states, or [`LEAF`] plus a symbol.
type Node = u16;
const LEAF: Node = 1 << 15;

/// The nodes that follow each state for a zero and a one. The root follows no state.
const fn tree() -> [[Node; 2]; STATES] {
    const ROOT: Node = 0;
    let mut children = [[ROOT; 2]; STATES];
    let mut states = 1;
    let codes = codes();
    // From the last symbol to the first, because the path of EOS is numbered first.
    let mut symbol = SYMBOLS;
    while symbol > 0 {
        symbol -= 1;
        let Code { code, mut bits } = codes[symbol];
        let mut state = 0;
        while bits > 1 {
            bits -= 1;
            let bit = (code >> bits) as usize & 1;
            if children[state][bit] == ROOT {
                children[state][bit] = states;
                states += 1;
            }
            state = children[state][bit] as usize;
        }
        children[state][code as usize & 1] = LEAF + symbol as Node;
    }
    children
}

/// What four bits of input lead to. As no code is shorter, at most one symbol ends within them.
#[derive(Clone, Copy)]
struct Transition {
    state: u8,
    output: Output,
}

#[derive(Clone, Copy)]
enum Output {
    None,
    Symbol(u8),
    /// A string that contains it is an error.
    Eos,
}

/// The transitions of each state, by the next four bits.
static TRANSITIONS: [[Transition; 16]; STATES] = transitions();

const fn transitions() -> [[Transition; 16]; STATES] {
    let start = Transition {
        state: 0,
        output: Output::None,
    };
    let mut transitions = [[start; 16]; STATES];
    let children = tree();
    let mut state = 0;
    while state < STATES {
        let mut nibble = 0;
        while nibble < 16 {
            transitions[state][nibble] = transition(&children, state, nibble);
            nibble += 1;
        }
        state += 1;
    }
    transitions
}

const fn transition(children: &[[Node; 2]; STATES], state: usize, nibble: usize) -> Transition {
    let mut state = state;
    let mut output = Output::None;
    let mut bit = 4;
    while bit > 0 {
        bit -= 1;
        let node = children[state][(nibble >> bit) & 1];
        state = node as usize;
        if node >= LEAF {
            let symbol = (node - LEAF) as usize;
            output = match symbol {
                EOS => Output::Eos,
                _ => Output::Symbol(symbol as u8),
            };
            state = 0;
        }
    }
    Transition {
        state: state as u8,
        output,
    }
}

/// Decodes a string and appends its first `room` octets. Returns how many octets the string has.
///
/// # Errors
///
/// The string contains EOS, or ends with padding of more than seven bits or with a zero in it.
pub(super) fn decode(
    encoded: &[u8],
    room: usize,
    out: &mut Vec<u8>,
) -> Result<usize, CompressionError> {
    out.reserve(room.min(encoded.len() * 8 / MIN_CODE_BITS));
    let mut state = 0;
    let mut len = 0;
    for octet in encoded {
        for nibble in [octet >> 4, octet & 0xf] {
            let transition = TRANSITIONS[usize::from(state)][usize::from(nibble)];
            state = transition.state;
            match transition.output {
                Output::None => continue,
                Output::Symbol(symbol) if len < room => out.push(symbol),
                Output::Symbol(_) => {}
                Output::Eos => return Err(CompressionError),
            }
            len += 1;
        }
    }
    // The state is the number of bits after the last symbol if all of them are ones.
    if state > MAX_PADDING_BITS {
        return Err(CompressionError);
    }
    Ok(len)
}

/// Returns how many octets [`encode`] appends.
pub(super) fn encoded_len(string: &[u8]) -> usize {
    let bits = string
        .iter()
        .map(|octet| usize::from(CODE_BITS[usize::from(*octet)]));
    bits.sum::<usize>().div_ceil(8)
}

/// Appends the encoded string, padded with ones.
pub(super) fn encode(string: &[u8], out: &mut Vec<u8>) {
    // Bits that are not appended yet are the least significant `pending` ones, fewer than 32.
    let mut buffer: u64 = 0;
    let mut pending: u32 = 0;
    for octet in string {
        let Code { code, bits } = CODES[usize::from(*octet)];
        buffer = buffer << bits | u64::from(code);
        pending += u32::from(bits);
        if pending >= 32 {
            pending -= 32;
            out.extend_from_slice(&((buffer >> pending) as u32).to_be_bytes());
        }
    }
    let padding = pending.next_multiple_of(8) - pending;
    buffer = buffer << padding | ((1 << padding) - 1);
    pending += padding;
    while pending > 0 {
        pending -= 8;
        out.push((buffer >> pending) as u8);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decoded(encoded: &[u8]) -> Result<Vec<u8>, CompressionError> {
        let mut out = Vec::new();
        let len = decode(encoded, usize::MAX, &mut out)?;
        assert_eq!(len, out.len());
        Ok(out)
    }

    fn encoded(string: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        encode(string, &mut out);
        assert_eq!(out.len(), encoded_len(string));
        out
    }

    #[test]
    fn codes_are_those_of_rfc_7541_appendix_b() {
        for (symbol, code, bits) in [
            (0, 0x1ff8, 13),
            (1, 0x7f_ffd8, 23),
            (10, 0x3fff_fffc, 30),
            (usize::from(b'0'), 0x0, 5),
            (usize::from(b'X'), 0xfc, 8),
            (usize::from(b'\\'), 0x7_fff0, 19),
            (usize::from(b'a'), 0x3, 5),
            (usize::from(b'~'), 0x1ffd, 13),
            (128, 0xf_ffe6, 20),
            (199, 0x1ff_ffec, 25),
            (249, 0xfff_fffe, 28),
            (255, 0x3ff_ffee, 26),
            (EOS, 0x3fff_ffff, 30),
        ] {
            assert_eq!(
                (CODES[symbol].code, CODES[symbol].bits),
                (code, bits),
                "{symbol}"
            );
        }
    }

    #[test]
    fn every_octet_is_encoded_and_decoded() {
        for octet in 0..=u8::MAX {
            let string = [octet, b'a', octet];
            assert_eq!(decoded(&encoded(&string)), Ok(string.to_vec()));
        }
    }

    #[test]
    fn padding_is_at_most_seven_ones() {
        // "0" is 00000, "X" is 11111100.
        assert_eq!(decoded(&[]), Ok(vec![]));
        assert_eq!(decoded(&[0b0000_0111]), Ok(b"0".to_vec()));
        assert_eq!(decoded(&[0b1111_1100]), Ok(b"X".to_vec()));
        assert_eq!(decoded(&[0x00, 0x01, 0xf9]), Ok(b"000X".to_vec()));
        for padding in [
            &[0b0000_0110][..],
            &[0b0000_0011],
            &[0b0000_0000],
            &[0xff],
            &[0xff, 0xff],
            &[0b1111_1100, 0xff],
            &[0b0000_0111, 0xff],
            &[0b1111_1110],
        ] {
            assert_eq!(decoded(padding), Err(CompressionError), "{padding:x?}");
        }
    }

    #[test]
    fn eos_is_an_error() {
        // Thirty ones, alone, followed by padding, and after a symbol.
        for string in [
            &[0xff, 0xff, 0xff, 0xff][..],
            &[0xff, 0xff, 0xff, 0xfc],
            &[0xff, 0xff, 0xff, 0xfc, 0x3f],
            &[0b0000_0111, 0xff, 0xff, 0xff, 0xff],
            &[0b1111_1100, 0xff, 0xff, 0xff, 0xff],
        ] {
            assert_eq!(decoded(string), Err(CompressionError), "{string:x?}");
        }
    }

    #[test]
    fn string_beyond_the_room_is_counted_and_validated() {
        let mut out = b"before".to_vec();
        assert_eq!(decode(&encoded(b"www.example.com"), 3, &mut out), Ok(15));
        assert_eq!(out, b"beforewww");
        let broken = [encoded(b"www.example.com"), vec![0xff; 4]].concat();
        assert_eq!(decode(&broken, 3, &mut Vec::new()), Err(CompressionError));
    }

    proptest! {
        #[test]
        fn encoded_string_is_decoded(string: Vec<u8>) {
            prop_assert_eq!(decoded(&encoded(&string)), Ok(string));
        }

        #[test]
        fn decoded_string_is_the_only_one_with_that_encoding(octets: Vec<u8>) {
            if let Ok(string) = decoded(&octets) {
                prop_assert_eq!(encoded(&string), octets);
            }
        }
    }
}
