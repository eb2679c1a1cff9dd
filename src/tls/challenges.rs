//! Answers to TLS-ALPN-01 challenges (RFC 8737): the certificate authority connects with the protocol
//! `acme-tls/1` alone (ALPN) and the name that it validates (SNI), and expects a self-signed certificate
//! with the digest of the key authorization. The connection ends with the handshake.

use std::collections::BTreeMap;
use std::sync::Arc;

use rcgen::{CertificateParams, CustomExtension};
use rustls::server::ClientHello;
use rustls::sign::SingleCertAndKey;
use rustls::{CommonState, ServerConfig};

use super::certificate::ServerCertificate;
use super::provider::provider;
use crate::error::Error;
use crate::sync::RwLock;

/// The protocol identifier (RFC 8737 §6.2).
const ACME_TLS: &[u8] = b"acme-tls/1";

/// The challenges that are answered, by their names in lower case.
#[derive(Debug)]
pub(super) struct Challenges(RwLock<BTreeMap<String, Arc<ServerConfig>>>);

impl Challenges {
    pub(super) fn new() -> Self {
        Self(RwLock::new(BTreeMap::new()))
    }

    /// Answers a challenge from now on. A previous one for the name is replaced.
    pub(super) fn add(&self, name: &str, digest: &[u8; 32]) -> Result<(), Error> {
        let name = name.to_ascii_lowercase();
        let config = Arc::new(session_config(&name, digest)?);
        self.0.write().insert(name, config);
        Ok(())
    }

    pub(super) fn remove(&self, name: &str) {
        self.0.write().remove(&name.to_ascii_lowercase());
    }

    /// Returns the configuration of a session in which a client validates a name. `None` for other
    /// clients, and for names without a challenge.
    pub(super) fn session_config(&self, hello: &ClientHello<'_>) -> Option<Arc<ServerConfig>> {
        let mut offered = hello.alpn()?;
        let is_validation = offered.next() == Some(ACME_TLS) && offered.next().is_none();
        if !is_validation {
            return None;
        }
        let name = hello.server_name()?.to_ascii_lowercase();
        self.0.read().get(&name).map(Arc::clone)
    }
}

/// Returns true if the session has validated a name. Nothing follows its handshake (RFC 8737 §3).
pub(crate) fn is_validation(session: &CommonState) -> bool {
    session.alpn_protocol() == Some(ACME_TLS)
}

fn session_config(name: &str, digest: &[u8; 32]) -> Result<ServerConfig, Error> {
    let failed = |error: &dyn std::fmt::Display| {
        Error::Setting(format!(
            "TLS: no answer to the challenge for {name}: {error}"
        ))
    };
    let mut params = CertificateParams::new([name.to_owned()]).map_err(|error| failed(&error))?;
    params
        .custom_extensions
        .push(CustomExtension::new_acme_identifier(digest));
    let certificate = ServerCertificate::sign_itself(&params).map_err(|error| failed(&error))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| failed(&error))?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(certificate)));
    config.alpn_protocols = vec![ACME_TLS.to_vec()];
    // The session ends with its handshake, so that it is never resumed.
    config.send_tls13_tickets = 0;
    Ok(config)
}
