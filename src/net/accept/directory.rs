//! The handles to all handshakers of a server, and the messages they receive.

use std::net::SocketAddr;
use std::sync::OnceLock;

use super::preamble::AcceptPolicy;
use crate::net::bandwidth::per_client::ClientSlot;
use crate::net::event_loop::handle::{LoopHandle, least_loaded};
use crate::net::transport::socket::Socket;

/// A handle to a handshaker's event loop.
pub(crate) type HandshakerHandle = LoopHandle<HandshakerMessage>;

/// A message to a handshaker.
#[derive(Debug)]
pub(crate) enum HandshakerMessage {
    /// Complete the handshakes of a connection that was just accepted.
    Connection(AcceptedConnection),
    /// Use this policy for new connections.
    AcceptPolicy(AcceptPolicy),
    /// Close up to this many connections that make no progress, the oldest first, to make room for
    /// others.
    Evict(usize),
    /// Finish the handshakes in progress within the grace period, and end.
    Drain,
}

/// A connection that was accepted and needs a handshake.
#[derive(Debug)]
pub(crate) struct AcceptedConnection {
    pub(crate) socket: Socket,
    pub(crate) peer: SocketAddr,
    pub(crate) client_slot: ClientSlot,
}

/// The handles to all handshakers of a server: set when it starts to serve, and empty if connections
/// begin with a request.
#[derive(Debug, Default)]
pub(crate) struct HandshakerHandles(OnceLock<Vec<HandshakerHandle>>);

impl HandshakerHandles {
    /// Sets the handles. Later calls have no effect.
    pub(crate) fn publish(&self, handshakers: Vec<HandshakerHandle>) {
        let _ = self.0.set(handshakers);
    }

    pub(crate) fn all(&self) -> &[HandshakerHandle] {
        self.0.get().map_or(&[], Vec::as_slice)
    }

    /// Returns the number of connections in a handshake.
    pub(crate) fn connections(&self) -> usize {
        self.all().iter().map(LoopHandle::connections).sum()
    }

    /// Has each handshaker close up to `count` connections that make no progress.
    pub(crate) fn evict(&self, count: usize) {
        for handshaker in self.all() {
            handshaker.mailbox.send(HandshakerMessage::Evict(count));
        }
    }

    pub(crate) fn least_loaded(&self) -> Option<&HandshakerHandle> {
        least_loaded(self.all())
    }
}
