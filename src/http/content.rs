//! A request's content as something to read, whether it is all there or still coming in.

use std::fmt;
use std::io::{self, Cursor, Read};

/// Reads a request's content; it borrows from nothing and can go along into a job.
///
/// If the handler has asked for the content as a stream
/// ([`Admission::Streamed`](crate::Admission::Streamed)), reading waits for what the client has not
/// sent yet: read on a helper thread, not in [`Handler::handle`](crate::Handler::handle). An error
/// means that the rest will not come: the client has gone, was too slow, sent too much, or broke
/// the framing. Whatever response is made then, the client gets the one that says so.
pub struct ContentReader {
    source: Source,
}

enum Source {
    Whole(Cursor<Vec<u8>>),
}

impl ContentReader {
    pub(crate) fn whole(content: Vec<u8>) -> Self {
        Self {
            source: Source::Whole(Cursor::new(content)),
        }
    }
}

impl Read for ContentReader {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        match &mut self.source {
            Source::Whole(content) => content.read(room),
        }
    }
}

impl fmt::Debug for ContentReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ContentReader")
    }
}
