//! A thread pool for work that may block: a bounded queue, threads that are started when they are
//! first needed, and results that are sent to the mailbox of a worker.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::{Arc, MutexGuard};

use crate::net::observe::report::QueueStats;
use crate::net::worker::message::{ExchangeEvent, ReplyTo};
use crate::panics::{Panicked, catch, drop_caught};
use crate::sync::{Condvar, Mutex};

/// A handle to a pool. Its threads end when the last handle is dropped and the queue is empty.
#[derive(Clone)]
pub(crate) struct BlockingPool {
    pool: Arc<Pool>,
    /// Shared by the handles and not by the threads.
    _guard: Arc<PoolGuard>,
}

/// Reads the load of a pool. Does not keep its threads running.
#[derive(Clone)]
pub(crate) struct PoolStats(Arc<Pool>);

impl PoolStats {
    pub(crate) fn queue(&self) -> QueueStats {
        let queue = self.0.queue.lock();
        QueueStats {
            waiting: queue.tasks.len(),
            running: queue.running,
        }
    }
}

impl fmt::Debug for PoolStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PoolStats").field(&self.queue()).finish()
    }
}

struct Pool {
    queue: Mutex<Queue>,
    /// Notified when there is a task, and when the pool is closed.
    changed: Condvar,
    max_threads: usize,
    max_waiting: usize,
}

#[derive(Default)]
struct Queue {
    tasks: VecDeque<Task>,
    threads: usize,
    /// Threads that wait for a task.
    idle: usize,
    /// Tasks that a thread runs.
    running: usize,
    closed: bool,
}

struct Task {
    work: Box<dyn FnOnce() -> ExchangeEvent + Send>,
    reply_to: ReplyTo,
}

/// Closes the pool when the last handle is dropped.
struct PoolGuard(Arc<Pool>);

impl Drop for PoolGuard {
    fn drop(&mut self) {
        self.0.queue.lock().closed = true;
        self.0.changed.notify_all();
    }
}

/// The queue is full, or no thread can be started.
#[derive(Debug)]
pub(crate) struct QueueFull;

impl BlockingPool {
    pub(crate) fn new(max_threads: usize, max_waiting: usize) -> Self {
        let pool = Arc::new(Pool {
            queue: Mutex::default(),
            changed: Condvar::default(),
            max_threads,
            max_waiting,
        });
        Self {
            _guard: Arc::new(PoolGuard(Arc::clone(&pool))),
            pool,
        }
    }

    pub(crate) fn stats(&self) -> PoolStats {
        PoolStats(Arc::clone(&self.pool))
    }

    /// Runs `work` on a thread of the pool and sends its result to `reply_to`.
    ///
    /// If `work` panics, the connection is closed.
    pub(crate) fn submit(
        &self,
        reply_to: ReplyTo,
        work: impl FnOnce() -> ExchangeEvent + Send + 'static,
    ) -> Result<(), QueueFull> {
        let queue = self.pool.queue.lock();
        if queue.running + queue.tasks.len() >= self.pool.max_threads + self.pool.max_waiting {
            drop(queue);
            drop_caught(work, "helper threads: a job without a place in the queue");
            return Err(QueueFull);
        }
        let work = Box::new(work);
        self.enqueue(queue, Task { work, reply_to })
    }

    /// Like [`submit`](Self::submit), without a limit on the queue: for a response that has begun
    /// and cannot be rejected any more. An exchange has at most one such task at a time.
    ///
    /// An error means that no thread can be started.
    pub(crate) fn submit_unbounded(
        &self,
        reply_to: ReplyTo,
        work: impl FnOnce() -> ExchangeEvent + Send + 'static,
    ) -> Result<(), QueueFull> {
        let work = Box::new(work);
        self.enqueue(self.pool.queue.lock(), Task { work, reply_to })
    }

    fn enqueue(&self, mut queue: MutexGuard<'_, Queue>, task: Task) -> Result<(), QueueFull> {
        if queue.idle <= queue.tasks.len() && queue.threads < self.pool.max_threads {
            let pool = Arc::clone(&self.pool);
            let thread = std::thread::Builder::new().name("helper".to_owned());
            match thread.spawn(move || pool.run_tasks()) {
                Ok(_) => queue.threads += 1,
                Err(error) => log::error!("helper threads: failed to start one: {error}"),
            }
        }
        if queue.threads == 0 {
            drop(queue);
            drop_caught(task, "helper threads: a job without a thread");
            return Err(QueueFull);
        }
        queue.tasks.push_back(task);
        drop(queue);
        self.pool.changed.notify_one();
        Ok(())
    }
}

impl Pool {
    fn run_tasks(&self) {
        while let Some(Task { work, reply_to }) = self.next_task() {
            // A thread outlives its tasks, whatever they do.
            let event = catch(work).unwrap_or_else(|Panicked| {
                let error = io::Error::other("a helper thread's job panicked");
                ExchangeEvent::BodyChunk(Err(error))
            });
            // Before the result is sent: its receiver may submit the next task at once.
            self.queue.lock().running -= 1;
            // The result is dropped if the worker has ended.
            if catch(|| reply_to.send(event)).is_err() {
                log::error!("helper threads: a response panicked when it was dropped");
            }
        }
    }

    /// Waits for a task; `None` when the pool is closed and the queue is empty.
    fn next_task(&self) -> Option<Task> {
        let mut queue = self.queue.lock();
        loop {
            if let Some(task) = queue.tasks.pop_front() {
                queue.running += 1;
                return Some(task);
            }
            if queue.closed {
                return None;
            }
            queue.idle += 1;
            queue = self.changed.wait(queue);
            queue.idle -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use ::http::StatusCode;
    use mio::{Events, Poll, Token};

    use super::*;
    use crate::http::Response;
    use crate::net::event_loop::mailbox::Mailbox;
    use crate::net::worker::message::WorkerMessage;
    use crate::proto::exchange::ExchangeId;
    use crate::sync::CancelFlag;

    #[test]
    fn queue_is_bounded_and_running_task_leaves_it() {
        let mut poll = Poll::new().expect("a poll");
        let mailbox = Mailbox::new(poll.registry(), Token(0)).expect("a mailbox");
        let mailbox = Arc::new(mailbox);
        let reply_to = |connection| ReplyTo {
            mailbox: Arc::clone(&mailbox),
            connection: Token(connection),
            exchange: ExchangeId(1),
            client: None,
            cancelled: CancelFlag::default(),
        };
        let ok = || ExchangeEvent::Response(Response::new(StatusCode::OK));
        let pool = BlockingPool::new(1, 2);
        let (started, has_started) = mpsc::channel();
        let (release, released) = mpsc::channel::<()>();
        let blocks = move || {
            started.send(()).expect("the test waits");
            let _ = released.recv();
            ok()
        };
        pool.submit(reply_to(1), blocks).expect("room");
        has_started.recv().expect("the task runs");
        for connection in [2, 3] {
            pool.submit(reply_to(connection), ok).expect("room");
        }
        assert!(pool.submit(reply_to(4), ok).is_err());
        drop(release);
        let mut replies = Vec::new();
        let mut events = Events::with_capacity(1);
        let mut messages = Vec::new();
        while replies.len() < 3 {
            poll.poll(&mut events, None).expect("an event");
            mailbox.take(&mut messages);
            replies.extend(messages.drain(..).map(|message| match message {
                WorkerMessage::Exchange { connection, .. } => connection.0,
                other => panic!("{other:?}"),
            }));
        }
        assert_eq!(replies, [1, 2, 3]);
    }
}
