//! What the program can be asked to do: serve, check a configuration, explain a request.

pub(crate) mod check;
pub(crate) mod explain;
pub(crate) mod serve;
