//! Lets pages of another origin use a handler.

use ::http::{HeaderValue, StatusCode};

use crate::explain_log::explain;
use crate::handler::{BodyPolicy, Handler, Outcome};
use crate::http::{Rejection, Request, Response, cors};
use crate::site::Origin;

/// Lets pages of an origin, or of all (`*`), read what a handler answers, errors too, and answers
/// the preflights that browsers send before (Fetch §4.8). What the handler itself says of origins
/// stands.
///
/// ```
/// use tws::{Cors, Handler, Request, Response, site::Origin};
///
/// # fn main() -> Result<(), String> {
/// let hello = |_: &Request<'_>| Response::text("hello");
/// let open = Cors::new(hello, &"https://example.org".parse::<Origin>()?);
/// let response = open.handle(&Request::get("/")).wait();
/// assert_eq!(response.headers()["Access-Control-Allow-Origin"], "https://example.org");
/// # Ok(())
/// # }
/// ```
pub struct Cors {
    inner: Box<dyn Handler>,
    origin: Option<HeaderValue>,
}

/// The content of a preflight means nothing; a little is read past, to keep the connection.
const MAX_IGNORED_BYTES: usize = 64 * 1024;

impl Cors {
    /// Lets pages of `origin` use `inner`.
    pub fn new(inner: impl Handler + 'static, origin: &Origin) -> Self {
        Self {
            inner: Box::new(inner),
            origin: HeaderValue::try_from(origin.as_str()).ok(),
        }
    }
}

impl Handler for Cors {
    fn handle(&self, request: &Request<'_>) -> Outcome {
        let origin = self.origin.clone();
        if cors::is_preflight(request) {
            explain!("cors", "a preflight request is answered on every path");
            // All methods: which of them are there is said to the request itself.
            let response = cors::permit(Response::new(StatusCode::NO_CONTENT), "*");
            return add_origin(origin.as_ref(), response).into();
        }
        let reply = self.inner.handle(request);
        reply.map(move |response| add_origin(origin.as_ref(), response))
    }

    fn admit(&self, request: &Request<'_>) -> BodyPolicy {
        if cors::is_preflight(request) {
            return BodyPolicy::Buffer {
                max: MAX_IGNORED_BYTES,
            };
        }
        match self.inner.admit(request) {
            BodyPolicy::Reject(response) => {
                BodyPolicy::Reject(add_origin(self.origin.as_ref(), response))
            }
            admission => admission,
        }
    }

    fn reject(&self, request: &Request<'_>, rejection: Rejection) -> Response {
        let response = self.inner.reject(request, rejection);
        add_origin(self.origin.as_ref(), response)
    }

    fn shed(&self) {
        self.inner.shed();
    }
}

fn add_origin(origin: Option<&HeaderValue>, mut response: Response) -> Response {
    if let Some(origin) = origin {
        cors::add_origin(origin, response.headers_mut());
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::http::Method;
    use ::http::header::{ACCESS_CONTROL_ALLOW_ORIGIN, VARY};

    fn open(origin: &str) -> Cors {
        let inner = |request: &Request<'_>| match request.path() {
            "/304" => Response::new(StatusCode::NOT_MODIFIED).with_header(VARY, "Accept"),
            "/own" => {
                Response::text("").with_header(ACCESS_CONTROL_ALLOW_ORIGIN, "https://own.test")
            }
            _ => Response::new(StatusCode::NOT_FOUND),
        };
        Cors::new(inner, &origin.parse().expect("an origin"))
    }

    fn said(response: &Response) -> (u16, &str, Vec<&str>) {
        let fields = response.headers();
        let vary = fields.get_all(VARY).iter();
        (
            response.status().as_u16(),
            fields[ACCESS_CONTROL_ALLOW_ORIGIN].to_str().expect("text"),
            vary.map(|value| value.to_str().expect("text")).collect(),
        )
    }

    #[test]
    fn every_answer_says_who_may_read_it() {
        let origin = "https://a.test";
        for (allowed, path, expected) in [
            ("*", "/304", (304, "*", vec!["Accept"])),
            ("*", "/none", (404, "*", vec![])),
            (origin, "/304", (304, origin, vec!["Accept", "Origin"])),
            (origin, "/none", (404, origin, vec!["Origin"])),
            (origin, "/own", (200, "https://own.test", vec![])),
        ] {
            let handler = open(allowed);
            let response = handler.handle(&Request::get(path)).wait();
            assert_eq!(said(&response), expected, "{allowed} {path}");
        }
        let refused = open(origin).reject(&Request::get("/"), Rejection::bad_request("no"));
        assert_eq!(said(&refused), (400, origin, vec!["Origin"]));
    }

    #[test]
    fn a_preflight_never_reaches_the_handler() {
        let handler = open("https://a.test");
        let preflight = Request::new(Method::OPTIONS, "/none")
            .with_header("Origin", "https://a.test")
            .with_header("Access-Control-Request-Method", "PUT");
        let response = handler.handle(&preflight).wait();
        assert_eq!(said(&response), (204, "https://a.test", vec!["Origin"]));
        let fields = response.headers();
        assert_eq!(fields["Access-Control-Allow-Methods"], "*");
        assert_eq!(fields["Access-Control-Allow-Headers"], "*, Authorization");
        // Without the question it is an OPTIONS like any other.
        let options =
            Request::new(Method::OPTIONS, "/none").with_header("Origin", "https://a.test");
        assert_eq!(handler.handle(&options).wait().status(), 404);
    }

    /// Refuses all contents.
    struct Closed;

    impl Handler for Closed {
        fn handle(&self, _: &Request<'_>) -> Outcome {
            Response::text("").into()
        }

        fn admit(&self, _: &Request<'_>) -> BodyPolicy {
            BodyPolicy::Reject(Response::new(StatusCode::FORBIDDEN))
        }
    }

    #[test]
    fn a_page_can_read_why_its_content_is_refused() {
        let handler = Cors::new(Closed, &"*".parse().expect("an origin"));
        match handler.admit(&Request::post("/", "a")) {
            BodyPolicy::Reject(response) => assert_eq!(said(&response), (403, "*", vec![])),
            other => panic!("{other:?}"),
        }
        let preflight = Request::new(Method::OPTIONS, "/")
            .with_header("Access-Control-Request-Method", "PUT")
            .with_content("a");
        assert!(matches!(
            handler.admit(&preflight),
            BodyPolicy::Buffer { max: _ }
        ));
    }
}
