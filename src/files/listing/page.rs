//! What a page shows, besides the entries of its folder.

use super::order::SortOrder;
use crate::files::archive_format::ArchiveFormat;
use crate::files::upload::temp_file::{OverwritePolicy, ParentFolders, UploadFeatures};
use crate::site::Deletion;

/// What a listing shows besides the entries.
#[derive(Debug)]
pub(in crate::files) struct ListingPage {
    /// Decoded and normal, with a slash at both ends. It is only displayed.
    pub(in crate::files) path: Vec<u8>,
    /// The title of the root's listing; empty if it has no name.
    pub(in crate::files) root_name: Vec<u8>,
    pub(in crate::files) order: SortOrder,
    pub(in crate::files) features: PageFeatures,
}

/// What the page offers besides the entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::files) struct PageFeatures {
    /// `None` if files cannot be uploaded into the folder.
    pub(in crate::files) uploads: Option<UploadFeatures>,
    /// How entries are deleted; `None` if they can be neither deleted nor renamed.
    pub(in crate::files) management: Option<Deletion>,
    /// The formats in which the folder can be downloaded.
    pub(in crate::files) archives: &'static [ArchiveFormat],
}

impl PageFeatures {
    /// Returns the names of the features that scripts ask for, separated by spaces.
    pub(super) fn names(&self) -> String {
        let overwrite = self
            .uploads
            .filter(|it| it.overwrite == OverwritePolicy::Replace);
        let parents = self
            .uploads
            .filter(|it| it.parents == ParentFolders::Created);
        let names = [
            overwrite.map(|_| "overwrite"),
            parents.map(|_| "parents"),
            self.management.map(|_| "manage"),
            self.management
                .filter(|deletion| *deletion == Deletion::Trash)
                .map(|_| "trash"),
        ];
        names.into_iter().flatten().collect::<Vec<_>>().join(" ")
    }
}
