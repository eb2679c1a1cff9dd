//! Diagnostics on standard error, by a thread of their own: whoever logs is often an event loop or
//! the acceptor, and standard error may be a pipe that nobody reads.

use std::io::{self, IsTerminal, Write};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread;
use std::time::Duration;

use env_logger::{Builder, Env, Target, WriteStyle};
use log::LevelFilter;

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

/// The diagnostics; what waits is written when this is dropped.
pub(crate) struct Diagnostics {
    sender: SyncSender<Message>,
    /// Until there is a thread that has it.
    queue: Option<Receiver<Message>>,
}

impl Diagnostics {
    /// Collects them, at `level` unless `RUST_LOG` says otherwise.
    pub(crate) fn collect(level: LevelFilter) -> Self {
        let (sender, queue) = mpsc::sync_channel(MAX_WAITING);
        let style = match io::stderr().is_terminal() {
            true => WriteStyle::Always,
            false => WriteStyle::Never,
        };
        Builder::from_env(Env::default().default_filter_or(level.as_str()))
            .target(Target::Pipe(Box::new(Queue(sender.clone()))))
            .write_style(style)
            .init();
        Self {
            sender,
            queue: Some(queue),
        }
    }

    /// Starts the thread that writes them.
    pub(crate) fn write(&mut self) -> io::Result<()> {
        let Some(queue) = self.queue.take() else {
            return Ok(());
        };
        thread::Builder::new()
            .name("diagnostics".to_owned())
            .spawn(move || queue.iter().for_each(Message::write))
            .map(|_| ())
    }
}

impl Drop for Diagnostics {
    fn drop(&mut self) {
        if let Some(queue) = self.queue.take() {
            return queue.try_iter().for_each(Message::write);
        }
        let (done, written) = mpsc::sync_channel(0);
        if self.sender.try_send(Message::Flush(done)).is_ok() {
            let _ = written.recv_timeout(PATIENCE);
        }
    }
}

impl Message {
    fn write(self) {
        match self {
            // There is nowhere to complain.
            Self::Text(text) => drop(io::stderr().write_all(&text)),
            Self::Flush(done) => drop(done),
        }
    }
}
