//! A response body for which no thread waits: it is polled on the event loop of its connection. Its next
//! piece is there, or a waker is called when it may be.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use bytes::Bytes;

use crate::semaphore::SemaphorePermit;

/// What polling a body returns: its next piece, or `None` at the end.
pub(crate) type PiecePoll = Poll<io::Result<Option<Bytes>>>;

/// The source of the pieces of a [`PolledBody`].
pub(crate) trait PollPiece: Send {
    /// Returns the next piece if it is there. Otherwise the waker of `cx` is called when it may be.
    /// Must not block.
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> PiecePoll;
}

impl<F> PollPiece for F
where
    F: FnMut(&mut Context<'_>) -> PiecePoll + Send,
{
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> PiecePoll {
        self(cx)
    }
}

/// A body that is polled, and what is sent while it waits.
pub(crate) struct PolledBody {
    source: Box<dyn PollPiece>,
    heartbeat: Option<Heartbeat>,
    at_shutdown: AtShutdown,
    /// The place among the bodies that may wait at once. It is free again when this is dropped.
    permit: Option<SemaphorePermit>,
    /// Wakes the event loop. Made when the body is polled for the first time.
    waker: Option<Waker>,
}

/// A piece that is sent when a body has waited for some time, so that a lost connection is noticed.
#[derive(Clone, Debug)]
pub(crate) struct Heartbeat {
    pub(crate) interval: Duration,
    pub(crate) piece: Bytes,
}

/// What happens to a body that waits when the server shuts down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AtShutdown {
    /// It goes on for the drain time of the server.
    Continues,
    /// It ends: its client can tell from its content how much it has received.
    Ends,
}

/// The limit of empty pieces in a row, as for producers: more would keep the event loop busy.
const MAX_EMPTY_PIECES: usize = 64;

impl PolledBody {
    pub(crate) fn new(source: impl PollPiece + 'static) -> Self {
        Self {
            source: Box::new(source),
            heartbeat: None,
            at_shutdown: AtShutdown::Continues,
            permit: None,
            waker: None,
        }
    }

    pub(crate) fn set_at_shutdown(&mut self, at_shutdown: AtShutdown) {
        self.at_shutdown = at_shutdown;
    }

    pub(crate) fn set_heartbeat(&mut self, heartbeat: Option<Heartbeat>) {
        self.heartbeat = heartbeat;
    }

    pub(crate) fn set_permit(&mut self, permit: SemaphorePermit) {
        self.permit = Some(permit);
    }

    pub(crate) fn has_permit(&self) -> bool {
        self.permit.is_some()
    }

    pub(crate) fn heartbeat(&self) -> Option<&Heartbeat> {
        self.heartbeat.as_ref()
    }

    pub(crate) fn ends_at_shutdown(&self) -> bool {
        self.at_shutdown == AtShutdown::Ends
    }

    /// Returns the next piece, which is not empty, if it is there. Otherwise the waker of `cx` is called
    /// when it may be.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> PiecePoll {
        for _ in 0..=MAX_EMPTY_PIECES {
            match self.source.poll_piece(cx) {
                Poll::Ready(Ok(Some(piece))) if piece.is_empty() => {}
                polled => return polled,
            }
        }
        let text = format!(
            "its source returned more than {MAX_EMPTY_PIECES} empty pieces in a row; \
             it must return `Poll::Pending` until there is a piece"
        );
        Poll::Ready(Err(io::Error::other(text)))
    }

    /// As [`poll`](Self::poll), with the waker that `make_waker` returns, now or at an earlier poll.
    pub(crate) fn poll_with(&mut self, make_waker: impl FnOnce() -> Waker) -> PiecePoll {
        let waker = self.waker.take().unwrap_or_else(make_waker);
        let polled = self.poll(&mut Context::from_waker(&waker));
        self.waker = Some(waker);
        polled
    }

    /// Returns the next piece and blocks until it is there.
    pub(crate) fn wait_for_piece(&mut self) -> io::Result<Option<Bytes>> {
        let waker = Waker::from(Arc::new(Unparker(thread::current())));
        let mut cx = Context::from_waker(&waker);
        loop {
            match self.poll(&mut cx) {
                Poll::Ready(piece) => return piece,
                Poll::Pending => thread::park(),
            }
        }
    }
}

impl fmt::Debug for PolledBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PolledBody")
            .field("heartbeat", &self.heartbeat)
            .field("at_shutdown", &self.at_shutdown)
            .finish_non_exhaustive()
    }
}

/// Continues a thread that waits for a piece.
struct Unparker(Thread);

impl Wake for Unparker {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// The most bytes of small pieces that are sent as one.
const MAX_JOINED_BYTES: usize = 16 * 1024;

/// Joins the first pieces that are there, as far as they are small: each piece that is sent costs a
/// system call. Returns their number and their bytes.
pub(crate) fn join<'a>(pieces: impl Iterator<Item = &'a Bytes> + Clone) -> (usize, Bytes) {
    let mut len = 0;
    let fitting = pieces.clone().take_while(|piece| {
        let is_first = len == 0;
        len += piece.len();
        is_first || len <= MAX_JOINED_BYTES
    });
    let count = fitting.count();
    let mut joined = pieces.take(count);
    let bytes = match (count, joined.next()) {
        (1, Some(piece)) => piece.clone(),
        (_, Some(first)) => {
            let mut bytes = first.to_vec();
            joined.for_each(|piece| bytes.extend_from_slice(piece));
            bytes.into()
        }
        (_, None) => Bytes::new(),
    };
    (count, bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_pieces_are_joined_up_to_the_limit() {
        let pieces = |lens: &[usize]| -> Vec<Bytes> {
            lens.iter().map(|len| vec![b'x'; *len].into()).collect()
        };
        for (lens, count) in [
            (&[][..], 0),
            (&[5], 1),
            (&[5, 7], 2),
            (&[100_000, 1], 1),
            (&[1, 100_000], 1),
            (&[MAX_JOINED_BYTES - 1, 1, 1], 2),
        ] {
            let (joined, bytes) = join(pieces(lens).iter());
            assert_eq!(joined, count, "{lens:?}");
            assert_eq!(bytes.len(), lens[..count].iter().sum::<usize>());
        }
    }

    #[test]
    fn endless_empty_pieces_are_an_error() {
        let empty = |_: &mut Context<'_>| Poll::Ready(Ok(Some(Bytes::new())));
        assert!(PolledBody::new(empty).wait_for_piece().is_err());
        let mut left = MAX_EMPTY_PIECES;
        let some = move |_: &mut Context<'_>| {
            let piece = if left == 0 { "x" } else { "" };
            left = left.saturating_sub(1);
            Poll::Ready(Ok(Some(Bytes::from(piece))))
        };
        let piece = PolledBody::new(some).wait_for_piece().expect("a piece");
        assert_eq!(piece.as_deref(), Some(&b"x"[..]));
    }
}
