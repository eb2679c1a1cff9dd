//! Users in an SQLite database.
//!
//! In WAL mode the reading connection and the writing one do not wait for each other.
//!
//! A database that is deleted while it is open accepts transactions, which are lost when the server
//! ends. So each query first checks that the files still have their names.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{self, Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, OptionalExtension, Row, params};

use tws::Error;

use super::store::{Database, StoreError, User};

const SCHEMA: &str = "CREATE TABLE IF NOT EXISTS users (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL,
    created TEXT NOT NULL
)";

const INSERT: &str = "INSERT INTO users (name, created)
    VALUES (?1, strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
    RETURNING id, name, created";

const LIST: &str = "SELECT id, name, created FROM users WHERE id > ?1 ORDER BY id LIMIT ?2";

const FIND: &str = "SELECT id, name, created FROM users WHERE id = ?1";

/// How long a query waits for another process that holds the lock of the database.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection to the database.
pub(super) struct Sqlite {
    pub(super) connection: Connection,
    files: DatabaseFiles,
}

impl Database for Sqlite {
    /// Only checks the files: [`open`] has opened them, and they stay open.
    fn connect(&mut self) -> Result<(), String> {
        self.files.check()
    }

    /// A transaction that is not committed is rolled back.
    fn insert(&mut self, names: &[&str]) -> Result<Vec<User>, StoreError> {
        let transaction = self.connection.transaction()?;
        let mut statement = transaction.prepare_cached(INSERT)?;
        let users: rusqlite::Result<Vec<User>> = names
            .iter()
            .map(|name| statement.query_row([name], user))
            .collect();
        let users = users?;
        drop(statement);
        self.files.check().map_err(StoreError::Lost)?;
        transaction.commit()?;
        Ok(users)
    }

    fn list(&mut self, after: i64, limit: i64) -> Result<Vec<User>, StoreError> {
        self.files.check().map_err(StoreError::Lost)?;
        let mut select = self.connection.prepare_cached(LIST)?;
        let users = select.query_map(params![after, limit], user)?;
        Ok(users.collect::<rusqlite::Result<_>>()?)
    }

    fn find(&mut self, id: i64) -> Result<Option<User>, StoreError> {
        self.files.check().map_err(StoreError::Lost)?;
        let mut select = self.connection.prepare_cached(FIND)?;
        Ok(select.query_row([id], user).optional()?)
    }
}

/// The database file and its write-ahead log, by device and inode.
#[derive(Clone, Debug)]
struct DatabaseFiles(Vec<(PathBuf, (u64, u64))>);

impl DatabaseFiles {
    /// Returns the files of a database that is open.
    fn of(database: &Path) -> io::Result<Self> {
        // SQLite creates the log beside the file that a symbolic link leads to.
        let mut log = database.canonicalize()?.into_os_string();
        log.push("-wal");
        let mut files = vec![(database.to_owned(), inode(database)?)];
        // Without shared memory, SQLite uses no log of this kind.
        if let Ok(inode) = inode(Path::new(&log)) {
            files.push((log.into(), inode));
        }
        Ok(Self(files))
    }

    /// Checks that each path still leads to the file that is open.
    fn check(&self) -> Result<(), String> {
        let is_gone = |(path, opened): &&(PathBuf, (u64, u64))| match inode(path) {
            Ok(current) => current != *opened,
            Err(error) => matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ),
        };
        match self.0.iter().find(is_gone) {
            None => Ok(()),
            Some((path, _)) => Err(format!(
                "{} was deleted or replaced; put it back or restart the server",
                path.display()
            )),
        }
    }
}

/// Returns the device and the inode of a file.
fn inode(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = fs::metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Failed(error.to_string())
    }
}

fn user(row: &Row<'_>) -> rusqlite::Result<User> {
    Ok(User {
        id: row.get(0)?,
        name: row.get(1)?,
        created: row.get(2)?,
    })
}

/// Opens the database file at `path`, or creates it, and returns the connection that writes and the
/// one that reads.
pub(super) fn open(path: &Path) -> Result<(Sqlite, Sqlite), Error> {
    let unusable = |error: io::Error| Error::path("open the user database", path, error);
    // `:memory:` and the empty path have special meanings in SQLite; an absolute path has none.
    let absolute = path::absolute(path).map_err(unusable)?;
    let failed = |error: rusqlite::Error| unusable(io::Error::other(error));
    create_private(&absolute)?;
    let writer = open_writer(&absolute).map_err(failed)?;
    let reader = open_reader(&absolute).map_err(failed)?;
    let files = DatabaseFiles::of(&absolute).map_err(unusable)?;
    let with_files = |connection, files| Sqlite { connection, files };
    Ok((with_files(writer, files.clone()), with_files(reader, files)))
}

/// Creates the file if it is missing. Only its owner may read it, and the files that SQLite creates
/// beside it get the same mode.
fn create_private(path: &Path) -> Result<(), Error> {
    let file = OpenOptions::new()
        .append(true)
        .create_new(true)
        .mode(0o600)
        .open(path);
    match file {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(Error::new_file("create the user database", path, error))
        }
        _ => Ok(()),
    }
}

fn open_writer(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let writer = Connection::open_with_flags(path, flags)?;
    writer.busy_timeout(BUSY_TIMEOUT)?;
    writer.pragma_update(None, "journal_mode", "WAL")?;
    // In WAL mode, a committed transaction survives a power failure only with FULL.
    writer.pragma_update(None, "synchronous", "FULL")?;
    writer.execute(SCHEMA, [])?;
    // Fails now rather than at the first request if the table has other columns.
    writer.prepare_cached(INSERT)?;
    Ok(writer)
}

fn open_reader(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let reader = Connection::open_with_flags(path, flags)?;
    reader.busy_timeout(BUSY_TIMEOUT)?;
    Ok(reader)
}
