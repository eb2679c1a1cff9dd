//! How fast the peer takes what is sent, and how much of it is therefore sent ahead.
//!
//! What is staged, and what the kernels of both sides hold, is overtaken by nothing: a response that
//! becomes urgent waits until the peer's program has read it. A peer that reads slowly gets
//! small portions, and one that leaves its receive buffer full gets no more bytes of large bodies than it
//! reads in a moment. How much it has not read is not known, but its receive window is smaller by that
//! much (RFC 9293 §3.8.6).

use std::time::{Duration, Instant};

use crate::proto::peer_state::PeerState;

/// A peer is slow if it takes this long until the transport takes more. Then it takes less than
/// some 6 MB/s, for which small writes cost nothing that counts.
const SLOW: Duration = Duration::from_millis(5);

/// A peer is paced if it takes this long, which is some 1.5 MB/s with the usual receive buffer. What may
/// be sent ahead of it then lasts for several [`RECHECK`]s.
const VERY_SLOW: Duration = Duration::from_millis(150);

/// A paced peer that takes [`SAMPLE`] times what it may have unread in less time is not paced any more. It
/// reads at more than 2 MB/s then.
const NOT_VERY_SLOW: Duration = Duration::from_millis(150);
const SAMPLE: u32 = 4;

/// How many bytes a paced peer may have not read while more of a large body is sent, beside those that are
/// on their way. It may always be a bit more than half of its receive buffer: Linux does not report that
/// the window has grown while the half of it is free.
const MAX_UNREAD_BYTES: u32 = 128 * 1024;

/// A frame of the usual size. Less is not sent.
const FRAME_BYTES: u32 = 16 * 1024;

/// How many bytes are on their way to a paced peer, at its highest rate, for each millisecond of the
/// round-trip time.
const IN_FLIGHT_BYTES_PER_MS: u32 = 1500;

/// A longer round-trip time does not count.
const MAX_RTT: Duration = Duration::from_secs(1);

/// When the window is looked at again. The kernel does not report that it has grown, as long as there is
/// nothing to send.
const RECHECK: Duration = Duration::from_millis(1);

/// If the window has not grown for so long, one frame is sent: its acknowledgement has the window of then.
const PROBE: Duration = Duration::from_millis(250);

/// How fast the peer takes what is sent.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// Since when the transport takes nothing of what is staged.
    blocked_since: Option<Instant>,
    /// `None` for a fast peer. Boxed, because most are.
    slow: Option<Box<SlowPeer>>,
}

#[derive(Debug)]
enum SlowPeer {
    NotPaced,
    Paced(Pacing),
}

/// What is known about a peer that is paced.
#[derive(Debug)]
struct Pacing {
    /// The largest receive window that was seen.
    max_window: u32,
    /// How many bytes may be sent before the window is looked at again.
    allowance: u32,
    hold: Option<Hold>,
    /// How many bytes were sent since.
    sent: u32,
    since: Instant,
}

impl Pacing {
    fn new(now: Instant) -> Self {
        Self {
            max_window: 0,
            allowance: 0,
            hold: None,
            sent: 0,
            since: now,
        }
    }
}

/// A time in which no bulk is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Hold {
    since: Instant,
    /// `None` if that time has come.
    recheck_at: Option<Instant>,
}

/// Whether more of a large body may be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BulkPermit {
    Granted,
    /// It depends on the receive window of the peer: see [`Pace::on_peer_state`].
    AskPeerState,
    /// Not before [`Pace::recheck_at`].
    Denied,
}

impl Pace {
    /// The transport takes nothing of what is staged.
    pub(super) fn on_blocked(&mut self, now: Instant) {
        self.blocked_since.get_or_insert(now);
    }

    /// The transport takes more.
    pub(super) fn on_writable(&mut self, now: Instant) {
        let Some(since) = self.blocked_since.take() else {
            return;
        };
        if self.pacing().is_some() {
            return;
        }
        let time = now.saturating_duration_since(since);
        let slow = match time {
            _ if time >= VERY_SLOW => Some(SlowPeer::Paced(Pacing::new(now))),
            _ if time >= SLOW => Some(SlowPeer::NotPaced),
            _ => None,
        };
        self.slow = slow.map(Box::new);
    }

    fn pacing(&self) -> Option<&Pacing> {
        match self.slow.as_deref()? {
            SlowPeer::NotPaced => None,
            SlowPeer::Paced(pacing) => Some(pacing),
        }
    }

    fn pacing_mut(&mut self) -> Option<&mut Pacing> {
        match self.slow.as_deref_mut()? {
            SlowPeer::NotPaced => None,
            SlowPeer::Paced(pacing) => Some(pacing),
        }
    }

    /// The peer stays slow.
    fn end_pacing(&mut self) {
        self.slow = Some(Box::new(SlowPeer::NotPaced));
    }

    /// Time has passed. If a permit that was denied is of no use any more, it is not asked for again.
    pub(super) fn on_time(&mut self, now: Instant) {
        let hold = self.pacing_mut().and_then(|pacing| pacing.hold.as_mut());
        if let Some(hold) = hold {
            hold.recheck_at.take_if(|at| *at <= now);
        }
    }

    /// True if little is to be staged at once: it waits for long.
    pub(super) fn is_slow(&self) -> bool {
        self.slow.is_some()
    }

    /// Whether more of a large body may be sent.
    pub(super) fn bulk_permit(&self) -> BulkPermit {
        let Some(pacing) = self.pacing() else {
            return BulkPermit::Granted;
        };
        match pacing.hold {
            Some(hold) if hold.recheck_at.is_some() => BulkPermit::Denied,
            None if pacing.allowance > 0 => BulkPermit::Granted,
            _ => BulkPermit::AskPeerState,
        }
    }

    /// The state of the peer was asked for; `None` if it is not known.
    pub(super) fn on_peer_state(&mut self, state: Option<PeerState>, now: Instant) {
        let Some(pacing) = self.pacing_mut() else {
            return;
        };
        let receiver = state.and_then(|state| Some((state.unacknowledged, state.receiver?)));
        let Some((unacknowledged, receiver)) = receiver else {
            self.end_pacing();
            return;
        };
        pacing.max_window = pacing.max_window.max(receiver.window);
        let unread = (pacing.max_window - receiver.window).saturating_add(unacknowledged);
        let rtt_ms = receiver.min_rtt.min(MAX_RTT).as_millis() as u32;
        let half_window = pacing.max_window / 16 * 9;
        let max_unread = MAX_UNREAD_BYTES.max(half_window) + rtt_ms * IN_FLIGHT_BYTES_PER_MS;
        pacing.allowance = max_unread.saturating_sub(unread);
        let within = |since: Instant, time| now.saturating_duration_since(since) < time;
        if pacing.allowance < FRAME_BYTES {
            let since = pacing.hold.map_or(now, |hold| hold.since);
            if within(since, PROBE) {
                let recheck_at = Some(now + RECHECK);
                pacing.hold = Some(Hold { since, recheck_at });
                return;
            }
            pacing.allowance = FRAME_BYTES;
        }
        pacing.hold = None;
        if pacing.sent >= max_unread.saturating_mul(SAMPLE) {
            if within(pacing.since, NOT_VERY_SLOW) {
                self.end_pacing();
                return;
            }
            pacing.sent = 0;
            pacing.since = now;
        }
    }

    /// So many bytes of bodies are staged.
    pub(super) fn on_sent(&mut self, bytes: usize) {
        if let Some(pacing) = self.pacing_mut() {
            let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
            pacing.allowance = pacing.allowance.saturating_sub(bytes);
            pacing.sent = pacing.sent.saturating_add(bytes);
        }
    }

    /// When to ask for a permit again that was denied.
    pub(super) fn recheck_at(&self) -> Option<Instant> {
        self.pacing()?.hold?.recheck_at
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::peer_state::ReceiverState;

    /// A peer that is near, and has acknowledged everything.
    fn window(bytes: u32) -> Option<PeerState> {
        let min_rtt = Duration::from_micros(30);
        Some(PeerState {
            unacknowledged: 0,
            receiver: Some(ReceiverState {
                window: bytes,
                min_rtt,
            }),
        })
    }

    /// A peer that took `millis` until it took more.
    fn after(millis: u64) -> (Pace, Instant) {
        let start = Instant::now();
        let mut pace = Pace::default();
        pace.on_blocked(start);
        // Still.
        pace.on_blocked(start + Duration::from_millis(millis / 2));
        let now = start + Duration::from_millis(millis);
        pace.on_writable(now);
        (pace, now)
    }

    #[test]
    fn only_a_very_slow_peer_is_paced() {
        for (millis, is_slow, permit) in [
            (4, false, BulkPermit::Granted),
            (5, true, BulkPermit::Granted),
            (149, true, BulkPermit::Granted),
            (150, true, BulkPermit::AskPeerState),
        ] {
            let (pace, _) = after(millis);
            assert_eq!(pace.is_slow(), is_slow, "{millis} ms");
            assert_eq!(pace.bulk_permit(), permit, "{millis} ms");
            assert_eq!(pace.recheck_at(), None);
        }
    }

    #[test]
    fn paced_peer_gets_what_it_reads_in_a_moment() {
        let (mut pace, mut now) = after(200);
        pace.on_peer_state(window(200_000), now);
        assert_eq!(pace.bulk_permit(), BulkPermit::Granted);
        pace.on_sent(100_000);
        assert_eq!(pace.bulk_permit(), BulkPermit::Granted);
        pace.on_sent(31_072);
        assert_eq!(pace.bulk_permit(), BulkPermit::AskPeerState);
        // It has read little.
        for unread in [131_072, 131_072, 114_689] {
            pace.on_peer_state(window(200_000 - unread), now);
            assert_eq!(pace.bulk_permit(), BulkPermit::Denied);
            now = pace.recheck_at().expect("a time");
            pace.on_time(now - Duration::from_nanos(1));
            assert_eq!(pace.bulk_permit(), BulkPermit::Denied);
            pace.on_time(now);
            assert_eq!(pace.recheck_at(), None);
            assert_eq!(pace.bulk_permit(), BulkPermit::AskPeerState);
        }
        pace.on_peer_state(window(200_000 - 114_688), now);
        assert_eq!(pace.bulk_permit(), BulkPermit::Granted);
        assert_eq!(pace.recheck_at(), None);
    }

    /// Otherwise the peer's kernel would not report that the window has grown.
    #[test]
    fn more_than_half_of_the_buffer_may_be_unread() {
        let (mut pace, now) = after(200);
        pace.on_peer_state(window(1_000_000), now);
        for (unread, permit) in [
            (540_000, BulkPermit::Granted),
            (563_000, BulkPermit::Denied),
        ] {
            pace.on_peer_state(window(1_000_000 - unread), now);
            assert_eq!(pace.bulk_permit(), permit, "{unread}");
        }
    }

    #[test]
    fn window_that_does_not_grow_is_probed() {
        let (mut pace, mut now) = after(200);
        pace.on_peer_state(window(200_000), now);
        pace.on_sent(200_000);
        for _ in 0..3 {
            let start = now;
            while pace.bulk_permit() != BulkPermit::Granted {
                pace.on_peer_state(window(0), now);
                now = pace.recheck_at().unwrap_or(now);
                pace.on_time(now);
            }
            assert!(now - start <= PROBE);
            pace.on_sent(FRAME_BYTES as usize);
            assert_eq!(pace.bulk_permit(), BulkPermit::AskPeerState);
        }
    }

    #[test]
    fn bytes_in_flight_are_not_unread() {
        for (millis, unacknowledged, permit) in [
            (0, 114_688, BulkPermit::Granted),
            (0, 114_689, BulkPermit::Denied),
            (100, 264_688, BulkPermit::Granted),
            (100, 264_689, BulkPermit::Denied),
            (1_000_000, 1_614_688, BulkPermit::Granted),
            (1_000_000, 1_614_689, BulkPermit::Denied),
        ] {
            let (mut pace, now) = after(200);
            let min_rtt = Duration::from_millis(millis);
            let receiver = Some(ReceiverState {
                window: 100_000,
                min_rtt,
            });
            let state = PeerState {
                unacknowledged,
                receiver,
            };
            pace.on_peer_state(Some(state), now);
            assert_eq!(pace.bulk_permit(), permit, "{millis} {unacknowledged}");
        }
    }

    #[test]
    fn peer_that_reads_faster_is_not_paced_any_more() {
        for (millis, permit) in [(37, BulkPermit::Granted), (38, BulkPermit::AskPeerState)] {
            let (mut pace, mut now) = after(200);
            for _ in 0..4 {
                pace.on_peer_state(window(200_000), now);
                pace.on_sent(MAX_UNREAD_BYTES as usize);
                now += Duration::from_millis(millis);
            }
            pace.on_peer_state(window(200_000), now);
            pace.on_sent(MAX_UNREAD_BYTES as usize);
            assert_eq!(pace.bulk_permit(), permit, "{millis} ms");
        }
    }

    /// Its state is not known any more. The next write finds that the connection is lost.
    #[test]
    fn peer_that_leaves_while_it_is_held_is_held_no_longer() {
        let (mut pace, now) = after(200);
        pace.on_peer_state(window(200_000), now);
        pace.on_peer_state(window(0), now);
        assert_eq!(pace.bulk_permit(), BulkPermit::Denied);
        let now = pace.recheck_at().expect("a time");
        pace.on_time(now);
        pace.on_peer_state(None, now);
        assert_eq!(pace.bulk_permit(), BulkPermit::Granted);
        assert_eq!(pace.recheck_at(), None);
    }

    #[test]
    fn peer_of_unknown_state_is_not_paced() {
        let (mut pace, now) = after(200);
        pace.on_peer_state(None, now);
        assert_eq!(pace.bulk_permit(), BulkPermit::Granted);
        assert!(pace.is_slow());
    }
}
