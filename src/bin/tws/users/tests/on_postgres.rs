//! What is PostgreSQL's own.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use super::*;

#[path = "../../../../../tests/support/ports.rs"]
mod ports;
#[path = "../../../../../tests/support/postgres.rs"]
mod program;

use program::Postgres;

/// One program serves all tests that run at a time.
static SHARED: Mutex<Weak<Postgres>> = Mutex::new(Weak::new());

/// A database of its own.
pub(super) struct Place {
    postgres: Arc<Postgres>,
    database: String,
}

impl Place {
    pub(super) fn new() -> Self {
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        let postgres = shared.upgrade().unwrap_or_else(|| {
            let postgres = Arc::new(Postgres::start());
            *shared = Arc::downgrade(&postgres);
            postgres
        });
        let database = postgres.new_database();
        Self { postgres, database }
    }

    fn url(&self) -> String {
        self.postgres.url(&self.database)
    }
}

impl super::Place for Place {
    fn users(&self) -> Users {
        Users::connect(&self.url()).expect("a store")
    }

    fn execute(&self, statement: &str) {
        self.postgres.query(&self.database, statement);
    }
}

#[test]
fn urls_that_are_refused_keep_their_secrets() {
    let table = [
        ("postgres://ana:s3cret@h/d?sslmode=require", "requires TLS"),
        (
            "postgres://ana:s3cret@h/d?sslmode=verify-full",
            "requires TLS",
        ),
        (
            "postgres://ana:s3cret@h/d?s3cret=1",
            "postgres://user:password@host",
        ),
        ("postgres://ana:s3cret", "port"),
        ("postgres://ana:s3cret@h:port/d", "port"),
        ("postgres:///d?password=s3cret", "names no host"),
        (
            "postgres://ana:s3cret@/d?password",
            "postgres://user:password@host",
        ),
    ];
    for (url, reason) in table {
        let error = Users::connect(url).expect_err(url).to_string();
        let start = "users cannot be stored in this database: ";
        assert!(error.starts_with(start), "{url}: {error}");
        assert!(
            error.contains(reason) || reason == "requires TLS" && error.contains("TLS"),
            "{url}: {error}"
        );
        assert!(!error.contains("s3cret"), "{url}: {error}");
    }
}

#[test]
fn a_database_that_is_not_there_is_a_503() {
    // Nobody listens on the port of tcpmux.
    let users = Users::connect("postgres://ana@127.0.0.1:1/d").expect("a store");
    let router = users.routes(Router::new());
    for request in [
        post(r#"{"Nombre": "Eva"}"#),
        Request::get("/users"),
        Request::get("/users/1"),
    ] {
        let response = router.handle(&request).wait();
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(response.headers()[RETRY_AFTER], "1");
    }
}

/// Takes connections and says nothing, as a database that hangs.
#[test]
fn a_database_that_does_not_answer_is_a_503() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = silent.local_addr().expect("an address").port();
    const SECONDS: u64 = 3;
    let url = format!("postgres://ana@127.0.0.1:{port}/d?connect_timeout={SECONDS}");
    let router = Users::connect(&url).expect("a store").routes(Router::new());
    let status = || router.handle(&Request::get("/users")).wait().status();
    assert_eq!(status(), StatusCode::SERVICE_UNAVAILABLE);
    // Now that it is known, nobody waits for the next attempt, which is under way.
    let start = Instant::now();
    assert_eq!(status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(start.elapsed() < Duration::from_secs(SECONDS - 1));
}

#[test]
fn names_find_their_users_in_any_order() {
    let user = |id: i64, name: &str| User {
        id,
        name: name.to_owned(),
        created: String::new(),
    };
    let rows = vec![user(1, "Eva"), user(2, "Ana"), user(3, "Eva")];
    let users = postgres::in_order(&["Ana", "Eva", "Eva"], rows).expect("users");
    let ids: Vec<i64> = users.iter().map(|user| user.id).collect();
    assert_eq!(ids, [2, 1, 3]);
    assert!(postgres::in_order(&["Ana"], vec![user(1, "ana")]).is_err());
}

#[test]
#[ignore = "needs PostgreSQL"]
fn stores_that_start_at_once_share_a_table() {
    const STORES: usize = 8;
    let place = Place::new();
    let start = Barrier::new(STORES);
    let created: BTreeSet<i64> = thread::scope(|scope| {
        let stores: Vec<_> = (0..STORES)
            .map(|_| {
                scope.spawn(|| {
                    start.wait();
                    let response = routes(&place).handle(&post(r#"{"Nombre": "Ana"}"#)).wait();
                    assert_eq!(response.status(), StatusCode::CREATED);
                    json_of(&response)["id"].as_i64().expect("an id")
                })
            })
            .collect();
        let ids = stores.into_iter().map(thread::ScopedJoinHandle::join);
        ids.map(|id| id.expect("a user")).collect()
    });
    assert_eq!(created.len(), STORES);
}

/// Another server is about to create the table, and is not seen yet.
#[test]
#[ignore = "needs PostgreSQL"]
fn a_table_that_appears_meanwhile_is_taken() {
    let place = Place::new();
    thread::scope(|scope| {
        let create = "BEGIN;
            CREATE TABLE users (
                id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
                name TEXT NOT NULL,
                created TIMESTAMPTZ NOT NULL DEFAULT now()
            );
            SELECT pg_sleep(1) AS slow;
            COMMIT";
        scope.spawn(|| super::Place::execute(&place, create));
        let sleeping = "SELECT count(*) FROM pg_stat_activity
            WHERE datname = current_database() AND wait_event = 'PgSleep'";
        while place.postgres.query(&place.database, sleeping).trim() != "1" {}
        let response = routes(&place).handle(&post(r#"{"Nombre": "Ana"}"#)).wait();
        assert_eq!(response.status(), StatusCode::CREATED);
    });
}

#[test]
#[ignore = "needs PostgreSQL"]
fn a_connection_that_ended_meanwhile_is_made_again() {
    let place = Place::new();
    let app = App::on(place);
    app.create("Ana");
    assert_eq!(app.get("/users").0, 200);
    app.place.execute(
        "SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity
         WHERE datname = current_database() AND application_name = 'tws'",
    );
    // Nobody has asked since, and nobody has to be told.
    app.create("Eva");
    assert_eq!(ids(&app.get("/users").1), [1, 2]);
}

#[test]
#[ignore = "needs PostgreSQL"]
fn a_table_that_exists_needs_no_right_to_make_one() {
    let place = Place::new();
    App::on(Place {
        postgres: Arc::clone(&place.postgres),
        database: place.database.clone(),
    })
    .create("Ana");
    let role = format!("role_of_{}", place.database);
    for statement in [
        format!("CREATE ROLE {role} LOGIN PASSWORD 'x'"),
        "REVOKE CREATE ON SCHEMA public FROM PUBLIC".to_owned(),
        format!("GRANT SELECT, INSERT ON users TO {role}"),
    ] {
        super::Place::execute(&place, &statement);
    }
    let url = place.url();
    let (_, host) = url.split_once('@').expect("a host");
    let users = Users::connect(&format!("postgresql://{host}?user={role}&password=x"));
    let router = users.expect("a store").routes(Router::new());
    let response = router.handle(&post(r#"{"Nombre": "Eva"}"#)).wait();
    assert_eq!(json_of(&response)["id"], 2);
}

#[test]
#[ignore = "needs PostgreSQL"]
fn a_locked_table_is_a_503_in_time_and_leaves_nothing_behind() {
    let place = Place::new();
    let users = Users::connect(&format!("{}?connect_timeout=1", place.url())).expect("a store");
    let app = App {
        router: users.routes(Router::new()),
        place: Box::new(place),
    };
    app.create("Ana");
    let mut created = 1;
    thread::scope(|scope| {
        let lock = "BEGIN; LOCK TABLE users; SELECT pg_sleep(3600); COMMIT";
        let (router, place) = (&app.router, app.place.as_ref());
        scope.spawn(move || {
            let held =
                std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| place.execute(lock)));
            assert!(held.is_err(), "it was ended");
        });
        let status = || router.handle(&post(r#"{"Nombre": "Eva"}"#)).wait().status();
        while status() == StatusCode::CREATED {
            created += 1;
        }
        place.execute(
            "SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity
             WHERE datname = current_database() AND query LIKE 'BEGIN; LOCK%'",
        );
    });
    app.create("Eva");
    assert_eq!(ids(&app.get("/users?limit=1000").1).len(), created + 1);
}

#[test]
#[ignore = "needs PostgreSQL"]
fn a_frozen_database_is_a_503_in_time_and_survived() {
    let postgres = Arc::new(Postgres::start());
    let database = postgres.new_database();
    let place = Place { postgres, database };
    let users = Users::connect(&format!("{}?connect_timeout=1", place.url())).expect("a store");
    let router = users.routes(Router::new());
    let status = |request: &Request<'_>| router.handle(request).wait().status();
    let (create, list) = (post(r#"{"Nombre": "Ana"}"#), Request::get("/users"));
    assert_eq!(status(&create), StatusCode::CREATED);
    place.postgres.freeze();
    for request in [&create, &list, &create, &list] {
        assert_eq!(status(request), StatusCode::SERVICE_UNAVAILABLE);
    }
    place.postgres.thaw();
    let start = Instant::now();
    for request in [&create, &list] {
        while status(request) == StatusCode::SERVICE_UNAVAILABLE {
            assert!(start.elapsed() < Duration::from_secs(60), "it is back");
            thread::yield_now();
        }
    }
}
