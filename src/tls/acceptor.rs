//! Begins the TLS sessions of a server, and knows which protocol and which certificate a session has.

use std::net::IpAddr;
use std::sync::Arc;

use rustls::server::{Acceptor, ClientHello};
use rustls::{CommonState, ServerConfig};

use super::certificate::ServerCertificate;
use super::challenges::Challenges;
use super::resolver::{Certificates, choose};
use super::session::Session;
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
    /// For clients that select HTTP/1.1 or no protocol.
    http1: Arc<ServerConfig>,
    /// For clients that select HTTP/2; `None` if it is off.
    http2: Option<Arc<ServerConfig>>,
    certificates: Arc<Certificates>,
    challenges: Arc<Challenges>,
}

/// Collects the first message of a client, before the configuration of its session is chosen.
#[derive(Default)]
pub(crate) struct FirstMessage {
    parser: Acceptor,
    received: Vec<u8>,
}

/// What a client has sent is not acceptable.
#[derive(Debug)]
pub(crate) struct Rejected {
    pub(crate) error: rustls::Error,
    /// The records to be sent to the client.
    pub(crate) alert: Vec<u8>,
}

/// The certificate that a session was served with, among the certificates that the server had then.
#[derive(Clone, Debug)]
pub(crate) struct ServedCertificate {
    certificates: Arc<[ServerCertificate]>,
    served: usize,
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

    /// Adds received bytes to the first message of a client. Begins a session if it is complete; `None`
    /// before.
    pub(crate) fn accept(
        &self,
        first: &mut FirstMessage,
        received: &[u8],
    ) -> Result<Option<Session>, Rejected> {
        first.received.extend_from_slice(received);
        let mut unread = received;
        while !unread.is_empty() {
            // The reader is memory, so that the error is a message that is too large.
            if let Err(error) = first.parser.read_tls(&mut unread) {
                return Err(Rejected {
                    error: rustls::Error::General(error.to_string()),
                    alert: Vec::new(),
                });
            }
        }
        let accepted = match first.parser.accept() {
            Ok(None) => return Ok(None),
            Ok(Some(accepted)) => accepted,
            Err((error, mut message)) => {
                let mut alert = Vec::new();
                // Writing to memory does not fail.
                let _ = message.write_all(&mut alert);
                return Err(Rejected { error, alert });
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
        let certificates = self.certificates.current();
        // Certificates of the same names differ in the type of their keys only.
        let served = choose(&certificates, Some(name), |_| true)?;
        Some(ServedCertificate {
            certificates,
            served,
        })
    }
}

/// Returns true if the client offers HTTP/2, which then is selected.
fn offers_http2(hello: &ClientHello<'_>) -> bool {
    let mut offered = hello.alpn().into_iter().flatten();
    offered.any(|protocol| protocol == HTTP2)
}

/// Returns true if the client has selected HTTP/2.
pub(crate) fn is_http2(session: &CommonState) -> bool {
    session.alpn_protocol() == Some(HTTP2)
}

impl ServedCertificate {
    /// Returns true if a request for `host` belongs on a connection with another certificate of this
    /// server (RFC 9110 §15.5.20). The client reuses a connection for other names of its certificate
    /// (RFC 9113 §9.1.1). A name that no certificate has belongs nowhere else.
    pub(crate) fn is_misdirected(&self, host: &str) -> bool {
        let address = host.trim_start_matches('[').trim_end_matches(']');
        if address.parse::<IpAddr>().is_ok() {
            return false;
        }
        let host = host.to_ascii_lowercase();
        !self.certificates[self.served].is_for(&host)
            && self.certificates.iter().any(|other| other.is_for(&host))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::provider::provider;

    fn served(served: usize) -> ServedCertificate {
        let certificate = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
            ServerCertificate::self_signed(&names).expect("a certificate")
        };
        ServedCertificate {
            certificates: Arc::new([
                certificate(&["a.test", "b.test"]),
                certificate(&["*.example.test", "127.0.0.1"]),
            ]),
            served,
        }
    }

    #[test]
    fn request_is_misdirected_if_only_another_certificate_has_its_name() {
        let table = [
            (0, "a.test", false),
            (0, "B.TEST", false),
            (0, "x.example.test", true),
            (0, "X.Example.Test", true),
            (0, "example.test", false),
            (0, "unknown.test", false),
            (0, "127.0.0.1", false),
            (0, "[::1]", false),
            (0, "", false),
            (1, "x.example.test", false),
            (1, "a.test", true),
        ];
        for (at, host, expected) in table {
            assert_eq!(served(at).is_misdirected(host), expected, "{at} {host:?}");
        }
    }

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
