//! Who the process is once it listens: root binds port 80, and somebody else serves.

use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, fchown, lchown};
use std::path::Path;

use nix::errno::Errno;
use nix::unistd::{
    Gid, Group, Uid, User, getegid, geteuid, getgrouplist, setgid, setgroups, setuid,
};
use tws::{Error, ServerHandle};

/// Whom the process shall become.
#[derive(Debug)]
pub(crate) struct Identity {
    user: Uid,
    group: Gid,
    /// The further groups.
    groups: Vec<Gid>,
}

impl Identity {
    /// Finds out who is named. `None` if the process is that already: as it is when it was executed
    /// by one that has become it.
    pub(crate) fn find(user: Option<&str>, group: Option<&str>) -> Result<Option<Self>, Error> {
        if user.is_none() && group.is_none() {
            return Ok(None);
        }
        let user = user.map(find_user).transpose()?;
        let group = group.map(find_group).transpose()?;
        let (id, entry) = user.unwrap_or((geteuid(), None));
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

    /// Makes a file that this one will write to, if it is not there. What comes in its way will
    /// come again to whoever opens it.
    pub(crate) fn make_file(&self, path: &Path) {
        let made = OpenOptions::new()
            .append(true)
            .create_new(true)
            .mode(0o644)
            .open(path);
        if let Err(error) = made.and_then(|file| self.own(&file)) {
            log::debug!("cannot create {} for --user: {error}", path.display());
        }
    }

    fn own(&self, file: &File) -> io::Result<()> {
        fchown(file, Some(self.user.as_raw()), Some(self.group.as_raw()))
    }

    /// Gives it the Unix sockets that were made for it: the mode of a socket tells who of them and
    /// theirs may connect.
    pub(crate) fn own_sockets(&self, server: &ServerHandle) -> Result<(), Error> {
        for path in server.unix_sockets() {
            // Never what a link leads to that somebody has put there meanwhile.
            lchown(path, Some(self.user.as_raw()), Some(self.group.as_raw())).map_err(
                |source| Error::System {
                    doing: "change the owner of the Unix sockets to --user",
                    source,
                },
            )?;
        }
        Ok(())
    }

    /// Gives it a folder that was made for it.
    pub(crate) fn own_folder(&self, path: &Path) -> io::Result<()> {
        std::os::unix::fs::chown(path, Some(self.user.as_raw()), Some(self.group.as_raw()))
    }

    /// Becomes it, with all threads there are and will be, and for ever.
    pub(crate) fn assume(&self) -> Result<(), Error> {
        // In this order: each is the last thing that the next one still allows.
        setgroups(&self.groups).map_err(failed("drop the groups of root"))?;
        setgid(self.group).map_err(failed("change to the group of --group"))?;
        setuid(self.user).map_err(failed("change to the user of --user"))?;
        if !self.user.is_root() && (setuid(Uid::from_raw(0)).is_ok() || is_root()) {
            let source = io::Error::other("they could be regained");
            let doing = "drop root privileges";
            return Err(Error::System { doing, source });
        }
        Ok(())
    }
}

/// Whether the process may do all there is to do.
pub(crate) fn is_root() -> bool {
    geteuid().is_root()
}

/// A name comes before a number, as for chown(1).
fn find_user(text: &str) -> Result<(Uid, Option<User>), Error> {
    let doing = "look up the user of --user";
    if let Some(user) = User::from_name(text).map_err(failed(doing))? {
        return Ok((user.uid, Some(user)));
    }
    let unknown = || Error::Setting(format!("--user {text}: no such user"));
    let id = Uid::from_raw(number(text).ok_or_else(unknown)?);
    Ok((id, User::from_uid(id).map_err(failed(doing))?))
}

fn find_group(text: &str) -> Result<Gid, Error> {
    if let Some(group) = Group::from_name(text).map_err(failed("look up the group of --group"))? {
        return Ok(group.gid);
    }
    let unknown = || Error::Setting(format!("--group {text}: no such group"));
    Ok(Gid::from_raw(number(text).ok_or_else(unknown)?))
}

/// The largest number means "leave it as it is" to the system (setresuid(2)).
fn number(text: &str) -> Option<u32> {
    text.parse().ok().filter(|&number| number != u32::MAX)
}

fn failed(doing: &'static str) -> impl Fn(Errno) -> Error {
    move |errno| Error::System {
        doing,
        source: errno.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_not_there_is_said() {
        let table = [
            (Some("no such user"), None, "--user no such user"),
            (Some("4294967295"), None, "--user 4294967295"),
            (Some("-1"), Some("0"), "--user -1"),
            (None, Some("no such group"), "--group no such group"),
            (Some("4000000001"), None, "--group"),
        ];
        for (user, group, expected) in table {
            let error = Identity::find(user, group).expect_err("an unknown name");
            assert!(error.to_string().contains(expected), "{error}");
        }
        assert!(Identity::find(None, None).expect("no name").is_none());
    }

    #[test]
    fn only_root_becomes_somebody_else() {
        let (user, group) = (geteuid().to_string(), getegid().to_string());
        let itself = Identity::find(Some(&user), Some(&group)).expect("known");
        let other = Identity::find(Some("4000000001"), Some("4000000002"));
        if is_root() {
            let other = other.expect("root may").expect("somebody else");
            assert_eq!(other.user, Uid::from_raw(4_000_000_001));
            assert_eq!(other.group, Gid::from_raw(4_000_000_002));
            assert_eq!(other.groups, []);
            assert!(itself.is_some());
        } else {
            assert!(other.expect_err("refused").to_string().contains("root"));
            assert!(itself.is_none());
        }
    }
}
