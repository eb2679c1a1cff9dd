//! Opens a root, and the files beneath it, for a [`RootOpener`](crate::site::RootOpener) in another process.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags, fstat, open, openat};
use rustix::io::Errno;

use super::{InodeId, OPEN_DIRECTORY, Root};
use crate::site::{OpenRequest, Symlinks};
use crate::sync::Mutex;

/// Folders that are kept open: the current one, and more former ones than requests and
/// `keep-previous` use.
const MAX_KEPT: usize = 8;

/// A root that is looked up by its name in its parent folder, so that a folder that has taken its place is
/// found, too. Nothing outside of the root can be opened, and a symbolic link in its place is not followed.
#[derive(Debug)]
pub struct ReplaceableRoot {
    path: PathBuf,
    parent: OwnedFd,
    name: OsString,
    /// The folders that were opened, newest first. While they are open, their inode numbers are not reused.
    opened: Mutex<VecDeque<Arc<Root>>>,
}

impl ReplaceableRoot {
    /// Opens the parent folder of a root, not to read it, but to find the root in it. `path` is absolute
    /// and without symbolic links.
    ///
    /// # Errors
    ///
    /// Those of open(2), and [`io::ErrorKind::InvalidInput`] for `/`, which has no parent.
    pub fn new(path: &Path) -> io::Result<Self> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self {
            path: path.to_owned(),
            parent: open(parent, flags, Mode::empty())?,
            name: name.to_owned(),
            opened: Mutex::default(),
        })
    }

    /// The path of the root.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens what a request names beneath this root. May block.
    ///
    /// # Errors
    ///
    /// Those of openat2(2), and ESTALE if the requested folder is neither at the root's path nor one of
    /// the last eight that were.
    pub fn open(&self, request: &OpenRequest<'_>) -> io::Result<OwnedFd> {
        let known = request
            .directory
            .and_then(|id| self.known(id.into(), request.symlinks));
        let root = match known {
            Some(root) => root,
            None => match self.open_root(request.symlinks) {
                // Former folders are less important than the current one.
                Err(error) if error.raw_os_error() == Some(Errno::MFILE.raw_os_error()) => {
                    self.opened.lock().clear();
                    self.open_root(request.symlinks)?
                }
                opened => opened?,
            },
        };
        if request.directory.is_some_and(|id| root.inode != id.into()) {
            return Err(Errno::STALE.into());
        }
        Ok(root.descriptor_beneath(request.path)?)
    }

    fn known(&self, inode: InodeId, symlinks: Symlinks) -> Option<Arc<Root>> {
        let opened = self.opened.lock();
        let found = opened
            .iter()
            .find(|root| root.inode == inode && root.symlinks == symlinks);
        found.cloned()
    }

    /// Opens the folder that is at the root's path now.
    fn open_root(&self, symlinks: Symlinks) -> io::Result<Arc<Root>> {
        let flags = OPEN_DIRECTORY | OFlags::NOFOLLOW;
        let directory = openat(&self.parent, &self.name, flags, Mode::empty())?;
        let inode = InodeId::of(&fstat(&directory)?);
        if let Some(root) = self.known(inode, symlinks) {
            return Ok(root);
        }
        let names = [self.path.clone(), self.path.clone()];
        let root = Arc::new(Root::from_directory(directory, names, symlinks)?);
        let mut opened = self.opened.lock();
        opened.truncate(MAX_KEPT - 1);
        opened.push_front(Arc::clone(&root));
        Ok(root)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn open_in(
        root: &ReplaceableRoot,
        directory: Option<InodeId>,
        path: &str,
    ) -> io::Result<OwnedFd> {
        root.open(&OpenRequest {
            root: root.path(),
            directory: directory.map(Into::into),
            symlinks: Symlinks::Inside,
            path: path.as_bytes(),
        })
    }

    fn errno(result: io::Result<OwnedFd>) -> Option<Errno> {
        Errno::from_io_error(&result.err()?)
    }

    #[test]
    fn replaced_root_is_opened_by_its_name() -> io::Result<()> {
        let home = tempfile::tempdir()?;
        let home = home.path().canonicalize()?;
        let at = home.join("dist");
        let create = |name: &str| {
            fs::create_dir(&at)?;
            fs::write(at.join(name), name)
        };
        create("one")?;
        let root = ReplaceableRoot::new(&at)?;
        let mut former = Vec::new();
        for name in ["one", "two", "three"] {
            let directory = InodeId::of(&fstat(open_in(&root, None, "")?)?);
            open_in(&root, Some(directory), name)?;
            former.push(directory);
            // A former folder stays what it was.
            open_in(&root, Some(former[0]), "one")?;
            let missing = open_in(&root, Some(directory), "none");
            assert_eq!(errno(missing), Some(Errno::NOENT));
            fs::rename(&at, home.join(name))?;
            assert_eq!(errno(open_in(&root, None, "")), Some(Errno::NOENT));
            create(if name == "one" { "two" } else { "three" })?;
        }
        let other = InodeId::of_directory(&home)?;
        assert_eq!(errno(open_in(&root, Some(other), "")), Some(Errno::STALE));
        Ok(())
    }

    #[test]
    fn path_outside_of_the_root_is_rejected() -> io::Result<()> {
        let home = tempfile::tempdir()?;
        let home = home.path().canonicalize()?;
        let at = home.join("dist");
        fs::create_dir(&at)?;
        fs::write(home.join("secret"), "secret")?;
        symlink("../secret", at.join("link"))?;
        symlink("/etc/passwd", at.join("passwd"))?;
        let root = ReplaceableRoot::new(&at)?;
        for path in ["../secret", "..", "link", "passwd", "../dist"] {
            for symlinks in [Symlinks::Never, Symlinks::Inside, Symlinks::Follow] {
                let request = OpenRequest {
                    root: &at,
                    directory: None,
                    symlinks,
                    path: path.as_bytes(),
                };
                let refused = errno(root.open(&request));
                assert!(
                    matches!(refused, Some(Errno::XDEV | Errno::LOOP)),
                    "{path}: {refused:?}"
                );
            }
        }
        // The root itself may be replaced by a link.
        fs::rename(&at, home.join("old"))?;
        symlink("old", &at)?;
        assert!(matches!(
            errno(open_in(&root, None, "")),
            Some(Errno::LOOP | Errno::NOTDIR)
        ));
        ReplaceableRoot::new(Path::new("/")).expect_err("no parent");
        Ok(())
    }
}
