//! The README of a folder, as HTML below its listing. It is untrusted: raw HTML is shown as text, and
//! links lead to web pages only.

use pulldown_cmark::{CowStr, Event, HeadingLevel, Options, Parser, Tag, TagEnd, html};

use super::entries::{Entries, EntryKind};
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
pub(in crate::files) fn render(content: &[u8], syntax: ReadmeSyntax, depth: usize) -> String {
    match syntax {
        ReadmeSyntax::Markdown => markdown(&String::from_utf8_lossy(content), depth),
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

fn markdown(text: &str, depth: usize) -> String {
    let options = Options::ENABLE_TABLES
        | Options::ENABLE_STRIKETHROUGH
        | Options::ENABLE_TASKLISTS
        | Options::ENABLE_FOOTNOTES;
    let mut out = String::with_capacity(text.len() * 3 / 2);
    let root = match depth {
        0 => "./".to_owned(),
        depth => "../".repeat(depth),
    };
    let events = Parser::new_ext(text, options).map(|event| harmless(event, &root));
    html::push_html(&mut out, events);
    out
}

/// Replaces what could do more than show text: raw HTML becomes text, unsafe links lead nowhere, and the
/// levels of headings begin below that of the page. `root` is the relative path of the site's root.
fn harmless<'e>(event: Event<'e>, root: &str) -> Event<'e> {
    match event {
        Event::Html(text) | Event::InlineHtml(text) => Event::Text(text),
        Event::Start(Tag::HtmlBlock) => Event::Start(Tag::Paragraph),
        Event::End(TagEnd::HtmlBlock) => Event::End(TagEnd::Paragraph),
        Event::Start(Tag::Link {
            link_type,
            dest_url,
            title,
            id,
        }) => Event::Start(Tag::Link {
            link_type,
            dest_url: safe_link(dest_url, root),
            title,
            id,
        }),
        Event::Start(Tag::Image {
            link_type,
            dest_url,
            title,
            id,
        }) => Event::Start(Tag::Image {
            link_type,
            dest_url: safe_link(dest_url, root),
            title,
            id,
        }),
        Event::Start(Tag::FootnoteDefinition(name)) => {
            Event::Start(Tag::FootnoteDefinition(footnote_id(&name)))
        }
        Event::FootnoteReference(name) => Event::FootnoteReference(footnote_id(&name)),
        Event::Start(Tag::Heading {
            level,
            classes,
            attrs,
            ..
        }) => Event::Start(Tag::Heading {
            level: below(level),
            // An id could be one that a script of the page looks for.
            id: None,
            classes,
            attrs,
        }),
        Event::End(TagEnd::Heading(level)) => Event::End(TagEnd::Heading(below(level))),
        event => event,
    }
}

/// Returns the id of a footnote: an element of the page itself may have that which the author has chosen.
fn footnote_id<'a>(name: &str) -> CowStr<'a> {
    format!("readme-note-{name}").into()
}

fn below(level: HeadingLevel) -> HeadingLevel {
    match level {
        HeadingLevel::H1 => HeadingLevel::H2,
        HeadingLevel::H2 => HeadingLevel::H3,
        HeadingLevel::H3 => HeadingLevel::H4,
        HeadingLevel::H4 => HeadingLevel::H5,
        HeadingLevel::H5 | HeadingLevel::H6 => HeadingLevel::H6,
    }
}

/// Returns a link whose scheme is not `http`, `https` or `mailto` as one to this page. A link without a
/// scheme is relative. Browsers ignore control characters in a scheme. A path from the root of the host
/// is one from the root of the site, which may be served below a prefix.
fn safe_link<'l>(link: CowStr<'l>, root: &str) -> CowStr<'l> {
    if let Some(path) = link.strip_prefix('/')
        && !path.starts_with(['/', '\\'])
    {
        return [root, path].concat().into();
    }
    let end = link.find(['/', '?', '#']).unwrap_or(link.len());
    let is_safe = match link[..end].split_once(':') {
        Some((scheme, _)) => ["http", "https", "mailto"]
            .iter()
            .any(|safe| scheme.eq_ignore_ascii_case(safe)),
        None => true,
    };
    if is_safe { link } else { "#".into() }
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
    fn markdown_is_rendered_without_raw_html_and_scripts() {
        for (text, expected) in [
            ("# Title", "<h2>Title</h2>\n"),
            ("###### Deep", "<h6>Deep</h6>\n"),
            (
                "a **b** ~~c~~",
                "<p>a <strong>b</strong> <del>c</del></p>\n",
            ),
            (
                "<script>alert(1)</script>",
                "<p>&lt;script&gt;alert(1)&lt;/script&gt;</p>\n",
            ),
            (
                "x <b onclick=y>z</b>",
                "<p>x &lt;b onclick=y&gt;z&lt;/b&gt;</p>\n",
            ),
            ("[a](b/c.txt#d)", "<p><a href=\"b/c.txt#d\">a</a></p>\n"),
            (
                "[a](HTTPS://a.test/)",
                "<p><a href=\"HTTPS://a.test/\">a</a></p>\n",
            ),
            ("[a](a/b:c)", "<p><a href=\"a/b:c\">a</a></p>\n"),
            ("[a](javascript:alert(1))", "<p><a href=\"#\">a</a></p>\n"),
            ("[a](JAVA&#9;SCRIPT:x)", "<p><a href=\"#\">a</a></p>\n"),
            ("[a](&#1;javascript:x)", "<p><a href=\"#\">a</a></p>\n"),
            (
                "![a](data:text/html,x)",
                "<p><img src=\"#\" alt=\"a\" /></p>\n",
            ),
            ("<data:x>", "<p><a href=\"#\">data:x</a></p>\n"),
        ] {
            assert_eq!(
                render(text.as_bytes(), ReadmeSyntax::Markdown, 0),
                expected,
                "{text}"
            );
        }
    }

    #[test]
    fn footnotes_have_no_ids_of_the_page() {
        let html = render(b"a[^zone]\n\n[^zone]: b\n", ReadmeSyntax::Markdown, 0);
        assert!(html.contains("href=\"#readme-note-zone\""), "{html}");
        assert!(html.contains("id=\"readme-note-zone\""), "{html}");
        assert!(!html.contains("\"zone\""), "{html}");
    }

    #[test]
    fn links_from_the_root_stay_in_the_site() {
        for (depth, link, expected) in [
            (0, "/", "./"),
            (0, "/a/b.png", "./a/b.png"),
            (1, "/a:b?c#d", "../a:b?c#d"),
            (3, "/", "../../../"),
            (3, "a/../b", "a/../b"),
            (1, "//a.test/b", "//a.test/b"),
            (1, "?json", "?json"),
        ] {
            let text = format!("[x]({link}) ![y]({link})");
            let html = render(text.as_bytes(), ReadmeSyntax::Markdown, depth);
            let expected = format!(
                "<p><a href=\"{expected}\">x</a> <img src=\"{expected}\" alt=\"y\" /></p>\n"
            );
            assert_eq!(html, expected, "{link}");
        }
    }

    #[test]
    fn plain_text_keeps_lines_and_escapes() {
        assert_eq!(
            render(b"a\t<b>\r\n\x1B&\xFF", ReadmeSyntax::Plain, 0),
            "<pre>a\t&lt;b&gt;\n\u{241B}&amp;\u{FFFD}\n</pre>\n"
        );
    }
}
