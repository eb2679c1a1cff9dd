use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::body::Body;
use crate::handler::{BoxHandler, TestClient};
use crate::middleware::around::around;
use crate::middleware::credentials::tests::credentials;

/// Admits 1,000 bytes at /post and rejects bodies elsewhere.
struct Application;

impl Handler for Application {
    fn handle(&self, request: &Request<'_>) -> Outcome {
        let text = format!("in {} {}", request.path(), request.content().len());
        let response = Response::text(text);
        match request.path() {
            "/job" => Outcome::blocking(|| response),
            "/later" => Outcome::deferred(|responder| responder.send(response)),
            _ => response.into(),
        }
    }

    fn admit(&self, request: &Request<'_>) -> BodyPolicy {
        match request.path() {
            "/post" => BodyPolicy::Buffer { max: 1000 },
            _ => BodyPolicy::Reject(Response::new(StatusCode::NOT_FOUND)),
        }
    }

    fn reject(&self, _: &Request<'_>, _: Rejection) -> Response {
        Response::new(StatusCode::IM_A_TEAPOT)
    }
}

fn with(request: Request<'static>, login: &str) -> Request<'static> {
    let value = format!("Basic {}", BASE64.encode(login));
    request.with_header("Authorization", &value)
}

fn guarded() -> BasicAuth {
    BasicAuth::new(Application, credentials())
}

#[test]
fn request_without_valid_credentials_is_401() {
    let handler = guarded();
    let get = |value: &str| {
        let request = Request::get("/").with_header("Authorization", value);
        handler.handle(&request).wait().status().as_u16()
    };
    let encode = |login: &[u8]| BASE64.encode(login);
    for (value, status) in [
        (format!("Basic {}", encode(b"ana:secret")), 200),
        (
            format!("BASIC  {}", encode(b"ana:secret").trim_end_matches('=')),
            200,
        ),
        (format!("Basic {}", encode(b"ana:wrong")), 401),
        (format!("Basic {}", encode(b"bo:secret")), 401),
        (format!("Basic {}", encode(b":")), 401),
        (format!("Basic {}", encode(b"ana")), 401),
        (format!("Basic {}", encode(b"ana:secret\0")), 401),
        (format!("Basic {}", encode(b"ana:\xFF")), 401),
        (format!("Bearer {}", encode(b"ana:secret")), 401),
        ("Basic".to_owned(), 401),
        ("Basic %%%".to_owned(), 401),
    ] {
        assert_eq!(get(&value), status, "{value}");
    }
    let response = handler.handle(&Request::get("/")).wait();
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(response.headers()[WWW_AUTHENTICATE], CHALLENGE);
    // Two Authorization fields are ambiguous.
    let twice = with(with(Request::get("/"), "ana:secret"), "ana:secret");
    assert_eq!(handler.handle(&twice).wait().status(), 401);
}

#[test]
fn password_is_verified_off_the_event_loop_and_cached() {
    let handler = guarded();
    for (path, at_once) in [("/job", false), ("/", true)] {
        let request = with(Request::get(path), "ana:secret");
        let outcome = handler.handle(&request);
        assert_eq!(matches!(outcome, Outcome::Ready(_)), at_once, "{path}");
        assert_eq!(outcome.wait().status(), 200);
    }
    for path in ["/", "/job", "/later"] {
        let request = with(Request::get(path), "ana:secret");
        let response = guarded().handle(&request).wait();
        match response.body() {
            Body::Bytes(bytes) => assert_eq!(bytes, &format!("in {path} 0")),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn responses_to_authenticated_clients_name_the_user() {
    let handler = guarded();
    for (path, login, user) in [
        ("/", "ana:wrong", None),
        ("/later", "ana:secret", Some("ana")),
        ("/", "ana:secret", Some("ana")),
        ("/job", "ana:secret", Some("ana")),
        ("/later", "ana:secret", Some("ana")),
        ("/", "bo:secret", None),
    ] {
        let response = handler.handle(&with(Request::get(path), login)).wait();
        assert_eq!(response.user(), user, "{path} {login}");
        let post = with(Request::post("/none", "a"), login);
        let rejected = handler.reject(&post, Rejection::bad_request("no"));
        assert_eq!(
            rejected.user().is_some(),
            rejected.status() == 418,
            "{login}"
        );
    }
    match handler.admit(&with(Request::post("/none", "a"), "ana:secret")) {
        BodyPolicy::Reject(response) => assert_eq!(response.user(), Some("ana")),
        other => panic!("{other:?}"),
    }
}

/// A limit inside counts only what authenticated clients send, once, and denies it also if the body
/// was read before the password was verified.
#[test]
fn rate_limit_inside_counts_each_request_once() {
    let client = ([192, 0, 2, 1], 50_000).into();
    let post = |login: &str| with(Request::post("/post", "a"), login).with_client_addr(client);
    let as_server = |handler: &BasicAuth, login: &str| {
        match handler.admit(&post(login)) {
            BodyPolicy::Reject(response) => response,
            _ => handler.handle(&post(login).admitted()).wait(),
        }
        .status()
        .as_u16()
    };
    let limit = || {
        let limit = crate::RateLimit::new(Application);
        limit.per_client("0.0001:2".parse().expect("a rate"))
    };
    let handler = BasicAuth::new(limit(), credentials());
    let logins = ["ana:wrong", "ana:secret", "ana:secret", "ana:secret"];
    let statuses = logins.map(|login| as_server(&handler, login));
    assert_eq!(statuses, [401, 200, 200, 429]);
    let handler = BasicAuth::new(limit(), credentials());
    for (how, status) in [("handle", 200), ("reject", 418), ("reject", 429)] {
        let response = if how == "handle" {
            handler.handle(&post("ana:secret")).wait()
        } else {
            let _ = handler.admit(&post("ana:secret"));
            let rejection = Rejection::bad_request("no");
            handler.reject(&post("ana:secret").admitted(), rejection)
        };
        assert_eq!(response.status(), status, "{how}");
    }
}

#[test]
fn bodies_are_read_for_authenticated_clients() {
    let admits = |handler: &BasicAuth, path: &str, login: &str| {
        let request = Request::post(path, "a");
        let request = match login {
            "" => request,
            login => with(request, login),
        };
        match handler.admit(&request) {
            BodyPolicy::Buffer { max: bytes } => Ok(bytes),
            BodyPolicy::Reject(response) => Err(response.status().as_u16()),
            other => panic!("{other:?}"),
        }
    };
    let handler = guarded();
    assert_eq!(admits(&handler, "/post", ""), Err(401));
    assert_eq!(admits(&handler, "/post", "ana:secret"), Ok(1000));
    // Before the password is verified, the response does not depend on the handler.
    assert_eq!(
        admits(&handler, "/none", "ana:secret"),
        Ok(MAX_UNWANTED_BYTES)
    );
    let none = with(Request::post("/none", "a"), "ana:secret");
    let post = with(Request::post("/post", "a"), "ana:secret");
    let rejection = Rejection::bad_request("no");
    assert_eq!(handler.reject(&post, rejection).status(), 400);
    assert_eq!(handler.handle(&none).wait().status(), 404);
    assert_eq!(handler.handle(&post).wait().status(), 200);
    // After that it does.
    assert_eq!(admits(&handler, "/none", "ana:secret"), Err(404));
    assert_eq!(handler.handle(&none).wait().status(), 404);
    assert_eq!(handler.reject(&post, rejection).status(), 418);
    let wrong = with(Request::post("/none", "a"), "ana:wrong");
    assert_eq!(handler.handle(&wrong).wait().status(), 401);
}

#[test]
fn handler_gets_the_authenticated_user() {
    /// Admits content of authenticated users alone.
    struct Named;

    impl Handler for Named {
        fn handle(&self, request: &Request<'_>) -> Outcome {
            let user: Result<&AuthenticatedUser, _> = request.extension();
            user.map(|user| Response::text(user.name())).into()
        }

        fn admit(&self, request: &Request<'_>) -> BodyPolicy {
            match request.extension::<AuthenticatedUser>() {
                Ok(_) => BodyPolicy::Stream { max: 7 },
                Err(_) => BodyPolicy::Reject(StatusCode::FORBIDDEN.into()),
            }
        }
    }

    let handler = BasicAuth::new(Named, credentials());
    let request = || with(Request::post("/", "content"), "ana:secret");
    let policy = handler.admit(&request());
    assert!(matches!(policy, BodyPolicy::Buffer { .. }), "{policy:?}");
    for _ in 0..2 {
        let response = handler.handle(&request()).wait();
        assert_eq!(response.into_content().expect("content"), b"ana");
    }
    // The login is cached now.
    let policy = handler.admit(&request());
    assert!(
        matches!(policy, BodyPolicy::Stream { max: 7 }),
        "{policy:?}"
    );
}

/// Also if the handler is asked about the content before the password is verified.
#[test]
fn layer_inside_runs_once_for_each_request() {
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let app = BoxHandler::new(Application).layer(around(move |request, next| {
        counted.fetch_add(1, Ordering::Relaxed);
        next.run(request)
    }));
    let client = TestClient::new(BasicAuth::new(app, credentials()));
    for number in 1..=3 {
        let response = client.send(with(Request::post("/post", "a"), "ana:secret"));
        assert_eq!(response.status(), 200);
        assert_eq!(calls.load(Ordering::Relaxed), number);
    }
}
