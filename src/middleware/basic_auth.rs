//! HTTP Basic authentication (RFC 7617): a user name and a password with every request.

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use ::http::StatusCode;
use ::http::header::WWW_AUTHENTICATE;
use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::credentials::Credentials;
use super::late_call::handle_late;
use super::password_pool::{FAILURES, Login, PasswordPool, Verdict};
use super::rate_limit::{Rate, RateExceeded};
use crate::client_key::ClientKey;
use crate::explain_log::explain;
use crate::handler::{BodyPolicy, Handler, Outcome};
use crate::http::response::Dependency;
use crate::http::{Rejection, Request, Response, error_page};
use crate::site::RequiredPasswords;

/// Requires a user name and a password for a handler (RFC 7617); other requests get a 401.
///
/// Basic authentication transmits passwords in clear text: without TLS, they can be read on the network
/// path.
///
/// Password hashes are slow by design. They are verified on threads of their own, two at a time and one
/// of each client; clients take turns. When too many requests wait, further ones of the clients with the
/// most of them get a 503. Logins that were accepted are cached as keyed hashes in memory, and requests
/// with them are passed on at once.
///
/// A client that sends more than 20 wrong passwords, or one every five seconds, gets a 429 with
/// `Retry-After` for each login that is not cached, without a verification. A client is an IPv4 address
/// or an IPv6 network of 64 bits, as [`Request::client_addr`] returns it; behind a proxy that is not
/// trusted all clients are one. Peers on Unix sockets take turns as one client, and their failures are
/// not limited.
///
/// The body of a request without well-formed credentials is not read. The body of a request whose
/// credentials are not verified yet is read as far as the handler admits (or up to 64 KiB where it
/// rejects it, so that only an authenticated client learns that), and the handler gets it when the
/// password was correct. [`Handler::admit`] of the handler may therefore be called twice.
pub struct BasicAuth {
    inner: Arc<dyn Handler>,
    passwords: Arc<PasswordPool>,
    rules: Option<PasswordRules>,
}

impl fmt::Debug for BasicAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let files = self.rules.as_ref().map(|rules| &rules.files);
        f.debug_struct("BasicAuth")
            .field("files", &files)
            .finish_non_exhaustive()
    }
}

/// Which of several files of passwords requests need.
struct PasswordRules {
    /// Their positions are those in the pool.
    files: Vec<PathBuf>,
    required: Box<dyn Fn(&Request<'_>) -> RequiredPasswords + Send + Sync>,
}

impl PasswordRules {
    /// Returns the positions of files. That of a file which is not there has no passwords, so that no
    /// login is accepted.
    fn positions(&self, files: BTreeSet<PathBuf>) -> impl Iterator<Item = usize> {
        let position = |file| self.files.iter().position(|known| *known == file);
        files
            .into_iter()
            .map(move |file| position(file).unwrap_or(usize::MAX))
    }
}

/// The user whose credentials [`BasicAuth`] has verified. The handler inside it gets this from
/// [`Request::extension`], but not in [`Handler::admit`] while the credentials are not verified yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthenticatedUser {
    name: Box<str>,
}

impl AuthenticatedUser {
    /// Returns the name of the user.
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// An explanation.
const MISSING_LOGIN: &str = "there is no well-formed Authorization field with the scheme Basic";

const CHALLENGE: &str = "Basic realm=\"tws\", charset=\"UTF-8\"";

/// The limit of a body that the handler rejects, while the client is not authenticated yet, in bytes.
const MAX_UNWANTED_BYTES: usize = 64 * 1024;

/// Padding is optional, because some clients omit it.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The credentials of a request.
enum Claim {
    /// None are required.
    Public,
    /// None, or ill-formed ones.
    Missing,
    /// Well-formed ones that are not verified yet, one for each file in which they are to be.
    Unverified(Vec<Login>),
    /// A login of this user that was accepted before.
    Verified(String),
    /// Well-formed ones of a client that has sent too many wrong passwords.
    Limited(RateExceeded),
}

/// The passwords that a response needs if it depends on more than the file at the path of its request.
struct DependencyGuard {
    /// That of the request, if it is well-formed.
    login: Option<Login>,
    /// The files of passwords of each dependency, without those that the request needs anyway.
    files: Vec<(Dependency, BTreeSet<usize>)>,
}

impl BasicAuth {
    /// Wraps `inner`, which gets only requests with one of the `credentials`.
    pub fn new(inner: impl Handler + 'static, credentials: Credentials) -> Self {
        Self {
            inner: Arc::new(inner),
            passwords: Arc::new(PasswordPool::new(vec![credentials], FAILURES)),
            rules: None,
        }
    }

    /// Wraps `inner`, which gets only requests with credentials of each of the files that `required`
    /// returns for them, such as
    /// [`StaticFiles::required_passwords`](crate::StaticFiles::required_passwords). No credentials are
    /// accepted for a file that is not among `files`.
    pub fn with_rules(
        inner: impl Handler + 'static,
        files: impl IntoIterator<Item = (PathBuf, Credentials)>,
        required: impl Fn(&Request<'_>) -> RequiredPasswords + Send + Sync + 'static,
    ) -> Self {
        let (files, credentials) = files.into_iter().unzip();
        let required = Box::new(required);
        Self {
            inner: Arc::new(inner),
            passwords: Arc::new(PasswordPool::new(credentials, FAILURES)),
            rules: Some(PasswordRules { files, required }),
        }
    }

    /// Limits the wrong passwords of a client to this rate, instead of 20 and one every five seconds. To
    /// be called before the server starts.
    pub fn with_failure_rate(mut self, rate: Rate) -> Self {
        if let Some(passwords) = Arc::get_mut(&mut self.passwords) {
            passwords.limit_failures(rate);
        }
        self
    }

    fn claim(&self, request: &Request<'_>) -> Claim {
        self.claims(request).0
    }

    /// Returns the credentials of a request, and what some responses need in addition.
    fn claims(&self, request: &Request<'_>) -> (Claim, Option<DependencyGuard>) {
        let login = login(request);
        let Some(rules) = &self.rules else {
            return (self.claim_of(request, login, &BTreeSet::from([0])), None);
        };
        let required = (rules.required)(request);
        let files: BTreeSet<usize> = rules.positions(required.files).collect();
        let others = [
            (Dependency::Application, required.files_of_application),
            (Dependency::SlashVariant, required.files_of_slash_variant),
            (Dependency::Fallback, required.files_of_fallback),
        ];
        let others = others.into_iter().map(|(dependency, others)| {
            let others = rules.positions(others);
            let others: BTreeSet<_> = others.filter(|file| !files.contains(file)).collect();
            (dependency, others)
        });
        let others: Vec<_> = others.filter(|(_, files)| !files.is_empty()).collect();
        let guard = (!others.is_empty()).then(|| DependencyGuard {
            login: login.clone(),
            files: others,
        });
        (self.claim_of(request, login, &files), guard)
    }

    fn claim_of(
        &self,
        request: &Request<'_>,
        login: Option<Login>,
        files: &BTreeSet<usize>,
    ) -> Claim {
        if files.is_empty() {
            return Claim::Public;
        }
        let Some(login) = login else {
            explain!("password", "{MISSING_LOGIN}: 401");
            return Claim::Missing;
        };
        let unverified = unverified(&self.passwords, &login, files);
        if unverified.is_empty() {
            return Claim::Verified(login.user);
        }
        match self.passwords.check_failures(client_key(request)) {
            Ok(()) => Claim::Unverified(unverified),
            Err(exceeded) => {
                explain_limit();
                Claim::Limited(exceeded)
            }
        }
    }
}

/// Returns a login for each of the files of passwords in which it is not known to be.
fn unverified(passwords: &PasswordPool, login: &Login, files: &BTreeSet<usize>) -> Vec<Login> {
    let logins = files.iter().map(|file| Login {
        file: *file,
        ..login.clone()
    });
    logins.filter(|login| !passwords.is_cached(login)).collect()
}

/// Verifies logins of one client in turn, until one is not accepted.
fn verify_all(
    passwords: Arc<PasswordPool>,
    client: Option<ClientKey>,
    mut logins: Vec<Login>,
    on_verdict: Box<dyn FnOnce(Verdict) + Send>,
) {
    let Some(login) = logins.pop() else {
        return on_verdict(Verdict::Accepted);
    };
    let pool = Arc::clone(&passwords);
    let next = Box::new(move |verdict| match verdict {
        Verdict::Accepted if !logins.is_empty() => {
            verify_all(passwords, client, logins, on_verdict);
        }
        verdict => on_verdict(verdict),
    });
    pool.verify(client, login, next);
}

/// Verifies the logins of a request, and then responds with what `respond` returns.
fn when_verified(
    passwords: Arc<PasswordPool>,
    request: Request<'static>,
    logins: Vec<Login>,
    respond: impl FnOnce(&Request<'_>) -> Outcome + Send + 'static,
) -> Outcome {
    Outcome::deferred(move |responder| {
        let client = client_key(&request);
        let on_verdict = move |verdict| match verdict {
            Verdict::Denied => {
                explain!(
                    "password",
                    "the user is unknown or the password is wrong: 401"
                );
                responder.send(challenge(&request));
            }
            Verdict::TooManyFailures(exceeded) => {
                explain_limit();
                responder.send(exceeded.response(&request));
            }
            Verdict::Overloaded => {
                responder.send(Response::unavailable(
                    "too many sign-in attempts in progress; try again",
                ));
            }
            Verdict::Accepted => {
                explain!("password", "the password is correct");
                responder.send(respond(&request));
            }
        };
        verify_all(passwords, client, logins, Box::new(on_verdict));
    })
}

impl DependencyGuard {
    /// Responds with the outcome if it depends on nothing that needs a password, or if the request has the
    /// credentials for that. A job waits for the verification on its own thread. Other responses have the
    /// same dependencies, so that clients of networks that may not request these cannot guess passwords.
    fn guard(
        self,
        passwords: &Arc<PasswordPool>,
        request: &Request<'_>,
        outcome: Outcome,
    ) -> Outcome {
        let passwords = Arc::clone(passwords);
        let request = request.clone().into_owned();
        outcome.and_then(move |response| {
            let dependencies = response.dependencies();
            let checked = self.checked(passwords, request, response);
            checked.map(move |response| response.with_dependencies(dependencies))
        })
    }

    fn checked(
        self,
        passwords: Arc<PasswordPool>,
        request: Request<'static>,
        response: Response,
    ) -> Outcome {
        let dependencies = response.dependencies();
        let applies = |(dependency, _): &&(Dependency, _)| dependencies.contains(*dependency);
        let mut files = BTreeSet::new();
        for (dependency, others) in self.files.iter().filter(applies) {
            explain!(
                "password",
                "{} requires a password",
                description(*dependency)
            );
            files.extend(others);
        }
        if files.is_empty() {
            return response.into();
        }
        let Some(login) = self.login else {
            explain!("password", "{MISSING_LOGIN}: 401");
            return challenge(&request).into();
        };
        let unverified = unverified(&passwords, &login, &files);
        let response = response.with_user(&login.user);
        if unverified.is_empty() {
            return response.into();
        }
        match passwords.check_failures(client_key(&request)) {
            Ok(()) => when_verified(passwords, request, unverified, |_| response.into()),
            Err(exceeded) => {
                explain_limit();
                exceeded.response(&request).into()
            }
        }
    }
}

fn description(dependency: Dependency) -> &'static str {
    match dependency {
        Dependency::Application => "the page of the application",
        Dependency::SlashVariant => "the path with its trailing slash removed, or added,",
        Dependency::Fallback => "the target of the rewrite of missing paths",
    }
}

/// The handler was asked about the content of a request by this user.
struct Asked {
    passwords: Arc<PasswordPool>,
    user: String,
}

impl BasicAuth {
    /// Returns whether the handler was asked about the content of the request as one of this user, so that
    /// it need not be asked again.
    fn was_asked(&self, request: &Request<'_>, user: &str) -> bool {
        let is_own = |asked: &Asked| Arc::ptr_eq(&asked.passwords, &self.passwords);
        let asked = request.admission().and_then(|it| it.take(is_own));
        asked.is_some_and(|asked| asked.user == user)
    }
}

impl Handler for BasicAuth {
    fn handle(&self, request: &Request<'_>) -> Outcome {
        let (claim, guard) = self.claims(request);
        let outcome = match claim {
            Claim::Public => self.inner.handle(request),
            Claim::Missing => return challenge(request).into(),
            Claim::Verified(user) if self.was_asked(request, &user) => {
                let outcome = self.inner.handle(&by_user(request, &user));
                outcome.map(move |response| response.with_user(&user))
            }
            Claim::Verified(user) => call_inner(&*self.inner, request, user),
            Claim::Limited(exceeded) => return exceeded.response(request).into(),
            Claim::Unverified(logins) => {
                let user = logins.first().map(|login| login.user.clone());
                let user = user.unwrap_or_default();
                let inner = Arc::clone(&self.inner);
                let passwords = Arc::clone(&self.passwords);
                let request = request.clone().into_owned();
                return when_verified(Arc::clone(&passwords), request, logins, move |request| {
                    let outcome = call_inner(&*inner, request, user);
                    match guard {
                        Some(guard) => guard.guard(&passwords, request, outcome),
                        None => outcome,
                    }
                });
            }
        };
        match guard {
            Some(guard) => guard.guard(&self.passwords, request, outcome),
            None => outcome,
        }
    }

    fn admit(&self, request: &Request<'_>) -> BodyPolicy {
        let claim = self.claim(request);
        match claim {
            Claim::Public => return self.inner.admit(request),
            Claim::Missing => return BodyPolicy::Reject(challenge(request)),
            Claim::Limited(exceeded) => return BodyPolicy::Reject(exceeded.response(request)),
            Claim::Unverified(_) | Claim::Verified(_) => {}
        }
        let policy = match (&claim, request.admission()) {
            (Claim::Verified(user), Some(admission)) => {
                admission.keep(Asked {
                    passwords: Arc::clone(&self.passwords),
                    user: user.clone(),
                });
                self.inner.admit(&by_user(request, user))
            }
            // Without effect on what counts requests: the handler is asked again when the password is
            // verified.
            (Claim::Verified(user), None) => self
                .inner
                .admit(&by_user(&request.clone().admitted(), user)),
            _ => self.inner.admit(&request.clone().admitted()),
        };
        match (claim, policy) {
            (Claim::Unverified(_), BodyPolicy::Reject(_)) => BodyPolicy::Buffer {
                max: MAX_UNWANTED_BYTES,
            },
            (Claim::Verified(user), BodyPolicy::Reject(response)) => {
                BodyPolicy::Reject(response.with_user(&user))
            }
            (_, policy) => policy,
        }
    }

    fn reject(&self, request: &Request<'_>, rejection: Rejection) -> Response {
        match self.claim(request) {
            Claim::Verified(user) => {
                if !self.was_asked(request, &user) {
                    request.forget_admission();
                }
                let request = by_user(request, &user);
                self.inner.reject(&request, rejection).with_user(&user)
            }
            Claim::Public => self.inner.reject(request, rejection),
            // An unauthenticated client learns nothing about the handler.
            Claim::Missing | Claim::Unverified(_) | Claim::Limited(_) => {
                error_page::with_index(rejection.into(), request)
            }
        }
    }
}

/// Calls the handler. The body may have been read although the handler rejects it, because the client
/// was not authenticated yet. The response names the user.
fn call_inner(inner: &dyn Handler, request: &Request<'_>, user: String) -> Outcome {
    let outcome = handle_late(inner, &by_user(request, &user));
    outcome.map(move |response| response.with_user(&user))
}

/// Returns the request with its user attached.
fn by_user<'r>(request: &'r Request<'_>, user: &str) -> Request<'r> {
    let user = AuthenticatedUser { name: user.into() };
    request.with_extensions(vec![Arc::new(user)])
}

fn client_key(request: &Request<'_>) -> Option<ClientKey> {
    ClientKey::of(request.client_addr().ip())
}

fn explain_limit() {
    explain!(
        "password",
        "the client has sent too many wrong passwords: 429"
    );
}

fn challenge(request: &Request<'_>) -> Response {
    let plain = Response::error_line(StatusCode::UNAUTHORIZED, "authentication required");
    error_page::with_index(plain, request).with_header(WWW_AUTHENTICATE, CHALLENGE)
}

/// Returns the user name and the password of a request, if they are well-formed (RFC 7617 §2).
fn login(request: &Request<'_>) -> Option<Login> {
    let mut values = request.fields().all("authorization");
    let (Some(value), None) = (values.next(), values.next()) else {
        return None;
    };
    let (scheme, token) = std::str::from_utf8(value).ok()?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("Basic") {
        return None;
    }
    let decoded = BASE64.decode(token.trim_matches(' ')).ok()?;
    let decoded = String::from_utf8(decoded).ok()?;
    if decoded.contains(char::is_control) {
        return None;
    }
    let (user, password) = decoded.split_once(':')?;
    Some(Login {
        file: 0,
        user: user.to_owned(),
        password: password.to_owned(),
    })
}

#[cfg(test)]
mod tests;
