//! A response as handlers build it: a status, header fields, and a description of the content. The
//! fields of framing and connection (Content-Length, Transfer-Encoding, Connection, Date) are added by
//! the connection.

use std::borrow::Cow;
use std::fmt;
use std::io;
use std::sync::{Arc, LazyLock, OnceLock};

use ::http::header::{
    ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_RANGE,
    CONTENT_TYPE, DATE, LOCATION, RETRY_AFTER, SERVER, TRANSFER_ENCODING, UPGRADE,
    X_CONTENT_TYPE_OPTIONS,
};
use ::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use bytes::Bytes;

use super::range::ByteRange;
use super::upgrade::UpgradedProtocol;
use super::{Rejection, disposition};
use crate::body::{Body, BodyPieces, BodyStream, EventStream};
use crate::explain_log::Escaped;

const X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// An HTTP response: status, header fields and [`Body`].
///
/// A response describes its body; the connection sends it, adds Date, Content-Length or
/// Transfer-Encoding, and omits the body in the response to HEAD.
#[derive(Debug)]
pub struct Response {
    status: StatusCode,
    fields: ResponseFields,
    body: Body,
    dependencies: Dependencies,
    content_kind: ContentKind,
    /// Boxed, because responses are moved often, and those of files have none.
    extra: Option<Box<Extra>>,
}

/// What few responses have.
#[derive(Debug, Default)]
struct Extra {
    user: Option<Box<str>>,
    /// What the connection speaks after a 101.
    upgrade: Option<Box<dyn UpgradedProtocol>>,
}

/// Whether the content of a response says more than its status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ContentKind {
    Specific,
    /// That of the server for an error, instead of which the site may have a page of its own.
    BuiltInError,
}

/// What a response may depend on besides the file at the path of its request, for the rules about access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dependency {
    /// The page of a single-page application, in place of what the path lacks.
    Application,
    /// What is at the slash variant of the path, with its trailing slash removed, or added: the response
    /// redirects there, or is what is served if there is nothing.
    SlashVariant,
    /// The target of a rewrite of missing paths: the response has it, or is what is served if it is missing
    /// as well.
    Fallback,
}

impl Dependency {
    pub(crate) const ALL: [Self; 3] = [Self::Application, Self::SlashVariant, Self::Fallback];
}

/// A set of [`Dependency`].
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Dependencies(u8);

impl Dependencies {
    fn with(self, dependency: Dependency) -> Self {
        Self(self.0 | 1 << dependency as u8)
    }

    pub(crate) fn contains(self, dependency: Dependency) -> bool {
        self.0 & 1 << dependency as u8 != 0
    }
}

/// What [`Response::headers`] returns if there are none.
static NO_FIELDS: LazyLock<HeaderMap> = LazyLock::new(HeaderMap::new);

/// Header fields that belong to one response, or that responses share.
#[derive(Debug)]
enum ResponseFields {
    None,
    /// Boxed, because responses are moved often, and those of files have shared fields.
    Own(Box<HeaderMap>),
    Prepared(Arc<PreparedFields>),
    Extended(Box<ExtendedFields>),
}

/// Shared fields and one more that only this response has, which is no field of the connection.
#[derive(Debug)]
struct ExtendedFields {
    prepared: Arc<PreparedFields>,
    more: MoreField,
    /// All fields as a map, built on first use.
    map: OnceLock<HeaderMap>,
}

/// A field of one response beside shared ones.
#[derive(Clone, Debug)]
enum MoreField {
    Any(HeaderName, HeaderValue),
    /// Content-Range of a range, and the length of the whole. It differs with each response, so it is
    /// rendered into the head at once.
    ContentRange(ByteRange, u64),
}

impl MoreField {
    fn name(&self) -> &HeaderName {
        match self {
            Self::Any(name, _) => name,
            Self::ContentRange(..) => &CONTENT_RANGE,
        }
    }

    fn value(&self) -> Cow<'_, [u8]> {
        match self {
            Self::Any(_, value) => Cow::Borrowed(value.as_bytes()),
            Self::ContentRange(range, length) => {
                let mut value = Vec::new();
                range.push_content_range(*length, &mut value);
                Cow::Owned(value)
            }
        }
    }

    fn render(&self, out: &mut Vec<u8>) {
        match self {
            Self::Any(name, value) => push_field(out, name.as_str(), value.as_bytes()),
            Self::ContentRange(range, length) => {
                out.extend_from_slice(b"\r\nContent-Range: ");
                range.push_content_range(*length, out);
            }
        }
    }
}

/// Header fields that are rendered once and sent with many responses.
#[derive(Debug)]
pub(crate) struct PreparedFields {
    fields: HeaderMap,
    wire: Vec<u8>,
    /// The encoding for HTTP/2, made on first use.
    block: OnceLock<Box<[u8]>>,
    priority_hints: OnceLock<PriorityHints>,
    has_server: bool,
    has_content_range: bool,
    asks_to_close: bool,
}

/// A response with content in memory that is rendered once and sent many times.
#[derive(Debug)]
pub(crate) struct PreparedResponse {
    status: StatusCode,
    fields: Arc<PreparedFields>,
    content: Bytes,
}

impl PreparedResponse {
    /// Prepares a response. Content that is not in memory is dropped.
    pub(crate) fn new(mut response: Response) -> Self {
        Self {
            status: response.status,
            fields: PreparedFields::new(std::mem::take(response.headers_mut())),
            content: match response.body {
                Body::Bytes(content) => content,
                Body::Empty | Body::File(_) | Body::Stream(_) => Bytes::new(),
            },
        }
    }

    pub(crate) fn response(&self) -> Response {
        Response::prepared(self.status, &self.fields, Body::Bytes(self.content.clone()))
    }
}

/// What the fields of a response say about when it is to be sent (RFC 9218).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PriorityHints {
    /// A page cannot be shown without it.
    pub(crate) is_for_rendering: bool,
    pub(crate) is_attachment: bool,
    /// The parameters of the Priority field.
    pub(crate) urgency: Option<u8>,
    pub(crate) incremental: Option<bool>,
}

/// Appends the encoding of one field, name and value, for HTTP/2.
pub(crate) type EncodeField = fn(&[u8], &[u8], &mut Vec<u8>);

impl PreparedFields {
    pub(crate) fn new(fields: HeaderMap) -> Arc<Self> {
        let mut wire = Vec::new();
        render(&fields, &mut wire);
        Arc::new(Self {
            has_server: fields.contains_key(SERVER),
            has_content_range: fields.contains_key(CONTENT_RANGE),
            asks_to_close: asks_to_close(&fields),
            fields,
            wire,
            block: OnceLock::new(),
            priority_hints: OnceLock::new(),
        })
    }

    fn block(&self, encode: EncodeField) -> &[u8] {
        self.block.get_or_init(|| {
            let mut block = Vec::new();
            encode_fields(&self.fields, encode, &mut block);
            block.into()
        })
    }
}

impl ResponseFields {
    fn map(&self) -> &HeaderMap {
        match self {
            Self::None => &NO_FIELDS,
            Self::Own(fields) => fields,
            Self::Prepared(prepared) => &prepared.fields,
            Self::Extended(extended) => extended.map.get_or_init(|| {
                let mut fields = extended.prepared.fields.clone();
                let more = &extended.more;
                if let Ok(value) = HeaderValue::from_bytes(&more.value()) {
                    fields.insert(more.name().clone(), value);
                }
                fields
            }),
        }
    }

    /// Sets a field. Shared fields stay shared if they have none of that name, and it is to be sent.
    fn insert(&mut self, name: HeaderName, value: HeaderValue) {
        match self {
            Self::Prepared(prepared)
                if !prepared.fields.contains_key(&name) && !is_connection_field(&name) =>
            {
                *self = Self::extended(prepared, MoreField::Any(name, value));
            }
            _ => {
                self.map_mut().insert(name, value);
            }
        }
    }

    fn extended(prepared: &Arc<PreparedFields>, more: MoreField) -> Self {
        Self::Extended(Box::new(ExtendedFields {
            prepared: Arc::clone(prepared),
            more,
            map: OnceLock::new(),
        }))
    }

    fn map_mut(&mut self) -> &mut HeaderMap {
        if !matches!(self, Self::Own(_)) {
            *self = Self::Own(Box::new(self.map().clone()));
        }
        match self {
            Self::Own(fields) => fields,
            Self::None | Self::Prepared(_) | Self::Extended(_) => {
                unreachable!("it was just replaced")
            }
        }
    }
}

/// Appends the field lines in wire format. Fields of connection and framing are written by the
/// connection (RFC 9110 §7.6.1, §8.6); those that a handler set are omitted.
fn render(fields: &HeaderMap, out: &mut Vec<u8>) {
    for (name, value) in fields {
        if !is_connection_field(name) {
            push_field(out, name.as_str(), value.as_bytes());
        }
    }
}

/// Appends the fields as [`render`] does, in the encoding of HTTP/2.
fn encode_fields(fields: &HeaderMap, encode: EncodeField, out: &mut Vec<u8>) {
    for (name, value) in fields {
        if !is_connection_field(name) {
            encode(name.as_str().as_bytes(), value.as_bytes(), out);
        }
    }
}

fn is_connection_field(name: &HeaderName) -> bool {
    [CONNECTION, CONTENT_LENGTH, DATE, TRANSFER_ENCODING, UPGRADE].contains(name)
        || matches!(name.as_str(), "keep-alive" | "proxy-connection")
}

/// Appends one field line. The `http` crate keeps names in lower case; they are sent as RFCs
/// spell them.
fn push_field(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(b"\r\n");
    let mut word_start = true;
    out.extend(name.bytes().map(|byte| {
        let cased = if word_start {
            byte.to_ascii_uppercase()
        } else {
            byte
        };
        word_start = byte == b'-';
        cased
    }));
    // The one common exception to that spelling.
    if name == "etag" {
        let tag = out.len() - 3;
        out[tag] = b'T';
    }
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
}

/// A field line as it is sent, escaped for display.
pub(crate) struct FieldLine<'a>(pub(crate) &'a HeaderName, pub(crate) &'a HeaderValue);

impl fmt::Display for FieldLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line = Vec::new();
        push_field(&mut line, self.0.as_str(), self.1.as_bytes());
        Escaped(line.trim_ascii()).fmt(f)
    }
}

impl Response {
    /// Creates a response without content.
    pub fn new(status: StatusCode) -> Self {
        Self {
            status,
            fields: ResponseFields::None,
            body: Body::Empty,
            dependencies: Dependencies::default(),
            content_kind: ContentKind::Specific,
            extra: None,
        }
    }

    /// Creates a response with shared, rendered fields.
    pub(crate) fn prepared(status: StatusCode, fields: &Arc<PreparedFields>, body: Body) -> Self {
        Self {
            status,
            fields: ResponseFields::Prepared(Arc::clone(fields)),
            body,
            dependencies: Dependencies::default(),
            content_kind: ContentKind::Specific,
            extra: None,
        }
    }

    /// Creates a 101 response, after which the connection speaks `protocol`, whose name is in the Upgrade
    /// field.
    #[cfg(any(feature = "websocket", test))]
    pub(crate) fn switching(name: &'static str, protocol: Box<dyn UpgradedProtocol>) -> Self {
        let mut response = Self::new(StatusCode::SWITCHING_PROTOCOLS).with_header(UPGRADE, name);
        response.extra.get_or_insert_default().upgrade = Some(protocol);
        response
    }

    /// Creates a 200 response of type `text/plain; charset=utf-8`.
    pub fn text(text: impl Into<String>) -> Self {
        Self::with_media_type("text/plain; charset=utf-8", text.into())
    }

    /// Creates a 200 response of type `text/html; charset=utf-8`.
    pub fn html(html: impl Into<String>) -> Self {
        Self::with_media_type("text/html; charset=utf-8", html.into())
    }

    /// Creates a 200 response of type `application/json` from a value.
    ///
    /// A value that JSON cannot represent (a map whose keys are not strings, for example) is an error
    /// of the handler: it is logged and the response is a 500.
    pub fn json(value: &impl serde::Serialize) -> Self {
        match serde_json::to_vec(value) {
            Ok(json) => Self::with_media_type("application/json", json),
            Err(error) => Self::fault(&format!("response: cannot be serialized as JSON: {error}")),
        }
    }

    /// Creates a 200 response of this media type. An invalid one is an error as with
    /// [`with_header`](Self::with_header).
    ///
    /// ```
    /// use tws::Response;
    ///
    /// let response = Response::bytes("text/csv", "name;age\nAna;7\n");
    /// assert_eq!(response.headers()["Content-Type"], "text/csv");
    /// ```
    pub fn bytes(media_type: &str, content: impl Into<Bytes>) -> Self {
        let response = Self::new(StatusCode::OK).with_body(content.into());
        response.with_header(CONTENT_TYPE, media_type)
    }

    /// Creates a 200 response with server-sent events (WHATWG HTML §9.2), which are sent as they come and
    /// which no thread waits for. `X-Accel-Buffering: no` keeps nginx as a proxy from buffering them.
    ///
    /// [`Limits::max_parked_streams`](crate::Limits::max_parked_streams) bounds the number of such responses;
    /// another client gets a 503.
    ///
    /// ```
    /// use tws::{Broadcast, Response};
    ///
    /// let news = Broadcast::new(100);
    /// let response = Response::sse(news.subscribe());
    /// assert_eq!(response.headers()["Content-Type"], "text/event-stream");
    /// assert_eq!(response.headers()["Cache-Control"], "no-store");
    /// ```
    pub fn sse(events: EventStream) -> Self {
        let mut response = Self::new(StatusCode::OK).with_body(BodyStream::from(events));
        let fields = response.headers_mut();
        for (name, value) in [
            (CONTENT_TYPE, "text/event-stream"),
            (CACHE_CONTROL, "no-store"),
            (X_ACCEL_BUFFERING, "no"),
        ] {
            fields.insert(name, HeaderValue::from_static(value));
        }
        response
    }

    /// Creates a redirect. `status` is one of 301, 302, 303, 307 and 308; `location` is a URL that is
    /// percent-encoded already.
    pub fn redirect(status: StatusCode, location: &str) -> Self {
        Self::new(status).with_header(LOCATION, location)
    }

    /// Creates a 303 See Other: the result of a POST is at `location`, which the client gets with GET.
    ///
    /// As with every redirect here, `location` is a URL that is percent-encoded already. One that comes from a
    /// client must be checked: with `https://…` or `//…` it leads to another site.
    pub fn see_other(location: &str) -> Self {
        Self::redirect(StatusCode::SEE_OTHER, location)
    }

    /// Creates a 307 Temporary Redirect, which keeps the method and the content.
    pub fn temporary_redirect(location: &str) -> Self {
        Self::redirect(StatusCode::TEMPORARY_REDIRECT, location)
    }

    /// Creates a 308 Permanent Redirect, which keeps the method and the content. Clients may remember it.
    pub fn permanent_redirect(location: &str) -> Self {
        Self::redirect(StatusCode::PERMANENT_REDIRECT, location)
    }

    fn with_media_type(media_type: &'static str, content: impl Into<Bytes>) -> Self {
        let mut response = Self::new(StatusCode::OK).with_body(content.into());
        let fields = response.headers_mut();
        fields.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
        response
    }

    /// Creates a 500 response for an error of the program. The reason is logged and not sent.
    pub(crate) fn fault(reason: &str) -> Self {
        log::error!("{reason}");
        StatusCode::INTERNAL_SERVER_ERROR.into()
    }

    /// Creates a 503 response with Retry-After, for a temporary overload.
    pub(crate) fn unavailable(reason: &str) -> Self {
        Self::error_line(StatusCode::SERVICE_UNAVAILABLE, reason).with_header(RETRY_AFTER, "1")
    }

    /// Creates an error response with one line of text: the status and the reason.
    pub(crate) fn error_line(status: StatusCode, reason: impl fmt::Display) -> Self {
        Self::text(format!("{status}: {reason}\n"))
            .with_status(status)
            .with_built_in_content()
    }

    /// Marks the content as that of the server for the status, and forbids browsers to take it for another
    /// media type.
    pub(crate) fn with_built_in_content(mut self) -> Self {
        self.content_kind = ContentKind::BuiltInError;
        self.with_header(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"))
    }

    /// Returns whether the site may have a page of its own instead of the content.
    pub(crate) fn is_built_in_error(&self) -> bool {
        self.content_kind == ContentKind::BuiltInError
    }

    /// Sets the status.
    pub fn with_status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    /// Sets a header field. It replaces all fields of that name.
    ///
    /// An invalid name or value (with a line break, for example) is an error of the handler: it is
    /// logged and the response becomes a 500, so nothing is injected.
    pub fn with_header<N, V>(mut self, name: N, value: V) -> Self
    where
        N: TryInto<HeaderName>,
        V: TryInto<HeaderValue>,
    {
        match (name.try_into(), value.try_into()) {
            (Ok(name), Ok(value)) => {
                self.fields.insert(name, value);
                self
            }
            _ => Self::fault("response: invalid header field name or value"),
        }
    }

    /// Appends a header field and keeps others of that name. An invalid one is an error as with
    /// [`with_header`](Self::with_header).
    pub fn append_header<N, V>(mut self, name: N, value: V) -> Self
    where
        N: TryInto<HeaderName>,
        V: TryInto<HeaderValue>,
    {
        match (name.try_into(), value.try_into()) {
            (Ok(name), Ok(value)) => {
                self.headers_mut().append(name, value);
                self
            }
            _ => Self::fault("response: invalid header field name or value"),
        }
    }

    /// Sets Content-Range to a range of `length` bytes.
    pub(crate) fn with_content_range(mut self, range: ByteRange, length: u64) -> Self {
        let more = MoreField::ContentRange(range, length);
        match &self.fields {
            ResponseFields::Prepared(prepared) if !prepared.has_content_range => {
                self.fields = ResponseFields::extended(prepared, more);
                self
            }
            _ => self.with_header(CONTENT_RANGE, &*more.value()),
        }
    }

    /// Offers the content as a file of this name (Content-Disposition, RFC 6266). Any name is safe: folders
    /// and control characters are removed.
    ///
    /// ```
    /// use tws::Response;
    ///
    /// let response = Response::text("a;b\n").with_attachment_name("año/2026.csv");
    /// assert_eq!(
    ///     response.headers()["Content-Disposition"],
    ///     "attachment; filename=\"2026.csv\""
    /// );
    /// ```
    pub fn with_attachment_name(self, name: &str) -> Self {
        self.with_header(CONTENT_DISPOSITION, disposition::attachment(name))
    }

    /// Sets the body. The Content-Type is not changed.
    pub fn with_body(mut self, body: impl Into<Body>) -> Self {
        self.content_kind = ContentKind::Specific;
        self.body = body.into();
        self
    }

    /// Sets the authenticated user that the request was made by, for the access log. It is not sent.
    pub fn with_user(mut self, user: &str) -> Self {
        self.extra.get_or_insert_default().user = Some(user.into());
        self
    }

    /// Returns the authenticated user, if [`with_user`](Self::with_user) has set one.
    pub fn user(&self) -> Option<&str> {
        self.extra.as_ref()?.user.as_deref()
    }

    pub(crate) fn take_user(&mut self) -> Option<Box<str>> {
        self.extra.as_mut()?.user.take()
    }

    /// Marks the response as one that depends on more than the file at the path of its request.
    pub(crate) fn depending_on(mut self, dependency: Dependency) -> Self {
        self.dependencies = self.dependencies.with(dependency);
        self
    }

    /// Returns whether the connection speaks another protocol after the response.
    pub(crate) fn is_upgrade(&self) -> bool {
        let upgrade = self.extra.as_ref().and_then(|extra| extra.upgrade.as_ref());
        upgrade.is_some() && self.status == StatusCode::SWITCHING_PROTOCOLS
    }

    /// Takes the protocol that the connection speaks after the response out of it.
    pub(crate) fn take_upgrade(&mut self) -> Option<Box<dyn UpgradedProtocol>> {
        let upgrade = self.extra.as_mut()?.upgrade.take()?;
        (self.status == StatusCode::SWITCHING_PROTOCOLS).then_some(upgrade)
    }

    /// Sets the dependencies to those of a response that this one replaces.
    #[cfg(feature = "auth")]
    pub(crate) fn with_dependencies(mut self, dependencies: Dependencies) -> Self {
        self.dependencies = dependencies;
        self
    }

    /// Returns what the response depends on besides the file at the path of its request. Each 404 reveals
    /// that there is nothing at the slash variant of the path.
    pub(crate) fn dependencies(&self) -> Dependencies {
        match self.status {
            StatusCode::NOT_FOUND => self.dependencies.with(Dependency::SlashVariant),
            _ => self.dependencies,
        }
    }

    /// Makes the connection close after this response.
    pub fn closing(self) -> Self {
        self.with_header(CONNECTION, "close")
    }

    /// Returns the status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// Returns the header fields.
    pub fn headers(&self) -> &HeaderMap {
        self.fields.map()
    }

    /// Appends the field lines, each preceded by CRLF.
    pub(crate) fn render_fields(&self, out: &mut Vec<u8>) {
        match &self.fields {
            ResponseFields::None => {}
            ResponseFields::Own(fields) => render(fields, out),
            ResponseFields::Prepared(prepared) => out.extend_from_slice(&prepared.wire),
            ResponseFields::Extended(extended) => {
                out.extend_from_slice(&extended.prepared.wire);
                extended.more.render(out);
            }
        }
    }

    /// Appends the fields in the encoding of HTTP/2, which `encode` is for one field. Those of shared
    /// fields are encoded once.
    pub(crate) fn encode_fields(&self, encode: EncodeField, out: &mut Vec<u8>) {
        match &self.fields {
            ResponseFields::None => {}
            ResponseFields::Own(fields) => encode_fields(fields, encode, out),
            ResponseFields::Prepared(prepared) => out.extend_from_slice(prepared.block(encode)),
            ResponseFields::Extended(extended) => {
                out.extend_from_slice(extended.prepared.block(encode));
                let more = &extended.more;
                encode(more.name().as_str().as_bytes(), &more.value(), out);
            }
        }
    }

    /// Returns the first value of a header field, without building a map of shared fields.
    pub(crate) fn field(&self, name: &HeaderName) -> Option<&HeaderValue> {
        match &self.fields {
            ResponseFields::None => None,
            ResponseFields::Own(fields) => fields.get(name),
            ResponseFields::Prepared(prepared) => prepared.fields.get(name),
            ResponseFields::Extended(extended) => match &extended.more {
                MoreField::Any(more, value) if more == name => Some(value),
                more if more.name() == name => self.headers().get(name),
                _ => extended.prepared.fields.get(name),
            },
        }
    }

    /// Returns what `read` takes from the fields. Shared fields are read once.
    pub(crate) fn priority_hints(&self, read: fn(&Self) -> PriorityHints) -> PriorityHints {
        match &self.fields {
            ResponseFields::None | ResponseFields::Own(_) | ResponseFields::Extended(_) => {
                read(self)
            }
            ResponseFields::Prepared(prepared) => {
                *prepared.priority_hints.get_or_init(|| read(self))
            }
        }
    }

    /// Returns true if the response has a Server field of its own.
    pub(crate) fn has_server(&self) -> bool {
        match &self.fields {
            ResponseFields::None => false,
            ResponseFields::Own(fields) => fields.contains_key(SERVER),
            ResponseFields::Prepared(prepared) => prepared.has_server,
            ResponseFields::Extended(extended) => {
                extended.prepared.has_server || *extended.more.name() == SERVER
            }
        }
    }

    /// Returns true if the response asks for the end of the connection.
    pub(crate) fn asks_to_close(&self) -> bool {
        match &self.fields {
            ResponseFields::None => false,
            ResponseFields::Own(fields) => asks_to_close(fields),
            ResponseFields::Prepared(prepared) => prepared.asks_to_close,
            ResponseFields::Extended(extended) => extended.prepared.asks_to_close,
        }
    }

    /// Returns the header fields as lines, as they are sent. Fields of connection and framing, which
    /// the connection writes, are omitted.
    pub fn field_lines(&self) -> impl Iterator<Item = String> {
        let fields = self.headers().iter();
        let own = fields.filter(|(name, _)| !is_connection_field(name));
        own.map(|(name, value)| FieldLine(name, value).to_string())
    }

    /// Returns the header fields for modification.
    pub fn headers_mut(&mut self) -> &mut HeaderMap {
        self.fields.map_mut()
    }

    /// Returns the body.
    pub fn body(&self) -> &Body {
        &self.body
    }

    /// Returns the whole content. This reads a file and runs a producer to its end, so it may block; it
    /// is for tests and other callers that may wait.
    ///
    /// # Errors
    ///
    /// An error of reading the file or of the producer; `UnexpectedEof` if the file is shorter than
    /// its range.
    pub fn into_content(self) -> io::Result<Vec<u8>> {
        match self.body {
            Body::Empty => Ok(Vec::new()),
            Body::Bytes(bytes) => Ok(bytes.into()),
            Body::File(range) => range.read(),
            Body::Stream(stream) => stream.into_content(),
        }
    }

    /// Returns the whole content as text, as [`into_content`](Self::into_content) does.
    ///
    /// # Errors
    ///
    /// As [`into_content`](Self::into_content), and `InvalidData` if the content is not UTF-8.
    pub fn into_text(self) -> io::Result<String> {
        let content = self.into_content()?;
        String::from_utf8(content)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    }

    /// Returns the whole content, a JSON text, as a value, as [`into_content`](Self::into_content) does.
    ///
    /// # Errors
    ///
    /// As [`into_content`](Self::into_content), and `InvalidData` or `UnexpectedEof` if the content is not
    /// such a value.
    pub fn into_json<T: serde::de::DeserializeOwned>(self) -> io::Result<T> {
        Ok(serde_json::from_slice(&self.into_content()?)?)
    }

    /// Returns the pieces of the content, each as soon as it is produced. For tests and other callers that
    /// may wait.
    pub fn into_pieces(self) -> BodyPieces {
        self.body.into()
    }

    /// Makes the response of a handler one that can end an exchange. An interim one (1xx) becomes a 500: the
    /// client would go on waiting for the final one. Content is dropped if the status permits none: 204, 205
    /// and 304 (RFC 9110 §15.3.5, §15.3.6, §15.4.5). The client would take it for the start of the next
    /// response.
    pub(crate) fn make_final(&mut self) {
        if self.status.is_informational() {
            *self = Self::fault("handler returned an interim (1xx) status");
        }
        if !permits_content(self.status) {
            self.body = Body::Empty;
        }
    }

    /// Returns whether the body needs a thread or a place of its own that it does not have yet.
    pub(crate) fn needs_permit(&self) -> bool {
        matches!(&self.body, Body::Stream(stream) if stream.needs_permit())
    }

    pub(crate) fn body_mut(&mut self) -> &mut Body {
        &mut self.body
    }

    /// Takes the body out of the response.
    pub(crate) fn take_body(&mut self) -> Body {
        std::mem::take(&mut self.body)
    }
}

/// Creates a response with the status as a line of text, where the status permits content.
impl From<StatusCode> for Response {
    fn from(status: StatusCode) -> Self {
        if !permits_content(status) {
            return Self::new(status);
        }
        let response = Self::text(format!("{status}\n")).with_status(status);
        if is_error(status) {
            response.with_built_in_content()
        } else {
            response
        }
    }
}

/// Creates a response with the status and this text, as [`Response::text`] does. Browsers are forbidden to
/// take the text of an error for another media type.
impl<T: Into<String>> From<(StatusCode, T)> for Response {
    fn from((status, text): (StatusCode, T)) -> Self {
        let response = Self::text(text).with_status(status);
        if is_error(status) {
            response.with_header(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"))
        } else {
            response
        }
    }
}

/// Returns whether a status is one of 4xx and 5xx.
pub(crate) fn is_error(status: StatusCode) -> bool {
    status.is_client_error() || status.is_server_error()
}

fn asks_to_close(fields: &HeaderMap) -> bool {
    let value = fields.get(CONNECTION);
    value.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"close"))
}

fn permits_content(status: StatusCode) -> bool {
    const WITHOUT: [StatusCode; 3] = [
        StatusCode::NO_CONTENT,
        StatusCode::RESET_CONTENT,
        StatusCode::NOT_MODIFIED,
    ];
    !status.is_informational() && !WITHOUT.contains(&status)
}

/// Creates the plain response to a rejected request: one line of text. The connection closes.
impl From<Rejection> for Response {
    fn from(rejection: Rejection) -> Self {
        Self::error_line(rejection.status(), rejection.reason()).closing()
    }
}

/// The methods of RFC 9110 §9 and RFC 5789.
const STANDARD_METHODS: [Method; 9] = [
    Method::CONNECT,
    Method::DELETE,
    Method::GET,
    Method::HEAD,
    Method::OPTIONS,
    Method::PATCH,
    Method::POST,
    Method::PUT,
    Method::TRACE,
];

/// Creates the response to a method that a resource does not support: 405 with the supported methods,
/// or 501 for a method that is not a standard one (RFC 9110 §9.1).
pub(crate) fn method_not_allowed(method: &Method, allow: &[Method]) -> Response {
    if STANDARD_METHODS.contains(method) {
        not_allowed(allow)
    } else {
        Rejection::new(StatusCode::NOT_IMPLEMENTED, "unknown method").into()
    }
}

/// Creates a 405 response with the allowed methods. The connection closes.
pub(crate) fn not_allowed(allow: &[Method]) -> Response {
    allowing(StatusCode::METHOD_NOT_ALLOWED.into(), allow).closing()
}

/// Sets the Allow field to these methods, sorted and without duplicates.
pub(crate) fn allowing(response: Response, methods: &[Method]) -> Response {
    let mut names: Vec<&str> = methods.iter().map(Method::as_str).collect();
    names.sort_unstable();
    names.dedup();
    response.with_header(ALLOW, names.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unsupported_method_is_405_and_unknown_one_is_501() {
        let allow = [Method::OPTIONS, Method::HEAD, Method::GET, Method::HEAD];
        let response = method_not_allowed(&Method::PUT, &allow);
        assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(response.headers()[ALLOW], "GET, HEAD, OPTIONS");
        assert_eq!(response.headers()[CONNECTION], "close");
        for unknown in ["BREW", "get", "PROPFIND"] {
            let method = Method::from_bytes(unknown.as_bytes()).expect("a method");
            let response = method_not_allowed(&method, &allow);
            assert_eq!(response.status(), StatusCode::NOT_IMPLEMENTED, "{unknown}");
            assert_eq!(response.headers()[CONNECTION], "close");
        }
    }

    #[test]
    fn header_with_line_break_becomes_500() {
        let response = Response::text("x").with_header("X-Name", "a\r\nSet-Cookie: b");
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
        assert!(!response.headers().contains_key("X-Name"));
    }

    #[test]
    fn invalid_media_type_becomes_500() {
        let response = Response::bytes("a/b\r\nX: y", "x");
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
    }

    #[test]
    fn body_is_made_of_what_it_contains() {
        for body in [
            Body::from("four"),
            "four".to_owned().into(),
            b"four".to_vec().into(),
            Bytes::from_static(b"four").into(),
            BodyStream::written(|out| out.write_all(b"four")).into(),
        ] {
            let response = Response::new(StatusCode::OK).with_body(body);
            assert_eq!(response.into_text().expect("text"), "four");
        }
    }

    #[test]
    fn appended_header_is_beside_shared_fields() {
        let mut shared = HeaderMap::new();
        shared.insert("x-one", HeaderValue::from_static("1"));
        let response =
            Response::prepared(StatusCode::OK, &PreparedFields::new(shared), Body::Empty)
                .with_header("x-two", "2")
                .append_header("x-two", "3")
                .append_header("x-one", "4");
        let mut wire = Vec::new();
        response.render_fields(&mut wire);
        let mut lines: Vec<_> = std::str::from_utf8(&wire)
            .expect("text")
            .split("\r\n")
            .collect();
        lines.sort_unstable();
        assert_eq!(lines, ["", "X-One: 1", "X-One: 4", "X-Two: 2", "X-Two: 3"]);
        let invalid = Response::text("x").append_header("X", "a\r\nb");
        assert_eq!(invalid.status(), StatusCode::INTERNAL_SERVER_ERROR);
    }

    #[test]
    fn rejection_states_its_reason_and_closes() {
        let response = Response::from(Rejection::bad_request("bare LF"));
        assert_eq!(response.status(), StatusCode::BAD_REQUEST);
        assert_eq!(response.headers()[CONNECTION], "close");
        match response.body() {
            Body::Bytes(text) => assert_eq!(text, "400 Bad Request: bare LF\n"),
            other => panic!("{other:?}"),
        }
    }
}
