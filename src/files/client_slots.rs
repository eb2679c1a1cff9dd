//! The uploads that a site receives at once, or the archives that it sends: a limited number, of which
//! one client has a share only. They take as long as their client does, so a client could otherwise keep
//! all others from having one.

use std::collections::HashMap;
use std::sync::Arc;

use crate::client_key::ClientKey;
use crate::sync::Mutex;

/// Hands out the slots.
#[derive(Debug)]
pub(super) struct ClientSlots {
    max: usize,
    max_per_client: usize,
    in_use: Arc<Mutex<SlotsInUse>>,
}

#[derive(Debug, Default)]
struct SlotsInUse {
    count: usize,
    /// Clients that have at least one.
    by_client: HashMap<ClientKey, usize>,
}

/// A slot, which is free again when this is dropped.
#[derive(Debug)]
pub(super) struct ClientSlot {
    client: Option<ClientKey>,
    in_use: Arc<Mutex<SlotsInUse>>,
}

/// Why there is no slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoSlot {
    /// All are in use.
    Full,
    /// The client has its share.
    ClientFull,
}

impl ClientSlots {
    /// Creates `max` slots, of which a client gets a quarter.
    pub(super) fn new(max: usize) -> Self {
        Self {
            max,
            max_per_client: (max / 4).max(1),
            in_use: Arc::default(),
        }
    }

    /// Takes a slot. A client without an address, on a Unix socket, may take all of them: its peer is a
    /// proxy that does not tell clients apart.
    pub(super) fn acquire(&self, client: Option<ClientKey>) -> Result<ClientSlot, NoSlot> {
        let mut in_use = self.in_use.lock();
        if in_use.count >= self.max {
            return Err(NoSlot::Full);
        }
        if let Some(client) = client {
            let own = in_use.by_client.entry(client).or_default();
            if *own >= self.max_per_client {
                return Err(NoSlot::ClientFull);
            }
            *own += 1;
        }
        in_use.count += 1;
        Ok(ClientSlot {
            client,
            in_use: Arc::clone(&self.in_use),
        })
    }
}

impl Drop for ClientSlot {
    fn drop(&mut self) {
        let mut in_use = self.in_use.lock();
        in_use.count -= 1;
        if let Some(client) = self.client
            && let Some(own) = in_use.by_client.get_mut(&client)
        {
            *own -= 1;
            if *own == 0 {
                in_use.by_client.remove(&client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(text: &str) -> Option<ClientKey> {
        ClientKey::of(text.parse().expect("an address"))
    }

    #[test]
    fn client_gets_a_quarter_of_the_slots() {
        let slots = ClientSlots::new(8);
        let take = |text: &str| slots.acquire(client(text));
        let first = take("2001:db8::1").expect("a slot");
        let _second = take("2001:db8::2").expect("a slot");
        assert_eq!(
            take("2001:db8::3").expect_err("its share"),
            NoSlot::ClientFull
        );
        let _others: Vec<_> = (1..=6)
            .map(|at| take(&format!("192.0.2.{at}")).expect("a slot"))
            .collect();
        assert_eq!(take("192.0.2.7").expect_err("none left"), NoSlot::Full);
        drop(first);
        take("2001:db8::3").expect("a slot of its own share");
        take("192.0.2.7").expect("a slot");
        assert_eq!(slots.in_use.lock().by_client.len(), 7);
    }

    #[test]
    fn few_slots_leave_one_for_each_client() {
        let slots = ClientSlots::new(2);
        let _first = slots.acquire(client("192.0.2.1")).expect("a slot");
        let second = slots.acquire(client("192.0.2.1"));
        assert_eq!(second.expect_err("its share"), NoSlot::ClientFull);
        slots.acquire(client("192.0.2.2")).expect("a slot");
    }

    #[test]
    fn client_without_an_address_has_no_share() {
        let slots = ClientSlots::new(4);
        let _all: Vec<_> = (0..4)
            .map(|_| slots.acquire(None).expect("a slot"))
            .collect();
        assert_eq!(slots.acquire(None).expect_err("none left"), NoSlot::Full);
    }
}
