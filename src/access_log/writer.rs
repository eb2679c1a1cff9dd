//! The thread that writes: batches in, text out to each destination. A destination that fails
//! loses lines, and nothing else does.

use std::fmt;
use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;

use super::format::Renderer;
use super::{Batch, Message, Shared, append_to};

/// Text that is gathered from waiting batches before it is written: a few system calls a second
/// when requests are many, a line at once when they are few.
const MAX_TEXT_BYTES: usize = 256 * 1024;

pub(super) struct Writer {
    renderer: Renderer,
    outputs: Vec<Output>,
    shared: Arc<Shared>,
    text: Vec<u8>,
}

impl Writer {
    pub(super) fn new(renderer: Renderer, outputs: Vec<Output>, shared: Arc<Shared>) -> Self {
        Self {
            renderer,
            outputs,
            shared,
            text: Vec::new(),
        }
    }

    /// Writes until there can be no more batches, or until the log is to finish and the queue is
    /// empty.
    pub(super) fn run(mut self, queue: &Receiver<Message>) {
        while let Ok(message) = queue.recv() {
            self.heed(message, queue);
            if self.shared.finishing.load(Ordering::SeqCst) {
                break;
            }
        }
        while let Ok(message) = queue.try_recv() {
            self.heed(message, queue);
        }
    }

    fn heed(&mut self, message: Message, queue: &Receiver<Message>) {
        let unwritten = match message {
            Message::Batch(batch) => self.write(&batch, queue),
            Message::Reopen => Some(Message::Reopen),
        };
        if let Some(Message::Reopen) = unwritten {
            self.outputs.iter_mut().for_each(Output::reopen);
        }
    }

    /// Writes one batch, and others that are there already. Returns the message that came behind
    /// them, if that is none.
    fn write(&mut self, first: &Batch, queue: &Receiver<Message>) -> Option<Message> {
        self.text.clear();
        let mut lines = self.render(first);
        let mut bytes = first.bytes;
        let mut behind = None;
        while self.text.len() < MAX_TEXT_BYTES
            && let Ok(message) = queue.try_recv()
        {
            let Message::Batch(batch) = message else {
                behind = Some(message);
                break;
            };
            lines += self.render(&batch);
            bytes += batch.bytes;
        }
        if lines == 0 {
            return behind;
        }
        for output in &mut self.outputs {
            let dropped = output.write(&self.text);
            self.shared.dropped.fetch_add(dropped, Ordering::Relaxed);
        }
        self.shared.queued.fetch_sub(lines, Ordering::SeqCst);
        self.shared.queued_bytes.fetch_sub(bytes, Ordering::SeqCst);
        behind
    }

    fn render(&mut self, batch: &Batch) -> u64 {
        for entry in &batch.entries {
            self.renderer
                .render(&entry.record, entry.time, &mut self.text);
        }
        batch.entries.len() as u64
    }
}

/// One destination.
pub(super) struct Output {
    name: String,
    /// Where it can be opened anew.
    path: Option<PathBuf>,
    stream: Box<dyn Write + Send>,
    health: Health,
    ending: Ending,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Health {
    Working,
    Failing,
}

/// What the last write left behind.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ending {
    WholeLine,
    /// A line that was cut: the next one must not continue it.
    TornLine,
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Output").field(&self.name).finish()
    }
}

impl Output {
    pub(super) fn new(name: impl fmt::Display, stream: Box<dyn Write + Send>) -> Self {
        Self {
            name: name.to_string(),
            path: None,
            stream,
            health: Health::Working,
            ending: Ending::WholeLine,
        }
    }

    pub(super) fn to_file(path: &Path, file: File) -> Self {
        Self {
            path: Some(path.to_owned()),
            ..Self::new(path.display(), Box::new(file))
        }
    }

    /// Goes on in the file that has the name now, which is made if there is none.
    fn reopen(&mut self) {
        let Some(path) = &self.path else {
            return;
        };
        match append_to(path) {
            Ok(file) => {
                // A torn line is in the old file, unless this is still that.
                if file.metadata().is_ok_and(|metadata| metadata.len() == 0) {
                    self.ending = Ending::WholeLine;
                }
                self.stream = Box::new(file);
            }
            Err(error) => log::error!(
                "access log: cannot reopen {}: {error}; the previously open file stays in use",
                self.name
            ),
        }
    }

    /// Writes whole lines and returns how many of them were dropped.
    pub(super) fn write(&mut self, text: &[u8]) -> u64 {
        match (self.health, self.try_write(text)) {
            (Health::Working, Ok(())) => 0,
            (Health::Failing, Ok(())) => {
                log::warn!("access log: {} is writable again", self.name);
                self.health = Health::Working;
                0
            }
            (health, Err((unwritten, error))) => {
                if health == Health::Working {
                    log::warn!(
                        "access log: cannot write to {}: {error}; lines are dropped until it is writable again",
                        self.name
                    );
                    self.health = Health::Failing;
                }
                memchr::memchr_iter(b'\n', unwritten).count() as u64
            }
        }
    }

    /// Returns what could not be written, and why.
    fn try_write<'t>(&mut self, text: &'t [u8]) -> Result<(), (&'t [u8], io::Error)> {
        if self.ending == Ending::TornLine {
            write_all(&mut self.stream, b"\n").map_err(|(_, error)| (text, error))?;
            self.ending = Ending::WholeLine;
        }
        let result = write_all(&mut self.stream, text);
        if let Err((unwritten, _)) = &result {
            let written = &text[..text.len() - unwritten.len()];
            if written.last().is_some_and(|&byte| byte != b'\n') {
                self.ending = Ending::TornLine;
            }
        }
        result
    }
}

/// As [`Write::write_all`], but tells what is left when it fails.
fn write_all<'t>(stream: &mut impl Write, mut text: &'t [u8]) -> Result<(), (&'t [u8], io::Error)> {
    while !text.is_empty() {
        match stream.write(text) {
            Ok(0) => return Err((text, ErrorKind::WriteZero.into())),
            Ok(count) => text = &text[count..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err((text, error)),
        }
    }
    Ok(())
}
