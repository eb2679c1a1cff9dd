//! Sidecars: files in a content coding beside the files that they are made from. They are checked, and
//! made for a whole folder ahead of time.

use std::ffi::OsStr;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, BufReader, Read, Seek, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::SystemTime;

use rustix::fs::OFlags;

use super::compress::{self, Effort, Encoder};
use super::media_type::{self, MediaTypes};
use super::representation;
use super::rules::Rules;
use super::upload::temp_file::{Folder, OverwritePolicy, TempFile};
use crate::error::Error;
use crate::http::negotiation::Coding;
use crate::site::Site;

const CODINGS: [Coding; 3] = [Coding::Brotli, Coding::Zstd, Coding::Gzip];

/// More bytes at the start of a file than [`is_in_format`] looks at.
pub(super) const START_BYTES: usize = 32;

/// The limit of the entries of a folder tree that are looked at.
const MAX_ENTRIES: usize = 1_000_000;

/// The limit of nested folders.
const MAX_DEPTH: usize = 64;

/// Returns whether a file that starts with these bytes may be in a content coding. Brotli has no magic
/// number; of other files, only the pointers of Git LFS are recognised.
pub(super) fn is_in_format(coding: Coding, start: &[u8]) -> bool {
    const GZIP: &[u8] = &[0x1F, 0x8B];
    const ZSTD: &[u8] = &[0x28, 0xB5, 0x2F, 0xFD];
    match coding {
        Coding::Gzip => start.starts_with(GZIP),
        // Skippable frames have the numbers 0x184D2A50 to 0x184D2A5F (RFC 8878 §3.1.2).
        Coding::Zstd => {
            start.starts_with(ZSTD) || matches!(start, [0x50..=0x5F, 0x2A, 0x4D, 0x18, ..])
        }
        Coding::Brotli => !start.is_empty() && !is_lfs_pointer(start),
        Coding::Identity => true,
    }
}

/// Returns whether a file that starts with these bytes is a pointer of Git LFS, in place of the content.
fn is_lfs_pointer(start: &[u8]) -> bool {
    start.starts_with(b"version https://git-lfs")
}

/// Returns a line for each file beneath a folder that is empty or does not start as its format does: a
/// sidecar, or a file that is sent with a content coding of its own by the rules. Names that begin with a
/// dot are left out.
pub(super) fn invalid(folder: &Path, rules: &Rules) -> Vec<String> {
    let mut lines = Vec::new();
    let mut files = Files::beneath(folder);
    for path in &mut files {
        let own_coding = || {
            let name = path.strip_prefix(folder).ok()?.as_os_str().as_bytes();
            let (coding, _) = rules.own_coding(&[b"/", name].concat(), name)?;
            Some((coding, "not sent with Content-Encoding"))
        };
        let Some((coding, effect)) = coding_of_sidecar(&path)
            .map(|coding| (coding, "not served as a sidecar"))
            .or_else(own_coding)
        else {
            continue;
        };
        let reason = match start_of(&path) {
            Err(error) => error.to_string(),
            Ok(start) if start.is_empty() => "is empty".to_owned(),
            Ok(start) if is_in_format(coding, &start) => continue,
            Ok(start) if is_lfs_pointer(&start) => {
                "is a pointer of Git LFS; fetch the file with `git lfs pull`".to_owned()
            }
            Ok(_) => format!("is not in the format {}", coding.name()),
        };
        lines.push(format!("{}: {effect}: {reason}", path.display()));
    }
    lines
}

/// Returns the coding of a file that lies beside the file that its name without the extension names.
fn coding_of_sidecar(path: &Path) -> Option<Coding> {
    let (coding, source) = Coding::of_file_name(path.as_os_str().as_bytes())?;
    Path::new(OsStr::from_bytes(source))
        .is_file()
        .then_some(coding)
}

/// Returns the first bytes of a file, which tell its format.
fn start_of(path: &Path) -> io::Result<Vec<u8>> {
    let mut start = Vec::new();
    open(path)?
        .take(START_BYTES as u64)
        .read_to_end(&mut start)?;
    Ok(start)
}

/// Opening a FIFO must not block.
fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
        .open(path)
}

/// The regular files beneath a folder, without symbolic links and names that begin with a dot.
struct Files {
    folders: Vec<(fs::ReadDir, usize)>,
    remaining: usize,
    errors: Vec<String>,
}

impl Files {
    fn beneath(folder: &Path) -> Self {
        let mut files = Self {
            folders: Vec::new(),
            remaining: MAX_ENTRIES,
            errors: Vec::new(),
        };
        files.enter(folder, 0);
        files
    }

    fn enter(&mut self, folder: &Path, depth: usize) {
        match fs::read_dir(folder) {
            Ok(entries) if depth < MAX_DEPTH => self.folders.push((entries, depth)),
            Ok(_) => self.errors.push(format!("{}: too deep", folder.display())),
            Err(error) => self.errors.push(format!("{}: {error}", folder.display())),
        }
    }
}

impl Iterator for &mut Files {
    type Item = PathBuf;

    fn next(&mut self) -> Option<PathBuf> {
        loop {
            let (entries, depth) = self.folders.last_mut()?;
            let depth = *depth;
            let Some(entry) = entries.next() else {
                self.folders.pop();
                continue;
            };
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) => {
                    self.errors
                        .push(format!("a folder cannot be read: {error}"));
                    self.folders.pop();
                    continue;
                }
            };
            if self.remaining == 0 {
                let path = entry.path();
                let text = format!(
                    "{}: skipped, with all after {MAX_ENTRIES} entries",
                    path.display()
                );
                self.errors.push(text);
                self.folders.clear();
                return None;
            }
            self.remaining -= 1;
            if entry.file_name().as_bytes().starts_with(b".") {
                continue;
            }
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => self.enter(&entry.path(), depth + 1),
                Ok(kind) if kind.is_file() => return Some(entry.path()),
                _ => {}
            }
        }
    }
}

/// Writes sidecars for the files beneath a folder, as `tws compress` does.
#[derive(Debug)]
pub struct Sidecars {
    jobs: Vec<SidecarJob>,
    errors: Vec<String>,
}

/// One sidecar to be written.
#[derive(Debug)]
struct SidecarJob {
    source: PathBuf,
    len: u64,
    coding: Coding,
}

/// What was done to write sidecars.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SidecarReport {
    /// Sidecars that were written.
    pub written: usize,
    /// Sidecars that would be no smaller than their file, and were not written.
    pub not_smaller: usize,
    /// Sidecars that had other content than their file, and would be no smaller now: they were removed.
    pub removed: Vec<PathBuf>,
    /// Sidecars that were up to date.
    pub up_to_date: usize,
    /// The size of the files that have new sidecars, once for each sidecar, in bytes.
    pub bytes_before: u64,
    /// The size of the new sidecars, in bytes.
    pub bytes_after: u64,
    /// A line for each file or folder that could not be read or written.
    pub errors: Vec<String>,
}

/// How a job has ended.
enum JobEnd {
    Written(u64),
    NotSmaller,
    Removed,
    UpToDate,
}

impl Sidecars {
    /// Finds the files beneath a folder whose media types become clearly smaller: those that
    /// [`Compress::Auto`](crate::site::Compress::Auto) compresses. Symbolic links, and names that begin
    /// with a dot, are left out; a sidecar beside a symbolic link is an error in the report if it has
    /// other content, because it would be served.
    ///
    /// # Errors
    ///
    /// [`Error::Path`] if the folder cannot be read.
    pub fn find(folder: &Path) -> Result<Self, Error> {
        fs::read_dir(folder).map_err(|error| Error::path("compress", folder, error))?;
        let media_types = MediaTypes::new(&Site::default());
        let mut files = Files::beneath(folder);
        let mut jobs = Vec::new();
        let mut errors = Vec::new();
        for source in &mut files {
            let name = source.as_os_str().as_bytes();
            let of_sidecar = Coding::of_file_name(name);
            let inner = of_sidecar.map_or(name, |(_, inner)| inner);
            // `x.tar.gz` beside `x.tar` is an archive of its own.
            if !media_type::compresses(&media_types.of(inner)) || inner.ends_with(b".tar") {
                continue;
            }
            if let Some((coding, inner)) = of_sidecar {
                let link = Path::new(OsStr::from_bytes(inner));
                errors.extend(error_of_sidecar_of_link(&source, coding, link));
                continue;
            }
            let len = source.metadata().map_or(0, |metadata| metadata.len());
            jobs.extend(CODINGS.map(|coding| SidecarJob {
                source: source.clone(),
                len,
                coding,
            }));
        }
        // The longest jobs first, so that the threads end at about the same time.
        jobs.sort_by_key(|job| std::cmp::Reverse(job.len));
        errors.append(&mut files.errors);
        Ok(Self { jobs, errors })
    }

    /// Returns the size of all jobs in bytes.
    pub fn bytes(&self) -> u64 {
        self.jobs.iter().map(|job| job.len).sum()
    }

    /// Writes the sidecars with the highest useful levels (brotli 11, zstd 19, gzip 9) on as many threads.
    /// A sidecar appears complete, with the modification time and the mode of its file, and only if it is
    /// smaller. One that exists is kept if it has the time of its file and decodes to it, and replaced
    /// otherwise. It is removed only if it would be served with other content than that of its file and a
    /// new one would be no smaller. A file with the name of a sidecar that cannot be decoded, or has other
    /// content and may not be complete, is kept, and is an error in the report. Several processes may do this
    /// at once, and be killed at any time: a file without its final name is removed by the kernel, where the
    /// file system has `O_TMPFILE`. `on_done` is called with the size of each job that has ended.
    pub fn write(self, threads: usize, on_done: impl Fn(u64) + Sync) -> SidecarReport {
        let next = AtomicUsize::new(0);
        let report = Mutex::new(SidecarReport {
            errors: self.errors,
            ..SidecarReport::default()
        });
        let work = || {
            while let Some(job) = self.jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                let end = job.run();
                on_done(job.len);
                let Ok(mut report) = report.lock() else {
                    return;
                };
                match end {
                    Ok(JobEnd::Written(len)) => {
                        report.written += 1;
                        report.bytes_before += job.len;
                        report.bytes_after += len;
                    }
                    Ok(JobEnd::NotSmaller) => report.not_smaller += 1,
                    Ok(JobEnd::Removed) => report.removed.push(job.sidecar()),
                    Ok(JobEnd::UpToDate) => report.up_to_date += 1,
                    Err(error) => {
                        let path = job.sidecar();
                        report.errors.push(format!("{}: {error}", path.display()));
                    }
                }
            }
        };
        thread::scope(|scope| {
            for _ in 1..threads {
                scope.spawn(work);
            }
            work();
        });
        report.into_inner().unwrap_or_default()
    }
}

impl SidecarJob {
    fn sidecar(&self) -> PathBuf {
        let mut path = self.source.clone().into_os_string();
        path.push(OsStr::from_bytes(self.coding.extension()));
        path.into()
    }

    fn run(&self) -> io::Result<JobEnd> {
        let mut source = open(&self.source)?;
        let metadata = source.metadata()?;
        let modified = metadata.modified()?;
        let sidecar = self.sidecar();
        let existing = self.existing(&mut source, modified)?;
        match existing {
            Existing::UpToDate => return Ok(JobEnd::UpToDate),
            Existing::Foreign => {
                return Err(io::Error::other(
                    "is no sidecar of its file, or not complete, and is kept; move it away if one is wanted",
                ));
            }
            _ => {}
        }
        let folder = self.source.parent().unwrap_or(Path::new("."));
        let folder = Folder::new(File::open(folder)?.into());
        let mut temp_file = folder.create_temp_file()?;
        source.rewind()?;
        let len = encode(&mut source, &mut temp_file, metadata.len(), self.coding)?;
        let now = source.metadata()?;
        if now.len() != metadata.len() || now.modified()? != modified {
            return Err(io::Error::other(
                "the file has changed meanwhile; run this again",
            ));
        }
        existing.check_unchanged(&sidecar)?;
        let Some(len) = len else {
            return match existing {
                Existing::Wrong(_) => fs::remove_file(&sidecar).map(|()| JobEnd::Removed),
                _ => Ok(JobEnd::NotSmaller),
            };
        };
        temp_file.file().set_permissions(metadata.permissions())?;
        temp_file.file().set_modified(modified)?;
        let name = sidecar.file_name().unwrap_or_default().as_bytes();
        temp_file.save(&folder, name, existing.overwrite_policy())?;
        Ok(JobEnd::Written(len))
    }

    /// Looks at the file that has the name of the sidecar.
    fn existing(&self, source: &mut File, modified: SystemTime) -> io::Result<Existing> {
        let sidecar = self.sidecar();
        let known = match fs::symlink_metadata(&sidecar) {
            Ok(known) => known,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Existing::None),
            Err(error) => return Err(error),
        };
        if !known.is_file() {
            return Ok(Existing::Foreign);
        }
        let start = start_of(&sidecar)?;
        if start.is_empty() || is_lfs_pointer(&start) {
            return Ok(Existing::Outdated(known));
        }
        if !is_in_format(self.coding, &start) {
            return Ok(Existing::Foreign);
        }
        let sidecar_modified = known.modified()?;
        Ok(match decode(&open(&sidecar)?, self.coding, source)? {
            Decoded::Same if sidecar_modified == modified => Existing::UpToDate,
            Decoded::Same => Existing::Outdated(known),
            Decoded::Other if sidecar_modified < modified => Existing::Outdated(known),
            Decoded::Other if representation::is_ready(sidecar_modified, modified) => {
                Existing::Wrong(known)
            }
            // It may be about to be completed, or something else.
            Decoded::Other | Decoded::Nothing => Existing::Foreign,
        })
    }
}

/// The file that has the name of a sidecar before it is written.
enum Existing {
    None,
    UpToDate,
    /// It is not served as it is, or its time is not that of its file.
    Outdated(Metadata),
    /// It has other content than its file, and is served as if it had not.
    Wrong(Metadata),
    /// It may contain something that is nowhere else.
    Foreign,
}

impl Existing {
    /// A file that has appeared meanwhile is not replaced.
    fn overwrite_policy(&self) -> OverwritePolicy {
        match self {
            Self::Outdated(_) | Self::Wrong(_) => OverwritePolicy::Replace,
            Self::None | Self::UpToDate | Self::Foreign => OverwritePolicy::Keep,
        }
    }

    /// Fails if another file has the name of the sidecar than before.
    fn check_unchanged(&self, sidecar: &Path) -> io::Result<()> {
        let (Self::Outdated(known) | Self::Wrong(known)) = self else {
            return Ok(());
        };
        let identity = |file: &Metadata| io::Result::Ok((file.dev(), file.ino(), file.modified()?));
        if identity(&fs::symlink_metadata(sidecar)?)? == identity(known)? {
            Ok(())
        } else {
            Err(io::Error::other("has changed meanwhile; run this again"))
        }
    }
}

/// Returns a line if the source of this sidecar is a symbolic link to other content, and the sidecar is
/// new enough to be served. It is not removed, as it may be there on purpose.
fn error_of_sidecar_of_link(sidecar: &Path, coding: Coding, source: &Path) -> Option<String> {
    if !source.is_symlink() || !source.is_file() {
        return None;
    }
    let check = || {
        let (file, mut target) = (open(sidecar)?, open(source)?);
        let is_served = file.metadata()?.modified()? >= target.metadata()?.modified()?;
        io::Result::Ok(!is_served || decode(&file, coding, &mut target)? == Decoded::Same)
    };
    let reason = match check() {
        Ok(true) => return None,
        Ok(false) => {
            "has other content than its file, a symbolic link, which is not compressed; remove it"
                .to_owned()
        }
        Err(error) => error.to_string(),
    };
    Some(format!("{}: {reason}", sidecar.display()))
}

/// The size of the buffers in which files are read.
const BUFFER_BYTES: usize = 128 * 1024;

/// What a sidecar decodes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Decoded {
    /// The content of its source.
    Same,
    Other,
    /// It is damaged or incomplete, or in another format.
    Nothing,
}

/// Decodes a sidecar, and compares it with its source.
fn decode(sidecar: &File, coding: Coding, source: &mut File) -> io::Result<Decoded> {
    let mut decoder = compress::decoder(BufReader::with_capacity(BUFFER_BYTES, sidecar), coding)?;
    let (mut decoded, mut expected) = (vec![0; BUFFER_BYTES], vec![0; BUFFER_BYTES]);
    let mut result = Decoded::Same;
    source.rewind()?;
    loop {
        let count = match decoder.read(&mut decoded) {
            Ok(count) => count,
            Err(error) if error.raw_os_error().is_some() => return Err(error),
            Err(_) => return Ok(Decoded::Nothing),
        };
        if result == Decoded::Same {
            // At the end of the one there must be no byte of the other.
            let wanted = count.max(1);
            let read = read_full(source, &mut expected[..wanted])?;
            if decoded[..count] != expected[..read] {
                result = Decoded::Other;
            }
        }
        if count == 0 {
            return Ok(result);
        }
    }
}

/// Reads until the buffer is full or the file ends, and returns the number of bytes.
fn read_full(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..])? {
            0 => break,
            count => filled += count,
        }
    }
    Ok(filled)
}

/// Returns the length of the encoded content; `None` if it would be no smaller.
fn encode(
    source: &mut File,
    out: &mut TempFile<'_>,
    len: u64,
    coding: Coding,
) -> io::Result<Option<u64>> {
    let limited = Limited {
        out,
        remaining: len.saturating_sub(1),
        written: 0,
    };
    let mut encoder = Encoder::new(limited, coding, Effort::Smallest, Some(len))?;
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let count = source.read(&mut buffer)?;
        if count == 0 {
            break;
        }
        match encoder.write_all(&buffer[..count]) {
            Err(error) if is_no_smaller(&error) => return Ok(None),
            result => result?,
        }
    }
    match encoder.finish() {
        Ok(limited) => Ok(Some(limited.written)),
        Err(error) if is_no_smaller(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Returns whether the error is that of [`Limited`], and not one of the file system.
fn is_no_smaller(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::FileTooLarge && error.raw_os_error().is_none()
}

/// A file of which only so many bytes are written. What exceeds them is an error.
struct Limited<W> {
    out: W,
    remaining: u64,
    written: u64,
}

impl<W: Write> Write for Limited<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() as u64 > self.remaining {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let count = self.out.write(bytes)?;
        self.remaining -= count as u64;
        self.written += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
