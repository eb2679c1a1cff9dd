//! Tests of the sample application's users: the routes, and durability across `kill -9` and
//! database failures.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;

use serde_json::{Value, json};

use crate::support::{Client, HttpResponse, TwsProcess};

/// Returns an empty site with users.
fn site() -> (tempfile::TempDir, TwsProcess) {
    let folder = tempfile::tempdir().expect("create temporary directory");
    let site = TwsProcess::start(
        folder.path(),
        &["--users", "sqlite:users.db", "--access-log=off"],
    );
    (folder, site)
}

pub(crate) fn post(client: &mut Client, content: &str) -> HttpResponse {
    client.send(format!(
        "POST /createUser HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{content}",
        content.len()
    ));
    client.response()
}

pub(crate) fn value(response: &HttpResponse) -> Value {
    serde_json::from_slice(&response.content).expect("parse JSON")
}

#[test]
fn created_users_are_listed_and_found() {
    let (_folder, site) = site();
    let mut client = site.client();
    for (id, name) in ["Ana", "Núria \"N\"", "李"].into_iter().enumerate() {
        let response = post(&mut client, &json!({ "Nombre": name }).to_string());
        let location = format!("/users/{}", id + 1);
        assert_eq!(
            (response.status, response.field("Location")),
            (201, Some(location.as_str()))
        );
        let user = value(&response);
        assert_eq!(
            (&user["id"], &user["Nombre"]),
            (&json!(id + 1), &json!(name))
        );
        assert_eq!(value(&client.get(&location)), user);
    }
    let names = |path: &str, client: &mut Client| {
        let users = value(&client.get(path));
        let users = users.as_array().expect("JSON array").clone();
        users
            .iter()
            .map(|user| user["id"].as_u64().expect("integer id"))
            .collect::<Vec<_>>()
    };
    assert_eq!(names("/users", &mut client), [1, 2, 3]);
    assert_eq!(names("/users?limit=2", &mut client), [1, 2]);
    assert_eq!(names("/users?limit=2&after=1", &mut client), [2, 3]);
    assert_eq!(names("/users?after=3", &mut client), [0_u64; 0]);
    assert_eq!(client.get("/users/4").status, 404);
}

#[test]
fn invalid_user_request_is_json_error() {
    let (_folder, site) = site();
    let long = json!({ "Nombre": "x".repeat(201) }).to_string();
    for (content, status) in [
        ("", 400),
        ("{", 400),
        ("[]", 400),
        ("{}", 400),
        (r#"{"Nombre": 1}"#, 400),
        (r#"{"Nombre": "  "}"#, 400),
        (long.as_str(), 400),
    ] {
        let response = post(&mut site.client(), content);
        assert_eq!(response.status, status, "{content}");
        assert!(value(&response)["error"].is_string(), "{content}");
    }
    let raw = |head: &str| {
        let mut client = site.client();
        client.send(format!(
            "POST /createUser HTTP/1.1\r\nHost: test\r\n{head}\r\n"
        ));
        client.response()
    };
    for (head, status) in [
        ("", 411),
        ("Content-Type: text/plain\r\nContent-Length: 0\r\n", 415),
        (
            "Content-Type: application/json\r\nContent-Length: 2000000\r\n",
            413,
        ),
        (
            "Content-Type: application/json\r\nContent-Length: 2000000\r\nExpect: 100-continue\r\n",
            413,
        ),
    ] {
        let response = raw(head);
        assert_eq!(response.status, status, "{head}");
        assert!(value(&response)["error"].is_string(), "{head}");
    }
    let response = site.client().get("/createUser");
    assert_eq!(
        (response.status, response.field("Allow")),
        (405, Some("OPTIONS, POST"))
    );
}

#[test]
fn without_users_option_users_route_is_404() {
    let folder = tempfile::tempdir().expect("create temporary directory");
    let site = TwsProcess::start(folder.path(), &["--access-log=off"]);
    assert_eq!(post(&mut site.client(), r#"{"Nombre":"Ana"}"#).status, 405);
    assert_eq!(site.client().get("/users").status, 404);
    let state = fs::read_dir(site.state.path()).expect("read directory");
    assert_eq!(state.count(), 0, "nothing was stored");
}

#[test]
fn created_user_survives_kill_9() {
    survives_kill_9("sqlite:users.db");
}

/// Clients send requests as fast as they can, and the process is killed meanwhile. Every user whose
/// 201 arrived exists afterwards, with the same id.
fn survives_kill_9(store: &str) {
    const ANSWERS_BEFORE_THE_KILL: usize = 400;
    let folder = tempfile::tempdir().expect("create temporary directory");
    let args = ["--users", store, "--access-log=off"];
    let site = TwsProcess::start(folder.path(), &args);
    let load = CreateUserLoad::on(site.address);
    let mut created = load.answers(ANSWERS_BEFORE_THE_KILL);
    let state = site.kill();
    created.extend(load.end());
    let again = TwsProcess::start_with_state(folder.path(), &args, state);
    assert_all_exist(created, &mut again.client());
}

#[test]
fn deleted_state_folder_is_503_until_restart() {
    let (folder, site) = site();
    let mut client = site.client();
    let ana = r#"{"Nombre": "Ana"}"#;
    assert_eq!(post(&mut client, ana).status, 201);
    fs::remove_dir_all(site.state.path()).expect("remove directory");
    for _ in 0..2 {
        let response = post(&mut client, ana);
        assert_eq!(
            (response.status, response.field("Retry-After")),
            (503, Some("1"))
        );
        assert_eq!(client.get("/users").status, 503);
        assert_eq!(client.get("/users/1").status, 503);
    }
    let state = site.kill();
    let args = ["--users", "sqlite:users.db", "--access-log=off"];
    let again = TwsProcess::start_with_state(folder.path(), &args, state);
    assert_eq!(post(&mut again.client(), ana).status, 201);
}

pub(crate) fn assert_all_exist(created: Vec<(u64, String)>, client: &mut Client) {
    let mut existing = BTreeMap::new();
    loop {
        let after = existing.last_key_value().map_or(0, |(id, _)| *id);
        let page = value(&client.get(&format!("/users?limit=1000&after={after}")));
        let page = page.as_array().expect("JSON array of users").clone();
        if page.is_empty() {
            break;
        }
        existing.extend(page.iter().map(|user| {
            let name = user["Nombre"].as_str().expect("JSON string");
            (user["id"].as_u64().expect("integer id"), name.to_owned())
        }));
    }
    let mut seen = BTreeSet::new();
    for (id, name) in created {
        assert_eq!(existing.get(&id), Some(&name), "{id}");
        assert!(seen.insert(id), "{id} was given twice");
    }
}

/// Clients that create users as fast as they can, until they are stopped or their connections
/// close. A 503 is tolerated, and the next user is tried.
pub(crate) struct CreateUserLoad {
    answers: mpsc::Receiver<(u64, String)>,
    clients: Vec<thread::JoinHandle<()>>,
    end: Arc<AtomicBool>,
}

impl CreateUserLoad {
    const CLIENTS: usize = 16;

    pub(crate) fn on(address: SocketAddr) -> Self {
        let (answered, answers) = mpsc::channel();
        let end = Arc::new(AtomicBool::new(false));
        let clients = (0..Self::CLIENTS).map(|number| {
            let (answered, end) = (answered.clone(), Arc::clone(&end));
            thread::spawn(move || {
                let names = (0..).map(|at| format!("client {number} user {at}"));
                // The kill ends this with an error at any point.
                let _ = post_all(address, names, &answered, &end);
            })
        });
        Self {
            clients: clients.collect(),
            answers,
            end,
        }
    }

    /// Returns the next `count` users that were created.
    pub(crate) fn answers(&self, count: usize) -> Vec<(u64, String)> {
        let answers: Vec<_> = self.answers.iter().take(count).collect();
        assert_eq!(answers.len(), count);
        answers
    }

    /// Stops the clients and returns the remaining users that were created.
    pub(crate) fn end(self) -> Vec<(u64, String)> {
        self.end.store(true, Ordering::Relaxed);
        for client in self.clients {
            client.join().expect("thread does not panic");
        }
        self.answers.try_iter().collect()
    }
}

fn post_all(
    address: SocketAddr,
    names: impl Iterator<Item = String>,
    answered: &mpsc::Sender<(u64, String)>,
    end: &AtomicBool,
) -> io::Result<()> {
    let mut stream = BufReader::new(TcpStream::connect(address)?);
    for name in names {
        if end.load(Ordering::Relaxed) {
            break;
        }
        let content = json!({ "Nombre": name }).to_string();
        write!(
            stream.get_mut(),
            "POST /createUser HTTP/1.1\r\nHost: test\r\nContent-Length: {}\r\n\r\n{content}",
            content.len()
        )?;
        if let Some(id) = created_id(&mut stream)?
            && answered.send((id, name)).is_err()
        {
            break;
        }
    }
    Ok(())
}

/// Returns the id in a 201; `None` for a 503, when the database is unavailable.
fn created_id(reader: &mut impl BufRead) -> io::Result<Option<u64>> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    let (_, after) = head
        .split_once("Content-Length: ")
        .expect("Content-Length field");
    let length = after.lines().next().and_then(|length| length.parse().ok());
    let mut content = vec![0; length.expect("valid Content-Length")];
    reader.read_exact(&mut content)?;
    if head.starts_with("HTTP/1.1 503 ") {
        assert!(head.contains("Retry-After: 1\r\n"), "{head}");
        return Ok(None);
    }
    assert!(head.starts_with("HTTP/1.1 201 "), "{head}");
    let user: Value = serde_json::from_slice(&content)?;
    Ok(Some(user["id"].as_u64().expect("integer id")))
}

#[cfg(feature = "postgres")]
mod on_postgres {
    use super::*;
    use crate::support::line_reader::LineReader;
    use crate::support::postgres::Postgres;
    use crate::support::{ChildProcess, eventually};

    const ANA: &str = r#"{"Nombre": "Ana"}"#;

    /// Returns a site with users in a database, and a static file that a helper thread compresses.
    fn site(postgres: &Postgres, parameters: &str) -> (tempfile::TempDir, TwsProcess) {
        let folder = tempfile::tempdir().expect("create temporary directory");
        fs::write(folder.path().join("page.html"), "page ".repeat(1000)).expect("write file");
        let url = postgres.url(&postgres.new_database()) + parameters;
        let args = ["--users", &url, "--access-log=off"];
        let site = TwsProcess::start(folder.path(), &args);
        (folder, site)
    }

    fn assert_serves_files(site: &TwsProcess) {
        let mut client = site.client();
        assert_eq!(client.get("/page.html").content, b"page ".repeat(1000));
        let gzip = client.request("GET", "/page.html", "Accept-Encoding: gzip\r\n");
        assert_eq!(gzip.field("Content-Encoding"), Some("gzip"));
    }

    #[test]
    #[ignore = "needs PostgreSQL"]
    fn created_user_survives_kill_9() {
        let postgres = Postgres::start();
        survives_kill_9(&postgres.url(&postgres.new_database()));
    }

    #[test]
    #[ignore = "needs PostgreSQL"]
    fn created_user_survives_database_crash() {
        let mut postgres = Postgres::start();
        let (_folder, site) = site(&postgres, "");
        let load = CreateUserLoad::on(site.address);
        let mut created = load.answers(400);
        for _ in 0..2 {
            postgres.stop();
            let mut client = site.client();
            let response = post(&mut client, ANA);
            assert_eq!(
                (response.status, response.field("Retry-After")),
                (503, Some("1"))
            );
            assert_eq!(client.get("/users").status, 503);
            assert_serves_files(&site);
            postgres.run();
            // Users created before the crash, and `count` more after it.
            created.extend(load.answers.try_iter());
            created.extend(load.answers(400));
            // A new connection: the old one may have reached its keep-alive timeout.
            eventually!(|| site.client().get("/users").status == 200);
        }
        created.extend(load.end());
        assert_all_exist(created, &mut site.client());
    }

    #[test]
    #[ignore = "needs PostgreSQL"]
    fn users_are_503_until_database_starts() {
        let mut postgres = Postgres::start();
        let database = postgres.url(&postgres.new_database());
        postgres.stop();
        let folder = tempfile::tempdir().expect("create temporary directory");
        let site_file = format!("[users]\nstore = {database:?}\n");
        fs::write(folder.path().join("tws.toml"), site_file).expect("write file");
        fs::write(folder.path().join("page.html"), "page").expect("write file");
        let site = TwsProcess::start(folder.path(), &["--config=tws.toml", "--access-log=off"]);
        let mut client = site.client();
        assert_eq!(post(&mut client, ANA).status, 503);
        assert_eq!(client.get("/page.html").status, 200);
        postgres.run();
        // New connections: the old one may have reached its keep-alive timeout.
        eventually!(|| post(&mut site.client(), ANA).status == 201);
        eventually!(|| site.client().get("/users/1").status == 200);
    }

    /// The database hangs for longer than the test's timeout; only requests that need it may wait.
    #[test]
    #[ignore = "needs PostgreSQL"]
    fn hung_database_does_not_block_files() {
        const CLIENTS: usize = 100;
        let postgres = Postgres::start();
        let (_folder, site) = site(&postgres, "?connect_timeout=3600");
        assert_eq!(post(&mut site.client(), ANA).status, 201);
        assert_eq!(site.client().get("/users").status, 200);
        postgres.freeze();
        let mut waiting: Vec<_> = (0..CLIENTS).map(|_| site.client()).collect();
        for client in &mut waiting {
            client.send("GET /users/1 HTTP/1.1\r\nHost: test\r\n\r\n");
        }
        assert_serves_files(&site);
        postgres.thaw();
        for client in &mut waiting {
            assert_eq!(client.response().status, 200);
        }
    }

    #[test]
    #[ignore = "needs PostgreSQL"]
    fn database_password_is_not_logged() {
        use std::process::{Command, Stdio};
        let folder = tempfile::tempdir().expect("create temporary directory");
        let tws = |url: &str| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_tws"));
            command.args(["-vvv", "--port=0", "--users", url]);
            command.current_dir(folder.path()).stderr(Stdio::piped());
            ChildProcess::start(command.stdout(Stdio::null()))
        };
        let postgres = Postgres::start();
        let database = postgres.url(&postgres.new_database());
        let wrong = database.replacen("s3cret", "s3cretx", 1);
        for (url, expected) in [
            (&database, "SELECT id, name"),
            (&wrong, "database connection lost"),
        ] {
            let mut child = tws(url);
            let mut stderr = LineReader::new(child.stderr.take().expect("stdio pipe"));
            let log = stderr.read_until(expected).concat();
            assert!(!log.contains("s3cret"), "{log}");
        }
    }
}
