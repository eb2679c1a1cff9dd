//! The user and group that serve: root binds port 80, and another user serves.

use std::ffi::{CString, OsString};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, fchown, lchown};
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::unistd::{
    Gid, Group, Uid, User, getegid, geteuid, getgrouplist, getgroups, setegid, seteuid, setgid,
    setgroups, setuid,
};
use tws::{Error, ServerHandle};

/// The user and group that the process changes to once it listens.
#[derive(Debug)]
pub(crate) struct RunAs {
    user: Uid,
    group: Gid,
    /// The supplementary groups.
    groups: Vec<Gid>,
}

impl RunAs {
    /// Looks up the user and the group. `None` if neither is named, or if the process runs as them
    /// already without being root, as after an upgrade.
    ///
    /// # Errors
    ///
    /// [`Error::Setting`] for an unknown name, or if the process is not root.
    pub(crate) fn find(user: Option<&str>, group: Option<&str>) -> Result<Option<Self>, Error> {
        if user.is_none() && group.is_none() {
            return Ok(None);
        }
        let user = user.map(find_user).transpose()?;
        let group = group.map(find_group).transpose()?;
        let FoundUser { id, entry } = user.unwrap_or(FoundUser {
            id: geteuid(),
            entry: None,
        });
        let group = match (group, &entry) {
            (Some(group), _) => group,
            (None, Some(entry)) => entry.gid,
            (None, None) => {
                return Err(Error::Setting(format!(
                    "--user {id}: no such user, so its group is unknown; name a group with --group"
                )));
            }
        };
        if !is_root() {
            if (id, group) == (geteuid(), getegid()) {
                return Ok(None);
            }
            return Err(Error::Setting(
                "--user and --group: only root can change to another user or group; omit them"
                    .to_owned(),
            ));
        }
        let name = entry.and_then(|entry| CString::new(entry.name).ok());
        let groups = name.map(|name| getgrouplist(&name, group)).transpose();
        Ok(Some(Self {
            user: id,
            group,
            groups: groups
                .map_err(failed("look up the groups of --user"))?
                .unwrap_or_default(),
        }))
    }

    /// Runs `open`, which opens the file at `path` for writing. Root does so, and creates the file for the
    /// user, only if root alone decides what the path leads to. Otherwise the user, or another one, could
    /// have root write to a file of their choice through a link (as in CVE-2016-1247), so `open` runs
    /// with the rights of the user.
    ///
    /// # Errors
    ///
    /// That of `open`; [`Error::Path`] if there is no user with fewer rights than root.
    pub(crate) fn open_file<T>(
        &self,
        path: &Path,
        open: impl FnOnce() -> Result<T, Error>,
    ) -> Result<T, Error> {
        if root_owns_folders_of(path) {
            self.create_file(path);
            return open();
        }
        if self.user.is_root() {
            let text = "other users than root can replace the file or its folders; choose another \
                        folder, or drop root with --user";
            return Err(Error::path("open as root", path, io::Error::other(text)));
        }
        self.as_user(open)?
    }

    /// Runs `work` with the rights of the user. No other thread may exist.
    fn as_user<T>(&self, work: impl FnOnce() -> T) -> Result<T, Error> {
        let (group, groups) = (getegid(), getgroups().map_err(failed("look up groups"))?);
        let failed = failed("open files as --user");
        setgroups(&self.groups).map_err(&failed)?;
        setegid(self.group).map_err(&failed)?;
        seteuid(self.user).map_err(&failed)?;
        let result = work();
        seteuid(Uid::from_raw(0)).map_err(&failed)?;
        setegid(group).map_err(&failed)?;
        setgroups(&groups).map_err(&failed)?;
        Ok(result)
    }

    /// Creates a file that the user will write to, if it is missing. An error is only logged at level
    /// debug: opening the file will fail for the same reason.
    fn create_file(&self, path: &Path) {
        let created = OpenOptions::new()
            .append(true)
            .create_new(true)
            .mode(0o644)
            .open(path);
        if let Err(error) = created.and_then(|file| self.own(&file)) {
            log::debug!("cannot create {} for --user: {error}", path.display());
        }
    }

    fn own(&self, file: &File) -> io::Result<()> {
        fchown(file, Some(self.user.as_raw()), Some(self.group.as_raw()))
    }

    /// Changes the owner of the Unix sockets of a server: the mode of a socket then says whether the
    /// user, the group, or all may connect.
    pub(crate) fn own_sockets(&self, server: &ServerHandle) -> Result<(), Error> {
        for path in server.unix_sockets() {
            // Not `chown`: the socket may have been replaced by a symbolic link meanwhile.
            lchown(path, Some(self.user.as_raw()), Some(self.group.as_raw())).map_err(
                Error::system("change the owner of the Unix sockets to --user"),
            )?;
        }
        Ok(())
    }

    /// Changes the owner of a folder.
    pub(crate) fn own_folder(&self, path: &Path) -> io::Result<()> {
        lchown(path, Some(self.user.as_raw()), Some(self.group.as_raw()))
    }

    /// Changes the user and the groups of all threads, for good.
    pub(crate) fn apply(&self) -> Result<(), Error> {
        // In this order, because each call drops the privilege that the previous ones need.
        setgroups(&self.groups).map_err(failed("drop the groups of root"))?;
        setgid(self.group).map_err(failed("change to the group of --group"))?;
        setuid(self.user).map_err(failed("change to the user of --user"))?;
        if !self.user.is_root() && (setuid(Uid::from_raw(0)).is_ok() || is_root()) {
            let source = io::Error::other("they could be regained");
            return Err(Error::system("drop root privileges")(source));
        }
        Ok(())
    }
}

/// Returns true if only root can change what the path of a file leads to, apart from the file itself.
fn root_owns_folders_of(file: &Path) -> bool {
    /// As many links as Linux follows (path_resolution(7)).
    const MAX_LINKS: usize = 40;
    let Ok(absolute) = std::path::absolute(file) else {
        return false;
    };
    let mut links = 0;
    let mut folder = PathBuf::from("/");
    let parent = absolute.parent().unwrap_or(Path::new("/"));
    let mut names: Vec<OsString> = names_of(parent);
    while let Some(name) = names.pop() {
        if !is_roots(&folder, Sticky::Allowed) {
            return false;
        }
        if name == ".." {
            folder.pop();
            continue;
        }
        let next = folder.join(&name);
        let Ok(target) = next.read_link() else {
            folder = next;
            continue;
        };
        links += 1;
        if links > MAX_LINKS {
            return false;
        }
        let is_root_link = next.symlink_metadata().is_ok_and(|link| link.uid() == 0);
        if !is_root_link {
            return false;
        }
        if target.is_absolute() {
            folder = PathBuf::from("/");
        }
        names.extend(names_of(&target));
    }
    is_roots(&folder, Sticky::Refused)
}

/// Returns the components of a path, the first one last.
fn names_of(path: &Path) -> Vec<OsString> {
    let names = path
        .components()
        .rev()
        .filter_map(|component| match component {
            Component::Normal(_) | Component::ParentDir => Some(component.as_os_str().to_owned()),
            _ => None,
        });
    names.collect()
}

/// Whether a folder may be one in which all users create files, but replace only their own.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sticky {
    Allowed,
    Refused,
}

/// Returns true if a folder belongs to root, and only root can replace what is in it.
fn is_roots(folder: &Path, sticky: Sticky) -> bool {
    const WRITABLE_BY_OTHERS: u32 = 0o022;
    const STICKY: u32 = 0o1000;
    folder.symlink_metadata().is_ok_and(|metadata| {
        let is_sticky = metadata.mode() & STICKY != 0 && sticky == Sticky::Allowed;
        metadata.is_dir()
            && metadata.uid() == 0
            && (metadata.mode() & WRITABLE_BY_OTHERS == 0 || is_sticky)
    })
}

/// Whether the process runs as root.
pub(crate) fn is_root() -> bool {
    geteuid().is_root()
}

struct FoundUser {
    id: Uid,
    /// `None` for an id without an entry in the user database of the system.
    entry: Option<User>,
}

/// Finds a user by name or else by number, as chown(1) does.
fn find_user(text: &str) -> Result<FoundUser, Error> {
    let doing = "look up the user of --user";
    if let Some(user) = User::from_name(text).map_err(failed(doing))? {
        return Ok(FoundUser {
            id: user.uid,
            entry: Some(user),
        });
    }
    let unknown = || Error::Setting(format!("--user {text}: no such user"));
    let id = Uid::from_raw(number(text).ok_or_else(unknown)?);
    Ok(FoundUser {
        id,
        entry: User::from_uid(id).map_err(failed(doing))?,
    })
}

/// Finds a group by name or else by number.
fn find_group(text: &str) -> Result<Gid, Error> {
    if let Some(group) = Group::from_name(text).map_err(failed("look up the group of --group"))? {
        return Ok(group.gid);
    }
    let unknown = || Error::Setting(format!("--group {text}: no such group"));
    Ok(Gid::from_raw(number(text).ok_or_else(unknown)?))
}

/// Parses an id. The largest number is rejected: it means "unchanged" (setresuid(2)).
fn number(text: &str) -> Option<u32> {
    text.parse().ok().filter(|&number| number != u32::MAX)
}

fn failed(doing: &'static str) -> impl Fn(Errno) -> Error {
    move |errno| Error::system(doing)(errno.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_user_or_group_is_named_in_error() {
        let table = [
            (Some("no such user"), None, "--user no such user"),
            (Some("4294967295"), None, "--user 4294967295"),
            (Some("-1"), Some("0"), "--user -1"),
            (None, Some("no such group"), "--group no such group"),
            (Some("4000000001"), None, "--group"),
        ];
        for (user, group, expected) in table {
            let error = RunAs::find(user, group).expect_err("an unknown name");
            assert!(error.to_string().contains(expected), "{error}");
        }
        assert!(RunAs::find(None, None).expect("no name").is_none());
    }

    #[test]
    fn only_root_changes_user() {
        let (user, group) = (geteuid().to_string(), getegid().to_string());
        let same = RunAs::find(Some(&user), Some(&group)).expect("known");
        let other = RunAs::find(Some("4000000001"), Some("4000000002"));
        if is_root() {
            let other = other.expect("root may").expect("another user");
            assert_eq!(other.user, Uid::from_raw(4_000_000_001));
            assert_eq!(other.group, Gid::from_raw(4_000_000_002));
            assert_eq!(other.groups, []);
            assert!(same.is_some());
        } else {
            assert!(other.expect_err("refused").to_string().contains("root"));
            assert!(same.is_none());
        }
    }
}
