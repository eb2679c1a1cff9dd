//! What people see of a running server: the banner, warnings, diagnostics, the transfers view.

pub(crate) mod banner;
pub(crate) mod browser;
pub(crate) mod startup_warnings;
pub(crate) mod stderr_log;
#[cfg(feature = "tui")]
pub(crate) mod tui;
