//! The folder of an uploaded file, which may be created with those above it.

use rustix::io::Errno;

use super::policy::UploadPolicy;
use super::target::check_name;
use super::temp_file::{ExistingEntry, Folder, ParentFolders};
use crate::files::explained_error::ExplainedError;
use crate::files::lookup::Lookup;
use crate::files::resolve::file_name;
use crate::files::root::OpenError;

/// The folder of an uploaded file.
#[derive(Debug)]
pub(super) enum ParentFolder {
    Existing(Folder),
    /// It is created when the content is complete, so that an upload that fails leaves nothing behind. Until
    /// then the content is in this folder: the deepest one above that exists.
    Missing(Folder),
}

impl ParentFolder {
    /// Opens the folder of the file `name`, or finds out that it can be created.
    pub(super) fn of(
        name: &[u8],
        policy: &UploadPolicy,
        lookup: &Lookup<'_>,
    ) -> Result<Self, ExplainedError> {
        let parent = parent_name(name);
        let root = &lookup.snapshot.root;
        match root.folder(parent) {
            Ok(folder) => return Ok(Self::Existing(folder)),
            Err(OpenError::NotFound) => {}
            Err(error) => return Err(error.into()),
        }
        if policy.parents == ParentFolders::Created {
            check_new_parents(lookup, parent)?;
        }
        let (above, missing) = root.deepest_folder(parent)?;
        if above.entry(missing)? != ExistingEntry::Absent {
            let explanation = "a name in the path is not that of a folder";
            return Err(ExplainedError::conflict(explanation));
        }
        match policy.parents {
            ParentFolders::Created => Ok(Self::Missing(above)),
            ParentFolders::MustExist => {
                let explanation = "the folder does not exist; create it first";
                let error = ExplainedError::conflict(explanation);
                Err(error.with_remedy("--upload-parents creates it"))
            }
        }
    }

    /// Returns the folder that has the content until the file is saved.
    pub(super) fn temp_folder(&self) -> &Folder {
        match self {
            Self::Existing(folder) | Self::Missing(folder) => folder,
        }
    }

    /// Returns what a name in the folder refers to.
    pub(super) fn entry(&self, name: &[u8]) -> Result<ExistingEntry, Errno> {
        match self {
            Self::Existing(folder) => folder.entry(name),
            Self::Missing(_) => Ok(ExistingEntry::Absent),
        }
    }
}

/// Returns the name of the folder of the file `name`: empty, or with a slash at the end.
pub(super) fn parent_name(name: &[u8]) -> &[u8] {
    &name[..name.len() - file_name(name).len()]
}

/// Checks that folders of these names could be served, and the rules about access to them: a file may have
/// such a name.
fn check_new_parents(lookup: &Lookup<'_>, parent: &[u8]) -> Result<(), ExplainedError> {
    let rules = &lookup.tree.rules;
    let slashes = parent.iter().enumerate().filter(|(_, byte)| **byte == b'/');
    for (end, _) in slashes {
        let name = &parent[..end];
        check_name(rules, name)?;
        if !rules.permit_as_well(lookup.request, name) {
            return Err(ExplainedError::forbidden(
                "a rule about access protects the name of a folder above the file, but not the file",
            ));
        }
    }
    Ok(())
}
