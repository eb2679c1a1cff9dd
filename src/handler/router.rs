//! A router: it chooses a handler by method and path.
//!
//! A router is a handler itself. It matches the path as the request has it, decoded once and
//! normalised. A path without a route goes to the fallback, usually a folder of files. Methods are
//! handled as RFC 9110 requires: HEAD by the GET handler, OPTIONS by the router, others with 405 and
//! Allow. A nested handler sees the path after its prefix.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use ::http::{Method, StatusCode};

use crate::explain_log::explain;
use crate::handler::stateful::IntoHandler;
use crate::handler::{BodyPolicy, BoxHandler, Handler, Outcome};
use crate::http::{Rejection, Request, Response, error_page, response};

/// Chooses a handler by method and path.
///
/// ```
/// use tws::{Handler, Request, Response, Router};
///
/// let router = Router::new()
///     .get("/", |_: &Request<'_>| Response::text("Homepage\n"))
///     .get("/hello/{name}", |request: &Request<'_>| {
///         Response::text(format!("Hello {}\n", request.param_str("name").unwrap_or("you")))
///     });
/// let response = router.handle(&Request::get("/hello/Ana")).wait();
/// assert_eq!(response.status(), 200);
/// ```
///
/// Patterns are those of the `matchit` crate: `{name}` is one segment or a part of one, `{*rest}`
/// is all that follows, `{{` is a literal brace. If several patterns match a path, the most specific
/// one is used. A trailing slash is part of a path: `/a` and `/a/` are different routes.
///
/// A path is percent-decoded before it is matched ([`Request::path`]), so an encoded slash separates
/// segments as a slash does: `/a%2Fb` matches `/a/{x}` and `/{*x}`, but not `/{x}`. A value that may
/// contain slashes needs a parameter at the end of the pattern, as `{*x}`, or one of the query. Parameters
/// are text: a path that is not UTF-8 (`/%FF`) matches no route, and leads to a [nested](Self::nest)
/// handler or the fallback, or is a 404.
///
/// HEAD is handled by the handler of GET, and OPTIONS by the router, unless they have handlers of their
/// own, or [`any`](Self::any) has added one. Another method gets a 405 with Allow, or a 501 if it is
/// neither a standard method nor that of any route.
///
/// Handlers of a router with [state](Self::with_state) get it as their first parameter:
///
/// ```
/// use std::sync::atomic::{AtomicU64, Ordering};
/// use tws::{Request, Response, Router};
///
/// #[derive(Default)]
/// struct App {
///     visits: AtomicU64,
/// }
///
/// fn visit(app: &App, _: &Request<'_>) -> Response {
///     Response::json(&app.visits.fetch_add(1, Ordering::Relaxed))
/// }
///
/// let router = Router::with_state(App::default()).get("/", visit);
/// # use tws::Handler;
/// # assert_eq!(router.handle(&Request::get("/")).wait().into_content()?, b"0");
/// # Ok::<_, std::io::Error>(())
/// ```
#[must_use = "a router does nothing until it is served"]
pub struct Router<S = ()> {
    state: Arc<S>,
    paths: matchit::Router<usize>,
    /// `paths` maps to indexes of this table.
    routes: Vec<RouteEntry>,
    fallback: Option<BoxHandler>,
}

impl<S> fmt::Debug for Router<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let routes = self.routes.iter().map(|route| {
            let methods = route.handlers.iter().map(|(method, _)| method);
            (&route.pattern, methods.collect::<Vec<_>>())
        });
        f.write_str("Router ")?;
        f.debug_map().entries(routes).finish()
    }
}

/// A pattern with its handlers, one for each method.
struct RouteEntry {
    pattern: String,
    handlers: Vec<(Method, BoxHandler)>,
    /// The handler of all other methods.
    any: Option<BoxHandler>,
    nested: Option<Nested>,
}

/// The handler of all paths below a prefix of `segments` segments.
struct Nested {
    segments: usize,
    handler: BoxHandler,
}

/// The parameter of a nested pattern that matches the path after the prefix. The name is not a valid
/// identifier, so no program uses it.
const NESTED_PATH_PARAM: &str = "<nested-path>";

impl Default for Router {
    fn default() -> Self {
        Self::with_state(())
    }
}

impl Router {
    /// Creates a router without routes and without state.
    pub fn new() -> Self {
        Self::default()
    }
}

impl<S> Router<S> {
    /// Creates a router without routes whose handlers get `&state`. Routers that are nested have a state of
    /// their own.
    pub fn with_state(state: S) -> Self {
        Self::with_shared_state(Arc::new(state))
    }

    /// As [`with_state`](Self::with_state), for state that a nested router or a
    /// [layer](crate::around_with_state) gets too.
    pub fn with_shared_state(state: Arc<S>) -> Self {
        Self {
            state,
            paths: matchit::Router::new(),
            routes: Vec::new(),
            fallback: None,
        }
    }

    /// Adds a handler for GET, and for HEAD unless HEAD has a handler of its own. Panics as
    /// [`route`](Self::route) does.
    pub fn get<K>(self, pattern: &str, handler: impl IntoHandler<S, K>) -> Self {
        self.route(Method::GET, pattern, handler)
    }

    /// Adds a handler for POST. Panics as [`route`](Self::route) does.
    pub fn post<K>(self, pattern: &str, handler: impl IntoHandler<S, K>) -> Self {
        self.route(Method::POST, pattern, handler)
    }

    /// Adds a handler for PUT. Panics as [`route`](Self::route) does.
    pub fn put<K>(self, pattern: &str, handler: impl IntoHandler<S, K>) -> Self {
        self.route(Method::PUT, pattern, handler)
    }

    /// Adds a handler for PATCH. Panics as [`route`](Self::route) does.
    pub fn patch<K>(self, pattern: &str, handler: impl IntoHandler<S, K>) -> Self {
        self.route(Method::PATCH, pattern, handler)
    }

    /// Adds a handler for DELETE. Panics as [`route`](Self::route) does.
    pub fn delete<K>(self, pattern: &str, handler: impl IntoHandler<S, K>) -> Self {
        self.route(Method::DELETE, pattern, handler)
    }

    /// Adds a handler for one method on the paths that match a pattern.
    ///
    /// # Panics
    ///
    /// If the pattern does not start with a slash or is ill-formed, if it conflicts with an earlier one
    /// (`/{id}` and `/{name}`), or if the route exists already. These are errors of the program, which
    /// are best found when it starts.
    pub fn route<K>(
        mut self,
        method: Method,
        pattern: &str,
        handler: impl IntoHandler<S, K>,
    ) -> Self {
        let handler = handler.into_handler(&self.state);
        self.add(method, pattern, handler);
        self
    }

    fn add(&mut self, method: Method, pattern: &str, handler: BoxHandler) {
        let route = self.route_of(pattern);
        let known = route.handlers.iter().any(|(known, _)| *known == method);
        assert!(
            !known && route.nested.is_none(),
            "route {pattern:?}: {method} already has a handler"
        );
        route.handlers.push((method, handler));
    }

    /// Adds a handler for all methods on the paths that match a pattern, except those that have handlers of
    /// their own there.
    ///
    /// ```
    /// use tws::{Handler, Method, Request, Response, Router};
    ///
    /// let router = Router::new()
    ///     .any("/", |request: &Request<'_>| Response::text(request.method().as_str()))
    ///     .get("/", |_: &Request<'_>| Response::text("the page"));
    /// let text = |method| router.handle(&Request::new(method, "/")).wait().into_text();
    /// assert_eq!(text(Method::PUT)?, "PUT");
    /// assert_eq!(text(Method::GET)?, "the page");
    /// # Ok::<_, std::io::Error>(())
    /// ```
    ///
    /// # Panics
    ///
    /// As [`route`](Self::route) does.
    pub fn any<K>(mut self, pattern: &str, handler: impl IntoHandler<S, K>) -> Self {
        let handler = handler.into_handler(&self.state);
        self.add_for_any(pattern, handler);
        self
    }

    fn add_for_any(&mut self, pattern: &str, handler: BoxHandler) {
        let route = self.route_of(pattern);
        assert!(
            route.any.is_none() && route.nested.is_none(),
            "route {pattern:?}: all methods already have a handler"
        );
        route.any = Some(handler);
    }

    /// Adds a handler for a prefix and all paths below it, for all methods. A more specific route takes
    /// precedence.
    ///
    /// ```
    /// use tws::{Handler, Request, Response, Router};
    ///
    /// let users = Router::new().get("/users/{id}", |request: &Request<'_>| {
    ///     let param = |name| request.param_str(name).unwrap_or("-");
    ///     Response::text(format!("{} of {}\n", param("id"), param("shop")))
    /// });
    /// let router = Router::new().nest("/{shop}/api", users);
    /// assert_eq!(router.handle(&Request::get("/tea/api/users/7")).wait().status(), 200);
    /// ```
    ///
    /// The handler sees the path after the prefix: with the prefix `/api`, `/api/users` becomes
    /// `/users`, and both `/api` and `/api/` become `/`. The target is not changed, and
    /// [`Request::full_path_bytes`] returns the path with the prefix. Parameters of the prefix are
    /// visible to the handler together with its own. A nested router responds with its own 404 to a
    /// path without a route.
    ///
    /// # Panics
    ///
    /// As [`route`](Self::route) does, and if the prefix ends with a slash or has a parameter that
    /// matches several segments.
    pub fn nest<K>(mut self, prefix: &str, handler: impl IntoHandler<S, K>) -> Self {
        assert!(
            prefix.starts_with('/') && !prefix.ends_with('/'),
            "prefix {prefix:?}: a prefix must start with a slash and not end with one"
        );
        let handler = handler.into_handler(&self.state);
        self.add_nested(prefix, handler);
        self
    }

    fn add_nested(&mut self, prefix: &str, handler: BoxHandler) {
        let index = self.routes.len();
        for end in ["", "/", &format!("/{{*{NESTED_PATH_PARAM}}}")] {
            if let Err(error) = self.paths.insert(format!("{prefix}{end}"), index) {
                panic!("prefix {prefix:?}: {error}");
            }
        }
        self.routes.push(RouteEntry {
            pattern: prefix.to_owned(),
            handlers: Vec::new(),
            any: None,
            nested: Some(Nested {
                segments: prefix.split('/').count() - 1,
                handler,
            }),
        });
    }

    /// Adds all routes of another router, whose handlers keep their state.
    ///
    /// # Panics
    ///
    /// If [`route`](Self::route) would panic for one of the routes, and if both routers have a
    /// [`fallback`](Self::fallback).
    pub fn merge<T>(mut self, other: Router<T>) -> Self {
        for RouteEntry {
            pattern,
            handlers,
            any,
            nested,
        } in other.routes
        {
            for (method, handler) in handlers {
                self.add(method, &pattern, handler);
            }
            if let Some(handler) = any {
                self.add_for_any(&pattern, handler);
            }
            if let Some(Nested { handler, .. }) = nested {
                self.add_nested(&pattern, handler);
            }
        }
        assert!(
            self.fallback.is_none() || other.fallback.is_none(),
            "both routers have a fallback"
        );
        self.fallback = self.fallback.or(other.fallback);
        self
    }

    /// Sets the handler of all paths that no route matches. Without a fallback the response is 404.
    pub fn fallback<K>(mut self, handler: impl IntoHandler<S, K>) -> Self {
        self.fallback = Some(handler.into_handler(&self.state));
        self
    }

    /// Wraps the router in a layer: a function from a handler to a handler. The layer gets all requests, those
    /// without a route too, and the last layer is the outermost.
    ///
    /// [`around`](crate::around) makes a layer from a closure, and the constructor of each middleware is
    /// one. Routes are complete when a layer is added, so that none escapes it; other routes belong to
    /// another router, in which this one is [nested](Self::nest) or the [fallback](Self::fallback).
    ///
    /// ```
    /// use std::time::Duration;
    /// use tws::{RateLimit, Request, Response, Router, SlowLog, around};
    ///
    /// # fn main() -> Result<(), tws::Error> {
    /// let rate = "10:20".parse()?;
    /// let app = Router::new()
    ///     .get("/", |_: &Request<'_>| Response::text("hello\n"))
    ///     .layer(around(|request, next| {
    ///         next.run(request).map(|response| response.with_header("X-Frame-Options", "DENY"))
    ///     }))
    ///     .layer(move |app| RateLimit::new(app).per_client(rate))
    ///     .layer(|app| SlowLog::new(app, Duration::from_millis(100)));
    /// # use tws::Handler;
    /// # let response = app.handle(&Request::get("/none")).wait();
    /// # assert_eq!(response.headers()["X-Frame-Options"], "DENY");
    /// # Ok(())
    /// # }
    /// ```
    pub fn layer<H: Handler + 'static>(self, wrap: impl FnOnce(BoxHandler) -> H) -> BoxHandler
    where
        S: Send + Sync + 'static,
    {
        BoxHandler::new(self).layer(wrap)
    }

    /// Wraps each handler that was added before, but the fallback, in a layer. Routes that are added after are
    /// outside of it, as are the responses of the router itself: 404, 405 and OPTIONS.
    ///
    /// `wrap` is called for each handler: a limit that it creates is one of each route. The closure of
    /// [`around`](crate::around) is shared, and can read the parameters of the route.
    ///
    /// ```
    /// use tws::{Next, Outcome, Request, Response, Router, StatusCode, TestClient, around};
    ///
    /// fn require_token(request: &Request<'_>, next: Next) -> Result<Outcome, StatusCode> {
    ///     request.header("authorization").ok_or(StatusCode::UNAUTHORIZED)?;
    ///     Ok(next.run(request))
    /// }
    ///
    /// let ok = |_: &Request<'_>| Response::text("ok\n");
    /// let notes = Router::new().get("/notes", ok).post("/notes", ok).route_layer(around(require_token));
    /// let client = TestClient::new(notes.get("/sign-in", ok));
    /// assert_eq!(client.get("/notes").status(), 401);
    /// assert_eq!(client.get("/sign-in").status(), 200);
    /// assert_eq!(client.get("/none").status(), 404);
    /// ```
    ///
    /// [`BoxHandler::layer`] wraps one handler, and [`merge`](Self::merge) adds the routes of a router with
    /// other layers.
    ///
    /// # Panics
    ///
    /// If there is no route yet: the layer would protect nothing.
    pub fn route_layer<H: Handler + 'static>(mut self, wrap: impl Fn(BoxHandler) -> H) -> Self {
        assert!(
            !self.routes.is_empty(),
            "route_layer: there is no route before it; add the routes first"
        );
        let wrap = |handler: BoxHandler| handler.layer(&wrap);
        let routes = std::mem::take(&mut self.routes);
        self.routes = routes.into_iter().map(|route| route.map(wrap)).collect();
        self
    }

    fn route_of(&mut self, pattern: &str) -> &mut RouteEntry {
        assert!(
            pattern.starts_with('/'),
            "route {pattern:?}: a pattern must start with a slash"
        );
        let known = self
            .routes
            .iter()
            .position(|route| route.pattern == pattern);
        let index = known.unwrap_or_else(|| {
            let index = self.routes.len();
            if let Err(error) = self.paths.insert(pattern, index) {
                panic!("route {pattern:?}: {error}");
            }
            self.routes.push(RouteEntry {
                pattern: pattern.to_owned(),
                handlers: Vec::new(),
                any: None,
                nested: None,
            });
            index
        });
        &mut self.routes[index]
    }

    /// Calls the handler with the request as that handler sees it, or returns how the router itself
    /// responds.
    fn dispatch<T>(
        &self,
        request: &Request<'_>,
        call: impl FnOnce(&dyn Handler, &Request<'_>) -> T,
    ) -> Result<T, NoHandler<'_>> {
        let path = request.path_bytes();
        if let Some((route, params)) = self.route_at(path) {
            if let Some(nested) = &route.nested {
                explain!("route", "{} is the prefix of the path", route.pattern);
                let inside = request
                    .with_params(params)
                    .nested_below(nested.prefix_len(path));
                return Ok(call(&nested.handler, &inside));
            }
            explain!("route", "{} is a route of the program", route.pattern);
            return match route.handler(request.method()) {
                Some(handler) if params.is_empty() => Ok(call(handler, request)),
                Some(handler) => Ok(call(handler, &request.with_params(params))),
                None => Err(NoHandler::Methods(std::slice::from_ref(route))),
            };
        }
        match (&self.fallback, path) {
            (Some(fallback), _) => Ok(call(fallback, request)),
            // The asterisk and authority forms address the server as a whole (RFC 9112 §3.2).
            (None, b"*" | b"") => Err(NoHandler::Methods(&self.routes)),
            (None, _) => Err(NoHandler::NotFound),
        }
    }

    /// Returns the route for a path and the values of its parameters. Parameters are text. A path that
    /// is not UTF-8 can still match a nested handler, if its prefix is UTF-8.
    fn route_at(&self, path: &[u8]) -> Option<(&RouteEntry, Params)> {
        // A server of files alone has a router without routes.
        if self.routes.is_empty() {
            return None;
        }
        let text = String::from_utf8_lossy(path);
        let found = self.paths.at(&text).ok()?;
        let route = &self.routes[*found.value];
        if let Cow::Owned(_) = text {
            let nested = route.nested.as_ref()?;
            std::str::from_utf8(&path[..nested.prefix_len(path)]).ok()?;
        }
        Some((route, owned(&found.params)))
    }

    fn respond(&self, request: &Request<'_>, reason: &NoHandler<'_>) -> Response {
        let method = request.method();
        let routes = match *reason {
            NoHandler::NotFound => {
                explain!(
                    "route",
                    "no route of the program matches, and there is no fallback"
                );
                return self.error_page(StatusCode::NOT_FOUND.into(), request);
            }
            NoHandler::Methods(routes) => routes,
        };
        let allow = allowed(routes);
        explain!("method", "{method} has no handler on this route");
        if *method == Method::OPTIONS {
            return response::allowing(Response::new(StatusCode::NO_CONTENT), &allow);
        }
        // An extension method that another path supports is implemented, just not for this path.
        let mut known = self.routes.iter().flat_map(RouteEntry::methods);
        let plain = if known.any(|known| known == method) {
            response::not_allowed(&allow)
        } else {
            response::method_not_allowed(method, &allow)
        };
        self.error_page(plain, request)
    }

    /// Returns the page of an error. It leads to the index if the router has one: a site below a prefix
    /// that cannot be guessed is not named.
    fn error_page(&self, plain: Response, request: &Request<'_>) -> Response {
        if self.fallback.is_some() || self.paths.at("/").is_ok() {
            error_page::with_index(plain, request)
        } else {
            error_page::instead_of(plain, request.fields())
        }
    }
}

type Params = Vec<(String, String)>;

/// Why a request has no handler.
enum NoHandler<'r> {
    /// The path exists. The response is 405 or, to OPTIONS, 204, with the methods of these routes.
    Methods(&'r [RouteEntry]),
    NotFound,
}

impl Nested {
    /// Returns the length of the prefix in a path, in bytes. A parameter is one segment or a part of
    /// one.
    fn prefix_len(&self, path: &[u8]) -> usize {
        let mut slashes = memchr::memchr_iter(b'/', path);
        slashes.nth(self.segments).unwrap_or(path.len())
    }
}

impl RouteEntry {
    fn handler(&self, method: &Method) -> Option<&dyn Handler> {
        let of = |wanted: &Method| {
            let found = self.handlers.iter().find(|(method, _)| method == wanted);
            found.map(|(_, handler)| handler as &dyn Handler)
        };
        // RFC 9110 §9.3.2: HEAD is GET without the content, which the connection omits.
        let own = of(method).or_else(|| match *method {
            Method::HEAD => of(&Method::GET),
            _ => None,
        });
        own.or_else(|| self.any.as_ref().map(|handler| handler as &dyn Handler))
    }

    fn map(self, change: impl Fn(BoxHandler) -> BoxHandler) -> Self {
        let handlers = self.handlers.into_iter();
        Self {
            pattern: self.pattern,
            handlers: handlers
                .map(|(method, handler)| (method, change(handler)))
                .collect(),
            any: self.any.map(&change),
            nested: self.nested.map(|nested| Nested {
                handler: change(nested.handler),
                ..nested
            }),
        }
    }

    fn methods(&self) -> impl Iterator<Item = &Method> {
        self.handlers.iter().map(|(method, _)| method)
    }
}

fn allowed(routes: &[RouteEntry]) -> Vec<Method> {
    let mut allow = vec![Method::OPTIONS];
    for method in routes.iter().flat_map(RouteEntry::methods) {
        allow.push(method.clone());
        if *method == Method::GET {
            allow.push(Method::HEAD);
        }
    }
    allow
}

fn owned(params: &matchit::Params<'_, '_>) -> Params {
    let pair = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
    let own = params.iter().filter(|(name, _)| *name != NESTED_PATH_PARAM);
    own.map(pair).collect()
}

impl<S: Send + Sync> Handler for Router<S> {
    fn handle(&self, request: &Request<'_>) -> Outcome {
        let handle = |handler: &dyn Handler, request: &Request<'_>| handler.handle(request);
        self.dispatch(request, handle)
            .unwrap_or_else(|reason| self.respond(request, &reason).into())
    }

    fn admit(&self, request: &Request<'_>) -> BodyPolicy {
        let admit = |handler: &dyn Handler, request: &Request<'_>| handler.admit(request);
        self.dispatch(request, admit)
            .unwrap_or_else(|reason| BodyPolicy::Reject(self.respond(request, &reason)))
    }

    fn reject(&self, request: &Request<'_>, rejection: Rejection) -> Response {
        let reject =
            |handler: &dyn Handler, request: &Request<'_>| handler.reject(request, rejection);
        self.dispatch(request, reject)
            .unwrap_or_else(|_| self.error_page(rejection.into(), request))
    }
}

#[cfg(test)]
mod tests;
