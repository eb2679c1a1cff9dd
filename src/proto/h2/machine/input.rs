//! What the peer sends: frames, and what they mean in the state of the connection and of their stream
//! (RFC 9113 §5.1, §6).

use super::Machine;
use super::state::{Cause, ClosedBy, ConnectionState, HeaderBlock, ReceivedData, SHUTDOWN_PING};
use crate::proto::context::Context;
use crate::proto::h2::error_code::ErrorCode;
use crate::proto::h2::flood::{FloodEvent, HeaderBlockLimits};
use crate::proto::h2::flow::{MAX_CONNECTION_WINDOW_BYTES, WindowExceeded, WindowOverflow};
use crate::proto::h2::frame::{
    DataPayload, FRAME_HEADER_BYTES, Frame, FrameError, FrameHeader, FrameKind,
};
use crate::proto::h2::limits::MAX_UNSENT_CONTROL_BYTES;
use crate::proto::h2::priority::{PriorityParameters, TooManyUpdates};
use crate::proto::h2::stream::{RemoteSide, Stream};
use crate::proto::{Action, HTTP2_PREFACE as PREFACE};

/// What was done with the first bytes of the input.
struct Step {
    taken: usize,
    result: Result<Option<Action>, FrameError>,
}

const PROTOCOL_ERROR: FrameError = FrameError::Connection(ErrorCode::ProtocolError);

impl Machine {
    /// Processes received bytes until the driver has to do something, or more is needed.
    pub(super) fn read_input(&mut self, cx: &mut Context) -> Option<Action> {
        while self.accepts_frames() {
            let inbox = std::mem::take(&mut self.inbox);
            let step = self.step(inbox.bytes(), cx);
            self.inbox = inbox;
            let step = step?;
            self.inbox.consume(step.taken);
            match step.result {
                Ok(None) => {}
                Ok(Some(action)) => return Some(action),
                Err(error) => self.on_frame_error(error, cx),
            }
        }
        None
    }

    fn accepts_frames(&self) -> bool {
        let is_open = matches!(
            self.state,
            ConnectionState::AwaitingPreface
                | ConnectionState::AwaitingSettings
                | ConnectionState::Open
        );
        is_open && self.output.control_bytes() <= MAX_UNSENT_CONTROL_BYTES
    }

    /// `None` if more bytes are needed.
    fn step(&mut self, bytes: &[u8], cx: &mut Context) -> Option<Step> {
        if self.state == ConnectionState::AwaitingPreface {
            return self.read_preface(bytes);
        }
        if self.data.is_some() {
            return self.read_data(bytes, cx);
        }
        let header = FrameHeader::parse(bytes.first_chunk::<FRAME_HEADER_BYTES>()?);
        let checked = header.and_then(|header| self.check_order(header).map(|()| header));
        let header = match checked {
            Ok(header) => header,
            Err(error) => return Some(Step::failed(error)),
        };
        if header.kind == FrameKind::Data {
            let result = self.begin_data(header, cx).map(|()| None);
            let taken = FRAME_HEADER_BYTES;
            return Some(Step { taken, result });
        }
        let taken = FRAME_HEADER_BYTES + header.len;
        let payload = bytes.get(FRAME_HEADER_BYTES..taken)?;
        let result = self
            .count(FloodEvent::Frame, cx)
            .and_then(|()| Frame::parse(header, payload))
            .and_then(|frame| self.on_frame(frame, cx));
        Some(Step { taken, result })
    }

    fn read_preface(&mut self, bytes: &[u8]) -> Option<Step> {
        let len = bytes.len().min(PREFACE.len());
        if bytes[..len] != PREFACE[..len] {
            return Some(Step::failed(PROTOCOL_ERROR));
        }
        if len < PREFACE.len() {
            return None;
        }
        self.state = ConnectionState::AwaitingSettings;
        Some(Step {
            taken: len,
            result: Ok(None),
        })
    }

    /// Checks whether a frame may follow the one before it (RFC 9113 §3.4, §6.10), before its payload
    /// is received.
    fn check_order(&self, header: FrameHeader) -> Result<(), FrameError> {
        let block = self.block.as_ref().map(|block| block.stream);
        let is_permitted = match (self.state, block) {
            (ConnectionState::AwaitingSettings, _) => header.kind == FrameKind::Settings,
            (_, None) => header.kind != FrameKind::Continuation,
            (_, Some(stream)) => header.kind == FrameKind::Continuation && header.stream == stream,
        };
        if is_permitted {
            Ok(())
        } else {
            Err(PROTOCOL_ERROR)
        }
    }

    fn on_frame(
        &mut self,
        frame: Frame<'_>,
        cx: &mut Context,
    ) -> Result<Option<Action>, FrameError> {
        match frame {
            Frame::Headers {
                stream,
                fragment,
                end_stream,
                end_headers,
                depends_on_itself: _,
            } => {
                let mut limits = HeaderBlockLimits::new(2 * cx.limits.max_head_bytes);
                limits
                    .on_headers(fragment.len())
                    .map_err(|flood| self.on_flood(flood, cx))?;
                if end_headers {
                    return self.on_block(stream, fragment, end_stream, cx);
                }
                self.block = Some(Box::new(HeaderBlock {
                    stream,
                    end_stream,
                    bytes: fragment.to_vec(),
                    limits,
                    started: cx.now,
                }));
            }
            Frame::Continuation {
                fragment,
                end_headers,
                ..
            } => return self.on_continuation(fragment, end_headers, cx),
            Frame::Priority { .. } => self.count(FloodEvent::Priority, cx)?,
            Frame::Reset { stream, code } => self.on_reset(stream, code, cx)?,
            Frame::Settings { ack: true, .. } => self.on_settings_ack()?,
            Frame::Settings { payload, .. } => self.on_settings(payload, cx)?,
            Frame::PushPromise => return Err(PROTOCOL_ERROR),
            Frame::Ping { ack, data } => self.on_ping(ack, data, cx)?,
            // The client opens no further streams, which it would not do anyway when it closes.
            Frame::GoAway { .. } => {}
            Frame::WindowUpdate { stream, increment } => {
                self.on_window_update(stream, increment, cx)?;
            }
            Frame::PriorityUpdate { element, value } => {
                self.on_priority_update(element, value, cx)?;
            }
            Frame::Unknown => self.count(FloodEvent::Ignored, cx)?,
            Frame::Data { .. } => debug_assert!(false, "DATA is received in parts"),
        }
        Ok(None)
    }

    fn on_continuation(
        &mut self,
        fragment: &[u8],
        end_headers: bool,
        cx: &mut Context,
    ) -> Result<Option<Action>, FrameError> {
        let Some(mut block) = self.block.take() else {
            return Err(PROTOCOL_ERROR);
        };
        block
            .limits
            .on_continuation(fragment.len())
            .map_err(|flood| self.on_flood(flood, cx))?;
        block.bytes.extend_from_slice(fragment);
        if end_headers {
            return self.on_block(block.stream, &block.bytes, block.end_stream, cx);
        }
        self.block = Some(block);
        Ok(None)
    }

    fn on_reset(&mut self, id: u32, code: u32, cx: &Context) -> Result<(), FrameError> {
        if id > self.last_stream || id.is_multiple_of(2) {
            return Err(PROTOCOL_ERROR);
        }
        if self.streams.get(id).is_none_or(Stream::is_orphaned) {
            return self.count(FloodEvent::Ignored, cx);
        }
        cx.http2_stats.resets_received.count(code as usize);
        self.closed_streams.insert(id, ClosedBy::Peer);
        self.abandon(id, Cause::Aborted);
        self.count(FloodEvent::Reset, cx)
    }

    fn on_settings(&mut self, payload: &[u8], cx: &mut Context) -> Result<(), FrameError> {
        self.count(FloodEvent::Settings, cx)?;
        let change = self
            .peer_settings
            .apply(payload)
            .map_err(FrameError::Connection)?;
        if change != 0 {
            for stream in self.streams.iter_mut() {
                let adjusted = stream.send_window.adjust(change);
                adjusted.map_err(|WindowOverflow| {
                    FrameError::Connection(ErrorCode::FlowControlError)
                })?;
            }
            self.on_windows_changed(cx);
        }
        self.output.settings_ack(&mut cx.buffers);
        if self.state == ConnectionState::AwaitingSettings {
            self.state = ConnectionState::Open;
        }
        Ok(())
    }

    fn on_settings_ack(&mut self) -> Result<(), FrameError> {
        if self.state == ConnectionState::AwaitingSettings {
            return Err(PROTOCOL_ERROR);
        }
        self.settings_sent = None;
        Ok(())
    }

    fn on_ping(&mut self, ack: bool, data: [u8; 8], cx: &mut Context) -> Result<(), FrameError> {
        if ack {
            if data == SHUTDOWN_PING {
                self.complete_announcement(cx);
            }
            return Ok(());
        }
        self.count(FloodEvent::Ping, cx)?;
        self.output.ping_ack(&mut cx.buffers, data);
        Ok(())
    }

    fn on_window_update(
        &mut self,
        id: u32,
        increment: u32,
        cx: &mut Context,
    ) -> Result<(), FrameError> {
        if id > self.last_stream || id != 0 && id.is_multiple_of(2) {
            return Err(PROTOCOL_ERROR);
        }
        self.count(FloodEvent::WindowUpdate, cx)?;
        if id == 0 {
            let increased = self.send_window.increase(increment);
            increased
                .map_err(|WindowOverflow| FrameError::Connection(ErrorCode::FlowControlError))?;
            self.window_wait.interrupt(cx);
            return Ok(());
        }
        let Some(stream) = self.streams.get_mut(id).filter(|it| !it.is_orphaned()) else {
            return self.count(FloodEvent::Ignored, cx);
        };
        let increased = stream.send_window.increase(increment);
        increased.map_err(|WindowOverflow| FrameError::Stream(id, ErrorCode::FlowControlError))?;
        self.on_window_increased(id, cx);
        Ok(())
    }

    fn on_priority_update(
        &mut self,
        id: u32,
        value: &[u8],
        cx: &mut Context,
    ) -> Result<(), FrameError> {
        self.count(FloodEvent::PriorityUpdate, cx)?;
        self.signals_priority = true;
        let parameters = PriorityParameters::parse([value]);
        match self.streams.get_mut(id) {
            Some(stream) => {
                stream.priority = parameters;
                let priority = stream.response_priority.with(parameters);
                self.scheduler.reprioritize(id, priority);
            }
            None => {
                let active = self.streams.iter().filter(|it| !it.is_orphaned()).count();
                let max = (self.max_streams as usize).saturating_sub(active);
                let last = self.last_stream;
                let kept = self.priority_updates.insert(id, parameters, last, max);
                kept.map_err(|TooManyUpdates| PROTOCOL_ERROR)?;
            }
        }
        Ok(())
    }

    /// Begins a DATA frame, which counts for the windows as a whole.
    fn begin_data(&mut self, header: FrameHeader, cx: &mut Context) -> Result<(), FrameError> {
        self.count(FloodEvent::Frame, cx)?;
        let payload = DataPayload::new(header)?;
        let (id, flow_len) = (payload.stream(), payload.flow_len());
        if id > self.last_stream || id.is_multiple_of(2) {
            return Err(PROTOCOL_ERROR);
        }
        let exceeded = |WindowExceeded| FrameError::Connection(ErrorCode::FlowControlError);
        self.receive_window.receive(flow_len).map_err(exceeded)?;
        // The bytes are taken or discarded at once, as there is room for those of every stream.
        self.receive_window.release(flow_len);
        let max = MAX_CONNECTION_WINDOW_BYTES;
        if let Some(increment) = self.receive_window.grant(max, cx.now) {
            self.output.window_update(&mut cx.buffers, 0, increment);
        }
        self.data = Some(ReceivedData { payload, len: 0 });
        if self.closed_streams.find(id) == Some(ClosedBy::Server) {
            return self.on_data_of_closed(id, cx);
        }
        let closed = FrameError::Stream(id, ErrorCode::StreamClosed);
        match self.streams.get_mut(id) {
            Some(stream) if stream.is_orphaned() => self.on_data_of_closed(id, cx),
            Some(stream) if stream.remote == RemoteSide::Ended => Err(closed),
            Some(stream) => {
                let received = stream.receive_window.receive(flow_len);
                let code = ErrorCode::FlowControlError;
                received.map_err(|WindowExceeded| FrameError::Stream(id, code))
            }
            None => self.on_data_of_closed(id, cx),
        }
    }

    /// The peer has sent it before it knew that the stream was reset, unless it has ended the stream
    /// itself.
    fn on_data_of_closed(&mut self, id: u32, cx: &Context) -> Result<(), FrameError> {
        self.count(FloodEvent::Ignored, cx)?;
        match self.closed_streams.find(id) {
            Some(ClosedBy::Server) => Ok(()),
            None if self.is_beyond_shutdown(id) => Ok(()),
            Some(ClosedBy::Peer) | None => Err(FrameError::Stream(id, ErrorCode::StreamClosed)),
        }
    }

    fn read_data(&mut self, bytes: &[u8], cx: &mut Context) -> Option<Step> {
        let mut data = self.data?;
        let part = match data.payload.take(bytes) {
            Ok(part) => part,
            Err(error) => return Some(Step::failed(error)),
        };
        let is_complete = data.payload.is_complete();
        if part.taken == 0 && !is_complete {
            return None;
        }
        data.len += part.data.len() as u32;
        self.data = (!is_complete).then_some(data);
        let id = data.payload.stream();
        let mut result = Ok(());
        if !part.data.is_empty() {
            self.flood.on_data_received(part.data.len() as u32);
            result = self.on_data(id, part.data, cx);
        }
        if is_complete {
            result = result.and_then(|()| self.end_data(data, cx));
        }
        Some(Step {
            taken: part.taken,
            result: result.map(|()| None),
        })
    }

    fn end_data(&mut self, data: ReceivedData, cx: &mut Context) -> Result<(), FrameError> {
        let ends_stream = data.payload.end_stream();
        if data.len == 0 && !ends_stream {
            self.count(FloodEvent::EmptyData, cx)?;
        }
        let id = data.payload.stream();
        self.queues.are_bodies_due = true;
        let padding = data.payload.flow_len() - data.len;
        if let Some(stream) = self.streams.get_mut(id)
            && stream.remote == RemoteSide::Open
        {
            // Padding is part of the window, too.
            stream.receive_window.release(padding);
        }
        if ends_stream {
            return self.on_request_end(id);
        }
        Ok(())
    }
}

impl Step {
    fn failed(error: FrameError) -> Self {
        Self {
            taken: 0,
            result: Err(error),
        }
    }
}
