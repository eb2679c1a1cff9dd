//! A client with a model of the connection: it checks windows, that each request gets one response, and
//! that each has one record. The decisions come from a seed.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::support::*;
use crate::body::file_range::Resident;
use crate::body::stream::BodySource;
use crate::body::{BodyStream, FileRange};
use crate::http::{Body, Response};
use crate::proto::file_read::FileBytes;
use crate::proto::h2::error_code::ErrorCode;

/// A generator of pseudo-random numbers (SplitMix64).
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }
}

/// What the client knows of one of its streams.
#[derive(Debug, Default)]
struct Exchange {
    /// The window for the response.
    window: i64,
    received: usize,
    expected: usize,
    has_head: bool,
    has_ended: bool,
    /// By the client.
    is_reset: bool,
    has_job: bool,
    /// Whether the client has ended the request.
    is_sent: bool,
    /// What may be sent of the request's body.
    upload_window: i64,
}

struct Model {
    rng: Rng,
    conversation: Conversation,
    streams: BTreeMap<u32, Exchange>,
    window: i64,
    upload_window: i64,
    initial_window: i64,
    next_id: u32,
}

const INITIAL: u32 = 20_000;

/// `/KIND/LEN`, and `/later` for a job.
fn respond(request: &crate::http::Request<'_>) -> Answer {
    let mut segments = request.path()[1..].split('/');
    let kind = segments.next().unwrap_or_default();
    let len: usize = segments
        .next()
        .and_then(|text| text.parse().ok())
        .unwrap_or(0);
    response(kind, len).map_or(Answer::Later, Answer::Now)
}

fn response(kind: &str, len: usize) -> Option<Response> {
    let body = match kind {
        "bytes" => Body::Bytes(vec![b'B'; len].into()),
        "file" => {
            let file = std::sync::Arc::new(std::fs::File::open("/dev/null").expect("a file"));
            Body::File(FileRange::new(file, 0, len as u64))
        }
        "made" => {
            let mut left = len;
            Body::Stream(BodyStream::produced(move || {
                let chunk = left.min(7_000);
                left -= chunk;
                Ok((chunk > 0).then(|| Bytes::from(vec![b'P'; chunk])))
            }))
        }
        _ => return None,
    };
    Some(Response::new(::http::StatusCode::OK).with_body(body))
}

impl Model {
    fn new(seed: u64) -> Self {
        let mut conversation = Conversation::new();
        conversation.handler = respond;
        conversation.send(&preface_with(&[(INITIAL_WINDOW_SIZE, INITIAL)]));
        Self {
            rng: Rng(seed),
            conversation,
            streams: BTreeMap::new(),
            window: 65_535,
            upload_window: 65_535,
            initial_window: INITIAL.into(),
            next_id: 1,
        }
    }

    fn step(&mut self) {
        // Floods are tested elsewhere.
        self.conversation.cx.now += std::time::Duration::from_millis(100);
        match self.rng.below(12) {
            0..=2 => self.request(),
            3 => self.upload(),
            4 => self.increase_window(),
            5 => self.change_initial_window(),
            6 if self.rng.one_in(3) => self.reset_one(),
            7 => self.answer_one(),
            8 => self.produce_one(),
            9 => self.probe_one(),
            10 => self.conversation.writable = !self.rng.one_in(3),
            _ => self.conversation.room = self.rng.below(100_000),
        }
        self.conversation.write_size = 1 + self.rng.below(70_000);
        if self.rng.one_in(4) {
            let results = &mut self.conversation.file_bytes;
            results.clear();
            results.push_back(FileBytes::NotResident);
        }
        self.conversation.run([]);
        self.check();
    }

    fn send(&mut self, bytes: &[u8]) {
        if self.rng.one_in(5) {
            self.conversation.run(bytes.chunks(7));
        } else {
            self.conversation.send(bytes);
        }
    }

    fn request(&mut self) {
        let open = self
            .streams
            .values()
            .filter(|it| !it.has_ended && !it.is_reset);
        let orphaned = self.streams.values().filter(|it| it.is_reset && it.has_job);
        if open.count() + orphaned.count() >= 60 {
            return;
        }
        let id = self.next_id;
        self.next_id += 2;
        let kinds = ["bytes", "file", "made", "later"];
        let kind = kinds[self.rng.below(kinds.len())];
        let len = self.rng.below(60_000);
        let path = format!("/{kind}/{len}");
        let has_body = self.rng.one_in(3);
        self.streams.insert(
            id,
            Exchange {
                window: self.initial_window,
                expected: if kind == "later" { 0 } else { len },
                is_sent: !has_body,
                upload_window: 65_535,
                ..Exchange::default()
            },
        );
        let head = if has_body {
            post(id, &path, &[])
        } else {
            get(id, &path)
        };
        self.send(&head);
    }

    fn pick(&mut self, filter: impl Fn(&Exchange) -> bool) -> Option<u32> {
        let ids: Vec<u32> = self
            .streams
            .iter()
            .filter(|(_, it)| filter(it))
            .map(|(id, _)| *id)
            .collect();
        (!ids.is_empty()).then(|| ids[self.rng.below(ids.len())])
    }

    fn upload(&mut self) {
        let Some(id) = self.pick(|it| !it.is_sent && !it.is_reset) else {
            return;
        };
        let most = self.streams[&id].upload_window.min(self.upload_window);
        let len = self.rng.below(5_000).min(most.max(0) as usize);
        let ends = self.rng.one_in(3) || len == 0;
        let flags = if ends { END_STREAM } else { 0 };
        self.upload_window -= len as i64;
        let stream = self.streams.get_mut(&id).expect("a stream");
        stream.upload_window -= len as i64;
        stream.is_sent = ends;
        self.send(&data(id, flags, &vec![b'u'; len]));
    }

    fn increase_window(&mut self) {
        let increment = 1 + self.rng.below(40_000) as u32;
        let id = self.pick(|it| !it.has_ended && !it.is_reset).unwrap_or(0);
        if self.rng.one_in(2) || id == 0 {
            self.window += i64::from(increment);
            self.send(&window_update(0, increment));
        } else {
            let stream = self.streams.get_mut(&id).expect("a stream");
            stream.window += i64::from(increment);
            self.send(&window_update(id, increment));
        }
    }

    fn change_initial_window(&mut self) {
        if !self.rng.one_in(10) {
            return;
        }
        let size = self.rng.below(50_000) as u32;
        let change = i64::from(size) - self.initial_window;
        self.initial_window = size.into();
        for stream in self.streams.values_mut() {
            stream.window += change;
        }
        // Sent as the server applies it, when it has read it.
        self.conversation.writable = true;
        self.conversation.room = usize::MAX;
        let frames = settings(&[(INITIAL_WINDOW_SIZE, size)]);
        self.conversation.send(&frames);
    }

    fn reset_one(&mut self) {
        if let Some(id) = self.pick(|it| !it.has_ended && !it.is_reset) {
            let stream = self.streams.get_mut(&id).expect("a stream");
            stream.is_reset = true;
            self.send(&reset(id, ErrorCode::Cancel));
        }
    }

    fn answer_one(&mut self) {
        let jobs = self.conversation.jobs.len();
        if jobs > 0 {
            let id = self.conversation.jobs[self.rng.below(jobs)];
            let len = self.rng.below(60_000);
            if let Some(stream) = self.streams.get_mut(&id) {
                stream.expected = len;
            }
            let kind = ["bytes", "file", "made"][self.rng.below(3)];
            let response = response(kind, len).expect("a response");
            self.conversation.answer(id, response);
        }
    }

    fn produce_one(&mut self) {
        if !self.conversation.pulls.is_empty() {
            assert!(matches!(
                self.conversation.pulls[0].1,
                BodySource::Producer(_)
            ));
            self.conversation.produce();
        }
    }

    fn probe_one(&mut self) {
        if !self.conversation.probes.is_empty() {
            let (_, range) = &self.conversation.probes[0];
            let len = range.len.min(10_000);
            let resident = if self.rng.one_in(2) {
                Resident::InKernel(len)
            } else {
                Resident::Read(Bytes::from(vec![b'R'; len as usize]))
            };
            self.conversation.probed(Ok(resident));
        }
    }

    /// Checks what the server has sent since the last time.
    fn check(&mut self) {
        let sent = std::mem::take(&mut self.conversation.sent);
        for frame in &sent {
            match frame {
                Sent::Head { stream, ends, .. } => {
                    let stream = self.streams.get_mut(stream).expect("a request");
                    assert!(!stream.has_head, "two responses");
                    stream.has_head = true;
                    stream.has_ended = *ends;
                }
                Sent::Data {
                    stream: id,
                    bytes,
                    ends,
                } => {
                    let stream = self.streams.get_mut(id).expect("a request");
                    assert!(stream.has_head && !stream.has_ended, "{id}: {stream:?}");
                    stream.window -= bytes.len() as i64;
                    stream.received += bytes.len();
                    self.window -= bytes.len() as i64;
                    // A window that settings have reduced may be negative only by that.
                    if !bytes.is_empty() {
                        assert!(self.window >= 0, "window of the connection");
                    }
                    stream.has_ended = *ends;
                    if *ends && !stream.is_reset {
                        assert_eq!(stream.received, stream.expected, "{id}: {stream:?}");
                    }
                }
                Sent::Reset(id, code) => {
                    let stream = self.streams.get_mut(id).expect("a request");
                    assert_eq!(*code, ErrorCode::NoError, "{id}: {stream:?}");
                    assert!(stream.has_ended && !stream.is_sent);
                    stream.is_sent = true;
                }
                Sent::WindowUpdate(0, increment) => self.upload_window += i64::from(*increment),
                Sent::WindowUpdate(id, increment) => {
                    let stream = self.streams.get_mut(id).expect("a request");
                    stream.upload_window += i64::from(*increment);
                }
                Sent::GoAway(..) => panic!("{frame:?}"),
                Sent::HeadPart { stream, .. } => panic!("half of the head of {stream}"),
                Sent::Settings | Sent::SettingsAck | Sent::Ping | Sent::PingAck(_) => {}
            }
        }
        let pulls = self.conversation.pulls.len() + self.conversation.probes.len();
        assert!(self.conversation.jobs.len() + pulls <= 16, "too many jobs");
        let jobs = &self.conversation.jobs;
        for (id, stream) in &mut self.streams {
            stream.has_job = jobs.contains(id);
        }
    }

    /// Lets everything that was begun come to its end.
    fn finish(&mut self) {
        self.conversation.writable = true;
        self.conversation.file_bytes.clear();
        for _ in 0..10_000 {
            self.conversation.room = usize::MAX;
            self.conversation.cx.now += std::time::Duration::from_millis(100);
            self.window += 100_000;
            self.conversation.send(&window_update(0, 100_000));
            self.answer_one();
            self.produce_one();
            self.probe_one();
            self.check();
            self.upload();
            if let Some(id) = self.pick(|it| !it.has_ended && !it.is_reset && it.window < 100_000) {
                self.streams.get_mut(&id).expect("a stream").window += 100_000;
                self.conversation.send(&window_update(id, 100_000));
            }
            self.check();
            let is_over = |it: &Exchange| it.has_ended || it.is_reset;
            if self.streams.values().all(is_over)
                && self.streams.values().all(|it| it.is_sent || it.is_reset)
                && self.conversation.jobs.is_empty()
                && self.conversation.pulls.is_empty()
                && self.conversation.probes.is_empty()
            {
                break;
            }
        }
        for (id, stream) in &self.streams {
            assert!(stream.has_ended || stream.is_reset, "{id}: {stream:?}");
        }
        let records = self.conversation.records.len();
        assert_eq!(records, self.streams.len(), "one record for each request");
        assert_eq!(self.conversation.machine.open_streams(), 0);
    }
}

#[test]
fn connection_equals_its_model() {
    for seed in 0..60 {
        let mut model = Model::new(seed);
        for _ in 0..300 {
            model.step();
        }
        model.finish();
    }
}
