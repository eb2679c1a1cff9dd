//! Begins the TLS sessions of a server, and knows which protocol and which certificate a session has.

use std::sync::Arc;

use rustls::server::{Acceptor, ClientHello};
use rustls::{CommonState, ServerConfig};

use super::challenges::Challenges;
use super::resolver::Certificates;
use super::served_certificate::ServedCertificate;
use super::session::{Session, SessionError};
use crate::config::Http2;

/// The protocol identifiers of ALPN (RFC 7301 §6, RFC 9113 §3.2).
const HTTP2: &[u8] = b"h2";
const HTTP1: &[u8] = b"http/1.1";

/// The tickets that a client of HTTP/1.1 gets: it may open several connections at once, and uses each
/// ticket once (RFC 8446 appendix C.4).
const HTTP1_TICKETS: usize = 2;

/// A client of HTTP/2 has a single connection.
const HTTP2_TICKETS: usize = 1;

/// Begins the TLS sessions of a server.
#[derive(Clone, Debug)]
pub(crate) struct TlsAcceptor {
    /// Used unless HTTP/2 is negotiated.
    http1: Arc<ServerConfig>,
    /// Used for clients that offer HTTP/2; `None` if it is off.
    http2: Option<Arc<ServerConfig>>,
    certificates: Arc<Certificates>,
    challenges: Arc<Challenges>,
}

/// The most bytes of a ClientHello, which is held twice until it is complete. With a key share of
/// X25519MLKEM768 and a large ticket it has 4 KiB.
const MAX_CLIENT_HELLO_BYTES: usize = 32 * 1024;

/// Collects the ClientHello, before the configuration of the session is chosen.
#[derive(Default)]
pub(crate) struct ClientHelloReader {
    parser: Acceptor,
    received: Vec<u8>,
}

impl TlsAcceptor {
    pub(super) fn new(
        config: &ServerConfig,
        certificates: Arc<Certificates>,
        challenges: Arc<Challenges>,
        http2: Http2,
    ) -> Self {
        let for_protocol = |protocol: &[u8], tickets| {
            let mut config = config.clone();
            config.alpn_protocols = vec![protocol.to_vec()];
            config.send_tls13_tickets = tickets;
            Arc::new(config)
        };
        Self {
            http1: for_protocol(HTTP1, HTTP1_TICKETS),
            http2: match http2 {
                Http2::Off => None,
                Http2::Tls | Http2::All => Some(for_protocol(HTTP2, HTTP2_TICKETS)),
            },
            certificates,
            challenges,
        }
    }

    /// Adds received bytes to the ClientHello. Begins a session if it is complete; `None` before.
    pub(crate) fn accept(
        &self,
        first: &mut ClientHelloReader,
        received: &[u8],
    ) -> Result<Option<Session>, SessionError> {
        let rejected = |reason: &str| SessionError {
            error: rustls::Error::General(reason.to_owned()),
            alert: Vec::new(),
        };
        if first.received.len() + received.len() > MAX_CLIENT_HELLO_BYTES {
            return Err(rejected("the ClientHello is larger than 32 KiB"));
        }
        first.received.extend_from_slice(received);
        let mut unread = received;
        while !unread.is_empty() {
            let read = first.parser.read_tls(&mut unread);
            // Reading from a slice does not fail, so the error means that rustls's buffer is full.
            read.map_err(|error| rejected(&error.to_string()))?;
        }
        let accepted = match first.parser.accept() {
            Ok(None) => return Ok(None),
            Ok(Some(accepted)) => accepted,
            Err((error, mut message)) => {
                let mut alert = Vec::new();
                // Writing to memory does not fail.
                let _ = message.write_all(&mut alert);
                return Err(SessionError { error, alert });
            }
        };
        let hello = accepted.client_hello();
        let received = std::mem::take(&mut first.received);
        Session::new(self.config_for(&hello), self.served(&hello), received).map(Some)
    }

    /// Returns the configuration of a session with a client.
    fn config_for(&self, hello: &ClientHello<'_>) -> Arc<ServerConfig> {
        if let Some(config) = self.challenges.session_config(hello) {
            return config;
        }
        match &self.http2 {
            Some(config) if offers_http2(hello) => Arc::clone(config),
            _ => Arc::clone(&self.http1),
        }
    }

    /// Returns the certificate for a client that requests a name (SNI).
    fn served(&self, hello: &ClientHello<'_>) -> Option<ServedCertificate> {
        let name = hello.server_name()?;
        ServedCertificate::choose(self.certificates.current(), name)
    }
}

/// Returns true if the client offers HTTP/2 (ALPN).
fn offers_http2(hello: &ClientHello<'_>) -> bool {
    let mut offered = hello.alpn().into_iter().flatten();
    offered.any(|protocol| protocol == HTTP2)
}

/// Returns true if HTTP/2 is negotiated (ALPN).
pub(crate) fn is_http2(session: &CommonState) -> bool {
    session.alpn_protocol() == Some(HTTP2)
}

#[cfg(test)]
mod tests {
    use crate::tls::provider::provider;

    /// RFC 9113 §9.2.2 and appendix A: over TLS 1.2 HTTP/2 needs an ephemeral key exchange and
    /// authenticated encryption. Its mandatory suite must be there.
    #[test]
    fn no_suite_is_forbidden_for_http2() {
        let provider = provider();
        let names = provider.cipher_suites.iter().map(|suite| {
            let name = suite.suite().as_str();
            name.map_or_else(|| format!("{suite:?}"), str::to_owned)
        });
        let names: Vec<String> = names.collect();
        for name in &names {
            let is_tls13 = name.starts_with("TLS13_");
            let is_ephemeral = name.starts_with("TLS_ECDHE_") || name.starts_with("TLS_DHE_");
            let is_aead = name.contains("_GCM_") || name.contains("_POLY1305_");
            assert!(is_tls13 || (is_ephemeral && is_aead), "{name}");
        }
        let mandatory = "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256";
        assert!(names.iter().any(|name| name == mandatory), "{names:?}");
    }
}
