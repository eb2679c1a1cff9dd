//! The files that the servers serve: created at the start, removed at the end.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use crate::Result;
use crate::cleanup::{self, CleanupGuard};

/// The length of the largest file in bytes.
pub(crate) const LARGE_FILE_LEN: u64 = 1 << 30;

/// The number of files of the Zipf workload.
pub(crate) const SMALL_FILE_COUNT: usize = 10_000;

/// The number of texts for compression. A server that has compressed one may keep the result.
pub(crate) const TEXT_COUNT: usize = 300;

/// A temporary directory with the files, and with room for configurations and logs.
#[derive(Debug)]
pub(crate) struct TestFiles {
    /// The document root.
    pub(crate) root: PathBuf,
    /// For configurations, logs and scripts.
    pub(crate) scratch: PathBuf,
    large_file: OnceLock<Result<()>>,
    _cleanup: CleanupGuard,
}

impl TestFiles {
    /// Creates the small files. The directory is in Cargo's target directory because that is on a
    /// disk; `/tmp` may be a tmpfs, which tws treats differently.
    pub(crate) fn create() -> Result<Self> {
        let parent = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let failed = |error| format!("directory for the files: {error}");
        let make = || {
            let directory = tempfile::Builder::new()
                .prefix("comparison-")
                .tempdir_in(parent);
            let directory = directory.map_err(failed)?.keep();
            let owned = directory.clone();
            Ok((directory, move || remove(&owned)))
        };
        let (directory, cleanup) = cleanup::acquire(make)?;
        let files = Self {
            root: directory.join("www"),
            scratch: directory,
            large_file: OnceLock::new(),
            _cleanup: cleanup,
        };
        fs::create_dir_all(files.root.join("many")).map_err(failed)?;
        for (name, len) in [("1K", 1 << 10), ("100K", 100 << 10), ("1M", 1 << 20)] {
            write_file(&files.root.join(format!("{name}.png")), len)?;
        }
        write_file(&files.root.join("style.css"), 20_000)?;
        write_file(&files.root.join("300K.png"), 300_000)?;
        fs::create_dir_all(files.root.join("text")).map_err(failed)?;
        for index in 0..TEXT_COUNT {
            write_text(&files.root.join(format!("text/{index}.html")), index)?;
        }
        for index in 0..SMALL_FILE_COUNT {
            write_file(&files.root.join(format!("many/{index}.png")), 4 << 10)?;
        }
        Ok(files)
    }

    /// Returns the URL path of the file of 1 GiB, which is created when it is first needed.
    pub(crate) fn large_file(&self) -> Result<&'static str> {
        let created = self.large_file.get_or_init(|| {
            let disk = rustix::fs::statvfs(&self.root).map_err(|error| error.to_string())?;
            if disk.f_bavail * disk.f_frsize < 2 * LARGE_FILE_LEN {
                return Err("the disk has less than 2 GiB of free space".to_owned());
            }
            write_file(&self.root.join("1G.png"), LARGE_FILE_LEN)
        });
        created.clone().map(|()| "/1G.png")
    }
}

/// Removes the directory. It is retried because the main thread may still be writing a file when a
/// signal ends the bench.
fn remove(directory: &Path) {
    for _ in 0..100 {
        let _ = fs::remove_dir_all(directory);
        std::thread::sleep(Duration::from_millis(5));
        if !directory.exists() {
            return;
        }
    }
}

/// Writes a page of about 20 KB that is compressed to a quarter or so.
fn write_text(path: &Path, seed: usize) -> Result<()> {
    const WORDS: [&str; 16] = [
        "the",
        "of",
        "server",
        "request",
        "a",
        "response",
        "file",
        "is",
        "connection",
        "to",
        "and",
        "socket",
        "in",
        "kernel",
        "<p>",
        "bytes",
    ];
    let mut state = 0x9E37_79B9_7F4A_7C15_u64 ^ seed as u64;
    let mut text = format!("<!doctype html><title>{seed}</title>\n");
    while text.len() < 20_000 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        text.push_str(WORDS[(state % 16) as usize]);
        let end = if state >> 60 == 0 { '\n' } else { ' ' };
        text.push(end);
        if state >> 61 == 0 {
            text.push_str(&format!("{:x} ", state >> 40));
        }
    }
    let write = || {
        fs::write(path, text)?;
        File::options()
            .write(true)
            .open(path)?
            .set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1_577_836_800))
    };
    write().map_err(|error| format!("{}: {error}", path.display()))
}

/// Writes a file of pseudorandom, so incompressible, bytes that depend on its path and length.
pub(crate) fn write_file(path: &Path, len: u64) -> Result<()> {
    let write = || {
        let mut file = File::create(path)?;
        let mut state = 0x9E37_79B9_7F4A_7C15 ^ len;
        for byte in path.as_os_str().as_encoded_bytes() {
            state = (state ^ u64::from(*byte)).wrapping_mul(0x100_0000_01B3);
        }
        let mut block = Vec::with_capacity(1 << 16);
        let mut remaining = len;
        while remaining > 0 {
            block.clear();
            while block.len() < (1 << 16) && (block.len() as u64) < remaining {
                // xorshift64
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                block.extend_from_slice(&state.to_le_bytes());
            }
            let count = remaining.min(block.len() as u64);
            file.write_all(&block[..count as usize])?;
            remaining -= count;
        }
        // A time long ago: tws sends a weak entity tag for a file that was modified recently.
        file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1_577_836_800))
    };
    write().map_err(|error| format!("{}: {error}", path.display()))
}
