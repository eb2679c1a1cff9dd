//! Text on standard output and standard error, both of which may be closed.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

/// Returns true if standard input and output are terminals.
pub(crate) fn is_terminal() -> bool {
    io::stdin().is_terminal() && io::stdout().is_terminal()
}

/// Prints all of `text` on standard output and returns the exit code of the process. It is no failure
/// if the reader of a pipe stops reading.
pub(crate) fn print(text: &[u8]) -> ExitCode {
    match write_stdout(text) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            eprint_error(&format!("standard output: cannot write: {error}"));
            ExitCode::FAILURE
        }
        _ => ExitCode::SUCCESS,
    }
}

/// Prints `text` on standard output and ignores errors.
pub(crate) fn print_lossy(text: &str) {
    let _ = write_stdout(text.as_bytes());
}

/// Prints one line on standard error that begins with the name of the program. Ignores errors.
pub(crate) fn eprint_error(text: &str) {
    // In one write, so that the output of other processes does not come between its parts.
    let _ = io::stderr().write_all(format!("tws: {}\n", one_line(text)).as_bytes());
}

/// Replaces line breaks and other control characters with spaces.
pub(crate) fn one_line(text: &str) -> String {
    text.replace(char::is_control, " ")
}

fn write_stdout(text: &[u8]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text)?;
    stdout.flush()
}
