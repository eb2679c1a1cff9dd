//! The samples as server-sent events: one thread takes them for all clients, while there are clients.

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::sampler::{Sample, Sampler};
use crate::body::{Broadcast, Event, EventStream};
use crate::panics::catch;
use crate::server::ServerState;
use crate::sync::Mutex;

/// The delay before a client reconnects.
const RETRY: Duration = Duration::from_secs(1);

/// Sends samples to its clients.
pub(super) struct SampleFeed {
    sampler: Arc<Sampler>,
    /// What the thread sends to, while there is one.
    running: Mutex<Option<Broadcast>>,
}

impl SampleFeed {
    pub(super) fn new(sampler: &Arc<Sampler>) -> Arc<Self> {
        Arc::new(Self {
            sampler: Arc::clone(sampler),
            running: Mutex::new(None),
        })
    }

    /// Returns a stream of the latest sample and those after it, until the observed server has ended.
    ///
    /// # Errors
    ///
    /// The thread cannot be started.
    pub(super) fn subscribe(self: &Arc<Self>) -> io::Result<EventStream> {
        let mut running = self.running.lock();
        if let Some(samples) = &*running {
            return Ok(samples.subscribe_with_history());
        }
        let samples = Broadcast::new(1);
        let events = samples.subscribe();
        let (feed, sender) = (Arc::clone(self), samples.clone());
        let thread = thread::Builder::new().name("sample-feed".to_owned());
        thread.spawn(move || feed.run(&sender))?;
        *running = Some(samples);
        Ok(events)
    }

    fn run(&self, samples: &Broadcast) {
        if catch(|| self.send(samples)).is_err() {
            log::error!("admin: the thread that takes samples panicked");
            self.running.lock().take();
        }
    }

    /// Sends samples until there are no clients, or the observed server has ended.
    fn send(&self, samples: &Broadcast) {
        let mut sample = self.sampler.latest();
        loop {
            if let Ok(event) = event(&sample) {
                samples.send(event);
            }
            // Locked, so that no client subscribes to what has ended.
            let mut running = self.running.lock();
            if samples.subscribers() == 0 || sample.phase == ServerState::Ended {
                *running = None;
                return;
            }
            drop(running);
            sample = self.sampler.after(sample.number);
        }
    }
}

fn event(sample: &Sample) -> io::Result<Event> {
    let event = Event::json(sample)?.with_id(sample.number.to_string());
    Ok(event.with_retry(RETRY))
}
