//! The body of an archive: it is made while it is sent, piece by piece, on the threads of the disk.

use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;

use super::ArchiveWriter;
use super::measured::MeasuredEntries;
use super::unreadable::UnreadableEntries;
use super::walk::{FolderWalk, NO_PERMISSION, WalkError, WalkedEntry, WalkedKind};
use crate::body::BodyProducer;
use crate::files::archive_format::Compressibility;
use crate::files::client_slots::ClientSlot;
use crate::files::media_type::may_be_coded;
use crate::files::root::{OpenError, OpenedFile};
use crate::files::serve::SiteFiles;
use crate::http::date;

/// A piece is complete at this length.
const PIECE_BYTES: usize = 32 * 1024;

/// Length of one read from a file.
const READ_BYTES: usize = 64 * 1024;

/// How much of the files is read for one piece: content that is compressed to almost nothing must not
/// keep a thread from other clients.
const MAX_READ_BYTES: usize = 4 * 1024 * 1024;

/// Makes an archive of a folder.
pub(super) struct ArchiveProducer {
    pub(super) site: Arc<SiteFiles>,
    pub(super) walk: FolderWalk,
    pub(super) measured: MeasuredEntries,
    pub(super) unreadable: UnreadableEntries,
    /// The name of the file that lists them.
    pub(super) unreadable_file: String,
    /// `None` after the end.
    pub(super) writer: Option<ArchiveWriter>,
    pub(super) current: Option<CurrentFile>,
    /// The folder in the archive that contains everything; with a slash at the end.
    pub(super) top: Vec<u8>,
    /// How much of a name beneath the root is not part of the name in the archive.
    pub(super) prefix_len: usize,
    /// The bytes of files that may still be added.
    pub(super) bytes_left: u64,
    pub(super) device: u64,
    pub(super) buffer: Vec<u8>,
    pub(super) _held_until_the_end: ClientSlot,
}

/// The file that is being read.
pub(super) struct CurrentFile {
    opened: OpenedFile,
    name: Vec<u8>,
    offset: u64,
}

impl BodyProducer for ArchiveProducer {
    fn next_piece(&mut self) -> io::Result<Option<Bytes>> {
        let mut read = 0;
        while let Some(writer) = &mut self.writer {
            if writer.len() >= PIECE_BYTES || (read >= MAX_READ_BYTES && writer.len() > 0) {
                return Ok(Some(writer.take().into()));
            }
            if let Some(mut file) = self.current.take() {
                let count = file.read(&mut self.buffer)?;
                read += count;
                writer.write(&self.buffer[..count])?;
                if file.offset < file.opened.metadata.len {
                    self.current = Some(file);
                } else {
                    file.check_unchanged()?;
                    writer.end_file()?;
                }
                continue;
            }
            match self.walk.next().map_err(walk_failed)? {
                Some(entry) => self.add(&entry)?,
                None => return self.finish(),
            }
        }
        Ok(None)
    }

    fn device(&self) -> Option<u64> {
        Some(self.device)
    }
}

impl ArchiveProducer {
    fn add(&mut self, entry: &WalkedEntry) -> io::Result<()> {
        let is_measured = self.measured.visit(&entry.name);
        match entry.kind {
            WalkedKind::Folder => {
                let name = self.name_in_archive(entry);
                let Some(writer) = &mut self.writer else {
                    return Ok(());
                };
                writer.add_folder(&name, entry.modified)
            }
            WalkedKind::Unreadable(reason) => {
                self.unreadable.add(&entry.name[self.prefix_len..], reason);
                Ok(())
            }
            WalkedKind::File => match self.walk.open(&entry.name) {
                Ok(opened) => self.start_file(entry, opened),
                Err(OpenError::Forbidden) => {
                    let name = &entry.name[self.prefix_len..];
                    self.unreadable.add(name, NO_PERMISSION);
                    Ok(())
                }
                // Created and removed after the folder was measured.
                Err(OpenError::NotFound) if !is_measured => Ok(()),
                Err(OpenError::NotFound) => Err(removed(&entry.name)),
                Err(error) => Err(open_failed(error)),
            },
        }
    }

    fn start_file(&mut self, entry: &WalkedEntry, opened: OpenedFile) -> io::Result<()> {
        let name = self.name_in_archive(entry);
        let Some(writer) = &mut self.writer else {
            return Ok(());
        };
        let len = opened.metadata.len;
        self.bytes_left = self.bytes_left.checked_sub(len).ok_or_else(|| {
            io::Error::other("the folder has grown beyond the limit of archives (--archive-max)")
        })?;
        let media_type = self.site.tree.rules.media_types.of(&entry.name);
        let compressibility = if may_be_coded(&media_type) {
            Compressibility::Usual
        } else {
            Compressibility::Low
        };
        let modified = date::seconds(opened.metadata.modified);
        writer.start_file(&name, len, modified, compressibility)?;
        self.current = Some(CurrentFile {
            opened,
            name: entry.name.clone(),
            offset: 0,
        });
        Ok(())
    }

    fn name_in_archive(&self, entry: &WalkedEntry) -> Vec<u8> {
        [&self.top, &entry.name[self.prefix_len..]].concat()
    }

    fn finish(&mut self) -> io::Result<Option<Bytes>> {
        if !self.measured.all_visited() {
            return Err(removed(&self.top));
        }
        let Some(mut writer) = self.writer.take() else {
            return Ok(None);
        };
        if let Some(text) = self.unreadable.text() {
            log::warn!(
                "archive: {} entries are left out because this process cannot read them",
                self.unreadable.count()
            );
            let name = [&self.top, self.unreadable_file.as_bytes()].concat();
            let (len, now) = (text.len() as u64, date::seconds(SystemTime::now()));
            writer.start_file(&name, len, now, Compressibility::Usual)?;
            writer.write(text.as_bytes())?;
            writer.end_file()?;
        }
        Ok(Some(writer.finish()?.into()))
    }
}

impl CurrentFile {
    /// Reads the next bytes, unless the file has none. One that is shorter than it was is an error.
    fn read(&mut self, buffer: &mut Vec<u8>) -> io::Result<usize> {
        buffer.resize(READ_BYTES, 0);
        let left = self.opened.metadata.len - self.offset;
        let len = usize::try_from(left).map_or(READ_BYTES, |left| left.min(READ_BYTES));
        if len == 0 {
            return Ok(0);
        }
        match self.opened.file.read_at(&mut buffer[..len], self.offset) {
            Ok(0) => Err(self.changed()),
            Ok(count) => {
                self.offset += count as u64;
                Ok(count)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(0),
            Err(error) => Err(error),
        }
    }

    fn check_unchanged(&self) -> io::Result<()> {
        if self.opened.is_unchanged() {
            Ok(())
        } else {
            Err(self.changed())
        }
    }

    fn changed(&self) -> io::Error {
        io::Error::other(format!(
            "{} has changed while it was read, so the archive ends before it is complete",
            String::from_utf8_lossy(&self.name)
        ))
    }
}

/// An entry that was measured is not there any more: the error of its folder, or of itself.
fn removed(name: &[u8]) -> io::Error {
    io::Error::other(format!(
        "{}: removed or renamed while the archive was made, so it ends before it is complete",
        String::from_utf8_lossy(name)
    ))
}

fn walk_failed(error: WalkError) -> io::Error {
    match error {
        WalkError::Open(error) => open_failed(error),
        WalkError::FolderTooLarge | WalkError::TooManyEntries => {
            io::Error::other("too many entries in the folders of archives")
        }
    }
}

fn open_failed(error: OpenError) -> io::Error {
    match error {
        OpenError::Failed(error) => error,
        error => io::Error::other(format!("a file cannot be opened: {error:?}")),
    }
}
