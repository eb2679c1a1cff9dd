//! The access log: one line for each request, written by a thread of its own.
//!
//! An event loop collects [`Record`]s in its [`LogSender`] and hands them over in batches, through a
//! queue that is bounded and that it never waits for. Whatever happens to the log (a full disk, a
//! pipe that nobody reads), requests go on being answered; lines that find no room are dropped
//! and counted. How a line looks is the business of `line`, where it goes that of `writer`.

mod format;
#[cfg(test)]
mod tests;
mod writer;

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, SystemTime};

pub use crate::proto::record::{Completion, Record};

use crate::error::Error;
use format::Renderer;
use writer::{Output, Writer};

/// How a line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `name|ip|port|count`, where `count` is how often that name was requested since the start.
    ///
    /// The name is the decoded path without its first slash, and `/` for the root. It is `-` if
    /// what came was no request. The count is `-` if the table of counts has no room for another
    /// name: it has 10,000, of up to 1 KiB each, of which requests that fail get at most half.
    AccessCount,
    /// The Common Log Format of the NCSA and Apache, in UTC.
    Common,
    /// The same with Referer and User-Agent.
    Combined,
    /// One JSON object, in ASCII.
    Json,
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "access-count" => Ok(Self::AccessCount),
            "common" => Ok(Self::Common),
            "combined" => Ok(Self::Combined),
            "json" => Ok(Self::Json),
            _ => Err(format!(
                "unknown access log format: {text}; use access-count, common, combined or json"
            )),
        }
    }
}

/// Where lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogDestination {
    /// The standard output.
    Stdout,
    /// The end of a file, which is created if it is not there.
    File(PathBuf),
}

/// What may wait for the writer, in memory; some 50,000 requests.
const MAX_QUEUED_BYTES: usize = 16 * 1024 * 1024;

/// A batch that takes more memory than this is handed over; some 200 requests.
const MAX_BATCH_BYTES: usize = 64 * 1024;

/// An access log that nobody writes yet.
#[derive(Debug)]
pub struct UnstartedLog {
    format: Format,
    outputs: Vec<Output>,
}

impl UnstartedLog {
    /// Starts the thread that writes.
    pub fn start(self) -> Result<AccessLog, Error> {
        AccessLog::with_outputs(self.format, self.outputs)
    }
}

/// A record and the time at which its exchange was complete.
#[derive(Debug)]
struct Entry {
    record: Record,
    time: SystemTime,
}

/// What one event loop hands over.
#[derive(Debug, Default)]
struct Batch {
    entries: Vec<Entry>,
    /// The memory they take.
    bytes: usize,
}

/// What the writer is told, in this order.
#[derive(Debug)]
enum Message {
    Batch(Batch),
    /// What was handed over before goes to the old files, what comes after to the new ones.
    Reopen,
}

/// What the sinks, the writer and the log itself know together.
#[derive(Debug, Default)]
struct Shared {
    /// Lines that some destination did not get.
    dropped: AtomicU64,
    /// Lines handed over and not yet written.
    queued: AtomicU64,
    /// The memory they take.
    queued_bytes: AtomicUsize,
    finishing: AtomicBool,
}

/// Sees how many lines were dropped.
#[derive(Clone, Debug)]
pub(crate) struct DropCounter(Arc<Shared>);

impl DropCounter {
    pub(crate) fn count(&self) -> u64 {
        self.0.dropped.load(Ordering::Relaxed)
    }
}

/// A running access log.
#[derive(Debug)]
pub struct AccessLog {
    inlet: AccessLogHandle,
    /// Disconnected when the writer has ended.
    writing: Receiver<()>,
}

/// Where a further server can write to the same log. What comes when the log has finished is lost.
#[derive(Clone, Debug)]
pub struct AccessLogHandle {
    messages: Sender<Message>,
    shared: Arc<Shared>,
}

impl AccessLogHandle {
    /// Sees how many lines are dropped, also when the log has ended.
    pub(crate) fn drops(&self) -> DropCounter {
        DropCounter(Arc::clone(&self.shared))
    }

    /// A sink for one event loop.
    pub(crate) fn sink(&self) -> LogSender {
        LogSender {
            batch: Batch::default(),
            messages: self.messages.clone(),
            shared: Arc::clone(&self.shared),
        }
    }
}

impl AccessLog {
    /// Opens the destinations, which all get the same lines, and starts the thread that writes.
    pub fn start(format: Format, destinations: &[LogDestination]) -> Result<Self, Error> {
        Self::open(format, destinations)?.start()
    }

    /// Opens the destinations only: whoever gives up privileges does so before there are threads.
    pub fn open(format: Format, destinations: &[LogDestination]) -> Result<UnstartedLog, Error> {
        let outputs: Result<Vec<Output>, Error> = destinations.iter().map(open).collect();
        let outputs = outputs?;
        Ok(UnstartedLog { format, outputs })
    }

    fn with_outputs(format: Format, outputs: Vec<Output>) -> Result<Self, Error> {
        let (messages, queue) = mpsc::channel();
        let (ended, writing) = mpsc::channel();
        let shared = Arc::new(Shared::default());
        let writer = Writer::new(Renderer::new(format), outputs, Arc::clone(&shared));
        thread::Builder::new()
            .name("access-log".to_owned())
            .spawn(move || {
                writer.run(&queue);
                drop(ended);
            })
            .map_err(Error::system("start the access log thread"))?;
        let inlet = AccessLogHandle { messages, shared };
        Ok(Self { inlet, writing })
    }

    /// A sink for one event loop.
    pub fn sink(&self) -> LogSender {
        self.inlet.sink()
    }

    /// For a server beside the one that has the log.
    pub fn inlet(&self) -> AccessLogHandle {
        self.inlet.clone()
    }

    /// Has its files opened anew whenever it is told to, from any thread.
    pub fn reopener(&self) -> Reopener {
        Reopener {
            messages: self.inlet.messages.clone(),
        }
    }

    /// How many lines were dropped so far: counted for each destination that did not get them,
    /// and once if they did not even find a place in the queue.
    pub fn dropped(&self) -> u64 {
        self.inlet.shared.dropped.load(Ordering::Relaxed)
    }

    /// Has all that was handed over written, but waits at most `patience`: a pipe that nobody
    /// reads must not keep the process from ending. Returns how many lines were dropped, with
    /// those that are still not written.
    pub fn finish(self, patience: Duration) -> u64 {
        self.inlet.shared.finishing.store(true, Ordering::SeqCst);
        // An empty batch, to wake the writer; if it has ended there is nobody to wake.
        let _ = self.inlet.messages.send(Message::Batch(Batch::default()));
        let _ = self.writing.recv_timeout(patience);
        self.dropped() + self.inlet.shared.queued.load(Ordering::SeqCst)
    }
}

fn open(destination: &LogDestination) -> Result<Output, Error> {
    const PURPOSE: &str = "write the access log to";
    match destination {
        LogDestination::Stdout => {
            let file = unbuffered_stdout()
                .map_err(|error| Error::path(PURPOSE, "standard output", error))?;
            Ok(Output::new("standard output", Box::new(file)))
        }
        LogDestination::File(path) => {
            let file = append_to(path).map_err(|error| match error.kind() {
                io::ErrorKind::PermissionDenied if matches!(path.try_exists(), Ok(false)) => {
                    let folder = path
                        .parent()
                        .filter(|folder| !folder.as_os_str().is_empty());
                    let folder = folder.unwrap_or(Path::new("."));
                    let text = format!("no write permission in {}", folder.display());
                    Error::path("create", path, io::Error::other(text))
                }
                _ => Error::path(PURPOSE, path, error),
            })?;
            Ok(Output::to_file(path, file))
        }
    }
}

/// Neither std's lock nor its line buffer: a writer that is stuck must not hold either.
fn unbuffered_stdout() -> io::Result<File> {
    Ok(io::stdout().as_fd().try_clone_to_owned()?.into())
}

fn append_to(path: &Path) -> io::Result<File> {
    let is_fifo = path
        .metadata()
        .is_ok_and(|metadata| metadata.file_type().is_fifo());
    OpenOptions::new()
        .append(true)
        .create(true)
        // With a reader of its own, opening a FIFO does not wait for another's (fifo(7)).
        .read(is_fifo)
        .open(path)
}

/// Has the files of an access log opened anew, as after logrotate(8) has moved them. Until it is
/// dropped the thread that writes does not end by itself, only by [`AccessLog::finish`].
#[derive(Clone, Debug)]
pub struct Reopener {
    messages: Sender<Message>,
}

impl Reopener {
    /// Asks for it, and does not wait: lines of requests that are complete now go to where they went
    /// before. A file that cannot be opened is written on, and the log of errors says so.
    pub fn reopen(&self) {
        // Who has finished writes nothing more, anywhere.
        let _ = self.messages.send(Message::Reopen);
    }
}

/// Where one event loop puts its records. What is in it when it is dropped is handed over.
#[derive(Debug)]
pub struct LogSender {
    batch: Batch,
    messages: Sender<Message>,
    shared: Arc<Shared>,
}

impl LogSender {
    /// Collects the record of an exchange that is complete now.
    pub fn record(&mut self, record: Record) {
        let optional = |field: &Option<Vec<u8>>| field.as_ref().map_or(0, Vec::len);
        self.batch.bytes += size_of::<Entry>()
            + record.line.len()
            + optional(&record.referer)
            + optional(&record.user_agent);
        self.batch.entries.push(Entry {
            record,
            time: SystemTime::now(),
        });
        if self.batch.bytes >= MAX_BATCH_BYTES {
            self.flush();
        }
    }

    /// Hands over what is collected, without waiting. If too much waits for the writer already it
    /// is dropped, and its lines are counted.
    pub fn flush(&mut self) {
        let batch = std::mem::take(&mut self.batch);
        let lines = batch.entries.len() as u64;
        if lines == 0 {
            return;
        }
        let bytes = batch.bytes;
        let queued = self.shared.queued_bytes.fetch_add(bytes, Ordering::SeqCst);
        // Before the writer can subtract it.
        self.shared.queued.fetch_add(lines, Ordering::SeqCst);
        let room = queued + bytes <= MAX_QUEUED_BYTES;
        if !room || self.messages.send(Message::Batch(batch)).is_err() {
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
