//! Users in an SQLite database.
//!
//! Writing is one thread's work: it takes all users that wait to be inserted into one transaction
//! and answers each when that is on the disk, so that many share the price of one `fsync`. Reading
//! has its own connection, which in WAL mode neither waits for the writer nor holds it up.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{self, Path};
use std::sync::mpsc::{self, Receiver, SyncSender, TrySendError};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, OptionalExtension, Row, params};

use super::{StoreError, User};
use crate::error::Error;

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

/// How long another process may keep the database locked before a request fails.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Users in one transaction.
const MAX_GROUP: usize = 256;

/// Users that wait for a transaction; one more is turned away.
const MAX_WAITING: usize = 1024;

/// The database. The writing thread ends with it.
#[derive(Debug)]
pub(super) struct Store {
    inserts: SyncSender<Insert>,
    reader: Mutex<Connection>,
}

/// A user to insert, and whom to tell.
struct Insert {
    name: String,
    answer: Box<dyn FnOnce(Result<User, StoreError>) + Send>,
}

impl Store {
    pub(super) fn open(path: &Path) -> Result<Self, Error> {
        let (writer, reader) = connect(path)?;
        Self::start(writer, reader)
    }

    pub(super) fn start(writer: Connection, reader: Connection) -> Result<Self, Error> {
        let (inserts, queue) = mpsc::sync_channel(MAX_WAITING);
        thread::Builder::new()
            .name("users".to_owned())
            .spawn(move || write(writer, &queue))
            .map_err(Error::system("start the thread of the user database"))?;
        Ok(Self {
            inserts,
            reader: Mutex::new(reader),
        })
    }

    /// Has a user inserted, without waiting; `answer` is called when they are on the disk.
    pub(super) fn insert(
        &self,
        name: String,
        answer: impl FnOnce(Result<User, StoreError>) + Send + 'static,
    ) {
        let answer = Box::new(answer);
        let (insert, reason) = match self.inserts.try_send(Insert { name, answer }) {
            Ok(()) => return,
            Err(TrySendError::Full(insert)) => (insert, "too many users wait to be inserted"),
            Err(TrySendError::Disconnected(insert)) => (insert, "the writing thread has ended"),
        };
        (insert.answer)(Err(StoreError(reason.to_owned())));
    }

    /// At most `limit` users with ids above `after`, by id.
    pub(super) fn list(&self, after: i64, limit: i64) -> Result<Vec<User>, StoreError> {
        let reader = self.reader();
        let mut select = reader.prepare_cached(LIST)?;
        let users = select.query_map(params![after, limit], user)?;
        Ok(users.collect::<rusqlite::Result<_>>()?)
    }

    pub(super) fn find(&self, id: i64) -> Result<Option<User>, StoreError> {
        let reader = self.reader();
        let mut select = reader.prepare_cached(FIND)?;
        Ok(select.query_row([id], user).optional()?)
    }

    /// A job that panicked has left nothing half done: it only read.
    fn reader(&self) -> MutexGuard<'_, Connection> {
        self.reader.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        Self(error.to_string())
    }
}

fn user(row: &Row<'_>) -> rusqlite::Result<User> {
    Ok(User {
        id: row.get(0)?,
        name: row.get(1)?,
        created: row.get(2)?,
    })
}

/// The connection that writes and the one that reads.
pub(super) fn connect(path: &Path) -> Result<(Connection, Connection), Error> {
    let unusable = |error: io::Error| Error::path("open the user database", path, error);
    // SQLite gives `:memory:` and the empty path a meaning; an absolute path has none but its own.
    let absolute = path::absolute(path).map_err(unusable)?;
    if let Some(folder) = absolute.parent() {
        // Names of users are not for every user of the machine.
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .map_err(|error| {
                Error::path("make a folder for the user database at", folder, error)
            })?;
    }
    let unusable = |error: rusqlite::Error| unusable(io::Error::other(error));
    let writer = open_writer(&absolute).map_err(unusable)?;
    let reader = open_reader(&absolute).map_err(unusable)?;
    Ok((writer, reader))
}

fn open_writer(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let writer = Connection::open_with_flags(path, flags)?;
    writer.busy_timeout(BUSY_TIMEOUT)?;
    writer.pragma_update(None, "journal_mode", "WAL")?;
    // In WAL mode only FULL means that what is committed survives a power cut.
    writer.pragma_update(None, "synchronous", "FULL")?;
    writer.execute(SCHEMA, [])?;
    // Finds out now whether the table is another one of that name.
    writer.prepare_cached(INSERT)?;
    Ok(writer)
}

fn open_reader(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let reader = Connection::open_with_flags(path, flags)?;
    reader.busy_timeout(BUSY_TIMEOUT)?;
    Ok(reader)
}

/// The writing thread.
fn write(mut writer: Connection, queue: &Receiver<Insert>) {
    while let Ok(first) = queue.recv() {
        let waiting = std::iter::once(first).chain(queue.try_iter());
        let mut group: Vec<Insert> = waiting.take(MAX_GROUP).collect();
        let users = insert_all(&mut writer, &group).map_err(StoreError::from);
        if users.is_err() {
            // A store that is locked or full has had its time: nobody waits for another failure.
            group.extend(queue.try_iter());
        }
        answer(group, users);
    }
}

/// All or none: a transaction that is not committed is rolled back.
fn insert_all(writer: &mut Connection, group: &[Insert]) -> rusqlite::Result<Vec<User>> {
    let transaction = writer.transaction()?;
    let mut statement = transaction.prepare_cached(INSERT)?;
    let users: rusqlite::Result<Vec<User>> = group
        .iter()
        .map(|insert| statement.query_row([&insert.name], user))
        .collect();
    let users = users?;
    drop(statement);
    transaction.commit()?;
    Ok(users)
}

/// Whoever asked may have gone; then the user stands there all the same.
fn answer(group: Vec<Insert>, users: Result<Vec<User>, StoreError>) {
    match users {
        Ok(users) => {
            for (insert, user) in group.into_iter().zip(users) {
                (insert.answer)(Ok(user));
            }
        }
        Err(error) => {
            for insert in group {
                (insert.answer)(Err(error.clone()));
            }
        }
    }
}
