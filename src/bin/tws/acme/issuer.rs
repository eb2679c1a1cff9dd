//! Takes a name from its present state to a certificate. Each step is written to the folder of the
//! name before the next one begins, so that it can be continued by another process.

use std::time::Duration;

use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use ring::rand::{SecureRandom, SystemRandom};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::json;

use super::certificate::CertificateInfo;
use super::client::{CaResponse, Client, missing};
use super::jws::{self, ExternalAccount};
use super::messages::{Authorization, Challenge, Order, Problem};
use super::orders::{
    AuthorizationStep, ChallengeType, OrderStep, authorization_step, is_token, order_step,
};
use super::schedule::{self, RenewalPlan};
use super::store::{CaStore, ChallengeFile, Failure, IdentityState, IdentityStore, PendingOrder};
use super::{AcmeError, unix_now};

/// The time until other processes answer a challenge that this one has written, which look each
/// second.
const CHALLENGE_DELAY: Duration = Duration::from_secs(2);

/// The times between two requests for the status of an order or an authorization, if the certificate
/// authority demands no other.
const FIRST_POLL: Duration = Duration::from_millis(500);
const MAX_POLL: Duration = Duration::from_secs(10);

/// How often the status of an authorization or an order is requested; this takes three minutes.
const MAX_POLLS: usize = 25;

/// The limit of the authorizations of an order for one name.
const MAX_AUTHORIZATIONS: usize = 4;

/// The limit of the certificates in a chain.
const MAX_CHAIN: usize = 10;

/// How many requests for an order may be lost one after the other, in processes that were killed,
/// before that counts as a failure.
const MAX_LOST_REQUESTS: u32 = 3;

/// The process in which certificates are obtained.
pub(crate) trait Host {
    /// Answers the challenge that is in the folder of a name now, or none.
    fn answer_challenge(&self, identity: &IdentityStore);

    /// Waits. Returns [`AcmeError::Stopped`] if the process is to end.
    fn pause(&self, time: Duration) -> Result<(), AcmeError>;
}

/// What is requested, and where.
pub(crate) struct Issuer<'a> {
    pub(crate) ca: &'a CaStore,
    pub(crate) client: &'a mut Client,
    pub(crate) host: &'a dyn Host,
    pub(crate) email: Option<&'a str>,
    pub(crate) external: Option<&'a ExternalAccount>,
    pub(crate) profile: Option<&'a str>,
    /// The challenge that is answered if both are possible.
    pub(crate) preferred: ChallengeType,
}

/// Whether a failed attempt has used up an order.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Spent {
    Nothing,
    Order,
}

impl Issuer<'_> {
    /// Obtains a certificate for a name whose lock is held. The state is written after each step, and
    /// after a failure with the time of the next attempt.
    pub(crate) fn obtain(
        &mut self,
        identity: &IdentityStore,
        state: &mut IdentityState,
    ) -> Result<(), AcmeError> {
        let mut spent = Spent::Nothing;
        let result = self.attempt(identity, state, &mut spent);
        if matches!(result, Err(AcmeError::Stopped)) {
            // The process that continues the order answers the challenge until then.
            return result;
        }
        // An error is repeated with the next attempt.
        let _ = identity.remove_challenge();
        self.host.answer_challenge(identity);
        match result {
            Ok(()) => Ok(()),
            Err(error) => {
                record_failure(state, &error, spent);
                identity.write_state(state)?;
                Err(error)
            }
        }
    }

    fn attempt(
        &mut self,
        identity: &IdentityStore,
        state: &mut IdentityState,
        spent: &mut Spent,
    ) -> Result<(), AcmeError> {
        if state.lost_requests >= MAX_LOST_REQUESTS {
            state.lost_requests = 0;
            *spent = Spent::Order;
            let text = "tws was ended several times while it ordered a certificate";
            return Err(AcmeError::Protocol(text.to_owned()));
        }
        self.client.open_directory()?;
        self.open_account()?;
        match self.order(identity, state, spent) {
            Err(AcmeError::Problem(problem)) if problem.is("accountDoesNotExist") => {
                // A certificate authority for tests forgets its accounts when it is restarted.
                self.client.forget_account(self.ca)?;
                state.order = None;
                self.open_account()?;
                self.order(identity, state, spent)
            }
            result => result,
        }
    }

    fn open_account(&mut self) -> Result<(), AcmeError> {
        self.client.open_account(self.ca, self.email, self.external)
    }

    fn order(
        &mut self,
        identity: &IdentityStore,
        state: &mut IdentityState,
        spent: &mut Spent,
    ) -> Result<(), AcmeError> {
        let (url, mut order, mut retry_after) = self.open_order(identity, state, spent)?;
        for poll in 0..MAX_POLLS {
            match order_step(&order) {
                OrderStep::Authorize => {
                    self.authorize(identity, state, &order)?;
                    (order, retry_after) = self.fetch(&url)?;
                    // The order may not yet reflect its authorizations.
                    if order_step(&order) == OrderStep::Authorize {
                        self.host.pause(poll_interval(poll, retry_after))?;
                    }
                    continue;
                }
                OrderStep::Finalize => {
                    let request = certificate_request(identity)?;
                    let payload = json!({ "csr": jws::base64url(request) });
                    let response = self.client.post(&order.finalize, Some(&payload))?;
                    (order, retry_after) = (response.json()?, response.retry_after);
                    if order_step(&order) == OrderStep::Finalize {
                        self.host.pause(poll_interval(poll, retry_after))?;
                    }
                    continue;
                }
                OrderStep::Wait => {}
                OrderStep::Download(certificate) => {
                    return self.download(identity, state, &certificate);
                }
                OrderStep::Fail(problem) => return Err(AcmeError::Problem(problem)),
            }
            self.host.pause(poll_interval(poll, retry_after))?;
            (order, retry_after) = self.fetch(&url)?;
        }
        Err(AcmeError::Protocol(
            "the order was not completed in time".to_owned(),
        ))
    }

    fn fetch<T: serde::de::DeserializeOwned>(
        &mut self,
        url: &str,
    ) -> Result<(T, Option<u64>), AcmeError> {
        let response = self.client.post(url, None)?;
        Ok((response.json()?, response.retry_after))
    }

    /// Returns the order of the state, or a new one.
    fn open_order(
        &mut self,
        identity: &IdentityStore,
        state: &mut IdentityState,
        spent: &mut Spent,
    ) -> Result<(String, Order, Option<u64>), AcmeError> {
        if let Some(pending) = &state.order {
            let url = pending.url.clone();
            match self.fetch::<Order>(&url) {
                Ok((order, retry_after)) => {
                    *spent = Spent::Order;
                    return Ok((url, order, retry_after));
                }
                Err(AcmeError::Problem(problem)) if is_about_missing_order(&problem) => {
                    log::info!("acme: {}: the order is gone: {problem}", identity.name());
                    state.order = None;
                }
                Err(error) => return Err(error),
            }
        }
        let response = self.request_order(identity, state, spent)?;
        let url = response.location.clone();
        let url = url.ok_or_else(|| missing("the URL of the order"))?;
        state.order = Some(PendingOrder {
            url: url.clone(),
            challenge: None,
        });
        state.lost_requests = 0;
        identity.write_state(state)?;
        Ok((url, response.json()?, response.retry_after))
    }

    fn request_order(
        &mut self,
        identity: &IdentityStore,
        state: &mut IdentityState,
        spent: &mut Spent,
    ) -> Result<CaResponse, AcmeError> {
        let directory = self.client.open_directory()?.clone();
        let mut payload = json!({ "identifiers": [{ "type": "dns", "value": identity.name() }] });
        if let Some(profile) = self.profile {
            if !directory.meta.profiles.contains_key(profile) {
                let known: Vec<_> = directory.meta.profiles.keys().map(String::as_str).collect();
                let text = match &known[..] {
                    [] => "--acme-profile: the certificate authority has no profiles".to_owned(),
                    known => format!(
                        "--acme-profile: unknown profile {profile}; the certificate authority has {}",
                        super::messages::printable(&known.join(", "))
                    ),
                };
                return Err(AcmeError::Problem(Problem::new("invalidProfile", text)));
            }
            payload["profile"] = profile.into();
        }
        let present = identity.read_certificate()?;
        let present = present.as_deref().and_then(CertificateInfo::from_pem);
        let replaced = present.filter(|info| info.has_ari_id && directory.renewal_info.is_some());
        if let Some(replaced) = &replaced {
            payload["replaces"] = replaced.id.as_str().into();
        }
        // A new order has a new key.
        identity.remove_order_key()?;
        state.lost_requests += 1;
        identity.write_state(state)?;
        *spent = Spent::Order;
        match self.client.post(&directory.new_order, Some(&payload)) {
            // RFC 9773 §5: the certificate may have been replaced before, or be of another account.
            Err(AcmeError::Problem(problem))
                if replaced.is_some() && is_about_replacing(&problem) =>
            {
                payload["replaces"].take();
                if let Some(members) = payload.as_object_mut() {
                    members.remove("replaces");
                }
                self.client.post(&directory.new_order, Some(&payload))
            }
            result => result,
        }
    }

    fn authorize(
        &mut self,
        identity: &IdentityStore,
        state: &mut IdentityState,
        order: &Order,
    ) -> Result<(), AcmeError> {
        if order.authorizations.len() > MAX_AUTHORIZATIONS {
            let text = "an order for one name has more than four authorizations";
            return Err(AcmeError::Protocol(text.to_owned()));
        }
        for url in &order.authorizations {
            self.complete(identity, state, url)?;
        }
        Ok(())
    }

    /// Answers a challenge of an authorization, and waits for the result.
    fn complete(
        &mut self,
        identity: &IdentityStore,
        state: &mut IdentityState,
        url: &str,
    ) -> Result<(), AcmeError> {
        // The type that has failed last is tried after the other one.
        let failed = state.last_failure.as_ref().and_then(|it| it.challenge);
        let preferred = failed.map_or(self.preferred, ChallengeType::other);
        let mut is_answered = false;
        for poll in 0..MAX_POLLS {
            let (authorization, retry_after) = self.fetch::<Authorization>(url)?;
            match authorization_step(&authorization, preferred) {
                AuthorizationStep::Done => return Ok(()),
                AuthorizationStep::Fail(problem) => return Err(AcmeError::Problem(problem)),
                AuthorizationStep::Answer(challenge, kind) if !is_answered => {
                    self.answer(identity, state, challenge, kind)?;
                    self.client.post(&challenge.url, Some(&json!({})))?;
                    is_answered = true;
                }
                AuthorizationStep::KeepAnswering(challenge, kind) if !is_answered => {
                    self.answer(identity, state, challenge, kind)?;
                    is_answered = true;
                }
                AuthorizationStep::Answer(..) | AuthorizationStep::KeepAnswering(..) => {}
            }
            self.host.pause(poll_interval(poll, retry_after))?;
        }
        let text = "the challenge was not validated in time";
        Err(AcmeError::Protocol(text.to_owned()))
    }

    fn answer(
        &mut self,
        identity: &IdentityStore,
        state: &mut IdentityState,
        challenge: &Challenge,
        kind: ChallengeType,
    ) -> Result<(), AcmeError> {
        if !is_token(&challenge.token) {
            let text = "the token of a challenge is not base64url";
            return Err(AcmeError::Protocol(text.to_owned()));
        }
        if let Some(order) = &mut state.order {
            order.challenge = Some(kind);
        }
        identity.write_state(state)?;
        let key_authorization = self.client.account_key()?.authorize(&challenge.token);
        identity.write_challenge(&ChallengeFile {
            kind,
            token: challenge.token.clone(),
            key_authorization,
        })?;
        self.host.answer_challenge(identity);
        self.host.pause(CHALLENGE_DELAY)
    }

    /// Downloads the certificate and puts it in place.
    fn download(
        &mut self,
        identity: &IdentityStore,
        state: &mut IdentityState,
        url: &str,
    ) -> Result<(), AcmeError> {
        let response = self.client.post(url, None)?;
        let unusable = |error: &dyn std::fmt::Display| {
            AcmeError::Protocol(super::messages::printable(&error.to_string()))
        };
        let chain: Result<Vec<CertificateDer<'static>>, _> =
            CertificateDer::pem_slice_iter(&response.content).collect();
        let chain = chain.map_err(|error| unusable(&error))?;
        if chain.is_empty() || chain.len() > MAX_CHAIN {
            return Err(unusable(&"a chain of one to ten certificates is expected"));
        }
        let key = identity.read_order_key()?;
        let key = key.and_then(|key| String::from_utf8(key).ok());
        let key = key.ok_or_else(|| unusable(&"the key of the order is lost"))?;
        let pair = KeyPair::from_pem(&key).map_err(|error| unusable(&error))?;
        let chain: String = chain
            .iter()
            .map(|certificate| jws::pem("CERTIFICATE", certificate))
            .collect();
        let info = CertificateInfo::from_pem(chain.as_bytes())
            .ok_or_else(|| unusable(&"the certificate cannot be parsed"))?;
        info.check(identity.name(), pair.public_key_raw(), unix_now())
            .map_err(|reason| unusable(&reason))?;
        identity.write_certificate(&(key + &chain))?;
        let plan = RenewalPlan::by_lifetime(info.id.clone(), info.validity, random());
        let next_order = schedule::order_after_success_at(unix_now(), info.validity);
        *state = IdentityState {
            plan: Some(if info.has_ari_id {
                check_soon(plan)
            } else {
                plan
            }),
            next_attempt: Some(next_order),
            ..IdentityState::default()
        };
        identity.write_state(state)?;
        identity.remove_order_key()?;
        identity.remove_renewal_request()?;
        Ok(())
    }

    /// Makes the plan for the present certificate, or asks for renewal information again.
    pub(crate) fn plan(
        &mut self,
        identity: &IdentityStore,
        info: &CertificateInfo,
        state: &mut IdentityState,
        now: i64,
    ) -> Result<(), AcmeError> {
        let known = state.plan.take().filter(|plan| plan.certificate == info.id);
        let by_lifetime = || RenewalPlan::by_lifetime(info.id.clone(), info.validity, random());
        let mut plan = known.unwrap_or_else(by_lifetime);
        let received = if info.has_ari_id {
            self.client.renewal_info(&info.id)
        } else {
            Ok(None)
        };
        let result = match received {
            Ok(Some((renewal, retry_after))) => {
                if let Some(window) = renewal.suggested_window.seconds() {
                    if plan.window != Some(window)
                        && let Some(url) = &renewal.explanation_url
                    {
                        let url = super::messages::printable(url);
                        log::warn!("acme: {}: renewal is suggested, see {url}", identity.name());
                    }
                    plan.follow(window, random());
                }
                plan.check_again(now, retry_after);
                Ok(())
            }
            Ok(None) => {
                plan.next_check = None;
                Ok(())
            }
            Err(error) => {
                plan.check_again(now, None);
                Err(error)
            }
        };
        state.plan = Some(plan);
        identity.write_state(state)?;
        result
    }
}

/// Lets the renewal information of a new certificate be requested at once.
fn check_soon(mut plan: RenewalPlan) -> RenewalPlan {
    plan.next_check = Some(0);
    plan
}

/// Returns whether an order has expired, or is not one of the account.
fn is_about_missing_order(problem: &Problem) -> bool {
    let others = ["accountDoesNotExist", "rateLimited", "badNonce"];
    !others.iter().any(|kind| problem.is(kind))
}

fn is_about_replacing(problem: &Problem) -> bool {
    ["alreadyReplaced", "conflict", "malformed"]
        .iter()
        .any(|kind| problem.is(kind))
}

/// Returns the certificate request of an order, in DER. Its key is created and stored with the first
/// one.
fn certificate_request(identity: &IdentityStore) -> Result<Vec<u8>, AcmeError> {
    let failed = |error: rcgen::Error| AcmeError::Protocol(error.to_string());
    let stored = identity.read_order_key()?;
    let stored = stored.and_then(|pem| KeyPair::from_pem(&String::from_utf8(pem).ok()?).ok());
    let key = match stored {
        Some(key) => key,
        None => {
            let key = KeyPair::generate().map_err(failed)?;
            identity.write_order_key(&key.serialize_pem())?;
            key
        }
    };
    let mut params = CertificateParams::new([identity.name().to_owned()]).map_err(failed)?;
    params.distinguished_name = DistinguishedName::new();
    let request = params.serialize_request(&key).map_err(failed)?;
    Ok(request.der().to_vec())
}

/// Notes a failure and the time of the next attempt.
fn record_failure(state: &mut IdentityState, error: &AcmeError, spent: Spent) {
    let now = unix_now();
    // An order can be continued if the connection to the certificate authority is lost.
    let can_continue = matches!(error, AcmeError::Unreachable { .. } | AcmeError::State(_));
    let order = if can_continue {
        state.order.clone()
    } else {
        state.order.take()
    };
    state.lost_requests = 0;
    state.failures = state.failures.saturating_add(1);
    let retry_after = match error {
        AcmeError::Problem(problem) => problem.retry_after,
        AcmeError::Unreachable { retry_after, .. } => *retry_after,
        _ => None,
    };
    let needs_new_order = !can_continue || (spent == Spent::Order && order.is_none());
    let (failures, random) = (state.failures, random());
    state.next_attempt = Some(if needs_new_order {
        schedule::order_again_at(now, failures, retry_after, random)
    } else {
        schedule::retry_at(now, failures, retry_after, random)
    });
    let challenge = order
        .filter(|_| !can_continue)
        .and_then(|order| order.challenge);
    state.last_failure = Some(Failure {
        at: now,
        kind: error.kind(),
        message: error.to_string(),
        challenge,
    });
}

/// Returns the time until the next request, within the bounds.
fn poll_interval(poll: usize, retry_after: Option<u64>) -> Duration {
    let grown = FIRST_POLL * 2_u32.pow(poll.min(8) as u32);
    let demanded = retry_after.map(Duration::from_secs);
    demanded.unwrap_or(grown).clamp(FIRST_POLL, MAX_POLL)
}

/// Returns a number from 0 to 1.
fn random() -> f64 {
    let mut bytes = [0; 4];
    // Without randomness, servers renew at the same time.
    let _ = SystemRandom::new().fill(&mut bytes);
    f64::from(u32::from_be_bytes(bytes)) / f64::from(u32::MAX)
}
