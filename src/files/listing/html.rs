//! The listing as HTML. File names are untrusted: they are escaped as text and percent-encoded in
//! links, and the Content-Security-Policy allows no script or style but the page's own (see
//! [`policy`]).

use std::fmt::{self, Display, Formatter, Write};

use jiff::Timestamp;
use jiff::tz::Offset;

use super::entries::{Completeness, DirEntry, Entries, EntryKind, EntryTotals};
use super::order::{SortDirection, SortKey, SortOrder};
use crate::files::archive_format::ArchiveFormat;
use crate::http::html_text::HtmlText;
use crate::http::target;

/// What the page offers besides the entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::files) struct PageFeatures {
    pub(in crate::files) upload_form: UploadForm,
    /// The formats in which the folder can be downloaded.
    pub(in crate::files) archives: &'static [ArchiveFormat],
}

/// Whether the page has a form to upload files into the folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::files) enum UploadForm {
    Shown,
    Absent,
}

/// Returns the Content-Security-Policy of the page: it loads nothing, and runs only its own style
/// and script. A test compares the hashes.
pub(in crate::files) fn policy(features: PageFeatures) -> String {
    let form_action = match features.upload_form {
        UploadForm::Shown => "'self'",
        UploadForm::Absent => "'none'",
    };
    format!("{SOURCES}; base-uri 'none'; form-action {form_action}; frame-ancestors 'none'")
}

const SOURCES: &str = "default-src 'none'; \
    style-src 'sha256-Tz1LH8y46+81qTAXKzoitmUIBTsq5eh4fy+Vg1j3Vuk='; \
    script-src 'sha256-WgRGB9ajpqUq5BUiCB5aSUE2cw+jbPnxCeFsKFKx7ew='";

pub(super) const STYLE: &str = include_str!("listing.css");
pub(super) const SCRIPT: &str = include_str!("listing.js");

/// The most breadcrumbs. Without a limit, the length of the links would grow with the square of the
/// depth.
const MAX_CRUMBS: usize = 24;

/// Writes everything before the first entry.
pub(super) fn start(
    out: &mut String,
    entries: &Entries,
    path: &[u8],
    order: SortOrder,
) -> fmt::Result {
    let folders: Vec<&[u8]> = path
        .split(|&byte| byte == b'/')
        .filter(|name| !name.is_empty())
        .collect();
    write!(
        out,
        "<!DOCTYPE html>\n\
         <html lang=\"en\">\n\
         <head>\n\
         <meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>Index of {}</title>\n\
         <style>{STYLE}</style>\n\
         </head>\n\
         <body>\n\
         <header>\n",
        HtmlText(path),
    )?;
    match folders.split_last() {
        None => out.push_str("<h1>Index of /</h1>\n"),
        Some((name, above)) => {
            breadcrumbs(out, name, above, order)?;
            writeln!(out, "<h1>{}</h1>", HtmlText(name))?;
        }
    }
    writeln!(out, "<p>{}</p>\n</header>\n<main>", entries.totals())?;
    out.push_str("<div class=\"card\">\n");
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
        column(out, key, title, order)?;
    }
    out.push_str("</tr>\n</thead>\n");
    if !folders.is_empty() {
        writeln!(
            out,
            "<tbody>\n\
             <tr><th scope=\"row\" class=\"u\"><a href=\"../{}\">Parent folder</a></th>\
             <td></td><td></td></tr>\n\
             </tbody>",
            OrderQuery(order),
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

/// Writes everything after the last entry.
pub(super) fn end(out: &mut String, order: SortOrder, features: PageFeatures) -> fmt::Result {
    let order = order.to_query().map_or(String::new(), |order| {
        format!("&amp;{}", HtmlText(order.as_bytes()))
    });
    out.push_str("</tbody>\n</table>\n");
    if features.upload_form == UploadForm::Shown {
        // Without an action the form is sent to the page's own address.
        out.push_str(
            "<form method=\"post\" enctype=\"multipart/form-data\">\
             <input type=\"file\" name=\"file\" multiple required aria-label=\"Files to upload\"> \
             <button>Upload</button></form>\n",
        );
    }
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
    write!(
        out,
        "</div>\n\
         <footer>Times are in UTC. <a href=\"?json{order}\">View as JSON</a></footer>\n\
         </main>\n\
         <script>{SCRIPT}</script>\n\
         </body>\n\
         </html>\n"
    )
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

/// Displays a number of bytes with a binary unit, in at most five digits.
struct HumanSize(u64);

impl Display for HumanSize {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
        if self.0 < 1024 {
            return write!(f, "{} B", self.0);
        }
        for (at, unit) in UNITS.iter().enumerate() {
            let divisor = 1 << (10 * (at + 1));
            let tenths = (u128::from(self.0) * 10 + divisor / 2) / divisor;
            // 1023.96 KiB would be rounded to 1024.0 KiB: it is 1.0 MiB.
            if tenths < 10 * 1024 || at + 1 == UNITS.len() {
                return write!(f, "{}.{} {unit}", tenths / 10, tenths % 10);
            }
        }
        Ok(())
    }
}

/// Displays a number with its digits in groups of three.
struct GroupedDigits(u64);

impl Display for GroupedDigits {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let digits = self.0.to_string();
        for (at, digit) in digits.chars().enumerate() {
            if at > 0 && (digits.len() - at).is_multiple_of(3) {
                f.write_char(',')?;
            }
            f.write_char(digit)?;
        }
        Ok(())
    }
}

impl Display for EntryTotals {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let table = [
            (self.directories, "folder", "folders"),
            (self.files, "file", "files"),
            (self.others, "other", "others"),
        ];
        let mut separator = "";
        for (count, one, many) in table {
            if count > 0 {
                let noun = if count == 1 { one } else { many };
                write!(f, "{separator}{} {noun}", GroupedDigits(count as u64))?;
                separator = ", ";
            }
        }
        match self.files {
            0 if separator.is_empty() => f.write_str("No entries"),
            0 => Ok(()),
            _ => write!(f, ", {} in total", HumanSize(self.bytes)),
        }
    }
}

/// Displays seconds since the epoch as date and time in UTC; nothing if the year is outside of 0 to
/// 9999.
struct UtcTime(i64);

impl Display for UtcTime {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Ok(time) = Timestamp::from_second(self.0) else {
            return Ok(());
        };
        let time = Offset::UTC.to_datetime(time);
        let (year, month, day) = (time.year(), time.month(), time.day());
        let (hour, minute, second) = (time.hour(), time.minute(), time.second());
        if year < 0 {
            return Ok(());
        }
        write!(
            f,
            "<time datetime=\"{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z\">\
             {year:04}-{month:02}-{day:02} {hour:02}:{minute:02}</time>"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_binary_units_and_digit_groups() {
        let table = [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            (1_048_524, "1023.9 KiB"),
            (1_048_525, "1.0 MiB"),
            (1 << 30, "1.0 GiB"),
            (5_000_000_000_000, "4.5 TiB"),
            (u64::MAX, "16.0 EiB"),
        ];
        for (size, expected) in table {
            assert_eq!(HumanSize(size).to_string(), expected, "{size}");
        }
        let table = [
            (0, "0"),
            (999, "999"),
            (1000, "1,000"),
            (12345678, "12,345,678"),
        ];
        for (number, expected) in table {
            assert_eq!(GroupedDigits(number).to_string(), expected);
        }
    }

    #[test]
    fn totals_count_each_kind_present() {
        let table = [
            ((0, 0, 0), "No entries"),
            ((1, 0, 0), "1 folder"),
            ((2, 1, 0), "2 folders, 1 file, 2.0 KiB in total"),
            ((0, 1200, 1), "1,200 files, 1 other, 2.0 KiB in total"),
        ];
        for ((directories, files, others), expected) in table {
            let bytes = 2048;
            let totals = EntryTotals {
                directories,
                files,
                others,
                bytes,
            };
            assert_eq!(totals.to_string(), expected);
        }
    }

    #[test]
    fn times_outside_the_calendar_are_left_out() {
        let table = [
            (
                1_795_233_906,
                "<time datetime=\"2026-11-21T04:05:06Z\">2026-11-21 04:05</time>",
            ),
            (
                -1,
                "<time datetime=\"1969-12-31T23:59:59Z\">1969-12-31 23:59</time>",
            ),
            (i64::MAX, ""),
            (i64::MIN + 1, ""),
        ];
        for (seconds, expected) in table {
            assert_eq!(UtcTime(seconds).to_string(), expected, "{seconds}");
        }
    }
}
