//! The writer thread: it renders batches and writes the text to each destination. A destination that
//! fails loses lines; it does not affect the others.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;

use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::process::geteuid;

use super::format::Renderer;
use super::message::{Batch, LogMessage, LogState};

/// The text that is collected from queued batches before it is written, in bytes: few system calls
/// under load, and no delay otherwise.
const MAX_TEXT_BYTES: usize = 256 * 1024;

pub(super) struct LogWriter {
    renderer: Renderer,
    outputs: Vec<LogOutput>,
    shared: Arc<LogState>,
    text: Vec<u8>,
}

impl LogWriter {
    pub(super) fn new(renderer: Renderer, outputs: Vec<LogOutput>, shared: Arc<LogState>) -> Self {
        Self {
            renderer,
            outputs,
            shared,
            text: Vec::new(),
        }
    }

    /// Writes until all senders are dropped, or until the log is finishing and the queue is empty.
    pub(super) fn run(mut self, queue: &Receiver<LogMessage>) {
        while let Ok(message) = queue.recv() {
            self.handle(message, queue);
            if self.shared.finishing.load(Ordering::SeqCst) {
                break;
            }
        }
        while let Ok(message) = queue.try_recv() {
            self.handle(message, queue);
        }
    }

    fn handle(&mut self, message: LogMessage, queue: &Receiver<LogMessage>) {
        let unwritten = match message {
            LogMessage::Batch(batch) => self.write(&batch, queue),
            LogMessage::Reopen => Some(LogMessage::Reopen),
        };
        if let Some(LogMessage::Reopen) = unwritten {
            self.outputs.iter_mut().for_each(LogOutput::reopen);
        }
    }

    /// Writes one batch and others that are queued already. Returns the message that followed them, if
    /// it is not a batch.
    fn write(&mut self, first: &Batch, queue: &Receiver<LogMessage>) -> Option<LogMessage> {
        self.text.clear();
        let mut lines = self.render(first);
        let mut bytes = first.bytes;
        let mut following = None;
        while self.text.len() < MAX_TEXT_BYTES
            && let Ok(message) = queue.try_recv()
        {
            let LogMessage::Batch(batch) = message else {
                following = Some(message);
                break;
            };
            lines += self.render(&batch);
            bytes += batch.bytes;
        }
        if lines == 0 {
            return following;
        }
        for output in &mut self.outputs {
            let dropped = output.write(&self.text);
            self.shared.dropped.fetch_add(dropped, Ordering::Relaxed);
        }
        self.shared.queued.fetch_sub(lines, Ordering::SeqCst);
        self.shared.queued_bytes.fetch_sub(bytes, Ordering::SeqCst);
        following
    }

    fn render(&mut self, batch: &Batch) -> u64 {
        for record in &batch.records {
            self.renderer
                .render(&record.record, record.time, &mut self.text);
        }
        batch.records.len() as u64
    }
}

/// An open destination.
pub(super) struct LogOutput {
    name: String,
    /// The path at which it can be reopened; `None` for a stream.
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

/// How the text that was written ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ending {
    WholeLine,
    /// An incomplete line: the next one must not continue it.
    TornLine,
}

impl fmt::Debug for LogOutput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LogOutput").field(&self.name).finish()
    }
}

impl LogOutput {
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

    /// Continues in the file that has the path now, which is created if it does not exist.
    fn reopen(&mut self) {
        let Some(path) = &self.path else {
            return;
        };
        match append_to(path) {
            Ok(file) => {
                // The torn line is in the old file, unless this is the same file.
                if file.metadata().is_ok_and(|metadata| metadata.len() == 0) {
                    self.ending = Ending::WholeLine;
                }
                self.stream = Box::new(file);
            }
            Err(error) => {
                let reason = match error.kind() {
                    ErrorKind::NotFound => "its folder does not exist; create it".to_owned(),
                    ErrorKind::PermissionDenied => {
                        "permission denied; check its owner and mode; if its folder was replaced since \
                         the start, the sandbox of the process blocks the new one, so restart it"
                            .to_owned()
                    }
                    _ => error.to_string(),
                };
                log::error!(
                    "access log: cannot reopen {}: {reason}; the previously open file stays in use",
                    self.name
                );
            }
        }
    }

    /// Writes whole lines and returns the number of lines that were dropped.
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

    /// Writes text; an error carries the text that was not written.
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

/// Opens a file for appending, or creates it. A process of root does not follow a symbolic link of
/// another user: it would append to, or create, a file of that user's choice.
pub(super) fn append_to(path: &Path) -> io::Result<File> {
    if !geteuid().is_root() {
        return append(path, OFlags::empty());
    }
    let Some(file) = without_links_of_users(path)? else {
        return append(path, OFlags::empty());
    };
    append(&file, OFlags::NOFOLLOW)
}

/// Follows the symbolic links of root at the end of a path. The result is `None` if the kernel has to
/// follow them, since those in `/proc` have no path.
fn without_links_of_users(path: &Path) -> io::Result<Option<PathBuf>> {
    /// As many links as Linux follows (path_resolution(7)).
    const MAX_LINKS: usize = 40;
    let mut file = path.to_owned();
    for _ in 0..MAX_LINKS {
        let is_link = match file.symlink_metadata() {
            Ok(metadata) if metadata.is_symlink() => metadata.uid() == 0,
            _ => return Ok(Some(file)),
        };
        if !is_link {
            return Err(io::Error::other(
                "a symbolic link of another user than root; name the file itself",
            ));
        }
        if file.starts_with("/proc") {
            return Ok(None);
        }
        let target = file.read_link()?;
        file = file.parent().unwrap_or(Path::new("/")).join(target);
    }
    Err(Errno::LOOP.into())
}

fn append(path: &Path, flags: OFlags) -> io::Result<File> {
    let is_fifo = path
        .metadata()
        .is_ok_and(|metadata| metadata.file_type().is_fifo());
    OpenOptions::new()
        .append(true)
        .create(true)
        // Opened for reading as well, a FIFO does not block until another reader opens it (fifo(7)).
        .read(is_fifo)
        .custom_flags(flags.bits().cast_signed())
        .open(path)
}

/// As [`Write::write_all`], but the error carries the remaining text.
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
