//! Tests of SQLite alone.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rusqlite::Connection;
use tempfile::TempDir;

use super::*;

/// A database in a temporary folder.
pub(super) struct SqliteFile(TempDir);

impl SqliteFile {
    pub(super) fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("users.db")
    }
}

impl TestDatabase for SqliteFile {
    fn open(&self) -> Arc<UserStore> {
        open_at(&self.path()).expect("a store")
    }

    fn execute(&self, statement: &str) {
        let database = Connection::open(self.path()).expect("a database");
        database.execute(statement, []).expect("executed");
    }
}

fn open_at(path: &Path) -> Result<Arc<UserStore>, Error> {
    super::open(&Store::Sqlite(path.to_owned()))
}

#[test]
fn new_database_is_private() {
    let database = SqliteFile::new();
    let _store = database.open();
    for suffix in ["", "-wal", "-shm"] {
        let path = database.path().display().to_string() + suffix;
        let mode = std::fs::metadata(&path)
            .expect("a file")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600, "{path}");
    }
}

#[test]
fn full_disk_is_503_until_space_is_free() {
    let database = SqliteFile::new();
    let (writer, reader) = sqlite::open(&database.path()).expect("a database");
    writer
        .connection
        .pragma_update(None, "max_page_count", 8)
        .expect("a small disk");
    let store = UserStore::start(writer, reader).expect("a store");
    let app = TestApp {
        router: router(&store),
        database: Box::new(database),
    };
    let content = json!({ "Nombre": "ñ".repeat(200) }).to_string();
    let statuses = (0..100).map(|_| app.exchange(&post(&content)).0);
    let created = statuses.take_while(|status| *status == 201).count();
    assert!((1..100).contains(&created));
    assert_eq!(app.exchange(&post(&content)).0, 503);
    assert_eq!(ids(&app.get("/users").1).len(), created);
    app.database.execute("DELETE FROM users WHERE id > 1");
    assert_eq!(app.exchange(&post(&content)).0, 201);
}

/// What is written to a file without a name would be lost when the server ends.
#[test]
fn database_without_its_files_is_lost_until_they_are_back() {
    use store::{Database, StoreError};
    let database = SqliteFile::new();
    let (mut writer, mut reader) = sqlite::open(&database.path()).expect("a database");
    writer.insert(&["Ana"]).expect("a user");
    let aside = database.path().with_file_name("aside");
    for name in ["users.db", "users.db-wal"] {
        let path = database.path().with_file_name(name);
        std::fs::rename(&path, &aside).expect("renamed");
        for replacement in ["missing", "a copy", "a folder"] {
            match replacement {
                "a copy" => drop(std::fs::copy(&aside, &path).expect("copied")),
                "a folder" => {
                    std::fs::remove_file(&path).expect("removed");
                    std::fs::create_dir(&path).expect("a folder");
                }
                _ => {}
            }
            let results = [
                writer.insert(&["Eva"]).map(drop),
                reader.list(0, 10).map(drop),
                reader.find(1).map(drop),
                writer.connect().map_err(StoreError::Lost),
            ];
            for result in results {
                let is_lost = matches!(result, Err(StoreError::Lost(_)));
                assert!(is_lost, "{name} {replacement}: {result:?}");
            }
        }
        std::fs::remove_dir(&path).expect("removed");
        std::fs::rename(&aside, &path).expect("renamed");
        assert_eq!(writer.connect(), Ok(()));
        assert_eq!(writer.insert(&[name]).expect("a user").len(), 1);
    }
    let names = reader.list(0, 10).expect("users");
    let names: Vec<_> = names.iter().map(|user| user.name.as_str()).collect();
    assert_eq!(names, ["Ana", "users.db", "users.db-wal"], "no Eva");
}

#[test]
fn open_failure_names_file_and_reason() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    std::fs::write(at("text"), "this is not a database, ".repeat(100)).expect("a file");
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
        let error = open_at(&at(name)).expect_err(name).to_string();
        let start = format!("cannot open the user database {}: ", at(name).display());
        assert!(error.starts_with(&start), "{error}");
        assert!(error.contains(reason) && !error.contains('\n'), "{error}");
    }
}
