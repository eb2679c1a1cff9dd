//! A certificate with its key: reading, validation and the names it is valid for.

use std::fs::{self, Metadata};
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use rcgen::CertificateParams;
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{InconsistentKeys, SignatureScheme};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::key_pair::KeyPair;
use super::pem::{PemSection, sections};
use crate::error::Error;

/// The limit of a certificate or key file, in bytes; a long certificate chain is far smaller.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// A certificate that expires within this time causes a warning, in seconds. Let's Encrypt's clients
/// renew thirty days before expiry.
const EXPIRY_WARNING: i64 = 14 * 24 * 3600;

/// The validity of a generated self-signed certificate, in seconds.
const SELF_SIGNED_VALIDITY: i64 = 365 * 24 * 3600;

/// A certificate chain with its private key.
#[derive(Clone, Debug)]
pub struct ServerCertificate {
    key: Arc<CertifiedKey>,
    /// DNS names in lower case, which may begin with `*.`, and IP addresses.
    names: Vec<String>,
    /// In seconds since 1970.
    not_after: i64,
    /// The origin of the certificate for messages: its path, or "self-signed".
    origin: String,
}

impl ServerCertificate {
    /// Reads a certificate and its key.
    ///
    /// # Errors
    ///
    /// As [`Tls::open`](crate::Tls::open).
    pub fn read(pair: &KeyPair) -> Result<Self, Error> {
        let chain = chain(&pair.certificate)?;
        let key = key(&pair.key)?;
        let origin = pair.certificate.display().to_string();
        let leaf = chain
            .first()
            .ok_or_else(|| no_certificate_in(&pair.certificate))?;
        let CertificateInfo {
            names,
            not_before,
            not_after,
        } = CertificateInfo::of(leaf).ok_or_else(|| {
            Error::Setting(format!("{origin}: the first certificate cannot be parsed"))
        })?;
        let now = Timestamp::now().as_second();
        if now >= not_after {
            let day = day(not_after);
            return Err(Error::Setting(format!(
                "the certificate {origin} expired on {day}; renew it"
            )));
        }
        if now < not_before {
            let day = day(not_before);
            return Err(Error::Setting(format!(
                "the certificate {origin} is not valid before {day}; check the clock, or wait"
            )));
        }
        let key_error = |error: rustls::Error| match error {
            rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => format!(
                "the key {} does not match the certificate {origin}; use the pair that was issued \
                 together, with the server's own certificate first in its file",
                pair.key.display()
            ),
            error => format!(
                "the key {} cannot be used: {error}; use RSA of at least 2048 bits, ECDSA (P-256, \
                 P-384) or Ed25519",
                pair.key.display()
            ),
        };
        let key = CertifiedKey::from_der(chain, key, &ring::default_provider())
            .map_err(|error| Error::Setting(key_error(error)))?;
        Ok(Self {
            key: Arc::new(key),
            names,
            not_after,
            origin,
        })
    }

    /// Generates a self-signed certificate, as [`Tls::self_signed`](crate::Tls::self_signed) does.
    ///
    /// # Errors
    ///
    /// [`Error::Setting`] if a name is neither a host name nor an IP address.
    pub fn self_signed(names: &[String]) -> Result<Self, Error> {
        let now = Timestamp::now().as_second();
        let date = |seconds| {
            let time = Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX);
            let date = time.to_zoned(TimeZone::UTC).date();
            let (month, day) = (date.month().unsigned_abs(), date.day().unsigned_abs());
            rcgen::date_time_ymd(date.year().into(), month, day)
        };
        let failed = |error: &dyn std::fmt::Display| {
            Error::Setting(format!(
                "TLS: cannot create a certificate for {names:?}: {error}"
            ))
        };
        let mut params = CertificateParams::new(names).map_err(|error| failed(&error))?;
        // The client's clock may be behind.
        params.not_before = date(now - 24 * 3600);
        params.not_after = date(now + SELF_SIGNED_VALIDITY);
        params.distinguished_name = rcgen::DistinguishedName::new();
        let name = names.first().map_or("tws", String::as_str);
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, name);
        let key = Self::sign_itself(&params).map_err(|error| failed(&error))?;
        Ok(Self {
            key: Arc::new(key),
            names: names.iter().map(|name| name.to_ascii_lowercase()).collect(),
            not_after: now + SELF_SIGNED_VALIDITY,
            origin: "self-signed".to_owned(),
        })
    }

    /// Generates a key, and signs a certificate with it.
    pub(super) fn sign_itself(
        params: &CertificateParams,
    ) -> Result<CertifiedKey, Box<dyn std::error::Error>> {
        let key = rcgen::KeyPair::generate()?;
        let chain = vec![params.self_signed(&key)?.der().clone()];
        let key = PrivateKeyDer::try_from(key.serialize_der())?;
        // Not `from_der`, which rejects the critical extension of a challenge.
        let key = ring::sign::any_supported_type(&key)?;
        Ok(CertifiedKey::new(chain, key))
    }

    /// Returns the DNS names in lower case, which may begin with `*.`, and the IP addresses.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Returns when the certificate expires, in seconds since 1970.
    pub fn not_after(&self) -> i64 {
        self.not_after
    }

    /// Returns whether the certificate is valid for a name in lower case. A `*` matches one label
    /// (RFC 9525 §6.3).
    pub(super) fn is_for(&self, name: &str) -> bool {
        let parent_domain = name.split_once('.').map(|(_, rest)| rest);
        self.names
            .iter()
            .any(|own| match (own.strip_prefix("*."), parent_domain) {
                (Some(suffix), Some(rest)) => suffix == rest,
                _ => own == name,
            })
    }

    pub(super) fn can_sign(&self, schemes: &[SignatureScheme]) -> bool {
        self.key.key.choose_scheme(schemes).is_some()
    }

    pub(super) fn key(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.key)
    }

    pub(super) fn describe(&self) -> String {
        let names = match &self.names[..] {
            [] => "no name".to_owned(),
            names => names.join(", "),
        };
        format!(
            "{}: {names}, valid until {}",
            self.origin,
            day(self.not_after)
        )
    }

    pub(super) fn expiry_warning(&self) -> Option<String> {
        let left = self.not_after - Timestamp::now().as_second();
        let text = || {
            format!(
                "the certificate {} expires on {}; renew it",
                self.origin,
                day(self.not_after)
            )
        };
        (left < EXPIRY_WARNING).then(text)
    }
}

/// Returns a warning if all users of the machine can read the key.
pub(super) fn world_readable_key_warning(pair: &KeyPair) -> Option<String> {
    let metadata = fs::metadata(&pair.key).ok()?;
    let path = pair.key.display();
    (metadata.mode() & 0o004 != 0).then(|| {
        format!("the key {path} is readable by all users of this machine; run `chmod o= {path}`")
    })
}

/// The metadata by which a changed or replaced file is recognised.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct FileStamps(Vec<Option<[i64; 6]>>);

impl FileStamps {
    pub(super) fn of(pairs: &[KeyPair]) -> Self {
        let stamp = |path: &Path| fs::metadata(path).ok().map(|metadata| stamp(&metadata));
        let both = |pair: &KeyPair| [stamp(&pair.certificate), stamp(&pair.key)];
        Self(pairs.iter().flat_map(both).collect())
    }
}

fn stamp(metadata: &Metadata) -> [i64; 6] {
    [
        metadata.dev().cast_signed(),
        metadata.ino().cast_signed(),
        metadata.size().cast_signed(),
        metadata.mtime(),
        metadata.mtime_nsec(),
        metadata.ctime_nsec(),
    ]
}

/// The fields of a certificate that are used.
struct CertificateInfo {
    names: Vec<String>,
    not_before: i64,
    not_after: i64,
}

impl CertificateInfo {
    fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
        let alternatives = certificate.subject_alternative_name().ok().flatten();
        let alternatives = alternatives.map(|extension| &extension.value.general_names);
        let name = |name: &GeneralName<'_>| match name {
            GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
            GeneralName::IPAddress(octets) => address(octets).map(|address| address.to_string()),
            _ => None,
        };
        Some(Self {
            names: alternatives
                .into_iter()
                .flatten()
                .filter_map(name)
                .collect(),
            not_before: certificate.validity().not_before.timestamp(),
            not_after: certificate.validity().not_after.timestamp(),
        })
    }
}

fn address(octets: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(octets).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(octets).map(IpAddr::from))
        .ok()
}

fn chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let text = read("read the certificate", path)?;
    let mut chain = Vec::new();
    for section in sections(path, &text)? {
        if section.label != "CERTIFICATE" {
            continue;
        }
        let certificate: CertificateDer<'static> = section.parse(path)?;
        // The caller describes what is wrong with the first one.
        if !chain.is_empty() && X509Certificate::from_der(&certificate).is_err() {
            return Err(Error::Setting(format!(
                "{}:{}: this certificate cannot be parsed; remove or replace it",
                path.display(),
                section.line
            )));
        }
        chain.push(certificate);
    }
    if chain.is_empty() {
        return Err(no_certificate_in(path));
    }
    Ok(chain)
}

fn no_certificate_in(path: &Path) -> Error {
    Error::Setting(format!(
        "{} contains no certificate (PEM, -----BEGIN CERTIFICATE-----)",
        path.display()
    ))
}

fn key(path: &Path) -> Result<PrivateKeyDer<'static>, Error> {
    let text = read("read the key", path)?;
    let has = |words: &str| memchr::memmem::find(&text, words.as_bytes()).is_some();
    let sections = sections(path, &text)?;
    let is_key = |section: &&PemSection<'_>| section.label.ends_with("PRIVATE KEY");
    let key = sections.iter().find(is_key).map(|key| key.parse(path));
    match key {
        Some(Ok(key)) => Ok(key),
        _ if has("ENCRYPTED") => Err(Error::Setting(format!(
            "the key {0} is encrypted; `openssl pkey -in {0} -out FILE` writes it without a \
             passphrase",
            path.display()
        ))),
        Some(Err(error)) => Err(error),
        None => Err(Error::Setting(format!(
            "{} contains no private key (PEM, -----BEGIN PRIVATE KEY-----)",
            path.display()
        ))),
    }
}

fn read(purpose: &'static str, path: &Path) -> Result<Vec<u8>, Error> {
    let read = || {
        let metadata = fs::metadata(path)?;
        match metadata.len() {
            _ if metadata.is_dir() => Err(io::ErrorKind::IsADirectory.into()),
            // Opening a FIFO would block.
            _ if !metadata.is_file() => Err(io::Error::other("not a regular file")),
            ..=MAX_FILE_BYTES => fs::read(path),
            _ => Err(io::Error::other("the file is too large (limit 1 MiB)")),
        }
    };
    read().map_err(|source| Error::path(purpose, path, source))
}

fn day(seconds: i64) -> String {
    let time = Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX);
    time.strftime("%Y-%m-%d").to_string()
}
