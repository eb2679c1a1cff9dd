//! Tests of PostgreSQL alone.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use super::*;
use crate::sync::Mutex;
use crate::users::store::User;

#[path = "../../../../../tests/support/ports.rs"]
mod ports;
#[path = "../../../../../tests/support/postgres.rs"]
mod server;

use server::Postgres;

/// One server for all tests that run at the same time.
static SERVER: Mutex<Weak<Postgres>> = Mutex::new(Weak::new());

/// A database on the server.
pub(super) struct PostgresDatabase {
    server: Arc<Postgres>,
    name: String,
}

impl PostgresDatabase {
    pub(super) fn new() -> Self {
        let mut running = SERVER.lock();
        let server = running.upgrade().unwrap_or_else(|| {
            let server = Arc::new(Postgres::start());
            *running = Arc::downgrade(&server);
            server
        });
        let name = server.new_database();
        Self { server, name }
    }

    fn url(&self) -> String {
        self.server.url(&self.name)
    }
}

impl TestDatabase for PostgresDatabase {
    fn open(&self) -> Arc<UserStore> {
        // On a slow machine a query takes longer than the default timeout.
        open_url(&format!("{}?connect_timeout=300", self.url())).expect("a store")
    }

    fn execute(&self, statement: &str) {
        self.server.query(&self.name, statement);
    }
}

fn open_url(url: &str) -> Result<Arc<UserStore>, Error> {
    super::open(&url.parse().expect("a URL of PostgreSQL"))
}

#[test]
fn invalid_url_error_hides_secrets() {
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
        let error = open_url(url).expect_err(url).to_string();
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
fn unreachable_database_is_503() {
    // Port 1, of tcpmux, is not in use.
    let router = router(&open_url("postgres://ana@127.0.0.1:1/d").expect("a store"));
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

/// The listener accepts connections and never responds, like a database that hangs.
#[test]
fn unresponsive_database_is_503() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = silent.local_addr().expect("an address").port();
    const SECONDS: u64 = 3;
    let url = format!("postgres://ana@127.0.0.1:{port}/d?connect_timeout={SECONDS}");
    let router = router(&open_url(&url).expect("a store"));
    let status = || router.handle(&Request::get("/users")).wait().status();
    assert_eq!(status(), StatusCode::SERVICE_UNAVAILABLE);
    // Once the connection is lost, requests do not wait for the attempt to reconnect.
    let start = Instant::now();
    assert_eq!(status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(start.elapsed() < Duration::from_secs(SECONDS - 1));
}

#[test]
fn users_are_returned_in_order_of_names() {
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
fn concurrent_starts_share_one_table() {
    const STORES: usize = 8;
    let database = PostgresDatabase::new();
    let start = Barrier::new(STORES);
    let created: BTreeSet<i64> = thread::scope(|scope| {
        let stores: Vec<_> = (0..STORES)
            .map(|_| {
                scope.spawn(|| {
                    start.wait();
                    let response = routes_of(&database)
                        .handle(&post(r#"{"Nombre": "Ana"}"#))
                        .wait();
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

/// Another server has created the table in a transaction that is not committed yet.
#[test]
#[ignore = "needs PostgreSQL"]
fn table_created_concurrently_is_used() {
    let database = PostgresDatabase::new();
    thread::scope(|scope| {
        let create = "BEGIN;
            CREATE TABLE users (
                id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
                name TEXT NOT NULL,
                created TIMESTAMPTZ NOT NULL DEFAULT now()
            );
            SELECT pg_sleep(1) AS slow;
            COMMIT";
        scope.spawn(|| database.execute(create));
        // On a slow machine the transaction may be over before it is seen.
        let has_begun = "SELECT to_regclass('users') IS NOT NULL OR EXISTS (
            SELECT FROM pg_stat_activity
            WHERE datname = current_database() AND wait_event = 'PgSleep')";
        wait_until(|| database.server.query(&database.name, has_begun) == "t\n");
        let response = routes_of(&database)
            .handle(&post(r#"{"Nombre": "Ana"}"#))
            .wait();
        assert_eq!(response.status(), StatusCode::CREATED);
    });
}

#[test]
#[ignore = "needs PostgreSQL"]
fn closed_connection_is_reestablished() {
    let app = TestApp::new(PostgresDatabase::new());
    app.create("Ana");
    assert_eq!(app.get("/users").0, 200);
    app.database.execute(
        "SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity
         WHERE datname = current_database() AND application_name = 'tws'",
    );
    // No query failed in between, so no request is rejected.
    app.create("Eva");
    assert_eq!(ids(&app.get("/users").1), [1, 2]);
}

#[test]
#[ignore = "needs PostgreSQL"]
fn existing_table_needs_no_create_privilege() {
    let database = PostgresDatabase::new();
    TestApp::new(PostgresDatabase {
        server: Arc::clone(&database.server),
        name: database.name.clone(),
    })
    .create("Ana");
    let role = format!("role_of_{}", database.name);
    for statement in [
        format!("CREATE ROLE {role} LOGIN PASSWORD 'x'"),
        "REVOKE CREATE ON SCHEMA public FROM PUBLIC".to_owned(),
        format!("GRANT SELECT, INSERT ON users TO {role}"),
    ] {
        database.execute(&statement);
    }
    let url = database.url();
    let (_, host) = url.split_once('@').expect("a host");
    let store = open_url(&format!("postgresql://{host}?user={role}&password=x"));
    let router = router(&store.expect("a store"));
    let response = router.handle(&post(r#"{"Nombre": "Eva"}"#)).wait();
    assert_eq!(json_of(&response)["id"], 2);
}

#[test]
#[ignore = "needs PostgreSQL"]
fn locked_table_is_503_and_leaves_no_statement_waiting() {
    let database = PostgresDatabase::new();
    let url = format!("{}?connect_timeout=1", database.url());
    let (server, name) = (Arc::clone(&database.server), database.name.clone());
    let app = TestApp::new(database);
    app.create("Ana");
    thread::scope(|scope| {
        let lock = "BEGIN; LOCK TABLE users; SELECT pg_sleep(3600); COMMIT";
        let database = app.database.as_ref();
        scope.spawn(move || {
            let held =
                std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| database.execute(lock)));
            assert!(held.is_err(), "the backend was terminated");
        });
        let is_locked = || {
            let locks = "SELECT count(*) FROM pg_locks
                 WHERE relation = 'users'::regclass AND mode = 'AccessExclusiveLock' AND granted";
            server.query(&name, locks) == "1\n"
        };
        wait_until(is_locked);
        let impatient = router(&open_url(&url).expect("a store"));
        let response = impatient.handle(&post(r#"{"Nombre": "Eva"}"#)).wait();
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        database.execute(
            "SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity
             WHERE datname = current_database() AND query LIKE 'BEGIN; LOCK%'",
        );
    });
    app.create("Eva");
    assert_eq!(ids(&app.get("/users").1).len(), 2);
}

/// Waits until a condition holds, for as long as that may take on a slow machine.
fn wait_until(is_met: impl Fn() -> bool) {
    let start = Instant::now();
    while !is_met() {
        assert!(start.elapsed() < Duration::from_secs(300), "timeout");
        thread::yield_now();
    }
}

#[test]
#[ignore = "needs PostgreSQL"]
fn frozen_database_is_503_until_it_resumes() {
    let server = Arc::new(Postgres::start());
    let name = server.new_database();
    let database = PostgresDatabase { server, name };
    let store = open_url(&format!("{}?connect_timeout=1", database.url())).expect("a store");
    let router = router(&store);
    let status = |request: &Request<'_>| router.handle(request).wait().status();
    let (create, list) = (post(r#"{"Nombre": "Ana"}"#), Request::get("/users"));
    // On a slow machine queries take longer than the timeout, too.
    wait_until(|| status(&create) == StatusCode::CREATED);
    database.server.freeze();
    for request in [&create, &list, &create, &list] {
        assert_eq!(status(request), StatusCode::SERVICE_UNAVAILABLE);
    }
    database.server.thaw();
    for request in [&create, &list] {
        wait_until(|| status(request) != StatusCode::SERVICE_UNAVAILABLE);
    }
}
