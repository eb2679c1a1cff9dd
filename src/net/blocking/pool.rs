//! Threads for what may block. A bounded queue, threads that start when they are first needed,
//! and a reply that goes back through the worker's mailbox.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use mio::Token;

use super::{body_writer, disk};
use crate::body::FileRange;
use crate::body::stream::{BodyProducer, BodySource, WriteBody};
use crate::handler::Job;
use crate::http::Response;
use crate::net::event_loop::mailbox::{Mailbox, Piece, WorkerMessage};
use crate::net::observe::observer;

/// A handle on the pool; the threads end when the last handle is dropped and the queue is empty.
#[derive(Clone)]
pub(crate) struct BlockingPool {
    pool: Arc<Pool>,
    /// Counts the handles.
    _alive: Arc<PoolGuard>,
}

/// Sees what a pool does, and does not keep it from ending.
#[derive(Clone)]
pub(crate) struct PoolStats(Arc<Pool>);

impl PoolStats {
    pub(crate) fn queue(&self) -> observer::QueueStats {
        let queue = self.0.lock();
        observer::QueueStats {
            waiting: queue.tasks.len(),
            running: queue.running,
        }
    }
}

impl fmt::Debug for PoolStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("HelpersView").field(&self.queue()).finish()
    }
}

struct Pool {
    queue: Mutex<Queue>,
    work_or_end: Condvar,
    max_threads: usize,
    max_waiting: usize,
}

#[derive(Default)]
struct Queue {
    tasks: VecDeque<Task>,
    threads: usize,
    /// Threads that wait for a task.
    idle: usize,
    /// Tasks that a thread has.
    running: usize,
    ended: bool,
}

struct Task {
    work: Work,
    reply_to: Arc<Mailbox>,
    token: Token,
}

/// What a helper is asked to do.
enum Work {
    /// The request is for the log.
    LoopSnapshot(Job, Box<str>),
    BodyProducer(Box<dyn BodyProducer>),
    Write(WriteBody),
    Fetch(FileRange),
}

struct PoolGuard(Arc<Pool>);

impl Drop for PoolGuard {
    fn drop(&mut self) {
        self.0.lock().ended = true;
        self.0.work_or_end.notify_all();
    }
}

/// The queue is full, or the system has no thread to give.
#[derive(Debug)]
pub(crate) struct QueueFull;

impl BlockingPool {
    pub(crate) fn new(max_threads: usize, max_waiting: usize) -> Self {
        let pool = Arc::new(Pool {
            queue: Mutex::default(),
            work_or_end: Condvar::new(),
            max_threads,
            max_waiting,
        });
        Self {
            _alive: Arc::new(PoolGuard(Arc::clone(&pool))),
            pool,
        }
    }

    pub(crate) fn view(&self) -> PoolStats {
        PoolStats(Arc::clone(&self.pool))
    }

    /// Runs `job` on a helper; its response is mailed to `reply_to` for `token`. The log names
    /// `request` if it panics.
    pub(crate) fn submit(
        &self,
        (job, request): (Job, Box<str>),
        reply_to: &Arc<Mailbox>,
        token: Token,
    ) -> Result<(), QueueFull> {
        let queue = self.pool.lock();
        if queue.running + queue.tasks.len() >= self.pool.max_threads + self.pool.max_waiting {
            return Err(QueueFull);
        }
        self.enqueue(queue, Work::LoopSnapshot(job, request), reply_to, token)
    }

    /// Has a piece made; it is mailed to `reply_to` for `token`. This finds room even in a full
    /// queue, because a response that has begun cannot be refused any more; there is at most one
    /// such piece for each connection.
    pub(crate) fn produce(
        &self,
        producer: Box<dyn BodyProducer>,
        reply_to: &Arc<Mailbox>,
        token: Token,
    ) {
        self.make(Work::BodyProducer(producer), reply_to, token);
    }

    /// Has the beginning of a range brought into memory; that it is there is mailed to `reply_to`
    /// for `token`. There is room for it as for [`produce`](Self::produce).
    pub(crate) fn fetch(&self, range: FileRange, reply_to: &Arc<Mailbox>, token: Token) {
        self.make(Work::Fetch(range), reply_to, token);
    }

    /// Has a whole content written; its pieces are mailed to `reply_to` for `token`. There is room
    /// for it as for [`produce`](Self::produce).
    pub(crate) fn write(&self, write: WriteBody, reply_to: &Arc<Mailbox>, token: Token) {
        self.make(Work::Write(write), reply_to, token);
    }

    fn make(&self, work: Work, reply_to: &Arc<Mailbox>, token: Token) {
        let queue = self.pool.lock();
        if self.enqueue(queue, work, reply_to, token).is_err() {
            // Everything but an answer: those are refused before they begin.
            let error = io::Error::other("no helper thread is available");
            reply_to.send(WorkerMessage::Piece(token, Err(error)));
        }
    }

    fn enqueue(
        &self,
        mut queue: MutexGuard<'_, Queue>,
        work: Work,
        reply_to: &Arc<Mailbox>,
        token: Token,
    ) -> Result<(), QueueFull> {
        if queue.idle <= queue.tasks.len() && queue.threads < self.pool.max_threads {
            let pool = Arc::clone(&self.pool);
            let thread = std::thread::Builder::new().name("helper".to_owned());
            match thread.spawn(move || pool.work()) {
                Ok(_) => queue.threads += 1,
                Err(error) => log::error!("helper threads: cannot start one: {error}"),
            }
        }
        if queue.threads == 0 {
            return Err(QueueFull);
        }
        queue.tasks.push_back(Task {
            work,
            reply_to: Arc::clone(reply_to),
            token,
        });
        drop(queue);
        self.pool.work_or_end.notify_one();
        Ok(())
    }
}

impl Pool {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Jobs run outside the lock, so no panic of theirs can leave the queue half changed.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        while let Some(task) = self.next_task() {
            let token = task.token;
            let mail = match task.work {
                Work::LoopSnapshot(job, request) => {
                    WorkerMessage::Response(token, answer(job, &request))
                }
                Work::BodyProducer(producer) => WorkerMessage::Piece(token, produce(producer)),
                Work::Fetch(range) => WorkerMessage::Memory(token, disk::read(&range)),
                Work::Write(write) => {
                    WorkerMessage::Piece(token, end(write, &task.reply_to, token))
                }
            };
            // First: whoever gets the mail may have the next task at once.
            self.lock().running -= 1;
            task.reply_to.send(mail);
        }
    }

    fn next_task(&self) -> Option<Task> {
        let mut queue = self.lock();
        loop {
            if let Some(task) = queue.tasks.pop_front() {
                queue.running += 1;
                return Some(task);
            }
            if queue.ended {
                return None;
            }
            queue.idle += 1;
            queue = self
                .work_or_end
                .wait(queue)
                .unwrap_or_else(PoisonError::into_inner);
            queue.idle -= 1;
        }
    }
}

fn answer(job: Job, request: &str) -> Response {
    catch_unwind(AssertUnwindSafe(job)).unwrap_or_else(|_| panicked(request))
}

/// The answer to a request whose handler panicked.
pub(crate) fn panicked(request: &str) -> Response {
    Response::fault(&format!("{request}: the handler panicked"))
}

fn produce(mut producer: Box<dyn BodyProducer>) -> Piece {
    let piece = catch_unwind(AssertUnwindSafe(|| producer.next_piece()))
        .unwrap_or_else(|_| Err(io::Error::other("the body producer panicked")))?;
    Ok(piece.map(|bytes| (bytes, BodySource::Producer(producer))))
}

/// The end of a content that is written, behind all its pieces.
fn end(write: WriteBody, reply_to: &Arc<Mailbox>, token: Token) -> Piece {
    let written = AssertUnwindSafe(|| body_writer::write_all(write, reply_to, token));
    catch_unwind(written)
        .unwrap_or_else(|_| Err(io::Error::other("the body producer panicked")))
        .map(|()| None)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use ::http::StatusCode;
    use mio::{Events, Poll};

    fn mailbox() -> (Poll, Arc<Mailbox>) {
        let poll = Poll::new().expect("a poll");
        let mailbox = Mailbox::new(poll.registry(), Token(0)).expect("a mailbox");
        (poll, Arc::new(mailbox))
    }

    fn submit(
        helpers: &BlockingPool,
        job: Job,
        mailbox: &Arc<Mailbox>,
        token: usize,
    ) -> Result<(), QueueFull> {
        helpers.submit((job, "GET \"/\"".into()), mailbox, Token(token))
    }

    fn replies(poll: &mut Poll, mailbox: &Mailbox, count: usize) -> Vec<(usize, u16)> {
        let mut all = Vec::new();
        let mut events = Events::with_capacity(1);
        while all.len() < count {
            poll.poll(&mut events, None).expect("an event");
            let mut mail = Vec::new();
            mailbox.take(&mut mail);
            all.extend(mail.into_iter().map(|mail| match mail {
                WorkerMessage::Response(token, response) => (token.0, response.status().as_u16()),
                other => panic!("{other:?}"),
            }));
        }
        all.sort_unstable();
        all
    }

    #[test]
    fn a_panic_is_a_500_and_the_pool_goes_on() {
        let (mut poll, mailbox) = mailbox();
        let helpers = BlockingPool::new(1, 8);
        let panics: Job = Box::new(|| panic!("on purpose"));
        let works: Job = Box::new(|| Response::new(StatusCode::OK));
        submit(&helpers, panics, &mailbox, 1).expect("room");
        submit(&helpers, works, &mailbox, 2).expect("room");
        assert_eq!(replies(&mut poll, &mailbox, 2), [(1, 500), (2, 200)]);
    }

    #[test]
    fn the_queue_is_bounded() {
        let (mut poll, mailbox) = mailbox();
        let helpers = BlockingPool::new(1, 2);
        let (started, has_started) = mpsc::channel();
        let (release, released) = mpsc::channel::<()>();
        let blocks: Job = Box::new(move || {
            started.send(()).expect("the test waits");
            let _ = released.recv();
            Response::new(StatusCode::OK)
        });
        submit(&helpers, blocks, &mailbox, 1).expect("room");
        has_started.recv().expect("the job runs");
        for token in [2, 3] {
            let job: Job = Box::new(|| Response::new(StatusCode::OK));
            submit(&helpers, job, &mailbox, token).expect("room");
        }
        let job: Job = Box::new(|| Response::new(StatusCode::OK));
        assert!(submit(&helpers, job, &mailbox, 4).is_err());
        drop(release);
        assert_eq!(
            replies(&mut poll, &mailbox, 3),
            [(1, 200), (2, 200), (3, 200)]
        );
    }
}
