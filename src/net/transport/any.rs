//! Either transport of a connection: a socket, or TLS on a socket.

use std::fs::File;
use std::io;
use std::sync::Arc;

use mio::event::Source;
use mio::{Interest, Registry, Token};

use super::socket::Socket;
#[cfg(feature = "tls")]
use super::tls::TlsStream;
use super::{More, Received, Transport};
use crate::http::forwarded::{Scheme, TlsVersion};
use crate::proto::h2::machine::Authorities;
use crate::proto::peer_state::PeerState;

/// The transport of a connection.
#[derive(Debug)]
pub(crate) enum AnyTransport {
    Plain(Socket),
    #[cfg(feature = "tls")]
    Tls(Box<TlsStream>),
}

impl AnyTransport {
    /// Returns true if the client has selected HTTP/2 in the TLS handshake.
    pub(crate) fn is_http2(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            #[cfg(feature = "tls")]
            Self::Tls(stream) => stream.is_http2(),
        }
    }

    /// Takes what the client may use the connection for, if it has requested a name in the TLS
    /// handshake.
    pub(crate) fn take_authorities(&mut self) -> Option<Arc<dyn Authorities>> {
        match self {
            Self::Plain(_) => None,
            #[cfg(feature = "tls")]
            Self::Tls(stream) => stream.take_authorities(),
        }
    }

    pub(crate) fn scheme(&self) -> Scheme {
        match self {
            Self::Plain(_) => Scheme::Http,
            #[cfg(feature = "tls")]
            Self::Tls(_) => Scheme::Https,
        }
    }

    /// Returns the version of TLS, if the connection is encrypted.
    pub(crate) fn tls_version(&self) -> Option<TlsVersion> {
        match self {
            Self::Plain(_) => None,
            #[cfg(feature = "tls")]
            Self::Tls(stream) => stream.version(),
        }
    }
}

/// Delegates to the variant.
macro_rules! delegate {
    ($transport:expr, $inner:ident => $call:expr) => {
        match $transport {
            AnyTransport::Plain($inner) => $call,
            #[cfg(feature = "tls")]
            AnyTransport::Tls($inner) => $call,
        }
    };
}

impl Transport for AnyTransport {
    fn recv(&mut self, buffer: &mut Vec<u8>) -> io::Result<Received> {
        delegate!(self, inner => inner.recv(buffer))
    }

    fn send(&mut self, bytes: &[u8], more: More) -> io::Result<usize> {
        delegate!(self, inner => inner.send(bytes, more))
    }

    fn send_pair(&mut self, first: &[u8], second: &[u8]) -> io::Result<usize> {
        delegate!(self, inner => inner.send_pair(first, second))
    }

    fn send_file(&mut self, file: &File, offset: u64, len: usize) -> io::Result<usize> {
        delegate!(self, inner => inner.send_file(file, offset, len))
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        delegate!(self, inner => inner.shutdown_write())
    }

    fn abort(&mut self) {
        delegate!(self, inner => inner.abort());
    }

    fn peer_state(&self) -> Option<PeerState> {
        delegate!(self, inner => inner.peer_state())
    }

    fn holds_back(&self) -> bool {
        delegate!(self, inner => inner.holds_back())
    }

    fn flush(&mut self) -> io::Result<()> {
        delegate!(self, inner => inner.flush())
    }

    fn limit_unsent(&self, bytes: u32) {
        delegate!(self, inner => inner.limit_unsent(bytes));
    }
}

impl Source for AnyTransport {
    fn register(
        &mut self,
        registry: &Registry,
        token: Token,
        interest: Interest,
    ) -> io::Result<()> {
        delegate!(self, inner => inner.register(registry, token, interest))
    }

    fn reregister(
        &mut self,
        registry: &Registry,
        token: Token,
        interest: Interest,
    ) -> io::Result<()> {
        delegate!(self, inner => inner.reregister(registry, token, interest))
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        delegate!(self, inner => inner.deregister(registry))
    }
}
