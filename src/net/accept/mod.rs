//! Taking connections: accept them, limit them, complete their handshakes, and hand each to a worker.

pub(crate) mod acceptor;
pub(crate) mod admission;
pub(crate) mod directory;
pub(crate) mod fd_pressure;
pub(crate) mod handshaker;
pub(crate) mod preamble;
pub(crate) mod proxy_protocol;
