//! Automatic certificates: what is served, and the threads that keep it current.

#[cfg(not(feature = "acme"))]
mod disabled;
#[cfg(feature = "acme")]
mod identities;
#[cfg(feature = "acme")]
mod renewal;
#[cfg(feature = "acme")]
mod service;

#[cfg(not(feature = "acme"))]
pub(crate) use disabled::{Acme, AcmeHandle, open};
#[cfg(feature = "acme")]
pub(crate) use identities::status;
#[cfg(feature = "acme")]
pub(crate) use renewal::ONE_ORDER_PER_HOUR;
#[cfg(feature = "acme")]
pub(crate) use service::{Acme, AcmeHandle, open, read_external_account, read_roots, store};
