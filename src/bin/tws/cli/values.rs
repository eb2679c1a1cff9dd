//! Parsers of single values. Their errors are worded as cause and remedy, without the flag.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::num::NonZeroU64;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use tws::site::{HostName, Size};
use tws::{Endpoint, Limits, SettingError};

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

/// Parses the address of a client, whose port does not matter.
pub(super) fn peer_address(text: &str) -> Result<SocketAddr, String> {
    if text == "unix" {
        return Ok(SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)));
    }
    let address = text.parse().map(|ip: IpAddr| SocketAddr::new(ip, 0));
    let address = address.or_else(|_| text.parse());
    address.map_err(|_| format!("must be an IP address, or unix (got {text:?})"))
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
    T: FromStr<Err = SettingError> + Clone + Send + Sync + 'static,
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
    type Err = SettingError;

    fn from_str(text: &str) -> Result<Self, SettingError> {
        match text {
            "*" => Ok(Self::Any),
            name => name.to_ascii_lowercase().parse().map(Self::Name),
        }
    }
}

/// A path below which the site is served: empty, or with a slash at the beginning and none at the end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct BasePath(String);

impl BasePath {
    /// Adds a segment.
    pub(crate) fn join(&self, segment: &str) -> Self {
        Self(format!("{}/{segment}", self.0))
    }

    /// Returns the prefix of all paths; empty for the root.
    pub(crate) fn prefix(&self) -> &str {
        &self.0
    }
}

impl FromStr for BasePath {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "-._~".contains(letter);
        let path = text.strip_suffix('/').unwrap_or(text);
        let mut segments = path.split('/');
        let begins = segments.next() == Some("");
        let is_valid =
            |segment: &str| !matches!(segment, "" | "." | "..") && segment.chars().all(is_plain);
        if text == "/" || begins && path.contains('/') && segments.all(is_valid) {
            Ok(Self(path.to_owned()))
        } else {
            Err(format!(
                "must be a path of letters, digits, -, ., _ and ~, such as /docs/ (got {text:?})"
            ))
        }
    }
}

/// When the server ends by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ExitCondition {
    /// After so many complete downloads.
    Downloads(NonZeroU64),
    /// After this time.
    Time(Duration),
}

impl FromStr for ExitCondition {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        /// A year; longer times are surely mistakes.
        const MAX_SECONDS: u64 = 366 * 24 * 60 * 60;
        let wrong = || {
            format!("must be a number of downloads, or a time such as 30s, 10m, 2h (got {text:?})")
        };
        let end = text.find(|letter: char| !letter.is_ascii_digit());
        let (number, unit) = text.split_at(end.unwrap_or(text.len()));
        let number: NonZeroU64 = number.parse().map_err(|_| wrong())?;
        let seconds = match unit.trim() {
            "" => return Ok(Self::Downloads(number)),
            "s" => 1,
            "m" | "min" => 60,
            "h" => 60 * 60,
            "d" => 24 * 60 * 60,
            _ => return Err(wrong()),
        };
        let seconds = number.get().checked_mul(seconds);
        let seconds = seconds.filter(|seconds| *seconds <= MAX_SECONDS);
        Ok(Self::Time(Duration::from_secs(seconds.ok_or_else(wrong)?)))
    }
}

/// The addresses of one value of `--bind`: a host name may have several, as `localhost` has.
#[derive(Clone, Debug)]
pub(super) struct BindAddresses(pub(super) Vec<Endpoint>);

/// Parses an endpoint of `--bind`. Resolves host names.
pub(super) fn parse_addresses(text: &str) -> Result<BindAddresses, SettingError> {
    match text.parse() {
        Ok(endpoint) => return Ok(BindAddresses(vec![endpoint])),
        Err(reason) if text.starts_with("unix:") => return Err(reason),
        Err(_) => {}
    }
    // A resolver takes a number for an address: 8080 is 0.0.31.144.
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(format!(
            "must be an address (got {text:?}); give a port with --port, or as 127.0.0.1:{text}"
        )
        .into());
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
pub(super) fn parse_bandwidth(text: &str) -> Result<NonZeroU64, SettingError> {
    let size: Size = text.parse()?;
    let rate = NonZeroU64::new(size.bytes()).filter(|rate| rate.get() >= Limits::MIN_BANDWIDTH);
    rate.ok_or_else(|| format!("must be at least 1 KiB per second (got {text:?})").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base_path_has_plain_segments() {
        for (text, prefix) in [
            ("/", Some("")),
            ("/docs", Some("/docs")),
            ("/docs/", Some("/docs")),
            ("/a/b.c_d~e-f/", Some("/a/b.c_d~e-f")),
            ("", None),
            ("docs", None),
            ("//", None),
            ("/a//b", None),
            ("/../", None),
            ("/a/./b", None),
            ("/{x}", None),
            ("/*", None),
            ("/a b", None),
            ("/ñ", None),
            ("http://a.test/", None),
        ] {
            let base = text.parse::<BasePath>().ok();
            assert_eq!(base.as_ref().map(BasePath::prefix), prefix, "{text:?}");
        }
    }

    #[test]
    fn exit_condition_is_a_count_or_a_time() {
        let time = |seconds| Some(ExitCondition::Time(Duration::from_secs(seconds)));
        for (text, expected) in [
            (
                "3",
                Some(ExitCondition::Downloads(NonZeroU64::new(3).expect("not 0"))),
            ),
            ("30s", time(30)),
            ("10m", time(600)),
            ("10 min", time(600)),
            ("2h", time(7200)),
            ("1d", time(86_400)),
            ("", None),
            ("0", None),
            ("0s", None),
            ("-1", None),
            ("1.5h", None),
            ("1w", None),
            ("99999999999999999999", None),
            ("9999999999999999999d", None),
            ("400d", None),
        ] {
            assert_eq!(text.parse().ok(), expected, "{text:?}");
        }
    }
}
