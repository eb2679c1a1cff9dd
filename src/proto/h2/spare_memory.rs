//! The memory for streams of connections that have none at the moment.

use super::scheduler::Scheduler;
use super::stream::Streams;
use crate::proto::body_sender::BodySender;

/// Memory for the streams of one connection, which the connections of an event loop use in turns. Most
/// answer what they have received at once, and have no streams afterwards.
#[derive(Debug, Default)]
pub(crate) struct SpareMemory {
    streams: Streams,
    scheduler: Scheduler,
    /// Allocations for further bodies. What they hold is empty.
    senders: Vec<SpareSender>,
}

/// The allocation of a sender, whose body is dropped.
#[derive(Debug)]
struct SpareSender(Box<BodySender>);

/// Memory for more streams than this is freed.
const MAX_STREAMS: usize = 128;

impl SpareMemory {
    /// Lends memory to a connection that has none.
    pub(crate) fn lend(&mut self, streams: &mut Streams, scheduler: &mut Scheduler) {
        if streams.capacity() == 0 {
            std::mem::swap(streams, &mut self.streams);
            std::mem::swap(scheduler, &mut self.scheduler);
        }
    }

    /// Takes the memory of a connection without streams, and keeps it if there is more of it.
    pub(crate) fn give_back(&mut self, streams: &mut Streams, scheduler: &mut Scheduler) {
        let (streams, mut scheduler) = (streams.take_memory(), std::mem::take(scheduler));
        let kept = self.streams.capacity() + 1..=MAX_STREAMS;
        if kept.contains(&streams.capacity()) {
            scheduler.clear();
            self.streams = streams;
            self.scheduler = scheduler;
        }
    }

    /// Boxes a sender, in a spare allocation if there is one.
    pub(crate) fn boxed(&mut self, sender: BodySender) -> Box<BodySender> {
        match self.senders.pop() {
            Some(SpareSender(mut spare)) => {
                *spare = sender;
                spare
            }
            None => Box::new(sender),
        }
    }

    /// Takes a sender whose body is sent, which it drops.
    pub(crate) fn give_back_sender(&mut self, mut sender: Box<BodySender>) {
        sender.clear();
        if self.senders.len() < MAX_STREAMS {
            self.senders.push(SpareSender(sender));
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::http::Body;
    use crate::proto::h2::priority::Priority;

    /// The memory of a connection that had so many streams.
    fn used(count: usize) -> (Streams, Scheduler) {
        let mut scheduler = Scheduler::default();
        scheduler.insert(1, Priority::default(), Some(1));
        (Streams::with_capacity(count), scheduler)
    }

    #[test]
    fn memory_is_lent_to_one_connection_without_streams_of_another() {
        let mut spare = SpareMemory::default();
        let (mut streams, mut scheduler) = used(16);
        spare.give_back(&mut streams, &mut scheduler);
        assert_eq!((streams.capacity(), scheduler.len()), (0, 0));
        for capacity in [16, 0] {
            let (mut streams, mut scheduler) = Default::default();
            spare.lend(&mut streams, &mut scheduler);
            assert_eq!((streams.capacity(), scheduler.len()), (capacity, 0));
        }
        let (mut streams, mut scheduler) = used(4);
        spare.lend(&mut streams, &mut scheduler);
        assert_eq!((streams.capacity(), scheduler.len()), (4, 1));
    }

    #[test]
    fn only_the_larger_memory_is_kept_and_none_that_is_very_large() {
        let mut spare = SpareMemory::default();
        for (capacity, kept) in [(4, 4), (32, 32), (4, 32), (MAX_STREAMS + 1, 32)] {
            let (mut streams, mut scheduler) = used(capacity);
            spare.give_back(&mut streams, &mut scheduler);
            assert_eq!(spare.streams.capacity(), kept);
            assert_eq!(streams.capacity(), 0);
        }
    }

    #[test]
    fn memory_of_a_sender_is_used_again_without_its_body() {
        let body = Bytes::from(vec![b'x'; 8]);
        let sender = || BodySender::new(Body::Bytes(body.clone())).expect("a body");
        let mut spare = SpareMemory::default();
        let boxed: Vec<_> = (0..=MAX_STREAMS).map(|_| spare.boxed(sender())).collect();
        boxed
            .into_iter()
            .for_each(|sender| spare.give_back_sender(sender));
        assert!(body.is_unique());
        assert_eq!(spare.senders.len(), MAX_STREAMS);
        let again = spare.boxed(sender());
        assert_eq!((again.unsent(), spare.senders.len()), (8, MAX_STREAMS - 1));
    }
}
