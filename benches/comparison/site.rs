//! The files that are served, made anew and taken away at the end.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use crate::Result;
use crate::cleanup::{self, Undo};

pub(crate) const GIANT: u64 = 1 << 30;

/// How many files the Zipf work has.
pub(crate) const MANY: usize = 10_000;

#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) root: PathBuf,
    pub(crate) scratch: PathBuf,
    giant: OnceLock<Result<()>>,
    _undo: Undo,
}

impl Site {
    /// Beside the build's output: a disk, where a temporary folder may be memory, which tws treats
    /// differently.
    pub(crate) fn new() -> Result<Self> {
        let within = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let failed = |error| format!("no folder for the files: {error}");
        let make = || {
            let folder = tempfile::Builder::new()
                .prefix("comparison-")
                .tempdir_in(within);
            let folder = folder.map_err(failed)?.keep();
            let owned = folder.clone();
            Ok((folder, move || remove(&owned)))
        };
        let (folder, undo) = cleanup::make(make)?;
        let site = Self {
            root: folder.join("www"),
            scratch: folder,
            giant: OnceLock::new(),
            _undo: undo,
        };
        fs::create_dir_all(site.root.join("many")).map_err(failed)?;
        for (name, len) in [("1K", 1 << 10), ("100K", 100 << 10), ("1M", 1 << 20)] {
            write_file(&site.root.join(format!("{name}.png")), len)?;
        }
        for index in 0..MANY {
            write_file(&site.root.join(format!("many/{index}.png")), 4 << 10)?;
        }
        Ok(site)
    }

    /// The file of 1 GiB, made when it is first needed.
    pub(crate) fn giant(&self) -> Result<&'static str> {
        let made = self.giant.get_or_init(|| {
            let disk = rustix::fs::statvfs(&self.root).map_err(|error| error.to_string())?;
            if disk.f_bavail * disk.f_frsize < 2 * GIANT {
                return Err("the disk has no 2 GiB to spare".to_owned());
            }
            write_file(&self.root.join("1G.png"), GIANT)
        });
        made.clone().map(|()| "/1G.png")
    }
}

/// When a signal ends the bench, the main thread may be about to write one file more.
fn remove(folder: &Path) {
    for _ in 0..100 {
        let _ = fs::remove_dir_all(folder);
        std::thread::sleep(Duration::from_millis(5));
        if !folder.exists() {
            return;
        }
    }
}

/// Bytes that no server could guess or compress; two files differ.
pub(crate) fn write_file(path: &Path, len: u64) -> Result<()> {
    let write = || {
        let mut file = File::create(path)?;
        let mut state = 0x9E37_79B9_7F4A_7C15 ^ len;
        for byte in path.as_os_str().as_encoded_bytes() {
            state = (state ^ u64::from(*byte)).wrapping_mul(0x100_0000_01B3);
        }
        let mut block = Vec::with_capacity(1 << 16);
        let mut left = len;
        while left > 0 {
            block.clear();
            while block.len() < (1 << 16) && (block.len() as u64) < left {
                // xorshift64
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                block.extend_from_slice(&state.to_le_bytes());
            }
            let count = left.min(block.len() as u64);
            file.write_all(&block[..count as usize])?;
            left -= count;
        }
        // Long ago: entity tags of files that may still change are weak.
        file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1_577_836_800))
    };
    write().map_err(|error| format!("{}: {error}", path.display()))
}
