//! Diagnostics on standard error, by a thread of their own: whoever logs is often an event loop or
//! the acceptor, and standard error may be a pipe that nobody reads. While something else has the
//! terminal, they are kept for it to show.

use std::collections::VecDeque;
use std::io::{self, IsTerminal, Write};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use env_logger::{Builder, Env, Target, WriteStyle};
use log::LevelFilter;

use super::paint::supports_color;

/// Lines that wait; more are lost, which is better than to wait for a reader.
const MAX_WAITING: usize = 1024;

/// How long the end of the process waits for them.
const PATIENCE: Duration = Duration::from_millis(500);

enum Message {
    Text(Vec<u8>),
    /// All before this is written when the other end is dropped.
    Flush(SyncSender<()>),
}

struct Queue(SyncSender<Message>);

impl Write for Queue {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        // Full, or the thread is gone: nobody can be told.
        let _ = self.0.try_send(Message::Text(text.to_vec()));
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Lines that are kept to be shown.
const MAX_SHOWN: usize = 100;

/// The last lines, for who shows them.
#[derive(Clone, Default)]
pub(crate) struct Lines(Arc<Mutex<Recent>>);

#[derive(Default)]
struct Recent {
    shown: Shown,
    lines: VecDeque<String>,
    /// Of all there were.
    count: u64,
}

/// Whether somebody shows them.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Shown {
    #[default]
    Nowhere,
    #[cfg_attr(
        not(feature = "tui"),
        expect(dead_code, reason = "set only with the feature tui")
    )]
    OnScreen,
}

impl Lines {
    /// False if nobody shows them.
    fn add(&self, text: &[u8]) -> bool {
        let mut recent = self.lock();
        if recent.shown == Shown::Nowhere {
            return false;
        }
        for line in String::from_utf8_lossy(text).lines() {
            if recent.lines.len() == MAX_SHOWN {
                recent.lines.pop_front();
            }
            recent.lines.push_back(line.to_owned());
            recent.count += 1;
        }
        true
    }

    fn lock(&self) -> MutexGuard<'_, Recent> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(feature = "tui")]
impl Lines {
    /// From now on they are shown.
    pub(crate) fn open(&self) {
        self.lock().shown = Shown::OnScreen;
    }

    /// From now on they go to standard error.
    pub(crate) fn close(&self) {
        self.lock().shown = Shown::Nowhere;
    }

    /// How many there have been.
    pub(crate) fn count(&self) -> u64 {
        self.lock().count
    }

    /// The last so many.
    pub(crate) fn last(&self, most: usize) -> Vec<String> {
        let recent = self.lock();
        let skipped = recent.lines.len().saturating_sub(most);
        recent.lines.iter().skip(skipped).cloned().collect()
    }
}

/// The diagnostics; what waits is written when this is dropped.
pub(crate) struct Diagnostics {
    sender: SyncSender<Message>,
    /// Until there is a thread that has it.
    queue: Option<Receiver<Message>>,
    lines: Lines,
}

impl Diagnostics {
    /// Collects them, at `level` unless `RUST_LOG` says otherwise. In `style` if they go to a
    /// terminal that takes colours.
    pub(crate) fn collect(level: LevelFilter, style: WriteStyle) -> Self {
        let (sender, queue) = mpsc::sync_channel(MAX_WAITING);
        let style = match supports_color(&io::stderr()) {
            true => style,
            false => WriteStyle::Never,
        };
        Builder::from_env(Env::default().default_filter_or(level.as_str()))
            .target(Target::Pipe(Box::new(Queue(sender.clone()))))
            .write_style(style)
            .init();
        Self {
            sender,
            queue: Some(queue),
            lines: Lines::default(),
        }
    }

    /// The last of them, for who shows them instead.
    #[cfg(feature = "tui")]
    pub(crate) fn lines(&self) -> &Lines {
        &self.lines
    }

    /// Starts the thread that writes them.
    pub(crate) fn write(&mut self) -> io::Result<()> {
        let Some(queue) = self.queue.take() else {
            return Ok(());
        };
        let lines = self.lines.clone();
        thread::Builder::new()
            .name("diagnostics".to_owned())
            .spawn(move || queue.iter().for_each(|message| message.write(&lines)))
            .map(|_| ())
    }
}

impl Drop for Diagnostics {
    fn drop(&mut self) {
        if let Some(queue) = self.queue.take() {
            return queue
                .try_iter()
                .for_each(|message| message.write(&self.lines));
        }
        let (done, written) = mpsc::sync_channel(0);
        if self.sender.try_send(Message::Flush(done)).is_ok() {
            let _ = written.recv_timeout(PATIENCE);
        }
    }
}

impl Message {
    fn write(self, lines: &Lines) {
        match self {
            // Where standard error is a file, nothing is disturbed.
            Self::Text(text) if lines.add(&text) && io::stderr().is_terminal() => {}
            // There is nowhere to complain.
            Self::Text(text) => drop(io::stderr().write_all(&text)),
            Self::Flush(done) => drop(done),
        }
    }
}
