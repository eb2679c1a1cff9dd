//! Request bodies: admission, receipt, and how much more of them the peer may send.

use std::io;

use super::Machine;
use crate::http::{Rejection, Response};
use crate::proto::Timer;
use crate::proto::context::Context;
use crate::proto::exchange::{BodyMode, ExchangeId};
use crate::proto::h2::error_code::ErrorCode;
use crate::proto::h2::flow::MAX_STREAM_WINDOW_BYTES;
use crate::proto::h2::frame::FrameError;
use crate::proto::h2::limits::MAX_BUFFERED_BYTES;
use crate::proto::h2::request_body::ContentLengthMismatch;
use crate::proto::h2::response_head;
use crate::proto::h2::stream::{RemoteSide, Stream, StreamState};
use crate::proto::request_rules::{BODY_TOO_LARGE, MAX_BUFFERED_STREAM_BYTES};

impl Machine {
    /// The handler's decision about the body of the request that
    /// [`Action::Admit`](crate::proto::Action::Admit) named: how it takes the body, or the response
    /// without it.
    pub(crate) fn on_admission(
        &mut self,
        id: ExchangeId,
        admission: Result<BodyMode, Response>,
        cx: &mut Context,
    ) {
        let id = id.0;
        let Some(stream) = self.streams.get_mut(id) else {
            return;
        };
        let state = std::mem::replace(&mut stream.state, StreamState::Handling(None));
        let StreamState::AwaitingAdmission(mut request) = state else {
            debug_assert!(false, "an admission that was not asked for");
            stream.state = state;
            return;
        };
        let (max, writer) = match admission {
            Ok(BodyMode::Buffered { max }) => (max.min(cx.limits.max_content_bytes) as u64, None),
            Ok(BodyMode::Streamed { max, writer }) => (max, Some(writer)),
            Err(response) => {
                self.respond(id, response, cx);
                return;
            }
        };
        request.body.max_bytes = max;
        self.queues.are_bodies_due = true;
        stream.state = match (stream.body_length.announced(), writer) {
            (Some(length), _) if length > max => {
                request.rejection = Some(BODY_TOO_LARGE);
                self.queues.rejecting.push(id);
                StreamState::Rejecting(request)
            }
            (_, None) | (Some(..=MAX_BUFFERED_STREAM_BYTES), Some(_)) => {
                stream.wait.begin(Timer::Body, id, cx);
                StreamState::ReadingBody(request)
            }
            // The peer may send no more than its window until a job reads it, so it is not waited for.
            (_, Some(writer)) => {
                self.queues.ready.push(id);
                StreamState::Ready(request, Some(writer))
            }
        };
    }

    /// A part of a request body has been received.
    pub(super) fn on_data(
        &mut self,
        id: u32,
        data: &[u8],
        cx: &mut Context,
    ) -> Result<(), FrameError> {
        self.queues.are_bodies_due = true;
        let Some(stream) = self.streams.get_mut(id) else {
            return Ok(());
        };
        stream.wait.on_received(data.len(), cx);
        stream.held_bytes += data.len() as u32;
        let malformed = FrameError::Stream(id, ErrorCode::ProtocolError);
        let added = stream.body_length.add(data.len());
        added.map_err(|ContentLengthMismatch| malformed)?;
        let received = stream.body_length.received();
        match &mut stream.state {
            StreamState::ReadingBody(request)
            | StreamState::Ready(request, _)
            | StreamState::Streaming(request, _)
                if received > request.body.max_bytes =>
            {
                let kind = io::ErrorKind::InvalidData;
                self.reject_body(id, BODY_TOO_LARGE, kind, cx);
            }
            StreamState::ReadingBody(request) | StreamState::Ready(request, _) => {
                request.body.bytes.extend_from_slice(data);
            }
            StreamState::Streaming(_, writer) => writer.push(data),
            StreamState::Finishing | StreamState::Answered => self.discard_body(id, cx),
            // The request is answered or rejected. What the peer sends until it knows is discarded, and
            // it may not send more than its window.
            _ => {}
        }
        Ok(())
    }

    /// Asks the peer to stop sending a body whose request is answered (RFC 9113 §8.1), unless it will
    /// end soon.
    pub(super) fn discard_body(&mut self, id: u32, cx: &mut Context) {
        let Some(stream) = self.streams.get_mut(id) else {
            return;
        };
        if stream.remote == RemoteSide::Ended {
            return;
        }
        let window = &stream.receive_window;
        let is_blocked = stream.body_length.left() > Some(window.granted().into());
        if is_blocked || window.granted() < window.size() / 2 {
            self.stop_request(id, cx);
        } else {
            stream.wait.begin(Timer::Linger, id, cx);
        }
    }

    /// Asks the peer to stop sending a body.
    pub(super) fn stop_request(&mut self, id: u32, cx: &mut Context) {
        self.stage_reset(id, ErrorCode::NoError, cx);
        self.end_request(id);
    }

    /// The peer sends nothing more on a stream.
    pub(super) fn end_request(&mut self, id: u32) {
        let Some(stream) = self.streams.get_mut(id) else {
            return;
        };
        stream.remote = RemoteSide::Ended;
        stream.wait.on_request_end();
        if let StreamState::Answered = stream.state {
            self.close_stream(id);
        }
    }

    /// The peer has ended its side of a stream.
    pub(super) fn on_request_end(&mut self, id: u32) -> Result<(), FrameError> {
        let Some(stream) = self.streams.get_mut(id) else {
            return Ok(());
        };
        if stream.is_orphaned() {
            return Ok(());
        }
        let malformed = FrameError::Stream(id, ErrorCode::ProtocolError);
        let checked = stream.body_length.check_end();
        checked.map_err(|ContentLengthMismatch| malformed)?;
        let state = std::mem::replace(&mut stream.state, StreamState::Handling(None));
        stream.state = match state {
            StreamState::ReadingBody(request) => {
                self.queues.ready.push(id);
                StreamState::Ready(request, None)
            }
            StreamState::Streaming(mut request, writer) => {
                request.body.pass_on(&writer);
                writer.complete();
                StreamState::Handling(None)
            }
            state => state,
        };
        self.end_request(id);
        Ok(())
    }

    /// The body of a request is not accepted. A handler that is reading it gets an error, and its
    /// response is discarded.
    pub(super) fn reject_body(
        &mut self,
        id: u32,
        rejection: Rejection,
        kind: io::ErrorKind,
        cx: &Context,
    ) {
        let Some(stream) = self.streams.get_mut(id) else {
            return;
        };
        stream.wait.interrupt(cx);
        let state = std::mem::replace(&mut stream.state, StreamState::Handling(None));
        stream.state = match state {
            StreamState::ReadingBody(mut request) | StreamState::Ready(mut request, _) => {
                request.rejection = Some(rejection);
                request.body.bytes = Vec::new();
                self.queues.ready.retain(|other| *other != id);
                self.queues.rejecting.push(id);
                StreamState::Rejecting(request)
            }
            StreamState::Streaming(mut request, writer) => {
                request.rejection = Some(rejection);
                writer.fail(kind, rejection.reason());
                StreamState::BodyFailed(request)
            }
            state => state,
        };
    }

    /// Passes received bodies on, and lets the peer send more where there is room.
    pub(super) fn update_bodies(&mut self, cx: &mut Context) {
        let is_streamed = |stream: &Stream| matches!(stream.state, StreamState::Streaming(..));
        // A handler that reads a body is a job.
        let may_be_read = self.jobs > 0 && self.streams.iter().any(is_streamed);
        if !self.queues.are_bodies_due && !may_be_read {
            return;
        }
        self.queues.are_bodies_due = false;
        let buffered: usize = self.streams.iter().map(buffered_bytes).sum();
        let mut is_oldest = true;
        self.update_window_share();
        let mut room = self.window_share.room() as u32;
        for stream in self.streams.iter_mut() {
            let id = stream.id;
            let window = &mut stream.receive_window;
            let request = match &mut stream.state {
                StreamState::ReadingBody(request) => {
                    // The oldest body is always received to its end, so that others get their turn.
                    if is_oldest || buffered <= MAX_BUFFERED_BYTES {
                        window.release(std::mem::take(&mut stream.held_bytes));
                    }
                    is_oldest = false;
                    request
                }
                StreamState::Streaming(request, writer) => {
                    request.body.pass_on(writer);
                    let half = window.size() / 2;
                    let unread = writer.unread(half as usize) as u32;
                    window.release(stream.held_bytes.saturating_sub(unread));
                    stream.held_bytes = stream.held_bytes.min(unread);
                    if stream.remote == RemoteSide::Ended {
                        // The whole body had been received before the handler was called.
                        stream.state =
                            match std::mem::replace(&mut stream.state, StreamState::Handling(None))
                            {
                                StreamState::Streaming(_, writer) => {
                                    writer.complete();
                                    StreamState::Handling(None)
                                }
                                state => state,
                            };
                        continue;
                    }
                    if unread > half {
                        stream.wait.interrupt(cx);
                    } else {
                        stream.wait.begin(Timer::Body, id, cx);
                    }
                    request
                }
                _ => continue,
            };
            if request.body.take_expect_continue(stream.body_length) {
                let block = response_head::encode_continue(&mut self.encoder);
                self.output.interim(&mut cx.buffers, id, &block);
            }
            let size = window.size();
            let max = MAX_STREAM_WINDOW_BYTES.min(size.saturating_add(room));
            if stream.remote == RemoteSide::Open
                && let Some(increment) = window.grant(max, cx.now)
            {
                room -= window.size() - size;
                self.output.window_update(&mut cx.buffers, id, increment);
            }
        }
        self.update_window_share();
    }

    /// Takes note of the windows of the bodies that are being received.
    pub(super) fn update_window_share(&mut self) {
        let is_open = |stream: &&Stream| stream.remote == RemoteSide::Open;
        let open = self.streams.iter().filter(is_open);
        let own = open.map(|stream| stream.receive_window.size() as usize);
        self.window_share.set(own.sum());
    }
}

/// How many bytes of a body are held until its handler is called.
fn buffered_bytes(stream: &Stream) -> usize {
    stream
        .state
        .request()
        .map_or(0, |request| request.body.bytes.len())
}
