//! The key-exchange group X25519MLKEM768 (draft-ietf-tls-ecdhe-mlkem), which browsers offer first.
//!
//! The secret is that of ML-KEM-768 (FIPS 203) followed by that of X25519, so a recorded session stays
//! secret as long as one of the two is unbroken. The client sends an encapsulation key and an X25519
//! key, the server a ciphertext and an X25519 key.

use libcrux_ml_kem::mlkem768::{
    self, MlKem768Ciphertext, MlKem768KeyPair, MlKem768PublicKey, validate_public_key,
};
use ring::rand::{SecureRandom, SystemRandom};
use rustls::crypto::ring::kx_group::X25519;
use rustls::crypto::{
    ActiveKeyExchange, CompletedKeyExchange, GetRandomFailed, SharedSecret, SupportedKxGroup,
};
use rustls::{Error, NamedGroup, PeerMisbehaved, ProtocolVersion};
use zeroize::Zeroizing;

/// The lengths of an encapsulation key and of a ciphertext, in front of the X25519 key.
const ENCAPSULATION_KEY_LEN: usize = MlKem768PublicKey::len();
const CIPHERTEXT_LEN: usize = MlKem768Ciphertext::len();

const INVALID_SHARE: Error = Error::PeerMisbehaved(PeerMisbehaved::InvalidKeyShare);

/// The group X25519MLKEM768.
#[derive(Debug)]
pub(super) struct X25519MlKem768;

/// The key exchange of a client, which waits for the server's share.
struct ClientKeyExchange {
    ml_kem: MlKem768KeyPair,
    x25519: Box<dyn ActiveKeyExchange>,
    share: Vec<u8>,
}

impl SupportedKxGroup for X25519MlKem768 {
    fn start(&self) -> Result<Box<dyn ActiveKeyExchange>, Error> {
        let ml_kem = mlkem768::generate_key_pair(*random()?);
        let x25519 = X25519.start()?;
        let share = [ml_kem.pk(), x25519.pub_key()].concat();
        Ok(Box::new(ClientKeyExchange {
            ml_kem,
            x25519,
            share,
        }))
    }

    fn start_and_complete(&self, client_share: &[u8]) -> Result<CompletedKeyExchange, Error> {
        let (key, x25519_share) = split::<ENCAPSULATION_KEY_LEN>(client_share)?;
        let key = MlKem768PublicKey::from(key);
        // The modulus check of FIPS 203 §7.2: each coefficient is below 3329.
        if !validate_public_key(&key) {
            return Err(INVALID_SHARE);
        }
        let x25519 = X25519.start_and_complete(x25519_share)?;
        let (ciphertext, secret) = mlkem768::encapsulate(&key, *random()?);
        Ok(CompletedKeyExchange {
            group: self.name(),
            pub_key: [ciphertext.as_ref(), &x25519.pub_key].concat(),
            secret: joined(secret, &x25519.secret),
        })
    }

    fn ffdhe_group(&self) -> Option<rustls::ffdhe_groups::FfdheGroup<'static>> {
        None
    }

    fn name(&self) -> NamedGroup {
        NamedGroup::X25519MLKEM768
    }

    fn usable_for_version(&self, version: ProtocolVersion) -> bool {
        version == ProtocolVersion::TLSv1_3
    }
}

impl ActiveKeyExchange for ClientKeyExchange {
    fn complete(self: Box<Self>, server_share: &[u8]) -> Result<SharedSecret, Error> {
        let (ciphertext, x25519_share) = split::<CIPHERTEXT_LEN>(server_share)?;
        let x25519_secret = self.x25519.complete(x25519_share)?;
        // An invalid ciphertext leads to another secret, and so to a failed handshake.
        let secret = mlkem768::decapsulate(self.ml_kem.private_key(), &ciphertext.into());
        Ok(joined(secret, &x25519_secret))
    }

    fn ffdhe_group(&self) -> Option<rustls::ffdhe_groups::FfdheGroup<'static>> {
        None
    }

    fn pub_key(&self) -> &[u8] {
        &self.share
    }

    fn group(&self) -> NamedGroup {
        NamedGroup::X25519MLKEM768
    }
}

/// Splits a share into that of ML-KEM, of `N` bytes, and that of X25519, whose length the exchange
/// checks.
fn split<const N: usize>(share: &[u8]) -> Result<(&[u8; N], &[u8]), Error> {
    share.split_first_chunk().ok_or(INVALID_SHARE)
}

/// Joins the secrets of ML-KEM and X25519.
fn joined(ml_kem: [u8; 32], x25519: &SharedSecret) -> SharedSecret {
    let ml_kem = Zeroizing::new(ml_kem);
    // Wiped when dropped.
    SharedSecret::from([&*ml_kem, x25519.secret_bytes()].concat())
}

fn random<const N: usize>() -> Result<Zeroizing<[u8; N]>, Error> {
    let mut bytes = Zeroizing::new([0; N]);
    let filled = SystemRandom::new().fill(&mut *bytes);
    filled.map_err(|_| GetRandomFailed)?;
    Ok(bytes)
}
