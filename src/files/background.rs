//! Compression in the background, of files that are too large to be compressed before the first
//! response.
//!
//! One thread for the whole process does it, with the lowest priority, and it pauses for as long as it
//! has worked: so it takes at most half of one processor, and less if others want it. The queue is
//! bounded; a file that finds no room is queued again by a later request. Results are kept in memory, up
//! to a limit, by the state of the file. A file whose compression panics is sent uncompressed.

use std::collections::HashSet;
use std::num::NonZeroUsize;
use std::os::unix::fs::FileExt;
use std::sync::mpsc::{self, SyncSender};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Instant;
use std::{fs::File, io};

use bytes::Bytes;
use lru::LruCache;

use super::compress::{Effort, Encoder};
use super::representation::Representation;
use super::root::{self, FileId};
use crate::http::negotiation::Coding;
use crate::panics::{self, Panicked};
use crate::sync::Mutex;

/// Files that wait for compression, in one process.
const MAX_QUEUED: usize = 64;

/// The limit of the results of one site in bytes.
const MAX_BYTES: usize = 64 * 1024 * 1024;

/// The limit of the number of results of one site.
const MAX_RESULTS: usize = 1024;

type Key = (FileId, Coding);

/// The files of one site that were compressed in the background.
#[derive(Debug)]
pub(super) struct CompressedFiles(Mutex<State>);

#[derive(Debug)]
struct State {
    /// `None` for a file that compression makes no smaller, or for which it panics.
    results: LruCache<Key, Option<Bytes>>,
    bytes: usize,
    pending: HashSet<Key>,
}

/// What is known of a file in a coding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum CompressedFile {
    Ready(Bytes),
    /// It would be no smaller, or cannot be compressed.
    NotSmaller,
    /// It is being compressed, or will be.
    Pending,
    /// Too many files wait.
    Overloaded,
}

impl Default for CompressedFiles {
    fn default() -> Self {
        let capacity = NonZeroUsize::new(MAX_RESULTS).unwrap_or(NonZeroUsize::MIN);
        Self(Mutex::new(State {
            results: LruCache::new(capacity),
            bytes: 0,
            pending: HashSet::new(),
        }))
    }
}

impl CompressedFiles {
    /// Returns a file in a coding, or begins to compress it.
    pub(super) fn get(this: &Arc<Self>, plain: &Representation, coding: Coding) -> CompressedFile {
        let key = (plain.file_id, coding);
        let mut state = this.0.lock();
        match state.results.get(&key) {
            Some(Some(bytes)) => return CompressedFile::Ready(bytes.clone()),
            Some(None) => return CompressedFile::NotSmaller,
            None => {}
        }
        let Some(file) = plain.file().map(Arc::clone) else {
            return CompressedFile::NotSmaller;
        };
        // A file that was modified moments ago may still be written.
        if !plain.is_mtime_stable() || !state.pending.insert(key) {
            return CompressedFile::Pending;
        }
        drop(state);
        let (files, len) = (Arc::clone(this), plain.len);
        let job = Box::new(move || files.complete(key, || encode(&file, len, key)));
        if queue().is_some_and(|queue| queue.try_send(job).is_ok()) {
            return CompressedFile::Pending;
        }
        this.0.lock().pending.remove(&key);
        CompressedFile::Overloaded
    }

    /// Calls `encode` and keeps its result.
    fn complete(&self, key: Key, encode: impl FnOnce() -> io::Result<Option<Bytes>>) {
        let encoded = panics::catch(encode);
        let mut state = self.0.lock();
        state.pending.remove(&key);
        match encoded {
            Ok(Ok(encoded)) => state.put(key, encoded),
            // The file is compressed again when it is requested in its new state.
            Ok(Err(error)) => log::debug!("files: cannot compress in the background: {error}"),
            Err(Panicked) => {
                log::error!("files: compression panicked; the file is sent uncompressed");
                state.put(key, None);
            }
        }
    }
}

impl State {
    fn put(&mut self, key: Key, encoded: Option<Bytes>) {
        let len = |encoded: &Option<Bytes>| encoded.as_ref().map_or(0, Bytes::len);
        self.bytes += len(&encoded);
        if let Some((_, removed)) = self.results.push(key, encoded) {
            self.bytes -= len(&removed);
        }
        while self.bytes > MAX_BYTES {
            match self.results.pop_lru() {
                Some((_, removed)) => self.bytes -= len(&removed),
                None => break,
            }
        }
    }
}

/// Returns the encoded content; `None` if it would be no smaller.
fn encode(file: &File, len: u64, (id, coding): Key) -> io::Result<Option<Bytes>> {
    use io::Write;
    const PIECE_BYTES: usize = 128 * 1024;
    let mut encoder = Encoder::new(Vec::new(), coding, Effort::Dynamic, Some(len))?;
    let mut piece = vec![0; PIECE_BYTES];
    let mut at = 0;
    while at < len {
        let begun = Instant::now();
        let count = PIECE_BYTES.min(usize::try_from(len - at).unwrap_or(PIECE_BYTES));
        file.read_exact_at(&mut piece[..count], at)?;
        encoder.write_all(&piece[..count])?;
        at += count as u64;
        if encoder.output().len() as u64 >= len {
            return Ok(None);
        }
        thread::sleep(begun.elapsed());
    }
    let encoded = encoder.finish()?;
    if !root::is_unchanged(file, id) {
        return Err(io::Error::other("the file has changed"));
    }
    let is_smaller = (encoded.len() as u64) < len;
    Ok(is_smaller.then(|| Bytes::from(encoded)))
}

type Job = Box<dyn FnOnce() + Send>;

/// Returns the queue of the thread, which is started with the first job. `None` if it cannot be started.
fn queue() -> Option<&'static SyncSender<Job>> {
    static QUEUE: OnceLock<Option<SyncSender<Job>>> = OnceLock::new();
    let start = || {
        let (sender, jobs) = mpsc::sync_channel::<Job>(MAX_QUEUED);
        let run = move || {
            // Without the permission, it has the usual priority.
            let _ = rustix::process::nice(19);
            for job in jobs {
                job();
            }
        };
        let thread = thread::Builder::new().name("compressor".to_owned());
        match thread.spawn(run) {
            Ok(_) => Some(sender),
            Err(error) => {
                log::error!("files: cannot start the thread for compression: {error}");
                None
            }
        }
    };
    QUEUE.get_or_init(start).as_ref()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::files::root::OpenedPath;

    #[test]
    fn file_whose_compression_panics_is_not_compressed_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("file");
        fs::write(&path, "content").expect("a file");
        let file = File::open(&path).expect("a file");
        let opened = match root::opened(file.into()) {
            Ok(OpenedPath::File(opened)) => opened,
            other => panic!("{other:?}"),
        };
        let key = (opened.metadata.id, Coding::Gzip);
        let files = CompressedFiles::default();
        files.0.lock().pending.insert(key);
        files.complete(key, || panic!("a test"));
        {
            let state = files.0.lock();
            assert_eq!(state.results.peek(&key), Some(&None));
            assert!(state.pending.is_empty());
        }
        files.complete(key, || Ok(Some(Bytes::from_static(b"smaller"))));
        assert_eq!(files.0.lock().bytes, 7);
    }
}
