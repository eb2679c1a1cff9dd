//! Limits on what a client may cause cheaply, as in floods of PING, SETTINGS or RST_STREAM frames.
//!
//! Each kind of event has a token bucket per connection. Some of what a connection transfers earns
//! further tokens, so that a busy connection is not mistaken for an attack. A client that exceeds a
//! limit gets GOAWAY with ENHANCE_YOUR_CALM.

use std::time::Instant;

/// An event that costs the server something and the client little.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FloodEvent {
    /// RST_STREAM before the response was complete (CVE-2023-44487).
    Reset,
    /// A stream that the server resets because the client violated the protocol (CVE-2025-8671).
    FaultyStream,
    /// A stream beyond the limit of concurrent streams. Its header block is decoded for the state of the
    /// compression only, and not counted a second time: a client that opens as many streams again as it
    /// may have, before it knows the limit, is no flood.
    RefusedStream,
    /// CVE-2019-9512.
    Ping,
    /// CVE-2019-9515.
    Settings,
    /// DATA without data that does not end its stream (CVE-2019-9518).
    EmptyData,
    /// Each DATA frame that is sent permits ten more.
    WindowUpdate,
    /// The deprecated PRIORITY frame (CVE-2019-9513). Each stream permits 100 more.
    Priority,
    PriorityUpdate,
    /// A frame that has no effect: for a stream that is gone, or of an unknown type.
    Ignored,
    /// A header block that is decoded for the state of the compression only: after GOAWAY, on a stream
    /// that the server has reset, or larger than a head may be.
    DiscardedHeaders,
    /// A frame of any type. Each KiB of DATA in either direction permits one more, and each complete
    /// response some.
    Frame,
}

/// How often an event may happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rate {
    burst: u16,
    /// A divisor of 1,000.
    per_second: u16,
}

impl FloodEvent {
    const COUNT: usize = Self::Frame as usize + 1;

    const ALL: [Self; Self::COUNT] = [
        Self::Reset,
        Self::FaultyStream,
        Self::RefusedStream,
        Self::Ping,
        Self::Settings,
        Self::EmptyData,
        Self::WindowUpdate,
        Self::Priority,
        Self::PriorityUpdate,
        Self::Ignored,
        Self::DiscardedHeaders,
        Self::Frame,
    ];

    /// The limits. Those of nginx, h2o, lighttpd, nghttp2, Envoy and sozu are between half and ten
    /// times as high. 200 resets are a browser leaving a page with 100 streams, twice; gRPC probes the
    /// bandwidth with fewer PING frames than ten per second.
    fn rate(self) -> Rate {
        let (burst, per_second) = match self {
            Self::Reset | Self::PriorityUpdate | Self::Ignored => (200, 20),
            Self::FaultyStream => (20, 1),
            Self::RefusedStream => (100, 10),
            Self::Ping => (50, 10),
            Self::Settings | Self::EmptyData => (10, 1),
            Self::WindowUpdate => (1_000, 100),
            Self::Priority => (100, 20),
            Self::DiscardedHeaders => (32, 5),
            Self::Frame => (10_000, 1_000),
        };
        Rate { burst, per_second }
    }

    /// The name of the event in logs and metrics.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Reset => "reset",
            Self::FaultyStream => "faulty_stream",
            Self::RefusedStream => "refused_stream",
            Self::Ping => "ping",
            Self::Settings => "settings",
            Self::EmptyData => "empty_data",
            Self::WindowUpdate => "window_update",
            Self::Priority => "priority",
            Self::PriorityUpdate => "priority_update",
            Self::Ignored => "ignored",
            Self::DiscardedHeaders => "discarded_headers",
            Self::Frame => "frame",
        }
    }
}

/// The limit that a client has exceeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flood {
    Events(FloodEvent),
    /// A header block in too many frames, or of too many bytes (CVE-2024-27316).
    HeaderBlock,
}

impl Flood {
    /// All limits, in the order of their numbers.
    pub(crate) const ALL: [Self; FloodEvent::COUNT + 1] = {
        let mut all = [Self::HeaderBlock; FloodEvent::COUNT + 1];
        let mut number = 0;
        while number < FloodEvent::COUNT {
            all[number] = Self::Events(FloodEvent::ALL[number]);
            number += 1;
        }
        all
    };

    pub(crate) fn number(self) -> usize {
        match self {
            Self::Events(event) => event as usize,
            Self::HeaderBlock => FloodEvent::COUNT,
        }
    }

    /// The name of the limit in logs and metrics.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Events(event) => event.name(),
            Self::HeaderBlock => "header_block",
        }
    }
}

/// WINDOW_UPDATE frames per DATA frame that is sent. Envoy permits as many.
const WINDOW_UPDATES_PER_DATA: u16 = 10;

const PRIORITIES_PER_STREAM: u16 = 100;

/// Frames per response that is complete: the head of its request, and what a client acknowledges a small
/// body with.
const FRAMES_PER_RESPONSE: u16 = 4;

/// The bytes of DATA that permit one more frame.
const BYTES_PER_FRAME: u32 = 1024;

/// The token buckets of one connection.
#[derive(Clone, Debug)]
pub(crate) struct FloodLimits {
    start: Instant,
    buckets: [TokenBucket; FloodEvent::COUNT],
    /// Bytes of DATA that have not yet earned a token: less than [`BYTES_PER_FRAME`].
    unearned: u32,
}

impl FloodLimits {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            start: now,
            buckets: FloodEvent::ALL.map(|event| TokenBucket::full(event.rate())),
            unearned: 0,
        }
    }

    /// Counts an event.
    ///
    /// # Errors
    ///
    /// The event has happened too often.
    pub(crate) fn take(&mut self, event: FloodEvent, now: Instant) -> Result<(), Flood> {
        let millis = self.millis(now);
        if self.bucket(event).take(event.rate(), millis) {
            return Ok(());
        }
        Err(Flood::Events(event))
    }

    /// A DATA frame is sent. Clients with small windows send a WINDOW_UPDATE for each, which arrives when
    /// the stream may be gone.
    pub(crate) fn on_data_sent(&mut self, bytes: u32) {
        self.bucket(FloodEvent::Ignored).earn(1);
        self.bucket(FloodEvent::WindowUpdate)
            .earn(WINDOW_UPDATES_PER_DATA);
        self.earn_frames(bytes);
    }

    /// The client has taken a whole response. So a client that is served may be as fast as the server.
    pub(crate) fn on_response_sent(&mut self) {
        self.bucket(FloodEvent::Frame).earn(FRAMES_PER_RESPONSE);
    }

    /// The client has opened a stream.
    pub(crate) fn on_stream_opened(&mut self) {
        self.bucket(FloodEvent::Priority)
            .earn(PRIORITIES_PER_STREAM);
    }

    /// A stream is closed. The client may have sent frames for it before it knew: a WINDOW_UPDATE, and
    /// DATA if the server has closed a request that had a window of so many bytes.
    pub(crate) fn on_stream_closed(&mut self, window: u32) {
        let frames = 1 + window / BYTES_PER_FRAME;
        let frames = u16::try_from(frames).unwrap_or(u16::MAX);
        self.bucket(FloodEvent::Ignored).earn(frames);
    }

    /// Data has been received, without padding.
    pub(crate) fn on_data_received(&mut self, bytes: u32) {
        self.earn_frames(bytes);
    }

    fn earn_frames(&mut self, bytes: u32) {
        let bytes = self.unearned.saturating_add(bytes);
        self.unearned = bytes % BYTES_PER_FRAME;
        let tokens = u16::try_from(bytes / BYTES_PER_FRAME).unwrap_or(u16::MAX);
        self.bucket(FloodEvent::Frame).earn(tokens);
    }

    fn bucket(&mut self, event: FloodEvent) -> &mut TokenBucket {
        &mut self.buckets[event as usize]
    }

    /// Milliseconds since the start, modulo 2^32: 49 days.
    #[expect(clippy::cast_possible_truncation, reason = "modulo 2^32")]
    fn millis(&self, now: Instant) -> u32 {
        let time = now.saturating_duration_since(self.start);
        (time.as_secs() as u32)
            .wrapping_mul(1000)
            .wrapping_add(time.subsec_millis())
    }
}

/// A token bucket that is refilled when it is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct TokenBucket {
    /// Refilled up to the burst. Tokens that were earned may be more.
    tokens: u16,
    /// Until when it has been refilled, in milliseconds modulo 2^32.
    refilled_at: u32,
}

impl TokenBucket {
    fn full(rate: Rate) -> Self {
        Self {
            tokens: rate.burst,
            refilled_at: 0,
        }
    }

    /// Takes a token; false if there is none.
    fn take(&mut self, rate: Rate, now: u32) -> bool {
        self.refill(rate, now);
        match self.tokens.checked_sub(1) {
            Some(tokens) => {
                self.tokens = tokens;
                true
            }
            None => false,
        }
    }

    fn refill(&mut self, rate: Rate, now: u32) {
        let missing = rate.burst.saturating_sub(self.tokens);
        let millis_per_token = 1000 / u32::from(rate.per_second);
        let due = now.wrapping_sub(self.refilled_at) / millis_per_token;
        match u16::try_from(due) {
            Ok(due) if due < missing => {
                self.tokens += due;
                // The rest of the time counts for the next token.
                let millis = u32::from(due) * millis_per_token;
                self.refilled_at = self.refilled_at.wrapping_add(millis);
            }
            _ => {
                self.tokens += missing;
                self.refilled_at = now;
            }
        }
    }

    fn earn(&mut self, tokens: u16) {
        self.tokens = self.tokens.saturating_add(tokens);
    }
}

/// CONTINUATION frames of one header block at most.
const MAX_CONTINUATIONS: u8 = 8;

/// CONTINUATION frames of one header block without any bytes at most.
const MAX_EMPTY_CONTINUATIONS: u8 = 1;

/// The limits of one header block that continues beyond its HEADERS frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HeaderBlockLimits {
    bytes_left: usize,
    frames_left: u8,
    empty_left: u8,
}

impl HeaderBlockLimits {
    /// The limits of a block of at most `max_bytes` in its encoded form.
    pub(crate) fn new(max_bytes: usize) -> Self {
        Self {
            bytes_left: max_bytes,
            frames_left: MAX_CONTINUATIONS,
            empty_left: MAX_EMPTY_CONTINUATIONS,
        }
    }

    /// Counts the fragment of the HEADERS frame.
    ///
    /// # Errors
    ///
    /// The block is too long.
    pub(crate) fn on_headers(&mut self, bytes: usize) -> Result<(), Flood> {
        let left = self.bytes_left.checked_sub(bytes);
        self.bytes_left = left.ok_or(Flood::HeaderBlock)?;
        Ok(())
    }

    /// Counts the fragment of a CONTINUATION frame.
    ///
    /// # Errors
    ///
    /// The block is too long, or in too many frames.
    pub(crate) fn on_continuation(&mut self, bytes: usize) -> Result<(), Flood> {
        let frames = self.frames_left.checked_sub(1);
        self.frames_left = frames.ok_or(Flood::HeaderBlock)?;
        if bytes == 0 {
            let empty = self.empty_left.checked_sub(1);
            self.empty_left = empty.ok_or(Flood::HeaderBlock)?;
        }
        self.on_headers(bytes)
    }
}

#[cfg(test)]
mod tests;
