//! The entries that a folder had when it was measured: an archive that lacks one of them is incomplete.

use std::hash::{BuildHasher, RandomState};

/// Hashes of the names, in the order of the walk: 8 bytes for each entry.
#[derive(Default)]
pub(super) struct MeasuredEntries {
    hasher: RandomState,
    hashes: Vec<u64>,
    /// How many entries were visited again.
    visited: usize,
}

impl MeasuredEntries {
    pub(super) fn add(&mut self, name: &[u8]) {
        self.hashes.push(self.hasher.hash_one(name));
    }

    /// Returns whether `name` is the next entry that was measured. Entries that are not were created later:
    /// both walks sort by name.
    pub(super) fn visit(&mut self, name: &[u8]) -> bool {
        let hash = self.hasher.hash_one(name);
        let is_next = self.hashes.get(self.visited) == Some(&hash);
        self.visited += usize::from(is_next);
        is_next
    }

    /// True if no entry that was measured is missing.
    pub(super) fn all_visited(&self) -> bool {
        self.visited == self.hashes.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn walk_that_lacks_a_measured_entry_is_incomplete() {
        for (walk, is_complete) in [
            (&["a", "b/", "b/c", "d"][..], true),
            (&["0", "a", "b/", "b/b", "b/c", "c", "d", "e"], true),
            (&["a", "b/", "d"], false),
            (&["a", "b", "b/c", "d"], false),
            (&["a", "b/", "b/c"], false),
            (&["b/", "b/c", "d"], false),
            (&["a", "b/", "b/c", "e"], false),
            (&[], false),
        ] {
            let mut measured = MeasuredEntries::default();
            for name in ["a", "b/", "b/c", "d"] {
                measured.add(name.as_bytes());
            }
            for name in walk {
                measured.visit(name.as_bytes());
            }
            assert_eq!(measured.all_visited(), is_complete, "{walk:?}");
        }
    }
}
