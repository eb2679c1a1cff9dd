//! The names with what is served for them: the certificate in the folder of the name, or a self-signed
//! one until there is any, and the answer to the challenge in that folder. Other processes change these
//! files, too, so they are looked at each second.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use tws::admin::{CertificateError, CertificateStatus};
use tws::{Error, KeyPair, ServerCertificate, Tls};

use crate::acme::{
    CaStore, CertificateInfo, ChallengeFile, ChallengeType, IdentityStore, digest_of, unix_now,
};
use crate::services::http_challenges::HttpChallenges;
use crate::sync::Mutex;

/// What all threads share.
pub(super) struct Identities {
    ca: CaStore,
    pub(super) tls: Tls,
    pub(super) http: HttpChallenges,
    all: Mutex<Vec<Identity>>,
}

/// A name that is served.
struct Identity {
    store: IdentityStore,
    /// Served until there is another one.
    self_signed: ServerCertificate,
    issued: Option<ServerCertificate>,
    certificate_stamp: Option<FileStamp>,
    challenge: Option<ChallengeFile>,
    challenge_stamp: Option<FileStamp>,
}

/// The metadata by which a replaced file is recognised.
#[derive(Clone, Copy, PartialEq, Eq)]
struct FileStamp([i64; 5]);

impl FileStamp {
    fn of(path: &Path) -> Option<Self> {
        let metadata = fs::metadata(path).ok()?;
        Some(Self([
            metadata.dev().cast_signed(),
            metadata.ino().cast_signed(),
            metadata.size().cast_signed(),
            metadata.mtime(),
            metadata.mtime_nsec(),
        ]))
    }
}

impl Identities {
    /// Serves self-signed certificates. Reads nothing.
    pub(super) fn new(ca: CaStore, names: &[String]) -> Result<Self, Error> {
        let all: Result<Vec<_>, Error> =
            names.iter().map(|name| Identity::new(&ca, name)).collect();
        let all = all?;
        let tls = Tls::with_certificates(all.iter().map(Identity::served).collect())?;
        Ok(Self {
            ca,
            tls,
            http: HttpChallenges::new(),
            all: Mutex::new(all),
        })
    }

    /// Replaces the names. Those that stay keep their certificates.
    pub(super) fn set_names(&self, names: &[String]) -> Result<(), Error> {
        let mut all = self.all.lock();
        let mut new = Vec::new();
        for name in names {
            match all.iter().position(|it| it.store.name() == name) {
                Some(at) => new.push(all.swap_remove(at)),
                None => {
                    let mut identity = Identity::new(&self.ca, name)?;
                    identity.store.create()?;
                    identity.reload();
                    new.push(identity);
                }
            }
        }
        for gone in all.iter() {
            self.tls.remove_acme_challenge(gone.store.name());
            self.http.remove(gone.store.name());
        }
        *all = new;
        self.serve(&all);
        Ok(())
    }

    pub(super) fn stores(&self) -> Vec<IdentityStore> {
        self.all.lock().iter().map(|it| it.store.clone()).collect()
    }

    /// Reads the files that have changed, and serves what they contain.
    pub(super) fn refresh(&self) {
        let mut all = self.all.lock();
        let mut is_changed = false;
        for identity in all.iter_mut() {
            is_changed |= identity.reload();
            self.refresh_challenge(identity);
        }
        if is_changed {
            self.serve(&all);
        }
    }

    /// As [`refresh`](Self::refresh), for the challenge of one name.
    pub(super) fn answer_challenge(&self, name: &str) {
        let mut all = self.all.lock();
        let identity = all.iter_mut().find(|it| it.store.name() == name);
        if let Some(identity) = identity {
            self.refresh_challenge(identity);
        }
    }

    fn serve(&self, all: &[Identity]) {
        let certificates = all.iter().map(Identity::served).collect();
        self.tls.set_certificates(certificates);
    }

    fn refresh_challenge(&self, identity: &mut Identity) {
        let stamp = FileStamp::of(&identity.store.challenge_path());
        if stamp == identity.challenge_stamp {
            return;
        }
        identity.challenge_stamp = stamp;
        let name = identity.store.name();
        let challenge = identity.store.read_challenge().unwrap_or_else(|error| {
            log::error!("acme: {name}: {error}");
            None
        });
        self.tls.remove_acme_challenge(name);
        self.http.remove(name);
        if let Some(challenge) = &challenge {
            let authorization = &challenge.key_authorization;
            match challenge.kind {
                ChallengeType::TlsAlpn01 => {
                    let digest = digest_of(authorization);
                    if let Err(error) = self.tls.add_acme_challenge(name, &digest) {
                        log::error!("acme: {name}: {error}");
                    }
                }
                ChallengeType::Http01 => self.http.add(name, &challenge.token, authorization),
            }
        }
        identity.challenge = challenge;
    }

    /// Returns the state of each name, from its files.
    pub(super) fn statuses(&self) -> Vec<CertificateStatus> {
        self.stores().iter().map(status).collect()
    }
}

impl Identity {
    fn new(ca: &CaStore, name: &str) -> Result<Self, Error> {
        Ok(Self {
            store: ca.identity(name),
            self_signed: ServerCertificate::self_signed(&[name.to_owned()])?,
            issued: None,
            certificate_stamp: None,
            challenge: None,
            challenge_stamp: None,
        })
    }

    fn served(&self) -> ServerCertificate {
        self.issued.as_ref().unwrap_or(&self.self_signed).clone()
    }

    /// Reads the certificate if its file has changed. Returns true if another one is to be served. A
    /// file that cannot be used leaves the present certificate in use.
    fn reload(&mut self) -> bool {
        let path = self.store.certificate_path();
        let stamp = FileStamp::of(&path);
        if stamp == self.certificate_stamp {
            return false;
        }
        self.certificate_stamp = stamp;
        let name = self.store.name();
        if stamp.is_none() {
            log::warn!("acme: {name}: the certificate was removed");
            return self.issued.take().is_some();
        }
        let pair = KeyPair {
            certificate: path.clone(),
            key: path,
        };
        match ServerCertificate::read(&pair) {
            Ok(certificate) => {
                self.issued = Some(certificate);
                true
            }
            Err(error) => {
                log::error!("acme: {name}: {error}; a new one is requested");
                false
            }
        }
    }

    /// Returns whether a certificate was issued that can be served.
    fn is_issued(&self) -> bool {
        self.issued.is_some()
    }
}

impl Identities {
    /// Returns whether an issued certificate is served for a name.
    pub(super) fn has_issued(&self, name: &str) -> bool {
        let all = self.all.lock();
        all.iter()
            .any(|it| it.store.name() == name && it.is_issued())
    }

    /// Returns the names that are served with a self-signed certificate.
    pub(super) fn self_signed_names(&self) -> Vec<String> {
        let all = self.all.lock();
        let without = all.iter().filter(|it| !it.is_issued());
        without.map(|it| it.store.name().to_owned()).collect()
    }
}

/// Returns the state of a name, from its files.
pub(crate) fn status(store: &IdentityStore) -> CertificateStatus {
    let pem = store.read_certificate().ok().flatten();
    let info = pem.as_deref().and_then(CertificateInfo::from_pem);
    let mut status = CertificateStatus::new(store.name());
    status.not_after = info.map(|info| info.validity.not_after);
    match store.read_state() {
        Ok(state) => {
            status.renew_at = state.plan.as_ref().map(|plan| plan.renew_at);
            status.next_attempt = state.next_attempt.filter(|_| state.last_failure.is_some());
            status.last_error = state.last_failure.map(|failure| CertificateError {
                at: failure.at,
                kind: failure.kind,
                message: failure.message,
            });
        }
        Err(error) => {
            status.last_error = Some(CertificateError {
                at: unix_now(),
                kind: "state".to_owned(),
                message: error.to_string(),
            });
        }
    }
    status
}
