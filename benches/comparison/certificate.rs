//! The certificate of the servers that are measured over TLS.

use std::path::{Path, PathBuf};

use crate::Result;

/// The files of a self-signed certificate for this machine and its key.
#[derive(Clone, Debug)]
pub(crate) struct Certificate {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

impl Certificate {
    /// Writes a new certificate to a directory.
    #[cfg(feature = "tls")]
    pub(crate) fn create(directory: &Path) -> Result<Self> {
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let pair = rcgen::generate_simple_self_signed(names);
        let pair = pair.map_err(|error| format!("certificate: {error}"))?;
        let write = |name: &str, text: String| {
            let path = directory.join(name);
            std::fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
            Ok::<PathBuf, String>(path)
        };
        Ok(Self {
            certificate: write("certificate.pem", pair.cert.pem())?,
            key: write("key.pem", pair.signing_key.serialize_pem())?,
        })
    }

    #[cfg(not(feature = "tls"))]
    pub(crate) fn create(_: &Path) -> Result<Self> {
        Err("needs the feature `tls`".to_owned())
    }
}
