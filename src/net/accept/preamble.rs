//! What a connection begins with before HTTP, and the limits it counts towards.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use crate::config::{Config, Networks, ProxyProtocol, UNIX_PEER};
use crate::http::forwarded::Scheme;
use crate::net::bandwidth::per_client::{ClientSlot, Clients, TooManyConnections};
use crate::net::worker::settings::RuntimeConfig;
#[cfg(feature = "tls")]
use crate::tls::{ClientHelloReader, Session, TlsAcceptor};

/// What new connections begin with (a PROXY header, a TLS handshake, both or neither), and the
/// limits per client.
#[derive(Clone, Debug)]
pub(crate) struct AcceptPolicy {
    /// The peers whose PROXY header is accepted; `None` if connections begin without one.
    proxies: Option<Networks>,
    /// For TCP. Unix sockets have no TLS.
    tls: Option<TlsAcceptor>,
    /// `None` if there are no limits per client.
    clients: Option<Arc<Clients>>,
}

/// Uninhabited: without the feature there is no TLS.
#[cfg(not(feature = "tls"))]
type TlsAcceptor = std::convert::Infallible;

/// What a pending connection waits for.
pub(super) enum HandshakeStage {
    ProxyHeader,
    /// The first byte of a TLS handshake, before memory is allocated for one.
    #[cfg(feature = "tls")]
    FirstByte,
    /// The ClientHello, before the configuration of the session is chosen.
    #[cfg(feature = "tls")]
    ClientHello(Box<ClientHelloReader>),
    #[cfg(feature = "tls")]
    TlsHandshake(Box<Session>),
}

/// The peers whose PROXY header is accepted: the trusted proxies, or this machine if none is
/// configured.
fn trusted_networks(configured: &Networks) -> Networks {
    if configured.is_empty() {
        "127.0.0.0/8, ::1, unix".parse().unwrap_or_default()
    } else {
        configured.clone()
    }
}

impl AcceptPolicy {
    pub(crate) fn of(config: &Config) -> Self {
        Self {
            proxies: match config.proxy_protocol {
                ProxyProtocol::Off => None,
                ProxyProtocol::Required => Some(trusted_networks(&config.trusted_proxies)),
            },
            tls: None,
            clients: Clients::new(&config.limits),
        }
    }

    #[cfg(feature = "tls")]
    pub(crate) fn with_tls(self, acceptor: TlsAcceptor) -> Self {
        Self {
            tls: Some(acceptor),
            ..self
        }
    }

    /// Applies a reloaded configuration to new connections.
    pub(crate) fn change(&mut self, config: &RuntimeConfig, now: Instant) {
        if let Some(proxies) = &mut self.proxies {
            *proxies = trusted_networks(&config.trusted_proxies);
        }
        match &self.clients {
            Some(clients) => clients.change(&config.limits, now),
            None => self.clients = Clients::new(&config.limits),
        }
    }

    /// Returns true if no connection needs a handshake.
    pub(crate) fn is_empty(&self) -> bool {
        let tcp_peer = SocketAddr::from(([127, 0, 0, 1], 1));
        self.is_empty_for(tcp_peer)
    }

    /// Returns true if a connection from `peer` begins with a request.
    pub(crate) fn is_empty_for(&self, peer: SocketAddr) -> bool {
        self.proxies.is_none() && self.scheme(peer) == Scheme::Http
    }

    /// Returns the first stage of a connection that needs a handshake; `None` if `peer` is not
    /// allowed to connect.
    pub(super) fn first_stage(&self, peer: SocketAddr) -> Option<HandshakeStage> {
        match &self.proxies {
            Some(proxies) => proxies
                .contains(peer)
                .then_some(HandshakeStage::ProxyHeader),
            None => self.tls_stage(peer),
        }
    }

    /// Returns the stage that begins a TLS handshake with `peer`; `None` without TLS.
    #[cfg(feature = "tls")]
    pub(super) fn tls_stage(&self, peer: SocketAddr) -> Option<HandshakeStage> {
        (self.scheme(peer) == Scheme::Https).then_some(HandshakeStage::FirstByte)
    }

    #[cfg(not(feature = "tls"))]
    #[expect(clippy::unused_self, reason = "has the signature of the other variant")]
    pub(super) fn tls_stage(&self, _: SocketAddr) -> Option<HandshakeStage> {
        None
    }

    #[cfg(feature = "tls")]
    pub(super) fn tls(&self) -> Option<&TlsAcceptor> {
        self.tls.as_ref()
    }

    /// Returns the scheme of connections from `peer`.
    pub(crate) fn scheme(&self, peer: SocketAddr) -> Scheme {
        if self.tls.is_some() && peer != UNIX_PEER {
            Scheme::Https
        } else {
            Scheme::Http
        }
    }

    /// Registers an accepted connection with its client. The client of a connection that begins with
    /// a PROXY header is known only later; see [`register`](Self::register).
    pub(crate) fn register_peer(&self, peer: SocketAddr) -> Result<ClientSlot, TooManyConnections> {
        match self.proxies {
            Some(_) => Ok(ClientSlot::UNLIMITED),
            None => self.register(peer),
        }
    }

    /// Registers a connection with its client.
    pub(super) fn register(&self, client: SocketAddr) -> Result<ClientSlot, TooManyConnections> {
        match &self.clients {
            Some(clients) => clients.register(client.ip(), Instant::now()),
            None => Ok(ClientSlot::UNLIMITED),
        }
    }
}
