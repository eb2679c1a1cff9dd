//! A client that calls a handler without a socket, for tests of programs.

#[cfg(feature = "cookies")]
mod cookie_jar;

use ::http::header::{CONTENT_LENGTH, LOCATION, TRANSFER_ENCODING};
use ::http::{Method, StatusCode};
use serde::Serialize;

#[cfg(feature = "cookies")]
use cookie_jar::CookieJar;

use super::{BodyPolicy, BoxHandler, Handler};
use crate::body::Body;
use crate::config::Limits;
use crate::http::admission::Admission;
use crate::http::{Rejection, Request, Response};

/// As browsers: a loop ends.
const MAX_REDIRECTS: usize = 20;

/// A client that calls a handler as a server does, without a socket and without waiting for ports: it
/// asks the handler about the content of a request first, waits for jobs and deferred responses, keeps
/// cookies (with the feature `cookies`) and follows redirects.
///
#[cfg_attr(feature = "cookies", doc = "```")]
#[cfg_attr(not(feature = "cookies"), doc = "```ignore")]
/// use tws::{HandlerResult, Request, Response, Router, StatusCode, TestClient};
///
/// fn sign_in(request: &Request<'_>) -> HandlerResult {
///     #[derive(serde::Deserialize)]
///     struct Form {
///         name: String,
///     }
///     let Form { name } = request.form()?;
///     Ok(Response::see_other("/").with_cookie(("name", name)))
/// }
///
/// fn home(request: &Request<'_>) -> HandlerResult {
///     let name = request.cookie("name").ok_or(StatusCode::UNAUTHORIZED)?;
///     Ok(Response::text(format!("hello {}\n", name.value())))
/// }
///
/// let client = TestClient::new(Router::new().get("/", home).post("/sign-in", sign_in));
/// assert_eq!(client.get("/").status(), 401);
/// let response = client.post_form("/sign-in", &[("name", "Ana María")]);
/// assert_eq!(response.into_text()?, "hello Ana María\n");
/// # Ok::<_, std::io::Error>(())
/// ```
///
/// Responses are as the server sends them, except for the fields that it adds to all: the content has its
/// length, and a handler's interim status (1xx) is a 500.
///
/// The limits are those of [`Limits::default`]. A panic of the handler is not caught, so that the test
/// fails, unless there is a [layer](crate::Router::layer) around it, which gets a 500 as in a server.
/// Content that the handler streams is complete when it is called. Streams of the response can be read
/// while they are produced: [`Response::into_pieces`].
///
/// Methods panic if the target is invalid, as [`Request::new`] does.
#[derive(Debug)]
pub struct TestClient {
    handler: BoxHandler,
    #[cfg(feature = "cookies")]
    cookies: CookieJar,
    /// Field lines of requests that have none of the name.
    headers: Vec<(String, String)>,
    max_redirects: usize,
}

impl TestClient {
    /// Creates a client without cookies.
    pub fn new(handler: impl Handler + 'static) -> Self {
        Self {
            handler: BoxHandler::new(handler),
            #[cfg(feature = "cookies")]
            cookies: CookieJar::default(),
            headers: Vec::new(),
            max_redirects: MAX_REDIRECTS,
        }
    }

    /// Returns redirects and does not follow them.
    pub fn without_redirects(mut self) -> Self {
        self.max_redirects = 0;
        self
    }

    /// Adds a header field to all requests that have none of this name: an Authorization, for example.
    ///
    /// # Panics
    ///
    /// As [`Request::with_header`], when a request is sent.
    pub fn with_header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Sends a GET request.
    pub fn get(&self, target: &str) -> Response {
        self.send(Request::get(target))
    }

    /// Sends a POST request without a Content-Type.
    pub fn post(&self, target: &str, content: impl Into<Vec<u8>>) -> Response {
        self.send(Request::post(target, content))
    }

    /// Sends a PUT request without a Content-Type.
    pub fn put(&self, target: &str, content: impl Into<Vec<u8>>) -> Response {
        self.send(Request::new(Method::PUT, target).with_content(content))
    }

    /// Sends a PATCH request without a Content-Type.
    pub fn patch(&self, target: &str, content: impl Into<Vec<u8>>) -> Response {
        self.send(Request::new(Method::PATCH, target).with_content(content))
    }

    /// Sends a DELETE request.
    pub fn delete(&self, target: &str) -> Response {
        self.send(Request::new(Method::DELETE, target))
    }

    /// Sends a value as JSON with POST. Panics as [`Request::with_json`] does.
    pub fn post_json(&self, target: &str, value: &(impl Serialize + ?Sized)) -> Response {
        self.send(Request::new(Method::POST, target).with_json(value))
    }

    /// Sends a value as JSON with PUT. Panics as [`Request::with_json`] does.
    pub fn put_json(&self, target: &str, value: &(impl Serialize + ?Sized)) -> Response {
        self.send(Request::new(Method::PUT, target).with_json(value))
    }

    /// Sends a value as JSON with PATCH. Panics as [`Request::with_json`] does.
    pub fn patch_json(&self, target: &str, value: &(impl Serialize + ?Sized)) -> Response {
        self.send(Request::new(Method::PATCH, target).with_json(value))
    }

    /// Sends a value as an urlencoded form with POST. Panics as [`Request::with_form`] does. A form with
    /// files is made with [`Request::with_form_data`].
    pub fn post_form(&self, target: &str, value: &(impl Serialize + ?Sized)) -> Response {
        self.send(Request::new(Method::POST, target).with_form(value))
    }

    /// Sends a request. A Host field is added if there is none, and the cookies for its path.
    ///
    /// A redirect to the same host is followed: 307 and 308 with the same method and content, others with
    /// GET, unless the method is HEAD (RFC 9110 §15.4). After 20 redirects the next one is returned.
    pub fn send(&self, request: Request<'static>) -> Response {
        let mut request = self.with_default_headers(request);
        let mut response = self.exchange(&request);
        for _ in 0..self.max_redirects {
            let Some(next) = redirected(&request, &response) else {
                break;
            };
            request = next;
            response = self.exchange(&request);
        }
        response
    }

    /// Returns the value of a cookie of this name, percent-decoded.
    #[cfg(feature = "cookies")]
    pub fn cookie(&self, name: &str) -> Option<String> {
        self.cookies.value(name)
    }

    fn with_default_headers(&self, request: Request<'static>) -> Request<'static> {
        let own = self.headers.iter();
        let own = own.map(|(name, value)| (name.as_str(), value.as_str()));
        own.chain([("Host", "localhost")])
            .fold(request, |request, (name, value)| {
                match request.fields().first(name) {
                    Some(_) => request,
                    None => request.with_header(name, value),
                }
            })
    }

    fn exchange(&self, request: &Request<'static>) -> Response {
        let request = request.clone();
        #[cfg(feature = "cookies")]
        let request = self.cookies.add_to(request);
        let mut response = respond(&self.handler, &request);
        normalize(&mut response);
        #[cfg(feature = "cookies")]
        self.cookies.store(request.path(), &response);
        if *request.method() == Method::HEAD {
            response = response.with_body(Body::Empty);
        }
        response
    }
}

/// Calls the handler as a server does.
fn respond(handler: &BoxHandler, request: &Request<'static>) -> Response {
    let len = request.content().len();
    if len == 0 {
        return handler.handle(request).wait();
    }
    let admission = Admission::default();
    let head = request.without_content();
    let head = head.with_admission(&admission);
    let max = match handler.admit(&head) {
        BodyPolicy::Buffer { max } => max.min(Limits::default().max_content_bytes) as u64,
        BodyPolicy::Stream { max } => max,
        BodyPolicy::Reject(response) => return response,
    };
    if len as u64 > max {
        let too_large = Rejection::new(StatusCode::PAYLOAD_TOO_LARGE, "content too large");
        admission.mark_decided();
        return handler.reject(&head, too_large);
    }
    let request = request.with_admission(admission.mark_decided());
    handler.handle(&request).wait()
}

/// Changes a response as a server does: its fields of framing are those of its body.
fn normalize(response: &mut Response) {
    if response.is_upgrade() {
        return;
    }
    response.make_final();
    let is_bodiless = matches!(
        response.status(),
        StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED
    );
    let length = response.body().length().filter(|_| !is_bodiless);
    let fields = response.headers_mut();
    fields.remove(TRANSFER_ENCODING);
    match length {
        Some(length) => drop(fields.insert(CONTENT_LENGTH, length.into())),
        None => drop(fields.remove(CONTENT_LENGTH)),
    }
}

/// Returns the request to which a redirect leads.
fn redirected(request: &Request<'static>, response: &Response) -> Option<Request<'static>> {
    let keeps_method = match response.status() {
        StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT => true,
        StatusCode::MOVED_PERMANENTLY | StatusCode::FOUND | StatusCode::SEE_OTHER => {
            matches!(*request.method(), Method::GET | Method::HEAD)
        }
        _ => return None,
    };
    let location = response.headers().get(LOCATION)?.to_str().ok()?;
    let target = resolve(request, location)?;
    let method = if keeps_method {
        request.method().clone()
    } else {
        Method::GET
    };
    let mut next = Request::parse(method, &target).ok()?;
    next = next.with_client_addr(request.client_addr());
    if request.is_secure() {
        next = next.encrypted();
    }
    for (name, value) in request.fields() {
        let is_of_content = name.to_ascii_lowercase().starts_with("content-");
        let is_length = name.eq_ignore_ascii_case("content-length");
        let is_kept = keeps_method || !is_of_content;
        if is_kept && !is_length {
            next = next.with_header(name, std::str::from_utf8(value).ok()?);
        }
    }
    if keeps_method && !request.content().is_empty() {
        next = next.with_content(request.content());
    }
    Some(next)
}

/// Returns the target of a Location (RFC 9110 §10.2.2) relative to that of a request. `None` if it is on
/// another host.
fn resolve(request: &Request<'_>, location: &str) -> Option<String> {
    let location = location.split('#').next().unwrap_or_default();
    let scheme = ["http:", "https:"].into_iter().find(|scheme| {
        let start = location.get(..scheme.len());
        start.is_some_and(|start| start.eq_ignore_ascii_case(scheme))
    });
    let rest = &location[scheme.map_or(0, str::len)..];
    if let Some(absolute) = rest.strip_prefix("//") {
        let end = absolute.find(['/', '?']).unwrap_or(absolute.len());
        let (authority, path) = absolute.split_at(end);
        let is_here = request.header("host")?.eq_ignore_ascii_case(authority);
        let slash = if path.starts_with('/') { "" } else { "/" };
        return is_here.then(|| format!("{slash}{path}"));
    }
    let path = request.target().split('?').next().unwrap_or_default();
    let folder = path.rfind('/').map_or("/", |at| &path[..=at]);
    Some(match rest.as_bytes().first() {
        Some(b'/') => rest.to_owned(),
        Some(b'?') | None => format!("{path}{rest}"),
        Some(_) => format!("{folder}{rest}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handler::router::Router;
    use crate::handler::{StreamingBody, blocking};

    fn to(location: &'static str) -> impl Fn(&Request<'_>) -> Response + Clone {
        move |_| Response::see_other(location)
    }

    #[test]
    fn redirects_are_followed_on_the_same_host() {
        let echo = |request: &Request<'_>| {
            let content = String::from_utf8_lossy(request.content()).into_owned();
            let media_type = request.header("content-type").unwrap_or("none");
            let (method, target) = (request.method(), request.target());
            Response::text(format!("{method} {target} {media_type} {content}"))
        };
        let again = |_: &Request<'_>| Response::temporary_redirect("/echo?again");
        let router = Router::new()
            .get("/echo", echo)
            .post("/echo", echo)
            .post("/see", to("/echo"))
            .post("/again", again)
            .get("/a/relative", to("../echo?x#y"))
            .get("/absolute", to("HTTP://localhost/echo"))
            .get("/network", to("//localhost/echo"))
            .get("/elsewhere", to("https://example.org/echo"))
            .get("/loop", to("/loop"));
        let client = TestClient::new(router);
        let text = |response: Response| response.into_text().expect("text");
        let post = |target| text(client.post_json(target, "x"));
        assert_eq!(post("/see"), "GET /echo none ");
        assert_eq!(post("/again"), "POST /echo?again application/json \"x\"");
        let get = |target| text(client.get(target));
        assert_eq!(get("/a/relative"), "GET /a/../echo?x none ");
        assert_eq!(get("/absolute"), "GET /echo none ");
        assert_eq!(get("/network"), "GET /echo none ");
        assert_eq!(client.get("/elsewhere").status(), 303);
        assert_eq!(client.get("/loop").status(), 303);
        let client = client.without_redirects();
        assert_eq!(client.get("/absolute").status(), 303);
    }

    #[test]
    fn default_headers_are_added_to_requests_without_them() {
        let echo = |request: &Request<'_>| {
            let field = |name| request.header(name).unwrap_or("none").to_owned();
            Response::text(format!("{} {}", field("authorization"), field("host")))
        };
        let router = Router::new()
            .get("/echo", echo)
            .get("/see", to("http://h/echo"));
        let client = TestClient::new(router)
            .with_header("Authorization", "Bearer a")
            .with_header("Host", "h");
        let text = |request| client.send(request).into_text().expect("text");
        assert_eq!(text(Request::get("/echo")), "Bearer a h");
        assert_eq!(text(Request::get("/see")), "Bearer a h");
        let own = Request::get("/echo").with_header("authorization", "b");
        assert_eq!(text(own), "b h");
    }

    #[test]
    fn every_method_has_its_content() {
        let echo = |request: &Request<'_>| {
            let content = String::from_utf8_lossy(request.content()).into_owned();
            let media_type = request.header("content-type").unwrap_or("none");
            Response::text(format!("{} {media_type} {content}", request.method()))
        };
        let client = TestClient::new(Router::new().any("/", echo));
        for (response, expected) in [
            (client.put("/", "x"), "PUT none x"),
            (client.patch("/", "x"), "PATCH none x"),
            (client.delete("/"), "DELETE none "),
            (client.post_json("/", &7), "POST application/json 7"),
            (client.put_json("/", &7), "PUT application/json 7"),
            (client.patch_json("/", &7), "PATCH application/json 7"),
            (
                client.post_form("/", &[("a", "b c")]),
                "POST application/x-www-form-urlencoded a=b+c",
            ),
        ] {
            assert_eq!(response.into_text().expect("text"), expected);
        }
    }

    #[test]
    fn response_is_that_of_a_server() {
        let handler = |request: &Request<'_>| {
            let status: StatusCode = request.path()[1..].parse().expect("a status");
            Response::text("four")
                .with_status(status)
                .with_header(CONTENT_LENGTH, "2")
                .with_header(TRANSFER_ENCODING, "chunked")
        };
        let client = TestClient::new(handler);
        for (method, target, status, length, content) in [
            (Method::GET, "/200", 200, Some("4"), "four"),
            (Method::HEAD, "/200", 200, Some("4"), ""),
            (Method::GET, "/204", 204, None, ""),
            (Method::GET, "/205", 205, Some("0"), ""),
            (Method::GET, "/304", 304, None, ""),
        ] {
            let response = client.send(Request::new(method, target));
            assert_eq!(response.status(), status);
            let field = response.headers().get(CONTENT_LENGTH);
            let field = field.map(|value| value.to_str().expect("text"));
            assert_eq!(field, length, "{target}");
            assert!(!response.headers().contains_key(TRANSFER_ENCODING));
            assert_eq!(response.into_text().expect("text"), content, "{target}");
        }
        for interim in ["/100", "/101", "/103"] {
            assert_eq!(client.get(interim).status(), 500, "{interim}");
        }
    }

    #[test]
    fn content_is_admitted_as_by_a_server() {
        let length = |request: &Request<'_>| {
            let mut content = Vec::new();
            let read = std::io::Read::read_to_end(&mut request.reader(), &mut content);
            read.map(|len| Response::json(&len))
                .map_err(crate::HandlerError::from)
        };
        let small = |request: &Request<'_>| Response::json(&request.content().len());
        let router = Router::new()
            .post("/streamed", blocking(length).streaming(2 << 20))
            .post("/small", StreamingBody::new(small, 3))
            .post("/buffered", small);
        let client = TestClient::new(router);
        let post = |target, len| client.post(target, vec![0; len]).status().as_u16();
        assert_eq!(post("/streamed", 2 << 20), 200);
        assert_eq!(post("/streamed", (2 << 20) + 1), 413);
        assert_eq!(post("/small", 3), 200);
        assert_eq!(post("/small", 4), 413);
        assert_eq!(post("/buffered", 1 << 20), 200);
        assert_eq!(post("/buffered", (1 << 20) + 1), 413);
        assert_eq!(post("/none", 1), 404);
        let head = client.send(Request::new(Method::HEAD, "/"));
        assert_eq!(head.into_text().expect("text"), "");
    }
}
