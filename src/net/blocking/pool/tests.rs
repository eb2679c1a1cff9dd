use std::sync::mpsc::{self, Receiver, Sender};

use ::http::StatusCode;
use mio::{Events, Poll, Token};

use super::*;
use crate::http::Response;
use crate::net::event_loop::mailbox::Mailbox;
use crate::net::worker::message::WorkerMessage;
use crate::proto::exchange::ExchangeId;
use crate::sync::CancelFlag;

/// Stands for a report that a cancelled task is not begun.
const CANCELLED: StatusCode = StatusCode::GONE;

/// A pool, and a mailbox that receives its results.
struct Harness {
    pool: BlockingPool,
    poll: Poll,
    mailbox: Arc<Mailbox<WorkerMessage>>,
}

impl Harness {
    fn new(size: PoolSize) -> Self {
        let poll = Poll::new().expect("a poll");
        let mailbox = Mailbox::new(poll.registry(), Token(0)).expect("a mailbox");
        Self {
            pool: BlockingPool::new(size),
            poll,
            mailbox: Arc::new(mailbox),
        }
    }

    fn reply_to(&self, client: u8, connection: usize) -> ReplyTo {
        ReplyTo {
            mailbox: Arc::clone(&self.mailbox),
            connection: Token(connection),
            exchange: ExchangeId(1),
            client: ClientKey::of([192, 0, 2, client].into()),
            cancelled: CancelFlag::default(),
        }
    }

    /// Submits a job that responds with 200 and returns its cancel flag.
    fn submit(&self, client: u8, connection: usize) -> CancelFlag {
        let reply_to = self.reply_to(client, connection);
        let cancelled = reply_to.cancelled.clone();
        self.pool.submit(reply_to, |place| Some(result(place)));
        cancelled
    }

    /// Submits a job that runs until the sender that is returned is dropped. Returns when it runs.
    fn occupy(&self, client: u8, connection: usize) -> Sender<()> {
        let (work, has_started, release) = blocking();
        self.pool.submit(self.reply_to(client, connection), work);
        has_started.recv().expect("the job runs");
        release
    }

    /// Receives `count` results, as connections and status codes, in the order in which they are sent.
    fn receive(&mut self, count: usize) -> Vec<(usize, StatusCode)> {
        let mut received = Vec::new();
        let mut events = Events::with_capacity(1);
        let mut messages = Vec::new();
        while received.len() < count {
            self.poll.poll(&mut events, None).expect("an event");
            self.mailbox.take(&mut messages);
            received.extend(messages.drain(..).map(|message| match message {
                WorkerMessage::Exchange {
                    connection,
                    event: ExchangeEvent::Response(response),
                    ..
                } => (connection.0, response.status()),
                WorkerMessage::Exchange {
                    connection,
                    event: ExchangeEvent::Cancelled,
                    ..
                } => (connection.0, CANCELLED),
                other => panic!("{other:?}"),
            }));
        }
        assert_eq!(received.len(), count);
        received
    }
}

fn result(place: Result<(), QueueFull>) -> ExchangeEvent {
    match place {
        Ok(()) => ok(),
        Err(QueueFull) => ExchangeEvent::Response(Response::unavailable("no place")),
    }
}

fn ok() -> ExchangeEvent {
    ExchangeEvent::Response(Response::new(StatusCode::OK))
}

/// Returns work that runs until the sender is dropped, and what receives when it has started.
fn blocking() -> (Work, Receiver<()>, Sender<()>) {
    let (started, has_started) = mpsc::channel();
    let (release, released) = mpsc::channel::<()>();
    let work = move |_| {
        started.send(()).expect("the test waits");
        let _ = released.recv();
        Some(ok())
    };
    (Box::new(work), has_started, release)
}

fn one_thread(waiting: usize) -> PoolSize {
    PoolSize::shared(1, waiting)
}

fn connections(received: &[(usize, StatusCode)], status: StatusCode) -> Vec<usize> {
    let those = received.iter().filter(|(_, other)| *other == status);
    those.map(|(connection, _)| *connection).collect()
}

#[test]
fn queue_is_bounded_and_running_task_leaves_it() {
    let mut harness = Harness::new(one_thread(2));
    let release = harness.occupy(1, 1);
    for connection in [2, 3, 4] {
        harness.submit(1, connection);
    }
    assert_eq!(
        harness.receive(1),
        [(4, StatusCode::SERVICE_UNAVAILABLE)],
        "no place in the queue"
    );
    drop(release);
    assert_eq!(connections(&harness.receive(3), StatusCode::OK), [1, 2, 3]);
}

#[test]
fn full_queue_rejects_the_client_with_the_most_jobs() {
    let mut harness = Harness::new(one_thread(3));
    let release = harness.occupy(1, 1);
    for connection in [2, 3, 4] {
        harness.submit(1, connection);
    }
    harness.submit(2, 10);
    assert_eq!(
        harness.receive(1),
        [(4, StatusCode::SERVICE_UNAVAILABLE)],
        "the newest of the other client"
    );
    drop(release);
    assert_eq!(
        connections(&harness.receive(4), StatusCode::OK),
        [1, 10, 2, 3]
    );
}

#[test]
fn client_leaves_threads_to_others() {
    let mut harness = Harness::new(PoolSize::shared(2, 10));
    let release = harness.occupy(1, 1);
    harness.submit(1, 2);
    // It would block for ever if the first client had both threads.
    let other = harness.occupy(2, 10);
    drop(other);
    assert_eq!(harness.receive(1), [(10, StatusCode::OK)]);
    drop(release);
    let mut served = connections(&harness.receive(2), StatusCode::OK);
    served.sort_unstable();
    assert_eq!(served, [1, 2]);
}

#[test]
fn cancelled_task_is_not_begun() {
    let mut harness = Harness::new(one_thread(10));
    let release = harness.occupy(1, 1);
    let begun = |name: usize, reply_to: ReplyTo, sender: Sender<usize>| {
        let cancelled = reply_to.cancelled.clone();
        harness.pool.submit(reply_to, move |_| {
            sender.send(name).expect("the test waits");
            Some(ok())
        });
        cancelled
    };
    let (sender, runs) = mpsc::channel();
    let cancelled = begun(2, harness.reply_to(1, 2), sender.clone());
    begun(3, harness.reply_to(1, 3), sender);
    cancelled.cancel();
    drop(release);
    let received = harness.receive(3);
    assert_eq!(connections(&received, StatusCode::OK), [1, 3]);
    assert_eq!(connections(&received, CANCELLED), [2]);
    assert_eq!(runs.iter().collect::<Vec<_>>(), [3]);
}

#[test]
fn cancelled_tasks_take_no_places() {
    let mut harness = Harness::new(one_thread(2));
    let release = harness.occupy(1, 1);
    let flags = [harness.submit(2, 2), harness.submit(3, 3)];
    for flag in flags {
        flag.cancel();
    }
    harness.submit(4, 4);
    harness.submit(5, 5);
    drop(release);
    let received = harness.receive(5);
    assert_eq!(connections(&received, StatusCode::OK), [1, 4, 5]);
    let mut cancelled = connections(&received, CANCELLED);
    cancelled.sort_unstable();
    assert_eq!(cancelled, [2, 3]);
}

#[test]
fn required_task_is_never_rejected() {
    let mut harness = Harness::new(one_thread(0));
    let release = harness.occupy(1, 1);
    for connection in [2, 3] {
        let reply_to = harness.reply_to(1, connection);
        let submitted = harness.pool.submit_required(reply_to, ok);
        submitted.expect("a thread");
    }
    drop(release);
    assert_eq!(connections(&harness.receive(3), StatusCode::OK), [1, 2, 3]);
}
