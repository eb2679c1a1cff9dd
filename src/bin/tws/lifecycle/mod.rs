//! The life of the process: signals, reload, upgrade, and the supervisor that started it.

pub(crate) mod exit_after;
pub(crate) mod inherited_sockets;
mod lost_settings;
pub(crate) mod reload;
pub(crate) mod signals;
pub(crate) mod socket_files;
pub(crate) mod systemd;
pub(crate) mod upgrade;
