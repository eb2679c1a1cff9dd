//! Whole listings: hostile names, both formats, pieces, and the policy.

use std::ffi::OsStr;
use std::fmt::Write;
use std::os::unix::ffi::OsStrExt;
use std::{fs, io};

use ::http::Method;
use rustix::fd::OwnedFd;

use super::entries::EntryKind;
use super::entries::tests::entries;
use super::*;
use crate::files::archive_format::ArchiveFormat;
use crate::files::rules::DotFiles;
use crate::files::upload::temp_file::{OverwritePolicy, ParentFolders, UploadFeatures};
use crate::http::error_page::{BASE_STYLE, BASE_STYLE_HASH};
use crate::http::target::Target;
use crate::semaphore::Semaphore;
use crate::site::Deletion;

/// 2026-11-21 04:05:06 UTC.
const MODIFIED: i64 = 1_795_233_906;

const NO_FEATURES: PageFeatures = PageFeatures {
    uploads: None,
    management: None,
    archives: &[],
};

const UPLOADS: PageFeatures = PageFeatures {
    uploads: Some(UploadFeatures {
        overwrite: OverwritePolicy::Keep,
        parents: ParentFolders::MustExist,
    }),
    management: None,
    archives: &[],
};

fn page_of(path: &[u8], order: SortOrder, features: PageFeatures) -> ListingPage {
    ListingPage {
        path: path.to_vec(),
        root_name: b"share".to_vec(),
        order,
        features,
    }
}

/// Names with a meaning in HTML, URLs, JSON, terminals or file systems.
const HOSTILE: &[&[u8]] = &[
    b"plain.txt",
    b" with  spaces ",
    b"<script>alert(1)<script>",
    b"\" onmouseover=\"alert(1)",
    b"' onmouseover='alert(1)",
    b"a&copy;b&amp",
    b"javascript:alert(1)",
    b"http:",
    b"it's.txt",
    b"..a",
    b"a..",
    b"..%2f",
    b"a&b=c+d,e;f@g$h!i*j(k)",
    b"c:d",
    b"?query",
    b"#fragment",
    b"100%",
    b"%2e%2e%2f",
    b"%00",
    b"~user",
    b";a=b",
    b"...",
    b".well-known",
    b"line\nbreak\r\n",
    b"tab\tescape\x1B[31m\x7F",
    b"\xFF\xFE not text",
    b"cut off \xE2\x82",
    "ñandú 日本語 🦀".as_bytes(),
    "e\u{301} \u{202E}gpj.exe".as_bytes(),
    b"[a]{b}|c^d`e",
    b"--><!--",
    b"]]><style><title>",
];

fn render(mut listing: ListingRenderer) -> String {
    let mut all = Vec::new();
    while let Some(piece) = listing.next_piece() {
        assert!(!piece.is_empty());
        assert!(piece.len() <= 128 << 10, "{}", piece.len());
        all.extend_from_slice(&piece);
    }
    assert_eq!(listing.next_piece(), None);
    String::from_utf8(all).expect("a listing is UTF-8")
}

fn shared(entries: Entries) -> Arc<FolderEntries> {
    let permit = Semaphore::new(0).try_acquire(0).expect("nothing");
    Arc::new(FolderEntries::new(entries, String::new(), permit))
}

fn listing(
    table: &[(&[u8], EntryKind, u64, i64)],
    path: &[u8],
    query: &str,
    format: ListingFormat,
) -> String {
    let order = SortOrder::from_query(Some(query));
    let page = page_of(path, order, NO_FEATURES);
    render(ListingRenderer::new(shared(entries(table)), page, format))
}

fn hostile(kind: EntryKind) -> Vec<(&'static [u8], EntryKind, u64, i64)> {
    HOSTILE
        .iter()
        .map(|name| (*name, kind, 7, MODIFIED))
        .collect()
}

/// Returns the start tags, and checks that elements are properly nested.
fn tags(html: &str) -> Vec<&str> {
    const VOID: [&str; 2] = ["meta", "input"];
    let mut found = Vec::new();
    let mut open = Vec::new();
    let mut rest = html.strip_prefix("<!DOCTYPE html>\n").expect("a doctype");
    while let Some(start) = rest.find('<') {
        let end = start + rest[start..].find('>').expect("the end of a tag");
        let tag = &rest[start + 1..end];
        rest = &rest[end + 1..];
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name));
            continue;
        }
        let name = tag.split(' ').next().expect("a name");
        assert!(
            name.bytes().all(|byte| byte.is_ascii_alphanumeric()),
            "{tag}"
        );
        assert!(!tag.contains(['\n', '\'']), "{tag}");
        assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
        for forbidden in [" style=", " on", " src="] {
            let attributes = tag.split('"').step_by(2).collect::<String>();
            assert!(!attributes.contains(forbidden), "{tag}");
        }
        found.push(tag);
        if !VOID.contains(&name) {
            open.push(name);
        }
        if matches!(name, "style" | "script") {
            let close = format!("</{name}>");
            rest = &rest[rest.find(&close).expect("its end")..];
        }
    }
    assert_eq!(open, [""; 0]);
    found
}

fn attribute<'a>(tag: &'a str, name: &str) -> Option<&'a str> {
    let (_, value) = tag.split_once(&format!(" {name}=\""))?;
    value.split('"').next()
}

fn unescape(text: &str) -> String {
    text.replace("&#39;", "'")
        .replace("&quot;", "\"")
        .replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&amp;", "&")
}

/// Returns the targets of the links to entries, decoded as the server does it.
fn linked(html: &str) -> Vec<Vec<u8>> {
    let (_, table) = html.split_once("<tbody id=\"entries\">").expect("a table");
    let (table, _) = table.split_once("</tbody>").expect("its end");
    let links = table.split(" href=\"").skip(1).map(|rest| {
        let link = unescape(rest.split('"').next().unwrap_or_default());
        let is_safe = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~%/?=&".contains(&byte);
        assert!(link.bytes().all(is_safe), "{link}");
        let target = format!("/{link}");
        let target = Target::parse(&Method::GET, &target).expect("a link that works");
        target.path[1..].to_vec()
    });
    links.collect()
}

#[test]
fn links_decode_to_the_names() {
    let mut expected: Vec<Vec<u8>> = HOSTILE.iter().map(|name| name.to_vec()).collect();
    expected.sort();
    for query in ["", "sort=size&order=desc"] {
        let page = listing(&hostile(EntryKind::File), b"/", query, ListingFormat::Html);
        tags(&page);
        let mut found = linked(&page);
        found.sort();
        assert_eq!(found, expected);

        let page = listing(
            &hostile(EntryKind::Directory),
            b"/a/",
            query,
            ListingFormat::Html,
        );
        tags(&page);
        let mut found = linked(&page);
        for path in &mut found {
            assert_eq!(path.pop(), Some(b'/'));
        }
        found.sort();
        assert_eq!(found, expected);
    }
    let page = listing(&hostile(EntryKind::Other), b"/a/", "", ListingFormat::Html);
    tags(&page);
    assert_eq!(linked(&page), [b""; 0]);
}

/// Programs that read listings know neither a leading `./` nor character references.
#[test]
fn link_of_a_name_has_no_reserved_character() {
    for (name, link) in [
        (&b"it's.txt"[..], "it%27s.txt"),
        (b"c:d", "c%3Ad"),
        (b"a&b", "a%26b"),
        (b"a b?#%\"", "a%20b%3F%23%25%22"),
        (b"\xFF", "%FF"),
        ("ñ".as_bytes(), "%C3%B1"),
        (b"..a", "..a"),
    ] {
        let file = [(name, EntryKind::File, 1, MODIFIED)];
        let page = listing(&file, b"/", "", ListingFormat::Html);
        assert!(page.contains(&format!("<a href=\"{link}\">")), "{link}");
        let folder = [(name, EntryKind::Directory, 1, MODIFIED)];
        let page = listing(&folder, b"/", "", ListingFormat::Html);
        assert!(page.contains(&format!("<a href=\"{link}/\">")), "{link}");
    }
}

#[test]
fn folder_on_disk_is_rendered() -> io::Result<()> {
    let folder = tempfile::tempdir()?;
    for name in HOSTILE {
        fs::write(folder.path().join(OsStr::from_bytes(name)), "content")?;
    }
    fs::write(folder.path().join(".hidden"), "")?;
    let directory = OwnedFd::from(fs::File::open(folder.path())?);
    let entries = Entries::read(&directory, DotFiles::Hidden, |_| None, |_| false)?;
    let page = page_of(b"/", SortOrder::default(), NO_FEATURES);
    let page = render(ListingRenderer::new(
        shared(entries),
        page,
        ListingFormat::Html,
    ));
    let mut found = linked(&page);
    found.sort();
    let mut expected: Vec<Vec<u8>> = HOSTILE.iter().map(|name| name.to_vec()).collect();
    expected.retain(|name| !name.starts_with(b".."));
    expected.sort();
    assert_eq!(found, expected);
    Ok(())
}

#[test]
fn path_is_escaped_in_breadcrumbs() {
    for name in HOSTILE {
        let path = [b"/", *name, b"/b/", *name, b"/"].concat();
        let page = listing(
            &[(b"file", EntryKind::File, 1, MODIFIED)],
            &path,
            "",
            ListingFormat::Html,
        );
        let links: Vec<&str> = tags(&page)
            .iter()
            .filter_map(|tag| attribute(tag, "href"))
            .collect();
        let expected = [
            "../../../",
            "../../",
            "../",
            "?sort=name&amp;order=desc",
            "?sort=size&amp;order=desc",
            "?sort=date&amp;order=desc",
            "../",
            "file",
            "?json",
        ];
        assert_eq!(links, expected);
    }
    let page = listing(&[], b"/<b>&\xFF/", "", ListingFormat::Html);
    assert!(page.contains("<title>&lt;b&gt;&amp;\u{FFFD}</title>"));
    assert!(page.contains("<h1>&lt;b&gt;&amp;\u{FFFD}</h1>"));
}

#[test]
fn page_has_language_totals_and_order() {
    let table: &[(&[u8], EntryKind, u64, i64)] = &[
        (b"two.txt", EntryKind::File, 1536, MODIFIED),
        (b"one", EntryKind::Directory, 4096, MODIFIED),
        (b"pipe", EntryKind::Other, 0, MODIFIED),
    ];
    let page = listing(table, b"/", "sort=size&order=desc", ListingFormat::Html);
    let tags = tags(&page);
    for expected in [
        "html lang=\"en\"",
        "meta charset=\"utf-8\"",
        "th scope=\"col\" aria-sort=\"descending\"",
        "a href=\"?sort=size&amp;order=asc\"",
        "a href=\"?json&amp;sort=size&amp;order=desc\"",
        "a href=\"one/?sort=size&amp;order=desc\"",
        "td title=\"1,536 bytes\"",
        "time datetime=\"2026-11-21T04:05:06Z\"",
    ] {
        assert!(tags.contains(&expected), "{expected}");
    }
    assert!(page.contains("<p>1 folder, 1 file, 1 other, 1.5 KiB in total</p>"));
    assert!(page.contains("2026-11-21 04:05"));
    assert_eq!(page.matches("aria-sort=\"").count(), 1);
    assert!(!page.contains("Parent folder"));
    assert!(!page.contains("This folder is empty"));

    let empty = listing(&[], b"/a/", "sort=date", ListingFormat::Html);
    assert!(empty.contains("This folder is empty"));
    assert!(empty.contains("<a href=\"../?sort=date&amp;order=asc\">Parent folder</a>"));
    assert!(!empty.contains("<input"));
}

#[test]
fn listing_page_matches_the_golden_text() {
    let table: &[(&[u8], EntryKind, u64, i64)] = &[
        (b"sub", EntryKind::Directory, 4096, MODIFIED),
        (b"two.txt", EntryKind::File, 1536, MODIFIED),
    ];
    let time = "<td><time datetime=\"2026-11-21T04:05:06Z\">2026-11-21 04:05</time></td>";
    let expected = format!(
        "<!DOCTYPE html>\n\
        <html lang=\"en\">\n\
        <head>\n\
        <meta charset=\"utf-8\">\n\
        <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
        <title>a</title>\n\
        <style>{BASE_STYLE}</style>\n\
        <style>{style}</style>\n\
        </head>\n\
        <body>\n\
        <header>\n\
        <nav aria-label=\"Path\">\n\
        <ol><li><a href=\"../\">Home</a></li>\
        <li><a aria-current=\"page\">a</a></li></ol>\n\
        </nav>\n\
        <h1>a</h1>\n\
        <p>1 folder, 1 file, 1.5 KiB in total</p>\n\
        </header>\n\
        <main data-features=\"\">\n\
        <div class=\"card list\">\n\
        <div class=\"filter\" hidden>\
        <input type=\"search\" placeholder=\"Filter by name\" aria-label=\"Filter by name\" \
        autocomplete=\"off\" spellcheck=\"false\"><output></output></div>\n\
        <table>\n\
        <thead>\n\
        <tr><th scope=\"col\" aria-sort=\"ascending\">\
        <a href=\"?sort=name&amp;order=desc\">Name</a></th>\
        <th scope=\"col\"><a href=\"?sort=size&amp;order=desc\">Size</a></th>\
        <th scope=\"col\"><a href=\"?sort=date&amp;order=desc\">Date</a></th></tr>\n\
        </thead>\n\
        <tbody>\n\
        <tr><th scope=\"row\" class=\"u\"><a href=\"../\">Parent folder</a></th>\
        <td></td><td></td></tr>\n\
        </tbody>\n\
        <tbody id=\"entries\">\n\
        <tr><th scope=\"row\" class=\"d\"><a href=\"sub/\">sub/</a></th>\
        <td></td>{time}</tr>\n\
        <tr><th scope=\"row\"><a href=\"two.txt\">two.txt</a></th>\
        <td title=\"1,536 bytes\">1.5 KiB</td>{time}</tr>\n\
        </tbody>\n\
        </table>\n\
        </div>\n\
        <footer><span id=\"zone\">Times are in UTC.</span> <a href=\"?json\">View as JSON</a></footer>\n\
        </main>\n\
        <script>{script}</script>\n\
        </body>\n\
        </html>\n",
        style = assets::STYLE,
        script = assets::SCRIPT,
    );
    assert_eq!(listing(table, b"/a/", "", ListingFormat::Html), expected);
}

#[test]
fn deep_path_has_limited_breadcrumbs() {
    let path = [&b"/"[..], &b"d/".repeat(2000)].concat();
    let page = listing(&[], &path, "", ListingFormat::Html);
    tags(&page);
    assert!(page.contains("<li>…</li>"));
}

#[test]
fn json_matches_nginx() {
    let mut table = hostile(EntryKind::File);
    table.push((b"folder", EntryKind::Directory, 4096, MODIFIED));
    table.push((b"pipe", EntryKind::Other, 0, i64::MIN));
    let json = listing(&table, b"/", "", ListingFormat::Json);
    let read: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    let read = read.as_array().expect("an array");
    assert_eq!(read.len(), table.len());
    let mut found: Vec<_> = read
        .iter()
        .filter_map(|entry| entry["name"].as_str())
        .collect();
    let mut expected: Vec<_> = table
        .iter()
        .map(|entry| String::from_utf8_lossy(entry.0))
        .collect();
    found.sort_unstable();
    expected.sort_unstable();
    assert_eq!(found, expected);

    let some: &[(&[u8], EntryKind, u64, i64)] = &[
        (b"b", EntryKind::File, 5, MODIFIED),
        (b"a \"1\"", EntryKind::File, 9, -5),
        (b"sub", EntryKind::Directory, 4096, 0),
        (b"what", EntryKind::Other, 0, i64::MIN),
    ];
    let expected = "[\n\
        {\"name\":\"sub\",\"type\":\"directory\",\"mtime\":\"Thu, 01 Jan 1970 00:00:00 GMT\"},\n\
        {\"name\":\"a \\\"1\\\"\",\"type\":\"file\",\"mtime\":\"Thu, 01 Jan 1970 00:00:00 GMT\",\"size\":9},\n\
        {\"name\":\"b\",\"type\":\"file\",\"mtime\":\"Sat, 21 Nov 2026 04:05:06 GMT\",\"size\":5},\n\
        {\"name\":\"what\",\"type\":\"other\"}\n\
        ]\n";
    assert_eq!(
        listing(some, b"/", "sort=size&order=desc", ListingFormat::Json),
        expected
    );
    assert_eq!(listing(&[], b"/", "", ListingFormat::Json), "[\n]\n");

    // Replacement characters in two names may be equal.
    let invalid: &[(&[u8], EntryKind, u64, i64)] = &[
        (b"\xFFa b", EntryKind::File, 5, MODIFIED),
        (b"\xFFd", EntryKind::Directory, 5, MODIFIED),
    ];
    let json = listing(invalid, b"/", "", ListingFormat::Json);
    let read: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(read[0]["href"], "%FFd/");
    assert_eq!(read[0]["name"], "\u{FFFD}d");
    assert_eq!(read[1]["href"], "%FFa%20b");
    assert_eq!(read[1]["name"], "\u{FFFD}a b");
}

#[test]
fn large_folder_is_rendered_in_small_pieces() {
    let names: Vec<String> = (0..100_000)
        .map(|at| format!("file & number {at}.txt"))
        .collect();
    let table: Vec<_> = names
        .iter()
        .map(|name| (name.as_bytes(), EntryKind::File, 1000, MODIFIED))
        .collect();
    for format in [ListingFormat::Html, ListingFormat::Json] {
        let all = listing(&table, b"/", "order=desc", format);
        let first = all.find("number 99999.txt").expect("the last name");
        let last = all.find("number 0.txt").expect("the first name");
        assert!(first < last);
        assert_eq!(all.matches("number ").count(), names.len());
    }
}

#[test]
fn longest_names_and_deepest_path_fit_the_piece_limit() {
    let name = [b'\''; 4096];
    let table = [(&name[..], EntryKind::File, 1, MODIFIED); 40];
    let path = [b"/", &name[..4000], b"/"].concat();
    for format in [ListingFormat::Html, ListingFormat::Json] {
        listing(&table, &path, "", format);
    }
}

#[test]
fn truncated_listing_has_a_note() {
    let table = vec![(&b"a"[..], EntryKind::File, 1, MODIFIED); 250_001];
    let page = listing(&table, b"/", "", ListingFormat::Html);
    assert!(page.contains("Showing 250,000 entries; this folder has more."));
}

fn page_with(features: PageFeatures) -> String {
    let page = page_of(b"/a/", SortOrder::default(), features);
    let empty = shared(entries(&[]));
    render(ListingRenderer::new(empty, page, ListingFormat::Html))
}

#[test]
fn upload_form_and_its_script_are_there_only_with_uploads() {
    let without = page_with(NO_FEATURES);
    assert!(!without.contains("<form") && !without.contains(assets::UPLOAD_SCRIPT));
    let with = page_with(UPLOADS);
    let form = "<form method=\"post\" enctype=\"multipart/form-data\">";
    assert!(with.contains(form) && with.contains(assets::UPLOAD_SCRIPT));
    assert!(policy(&UPLOADS).contains("; form-action 'self';"));
    assert!(policy(&NO_FEATURES).contains("; form-action 'none';"));
    assert!(with.contains("<main data-features=\"\">"));
    let overwrite = page_with(PageFeatures {
        uploads: Some(UploadFeatures {
            overwrite: OverwritePolicy::Replace,
            parents: ParentFolders::Created,
        }),
        management: Some(Deletion::Trash),
        ..UPLOADS
    });
    assert!(overwrite.contains("<main data-features=\"overwrite parents manage trash\">"));
}

#[test]
fn links_to_archives_are_there_only_with_archives() {
    assert!(!page_with(NO_FEATURES).contains("?download="));
    let page = page_with(PageFeatures {
        archives: ArchiveFormat::ALL,
        ..NO_FEATURES
    });
    for format in ArchiveFormat::ALL {
        let link = format!("<a href=\"?download={}\" download>", format.extension());
        assert!(page.contains(&link), "{link}");
    }
}

#[test]
fn readme_of_any_length_is_rendered_after_the_table() {
    for len in [0, 1, PIECE_BYTES, 3 * PIECE_BYTES + 1] {
        let readme = "é".repeat(len);
        let permit = Semaphore::new(0).try_acquire(0).expect("nothing");
        let folder = FolderEntries::new(entries(&[]), readme.clone(), permit);
        let page = page_of(b"/", SortOrder::default(), NO_FEATURES);
        let format = ListingFormat::Html;
        let page = render(ListingRenderer::new(Arc::new(folder), page, format));
        let (_, after) = page.split_once("</table>").expect("a table");
        assert_eq!(after.matches('é').count(), len);
        assert_eq!(after.contains("<article"), len > 0);
    }
}

#[test]
fn query_json_selects_json() {
    let table = [
        (None, ListingFormat::Html),
        (Some("sort=name"), ListingFormat::Html),
        (Some("json"), ListingFormat::Json),
        (Some("json="), ListingFormat::Json),
        (Some("sort=size&json&order=asc"), ListingFormat::Json),
        (Some("jsonp=1&x=json"), ListingFormat::Html),
    ];
    for (query, format) in table {
        assert_eq!(ListingFormat::from_query(query), format, "{query:?}");
    }
}

#[test]
fn policy_has_the_hashes_of_style_and_script() {
    assert_eq!(hash(b"abc"), "ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=");
    let features = PageFeatures {
        management: Some(Deletion::Trash),
        ..UPLOADS
    };
    let policy = policy(&features);
    assert_eq!(hash(BASE_STYLE.as_bytes()), BASE_STYLE_HASH);
    let page = page_with(features);
    for (tag, content) in [
        ("style", BASE_STYLE),
        ("style", assets::STYLE),
        ("script", assets::SCRIPT),
        ("script", assets::UPLOAD_SCRIPT),
        ("script", assets::MANAGE_SCRIPT),
    ] {
        let expected = format!("'sha256-{}'", hash(content.as_bytes()));
        assert!(policy.contains(&expected), "the policy lacks {expected}");
        assert!(page.contains(&format!("<{tag}>{content}</{tag}>")));
    }
    // Each listing contains them.
    assert!(page.len() < 40 << 10, "{}", page.len());
    assert!(page_with(NO_FEATURES).len() < 28 << 10);
}

/// SHA-256 (FIPS 180-4) in base64, as in a policy's sources. 30 lines instead of a dependency.
fn hash(content: &[u8]) -> String {
    // The constants are the fractional parts of the roots of the first primes.
    let fraction = |root: f64| (root.fract() * 2f64.powi(32)) as u32;
    let primes = (2u32..312).filter(|n| (2..*n).all(|divisor| n % divisor != 0));
    let k: Vec<u32> = primes
        .clone()
        .map(|prime| fraction(f64::from(prime).cbrt()))
        .collect();
    let mut state: Vec<u32> = primes
        .take(8)
        .map(|prime| fraction(f64::from(prime).sqrt()))
        .collect();

    let mut padded = content.to_vec();
    padded.push(0x80);
    padded.resize((padded.len() + 8).next_multiple_of(64) - 8, 0);
    padded.extend((content.len() as u64 * 8).to_be_bytes());
    for block in padded.chunks(64) {
        let mut w: Vec<u32> = block
            .chunks(4)
            .map(|word| {
                word.iter()
                    .fold(0, |word, byte| word << 8 | u32::from(*byte))
            })
            .collect();
        for at in 16..64 {
            let (a, b) = (w[at - 15], w[at - 2]);
            let a = a.rotate_right(7) ^ a.rotate_right(18) ^ a >> 3;
            let b = b.rotate_right(17) ^ b.rotate_right(19) ^ b >> 10;
            w.push(
                w[at - 16]
                    .wrapping_add(a)
                    .wrapping_add(w[at - 7])
                    .wrapping_add(b),
            );
        }
        let mut s = state.clone();
        for at in 0..64 {
            let sum = s[4].rotate_right(6) ^ s[4].rotate_right(11) ^ s[4].rotate_right(25);
            let choice = s[4] & s[5] ^ !s[4] & s[6];
            let first = [sum, choice, k[at], w[at]]
                .iter()
                .fold(s[7], |a, b| a.wrapping_add(*b));
            let sum = s[0].rotate_right(2) ^ s[0].rotate_right(13) ^ s[0].rotate_right(22);
            let majority = s[0] & s[1] ^ s[0] & s[2] ^ s[1] & s[2];
            s.rotate_right(1);
            s[4] = s[4].wrapping_add(first);
            s[0] = first.wrapping_add(sum).wrapping_add(majority);
        }
        for (word, add) in state.iter_mut().zip(s) {
            *word = word.wrapping_add(add);
        }
    }
    base64(
        &state
            .iter()
            .flat_map(|word| word.to_be_bytes())
            .collect::<Vec<u8>>(),
    )
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bits = bytes.iter().fold(String::new(), |mut bits, byte| {
        let _ = write!(bits, "{byte:08b}");
        bits
    });
    let digits = bits.as_bytes().chunks(6).map(|six| {
        let value = (0..6).fold(0, |value, at| {
            value << 1 | usize::from(six.get(at) == Some(&b'1'))
        });
        char::from(DIGITS[value])
    });
    let mut text: String = digits.collect();
    text.extend(std::iter::repeat_n('=', (4 - text.len() % 4) % 4));
    text
}
