//! `openat2(RESOLVE_BENEATH)` in user space: component by component.

use std::ffi::{CStr, CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{Mode, OFlags, openat, readlinkat};
use rustix::io::Errno;

use super::{OPEN_DIRECTORY, OPEN_FILE, Root};
use crate::explain_log::{Escaped, explain};
use crate::site::Symlinks;

impl Root {
    /// Opens `path`. Symbolic links are read and followed here, and `..` returns to a directory
    /// that was opened before, so it cannot leave the root.
    pub(super) fn walk(&self, path: &[u8]) -> Result<OwnedFd, Errno> {
        /// The kernel's limit (path_resolution(7)).
        const MAX_LINKS: usize = 40;
        let root = self.directory.as_fd();
        let mut links = 0;
        let mut remaining: Vec<Vec<u8>> = components(path);
        let mut parents: Vec<OwnedFd> = Vec::new();
        let mut last_link = (Vec::new(), CString::default());
        while let Some(name) = remaining.pop() {
            let here = parents.last().map_or(root, AsFd::as_fd);
            match &name[..] {
                b"." => continue,
                b".." => {
                    if parents.pop().is_none() {
                        explain_escape(&last_link.0, &last_link.1);
                        return Err(Errno::XDEV);
                    }
                    continue;
                }
                _ => {}
            }
            let more = !remaining.is_empty();
            let flags = if more { OPEN_DIRECTORY } else { OPEN_FILE };
            match openat(here, &name[..], flags | OFlags::NOFOLLOW, Mode::empty()) {
                Ok(descriptor) if more => parents.push(descriptor),
                Ok(descriptor) => return Ok(descriptor),
                // ELOOP for a link, ENOTDIR for a link opened with O_DIRECTORY.
                Err(errno @ (Errno::LOOP | Errno::NOTDIR)) => {
                    let link = readlinkat(here, &name[..], Vec::new()).map_err(|_| errno)?;
                    links += 1;
                    let shown = (Escaped(&name), Escaped(link.to_bytes()));
                    if self.symlinks == Symlinks::Never {
                        let way_out = "--symlinks inside follows links within the root";
                        explain!(
                            "symlink",
                            "{} → {} is not followed ({way_out})",
                            shown.0,
                            shown.1
                        );
                        return Err(Errno::LOOP);
                    }
                    if links > MAX_LINKS {
                        explain!(
                            "symlink",
                            "{} → {} is not followed: more than {MAX_LINKS} links",
                            shown.0,
                            shown.1
                        );
                        return Err(Errno::LOOP);
                    }
                    let mut target = Path::new(OsStr::from_bytes(link.to_bytes()));
                    if target.is_absolute() {
                        let Some(inside) = self.strip_root(target) else {
                            explain_escape(&name, &link);
                            return Err(Errno::XDEV);
                        };
                        target = inside;
                        parents.clear();
                    }
                    explain!("symlink", "{} → {} is followed", shown.0, shown.1);
                    remaining.extend(components(target.as_os_str().as_bytes()));
                    last_link = (name, link);
                }
                Err(errno) => return Err(errno),
            }
        }
        // The path ends with a directory that is open already.
        let here = parents.last().map_or(root, AsFd::as_fd);
        openat(here, ".", OPEN_DIRECTORY, Mode::empty())
    }

    /// Returns an absolute path relative to the root, if it leads into it.
    fn strip_root<'p>(&self, path: &'p Path) -> Option<&'p Path> {
        self.names
            .iter()
            .find_map(|name| path.strip_prefix(name).ok())
    }
}

fn explain_escape(name: &[u8], link: &CStr) {
    let link = Escaped(link.to_bytes());
    let way_out = "leads out of the root and is not followed (--symlinks follow allows it)";
    explain!("symlink", "{} → {link} {way_out}", Escaped(name));
}

/// Returns the components of a path in reverse order.
fn components(path: &[u8]) -> Vec<Vec<u8>> {
    path.split(|&byte| byte == b'/')
        .filter(|name| !name.is_empty())
        .rev()
        .map(<[u8]>::to_vec)
        .collect()
}
