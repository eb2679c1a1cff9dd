//! The files of a certificate.

use std::path::PathBuf;

/// The paths of a certificate and its private key, both in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyPair {
    /// The certificate chain: the server's own certificate first, then the intermediate certificates.
    pub certificate: PathBuf,
    /// The private key in PKCS #8, PKCS #1 or SEC 1, not encrypted. It may be in the same file.
    pub key: PathBuf,
}
