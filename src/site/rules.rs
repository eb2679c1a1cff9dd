//! The tables of a site file: routes, redirects, error pages, users, uploads.

use std::fmt;
use std::marker::PhantomData;
use std::net::Ipv6Addr;
use std::path::PathBuf;
use std::str::FromStr;

use ::http::{HeaderValue, Method, StatusCode};
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::pattern::{PathPattern, RedirectTemplate};
use super::{Deletion, FileName, Size, SourceLocation};
use crate::error::SettingError;
use crate::http::target::{Target, encode_path};

/// One `[[route]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RouteRule {
    /// The decoded path.
    pub path: String,
    /// What is served at the path.
    pub source: RouteSource,
    pub(crate) location: SourceLocation,
}

/// The source of a route's content.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RouteSource {
    /// A file.
    File(FileName),
    /// This many zero bytes: a large download that occupies no memory or disk.
    Zeros(u64),
}

/// One `[[redirect]]`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RedirectRule {
    /// The paths that are redirected.
    pub(crate) from: PathPattern,
    /// Where to.
    pub(crate) to: RedirectTemplate,
    /// 301, 302, 307 or 308.
    pub(crate) status: StatusCode,
    pub(crate) location: SourceLocation,
}

/// Displays the rule on one line, with its location.
impl fmt::Display for RouteRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "route {}{}", self.path, self.location)
    }
}

/// Displays the rule on one line, with its location.
impl fmt::Display for RedirectRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "redirect {} → {}{}", self.from, self.to, self.location)
    }
}

/// A status that can have an error page.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(try_from = "String")]
pub struct ErrorStatus(u16);

/// `[users]`.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[non_exhaustive]
pub struct UsersConfig {
    /// Where they are stored.
    pub store: Store,
}

/// Where users are stored.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(try_from = "String")]
#[non_exhaustive]
pub enum Store {
    /// An embedded database; a relative path is in the state directory.
    Sqlite(PathBuf),
    /// A PostgreSQL database, which several servers may share.
    Postgres(PostgresUrl),
}

/// `postgres://user:password@host:port/database?parameter=value`. Any part of it may contain a
/// password, so it is not displayed.
#[derive(Clone, PartialEq, Eq)]
pub struct PostgresUrl(String);

impl PostgresUrl {
    /// Returns the URL with the password.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("postgres://…")
    }
}

/// `[upload]`. Its presence enables uploads.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
#[non_exhaustive]
pub struct Upload {
    /// The maximum size of a request's content; `None` is 1 GiB.
    pub max: Option<Size>,
    /// Whether an upload may replace a file, or be served in place of one (as its sidecar, or as
    /// the index of its folder, for example).
    pub overwrite: bool,
    /// Whether PUT creates the folders above a file.
    pub parents: bool,
}

/// `[manage]`. Its presence lets clients create folders, and rename and delete files and folders.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
#[non_exhaustive]
pub struct Manage {
    /// What becomes of deleted files.
    pub delete: Deletion,
}

/// Parses a table into a rule while the parser is at the table, so that an error has the table's
/// line. With `#[serde(try_from)]` it would have the line of the first table.
pub(super) fn rule<'de, Raw, Rule, D>(deserializer: D) -> Result<Rule, D::Error>
where
    Raw: Deserialize<'de>,
    Rule: TryFrom<Raw, Error = SettingError>,
    D: Deserializer<'de>,
{
    struct RuleVisitor<Raw, Rule>(PhantomData<(Raw, Rule)>);

    impl<'de, Raw, Rule> Visitor<'de> for RuleVisitor<Raw, Rule>
    where
        Raw: Deserialize<'de>,
        Rule: TryFrom<Raw, Error = SettingError>,
    {
        type Value = Rule;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a table")
        }

        fn visit_map<A: MapAccess<'de>>(self, table: A) -> Result<Rule, A::Error> {
            let raw = Raw::deserialize(MapAccessDeserializer::new(table))?;
            raw.try_into().map_err(de::Error::custom)
        }
    }

    deserializer.deserialize_map(RuleVisitor(PhantomData))
}

impl<'de> Deserialize<'de> for RouteRule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        rule::<RawRoute, _, _>(deserializer)
    }
}

impl<'de> Deserialize<'de> for RedirectRule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        rule::<RawRedirect, _, _>(deserializer)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRoute {
    path: String,
    file: Option<FileName>,
    size: Option<String>,
}

impl TryFrom<RawRoute> for RouteRule {
    type Error = SettingError;

    fn try_from(raw: RawRoute) -> Result<Self, SettingError> {
        let path = raw.path;
        let normal = Target::parse(&Method::GET, &encode_path(path.as_bytes()))
            .is_ok_and(|target| *target.path == *path.as_bytes());
        if !path.starts_with('/') || path.contains(['?', '#']) || !normal {
            return Err(format!(
                "path must be a normal path that begins with a slash, such as /logo (got {path:?})"
            )
            .into());
        }
        let source = match (raw.file, raw.size) {
            (Some(file), None) => RouteSource::File(file),
            (None, Some(size)) => RouteSource::Zeros(size.parse::<Size>()?.bytes()),
            _ => return Err(format!("route {path:?} must have either a file or a size").into()),
        };
        Ok(Self {
            path,
            source,
            location: SourceLocation::default(),
        })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRedirect {
    from: String,
    to: String,
    #[serde(default)]
    status: RedirectStatus,
}

struct RedirectStatus(StatusCode);

impl Default for RedirectStatus {
    fn default() -> Self {
        Self(StatusCode::MOVED_PERMANENTLY)
    }
}

impl<'de> Deserialize<'de> for RedirectStatus {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct StatusVisitor;

        impl Visitor<'_> for StatusVisitor {
            type Value = RedirectStatus;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("one of 301, 302, 307, 308")
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<RedirectStatus, E> {
                let allowed = [
                    StatusCode::MOVED_PERMANENTLY,
                    StatusCode::FOUND,
                    StatusCode::TEMPORARY_REDIRECT,
                    StatusCode::PERMANENT_REDIRECT,
                ];
                let mut allowed = allowed.into_iter();
                let status = allowed.find(|status| i64::from(status.as_u16()) == number);
                let wrong = || E::invalid_value(de::Unexpected::Signed(number), &self);
                status.map(RedirectStatus).ok_or_else(wrong)
            }
        }

        deserializer.deserialize_i64(StatusVisitor)
    }
}

impl TryFrom<RawRedirect> for RedirectRule {
    type Error = SettingError;

    fn try_from(raw: RawRedirect) -> Result<Self, SettingError> {
        let from = PathPattern::new(&raw.from)?;
        let absolute = raw.to.starts_with("https://") || raw.to.starts_with("http://");
        if !absolute && !raw.to.starts_with('/') {
            let to = &raw.to;
            return Err(format!("to must be a path or an http URL (got {to:?})").into());
        }
        if HeaderValue::from_str(&raw.to).is_err() || raw.to.contains(char::is_whitespace) {
            return Err(format!("to must be a URL without spaces (got {:?})", raw.to).into());
        }
        // Browsers read a backslash as a slash.
        if raw.to.contains('\\') {
            return Err(format!(
                "to must not contain a backslash; write / or %5C (got {:?})",
                raw.to
            )
            .into());
        }
        if absolute {
            check_server(&raw.to)?;
        }
        let to = RedirectTemplate::new(&raw.to, from.stars())?;
        Ok(Self {
            from,
            to,
            status: raw.status.0,
            location: SourceLocation::default(),
        })
    }
}

/// Checks the server of an http URL: a host, and perhaps a port.
fn check_server(url: &str) -> Result<(), String> {
    let (_, rest) = url.split_once("://").unwrap_or_default();
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if authority.contains('$') {
        return Err(format!(
            "to must not let a request choose the server; remove the $ from the host (got {url:?})"
        ));
    }
    // An address in brackets contains colons.
    let end = authority.find(']').map_or(0, |bracket| bracket + 1);
    let (host, port) = match authority[end..].find(':') {
        Some(colon) => (&authority[..end + colon], &authority[end + colon + 1..]),
        None => (authority, ""),
    };
    let is_name_byte = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let is_host = match host.strip_prefix('[') {
        Some(address) => address
            .strip_suffix(']')
            .is_some_and(|address| address.parse::<Ipv6Addr>().is_ok()),
        None => host.bytes().all(is_name_byte) && !host.trim_matches('.').is_empty(),
    };
    let has_colon = host.len() < authority.len();
    let is_port = port.bytes().all(|digit| digit.is_ascii_digit()) && port.parse::<u16>().is_ok();
    if is_host && (!has_colon || is_port) {
        return Ok(());
    }
    Err(format!(
        "to must name a host and perhaps a port after the scheme, such as https://example.org/ (got {url:?})"
    ))
}

impl ErrorStatus {
    /// The statuses that say all about an error; other errors have no page of the site.
    pub(super) const WITH_PAGE: [u16; 9] = [401, 403, 404, 405, 412, 416, 429, 500, 503];

    /// True if a page for it can be sent.
    pub(crate) fn has_page(self) -> bool {
        Self::WITH_PAGE.contains(&self.0)
    }
}

impl fmt::Display for ErrorStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl From<StatusCode> for ErrorStatus {
    fn from(status: StatusCode) -> Self {
        Self(status.as_u16())
    }
}

impl TryFrom<String> for ErrorStatus {
    type Error = SettingError;

    fn try_from(text: String) -> Result<Self, SettingError> {
        match text.parse() {
            Ok(status @ 400..=599) => Ok(Self(status)),
            _ => Err(
                format!("the status must be an integer between 400 and 599 (got {text:?})").into(),
            ),
        }
    }
}

impl TryFrom<String> for Store {
    type Error = SettingError;

    fn try_from(text: String) -> Result<Self, SettingError> {
        text.parse()
    }
}

impl fmt::Display for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
            Self::Postgres(url) => url.fmt(f),
        }
    }
}

impl FromStr for Store {
    type Err = SettingError;

    fn from_str(text: &str) -> Result<Self, SettingError> {
        let is_postgres = ["postgres://", "postgresql://"]
            .iter()
            .any(|scheme| text.starts_with(scheme));
        match text.strip_prefix("sqlite:") {
            Some(path) if !path.is_empty() => Ok(Self::Sqlite(PathBuf::from(path))),
            None if is_postgres => Ok(Self::Postgres(PostgresUrl(text.to_owned()))),
            // The text is not repeated: it may contain a password.
            _ => Err(
                "must be a store such as sqlite:users.db or postgres://user:password@host/database"
                    .into(),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redirect(to: &str) -> Result<RedirectRule, toml::de::Error> {
        toml::from_str(&format!("from = \"/a/*\"\nto = {to:?}\n"))
    }

    #[test]
    fn redirect_to_a_malformed_server_is_refused() {
        for to in [
            "http:///$1",
            "http://",
            "https:///",
            "https://?a",
            "https://#a",
            "http://:80/",
            "http://h:/",
            "http://h:x/",
            "http://h:+1/",
            "http://h:65536/",
            "http://h:80:80/",
            "http://h$1/",
            "http://$1",
            "http://h$$/",
            "http://user@h/",
            "http://user:password@h/",
            "http://h%2F.test/",
            "http://h\\.test/",
            "/\\$1",
            "http://./",
            "http://[::1/",
            "http://[x]/",
            "http://[::1]x/",
            "http://::1/",
            "http://h,b/",
        ] {
            assert!(redirect(to).is_err(), "{to}");
        }
        for to in [
            "/$1",
            "/a?b#c:$1",
            "http://h",
            "http://h?$1",
            "http://h#$1",
            "https://a-b.Example.org./$1",
            "https://my_host:8443/",
            "http://127.0.0.1:80/$1",
            "http://[::1]:80/$1",
            "http://[2001:db8::1]/$1@$1:$1",
        ] {
            assert!(redirect(to).is_ok(), "{to}");
        }
    }
}
