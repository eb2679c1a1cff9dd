//! Windows against models and at their limits.

use super::*;
use proptest::prelude::*;

const KIB: u32 = 1024;

fn after(start: Instant, ms: u64) -> Instant {
    start + Duration::from_millis(ms)
}

#[test]
fn increments_beyond_the_largest_window_overflow() {
    let table: &[(u32, u32, Result<usize, WindowOverflow>)] = &[
        (65_535, 1, Ok(65_536)),
        (0, MAX_WINDOW_BYTES, Ok(0x7FFF_FFFF)),
        (1, MAX_WINDOW_BYTES, Err(WindowOverflow)),
        (MAX_WINDOW_BYTES, 1, Err(WindowOverflow)),
        (0, MAX_WINDOW_BYTES + 1, Err(WindowOverflow)),
        (0, u32::MAX, Err(WindowOverflow)),
    ];
    for (initial, increment, expected) in table {
        let mut window = SendWindow::new(*initial);
        let result = window.increase(*increment);
        let result = result.map(|()| window.available());
        assert_eq!(result, *expected, "{initial} + {increment}");
    }
}

#[test]
fn window_is_negative_after_settings_reduce_it() {
    let mut window = SendWindow::new(65_535);
    window.consume(65_000);
    assert_eq!(window.adjust(-65_535), Ok(()));
    assert_eq!(window.available(), 0);
    assert_eq!(window.increase(65_000), Ok(()));
    assert_eq!(window.available(), 0);
    assert_eq!(window.increase(1), Ok(()));
    assert_eq!(window.available(), 1);
}

#[test]
fn smallest_window_can_be_increased_again() {
    let mut window = SendWindow::new(MAX_WINDOW_BYTES);
    window.consume(0x7FFF_FFFF);
    assert_eq!(window.adjust(-0x7FFF_FFFF), Ok(()));
    assert_eq!(window.adjust(0x7FFF_FFFF), Ok(()));
    assert_eq!(window.available(), 0);
    assert_eq!(window.increase(MAX_WINDOW_BYTES), Ok(()));
    assert_eq!(window.adjust(1), Err(WindowOverflow));
}

#[test]
fn more_than_granted_is_an_error() {
    let mut window = ReceiveWindow::new(10, Instant::now());
    assert_eq!(window.receive(4), Ok(()));
    assert_eq!(window.receive(7), Err(WindowExceeded));
    assert_eq!(window.receive(6), Ok(()));
    assert_eq!(window.receive(0), Ok(()));
    assert_eq!(window.receive(1), Err(WindowExceeded));
}

#[test]
fn half_of_window_is_granted_again_and_less_is_not() {
    let now = Instant::now();
    let mut window = ReceiveWindow::new(100, now);
    assert_eq!(window.receive(100), Ok(()));
    window.release(49);
    assert_eq!(window.grant(100, now), None);
    window.release(1);
    assert_eq!(window.grant(100, now), Some(50));
    assert_eq!(window.grant(100, now), None);
    assert_eq!(window.receive(51), Err(WindowExceeded));
    assert_eq!(window.receive(50), Ok(()));
    assert_eq!(window.unread(), 100);
}

#[test]
fn window_of_one_byte_is_granted_again() {
    let now = Instant::now();
    let mut window = ReceiveWindow::new(1, now);
    assert_eq!(window.grant(1, now), None);
    assert_eq!(window.receive(1), Ok(()));
    assert_eq!(window.grant(1, now), None);
    window.release(1);
    assert_eq!(window.grant(1, now), Some(1));
}

#[test]
fn connection_window_is_enlarged_once() {
    let mut window = ReceiveWindow::new(DEFAULT_WINDOW_BYTES, Instant::now());
    assert_eq!(window.enlarge(CONNECTION_WINDOW_BYTES), Some(983_041));
    assert_eq!(window.size(), CONNECTION_WINDOW_BYTES);
    assert_eq!(window.enlarge(CONNECTION_WINDOW_BYTES), None);
    assert_eq!(window.enlarge(1), None);
    assert_eq!(window.receive(CONNECTION_WINDOW_BYTES), Ok(()));
}

/// The size of a window of 64 KiB after the client has used all of it `times` times, and the
/// reader has taken it `ms` later, in parts.
fn size_after(times: u64, ms: u64, max: u32) -> u32 {
    let start = Instant::now();
    let mut window = ReceiveWindow::new(64 * KIB, start);
    for time in 1..=times {
        let now = after(start, time * ms);
        let granted = window.granted;
        assert_eq!(window.receive(granted), Ok(()));
        let part = window.unread() / 4;
        for _ in 0..4 {
            window.release(part);
            window.grant(max, now);
        }
    }
    window.size()
}

#[test]
fn window_doubles_when_it_is_used_up_within_250_ms() {
    assert_eq!(size_after(1, 250, 1024 * KIB), 128 * KIB);
    assert_eq!(size_after(1, 251, 1024 * KIB), 64 * KIB);
    assert_eq!(size_after(20, 251, 1024 * KIB), 64 * KIB);
}

#[test]
fn window_grows_to_its_maximum_and_no_further() {
    assert_eq!(size_after(100, 50, 1024 * KIB), 1024 * KIB);
    assert_eq!(size_after(100, 50, 1000 * KIB), 1000 * KIB);
    assert_eq!(size_after(100, 50, 64 * KIB), 64 * KIB);
    assert_eq!(size_after(100, 50, 1), 64 * KIB);
}

#[test]
fn window_grows_when_an_upload_becomes_fast_later() {
    let start = Instant::now();
    let mut window = ReceiveWindow::new(64 * KIB, start);
    for ms in [5_000, 10_000, 10_100, 10_200] {
        let granted = window.granted;
        assert_eq!(window.receive(granted), Ok(()));
        window.release(granted);
        window.grant(1024 * KIB, after(start, ms));
    }
    assert_eq!(window.size(), 256 * KIB);
}

#[test]
fn window_does_not_grow_when_reader_falls_behind() {
    let start = Instant::now();
    let mut window = ReceiveWindow::new(64 * KIB, start);
    for turn in 1..100 {
        // All that is granted is used at once, and a quarter of the window is read at a time.
        let granted = window.granted;
        assert_eq!(window.receive(granted), Ok(()));
        let now = after(start, turn * 10);
        window.release(16 * KIB);
        window.grant(1024 * KIB, now);
    }
    assert_eq!(window.size(), 64 * KIB);
}

#[derive(Clone, Debug)]
enum SendStep {
    Send(usize),
    Increase(u32),
    Settings(u32),
}

fn send_step() -> impl Strategy<Value = SendStep> {
    let size = || {
        prop_oneof![
            0..200u32,
            MAX_WINDOW_BYTES - 100..=MAX_WINDOW_BYTES,
            0..=MAX_WINDOW_BYTES
        ]
    };
    prop_oneof![
        (0..=usize::MAX).prop_map(SendStep::Send),
        size().prop_map(SendStep::Increase),
        size().prop_map(SendStep::Settings),
    ]
}

proptest! {
    /// A model with unlimited numbers: what was sent never exceeds what was granted.
    #[test]
    fn send_window_equals_model(steps in proptest::collection::vec(send_step(), 0..40)) {
        let mut initial = DEFAULT_WINDOW_BYTES;
        let mut window = SendWindow::new(initial);
        let mut model = i64::from(initial);
        for step in steps {
            let (result, change) = match step {
                SendStep::Send(most) => {
                    let bytes = window.available().min(most);
                    window.consume(bytes);
                    (Ok(()), -i64::try_from(bytes).expect("at most 2^31-1"))
                }
                SendStep::Increase(increment) => {
                    (window.increase(increment), i64::from(increment))
                }
                SendStep::Settings(size) => {
                    let change = i64::from(size) - i64::from(initial);
                    initial = size;
                    let delta = i32::try_from(change).expect("sizes below 2^31");
                    (window.adjust(delta), change)
                }
            };
            if model + change > i64::from(MAX_WINDOW_BYTES) {
                prop_assert_eq!(result, Err(WindowOverflow));
                return Ok(());
            }
            prop_assert_eq!(result, Ok(()));
            model += change;
            let expected = usize::try_from(model).unwrap_or(0);
            prop_assert_eq!(window.available(), expected);
        }
    }

    /// The client is never granted more than the room, and all that it may send is accepted.
    #[test]
    fn receive_window_never_exceeds_room(
        size in 1..100u32,
        max in 1..1000u32,
        steps in proptest::collection::vec((0..100u32, 0..100u32, 0..300u64), 0..60),
    ) {
        let mut now = Instant::now();
        let mut window = ReceiveWindow::new(size, now);
        let (mut client, mut unread) = (size, 0);
        for (sent, read, ms) in steps {
            now += Duration::from_millis(ms);
            if sent > client {
                prop_assert_eq!(window.receive(sent), Err(WindowExceeded));
            } else {
                prop_assert_eq!(window.receive(sent), Ok(()));
                client -= sent;
                unread += sent;
            }
            let read = read.min(unread);
            unread -= read;
            window.release(read);
            let owed = window.size() - client - unread;
            match window.grant(max, now) {
                Some(increment) => client += increment,
                None => prop_assert!(owed == 0 || owed < window.size() / 2),
            }
            prop_assert_eq!(window.unread(), unread);
            prop_assert!(client + unread <= window.size());
            prop_assert!(window.size() <= max.max(size));
        }
    }
}
