//! Rendering of records as lines of text, without I/O. Client input is escaped: it can neither break a
//! line in two nor end a quoted string.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io::{self, Write};
use std::net::IpAddr;
use std::str::FromStr;
use std::time::{SystemTime, UNIX_EPOCH};

use ::http::Method;
use jiff::Timestamp;
use serde::Serialize;

use crate::http::target::Target;
use crate::proto::record::{Completion, Record};

/// The format of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "access-count" => Ok(Self::AccessCount),
            "common" => Ok(Self::Common),
            "combined" => Ok(Self::Combined),
            "json" => Ok(Self::Json),
            _ => Err(format!(
                "unknown access log format: {text}; use access-count, common, combined or json"
            )),
        }
    }
}

/// Renders records in one format, with the state that the format needs.
#[derive(Debug)]
pub(super) struct Renderer {
    format: Format,
    timestamp: CachedTimestamp,
    counts: NameCounts,
}

impl Renderer {
    pub(super) fn new(format: Format) -> Self {
        Self {
            format,
            timestamp: CachedTimestamp::default(),
            counts: NameCounts::default(),
        }
    }

    /// Appends the line for `record`, whose exchange ended at `time`, with its line end.
    pub(super) fn render(&mut self, record: &Record, time: SystemTime, out: &mut Vec<u8>) {
        match self.format {
            Format::AccessCount => self.access_count(record, out),
            Format::Common => self.common(record, time, out),
            Format::Combined => {
                self.common(record, time, out);
                push_field(out, record.referer.as_deref());
                push_field(out, record.user_agent.as_deref());
            }
            Format::Json => self.json(record, time, out),
        }
        out.push(b'\n');
    }

    fn access_count(&mut self, record: &Record, out: &mut Vec<u8>) {
        let name = RequestLine::parse(&record.line).and_then(|line| line.name());
        let count = match &name {
            Some(name) => self.counts.count(name, record.status.is_client_error()),
            None => None,
        };
        push_escaped(out, name.as_deref().unwrap_or(b"-"), b"\\|\"");
        push(
            out,
            format_args!("|{}|{}|", ip(record), record.client_addr.port()),
        );
        match count {
            Some(count) => push(out, format_args!("{count}")),
            None => out.push(b'-'),
        }
    }

    fn common(&mut self, record: &Record, time: SystemTime, out: &mut Vec<u8>) {
        let timestamp = self.timestamp.format(time, "%d/%b/%Y:%H:%M:%S +0000");
        push(out, format_args!("{} - ", ip(record)));
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

    fn json(&mut self, record: &Record, time: SystemTime, out: &mut Vec<u8>) {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        let timestamp = self.timestamp.format(time, "%Y-%m-%dT%H:%M:%S");
        let request = RequestLine::parse(&record.line);
        let request = request.as_ref();
        let line = JsonLine {
            time: format!("{timestamp}.{:03}Z", since.subsec_millis()),
            ip: ip(record),
            port: record.client_addr.port(),
            user: record.user.as_deref(),
            method: request.map(|request| request.method.as_str()),
            target: request.map(|request| text(request.target)),
            protocol: request.map(|request| text(request.protocol)),
            status: record.status.as_u16(),
            bytes: record.content_bytes,
            duration_ms: record.duration.as_secs_f64() * 1000.0,
            outcome: match record.outcome {
                Completion::Complete => "complete",
                Completion::Aborted => "aborted",
            },
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
    time: String,
    ip: IpAddr,
    port: u16,
    user: Option<&'a str>,
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

/// An IPv4-mapped address of a dual-stack socket is shown as IPv4.
fn ip(record: &Record) -> IpAddr {
    record.client_addr.ip().to_canonical()
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

    /// Returns the requested path as a file name relative to the root.
    fn name(&self) -> Option<Vec<u8>> {
        let target = std::str::from_utf8(self.target).ok()?;
        let path = Target::parse(&self.method, target).ok()?.path;
        match &*path {
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
    /// Formats a time. `pattern` must be the same in each call.
    fn format(&mut self, time: SystemTime, pattern: &str) -> &str {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        let second = since.as_secs();
        if self.second != Some(second) {
            let whole = i64::try_from(second).ok();
            let timestamp = whole.and_then(|second| Timestamp::from_second(second).ok());
            self.second = Some(second);
            self.rendered = timestamp
                .unwrap_or(Timestamp::MAX)
                .strftime(pattern)
                .to_string();
        }
        &self.rendered
    }
}
