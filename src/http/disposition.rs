//! The Content-Disposition of a download (RFC 6266) with a file name that is safe in every client.

use std::fmt::Write;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// What may not stand for itself in `filename*`: everything but the `attr-char` of RFC 8187 §3.2.1.
const NOT_ATTR_CHAR: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'!')
    .remove(b'#')
    .remove(b'$')
    .remove(b'&')
    .remove(b'+')
    .remove(b'-')
    .remove(b'.')
    .remove(b'^')
    .remove(b'_')
    .remove(b'`')
    .remove(b'|')
    .remove(b'~');

/// The limit of a name in characters; file systems allow 255 bytes.
const MAX_NAME_CHARS: usize = 200;

/// Returns the value of a Content-Disposition field that offers the content as a file of this name.
///
/// The name is the part after the last slash or backslash, without control characters and characters that
/// change the direction of text, which can disguise an extension. Leading dots and white space at both ends
/// are removed, because clients do that differently (RFC 6266 §4.3). A name of which nothing is left is
/// `download`.
pub(crate) fn attachment(name: &str) -> String {
    let name = safe_name(name);
    let fallback: String = name.chars().map(fallback_char).collect();
    let mut value = format!("attachment; filename=\"{fallback}\"");
    if fallback != name {
        let encoded = utf8_percent_encode(&name, NOT_ATTR_CHAR);
        // Writing to a string does not fail.
        let _ = write!(value, "; filename*=UTF-8''{encoded}");
    }
    value
}

fn safe_name(name: &str) -> String {
    let last = name.rsplit(['/', '\\']).next().unwrap_or_default();
    let kept = last.chars().filter(|letter| !is_unsafe(*letter));
    let kept: String = kept.take(MAX_NAME_CHARS).collect();
    let trimmed = kept
        .trim_end()
        .trim_start_matches(|letter: char| letter == '.' || letter.is_whitespace());
    match trimmed {
        "" => "download".to_owned(),
        trimmed => trimmed.to_owned(),
    }
}

fn is_unsafe(letter: char) -> bool {
    letter.is_control()
        || matches!(letter, '\u{200E}' | '\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}')
}

/// The characters of `filename`, which clients read without `filename*`. A quote would need an escape, and
/// a percent sign with two digits is decoded by some clients (RFC 6266 appendix D).
fn fallback_char(letter: char) -> char {
    match letter {
        '"' | '%' => '_',
        ' '..='~' => letter,
        _ => '_',
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_is_safe_and_complete() {
        for (name, expected) in [
            ("report.pdf", "filename=\"report.pdf\""),
            ("my report.pdf", "filename=\"my report.pdf\""),
            ("../../etc/passwd", "filename=\"passwd\""),
            ("C:\\x\\y.txt", "filename=\"y.txt\""),
            (".bashrc", "filename=\"bashrc\""),
            ("", "filename=\"download\""),
            (" .. ", "filename=\"download\""),
            ("a/", "filename=\"download\""),
            ("a\r\nX: y", "filename=\"aX: y\""),
            ("txt.\u{202E}gpj.exe", "filename=\"txt.gpj.exe\""),
            ("ñ.txt", "filename=\"_.txt\"; filename*=UTF-8''%C3%B1.txt"),
            (
                "a\"b.txt",
                "filename=\"a_b.txt\"; filename*=UTF-8''a%22b.txt",
            ),
            ("100%41", "filename=\"100_41\"; filename*=UTF-8''100%2541"),
            ("a;b'(c)*", "filename=\"a;b'(c)*\""),
        ] {
            assert_eq!(
                attachment(name),
                format!("attachment; {expected}"),
                "{name:?}"
            );
        }
        assert_eq!(safe_name(&"x".repeat(1000)).len(), MAX_NAME_CHARS);
    }
}
