//! Where the server keeps what must survive it.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use tws::Error;

use super::privileges::Identity;

/// The place of a file: a relative name lies in the state directory, and none beneath the root.
pub(crate) fn place(name: &Path, state_dir: Option<&Path>, root: &Path) -> Result<PathBuf, Error> {
    let path = match name.is_absolute() {
        true => name.to_owned(),
        false => state_directory(state_dir)?.join(name),
    };
    refuse_beneath_root(&path, root)?;
    Ok(path)
}

/// Makes the folder in which a file shall be, if it is not there, for whom the process will be.
pub(crate) fn make_folder_of(file: &Path, owner: Option<&Identity>) -> Result<(), Error> {
    let missing = |folder: &&Path| !folder.as_os_str().is_empty() && !folder.exists();
    let folders: Vec<&Path> = file.ancestors().skip(1).take_while(missing).collect();
    // Names of users are not for every user of the machine.
    let make = |folder: &Path| match DirBuilder::new().mode(0o700).create(folder) {
        Ok(()) => owner.map_or(Ok(()), |owner| owner.own_folder(folder)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    };
    folders.into_iter().rev().try_for_each(|folder| {
        make(folder).map_err(|source| Error::Path {
            purpose: "create the user database folder",
            path: folder.to_owned(),
            source,
        })
    })
}

/// What lies beneath the root can be downloaded; the users' names must not.
fn refuse_beneath_root(path: &Path, root: &Path) -> Result<(), Error> {
    let existing = path.ancestors().skip(1).find_map(|folder| {
        let folder = if folder.as_os_str().is_empty() {
            Path::new(".")
        } else {
            folder
        };
        folder.canonicalize().ok()
    });
    match (existing, root.canonicalize()) {
        (Some(folder), Ok(root)) if folder.starts_with(&root) => Err(Error::Setting(format!(
            "the user database {} is inside the served folder {}; choose another folder with --state-dir",
            path.display(),
            root.display()
        ))),
        _ => Ok(()),
    }
}

/// Where the server keeps what must survive it, by systemd's and by the desktop's convention.
fn state_directory(flag: Option<&Path>) -> Result<PathBuf, Error> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    if let Some(path) = flag {
        return Ok(path.to_owned());
    }
    if let Some(paths) = variable("STATE_DIRECTORY")
        && let Some(first) = std::env::split_paths(&paths).next()
    {
        return Ok(first);
    }
    // A relative path is invalid and to be ignored (XDG Base Directory Specification).
    let xdg = variable("XDG_STATE_HOME")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute());
    let home = || variable("HOME").map(|home| Path::new(&home).join(".local/state"));
    match xdg.or_else(home) {
        Some(state) => Ok(state.join("tws")),
        None => Err(Error::Setting(
            "user database: HOME is not set; name a folder with --state-dir".to_owned(),
        )),
    }
}
