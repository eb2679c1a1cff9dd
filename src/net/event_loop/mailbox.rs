//! The mailbox through which other threads send messages to an event loop.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use mio::{Registry, Token, Waker};

use crate::sync::Mutex;

/// A queue with a waker. However many messages arrive while the event loop is busy, the waker is
/// written once.
///
/// The queue itself is unbounded; its senders are bounded. Connections are limited, an observer has a
/// limited number of unanswered requests, and an exchange has at most one job or body read in
/// progress, or one wake-up of its response body.
#[derive(Debug)]
pub(crate) struct Mailbox<M> {
    /// `None` after the event loop has ended.
    queue: Mutex<Option<Vec<M>>>,
    /// Whether the waker was written since the queue was last taken.
    woken: AtomicBool,
    waker: Waker,
}

impl<M> Mailbox<M> {
    pub(crate) fn new(registry: &Registry, token: Token) -> io::Result<Self> {
        Ok(Self {
            queue: Mutex::new(Some(Vec::new())),
            woken: AtomicBool::new(false),
            waker: Waker::new(registry, token)?,
        })
    }

    /// Appends a message and wakes the event loop. After [`close`](Self::close) the message is
    /// dropped, which tells a sender that waits for an answer that there will be none.
    pub(crate) fn send(&self, message: M) {
        match &mut *self.queue.lock() {
            Some(queue) => queue.push(message),
            None => return,
        }
        if !self.woken.swap(true, Ordering::AcqRel)
            && let Err(error) = self.waker.wake()
        {
            log::error!("event loop: wake-up failed: {error}");
        }
    }

    /// Returns true if there are messages that have not been taken.
    pub(crate) fn has_messages(&self) -> bool {
        self.woken.load(Ordering::Acquire)
    }

    /// Moves all messages into `messages`, which must be empty.
    pub(crate) fn take(&self, messages: &mut Vec<M>) {
        debug_assert!(messages.is_empty());
        // Before the queue is emptied: a message that arrives later wakes the loop again.
        self.woken.store(false, Ordering::Release);
        if let Some(queue) = &mut *self.queue.lock() {
            std::mem::swap(messages, queue);
        }
    }

    /// Drops all messages, and from now on those that arrive.
    pub(crate) fn close(&self) {
        // Dropped outside of the lock: a message may own something that sends another.
        let left = self.queue.lock().take();
        drop(left);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use mio::{Events, Poll};

    #[test]
    fn concurrent_senders_lose_no_message_and_wake_the_loop() {
        const SENDERS: usize = 4;
        const EACH: usize = 1000;
        let mut poll = Poll::new().expect("a poll");
        let mailbox = Mailbox::new(poll.registry(), Token(7)).expect("a mailbox");
        let mailbox = Arc::new(mailbox);
        let senders: Vec<_> = (0..SENDERS)
            .map(|sender| {
                let mailbox = Arc::clone(&mailbox);
                std::thread::spawn(move || {
                    for number in 0..EACH {
                        mailbox.send(sender * EACH + number);
                    }
                })
            })
            .collect();
        let mut seen = vec![false; SENDERS * EACH];
        let mut events = Events::with_capacity(8);
        let mut messages = Vec::new();
        while seen.contains(&false) {
            poll.poll(&mut events, None).expect("an event");
            mailbox.take(&mut messages);
            for message in messages.drain(..) {
                seen[message] = true;
            }
        }
        for sender in senders {
            sender.join().expect("a sender");
        }
    }
}
