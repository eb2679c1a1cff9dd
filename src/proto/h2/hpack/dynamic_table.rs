//! The dynamic table of a decoder (RFC 7541 §2.3.2 and §4).

use std::collections::VecDeque;

use super::CompressionError;

/// The value of SETTINGS_HEADER_TABLE_SIZE: the default, which is not announced.
pub(super) const MAX_TABLE_BYTES: usize = 4_096;

/// What an entry counts in addition to its name and value (RFC 7541 §4.1).
pub(super) const ENTRY_OVERHEAD_BYTES: usize = 32;

/// Fields in the order of insertion. Both buffers are rings that grow when they are used, to at most
/// 4 KiB of names and values, and to 128 entries.
#[derive(Debug)]
pub(super) struct DynamicTable {
    /// The names and values of all entries, without gaps.
    bytes: VecDeque<u8>,
    /// The oldest entry is the first.
    entries: VecDeque<Entry>,
    max_size: usize,
}

/// The position of a field.
#[derive(Debug)]
struct Entry {
    /// The number of bytes that were inserted before, wrapping. Only differences are used, so that an
    /// eviction does not change the other entries.
    start: u32,
    name_len: u16,
    value_len: u16,
}

impl Entry {
    fn len(&self) -> usize {
        usize::from(self.name_len) + usize::from(self.value_len)
    }
}

/// A field in a table: its name and then its value, in two parts wherever they are split.
#[derive(Clone, Copy, Debug)]
pub(super) struct TableField<'a> {
    parts: (&'a [u8], &'a [u8]),
    pub(super) name_len: usize,
}

impl<'a> TableField<'a> {
    pub(super) fn new(name: &'a str, value: &'a str) -> Self {
        Self {
            parts: (name.as_bytes(), value.as_bytes()),
            name_len: name.len(),
        }
    }

    /// The length of the name and the value.
    pub(super) fn len(self) -> usize {
        self.parts.0.len() + self.parts.1.len()
    }

    /// Appends the name and the value.
    pub(super) fn append_to(self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.parts.0);
        out.extend_from_slice(self.parts.1);
    }

    /// Appends the first `room` bytes of the name.
    pub(super) fn append_name_to(self, room: usize, out: &mut Vec<u8>) {
        let (first, second) = self.parts;
        let len = self.name_len.min(room);
        let first_len = first.len().min(len);
        out.extend_from_slice(&first[..first_len]);
        out.extend_from_slice(&second[..len - first_len]);
    }
}

/// The names and values, and the size that they count as.
#[cfg(test)]
pub(super) type Contents = (Vec<(Vec<u8>, Vec<u8>)>, usize);

impl DynamicTable {
    pub(super) fn new() -> Self {
        Self {
            bytes: VecDeque::new(),
            entries: VecDeque::new(),
            max_size: MAX_TABLE_BYTES,
        }
    }

    /// Returns the field after which `newer` others were inserted.
    pub(super) fn get(&self, newer: usize) -> Option<TableField<'_>> {
        let position = self.entries.len().checked_sub(newer.checked_add(1)?)?;
        let entry = self.entries.get(position)?;
        let oldest = self.entries.front()?;
        let start = entry.start.wrapping_sub(oldest.start) as usize;
        let end = start + entry.len();
        let (first, second) = self.bytes.as_slices();
        let split = first.len();
        Some(TableField {
            parts: (
                &first[start.min(split)..end.min(split)],
                &second[start.saturating_sub(split)..end.saturating_sub(split)],
            ),
            name_len: usize::from(entry.name_len),
        })
    }

    /// Adds a field and evicts the oldest ones until it fits. A field that is larger than the table
    /// leaves it empty (RFC 7541 §4.4).
    pub(super) fn insert(&mut self, name: &[u8], value: &[u8]) {
        let size = name.len() + value.len() + ENTRY_OVERHEAD_BYTES;
        let Some(room) = self.max_size.checked_sub(size) else {
            return self.clear();
        };
        self.evict(room);
        let start = self
            .entries
            .back()
            .map_or(0, |newest| newest.start.wrapping_add(newest.len() as u32));
        let len = self.bytes.len();
        // Powers of two, because the usual growth could exceed the maximum size.
        let capacity = (len + name.len() + value.len()).next_power_of_two();
        self.bytes.reserve_exact(capacity - len);
        self.bytes.extend(name);
        self.bytes.extend(value);
        self.entries.push_back(Entry {
            start,
            name_len: name.len() as u16,
            value_len: value.len() as u16,
        });
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.entries.clear();
    }

    /// Changes the maximum size, as the encoder announced it (RFC 7541 §4.3).
    ///
    /// # Errors
    ///
    /// The size is larger than the decoder allows (RFC 7541 §6.3).
    pub(super) fn set_max_size(&mut self, max_size: usize) -> Result<(), CompressionError> {
        if max_size > MAX_TABLE_BYTES {
            return Err(CompressionError);
        }
        self.max_size = max_size;
        self.evict(max_size);
        Ok(())
    }

    /// Returns the size of all entries (RFC 7541 §4.1).
    fn size(&self) -> usize {
        self.bytes.len() + self.entries.len() * ENTRY_OVERHEAD_BYTES
    }

    /// Removes the oldest entries until the size is at most `max`.
    fn evict(&mut self, max: usize) {
        while self.size() > max
            && let Some(oldest) = self.entries.pop_front()
        {
            self.bytes.drain(..oldest.len());
        }
    }
}

#[cfg(test)]
impl DynamicTable {
    /// All fields, the newest first, and the size of the table.
    pub(super) fn contents(&self) -> Contents {
        let fields = (0..).map_while(|newer| self.get(newer)).map(|field| {
            let (mut name, mut all) = (Vec::new(), Vec::new());
            field.append_name_to(usize::MAX, &mut name);
            field.append_to(&mut all);
            assert_eq!((all.len(), name.len()), (field.len(), field.name_len));
            let value = all.split_off(name.len());
            (name, value)
        });
        (fields.collect(), self.size())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn names(table: &DynamicTable) -> Vec<u8> {
        table.contents().0.iter().map(|(name, _)| name[0]).collect()
    }

    fn insert(table: &mut DynamicTable, name: u8, size: usize) {
        table.insert(&[name], &vec![b'v'; size - 1 - ENTRY_OVERHEAD_BYTES]);
    }

    #[test]
    fn entries_are_evicted_only_when_the_new_one_does_not_fit() {
        let mut table = DynamicTable::new();
        insert(&mut table, b'a', 1_000);
        insert(&mut table, b'b', 1_000);
        insert(&mut table, b'c', 2_096);
        assert_eq!(names(&table), b"cba");
        insert(&mut table, b'd', 1_000);
        assert_eq!(names(&table), b"dcb");
        insert(&mut table, b'e', 1_001);
        assert_eq!(names(&table), b"ed");
    }

    #[test]
    fn entry_of_the_maximum_size_fits_and_a_larger_one_empties_the_table() {
        let mut table = DynamicTable::new();
        insert(&mut table, b'a', MAX_TABLE_BYTES);
        assert_eq!(names(&table), b"a");
        insert(&mut table, b'b', 40);
        assert_eq!(names(&table), b"b");
        insert(&mut table, b'c', MAX_TABLE_BYTES + 1);
        assert_eq!(names(&table), b"");
        assert_eq!(table.set_max_size(0), Ok(()));
        table.insert(b"", b"");
        assert_eq!(table.contents(), (vec![], 0));
    }

    #[test]
    fn smaller_maximum_size_evicts_at_once() {
        let mut table = DynamicTable::new();
        for name in *b"abc" {
            insert(&mut table, name, 100);
        }
        assert_eq!(table.set_max_size(300), Ok(()));
        assert_eq!(names(&table), b"cba");
        assert_eq!(table.set_max_size(299), Ok(()));
        assert_eq!(names(&table), b"cb");
        assert_eq!(table.set_max_size(MAX_TABLE_BYTES), Ok(()));
        assert_eq!(names(&table), b"cb");
        assert_eq!(
            table.set_max_size(MAX_TABLE_BYTES + 1),
            Err(CompressionError)
        );
    }

    #[test]
    fn positions_wrap_around() {
        let mut table = DynamicTable::new();
        insert(&mut table, b'a', 40);
        table.entries[0].start = u32::MAX - 2;
        table.insert(b"name", b"value");
        table.insert(b"other", b"");
        let expected: [(&[u8], &[u8]); 3] =
            [(b"other", b""), (b"name", b"value"), (b"a", b"vvvvvvv")];
        let expected = expected.map(|(name, value)| (name.to_vec(), value.to_vec()));
        assert_eq!(table.contents().0, expected);
    }

    #[test]
    fn empty_table_owns_no_memory_and_a_full_one_a_bounded_amount() {
        let mut table = DynamicTable::new();
        assert_eq!((table.bytes.capacity(), table.entries.capacity()), (0, 0));
        for len in (0..=MAX_TABLE_BYTES).chain([0; 1_000]) {
            table.insert(&vec![b'n'; len / 2], &vec![b'v'; len - len / 2]);
        }
        assert_eq!(table.entries.len(), 128);
        assert!(table.bytes.capacity() <= MAX_TABLE_BYTES);
        assert!(table.entries.capacity() <= 128);
    }

    #[derive(Clone, Debug)]
    enum Change {
        Insert(Vec<u8>, Vec<u8>),
        Resize(usize),
    }

    fn change() -> impl Strategy<Value = Change> {
        let text = || {
            prop_oneof![
                3 => prop::collection::vec(any::<u8>(), 0..40),
                1 => prop::collection::vec(any::<u8>(), 0..5_000),
            ]
        };
        prop_oneof![
            9 => (text(), text()).prop_map(|(name, value)| Change::Insert(name, value)),
            1 => (0..=MAX_TABLE_BYTES).prop_map(Change::Resize),
        ]
    }

    proptest! {
        /// A list from which the last field is removed while the sum of the sizes is too large.
        #[test]
        fn table_is_the_one_of_rfc_7541(changes in prop::collection::vec(change(), 0..200)) {
            let mut table = DynamicTable::new();
            let (mut model, mut max) = (Vec::<(Vec<u8>, Vec<u8>)>::new(), MAX_TABLE_BYTES);
            let size = |model: &[(Vec<u8>, Vec<u8>)]| -> usize {
                model.iter().map(|(name, value)| name.len() + value.len() + 32).sum()
            };
            for change in changes {
                match change {
                    Change::Insert(name, value) => {
                        table.insert(&name, &value);
                        model.insert(0, (name, value));
                    }
                    Change::Resize(size) => {
                        prop_assert_eq!(table.set_max_size(size), Ok(()));
                        max = size;
                    }
                }
                while size(&model) > max {
                    model.pop();
                }
                prop_assert_eq!(table.contents(), (model.clone(), size(&model)));
            }
        }
    }
}
