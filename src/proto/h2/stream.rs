//! A stream: one request and its response, from the end of the request's head until the transport has
//! taken the end of the response.

use std::collections::VecDeque;

use ::http::StatusCode;

use super::flow::{ReceiveWindow, SendWindow};
use super::limits::SMALL_BODY_BYTES;
use super::peer_wait::PeerWait;
use super::priority::{Priority, PriorityParameters};
use super::request_body::{BodyLength, RequestBody};
use crate::body::BodyWriter;
use crate::http::Rejection;
use crate::http::admission::Admission;
use crate::proto::body_sender::BodySender;
use crate::proto::exchange::{RequestInfo, SendBody};
use crate::proto::request_head::RequestHead;
use crate::proto::transfer::{Direction, StalledOn, TransferProgress};

/// A stream that is open, or that still occupies one of the places of its connection.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) id: u32,
    pub(crate) state: StreamState,
    pub(crate) remote: RemoteSide,
    pub(crate) send_window: SendWindow,
    pub(crate) receive_window: ReceiveWindow,
    pub(crate) body_length: BodyLength,
    /// Bytes of the body that are received and that the client has not been granted again.
    pub(crate) held_bytes: u32,
    /// What the client has signalled about its priority.
    pub(crate) priority: PriorityParameters,
    /// What the response says about its own, once there is one.
    pub(crate) response_priority: ResponsePriority,
    /// Whether a job of the handler or of the response body is out.
    pub(crate) job: JobState,
    pub(crate) send_body: SendBody,
    /// The field block of the response, until the first bytes of its file have been read: if they
    /// cannot be, the response is another one.
    pub(crate) unsent_head: Option<Box<[u8]>>,
    /// That of the response, once its head is staged.
    pub(crate) status: Option<StatusCode>,
    /// How many bytes of the response body the transport has taken.
    pub(crate) sent: u64,
    pub(crate) wait: PeerWait,
    /// `None` if the exchange is not recorded.
    pub(crate) info: Option<Box<RequestInfo>>,
}

/// Whether the peer may still send on a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RemoteSide {
    Open,
    /// The peer has sent END_STREAM.
    Ended,
}

/// Whether a thread works for the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum JobState {
    None,
    /// It answers in the end.
    Running,
    /// It writes a response body and waits until the last chunk is sent.
    Held,
}

/// How the priority of a response may be changed by its client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ResponsePriority {
    /// What the response itself determines (RFC 9218 §8).
    pub(crate) own: PriorityParameters,
    /// The most urgent that it may become.
    pub(crate) ceiling: Option<Priority>,
}

impl ResponsePriority {
    /// The priority after the client has signalled these parameters.
    pub(crate) fn with(self, parameters: PriorityParameters) -> Priority {
        let requested = Priority::default().with(parameters);
        let ceiling = self.ceiling.unwrap_or(requested);
        let served = Priority {
            urgency: requested.urgency.max(ceiling.urgency),
            incremental: requested.incremental || ceiling.incremental,
        };
        served.with(self.own)
    }
}

/// A request whose head is kept, because it has a body or cannot be dispatched at once.
#[derive(Debug)]
pub(crate) struct PendingRequest {
    pub(crate) head: RequestHead,
    /// The bytes that the positions in `head` refer to.
    pub(crate) head_bytes: Box<[u8]>,
    pub(crate) body: RequestBody,
    /// `None` if the handler is not asked about the body.
    pub(crate) admission: Option<Admission>,
    /// Why the body is rejected, if it is.
    pub(crate) rejection: Option<Rejection>,
}

/// How far the exchange of a stream has come.
#[derive(Debug)]
pub(crate) enum StreamState {
    /// The head is complete; the handler decides whether and how the body is read.
    AwaitingAdmission(Box<PendingRequest>),
    /// The body is being received; the handler is called when it is complete.
    ReadingBody(Box<PendingRequest>),
    /// The handler can be called when one of the connection's jobs is free. With a writer, it reads
    /// the body as a stream.
    Ready(Box<PendingRequest>, Option<BodyWriter>),
    /// The handler has the request while its body is being received.
    Streaming(Box<PendingRequest>, BodyWriter),
    /// The body failed while the handler was reading it; the handler's response is discarded.
    BodyFailed(Box<PendingRequest>),
    /// The body is rejected; the handler writes the response to that.
    Rejecting(Box<PendingRequest>),
    /// The handler has the request.
    Handling(Option<Box<PendingRequest>>),
    /// The head of the response is staged, its body is not staged to its end.
    Sending(Box<BodySender>),
    /// The whole response is staged.
    Finishing,
    /// The transport has taken the whole response, and the peer has not ended its request, the rest of
    /// which is discarded.
    Answered,
    /// The exchange has ended, but its job has not: the stream keeps its place until then
    /// (CVE-2025-8671).
    Orphaned,
}

impl StreamState {
    /// The request, if it is kept.
    pub(crate) fn request(&self) -> Option<&PendingRequest> {
        match self {
            Self::AwaitingAdmission(request)
            | Self::ReadingBody(request)
            | Self::Ready(request, _)
            | Self::Streaming(request, _)
            | Self::BodyFailed(request)
            | Self::Rejecting(request) => Some(request),
            Self::Handling(request) => request.as_deref(),
            Self::Sending(_) | Self::Finishing | Self::Answered | Self::Orphaned => None,
        }
    }
}

impl Stream {
    /// The body of the response that is being sent.
    pub(crate) fn sender(&self) -> Option<&BodySender> {
        match &self.state {
            StreamState::Sending(sender) => Some(sender),
            _ => None,
        }
    }

    pub(crate) fn sender_mut(&mut self) -> Option<&mut BodySender> {
        match &mut self.state {
            StreamState::Sending(sender) => Some(sender),
            _ => None,
        }
    }

    /// True while a body is being sent that is not small, unless there is nothing to send of it for an
    /// indefinite time.
    pub(crate) fn is_sending_bulk(&self) -> bool {
        self.sender()
            .is_some_and(|sender| is_bulk(sender) && !sender.is_parked())
    }

    /// True if its job reads the body of the request while it is received, or writes that of the
    /// response.
    pub(crate) fn has_client_paced_job(&self) -> bool {
        let is_paced = match &self.state {
            StreamState::Streaming(..) => self.remote == RemoteSide::Open,
            StreamState::BodyFailed(_) => true,
            StreamState::Sending(sender) => sender.is_written(),
            _ => false,
        };
        is_paced && self.job != JobState::None
    }

    /// True if it waits for a job that reads the body of the request while it is received.
    pub(crate) fn awaits_client_paced_job(&self) -> bool {
        matches!(self.state, StreamState::Ready(_, Some(_))) && self.remote == RemoteSide::Open
    }

    /// True if only the stream's job keeps its place.
    pub(crate) fn is_orphaned(&self) -> bool {
        matches!(self.state, StreamState::Orphaned)
    }

    /// True if there is a response, even if it is not sent.
    pub(crate) fn is_answered(&self) -> bool {
        self.status.is_some()
    }

    /// True if the exchange has ended, but for what the transport has not taken.
    pub(crate) fn is_over(&self) -> bool {
        matches!(
            self.state,
            StreamState::Finishing | StreamState::Answered | StreamState::Orphaned
        )
    }

    /// How many bytes of the heads of the request and its response are kept.
    pub(crate) fn held_head_bytes(&self) -> usize {
        let recorded = self.info.as_ref().map_or(0, |info| {
            let field = |field: &Option<Box<[u8]>>| field.as_ref().map_or(0, |it| it.len());
            info.line.len() + field(&info.host) + field(&info.referer) + field(&info.user_agent)
        });
        let request = self.state.request();
        let response = self.unsent_head.as_ref().map_or(0, |block| block.len());
        recorded + request.map_or(0, |request| request.head_bytes.len()) + response
    }

    /// The progress of the body that is being transferred, if the exchange is recorded. `connection` is
    /// the send window of the connection.
    pub(crate) fn transfer(&self, connection: SendWindow) -> Option<TransferProgress<'_>> {
        let info = self.info.as_deref()?;
        let up = |stall| TransferProgress {
            direction: Direction::Up,
            info,
            moved: self.body_length.received(),
            total: self.body_length.announced(),
            stall,
        };
        let is_held = self.send_window.available() == 0 || connection.available() == 0;
        match &self.state {
            StreamState::ReadingBody(_) => Some(up(None)),
            StreamState::Streaming(..) => {
                let waits_for_reader = self.wait.timer().is_none();
                Some(up(waits_for_reader.then_some(StalledOn::Handler)))
            }
            StreamState::Sending(sender) => Some(TransferProgress {
                direction: Direction::Down,
                info,
                moved: self.sent,
                total: sender.length(),
                stall: sender.stalled_on().or(is_held.then_some(StalledOn::Window)),
            }),
            _ => None,
        }
    }
}

/// True for a body that is not small.
pub(crate) fn is_bulk(sender: &BodySender) -> bool {
    sender.is_stream() || sender.unsent() > SMALL_BODY_BYTES
}

/// The streams of a connection, in the order of their identifiers.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    /// A ring, because the oldest streams nearly always end first.
    list: VecDeque<Stream>,
    /// No fewer bytes of heads than are held: what is not held any more is subtracted only when a limit
    /// seems to be exceeded.
    held_head_bytes: u32,
}

impl Streams {
    pub(crate) fn len(&self) -> usize {
        self.list.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Stream> {
        self.list.iter()
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Stream> {
        self.list.iter_mut()
    }

    /// Adds a stream; its identifier is larger than all before it.
    pub(crate) fn push(&mut self, stream: Stream) {
        debug_assert!(self.list.back().is_none_or(|last| last.id < stream.id));
        self.add_head_bytes(stream.held_head_bytes());
        self.list.push_back(stream);
    }

    /// A stream holds so many more bytes of its heads than when it was added.
    pub(crate) fn add_head_bytes(&mut self, bytes: usize) {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.held_head_bytes = self.held_head_bytes.saturating_add(bytes);
    }

    /// True if more than so many bytes of heads are held.
    pub(crate) fn hold_heads_beyond(&mut self, max: usize) -> bool {
        let held = || -> usize { self.list.iter().map(Stream::held_head_bytes).sum() };
        debug_assert!(self.held_head_bytes as usize >= held(), "bytes are missing");
        if self.held_head_bytes as usize > max {
            let held = held();
            self.held_head_bytes = 0;
            self.add_head_bytes(held);
        }
        self.held_head_bytes as usize > max
    }

    pub(crate) fn get(&self, id: u32) -> Option<&Stream> {
        self.index(id).map(|index| &self.list[index])
    }

    pub(crate) fn get_mut(&mut self, id: u32) -> Option<&mut Stream> {
        self.index(id).map(|index| &mut self.list[index])
    }

    pub(crate) fn remove(&mut self, id: u32) {
        match self.index(id) {
            Some(0) => drop(self.list.pop_front()),
            Some(index) => drop(self.list.remove(index)),
            None => {}
        }
    }

    /// Takes the memory, if there are no streams.
    pub(crate) fn take_memory(&mut self) -> Self {
        debug_assert!(self.list.is_empty(), "the memory is in use");
        Self {
            list: std::mem::take(self).list,
            held_head_bytes: 0,
        }
    }

    /// For how many streams there is memory.
    pub(crate) fn capacity(&self) -> usize {
        self.list.capacity()
    }

    #[cfg(test)]
    pub(crate) fn with_capacity(count: usize) -> Self {
        Self {
            list: VecDeque::with_capacity(count),
            held_head_bytes: 0,
        }
    }

    /// The memory of the streams, in bytes, without the bodies that are received.
    #[cfg(test)]
    pub(crate) fn memory(&self) -> usize {
        let senders = self.list.iter().filter(|it| it.sender().is_some()).count();
        let heads: usize = self.list.iter().map(Stream::held_head_bytes).sum();
        let infos = self.list.iter().filter(|it| it.info.is_some()).count();
        self.list.capacity() * size_of::<Stream>()
            + senders * size_of::<BodySender>()
            + infos * size_of::<RequestInfo>()
            + heads
    }

    fn index(&self, id: u32) -> Option<usize> {
        // Clients number their streams without gaps: 1, 3, 5 and so on.
        let first = self.list.front()?.id;
        let expected = (id.checked_sub(first)? / 2) as usize;
        match self.list.get(expected) {
            Some(stream) if stream.id == id => Some(expected),
            _ => self.list.binary_search_by_key(&id, |stream| stream.id).ok(),
        }
    }
}
