//! The folder of files that must outlive the process.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use tws::Error;

use super::privileges::{self, RunAs};
use crate::cli::Settings;

/// Where the state directory is, and where it must not be.
pub(crate) struct StateDir<'a> {
    /// That of `--state-dir`.
    flag: Option<&'a Path>,
    /// Whether another user than root will write to it.
    user: ServingUser,
    roots: Vec<PathBuf>,
}

/// Whose home folder is in the default.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ServingUser {
    /// That of `--user`, which cannot enter the home folder of root.
    Other,
    Same,
}

impl<'a> StateDir<'a> {
    pub(crate) fn of(settings: &'a Settings) -> Self {
        let is_other = settings.user.is_some() && privileges::is_root();
        Self {
            flag: settings.state_dir.as_deref(),
            user: if is_other {
                ServingUser::Other
            } else {
                ServingUser::Same
            },
            roots: settings.roots().collect(),
        }
    }

    /// The same state directory, which must be outside of other roots.
    pub(crate) fn outside_of(self, roots: impl Iterator<Item = PathBuf>) -> Self {
        Self {
            roots: roots.collect(),
            ..self
        }
    }

    /// Returns the path of the user database.
    ///
    /// # Errors
    ///
    /// As [`locate`](Self::locate).
    pub(crate) fn users(&self, name: &Path) -> Result<PathBuf, Error> {
        self.locate(name, "user database")
    }

    /// Returns the folder of the automatic certificates and their keys.
    ///
    /// # Errors
    ///
    /// As [`locate`](Self::locate).
    pub(crate) fn certificates(&self) -> Result<PathBuf, Error> {
        self.locate(Path::new("acme"), "folder of certificates")
    }

    /// Returns the path of a file or folder: a relative name is resolved against the state directory.
    /// `content` is what it holds, for errors.
    ///
    /// # Errors
    ///
    /// [`Error::Setting`] for a path beneath a served root.
    fn locate(&self, name: &Path, content: &str) -> Result<PathBuf, Error> {
        let path = if name.is_absolute() {
            name.to_owned()
        } else {
            self.path(content)?.join(name)
        };
        for root in &self.roots {
            reject_beneath_root(&path, root, content)?;
        }
        Ok(path)
    }

    /// Returns the state directory: that of `--state-dir`, else that of systemd, else that of the XDG
    /// Base Directory Specification.
    fn path(&self, content: &str) -> Result<PathBuf, Error> {
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        if let Some(path) = self.flag {
            return Ok(path.to_owned());
        }
        if let Some(paths) = variable("STATE_DIRECTORY")
            && let Some(first) = std::env::split_paths(&paths).next()
        {
            return Ok(first);
        }
        // A relative path is invalid and must be ignored (XDG Base Directory Specification).
        let xdg = variable("XDG_STATE_HOME")
            .map(PathBuf::from)
            .filter(|path| path.is_absolute());
        if xdg.is_none() && self.user == ServingUser::Other {
            return Ok(PathBuf::from("/var/lib/tws"));
        }
        let home = || variable("HOME").map(|home| Path::new(&home).join(".local/state"));
        match xdg.or_else(home) {
            Some(state) => Ok(state.join("tws")),
            None => Err(Error::Setting(format!(
                "{content}: HOME is not set; name a folder with --state-dir"
            ))),
        }
    }
}

/// Creates the missing folders above a file; they belong to `owner`.
pub(crate) fn create_folders_of(file: &Path, owner: Option<&RunAs>) -> Result<(), Error> {
    let is_missing = |folder: &&Path| !folder.as_os_str().is_empty() && !folder.exists();
    let folders: Vec<&Path> = file.ancestors().skip(1).take_while(is_missing).collect();
    // Neither keys nor the names of the application's users are for every user of the machine.
    let create = |folder: &Path| match DirBuilder::new().mode(0o700).create(folder) {
        Ok(()) => owner.map_or(Ok(()), |owner| owner.own_folder(folder)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    };
    folders.into_iter().rev().try_for_each(|folder| {
        create(folder).map_err(|error| Error::new_file("create the state folder", folder, error))
    })
}

/// Files beneath a root can be downloaded; those of the state must not be.
fn reject_beneath_root(path: &Path, root: &Path, content: &str) -> Result<(), Error> {
    let existing_folder = path.ancestors().skip(1).find_map(|folder| {
        let folder = if folder.as_os_str().is_empty() {
            Path::new(".")
        } else {
            folder
        };
        folder.canonicalize().ok()
    });
    match (existing_folder, root.canonicalize()) {
        (Some(folder), Ok(root)) if folder.starts_with(&root) => Err(Error::Setting(format!(
            "the {content} {} is inside the served folder {}; choose another folder with --state-dir",
            path.display(),
            root.display()
        ))),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn missing_folders_are_created_for_the_owner_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("a/b/users.db");
        for _ in ["missing", "present"] {
            create_folders_of(&file, None).expect("created");
            for created in ["a", "a/b"] {
                let metadata = fs::metadata(folder.path().join(created)).expect("a folder");
                assert_eq!(metadata.permissions().mode() & 0o777, 0o700, "{created}");
            }
        }
        fs::write(&file, "").expect("a file");
        let below_file = file.join("c/users.db");
        let error = create_folders_of(&below_file, None).expect_err("not a folder");
        assert!(
            matches!(&error, Error::Path { path, .. } if *path == file.join("c")),
            "{error}"
        );
    }

    #[test]
    fn path_beneath_root_is_rejected() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("root")).expect("a folder");
        for (name, state_dir, expected) in [
            ("users.db", at("state"), Some(at("state/users.db"))),
            ("users.db", at("root"), None),
            ("a/users.db", at("root"), None),
            (
                at("root/users.db").to_str().expect("UTF-8"),
                at("state"),
                None,
            ),
            (
                at("users.db").to_str().expect("UTF-8"),
                at("root"),
                Some(at("users.db")),
            ),
        ] {
            let located = StateDir {
                flag: Some(&state_dir),
                user: ServingUser::Same,
                roots: vec![at("other"), at("root")],
            };
            let located = located.locate(Path::new(name), "user database");
            assert_eq!(located.ok(), expected, "{name} in {}", state_dir.display());
        }
    }
}
