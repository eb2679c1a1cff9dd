//! From a listening socket to a connection that a worker can serve.

pub(crate) mod acceptor;
pub(crate) mod handshaker;
pub(crate) mod proxy_protocol;
