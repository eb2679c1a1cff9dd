//! Priorities (RFC 9218): what a client signals, and what the server makes of it.
//!
//! Clients that send no priorities at all get defaults by what is sent: pages, style sheets, scripts
//! and fonts first, and downloads last. Only the server knows that a response is a download: a
//! browser asks for it as for a page.

use crate::http::fields::is_token_char;
use crate::http::list;

/// How a response is scheduled (RFC 9218 §4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Priority {
    /// From 0, the most urgent, to [`MAX_URGENCY`].
    pub(crate) urgency: u8,
    /// Whether a part of the response is of use, so that it may share the bandwidth with others.
    pub(crate) incremental: bool,
}

pub(crate) const MAX_URGENCY: u8 = 7;

/// A response that is not incremental and has at most so many bytes left is short: it is sent at once,
/// because it is complete in one write.
pub(crate) const SHORT_BYTES: u64 = 64 * 1024;

/// The urgency of what a page cannot be shown without, for a client that sends no priorities.
const RENDERING_URGENCY: u8 = 2;

/// The urgency of downloads at best, whatever a client requests.
const BULK_URGENCY: u8 = 5;

/// A response of more bytes is a download, unless it is a page, a style sheet, a script or a font.
const BULK_BYTES: u64 = 1024 * 1024;

impl Default for Priority {
    fn default() -> Self {
        Self {
            urgency: 3,
            incremental: false,
        }
    }
}

impl Priority {
    /// This priority with the parameters that are present.
    pub(crate) fn with(self, parameters: PriorityParameters) -> Self {
        Self {
            urgency: parameters.urgency.unwrap_or(self.urgency),
            incremental: parameters.incremental.unwrap_or(self.incremental),
        }
    }
}

/// The parameters that a `priority` field or a PRIORITY_UPDATE frame contains.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PriorityParameters {
    pub(crate) urgency: Option<u8>,
    pub(crate) incremental: Option<bool>,
}

impl PriorityParameters {
    /// Parses the lines of a `priority` field, or the value of a PRIORITY_UPDATE frame.
    ///
    /// There are none if the value is not a dictionary (RFC 8941 §3.2). Unknown parameters, and values
    /// that a parameter cannot have, are ignored (RFC 9218 §4).
    pub(crate) fn parse<'a>(lines: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut parameters = Self::default();
        for line in lines {
            if parameters.add(line).is_none() {
                return Self::default();
            }
        }
        parameters
    }

    /// Adds the members of a dictionary; `None` if it is malformed.
    fn add(&mut self, line: &[u8]) -> Option<()> {
        let mut parser = Parser::new(line);
        parser.skip_spaces();
        while !parser.is_at_end() {
            let (key, value) = parser.member()?;
            // The last of equal keys wins, even if its value is ignored.
            match (key, value) {
                (b"u", Value::Integer(urgency)) => {
                    self.urgency = u8::try_from(urgency).ok().filter(|it| *it <= MAX_URGENCY);
                }
                (b"i", Value::Boolean(incremental)) => self.incremental = Some(incremental),
                (b"u", _) => self.urgency = None,
                (b"i", _) => self.incremental = None,
                _ => {}
            }
            parser.skip_separator()?;
        }
        Some(())
    }
}

/// The value of a member, as far as a priority parameter may have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Value {
    Integer(i64),
    Boolean(bool),
    Other,
}

/// A parser of dictionaries (RFC 8941 §4.2.2). A method returns `None` where the syntax is violated.
#[derive(Debug)]
struct Parser<'a> {
    rest: &'a [u8],
}

/// Digits of an integer, and of the integer part and the fraction of a decimal, at most (§4.2.4).
const MAX_INTEGER_DIGITS: usize = 15;
const MAX_DECIMAL_DIGITS: usize = 12;
const MAX_FRACTION_DIGITS: usize = 3;

impl<'a> Parser<'a> {
    fn new(value: &'a [u8]) -> Self {
        let trailing = value.iter().rev().take_while(|byte| **byte == b' ').count();
        Self {
            rest: &value[..value.len() - trailing],
        }
    }

    fn is_at_end(&self) -> bool {
        self.rest.is_empty()
    }

    fn skip_spaces(&mut self) {
        self.take_while(|byte| byte == b' ');
    }

    /// The comma after a member, which another member must follow.
    fn skip_separator(&mut self) -> Option<()> {
        let is_blank = |byte| byte == b' ' || byte == b'\t';
        self.take_while(is_blank);
        if self.is_at_end() {
            return Some(());
        }
        self.expect(b',')?;
        self.take_while(is_blank);
        (!self.is_at_end()).then_some(())
    }

    fn member(&mut self) -> Option<(&'a [u8], Value)> {
        let key = self.key()?;
        let value = if self.accept(b'=') {
            self.item_or_inner_list()?
        } else {
            Value::Boolean(true)
        };
        self.skip_parameters()?;
        Some((key, value))
    }

    fn key(&mut self) -> Option<&'a [u8]> {
        let first = *self.rest.first()?;
        (first.is_ascii_lowercase() || first == b'*').then_some(())?;
        Some(self.take_while(|byte| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-.*".contains(&byte)
        }))
    }

    fn skip_parameters(&mut self) -> Option<()> {
        while self.accept(b';') {
            self.skip_spaces();
            self.key()?;
            if self.accept(b'=') {
                self.item()?;
            }
        }
        Some(())
    }

    fn item_or_inner_list(&mut self) -> Option<Value> {
        if !self.accept(b'(') {
            return self.item();
        }
        loop {
            self.skip_spaces();
            if self.accept(b')') {
                return Some(Value::Other);
            }
            self.item()?;
            self.skip_parameters()?;
            matches!(self.rest.first(), Some(b' ' | b')')).then_some(())?;
        }
    }

    /// A bare item (§4.2.3.1).
    fn item(&mut self) -> Option<Value> {
        match *self.rest.first()? {
            b'-' | b'0'..=b'9' => self.number(),
            b'?' => self.boolean(),
            b'"' => self.string(),
            b':' => self.byte_sequence(),
            b'*' | b'a'..=b'z' | b'A'..=b'Z' => {
                self.take_while(|byte| is_token_char(byte) || byte == b':' || byte == b'/');
                Some(Value::Other)
            }
            _ => None,
        }
    }

    fn number(&mut self) -> Option<Value> {
        let sign = if self.accept(b'-') { -1 } else { 1 };
        let digits = self.take_while(|byte| byte.is_ascii_digit());
        if self.accept(b'.') {
            let fraction = self.take_while(|byte| byte.is_ascii_digit());
            let is_valid = (1..=MAX_DECIMAL_DIGITS).contains(&digits.len())
                && (1..=MAX_FRACTION_DIGITS).contains(&fraction.len());
            return is_valid.then_some(Value::Other);
        }
        (1..=MAX_INTEGER_DIGITS)
            .contains(&digits.len())
            .then_some(())?;
        let number = digits
            .iter()
            .fold(0, |number, digit| number * 10 + i64::from(digit - b'0'));
        Some(Value::Integer(sign * number))
    }

    fn boolean(&mut self) -> Option<Value> {
        self.expect(b'?')?;
        if self.accept(b'1') {
            return Some(Value::Boolean(true));
        }
        self.expect(b'0')?;
        Some(Value::Boolean(false))
    }

    fn string(&mut self) -> Option<Value> {
        self.expect(b'"')?;
        loop {
            self.take_while(|byte| matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\');
            if self.accept(b'"') {
                return Some(Value::Other);
            }
            self.expect(b'\\')?;
            (self.accept(b'"') || self.accept(b'\\')).then_some(())?;
        }
    }

    fn byte_sequence(&mut self) -> Option<Value> {
        self.expect(b':')?;
        self.take_while(|byte| byte.is_ascii_alphanumeric() || b"+/=".contains(&byte));
        self.expect(b':')?;
        Some(Value::Other)
    }

    fn take_while(&mut self, accepts: impl Fn(u8) -> bool) -> &'a [u8] {
        let end = self.rest.iter().position(|byte| !accepts(*byte));
        let (taken, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        self.rest = rest;
        taken
    }

    fn accept(&mut self, byte: u8) -> bool {
        self.expect(byte).is_some()
    }

    fn expect(&mut self, byte: u8) -> Option<()> {
        self.rest = self.rest.strip_prefix(&[byte])?;
        Some(())
    }
}

/// What the default priority of a response depends on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ResponseTraits {
    /// Whether a page cannot be shown without it.
    pub(crate) is_for_rendering: bool,
    /// Whether Content-Disposition says that it is saved instead of shown.
    pub(crate) is_attachment: bool,
    /// The length of the content; `None` if it is unknown.
    pub(crate) len: Option<u64>,
    /// The parameters of its own `priority` field.
    pub(crate) parameters: PriorityParameters,
}

/// What the client has signalled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ClientSignal {
    /// No priority on the whole connection so far.
    Never,
    /// These parameters for the request. They are empty if other requests of the connection had some,
    /// as browsers omit what is the default.
    Parameters(PriorityParameters),
}

/// The priority of a response.
///
/// The parameters of the response win over those of the request (RFC 9218 §8). A download is never
/// more urgent than [`BULK_URGENCY`] unless the response itself says so.
pub(crate) fn response_priority(client: ClientSignal, response: &ResponseTraits) -> Priority {
    let requested = match client {
        ClientSignal::Never => default_priority(response),
        ClientSignal::Parameters(parameters) => Priority::default().with(parameters),
    };
    let served = if is_bulk(response) {
        Priority {
            urgency: requested.urgency.max(BULK_URGENCY),
            incremental: true,
        }
    } else {
        requested
    };
    served.with(response.parameters)
}

/// The priority for a client that signals none. Long responses share the bandwidth, as they would on
/// connections of their own.
fn default_priority(response: &ResponseTraits) -> Priority {
    Priority {
        urgency: if response.is_for_rendering {
            RENDERING_URGENCY
        } else {
            Priority::default().urgency
        },
        incremental: response.len.is_none_or(|len| len > SHORT_BYTES),
    }
}

fn is_bulk(response: &ResponseTraits) -> bool {
    let is_large = response.len.is_some_and(|len| len > BULK_BYTES);
    response.is_attachment || is_large && !response.is_for_rendering
}

/// Returns whether a page cannot be shown without it: HTML, CSS, JavaScript, or a font.
pub(crate) fn is_for_rendering(content_type: &[u8]) -> bool {
    const TYPES: [&str; 7] = [
        "text/html",
        "application/xhtml+xml",
        "text/css",
        "text/javascript",
        "application/javascript",
        "application/x-javascript",
        "application/vnd.ms-fontobject",
    ];
    let end = content_type.iter().position(|byte| *byte == b';');
    let essence = content_type[..end.unwrap_or(content_type.len())].trim_ascii();
    let starts_with = |prefix: &[u8]| {
        let start = essence.get(..prefix.len());
        start.is_some_and(|start| start.eq_ignore_ascii_case(prefix))
    };
    starts_with(b"font/")
        || starts_with(b"application/font-")
        || starts_with(b"application/x-font-")
        || TYPES
            .iter()
            .any(|known| essence.eq_ignore_ascii_case(known.as_bytes()))
}

/// Returns whether a Content-Disposition value is that of a download (RFC 6266 §4.2).
pub(crate) fn is_attachment(content_disposition: &[u8]) -> bool {
    let kind = list::split(content_disposition, b';').next();
    kind.is_some_and(|kind| kind.eq_ignore_ascii_case(b"attachment"))
}

/// The PRIORITY_UPDATE frames for streams that the client has not opened yet (RFC 9218 §7.1).
#[derive(Debug, Default)]
pub(crate) struct PendingUpdates {
    /// Allocated when used.
    updates: Vec<(u32, PriorityParameters)>,
}

/// The client has sent updates for more streams than it may open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooManyUpdates;

impl PendingUpdates {
    /// Keeps the parameters for a stream that is not open yet. `last` is the last stream that was
    /// opened, and `max` how many more may be open.
    ///
    /// # Errors
    ///
    /// The client may not open as many streams: PROTOCOL_ERROR of the connection (RFC 9218 §7.1).
    pub(crate) fn insert(
        &mut self,
        stream: u32,
        parameters: PriorityParameters,
        last: u32,
        max: usize,
    ) -> Result<(), TooManyUpdates> {
        if stream <= last {
            return Ok(());
        }
        self.updates.retain(|(other, _)| *other != stream);
        if self.updates.len() >= max {
            return Err(TooManyUpdates);
        }
        self.updates.push((stream, parameters));
        Ok(())
    }

    /// Removes and returns the parameters for the stream that the client opens now. Those for streams
    /// before it are dropped, as they cannot be opened any more (RFC 9113 §5.1.1).
    pub(crate) fn remove(&mut self, stream: u32) -> Option<PriorityParameters> {
        let found = self.updates.iter().find(|(other, _)| *other == stream);
        let parameters = found.map(|(_, parameters)| *parameters);
        self.updates.retain(|(other, _)| *other > stream);
        parameters
    }
}

#[cfg(test)]
mod tests;
