//! The certificates of a server, from which the handshake selects one.

use std::sync::Arc;

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::certificate::{FileStamps, ServerCertificate};
use super::key_pair::KeyPair;
use crate::sync::{Mutex, RwLock};

/// The current certificates and the files they come from.
#[derive(Debug)]
pub(super) struct Certificates {
    pub(super) loaded: Mutex<LoadedFiles>,
    pub(super) current: RwLock<Arc<[ServerCertificate]>>,
}

/// The files that were read last.
#[derive(Debug, Default)]
pub(super) struct LoadedFiles {
    /// Empty for a self-signed certificate, which has no files.
    pub(super) pairs: Vec<KeyPair>,
    pub(super) stamps: FileStamps,
    /// Whether reading them failed.
    pub(super) failed: bool,
}

impl Certificates {
    pub(super) fn current(&self) -> Arc<[ServerCertificate]> {
        Arc::clone(&self.current.read())
    }

    pub(super) fn replace(&self, certificates: Arc<[ServerCertificate]>) {
        *self.current.write() = certificates;
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let certificates = self.current();
        let schemes = hello.signature_schemes();
        let is_usable = |certificate: &ServerCertificate| certificate.can_sign(schemes);
        let chosen = choose(&certificates, hello.server_name(), is_usable);
        chosen.map(|index| certificates[index].key())
    }
}

/// Returns the index of the certificate for a client that requests `name`: the first usable one that
/// has the name, else the first usable one, else the first. `None` if there are no certificates.
pub(super) fn choose(
    certificates: &[ServerCertificate],
    name: Option<&str>,
    is_usable: impl Fn(&ServerCertificate) -> bool,
) -> Option<usize> {
    let name = name.map(str::to_ascii_lowercase);
    let is_named = |certificate: &ServerCertificate| {
        let name = name.as_deref();
        name.is_some_and(|name| certificate.is_for(name))
    };
    let mut all = certificates.iter();
    let named = all.position(|certificate| is_named(certificate) && is_usable(certificate));
    named
        .or_else(|| certificates.iter().position(&is_usable))
        .or((!certificates.is_empty()).then_some(0))
}
