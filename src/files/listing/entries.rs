//! The entries of a folder: all names in one buffer, and 24 bytes for each entry.

use std::cmp::Ordering;

use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, FileType, RawDir, Stat, statat};
use rustix::io::Errno;

use super::order::{SortDirection, SortKey, SortOrder, compare_names};
use crate::files::rules::DotFiles;
use crate::files::upload::temp_file::is_temp_file;

/// A page with more entries is slow in browsers. With names of 20 bytes they take some 12 MB.
const MAX_ENTRIES: usize = 250_000;

/// Names of 128 bytes on average, so that long names do not exceed the memory above by much.
const MAX_NAMES_BYTES: usize = 32 << 20;

/// PATH_MAX: a longer name could not be opened. Linux' own file systems limit names to 255 bytes.
const MAX_NAME_BYTES: usize = 4096;

/// As glibc's readdir(3).
const READ_BYTES: usize = 32 << 10;

/// The type of an entry; a symbolic link has the type of its target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::files) enum EntryKind {
    Directory,
    File,
    /// A FIFO, socket or device, or an entry that could not be examined. It is never served.
    Other,
}

/// Whether all entries of the folder were read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::files) enum Completeness {
    Complete,
    Truncated,
}

/// An entry in 24 bytes: 100,000 of them with names of 20 bytes take 4.4 MB.
#[derive(Clone, Copy, Debug)]
struct PackedEntry {
    size: u64,
    modified: i64,
    name_start: u32,
    name_len: u16,
    kind: EntryKind,
}

/// The modification time in a [`PackedEntry`] if it is unknown: an `Option` would take 8 bytes
/// more.
const UNKNOWN: i64 = i64::MIN;

/// One entry of a folder, borrowed from [`Entries`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::files) struct DirEntry<'a> {
    pub(in crate::files) name: &'a [u8],
    pub(in crate::files) kind: EntryKind,
    /// In bytes; `None` unless it is a file.
    pub(in crate::files) size: Option<u64>,
    /// In seconds since the epoch.
    pub(in crate::files) modified: Option<i64>,
}

/// The number of entries of each kind, and the sum of the file sizes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct EntryTotals {
    pub(super) directories: usize,
    pub(super) files: usize,
    pub(super) others: usize,
    pub(super) bytes: u64,
}

/// The entries of one folder.
#[derive(Debug)]
pub(in crate::files) struct Entries {
    names: Vec<u8>,
    table: Vec<PackedEntry>,
    extent: Completeness,
}

impl Entries {
    /// Reads the beginning of an open folder, to see whether it can be read.
    pub(in crate::files) fn probe(directory: &OwnedFd) -> Result<(), Errno> {
        let mut buffer = Vec::with_capacity(READ_BYTES);
        let mut reader = RawDir::new(directory, buffer.spare_capacity_mut());
        reader.next().map_or(Ok(()), |first| first.map(drop))
    }

    /// Reads an open folder (not one opened with `O_PATH`).
    ///
    /// `follow` returns the metadata of a symbolic link's target, or `None` if the link may not be
    /// followed. Such links are left out, and so are names with a backslash, which a request cannot
    /// contain, unfinished uploads, and what `is_omitted` returns true for.
    pub(in crate::files) fn read(
        directory: &OwnedFd,
        dot_files: DotFiles,
        mut follow: impl FnMut(&[u8]) -> Option<Stat>,
        is_omitted: impl Fn(&Stat) -> bool,
    ) -> Result<Self, Errno> {
        let mut entries = Self::empty();
        let mut buffer = Vec::with_capacity(READ_BYTES);
        let mut reader = RawDir::new(directory, buffer.spare_capacity_mut());
        while let Some(found) = reader.next() {
            let found = found?;
            let name = found.file_name();
            let bytes = name.to_bytes();
            let is_hidden = bytes.starts_with(b".")
                && (dot_files == DotFiles::Hidden && bytes != b".well-known"
                    || matches!(bytes, b"." | b".."));
            let is_servable = !is_temp_file(bytes) && !bytes.contains(&b'\\');
            if is_hidden || bytes.len() > MAX_NAME_BYTES || !is_servable {
                continue;
            }
            let stat = match statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink => {
                    match follow(bytes) {
                        Some(stat) => Some(stat),
                        None => continue,
                    }
                }
                Ok(stat) => Some(stat),
                // Removed since its name was read.
                Err(Errno::NOENT) => continue,
                Err(_) => None,
            };
            if stat.as_ref().is_some_and(&is_omitted) {
                continue;
            }
            if entries.push(bytes, stat.as_ref()) == Completeness::Truncated {
                entries.extent = Completeness::Truncated;
                break;
            }
        }
        Ok(entries)
    }

    fn empty() -> Self {
        Self {
            names: Vec::new(),
            table: Vec::new(),
            extent: Completeness::Complete,
        }
    }

    fn push(&mut self, name: &[u8], stat: Option<&Stat>) -> Completeness {
        let kind = stat.map(|stat| FileType::from_raw_mode(stat.st_mode));
        let kind = match kind {
            Some(FileType::Directory) => EntryKind::Directory,
            Some(FileType::RegularFile) => EntryKind::File,
            _ => EntryKind::Other,
        };
        let size = stat.map_or(0, |stat| u64::try_from(stat.st_size).unwrap_or(0));
        let modified = stat.map_or(UNKNOWN, |stat| stat.st_mtime);
        self.push_entry(name, kind, size, modified)
    }

    /// Adds an entry, or returns [`Completeness::Truncated`] if a limit is reached.
    fn push_entry(
        &mut self,
        name: &[u8],
        kind: EntryKind,
        size: u64,
        modified: i64,
    ) -> Completeness {
        let is_full = self.table.len() >= MAX_ENTRIES;
        let (Ok(name_start), Ok(name_len)) =
            (u32::try_from(self.names.len()), u16::try_from(name.len()))
        else {
            return Completeness::Truncated;
        };
        if is_full || self.names.len() + name.len() > MAX_NAMES_BYTES {
            return Completeness::Truncated;
        }
        self.names.extend_from_slice(name);
        self.table.push(PackedEntry {
            size,
            modified,
            name_start,
            name_len,
            kind,
        });
        Completeness::Complete
    }

    /// Removes the entry of a name that is not served.
    pub(in crate::files) fn omit(&mut self, name: &[u8]) {
        let names = &self.names;
        self.table.retain(|packed| packed.name(names) != name);
    }

    /// Returns the positions of the entries in an order: folders first. Entries of equal size or date
    /// are ordered by name, ascending in either direction.
    pub(in crate::files) fn sorted(&self, order: SortOrder) -> Box<[u32]> {
        let (names, table) = (&self.names, &self.table);
        let by_name = |one: &PackedEntry, other: &PackedEntry| -> Ordering {
            compare_names(one.name(names), other.name(names))
        };
        // There are fewer entries than fit in 32 bits.
        let mut positions: Box<[u32]> = (0..table.len() as u32).collect();
        positions.sort_unstable_by(|&one, &other| {
            let (one, other) = (&table[one as usize], &table[other as usize]);
            let (one_entry, other_entry) = (one.entry(names), other.entry(names));
            let by_key = match order.key {
                SortKey::Name => by_name(one, other),
                SortKey::Size => one_entry.size.cmp(&other_entry.size),
                SortKey::Date => one.modified.cmp(&other.modified),
            };
            let by_key = match order.direction {
                SortDirection::Ascending => by_key,
                SortDirection::Descending => by_key.reverse(),
            };
            let folders = |packed: &PackedEntry| packed.kind != EntryKind::Directory;
            let by_kind = folders(one).cmp(&folders(other));
            by_kind.then(by_key).then_with(|| by_name(one, other))
        });
        positions
    }

    pub(in crate::files) fn get(&self, at: usize) -> Option<DirEntry<'_>> {
        self.table.get(at).map(|packed| packed.entry(&self.names))
    }

    pub(in crate::files) fn len(&self) -> usize {
        self.table.len()
    }

    pub(in crate::files) fn extent(&self) -> Completeness {
        self.extent
    }

    pub(super) fn totals(&self) -> EntryTotals {
        let mut totals = EntryTotals::default();
        for packed in &self.table {
            match packed.kind {
                EntryKind::Directory => totals.directories += 1,
                EntryKind::Other => totals.others += 1,
                EntryKind::File => {
                    totals.files += 1;
                    totals.bytes = totals.bytes.saturating_add(packed.size);
                }
            }
        }
        totals
    }
}

impl PackedEntry {
    fn name<'a>(&self, names: &'a [u8]) -> &'a [u8] {
        let start = self.name_start as usize;
        &names[start..start + usize::from(self.name_len)]
    }

    fn entry<'a>(&self, names: &'a [u8]) -> DirEntry<'a> {
        DirEntry {
            name: self.name(names),
            kind: self.kind,
            size: (self.kind == EntryKind::File).then_some(self.size),
            modified: (self.modified != UNKNOWN).then_some(self.modified),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::ffi::OsStr;
    use std::fs;
    use std::io;
    use std::mem::size_of;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    use rustix::fs::{CWD, Mode, OFlags, mkfifoat, openat};

    use super::*;

    /// Makes entries from a table of name, kind, size and time.
    pub(in super::super) fn entries(table: &[(&[u8], EntryKind, u64, i64)]) -> Entries {
        let mut entries = Entries::empty();
        for &(name, kind, size, modified) in table {
            if entries.push_entry(name, kind, size, modified) == Completeness::Truncated {
                entries.extent = Completeness::Truncated;
            }
        }
        entries
    }

    fn read(folder: &Path, dot_files: DotFiles) -> io::Result<Entries> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = openat(CWD, folder, flags, Mode::empty())?;
        let follow = |name: &[u8]| match name {
            b"forbidden" => None,
            name => statat(&directory, name, AtFlags::empty()).ok(),
        };
        let entries = Entries::read(&directory, dot_files, follow, |_| false)?;
        Ok(sorted(&entries, SortOrder::default()))
    }

    fn sorted(entries: &Entries, order: SortOrder) -> Entries {
        let positions = entries.sorted(order);
        Entries {
            names: entries.names.clone(),
            table: positions
                .iter()
                .map(|&at| entries.table[at as usize])
                .collect(),
            extent: entries.extent,
        }
    }

    fn names(entries: &Entries) -> Vec<&[u8]> {
        (0..)
            .map_while(|at| entries.get(at))
            .map(|it| it.name)
            .collect()
    }

    #[test]
    fn entries_are_those_that_would_be_served() -> io::Result<()> {
        let folder = tempfile::tempdir()?;
        let at = |name: &[u8]| folder.path().join(OsStr::from_bytes(name));
        fs::create_dir(at(b"sub"))?;
        fs::create_dir(at(b".git"))?;
        fs::create_dir(at(b".well-known"))?;
        fs::write(at(b"five"), "12345")?;
        fs::write(at(b"not \xFF text"), "")?;
        fs::write(at(b"back\\slash"), "")?;
        fs::write(at(b"users.db"), "")?;
        symlink("five", at(b"link"))?;
        symlink("sub", at(b"link to sub"))?;
        symlink("five", at(b"forbidden"))?;
        symlink("nowhere", at(b"dangling"))?;
        symlink("loop", at(b"loop"))?;
        mkfifoat(CWD, at(b"pipe"), Mode::RUSR)?;

        let mut entries = read(folder.path(), DotFiles::Hidden)?;
        entries.omit(b"users.db");
        let expected: &[(&[u8], EntryKind, Option<u64>)] = &[
            (b".well-known", EntryKind::Directory, None),
            (b"link to sub", EntryKind::Directory, None),
            (b"sub", EntryKind::Directory, None),
            (b"five", EntryKind::File, Some(5)),
            (b"link", EntryKind::File, Some(5)),
            (b"not \xFF text", EntryKind::File, Some(0)),
            (b"pipe", EntryKind::Other, None),
        ];
        let found: Vec<_> = (0..)
            .map_while(|at| entries.get(at))
            .map(|entry| (entry.name, entry.kind, entry.size))
            .collect();
        assert_eq!(found, expected);
        let totals = EntryTotals {
            directories: 3,
            files: 3,
            others: 1,
            bytes: 10,
        };
        assert_eq!(entries.totals(), totals);
        assert_eq!(entries.extent(), Completeness::Complete);

        let entries = read(folder.path(), DotFiles::Served)?;
        assert_eq!(names(&entries)[..2], [&b".git"[..], b".well-known"]);
        assert_eq!(entries.len(), 9);
        Ok(())
    }

    #[test]
    fn folder_larger_than_the_buffer_is_read_completely() -> io::Result<()> {
        let folder = tempfile::tempdir()?;
        for number in 0..2000 {
            fs::write(
                folder.path().join(format!("a file with number {number}")),
                "",
            )?;
        }
        let entries = read(folder.path(), DotFiles::Hidden)?;
        assert_eq!(entries.len(), 2000);
        assert_eq!(names(&entries)[1999], b"a file with number 1999");
        Ok(())
    }

    #[test]
    fn folders_sort_first_in_any_order() {
        let entries = entries(&[
            (b"b", EntryKind::File, 1, 30),
            (b"pipe", EntryKind::Other, 9, UNKNOWN),
            (b"Z", EntryKind::Directory, 4096, 10),
            (b"y", EntryKind::Directory, 40, 20),
            (b"A10", EntryKind::File, 3, 20),
            (b"a9", EntryKind::File, 3, 10),
        ]);
        let table = [
            ("", "y Z A9 A10 b pipe"),
            ("order=desc", "Z y pipe b A10 a9"),
            ("sort=size", "y Z pipe b a9 A10"),
            ("sort=size&order=desc", "y Z a9 A10 b pipe"),
            ("sort=date", "Z y pipe a9 A10 b"),
            ("sort=date&order=desc", "y Z b A10 a9 pipe"),
        ];
        for (query, expected) in table {
            let entries = sorted(&entries, SortOrder::from_query(Some(query)));
            let found = names(&entries).join(&b' ');
            assert!(found.eq_ignore_ascii_case(expected.as_bytes()), "{query}");
        }
    }

    #[test]
    fn entries_beyond_the_limits_are_rejected() {
        assert_eq!(size_of::<PackedEntry>(), 24);
        let mut full = Entries::empty();
        for _ in 0..MAX_ENTRIES {
            assert_eq!(
                full.push_entry(b"", EntryKind::File, 0, 0),
                Completeness::Complete
            );
        }
        assert_eq!(
            full.push_entry(b"", EntryKind::File, 0, 0),
            Completeness::Truncated
        );

        let mut full = Entries::empty();
        let name = [b'a'; MAX_NAME_BYTES];
        for _ in 0..MAX_NAMES_BYTES / MAX_NAME_BYTES {
            assert_eq!(
                full.push_entry(&name, EntryKind::File, 0, 0),
                Completeness::Complete
            );
        }
        assert_eq!(
            full.push_entry(b"a", EntryKind::File, 0, 0),
            Completeness::Truncated
        );
    }
}
