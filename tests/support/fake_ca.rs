//! A small certificate authority that speaks ACME (RFC 8555) with renewal information (RFC 9773) and
//! profiles, for what an installed one does not offer: faults, and control over each step. It verifies no
//! signatures.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair as Key, PublicKeyData,
    SignatureAlgorithm,
};
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use tempfile::TempDir;
use tws::{HeaderName, KeyPair, Method, Outcome, Request, Response, StatusCode, Tls};
use x509_parser::prelude::{FromDer, X509CertificationRequest};

use super::{TestServer, eventually};

const PROBLEM: &str = "urn:ietf:params:acme:error:";

/// A certificate authority; it ends when it is dropped.
pub(crate) struct FakeCa {
    pub(crate) server: TestServer,
    state: Arc<CaState>,
    folder: TempDir,
}

/// How it behaves. Tests change it at any time.
pub(crate) struct Behaviour {
    /// The types of challenges; without any, names need no validation.
    pub(crate) challenges: &'static [&'static str],
    /// Where names are validated: HTTPS, and plain HTTP. `None` accepts every answer.
    pub(crate) validated_at: Option<[SocketAddr; 2]>,
    /// The lifetime of certificates in seconds, and how much of it is over when they are issued.
    pub(crate) lifetime: i64,
    pub(crate) age: i64,
    /// The suggested window, relative to now, in seconds.
    pub(crate) window: Option<(i64, i64)>,
    pub(crate) profiles: &'static [&'static str],
    /// A response instead of the usual one, by the kind of the request.
    pub(crate) fault: Option<(&'static str, Fault)>,
    /// Called with the number of a request, counted from 0, before and after it is processed.
    pub(crate) hook: Option<Box<dyn Fn(usize, Moment) + Send>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    Before,
    After,
}

/// A response that is not the usual one.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    Text(&'static str),
    Status(u16),
    /// A problem document of this type.
    Problem(&'static str),
    /// As many bytes.
    Bytes(usize),
    /// A redirect to itself.
    Redirect,
    /// A certificate for another name, or for another key.
    OtherName,
    OtherKey,
    /// A token that is no base64url.
    Token,
}

struct CaState {
    issuer: CertifiedIssuer<'static, Key>,
    origin: Mutex<String>,
    behaviour: Mutex<Behaviour>,
    records: Mutex<Records>,
}

#[derive(Default)]
struct Records {
    /// The kind of each request.
    requests: Vec<String>,
    orders: Vec<FakeOrder>,
    revoked: usize,
}

struct FakeOrder {
    /// The payload of the request.
    payload: Value,
    status: &'static str,
    token: String,
    validation: &'static str,
    certificate: Option<String>,
}

/// The public key of a certificate request.
struct RequestedKey(Vec<u8>);

impl PublicKeyData for RequestedKey {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            challenges: &[],
            validated_at: None,
            lifetime: 90 * 24 * 3600,
            age: 0,
            window: None,
            profiles: &[],
            fault: None,
            hook: None,
        }
    }
}

impl FakeCa {
    pub(crate) fn start(behaviour: Behaviour) -> Self {
        Self::start_at(0, behaviour)
    }

    /// Listens at `port`.
    pub(crate) fn start_at(port: u16, behaviour: Behaviour) -> Self {
        let folder = tempfile::tempdir().expect("create temporary directory");
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = Key::generate().expect("generate key");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("create CA certificate");
        let pair = KeyPair {
            certificate: folder.path().join("server.pem"),
            key: folder.path().join("server.key"),
        };
        let key = Key::generate().expect("generate key");
        let names = vec!["127.0.0.1".to_owned()];
        let params = CertificateParams::new(names).expect("valid certificate names");
        let certificate = params.signed_by(&key, &issuer).expect("sign certificate");
        std::fs::write(&pair.certificate, certificate.pem()).expect("write file");
        std::fs::write(&pair.key, key.serialize_pem()).expect("write file");
        std::fs::write(folder.path().join("root.pem"), issuer.pem()).expect("write file");
        let tls = Tls::open(vec![pair]).expect("open certificate");
        let state = Arc::new(CaState {
            issuer,
            origin: Mutex::default(),
            behaviour: Mutex::new(behaviour),
            records: Mutex::default(),
        });
        let handler = {
            let state = Arc::clone(&state);
            move |request: &Request<'_>| {
                let state = Arc::clone(&state);
                let (method, path) = (request.method().clone(), request.path().to_owned());
                let content = request.content().to_vec();
                Outcome::blocking(move || state.respond(&method, &path, &content))
            }
        };
        let server = TestServer::with(handler, |config| config.port = port, |it| it.with_tls(tls));
        *lock(&state.origin) = format!("https://{}", server.address);
        Self {
            server,
            state,
            folder,
        }
    }

    pub(crate) fn directory(&self) -> String {
        format!("https://{}/directory", self.server.address)
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.folder.path().join("root.pem")
    }

    /// Returns the configuration of a client that trusts the certificates.
    pub(crate) fn client(&self) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        let root = self.state.issuer.der().clone();
        roots.add(root).expect("add root certificate");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("supported TLS versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        Arc::new(config)
    }

    pub(crate) fn change(&self, change: impl FnOnce(&mut Behaviour)) {
        change(&mut lock(&self.state.behaviour));
    }

    /// Returns how many requests of a kind were received.
    pub(crate) fn requests(&self, kind: &str) -> usize {
        let records = lock(&self.state.records);
        records.requests.iter().filter(|it| *it == kind).count()
    }

    /// Returns how many certificates were issued.
    pub(crate) fn issued(&self) -> usize {
        let records = lock(&self.state.records);
        let orders = records.orders.iter();
        orders.filter(|order| order.certificate.is_some()).count()
    }

    pub(crate) fn revoked(&self) -> usize {
        lock(&self.state.records).revoked
    }

    /// Returns a member of the last request for an order.
    pub(crate) fn ordered(&self, member: &str) -> Value {
        let records = lock(&self.state.records);
        let last = records.orders.last().expect("an order");
        last.payload[member].clone()
    }

    /// Waits until so many certificates are issued.
    #[track_caller]
    pub(crate) fn wait_for_issued(&self, count: usize) {
        eventually!(|| self.issued() >= count);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A failed request, as a response.
type Failed = Box<Response>;

impl CaState {
    fn respond(&self, method: &Method, path: &str, content: &[u8]) -> Response {
        let mut segments = path.trim_start_matches('/').split('/');
        let kind = segments.next().unwrap_or_default().to_owned();
        let id = segments.next().unwrap_or_default().to_owned();
        let number = {
            let mut records = lock(&self.records);
            records.requests.push(kind.clone());
            records.requests.len() - 1
        };
        self.call_hook(number, Moment::Before);
        let fault = lock(&self.behaviour).fault;
        let fault = fault.filter(|(of, _)| *of == kind).map(|(_, fault)| fault);
        let response = match fault {
            Some(Fault::Text(text)) => Response::text(text),
            Some(Fault::Bytes(count)) => Response::text("x".repeat(count)),
            Some(Fault::Status(status)) => {
                let status = StatusCode::from_u16(status).expect("valid status");
                Response::text("").with_status(status)
            }
            Some(Fault::Problem(kind)) => problem(kind, "as the test wants it"),
            Some(Fault::Redirect) => {
                let location = format!("{}{path}", lock(&self.origin));
                Response::redirect(StatusCode::FOUND, &location)
            }
            other => {
                let payload = payload(content);
                let made = self.resource(method, &kind, &id, &payload, other);
                made.unwrap_or_else(|failed| *failed)
            }
        };
        self.call_hook(number, Moment::After);
        if matches!(kind.as_str(), "directory" | "renewal") {
            return response;
        }
        response.with_header(
            HeaderName::from_static("replay-nonce"),
            format!("n{number}"),
        )
    }

    fn call_hook(&self, number: usize, moment: Moment) {
        if let Some(hook) = &lock(&self.behaviour).hook {
            hook(number, moment);
        }
    }

    fn url(&self, path: &str) -> String {
        format!("{}/{path}", lock(&self.origin))
    }

    fn resource(
        &self,
        method: &Method,
        kind: &str,
        id: &str,
        payload: &Value,
        fault: Option<Fault>,
    ) -> Result<Response, Failed> {
        let location = HeaderName::from_static("location");
        let created = |value: &Value, url: String| {
            let response = Response::json(value).with_status(StatusCode::CREATED);
            response.with_header(location.clone(), url)
        };
        match (method.as_str(), kind) {
            ("GET", "directory") => Ok(Response::json(&self.directory())),
            ("HEAD" | "GET", "nonce") => Ok(Response::text("")),
            ("POST", "account") => Ok(created(&json!({"status": "valid"}), self.url("account/1"))),
            ("GET", "renewal") => self.renewal_info(),
            ("POST", "revoke") => {
                lock(&self.records).revoked += 1;
                Ok(Response::text(""))
            }
            ("POST", "new-order") => {
                let is_valid = lock(&self.behaviour).challenges.is_empty();
                let mut records = lock(&self.records);
                let id = records.orders.len();
                records.orders.push(FakeOrder {
                    payload: payload.clone(),
                    status: if is_valid { "ready" } else { "pending" },
                    token: format!("token-{id}"),
                    validation: if is_valid { "valid" } else { "pending" },
                    certificate: None,
                });
                let url = self.url(&format!("order/{id}"));
                Ok(created(&self.order(id, &records.orders[id]), url))
            }
            ("POST", "order") => self.with_order(id, |id, order| Ok(self.order(id, order))),
            ("POST", "authorization") => {
                self.with_order(id, |id, order| Ok(self.authorization(id, order, fault)))
            }
            ("POST", "challenge") => {
                let (kind, id) = id.split_once('.').ok_or_else(not_found)?;
                self.validate(kind, id)
            }
            ("POST", "finalize") => {
                let request = payload["csr"].as_str().unwrap_or_default();
                let request = URL_SAFE_NO_PAD.decode(request).expect("base64url");
                self.with_order(id, |id, order| {
                    if order.status != "ready" {
                        return Err(Box::new(problem("orderNotReady", "the order is not ready")));
                    }
                    order.certificate = Some(self.issue(order, &request, fault));
                    order.status = "valid";
                    Ok(self.order(id, order))
                })
            }
            ("POST", "certificate") => {
                let records = lock(&self.records);
                let order = id.parse().ok().and_then(|id: usize| records.orders.get(id));
                let certificate = order.and_then(|order| order.certificate.clone());
                certificate.map(Response::text).ok_or_else(not_found)
            }
            _ => Err(not_found()),
        }
    }

    fn directory(&self) -> Value {
        let behaviour = lock(&self.behaviour);
        let profiles = behaviour.profiles.iter();
        let profiles: serde_json::Map<_, _> = profiles
            .map(|profile| ((*profile).to_owned(), json!("a profile")))
            .collect();
        let mut directory = json!({
            "newNonce": self.url("nonce"),
            "newAccount": self.url("account"),
            "newOrder": self.url("new-order"),
            "revokeCert": self.url("revoke"),
            "meta": { "profiles": profiles },
        });
        if behaviour.window.is_some() {
            directory["renewalInfo"] = self.url("renewal").into();
        }
        directory
    }

    fn renewal_info(&self) -> Result<Response, Failed> {
        let (start, end) = lock(&self.behaviour).window.ok_or_else(not_found)?;
        let time = |offset: i64| {
            let now = jiff::Timestamp::now().as_second();
            let time = jiff::Timestamp::from_second(now + offset);
            time.expect("valid time").to_string()
        };
        let response = Response::json(&json!({
            "suggestedWindow": { "start": time(start), "end": time(end) },
            "explanationURL": "https://127.0.0.1/why",
        }));
        Ok(response.with_header(HeaderName::from_static("retry-after"), "21600"))
    }

    fn with_order(
        &self,
        id: &str,
        make: impl FnOnce(usize, &mut FakeOrder) -> Result<Value, Failed>,
    ) -> Result<Response, Failed> {
        let mut records = lock(&self.records);
        let id: usize = id.parse().map_err(|_| not_found())?;
        let order = records.orders.get_mut(id).ok_or_else(not_found)?;
        make(id, order).map(|value| Response::json(&value))
    }

    fn order(&self, id: usize, order: &FakeOrder) -> Value {
        json!({
            "status": order.status,
            "identifiers": order.payload["identifiers"],
            "authorizations": [self.url(&format!("authorization/{id}"))],
            "finalize": self.url(&format!("finalize/{id}")),
            "certificate": order.certificate.as_ref()
                .map(|_| self.url(&format!("certificate/{id}"))),
        })
    }

    fn authorization(&self, id: usize, order: &FakeOrder, fault: Option<Fault>) -> Value {
        let token = match fault {
            Some(Fault::Token) => "../../etc/passwd",
            _ => order.token.as_str(),
        };
        let error = (order.validation == "invalid").then(
            || json!({"type": format!("{PROBLEM}unauthorized"), "detail": "the answer is wrong"}),
        );
        let offered = lock(&self.behaviour).challenges;
        let challenges = offered.iter().map(|kind| {
            json!({
                "type": kind, "status": order.validation, "token": token, "error": error,
                "url": self.url(&format!("challenge/{kind}.{id}")),
            })
        });
        let challenges: Vec<_> = challenges.collect();
        json!({"status": order.validation, "challenges": challenges})
    }

    /// Validates at once, as the test may wait for it.
    fn validate(&self, kind: &str, id: &str) -> Result<Response, Failed> {
        let id: usize = id.parse().map_err(|_| not_found())?;
        let (token, name) = {
            let records = lock(&self.records);
            let order = records.orders.get(id).ok_or_else(not_found)?;
            let name = order.payload["identifiers"][0]["value"].as_str();
            (order.token.clone(), name.unwrap_or_default().to_owned())
        };
        let at = lock(&self.behaviour).validated_at;
        let is_right = match (at, kind) {
            (None, _) => true,
            (Some([https, _]), "tls-alpn-01") => answers_tls_alpn(https, &name),
            (Some([_, http]), _) => answers_http(http, &name, &token),
        };
        let mut records = lock(&self.records);
        let order = &mut records.orders[id];
        let (status, validation) = if is_right {
            ("ready", "valid")
        } else {
            ("invalid", "invalid")
        };
        order.status = status;
        order.validation = validation;
        Ok(Response::json(&json!({
            "type": kind, "status": validation, "url": self.url(&format!("challenge/{kind}.{id}")),
        })))
    }

    fn issue(&self, order: &FakeOrder, request: &[u8], fault: Option<Fault>) -> String {
        let (_, request) = X509CertificationRequest::from_der(request).expect("valid request");
        let key = request
            .certification_request_info
            .subject_pki
            .subject_public_key;
        let key = match fault {
            Some(Fault::OtherKey) => {
                let other = Key::generate().expect("generate key");
                other.public_key_raw().to_vec()
            }
            _ => key.data.to_vec(),
        };
        let name = match fault {
            Some(Fault::OtherName) => "other.test",
            _ => order.payload["identifiers"][0]["value"]
                .as_str()
                .expect("a name"),
        };
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("valid names");
        let (lifetime, age) = {
            let behaviour = lock(&self.behaviour);
            (behaviour.lifetime, behaviour.age)
        };
        let now = SystemTime::now();
        let not_before = now - Duration::from_secs(age.unsigned_abs());
        params.not_before = not_before.into();
        params.not_after = (not_before + Duration::from_secs(lifetime.unsigned_abs())).into();
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&RequestedKey(key), &self.issuer);
        certificate.expect("sign certificate").pem() + &self.issuer.pem()
    }
}

fn not_found() -> Failed {
    Box::new(problem("malformed", "no such resource").with_status(StatusCode::NOT_FOUND))
}

fn problem(kind: &str, detail: &str) -> Response {
    Response::json(&json!({"type": format!("{PROBLEM}{kind}"), "detail": detail}))
        .with_status(StatusCode::FORBIDDEN)
}

/// Returns the payload of a signed request.
fn payload(content: &[u8]) -> Value {
    let request: Value = serde_json::from_slice(content).unwrap_or_default();
    let payload = request["payload"].as_str().unwrap_or_default();
    let payload = URL_SAFE_NO_PAD.decode(payload).unwrap_or_default();
    serde_json::from_slice(&payload).unwrap_or_default()
}

/// RFC 8737 §3, without the digest, which tests of the library check.
fn answers_tls_alpn(address: SocketAddr, name: &str) -> bool {
    let validation = super::tls_alpn::validate(address, name);
    validation.is_some_and(|certificate: CertificateDer<'static>| {
        super::tls_alpn::has_acme_identifier(&certificate)
    })
}

/// RFC 8555 §8.3.
fn answers_http(address: SocketAddr, name: &str, token: &str) -> bool {
    let mut client = super::Client::connect(address);
    client.send(format!(
        "GET /.well-known/acme-challenge/{token} HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n"
    ));
    let response = client.response();
    let expected = format!("{token}.");
    response.status == 200 && response.text().starts_with(&expected)
}
