//! What every store is: two threads, each with a database connection of its own. One writes, one
//! reads; what they are asked waits in a queue of limited length, and nobody waits on the event
//! loop or on a helper thread, however long a database takes.
//!
//! The writing thread takes all users that wait to be inserted into one transaction and answers
//! each when that is committed, so that many share the price of one `fsync`.
//!
//! A database that is away is told once in the log, and its return, too. Until then every request
//! is refused at once while the thread tries to connect again.

use std::fmt;
use std::iter;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender, TrySendError};
use std::thread;
use std::time::{Duration, Instant};

use super::User;
use tws::Error;

/// Users in one transaction.
const MAX_GROUP: usize = 256;

/// Requests that wait for one thread; one more is turned away.
const MAX_WAITING: usize = 1024;

/// Between two attempts to connect to a database that is away.
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// A connection to the database where the users are. A thread owns it: it may wait, but not for
/// ever.
pub(super) trait Database: Send + 'static {
    /// Connects, if need be anew.
    fn connect(&mut self) -> Result<(), String>;

    /// Inserts users with these names, all or none, and returns them in the same order. They have
    /// been committed by then.
    fn insert(&mut self, names: &[&str]) -> Result<Vec<User>, StoreError>;

    /// At most `limit` users with ids above `after`, by id.
    fn list(&mut self, after: i64, limit: i64) -> Result<Vec<User>, StoreError>;

    /// The user with this id.
    fn find(&mut self, id: i64) -> Result<Option<User>, StoreError>;
}

/// Why a database does not do what it is asked to: for the log, not for clients.
#[derive(Debug)]
pub(super) enum StoreError {
    /// It cannot do this; the next request may find a disk with room.
    Failed(String),
    /// The connection to it is no good any more. A transaction in flight may stand or not.
    Lost(String),
}

/// The store cannot do this at the moment. The log says why.
#[derive(Clone, Copy, Debug)]
pub(super) struct Unavailable;

/// Whom to tell. Who asked may have gone; what was inserted stands there all the same.
pub(super) type Answer<T> = Box<dyn FnOnce(Result<T, Unavailable>) + Send>;

/// The users. The threads end with it.
pub(super) struct Store {
    inserts: Desk<Insert>,
    questions: Desk<Question>,
}

/// A user to insert.
struct Insert {
    name: String,
    answer: Answer<User>,
}

/// Something to read.
enum Question {
    List {
        after: i64,
        limit: i64,
        answer: Answer<Vec<User>>,
    },
    Find {
        id: i64,
        answer: Answer<Option<User>>,
    },
}

impl Store {
    pub(super) fn start(writer: impl Database, reader: impl Database) -> Result<Self, Error> {
        let away = Arc::new(AtomicUsize::new(0));
        Ok(Self {
            inserts: Desk::start("users-writer", writer, Arc::clone(&away))?,
            questions: Desk::start("users-reader", reader, away)?,
        })
    }

    /// Has a user inserted; `answer` is called when they are committed.
    pub(super) fn insert(
        &self,
        name: String,
        answer: impl FnOnce(Result<User, Unavailable>) + Send + 'static,
    ) {
        let answer = Box::new(answer);
        self.inserts.ask(Insert { name, answer });
    }

    /// Has at most `limit` users read, with ids above `after`, by id.
    pub(super) fn list(
        &self,
        after: i64,
        limit: i64,
        answer: impl FnOnce(Result<Vec<User>, Unavailable>) + Send + 'static,
    ) {
        let answer = Box::new(answer);
        self.questions.ask(Question::List {
            after,
            limit,
            answer,
        });
    }

    pub(super) fn find(
        &self,
        id: i64,
        answer: impl FnOnce(Result<Option<User>, Unavailable>) + Send + 'static,
    ) {
        let answer = Box::new(answer);
        self.questions.ask(Question::Find { id, answer });
    }
}

/// What one of the threads is asked to do.
trait Task: Send + Sized + 'static {
    /// How many the thread does at a time.
    const MAX_GROUP: usize;

    /// Does them and answers each, whatever comes of it.
    fn perform(group: Vec<Self>, database: &mut impl Database) -> Result<(), StoreError>;

    fn reject(self);
}

impl Task for Insert {
    const MAX_GROUP: usize = MAX_GROUP;

    fn perform(group: Vec<Self>, database: &mut impl Database) -> Result<(), StoreError> {
        let names: Vec<&str> = group.iter().map(|insert| insert.name.as_str()).collect();
        match database.insert(&names) {
            Ok(users) => {
                for (insert, user) in group.into_iter().zip(users) {
                    (insert.answer)(Ok(user));
                }
                Ok(())
            }
            Err(error) => {
                group.into_iter().for_each(Self::reject);
                Err(error)
            }
        }
    }

    fn reject(self) {
        (self.answer)(Err(Unavailable));
    }
}

impl Task for Question {
    const MAX_GROUP: usize = 1;

    fn perform(group: Vec<Self>, database: &mut impl Database) -> Result<(), StoreError> {
        for question in group {
            match question {
                Self::List {
                    after,
                    limit,
                    answer,
                } => tell(answer, database.list(after, limit))?,
                Self::Find { id, answer } => tell(answer, database.find(id))?,
            }
        }
        Ok(())
    }

    fn reject(self) {
        match self {
            Self::List { answer, .. } => answer(Err(Unavailable)),
            Self::Find { answer, .. } => answer(Err(Unavailable)),
        }
    }
}

fn tell<T>(answer: Answer<T>, result: Result<T, StoreError>) -> Result<(), StoreError> {
    let (result, outcome) = match result {
        Ok(value) => (Ok(value), Ok(())),
        Err(error) => (Err(Unavailable), Err(error)),
    };
    answer(result);
    outcome
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").finish_non_exhaustive()
    }
}

/// The way to one of the threads.
struct Desk<T> {
    queue: SyncSender<T>,
    gate: Arc<Gate>,
}

impl<T: Task> Desk<T> {
    fn start(name: &str, database: impl Database, away: Arc<AtomicUsize>) -> Result<Self, Error> {
        let (queue, waiting) = mpsc::sync_channel(MAX_WAITING);
        let gate = Arc::new(Gate {
            shut: AtomicBool::new(false),
            away,
        });
        let watched = Arc::clone(&gate);
        thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || work(database, &waiting, &watched))
            .map_err(Error::system("start the user database thread"))?;
        Ok(Self { queue, gate })
    }

    /// Without waiting.
    fn ask(&self, task: T) {
        if self.gate.shut.load(Ordering::Relaxed) {
            return task.reject();
        }
        match self.queue.try_send(task) {
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

/// Shut while a thread's database is away.
struct Gate {
    shut: AtomicBool,
    /// How many connections of this store are away: the log hears of the first and of the last.
    away: Arc<AtomicUsize>,
}

impl Gate {
    fn shut(&self, reason: &str) {
        self.shut.store(true, Ordering::Relaxed);
        if self.away.fetch_add(1, Ordering::Relaxed) == 0 {
            log::warn!(
                "users: database connection lost: {reason}; answering 503 until it is restored"
            );
        }
    }

    fn open(&self) {
        self.shut.store(false, Ordering::Relaxed);
        if self.away.fetch_sub(1, Ordering::Relaxed) == 1 {
            log::warn!("users: database connection restored");
        }
    }
}

/// One of the threads.
fn work<T: Task>(mut database: impl Database, queue: &Receiver<T>, gate: &Gate) {
    // Whoever asks in the first moment waits for the first connection.
    let mut outcome = database.connect().map_err(StoreError::Lost);
    loop {
        match outcome {
            Ok(()) => {}
            Err(StoreError::Failed(reason)) => {
                log::error!("users: database error: {reason}");
                // A database that is locked or full has had its time: nobody waits for another
                // failure.
                queue.try_iter().for_each(T::reject);
            }
            Err(StoreError::Lost(reason)) => {
                gate.shut(&reason);
                queue.try_iter().for_each(T::reject);
                if reconnect(&mut database, queue).is_break() {
                    return;
                }
                gate.open();
            }
        }
        let Ok(first) = queue.recv() else { return };
        let waiting = iter::once(first).chain(queue.try_iter());
        let group = waiting.take(T::MAX_GROUP).collect();
        outcome = T::perform(group, &mut database);
    }
}

/// Returns when the database is back, or breaks off if the store is gone.
fn reconnect<T: Task>(database: &mut impl Database, queue: &Receiver<T>) -> ControlFlow<()> {
    while let Err(reason) = database.connect() {
        log::debug!("users: the database is still unreachable: {reason}");
        let end = Instant::now() + RETRY_PAUSE;
        loop {
            match queue.recv_timeout(end.saturating_duration_since(Instant::now())) {
                // They came before the gate was shut.
                Ok(task) => task.reject(),
                Err(RecvTimeoutError::Timeout) => break,
                Err(RecvTimeoutError::Disconnected) => return ControlFlow::Break(()),
            }
        }
    }
    ControlFlow::Continue(())
}
