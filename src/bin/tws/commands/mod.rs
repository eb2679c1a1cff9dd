//! The subcommands: serve, check the settings, explain a request.

pub(crate) mod acme;
pub(crate) mod check;
pub(crate) mod compress;
pub(crate) mod explain;
mod process_limits;
pub(crate) mod serve;
