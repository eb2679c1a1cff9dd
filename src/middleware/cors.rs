//! Cross-origin resource sharing for a handler.

use ::http::{HeaderValue, StatusCode};

use crate::explain_log::explain;
use crate::handler::{BodyPolicy, Handler, Outcome};
use crate::http::{Rejection, Request, Response, cors};
use crate::site::Origin;

/// Permits pages of one origin, or of any (`*`), to read the responses of a handler, including errors,
/// and responds to the preflight requests of browsers (Fetch §4.8). A response whose handler set
/// Access-Control-Allow-Origin itself is left unchanged.
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

/// The limit of a preflight's content, in bytes. It has no meaning; up to this limit it is read and
/// discarded, so that the connection can be reused.
const MAX_IGNORED_BYTES: usize = 64 * 1024;

impl Cors {
    /// Wraps `inner` and permits pages of `origin`.
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
            // All methods are permitted; the request itself gets a 405 where a method is not supported.
            let response = cors::permit(Response::new(StatusCode::NO_CONTENT), "*");
            return add_origin(origin.as_ref(), response).into();
        }
        let outcome = self.inner.handle(request);
        outcome.map(move |response| add_origin(origin.as_ref(), response))
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
            policy => policy,
        }
    }

    fn reject(&self, request: &Request<'_>, rejection: Rejection) -> Response {
        let response = self.inner.reject(request, rejection);
        add_origin(self.origin.as_ref(), response)
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

    fn fields_of(response: &Response) -> (u16, &str, Vec<&str>) {
        let fields = response.headers();
        let vary = fields.get_all(VARY).iter();
        (
            response.status().as_u16(),
            fields[ACCESS_CONTROL_ALLOW_ORIGIN].to_str().expect("text"),
            vary.map(|value| value.to_str().expect("text")).collect(),
        )
    }

    #[test]
    fn every_response_has_allow_origin() {
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
            assert_eq!(fields_of(&response), expected, "{allowed} {path}");
        }
        let rejected = open(origin).reject(&Request::get("/"), Rejection::bad_request("no"));
        assert_eq!(fields_of(&rejected), (400, origin, vec!["Origin"]));
    }

    #[test]
    fn preflight_does_not_reach_the_handler() {
        let handler = open("https://a.test");
        let preflight = Request::new(Method::OPTIONS, "/none")
            .with_header("Origin", "https://a.test")
            .with_header("Access-Control-Request-Method", "PUT");
        let response = handler.handle(&preflight).wait();
        assert_eq!(
            fields_of(&response),
            (204, "https://a.test", vec!["Origin"])
        );
        let fields = response.headers();
        assert_eq!(fields["Access-Control-Allow-Methods"], "*");
        assert_eq!(fields["Access-Control-Allow-Headers"], "*, Authorization");
        // Without Access-Control-Request-Method it is an ordinary OPTIONS request.
        let options =
            Request::new(Method::OPTIONS, "/none").with_header("Origin", "https://a.test");
        assert_eq!(handler.handle(&options).wait().status(), 404);
    }

    /// Rejects all bodies.
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
    fn rejected_body_has_allow_origin() {
        let handler = Cors::new(Closed, &"*".parse().expect("an origin"));
        match handler.admit(&Request::post("/", "a")) {
            BodyPolicy::Reject(response) => assert_eq!(fields_of(&response), (403, "*", vec![])),
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
