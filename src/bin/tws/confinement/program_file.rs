//! The file of this program, which an upgrade executes again.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Returns the path by which this program was started: an upgrade executes the file that this
/// path names at that time. A symbolic link is kept, as a deploy may switch it to a new version.
///
/// Without `/proc`, the name of the program decides alone, and may not lead to it: then only an
/// upgrade fails.
pub(crate) fn path() -> PathBuf {
    find(
        std::env::args_os().next(),
        std::env::current_exe().ok().as_deref(),
    )
}

/// `own` is the real path of this program, if it is known.
fn find(first_argument: Option<OsString>, own: Option<&Path>) -> PathBuf {
    let typed = PathBuf::from(first_argument.unwrap_or_default());
    let found = match typed.components().count() {
        1 => {
            let path = std::env::var_os("PATH").unwrap_or_default();
            let folders: Vec<_> = std::env::split_paths(&path).collect();
            folders
                .into_iter()
                .map(|folder| folder.join(&typed))
                .find(|path| path.is_file())
        }
        _ => Some(typed.clone()),
    };
    let named = found.and_then(|path| std::path::absolute(path).ok());
    match own {
        None => named.unwrap_or(typed),
        Some(own) => {
            let is_own = |path: &PathBuf| path.canonicalize().is_ok_and(|path| path == own);
            named.filter(is_own).unwrap_or_else(|| own.to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn program_is_found_by_its_own_path() {
        let own = std::env::current_exe().expect("a path");
        for typed in [
            None,
            Some("cargo".into()),
            Some("/bin/sh".into()),
            Some(own.clone().into()),
        ] {
            assert_eq!(find(typed, Some(&own)), own);
        }
    }

    #[test]
    fn name_decides_if_the_own_path_is_unknown() {
        let own = std::env::current_exe().expect("a path");
        assert_eq!(find(Some(own.clone().into()), None), own);
        let shell = find(Some("sh".into()), None);
        assert!(shell.is_absolute() && shell.is_file(), "{shell:?}");
        let unknown = "no-such-program";
        assert_eq!(find(Some(unknown.into()), None), Path::new(unknown));
        assert_eq!(find(None, None), Path::new(""));
    }
}
