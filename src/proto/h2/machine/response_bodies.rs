//! The bodies of responses: from where they are to DATA frames. Which stream sends is decided when bytes
//! can be sent.

use std::io;
use std::time::Instant;

use bytes::Bytes;

use super::Machine;
use super::state::{FileReading, Portion};
use crate::body::file_range::Resident;
use crate::body::polled::PolledBody;
use crate::body::stream::BodySource;
use crate::http::Response;
use crate::proto::body_sender::{BodySender, SourceRequest};
use crate::proto::context::Context;
use crate::proto::exchange::ExchangeId;
use crate::proto::file_read::{FileBytes, FileRead};
use crate::proto::h2::frame::FRAME_HEADER_BYTES;
use crate::proto::h2::output::{PORTION_BYTES, SMALL_PORTION_BYTES};
use crate::proto::h2::pace::BulkPermit;
use crate::proto::h2::response_head;
use crate::proto::h2::stream::{JobState, Stream, StreamState, is_bulk};
use crate::proto::peer_state::PeerState;
use crate::proto::segment::Payload;
use crate::proto::{Action, Timer};

/// What a stream does with the part of a portion that it may fill.
enum Fill {
    /// It has filled a frame, or cannot at the moment, and is not asked again until it can.
    Next,
    Action(Action),
    /// No stream can send.
    Held,
}

impl Machine {
    /// Fills a portion if the transport has taken the one before, and sends what is staged.
    pub(super) fn write(&mut self, max_bulk_bytes: usize, cx: &mut Context) -> Option<Action> {
        if let Some(probe) = self.probe.take() {
            let (id, range) = *probe;
            return Some(Action::ProbeFile(ExchangeId(id), range));
        }
        self.resume_bodies();
        if !self.output.has_data() {
            self.portion = Portion::Open;
        }
        while self.portion == Portion::Open {
            match self.fill(max_bulk_bytes, cx) {
                Fill::Next => {}
                Fill::Action(action) => return Some(action),
                Fill::Held => self.portion = Portion::Complete,
            }
        }
        (!self.output.is_empty()).then_some(Action::Write)
    }

    /// Stages a frame of the stream whose turn it is.
    fn fill(&mut self, max_bulk_bytes: usize, cx: &mut Context) -> Fill {
        let portion = if self.pace.is_slow() {
            SMALL_PORTION_BYTES
        } else {
            PORTION_BYTES
        };
        let is_paced = self.pace.bulk_permit() == BulkPermit::Denied;
        if is_paced {
            self.stage_all_heads(cx);
        }
        let next = if is_paced || max_bulk_bytes == 0 {
            self.next_without_bulk()
        } else {
            self.scheduler.next()
        };
        let Some(id) = next else {
            return Fill::Held;
        };
        let Some(stream) = self.streams.get_mut(id) else {
            self.scheduler.remove(id);
            return Fill::Next;
        };
        let head = stream.unsent_head.as_ref();
        let head = head.map_or(0, |block| FRAME_HEADER_BYTES + block.len());
        let room = self.output.max_data(portion, head);
        if room == 0 {
            return Fill::Held;
        }
        let job = stream.job;
        let stream_window = stream.send_window.available();
        let StreamState::Sending(sender) = &mut stream.state else {
            self.scheduler.remove(id);
            return Fill::Next;
        };
        if sender.is_done() {
            self.output.data(&mut cx.buffers, id, &[], true);
            self.finish_response(id, cx);
            return Fill::Next;
        }
        if sender.stalled_on().is_some() {
            self.scheduler.set_ready(id, false);
            return Fill::Next;
        }
        // Before the windows: a stream without anything to send does not wait for its client.
        if sender.is_poll_due() {
            return self.request_more(id, job);
        }
        if stream_window == 0 {
            // Time will pass.
            sender.forget_residency();
            stream.wait.begin(Timer::Send, id, cx);
            self.scheduler.set_ready(id, false);
            self.stage_head(id, cx);
            return Fill::Next;
        }
        let window = stream_window.min(self.send_window.available());
        if window == 0 {
            if self.window_wait.timer().is_none() {
                self.on_pause();
            }
            self.stage_all_heads(cx);
            self.window_wait.begin(Timer::Send, 0, cx);
            return Fill::Held;
        }
        let is_bulk = is_bulk(sender);
        if is_bulk && self.pace.bulk_permit() == BulkPermit::AskPeerState {
            return Fill::Action(Action::AskPeerState);
        }
        if head > 0 && sender.has_bytes() {
            self.stage_head(id, cx);
            return Fill::Next;
        }
        let bulk_room = if is_bulk { max_bulk_bytes } else { room };
        let max = room.min(window).min(bulk_room);
        match sender.payload() {
            Payload::Bytes(bytes) => {
                let len = bytes.len().min(max);
                let is_last = !sender.is_stream() && len as u64 == sender.unsent();
                self.output
                    .data(&mut cx.buffers, id, &bytes[..len], is_last);
                self.on_staged(id, len, is_last, cx);
            }
            Payload::File(part) => {
                let left = usize::try_from(part.range.len).unwrap_or(usize::MAX);
                if let Some(bytes) = part.bytes.filter(|bytes| !bytes.is_empty()) {
                    let len = bytes.len().min(max).min(left);
                    let is_last = len == left;
                    self.output
                        .data(&mut cx.buffers, id, &bytes[..len], is_last);
                    self.on_staged(id, len, is_last, cx);
                } else {
                    let known = if part.len > 0 { part.len } else { left };
                    let len = known.min(max).min(left);
                    let encoder = self.encoder;
                    let head = stream.unsent_head.as_deref();
                    let block = head.map(|head| response_head::complete(&mut self.encoder, head));
                    self.output.open_data(&mut cx.buffers, id, block.as_deref());
                    self.reading = Some(FileReading {
                        stream: id,
                        len: len as u32,
                        encoder,
                    });
                    return Fill::Action(Action::ReadFile(ExchangeId(id)));
                }
            }
            Payload::None => return self.request_more(id, job),
        }
        Fill::Next
    }

    /// The first stream that has something to send that is no bulk.
    fn next_without_bulk(&self) -> Option<u32> {
        let is_bulk = |id: u32| self.streams.get(id).is_some_and(Stream::is_sending_bulk);
        self.scheduler.ready().find(|id| !is_bulk(*id))
    }

    /// Asks for the next chunk of a body, or for a part of a file in memory, if a job is free.
    fn request_more(&mut self, id: u32, job: JobState) -> Fill {
        self.scheduler.set_ready(id, false);
        let sender = self.streams.get(id).and_then(|stream| stream.sender());
        let is_polled = sender.is_some_and(BodySender::is_polled);
        let is_free = if sender.is_some_and(BodySender::is_written) {
            self.has_free_client_paced_job()
        } else {
            is_polled || self.has_free_job()
        };
        if job == JobState::None && !is_free {
            self.queues.wait_for_job.push(id);
            return Fill::Next;
        }
        let sender = self.streams.get(id).and_then(|stream| stream.sender());
        if sender.is_some_and(BodySender::is_stream) && !self.may_hold_chunk(id) {
            self.queues.wait_for_memory.push(id);
            return Fill::Next;
        }
        let stream = self.streams.get_mut(id);
        let request = stream.and_then(|it| it.sender_mut()?.take_request());
        let Some(request) = request else {
            return Fill::Next;
        };
        if job == JobState::Held {
            if let Some(stream) = self.streams.get_mut(id) {
                stream.job = JobState::Running;
            }
        } else if !is_polled {
            self.begin_job(id);
        }
        let id = ExchangeId(id);
        Fill::Action(match request {
            SourceRequest::Pull(source) => Action::PullBody(id, source),
            SourceRequest::Probe(range) => Action::ProbeFile(id, range),
        })
    }

    /// Stages the head of a response whose file has been read, or whose client has to open a window
    /// first.
    fn stage_head(&mut self, id: u32, cx: &mut Context) {
        let stream = self.streams.get_mut(id);
        if let Some(head) = stream.and_then(|stream| stream.unsent_head.take()) {
            let block = response_head::complete(&mut self.encoder, &head);
            self.output.head(&mut cx.buffers, id, &block, false);
        }
    }

    /// No stream can send: the window of the connection is used up.
    fn stage_all_heads(&mut self, cx: &mut Context) {
        let is_unsent = |stream: &&Stream| stream.unsent_head.is_some();
        let unsent = self.streams.iter().filter(is_unsent);
        let unsent: Vec<u32> = unsent.map(|stream| stream.id).collect();
        for id in unsent {
            self.stage_head(id, cx);
        }
    }

    /// A DATA frame is staged.
    fn on_staged(&mut self, id: u32, len: usize, is_last: bool, cx: &mut Context) {
        if is_last {
            self.scheduler.on_last_sent(id, len);
        } else {
            self.scheduler.on_sent(id, len);
        }
        self.send_window.consume(len);
        self.window_wait.on_sent(0, len, cx);
        self.flood.on_data_sent(len as u32);
        self.pace.on_sent(len);
        if let Some(stream) = self.streams.get_mut(id) {
            stream.send_window.consume(len);
            stream.wait.on_sent(id, len, cx);
            if let Some(sender) = stream.sender_mut() {
                sender.advance(len);
            }
        }
        if is_last {
            self.finish_response(id, cx);
        }
    }

    /// The answer to [`Action::AskPeerState`]; `None` if it is not known.
    pub(crate) fn on_peer_state(&mut self, state: Option<PeerState>, cx: &Context) {
        self.pace.on_peer_state(state, cx.now);
        if self.pace.bulk_permit() == BulkPermit::Denied {
            self.on_pause();
        }
    }

    /// What [`Action::ReadFile`] reads.
    pub(crate) fn file_read(&mut self) -> Option<FileRead<'_>> {
        let FileReading { stream, len, .. } = self.reading?;
        let sender = self.streams.get(stream)?.sender()?;
        let Payload::File(part) = sender.payload() else {
            return None;
        };
        Some(FileRead {
            range: part.range,
            progress: part.progress,
            is_resident: part.len > 0,
            buffer: self.output.room(len as usize),
        })
    }

    /// The result of [`Action::ReadFile`].
    pub(crate) fn on_file_bytes(&mut self, id: ExchangeId, result: FileBytes, cx: &mut Context) {
        let id = id.0;
        let Some(reading) = self.reading.take_if(|reading| reading.stream == id) else {
            return;
        };
        let len = match result {
            FileBytes::Read(len) => len.min(reading.len as usize),
            FileBytes::NotResident | FileBytes::Ended | FileBytes::Failed => 0,
        };
        let left = self.streams.get(id).and_then(|stream| stream.sender());
        let is_last = left.is_some_and(|sender| sender.unsent() == len as u64);
        self.output.close_data(id, len, is_last);
        if len == 0 {
            self.encoder = reading.encoder;
        } else if let Some(stream) = self.streams.get_mut(id) {
            stream.unsent_head = None;
        }
        match result {
            FileBytes::Read(1..) => self.on_staged(id, len, is_last, cx),
            FileBytes::NotResident => self.probe_file(id),
            FileBytes::Read(0) | FileBytes::Ended => {
                self.fail_body(id, "a file has changed while it was sent", cx);
            }
            FileBytes::Failed => self.fail_body(id, "a file cannot be read", cx),
        }
    }

    /// Has the beginning of a file range brought into memory.
    fn probe_file(&mut self, id: u32) {
        let Some(stream) = self.streams.get_mut(id) else {
            return;
        };
        let job = stream.job;
        if let Some(sender) = stream.sender_mut() {
            sender.forget_residency();
        }
        if let Fill::Action(Action::ProbeFile(_, range)) = self.request_more(id, job) {
            self.probe = Some(Box::new((id, range)));
        }
    }

    /// The beginning of the file range that [`Action::ProbeFile`] named is in memory, or cannot be
    /// read.
    pub(crate) fn on_probed(
        &mut self,
        id: ExchangeId,
        resident: io::Result<Resident>,
        cx: &mut Context,
    ) {
        let id = id.0;
        self.end_job(id);
        let Some(stream) = self.streams.get_mut(id) else {
            return;
        };
        match resident {
            Ok(resident) => {
                if let Some(sender) = stream.sender_mut() {
                    sender.on_probed(resident);
                    self.scheduler.set_ready(id, true);
                }
            }
            Err(error) => {
                let reason = match &stream.info {
                    Some(info) => {
                        let line = String::from_utf8_lossy(&info.line);
                        format!("{line:?}: cannot read the file: {error}")
                    }
                    // The request is not recorded.
                    None => format!("cannot read a file: {error}"),
                };
                self.fail_body(id, &reason, cx);
            }
        }
    }

    /// The body of a response cannot be sent to its end. The response is a 500 if nothing of it is sent.
    fn fail_body(&mut self, id: u32, reason: &str, cx: &mut Context) {
        let stream = self.streams.get_mut(id);
        if stream.is_some_and(|stream| stream.unsent_head.take().is_some()) {
            self.scheduler.remove(id);
            self.respond(id, Response::fault(reason), cx);
        } else {
            log::error!("response body: {reason}; stream reset");
            self.fail_response(id, cx);
        }
    }

    /// The chunk that [`Action::PullBody`] asked for, with the source of the next, or the end of the
    /// body.
    pub(crate) fn on_body_chunk(
        &mut self,
        id: ExchangeId,
        chunk: io::Result<Option<(Bytes, BodySource)>>,
        cx: &mut Context,
    ) {
        let id = id.0;
        let Some(stream) = self.streams.get_mut(id) else {
            return;
        };
        let is_writer_waiting = matches!(&chunk, Ok(Some((_, BodySource::Waiting(_)))));
        if is_writer_waiting && stream.sender().is_some() {
            stream.job = JobState::Held;
        } else {
            self.end_job(id);
        }
        let stream = self.streams.get_mut(id);
        let Some(sender) = stream.and_then(|stream| stream.sender_mut()) else {
            return;
        };
        let reason = match chunk.map(|chunk| sender.on_chunk(chunk)) {
            Ok(Ok(())) => {
                self.held_bodies.add(sender.held_bytes());
                self.scheduler.set_ready(id, true);
                return;
            }
            Ok(Err(_)) => "length differs from Content-Length".to_owned(),
            Err(error) => error.to_string(),
        };
        self.fail_body(id, &reason, cx);
    }

    /// The body that [`Action::PullBody`] named has no chunk yet; [`on_body_ready`](Self::on_body_ready)
    /// follows.
    pub(crate) fn on_body_parked(&mut self, id: ExchangeId, body: Box<PolledBody>, cx: &Context) {
        let stream = self.streams.get_mut(id.0);
        if let Some(sender) = stream.and_then(|stream| stream.sender_mut()) {
            sender.on_parked(body, cx.now);
        }
    }

    /// A parked body may have its next chunk.
    pub(crate) fn on_body_ready(&mut self, id: ExchangeId) {
        let stream = self.streams.get_mut(id.0);
        let sender = stream.and_then(|stream| stream.sender_mut());
        if sender.is_some_and(BodySender::on_ready) {
            self.scheduler.set_ready(id.0, true);
        }
    }

    /// When the first heartbeat of a parked body is due.
    pub(crate) fn next_heartbeat(&self) -> Option<Instant> {
        let senders = self.streams.iter().filter_map(Stream::sender);
        senders.filter_map(BodySender::next_heartbeat).min()
    }

    /// Queues the heartbeats of parked bodies that are due.
    pub(crate) fn send_heartbeats(&mut self, cx: &mut Context) {
        let mut due = Vec::new();
        for stream in self.streams.iter_mut() {
            let id = ExchangeId(stream.id);
            let sender = stream.sender_mut();
            let chunk = sender.and_then(|sender| sender.take_heartbeat(cx.now));
            due.extend(chunk.map(|chunk| (id, chunk)));
        }
        for (id, chunk) in due {
            self.on_body_chunk(id, Ok(Some(chunk)), cx);
        }
    }

    /// Ends the parked bodies that may end because the server shuts down.
    pub(super) fn end_parked_bodies(&mut self, cx: &mut Context) {
        let mut ended = Vec::new();
        for stream in self.streams.iter_mut() {
            let id = ExchangeId(stream.id);
            let sender = stream.sender_mut();
            if sender.is_some_and(BodySender::end_at_shutdown) {
                ended.push(id);
            }
        }
        for id in ended {
            self.on_body_chunk(id, Ok(None), cx);
        }
    }

    /// The peer has enlarged the window of a stream.
    pub(super) fn on_window_increased(&mut self, id: u32, cx: &Context) {
        let Some(stream) = self.streams.get_mut(id) else {
            return;
        };
        let is_open = stream.send_window.available() > 0;
        let Some(sender) = stream.sender() else {
            return;
        };
        if is_open && sender.stalled_on().is_none() && !self.queues.wait_for_job.contains(&id) {
            stream.wait.interrupt(cx);
            self.queues.wait_for_memory.retain(|other| *other != id);
            self.scheduler.set_ready(id, true);
        }
    }

    /// The peer has changed the windows of all streams.
    pub(super) fn on_windows_changed(&mut self, cx: &Context) {
        let ids: Vec<u32> = self.streams.iter().map(|stream| stream.id).collect();
        for id in ids {
            self.on_window_increased(id, cx);
        }
    }
}
