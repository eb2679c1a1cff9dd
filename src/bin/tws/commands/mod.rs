//! The subcommands: serve, check the settings, explain a request.

pub(crate) mod check;
pub(crate) mod explain;
pub(crate) mod serve;
