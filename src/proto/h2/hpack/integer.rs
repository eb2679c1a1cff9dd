//! Integers with a prefix of 4 to 7 bits (RFC 7541 §5.1).

use super::CompressionError;

/// Maximum number of octets after the prefix. Values are below 2^29, which no block can need, so no
/// sum overflows. Padding with zeros has the same limit.
const MAX_CONTINUATION_OCTETS: u32 = 4;

/// Removes an integer from the beginning of `input`. The bits above the prefix are ignored.
///
/// # Errors
///
/// The input ends within the integer, or the integer has more than five octets.
pub(super) fn decode(input: &mut &[u8], prefix_bits: u32) -> Result<usize, CompressionError> {
    let max_prefix = max_prefix(prefix_bits);
    let mut value = next(input)? & max_prefix;
    if value < max_prefix {
        return Ok(value);
    }
    for octet_index in 0..MAX_CONTINUATION_OCTETS {
        let octet = next(input)?;
        value += (octet & 0x7f) << (7 * octet_index);
        if octet & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(CompressionError)
}

fn next(input: &mut &[u8]) -> Result<usize, CompressionError> {
    let octet = input.split_off_first().ok_or(CompressionError)?;
    Ok(usize::from(*octet))
}

/// Appends an integer whose first octet has `flags` above the prefix.
pub(super) fn encode(flags: u8, prefix_bits: u32, value: usize, out: &mut Vec<u8>) {
    let max_prefix = max_prefix(prefix_bits);
    if value < max_prefix {
        out.push(flags | value as u8);
        return;
    }
    out.push(flags | max_prefix as u8);
    let mut rest = value - max_prefix;
    while rest >= 0x80 {
        out.push(0x80 | (rest & 0x7f) as u8);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// The value of a prefix that says that octets follow.
fn max_prefix(bits: u32) -> usize {
    (1 << bits) - 1
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The integer and how many octets follow it.
    fn decoded(mut input: &[u8], prefix_bits: u32) -> Result<(usize, usize), CompressionError> {
        decode(&mut input, prefix_bits).map(|value| (value, input.len()))
    }

    fn encoded(flags: u8, prefix_bits: u32, value: usize) -> Vec<u8> {
        let mut out = Vec::new();
        encode(flags, prefix_bits, value, &mut out);
        out
    }

    #[test]
    fn examples_of_rfc_7541_c_1() {
        for (value, prefix_bits, octets) in [
            (10, 5, &[0x0a][..]),
            (1337, 5, &[0x1f, 0x9a, 0x0a]),
            (42, 8, &[0x2a]),
        ] {
            assert_eq!(encoded(0, prefix_bits, value), octets);
            assert_eq!(decoded(octets, prefix_bits), Ok((value, 0)));
        }
    }

    #[test]
    fn bits_above_the_prefix_are_kept_apart() {
        assert_eq!(encoded(0xe0, 5, 10), [0xea]);
        assert_eq!(encoded(0xe0, 5, 31), [0xff, 0x00]);
        assert_eq!(decoded(&[0xea, 0xff], 5), Ok((10, 1)));
        assert_eq!(decoded(&[0xff, 0x00, 0xff], 5), Ok((31, 1)));
    }

    #[test]
    fn five_octets_are_the_limit() {
        let largest = [0xff, 0xff, 0xff, 0xff, 0x7f];
        assert_eq!(decoded(&largest, 7), Ok((127 + (1 << 28) - 1, 0)));
        let padded = [0xff, 0x80, 0x80, 0x80, 0x00];
        assert_eq!(decoded(&padded, 7), Ok((127, 0)));
        for too_long in [
            &[0xff, 0x80, 0x80, 0x80, 0x80, 0x00][..],
            &[0xff, 0xff, 0xff, 0xff, 0xff, 0x07],
            &[0xff; 64],
        ] {
            assert_eq!(decoded(too_long, 7), Err(CompressionError));
        }
    }

    #[test]
    fn incomplete_integer_is_an_error() {
        for input in [&[][..], &[0x7f], &[0x7f, 0x80], &[0x7f, 0xff, 0xff]] {
            assert_eq!(decoded(input, 7), Err(CompressionError));
        }
    }

    proptest! {
        #[test]
        fn encoded_integer_is_decoded(value in 0_usize..1 << 28, prefix_bits in 4_u32..=7, flags: u8) {
            let flags = flags & !(max_prefix(prefix_bits) as u8);
            let octets = encoded(flags, prefix_bits, value);
            prop_assert_eq!(octets[0] & !(max_prefix(prefix_bits) as u8), flags);
            prop_assert_eq!(decoded(&octets, prefix_bits), Ok((value, 0)));
        }
    }
}
