//! Whether a site sends archives, and what its archives share.

use crate::error::Error;
use crate::files::client_slots::ClientSlots;
use crate::site::{self, Listing, Site, Size};

/// Each takes up to some megabytes for its encoder. A client gets a quarter of them.
const MAX_CONCURRENT_ARCHIVES: usize = 32;

const DEFAULT_MAX_BYTES: u64 = 16 << 30;

/// The limits of one site's archives, and the slots that its archives share.
#[derive(Debug)]
pub(in crate::files) struct ArchivePolicy {
    /// Of the files in an archive, uncompressed.
    pub(super) max_bytes: u64,
    pub(super) concurrent: ClientSlots,
}

impl ArchivePolicy {
    /// Returns `None` if the site makes no archives.
    ///
    /// # Errors
    ///
    /// [`Error::Setting`] if it makes archives and the feature `archive` is missing.
    pub(in crate::files) fn of(site: &Site) -> Result<Option<Self>, Error> {
        let is_built_in = cfg!(feature = "archive");
        let is_on = match site.archive {
            site::Archive::On if !is_built_in => {
                return Err(Error::missing_feature("archive: \"on\"", "archive"));
            }
            site::Archive::On => true,
            site::Archive::Off => false,
            site::Archive::Auto => is_built_in && site.listing == Listing::On,
        };
        Ok(is_on.then(|| Self {
            max_bytes: site.archive_max.map_or(DEFAULT_MAX_BYTES, Size::bytes),
            concurrent: ClientSlots::new(MAX_CONCURRENT_ARCHIVES),
        }))
    }
}
