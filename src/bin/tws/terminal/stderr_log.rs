//! The diagnostics on standard error. They are written by a thread of their own: many are logged by an
//! event loop or the acceptor, which must not block on a pipe that is not read. While the view of
//! `--tui` has the terminal, the last lines are kept for it instead.

use std::collections::VecDeque;
use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread;
use std::time::Duration;

use env_logger::{Builder, Env, Logger, Target, WriteStyle};
use log::{LevelFilter, Log, Metadata, Record};

use super::paint::supports_color;
use super::stdio::one_line;
use crate::sync::Mutex;

/// Maximum number of messages that wait to be written. Further ones are lost, so that a thread that
/// logs never waits for the reader of standard error.
const MAX_WAITING: usize = 1024;

/// Maximum number of lines that are kept for the view.
const MAX_TAIL: usize = 100;

/// How long the end of the process waits for the messages to be written.
const FLUSH_TIMEOUT: Duration = Duration::from_millis(500);

/// The logger of the process. Waiting messages are written when this is dropped.
pub(crate) struct Diagnostics {
    sender: SyncSender<StderrMessage>,
    /// Taken by the thread that writes the messages.
    receiver: Option<Receiver<StderrMessage>>,
    tail: LogTail,
}

impl Diagnostics {
    /// Installs the logger, at `level` unless `RUST_LOG` sets it. A reload is always reported, unless only
    /// errors are. Messages have `style` if standard error is a terminal that supports colours. They wait
    /// until [`start_writer`](Self::start_writer) is called.
    pub(crate) fn install(level: LevelFilter, style: WriteStyle) -> Self {
        let (sender, receiver) = mpsc::sync_channel(MAX_WAITING);
        let style = if supports_color(&io::stderr()) {
            style
        } else {
            WriteStyle::Never
        };
        let filter = match level {
            LevelFilter::Warn => "warn,tws::lifecycle::reload=info",
            level => level.as_str(),
        };
        let logger = Builder::from_env(Env::default().default_filter_or(filter))
            .target(Target::Pipe(Box::new(QueueWriter(sender.clone()))))
            .write_style(style)
            .build();
        let max_level = logger.filter();
        if log::set_boxed_logger(Box::new(LineLogger(logger))).is_ok() {
            log::set_max_level(max_level);
        }
        Self {
            sender,
            receiver: Some(receiver),
            tail: LogTail::default(),
        }
    }

    /// Starts the thread that writes the messages.
    pub(crate) fn start_writer(&mut self) -> io::Result<()> {
        let Some(receiver) = self.receiver.take() else {
            return Ok(());
        };
        let tail = self.tail.clone();
        thread::Builder::new()
            .name("diagnostics".to_owned())
            .spawn(move || receiver.iter().for_each(|message| message.write(&tail)))
            .map(|_| ())
    }

    #[cfg(feature = "tui")]
    pub(crate) fn tail(&self) -> &LogTail {
        &self.tail
    }
}

/// Escapes what would control a terminal in messages, which may contain names of files and requests.
struct LineLogger(Logger);

impl Log for LineLogger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.0.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        if self.0.matches(record) {
            let text = one_line(&record.args().to_string());
            let mut line = Record::builder();
            line.metadata(record.metadata().clone())
                .module_path(record.module_path())
                .file(record.file())
                .line(record.line());
            self.0.log(&line.args(format_args!("{text}")).build());
        }
    }

    fn flush(&self) {
        self.0.flush();
    }
}

impl Drop for Diagnostics {
    fn drop(&mut self) {
        if let Some(receiver) = self.receiver.take() {
            return receiver
                .try_iter()
                .for_each(|message| message.write(&self.tail));
        }
        let (done, written) = mpsc::sync_channel(0);
        if self.sender.try_send(StderrMessage::Flush(done)).is_ok() {
            let _ = written.recv_timeout(FLUSH_TIMEOUT);
        }
    }
}

enum StderrMessage {
    Text(Vec<u8>),
    /// The sender is dropped when all earlier messages are written.
    Flush(SyncSender<()>),
}

impl StderrMessage {
    fn write(self, tail: &LogTail) {
        match self {
            // Output to a file does not disturb the view, so it goes to both.
            Self::Text(text) if tail.add(&text) && io::stderr().is_terminal() => {}
            // An error cannot be reported anywhere.
            Self::Text(text) => drop(io::stderr().write_all(&text)),
            Self::Flush(done) => drop(done),
        }
    }
}

/// Sends what the logger writes to the thread.
struct QueueWriter(SyncSender<StderrMessage>);

impl Write for QueueWriter {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        // The queue is full or the thread has ended: the message is lost.
        let _ = self.0.try_send(StderrMessage::Text(text.to_vec()));
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The last lines, for the view of `--tui`.
#[derive(Clone, Default)]
pub(crate) struct LogTail(Arc<Mutex<TailState>>);

#[derive(Default)]
struct TailState {
    /// Whether the view is on the screen; only then lines are kept.
    is_shown: bool,
    lines: VecDeque<String>,
    /// The number of all lines, including those no longer kept.
    count: u64,
}

impl LogTail {
    /// Keeps the lines of `text`. Returns false, and keeps nothing, if the view is not on the screen.
    fn add(&self, text: &[u8]) -> bool {
        let mut state = self.0.lock();
        if !state.is_shown {
            return false;
        }
        for line in String::from_utf8_lossy(text).lines() {
            if state.lines.len() == MAX_TAIL {
                state.lines.pop_front();
            }
            state.lines.push_back(line.to_owned());
            state.count += 1;
        }
        true
    }
}

#[cfg(feature = "tui")]
impl LogTail {
    /// Keeps lines from now on, instead of writing them to the terminal.
    pub(crate) fn open(&self) {
        self.0.lock().is_shown = true;
    }

    /// Writes lines to standard error from now on.
    pub(crate) fn close(&self) {
        self.0.lock().is_shown = false;
    }

    /// Returns the number of all lines so far.
    pub(crate) fn count(&self) -> u64 {
        self.0.lock().count
    }

    /// Returns the last lines, at most `max`.
    pub(crate) fn last(&self, max: usize) -> Vec<String> {
        let state = self.0.lock();
        let skipped = state.lines.len().saturating_sub(max);
        state.lines.iter().skip(skipped).cloned().collect()
    }
}
