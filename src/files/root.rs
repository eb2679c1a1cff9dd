//! The only place that opens files: beneath the root, and nothing that could hang.
//!
//! The root is held as an open directory. A path is resolved by the kernel with
//! `openat2(RESOLVE_BENEATH)`: neither `..` nor a symbolic link can lead out of the root, and there
//! is no moment between a check and the opening. Kernels and sandboxes without `openat2` get a
//! walk, component by component, with the same result.

use std::fs::File;
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fstat, open, openat, openat2, readlinkat};
use rustix::io::Errno;

/// An open directory, beneath which everything lies that is served.
#[derive(Debug)]
pub(super) struct Root {
    directory: OwnedFd,
    resolution: Resolution,
}

/// Who resolves paths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Resolution {
    Kernel,
    Walk,
}

/// What stands at a path.
#[derive(Debug)]
pub(super) enum Opened {
    File(OpenedFile),
    Directory,
}

/// A regular file with the metadata it had when it was opened, read from the descriptor itself: a
/// size and a date never belong to another file than the bytes.
#[derive(Debug)]
pub(super) struct OpenedFile {
    pub(super) file: File,
    pub(super) len: u64,
    pub(super) modified: SystemTime,
}

/// Why there is nothing to serve at a path.
#[derive(Debug)]
pub(super) enum Miss {
    /// Nothing is there, or it leads out of the root: which of the two is nobody's business.
    NotFound,
    /// It is there, but not for us to read, or it is no regular file.
    Forbidden,
    /// The process is out of descriptors or memory.
    Overloaded,
    /// The disk failed.
    Failed(io::Error),
}

impl From<Errno> for Miss {
    fn from(errno: Errno) -> Self {
        match errno {
            Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV | Errno::NAMETOOLONG => {
                Self::NotFound
            }
            // A socket, or a device without a driver.
            Errno::ACCESS | Errno::PERM | Errno::NXIO | Errno::NODEV => Self::Forbidden,
            Errno::MFILE | Errno::NFILE | Errno::NOMEM => Self::Overloaded,
            errno => Self::Failed(errno.into()),
        }
    }
}

/// Opening a FIFO or a device must not wait for its other end, nor make it our terminal.
const OPEN_FILE: OFlags = OFlags::RDONLY
    .union(OFlags::NONBLOCK)
    .union(OFlags::CLOEXEC)
    .union(OFlags::NOCTTY);

const OPEN_DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::CLOEXEC);

impl Root {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let directory = open(path, OPEN_DIRECTORY, Mode::empty())?;
        // Old kernels do not have the call (ENOSYS), some sandboxes forbid it (EPERM).
        let resolution = match open_beneath(directory.as_fd(), b".") {
            Err(Errno::NOSYS | Errno::PERM | Errno::INVAL) => Resolution::Walk,
            _ => Resolution::Kernel,
        };
        Ok(Self {
            directory,
            resolution,
        })
    }

    /// Opens `path`, which is relative to the root; the root itself is empty or `.`.
    pub(super) fn get(&self, path: &[u8]) -> Result<Opened, Miss> {
        let path = if path.is_empty() { b"." } else { path };
        let directory = self.directory.as_fd();
        let descriptor = match self.resolution {
            Resolution::Kernel => open_beneath(directory, path)?,
            Resolution::Walk => walk_beneath(directory, path)?,
        };
        opened(descriptor)
    }
}

/// What a descriptor is, if it is one of the two things that can be served.
fn opened(descriptor: OwnedFd) -> Result<Opened, Miss> {
    let stat = fstat(&descriptor)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Ok(Opened::File(OpenedFile {
            len: u64::try_from(stat.st_size).unwrap_or(0),
            modified: modification_time(stat.st_mtime as i64, stat.st_mtime_nsec as u64),
            file: File::from(descriptor),
        })),
        FileType::Directory => Ok(Opened::Directory),
        _ => Err(Miss::Forbidden),
    }
}

fn modification_time(seconds: i64, nanoseconds: u64) -> SystemTime {
    let whole = Duration::from_secs(seconds.unsigned_abs());
    let time = match seconds {
        0.. => UNIX_EPOCH.checked_add(whole),
        _ => UNIX_EPOCH.checked_sub(whole),
    };
    time.unwrap_or(UNIX_EPOCH) + Duration::from_nanos(nanoseconds)
}

fn open_beneath(directory: BorrowedFd<'_>, path: &[u8]) -> Result<OwnedFd, Errno> {
    /// EAGAIN means that somebody renamed on our way (openat2(2)); it does not go on for ever.
    const ATTEMPTS: usize = 8;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let mut result = Err(Errno::AGAIN);
    for _ in 0..ATTEMPTS {
        result = openat2(directory, path, OPEN_FILE, Mode::empty(), resolve);
        if !matches!(result, Err(Errno::AGAIN | Errno::INTR)) {
            break;
        }
    }
    result
}

/// `openat2(RESOLVE_BENEATH)` by hand: symbolic links are read and followed here, and `..` goes
/// back to a directory that was opened on the way, so it cannot climb above the first.
fn walk_beneath(directory: BorrowedFd<'_>, path: &[u8]) -> Result<OwnedFd, Errno> {
    /// As many links as the kernel follows.
    const MAX_LINKS: usize = 40;
    let mut links = 0;
    let mut todo: Vec<Vec<u8>> = components(path);
    let mut above: Vec<OwnedFd> = Vec::new();
    while let Some(name) = todo.pop() {
        let here = above.last().map_or(directory, AsFd::as_fd);
        match &name[..] {
            b"." => continue,
            b".." => {
                above.pop().ok_or(Errno::XDEV)?;
                continue;
            }
            _ => {}
        }
        let more = !todo.is_empty();
        let flags = if more { OPEN_DIRECTORY } else { OPEN_FILE };
        match openat(here, &name[..], flags | OFlags::NOFOLLOW, Mode::empty()) {
            Ok(descriptor) if more => above.push(descriptor),
            Ok(descriptor) => return Ok(descriptor),
            // ELOOP for a link, ENOTDIR for a link where a directory was wanted.
            Err(errno @ (Errno::LOOP | Errno::NOTDIR)) => {
                let link = readlinkat(here, &name[..], Vec::new()).map_err(|_| errno)?;
                links += 1;
                if links > MAX_LINKS {
                    return Err(Errno::LOOP);
                }
                if link.to_bytes().starts_with(b"/") {
                    return Err(Errno::XDEV);
                }
                todo.extend(components(link.to_bytes()));
            }
            Err(errno) => return Err(errno),
        }
    }
    // The path ends with a directory that is open already.
    let here = above.last().map_or(directory, AsFd::as_fd);
    openat(here, ".", OPEN_DIRECTORY, Mode::empty())
}

/// The components of a path, the first one last.
fn components(path: &[u8]) -> Vec<Vec<u8>> {
    path.split(|&byte| byte == b'/')
        .filter(|name| !name.is_empty())
        .rev()
        .map(<[u8]>::to_vec)
        .collect()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::os::unix::net::UnixListener;

    use rustix::fs::{CWD, mkfifoat};
    use tempfile::TempDir;

    use super::*;

    fn tree() -> io::Result<TempDir> {
        let outside = tempfile::tempdir()?;
        let at = |name: &str| outside.path().join(name);
        fs::write(at("secret"), "secret")?;
        fs::create_dir_all(at("root/sub/deep"))?;
        fs::write(at("root/file"), "file")?;
        fs::write(at("root/sub/file"), "sub file")?;
        symlink("sub/file", at("root/inside"))?;
        symlink("../file", at("root/sub/up"))?;
        symlink("sub", at("root/dir"))?;
        symlink("../secret", at("root/out"))?;
        symlink("../../../secret", at("root/sub/out"))?;
        symlink(at("root/file"), at("root/absolute"))?;
        symlink("/etc/passwd", at("root/passwd"))?;
        symlink("loop", at("root/loop"))?;
        symlink("nowhere", at("root/dangling"))?;
        mkfifoat(CWD, at("root/fifo"), Mode::RUSR)?;
        let _ = UnixListener::bind(at("root/socket"))?;
        Ok(outside)
    }

    fn get(root: &Root, path: &str) -> &'static str {
        match root.get(path.as_bytes()) {
            Ok(Opened::File(opened)) => match opened.len {
                4 => "file",
                8 => "sub file",
                _ => "another file",
            },
            Ok(Opened::Directory) => "directory",
            Err(Miss::NotFound) => "not found",
            Err(Miss::Forbidden) => "forbidden",
            Err(other) => panic!("{path}: {other:?}"),
        }
    }

    #[test]
    fn nothing_outside_the_root_is_ever_opened() -> io::Result<()> {
        let outside = tree()?;
        let mut root = Root::open(&outside.path().join("root"))?;
        let table = [
            ("", "directory"),
            ("file", "file"),
            ("sub", "directory"),
            ("sub/file", "sub file"),
            ("inside", "sub file"),
            ("sub/up", "file"),
            ("dir", "directory"),
            ("dir/file", "sub file"),
            ("dir/up", "file"),
            ("sub/../file", "file"),
            ("nothing", "not found"),
            ("file/", "not found"),
            ("file/x", "not found"),
            ("../secret", "not found"),
            ("sub/../../secret", "not found"),
            ("/etc/passwd", "not found"),
            ("out", "not found"),
            ("sub/out", "not found"),
            ("dir/out", "not found"),
            ("absolute", "not found"),
            ("passwd", "not found"),
            ("loop", "not found"),
            ("dangling", "not found"),
            ("fifo", "forbidden"),
            ("socket", "forbidden"),
        ];
        for resolution in [root.resolution, Resolution::Walk] {
            root.resolution = resolution;
            for (path, expected) in table {
                // The walk ignores empty components at either end, which no caller hands it.
                let rooted = path.starts_with('/') || path.ends_with('/');
                if resolution == Resolution::Kernel || !rooted {
                    assert_eq!(get(&root, path), expected, "{path:?} by {resolution:?}");
                }
            }
        }
        Ok(())
    }

    #[test]
    fn what_may_not_be_read_is_forbidden() -> io::Result<()> {
        let outside = tree()?;
        let path = outside.path().join("root/file");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o0))?;
        if File::open(&path).is_ok() {
            // Root may read everything.
            return Ok(());
        }
        let root = Root::open(&outside.path().join("root"))?;
        assert_eq!(get(&root, "file"), "forbidden");
        Ok(())
    }

    #[test]
    fn times_before_1970_are_times() {
        let time = modification_time(-2, 500_000_000);
        assert_eq!(time, UNIX_EPOCH - Duration::from_millis(1500));
    }
}
