//! The listing as HTML. File names are untrusted: they are escaped as text and percent-encoded in
//! links, and the Content-Security-Policy allows no script or style but the page's own (see
//! [`policy`](super::policy)).

use std::fmt::{self, Display, Formatter, Write};

use super::assets;
use super::entries::{Completeness, DirEntry, Entries, EntryKind};
use super::order::{SortDirection, SortKey, SortOrder};
use super::page::{ListingPage, PageFeatures};
use super::units::{GroupedDigits, HumanSize, UtcTime};
use crate::files::archive_format::ArchiveFormat;
use crate::http::html_text::HtmlText;
use crate::http::target;

/// The most breadcrumbs. Without a limit, the length of the links would grow with the square of the
/// depth.
const MAX_CRUMBS: usize = 24;

/// Writes everything before the first entry.
pub(super) fn start(out: &mut String, entries: &Entries, page: &ListingPage) -> fmt::Result {
    let folders: Vec<&[u8]> = page
        .path
        .split(|&byte| byte == b'/')
        .filter(|name| !name.is_empty())
        .collect();
    let root = match &page.root_name[..] {
        b"" => &b"/"[..],
        name => name,
    };
    let name = folders.last().copied().unwrap_or(root);
    out.push_str(
        "<!DOCTYPE html>\n\
         <html lang=\"en\">\n\
         <head>\n\
         <meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n",
    );
    writeln!(out, "<title>{}</title>", HtmlText(name))?;
    assets::styles(out);
    out.push_str("</head>\n<body>\n<header>\n");
    if let Some((_, above)) = folders.split_last() {
        breadcrumbs(out, name, above, page.order)?;
    }
    writeln!(
        out,
        "<h1>{}</h1>\n<p>{}</p>\n</header>\n<main data-features=\"{}\">",
        HtmlText(name),
        entries.totals(),
        page.features.names(),
    )?;
    if page.features.uploads.is_some() {
        // Without an action the form is sent to the page's own address.
        out.push_str(
            "<section class=\"card\" id=\"upload\" aria-label=\"Upload\">\n\
             <form method=\"post\" enctype=\"multipart/form-data\">\
             <input type=\"file\" name=\"file\" multiple required aria-label=\"Files to upload\"> \
             <button>Upload</button></form>\n\
             </section>\n",
        );
    }
    out.push_str("<div class=\"card list\">\n");
    if entries.extent() == Completeness::Truncated {
        let shown = GroupedDigits(entries.len() as u64);
        writeln!(
            out,
            "<p class=\"note\">Showing {shown} entries; this folder has more.</p>"
        )?;
    }
    if entries.len() > 1 {
        out.push_str(
            "<div class=\"filter\" hidden>\
             <input type=\"search\" placeholder=\"Filter by name\" aria-label=\"Filter by name\" \
             autocomplete=\"off\" spellcheck=\"false\">\
             <output></output></div>\n",
        );
    }
    out.push_str("<table>\n<thead>\n<tr>");
    for (key, title) in [
        (SortKey::Name, "Name"),
        (SortKey::Size, "Size"),
        (SortKey::Date, "Date"),
    ] {
        column(out, key, title, page.order)?;
    }
    out.push_str("</tr>\n</thead>\n");
    if !folders.is_empty() {
        writeln!(
            out,
            "<tbody>\n\
             <tr><th scope=\"row\" class=\"u\"><a href=\"../{}\">Parent folder</a></th>\
             <td></td><td></td></tr>\n\
             </tbody>",
            OrderQuery(page.order),
        )?;
    }
    out.push_str("<tbody id=\"entries\">\n");
    if entries.len() == 0 {
        out.push_str("<tr><td class=\"empty\" colspan=\"3\">This folder is empty.</td></tr>\n");
    }
    Ok(())
}

/// Writes the breadcrumbs. Their links are relative, so that they also work where a proxy has the
/// site beneath another path.
fn breadcrumbs(out: &mut String, name: &[u8], above: &[&[u8]], order: SortOrder) -> fmt::Result {
    let query = OrderQuery(order);
    let up = |steps: usize| "../".repeat(steps);
    out.push_str("<nav aria-label=\"Path\">\n<ol>");
    write!(
        out,
        "<li><a href=\"{}{query}\">Home</a></li>",
        up(above.len() + 1)
    )?;
    let skipped = above.len().saturating_sub(MAX_CRUMBS);
    if skipped > 0 {
        out.push_str("<li>…</li>");
    }
    for (at, folder) in above.iter().enumerate().skip(skipped) {
        let (up, folder) = (up(above.len() - at), HtmlText(folder));
        write!(out, "<li><a href=\"{up}{query}\">{folder}</a></li>")?;
    }
    let name = HtmlText(name);
    writeln!(
        out,
        "<li><a aria-current=\"page\">{name}</a></li></ol>\n</nav>"
    )
}

/// Writes a column's header, a link that sorts by the column or reverses the current order.
fn column(out: &mut String, key: SortKey, title: &str, order: SortOrder) -> fmt::Result {
    use SortDirection::{Ascending, Descending};
    let (sorted, direction) = match (key == order.key, order.direction) {
        (true, Ascending) => (" aria-sort=\"ascending\"", Descending),
        (true, Descending) => (" aria-sort=\"descending\"", Ascending),
        // The largest or newest first.
        (false, _) if key == SortKey::Name => ("", Ascending),
        (false, _) => ("", Descending),
    };
    let query = SortOrder { key, direction }.to_query().unwrap_or_default();
    let query = HtmlText(query.as_bytes());
    write!(
        out,
        "<th scope=\"col\"{sorted}><a href=\"?{query}\">{title}</a></th>"
    )
}

/// Writes a row of the table.
pub(super) fn entry(out: &mut String, entry: &DirEntry<'_>, order: SortOrder) -> fmt::Result {
    let (name, link) = (HtmlText(entry.name), entry_link(entry.name));
    match entry.kind {
        EntryKind::Directory => write!(
            out,
            "<tr><th scope=\"row\" class=\"d\"><a href=\"{link}/{}\">{name}/</a></th>",
            OrderQuery(order),
        )?,
        EntryKind::File => write!(
            out,
            "<tr><th scope=\"row\"><a href=\"{link}\">{name}</a></th>"
        )?,
        // A link would lead to a 403.
        EntryKind::Other => write!(out, "<tr><th scope=\"row\" class=\"o\"><b>{name}</b></th>")?,
    }
    match entry.size {
        Some(size) => {
            let exact = GroupedDigits(size);
            write!(out, "<td title=\"{exact} bytes\">{}</td>", HumanSize(size))?;
        }
        None => out.push_str("<td></td>"),
    }
    match entry.modified {
        Some(seconds) => writeln!(out, "<td>{}</td></tr>", UtcTime(seconds)),
        None => writeln!(out, "<td></td></tr>"),
    }
}

/// Writes what follows the last entry, before the README.
pub(super) fn end_of_table(out: &mut String, features: &PageFeatures) -> fmt::Result {
    out.push_str("</tbody>\n</table>\n");
    if let Some((first, others)) = features.archives.split_first() {
        let link = |format: &ArchiveFormat| {
            let extension = format.extension();
            format!("<a href=\"?download={extension}\" download>.{extension}</a>")
        };
        write!(
            out,
            "<p class=\"archives\">Download this folder: {}",
            link(first)
        )?;
        for format in others {
            write!(out, ", {}", link(format))?;
        }
        out.push_str("</p>\n");
    }
    out.push_str("</div>\n");
    Ok(())
}

/// Writes everything after the README.
pub(super) fn end(out: &mut String, page: &ListingPage) -> fmt::Result {
    let order = page.order.to_query().map_or(String::new(), |order| {
        format!("&amp;{}", HtmlText(order.as_bytes()))
    });
    writeln!(
        out,
        "<footer><span id=\"zone\">Times are in UTC.</span> \
         <a href=\"?json{order}\">View as JSON</a></footer>\n\
         </main>"
    )?;
    assets::scripts(out, &page.features);
    out.push_str("</body>\n</html>\n");
    Ok(())
}

/// Returns the link to a name in this folder, in which all reserved characters are encoded, as nginx
/// does it: an encoded colon is not that of a URL with a scheme, and programs that read listings
/// know neither a leading `./` nor HTML's character references.
pub(super) fn entry_link(name: &[u8]) -> String {
    target::encode_component(name)
}

/// Displays the order as the query of a link, so that it is kept in other folders.
struct OrderQuery(SortOrder);

impl Display for OrderQuery {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.0.to_query() {
            Some(query) => write!(f, "?{}", HtmlText(query.as_bytes())),
            None => Ok(()),
        }
    }
}
