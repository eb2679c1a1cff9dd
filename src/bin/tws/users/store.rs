//! The store of users: two threads, each with a database connection of its own. One writes, one
//! reads. Queries wait for them in queues of limited length, so neither event loops nor the threads
//! for jobs ever wait for the database.
//!
//! The writing thread inserts all waiting users in one transaction and answers their requests once
//! it is committed, so that many requests share the cost of one `fsync`.
//!
//! The loss of the database connection is logged once, and so is its return. In between, requests
//! are rejected at once while the thread tries to reconnect.

use std::fmt;
use std::iter;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender, TrySendError};
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;
use tws::Error;

/// The maximum number of users inserted in one transaction.
const MAX_BATCH: usize = 256;

/// The maximum number of queries waiting for one thread; further ones are rejected.
const MAX_WAITING: usize = 1024;

/// The pause between two attempts to reconnect.
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// One user.
#[derive(Debug, Serialize)]
pub(super) struct User {
    pub(super) id: i64,
    #[serde(rename = "Nombre")]
    pub(super) name: String,
    /// RFC 3339, in UTC.
    pub(super) created: String,
}

/// A connection to the database of the users. It belongs to one thread, which may wait for it, but
/// every wait has a limit.
pub(super) trait Database: Send + 'static {
    /// Connects, or reconnects.
    fn connect(&mut self) -> Result<(), String>;

    /// Inserts users with these names, all or none, and returns them in the same order once they
    /// are committed.
    fn insert(&mut self, names: &[&str]) -> Result<Vec<User>, StoreError>;

    /// Returns at most `limit` users with ids above `after`, ordered by id.
    fn list(&mut self, after: i64, limit: i64) -> Result<Vec<User>, StoreError>;

    /// Returns the user with this id.
    fn find(&mut self, id: i64) -> Result<Option<User>, StoreError>;
}

/// Why a query failed. The text is for the log, not for clients.
#[derive(Debug)]
pub(super) enum StoreError {
    /// The query failed, but the connection is usable: a full disk may have space at the next query.
    Failed(String),
    /// The connection is lost. A transaction in flight may or may not be committed.
    Lost(String),
}

/// The query could not be run. The log has the reason.
#[derive(Clone, Copy, Debug)]
pub(super) struct Unavailable;

/// Receives the result of a query, on the thread of the database. It is called even if the client
/// has gone: what was inserted stays inserted.
type Callback<T> = Box<dyn FnOnce(Result<T, Unavailable>) + Send>;

/// The store of users. Its threads end when it is dropped.
pub(crate) struct UserStore {
    inserts: TaskQueue<InsertTask>,
    reads: TaskQueue<ReadTask>,
}

/// A user to insert.
struct InsertTask {
    name: String,
    callback: Callback<User>,
}

/// A query that changes nothing.
enum ReadTask {
    List {
        after: i64,
        limit: i64,
        callback: Callback<Vec<User>>,
    },
    Find {
        id: i64,
        callback: Callback<Option<User>>,
    },
}

impl UserStore {
    /// Starts the threads, which connect first.
    pub(super) fn start(writer: impl Database, reader: impl Database) -> Result<Arc<Self>, Error> {
        let lost_connections = Arc::new(AtomicUsize::new(0));
        Ok(Arc::new(Self {
            inserts: TaskQueue::start("users-writer", writer, Arc::clone(&lost_connections))?,
            reads: TaskQueue::start("users-reader", reader, lost_connections)?,
        }))
    }

    /// Inserts a user; `callback` is called once the user is committed.
    pub(super) fn insert(
        &self,
        name: String,
        callback: impl FnOnce(Result<User, Unavailable>) + Send + 'static,
    ) {
        let callback = Box::new(callback);
        self.inserts.submit(InsertTask { name, callback });
    }

    /// Reads at most `limit` users with ids above `after`, ordered by id.
    pub(super) fn list(
        &self,
        after: i64,
        limit: i64,
        callback: impl FnOnce(Result<Vec<User>, Unavailable>) + Send + 'static,
    ) {
        let callback = Box::new(callback);
        self.reads.submit(ReadTask::List {
            after,
            limit,
            callback,
        });
    }

    /// Reads the user with this id.
    pub(super) fn find(
        &self,
        id: i64,
        callback: impl FnOnce(Result<Option<User>, Unavailable>) + Send + 'static,
    ) {
        let callback = Box::new(callback);
        self.reads.submit(ReadTask::Find { id, callback });
    }
}

impl fmt::Debug for UserStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UserStore").finish_non_exhaustive()
    }
}

/// What one of the threads is asked to do.
trait DatabaseTask: Send + Sized + 'static {
    /// How many tasks are run together.
    const MAX_BATCH: usize;

    /// Runs the tasks and calls the callback of each, whether they succeed or fail.
    fn run(batch: Vec<Self>, database: &mut impl Database) -> Result<(), StoreError>;

    /// Calls the callback without running the task.
    fn reject(self);
}

impl DatabaseTask for InsertTask {
    const MAX_BATCH: usize = MAX_BATCH;

    fn run(batch: Vec<Self>, database: &mut impl Database) -> Result<(), StoreError> {
        let names: Vec<&str> = batch.iter().map(|insert| insert.name.as_str()).collect();
        match database.insert(&names) {
            Ok(users) => {
                for (insert, user) in batch.into_iter().zip(users) {
                    (insert.callback)(Ok(user));
                }
                Ok(())
            }
            Err(error) => {
                batch.into_iter().for_each(Self::reject);
                Err(error)
            }
        }
    }

    fn reject(self) {
        (self.callback)(Err(Unavailable));
    }
}

impl DatabaseTask for ReadTask {
    const MAX_BATCH: usize = 1;

    fn run(batch: Vec<Self>, database: &mut impl Database) -> Result<(), StoreError> {
        for task in batch {
            match task {
                Self::List {
                    after,
                    limit,
                    callback,
                } => complete(callback, database.list(after, limit))?,
                Self::Find { id, callback } => complete(callback, database.find(id))?,
            }
        }
        Ok(())
    }

    fn reject(self) {
        match self {
            Self::List { callback, .. } => callback(Err(Unavailable)),
            Self::Find { callback, .. } => callback(Err(Unavailable)),
        }
    }
}

/// Passes the value to the callback and the error to the caller.
fn complete<T>(callback: Callback<T>, result: Result<T, StoreError>) -> Result<(), StoreError> {
    let (result, outcome) = match result {
        Ok(value) => (Ok(value), Ok(())),
        Err(error) => (Err(Unavailable), Err(error)),
    };
    callback(result);
    outcome
}

/// The queue of one of the threads.
struct TaskQueue<T> {
    sender: SyncSender<T>,
    connection: Arc<ConnectionState>,
}

impl<T: DatabaseTask> TaskQueue<T> {
    /// Starts the thread.
    fn start(
        thread_name: &str,
        database: impl Database,
        lost_connections: Arc<AtomicUsize>,
    ) -> Result<Self, Error> {
        let (sender, receiver) = mpsc::sync_channel(MAX_WAITING);
        let connection = Arc::new(ConnectionState {
            is_lost: AtomicBool::new(false),
            lost_connections,
        });
        let of_thread = Arc::clone(&connection);
        thread::Builder::new()
            .name(thread_name.to_owned())
            .spawn(move || run_tasks(database, &receiver, &of_thread))
            .map_err(Error::system("start the user database thread"))?;
        Ok(Self { sender, connection })
    }

    /// Queues a task or rejects it, without waiting.
    fn submit(&self, task: T) {
        if self.connection.is_lost.load(Ordering::Relaxed) {
            return task.reject();
        }
        match self.sender.try_send(task) {
            Ok(()) => {}
            Err(TrySendError::Full(task)) => {
                log::debug!("users: the database queue is full; answering 503");
                task.reject();
            }
            Err(TrySendError::Disconnected(task)) => {
                log::error!("users: a database thread has ended; restart the server");
                task.reject();
            }
        }
    }
}

/// Whether a thread has lost its database connection.
struct ConnectionState {
    is_lost: AtomicBool,
    /// How many connections of the store are lost: the first loss and the last return are logged.
    lost_connections: Arc<AtomicUsize>,
}

impl ConnectionState {
    fn set_lost(&self, reason: &str) {
        self.is_lost.store(true, Ordering::Relaxed);
        if self.lost_connections.fetch_add(1, Ordering::Relaxed) == 0 {
            log::warn!(
                "users: database connection lost: {reason}; answering 503 until it is restored"
            );
        }
    }

    fn set_restored(&self) {
        self.is_lost.store(false, Ordering::Relaxed);
        if self.lost_connections.fetch_sub(1, Ordering::Relaxed) == 1 {
            log::warn!("users: database connection restored");
        }
    }
}

/// The body of one of the threads. Returns when the store is dropped.
fn run_tasks<T: DatabaseTask>(
    mut database: impl Database,
    queue: &Receiver<T>,
    connection: &ConnectionState,
) {
    // Tasks submitted before the first connection is made wait for it.
    let mut outcome = database.connect().map_err(StoreError::Lost);
    loop {
        match outcome {
            Ok(()) => {}
            Err(StoreError::Failed(reason)) => {
                log::error!("users: database error: {reason}");
                // A database that is locked or full has used up its time limit: the tasks that
                // waited meanwhile do not wait for another failure.
                queue.try_iter().for_each(T::reject);
            }
            Err(StoreError::Lost(reason)) => {
                connection.set_lost(&reason);
                queue.try_iter().for_each(T::reject);
                if reconnect(&mut database, queue).is_break() {
                    return;
                }
                connection.set_restored();
            }
        }
        let Ok(first) = queue.recv() else { return };
        let waiting = iter::once(first).chain(queue.try_iter());
        let batch = waiting.take(T::MAX_BATCH).collect();
        outcome = T::run(batch, &mut database);
    }
}

/// Reconnects, however often it takes. Breaks if the store is dropped meanwhile.
fn reconnect<T: DatabaseTask>(
    database: &mut impl Database,
    queue: &Receiver<T>,
) -> ControlFlow<()> {
    while let Err(reason) = database.connect() {
        log::debug!("users: the database is still unreachable: {reason}");
        let end = Instant::now() + RETRY_PAUSE;
        loop {
            match queue.recv_timeout(end.saturating_duration_since(Instant::now())) {
                // Submitted before the connection was marked as lost.
                Ok(task) => task.reject(),
                Err(RecvTimeoutError::Timeout) => break,
                Err(RecvTimeoutError::Disconnected) => return ControlFlow::Break(()),
            }
        }
    }
    ControlFlow::Continue(())
}
