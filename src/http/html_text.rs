//! Text in HTML.

use std::fmt::{self, Display, Formatter, Write};

/// Displays bytes as text for an element or a quoted attribute. Invalid UTF-8 becomes U+FFFD, and
/// control characters become control pictures, so that a name stays on one line. Bidirectional
/// controls become U+FFFD too: with them `gpj.exe` could look like a `.jpg`.
pub(crate) struct HtmlText<'a>(pub(crate) &'a [u8]);

impl Display for HtmlText<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            for letter in chunk.valid().chars() {
                match letter {
                    '&' => f.write_str("&amp;")?,
                    '<' => f.write_str("&lt;")?,
                    '>' => f.write_str("&gt;")?,
                    '"' => f.write_str("&quot;")?,
                    '\'' => f.write_str("&#39;")?,
                    '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}' => {
                        f.write_char(char::REPLACEMENT_CHARACTER)?;
                    }
                    letter if letter.is_control() => f.write_char(picture(letter))?,
                    letter => f.write_char(letter)?,
                }
            }
            if !chunk.invalid().is_empty() {
                f.write_char(char::REPLACEMENT_CHARACTER)?;
            }
        }
        Ok(())
    }
}

/// Returns the control picture of an ASCII control character: U+2400 to U+241F, and U+2421 for DEL.
fn picture(control: char) -> char {
    let picture = match u32::from(control) {
        low @ 0..0x20 => char::from_u32(0x2400 + low),
        0x7F => Some('\u{2421}'),
        _ => None,
    };
    picture.unwrap_or(char::REPLACEMENT_CHARACTER)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_escaped() {
        let table: &[(&[u8], &str)] = &[
            (b"plain", "plain"),
            ("ñ 日本".as_bytes(), "ñ 日本"),
            (
                b"<script>alert('&\"')</script>",
                "&lt;script&gt;alert(&#39;&amp;&quot;&#39;)&lt;/script&gt;",
            ),
            (b"&lt;", "&amp;lt;"),
            (b"a\r\nb\t\x1B\x7F", "a␍␊b␉␛␡"),
            (b"\xC2\x85", "\u{FFFD}"),
            ("\u{202E}gpj.exe".as_bytes(), "\u{FFFD}gpj.exe"),
            (b"a\xFFb\xC3", "a\u{FFFD}b\u{FFFD}"),
        ];
        for (bytes, expected) in table {
            assert_eq!(HtmlText(bytes).to_string(), *expected);
        }
    }
}
