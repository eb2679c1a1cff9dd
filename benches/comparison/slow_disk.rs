//! A disk of 2 MB/s: a file system in an image file on a loop device, whose reads are throttled by a
//! control group. It requires root and is removed at the end.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::fs::Advice;

use crate::Result;
use crate::cleanup::{self, CleanupGuard};
use crate::programs::program;
use crate::servers::RunningServer;
use crate::test_files::write_file;

const BYTES_PER_SECOND: u64 = 2_000_000;

/// The number of files that are not in the page cache.
const FILES: usize = 8;

/// The length of each in bytes: long enough that no download completes during a measurement.
const FILE_LEN: u64 = 16 << 20;

/// A mounted file system on a loop device.
#[derive(Debug)]
pub(crate) struct SlowDisk {
    pub(crate) root: PathBuf,
    device: String,
    // Dropped in this order.
    _mount_cleanup: CleanupGuard,
    _device_cleanup: CleanupGuard,
}

impl SlowDisk {
    pub(crate) fn create(scratch: &Path) -> Result<Self> {
        if !rustix::process::geteuid().is_root() {
            return Err("a throttled disk requires root".to_owned());
        }
        let image = scratch.join("disk.img");
        let failed = |error: std::io::Error| format!("throttled disk: {error}");
        File::create(&image)
            .and_then(|file| file.set_len((FILES as u64 + 4) * FILE_LEN))
            .map_err(failed)?;
        tool("mkfs.ext4", &["-q", "-F", &text(&image)])?;
        let attach = || {
            let device = tool("losetup", &["--find", "--show", &text(&image)])?;
            let owned = device.clone();
            let detach = move || {
                let _ = tool("losetup", &["--detach", &owned]);
            };
            Ok((device, detach))
        };
        let (device, device_cleanup) = cleanup::acquire(attach)?;
        let root = scratch.join("disk");
        fs::create_dir_all(&root).map_err(failed)?;
        let mount = || {
            tool("mount", &["-o", "noatime", &device, &text(&root)])?;
            let owned = root.clone();
            let unmount = move || {
                let _ = tool("umount", &["--lazy", &text(&owned)]);
            };
            Ok(((), unmount))
        };
        let ((), mount_cleanup) = cleanup::acquire(mount)?;
        write_file(&root.join("1K.png"), 1 << 10)?;
        for index in 0..FILES {
            let path = root.join(format!("{index}.png"));
            write_file(&path, FILE_LEN)?;
            File::open(path)
                .and_then(|file| file.sync_all())
                .map_err(failed)?;
        }
        Ok(Self {
            root,
            device,
            _mount_cleanup: mount_cleanup,
            _device_cleanup: device_cleanup,
        })
    }

    /// Returns the URL paths of the files.
    pub(crate) fn paths() -> Vec<String> {
        (0..FILES).map(|index| format!("/{index}.png")).collect()
    }

    /// Throttles this server's reads until the guard is dropped. Each server has a control group of
    /// its own, so that outstanding reads of one server do not slow down the next one.
    pub(crate) fn throttle(&self, server: &RunningServer) -> Result<CleanupGuard> {
        let name = format!(
            "comparison-{}-{}",
            std::process::id(),
            server.address.port()
        );
        let (group, cleanup) = throttled_group(&self.device, &name)?;
        for pid in server.process.members() {
            write(&group.join("cgroup.procs"), &pid.to_string())?;
        }
        Ok(cleanup)
    }

    /// Evicts the files from the page cache.
    pub(crate) fn drop_page_cache(&self) -> Result<()> {
        for path in Self::paths() {
            let path = self.root.join(&path[1..]);
            let file = File::open(path).map_err(|error| error.to_string())?;
            rustix::fs::fadvise(&file, 0, None, Advice::DontNeed)
                .map_err(|error| format!("posix_fadvise: {error}"))?;
        }
        Ok(())
    }

    /// Verifies that the throttle works: reading 1 MiB must take at least 250 ms.
    pub(crate) fn check(&self, server: &RunningServer) -> Result<()> {
        self.drop_page_cache()?;
        let started = Instant::now();
        let range = ["Range: bytes=0-1048575".to_owned()];
        crate::client::fetch(server.address, "/0.png", &range)?;
        match started.elapsed() {
            fast if fast < Duration::from_millis(250) => Err(format!(
                "the throttle has no effect: reading 1 MiB took {} ms",
                fast.as_millis()
            )),
            _ => Ok(()),
        }
    }
}

/// Creates a control group (version 1 or 2) whose members' reads from `device` are throttled.
fn throttled_group(device: &str, name: &str) -> Result<(PathBuf, CleanupGuard)> {
    let numbers = tool(
        "lsblk",
        &["--noheadings", "--nodeps", "--output", "MAJ:MIN", device],
    )?;
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let mount = |wanted: fn(&str, &str) -> bool| {
        let mut mounts = mounts
            .lines()
            .map(|line| line.split(' ').collect::<Vec<_>>());
        let found = mounts.find(|fields| fields.len() > 3 && wanted(fields[2], fields[3]));
        found.map(|fields| PathBuf::from(fields[1]))
    };
    let version_1 = mount(|kind, options| {
        kind == "cgroup" && options.split(',').any(|option| option == "blkio")
    });
    let version_2 = mount(|kind, _| kind == "cgroup2").filter(|mount| {
        let controllers = fs::read_to_string(mount.join("cgroup.controllers"));
        controllers.is_ok_and(|names| names.split_whitespace().any(|name| name == "io"))
    });
    let (group, file, rule) = match (version_1, version_2) {
        (Some(mount), _) => (
            mount.join(name),
            "blkio.throttle.read_bps_device",
            format!("{numbers} {BYTES_PER_SECOND}"),
        ),
        (None, Some(mount)) => {
            write(&mount.join("cgroup.subtree_control"), "+io")?;
            let rule = format!("{numbers} rbps={BYTES_PER_SECOND}");
            (mount.join(name), "io.max", rule)
        }
        (None, None) => return Err("no control group controller for disk throttling".to_owned()),
    };
    let make = || {
        fs::create_dir(&group).map_err(|error| format!("control group: {error}"))?;
        let owned = group.clone();
        Ok(((), move || remove_group(&owned)))
    };
    let ((), cleanup) = cleanup::acquire(make)?;
    write(&group.join(file), &rule)?;
    Ok((group, cleanup))
}

/// Removes a control group. A group with members cannot be removed, so they are moved to its parent
/// first; exiting processes may delay the removal.
fn remove_group(group: &Path) {
    let members = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    for pid in members.lines() {
        let _ = write(&group.join("../cgroup.procs"), pid);
    }
    for _ in 0..100 {
        if fs::remove_dir(group).is_ok() {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
}

/// Runs a program of the system and returns its output.
fn tool(name: &str, args: &[&str]) -> Result<String> {
    let program = program(name).ok_or_else(|| format!("{name} is not installed"))?;
    let output = Command::new(program).args(args).output();
    let output = output.map_err(|error| format!("{name}: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
    }
    let error = String::from_utf8_lossy(&output.stderr);
    Err(format!(
        "{name}: {}",
        error.lines().next().unwrap_or("failed")
    ))
}

fn text(path: &Path) -> String {
    path.display().to_string()
}
