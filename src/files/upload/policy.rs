//! What a site accepts as uploads, and what its uploads share.

use std::sync::MutexGuard;

use super::temp_file::{OverwritePolicy, ParentFolders, UploadFeatures};
use crate::files::client_slots::ClientSlots;
use crate::site::{Size, Upload};
use crate::sync::Mutex;

/// Each occupies a thread until its client has sent all. A client gets a quarter of them.
pub(super) const MAX_CONCURRENT_UPLOADS: usize = 64;

const DEFAULT_MAX_BYTES: u64 = 1 << 30;

/// The limits of one site's uploads, and the state that its uploads share.
#[derive(Debug)]
pub(in crate::files) struct UploadPolicy {
    /// The largest request body.
    pub(super) max_bytes: u64,
    pub(super) overwrite: OverwritePolicy,
    /// Whether PUT creates the folders above a file.
    pub(super) parents: ParentFolders,
    pub(super) concurrent: ClientSlots,
    saving: Mutex<()>,
}

impl UploadPolicy {
    pub(in crate::files) fn new(upload: &Upload) -> Self {
        let overwrite = if upload.overwrite {
            OverwritePolicy::Replace
        } else {
            OverwritePolicy::Keep
        };
        Self {
            max_bytes: upload.max.map_or(DEFAULT_MAX_BYTES, Size::bytes),
            overwrite,
            parents: if upload.parents {
                ParentFolders::Created
            } else {
                ParentFolders::MustExist
            },
            concurrent: ClientSlots::new(MAX_CONCURRENT_UPLOADS),
            saving: Mutex::new(()),
        }
    }

    /// Returns what a page with a form for uploads has to know.
    pub(in crate::files) fn features(&self) -> UploadFeatures {
        UploadFeatures {
            overwrite: self.overwrite,
            parents: self.parents,
        }
    }

    /// Locks the step from the last check of what exists to its replacement: of two requests with
    /// the same If-Match, the second one fails.
    pub(super) fn lock_saving(&self) -> MutexGuard<'_, ()> {
        self.saving.lock()
    }
}
