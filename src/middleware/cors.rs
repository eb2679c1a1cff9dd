//! Cross-origin resource sharing for a handler.

use std::fmt;

use ::http::{HeaderValue, StatusCode};

use crate::explain_log::{Escaped, explain};
use crate::handler::{BodyPolicy, CatchPanics, Handler, Outcome};
use crate::http::cors::{AllowedOrigins, CorsFields};
use crate::http::{Rejection, Request, Response, cors};
use crate::site::Origin;

/// Permits pages of certain origins, or of any (`*`), to read the responses of a handler, including
/// errors, and responds to the preflight requests of browsers (Fetch §4.8). The pages may also read the
/// fields Accept-Ranges, Content-Length, Content-Range, ETag and Location. A response whose handler set
/// Access-Control-Allow-Origin itself is left unchanged.
///
/// ```
/// use tws::{Cors, Handler, Request, Response, site::Origin};
///
/// # fn main() -> Result<(), tws::Error> {
/// let hello = |_: &Request<'_>| Response::text("hello");
/// let open = Cors::new(hello, &"https://example.org".parse::<Origin>()?);
/// let response = open.handle(&Request::get("/")).wait();
/// assert_eq!(response.headers()["Access-Control-Allow-Origin"], "https://example.org");
/// # Ok(())
/// # }
/// ```
pub struct Cors {
    /// Browsers show the 500 of a panic to the page only with the fields.
    inner: CatchPanics,
    origins: Option<AllowedOrigins>,
}

impl fmt::Debug for Cors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cors")
            .field("origins", &self.origins)
            .finish_non_exhaustive()
    }
}

/// The limit of a preflight's content, in bytes. It has no meaning; up to this limit it is read and
/// discarded, so that the connection can be reused.
const MAX_IGNORED_BYTES: usize = 64 * 1024;

impl Cors {
    /// Wraps `inner` and permits pages of `origin`.
    pub fn new(inner: impl Handler + 'static, origin: &Origin) -> Self {
        Self {
            inner: CatchPanics(Box::new(inner)),
            origins: allowed([origin]),
        }
    }

    /// Permits pages of these origins instead. Without an origin, no pages are permitted.
    pub fn of_origins<'o>(mut self, origins: impl IntoIterator<Item = &'o Origin>) -> Self {
        self.origins = allowed(origins);
        self
    }
}

/// Returns the origins in the form that responses need.
pub(super) fn allowed<'o>(origins: impl IntoIterator<Item = &'o Origin>) -> Option<AllowedOrigins> {
    let values = origins.into_iter();
    let values = values.filter_map(|origin| HeaderValue::try_from(origin.as_str()).ok());
    AllowedOrigins::new(values)
}

impl Cors {
    fn fields_for(&self, request: &Request<'_>) -> Option<CorsFields> {
        let origins = self.origins.as_ref()?;
        if let (Some(origin), AllowedOrigins::Several(_)) =
            (request.fields().first("origin"), origins)
        {
            let may = match origins.matching(request) {
                Some(_) => "may",
                None => "must not",
            };
            explain!(
                "cors",
                "pages of {} {may} read the response",
                Escaped(origin)
            );
        }
        Some(origins.fields_for(request))
    }
}

impl Handler for Cors {
    fn handle(&self, request: &Request<'_>) -> Outcome {
        let fields = self.fields_for(request);
        if cors::is_preflight(request) {
            explain!("cors", "a preflight request is answered on every path");
            // All methods are permitted; the request itself gets a 405 where a method is not supported.
            let response = cors::permit(Response::new(StatusCode::NO_CONTENT), "*");
            return add_fields(fields, response).into();
        }
        let outcome = self.inner.handle(request);
        outcome.map(move |response| add_fields(fields, response))
    }

    fn admit(&self, request: &Request<'_>) -> BodyPolicy {
        if cors::is_preflight(request) {
            return BodyPolicy::Buffer {
                max: MAX_IGNORED_BYTES,
            };
        }
        match self.inner.admit(request) {
            BodyPolicy::Reject(response) => {
                BodyPolicy::Reject(add_fields(self.fields_for(request), response))
            }
            policy => policy,
        }
    }

    fn reject(&self, request: &Request<'_>, rejection: Rejection) -> Response {
        let response = self.inner.reject(request, rejection);
        add_fields(self.fields_for(request), response)
    }
}

fn add_fields(cors: Option<CorsFields>, mut response: Response) -> Response {
    if let Some(cors) = cors {
        cors.add(response.headers_mut());
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
    fn response_names_the_origin_of_the_request_if_it_is_one_of_several() {
        let origins: Vec<Origin> = ["https://a.test", "http://b.test:8080"]
            .iter()
            .map(|origin| origin.parse().expect("an origin"))
            .collect();
        let handler = open("*").of_origins(&origins);
        for (origin, expected) in [
            (Some("https://a.test"), Some("https://a.test")),
            (Some("http://b.test:8080"), Some("http://b.test:8080")),
            (Some("http://b.test"), None),
            (Some("https://a.test.evil.test"), None),
            (Some("null"), None),
            (None, None),
        ] {
            for method in [Method::GET, Method::OPTIONS] {
                let request = Request::new(method, "/none")
                    .with_header("Access-Control-Request-Method", "PUT");
                let request = match origin {
                    Some(origin) => request.with_header("Origin", origin),
                    None => request,
                };
                let response = handler.handle(&request).wait();
                let fields = response.headers();
                let allowed = fields.get(ACCESS_CONTROL_ALLOW_ORIGIN);
                let allowed = allowed.map(|value| value.to_str().expect("text"));
                assert_eq!(allowed, expected, "{origin:?}");
                assert_eq!(fields[VARY], "Origin", "{origin:?}");
            }
        }
        let any = open("https://a.test").of_origins(&["*".parse().expect("an origin")]);
        let response = any.handle(&Request::get("/none")).wait();
        assert_eq!(fields_of(&response), (404, "*", vec![]));
        let exposed = &response.headers()["Access-Control-Expose-Headers"];
        for name in [
            "Content-Range",
            "ETag",
            "Accept-Ranges",
            "Content-Length",
            "Location",
        ] {
            assert!(exposed.to_str().expect("text").contains(name), "{name}");
        }
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
