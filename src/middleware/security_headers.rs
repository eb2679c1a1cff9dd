//! Header fields that restrict what a browser does with a response.

use super::around::{Around, around};
use crate::handler::BoxHandler;
use crate::http::Response;

/// Fields that suit all pages, and their values.
const FIELDS: [(&str, &str); 4] = [
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "SAMEORIGIN"),
    ("referrer-policy", "strict-origin-when-cross-origin"),
    ("cross-origin-opener-policy", "same-origin"),
];

/// Adds header fields to all responses that do not have them, errors included: X-Content-Type-Options
/// (`nosniff`), X-Frame-Options (`SAMEORIGIN`), Referrer-Policy (`strict-origin-when-cross-origin`) and
/// Cross-Origin-Opener-Policy (`same-origin`). Content-Security-Policy and Strict-Transport-Security depend on
/// the site and are not added.
///
/// ```
/// use tws::{Request, Response, Router, TestClient, security_headers};
///
/// let router = Router::new()
///     .get("/", |_: &Request<'_>| Response::html("<p>hello"))
///     .get("/widget", |_: &Request<'_>| Response::html("<p>hello").with_header("X-Frame-Options", "ALLOWALL"))
///     .layer(security_headers());
/// let client = TestClient::new(router);
/// assert_eq!(client.get("/").headers()["x-frame-options"], "SAMEORIGIN");
/// assert_eq!(client.get("/widget").headers()["x-frame-options"], "ALLOWALL");
/// ```
pub fn security_headers() -> impl Fn(BoxHandler) -> Around {
    around(|request, next| next.run(request).map(add_missing))
}

fn add_missing(mut response: Response) -> Response {
    for (name, value) in FIELDS {
        if !response.headers().contains_key(name) {
            response = response.with_header(name, value);
        }
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handler::Handler;
    use crate::handler::router::Router;
    use crate::http::Request;

    #[test]
    fn every_response_has_each_field_once() {
        let own =
            |_: &Request<'_>| Response::text("").with_header("Referrer-Policy", "no-referrer");
        let router = Router::new().get("/", own).layer(security_headers());
        for (path, policy) in [
            ("/", "no-referrer"),
            ("/none", "strict-origin-when-cross-origin"),
        ] {
            let response = router.handle(&Request::get(path)).wait();
            for (name, _) in FIELDS {
                assert_eq!(
                    response.headers().get_all(name).iter().count(),
                    1,
                    "{path} {name}"
                );
            }
            assert_eq!(response.headers()["referrer-policy"], policy);
        }
    }
}
