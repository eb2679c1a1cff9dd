//! Requests: from a field block to the call of the handler.

use std::io;

use ::http::StatusCode;

use super::Machine;
use super::state::{Cause, ClosedBy, EndedExchange};
use crate::http::admission::Admission;
use crate::http::negotiation;
use crate::http::request::ReceivedBody;
use crate::http::{Fields, Rejection};
use crate::proto::context::{Context, RecordMode};
use crate::proto::exchange::{ExchangeId, RequestInfo, SendBody};
use crate::proto::h2::error_code::ErrorCode;
use crate::proto::h2::flood::FloodEvent;
use crate::proto::h2::flow::{DEFAULT_WINDOW_BYTES, ReceiveWindow, SendWindow};
use crate::proto::h2::frame::FrameError;
use crate::proto::h2::head::{self, HeadError, HeadInfo};
use crate::proto::h2::hpack::{Decoded, DecodedFields, FieldBudget};
use crate::proto::h2::limits::{MAX_HELD_HEAD_BYTES, PSEUDO_FIELDS};
use crate::proto::h2::peer_wait::PeerWait;
use crate::proto::h2::priority::{Priority, PriorityParameters};
use crate::proto::h2::request_body::{BodyLength, ContinueExpected, RequestBody};
use crate::proto::h2::stream::{
    JobState, PendingRequest, RemoteSide, ResponsePriority, Stream, StreamState,
};
use crate::proto::record::Completion;
use crate::proto::request_rules::{Expect, HEAD_TOO_LARGE, UNKNOWN_EXPECTATION};
use crate::proto::{Action, Timer};

const MISDIRECTED: Rejection = Rejection::new(
    StatusCode::MISDIRECTED_REQUEST,
    "another certificate is for this host; use another connection",
);

/// A request whose head is complete.
struct Opened {
    head: Result<HeadInfo, Rejection>,
    send_body: SendBody,
    /// What is recorded of it.
    info: Option<Box<RequestInfo>>,
}

impl Machine {
    /// A field block is complete. It is decoded whatever becomes of it, as later blocks depend on it.
    pub(super) fn on_block(
        &mut self,
        id: u32,
        block: &[u8],
        end_stream: bool,
        cx: &mut Context,
    ) -> Result<Option<Action>, FrameError> {
        let mut fields = DecodedFields {
            bytes: std::mem::take(&mut cx.head_bytes),
            spans: std::mem::take(&mut cx.head.spans),
        };
        fields.bytes.clear();
        fields.spans.clear();
        let budget = FieldBudget {
            bytes: cx.limits.max_head_bytes,
            fields: cx.limits.max_fields + PSEUDO_FIELDS,
        };
        let decoded = self.decoder.decode(block, budget, &mut fields);
        let result = match decoded {
            Err(_) => Err(FrameError::Connection(ErrorCode::CompressionError)),
            Ok(decoded) => self.on_fields(id, end_stream, decoded, &mut fields, cx),
        };
        // A head has taken the positions of its fields.
        if cx.head.spans.capacity() == 0 {
            cx.head.spans = fields.spans;
        }
        cx.head_bytes = fields.bytes;
        match result? {
            None => Ok(None),
            Some(opened) => Ok(self.open(id, end_stream, opened, cx)),
        }
    }

    /// Decides what decoded fields are: trailers, the head of a request, or of no use. Returns the head
    /// with what is recorded of the request.
    fn on_fields(
        &mut self,
        id: u32,
        end_stream: bool,
        decoded: Decoded,
        fields: &mut DecodedFields,
        cx: &mut Context,
    ) -> Result<Option<Opened>, FrameError> {
        if id.is_multiple_of(2) {
            return Err(FrameError::Connection(ErrorCode::ProtocolError));
        }
        if id <= self.last_stream {
            self.on_trailers(id, end_stream, decoded, fields, cx)?;
            return Ok(None);
        }
        self.last_stream = id;
        self.flood.on_stream_opened();
        if self.is_beyond_shutdown(id) {
            self.count(FloodEvent::DiscardedHeaders, cx)?;
            return Ok(None);
        }
        if self.is_full() {
            self.count(FloodEvent::RefusedStream, cx)?;
            self.stage_reset(id, ErrorCode::RefusedStream, cx);
            return Ok(None);
        }
        let info = self.request_info(fields, cx);
        // Also a request that is rejected has no response body then.
        let send_body = if head::is_head_request(fields) {
            SendBody::HeadOnly
        } else {
            SendBody::Yes
        };
        let head = match decoded {
            Decoded::OverBudget => {
                self.count(FloodEvent::DiscardedHeaders, cx)?;
                Err(HeadError::Rejected(HEAD_TOO_LARGE))
            }
            Decoded::Complete => match head::parse(fields, &mut cx.head, &cx.limits) {
                Ok(head) if end_stream && head.content_length.is_some_and(|length| length > 0) => {
                    Err(HeadError::Malformed("content-length without content"))
                }
                result => result,
            },
        };
        let head = match head {
            Ok(head) => Ok(head),
            Err(HeadError::Rejected(rejection)) => Err(rejection),
            Err(HeadError::Malformed(reason)) => {
                log::debug!("{}: HTTP/2: {reason}", self.peer.address);
                if let Some(info) = info {
                    self.queues.ended.push_back(EndedExchange {
                        info,
                        status: Some(StatusCode::BAD_REQUEST),
                        sent: 0,
                        outcome: Completion::Aborted,
                    });
                }
                return Err(FrameError::Stream(id, ErrorCode::ProtocolError));
            }
        };
        Ok(Some(Opened {
            head,
            send_body,
            info,
        }))
    }

    /// True if no further stream can be served at the moment.
    fn is_full(&mut self) -> bool {
        self.streams.len() >= self.max_streams as usize
            || self.streams.hold_heads_beyond(MAX_HELD_HEAD_BYTES)
    }

    /// Fields on a stream that the peer has opened before: trailers, which are dropped.
    fn on_trailers(
        &mut self,
        id: u32,
        end_stream: bool,
        decoded: Decoded,
        fields: &DecodedFields,
        cx: &mut Context,
    ) -> Result<(), FrameError> {
        let remote = self.streams.get(id).map(|stream| stream.remote);
        match (remote, self.closed_streams.find(id)) {
            (Some(RemoteSide::Open), _) => {}
            (_, Some(ClosedBy::Server)) => {
                return self.count(FloodEvent::DiscardedHeaders, cx);
            }
            (None, _) if self.is_beyond_shutdown(id) => {
                return self.count(FloodEvent::DiscardedHeaders, cx);
            }
            (Some(RemoteSide::Ended), _) => {
                return Err(FrameError::Stream(id, ErrorCode::StreamClosed));
            }
            (None, Some(ClosedBy::Peer)) => {
                return Err(FrameError::Connection(ErrorCode::StreamClosed));
            }
            // RFC 9113 §5.1.1: a new stream has a larger identifier.
            (None, None) => return Err(FrameError::Connection(ErrorCode::ProtocolError)),
        }
        if decoded == Decoded::OverBudget {
            self.count(FloodEvent::DiscardedHeaders, cx)?;
            self.reject_body(id, HEAD_TOO_LARGE, io::ErrorKind::InvalidData, cx);
        } else if !end_stream || head::check_trailers(fields).is_err() {
            return Err(FrameError::Stream(id, ErrorCode::ProtocolError));
        }
        if end_stream {
            return self.on_request_end(id);
        }
        Ok(())
    }

    /// What is recorded of a request with these fields, which need not be valid.
    fn request_info(&self, fields: &DecodedFields, cx: &Context) -> Option<Box<RequestInfo>> {
        if cx.recording == RecordMode::Off {
            return None;
        }
        let line = head::request_line(fields);
        let fields = Fields::new(&fields.bytes, &fields.spans);
        let client = self.client(&fields, cx);
        Some(Box::new(RequestInfo {
            peer: client.address,
            scheme: client.scheme,
            tls: client.tls,
            host: [":authority", "host"]
                .iter()
                .find_map(|name| fields.first(name))
                .map(Box::from),
            user: None,
            line,
            referer: fields.first("referer").map(Box::from),
            user_agent: fields.first("user-agent").map(Box::from),
            is_subresource: negotiation::is_subresource(&fields),
            started: cx.now,
        }))
    }

    /// Opens the stream of a request whose head is in the context.
    fn open(
        &mut self,
        id: u32,
        end_stream: bool,
        opened: Opened,
        cx: &mut Context,
    ) -> Option<Action> {
        let Opened {
            head,
            send_body,
            info,
        } = opened;
        let priority = self.signalled_priority(id, head.as_ref().ok());
        cx.http2_memory.lend(&mut self.streams, &mut self.scheduler);
        self.streams.push(Stream {
            id,
            state: StreamState::Handling(None),
            remote: if end_stream {
                RemoteSide::Ended
            } else {
                RemoteSide::Open
            },
            send_window: SendWindow::new(self.peer_settings.initial_window),
            receive_window: ReceiveWindow::new(DEFAULT_WINDOW_BYTES, cx.now),
            body_length: BodyLength::new(head.as_ref().ok().and_then(|it| it.content_length)),
            held_bytes: 0,
            priority,
            response_priority: ResponsePriority::default(),
            job: JobState::None,
            send_body,
            unsent_head: None,
            status: None,
            sent: 0,
            wait: PeerWait::none(id, cx),
            info,
        });
        let head = match head {
            Ok(head) => head,
            // As with HTTP/1.1, no handler sees what is not a request.
            Err(rejection) => {
                self.respond(id, rejection.into(), cx);
                return None;
            }
        };
        let rejection = match head.expect {
            Expect::Unknown => Some(UNKNOWN_EXPECTATION),
            Expect::None | Expect::Continue if self.is_misdirected(cx) => Some(MISDIRECTED),
            Expect::None | Expect::Continue => None,
        };
        let has_room = self.has_free_job() && self.has_room_for_body();
        if rejection.is_none() && end_stream && has_room {
            self.begin_job(id);
            return Some(Action::Dispatch(ExchangeId(id)));
        }
        let continue_expected = match head.expect {
            Expect::Continue => ContinueExpected::Yes,
            Expect::None | Expect::Unknown => ContinueExpected::No,
        };
        let mut request = Box::new(PendingRequest {
            head: std::mem::take(&mut cx.head),
            head_bytes: cx.head_bytes.as_slice().into(),
            body: RequestBody::new(continue_expected),
            admission: None,
            rejection,
        });
        let (state, action) = match rejection {
            Some(rejection) => {
                let action = Action::Reject(ExchangeId(id), rejection);
                (StreamState::Rejecting(request), Some(action))
            }
            None if end_stream => {
                self.queues.ready.push(id);
                (StreamState::Ready(request, None), None)
            }
            None => {
                request.admission = Some(Admission::default());
                let action = Action::Admit(ExchangeId(id));
                (StreamState::AwaitingAdmission(request), Some(action))
            }
        };
        self.streams.add_head_bytes(cx.head_bytes.len());
        if let Some(stream) = self.streams.get_mut(id) {
            stream.state = state;
        }
        action
    }

    /// The parameters of a PRIORITY_UPDATE frame win over those of the field, which the client sends
    /// with the head (RFC 9218 §7).
    fn signalled_priority(&mut self, id: u32, head: Option<&HeadInfo>) -> PriorityParameters {
        let field = head.and_then(|head| head.priority);
        self.signals_priority |= field.is_some();
        let update = self.priority_updates.remove(id);
        update.or(field).unwrap_or_default()
    }

    fn is_misdirected(&self, cx: &Context) -> bool {
        let Some(authorities) = &self.authorities else {
            return false;
        };
        let request = cx
            .head
            .request(&cx.head_bytes, ReceivedBody::default(), self.peer);
        request
            .host()
            .is_some_and(|host| authorities.is_misdirected(host))
    }

    /// The next request that is to be rejected, or that is dispatched because a job is free and there is
    /// room for its response. Of those the most urgent is the first.
    pub(super) fn next_request(&mut self, cx: &mut Context) -> Option<Action> {
        while let Some(id) = self.queues.rejecting.pop() {
            let stream = self.streams.get(id);
            let request = stream.and_then(|stream| stream.state.request());
            if let Some(rejection) = request.and_then(|request| request.rejection) {
                return Some(Action::Reject(ExchangeId(id), rejection));
            }
        }
        while self.has_free_job() {
            let is_free = |id: &u32| {
                let stream = self.streams.get(*id);
                !stream.is_some_and(Stream::awaits_client_paced_job)
                    || self.has_free_client_paced_job()
            };
            let urgency = |id: &u32| {
                let stream = self.streams.get(*id);
                let urgency = stream.and_then(|stream| stream.priority.urgency);
                (urgency.unwrap_or(Priority::default().urgency), *id)
            };
            let ready = self.queues.ready.iter().copied().filter(is_free);
            let id = ready.min_by_key(urgency)?;
            if !self.may_hold_body(id) {
                return None;
            }
            self.queues.ready.retain(|other| *other != id);
            if let Some(action) = self.dispatch(id, cx) {
                return Some(action);
            }
        }
        None
    }

    fn dispatch(&mut self, id: u32, cx: &mut Context) -> Option<Action> {
        let stream = self.streams.get_mut(id)?;
        let state = std::mem::replace(&mut stream.state, StreamState::Handling(None));
        stream.state = match state {
            StreamState::Ready(request, None) => StreamState::Handling(Some(request)),
            StreamState::Ready(request, Some(writer)) => {
                self.queues.are_bodies_due = true;
                StreamState::Streaming(request, writer)
            }
            state => {
                debug_assert!(false, "dispatched twice");
                stream.state = state;
                return None;
            }
        };
        if stream.remote == RemoteSide::Open {
            stream.wait.begin(Timer::Body, id, cx);
        }
        self.begin_job(id);
        Some(Action::Dispatch(ExchangeId(id)))
    }

    /// A response that is not sent, because the exchange has ended or failed, or because it answers
    /// nothing.
    pub(super) fn discard_response(&mut self, id: u32) {
        self.end_job(id);
        if let Some(stream) = self.streams.get_mut(id)
            && let StreamState::BodyFailed(_) = stream.state
        {
            let state = std::mem::replace(&mut stream.state, StreamState::Handling(None));
            if let StreamState::BodyFailed(request) = state {
                stream.state = StreamState::Rejecting(request);
                self.queues.rejecting.push(id);
            }
        }
    }

    /// The job of a cancelled stream is not begun.
    pub(crate) fn on_cancelled(&mut self, id: ExchangeId) {
        self.end_job(id.0);
    }

    /// Ends the exchange of a stream because the server cannot complete it.
    pub(super) fn fail_response(&mut self, id: u32, cx: &mut Context) {
        self.reset(id, ErrorCode::InternalError, Cause::Aborted, cx);
    }
}
