//! A body whose pieces come through a channel: sent by any thread, and for which no thread waits.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::thread;

use bytes::Bytes;

use super::cancellation::Cancellation;
use super::polled::{PiecePoll, PollPiece, PolledBody, join};
use super::stream::BodyStream;
use crate::sync::{CancelFlag, Condvar, Mutex};

/// Sends the pieces of a response body; see [`BodyStream::channel`]. Its clones send to the same body,
/// which ends when all of them are dropped.
///
/// If a thread panics while it owns a sender, the body is truncated and not ended: the connection is
/// closed, so that the client can tell.
pub struct PieceSender {
    channel: Arc<Channel>,
}

/// The part that the senders and the body share.
struct Channel {
    state: Mutex<ChannelState>,
    /// Notified when there is room, and when the body is gone.
    room: Condvar,
    capacity: usize,
    /// Set when the body is gone.
    cancelled: CancelFlag,
}

struct ChannelState {
    pieces: VecDeque<Bytes>,
    senders: usize,
    /// Why the body cannot be completed.
    error: Option<io::Error>,
    /// Whether the body exists.
    is_open: bool,
    /// Called when there is a piece, or the end.
    waker: Option<Waker>,
}

/// The receiving end of a channel.
struct ChannelBody {
    channel: Arc<Channel>,
}

/// Opens a channel. `capacity` pieces may wait in it, at least one.
pub(crate) fn channel(capacity: usize) -> (PieceSender, PolledBody) {
    let channel = Arc::new(Channel {
        state: Mutex::new(ChannelState {
            pieces: VecDeque::new(),
            senders: 1,
            error: None,
            is_open: true,
            waker: None,
        }),
        room: Condvar::default(),
        capacity: capacity.max(1),
        cancelled: CancelFlag::default(),
    });
    let body = ChannelBody {
        channel: Arc::clone(&channel),
    };
    (PieceSender { channel }, PolledBody::new(body))
}

impl BodyStream {
    /// A body whose pieces are sent through a channel, in which at most `capacity` of them wait, and at
    /// least one. No thread waits for the client: the body is sent by the event loop of its connection
    /// when there is a piece. It ends when the sender is dropped.
    ///
    /// [`Limits::max_parked_streams`](crate::Limits::max_parked_streams) bounds the number of such bodies;
    /// the client of another one gets a 503 instead of the response. Their connections have no time limit
    /// while there is nothing to send.
    ///
    /// ```
    /// use tws::{BodyStream, Request, Response, StatusCode};
    ///
    /// fn squares(_: &Request<'_>) -> Response {
    ///     let (sender, body) = BodyStream::channel(16);
    ///     std::thread::spawn(move || {
    ///         for number in 1..=3 {
    ///             // Waits while the channel is full. An error means that the client has disconnected.
    ///             sender.send(format!("{}\n", number * number))?;
    ///         }
    ///         Ok::<_, std::io::Error>(())
    ///     });
    ///     Response::new(StatusCode::OK).with_body(body)
    /// }
    ///
    /// assert_eq!(squares(&Request::get("/")).into_text()?, "1\n4\n9\n");
    /// # Ok::<_, std::io::Error>(())
    /// ```
    pub fn channel(capacity: usize) -> (PieceSender, Self) {
        let (sender, body) = channel(capacity);
        (sender, Self::from(body))
    }
}

impl PieceSender {
    /// Sends a piece, and blocks while the channel is full. Not to be called on an event loop, as in
    /// [`Handler::handle`](crate::Handler::handle).
    ///
    /// # Errors
    ///
    /// `BrokenPipe` if the body is gone, because its client has disconnected for example.
    pub fn send(&self, piece: impl Into<Bytes>) -> io::Result<()> {
        let piece = piece.into();
        let mut state = self.channel.state.lock();
        while state.is_open && state.pieces.len() >= self.channel.capacity {
            state = self.channel.room.wait(state);
        }
        let waker = state.push(piece)?;
        drop(state);
        waker.into_iter().for_each(Waker::wake);
        Ok(())
    }

    /// Sends a piece if there is room, and does not block.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if the channel is full, `BrokenPipe` if the body is gone.
    pub fn try_send(&self, piece: impl Into<Bytes>) -> io::Result<()> {
        let piece = piece.into();
        let mut state = self.channel.state.lock();
        if state.is_open && state.pieces.len() >= self.channel.capacity {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let waker = state.push(piece)?;
        drop(state);
        waker.into_iter().for_each(Waker::wake);
        Ok(())
    }

    /// Ends the body before it is complete. The connection is closed after the pieces that were sent, so
    /// that the client can tell, and the error is logged.
    pub fn fail(self, error: io::Error) {
        self.channel.state.lock().error.get_or_insert(error);
    }

    /// Returns true if the body is gone, so that pieces would be dropped.
    pub fn is_closed(&self) -> bool {
        self.channel.cancelled.is_cancelled()
    }

    /// Returns a handle that tells when the body is gone.
    pub fn cancellation(&self) -> Cancellation {
        Cancellation::new(self.channel.cancelled.clone())
    }
}

impl ChannelState {
    /// Appends a piece. Returns the waker to be called without the lock.
    fn push(&mut self, piece: Bytes) -> io::Result<Option<Waker>> {
        const GONE: &str = "the response that the body belongs to is over";
        if !self.is_open {
            return Err(io::Error::new(io::ErrorKind::BrokenPipe, GONE));
        }
        if piece.is_empty() {
            return Ok(None);
        }
        self.pieces.push_back(piece);
        Ok(self.waker.take())
    }
}

impl Clone for PieceSender {
    fn clone(&self) -> Self {
        self.channel.state.lock().senders += 1;
        Self {
            channel: Arc::clone(&self.channel),
        }
    }
}

impl Drop for PieceSender {
    fn drop(&mut self) {
        let mut state = self.channel.state.lock();
        state.senders -= 1;
        if thread::panicking() {
            let error = || io::Error::other("the thread that sends it panicked");
            state.error.get_or_insert_with(error);
        }
        let is_over = state.senders == 0 || state.error.is_some();
        let waker = if is_over { state.waker.take() } else { None };
        drop(state);
        waker.into_iter().for_each(Waker::wake);
    }
}

impl PollPiece for ChannelBody {
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> PiecePoll {
        let mut state = self.channel.state.lock();
        if state.pieces.is_empty() {
            if let Some(error) = state.error.take() {
                return Poll::Ready(Err(error));
            }
            if state.senders == 0 {
                return Poll::Ready(Ok(None));
            }
            let previous = state.waker.replace(cx.waker().clone());
            drop(state);
            drop(previous);
            return Poll::Pending;
        }
        let (count, piece) = join(state.pieces.iter());
        state.pieces.drain(..count);
        drop(state);
        self.channel.room.notify_all();
        Poll::Ready(Ok(Some(piece)))
    }
}

impl Drop for ChannelBody {
    fn drop(&mut self) {
        let mut state = self.channel.state.lock();
        state.is_open = false;
        let unsent = (std::mem::take(&mut state.pieces), state.waker.take());
        drop(state);
        drop(unsent);
        self.channel.room.notify_all();
        self.channel.cancelled.cancel();
    }
}

impl fmt::Debug for PieceSender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PieceSender")
            .field("is_closed", &self.is_closed())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn pieces_arrive_in_order_from_a_sender_that_waits_for_room() {
        let (sender, mut body) = channel(1);
        let thread = thread::spawn(move || {
            (0..100_u32).try_for_each(|number| sender.send(format!("{number} ")))
        });
        let mut content = Vec::new();
        while let Some(piece) = body.wait_for_piece().expect("a piece") {
            content.extend_from_slice(&piece);
        }
        thread.join().expect("no panic").expect("an open channel");
        let expected: String = (0..100).map(|number| format!("{number} ")).collect();
        assert_eq!(content, expected.as_bytes());
    }

    #[test]
    fn full_channel_and_closed_channel_are_different_errors() {
        let (sender, body) = channel(2);
        let kind = |result: io::Result<()>| result.map_err(|error| error.kind());
        assert_eq!(kind(sender.try_send("")), Ok(()));
        assert_eq!(kind(sender.try_send("a")), Ok(()));
        assert_eq!(kind(sender.clone().try_send("b")), Ok(()));
        assert_eq!(kind(sender.try_send("c")), Err(io::ErrorKind::WouldBlock));
        let (cancelled, is_cancelled) = mpsc::channel();
        let cancellation = sender.cancellation();
        cancellation.on_cancel(move || cancelled.send(()).expect("the test runs"));
        assert!(!sender.is_closed());
        drop(body);
        is_cancelled.try_recv().expect("a cancellation");
        assert!(sender.is_closed());
        assert_eq!(kind(sender.try_send("c")), Err(io::ErrorKind::BrokenPipe));
        assert_eq!(kind(sender.send("c")), Err(io::ErrorKind::BrokenPipe));
    }

    /// A client must not take the pieces so far for the whole body.
    #[test]
    fn failure_and_panic_truncate_the_body_and_drop_ends_it() {
        let ends: [(fn(PieceSender), bool); 3] = [
            (drop, true),
            (|sender| sender.fail(io::ErrorKind::TimedOut.into()), false),
            (
                |sender| {
                    let panics = move || {
                        let _sender = sender;
                        panic!("on purpose");
                    };
                    assert!(thread::spawn(panics).join().is_err());
                },
                false,
            ),
        ];
        for (end, is_complete) in ends {
            let (sender, mut body) = channel(4);
            sender.send("all").expect("an open channel");
            let other = sender.clone();
            end(sender);
            assert_eq!(
                body.wait_for_piece().expect("a piece").as_deref(),
                Some(&b"all"[..])
            );
            if is_complete {
                let mut cx = Context::from_waker(Waker::noop());
                assert!(body.poll(&mut cx).is_pending(), "there is another sender");
                drop(other);
                assert!(matches!(body.wait_for_piece(), Ok(None)));
            } else {
                assert!(body.wait_for_piece().is_err());
            }
        }
    }
}
