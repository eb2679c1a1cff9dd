//! The event loops: the only code that knows mio and sockets.
//!
//! One [`acceptor`] takes connections and mails each to the least-loaded [`worker`]; those that begin
//! with a PROXY header or with TLS go by way of a [`handshaker`]. A worker is one thread with one
//! `Poll` and one slab of [`connection`]s; other threads reach it through its [`mailbox`] only, who
//! looks at it ([`observer`]) as well. What may block runs on the [`helpers`], and what may have to
//! wait for a [`disk`] on those of that disk.
//!
//! A worker never waits for a peer, a handler or a log. What it can still wait for is `sendfile` of
//! pages of a local disk that the kernel has let go of since it was looked whether they are there, a
//! moment before. Nothing here knows what is served.

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
