//! The messages that other threads send to a worker.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Wake;
use std::time::Duration;

use bytes::Bytes;
use mio::Token;

use super::settings::RuntimeConfig;
use crate::body::file_range::Resident;
use crate::body::polled::PolledBody;
use crate::body::stream::BodySource;
use crate::client_key::ClientKey;
use crate::http::Response;
use crate::net::bandwidth::per_client::ClientSlot;
use crate::net::event_loop::handle::LoopHandle;
use crate::net::event_loop::mailbox::Mailbox;
use crate::net::observe::question::SnapshotRequest;
use crate::net::transport::any::AnyTransport;
use crate::proto::exchange::ExchangeId;
use crate::sync::CancelFlag;

/// A handle to a worker's event loop.
pub(crate) type WorkerHandle = LoopHandle<WorkerMessage>;

/// A message to a worker.
#[derive(Debug)]
pub(crate) enum WorkerMessage {
    /// Serve this connection.
    Connection(NewConnection),
    /// Close up to this many idle or incomplete connections, those that have waited longest first, to
    /// make room for others.
    Evict(usize),
    /// Something that an exchange waits for.
    Exchange {
        connection: Token,
        exchange: ExchangeId,
        event: ExchangeEvent,
    },
    /// A response body that is polled may have its next chunk.
    BodyReady(Arc<BodyWaker>),
    /// Use this configuration from now on.
    Reload(Box<RuntimeConfig>),
    /// Tell an observer what the connections are doing.
    Snapshot(SnapshotRequest),
    /// Finish the exchanges in progress within this time, and end. A further one can only shorten
    /// the time.
    Drain(Duration),
}

/// A connection that is ready for a request.
#[derive(Debug)]
pub(crate) struct NewConnection {
    pub(crate) transport: AnyTransport,
    pub(crate) client: SocketAddr,
    pub(crate) client_slot: ClientSlot,
}

/// What an exchange waits for.
#[derive(Debug)]
pub(crate) enum ExchangeEvent {
    /// The handler's response.
    Response(Response),
    /// The result of reading the next part of a file that was not in the page cache.
    FileRead(io::Result<Resident>),
    /// The next chunk of the response body.
    BodyChunk(BodyChunk),
    /// Another thread has something for the protocol of an upgraded connection.
    UpgradeWake,
    /// The handler has taken some of the request body, so there is room for more.
    RequestBodyRoom,
    /// A task was not begun, as it was cancelled. Nothing follows it.
    Cancelled,
}

/// A chunk of a body and the source of the next one, or `None` at the end of the body.
pub(crate) type BodyChunk = io::Result<Option<(Bytes, BodySource)>>;

/// The result of a request for the next chunk of a response body.
#[derive(Debug)]
pub(crate) enum Pulled {
    /// A thread works on the chunk, which arrives as an [`ExchangeEvent::BodyChunk`].
    Later,
    Chunk(BodyChunk),
    /// There is no chunk. The body is to be pulled again after a [`WorkerMessage::BodyReady`].
    Parked(Box<PolledBody>),
}

/// Where a thread sends what an exchange waits for.
#[derive(Clone, Debug)]
pub(crate) struct ReplyTo {
    pub(crate) mailbox: Arc<Mailbox<WorkerMessage>>,
    pub(crate) connection: Token,
    pub(crate) exchange: ExchangeId,
    /// The client that the work is for. `None` for peers on Unix sockets, which have no address.
    pub(crate) client: Option<ClientKey>,
    /// Set when the exchange has ended, so that work for it is not begun.
    pub(crate) cancelled: CancelFlag,
}

impl ReplyTo {
    /// Sends an event to the worker, which drops it if the exchange has ended.
    pub(crate) fn send(&self, event: ExchangeEvent) {
        self.mailbox.send(WorkerMessage::Exchange {
            connection: self.connection,
            exchange: self.exchange,
            event,
        });
    }
}

/// The waker of a response body that is polled: it has the worker poll the body again. However often it is
/// called between two messages, it sends one, so that its callers cannot fill the mailbox.
pub(crate) struct BodyWaker {
    mailbox: Arc<Mailbox<WorkerMessage>>,
    pub(crate) connection: Token,
    pub(crate) exchange: ExchangeId,
    /// Whether a message about the body is in the mailbox or the run queue.
    is_woken: AtomicBool,
}

impl BodyWaker {
    pub(crate) fn new(
        mailbox: Arc<Mailbox<WorkerMessage>>,
        connection: Token,
        exchange: ExchangeId,
    ) -> Self {
        Self {
            mailbox,
            connection,
            exchange,
            is_woken: AtomicBool::new(false),
        }
    }

    /// To be called before the body is polled because of the message: a wake-up during the poll sends
    /// another message.
    pub(crate) fn begin_poll(&self) {
        self.is_woken.store(false, Ordering::SeqCst);
    }
}

impl Wake for BodyWaker {
    fn wake(self: Arc<Self>) {
        if !self.is_woken.swap(true, Ordering::SeqCst) {
            let mailbox = Arc::clone(&self.mailbox);
            mailbox.send(WorkerMessage::BodyReady(self));
        }
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.is_woken.swap(true, Ordering::SeqCst) {
            let message = WorkerMessage::BodyReady(Arc::clone(self));
            self.mailbox.send(message);
        }
    }
}

impl fmt::Debug for BodyWaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BodyWaker")
    }
}
