//! The keys of session tickets (RFC 8446 §4.6.1, RFC 5077), shared by all handshakers of a server.
//!
//! A ticket is a session, encrypted with a key that only the server has. The key is replaced every six
//! hours, which is as long as a ticket is valid; the previous key still decrypts the tickets that were
//! encrypted with it. An upgrade hands the keys over to the new process. They are written to no file
//! and wiped from memory when they are replaced.

use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};
use rustls::crypto::GetRandomFailed;
use rustls::server::ProducesTickets;
use zeroize::Zeroizing;

use crate::sync::RwLock;

/// The lifetime of a ticket, and the interval at which the key is replaced.
const LIFETIME: Duration = Duration::from_secs(6 * 60 * 60);

const NAME_LEN: usize = 16;
const SECRET_LEN: usize = 32;
const KEY_LEN: usize = NAME_LEN + SECRET_LEN;

/// The version of the encoding of [`TicketKeys`].
const FORMAT: u8 = 1;

/// The keys with which a server encrypts sessions, for a process that continues its sessions.
#[derive(Clone)]
pub struct TicketKeys {
    current: TicketKey,
    previous: Option<TicketKey>,
    /// When the current key is replaced.
    rotation: Instant,
}

/// The name of a key, with which its tickets begin, and the secret.
#[derive(Clone)]
struct TicketKey(Zeroizing<[u8; KEY_LEN]>);

/// Encrypts and decrypts the tickets of a server, and replaces their key in time.
#[derive(Debug)]
pub(super) struct Ticketer(RwLock<TicketKeys>);

impl TicketKeys {
    /// The number of bytes that [`write_to`](Self::write_to) writes.
    pub const ENCODED_LEN: usize = 2 + size_of::<u32>() + 2 * KEY_LEN;

    fn generate(now: Instant) -> Result<Self, GetRandomFailed> {
        Ok(Self {
            current: TicketKey::generate()?,
            previous: None,
            rotation: now + LIFETIME,
        })
    }

    /// Writes the keys, to a process that continues the sessions. They are secret: with them, recorded
    /// sessions of TLS 1.2 can be decrypted, and resumed sessions be impersonated.
    ///
    /// # Errors
    ///
    /// The error of the writer.
    pub fn write_to(&self, out: &mut impl Write) -> io::Result<()> {
        let left = self.rotation.saturating_duration_since(Instant::now());
        // At most six hours.
        let left = left.as_secs() as u32;
        let mut bytes = Zeroizing::new(Vec::with_capacity(Self::ENCODED_LEN));
        bytes.extend([FORMAT, u8::from(self.previous.is_some())]);
        bytes.extend(left.to_be_bytes());
        let previous = self.previous.as_ref().unwrap_or(&self.current);
        bytes.extend_from_slice(&*self.current.0);
        bytes.extend_from_slice(&*previous.0);
        out.write_all(&bytes)
    }

    /// Reads what [`write_to`](Self::write_to) has written.
    ///
    /// # Errors
    ///
    /// The error of the reader; [`InvalidData`](io::ErrorKind::InvalidData) for the format of another
    /// version.
    pub fn read_from(input: &mut impl Read) -> io::Result<Self> {
        let [mut format, mut has_previous] = [[0]; 2];
        let mut left = [0; 4];
        input.read_exact(&mut format)?;
        if format != [FORMAT] {
            return Err(io::ErrorKind::InvalidData.into());
        }
        input.read_exact(&mut has_previous)?;
        input.read_exact(&mut left)?;
        let current = TicketKey::read_from(input)?;
        let previous = TicketKey::read_from(input)?;
        let left = Duration::from_secs(u32::from_be_bytes(left).into());
        Ok(Self {
            current,
            previous: (has_previous != [0]).then_some(previous),
            rotation: Instant::now() + left.min(LIFETIME),
        })
    }

    /// Replaces the current key, and drops a key whose tickets have all expired.
    fn rotate(&mut self, now: Instant) -> Result<(), GetRandomFailed> {
        let current = std::mem::replace(&mut self.current, TicketKey::generate()?);
        let is_expired = now.saturating_duration_since(self.rotation) >= LIFETIME;
        self.previous = (!is_expired).then_some(current);
        self.rotation = now + LIFETIME;
        Ok(())
    }
}

impl std::fmt::Debug for TicketKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TicketKeys").finish_non_exhaustive()
    }
}

impl TicketKey {
    fn generate() -> Result<Self, GetRandomFailed> {
        let mut key = Self(Zeroizing::new([0; KEY_LEN]));
        fill(&mut *key.0)?;
        Ok(key)
    }

    fn read_from(input: &mut impl Read) -> io::Result<Self> {
        let mut key = Self(Zeroizing::new([0; KEY_LEN]));
        input.read_exact(&mut *key.0)?;
        Ok(key)
    }

    fn name(&self) -> &[u8] {
        &self.0[..NAME_LEN]
    }

    /// Returns the cipher. It is not kept, because ring does not wipe keys.
    fn cipher(&self) -> Option<LessSafeKey> {
        let key = UnboundKey::new(&CHACHA20_POLY1305, &self.0[NAME_LEN..]);
        key.ok().map(LessSafeKey::new)
    }

    /// Returns the name of the key, the nonce, the encrypted message and its tag.
    fn encrypt(&self, message: &[u8]) -> Option<Vec<u8>> {
        let mut nonce = [0; NONCE_LEN];
        // A counter would tell how many sessions there are.
        fill(&mut nonce).ok()?;
        let mut ticket = [self.name(), &nonce, message].concat();
        let tag = self.cipher()?.seal_in_place_separate_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(self.name()),
            &mut ticket[NAME_LEN + NONCE_LEN..],
        );
        ticket.extend(tag.ok()?.as_ref());
        Some(ticket)
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        let encrypted = ticket.strip_prefix(self.name())?;
        let (nonce, encrypted) = encrypted.split_first_chunk()?;
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let mut message = encrypted.to_vec();
        let cipher = self.cipher()?;
        let opened = cipher.open_in_place(nonce, Aad::from(self.name()), &mut message);
        let len = opened.ok()?.len();
        message.truncate(len);
        Some(message)
    }
}

impl Ticketer {
    pub(super) fn new() -> Result<Self, GetRandomFailed> {
        Ok(Self(RwLock::new(TicketKeys::generate(Instant::now())?)))
    }

    pub(super) fn keys(&self) -> TicketKeys {
        self.0.read().clone()
    }

    pub(super) fn replace(&self, keys: TicketKeys) {
        *self.0.write() = keys;
    }

    /// Replaces the key if it is due. Without randomness it stays in use.
    pub(super) fn rotate_if_due(&self, now: Instant) {
        if now < self.0.read().rotation {
            return;
        }
        let mut keys = self.0.write();
        // Another thread may have replaced it meanwhile.
        if now >= keys.rotation {
            let _ = keys.rotate(now);
        }
    }

    /// Replaces the key as if its time were over.
    #[cfg(test)]
    pub(super) fn rotate_early(&self) {
        self.rotate_if_due(self.keys().rotation);
    }
}

impl ProducesTickets for Ticketer {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        LIFETIME.as_secs() as u32
    }

    fn encrypt(&self, message: &[u8]) -> Option<Vec<u8>> {
        self.rotate_if_due(Instant::now());
        self.0.read().current.encrypt(message)
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        self.rotate_if_due(Instant::now());
        let keys = self.0.read();
        let of_previous = || keys.previous.as_ref()?.decrypt(ticket);
        keys.current.decrypt(ticket).or_else(of_previous)
    }
}

fn fill(bytes: &mut [u8]) -> Result<(), GetRandomFailed> {
    SystemRandom::new().fill(bytes).map_err(|_| GetRandomFailed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticketer() -> Ticketer {
        Ticketer::new().expect("randomness")
    }

    #[test]
    fn ticket_is_valid_for_one_rotation() {
        let ticketer = ticketer();
        let ticket = ticketer.encrypt(b"session").expect("a ticket");
        assert_eq!(ticketer.decrypt(&ticket).as_deref(), Some(&b"session"[..]));
        let before = ticketer.keys().rotation;
        ticketer.rotate_if_due(before - Duration::from_nanos(1));
        assert_eq!(ticketer.keys().rotation, before);
        ticketer.rotate_early();
        assert_eq!(ticketer.decrypt(&ticket).as_deref(), Some(&b"session"[..]));
        let other = ticketer.encrypt(b"session").expect("a ticket");
        assert_ne!(other[..NAME_LEN], ticket[..NAME_LEN]);
        ticketer.rotate_early();
        assert_eq!(ticketer.decrypt(&ticket), None);
        assert!(ticketer.decrypt(&other).is_some());
    }

    /// A server without clients is asked late.
    #[test]
    fn late_rotation_drops_expired_key() {
        let ticketer = ticketer();
        let ticket = ticketer.encrypt(b"session").expect("a ticket");
        ticketer.rotate_if_due(ticketer.keys().rotation + LIFETIME);
        assert_eq!(ticketer.decrypt(&ticket), None);
    }

    #[test]
    fn changed_or_truncated_ticket_is_rejected() {
        let ticketer = ticketer();
        let ticket = ticketer.encrypt(b"session").expect("a ticket");
        for at in 0..ticket.len() {
            assert_eq!(ticketer.decrypt(&ticket[..at]), None, "{at}");
            let mut changed = ticket.clone();
            changed[at] ^= 1;
            assert_eq!(ticketer.decrypt(&changed), None, "{at}");
        }
    }

    #[test]
    fn keys_are_read_as_written() {
        let (first, second) = (ticketer(), ticketer());
        let old = first.encrypt(b"old").expect("a ticket");
        for rotations in 0..2 {
            let new = first.encrypt(b"new").expect("a ticket");
            let mut bytes = Vec::new();
            first.keys().write_to(&mut bytes).expect("written");
            assert_eq!(bytes.len(), TicketKeys::ENCODED_LEN);
            second.replace(TicketKeys::read_from(&mut &bytes[..]).expect("read"));
            assert_eq!(second.keys().previous.is_some(), rotations > 0);
            assert!(second.keys().rotation <= first.keys().rotation);
            for ticket in [&old, &new] {
                assert!(second.decrypt(ticket).is_some(), "{rotations}");
            }
            first.rotate_early();
        }
        let mut bytes = Vec::new();
        first.keys().write_to(&mut bytes).expect("written");
        for len in 0..bytes.len() {
            assert!(TicketKeys::read_from(&mut &bytes[..len]).is_err(), "{len}");
        }
        // Times beyond the lifetime are not believed, and neither are other formats.
        bytes[2..6].fill(0xff);
        let keys = TicketKeys::read_from(&mut &bytes[..]).expect("read");
        assert!(keys.rotation <= Instant::now() + LIFETIME);
        bytes[0] = FORMAT + 1;
        let error = TicketKeys::read_from(&mut &bytes[..]).expect_err("another format");
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }
}
