//! The handlers that a reload has replaced and that still have to answer the requests whose body they
//! have admitted.

use std::collections::HashMap;

use mio::Token;

use super::settings::PreviousHandler;
use crate::proto::exchange::ExchangeId;

/// The previous handlers of a worker, by connection. There are some only for a while after a reload.
#[derive(Default)]
pub(super) struct PreviousHandlers {
    by_connection: HashMap<Token, ByExchange>,
}

/// The previous handlers of one connection, by exchange.
#[derive(Default)]
pub(crate) struct ByExchange(Vec<(ExchangeId, PreviousHandler)>);

impl PreviousHandlers {
    /// Adds the handler that `keep` returns for each exchange whose request body is admitted, unless an
    /// older handler has admitted it.
    pub(super) fn add(
        &mut self,
        connection: Token,
        admitted: Vec<ExchangeId>,
        keep: impl Fn() -> PreviousHandler,
    ) {
        if admitted.is_empty() {
            return;
        }
        let ByExchange(known) = self.by_connection.entry(connection).or_default();
        for id in admitted {
            if known.iter().all(|(other, _)| *other != id) {
                known.push((id, keep()));
            }
        }
    }

    /// Takes those of a connection while it runs.
    pub(super) fn take(&mut self, connection: Token) -> ByExchange {
        if self.by_connection.is_empty() {
            return ByExchange::default();
        }
        self.by_connection.remove(&connection).unwrap_or_default()
    }

    /// Puts those of a connection back that were not called and whose request has not ended.
    pub(super) fn put_back(
        &mut self,
        connection: Token,
        mut handlers: ByExchange,
        admitted: impl FnOnce() -> Vec<ExchangeId>,
    ) {
        if handlers.0.is_empty() {
            return;
        }
        let admitted = admitted();
        handlers.0.retain(|(id, _)| admitted.contains(id));
        if !handlers.0.is_empty() {
            self.by_connection.insert(connection, handlers);
        }
    }
}

impl ByExchange {
    /// Takes the handler that has admitted the request body of an exchange, if it was replaced since.
    pub(super) fn take(&mut self, id: ExchangeId) -> Option<PreviousHandler> {
        let at = self.0.iter().position(|(other, _)| *other == id)?;
        Some(self.0.swap_remove(at).1)
    }
}
