//! Each limit just below and just above.

use super::*;
use std::time::Duration;

/// How often the event may happen at `now`, at most 70,000.
fn count(limits: &mut FloodLimits, event: FloodEvent, now: Instant) -> usize {
    (0..70_000)
        .take_while(|_| limits.take(event, now).is_ok())
        .count()
}

#[test]
fn each_event_has_a_burst_and_a_rate() {
    let table = [
        (FloodEvent::Reset, 200, 20),
        (FloodEvent::FaultyStream, 20, 1),
        (FloodEvent::RefusedStream, 100, 10),
        (FloodEvent::Ping, 50, 10),
        (FloodEvent::Settings, 10, 1),
        (FloodEvent::EmptyData, 10, 1),
        (FloodEvent::WindowUpdate, 1_000, 100),
        (FloodEvent::Priority, 100, 20),
        (FloodEvent::PriorityUpdate, 200, 20),
        (FloodEvent::Ignored, 200, 20),
        (FloodEvent::DiscardedHeaders, 32, 5),
        (FloodEvent::Frame, 10_000, 1_000),
    ];
    assert_eq!(table.map(|(event, ..)| event), FloodEvent::ALL);
    for (event, burst, per_second) in table {
        let start = Instant::now();
        let after = |ms| start + Duration::from_millis(ms);
        let mut limits = FloodLimits::new(start);
        assert_eq!(count(&mut limits, event, start), burst, "{event:?}");
        let above = limits.take(event, start);
        assert_eq!(above, Err(Flood::Events(event)));
        assert_eq!(count(&mut limits, event, after(1000)), per_second);
        // Just before and just after a token is refilled.
        let interval = 1000 / per_second as u64;
        assert_eq!(count(&mut limits, event, after(999 + interval)), 0);
        assert_eq!(count(&mut limits, event, after(1000 + interval)), 1);
        // However long the client waits, it has no more than the burst.
        assert_eq!(count(&mut limits, event, after(1_000_000)), burst);
    }
}

#[test]
fn rate_is_kept_with_fractions_of_the_refill_interval() {
    let start = Instant::now();
    let mut limits = FloodLimits::new(start);
    count(&mut limits, FloodEvent::Ping, start);
    // 10 per second, looked at every 7 ms for 70 s.
    let total: usize = (1..=10_000)
        .map(|turn| {
            count(
                &mut limits,
                FloodEvent::Ping,
                start + Duration::from_millis(7 * turn),
            )
        })
        .sum();
    assert_eq!(total, 700);
}

#[test]
fn events_do_not_share_tokens() {
    let now = Instant::now();
    let mut limits = FloodLimits::new(now);
    for event in FloodEvent::ALL {
        let burst = usize::from(event.rate().burst);
        assert_eq!(count(&mut limits, event, now), burst);
    }
}

#[test]
fn data_that_is_sent_permits_window_updates() {
    let now = Instant::now();
    let mut limits = FloodLimits::new(now);
    for _ in 0..7 {
        limits.on_data_sent(1);
    }
    assert_eq!(count(&mut limits, FloodEvent::WindowUpdate, now), 1_070);
    limits.on_data_sent(1);
    assert_eq!(count(&mut limits, FloodEvent::WindowUpdate, now), 10);
}

#[test]
fn closed_streams_permit_frames_that_are_ignored() {
    let now = Instant::now();
    let mut limits = FloodLimits::new(now);
    limits.on_stream_closed(0);
    assert_eq!(count(&mut limits, FloodEvent::Ignored, now), 201);
    limits.on_stream_closed(65_535);
    assert_eq!(count(&mut limits, FloodEvent::Ignored, now), 64);
}

#[test]
fn streams_permit_priorities() {
    let now = Instant::now();
    let mut limits = FloodLimits::new(now);
    limits.on_stream_opened();
    assert_eq!(count(&mut limits, FloodEvent::Priority, now), 200);
}

#[test]
fn received_data_permits_frames() {
    let now = Instant::now();
    let mut limits = FloodLimits::new(now);
    for _ in 0..1024 {
        limits.on_data_received(1000);
    }
    assert_eq!(count(&mut limits, FloodEvent::Frame, now), 11_000);
    limits.on_data_received(1023);
    assert_eq!(count(&mut limits, FloodEvent::Frame, now), 0);
    limits.on_data_received(1);
    assert_eq!(count(&mut limits, FloodEvent::Frame, now), 1);
}

#[test]
fn sent_data_and_responses_permit_frames() {
    let now = Instant::now();
    let mut limits = FloodLimits::new(now);
    assert_eq!(count(&mut limits, FloodEvent::Frame, now), 10_000);
    limits.on_response_sent();
    assert_eq!(count(&mut limits, FloodEvent::Frame, now), 4);
    limits.on_data_sent(16_384);
    assert_eq!(count(&mut limits, FloodEvent::Frame, now), 16);
    // A window that is opened by single bytes earns nothing that counts (CVE-2019-9511).
    for _ in 0..1023 {
        limits.on_data_sent(1);
    }
    assert_eq!(count(&mut limits, FloodEvent::Frame, now), 0);
}

#[test]
fn earned_tokens_are_bounded_and_not_lost_by_a_refill() {
    let start = Instant::now();
    let mut limits = FloodLimits::new(start);
    limits.on_data_received(u32::MAX);
    limits.on_data_received(u32::MAX);
    let later = start + Duration::from_secs(1);
    assert_eq!(count(&mut limits, FloodEvent::Frame, later), 65_535);
    assert_eq!(count(&mut limits, FloodEvent::Frame, later), 0);
}

#[test]
fn clock_may_pass_2_to_the_32_milliseconds() {
    let start = Instant::now();
    let mut limits = FloodLimits::new(start);
    let before = start + Duration::from_millis((1 << 32) - 50);
    count(&mut limits, FloodEvent::Ping, before);
    let later = before + Duration::from_millis(100);
    assert_eq!(count(&mut limits, FloodEvent::Ping, later), 1);
}

#[test]
fn header_block_is_bounded_in_bytes_and_frames() {
    const ERR: Result<(), Flood> = Err(Flood::HeaderBlock);
    const OK: Result<(), Flood> = Ok(());
    type Fragments<'a> = &'a [(usize, Result<(), Flood>)];
    let table: &[(usize, Result<(), Flood>, Fragments<'_>)] = &[
        (100, OK, &[]),
        (101, ERR, &[]),
        (0, OK, &[(100, OK), (1, ERR)]),
        (50, OK, &[(50, OK), (0, OK), (0, ERR)]),
        (1, OK, &[(1, OK), (0, OK), (1, OK), (0, ERR)]),
        (
            1,
            OK,
            &[
                (1, OK),
                (1, OK),
                (1, OK),
                (1, OK),
                (1, OK),
                (1, OK),
                (1, OK),
                (1, OK),
                (1, ERR),
            ],
        ),
    ];
    for (first, expected, more) in table {
        let mut limits = HeaderBlockLimits::new(100);
        assert_eq!(limits.on_headers(*first), *expected);
        for (bytes, expected) in *more {
            assert_eq!(limits.on_continuation(*bytes), *expected, "{more:?}");
        }
    }
}

#[test]
fn limits_of_a_connection_are_small() {
    assert!(size_of::<FloodLimits>() <= 128);
}
