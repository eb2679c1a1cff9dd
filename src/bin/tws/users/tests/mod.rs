//! The routes without a socket, with every database: SQLite in temporary folders, PostgreSQL as it
//! is installed.

use std::collections::BTreeSet;
use std::sync::Barrier;
use std::thread;

use http::header::{ALLOW, CONNECTION, CONTENT_TYPE, LOCATION, RETRY_AFTER};
use serde_json::{Value, json};
use tws::{Body, Handler, Method, Rejection, Request, Response, Router, StatusCode};

use super::*;

#[cfg(feature = "postgres")]
mod on_postgres;
#[cfg(feature = "sqlite")]
mod on_sqlite;

/// Runs each of these with every database, each time with an empty one.
macro_rules! with_every_database {
    ($($test:ident)+) => {
        #[cfg(feature = "sqlite")]
        mod with_sqlite {
            $(
                #[test]
                fn $test() {
                    super::$test(&super::TestApp::new(super::on_sqlite::SqliteFile::new()));
                }
            )+
        }
        #[cfg(feature = "postgres")]
        mod with_postgres {
            $(
                #[test]
                #[ignore = "needs PostgreSQL"]
                fn $test() {
                    super::$test(&super::TestApp::new(super::on_postgres::PostgresDatabase::new()));
                }
            )+
        }
    };
}

with_every_database! {
    created_user_is_found
    invalid_content_is_400
    head_is_checked_before_content
    rejection_is_json
    other_method_is_405
    list_is_paged
    unknown_id_is_404
    name_is_stored_unchanged
    concurrent_creations_get_distinct_ids
    created_user_survives_missing_shutdown
    id_is_never_reused
    failing_database_is_503_until_it_recovers
    location_includes_prefix
}

/// The database of a test.
trait TestDatabase: Sync + 'static {
    /// Opens another store on the database.
    fn open(&self) -> Arc<UserStore>;

    /// Executes a statement on the database, as another program.
    fn execute(&self, statement: &str);
}

/// The routes, with their database.
struct TestApp {
    router: Router,
    database: Box<dyn TestDatabase>,
}

impl TestApp {
    fn new(database: impl TestDatabase) -> Self {
        Self {
            router: routes_of(&database),
            database: Box::new(database),
        }
    }

    fn exchange(&self, request: &Request<'_>) -> (u16, Value, Response) {
        let response = self.router.handle(request).wait();
        assert_eq!(response.headers()[CONTENT_TYPE], "application/json");
        let status = response.status().as_u16();
        (status, json_of(&response), response)
    }

    fn get(&self, target: &str) -> (u16, Value) {
        let (status, value, _) = self.exchange(&Request::get(target));
        (status, value)
    }

    fn create(&self, name: &str) -> i64 {
        let (status, user, _) = self.exchange(&post(&json!({ "Nombre": name }).to_string()));
        assert_eq!(status, 201, "{user}");
        user["id"].as_i64().expect("an id")
    }
}

fn routes_of(database: &dyn TestDatabase) -> Router {
    router(&database.open())
}

fn router(store: &Arc<UserStore>) -> Router {
    add_routes(Router::new(), store)
}

fn post(content: &str) -> Request<'static> {
    Request::post("/createUser", content)
}

fn json_of(response: &Response) -> Value {
    match response.body() {
        Body::Bytes(bytes) => serde_json::from_slice(bytes).expect("JSON"),
        other => panic!("{other:?}"),
    }
}

fn ids(users: &Value) -> Vec<i64> {
    let users = users.as_array().expect("an array").iter();
    users.filter_map(|user| user["id"].as_i64()).collect()
}

fn created_user_is_found(app: &TestApp) {
    let content = r#"{"Nombre": " Ana ", "more": [1, {}]}"#;
    let (status, ana, response) = app.exchange(&post(content));
    assert_eq!(status, 201);
    assert_eq!(response.headers()[LOCATION], "/users/1");
    assert_eq!(ana["id"], 1);
    assert_eq!(ana["Nombre"], "Ana");
    let created = ana["created"].as_str().expect("a time");
    let shape = created.replace(|char: char| char.is_ascii_digit(), "0");
    assert_eq!(shape, "0000-00-00T00:00:00.000Z");
    assert_eq!(ana.as_object().map(serde_json::Map::len), Some(3));
    assert_eq!(app.get("/users/1"), (200, ana.clone()));
    assert_eq!(app.get("/users"), (200, json!([ana])));
}

fn invalid_content_is_400(app: &TestApp) {
    let long = "ñ".repeat(201);
    let table = [
        ("", "the request body is not valid JSON"),
        ("Ana", "the request body is not valid JSON"),
        ("{\"Nombre\": \"Ana\"", "the request body is not valid JSON"),
        (
            "{\"Nombre\": \"\\ud800\"}",
            "the request body is not valid JSON",
        ),
        (&"[".repeat(10_000), "the request body is not valid JSON"),
        (
            "[\"Nombre\"]",
            "the request body is not a JSON object; expected {\"Nombre\": \"a name\"}",
        ),
        ("null", "the request body is not a JSON object"),
        ("{}", "Nombre is missing"),
        ("{\"nombre\": \"Ana\"}", "Nombre is missing"),
        ("{\"Nombre\": null}", "Nombre is not a string"),
        ("{\"Nombre\": 1}", "Nombre is not a string"),
        ("{\"Nombre\": \"\"}", "Nombre is empty"),
        ("{\"Nombre\": \" \\t\\u3000\\n\"}", "Nombre is empty"),
        (
            &json!({ "Nombre": long }).to_string(),
            "Nombre is longer than 200 characters",
        ),
        (
            "{\"Nombre\": \"A\\u0000a\"}",
            "Nombre contains control characters",
        ),
        (
            "{\"Nombre\": \"A\\na\"}",
            "Nombre contains control characters",
        ),
        (
            "{\"Nombre\": \"A\\u009ba\"}",
            "Nombre contains control characters",
        ),
    ];
    for (content, error) in table {
        let (status, value, _) = app.exchange(&post(content));
        let text = value["error"].as_str().expect("an error");
        assert!(
            status == 400 && text.starts_with(error),
            "{content}: {status} {text}"
        );
    }
    assert_eq!(app.get("/users"), (200, json!([])));
}

fn head_is_checked_before_content(app: &TestApp) {
    let ana = || post(r#"{"Nombre": "Ana"}"#);
    let bare = Request::new(Method::POST, "/createUser");
    let chunked = bare.clone().with_header("Transfer-Encoding", "chunked");
    let typed = |media_type| ana().with_header("Content-Type", media_type);
    let large = |size: usize| post(&format!("{{\"Nombre\": \"Ana\"}}{:1$}", "", size - 17));
    let table = [
        ("no length", bare, 411),
        ("chunked and empty", chunked, 400),
        ("no type", ana(), 201),
        (
            "no type, from a page",
            ana().with_header("Origin", "https://a.test"),
            415,
        ),
        ("JSON", typed("application/json"), 201),
        (
            "JSON in UTF-8",
            typed("Application/JSON ; charset=UTF-8"),
            201,
        ),
        ("text", typed("text/plain"), 415),
        ("form", typed("application/x-www-form-urlencoded"), 415),
        ("nearly JSON", typed("application/jsonp"), 415),
        ("empty type", typed(""), 415),
        (
            "two types",
            typed("application/json").with_header("Content-Type", "text/plain"),
            415,
        ),
        ("16 KiB", large(16 * 1024), 201),
        ("more than 16 KiB", large(16 * 1024 + 1), 413),
    ];
    for (case, request, expected) in table {
        let (status, value, _) = app.exchange(&request);
        assert_eq!(status, expected, "{case}: {value}");
        assert_eq!(value["error"].is_string(), status != 201, "{case}: {value}");
    }
}

fn rejection_is_json(app: &TestApp) {
    let refusal = Rejection::new(StatusCode::PAYLOAD_TOO_LARGE, "request body too large");
    for request in [post(""), Request::get("/users"), Request::get("/users/1")] {
        let response = app.router.reject(&request, refusal);
        assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
        assert_eq!(response.headers()[CONNECTION], "close");
        assert_eq!(
            json_of(&response),
            json!({ "error": "request body too large" })
        );
    }
}

fn other_method_is_405(app: &TestApp) {
    for (method, target, allow) in [
        (Method::GET, "/createUser", "OPTIONS, POST"),
        (Method::DELETE, "/users", "GET, HEAD, OPTIONS"),
        (Method::PUT, "/users/1", "GET, HEAD, OPTIONS"),
    ] {
        let response = app.router.handle(&Request::new(method, target)).wait();
        assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(response.headers()[ALLOW], allow);
    }
}

fn list_is_paged(app: &TestApp) {
    for number in 1..=105 {
        assert_eq!(app.create(&format!("user {number}")), number);
    }
    let table = [
        ("/users", 1..=100),
        ("/users?after=100", 101..=105),
        ("/users?limit=2", 1..=2),
        ("/users?limit=2&after=2", 3..=4),
        ("/users?limit=1000", 1..=105),
        ("/users?after=0&limit=1", 1..=1),
        ("/users?after=104&limit=2", 105..=105),
    ];
    for (target, expected) in table {
        let (status, users) = app.get(target);
        assert_eq!((status, ids(&users)), (200, expected.collect()), "{target}");
    }
    assert_eq!(
        app.get("/users?after=9223372036854775807"),
        (200, json!([]))
    );
    let wrong = [
        "limit=0",
        "limit=1001",
        "limit=-1",
        "limit=",
        "limit",
        "limit=ten",
        "limit=1.0",
        "limit=%2B1",
        "limit=+1",
        "after=-1",
        "after=x",
        "after=9223372036854775808",
    ];
    for query in wrong {
        let (status, value) = app.get(&format!("/users?{query}"));
        let text = value["error"].as_str().unwrap_or_default();
        assert!(
            status == 400 && text.contains("must be a number"),
            "{query}: {value}"
        );
    }
}

fn unknown_id_is_404(app: &TestApp) {
    app.create("Ana");
    for id in [
        "2",
        "0",
        "-1",
        "+1",
        "x",
        "1x",
        "9223372036854775808",
        "%C3%B1",
    ] {
        let (status, value) = app.get(&format!("/users/{id}"));
        assert!(status == 404 && value["error"].is_string(), "{id}: {value}");
    }
}

fn name_is_stored_unchanged(app: &TestApp) {
    let longest = "ñ".repeat(200);
    let names = [
        "Ñandú Ágata",
        "O'Brien \"the\" \\ Robert'); DROP TABLE users;--",
        "李小龍",
        "👩‍👩‍👧 مريم",
        "<script>&amp;%s{}|",
        &longest,
    ];
    for name in names {
        let id = app.create(name);
        assert_eq!(app.get(&format!("/users/{id}")).1["Nombre"], name);
    }
}

fn concurrent_creations_get_distinct_ids(app: &TestApp) {
    const CLIENTS: usize = 200;
    let start = Barrier::new(CLIENTS);
    let created: BTreeSet<i64> = thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|number| {
                let start = &start;
                scope.spawn(move || {
                    start.wait();
                    app.create(&format!("user {number}"))
                })
            })
            .collect();
        let ids = clients.into_iter().map(thread::ScopedJoinHandle::join);
        ids.map(|id| id.expect("a user")).collect()
    });
    assert_eq!(created.len(), CLIENTS);
    let (_, users) = app.get("/users?limit=1000");
    assert_eq!(ids(&users), Vec::from_iter(created));
    let names = users.as_array().expect("an array").iter();
    let names: BTreeSet<_> = names.filter_map(|user| user["Nombre"].as_str()).collect();
    assert_eq!(names.len(), CLIENTS);
}

fn created_user_survives_missing_shutdown(app: &TestApp) {
    app.create("Ana");
    // The first store is still open, as if its process had been killed.
    let again = routes_of(app.database.as_ref());
    let response = again.handle(&Request::get("/users")).wait();
    assert_eq!(json_of(&response), app.get("/users").1);
    let response = again.handle(&post(r#"{"Nombre": "Eva"}"#)).wait();
    assert_eq!(json_of(&response)["id"], 2);
    assert_eq!(app.get("/users/2").1["Nombre"], "Eva");
}

fn id_is_never_reused(app: &TestApp) {
    app.create("Ana");
    app.create("Eva");
    app.database.execute("DELETE FROM users");
    assert_eq!(app.create("Ana"), 3);
}

fn failing_database_is_503_until_it_recovers(app: &TestApp) {
    app.create("Ana");
    let rename = |from: &str, to: &str| {
        app.database
            .execute(&format!("ALTER TABLE {from} RENAME TO {to}"));
    };
    rename("users", "gone");
    for request in [
        post(r#"{"Nombre": "Eva"}"#),
        Request::get("/users"),
        Request::get("/users/1"),
    ] {
        let (status, value, response) = app.exchange(&request);
        assert_eq!(status, 503, "{value}");
        assert_eq!(response.headers()[RETRY_AFTER], "1");
        let text = value["error"].as_str().expect("an error");
        assert!(!text.contains("table"), "for the log only: {text}");
    }
    rename("gone", "users");
    assert_eq!(app.create("Eva"), 2);
}

fn location_includes_prefix(app: &TestApp) {
    let router = Router::new().nest("/{shop}/api", routes_of(&*app.database));
    let request = Request::post("/t%20x/api/createUser", r#"{"Nombre":"Ana"}"#);
    let created = router.handle(&request).wait();
    assert_eq!(created.status(), StatusCode::CREATED);
    let location = created.headers()[LOCATION].to_str().expect("text");
    assert_eq!(location, "/t%20x/api/users/1");
    assert_eq!(router.handle(&Request::get(location)).wait().status(), 200);
}
