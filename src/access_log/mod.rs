//! The access log: one line for each request, written by a thread of its own.
//!
//! ```no_run
//! use tws::access_log::{AccessLog, Format, LogDestination};
//! use tws::{Config, Server, StaticFiles};
//!
//! # fn main() -> Result<(), tws::Error> {
//! let log = AccessLog::start(Format::Combined, &[LogDestination::File("access.log".into())])?;
//! let server = Server::bind(Config::default())?.with_access_log(log);
//! server.serve(StaticFiles::new("www")?)
//! # }
//! ```
//!
//! An event loop collects [`Record`]s in its [`LogSender`] and passes them on in batches, through a
//! bounded queue that it never waits for. A log that cannot be written (a full disk, a pipe without a
//! reader) does not delay requests: lines that do not fit into the queue are dropped and counted. The
//! submodule `format` renders lines; `writer` writes them; `message` has what the senders and the writer
//! share.

mod exclusion;
mod format;
mod message;
mod template;
#[cfg(test)]
mod tests;
mod writer;

use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, SystemTime};

pub use crate::http::forwarded::TlsVersion;
pub use crate::proto::record::{Completion, Record};
pub use exclusion::LogExclusion;
pub use format::Format;
pub use template::LineTemplate;

use crate::error::Error;
use format::{Addresses, Renderer};
use message::{Batch, LogMessage, LogState, TimedRecord};
use writer::{LogOutput, LogWriter, append_to};

/// Where lines are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogDestination {
    /// Standard output.
    Stdout,
    /// The end of a file, which is created if it does not exist.
    File(PathBuf),
}

/// The limit of records that wait for the writer, in bytes of memory; about 50,000 requests.
const MAX_QUEUED_BYTES: usize = 16 * 1024 * 1024;

/// A batch of this size in bytes of memory is passed on; about 200 requests.
const MAX_BATCH_BYTES: usize = 64 * 1024;

/// An access log whose destinations are open and whose thread is not started yet.
#[derive(Debug)]
pub struct UnstartedLog {
    renderer: Renderer,
    outputs: Vec<LogOutput>,
}

impl UnstartedLog {
    /// Adds the destinations of another log, which get the lines in the format of this one.
    pub fn extend(&mut self, other: Self) {
        self.outputs.extend(other.outputs);
    }

    /// Writes no lines for these requests.
    pub fn excluding(mut self, exclusions: Vec<LogExclusion>) -> Self {
        self.renderer = self.renderer.excluding(exclusions);
        self
    }

    /// Writes networks instead of addresses: the /24 of an IPv4 address and the /48 of an IPv6 address,
    /// and 0 as the port.
    pub fn anonymized(mut self) -> Self {
        self.renderer = self.renderer.with_addresses(Addresses::Anonymized);
        self
    }

    /// Starts the thread that writes.
    ///
    /// # Errors
    ///
    /// [`Error::System`] if the thread cannot be started.
    pub fn start(self) -> Result<AccessLog, Error> {
        AccessLog::with_outputs(self.renderer, self.outputs)
    }
}

/// Reads the number of dropped lines, also after the log has ended.
#[derive(Clone, Debug)]
pub(crate) struct DropCounter(Arc<LogState>);

impl DropCounter {
    pub(crate) fn count(&self) -> u64 {
        self.0.dropped.load(Ordering::Relaxed)
    }
}

/// A running access log.
#[derive(Debug)]
pub struct AccessLog {
    handle: AccessLogHandle,
    /// Disconnected when the writer thread has ended.
    writer_alive: Receiver<()>,
}

/// A handle with which another server writes to the same log. Records sent after
/// [`AccessLog::finish`] are lost.
#[derive(Clone, Debug)]
pub struct AccessLogHandle {
    messages: Sender<LogMessage>,
    shared: Arc<LogState>,
    observer: Option<RecordObserver>,
}

/// What is called for each record.
#[derive(Clone)]
struct RecordObserver(Arc<dyn Fn(&Record) + Send + Sync>);

impl fmt::Debug for RecordObserver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RecordObserver")
    }
}

impl AccessLogHandle {
    /// Calls `observe` for each record that a server with this handle writes, on the event loop: it must
    /// not block.
    pub fn observed_by(mut self, observe: impl Fn(&Record) + Send + Sync + 'static) -> Self {
        self.observer = Some(RecordObserver(Arc::new(observe)));
        self
    }

    /// Returns a reader of the number of dropped lines.
    pub(crate) fn drops(&self) -> DropCounter {
        DropCounter(Arc::clone(&self.shared))
    }

    /// Creates a sender for one event loop.
    pub(crate) fn sender(&self) -> LogSender {
        LogSender {
            batch: Batch::default(),
            messages: self.messages.clone(),
            shared: Arc::clone(&self.shared),
            observer: self.observer.clone(),
        }
    }
}

impl AccessLog {
    /// Opens the destinations, which all get the same lines, and starts the thread that writes.
    ///
    /// # Errors
    ///
    /// [`Error::Path`] if a destination cannot be opened, [`Error::System`] if the thread cannot be
    /// started.
    pub fn start(format: Format, destinations: &[LogDestination]) -> Result<Self, Error> {
        Self::open(format, destinations)?.start()
    }

    /// Opens the destinations without starting a thread: a process that drops privileges opens them
    /// before it has threads.
    ///
    /// # Errors
    ///
    /// [`Error::Path`] if a destination cannot be opened.
    pub fn open(format: Format, destinations: &[LogDestination]) -> Result<UnstartedLog, Error> {
        let outputs: Result<Vec<LogOutput>, Error> = destinations.iter().map(open).collect();
        let outputs = outputs?;
        Ok(UnstartedLog {
            renderer: Renderer::new(format),
            outputs,
        })
    }

    fn with_outputs(renderer: Renderer, outputs: Vec<LogOutput>) -> Result<Self, Error> {
        let (messages, queue) = mpsc::channel();
        let (ended, writer_alive) = mpsc::channel();
        let shared = Arc::new(LogState::default());
        let writer = LogWriter::new(renderer, outputs, Arc::clone(&shared));
        thread::Builder::new()
            .name("access-log".to_owned())
            .spawn(move || {
                writer.run(&queue);
                drop(ended);
            })
            .map_err(Error::system("start the access log thread"))?;
        let handle = AccessLogHandle {
            messages,
            shared,
            observer: None,
        };
        Ok(Self {
            handle,
            writer_alive,
        })
    }

    /// Creates a sender for one event loop.
    pub fn sender(&self) -> LogSender {
        self.handle.sender()
    }

    /// Returns a handle with which another server writes to this log.
    pub fn handle(&self) -> AccessLogHandle {
        self.handle.clone()
    }

    /// Returns a handle that reopens the files of the log, from any thread.
    pub fn reopener(&self) -> Reopener {
        Reopener {
            messages: self.handle.messages.clone(),
        }
    }

    /// Returns the number of lines dropped so far. A line is counted for each destination that could not
    /// write it, and once if it did not fit into the queue.
    pub fn dropped(&self) -> u64 {
        self.handle.shared.dropped.load(Ordering::Relaxed)
    }

    /// Waits until all records are written, but at most `timeout`, so that a pipe without a reader does
    /// not keep the process from ending. Returns the number of dropped lines, including those that are
    /// still not written.
    pub fn finish(self, timeout: Duration) -> u64 {
        self.handle.shared.finishing.store(true, Ordering::SeqCst);
        // An empty batch wakes the writer. Sending fails only if the writer has ended.
        let _ = self
            .handle
            .messages
            .send(LogMessage::Batch(Batch::default()));
        let _ = self.writer_alive.recv_timeout(timeout);
        self.dropped() + self.handle.shared.queued.load(Ordering::SeqCst)
    }
}

fn open(destination: &LogDestination) -> Result<LogOutput, Error> {
    const PURPOSE: &str = "write the access log to";
    match destination {
        LogDestination::Stdout => {
            let file = unbuffered_stdout()
                .map_err(|error| Error::path(PURPOSE, "standard output", error))?;
            Ok(LogOutput::new("standard output", Box::new(file)))
        }
        LogDestination::File(path) => {
            let file = append_to(path).map_err(|error| Error::new_file(PURPOSE, path, error))?;
            Ok(LogOutput::to_file(path, file))
        }
    }
}

/// Opens standard output without std's lock and line buffer, which a blocked writer would hold.
fn unbuffered_stdout() -> io::Result<File> {
    Ok(io::stdout().as_fd().try_clone_to_owned()?.into())
}

/// Reopens the files of an access log, for example after logrotate(8) has renamed them. While a
/// `Reopener` exists, the writer thread ends only through [`AccessLog::finish`].
#[derive(Clone, Debug)]
pub struct Reopener {
    messages: Sender<LogMessage>,
}

impl Reopener {
    /// Requests that the files are reopened, without waiting. Lines of requests that are complete
    /// already go to the old files. If a file cannot be opened, an error is logged and the old file
    /// stays in use.
    pub fn reopen(&self) {
        // After `finish` there is no writer, and nothing is written to any file.
        let _ = self.messages.send(LogMessage::Reopen);
    }
}

/// Collects the records of one event loop and sends them to the writer. Dropping it sends what it has.
#[derive(Debug)]
pub struct LogSender {
    batch: Batch,
    messages: Sender<LogMessage>,
    shared: Arc<LogState>,
    observer: Option<RecordObserver>,
}

impl LogSender {
    /// Adds the record of an exchange that ends now.
    pub fn record(&mut self, record: Record) {
        if let Some(RecordObserver(observe)) = &self.observer {
            observe(&record);
        }
        let optional = |field: &Option<Vec<u8>>| field.as_ref().map_or(0, Vec::len);
        self.batch.bytes += size_of::<TimedRecord>()
            + record.line.len()
            + record.user.as_ref().map_or(0, |user| user.len())
            + optional(&record.host)
            + optional(&record.referer)
            + optional(&record.user_agent);
        self.batch.records.push(TimedRecord {
            record,
            time: SystemTime::now(),
        });
        if self.batch.bytes >= MAX_BATCH_BYTES {
            self.flush();
        }
    }

    /// Sends the collected records, without waiting. If the queue is full, they are dropped and
    /// counted.
    pub fn flush(&mut self) {
        let batch = std::mem::take(&mut self.batch);
        let lines = batch.records.len() as u64;
        if lines == 0 {
            return;
        }
        let bytes = batch.bytes;
        let queued = self.shared.queued_bytes.fetch_add(bytes, Ordering::SeqCst);
        // Added before the batch is sent, so that the writer cannot subtract first.
        self.shared.queued.fetch_add(lines, Ordering::SeqCst);
        let has_room = queued + bytes <= MAX_QUEUED_BYTES;
        if !has_room || self.messages.send(LogMessage::Batch(batch)).is_err() {
            self.shared.queued_bytes.fetch_sub(bytes, Ordering::SeqCst);
            self.shared.queued.fetch_sub(lines, Ordering::SeqCst);
            self.shared.dropped.fetch_add(lines, Ordering::Relaxed);
        }
    }
}

impl Drop for LogSender {
    fn drop(&mut self) {
        self.flush();
    }
}
