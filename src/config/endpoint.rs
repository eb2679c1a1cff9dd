//! Addresses to listen on, and their text form.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use crate::error::SettingError;

/// An address or a Unix socket to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// An IP address with the [common port](crate::Config::port). `::` accepts IPv4 connections as well,
    /// unless an IPv4 address is listened on at the same port.
    Address(IpAddr),
    /// An IP address with a port of its own.
    Socket(SocketAddr),
    /// A Unix socket at this path, without TLS. It is created; one that another server has left behind
    /// is replaced.
    Unix(PathBuf),
}

impl Endpoint {
    /// Returns the IP address; `None` for a Unix socket.
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Address(ip) => Some(*ip),
            Self::Socket(address) => Some(address.ip()),
            Self::Unix(_) => None,
        }
    }
}

impl From<IpAddr> for Endpoint {
    fn from(ip: IpAddr) -> Self {
        Self::Address(ip)
    }
}

impl From<Ipv4Addr> for Endpoint {
    fn from(address: Ipv4Addr) -> Self {
        Self::Address(address.into())
    }
}

impl From<Ipv6Addr> for Endpoint {
    fn from(address: Ipv6Addr) -> Self {
        Self::Address(address.into())
    }
}

impl From<SocketAddr> for Endpoint {
    fn from(address: SocketAddr) -> Self {
        Self::Socket(address)
    }
}

/// `127.0.0.1`, `::1`, `[::1]`, `127.0.0.1:80`, `[::1]:80`, `unix:/run/tws.sock`.
impl FromStr for Endpoint {
    type Err = SettingError;

    fn from_str(text: &str) -> Result<Self, SettingError> {
        if let Some(path) = text.strip_prefix("unix:") {
            return match path {
                "" => Err("the path of the Unix socket is missing; give unix:/run/tws.sock".into()),
                path => Ok(Self::Unix(path.into())),
            };
        }
        let bare = text
            .strip_prefix('[')
            .and_then(|text| text.strip_suffix(']'));
        if let Ok(ip) = bare.unwrap_or(text).parse() {
            return Ok(Self::Address(ip));
        }
        text.parse().map(Self::Socket).map_err(|_| {
            format!(
                "must be an address such as 127.0.0.1, ::1, 0.0.0.0:80, [::]:80 or unix:/run/tws.sock \
                 (got {text:?})"
            )
            .into()
        })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(ip) => ip.fmt(f),
            Self::Socket(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}
