//! What the senders and the writer of an access log share: messages and counters.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
use std::time::SystemTime;

use crate::proto::record::Record;

/// A record and the time at which its exchange ended.
#[derive(Debug)]
pub(super) struct TimedRecord {
    pub(super) record: Record,
    pub(super) time: SystemTime,
}

/// The records that one event loop passes on together.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) records: Vec<TimedRecord>,
    /// The memory that the records use.
    pub(super) bytes: usize,
}

/// A message to the writer. Messages are handled in order.
#[derive(Debug)]
pub(super) enum LogMessage {
    Batch(Batch),
    /// Reopen the files. Batches sent before go to the old files, later ones to the new files.
    Reopen,
}

/// The counters that the senders, the writer and the log share.
#[derive(Debug, Default)]
pub(super) struct LogState {
    /// Lines that were not written, counted for each destination.
    pub(super) dropped: AtomicU64,
    /// Lines in the queue that are not written yet.
    pub(super) queued: AtomicU64,
    /// The memory that these lines use, in bytes.
    pub(super) queued_bytes: AtomicUsize,
    /// Set when the writer is to stop once the queue is empty.
    pub(super) finishing: AtomicBool,
}
