//! The queue through which all threads send to a connection.
//!
//! A thread that adds to the queue wakes the event loop of the connection, unless it is awake: then it looks
//! at the queue again before it waits. Both is decided under the lock of the queue, so that no wake-up is
//! lost and each connection has at most one in the mailbox of its event loop between two of its turns.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use super::{Close, CloseCode, Message};
use crate::http::upgrade::{UpgradeJob, UpgradeWaker};
use crate::panics::catch;
use crate::sync::Mutex;

/// What a queued message costs beside its content, in bytes, so that empty messages are limited as well.
const MESSAGE_COST_BYTES: usize = 64;

/// Jobs of one connection that wait for the one before them.
const MAX_WAITING_JOBS: usize = 16;

/// Sends messages to one client, from any thread, without waiting. Clones send to the same client.
///
/// Messages wait in a queue of limited size
/// ([`with_max_queued_bytes`](super::WebSocketUpgrade::with_max_queued_bytes)) until the client accepts them. A
/// client that accepts nothing for [`Timeouts::send`](crate::Timeouts::send), or less than the
/// [minimum rate](crate::Limits::min_rate_bytes_per_second), is disconnected.
///
/// A sender does not keep the connection open, and may be kept after its end.
#[derive(Clone, Debug)]
pub struct WebSocketSender(Arc<Shared>);

/// Why a message or a job was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SendError {
    /// The queue is full: the client is too slow. The message was dropped.
    QueueFull,
    /// The connection has ended, or [`WebSocketSender::close`] was called.
    Closed,
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::QueueFull => "the queue of the WebSocket connection is full",
            Self::Closed => "the WebSocket connection is closed",
        })
    }
}

impl std::error::Error for SendError {}

type Job = Box<dyn FnOnce(&WebSocketSender) + Send>;

/// What the sender and its connection share.
struct Shared {
    queue: Mutex<Queue>,
    max_queued_bytes: usize,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shared")
    }
}

struct Queue {
    messages: VecDeque<Message>,
    /// What `messages` cost.
    bytes: usize,
    /// A Close frame that follows the messages.
    close: Option<Close>,
    /// Nothing more is accepted.
    is_closed: bool,
    jobs: VecDeque<Job>,
    has_running_job: bool,
    loop_state: LoopState,
    /// `None` until the connection has changed to WebSocket.
    waker: Option<UpgradeWaker>,
}

/// Whether the event loop looks at the queue without being woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LoopState {
    Awake,
    Waiting,
}

/// What is to be sent next.
pub(super) enum Queued {
    Message(Message),
    Close(Close),
}

/// The state of the jobs of a connection.
pub(super) enum NextJob {
    None,
    /// Run this one.
    Start(UpgradeJob),
    /// One is running.
    Running,
}

impl Queue {
    /// Returns what the caller must call, without the lock, to wake the event loop.
    fn wake(&mut self) -> Option<UpgradeWaker> {
        if self.loop_state == LoopState::Awake {
            return None;
        }
        self.loop_state = LoopState::Awake;
        self.waker.clone()
    }
}

impl WebSocketSender {
    pub(super) fn new(max_queued_bytes: usize) -> Self {
        Self(Arc::new(Shared {
            queue: Mutex::new(Queue {
                messages: VecDeque::new(),
                bytes: 0,
                close: None,
                is_closed: false,
                jobs: VecDeque::new(),
                has_running_job: false,
                loop_state: LoopState::Awake,
                waker: None,
            }),
            max_queued_bytes,
        }))
    }

    /// Queues a message. A message that is larger than the limit is accepted if the queue is empty.
    ///
    /// # Errors
    ///
    /// The queue is full, or the connection has ended.
    pub fn send(&self, message: impl Into<Message>) -> Result<(), SendError> {
        let message = message.into();
        let cost = MESSAGE_COST_BYTES + message.as_bytes().len();
        self.change(|queue| {
            if !queue.messages.is_empty() && queue.bytes + cost > self.0.max_queued_bytes {
                return Err(SendError::QueueFull);
            }
            queue.bytes += cost;
            queue.messages.push_back(message);
            Ok(())
        })
    }

    /// Closes the connection after the messages that are queued. Has no effect if it is closed already.
    ///
    /// The reason is cut off after 123 bytes. [`NO_STATUS`](CloseCode::NO_STATUS) and
    /// [`ABNORMAL`](CloseCode::ABNORMAL) send no code and no reason.
    pub fn close(&self, code: CloseCode, reason: &str) {
        // An error means that it is closed.
        let _ = self.change(|queue| {
            queue.close = Some(Close::new(code, reason));
            queue.is_closed = true;
            Ok(())
        });
    }

    /// Runs a job that may block on a helper thread, those of [`Outcome::blocking`](crate::Outcome::blocking).
    ///
    /// Until it has finished, no further message of the client is received. So the jobs of a connection run
    /// one after the other, in the order in which they were queued, and a client cannot queue more of them
    /// than its messages cause. When the connection has ended, jobs that have not begun are dropped. If the job
    /// panics, the connection is closed with [`INTERNAL_ERROR`](CloseCode::INTERNAL_ERROR).
    ///
    /// # Errors
    ///
    /// 16 jobs are waiting already, or the connection has ended.
    pub fn run_blocking(&self, job: impl FnOnce(&Self) + Send + 'static) -> Result<(), SendError> {
        self.change(|queue| {
            if queue.jobs.len() >= MAX_WAITING_JOBS {
                return Err(SendError::QueueFull);
            }
            queue.jobs.push_back(Box::new(job));
            Ok(())
        })
    }

    /// Returns true if the connection has ended, or [`close`](Self::close) was called.
    pub fn is_closed(&self) -> bool {
        self.0.queue.lock().is_closed
    }

    /// Changes the queue, unless it is closed, and wakes the event loop.
    fn change(
        &self,
        change: impl FnOnce(&mut Queue) -> Result<(), SendError>,
    ) -> Result<(), SendError> {
        let waker = {
            let mut queue = self.0.queue.lock();
            if queue.is_closed {
                return Err(SendError::Closed);
            }
            change(&mut queue)?;
            queue.wake()
        };
        if let Some(waker) = waker {
            waker();
        }
        Ok(())
    }

    pub(super) fn set_waker(&self, waker: UpgradeWaker) {
        self.0.queue.lock().waker = Some(waker);
    }

    /// The event loop looks at the queue from now on, until [`rest`](Self::rest).
    pub(super) fn begin_turn(&self) {
        self.0.queue.lock().loop_state = LoopState::Awake;
    }

    /// Returns true, and from now on wakes the event loop, if there is nothing to send and no job to start.
    pub(super) fn rest(&self) -> bool {
        let mut queue = self.0.queue.lock();
        let has_job = !queue.jobs.is_empty() && !queue.has_running_job;
        let is_empty = queue.messages.is_empty() && queue.close.is_none() && !has_job;
        if is_empty {
            queue.loop_state = LoopState::Waiting;
            // A burst of messages is not paid for until the end of the connection.
            if queue.messages.capacity() > MAX_WAITING_JOBS {
                queue.messages = VecDeque::new();
            }
        }
        is_empty
    }

    /// Takes what is to be sent next.
    pub(super) fn next(&self) -> Option<Queued> {
        let mut queue = self.0.queue.lock();
        match queue.messages.pop_front() {
            Some(message) => {
                queue.bytes -= MESSAGE_COST_BYTES + message.as_bytes().len();
                Some(Queued::Message(message))
            }
            None => queue.close.take().map(Queued::Close),
        }
    }

    /// Takes the next job, unless one is running.
    pub(super) fn next_job(&self) -> NextJob {
        let mut queue = self.0.queue.lock();
        if queue.has_running_job {
            return NextJob::Running;
        }
        let Some(job) = queue.jobs.pop_front() else {
            return NextJob::None;
        };
        queue.has_running_job = true;
        let running = RunningJob {
            sender: self.clone(),
            end: JobEnd::NotBegun,
        };
        NextJob::Start(UpgradeJob::new(move || running.run(job)))
    }

    /// The connection has ended: drops what is queued.
    pub(super) fn end(&self) {
        let dropped = {
            let mut queue = self.0.queue.lock();
            queue.is_closed = true;
            queue.close = None;
            queue.waker = None;
            queue.bytes = 0;
            (
                std::mem::take(&mut queue.messages),
                std::mem::take(&mut queue.jobs),
            )
        };
        // Without the lock: a job may own a sender.
        crate::panics::drop_caught(dropped, "WebSocket: a job that was not begun");
    }
}

/// A job that has left the queue. However it ends, the next one may begin.
struct RunningJob {
    sender: WebSocketSender,
    end: JobEnd,
}

enum JobEnd {
    NotBegun,
    Panicked,
    Returned,
}

impl RunningJob {
    fn run(mut self, job: Job) {
        self.end = match catch(|| job(&self.sender)) {
            Ok(()) => JobEnd::Returned,
            Err(_) => JobEnd::Panicked,
        };
    }
}

impl Drop for RunningJob {
    fn drop(&mut self) {
        let waker = {
            let mut queue = self.sender.0.queue.lock();
            queue.has_running_job = false;
            queue.wake()
        };
        match self.end {
            JobEnd::Returned => {}
            JobEnd::Panicked => {
                log::error!("WebSocket: a job panicked; connection closed");
                self.sender.close(CloseCode::INTERNAL_ERROR, "");
            }
            // There is no thread for it, or the connection has ended.
            JobEnd::NotBegun => self.sender.close(CloseCode::TRY_AGAIN_LATER, ""),
        }
        if let Some(waker) = waker {
            waker();
        }
    }
}
