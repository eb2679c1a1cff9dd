//! `--exit-after`: the server ends after a number of downloads, or after a time, as with SIGTERM.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use signal_hook::consts::signal::SIGTERM;
use tws::Error;
use tws::access_log::{Completion, Record};

use crate::cli::{ExitCondition, Settings};

/// Counts downloads.
pub(crate) struct DownloadCounter {
    /// How many are to come.
    left: AtomicU64,
    /// Whether the root is a single file, which is served at `/`.
    root: RootKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RootKind {
    Folder,
    File,
}

/// Returns a counter, if the settings name a number of downloads.
pub(crate) fn downloads(settings: &Settings) -> Option<DownloadCounter> {
    let fewest = settings
        .exit_after
        .iter()
        .filter_map(|condition| match condition {
            ExitCondition::Downloads(count) => Some(count.get()),
            ExitCondition::Time(_) => None,
        });
    Some(DownloadCounter {
        left: AtomicU64::new(fewest.min()?),
        root: if settings.root.is_file() {
            RootKind::File
        } else {
            RootKind::Folder
        },
    })
}

/// Starts the thread that ends the server, if the settings name a time.
pub(crate) fn start_timer(settings: &Settings) -> Result<(), Error> {
    let times = settings
        .exit_after
        .iter()
        .filter_map(|condition| match condition {
            ExitCondition::Time(time) => Some(*time),
            ExitCondition::Downloads(_) => None,
        });
    let Some(time) = times.min() else {
        return Ok(());
    };
    let wait = move || {
        thread::sleep(time);
        end(&format!("{} seconds have passed", Duration::as_secs(&time)));
    };
    let thread = thread::Builder::new().name("exit-after".to_owned());
    thread
        .spawn(wait)
        .map(drop)
        .map_err(|source| Error::System {
            doing: "start the thread of --exit-after",
            source,
        })
}

impl DownloadCounter {
    /// Counts a record if it is that of a download, and ends the server after the last one.
    pub(crate) fn count(&self, record: &Record) {
        if !is_download(record, self.root) {
            return;
        }
        let before = self
            .left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                left.checked_sub(1)
            });
        if before == Ok(1) {
            end("all downloads are complete");
        }
    }
}

/// Ends the server as SIGTERM does: responses in progress are completed.
fn end(reason: &str) {
    log::info!("--exit-after: {reason}");
    if let Err(error) = signal_hook::low_level::raise(SIGTERM) {
        log::error!("--exit-after: failed to send SIGTERM to this process: {error}");
    }
}

/// True if a file, or a folder as an archive, was sent completely, and not as a part of a page: the README of
/// a listing may have images, and a browser requests the icon of a site itself. The path of a folder ends
/// with a slash.
fn is_download(record: &Record, root: RootKind) -> bool {
    let mut words = record.line.split(|&byte| byte == b' ');
    let (method, target) = (words.next(), words.next().unwrap_or_default());
    let (path, query) = match target.iter().position(|&byte| byte == b'?') {
        Some(at) => (&target[..at], &target[at + 1..]),
        None => (target, &b""[..]),
    };
    let mut parameters = query.split(|&byte| byte == b'&');
    let is_archive = |name: &[u8]| name == b"zip" || name.starts_with(b"download=");
    method == Some(b"GET")
        && record.status == tws::StatusCode::OK
        && record.outcome == Completion::Complete
        && !record.is_subresource
        && (!path.ends_with(b"/") || root == RootKind::File || parameters.any(is_archive))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complete_files_and_archives_are_downloads() {
        let record = |line: &str, status: u16, outcome| Record {
            client_addr: ([127, 0, 0, 1], 1).into(),
            user: None,
            host: None,
            is_secure: false,
            tls: None,
            line: line.as_bytes().to_vec(),
            referer: None,
            user_agent: None,
            is_subresource: false,
            status: tws::StatusCode::from_u16(status).expect("a status"),
            content_bytes: 1,
            duration: Duration::ZERO,
            outcome,
        };
        let complete = Completion::Complete;
        for (line, status, outcome, expected) in [
            ("GET /a.bin HTTP/1.1", 200, complete, true),
            ("GET /a.bin?x HTTP/2.0", 200, complete, true),
            ("GET /a/?download=zip HTTP/1.1", 200, complete, true),
            ("GET /a/?zip HTTP/1.1", 200, complete, true),
            ("GET /a/ HTTP/1.1", 200, complete, false),
            ("GET /a/?json HTTP/1.1", 200, complete, false),
            ("GET / HTTP/1.1", 200, complete, false),
            ("HEAD /a.bin HTTP/1.1", 200, complete, false),
            ("GET /a.bin HTTP/1.1", 206, complete, false),
            ("GET /a.bin HTTP/1.1", 404, complete, false),
            ("GET /a.bin HTTP/1.1", 200, Completion::Aborted, false),
            ("", 400, complete, false),
        ] {
            let record = record(line, status, outcome);
            assert_eq!(is_download(&record, RootKind::Folder), expected, "{line}");
        }
        let root = record("GET / HTTP/1.1", 200, complete);
        assert!(is_download(&root, RootKind::File));
        let image = Record {
            is_subresource: true,
            ..record("GET /a.png HTTP/1.1", 200, complete)
        };
        assert!(!is_download(&image, RootKind::Folder));
    }
}
