//! A request as handlers see it: borrowed from the connection's buffer, nothing copied.

use std::borrow::Cow;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Range;

use ::http::{HeaderName, HeaderValue, Method, Version};

use super::Rejection;
use super::forwarded::{ClientInfo, Scheme};
use super::target::{self, Target};
use crate::body::pipe::{BodyReader, PipeReaderHandle};

/// Where one field line lies in the bytes of a head. Offsets, not references, so that the table of
/// them can be used again for the next request.
#[derive(Clone, Debug)]
pub(crate) struct FieldSpan {
    pub(crate) name: Range<u32>,
    pub(crate) value: Range<u32>,
}

/// The header fields of a request, in the order they came.
#[derive(Clone, Debug, Default)]
pub struct Fields<'a> {
    bytes: Cow<'a, [u8]>,
    spans: Cow<'a, [FieldSpan]>,
}

impl<'a> Fields<'a> {
    pub(crate) fn new(bytes: &'a [u8], spans: &'a [FieldSpan]) -> Self {
        Self {
            bytes: Cow::Borrowed(bytes),
            spans: Cow::Borrowed(spans),
        }
    }

    /// All fields as name and value; the value has no white space around it.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.spans.iter().map(|span| {
            let name = std::str::from_utf8(self.slice(&span.name)).unwrap_or_default();
            (name, self.slice(&span.value))
        })
    }

    /// The values of all field lines of that name, compared without case.
    pub fn all<'s>(&'s self, name: &str) -> impl DoubleEndedIterator<Item = &'s [u8]> {
        self.spans
            .iter()
            .filter(move |span| self.slice(&span.name).eq_ignore_ascii_case(name.as_bytes()))
            .map(|span| self.slice(&span.value))
    }

    /// The value of the first field line of that name.
    pub fn first(&self, name: &str) -> Option<&[u8]> {
        self.all(name).next()
    }

    fn slice(&self, range: &Range<u32>) -> &[u8] {
        &self.bytes[range.start as usize..range.end as usize]
    }

    fn push(&mut self, name: &str, value: &[u8]) {
        let bytes = self.bytes.to_mut();
        let mut append = |text: &[u8]| {
            let start = bytes.len() as u32;
            bytes.extend_from_slice(text);
            start..bytes.len() as u32
        };
        let span = FieldSpan {
            name: append(name.as_bytes()),
            value: append(value),
        };
        self.spans.to_mut().push(span);
    }

    fn into_owned(self) -> Fields<'static> {
        Fields {
            bytes: Cow::Owned(self.bytes.into_owned()),
            spans: Cow::Owned(self.spans.into_owned()),
        }
    }

    fn reborrow(&self) -> Fields<'_> {
        Fields::new(&self.bytes, &self.spans)
    }
}

/// One request: head and content.
///
/// On a server it borrows from the connection. One that is built by hand, to call a handler
/// without a socket, owns its bytes:
///
/// ```
/// use tws::Request;
///
/// let request = Request::post("/createUser", r#"{"Nombre":"Ana"}"#)
///     .with_header("Content-Type", "application/json");
/// assert_eq!(request.path(), "/createUser");
/// assert_eq!(request.header("content-length"), Some("16"));
/// ```
#[derive(Clone, Debug)]
pub struct Request<'a> {
    method: Method,
    version: Version,
    target: Cow<'a, str>,
    path: Cow<'a, [u8]>,
    /// Where the part of the path begins that the handler at hand sees.
    seen_from: usize,
    fields: Fields<'a>,
    content: Cow<'a, [u8]>,
    /// Where the content comes out, if it is still coming in.
    stream: Option<PipeReaderHandle>,
    client: ClientInfo,
    params: Vec<(String, String)>,
}

impl<'a> Request<'a> {
    pub(crate) fn from_head(
        method: Method,
        version: Version,
        target: &'a str,
        path: Cow<'a, [u8]>,
        fields: Fields<'a>,
        client: ClientInfo,
    ) -> Self {
        Self {
            method,
            version,
            target: Cow::Borrowed(target),
            path,
            seen_from: 0,
            fields,
            content: Cow::Borrowed(&[]),
            stream: None,
            client,
            params: Vec::new(),
        }
    }

    pub(crate) fn with_borrowed_content(mut self, content: &'a [u8]) -> Self {
        self.content = Cow::Borrowed(content);
        self
    }

    pub(crate) fn with_stream(mut self, stream: PipeReaderHandle) -> Self {
        self.stream = Some(stream);
        self
    }

    /// True if the content is still coming in: who reads it waits for the client.
    pub(crate) fn is_streamed(&self) -> bool {
        self.stream.is_some()
    }

    /// True if its head says that a content follows, though that may be empty (RFC 9112 §6.3):
    /// [`Handler::admit`](crate::Handler::admit) was asked about it.
    pub(crate) fn announces_content(&self) -> bool {
        let framed = ["content-length", "transfer-encoding"];
        framed.iter().any(|name| self.header(name).is_some())
    }

    /// The method.
    pub fn method(&self) -> &Method {
        &self.method
    }

    /// The version the client spoke, HTTP/1.0 or HTTP/1.1.
    pub fn version(&self) -> Version {
        self.version
    }

    /// The request-target as it was received.
    pub fn target(&self) -> &str {
        &self.target
    }

    /// The path, decoded once, without dot segments and empty segments. A path that is not UTF-8
    /// when decoded is returned as it was received; [`path_bytes`](Self::path_bytes) has it decoded.
    ///
    /// Below the prefix of [`Router::nest`](crate::Router::nest) it is what follows the prefix.
    pub fn path(&self) -> &str {
        std::str::from_utf8(self.path_bytes())
            .unwrap_or_else(|_| target::split_query(&self.target).0)
    }

    /// The decoded path as bytes: file names need not be UTF-8.
    pub fn path_bytes(&self) -> &[u8] {
        match &self.path[self.seen_from..] {
            // The prefix itself.
            [] if self.seen_from > 0 => b"/",
            seen => seen,
        }
    }

    /// The decoded path with the prefixes under which the handler is nested: what belongs into a
    /// Location field.
    pub fn full_path_bytes(&self) -> &[u8] {
        &self.path
    }

    /// The prefixes under which the handler is nested; empty if it is not.
    pub(crate) fn prefix_bytes(&self) -> &[u8] {
        &self.path[..self.seen_from]
    }

    /// The query as it was received, without its question mark.
    pub fn query(&self) -> Option<&str> {
        target::split_query(&self.target).1
    }

    /// The first value of a query parameter `name=value`, decoded as forms encode it: `+` is a
    /// space, escapes are bytes of UTF-8 (ill-formed ones become U+FFFD).
    pub fn query_param(&self, name: &str) -> Option<String> {
        let decode = |text: &str| {
            let spaced = text.replace('+', " ");
            let bytes = percent_encoding::percent_decode_str(&spaced);
            bytes.decode_utf8_lossy().into_owned()
        };
        self.query()?.split('&').find_map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(key) == name).then(|| decode(value))
        })
    }

    /// What a route's parameter `{name}` matched, decoded.
    pub fn param(&self, name: &str) -> Option<&str> {
        let found = self.params.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    }

    /// The header fields.
    pub fn fields(&self) -> &Fields<'a> {
        &self.fields
    }

    /// The first value of a header field, if it is there and is text.
    pub fn header(&self, name: impl AsRef<str>) -> Option<&str> {
        let value = self.fields.first(name.as_ref())?;
        std::str::from_utf8(value).ok()
    }

    /// The content, whole, without transfer coding; empty if it comes as a stream.
    pub fn content(&self) -> &[u8] {
        &self.content
    }

    /// The content as something to read, whether it is all there or comes as a stream.
    pub fn reader(&self) -> BodyReader {
        match &self.stream {
            Some(stream) => stream.reader(),
            None => BodyReader::whole(self.content.to_vec()),
        }
    }

    /// The host that the client asks for, without its port: from an absolute request-target, else
    /// from the Host field (RFC 9112 §3.2.2).
    pub fn host(&self) -> Option<&str> {
        let absolute = match self.target.starts_with('/') {
            true => None,
            false => self.target.split_once("://"),
        };
        let authority = match absolute {
            Some((_, rest)) => rest.split(['/', '?']).next().unwrap_or_default(),
            None => self.header("host")?,
        };
        let end = match authority.rfind(':') {
            // A colon inside of brackets is the address's.
            Some(colon) if !authority[colon..].contains(']') => colon,
            _ => authority.len(),
        };
        Some(authority[..end].trim_end_matches('.'))
    }

    /// The client's address, as far as it is known: where the connection comes from; if that is
    /// one of [`Config::trusted_proxies`](crate::Config::trusted_proxies), the client that the
    /// proxy tells of, with port 0 if it does not tell the port, and the proxy itself if it tells
    /// nothing that can be read. `[::]:0` is somebody at a unix socket.
    pub fn client_addr(&self) -> SocketAddr {
        self.client.address
    }

    /// True if the client's bytes are encrypted: if this connection is, or, where a proxy among
    /// [`Config::trusted_proxies`](crate::Config::trusted_proxies) tells of a client, if it says
    /// that it speaks HTTPS with it.
    pub fn is_secure(&self) -> bool {
        self.client.scheme == Scheme::Https
    }

    /// A copy that borrows from nothing, for a job that outlives the call of the handler.
    pub fn into_owned(self) -> Request<'static> {
        Request {
            method: self.method,
            version: self.version,
            target: Cow::Owned(self.target.into_owned()),
            path: Cow::Owned(self.path.into_owned()),
            seen_from: self.seen_from,
            fields: self.fields.into_owned(),
            content: Cow::Owned(self.content.into_owned()),
            stream: self.stream,
            client: self.client,
            params: self.params,
        }
    }

    /// The same request as a route sees it, with what the route's parameters matched: they hide
    /// those of the routes around it that have the same name.
    pub(crate) fn with_params(&self, mut params: Vec<(String, String)>) -> Request<'_> {
        params.extend_from_slice(&self.params);
        Request {
            method: self.method.clone(),
            version: self.version,
            target: Cow::Borrowed(&self.target),
            path: Cow::Borrowed(&self.path),
            seen_from: self.seen_from,
            fields: self.fields.reborrow(),
            content: Cow::Borrowed(&self.content),
            stream: self.stream.clone(),
            client: self.client,
            params,
        }
    }

    /// The same request without the first `len` bytes of its path, which are whole segments.
    pub(crate) fn below(mut self, len: usize) -> Self {
        self.seen_from += len;
        self
    }
}

/// Requests made by hand.
impl Request<'static> {
    /// An HTTP/1.1 request from 127.0.0.1 without header fields.
    ///
    /// # Panics
    ///
    /// If `target` is one that the server would refuse.
    pub fn new(method: Method, target: &str) -> Self {
        match Self::parse(method, target) {
            Ok(request) => request,
            Err(refusal) => panic!("{target:?}: {}", refusal.reason()),
        }
    }

    /// The same for a target that somebody else made.
    ///
    /// # Errors
    ///
    /// What the server would say to such a target.
    pub fn parse(method: Method, target: &str) -> Result<Self, Rejection> {
        let path = Target::parse(&method, target)?.path.into_owned();
        Ok(Self {
            method,
            version: Version::HTTP_11,
            target: Cow::Owned(target.to_owned()),
            path: Cow::Owned(path),
            seen_from: 0,
            fields: Fields::default(),
            content: Cow::Borrowed(&[]),
            stream: None,
            client: ClientInfo::plain(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))),
            params: Vec::new(),
        })
    }

    /// A GET request. Panics as [`new`](Self::new) does.
    pub fn get(target: &str) -> Self {
        Self::new(Method::GET, target)
    }

    /// A POST request with its Content-Length. Panics as [`new`](Self::new) does.
    pub fn post(target: &str, content: impl Into<Vec<u8>>) -> Self {
        Self::new(Method::POST, target).with_content(content)
    }

    /// Adds content and the Content-Length field that goes with it.
    pub fn with_content(mut self, content: impl Into<Vec<u8>>) -> Self {
        let content = content.into();
        self.fields
            .push("Content-Length", content.len().to_string().as_bytes());
        self.content = Cow::Owned(content);
        self
    }

    /// Adds a field line.
    ///
    /// # Panics
    ///
    /// If name or value could not stand in a request.
    pub fn with_header(mut self, name: &str, value: &str) -> Self {
        let valid = HeaderName::try_from(name).is_ok() && HeaderValue::try_from(value).is_ok();
        assert!(valid, "{name:?}: {value:?} is no field line");
        self.fields.push(name, value.trim().as_bytes());
        self
    }

    /// Sets the client's address.
    pub fn with_peer(mut self, peer: SocketAddr) -> Self {
        self.client.address = peer;
        self
    }

    /// Makes it one that comes encrypted: [`is_secure`](Self::is_secure) is true.
    pub fn encrypted(mut self) -> Self {
        self.client.scheme = Scheme::Https;
        self
    }
}

/// A GET of `/` with these fields, for tests of what fields mean.
#[cfg(test)]
pub(crate) fn get_with(fields: &[(&str, &str)]) -> Request<'static> {
    fields
        .iter()
        .fold(Request::get("/"), |request, (name, value)| {
            request.with_header(name, value)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_without_case_and_in_order() {
        let request = Request::get("/")
            .with_header("Accept", "a")
            .with_header("ACCEPT", "b")
            .with_header("Host", "h");
        let all: Vec<&[u8]> = request.fields().all("accept").collect();
        assert_eq!(all, [b"a", b"b"]);
        assert_eq!(request.header("host"), Some("h"));
        assert_eq!(request.header("x"), None);
        assert_eq!(request.fields().iter().count(), 3);
    }

    #[test]
    fn the_host_is_the_name_without_the_port() {
        let of = |host| {
            let request = Request::get("/").with_header("Host", host);
            request.host().map(str::to_owned)
        };
        let table = [
            ("example.org", "example.org"),
            ("example.org:80", "example.org"),
            ("example.org.", "example.org"),
            ("[::1]:80", "[::1]"),
            ("[::1]", "[::1]"),
            ("", ""),
        ];
        for (host, expected) in table {
            assert_eq!(of(host).as_deref(), Some(expected), "{host}");
        }
        let absolute = Request::get("http://a.test:1/b?http://c").with_header("Host", "d");
        assert_eq!(absolute.host(), Some("a.test"));
        let origin = Request::get("/x?u=http://a/").with_header("Host", "d");
        assert_eq!(origin.host(), Some("d"));
    }

    #[test]
    fn query_parameters_are_decoded_as_forms() {
        let request = Request::get("/users?after=%31+0&empty&after=2&x=%FF");
        assert_eq!(request.query(), Some("after=%31+0&empty&after=2&x=%FF"));
        assert_eq!(request.query_param("after").as_deref(), Some("1 0"));
        assert_eq!(request.query_param("empty").as_deref(), Some(""));
        assert_eq!(request.query_param("x").as_deref(), Some("\u{FFFD}"));
        assert_eq!(request.query_param("limit"), None);
    }

    #[test]
    fn a_path_that_is_not_utf8_is_shown_as_received() {
        let request = Request::get("/%F1?q");
        assert_eq!(request.path(), "/%F1");
        assert_eq!(request.path_bytes(), b"/\xF1");
    }

    #[test]
    fn an_owned_copy_is_equal() {
        let request = Request::post("/a?b", "xyz").with_header("Host", "h");
        let copy = request.clone().into_owned();
        assert_eq!(copy.content(), request.content());
        assert_eq!(copy.target(), request.target());
        assert_eq!(copy.header("host"), request.header("host"));
    }
}
