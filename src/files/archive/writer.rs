//! Writes archives into memory, from where the pieces of the body are taken. The headers are those of the
//! crates `tar` and `zip`; neither seeks back.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use zip::write::{FileOptions, FullFileOptions, StreamWriter};
use zip::{DateTime, ZipWriter};

use crate::calendar::UtcDateTime;
use crate::files::archive_format::{ArchiveFormat, Compressibility};
use crate::sync::Mutex;

const FILE_MODE: u32 = 0o644;
const FOLDER_MODE: u32 = 0o755;

/// The length of a block (POSIX pax, "ustar Interchange Format").
const TAR_BLOCK: u64 = 512;

/// Where the sizes of a zip entry must have 64 bits: deflate makes data that cannot be compressed
/// slightly larger.
const LARGE_ZIP_FILE: u64 = 0xF000_0000;

/// An archive that is being written.
pub(super) struct ArchiveWriter {
    output: Output,
    archive: Archive,
}

enum Archive {
    Tar {
        builder: Box<tar::Builder<Encoder>>,
        /// The length of the current file in bytes.
        len: u64,
    },
    Zip {
        zip: Box<ZipWriter<StreamWriter<Output>>>,
        names: ZipNames,
    },
}

/// The names in a zip archive that have a percent sign, each with the number of its uses: that of a file
/// may be equal to another one whose bytes were encoded.
#[derive(Default)]
struct ZipNames(HashMap<String, usize>);

/// Compresses a tar archive.
enum Encoder {
    Plain(Output),
    #[cfg(feature = "compress")]
    Gzip(flate2::write::GzEncoder<Output>),
    #[cfg(feature = "compress")]
    Zstd(zstd::stream::write::Encoder<'static, Output>),
}

/// The bytes that were written and not taken. The encoders own one end of it.
#[derive(Clone, Default)]
struct Output(Arc<Mutex<Vec<u8>>>);

impl ArchiveWriter {
    pub(super) fn new(format: ArchiveFormat) -> io::Result<Self> {
        let output = Output::default();
        let out = output.clone();
        let encoder = match format {
            ArchiveFormat::Zip => {
                let archive = Archive::Zip {
                    zip: Box::new(ZipWriter::new_stream(out)),
                    names: ZipNames::default(),
                };
                return Ok(Self { output, archive });
            }
            ArchiveFormat::Tar => Encoder::Plain(out),
            #[cfg(feature = "compress")]
            ArchiveFormat::TarGz => {
                let level = flate2::Compression::default();
                Encoder::Gzip(flate2::write::GzEncoder::new(out, level))
            }
            #[cfg(feature = "compress")]
            ArchiveFormat::TarZst => {
                let level = zstd::DEFAULT_COMPRESSION_LEVEL;
                Encoder::Zstd(zstd::stream::write::Encoder::new(out, level)?)
            }
        };
        let builder = Box::new(tar::Builder::new(encoder));
        let archive = Archive::Tar { builder, len: 0 };
        Ok(Self { output, archive })
    }

    /// Adds a folder, whose name ends with a slash.
    pub(super) fn add_folder(&mut self, name: &[u8], modified: i64) -> io::Result<()> {
        match &mut self.archive {
            Archive::Tar { builder, .. } => {
                let mut header = tar_header(tar::EntryType::Directory, modified);
                header.set_mode(FOLDER_MODE);
                builder.append_data(&mut header, name_as_path(name), io::empty())
            }
            Archive::Zip { zip, names } => {
                let Some(name) = names.folder_name(name) else {
                    return Ok(());
                };
                let options = zip_options(modified)?.unix_permissions(FOLDER_MODE);
                Ok(zip.add_directory(name, options)?)
            }
        }
    }

    /// Begins a file of `len` bytes, which are to be written next.
    pub(super) fn start_file(
        &mut self,
        name: &[u8],
        len: u64,
        modified: i64,
        compressibility: Compressibility,
    ) -> io::Result<()> {
        match &mut self.archive {
            Archive::Tar {
                builder,
                len: current,
            } => {
                let mut header = tar_header(tar::EntryType::Regular, modified);
                header.set_mode(FILE_MODE);
                header.set_size(len);
                *current = len;
                builder.append_data(&mut header, name_as_path(name), io::empty())
            }
            Archive::Zip { zip, names } => {
                let options = zip_options(modified)?
                    .unix_permissions(FILE_MODE)
                    .large_file(len >= LARGE_ZIP_FILE);
                let options = match compressibility {
                    Compressibility::Low if cfg!(feature = "compress") => {
                        options.compression_level(Some(1))
                    }
                    _ => options,
                };
                Ok(zip.start_file(names.file_name(name), options)?)
            }
        }
    }

    /// Writes a part of the current file.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.archive {
            Archive::Tar { builder, .. } => builder.get_mut().write_all(bytes),
            Archive::Zip { zip, .. } => zip.write_all(bytes),
        }
    }

    /// Ends the current file.
    pub(super) fn end_file(&mut self) -> io::Result<()> {
        match &mut self.archive {
            Archive::Tar { builder, len } => {
                let padding = len.next_multiple_of(TAR_BLOCK) - *len;
                builder
                    .get_mut()
                    .write_all(&[0; TAR_BLOCK as usize][..padding as usize])
            }
            Archive::Zip { .. } => Ok(()),
        }
    }

    /// Writes the end of the archive, and returns all that was not taken.
    pub(super) fn finish(self) -> io::Result<Vec<u8>> {
        match self.archive {
            Archive::Tar { builder, .. } => match builder.into_inner()? {
                Encoder::Plain(_) => {}
                #[cfg(feature = "compress")]
                Encoder::Gzip(gzip) => drop(gzip.finish()?),
                #[cfg(feature = "compress")]
                Encoder::Zstd(zstd) => drop(zstd.finish()?),
            },
            Archive::Zip { zip, .. } => drop(zip.finish()?),
        }
        Ok(self.output.take())
    }

    /// Returns how many bytes can be taken.
    pub(super) fn len(&self) -> usize {
        self.output.0.lock().len()
    }

    /// Takes the bytes that were written.
    pub(super) fn take(&self) -> Vec<u8> {
        self.output.take()
    }
}

impl ZipNames {
    /// Returns the name of a folder, or `None` if it is that of one in the archive, which has the entries of
    /// both then.
    fn folder_name(&mut self, name: &[u8]) -> Option<String> {
        let name = zip_name(name);
        let is_new = !name.contains('%') || self.0.insert(name.clone(), 1).is_none();
        is_new.then_some(name)
    }

    /// Returns a name that no other file in the archive has: with a number at its end, if need be.
    fn file_name(&mut self, name: &[u8]) -> String {
        let name = zip_name(name);
        if !name.contains('%') {
            return name;
        }
        let mut unused = name.clone();
        while self.0.contains_key(&unused) {
            let uses = self.0.entry(name.clone()).or_default();
            *uses += 1;
            unused = format!("{name} ({uses})");
        }
        self.0.insert(unused.clone(), 1);
        unused
    }
}

impl Output {
    fn take(&self) -> Vec<u8> {
        std::mem::take(&mut *self.0.lock())
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Write for Encoder {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(out) => out.write(bytes),
            #[cfg(feature = "compress")]
            Self::Gzip(gzip) => gzip.write(bytes),
            #[cfg(feature = "compress")]
            Self::Zstd(zstd) => zstd.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(out) => out.flush(),
            #[cfg(feature = "compress")]
            Self::Gzip(gzip) => gzip.flush(),
            #[cfg(feature = "compress")]
            Self::Zstd(zstd) => zstd.flush(),
        }
    }
}

fn name_as_path(name: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(name))
}

/// Returns a header without owner, so that unpacked files belong to the unpacking user.
fn tar_header(kind: tar::EntryType, modified: i64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(0);
    header.set_uid(0);
    header.set_gid(0);
    match u64::try_from(modified) {
        Ok(modified) => header.set_mtime(modified),
        // In the form of GNU tar for numbers that are no octal digits: the two's complement.
        Err(_) => {
            let mtime = &mut header.as_old_mut().mtime;
            *mtime = [0xFF; _];
            mtime[4..].copy_from_slice(&modified.to_be_bytes());
        }
    }
    header
}

/// Returns options with both times of a zip entry: the one in DOS format, which has no time zone and is the
/// nearest one of the years 1980 to 2107, and the extended one, in seconds since the epoch, where it fits.
fn zip_options(modified: i64) -> io::Result<FullFileOptions<'static, 'static>> {
    const FIRST: i64 = 315_532_800;
    const LAST: i64 = 4_354_819_199;
    let nearest = modified.clamp(FIRST, LAST);
    let dos = UtcDateTime::from_unix_seconds(nearest).and_then(|time| {
        let (year, month, day) = (time.year, time.month, time.day);
        DateTime::from_date_and_time(year, month, day, time.hour, time.minute, time.second).ok()
    });
    let options: FileOptions<'static, 'static, ()> = FileOptions::default();
    let options = options.last_modified_time(dos.unwrap_or_default());
    Ok(options.with_extended_timestamp(u32::try_from(modified).ok(), None, None)?)
}

/// Returns a name as UTF-8, which zip archives need; other bytes are percent-encoded.
fn zip_name(name: &[u8]) -> String {
    let mut text = String::with_capacity(name.len());
    for chunk in name.utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            text += &format!("%{byte:02X}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zip_names_are_utf8() {
        assert_eq!(zip_name("a/é ü.txt".as_bytes()), "a/é ü.txt");
        assert_eq!(zip_name(b"not \xFF\xFE text"), "not %FF%FE text");
    }

    #[test]
    fn zip_names_are_unique() -> io::Result<()> {
        let mut writer = ArchiveWriter::new(ArchiveFormat::Zip)?;
        for folder in [&b"\xFF/"[..], b"%FF/"] {
            writer.add_folder(folder, 0)?;
        }
        for file in [
            &b"%FF/a"[..],
            b"\xFF/a",
            b"%FF\xFF",
            b"\xFF%FF",
            b"\xFF\xFF",
        ] {
            writer.start_file(file, 0, 0, Compressibility::Usual)?;
            writer.end_file()?;
        }
        let archive = zip::ZipArchive::new(io::Cursor::new(writer.finish()?))?;
        let names: Result<Vec<_>, _> = archive.file_names().collect();
        let mut names = names?;
        names.sort_unstable();
        let expected = [
            "%FF%FF",
            "%FF%FF (2)",
            "%FF%FF (3)",
            "%FF/",
            "%FF/a",
            "%FF/a (2)",
        ];
        assert_eq!(names, expected);
        Ok(())
    }

    #[test]
    fn times_are_those_of_the_files_or_the_nearest_ones() -> io::Result<()> {
        for (modified, zip_year, zip_seconds) in [
            (-86_400_i64, 1980, None),
            (86_400, 1980, Some(86_400)),
            (1_000_000_000, 2001, Some(1_000_000_000)),
            (4_300_000_000, 2106, None),
            (10_000_000_000, 2107, None),
        ] {
            let mut writer = ArchiveWriter::new(ArchiveFormat::Zip)?;
            writer.start_file(b"a", 0, modified, Compressibility::Usual)?;
            writer.end_file()?;
            let mut zip = zip::ZipArchive::new(io::Cursor::new(writer.finish()?))?;
            let entry = zip.by_index(0)?;
            let time = entry.last_modified().map(|time| time.year());
            assert_eq!(time, Some(zip_year), "{modified}");
            let seconds = entry.extra_data_fields().find_map(|field| match field {
                zip::ExtraField::ExtendedTimestamp(time) => time.mod_time(),
                _ => None,
            });
            assert_eq!(seconds, zip_seconds, "{modified}");

            let mut writer = ArchiveWriter::new(ArchiveFormat::Tar)?;
            writer.start_file(b"a", 0, modified, Compressibility::Usual)?;
            writer.end_file()?;
            let tar = writer.finish()?;
            let mut tar = tar::Archive::new(&tar[..]);
            let entry = tar.entries()?.next().expect("an entry")?;
            assert_eq!(entry.header().mtime()?.cast_signed(), modified);
        }
        Ok(())
    }

    /// More than a zip archive can count without the extension zip64.
    #[test]
    fn zip_archive_has_any_number_of_entries() -> io::Result<()> {
        const ENTRIES: usize = 70_000;
        let mut writer = ArchiveWriter::new(ArchiveFormat::Zip)?;
        for at in 0..ENTRIES {
            writer.add_folder(format!("{at}/").as_bytes(), 0)?;
        }
        let archive = zip::ZipArchive::new(io::Cursor::new(writer.finish()?))?;
        assert_eq!(archive.len(), ENTRIES);
        Ok(())
    }
}
