//! Handlers around handlers: each is made with the handler that it wraps, and has a say in all
//! three questions, those about contents too.
//!
//! The order is the program's to choose. [`Cors`] belongs around [`BasicAuth`]: a browser asks
//! without a password whether it may ask with one.

#[cfg(feature = "auth")]
mod basic_auth;
mod cors;
#[cfg(feature = "auth")]
mod credentials;
mod slow_log;
#[cfg(feature = "auth")]
mod verifier;

#[cfg(feature = "auth")]
pub use basic_auth::BasicAuth;
pub use cors::Cors;
#[cfg(feature = "auth")]
pub use credentials::Credentials;
pub use slow_log::SlowLog;
