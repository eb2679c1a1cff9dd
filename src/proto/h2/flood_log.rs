//! The log of floods: one line per client and minute, for all event loops together, because a client that
//! is disconnected may come back at once.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::flood::Flood;
use crate::client_key::ClientKey;
use crate::sync::Mutex;

/// How long nothing further is logged of a client.
const INTERVAL: Duration = Duration::from_secs(60);

/// Clients that are remembered. There are no more lines in one interval, however many clients there are.
const MAX_CLIENTS: usize = 256;

static RECENT: Mutex<RecentClients> = Mutex::new(RecentClients::new());

/// Logs that a client has exceeded a limit, if that is due.
pub(super) fn report(client: SocketAddr, flood: Flood, now: Instant) {
    let name = flood.name();
    if RECENT.lock().insert(ClientKey::of(client.ip()), now) {
        log::info!(
            "HTTP/2: {client} exceeds the limit {name}; connection closed \
             (no further line about this client for a minute)"
        );
    } else {
        log::debug!("HTTP/2: {client} exceeds the limit {name}; connection closed");
    }
}

/// The clients that were logged in the last interval. Those without an address count as one.
#[derive(Debug)]
struct RecentClients {
    /// Oldest first.
    clients: VecDeque<(Option<ClientKey>, Instant)>,
}

impl RecentClients {
    const fn new() -> Self {
        Self {
            clients: VecDeque::new(),
        }
    }

    /// Remembers a client. Returns false if it is remembered already, or if there are too many.
    fn insert(&mut self, client: Option<ClientKey>, now: Instant) -> bool {
        let is_over = |since: Instant| now.saturating_duration_since(since) >= INTERVAL;
        while let Some((_, since)) = self.clients.front()
            && is_over(*since)
        {
            self.clients.pop_front();
        }
        let is_known = self.clients.iter().any(|(known, _)| *known == client);
        if is_known || self.clients.len() >= MAX_CLIENTS {
            return false;
        }
        self.clients.push_back((client, now));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn client(number: u32) -> Option<ClientKey> {
        ClientKey::of(Ipv4Addr::from_bits(0x0A00_0001 + number).into())
    }

    #[test]
    fn client_is_logged_once_per_minute() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut recent = RecentClients::new();
        assert!(recent.insert(client(0), at(0)));
        assert!(!recent.insert(client(0), at(59)));
        assert!(recent.insert(client(1), at(59)));
        assert!(recent.insert(None, at(59)));
        assert!(recent.insert(client(0), at(60)));
        assert!(!recent.insert(client(1), at(118)));
        assert!(!recent.insert(None, at(118)));
    }

    #[test]
    fn lines_and_memory_are_bounded() {
        let start = Instant::now();
        let mut recent = RecentClients::new();
        let logged = (0..10_000).filter(|number| recent.insert(client(*number), start));
        assert_eq!(logged.count(), MAX_CLIENTS);
        assert_eq!(recent.clients.len(), MAX_CLIENTS);
        assert!(recent.insert(client(10_000), start + INTERVAL));
        assert_eq!(recent.clients.len(), 1);
    }
}
