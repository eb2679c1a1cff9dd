//! The users of the sample application, through sockets and through `kill -9`.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::sync::mpsc;
use std::thread;

use serde_json::{Value, json};

use crate::support::{Client, Process, Reply};

/// A site with users and nothing else.
fn site() -> (tempfile::TempDir, Process) {
    let folder = tempfile::tempdir().expect("a folder");
    let site = Process::start(
        folder.path(),
        &["--users", "sqlite:users.db", "--access-log=off"],
    );
    (folder, site)
}

fn post(client: &mut Client, content: &str) -> Reply {
    client.send(format!(
        "POST /createUser HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{content}",
        content.len()
    ));
    client.reply()
}

fn value(reply: &Reply) -> Value {
    serde_json::from_slice(&reply.content).expect("JSON")
}

#[test]
fn users_are_created_listed_and_found() {
    let (_folder, site) = site();
    let mut client = site.client();
    for (id, name) in ["Ana", "Núria \"N\"", "李"].into_iter().enumerate() {
        let reply = post(&mut client, &json!({ "Nombre": name }).to_string());
        let location = format!("/users/{}", id + 1);
        assert_eq!(
            (reply.status, reply.field("Location")),
            (201, Some(location.as_str()))
        );
        let user = value(&reply);
        assert_eq!(
            (&user["id"], &user["Nombre"]),
            (&json!(id + 1), &json!(name))
        );
        assert_eq!(value(&client.get(&location)), user);
    }
    let names = |path: &str, client: &mut Client| {
        let users = value(&client.get(path));
        let users = users.as_array().expect("an array").clone();
        users
            .iter()
            .map(|user| user["id"].as_u64().expect("an id"))
            .collect::<Vec<_>>()
    };
    assert_eq!(names("/users", &mut client), [1, 2, 3]);
    assert_eq!(names("/users?limit=2", &mut client), [1, 2]);
    assert_eq!(names("/users?limit=2&after=1", &mut client), [2, 3]);
    assert_eq!(names("/users?after=3", &mut client), [0_u64; 0]);
    assert_eq!(client.get("/users/4").status, 404);
}

#[test]
fn what_is_wrong_is_said_in_json() {
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
        let reply = post(&mut site.client(), content);
        assert_eq!(reply.status, status, "{content}");
        assert!(value(&reply)["error"].is_string(), "{content}");
    }
    let raw = |head: &str| {
        let mut client = site.client();
        client.send(format!(
            "POST /createUser HTTP/1.1\r\nHost: test\r\n{head}\r\n"
        ));
        client.reply()
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
        let reply = raw(head);
        assert_eq!(reply.status, status, "{head}");
        assert!(value(&reply)["error"].is_string(), "{head}");
    }
    let reply = site.client().get("/createUser");
    assert_eq!(
        (reply.status, reply.field("Allow")),
        (405, Some("OPTIONS, POST"))
    );
}

#[test]
fn an_ordinary_site_has_no_users() {
    let folder = tempfile::tempdir().expect("a folder");
    let site = Process::start(folder.path(), &["--access-log=off"]);
    assert_eq!(post(&mut site.client(), r#"{"Nombre":"Ana"}"#).status, 405);
    assert_eq!(site.client().get("/users").status, 404);
    let state = fs::read_dir(site.state.path()).expect("a folder");
    assert_eq!(state.count(), 0, "nothing was stored");
}

/// Four clients post as fast as they can; the process is killed in the middle of it. Every user
/// whose 201 arrived is there afterwards, under the same id.
#[test]
fn a_201_survives_kill_9() {
    const CLIENTS: usize = 4;
    const ANSWERS_BEFORE_THE_KILL: usize = 200;
    let (folder, site) = site();
    let (answered, answers) = mpsc::channel();
    let address = site.address;
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let answered = answered.clone();
            thread::spawn(move || {
                let stream = std::net::TcpStream::connect(address).expect("a server");
                let mut reader = std::io::BufReader::new(stream.try_clone().expect("a stream"));
                for at in 0.. {
                    let name = format!("client {number} user {at}");
                    let content = json!({ "Nombre": name }).to_string();
                    let request = format!(
                        "POST /createUser HTTP/1.1\r\nHost: test\r\nContent-Length: {}\r\n\r\n{content}",
                        content.len()
                    );
                    // The kill ends this, wherever it is.
                    if (&stream).write_all(request.as_bytes()).is_err() {
                        return;
                    }
                    let Some(id) = created_id(&mut reader) else {
                        return;
                    };
                    if answered.send((id, name)).is_err() {
                        return;
                    }
                }
            })
        })
        .collect();
    drop(answered);
    let mut created: BTreeMap<u64, String> = BTreeMap::new();
    created.extend(answers.iter().take(ANSWERS_BEFORE_THE_KILL));
    let state = site.kill();
    // What arrived between the last one counted and the kill counts, too.
    created.extend(answers.iter());
    for client in clients {
        client.join().expect("no panic");
    }
    assert!(created.len() >= ANSWERS_BEFORE_THE_KILL, "no id twice");

    let args = ["--users", "sqlite:users.db", "--access-log=off"];
    let again = Process::start_with_state(folder.path(), &args, state);
    let mut client = again.client();
    for (id, name) in created {
        let reply = client.get(&format!("/users/{id}"));
        assert_eq!(reply.status, 200, "{id} {name}");
        assert_eq!(value(&reply)["Nombre"], json!(name));
    }
}

/// The id in a 201, or `None` if the connection ended first.
fn created_id(reader: &mut impl std::io::BufRead) -> Option<u64> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    assert!(head.starts_with("HTTP/1.1 201 "), "{head}");
    let (_, behind) = head.split_once("Content-Length: ")?;
    let length = behind.lines().next()?.parse().ok()?;
    let mut content = vec![0; length];
    reader.read_exact(&mut content).ok()?;
    let user: Value = serde_json::from_slice(&content).ok()?;
    user["id"].as_u64()
}
