//! Forms with files: `multipart/form-data` (RFC 7578), parsed part by part from any reader, in memory
//! that does not grow with the form. The meaning of the parts is up to the caller.
//!
//! The maintained crate for this format, multer, reads from asynchronous streams only.

mod encode;

use std::borrow::Cow;
use std::fmt;
use std::io::{self, Read, Write};

use ::http::StatusCode;
use memchr::memmem;
use percent_encoding::percent_decode;

use super::fields::Fields;
use super::{InputError, Request, Response};
use crate::body::BodyReader;

/// The size of the read buffer; a part's head must fit into it.
const BUFFER_BYTES: usize = 64 * 1024;

/// The limit of a part's head: the same as for a request's head.
const MAX_PART_HEAD_BYTES: usize = 16 * 1024;

/// The limit of header fields in a part; browsers send two.
const MAX_PART_FIELDS: usize = 16;

/// The limit of white space after a boundary. Transports may add it (RFC 2046 §5.1.1); no known
/// client does.
const MAX_PADDING_BYTES: usize = 1024;

/// A form with files, `multipart/form-data` (RFC 7578), read part by part: see
/// [`Request::form_data`](crate::Request::form_data).
///
/// It uses 64 KiB of memory, however large the form is. The head of a part is limited to 16 KiB. The
/// number of parts is limited by the length of the body alone.
///
/// ```
/// use std::io::Write;
/// use tws::{FormError, HandlerResult, Request, Response, Router, blocking};
///
/// const MAX_TITLE_BYTES: u64 = 1000;
/// const MAX_FILE_BYTES: u64 = 100 << 20;
///
/// fn upload(request: &Request<'_>) -> HandlerResult {
///     let mut form = request.form_data()?;
///     let mut summary = String::new();
///     while let Some(mut part) = form.next_part()? {
///         match part.name() {
///             Some("title") => summary += &part.text(MAX_TITLE_BYTES)?,
///             Some("file") => {
///                 // An error here is one of the disk; one of the client has another type.
///                 let mut file = tempfile::tempfile()?;
///                 let bytes = part.copy_to(&mut file, MAX_FILE_BYTES)?;
///                 summary += &format!(": {bytes} bytes");
///             }
///             _ => {}
///         }
///     }
///     Ok(Response::text(summary))
/// }
///
/// let router = Router::new().post("/", blocking(upload).streaming(200 << 20));
/// # use tws::Handler;
/// # let form = "--B\r\nContent-Disposition: form-data; name=title\r\n\r\nHi\r\n--B\r\n\
/// #     Content-Disposition: form-data; name=file; filename=x\r\n\r\nfour\r\n--B--\r\n";
/// # let request = Request::post("/", form).with_header("Content-Type", "multipart/form-data; boundary=B");
/// # let response = router.handle(&request).wait();
/// # assert_eq!(response.into_content()?, b"Hi: 4 bytes");
/// # Ok::<_, std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct FormData<R> {
    source: R,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// The line break that belongs to the delimiter, two hyphens and the boundary.
    delimiter: Vec<u8>,
    position: FormPosition,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FormPosition {
    /// In the content of a part, or in the preamble.
    Content,
    /// Before a delimiter.
    Delimiter,
    /// After the last part.
    End,
}

/// The header of a part.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PartHead {
    /// The name of the form's field, if it is UTF-8, as RFC 7578 §5.1 requires by default.
    pub(crate) name: Option<String>,
    /// The media type as it was sent, if it is UTF-8.
    pub(crate) media_type: Option<String>,
    /// The file name that the client means, possibly with a path and in any encoding. `None` if the part
    /// is not a file.
    pub(crate) filename: Option<Vec<u8>>,
}

/// The reason why a form, or a part of it, cannot be read or stored. [`Write`](Self::Write) is an error of
/// the server; the others are the client's.
#[derive(Debug)]
#[non_exhaustive]
pub enum FormError {
    /// The content has another media type, or a coding: 415.
    Input(InputError),
    /// The rest of the body was not received, because the client has disconnected, for example: 400.
    Read(io::Error),
    /// The form is ill-formed: 400. The text says why.
    Malformed(&'static str),
    /// A part is larger than the handler permits: 413.
    TooLarge {
        /// The limit, in bytes.
        max_bytes: u64,
    },
    /// Writing a part failed, because the disk is full, for example: 507, or 500 for another reason. The
    /// response does not state it; it is logged.
    Write(io::Error),
}

impl FormError {
    /// Returns the status of the response.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Input(error) => error.status(),
            Self::Read(_) | Self::Malformed(_) => StatusCode::BAD_REQUEST,
            Self::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Write(error) => match error.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                    StatusCode::INSUFFICIENT_STORAGE
                }
                _ => StatusCode::INTERNAL_SERVER_ERROR,
            },
        }
    }
}

impl fmt::Display for FormError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Input(error) => error.fmt(f),
            Self::Read(error) => write!(f, "form: cannot be read: {error}"),
            Self::Malformed(reason) => write!(f, "form: {reason}"),
            Self::TooLarge { max_bytes } => {
                write!(f, "form: a part is larger than {max_bytes} bytes")
            }
            Self::Write(error) => write!(f, "form: a part cannot be written: {error}"),
        }
    }
}

impl std::error::Error for FormError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Input(error) => Some(error),
            Self::Read(error) | Self::Write(error) => Some(error),
            Self::Malformed(_) | Self::TooLarge { .. } => None,
        }
    }
}

impl From<InputError> for FormError {
    fn from(error: InputError) -> Self {
        Self::Input(error)
    }
}

impl From<FormError> for Response {
    fn from(error: FormError) -> Self {
        let status = error.status();
        match error {
            FormError::Input(error) => error.into(),
            error if status.is_server_error() => {
                log::error!("{error}");
                status.into()
            }
            error => Self::error_line(status, error),
        }
    }
}

/// A part of a form: a field or a file, whose content is read with one of the methods, or skipped.
#[derive(Debug)]
pub struct FormPart<'f, R> {
    form: &'f mut FormData<R>,
    head: PartHead,
}

impl<R: Read> FormPart<'_, R> {
    /// Returns the name of the form's field; `None` if there is none or it is not UTF-8.
    pub fn name(&self) -> Option<&str> {
        self.head.name.as_deref()
    }

    /// Returns the file name; `None` if the part is not a file. It is untrusted: it may contain slashes, be
    /// `..`, or be that of a file of the server. Bytes that are not UTF-8 are U+FFFD.
    ///
    /// It is that of `filename*` if the part has a valid one (RFC 8187), otherwise that of `filename`, in
    /// which the escapes of browsers (`%22`, `%0D` and `%0A`) are decoded.
    pub fn filename(&self) -> Option<Cow<'_, str>> {
        self.filename_bytes().map(String::from_utf8_lossy)
    }

    /// Returns the file name as bytes, as [`filename`](Self::filename) does.
    pub fn filename_bytes(&self) -> Option<&[u8]> {
        self.head.filename.as_deref()
    }

    /// Returns the media type that the client states. It is untrusted.
    pub fn media_type(&self) -> Option<&str> {
        self.head.media_type.as_deref()
    }

    /// Returns the next bytes of the content, at most 64 KiB; `None` at its end.
    ///
    /// # Errors
    ///
    /// [`FormError::Read`] or [`FormError::Malformed`].
    pub fn next_piece(&mut self) -> Result<Option<&[u8]>, FormError> {
        self.form.next_piece()
    }

    /// Writes the rest of the content, at most `max_bytes`, to a file for example. Returns its length.
    ///
    /// # Errors
    ///
    /// As [`next_piece`](Self::next_piece), [`FormError::TooLarge`], or [`FormError::Write`] if `out`
    /// fails. A part of the content may have been written then.
    pub fn copy_to(&mut self, out: &mut impl Write, max_bytes: u64) -> Result<u64, FormError> {
        let mut len = 0;
        while let Some(piece) = self.form.next_piece()? {
            len += piece.len() as u64;
            if len > max_bytes {
                return Err(FormError::TooLarge { max_bytes });
            }
            out.write_all(piece).map_err(FormError::Write)?;
        }
        Ok(len)
    }

    /// Returns the rest of the content, at most `max_bytes`.
    ///
    /// # Errors
    ///
    /// As [`next_piece`](Self::next_piece), or [`FormError::TooLarge`].
    pub fn bytes(&mut self, max_bytes: u64) -> Result<Vec<u8>, FormError> {
        let mut content = Vec::new();
        self.copy_to(&mut content, max_bytes)?;
        Ok(content)
    }

    /// Returns the rest of the content as text, at most `max_bytes` of it.
    ///
    /// # Errors
    ///
    /// As [`bytes`](Self::bytes), or [`FormError::Malformed`] if it is not UTF-8.
    pub fn text(&mut self, max_bytes: u64) -> Result<String, FormError> {
        let not_utf8 = |_| FormError::Malformed("a field is not UTF-8");
        String::from_utf8(self.bytes(max_bytes)?).map_err(not_utf8)
    }
}

impl Request<'_> {
    /// Returns the content, a form with files, as its parts. Content that is streamed
    /// ([`Blocking::streaming`](crate::Blocking::streaming)) is read while it arrives, which blocks.
    ///
    /// # Errors
    ///
    /// [`FormError::Input`] if the content is not `multipart/form-data` or has a coding,
    /// [`FormError::Malformed`] if its boundary is missing or invalid.
    pub fn form_data(&self) -> Result<FormData<BodyReader>, FormError> {
        self.check_not_coded()?;
        let expected = MEDIA_TYPE;
        let boundary = boundary(self.fields()).ok_or(InputError::MediaType { expected })??;
        Ok(FormData::new(self.reader(), &boundary))
    }
}

const MEDIA_TYPE: &str = "multipart/form-data";

/// Returns the boundary of a form from its only Content-Type; `None` if the media type is another one, or
/// there are several.
///
/// # Errors
///
/// [`FormError::Malformed`] if the boundary is missing or invalid.
pub(crate) fn boundary(fields: &Fields<'_>) -> Option<Result<Vec<u8>, FormError>> {
    let content_type = fields.single("content-type").ok().flatten()?;
    let (media_type, rest) = split_at_semicolon(content_type);
    let media_type = media_type.trim_ascii();
    if !media_type.eq_ignore_ascii_case(MEDIA_TYPE.as_bytes()) {
        return None;
    }
    let malformed = FormError::Malformed("the form has no valid boundary");
    let boundary = parameter(rest, b"boundary").ok().flatten();
    Some(boundary.filter(|text| is_boundary(text)).ok_or(malformed))
}

/// The grammar of RFC 2046 §5.1.1.
fn is_boundary(text: &[u8]) -> bool {
    let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"'()+_,-./:=? ".contains(byte);
    (1..=70).contains(&text.len()) && text.iter().all(allowed) && !text.ends_with(b" ")
}

impl<R: Read> FormData<R> {
    pub(crate) fn new(source: R, boundary: &[u8]) -> Self {
        let mut buffer = vec![0; BUFFER_BYTES];
        // The first delimiter needs no line break before it.
        buffer[..2].copy_from_slice(b"\r\n");
        Self {
            source,
            buffer,
            start: 0,
            end: 2,
            delimiter: [b"\r\n--", boundary].concat(),
            position: FormPosition::Content,
        }
    }

    /// Skips the rest of this part and returns the next; `None` at the end of the form.
    ///
    /// # Errors
    ///
    /// [`FormError::Read`] or [`FormError::Malformed`].
    pub fn next_part(&mut self) -> Result<Option<FormPart<'_, R>>, FormError> {
        let head = self.next_head()?;
        Ok(head.map(|head| FormPart { form: self, head }))
    }

    /// Skips the rest of this part and parses the head of the next; `None` at the end of the form.
    pub(crate) fn next_head(&mut self) -> Result<Option<PartHead>, FormError> {
        while self.next_piece()?.is_some() {}
        if self.position == FormPosition::End {
            return Ok(None);
        }
        self.start += self.delimiter.len();
        if self.fill(2)?.starts_with(b"--") {
            // The epilogue is ignored (RFC 2046 §5.1.1). It is read, so that the connection can
            // be reused.
            self.position = FormPosition::End;
            self.start = self.end;
            while !self.fill(1)?.is_empty() {
                self.start = self.end;
            }
            return Ok(None);
        }
        self.skip_padding()?;
        let head = self.head()?;
        self.position = FormPosition::Content;
        // A part without content may lack the line break that ends its head: the delimiter
        // begins with it.
        self.fill(self.delimiter.len())?;
        if !self.buffer[self.start..self.end].starts_with(&self.delimiter) {
            self.start += 2;
        }
        Ok(Some(head))
    }

    /// Returns the next bytes of this part's content; `None` at its end.
    pub(crate) fn next_piece(&mut self) -> Result<Option<&[u8]>, FormError> {
        if self.position != FormPosition::Content {
            return Ok(None);
        }
        // The last buffered bytes may be the start of a delimiter.
        let len = self.delimiter.len();
        let available = self.fill(len)?.len();
        if available < len {
            return Err(FormError::Malformed("the form is incomplete"));
        }
        let window = &self.buffer[self.start..self.end];
        let content = match memmem::find(window, &self.delimiter) {
            Some(0) => {
                self.position = FormPosition::Delimiter;
                return Ok(None);
            }
            Some(at) => at,
            None => window.len() - (len - 1),
        };
        let chunk = self.start..self.start + content;
        self.start += content;
        Ok(Some(&self.buffer[chunk]))
    }

    fn skip_padding(&mut self) -> Result<(), FormError> {
        let window = self.fill(MAX_PADDING_BYTES)?;
        let window = &window[..window.len().min(MAX_PADDING_BYTES)];
        let is_padding = |byte: &&u8| matches!(byte, b' ' | b'\t');
        let padding = window.iter().take_while(is_padding).count();
        // More text after the boundary makes it another boundary for parsers that compare whole lines.
        if !window[padding..].starts_with(b"\r\n") {
            return Err(FormError::Malformed(
                "a form boundary is not at the end of its line",
            ));
        }
        self.start += padding;
        Ok(())
    }

    /// Parses a part's head, from the line break before it up to the one that ends it, which is not
    /// consumed.
    fn head(&mut self) -> Result<PartHead, FormError> {
        const END: &[u8] = b"\r\n\r\n";
        let window = self.fill(MAX_PART_HEAD_BYTES)?;
        let window = &window[..window.len().min(MAX_PART_HEAD_BYTES)];
        let end = memmem::find(window, END).ok_or(FormError::Malformed(
            "a part's header is too long or incomplete",
        ))?;
        let head = PartHead::parse(&window[2..end + END.len()])?;
        self.start += end + 2;
        Ok(head)
    }

    /// Returns the buffered bytes: at least `wanted`, or all that remain.
    fn fill(&mut self, wanted: usize) -> Result<&[u8], FormError> {
        if self.end - self.start < wanted {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        while self.end - self.start < wanted {
            match self.source.read(&mut self.buffer[self.end..]) {
                Ok(0) => break,
                Ok(count) => self.end += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(FormError::Read(error)),
            }
        }
        Ok(&self.buffer[self.start..self.end])
    }
}

impl PartHead {
    /// Parses field lines and the empty line after them.
    fn parse(lines: &[u8]) -> Result<Self, FormError> {
        const MALFORMED: FormError = FormError::Malformed("a part's header is malformed");
        let mut fields = [httparse::EMPTY_HEADER; MAX_PART_FIELDS];
        let fields = match httparse::parse_headers(lines, &mut fields) {
            Ok(httparse::Status::Complete((len, fields))) if len == lines.len() => fields,
            _ => return Err(MALFORMED),
        };
        let mut head = None;
        let mut media_type = None;
        for field in fields {
            let named = |name| field.name.eq_ignore_ascii_case(name);
            if named("content-disposition") {
                let disposition = Self::from_disposition(field.value)?;
                if head.replace(disposition).is_some() {
                    return Err(MALFORMED);
                }
            }
            if named("content-type") {
                media_type = std::str::from_utf8(field.value).ok().map(str::to_owned);
            }
            // Deprecated (RFC 7578 §4.7). Storing the coded bytes would store a different file.
            let identity = [&b"7bit"[..], b"8bit", b"binary"];
            let coding = field.value.trim_ascii().to_ascii_lowercase();
            if named("content-transfer-encoding") && !identity.contains(&&coding[..]) {
                return Err(FormError::Malformed(
                    "Content-Transfer-Encoding is not supported",
                ));
            }
        }
        Ok(Self {
            media_type,
            ..head.unwrap_or_default()
        })
    }

    /// Parses a Content-Disposition. Forms should not have `filename*` (RFC 7578 §4.2), but .NET,
    /// PowerShell, aiohttp and old releases of urllib3 send it, and what they send as `filename` beside
    /// it is not the name. A well-formed `filename*` has precedence, as in RFC 6266 §4.3; an ill-formed
    /// one is ignored.
    fn from_disposition(value: &[u8]) -> Result<Self, FormError> {
        let (kind, rest) = split_at_semicolon(value);
        if !kind.trim_ascii().eq_ignore_ascii_case(b"form-data") {
            return Ok(Self::default());
        }
        let filename = parameter(rest, b"filename")?.map(|text| decode_filename(&text));
        let extended = parameter(rest, b"filename*")?.and_then(|value| decode_extended(&value));
        // Browsers escape field names as they do file names.
        let name = parameter(rest, b"name")?.map(|text| decode_filename(&text));
        Ok(Self {
            name: name.and_then(|name| String::from_utf8(name).ok()),
            media_type: None,
            filename: extended.or(filename),
        })
    }
}

fn split_at_semicolon(value: &[u8]) -> (&[u8], &[u8]) {
    let at = memchr::memchr(b';', value).unwrap_or(value.len());
    value.split_at(at)
}

/// Returns the value of a parameter in `; name=value; name="value"`. A parameter that occurs twice is
/// malformed, as is anything else that two parsers could read differently.
fn parameter(mut text: &[u8], wanted: &[u8]) -> Result<Option<Vec<u8>>, FormError> {
    const MALFORMED: FormError = FormError::Malformed("malformed header parameters");
    let mut found = None;
    loop {
        text = text.trim_ascii_start();
        match text {
            [] => return Ok(found),
            [b';', rest @ ..] => text = rest.trim_ascii_start(),
            _ => return Err(MALFORMED),
        }
        if text.is_empty() || text.starts_with(b";") {
            continue;
        }
        let equals = memchr::memchr(b'=', text).ok_or(MALFORMED)?;
        let (name, rest) = text.split_at(equals);
        let (value, rest) = take_value(&rest[1..]).ok_or(MALFORMED)?;
        text = rest;
        if name.eq_ignore_ascii_case(wanted) && found.replace(value).is_some() {
            return Err(MALFORMED);
        }
    }
}

/// Parses a token or a quoted string and returns the rest.
///
/// In a quoted string a backslash escapes a quote or a backslash, as old browsers and curl write it.
/// Before any other character it is literal, as old browsers write paths.
fn take_value(text: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let Some(mut rest) = text.strip_prefix(b"\"") else {
        let (token, rest) = split_at_semicolon(text);
        return Some((token.trim_ascii().to_vec(), rest));
    };
    let mut value = Vec::new();
    loop {
        rest = match rest {
            [] => return None,
            [b'"', rest @ ..] => return Some((value, rest)),
            [b'\\', byte @ (b'"' | b'\\'), rest @ ..] | [byte, rest @ ..] => {
                value.push(*byte);
                rest
            }
        };
    }
}

/// Decodes the three escapes that browsers use for characters that would end a name (HTML §4.10.21.8).
fn decode_filename(text: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [byte, tail @ ..] = rest {
        let (byte, tail) = match rest {
            [b'%', b'2', b'2', tail @ ..] => (b'"', tail),
            [b'%', b'0', b'D' | b'd', tail @ ..] => (b'\r', tail),
            [b'%', b'0', b'A' | b'a', tail @ ..] => (b'\n', tail),
            _ => (*byte, tail),
        };
        decoded.push(byte);
        rest = tail;
    }
    decoded
}

/// Decodes `charset'language'value` (RFC 8187 §3.2) as UTF-8. ISO-8859-1 is accepted too, which RFC 5987
/// required. `None` if it is ill-formed, has another charset or is empty.
fn decode_extended(value: &[u8]) -> Option<Vec<u8>> {
    let mut parts = value.splitn(3, |&byte| byte == b'\'');
    let (charset, language, coded) = (parts.next()?, parts.next()?, parts.next()?);
    let is_language = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'-';
    if coded.is_empty() || !language.iter().all(is_language) || !is_extended_value(coded) {
        return None;
    }
    let decoded: Vec<u8> = percent_decode(coded).collect();
    if charset.eq_ignore_ascii_case(b"utf-8") {
        String::from_utf8(decoded).ok().map(String::into_bytes)
    } else if charset.eq_ignore_ascii_case(b"iso-8859-1") {
        let text: String = decoded.into_iter().map(char::from).collect();
        Some(text.into_bytes())
    } else {
        None
    }
}

/// The `value-chars` of RFC 8187 §3.2.1: characters that need no escape, and escapes.
fn is_extended_value(mut text: &[u8]) -> bool {
    loop {
        text = match text {
            [] => return true,
            [b'%', high, low, rest @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                rest
            }
            [byte, rest @ ..] if byte.is_ascii_alphanumeric() || b"!#$&+-.^_`|~".contains(byte) => {
                rest
            }
            _ => return false,
        };
    }
}

#[cfg(test)]
mod tests;
