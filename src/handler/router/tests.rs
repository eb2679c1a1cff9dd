use std::panic::UnwindSafe;

use super::*;
use ::http::header::{ALLOW, CONNECTION, CONTENT_TYPE, VARY};

use crate::body::Body;
use crate::handler::StreamingBody;

/// Responds with its name and the parameters of the route.
struct Named(&'static str);

impl Handler for Named {
    fn handle(&self, request: &Request<'_>) -> Outcome {
        let param = |name| request.param_str(name).unwrap_or("");
        Response::text(format!("{} {}{}", self.0, param("name"), param("rest"))).into()
    }

    fn reject(&self, request: &Request<'_>, rejection: Rejection) -> Response {
        let name = request.param_str("name").unwrap_or("");
        Response::text(format!("rejected by {} {name}", self.0)).with_status(rejection.status())
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
fn routes_are_chosen_by_method_and_path() {
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
fn patterns_match_segments_and_rests() {
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
        // An encoded slash is a slash.
        ("GET", "/all/a%2Fb", 200, "all a/b"),
        ("GET", "/all%2Fone/b", 200, "one b"),
        ("PUT", "/x/a%2Fb", 404, "404 Not Found\n"),
    ] {
        let (found, text, _) = ask(&router, method, target);
        assert_eq!((found, &text[..]), (status, content), "{method} {target}");
    }
}

#[test]
fn any_gets_the_methods_without_a_handler() {
    let router = Router::new()
        .get("/{name}", Named("get"))
        .any("/{name}", Named("any"))
        .any("/all", Named("all"));
    for (method, target, content) in [
        ("GET", "/a", "get a"),
        ("HEAD", "/a", "get a"),
        ("POST", "/a", "any a"),
        ("OPTIONS", "/a", "any a"),
        ("BREW", "/a", "any a"),
        ("HEAD", "/all", "all "),
    ] {
        let expected = (200, content.to_owned(), None);
        assert_eq!(ask(&router, method, target), expected, "{method} {target}");
    }
    let rejection = Rejection::bad_request("no");
    let response = router.reject(&Request::post("/a", ""), rejection);
    assert_eq!(text(&response), "rejected by any a");
}

/// Responds with the path below the prefix, the full path, and parameters.
fn shown(request: &Request<'_>) -> Response {
    let seen = String::from_utf8_lossy(request.path_bytes());
    let whole = String::from_utf8_lossy(request.full_path_bytes());
    let param = |name| request.param_str(name).unwrap_or("-");
    let (shop, id) = (param("shop"), param("id"));
    Response::text(format!("{seen} {whole} {shop} {id}"))
}

#[test]
fn nested_handler_sees_the_path_after_its_prefix() {
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
        // The innermost of two parameters of the same name.
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
fn nested_handler_sees_a_path_that_is_not_utf8_after_its_prefix() {
    let path = |request: &Request<'_>| Response::text(request.path());
    let inner = Router::new().nest("/deep/{id}", path).fallback(path);
    let router = Router::new().nest("/in", inner);
    for (target, expected) in [
        ("/in/%F1", "/%F1"),
        ("/in/%f1/b%20c?q", "/%F1/b%20c"),
        ("/x/../in/./a/../%F1/", "/%F1/"),
        ("/%69n/%F1", "/%F1"),
        ("http://h/in/%F1", "/%F1"),
        ("/in/deep/7/%F1", "/%F1"),
        ("/in/deep/7/in/%F1", "/in/%F1"),
    ] {
        let (status, content, _) = ask(&router, "GET", target);
        assert_eq!((status, &content[..]), (200, expected), "{target}");
    }
}

#[test]
fn nested_handler_decides_about_bodies() {
    let router = Router::new().nest("/in/{name}", Router::new().post("/x", Named("x")));
    let rejection = Rejection::bad_request("no");
    let response = router.reject(&Request::post("/in/Ana/x", "a"), rejection);
    assert_eq!(text(&response), "rejected by x Ana");
    let admits = |target| match router.admit(&Request::post(target, "a")) {
        BodyPolicy::Reject(response) => response.status().as_u16(),
        _ => 100,
    };
    assert_eq!(admits("/in/Ana/x"), 100);
    assert_eq!(admits("/in/Ana/y"), 404);
}

#[test]
fn errors_have_the_preferred_format() {
    let router = Router::new().post("/x", Named("x"));
    for (accept, media_type) in [
        ("*/*", "text/plain; charset=utf-8"),
        ("text/html", "text/html; charset=utf-8"),
        ("application/json", "application/json"),
    ] {
        let get = |target| Request::get(target).with_header("Accept", accept);
        let missing = router.handle(&get("/none")).wait();
        let misused = router.handle(&get("/x")).wait();
        let rejected = router.reject(&get("/none"), Rejection::bad_request("no"));
        for response in [&missing, &misused, &rejected] {
            assert_eq!(response.headers()[CONTENT_TYPE], media_type, "{accept}");
            assert_eq!(response.headers()[VARY], "Accept");
        }
        assert_eq!(misused.headers()[ALLOW], "OPTIONS, POST");
        assert_eq!(misused.headers()[CONNECTION], "close");
        assert_eq!(rejected.headers()[CONNECTION], "close");
    }
}

#[test]
fn invalid_prefix_panics_and_names_it() {
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
            drop(Router::new().get(first, shown).nest(second, shown));
        };
        assert_panics_and_names(build, second);
    }
}

#[test]
fn unmatched_paths_go_to_the_fallback() {
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
fn rejection_is_passed_to_the_handler_of_the_path() {
    let rejection = Rejection::new(StatusCode::PAYLOAD_TOO_LARGE, "request body too large");
    let rejected =
        |router: &Router, request: &Request<'_>| text(&router.reject(request, rejection));
    let plain = "413 Payload Too Large: request body too large\n";
    let without = router();
    assert_eq!(
        rejected(&without, &Request::get("/hello/Ana")),
        "rejected by hello Ana"
    );
    assert_eq!(
        rejected(&without, &Request::post("/both", "")),
        "rejected by post "
    );
    assert_eq!(rejected(&without, &Request::get("/")), plain);
    assert_eq!(rejected(&without, &Request::post("/", "")), plain);
    assert_eq!(rejected(&without, &Request::get("/none")), plain);
    let with = router().fallback(Named("fallback"));
    assert_eq!(
        rejected(&with, &Request::get("/none")),
        "rejected by fallback "
    );
}

#[test]
fn invalid_pattern_panics_and_names_it() {
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
            drop(Router::new().get(first, home).get(second, home));
        };
        assert_panics_and_names(build, second);
        let build = || drop(Router::new().any(first, shown).any(second, shown));
        assert_panics_and_names(build, second);
    }
    let build = || drop(Router::new().nest("/a", shown).any("/a", shown));
    assert_panics_and_names(build, "/a");
}

fn assert_panics_and_names(build: impl FnOnce() + UnwindSafe, pattern: &str) {
    let panic = std::panic::catch_unwind(build).expect_err(pattern);
    let text = panic.downcast_ref::<String>().expect("a message");
    assert!(text.contains(&format!("{pattern:?}")), "{text}");
}

#[test]
fn merged_routes_keep_state_and_layers() {
    let state = Arc::new("state".to_owned());
    let own = |state: &String, _: &Request<'_>| Response::text(&**state);
    let other = Router::with_shared_state(Arc::clone(&state))
        .get("/state", own)
        .any("/any", Named("any"))
        .nest("/nested", Named("nested"))
        .fallback(Named("fallback"))
        .route_layer(|handler| StreamingBody::new(handler, 1));
    let router = Router::new().post("/state", Named("post")).merge(other);
    let status_and_text = |method, target| {
        let (status, text, _) = ask(&router, method, target);
        (status, text)
    };
    for (method, target, text) in [
        ("GET", "/state", "state"),
        ("POST", "/state", "post "),
        ("PUT", "/any", "any "),
        ("GET", "/nested/x", "nested "),
        ("GET", "/none", "fallback "),
    ] {
        let expected = (200, text.to_owned());
        assert_eq!(
            status_and_text(method, target),
            expected,
            "{method} {target}"
        );
    }
    for target in ["/state", "/any"] {
        let policy = router.admit(&Request::new(Method::GET, target));
        assert!(matches!(policy, BodyPolicy::Stream { max: 1 }), "{target}");
    }
    for (first, second) in [
        (
            Router::new().get("/", Named("a")),
            Router::new().get("/", Named("b")),
        ),
        (
            Router::new().fallback(Named("a")),
            Router::new().fallback(Named("b")),
        ),
    ] {
        let merge = std::panic::AssertUnwindSafe(|| drop(first.merge(second)));
        assert!(std::panic::catch_unwind(merge).is_err());
    }
}
