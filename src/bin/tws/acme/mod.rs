//! A client of certificate authorities that speak ACME (RFC 8555), with external account binding,
//! profiles (draft-ietf-acme-profiles) and renewal information (ARI, RFC 9773). The challenges are
//! TLS-ALPN-01 (RFC 8737) and HTTP-01; DNS-01, and with it wildcard names, is not supported.
//!
//! Each name has a certificate, an order and a folder of its own (`store`). `issuer` takes a name from
//! its present state to a certificate, and writes each step to the folder first, so that a process
//! that continues after a crash, an upgrade or on another machine repeats nothing. `orders` says what
//! the next step is and `schedule` when it is due: both are pure, as are `jws` and `messages`. `client`
//! sends the requests.
//!
//! A certificate authority is not trusted with more than certificates: responses, waiting times and
//! the number of requests are bounded.

mod certificate;
mod client;
mod issuer;
mod jws;
mod messages;
mod orders;
mod schedule;
mod store;

use std::fmt;

use tws::Error;

pub(crate) use certificate::CertificateInfo;
pub(crate) use client::{CaRoots, Client};
pub(crate) use issuer::{Host, Issuer};
pub(crate) use jws::{ExternalAccount, digest_of};
pub(crate) use messages::Problem;
pub(crate) use orders::ChallengeType;
pub(crate) use schedule::{Action, Facts, RenewalPlan, decide, is_overdue};
pub(crate) use store::{CaStore, ChallengeFile, FileLock, IdentityState, IdentityStore};

/// The reason why there is no certificate.
#[derive(Debug)]
pub(crate) enum AcmeError {
    /// The certificate authority cannot be reached, or cannot serve at the moment.
    Unreachable {
        reason: String,
        /// The time after which to try again that it demands, in seconds.
        retry_after: Option<u64>,
    },
    /// It rejects a request, or the validation of a name.
    Problem(Problem),
    /// A response is not one of ACME, or is not acceptable.
    Protocol(String),
    /// The folder of the state cannot be read or written.
    State(Error),
    /// The server shuts down.
    Stopped,
}

impl AcmeError {
    /// Returns a short name for metrics.
    pub(crate) fn kind(&self) -> String {
        match self {
            Self::Unreachable { .. } => "unreachable".to_owned(),
            Self::Problem(problem) => problem.kind(),
            Self::Protocol(_) => "protocol".to_owned(),
            Self::State(_) => "state".to_owned(),
            Self::Stopped => "stopped".to_owned(),
        }
    }
}

impl fmt::Display for AcmeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable { reason, .. } => {
                write!(f, "cannot reach the certificate authority: {reason}")
            }
            Self::Problem(problem) => problem.fmt(f),
            Self::Protocol(text) => write!(f, "unusable response: {text}"),
            Self::State(error) => error.fmt(f),
            Self::Stopped => f.write_str("the server is shutting down"),
        }
    }
}

impl From<Error> for AcmeError {
    fn from(error: Error) -> Self {
        Self::State(error)
    }
}

/// Returns the time in seconds since 1970.
pub(crate) fn unix_now() -> i64 {
    jiff::Timestamp::now().as_second()
}

/// Returns a day and time for messages, in UTC.
pub(crate) fn date(seconds: i64) -> String {
    let time = jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::MAX);
    time.strftime("%Y-%m-%d %H:%M UTC").to_string()
}
