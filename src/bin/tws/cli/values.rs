//! Parsers of single values. Their errors are worded as cause and remedy, without the flag.

use std::net::{SocketAddr, ToSocketAddrs, UdpSocket};
use std::num::NonZeroU64;
use std::ops::RangeInclusive;
use std::str::FromStr;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use tws::site::{HostName, Size};
use tws::{Endpoint, Limits};

/// The largest number of a flag: all number types used here can hold it.
pub(super) const MAX_FLAG_NUMBER: u64 = u32::MAX as u64;

pub(super) const PORTS: RangeInclusive<u64> = 0..=65_535;

/// Returns a parser for integers in a range that `T` can hold.
pub(super) fn integer<T>(range: RangeInclusive<u64>) -> impl TypedValueParser<Value = T>
where
    T: FromStr + Clone + Send + Sync + 'static,
{
    move |text: &str| integer_in(text, range.clone())
}

pub(super) fn integer_in<T: FromStr>(text: &str, range: RangeInclusive<u64>) -> Result<T, String> {
    let is_in_range = text
        .parse()
        .is_ok_and(|number: u64| range.contains(&number));
    let number = text.parse().ok().filter(|_| is_in_range);
    number.ok_or_else(|| {
        let (min, max) = range.into_inner();
        format!("must be an integer between {min} and {max} (got {text:?})")
    })
}

/// Parses a file mode as chmod(1) takes it.
pub(super) fn file_mode(text: &str) -> Result<u32, String> {
    match u32::from_str_radix(text, 8) {
        Ok(mode) if mode <= 0o777 => Ok(mode),
        _ => Err(format!(
            "must be an octal file mode, such as 660 or 600 (got {text:?})"
        )),
    }
}

pub(super) fn yes_or_no(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "yes" | "true" | "on" | "1" => Ok(true),
        "no" | "false" | "off" | "0" => Ok(false),
        _ => Err(format!("must be yes or no (got {text:?})")),
    }
}

/// Returns a parser for one of a few values, which shell completions and errors list.
pub(super) fn one_of<T>(values: &'static [&'static str]) -> impl TypedValueParser<Value = T>
where
    T: FromStr<Err = String> + Clone + Send + Sync + 'static,
{
    PossibleValuesParser::new(values).try_map(|value| value.parse::<T>())
}

/// A host name, or every host name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum HostPattern {
    Any,
    Name(HostName),
}

impl HostPattern {
    pub(super) fn name(&self) -> Option<&HostName> {
        match self {
            Self::Any => None,
            Self::Name(name) => Some(name),
        }
    }
}

impl FromStr for HostPattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "*" => Ok(Self::Any),
            name => name.to_ascii_lowercase().parse().map(Self::Name),
        }
    }
}

/// The addresses of one value of `--bind`: a host name may have several, as `localhost` has.
#[derive(Clone, Debug)]
pub(super) struct BindAddresses(pub(super) Vec<Endpoint>);

/// Parses an endpoint of `--bind`. Resolves host names.
pub(super) fn parse_addresses(text: &str) -> Result<BindAddresses, String> {
    match text.parse() {
        Ok(endpoint) => return Ok(BindAddresses(vec![endpoint])),
        Err(reason) if text.starts_with("unix:") => return Err(reason),
        Err(_) => {}
    }
    let with_port = text
        .rsplit_once(':')
        .and_then(|(name, port)| Some((name, Some(port.parse::<u16>().ok()?))));
    let (name, port) = with_port.unwrap_or((text, None));
    let unknown = |_| {
        format!(
            "{text:?} is neither an address nor a name that this machine can resolve; give an \
             address such as 127.0.0.1, 0.0.0.0, ::1, [::]:80 or unix:/run/tws.sock"
        )
    };
    let found = (name, port.unwrap_or(0)).to_socket_addrs();
    let found: Vec<SocketAddr> = found.map_err(unknown)?.collect();
    // `localhost` often resolves to ::1 even where IPv6 is turned off.
    let is_usable = |address: &&SocketAddr| UdpSocket::bind((address.ip(), 0)).is_ok();
    let usable: Vec<_> = found.iter().filter(is_usable).copied().collect();
    let addresses = if usable.is_empty() { found } else { usable };
    let endpoint = |address: SocketAddr| match port {
        Some(_) => Endpoint::Socket(address),
        None => Endpoint::Address(address.ip()),
    };
    Ok(BindAddresses(addresses.into_iter().map(endpoint).collect()))
}

/// Parses the endpoint of `--admin`: an address with a port, or a Unix socket.
pub(super) fn parse_admin(text: &str) -> Result<Endpoint, String> {
    match text.parse() {
        Ok(endpoint @ (Endpoint::Socket(_) | Endpoint::Unix(_))) => Ok(endpoint),
        _ => Err(format!(
            "must be an address with a port or a Unix socket, such as 127.0.0.1:9090, [::1]:9090 or \
             unix:/run/tws-admin.sock (got {text:?})"
        )),
    }
}

/// Parses a bandwidth in bytes per second.
pub(super) fn parse_bandwidth(text: &str) -> Result<NonZeroU64, String> {
    let size: Size = text.parse()?;
    let rate = NonZeroU64::new(size.bytes()).filter(|rate| rate.get() >= Limits::MIN_BANDWIDTH);
    rate.ok_or_else(|| format!("must be at least 1 KiB per second (got {text:?})"))
}
