//! A response body whose pieces are sent through a channel, at any time and by another thread than that of
//! the connection.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use bytes::Bytes;

use super::rng::Rng;
use crate::body::polled::{AtShutdown, Heartbeat, PolledBody};
use crate::body::stream::BodySource;
use crate::body::{BodyStream, PieceSender};
use crate::net::worker::message::Pulled;
use crate::proto::exchange::ExchangeId;
use crate::sync::Mutex;

/// The bytes of pieces with heartbeats between them; a heartbeat has none of them.
pub(super) const PIECE_BYTE: u8 = b'x';

/// The exchanges whose bodies may have their next piece, as undelivered messages.
#[derive(Clone, Debug, Default)]
pub(super) struct WakeUps(Arc<Mutex<Vec<ExchangeId>>>);

impl WakeUps {
    pub(super) fn push(&self, exchange: ExchangeId) {
        self.0.lock().push(exchange);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.lock().is_empty()
    }

    /// Takes any of them.
    pub(super) fn take_any(&self, rng: &mut Rng) -> Option<ExchangeId> {
        let mut exchanges = self.0.lock();
        let at = rng.below(exchanges.len().max(1));
        (at < exchanges.len()).then(|| exchanges.swap_remove(at))
    }
}

pub(super) struct Publisher {
    sender: PieceSender,
    pieces: VecDeque<Bytes>,
    end: PublisherEnd,
}

enum PublisherEnd {
    Complete,
    Fails,
}

struct MessageWaker {
    exchange: ExchangeId,
    wake_ups: WakeUps,
}

impl Wake for MessageWaker {
    fn wake(self: Arc<Self>) {
        self.wake_ups.push(self.exchange);
    }
}

impl Publisher {
    /// Returns a body of these pieces, which fails with a probability of one in `failures`.
    pub(super) fn new(
        pieces: VecDeque<Bytes>,
        failures: usize,
        rng: &mut Rng,
    ) -> (Self, BodyStream) {
        let (sender, stream) = BodyStream::channel(rng.size(4));
        let publisher = Self {
            sender,
            pieces,
            end: if rng.one_in(failures) {
                PublisherEnd::Fails
            } else {
                PublisherEnd::Complete
            },
        };
        (publisher, stream)
    }

    /// Continues the body after some time with heartbeats, and ends it at shutdown.
    pub(super) fn make_events(stream: &mut BodyStream, rng: &mut Rng) {
        if let BodySource::Polled(body) = &mut stream.source {
            body.set_at_shutdown(AtShutdown::Ends);
            body.set_heartbeat(Some(Heartbeat {
                interval: Duration::from_micros(rng.size(20_000) as u64),
                piece: Bytes::from_static(b":\n\n"),
            }));
        }
    }

    /// Returns false if there is no room for the next piece, or the body is gone.
    pub(super) fn can_publish(&self) -> bool {
        self.sender.try_send("").is_ok()
    }

    /// Sends the next piece, or returns `None` after the end.
    pub(super) fn publish(mut self) -> Option<Self> {
        match (self.pieces.pop_front(), self.end) {
            (Some(piece), end) => {
                let sent = self.sender.try_send(piece);
                assert!(sent.is_ok(), "there was room");
                Some(Self { end, ..self })
            }
            (None, PublisherEnd::Complete) => None,
            (None, PublisherEnd::Fails) => {
                self.sender.fail(io::Error::other("a publisher that fails"));
                None
            }
        }
    }
}

/// How many bytes of a polled body there were, and how many were announced.
#[derive(Clone, Copy, Default)]
pub(super) struct PolledLength {
    announced: Option<usize>,
    made: usize,
}

impl PolledLength {
    pub(super) fn announced(announced: Option<usize>) -> Self {
        Self { announced, made: 0 }
    }

    /// Polls a body. Returns whether it has failed, too.
    pub(super) fn poll(
        &mut self,
        mut body: Box<PolledBody>,
        exchange: ExchangeId,
        wake_ups: &WakeUps,
    ) -> (Pulled, bool) {
        let waker = Waker::from(Arc::new(MessageWaker {
            exchange,
            wake_ups: wake_ups.clone(),
        }));
        match body.poll(&mut Context::from_waker(&waker)) {
            Poll::Pending => (Pulled::Parked(body), false),
            Poll::Ready(Ok(Some(piece))) => {
                self.made += piece.len();
                let fails = self.announced.is_some_and(|len| self.made > len);
                let chunk = Ok(Some((piece, BodySource::Polled(body))));
                (Pulled::Chunk(chunk), fails)
            }
            Poll::Ready(Ok(None)) => {
                let fails = self.announced.is_some_and(|len| self.made < len);
                (Pulled::Chunk(Ok(None)), fails)
            }
            Poll::Ready(Err(error)) => (Pulled::Chunk(Err(error)), true),
        }
    }
}
