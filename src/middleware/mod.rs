//! Middlewares: handlers that wrap another handler. Each is created with the handler that it wraps and
//! implements all methods of [`Handler`](crate::Handler), those about bodies too. A function that wraps a
//! handler is a layer of [`Router::layer`](crate::Router::layer).
//!
//! [`around`] makes a layer from a closure, and [`request_id`] and [`security_headers`] are such. The other ones
//! are types of their own, because they treat the three methods differently: CORS accepts the content of
//! preflights, the slow log does not measure how long content takes to arrive, and passwords are verified while
//! it arrives. A limit and the check of host names are called for each request of a server of files, and cost
//! less without a closure.
//!
//! The program chooses the order. [`Cors`] belongs outside `BasicAuth`, because browsers send
//! preflights without credentials. [`RateLimit`] belongs outside both: every request counts, preflights
//! too, and a request above the rate is no attempt at a password. With [`RateLimit::readable_by`], the
//! page that sent it can read the response.

mod allowed_hosts;
mod around;
#[cfg(feature = "auth")]
mod basic_auth;
mod cors;
#[cfg(feature = "auth")]
mod credentials;
mod late_call;
#[cfg(feature = "auth")]
mod password_pool;
mod rate_limit;
mod request_id;
mod security_headers;
mod slow_log;
#[cfg(test)]
mod test_clock;

pub use allowed_hosts::AllowedHosts;
pub use around::{Around, Next, around, around_with_state};
#[cfg(feature = "auth")]
pub use basic_auth::{AuthenticatedUser, BasicAuth};
pub use cors::Cors;
#[cfg(feature = "auth")]
pub use credentials::Credentials;
pub use rate_limit::{Rate, RateLimit};
pub use request_id::{RequestId, request_id};
pub use security_headers::security_headers;
pub use slow_log::SlowLog;
