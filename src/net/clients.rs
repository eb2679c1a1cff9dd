//! How many connections each client has.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The clients that have connections, and at most so many each.
#[derive(Debug)]
pub(crate) struct Clients {
    most: usize,
    counts: Mutex<HashMap<u128, usize>>,
}

/// One connection of a client; it is given back when this is dropped.
#[derive(Debug)]
pub(crate) struct Share {
    clients: Arc<Clients>,
    client: u128,
}

impl Clients {
    pub(crate) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self {
            most,
            counts: Mutex::default(),
        })
    }

    /// `None` if the client has its share already.
    pub(crate) fn share(self: &Arc<Self>, address: IpAddr) -> Option<Box<Share>> {
        let client = client(address);
        let mut counts = self.counts();
        let count = counts.entry(client).or_default();
        if *count >= self.most {
            return None;
        }
        *count += 1;
        Some(Box::new(Share {
            clients: Arc::clone(self),
            client,
        }))
    }

    fn counts(&self) -> MutexGuard<'_, HashMap<u128, usize>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut counts = self.clients.counts();
        match counts.get_mut(&self.client) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(counts.remove(&self.client)),
        }
    }
}

/// An IPv4 address, or the network that one IPv6 customer has at least (RFC 6177).
fn client(address: IpAddr) -> u128 {
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
        IpAddr::V6(v6) => v6.to_bits() >> 64 << 64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_an_address_or_a_network() {
        let clients = Clients::new(1);
        let share = |text: &str| clients.share(text.parse().expect("an address"));
        let table = [
            ("192.0.2.1", "::ffff:192.0.2.1", "192.0.2.2"),
            ("2001:db8::1", "2001:db8::2:0:0:1", "2001:db8:0:1::1"),
            ("127.0.0.1", "127.0.0.1", "::1"),
        ];
        for (first, same, other) in table {
            let held = share(first).expect("the first");
            assert!(share(same).is_none(), "{same}");
            assert!(share(other).is_some(), "{other}");
            drop(held);
            assert!(share(same).is_some(), "{same}");
        }
        assert!(clients.counts().is_empty(), "nothing is remembered");
    }
}
