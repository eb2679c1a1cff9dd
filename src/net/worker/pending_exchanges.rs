//! The exchanges of a worker that other threads work for: pools run their jobs, read their files and
//! produce their bodies.
//!
//! When an exchange ends early, its work is cancelled: what waits in the queue of a pool is not begun.
//! What has begun is finished, and its result is dropped.

use std::collections::HashMap;

use foldhash::fast::RandomState;
use mio::Token;

use crate::client_key::ClientKey;
use crate::proto::exchange::ExchangeId;
use crate::sync::CancelFlag;

/// By connection. One of HTTP/2 has several at once.
#[derive(Debug, Default)]
pub(crate) struct PendingExchanges(HashMap<Token, Vec<PendingExchange>, RandomState>);

/// An exchange that other threads may work for, or have worked for.
#[derive(Clone, Debug)]
pub(super) struct PendingExchange {
    id: ExchangeId,
    /// The client that sent the request, for fair queues.
    pub(super) client: Option<ClientKey>,
    /// Made when the work begins: most files are in the page cache and need none.
    cancelled: Option<CancelFlag>,
}

impl PendingExchange {
    /// Returns the flag of the exchange.
    pub(super) fn cancelled(&mut self) -> &CancelFlag {
        self.cancelled.get_or_insert_default()
    }

    fn cancel(&self) {
        if let Some(flag) = &self.cancelled {
            flag.cancel();
        }
    }
}

impl PendingExchanges {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns an exchange, which is added if it is not known. Its client is unknown until its request
    /// is complete.
    pub(super) fn get(&mut self, connection: Token, id: ExchangeId) -> &mut PendingExchange {
        let exchanges = self.0.entry(connection).or_default();
        let at = exchanges.iter().position(|exchange| exchange.id == id);
        let at = at.unwrap_or_else(|| {
            exchanges.push(PendingExchange {
                id,
                client: None,
                cancelled: None,
            });
            exchanges.len() - 1
        });
        &mut exchanges[at]
    }

    /// Cancels the work for one exchange, whose result is still reported.
    pub(super) fn cancel(&mut self, connection: Token, id: ExchangeId) {
        let exchanges = self.0.get_mut(&connection);
        let mut exchanges = exchanges.into_iter().flatten();
        if let Some(exchange) = exchanges.find(|exchange| exchange.id == id) {
            exchange.cancelled().cancel();
        }
    }

    /// Keeps the exchanges of a connection that are open, and cancels the work for the others.
    pub(super) fn retain(&mut self, connection: Token, is_open: impl Fn(ExchangeId) -> bool) {
        let Some(exchanges) = self.0.get_mut(&connection) else {
            return;
        };
        exchanges.retain(|exchange| {
            let keeps = is_open(exchange.id);
            if !keeps {
                exchange.cancel();
            }
            keeps
        });
        if exchanges.is_empty() {
            self.0.remove(&connection);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_cancelled_by_exchange() {
        let mut pending = PendingExchanges::default();
        let [first, second] = [Token(1), Token(2)];
        let mut flag = |connection, id| pending.get(connection, ExchangeId(id)).cancelled().clone();
        let flags = [flag(first, 1), flag(first, 3), flag(second, 1)];
        let again = flag(first, 1);
        let cancelled = || flags.each_ref().map(CancelFlag::is_cancelled);
        pending.retain(first, |id| id == ExchangeId(3));
        assert_eq!(cancelled(), [true, false, false]);
        assert!(again.is_cancelled());
        pending.retain(first, |_| false);
        assert_eq!(cancelled(), [true, true, false]);
        pending.retain(second, |_| false);
        assert!(pending.is_empty());
    }
}
