//! What is decided about a request, said where it is decided: nothing that explains can drift from
//! what is done.
//!
//! It is said at level trace to the target [`TARGET`], for `tws explain`, `-vvv` and `RUST_LOG`. Where
//! nobody listens, it costs a relaxed load, and nothing is formatted. Where somebody does, a few
//! things are found out only to be said (links on the way, what an upload would meet), and the disk
//! may be waited for. A line is a topic, a colon and the decision. It never has a password in it.

use std::fmt;

/// Whom the decisions are told. `tws explain` listens to it.
pub(crate) const TARGET: &str = "tws::explain";

/// Says one decision: its topic in one word, and what was decided, as [`format!`] has it.
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

/// True if somebody listens: for what is found out only to be said.
pub(crate) fn is_explained() -> bool {
    log::log_enabled!(target: TARGET, log::Level::Trace)
}

/// Bytes of a path or a field as they can be read in one line: control characters and what is no
/// UTF-8 as escapes.
pub(crate) struct Escaped<'a>(pub(crate) &'a [u8]);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            for letter in chunk.valid().chars() {
                match letter.is_control() {
                    true => write!(f, "{}", letter.escape_default())?,
                    false => write!(f, "{letter}")?,
                }
            }
            write!(f, "{}", chunk.invalid().escape_ascii())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_is_one_readable_line() {
        for (bytes, shown) in [
            (&b"/a b"[..], "/a b"),
            ("/ñ".as_bytes(), "/ñ"),
            (b"/\xFFa\r\n\x1b[2J", r"/\xffa\r\n\u{1b}[2J"),
        ] {
            assert_eq!(Escaped(bytes).to_string(), shown);
        }
    }
}
