//! The event loops: the only code that knows mio and sockets.
//!
//! An [acceptor](accept::acceptor) accepts connections and hands each to the least-loaded
//! [`worker`]; those that begin with a PROXY header or a TLS handshake pass through a
//! [handshaker](accept::handshaker). A worker is one thread with one `Poll` and one slab of
//! [`connection`]s. Other threads, and [observers](observe) too, reach it through its
//! [mailbox](event_loop::mailbox) only. Work that may block runs on [thread pools](blocking), and work
//! that may wait for a disk on the threads of that disk.
//!
//! A worker never waits for a peer, a handler or a log. It can still wait in `sendfile` for pages of a
//! local disk that the kernel has dropped since they were probed, a moment before. Nothing here knows
//! what is served.

pub(crate) mod accept;
pub(crate) mod bandwidth;
pub(crate) mod blocking;
pub(crate) mod connection;
pub(crate) mod event_loop;
pub(crate) mod observe;
#[cfg(test)]
mod simulation;
pub(crate) mod transport;
pub(crate) mod worker;
