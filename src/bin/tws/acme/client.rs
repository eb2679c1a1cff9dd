//! Requests to a certificate authority: HTTPS, nonces and signatures (RFC 8555 §6). Sizes, waiting times
//! and repetitions are bounded, whatever it responds.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tws::Error;
use ureq::http::HeaderMap;
use ureq::tls::{Certificate, RootCerts, TlsConfig, TlsProvider};
use ureq::{Agent, Body};

use super::AcmeError;
use super::jws::{AccountKey, ExternalAccount, SignedBy};
use super::messages::{Directory, Problem, RenewalInfo, printable};
use super::store::{AccountFile, CaStore};

/// The time that a request may take, with its response.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The limit of a response, in bytes. A certificate with its intermediates has about 5 KB.
const MAX_RESPONSE_BYTES: u64 = 256 * 1024;

/// How often a request is repeated whose nonce was rejected. A nonce is rejected if it is too old, or
/// known only to another one of several servers.
const MAX_NONCE_ATTEMPTS: usize = 20;

/// The limit of a URL from a response, in bytes.
const MAX_URL_BYTES: usize = 2048;

/// The root certificates that a certificate authority's server is verified with.
#[derive(Clone)]
pub(crate) enum CaRoots {
    /// Those of Mozilla, which are part of the program.
    Public,
    /// Those of a private certificate authority.
    Private(Vec<CertificateDer<'static>>),
}

impl CaRoots {
    /// Parses root certificates in PEM. `path` is for the error.
    pub(crate) fn from_pem(pem: &[u8], path: &Path) -> Result<Self, Error> {
        let failed =
            |text: String| Error::path("read the root certificate", path, io::Error::other(text));
        let roots: Result<Vec<CertificateDer<'static>>, _> =
            CertificateDer::pem_slice_iter(pem).collect();
        let roots = roots.map_err(|error| failed(error.to_string()))?;
        if roots.is_empty() {
            let text = "the file contains no certificate (PEM, -----BEGIN CERTIFICATE-----)";
            return Err(failed(text.to_owned()));
        }
        for root in &roots {
            if webpki_error(root) {
                let text = "a certificate in the file cannot be parsed; replace it";
                return Err(failed(text.to_owned()));
            }
        }
        Ok(Self::Private(roots))
    }
}

/// Returns whether rustls cannot use a root certificate. It would be skipped silently.
fn webpki_error(root: &CertificateDer<'static>) -> bool {
    rustls::RootCertStore::empty().add(root.clone()).is_err()
}

/// A client of one certificate authority, with an account.
pub(crate) struct Client {
    agent: Agent,
    directory_url: String,
    directory: Option<Directory>,
    /// Of the last response, for the next request.
    nonce: Option<String>,
    account: Option<Account>,
}

struct Account {
    key: AccountKey,
    url: String,
}

/// A response without an error.
pub(super) struct CaResponse {
    pub(super) location: Option<String>,
    /// In seconds.
    pub(super) retry_after: Option<u64>,
    pub(super) content: Vec<u8>,
}

impl CaResponse {
    pub(super) fn json<T: DeserializeOwned>(&self) -> Result<T, AcmeError> {
        serde_json::from_slice(&self.content)
            .map_err(|error| AcmeError::Protocol(printable(&error.to_string())))
    }
}

impl Client {
    pub(crate) fn new(directory_url: &str, roots: &CaRoots) -> Self {
        let roots = match roots {
            CaRoots::Public => RootCerts::WebPki,
            CaRoots::Private(roots) => {
                let roots: Vec<_> = roots
                    .iter()
                    .map(|root| Certificate::from_der(root))
                    .collect();
                let roots: Vec<_> = roots.iter().map(Certificate::to_owned).collect();
                RootCerts::new_with_certs(&roots)
            }
        };
        let tls = TlsConfig::builder()
            .provider(TlsProvider::Rustls)
            .unversioned_rustls_crypto_provider(Arc::new(ring::default_provider()))
            .root_certs(roots)
            .build();
        let config = Agent::config_builder()
            .tls_config(tls)
            .https_only(true)
            // A redirect would not match the URL in the signature.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .http_status_as_error(false)
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_global(Some(REQUEST_TIMEOUT))
            .user_agent(concat!("tws/", env!("CARGO_PKG_VERSION")))
            .build();
        Self {
            agent: config.into(),
            directory_url: directory_url.to_owned(),
            directory: None,
            nonce: None,
            account: None,
        }
    }

    /// Requests the URLs of the resources.
    pub(super) fn open_directory(&mut self) -> Result<&Directory, AcmeError> {
        let url = self.directory_url.clone();
        let directory: Directory = self.get(&url)?.json()?;
        Ok(self.directory.insert(directory))
    }

    fn directory(&mut self) -> Result<Directory, AcmeError> {
        match &self.directory {
            Some(directory) => Ok(directory.clone()),
            None => self.open_directory().cloned(),
        }
    }

    /// Finds the account or creates one. The key is stored first, so that a process that ends meanwhile
    /// leaves no account behind whose key is lost.
    pub(crate) fn open_account(
        &mut self,
        store: &CaStore,
        email: Option<&str>,
        external: Option<&ExternalAccount>,
    ) -> Result<(), AcmeError> {
        if self.account.is_some() {
            return Ok(());
        }
        let _lock = store.lock_account()?;
        let pem = match store.read_account_key()? {
            Some(pem) => pem,
            None => {
                let key = rcgen::KeyPair::generate();
                let pem = key.map_err(|error| AcmeError::Protocol(error.to_string()))?;
                let pem = pem.serialize_pem();
                store.write_account_key(&pem)?;
                pem.into_bytes()
            }
        };
        let key = AccountKey::from_pem(&pem).map_err(|error| {
            AcmeError::Protocol(format!(
                "the account key in {} is damaged: {error}; restore or remove it",
                store.folder().display()
            ))
        })?;
        let stored = store.read_account()?;
        let is_current = |account: &&AccountFile| account.email.as_deref() == email;
        if let Some(account) = stored.as_ref().filter(is_current) {
            let url = account.url.clone();
            self.account = Some(Account { key, url });
            return Ok(());
        }
        let contact: Vec<_> = email
            .iter()
            .map(|email| format!("mailto:{email}"))
            .collect();
        let contact = json!({ "contact": contact });
        let url = match stored {
            Some(AccountFile { url, .. }) => {
                let signed_by = SignedBy::Account(&url);
                self.post_as(&key, signed_by, &url, Some(&contact))?;
                url
            }
            None => self.create_account(&key, contact, external)?,
        };
        store.write_account(&AccountFile {
            url: url.clone(),
            email: email.map(str::to_owned),
        })?;
        self.account = Some(Account { key, url });
        Ok(())
    }

    /// Uses the stored account.
    pub(crate) fn open_known_account(&mut self, store: &CaStore) -> Result<(), AcmeError> {
        let (Some(pem), Some(account)) = (store.read_account_key()?, store.read_account()?) else {
            return Err(no_account());
        };
        let key = AccountKey::from_pem(&pem).map_err(AcmeError::Protocol)?;
        let url = account.url;
        self.account = Some(Account { key, url });
        Ok(())
    }

    /// RFC 8555 §7.3. An account that exists is found by its key.
    fn create_account(
        &mut self,
        key: &AccountKey,
        mut payload: Value,
        external: Option<&ExternalAccount>,
    ) -> Result<String, AcmeError> {
        let directory = self.directory()?;
        let url = directory.new_account;
        payload["termsOfServiceAgreed"] = true.into();
        match external {
            Some(external) => payload["externalAccountBinding"] = key.bind(external, &url),
            None if directory.meta.external_account_required => {
                let text = "an external account is required; give its identifier and key with \
                            --acme-eab";
                let problem = Problem::new("externalAccountRequired", text.to_owned());
                return Err(AcmeError::Problem(problem));
            }
            None => {}
        }
        let response = self.post_as(key, SignedBy::Key, &url, Some(&payload))?;
        let location = response.location;
        let location = location.ok_or_else(|| missing("the URL of the account"))?;
        if let Some(terms) = directory.meta.terms_of_service {
            log::warn!(
                "acme: account created; its terms of service: {}",
                printable(&terms)
            );
        }
        Ok(location)
    }

    /// Forgets the account, which the certificate authority does not know any more.
    pub(super) fn forget_account(&mut self, store: &CaStore) -> Result<(), AcmeError> {
        self.account = None;
        Ok(store.remove_account()?)
    }

    pub(super) fn account_key(&self) -> Result<&AccountKey, AcmeError> {
        let account = self.account.as_ref().ok_or_else(no_account)?;
        Ok(&account.key)
    }

    /// Sends a signed request; a payload of `None` is a POST-as-GET.
    pub(super) fn post(
        &mut self,
        url: &str,
        payload: Option<&Value>,
    ) -> Result<CaResponse, AcmeError> {
        let account = self.account.take().ok_or_else(no_account)?;
        let signed_by = SignedBy::Account(&account.url);
        let result = self.post_as(&account.key, signed_by, url, payload);
        self.account = Some(account);
        result
    }

    /// Revokes a certificate in PEM (RFC 8555 §7.6). One that is revoked already is no error.
    pub(crate) fn revoke(&mut self, pem: &[u8]) -> Result<(), AcmeError> {
        let der = CertificateDer::from_pem_slice(pem);
        let der = der.map_err(|error| AcmeError::Protocol(error.to_string()))?;
        let url = self.directory()?.revoke_cert;
        let payload = json!({ "certificate": super::jws::base64url(der) });
        match self.post(&url, Some(&payload)) {
            Err(AcmeError::Problem(problem)) if problem.is("alreadyRevoked") => Ok(()),
            result => result.map(drop),
        }
    }

    /// Requests renewal information (RFC 9773 §4.1), with the time after which to ask again. `None` if
    /// the certificate authority has none.
    pub(super) fn renewal_info(
        &mut self,
        id: &str,
    ) -> Result<Option<(RenewalInfo, Option<u64>)>, AcmeError> {
        let Some(url) = self.open_directory()?.renewal_info.clone() else {
            return Ok(None);
        };
        let response = self.get(&format!("{}/{id}", url.trim_end_matches('/')))?;
        Ok(Some((response.json()?, response.retry_after)))
    }

    fn post_as(
        &mut self,
        key: &AccountKey,
        signed_by: SignedBy<'_>,
        url: &str,
        payload: Option<&Value>,
    ) -> Result<CaResponse, AcmeError> {
        let mut attempt = 1;
        loop {
            let nonce = self.take_nonce()?;
            let request = key.request(url, &nonce, signed_by, payload);
            let request = request.map_err(AcmeError::Protocol)?;
            let sent = self
                .agent
                .post(check_url(url)?)
                .content_type("application/jose+json")
                .send(&request);
            match self.receive(sent) {
                Err(AcmeError::Problem(problem))
                    if problem.is("badNonce") && attempt < MAX_NONCE_ATTEMPTS =>
                {
                    attempt += 1;
                }
                result => return result,
            }
        }
    }

    fn take_nonce(&mut self) -> Result<String, AcmeError> {
        if let Some(nonce) = self.nonce.take() {
            return Ok(nonce);
        }
        let url = self.directory()?.new_nonce;
        let sent = self.agent.head(check_url(&url)?).call();
        self.receive(sent)?;
        self.nonce.take().ok_or_else(|| missing("a nonce"))
    }

    fn get(&mut self, url: &str) -> Result<CaResponse, AcmeError> {
        let sent = self.agent.get(check_url(url)?).call();
        self.receive(sent)
    }

    fn receive(
        &mut self,
        sent: Result<ureq::http::Response<Body>, ureq::Error>,
    ) -> Result<CaResponse, AcmeError> {
        let failed = |error: ureq::Error| AcmeError::Unreachable {
            reason: reason(&error),
            retry_after: None,
        };
        let mut response = sent.map_err(failed)?;
        let status = response.status();
        if let Some(nonce) = field(response.headers(), "replay-nonce")
            && super::orders::is_token(nonce)
        {
            self.nonce = Some(nonce.to_owned());
        }
        let location = field(response.headers(), "location").map(str::to_owned);
        let retry_after = field(response.headers(), "retry-after").and_then(seconds);
        let content = response
            .body_mut()
            .with_config()
            .limit(MAX_RESPONSE_BYTES)
            .read_to_vec()
            .map_err(failed)?;
        if status.is_success() {
            return Ok(CaResponse {
                location,
                retry_after,
                content,
            });
        }
        let problem = serde_json::from_slice::<Problem>(&content).ok();
        let problem = problem.filter(|problem| *problem != Problem::default());
        if status.is_server_error() {
            let detail = problem.map(|problem| format!(": {problem}"));
            return Err(AcmeError::Unreachable {
                reason: format!("it responds with {status}{}", detail.unwrap_or_default()),
                retry_after,
            });
        }
        Err(match problem {
            Some(mut problem) => {
                problem.retry_after = retry_after;
                AcmeError::Problem(problem)
            }
            None => AcmeError::Protocol(format!("status {status}")),
        })
    }
}

fn no_account() -> AcmeError {
    AcmeError::Protocol("there is no account".to_owned())
}

pub(super) fn missing(what: &str) -> AcmeError {
    AcmeError::Protocol(format!("{what} is missing"))
}

/// Checks a URL of a response: only HTTPS is used.
fn check_url(url: &str) -> Result<&str, AcmeError> {
    if url.len() <= MAX_URL_BYTES && url.starts_with("https://") {
        Ok(url)
    } else {
        let text = format!("{} is not an https URL", printable(url));
        Err(AcmeError::Protocol(text))
    }
}

fn field<'h>(fields: &'h HeaderMap, name: &str) -> Option<&'h str> {
    fields.get(name)?.to_str().ok()
}

/// Parses a Retry-After field: seconds, or a date (RFC 9110 §10.2.3).
fn seconds(text: &str) -> Option<u64> {
    let from_date = || {
        let date = httpdate::parse_http_date(text).ok()?;
        Some(
            date.duration_since(std::time::SystemTime::now())
                .ok()?
                .as_secs(),
        )
    };
    text.parse().ok().or_else(from_date)
}

/// Describes a failed request, with the remedy if the certificate of the server is not trusted.
fn reason(error: &ureq::Error) -> String {
    let text = printable(&error.to_string());
    let is_untrusted = text.contains("UnknownIssuer") || text.contains("CaUsedAsEndEntity");
    if is_untrusted {
        return format!("{text}; give the root certificate of its server with --acme-ca");
    }
    text
}
