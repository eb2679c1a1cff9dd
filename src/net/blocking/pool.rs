//! A thread pool for work that may block: a bounded queue, threads that are started when they are
//! first needed, and results that are sent to the mailbox of a worker.
//!
//! Clients take turns, and one client occupies a part of the threads only. Work for an exchange that has
//! ended is not begun. A job without a place in the queue is told so, and returns the 503.

use std::fmt;
use std::io;
use std::sync::{Arc, MutexGuard};

use crate::client_key::ClientKey;
use crate::fair_queue::{FairQueue, QueueLimits};
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
            waiting: queue.tasks.waiting(),
            running: queue.tasks.served(),
        }
    }
}

impl fmt::Debug for PoolStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PoolStats").field(&self.queue()).finish()
    }
}

/// The size of a pool.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PoolSize {
    pub(crate) threads: usize,
    /// Threads that the work of one client may occupy. Peers on Unix sockets are one client.
    pub(crate) threads_per_client: usize,
    /// Jobs that wait for a thread.
    pub(crate) waiting: usize,
    pub(crate) begins: Begins,
}

/// Whether a task is begun although its exchange has ended while it waited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Begins {
    /// It has a thread reserved, and learns of the end of its exchange as it does while it runs.
    Always,
    UnlessCancelled,
}

impl PoolSize {
    /// A pool of which half of the threads are always left to other clients, except a single thread.
    pub(crate) fn shared(threads: usize, waiting: usize) -> Self {
        Self {
            threads,
            threads_per_client: threads.div_ceil(2),
            waiting,
            begins: Begins::UnlessCancelled,
        }
    }
}

struct Pool {
    queue: Mutex<Queue>,
    /// Notified when there is a task, and when the pool is closed.
    changed: Condvar,
    max_threads: usize,
    begins: Begins,
}

struct Queue {
    /// Peers on Unix sockets are one client.
    tasks: FairQueue<Option<ClientKey>, Task>,
    threads: usize,
    /// Threads that wait for a task.
    idle: usize,
    closed: bool,
}

/// Is told whether it has a place, and returns what is sent for it.
type Work = Box<dyn FnOnce(Result<(), QueueFull>) -> Option<ExchangeEvent> + Send>;

struct Task {
    work: Work,
    reply_to: ReplyTo,
}

/// A job is not begun, because it has no place in the queue.
#[derive(Clone, Copy, Debug)]
pub(crate) struct QueueFull;

impl Task {
    /// Sends what the work returns instead of its result.
    fn reject(self) {
        let Self { work, reply_to } = self;
        match catch(|| work(Err(QueueFull))) {
            Ok(Some(event)) => reply_to.send(event),
            Ok(None) => {}
            Err(Panicked) => log::error!("helper threads: a rejected job panicked"),
        }
    }

    /// Drops the work and reports that it is not begun: an HTTP/2 connection counts its tasks, those of
    /// cancelled streams included.
    fn cancel(self) {
        let Self { work, reply_to } = self;
        drop_caught(work, "helper threads: a cancelled job");
        reply_to.send(ExchangeEvent::Cancelled);
    }
}

/// Closes the pool when the last handle is dropped.
struct PoolGuard(Arc<Pool>);

impl Drop for PoolGuard {
    fn drop(&mut self) {
        self.0.queue.lock().closed = true;
        self.0.changed.notify_all();
    }
}

/// No thread can be started.
#[derive(Debug)]
pub(crate) struct NoThread;

impl BlockingPool {
    pub(crate) fn new(size: PoolSize) -> Self {
        let max = size.threads.saturating_add(size.waiting);
        let limits = QueueLimits {
            max,
            // A full queue evicts from the client with the most jobs.
            max_per_client: max,
            max_served_per_client: size.threads_per_client,
        };
        let pool = Arc::new(Pool {
            queue: Mutex::new(Queue {
                tasks: FairQueue::new(limits),
                threads: 0,
                idle: 0,
                closed: false,
            }),
            changed: Condvar::default(),
            max_threads: size.threads,
            begins: size.begins,
        });
        Self {
            _guard: Arc::new(PoolGuard(Arc::clone(&pool))),
            pool,
        }
    }

    pub(crate) fn stats(&self) -> PoolStats {
        PoolStats(Arc::clone(&self.pool))
    }

    /// Runs `work` on a thread of the pool and sends its result to `reply_to`, if it has one. If the
    /// queue is full or no thread can be started, `work` is called at once with an error, or the newest job
    /// of a client with more jobs is; then it must not block.
    ///
    /// If `work` panics, the connection is closed.
    pub(crate) fn submit(
        &self,
        reply_to: ReplyTo,
        work: impl FnOnce(Result<(), QueueFull>) -> Option<ExchangeEvent> + Send + 'static,
    ) {
        let task = Task {
            work: Box::new(work),
            reply_to,
        };
        let mut queue = self.pool.queue.lock();
        let mut cancelled = Vec::new();
        if queue.tasks.is_full() {
            cancelled = queue.tasks.take_if(|task| self.pool.skips(task));
        }
        let rejected = if self.ensure_thread(&mut queue).is_ok() {
            queue.tasks.push(task.reply_to.client, task)
        } else {
            Some(task)
        };
        self.wake_thread(queue);
        cancelled.into_iter().for_each(Task::cancel);
        if let Some(task) = rejected {
            task.reject();
        }
    }

    /// Like [`submit`](Self::submit), without a limit on the queue: for a response that has begun
    /// and cannot be rejected any more. An exchange has at most one such task at a time.
    pub(crate) fn submit_required(
        &self,
        reply_to: ReplyTo,
        work: impl FnOnce() -> ExchangeEvent + Send + 'static,
    ) -> Result<(), NoThread> {
        let mut queue = self.pool.queue.lock();
        if let Err(NoThread) = self.ensure_thread(&mut queue) {
            drop(queue);
            drop_caught(work, "helper threads: a job without a thread");
            return Err(NoThread);
        }
        let task = Task {
            work: Box::new(move |_| Some(work())),
            reply_to,
        };
        queue.tasks.push_required(task.reply_to.client, task);
        self.wake_thread(queue);
        Ok(())
    }

    /// Starts a thread for one more task, unless there is an idle one or the pool is complete. An error
    /// means that there is no thread at all.
    fn ensure_thread(&self, queue: &mut Queue) -> Result<(), NoThread> {
        if queue.idle <= queue.tasks.waiting() && queue.threads < self.pool.max_threads {
            let pool = Arc::clone(&self.pool);
            let thread = std::thread::Builder::new().name("helper".to_owned());
            match thread.spawn(move || pool.run_tasks()) {
                Ok(_) => queue.threads += 1,
                Err(error) => log::error!("helper threads: failed to start one: {error}"),
            }
        }
        if queue.threads == 0 {
            return Err(NoThread);
        }
        Ok(())
    }

    fn wake_thread(&self, queue: MutexGuard<'_, Queue>) {
        drop(queue);
        self.pool.changed.notify_one();
    }
}

impl Pool {
    /// Returns whether a task is not begun.
    fn skips(&self, task: &Task) -> bool {
        self.begins == Begins::UnlessCancelled && task.reply_to.cancelled.is_cancelled()
    }

    fn run_tasks(&self) {
        while let Some((client, task)) = self.next_task() {
            let reply_to = task.reply_to.clone();
            let event = self.run_task(task);
            // Before the result is sent: its receiver may submit the next task at once.
            self.queue.lock().tasks.finish(client);
            // The result is dropped if the worker has ended.
            if let Some(event) = event
                && catch(|| reply_to.send(event)).is_err()
            {
                log::error!("helper threads: a response panicked when it was dropped");
            }
        }
    }

    /// Returns the result of a task, unless it is skipped. A thread outlives its tasks, whatever they do.
    fn run_task(&self, task: Task) -> Option<ExchangeEvent> {
        if self.skips(&task) {
            task.cancel();
            return None;
        }
        catch(|| (task.work)(Ok(()))).unwrap_or_else(|Panicked| {
            let error = io::Error::other("a helper thread's job panicked");
            Some(ExchangeEvent::BodyChunk(Err(error)))
        })
    }

    /// Waits for a task; `None` when the pool is closed and the queue is empty.
    fn next_task(&self) -> Option<(Option<ClientKey>, Task)> {
        let mut queue = self.queue.lock();
        loop {
            if let Some(next) = queue.tasks.pop() {
                return Some(next);
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
mod tests;
