//! A response as handlers make it: a status, header fields, and a *description* of the content.
//! Framing (Content-Length, Transfer-Encoding, Connection, Date) is the connection's business.

use std::fmt;
use std::io;
use std::sync::{Arc, OnceLock};

use ::http::header::{
    ALLOW, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, DATE, LOCATION, RETRY_AFTER,
    TRANSFER_ENCODING, UPGRADE,
};
use ::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use bytes::Bytes;

use super::Rejection;
use crate::body::Body;
use crate::explain_log::Escaped;

/// One response.
#[derive(Debug)]
pub struct Response {
    status: StatusCode,
    fields: ResponseFields,
    body: Body,
}

/// Header fields that belong to one response, or that many share.
#[derive(Debug)]
enum ResponseFields {
    Own(HeaderMap),
    Prepared(Arc<PreparedFields>),
    Extended(Box<ExtendedFields>),
}

/// Prepared fields and one more, which only this response has.
#[derive(Debug)]
struct ExtendedFields {
    prepared: Arc<PreparedFields>,
    more: (HeaderName, HeaderValue),
    /// All of them, if somebody asks.
    map: OnceLock<HeaderMap>,
}

/// Header fields that are rendered once and sent with many responses.
#[derive(Debug)]
pub(crate) struct PreparedFields {
    fields: HeaderMap,
    wire: Vec<u8>,
}

impl PreparedFields {
    pub(crate) fn new(fields: HeaderMap) -> Arc<Self> {
        let mut wire = Vec::new();
        render(&fields, &mut wire);
        Arc::new(Self { fields, wire })
    }
}

impl ResponseFields {
    fn map(&self) -> &HeaderMap {
        match self {
            Self::Own(fields) => fields,
            Self::Prepared(prepared) => &prepared.fields,
            Self::Extended(extended) => extended.map.get_or_init(|| {
                let mut fields = extended.prepared.fields.clone();
                let (name, value) = extended.more.clone();
                fields.insert(name, value);
                fields
            }),
        }
    }

    fn map_mut(&mut self) -> &mut HeaderMap {
        if !matches!(self, Self::Own(_)) {
            *self = Self::Own(self.map().clone());
        }
        match self {
            Self::Own(fields) => fields,
            Self::Prepared(_) | Self::Extended(_) => unreachable!("it was just replaced"),
        }
    }
}

/// Appends field lines as they stand on the wire. Fields about the connection and the framing are
/// the connection's to say (RFC 9110 §7.6.1, §8.6); those a handler set are left out.
fn render(fields: &HeaderMap, out: &mut Vec<u8>) {
    for (name, value) in fields {
        if !is_connection_field(name) {
            push_field(out, name.as_str(), value.as_bytes());
        }
    }
}

fn is_connection_field(name: &HeaderName) -> bool {
    [CONNECTION, CONTENT_LENGTH, DATE, TRANSFER_ENCODING, UPGRADE].contains(name)
        || name.as_str() == "keep-alive"
}

/// The `http` crate keeps names in lower case; on the wire they stand as RFCs write them.
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
    // The one common exception to that rule.
    if name == "etag" {
        let tag = out.len() - 3;
        out[tag] = b'T';
    }
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
}

/// A field as it stands on the wire, for people.
pub(crate) struct FieldLine<'a>(pub(crate) &'a HeaderName, pub(crate) &'a HeaderValue);

impl fmt::Display for FieldLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line = Vec::new();
        push_field(&mut line, self.0.as_str(), self.1.as_bytes());
        Escaped(line.trim_ascii()).fmt(f)
    }
}

impl Response {
    /// A response without content.
    pub fn new(status: StatusCode) -> Self {
        Self {
            status,
            fields: ResponseFields::Own(HeaderMap::new()),
            body: Body::Empty,
        }
    }

    /// A response with fields that were rendered before.
    pub(crate) fn prepared(status: StatusCode, fields: &Arc<PreparedFields>) -> Self {
        Self {
            status,
            fields: ResponseFields::Prepared(Arc::clone(fields)),
            body: Body::Empty,
        }
    }

    /// A response with fields that were rendered before, and one that was not.
    pub(crate) fn extended(
        status: StatusCode,
        fields: &Arc<PreparedFields>,
        more: (HeaderName, HeaderValue),
    ) -> Self {
        if fields.fields.contains_key(&more.0) {
            return Self::prepared(status, fields).with_header(more.0, more.1);
        }
        let extended = ExtendedFields {
            prepared: Arc::clone(fields),
            more,
            map: OnceLock::new(),
        };
        Self {
            status,
            fields: ResponseFields::Extended(Box::new(extended)),
            body: Body::Empty,
        }
    }

    /// 200 with `text/plain; charset=utf-8`.
    pub fn text(text: impl Into<String>) -> Self {
        Self::of_type("text/plain; charset=utf-8", text.into())
    }

    /// 200 with `text/html; charset=utf-8`.
    pub fn html(html: impl Into<String>) -> Self {
        Self::of_type("text/html; charset=utf-8", html.into())
    }

    /// 200 with a value as `application/json`.
    ///
    /// A value that has no JSON form (a map whose keys are not strings, say) is the handler's
    /// mistake: it is logged and the response is a 500.
    pub fn json(value: &impl serde::Serialize) -> Self {
        match serde_json::to_vec(value) {
            Ok(json) => Self::of_type("application/json", json),
            Err(error) => Self::fault(&format!("response: cannot be serialized as JSON: {error}")),
        }
    }

    /// A redirect: `status` is one of 301, 302, 303, 307, 308; `location` a URL, already encoded.
    pub fn redirect(status: StatusCode, location: &str) -> Self {
        Self::new(status).with_header(LOCATION, location)
    }

    fn of_type(media_type: &'static str, content: impl Into<Bytes>) -> Self {
        let mut response = Self::new(StatusCode::OK).with_body(Body::Bytes(content.into()));
        let fields = response.headers_mut();
        fields.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
        response
    }

    /// 500 for what is the program's fault; the reason goes to the log, not to the client.
    pub(crate) fn fault(reason: &str) -> Self {
        log::error!("{reason}");
        StatusCode::INTERNAL_SERVER_ERROR.into()
    }

    /// 503 with Retry-After: the server is whole, but cannot do this at the moment.
    pub(crate) fn unavailable(reason: &str) -> Self {
        let status = StatusCode::SERVICE_UNAVAILABLE;
        Self::text(format!("{status}: {reason}\n"))
            .with_status(status)
            .with_header(RETRY_AFTER, "1")
    }

    /// The same response with another status.
    pub fn with_status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    /// Sets a header field, in place of any of that name.
    ///
    /// A name or value that could not stand in a response (a line break in it, say) is the
    /// handler's mistake: it is logged and the response becomes a 500, so nothing is injected.
    pub fn with_header<N, V>(mut self, name: N, value: V) -> Self
    where
        N: TryInto<HeaderName>,
        V: TryInto<HeaderValue>,
    {
        match (name.try_into(), value.try_into()) {
            (Ok(name), Ok(value)) => {
                self.fields.map_mut().insert(name, value);
                self
            }
            _ => Self::fault("response: invalid header field name or value"),
        }
    }

    /// The same response with other content. Its Content-Type is left as it is.
    pub fn with_body(mut self, body: Body) -> Self {
        self.body = body;
        self
    }

    /// Closes the connection after this response.
    pub fn closing(self) -> Self {
        self.with_header(CONNECTION, "close")
    }

    /// The status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The header fields.
    pub fn headers(&self) -> &HeaderMap {
        self.fields.map()
    }

    /// Appends the field lines, each with its CRLF before it.
    pub(crate) fn render_fields(&self, out: &mut Vec<u8>) {
        match &self.fields {
            ResponseFields::Own(fields) => render(fields, out),
            ResponseFields::Prepared(prepared) => out.extend_from_slice(&prepared.wire),
            ResponseFields::Extended(extended) => {
                out.extend_from_slice(&extended.prepared.wire);
                let (name, value) = &extended.more;
                push_field(out, name.as_str(), value.as_bytes());
            }
        }
    }

    /// The header fields line by line, as they stand on the wire; but for those about the connection
    /// and the framing, which are the connection's to say.
    pub fn field_lines(&self) -> impl Iterator<Item = String> {
        let fields = self.headers().iter();
        let own = fields.filter(|(name, _)| !is_connection_field(name));
        own.map(|(name, value)| FieldLine(name, value).to_string())
    }

    /// The header fields, to change.
    pub fn headers_mut(&mut self) -> &mut HeaderMap {
        self.fields.map_mut()
    }

    /// The content.
    pub fn body(&self) -> &Body {
        &self.body
    }

    /// All of the content, as long as that takes: a file is read, a stream is made. For tests and
    /// other callers that may wait.
    ///
    /// # Errors
    ///
    /// Those of reading the file or making the stream; `UnexpectedEof` if the file is shorter than
    /// its range.
    pub fn into_content(self) -> io::Result<Vec<u8>> {
        match self.body {
            Body::Empty => Ok(Vec::new()),
            Body::Bytes(bytes) => Ok(bytes.into()),
            Body::File(range) => range.read(),
            Body::Stream(stream) => stream.into_content(),
        }
    }

    pub(crate) fn into_body(self) -> Body {
        self.body
    }
}

/// A status that says itself what it means, as a line of text where there may be one.
impl From<StatusCode> for Response {
    fn from(status: StatusCode) -> Self {
        match status {
            StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED => Self::new(status),
            _ => Self::text(format!("{status}\n")).with_status(status),
        }
    }
}

/// The plain answer to a refused request: one line of text, and the connection closes.
impl From<Rejection> for Response {
    fn from(refusal: Rejection) -> Self {
        let status = refusal.status();
        Self::text(format!("{status}: {}\n", refusal.reason()))
            .with_status(status)
            .closing()
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

/// The answer to a method that a resource does not have: 405 with those it has, or 501 if it is
/// none that a server should know (RFC 9110 §9.1).
pub(crate) fn method_not_allowed(method: &Method, allow: &[Method]) -> Response {
    if STANDARD_METHODS.contains(method) {
        not_allowed(allow)
    } else {
        Rejection::new(StatusCode::NOT_IMPLEMENTED, "unknown method").into()
    }
}

/// 405 with what is allowed instead.
pub(crate) fn not_allowed(allow: &[Method]) -> Response {
    allowing(StatusCode::METHOD_NOT_ALLOWED.into(), allow).closing()
}

/// The same response with these methods in its Allow field, sorted and each once.
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
    fn a_method_is_either_not_allowed_or_not_known() {
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
    fn nothing_can_be_injected_by_a_field() {
        let response = Response::text("x").with_header("X-Name", "a\r\nSet-Cookie: b");
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
        assert!(!response.headers().contains_key("X-Name"));
    }

    #[test]
    fn a_refusal_says_why_and_closes() {
        let response = Response::from(Rejection::bad_request("bare LF"));
        assert_eq!(response.status(), StatusCode::BAD_REQUEST);
        assert_eq!(response.headers()[CONNECTION], "close");
        match response.body() {
            Body::Bytes(text) => assert_eq!(text, "400 Bad Request: bare LF\n"),
            other => panic!("{other:?}"),
        }
    }
}
