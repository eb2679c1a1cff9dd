//! Protocol machines: bytes in, actions out. Nothing here knows sockets, files or clocks.

pub(crate) mod context;
pub(crate) mod h1;
pub(crate) mod record;
pub(crate) mod transfer;
