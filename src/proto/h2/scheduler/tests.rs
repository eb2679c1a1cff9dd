//! The order of streams, and that it is fair.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const FRAME: usize = FRAME_BYTES as usize;
const LONG: Option<u64> = Some(1 << 40);
const UNKNOWN: Option<u64> = None;

fn serial(urgency: u8) -> Priority {
    Priority {
        urgency,
        incremental: false,
    }
}

fn shared(urgency: u8) -> Priority {
    Priority {
        urgency,
        incremental: true,
    }
}

/// A scheduler whose streams 1, 3, 5 and so on are ready.
fn scheduler(streams: &[(Priority, Option<u64>)]) -> Scheduler {
    let mut scheduler = Scheduler::default();
    for (id, (priority, left)) in (1..).step_by(2).zip(streams) {
        scheduler.insert(id, *priority, *left);
    }
    scheduler
}

/// Sends frames of `bytes`, and returns the bytes that each stream has sent.
fn send(scheduler: &mut Scheduler, frames: usize, bytes: usize) -> BTreeMap<u32, usize> {
    let mut sent = BTreeMap::new();
    for _ in 0..frames {
        let id = scheduler.next().expect("a ready stream");
        scheduler.on_sent(id, bytes);
        *sent.entry(id).or_default() += bytes;
    }
    sent
}

fn left_of(scheduler: &Scheduler, id: u32) -> Option<u64> {
    let at = scheduler.position(id).expect("a stream");
    scheduler.streams[at].left
}

/// The streams in the order in which they are complete.
fn completions(scheduler: &mut Scheduler) -> Vec<u32> {
    let mut order = Vec::new();
    while let Some(id) = scheduler.next() {
        scheduler.on_sent(id, FRAME);
        if left_of(scheduler, id) == Some(0) {
            scheduler.remove(id);
            order.push(id);
        }
    }
    order
}

#[test]
fn no_stream_is_chosen_while_none_is_ready() {
    let mut scheduler = Scheduler::default();
    assert_eq!(scheduler.next(), None);
    scheduler.insert(1, serial(0), Some(10));
    assert_eq!(scheduler.next(), Some(1));
    scheduler.set_ready(1, false);
    assert_eq!(scheduler.next(), None);
    scheduler.set_ready(1, true);
    scheduler.remove(1);
    assert_eq!(scheduler.next(), None);
    for id in [1, 3] {
        scheduler.set_ready(id, true);
        scheduler.on_sent(id, 1);
        scheduler.set_left(id, Some(1));
        scheduler.reprioritize(id, shared(0));
        scheduler.remove(id);
    }
    assert_eq!((scheduler.len(), scheduler.ready_len()), (0, 0));
}

#[test]
fn more_urgent_streams_are_complete_first() {
    let small = Some(1000);
    let mut streams = scheduler(&[
        (serial(7), small),
        (serial(3), small),
        (shared(1), small),
        (serial(0), small),
        (serial(3), small),
    ]);
    assert_eq!(completions(&mut streams), [7, 5, 3, 9, 1]);
}

#[test]
fn short_responses_precede_long_ones_of_their_urgency() {
    let mut streams = scheduler(&[
        (serial(3), Some(SHORT_BYTES + 1)),
        (shared(3), Some(1)),
        (serial(3), Some(SHORT_BYTES)),
        (serial(4), Some(1)),
        (serial(3), Some(1)),
    ]);
    assert_eq!(completions(&mut streams), [5, 9, 1, 3, 7]);
}

#[test]
fn serial_responses_are_sent_one_after_the_other() {
    let long = Some(10 * SHORT_BYTES);
    let mut streams = scheduler(&[(serial(3), long), (serial(3), long), (serial(3), long)]);
    assert_eq!(completions(&mut streams), [1, 3, 5]);
}

#[test]
fn blocked_stream_lets_others_of_its_class_pass() {
    for priority in [serial(3), shared(3)] {
        let mut streams = scheduler(&[(priority, LONG), (priority, LONG)]);
        streams.set_ready(1, false);
        assert_eq!(send(&mut streams, 10, FRAME), [(3, 10 * FRAME)].into());
    }
}

#[test]
fn first_serial_response_takes_turns_with_shared_ones() {
    let mut streams = scheduler(&[
        (shared(3), LONG),
        (serial(3), LONG),
        (serial(3), LONG),
        (shared(3), UNKNOWN),
    ]);
    let each = 100 * FRAME;
    let expected = [(1, each), (3, each), (7, each)].into();
    assert_eq!(send(&mut streams, 300, FRAME), expected);
    streams.remove(3);
    let expected = [(1, each), (5, each), (7, each)].into();
    assert_eq!(send(&mut streams, 300, FRAME), expected);
}

#[test]
fn unknown_length_is_shared_whatever_the_priority() {
    let mut streams = scheduler(&[(serial(3), UNKNOWN), (serial(3), UNKNOWN)]);
    let expected = [(1, 5 * FRAME), (3, 5 * FRAME)].into();
    assert_eq!(send(&mut streams, 10, FRAME), expected);
}

#[test]
fn stream_becomes_short_near_its_end() {
    let mut streams = scheduler(&[(serial(3), Some(SHORT_BYTES + 2)), (shared(3), LONG)]);
    send(&mut streams, 1, 2);
    assert_eq!(streams.next(), Some(1));
    assert_eq!(send(&mut streams, 4, FRAME), [(1, 4 * FRAME)].into());
}

#[test]
fn lone_stream_never_yields_to_itself() {
    for priority in [serial(0), shared(0), shared(7)] {
        let mut streams = scheduler(&[(priority, LONG), (serial(7), LONG), (serial(0), Some(1))]);
        send(&mut streams, 1000, FRAME / 2);
        streams.set_ready(3, false);
        streams.set_ready(5, false);
        assert_eq!(send(&mut streams, 1000, FRAME), [(1, 1000 * FRAME)].into());
        assert_eq!(streams.ready_len(), 1);
    }
}

#[test]
fn less_urgent_streams_get_one_sixteenth_of_the_bytes() {
    for (upper, lower) in [(FRAME, FRAME), (FRAME, 100), (100, FRAME), (16_375, 16_375)] {
        let mut streams = scheduler(&[(shared(0), LONG), (shared(7), LONG)]);
        let mut sent = [0, 0];
        for _ in 0..20_000 {
            let id = streams.next().expect("a ready stream");
            let index = usize::from(id == 3);
            let bytes = [upper, lower][index];
            streams.on_sent(id, bytes);
            sent[index] += bytes;
            assert!(15 * sent[1] <= sent[0] + 15 * FRAME, "{sent:?}");
            assert!(sent[0] <= 15 * sent[1] + 16 * FRAME, "{sent:?}");
        }
    }
}

#[test]
fn lower_urgencies_take_turns_at_the_floor() {
    let mut streams = scheduler(&[
        (shared(1), LONG),
        (shared(2), LONG),
        (shared(4), LONG),
        (shared(7), LONG),
    ]);
    let expected = [(1, 720), (3, 16), (5, 16), (7, 16)];
    let expected = expected.map(|(id, frames)| (id, frames * FRAME)).into();
    assert_eq!(send(&mut streams, 768, FRAME), expected);
}

#[test]
fn long_responses_get_one_sixteenth_while_short_ones_keep_coming() {
    let mut streams = scheduler(&[(shared(3), LONG), (serial(3), LONG)]);
    let mut sent = BTreeMap::<_, usize>::new();
    for round in 0..1600 {
        streams.insert(101 + 2 * round, serial(3), Some(FRAME_BYTES));
        let id = streams.next().expect("a ready stream");
        if id > 100 {
            streams.on_last_sent(id, FRAME);
        } else {
            streams.on_sent(id, FRAME);
        }
        *sent.entry(id.min(100)).or_default() += FRAME;
    }
    let expected = [(1, 50), (3, 50), (100, 1500)];
    assert_eq!(
        sent,
        expected.map(|(id, frames)| (id, frames * FRAME)).into()
    );
}

#[test]
fn floor_is_not_saved_up_while_less_urgent_streams_are_blocked() {
    let mut streams = scheduler(&[(shared(0), LONG), (shared(7), LONG)]);
    streams.set_ready(3, false);
    send(&mut streams, 10_000, FRAME);
    streams.set_ready(3, true);
    assert_eq!(send(&mut streams, 15, FRAME), [(1, 15 * FRAME)].into());
}

#[test]
fn floor_sets_two_frames_aside_at_most() {
    let mut streams = scheduler(&[(shared(0), LONG), (shared(7), LONG)]);
    streams.on_sent(1, 1000 * FRAME);
    let expected = [(1, 14 * FRAME), (3, 2 * FRAME)].into();
    assert_eq!(send(&mut streams, 16, FRAME), expected);
}

#[test]
fn blocked_time_is_not_made_up_for() {
    let mut streams = scheduler(&[(shared(3), LONG), (shared(3), LONG)]);
    streams.set_ready(3, false);
    send(&mut streams, 1000, FRAME);
    streams.set_ready(3, true);
    let expected = [(1, 10 * FRAME), (3, 10 * FRAME)].into();
    assert_eq!(send(&mut streams, 20, FRAME), expected);
}

#[test]
fn bytes_sent_alone_are_not_held_against_a_stream() {
    let mut streams = scheduler(&[(shared(3), LONG)]);
    send(&mut streams, 1000, FRAME);
    streams.set_ready(1, false);
    streams.insert(3, shared(3), LONG);
    streams.insert(5, serial(3), LONG);
    send(&mut streams, 1, FRAME);
    streams.set_ready(1, true);
    let sent = send(&mut streams, 30, FRAME);
    assert_eq!(sent.len(), 3, "{sent:?}");
    assert!(sent.values().all(|bytes| *bytes >= 9 * FRAME), "{sent:?}");
}

#[test]
fn priority_of_a_ready_stream_changes_its_turn() {
    let mut streams = scheduler(&[(serial(3), LONG), (shared(3), LONG), (serial(3), LONG)]);
    streams.reprioritize(5, serial(2));
    assert_eq!(send(&mut streams, 3, FRAME), [(5, 3 * FRAME)].into());
    streams.reprioritize(5, shared(7));
    let sent = send(&mut streams, 8, FRAME);
    assert_eq!(sent, [(1, 4 * FRAME), (3, 4 * FRAME)].into());
    streams.set_left(3, Some(10));
    streams.reprioritize(3, serial(3));
    assert_eq!(streams.next(), Some(3));
    streams.reprioritize(3, serial(255));
    assert_eq!(streams.next(), Some(1));
}

#[test]
fn repeated_reprioritization_gains_nothing() {
    let mut streams = scheduler(&[(shared(3), LONG), (shared(3), LONG)]);
    let mut sent = BTreeMap::<_, usize>::new();
    for _ in 0..100 {
        streams.reprioritize(1, shared(3));
        let id = streams.next().expect("a ready stream");
        streams.on_sent(id, FRAME);
        *sent.entry(id).or_default() += 1;
    }
    assert_eq!(sent, [(1, 50), (3, 50)].into());
}

#[derive(Clone, Debug)]
enum Step {
    Insert(Priority, Option<u64>),
    Remove,
    Ready(bool),
    Reprioritize(Priority),
    Left(Option<u64>),
    Sent(usize),
    SentLast(usize),
    SendNext(usize),
}

fn priority() -> impl Strategy<Value = Priority> {
    (0..8u8, any::<bool>()).prop_map(|(urgency, incremental)| Priority {
        urgency,
        incremental,
    })
}

fn left() -> impl Strategy<Value = Option<u64>> {
    proptest::option::of(prop_oneof![
        0..3 * SHORT_BYTES,
        SHORT_BYTES - 2..SHORT_BYTES + 3
    ])
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (priority(), left()).prop_map(|(priority, left)| Step::Insert(priority, left)),
        1 => Just(Step::Remove),
        6 => any::<bool>().prop_map(Step::Ready),
        1 => priority().prop_map(Step::Reprioritize),
        1 => left().prop_map(Step::Left),
        1 => (0..=FRAME).prop_map(Step::Sent),
        1 => (0..=FRAME).prop_map(Step::SentLast),
        6 => (0..=FRAME).prop_map(Step::SendNext),
    ]
}

/// What a scheduler knows of a stream.
#[derive(Clone, Copy, Debug)]
struct Model {
    priority: Priority,
    left: Option<u64>,
    is_ready: bool,
}

impl Model {
    fn is_short(&self) -> bool {
        !self.priority.incremental && self.left.is_some_and(|left| left <= SHORT_BYTES)
    }
}

/// The choice is a ready stream, of the highest urgency and short if possible, unless a floor is due.
fn check(streams: &Scheduler, model: &BTreeMap<u32, Model>) -> Result<(), TestCaseError> {
    let ready: BTreeMap<_, _> = model.iter().filter(|(_, it)| it.is_ready).collect();
    prop_assert_eq!(streams.len(), model.len());
    prop_assert_eq!(streams.ready_len(), ready.len());
    let Some(id) = streams.next() else {
        prop_assert!(ready.is_empty());
        return Ok(());
    };
    prop_assert!(ready.contains_key(&id), "{} is not ready", id);
    let chosen = ready[&id];
    let urgency = chosen.priority.urgency;
    let urgencies = ready.values().map(|it| it.priority.urgency);
    if !streams.floor.is_due() {
        prop_assert_eq!(Some(urgency), urgencies.min());
    }
    if !streams.levels[usize::from(urgency)].floor.is_due() {
        let mut of_urgency = ready
            .iter()
            .filter(|(_, it)| it.priority.urgency == urgency);
        if let Some((first, _)) = of_urgency.find(|(_, it)| it.is_short()) {
            prop_assert_eq!(id, **first);
        }
    }
    Ok(())
}

fn apply(streams: &mut Scheduler, model: &mut BTreeMap<u32, Model>, id: u32, step: &Step) {
    match *step {
        Step::Insert(priority, left) => {
            streams.insert(id, priority, left);
            let is_ready = true;
            model.insert(
                id,
                Model {
                    priority,
                    left,
                    is_ready,
                },
            );
        }
        Step::Remove => {
            streams.remove(id);
            model.remove(&id);
        }
        Step::Ready(is_ready) => {
            streams.set_ready(id, is_ready);
            model.entry(id).and_modify(|it| it.is_ready = is_ready);
        }
        Step::Reprioritize(priority) => {
            streams.reprioritize(id, priority);
            model.entry(id).and_modify(|it| it.priority = priority);
        }
        Step::Left(left) => {
            streams.set_left(id, left);
            model.entry(id).and_modify(|it| it.left = left);
        }
        Step::Sent(bytes) => {
            streams.on_sent(id, bytes);
            let after = |left: u64| left.saturating_sub(bytes as u64);
            model
                .entry(id)
                .and_modify(|it| it.left = it.left.map(after));
        }
        Step::SentLast(bytes) => {
            streams.on_last_sent(id, bytes);
            model.remove(&id);
        }
        Step::SendNext(bytes) => {
            if let Some(next) = streams.next() {
                apply(streams, model, next, &Step::Sent(bytes));
            }
        }
    }
}

proptest! {
    #[test]
    fn no_ready_stream_is_forgotten(
        steps in proptest::collection::vec((0..8u32, step()), 0..100),
    ) {
        let mut streams = Scheduler::default();
        let mut model = BTreeMap::new();
        for (id, step) in steps {
            apply(&mut streams, &mut model, id, &step);
            check(&streams, &model)?;
        }
        // All that are ready are served, each once it is chosen.
        let mut ready = streams.ready_len();
        while let Some(id) = streams.next() {
            streams.on_sent(id, FRAME);
            streams.remove(id);
            ready -= 1;
        }
        prop_assert_eq!(ready, 0);
    }

    /// Streams of one urgency that are ready all the time differ by a frame at most, whatever frames
    /// they send and whatever others do.
    #[test]
    fn shared_streams_send_equal_bytes(
        count in 2..6u32,
        steps in proptest::collection::vec((1..=FRAME, 0..3u32, any::<bool>()), 1..300),
    ) {
        let mut streams = scheduler(&vec![(shared(3), LONG); count as usize]);
        let mut sent = vec![0; 2 * count as usize];
        for id in [100, 102, 104] {
            let priority = if id == 104 { serial(3) } else { shared(3) };
            streams.insert(id, priority, LONG);
        }
        for (bytes, other, is_ready) in steps {
            streams.set_ready(100 + 2 * other, is_ready);
            let id = streams.next().expect("a ready stream");
            streams.on_sent(id, bytes);
            if id < 100 {
                sent[id as usize] += bytes;
            }
            let always_ready = || sent.iter().skip(1).step_by(2);
            let spread = always_ready().max().zip(always_ready().min());
            let spread = spread.map(|(max, min)| max - min);
            prop_assert!(spread <= Some(FRAME), "{:?}", sent);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Every response is complete at some time, although urgent short ones keep coming.
    #[test]
    fn no_response_starves(
        victims in proptest::collection::vec((priority(), left()), 1..5),
    ) {
        let mut streams = scheduler(&victims);
        // What a response of unknown length turns out to have.
        let mut left: BTreeMap<_, _> = (1..)
            .step_by(2)
            .zip(victims)
            .map(|(id, (_, left))| (id, left.unwrap_or(3 * SHORT_BYTES)))
            .collect();
        let needed: u64 = left.values().map(|left| left / FRAME_BYTES + 1).sum();
        let mut next_id = 1001;
        // 1/16 of the bytes for 7 urgencies, and 1/16 of those for long responses.
        for _ in 0..needed * 16 * 7 * 16 + 1000 {
            streams.insert(next_id, serial(0), Some(FRAME_BYTES));
            next_id += 2;
            let id = streams.next().expect("a ready stream");
            streams.on_sent(id, FRAME);
            match left.get_mut(&id) {
                Some(left) if *left > FRAME_BYTES => *left -= FRAME_BYTES,
                _ => {
                    streams.remove(id);
                    left.remove(&id);
                }
            }
            if left.is_empty() {
                break;
            }
        }
        prop_assert!(left.is_empty(), "{:?}", left);
    }
}
