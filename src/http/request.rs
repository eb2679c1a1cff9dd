//! A request as handlers receive it: borrowed from the connection's buffer, without copies.

use std::any::Any;
use std::borrow::Cow;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use ::http::{HeaderName, HeaderValue, Method, Version};

use super::Rejection;
use super::admission::Admission;
use super::fields::Fields;
use super::forwarded::{ClientInfo, Scheme};
use super::target::{self, Target};
use crate::body::pipe::{BodyReader, PipeReaderHandle};

/// An HTTP request: its head and its content.
///
/// A request that a server received borrows from the connection's buffer;
/// [`into_owned`](Self::into_owned) copies it. A request that is built with [`get`](Self::get),
/// [`post`](Self::post) or [`new`](Self::new), to call a handler without a socket, owns its bytes:
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
    /// UTF-8.
    target: Cow<'a, [u8]>,
    path: Cow<'a, [u8]>,
    /// The length of the prefixes under which the handler is nested, in bytes of `path`.
    prefix_len: usize,
    /// What [`path`](Self::path) returns if `path` is not UTF-8, made on first use.
    encoded_path: OnceLock<Box<str>>,
    fields: Fields<'a>,
    content: Cow<'a, [u8]>,
    /// The pipe through which the content arrives, if it is streamed.
    stream: Option<PipeReaderHandle>,
    client: ClientInfo,
    params: Vec<(String, String)>,
    extensions: Extensions,
    admission: AdmissionRef<'a>,
}

/// What a server has of the body of a request when it calls a handler.
#[derive(Default)]
pub(crate) struct ReceivedBody<'a> {
    /// The whole content; empty if it is streamed.
    pub(crate) content: &'a [u8],
    /// The pipe through which the content arrives, if it is streamed.
    pub(crate) stream: Option<PipeReaderHandle>,
    /// What was decided about the body. `None` for a request without one.
    pub(crate) admission: Option<&'a Admission>,
}

/// Values that middlewares attach to a request, the newest last. Few are, so they are searched in turn.
pub(crate) type Extensions = Vec<Arc<dyn Any + Send + Sync>>;

/// Whether [`Handler::admit`](crate::Handler::admit) was called for a request before, so that a
/// middleware does not count the request twice. The copies that a router passes on share it with the
/// request that the router was called with.
#[derive(Debug)]
enum AdmissionRef<'a> {
    Own(AtomicBool),
    Flag(&'a AtomicBool),
    Whole(&'a Admission),
}

impl AdmissionRef<'_> {
    fn flag(&self) -> &AtomicBool {
        match self {
            Self::Own(flag) => flag,
            Self::Flag(flag) => flag,
            Self::Whole(admission) => &admission.is_decided,
        }
    }

    fn reborrow(&self) -> AdmissionRef<'_> {
        match self {
            Self::Own(flag) => AdmissionRef::Flag(flag),
            Self::Flag(flag) => AdmissionRef::Flag(flag),
            Self::Whole(admission) => AdmissionRef::Whole(admission),
        }
    }

    fn to_own(&self) -> AdmissionRef<'static> {
        AdmissionRef::Own(AtomicBool::new(self.flag().load(Ordering::Relaxed)))
    }
}

/// A clone is another request with the same history, without what middlewares have decided.
impl Clone for AdmissionRef<'_> {
    fn clone(&self) -> Self {
        self.to_own()
    }
}

impl<'a> Request<'a> {
    pub(crate) fn from_head(
        method: Method,
        version: Version,
        target: &'a [u8],
        path: Cow<'a, [u8]>,
        fields: Fields<'a>,
        body: ReceivedBody<'a>,
        client: ClientInfo,
    ) -> Self {
        Self {
            method,
            version,
            target: Cow::Borrowed(target),
            path,
            prefix_len: 0,
            encoded_path: OnceLock::new(),
            fields,
            content: Cow::Borrowed(body.content),
            stream: body.stream,
            client,
            params: Vec::new(),
            extensions: Vec::new(),
            admission: match body.admission {
                Some(admission) => AdmissionRef::Whole(admission),
                None => AdmissionRef::Own(AtomicBool::new(false)),
            },
        }
    }

    /// Returns whether the content is still being received: reading it waits for the client.
    pub(crate) fn is_streamed(&self) -> bool {
        self.stream.is_some()
    }

    /// Marks the request as one for which [`Handler::admit`](crate::Handler::admit) was called.
    pub(crate) fn mark_admitted(&self) {
        self.admission.flag().store(true, Ordering::Relaxed);
    }

    /// Undoes [`mark_admitted`](Self::mark_admitted), when the request is handled or rejected.
    pub(crate) fn forget_admission(&self) {
        self.admission.flag().store(false, Ordering::Relaxed);
    }

    /// As [`mark_admitted`](Self::mark_admitted), for a server that builds the request again.
    pub(crate) fn admitted(self) -> Self {
        self.mark_admitted();
        self
    }

    /// Returns whether [`Handler::admit`](crate::Handler::admit) was called for the request before. The
    /// header fields do not tell: a request with `Content-Length: 0` is not admitted, because it has no
    /// content.
    pub(crate) fn was_admitted(&self) -> bool {
        self.admission.flag().load(Ordering::Relaxed)
    }

    /// Returns whether there is content, or was a question about it: that of a chunked request may turn
    /// out to be empty.
    pub(crate) fn may_have_content(&self) -> bool {
        self.was_admitted() || self.is_streamed() || !self.content.is_empty()
    }

    /// Returns the method.
    pub fn method(&self) -> &Method {
        &self.method
    }

    /// Returns the protocol version of the request: HTTP/1.0, HTTP/1.1 or HTTP/2.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Returns the request-target as it was received (RFC 9112 §3.2), with its query.
    pub fn target(&self) -> &str {
        // Here and not when the request is made: few handlers ask for it.
        std::str::from_utf8(&self.target).unwrap_or_default()
    }

    /// Returns the path, percent-decoded once, without dot segments and empty segments.
    ///
    /// If the decoded path is not UTF-8, it is returned percent-encoded (`/%F1`);
    /// [`path_bytes`](Self::path_bytes) returns it decoded. In a handler that is nested with
    /// [`Router::nest`](crate::Router::nest) the path does not include the prefix.
    pub fn path(&self) -> &str {
        let path = self.path_bytes();
        std::str::from_utf8(path).unwrap_or_else(|_| {
            self.encoded_path
                .get_or_init(|| target::encode_path(path).into())
        })
    }

    /// Returns the decoded path as bytes: file names need not be UTF-8.
    pub fn path_bytes(&self) -> &[u8] {
        match &self.path[self.prefix_len..] {
            // The path is the prefix itself.
            [] if self.prefix_len > 0 => b"/",
            rest => rest,
        }
    }

    /// Returns the decoded path including the prefixes under which the handler is nested, as a
    /// Location field needs it.
    pub fn full_path_bytes(&self) -> &[u8] {
        &self.path
    }

    /// Returns the prefixes under which the handler is nested; empty if it is not nested.
    pub(crate) fn prefix_bytes(&self) -> &[u8] {
        &self.path[..self.prefix_len]
    }

    /// Returns the prefixes under which the handler is nested, percent-encoded: what a Location field of a
    /// nested handler begins with. Empty if the handler is not nested.
    ///
    /// ```
    /// use tws::{Request, Response, Router};
    /// # use tws::Handler;
    ///
    /// let shop = Router::new().get("/old", |request: &Request<'_>| {
    ///     Response::text(format!("{}/new", request.encoded_prefix()))
    /// });
    /// let router = Router::new().nest("/{shop}", shop);
    /// # let response = router.handle(&Request::get("/my%20shop/old")).wait();
    /// # assert_eq!(response.into_content()?, b"/my%20shop/new");
    /// # Ok::<_, std::io::Error>(())
    /// ```
    pub fn encoded_prefix(&self) -> String {
        target::encode_path(self.prefix_bytes())
    }

    /// Returns the query as it was received, without the question mark. [`query`](Self::query) returns it
    /// as a value.
    pub fn query_str(&self) -> Option<&str> {
        target::split_query(self.target()).1
    }

    /// Returns the decoded text that the route parameter `{name}` matched. [`param`](Self::param) returns
    /// it as a value.
    pub fn param_str(&self, name: &str) -> Option<&str> {
        let found = self.params.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    }

    /// Returns the header fields.
    pub fn fields(&self) -> &Fields<'a> {
        &self.fields
    }

    /// Returns the first value of a header field; `None` if it is absent or not UTF-8.
    pub fn header(&self, name: impl AsRef<str>) -> Option<&str> {
        let value = self.fields.first(name.as_ref())?;
        std::str::from_utf8(value).ok()
    }

    /// Returns the whole content, without transfer coding; empty if the content is streamed
    /// ([`BodyPolicy::Stream`](crate::BodyPolicy::Stream)).
    pub fn content(&self) -> &[u8] {
        &self.content
    }

    /// Returns a reader of the content, whether it is buffered or streamed. Reading streamed content
    /// waits for the client, so it must be done in a job
    /// ([`Outcome::blocking`](crate::Outcome::blocking)).
    pub fn reader(&self) -> BodyReader {
        match &self.stream {
            Some(stream) => stream.reader(),
            None => BodyReader::whole(self.content.to_vec()),
        }
    }

    /// Returns the host of the request without its port: from an absolute request-target, otherwise
    /// from the Host field (RFC 9112 §3.2.2).
    pub fn host(&self) -> Option<&str> {
        std::str::from_utf8(self.host_bytes()?).ok()
    }

    /// As [`host`](Self::host), not checked for UTF-8.
    pub(crate) fn host_bytes(&self) -> Option<&[u8]> {
        let authority = match self.absolute_authority() {
            Some(authority) => authority,
            None => self.fields.first("host")?,
        };
        // A colon inside brackets belongs to the IPv6 address.
        let is_end = |byte: &u8| matches!(byte, b':' | b']');
        let mut host = match authority.iter().rposition(is_end) {
            Some(colon) if authority[colon] == b':' => &authority[..colon],
            _ => authority,
        };
        while let [shorter @ .., b'.'] = host {
            host = shorter;
        }
        Some(host)
    }

    /// Returns the authority of a target in absolute form (RFC 9112 §3.2.2).
    fn absolute_authority(&self) -> Option<&[u8]> {
        if self.target.starts_with(b"/") {
            return None;
        }
        let (authority, _) = target::split_absolute(self.target())?;
        Some(authority.as_bytes())
    }

    /// Returns the client's address.
    ///
    /// This is the peer of the connection, unless the peer is one of
    /// [`Config::trusted_proxies`](crate::Config::trusted_proxies). Then it is the client that the
    /// proxy reports, with port 0 if the proxy reports no port, and the proxy itself if it reports no
    /// address that can be parsed. A peer on a Unix socket has the address `[::]:0`.
    pub fn client_addr(&self) -> SocketAddr {
        self.client.address
    }

    /// Returns whether the client uses HTTPS: whether this connection is encrypted, or, if a proxy
    /// among [`Config::trusted_proxies`](crate::Config::trusted_proxies) reports a client, whether it
    /// reports that the client uses HTTPS.
    pub fn is_secure(&self) -> bool {
        self.client.scheme == Scheme::Https
    }

    /// Returns the newest attached value of this type.
    pub(crate) fn attached<T: Any>(&self) -> Option<&T> {
        let mut newest_first = self.extensions.iter().rev();
        newest_first.find_map(|value| value.downcast_ref())
    }

    /// Returns a copy that borrows nothing, for a job that outlives the call of the handler.
    pub fn into_owned(self) -> Request<'static> {
        Request {
            method: self.method,
            version: self.version,
            target: Cow::Owned(self.target.into_owned()),
            path: Cow::Owned(self.path.into_owned()),
            prefix_len: self.prefix_len,
            encoded_path: self.encoded_path,
            fields: self.fields.into_owned(),
            content: Cow::Owned(self.content.into_owned()),
            stream: self.stream,
            client: self.client,
            params: self.params,
            extensions: self.extensions,
            admission: self.admission.to_own(),
        }
    }

    /// Returns the request with the parameters of a route. They take precedence over parameters of the
    /// same name from enclosing routes.
    pub(crate) fn with_params(&self, mut params: Vec<(String, String)>) -> Request<'_> {
        params.extend_from_slice(&self.params);
        Request {
            params,
            ..self.reborrow()
        }
    }

    /// Returns the head of the request.
    pub(crate) fn without_content(&self) -> Request<'_> {
        let mut head = self.with_params(Vec::new());
        head.content = Cow::Borrowed(&[]);
        head
    }

    /// Returns the request with the content of another one.
    pub(crate) fn with_content_of<'r>(&'r self, other: &'r Request<'_>) -> Request<'r> {
        let mut copy = self.with_params(Vec::new());
        copy.content = Cow::Borrowed(&other.content);
        copy.stream = other.stream.clone();
        copy
    }

    /// Returns the request with another record of what is decided about its content.
    pub(crate) fn with_admission<'r>(&'r self, admission: &'r Admission) -> Request<'r> {
        let mut copy = self.with_params(Vec::new());
        copy.admission = AdmissionRef::Whole(admission);
        copy
    }

    /// Returns the record of what is decided about the content; `None` for a request without content, and
    /// for one that no server has received.
    pub(crate) fn admission(&self) -> Option<&Admission> {
        match self.admission {
            AdmissionRef::Whole(admission) => Some(admission),
            AdmissionRef::Own(_) | AdmissionRef::Flag(_) => None,
        }
    }

    /// Returns the request with more extensions.
    pub(crate) fn with_extensions(&self, more: Extensions) -> Request<'_> {
        let mut copy = self.with_params(Vec::new());
        copy.extensions.extend(more);
        copy
    }

    /// Returns a copy without route parameters that shares the admission and borrows the rest.
    fn reborrow(&self) -> Request<'_> {
        Request {
            method: self.method.clone(),
            version: self.version,
            target: Cow::Borrowed(&self.target),
            path: Cow::Borrowed(&self.path),
            prefix_len: self.prefix_len,
            encoded_path: OnceLock::new(),
            fields: self.fields.reborrow(),
            content: Cow::Borrowed(&self.content),
            stream: self.stream.clone(),
            client: self.client,
            params: Vec::new(),
            extensions: self.extensions.clone(),
            admission: self.admission.reborrow(),
        }
    }

    /// Returns the request with `len` more bytes of its path, whole segments, as the prefix.
    pub(crate) fn nested_below(mut self, len: usize) -> Self {
        self.prefix_len += len;
        self.encoded_path = OnceLock::new();
        self
    }
}

/// Requests for calls of a handler without a connection.
impl Request<'static> {
    /// Creates an HTTP/1.1 request from 127.0.0.1 without header fields.
    ///
    /// # Panics
    ///
    /// If the server would reject `target`.
    pub fn new(method: Method, target: &str) -> Self {
        match Self::parse(method, target) {
            Ok(request) => request,
            Err(rejection) => panic!("{target:?}: {}", rejection.reason()),
        }
    }

    /// As [`new`](Self::new), for a target that may be invalid.
    ///
    /// # Errors
    ///
    /// The rejection with which the server would respond to such a target.
    pub fn parse(method: Method, target: &str) -> Result<Self, Rejection> {
        let path = Target::parse(&method, target)?.path.into_owned();
        Ok(Self {
            method,
            version: Version::HTTP_11,
            target: Cow::Owned(target.as_bytes().to_vec()),
            path: Cow::Owned(path),
            prefix_len: 0,
            encoded_path: OnceLock::new(),
            fields: Fields::default(),
            content: Cow::Borrowed(&[]),
            stream: None,
            client: ClientInfo::plain(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))),
            params: Vec::new(),
            extensions: Vec::new(),
            admission: AdmissionRef::Own(AtomicBool::new(false)),
        })
    }

    /// Creates a GET request. Panics as [`new`](Self::new) does.
    pub fn get(target: &str) -> Self {
        Self::new(Method::GET, target)
    }

    /// Creates a POST request with its Content-Length. Panics as [`new`](Self::new) does.
    pub fn post(target: &str, content: impl Into<Vec<u8>>) -> Self {
        Self::new(Method::POST, target).with_content(content)
    }

    /// Sets the content and its Content-Length.
    pub fn with_content(mut self, content: impl Into<Vec<u8>>) -> Self {
        let content = content.into();
        self.fields
            .set("Content-Length", content.len().to_string().as_bytes());
        self.content = Cow::Owned(content);
        self
    }

    /// Sets the value of a route parameter, for a handler that is called without a router.
    pub fn with_param(mut self, name: &str, value: &str) -> Self {
        self.params.insert(0, (name.to_owned(), value.to_owned()));
        self
    }

    /// Attaches a value, as [`Next::with`](crate::Next::with) does.
    pub fn with_extension(mut self, value: impl Any + Send + Sync) -> Self {
        self.extensions.push(Arc::new(value));
        self
    }

    /// Adds a field line.
    ///
    /// # Panics
    ///
    /// If the name or the value is not valid in a header field.
    pub fn with_header(mut self, name: &str, value: &str) -> Self {
        let valid = HeaderName::try_from(name).is_ok() && HeaderValue::try_from(value).is_ok();
        assert!(valid, "{name:?}: {value:?} is no field line");
        self.fields.push(name, value.trim().as_bytes());
        self
    }

    pub(crate) fn with_client(mut self, client: ClientInfo) -> Self {
        self.client = client;
        self
    }

    /// Sets the client's address.
    pub fn with_client_addr(mut self, address: SocketAddr) -> Self {
        self.client.address = address;
        self
    }

    /// Marks the request as received over HTTPS: [`is_secure`](Self::is_secure) returns true.
    pub fn encrypted(mut self) -> Self {
        self.client.scheme = Scheme::Https;
        self
    }
}

/// A GET of `/` with these fields, for tests of field semantics.
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
    use crate::http::fields::Repeated;

    #[test]
    fn single_field_is_repeated_only_by_its_own_name() {
        let single = |fields: &[(&str, &str)]| {
            let request = get_with(fields);
            let value = request.fields().single("range");
            value.map(|value| value.map(<[u8]>::to_vec))
        };
        assert_eq!(single(&[("Age", "1"), ("Age", "2")]), Ok(None));
        // The name filter does not tell these names apart.
        let other = ("Rinse", "2");
        assert_eq!(single(&[other, other]), Ok(None));
        let range = ("Range", "1");
        assert_eq!(single(&[other, range]), Ok(Some(b"1".to_vec())));
        assert_eq!(single(&[range, other]), Ok(Some(b"1".to_vec())));
        assert_eq!(single(&[range, other, ("RANGE", "1")]), Err(Repeated));
    }

    #[test]
    fn field_lookup_ignores_case_and_keeps_order() {
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
    fn host_is_returned_without_port() {
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
    fn path_that_is_not_utf8_is_returned_percent_encoded() {
        for (target, path) in [
            ("/%F1?q", "/%F1"),
            ("/%f1/%41/%2e/b", "/%F1/A/b"),
            ("//a/../%F1%25", "/%F1%25"),
            ("/%C3%B1/%F1", "/%C3%B1/%F1"),
            ("http://h/%F1", "/%F1"),
        ] {
            let request = Request::get(target);
            assert_eq!(request.path(), path, "{target}");
            assert_eq!(request.into_owned().path(), path, "{target}");
        }
        assert_eq!(Request::get("/%F1").path_bytes(), b"/\xF1");
        let nested = Request::get("/in/%F1");
        assert_eq!(nested.path(), "/in/%F1");
        let nested = nested.nested_below(3);
        assert_eq!(nested.path(), "/%F1");
        assert_eq!(nested.nested_below(2).path(), "/");
    }

    #[test]
    fn owned_copy_equals_the_request() {
        let request = Request::post("/a?b", "xyz").with_header("Host", "h");
        let copy = request.clone().into_owned();
        assert_eq!(copy.content(), request.content());
        assert_eq!(copy.target(), request.target());
        assert_eq!(copy.header("host"), request.header("host"));
    }
}
