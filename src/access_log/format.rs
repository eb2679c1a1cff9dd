//! Rendering of records as lines of text, without I/O. Client input is escaped: it can neither break a
//! line in two nor end a quoted string.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::time::{SystemTime, UNIX_EPOCH};

use ::http::Method;
use serde::Serialize;

use super::exclusion::LogExclusion;
use super::template::{LineField, LineTemplate, Segment};
use crate::calendar::UtcDateTime;
use crate::error::SettingError;
use crate::http::forwarded::TlsVersion;
use crate::http::target::{self, Target};
use crate::proto::record::{Completion, Record};

/// The format of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Format {
    /// `name|ip|port|count`, where `count` is the number of requests for that name since the start.
    ///
    /// The name is the decoded path without its leading slash, and `/` for the root. It is `-` for a
    /// request that could not be parsed. The count is `-` if the table of names is full: it has room
    /// for 10,000 names of up to 1 KiB each, and failed requests may use at most half of it.
    AccessCount,
    /// The Common Log Format of NCSA and Apache, in UTC.
    Common,
    /// The Common Log Format with Referer and User-Agent.
    Combined,
    /// A JSON object in ASCII.
    Json,
    /// Text with fields in braces, such as `{client} {host} "{request}" {status}`. Client input is escaped
    /// as in the Common Log Format, and `"` as well; an absent field is a dash.
    Custom(LineTemplate),
}

impl Format {
    /// The names of the formats that have one.
    pub const NAMES: &[&str] = &["access-count", "common", "combined", "json"];
}

impl FromStr for Format {
    type Err = SettingError;

    fn from_str(text: &str) -> Result<Self, SettingError> {
        match text {
            "access-count" => Ok(Self::AccessCount),
            "common" => Ok(Self::Common),
            "combined" => Ok(Self::Combined),
            "json" => Ok(Self::Json),
            _ if text.contains(['{', '}']) => text.parse().map(Self::Custom),
            _ => Err(format!(
                "must be one of {}, or a text with fields such as {{client}} (got {text:?})",
                Self::NAMES.join(", ")
            )
            .into()),
        }
    }
}

/// Renders records in one format, with the state that the format needs.
#[derive(Debug)]
pub(super) struct Renderer {
    format: Format,
    timestamp: CachedTimestamp,
    iso_timestamp: CachedTimestamp,
    counts: NameCounts,
    exclusions: Vec<LogExclusion>,
    addresses: Addresses,
}

/// How the addresses of clients are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Addresses {
    Full,
    /// Without the last 8 bits of IPv4 and the last 80 bits of IPv6, and without port.
    Anonymized,
}

impl Addresses {
    /// Returns the address to write. An IPv4-mapped address of a dual-stack socket is shown as IPv4.
    fn of(self, client: SocketAddr) -> SocketAddr {
        let address = client.ip().to_canonical();
        match (self, address) {
            (Self::Full, _) => SocketAddr::new(address, client.port()),
            (Self::Anonymized, IpAddr::V4(v4)) => {
                let [a, b, c, _] = v4.octets();
                SocketAddr::from(([a, b, c, 0], 0))
            }
            (Self::Anonymized, IpAddr::V6(v6)) => {
                let [a, b, c, ..] = v6.segments();
                SocketAddr::from(([a, b, c, 0, 0, 0, 0, 0], 0))
            }
        }
    }
}

impl Renderer {
    pub(super) fn new(format: Format) -> Self {
        Self {
            format,
            timestamp: CachedTimestamp::default(),
            iso_timestamp: CachedTimestamp::default(),
            counts: NameCounts::default(),
            exclusions: Vec::new(),
            addresses: Addresses::Full,
        }
    }

    /// Renders no records of these requests.
    pub(super) fn excluding(mut self, exclusions: Vec<LogExclusion>) -> Self {
        self.exclusions = exclusions;
        self
    }

    pub(super) fn with_addresses(mut self, addresses: Addresses) -> Self {
        self.addresses = addresses;
        self
    }

    /// Appends the line for `record`, whose exchange ended at `time`, with its line end. Appends nothing
    /// for a request that is excluded.
    pub(super) fn render(&mut self, record: &Record, time: SystemTime, out: &mut Vec<u8>) {
        if self.is_excluded(record) {
            return;
        }
        let client = self.addresses.of(record.client_addr);
        match &self.format {
            Format::AccessCount => self.access_count(record, client, out),
            Format::Common => self.common(record, client, time, out),
            Format::Combined => {
                self.common(record, client, time, out);
                push_field(out, record.referer.as_deref());
                push_field(out, record.user_agent.as_deref());
            }
            Format::Json => self.json(record, client, time, out),
            Format::Custom(template) => {
                let segments = template.segments.clone();
                self.custom(&segments, record, client, time, out);
            }
        }
        out.push(b'\n');
    }

    fn is_excluded(&self, record: &Record) -> bool {
        let mut exclusions = self.exclusions.iter();
        let needs_path = self.exclusions.iter().any(LogExclusion::is_about_paths);
        let line = RequestLine::parse(&record.line).filter(|_| needs_path);
        let path = line.and_then(|line| line.path());
        exclusions.any(|exclusion| exclusion.excludes(record.status, path.as_deref()))
    }

    fn custom(
        &mut self,
        segments: &[Segment],
        record: &Record,
        client: SocketAddr,
        time: SystemTime,
        out: &mut Vec<u8>,
    ) {
        let request = RequestLine::parse(&record.line);
        let request = request.as_ref();
        for segment in segments {
            let field = match segment {
                Segment::Text(text) => {
                    out.extend_from_slice(text.as_bytes());
                    continue;
                }
                Segment::Field(field) => field,
            };
            let bytes: Option<&[u8]> = match field {
                LineField::Bytes => {
                    push(out, format_args!("{}", record.content_bytes));
                    continue;
                }
                LineField::Status => {
                    push(out, format_args!("{}", record.status.as_u16()));
                    continue;
                }
                LineField::Port => {
                    push(out, format_args!("{}", client.port()));
                    continue;
                }
                LineField::Client => {
                    push(out, format_args!("{}", client.ip()));
                    continue;
                }
                LineField::Duration => {
                    push(out, format_args!("{:.6}", record.duration.as_secs_f64()));
                    continue;
                }
                LineField::Time => {
                    let time = self.timestamp.format(time, clf_time);
                    out.extend_from_slice(time.as_bytes());
                    continue;
                }
                LineField::IsoTime => {
                    push_iso_time(out, &mut self.iso_timestamp, time);
                    continue;
                }
                LineField::User => {
                    push_user(out, record.user.as_deref());
                    continue;
                }
                LineField::Outcome => Some(outcome(record).as_bytes()),
                LineField::Scheme => Some(scheme(record).as_bytes()),
                LineField::Tls => record.tls.map(|tls| tls.name().as_bytes()),
                LineField::Host => record.host.as_deref(),
                LineField::Method => request.map(|request| request.method.as_str().as_bytes()),
                LineField::Protocol => request.map(|request| request.protocol),
                LineField::Target => request.map(|request| request.target),
                LineField::Path => request.map(RequestLine::raw_path),
                LineField::Query => request.and_then(|request| split_query(request.target).1),
                LineField::Request => Some(&record.line[..]),
                LineField::Referer => record.referer.as_deref(),
                LineField::UserAgent => record.user_agent.as_deref(),
            };
            let bytes = bytes.filter(|bytes| !bytes.is_empty());
            push_escaped(out, bytes.unwrap_or(b"-"), b"\\\"");
        }
    }

    fn access_count(&mut self, record: &Record, client: SocketAddr, out: &mut Vec<u8>) {
        let name = RequestLine::parse(&record.line).and_then(|line| line.name());
        let count = match &name {
            Some(name) => self.counts.count(name, record.status.is_client_error()),
            None => None,
        };
        push_escaped(out, name.as_deref().unwrap_or(b"-"), b"\\|\"");
        push(out, format_args!("|{}|{}|", client.ip(), client.port()));
        match count {
            Some(count) => push(out, format_args!("{count}")),
            None => out.push(b'-'),
        }
    }

    fn common(&mut self, record: &Record, client: SocketAddr, time: SystemTime, out: &mut Vec<u8>) {
        let timestamp = self.timestamp.format(time, clf_time);
        push(out, format_args!("{} - ", client.ip()));
        push_user(out, record.user.as_deref());
        push(out, format_args!(" [{timestamp}]"));
        let line = Some(&record.line[..]).filter(|line| !line.is_empty());
        push_field(out, line);
        push(out, format_args!(" {} ", record.status.as_u16()));
        // Apache's %b: zero bytes are a dash.
        match record.content_bytes {
            0 => out.push(b'-'),
            bytes => push(out, format_args!("{bytes}")),
        }
    }

    fn json(&mut self, record: &Record, client: SocketAddr, time: SystemTime, out: &mut Vec<u8>) {
        let mut timestamp = Vec::new();
        push_iso_time(&mut timestamp, &mut self.iso_timestamp, time);
        let request = RequestLine::parse(&record.line);
        let request = request.as_ref();
        let line = JsonLine {
            time: text(&timestamp),
            ip: client.ip(),
            port: client.port(),
            user: record.user.as_deref(),
            host: record.host.as_deref().map(text),
            scheme: scheme(record),
            tls: record.tls.map(TlsVersion::name),
            method: request.map(|request| request.method.as_str()),
            target: request.map(|request| text(request.target)),
            protocol: request.map(|request| text(request.protocol)),
            status: record.status.as_u16(),
            bytes: record.content_bytes,
            duration_ms: record.duration.as_secs_f64() * 1000.0,
            outcome: outcome(record),
            referer: record.referer.as_deref().map(text),
            user_agent: record.user_agent.as_deref().map(text),
        };
        let mut serializer = serde_json::Serializer::with_formatter(out, AsciiJson);
        // Serializing strings and numbers into memory does not fail.
        let _ = line.serialize(&mut serializer);
    }
}

#[derive(Serialize)]
struct JsonLine<'a> {
    time: Cow<'a, str>,
    ip: IpAddr,
    port: u16,
    user: Option<&'a str>,
    host: Option<Cow<'a, str>>,
    scheme: &'static str,
    tls: Option<&'static str>,
    method: Option<&'a str>,
    target: Option<Cow<'a, str>>,
    protocol: Option<Cow<'a, str>>,
    status: u16,
    bytes: u64,
    duration_ms: f64,
    outcome: &'static str,
    referer: Option<Cow<'a, str>>,
    user_agent: Option<Cow<'a, str>>,
}

/// Compact JSON that is pure ASCII, with three decimals in a fraction.
struct AsciiJson;

impl serde_json::ser::Formatter for AsciiJson {
    fn write_string_fragment<W>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()>
    where
        W: ?Sized + Write,
    {
        for char in fragment.chars() {
            match char {
                ' '..='~' => write!(writer, "{char}")?,
                // DEL, which JSON permits, and all other characters, as UTF-16 (RFC 8259 §7).
                _ => {
                    for unit in char.encode_utf16(&mut [0; 2]) {
                        write!(writer, "\\u{unit:04x}")?;
                    }
                }
            }
        }
        Ok(())
    }

    fn write_f64<W>(&mut self, writer: &mut W, value: f64) -> io::Result<()>
    where
        W: ?Sized + Write,
    {
        write!(writer, "{value:.3}")
    }
}

/// Formats a time of the Common Log Format.
fn clf_time(time: UtcDateTime) -> String {
    let month = time.month_name();
    let UtcDateTime {
        year,
        day,
        hour,
        minute,
        second,
        ..
    } = time;
    format!("{day:02}/{month}/{year:04}:{hour:02}:{minute:02}:{second:02} +0000")
}

/// Appends a time of ISO 8601 with milliseconds.
fn push_iso_time(out: &mut Vec<u8>, cached: &mut CachedTimestamp, time: SystemTime) {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let second = cached.format(time, |time| time.to_string());
    push(out, format_args!("{second}.{:03}Z", since.subsec_millis()));
}

fn scheme(record: &Record) -> &'static str {
    if record.is_secure { "https" } else { "http" }
}

fn outcome(record: &Record) -> &'static str {
    match record.outcome {
        Completion::Complete => "complete",
        Completion::Aborted => "aborted",
    }
}

/// Splits a request-target at its first `?`.
fn split_query(target: &[u8]) -> (&[u8], Option<&[u8]>) {
    match memchr::memchr(b'?', target) {
        Some(mark) => (&target[..mark], Some(&target[mark + 1..])),
        None => (target, None),
    }
}

fn text(bytes: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

fn push(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    // Writing to a vector does not fail.
    let _ = out.write_fmt(text);
}

/// Appends a space and a quoted field; an absent one is a dash.
fn push_field(out: &mut Vec<u8>, field: Option<&[u8]>) {
    out.extend_from_slice(b" \"");
    push_escaped(out, field.unwrap_or(b"-"), b"\\\"");
    out.push(b'"');
}

/// Appends a user name, or a dash. It stays one word: spaces are escaped too, as is the name `-`.
fn push_user(out: &mut Vec<u8>, user: Option<&str>) {
    match user {
        None => out.push(b'-'),
        Some("-") => push_escaped(out, b"-", b"-"),
        Some(user) => push_escaped(out, user.as_bytes(), b" \\\""),
    }
}

/// Appends bytes, with those of `special` and all that is not printable ASCII as `\xHH`, as nginx does.
fn push_escaped(out: &mut Vec<u8>, bytes: &[u8], special: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    for &byte in bytes {
        if matches!(byte, b' '..=b'~') && !special.contains(&byte) {
            out.push(byte);
        } else {
            let (high, low) = (usize::from(byte >> 4), usize::from(byte & 15));
            out.extend_from_slice(&[b'\\', b'x', DIGITS[high], DIGITS[low]]);
        }
    }
}

/// The parts of a request line (RFC 9112 §3).
struct RequestLine<'a> {
    method: Method,
    target: &'a [u8],
    protocol: &'a [u8],
}

impl<'a> RequestLine<'a> {
    /// `None` for an invalid or truncated request line.
    fn parse(line: &'a [u8]) -> Option<Self> {
        let mut words = line.split(|&byte| byte == b' ');
        let method = Method::from_bytes(words.next()?).ok()?;
        let target = words.next().filter(|target| !target.is_empty())?;
        let protocol = words.next().filter(|word| word.starts_with(b"HTTP/"))?;
        words.next().is_none().then_some(Self {
            method,
            target,
            protocol,
        })
    }

    /// Returns the path as it was sent, without the scheme and the authority of a target in absolute form.
    fn raw_path(&self) -> &'a [u8] {
        let target = std::str::from_utf8(self.target).unwrap_or_default();
        match target::split_absolute(target) {
            None => split_query(self.target).0,
            Some((_, "")) if self.method == Method::OPTIONS => b"*",
            Some((_, rest)) => match split_query(rest.as_bytes()).0 {
                b"" => b"/",
                path => path,
            },
        }
    }

    /// Returns the decoded path.
    fn path(&self) -> Option<Cow<'a, [u8]>> {
        let target = std::str::from_utf8(self.target).ok()?;
        Some(Target::parse(&self.method, target).ok()?.path)
    }

    /// Returns the requested path as a file name relative to the root.
    fn name(&self) -> Option<Vec<u8>> {
        match &*self.path()? {
            b"" => None,
            b"/" => Some(b"/".to_vec()),
            path => Some(path.strip_prefix(b"/").unwrap_or(path).to_vec()),
        }
    }
}

/// The number of requests for each name.
#[derive(Debug, Default)]
struct NameCounts {
    names: HashMap<Vec<u8>, u64>,
}

/// With [`MAX_NAME_BYTES`], about 10 MiB, whatever clients request.
const MAX_NAMES: usize = 10_000;
const MAX_NAME_BYTES: usize = 1024;

impl NameCounts {
    /// Counts a request for `name`; `None` if the table is full. Failed requests may use half of the
    /// table, so that guessed names do not keep those of the site from being counted.
    fn count(&mut self, name: &[u8], failed: bool) -> Option<u64> {
        if let Some(count) = self.names.get_mut(name) {
            *count += 1;
            return Some(*count);
        }
        let capacity = if failed { MAX_NAMES / 2 } else { MAX_NAMES };
        if name.len() > MAX_NAME_BYTES || self.names.len() >= capacity {
            return None;
        }
        self.names.insert(name.to_vec(), 1);
        Some(1)
    }
}

/// A timestamp in whole seconds of UTC, rendered again only when the second changes.
#[derive(Debug, Default)]
struct CachedTimestamp {
    second: Option<u64>,
    rendered: String,
}

impl CachedTimestamp {
    /// Formats a time. `format` must be the same in each call.
    fn format(&mut self, time: SystemTime, format: impl Fn(UtcDateTime) -> String) -> &str {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        let second = since.as_secs();
        if self.second != Some(second) {
            self.second = Some(second);
            self.rendered = format(UtcDateTime::from_unix_seconds_clamped(second));
        }
        &self.rendered
    }
}
