//! How much of response bodies a connection holds in memory. A client that asks for many large ones and
//! does not take them, because it opens no windows or does not read, must not make the server hold all
//! of them at once.
//!
//! Above [`MAX_HELD_BODY_BYTES`], requests wait before they are dispatched, and producers before their
//! next chunk. A few exchanges go on nevertheless, so that a small response overtakes large ones that the
//! client takes slowly. All others go on when bodies have been sent, or when their streams have been
//! reset because the client is too slow: a wait ends in any case.

use super::Machine;
use crate::proto::body_sender::BodySender;
use crate::proto::h2::limits::{MAX_BEYOND_HELD_BODIES, MAX_HELD_BODY_BYTES};
use crate::proto::h2::output::PORTION_BYTES;
use crate::proto::h2::stream::Stream;

impl Machine {
    /// True if there is room for another body.
    pub(super) fn has_room_for_body(&mut self) -> bool {
        if self.held_bodies.bytes >= MAX_HELD_BODY_BYTES {
            self.held_bodies.bytes = self.held_body_bytes();
        }
        let has_room = self.held_bodies.bytes < MAX_HELD_BODY_BYTES;
        if has_room {
            self.held_bodies.beyond = Vec::new();
        }
        has_room
    }

    /// How many bytes of bodies are in memory, but for those that are staged.
    pub(super) fn held_body_bytes(&self) -> usize {
        let senders = self.streams.iter().filter_map(Stream::sender);
        senders.map(BodySender::held_bytes).sum()
    }

    /// True if the body of a stream may be brought into memory: there is room, or the stream is one of
    /// the few that go on without.
    pub(super) fn may_hold_body(&mut self, id: u32) -> bool {
        if self.has_room_for_body() || self.held_bodies.beyond.contains(&id) {
            return true;
        }
        let has_place = self.has_place_beyond();
        if has_place {
            self.held_bodies.beyond.push(id);
        }
        has_place
    }

    /// As [`may_hold_body`](Self::may_hold_body), for a chunk. If the windows are open for it, it is not
    /// held.
    pub(super) fn may_hold_chunk(&mut self, id: u32) -> bool {
        let stream = self.streams.get(id);
        let window = stream.map_or(0, |stream| stream.send_window.available());
        window.min(self.send_window.available()) >= PORTION_BYTES || self.may_hold_body(id)
    }

    fn has_place_beyond(&mut self) -> bool {
        let Self {
            held_bodies,
            streams,
            ..
        } = self;
        held_bodies.beyond.retain(|id| {
            let stream = streams.get(*id).filter(|stream| !stream.is_over());
            stream.is_some_and(|stream| stream.sender().is_none_or(|sender| !sender.is_file()))
        });
        held_bodies.beyond.len() < MAX_BEYOND_HELD_BODIES
    }

    /// Lets bodies go on that have waited for room.
    pub(super) fn resume_bodies(&mut self) {
        if self.queues.wait_for_memory.is_empty() {
            return;
        }
        let count = if self.has_room_for_body() {
            self.queues.wait_for_memory.len()
        } else {
            usize::from(self.has_place_beyond())
        };
        for id in self.queues.wait_for_memory.drain(..count) {
            self.scheduler.set_ready(id, true);
        }
    }
}
