//! What is SQLite's own.

use std::path::PathBuf;

use rusqlite::Connection;
use tempfile::TempDir;

use super::*;

/// A database in a temporary folder.
pub(super) struct Place(TempDir);

impl Place {
    pub(super) fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("users.db")
    }
}

impl super::Place for Place {
    fn users(&self) -> Users {
        Users::open(&self.path()).expect("a store")
    }

    fn execute(&self, statement: &str) {
        let database = Connection::open(self.path()).expect("a database");
        database.execute(statement, []).expect("it is done");
    }
}

#[test]
fn a_full_disk_is_told_and_survived() {
    let place = Place::new();
    let (writer, reader) = sqlite::open(&place.path()).expect("a database");
    writer
        .0
        .pragma_update(None, "max_page_count", 8)
        .expect("a small disk");
    let users = Users::start(Store::start(writer, reader)).expect("a store");
    let app = App {
        router: users.routes(Router::new()),
        place: Box::new(place),
    };
    let content = json!({ "Nombre": "ñ".repeat(200) }).to_string();
    let answers = (0..100).map(|_| app.ask(&post(&content)).0);
    let created = answers.take_while(|status| *status == 201).count();
    assert!((1..100).contains(&created));
    assert_eq!(app.ask(&post(&content)).0, 503);
    assert_eq!(ids(&app.get("/users").1).len(), created);
    app.place.execute("DELETE FROM users WHERE id > 1");
    assert_eq!(app.ask(&post(&content)).0, 201);
}

#[test]
fn stores_that_do_not_open_say_why() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    std::fs::write(at("text"), "this is no database, ".repeat(100)).expect("a file");
    std::fs::create_dir(at("folder")).expect("a folder");
    Connection::open(at("other.db"))
        .and_then(|other| other.execute("CREATE TABLE users (nick TEXT)", []))
        .expect("another database");
    let table = [
        ("text", "file is not a database"),
        ("folder", "unable to open database file"),
        ("other.db", "has no column named name"),
    ];
    for (name, reason) in table {
        let error = Users::open(&at(name)).expect_err(name).to_string();
        let start = format!("cannot open the user database {}: ", at(name).display());
        assert!(error.starts_with(&start), "{error}");
        assert!(error.contains(reason) && !error.contains('\n'), "{error}");
    }
}

#[test]
fn folders_are_made() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a/b/users.db");
    Users::open(&path).expect("a store");
    assert!(path.exists());
    let error = Users::open(&path.join("c.db")).expect_err("a file is no folder");
    let start = format!(
        "cannot create the user database folder {}: ",
        path.display()
    );
    assert!(error.to_string().starts_with(&start), "{error}");
}
