//! TLS: certificates with their keys, chosen by the server name that a client requests (SNI, RFC 6066
//! §3), and replaced while the server runs.
//!
//! Protocol versions and cipher suites are rustls's defaults: TLS 1.2 and 1.3, with forward secrecy and
//! authenticated encryption only. The cryptography is ring's, except for the key-exchange group
//! X25519MLKEM768, which comes before ring's groups: ML-KEM is that of `libcrux-ml-kem`. The alternative
//! aws-lc-rs has the group, but encrypts more slowly. Sessions are resumed with tickets (RFC 8446
//! §4.6.1, RFC 5077), whose keys are replaced every six hours and are handed over to the process that
//! replaces this one. HTTP/2 is negotiated in the handshake (ALPN, RFC 7301). The transport is in
//! `net`.

mod acceptor;
mod certificate;
mod challenges;
mod handshake_stats;
mod hybrid_group;
mod key_pair;
mod pem;
mod provider;
mod resolver;
mod served_certificate;
mod session;
mod tickets;

use std::sync::Arc;
use std::time::Instant;

use rustls::ServerConfig;
use rustls::server::ResolvesServerCert;

use crate::config::Http2;
use crate::error::Error;
use crate::sync::{Mutex, RwLock};
use certificate::FileStamps;
use challenges::Challenges;
use resolver::{Certificates, LoadedFiles};
use tickets::Ticketer;

pub(crate) use acceptor::{ClientHelloReader, TlsAcceptor, is_http2};
pub use certificate::ServerCertificate;
pub(crate) use challenges::is_validation;
pub(crate) use handshake_stats::HandshakeStats;
pub use key_pair::KeyPair;
pub(crate) use served_certificate::ServedCertificate;
pub(crate) use session::{MAX_CONTENT_BYTES, Session, SessionError, SocketRead};
pub use tickets::TicketKeys;

/// The TLS configuration of a server. Clones share the certificates and the keys of session tickets.
///
/// ```no_run
/// use tws::{Config, KeyPair, Server, StaticFiles, Tls};
///
/// # fn main() -> Result<(), tws::Error> {
/// let tls = Tls::open(vec![KeyPair {
///     certificate: "/etc/letsencrypt/live/example.org/fullchain.pem".into(),
///     key: "/etc/letsencrypt/live/example.org/privkey.pem".into(),
/// }])?;
/// let server = Server::bind(Config::default())?.with_tls(tls);
/// server.serve(StaticFiles::new("www")?)
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Tls {
    certificates: Arc<Certificates>,
    challenges: Arc<Challenges>,
    ticketer: Arc<Ticketer>,
    config: Arc<ServerConfig>,
}

/// The result of reloading certificates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reloaded {
    /// New handshakes use the new certificates. Established connections are not affected.
    Changed,
    /// The files have not changed.
    Unchanged,
}

impl Tls {
    /// Reads certificates and keys. A client gets the first certificate that has the requested server
    /// name; without such a certificate, or without a requested name, it gets the first of all. Several
    /// certificates may have the same names and keys of different types.
    ///
    /// # Errors
    ///
    /// [`Error::Path`] if a file cannot be read; [`Error::Setting`] if it contains no certificate or
    /// key, if the key does not match the certificate, or if the certificate has expired or is not valid
    /// yet.
    pub fn open(pairs: Vec<KeyPair>) -> Result<Self, Error> {
        let (loaded, certificates) = open(pairs)?;
        Self::with(Certificates {
            loaded: Mutex::new(loaded),
            current: RwLock::new(certificates),
        })
    }

    /// Generates a self-signed certificate for these names and addresses, valid for a year. Clients do
    /// not trust it and show a warning. For testing.
    ///
    /// # Errors
    ///
    /// [`Error::Setting`] if a name is neither a host name nor an IP address.
    pub fn self_signed(names: &[String]) -> Result<Self, Error> {
        Self::with_certificates(vec![ServerCertificate::self_signed(names)?])
    }

    /// Uses certificates that the caller has read and replaces itself, with
    /// [`set_certificates`](Self::set_certificates).
    ///
    /// # Errors
    ///
    /// [`Error::Setting`] if the system has no randomness for the keys of session tickets.
    pub fn with_certificates(certificates: Vec<ServerCertificate>) -> Result<Self, Error> {
        Self::with(Certificates {
            loaded: Mutex::default(),
            current: RwLock::new(certificates.into()),
        })
    }

    fn with(certificates: Certificates) -> Result<Self, Error> {
        let failed = |error: rustls::Error| Error::Setting(format!("TLS: {error}"));
        let certificates = Arc::new(certificates);
        let resolver: Arc<dyn ResolvesServerCert> = Arc::<Certificates>::clone(&certificates);
        // Set explicitly, so that a process-wide provider of another crate has no effect.
        let mut config = ServerConfig::builder_with_provider(Arc::new(provider::provider()))
            .with_safe_default_protocol_versions()
            .map_err(failed)?
            .with_no_client_auth()
            .with_cert_resolver(resolver);
        let ticketer = Ticketer::new().map_err(|error| failed(error.into()))?;
        let ticketer = Arc::new(ticketer);
        config.ticketer = Arc::<Ticketer>::clone(&ticketer);
        Ok(Self {
            certificates,
            challenges: Arc::new(Challenges::new()),
            ticketer,
            config: Arc::new(config),
        })
    }

    /// Reads the files again if they have changed: written, replaced, or behind a symbolic link that
    /// has a new target, as with certbot. A running server does this every few seconds.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open); the current certificates stay in use.
    pub fn reload(&self) -> Result<Reloaded, Error> {
        let mut loaded = self.certificates.loaded.lock();
        let stamps = FileStamps::of(&loaded.pairs);
        if loaded.stamps == stamps && !loaded.failed {
            return Ok(Reloaded::Unchanged);
        }
        loaded.stamps = stamps;
        loaded.failed = true;
        let certificates = read(&loaded.pairs)?;
        loaded.failed = false;
        self.certificates.replace(certificates);
        Ok(Reloaded::Changed)
    }

    /// Replaces the certificates by those of other files. If `pairs` are the current files,
    /// [`reload`](Self::reload)s them.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open); the current certificates and their files stay in use.
    pub fn replace(&self, pairs: Vec<KeyPair>) -> Result<Reloaded, Error> {
        if self.certificates.loaded.lock().pairs == pairs {
            return self.reload();
        }
        let (loaded, certificates) = open(pairs)?;
        *self.certificates.loaded.lock() = loaded;
        self.certificates.replace(certificates);
        Ok(Reloaded::Changed)
    }

    /// Replaces the certificates for new handshakes. Established connections and sessions that are
    /// resumed are not affected.
    pub fn set_certificates(&self, certificates: Vec<ServerCertificate>) {
        *self.certificates.loaded.lock() = LoadedFiles::default();
        self.certificates.replace(certificates.into());
    }

    /// Returns the certificates.
    pub fn certificates(&self) -> Vec<ServerCertificate> {
        self.certificates.current().to_vec()
    }

    /// Answers a TLS-ALPN-01 challenge for `name` from now on (RFC 8737): a client that offers the
    /// protocol `acme-tls/1` alone gets a certificate with `digest`, the SHA-256 digest of the key
    /// authorization. All other clients are served as before.
    ///
    /// # Errors
    ///
    /// [`Error::Setting`] if `name` is not a host name.
    pub fn add_acme_challenge(&self, name: &str, digest: &[u8; 32]) -> Result<(), Error> {
        self.challenges.add(name, digest)
    }

    /// Answers the challenge for `name` no more.
    pub fn remove_acme_challenge(&self, name: &str) {
        self.challenges.remove(name);
    }

    /// Returns the keys of session tickets, for a process that continues the sessions of this one; see
    /// [`set_ticket_keys`](Self::set_ticket_keys).
    pub fn ticket_keys(&self) -> TicketKeys {
        self.ticketer.keys()
    }

    /// Replaces the keys of session tickets by those of another process, whose sessions can then be
    /// resumed.
    pub fn set_ticket_keys(&self, keys: TicketKeys) {
        self.ticketer.replace(keys);
    }

    /// Replaces the key of session tickets if its time is over, also while no client connects.
    pub(crate) fn rotate_ticket_keys(&self) {
        self.ticketer.rotate_if_due(Instant::now());
    }

    /// As [`reload`](Self::reload), but files whose last read failed are not read again before they
    /// change.
    pub(crate) fn reload_if_changed(&self) -> Result<Reloaded, Error> {
        let is_unchanged = {
            let loaded = self.certificates.loaded.lock();
            loaded.stamps == FileStamps::of(&loaded.pairs)
        };
        if is_unchanged {
            Ok(Reloaded::Unchanged)
        } else {
            self.reload()
        }
    }

    /// Describes each certificate in one line: its names and the day on which it expires.
    pub fn describe(&self) -> Vec<String> {
        let current = self.certificates.current();
        current.iter().map(ServerCertificate::describe).collect()
    }

    /// Returns warnings about certificates that expire within two weeks, and about keys that all users
    /// of the machine can read.
    pub fn warnings(&self) -> Vec<String> {
        let current = self.certificates.current();
        let loaded = self.certificates.loaded.lock();
        let files = loaded.pairs.iter();
        let mut warnings: Vec<_> = files
            .filter_map(certificate::world_readable_key_warning)
            .collect();
        warnings.extend(current.iter().filter_map(ServerCertificate::expiry_warning));
        warnings
    }

    /// Returns what begins the sessions of a server.
    pub(crate) fn acceptor(&self, http2: Http2) -> TlsAcceptor {
        TlsAcceptor::new(
            &self.config,
            Arc::clone(&self.certificates),
            Arc::clone(&self.challenges),
            http2,
        )
    }
}

fn open(pairs: Vec<KeyPair>) -> Result<(LoadedFiles, Arc<[ServerCertificate]>), Error> {
    if pairs.is_empty() {
        let text = "TLS: a certificate and its key are required";
        return Err(Error::Setting(text.to_owned()));
    }
    let stamps = FileStamps::of(&pairs);
    let certificates = read(&pairs)?;
    let loaded = LoadedFiles {
        pairs,
        stamps,
        failed: false,
    };
    Ok((loaded, certificates))
}

fn read(pairs: &[KeyPair]) -> Result<Arc<[ServerCertificate]>, Error> {
    pairs.iter().map(ServerCertificate::read).collect()
}

#[cfg(test)]
pub(crate) mod tests;
