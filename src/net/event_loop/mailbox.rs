//! What other threads may tell a worker, and the mailbox in which any event loop finds what it is
//! told.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use mio::{Registry, Token, Waker};

use crate::body::file_range::Resident;
use crate::body::stream::BodySource;
use crate::http::Response;
use crate::net::bandwidth::per_client::ClientSlot;
use crate::net::observe::observer::SnapshotRequest;
use crate::net::transport::any::AnyTransport;
use crate::net::worker::settings::RuntimeConfig;

/// A piece of a content and where the next comes from, or the end.
pub(crate) type Piece = io::Result<Option<(Bytes, BodySource)>>;

/// One message to a worker.
#[derive(Debug)]
pub(crate) enum WorkerMessage {
    /// A new connection, whose it is, and its client's share of all that there may be.
    Connection(AnyTransport, SocketAddr, Option<Box<ClientSlot>>),
    /// Close so many connections that are idle, the oldest first: others need the room.
    Shed(usize),
    /// A job is done; the token says for which connection.
    Response(Token, Response),
    /// What a connection sends next is in memory, so far.
    Memory(Token, io::Result<Resident>),
    /// A piece of a content is made.
    Piece(Token, Piece),
    /// Whoever reads a content has made room for more of it.
    Room(Token),
    /// Serve by these from now on.
    RuntimeConfig(Box<RuntimeConfig>),
    /// Say what all connections are doing.
    Report(SnapshotRequest),
    /// Finish what is begun, within this time, and end. A second one can only shorten the time.
    Drain(Duration),
}

/// A queue with a bell. However much mail comes in while its owner is busy, the bell rings once.
///
/// The queue needs no bound of its own: connections and questions are capped before they are
/// mailed, and each connection has at most one job.
#[derive(Debug)]
pub(crate) struct Mailbox<M = WorkerMessage> {
    /// `None` when nobody takes mail any more.
    queue: Mutex<Option<Vec<M>>>,
    rung: AtomicBool,
    bell: Waker,
}

impl<M> Mailbox<M> {
    pub(crate) fn new(registry: &Registry, token: Token) -> io::Result<Self> {
        Ok(Self {
            queue: Mutex::new(Some(Vec::new())),
            rung: AtomicBool::new(false),
            bell: Waker::new(registry, token)?,
        })
    }

    pub(crate) fn send(&self, mail: M) {
        match &mut *self.lock() {
            Some(queue) => queue.push(mail),
            // Dropping it is the answer: whoever waits for one learns that there will be none.
            None => return,
        }
        if !self.rung.swap(true, Ordering::AcqRel)
            && let Err(error) = self.bell.wake()
        {
            log::error!("event loop: wake-up failed: {error}");
        }
    }

    /// True if there is mail that nobody has taken yet.
    pub(crate) fn has_mail(&self) -> bool {
        self.rung.load(Ordering::Acquire)
    }

    /// Moves all mail into `mail`, which must be empty.
    pub(crate) fn take(&self, mail: &mut Vec<M>) {
        // Before the queue is emptied: mail that comes later rings again.
        self.rung.store(false, Ordering::Release);
        if let Some(queue) = &mut *self.lock() {
            std::mem::swap(mail, queue);
        }
    }

    /// Drops all mail, and all that comes.
    pub(crate) fn close(&self) {
        let left = self.lock().take();
        drop(left);
    }

    fn lock(&self) -> MutexGuard<'_, Option<Vec<M>>> {
        // A push cannot leave the queue half done.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use ::http::StatusCode;
    use mio::{Events, Poll};

    #[test]
    fn nothing_is_lost_between_threads_and_the_bell_rings() {
        const SENDERS: usize = 4;
        const EACH: usize = 1000;
        let mut poll = Poll::new().expect("a poll");
        let mailbox = Mailbox::new(poll.registry(), Token(7)).expect("a mailbox");
        let mailbox = Arc::new(mailbox);
        let senders: Vec<_> = (0..SENDERS)
            .map(|sender| {
                let mailbox = Arc::clone(&mailbox);
                std::thread::spawn(move || {
                    for at in 0..EACH {
                        let token = Token(sender * EACH + at);
                        mailbox.send(WorkerMessage::Response(
                            token,
                            Response::new(StatusCode::OK),
                        ));
                    }
                })
            })
            .collect();
        let mut seen = vec![false; SENDERS * EACH];
        let mut events = Events::with_capacity(8);
        let mut mail = Vec::new();
        while seen.contains(&false) {
            poll.poll(&mut events, None).expect("an event");
            mailbox.take(&mut mail);
            for message in mail.drain(..) {
                match message {
                    WorkerMessage::Response(token, _) => seen[token.0] = true,
                    other => panic!("{other:?}"),
                }
            }
        }
        for sender in senders {
            sender.join().expect("a sender");
        }
    }
}
