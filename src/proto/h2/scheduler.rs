//! The order in which the streams of a connection send (RFC 9218 §10).
//!
//! A stream is chosen frame by frame when bytes can be written, never ahead of time. More urgent
//! streams go first, but the less urgent ones together get 1/16 of the bytes, so that none starves.
//! Within an urgency, the same holds for short responses before long ones.
//!
//! The long responses of one urgency share its bytes equally: all incremental ones, and the first of
//! those that are not, which are sent one after the other.
//!
//! Both the streams and the turns are sorted rings. Few streams are open at once, and they begin and end
//! in nearly the same order, so most changes are at an end; others move less than a tree would read.

use std::collections::VecDeque;

use super::frame::MAX_FRAME_BYTES;
use super::priority::{MAX_URGENCY, Priority, SHORT_BYTES};

const LEVELS: usize = MAX_URGENCY as usize + 1;

/// The streams that have a response to send. They are ready, or blocked: by their flow-control window,
/// or because the next bytes are not in memory.
#[derive(Debug, Default)]
pub(crate) struct Scheduler {
    /// By identifier.
    streams: VecDeque<ScheduledStream>,
    /// Of the streams that are ready, in order.
    ready: VecDeque<Turn>,
    levels: [Level; LEVELS],
    /// Of the bytes that are sent while a less urgent stream is ready.
    floor: Floor,
    /// The urgency that the floor was used for last.
    last_lower: u8,
}

#[derive(Clone, Copy, Debug)]
struct ScheduledStream {
    id: u32,
    priority: Priority,
    /// The bytes left; `None` if they are unknown.
    left: Option<u64>,
    /// How far the stream is in the rotation of the long streams of its urgency.
    served: u64,
    is_ready: bool,
}

/// The state of one urgency.
#[derive(Clone, Copy, Debug, Default)]
struct Level {
    /// Of the bytes of short streams that are sent while a long one is ready.
    floor: Floor,
    /// How far the serial streams, of which only one takes turns, are in the rotation.
    serial_served: u64,
}

/// Which of the streams of an urgency come first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    /// By identifier.
    Short,
    /// Long and not incremental: by identifier.
    Serial,
    /// Long and incremental, or of unknown length: in rotation.
    Shared,
}

/// The position of a ready stream, in the order of the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Turn {
    urgency: u8,
    class: Class,
    /// The position in the rotation of shared streams: the fewest bytes served come first. 0 for
    /// others.
    served: u64,
    id: u32,
}

impl ScheduledStream {
    fn class(&self) -> Class {
        match (self.priority.incremental, self.left) {
            (false, Some(left)) if left <= SHORT_BYTES => Class::Short,
            (false, Some(_)) => Class::Serial,
            (true, _) | (_, None) => Class::Shared,
        }
    }

    fn turn(&self) -> Turn {
        let class = self.class();
        Turn {
            urgency: self.priority.urgency,
            class,
            served: if class == Class::Shared {
                self.served
            } else {
                0
            },
            id: self.id,
        }
    }
}

impl Scheduler {
    /// Adds a stream with `left` bytes to send, or an unknown number. It is ready.
    pub(crate) fn insert(&mut self, id: u32, priority: Priority, left: Option<u64>) {
        self.remove(id);
        let mut stream = ScheduledStream {
            id,
            priority: bounded(priority),
            left,
            served: 0,
            is_ready: true,
        };
        self.enqueue(&mut stream, true);
        if self.streams.back().is_none_or(|last| last.id < id) {
            self.streams.push_back(stream);
        } else {
            let at = self.streams.partition_point(|other| other.id < id);
            self.streams.insert(at, stream);
        }
    }

    /// Forgets everything but its memory.
    pub(crate) fn clear(&mut self) {
        let (mut streams, mut ready) = (
            std::mem::take(&mut self.streams),
            std::mem::take(&mut self.ready),
        );
        streams.clear();
        ready.clear();
        *self = Self {
            streams,
            ready,
            ..Self::default()
        };
    }

    /// Removes a stream that is complete or cancelled.
    pub(crate) fn remove(&mut self, id: u32) {
        if let Some(at) = self.position(id) {
            self.remove_at(at);
        }
    }

    /// Changes the priority of a stream.
    pub(crate) fn reprioritize(&mut self, id: u32, priority: Priority) {
        self.update(id, |stream| stream.priority = bounded(priority));
    }

    /// Changes how many bytes a stream has left, when that becomes known.
    #[cfg(test)]
    pub(crate) fn set_left(&mut self, id: u32, left: Option<u64>) {
        self.update(id, |stream| stream.left = left);
    }

    /// Makes a stream ready, or blocks it.
    pub(crate) fn set_ready(&mut self, id: u32, is_ready: bool) {
        self.update(id, |stream| stream.is_ready = is_ready);
    }

    /// The stream to send from; `None` if none is ready. It stays the same until something changes, so
    /// a stream that turns out to be blocked must be set so.
    pub(crate) fn next(&self) -> Option<u32> {
        let top = *self.ready.front()?;
        let first = if self.floor.is_due() {
            self.lower_turn(top.urgency).unwrap_or(top)
        } else {
            top
        };
        let level = &self.levels[usize::from(first.urgency)];
        let turn = if first.class == Class::Short && !level.floor.is_due() {
            first
        } else {
            self.first_long(first.urgency).unwrap_or(first)
        };
        Some(turn.id)
    }

    /// The streams that are ready, in the order of the queue: the most urgent first, and the short ones
    /// of an urgency before the long ones.
    pub(crate) fn ready(&self) -> impl Iterator<Item = u32> {
        self.ready.iter().map(|turn| turn.id)
    }

    /// Takes note that a stream has sent `bytes` of its response. To be called before it is blocked or
    /// removed, so that the bytes are counted against the streams that were ready.
    pub(crate) fn on_sent(&mut self, id: u32, bytes: usize) {
        let Some(at) = self.position(id) else {
            return;
        };
        let bytes = bytes as u64;
        self.count(self.streams[at].turn(), bytes);
        self.update_at(at, |stream| {
            stream.served += bytes;
            stream.left = stream.left.map(|left| left.saturating_sub(bytes));
        });
    }

    /// Takes note that a stream has sent the last `bytes` of its response, and removes it.
    pub(crate) fn on_last_sent(&mut self, id: u32, bytes: usize) {
        if let Some(at) = self.position(id) {
            self.count(self.streams[at].turn(), bytes as u64);
            self.remove_at(at);
        }
    }

    /// How many streams are ready.
    pub(crate) fn ready_len(&self) -> usize {
        self.ready.len()
    }

    /// How many streams there are.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.streams.len()
    }

    fn count(&mut self, turn: Turn, bytes: u64) {
        self.count_among_urgencies(turn.urgency, bytes);
        self.count_within_urgency(turn, bytes);
    }

    fn count_among_urgencies(&mut self, urgency: u8, bytes: u64) {
        let top = self.ready.front().map_or(urgency, |turn| turn.urgency);
        let bottom = self.ready.back().map_or(urgency, |turn| turn.urgency);
        if urgency > top {
            self.floor.on_lower(bytes);
            self.last_lower = urgency;
        } else if bottom > urgency {
            self.floor.on_upper(bytes);
        }
    }

    fn count_within_urgency(&mut self, turn: Turn, bytes: u64) {
        let urgency = turn.urgency;
        let are_others_ready = match turn.class {
            Class::Short => {
                let long = self.first_from(urgency, Class::Serial);
                long.is_some_and(|long| long.urgency == urgency)
            }
            Class::Serial | Class::Shared => self.first_of(urgency, Class::Short).is_some(),
        };
        let level = &mut self.levels[usize::from(urgency)];
        match turn.class {
            Class::Short if are_others_ready => level.floor.on_upper(bytes),
            Class::Serial | Class::Shared if are_others_ready => level.floor.on_lower(bytes),
            _ => {}
        }
        if turn.class == Class::Serial {
            level.serial_served += bytes;
        }
    }

    /// Where a stream is among the streams.
    fn position(&self, id: u32) -> Option<usize> {
        let first = self.streams.front()?.id;
        if id > self.streams.back()?.id {
            return None;
        }
        // Clients number their streams without gaps, and nearly all have a response.
        let expected = (id.checked_sub(first)? / 2) as usize;
        match self.streams.get(expected) {
            Some(stream) if stream.id == id => Some(expected),
            _ => {
                let found = self.streams.binary_search_by_key(&id, |stream| stream.id);
                found.ok()
            }
        }
    }

    fn update(&mut self, id: u32, change: impl FnOnce(&mut ScheduledStream)) {
        if let Some(at) = self.position(id) {
            self.update_at(at, change);
        }
    }

    /// Changes a stream and moves it to its new place in the queue.
    fn update_at(&mut self, at: usize, change: impl FnOnce(&mut ScheduledStream)) {
        let before = self.streams[at];
        let mut after = before;
        change(&mut after);
        let (from, to) = (before.turn(), after.turn());
        if before.is_ready != after.is_ready || from != to {
            if before.is_ready {
                self.dequeue(from);
            }
            if after.is_ready {
                let is_new =
                    !before.is_ready || (from.urgency, from.class) != (to.urgency, to.class);
                self.enqueue(&mut after, is_new);
            }
        }
        self.streams[at] = after;
    }

    /// Removes a stream. Nearly always it is the first.
    fn remove_at(&mut self, at: usize) {
        let stream = self.streams[at];
        if stream.is_ready {
            self.dequeue(stream.turn());
        }
        if at == 0 {
            self.streams.pop_front();
        } else {
            self.streams.remove(at);
        }
    }

    /// Removes a turn from the queue. Nearly always it is the first.
    fn dequeue(&mut self, turn: Turn) {
        if self.ready.front() == Some(&turn) {
            self.ready.pop_front();
        } else if let Ok(place) = self.ready.binary_search(&turn) {
            self.ready.remove(place);
        }
    }

    /// Adds a stream to the queue. One that was not in the rotation enters it where it is now.
    fn enqueue(&mut self, stream: &mut ScheduledStream, is_new: bool) {
        let urgency = stream.priority.urgency;
        match stream.class() {
            Class::Shared if is_new => {
                stream.served = enter_rotation(stream.served, self.rotation(urgency));
            }
            Class::Serial if self.first_of(urgency, Class::Serial).is_none() => {
                let shared = self.first_of(urgency, Class::Shared);
                let level = &mut self.levels[usize::from(urgency)];
                let served = shared.map(|turn| turn.served);
                level.serial_served = enter_rotation(level.serial_served, served);
            }
            _ => {}
        }
        let turn = stream.turn();
        if self.ready.back().is_none_or(|last| *last < turn) {
            self.ready.push_back(turn);
        } else {
            let place = self.ready.partition_point(|other| *other < turn);
            self.ready.insert(place, turn);
        }
    }

    /// The first turn of the urgency after the one that the floor was used for last, below `top`.
    fn lower_turn(&self, top: u8) -> Option<Turn> {
        let after = self.last_lower.max(top) + 1;
        let next = self.first_from(after, Class::Short);
        next.or_else(|| self.first_from(top + 1, Class::Short))
    }

    /// The long stream whose turn it is.
    fn first_long(&self, urgency: u8) -> Option<Turn> {
        let serial = self.first_of(urgency, Class::Serial);
        let shared = self.first_of(urgency, Class::Shared);
        match (serial, shared) {
            (Some(serial), Some(shared)) => {
                let level = &self.levels[usize::from(urgency)];
                let is_serial_next = level.serial_served <= shared.served;
                Some(if is_serial_next { serial } else { shared })
            }
            (serial, shared) => serial.or(shared),
        }
    }

    /// How far the rotation of an urgency is; `None` if it is empty.
    fn rotation(&self, urgency: u8) -> Option<u64> {
        let shared = self.first_of(urgency, Class::Shared);
        let serial = self.first_of(urgency, Class::Serial);
        let serial = serial.map(|_| self.levels[usize::from(urgency)].serial_served);
        shared
            .map(|turn| turn.served)
            .into_iter()
            .chain(serial)
            .min()
    }

    fn first_of(&self, urgency: u8, class: Class) -> Option<Turn> {
        let is_of = |turn: &Turn| turn.urgency == urgency && turn.class == class;
        self.first_from(urgency, class).filter(is_of)
    }

    /// The first turn of this class and urgency, or of those after them.
    fn first_from(&self, urgency: u8, class: Class) -> Option<Turn> {
        let is_before = |turn: &Turn| (turn.urgency, turn.class) < (urgency, class);
        let first = self.ready.front()?;
        if !is_before(first) {
            return Some(*first);
        }
        // Nearly always all are of one kind.
        if is_before(self.ready.back()?) {
            return None;
        }
        let place = self.ready.partition_point(is_before);
        self.ready.get(place).copied()
    }
}

fn bounded(priority: Priority) -> Priority {
    Priority {
        urgency: priority.urgency.min(MAX_URGENCY),
        ..priority
    }
}

/// Where a stream that has been served `served` bytes enters a rotation: it neither makes up for the
/// time when it was blocked nor waits longer than for one frame of each other stream.
fn enter_rotation(served: u64, rotation: Option<u64>) -> u64 {
    match rotation {
        Some(rotation) => served.clamp(rotation, rotation + FRAME_BYTES),
        None => served,
    }
}

const FRAME_BYTES: u64 = MAX_FRAME_BYTES as u64;

/// What is set aside of the bytes of preferred streams for others, so that these get 1/16 of all
/// bytes.
#[derive(Clone, Copy, Debug, Default)]
struct Floor {
    /// Bytes sent by preferred streams, less 15 times those sent by others.
    uncompensated: u64,
}

impl Floor {
    /// For each byte of others, so many of preferred streams.
    const RATIO: u64 = 15;

    /// One frame of others is due.
    const DUE: u64 = Self::RATIO * FRAME_BYTES;

    fn is_due(self) -> bool {
        self.uncompensated >= Self::DUE
    }

    /// No more than two frames are set aside.
    fn on_upper(&mut self, bytes: u64) {
        self.uncompensated = (self.uncompensated + bytes).min(2 * Self::DUE);
    }

    fn on_lower(&mut self, bytes: u64) {
        self.uncompensated = self.uncompensated.saturating_sub(Self::RATIO * bytes);
    }
}

#[cfg(test)]
mod tests;
