//! How many connections each client has.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::client::Client;

/// The clients that have connections, and at most so many each.
#[derive(Debug)]
pub(crate) struct Clients {
    most: usize,
    counts: Mutex<HashMap<Client, usize>>,
}

/// One connection of a client; it is given back when this is dropped.
#[derive(Debug)]
pub(crate) struct Share {
    clients: Arc<Clients>,
    client: Client,
}

/// A client has its share already.
#[derive(Debug)]
pub(crate) struct TooMany;

impl Clients {
    pub(crate) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self {
            most,
            counts: Mutex::default(),
        })
    }

    /// What a connection of the client at `address` counts for; nothing if that is no address.
    pub(crate) fn share(self: &Arc<Self>, address: IpAddr) -> Result<Option<Box<Share>>, TooMany> {
        let Some(client) = Client::of(address) else {
            return Ok(None);
        };
        let mut counts = self.counts();
        let count = counts.entry(client).or_default();
        if *count >= self.most {
            return Err(TooMany);
        }
        *count += 1;
        Ok(Some(Box::new(Share {
            clients: Arc::clone(self),
            client,
        })))
    }

    fn counts(&self) -> MutexGuard<'_, HashMap<Client, usize>> {
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
            assert!(share(same).is_err(), "{same}");
            assert!(share(other).is_ok(), "{other}");
            drop(held);
            assert!(share(same).is_ok(), "{same}");
        }
        assert!(clients.counts().is_empty(), "nothing is remembered");
    }
}
