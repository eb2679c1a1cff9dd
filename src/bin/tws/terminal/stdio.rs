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

/// Prints one or more lines, whose texts were escaped, on standard output. Ignores errors.
pub(crate) fn print_lossy(text: &str) {
    let _ = write_stdout(text.as_bytes());
}

/// Prints one line on standard error that begins with the name of the program. Ignores errors.
pub(crate) fn eprint_error(text: &str) {
    // In one write, so that the output of other processes does not come between its parts.
    let _ = io::stderr().write_all(format!("tws: {}\n", one_line(text)).as_bytes());
}

/// Returns `text` as one line in which nothing controls the terminal: a file name or a request may
/// contain escape sequences, line breaks, and characters that reverse the direction of the text. Line
/// breaks and tabs become spaces; the others are escaped as in Rust.
pub(crate) fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for letter in text.chars() {
        if matches!(letter, '\n' | '\r' | '\t') {
            line.push(' ');
        } else if controls_terminal(letter) {
            line.extend(letter.escape_default());
        } else {
            line.push(letter);
        }
    }
    line
}

/// Returns true for control characters (C0, C1), for the separators that end a line, and for the controls
/// of the direction of text (UAX #9).
fn controls_terminal(letter: char) -> bool {
    let is_separator = matches!(letter, '\u{2028}' | '\u{2029}');
    let is_direction = matches!(
        letter,
        '\u{61C}' | '\u{200E}' | '\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}'
    );
    letter.is_control() || is_separator || is_direction
}

fn write_stdout(text: &[u8]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text)?;
    stdout.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_that_control_a_terminal_are_escaped() {
        for (text, shown) in [
            ("/a b ñ …", "/a b ñ …"),
            ("\u{1b}]0;x\u{7}", r"\u{1b}]0;x\u{7}"),
            ("a\r\nb\tc\u{7f}", r"a  b c\u{7f}"),
            ("\u{9b}2J", r"\u{9b}2J"),
            ("a\u{202e}b\u{2028}", r"a\u{202e}b\u{2028}"),
        ] {
            assert_eq!(one_line(text), shown);
        }
    }
}
