//! What a connection's bytes go through: a socket, or TLS on one.

use std::fs::File;
use std::io;

use mio::event::Source;
use mio::{Interest, Registry, Token};

use super::socket::Socket;
#[cfg(feature = "tls")]
use super::tls::TlsStream;
use super::{More, Received, Transport};
use crate::http::forwarded::Scheme;

/// A connected stream.
#[derive(Debug)]
pub(crate) enum AnyTransport {
    Plain(Socket),
    #[cfg(feature = "tls")]
    Tls(Box<TlsStream>),
}

impl AnyTransport {
    pub(crate) fn scheme(&self) -> Scheme {
        match self {
            Self::Plain(_) => Scheme::Http,
            #[cfg(feature = "tls")]
            Self::Tls(_) => Scheme::Https,
        }
    }
}

/// The same of whichever it is.
macro_rules! each {
    ($stream:expr, $inner:ident => $call:expr) => {
        match $stream {
            AnyTransport::Plain($inner) => $call,
            #[cfg(feature = "tls")]
            AnyTransport::Tls($inner) => $call,
        }
    };
}

impl Transport for AnyTransport {
    fn recv(&mut self, room: &mut Vec<u8>) -> io::Result<Received> {
        each!(self, inner => inner.recv(room))
    }

    fn send(&mut self, bytes: &[u8], more: More) -> io::Result<usize> {
        each!(self, inner => inner.send(bytes, more))
    }

    fn send_pair(&mut self, first: &[u8], second: &[u8]) -> io::Result<usize> {
        each!(self, inner => inner.send_pair(first, second))
    }

    fn send_file(&mut self, file: &File, offset: u64, len: usize) -> io::Result<usize> {
        each!(self, inner => inner.send_file(file, offset, len))
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        each!(self, inner => inner.shutdown_write())
    }

    fn unacknowledged(&self) -> Option<u32> {
        each!(self, inner => inner.unacknowledged())
    }

    fn holds_back(&self) -> bool {
        each!(self, inner => inner.holds_back())
    }

    fn flush(&mut self) -> io::Result<()> {
        each!(self, inner => inner.flush())
    }
}

impl Source for AnyTransport {
    fn register(&mut self, r: &Registry, t: Token, i: Interest) -> io::Result<()> {
        each!(self, inner => inner.register(r, t, i))
    }

    fn reregister(&mut self, r: &Registry, t: Token, i: Interest) -> io::Result<()> {
        each!(self, inner => inner.reregister(r, t, i))
    }

    fn deregister(&mut self, r: &Registry) -> io::Result<()> {
        each!(self, inner => inner.deregister(r))
    }
}
