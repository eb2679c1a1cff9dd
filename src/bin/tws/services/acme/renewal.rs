//! The thread that orders certificates. It waits for the certificate authority as long as that takes;
//! nothing else waits for it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tws::{Error, ServerHandle, ServerState};

use super::identities::Identities;
use crate::acme::{
    AcmeError, Action, CaRoots, CaStore, CertificateInfo, ChallengeType, Client, ExternalAccount,
    Facts, Host, IdentityState, IdentityStore, Issuer, date, decide, is_overdue, unix_now,
};
use crate::cli::AcmeSettings;

/// The time between two looks at the requests of `tws acme`, and at what other processes have done.
const TICK: Duration = Duration::from_secs(1);

/// The time until a name is looked at again whose folder cannot be used, in seconds.
const RETRY_STATE: i64 = 60;

/// The time between two warnings about a certificate that is not renewed, in seconds.
const WARNING_INTERVAL: i64 = 24 * 3600;

/// What the thread needs.
pub(super) struct Renewal {
    pub(super) identities: Arc<Identities>,
    pub(super) ca: CaStore,
    pub(super) settings: AcmeSettings,
    pub(super) roots: CaRoots,
    pub(super) external: Option<ExternalAccount>,
    pub(super) preferred: ChallengeType,
    pub(super) server: ServerHandle,
}

/// What the thread remembers of a name.
#[derive(Default)]
struct Memory {
    /// Nothing is done before this time, except for a new request of the operator.
    quiet_until: i64,
    was_requested: bool,
    last_warning: Option<i64>,
}

/// The process, as it is seen by an order.
struct ServingHost<'a> {
    identities: &'a Identities,
    server: &'a ServerHandle,
}

impl Host for ServingHost<'_> {
    fn answer_challenge(&self, identity: &IdentityStore) {
        self.identities.answer_challenge(identity.name());
    }

    fn pause(&self, time: Duration) -> Result<(), AcmeError> {
        if self.server.wait_for(ServerState::ShutdownAnnounced, time) {
            Err(AcmeError::Stopped)
        } else {
            Ok(())
        }
    }
}

impl Renewal {
    /// Runs until the server shuts down.
    pub(super) fn run(&self) {
        // A challenge can be answered from then on.
        while !self.server.wait_for(ServerState::Serving, TICK) {}
        let mut memories: BTreeMap<String, Memory> = BTreeMap::new();
        loop {
            let stores = self.identities.stores();
            memories.retain(|name, _| stores.iter().any(|store| store.name() == name));
            for store in &stores {
                let memory = memories.entry(store.name().to_owned()).or_default();
                match self.advance(store, memory) {
                    Ok(()) => {}
                    Err(AcmeError::Stopped) => return,
                    Err(error) => {
                        log::error!("acme: {}: {error}", store.name());
                        memory.quiet_until = unix_now() + RETRY_STATE;
                    }
                }
            }
            if self.is_stopped_within(TICK) {
                return;
            }
        }
    }

    /// Waits. Returns true if the server shuts down.
    pub(super) fn is_stopped_within(&self, time: Duration) -> bool {
        self.server.wait_for(ServerState::ShutdownAnnounced, time)
    }

    /// Does what is due for a name.
    fn advance(&self, store: &IdentityStore, memory: &mut Memory) -> Result<(), AcmeError> {
        let now = unix_now();
        let is_requested = store.is_renewal_requested();
        let is_new_request = is_requested && !memory.was_requested;
        memory.was_requested = is_requested;
        // A clock that was set back does not prolong the pause.
        let is_quiet = (now..=now + WARNING_INTERVAL).contains(&memory.quiet_until);
        if is_quiet && now < memory.quiet_until && !is_new_request {
            return Ok(());
        }
        let (state, info) = read(store)?;
        match self.decide(store, &state, info.as_ref(), now) {
            Action::Wait(until) => {
                self.explain_wait(store, &state, is_requested)?;
                warn_if_overdue(store, &state, info.as_ref(), memory, now);
                // Another process may change the files meanwhile.
                memory.quiet_until = until.min(now + RETRY_STATE);
                return Ok(());
            }
            Action::Order | Action::Plan => {}
        }
        let Some(_lock) = store.try_lock()? else {
            return Ok(());
        };
        // Another process may have done it before the lock was free.
        let (mut state, info) = read(store)?;
        let host = ServingHost {
            identities: &self.identities,
            server: &self.server,
        };
        let mut client = Client::new(self.settings.directory.url(), &self.roots);
        let mut issuer = Issuer {
            ca: &self.ca,
            client: &mut client,
            host: &host,
            email: self.settings.email.as_deref(),
            external: self.external.as_ref(),
            profile: self.settings.profile.as_deref(),
            preferred: self.preferred,
        };
        match (self.decide(store, &state, info.as_ref(), now), &info) {
            (Action::Wait(_), _) => Ok(()),
            (Action::Plan, Some(info)) => {
                if let Err(error) = issuer.plan(store, info, &mut state, now) {
                    log::info!("acme: {}: no renewal information: {error}", store.name());
                }
                Ok(())
            }
            (Action::Order | Action::Plan, _) => {
                log::info!("acme: {}: ordering a certificate", store.name());
                let result = issuer.obtain(store, &mut state);
                self.report(store, &state, result)
            }
        }
    }

    fn decide(
        &self,
        store: &IdentityStore,
        state: &IdentityState,
        info: Option<&CertificateInfo>,
        now: i64,
    ) -> Action {
        let plan = state.plan.as_ref();
        let is_requested = store.is_renewal_requested();
        let facts = Facts {
            validity: info.map(|info| info.validity),
            plan: plan.filter(|plan| info.is_some_and(|info| plan.is_for(info))),
            // The time after a success is not for the operator.
            next_attempt: state
                .next_attempt
                .filter(|_| state.failures > 0 || !is_requested),
            is_wanted: state.is_revoked
                || state.has_order()
                || is_requested
                || !self.identities.has_issued(store.name()),
        };
        decide(&facts, now)
    }

    /// Answers a request of `tws acme renew` that comes too early.
    fn explain_wait(
        &self,
        store: &IdentityStore,
        state: &IdentityState,
        is_requested: bool,
    ) -> Result<(), Error> {
        if is_requested && let Some(next) = state.next_attempt {
            log::warn!(
                "acme: {}: not renewed now; the next attempt is at {}: {ONE_ORDER_PER_HOUR}",
                store.name(),
                date(next)
            );
            store.remove_renewal_request()?;
        }
        Ok(())
    }

    /// Logs the result of an order, and serves the certificate.
    fn report(
        &self,
        store: &IdentityStore,
        state: &IdentityState,
        result: Result<(), AcmeError>,
    ) -> Result<(), AcmeError> {
        let name = store.name();
        let error = match result {
            Ok(()) => {
                self.identities.refresh();
                let (_, info) = read(store)?;
                let until = info.map_or(0, |info| info.validity.not_after);
                log::warn!(
                    "acme: {name}: certificate obtained, valid until {}",
                    date(until)
                );
                return Ok(());
            }
            Err(AcmeError::Stopped) => return Err(AcmeError::Stopped),
            Err(error) => error,
        };
        store.remove_renewal_request()?;
        let served = if self.identities.has_issued(name) {
            "the present certificate stays in use"
        } else {
            "until then a self-signed certificate is served"
        };
        let next = state.next_attempt.map_or_else(String::new, date);
        let why = match error {
            AcmeError::Unreachable { .. } | AcmeError::State(_) => String::new(),
            _ => format!(" ({ONE_ORDER_PER_HOUR})"),
        };
        log::warn!("acme: {name}: {error}; the next attempt is at {next}{why}, {served}");
        Ok(())
    }
}

/// Why the next attempt is so late.
pub(crate) const ONE_ORDER_PER_HOUR: &str = "after a failure, a certificate is ordered once an hour at \
    most, because certificate authorities limit failed orders";

fn read(store: &IdentityStore) -> Result<(IdentityState, Option<CertificateInfo>), Error> {
    let pem = store.read_certificate()?;
    let info = pem.as_deref().and_then(CertificateInfo::from_pem);
    Ok((store.read_state()?, info))
}

/// Warns once a day of a certificate that should have been renewed.
fn warn_if_overdue(
    store: &IdentityStore,
    state: &IdentityState,
    info: Option<&CertificateInfo>,
    memory: &mut Memory,
    now: i64,
) {
    let (Some(info), Some(plan)) = (info, &state.plan) else {
        return;
    };
    let is_due = memory
        .last_warning
        .is_none_or(|last| now - last >= WARNING_INTERVAL);
    if !is_due || !is_overdue(info.validity, plan, now) {
        return;
    }
    memory.last_warning = Some(now);
    let reason = state.last_failure.as_ref().map(|it| it.message.as_str());
    log::warn!(
        "acme: {}: the certificate expires at {} and could not be renewed since {}: {}",
        store.name(),
        date(info.validity.not_after),
        date(plan.renew_at),
        reason.unwrap_or("no attempt has ended")
    );
}
