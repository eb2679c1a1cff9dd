//! Responses that are queued for sending.
//!
//! Heads and small bodies are gathered in one buffer, so that one write carries them all, those of
//! several pipelined responses too. A body that is not small follows the buffer as a
//! [`BodySender`], and no other response is queued until it is sent. The chunks of a body that is
//! produced while it is sent are framed into the buffer, one at a time.

use std::collections::VecDeque;
use std::time::Instant;

use ::http::StatusCode;
use bytes::Bytes;

use super::chunked;
use super::framing::BodyFraming;
use crate::body::file_range::Resident;
use crate::body::polled::PolledBody;
use crate::body::stream::BodySource;
use crate::http::Body;
use crate::proto::Action;
use crate::proto::body_sender::{BodySender, LengthMismatch, SourceRequest};
use crate::proto::context::Buffers;
use crate::proto::exchange::{ExchangeId, RequestInfo};
use crate::proto::record::{InFlightRecord, Record};
use crate::proto::segment::{Payload, Segment};
use crate::proto::transfer::{Direction, StalledOn, TransferProgress};

/// Bodies up to this size are copied into the buffer after their head. Up to about here a copy is cheaper than a
/// second write or a `sendfile`.
pub(crate) const SMALL_BODY_BYTES: usize = 32 * 1024;

#[derive(Debug, Default)]
pub(crate) struct Outbox {
    buffer: Vec<u8>,
    /// How many bytes of `buffer` are sent.
    buffer_sent: usize,
    /// Boxed, as few responses have one and every connection has an outbox.
    body: Option<Box<LargeBody>>,
    /// `None` while it would be empty.
    records: Option<Box<InFlightRecords>>,
}

/// A body that is not copied into the buffer.
#[derive(Debug)]
struct LargeBody {
    sender: BodySender,
    framing: BodyFraming,
    /// Where its head begins in the buffer.
    head_at: usize,
}

/// The responses in flight that are to be recorded.
#[derive(Debug, Default)]
struct InFlightRecords {
    /// How many bytes have been sent to the peer since the first of them was queued: the position in
    /// the output that record positions are compared with.
    sent: u64,
    /// Those that are not sent to their end, oldest first.
    queue: VecDeque<InFlightRecord>,
}

/// A response cannot be withdrawn: some of it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PartlySent;

impl Outbox {
    pub(crate) fn is_empty(&self) -> bool {
        self.buffer.is_empty() && self.body.is_none()
    }

    /// True if another response must wait until something is sent.
    pub(crate) fn is_full(&self, max_bytes: usize) -> bool {
        self.has_large_body() || self.buffer.len() >= max_bytes
    }

    /// True if nothing can be sent until a probe or a pull is answered.
    pub(crate) fn is_waiting(&self) -> bool {
        self.stalled_on().is_some()
    }

    fn stalled_on(&self) -> Option<StalledOn> {
        let body = self.body.as_deref()?;
        let stalled_on = body.sender.stalled_on()?;
        match stalled_on {
            // The chunk before is still being sent.
            StalledOn::Handler if !self.buffer.is_empty() => None,
            StalledOn::Handler | StalledOn::Disk | StalledOn::Window => Some(stalled_on),
        }
    }

    /// True while a body that is not small is being sent.
    pub(crate) fn has_large_body(&self) -> bool {
        self.body.is_some()
    }

    /// True while a body that is not small is being sent, unless there is nothing to send of it for an
    /// indefinite time.
    pub(crate) fn is_sending_bulk(&self) -> bool {
        let body = self.body.as_deref();
        body.is_some_and(|body| !body.sender.is_parked())
    }

    /// The progress of the large body, if it is recorded.
    pub(crate) fn transfer(&self) -> Option<TransferProgress<'_>> {
        let body = self.body.as_deref()?;
        let records = self.records.as_deref()?;
        // No response is queued after a large body: it belongs to the last record.
        let record = records.queue.back()?;
        Some(TransferProgress {
            direction: Direction::Down,
            info: record.info(),
            moved: record.body_bytes(records.sent),
            total: body.sender.length(),
            stall: self.stalled_on(),
        })
    }

    /// Appends an interim response.
    pub(crate) fn push_interim(&mut self, response: &[u8], buffers: &mut Buffers) {
        self.buffer_mut(buffers).extend_from_slice(response);
    }

    /// Appends a response, whose head `encode_head` appends to the buffer. Only if the outbox is not
    /// full. With `info` the exchange is recorded.
    pub(crate) fn push_response(
        &mut self,
        buffers: &mut Buffers,
        encode_head: impl FnOnce(&mut Vec<u8>),
        body: Body,
        framing: BodyFraming,
        status: StatusCode,
        info: Option<RequestInfo>,
    ) {
        let buffer = self.buffer_mut(buffers);
        let head_at = buffer.len();
        encode_head(buffer);
        let body_start = self.end();
        match body {
            Body::Bytes(bytes) if bytes.len() <= SMALL_BODY_BYTES => {
                self.buffer.extend_from_slice(&bytes);
            }
            body => {
                self.body = BodySender::new(body).map(|sender| {
                    Box::new(LargeBody {
                        sender,
                        framing,
                        head_at,
                    })
                });
            }
        }
        if let Some(info) = info {
            let is_stream = self
                .body
                .as_ref()
                .is_some_and(|body| body.sender.is_stream());
            let body_end = (!is_stream).then(|| self.end());
            let record = InFlightRecord::response(info, status, body_start, body_end);
            self.push_record(record);
        }
    }

    /// Appends the head of a response after which the connection speaks another protocol. Only if the
    /// outbox is not full. What [`upgraded_output`](Self::upgraded_output) gets is its body, until
    /// [`end_upgraded_output`](Self::end_upgraded_output).
    pub(crate) fn push_upgrade(
        &mut self,
        buffers: &mut Buffers,
        encode_head: impl FnOnce(&mut Vec<u8>),
        info: Option<RequestInfo>,
    ) {
        encode_head(self.buffer_mut(buffers));
        if let Some(info) = info {
            let status = StatusCode::SWITCHING_PROTOCOLS;
            let record = InFlightRecord::response(info, status, self.end(), None);
            self.push_record(record);
        }
    }

    /// The buffer for the output of the protocol that the connection speaks in place of HTTP: append to it.
    pub(crate) fn upgraded_output(&mut self, buffers: &mut Buffers) -> &mut Vec<u8> {
        // Each byte is moved once on average.
        if self.buffer_sent >= self.buffer.len() - self.buffer_sent {
            self.buffer.drain(..self.buffer_sent);
            self.buffer_sent = 0;
        }
        self.buffer_mut(buffers)
    }

    /// The output of the protocol is complete.
    pub(crate) fn end_upgraded_output(&mut self) {
        let end = self.end();
        let records = self.records.as_mut();
        if let Some(record) = records.and_then(|records| records.queue.back_mut()) {
            record.set_end(end);
        }
    }

    /// How many bytes of the buffer are not sent.
    pub(crate) fn unsent(&self) -> usize {
        self.buffer.len() - self.buffer_sent
    }

    /// What is needed next for a response of the exchange `id`; what it names is handed out once. Only if the
    /// outbox is not empty.
    pub(crate) fn next_action(&mut self, id: ExchangeId) -> Action {
        debug_assert!(!self.is_empty(), "nothing to send");
        let Some(body) = self.body.as_deref_mut() else {
            return Action::Write;
        };
        // A chunk is produced when the one before is sent. A file is probed before its head is sent:
        // the head would leave in a packet of its own.
        if body.sender.is_stream() && !self.buffer.is_empty() {
            return Action::Write;
        }
        match body.sender.take_request() {
            Some(SourceRequest::Probe(range)) => Action::ProbeFile(id, range),
            Some(SourceRequest::Pull(source)) => Action::PullBody(id, source),
            None if body.sender.stalled_on().is_some() => Action::Blocked,
            None => Action::Write,
        }
    }

    /// Removes the response whose file cannot be read, and returns what was to be recorded of it.
    ///
    /// # Errors
    ///
    /// Some of the response is sent.
    pub(crate) fn withdraw_file(&mut self) -> Result<Option<RequestInfo>, PartlySent> {
        let Some(head_at) = self.body.as_ref().map(|body| body.head_at) else {
            return Err(PartlySent);
        };
        if self.buffer_sent > head_at || self.buffer.len() <= head_at {
            return Err(PartlySent);
        }
        self.buffer.truncate(head_at);
        self.body = None;
        let records = self.records.as_mut();
        let record = records.and_then(|records| records.queue.pop_back());
        Ok(record.map(InFlightRecord::into_info))
    }

    /// Time will pass before anything is sent; see [`BodySender::forget_residency`].
    pub(crate) fn forget_residency(&mut self) {
        if let Some(body) = self.body.as_deref_mut() {
            body.sender.forget_residency();
        }
    }

    /// The beginning of the file range is in memory.
    pub(crate) fn on_probed(&mut self, resident: Resident) {
        if let Some(body) = self.body.as_deref_mut() {
            body.sender.on_probed(resident);
        }
    }

    /// Appends a chunk of the body, with the source of the next, or its end.
    ///
    /// # Errors
    ///
    /// The body has another length than the one that was announced. The connection must be closed.
    pub(crate) fn on_chunk(
        &mut self,
        chunk: Option<(Bytes, BodySource)>,
        buffers: &mut Buffers,
    ) -> Result<(), LengthMismatch> {
        let Some(body) = self.body.as_deref_mut() else {
            return Ok(());
        };
        body.sender.on_chunk(chunk)?;
        if self.buffer.capacity() == 0 {
            self.buffer = buffers.take();
        }
        if let Payload::Bytes(bytes) = body.sender.payload() {
            match body.framing {
                BodyFraming::Chunked => chunked::encode(bytes, &mut self.buffer),
                BodyFraming::Length(_) | BodyFraming::UntilClose => {
                    self.buffer.extend_from_slice(bytes);
                }
            }
            let count = bytes.len();
            body.sender.advance(count);
        }
        if body.sender.is_done() {
            if body.framing == BodyFraming::Chunked {
                self.buffer.extend_from_slice(chunked::LAST_CHUNK);
            }
            self.body = None;
            let end = self.end();
            let records = self.records.as_mut();
            if let Some(record) = records.and_then(|records| records.queue.back_mut()) {
                record.set_end(end);
            }
        }
        Ok(())
    }

    /// The body that was pulled has no chunk yet.
    pub(crate) fn on_parked(&mut self, parked: Box<PolledBody>, now: Instant) {
        if let Some(body) = self.body.as_deref_mut() {
            body.sender.on_parked(parked, now);
        }
    }

    /// A parked body may have its next chunk.
    pub(crate) fn on_ready(&mut self) {
        if let Some(body) = self.body.as_deref_mut() {
            body.sender.on_ready();
        }
    }

    /// When the heartbeat of a parked body is due; see [`BodySender::next_heartbeat`].
    pub(crate) fn next_heartbeat(&self) -> Option<Instant> {
        self.body.as_deref()?.sender.next_heartbeat()
    }

    /// The heartbeat of a parked body, if it is due, to be appended as its next chunk.
    pub(crate) fn take_heartbeat(&mut self, now: Instant) -> Option<(Bytes, BodySource)> {
        self.body.as_deref_mut()?.sender.take_heartbeat(now)
    }

    /// Returns true for a parked body that ends because the server shuts down. Its end is to be appended.
    pub(crate) fn end_at_shutdown(&mut self) -> bool {
        let body = self.body.as_deref_mut();
        body.is_some_and(|body| body.sender.end_at_shutdown())
    }

    /// Queues a record after those of the responses in flight.
    pub(crate) fn push_record(&mut self, record: InFlightRecord) {
        let records = self.records.get_or_insert_default();
        records.queue.push_back(record);
    }

    /// The next bytes to send. Only if the outbox is not empty and not waiting.
    pub(crate) fn segment(&self) -> Segment<'_> {
        debug_assert!(!self.is_empty() && !self.is_waiting(), "nothing to send");
        Segment {
            prefix: &self.buffer[self.buffer_sent..],
            payload: match self.body.as_deref() {
                Some(body) => body.sender.payload(),
                None => Payload::None,
            },
        }
    }

    /// The first `count` bytes of the [`segment`](Self::segment) are sent.
    pub(crate) fn on_written(&mut self, count: usize) {
        if let Some(records) = &mut self.records {
            records.sent += count as u64;
        }
        let of_buffer = count.min(self.buffer.len() - self.buffer_sent);
        self.buffer_sent += of_buffer;
        if self.buffer_sent == self.buffer.len() {
            self.buffer.clear();
            self.buffer_sent = 0;
        }
        if let Some(body) = self.body.as_deref_mut() {
            body.sender.advance(count - of_buffer);
            self.body.take_if(|body| body.sender.is_done());
        }
    }

    /// The record of the oldest response, if it is sent to its end.
    pub(crate) fn take_complete(&mut self, now: Instant) -> Option<Record> {
        let records = self.records.as_ref()?;
        let is_complete = records.queue.front()?.is_complete(records.sent);
        is_complete.then(|| self.take_any(now)).flatten()
    }

    /// The record of the oldest response, sent to its end or not.
    pub(crate) fn take_any(&mut self, now: Instant) -> Option<Record> {
        let records = self.records.as_mut()?;
        let record = records.queue.pop_front()?;
        Some(record.into_record(records.sent, now))
    }

    /// Drops what is not sent; the records stay.
    pub(crate) fn abandon(&mut self) {
        self.buffer.clear();
        self.buffer_sent = 0;
        self.body = None;
    }

    /// Returns the buffer to the pool if it is empty.
    pub(crate) fn release_buffers(&mut self, buffers: &mut Buffers) {
        if self.buffer.is_empty() && self.buffer.capacity() > 0 {
            buffers.give_back(std::mem::take(&mut self.buffer));
        }
        self.records.take_if(|records| records.queue.is_empty());
    }

    /// The buffer, to append a response.
    fn buffer_mut(&mut self, buffers: &mut Buffers) -> &mut Vec<u8> {
        debug_assert!(self.body.is_none(), "a response after an unsent body");
        if self.buffer.capacity() == 0 {
            self.buffer = buffers.take();
        }
        &mut self.buffer
    }

    /// The position in the output at which the next byte that is appended will be.
    fn end(&self) -> u64 {
        let sent = self.records.as_ref().map_or(0, |records| records.sent);
        let buffered = self.buffer.len() - self.buffer_sent;
        let body = self.body.as_ref().map_or(0, |body| body.sender.unsent());
        sent + buffered as u64 + body
    }
}
