//! Responses: from the handler to the head's frames and the end of the exchange.

use ::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE, HeaderName};
use ::http::{HeaderValue, StatusCode};

use super::Machine;
use super::state::{ClosedBy, EndedExchange};
use crate::http::response::PriorityHints;
use crate::http::{Body, Response};
use crate::proto::body_sender::BodySender;
use crate::proto::context::Context;
use crate::proto::exchange::{ExchangeId, SendBody};
use crate::proto::h2::frame::MAX_FRAME_BYTES;
use crate::proto::h2::priority::{
    ClientSignal, PriorityParameters, ResponseTraits, is_attachment, is_for_rendering,
    response_priority,
};
use crate::proto::h2::response_head;
use crate::proto::h2::stream::{JobState, RemoteSide, ResponsePriority, StreamState};
use crate::proto::record::Completion;

const PRIORITY: HeaderName = HeaderName::from_static("priority");

impl Machine {
    /// The response to a request that was dispatched or rejected. A response to a request that is gone
    /// is dropped.
    pub(crate) fn on_response(&mut self, id: ExchangeId, response: Response, cx: &mut Context) {
        let id = id.0;
        let Some(stream) = self.streams.get_mut(id) else {
            return;
        };
        match stream.state {
            StreamState::Handling(_) | StreamState::Streaming(..) | StreamState::Rejecting(_) => {
                self.end_job(id);
                self.respond(id, response, cx);
            }
            StreamState::BodyFailed(_) | StreamState::Orphaned => self.discard_response(id),
            StreamState::AwaitingAdmission(_)
            | StreamState::ReadingBody(_)
            | StreamState::Ready(..)
            | StreamState::Sending(_)
            | StreamState::Finishing
            | StreamState::Answered => {
                debug_assert!(false, "a response before the request was dispatched");
            }
        }
    }

    /// Stages the head of a response, and queues its body. The head of a file follows when the file can
    /// be read.
    pub(super) fn respond(&mut self, id: u32, mut response: Response, cx: &mut Context) {
        response.make_final();
        let Some(stream) = self.streams.get_mut(id) else {
            return;
        };
        stream.wait.interrupt(cx);
        // The rest of a request body is discarded.
        stream.state = StreamState::Finishing;
        let status = response.status();
        stream.status = Some(status);
        if let Some(info) = &mut stream.info {
            info.user = response.take_user().or(info.user.take());
        }
        // RFC 9110 §15.3.5, §15.4.5.
        let is_bodiless = matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        let length = response.body().length();
        let announced = length.filter(|_| !is_bodiless);
        // RFC 9110 §9.3.2: the response to HEAD has the length of the body and not the body.
        let body = if is_bodiless || stream.send_body == SendBody::HeadOnly {
            Body::Empty
        } else {
            response.take_body()
        };
        let sender = BodySender::new(body);
        let mut block = cx.buffers.take();
        let date = response_head::encoded_date(&cx.date, &mut cx.date_block);
        response_head::encode_head(&mut block, &response, date, announced);
        let is_file = sender.as_ref().is_some_and(BodySender::is_file);
        // A larger one would leave no room for the first bytes of the file.
        if is_file && block.len() <= MAX_FRAME_BYTES {
            stream.unsent_head = Some(block.as_slice().into());
            self.streams.add_head_bytes(block.len());
        } else {
            let fields = response_head::complete(&mut self.encoder, &block);
            let ends_stream = sender.is_none();
            self.output.head(&mut cx.buffers, id, &fields, ends_stream);
        }
        cx.buffers.give_back(block);
        match sender {
            Some(sender) => {
                let sender = cx.http2_memory.boxed(sender);
                self.queue_body(id, sender, &response, length);
            }
            None => self.finish_response(id, cx),
        }
    }

    fn queue_body(
        &mut self,
        id: u32,
        sender: Box<BodySender>,
        response: &Response,
        length: Option<u64>,
    ) {
        let Some(stream) = self.streams.get_mut(id) else {
            return;
        };
        let signal = if self.signals_priority {
            ClientSignal::Parameters(stream.priority)
        } else {
            ClientSignal::Never
        };
        let traits = response_traits(response, length);
        let priority = response_priority(signal, &traits);
        stream.response_priority = ResponsePriority {
            own: traits.parameters,
            ceiling: Some(response_priority(MOST_URGENT, &traits)),
        };
        self.held_bodies.add(sender.held_bytes());
        stream.state = StreamState::Sending(sender);
        self.scheduler.insert(id, priority, length);
    }

    /// The whole response is staged. The rest of a request body is not wanted (RFC 9113 §8.1).
    pub(super) fn finish_response(&mut self, id: u32, cx: &mut Context) {
        self.scheduler.remove(id);
        let Some(stream) = self.streams.get_mut(id) else {
            return;
        };
        let ended = std::mem::replace(&mut stream.state, StreamState::Finishing);
        if let StreamState::Sending(sender) = ended {
            cx.http2_memory.give_back_sender(sender);
        }
        stream.wait.interrupt(cx);
        if stream.job == JobState::Held {
            self.end_job(id);
        }
        self.discard_body(id, cx);
    }

    /// The first `count` bytes of the [`segment`](Self::segment) are sent.
    pub(crate) fn on_written(&mut self, count: usize) {
        let Self {
            output,
            streams,
            queues,
            closed_streams,
            flood,
            ..
        } = self;
        output.on_written(count, |staged| {
            let Some(stream) = streams.get_mut(staged.stream) else {
                return;
            };
            if stream.is_orphaned() {
                return;
            }
            stream.sent += staged.data_len();
            if !staged.ends_stream {
                return;
            }
            if let Some(info) = stream.info.take() {
                queues.ended.push_back(EndedExchange {
                    info,
                    status: stream.status,
                    sent: stream.sent,
                    outcome: Completion::Complete,
                });
            }
            flood.on_response_sent();
            if stream.remote == RemoteSide::Open {
                stream.state = StreamState::Answered;
                return;
            }
            streams.remove(staged.stream);
            // A stream that the server has reset is known as such.
            closed_streams.insert(staged.stream, ClosedBy::Peer);
            flood.on_stream_closed(0);
        });
    }

    /// Both sides of a stream have ended.
    pub(super) fn close_stream(&mut self, id: u32) {
        self.streams.remove(id);
        self.closed_streams.insert(id, ClosedBy::Peer);
        self.flood.on_stream_closed(0);
    }
}

/// What a client can make of a response at best.
const MOST_URGENT: ClientSignal = ClientSignal::Parameters(PriorityParameters {
    urgency: Some(0),
    incremental: Some(false),
});

fn response_traits(response: &Response, len: Option<u64>) -> ResponseTraits {
    let hints = response.priority_hints(read_hints);
    ResponseTraits {
        is_for_rendering: hints.is_for_rendering,
        is_attachment: hints.is_attachment,
        len,
        parameters: PriorityParameters {
            urgency: hints.urgency,
            incremental: hints.incremental,
        },
    }
}

fn read_hints(response: &Response) -> PriorityHints {
    fn value<'a>(response: &'a Response, name: &HeaderName) -> Option<&'a [u8]> {
        response.field(name).map(HeaderValue::as_bytes)
    }
    let parameters = PriorityParameters::parse(value(response, &PRIORITY));
    PriorityHints {
        is_for_rendering: value(response, &CONTENT_TYPE).is_some_and(is_for_rendering),
        is_attachment: value(response, &CONTENT_DISPOSITION).is_some_and(is_attachment),
        urgency: parameters.urgency,
        incremental: parameters.incremental,
    }
}
