//! Bandwidth and connection limits per client.

pub(crate) mod limiter;
pub(crate) mod per_client;
