//! Counters of handshakes, for observers of the server.

use std::sync::atomic::{AtomicU64, Ordering};

use rustls::crypto::SupportedKxGroup;
use rustls::{CommonState, HandshakeKind, NamedGroup};

/// The kinds of handshakes. The last one is full, after a request for a key of another group.
const KINDS: [(HandshakeKind, &str); 3] = [
    (HandshakeKind::Full, "full"),
    (HandshakeKind::Resumed, "resumed"),
    (HandshakeKind::FullWithHelloRetryRequest, "retried"),
];

/// The groups of the key exchange. A session of TLS 1.2 is resumed without one.
const GROUPS: [(Option<NamedGroup>, &str); 5] = [
    (Some(NamedGroup::X25519MLKEM768), "X25519MLKEM768"),
    (Some(NamedGroup::X25519), "X25519"),
    (Some(NamedGroup::secp256r1), "secp256r1"),
    (Some(NamedGroup::secp384r1), "secp384r1"),
    (None, "none"),
];

/// The number of completed handshakes by kind and by group.
#[derive(Debug, Default)]
pub(crate) struct HandshakeStats([[AtomicU64; GROUPS.len()]; KINDS.len()]);

impl HandshakeStats {
    /// Counts the handshake of a session that is established.
    pub(crate) fn count(&self, session: &CommonState) {
        let group = session.negotiated_key_exchange_group();
        let group = group.map(SupportedKxGroup::name);
        let group = GROUPS.iter().position(|(known, _)| *known == group);
        let kind = session.handshake_kind();
        let kind = KINDS.iter().position(|(known, _)| Some(*known) == kind);
        if let (Some(kind), Some(group)) = (kind, group) {
            self.0[kind][group].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Returns the names of each kind and group with their count.
    pub(crate) fn counts(&self) -> Vec<(&'static str, &'static str, u64)> {
        let mut counts = Vec::new();
        for ((_, kind), by_group) in KINDS.iter().zip(&self.0) {
            for ((_, group), count) in GROUPS.iter().zip(by_group) {
                counts.push((*kind, *group, count.load(Ordering::Relaxed)));
            }
        }
        counts
    }
}
