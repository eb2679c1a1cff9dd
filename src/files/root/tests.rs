//! Paths that must not be opened, and which symbolic links are followed.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;

use rustix::fs::{CWD, mkfifoat};
use tempfile::TempDir;

use super::*;

fn sample_tree() -> io::Result<TempDir> {
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
    match root.get(path.as_bytes(), Blocking::Allowed) {
        Ok(OpenedPath::File(opened)) => match opened.metadata.len {
            4 => "file",
            8 => "sub file",
            _ => "another file",
        },
        Ok(OpenedPath::Directory) => "directory",
        Err(OpenError::NotFound) => "not found",
        Err(OpenError::Forbidden) => "forbidden",
        Err(other) => panic!("{path}: {other:?}"),
    }
}

#[test]
fn paths_and_links_out_of_the_root_are_not_found() -> io::Result<()> {
    let outside = sample_tree()?;
    let mut root = Root::open(&outside.path().join("root"), Symlinks::Inside)?;
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
        ("absolute", "file"),
        ("passwd", "not found"),
        ("loop", "not found"),
        ("dangling", "not found"),
        ("fifo", "forbidden"),
        ("socket", "forbidden"),
    ];
    for resolver in [root.resolver, PathResolver::Walk] {
        root.resolver = resolver;
        for (path, expected) in table {
            // The walk ignores empty components at either end, which no caller passes.
            let rooted = path.starts_with('/') || path.ends_with('/');
            if resolver == PathResolver::Openat2 || !rooted {
                assert_eq!(get(&root, path), expected, "{path:?} by {resolver:?}");
            }
        }
    }
    Ok(())
}

/// Opening a file on another file system beneath the root may block, even if the root's own file
/// system does not.
#[test]
fn mounted_disk_beneath_the_root_is_identified_from_memory() -> io::Result<()> {
    let root = Root::open(Path::new("/"), Symlinks::Inside)?;
    let proc = InodeId::of_directory(Path::new("/proc"))?.device;
    assert_ne!(proc, root.inode.device);
    let table = [
        ("", root.inode.device),
        ("nothing/at/all", root.inode.device),
        ("proc", proc),
        ("proc/version", proc),
        ("proc/nothing/at/all", proc),
    ];
    for (path, device) in table {
        assert_eq!(root.device_of(path.as_bytes()), device, "{path}");
    }
    if root.cached_lookups == CachedLookups::Supported {
        let nonblocking = root.get(b"proc", Blocking::Forbidden);
        assert!(
            matches!(nonblocking, Err(OpenError::WouldBlock)),
            "{nonblocking:?}"
        );
    }
    let blocking = root.get(b"proc", Blocking::Allowed);
    assert!(
        matches!(blocking, Ok(OpenedPath::Directory)),
        "{blocking:?}"
    );
    Ok(())
}

#[test]
fn symlinks_are_followed_by_policy() -> io::Result<()> {
    let outside = sample_tree()?;
    let table = [
        (
            Symlinks::Never,
            ["not found", "not found", "not found", "file"],
        ),
        (
            Symlinks::Inside,
            ["sub file", "sub file", "not found", "file"],
        ),
        (
            Symlinks::Follow,
            ["sub file", "sub file", "another file", "file"],
        ),
    ];
    for (symlinks, expected) in table {
        let mut root = Root::open(&outside.path().join("root"), symlinks)?;
        for resolver in [root.resolver, PathResolver::Walk] {
            root.resolver = resolver;
            let found = ["inside", "dir/file", "out", "file"].map(|path| get(&root, path));
            assert_eq!(found, expected, "{symlinks:?} by {resolver:?}");
        }
    }
    Ok(())
}

#[test]
fn unreadable_file_is_forbidden() -> io::Result<()> {
    let outside = sample_tree()?;
    let path = outside.path().join("root/file");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o0))?;
    if File::open(&path).is_ok() {
        // Root may read everything.
        return Ok(());
    }
    let root = Root::open(&outside.path().join("root"), Symlinks::Inside)?;
    assert_eq!(get(&root, "file"), "forbidden");
    Ok(())
}

#[test]
fn upload_folder_outside_the_root_is_not_found() -> io::Result<()> {
    let outside = sample_tree()?;
    let inside = outside.path().join("root");
    fs::create_dir(outside.path().join("elsewhere"))?;
    symlink("../elsewhere", inside.join("away"))?;
    let open = |root: &Root, path: &str| match root.folder(path.as_bytes()) {
        Ok(_) => "open",
        Err(OpenError::NotFound) => "not found",
        Err(other) => panic!("{path}: {other:?}"),
    };
    for (symlinks, expected) in [
        (Symlinks::Never, ["open", "open", "not found", "not found"]),
        (Symlinks::Inside, ["open", "open", "open", "not found"]),
        (Symlinks::Follow, ["open", "open", "open", "not found"]),
    ] {
        let mut root = Root::open(&inside, symlinks)?;
        for resolver in [root.resolver, PathResolver::Walk] {
            root.resolver = resolver;
            let found = ["", "sub/deep", "dir/deep", "away"].map(|path| open(&root, path));
            assert_eq!(found, expected, "{symlinks:?} by {resolver:?}");
            for path in ["file", "fifo", "nothing", "..", "sub/../../elsewhere"] {
                assert_eq!(open(&root, path), "not found", "{path}");
            }
        }
    }
    Ok(())
}

#[test]
fn modification_time_before_1970_is_kept() {
    let time = modification_time(-2, 500_000_000);
    assert_eq!(time, UNIX_EPOCH - Duration::from_millis(1500));
}
