//! What every event loop is built from: its poll and handle, mailbox, tokens and timer wheel.

pub(crate) mod handle;
pub(crate) mod mailbox;
pub(crate) mod timer_wheel;
pub(crate) mod tokens;
