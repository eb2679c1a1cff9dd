//! The output of another process, read line by line with a timeout.

use std::io::{BufRead, BufReader, Read};
use std::sync::mpsc;
use std::thread;

use super::client::TIMEOUT;

/// Reads an output to its end on a thread of its own, so that waiting for a line is bounded and the
/// writer never blocks.
pub(crate) struct LineReader {
    lines: mpsc::Receiver<String>,
}

impl LineReader {
    pub(crate) fn new(output: impl Read + Send + 'static) -> Self {
        let (sender, lines) = mpsc::channel();
        let mut output = BufReader::new(output);
        thread::spawn(move || {
            let mut line = String::new();
            while output.read_line(&mut line).is_ok_and(|count| count > 0) {
                // The test may have ended; the output is read nevertheless.
                let _ = sender.send(std::mem::take(&mut line));
            }
        });
        Self { lines }
    }

    /// Returns the lines up to the first one that contains `words`, each with its line end.
    ///
    /// # Panics
    ///
    /// If no such line arrives in time, or the output ends before.
    #[track_caller]
    pub(crate) fn read_until(&mut self, words: &str) -> Vec<String> {
        let mut read: Vec<String> = Vec::new();
        while !read.last().is_some_and(|line| line.contains(words)) {
            match self.lines.recv_timeout(TIMEOUT) {
                Ok(line) => read.push(line),
                Err(error) => panic!("no line with {words:?} ({error}): {read:?}"),
            }
        }
        read
    }
}
