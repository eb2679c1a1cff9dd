//! A disk of 2 MB/s: a file system in a file, on a loop device, whose reads a control group
//! throttles. It takes root, and is taken away at the end.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::fs::Advice;

use crate::Result;
use crate::cleanup::{self, Undo};
use crate::servers::Running;
use crate::site::write_file;

const BYTES_PER_SECOND: u64 = 2_000_000;

/// Cold files, and how large they are: none ends while it is measured.
pub(crate) const FILES: usize = 8;
const FILE_LEN: u64 = 16 << 20;

#[derive(Debug)]
pub(crate) struct SlowDisk {
    pub(crate) root: PathBuf,
    device: String,
    // Undone in this order.
    _mounted: Undo,
    _device: Undo,
}

impl SlowDisk {
    pub(crate) fn make(scratch: &Path) -> Result<Self> {
        if !rustix::process::geteuid().is_root() {
            return Err("a throttled disk takes root".to_owned());
        }
        let image = scratch.join("disk.img");
        let failed = |error: std::io::Error| format!("no throttled disk: {error}");
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
        let (device, device_undo) = cleanup::make(attach)?;
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
        let ((), mounted_undo) = cleanup::make(mount)?;
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
            _mounted: mounted_undo,
            _device: device_undo,
        })
    }

    pub(crate) fn paths() -> Vec<String> {
        (0..FILES).map(|index| format!("/{index}.png")).collect()
    }

    /// From now on this server's reads are slow, by itself: what one server still waits for does
    /// not slow down the next.
    pub(crate) fn slow_down(&self, server: &Running) -> Result<Undo> {
        let name = format!(
            "comparison-{}-{}",
            std::process::id(),
            server.address.port()
        );
        let (group, undo) = throttled_group(&self.device, &name)?;
        for pid in server.process.members() {
            write(&group.join("cgroup.procs"), &pid.to_string())?;
        }
        Ok(undo)
    }

    /// Takes the files out of the kernel's memory.
    pub(crate) fn cool(&self) -> Result<()> {
        for path in Self::paths() {
            let path = self.root.join(&path[1..]);
            let file = File::open(path).map_err(|error| error.to_string())?;
            rustix::fs::fadvise(&file, 0, None, Advice::DontNeed)
                .map_err(|error| format!("files cannot be made cold: {error}"))?;
        }
        Ok(())
    }

    /// That the throttle holds is seen, not believed.
    pub(crate) fn check(&self, server: &Running) -> Result<()> {
        self.cool()?;
        let begun = Instant::now();
        let range = ["Range: bytes=0-1048575".to_owned()];
        crate::client::fetch(server.address, "/0.png", &range)?;
        match begun.elapsed() {
            fast if fast < Duration::from_millis(250) => Err(format!(
                "the throttle does not hold: 1 MiB took {} ms",
                fast.as_millis()
            )),
            _ => Ok(()),
        }
    }
}

/// A control group whose members read slowly from `device`, in either version.
fn throttled_group(device: &str, name: &str) -> Result<(PathBuf, Undo)> {
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
    let first = mount(|kind, options| {
        kind == "cgroup" && options.split(',').any(|option| option == "blkio")
    });
    let second = mount(|kind, _| kind == "cgroup2").filter(|mount| {
        let controllers = fs::read_to_string(mount.join("cgroup.controllers"));
        controllers.is_ok_and(|names| names.split_whitespace().any(|name| name == "io"))
    });
    let (group, file, rule) = match (first, second) {
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
        (None, None) => return Err("no control group can throttle a disk here".to_owned()),
    };
    let make = || {
        fs::create_dir(&group).map_err(|error| format!("no control group: {error}"))?;
        let owned = group.clone();
        Ok(((), move || dissolve(&owned)))
    };
    let ((), undo) = cleanup::make(make)?;
    write(&group.join(file), &rule)?;
    Ok((group, undo))
}

/// A group with members cannot go; they are on their way out, if they are there at all.
fn dissolve(group: &Path) {
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

/// What a system's tool prints.
fn tool(name: &str, args: &[&str]) -> Result<String> {
    let program =
        crate::environment::program(name).ok_or_else(|| format!("{name} is not installed"))?;
    let output = Command::new(program).args(args).output();
    let output = output.map_err(|error| format!("{name}: {error}"))?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned()),
        false => {
            let error = String::from_utf8_lossy(&output.stderr);
            Err(format!(
                "{name}: {}",
                error.lines().next().unwrap_or("failed")
            ))
        }
    }
}

fn text(path: &Path) -> String {
    path.display().to_string()
}
