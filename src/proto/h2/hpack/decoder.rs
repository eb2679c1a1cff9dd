//! The decoder of field blocks (RFC 7541 §3 and §6).

use super::dynamic_table::{DynamicTable, ENTRY_OVERHEAD_BYTES, MAX_TABLE_BYTES, TableField};
use super::{CompressionError, huffman, integer, static_table};
use crate::http::FieldSpan;

/// Maximum number of size updates at the beginning of a block: the smallest size since the last
/// block, and the final one (RFC 7541 §4.2).
const MAX_SIZE_UPDATES: usize = 2;

/// Limits of one block's fields.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FieldBudget {
    /// The sum of the sizes, which are the bytes of the name and of the value, and 32 for each field
    /// (RFC 7541 §4.1).
    pub(crate) bytes: usize,
    /// The number of field lines. Each line of `cookie` counts.
    pub(crate) fields: usize,
}

/// How much of a block is in the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decoded {
    Complete,
    /// The fields before the one that exceeded the budget.
    OverBudget,
}

/// Decoded fields, in memory that can be reused for the next block.
#[derive(Debug, Default)]
pub(crate) struct DecodedFields {
    /// The names and values.
    pub(crate) bytes: Vec<u8>,
    /// The position of each field in `bytes`.
    pub(crate) spans: Vec<FieldSpan>,
}

/// The decoder of one connection's blocks, which must all be decoded, in the order in which they were
/// received.
#[derive(Debug)]
pub(crate) struct Decoder {
    table: DynamicTable,
}

impl Decoder {
    pub(crate) fn new() -> Self {
        Self {
            table: DynamicTable::new(),
        }
    }

    /// Decodes one complete block and appends its fields to `out`.
    ///
    /// From the first field on that exceeds `budget`, fields are not appended, but update the dynamic
    /// table, so that later blocks can be decoded. The names and values appended never exceed
    /// `budget.bytes`, plus the size of the dynamic table while a field for it is decoded.
    ///
    /// # Errors
    ///
    /// The block is malformed. Nothing more can be decoded then, and `out` must not be used.
    pub(crate) fn decode(
        &mut self,
        block: &[u8],
        budget: FieldBudget,
        out: &mut DecodedFields,
    ) -> Result<Decoded, CompressionError> {
        let mut input = block;
        self.update_size(&mut input)?;
        let mut output = Output {
            fields: out,
            budget,
            decoded: Decoded::Complete,
        };
        while let Some(first) = input.first() {
            match FieldRepresentation::of(*first) {
                FieldRepresentation::Indexed => self.indexed(&mut input, &mut output)?,
                FieldRepresentation::Literal(kind) => {
                    self.literal(&mut input, kind, &mut output)?;
                }
                FieldRepresentation::SizeUpdate => return Err(CompressionError),
            }
        }
        Ok(output.decoded)
    }

    /// Applies the size updates at the beginning of a block.
    fn update_size(&mut self, input: &mut &[u8]) -> Result<(), CompressionError> {
        for _ in 0..MAX_SIZE_UPDATES {
            let first = input.first().map(|first| FieldRepresentation::of(*first));
            let Some(FieldRepresentation::SizeUpdate) = first else {
                break;
            };
            self.table.set_max_size(integer::decode(input, 5)?)?;
        }
        Ok(())
    }

    /// Decodes an indexed field (RFC 7541 §6.1).
    fn indexed(&self, input: &mut &[u8], output: &mut Output<'_>) -> Result<(), CompressionError> {
        let field = self.entry(integer::decode(input, 7)?)?;
        if output.admit(field.len()) {
            let start = output.fields.bytes.len();
            field.append_to(&mut output.fields.bytes);
            output.push_span(start, field.name_len);
        }
        Ok(())
    }

    /// Decodes a literal field (RFC 7541 §6.2). One for the dynamic table is decoded into the output
    /// in any case, and removed if it exceeds the budget.
    fn literal(
        &mut self,
        input: &mut &[u8],
        kind: Literal,
        output: &mut Output<'_>,
    ) -> Result<(), CompressionError> {
        let bytes = &mut output.fields.bytes;
        let start = bytes.len();
        // Longer fields are used neither for the output nor for the table.
        let room = match kind {
            Literal::Added => output.budget.bytes.max(MAX_TABLE_BYTES),
            Literal::NotAdded => output.budget.bytes,
        };
        let name_len = match integer::decode(input, kind.prefix_bits())? {
            0 => decode_string(input, room, bytes)?,
            index => {
                let field = self.entry(index)?;
                field.append_name_to(room, bytes);
                field.name_len
            }
        };
        let len = name_len + decode_string(input, room.saturating_sub(name_len), bytes)?;
        if kind == Literal::Added {
            match bytes[start..].split_at_checked(name_len) {
                Some((name, value)) if len <= room => self.table.insert(name, value),
                _ => self.table.clear(),
            }
        }
        if output.admit(len) {
            output.push_span(start, name_len);
        } else {
            output.fields.bytes.truncate(start);
        }
        Ok(())
    }

    /// Returns the entry of an index into both tables (RFC 7541 §2.3.3).
    fn entry(&self, index: usize) -> Result<TableField<'_>, CompressionError> {
        let field = match index.checked_sub(static_table::LEN + 1) {
            Some(newer) => self.table.get(newer),
            None => static_table::get(index).map(|(name, value)| TableField::new(name, value)),
        };
        field.ok_or(CompressionError)
    }
}

/// What the first octet of a field says (RFC 7541 §6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FieldRepresentation {
    Indexed,
    Literal(Literal),
    SizeUpdate,
}

impl FieldRepresentation {
    fn of(first: u8) -> Self {
        match first.leading_zeros() {
            0 => Self::Indexed,
            1 => Self::Literal(Literal::Added),
            2 => Self::SizeUpdate,
            _ => Self::Literal(Literal::NotAdded),
        }
    }
}

/// Whether a literal field is added to the dynamic table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Literal {
    Added,
    /// Without indexing, or never indexed, which is a difference for intermediaries only.
    NotAdded,
}

impl Literal {
    fn prefix_bits(self) -> u32 {
        match self {
            Self::Added => 6,
            Self::NotAdded => 4,
        }
    }
}

/// Decodes a string literal (RFC 7541 §5.2) and appends its first `room` octets. Returns how many
/// octets the string has.
fn decode_string(
    input: &mut &[u8],
    room: usize,
    out: &mut Vec<u8>,
) -> Result<usize, CompressionError> {
    let is_huffman = input.first().is_some_and(|first| first & 0x80 != 0);
    let encoded_len = integer::decode(input, 7)?;
    let encoded = input.split_off(..encoded_len).ok_or(CompressionError)?;
    if is_huffman {
        return huffman::decode(encoded, room, out);
    }
    out.extend_from_slice(&encoded[..encoded_len.min(room)]);
    Ok(encoded_len)
}

/// The fields of the block so far.
struct Output<'a> {
    fields: &'a mut DecodedFields,
    /// What is left of the budget. Nothing after the first field that exceeded it.
    budget: FieldBudget,
    decoded: Decoded,
}

impl Output<'_> {
    /// Takes a field whose name and value have `len` bytes from the budget; false if it, or an earlier
    /// field, exceeds the budget.
    fn admit(&mut self, len: usize) -> bool {
        let bytes = self.budget.bytes.checked_sub(len + ENTRY_OVERHEAD_BYTES);
        let fields = self.budget.fields.checked_sub(1);
        if let (Some(bytes), Some(fields)) = (bytes, fields) {
            self.budget = FieldBudget { bytes, fields };
            return true;
        }
        self.budget = FieldBudget {
            bytes: 0,
            fields: 0,
        };
        self.decoded = Decoded::OverBudget;
        false
    }

    /// Makes a field of the bytes from `start` on.
    fn push_span(&mut self, start: usize, name_len: usize) {
        let middle = (start + name_len) as u32;
        self.fields.spans.push(FieldSpan {
            name: start as u32..middle,
            value: middle..self.fields.bytes.len() as u32,
        });
    }
}

#[cfg(test)]
impl DecodedFields {
    pub(super) fn fields(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        let slice = |span: &std::ops::Range<u32>| {
            self.bytes[span.start as usize..span.end as usize].to_vec()
        };
        let fields = self.spans.iter();
        fields
            .map(|span| (slice(&span.name), slice(&span.value)))
            .collect()
    }
}

#[cfg(test)]
mod tests;
