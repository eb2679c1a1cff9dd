//! Method and path to handler.
//!
//! A router is a handler itself. It matches the path as the request has it, decoded once and
//! normalised; what it does not know goes to the fallback, a folder of files most often. Methods
//! are answered for as RFC 9110 wants: HEAD by the GET handler, OPTIONS by the router, others
//! with 405 and Allow. What is nested below a prefix sees the path behind it.

use std::borrow::Cow;

use ::http::{Method, StatusCode};

use crate::explain_log::explain;
use crate::handler::{BodyPolicy, Handler, Outcome};
use crate::http::{Rejection, Request, Response, error_page, response};

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
    nested: Option<Nested>,
}

/// Who answers all that lies below a prefix of so many segments.
struct Nested {
    segments: usize,
    handler: Box<dyn Handler>,
}

/// What stands in a pattern for the path behind a prefix. No program has such a parameter.
const BEHIND: &str = "<behind>";

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

    /// Answers PUT. Panics as [`route`](Self::route) does.
    pub fn put(self, pattern: &str, handler: impl Handler + 'static) -> Self {
        self.route(Method::PUT, pattern, handler)
    }

    /// Answers PATCH. Panics as [`route`](Self::route) does.
    pub fn patch(self, pattern: &str, handler: impl Handler + 'static) -> Self {
        self.route(Method::PATCH, pattern, handler)
    }

    /// Answers DELETE. Panics as [`route`](Self::route) does.
    pub fn delete(self, pattern: &str, handler: impl Handler + 'static) -> Self {
        self.route(Method::DELETE, pattern, handler)
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
            "route {pattern:?}: a pattern must start with a slash"
        );
        let route = self.route_of(pattern);
        let known = route.handlers.iter().any(|(known, _)| *known == method);
        assert!(
            !known && route.nested.is_none(),
            "route {pattern:?}: {method} already has a handler"
        );
        route.handlers.push((method, Box::new(handler)));
        self
    }

    /// Has a handler answer, whatever the method, for a prefix and all that lies below it, except
    /// where a route is more exact.
    ///
    /// ```
    /// use tws::{Handler, Request, Response, Router};
    ///
    /// let users = Router::new().get("/users/{id}", |request: &Request<'_>| {
    ///     let param = |name| request.param(name).unwrap_or("-");
    ///     Response::text(format!("{} of {}\n", param("id"), param("shop")))
    /// });
    /// let router = Router::new().nest("/{shop}/api", users);
    /// assert_eq!(router.handle(&Request::get("/tea/api/users/7")).wait().status(), 200);
    /// ```
    ///
    /// The handler sees the path behind the prefix: with the prefix `/api`, `/api/users` is
    /// `/users`, and both `/api` and `/api/` are `/`. The target stays as it was received, and
    /// [`Request::full_path_bytes`] has the path with the prefix. Parameters of the prefix are
    /// seen beside the handler's own. What a nested router does not know is its own 404.
    ///
    /// # Panics
    ///
    /// As [`route`](Self::route) does, and if the prefix ends with a slash or has a parameter
    /// that stands for several segments.
    pub fn nest(mut self, prefix: &str, handler: impl Handler + 'static) -> Self {
        assert!(
            prefix.starts_with('/') && !prefix.ends_with('/'),
            "prefix {prefix:?}: a prefix must start with a slash and not end with one"
        );
        let index = self.routes.len();
        for end in ["", "/", &format!("/{{*{BEHIND}}}")] {
            if let Err(error) = self.paths.insert(format!("{prefix}{end}"), index) {
                panic!("prefix {prefix:?}: {error}");
            }
        }
        self.routes.push(Route {
            pattern: prefix.to_owned(),
            handlers: Vec::new(),
            nested: Some(Nested {
                segments: prefix.split('/').count() - 1,
                handler: Box::new(handler),
            }),
        });
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
                nested: None,
            });
            index
        });
        &mut self.routes[index]
    }

    /// Who answers, and the request as they see it. If nobody does, how the router itself answers.
    fn find<'r>(
        &self,
        request: &'r Request<'_>,
    ) -> Result<(&dyn Handler, Cow<'r, Request<'r>>), Answer<'_>> {
        let path = request.path_bytes();
        if let Some((route, params)) = self.route_at(path) {
            explain!("route", "{} is a route of the program", route.pattern);
            if let Some(nested) = &route.nested {
                let inside = request.with_params(params).below(nested.prefix_len(path));
                return Ok((&*nested.handler, Cow::Owned(inside)));
            }
            return match route.handler(request.method()) {
                Some(handler) if params.is_empty() => Ok((handler, Cow::Borrowed(request))),
                Some(handler) => Ok((handler, Cow::Owned(request.with_params(params)))),
                None => Err(Answer::Methods(std::slice::from_ref(route))),
            };
        }
        match (&self.fallback, path) {
            (Some(fallback), _) => Ok((&**fallback, Cow::Borrowed(request))),
            // The asterisk and the authority form mean the server as a whole.
            (None, b"*" | b"") => Err(Answer::Methods(&self.routes)),
            (None, _) => Err(Answer::NotFound),
        }
    }

    /// The route for a path, and what its parameters matched. Parameters are text; a path that is
    /// none still has a way to what is nested, if its prefix is text.
    fn route_at(&self, path: &[u8]) -> Option<(&Route, Params)> {
        let text = String::from_utf8_lossy(path);
        let found = self.paths.at(&text).ok()?;
        let route = &self.routes[*found.value];
        if let Cow::Owned(_) = text {
            let nested = route.nested.as_ref()?;
            std::str::from_utf8(&path[..nested.prefix_len(path)]).ok()?;
        }
        Some((route, owned(&found.params)))
    }

    fn answer(&self, request: &Request<'_>, answer: &Answer<'_>) -> Response {
        let method = request.method();
        let routes = match *answer {
            Answer::NotFound => {
                explain!(
                    "route",
                    "no route of the program matches, and there is no fallback"
                );
                let status = StatusCode::NOT_FOUND;
                let plain = Response::text(format!("{status}\n")).with_status(status);
                return error_page::instead_of(plain, request.fields());
            }
            Answer::Methods(routes) => routes,
        };
        let allow = allowed(routes);
        explain!("method", "{method} has no handler on this route");
        if *method == Method::OPTIONS {
            return response::allowing(Response::new(StatusCode::NO_CONTENT), &allow);
        }
        // An extension method that some other path knows is implemented, just not here.
        let mut known = self.routes.iter().flat_map(Route::methods);
        let plain = if known.any(|known| known == method) {
            response::not_allowed(&allow)
        } else {
            response::method_not_allowed(method, &allow)
        };
        error_page::instead_of(plain, request.fields())
    }
}

type Params = Vec<(String, String)>;

/// What the router says when there is no handler.
enum Answer<'r> {
    /// Which methods these routes know, as 204 or as 405.
    Methods(&'r [Route]),
    NotFound,
}

impl Nested {
    /// How many bytes of a path are the prefix: a parameter is one segment or a part of one.
    fn prefix_len(&self, path: &[u8]) -> usize {
        let mut slashes = memchr::memchr_iter(b'/', path);
        slashes.nth(self.segments).unwrap_or(path.len())
    }
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
    let own = params.iter().filter(|(name, _)| *name != BEHIND);
    own.map(pair).collect()
}

impl Handler for Router {
    fn handle(&self, request: &Request<'_>) -> Outcome {
        match self.find(request) {
            Ok((handler, request)) => handler.handle(&request),
            Err(answer) => self.answer(request, &answer).into(),
        }
    }

    fn admit(&self, request: &Request<'_>) -> BodyPolicy {
        match self.find(request) {
            Ok((handler, request)) => handler.admit(&request),
            Err(answer) => BodyPolicy::Reject(self.answer(request, &answer)),
        }
    }

    fn reject(&self, request: &Request<'_>, refusal: Rejection) -> Response {
        match self.find(request) {
            Ok((handler, request)) => handler.reject(&request, refusal),
            Err(_) => error_page::instead_of(refusal.into(), request.fields()),
        }
    }

    fn shed(&self) {
        for route in &self.routes {
            let nested = route.nested.iter().map(|nested| &nested.handler);
            let handlers = route.handlers.iter().map(|(_, handler)| handler);
            handlers.chain(nested).for_each(|handler| handler.shed());
        }
        self.fallback.iter().for_each(|handler| handler.shed());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::http::header::{ALLOW, CONNECTION, CONTENT_TYPE, VARY};

    use crate::body::Body;

    /// Answers with its name and the parameters of the route.
    struct Named(&'static str);

    impl Handler for Named {
        fn handle(&self, request: &Request<'_>) -> Outcome {
            let param = |name| request.param(name).unwrap_or("");
            Response::text(format!("{} {}{}", self.0, param("name"), param("rest"))).into()
        }

        fn reject(&self, request: &Request<'_>, refusal: Rejection) -> Response {
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
    fn what_a_pattern_stands_for() {
        let router = Router::new()
            .get("/all/{*rest}", Named("all"))
            .get("/all/one/{name}", Named("one"))
            .get("/v{name}.json", Named("part"))
            .put("/x/{name}", Named("put"))
            .patch("/x/{name}", Named("patch"))
            .delete("/x/{name}", Named("delete"));
        for (method, target, status, content) in [
            ("GET", "/all/a", 200, "all a"),
            ("GET", "/all/a/b%20c/", 200, "all a/b c/"),
            ("GET", "/all/a/../../all/d", 200, "all d"),
            ("GET", "/all/one/b", 200, "one b"),
            ("GET", "/all/one/b/c", 200, "all one/b/c"),
            ("GET", "/all/", 404, "404 Not Found\n"),
            ("GET", "/all", 404, "404 Not Found\n"),
            ("GET", "/v2.json", 200, "part 2"),
            ("PUT", "/x/a", 200, "put a"),
            ("PATCH", "/x/a", 200, "patch a"),
            ("DELETE", "/x/a", 200, "delete a"),
        ] {
            let (found, text, _) = ask(&router, method, target);
            assert_eq!((found, &text[..]), (status, content), "{method} {target}");
        }
    }

    /// Answers with the path it sees, the whole path, and parameters.
    fn shown(request: &Request<'_>) -> Response {
        let seen = String::from_utf8_lossy(request.path_bytes());
        let whole = String::from_utf8_lossy(request.full_path_bytes());
        let param = |name| request.param(name).unwrap_or("-");
        let (shop, id) = (param("shop"), param("id"));
        Response::text(format!("{seen} {whole} {shop} {id}"))
    }

    #[test]
    fn what_is_nested_sees_the_path_behind_its_prefix() {
        let innermost = Router::new()
            .get("/", shown)
            .get("/{id}", shown)
            .get("/{shop}/{id}", shown);
        let inner = Router::new()
            .post("/users/{id}", shown)
            .nest("/deep/{id}", innermost);
        let router = Router::new()
            .nest("/all", shown)
            .get("/all/but", |_: &Request<'_>| Response::text("but"))
            .nest("/{shop}/api", inner)
            .fallback(Named("fallback"));
        let not_allowed = "405 Method Not Allowed\n";
        let not_found = "404 Not Found\n";
        for (method, target, status, content) in [
            ("GET", "/all", 200, "/ /all - -"),
            ("GET", "/all/", 200, "/ /all/ - -"),
            ("BREW", "/all/a/b/?q", 200, "/a/b/ /all/a/b/ - -"),
            ("GET", "/all/a%20b/%C3%B1", 200, "/a b/ñ /all/a b/ñ - -"),
            ("GET", "/all/%F1", 200, "/\u{FFFD} /all/\u{FFFD} - -"),
            ("GET", "/all/but", 200, "but"),
            ("GET", "/allx", 200, "fallback "),
            ("OPTIONS", "*", 200, "fallback "),
            (
                "POST",
                "/tea/api/users/7",
                200,
                "/users/7 /tea/api/users/7 tea 7",
            ),
            (
                "POST",
                "/%C3%B1%20/api/users/7",
                200,
                "/users/7 /ñ /api/users/7 ñ  7",
            ),
            ("GET", "/%F1/api/users/7", 200, "fallback "),
            ("GET", "/tea/api/users/7", 405, not_allowed),
            ("OPTIONS", "/tea/api/users/7", 204, ""),
            ("GET", "/tea/api", 404, not_found),
            ("GET", "/tea/api/none", 404, not_found),
            ("GET", "/tea/api/deep/1", 200, "/ /tea/api/deep/1 tea 1"),
            // The innermost of two that have one name.
            (
                "GET",
                "/tea/api/deep/1/2",
                200,
                "/2 /tea/api/deep/1/2 tea 2",
            ),
            (
                "GET",
                "/tea/api/deep/1/a/2",
                200,
                "/a/2 /tea/api/deep/1/a/2 a 2",
            ),
        ] {
            let (found, text, _) = ask(&router, method, target);
            assert_eq!((found, &text[..]), (status, content), "{method} {target}");
        }
    }

    #[test]
    fn what_is_nested_is_asked_about_contents() {
        let router = Router::new().nest("/in/{name}", Router::new().post("/x", Named("x")));
        let refusal = Rejection::bad_request("no");
        let response = router.reject(&Request::post("/in/Ana/x", "a"), refusal);
        assert_eq!(text(&response), "refused by x Ana");
        let admits = |target| match router.admit(&Request::post(target, "a")) {
            BodyPolicy::Reject(response) => response.status().as_u16(),
            _ => 100,
        };
        assert_eq!(admits("/in/Ana/x"), 100);
        assert_eq!(admits("/in/Ana/y"), 404);
    }

    #[test]
    fn an_error_has_the_form_that_is_preferred() {
        let router = Router::new().post("/x", Named("x"));
        for (accept, media_type) in [
            ("*/*", "text/plain; charset=utf-8"),
            ("text/html", "text/html; charset=utf-8"),
            ("application/json", "application/json"),
        ] {
            let asked = |target| Request::get(target).with_header("Accept", accept);
            let missing = router.handle(&asked("/none")).wait();
            let misused = router.handle(&asked("/x")).wait();
            let refused = router.reject(&asked("/none"), Rejection::bad_request("no"));
            for response in [&missing, &misused, &refused] {
                assert_eq!(response.headers()[CONTENT_TYPE], media_type, "{accept}");
                assert_eq!(response.headers()[VARY], "Accept");
            }
            assert_eq!(misused.headers()[ALLOW], "OPTIONS, POST");
            assert_eq!(misused.headers()[CONNECTION], "close");
            assert_eq!(refused.headers()[CONNECTION], "close");
        }
    }

    #[test]
    fn a_mistaken_prefix_is_named() {
        for (first, second) in [
            ("/a", "/a"),
            ("/a", ""),
            ("/a", "/"),
            ("/a", "b"),
            ("/a", "/b/"),
            ("/a", "/b/{*rest}"),
            ("/{id}", "/{name}"),
        ] {
            let build = || {
                Router::new().get(first, shown).nest(second, shown);
            };
            let panic = std::panic::catch_unwind(build).expect_err(second);
            let text = panic.downcast_ref::<String>().expect("a message");
            assert!(text.contains(&format!("{second:?}")), "{text}");
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
        let refusal = Rejection::new(StatusCode::PAYLOAD_TOO_LARGE, "request body too large");
        let said = |router: &Router, request: &Request<'_>| text(&router.reject(request, refusal));
        let plain = "413 Payload Too Large: request body too large\n";
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
