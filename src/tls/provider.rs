//! The cryptography of the sessions: the cipher suites and signatures of ring, and a key-exchange group
//! of its own.

use rustls::crypto::{CryptoProvider, ring};

use super::hybrid_group::X25519MlKem768;

/// Returns ring's provider, with X25519MLKEM768 before its groups.
pub(super) fn provider() -> CryptoProvider {
    let mut provider = ring::default_provider();
    provider.kx_groups.insert(0, &X25519MlKem768);
    provider
}
