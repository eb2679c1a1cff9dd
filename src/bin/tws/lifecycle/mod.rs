//! Signals, reload, upgrade, and the supervisor that started the process.

pub(crate) mod inherited_sockets;
pub(crate) mod reload;
pub(crate) mod signals;
pub(crate) mod systemd;
pub(crate) mod upgrade;
