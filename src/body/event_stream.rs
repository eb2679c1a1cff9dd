//! The content of a response with server-sent events, and the sender of one that has a client of its own.

use std::fmt;
use std::io;
use std::time::Duration;

use bytes::Bytes;

use super::cancellation::Cancellation;
use super::channel::{PieceSender, channel};
use super::event::Event;
use super::polled::{AtShutdown, Heartbeat, PollPiece, PolledBody};
use super::stream::BodyStream;

/// WHATWG HTML §9.2.7 recommends a comment "every 15 seconds or so" against proxies that close idle
/// connections.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(15);

/// A shorter interval would keep the event loop busy.
const MIN_HEARTBEAT_INTERVAL: Duration = Duration::from_millis(100);

/// A comment, which clients ignore.
const HEARTBEAT: &[u8] = b":\n\n";

/// Server-sent events as the content of a response; see [`Response::sse`](crate::Response::sse). It comes
/// from a [`Broadcast`](crate::Broadcast), which many clients share, or from a
/// [`channel`](Self::channel) for one client.
///
/// While there are no events, a comment is sent every 15 seconds, so that proxies do not close the
/// connection and a client that has vanished is noticed. When the server shuts down, the stream ends after
/// the events that are there, and its client connects again.
pub struct EventStream {
    body: PolledBody,
}

/// Sends the events of an [`EventStream::channel`]. The stream ends when all clones are dropped.
#[derive(Clone, Debug)]
pub struct EventSender {
    pieces: PieceSender,
}

impl EventStream {
    pub(crate) fn new(source: impl PollPiece + 'static) -> Self {
        Self::of(PolledBody::new(source))
    }

    fn of(mut body: PolledBody) -> Self {
        body.set_at_shutdown(AtShutdown::Ends);
        Self { body }.with_heartbeat(HEARTBEAT_INTERVAL)
    }

    /// Opens a stream for one client, in which at most `capacity` events wait, and at least one.
    ///
    /// ```
    /// use tws::{Event, EventStream, Request, Response};
    ///
    /// fn progress(_: &Request<'_>) -> Response {
    ///     let (sender, events) = EventStream::channel(16);
    ///     std::thread::spawn(move || {
    ///         for percent in [0, 50, 100] {
    ///             // An error means that the client has disconnected.
    ///             sender.send(&Event::new(percent.to_string()))?;
    ///         }
    ///         Ok::<_, std::io::Error>(())
    ///     });
    ///     Response::sse(events)
    /// }
    ///
    /// let mut pieces = progress(&Request::get("/")).into_pieces();
    /// assert!(pieces.next().expect("an event")?.starts_with(b"data: 0\n\n"));
    /// # Ok::<_, std::io::Error>(())
    /// ```
    pub fn channel(capacity: usize) -> (EventSender, Self) {
        let (pieces, body) = channel(capacity);
        (EventSender { pieces }, Self::of(body))
    }

    /// Sets how long the stream waits for an event before it sends a comment; at least 100 ms.
    pub fn with_heartbeat(mut self, interval: Duration) -> Self {
        self.body.set_heartbeat(Some(Heartbeat {
            interval: interval.max(MIN_HEARTBEAT_INTERVAL),
            piece: Bytes::from_static(HEARTBEAT),
        }));
        self
    }

    /// Sends no comments. A client that has vanished is noticed when an event is sent.
    pub fn without_heartbeat(mut self) -> Self {
        self.body.set_heartbeat(None);
        self
    }
}

impl From<EventStream> for BodyStream {
    fn from(events: EventStream) -> Self {
        events.body.into()
    }
}

impl fmt::Debug for EventStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("EventStream").field(&self.body).finish()
    }
}

impl EventSender {
    /// Sends an event, and blocks while the stream is full. Not to be called on an event loop, as in
    /// [`Handler::handle`](crate::Handler::handle).
    ///
    /// # Errors
    ///
    /// `BrokenPipe` if the client has disconnected, or the server has ended the stream.
    pub fn send(&self, event: &Event) -> io::Result<()> {
        self.pieces.send(event.render())
    }

    /// Sends an event if there is room for it, and does not block.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if the client has not taken the events before; `BrokenPipe` as with
    /// [`send`](Self::send).
    pub fn try_send(&self, event: &Event) -> io::Result<()> {
        self.pieces.try_send(event.render())
    }

    /// Returns true if events would be dropped: the client has disconnected, or the server has ended the
    /// stream.
    pub fn is_closed(&self) -> bool {
        self.pieces.is_closed()
    }

    /// Returns a handle that tells when events would be dropped.
    pub fn cancellation(&self) -> Cancellation {
        self.pieces.cancellation()
    }
}
