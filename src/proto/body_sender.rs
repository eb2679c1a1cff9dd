//! Sends one response body in bounded parts: bytes, a range of a file, or chunks that are produced
//! while it is sent. Knows where the next part comes from and how much is left, and nothing of
//! framing or of the connection.

use std::time::Instant;

use bytes::{Buf, Bytes};

use super::segment::{FilePart, FileProgress, Payload};
use super::transfer::StalledOn;
use crate::body::FileRange;
use crate::body::file_range::Resident;
use crate::body::polled::PolledBody;
use crate::body::stream::{BodySource, SourceKind};
use crate::http::Body;

/// The body of a response that is being sent.
#[derive(Debug)]
pub(crate) struct BodySender {
    source: SendSource,
    /// The length of the whole body, if it is known.
    length: Option<u64>,
}

#[derive(Debug)]
enum SendSource {
    Bytes(Bytes),
    File(FileSource),
    Stream(StreamSource),
}

/// A file range that is being sent.
#[derive(Debug)]
struct FileSource {
    /// What is left of it.
    range: FileRange,
    residency: Residency,
}

/// How much of what is left of a file range is known to be in memory.
#[derive(Debug, PartialEq, Eq)]
enum Residency {
    /// This much; 0 if it has not been probed.
    Known(Resident),
    Probing,
}

impl Residency {
    const NOT_PROBED: Self = Self::Known(Resident::InKernel(0));
}

/// A body that is produced while it is sent.
#[derive(Debug)]
struct StreamSource {
    state: ProducerState,
    kind: SourceKind,
    /// What is left of the chunk that was produced last.
    chunk: Bytes,
    /// How many bytes are to come, if the length is known.
    left: Option<u64>,
}

#[derive(Debug)]
enum ProducerState {
    /// The next chunk can be pulled from this.
    Ready(BodySource),
    /// A chunk is being produced.
    Pulling,
    /// There is no chunk since then, and no thread waits for one.
    Parked(Box<PolledBody>, Instant),
    Ended,
}

/// What a body sender needs before it has more to send.
#[derive(Debug)]
pub(crate) enum SourceRequest {
    /// The beginning of the range in memory.
    Probe(FileRange),
    /// The next chunk.
    Pull(BodySource),
}

/// A produced body had another length than the one it was announced with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LengthMismatch;

impl BodySender {
    /// `None` if the body is known to be empty.
    pub(crate) fn new(body: Body) -> Option<Self> {
        let length = body.length();
        let source = match body {
            Body::Bytes(bytes) if !bytes.is_empty() => SendSource::Bytes(bytes),
            Body::File(range) if range.len > 0 => SendSource::File(FileSource {
                range,
                residency: Residency::NOT_PROBED,
            }),
            // Even with the announced length 0: the producer may violate it.
            Body::Stream(stream) => SendSource::Stream(StreamSource {
                kind: stream.source.kind(),
                state: ProducerState::Ready(stream.source),
                chunk: Bytes::new(),
                left: length,
            }),
            Body::Bytes(_) | Body::File(_) | Body::Empty => return None,
        };
        Some(Self { source, length })
    }

    /// Drops the body.
    pub(crate) fn clear(&mut self) {
        self.source = SendSource::Bytes(Bytes::new());
    }

    /// The length of the whole body, if it is known.
    pub(crate) fn length(&self) -> Option<u64> {
        self.length
    }

    /// True if the body is produced while it is sent.
    pub(crate) fn is_stream(&self) -> bool {
        matches!(self.source, SendSource::Stream(_))
    }

    /// True if the body is a range of a file.
    pub(crate) fn is_file(&self) -> bool {
        matches!(self.source, SendSource::File(_))
    }

    /// True if the next bytes are in memory of the process.
    pub(crate) fn has_bytes(&self) -> bool {
        matches!(self.payload(), Payload::Bytes(bytes) if !bytes.is_empty())
            || matches!(self.payload(), Payload::File(part) if part.bytes.is_some())
    }

    /// True if a thread of its own writes the body, and waits for the client.
    pub(crate) fn is_written(&self) -> bool {
        matches!(&self.source, SendSource::Stream(stream) if stream.kind == SourceKind::Written)
    }

    /// True if the body is polled on the event loop, and no thread works for it.
    pub(crate) fn is_polled(&self) -> bool {
        matches!(&self.source, SendSource::Stream(stream) if stream.kind == SourceKind::Polled)
    }

    /// True if a poll has to tell whether there is anything to send.
    pub(crate) fn is_poll_due(&self) -> bool {
        self.is_polled()
            && matches!(&self.source, SendSource::Stream(stream)
                if matches!(stream.state, ProducerState::Ready(_)) && stream.chunk.is_empty())
    }

    /// True if there is nothing to send until [`on_ready`](Self::on_ready), which may be in hours.
    pub(crate) fn is_parked(&self) -> bool {
        self.parked().is_some()
    }

    fn parked(&self) -> Option<(&PolledBody, Instant)> {
        match &self.source {
            SendSource::Stream(StreamSource {
                state: ProducerState::Parked(body, since),
                ..
            }) => Some((body, *since)),
            _ => None,
        }
    }

    /// Takes the parked body, whose next chunk is to be reported with [`on_chunk`](Self::on_chunk).
    fn take_parked(&mut self) -> Option<Box<PolledBody>> {
        let SendSource::Stream(stream) = &mut self.source else {
            return None;
        };
        match std::mem::replace(&mut stream.state, ProducerState::Pulling) {
            ProducerState::Parked(body, _) => Some(body),
            state => {
                stream.state = state;
                None
            }
        }
    }

    /// How many bytes that are there or in a file are not sent; 0 for chunks to be produced.
    pub(crate) fn unsent(&self) -> u64 {
        match &self.source {
            SendSource::Bytes(bytes) => bytes.len() as u64,
            SendSource::File(file) => file.range.len,
            SendSource::Stream(stream) => stream.chunk.len() as u64,
        }
    }

    /// How many unsent bytes the response owns: those of a file are in the page cache, or are read again
    /// when they are needed.
    pub(crate) fn held_bytes(&self) -> usize {
        match &self.source {
            SendSource::Bytes(bytes) => bytes.len(),
            SendSource::File(_) => 0,
            SendSource::Stream(stream) => stream.chunk.len(),
        }
    }

    /// True if everything is sent.
    pub(crate) fn is_done(&self) -> bool {
        match &self.source {
            SendSource::Bytes(_) | SendSource::File(_) => self.unsent() == 0,
            SendSource::Stream(stream) => {
                matches!(stream.state, ProducerState::Ended) && stream.chunk.is_empty()
            }
        }
    }

    /// What it is waiting for, having asked for it; `None` if it can go on.
    pub(crate) fn stalled_on(&self) -> Option<StalledOn> {
        match &self.source {
            SendSource::File(file) if file.residency == Residency::Probing => Some(StalledOn::Disk),
            SendSource::Stream(stream)
                if matches!(
                    stream.state,
                    ProducerState::Pulling | ProducerState::Parked(..)
                ) =>
            {
                Some(StalledOn::Handler)
            }
            SendSource::Bytes(_) | SendSource::File(_) | SendSource::Stream(_) => None,
        }
    }

    /// Takes the request for more to send, if there is nothing to send and nothing was asked for. The
    /// body then waits for [`on_probed`](Self::on_probed) or [`on_chunk`](Self::on_chunk).
    pub(crate) fn take_request(&mut self) -> Option<SourceRequest> {
        match &mut self.source {
            SendSource::Bytes(_) => None,
            SendSource::File(file) => match &file.residency {
                Residency::Known(resident) if resident.len() == 0 => {
                    file.residency = Residency::Probing;
                    Some(SourceRequest::Probe(file.range.clone()))
                }
                Residency::Known(_) | Residency::Probing => None,
            },
            SendSource::Stream(stream) if !stream.chunk.is_empty() => None,
            SendSource::Stream(stream) => {
                match std::mem::replace(&mut stream.state, ProducerState::Pulling) {
                    ProducerState::Ready(source) => Some(SourceRequest::Pull(source)),
                    state @ (ProducerState::Pulling
                    | ProducerState::Parked(..)
                    | ProducerState::Ended) => {
                        stream.state = state;
                        None
                    }
                }
            }
        }
    }

    /// The beginning of the file range is in memory.
    pub(crate) fn on_probed(&mut self, resident: Resident) {
        if let SendSource::File(file) = &mut self.source {
            file.residency = Residency::Known(resident);
        }
    }

    /// The chunk that was pulled, with the source of the next, or `None` at the end of the body.
    ///
    /// # Errors
    ///
    /// The body was announced with another length.
    pub(crate) fn on_chunk(
        &mut self,
        chunk: Option<(Bytes, BodySource)>,
    ) -> Result<(), LengthMismatch> {
        let SendSource::Stream(stream) = &mut self.source else {
            return Ok(());
        };
        debug_assert!(stream.chunk.is_empty(), "a chunk before the last is sent");
        let Some((chunk, source)) = chunk else {
            stream.state = ProducerState::Ended;
            return match stream.left {
                Some(1..) => Err(LengthMismatch),
                Some(0) | None => Ok(()),
            };
        };
        if let Some(left) = &mut stream.left {
            *left = left.checked_sub(chunk.len() as u64).ok_or(LengthMismatch)?;
        }
        stream.state = ProducerState::Ready(source);
        stream.chunk = chunk;
        Ok(())
    }

    /// The body that was pulled has no chunk yet: it is to be pulled again after
    /// [`on_ready`](Self::on_ready).
    pub(crate) fn on_parked(&mut self, body: Box<PolledBody>, now: Instant) {
        if let SendSource::Stream(stream) = &mut self.source {
            stream.state = ProducerState::Parked(body, now);
        }
    }

    /// A parked body may have its next chunk. Returns false if it is not parked.
    pub(crate) fn on_ready(&mut self) -> bool {
        let parked = self.take_parked();
        let is_parked = parked.is_some();
        if let (Some(body), SendSource::Stream(stream)) = (parked, &mut self.source) {
            stream.state = ProducerState::Ready(BodySource::Polled(body));
        }
        is_parked
    }

    /// When a parked body sends its heartbeat; `None` if it is not parked or has none.
    pub(crate) fn next_heartbeat(&self) -> Option<Instant> {
        let (body, since) = self.parked()?;
        since.checked_add(body.heartbeat()?.interval)
    }

    /// The heartbeat of a parked body if it is due, as a chunk to be reported with
    /// [`on_chunk`](Self::on_chunk).
    pub(crate) fn take_heartbeat(&mut self, now: Instant) -> Option<(Bytes, BodySource)> {
        if self.next_heartbeat()? > now {
            return None;
        }
        let body = self.take_parked()?;
        let piece = body.heartbeat()?.piece.clone();
        Some((piece, BodySource::Polled(body)))
    }

    /// Ends a parked body that may end when the server shuts down. Returns false if it goes on.
    pub(crate) fn end_at_shutdown(&mut self) -> bool {
        let ends = self
            .parked()
            .is_some_and(|(body, _)| body.ends_at_shutdown());
        ends && self.take_parked().is_some()
    }

    /// Time will pass: pages in the kernel's page cache may be dropped until then, and bytes of the
    /// file in our memory should be.
    pub(crate) fn forget_residency(&mut self) {
        if let SendSource::File(file) = &mut self.source
            && file.residency != Residency::Probing
        {
            file.residency = Residency::NOT_PROBED;
        }
    }

    /// What can be sent now.
    pub(crate) fn payload(&self) -> Payload<'_> {
        match &self.source {
            SendSource::Bytes(bytes) => Payload::Bytes(bytes),
            SendSource::File(file) => file.payload(self.length),
            SendSource::Stream(stream) if stream.chunk.is_empty() => Payload::None,
            SendSource::Stream(stream) => Payload::Bytes(&stream.chunk),
        }
    }

    /// The first `count` bytes of the [`payload`](Self::payload) are sent.
    pub(crate) fn advance(&mut self, count: usize) {
        debug_assert!(count as u64 <= self.unsent(), "more is sent than there was");
        match &mut self.source {
            SendSource::Bytes(bytes) => bytes.advance(count),
            SendSource::File(file) => file.advance(count as u64),
            SendSource::Stream(stream) => stream.chunk.advance(count),
        }
    }
}

impl FileSource {
    /// `length` is that of the whole range.
    fn payload(&self, length: Option<u64>) -> Payload<'_> {
        let Residency::Known(resident) = &self.residency else {
            return Payload::None;
        };
        let len = resident.len().min(self.range.len);
        Payload::File(FilePart {
            range: &self.range,
            len: usize::try_from(len).unwrap_or(usize::MAX),
            bytes: match resident {
                Resident::Read(bytes) => Some(bytes),
                Resident::InKernel(_) => None,
            },
            progress: if length == Some(self.range.len) {
                FileProgress::Unsent
            } else {
                FileProgress::PartlySent
            },
        })
    }

    fn advance(&mut self, count: u64) {
        self.range.offset += count;
        self.range.len -= count;
        if let Residency::Known(resident) = &mut self.residency {
            resident.advance(count);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::body::{BodyStream, EventStream};

    fn stream(length: Option<u64>) -> BodySender {
        let stream = BodyStream::produced(|| Ok(None));
        let stream = match length {
            Some(length) => stream.with_length(length),
            None => stream,
        };
        BodySender::new(Body::Stream(stream)).expect("a stream is never known to be empty")
    }

    /// Pulls and answers with chunks of these lengths, and with the end.
    fn produce(sender: &mut BodySender, lens: &[usize]) -> Result<(), LengthMismatch> {
        for len in lens {
            let Some(SourceRequest::Pull(source)) = sender.take_request() else {
                panic!("{sender:?}");
            };
            assert_eq!(sender.stalled_on(), Some(StalledOn::Handler));
            assert!(sender.take_request().is_none());
            sender.on_chunk(Some((vec![b'x'; *len].into(), source)))?;
            sender.advance(*len);
        }
        assert!(matches!(
            sender.take_request(),
            Some(SourceRequest::Pull(_))
        ));
        sender.on_chunk(None)
    }

    #[test]
    fn stream_of_another_length_is_a_mismatch() {
        let table: &[(Option<u64>, &[usize], bool)] = &[
            (None, &[], true),
            (None, &[1, 2], true),
            (Some(0), &[], true),
            (Some(3), &[1, 2], true),
            (Some(3), &[1, 0, 2], true),
            (Some(0), &[1], false),
            (Some(3), &[2], false),
            (Some(3), &[2, 2], false),
        ];
        for (length, lens, matches) in table {
            let mut sender = stream(*length);
            let result = produce(&mut sender, lens);
            assert_eq!(result.is_ok(), *matches, "{length:?} {lens:?}");
            assert!(result.is_err() || sender.is_done());
        }
    }

    #[test]
    fn chunk_is_sent_before_the_next_is_pulled() {
        let mut sender = stream(None);
        let Some(SourceRequest::Pull(source)) = sender.take_request() else {
            panic!("{sender:?}");
        };
        let chunk = Bytes::from_static(b"abc");
        assert_eq!(sender.on_chunk(Some((chunk, source))), Ok(()));
        sender.advance(2);
        assert!(matches!(sender.payload(), Payload::Bytes(b"c")));
        assert!(sender.take_request().is_none() && sender.stalled_on().is_none());
        sender.advance(1);
        assert!(matches!(sender.payload(), Payload::None));
        assert!(sender.take_request().is_some() && !sender.is_done());
    }

    #[test]
    fn parked_body_is_pulled_again_when_it_is_ready_and_not_before() {
        let (pieces, stream) = BodyStream::channel(1);
        let mut sender = BodySender::new(Body::Stream(stream)).expect("a body");
        let now = Instant::now();
        let pull = |sender: &mut BodySender| match sender.take_request() {
            Some(SourceRequest::Pull(BodySource::Polled(body))) => body,
            other => panic!("{other:?}"),
        };
        assert!(sender.is_poll_due());
        let body = pull(&mut sender);
        assert!(!sender.is_parked() && !sender.on_ready());
        sender.on_parked(body, now);
        assert!(sender.is_parked() && !sender.is_poll_due() && sender.take_request().is_none());
        assert_eq!(sender.stalled_on(), Some(StalledOn::Handler));
        // It has no heartbeat, and goes on at shutdown.
        assert_eq!(sender.next_heartbeat(), None);
        assert!(sender.take_heartbeat(now).is_none() && !sender.end_at_shutdown());
        assert!(sender.on_ready() && !sender.on_ready() && !sender.is_parked());
        let body = pull(&mut sender);
        let chunk = Bytes::from_static(b"abc");
        let next = BodySource::Polled(body);
        assert_eq!(sender.on_chunk(Some((chunk, next))), Ok(()));
        assert!(!sender.is_poll_due(), "the chunk is sent first");
        assert!(!sender.on_ready(), "it is not parked");
        drop(pieces);
    }

    #[test]
    fn parked_events_send_a_heartbeat_when_it_is_due_and_end_at_shutdown() {
        let interval = Duration::from_secs(7);
        let (_events, stream) = EventStream::channel(1);
        let stream = BodyStream::from(stream.with_heartbeat(interval));
        let mut sender = BodySender::new(Body::Stream(stream)).expect("a body");
        let now = Instant::now();
        for parked_at in [now, now + interval] {
            match sender.take_request() {
                Some(SourceRequest::Pull(BodySource::Polled(body))) => {
                    sender.on_parked(body, parked_at);
                }
                other => panic!("{other:?}"),
            }
            let due = parked_at + interval;
            assert_eq!(sender.next_heartbeat(), Some(due));
            assert!(
                sender
                    .take_heartbeat(due - Duration::from_nanos(1))
                    .is_none()
            );
            let chunk = sender.take_heartbeat(due).expect("a heartbeat");
            assert!(sender.take_heartbeat(due).is_none() && !sender.is_parked());
            let len = chunk.0.len();
            assert_eq!(sender.on_chunk(Some(chunk)), Ok(()));
            assert!(!sender.end_at_shutdown(), "the heartbeat is sent first");
            sender.advance(len);
        }
        match sender.take_request() {
            Some(SourceRequest::Pull(BodySource::Polled(body))) => sender.on_parked(body, now),
            other => panic!("{other:?}"),
        }
        assert!(sender.end_at_shutdown());
        assert_eq!(sender.on_chunk(None), Ok(()));
        assert!(sender.is_done());
    }

    #[test]
    fn file_is_probed_again_after_a_pause_and_after_what_was_resident() {
        let file = Arc::new(File::open("/dev/null").expect("a file"));
        let range = FileRange::new(file, 10, 100);
        let mut sender = BodySender::new(Body::File(range)).expect("a body");
        let probe = |sender: &mut BodySender| match sender.take_request() {
            Some(SourceRequest::Probe(range)) => (range.offset, range.len),
            other => panic!("{other:?}"),
        };
        assert_eq!(probe(&mut sender), (10, 100));
        assert_eq!(sender.stalled_on(), Some(StalledOn::Disk));
        // The answer to the probe is still to come.
        sender.forget_residency();
        assert!(sender.take_request().is_none());
        sender.on_probed(Resident::InKernel(60));
        assert!(sender.take_request().is_none());
        sender.advance(20);
        let Payload::File(part) = sender.payload() else {
            panic!("{sender:?}");
        };
        assert_eq!((part.range.offset, part.len), (30, 40));
        assert_eq!(part.progress, FileProgress::PartlySent);
        sender.forget_residency();
        assert_eq!(probe(&mut sender), (30, 80));
        sender.on_probed(Resident::InKernel(80));
        sender.advance(80);
        assert!(sender.is_done());
    }

    #[test]
    fn empty_body_needs_no_sender() {
        assert!(BodySender::new(Body::Empty).is_none());
        assert!(BodySender::new(Body::Bytes(Bytes::new())).is_none());
    }
}
