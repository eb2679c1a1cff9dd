//! The state of this process, from `/proc/self`.
//!
//! The files are opened once, early: a sandbox that is entered later does not prevent reading open
//! files. A process that starts in a sandbox may lack some of the values.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::Path;

use std::time::{Duration, SystemTime};

use rustix::fs::{Dir, Mode, OFlags, open};
use rustix::param::{clock_ticks_per_second, page_size};
use rustix::process::{Resource, getrlimit};

use crate::sync::Mutex;

pub(crate) struct ProcSelf {
    started: Option<SystemTime>,
    stat: Option<File>,
    statm: Option<File>,
    descriptors: Option<Mutex<Dir>>,
}

impl ProcSelf {
    pub(crate) fn open() -> Self {
        let stat = File::open("/proc/self/stat").ok();
        Self {
            started: stat.as_ref().and_then(started),
            stat,
            statm: File::open("/proc/self/statm").ok(),
            descriptors: open_folder(Path::new("/proc/self/fd")).ok().map(Mutex::new),
        }
    }

    pub(crate) fn started(&self) -> Option<SystemTime> {
        self.started
    }

    /// Returns the user and system CPU time of all threads.
    pub(crate) fn cpu_time(&self) -> Option<Duration> {
        let [user, system] = ticks(self.stat.as_ref()?, [14, 15])?;
        Some(duration(user + system))
    }

    pub(crate) fn resident_bytes(&self) -> Option<u64> {
        let text = read(self.statm.as_ref()?).ok()?;
        let pages: u64 = text.split_whitespace().nth(1)?.parse().ok()?;
        Some(pages * page_size() as u64)
    }

    pub(crate) fn open_descriptors(&self) -> Option<usize> {
        let folder = self.descriptors.as_ref()?;
        let mut folder = folder.lock();
        folder.rewind();
        let mut count = 0;
        for entry in folder.by_ref() {
            let is_number = !entry.ok()?.file_name().to_bytes().starts_with(b".");
            count += usize::from(is_number);
        }
        Some(count)
    }

    pub(crate) fn max_descriptors(&self) -> Option<u64> {
        getrlimit(Resource::Nofile).current
    }
}

fn open_folder(path: &Path) -> io::Result<Dir> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder: OwnedFd = open(path, flags, Mode::empty())?;
    Ok(Dir::new(folder)?)
}

/// Reads a file of `/proc` from the beginning, which generates its content again.
fn read(file: &File) -> io::Result<String> {
    let mut bytes = [0; 4096];
    let count = file.read_at(&mut bytes, 0)?;
    Ok(String::from_utf8_lossy(&bytes[..count]).into_owned())
}

/// Returns fields of `/proc/self/stat`, numbered as in proc(5), in clock ticks.
fn ticks<const N: usize>(stat: &File, fields: [usize; N]) -> Option<[u64; N]> {
    let text = read(stat).ok()?;
    // The second field is the process name, in parentheses and with arbitrary characters.
    let (_, rest) = text.rsplit_once(')')?;
    let values: Vec<&str> = rest.split_whitespace().collect();
    let mut found = [0; N];
    for (found, field) in found.iter_mut().zip(fields) {
        *found = values.get(field.checked_sub(3)?)?.parse().ok()?;
    }
    Some(found)
}

fn duration(ticks: u64) -> Duration {
    Duration::from_secs(ticks).div_f64(clock_ticks_per_second().max(1) as f64)
}

fn started(stat: &File) -> Option<SystemTime> {
    let [after_boot] = ticks(stat, [22])?;
    let uptime = std::fs::read_to_string("/proc/uptime").ok()?;
    let uptime: f64 = uptime.split_whitespace().next()?.parse().ok()?;
    let uptime = Duration::try_from_secs_f64(uptime).ok()?;
    SystemTime::now().checked_sub(uptime.saturating_sub(duration(after_boot)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn process_values_are_plausible() {
        let process = ProcSelf::open();
        let before = process.open_descriptors().expect("a count");
        let files: Vec<_> = (0..100).map(|_| File::open("/dev/null")).collect();
        let after = process.open_descriptors().expect("a count");
        // Other tests open and close files at the same time.
        assert!(after + 50 > before + files.len(), "{before} and {after}");
        assert!(
            process
                .max_descriptors()
                .is_none_or(|most| most > after as u64)
        );
        let memory = process.resident_bytes().expect("a size");
        assert!((100_000..100_000_000_000).contains(&memory), "{memory}");
        assert!(process.cpu_time().is_some());
        let age = process
            .started()
            .expect("a time")
            .elapsed()
            .expect("a past");
        assert!(age < Duration::from_secs(3600), "{age:?}");
    }
}
