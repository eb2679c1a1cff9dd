//! HTTP/2 (RFC 9113) as pure code.

// Until the machine of the connection uses these modules, only their tests do.
#![allow(dead_code, unused_imports)]

pub(crate) mod error_code;
pub(crate) mod flood;
pub(crate) mod flow;
pub(crate) mod frame;
pub(crate) mod priority;
pub(crate) mod scheduler;
pub(crate) mod settings;
