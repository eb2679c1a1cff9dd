//! Who this server is, to clients that speak TLS: certificates with their keys, chosen by the name
//! that is asked for (SNI, RFC 6066 §3), and exchanged while it serves.
//!
//! Protocol and suites are rustls's own choice: TLS 1.2 and 1.3, with forward secrecy and
//! authenticated encryption only. Sessions are resumed with tickets (RFC 8446 §4.6.1, RFC 5077),
//! whose keys live as long as the process and are changed every six hours. How bytes get to a socket
//! is the business of `net`.

mod certificate;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::error::Error;
use certificate::{Identity, Stamps};

/// A certificate and its key, as files in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyPair {
    /// The server's own certificate, and behind it those that lead to one that clients know.
    pub certificate: PathBuf,
    /// Its private key, in PKCS #8, PKCS #1 or SEC 1, not encrypted. It may lie in the same file.
    pub key: PathBuf,
}

/// What a server needs to speak TLS. Clones are handles on the same certificates.
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
    config: Arc<ServerConfig>,
}

/// Whether there was anything new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reloaded {
    /// New handshakes get new certificates. Established connections keep what they have.
    Changed,
    /// The files are what they were.
    Unchanged,
}

impl Tls {
    /// Reads certificates and keys. A client gets the first whose certificate has the name that it
    /// asks for, and for a name that none has, or no name, the first of all. Several may have the
    /// same names and keys of different kinds.
    ///
    /// # Errors
    ///
    /// [`Error::Path`] if a file cannot be read, [`Error::Setting`] if it has no certificate or key
    /// in it, if the two do not belong together, or if the certificate has expired or is not valid
    /// yet.
    pub fn open(pairs: Vec<KeyPair>) -> Result<Self, Error> {
        let (known, identities) = open(pairs)?;
        Self::with(Certificates {
            known: Mutex::new(known),
            current: RwLock::new(identities),
        })
    }

    /// Makes a certificate for these names and addresses on the spot, valid for a year and known to
    /// nobody: clients warn of it. For a try-out.
    ///
    /// # Errors
    ///
    /// [`Error::Setting`] for what is neither a host name nor an address.
    pub fn self_signed(names: &[String]) -> Result<Self, Error> {
        Self::with(Certificates {
            known: Mutex::default(),
            current: RwLock::new(Arc::new([Identity::self_signed(names)?])),
        })
    }

    fn with(certificates: Certificates) -> Result<Self, Error> {
        let failed = |error: rustls::Error| Error::Setting(format!("TLS: {error}"));
        let certificates = Arc::new(certificates);
        let resolver: Arc<dyn ResolvesServerCert> = Arc::<Certificates>::clone(&certificates);
        // Named, so that another crate's choice of a process-wide one changes nothing.
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(failed)?
            .with_no_client_auth()
            .with_cert_resolver(resolver);
        config.ticketer = ring::Ticketer::new().map_err(failed)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self {
            certificates,
            config: Arc::new(config),
        })
    }

    /// Reads the files again if they have changed: replaced, written, or behind a link that leads
    /// elsewhere now, as certbot has it. A server looks by itself every few seconds.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open); the certificates stay as they are then.
    pub fn reload(&self) -> Result<Reloaded, Error> {
        let mut known = self.certificates.known();
        let stamps = Stamps::of(&known.pairs);
        if known.stamps == stamps && !known.complained {
            return Ok(Reloaded::Unchanged);
        }
        known.stamps = stamps;
        known.complained = true;
        let identities = read(&known.pairs)?;
        known.complained = false;
        self.certificates.exchange(identities);
        Ok(Reloaded::Changed)
    }

    /// Reads these certificates and keys from now on; if they are those of before, only
    /// [`reload`](Self::reload)s them.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open); the certificates, and where they come from, stay as they are then.
    pub fn replace(&self, pairs: Vec<KeyPair>) -> Result<Reloaded, Error> {
        if self.certificates.known().pairs == pairs {
            return self.reload();
        }
        let (known, identities) = open(pairs)?;
        *self.certificates.known() = known;
        self.certificates.exchange(identities);
        Ok(Reloaded::Changed)
    }

    /// [`reload`](Self::reload), if there is anything that was not tried yet.
    pub(crate) fn look(&self) -> Result<Reloaded, Error> {
        let tried = {
            let known = self.certificates.known();
            known.stamps == Stamps::of(&known.pairs)
        };
        match tried {
            true => Ok(Reloaded::Unchanged),
            false => self.reload(),
        }
    }

    /// What is served, for people: each certificate's names and the day on which it expires.
    pub fn describe(&self) -> Vec<String> {
        let current = self.certificates.current();
        current.iter().map(Identity::describe).collect()
    }

    /// What should be said about the certificates before somebody else notices: those that expire
    /// within two weeks, and keys that everybody on this machine can read.
    pub fn warnings(&self) -> Vec<String> {
        let current = self.certificates.current();
        let known = self.certificates.known();
        let files = known.pairs.iter();
        let mut warnings: Vec<_> = files.filter_map(certificate::open_to_all).collect();
        warnings.extend(current.iter().filter_map(Identity::expires_soon));
        warnings
    }

    pub(crate) fn config(&self) -> &Arc<ServerConfig> {
        &self.config
    }
}

fn open(pairs: Vec<KeyPair>) -> Result<(Known, Arc<[Identity]>), Error> {
    if pairs.is_empty() {
        let text = "TLS: a certificate and its key are required";
        return Err(Error::Setting(text.to_owned()));
    }
    let stamps = Stamps::of(&pairs);
    let identities = read(&pairs)?;
    let known = Known {
        pairs,
        stamps,
        complained: false,
    };
    Ok((known, identities))
}

fn read(pairs: &[KeyPair]) -> Result<Arc<[Identity]>, Error> {
    pairs.iter().map(Identity::read).collect()
}

/// The certificates there are, and where they come from.
#[derive(Debug)]
struct Certificates {
    known: Mutex<Known>,
    current: RwLock<Arc<[Identity]>>,
}

/// What was read last.
#[derive(Debug, Default)]
struct Known {
    /// Empty if they come from nowhere.
    pairs: Vec<KeyPair>,
    stamps: Stamps,
    /// It was of no use.
    complained: bool,
}

impl Certificates {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn current(&self) -> Arc<[Identity]> {
        let current = self.current.read();
        Arc::clone(&current.unwrap_or_else(PoisonError::into_inner))
    }

    fn exchange(&self, identities: Arc<[Identity]>) {
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        *current = identities;
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let identities = self.current();
        let schemes = hello.signature_schemes();
        let usable = |identity: &&Identity| identity.can_sign(schemes);
        let name = hello.server_name().map(str::to_ascii_lowercase);
        let named = |identity: &&Identity| {
            let name = name.as_deref();
            name.is_some_and(|name| identity.is_for(name))
        };
        let chosen = identities
            .iter()
            .find(|identity| named(identity) && usable(identity))
            .or_else(|| identities.iter().find(usable))
            .or(identities.first());
        chosen.map(Identity::key)
    }
}
