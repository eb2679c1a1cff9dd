//! Handlers around handlers: each is made with the handler that it wraps, and has a say in all
//! three questions, those about contents too.
//!
//! The order is the program's to choose. [`Cors`] belongs around [`BasicAuth`]: a browser asks
//! without a password whether it may ask with one. [`RateLimit`] belongs between them: what is one
//! too many is no guess at a password, and a page can read that it was.

#[cfg(feature = "auth")]
mod basic_auth;
mod cors;
#[cfg(feature = "auth")]
mod credentials;
#[cfg(feature = "auth")]
mod password_pool;
mod rate_limit;
mod slow_log;
#[cfg(test)]
mod test_clock;

#[cfg(feature = "auth")]
pub use basic_auth::BasicAuth;
pub use cors::Cors;
#[cfg(feature = "auth")]
pub use credentials::Credentials;
pub use rate_limit::{Rate, RateLimit};
pub use slow_log::SlowLog;
