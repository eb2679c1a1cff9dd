//! Markdown as HTML. It is untrusted: raw HTML is shown as text, and links lead to web pages only.

use pulldown_cmark::{CowStr, Event, HeadingLevel, Options, Parser, Tag, TagEnd, html};

/// Returns a text in Markdown as HTML. Its folder is `depth` folders below the root of the site.
pub(super) fn render(text: &str, depth: usize) -> String {
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
    use super::*;

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
            assert_eq!(render(text, 0), expected, "{text}");
        }
    }

    #[test]
    fn footnotes_have_no_ids_of_the_page() {
        let html = render("a[^zone]\n\n[^zone]: b\n", 0);
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
            let html = render(&text, depth);
            let expected = format!(
                "<p><a href=\"{expected}\">x</a> <img src=\"{expected}\" alt=\"y\" /></p>\n"
            );
            assert_eq!(html, expected, "{link}");
        }
    }
}
