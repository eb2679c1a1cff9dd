//! The README of a folder, as HTML below its listing.

use super::entries::{Entries, EntryKind};
#[cfg(feature = "markdown")]
use super::markdown;
use crate::http::html_text::HtmlText;

/// A larger file is not shown. GitHub shows 500 KiB.
pub(in crate::files) const MAX_README_BYTES: u64 = 256 << 10;

/// The syntax of a README.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::files) enum ReadmeSyntax {
    /// CommonMark, with the tables, task lists and struck-out text of GitHub.
    Markdown,
    Plain,
}

const NAMES: [(&[u8], ReadmeSyntax); 2] = [
    (b"README.md", ReadmeSyntax::Markdown),
    (b"README.txt", ReadmeSyntax::Plain),
];

/// Returns the name of the folder's README, in any case, if it has one.
pub(in crate::files) fn find(entries: &Entries) -> Option<(&[u8], ReadmeSyntax)> {
    NAMES.iter().find_map(|(name, syntax)| {
        let mut files = (0..entries.len()).filter_map(|at| entries.get(at));
        let file = files
            .find(|entry| entry.kind == EntryKind::File && entry.name.eq_ignore_ascii_case(name))?;
        Some((file.name, *syntax))
    })
}

/// Returns the content of a README as HTML. Its folder is `depth` folders below the root of the site.
/// Without the feature `markdown` all of them are plain text.
pub(in crate::files) fn render(content: &[u8], syntax: ReadmeSyntax, depth: usize) -> String {
    match syntax {
        #[cfg(feature = "markdown")]
        ReadmeSyntax::Markdown => markdown::render(&String::from_utf8_lossy(content), depth),
        #[cfg(not(feature = "markdown"))]
        ReadmeSyntax::Markdown => {
            // Plain text has no links.
            let _ = depth;
            plain(content)
        }
        ReadmeSyntax::Plain => plain(content),
    }
}

fn plain(content: &[u8]) -> String {
    let mut out = String::from("<pre>");
    for line in content.split(|&byte| byte == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        for (at, part) in line.split(|&byte| byte == b'\t').enumerate() {
            out += if at == 0 { "" } else { "\t" };
            out += &HtmlText(part).to_string();
        }
        out.push('\n');
    }
    out + "</pre>\n"
}

#[cfg(test)]
mod tests {
    use super::super::entries::tests::entries;
    use super::*;

    #[test]
    fn readme_is_found_in_any_case_and_markdown_first() {
        let file = EntryKind::File;
        let table = entries(&[
            (b"readme", file, 1, 0),
            (b"ReadMe.TXT", file, 1, 0),
            (b"readme.md", file, 1, 0),
        ]);
        let found = find(&table).expect("a README");
        assert_eq!(found, (&b"readme.md"[..], ReadmeSyntax::Markdown));
        let folder = entries(&[(b"README.md", EntryKind::Directory, 0, 0)]);
        assert!(find(&folder).is_none());
    }

    #[test]
    fn plain_text_keeps_lines_and_escapes() {
        assert_eq!(
            render(b"a\t<b>\r\n\x1B&\xFF", ReadmeSyntax::Plain, 0),
            "<pre>a\t&lt;b&gt;\n\u{241B}&amp;\u{FFFD}\n</pre>\n"
        );
    }
}
