//! The text file in an archive that lists the entries which the server cannot read. They are not missing
//! by chance, so the archive does not break off; but its reader must know that they are missing.

use std::hash::{BuildHasher, RandomState};

use crate::explain_log::Escaped;

/// The name of the file, unless an entry has it.
const FILE_NAME: &str = "MISSING-FILES.txt";

/// The largest number in the name of the file, if entries have the names before. Then it is random.
const MAX_NUMBER: u32 = 9;

/// Entries beyond this length of the list are counted only.
const MAX_LIST_BYTES: usize = 64 * 1024;

/// The entries that an archive lacks.
#[derive(Default)]
pub(super) struct UnreadableEntries {
    list: String,
    count: usize,
    unlisted: usize,
}

impl UnreadableEntries {
    /// Adds an entry, with its name in the archive.
    pub(super) fn add(&mut self, name: &[u8], reason: &str) {
        self.count += 1;
        if self.list.len() < MAX_LIST_BYTES {
            self.list += &format!("{}: {reason}\n", Escaped(name));
        } else {
            self.unlisted += 1;
        }
    }

    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// Returns the content of the file, or `None` if the archive needs none.
    pub(super) fn text(&self) -> Option<String> {
        if self.count == 0 {
            return None;
        }
        let mut text = format!(
            "The server cannot read these files and folders, so this archive lacks them:\n\n{}",
            self.list
        );
        if self.unlisted > 0 {
            text += &format!("and {} more\n", self.unlisted);
        }
        Some(text)
    }
}

/// Returns a name that no entry has, in upper or lower case. `is_entry` looks at all entries.
pub(super) fn file_name(is_entry: impl Fn(&str) -> bool) -> String {
    let (stem, extension) = FILE_NAME.split_once('.').unwrap_or((FILE_NAME, "txt"));
    // Few: a client that may upload could use up any count of them.
    let numbered = (2..=MAX_NUMBER).map(|number| format!("{stem} ({number}).{extension}"));
    let mut names = std::iter::once(FILE_NAME.to_owned()).chain(numbered);
    names.find(|name| !is_entry(name)).unwrap_or_else(|| {
        let random = RandomState::new().hash_one(());
        format!("{stem} ({random}).{extension}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn list_is_bounded_and_counts_the_rest() {
        let mut entries = UnreadableEntries::default();
        assert_eq!(entries.text(), None);
        let name = [b'x'; 1024];
        for _ in 0..100 {
            entries.add(&name, "reason");
        }
        let text = entries.text().expect("a text");
        assert!(text.len() < MAX_LIST_BYTES + 2 * name.len());
        let listed = text.matches("x: reason\n").count();
        assert!(
            text.ends_with(&format!("and {} more\n", 100 - listed)),
            "{listed}"
        );
    }

    #[test]
    fn file_has_a_name_that_no_entry_has() {
        let used = ["missing-files.TXT", "MISSING-FILES (2).txt"];
        let is_entry = |name: &str| used.iter().any(|used| used.eq_ignore_ascii_case(name));
        assert_eq!(file_name(|_| false), "MISSING-FILES.txt");
        assert_eq!(file_name(is_entry), "MISSING-FILES (3).txt");
        let looks = std::cell::Cell::new(0);
        let unused = file_name(|name| {
            looks.set(looks.get() + 1);
            name.len() < 30
        });
        assert!(unused.starts_with("MISSING-FILES ("), "{unused}");
        assert!(looks.get() < 10);
    }
}
