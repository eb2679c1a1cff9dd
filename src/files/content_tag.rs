//! Entity tags made from the content of files, which need the feature `content-etag`.

use std::fs::File;
use std::io;

use crate::error::Error;
use crate::site::{EtagSource, Site};

/// Checks that the entity tags of a site can be made.
///
/// # Errors
///
/// [`Error::Setting`] if they need the feature and it is missing.
pub(super) fn check(site: &Site) -> Result<(), Error> {
    if site.etag == EtagSource::Content && !cfg!(feature = "content-etag") {
        return Err(Error::missing_feature("etag: \"content\"", "content-etag"));
    }
    Ok(())
}

/// Returns the first 128 bits of the content's BLAKE3 hash in hexadecimal. The reads are
/// positioned, because duplicates of the descriptor share its offset.
#[cfg(feature = "content-etag")]
pub(super) fn hash(file: &File) -> io::Result<String> {
    use std::os::unix::fs::FileExt;

    const BUFFER_BYTES: usize = 128 * 1024;
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut offset = 0;
    loop {
        match file.read_at(&mut buffer, offset)? {
            0 => break,
            count => {
                hasher.update(&buffer[..count]);
                offset += count as u64;
            }
        }
    }
    Ok(hasher.finalize().to_hex()[..32].to_owned())
}

/// Fails always; [`check`] allows no site that needs it.
#[cfg(not(feature = "content-etag"))]
pub(super) fn hash(_: &File) -> io::Result<String> {
    Err(io::Error::other(
        "this tws was built without the feature content-etag",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_of_content_need_the_feature() {
        let mut site = Site::default();
        assert!(check(&site).is_ok());
        site.etag = EtagSource::Content;
        assert_eq!(check(&site).is_ok(), cfg!(feature = "content-etag"));
    }
}
