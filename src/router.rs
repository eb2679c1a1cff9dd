//! Method and path to handler.
//!
//! A router is a handler itself. It matches the path as the request has it, decoded once and
//! normalised; what it does not know goes to the fallback, a folder of files most often. Methods
//! are answered for as RFC 9110 wants: HEAD by the GET handler, OPTIONS by the router, others
//! with 405 and Allow.

use ::http::{Method, StatusCode};

use crate::handler::{Admission, Handler, Reply};
use crate::http::response;
use crate::http::{Refusal, Request, Response};

/// Chooses a handler by method and path.
///
/// ```
/// use tws::{Handler, Request, Response, Router};
///
/// let router = Router::new()
///     .get("/", |_: &Request<'_>| Response::text("Homepage\n"))
///     .get("/hello/{name}", |request: &Request<'_>| {
///         Response::text(format!("Hello {}\n", request.param("name").unwrap_or("you")))
///     });
/// let response = router.handle(&Request::get("/hello/Ana")).wait();
/// assert_eq!(response.status(), 200);
/// ```
///
/// Patterns are those of `matchit`: `{name}` is one segment or a part of it, `{*rest}` all that
/// follows, `{{` a brace. Of several patterns that match a path, the most exact one counts.
#[derive(Default)]
pub struct Router {
    paths: matchit::Router<usize>,
    /// What `paths` gives an index into.
    routes: Vec<Route>,
    fallback: Option<Box<dyn Handler>>,
}

/// One pattern with its handlers, one for each method.
struct Route {
    pattern: String,
    handlers: Vec<(Method, Box<dyn Handler>)>,
}

impl Router {
    /// A router that knows no path.
    pub fn new() -> Self {
        Self::default()
    }

    /// Answers GET, and HEAD with it. Panics as [`route`](Self::route) does.
    pub fn get(self, pattern: &str, handler: impl Handler + 'static) -> Self {
        self.route(Method::GET, pattern, handler)
    }

    /// Answers POST. Panics as [`route`](Self::route) does.
    pub fn post(self, pattern: &str, handler: impl Handler + 'static) -> Self {
        self.route(Method::POST, pattern, handler)
    }

    /// Answers one method on the paths that match a pattern.
    ///
    /// # Panics
    ///
    /// If the pattern does not start with a slash or is ill-formed, if it is in conflict with an
    /// earlier one (`/{id}` and `/{name}`), or if the route exists already: a mistake in the
    /// program that is better found when it starts.
    pub fn route(mut self, method: Method, pattern: &str, handler: impl Handler + 'static) -> Self {
        assert!(
            pattern.starts_with('/'),
            "route {pattern:?}: a pattern starts with a slash"
        );
        let route = self.route_of(pattern);
        let known = route.handlers.iter().any(|(known, _)| *known == method);
        assert!(
            !known,
            "route {pattern:?}: it has a handler for {method} already"
        );
        route.handlers.push((method, Box::new(handler)));
        self
    }

    /// Answers all that no route matches. Without a fallback that is 404.
    pub fn fallback(mut self, handler: impl Handler + 'static) -> Self {
        self.fallback = Some(Box::new(handler));
        self
    }

    fn route_of(&mut self, pattern: &str) -> &mut Route {
        let known = self
            .routes
            .iter()
            .position(|route| route.pattern == pattern);
        let index = known.unwrap_or_else(|| {
            let index = self.routes.len();
            if let Err(error) = self.paths.insert(pattern, index) {
                panic!("route {pattern:?}: {error}");
            }
            self.routes.push(Route {
                pattern: pattern.to_owned(),
                handlers: Vec::new(),
            });
            index
        });
        &mut self.routes[index]
    }

    /// Who answers, and what the pattern's parameters matched. If nobody does, how the router
    /// itself answers.
    fn find(&self, request: &Request<'_>) -> Result<(&dyn Handler, Params), Answer<'_>> {
        let path = std::str::from_utf8(request.path_bytes()).ok();
        if let Some(found) = path.and_then(|path| self.paths.at(path).ok()) {
            let route = &self.routes[*found.value];
            return match route.handler(request.method()) {
                Some(handler) => Ok((handler, owned(&found.params))),
                None => Err(Answer::Methods(std::slice::from_ref(route))),
            };
        }
        match (&self.fallback, request.path_bytes()) {
            (Some(fallback), _) => Ok((&**fallback, Params::new())),
            // The asterisk and the authority form mean the server as a whole.
            (None, b"*" | b"") => Err(Answer::Methods(&self.routes)),
            (None, _) => Err(Answer::NotFound),
        }
    }

    fn answer(&self, method: &Method, answer: &Answer<'_>) -> Response {
        let routes = match *answer {
            Answer::NotFound => {
                let status = StatusCode::NOT_FOUND;
                return Response::text(format!("{status}\n")).with_status(status);
            }
            Answer::Methods(routes) => routes,
        };
        let allow = allowed(routes);
        if *method == Method::OPTIONS {
            return response::allowing(Response::new(StatusCode::NO_CONTENT), &allow);
        }
        // An extension method that some other path knows is implemented, just not here.
        let mut known = self.routes.iter().flat_map(Route::methods);
        if known.any(|known| known == method) {
            response::not_allowed(&allow)
        } else {
            response::method_not_allowed(method, &allow)
        }
    }
}

type Params = Vec<(String, String)>;

/// What the router says when there is no handler.
enum Answer<'r> {
    /// Which methods these routes know, as 204 or as 405.
    Methods(&'r [Route]),
    NotFound,
}

impl Route {
    fn handler(&self, method: &Method) -> Option<&dyn Handler> {
        let of = |wanted: &Method| {
            let found = self.handlers.iter().find(|(method, _)| method == wanted);
            found.map(|(_, handler)| &**handler)
        };
        // RFC 9110 §9.3.2: HEAD is GET whose content the connection does not send.
        of(method).or_else(|| match *method {
            Method::HEAD => of(&Method::GET),
            _ => None,
        })
    }

    fn methods(&self) -> impl Iterator<Item = &Method> {
        self.handlers.iter().map(|(method, _)| method)
    }
}

fn allowed(routes: &[Route]) -> Vec<Method> {
    let mut allow = vec![Method::OPTIONS];
    for method in routes.iter().flat_map(Route::methods) {
        allow.push(method.clone());
        if *method == Method::GET {
            allow.push(Method::HEAD);
        }
    }
    allow
}

fn owned(params: &matchit::Params<'_, '_>) -> Params {
    let pair = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
    params.iter().map(pair).collect()
}

impl Handler for Router {
    fn handle(&self, request: &Request<'_>) -> Reply {
        match self.find(request) {
            Ok((handler, params)) if params.is_empty() => handler.handle(request),
            Ok((handler, params)) => handler.handle(&request.with_params(params)),
            Err(answer) => self.answer(request.method(), &answer).into(),
        }
    }

    fn admit(&self, request: &Request<'_>) -> Admission {
        match self.find(request) {
            Ok((handler, params)) => handler.admit(&request.with_params(params)),
            Err(answer) => Admission::Refuse(self.answer(request.method(), &answer)),
        }
    }

    fn refuse(&self, request: &Request<'_>, refusal: Refusal) -> Response {
        match self.find(request) {
            Ok((handler, params)) => handler.refuse(&request.with_params(params), refusal),
            Err(_) => refusal.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::http::header::{ALLOW, CONNECTION};

    use crate::http::Body;

    /// Answers with its name and the parameters of the route.
    struct Named(&'static str);

    impl Handler for Named {
        fn handle(&self, request: &Request<'_>) -> Reply {
            let param = |name| request.param(name).unwrap_or("");
            Response::text(format!("{} {}{}", self.0, param("name"), param("rest"))).into()
        }

        fn refuse(&self, request: &Request<'_>, refusal: Refusal) -> Response {
            let name = request.param("name").unwrap_or("");
            Response::text(format!("refused by {} {name}", self.0)).with_status(refusal.status())
        }
    }

    fn router() -> Router {
        let brew = Method::from_bytes(b"BREW").expect("a method");
        Router::new()
            .get("/", |_: &Request<'_>| Response::text("home"))
            .get("/hello/{name}", Named("hello"))
            .get("/hello/you", Named("you"))
            .get("/all/{*rest}", Named("all"))
            .get("/both", Named("get"))
            .post("/both", Named("post"))
            .route(Method::HEAD, "/own", Named("head"))
            .get("/own", Named("get"))
            .route(Method::OPTIONS, "/own", Named("options"))
            .route(Method::DELETE, "/x", Named("delete"))
            .route(brew, "/tea", Named("brew"))
    }

    fn ask(router: &Router, method: &str, target: &str) -> (u16, String, Option<String>) {
        let method = Method::from_bytes(method.as_bytes()).expect("a method");
        let response = router.handle(&Request::new(method, target)).wait();
        let status = response.status().as_u16();
        let closes = response.headers().contains_key(CONNECTION);
        assert_eq!(closes, matches!(status, 405 | 501), "{target}");
        let allow = response.headers().get(ALLOW).map(|allow| {
            let text = allow.to_str().expect("text");
            text.to_owned()
        });
        (status, text(&response), allow)
    }

    fn text(response: &Response) -> String {
        match response.body() {
            Body::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            Body::Empty => String::new(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn methods_and_paths() {
        const NOT_FOUND: &str = "404 Not Found\n";
        const NOT_ALLOWED: &str = "405 Method Not Allowed\n";
        const UNKNOWN: &str = "501 Not Implemented: unknown method\n";
        let get = Some("GET, HEAD, OPTIONS");
        let table = [
            ("GET", "/", 200, "home", None),
            ("GET", "/?q=1", 200, "home", None),
            ("HEAD", "/", 200, "home", None),
            ("GET", "/hello/Ana%20B", 200, "hello Ana B", None),
            ("GET", "/hello/%C3%B1", 200, "hello ñ", None),
            ("GET", "/hello/you", 200, "you ", None),
            ("GET", "/x/../hello/./Ana", 200, "hello Ana", None),
            ("GET", "/all/a/b", 200, "all a/b", None),
            ("GET", "/both", 200, "get ", None),
            ("POST", "/both", 200, "post ", None),
            ("HEAD", "/own", 200, "head ", None),
            ("OPTIONS", "/own", 200, "options ", None),
            ("BREW", "/tea", 200, "brew ", None),
            ("OPTIONS", "/", 204, "", get),
            ("OPTIONS", "/x", 204, "", Some("DELETE, OPTIONS")),
            (
                "OPTIONS",
                "*",
                204,
                "",
                Some("BREW, DELETE, GET, HEAD, OPTIONS, POST"),
            ),
            ("POST", "/", 405, NOT_ALLOWED, get),
            ("TRACE", "/hello/Ana", 405, NOT_ALLOWED, get),
            (
                "PUT",
                "/both",
                405,
                NOT_ALLOWED,
                Some("GET, HEAD, OPTIONS, POST"),
            ),
            ("HEAD", "/x", 405, NOT_ALLOWED, Some("DELETE, OPTIONS")),
            ("BREW", "/x", 405, NOT_ALLOWED, Some("DELETE, OPTIONS")),
            (
                "CONNECT",
                "h:1",
                405,
                NOT_ALLOWED,
                Some("BREW, DELETE, GET, HEAD, OPTIONS, POST"),
            ),
            ("STEEP", "/", 501, UNKNOWN, None),
            ("get", "/", 501, UNKNOWN, None),
            ("GET", "/none", 404, NOT_FOUND, None),
            ("GET", "/both/", 404, NOT_FOUND, None),
            ("GET", "/hello/", 404, NOT_FOUND, None),
            ("GET", "/hello/%FF", 404, NOT_FOUND, None),
            ("OPTIONS", "/none", 404, NOT_FOUND, None),
        ];
        for (method, target, status, content, allow) in table {
            let expected = (status, content.to_owned(), allow.map(str::to_owned));
            assert_eq!(
                ask(&router(), method, target),
                expected,
                "{method} {target}"
            );
        }
    }

    #[test]
    fn the_fallback_gets_what_no_route_matches() {
        let router = router().fallback(Named("fallback"));
        for (method, target, content) in [
            ("GET", "/none", "fallback "),
            ("BREW", "/none", "fallback "),
            ("OPTIONS", "*", "fallback "),
            ("GET", "/hello/%FF", "fallback "),
            ("GET", "/", "home"),
        ] {
            assert_eq!(ask(&router, method, target).1, content, "{method} {target}");
        }
        assert_eq!(ask(&router, "POST", "/").0, 405);
    }

    #[test]
    fn a_refusal_is_worded_by_whoever_would_have_answered() {
        let refusal = Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "content too large");
        let said = |router: &Router, request: &Request<'_>| text(&router.refuse(request, refusal));
        let plain = "413 Payload Too Large: content too large\n";
        let without = router();
        assert_eq!(
            said(&without, &Request::get("/hello/Ana")),
            "refused by hello Ana"
        );
        assert_eq!(
            said(&without, &Request::post("/both", "")),
            "refused by post "
        );
        assert_eq!(said(&without, &Request::get("/")), plain);
        assert_eq!(said(&without, &Request::post("/", "")), plain);
        assert_eq!(said(&without, &Request::get("/none")), plain);
        let with = router().fallback(Named("fallback"));
        assert_eq!(said(&with, &Request::get("/none")), "refused by fallback ");
    }

    #[test]
    fn a_mistaken_pattern_is_named() {
        for (first, second) in [
            ("/a", "/a"),
            ("/{id}", "/{name}"),
            ("/a", "/{*rest}/b"),
            ("/a", "/{"),
            ("/a", "b"),
            ("/a", ""),
        ] {
            let build = || {
                let home = |_: &Request<'_>| Response::text("");
                Router::new().get(first, home).get(second, home);
            };
            let panic = std::panic::catch_unwind(build).expect_err(second);
            let text = panic.downcast_ref::<String>().expect("a message");
            assert!(text.contains(&format!("{second:?}")), "{text}");
        }
    }
}
