//! What a user sees of a running server: the banner, warnings, diagnostics, the view of `--tui`.

pub(crate) mod addresses;
pub(crate) mod banner;
pub(crate) mod browser;
mod paint;
mod qr;
pub(crate) mod startup_warnings;
pub(crate) mod stderr_log;
pub(crate) mod stdio;
pub(crate) mod summary;
#[cfg(feature = "tui")]
pub(crate) mod tui;
