//! The log of decisions about requests. Each decision is logged where it is made, so that an explanation
//! cannot differ from the behaviour.
//!
//! Lines are logged at level trace to the target [`TARGET`], for `tws explain`, `-vvv` and `RUST_LOG`.
//! If the target is disabled, the cost is a relaxed load; nothing is formatted. If it is enabled, some
//! facts are determined only for the log (symbolic links in a path, the result of an upload), which may
//! block on the disk. A line is a topic, a colon and the decision. It never contains a password.

use std::fmt;

/// The target of the log records, at level trace, that say what was decided about a request and
/// why. A record's text is a topic, a colon and the decision. `tws explain` prints them.
pub const TARGET: &str = "tws::explain";

/// Logs one decision: its topic in one word, and what was decided, formatted as by [`format!`].
macro_rules! explain {
    ($topic:literal, $($decision:tt)+) => {
        log::trace!(
            target: $crate::explain_log::TARGET,
            "{}: {}",
            $topic,
            format_args!($($decision)+)
        )
    };
}

pub(crate) use explain;

/// Returns whether decisions are logged, for facts that are determined only for the log.
pub(crate) fn is_explained() -> bool {
    log::log_enabled!(target: TARGET, log::Level::Trace)
}

/// Displays the bytes of a path or a field in one line: control characters, marks that change the direction
/// of the text, and bytes that are not UTF-8 are escaped.
pub(crate) struct Escaped<'a>(pub(crate) &'a [u8]);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            for letter in chunk.valid().chars() {
                if letter.is_control() || is_direction_mark(letter) {
                    write!(f, "{}", letter.escape_default())?;
                } else {
                    write!(f, "{letter}")?;
                }
            }
            write!(f, "{}", chunk.invalid().escape_ascii())?;
        }
        Ok(())
    }
}

/// Returns whether a letter has the property Bidi_Control (UAX #9): it can make a text look like another one.
fn is_direction_mark(letter: char) -> bool {
    matches!(
        letter,
        '\u{61C}' | '\u{200E}' | '\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escaped_bytes_are_one_line() {
        for (bytes, shown) in [
            (&b"/a b"[..], "/a b"),
            ("/ñ".as_bytes(), "/ñ"),
            (b"/\xFFa\r\n\x1b[2J", r"/\xffa\r\n\u{1b}[2J"),
            ("/a\u{202E}gpj.exe".as_bytes(), r"/a\u{202e}gpj.exe"),
        ] {
            assert_eq!(Escaped(bytes).to_string(), shown);
        }
    }
}
