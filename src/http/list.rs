//! Lists in field values (RFC 9110 §5.6.1), split in one place.
//!
//! Three kinds of list occur. [`members`] splits lists whose members are tokens. [`split`] and
//! [`rsplit`] split where a member or a parameter may be a quoted string (RFC 9110 §5.6.4) that
//! contains the separator.
//!
//! Two grammars are not lists in this sense and have readers of their own: entity tags, in which a
//! backslash is no escape (`conditional`), and the parameters of a form, in which browsers escape
//! differently (`multipart_form`).

/// The members of a comma-separated list of tokens, without optional white space. Empty members are
/// skipped (RFC 9110 §5.6.1.2).
pub(crate) fn members(value: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    value
        .split(|byte| *byte == b',')
        .map(<[u8]>::trim_ascii)
        .filter(|member| !member.is_empty())
}

/// Splits at each `separator` outside quoted strings, from left to right. Parts are trimmed; an empty
/// part is returned as such. A quoted string that is not closed extends to the end.
///
/// Each byte is read once.
pub(crate) fn split(value: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    enum QuoteState {
        Unquoted,
        Quoted,
        /// After a backslash in a quoted string.
        Escaped,
    }
    let mut state = QuoteState::Unquoted;
    let parts = value.split(move |&byte| {
        state = match (&state, byte) {
            (QuoteState::Unquoted, b'"') => QuoteState::Quoted,
            (QuoteState::Unquoted, byte) if byte == separator => return true,
            (QuoteState::Unquoted, _) | (QuoteState::Quoted, b'"') => QuoteState::Unquoted,
            (QuoteState::Quoted, b'\\') => QuoteState::Escaped,
            (QuoteState::Quoted | QuoteState::Escaped, _) => QuoteState::Quoted,
        };
        false
    });
    parts.map(<[u8]>::trim_ascii)
}

/// Splits at each `separator` outside quoted strings, from right to left. Parts are trimmed; an empty
/// part is returned as such.
///
/// For fields that each proxy appends to: how the right end of the value is split depends only on
/// the bytes there. A quote that an earlier sender opened and did not close does not change it.
pub(crate) fn rsplit(value: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let mut left = Some(value);
    std::iter::from_fn(move || {
        let value = left?;
        let mut is_quoted = false;
        let boundary = value.iter().enumerate().rposition(|(at, byte)| {
            if *byte == b'"' && !(is_quoted && is_escaped(value, at)) {
                is_quoted = !is_quoted;
            }
            *byte == separator && !is_quoted
        });
        left = boundary.map(|at| &value[..at]);
        let start = boundary.map_or(0, |at| at + 1);
        Some(value[start..].trim_ascii())
    })
}

/// Returns whether an odd number of backslashes precedes the byte at `at`.
fn is_escaped(value: &[u8], at: usize) -> bool {
    let backslashes = value[..at].iter().rev().take_while(|byte| **byte == b'\\');
    backslashes.count() % 2 == 1
}

/// Removes the quotes around a quoted string. Escapes inside it are kept.
pub(crate) fn unquote(value: &[u8]) -> &[u8] {
    match value {
        [b'"', inner @ .., b'"'] => inner,
        value => value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn texts<'a>(parts: impl Iterator<Item = &'a [u8]>) -> Vec<&'a str> {
        let text = |part| std::str::from_utf8(part).expect("ASCII");
        parts.map(text).collect()
    }

    #[test]
    fn members_skips_empty_ones_and_white_space() {
        let table: &[(&str, &[&str])] = &[
            ("", &[]),
            (" , ,", &[]),
            ("a", &["a"]),
            ("a,b", &["a", "b"]),
            (",a ,,\tb,", &["a", "b"]),
        ];
        for (value, expected) in table {
            assert_eq!(texts(members(value.as_bytes())), *expected, "{value}");
        }
    }

    #[test]
    fn split_ignores_separators_in_quoted_strings() {
        let table: &[(&str, &[&str], &[&str])] = &[
            ("", &[""], &[""]),
            ("a, b ,,c", &["a", "b", "", "c"], &["c", "", "b", "a"]),
            ("\"a,b\",c", &["\"a,b\"", "c"], &["c", "\"a,b\""]),
            (
                "x=\"a\\\",b\",c",
                &["x=\"a\\\",b\"", "c"],
                &["c", "x=\"a\\\",b\""],
            ),
            (
                "x=\"a\\\\\",c",
                &["x=\"a\\\\\"", "c"],
                &["c", "x=\"a\\\\\""],
            ),
        ];
        for (value, from_left, from_right) in table {
            assert_eq!(texts(split(value.as_bytes(), b',')), *from_left, "{value}");
            let parts = texts(rsplit(value.as_bytes(), b','));
            assert_eq!(parts, *from_right, "{value}");
        }
    }

    #[test]
    fn unclosed_quote_extends_in_the_direction_of_reading() {
        let value = b"a,\"b,c";
        assert_eq!(texts(split(value, b',')), ["a", "\"b,c"]);
        assert_eq!(rsplit(value, b',').next(), Some(&b"c"[..]));
    }

    proptest! {
        #[test]
        fn rsplit_of_what_is_appended_does_not_depend_on_what_precedes(before in "[ -~]{0,40}") {
            let value = format!("{before},for=\"a,b\"");
            prop_assert_eq!(rsplit(value.as_bytes(), b',').next(), Some(&b"for=\"a,b\""[..]));
        }
    }
}
