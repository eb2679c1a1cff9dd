//! The clients that have connections: how many each has, and the bandwidth they share.

use std::collections::HashMap;
use std::net::IpAddr;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::limiter::{BandwidthLimiter, Permit, RateLimiter};
use crate::client_key::ClientKey;
use crate::config::Limits;
use crate::sync::Mutex;

/// Maximum number of disconnected clients that are kept because they have exceeded their rate.
/// Beyond it, which takes very low rates, all of them are forgotten.
const MAX_DEBTORS: usize = 16 * 1024;

/// Clients are not purged below this count.
const MIN_PURGE_LEN: usize = 1024;

/// Enforces the limits per client. Shared by all threads of a server.
#[derive(Debug)]
pub(crate) struct Clients {
    table: Mutex<ClientTable>,
}

/// The limits of each client.
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
    limits: PerClientLimits,
    clients: HashMap<ClientKey, ClientEntry>,
    /// Number of clients at which the table is purged.
    purge_len: usize,
}

/// What one client has.
#[derive(Debug)]
struct ClientEntry {
    connections: usize,
    bandwidth: Option<Arc<RateLimiter>>,
}

/// The place of one connection among its client's, and its bandwidth limit. Without limits it is
/// [`UNLIMITED`](Self::UNLIMITED) and allocates nothing.
#[derive(Debug)]
pub(crate) struct ClientSlot(Option<Box<LimitedSlot>>);

/// A connection that is subject to a limit. Given back to the client when dropped.
#[derive(Debug)]
struct LimitedSlot {
    clients: Arc<Clients>,
    /// `None` if the connection has no client address (a Unix socket).
    client: Option<ClientKey>,
    limiter: BandwidthLimiter,
}

/// The client has its maximum number of connections.
#[derive(Debug)]
pub(crate) struct TooManyConnections;

impl ClientSlot {
    pub(crate) const UNLIMITED: Self = Self(None);

    /// Returns whether the connection may move bytes now.
    pub(crate) fn request(&mut self, now: Instant) -> Permit {
        let slot = self.0.as_mut();
        slot.map_or(Permit::Ready(usize::MAX), |slot| slot.limiter.request(now))
    }

    /// Returns how many bytes may move at once at most.
    pub(crate) fn chunk(&self) -> usize {
        let slot = self.0.as_ref();
        slot.map_or(usize::MAX, |slot| slot.limiter.chunk())
    }

    /// Counts bytes that have moved.
    pub(crate) fn on_moved(&mut self, bytes: usize, now: Instant) {
        if let Some(slot) = &mut self.0 {
            slot.limiter.on_moved(bytes, now);
        }
    }

    /// From now on the connection waits for bandwidth and nothing else.
    pub(crate) fn begin_wait(&mut self, now: Instant) {
        if let Some(slot) = &mut self.0 {
            slot.limiter.begin_wait(now);
        }
    }

    /// The connection runs again. Returns how long it has waited for bandwidth, if it has.
    pub(crate) fn end_wait(&mut self, now: Instant) -> Option<Duration> {
        self.0.as_mut()?.limiter.end_wait(now)
    }

    /// Returns until when the connection waits for bandwidth, if it does.
    pub(crate) fn throttled_until(&self) -> Option<Instant> {
        self.0.as_ref()?.limiter.throttled_until()
    }

    /// Gives back bandwidth that the connection has reserved and cannot use.
    pub(crate) fn release(&mut self) {
        if let Some(slot) = &mut self.0 {
            slot.limiter.release();
        }
    }

    /// Removes the bandwidth limit, because the peer has disconnected.
    pub(crate) fn unlimit(&mut self) {
        if let Some(slot) = &mut self.0 {
            slot.limiter.unlimit();
        }
    }
}

impl Clients {
    /// Returns `None` if there are no limits per client or connection.
    pub(crate) fn new(limits: &Limits) -> Option<Arc<Self>> {
        let limits = PerClientLimits::of(limits);
        if limits.is_unlimited() {
            return None;
        }
        let table = ClientTable {
            limits,
            clients: HashMap::new(),
            purge_len: MIN_PURGE_LEN,
        };
        Some(Arc::new(Self {
            table: Mutex::new(table),
        }))
    }

    /// Changes the limits. A client that has more connections than it may have now keeps them, and
    /// existing connections keep their bandwidth.
    pub(crate) fn change(&self, limits: &Limits, now: Instant) {
        let mut table = self.table.lock();
        table.limits = PerClientLimits::of(limits);
        let bandwidth = table.limits.bandwidth;
        for entry in table.clients.values_mut() {
            entry.bandwidth = bandwidth.map(|rate| Arc::new(RateLimiter::new(rate, now)));
        }
    }

    /// Registers a connection of the client at `address`. An unspecified address (`::`) belongs to
    /// no client; only the limit per connection applies to it.
    pub(crate) fn register(
        self: &Arc<Self>,
        address: IpAddr,
        now: Instant,
    ) -> Result<ClientSlot, TooManyConnections> {
        let mut table = self.table.lock();
        let own = table.limits.bandwidth_per_connection;
        let own = own.map(|rate| RateLimiter::new(rate, now));
        let Some(client) = ClientKey::of(address) else {
            return Ok(match own {
                Some(_) => self.slot(None, BandwidthLimiter::new(own, None, now)),
                None => ClientSlot::UNLIMITED,
            });
        };
        table.purge(now);
        let ClientTable {
            limits, clients, ..
        } = &mut *table;
        let entry = clients.entry(client).or_insert_with(|| ClientEntry {
            connections: 0,
            bandwidth: limits
                .bandwidth
                .map(|rate| Arc::new(RateLimiter::new(rate, now))),
        });
        if limits
            .connections
            .is_some_and(|max| entry.connections >= max)
        {
            return Err(TooManyConnections);
        }
        entry.connections += 1;
        let limiter = BandwidthLimiter::new(own, entry.bandwidth.clone(), now);
        Ok(self.slot(Some(client), limiter))
    }

    fn slot(self: &Arc<Self>, client: Option<ClientKey>, limiter: BandwidthLimiter) -> ClientSlot {
        ClientSlot(Some(Box::new(LimitedSlot {
            clients: Arc::clone(self),
            client,
            limiter,
        })))
    }
}

impl ClientTable {
    /// Removes clients without connections, except those that have exceeded their rate: to
    /// disconnect and reconnect must not reset it.
    fn purge(&mut self, now: Instant) {
        if self.clients.len() < self.purge_len {
            return;
        }
        let is_connected = |entry: &ClientEntry| entry.connections > 0;
        let has_debt = |entry: &ClientEntry| {
            let bandwidth = entry.bandwidth.as_ref();
            bandwidth.is_some_and(|limiter| !limiter.is_unused(now))
        };
        self.clients
            .retain(|_, entry| is_connected(entry) || has_debt(entry));
        let debtors = self.clients.values().filter(|entry| !is_connected(entry));
        if debtors.count() > MAX_DEBTORS {
            self.clients.retain(|_, entry| is_connected(entry));
        }
        // Doubling makes the cost per registration constant on average.
        self.purge_len = MIN_PURGE_LEN.max(2 * self.clients.len());
    }
}

impl Drop for LimitedSlot {
    fn drop(&mut self) {
        let Some(client) = &self.client else {
            return;
        };
        let mut table = self.clients.table.lock();
        let Some(entry) = table.clients.get_mut(client) else {
            return;
        };
        entry.connections = entry.connections.saturating_sub(1);
        if entry.connections == 0 && entry.bandwidth.is_none() {
            table.clients.remove(client);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limited(limit: impl FnOnce(&mut Limits)) -> Arc<Clients> {
        let mut limits = Limits::default();
        limit(&mut limits);
        Clients::new(&limits).expect("a limit")
    }

    fn register(
        clients: &Arc<Clients>,
        address: &str,
        now: Instant,
    ) -> Result<ClientSlot, TooManyConnections> {
        clients.register(address.parse().expect("an address"), now)
    }

    #[test]
    fn connections_per_client_are_limited() {
        let clients = limited(|limits| limits.max_connections_per_client = Some(2));
        let now = Instant::now();
        let ana = "192.0.2.1";
        let held = [(); 2].map(|()| register(&clients, ana, now).expect("one of two"));
        assert!(register(&clients, ana, now).is_err());
        assert!(register(&clients, "192.0.2.2", now).is_ok());
        drop(held);
        assert!(register(&clients, ana, now).is_ok());
        assert!(clients.table.lock().clients.is_empty(), "a client is kept");
        // Connections through a Unix socket have no address and are not one client.
        for _ in 0..10 {
            let slot = register(&clients, "::", now).expect("no limit");
            assert!(slot.0.is_none());
        }
    }

    #[test]
    fn changed_connection_limit_applies_to_new_connections() {
        let limits = |max| Limits {
            max_connections_per_client: max,
            ..Limits::default()
        };
        let clients = Clients::new(&limits(Some(1))).expect("a limit");
        let now = Instant::now();
        let register = || register(&clients, "192.0.2.1", now).ok();
        let first = register();
        assert!(first.is_some() && register().is_none());
        clients.change(&limits(Some(2)), now);
        let second = register();
        assert!(second.is_some() && register().is_none());
        clients.change(&limits(Some(1)), now);
        drop(first);
        assert!(register().is_none());
        drop(second);
        assert!(register().is_some());
        clients.change(&limits(None), now);
        assert!([(); 3].map(|()| register()).iter().all(Option::is_some));
    }

    #[test]
    fn no_limits_need_no_table() {
        assert!(Clients::new(&Limits::default()).is_none());
    }

    #[test]
    fn reconnecting_does_not_reset_the_rate() {
        let clients = limited(|limits| limits.bandwidth_per_client = NonZeroU64::new(10_000));
        let now = Instant::now();
        let connect = |address: &str, now| {
            let mut slot = register(&clients, address, now).expect("no limit");
            let permit = slot.request(now);
            slot.on_moved(100_000, now);
            permit
        };
        assert!(matches!(connect("192.0.2.1", now), Permit::Ready(_)));
        let in_debt = now + Duration::from_secs(9);
        // More clients than are kept connect and disconnect.
        for other in 0..4 * MIN_PURGE_LEN as u32 {
            let other = std::net::Ipv4Addr::from(other + (10 << 24)).to_string();
            drop(register(&clients, &other, in_debt));
        }
        assert!(clients.table.lock().clients.len() <= 2 * MIN_PURGE_LEN);
        assert!(matches!(connect("192.0.2.1", in_debt), Permit::RetryAt(_)));
        assert!(matches!(connect("192.0.2.2", in_debt), Permit::Ready(_)));
    }

    #[test]
    fn connections_without_address_are_limited_each_on_its_own() {
        let clients = limited(|limits| {
            limits.max_connections_per_client = Some(1);
            limits.bandwidth_per_client = NonZeroU64::new(1024);
            limits.bandwidth_per_connection = NonZeroU64::new(1024);
        });
        let now = Instant::now();
        let slots = [(); 3].map(|()| register(&clients, "::", now).expect("no limit"));
        for mut slot in slots {
            assert!(matches!(slot.request(now), Permit::Ready(_)));
            slot.on_moved(100_000, now);
            assert!(matches!(slot.request(now), Permit::RetryAt(_)));
        }
        assert!(clients.table.lock().clients.is_empty());
    }

    #[test]
    fn number_of_disconnected_clients_is_bounded() {
        let clients = limited(|limits| limits.bandwidth_per_client = NonZeroU64::new(1024));
        let now = Instant::now();
        let address: IpAddr = "192.0.2.1".parse().expect("an address");
        let _connected = clients.register(address, now).expect("no limit");
        for other in 0..8 * MAX_DEBTORS as u32 {
            let other = std::net::Ipv4Addr::from(other + (10 << 24)).to_string();
            let mut slot = register(&clients, &other, now).expect("no limit");
            slot.on_moved(1_000_000, now);
        }
        let table = clients.table.lock();
        let len = table.clients.len();
        assert!(len <= 4 * MAX_DEBTORS, "{len}");
        let key = ClientKey::of(address).expect("an address");
        assert!(table.clients.contains_key(&key));
    }
}
