//! What the protocol machines share about one request and its response.

use std::net::SocketAddr;
use std::time::Instant;

/// What is kept of a request for the record of its exchange.
#[derive(Debug)]
pub(crate) struct RequestInfo {
    pub(crate) peer: SocketAddr,
    pub(crate) line: Vec<u8>,
    pub(crate) referer: Option<Vec<u8>>,
    pub(crate) user_agent: Option<Vec<u8>>,
    pub(crate) started: Instant,
}
