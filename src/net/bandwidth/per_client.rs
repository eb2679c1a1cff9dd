//! The clients that have connections: how many each, and at which pace these may move bytes.

use std::collections::HashMap;
use std::net::IpAddr;
use std::num::NonZeroU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::limiter::{BandwidthLimiter, RateLimiter};
use crate::client_key::ClientKey;
use crate::config::Limits;

/// How many clients that have gone and have not paid yet for what they have moved are remembered,
/// beside those that are there. More, at the lowest rates there are, are forgiven.
const MAX_DEBTORS: usize = 16 * 1024;

/// So few are not looked through for whom to forget.
const FEW: usize = 1024;

/// What limits say of each client.
#[derive(Debug)]
pub(crate) struct Clients {
    known: Mutex<ClientTable>,
}

/// How much there may be for each.
#[derive(Debug)]
struct PerClientLimits {
    connections: Option<usize>,
    bandwidth: Option<NonZeroU64>,
    bandwidth_per_connection: Option<NonZeroU64>,
}

impl PerClientLimits {
    fn of(limits: &Limits) -> Self {
        Self {
            connections: limits.max_connections_per_client,
            bandwidth: limits.bandwidth_per_client,
            bandwidth_per_connection: limits.bandwidth_per_connection,
        }
    }

    fn is_unlimited(&self) -> bool {
        self.connections.is_none()
            && self.bandwidth.is_none()
            && self.bandwidth_per_connection.is_none()
    }
}

#[derive(Debug)]
struct ClientTable {
    most: PerClientLimits,
    clients: HashMap<ClientKey, ClientEntry>,
    /// With how many it is looked who can be forgotten.
    too_many: usize,
}

/// What one client has.
#[derive(Debug)]
struct ClientEntry {
    connections: usize,
    pace: Option<Arc<RateLimiter>>,
}

/// One connection of a client, and its part of what the client has. It is given back when this is
/// dropped.
#[derive(Debug)]
pub(crate) struct ClientSlot {
    clients: Arc<Clients>,
    /// Nobody's if it is `None`.
    client: Option<ClientKey>,
    /// What may be moved, if that has a limit.
    pub(crate) allowance: Option<BandwidthLimiter>,
}

/// A client has its share already.
#[derive(Debug)]
pub(crate) struct TooManyConnections;

impl Clients {
    /// `None` if there is no limit for which anything had to be known.
    pub(crate) fn new(limits: &Limits) -> Option<Arc<Self>> {
        let most = PerClientLimits::of(limits);
        if most.is_unlimited() {
            return None;
        }
        let known = ClientTable {
            most,
            clients: HashMap::new(),
            too_many: FEW,
        };
        Some(Arc::new(Self {
            known: Mutex::new(known),
        }))
    }

    /// From now on there may be so much for each. Who has more connections keeps them, and
    /// connections that are there keep their pace.
    pub(crate) fn change(&self, limits: &Limits, now: Instant) {
        let mut known = self.known();
        known.most = PerClientLimits::of(limits);
        let bandwidth = known.most.bandwidth;
        for holdings in known.clients.values_mut() {
            holdings.pace = bandwidth.map(|rate| Arc::new(RateLimiter::new(rate, now)));
        }
    }

    /// What a connection of the client at `address` counts for. If that is no address it is nobody's,
    /// and has nothing but its own bandwidth.
    pub(crate) fn share(
        self: &Arc<Self>,
        address: IpAddr,
        now: Instant,
    ) -> Result<Option<Box<ClientSlot>>, TooManyConnections> {
        let mut known = self.known();
        let own = known.most.bandwidth_per_connection;
        let own = own.map(|rate| RateLimiter::new(rate, now));
        let Some(client) = ClientKey::of(address) else {
            let share = |own| ClientSlot {
                clients: Arc::clone(self),
                client: None,
                allowance: BandwidthLimiter::new(Some(own), None, now),
            };
            return Ok(own.map(share).map(Box::new));
        };
        known.forget_some(now);
        let ClientTable { most, clients, .. } = &mut *known;
        let holdings = clients.entry(client).or_insert_with(|| ClientEntry {
            connections: 0,
            pace: most
                .bandwidth
                .map(|rate| Arc::new(RateLimiter::new(rate, now))),
        });
        if most
            .connections
            .is_some_and(|most| holdings.connections >= most)
        {
            return Err(TooManyConnections);
        }
        holdings.connections += 1;
        Ok(Some(Box::new(ClientSlot {
            clients: Arc::clone(self),
            client: Some(client),
            allowance: BandwidthLimiter::new(own, holdings.pace.clone(), now),
        })))
    }

    fn known(&self) -> MutexGuard<'_, ClientTable> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientTable {
    /// Those who are there stay known, and those who still owe: nobody gets a new start by coming
    /// again.
    fn forget_some(&mut self, now: Instant) {
        if self.clients.len() < self.too_many {
            return;
        }
        let is_there = |holdings: &ClientEntry| holdings.connections > 0;
        let owes = |holdings: &ClientEntry| {
            let pace = holdings.pace.as_ref();
            pace.is_some_and(|pace| !pace.is_rested(now))
        };
        self.clients
            .retain(|_, holdings| is_there(holdings) || owes(holdings));
        let gone = self.clients.values().filter(|one| !is_there(one)).count();
        if gone > MAX_DEBTORS {
            self.clients.retain(|_, holdings| is_there(holdings));
        }
        // So each is looked at a few times at most.
        self.too_many = FEW.max(2 * self.clients.len());
    }
}

impl Drop for ClientSlot {
    fn drop(&mut self) {
        let Some(client) = &self.client else {
            return;
        };
        let mut known = self.clients.known();
        let Some(holdings) = known.clients.get_mut(client) else {
            return;
        };
        holdings.connections = holdings.connections.saturating_sub(1);
        if holdings.connections == 0 && holdings.pace.is_none() {
            known.clients.remove(client);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::net::bandwidth::limiter::Permit;

    fn limited(limit: impl FnOnce(&mut Limits)) -> Arc<Clients> {
        let mut limits = Limits::default();
        limit(&mut limits);
        Clients::new(&limits).expect("a limit")
    }

    fn share(
        clients: &Arc<Clients>,
        address: &str,
        now: Instant,
    ) -> Result<Box<ClientSlot>, TooManyConnections> {
        let share = clients.share(address.parse().expect("an address"), now);
        share.map(|share| share.expect("a client"))
    }

    #[test]
    fn a_client_has_so_many_connections() {
        let clients = limited(|limits| limits.max_connections_per_client = Some(2));
        let now = Instant::now();
        let ana = "192.0.2.1";
        let held = [(); 2].map(|()| share(&clients, ana, now).expect("one of two"));
        assert!(share(&clients, ana, now).is_err());
        assert!(share(&clients, "192.0.2.2", now).is_ok());
        drop(held);
        assert!(share(&clients, ana, now).is_ok());
        assert!(clients.known().clients.is_empty(), "nothing is remembered");
        // All who come through a unix socket would be one.
        for _ in 0..10 {
            let nobody = "::".parse().expect("an address");
            assert!(clients.share(nobody, now).expect("no limit").is_none());
        }
    }

    #[test]
    fn what_a_client_may_have_grows_and_shrinks() {
        let limits = |most| Limits {
            max_connections_per_client: most,
            ..Limits::default()
        };
        let clients = Clients::new(&limits(Some(1))).expect("a limit");
        let now = Instant::now();
        let share = || share(&clients, "192.0.2.1", now).ok();
        let first = share();
        assert!(first.is_some() && share().is_none());
        clients.change(&limits(Some(2)), now);
        let second = share();
        assert!(second.is_some() && share().is_none());
        clients.change(&limits(Some(1)), now);
        drop(first);
        assert!(share().is_none());
        drop(second);
        assert!(share().is_some());
        clients.change(&limits(None), now);
        assert!([(); 3].map(|()| share()).iter().all(Option::is_some));
    }

    #[test]
    fn without_limits_there_is_nothing_to_know() {
        assert!(Clients::new(&Limits::default()).is_none());
    }

    /// To hang up and to come again is no way out of a debt.
    #[test]
    fn who_comes_again_has_the_pace_it_had() {
        let clients = limited(|limits| limits.bandwidth_per_client = NonZeroU64::new(10_000));
        let now = Instant::now();
        let go = |address: &str, now| {
            let mut share = share(&clients, address, now).expect("no limit");
            let allowance = share.allowance.as_mut().expect("a pace");
            let go = allowance.ask(now);
            allowance.on_moved(100_000, now);
            go
        };
        assert!(matches!(go("192.0.2.1", now), Permit::Ready(_)));
        let owed = now + Duration::from_secs(9);
        // Others come and go, too many to remember.
        for other in 0..4 * FEW as u32 {
            let other = std::net::Ipv4Addr::from(other + (10 << 24)).to_string();
            drop(share(&clients, &other, owed));
        }
        assert!(clients.known().clients.len() <= 2 * FEW);
        assert!(matches!(go("192.0.2.1", owed), Permit::RetryAt(_)));
        assert!(matches!(go("192.0.2.2", owed), Permit::Ready(_)));
    }

    #[test]
    fn who_has_no_address_has_a_bandwidth_of_its_own() {
        let clients = limited(|limits| {
            limits.max_connections_per_client = Some(1);
            limits.bandwidth_per_client = NonZeroU64::new(1024);
            limits.bandwidth_per_connection = NonZeroU64::new(1024);
        });
        let now = Instant::now();
        let nobodys = [(); 3].map(|()| share(&clients, "::", now).expect("no limit"));
        for mut share in nobodys {
            let allowance = share.allowance.as_mut().expect("a pace");
            assert!(matches!(allowance.ask(now), Permit::Ready(_)));
            allowance.on_moved(100_000, now);
            assert!(matches!(allowance.ask(now), Permit::RetryAt(_)));
        }
        assert!(clients.known().clients.is_empty());
    }

    #[test]
    fn there_is_an_end_to_who_is_remembered() {
        let clients = limited(|limits| limits.bandwidth_per_client = NonZeroU64::new(1024));
        let now = Instant::now();
        let stays = share(&clients, "192.0.2.1", now).expect("no limit");
        for other in 0..8 * MAX_DEBTORS as u32 {
            let other = std::net::Ipv4Addr::from(other + (10 << 24)).to_string();
            let mut share = share(&clients, &other, now).expect("no limit");
            let allowance = share.allowance.as_mut().expect("a pace");
            allowance.on_moved(1_000_000, now);
        }
        let known = clients.known();
        assert!(
            known.clients.len() <= 4 * MAX_DEBTORS,
            "{}",
            known.clients.len()
        );
        assert!(
            stays
                .client
                .is_some_and(|client| known.clients.contains_key(&client))
        );
    }
}
